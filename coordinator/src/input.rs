//! The one document that policies judge, version 1, built by one function from facts.
//!
//! Coordinator and owner build it alike, each from what it holds itself. Everything variable (time, freshness, votes,
//! restrictions) is in it, so a decision can be replayed from its input. Integers only: shares are parts per million.

use std::collections::BTreeSet;

use cauldron_identity::authority::Level;
use cauldron_identity::{Authority, Clock, Digest, FactId, SpiffeId};
use serde_json::{Value, json};

use crate::bodies::Proposal;
use crate::budget::{self, BudgetSeen};
use crate::json::{canonical, rfc3339};
use crate::lease::LeaseAge;
use crate::ledger::{HISTORY_MAX, Ledger, Recorded, State};

/// Version of the document's shape.
pub const VERSION: u32 = 1;
/// Proposals of an agent's build that are looked at for how it fared lately.
const RECENT_MAX: usize = 32;

/// The node that judges.
#[derive(Debug, Clone, Copy)]
pub struct Observer<'a> {
    /// Its SPIFFE ID.
    pub spiffe_id: &'a SpiffeId,
    /// How old its lease is.
    pub lease: LeaseAge,
    /// Version of the resource, where its owner knows one.
    pub resource_version: Option<&'a str>,
    /// What its books say of every budget.
    pub budgets: &'a [BudgetSeen],
}

/// An input document with what the engine needs beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    document: Value,
    action_class: String,
    created_ms: u64,
    expires_ms: u64,
}

impl Input {
    /// Wraps a document made elsewhere, e.g. `policy eval --input FILE`. The proposal in it names class and times.
    #[must_use]
    pub fn from_document(document: Value) -> Self {
        let proposal = document.get("proposal").cloned().unwrap_or_default();
        let ms = |key: &str| proposal.get(key).and_then(Value::as_u64).unwrap_or(0);
        let action_class = proposal.get("action_class").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { action_class, created_ms: ms("created_ms"), expires_ms: ms("expires_ms"), document }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Operation and resource kind.
    #[must_use]
    pub fn action_class(&self) -> &str {
        &self.action_class
    }

    /// The document in canonical JSON.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // A document with floats has no canonical form; only hand-made ones can.
        canonical(&self.document).unwrap_or_else(|_| self.document.to_string().into_bytes())
    }

    /// Digest of the document in canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("cauldron/input/v1", &self.bytes())
    }

    /// `after_ms` after the proposal's creation, so that two judges name the same time.
    #[must_use]
    pub fn after_ms(&self, after_ms: u64) -> u64 {
        self.created_ms.saturating_add(after_ms)
    }

    /// The deadline of a rule that gives people `within_ms`: counted from the proposal's creation, not from when
    /// somebody judged it, so that two judges agree on the terms.
    #[must_use]
    pub fn decide_by_ms(&self, within_ms: u64) -> u64 {
        self.created_ms.saturating_add(within_ms).min(self.expires_ms)
    }
}

/// Builds the document for one proposal. None when the ledger does not hold it.
#[must_use]
pub fn build(
    ledger: &Ledger,
    authority: &Authority,
    clock: &Clock,
    observer: &Observer<'_>,
    id: &FactId,
) -> Option<Input> {
    ledger.proposal(id).map(|recorded| build_for(ledger, authority, clock, observer, recorded))
}

/// Builds the document for a proposal that need not be in the ledger yet.
#[must_use]
pub fn build_for(
    ledger: &Ledger,
    authority: &Authority,
    clock: &Clock,
    observer: &Observer<'_>,
    recorded: &Recorded<Proposal>,
) -> Input {
    let p = &recorded.body;
    let steps = steps_of(ledger, recorded);
    let mut document = json!({
        "v": VERSION,
        "now": rfc3339(clock.wall_ms),
        "now_ms": clock.wall_ms,
        "clock": clock.confidence,
        "node": node(authority, observer),
        "proposal": proposal(recorded),
        "agent": agent(ledger, authority, recorded, clock),
        "principal": principal(ledger, recorded),
        "confidence": {"raw_ppm": p.confidence_ppm, "method": p.confidence_method, "calibration": p.calibration},
        "history": history(ledger, authority, &steps, clock.wall_ms),
        "taint": taint(ledger, authority, recorded, &steps),
        "budgets": budgets(ledger, authority, observer, p),
        "resource": resource(ledger, authority, observer, p),
        "votes": votes(ledger, authority, recorded, clock.wall_ms),
    });
    if let Some((saga, map)) = saga(ledger, authority, recorded, clock.wall_ms).zip(document.as_object_mut()) {
        map.insert("saga".into(), saga);
    }
    let (created_ms, expires_ms) = (p.created_ms, p.expires_ms);
    Input { document, action_class: p.action_class.clone(), created_ms, expires_ms }
}

