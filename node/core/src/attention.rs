//! Who is told of what policy decided, and what nobody but a person can settle.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Outcome;
use cauldron_coordinator::ledger::Call;
use cauldron_identity::{Digest, FactId};

use crate::core::NodeCore;
use crate::input::Event;
use crate::view::AttentionView;

/// Actions that `/v1/self` names; the counts name all.
const SHOWN_MAX: usize = 64;

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
    /// The groups that were asked about it; empty where nobody was.
    pub groups: BTreeSet<String>,
}

impl NodeCore {
    /// What policy tells groups of, decided since a time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn told(&self, since_ms: u64) -> Vec<Told> {
        let one = |d: &cauldron_coordinator::ledger::Recorded<cauldron_coordinator::bodies::Decision>| Told {
            proposal: d.body.proposal,
            terms: d.body.terms(),
            groups: d.body.obligations.notify.iter().cloned().collect(),
            outcome: d.body.outcome,
            decided_ms: d.body.decided_ms,
        };
        self.ledger.told_since(since_ms, &self.authority).map(one).collect()
    }

    /// What a person must look at, as of the last input.
    #[must_use]
    pub fn attention(&self) -> Vec<Attention> {
        let one = |(id, call): (&FactId, Call)| {
            let p = self.ledger.proposal(id)?;
            let groups = match call {
                Call::Audit => self.ledger.auditors(p, &self.authority),
                Call::Unknown => {
                    let starts = self.ledger.starts_of(id, &self.authority);
                    starts.flat_map(|start| self.ledger.reconcilers(start)).collect()
                }
                _ => self.ledger.asked_about(p, &self.authority),
            };
            Some(Attention { proposal: *id, call, groups })
        };
        self.docket.calls().filter_map(one).collect()
    }

    /// How many of them, by reason.
    pub(crate) fn attention_counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<&'static str, u64> = Call::ALL.into_iter().map(|call| (call.name(), 0)).collect();
        self.docket.calls().for_each(|(_, call)| *counts.entry(call.name()).or_default() += 1);
        counts
    }

    /// The most pressing of them, as they are shown.
    pub(crate) fn attention_view(&self) -> Vec<AttentionView> {
        let mut calls: Vec<(Call, FactId)> = self.docket.calls().map(|(id, call)| (call, *id)).collect();
        calls.sort_unstable();
        let one = |(call, id): (Call, FactId)| {
            let p = self.ledger.proposal(&id)?;
            Some(AttentionView {
                proposal: id.to_string(),
                short: id.short(),
                what: call.name(),
                operation: p.body.operation.clone(),
                target: p.body.resource.clone(),
                how: how(call, &id.short()),
            })
        };
        calls.into_iter().take(SHOWN_MAX).filter_map(one).collect()
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

/// What it is, and what a person can do about it.
#[must_use]
pub fn how(call: Call, short: &str) -> String {
    let then = match call {
        Call::Unknown => format!(
            "it is not tried again by itself: look at the target, and say what you found with `cauldron reconcile {short} --happened yes|no`"
        ),
        Call::CompensationFailed => format!(
            "`cauldron why {short}` says why: mend it by hand, or `cauldron undo {short}` at the node that did it tries again"
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
