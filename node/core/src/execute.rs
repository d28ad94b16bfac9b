//! The owner's hands: permits judged again, started, executed once, and told of.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{Done, Ended, Failed, KIND_STARTED, Started, Unknown};
use cauldron_coordinator::lease::LeaseAge;
use cauldron_coordinator::ledger::{Recorded, Report};
use cauldron_coordinator::owner::{self, Bench, Me, Verdict, VerifiedPermit};
use cauldron_coordinator::planted;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId};

use crate::core::NodeCore;
use crate::input::{EffectResult, Event, Happened, Output, Probe};

/// What a node's own facts say of something that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing yet.
    None,
    /// It was done, and nothing says that it is over.
    Stands {
        /// When it ends by itself, milliseconds since the Unix epoch.
        until_ms: Option<u64>,
    },
    /// Nobody knows, as far as is written.
    Unknown,
    /// It ended, failed, or was or is being taken back.
    Over,
}

impl NodeCore {
    /// Uses what was permitted to this node, after judging it again.
    pub(crate) fn own(&mut self) {
        if self.may_write().is_err() {
            return;
        }
        let open = self.open_permits();
        let work = &mut self.work;
        work.versions.keep(|permit| open.contains(permit) || work.absent.contains(permit));
        for id in open {
            let old = self.work.old_permits.contains(&id);
            if old && !self.life.is_confirmed() {
                self.work.verdicts.insert(id, "waits until a peer has confirmed this node's own heads".into());
                continue;
            }
            let Some(version) = self.version_for(&id) else { continue };
            match owner::judge(&id, &self.bench(version.as_deref())) {
                Verdict::Execute(permit) => self.start_with_rights(permit),
                Verdict::Wait { why } => {
                    self.work.verdicts.insert(id, why);
                }
                verdict @ (Verdict::Refuse { .. } | Verdict::Void { .. }) => {
                    if matches!(verdict, Verdict::Void { .. }) {
                        self.release_rights(&id);
                    }
                    let (Verdict::Refuse { code, why } | Verdict::Void { code, why }) = verdict else { continue };
                    self.work.verdicts.insert(id, why.clone());
                    if self.work.codes.insert(id, code) != Some(code) {
                        tell_refused(self, id, code, &why);
                    }
                }
            }
        }
    }

    /// Permits for this node, in this life, that it has not started.
    fn open_permits(&self) -> Vec<FactId> {
        let mine = self.ledger.unstarted(&self.me, self.now.wall_ms);
        // In the order of their ids, whatever their times are.
        let mine: BTreeSet<FactId> = mine.filter(|p| p.body.incarnation == self.incarnation).map(|p| p.id).collect();
        mine.into_iter().collect()
    }

    pub(crate) fn bench<'a>(&'a self, version: Option<&'a str>) -> Bench<'a> {
        Bench {
            ledger: &self.ledger,
            authority: &self.authority,
            engine: self.policy.engine.as_ref(),
            clock: &self.now,
            lease: self.lease_age(),
            budgets: &self.work.rights.seen,
            me: Me {
                author: self.me,
                incarnation: self.incarnation,
                spiffe_id: &self.spiffe_id,
                resource_version: version,
                hands: &self.hands,
            },
        }
    }

    /// A mesh coordinator is where leases come from: it needs none.
    pub(crate) fn lease_age(&self) -> LeaseAge {
        if self.role.is_mesh_coordinator() { LeaseAge::Ms(0) } else { self.lease.age(&self.now) }
    }

    /// Nothing is started before what it takes is set aside.
    fn start_with_rights(&mut self, permit: Box<VerifiedPermit>) {
        match self.reserve_for(&permit) {
            Err(why) if !planted::active("start-unreserved") => {
                self.work.verdicts.insert(permit.permit(), why);
                self.wake_with_the_next_window();
            }
            _ => self.start(permit),
        }
    }

    /// Durable before the effect: from here on the lineage is used.
    pub(crate) fn start(&mut self, permit: Box<VerifiedPermit>) {
        let Some(recorded) = self.ledger.permit(&permit.permit()) else { return };
        let (scope, id) = (recorded.header.scope.clone(), recorded.id);
        let trace = recorded.header.traceparent.clone();
        let started = permit.started(self.ledger.next_owner_seq(&self.me), self.now.wall_ms);
        self.work.verdicts.remove(&id);
        if planted::active("effect-before-started") {
            self.outputs.push_back(Output::Execute(permit));
            if let Ok(start) = self.append(scope, KIND_STARTED, vec![id], to_cbor(&started), trace) {
                self.work.line.moved(start.id());
            }
            return;
        }
        match self.append(scope, KIND_STARTED, vec![id], to_cbor(&started), trace) {
            Ok(start) => {
                self.work.line.moved(start.id());
                self.tell_own(&permit);
                self.outputs.push_back(Output::Execute(permit));
            }
            Err(why) => self.count_refusal(why.code, why.reason),
        }
    }

