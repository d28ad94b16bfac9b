//! Keys with which people sign, and their signatures: one form for files, agents and tokens.
//!
//! Whatever holds the key, it signs an `SSHSIG` message (OpenSSH `PROTOCOL.sshsig`) under a namespace of ours. So a council
//! key may lie in a key file, in `ssh-agent`, or in a FIDO token, `ssh-keygen -Y sign` can make the signature, and nothing that
//! an agent signs for us can be taken for a login.

use std::fmt;
use std::str::FromStr;

use minicbor::data::Type;

use crate::ids::sha256;
use crate::keys::{AuthorKey, KeyError, PublicKey, Signature};
use crate::ssh;

/// `SSH_SK_USER_PRESENCE_REQD`, the flag of a touch.
const USER_PRESENT: u8 = 0x01;
/// OpenSSH requires this beginning of an SSH key's application.
const APPLICATION_PREFIX: &str = "ssh:";
/// The longest application that an enrolled key may name; OpenSSH's default is `ssh:`.
const APPLICATION_BYTES_MAX: usize = 64;

/// The public half of a person's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignerKey {
    /// Ed25519, in a file or an agent.
    Ed25519(PublicKey),
    /// `sk-ssh-ed25519@openssh.com`: Ed25519 in a token that wants a touch.
    Sk {
        /// The public key.
        point: PublicKey,
        /// What the token bound the key to, such as `ssh:`.
        application: String,
    },
}

/// What a token attests beside its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touch {
    /// Bit 0: somebody touched it; bit 2: it knew who.
    pub flags: u8,
    /// How often it has signed. Recorded, never decisive.
    pub counter: u32,
}

/// A signature by a [`SignerKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshSignature {
    /// The Ed25519 signature.
    pub signature: Signature,
    /// From a token alone.
    pub touch: Option<Touch>,
}

impl SignerKey {
    /// The Ed25519 point, whatever holds its secret. Two members of one council never share it.
    #[must_use]
    pub const fn point(&self) -> &PublicKey {
        match self {
            Self::Ed25519(point) | Self::Sk { point, .. } => point,
        }
    }

    /// Whether anybody could sign for it, or its application is none of an SSH key.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.point().is_weak() {
            return Err("it is a weak (small-order) or invalid point: anybody could sign for it".into());
        }
        match self {
            Self::Sk { application, .. } if !is_application(application) => {
                Err(format!("its application does not begin with {APPLICATION_PREFIX:?} or is not short plain text"))
            }
            _ => Ok(()),
        }
    }

    /// Verifies a signature over `message` for `namespace`.
    ///
    /// # Errors
    /// [`KeyError::BadSignature`], [`KeyError::NotPresent`]. Weakness is checked where keys are admitted.
    pub fn verify(&self, namespace: &str, message: &[u8], signature: &SshSignature) -> Result<(), KeyError> {
        let data = ssh::signed_data(namespace, message);
        match (self, signature.touch) {
            (Self::Ed25519(point), None) => point.verify_bytes(&data, &signature.signature),
            (Self::Sk { .. }, Some(touch)) if touch.flags & USER_PRESENT == 0 => Err(KeyError::NotPresent),
            (Self::Sk { point, application }, Some(touch)) => {
                point.verify_bytes(&touched_data(application, touch, &data), &signature.signature)
            }
            _ => Err(KeyError::BadSignature),
        }
    }
}

fn is_application(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    text.starts_with(APPLICATION_PREFIX) && text.len() <= APPLICATION_BYTES_MAX && plain
}

/// What the token's key signs (`PROTOCOL.u2f`, "SSH U2F signatures"), without extensions.
fn touched_data(application: &str, touch: Touch, data: &[u8]) -> Vec<u8> {
    let mut out = sha256(application.as_bytes()).to_vec();
    out.push(touch.flags);
    out.extend_from_slice(&touch.counter.to_be_bytes());
    out.extend_from_slice(&sha256(data));
    out
}

impl AuthorKey {
    /// Signs as a person does, for `namespace`.
    #[must_use]
    pub fn sign_ssh(&self, namespace: &str, message: &[u8]) -> SshSignature {
        SshSignature { signature: self.sign_bytes(&ssh::signed_data(namespace, message)), touch: None }
    }
}

impl SshSignature {
    /// 64 bytes, or 69 with flags and counter.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.signature.as_bytes().to_vec();
        if let Some(touch) = self.touch {
            out.push(touch.flags);
            out.extend_from_slice(&touch.counter.to_be_bytes());
        }
        out
    }

    /// Reads [`SshSignature::to_bytes`]; nothing for any other length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (signature, rest) = bytes.split_first_chunk::<64>()?;
        let touch = match rest {
            [] => None,
            [flags, counter @ ..] => {
                Some(Touch { flags: *flags, counter: u32::from_be_bytes(counter.try_into().ok()?) })
            }
        };
        Some(Self { signature: Signature::from_bytes(*signature), touch })
    }
}

impl From<PublicKey> for SignerKey {
    fn from(point: PublicKey) -> Self {
        Self::Ed25519(point)
    }
}

impl fmt::Display for SignerKey {
    /// 64 hex characters, or the line of a `.pub` file for a token's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(point) => point.fmt(f),
            Self::Sk { .. } => f.write_str(&ssh::public_line(self)),
        }
    }
}

impl FromStr for SignerKey {
    type Err = String;

