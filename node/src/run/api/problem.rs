//! Errors as `application/problem+json` (RFC 9457) with `kind` and `hint`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cauldron_node_core::Refusal;
use serde::Serialize;
use utoipa::ToSchema;

use crate::run::engine::Stopped;

/// What went wrong, for a program (`kind`) and for a person (`detail`, `hint`).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// A short title.
    pub title: &'static str,
    /// Stable code.
    pub kind: String,
    /// What happened.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// The request itself is wrong.
    pub fn bad_request(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad request", kind, detail)
    }

    /// As things are, that cannot be.
    pub fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "refused", kind, detail)
    }

    /// Nothing has that name.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", "not_found", detail)
    }

    /// This node cannot do that.
    pub fn unavailable(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", kind, detail)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says in which part of the request it is.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        self.detail = format!("{part}: {}", self.detail);
        self
    }

    fn new(status: StatusCode, title: &'static str, kind: &str, detail: impl Into<String>) -> Self {
        Self { status: status.as_u16(), title, kind: kind.into(), detail: detail.into(), hint: None }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let later = ["stopping", "busy"].contains(&refusal.code);
        let status = if later { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
        Self::new(status, "refused", refusal.code, refusal.reason)
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        Self::unavailable("stopping", stopped.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
