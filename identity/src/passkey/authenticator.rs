//! A passkey in software, for tests and simulated worlds: what browser and authenticator hand out, or something close to it.

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::Encoder;

use super::{Algorithm, Assertion, CoseKey, Passkey, PasskeyError, Registration};
use crate::ids::{Digest, sha256};
use crate::keys::AuthorKey;

/// UP, UV, BE and BS: a synchronised passkey, after somebody was recognised.
const FLAGS: u8 = 0x1d;
const ATTESTED: u8 = 1 << 6;

enum Secret {
    Es256(EcdsaKeyPair),
    EdDsa(AuthorKey),
}

/// One passkey, and the page on which it is used.
pub struct Authenticator {
    secret: Secret,
    passkey: Passkey,
    rp_id: String,
    origin: String,
}

/// What is about to be signed: change it, and the signature is over what became of it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Relying party hash (32), flags (1), counter (4), and what is behind them.
    pub authenticator_data: Vec<u8>,
    /// The browser's words.
    pub client_data_json: String,
}

impl Authenticator {
    /// An ES256 passkey. Its signatures differ each time: a world that must run twice alike wants [`Authenticator::eddsa`].
    #[must_use]
    pub fn es256(seed: &[u8; 32], rp_id: &str, origin: &str) -> Self {
        let private = agreement::PrivateKey::from_private_key(&ECDH_P256, seed).expect("a scalar of P-256");
        let point = private.compute_public_key().expect("a point");
        let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, seed, point.as_ref());
        let key = CoseKey::new(Algorithm::Es256, point.as_ref().to_vec()).expect("an uncompressed point");
        Self::new(Secret::Es256(pair.expect("its own point")), seed, key, rp_id, origin)
    }

    /// An Ed25519 passkey: same seed and challenge, same bytes.
    #[must_use]
    pub fn eddsa(seed: &[u8; 32], rp_id: &str, origin: &str) -> Self {
        let secret = AuthorKey::from_seed(seed);
        let key = CoseKey::new(Algorithm::EdDsa, secret.public().as_bytes().to_vec()).expect("32 bytes");
        Self::new(Secret::EdDsa(secret), seed, key, rp_id, origin)
    }

    fn new(secret: Secret, seed: &[u8; 32], key: CoseKey, rp_id: &str, origin: &str) -> Self {
        let id = Digest::of("cauldron/test-passkey", seed).as_bytes().to_vec();
        let passkey = Passkey::new(id, key).expect("32 bytes");
        Self { secret, passkey, rp_id: rp_id.into(), origin: origin.into() }
    }

    /// The public half.
    #[must_use]
    pub fn passkey(&self) -> &Passkey {
        &self.passkey
    }

    /// Signs a challenge, as `navigator.credentials.get` does.
    #[must_use]
    pub fn assert(&self, challenge: &Digest) -> Assertion {
        self.assert_with(challenge, |_| {})
    }

    /// Signs what `change` makes of it.
    #[must_use]
    pub fn assert_with(&self, challenge: &Digest, change: impl FnOnce(&mut Draft)) -> Assertion {
        let mut draft = self.draft("webauthn.get", challenge, FLAGS);
        change(&mut draft);
        let signed = self.signed(draft.authenticator_data, draft.client_data_json.into_bytes());
        signed.expect("within its bounds")
    }

    /// Signs whatever both parts are.
    ///
    /// # Errors
    /// [`PasskeyError::Length`].
    pub fn signed(&self, authenticator_data: Vec<u8>, client_data_json: Vec<u8>) -> Result<Assertion, PasskeyError> {
        let signature = self.sign(&[&authenticator_data[..], &sha256(&client_data_json)].concat());
        Assertion::new(authenticator_data, client_data_json, signature)
    }

    /// Makes the passkey known, as `navigator.credentials.create` does, without attestation.
    #[must_use]
    pub fn register(&self, challenge: &Digest) -> Registration {
        self.register_with(challenge, |_| {})
    }

    /// The same, with what `change` makes of it.
    #[must_use]
    pub fn register_with(&self, challenge: &Digest, change: impl FnOnce(&mut Draft)) -> Registration {
        let mut draft = self.draft("webauthn.create", challenge, FLAGS | ATTESTED);
        let id = self.passkey.credential_id();
        draft.authenticator_data.extend_from_slice(&[7; 16]);
        draft.authenticator_data.extend_from_slice(&u16::try_from(id.len()).expect("short").to_be_bytes());
        draft.authenticator_data.extend_from_slice(id);
        draft.authenticator_data.extend_from_slice(&cose(self.passkey.key()));
        change(&mut draft);
        let object = object("none", &[0xa0], &draft.authenticator_data);
        Registration::new(object, draft.client_data_json.into_bytes()).expect("within its bounds")
    }

    fn draft(&self, kind: &str, challenge: &Digest, flags: u8) -> Draft {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge.as_bytes());
        let origin = &self.origin;
        Draft {
            authenticator_data: [&sha256(self.rp_id.as_bytes())[..], &[flags], &9u32.to_be_bytes()].concat(),
            client_data_json: format!(
                r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}","crossOrigin":false}}"#
            ),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Es256(pair) => pair.sign(&SystemRandom::new(), message).expect("it signs").as_ref().to_vec(),
            Secret::EdDsa(key) => key.sign_bytes(message).as_bytes().to_vec(),
        }
    }
}

/// An attestation object of those three members.
#[must_use]
pub fn object(format: &str, statement: &[u8], authenticator_data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa3];
    let mut text = Encoder::new(&mut out);
    text.str("fmt").and_then(|e| e.str(format)).and_then(|e| e.str("attStmt")).expect("memory");
    out.extend_from_slice(statement);
    Encoder::new(&mut out).str("authData").and_then(|e| e.bytes(authenticator_data)).expect("memory");
    out
}

/// A key as authenticators write it.
#[must_use]
pub fn cose(key: &CoseKey) -> Vec<u8> {
    let mut out = Vec::new();
    let mut e = Encoder::new(&mut out);
    let (kty, members) = match key.algorithm() {
        Algorithm::Es256 => (2, 5),
        Algorithm::EdDsa => (1, 4),
        Algorithm::Rs256 => (3, 4),
    };
    let head = e.map(members).and_then(|e| e.i8(1)?.i8(kty)?.i8(3)?.i32(key.algorithm().cose()));
    let e = head.expect("memory");
    let bytes = key.bytes();
    let written = match key.algorithm() {
        Algorithm::Es256 => e.i8(-1).and_then(|e| e.i8(1)?.i8(-2)?.bytes(&bytes[1..33])?.i8(-3)?.bytes(&bytes[33..])),
        Algorithm::EdDsa => e.i8(-1).and_then(|e| e.i8(6)?.i8(-2)?.bytes(bytes)),
        Algorithm::Rs256 => e.i8(-1).and_then(|e| e.bytes(bytes)?.i8(-2)?.bytes(&[1, 0, 1])),
    };
    written.expect("memory");
    out
}