    /// Reads what is displayed, and the line of a `.pub` file for either kind.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse::<PublicKey>() {
            Ok(point) => Ok(Self::Ed25519(point)),
            Err(_) if text.contains(' ') => ssh::key_from_line(text).map_err(|e| e.to_string()),
            Err(_) => Err("a key is 64 hex characters, or the line of a .pub file: `ssh-ed25519 AAAA…`".into()),
        }
    }
}

impl serde::Serialize for SignerKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for SignerKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<C> minicbor::Encode<C> for SignerKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        c: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Ed25519(point) => point.encode(e, c),
            Self::Sk { point, application } => {
                point.encode(e.array(2)?, c)?;
                e.str(application)?.ok()
            }
        }
    }
}

impl<'b, C> minicbor::Decode<'b, C> for SignerKey {
    fn decode(d: &mut minicbor::Decoder<'b>, c: &mut C) -> Result<Self, minicbor::decode::Error> {
        if d.datatype()? == Type::Bytes {
            return PublicKey::decode(d, c).map(Self::Ed25519);
        }
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("a key is 32 bytes, or an array of point and application"));
        }
        Ok(Self::Sk { point: PublicKey::decode(d, c)?, application: d.str()?.to_owned() })
    }
}

impl<C> minicbor::Encode<C> for SshSignature {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for SshSignature {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(d.bytes()?)
            .ok_or_else(|| minicbor::decode::Error::message("a signature is 64 bytes, or 69 with flags and counter"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::{from_cbor, to_cbor};

    /// A software authenticator: what a token with this seed answers.
    pub(crate) fn token(seed: &[u8; 32], namespace: &str, message: &[u8], flags: u8) -> (SignerKey, SshSignature) {
        let key = AuthorKey::from_seed(seed);
        let touch = Touch { flags, counter: 7 };
        let data = touched_data("ssh:", touch, &ssh::signed_data(namespace, message));
        let signed = SshSignature { signature: key.sign_bytes(&data), touch: Some(touch) };
        (SignerKey::Sk { point: key.public(), application: "ssh:".into() }, signed)
    }

    #[test]
    fn a_token_must_have_been_touched_and_everything_it_attests_is_signed() {
        let (key, signed) = token(&[1; 32], "n", b"m", 0x05);
        assert_eq!(key.verify("n", b"m", &signed), Ok(()));
        assert_eq!(key.verify("o", b"m", &signed), Err(KeyError::BadSignature));
        assert_eq!(key.verify("n", b"k", &signed), Err(KeyError::BadSignature));
        let with = |flags, counter| SshSignature { touch: Some(Touch { flags, counter }), ..signed };
        assert_eq!(key.verify("n", b"m", &with(0x01, 7)), Err(KeyError::BadSignature));
        assert_eq!(key.verify("n", b"m", &with(0x05, 8)), Err(KeyError::BadSignature));
        let (_, untouched) = token(&[1; 32], "n", b"m", 0x04);
        assert_eq!(key.verify("n", b"m", &untouched), Err(KeyError::NotPresent));
        let elsewhere = SignerKey::Sk { point: *key.point(), application: "ssh:other".into() };
        assert_eq!(elsewhere.verify("n", b"m", &signed), Err(KeyError::BadSignature));
    }

    #[test]
    fn neither_kind_passes_for_the_other() {
        let (sk, touched) = token(&[1; 32], "n", b"m", 0x01);
        let key = AuthorKey::from_seed(&[1; 32]);
        let (plain, signed) = (SignerKey::from(key.public()), key.sign_ssh("n", b"m"));
        assert_eq!(plain.verify("n", b"m", &signed), Ok(()));
        assert_eq!(sk.verify("n", b"m", &signed), Err(KeyError::BadSignature));
        assert_eq!(plain.verify("n", b"m", &touched), Err(KeyError::BadSignature));
        let stripped = SshSignature { touch: None, ..touched };
        assert_eq!(plain.verify("n", b"m", &stripped), Err(KeyError::BadSignature));
    }

    #[test]
    fn keys_and_signatures_have_one_encoding() {
        let (sk, touched) = token(&[1; 32], "n", b"m", 0x01);
        let plain = SignerKey::from(*sk.point());
        for key in [&sk, &plain] {
            assert_eq!(from_cbor::<SignerKey>(&to_cbor(key)).as_ref(), Ok(key));
            assert_eq!(key.to_string().parse().as_ref(), Ok(key));
        }
        assert_eq!(to_cbor(&plain), to_cbor(plain.point()), "a plain key is written as before");
        assert_eq!(from_cbor(&to_cbor(&touched)), Ok(touched));
        for length in (0..80).filter(|l| *l != 64 && *l != 69) {
            assert_eq!(SshSignature::from_bytes(&vec![0; length]), None, "{length}");
        }
        assert!("nonsense".parse::<SignerKey>().is_err());
    }

    #[test]
    fn weak_points_and_foreign_applications_are_not_admitted() {
        let (sk, _) = token(&[1; 32], "n", b"m", 0x01);
        assert_eq!(sk.check(), Ok(()));
        assert!(SignerKey::from(PublicKey::from_bytes([0; 32])).check().is_err());
        for application in ["", "webauthn.example", "ssh:a b", &format!("ssh:{}", "x".repeat(64))] {
            let key = SignerKey::Sk { point: *sk.point(), application: application.into() };
            assert!(key.check().is_err(), "{application}");
        }
    }
}
