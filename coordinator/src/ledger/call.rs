//! What calls people after policy or they themselves have decided: who is told of a decision, and what nobody but a person can settle.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;

use super::{Ledger, Recorded, State, Status};
use crate::bodies::{Decision, Proposal};

/// Why a person must look at an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Nobody knows whether it happened.
    Unknown,
    /// It happened and could not be taken back.
    CompensationFailed,
    /// A no came after it was begun, and it stands or may.
    Contested,
}

impl Call {
    /// Every one, the most pressing first.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::CompensationFailed, Self::Contested];

    /// As it is written in messages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::CompensationFailed => "compensation_failed",
            Self::Contested => "contested",
        }
    }

    /// What that means, in one sentence without an end.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Unknown => "nobody knows whether it happened",
            Self::CompensationFailed => "it happened and could not be taken back",
            Self::Contested => "a no came after it was begun",
        }
    }
}

impl Status {
    /// Why a person must look at it; the most pressing reason where there are several.
    #[must_use]
    pub fn call(&self) -> Option<Call> {
        match self.state {
            State::Unknown => Some(Call::Unknown),
            State::CompensationFailed => Some(Call::CompensationFailed),
            // It has no effect, or loses it.
            State::Failed | State::Compensating | State::Compensated => None,
            state => (self.contested && state.is_started() && !self.ended).then_some(Call::Contested),
        }
    }
}

impl Ledger {
    /// The decisions on a proposal whose obligations name groups that are told, by those who may decide.
    pub fn told_by<'a>(
        &'a self,
        p: &'a Recorded<Proposal>,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Decision>> {
        let names = self.decisions_on(&p.id).filter(|d| !d.body.obligations.notify.is_empty());
        names.filter(|d| self.decision_restricts(p, d, authority))
    }

    /// The groups that were ever asked about a proposal by those who may decide, or could object to it.
    #[must_use]
    pub fn asked_about(&self, p: &Recorded<Proposal>, authority: &Authority) -> BTreeSet<String> {
        let decisions = self.decisions_on(&p.id).filter(|d| self.decision_restricts(p, d, authority));
        let mut groups = BTreeSet::new();
        for asked in decisions.map(|d| &d.body.obligations) {
            groups.extend(asked.approvals.iter().flat_map(|need| &need.any_of).map(|need| need.group.clone()));
            groups.extend(asked.veto.iter().flat_map(|window| window.groups.iter().cloned()));
            if !asked.approvals.is_empty() {
                groups.extend(asked.escalation.iter().map(|added| added.add.clone()));
            }
        }
        groups
    }
}
