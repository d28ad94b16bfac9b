//! Proposals by people, deputies, bundles, and what was judged.

use axum::Json;
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::action::{Action, Each};
use cauldron_coordinator::bodies::{Deputy, DeputyStatement, Proposal};
use cauldron_coordinator::policy::Bundle;
use cauldron_coordinator::vote::Presentation;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Digest, FactId};
use cauldron_node_core::view::{JudgedView, Time};
use cauldron_node_core::{Command, NodeCore};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::read::{Answer, Items};
use super::write::{Recorded, decode, record};
use super::{Context, Problem};
use crate::run::archive::StoreArchive;
use crate::run::propose::ProposalRequest;

/// Decisions in one answer.
const JUDGED_MAX: usize = 500;

/// A proposal for a person to sign.
#[derive(Debug, Serialize, ToSchema)]
pub struct Draft {
    /// The proposal, CBOR in base64: what is signed is its content.
    pub proposal: String,
    /// What it says, label and text.
    pub lines: Vec<(String, String)>,
    /// The mesh.
    pub mesh: String,
    /// The authority chain as this node holds it.
    pub authority_head: Option<String>,
}

/// What to change.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EditRequest {
    /// A JSON merge patch (RFC 7396) for the arguments.
    pub set: Value,
}

async fn draft(context: &Context, proposal: Proposal) -> Answer<Draft> {
    let mesh = context.facts.mesh;
    let head = context.node.read(|core| core.authority().head()).await?;
    Ok(Json(Draft {
        lines: lines(&proposal),
        proposal: BASE64_STANDARD.encode(to_cbor(&proposal)),
        mesh: mesh.to_string(),
        authority_head: head.map(|h| h.to_string()),
    }))
}

/// What a proposal says before policy has judged it.
fn lines(p: &Proposal) -> Vec<(String, String)> {
    let Presentation { lines } = cauldron_coordinator::vote::present_proposal(p);
    lines
}

/// Drafts a proposal for a person to sign; nothing is recorded.
#[utoipa::path(post, path = "/v1/proposals/drafts", request_body = serde_json::Value, responses((status = 200, body = Draft), (status = 400, body = Problem)))]
pub async fn draft_proposal(State(context): State<Context>, Json(request): Json<ProposalRequest>) -> Answer<Draft> {
    let proposal = super::write::proposal_of(&context, request).await?;
    draft(&context, proposal).await
}

/// Drafts an edit of a proposal for a person to sign; nothing is recorded.
#[utoipa::path(post, path = "/v1/proposals/{id}/edits", request_body = EditRequest, responses((status = 200, body = Draft), (status = 404, body = Problem)))]
pub async fn draft_edit(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(request): Json<EditRequest>,
) -> Answer<Draft> {
    let found = context.node.read(move |core| core.find(&id)).await?.map_err(Problem::not_found)?;
    let child = context.node.read(move |core| core.edit_draft(&found, &request.set)).await?;
    let mut child = child.map_err(|e| Problem::bad_request("edit", e))?;
    look(&context, &mut child).await?;
    draft(&context, child).await
}

/// What the connector sees, where this node owns the resource: elsewhere nobody can say what the edit would change.
async fn look(context: &Context, child: &mut Proposal) -> Result<(), Problem> {
    let resource = child.resource.clone();
    if !context.node.read(move |core| core.owns_resource(&resource)).await? {
        return Ok(());
    }
    let catalogue = context.node.read(|core| core.catalogue().clone()).await?;
    let action = Action::parse(&catalogue, &child.action_class, &child.args);
    let action = action.map_err(|e| Problem::bad_request("edit", crate::run::chain(&e)))?;
    let by_version = action.schema().about().intent.each == Each::Version;
    if let Ok(seen) = context.facts.hands.look(action.clone()).await {
        if let Some(version) = seen.version.filter(|_| by_version) {
            child.intent_key = action.intent_with(&version);
            child.expected_version = Some(version);
        }
        child.dry_run = seen.dry_run;
        child.blast = seen.blast;
    }
    Ok(())
}

/// A proposal with the signature of whoever wrote or edited it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SignedProposal {
    /// The proposal, CBOR in base64.
    pub proposal: String,
}

/// Records what a person wrote or edited, as they signed it.
#[utoipa::path(post, path = "/v1/proposals/signed", request_body = SignedProposal, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn signed(
    State(context): State<Context>,
    Json(request): Json<SignedProposal>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.proposal)?;
    let proposal: Proposal = from_cbor(&bytes).map_err(|e| Problem::bad_request("proposal", e.to_string()))?;
    record(&context, Command::ByHand(Box::new(proposal))).await
}

/// Somebody's deputy.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeputyView {
    /// Hash of the statement: what takes it back.
    pub id: String,
    /// Whose right it is.
    pub person: String,
    /// Who may use it.
    pub to: String,
    /// In which groups.
    pub groups: Vec<String>,
    /// For which action classes; empty for all.
    pub classes: Vec<String>,
    /// From when on.
    #[schema(value_type = String)]
    pub from: Time,
    /// Until when.
    #[schema(value_type = String)]
    pub until: Time,
}

