//! `identity verify`: one file in, one decision out, with the reason.

use std::path::{Path, PathBuf};

use cauldron_identity::jwt::{LEEWAY_S, validate_jwt};
use cauldron_identity::x509::{
    CertificateDer, certificates_from_der, certificates_from_pem, inspect_svid, verify_svid,
};
use cauldron_identity::{TrustBundle, TrustBundles, TrustDomain};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Global;
use super::files::time;
use crate::error::CliError;
use crate::output::{As, Field, field, print, record};
use crate::paths::DataDir;
use crate::{clock, files};

const FIELDS: &[Field] = &[
    field("kind", "/kind", As::Text),
    field("holder", "/spiffe_id", As::Text),
    field("from", "/not_before", As::Time),
    field("ends", "/not_after", As::Time),
    field("key", "/spki_sha256", As::Text),
    field("issuer", "/issuer", As::Text),
    field("trust domain", "/trust_domain", As::Text),
    field("X.509 roots", "/x509_roots", As::Text),
    field("JWT keys", "/jwt_keys", As::Text),
    field("sequence", "/sequence", As::Text),
    field("passed over", "/ignored", As::Text),
];

/// `identity verify …`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An X.509-SVID (PEM or DER, leaf first), a JWT-SVID in compact form, or a trust bundle (PEM, DER or JWK Set)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Trust bundle, PEM, DER or JWK Set; may be repeated [default: those in the node's data directory]
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// Whose the bundles are, where their roots do not say
    #[arg(long, value_name = "NAME", value_parser = trust_domain)]
    trust_domain: Option<TrustDomain>,
    /// Whom a JWT-SVID must be for; may be repeated
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// As of then (RFC 3339) instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|e| e.to_string())
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), CliError> {
    let at_s = args.at.map_or(clock::wall_ms() / 1_000, |t| u64::try_from(t.as_second()).unwrap_or(0));
    let bundles = trusted(global, args)?;
    let (value, note) = decide(args, &files::read(&args.file)?, bundles.as_ref(), at_s)?;
    if let Some(note) = note {
        eprintln!("Warning: {note}");
    }
    print(global.output, &value, || record(&value, FIELDS, Timestamp::now()))
}

/// The node's own SVID as its peers see it.
pub(super) fn own(dir: &DataDir, at_s: u64) -> Result<Value, CliError> {
    let chain = certificates_from_pem(&files::read_text(&dir.svid())?)
        .map_err(|e| CliError::config(format!("{} holds no certificate", dir.svid().display())).because(&e))?;
    let bundles = read_bundles(&[dir.bundle()], None)?;
    svid(&dir.svid(), &chain, Some(&bundles), at_s).map(|(value, _)| value)
}

/// The bundles that were named, or the node's. None only where no node and no bundle was named and none is here.
fn trusted(global: &Global, args: &Args) -> Result<Option<TrustBundles>, CliError> {
    let dir = global.data_dir();
    if !args.bundle.is_empty() {
        return read_bundles(&args.bundle, args.trust_domain.as_ref()).map(Some);
    }
    if !global.names_a_node() && !dir.bundle().exists() {
        return Ok(None);
    }
    let mut bundles = read_bundles(&[dir.bundle()], None)?;
    // Where this is the authority, the bundle with its JWT keys.
    let own = bundles.iter().next().map(|bundle| bundle.trust_domain().clone());
    if let Some(own) = own.filter(|_| dir.own_bundle().exists()) {
        bundles.extend(read_bundles(&[dir.own_bundle()], Some(&own))?);
    }
    bundles.extend(crate::run::federation::read_all(&dir.federation())?);
    Ok(Some(bundles))
}

