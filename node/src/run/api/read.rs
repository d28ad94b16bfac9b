//! What a node shows.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_crdt::doc::What;
use cauldron_identity::FactId;
use cauldron_identity::codec::to_cbor;
use cauldron_node_core::view::{
    ApprovalView, AuditEntry, AuthorityView, Check, LagView, PartitionsView, ProposalView, SiteView, SyncView, Time,
};
use cauldron_node_core::{Event, NodeCore};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use utoipa::{IntoParams, ToSchema};

use super::{Context, Problem};
use crate::receipt::Receipt;
use crate::run::facts::Facts;
use crate::successor::Export;

/// Entries of an audit listing when the request names no limit, and at most.
const AUDIT_LIMIT: usize = 100;
const AUDIT_LIMIT_MAX: usize = 10_000;

/// A list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Items<T> {
    /// Its members.
    pub items: Vec<T>,
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;

pub(super) async fn ask<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&NodeCore) -> T + Send + 'static,
) -> Result<T, Problem> {
    Ok(context.node.read(read).await?)
}

/// The id that `text` names: whole, or the first characters of exactly one fact's.
async fn find(context: &Context, text: String) -> Result<FactId, Problem> {
    ask(context, move |core| core.find(&text)).await?.map_err(Problem::not_found)
}

/// The process answers.
#[utoipa::path(get, path = "/v1/live", responses((status = 200, body = Value)))]
pub async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// The node takes work: it holds an SVID that is valid and may write.
#[utoipa::path(get, path = "/v1/ready", responses((status = 200, body = Value), (status = 503, body = Problem)))]
pub async fn ready(State(context): State<Context>) -> Answer<Value> {
    let now = context.clock.now();
    let own = ask(&context, move |core| core.self_view(now)).await?;
    match own.state {
        "active" | "isolated" => Ok(Json(json!({ "ready": true, "state": own.state }))),
        state => Err(Problem::unavailable("not_ready", format!("the node is {state}")).hint(own.reasons.join("; "))),
    }
}

/// This node: who it is, how it is, what runs out when.
#[utoipa::path(get, path = "/v1/self", responses((status = 200, body = Value)))]
pub async fn this_node(State(context): State<Context>) -> Answer<Value> {
    let now = context.clock.now();
    let (own, runway) = ask(&context, move |core| (core.self_view(now), core.runway(now))).await?;
    let mut value = to_value(&own)?;
    merge(&mut value, context.facts.about_self(now, runway, &context.mesh.status().await, context.mesh.counters()));
    let page = page(&context).await?;
    let idle = context.facts.authority.as_ref().and_then(|keeper| keeper.idle_because()).map(str::to_owned);
    if let Some(reasons) = value["reasons"].as_array_mut() {
        let page_problem = page["problem"].as_str().map(str::to_owned);
        let problems = context.facts.problems().into_iter().chain(idle).chain(page_problem);
        reasons.extend(problems.map(Value::from));
    }
    merge(&mut value, json!({ "page": page }));
    Ok(Json(value))
}

/// The approval page that this node serves, and why it answers nobody.
async fn page(context: &Context) -> Result<Value, Problem> {
    let Some(serve) = &context.facts.config.page.serve else { return Ok(Value::Null) };
    let origin = serve.origin.clone();
    let problem = ask(context, move |core| crate::run::page::standing(core, &origin).err()).await?;
    Ok(
        json!({ "url": serve.origin, "listen": serve.listen.to_string(), "tls": serve.tls.is_some(), "problem": problem }),
    )
}

