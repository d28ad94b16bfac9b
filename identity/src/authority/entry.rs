//! What the authority chain is made of. Whose signatures each kind needs stands in [`super::table`].

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::amend::{Amend, Term};
use super::credential::Credential;
use super::powers::{Autonomy, Lift, Reassign};
use super::roots::Trust;
use crate::budget::Mint;
use crate::charter::{CHARTER_NAMESPACE, KeySignature, council_signers, founding_digest, founding_message};
use crate::codec::to_cbor;
use crate::fact::SealedFact;
use crate::ids::{AuthorId, Digest, FactId, MeshId};
use crate::isolation::{BreakGlass, IsolationGrant};
use crate::keys::{AuthorKey, PublicKey, Signature};
use crate::scope::Scope;
use crate::signer::SignerKey;
use crate::spiffe_id::SpiffeId;

/// Fact kind of an entry, in `mesh#authority`.
pub const KIND_ENTRY: &str = "authority.entry";
/// Fact kind of an acknowledgement of the authority head, in `mesh`.
pub const KIND_HELD: &str = "held";

/// Namespace of signatures of people over an entry.
pub const ENTRY_NAMESPACE: &str = "cauldron/authority-entry/v1";
const ENROL_DOMAIN: &str = "cauldron/enrol/v1";
const INCARNATE_DOMAIN: &str = "cauldron/incarnate/v1";

/// Body of an authority fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EntryBody {
    /// The entry before it, across authors; none for the first.
    #[n(0)]
    pub prev: Option<FactId>,
    /// Position in the authority chain, from 1.
    #[n(1)]
    pub index: u64,
    /// The encoded [`Entry`]: signatures cover these bytes, so that kinds a build does not know keep their meaning.
    #[n(2)]
    entry: ByteVec,
    /// Signatures of people over mesh, `prev` and `entry`; of an entry founded with the charter, the charter's.
    #[n(3)]
    pub signatures: Vec<KeySignature>,
    /// [`founding_entry`] of every entry that the council founded with the charter, this one at its place.
    #[n(4)]
    founding: Option<Vec<Digest>>,
}

/// The digest of an entry that is founded with the charter.
#[must_use]
pub fn founding_entry(entry: &Entry) -> Digest {
    founding_entry_bytes(&to_cbor(entry))
}

fn founding_entry_bytes(bytes: &[u8]) -> Digest {
    Digest::of("cauldron/founding-entry/v1", bytes)
}

impl EntryBody {
    /// Puts `entry` behind `prev`.
    #[must_use]
    pub fn new(prev: Option<FactId>, index: u64, entry: &Entry) -> Self {
        Self { prev, index, entry: ByteVec::from(to_cbor(entry)), signatures: Vec::new(), founding: None }
    }

    /// One of the `founding` entries, under the signatures of the charter they were founded with. A signature over the charter
    /// names them all, so that one ceremony founds a mesh: an entry's own signature would have to name the entry before it, with
    /// all *its* signatures.
    #[must_use]
    pub fn founded(
        prev: Option<FactId>,
        index: u64,
        entry: &Entry,
        founding: Vec<Digest>,
        signatures: Vec<KeySignature>,
    ) -> Self {
        Self { signatures, founding: Some(founding), ..Self::new(prev, index, entry) }
    }

