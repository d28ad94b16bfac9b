//! What a person votes with.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::codec::to_cbor;
use crate::ids::Digest;
use crate::keys::PublicKey;
use crate::passkey::{Algorithm, CoseKey, Passkey};
use crate::signer::SignerKey;

/// Credentials of one person: some devices and tokens. With keys of RS256 and ids at their longest they still fit a fact's body.
pub const CREDENTIALS_MAX: usize = 16;

/// What a credential is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, serde::Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// An Ed25519 key in a file or an agent.
    #[n(0)]
    Software,
    /// `sk-ssh-ed25519`, a key in a token with touch.
    #[n(1)]
    SkSsh,
    /// A WebAuthn passkey, used on a page.
    #[n(2)]
    Passkey,
}

/// How sure a credential makes that its person was there, from less to more: an obligation asks for at least one of these.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, serde::Serialize, serde::Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Assurance {
    /// Whatever program can read the key signs with it.
    #[default]
    #[n(0)]
    Software,
    /// Somebody touched a token, or a device recognised who holds it.
    #[n(1)]
    Verified,
}

/// A key with which a person votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key that signs in OpenSSH's form: software, or a token.
    Signer(SignerKey),
    /// A passkey, which signs on pages of the mesh alone.
    Passkey(Passkey),
}

impl CredentialKind {
    /// A token and a passkey are equally strong.
    #[must_use]
    pub const fn assurance(self) -> Assurance {
        match self {
            Self::Software => Assurance::Software,
            Self::SkSsh | Self::Passkey => Assurance::Verified,
        }
    }

    /// `software`, `sk-ssh` or `passkey`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::SkSsh => "sk-ssh",
            Self::Passkey => "passkey",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Assurance {
    /// `software` or `verified`, as policy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Verified => "verified",
        }
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Assurance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Software, Self::Verified].into_iter().find(|a| a.name() == text);
        found.ok_or_else(|| format!("{text:?} is no assurance: write `software` or `verified`"))
    }
}

impl Credential {
    /// The credential that `key` is.
    #[must_use]
    pub fn of(key: SignerKey) -> Self {
        Self::Signer(key)
    }

    /// What it is made of, which policy sees.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Signer(SignerKey::Ed25519(_)) => CredentialKind::Software,
            Self::Signer(SignerKey::Sk { .. }) => CredentialKind::SkSsh,
            Self::Passkey(_) => CredentialKind::Passkey,
        }
    }

    /// The key that verifies its signatures in OpenSSH's form; nothing for a passkey.
    #[must_use]
    pub fn signer(&self) -> Option<SignerKey> {
        match self {
            Self::Signer(key) => Some(key.clone()),
            Self::Passkey(_) => None,
        }
    }

    /// The passkey, where it is one.
    #[must_use]
    pub fn passkey(&self) -> Option<&Passkey> {
        match self {
            Self::Signer(_) => None,
            Self::Passkey(passkey) => Some(passkey),
        }
    }

    /// Its Ed25519 key, whatever holds the secret; nothing for a passkey of another algorithm.
    #[must_use]
    pub fn ed25519(&self) -> Option<PublicKey> {
        match self {
            Self::Signer(key) => Some(*key.point()),
            Self::Passkey(passkey) => passkey.key().ed25519(),
        }
    }

    /// Hash of the credential: its name in a vote.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of("cauldron/credential/v1", &to_cbor(self))
    }

    /// Whether anybody but its holder could sign for it.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Signer(key) => key.check(),
            Self::Passkey(passkey) => passkey.key().check().map_err(|e| e.to_string()),
        }
    }

    /// Whether both are one key, whatever holds it, or passkeys of one id, which a browser could not tell apart.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let one_id = |a: &Passkey, b: &Passkey| a.credential_id() == b.credential_id() || a.key() == b.key();
        let one_point = self.ed25519().is_some() && self.ed25519() == other.ed25519();
        one_point || self.passkey().zip(other.passkey()).is_some_and(|(a, b)| one_id(a, b))
    }
}

impl fmt::Display for Credential {
    /// The key as people pass it on; of a passkey algorithm and id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signer(key) => key.fmt(f),
            Self::Passkey(passkey) => passkey.fmt(f),
        }
    }
}

impl serde::Serialize for Credential {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = s.serialize_struct("Credential", 3)?;
        out.serialize_field("id", &self.id())?;
        out.serialize_field("kind", &self.kind())?;
        out.serialize_field("key", &self.to_string())?;
        out.end()
    }
}

/// How it is written.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(0)]
    kind: CredentialKind,
    #[n(1)]
    key: ByteVec,
    #[n(2)]
    application: Option<String>,
    #[n(3)]
    algorithm: Option<i32>,
    #[n(4)]
    passkey: Option<ByteVec>,
}

impl<C> Encode<C> for Credential {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        c: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let (key, application, algorithm, passkey) = match self {
            Self::Signer(SignerKey::Ed25519(point)) => (point.as_bytes().as_slice(), None, None, None),
            Self::Signer(SignerKey::Sk { point, application }) => {
                (point.as_bytes().as_slice(), Some(application.clone()), None, None)
            }
            Self::Passkey(passkey) => {
                let id = passkey.credential_id().to_vec().into();
                (passkey.key().bytes(), None, Some(passkey.key().algorithm().cose()), Some(id))
            }
        };
        Wire { kind: self.kind(), key: key.to_vec().into(), application, algorithm, passkey }.encode(e, c)
    }
}

impl<'b, C> Decode<'b, C> for Credential {
    fn decode(d: &mut minicbor::Decoder<'b>, c: &mut C) -> Result<Self, minicbor::decode::Error> {
        let wire = Wire::decode(d, c)?;
        let refused = |why: String| minicbor::decode::Error::message(format!("a {} credential: {why}", wire.kind));
        let point = || {
            let bytes = wire.key.as_slice().try_into().map_err(|_| refused("its key must be 32 bytes".into()))?;
            Ok(PublicKey::from_bytes(bytes))
        };
        match (wire.kind, wire.application, wire.algorithm, &wire.passkey) {
            (CredentialKind::Software, None, None, None) => Ok(Self::Signer(SignerKey::Ed25519(point()?))),
            (CredentialKind::SkSsh, Some(application), None, None) => {
                Ok(Self::Signer(SignerKey::Sk { point: point()?, application }))
            }
            (CredentialKind::Passkey, None, Some(algorithm), Some(id)) => {
                let algorithm = Algorithm::from_cose(algorithm.into());
                let key = algorithm.and_then(|algorithm| CoseKey::new(algorithm, wire.key.to_vec()));
                let passkey = key.and_then(|key| Passkey::new(id.to_vec(), key));
                passkey.map(Self::Passkey).map_err(|e| refused(e.to_string()))
            }
            _ => Err(refused("it has fields of another kind, or lacks its own".into())),
        }
    }
}
