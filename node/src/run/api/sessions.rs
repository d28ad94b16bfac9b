//! Sessions: what an agent does for somebody, call by call. Whatever runs the agent, this is its way to act.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{Delegated, Proposal, Returned};
use cauldron_coordinator::ledger::{Recorded as InLedger, State as ProposalState};
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::{Command, OpenSession, Reply};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::read::{Answer, Items};
use super::{Context, Problem};
use crate::run::effects::NotSeen;
use crate::run::effects::elsewhere::Errand;
use crate::run::propose::ProposalRequest;

/// How long a call waits for people and policy, at most, milliseconds; the proposal goes on without whoever waited.
const WAIT_MS_MAX: u64 = 60_000;
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who begins to work for whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// The agent's name below this node.
    pub agent: String,
    /// For whom: a person's id, or a workload's SPIFFE ID.
    pub principal: String,
    /// In which role.
    #[serde(default)]
    pub role: String,
    /// How the principal's right came to the agent: links of `from`, `to`, `operations`, `expires_ms`.
    #[serde(default)]
    #[schema(value_type = Vec<serde_json::Value>)]
    pub delegation: Vec<Delegated>,
    /// What the principal asked for, in its own words, before anything was read; policy may hold calls against it.
    #[serde(default)]
    pub purpose: Option<String>,
}

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Its name, for the calls.
    pub session: String,
    /// The agent's SPIFFE ID.
    pub agent: String,
    /// Whoever shows it may carry out calls of this session. Told once, and forgotten when the node is started again.
    pub key: String,
}

/// Opens a session. Its first call writes it down.
#[utoipa::path(post, path = "/v1/sessions", request_body = SessionRequest, responses((status = 200, body = Session), (status = 409, body = Problem)))]
pub async fn open(
    State(context): State<Context>,
    Json(request): Json<SessionRequest>,
) -> Result<Json<Session>, Problem> {
    let agent = format!("{}/agent/{}", context.facts.spiffe_id, request.agent);
    let open = OpenSession {
        agent: agent.clone(),
        principal: request.principal,
        role: request.role,
        delegation: request.delegation,
        purpose: request.purpose,
    };
    match context.node.command(Command::OpenSession(Box::new(open))).await? {
        Reply::Session(id) => {
            let key = context.facts.hands.elsewhere().opened(id);
            Ok(Json(Session { session: id.to_string(), agent, key }))
        }
        other => Err(Problem::unavailable("unexpected", format!("the core answered {other:?}"))),
    }
}

/// What became of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallAnswer {
    /// The proposal; of a read, the read.
    pub id: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: ProposalState,
    /// Why it stands there, or what it waits for.
    pub why: Vec<String>,
    /// What a read brought, base64.
    pub bytes: Option<String>,
    /// Labels of what came back; they travel into every later call of the session.
    pub labels: Vec<String>,
    /// What whoever runs the session is to do now, where its hands are elsewhere. Given once.
    pub execute: Option<Errand>,
}

/// Makes a call: a read that policy allows is carried out here and now, anything else is proposed and waited for.
#[utoipa::path(post, path = "/v1/sessions/{id}/calls", request_body = serde_json::Value, responses((status = 200, body = CallAnswer), (status = 409, body = Problem)))]
pub async fn call(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(mut request): Json<Value>,
) -> Answer<CallAnswer> {
    let session = session_named(&id)?;
    // How long to wait for what becomes of it; not at all without.
    let wait_ms = request.as_object_mut().and_then(|map| map.remove("wait_ms"));
    let wait_ms = wait_ms.and_then(|ms| ms.as_u64()).unwrap_or(0);
    let key = request.as_object_mut().and_then(|map| map.remove("key"));
    let request: ProposalRequest =
        serde_json::from_value(request).map_err(|e| Problem::bad_request("call", e.to_string()))?;
    let proposal = super::write::proposal_of(&context, request).await?;
    let elsewhere = context.facts.hands.elsewhere();
    if elsewhere.connector(&proposal.operation).is_some() {
        super::outcomes::shows_key(&context, &session, key.as_ref().and_then(Value::as_str))?;
    }
    if elsewhere.is_out(&session) {
        let why =
            "something was given out to this session, and it has not said what came of it; one step follows the other";
        return Err(Problem::conflict("session_busy", why));
    }
    let span = tracing::info_span!("call", operation = proposal.operation);
    let traceparent = Some(span.in_scope(crate::telemetry::traceparent));
    let (class, args) = (proposal.action_class.clone(), proposal.args.clone());
    let out = elsewhere.connector(&proposal.operation).map(|_| session);
    let step = Command::Step { session, proposal: Box::new(proposal), traceparent };
    async {
        match context.node.command(step).await? {
            Reply::Recorded(id) => settled(&context, id, wait_ms, out).await,
            Reply::Read { step } => read(&context, step, &class, &args, session).await,
            other => Err(Problem::unavailable("unexpected", format!("the core answered {other:?}"))),
        }
    }
    .instrument(span)
    .await
}

