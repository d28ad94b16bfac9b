//! Tokens that were used, their reviews, and what a site's own people lifted.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::Authority;
use cauldron_identity::{AuthorId, Digest, FactId, Scope};

use super::{Denial, Ledger, Origin, Recorded};
use crate::alone::is_local;
use crate::bodies::{BrokenGlass, Order, Permit, Proposal, Restriction, Review, SiteLift, Target};

/// A look at a use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// Who looked.
    pub person: String,
    /// What they found.
    pub note: String,
    /// When, milliseconds since the Unix epoch, as they say.
    pub at_ms: u64,
}

impl Ledger {
    /// A use of a token.
    #[must_use]
    pub fn broken_glass(&self, id: &FactId) -> Option<&Recorded<BrokenGlass>> {
        self.glasses.get(id)
    }

    /// Every use of a token that is here, in the order of their ids.
    pub fn all_broken_glass(&self) -> impl Iterator<Item = &Recorded<BrokenGlass>> {
        self.glasses.values()
    }

    /// Uses for one proposal.
    pub fn broken_glass_on(&self, proposal: &FactId) -> impl Iterator<Item = &Recorded<BrokenGlass>> {
        self.glasses.values().filter(move |g| g.body.proposal == *proposal)
    }

    /// Whether a use is of this proposal, in its scope, by a token that the council ever gave to the owner's site.
    #[must_use]
    pub fn is_glass_for(&self, used: &Recorded<BrokenGlass>, p: &Recorded<Proposal>, authority: &Authority) -> bool {
        let token = used.body.digest();
        let mut issued = authority.break_glass_ever(&token);
        used.header.scope == p.header.scope
            && used.body.proposal == p.id
            && used.body.lineage == p.body.lineage(p.id)
            && used.body.is_signed(&authority.mesh())
            && issued.any(|b| p.header.scope.site_name() == Some(&b.site))
    }

    /// The permit by which its owner bound a token first, in the order of the owner's own chain.
    #[must_use]
    pub fn bound_by(&self, token: &Digest, owner: &AuthorId) -> Option<&Recorded<Permit>> {
        let of_token = |permit: &&Recorded<Permit>| {
            let used = permit.body.break_glass.and_then(|id| self.glasses.get(&id));
            permit.header.author == *owner && used.is_some_and(|used| used.body.digest() == *token)
        };
        self.permits.values().filter(of_token).min_by_key(|p| (p.header.incarnation, p.header.seq))
    }

    /// Whether an owner's own permit rests on a token: nothing else makes an owner a permitter.
    #[must_use]
    pub fn is_by_glass(&self, permit: &Recorded<Permit>, authority: &Authority) -> bool {
        let Some(p) = self.proposals.get(&permit.body.proposal) else { return false };
        let used = permit.body.break_glass.and_then(|id| self.glasses.get(&id));
        (permit.header.author, permit.header.incarnation) == (permit.body.owner, permit.body.incarnation)
            && permit.header.scope == p.header.scope
            && used.is_some_and(|used| {
                let token = used.body.digest();
                let mut issued = authority.break_glass_ever(&token);
                self.is_glass_for(used, p, authority)
                    && issued.any(|b| {
                        (b.holder.author, b.holder.incarnation) == (permit.body.owner, permit.body.incarnation)
                    })
            })
    }

    /// Who looked at a use, of those that may: a person of a group that policy asked, or of the site's own.
    #[must_use]
    pub fn reviewed(&self, used: &Recorded<BrokenGlass>, authority: &Authority) -> Option<Reviewed> {
        let what = (&used.id, &used.header.scope);
        self.looked_at(what, &self.reviewers(used, authority), &BTreeSet::new(), authority)
    }

