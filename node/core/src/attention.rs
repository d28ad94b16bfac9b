//! Who is told of what policy decided, and what nobody but a person can settle.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Outcome;
use cauldron_coordinator::ledger::{Call, Matter};
use cauldron_coordinator::owner::VerifiedPermit;
use cauldron_identity::{Clock, Digest, FactId};

use crate::core::NodeCore;
use crate::input::Event;
use crate::view::AttentionView;

/// Actions that `/v1/self` names; the counts name all.
const SHOWN_MAX: usize = 64;
/// How long groups are told of what this owner's own policy says: as long as a webhook is tried, milliseconds.
pub(crate) const OWN_TOLD_MS: u64 = 7 * 86_400_000;
/// How much of that is kept; beyond, the oldest goes: the webhooks have had the most time for it.
pub(crate) const OWN_TOLD_MAX: usize = 4_096;

/// Policy tells groups of a proposal, and does not ask them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The proposal.
    pub proposal: FactId,
    /// What the decision says: the same, whichever coordinator wrote it.
    pub terms: Digest,
    /// The groups.
    pub groups: BTreeSet<String>,
    /// What policy said.
    pub outcome: Outcome,
    /// When, milliseconds since the Unix epoch, by whoever decided.
    pub decided_ms: u64,
}

/// A person must look at an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// The proposal.
    pub proposal: FactId,
    /// Why.
    pub call: Call,
    /// The groups that are called about it; none where the decision behind it names nobody.
    pub groups: BTreeSet<String>,
    /// What tells it from an earlier one.
    pub matter: Matter,
}

impl NodeCore {
    /// What policy tells groups of, decided since a time in milliseconds since the Unix epoch and until `now`.
    #[must_use]
    pub fn told(&self, since_ms: u64, now: Clock) -> Vec<Told> {
        let one = |d: &cauldron_coordinator::ledger::Recorded<cauldron_coordinator::bodies::Decision>| Told {
            proposal: d.body.proposal,
            terms: d.body.terms(),
            groups: d.body.obligations.notify.iter().cloned().collect(),
            outcome: d.body.outcome,
            decided_ms: d.body.decided_ms,
        };
        let own = self.work.told.values().filter(|told| told.decided_ms >= since_ms).cloned();
        self.ledger.told_since(since_ms, now.wall_ms, &self.authority).map(one).chain(own).collect()
    }

    /// Groups that this owner's own policy tells of what it starts, and that the decision does not name: no fact says so, so nobody
    /// else tells them.
    pub(crate) fn tell_own(&mut self, permit: &VerifiedPermit) {
        if permit.notify().is_empty() {
            return;
        }
        let told = Told {
            proposal: permit.proposal(),
            terms: Digest::of("cauldron/own-notice/v1", permit.permit().as_bytes()),
            groups: permit.notify().clone(),
            outcome: Outcome::Allow,
            decided_ms: self.now.wall_ms,
        };
        keep_told(&mut self.work.told, permit.permit(), told);
    }

