//! The approval page: what waits for people, shown and answered by passkey, served by a node on its own.
//!
//! * [`html`]: markup that is escaped by its types; [`view`]: the pages; [`assets`]: style sheet and script.
//! * [`guard`]: what every request must be and every response carries; [`rate`]: how often strangers may ask.
//! * [`nonce`], [`session`]: what is kept in memory of a ceremony and of somebody who is signed in.
//! * [`ceremony`]: signing in and making a passkey; [`decide`]: statements and votes, through the same commands as the API.
//! * [`serve`]: the port.
//!
//! Absent on purpose: anything that decides. What may be voted, by whom and over what is the core's ([`Desk`]); a
//! vote goes the way of every vote, and the owner judges it again.

mod assets;
mod ceremony;
mod decide;
mod guard;
mod html;
mod nonce;
mod rate;
mod serve;
mod session;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cauldron_identity::FactId;
use cauldron_node_core::{Approver, Desk, NodeCore};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use self::html::Link;
use self::session::Found;
use crate::config::Serve;
use crate::error::CliError;
use crate::run::api::{Context, Problem};

/// The page's port, bound before anything else may fail.
pub struct Page {
    door: serve::Door,
    serve: Serve,
}

impl Page {
    /// Reads certificate and key, as a start would.
    ///
    /// # Errors
    /// [`CliError`]: they cannot be used.
    pub fn examine(serve: &Serve) -> Result<(), CliError> {
        serve::examine(serve)
    }

    /// Binds the port and reads the certificate.
    ///
    /// # Errors
    /// [`CliError`]: the port is taken, or the certificate cannot be used.
    pub async fn bind(serve: &Serve) -> Result<Self, CliError> {
        Ok(Self { door: serve::Door::bind(serve).await?, serve: serve.clone() })
    }

    /// Serves until `stop` turns true.
    pub async fn run(self, context: Context, stop: watch::Receiver<bool>) {
        let Self { door, serve } = self;
        let tls = serve.tls.is_some();
        let site = Arc::new(Site {
            context,
            cookie: cookie_name(&serve),
            origin: serve.origin,
            tls,
            sessions: session::Sessions::default(),
            nonces: nonce::Nonces::default(),
            rate: rate::Rate::default(),
            decoy: crate::chance::bytes(),
        });
        if let Err(why) = site.standing().await {
            tracing::warn!(origin = site.origin, why, "the approval page answers nobody");
        }
        let router = router(site.clone());
        door.run(move |request, from| answer(site.clone(), router.clone(), request, from), stop).await;
    }
}

/// What every handler may use.
struct Site {
    context: Context,
    origin: String,
    tls: bool,
    cookie: String,
    sessions: session::Sessions,
    nonces: nonce::Nonces,
    rate: rate::Rate,
    /// Makes passkeys of people who do not exist, always the same ones.
    decoy: [u8; 32],
}

/// Cookies know no port, so two nodes on one machine need two names. `__Host-` is for TLS (RFC 6265bis §4.1.3.2).
fn cookie_name(serve: &Serve) -> String {
    match serve.tls {
        Some(_) => "__Host-cauldron".into(),
        None => format!("cauldron-{}", serve.listen.port()),
    }
}

/// Whether passkeys of this mesh work on a page of `origin`, by the charter in force.
///
/// # Errors
/// A sentence that says what to do.
pub(super) fn standing(core: &NodeCore, origin: &str) -> Result<(), String> {
    let rp = core.authority().charter().relying_party();
    if rp.allows(origin) {
        return Ok(());
    }
    let allowed = if rp.origins.is_empty() { "none".to_owned() } else { rp.origins.join(", ") };
    Err(format!(
        "page.url is {origin}, but votes count from the charter's vote_origins alone, which are: {allowed}. The council adds it with \
         `cauldron charter amend` (vote_origins, and rp_id, now {:?}, which must be that host or a domain above it), or you correct \
         page.url",
        rp.rp_id
    ))
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-in/begin", post(ceremony::begin_sign_in))
        .route("/sign-in", post(ceremony::sign_in))
        .route("/sign-out", post(ceremony::sign_out))
        .route("/enrol", get(enrol).post(ceremony::enrol))
        .route("/enrol/begin", post(ceremony::begin_enrol))
        .route("/approvals", get(list))
        .route("/approvals/state", get(list_state))
        .route("/approvals/{id}", get(one))
        .route("/approvals/{id}/state", get(decide::state))
        .route("/approvals/{id}/statement", post(decide::statement))
        .route("/approvals/{id}/votes", post(decide::vote))
        .route("/status", get(status))
        .fallback(missing)
        .with_state(site)
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

async fn answer(site: Arc<Site>, router: Router, mut request: Request<Body>, from: IpAddr) -> Response {
    let tls = site.tls;
    if let Err(problem) = guard::judge(&request, &site.origin) {
        return guard::sealed(problem, tls);
    }
    if let Some(file) = guard::asset(&request) {
        return guard::sealed(file, tls);
    }
    if let Err(why) = site.standing().await {
        let page = view::problem("This page is not part of the mesh yet", &why, None);
        return guard::sealed((StatusCode::SERVICE_UNAVAILABLE, page), tls);
    }
    request.extensions_mut().insert(Peer(from));
    match router.oneshot(request).await {
        Ok(response) => guard::sealed(response, tls),
        Err(never) => match never {},
    }
}

/// A document as an answer.
struct Shown(String);

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], self.0).into_response()
    }
}

