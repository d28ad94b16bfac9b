//! Which of a writer's facts count, and deciding anew when that changes.

use std::collections::BTreeMap;

use automerge::ChangeHash;
use cauldron_identity::Fact;

use super::{Chain, Document, Writer};
use crate::doc::Unfit;

impl Document {
    /// Takes out what does not count any more, and back in what does again; false when all counts as before.
    pub fn recount_all(&mut self, counts: &dyn Fn(&Fact) -> bool) -> bool {
        let ends = self.chains.iter().filter_map(|(writer, chain)| {
            // Mostly everything counts: one look per chain.
            let all = chain.fed.last().is_none_or(|fact| counts(fact));
            let counting = if all { chain.fed.len() } else { chain.fed.partition_point(|fact| counts(fact)) };
            (counting != chain.counting).then_some((*writer, counting))
        });
        let ends: Vec<(Writer, usize)> = ends.collect();
        ends.iter().for_each(|(writer, counting)| self.recount(writer, *counting));
        !ends.is_empty()
    }

    /// What waits of this writer does so no longer: nobody has what it follows.
    pub fn stop_waiting(&mut self, writer: &Writer) {
        if let Some(chain) = self.chains.get_mut(writer) {
            chain.stuck = true;
            chain.waiting.clear();
            chain.waiting_bytes = 0;
            self.touched = true;
        }
    }

    /// Only the first `counting` facts of a writer count from here on.
    pub fn recount(&mut self, writer: &Writer, counting: usize) {
        let Some(chain) = self.chains.get_mut(writer) else { return };
        let more = counting > chain.counting;
        chain.counting = counting;
        if more {
            return self.replay();
        }
        chain.taken = chain.taken.min(counting);
        let beyond = chain.own.iter().filter(|(_, place)| **place >= counting);
        let out: BTreeMap<ChangeHash, Unfit> = beyond.map(|(hash, _)| (*hash, Unfit::Cut)).collect();
        chain.own.retain(|_, place| *place < counting);
        chain.marked = chain.marked.min(counting);
        let mut left = 0;
        chain.waiting.retain(|waiting| {
            let stays = !out.contains_key(&waiting.change.hash());
            left += usize::from(stays) * waiting.change.raw_bytes().len();
            stays
        });
        chain.waiting_bytes = left;
        self.take_out(out);
    }

    /// Decides everything anew, from the facts: what was cut counts again, something is poison, or a base counts no more.
    pub fn replay(&mut self) {
        let (chains, poison) = (std::mem::take(&mut self.chains), std::mem::take(&mut self.poison));
        // It could begin so before.
        let begun = self.genesis.clone().and_then(|genesis| Self::begin(self.key.clone(), genesis));
        let new = begun.unwrap_or_else(|| Self::new(self.key.clone(), self.id));
        let (folds, to_fold) = (std::mem::take(&mut self.folds), std::mem::take(&mut self.to_fold));
        *self = Self { poison, folds, to_fold, ..new };
        self.refeed(chains);
    }

    /// Looks anew at all facts of these chains.
    pub fn refeed(&mut self, chains: BTreeMap<Writer, Chain>) {
        for (writer, chain) in chains {
            self.chains.insert(writer, Chain { fed: chain.fed, counting: chain.counting, ..Chain::default() });
        }
        self.touched = true;
    }
}
