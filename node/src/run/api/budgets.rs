//! Budgets: what is left of them and who holds it, and bringing rights into being, handing them on and using them.

use axum::Json;
use axum::extract::{Path, Query, State};
use cauldron_crdt::escrow::{Budget, purpose_named};
use cauldron_identity::AuthorId;
use cauldron_node_core::view::BudgetsView;
use cauldron_node_core::{BudgetAct, Command};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::read::{Answer, ask};
use super::write::{Recorded, record};
use super::{Context, Problem};

fn named(budget: &str) -> Result<Budget, Problem> {
    Budget::new(budget).map_err(|e| Problem::bad_request("budget", e.to_string()))
}

/// The author that acts under a SPIFFE ID, or has this id.
async fn author(context: &Context, name: &str) -> Result<AuthorId, Problem> {
    let of = name.to_owned();
    let found = ask(context, move |core| core.member_named(&of)).await?;
    found.map(|(author, _)| author).ok_or_else(|| {
        Problem::bad_request("member", format!("{name:?} is no enrolled member")).hint("`cauldron peers` names them")
    })
}

/// Which windows.
#[derive(Debug, Deserialize, IntoParams)]
pub struct WindowsQuery {
    /// Those that are over too.
    #[serde(default)]
    all: bool,
}

/// Every budget and window of which something was minted, by the facts that have reached this node; and what this node has
/// reserved and not settled.
#[utoipa::path(get, path = "/v1/budgets", params(WindowsQuery), responses((status = 200, body = BudgetsView)))]
pub async fn list(State(context): State<Context>, Query(query): Query<WindowsQuery>) -> Answer<BudgetsView> {
    let now = context.clock.now();
    Ok(Json(ask(&context, move |core| core.budgets_view(now, query.all)).await?))
}

/// Rights for one window.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MintRequest {
    /// How much, in the budget's minor unit.
    amount: u64,
    /// How long the budget's windows are, 0 without time; may be left out when something of it was minted before.
    window_ms: Option<u64>,
    /// The window's number; the open one when absent.
    window: Option<u64>,
    /// SPIFFE ID or author id of whoever holds it first; the sequencer when absent.
    holder: Option<String>,
}

/// Brings the rights of one window into being (sequencer only): once, and never again. They count when another node holds
/// the entry.
#[utoipa::path(post, path = "/v1/budgets/{budget}/mint", request_body = MintRequest, responses((status = 200, body = Recorded), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn mint(
    State(context): State<Context>,
    Path(budget): Path<String>,
    Json(request): Json<MintRequest>,
) -> Answer<Recorded> {
    let budget = named(&budget)?;
    let holder = match &request.holder {
        Some(name) => Some(author(&context, name).await?),
        None => None,
    };
    let MintRequest { amount, window_ms, window, .. } = request;
    record(&context, Command::Budget(BudgetAct::Mint { budget, window, window_ms, amount, holder })).await
}

/// Rights for another node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// How much.
    amount: u64,
    /// SPIFFE ID or author id of the receiver.
    to: String,
    /// The window's number; the open one when absent.
    window: Option<u64>,
}

/// Hands rights that this node holds to another. Only the receiver's refusal brings them back.
#[utoipa::path(post, path = "/v1/budgets/{budget}/grant", request_body = GrantRequest, responses((status = 200, body = Recorded), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn grant(
    State(context): State<Context>,
    Path(budget): Path<String>,
    Json(request): Json<GrantRequest>,
) -> Answer<Recorded> {
    let (budget, to) = (named(&budget)?, author(&context, &request.to).await?);
    let GrantRequest { amount, window, .. } = request;
    record(&context, Command::Budget(BudgetAct::Grant { budget, window, amount, to })).await
}

/// Rights to set aside.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// How much.
    amount: u64,
    /// What for, in words of your own; only their hash leaves this node.
    purpose: String,
}

/// Sets rights of the open window aside, before anything is started. The same purpose again is answered with the same fact.
#[utoipa::path(post, path = "/v1/budgets/{budget}/reserve", request_body = ReserveRequest, responses((status = 200, body = Recorded), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn reserve(
    State(context): State<Context>,
    Path(budget): Path<String>,
    Json(request): Json<ReserveRequest>,
) -> Answer<Recorded> {
    let (budget, amount) = (named(&budget)?, request.amount);
    if request.purpose.trim().is_empty() {
        return Err(Problem::bad_request("purpose", "a reservation is for something: say what"));
    }
    let purpose = purpose_named(&request.purpose);
    record(&context, Command::Budget(BudgetAct::Reserve { budget, amount, purpose })).await
}

/// How a reservation ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// How much of it was spent, 0 when nothing happened.
    spent: u64,
}

/// Ends a reservation of this node: what was not spent is held again.
#[utoipa::path(post, path = "/v1/budgets/reservations/{id}/settle", request_body = SettleRequest, responses((status = 200, body = Recorded), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn settle(
    State(context): State<Context>,
    Path(id): Path<String>,
    Json(request): Json<SettleRequest>,
) -> Answer<Recorded> {
    let reserve = ask(&context, move |core| core.find(&id)).await?.map_err(Problem::not_found)?;
    record(&context, Command::Budget(BudgetAct::Settle { reserve, spent: request.spent })).await
}
