//! What stops, what lifts, what moves: restrictions and how far they have got, autonomy, ownership.

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_coordinator::bodies::{Feature, Order, Restriction, Target};
use cauldron_identity::SpiffeId;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_node_core::Command;
use cauldron_node_core::view::{AutonomyView, OfferView, RestrictionView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::read::{Answer, Items, ask};
use super::write::{Recorded, decode, record};
use super::{Context, Problem};

/// What to restrict.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RestrictRequest {
    /// `veto` (a lineage), `kill-class`, `kill-agent`, `kill-build`, `kill-site`, `kill-all`, `stop-feature` or `suspend` (an author).
    pub kind: String,
    /// The lineage's id, the class, the agent's SPIFFE ID, the digest of its build, the site, the
    /// feature, or the member's SPIFFE ID; nothing for `kill-all`.
    pub target: Option<String>,
    /// Why.
    pub reason: String,
}

async fn target(context: &Context, request: &RestrictRequest) -> Result<Target, Problem> {
    let bad = |detail: String| Problem::bad_request("restriction", detail);
    let text = request.target.clone().unwrap_or_default();
    Ok(match request.kind.as_str() {
        "veto" => {
            let found = context.node.read(move |core| core.find(&text)).await?.map_err(Problem::not_found)?;
            let lineage = context.node.read(move |core| core.lineage_of(&found)).await?;
            Target::Lineage(lineage.ok_or_else(|| bad(format!("{found} belongs to no proposal")))?)
        }
        "kill-class" => {
            let classes = context.node.read(|core| core.action_classes()).await?;
            let means = |class: &&String| **class == text || class.rsplit_once('/').is_some_and(|(op, _)| op == text);
            let found: Vec<&String> = classes.iter().filter(means).collect();
            match &found[..] {
                [one] => Target::ActionClass((*one).clone()),
                [] => return Err(bad(format!("{text:?} is no action class; this node knows {}", classes.join(", ")))),
                several => {
                    let several: Vec<&str> = several.iter().map(|c| c.as_str()).collect();
                    return Err(bad(format!("{text:?} may be {}; say which", several.join(" or "))));
                }
            }
        }
        // Proposals name their agent so; anything else would stop nothing, for ever.
        "kill-agent" => Target::Agent(SpiffeId::new(&text).map(|id| id.to_string()).map_err(|e| {
            bad(format!(
                "{text:?} is no agent: {e}; an agent looks like spiffe://acme.example/site/lyon/node/lyon/agent/NAME"
            ))
        })?),
        "kill-build" => {
            Target::Build(text.parse().map_err(|_| bad(format!("{text:?} is no digest: 64 hex characters")))?)
        }
        "stop-feature" => Target::Feature(text.parse::<Feature>().map_err(bad)?.to_string()),
        "kill-site" => Target::Site(text),
        "kill-all" => Target::All,
        "suspend" => {
            let named = text.clone();
            let found = context.node.read(move |core| {
                let (author, _) = core.member_named(&named)?;
                core.ends_of(&author).map(|(_, ends)| (author, ends))
            });
            let (author, ends) = found.await?.ok_or_else(|| bad(format!("{text:?} is no enrolled member")))?;
            Target::Author(author, ends)
        }
        other => {
            return Err(bad(format!(
                "{other:?} is none of veto, kill-class, kill-agent, kill-build, kill-site, kill-all, stop-feature, suspend"
            )));
        }
    })
}

async fn order(context: &Context, request: RestrictRequest, by: String) -> Result<Order, Problem> {
    let target = target(context, &request).await?;
    let issued_ms = context.clock.now().wall_ms;
    Ok(Order { mesh: context.facts.mesh, target, by, reason: request.reason, issued_ms })
}

/// Restricts on this coordinator's own authority. Only the council lifts it.
#[utoipa::path(post, path = "/v1/restrictions", request_body = RestrictRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn restrict(
    State(context): State<Context>,
    Json(request): Json<RestrictRequest>,
) -> Result<Json<Recorded>, Problem> {
    let order = order(&context, request, context.facts.spiffe_id.to_string()).await?;
    record(&context, Command::Restrict(Box::new(Restriction::by_coordinator(&order)))).await
}

/// An order for the council to sign.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderAnswer {
    /// The mesh.
    pub mesh: String,
    /// The order, CBOR in base64.
    pub order: String,
    /// Who may sign.
    pub council: Vec<String>,
    /// How many must.
    pub threshold: u32,
}

