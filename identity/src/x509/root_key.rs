//! The key behind an authority: held here, or in something that signs with it and never gives it away.

use std::cell::RefCell;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use super::error::CaError;
use super::key::SvidKey;

/// An uncompressed P-256 point (SEC 1 §2.3.3).
pub const POINT_LEN: usize = 65;
/// What [`RootKey::probe`] has signed; no certificate begins like this.
const PROBE: &[u8] = b"cauldron/root-key-probe/v1";

/// An ECDSA P-256 key that somebody else keeps, such as a token.
///
/// Nothing that it answers is believed before it was verified, so an implementation only has to be honest about failing.
pub trait ExternalKey: std::fmt::Debug + Send + Sync {
    /// The public key, uncompressed.
    fn point(&self) -> &[u8; POINT_LEN];

    /// Signs `message` by ECDSA with SHA-256: an `Ecdsa-Sig-Value` (RFC 3279 §2.2.3). May take as long as its keeper does, and
    /// must end.
    ///
    /// # Errors
    /// A sentence for a person.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// The key of an [`super::AuthorityCa`].
#[derive(Debug)]
pub enum RootKey {
    /// In this process's memory.
    Held(SvidKey),
    /// Elsewhere.
    External(Arc<dyn ExternalKey>),
}

impl From<SvidKey> for RootKey {
    fn from(key: SvidKey) -> Self {
        Self::Held(key)
    }
}

impl From<Arc<dyn ExternalKey>> for RootKey {
    fn from(key: Arc<dyn ExternalKey>) -> Self {
        Self::External(key)
    }
}

impl RootKey {
    /// The key itself, where it can be had.
    pub(super) fn to_pkcs8_pem(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Held(key) => Some(key.to_pkcs8_pem()),
            Self::External(_) => None,
        }
    }

    pub(super) fn spki_der(&self) -> Vec<u8> {
        Signer::new(self).subject_public_key_info()
    }

    /// Lets an external key sign once: one that cannot is found before anything rests on it.
    pub(super) fn probe(&self) -> Result<(), CaError> {
        match self {
            Self::Held(_) => Ok(()),
            Self::External(_) => {
                self.sign_with(|signer| signer.sign(PROBE).map_err(|e| CaError::Encode(e.to_string()))).map(drop)
            }
        }
    }

    /// Makes something that this key signs. What kept an external key from signing is the error, for rcgen has no words for it.
    pub(super) fn sign_with<T>(&self, make: impl FnOnce(&Signer<'_>) -> Result<T, CaError>) -> Result<T, CaError> {
        let signer = Signer::new(self);
        let made = make(&signer);
        match signer.failure.into_inner() {
            Some(why) => Err(CaError::External(why)),
            None => made,
        }
    }
}

/// A [`RootKey`] as rcgen takes it.
pub(super) struct Signer<'k> {
    key: &'k RootKey,
    failure: RefCell<Option<String>>,
}

impl<'k> Signer<'k> {
    fn new(key: &'k RootKey) -> Self {
        Self { key, failure: RefCell::new(None) }
    }

    fn fail(&self, why: String) -> rcgen::Error {
        self.failure.replace(Some(why));
        rcgen::Error::RemoteKeyError
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        match self.key {
            RootKey::Held(key) => key.pair().der_bytes(),
            RootKey::External(key) => key.point(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.key {
            RootKey::Held(key) => key.pair().algorithm(),
            RootKey::External(_) => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let key = match self.key {
            RootKey::Held(key) => return key.pair().sign(message),
            RootKey::External(key) => key,
        };
        let signature = key.sign(message).map_err(|why| self.fail(why))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(message, &signature).map_err(|_| {
            self.fail("its signature does not verify under its own public key as ECDSA P-256".to_owned())
        })?;
        Ok(signature)
    }
}