/// Every enrolled member but this node, with what the wire says about it.
#[utoipa::path(get, path = "/v1/peers", responses((status = 200, body = Value)))]
pub async fn peers(State(context): State<Context>) -> Answer<Value> {
    let now = context.clock.now();
    let (peers, flows) = ask(&context, move |core| (core.peers_view(now), core.flow_view(now))).await?;
    let status = context.mesh.status().await;
    let wires = Facts::wires(&status);
    let mut items = Vec::with_capacity(peers.len());
    for peer in peers {
        let mut item = to_value(&peer)?;
        merge(&mut item, wires.get(&peer.spiffe_id).cloned().unwrap_or_else(|| json!({ "address": null })));
        if let Some(flow) = flows.get(&peer.spiffe_id) {
            merge(&mut item, to_value(flow)?);
        }
        items.push(item);
    }
    Ok(Json(json!({ "items": items, "dialling": Facts::dialling(&status) })))
}

/// The public line of every site, from the replicated board.
#[utoipa::path(get, path = "/v1/sites", responses((status = 200, body = Items<SiteView>)))]
pub async fn sites(State(context): State<Context>) -> Answer<Items<SiteView>> {
    let now = context.clock.now();
    Ok(Json(Items { items: ask(&context, move |core| core.sites_view(now)).await? }))
}

/// Which proposals to list.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ProposalQuery {
    /// Only those in this state.
    state: Option<String>,
}

/// Proposals that this node may read, newest first.
#[utoipa::path(get, path = "/v1/proposals", params(ProposalQuery), responses((status = 200, body = Items<ProposalView>)))]
pub async fn proposals(
    State(context): State<Context>,
    Query(query): Query<ProposalQuery>,
) -> Answer<Items<ProposalView>> {
    let now = context.clock.now();
    let mut items = ask(&context, move |core| core.proposals_view(now)).await?;
    items.retain(|p| query.state.as_ref().is_none_or(|s| p.state.eq_ignore_ascii_case(s)));
    Ok(Json(Items { items }))
}

/// One proposal with everything known about it.
#[utoipa::path(get, path = "/v1/proposals/{id}", responses((status = 200, body = Value), (status = 404, body = Problem)))]
pub async fn proposal(State(context): State<Context>, Path(id): Path<String>) -> Answer<Value> {
    let (now, id) = (context.clock.now(), find(&context, id).await?);
    let found = ask(&context, move |core| core.proposal_view(now, &id)).await?;
    found.map(Json).ok_or_else(|| Problem::not_found(format!("{id} is not a proposal that this node holds")))
}

/// What waits for a person.
#[utoipa::path(get, path = "/v1/approvals", responses((status = 200, body = Items<ProposalView>)))]
pub async fn approvals(State(context): State<Context>) -> Answer<Items<ProposalView>> {
    let now = context.clock.now();
    Ok(Json(Items { items: ask(&context, move |core| core.waiting_view(now)).await? }))
}

/// What a person must see to decide, and the statement to sign.
#[utoipa::path(get, path = "/v1/approvals/{id}", responses((status = 200, body = ApprovalView), (status = 404, body = Problem)))]
pub async fn approval(State(context): State<Context>, Path(id): Path<String>) -> Answer<ApprovalView> {
    let (now, id) = (context.clock.now(), find(&context, id).await?);
    let found = ask(&context, move |core| core.approval_view(now, &id)).await?;
    found.map(Json).map_err(Problem::not_found)
}

/// Which facts to list.
#[derive(Debug, Deserialize, IntoParams)]
pub struct AuditQuery {
    /// How many of the newest; 100 without.
    limit: Option<usize>,
    /// Only this kind.
    kind: Option<String>,
}

/// The newest facts that this node holds, oldest first.
#[utoipa::path(get, path = "/v1/audit", params(AuditQuery), responses((status = 200, body = Items<AuditEntry>)))]
pub async fn audit(State(context): State<Context>, Query(query): Query<AuditQuery>) -> Answer<Items<AuditEntry>> {
    let limit = query.limit.unwrap_or(AUDIT_LIMIT).min(AUDIT_LIMIT_MAX);
    let items = ask(&context, move |core| core.audit_tail(limit, query.kind.as_deref())).await?;
    Ok(Json(Items { items }))
}

