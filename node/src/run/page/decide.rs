//! Statements to sign and votes that were signed. A vote goes to the core by the same command as one from the socket.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_coordinator::bodies::Feature;
use cauldron_coordinator::vote::Choice;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::{Command, Reply, Words};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ceremony::{Answer, Bytes, Hash};
use super::guard::body;
use super::{Site, signed_out, view};
use crate::chance;
use crate::run::api::Problem;

/// A reason is a remark, no report.
pub(super) const REASON_CHARS_MAX: usize = 500;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    choice: Said,
    reason: String,
    /// How long the page was open, milliseconds.
    dwell_ms: u64,
    /// Digest of the lines that the page shows.
    shown: Hash,
}

/// A choice as pages write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Approve,
    Abstain,
    Withdraw,
    Deny,
    Object,
    Comment,
}

impl From<Said> for Choice {
    fn from(said: Said) -> Self {
        match said {
            Said::Approve => Self::Approve,
            Said::Abstain => Self::Abstain,
            Said::Withdraw => Self::Withdraw,
            Said::Deny => Self::Deny,
            Said::Object => Self::Object,
            Said::Comment => Self::Comment,
        }
    }
}

fn conflict(kind: &str, detail: impl Into<String>) -> Problem {
    Problem { status: 409, title: "refused", kind: kind.into(), detail: detail.into(), hint: None }
}

/// What exactly to sign: over what the page shows, or nothing.
pub(super) async fn statement(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<Value>, Problem> {
    let found = site.writer(&headers).await?;
    let id = parsed(&id)?;
    let Wanted { choice, reason, dwell_ms, shown: Hash(shown) } = body(request).await?;
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::bad_request("reason", format!("a reason has at most {REASON_CHARS_MAX} characters")));
    }
    let choice: Choice = choice.into();
    if choice == Choice::Approve
        && let Some(why) = site.context.node.read(|core| core.stopped_here(&Feature::ApprovalPage)).await?
    {
        return Err(conflict("stopped", why).hint("approve with `cauldron approvals approve`, or ask the council"));
    }
    let words = Words { choice, reason, dwell_ms, nonce: Digest::from_bytes(chance::bytes()) };
    let (now, who) = (site.context.clock.now(), found.who.clone());
    let read = site.context.node.read(move |core| {
        let passkey = core.approver(&who).and_then(|(_, credential)| Some(credential.passkey()?.credential_id_text()));
        (core.ballot(now, &id, &who, words), passkey, core.authority().charter().rp_id.clone())
    });
    let (ballot, passkey, rp_id) = read.await?;
    let statement = ballot.map_err(|why| conflict("not_now", why).hint("load the page again"))?;
    let passkey = passkey.ok_or_else(signed_out)?;
    if statement.presentation != shown {
        return Err(conflict("changed", "what this page shows is not what there is to decide any more")
            .hint("load the page again and read it: nothing was signed"));
    }
    let answer = json!({
        "challenge": BASE64_URL_SAFE_NO_PAD.encode(statement.id().as_bytes()),
        "statement": BASE64_URL_SAFE_NO_PAD.encode(to_cbor(&statement)),
        "allow": [passkey],
        "rp_id": rp_id,
    });
    site.sessions.ask(&found.key, statement, Instant::now());
    Ok(Json(answer))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    challenge: Bytes,
    answer: Answer,
}

/// Carries a vote whose statement this session asked for.
pub(super) async fn vote(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<Value>, Problem> {
    let found = site.writer(&headers).await?;
    let id = parsed(&id)?;
    let Signed { challenge, answer } = body(request).await?;
    let challenge = <[u8; 32]>::try_from(challenge.0.as_slice()).map(Digest::from_bytes);
    let challenge = challenge.map_err(|_| Problem::bad_request("challenge", "it has 32 bytes"))?;
    let statement = site.sessions.answered(&found.key, &challenge, Instant::now()).ok_or_else(|| {
        conflict("not_asked", "no such statement waits here: it was answered before, or more than five minutes ago")
            .hint("load the page again")
    })?;
    if statement.proposal != id {
        return Err(conflict("other_proposal", "the statement is about another proposal; nothing was recorded"));
    }
    let assertion = answer.assertion().map_err(|why| conflict("vote_invalid", why.to_string()))?;
    let choice = statement.choice;
    let vote = statement.answered(&assertion);
    let reply = site.context.node.command(Command::Vote(Box::new(vote.clone()))).await?;
    let (Reply::Recorded(fact) | Reply::Already(fact)) = reply else {
        return Err(Problem::unavailable("unexpected", "the vote was not recorded"));
    };
    tracing::info!(person = found.who.person, proposal = %id.short(), ?choice, "a vote from the approval page");
    let now = site.context.clock.now();
    let vote = site.context.node.read(move |core| core.weigh(now, &vote)).await?;
    Ok(Json(json!({ "fact": fact, "level": "local", "said": view::said(choice), "vote": vote })))
}

/// What became of a proposal, for a page that is open.
pub(super) async fn state(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let found = site.found(&headers, false).await?.ok_or_else(signed_out)?;
    let (now, id) = (site.context.clock.now(), parsed(&id)?);
    let desk = site.context.node.read(move |core| core.desk(now, &id, &found.who)).await?;
    let desk = desk.ok_or_else(|| Problem::not_found("this node holds no such proposal"))?;
    Ok(Json(view::progress(&desk)))
}

/// Links of a page carry whole ids.
fn parsed(id: &str) -> Result<FactId, Problem> {
    id.parse().map_err(|_| Problem::not_found("no proposal has such an id"))
}
