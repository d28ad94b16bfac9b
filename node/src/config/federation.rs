//! `[federation]`: which foreign trust domains' bundles are fetched, and where ours is published.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cauldron_identity::{SpiffeId, TrustDomain};
use hyper::Uri;

use super::reader::Reader;

const HINT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(86_400));
const HINT_DEFAULT: Duration = Duration::from_secs(300);
/// The name of a file in the data directory must have room for it (NAME_MAX is 255).
const DOMAIN_BYTES_MAX: usize = 200;
/// Each has a task and a bundle of up to 1 MiB.
const DOMAINS_MAX: usize = 64;

/// `[federation]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Federation {
    /// Where our own bundle is published.
    pub endpoint: Option<Endpoint>,
    /// Whose bundles are fetched.
    pub domains: Vec<ForeignDomain>,
}

/// Our own bundle endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The TCP address for TLS.
    pub listen: SocketAddr,
    /// Certificate chain and key of the Web PKI; the node's own SVID where there are none.
    pub web: Option<(PathBuf, PathBuf)>,
    /// How often others should look.
    pub refresh_hint: Duration,
}

/// A foreign trust domain and where its bundle is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDomain {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// The bundle endpoint, `https` and without userinfo.
    pub url: Uri,
    /// How the endpoint proves who it is.
    pub profile: Profile,
    /// The bundle for the first fetch.
    pub bundle: Option<PathBuf>,
}

/// SPIFFE Federation §5.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// By a certificate of the Web PKI for the URL's host.
    Web,
    /// By an X.509-SVID of that SPIFFE ID.
    Spiffe(SpiffeId),
}

impl Profile {
    /// Its name in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Web => "https_web",
            Self::Spiffe(_) => "https_spiffe",
        }
    }
}

/// Whether `url` may be a bundle endpoint's (SPIFFE Federation §5.2.1.1, §5.2.2.1).
///
/// # Errors
/// What is wrong with it.
pub fn endpoint_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "is no URL")?;
    let authority = url.authority().ok_or("is no whole URL")?;
    if url.scheme_str() != Some("https") {
        return Err("is not https");
    }
    if authority.as_str().contains('@') {
        return Err("carries a user name");
    }
    if authority.host().is_empty() { Err("names no host") } else { Ok(url) }
}

const PROFILE_HINT: &str = "write \"https_spiffe\" or \"https_web\"";

fn is_web(text: &str) -> Result<bool, &'static str> {
    match text {
        "https_web" => Ok(true),
        "https_spiffe" => Ok(false),
        _ => Err("is no profile of a bundle endpoint"),
    }
}

pub(super) fn read(r: &Reader<'_>, base: &Path, issues: bool, own: Option<&TrustDomain>) -> Federation {
    let endpoint = endpoint(r, base, issues);
    let domains = r.named(|name| domain(r, base, name, own));
    if domains.len() > DOMAINS_MAX {
        let what = format!("are {}, at most {DOMAINS_MAX} are followed", domains.len());
        r.problem("federation.domains.*.url", &what, "federate with fewer trust domains");
    }
    Federation { endpoint, domains }
}

fn endpoint(r: &Reader<'_>, base: &Path, issues: bool) -> Option<Endpoint> {
    let listen = r.address("federation.listen");
    let web = r.parsed("federation.profile", is_web, PROFILE_HINT).unwrap_or(false);
    let (certificate, key) = (r.path("federation.certificate", base), r.path("federation.key", base));
    let refresh_hint = r.duration("federation.refresh_hint", HINT.0, HINT.1).unwrap_or(HINT_DEFAULT);
    let pair = certificate.zip(key);
    if r.has("federation.listen") && !issues {
        let what = "but this node holds no authority: it does not know the whole bundle";
        r.problem("federation.listen", what, "publish the bundle on the node with authority.enabled = true");
    }
    if web && pair.is_none() {
        let key = if r.has("federation.certificate") { "federation.key" } else { "federation.certificate" };
        r.problem(
            key,
            "is missing for https_web",
            "name the PEM files that your public certificate authority gave you",
        );
    }
    if !web && (r.has("federation.certificate") || r.has("federation.key")) {
        let key = if r.has("federation.certificate") { "federation.certificate" } else { "federation.key" };
        r.problem(key, "is not used by https_spiffe", "leave it out, or set federation.profile = \"https_web\"");
    }
    Some(Endpoint { listen: listen?, web: pair.filter(|_| web), refresh_hint })
}

fn domain(r: &Reader<'_>, base: &Path, name: &str, own: Option<&TrustDomain>) -> Option<ForeignDomain> {
    const URL: &str = "federation.domains.*.url";
    const ENDPOINT: &str = "federation.domains.*.endpoint_spiffe_id";
    const BUNDLE: &str = "federation.domains.*.bundle";
    let trust_domain = match TrustDomain::new(name) {
        Ok(domain) if domain.as_str() == name && name.len() <= DOMAIN_BYTES_MAX => Some(domain),
        _ => {
            let what = format!("stands under \"{name}\", which is no trust domain that can be kept here");
            r.problem(URL, &what, "write [federation.domains.\"other.example\"], lower case, at most 200 bytes");
            None
        }
    };
    if trust_domain.is_some() && trust_domain.as_ref() == own {
        r.problem(URL, "is for our own trust domain", "leave it out: our own bundle comes from our own authority");
    }
    if !r.has(URL) {
        r.problem(
            URL,
            "is missing",
            "write the URL of its bundle endpoint, such as \"https://other.example/bundle.json\"",
        );
    }
    let url = r.parsed(URL, endpoint_url, "write a URL such as \"https://other.example:8443/bundle.json\"");
    let web = r.parsed("federation.domains.*.profile", is_web, PROFILE_HINT).unwrap_or(false);
    let id = |text: &str| cauldron_identity::spiffe_id::parse(text);
    let endpoint = r.parsed(ENDPOINT, id, "write spiffe://<trust domain>/<path>");
    let bundle = r.path(BUNDLE, base);
    if !web && !r.has(ENDPOINT) {
        r.problem(ENDPOINT, "is missing for https_spiffe", "ask its operator for the SPIFFE ID of its bundle endpoint");
    }
    if web && r.has(ENDPOINT) {
        r.problem(ENDPOINT, "is not used by https_web", "leave it out, or set profile = \"https_spiffe\"");
    }
    let profile = if web { Profile::Web } else { Profile::Spiffe(endpoint?) };
    Some(ForeignDomain { trust_domain: trust_domain?, url: url?, profile, bundle })
}
