//! After an effect: the checks that its permit asks for, and taking it back where one does not hold or somebody asks.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{
    Checked, Compensated, Compensating, CompensationFailed, KIND_COMPENSATING, Started, Verified,
};
use cauldron_coordinator::ledger::{Recorded, Report};
use cauldron_coordinator::owner;
use cauldron_identity::FactId;
use cauldron_identity::codec::to_cbor;

use crate::core::NodeCore;
use crate::input::{EffectResult, Output, Refusal, Reply};

/// Nothing takes it back, or not any more.
const NO_UNDO: &str = "no_undo";

/// What this process still has to do about effects, by permit.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// Done, and not settled.
    open: BTreeSet<FactId>,
    /// Whose checks were asked in this process.
    checking: BTreeSet<FactId>,
    /// Whose undo was handed out in this process.
    undoing: BTreeSet<FactId>,
}

impl Aftermath {
    /// The effect of a permit is done.
    pub(crate) fn look_at(&mut self, permit: FactId) {
        self.open.insert(permit);
    }

    /// Whether something may still have to be done about it.
    #[cfg(test)]
    pub(crate) fn is_open(&self, permit: &FactId) -> bool {
        self.open.contains(permit)
    }
}

/// What comes next for an effect.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Check(Vec<String>),
    TakeBack(String),
    /// Of the saga that it is a step of.
    RollBack(String),
    Undo,
    Nothing,
}

impl NodeCore {
    /// After a restart: what was done and not settled.
    pub(crate) fn recall_aftermath(&mut self) {
        let mine = |s: &&Recorded<Started>| s.header.author == self.me && s.header.incarnation == self.incarnation;
        let open = self.ledger.starts().filter(mine).filter(|s| self.next_of(s) != Next::Nothing);
        self.work.aftermath.open = open.map(|s| s.body.permit).collect();
    }

    fn next_of(&self, start: &Recorded<Started>) -> Next {
        // Whoever said so has looked: nothing more is checked.
        let by_word = self.happened_by_word(start) == Some(true);
        let (mut done, mut verified, mut refuted) = (by_word, by_word, None);
        let (mut begun, mut ended) = (0u32, 0u32);
        for report in self.ledger.reports_on(&start.id).filter(|r| r.header.author == self.me) {
            match &report.body {
                Report::Done(_) => done = true,
                Report::Ended(_) | Report::Compensated(_) => return Next::Nothing,
                Report::Verified(_) => verified = true,
                Report::VerifyFailed(checks) => {
                    verified = true;
                    refuted = checks.is_refuted().then(|| checks.says()).or(refuted);
                }
                // It was begun on a person's word, perhaps, and goes on without.
                Report::Compensating(_) => (done, verified, begun) = (true, true, begun + 1),
                Report::CompensationFailed(_) => (done, verified, ended) = (true, true, ended + 1),
                Report::Failed(_) | Report::Unknown(_) => {}
            }
        }
        let names = || self.ledger.permit(&start.body.permit).map(|p| p.body.post_checks.clone()).unwrap_or_default();
        if done
            && (begun, ended) == (0, 0)
            && refuted.is_none()
            && let Some(why) = self.rolls_back(start)
        {
            return Next::RollBack(why);
        }
        match refuted {
            _ if !done => Next::Nothing,
            _ if begun > ended => Next::Undo,
            Some(why) if begun == 0 => Next::TakeBack(why),
            None if !verified && begun == 0 && !names().is_empty() => Next::Check(names()),
            _ => Next::Nothing,
        }
    }

    /// Asks for checks, and takes back what they refute.
    pub(crate) fn tend_aftermath(&mut self) {
        if self.work.aftermath.open.is_empty() || self.may_write().is_err() {
            return;
        }
        for permit in self.work.aftermath.open.clone() {
            if self.work.reports.iter().any(|(waiting, _)| *waiting == permit) {
                continue;
            }
            let Some(start) = self.start_of(&permit).cloned() else { continue };
            match self.next_of(&start) {
                Next::Check(names) => self.ask_checks(&start, names),
                Next::TakeBack(why) => {
                    let reason = format!("a check does not hold: {why}");
                    if let Err(why) = self.begin_undo(&start, None, reason) {
                        // Nothing takes it back: it stays unverified, and a person looks.
                        self.work.aftermath.open.remove(&permit);
                        self.count_refusal(why.code, why.reason);
                    }
                }
                Next::RollBack(reason) => match self.begin_undo(&start, None, reason.clone()) {
                    Ok(_) => {}
                    Err(why) if why.code == NO_UNDO => self.stuck(&start, format!("{reason}; {}", why.reason)),
                    // Tried again with the next input.
                    Err(why) => self.count_refusal(why.code, why.reason),
                },
                Next::Undo => self.hand_out_undo(&start),
                Next::Nothing => {
                    self.work.aftermath.open.remove(&permit);
                }
            }
        }
    }

    fn ask_checks(&mut self, start: &Recorded<Started>, names: Vec<String>) {
        let Some(operation) = self.ledger.proposal(&start.body.proposal).map(|p| p.body.operation.clone()) else {
            return;
        };
        if self.work.aftermath.checking.insert(start.body.permit) {
            let (permit, idempotency_key) = (start.body.permit, start.body.idempotency_key.clone());
            self.outputs.push_back(Output::Check { permit, operation, idempotency_key, names });
        }
    }

