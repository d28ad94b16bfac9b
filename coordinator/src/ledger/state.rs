//! The state of a proposal: a function of the facts, the authority chain and the time.

use std::collections::BTreeSet;

use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;
use serde::Serialize;

use super::{Ledger, Recorded, Report, word::is_gone};
use crate::bodies::{Decision, Order, Outcome, Proposal, Requester, Restriction, Target};
use crate::json::rfc3339;
use crate::planted;
use crate::quorum::Fill;
use crate::signed::with_reason;
use crate::vote::Choice;

/// How long a permit may be usable, milliseconds.
pub const PERMIT_MS_MAX: u64 = 15 * 60 * 1000;

/// Where a proposal stands (governance §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not judged yet.
    Proposed,
    /// Judged: policy asks for other arguments, and the child that has them is not here yet.
    Evaluated,
    /// Judged, and deferred until policy says something else.
    Deferred,
    /// Waits for people.
    PendingApproval,
    /// Policy allows it unless somebody objects in time.
    VetoWindow,
    /// Policy or people agree; waits for a permit.
    Approved,
    /// Waits for its owner.
    Permitted,
    /// Its owner began; the outcome is not written yet.
    Started,
    /// It happened.
    Done,
    /// It was tried and did not happen.
    Failed,
    /// Nobody knows whether it happened.
    Unknown,
    /// It happened, and every check after it holds. Final.
    Verified,
    /// It happened, and a check after it does not hold, or nobody could tell: a person must look.
    VerifyFailed,
    /// It happened, and is being taken back.
    Compensating,
    /// It happened and was taken back. Final.
    Compensated,
    /// It happened and could not be taken back: a person must look.
    CompensationFailed,
    /// Somebody or policy said no. Final.
    Denied,
    /// Nobody decided in time, which is a no. Final.
    Expired,
    /// Its permit ran out or was overtaken. Final; the lineage may be proposed again.
    Void,
    /// An edit or a modification took its place. Final.
    Superseded,
}

impl State {
    /// Whether nothing can lead out of it towards an effect.
    #[must_use]
    pub fn is_final(self) -> bool {
        self.has_happened() || matches!(self, Self::Denied | Self::Expired | Self::Void | Self::Superseded)
    }

    /// Whether an effect was begun.
    #[must_use]
    pub fn is_started(self) -> bool {
        self.has_happened() || matches!(self, Self::Started | Self::Failed | Self::Unknown)
    }

    /// Whether the effect happened, whatever became of it later.
    #[must_use]
    pub fn has_happened(self) -> bool {
        matches!(
            self,
            Self::Done
                | Self::Verified
                | Self::VerifyFailed
                | Self::Compensating
                | Self::Compensated
                | Self::CompensationFailed
        )
    }

    /// Whether somebody still has something to do before an effect.
    #[must_use]
    pub fn is_open(self) -> bool {
        !self.is_final() && !self.is_started()
    }
}

/// What kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialKind {
    /// An agent, class, site or everything was stopped.
    Kill,
    /// A lineage was vetoed.
    Veto,
    /// A person voted no.
    Vote,
    /// A coordinator's evaluation.
    Policy,
    /// An earlier step of its saga will not be done, or was taken back.
    Saga,
}

/// One no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// What kind.
    pub kind: DenialKind,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, milliseconds since the Unix epoch, as its signer says.
    pub at_ms: u64,
}

impl Denial {
    /// Whether it makes people look at what was begun, and was finished at that time.
    pub(super) fn contests(&self, finished_ms: Option<u64>) -> bool {
        match self.kind {
            DenialKind::Kill => finished_ms.is_none_or(|ms| self.at_ms <= ms),
            // Its owner takes it back by itself.
            DenialKind::Saga => false,
            DenialKind::Veto | DenialKind::Vote | DenialKind::Policy => true,
        }
    }
}

/// A proposal's state with what explains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The proposal.
    pub id: FactId,
    /// Its lineage.
    pub lineage: FactId,
    /// Where it stands.
    pub state: State,
    /// A no arrived after the start.
    pub contested: bool,
    /// The effect has left by its own time limit.
    pub ended: bool,
    /// Seats filled and missing, while people decide.
    pub quorum: Option<Fill>,
    /// When it lapses, milliseconds since the Unix epoch.
    pub deadline_ms: u64,
    /// The decision that governs it.
    pub decision: Option<FactId>,
    /// The permit in force.
    pub permit: Option<FactId>,
    /// The start.
    pub started: Option<FactId>,
    /// The child that took its place.
    pub superseded_by: Option<FactId>,
    /// Every no.
    pub denials: Vec<Denial>,
    /// Sentences: why it stands there, or what it waits for.
    pub why: Vec<String>,
}