/// Why somebody gets no page.
enum Turned {
    /// They must sign in first, and come back here.
    SignIn(Option<Link>),
    /// Something is wrong.
    Problem(Problem),
}

impl From<Problem> for Turned {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<crate::run::engine::Stopped> for Turned {
    fn from(stopped: crate::run::engine::Stopped) -> Self {
        Self::Problem(stopped.into())
    }
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(None) => Redirect::to("/").into_response(),
            // A path of ours holds nothing that a query could not.
            Self::SignIn(Some(next)) => Redirect::to(&format!("/?next={}", next.path())).into_response(),
            Self::Problem(problem) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, view::problem("That did not work", &problem.detail, problem.hint.as_deref())).into_response()
            }
        }
    }
}

impl Site {
    async fn standing(&self) -> Result<(), String> {
        let origin = self.origin.clone();
        let found = self.context.node.read(move |core| standing(core, &origin)).await;
        found.map_err(|stopped| stopped.to_string())?
    }

    /// The session of a request, if its person and credential are still enrolled.
    async fn found(&self, headers: &HeaderMap, by_person: bool) -> Result<Option<Found>, Problem> {
        let Some(cookie) = cookie(headers, &self.cookie) else { return Ok(None) };
        let Some(found) = self.sessions.find(&cookie, Instant::now(), by_person) else { return Ok(None) };
        let who = found.who.clone();
        let enrolled = self.context.node.read(move |core| core.approver(&who).is_some()).await?;
        if !enrolled {
            self.sessions.close(&found.key);
        }
        Ok(Some(found).filter(|_| enrolled))
    }

    /// Who asks for a page.
    async fn reader(&self, headers: &HeaderMap, next: Link) -> Result<Found, Turned> {
        self.found(headers, true).await?.ok_or(Turned::SignIn(Some(next)))
    }

    /// Who wants to change something: signed in, with the token that their page carries.
    async fn writer(&self, headers: &HeaderMap) -> Result<Found, Problem> {
        let found = self.found(headers, true).await?.ok_or_else(signed_out)?;
        let token = headers.get(guard::CSRF).map_or(&b""[..], HeaderValue::as_bytes);
        // Both are random and of one length: what a comparison would tell is worth nothing.
        let same = Found::same(token, found.csrf.as_bytes());
        let refused = || Problem {
            status: 403,
            title: "refused",
            kind: "csrf".into(),
            detail: "the request does not carry the token of its session".into(),
            hint: Some("load the page again".into()),
        };
        same.then_some(found).ok_or_else(refused)
    }

    /// What every page says of the node and of who is signed in.
    async fn frame(&self, who: &Found) -> Result<view::Frame, Problem> {
        let (now, asker) = (self.context.clock.now(), who.who.clone());
        let (own, person, up) = self
            .context
            .node
            .read(move |core| (core.self_view(now), core.approver(&asker).map(|(person, _)| person), core.alive(now)))
            .await?;
        Ok(view::Frame { own, up, person, csrf: who.csrf.clone(), now_ms: now.wall_ms })
    }

