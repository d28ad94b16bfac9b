//! Facts that left memory: the store has them, and each is proven by its id when it is read.
//!
//! A chain keeps every id, and of its facts those that came last. The rest is read through an [`Archive`]. What is read is
//! believed as far as its id proves it; whatever else comes back is a [`Damage`], and the fact counts as missing.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Fact, FactId, SealedFact, planted};

use super::pack::Packs;
use super::record::{fact_key, place};
use super::{ChainId, FactLog};

/// Reads the store that the log's [`Record`](super::Record)s are kept in.
pub trait Archive: Send + Sync {
    /// The value that was made durable last under `key`; none when there is none.
    ///
    /// # Errors
    /// A sentence: the record is damaged, or the store cannot be read.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// The values under many keys at once, in their order.
    ///
    /// # Errors
    /// As for [`Archive::read`].
    fn read_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, String> {
        keys.iter().map(|key| self.read(key)).collect()
    }
}

/// Facts that are read back in one go before they leave memory.
const EVICT_AT_ONCE: usize = 256;

/// A record that the archive does not give back as it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {place} is damaged: {detail}")]
pub struct Damage {
    /// Scope, author, incarnation and position.
    pub place: String,
    /// What is wrong.
    pub detail: String,
}

/// What is in memory of a log, and where the rest is.
#[derive(Default)]
pub(super) struct Hot {
    archive: Option<Arc<dyn Archive>>,
    packs: Packs,
    bytes_max: usize,
    bytes: usize,
    /// In the order in which they came: number of the chain and position. A fact that is gone may still be named.
    order: VecDeque<(u32, u64)>,
    damage: OnceLock<Damage>,
}

impl std::fmt::Debug for Hot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hot").field("bytes", &self.bytes).field("damage", &self.damage).finish_non_exhaustive()
    }
}

impl Hot {
    pub fn new(archive: Option<Arc<dyn Archive>>, bytes_max: usize) -> Self {
        Self { archive, bytes_max, ..Self::default() }
    }

    pub fn archive(&self) -> Option<&dyn Archive> {
        self.archive.as_deref()
    }

    pub fn packs(&self) -> &Packs {
        &self.packs
    }

    pub fn damaged(&self, place: String, detail: String) {
        self.damage.get_or_init(|| Damage { place, detail });
    }

    pub fn came(&mut self, chain: u32, fact: &Fact) {
        self.bytes += cost(fact);
        // Without an archive nothing ever leaves.
        if self.archive.is_some() {
            self.order.push_back((chain, fact.header().seq));
        }
    }

    pub fn left(&mut self, fact: &Fact) {
        self.bytes = self.bytes.saturating_sub(cost(fact));
    }

    /// The fact `id` from the archive, proven by it.
    fn read(&self, chain: &ChainId, seq: u64, id: FactId) -> Option<Arc<Fact>> {
        match self.try_read(chain, seq, id) {
            Ok(fact) => Some(Arc::new(fact)),
            Err(detail) => {
                self.damaged(place(chain, seq), detail);
                None
            }
        }
    }

    fn try_read(&self, chain: &ChainId, seq: u64, id: FactId) -> Result<Fact, String> {
        let archive = self.archive().ok_or("there is no archive")?;
        let key = fact_key(chain, seq);
        let value = archive.read(&key)?.ok_or("it is missing")?;
        proven(&self.packs.whole(archive, &key, value)?, id)
    }

    /// How many of these facts, from the first on, the archive gives back exactly: they are durable. What is not there yet, or
    /// not in its latest form, is no damage; anything else is, and is told while the fact itself is still in memory.
    fn gives_back(&self, facts: &[Arc<Fact>]) -> usize {
        if planted::active("cold-before-durable") {
            return facts.len();
        }
        let Some((archive, first)) = self.archive().zip(facts.first()) else { return 0 };
        let key = |fact: &Arc<Fact>| fact_key(&ChainId::of(fact.header()), fact.header().seq);
        // In the middle of a large commit nothing is there: one look tells.
        if archive.read(&key(first)) == Ok(None) {
            return 0;
        }
        let keys: Vec<Vec<u8>> = facts.iter().map(key).collect();
        let kept = archive.read_many(&keys);
        let one_by_one = |_| keys.iter().map(|key| archive.read(key)).collect::<Vec<_>>();
        let kept = kept.map_or_else(one_by_one, |kept| kept.into_iter().map(Ok).collect());
        for (at, ((fact, key), kept)) in facts.iter().zip(&keys).zip(kept).enumerate() {
            let whole = |value| self.packs.whole(archive, key, value);
            let detail = match kept.and_then(|kept| kept.map(whole).transpose()) {
                Ok(Some(kept)) if kept == to_cbor(fact.sealed()) => continue,
                Ok(None) => return at,
                Ok(Some(kept)) => match from_cbor::<SealedFact>(&kept).map(|sealed| sealed.id()) {
                    Ok(id) if id == fact.id() => return at,
                    Ok(id) => format!("it is another fact, {id}"),
                    Err(why) => why.to_string(),
                },
                Err(why) => why,
            };
            self.damaged(place(&ChainId::of(fact.header()), fact.header().seq), detail);
            return at;
        }
        facts.len()
    }
}

