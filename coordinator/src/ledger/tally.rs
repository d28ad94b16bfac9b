//! Which approvals count for a decision.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::Authority;
use cauldron_identity::{AuthorId, Digest};

use super::{Ledger, Recorded};
use crate::bodies::{Decision, Permit, Proposal};
use crate::planted;
use crate::vote::{Choice, SKEW_MS_MAX, VerifiedVote, present_decision};

/// Obligation that bars votes whose page came from the proposing or owning node.
pub const SELF_SERVED: &str = "self-served";

/// Everything an approval is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Ballot<'a> {
    /// The facts.
    pub ledger: &'a Ledger,
    /// The authority chain.
    pub authority: &'a Authority,
    /// What is voted on.
    pub proposal: &'a Recorded<Proposal>,
    /// The decision whose terms bind.
    pub decision: &'a Decision,
    /// Who may not fill a seat beside the proposer.
    pub distinct_from: &'a [String],
}

impl<'a> Ballot<'a> {
    /// A ballot under the decision's own obligations.
    #[must_use]
    pub fn new(
        ledger: &'a Ledger,
        authority: &'a Authority,
        proposal: &'a Recorded<Proposal>,
        decision: &'a Decision,
    ) -> Self {
        Self { ledger, authority, proposal, decision, distinct_from: &decision.obligations.distinct_from }
    }

    /// Distinct people whose approval counts at `at_ms`, with their groups; only from `listed` votes, where given.
    /// Withdrawals count wherever they came from.
    #[must_use]
    pub fn voters(&self, at_ms: u64, listed: Option<&[Digest]>) -> BTreeMap<String, BTreeSet<String>> {
        let mut latest: BTreeMap<String, VerifiedVote> = BTreeMap::new();
        // A second approval of one person must not push out the first, which a permit may list.
        let listed_or_not_approving =
            |v: &VerifiedVote| v.statement.choice != Choice::Approve || listed.is_none_or(|l| l.contains(&v.id));
        let heard = self.verified().filter(|v| v.statement.choice != Choice::Deny).filter(listed_or_not_approving);
        for vote in heard {
            let slot = latest.entry(voter(&vote)).or_insert_with(|| vote.clone());
            if order(slot) < order(&vote) {
                *slot = vote;
            }
        }
        let counted =
            latest.into_iter().filter(|(_, v)| v.statement.choice == Choice::Approve && self.judge(v, at_ms).is_ok());
        counted.map(|(who, v)| (who, v.groups)).collect()
    }

    /// Distinct people who had approved when a permit was written, by the votes it names: what was said then, whether
    /// or not it was taken back since. So a permit that ran out stays run out.
    pub(super) fn voters_then(&self, permit: &Permit) -> BTreeMap<String, BTreeSet<String>> {
        let mut people = BTreeMap::new();
        for mut vote in
            self.verified().filter(|v| v.statement.choice == Choice::Approve && permit.votes.contains(&v.id))
        {
            vote.revoked = false;
            if self.judge(&vote, permit.issued_ms).is_ok() {
                people.insert(voter(&vote), vote.groups_then);
            }
        }
        people
    }

    /// The votes whose approval counts at `at_ms`, by hash: what a permit carries.
    #[must_use]
    pub fn approving(&self, at_ms: u64) -> BTreeSet<Digest> {
        let people = self.voters(at_ms, None);
        let counted = self.verified().filter(|v| v.statement.choice == Choice::Approve && self.judge(v, at_ms).is_ok());
        counted.filter(|v| people.contains_key(&voter(v))).map(|v| v.id).collect()
    }

    fn verified(&self) -> impl Iterator<Item = VerifiedVote> {
        self.ledger.votes_on(&self.proposal.id).filter_map(|v| v.verify(self.authority).ok())
    }

    /// Whether one approval counts.
    ///
    /// # Errors
    /// Half a sentence that says why not.
    pub fn judge(&self, vote: &VerifiedVote, at_ms: u64) -> Result<(), &'static str> {
        let (s, p) = (&vote.statement, self.proposal);
        let unbound = planted::active("vote-not-bound-to-terms");
        let checks = [
            (vote.revoked, "its signer or credential is revoked"),
            (s.lineage != p.body.lineage(p.id) || s.proposal != p.id, "it is about another proposal"),
            (s.terms != self.decision.terms() && !unbound, "it agrees to other terms"),
            (s.issued_ms > at_ms.saturating_add(SKEW_MS_MAX), "it is signed in the future"),
            (s.expires_ms < at_ms, "it has expired"),
            (vote.key.is_some_and(|key| self.is_party(&key.author_id())), "its key is the proposing or owning node's"),
            (s.person == p.body.agent, "its signer is the proposing agent"),
            (
                self.distinct_from.iter().any(|d| d == SELF_SERVED) && self.is_party(&s.served_by),
                "its page was served by the proposing or owning node",
            ),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(broken, _)| *broken) {
            return Err(why);
        }
        let shown = self.ledger.decisions_on(&p.id).filter(|d| d.body.terms() == s.terms);
        let mut shown = shown.map(|d| present_decision(&p.body, &d.body).digest());
        let own = present_decision(&p.body, self.decision).digest();
        if s.presentation == own || shown.any(|digest| digest == s.presentation) || unbound {
            Ok(())
        } else {
            Err("its signer was shown something else")
        }
    }

    fn is_party(&self, author: &AuthorId) -> bool {
        let owner = self.ledger.owner_of(&self.proposal.body.resource, self.authority);
        *author == self.proposal.header.author || owner.is_some_and(|o| o.author == *author)
    }
}

/// Who a vote speaks for: the person, however many keys they hold.
fn voter(vote: &VerifiedVote) -> String {
    if planted::active("same-person-twice") {
        return format!("{}#{}", vote.statement.person, vote.statement.credential);
    }
    vote.statement.person.clone()
}

/// The later statement of a person holds; of two at one time, the more cautious.
fn order(vote: &VerifiedVote) -> (u64, Choice, Digest) {
    (vote.statement.issued_ms, vote.statement.choice, vote.id)
}
