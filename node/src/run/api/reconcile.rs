//! People who found out whether something happened.

use axum::Json;
use axum::extract::State;
use cauldron_coordinator::bodies::Word;
use cauldron_identity::codec::from_cbor;
use cauldron_node_core::Command;
use serde::Deserialize;
use utoipa::ToSchema;

use super::write::{Recorded, decode, record};
use super::{Context, Problem};

/// A person's word of what became of a start.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WordRequest {
    /// The signed statement, CBOR in base64.
    pub word: String,
}

/// Carries a person's word of whether something happened of which nobody knows.
#[utoipa::path(post, path = "/v1/reconciliations", request_body = WordRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn reconcile(
    State(context): State<Context>,
    Json(request): Json<WordRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.word)?;
    let word: Word = from_cbor(&bytes).map_err(|e| Problem::bad_request("word", e.to_string()))?;
    record(&context, Command::Reconcile(Box::new(word))).await
}