impl Input {
    /// The same document with what a coordinator reported: a second look, which can only be stricter.
    #[must_use]
    pub fn with_reported(mut self, reported: Value) -> Self {
        if let Some(map) = self.document.as_object_mut() {
            map.insert("reported".into(), reported);
        }
        self
    }
}

/// What a coordinator tells owners beside its decision: how the agent's proposals fared wherever this coordinator reads.
#[must_use]
pub fn reported(ledger: &Ledger, authority: &Authority, p: &Recorded<Proposal>, now_ms: u64) -> Value {
    json!({ "agent": { "recent": recent(ledger, authority, &p.body.agent_build, now_ms) } })
}

/// The steps of the session before a proposal, or before what it came from.
fn steps_of<'a>(ledger: &'a Ledger, p: &'a Recorded<Proposal>) -> Vec<&'a Recorded<Proposal>> {
    ledger.ancestors(p).find(|a| a.body.session.is_some()).map(|step| ledger.history(step)).unwrap_or_default()
}

fn principal(ledger: &Ledger, p: &Recorded<Proposal>) -> Value {
    let requester = ledger.requester(p);
    json!({ "sub": requester.principal, "role": requester.role, "delegation": requester.delegation, "purpose": ledger.purpose(p) })
}

fn history(ledger: &Ledger, authority: &Authority, steps: &[&Recorded<Proposal>], now_ms: u64) -> Value {
    let newest = &steps[steps.len().saturating_sub(HISTORY_MAX)..];
    let one = |p: &&Recorded<Proposal>| {
        let state = ledger.status(&p.id, authority, now_ms).map(|s| s.state);
        json!({
            "class": p.body.action_class,
            "operation": p.body.operation,
            "resource": p.body.resource,
            "digest": p.body.args_digest,
            "outcome": state,
            "labels": ledger.labels_of(p, authority).collect::<BTreeSet<_>>(),
            "age_s": now_ms.saturating_sub(p.body.created_ms) / 1_000,
        })
    };
    newest.iter().map(one).collect()
}

/// The step of a saga that a proposal is, and what became of those before it.
fn saga(ledger: &Ledger, authority: &Authority, p: &Recorded<Proposal>, now_ms: u64) -> Option<Value> {
    let step = p.body.saga?;
    let one = |(index, before): (u32, &Recorded<Proposal>)| {
        let state = ledger.step_state(before, authority, now_ms);
        json!({
            "step": index,
            "id": before.id,
            "operation": before.body.operation,
            "resource": before.body.resource,
            "state": state,
        })
    };
    let before: Value = ledger.saga(p, authority).range(..step.index).map(|(index, p)| one((*index, p))).collect();
    Some(json!({ "step": step.index, "of": step.of, "before": before }))
}

/// Labels of everything that shaped a proposal: what it says itself, and what its session has read before.
fn taint(
    ledger: &Ledger,
    authority: &Authority,
    p: &Recorded<Proposal>,
    steps: &[&Recorded<Proposal>],
) -> BTreeSet<String> {
    let read = steps.iter().flat_map(|step| ledger.labels_of(step, authority).map(str::to_owned));
    let said = steps.iter().copied().chain([p]).flat_map(|p| p.body.taint.iter().cloned());
    read.chain(said).collect()
}

