//! What travels on a link: one byte that says which core it is for, then that core's bytes.

use cauldron_coordinator::lease::{LeaseAsk, LeaseGrant};
use cauldron_identity::Digest;
use cauldron_identity::authority::{EntryBody, Incarnate};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use minicbor::{Decode, Encode};

const SYNC: u8 = 0;
const LEASE_ASK: u8 = 1;
const LEASE_GRANT: u8 = 2;
const INCARNATE_ASK: u8 = 3;
const TIME_ASK: u8 = 4;
const TIME_TELL: u8 = 5;
const TERM: u8 = 6;

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
            Self::Unknown(kind) => (*kind, vec![]),
        };
        let mut bytes = Vec::with_capacity(1 + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&payload);
        bytes
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
