//! Resources that move to another node: by their owner's offer and the next one's acceptance, which the sequencer writes down.

use cauldron_coordinator::bodies::{KIND_HANDOVER, KIND_TAKEOVER};
use cauldron_coordinator::ledger::with_handover;
use cauldron_coordinator::signed::with_reason;
use cauldron_identity::authority::{Accept, Entry, EntryBody, Lift, Offer, Reassign, prefix_of};
use cauldron_identity::budget::Life;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Clock, FactId, Scope};

use crate::core::NodeCore;
use crate::input::{Refusal, Reply};
use crate::view::{AutonomyView, OfferView, Time};

impl NodeCore {
    /// Offers all resources of one connector of this node to another node of the site; to itself, takes an offer back.
    pub(crate) fn offer(&mut self, prefix: &str, to: &AuthorId) -> Result<Reply, Refusal> {
        self.may_write()?;
        let (scope, next) = self.moving(prefix, to)?;
        let owner = self.authority.owner_of_prefix(prefix).map(|(author, _)| author);
        if owner != Some(self.me) {
            return Err(Refusal::new(
                "not_owner",
                format!("this node does not own {prefix}; ask at the one that does"),
            ));
        }
        if let Some(start) = self.ledger.unsettled_on(prefix, &self.me, &self.authority).next() {
            let sentence = format!(
                "what became of {} is not known yet; wait for it, or `cauldron reconcile {}`, before the next owner may start",
                start.body.resource,
                start.body.proposal.short()
            );
            return Err(Refusal::new("unsettled", sentence));
        }
        let body = Offer { prefix: prefix.to_owned(), to: next };
        self.append(scope, KIND_HANDOVER, vec![], to_cbor(&body), None).map(|f| Reply::Recorded(f.id()))
    }

    /// Takes what was offered to this node.
    pub(crate) fn accept(&mut self, offer: FactId) -> Result<Reply, Refusal> {
        self.may_write()?;
        let unknown = || Refusal::new("unknown_offer", format!("{offer} is no offer that is open here"));
        let found = self.ledger.open_offers(&self.authority).find(|(_, o)| o.id == offer);
        let (prefix, to) = found.map(|(prefix, o)| (prefix.to_owned(), o.body.to)).ok_or_else(unknown)?;
        if (to.author, to.incarnation) != (self.me, self.incarnation) {
            return Err(Refusal::new("not_for_us", format!("{prefix} was offered to {to}, not to this node")));
        }
        let (scope, _) = self.moving(&prefix, &to.author)?;
        self.append(scope, KIND_TAKEOVER, vec![offer], to_cbor(&Accept { offer }), None)
            .map(|f| Reply::Recorded(f.id()))
    }

    /// Where it is spoken of, and the life that would own it.
    fn moving(&self, prefix: &str, to: &AuthorId) -> Result<(Scope, Life), Refusal> {
        let bad = |why: String| Refusal::new("bad_prefix", why);
        let (site, ..) = Reassign::parts(prefix)
            .ok_or_else(|| bad(format!("{prefix:?} is not <site>/<node>/<connector>, e.g. lyon/lyon/blocklist")))?;
        let scope = Scope::site(site).map_err(|e| bad(e.to_string()))?;
        let member = self.authority.member(to).filter(|m| m.role.site() == Some(site));
        let member = member.ok_or_else(|| bad(format!("{} is no node of site {site}", to.short())))?;
        Ok((scope, Life { author: *to, incarnation: member.incarnation }))
    }

