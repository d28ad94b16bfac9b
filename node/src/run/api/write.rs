//! What one may ask of a node. An answer is given only when what it says is durable here (level `local`).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use cauldron_coordinator::action::Catalogue;
use cauldron_coordinator::bodies::{Proposal, SAGA_STEPS_MAX};
use cauldron_coordinator::vote::SignedVote;
use cauldron_identity::SpiffeId;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::codec::from_cbor;
use cauldron_node_core::enrol::TokenId;
use cauldron_node_core::view::{Time, VoteView};
use cauldron_node_core::{Command, Reply};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::{Context, Problem};
use crate::run::effects::NotSeen;
use crate::run::propose::{Look, ProposalRequest, SagaRequest, Seen};
use crate::token::JoinToken;

/// Where something was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recorded {
    /// The fact.
    pub id: String,
    /// The durability level reached.
    pub level: &'static str,
    /// Whether the same thing had been recorded before.
    pub already: bool,
}

pub(super) async fn record(context: &Context, command: Command) -> Result<Json<Recorded>, Problem> {
    match context.node.command(command).await? {
        Reply::Recorded(id) => Ok(Json(Recorded { id: id.to_string(), level: "local", already: false })),
        Reply::Already(id) => Ok(Json(Recorded { id: id.to_string(), level: "local", already: true })),
        other => Err(Problem::unavailable("unexpected", format!("the core answered {other:?}"))),
    }
}

/// Proposes an action.
#[utoipa::path(post, path = "/v1/proposals", request_body = serde_json::Value, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn propose(
    State(context): State<Context>,
    Json(request): Json<ProposalRequest>,
) -> Result<Json<Recorded>, Problem> {
    let proposal = proposal_of(&context, request).await?;
    if context.facts.hands.elsewhere().connector(&proposal.operation).is_some() {
        let detail = format!("{} is carried out by whoever runs a session", proposal.operation);
        return Err(Problem::bad_request("needs_session", detail).hint("open a session, and call it there"));
    }
    // The root of the trace that the proposal's facts carry on.
    let span = tracing::info_span!("propose");
    let traceparent = Some(span.in_scope(crate::telemetry::traceparent));
    record(&context, Command::Propose { proposal: Box::new(proposal), traceparent }).instrument(span).await
}

/// Every step of a saga, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordedSaga {
    /// The proposals, the first step first.
    pub steps: Vec<String>,
    /// The durability level reached.
    pub level: &'static str,
}

/// Proposes several actions at once: each is judged alone and done after the one before it, and when one is not done, those before
/// it are taken back, the last first. All are proposed, or none.
#[utoipa::path(post, path = "/v1/sagas", request_body = serde_json::Value, responses((status = 200, body = RecordedSaga), (status = 409, body = Problem)))]
pub async fn propose_saga(
    State(context): State<Context>,
    Json(request): Json<SagaRequest>,
) -> Result<Json<RecordedSaga>, Problem> {
    let (mut steps, of) = (Vec::new(), request.steps.len());
    if u32::try_from(of).is_ok_and(|of| of > SAGA_STEPS_MAX) {
        return Err(Problem::bad_request(
            "bad_saga",
            format!("a saga has 2 to {SAGA_STEPS_MAX} steps, this one has {of}"),
        ));
    }
    for (n, step) in (1..).zip(request.steps) {
        let name = |p: Problem| p.within(&format!("step {n} of {of}"));
        let proposal = proposal_of(&context, step).await.map_err(name)?;
        if context.facts.hands.elsewhere().connector(&proposal.operation).is_some() {
            let detail = format!("{} is carried out by whoever runs a session", proposal.operation);
            return Err(name(Problem::bad_request("needs_session", detail)));
        }
        steps.push(proposal);
    }
    let span = tracing::info_span!("propose");
    let traceparent = Some(span.in_scope(crate::telemetry::traceparent));
    let reply = context.node.command(Command::ProposeSaga { steps, traceparent }).instrument(span).await?;
    match reply {
        Reply::Saga(ids) => {
            Ok(Json(RecordedSaga { steps: ids.iter().map(ToString::to_string).collect(), level: "local" }))
        }
        other => Err(Problem::unavailable("unexpected", format!("the core answered {other:?}"))),
    }
}

/// The proposal that a request asks for, at a resource of this node, with what its connector sees.
pub(super) async fn proposal_of(context: &Context, request: ProposalRequest) -> Result<Proposal, Problem> {
    let catalogue = context.node.read(|core| core.catalogue().clone()).await?;
    let look = look(context, &request, &catalogue).await?;
    let proposal = request.into_proposal(&context.facts.spiffe_id, &catalogue, look);
    proposal.map_err(|e| Problem::bad_request("proposal", e))
}

