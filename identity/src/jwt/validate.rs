//! The one validator of JWT-SVIDs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Number, Value};
use spiffe::SpiffeId;

use super::error::JwtError;
use super::jwk::{Algorithm, JwtPublicKey};
use crate::spiffe_id;
use crate::trust_bundle::TrustBundles;

/// Bytes of a token that we are ready to parse for a stranger: one by RSA 8192 with a dozen claims is far below.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far two honest clocks may be apart (JWT-SVID appendix A: a small amount of leeway).
pub const LEEWAY_S: u64 = 30;

/// A JWT-SVID that a key of its subject's trust domain signed, in time and for us. Made by [`validate_jwt`] only.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VerifiedJwt {
    /// The subject.
    pub spiffe_id: SpiffeId,
    /// Whom it is for, ours among them.
    pub audience: Vec<String>,
    /// Its end, Unix seconds.
    pub expires_s: u64,
    /// Every claim as it stands in the token.
    pub claims: Map<String, Value>,
}

/// JWT-SVID §2: any other member must not be there. Refusing them also refuses `crit`, `jku`, `jwk` and `x5u`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

/// Twice the same claim is an error here, so that nobody can read another one than we did.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: Number,
    nbf: Option<Number>,
}

/// RFC 7519 §4.1.3: one, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Validates a token in compact form for one of our `audiences`, as of `at_s` (Unix seconds) with `leeway_s` for clocks that
/// differ.
///
/// Checks: size and form; an algorithm of JWT-SVID §2.1; `typ`; no other header; `sub` is the SPIFFE ID of a workload and its
/// trust domain selects the bundle; a key of that bundle that fits algorithm and `kid` verifies the signature; `exp` and `nbf`;
/// `aud` names one of ours.
///
/// # Errors
/// [`JwtError`] says which and with which values.
pub fn validate_jwt(
    token: &str,
    audiences: &[&str],
    bundles: &TrustBundles,
    at_s: u64,
    leeway_s: u64,
) -> Result<VerifiedJwt, JwtError> {
    let parts = split(token)?;
    let header: Header =
        serde_json::from_slice(&decode(parts.header)?).map_err(|e| JwtError::Header(told(&e, "header")))?;
    let Some(algorithm) = Algorithm::of(&header.alg) else { return Err(JwtError::Algorithm(shown(&header.alg))) };
    if let Some(typ) = header.typ.filter(|typ| typ != "JWT" && typ != "JOSE") {
        return Err(JwtError::Type(shown(&typ)));
    }
    let payload = decode(parts.claims)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|e| JwtError::Claims(told(&e, "claims")))?;
    let id = spiffe_id::parse(&claims.sub).map_err(|e| JwtError::Subject(e.to_string()))?;
    if id.path().is_empty() {
        return Err(JwtError::Subject(format!("`{id}` has no path")));
    }
    let audience = match claims.aud {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    };
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(JwtError::Claims("`aud` names nobody".to_owned()));
    }
    signed(&id, algorithm, header.kid, bundles, &parts)?;
    let expires_s = in_time(&id, &claims.exp, claims.nbf.as_ref(), at_s, leeway_s)?;
    if !audience.iter().any(|a| audiences.contains(&a.as_str())) {
        return Err(JwtError::Audience { id, audience });
    }
    let claims = serde_json::from_slice(&payload).map_err(|e| JwtError::Claims(told(&e, "claims")))?;
    Ok(VerifiedJwt { spiffe_id: id, audience, expires_s, claims })
}

struct Parts<'t> {
    header: &'t str,
    claims: &'t str,
    /// What the signature covers.
    signed: &'t str,
    signature: Vec<u8>,
}

/// RFC 7515 §7.1: three parts, none empty; an empty signature is how `none` is written.
fn split(token: &str) -> Result<Parts<'_>, JwtError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(JwtError::TooLarge { bytes: token.len(), max: TOKEN_BYTES_MAX });
    }
    let three = JwtError::NotCompact("it has not three parts");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| three.clone())?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| three.clone())?;
    if claims.contains('.') {
        return Err(three);
    }
    Ok(Parts { header, claims, signed, signature: decode(signature)? })
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::NotCompact("a part is not base64url without padding"))
}

fn signed(
    id: &SpiffeId,
    algorithm: Algorithm,
    kid: Option<String>,
    bundles: &TrustBundles,
    parts: &Parts<'_>,
) -> Result<(), JwtError> {
    let Some(bundle) = bundles.get(id.trust_domain()) else {
        return Err(JwtError::UnknownTrustDomain { id: id.clone() });
    };
    // Without a key id each key of the kind is tried; a bundle has a bounded number of them.
    let named = |key: &&JwtPublicKey| kid.as_deref().is_none_or(|kid| kid == key.kid());
    let mut fitting = bundle.jwt_keys().filter(named).filter(|key| key.may_sign(algorithm)).peekable();
    if fitting.peek().is_none() {
        let (trust_domain, algorithm) = (id.trust_domain().clone(), algorithm.name().to_owned());
        return Err(JwtError::NoKey { trust_domain, algorithm, kid: kid.map(|kid| shown(&kid)) });
    }
    if fitting.any(|key| key.verify(algorithm, parts.signed.as_bytes(), &parts.signature)) {
        return Ok(());
    }
    Err(JwtError::Signature { id: id.clone() })
}

fn in_time(id: &SpiffeId, exp: &Number, nbf: Option<&Number>, at_s: u64, leeway_s: u64) -> Result<u64, JwtError> {
    let expires_s = seconds(exp, "exp")?;
    if at_s >= expires_s.saturating_add(leeway_s) {
        return Err(JwtError::Expired { id: id.clone(), expires_s, at_s });
    }
    if let Some(not_before_s) = nbf.map(|nbf| seconds(nbf, "nbf")).transpose()?
        && at_s.saturating_add(leeway_s) < not_before_s
    {
        return Err(JwtError::NotYetValid { id: id.clone(), not_before_s, at_s });
    }
    Ok(expires_s)
}

/// RFC 7519 §2, `NumericDate`: seconds, with or without a fraction. Anything before 1970 is long past.
fn seconds(number: &Number, name: &str) -> Result<u64, JwtError> {
    let fraction = || number.as_f64().filter(|f| f.is_finite()).map(|f| f.max(0.0) as u64);
    number.as_u64().or_else(fraction).ok_or_else(|| JwtError::Claims(format!("`{name}` is no time")))
}

/// serde's words without what they quote of the token's values.
fn told(error: &serde_json::Error, what: &str) -> String {
    let text = error.to_string();
    let known = ["missing field", "unknown field", "duplicate field"];
    match known.iter().find(|start| text.starts_with(**start)) {
        Some(_) => {
            shown(text.split(" at line").next().unwrap_or_default().split(", expected").next().unwrap_or_default())
        }
        None => format!("the {what} cannot be read as the JSON that it should be"),
    }
}

/// A stranger's words, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
