//! Calls that whoever runs a session carries out: what it is to do, and what it says came of it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use cauldron_coordinator::bodies::Returned;
use cauldron_coordinator::ledger::State as ProposalState;
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::{Command, EffectResult, Happened, Input, NodeCore, Reply};
use serde::Deserialize;
use utoipa::ToSchema;

use super::read::Answer;
use super::sessions::{CallAnswer, session_named, settled};
use super::{Context, Problem};
use crate::run::effects::elsewhere::{Errand, Work};

/// Reads that are given out have no fact yet; they are called by this and their number.
const READ_PREFIX: &str = "read-";
/// How long what was said may take to be on disk.
const WRITTEN_MS_MAX: u64 = 10_000;
const LABELS_MAX: usize = 32;
const LABEL_LEN_MAX: usize = 256;
const SAYS_LEN_MAX: usize = 512;

/// Who waits, and how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// The key of the session, to get what is to be done.
    #[serde(default)]
    pub key: Option<String>,
    /// How long, 60,000 at most.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What came of a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The key of the session.
    pub key: String,
    /// How it came out.
    pub outcome: Said,
    /// SHA-256 of what came back, 64 hex characters; nothing came back without.
    #[serde(default)]
    pub digest: Option<String>,
    /// How many bytes came back.
    #[serde(default)]
    pub len: u64,
    /// Labels of what came back, beside those of the connector; they travel into every later call of the session.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where the effect can be seen, or what went wrong, in one line for people.
    #[serde(default)]
    pub says: String,
}

/// How a call came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It was done.
    Done,
    /// It is certain that nothing happened.
    Failed,
    /// It is not.
    Unknown,
}

/// Whoever carries out calls of a session shows its key.
pub(super) fn shows_key(context: &Context, session: &Digest, key: Option<&str>) -> Result<(), Problem> {
    if context.facts.hands.elsewhere().is_key(session, key.unwrap_or_default()) {
        return Ok(());
    }
    let why = "whoever opened this session since the node was started carries out its calls, and shows its `key`";
    Err(Problem::conflict("not_your_session", why))
}

/// Waits for a call; with the key, also for the word to carry it out.
#[utoipa::path(post, path = "/v1/sessions/{id}/calls/{call}/wait", request_body = WaitRequest, responses((status = 200, body = CallAnswer), (status = 409, body = Problem)))]
pub async fn wait(
    State(context): State<Context>,
    Path((id, call)): Path<(String, String)>,
    Json(request): Json<WaitRequest>,
) -> Answer<CallAnswer> {
    let session = session_named(&id)?;
    let call = call_named(&context, &session, &call).await?;
    let out = match request.key.as_deref() {
        Some(key) => {
            shows_key(&context, &session, Some(key))?;
            Some(session)
        }
        None => None,
    };
    settled(&context, call, request.wait_ms, out).await
}