/// What the connector sees before anything is proposed: people decide on what the resource's owner would change.
async fn look(context: &Context, request: &ProposalRequest, catalogue: &Catalogue) -> Result<Look, Problem> {
    let action = request.action(catalogue).map_err(|e| Problem::bad_request("proposal", e))?;
    let (needed, connector) = (action.schema().about().versioned, action.connector().to_owned());
    let resource = request.resource(&context.facts.spiffe_id, &action);
    let resource = resource.map_err(|e| Problem::bad_request("proposal", e))?;
    let of = resource.clone();
    let (own, elsewhere) = context.node.read(move |core| (core.owns_resource(&of), core.owned_elsewhere(&of))).await?;
    if let Some(owner) = elsewhere {
        // Another machine would carry it out: what stands here says nothing of that.
        if !needed || request.names_version() {
            return Ok(Look::Elsewhere);
        }
        let detail = format!("{owner} owns {resource}, and only that node can say what would change");
        return Err(Problem::bad_request("not_owner", detail)
            .hint("propose there, or name what you know of it as `expected_version`"));
    }
    if !own && request.names_node() {
        let detail = format!("no node is enrolled that owns {resource}");
        return Err(Problem::bad_request("not_owner", detail).hint("`node` is the name of a node of this site"));
    }
    match context.facts.hands.look(action).await {
        Ok(seen) => Ok(Look::Own(seen)),
        Err(NotSeen::NoConnector) if !needed => Ok(Look::Own(Seen::default())),
        Err(NotSeen::NoConnector) => {
            let detail = format!("this node has no connector {connector}, and only that can say what would change");
            Err(Problem::bad_request("no_connector", detail)
                .hint("propose at the node that has it; `cauldron status` lists connectors"))
        }
        Err(NotSeen::Refused(why)) => Err(Problem::bad_request("dry_run", why)),
        // What has no versions can be judged without a look; the owner compares nothing at the effect either.
        Err(NotSeen::Silent(why)) if !needed => {
            tracing::warn!(why, "proposed without a dry run");
            Ok(Look::Own(Seen::default()))
        }
        Err(NotSeen::Silent(why)) => {
            Err(Problem::unavailable("connector_hangs", why).hint("`cauldron status` says since when"))
        }
    }
}

/// Who wants an effect back.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UndoRequest {
    /// Who asks, as the record will name them; whoever may open the socket is believed.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Of a saga's step also while later steps stand; they are taken back then by their own owners, as far as they hear of it.
    #[serde(default)]
    pub out_of_turn: bool,
}

/// Takes back what this node did: carries out the undo that was permitted with it. Needs no other permit, no coordinator
/// and no policy.
#[utoipa::path(post, path = "/v1/proposals/{id}/undo", request_body = UndoRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn undo(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(request): Json<UndoRequest>,
) -> Result<Json<Recorded>, Problem> {
    let plain = |text: &str, max| !text.trim().is_empty() && text.len() <= max && !text.chars().any(char::is_control);
    if !plain(&request.by, 128) || !plain(&request.reason, 2_048) {
        return Err(Problem::bad_request("undo", "by (128 bytes) and reason (2,048 bytes) say something, in one line"));
    }
    let proposal = context.node.read(move |core| core.find(&id)).await?.map_err(Problem::not_found)?;
    let by = format!("{} at {}", request.by, context.facts.spiffe_id);
    let (reason, out_of_turn) = (request.reason, request.out_of_turn);
    record(&context, Command::Undo { proposal, by, reason, out_of_turn }).await
}

/// What a permitted read brought.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadingAnswer {
    /// The bytes, in base64.
    pub bytes: String,
    /// Labels that travel with them.
    pub labels: Vec<String>,
}

/// What the read that was proposed brought. Kept in memory, for the last 64 reads since the start.
#[utoipa::path(get, path = "/v1/proposals/{id}/reading", responses((status = 200, body = ReadingAnswer), (status = 404, body = Problem)))]
pub async fn reading(State(context): State<Context>, Path(id): Path<String>) -> Result<Json<ReadingAnswer>, Problem> {
    let permits = context.node.read(move |core| core.find(&id).map(|found| core.permits_of(&found))).await?;
    let permits = permits.map_err(Problem::not_found)?;
    let reading = permits.iter().find_map(|permit| context.facts.hands.reading(permit));
    let reading = reading.ok_or_else(|| Problem::not_found("nothing was read under it since this node started"))?;
    Ok(Json(ReadingAnswer { bytes: BASE64_STANDARD.encode(&reading.bytes), labels: reading.labels }))
}

/// A person's vote: the statement exactly as signed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VoteRequest {
    /// The signed vote, CBOR in base64.
    pub vote: String,
}

/// Where a vote was recorded, and what it comes to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Voted {
    /// Where it was recorded.
    #[serde(flatten)]
    pub recorded: Recorded,
    /// What it comes to; none where this node holds no decision that it could be about.
    pub vote: Option<VoteView>,
}

