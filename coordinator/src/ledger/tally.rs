//! Which approvals count for a decision, and whether they fill its seats.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::{Authority, CredentialKind};
use cauldron_identity::{AuthorId, Digest};

use super::{Ledger, Recorded};
use crate::bodies::{
    DELEGATES, Decision, Feature, GroupNeed, Need, Obligations, Permit, Proposal, SELF_SERVED, VetoWindow,
};
use crate::planted;
use crate::quorum::{Fill, Voter, fill};
use crate::signed::with_reason;
use crate::vote::{Choice, SKEW_MS_MAX, VerifiedVote, present_decision};

/// Approvals of one person that count within an hour (guarantees §4): more are not read before they are signed.
pub const APPROVALS_PER_HOUR_MAX: usize = 60;
pub(super) const HOUR_MS: u64 = 3_600_000;

/// What a vote that is here comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Whether it does what it says: a yes fills a seat, an objection ends a silence, a no stands. None for what asks for nothing.
    pub counts: Option<bool>,
    /// Why it does not: half a sentence.
    pub why: Option<String>,
    /// How far the seats are filled, with it.
    pub seats: Fill,
}

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
    /// What must be met: the decision's, or stricter ones.
    pub obligations: &'a Obligations,
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
        Self { ledger, authority, proposal, decision, obligations: &decision.obligations }
    }

    /// How far the seats are filled at `at_ms`; only by `listed` votes, where given.
    #[must_use]
    pub fn fill(&self, at_ms: u64, listed: Option<&[Digest]>) -> Fill {
        fill(&self.needs(), &self.voters(at_ms, listed))
    }

    /// The seats: those that are asked for, and where silence allows, one for whoever could have objected, once somebody has or
    /// nobody can.
    #[must_use]
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = self.obligations.approvals.clone();
        if let Some(window) = &self.obligations.veto
            && self.silence_is_no_yes(window).is_some()
        {
            needs.push(Need {
                any_of: window.groups.iter().map(|group| GroupNeed { group: group.clone(), n: 1 }).collect(),
            });
        }
        needs
    }

    /// Why silence does not allow: somebody objected, or nobody could.
    #[must_use]
    pub fn silence_is_no_yes(&self, window: &VetoWindow) -> Option<String> {
        let objector = self.verified().find(|v| {
            v.statement.choice == Choice::Object && !v.groups_then.is_disjoint(&window.groups.iter().cloned().collect())
        });
        if let Some(objector) = objector {
            return Some(with_reason(format!("{} objected", objector.statement.person), &objector.statement.reason));
        }
        let writers = self.ledger.writers(self.proposal);
        let people = self.authority.people();
        let mut could =
            people.iter().filter(|p| !writers.contains(&p.id) && p.groups.iter().any(|g| window.groups.contains(g)));
        could.next().is_none().then(|| format!("nobody of {} could object", window.groups.join(", ")))
    }

    /// Distinct people whose approval counts at `at_ms`, with the seats they may take; only from `listed` votes, where given.
    /// Withdrawals count wherever they came from.
    #[must_use]
    pub fn voters(&self, at_ms: u64, listed: Option<&[Digest]>) -> BTreeMap<String, Voter> {
        let mut latest: BTreeMap<String, VerifiedVote> = BTreeMap::new();
        // A second approval of one person must not push out the first, which a permit may list.
        let listed_or_not_approving =
            |v: &VerifiedVote| v.statement.choice != Choice::Approve || listed.is_none_or(|l| l.contains(&v.id));
        let decides = |c: Choice| matches!(c, Choice::Approve | Choice::Abstain | Choice::Withdraw);
        let heard = self.verified().filter(|v| decides(v.statement.choice)).filter(listed_or_not_approving);
        for vote in heard {
            let slot = latest.entry(voter(&vote)).or_insert_with(|| vote.clone());
            if order(slot) < order(&vote) {
                *slot = vote;
            }
        }
        latest.retain(|_, v| v.statement.choice == Choice::Approve && self.counts(v, at_ms).is_ok());
        self.seated(latest.into_iter().map(|(who, v)| (who, v.statement.issued_ms, v.id, v.groups)))
    }

    /// Distinct people who had approved when a permit was written, by the votes it names: what was said then, whether
    /// or not it was taken back since. So a permit that ran out stays run out.
    pub(super) fn voters_then(&self, permit: &Permit) -> BTreeMap<String, Voter> {
        let mut people = BTreeMap::new();
        for mut vote in
            self.verified().filter(|v| v.statement.choice == Choice::Approve && permit.votes.contains(&v.id))
        {
            vote.revoked = false;
            if self.judge(&vote, permit.issued_ms).is_ok() {
                people.insert(voter(&vote), (vote.statement.issued_ms, vote.id, vote.groups_then));
            }
        }
        self.seated(people.into_iter().map(|(who, (at_ms, id, groups))| (who, at_ms, id, groups)))
    }

    /// Who may take which seats: by their own groups, for a person whose deputy they are, and any, once they were added in time.
    fn seated(
        &self,
        approvers: impl Iterator<Item = (String, u64, Digest, BTreeSet<String>)>,
    ) -> BTreeMap<String, Voter> {
        let mut approvers: Vec<_> = approvers.collect();
        approvers.sort_by_key(|(_, at_ms, id, _)| (*at_ms, *id));
        let barred = self.ledger.writers(self.proposal);
        let deputies = !self.obligations.distinct_from.iter().any(|d| d == DELEGATES);
        // One right is one vote: a person who spoke for themselves, or through somebody, is not spoken for again.
        let mut spoken: BTreeSet<String> = approvers.iter().map(|(who, ..)| who.clone()).collect();
        let mut people = BTreeMap::new();
        for (who, at_ms, _, mut groups) in approvers {
            let person = who.split('#').next().unwrap_or_default();
            let handed = match deputies {
                true => self.ledger.deputised(person, self.proposal, at_ms, self.authority),
                false => Vec::new(),
            };
            for deputised in handed.into_iter().filter(|d| !barred.contains(&d.person)) {
                if spoken.insert(deputised.person.clone()) || planted::active("deputy-votes-twice") {
                    groups.extend(deputised.groups);
                }
            }
            let added = self.obligations.escalation.iter().filter(|e| e.at_ms <= at_ms);
            let any_seat = added.into_iter().any(|e| groups.contains(&e.add));
            people.insert(who, Voter { groups, any_seat });
        }
        people
    }

    /// The votes whose approval counts at `at_ms`, by hash: what a permit carries.
    #[must_use]
    pub fn approving(&self, at_ms: u64) -> BTreeSet<Digest> {
        let people = self.voters(at_ms, None);
        let counted =
            self.verified().filter(|v| v.statement.choice == Choice::Approve && self.counts(v, at_ms).is_ok());
        counted.filter(|v| people.contains_key(&voter(v))).map(|v| v.id).collect()
    }

    /// What a vote that is here comes to at `at_ms`.
    #[must_use]
    pub fn weigh(&self, vote: &VerifiedVote, at_ms: u64) -> Weight {
        let why = match vote.statement.choice {
            Choice::Approve => Some(self.fills(vote, at_ms).err()),
            Choice::Object => Some(self.may_object(vote).err()),
            Choice::Deny => Some(None),
            Choice::Abstain | Choice::Withdraw | Choice::Comment => None,
        };
        Weight { counts: why.as_ref().map(Option::is_none), why: why.flatten(), seats: self.fill(at_ms, None) }
    }

    /// Whether a yes takes a seat that would be empty without it.
    fn fills(&self, vote: &VerifiedVote, at_ms: u64) -> Result<(), String> {
        self.counts(vote, at_ms)?;
        let lacks = |fill: &Fill| fill.needed.saturating_sub(fill.filled);
        let mut voters = self.voters(at_ms, None);
        let with = fill(&self.needs(), &voters);
        if voters.remove(&voter(vote)).is_none() {
            return Err("its signer has said something else since".to_owned());
        }
        let without = fill(&self.needs(), &voters);
        if lacks(&with) < lacks(&without) {
            return Ok(());
        }
        Err(match without.is_complete() {
            true => "every seat is filled without it".to_owned(),
            false => "its signer may take none of the seats that are open".to_owned(),
        })
    }

    fn may_object(&self, vote: &VerifiedVote) -> Result<(), String> {
        let window = self.obligations.veto.as_ref().ok_or("silence does not allow this, so nobody has to object")?;
        match window.groups.iter().any(|group| vote.groups_then.contains(group)) {
            true => Ok(()),
            false => Err(format!("its signer is not of {}, who may object", window.groups.join(", "))),
        }
    }

    fn verified(&self) -> impl Iterator<Item = VerifiedVote> {
        self.ledger.votes_on(&self.proposal.id).filter_map(|v| v.verify(self.authority).ok())
    }

    /// Whether one approval counts now: by what it says, and by what is stopped.
    ///
    /// # Errors
    /// Half a sentence that says why not.
    pub fn counts(&self, vote: &VerifiedVote, at_ms: u64) -> Result<(), String> {
        self.judge(vote, at_ms)?;
        let page = || self.ledger.stopped(&Feature::ApprovalPage, &self.proposal.header.scope, self.authority);
        match (vote.kind == CredentialKind::Passkey).then(page).flatten() {
            Some(order) => Err(with_reason(format!("approvals by passkey are stopped by {}", order.by), &order.reason)),
            None => Ok(()),
        }
    }

    /// Whether one approval counts by what it says.
    ///
    /// # Errors
    /// Half a sentence that says why not.
    pub fn judge(&self, vote: &VerifiedVote, at_ms: u64) -> Result<(), String> {
        let (s, p) = (&vote.statement, self.proposal);
        let unbound = planted::active("vote-not-bound-to-terms");
        let wrote = self.ledger.writers(p).contains(&s.person) && !planted::active("writer-approves");
        let checks = [
            (vote.revoked, "its signer or credential is revoked"),
            (s.lineage != p.body.lineage(p.id) || s.proposal != p.id, "it is about another proposal"),
            (s.terms != self.decision.terms() && !unbound, "it agrees to other terms"),
            (s.issued_ms > at_ms.saturating_add(SKEW_MS_MAX), "it is signed in the future"),
            (s.expires_ms < at_ms, "it has expired"),
            (vote.key.is_some_and(|key| self.is_party(&key.author_id())), "its key is the proposing or owning node's"),
            (s.person == p.body.agent, "its signer is the proposing agent"),
            (wrote, "its signer proposed or edited it, or it is done for them: another person must approve"),
            (
                vote.kind.assurance() < self.obligations.assurance,
                "its key lies in a file, and this needs a passkey or a token that is touched",
            ),
            (
                self.obligations.distinct_from.iter().any(|d| d == SELF_SERVED) && self.is_party(&s.served_by),
                "its page was served by the proposing or owning node",
            ),
            (self.ledger.is_beyond_rate(vote, self.authority), "its signer approved 60 things in the hour before it"),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(broken, _)| *broken) {
            return Err(why.to_owned());
        }
        let shown = self.ledger.decisions_on(&p.id).filter(|d| d.body.terms() == s.terms);
        let mut shown = shown.map(|d| present_decision(&p.body, &d.body).digest());
        let own = present_decision(&p.body, self.decision).digest();
        if s.presentation == own || shown.any(|digest| digest == s.presentation) || unbound {
            Ok(())
        } else {
            Err("its signer was shown something else".to_owned())
        }
    }

    fn is_party(&self, author: &AuthorId) -> bool {
        let owner = self.ledger.owner_of(&self.proposal.body.resource, self.authority);
        self.ledger.proposed(self.proposal, author) || owner.is_some_and(|o| o.author == *author)
    }
}

impl Ledger {
    /// Whether a person had approved so much in the hour before this vote that nobody can have read it.
    fn is_beyond_rate(&self, vote: &VerifiedVote, authority: &Authority) -> bool {
        let at = (vote.statement.issued_ms, vote.id);
        let since = (at.0.saturating_sub(HOUR_MS), Digest::from_bytes([0; 32]));
        let before = self.approvals.get(&vote.statement.person).into_iter().flat_map(|said| said.range(since..at));
        // Only what they signed themselves: others can say their name.
        before.filter(|(_, v)| v.verify(authority).is_ok()).take(APPROVALS_PER_HOUR_MAX).count()
            == APPROVALS_PER_HOUR_MAX
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
