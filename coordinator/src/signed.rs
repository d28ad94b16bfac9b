//! Statements of people: bytes, and the signature of a credential over exactly these bytes.
//!
//! Who carries a statement does not matter. Whoever reads it checks that the person was enrolled with that credential at the head
//! the statement names, and is now.

use std::marker::PhantomData;
use std::sync::OnceLock;

use cauldron_identity::authority::{Authority, Credential, Person};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::passkey::{Assertion, Attested};
use cauldron_identity::{AuthorKey, Digest, FactId, MeshId, SshSignature};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// Something that a person says.
pub trait Statement: Encode<()> + for<'b> Decode<'b, ()> {
    /// Namespace of the signature: a statement of one kind is never one of another.
    const DOMAIN: &'static str;
    /// The mesh it is said in.
    fn mesh(&self) -> MeshId;
    /// Who says it.
    fn person(&self) -> &str;
    /// With which credential.
    fn credential(&self) -> Digest;
    /// The authority chain as the person's node held it.
    fn authority_head(&self) -> Option<FactId>;
}

/// The statement of a body with the fields `mesh`, `person`, `credential` and `authority_head`.
macro_rules! statement {
    ($name:ident, $domain:literal) => {
        impl $crate::signed::Statement for $name {
            const DOMAIN: &'static str = $domain;

            fn mesh(&self) -> cauldron_identity::MeshId {
                self.mesh
            }

            fn person(&self) -> &str {
                &self.person
            }

            fn credential(&self) -> cauldron_identity::Digest {
                self.credential
            }

            fn authority_head(&self) -> Option<cauldron_identity::FactId> {
                self.authority_head
            }
        }
    };
}
pub(crate) use statement;

/// A statement as signed.
#[derive(Encode, Decode)]
#[cbor(map)]
pub struct Signed<T> {
    #[n(0)]
    statement: ByteVec,
    #[n(1)]
    signature: ByteVec,
    /// What the signature came to, looked at once: the statement names its credential by hash.
    #[cbor(skip)]
    looked: OnceLock<Signature>,
    #[cbor(skip)]
    of: PhantomData<T>,
}

/// What a signature came to.
#[derive(Debug, Clone)]
enum Signature {
    Bad,
    Good,
    /// A passkey's, which must be of a page of this mesh besides.
    Passkey(Attested),
}

/// Why a statement does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum SignedError {
    /// The statement cannot be read.
    #[error("the statement cannot be read")]
    Encoding(#[from] CodecError),
    /// Another mesh's.
    #[error("it was signed in another mesh")]
    Mesh,
    /// It names an authority entry that is not here yet: it may count later.
    #[error("it names an authority entry that has not arrived here")]
    HeadUnknown,
    /// No such person, or not with this credential, then or now.
    #[error("{0:?} is not enrolled with this credential")]
    Person(String),
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

impl<T: Statement> Signed<T> {
    /// Signs with a key at hand.
    #[must_use]
    pub fn sign(statement: &T, key: &AuthorKey) -> Self {
        let statement = to_cbor(statement);
        let signature = key.sign_ssh(T::DOMAIN, &statement);
        Self::new(statement, signature.to_bytes())
    }

    /// Hash of the statement: its identity.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(T::DOMAIN, &self.statement)
    }

    /// The statement, unjudged.
    ///
    /// # Errors
    /// [`SignedError::Encoding`].
    pub fn statement(&self) -> Result<T, SignedError> {
        Ok(from_cbor(&self.statement)?)
    }

    /// Checks that the person it names said it, and may still speak.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify(&self, authority: &Authority) -> Result<(T, Person), SignedError> {
        let (statement, _) = self.verify_then(authority)?;
        let unknown = || SignedError::Person(statement.person().to_owned());
        let now = authority.person(statement.person()).ok_or_else(unknown)?;
        if now.credentials.iter().any(|c| c.id() == statement.credential()) {
            let now = now.clone();
            Ok((statement, now))
        } else {
            Err(unknown())
        }
    }

    /// Checks that the person it names said it and might then, whatever became of them.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify_then(&self, authority: &Authority) -> Result<(T, Person), SignedError> {
        let statement = self.statement()?;
        if statement.mesh() != authority.mesh() {
            return Err(SignedError::Mesh);
        }
        let index = match statement.authority_head() {
            Some(head) => authority.index_of(&head).ok_or(SignedError::HeadUnknown)?,
            None => 0,
        };
        let then = authority.person_at(statement.person(), index).cloned();
        let then = then.ok_or_else(|| SignedError::Person(statement.person().to_owned()))?;
        let Some(credential) = then.credentials.iter().find(|c| c.id() == statement.credential()) else {
            return Err(SignedError::Person(statement.person().to_owned()));
        };
        if self.is_signed(credential, authority) { Ok((statement, then)) } else { Err(SignedError::Signature) }
    }
}

impl<T: Statement> Signed<T> {
    fn is_signed(&self, credential: &Credential, authority: &Authority) -> bool {
        match self.looked.get_or_init(|| self.look(credential)) {
            Signature::Bad => false,
            Signature::Good => true,
            Signature::Passkey(attested) => {
                authority.charters_ever().any(|c| attested.is_for(&c.relying_party()).is_ok())
            }
        }
    }

    fn look(&self, credential: &Credential) -> Signature {
        match credential {
            Credential::Signer(key) => {
                let signature = SshSignature::from_bytes(&self.signature);
                match signature.is_some_and(|s| key.verify(T::DOMAIN, &self.statement, &s).is_ok()) {
                    true => Signature::Good,
                    false => Signature::Bad,
                }
            }
            Credential::Passkey(passkey) => Assertion::from_bytes(&self.signature)
                .and_then(|answer| answer.attest(passkey, &self.id()))
                .map_or(Signature::Bad, Signature::Passkey),
        }
    }
}

impl<T> Signed<T> {
    /// Puts a statement and a signature made elsewhere together.
    #[must_use]
    pub fn new(statement: Vec<u8>, signature: Vec<u8>) -> Self {
        Self { statement: statement.into(), signature: signature.into(), looked: OnceLock::new(), of: PhantomData }
    }
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self {
            statement: self.statement.clone(),
            signature: self.signature.clone(),
            looked: self.looked.clone(),
            of: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").field("statement", &self.statement).finish_non_exhaustive()
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        (&self.statement, &self.signature) == (&other.statement, &other.signature)
    }
}

impl<T> Eq for Signed<T> {}

impl<T> PartialOrd for Signed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Signed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.statement, &self.signature).cmp(&(&other.statement, &other.signature))
    }
}

impl<T: Statement + Serialize> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.statement() {
            Ok(statement) => statement.serialize(s),
            Err(e) => s.serialize_str(&e.to_string()),
        }
    }
}

/// What somebody did, and why, where they said so: a reason may be empty.
#[must_use]
pub fn with_reason(what: impl Into<String>, reason: &str) -> String {
    let what = what.into();
    if reason.trim().is_empty() { what } else { format!("{what}: {reason}") }
}
