//! What was left outside when an epoch ended: its author says it again in the epoch in use.
//!
//! Nothing of it is lost silently. It stays in its author's signed facts and in `doc history`; its author, who alone may speak in its
//! own name, says its last word on each field again, unless somebody spoke later, and writes its characters where
//! their neighbours are now. What is said again is marked up to a fact of its own, so that it is said once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cauldron_identity::{AuthorId, Fact};

use super::document::{Document, Writer};
use super::edit::Draft;
use super::epoch::{Epochs, Slot};
use super::reissue::{Lost, Said};
use super::{Unfit, operations};

/// A fact's place among its author's: life and position.
fn place(fact: &Fact) -> (u32, u64) {
    (fact.header().incarnation, fact.header().seq)
}

/// An epoch, and what an author wrote outside it.
type Left<'e> = (&'e Document, Vec<Arc<Fact>>);

impl Document {
    /// Facts of an author behind a place that are not in the epoch as it ended; all where the epoch in use does not follow on
    /// this one. Without those that the author took back itself or that no document would take.
    fn left(&self, author: &AuthorId, behind: (u32, u64), led_on: bool) -> Vec<Arc<Fact>> {
        let mut left = Vec::new();
        for (_, chain) in self.chains.iter().filter(|(writer, _)| writer.0 == *author) {
            for (hash, at) in chain.own.iter().filter(|(_, at)| **at < chain.counting) {
                let Some(fact) = chain.fed.get(*at).filter(|fact| place(fact) > behind) else { continue };
                let fault = self.fence.refused().get(hash).is_some_and(|why| *why != Unfit::RefusedDep);
                let inside = led_on && self.fence.holds(hash) && !self.is_outside(hash);
                if !fault && !inside {
                    left.push(fact.clone());
                }
            }
        }
        left.sort_by_key(|fact| place(fact));
        left
    }
}

impl Epochs {
    /// What an author is to say again, by epoch; none while that is not known.
    fn owed(&self, author: &AuthorId) -> Option<Vec<Left<'_>>> {
        if self.held.len() == 1 {
            return Some(Vec::new());
        }
        if !self.is_quiet() || self.unproven() > 0 {
            return None;
        }
        let (current, behind) = (self.current(), self.again.get(author).copied().unwrap_or_default());
        let path = self.path();
        let others = self.held.iter().filter(|(id, _)| **id != current).filter_map(|(_, slot)| slot.here());
        let left = others.map(|document| (document, document.left(author, behind, path.contains(&document.id))));
        Some(left.filter(|(_, facts)| !facts.is_empty()).collect())
    }

    /// Whether something that an author said is to be said again.
    pub fn owes(&self, author: &AuthorId) -> bool {
        self.owed(author).is_some_and(|owed| !owed.is_empty())
    }

    /// Whether an author has said a fact again.
    pub fn has_said_again(&self, fact: &Fact) -> bool {
        self.again.get(&fact.header().author).is_some_and(|again| *again >= place(fact))
    }

    /// Notes up to where an author has said again what had been left outside.
    pub fn note_again(&mut self, fact: &Fact, again: u64) {
        let header = fact.header();
        // Nobody speaks for what it has not said yet.
        let to = (header.incarnation, again.min(header.seq - 1));
        let known = self.again.entry(header.author).or_default();
        *known = to.max(*known);
    }

    /// The bodies of the facts that say again what this writer had said outside the epoch in use; none when there is nothing.
    pub fn late(&self, writer: &Writer) -> Result<Vec<Vec<u8>>, Unfit> {
        let owed = self.owed(&writer.0).ok_or(Unfit::NotWritable)?;
        if owed.is_empty() {
            return Ok(Vec::new());
        }
        let ready = |document: &&Document| document.base.is_none() && !document.waits(writer);
        let document = self.here().filter(ready).ok_or(Unfit::NotWritable)?;
        let draft = || {
            let mut draft = Draft::new(document, writer);
            let facts = owed.iter().flat_map(|(_, facts)| facts);
            let up_to = facts.filter(|fact| place(fact).0 == writer.1).map(|fact| place(fact).1).max();
            draft.says_again(up_to.unwrap_or(0).max(self.again.get(&writer.0).map_or(0, |again| again.1)));
            if document.key.doc.kind().is_table() {
                let mut said = Said::new();
                for (of, facts) in &owed {
                    of.said(facts, &of.lost_ops(), &mut said);
                }
                document.set_again(said, &mut draft);
            } else {
                let facts: Vec<Arc<Fact>> = owed.iter().flat_map(|(_, facts)| facts.iter().cloned()).collect();
                document.write_again(&facts, &self.characters(), &mut draft);
            }
            draft.finish()
        };
        catch_unwind(AssertUnwindSafe(draft)).map_err(|_| Unfit::Poison)?
    }

    /// Every character of every epoch: behind which one it was written, and where it is now.
    fn characters(&self) -> Lost {
        let mut lost = Lost::default();
        for document in self.held.values().filter_map(Slot::here) {
            for fact in document.chains.values().flat_map(|chain| &chain.fed) {
                operations(fact).into_iter().for_each(|(op, id)| lost.note(&op, id));
            }
            let Some(genesis) = &document.genesis else { continue };
            for (op, id) in genesis.changes.iter().flat_map(|bytes| super::operations_in(bytes)) {
                lost.note(&op, id);
            }
        }
        // Only along the way to the epoch in use: what others began from shows nowhere.
        for id in self.path() {
            let genesis = self.held.get(&id).and_then(Slot::here).and_then(|document| document.genesis.as_ref());
            genesis.into_iter().for_each(|genesis| lost.moved.add(genesis));
        }
        lost
    }
}