/// How the latest proposals of an agent's build came out.
fn recent(ledger: &Ledger, authority: &Authority, build: &Digest, now_ms: u64) -> Value {
    const HOUR_MS: u64 = 3_600_000;
    const MONTH_MS: u64 = 30 * 86_400_000;
    let (mut denied_1h, mut contested_30d, mut failed_1h) = (0u64, 0u64, 0u64);
    for p in ledger.newest_of(build, RECENT_MAX) {
        let age_ms = now_ms.saturating_sub(p.body.created_ms);
        let Some(status) = ledger.status(&p.id, authority, now_ms).filter(|_| age_ms <= MONTH_MS) else { continue };
        denied_1h += u64::from(age_ms <= HOUR_MS && status.state == State::Denied);
        failed_1h += u64::from(age_ms <= HOUR_MS && matches!(status.state, State::Failed | State::Unknown));
        contested_30d += u64::from(status.contested);
    }
    json!({ "denied_1h": denied_1h, "failed_1h": failed_1h, "contested_30d": contested_30d })
}

fn node(authority: &Authority, observer: &Observer<'_>) -> Value {
    let site = cauldron_identity::Role::of(observer.spiffe_id).ok().and_then(|r| r.site().map(str::to_owned));
    json!({
        "site": site,
        "spiffe": observer.spiffe_id.to_string(),
        "lease": {"age_ms": observer.lease.ms(), "authority_index": authority.index()},
    })
}

fn proposal(recorded: &Recorded<Proposal>) -> Value {
    // A body of ours always has a JSON view; null would make every rule that reads it undefined, hence deny.
    let mut view = serde_json::to_value(&recorded.body).unwrap_or_default();
    if let Some(map) = view.as_object_mut() {
        map.insert("id".into(), json!(recorded.id));
        map.insert("lineage".into(), json!(recorded.body.lineage(recorded.id)));
    }
    view
}

fn agent(ledger: &Ledger, authority: &Authority, recorded: &Recorded<Proposal>, clock: &Clock) -> Value {
    let held = crate::autonomy::held(ledger, authority, recorded, clock);
    let grant = held.as_ref().map(|held| {
        let (id, expires_ms, evidence) = (held.entry, held.grant.expires_ms, held.grant.evidence);
        json!({ "id": id, "expires_ms": expires_ms, "evidence": evidence })
    });
    let killed: Vec<String> = ledger.restrictions_on(recorded, authority).map(|(_, o)| o.reason).collect();
    json!({
        "spiffe": recorded.body.agent,
        "build_digest": recorded.body.agent_build,
        "level": held.map_or_else(Level::default, |held| held.grant.level).name(),
        "grant": grant,
        "recent": recent(ledger, authority, &recorded.body.agent_build, clock.wall_ms),
        "killed": killed,
    })
}

fn budgets(ledger: &Ledger, authority: &Authority, observer: &Observer<'_>, p: &Proposal) -> Value {
    if observer.budgets.is_empty() {
        return json!([]);
    }
    let me = authority.author_of(observer.spiffe_id).map(|(author, _)| author);
    let owner = ledger.owner_of(&p.resource, authority).map(|owner| owner.author);
    budget::view(observer.budgets, &p.budgets, me, owner.as_ref())
}

fn resource(ledger: &Ledger, authority: &Authority, observer: &Observer<'_>, p: &Proposal) -> Value {
    let owner = ledger.owner_of(&p.resource, authority);
    json!({
        "id": p.resource,
        "owner": owner.as_ref().map(|o| o.spiffe_id.to_string()),
        "owner_incarnation": owner.as_ref().map(|o| o.incarnation),
        "version": observer.resource_version,
    })
}

fn votes(ledger: &Ledger, authority: &Authority, recorded: &Recorded<Proposal>, now_ms: u64) -> Value {
    let verified = ledger.votes_on(&recorded.id).filter_map(|v| v.verify(authority).ok());
    let one = |v: crate::vote::VerifiedVote| {
        json!({
            "sub": v.statement.person,
            "groups": v.groups,
            "choice": v.statement.choice,
            "credential": v.kind,
            "assurance": v.kind.assurance(),
            "dwell_ms": v.statement.dwell_ms,
            "expired": v.statement.expires_ms < now_ms,
        })
    };
    verified.map(one).collect()
}
