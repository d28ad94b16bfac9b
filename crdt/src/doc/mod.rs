//! Documents: Automerge, whose changes are the bodies of `doc.change` facts, behind a fence.
//!
//! Automerge 0.12 is not safe against hostile changes: of 300,000 mutated ones 13 % panicked and 4 % left a document
//! that could not be loaded again. So nothing reaches it that has not passed the fence: bytes are scanned, the structure
//! and all that an operation names are checked against the change's causal past and the profile of the document's kind,
//! it is applied under `catch_unwind`, and read back. What still fails is taken out by building the document anew.
//!
//! [`Documents`] holds the documents of a node. Feed it every `doc.change` fact once, each author's facts in the order of
//! their chain (the log's order), authors in any order: the same set gives the same documents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::legacy::{Op, OpId};
use automerge::{ActorId, Change};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::ids::domain_hash;
use cauldron_identity::{AuthorId, Digest, Fact, FactId, Header, Scope, planted};
use minicbor::{Decode, Encode};

mod base;
pub mod check;
mod closed;
mod document;
mod edit;
mod engine;
mod epoch;
mod fence;
mod field;
mod genesis;
mod late;
mod look;
mod name;
mod prescan;
mod profile;
mod reissue;
mod seal;
mod shown;
#[cfg(test)]
mod tests;
mod verdict;
mod work;

pub use base::BaseError;
pub use closed::{CLOSED_VERSION, Closing, Positions, Reading, record_name};
pub use epoch::EpochId;
pub use field::{Edit, Field, Rows, View};
pub use look::{Blame, Did, Step};
pub use name::{DocId, DocIdError, Kind};
pub use seal::{KIND_SEAL, Seal, SealDue};
pub use shown::DocStatus;
pub use verdict::{Applied, Unfit};
pub use work::{Done, Work};

use crate::limits;
use document::{Document, Writer};
use epoch::{Epochs, Slot};
use late::Mark;

/// The kind of the facts that carry changes.
pub const KIND: &str = "doc.change";

/// The body of a [`KIND`] fact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct DocChange {
    /// Which document: a [`DocId`].
    #[n(0)]
    pub doc: String,
    /// Which epoch of it.
    #[n(1)]
    pub epoch: u32,
    /// One plain Automerge change chunk; empty where only `again` is said.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub change: Vec<u8>,
    /// How often its author began anew in this document, because what it followed was taken out.
    #[n(3)]
    pub round: u32,
    /// In the first change of a round but the first: how many changes of the round before stay.
    #[n(4)]
    pub keeps: Option<u64>,
    /// What the epoch began from; none for the first.
    #[n(5)]
    pub genesis: Option<Digest>,
    /// This says again what its author had written to epochs that had ended, up to this place in its chain and in all of its
    /// earlier lives.
    #[n(6)]
    pub again: Option<u64>,
    /// More of it follows: only what has no such successor says that all is said. True or absent.
    #[n(7)]
    pub more: Option<bool>,
}

/// A document of a scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocKey {
    /// Who reads and writes it.
    pub scope: Scope,
    /// Its name there.
    pub doc: DocId,
}

/// What a document says may be different now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which document.
    pub key: DocKey,
    /// Why.
    pub what: What,
}

/// Why a document may say something different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The change in this fact took effect, or left.
    Change(FactId),
    /// Many changes came at once, in a base.
    Base,
    /// Another epoch is in use.
    Epoch(u32),
}

/// The documents of one node.
#[derive(Debug)]
pub struct Documents {
    me: Option<Writer>,
    docs: BTreeMap<DocKey, Epochs>,
    /// Which documents of a scope each writer wrote to.
    written: BTreeMap<(Scope, Writer), BTreeSet<DocId>>,
    changed: VecDeque<Changed>,
    work: VecDeque<Work>,
    /// Documents in which this node's own changes may have been taken out, or left outside.
    owing: BTreeSet<DocKey>,
    /// Documents of which an epoch may be closed.
    closable: BTreeSet<DocKey>,
    /// How many changes an epoch takes.
    epoch_changes: u64,
}

impl Default for Documents {
    fn default() -> Self {
        Self::with_epoch(limits::EPOCH_CHANGES)
    }
}