impl Ledger {
    /// The status of one proposal at `now_ms`.
    #[must_use]
    pub fn status(&self, id: &FactId, authority: &Authority, now_ms: u64) -> Option<Status> {
        self.status_under(id, authority, now_ms, false)
    }

    /// The same, and at a site that is isolated without what its own people lifted.
    #[must_use]
    pub fn status_under(&self, id: &FactId, authority: &Authority, now_ms: u64, isolated: bool) -> Option<Status> {
        let p = self.proposals.get(id)?;
        let mut status = Status {
            id: *id,
            lineage: p.body.lineage(*id),
            state: State::Proposed,
            contested: false,
            ended: false,
            quorum: None,
            deadline_ms: self.deadline_ms(p, authority),
            decision: None,
            permit: None,
            started: None,
            superseded_by: None,
            denials: if isolated { self.denials_alone(p, authority) } else { self.denials(p, authority) },
            why: Vec::new(),
        };
        let settled = self.fold_read(p, &mut status)
            || self.fold_starts(p, authority, &mut status)
            || self.fold_denials(p, authority, &mut status)
            || self.fold_time(p, authority, now_ms, &mut status);
        if !settled {
            self.fold_progress(p, authority, now_ms, &mut status);
        }
        Some(status)
    }

    /// Every proposal's status.
    #[must_use]
    pub fn statuses(&self, authority: &Authority, now_ms: u64) -> Vec<Status> {
        self.proposals.keys().filter_map(|id| self.status(id, authority, now_ms)).collect()
    }

    /// Proposals that somebody still has to do something about.
    #[must_use]
    pub fn open(&self, authority: &Authority, now_ms: u64) -> Vec<Status> {
        self.statuses(authority, now_ms).into_iter().filter(|s| s.state.is_open()).collect()
    }

    /// Proposals that wait for people.
    #[must_use]
    pub fn waiting_approvals(&self, authority: &Authority, now_ms: u64) -> Vec<Status> {
        self.statuses(authority, now_ms).into_iter().filter(|s| s.state == State::PendingApproval).collect()
    }

    /// For whom a proposal is made: by its session, or by that of what it came from.
    #[must_use]
    pub fn requester(&self, p: &Recorded<Proposal>) -> Requester {
        let said = self.ancestors(p).map(|a| Requester::of(&a.body)).find(|r| r.principal.is_some());
        said.unwrap_or_else(|| Requester::of(&p.body))
    }

    /// Intents on a resource that are open, begun or done: proposing one again would change nothing.
    #[must_use]
    pub fn intents_on(&self, resource: &str, authority: &Authority, now_ms: u64) -> BTreeSet<String> {
        let here = self.proposals.values().filter(|p| p.body.resource == resource);
        let taken = here.filter(|p| {
            let state = self.status(&p.id, authority, now_ms).map(|s| s.state);
            state.is_some_and(|s| s.is_open() || s.is_started()) || self.used_by(p, authority, None).is_some()
        });
        taken.map(|p| p.body.intent_key.clone()).collect()
    }

    fn fold_read(&self, p: &Recorded<Proposal>, status: &mut Status) -> bool {
        let Some(read) = self.read(&p.id) else { return false };
        let rules = read.body.rules.join("; ");
        let (state, why) = match (&read.body.result, &read.body.problem) {
            _ if read.body.outcome != Outcome::Allow => (State::Denied, format!("denied by policy: {rules}")),
            (Some(result), None) => (State::Done, format!("read {} bytes: {rules}", result.len)),
            (_, problem) => {
                (State::Failed, format!("nothing was read: {}", problem.as_deref().unwrap_or("no reason is given")))
            }
        };
        status.state = state;
        status.why.push(why);
        true
    }

    fn fold_starts(&self, p: &Recorded<Proposal>, authority: &Authority, status: &mut Status) -> bool {
        let strongest = self.starts_of(&p.id, authority).map(|start| {
            let reports = self.reports_on(&start.id);
            let (mut state, mut ended, mut why) = (State::Started, false, "its owner began".to_owned());
            for report in reports {
                let (found, _) = report.body.found();
                ended |= matches!(report.body, Report::Ended(_));
                if certainty(found) >= certainty(state) {
                    (state, why) = (found, report.body.says());
                }
            }
            if state == State::Started && is_gone(&start.header, authority) {
                (state, why) =
                    (State::Unknown, "its owner began a new life or was cut before the outcome was written".into());
            }
            if let Some(word) = self.word_on(start, authority) {
                let said = if word.happened { State::Done } else { State::Failed };
                if certainty(said) >= certainty(state) {
                    (state, why) = (said, word.says());
                }
            }
            (exposure(state), start.id, state, ended, why)
        });
        let Some((_, started, state, ended, why)) = strongest.max() else { return false };
        let finished_ms = self.finished_ms(&started);
        status.contested = status.denials.iter().any(|denial| denial.contests(finished_ms));
        (status.started, status.state, status.ended) = (Some(started), state, ended);
        status.why.push(why);
        if status.contested {
            status.why.push("a no arrived after the start: people must look at it".into());
        }
        true
    }