/// Who may sit for whom now.
#[utoipa::path(get, path = "/v1/deputies", responses((status = 200, body = Items<DeputyView>)))]
pub async fn deputies(State(context): State<Context>) -> Answer<Items<DeputyView>> {
    let now = context.clock.now();
    let said = context.node.read(NodeCore::deputies).await?;
    let holds = |(_, s): &(Digest, DeputyStatement)| s.until_ms >= now.wall_ms;
    let view = |(id, s): (Digest, DeputyStatement)| DeputyView {
        id: id.to_string(),
        person: s.person,
        to: s.to,
        groups: s.groups,
        classes: s.classes,
        from: Time(s.from_ms),
        until: Time(s.until_ms),
    };
    Ok(Json(Items { items: said.into_iter().filter(holds).map(view).collect() }))
}

/// A person's word about a deputy.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeputyRequest {
    /// The signed statement, CBOR in base64.
    pub deputy: String,
}

/// Carries a person's word about a deputy.
#[utoipa::path(post, path = "/v1/deputies", request_body = DeputyRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn deputy(
    State(context): State<Context>,
    Json(request): Json<DeputyRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.deputy)?;
    let deputy: Deputy = from_cbor(&bytes).map_err(|e| Problem::bad_request("deputy", e.to_string()))?;
    record(&context, Command::Deputy(Box::new(deputy))).await
}

/// A policy bundle.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct BundleText {
    /// The packed bundle, base64.
    pub bundle: String,
}

/// Brings a bundle into the mesh, so that it can be activated. It judges nothing by itself.
#[utoipa::path(post, path = "/v1/policy/bundles", request_body = BundleText, responses((status = 200, body = Recorded), (status = 400, body = Problem)))]
pub async fn bring_bundle(
    State(context): State<Context>,
    Json(request): Json<BundleText>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.bundle)?;
    let bundle = Bundle::unpack(&bytes).map_err(|e| Problem::bad_request("bundle", crate::run::chain(&e)))?;
    record(&context, Command::Bundle(Box::new(bundle))).await
}

/// A bundle that was active once, by its digest.
#[utoipa::path(get, path = "/v1/policy/bundles/{digest}", responses((status = 200, body = BundleText), (status = 404, body = Problem)))]
pub async fn bundle(State(context): State<Context>, Path(digest): Path<String>) -> Answer<BundleText> {
    let digest: Digest = digest.parse().map_err(|_| Problem::bad_request("digest", "64 hex characters"))?;
    let bytes = context.node.read(move |core| core.bundle(&digest)).await?;
    let bytes = bytes.ok_or_else(|| Problem::not_found(format!("no bundle {digest} was ever active here")))?;
    Ok(Json(BundleText { bundle: BASE64_STANDARD.encode(bytes) }))
}

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
pub struct JudgedQuery {
    /// Where the answer before ended.
    after: Option<String>,
    /// How many at most, 100 when absent, 500 at most.
    limit: Option<usize>,
}

/// A decision with the document that was judged.
#[derive(Debug, Serialize, ToSchema)]
pub struct Judged {
    #[serde(flatten)]
    #[schema(value_type = serde_json::Value)]
    judged: JudgedView,
    /// The document; none where another node judged it, or it is not kept any more.
    #[schema(value_type = serde_json::Value)]
    input: Option<Value>,
}

/// Decisions, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JudgedPage {
    items: Vec<Judged>,
    /// For the next question; none at the end.
    next: Option<String>,
}

/// What was judged here, oldest first, with the documents that this node kept: to be judged again.
#[utoipa::path(get, path = "/v1/decisions", params(JudgedQuery), responses((status = 200, body = JudgedPage)))]
pub async fn judged(State(context): State<Context>, Query(query): Query<JudgedQuery>) -> Answer<JudgedPage> {
    let after = query.after.as_deref().map(cursor).transpose()?;
    let most = query.limit.unwrap_or(100).clamp(1, JUDGED_MAX);
    let found = context.node.read(move |core| core.judged(after, most)).await?;
    let next = found.last().filter(|_| found.len() == most).map(|j| format!("{}-{}", j.at_ms, j.id));
    let store = StoreArchive(context.store.clone());
    let read = move || {
        let keys: Vec<Vec<u8>> =
            found.iter().map(|j| cauldron_node_core::local::judged_key(&j.evaluation.input_digest)).collect();
        let documents = cauldron_crdt::Archive::read_many(&store, &keys)?;
        let item = |(judged, bytes): (JudgedView, Option<Vec<u8>>)| Judged {
            judged,
            input: bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        };
        Ok::<_, String>(found.into_iter().zip(documents).map(item).collect())
    };
    let items = tokio::task::spawn_blocking(read).await.map_err(|e| Problem::unavailable("stopping", e.to_string()))?;
    let items = items.map_err(|why| Problem::unavailable("store", why))?;
    Ok(Json(JudgedPage { items, next }))
}

fn cursor(text: &str) -> Result<(u64, FactId), Problem> {
    let parsed = text.split_once('-').and_then(|(ms, id)| Some((ms.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| Problem::bad_request("after", "use what `next` of the answer before says"))
}