/// Says what came of a call that was given out. Said once; the answer comes when it is on the record.
#[utoipa::path(post, path = "/v1/sessions/{id}/calls/{call}/outcome", request_body = Outcome, responses((status = 200, body = CallAnswer), (status = 409, body = Problem)))]
pub async fn tell(
    State(context): State<Context>,
    Path((id, call)): Path<(String, String)>,
    Json(mut outcome): Json<Outcome>,
) -> Answer<CallAnswer> {
    let session = session_named(&id)?;
    shows_key(&context, &session, Some(&outcome.key))?;
    let digest = check(&mut outcome)?;
    if let Some(step) = call.strip_prefix(READ_PREFIX) {
        let step = step.parse().map_err(|_| Problem::not_found(format!("{call} is no read")))?;
        let labels = taken(&context, &Work::Read(step), &session, &outcome)?;
        return tell_read(&context, step, digest, labels, &outcome).await;
    }
    let call = call_named(&context, &session, &call).await?;
    let permits = context.node.read(move |core: &NodeCore| core.permits_of(&call)).await?;
    // Of several permits for one call one alone was started; the last error is as good as any other.
    let mut refused = Problem::conflict("nothing_given_out", "nothing was started under this call yet: wait for it");
    for permit in permits {
        match taken(&context, &Work::Permit(permit), &session, &outcome) {
            Ok(labels) => {
                let result = result(digest, labels, &outcome);
                context.node.input_async(Input::Executed { permit, result }).await?;
                return written(&context, call, outcome.outcome).await;
            }
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// Labels that count, once nobody else can speak of it.
fn taken(context: &Context, work: &Work, session: &Digest, outcome: &Outcome) -> Result<Vec<String>, Problem> {
    let labels = context.facts.hands.elsewhere().told(work, session);
    let mut labels = labels.map_err(|why| Problem::conflict("nothing_given_out", why))?;
    labels.extend(outcome.labels.iter().cloned());
    labels.sort_unstable();
    labels.dedup();
    Ok(labels)
}

fn check(outcome: &mut Outcome) -> Result<Option<Digest>, Problem> {
    let wrong = |what: &str| Problem::bad_request("outcome", what);
    let label_fits = |l: &String| (1..=LABEL_LEN_MAX).contains(&l.len()) && !l.chars().any(char::is_control);
    if outcome.labels.len() > LABELS_MAX || !outcome.labels.iter().all(label_fits) {
        return Err(wrong("labels: at most 32 texts of 1 to 256 bytes in one line"));
    }
    if outcome.says.len() > SAYS_LEN_MAX || outcome.says.chars().any(char::is_control) {
        return Err(wrong("says: one line of at most 512 bytes"));
    }
    if outcome.outcome != Said::Done && outcome.says.trim().is_empty() {
        return Err(wrong("says: why it is not done, in one line"));
    }
    let digest = outcome.digest.as_deref().map(str::parse).transpose();
    digest.map_err(|_| wrong("digest: SHA-256, 64 hex characters"))
}

fn result(digest: Option<Digest>, labels: Vec<String>, outcome: &Outcome) -> EffectResult {
    let says = format!("whoever ran the session says: {}", outcome.says);
    match outcome.outcome {
        Said::Failed => EffectResult::Failed { reason: says, labels },
        Said::Unknown => EffectResult::Unknown { reason: says, labels },
        Said::Done => {
            let back = digest.map(|digest| format!("; sha256:{digest} came back")).unwrap_or_default();
            let note = digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default();
            let says = if outcome.says.is_empty() { "carried out by whoever ran the session".to_owned() } else { says };
            Happened { effect_ref: says + &back, note, labels, ..Happened::default() }.into()
        }
    }
}

/// Waits until what was said is on the record.
async fn written(context: &Context, call: FactId, said: Said) -> Answer<CallAnswer> {
    // A late word on what counts as unknown is written too, but not waited for: that it is unknown is an end already.
    let Json(answer) = settled(context, call, WRITTEN_MS_MAX, None).await?;
    if answer.state == ProposalState::Started {
        let detail = format!("this node has taken note that it is {said:?}, and cannot write it down yet");
        return Err(Problem::unavailable("not_written", detail).hint("`cauldron status` says why"));
    }
    Ok(Json(answer))
}

/// A read of the session is given out, and ends by itself when nobody speaks of it.
pub(super) fn read_out(context: &Context, step: u64, session: Digest, errand: Errand) -> Json<CallAnswer> {
    let (later, within) = (context.clone(), Duration::from_millis(errand.report_within_ms));
    tokio::spawn(async move {
        tokio::time::sleep(within).await;
        // Told meanwhile: nothing is left to do.
        let Ok(labels) = later.facts.hands.elsewhere().told(&Work::Read(step), &session) else { return };
        let problem = format!("whoever runs its session has not said within {} s what came back", within.as_secs());
        let command =
            Command::Returned { step, result: Some(returned(None, 0, labels)), problem: Some(problem.clone()) };
        match later.node.command(command).await {
            Ok(_) => tracing::warn!(step, problem, "a read ended without a word"),
            Err(why) => tracing::warn!(step, ?why, "a read that nobody speaks of could not be recorded"),
        }
    });
    Json(CallAnswer {
        id: format!("{READ_PREFIX}{step}"),
        state: ProposalState::Started,
        why: vec!["policy allows it: read, and say what came back".to_owned()],
        bytes: None,
        labels: Vec::new(),
        execute: Some(errand),
    })
}

async fn tell_read(
    context: &Context,
    step: u64,
    digest: Option<Digest>,
    labels: Vec<String>,
    outcome: &Outcome,
) -> Answer<CallAnswer> {
    // The labels of what did not come back whole count as well.
    let result = Some(returned(digest, outcome.len, labels));
    let problem = (outcome.outcome != Said::Done).then(|| outcome.says.clone());
    match context.node.command(Command::Returned { step, result, problem }).await? {
        Reply::Recorded(id) => settled(context, id, 0, None).await,
        other => Err(Problem::unavailable("unexpected", format!("the core answered {other:?}"))),
    }
}

fn returned(digest: Option<Digest>, len: u64, labels: Vec<String>) -> Returned {
    let nothing = || Digest::from_bytes(cauldron_identity::ids::sha256(b""));
    Returned { digest: digest.unwrap_or_else(nothing), len, labels }
}

/// A call of this session, by its id.
async fn call_named(context: &Context, session: &Digest, call: &str) -> Result<FactId, Problem> {
    let id: FactId = call.parse().map_err(|_| Problem::not_found(format!("{call} is no call")))?;
    let of = context.node.read(move |core| core.session_of_call(&id)).await?;
    match of {
        Some(of) if of == *session => Ok(id),
        Some(_) => Err(Problem::conflict("not_your_session", "this call belongs to another session")),
        None => Err(Problem::not_found(format!("{id} is no call of a session"))),
    }
}