    /// Writes down what both sides have signed: there is one place that says who owns what.
    pub(crate) fn tend_ownership(&mut self) {
        if self.only_sequencer("moves resources").is_err() {
            return;
        }
        for (offer, accept, entry) in self.ledger.handovers_due(&self.authority) {
            let (Some(offer), Some(accept)) = (self.log.get(&offer), self.log.get(&accept)) else { continue };
            let entry = Entry::Reassign(Box::new(with_handover(entry, &offer, &accept)));
            let body = EntryBody::new(self.authority.head(), self.authority.index() + 1, &entry);
            // What it would refuse now it may take later, or never; the chain should not fill with it.
            if self.authority.would_accept(&body).is_err() {
                continue;
            }
            if let Err(why) = self.write_entry(&entry) {
                return self.count_refusal(why.code, why.reason);
            }
        }
    }

    /// A lift names restrictions that are here and that something can lift.
    pub(crate) fn lifts_something(&self, lift: &Lift) -> Result<(), Refusal> {
        for id in &lift.restrictions {
            let found = self.ledger.restrictions(&self.authority).find(|(r, _)| r.id == *id);
            let why = match found {
                None => "is no restriction that counts here; `cauldron restrictions` lists them",
                Some((_, order)) if order.target.is_final() => {
                    "vetoes a lineage, which is a deny: nothing lifts it; let it be proposed anew"
                }
                Some(_) => continue,
            };
            return Err(Refusal::new("entry_refused", format!("{} {why}", id.short())));
        }
        Ok(())
    }

    /// Who owns a resource now, by SPIFFE ID; this node does where it is none.
    #[must_use]
    pub fn owned_elsewhere(&self, resource: &str) -> Option<String> {
        let prefix = prefix_of(resource)?;
        let (author, member) = self.authority.owner_of_prefix(prefix)?;
        (author != self.me).then(|| member.spiffe_id.to_string())
    }

    /// Whether this node owns a resource now, as the authority chain says.
    #[must_use]
    pub fn owns_resource(&self, resource: &str) -> bool {
        let owner = prefix_of(resource).and_then(|prefix| self.authority.owner_of_prefix(prefix));
        owner.is_some_and(|(author, _)| author == self.me)
    }

    /// Offers that nobody has taken yet, and whom they bind.
    #[must_use]
    pub fn offers_view(&self) -> Vec<OfferView> {
        let view = |(prefix, offer): (&str, &cauldron_coordinator::ledger::Recorded<Offer>)| OfferView {
            id: offer.id.to_string(),
            prefix: prefix.to_owned(),
            from: self.name_of(&offer.header.author),
            to: self.name_of(&offer.body.to.author),
            offered: Time(offer.header.wall_ms()),
        };
        self.ledger.open_offers(&self.authority).map(view).collect()
    }

    /// What agents were granted, expired or not.
    #[must_use]
    pub fn autonomy_view(&self, now: Clock) -> Vec<AutonomyView> {
        let view = |held: cauldron_identity::authority::Autonomous<'_>| AutonomyView {
            build: held.of.build.to_string(),
            model: held.of.model.map(|d| d.to_string()),
            prompt: held.of.prompt.map(|d| d.to_string()),
            tools: held.of.tools.map(|d| d.to_string()),
            action_class: held.of.action_class.clone(),
            site: held.of.site.clone(),
            level: held.grant.level.name(),
            votes_r2: held.grant.votes_r2,
            votes_r3: held.grant.votes_r3,
            expires: Time(held.grant.expires_ms),
            expired: held.grant.expires_ms <= now.wall_ms,
            evidence: held.grant.evidence.map(|d| d.to_string()),
            entry: held.index,
            reason: held.reason.to_owned(),
        };
        self.authority.autonomies().map(view).collect()
    }

    /// Whether a feature is stopped for what this node serves itself, and why.
    #[must_use]
    pub fn stopped_here(&self, feature: &cauldron_coordinator::bodies::Feature) -> Option<String> {
        let scope = self.role.site().and_then(|site| Scope::site(site).ok()).unwrap_or_else(Scope::mesh);
        let order = self.ledger.stopped(feature, &scope, &self.authority)?;
        Some(with_reason(format!("{feature} is stopped by {}", order.by), &order.reason))
    }
}
