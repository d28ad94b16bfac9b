//! What calls people after policy or they themselves have decided: who is told of a decision, and what nobody but a person can settle.

use std::collections::BTreeSet;

use cauldron_identity::authority::Authority;
use cauldron_identity::{Digest, FactId};

use super::word::is_gone;
use super::{Ledger, Recorded, Report, Reviewed, State, Status, index};
use crate::bodies::{DUTY_GROUPS, Decision, Permit, Started};
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
        let left = begun.is_some_and(|start| self.is_left(start, authority)).then_some(Call::CompensationFailed);
        let mut calls = left.into_iter().chain(status.calls());
        let call = calls.find(|call| match call {
            Call::VerifyFailed | Call::CompensationFailed => !self.failures(status, authority).is_empty(),
            _ => true,
        });
        call.or_else(|| self.awaits_audit(status, authority).then_some(Call::Audit))
    }

    /// What the reviews have to name that settle why a person must look at a proposal, as far as a look settles it: every failure that
    /// nobody has accepted, and the start where it is to be audited.
    #[must_use]
    pub fn to_review(&self, status: &Status, authority: &Authority) -> Vec<FactId> {
        let mut ids = match self.call(status, authority) {
            Some(Call::VerifyFailed | Call::CompensationFailed) => self.failures(status, authority),
            _ => Vec::new(),
        };
        ids.extend(status.started.filter(|_| self.awaits_audit(status, authority)));
        ids
    }

    /// The reports that put a started proposal where it stands and that nobody who may has accepted by name. A review that was signed
    /// before a report was written cannot name it, whatever the clocks say.
    fn failures(&self, status: &Status, authority: &Authority) -> Vec<FactId> {
        let Some(start) = status.started.and_then(|id| self.start(&id)) else { return Vec::new() };
        // Where another attempt was begun when a life ended, an earlier failure says nothing of it.
        let times = |of: fn(&Report) -> bool| self.reports_on(&start.id).filter(|r| of(&r.body)).count();
        let again = status.state == State::CompensationFailed
            && self.is_left(start, authority)
            && times(|r| matches!(r, Report::Compensating(_))) > times(|r| matches!(r, Report::CompensationFailed(_)));
        let failed = self.reports_on(&start.id).filter(|r| match &r.body {
            Report::VerifyFailed(_) => status.state == State::VerifyFailed,
            Report::Compensating(_) => status.state == State::Compensating || again,
            Report::CompensationFailed(_) => status.state == State::CompensationFailed,
            _ => false,
        });
        let named = |id: &FactId| if planted::active("failure-accepted-unseen") { start.id } else { *id };
        failed.map(|r| r.id).filter(|id| self.audited(start, &named(id), authority).is_none()).collect()
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
        let Some(start) = status.started.and_then(|id| self.start(&id)) else { return false };
        status.state.has_happened()
            && self.is_drawn(start, authority)
            && self.audited(start, &start.id, authority).is_none()
    }

    /// Whether a start is one of the share that people look at: by the permit that it names, and by any other that it could have named.
    /// One that names none of them rests on nothing that drew a lot, and is looked at wherever anything is.
    fn is_drawn(&self, start: &Recorded<Started>, authority: &Authority) -> bool {
        let Some(p) = self.proposal(&start.body.proposal) else { return false };
        if self.behind(start, authority).is_none() {
            let mut decisions = self.decisions_on(&p.id).filter(|d| self.decision_restricts(p, d, authority));
            return decisions.any(|d| d.body.obligations.audit_ppm > 0);
        }
        let mut permits = self.permits_on(&p.id).filter_map(|permit| self.backing(start, permit, authority));
        permits.any(|(permit, decision)| {
            let lot = if planted::active("audit-drawn-by-owner") { start.id } else { permit.id };
            is_audited(&lot, decision.body.obligations.audit_ppm)
        })
    }

    /// The decision behind a start: that of the permit which it names, where both are by those who might write them, and the permit is
    /// for what was started and for whoever started it.
    pub(super) fn behind(&self, start: &Recorded<Started>, authority: &Authority) -> Option<&Recorded<Decision>> {
        let permit = self.permit(&start.body.permit)?;
        self.backing(start, permit, authority).map(|(_, decision)| decision)
    }

    fn backing<'a>(
        &'a self,
        start: &Recorded<Started>,
        permit: &'a Recorded<Permit>,
        authority: &Authority,
    ) -> Option<(&'a Recorded<Permit>, &'a Recorded<Decision>)> {
        let p = self.proposal(&start.body.proposal)?;
        let its = permit.body.proposal == p.id && permit.body.owner == start.header.author;
        let decision = self.decisions.get(&p.id, &permit.body.decision)?;
        let may = self.permit_entitled(p, permit, authority) && self.decision_restricts(p, decision, authority);
        (its && (may || planted::active("audit-permit-believed"))).then_some((permit, decision))
    }

    /// The groups that are called about a start: those that the decision behind it asked, or could object; where there are none, those
    /// that it told. What anybody decides later names nobody.
    #[must_use]
    pub fn concerned(&self, start: &Recorded<Started>, authority: &Authority) -> BTreeSet<String> {
        let Some(decision) = self.behind(start, authority) else { return BTreeSet::new() };
        let said = &decision.body.obligations;
        let mut groups: BTreeSet<String> = said
            .approvals
            .iter()
            .flat_map(|need| &need.any_of)
            .filter(|need| need.n > 0)
            .map(|need| need.group.clone())
            .collect();
        if !groups.is_empty() {
            groups.extend(said.escalation.iter().map(|added| added.add.clone()));
        }
        groups.extend(said.veto.iter().flat_map(|window| window.groups.iter().cloned()));
        if groups.is_empty() { said.notify.iter().cloned().collect() } else { groups }
    }

    /// The groups whose members may say that they have looked at an action, or that it stands as it is: those that are called about its
    /// start; where nobody is in them but who asked for it, those that may restrict a site.
    #[must_use]
    pub fn auditors(&self, start: &Recorded<Started>, authority: &Authority) -> BTreeSet<String> {
        let called = self.concerned(start, authority);
        let writers = self.proposal(&start.body.proposal).map(|p| self.writers(p)).unwrap_or_default();
        let people = authority.people();
        let mut others = people.iter().filter(|person| !writers.contains(&person.id));
        let somebody = others.any(|person| person.groups.iter().any(|group| called.contains(group)));
        if somebody { called } else { DUTY_GROUPS.map(str::to_owned).into() }
    }

    /// Who says first to have looked at something of a start, of those that may; never whoever asked for it.
    fn audited(&self, start: &Recorded<Started>, what: &FactId, authority: &Authority) -> Option<Reviewed> {
        self.reviews.get(what)?;
        let p = self.proposal(&start.body.proposal)?;
        self.looked_at((what, &start.header.scope), &self.auditors(start, authority), &self.writers(p), authority)
    }

    /// Whether the life that began something is over: nobody takes it back any more.
    #[must_use]
    pub fn is_left(&self, start: &Recorded<Started>, authority: &Authority) -> bool {
        is_gone(&start.header, authority)
    }

    /// The start that a review is about: the one that it names, or that of the failure which it names.
    #[must_use]
    pub fn reviewed_start(&self, used: &FactId) -> Option<&Recorded<Started>> {
        self.start(self.failures.get(used).unwrap_or(used))
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
}
