//! From records of facts to packs of them.

use std::collections::VecDeque;

use cauldron_identity::SealedFact;
use cauldron_identity::codec::to_cbor;

use super::cold::proven;
use super::pack::{Pack, Packed, stubbed};
use super::record::{fact_key, place};
use super::{ChainId, FactLog};
use crate::limits::{PACK_FACTS_MAX, PACK_LEN_AIM, PACK_RAW_LEN_MAX};

/// One pack and what stands under the keys of its facts from then on: keys and values, the pack first. To be made durable in this
/// order, or together.
pub type PackBatch = Vec<(Vec<u8>, Vec<u8>)>;

/// Packs facts of one chain as it is asked: see [`FactLog::pack`].
#[derive(Debug)]
pub struct Packing<'l> {
    log: &'l FactLog,
    chain: &'l ChainId,
    /// Not read yet.
    left: &'l [u64],
    last: u64,
    /// Read, and not in a pack yet.
    ready: VecDeque<(u64, SealedFact)>,
}

impl FactLog {
    /// Puts the facts of `chain` at these positions, which ascend, into packs: for each the records that take the place of
    /// those before. Nothing is lost: each fact is read as before, to the byte, and was compared with what the pack gives
    /// back.
    ///
    /// Left as they are: facts that are not durable yet in their latest form, those that are in a pack already, and those
    /// that a pack would not make smaller. What `seqs` names twice or out of order is passed over.
    ///
    /// Of each batch the pack must be durable with the first of the others or before, and all of it behind every
    /// [`Record`](super::Record) that was kept before. What of it a crash takes away leaves whole records.
    #[must_use]
    pub fn pack<'l>(&'l self, chain: &'l ChainId, seqs: &'l [u64]) -> Packing<'l> {
        Packing { log: self, chain, left: seqs, last: 0, ready: VecDeque::new() }
    }

    /// Those of these facts whose records are durable, whole, and what the log holds.
    fn packable(&self, chain: &ChainId, seqs: &[u64]) -> Vec<(u64, SealedFact)> {
        let Some((archive, held)) = self.hot.archive().zip(self.chains.get(chain)) else { return Vec::new() };
        let keys: Vec<Vec<u8>> = seqs.iter().map(|seq| fact_key(chain, *seq)).collect();
        let one_by_one = |_| keys.iter().map(|key| archive.read(key)).collect::<Vec<_>>();
        let values = archive.read_many(&keys).map_or_else(one_by_one, |all| all.into_iter().map(Ok).collect());
        let mut packable = Vec::new();
        for (seq, value) in seqs.iter().zip(values) {
            let Some(id) = held.id_at(*seq) else { continue };
            let whole = match value {
                Ok(Some(value)) if Packed::is_stub(&value) => continue,
                Ok(Some(value)) => proven(&value, id).map(|fact| (fact.sealed().clone(), value)),
                Ok(None) => continue,
                Err(why) => Err(why),
            };
            match (whole, held.hot.get(seq)) {
                // Another copy of it may be on its way to the store.
                (Ok((sealed, _)), Some(hot)) if *hot.sealed() != sealed => {}
                (Ok((sealed, value)), _) if value.len() <= PACK_RAW_LEN_MAX && to_cbor(&sealed) == value => {
                    packable.push((*seq, sealed));
                }
                (Err(why), None) => self.hot.damaged(place(chain, *seq), why),
                _ => {}
            }
        }
        packable
    }
}

impl Packing<'_> {
    fn fill(&mut self) {
        while self.ready.len() < PACK_FACTS_MAX && !self.left.is_empty() {
            let (now, left) = self.left.split_at(self.left.len().min(PACK_FACTS_MAX));
            self.left = left;
            let mut seqs = now.to_vec();
            seqs.retain(|seq| {
                let before = self.last;
                self.last = before.max(*seq);
                *seq > before
            });
            self.ready.extend(self.log.packable(self.chain, &seqs));
        }
    }

    /// The next pack and the number of facts in it: as many as it may hold, or as fill what it aims at. None when no fact
    /// is left.
    fn largest(&mut self) -> Option<(usize, Pack)> {
        let (mut count, mut bytes) = (0, 0);
        for (_, fact) in self.ready.iter().take(PACK_FACTS_MAX) {
            bytes += fact.wire_len();
            if count > 0 && bytes > PACK_RAW_LEN_MAX {
                break;
            }
            count += 1;
        }
        loop {
            let facts = self.ready.make_contiguous().get(..count).filter(|facts| !facts.is_empty())?;
            let pack = Pack::of(self.chain, facts);
            let len = pack.value().len();
            if len <= PACK_LEN_AIM || count == 1 {
                return Some((count, pack));
            }
            count = (count * PACK_LEN_AIM / len).clamp(1, count - 1);
        }
    }
}

impl Iterator for Packing<'_> {
    type Item = PackBatch;

    fn next(&mut self) -> Option<PackBatch> {
        loop {
            self.fill();
            let (count, pack) = self.largest()?;
            let facts: Vec<(u64, SealedFact)> = self.ready.drain(..count).collect();
            if let Some(batch) = batch(self.chain, &pack, &facts) {
                return Some(batch);
            }
        }
    }
}

/// The records of a pack, unless they would not be smaller than those of its facts, or it does not give these back.
fn batch(chain: &ChainId, pack: &Pack, facts: &[(u64, SealedFact)]) -> Option<PackBatch> {
    let whole: Vec<(u64, Vec<u8>)> = facts.iter().map(|(seq, fact)| (*seq, to_cbor(fact))).collect();
    let batch = stubbed(chain, facts.first()?.0, pack.value(), facts.iter().map(|(seq, _)| *seq));
    let before: usize = whole.iter().map(|(_, record)| record.len()).sum();
    let key_len = batch.first().map_or(0, |(key, _)| key.len());
    let after = key_len + batch.iter().map(|(_, value)| value.len()).sum::<usize>();
    (after < before && pack.unpack().ok()?.into_iter().eq(whole)).then_some(batch)
}