    /// What a person must look at, as of the last input.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        let one = |(id, call, matter): (&FactId, Call, Matter)| {
            let starts = self.ledger.starts_of(id, &self.authority);
            let groups = starts.flat_map(|start| match call {
                Call::Unknown => self.ledger.reconcilers(start, &self.authority),
                _ => self.ledger.concerned(start, &self.authority),
            });
            Attention { proposal: *id, call, groups: groups.collect(), matter }
        };
        self.docket.calls().map(one).collect()
    }

    /// How many of them, by reason.
    pub(crate) fn attention_counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<&'static str, u64> = Call::ALL.into_iter().map(|call| (call.name(), 0)).collect();
        self.docket.calls().for_each(|(_, call, _)| *counts.entry(call.name()).or_default() += 1);
        counts
    }

    /// The most pressing of them, as they are shown.
    pub(crate) fn attention_view(&self) -> Vec<AttentionView> {
        let mut calls: Vec<(Call, FactId)> = self.docket.calls().map(|(id, call, _)| (call, *id)).collect();
        calls.sort_unstable();
        let one = |(call, id): (Call, FactId)| {
            let p = self.ledger.proposal(&id)?;
            Some(AttentionView {
                proposal: id.to_string(),
                short: id.short(),
                what: call.name(),
                operation: p.body.operation.clone(),
                target: p.body.resource.clone(),
                says: call.says(),
                how: how(call, &id.short()),
                commands: commands(call, &id.short(), self.is_left(&id)),
            })
        };
        calls.into_iter().take(SHOWN_MAX).filter_map(one).collect()
    }

    /// Whether every life that began a proposal is over: nobody can be asked to take it back.
    fn is_left(&self, proposal: &FactId) -> bool {
        self.ledger.starts_of(proposal, &self.authority).all(|start| self.ledger.is_left(start, &self.authority))
    }

    /// Says once, as long as the process runs, what a person must look at.
    pub(crate) fn tell_attention(&mut self) {
        for (proposal, call) in self.docket.take_raised() {
            self.tell(Event::Attention { proposal, call, how: how(call, &proposal.short()) });
        }
    }

    /// What `why` adds for whoever must look.
    pub(crate) fn why_attention(&self, id: &FactId) -> Option<String> {
        let call = self.docket.call_of(id)?;
        Some(format!("a person must look: {}", how(call, &id.short())))
    }
}

/// Keeps what is told by its permit; what is too old goes, and beyond so many the oldest.
pub(crate) fn keep_told(all: &mut BTreeMap<FactId, Told>, permit: FactId, told: Told) {
    all.retain(|_, older| older.decided_ms.saturating_add(OWN_TOLD_MS) > told.decided_ms);
    all.insert(permit, told);
    let oldest = all.iter().min_by_key(|(_, told)| told.decided_ms).map(|(permit, _)| *permit);
    if all.len() > OWN_TOLD_MAX
        && let Some(oldest) = oldest
    {
        all.remove(&oldest);
    }
}

/// Commands that may settle a call, as they are written; words in capitals are for whoever runs them to put in.
fn commands(call: Call, short: &str, left: bool) -> Vec<String> {
    let undo = (!left).then(|| format!("cauldron undo {short} --reason WHY"));
    let review = format!("cauldron break-glass review {short} --note FOUND");
    match call {
        Call::Unknown => ["yes", "no"]
            .map(|happened| format!("cauldron reconcile {short} --happened {happened} --reason HOW-YOU-KNOW"))
            .into(),
        Call::Contested => undo.into_iter().collect(),
        Call::CompensationFailed | Call::VerifyFailed => undo.into_iter().chain([review]).collect(),
        Call::Audit => vec![review],
    }
}

/// What it is, and what a person can do about it.
#[must_use]
pub fn how(call: Call, short: &str) -> String {
    let then = match call {
        Call::Unknown => format!(
            "it is not tried again by itself: look at the target, and say what you found with `cauldron reconcile {short} --happened yes|no`"
        ),
        Call::CompensationFailed => format!(
            "`cauldron why {short}` says why: `cauldron undo {short}` at the node that did it tries again, as long as its life goes on; or mend it by hand, and say how it stands with `cauldron break-glass review {short}`"
        ),
        Call::VerifyFailed => format!(
            "`cauldron why {short}` says which: take it back with `cauldron undo {short}` at the node that did it, or say that it stands as it is with `cauldron break-glass review {short}`"
        ),
        Call::Contested => format!(
            "`cauldron why {short}` says whose: `cauldron undo {short}` at the node that did it takes it back with what its permit carries"
        ),
        Call::Audit => format!(
            "`cauldron audit show {short}` tells its story: say what you found with `cauldron break-glass review {short}`"
        ),
    };
    format!("{}; {then}.", call.says())
}