/// The story of one lineage, in order.
#[utoipa::path(get, path = "/v1/audit/{lineage}", responses((status = 200, body = Items<AuditEntry>), (status = 404, body = Problem)))]
pub async fn audit_lineage(State(context): State<Context>, Path(id): Path<String>) -> Answer<Items<AuditEntry>> {
    let id = find(&context, id).await?;
    let items = ask(&context, move |core| core.audit_lineage(&id)).await?;
    if items.is_empty() {
        return Err(Problem::not_found(format!("{id} belongs to no proposal that this node holds")));
    }
    Ok(Json(Items { items }))
}

/// What proves a lineage.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptAnswer {
    /// What it says.
    pub says: Value,
    /// Charter, authority chain and facts as they were signed, CBOR in base64.
    pub proof: String,
}

/// The receipt of an action: everything that proves its story, to be checked without a node (`cauldron audit check`).
#[utoipa::path(get, path = "/v1/audit/{lineage}/receipt", responses((status = 200, body = ReceiptAnswer), (status = 404, body = Problem)))]
pub async fn receipt(State(context): State<Context>, Path(id): Path<String>) -> Answer<ReceiptAnswer> {
    let id = find(&context, id).await?;
    let (found, (charter, authority, terms)) =
        ask(&context, move |core| (core.lineage_facts(&id), core.whole_chain())).await?;
    let (lineage, facts, held) =
        found.ok_or_else(|| Problem::not_found(format!("{id} belongs to no proposal that this node holds")))?;
    let steps = ask(&context, move |core| core.saga_facts(&lineage)).await?;
    let receipt = Receipt { authority: Export { charter, authority, terms }, lineage, facts, held, steps };
    let says = receipt.check(None).map_err(|why| Problem::unavailable("not_proven", why))?;
    Ok(Json(ReceiptAnswer { says, proof: BASE64_STANDARD.encode(receipt.bytes()) }))
}

/// Checks every chain, signature and step that this node holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verified {
    /// Whether all checks held.
    pub ok: bool,
    /// Each check.
    pub checks: Vec<Check>,
}

/// Verifies the whole story this node holds, without a network.
#[utoipa::path(get, path = "/v1/audit/verify", responses((status = 200, body = Verified)))]
pub async fn audit_verify(State(context): State<Context>) -> Answer<Verified> {
    let checks = ask(&context, NodeCore::verify).await?;
    Ok(Json(Verified { ok: checks.iter().all(|c| c.ok), checks }))
}

/// What is replicated here, and how far each peer is behind it and ahead of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncAnswer {
    /// Hashes that must be equal elsewhere.
    #[serde(flatten)]
    held: SyncView,
    /// Each peer and each scope that it shares with this node, as it says itself, or last said.
    peers: Vec<LagView>,
}

/// What is replicated here: hashes that must be equal elsewhere, and how far each peer has come.
#[utoipa::path(get, path = "/v1/sync", responses((status = 200, body = SyncAnswer)))]
pub async fn sync(State(context): State<Context>) -> Answer<SyncAnswer> {
    let now = context.clock.now();
    let (held, peers) = ask(&context, move |core| (core.sync_view(now), core.lags_view(now))).await?;
    Ok(Json(SyncAnswer { held, peers }))
}

/// Who can be reached from here and who cannot, by site.
#[utoipa::path(get, path = "/v1/partitions", responses((status = 200, body = PartitionsView)))]
pub async fn partitions(State(context): State<Context>) -> Answer<PartitionsView> {
    let now = context.clock.now();
    Ok(Json(ask(&context, move |core| core.partitions_view(now)).await?))
}

/// Charter, authority chain, members, people and policy.
#[utoipa::path(get, path = "/v1/authority", responses((status = 200, body = AuthorityView)))]
pub async fn authority(State(context): State<Context>) -> Answer<AuthorityView> {
    let now = context.clock.now();
    let mut view = ask(&context, move |core| core.authority_view(now)).await?;
    view.problems.extend(context.facts.authority.iter().filter_map(|keeper| keeper.idle_because()).map(str::to_owned));
    Ok(Json(view))
}

