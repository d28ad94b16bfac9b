//! Public keys that verify JWT-SVIDs, in the form of JWKs (RFC 7517; RFC 7518 §6).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::JwkError;
use crate::ids::Digest;

/// Bytes of a key id that we keep for a stranger; thumbprints have 43.
pub const KID_BYTES_MAX: usize = 255;
/// RSA below is breakable, above costs a stranger's message too much of our time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The signature algorithms of JWT-SVID §2.1; `none` and the symmetric ones are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 7518 §3.1")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
    ];

    /// The algorithm of that name, if it is one of the nine.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name in headers and JWKs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [(&'static str, Self); 3] = [("P-256", Self::P256), ("P-384", Self::P384), ("P-521", Self::P521)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, curve)| *curve == self).map_or("", |(name, _)| name)
    }

    /// Bytes of one coordinate (RFC 7518 §6.2.1.2).
    fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// RFC 7518 §3.4: each curve has one algorithm.
    fn algorithm(self) -> (Algorithm, &'static EcdsaVerificationAlgorithm) {
        match self {
            Self::P256 => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
            Self::P384 => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED),
            Self::P521 => (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// SEC 1 uncompressed: 4, x, y.
    Ec { curve: Curve, point: Vec<u8> },
    /// Big-endian, no leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A key that verifies the tokens of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtPublicKey {
    kid: String,
    key: Key,
    /// The one algorithm that its owner uses it with, where the JWK says so (RFC 7517 §4.4).
    algorithm: Option<Algorithm>,
}

impl JwtPublicKey {
    /// Reads a JWK. Its `use` is the bundle's business.
    ///
    /// # Errors
    /// [`JwkError::Unsupported`] for key types, curves and sizes that are passed over; [`JwkError::Malformed`] for a missing
    /// `kid` (JWT-SVID §6.1) and for members that cannot be read.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        let kid = text(jwk, "kid")?;
        if kid.is_empty() || kid.len() > KID_BYTES_MAX {
            return Err(JwkError::Malformed(format!("`kid` must have 1 to {KID_BYTES_MAX} bytes")));
        }
        let key = match text(jwk, "kty")? {
            "EC" => ec(jwk)?,
            "RSA" => rsa(jwk)?,
            other => return Err(JwkError::Unsupported(format!("key type `{}`", other.escape_debug()))),
        };
        let algorithm = match jwk.get("alg").and_then(Value::as_str) {
            None => None,
            Some(name) => match Algorithm::of(name) {
                None => return Err(JwkError::Unsupported(format!("algorithm `{}`", name.escape_debug()))),
                algorithm => algorithm,
            },
        };
        Ok(Self { kid: kid.to_owned(), key, algorithm })
    }

    /// The key of an ECDSA P-256 pair, as its owner publishes it.
    ///
    /// `point`: SEC 1 uncompressed, 65 bytes. Its id is the thumbprint of RFC 7638.
    #[must_use]
    pub(super) fn p256(point: &[u8]) -> Self {
        let key = Key::Ec { curve: Curve::P256, point: point.to_vec() };
        let (x, y) = point[1..].split_at(32);
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(x),
            URL_SAFE_NO_PAD.encode(y)
        );
        let kid = URL_SAFE_NO_PAD.encode(crate::ids::sha256(canonical.as_bytes()));
        Self { kid, key, algorithm: None }
    }

    /// The key's name in its bundle.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key's RFC 7638 thumbprint, where its `kid` is that: so it is for every key that was made here.
    #[must_use]
    pub fn thumbprint(&self) -> Option<Digest> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.kid).ok()?;
        <[u8; 32]>::try_from(bytes).ok().map(Digest::from_bytes)
    }

    /// Whether tokens of that algorithm may be signed by this key.
    #[must_use]
    pub fn may_sign(&self, algorithm: Algorithm) -> bool {
        let fits = match &self.key {
            Key::Ec { curve, .. } => curve.algorithm().0 == algorithm,
            Key::Rsa { .. } => algorithm.rsa().is_some(),
        };
        fits && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether `signature` (JWS form: fixed-length for ECDSA) over `message` is this key's.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.may_sign(algorithm) {
            return false;
        }
        match (&self.key, algorithm.rsa()) {
            (Key::Ec { curve, point }, _) => {
                UnparsedPublicKey::new(curve.algorithm().1, point).verify(message, signature).is_ok()
            }
            (Key::Rsa { n, e }, Some(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Key::Rsa { .. }, None) => false,
        }
    }

    /// The entry of a trust bundle, `use` included.
    #[must_use]
    pub fn to_jwk(&self) -> Map<String, Value> {
        let mut jwk = Map::new();
        let mut set = |name: &str, value: &str| jwk.insert(name.to_owned(), Value::from(value));
        match &self.key {
            Key::Ec { curve, point } => {
                let (x, y) = point[1..].split_at(curve.coordinate_bytes());
                set("kty", "EC");
                set("use", "jwt-svid");
                set("kid", &self.kid);
                set("crv", curve.name());
                set("x", &URL_SAFE_NO_PAD.encode(x));
                set("y", &URL_SAFE_NO_PAD.encode(y));
            }
            Key::Rsa { n, e } => {
                set("kty", "RSA");
                set("use", "jwt-svid");
                set("kid", &self.kid);
                set("n", &URL_SAFE_NO_PAD.encode(n));
                set("e", &URL_SAFE_NO_PAD.encode(e));
            }
        }
        if let Some(algorithm) = self.algorithm {
            set("alg", algorithm.name());
        }
        jwk
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<&'j str, JwkError> {
    jwk.get(name).and_then(Value::as_str).ok_or_else(|| JwkError::Malformed(format!("`{name}` is missing")))
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, JwkError> {
    URL_SAFE_NO_PAD
        .decode(text(jwk, name)?)
        .map_err(|_| JwkError::Malformed(format!("`{name}` is not base64url without padding")))
}

fn ec(jwk: &Map<String, Value>) -> Result<Key, JwkError> {
    let name = text(jwk, "crv")?;
    let Some((_, curve)) = Curve::ALL.iter().find(|(known, _)| *known == name) else {
        return Err(JwkError::Unsupported(format!("curve `{}`", name.escape_debug())));
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != curve.coordinate_bytes() || y.len() != curve.coordinate_bytes() {
        return Err(JwkError::Malformed(format!("`x` and `y` of {name} have {} bytes", curve.coordinate_bytes())));
    }
    let point = [&[4][..], &x, &y].concat();
    let on_curve = aws_lc_rs::signature::ParsedPublicKey::new(curve.algorithm().1, &point).is_ok();
    if !on_curve {
        return Err(JwkError::Malformed(format!("`x` and `y` are no point of {name}")));
    }
    Ok(Key::Ec { curve: *curve, point })
}

fn rsa(jwk: &Map<String, Value>) -> Result<Key, JwkError> {
    let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>();
    let (n, e) = (strip(bytes(jwk, "n")?), strip(bytes(jwk, "e")?));
    let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(JwkError::Unsupported(format!("RSA with {bits} bits")));
    }
    // FIPS 186-5 §A.1.1: above 2^16; larger than 32 bits only slows a verifier down.
    let exponent = e.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
    if e.len() > 4 || exponent <= 1 << 16 {
        return Err(JwkError::Unsupported("RSA with a public exponent that is not between 2^16 and 2^32".to_owned()));
    }
    Ok(Key::Rsa { n, e })
}
