//! Whether a lift, a grant of autonomy or a reassignment fits what the chain holds. Whose signatures it needs stands in the
//! [table](super::super::table).

use std::collections::BTreeSet;

use super::{ATTESTS_MAX, Accept, Autonomy, Handover, KIND_HANDOVER, KIND_TAKEOVER, Lift, Offer, Reassign};
use crate::authority::fold::Fold;
use crate::authority::table::Kind;
use crate::authority::{Entry, Member};
use crate::budget::Life;
use crate::fact::{Fact, SealedFact};
use crate::ids::AuthorId;
use crate::planted;
use crate::scope::Scope;
use crate::spiffe_id::{Role, SpiffeId};

impl Fold {
    pub(in crate::authority) fn judge_lift(&self, lift: &Lift) -> Result<Kind, String> {
        lift.fits()?;
        match lift.restrictions.iter().find_map(|id| self.powers.lifts.get(id).map(|entry| (id, entry))) {
            Some((id, entry)) => Err(format!("entry {entry} lifts {} already", id.short())),
            None => Ok(Kind::Lift),
        }
    }

    pub(in crate::authority) fn judge_autonomy(&self, autonomy: &Autonomy) -> Result<Kind, String> {
        autonomy.fits()?;
        if autonomy.grant.is_some() {
            return Ok(Kind::Autonomy);
        }
        match self.powers.autonomy.contains_key(&autonomy.of) {
            true => Ok(Kind::AutonomyEnds),
            false => Err("nothing was granted to this agent for this class at this site".into()),
        }
    }

    pub(in crate::authority) fn judge_reassign(&self, reassign: &Reassign) -> Result<Kind, String> {
        let prefix = &reassign.prefix;
        let (site, ..) = Reassign::parts(prefix)
            .ok_or_else(|| format!("{prefix:?} is not <site>/<node>/<connector>, the first parts of a resource"))?;
        let (owner, _) = self.chained_owner(prefix).ok_or_else(|| format!("nobody ever owned {prefix}"))?;
        let (from, to) = (reassign.from, reassign.to);
        let present = owner == from.author || self.restates(reassign);
        if !present || self.life_of(&from.author) != Some(from.incarnation) {
            return Err(format!("{from} is not the present owner of {prefix}: it is {}", self.called(&owner)));
        }
        let next = self.members.get(&to.author).ok_or("it names a next owner that is not enrolled")?;
        let gone = next.incarnation != to.incarnation || self.is_cut(&to.author, to.incarnation);
        if gone || !matches!(&next.role, Role::Node { site: of, .. } if of == site) {
            return Err(format!("the next owner must be a node of site {site} in its present life"));
        }
        if let Some(handover) = &reassign.handover {
            self.judge_handover(reassign, handover, site)?;
            return Ok(Kind::HandOver);
        }
        if to.author == from.author {
            return Err("it changes nothing".into());
        }
        if !self.is_cut(&from.author, from.incarnation) {
            return Err(format!("{} has not been cut: cut it first, or have it hand over", self.called(&owner)));
        }
        match reassign.fencing {
            None => Err("it does not say what keeps the old owner from acting: local, native or none".into()),
            Some(super::Fenced::None) => Ok(Kind::ReassignUnfenced),
            Some(_) => Ok(Kind::Reassign),
        }
    }

    /// Whether it says anew, of the last move, by the council, what keeps the old owner from acting, and nothing else.
    fn restates(&self, reassign: &Reassign) -> bool {
        let last = self.powers.moves.get(&reassign.prefix).and_then(|moves| moves.last());
        let index = last.and_then(|moved| usize::try_from(moved.index.checked_sub(1)?).ok());
        let entry = index.and_then(|index| self.chain.get(index)).and_then(|applied| applied.entry.as_ref());
        let Some(Entry::Reassign(before)) = entry else { return false };
        let by_council = before.handover.is_none() && reassign.handover.is_none();
        by_council && (before.from, before.to) == (reassign.from, reassign.to) && before.fencing != reassign.fencing
    }

