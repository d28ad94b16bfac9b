//! Trust bundles: what a trust domain publishes so that others can verify its SVIDs.
//!
//! Source: [SPIFFE Trust Domain and Bundle](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Trust_Domain_and_Bundle.md)
//! §4: a JWK Set (RFC 7517) with X.509 roots and JWT keys. Roots and keys of one trust domain never count for another.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use spiffe::TrustDomain;

use crate::jwt::{JwkError, JwtPublicKey};
use crate::x509::{Bundle, Bundles, CaError};

/// Bytes of a bundle that we are ready to parse for a stranger: hundreds of RSA roots fit.
pub const BUNDLE_BYTES_MAX: usize = 1024 * 1024;
/// Entries of a bundle that we are ready to keep for a stranger; a rotation needs two of each kind.
pub const BUNDLE_KEYS_MAX: usize = 256;

/// Why a bundle is refused. The one that was held before stays in force.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum BundleError {
    /// More than we are ready to read.
    #[error("the bundle has {found} {what}, at most {max} are read")]
    TooLarge {
        /// How many.
        found: usize,
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Not the JSON of a bundle.
    #[error("this is no SPIFFE bundle: {0}")]
    Malformed(String),
    /// One entry that claims to be usable and is not.
    #[error("entry {index} of `keys` is refused: {detail}")]
    Entry {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// A bundle that is older than the one that is held, or hides that it is.
    #[error("the bundle has {}, the one we hold has sequence {held}", sequence(.found))]
    Older {
        /// Its sequence.
        found: Option<u64>,
        /// The sequence of the bundle that is held.
        held: u64,
    },
}

fn sequence(found: &Option<u64>) -> String {
    found.map_or("no sequence any more".to_owned(), |found| format!("sequence {found}"))
}

/// Where the publisher gives no hint (SPIFFE Federation §5, and §6.1 of the bundle's specification).
pub const REFRESH_S_DEFAULT: u64 = 300;
/// A hint below would have us ask all the time.
pub const REFRESH_S_MIN: u64 = 5;
/// A hint above would keep a key that was withdrawn for too long.
pub const REFRESH_S_MAX: u64 = 86_400;

/// The roots and keys of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    /// None when there is no root: no X.509-SVID of the trust domain is valid then.
    x509: Option<Bundle>,
    jwt: BTreeMap<String, JwtPublicKey>,
    /// Grows with every change; nothing where the publisher does not say.
    pub sequence: Option<u64>,
    /// How often to look for a newer one, seconds.
    pub refresh_hint_s: Option<u64>,
    /// Entries that were passed over: of a type, use or size that we do not know or accept.
    pub ignored: usize,
}