    /// Whether it carries the signatures of the charter that it was founded with.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.founding.is_some()
    }

    /// The encoded entry.
    #[must_use]
    pub fn entry_bytes(&self) -> &[u8] {
        &self.entry
    }

    /// The entry, when this build knows its kind.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn entry(&self) -> Result<Entry, crate::codec::CodecError> {
        crate::codec::from_cbor(&self.entry)
    }

    /// What people sign for [`ENTRY_NAMESPACE`].
    #[must_use]
    pub fn message(&self, mesh: &MeshId) -> Vec<u8> {
        let mut message = mesh.as_bytes().to_vec();
        message.extend_from_slice(self.prev.as_ref().map_or(&[0u8; 32], FactId::as_bytes).as_slice());
        message.extend_from_slice(&self.entry);
        message
    }

    /// Adds the signature of a council member or policy author.
    pub fn sign(&mut self, mesh: &MeshId, key: &AuthorKey) {
        let signature = key.sign_ssh(ENTRY_NAMESPACE, &self.message(mesh));
        self.signatures.push(KeySignature { key: key.public().into(), signature });
    }

    /// How many distinct keys of `allowed` signed this entry at this place.
    #[must_use]
    pub fn signers(&self, mesh: &MeshId, allowed: &[SignerKey]) -> usize {
        let Some(founding) = &self.founding else {
            return council_signers(allowed, &self.signatures, ENTRY_NAMESPACE, &self.message(mesh));
        };
        let place = self.index.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        if place.and_then(|place| founding.get(place)) != Some(&founding_entry_bytes(&self.entry)) {
            return 0;
        }
        let message = founding_message(mesh, Some(&founding_digest(founding)));
        council_signers(allowed, &self.signatures, CHARTER_NAMESPACE, &message)
    }
}