/// Carries a person's vote. The node checks nothing that the owner will not check again.
#[utoipa::path(post, path = "/v1/approvals/{id}/votes", request_body = VoteRequest, responses((status = 200, body = Voted), (status = 409, body = Problem)))]
pub async fn vote(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(request): Json<VoteRequest>,
) -> Result<Json<Voted>, Problem> {
    let bytes = decode(&request.vote)?;
    let vote: SignedVote = from_cbor(&bytes).map_err(|e| Problem::bad_request("vote", e.to_string()))?;
    let statement = vote.statement().map_err(|e| Problem::bad_request("vote", e.to_string()))?;
    if !statement.proposal.to_string().starts_with(&id) {
        return Err(Problem::bad_request("vote", format!("the statement is about {}, not {id}", statement.proposal)));
    }
    let Json(recorded) = record(&context, Command::Vote(Box::new(vote.clone()))).await?;
    let now = context.clock.now();
    let vote = context.node.read(move |core| core.weigh(now, &vote)).await?;
    Ok(Json(Voted { recorded, vote }))
}

/// The clock after a reset.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockAnswer {
    /// The wall clock that this node believes from here on (RFC 3339).
    #[schema(value_type = String)]
    pub now: Time,
}

/// Says for the operator that this machine's wall clock is right, though its own past disagrees.
#[utoipa::path(post, path = "/v1/clock/reset", responses((status = 200, body = ClockAnswer), (status = 409, body = Problem)))]
pub async fn clock_reset(State(context): State<Context>) -> Result<Json<ClockAnswer>, Problem> {
    context.node.command(Command::TimeReset).await?;
    Ok(Json(ClockAnswer { now: Time(context.clock.now().wall_ms) }))
}

/// Whom a join token admits.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// The SPIFFE ID of the new node.
    pub spiffe_id: String,
    /// How long it is good, milliseconds; `authority.token_lifetime` without, and at most.
    pub ttl_ms: Option<u64>,
}

/// A join token. Shown once; its secret is stored nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// The token, for `cauldron node join`.
    pub token: String,
    /// Whom it admits.
    pub spiffe_id: String,
    /// Until when.
    pub expires: String,
}

/// Mints a join token (sequencer only).
#[utoipa::path(post, path = "/v1/authority/tokens", request_body = TokenRequest, responses((status = 200, body = Token), (status = 409, body = Problem)))]
pub async fn token(State(context): State<Context>, Json(request): Json<TokenRequest>) -> Result<Json<Token>, Problem> {
    let bad = |detail: String| Problem::bad_request("token", detail);
    let spiffe_id = SpiffeId::new(&request.spiffe_id).map_err(|e| bad(format!("{}: {e}", request.spiffe_id)))?;
    let longest = context.facts.config.authority.as_ref().map(|a| a.token_lifetime.as_millis());
    let ttl_ms_max = longest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let ttl_ms = request.ttl_ms.unwrap_or(ttl_ms_max);
    if ttl_ms_max > 0 && (ttl_ms == 0 || ttl_ms > ttl_ms_max) {
        return Err(bad(format!("ttl_ms must be between 1 and {ttl_ms_max} (authority.token_lifetime)")));
    }
    let (id, secret): ([u8; 16], [u8; 32]) = (crate::chance::bytes(), crate::chance::bytes());
    let expires_ms = context.clock.now().wall_ms.saturating_add(ttl_ms);
    let secret_hash = cauldron_identity::ids::sha256(&secret);
    let command = Command::Token { id: TokenId(id), secret_hash, spiffe_id: spiffe_id.clone(), expires_ms };
    context.node.command(command).await?;
    let token = JoinToken {
        mesh: context.facts.mesh,
        addresses: context.facts.join_addresses(&context.mesh.listen_addrs().await),
        id,
        secret,
        spiffe_id: spiffe_id.to_string(),
        expires_ms,
    };
    Ok(Json(Token {
        token: token.encode(),
        spiffe_id: spiffe_id.to_string(),
        expires: cauldron_node_core::view::Time(expires_ms).to_string(),
    }))
}

/// An entry that people signed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EntryRequest {
    /// The entry's body, CBOR in base64.
    pub entry: String,
}

/// Adds an entry to the authority chain (sequencer only), or a term (any node). The node refuses one that lacks signatures
/// or does not follow the present head.
#[utoipa::path(post, path = "/v1/authority/entries", request_body = EntryRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn entry(
    State(context): State<Context>,
    Json(request): Json<EntryRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.entry)?;
    let body: EntryBody = from_cbor(&bytes).map_err(|e| Problem::bad_request("entry", e.to_string()))?;
    record(&context, Command::Authority(Box::new(body))).await
}

pub(super) fn decode(text: &str) -> Result<Bytes, Problem> {
    BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(text))
        .map(Bytes::from)
        .map_err(|e| Problem::bad_request("base64", e.to_string()))
}
