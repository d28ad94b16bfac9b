//! Sagas: proposed as a whole, given up by the owners of what will not be done, and taken back behind them, step by step.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{
    Aborted, CompensationFailed, KIND_ABORTED, KIND_COMPENSATED, KIND_ENDED, KIND_PROPOSAL, Proposal, SAGA_STEPS_MAX,
    SagaStep, Started,
};
use cauldron_coordinator::ledger::{Fate, Recorded, Report, State, Touched};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Clock, Fact, FactId, SealedFact};

use crate::core::NodeCore;
use crate::govern::OPEN_PER_AGENT_MAX;
use crate::input::{Refusal, Reply};
use crate::story::state_word;

/// What is quoted of why a step is over, bytes.
const REASON_LEN_MAX: usize = 512;

impl NodeCore {
    /// Proposes all steps of a saga, or none: each is looked at before the first is written, and the shell commits what one command
    /// writes at once. A crash in between would leave steps that nobody permits, because each says how many there are.
    pub(crate) fn propose_saga(
        &mut self,
        mut steps: Vec<Proposal>,
        traceparent: Option<String>,
    ) -> Result<Reply, Refusal> {
        let of = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if !(2..=SAGA_STEPS_MAX).contains(&of) {
            let sentence = format!("a saga has 2 to {SAGA_STEPS_MAX} steps, this one has {of}");
            return Err(Refusal::new("bad_saga", sentence));
        }
        let mut scopes = Vec::new();
        for (n, step) in (1..).zip(&mut steps) {
            scopes.push(self.ready(step).map_err(|why| in_step(n, of, why))?);
            if let Some(known) = self.known_as(step) {
                let sentence = format!("{} wants the same of it; decide that first", known.short());
                return Err(in_step(n, of, Refusal::new("already_proposed", sentence)));
            }
            if self.ledger.owner_of(&step.resource, &self.authority).is_none() {
                let sentence = format!("no node is enrolled that owns {}", step.resource);
                return Err(in_step(n, of, Refusal::new("no_owner", sentence)));
            }
        }
        let first = &steps[0];
        if let Some(n) = steps.iter().position(|s| s.agent != first.agent || s.site != first.site) {
            let why = Refusal::new("bad_saga", "all steps are proposed by one agent, at resources of its own site");
            return Err(in_step(n as u32 + 1, of, why));
        }
        let same = |n: &usize| steps[..*n].iter().any(|s| s.resource == steps[*n].resource);
        if let Some(n) = (1..steps.len()).filter(same).find(|n| steps[*n].expected_version.is_some()) {
            let why = "an earlier step changes the same resource, and nobody knows its version after that";
            return Err(in_step(n as u32 + 1, of, Refusal::new("bad_saga", why)));
        }
        let wants = |s: &Proposal| (s.resource.clone(), s.intent_key.clone());
        if let Some(n) = (1..steps.len()).find(|n| steps[..*n].iter().any(|s| wants(s) == wants(&steps[*n]))) {
            let why = Refusal::new("bad_saga", "an earlier step wants the same of the same resource");
            return Err(in_step(n as u32 + 1, of, why));
        }
        self.has_room(first)?;
        let open = self.docket.of_agent(&self.ledger, &first.agent).count();
        if open + steps.len() > OPEN_PER_AGENT_MAX {
            let sentence = format!("{open} proposals of this agent are open; with {of} more they are too many");
            return Err(Refusal::new("agent_limit", sentence));
        }
        // Nothing is written unless all of it can be. Ids have one length, so that of the step before stands for whichever it will be.
        for ((index, step), scope) in (1..).zip(&mut steps).zip(&scopes) {
            step.saga = Some(SagaStep { index, of, after: (index > 1).then_some(FactId::from_bytes([0; 32])) });
            let fits = self.would_append(scope, KIND_PROPOSAL, to_cbor(step), traceparent.clone());
            fits.map_err(|why| in_step(index, of, why))?;
        }
        let mut ids: Vec<FactId> = Vec::new();
        for ((index, mut step), scope) in (1..).zip(steps).zip(scopes) {
            let after = ids.last().copied();
            step.saga = Some(SagaStep { index, of, after });
            let deps = after.into_iter().collect();
            ids.push(self.append(scope, KIND_PROPOSAL, deps, to_cbor(&step), traceparent.clone())?.id());
        }
        Ok(Reply::Saga(ids))
    }

    /// After a restart, and when the chain says anew who owns what: the steps of which this node may still have to say something, and
    /// what it did that may have to be taken back.
    fn recall_sagas(&mut self) {
        let steps = self.ledger.proposals().filter(|p| p.body.saga.is_some() && p.body.lineage.is_none());
        self.work.steps = steps.filter(|p| self.is_mine(p)).map(|p| p.id).collect();
        // What a past life did cannot be taken back any more, and that is said.
        let own = self.ledger.starts_by(&self.me);
        let of_saga = own.filter(|s| self.ledger.proposal(&s.body.lineage).is_some_and(|p| p.body.saga.is_some()));
        let permits: Vec<FactId> = of_saga.map(|s| s.body.permit).collect();
        permits.into_iter().for_each(|permit| self.work.aftermath.look_at(permit));
    }

    fn is_mine(&self, p: &Recorded<Proposal>) -> bool {
        self.ledger.owner_of(&p.body.resource, &self.authority).is_some_and(|owner| owner.author == self.me)
    }

