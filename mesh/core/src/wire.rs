//! The one frame of this core, and its parts.

use cauldron_identity::AuthorId;
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use minicbor::{Decode, Encode};

use crate::statement::Sealed;

/// What travels between two of these cores; each part may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Frame {
    /// Of each part of what both ends may read, 8 bytes: the sum over what is known, so that equal sets have equal digests.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) digest: Option<Vec<u8>>,
    /// Parts that differ, and what is known in them.
    #[n(1)]
    pub(crate) have: Option<Have>,
    /// News, or what the peer lacked.
    #[n(2)]
    pub(crate) statements: Option<Vec<Sealed>>,
    /// The sender ends this link in a moment, because nobody needs it.
    #[n(3)]
    pub(crate) parting: Option<bool>,
}

/// What the sender knows in some parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Have {
    /// Which parts, one bit each.
    #[n(0)]
    pub(crate) buckets: u32,
    /// Marks of the statements in them.
    #[n(1)]
    pub(crate) marks: Vec<u64>,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        from_cbor(bytes)
    }
}

/// In which part of a digest statements about `subject` are.
pub(crate) fn bucket(subject: &AuthorId) -> usize {
    usize::from(subject.as_bytes()[31]) % crate::limits::BUCKETS
}
