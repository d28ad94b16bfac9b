//! Facts: immutable, signed, hash-linked. What a node asserts for others to keep.
//!
//! A fact is a header and a body. The id is the SHA-256 of the header bytes *as received*; the signature covers the id;
//! the header carries hash and length of the body. So a body can be withheld or shredded without breaking the chain, two
//! headers are enough as evidence of a fork, and fields that this version does not know survive relaying.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::codec::{CodecError, from_cbor, to_cbor};
use crate::ids::{AuthorId, BodyHash, FactId, MeshId, sha256};
use crate::keys::{AuthorKey, PublicKey, Signature};
use crate::scope::Scope;

/// The version of the wire (docs/wire.md). What it means does not change any more: another meaning has another version.
pub const VERSION: u8 = 1;
/// Encoded headers are a few hundred bytes; the rest is room for unknown fields and many `deps`.
pub const HEADER_LEN_MAX: usize = 4 * 1024;
/// Guarantees §4: the largest document change, and so the largest body.
pub const BODY_LEN_MAX: usize = 256 * 1024;
/// Causes that one fact may name.
pub const DEPS_MAX: usize = 32;
/// Length of a fact kind, in bytes.
pub const KIND_LEN_MAX: usize = 48;

const SIGN_DOMAIN: &str = "cauldron/fact/v1";

/// What a fact says about itself; integer keys, ascending, so that one header has one encoding.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header {
    /// Format version, [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// The mesh it belongs to.
    #[n(1)]
    pub mesh: MeshId,
    /// Its replication group.
    #[n(2)]
    pub scope: Scope,
    /// Hash of the author's key.
    #[n(3)]
    pub author: AuthorId,
    /// The author's life: a restore from backup starts a new one.
    #[n(4)]
    pub incarnation: u32,
    /// Position in the chain (author, incarnation, scope), from 1, without gaps.
    #[n(5)]
    pub seq: u64,
    /// The fact before it in the chain; none for seq 1.
    #[n(6)]
    pub prev: Option<FactId>,
    /// Hybrid logical clock, `milliseconds << 16 | counter`: for display and tie-breaks only.
    #[n(7)]
    pub hlc: u64,
    /// What the body is.
    #[n(8)]
    pub kind: String,
    /// Facts of the same realm or of `mesh` that this one rests on.
    #[n(9)]
    pub deps: Vec<FactId>,
    /// W3C Trace Context `traceparent` of the work that caused it.
    #[n(10)]
    pub traceparent: Option<String>,
    /// SHA-256 of the body.
    #[n(11)]
    pub body_hash: BodyHash,
    /// Length of the body, bytes.
    #[n(12)]
    pub body_len: u32,
}

impl Header {
    /// The wall time in the hybrid clock, milliseconds since the Unix epoch, as its author saw it.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.hlc >> 16
    }
}

/// Whose a fact is and where it stands in their life: what [`Authority::standing`](crate::Authority::standing) looks at.
pub trait Placed {
    /// Hash of the author's key.
    fn author(&self) -> &AuthorId;
    /// The author's life.
    fn incarnation(&self) -> u32;
    /// The replication group.
    fn scope(&self) -> &Scope;
    /// Position in the chain, from 1.
    fn seq(&self) -> u64;
}

impl Placed for Header {
    fn author(&self) -> &AuthorId {
        &self.author
    }

    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn seq(&self) -> u64 {
        self.seq
    }
}

/// Where in its author's life a new fact stands; what [`Fact::seal`] needs beside key and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderDraft {
    /// The mesh.
    pub mesh: MeshId,
    /// The scope.
    pub scope: Scope,
    /// The author's incarnation.
    pub incarnation: u32,
    /// Position in the chain, from 1.
    pub seq: u64,
    /// The fact before it.
    pub prev: Option<FactId>,
    /// Hybrid logical clock.
    pub hlc: u64,
    /// What the body is.
    pub kind: String,
    /// Causes.
    pub deps: Vec<FactId>,
    /// W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// A fact as it travels and is stored: bytes, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedFact {
    /// The header's bytes; their hash is the id.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub header: Vec<u8>,
    /// Signature by the author key over the id.
    #[n(1)]
    pub signature: Signature,
    /// The body, where it was not withheld.
    #[n(2)]
    body: Option<ByteVec>,
}

/// A fact whose id and body were checked. [`SealedFact::open`] and [`Fact::seal`] make one whose signature is good;
/// [`SealedFact::reopen`] leaves that to whoever knows what vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    id: FactId,
    header: Header,
    sealed: SealedFact,
}

