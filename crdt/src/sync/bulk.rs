//! Ranges of small facts, packed: LZ4 blocks (the format's `doc/lz4_Block_format.md`) of envelopes.
//!
//! The length is announced and bounded before anything is allocated; the block is then unpacked into exactly that much.

use std::sync::Arc;

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Fact, Lane, SealedFact, planted};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::wire::{Facts, Frame, Range};
use crate::limits::{BULK_FACTS_MIN, BULK_GROWTH_MAX, BULK_RAW_LEN_MAX, BULK_TRY_LEN, FACTS_LEN_MAX};
use crate::log::FactLog;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Packing {
    /// As it is: packing would not make it smaller.
    #[n(0)]
    Plain,
    /// One LZ4 block.
    #[n(1)]
    Lz4,
}

/// An answer to a request for data, to be taken as one range.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Bulk {
    /// The request this answers.
    #[n(0)]
    pub request: u32,
    #[n(1)]
    pub packing: Packing,
    /// Length of the content, unpacked.
    #[n(2)]
    pub len: u32,
    /// An array of envelopes, packed.
    #[n(3)]
    pub content: ByteVec,
}

/// Why a bulk frame cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpackable {
    /// It announces more than it may grow to.
    Bomb,
    /// It is not as long as it announces.
    Length,
    /// What it holds is no array of envelopes.
    Content,
}

impl Unpackable {
    pub fn code(self) -> &'static str {
        match self {
            Self::Bomb => "bomb",
            Self::Length => "wrong-length",
            Self::Content => "malformed",
        }
    }
}

impl Bulk {
    /// Packs `facts`, unless they are too much for one frame.
    pub fn pack(request: u32, facts: &[Arc<Fact>]) -> Option<Self> {
        let envelopes: Vec<&SealedFact> = facts.iter().map(|fact| fact.sealed()).collect();
        let raw = to_cbor(&envelopes);
        let len = u32::try_from(raw.len()).ok()?;
        let packed = lz4_flex::block::compress(&raw);
        let fits = packed.len() < raw.len() && raw.len() <= grown_max(packed.len());
        let (packing, content) = if fits { (Packing::Lz4, packed) } else { (Packing::Plain, raw) };
        (content.len() <= FACTS_LEN_MAX).then(|| Self { request, packing, len, content: content.into() })
    }

    pub fn unpack(&self) -> Result<Vec<SealedFact>, Unpackable> {
        let len = self.len as usize;
        if len > grown_max(self.content.len()) && !planted::active("bomb-unbounded") {
            return Err(Unpackable::Bomb);
        }
        match self.packing {
            Packing::Plain if self.content.len() == len => from_cbor(&self.content),
            Packing::Plain => return Err(Unpackable::Length),
            Packing::Lz4 => {
                let mut raw = vec![0; len];
                match lz4_flex::block::decompress_into(&self.content, &mut raw) {
                    Ok(filled) if filled == len => from_cbor(&raw),
                    _ => return Err(Unpackable::Length),
                }
            }
        }
        .map_err(|_| Unpackable::Content)
    }
}

/// A `Bulk` frame of these facts, as long as it fits: for benchmarks and fuzzing.
#[must_use]
pub fn packed(facts: &[SealedFact]) -> Option<Vec<u8>> {
    let facts: Option<Vec<Arc<Fact>>> = facts.iter().map(|fact| fact.clone().reopen().ok().map(Arc::new)).collect();
    let facts = facts?;
    Bulk::pack(0, &facts).map(|bulk| Frame::Bulk(bulk).encode())
}

/// The facts of a `Bulk` frame, ready for [`FactLog::insert_range`]: for benchmarks, and for whoever looks into frames.
#[must_use]
pub fn unpacked(frame: &[u8]) -> Option<Vec<SealedFact>> {
    match Frame::decode(frame) {
        Ok(Frame::Bulk(bulk)) => bulk.unpack().ok(),
        _ => None,
    }
}

/// How long the content of a frame may be that carries `packed` bytes.
fn grown_max(packed: usize) -> usize {
    packed.saturating_mul(BULK_GROWTH_MAX).min(BULK_RAW_LEN_MAX)
}

/// The answer to a request, and the position that it goes to. Restrictions and authority always travel as single facts, each of which is verified; so does
/// a short range, unless a fact in it may not leave alone.
///
/// It holds about `len_max` bytes, up to a full frame.
pub(super) fn answer(log: &FactLog, range: &Range, len_max: usize) -> (Frame, u64) {
    let len_max = len_max.min(FACTS_LEN_MAX);
    let chain = range.chain();
    let last = |facts: &[Arc<Fact>]| facts.last().map_or(0, |fact| fact.header().seq);
    if chain.scope.lane() == Lane::Data {
        for len in [len_max * (BULK_TRY_LEN / FACTS_LEN_MAX), len_max] {
            let facts = log.range(&chain, range.from, range.to, len);
            if facts.len() < BULK_FACTS_MIN && alone(log, range, &facts) {
                break;
            }
            if let Some(bulk) = Bulk::pack(range.request, &facts) {
                return (Frame::Bulk(bulk), last(&facts));
            }
        }
    }
    let facts = log.range(&chain, range.from, range.to, len_max);
    let last = last(&facts);
    let facts = facts.into_iter().map(|fact| fact.sealed().clone()).collect();
    (Frame::Facts(Facts { request: Some(range.request), facts }), last)
}

fn alone(log: &FactLog, range: &Range, facts: &[Arc<Fact>]) -> bool {
    log.all_seen(&range.chain(), facts) || planted::active("vouched-told-alone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MESH, draft, key};
    use cauldron_identity::Scope;

    #[test]
    fn golden_bytes_of_wire_v1() {
        let content = vec![0x80];
        let bulk = Bulk { request: 7, packing: Packing::Plain, len: 1, content: content.into() };
        let bytes = Frame::Bulk(bulk).encode();
        assert_eq!(bytes, [1, 7, 0xa4, 0x00, 0x07, 0x01, 0x00, 0x02, 0x01, 0x03, 0x41, 0x80]);
        let Ok(Frame::Bulk(bulk)) = Frame::decode(&bytes) else { panic!("a bulk frame") };
        assert_eq!(bulk.unpack(), Ok(vec![]));

        // An LZ4 block by hand: one literal, copied from one byte back 15 times, then five literals, as every block ends.
        let block = [0x1b, 0x80, 0x01, 0x00, 0x50, 1, 2, 3, 4, 5];
        let bulk = Bulk { request: 7, packing: Packing::Lz4, len: 21, content: block.to_vec().into() };
        assert_eq!(bulk.unpack(), Err(Unpackable::Content), "unpacked, and then no array of envelopes");
        let mut raw = [0; 21];
        assert_eq!(lz4_flex::block::decompress_into(&block, &mut raw).ok(), Some(21));
        assert_eq!(raw, *[&[0x80; 16][..], &[1, 2, 3, 4, 5]].concat());
    }

    #[test]
    fn a_long_chain_of_small_facts_shrinks() {
        let mut log = FactLog::new(MESH);
        let facts: Vec<Arc<Fact>> = (0..300)
            .map(|n: u32| log.append(&key(1), draft(&Scope::mesh(), format!("line {n}").as_bytes())).expect("appends"))
            .collect();
        let bulk = Bulk::pack(1, &facts).expect("fits");
        assert!(
            bulk.packing == Packing::Lz4 && bulk.content.len() * 10 < bulk.len as usize * 8,
            "{}",
            bulk.content.len()
        );
        let back = bulk.unpack().expect("ours");
        assert!(back.iter().eq(facts.iter().map(|fact| fact.sealed())));
    }
}
