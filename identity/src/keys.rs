//! Ed25519 author keys (RFC 8032): long-lived, apart from SVIDs. SVIDs live hours, evidence years.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::ids::{AuthorId, domain_hash};

/// Why a key or signature is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum KeyError {
    /// The signature does not match key, domain and message.
    #[error("the signature does not verify")]
    BadSignature,
    /// A small-order or malformed point: one signature would verify under it for any message.
    #[error("the key is a weak (small-order) or invalid point")]
    Weak,
    /// The token signed without a touch.
    #[error("the token attests no touch")]
    NotPresent,
}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// An Ed25519 secret key. Wiped when dropped, never printed.
pub struct AuthorKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl AuthorKey {
    /// The key of RFC 8032 §5.1.5 for `seed`.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = match Ed25519KeyPair::from_seed_unchecked(seed) {
            Ok(pair) => pair,
            Err(_) => unreachable!("every 32-byte seed is an Ed25519 key"),
        };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, seed: Zeroizing::new(*seed), public: PublicKey(public) }
    }

    /// The seed, to be written to a file that only its owner reads.
    #[must_use]
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Hash of the public half.
    #[must_use]
    pub fn author_id(&self) -> AuthorId {
        self.public.author_id()
    }

    /// Signs SHA-256(`domain` ‖ 0x00 ‖ `message`).
    #[must_use]
    pub fn sign(&self, domain: &str, message: &[u8]) -> Signature {
        self.sign_bytes(&domain_hash(domain, message))
    }

    /// Signs exactly `bytes`; callers see to it that they mean one thing only.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Signature {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(bytes).as_ref());
        Signature(out)
    }
}

impl std::fmt::Debug for AuthorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthorKey(secret of {:?})", self.public)
    }
}

impl PublicKey {
    /// Wraps raw bytes without judging them; [`PublicKey::is_weak`] does.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hash of the key: the author's name in headers.
    #[must_use]
    pub fn author_id(&self) -> AuthorId {
        AuthorId::of("cauldron/author/v1", &self.0)
    }

    /// True for small-order points and bytes that are no point. aws-lc accepts the identity point with one signature
    /// for any message, so such keys must never be enrolled.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_or(true, |key| key.is_weak())
    }

    /// Verifies a signature made by [`AuthorKey::sign`].
    ///
    /// # Errors
    /// [`KeyError::BadSignature`]. Weakness is checked where keys are admitted, not per signature.
    pub fn verify(&self, domain: &str, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        self.verify_bytes(&domain_hash(domain, message), signature)
    }

    pub(crate) fn verify_bytes(&self, bytes: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let verify = || {
            UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, &signature.0).map_err(|_| KeyError::BadSignature)
        };
        crate::memo::once(&[&self.0, bytes, &signature.0], verify)
    }
}

impl Signature {
    /// Wraps raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

macro_rules! hex_bytes {
    ($name:ident, $len:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(&self.0[..6]))
            }
        }
        impl std::str::FromStr for $name {
            type Err = crate::ids::ParseIdError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let mut out = [0; $len];
                hex::decode_to_slice(s, &mut out)
                    .map_err(|_| crate::ids::ParseIdError(s.chars().take(140).collect()))?;
                Ok(Self(out))
            }
        }
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }
        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                <[u8; $len]>::try_from(d.bytes()?).map(Self).map_err(|_| {
                    minicbor::decode::Error::message(concat!(stringify!($name), " must be ", $len, " bytes"))
                })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
hex_bytes!(PublicKey, 32);
hex_bytes!(Signature, 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_binds_key_domain_and_message() {
        let (a, b) = (AuthorKey::from_seed(&[1; 32]), AuthorKey::from_seed(&[2; 32]));
        let signature = a.sign("d", b"m");
        assert_eq!(a.public().verify("d", b"m", &signature), Ok(()));
        assert_eq!(a.public().verify("e", b"m", &signature), Err(KeyError::BadSignature));
        assert_eq!(a.public().verify("d", b"n", &signature), Err(KeyError::BadSignature));
        assert_eq!(b.public().verify("d", b"m", &signature), Err(KeyError::BadSignature));
    }

    #[test]
    fn small_order_points_are_weak_and_ours_are_not() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(PublicKey::from_bytes(identity).is_weak());
        assert!(PublicKey::from_bytes([0; 32]).is_weak());
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert!(PublicKey::from_bytes(no_point).is_weak());
        assert!(!AuthorKey::from_seed(&[7; 32]).public().is_weak());
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = AuthorKey::from_seed(&[9; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode([9u8; 32])));
    }
}