impl TrustBundle {
    /// Trusts nothing of `trust_domain` yet.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, x509: None, jwt: BTreeMap::new(), sequence: None, refresh_hint_s: None, ignored: 0 }
    }

    /// Whose it is.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The X.509 roots, in a form that verifies; nothing where there are none.
    #[must_use]
    pub fn x509(&self) -> Option<&Bundle> {
        self.x509.as_ref()
    }

    /// The X.509 roots.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        self.x509.as_ref().map(Bundle::roots).unwrap_or_default()
    }

    /// Sets the X.509 roots.
    ///
    /// # Errors
    /// [`CaError::Root`] when one cannot be a root of this trust domain.
    pub fn set_roots(&mut self, roots: Vec<CertificateDer<'static>>) -> Result<(), CaError> {
        self.x509 = match roots.is_empty() {
            true => None,
            false => Some(Bundle::new(self.trust_domain.clone(), roots)?),
        };
        Ok(())
    }

    /// The JWT keys, by key id.
    pub fn jwt_keys(&self) -> impl Iterator<Item = &JwtPublicKey> {
        self.jwt.values()
    }

    /// Sets the JWT keys; of two with the same id the later stays.
    pub fn set_jwt_keys<'k>(&mut self, keys: impl IntoIterator<Item = &'k JwtPublicKey>) {
        self.jwt = keys.into_iter().map(|key| (key.kid().to_owned(), key.clone())).collect();
    }

    /// Whether this one may take the place of `held` (§4.1.1: the sequence grows with every change).
    ///
    /// # Errors
    /// [`BundleError::Older`].
    pub fn succeeds(&self, held: &Self) -> Result<(), BundleError> {
        match (self.sequence, held.sequence) {
            (found, Some(held)) if found.is_none_or(|found| found < held) => Err(BundleError::Older { found, held }),
            _ => Ok(()),
        }
    }

    /// How long to wait before asking for a newer one, seconds: the hint within bounds, otherwise five minutes.
    #[must_use]
    pub fn refresh_s(&self) -> u64 {
        self.refresh_hint_s.unwrap_or(REFRESH_S_DEFAULT).clamp(REFRESH_S_MIN, REFRESH_S_MAX)
    }

    /// Whether it verifies nothing: every SVID of the trust domain is then invalid (§4.1.3).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.x509.is_none() && self.jwt.is_empty()
    }

    /// Whether roots and keys are the same, whatever sequence and hint say.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.roots() == other.roots() && self.jwt == other.jwt
    }

    /// Reads the JWK Set that `trust_domain` publishes. The text does not say whose it is: whoever fetched it knows.
    ///
    /// Entries of an unknown `kty` or `use`, of unknown curves, of weak keys, and X.509 entries without `x5c` are passed over;
    /// of several certificates in an `x5c` the first counts (X509-SVID §6.2).
    ///
    /// # Errors
    /// [`BundleError`]: too large; no object with `keys`; a certificate that is no root of this trust domain; a JWT key
    /// without `kid`, with one used before, or damaged.
    pub fn from_jwks(trust_domain: TrustDomain, bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge { found: bytes.len(), what: "bytes", max: BUNDLE_BYTES_MAX });
        }
        let set: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| BundleError::Malformed(e.to_string()))?;
        let malformed = |what: &str| BundleError::Malformed(what.to_owned());
        let keys = match set.get("keys") {
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err(malformed("`keys` is no list")),
            None => return Err(malformed("`keys` is missing")),
        };
        if keys.len() > BUNDLE_KEYS_MAX {
            return Err(BundleError::TooLarge { found: keys.len(), what: "keys", max: BUNDLE_KEYS_MAX });
        }
        let mut bundle = Self::new(trust_domain);
        bundle.sequence = number(&set, "spiffe_sequence")?;
        bundle.refresh_hint_s = number(&set, "spiffe_refresh_hint")?;
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        for (index, entry) in keys.iter().enumerate() {
            let refuse = |detail: String| BundleError::Entry { index, detail };
            let Some(jwk) = entry.as_object() else { return Err(refuse("it is no object".to_owned())) };
            let taken = match (text(jwk, "kty"), text(jwk, "use")) {
                (Some("EC" | "RSA" | "OKP"), Some("x509-svid")) => {
                    root(jwk, &bundle.trust_domain).map_err(refuse)?.is_some_and(|found| {
                        if !roots.contains(&found) {
                            roots.push(found);
                        }
                        true
                    })
                }
                (Some("EC" | "RSA"), Some("jwt-svid")) => bundle.take_jwt_key(jwk).map_err(refuse)?,
                _ => false,
            };
            bundle.ignored += usize::from(!taken);
        }
        bundle.set_roots(roots).map_err(|e| BundleError::Malformed(e.to_string()))?;
        Ok(bundle)
    }

    fn take_jwt_key(&mut self, jwk: &Map<String, Value>) -> Result<bool, String> {
        let key = match JwtPublicKey::from_jwk(jwk) {
            Ok(key) => key,
            Err(JwkError::Unsupported(_)) => return Ok(false),
            Err(JwkError::Malformed(why)) => return Err(why),
        };
        match self.jwt.insert(key.kid().to_owned(), key) {
            None => Ok(true),
            Some(earlier) => Err(format!("`kid` {} is another entry's too", earlier.kid().escape_debug())),
        }
    }

    /// The JWK Set to publish.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let mut keys: Vec<Value> = self.roots().iter().map(|root| Value::Object(x509_jwk(root))).collect();
        keys.extend(self.jwt.values().map(|key| Value::Object(key.to_jwk())));
        let mut set = Map::new();
        set.insert("keys".to_owned(), Value::Array(keys));
        if let Some(sequence) = self.sequence {
            set.insert("spiffe_sequence".to_owned(), json!(sequence));
        }
        if let Some(hint) = self.refresh_hint_s {
            set.insert("spiffe_refresh_hint".to_owned(), json!(hint));
        }
        format!("{:#}\n", Value::Object(set))
    }
}