    /// Who said first, in its scope, that they looked at something, of these groups, but for some people.
    pub(super) fn looked_at(
        &self,
        (id, scope): (&FactId, &Scope),
        may: &BTreeSet<String>,
        barred: &BTreeSet<String>,
        authority: &Authority,
    ) -> Option<Reviewed> {
        let said = self.reviews.get(id).into_iter().flatten();
        // Whoever reads of the one must read of the other.
        let there = said.filter(|(_, carriers)| carriers.values().any(|carrier| carrier.scope == *scope));
        let counts = there.filter_map(|(review, _)| review.verify(authority).ok());
        let counts =
            counts.filter(|(s, person)| person.groups.iter().any(|g| may.contains(g)) && !barred.contains(&s.person));
        let looks = counts.map(|(s, _)| Reviewed { person: s.person, note: s.note, at_ms: s.issued_ms });
        looks.min_by_key(|r| (r.at_ms, r.person.clone()))
    }

    /// The groups whose members may review a use: those that policy asked, and the site's own.
    #[must_use]
    pub fn reviewers(&self, used: &Recorded<BrokenGlass>, authority: &Authority) -> BTreeSet<String> {
        let asked = self.decisions_on(&used.body.proposal).flat_map(|d| &d.body.obligations.approvals);
        let asked = asked.flat_map(|need| &need.any_of).map(|need| need.group.clone());
        let site = used.header.scope.site_name().and_then(|site| authority.isolation_grant(site));
        asked.chain(site.into_iter().flat_map(|grant| grant.groups.iter().cloned())).collect()
    }

    /// Uses that led to a permit and that nobody has looked at.
    pub fn unreviewed<'a>(&'a self, authority: &'a Authority) -> impl Iterator<Item = &'a Recorded<BrokenGlass>> {
        let permitted: BTreeSet<FactId> = self.permits.values().filter_map(|p| p.body.break_glass).collect();
        self.glasses.values().filter(move |g| permitted.contains(&g.id) && self.reviewed(g, authority).is_none())
    }

    /// Whether the site's own people lifted what one of them restricted, as its grant names. Good while the site is isolated.
    #[must_use]
    pub fn is_lifted_at_site(&self, r: &Recorded<Restriction>, order: &Order, authority: &Authority) -> bool {
        let Some(grant) = r.header.scope.site_name().and_then(|site| authority.isolation_grant(site)) else {
            return false;
        };
        let own = |id: &str| authority.person(id).is_some_and(|p| is_local(grant, p.groups.iter()));
        // A suspension is the council's to lift: it says whose facts count, for everybody.
        if grant.lift == 0 || matches!(order.target, Target::Author(..)) {
            return false;
        }
        if !r.body.is_by_person(&r.header, order, authority) || !own(&order.by) {
            return false;
        }
        self.lifters(&r.id, authority).filter(|id| own(id)).collect::<BTreeSet<_>>().len() >= grant.lift as usize
    }

    /// Who signed that a restriction is lifted.
    pub fn lifters(&self, restriction: &FactId, authority: &Authority) -> impl Iterator<Item = String> {
        let said = self.site_lifts.get(restriction).into_iter().flat_map(BTreeMap::keys);
        said.filter_map(|lift| lift.verify(authority).ok()).map(|(statement, _)| statement.person)
    }

    /// Every no that is left while the site is isolated: without what its own people lifted.
    #[must_use]
    pub fn denials_alone(&self, p: &Recorded<Proposal>, authority: &Authority) -> Vec<Denial> {
        self.denials_but(p, authority, |r, order| self.is_lifted_at_site(r, order, authority))
    }
}

/// Reviews and lifts by what they are about, with the facts that carry them.
pub(super) type Said<T> = BTreeMap<FactId, BTreeMap<T, BTreeMap<FactId, Origin>>>;

impl Ledger {
    pub(super) fn insert_review(&mut self, (id, header): (FactId, Origin), review: Review, used: FactId) -> bool {
        self.reviews.entry(used).or_default().entry(review).or_default().insert(id, header).is_none()
    }

    pub(super) fn insert_site_lift(&mut self, (id, header): (FactId, Origin), lift: SiteLift, of: FactId) -> bool {
        self.site_lifts.entry(of).or_default().entry(lift).or_default().insert(id, header).is_none()
    }
}