    fn fold_denials(&self, p: &Recorded<Proposal>, authority: &Authority, status: &mut Status) -> bool {
        if let Some(orphan) = self.permits_on(&p.id).find(|permit| self.is_orphaned(permit, authority)) {
            (status.state, status.permit) = (State::Unknown, Some(orphan.id));
            status.contested = !status.denials.is_empty();
            status.why.push("its owner began a new life or was cut; whether it used the permit is not known".into());
            return true;
        }
        if status.denials.is_empty() {
            return false;
        }
        status.state = State::Denied;
        status.why = status.denials.iter().map(|d| with_reason(format!("denied by {}", d.by), &d.why)).collect();
        true
    }

    fn fold_time(&self, p: &Recorded<Proposal>, authority: &Authority, now_ms: u64, status: &mut Status) -> bool {
        if now_ms > status.deadline_ms {
            status.state = State::Expired;
            status.why.push(format!("nothing was started by {}", rfc3339(status.deadline_ms)));
            return true;
        }
        for permit in self.permits_on(&p.id).filter(|permit| self.is_backed(permit, authority)) {
            if let Some(why) = self.void_reason(p, permit, authority, now_ms) {
                (status.state, status.permit) = (State::Void, Some(permit.id));
                status.why.push(why);
                return true;
            }
        }
        false
    }

    fn fold_progress(&self, p: &Recorded<Proposal>, authority: &Authority, now_ms: u64, status: &mut Status) {
        if let Some(abort) = self.aborted(&p.body.lineage(p.id), authority) {
            status.state = State::Denied;
            status.why.push(format!("its owner will not do it: {}", abort.body.reason));
            return;
        }
        // Before whether it counts: it stays superseded when its author is cut later.
        if let Some(child) = self.superseded_by(&p.id, authority) {
            (status.state, status.superseded_by) = (State::Superseded, Some(child));
            status.why.push(format!("{} took its place", child.short()));
            return;
        }
        if let Err(why) = self.proposal_counts(p, authority) {
            status.why.push(why);
            return;
        }
        if let Some(permit) = self.permits_on(&p.id).find(|permit| self.is_live(p, permit, authority, now_ms)) {
            (status.state, status.permit) = (State::Permitted, Some(permit.id));
            status.decision = Some(permit.body.decision);
            let (by, waits) = (rfc3339(permit.body.execute_by_ms), self.says_coordinators(status, authority));
            status.why.push(waits.unwrap_or_else(|| format!("waits for its owner to judge and start it by {by}")));
            return;
        }
        let candidates = self.governing(p, authority);
        let Some(first) = candidates.first() else {
            status.why.push("waits for a coordinator to judge it".into());
            return;
        };
        status.decision = Some(first.id);
        match first.body.outcome {
            Outcome::Allow if first.body.obligations.veto.is_none() => self.approved(p, first, authority, status),
            Outcome::Allow | Outcome::StepUp => self.fold_quorum(p, &candidates, authority, now_ms, status),
            Outcome::Modify => {
                status.state = State::Evaluated;
                status.why.push(format!("policy asks for other arguments: {}", first.body.rules.join("; ")));
            }
            Outcome::Defer => {
                status.state = State::Deferred;
                status.why.push(format!("deferred: {}", first.body.rules.join("; ")));
            }
            Outcome::Deny => unreachable!("a denial was folded before"),
        }
    }

    fn fold_quorum(
        &self,
        p: &Recorded<Proposal>,
        candidates: &[&Recorded<Decision>],
        authority: &Authority,
        now_ms: u64,
        status: &mut Status,
    ) {
        let fills = candidates.iter().map(|d| (self.quorum(p, &d.body, authority, now_ms), *d));
        let Some((best, decision)) = fills.max_by_key(|(f, d)| (f.is_complete(), f.filled, d.id)) else { return };
        status.decision = Some(decision.id);
        if best.is_complete() {
            match self.awaits_silence(p, decision, authority) {
                None => self.approved(p, decision, authority, status),
                Some((until_ms, groups)) => {
                    status.state = State::VetoWindow;
                    let until = rfc3339(until_ms);
                    status.why.push(format!("allowed unless somebody of {groups} objects until {until}, and a coordinator says that nobody did"));
                }
            }
        } else {
            status.state = State::PendingApproval;
            let groups: Vec<&str> = best.missing.iter().map(String::as_str).collect();
            let (filled, needed, by) = (best.filled, best.needed, rfc3339(status.deadline_ms));
            status.why.push(format!("{filled} of {needed} approvals; waits for {} by {by}", groups.join(", ")));
        }
        status.quorum = Some(best);
    }