    fn set_cookie(&self, value: &str) -> String {
        let secure = if self.tls { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }
}

impl Found {
    /// Compares all of both, wherever they differ.
    fn same(a: &[u8], b: &[u8]) -> bool {
        a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

fn signed_out() -> Problem {
    Problem {
        status: 401,
        title: "signed out",
        kind: "signed_out".into(),
        detail: "nobody is signed in, or the session ended after 15 minutes without use".into(),
        hint: Some("sign in again; nothing was recorded".into()),
    }
}

/// The one cookie of ours. Two of them are none: somebody planted one.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let mut ours = pairs.filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
    match (ours.next(), ours.next()) {
        (Some(value), None) => Some(value.to_owned()),
        _ => None,
    }
}

fn next(uri: &Uri) -> Option<Link> {
    let query = uri.query().unwrap_or_default();
    query.split('&').find_map(|pair| pair.strip_prefix("next=")).and_then(Link::parse)
}

async fn home(State(site): State<Arc<Site>>, uri: Uri, headers: HeaderMap) -> Result<Response, Turned> {
    let next = next(&uri);
    if site.found(&headers, true).await?.is_some() {
        return Ok(Redirect::to(&next.unwrap_or(Link::Approvals).path()).into_response());
    }
    let name = site.context.facts.config.node.name.clone();
    Ok(Shown(view::sign_in(&name, next, guard::came_from_elsewhere(&headers))).into_response())
}

async fn enrol(State(site): State<Arc<Site>>) -> Shown {
    Shown(view::enrol(&site.context.facts.config.node.name))
}

async fn list(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Shown, Turned> {
    let found = site.reader(&headers, Link::Approvals).await?;
    let frame = site.frame(&found).await?;
    let (desks, all) = site.desks(&found.who).await?;
    Ok(Shown(view::list(&frame, &desks, all)))
}

async fn list_state(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<axum::Json<Value>, Problem> {
    let found = site.found(&headers, false).await?.ok_or_else(signed_out)?;
    let (desks, _) = site.desks(&found.who).await?;
    Ok(axum::Json(json!({ "version": view::version(&desks) })))
}

async fn one(State(site): State<Arc<Site>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Shown, Turned> {
    let id = site.find(id).await?;
    let found = site.reader(&headers, Link::Proposal(id)).await?;
    let frame = site.frame(&found).await?;
    let (now, who) = (site.context.clock.now(), found.who);
    let desk = site.context.node.read(move |core| core.desk(now, &id, &who)).await?;
    let desk = desk.ok_or_else(|| {
        Problem::not_found("this node holds no such proposal")
            .hint("open the link on a node of the proposal's site, or wait until it has arrived here")
    })?;
    Ok(Shown(view::one(&frame, &desk)))
}

async fn status(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Shown, Turned> {
    let found = site.reader(&headers, Link::Status).await?;
    let frame = site.frame(&found).await?;
    let now = site.context.clock.now();
    let (peers, sites) = site.context.node.read(move |core| (core.peers_view(now), core.sites_view(now))).await?;
    Ok(Shown(view::status(&frame, &peers, &sites)))
}

async fn missing() -> Turned {
    Turned::Problem(Problem::not_found("there is no such page"))
}

/// Proposals that one list shows; what is beyond them ends later.
const LISTED_MAX: usize = 100;

impl Site {
    async fn desks(&self, who: &Approver) -> Result<(Vec<Desk>, usize), Problem> {
        let (now, who) = (self.context.clock.now(), who.clone());
        Ok(self.context.node.read(move |core| core.desks(now, &who, LISTED_MAX)).await?)
    }

    /// The proposal that a link names: whole, or by its first characters.
    async fn find(&self, text: String) -> Result<FactId, Problem> {
        self.context.node.read(move |core| core.find(&text)).await?.map_err(Problem::not_found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_cookie_of_ours_counts() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            cookie(&headers, "__Host-cauldron")
        };
        assert_eq!(with(&["a=b; __Host-cauldron=x"]), Some("x".into()));
        assert_eq!(with(&["__Host-cauldron=x; __Host-cauldron=y"]), None);
        assert_eq!(with(&["__Host-cauldron=x", "__Host-cauldron=y"]), None);
        assert_eq!(with(&["__Host-cauldronx=x", "x__Host-cauldron=y"]), None);
    }

    #[test]
    fn somebody_is_led_back_to_our_own_pages_alone() {
        let of = |uri: &str| next(&uri.parse().expect("a URI"));
        assert_eq!(of("/?next=/status"), Some(Link::Status));
        assert_eq!(of("/?next=//evil.example"), None);
        assert_eq!(of("/?next=https://evil.example"), None);
        assert_eq!(of("/"), None);
    }
}