/// The authority chain, for a new sequencer to start with.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportAnswer {
    /// Charter, entries and terms, CBOR in base64.
    pub export: String,
    /// How many entries.
    pub entries: usize,
}

/// Charter and authority chain as they were signed: what a new sequencer starts with when the present one is lost.
#[utoipa::path(get, path = "/v1/authority/export", responses((status = 200, body = ExportAnswer)))]
pub async fn export(State(context): State<Context>) -> Answer<ExportAnswer> {
    let (charter, authority, terms) = ask(&context, NodeCore::whole_chain).await?;
    let entries = authority.len();
    let export = Export { charter, authority, terms };
    Ok(Json(ExportAnswer { export: BASE64_STANDARD.encode(to_cbor(&export)), entries }))
}

/// What people sign an amendment over: the charter as the chain's newest entry leaves it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CharterAnswer {
    /// The mesh id: the hash of the founding charter.
    pub mesh: String,
    /// CBOR in base64.
    pub charter: String,
    /// The last entry, which a new one follows.
    pub head: Option<String>,
    /// Its index.
    pub index: u64,
    /// The number of the sequencer's term.
    pub term: u32,
    /// The last entry that every node holds, when the sequencer forked the chain; a term builds on it.
    pub common: Option<Common>,
}

/// An entry of the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Common {
    /// Its id; none for the founding itself.
    pub head: Option<String>,
    /// Its index.
    pub index: u64,
}

/// The charter that the next entry is judged by.
#[utoipa::path(get, path = "/v1/charter", responses((status = 200, body = CharterAnswer)))]
pub async fn charter(State(context): State<Context>) -> Answer<CharterAnswer> {
    let answer = ask(&context, |core| {
        let authority = core.authority();
        CharterAnswer {
            mesh: authority.mesh().to_string(),
            charter: BASE64_STANDARD.encode(to_cbor(authority.next_charter())),
            head: authority.head().map(|id| id.to_string()),
            index: authority.index(),
            term: authority.term(),
            common: core.common().map(|(head, index)| Common { head: head.map(|id| id.to_string()), index }),
        }
    });
    Ok(Json(answer.await?))
}

/// Where an author's chains end, as far as this node reads them.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndsAnswer {
    /// The author.
    pub author: String,
    /// Its SPIFFE ID.
    pub spiffe_id: String,
    /// Its present life.
    pub incarnation: u32,
    /// CBOR in base64.
    pub ends: String,
}

/// What a suspension, a cut or a term names: the heads of an author, by SPIFFE ID or author id.
#[utoipa::path(get, path = "/v1/authority/ends/{member}", responses((status = 200, body = EndsAnswer), (status = 404, body = Problem)))]
pub async fn ends(State(context): State<Context>, Path(member): Path<String>) -> Answer<EndsAnswer> {
    let unknown = format!("{member} is not enrolled here");
    let answer = ask(&context, move |core| {
        let (author, spiffe_id) = core.member_named(&member)?;
        let (incarnation, ends) = core.ends_of(&author)?;
        let ends = BASE64_STANDARD.encode(to_cbor(&ends));
        Some(EndsAnswer { author: author.to_string(), spiffe_id: spiffe_id.to_string(), incarnation, ends })
    });
    answer.await?.map(Json).ok_or_else(|| Problem::not_found(unknown))
}

/// Whose bundle.
#[derive(Debug, Deserialize, IntoParams)]
pub struct BundleQuery {
    /// A foreign trust domain; ours without.
    trust_domain: Option<String>,
}

/// A trust bundle as a SPIFFE JWK Set: this trust domain's, or one that federation fetched.
#[utoipa::path(get, path = "/v1/bundle", params(BundleQuery), responses((status = 200, body = Value), (status = 404, body = Problem)))]
pub async fn trust_bundle(State(context): State<Context>, Query(query): Query<BundleQuery>) -> Answer<Value> {
    let bundle = context.facts.trust_bundle(query.trust_domain.as_deref()).ok_or_else(|| {
        let whose = query.trust_domain.unwrap_or_default();
        Problem::not_found(format!("no bundle of trust domain `{whose}` is held here"))
            .hint("`cauldron status` shows the trust domains that this node federates with")
    })?;
    let value = serde_json::from_str(&bundle.to_jwks()).unwrap_or(Value::Null);
    Ok(Json(value))
}