impl FactLog {
    /// The first record that could not be read back as it was kept. What was answered since may lack facts: the caller
    /// must let nothing of it out, and stop.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.hot.damage.get()
    }

    /// The fact at a position: from memory, or from the archive.
    #[must_use]
    pub fn at(&self, chain: &ChainId, seq: u64) -> Option<Arc<Fact>> {
        let c = self.chains.get(chain)?;
        let id = c.id_at(seq)?;
        c.hot.get(&seq).cloned().or_else(|| self.hot.read(chain, seq, id))
    }

    /// Bytes of facts in memory, roughly.
    #[must_use]
    pub fn hot_bytes(&self) -> usize {
        self.hot.bytes
    }

    /// Lets the oldest facts leave memory while it holds more than its bound. A fact leaves once the archive gives it
    /// back byte for byte, so it does not matter how far the caller's commits have come.
    pub fn chill(&mut self) {
        // A little more is let in first, so that many are read back at once.
        if self.hot.bytes <= self.hot.bytes_max.saturating_add(self.hot.bytes_max / 64) {
            return;
        }
        loop {
            let oldest = self.oldest();
            let durable = self.hot.gives_back(&oldest.iter().map(|(_, fact)| fact.clone()).collect::<Vec<_>>());
            // What came later is no more durable than the first that is not.
            let (all, some) = (durable == oldest.len(), durable > 0);
            for (place, _) in oldest.into_iter().take(durable) {
                self.leave(place);
            }
            if !(all && some) {
                return;
            }
        }
    }

    /// The same for facts that were just read from the archive.
    pub(super) fn chill_restored(&mut self) {
        while self.hot.bytes > self.hot.bytes_max
            && let Some(place) = self.hot.order.front().copied()
        {
            self.leave(place);
        }
    }

    /// The oldest facts in memory, as many as must leave it, and at most as many as are looked at in one go.
    fn oldest(&mut self) -> Vec<((u32, u64), Arc<Fact>)> {
        let (mut oldest, mut left) = (Vec::new(), self.hot.bytes);
        for place in &self.hot.order {
            if left <= self.hot.bytes_max || oldest.len() == EVICT_AT_ONCE {
                break;
            }
            let chain = usize::try_from(place.0).ok().and_then(|no| self.names.get(no));
            let fact = chain.and_then(|chain| self.chains.get(chain)?.hot.get(&place.1));
            if let Some(fact) = fact {
                left = left.saturating_sub(cost(fact));
                oldest.push((*place, fact.clone()));
            }
        }
        oldest
    }

    /// Lets the oldest facts go up to this place.
    fn leave(&mut self, upto: (u32, u64)) {
        while let Some(place) = self.hot.order.pop_front() {
            let chain = usize::try_from(place.0).ok().and_then(|no| self.names.get(no));
            if let Some(c) = chain.and_then(|chain| self.chains.get_mut(chain))
                && let Some(fact) = c.hot.remove(&place.1)
            {
                self.hot.left(&fact);
            }
            if place == upto {
                return;
            }
        }
    }
}

/// The fact `id` in a whole record, which proves it.
pub(super) fn proven(value: &[u8], id: FactId) -> Result<Fact, String> {
    let sealed: SealedFact = from_cbor(value).map_err(|why| why.to_string())?;
    if sealed.body().is_none() {
        return Err("its body is missing".into());
    }
    let fact = sealed.reopen().map_err(|why| why.to_string())?;
    if fact.id() != id && !planted::active("cold-unproven") {
        return Err(format!("it is another fact, {}", fact.id()));
    }
    Ok(fact)
}

/// What a fact takes in memory beside its bytes: the parsed header, its strings, the tree's share.
const FACT_OVERHEAD: usize = 400;

fn cost(fact: &Fact) -> usize {
    fact.sealed().wire_len() + FACT_OVERHEAD
}
