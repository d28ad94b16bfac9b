//! Records that only this node keeps: join tokens, leases, notes of the shell. Never replicated.

use cauldron_crdt::doc::{DocKey, EpochId, record_name};
use cauldron_identity::authority::EntryBody;
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{AuthorId, Digest, FactId};
use minicbor::{Decode, Encode};

use crate::enrol::TokenId;
use crate::flow::Saved;
use crate::input::Record;

/// Prefix of every record of this module in the store.
pub const PREFIX: &[u8] = b"l/";

/// Prefix of the documents that were judged, by their digest. They are not read at a start.
pub const JUDGED: &[u8] = b"j/";

const TOKEN: &[u8] = b"l/token/";
const LEASE: &[u8] = b"l/lease";
const NOTE: &[u8] = b"l/note/";
const BEHIND: &[u8] = b"l/behind";
const BORN: &[u8] = b"l/born";
const TERM: &[u8] = b"l/term/";
const METER: &[u8] = b"l/meter/";
/// Prefix of the records of closed epochs of documents.
pub const EPOCH: &[u8] = b"l/epoch/";

/// A join token as its issuer remembers it. The secret itself is nowhere on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Token {
    /// SHA-256 of the secret.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) secret_hash: [u8; 32],
    /// Whom it admits.
    #[n(1)]
    pub(crate) spiffe_id: String,
    /// Until when, milliseconds since the Unix epoch.
    #[n(2)]
    pub(crate) expires_ms: u64,
    /// The author that redeemed it; the same may come again, nobody else.
    #[n(3)]
    pub(crate) redeemed_by: Option<AuthorId>,
}

/// One decoded local record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Local {
    Token(TokenId, Token),
    Lease(Vec<u8>),
    Note(String, Vec<u8>),
    /// This life was proven to lie behind its own past.
    Behind(u32),
    Born,
    Term(Box<EntryBody>),
    /// An epoch of a document that is closed.
    Epoch(Record),
    /// What is left of the budget of the link to a peer.
    Meter(AuthorId, Saved),
    /// Written by a later version; kept, not read.
    Unknown,
}

impl Local {
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, CodecError> {
        if let Some(id) = key.strip_prefix(TOKEN) {
            let id = <[u8; 16]>::try_from(id).map_err(|_| CodecError::Shape("a token id is 16 bytes".into()))?;
            return Ok(Self::Token(TokenId(id), from_cbor(value)?));
        }
        if let Some(name) = key.strip_prefix(NOTE) {
            return Ok(Self::Note(String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
        if key.starts_with(TERM) {
            return Ok(Self::Term(Box::new(from_cbor(value)?)));
        }
        if key.starts_with(EPOCH) {
            return Ok(Self::Epoch(Record { key: key.to_vec(), value: Some(value.to_vec()) }));
        }
        if let Some(author) = key.strip_prefix(METER) {
            let author = <[u8; 32]>::try_from(author);
            let author = author.map_err(|_| CodecError::Shape("an author id is 32 bytes".into()))?;
            return Ok(Self::Meter(AuthorId::from_bytes(author), from_cbor(value)?));
        }
        match key {
            LEASE => Ok(Self::Lease(value.to_vec())),
            BEHIND => Ok(Self::Behind(from_cbor(value)?)),
            BORN => Ok(Self::Born),
            _ => Ok(Self::Unknown),
        }
    }
}

pub(crate) fn token(id: TokenId, token: &Token) -> Record {
    Record { key: [TOKEN, &id.0].concat(), value: Some(to_cbor(token)) }
}

pub(crate) fn lease(bytes: Vec<u8>) -> Record {
    Record { key: LEASE.to_vec(), value: Some(bytes) }
}

/// Where the document with this digest is kept.
#[must_use]
pub fn judged_key(digest: &Digest) -> Vec<u8> {
    [JUDGED, digest.as_bytes()].concat()
}

/// A document that was judged, in canonical JSON.
pub(crate) fn judged(digest: &Digest, document: Vec<u8>) -> Record {
    Record { key: judged_key(digest), value: Some(document) }
}

/// Where a note of the shell is kept, e.g. how far a log was read.
#[must_use]
pub fn note_key(name: &str) -> Vec<u8> {
    [NOTE, name.as_bytes()].concat()
}

pub(crate) fn note(name: &str, value: Vec<u8>) -> Record {
    Record { key: note_key(name), value: Some(value) }
}

/// This life was proven to lie behind its own past: only the next one may write.
pub(crate) fn behind(incarnation: u32) -> Record {
    Record { key: BEHIND.to_vec(), value: Some(to_cbor(&incarnation)) }
}

/// A term of the council, under its id.
pub(crate) fn term(id: &FactId, body: &EntryBody) -> Record {
    Record { key: [TERM, id.as_bytes()].concat(), value: Some(to_cbor(body)) }
}

/// What is left of the budget of the link to a peer.
pub(crate) fn meter(peer: &AuthorId, saved: &Saved) -> Record {
    Record { key: [METER, peer.as_bytes().as_slice()].concat(), value: Some(to_cbor(saved)) }
}

/// A term that is kept no more.
pub(crate) fn no_term(id: &FactId) -> Record {
    Record { key: [TERM, id.as_bytes()].concat(), value: None }
}

/// An epoch of a document that is closed, under its name.
pub(crate) fn epoch(key: &DocKey, epoch: &EpochId, record: Vec<u8>) -> Record {
    Record { key: [EPOCH, &record_name(key, epoch)].concat(), value: Some(record) }
}

/// An epoch that is open again.
pub(crate) fn no_epoch(key: &DocKey, epoch: &EpochId) -> Record {
    Record { key: [EPOCH, &record_name(key, epoch)].concat(), value: None }
}

/// This store has been used by a running node: from now on its heads may lie behind what peers hold.
pub(crate) fn born() -> Record {
    Record { key: BORN.to_vec(), value: Some(vec![]) }
}
