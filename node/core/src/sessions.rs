//! Sessions: what an agent does for somebody, step by step, each on the record before anything comes of it.

use std::collections::BTreeMap;

use cauldron_coordinator::action::Action;
use cauldron_coordinator::bodies::{
    Evaluation, KIND_READ, Outcome, PolicyRef, Proposal, Read, Returned, RiskClass, SessionStep,
};
use cauldron_coordinator::input::{Observer, build_for};
use cauldron_coordinator::ledger::Recorded;
use cauldron_coordinator::signed::with_reason;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId, Scope};

use crate::core::NodeCore;
use crate::input::{OpenSession, Refusal, Reply};
use crate::local;

/// Sessions that are open and have no step yet; of the others the ledger knows.
const OPEN_MAX: usize = 1_024;
/// How long a read may take, milliseconds: then its session goes on without it.
const READ_MS_MAX: u64 = 60_000;

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    opened: BTreeMap<Digest, OpenSession>,
    order: std::collections::VecDeque<Digest>,
    reading: BTreeMap<u64, Reading>,
    steps: u64,
}

/// A read that policy let go ahead.
#[derive(Debug)]
struct Reading {
    session: Digest,
    scope: Scope,
    body: Read,
    traceparent: Option<String>,
    /// Boot time in milliseconds.
    until_ms: u64,
}

impl NodeCore {
    /// Opens a session; its first step writes it down.
    pub(crate) fn open_session(&mut self, open: OpenSession) -> Result<Reply, Refusal> {
        if !open.agent.starts_with(&format!("{}/agent/", self.spiffe_id)) {
            return Err(Refusal::new("not_our_agent", format!("{} is no agent of {}", open.agent, self.spiffe_id)));
        }
        let id = Digest::from_bytes(self.chance.bytes32());
        let step = first_step(id, &open);
        step.fits().map_err(|part| Refusal::new("bad_session", format!("{part} is too long")))?;
        if open.principal.trim().is_empty() {
            return Err(Refusal::new("bad_session", "a session is for somebody: name its principal"));
        }
        if self.sessions.order.len() >= OPEN_MAX
            && let Some(oldest) = self.sessions.order.pop_front()
        {
            self.sessions.opened.remove(&oldest);
        }
        self.sessions.order.push_back(id);
        self.sessions.opened.insert(id, open);
        Ok(Reply::Session(id))
    }

    /// Takes the next step of a session: a read of class R0 is judged here and now, anything else is proposed.
    pub(crate) fn step(
        &mut self,
        session: Digest,
        mut proposal: Proposal,
        traceparent: Option<String>,
    ) -> Result<Reply, Refusal> {
        self.may_write()?;
        let now_ms = self.now.boottime_ms;
        self.sessions.reading.retain(|_, reading| reading.until_ms > now_ms);
        if self.sessions.reading.values().any(|reading| reading.session == session) {
            return Err(Refusal::new("session_busy", "a step of this session is under way; one follows the other"));
        }
        let (step, agent) = self.next_step(session)?;
        proposal.agent = agent;
        step.covers(&proposal.operation, &proposal.agent, self.now.wall_ms)
            .map_err(|why| Refusal::new("not_delegated", why))?;
        proposal.on_behalf_of.get_or_insert_with(|| step.principal.clone());
        proposal.session = Some(Box::new(step));
        let action = Action::of_proposal(self.catalogue(), &self.timed(&proposal));
        let action = action.map_err(|e| Refusal::new("bad_proposal", chain(&e)))?;
        let class = action.risk().max(proposal.risk);
        if action.is_read() && class == RiskClass::R0 {
            return self.judge_read(proposal, traceparent);
        }
        self.propose_step(proposal, traceparent)
    }

    /// The next step of a session, and whose session it is.
    fn next_step(&self, id: Digest) -> Result<(SessionStep, String), Refusal> {
        if let Some((index, last)) = self.ledger.session_head(&id) {
            let before = last.body.session.clone().filter(|_| last.header.author == self.me);
            let before =
                before.ok_or_else(|| Refusal::new("not_our_session", "this session belongs to another node"))?;
            let step = SessionStep { index: index.saturating_add(1), prev: Some(last.id), purpose: None, ..*before };
            return Ok((step, last.body.agent.clone()));
        }
        let open = self.sessions.opened.get(&id);
        let open =
            open.ok_or_else(|| Refusal::new("unknown_session", "no such session is open here; open one first"))?;
        Ok((first_step(id, open), open.agent.clone()))
    }

    /// With the times that it will be written with.
    fn timed(&self, proposal: &Proposal) -> Proposal {
        let created_ms = self.now.wall_ms;
        let lasts = if proposal.expires_ms > 0 { proposal.expires_ms } else { created_ms + crate::govern::PROPOSAL_MS };
        Proposal { created_ms, expires_ms: lasts, ..proposal.clone() }
    }