/// Why bytes are not a fact.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum FactError {
    /// The header is not strictly encoded, or not of this shape.
    #[error("the header cannot be read")]
    Header(#[source] CodecError),
    /// A version this build does not know.
    #[error("fact version {0}; this build reads version {VERSION}")]
    Version(u8),
    /// A field is outside its bounds.
    #[error("{field} is outside its bounds")]
    Bounds {
        /// Which one.
        field: &'static str,
    },
    /// The author named is not the key's.
    #[error("the header names another author than the key")]
    Author,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
    /// The body does not match hash or length in the header.
    #[error("the body does not match the header")]
    Body,
}

impl SealedFact {
    /// Puts the parts together.
    #[must_use]
    pub fn new(header: Vec<u8>, signature: Signature, body: Option<Vec<u8>>) -> Self {
        Self { header, signature, body: body.map(ByteVec::from) }
    }

    /// SHA-256 of the header bytes.
    #[must_use]
    pub fn id(&self) -> FactId {
        FactId::from_bytes(sha256(&self.header))
    }

    /// The body, where it is present.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_ref().map(|b| b.as_slice())
    }

    /// The same fact with its body left out.
    #[must_use]
    pub fn without_body(&self) -> Self {
        Self { header: self.header.clone(), signature: self.signature, body: None }
    }

    /// Bytes on the wire, roughly: what counts against a chunk's bound.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.header.len() + 64 + self.body().map_or(0, <[u8]>::len) + 16
    }

    /// Parses the header and checks its bounds, **without** judging the signature: enough to know whom to ask for a key.
    ///
    /// # Errors
    /// [`FactError::Header`], [`FactError::Version`] or [`FactError::Bounds`].
    pub fn peek(&self) -> Result<Header, FactError> {
        let bounds = |ok: bool, field| if ok { Ok(()) } else { Err(FactError::Bounds { field }) };
        bounds(self.header.len() <= HEADER_LEN_MAX, "header length")?;
        let header: Header = from_cbor(&self.header).map_err(FactError::Header)?;
        if header.v != VERSION {
            return Err(FactError::Version(header.v));
        }
        bounds(header.seq >= 1 && (header.seq == 1) == header.prev.is_none(), "seq and prev")?;
        bounds(header.body_len as usize <= BODY_LEN_MAX, "body length")?;
        bounds(header.deps.len() <= DEPS_MAX, "deps")?;
        bounds(!header.kind.is_empty() && header.kind.len() <= KIND_LEN_MAX, "kind")?;
        bounds(header.traceparent.as_ref().is_none_or(|t| t.len() <= 64), "traceparent")?;
        Ok(header)
    }

    /// Checks whether the body, where present, is the one the header promises.
    ///
    /// # Errors
    /// [`FactError::Body`].
    pub fn check_body(&self, header: &Header) -> Result<(), FactError> {
        match self.body() {
            Some(body) if body.len() != header.body_len as usize || BodyHash::of_body(body) != header.body_hash => {
                Err(FactError::Body)
            }
            _ => Ok(()),
        }
    }

    /// Checks everything that can be checked about one fact alone: encoding, bounds, author, signature, body.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn open(self, key: &PublicKey) -> Result<Fact, FactError> {
        let fact = Fact { header: self.peek()?, id: self.id(), sealed: self };
        fact.check_signature(key)?;
        fact.sealed.check_body(&fact.header)?;
        Ok(fact)
    }

    /// Opens a fact of which something else proves the authorship: that it lies in this node's own store, or that a
    /// later fact of its chain is signed. Everything [`SealedFact::open`] checks but author and signature.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn reopen(self) -> Result<Fact, FactError> {
        let header = self.peek()?;
        self.check_body(&header)?;
        Ok(Fact { id: self.id(), header, sealed: self })
    }
}

impl Fact {
    /// Makes and signs a fact.
    ///
    /// # Panics
    /// When the caller breaks a bound of this module: a bug of ours, never of a peer.
    #[must_use]
    pub fn seal(key: &AuthorKey, draft: HeaderDraft, body: Vec<u8>) -> Self {
        assert!(body.len() <= BODY_LEN_MAX, "a body of {} bytes was to be sealed", body.len());
        let header = Header {
            v: VERSION,
            mesh: draft.mesh,
            scope: draft.scope,
            author: key.author_id(),
            incarnation: draft.incarnation,
            seq: draft.seq,
            prev: draft.prev,
            hlc: draft.hlc,
            kind: draft.kind,
            deps: draft.deps,
            traceparent: draft.traceparent,
            body_hash: BodyHash::of_body(&body),
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
        };
        let bytes = to_cbor(&header);
        let id = FactId::from_bytes(sha256(&bytes));
        let signature = key.sign(SIGN_DOMAIN, id.as_bytes());
        let sealed = SealedFact::new(bytes, signature, Some(body));
        assert!(sealed.peek().is_ok(), "a header outside the bounds was to be sealed");
        Self { id, header, sealed }
    }