/// Nobody can write as somebody else's actor, and no change can be carried over to another document: the id is derived,
/// not chosen.
#[must_use]
pub fn actor_of(key: &DocKey, epoch: &EpochId, author: &AuthorId, incarnation: u32, round: u32) -> ActorId {
    let mut input = Vec::new();
    input.extend_from_slice(&epoch.number.to_be_bytes());
    epoch.genesis.iter().for_each(|genesis| input.extend_from_slice(genesis.as_bytes()));
    input.extend_from_slice(author.as_bytes());
    input.extend_from_slice(&incarnation.to_be_bytes());
    input.extend_from_slice(&round.to_be_bytes());
    input.extend_from_slice(format!("{}\0{}", key.scope, key.doc).as_bytes());
    ActorId::from(&domain_hash("cauldron/doc-actor/v1", &input)[..prescan::ACTOR_LEN])
}

impl DocChange {
    fn read(body: &[u8]) -> Option<Self> {
        from_cbor(body).ok()
    }

    fn of(fact: &Fact) -> Option<Self> {
        read_body(fact)
    }
}

fn read_body<T: for<'b> Decode<'b, ()>>(fact: &Fact) -> Option<T> {
    from_cbor(fact.body()?).ok()
}

/// The change in a fact's body, as far as its bytes are one. Whose it is, is not checked.
fn change_in(fact: &Fact) -> Option<Change> {
    change_of(&DocChange::of(fact)?.change)
}

fn change_of(bytes: &[u8]) -> Option<Change> {
    prescan::prescan(bytes).ok()?;
    catch_unwind(AssertUnwindSafe(|| Change::try_from(bytes).ok())).ok().flatten()
}

/// A fact's operations with their ids; none when Automerge panics over them, as it does over some that the fence refuses.
fn operations(fact: &Fact) -> Vec<(Op, OpId)> {
    DocChange::of(fact).map_or_else(Vec::new, |body| operations_in(&body.change))
}

fn operations_in(bytes: &[u8]) -> Vec<(Op, OpId)> {
    let Some(change) = change_of(bytes) else { return Vec::new() };
    let ops = catch_unwind(AssertUnwindSafe(|| change.decode().operations)).unwrap_or_default();
    let first = change.start_op().get();
    ops.into_iter().zip(first..).map(|(op, counter)| (op, OpId(counter, change.actor_id().clone()))).collect()
}

impl Documents {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet, of which an epoch takes so many changes: every node of a mesh the same.
    #[must_use]
    pub fn with_epoch(changes: u64) -> Self {
        Self {
            me: None,
            docs: BTreeMap::new(),
            written: BTreeMap::new(),
            changed: VecDeque::new(),
            work: VecDeque::new(),
            owing: BTreeSet::new(),
            closable: BTreeSet::new(),
            epoch_changes: changes,
        }
    }

    /// Names this node's own author, in whose name [`Documents::edit`] writes.
    pub fn set_author(&mut self, author: &AuthorId, incarnation: u32) {
        let me = (*author, incarnation);
        self.me = Some(me);
        let lost = |epochs: &Epochs| !epochs.is_plain() || epochs.here().is_some_and(|document| document.has_lost(&me));
        self.owing.extend(self.docs.iter().filter(|(_, epochs)| lost(epochs)).map(|(key, _)| key.clone()));
    }

    /// Takes a `doc.change` fact. `counts` is false when it lies beyond a cut of its author, or of a fork.
    pub fn apply(&mut self, fact: &Arc<Fact>, counts: bool) -> Applied {
        match self.feed(fact, counts) {
            Ok((key, epoch)) => {
                self.settle(&key, &epoch);
                if !self.epochs(&key).held.contains_key(&epoch) {
                    if self.me.is_some_and(|me| me.0 == fact.header().author) {
                        self.owing.insert(key.clone());
                    }
                    // Somebody wrote to what may follow on one of these.
                    let before =
                        self.epochs(&key).held.keys().filter(|id| id.number.checked_add(1) == Some(epoch.number));
                    before.copied().collect::<Vec<_>>().iter().for_each(|id| self.settle(&key, id));
                }
                self.verdict(&key, fact).unwrap_or(Applied::Waiting)
            }
            Err(applied) => applied,
        }
    }

    /// Takes a fact without looking at it yet: call [`Documents::settle_all`] after the last one.
    ///
    /// # Errors
    /// What becomes of a change that no document takes.
    pub fn feed(&mut self, fact: &Arc<Fact>, counts: bool) -> Result<(DocKey, EpochId), Applied> {
        let malformed = Applied::Refused(Unfit::Malformed);
        let body = DocChange::of(fact).ok_or(malformed)?;
        let epoch = EpochId::of(body.epoch, body.genesis).ok_or(malformed)?;
        let key = self.room(fact.header(), body.doc.parse().map_err(|_| malformed)?)?;
        let epochs = self.epochs(&key);
        epochs.begin_first(&key);
        if let Some(mark) = Mark::of(fact, &body, epoch, counts) {
            epochs.note_again(mark);
        }
        epochs.offer(fact);
        if body.again.is_none() || !body.change.is_empty() {
            epochs.feed(&epoch, fact.clone(), counts);
        }
        Ok((key, epoch))
    }