    fn judge_read(&mut self, proposal: Proposal, traceparent: Option<String>) -> Result<Reply, Refusal> {
        let scope = self.site_scope(&proposal)?;
        let proposal = self.timed(&proposal);
        let recorded = Recorded {
            id: FactId::from_bytes([0; 32]),
            header: self.would_be(scope.clone(), KIND_READ),
            body: proposal,
        };
        let (evaluation, input) = self.judge_alone(&recorded)?;
        let proposal = recorded.body;
        let body = |proposal: Proposal, outcome, rules: Vec<String>, policy| Read {
            requester: cauldron_coordinator::bodies::Requester::of(&proposal),
            proposal,
            outcome,
            rules,
            policy,
            input_digest: evaluation.input_digest,
            authority_head: self.authority.head(),
            risk: evaluation.risk,
            result: None,
            problem: None,
            at_ms: self.now.wall_ms,
        };
        match evaluation.outcome {
            Outcome::Allow if evaluation.risk == RiskClass::R0 && evaluation.obligations.bind_nobody() => {
                let ages = &self.authority.charter().class_ages;
                if !self.lease_age().covers(RiskClass::R0, ages) {
                    let why = "this node has not heard of a coordinator for longer than reads allow; it waits for one";
                    return Err(Refusal::new("isolated", why));
                }
                let session = proposal.session.as_ref().map(|s| s.id);
                let Some(session) = session else {
                    return Err(Refusal::new("bad_session", "a read is a step of a session"));
                };
                let body = body(proposal, Outcome::Allow, evaluation.rules.clone(), self.policy_ref(&evaluation)?);
                self.persist(local::judged(&evaluation.input_digest, input));
                self.sessions.steps += 1;
                let step = self.sessions.steps;
                let until_ms = self.now.boottime_ms.saturating_add(READ_MS_MAX);
                self.sessions.reading.insert(step, Reading { session, scope, body, traceparent, until_ms });
                Ok(Reply::Read { step })
            }
            Outcome::Deny => {
                let body = body(proposal, Outcome::Deny, evaluation.rules.clone(), self.policy_ref(&evaluation)?);
                self.persist(local::judged(&evaluation.input_digest, input));
                self.append(scope, KIND_READ, vec![], to_cbor(&body), traceparent).map(|f| Reply::Recorded(f.id()))
            }
            // Somebody else has to say something.
            _ => self.propose_step(proposal, traceparent),
        }
    }

    /// This node's own policy on something that it alone may decide, with the document that was judged.
    fn judge_alone(&self, recorded: &Recorded<Proposal>) -> Result<(Evaluation, Vec<u8>), Refusal> {
        let engine = self.policy.engine.as_ref();
        let Some(engine) = engine else {
            let why = self.policy.problem.clone().unwrap_or_else(|| "no policy is active here".to_owned());
            return Err(Refusal::new("no_policy", why));
        };
        let (lease, budgets) = (self.lease_age(), self.work.rights.seen.as_slice());
        let observer = Observer { spiffe_id: &self.spiffe_id, lease, resource_version: None, budgets };
        let input = build_for(&self.ledger, &self.authority, &self.now, &observer, recorded);
        let mut evaluation = engine.evaluate(&input);
        if let Some((_, order)) = self.ledger.restrictions_on(recorded, &self.authority).next() {
            (evaluation.outcome, evaluation.rules) =
                (Outcome::Deny, vec![with_reason(format!("restricted: {} stops it", order.by), &order.reason)]);
        }
        Ok((evaluation, input.bytes()))
    }

    fn policy_ref(&self, evaluation: &Evaluation) -> Result<PolicyRef, Refusal> {
        let active = self.authority.policy().ok_or_else(|| Refusal::new("no_policy", "no policy is active here"))?;
        Ok(PolicyRef { entry: active.entry, digest: active.activate.digest, class_version: evaluation.class_version })
    }

    /// What a read came to: on the record before whoever asked sees it.
    pub(crate) fn returned(
        &mut self,
        step: u64,
        result: Option<Returned>,
        problem: Option<String>,
    ) -> Result<Reply, Refusal> {
        let reading = self.sessions.reading.remove(&step).ok_or_else(|| {
            Refusal::new("read_over", "the read took too long, or this node was started again; call it again")
        })?;
        let problem = problem.map(|problem| problem.chars().take(512).collect());
        let body = Read { result, problem, at_ms: self.now.wall_ms, ..reading.body };
        let written = self.append(reading.scope, KIND_READ, vec![], to_cbor(&body), reading.traceparent);
        written.map(|fact| Reply::Recorded(fact.id()))
    }
}

fn first_step(id: Digest, open: &OpenSession) -> SessionStep {
    SessionStep {
        id,
        principal: open.principal.clone(),
        role: open.role.clone(),
        delegation: open.delegation.clone(),
        index: 1,
        prev: None,
        purpose: open.purpose.clone(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}
