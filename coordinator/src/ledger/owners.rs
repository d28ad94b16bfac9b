//! Who owns a resource: by its name, by a move on the authority chain, and nobody while an offer is under way.

use cauldron_identity::authority::{Accept, Authority, Handover, Offer, Reassign, prefix_of};
use cauldron_identity::budget::Life;
use cauldron_identity::codec::CodecError;
use cauldron_identity::{AuthorId, Fact, FactId, Scope};

use super::rights::Owner;
use super::{Ledger, Recorded, read};
use crate::action::Resource;
use crate::bodies::{Permit, Started};

impl Ledger {
    pub(super) fn insert_offer(&mut self, fact: &Fact) -> Result<bool, CodecError> {
        let offer: Recorded<Offer> = read(fact)?;
        Ok(self.offers.entry(offer.body.prefix.clone()).or_default().insert(offer.id, offer).is_none())
    }

    pub(super) fn insert_accept(&mut self, fact: &Fact) -> Result<bool, CodecError> {
        let accept: Recorded<Accept> = read(fact)?;
        Ok(self.accepts.entry(accept.body.offer).or_default().insert(accept.id, accept).is_none())
    }

    /// The owner of a resource: the node that its path names, or whom the authority chain says it was moved to. Nobody from its
    /// owner's offer on until the chain says who has it: never two nodes start on one resource.
    #[must_use]
    pub fn owner_of(&self, resource: &str, authority: &Authority) -> Option<Owner> {
        resource.parse::<Resource>().ok()?;
        let prefix = prefix_of(resource)?;
        let (author, member) = authority.owner_of_prefix(prefix)?;
        if self.offered_by(prefix, &author, authority).is_some() {
            return None;
        }
        Some(Owner { author, incarnation: member.incarnation, spiffe_id: member.spiffe_id.clone() })
    }

    /// The offer that its author is bound by and that nobody has taken on the chain yet; of several the newest.
    #[must_use]
    pub fn offered_by(&self, prefix: &str, author: &AuthorId, authority: &Authority) -> Option<&Recorded<Offer>> {
        let own = self.offers.get(prefix).into_iter().flat_map(|offers| offers.values());
        let open = own.filter(|o| {
            o.header.author == *author && in_site(o, prefix) && authority.offer_is_open(&o.header, o.id, prefix)
        });
        open.max_by_key(|o| o.header.seq)
    }

    /// All offers that bind somebody, with the name of what is offered.
    pub fn open_offers<'a>(&'a self, authority: &'a Authority) -> impl Iterator<Item = (&'a str, &'a Recorded<Offer>)> {
        self.offers.keys().filter_map(move |prefix| {
            let (owner, _) = authority.owner_of_prefix(prefix)?;
            self.offered_by(prefix, &owner, authority).map(|offer| (prefix.as_str(), offer))
        })
    }

    /// One offer.
    #[must_use]
    pub fn offer(&self, id: &FactId) -> Option<&Recorded<Offer>> {
        self.offers.values().find_map(|offers| offers.get(id))
    }

    /// Moves that both sides have signed and that the chain does not hold yet: the offer, its acceptance, and the entry but for these
    /// two facts themselves.
    #[must_use]
    pub fn handovers_due(&self, authority: &Authority) -> Vec<(FactId, FactId, Reassign)> {
        let mut due = Vec::new();
        for (prefix, offer) in self.open_offers(authority) {
            let accepts = self.accepts.get(&offer.id).into_iter().flat_map(|accepts| accepts.values());
            let to = offer.body.to;
            let mut by_next =
                accepts.filter(|a| (a.header.author, a.header.incarnation) == (to.author, to.incarnation));
            if let Some(accept) = by_next.next() {
                let from = Life { author: offer.header.author, incarnation: offer.header.incarnation };
                let entry =
                    Reassign { prefix: prefix.to_owned(), from, to, handover: None, fencing: None, attests: vec![] };
                due.push((offer.id, accept.id, entry));
            }
        }
        due
    }

    /// Why a permit's owner can no longer use it: the resource was moved, or offered, after whoever wrote it had looked.
    #[must_use]
    pub fn moved_since(&self, permit: &Permit, authority: &Authority) -> Option<&'static str> {
        let prefix = prefix_of(&permit.resource)?;
        let known = permit.authority_head.and_then(|head| authority.index_of(&head)).unwrap_or(0);
        if authority.moved_at(prefix) > known {
            return Some("the resource was moved to another owner after its permit");
        }
        let offered = self.offered_by(prefix, &permit.owner, authority);
        offered.map(|_| "its owner has offered the resource to another node")
    }

    /// Starts of an author on these resources of which nobody knows what became.
    pub fn unsettled_on<'a>(
        &'a self,
        prefix: &'a str,
        author: &'a AuthorId,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Started>> {
        let own =
            self.starts().filter(move |s| s.header.author == *author && prefix_of(&s.body.resource) == Some(prefix));
        own.filter(move |s| {
            let settled = |r: &Recorded<super::Report>| !matches!(r.body, super::Report::Unknown(_));
            let mut reports = self.reports_on(&s.id).filter(|r| r.header.author == *author);
            !reports.any(settled) && self.word_on(s, authority).is_none()
        })
    }
}

/// An entry with the two facts that make it.
#[must_use]
pub fn with_handover(entry: Reassign, offer: &Fact, accept: &Fact) -> Reassign {
    let handover = Handover { offer: offer.sealed().clone(), accept: accept.sealed().clone() };
    Reassign { handover: Some(handover), ..entry }
}

fn in_site(offer: &Recorded<Offer>, prefix: &str) -> bool {
    let site = Reassign::parts(prefix).and_then(|(site, ..)| Scope::site(site).ok());
    site.as_ref() == Some(&offer.header.scope)
}
