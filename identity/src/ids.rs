//! Typed 32-byte hashes, so that a fact's id is never taken for an author's.

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 (FIPS 180-4) of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, data).as_ref());
    out
}

/// SHA-256 of `domain ‖ 0x00 ‖ data`: hashes of one purpose never collide with another's.
#[must_use]
pub fn domain_hash(domain: &str, data: &[u8]) -> [u8; 32] {
    let mut input = Vec::with_capacity(domain.len() + 1 + data.len());
    input.extend_from_slice(domain.as_bytes());
    input.push(0);
    input.extend_from_slice(data);
    sha256(&input)
}

/// HMAC-SHA-256 (RFC 2104) of `message` under `key`.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::hmac::sign(&key, message).as_ref());
    out
}

/// Whether `tag` is [`hmac_sha256`] of `message` under `key`; takes the same time wherever they differ.
#[must_use]
pub fn hmac_sha256_holds(key: &[u8; 32], message: &[u8], tag: &[u8; 32]) -> bool {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::verify(&key, message, tag).is_ok()
}

/// A text that is not 64 lower-case hex characters.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("expected 64 hex characters, found {0:?}")]
pub struct ParseIdError(pub String);

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// SHA-256 of `domain ‖ 0x00 ‖ data`.
            #[must_use]
            pub fn of(domain: &str, data: &[u8]) -> Self {
                Self(domain_hash(domain, data))
            }
            /// The first 12 hex characters, for people.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
        impl std::str::FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let mut out = [0; 32];
                if s.len() != 64 || s.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseIdError(s.chars().take(80).collect()));
                }
                hex::decode_to_slice(s, &mut out).map_err(|_| ParseIdError(s.chars().take(80).collect()))?;
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
                let bytes = d.bytes()?;
                let array = <[u8; 32]>::try_from(bytes)
                    .map_err(|_| minicbor::decode::Error::message(concat!(stringify!($name), " must be 32 bytes")))?;
                Ok(Self(array))
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

hash_id!(
    /// SHA-256 of a fact's header bytes as received.
    FactId
);
hash_id!(
    /// Hash of a long-lived author key.
    AuthorId
);
hash_id!(
    /// Hash of the founding charter's bytes: the mesh's name.
    MeshId
);
hash_id!(
    /// SHA-256 of a fact's body.
    BodyHash
);
hash_id!(
    /// Any other digest over stored bytes.
    Digest
);

impl BodyHash {
    /// SHA-256 of `body`.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        Self(sha256(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_the_rest() {
        let id = FactId::of("test", b"x");
        assert_eq!(id.to_string().parse::<FactId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<FactId>().is_err());
        assert!("00".parse::<FactId>().is_err());
    }

    #[test]
    fn sha256_matches_the_nist_vector() {
        assert_eq!(hex::encode(sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn hmac_matches_another_implementation_and_binds_key_and_message() {
        // RFC 4231 has no 32-byte key; the value is from Python's hmac module for key 00..1f and b"what".
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let tag = hmac_sha256(&key, b"what");
        assert!(hmac_sha256_holds(&key, b"what", &tag) && !hmac_sha256_holds(&key, b"when", &tag));
        assert!(!hmac_sha256_holds(&[0; 32], b"what", &tag));
        assert_eq!(hex::encode(tag), "249184710d6be3a585080a43b3e17da6e12a64d50ed57150cec94f8ad479ed9c");
    }

    #[test]
    fn domains_separate() {
        assert_ne!(Digest::of("a", b"bc"), Digest::of("ab", b"c"));
    }
}