/// What is in a file, told by its first bytes.
enum Content {
    Jwks,
    Jwt(String),
    Certificates(Vec<CertificateDer<'static>>),
}

fn content(path: &Path, bytes: &[u8]) -> Result<Content, CliError> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    let no_svid = || CliError::integrity(format!("{} is neither an SVID nor a trust bundle", path.display()));
    match text {
        Some(text) if text.starts_with('{') => Ok(Content::Jwks),
        // Every header of a JWS begins with `{"`, which base64url writes as `ey`.
        Some(text) if text.starts_with("ey") => Ok(Content::Jwt(text.to_owned())),
        Some(text) if text.contains("-----BEGIN") => match certificates_from_pem(text) {
            Ok(found) => Ok(Content::Certificates(found)),
            Err(e) => Err(no_svid().because(&e)),
        },
        _ if rustls_pki_types::PrivateKeyDer::try_from(bytes).is_ok() => {
            Err(no_svid().detail("it holds a private key, which nobody should be handed to verify"))
        }
        _ => certificates_from_der(bytes).map(Content::Certificates).map_err(|e| no_svid().because(&e)),
    }
}

/// The decision, and what a person must know beside it.
type Decision = (Value, Option<String>);

fn decide(args: &Args, bytes: &[u8], bundles: Option<&TrustBundles>, at_s: u64) -> Result<Decision, CliError> {
    match content(&args.file, bytes)? {
        Content::Jwks => bundle(&args.file, args.trust_domain.as_ref()),
        Content::Jwt(token) => jwt(args, &token, bundles, at_s),
        Content::Certificates(chain) if is_root(&chain) => bundle(&args.file, args.trust_domain.as_ref()),
        Content::Certificates(chain) => svid(&args.file, &chain, bundles, at_s),
    }
}

