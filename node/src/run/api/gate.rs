//! The API before the node runs: whoever asks a node that is still joining is told so, instead of waiting for it.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;

use super::Problem;

/// Answers from the first moment on; with the node's routes once [`Gate::open`] was called.
#[derive(Clone, Default)]
pub struct Gate(Arc<OnceLock<Router>>);

impl Gate {
    /// What is served on the socket.
    pub fn router(&self) -> Router {
        let gate = self.clone();
        Router::new().fallback(move |request: Request| async move { gate.answer(request).await })
    }

    /// From here on the node itself answers.
    pub fn open(&self, router: Router) {
        // Opened once: there is one node in a process.
        let _ = self.0.set(router);
    }

    async fn answer(&self, request: Request) -> Response {
        match self.0.get() {
            Some(router) => match router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None if request.uri().path() == "/v1/live" => {
                axum::Json(serde_json::json!({ "live": true })).into_response()
            }
            None => Problem::unavailable("starting", "the node is starting: it has no SVID yet, or opens its store")
                .hint("a node that joins asks the addresses of its token until one answers; its log says how that goes")
                .into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers_before_and_after() {
        let gate = Gate::default();
        let get = |path: &str| {
            let request = Request::builder().uri(path).body(axum::body::Body::empty()).expect("a request");
            gate.router().oneshot(request)
        };
        let status = async |path: &str| get(path).await.expect("infallible").status().as_u16();
        assert_eq!((status("/v1/live").await, status("/v1/self").await), (200, 503));
        gate.open(Router::new().route("/v1/self", axum::routing::get(|| async { "here" })));
        assert_eq!((status("/v1/self").await, status("/v1/other").await), (200, 404));
    }
}
