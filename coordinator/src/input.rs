//! The one document that policies judge, version 1, built by one function from facts.
//!
//! Coordinator and owner build it alike, each from what it holds itself. Everything variable (time, freshness, votes,
//! restrictions) is in it, so a decision can be replayed from its input. Integers only: shares are parts per million.

use cauldron_identity::{Authority, Clock, Digest, FactId, SpiffeId};
use serde_json::{Value, json};

use crate::bodies::Proposal;
use crate::json::{canonical, rfc3339};
use crate::lease::LeaseAge;
use crate::ledger::{Ledger, Recorded};

/// Version of the document's shape.
pub const VERSION: u32 = 1;

/// The node that judges.
#[derive(Debug, Clone, Copy)]
pub struct Observer<'a> {
    /// Its SPIFFE ID.
    pub spiffe_id: &'a SpiffeId,
    /// How old its lease is.
    pub lease: LeaseAge,
    /// Version of the resource, where its owner knows one.
    pub resource_version: Option<&'a str>,
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

    /// Digest of the document in canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // A document with floats has no canonical form; only hand-made ones can.
        let bytes = canonical(&self.document).unwrap_or_else(|_| self.document.to_string().into_bytes());
        Digest::of("cauldron/input/v1", &bytes)
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
    let recorded = ledger.proposal(id)?;
    let p = &recorded.body;
    let document = json!({
        "v": VERSION,
        "now": rfc3339(clock.wall_ms),
        "now_ms": clock.wall_ms,
        "clock": clock.confidence,
        "node": node(authority, observer),
        "proposal": proposal(recorded),
        "agent": agent(ledger, authority, recorded),
        "principal": {},
        "confidence": {"raw_ppm": p.confidence_ppm, "method": p.confidence_method},
        "history": [],
        "taint": p.taint,
        "budgets": [],
        "resource": resource(ledger, authority, observer, p),
        "votes": votes(ledger, authority, recorded, clock.wall_ms),
    });
    let (created_ms, expires_ms) = (p.created_ms, p.expires_ms);
    Some(Input { document, action_class: p.action_class.clone(), created_ms, expires_ms })
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

fn agent(ledger: &Ledger, authority: &Authority, recorded: &Recorded<Proposal>) -> Value {
    let killed: Vec<String> = ledger.restrictions_on(recorded, authority).map(|(_, o)| o.reason).collect();
    json!({
        "spiffe": recorded.body.agent,
        "build_digest": recorded.body.agent_build,
        "level": "L1",
        "killed": killed,
    })
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
            "assurance": v.kind,
            "dwell_ms": v.statement.dwell_ms,
            "expired": v.statement.expires_ms < now_ms,
        })
    };
    verified.map(one).collect()
}