    /// The document that a fact writes to, if its writer may write to one more.
    fn room(&mut self, header: &Header, doc: DocId) -> Result<DocKey, Applied> {
        let writer = (header.author, header.incarnation);
        let written = self.written.entry((header.scope.clone(), writer)).or_default();
        if !written.contains(&doc) {
            // In the order of the writer's chain, so every node draws the line at the same document.
            if written.len() >= limits::DOCS_PER_WRITER_MAX {
                return Err(Applied::Refused(Unfit::TooManyDocs));
            }
            written.insert(doc.clone());
        }
        Ok(DocKey { scope: header.scope.clone(), doc })
    }

    fn epochs(&mut self, key: &DocKey) -> &mut Epochs {
        self.docs.entry(key.clone()).or_default()
    }

    /// Decides what was fed.
    pub fn settle_all(&mut self) {
        let keys: Vec<DocKey> = self.docs.keys().cloned().collect();
        for key in keys {
            self.epochs(&key).resolve(&key);
            self.settle_held(&key);
        }
    }

    fn settle_held(&mut self, key: &DocKey) {
        let held: Vec<EpochId> =
            self.docs.get(key).into_iter().flat_map(|epochs| epochs.held.keys().copied()).collect();
        held.iter().for_each(|id| self.settle(key, id));
    }

    /// Decides what was fed to an epoch, and what follows from it.
    fn settle(&mut self, key: &DocKey, epoch: &EpochId) {
        let mut todo = vec![*epoch];
        while let Some(id) = todo.pop() {
            if self.decide(key, &id) {
                todo.extend(self.turn(key, &id));
            }
        }
    }

    /// Decides what was fed to one epoch; false when that is done elsewhere.
    fn decide(&mut self, key: &DocKey, id: &EpochId) -> bool {
        let Some(slot) = self.docs.get_mut(key).and_then(|epochs| epochs.held.get_mut(id)) else { return false };
        while let Slot::Here(document) = slot {
            match document.cost() {
                0 => break,
                cost if cost <= limits::DOC_INLINE_MAX => document.step(),
                _ => {
                    let away = Slot::Away { view: document.view(), pending: Vec::new() };
                    if let Slot::Here(document) = std::mem::replace(slot, away) {
                        self.work.push_back(Work::build(key.clone(), document));
                    }
                    return false;
                }
            }
        }
        self.collect(key, id);
        matches!(self.docs.get(key).and_then(|epochs| epochs.held.get(id)), Some(Slot::Here(_) | Slot::Closed(_)))
    }

    /// Tells what changed, and whether something is to be written again.
    fn collect(&mut self, key: &DocKey, id: &EpochId) {
        let Some(epochs) = self.docs.get_mut(key) else { return };
        let in_use = epochs.current() == *id;
        let Some(document) = epochs.held.get_mut(id).and_then(Slot::here_mut) else { return };
        debug_assert!(document.is_true(), "{} holds other changes than its fence", key.doc);
        let news = std::mem::take(&mut document.news);
        // What others do later may make something missing that was not at first.
        let moved = std::mem::take(&mut document.lost) || !news.is_empty();
        let owes = !in_use || self.me.is_some_and(|me| document.has_lost(&me));
        if moved && owes && !planted::active("reissue-forgotten") {
            self.owing.insert(key.clone());
        }
        if in_use {
            self.changed.extend(news.iter().map(|fact| Changed { key: key.clone(), what: What::Change(fact.id()) }));
        }
    }

    /// Work that is to be done beside the loop.
    #[must_use]
    pub fn work(&mut self) -> Option<Work> {
        self.work.pop_front()
    }

