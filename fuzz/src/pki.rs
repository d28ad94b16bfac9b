//! Certificates and tokens over whatever the input says, with keys that are the same in every run.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use cauldron_identity::jwt::{JwtAuthority, JwtKey};
use cauldron_identity::x509::{AuthorityCa, Bundles, SvidKey, Validity};
use cauldron_identity::{TrustBundle, TrustDomain};

use crate::mesh::NOW;

/// The authority of `acme.test`.
pub struct Pki {
    /// Its X.509 root.
    pub ca: AuthorityCa,
    /// Its JWT keys.
    pub jwt: JwtAuthority,
    /// What it publishes of both.
    pub bundle: TrustBundle,
    /// The roots alone.
    pub roots: Bundles,
    certificates: EcdsaKeyPair,
    tokens: EcdsaKeyPair,
}

/// The one that every input finds.
pub static PKI: LazyLock<Pki> = LazyLock::new(Pki::found);

/// Seconds, where the mesh counts milliseconds.
pub const NOW_S: u64 = NOW.wall_ms / 1_000;

/// A P-256 key as PKCS #8 (RFC 5958) around RFC 5915, whose scalar is this byte 32 times.
fn pkcs8(byte: u8) -> Vec<u8> {
    const HEAD: &str = "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420";
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).expect("hex");
    let head = HEAD.as_bytes().chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1]));
    head.chain([byte; 32]).collect()
}

/// The key behind the SVID of whoever asks.
#[must_use]
pub fn svid_key(byte: u8) -> SvidKey {
    SvidKey::from_pkcs8_der(&pkcs8(byte)).expect("a P-256 key")
}

impl Pki {
    fn found() -> Self {
        let domain = TrustDomain::new("acme.test").expect("a trust domain");
        let validity = Validity { not_before_s: NOW_S - 86_400, not_after_s: NOW_S + 10 * 365 * 86_400 };
        let ca = AuthorityCa::self_signed(domain.clone(), svid_key(0x11), validity, [1; 16]).expect("a root");
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(pkcs8(0x22))
        );
        let jwt = JwtAuthority::new(domain.clone(), JwtKey::from_pkcs8_pem(&pem).expect("a key"), NOW_S);
        let mut bundle = TrustBundle::new(domain);
        bundle.set_roots(vec![ca.certificate().clone()]).expect("its own root");
        bundle.set_jwt_keys(jwt.public_keys());
        bundle.sequence = Some(7);
        let roots = ca.bundle().expect("a root").into();
        let certificates = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8(0x11)).expect("a key");
        let tokens = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8(0x22)).expect("a key");
        Self { ca, jwt, bundle, roots, certificates, tokens }
    }

    /// What RFC 5280 §4.1 and RFC 2986 §4.2 alike make of bytes to be signed.
    #[must_use]
    pub fn signed_der(&self, to_be_signed: &[u8]) -> Vec<u8> {
        // ecdsa-with-SHA256, RFC 5758 §3.2.
        const ALGORITHM: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        let signature = self.certificates.sign(&SystemRandom::new(), to_be_signed).expect("it signs");
        let signature = [&[0], signature.as_ref()].concat();
        der(0x30, &[to_be_signed, &ALGORITHM, &der(0x03, &signature)].concat())
    }

    /// A token over these bytes as header and claims.
    #[must_use]
    pub fn signed_jwt(&self, header: &[u8], claims: &[u8]) -> String {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.tokens.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
        format!("{signed}.{}", part(signature.as_ref()))
    }
}

/// One DER value (X.690 §8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    match length[..] {
        [] => out.push(0),
        [short] if short < 0x80 => out.push(short),
        _ => {
            out.push(0x80 | u8::try_from(length.len()).expect("at most 8"));
            out.extend_from_slice(&length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// The first value inside a DER sequence: what was signed, of a certificate or request.
#[must_use]
pub fn to_be_signed(der: &[u8]) -> Option<&[u8]> {
    let content = der.get(value(der)?)?;
    content.get(..value(content)?.end)
}

/// Where the content of the first value lies.
fn value(der: &[u8]) -> Option<std::ops::Range<usize>> {
    let first = usize::from(*der.get(1)?);
    let (head, length) = match first {
        0..=0x7f => (2, first),
        _ => {
            let bytes = der.get(2..2 + (first & 0x7f))?;
            (2 + bytes.len(), bytes.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte)))
        }
    };
    Some(head..head.checked_add(length)?)
}
