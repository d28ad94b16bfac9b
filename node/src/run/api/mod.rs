//! The HTTP API on a Unix socket. Whoever may open the socket may ask; the file's mode says who that is.

mod alone;
mod budgets;
mod docs;
mod gate;
mod govern;
mod listen;
mod metrics;
mod outcomes;
mod powers;
mod problem;
mod read;
mod reconcile;
mod roots;
mod sessions;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use cauldron_mesh::MeshHandle;
use cauldron_store::Store;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use gate::Gate;
pub use listen::{SocketError, bind, serve};
pub use problem::Problem;

use crate::clock::SystemClock;
use crate::run::engine::Handle;
use crate::run::facts::Facts;

/// What every handler may use.
#[derive(Clone)]
pub struct Context {
    /// The way to the core.
    pub node: Handle,
    /// The clock of this process.
    pub clock: SystemClock,
    /// The wires.
    pub mesh: MeshHandle,
    /// What the shell knows beside the core: SVID, addresses, configuration.
    pub facts: Arc<Facts>,
    /// Where documents lie that were judged.
    pub store: Arc<dyn Store>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cauldron node API",
        description = "One node of an edge agent mesh. JSON; errors are application/problem+json with `kind` and `hint`; \
                       times are RFC 3339 in UTC, durations end in `_ms`; everything observed carries `as_of`, \
                       `observer`, `age_ms` and `source`."
    ),
    components(schemas(Problem))
)]
struct Document;

/// What may be asked over TCP, without the socket's permissions: whether the process lives and takes work, nothing else.
pub fn health(context: Context) -> Router {
    Router::new()
        .route("/v1/live", axum::routing::get(read::live))
        .route("/v1/ready", axum::routing::get(read::ready))
        .with_state(context)
}

/// All routes, and the document that describes them.
pub fn router(context: Context) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(read::live))
        .routes(routes!(read::ready))
        .routes(routes!(read::this_node))
        .routes(routes!(read::peers))
        .routes(routes!(read::sites))
        .routes(routes!(read::partitions))
        .routes(routes!(docs::list))
        .routes(routes!(docs::show, docs::edit))
        .routes(routes!(docs::history))
        .routes(routes!(docs::blame))
        .routes(routes!(alone::list, alone::use_token))
        .routes(routes!(alone::review))
        .routes(routes!(alone::lift))
        .routes(routes!(reconcile::reconcile))
        .routes(routes!(budgets::list))
        .routes(routes!(budgets::mint))
        .routes(routes!(budgets::grant))
        .routes(routes!(budgets::reserve))
        .routes(routes!(budgets::settle))
        .routes(routes!(read::proposals))
        .routes(routes!(read::proposal))
        .routes(routes!(read::approvals))
        .routes(routes!(read::approval))
        .routes(routes!(read::audit))
        .routes(routes!(read::audit_lineage))
        .routes(routes!(read::receipt))
        .routes(routes!(read::audit_verify))
        .routes(routes!(read::sync))
        .routes(routes!(read::authority))
        .routes(routes!(read::charter))
        .routes(routes!(read::ends))
        .routes(routes!(powers::restrictions, powers::restrict))
        .routes(routes!(powers::restriction))
        .routes(routes!(powers::draft_order))
        .routes(routes!(powers::restrict_signed))
        .routes(routes!(powers::autonomy))
        .routes(routes!(powers::offers, powers::offer))
        .routes(routes!(powers::accept))
        .routes(routes!(read::trust_bundle))
        .routes(routes!(read::why))
        .routes(routes!(read::events))
        .routes(routes!(write::propose))
        .routes(routes!(write::propose_saga))
        .routes(routes!(sessions::open))
        .routes(routes!(sessions::call))
        .routes(routes!(outcomes::wait))
        .routes(routes!(outcomes::tell))
        .routes(routes!(sessions::steps))
        .routes(routes!(govern::draft_proposal))
        .routes(routes!(govern::draft_edit))
        .routes(routes!(govern::signed))
        .routes(routes!(govern::deputies, govern::deputy))
        .routes(routes!(govern::bring_bundle))
        .routes(routes!(govern::bundle))
        .routes(routes!(govern::judged))
        .routes(routes!(write::undo))
        .routes(routes!(write::reading))
        .routes(routes!(write::clock_reset))
        .routes(routes!(write::vote))
        .routes(routes!(write::token))
        .routes(routes!(write::entry))
        .routes(routes!(read::export))
        .routes(routes!(roots::prepare))
        .routes(routes!(roots::activate))
        .routes(routes!(roots::taint))
        .routes(routes!(roots::issued))
        .routes(routes!(metrics::metrics))
        .with_state(context)
        .split_for_parts();
    // As text it takes a tenth of what it takes as a tree, and nobody needs the tree again.
    let document = document.to_json().unwrap_or_else(|error| unreachable!("the document has plain keys: {error}"));
    let document = Bytes::from(document);
    let of_json = [(CONTENT_TYPE, "application/json")];
    router.route("/openapi.json", axum::routing::get(move || std::future::ready((of_json, document.clone()))))
}