    /// Durable before the undo: whoever reads on knows that it may have happened.
    fn begin_undo(&mut self, start: &Recorded<Started>, by: Option<String>, reason: String) -> Result<FactId, Refusal> {
        // Before anything is written: what cannot be taken back is not begun.
        owner::take_back(&start.id, &self.bench(None)).map_err(|why| Refusal::new(NO_UNDO, why)).map(drop)?;
        let body = Compensating { started: start.id, by, reason, at_ms: self.now.wall_ms };
        let (scope, trace) = (start.header.scope.clone(), start.header.traceparent.clone());
        let fact = self.append(scope, KIND_COMPENSATING, vec![start.id], to_cbor(&body), trace)?;
        self.work.aftermath.open.insert(start.body.permit);
        self.dirty = true;
        Ok(fact.id())
    }

    fn hand_out_undo(&mut self, start: &Recorded<Started>) {
        let permit = start.body.permit;
        if self.work.aftermath.undoing.contains(&permit) {
            return;
        }
        match owner::take_back(&start.id, &self.bench(None)) {
            Ok(undo) => {
                self.work.aftermath.undoing.insert(permit);
                self.outputs.push_back(Output::Undo(Box::new(undo)));
            }
            Err(reason) => self.undone(permit, EffectResult::failed(reason)),
        }
    }

    pub(crate) fn checked(&mut self, permit: FactId, checks: Vec<Checked>) {
        let Some(start) = self.start_of(&permit) else { return };
        if !self.work.aftermath.checking.contains(&permit) || !matches!(self.next_of(start), Next::Check(_)) {
            return;
        }
        let verified = Verified { started: start.id, checks, at_ms: self.now.wall_ms };
        let report = if verified.holds() { Report::Verified(verified) } else { Report::VerifyFailed(verified) };
        self.work.reports.push((permit, report));
        self.report();
    }

    pub(crate) fn undone(&mut self, permit: FactId, result: EffectResult) {
        let Some(start) = self.start_of(&permit) else { return };
        // An answer that nobody waited for any more still says that it was taken back.
        let late = matches!(result, EffectResult::Done(_)) && self.is_given_up(start);
        if self.next_of(start) != Next::Undo && !late {
            return;
        }
        let (started, at_ms) = (start.id, self.now.wall_ms);
        let failed = |reason| Report::CompensationFailed(CompensationFailed { started, reason, at_ms });
        let report = match result {
            EffectResult::Done(happened) => Report::Compensated(Compensated {
                started,
                effect_ref: happened.effect_ref,
                after_version: happened.after_version,
                at_ms,
            }),
            EffectResult::Failed { reason, .. } => failed(reason),
            EffectResult::Unknown { reason, .. } => failed(format!("it is not known whether it happened: {reason}")),
        };
        self.work.aftermath.undoing.remove(&permit);
        self.work.reports.push((permit, report));
        self.report();
    }

    /// Taking it back was begun, and nobody knows that it happened.
    fn is_given_up(&self, start: &Recorded<Started>) -> bool {
        let has = |of: fn(&Report) -> bool| self.ledger.reports_on(&start.id).any(|r| of(&r.body));
        has(|r| matches!(r, Report::CompensationFailed(_))) && !has(|r| matches!(r, Report::Compensated(_)))
    }

    /// Somebody at this node wants an effect back.
    pub(crate) fn undo_asked(
        &mut self,
        proposal: &FactId,
        by: String,
        reason: String,
        out_of_turn: bool,
    ) -> Result<Reply, Refusal> {
        let Some(p) = self.ledger.proposal(proposal) else {
            return Err(Refusal::new("unknown_proposal", "no such proposal is here; ask a node of its site"));
        };
        let owner = self.ledger.owner_of(&p.body.resource, &self.authority);
        if let Some(owner) = owner.filter(|owner| owner.author != self.me) {
            return Err(Refusal::new("not_owner", format!("{} did it; ask there", owner.spiffe_id)));
        }
        let done = |s: &&Recorded<Started>| {
            let mut reports = self.ledger.reports_on(&s.id);
            s.header.author == self.me
                && (reports.any(|r| matches!(r.body, Report::Done(_))) || self.happened_by_word(s) == Some(true))
        };
        let start = self.ledger.starts_of(proposal, &self.authority).find(done).cloned();
        let Some(start) = start else {
            return Err(Refusal::new(
                "not_done",
                "it is not done, so there is nothing to take back; `cauldron why` says more",
            ));
        };
        // Whether or not it was begun: nobody is left who goes on with it.
        if start.header.incarnation != self.incarnation {
            let sentence = format!(
                "a past life of this node did it, and no later one takes it back: mend it by hand; where it calls people, say so with `cauldron break-glass review {}`",
                proposal.short()
            );
            return Err(Refusal::new(NO_UNDO, sentence));
        }
        if self.next_of(&start) == Next::Undo {
            let begun = self.ledger.reports_on(&start.id).find(|r| matches!(r.body, Report::Compensating(_)));
            return Ok(Reply::Already(begun.map_or(start.id, |r| r.id)));
        }
        // In reverse order: what was done on top of it comes off first.
        let behind =
            self.ledger.proposal(&start.body.lineage).and_then(|p| self.ledger.stands_behind(p, &self.authority));
        if let Some((n, step)) = behind.filter(|_| !out_of_turn) {
            let (short, at) = (step.id.short(), &step.body.resource);
            let sentence = format!(
                "step {n} of its saga ({short} on {at}) stands behind it: take that back, and this follows by itself; or take this back first all the same, out of turn"
            );
            return Err(Refusal::new("later_step", sentence));
        }
        self.begin_undo(&start, Some(by), reason).map(Reply::Recorded)
    }
}
