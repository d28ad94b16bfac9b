//! What travels on a link: one byte that says which core it is for, then that core's bytes.

use cauldron_coordinator::lease::{LeaseAsk, LeaseGrant};
use cauldron_identity::authority::{EntryBody, Incarnate};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{Digest, Scope};
use minicbor::{Decode, Encode};

const SYNC: u8 = 0;
const LEASE_ASK: u8 = 1;
const LEASE_GRANT: u8 = 2;
const INCARNATE_ASK: u8 = 3;
const TIME_ASK: u8 = 4;
const TIME_TELL: u8 = 5;
const TERM: u8 = 6;
const BASE_ASK: u8 = 7;
const BASE_LIST: u8 = 8;
const BASE_PART: u8 = 9;
const PRESENCE: u8 = 10;

/// Asks a peer for the time.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TimeAsk {
    /// Fresh chance, so that an old answer does not count.
    #[n(0)]
    pub(crate) nonce: Digest,
}

/// What time it is for the peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TimeTell {
    /// The ask.
    #[n(0)]
    pub(crate) nonce: Digest,
    /// Milliseconds since the Unix epoch.
    #[n(1)]
    pub(crate) wall_ms: u64,
}

/// Asks for documents in one piece: which there are, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BaseAsk {
    /// Whose documents.
    #[n(0)]
    pub(crate) scope: Scope,
    /// Which; none asks for the list.
    #[n(1)]
    pub(crate) doc: Option<String>,
    /// From which byte on.
    #[n(2)]
    pub(crate) at: u32,
    /// Of which base, when a part of it is here.
    #[n(3)]
    pub(crate) of: Option<Digest>,
}

/// A document that can be had in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BaseOffer {
    /// Its name.
    #[n(0)]
    pub(crate) doc: String,
    /// Changes in it.
    #[n(1)]
    pub(crate) changes: u64,
}

/// Documents that can be had in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BaseList {
    /// Whose.
    #[n(0)]
    pub(crate) scope: Scope,
    /// Which.
    #[n(1)]
    pub(crate) docs: Vec<BaseOffer>,
}

/// A part of a document in one piece; `len` 0 when it cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct BasePart {
    /// Whose document.
    #[n(0)]
    pub(crate) scope: Scope,
    /// Which.
    #[n(1)]
    pub(crate) doc: String,
    /// Hash of the whole.
    #[n(2)]
    pub(crate) of: Digest,
    /// Length of the whole, bytes.
    #[n(3)]
    pub(crate) len: u32,
    /// Where this part begins.
    #[n(4)]
    pub(crate) at: u32,
    /// The part.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub(crate) bytes: Vec<u8>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// For the sync core.
    Sync(Vec<u8>),
    /// A node asks a coordinator for a lease.
    LeaseAsk(LeaseAsk),
    /// A coordinator grants one.
    LeaseGrant(LeaseGrant),
    /// A restored node asks the sequencer for a new incarnation.
    IncarnateAsk(Incarnate),
    /// A node whose clock nobody vouches for asks for the time.
    TimeAsk(TimeAsk),
    /// The answer.
    TimeTell(TimeTell),
    /// A term of the council: complete in itself, so it may come from anybody.
    Term(Box<EntryBody>),
    /// Documents in one piece: which, or a part of one.
    BaseAsk(BaseAsk),
    /// The answer to the first.
    BaseList(BaseList),
    /// The answer to the second.
    BasePart(BasePart),
    /// For the mesh core.
    Presence(Vec<u8>),
    /// Of a kind that a later version knows; ignored and counted.
    Unknown(u8),
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Sync(bytes) => (SYNC, bytes.clone()),
            Self::LeaseAsk(ask) => (LEASE_ASK, to_cbor(ask)),
            Self::LeaseGrant(grant) => (LEASE_GRANT, to_cbor(grant)),
            Self::IncarnateAsk(incarnate) => (INCARNATE_ASK, to_cbor(incarnate)),
            Self::TimeAsk(ask) => (TIME_ASK, to_cbor(ask)),
            Self::TimeTell(tell) => (TIME_TELL, to_cbor(tell)),
            Self::Term(body) => (TERM, to_cbor(body)),
            Self::BaseAsk(ask) => (BASE_ASK, to_cbor(ask)),
            Self::BaseList(list) => (BASE_LIST, to_cbor(list)),
            Self::BasePart(part) => (BASE_PART, to_cbor(part)),
            Self::Presence(bytes) => (PRESENCE, bytes.clone()),
            Self::Unknown(kind) => (*kind, vec![]),
        };
        let mut bytes = Vec::with_capacity(1 + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// Whether it is for the sync core.
    pub(crate) fn is_sync(bytes: &[u8]) -> bool {
        bytes.first() == Some(&SYNC)
    }

    /// Whether it is a term, which is taken before a peer is known.
    pub(crate) fn is_term(bytes: &[u8]) -> bool {
        bytes.first() == Some(&TERM)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (kind, payload) = bytes.split_first().ok_or(CodecError::Truncated(0))?;
        Ok(match *kind {
            SYNC => Self::Sync(payload.to_vec()),
            LEASE_ASK => Self::LeaseAsk(from_cbor(payload)?),
            LEASE_GRANT => Self::LeaseGrant(from_cbor(payload)?),
            INCARNATE_ASK => Self::IncarnateAsk(from_cbor(payload)?),
            TIME_ASK => Self::TimeAsk(from_cbor(payload)?),
            TIME_TELL => Self::TimeTell(from_cbor(payload)?),
            TERM => Self::Term(Box::new(from_cbor(payload)?)),
            BASE_ASK => Self::BaseAsk(from_cbor(payload)?),
            BASE_LIST => Self::BaseList(from_cbor(payload)?),
            BASE_PART => Self::BasePart(from_cbor(payload)?),
            PRESENCE => Self::Presence(payload.to_vec()),
            other => Self::Unknown(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_kept_apart_and_an_empty_frame_is_an_error() {
        assert_eq!(Frame::decode(&[200, 1, 2]), Ok(Frame::Unknown(200)));
        assert!(Frame::decode(&[]).is_err());
        assert!(Frame::decode(&[LEASE_ASK, 0xff]).is_err());
        assert_eq!(Frame::decode(&Frame::Sync(vec![7]).encode()), Ok(Frame::Sync(vec![7])));
    }
}
