//! Where each fact stands, by its id; 16 bytes a fact and what the tree adds, because there may be a million of them.

use std::collections::BTreeSet;

use cauldron_identity::FactId;

/// Places by the first 8 bytes of the id. Whoever looks one up compares the whole id, so two ids with one beginning are
/// two places, and no mistake.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeSet<(u64, u32, u32)>);

impl Places {
    pub fn insert(&mut self, id: FactId, chain: u32, seq: u64) {
        self.0.insert((beginning(&id), chain, short(seq)));
    }

    pub fn remove(&mut self, id: FactId, chain: u32, seq: u64) {
        self.0.remove(&(beginning(&id), chain, short(seq)));
    }

    /// Every place where `id` may stand: number of the chain and position.
    pub fn of(&self, id: &FactId) -> impl Iterator<Item = (u32, u64)> {
        let begins = beginning(id);
        self.0.range((begins, 0, 0)..=(begins, u32::MAX, u32::MAX)).map(|(_, chain, seq)| (*chain, u64::from(*seq)))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Many at once: the tree is built full, which takes a third less memory.
impl FromIterator<(FactId, u32, u64)> for Places {
    fn from_iter<I: IntoIterator<Item = (FactId, u32, u64)>>(places: I) -> Self {
        Self(places.into_iter().map(|(id, chain, seq)| (beginning(&id), chain, short(seq))).collect())
    }
}

fn beginning(id: &FactId) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A chain lies in memory from its first id on: its positions fit.
fn short(seq: u64) -> u32 {
    u32::try_from(seq).unwrap_or(u32::MAX)
}