/// Carries out a read that policy let go ahead, and gives what it brought once that is on the record.
async fn read(context: &Context, step: u64, class: &str, args: &[u8], session: Digest) -> Answer<CallAnswer> {
    let catalogue = context.node.read(|core| core.catalogue().clone()).await?;
    let action = cauldron_coordinator::action::Action::parse(&catalogue, class, args);
    let action = action.map_err(|e| Problem::bad_request("proposal", crate::run::chain(&e)))?;
    let elsewhere = context.facts.hands.elsewhere();
    if let Some(errand) = elsewhere.read(step, session, action.operation(), action.args().clone()) {
        return Ok(super::outcomes::read_out(context, step, session, errand));
    }
    let reading = context.facts.hands.read(action).await.map_err(|why| match why {
        NotSeen::NoConnector => "this node has no connector for it".to_owned(),
        NotSeen::Refused(why) | NotSeen::Silent(why) => why,
    });
    let problem = reading.as_ref().err().cloned();
    let result = reading.as_ref().ok().map(|reading| Returned {
        digest: Digest::from_bytes(cauldron_identity::ids::sha256(&reading.bytes)),
        len: reading.bytes.len() as u64,
        labels: reading.labels.clone(),
    });
    let Reply::Recorded(id) = context.node.command(Command::Returned { step, result, problem }).await? else {
        return Err(Problem::unavailable("unexpected", "the core did not record the read"));
    };
    let Json(mut answer) = settled(context, id, 0, None).await?;
    if let Ok(reading) = reading {
        answer.bytes = Some(BASE64_STANDARD.encode(&reading.bytes));
    }
    Ok(Json(answer))
}

/// What a proposal has come to, once it has come to its end, or there is something to do for the session `out`, or the time is
/// over.
pub(super) async fn settled(context: &Context, id: FactId, wait_ms: u64, out: Option<Digest>) -> Answer<CallAnswer> {
    let began = Instant::now();
    let until = began + Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    loop {
        let now = context.clock.now();
        let found = context.node.read(move |core| core.call_state(now, &id)).await?;
        let (status, labels) = found.ok_or_else(|| Problem::not_found(format!("{id} is no call of a session")))?;
        let under_way =
            status.state.is_open() || matches!(status.state, ProposalState::Started | ProposalState::Compensating);
        let execute = match out.filter(|_| status.state == ProposalState::Started) {
            Some(session) => given(context, &id, session).await?,
            None => None,
        };
        if !under_way || execute.is_some() || Instant::now() >= until {
            let read = core_reading(context, &id).await?;
            return Ok(Json(CallAnswer {
                id: id.to_string(),
                state: status.state,
                why: status.why,
                bytes: read.map(|bytes| BASE64_STANDARD.encode(bytes)),
                labels,
                execute,
            }));
        }
        // Policy alone decides within milliseconds; people do not.
        tokio::time::sleep((began.elapsed() / 4).clamp(LOOK_FIRST, LOOK_EVERY)).await;
    }
}

async fn given(context: &Context, id: &FactId, session: Digest) -> Result<Option<Errand>, Problem> {
    let id = *id;
    let permits = context.node.read(move |core| core.permits_of(&id)).await?;
    let elsewhere = context.facts.hands.elsewhere();
    Ok(permits.iter().find_map(|permit| elsewhere.give(permit, session)))
}

/// What a permitted read of this proposal brought.
async fn core_reading(context: &Context, id: &FactId) -> Result<Option<Vec<u8>>, Problem> {
    let id = *id;
    let permits = context.node.read(move |core| core.permits_of(&id)).await?;
    Ok(permits.iter().find_map(|permit| context.facts.hands.reading(permit)).map(|reading| reading.bytes))
}

/// One step of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    /// The proposal; of a read, the read.
    pub id: String,
    /// Position, from 1.
    pub index: u64,
    /// What was called.
    pub operation: String,
    /// On what.
    pub resource: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: ProposalState,
    /// Labels of what came back.
    pub labels: Vec<String>,
}

/// The steps of a session, the first first.
#[utoipa::path(get, path = "/v1/sessions/{id}", responses((status = 200, body = Items<StepView>), (status = 404, body = Problem)))]
pub async fn steps(State(context): State<Context>, Path(id): Path<String>) -> Answer<Items<StepView>> {
    let session = session_named(&id)?;
    let now = context.clock.now();
    let found = context.node.read(move |core| core.session_steps(now, &session)).await?;
    if found.is_empty() {
        return Err(Problem::not_found(format!("no step of session {id} is here")));
    }
    let view = |(p, state, labels): (InLedger<Proposal>, ProposalState, Vec<String>)| StepView {
        id: p.id.to_string(),
        index: p.body.session.as_ref().map_or(0, |s| s.index),
        operation: p.body.operation,
        resource: p.body.resource,
        state,
        labels,
    };
    Ok(Json(Items { items: found.into_iter().map(view).collect() }))
}

pub(super) fn session_named(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::bad_request("session", "64 hex characters, as `POST /v1/sessions` gave them"))
}
