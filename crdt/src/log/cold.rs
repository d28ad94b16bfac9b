//! Facts that left memory: the store has them, and each is proven by its id when it is read.
//!
//! A chain keeps every id, and of its facts those that came last. The rest is read through an [`Archive`]. What is read is
//! believed as far as its id proves it; whatever else comes back is a [`Damage`], and the fact counts as missing.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Fact, FactId, SealedFact, planted};

use super::record::{fact_key, place};
use super::{ChainId, FactLog};

/// Reads the store that the log's [`Record`](super::Record)s are kept in.
pub trait Archive: Send + Sync {
    /// The value that was made durable last under `key`; none when there is none.
    ///
    /// # Errors
    /// A sentence: the record is damaged, or the store cannot be read.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;
}

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
                self.damage.get_or_init(|| Damage { place: place(chain, seq), detail });
                None
            }
        }
    }

    fn try_read(&self, chain: &ChainId, seq: u64, id: FactId) -> Result<Fact, String> {
        let archive = self.archive.as_ref().ok_or("there is no archive")?;
        let value = archive.read(&fact_key(chain, seq))?.ok_or("it is missing")?;
        let sealed: SealedFact = from_cbor(&value).map_err(|why| why.to_string())?;
        if sealed.body().is_none() {
            return Err("its body is missing".into());
        }
        let fact = sealed.reopen().map_err(|why| why.to_string())?;
        if fact.id() != id && !planted::active("cold-unproven") {
            return Err(format!("it is another fact, {}", fact.id()));
        }
        Ok(fact)
    }

    /// Whether the archive gives back exactly this fact: then it is durable.
    fn gives_back(&self, chain: &ChainId, fact: &Fact) -> bool {
        let kept = self.archive.as_ref().and_then(|archive| archive.read(&fact_key(chain, fact.header().seq)).ok());
        kept.flatten().is_some_and(|kept| kept == to_cbor(fact.sealed())) || planted::active("cold-before-durable")
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
        self.evict(|hot, chain, fact| hot.gives_back(chain, fact));
    }

    /// The same for facts that were just read from the archive.
    pub(super) fn chill_restored(&mut self) {
        self.evict(|_, _, _| true);
    }

    fn evict(&mut self, durable: impl Fn(&Hot, &ChainId, &Fact) -> bool) {
        while self.hot.bytes > self.hot.bytes_max
            && let Some((no, seq)) = self.hot.order.front().copied()
        {
            let place = usize::try_from(no).ok().and_then(|no| self.names.get(no));
            let held = place.and_then(|chain| Some((chain, self.chains.get_mut(chain)?)));
            if let Some((chain, c)) = held
                && let Some(fact) = c.hot.get(&seq)
            {
                // What came later is no more durable than this.
                if !durable(&self.hot, chain, fact) {
                    return;
                }
                self.hot.left(fact);
                c.hot.remove(&seq);
            }
            self.hot.order.pop_front();
        }
    }
}

/// What a fact takes in memory beside its bytes: the parsed header, its strings, the tree's share.
const FACT_OVERHEAD: usize = 400;

fn cost(fact: &Fact) -> usize {
    fact.sealed().wire_len() + FACT_OVERHEAD
}