    /// Checks that the author named is the key's, and the signature too.
    ///
    /// # Errors
    /// [`FactError::Author`] or [`FactError::Signature`].
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), FactError> {
        if self.header.author != key.author_id() {
            return Err(FactError::Author);
        }
        key.verify(SIGN_DOMAIN, self.id.as_bytes(), &self.sealed.signature).map_err(|_| FactError::Signature)
    }

    /// Its name everywhere.
    #[must_use]
    pub fn id(&self) -> FactId {
        self.id
    }

    /// What it says about itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The body, unless it was withheld or shredded.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.sealed.body()
    }

    /// The bytes that travel and are stored.
    #[must_use]
    pub fn sealed(&self) -> &SealedFact {
        &self.sealed
    }

    /// Decodes the body strictly.
    ///
    /// # Errors
    /// [`CodecError`]; an absent body is [`CodecError::Truncated`] at 0.
    pub fn decode_body<'b, T: Decode<'b, ()>>(&'b self) -> Result<T, CodecError> {
        from_cbor(self.body().ok_or(CodecError::Truncated(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> HeaderDraft {
        HeaderDraft {
            mesh: MeshId::from_bytes([1; 32]),
            scope: Scope::mesh(),
            incarnation: 0,
            seq: 1,
            prev: None,
            hlc: 5 << 16,
            kind: "note".into(),
            deps: vec![],
            traceparent: None,
        }
    }

    #[test]
    fn golden_bytes_of_wire_v1() {
        let fact = Fact::seal(&AuthorKey::from_seed(&[1; 32]), draft(), b"hi".to_vec());
        expect_test::expect!["a3005886ab0001015820010101010101010101010101010101010101010101010101010101010101010102646d657368035820aada9eb30ce5e2452c3b01a7cc310f255fb83b3485c9a384aaec44135acb35e704000501071a0005000008646e6f746509800b58208f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa40c02015840d69637ecdca9363ec9c588e7e986765202b5097343219edbaf6a9487fd1340cffccd4cc54684633e5c184405cab481c647f6d7842f64defba6a9fd491417660702426869"].assert_eq(&hex::encode(to_cbor(fact.sealed())));
    }

    #[test]
    fn every_bit_flip_is_refused() {
        let key = AuthorKey::from_seed(&[1; 32]);
        let fact = Fact::seal(&key, draft(), b"hi".to_vec());
        let bytes = to_cbor(fact.sealed());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = from_cbor::<SealedFact>(&flipped).ok().and_then(|s| s.open(&key.public()).ok());
            // A flip in the key of the envelope's body field withholds the body, as any relay may; nothing else opens.
            assert!(opened.is_none_or(|f| f.id() == fact.id() && f.body().is_none()), "bit {bit}");
        }
    }

    #[test]
    fn a_withheld_body_keeps_id_and_signature() {
        let key = AuthorKey::from_seed(&[1; 32]);
        let fact = Fact::seal(&key, draft(), b"hi".to_vec());
        let bare = fact.sealed().without_body().open(&key.public()).expect("opens");
        assert_eq!((bare.id(), bare.body()), (fact.id(), None));
    }

    #[test]
    fn unknown_header_fields_survive_relaying() {
        let key = AuthorKey::from_seed(&[1; 32]);
        let fact = Fact::seal(&key, draft(), b"hi".to_vec());
        let mut header = fact.sealed().header.clone();
        header[0] += 1; // one more map entry
        header.extend_from_slice(&[0x18, 0x63, 0x01]); // 99: 1
        let id = FactId::from_bytes(sha256(&header));
        let sealed = SealedFact::new(header, key.sign(SIGN_DOMAIN, id.as_bytes()), Some(b"hi".to_vec()));
        let opened = from_cbor::<SealedFact>(&to_cbor(&sealed)).expect("decodes").open(&key.public()).expect("opens");
        assert_eq!(opened.id(), id);
        assert_eq!(opened.sealed().header, sealed.header);
    }

    #[test]
    fn a_foreign_key_and_a_broken_link_are_refused() {
        let (a, b) = (AuthorKey::from_seed(&[1; 32]), AuthorKey::from_seed(&[2; 32]));
        let fact = Fact::seal(&a, draft(), b"hi".to_vec());
        assert_eq!(fact.sealed().clone().open(&b.public()), Err(FactError::Author));
        let mut header = fact.header().clone();
        header.seq = 2;
        let sealed = SealedFact::new(to_cbor(&header), fact.sealed().signature, None);
        assert_eq!(sealed.peek(), Err(FactError::Bounds { field: "seq and prev" }));
    }
}