    /// Both facts are by whom they must be, about the same, in their authors' present lives. An offer is spent once, and with it
    /// every earlier one of that life for these resources.
    fn judge_handover(&self, reassign: &Reassign, handover: &Handover, site: &str) -> Result<(), String> {
        let (from, to) = (reassign.from, reassign.to);
        if self.is_cut(&from.author, from.incarnation) {
            return Err("whoever was cut hands nothing over: the council reassigns".into());
        }
        let scope = Scope::site(site).map_err(|e| e.to_string())?;
        let offer = self.opened(&handover.offer, from, &scope, KIND_HANDOVER);
        let offer = offer.ok_or("the offer is not by the owner, in its present life and its site")?;
        let body = offer.decode_body::<Offer>().map_err(|e| format!("the offer cannot be read: {e}"))?;
        if body.prefix != reassign.prefix || body.to != to {
            return Err("the offer names other resources, or another next owner".into());
        }
        let accept = self.opened(&handover.accept, to, &scope, KIND_TAKEOVER);
        let accept = accept.ok_or("the acceptance is not by the next owner, in its present life and the site")?;
        if accept.decode_body::<Accept>().ok().map(|a| a.offer) != Some(offer.id()) {
            return Err("the acceptance is of another offer".into());
        }
        match self.powers.spent(&reassign.prefix, from) {
            Some(seq) if offer.header().seq <= seq => Err("this offer, or a later one, was spent already".into()),
            _ => Ok(()),
        }
    }

    fn opened(&self, fact: &SealedFact, by: Life, scope: &Scope, kind: &str) -> Option<Fact> {
        let fact = if planted::active("handover-by-anyone") {
            self.members.values().find_map(|m| fact.clone().open(&m.key).ok())?
        } else {
            fact.clone().open(&self.members.get(&by.author)?.key).ok()?
        };
        let header = fact.header();
        let whose =
            (header.author, header.incarnation) == (by.author, by.incarnation) || planted::active("handover-by-anyone");
        (whose && header.mesh == self.mesh && header.scope == *scope && header.kind == kind).then_some(fact)
    }

    /// Distinct people, enrolled as the chain stands, who say that the old owner's machine is off.
    pub(in crate::authority) fn attested_by(&self, reassign: &Reassign) -> usize {
        let message = reassign.box_off(&self.mesh);
        let people = self.people_but("");
        let holds = |attest: &&super::Attest| {
            people.iter().any(|p| {
                p.id == attest.person && p.credentials.iter().any(|c| c.signer().as_ref() == Some(&attest.key))
            }) && attest.key.verify(super::BOX_OFF_NAMESPACE, &message, &attest.signature).is_ok()
        };
        let valid: BTreeSet<&str> =
            reassign.attests.iter().take(ATTESTS_MAX).filter(holds).map(|a| a.person.as_str()).collect();
        valid.len()
    }

    /// Who owns these resources as the chain stands, in effect or not, cut or not: by the last move, else by their name. And the
    /// index of that move, 0 for none.
    pub(in crate::authority) fn chained_owner(&self, prefix: &str) -> Option<(AuthorId, u64)> {
        if let Some(moved) = self.powers.moves.get(prefix).and_then(|moves| moves.last()) {
            return Some((moved.to.author, moved.index));
        }
        let named = named_owner(prefix, &self.charter.trust_domain)?;
        let holders = self.members.iter().filter(|(_, m)| m.spiffe_id == named);
        // One at most is not cut; of those that are, the last one.
        let rank = |(author, m): &(&AuthorId, &Member)| (!self.is_cut(author, m.incarnation), m.index);
        holders.max_by_key(rank).map(|(author, _)| (*author, 0))
    }

    fn life_of(&self, author: &AuthorId) -> Option<u32> {
        self.members.get(author).map(|m| m.incarnation)
    }

    fn called(&self, author: &AuthorId) -> String {
        self.members.get(author).map_or_else(|| author.to_string(), |m| m.spiffe_id.to_string())
    }

    /// A reassignment that a term took out of the chain may be acted on by a node that has not heard of the term.
    pub(in crate::authority) fn moves_elsewhere(&self, reassign: &Reassign, beside: &Entry) -> bool {
        let Entry::Reassign(other) = beside else { return false };
        let lives = self.life_of(&other.to.author).is_some_and(|life| !self.is_cut(&other.to.author, life));
        other.prefix == reassign.prefix && other.to.author != reassign.to.author && lives
    }
}

/// The node that the first two parts of a resource name.
pub(super) fn named_owner(prefix: &str, trust_domain: &str) -> Option<SpiffeId> {
    let (site, node, _) = Reassign::parts(prefix)?;
    SpiffeId::new(format!("spiffe://{trust_domain}/site/{site}/node/{node}")).ok()
}