/// One bundle per trust domain; none of them counts for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustBundles(BTreeMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// Trusts nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bundle of its trust domain, replacing the older one whole.
    pub fn insert(&mut self, bundle: TrustBundle) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(trust_domain)
    }

    /// All bundles, by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values()
    }

    /// The X.509 halves, for the verifier of X.509-SVIDs. A trust domain without roots is not among them.
    #[must_use]
    pub fn x509(&self) -> Bundles {
        let mut bundles = Bundles::new();
        for bundle in self.0.values().filter_map(TrustBundle::x509) {
            bundles.insert(bundle.clone());
        }
        bundles
    }
}

impl Extend<TrustBundle> for TrustBundles {
    fn extend<I: IntoIterator<Item = TrustBundle>>(&mut self, bundles: I) {
        self.0.extend(bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle)));
    }
}

impl IntoIterator for TrustBundles {
    type Item = TrustBundle;
    type IntoIter = std::collections::btree_map::IntoValues<TrustDomain, TrustBundle>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}

impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect())
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Option<&'j str> {
    jwk.get(name).and_then(Value::as_str)
}

fn number(set: &Map<String, Value>, name: &str) -> Result<Option<u64>, BundleError> {
    match set.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            None => Err(BundleError::Malformed(format!("`{name}` is no integer from 0 to 2^64-1"))),
            number => Ok(number),
        },
    }
}

/// The root certificate of an `x509-svid` entry; nothing where the entry has none (X509-SVID §6.2: ignore it).
fn root(jwk: &Map<String, Value>, trust_domain: &TrustDomain) -> Result<Option<CertificateDer<'static>>, String> {
    let first = match jwk.get("x5c") {
        None => return Ok(None),
        Some(Value::Array(chain)) => match chain.first() {
            None => return Ok(None),
            Some(first) => first.as_str().ok_or("`x5c` holds no text")?,
        },
        Some(_) => return Err("`x5c` is no list".to_owned()),
    };
    let der = STANDARD.decode(first).map_err(|_| "`x5c` is not base64")?;
    let certificate = CertificateDer::from(der);
    Bundle::new(trust_domain.clone(), vec![certificate.clone()]).map_err(|e| e.to_string())?;
    Ok(Some(certificate))
}

/// X509-SVID §6.1, with the key's own parameters (RFC 7518 §6, RFC 8037 §2), which some readers want beside the certificate.
fn x509_jwk(root: &CertificateDer<'_>) -> Map<String, Value> {
    use x509_parser::oid_registry::OID_SIG_ED25519;
    use x509_parser::prelude::{FromDer, X509Certificate};
    use x509_parser::public_key::PublicKey;
    let url = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
    let mut jwk = Map::new();
    let parsed = X509Certificate::from_der(root.as_ref()).ok();
    let key = parsed.as_ref().map(|(_, certificate)| certificate.public_key());
    match key.and_then(|key| key.parsed().ok()) {
        Some(PublicKey::EC(point)) if matches!(point.data().len(), 65 | 97 | 133) => {
            let (x, y) = point.data()[1..].split_at(point.data().len() / 2);
            let curve = [(32, "P-256"), (48, "P-384"), (66, "P-521")].iter().find(|(bytes, _)| *bytes == x.len());
            jwk.insert("kty".to_owned(), "EC".into());
            jwk.insert("crv".to_owned(), curve.map_or("", |(_, name)| name).into());
            jwk.insert("x".to_owned(), url(x));
            jwk.insert("y".to_owned(), url(y));
        }
        Some(PublicKey::RSA(rsa)) => {
            let plain = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
            jwk.insert("kty".to_owned(), "RSA".into());
            jwk.insert("n".to_owned(), url(&plain(rsa.modulus)));
            jwk.insert("e".to_owned(), url(&plain(rsa.exponent)));
        }
        Some(PublicKey::EC(_)) => drop(jwk.insert("kty".to_owned(), "EC".into())),
        _ => {
            // Of the rest only Ed25519 has a form that readers know; the certificate stands beside it in any case.
            jwk.insert("kty".to_owned(), "OKP".into());
            if let Some(key) = key.filter(|key| key.algorithm.algorithm == OID_SIG_ED25519) {
                jwk.insert("crv".to_owned(), "Ed25519".into());
                jwk.insert("x".to_owned(), url(key.subject_public_key.as_ref()));
            }
        }
    }
    jwk.insert("use".to_owned(), "x509-svid".into());
    jwk.insert("x5c".to_owned(), json!([STANDARD.encode(root)]));
    jwk
}

#[cfg(test)]
#[path = "trust_bundle_tests.rs"]
mod tests;