    /// What a fact means for sagas: a step to look after, or something done that may have to be taken back.
    pub(crate) fn heard_step(&mut self, fact: &Fact, touched: &Touched) {
        match (fact.header().kind.as_str(), touched) {
            (KIND_PROPOSAL, _) => {
                let step = self.ledger.proposal(&fact.id()).filter(|p| p.body.saga.is_some());
                let own = step.filter(|p| p.body.lineage.is_none() && self.is_mine(p));
                self.work.steps.extend(own.map(|p| p.id));
            }
            (KIND_ABORTED | KIND_COMPENSATED | KIND_ENDED, Touched::These(ids)) => {
                let of_saga = ids.iter().filter(|id| self.ledger.proposal(id).is_some_and(|p| p.body.saga.is_some()));
                let starts = of_saga.flat_map(|id| self.ledger.starts_of(id, &self.authority));
                let mine: BTreeSet<FactId> =
                    starts.filter(|s| s.header.author == self.me).map(|s| s.body.permit).collect();
                mine.into_iter().for_each(|permit| self.work.aftermath.look_at(permit));
            }
            _ => {}
        }
    }

    /// Says of every step that this node owns and will never begin that it is given up.
    pub(crate) fn tend_sagas(&mut self) {
        if self.work.sagas_at != Some(self.authority.revision()) {
            self.work.sagas_at = Some(self.authority.revision());
            self.recall_sagas();
        }
        // Whoever was restored may have begun what its store does not show.
        if self.work.steps.is_empty() || self.may_write().is_err() || !self.life.is_confirmed() {
            return;
        }
        for lineage in self.work.steps.clone() {
            let Some(step) = self.ledger.proposal(&lineage) else { continue };
            match self.ledger.fate(&lineage, &self.authority) {
                Fate::Open => {}
                Fate::Begun | Fate::Unknown => continue,
                Fate::Done | Fate::Unsettled | Fate::Stuck | Fate::Ended | Fate::Lapsed | Fate::Over(..) => {
                    self.work.steps.remove(&lineage);
                    continue;
                }
            }
            let Some(reason) = self.given_up(step) else { continue };
            let (scope, trace) = (step.header.scope.clone(), step.header.traceparent.clone());
            let body = Aborted { proposal: lineage, reason, at_ms: self.now.wall_ms };
            match self.append(scope, KIND_ABORTED, vec![lineage], to_cbor(&body), trace) {
                Ok(_) => _ = self.work.steps.remove(&lineage),
                Err(why) => self.count_refusal(why.code, why.reason),
            }
        }
    }

    /// Why a step that was not begun never will be: every proposal of its lineage is over without effect, but for those that are open
    /// and do not count.
    fn given_up(&self, step: &Recorded<Proposal>) -> Option<String> {
        let counts =
            |p: &Recorded<Proposal>| p.id == step.id || self.ledger.proposal_counts(p, &self.authority).is_ok();
        let mut last = None;
        for p in self.ledger.lineage(&step.id) {
            let status = self.status_seen(self.now, &p.id)?;
            match status.state {
                State::Superseded => continue,
                state if state.is_open() && !counts(p) => continue,
                State::Denied | State::Failed => {}
                State::Expired | State::Void if self.wall_is_known() => {}
                _ => return None,
            }
            last = Some((status.state, status.why.join("; ")));
        }
        let (state, why) = last?;
        Some(shortened(&format!("it is {}: {why}", state_word(state))))
    }

    /// What was to be taken back, and nothing can: it stays, and a person is told.
    pub(crate) fn stuck(&mut self, start: &Recorded<Started>, reason: String) {
        let report = CompensationFailed { started: start.id, reason: reason.clone(), at_ms: self.now.wall_ms };
        self.count_refusal("saga_stuck", format!("start {}: {reason}", start.id.short()));
        self.work.reports.push((start.body.permit, Report::CompensationFailed(report)));
        self.report();
    }

    /// Why what a start of this node did is to be taken back, where it is a step of a saga.
    pub(crate) fn rolls_back(&self, start: &Recorded<Started>) -> Option<String> {
        let step = self.ledger.proposal(&start.body.lineage)?;
        self.ledger.rolls_back(step, &self.authority).map(|why| shortened(&why))
    }

    /// The proposals of the other steps of a lineage's saga, as they were signed.
    #[must_use]
    pub fn saga_facts(&self, lineage: &FactId) -> Vec<SealedFact> {
        let Some(p) = self.ledger.proposal(lineage) else { return Vec::new() };
        let others = self.ledger.saga(p, &self.authority).into_values().filter(|step| step.id != *lineage);
        others.filter_map(|step| self.log.get(&step.id)).map(|fact| fact.sealed().clone()).collect()
    }

    /// One sentence: which step of how many a proposal is, and what hangs on it.
    pub(crate) fn saga_line(&self, now: Clock, p: &Recorded<Proposal>) -> Option<String> {
        let step = p.body.saga?;
        let says = self.ledger.saga_says(p, &self.authority, now.wall_ms)?;
        let steps = self.ledger.saga(p, &self.authority);
        let missing = (1..=step.of).find(|n| !steps.contains_key(n));
        Some(match missing {
            Some(n) => format!("{says}; step {n} is not here, so nothing of it is begun"),
            None => says,
        })
    }
}

fn in_step(n: u32, of: u32, why: Refusal) -> Refusal {
    Refusal::new(why.code, format!("step {n} of {of}: {}", why.reason))
}

/// Reasons quote each other: the first words say the most.
fn shortened(text: &str) -> String {
    match text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= REASON_LEN_MAX).last() {
        Some(end) if end < text.len() => format!("{} …", &text[..end]),
        _ => text.to_owned(),
    }
}
