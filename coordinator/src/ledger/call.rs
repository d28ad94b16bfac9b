//! What calls people after policy or they themselves have decided: who is told of a decision, and what nobody but a person can settle.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;
use cauldron_identity::{Digest, FactId};

use super::{Ledger, Recorded, Reviewed, State, Status};
use crate::bodies::{Decision, Proposal};

/// One whole, in parts per million.
const PPM: u64 = 1_000_000;

/// Why a person must look at an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Nobody knows whether it happened.
    Unknown,
    /// It happened and could not be taken back.
    CompensationFailed,
    /// A no came after it was begun, and it stands or may.
    Contested,
    /// It is done, and is one of the share that policy has people look at.
    Audit,
}

impl Call {
    /// Every one, the most pressing first.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::CompensationFailed, Self::Contested, Self::Audit];

    /// As it is written in messages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::CompensationFailed => "compensation_failed",
            Self::Contested => "contested",
            Self::Audit => "audit",
        }
    }

    /// What that means, in one sentence without an end.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Unknown => "nobody knows whether it happened",
            Self::CompensationFailed => "it happened and could not be taken back",
            Self::Contested => "a no came after it was begun",
            Self::Audit => "it is done, and was selected to be looked at",
        }
    }
}

impl Status {
    /// Why a person must look at it, but for audits; the most pressing reason where there are several.
    fn call(&self) -> Option<Call> {
        match self.state {
            // A permit that a past life may have used has no start that anybody could say something of.
            State::Unknown => self.started.map(|_| Call::Unknown),
            State::CompensationFailed => Some(Call::CompensationFailed),
            // It has no effect, or loses it.
            State::Failed | State::Compensating | State::Compensated => None,
            state => (self.contested && state.is_started() && !self.ended).then_some(Call::Contested),
        }
    }
}

/// Whether an action is one of `ppm` parts per million that people look at. By its start alone, so it is the same at every node, and
/// nobody knows it before the start is signed.
#[must_use]
pub fn is_audited(started: &FactId, ppm: u32) -> bool {
    let digest = Digest::of("cauldron/audit/v1", started.as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    // Below one million: the first 32 bits as a share of all that there are.
    let place = (u64::from(u32::from_be_bytes([a, b, c, d])) * PPM) >> 32;
    place < u64::from(ppm)
}

impl Ledger {
    /// Why a person must look at a proposal; the most pressing reason where there are several.
    #[must_use]
    pub fn call(&self, status: &Status, authority: &Authority) -> Option<Call> {
        status.call().or_else(|| self.awaits_audit(status, authority).then_some(Call::Audit))
    }

    fn awaits_audit(&self, status: &Status, authority: &Authority) -> bool {
        let Some((p, started)) = self.proposal(&status.id).zip(status.started) else { return false };
        status.state.has_happened()
            && is_audited(&started, self.audit_ppm(&started))
            && self.audited(p, &started, authority).is_none()
    }

    /// The share that the decision behind a start asks for.
    fn audit_ppm(&self, started: &FactId) -> u32 {
        let permit = self.start(started).and_then(|start| self.permit(&start.body.permit));
        let decision =
            permit.and_then(|permit| self.decisions_on(&permit.body.proposal).find(|d| d.id == permit.body.decision));
        decision.map_or(0, |d| d.body.obligations.audit_ppm)
    }

    /// The groups whose members may say that they have looked at an action: those that were asked about it, or else those that were told.
    #[must_use]
    pub fn auditors(&self, p: &Recorded<Proposal>, authority: &Authority) -> BTreeSet<String> {
        let asked = self.asked_about(p, authority);
        if !asked.is_empty() {
            return asked;
        }
        self.told_by(p, authority).flat_map(|d| d.body.obligations.notify.iter().cloned()).collect()
    }

    /// Who looked at an action, of those that may; where nobody was asked or told of it, anybody who is enrolled. Never whoever asked
    /// for it.
    #[must_use]
    pub fn audited(&self, p: &Recorded<Proposal>, started: &FactId, authority: &Authority) -> Option<Reviewed> {
        let asked_for_it = self.writers(p);
        self.looked_at_but(started, &self.auditors(p, authority), &asked_for_it, authority)
    }

    /// The decisions since a time, by the clocks of those who may decide, whose obligations name groups that are told.
    pub fn told_since<'a>(
        &'a self,
        since_ms: u64,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Decision>> {
        let names = self.decisions.all().filter(move |d| d.body.decided_ms >= since_ms);
        let names = names.filter(|d| !d.body.obligations.notify.is_empty());
        names.filter(|d| self.proposal(&d.body.proposal).is_some_and(|p| self.decision_restricts(p, d, authority)))
    }

    /// The decisions on a proposal whose obligations name groups that are told, by those who may decide.
    fn told_by<'a>(
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
