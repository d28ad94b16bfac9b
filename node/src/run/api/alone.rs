//! Broken glass, its reviews, and lifts at an isolated site.

use axum::Json;
use axum::extract::State;
use cauldron_coordinator::bodies::{BrokenGlass, Review, SiteLift};
use cauldron_identity::codec::from_cbor;
use cauldron_node_core::view::GlassView;
use cauldron_node_core::{Command, NodeCore};
use serde::Deserialize;
use utoipa::ToSchema;

use super::read::{Answer, Items};
use super::write::{Recorded, decode, record};
use super::{Context, Problem};

/// Where somebody broke the glass, newest first.
#[utoipa::path(get, path = "/v1/break-glass", responses((status = 200, body = Items<GlassView>)))]
pub async fn list(State(context): State<Context>) -> Answer<Items<GlassView>> {
    Ok(Json(Items { items: context.node.read(NodeCore::glass_view).await? }))
}

/// A use of a token.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UseRequest {
    /// The use as the token signed it, CBOR in base64.
    #[serde(rename = "use")]
    pub used: String,
}

/// Uses a break-glass token for one proposal. What the owner would refuse is refused here, and the token stays good.
#[utoipa::path(post, path = "/v1/break-glass", request_body = UseRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn use_token(
    State(context): State<Context>,
    Json(request): Json<UseRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.used)?;
    let used: BrokenGlass = from_cbor(&bytes).map_err(|e| Problem::bad_request("use", e.to_string()))?;
    record(&context, Command::BreakGlass(Box::new(used))).await
}

/// A person's look at a use of a token, at an action, or at a failure.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReviewRequest {
    /// The signed statement, CBOR in base64.
    pub review: String,
}

/// Carries a person's word that they have looked at a use of a token, at an action that is audited, or at a failure that they accept (`review` of
/// `GET /v1/proposals/{id}` names the facts). What would settle nothing is refused.
#[utoipa::path(post, path = "/v1/break-glass/reviews", request_body = ReviewRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn review(
    State(context): State<Context>,
    Json(request): Json<ReviewRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.review)?;
    let review: Review = from_cbor(&bytes).map_err(|e| Problem::bad_request("review", e.to_string()))?;
    record(&context, Command::Review(Box::new(review))).await
}

/// A person's part of a lift.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LiftRequest {
    /// The signed statement, CBOR in base64.
    pub lift: String,
}

/// Carries the word of one of an isolated site's own people that a restriction of one of them is lifted.
#[utoipa::path(post, path = "/v1/isolation/lifts", request_body = LiftRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn lift(State(context): State<Context>, Json(request): Json<LiftRequest>) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.lift)?;
    let lift: SiteLift = from_cbor(&bytes).map_err(|e| Problem::bad_request("lift", e.to_string()))?;
    record(&context, Command::SiteLift(Box::new(lift))).await
}