/// A certificate authority that names no workload comes first in a bundle, never in an SVID.
fn is_root(chain: &[CertificateDer<'static>]) -> bool {
    let Some(first) = chain.first() else { return false };
    match spiffe::cert::spiffe_id_from_der(first.as_ref()) {
        Ok(id) => {
            id.path().is_empty() && TrustBundle::new(id.trust_domain().clone()).set_roots(vec![first.clone()]).is_ok()
        }
        // Roots made elsewhere may carry no SPIFFE ID; any name will do to see whether it could be one.
        Err(_) => TrustDomain::new("any").is_ok_and(|any| TrustBundle::new(any).set_roots(vec![first.clone()]).is_ok()),
    }
}

fn svid(
    path: &Path,
    chain: &[CertificateDer<'static>],
    bundles: Option<&TrustBundles>,
    at_s: u64,
) -> Result<Decision, CliError> {
    let refused = |e| CliError::integrity(format!("{} is not a valid SVID", path.display())).because(&e);
    let ((id, from_s, until_s, spki), issuer) = match bundles {
        Some(bundles) => {
            let svid = verify_svid(chain, &bundles.x509(), at_s).map_err(refused)?;
            ((svid.spiffe_id, svid.not_before_s, svid.not_after_s, svid.spki_sha256), "trusted")
        }
        None => {
            let svid = inspect_svid(chain, at_s).map_err(refused)?;
            ((svid.spiffe_id, svid.not_before_s, svid.not_after_s, svid.spki_sha256), "not checked")
        }
    };
    let note = bundles.is_none().then(|| {
        format!(
            "the form is right, but anybody can make such a certificate: whether `{}` issued it was not checked, for want of \
             its bundle; name it with --bundle FILE",
            id.trust_domain()
        )
    });
    let value = json!({
        "kind": "x509-svid",
        "spiffe_id": id.to_string(),
        "not_before": time(from_s.saturating_mul(1_000)),
        "not_after": time(until_s.saturating_mul(1_000)),
        "spki_sha256": hex::encode(spki),
        "issuer": issuer,
    });
    Ok((value, note))
}

fn jwt(args: &Args, token: &str, bundles: Option<&TrustBundles>, at_s: u64) -> Result<Decision, CliError> {
    if args.audience.is_empty() {
        return Err(CliError::usage("a JWT-SVID is valid only for somebody").hint("say for whom with --audience NAME"));
    }
    let Some(bundles) = bundles else {
        return Err(CliError::usage("a JWT-SVID can be decided only with its trust domain's bundle")
            .hint("name the bundle with --bundle FILE"));
    };
    let audiences: Vec<&str> = args.audience.iter().map(String::as_str).collect();
    let valid = validate_jwt(token, &audiences, bundles, at_s, LEEWAY_S)
        .map_err(|e| CliError::integrity(format!("{} is not a valid JWT-SVID", args.file.display())).because(&e))?;
    let value = json!({
        "kind": "jwt-svid",
        "spiffe_id": valid.spiffe_id.to_string(),
        "not_after": time(valid.expires_s.saturating_mul(1_000)),
        "audience": valid.audience,
        "claims": valid.claims,
        "issuer": "trusted",
    });
    Ok((value, None))
}

fn bundle(path: &Path, trust_domain: Option<&TrustDomain>) -> Result<Decision, CliError> {
    let bundles = read_bundles(&[path.to_owned()], trust_domain)?;
    let Some(bundle) = bundles.iter().next() else {
        return Err(CliError::integrity(format!("{} holds no trust bundle", path.display())));
    };
    let value = json!({
        "kind": "bundle",
        "trust_domain": bundle.trust_domain().to_string(),
        "x509_roots": bundle.roots().len(),
        "jwt_keys": bundle.jwt_keys().count(),
        "sequence": bundle.sequence,
        "refresh_hint_s": bundle.refresh_hint_s,
        "ignored": bundle.ignored,
    });
    let note =
        bundle.is_empty().then(|| "this bundle verifies nothing: every SVID of its trust domain is refused".to_owned());
    Ok((value, note))
}

/// Reads bundles in any of the three forms. The roots' own SPIFFE IDs say whose they are, otherwise `trust_domain`.
///
/// # Errors
/// [`CliError`] (exit 6) that names the file: unreadable, no bundle, or nobody knows whose.
pub fn read_bundles(paths: &[PathBuf], trust_domain: Option<&TrustDomain>) -> Result<TrustBundles, CliError> {
    let mut all = TrustBundles::new();
    for path in paths {
        let unusable = || CliError::integrity(format!("{} is no trust bundle", path.display()));
        let whose = || {
            CliError::usage(format!("nothing in {} says whose bundle it is", path.display()))
                .hint("name its trust domain with --trust-domain NAME")
        };
        let bytes = files::read(path)?;
        match content(path, &bytes)? {
            Content::Jwt(_) => return Err(unusable().detail("it is a JWT")),
            Content::Jwks => {
                let whose = trust_domain.cloned().or_else(|| named_in_jwks(&bytes)).ok_or_else(whose)?;
                let bundle = TrustBundle::from_jwks(whose, &bytes).map_err(|e| unusable().because(&e))?;
                all.insert(bundle);
            }
            Content::Certificates(roots) => {
                for root in roots {
                    let id = spiffe::cert::spiffe_id_from_der(root.as_ref()).ok();
                    let named = id.map(|id| id.trust_domain().clone());
                    let domain = trust_domain.cloned().or(named).ok_or_else(whose)?;
                    let mut bundle = all.get(&domain).cloned().unwrap_or_else(|| TrustBundle::new(domain));
                    let roots = bundle.roots().iter().cloned().chain([root]).collect();
                    bundle.set_roots(roots).map_err(|e| unusable().because(&e))?;
                    all.insert(bundle);
                }
            }
        }
    }
    Ok(all)
}

/// The trust domain that the first root of a JWK Set names: the set itself does not say.
fn named_in_jwks(bytes: &[u8]) -> Option<TrustDomain> {
    use base64::Engine as _;
    let set: Value = serde_json::from_slice(bytes).ok()?;
    let certificates = set.get("keys")?.as_array()?.iter().filter_map(|jwk| jwk.get("x5c")?.get(0)?.as_str());
    certificates
        .filter_map(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .find_map(|der| spiffe::cert::spiffe_id_from_der(&der).ok())
        .map(|id| id.trust_domain().clone())
}