    /// Takes out what does not count any more, and back in what does again. `counts` answers for a fact; beyond the
    /// first of a chain that does not, none does.
    pub fn recount(&mut self, counts: &dyn Fn(&Fact) -> bool) {
        if planted::active("cut-change-stays") {
            return;
        }
        for key in self.docs.keys().cloned().collect::<Vec<_>>() {
            let Some(epochs) = self.docs.get_mut(&key) else { continue };
            let (mut moved, marks) = epochs.recount(counts);
            if marks {
                self.owing.insert(key.clone());
            }
            for (id, slot) in &mut epochs.held {
                match slot {
                    Slot::Here(document) => {
                        if document.recount_all(counts) {
                            moved.insert(*id);
                        }
                    }
                    Slot::Closed(closed) => {
                        closed.pending.iter_mut().for_each(|(fact, counted)| *counted = counts(fact));
                        closed.wanted |= !closed.counts_as_before(counts);
                    }
                    Slot::Away { .. } => {}
                }
            }
            moved.iter().for_each(|id| self.settle(&key, id));
        }
    }

    /// Goes back to the facts where a base counts no more. `vouches` answers for the facts that it rests on, which may not be
    /// here.
    pub fn recheck(&mut self, vouches: &dyn Fn(&Fact) -> bool) {
        for key in self.docs.keys().cloned().collect::<Vec<_>>() {
            let Some(epochs) = self.docs.get_mut(&key) else { continue };
            let gone = |(_, slot): &mut (&EpochId, &mut Slot)| slot.here_mut().is_some_and(|d| d.recheck_base(vouches));
            let gone: Vec<EpochId> =
                epochs.held.iter_mut().filter_map(|mut held| gone(&mut held).then_some(*held.0)).collect();
            gone.iter().for_each(|id| self.settle(&key, id));
        }
    }

    /// The bodies of the facts to append so that a document says `edit`; none when it says so already. Append them in
    /// this order before anything else is written to it.
    ///
    /// # Errors
    /// [`Unfit`]: outside the bounds or the profile, a full epoch, no such place, or not now.
    pub fn edit(&mut self, key: &DocKey, edit: &Edit) -> Result<Vec<Vec<u8>>, Unfit> {
        let me = self.me.ok_or(Unfit::NotWritable)?;
        let others = self.written.get(&(key.scope.clone(), me));
        if others.is_some_and(|docs| !docs.contains(&key.doc) && docs.len() >= limits::DOCS_PER_WRITER_MAX) {
            return Err(Unfit::TooManyDocs);
        }
        match self.docs.get_mut(key).filter(|epochs| !epochs.held.is_empty()) {
            // Which epoch is in use is known when nothing is being built.
            Some(epochs) if !epochs.is_quiet() => Err(Unfit::NotWritable),
            Some(epochs) => epochs.here_mut().ok_or(Unfit::NotWritable)?.draft(&me, edit),
            None => Document::new(key.clone(), EpochId::FIRST).draft(&me, edit),
        }
    }

    /// A document in which this node has to say something again, and the bodies of the facts that do.
    #[must_use]
    pub fn reissue(&mut self) -> Option<(DocKey, Vec<Vec<u8>>)> {
        let me = self.me?;
        let (mut later, mut found) = (Vec::new(), None);
        while let Some(key) = self.owing.pop_first() {
            let Some(epochs) = self.docs.get_mut(&key) else { continue };
            if epochs.want_left(&me.0, key.doc.kind().is_table()) {
                later.push(key);
                continue;
            }
            let lost = match epochs.here_mut() {
                Some(document) if document.has_lost(&me) => document.reissue(&me),
                _ => Ok(Vec::new()),
            };
            let bodies = match lost {
                Ok(bodies) if bodies.is_empty() && !planted::active("late-forgotten") => epochs.late(&me),
                other => {
                    // What is outside is said again on top of it.
                    later.push(key.clone());
                    other
                }
            };
            let fits = |bodies: &Vec<Vec<u8>>, epochs: &mut Epochs| {
                let first = bodies.first().filter(|body| DocChange::read(body).is_some_and(|b| !b.change.is_empty()));
                first.is_none_or(|body| epochs.here_mut().is_some_and(|d| d.would_accept(&me, body).is_ok()))
            };
            self.closable.insert(key.clone());
            match bodies {
                Ok(bodies) if bodies.is_empty() => {}
                // There is no room for it: it is looked at again when the epoch turns.
                Ok(bodies) if !fits(&bodies, epochs) => {}
                Ok(bodies) => {
                    found = Some((key, bodies));
                    break;
                }
                Err(Unfit::NotWritable) => later.push(key),
                // It is looked at again when something more is known.
                Err(_) => {}
            }
        }
        self.owing.extend(later);
        found
    }

    /// What changed since this was asked last, in order: for those who watch documents.
    #[must_use]
    pub fn changed(&mut self) -> Option<Changed> {
        self.changed.pop_front()
    }
}