    fn approved(
        &self,
        p: &Recorded<Proposal>,
        decision: &Recorded<Decision>,
        authority: &Authority,
        status: &mut Status,
    ) {
        (status.state, status.decision) = (State::Approved, Some(decision.id));
        let step = self.awaits_step(p, authority).or_else(|| self.says_coordinators(status, authority));
        status.why.push(match (self.used_by(p, authority, None), step) {
            (Some(why), _) => format!("approved, and no permit will come: {why}"),
            (None, Some(awaits)) => format!("approved; {awaits}"),
            (None, None) => "approved; waits for a coordinator's permit".to_owned(),
        });
    }

    /// When what was begun was over and done with, by the report that is surest of it.
    pub(super) fn finished_ms(&self, started: &FactId) -> Option<u64> {
        let mut finished = (0, None);
        for (found, at_ms) in self.reports_on(started).map(|report| report.body.found()) {
            if (finished.0..=certainty(State::Done)).contains(&certainty(found)) {
                finished = (certainty(found), Some(at_ms));
            }
        }
        finished.1
    }

    /// Every no that has arrived.
    #[must_use]
    pub fn denials(&self, p: &Recorded<Proposal>, authority: &Authority) -> Vec<Denial> {
        self.denials_but(p, authority, |_, _| false)
    }

    /// Every no but those of the orders that were `lifted`.
    pub(super) fn denials_but(
        &self,
        p: &Recorded<Proposal>,
        authority: &Authority,
        lifted: impl Fn(&Recorded<Restriction>, &Order) -> bool,
    ) -> Vec<Denial> {
        if planted::active("deny-not-final") && self.permits_on(&p.id).next().is_some() {
            return Vec::new();
        }
        let orders = self.restrictions_on(p, authority).filter(|(r, order)| !lifted(r, order));
        let orders = orders.map(|(_, order)| Denial {
            kind: if matches!(order.target, Target::Lineage(_)) { DenialKind::Veto } else { DenialKind::Kill },
            by: order.by,
            why: order.reason,
            at_ms: order.issued_ms,
        });
        let votes = self.votes_on(&p.id).filter_map(|v| v.verify(authority).ok());
        let votes = votes.filter(|v| v.statement.choice == Choice::Deny).map(|v| Denial {
            kind: DenialKind::Vote,
            by: v.statement.person,
            why: v.statement.reason,
            at_ms: v.statement.issued_ms,
        });
        let decisions = self.decisions_on(&p.id).filter(|d| d.body.outcome == Outcome::Deny);
        let decisions = decisions.filter(|d| self.decision_restricts(p, d, authority)).map(|d| Denial {
            kind: DenialKind::Policy,
            by: authority.member(&d.header.author).map_or_else(String::new, |m| m.spiffe_id.to_string()),
            why: d.body.rules.join("; "),
            at_ms: d.body.decided_ms,
        });
        // What was given up before anything else was taken back because of it is not denied by that.
        let first = self.aborted(&p.body.lineage(p.id), authority).is_none();
        let other = first.then(|| self.over(p, authority)).flatten().map(|(_, by, why)| Denial {
            kind: DenialKind::Saga,
            by: authority.member(&by.author).map_or_else(String::new, |m| m.spiffe_id.to_string()),
            why,
            at_ms: by.wall_ms(),
        });
        orders.chain(votes).chain(decisions).chain(other).collect()
    }
}

/// Which report holds when there are several: a probe may turn unknown into failed or done, what was done may be taken back, also
/// at a second try, and nothing undoes done.
fn certainty(state: State) -> u8 {
    match state {
        State::Compensated => 8,
        State::CompensationFailed => 7,
        State::Compensating => 6,
        State::VerifyFailed => 5,
        State::Verified => 4,
        State::Done => 3,
        State::Failed => 2,
        State::Unknown => 1,
        _ => 0,
    }
}

/// Which of several starts a proposal shows: the one that may have had an effect.
fn exposure(state: State) -> u8 {
    match state {
        state if state.has_happened() => 3,
        State::Unknown => 2,
        State::Started => 1,
        _ => 0,
    }
}