/// Drafts an order for the council to sign; nothing is restricted yet.
#[utoipa::path(post, path = "/v1/restrictions/order", request_body = RestrictRequest, responses((status = 200, body = OrderAnswer), (status = 409, body = Problem)))]
pub async fn draft_order(
    State(context): State<Context>,
    Json(request): Json<RestrictRequest>,
) -> Result<Json<OrderAnswer>, Problem> {
    let order = order(&context, request, "the council".to_owned()).await?;
    let (council, threshold) = context
        .node
        .read(|core| {
            let charter = core.authority().charter();
            (charter.council.iter().map(ToString::to_string).collect(), charter.threshold)
        })
        .await?;
    let mesh = context.facts.mesh.to_string();
    Ok(Json(OrderAnswer { mesh, order: BASE64_STANDARD.encode(to_cbor(&order)), council, threshold }))
}

/// A restriction that people signed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SignedRestrictRequest {
    /// The restriction's body, CBOR in base64.
    pub restriction: String,
}

/// Carries a restriction that the council, or somebody on duty, signed: in the whole mesh at a coordinator, in its own site at any
/// other node.
#[utoipa::path(post, path = "/v1/restrictions/signed", request_body = SignedRestrictRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn restrict_signed(
    State(context): State<Context>,
    Json(request): Json<SignedRestrictRequest>,
) -> Result<Json<Recorded>, Problem> {
    let bytes = decode(&request.restriction)?;
    let body: Restriction = from_cbor(&bytes).map_err(|e| Problem::bad_request("restriction", e.to_string()))?;
    record(&context, Command::Restrict(Box::new(body))).await
}

/// What is restricted, lifted or not, and how far each has got.
#[utoipa::path(get, path = "/v1/restrictions", responses((status = 200, body = Items<RestrictionView>)))]
pub async fn restrictions(State(context): State<Context>) -> Answer<Items<RestrictionView>> {
    let now = context.clock.now();
    Ok(Json(Items { items: ask(&context, move |core| core.restrictions_view(now)).await? }))
}

/// One restriction, by its id or the first characters of that.
#[utoipa::path(get, path = "/v1/restrictions/{id}", responses((status = 200, body = RestrictionView), (status = 404, body = Problem)))]
pub async fn restriction(State(context): State<Context>, Path(id): Path<String>) -> Answer<RestrictionView> {
    let now = context.clock.now();
    ask(&context, move |core| core.restriction_view(now, &id)).await?.map(Json).map_err(Problem::not_found)
}

/// What agents were granted beyond the default level L1.
#[utoipa::path(get, path = "/v1/autonomy", responses((status = 200, body = Items<AutonomyView>)))]
pub async fn autonomy(State(context): State<Context>) -> Answer<Items<AutonomyView>> {
    let now = context.clock.now();
    Ok(Json(Items { items: ask(&context, move |core| core.autonomy_view(now)).await? }))
}

/// Resources that were offered and that nobody has taken yet.
#[utoipa::path(get, path = "/v1/ownership/offers", responses((status = 200, body = Items<OfferView>)))]
pub async fn offers(State(context): State<Context>) -> Answer<Items<OfferView>> {
    Ok(Json(Items { items: ask(&context, |core| core.offers_view()).await? }))
}

/// What to hand over, and to whom.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OfferRequest {
    /// `<site>/<node>/<connector>`.
    pub prefix: String,
    /// The next owner's SPIFFE ID or author id; this node's own takes an offer back.
    pub to: String,
}

/// Offers all resources of one connector of this node to another node of its site. From here on this node starts nothing on them.
#[utoipa::path(post, path = "/v1/ownership/offers", request_body = OfferRequest, responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn offer(
    State(context): State<Context>,
    Json(request): Json<OfferRequest>,
) -> Result<Json<Recorded>, Problem> {
    let OfferRequest { prefix, to } = request;
    let unknown = Problem::bad_request("offer", format!("{to:?} is no enrolled member"));
    let found = context.node.read(move |core| core.member_named(&to)).await?;
    let (to, _) = found.ok_or(unknown)?;
    record(&context, Command::Offer { prefix, to }).await
}

/// Takes what was offered to this node; its id, or the first characters of that.
#[utoipa::path(post, path = "/v1/ownership/offers/{id}/accept", responses((status = 200, body = Recorded), (status = 409, body = Problem)))]
pub async fn accept(State(context): State<Context>, Path(id): Path<String>) -> Result<Json<Recorded>, Problem> {
    let offer = context.node.read(move |core| core.find(&id)).await?.map_err(Problem::not_found)?;
    record(&context, Command::Accept { offer }).await
}
