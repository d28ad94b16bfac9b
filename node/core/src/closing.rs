//! Epochs of documents that are closed: kept in this node's own records, their facts left to the log.

use std::collections::VecDeque;
use std::sync::Arc;

use cauldron_crdt::ChainId;
use cauldron_crdt::doc::{Closing, DocKey, Positions, Reading};
use cauldron_identity::{Fact, Scope};

use crate::core::NodeCore;
use crate::docs::counts;
use crate::input::Record;
use crate::local;
use crate::view::DocStepView;

/// Facts that are packed in one go, some 15 ms, and how long the loop is left alone then, milliseconds.
const PACK_FACTS: usize = 256;
const PACK_PAUSE_MS: u64 = 50;

/// Epochs that were closed. Their facts are packed, then what is kept of them is durable: so after a crash in between they are
/// closed and packed once more.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    queue: VecDeque<Unpacked>,
    /// Not before this, boot time in milliseconds.
    not_before_ms: u64,
}

#[derive(Debug)]
struct Unpacked {
    closing: Closing,
    left: Vec<(ChainId, Vec<u64>)>,
}

impl Packing {
    /// When there is something to pack, boot time in milliseconds.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.not_before_ms)
    }
}

/// A closed epoch's history, still to be worked out: beside the loop.
#[derive(Debug)]
pub struct ClosedHistory(Reading);

impl NodeCore {
    /// Takes back what was kept of closed epochs, before facts are folded. False when some of it is of no use: then every fact
    /// is read.
    pub(crate) fn restore_closed(&mut self, records: Vec<Record>) -> bool {
        let mut is_useless = |record: &Record| !record.value.as_ref().is_some_and(|value| self.docs.restore(value));
        let useless: Vec<Record> = records.into_iter().filter(|record| is_useless(record)).collect();
        let whole = useless.is_empty();
        if !whole {
            self.log.shelve_nothing();
        }
        useless.into_iter().for_each(|record| self.persist(Record { value: None, ..record }));
        whole
    }

    /// Once everything is folded: what closed epochs speak for is not read at the next start.
    pub(crate) fn shelve_closed(&mut self) {
        for key in self.documents() {
            let shelved = self.docs.shelved(&key, None);
            self.shelve(&key.scope, &shelved, true);
        }
    }

    fn shelve(&mut self, scope: &Scope, positions: &[Positions], shelved: bool) {
        for ((author, incarnation), seqs) in positions {
            let chain = ChainId { scope: scope.clone(), author: *author, incarnation: *incarnation };
            self.log.shelve(&chain, seqs, shelved);
        }
    }

    /// Lets go of epochs that ended a while ago, and builds anew what is needed again.
    pub(crate) fn tend_epochs(&mut self) {
        while let Some((key, epoch, positions)) = self.docs.wanted() {
            let facts = self.facts_at(&key.scope, &positions);
            // It may have to say something again, and from here on its facts are read at a start again.
            self.dirty = true;
            self.shelve(&key.scope, &positions, false);
            self.packing.queue.retain(|of| (&of.closing.key, &of.closing.epoch) != (&key, &epoch));
            self.persist(local::no_epoch(&key, &epoch));
            self.docs.reopen(&key, &epoch, facts);
        }
        while let Some(closing) = self.docs.close() {
            let chain = |(author, incarnation)| ChainId { scope: closing.key.scope.clone(), author, incarnation };
            let sealed = closing.sealed.iter().map(|(writer, seqs)| (chain(*writer), seqs.clone()));
            let left = sealed.collect();
            self.packing.queue.push_back(Unpacked { closing, left });
        }
    }

    /// Packs facts that the seals of closed epochs cover, as many as there is time for at once.
    pub(crate) fn pack(&mut self) {
        if self.packing.wake_ms().is_none_or(|at| at > self.now.boottime_ms) {
            return;
        }
        self.packing.not_before_ms = self.now.boottime_ms + PACK_PAUSE_MS;
        let mut time = PACK_FACTS;
        while time > 0
            && let Some(Unpacked { left, .. }) = self.packing.queue.front_mut()
        {
            let Some((chain, seqs)) = left.last_mut().filter(|(_, seqs)| !seqs.is_empty()) else {
                if left.pop().is_none() {
                    self.packed();
                }
                continue;
            };
            let now: Vec<u64> = seqs.drain(..seqs.len().min(time)).collect();
            time = time.saturating_sub(now.len());
            let records: Vec<_> = self.log.pack(chain, &now).flatten().collect();
            records.into_iter().for_each(|(key, value)| self.persist(Record { key, value: Some(value) }));
        }
    }

    /// All facts of the first epoch are packed.
    fn packed(&mut self) {
        let Some(Unpacked { closing, .. }) = self.packing.queue.pop_front() else { return };
        let Closing { key, epoch, record, .. } = closing;
        self.persist(local::epoch(&key, &epoch, record));
        let shelved = self.docs.shelved(&key, Some(&epoch));
        self.shelve(&key.scope, &shelved, true);
    }

    /// Facts, each author's in the order of their chain, and whether each counts.
    fn facts_at(&self, scope: &Scope, positions: &[Positions]) -> Vec<(Arc<Fact>, bool)> {
        let mut facts = Vec::new();
        for ((author, incarnation), seqs) in positions {
            let chain = ChainId { scope: scope.clone(), author: *author, incarnation: *incarnation };
            let read = seqs.iter().filter_map(|seq| self.log.at(&chain, *seq));
            facts.extend(read.map(|fact| {
                let counts = counts(&self.authority, &self.log, &fact);
                (fact, counts)
            }));
        }
        facts
    }

    /// The facts whose changes are in a document: those of closed epochs from the log.
    #[must_use]
    pub fn document_facts(&self, key: &DocKey) -> Vec<Arc<Fact>> {
        let closed = self.facts_at(&key.scope, &self.docs.closed_facts(key));
        closed.into_iter().map(|(fact, _)| fact).chain(self.docs.facts(key)).collect()
    }

    /// The epochs of a document that are closed, and how many changes each holds: their history is read one by one.
    #[must_use]
    pub fn doc_closed_epochs(&self, key: &DocKey) -> Vec<(u32, u64)> {
        self.docs.closed_epochs(key).collect()
    }

    /// The number of the epoch in use; none when this node holds nothing of the document.
    #[must_use]
    pub fn doc_epoch(&self, key: &DocKey) -> Option<u32> {
        self.docs.status(key).map(|status| status.epoch)
    }

    /// The history of a closed epoch; none when it is not closed.
    #[must_use]
    pub fn doc_closed_history(&self, key: &DocKey, epoch: u32) -> Option<ClosedHistory> {
        let positions = self.docs.positions(key, epoch)?;
        self.docs.read_closed(key, epoch, self.facts_at(&key.scope, &positions)).map(ClosedHistory)
    }

    /// As [`NodeCore::doc_history`], from the steps of a closed epoch.
    #[must_use]
    pub fn doc_steps(&self, steps: &[cauldron_crdt::doc::Step]) -> Vec<DocStepView> {
        steps.iter().map(|step| self.step_view(step)).collect()
    }
}

impl ClosedHistory {
    /// Works it out: some tenths of a second for a full epoch. None when Automerge cannot.
    #[must_use]
    pub fn run(self) -> Option<Vec<cauldron_crdt::doc::Step>> {
        self.0.history()
    }
}