/// What a proposal, permit or peer waits for, in sentences.
#[utoipa::path(get, path = "/v1/why/{id}", responses((status = 200, body = Value), (status = 404, body = Problem)))]
pub async fn why(State(context): State<Context>, Path(id): Path<String>) -> Answer<Value> {
    let now = context.clock.now();
    let name = id.clone();
    let (known, peer) = ask(&context, move |core| (core.why(now, &id), core.peer_state(now, &id))).await?;
    let missing = || async { context.facts.why_missing(&name, &context.mesh.status().await) };
    let sentences = match (known, peer) {
        (Ok(known), None | Some("alive")) => known,
        (Ok(mut known), Some(_)) => {
            known.extend(missing().await);
            known
        }
        // No member, but somebody may have called under that name.
        (Err(why), _) => match context.facts.refusals.about(&name) {
            called if called.is_empty() => return Err(Problem::not_found(why)),
            called => std::iter::once(format!("no member of this mesh is called {name}")).chain(called).collect(),
        },
    };
    Ok(Json(json!({ "as_of": Time(now.wall_ms), "sentences": sentences })))
}

/// Events as they happen (server-sent). A follower that is too slow gets an event `missed` with a count.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, content_type = "text/event-stream")))]
pub async fn events(State(context): State<Context>) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let stream = futures::stream::unfold(context.node.events(), |mut events| async move {
        let message = match events.recv().await {
            Ok(event) => message(&event),
            Err(RecvError::Lagged(missed)) => {
                Message::default().event("missed").data(json!({ "count": missed }).to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(message), events))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

fn message(event: &Event) -> Message {
    let (name, data) = match event {
        Event::Stored { id, kind, scope, author, traceparent } => {
            ("stored", json!({ "id": id, "kind": kind, "scope": scope, "author": author, "traceparent": traceparent }))
        }
        Event::Peer { spiffe_id, admitted } => {
            ("peer", json!({ "spiffe_id": spiffe_id.to_string(), "admitted": admitted }))
        }
        Event::Refused { code, detail } => ("refused", json!({ "code": code, "detail": detail })),
        Event::Document { scope, doc, what } => {
            let (fact, epoch) = match what {
                What::Change(fact) => (Some(fact), None),
                What::Base => (None, None),
                What::Epoch(epoch) => (None, Some(epoch)),
            };
            ("document", json!({ "scope": scope, "doc": doc, "fact": fact, "epoch": epoch }))
        }
        Event::Fork { author } => ("fork", json!({ "author": author })),
        Event::Term { n, sequencer } => ("term", json!({ "n": n, "sequencer": sequencer })),
        Event::Frozen { seq } => ("frozen", json!({ "seq": seq })),
        Event::ClockVouched { wall_ms } => ("clock", json!({ "vouched": Time(*wall_ms) })),
        Event::BrokenGlass { id, proposal, reason } => {
            ("break-glass", json!({ "id": id, "proposal": proposal, "reason": reason }))
        }
        Event::Attention { proposal, call, how } => {
            ("attention", json!({ "proposal": proposal, "what": call.name(), "how": how }))
        }
        Event::ClockReset { wall_ms, isolated } => ("clock", json!({ "reset": Time(*wall_ms), "isolated": isolated })),
        Event::State { state, reason } => ("state", json!({ "state": state, "reason": reason })),
    };
    Message::default().event(name).data(data.to_string())
}

fn to_value<T: Serialize>(view: &T) -> Result<Value, Problem> {
    serde_json::to_value(view).map_err(|e| Problem::unavailable("encoding", e.to_string()))
}

/// Adds the members of `more` to the object `value`.
fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}