/// What raises or shapes authority. Restrictions are not here: they need no order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Entry {
    /// Admits an author.
    #[n(0)]
    Enrol(#[n(0)] Enrol),
    /// Begins a new life of an author whose data directory was restored.
    #[n(1)]
    Incarnate(#[n(0)] Incarnate),
    /// Ends an author's right to write.
    #[n(2)]
    Cut(#[n(0)] Cut),
    /// Enrols or replaces a person with credentials.
    #[n(3)]
    Person(#[n(0)] Person),
    /// Takes a person's credentials away.
    #[n(4)]
    RevokePerson(#[n(0)] String),
    /// Makes a policy bundle the active one.
    #[n(5)]
    Activate(#[n(0)] Activate),
    /// Changes the charter.
    #[n(6)]
    Amend(#[n(0)] Box<Amend>),
    /// Names a new sequencer, or a new life of the present one.
    #[n(7)]
    Term(#[n(0)] Term),
    /// Brings rights of a budget into being, once for each window.
    #[n(8)]
    Mint(#[n(0)] Mint),
    /// Says what a site may do past its lease.
    #[n(9)]
    Isolation(#[n(0)] IsolationGrant),
    /// Gives a node sealed tokens that break the glass.
    #[n(10)]
    BreakGlass(#[n(0)] BreakGlass),
    /// Ends restrictions.
    #[n(11)]
    Lift(#[n(0)] Lift),
    /// Grants autonomy to an agent, or takes it back.
    #[n(12)]
    Autonomy(#[n(0)] Autonomy),
    /// Moves resources to another owner.
    #[n(13)]
    Reassign(#[n(0)] Box<Reassign>),
}

/// Admits an author key under a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrol {
    /// The author key.
    #[n(0)]
    pub author: PublicKey,
    /// The SPIFFE ID it acts as.
    #[n(1)]
    pub spiffe_id: String,
    /// The author's signature over mesh and SPIFFE ID: nobody enrols a key they do not hold.
    #[n(2)]
    pub proof: Signature,
}

impl Enrol {
    /// Signs for oneself.
    #[must_use]
    pub fn new(mesh: &MeshId, key: &AuthorKey, spiffe_id: &SpiffeId) -> Self {
        let proof = key.sign(ENROL_DOMAIN, &Self::message(mesh, &spiffe_id.to_string()));
        Self { author: key.public(), spiffe_id: spiffe_id.to_string(), proof }
    }

    /// Whether the author holds the key.
    #[must_use]
    pub fn proven(&self, mesh: &MeshId) -> bool {
        self.author.verify(ENROL_DOMAIN, &Self::message(mesh, &self.spiffe_id), &self.proof).is_ok()
    }

    fn message(mesh: &MeshId, spiffe_id: &str) -> Vec<u8> {
        [mesh.as_bytes().as_slice(), spiffe_id.as_bytes()].concat()
    }
}

/// The last fact of a chain that counts. Everything beyond stays as evidence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct ChainEnd {
    /// Which chain of the author.
    #[n(0)]
    pub scope: Scope,
    /// The last position that counts; 0 for none.
    #[n(1)]
    pub seq: u64,
    /// The fact at that position; none for 0.
    #[n(2)]
    pub id: Option<FactId>,
}

/// A new life after a restore, a fork or lost own facts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Incarnate {
    /// Who.
    #[n(0)]
    pub author: AuthorId,
    /// The new incarnation, one above the present.
    #[n(1)]
    pub incarnation: u32,
    /// Where each chain of the old incarnation ends; one not named ends at its start.
    #[n(2)]
    pub ends: Vec<ChainEnd>,
    /// The author's own signature.
    #[n(3)]
    pub proof: Signature,
}

impl Incarnate {
    /// Signs for oneself.
    #[must_use]
    pub fn new(mesh: &MeshId, key: &AuthorKey, incarnation: u32, ends: Vec<ChainEnd>) -> Self {
        let author = key.author_id();
        let proof = key.sign(INCARNATE_DOMAIN, &Self::message(mesh, &author, incarnation, &ends));
        Self { author, incarnation, ends, proof }
    }

    /// Whether the author itself signed.
    #[must_use]
    pub fn proven(&self, mesh: &MeshId, key: &PublicKey) -> bool {
        let message = Self::message(mesh, &self.author, self.incarnation, &self.ends);
        key.author_id() == self.author && key.verify(INCARNATE_DOMAIN, &message, &self.proof).is_ok()
    }

    fn message(mesh: &MeshId, author: &AuthorId, incarnation: u32, ends: &Vec<ChainEnd>) -> Vec<u8> {
        let mut message = mesh.as_bytes().to_vec();
        message.extend_from_slice(author.as_bytes());
        message.extend_from_slice(&incarnation.to_be_bytes());
        message.extend_from_slice(&to_cbor(ends));
        message
    }
}

/// Ends an author's right to write: for revocation, fork and loss of a scope alike. The lowest end wins.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cut {
    /// Who.
    #[n(0)]
    pub author: AuthorId,
    /// Which life.
    #[n(1)]
    pub incarnation: u32,
    /// Where each chain ends; one not named ends at its start.
    #[n(2)]
    pub ends: Vec<ChainEnd>,
    /// Two different facts of the author at one place of one chain; then no council signature is needed.
    #[n(3)]
    pub fork: Vec<SealedFact>,
}

/// A person: one vote, however many keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct Person {
    /// Their id in the charter's terms.
    #[n(0)]
    pub id: String,
    /// What people call them.
    #[n(1)]
    pub name: String,
    /// Approver groups they belong to.
    #[n(2)]
    pub groups: Vec<String>,
    /// Their keys.
    #[n(3)]
    pub credentials: Vec<Credential>,
}

/// Makes a policy bundle the active one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct Activate {
    /// The `policy.bundle` fact in `mesh`.
    #[n(0)]
    pub bundle: FactId,
    /// Digest of the bundle's bytes.
    #[n(1)]
    pub digest: Digest,
    /// The version it calls itself.
    #[n(2)]
    pub version: String,
}

/// Body of a `held` fact: this author holds the authority chain up to here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Held {
    /// The entry held last.
    #[n(0)]
    pub head: FactId,
    /// Its index.
    #[n(1)]
    pub index: u64,
    /// Suspensions of this realm that this author has come to enforce since it said so last.
    #[n(2)]
    #[cbor(default)]
    pub suspensions: Vec<FactId>,
    /// The roots that this author goes by now, where its identity comes from the mesh's own authority.
    #[n(3)]
    pub trust: Option<Trust>,
}
