//! What calls people after policy or they themselves have decided: who is told of a decision, and what nobody but a person can settle.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;
use cauldron_identity::{Digest, FactId};

use super::word::is_gone;
use super::{Ledger, Recorded, Report, Reviewed, State, Status, index};
use crate::bodies::{Decision, Proposal};
use crate::planted;
use crate::vote::SKEW_MS_MAX;

/// One whole, in parts per million.
const PPM: u64 = 1_000_000;

/// Why a person must look at an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Nobody knows whether it happened.
    Unknown,
    /// It happened and could not be taken back.
    CompensationFailed,
    /// It is done, and a check of it does not hold or could not be made.
    VerifyFailed,
    /// A no came after it was begun, and it stands or may.
    Contested,
    /// It is done, and is one of the share that policy has people look at.
    Audit,
}

impl Call {
    /// Every one, the most pressing first.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::CompensationFailed, Self::VerifyFailed, Self::Contested, Self::Audit];

    /// As it is written in messages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::CompensationFailed => "compensation_failed",
            Self::VerifyFailed => "verify_failed",
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
            Self::VerifyFailed => "it is done, and a check of it did not come out well",
            Self::Contested => "a no came after it was begun",
            Self::Audit => "it is done, and was selected to be looked at",
        }
    }
}

/// What people are called for, as far as it tells a new matter from an old one: the same at every node that holds the same facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matter {
    /// When something was last said of it, milliseconds since the Unix epoch, by the clock of whoever said it.
    pub since_ms: u64,
    /// How much was said: a date far ahead hides nothing that comes after it.
    pub said: u64,
}

impl Status {
    /// Why a person must look at it, but for audits; the most pressing reason first.
    fn calls(&self) -> impl Iterator<Item = Call> {
        let stands = self.state.is_started() && !self.ended;
        let calls = match self.state {
            // A permit that a past life may have used has no start that anybody could say something of.
            State::Unknown => [self.started.map(|_| Call::Unknown), None],
            State::CompensationFailed => [Some(Call::CompensationFailed), None],
            // It has no effect, or loses it.
            State::Failed | State::Compensating | State::Compensated => [None, None],
            state => [
                (state == State::VerifyFailed && stands).then_some(Call::VerifyFailed),
                (self.contested && stands).then_some(Call::Contested),
            ],
        };
        calls.into_iter().flatten()
    }
}

/// Whether an action is one of `ppm` parts per million that people look at. By its permit alone, so it is the same at every node.
/// Whoever acts does not choose the permit, and whoever writes permits does not act: neither escapes an audit without the other.
#[must_use]
pub fn is_audited(permit: &FactId, ppm: u32) -> bool {
    let digest = Digest::of("cauldron/audit/v1", permit.as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    // Below one million: the first 32 bits as a share of all that there are.
    let place = (u64::from(u32::from_be_bytes([a, b, c, d])) * PPM) >> 32;
    place < u64::from(ppm)
}

impl Ledger {
    /// Why a person must look at a proposal; the most pressing reason where there are several.
    #[must_use]
    pub fn call(&self, status: &Status, authority: &Authority) -> Option<Call> {
        // Taking it back was begun by a life that is over: nobody will say that it was done.
        let begun = status.started.filter(|_| status.state == State::Compensating).and_then(|id| self.start(&id));
        if begun.is_some_and(|start| is_gone(&start.header, authority)) {
            return Some(Call::CompensationFailed);
        }
        let mut calls =
            status.calls().filter(|call| *call != Call::VerifyFailed || !self.is_accepted(status, authority));
        calls.next().or_else(|| self.awaits_audit(status, authority).then_some(Call::Audit))
    }

    /// Whether somebody who may says to have looked at an action since its checks failed: it stands as it is.
    fn is_accepted(&self, status: &Status, authority: &Authority) -> bool {
        let Some((p, started)) = self.proposal(&status.id).zip(status.started) else { return false };
        let failed = self.reports_on(&started).filter_map(|r| match &r.body {
            Report::VerifyFailed(checks) => Some(checks.at_ms),
            _ => None,
        });
        let failed_ms = failed.max().unwrap_or(0);
        let mut looks = self.looks(&started, self.auditors(p, authority), self.writers(p), authority);
        looks.any(|look| look.at_ms.saturating_add(SKEW_MS_MAX) >= failed_ms)
    }

    /// What was said so far that bears on why a person must look at a proposal: a no only where it is what they must look at.
    #[must_use]
    pub fn matter(&self, status: &Status, call: Call, authority: &Authority) -> Matter {
        let starts = self.starts_of(&status.id, authority).flat_map(|start| {
            let reports = self.reports_on(&start.id).map(|r| r.header.wall_ms());
            reports.chain(self.words_ms(start, authority)).chain([start.header.wall_ms()])
        });
        let finished_ms = status.started.and_then(|id| self.finished_ms(&id));
        let noes = status.denials.iter().filter(|no| call == Call::Contested && no.contests(finished_ms));
        let all = starts.chain(noes.map(|no| no.at_ms));
        all.fold(Matter::default(), |of, ms| Matter { since_ms: of.since_ms.max(ms), said: of.said + 1 })
    }

    fn awaits_audit(&self, status: &Status, authority: &Authority) -> bool {
        let Some((p, started)) = self.proposal(&status.id).zip(status.started) else { return false };
        status.state.has_happened() && self.is_drawn(&started) && self.audited(p, &started, authority).is_none()
    }

    /// Whether a start is one of the share that the decision behind it asks for.
    fn is_drawn(&self, started: &FactId) -> bool {
        let permit = self.start(started).and_then(|start| self.permit(&start.body.permit));
        permit.is_some_and(|permit| {
            let decision = self.decisions_on(&permit.body.proposal).find(|d| d.id == permit.body.decision);
            let lot = if planted::active("audit-drawn-by-owner") { *started } else { permit.id };
            is_audited(&lot, decision.map_or(0, |d| d.body.obligations.audit_ppm))
        })
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
        let looks = self.looks(started, self.auditors(p, authority), self.writers(p), authority);
        looks.min_by_key(|look| (look.at_ms, look.person.clone()))
    }

    /// The decisions since a time and up to now, by the clocks of those who may decide, whose obligations name groups that are told;
    /// the oldest first. What says to be decided later than now is told when its time has come, and not before.
    pub fn told_since<'a>(
        &'a self,
        since_ms: u64,
        now_ms: u64,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Decision>> {
        // A coordinator's clock may be a little ahead of ours.
        let until_ms = now_ms.saturating_add(SKEW_MS_MAX).max(since_ms);
        let told = self.telling.range((since_ms, index::FIRST)..=(until_ms, index::LAST));
        let told = told.filter_map(|((_, id), proposal)| self.decisions.get(proposal, id));
        told.filter(|d| self.proposal(&d.body.proposal).is_some_and(|p| self.decision_restricts(p, d, authority)))
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
