//! Steps in the life of a root of the certificate authority, on the machine that holds its key; and what was issued.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use cauldron_identity::Digest;
use cauldron_identity::authority::{Root, RootState};
use cauldron_node_core::view::IssuanceView;
use cauldron_node_core::{Command, ISSUED_SHOWN_MAX, NodeCore, Refusal, RootStep};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::read::Items;
use super::write::{Recorded, record};
use super::{Context, Problem};
use crate::root_key;
use crate::run::root_keeper::RootKeeper;

/// Issuances when the request names no limit.
const ISSUED_LIMIT: usize = 100;

/// Where the next root key is made.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct PrepareRequest {
    /// A key in a token, as a `pkcs11:` URI; without, one is made in the data directory.
    pub root_key: Option<String>,
    /// Make the key that the URI names; it must not be there yet.
    #[serde(default)]
    pub generate: bool,
}

/// A root that was prepared.
#[derive(Debug, Serialize, ToSchema)]
pub struct Prepared {
    /// SHA-256 of its key's `SubjectPublicKeyInfo`: what the council adds to the charter.
    pub key: String,
}

/// Which root.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RootRequest {
    /// SHA-256 of its key's `SubjectPublicKeyInfo`, or its first characters.
    pub key: Option<String>,
    /// Activate it although not everybody has said to trust it.
    #[serde(default)]
    pub force: bool,
}

/// Which issuances.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct IssuedQuery {
    /// To this SPIFFE ID alone.
    pub spiffe_id: Option<String>,
    /// At most so many, the newest; 100 without, 1000 at most.
    pub limit: Option<usize>,
}

fn keeper(context: &Context) -> Result<&Arc<RootKeeper>, Problem> {
    let none = || Refusal {
        code: "no_authority",
        reason: "this node holds no certificate authority; ask at the sequencer".to_owned(),
    };
    context.facts.authority.as_ref().ok_or_else(|| none().into())
}

/// Makes the next root key and announces its certificate. Nobody trusts it before the council has named its key in the charter.
#[utoipa::path(post, path = "/v1/authority/roots/prepare", request_body = PrepareRequest, responses((status = 200, body = Prepared), (status = 409, body = Problem)))]
pub async fn prepare(
    State(context): State<Context>,
    Json(request): Json<PrepareRequest>,
) -> Result<Json<Prepared>, Problem> {
    let keeper = keeper(&context)?.clone();
    let token = request.root_key.as_deref().map(root_key::from_command_line).transpose();
    let token = token.map_err(|e| Problem::bad_request("root_key", e.to_string()))?;
    let _turn = keeper.turn.lock().await;
    // What would be refused is refused before a key is made.
    context.node.read(NodeCore::may_prepare_root).await??;
    let making = keeper.clone();
    // A token takes its time.
    let made = tokio::task::spawn_blocking(move || {
        making.prepare(token.as_ref().zip(request.root_key.as_deref()), request.generate)
    })
    .await;
    let made = made.map_err(|e| Problem::unavailable("root_key", e.to_string()))?;
    let root = made.map_err(|e| Problem::unavailable("root_key", e.to_string()))?;
    let key = root.key.to_string();
    context.node.command(Command::Root(RootStep::Prepare(root))).await?;
    Ok(Json(Prepared { key }))
}

/// Signs with another root from here on, once everybody trusts it.
#[utoipa::path(post, path = "/v1/authority/roots/activate", request_body = RootRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn activate(
    State(context): State<Context>,
    Json(request): Json<RootRequest>,
) -> Result<Json<Recorded>, Problem> {
    let keeper = keeper(&context)?.clone();
    let _turn = keeper.turn.lock().await;
    let root = the_root(&context, request.key.as_deref(), RootState::Prepared).await?;
    let (key, finding) = (root.key, keeper.clone());
    let found = tokio::task::spawn_blocking(move || finding.find(&root)).await;
    let found = found.map_err(|e| Problem::unavailable("root_key", e.to_string()))?;
    let ca = found.map_err(|e| Problem::unavailable("root_key", e.to_string()))?;
    let answer = record(&context, Command::Root(RootStep::Activate { key, force: request.force })).await?;
    // A kill in between takes the step back: this machine says at its start what it signs with.
    keeper.take(ca).map_err(|e| Problem::unavailable("root_key", e.to_string()))?;
    Ok(answer)
}

/// Has everybody who lives under a root renew now.
#[utoipa::path(post, path = "/v1/authority/roots/taint", request_body = RootRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn taint(
    State(context): State<Context>,
    Json(request): Json<RootRequest>,
) -> Result<Json<Recorded>, Problem> {
    keeper(&context)?;
    let root = the_root(&context, request.key.as_deref(), RootState::Old).await?;
    record(&context, Command::Root(RootStep::Taint { key: root.key })).await
}

/// The published root that is meant: by its key, or the only one in `state`.
async fn the_root(context: &Context, key: Option<&str>, state: RootState) -> Result<Root, Problem> {
    let known = context.node.read(NodeCore::roots_announced).await?;
    let meant: Vec<Root> = match key {
        Some(key) => known.into_iter().filter(|root| starts_with(&root.key, key)).collect(),
        None => known.into_iter().filter(|root| root.state == state).collect(),
    };
    let what = key.map_or_else(|| format!("is {}", word(state)), |key| format!("begins with {key:?}"));
    let mut meant = meant.into_iter();
    match (meant.next(), meant.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(Problem::not_found(format!("no root {what}; `cauldron authority show` lists them"))),
        (Some(_), Some(_)) => Err(Problem::bad_request("root", format!("several roots {what}; name one by its key"))),
    }
}

fn starts_with(key: &Digest, text: &str) -> bool {
    text.len() >= 4 && key.to_string().starts_with(text)
}

fn word(state: RootState) -> &'static str {
    match state {
        RootState::Prepared => "prepared",
        RootState::Active => "active",
        RootState::Old => "old",
        RootState::Tainted => "tainted",
    }
}

/// The log of everything issued, newest first, as far as this node may read.
#[utoipa::path(get, path = "/v1/authority/issued", params(IssuedQuery), responses((status = 200, body = Items<IssuanceView>)))]
pub async fn issued(
    State(context): State<Context>,
    Query(query): Query<IssuedQuery>,
) -> Result<Json<Items<IssuanceView>>, Problem> {
    let limit = query.limit.unwrap_or(ISSUED_LIMIT).min(ISSUED_SHOWN_MAX);
    let look = move |core: &NodeCore| core.issued_view(query.spiffe_id.as_deref(), limit);
    Ok(Json(Items { items: context.node.read(look).await? }))
}