    /// After a restart: what became of a start without outcome, and whether what was done still stands, is the connector's
    /// to see. The process may have died between an effect's end and the fact that says so.
    pub(crate) fn probe_started(&mut self) {
        let mine = |s: &&Recorded<Started>| s.header.author == self.me && s.header.incarnation == self.incarnation;
        let unsettled = self.ledger.starts().filter(mine).filter(|s| match self.outcome(&s.id) {
            Outcome::None | Outcome::Unknown => true,
            Outcome::Stands { .. } => !planted::active("end-not-probed"),
            Outcome::Over => false,
        });
        let unsettled: Vec<(FactId, FactId, String)> =
            unsettled.map(|s| (s.body.permit, s.body.proposal, s.body.idempotency_key.clone())).collect();
        self.recall_aftermath();
        for (permit, proposal, idempotency_key) in unsettled {
            let Some(operation) = self.ledger.proposal(&proposal).map(|p| p.body.operation.clone()) else { continue };
            self.outputs.push_back(Output::Probe { permit, operation, idempotency_key });
        }
    }

    /// What this node's own facts say of a start, also those that still wait to be written.
    fn outcome(&self, started: &FactId) -> Outcome {
        let told = self.ledger.reports_on(started).filter(|r| r.header.author == self.me).map(|r| &r.body);
        let waiting = self.work.reports.iter().map(|(_, report)| report).filter(|r| r.started() == *started);
        let (mut stands, mut failed, mut unknown) = (None, false, false);
        for report in told.chain(waiting) {
            match report {
                Report::Ended(_) | Report::Compensating(_) | Report::Compensated(_) | Report::CompensationFailed(_) => {
                    return Outcome::Over;
                }
                Report::Done(done) => stands = Some(done.until_ms),
                Report::Failed(_) => failed = true,
                Report::Unknown(_) => unknown = true,
                Report::Verified(_) | Report::VerifyFailed(_) => {}
            }
        }
        match stands {
            Some(until_ms) => Outcome::Stands { until_ms },
            None if failed => Outcome::Over,
            None if unknown => Outcome::Unknown,
            None => Outcome::None,
        }
    }

    pub(crate) fn executed(&mut self, permit: FactId, result: EffectResult) {
        let Some(started) = self.start_of(&permit).map(|s| s.id) else { return };
        let now_ms = self.now.wall_ms;
        let report = match result {
            EffectResult::Done(happened) => Report::Done(Done {
                started,
                effect_ref: happened.effect_ref,
                result_digest: Digest::of("cauldron/result/v1", &happened.note),
                before_version: happened.before_version,
                after_version: happened.after_version,
                until_ms: happened.until_ms,
                done_ms: now_ms,
                labels: happened.labels,
            }),
            EffectResult::Failed { reason, labels } => {
                Report::Failed(Failed { started, probed_no_effect: true, reason, failed_ms: now_ms, labels })
            }
            EffectResult::Unknown { reason, labels } => {
                Report::Unknown(Unknown { started, reason, noticed_ms: now_ms, labels })
            }
        };
        self.work.reports.push((permit, report));
        self.report();
    }

    pub(crate) fn probed(&mut self, permit: FactId, probe: Probe) {
        let Some(started) = self.start_of(&permit).map(|s| s.id) else { return };
        match self.outcome(&started) {
            Outcome::None => {}
            Outcome::Stands { until_ms } => return self.probed_done(permit, until_ms, probe),
            // What is not there may still be on its way; only what is there says something.
            Outcome::Unknown if matches!(probe, Probe::Applied | Probe::Ended) => {}
            Outcome::Unknown | Outcome::Over => return,
        }
        let failed = |reason: String, now_ms| {
            let labels = Vec::new();
            Report::Failed(Failed { started, probed_no_effect: true, reason, failed_ms: now_ms, labels })
        };
        let now_ms = self.now.wall_ms;
        let report = match probe {
            Probe::Applied | Probe::Ended => {
                let effect_ref = self.resource_of(&permit);
                let note = b"the probe after a restart found the effect".to_vec();
                let found = Happened { effect_ref, note, ..Happened::default() };
                self.executed(permit, found.into());
                if probe == Probe::Ended {
                    self.over(permit);
                }
                return;
            }
            Probe::Unclear => {
                let reason = "the process died after the start, and the connector cannot tell".to_owned();
                Report::Unknown(Unknown { started, reason, noticed_ms: now_ms, labels: Vec::new() })
            }
            Probe::Absent => match self.resume(&permit, &started) {
                Verdict::Execute(verified) => {
                    // It was set aside before the start; used only once a peer has confirmed what became of it.
                    match self.reserve_for(&verified) {
                        Ok(()) => self.outputs.push_back(Output::Execute(verified)),
                        Err(why) => {
                            self.work.verdicts.insert(permit, why);
                            self.work.absent.insert(permit);
                        }
                    }
                    return;
                }
                // What it waits for may still arrive: asked again with the next input, until the permit is over.
                Verdict::Wait { why } => {
                    self.work.verdicts.insert(permit, why);
                    self.work.absent.insert(permit);
                    return;
                }
                // Freshness and policy come back after a reboot; the permit's own time bounds the wait.
                Verdict::Refuse { code: owner::Code::Isolated | owner::Code::NoPolicy, why } => {
                    self.work.verdicts.insert(permit, why);
                    self.work.absent.insert(permit);
                    return;
                }
                Verdict::Refuse { why, .. } | Verdict::Void { why, .. } => {
                    failed(format!("not resumed after a restart: {why}"), now_ms)
                }
            },
        };
        self.work.reports.push((permit, report));
        self.report();
    }

