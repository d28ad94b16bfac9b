//! Signing in by passkey, and making one.
//!
//! The page computes each challenge from a nonce, in a domain of its own: handed a vote's id as nonce, it asks for something that is
//! no vote.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_identity::Digest;
use cauldron_identity::ids::hmac_sha256;
use cauldron_identity::passkey::{Assertion, PasskeyError, Registration, registration_challenge, sign_in as judge};
use cauldron_identity::scope::is_name;
use cauldron_node_core::{Approver, NodeCore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guard::body;
use super::html::Link;
use super::nonce::Purpose;
use super::{Peer, Site};
use crate::run::api::Problem;

/// Passkeys that are named to a browser for one person.
const ALLOWED_MAX: usize = 16;

/// Bytes as browsers' passkeys write them: base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
        bytes.map(Self).map_err(|_| serde::de::Error::custom("base64url without padding is wanted"))
    }
}

/// A hash in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub(super) Digest);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// What an authenticator answered, `AuthenticatorAssertionResponse`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    authenticator_data: Bytes,
    client_data_json: Bytes,
    signature: Bytes,
}

impl Answer {
    pub(super) fn assertion(self) -> Result<Assertion, PasskeyError> {
        Assertion::new(self.authenticator_data.0, self.client_data_json.0, self.signature.0)
    }
}

/// What the page makes a challenge of.
#[derive(Debug, Serialize)]
struct Begun {
    nonce: Digest,
    mesh: String,
    node: String,
    rp_id: String,
    /// Passkeys of the person who was named; any, where nobody was.
    allow: Vec<String>,
}

/// Whoever is asked too often says so.
fn held(site: &Site, peer: Peer) -> Result<(), Problem> {
    let busy = || Problem {
        status: 429,
        title: "too many requests",
        kind: "rate".into(),
        detail: "too many attempts from here".into(),
        hint: Some("wait half a minute".into()),
    };
    site.rate.allows(peer.0, Instant::now()).then_some(()).ok_or_else(busy)
}

async fn begun(site: &Site, purpose: Purpose, allow: Vec<String>) -> Result<Json<Value>, Problem> {
    let nonce = site.nonces.give(purpose, Instant::now());
    let read = |core: &NodeCore| {
        let authority = core.authority();
        (authority.mesh().to_string(), core.author().to_string(), authority.charter().rp_id.clone())
    };
    let (mesh, node, rp_id) = site.context.node.read(read).await?;
    Ok(Json(json!(Begun { nonce, mesh, node, rp_id, allow })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginSignIn {
    /// Their id; nothing where the browser knows the passkey by itself.
    person: Option<String>,
}

/// Hands out a nonce, and for a person who was named their passkeys: of one who does not exist, one that does not either.
pub(super) async fn begin_sign_in(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    request: Body,
) -> Result<Json<Value>, Problem> {
    held(&site, peer)?;
    let BeginSignIn { person } = body(request).await?;
    let Some(person) = person.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()) else {
        return begun(&site, Purpose::SignIn, Vec::new()).await;
    };
    let named = person.clone();
    let known = site.context.node.read(move |core| {
        let credentials = core.authority().person(&named).map(|p| p.credentials.clone()).unwrap_or_default();
        let ids = credentials.iter().filter_map(|c| Some(c.passkey()?.credential_id_text()));
        ids.take(ALLOWED_MAX).collect::<Vec<_>>()
    });
    let mut allow = known.await?;
    if allow.is_empty() {
        allow.push(BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256(&site.decoy, person.as_bytes())));
    }
    begun(&site, Purpose::SignIn, allow).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    nonce: Hash,
    /// `PublicKeyCredential.rawId`.
    id: Bytes,
    answer: Answer,
    next: Option<String>,
}

/// Opens a session. Nobody learns whether it was the person or the key that is not known.
pub(super) async fn sign_in(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    request: Body,
) -> Result<Response, Problem> {
    held(&site, peer)?;
    let SignIn { nonce: Hash(nonce), id, answer, next } = body(request).await?;
    let nobody = || Problem {
        status: 403,
        title: "refused",
        kind: "not_signed_in".into(),
        detail: "nobody is enrolled with this passkey, or its answer does not hold".into(),
        hint: Some("use the passkey that the council enrolled; a new one is made under \"Make a passkey\"".into()),
    };
    if !site.nonces.take(&nonce, Purpose::SignIn, Instant::now()) {
        return Err(nobody().hint("it took longer than five minutes, or was tried before: begin again"));
    }
    let assertion = answer.assertion().map_err(|why| {
        tracing::debug!(%why, "a sign-in was refused");
        nobody()
    })?;
    let judged =
        site.context.node.read(move |core| judge(core.authority(), &core.author(), &nonce, &id.0, &assertion)).await?;
    let signed = judged.map_err(|why| {
        tracing::info!(%why, from = %peer.0, "a sign-in at the approval page was refused");
        nobody()
    })?;
    tracing::info!(person = signed.person, "signed in at the approval page");
    let who = Approver { person: signed.person, credential: signed.credential };
    let opened = site.sessions.open(who, Instant::now());
    let next = next.as_deref().and_then(Link::parse).unwrap_or(Link::Approvals);
    Ok(([(header::SET_COOKIE, site.set_cookie(&opened.cookie))], Json(json!({ "next": next.path() }))).into_response())
}

/// Ends the session.
pub(super) async fn sign_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = site.writer(&headers).await?;
    site.sessions.close(&found.key);
    let gone = format!("{}; Max-Age=0", site.set_cookie(""));
    Ok(([(header::SET_COOKIE, gone)], Json(json!({ "next": Link::Home.path() }))).into_response())
}

/// Hands out a nonce to make a passkey under.
pub(super) async fn begin_enrol(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    request: Body,
) -> Result<Json<Value>, Problem> {
    held(&site, peer)?;
    let _: Value = body(request).await?;
    begun(&site, Purpose::Enrol, Vec::new()).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrol {
    nonce: Hash,
    person: String,
    attestation_object: Bytes,
    client_data_json: Bytes,
}

/// Reads a new passkey and gives the line that the council enrols it by. Nothing is kept: whose it is, is the council's word.
pub(super) async fn enrol(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    request: Body,
) -> Result<Json<Value>, Problem> {
    held(&site, peer)?;
    let Enrol { nonce: Hash(nonce), person, attestation_object, client_data_json } = body(request).await?;
    if !site.nonces.take(&nonce, Purpose::Enrol, Instant::now()) {
        return Err(
            Problem::bad_request("nonce", "it took longer than five minutes, or was tried before").hint("begin again")
        );
    }
    let refused = |why: PasskeyError| Problem::bad_request("passkey", format!("this passkey cannot be used: {why}"));
    let made = Registration::new(attestation_object.0, client_data_json.0).map_err(refused)?;
    let judged = site.context.node.read(move |core| {
        let authority = core.authority();
        let challenge = registration_challenge(&authority.mesh(), &core.author(), &nonce);
        let charter = authority.charter();
        let made = made.verify(&challenge, &charter.relying_party())?;
        Ok(made.passkey.to_line(&charter.rp_id))
    });
    let line = judged.await?.map_err(refused)?;
    let person = if is_name(&person) { person } else { "PERSON".into() };
    let command =
        format!("cauldron people enrol {person} --group GROUP --passkey passkey.txt --council-key council.key");
    Ok(Json(json!({ "line": line, "command": command })))
}