    fn resume(&mut self, permit: &FactId, started: &FactId) -> Verdict {
        match self.version_for(permit) {
            Some(version) => owner::resume(started, &self.bench(version.as_deref()), owner::Probe::Absent),
            None => Verdict::Wait { why: self.work.verdicts.get(permit).cloned().unwrap_or_default() },
        }
    }

    /// What was done was probed after a restart: is it over? An effect that left without a trace (somebody took the line
    /// out) is over when its time is.
    fn probed_done(&mut self, permit: FactId, until_ms: Option<u64>, probe: Probe) {
        let due = self.wall_is_known() && until_ms.is_some_and(|until| until <= self.now.wall_ms);
        if probe == Probe::Ended || (probe == Probe::Absent && due) {
            self.over(permit);
        }
    }

    /// Tries again to resume starts that a probe found without effect.
    pub(crate) fn resume_absent(&mut self) {
        if self.may_write().is_err() {
            return;
        }
        for permit in std::mem::take(&mut self.work.absent) {
            self.probed(permit, Probe::Absent);
        }
    }

    /// The effect of a permit left. One that other permits for the same intent found in place is over for them too.
    pub(crate) fn ended(&mut self, permit: FactId) {
        let Some(key) = self.start_of(&permit).map(|s| s.body.idempotency_key.clone()) else { return };
        let stands = |s: &&Recorded<Started>| {
            s.body.idempotency_key == key && matches!(self.outcome(&s.id), Outcome::Stands { .. })
        };
        let with_it: Vec<FactId> = self.ledger.starts_by(&self.me).filter(stands).map(|s| s.body.permit).collect();
        self.probed(permit, Probe::Ended);
        with_it.into_iter().for_each(|permit| self.over(permit));
    }

    /// Says that an effect is over, once: a sweep and a probe may both have seen it.
    fn over(&mut self, permit: FactId) {
        let Some(start) = self.start_of(&permit) else { return };
        let (started, effect_ref) = (start.id, start.body.resource.clone());
        if self.outcome(&started) == Outcome::Over {
            return;
        }
        let report = Report::Ended(Ended { started, effect_ref, ended_ms: self.now.wall_ms });
        self.work.reports.push((permit, report));
        self.report();
    }

    /// Writes what the connectors said, as soon as this node may write.
    pub(crate) fn report(&mut self) {
        if self.may_write().is_err() {
            return;
        }
        for (permit, report) in std::mem::take(&mut self.work.reports) {
            let Some(start) = self.start_of(&permit) else { continue };
            let (scope, id, trace) = (start.header.scope.clone(), start.id, start.header.traceparent.clone());
            let (kind, body) = report.to_fact();
            if let Err(why) = self.append(scope, kind, vec![id], body, trace) {
                // Not forgotten: what happened is written when this node may write again.
                self.count_refusal(why.code, why.reason);
                self.work.reports.push((permit, report));
                continue;
            }
            self.work.line.moved(id);
            if matches!(report, Report::Done(_)) {
                self.work.aftermath.look_at(permit);
            }
        }
        self.publish_line();
    }

    pub(crate) fn start_of(&self, permit: &FactId) -> Option<&Recorded<Started>> {
        self.ledger.starts_on_permit(permit).find(|s| s.header.author == self.me)
    }

    fn resource_of(&self, permit: &FactId) -> String {
        self.ledger.permit(permit).map(|p| p.body.resource.clone()).unwrap_or_default()
    }
}

fn tell_refused(core: &mut NodeCore, permit: FactId, code: owner::Code, why: &str) {
    let detail = format!("permit {}: {why}", permit.short());
    let name = match serde_json::to_value(code) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "refused".to_owned(),
    };
    *core.refused.entry(format!("permit.{name}")).or_default() += 1;
    core.tell(Event::Refused { code: "permit", detail });
}
