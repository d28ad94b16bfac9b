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
use cauldron_identity::{AuthorId, Digest, Fact, FactId, Scope, planted};
use minicbor::{Decode, Encode};

mod base;
pub mod check;
mod document;
mod edit;
mod engine;
mod fence;
mod field;
mod look;
mod name;
mod prescan;
mod profile;
mod reissue;
#[cfg(test)]
mod tests;
mod verdict;
mod work;

pub use base::BaseError;
pub use field::{Edit, Field, Rows, View};
pub use look::{Blame, Did, Step};
pub use name::{DocId, DocIdError, Kind};
pub use verdict::{Applied, Unfit};
pub use work::{Done, Work};

use crate::limits;
use document::{Document, Writer};

/// The kind of the facts that carry changes.
pub const KIND: &str = "doc.change";

/// The body of a [`KIND`] fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DocChange {
    /// Which document: a [`DocId`].
    #[n(0)]
    pub doc: String,
    /// Which epoch of it.
    #[n(1)]
    pub epoch: u32,
    /// One plain Automerge change chunk.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub change: Vec<u8>,
    /// How often its author began anew in this document, because what it followed was taken out.
    #[n(3)]
    pub round: u32,
    /// In the first change of a round but the first: how many changes of the round before stay.
    #[n(4)]
    pub keeps: Option<u64>,
}

/// A document of a scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocKey {
    /// Who reads and writes it.
    pub scope: Scope,
    /// Its name there.
    pub doc: DocId,
}

/// A change took effect, or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// In which document.
    pub key: DocKey,
    /// The fact that carried it; none when many came at once, in a base.
    pub fact: Option<FactId>,
}

#[derive(Debug)]
enum Slot {
    Here(Box<Document>),
    /// Being built; what people see meanwhile, and the facts that came since.
    Away {
        view: Arc<View>,
        pending: Vec<(Arc<Fact>, bool)>,
    },
}

/// The documents of one node.
#[derive(Debug, Default)]
pub struct Documents {
    me: Option<Writer>,
    slots: BTreeMap<DocKey, Slot>,
    /// Which documents of a scope each writer wrote to.
    written: BTreeMap<(Scope, Writer), BTreeSet<DocId>>,
    changed: VecDeque<Changed>,
    work: VecDeque<Work>,
    /// Documents in which this node's own changes may have been taken out.
    owing: BTreeSet<DocKey>,
}

/// Nobody can write as somebody else's actor, and no change can be carried over to another document: the id is derived,
/// not chosen.
#[must_use]
pub fn actor_of(key: &DocKey, epoch: u32, author: &AuthorId, incarnation: u32, round: u32) -> ActorId {
    let mut input = Vec::new();
    input.extend_from_slice(&epoch.to_be_bytes());
    input.extend_from_slice(author.as_bytes());
    input.extend_from_slice(&incarnation.to_be_bytes());
    input.extend_from_slice(&round.to_be_bytes());
    input.extend_from_slice(format!("{}\0{}", key.scope, key.doc).as_bytes());
    ActorId::from(&domain_hash("cauldron/doc-actor/v0", &input)[..prescan::ACTOR_LEN])
}

impl DocChange {
    fn read(body: &[u8]) -> Option<Self> {
        from_cbor(body).ok()
    }

    fn of(fact: &Fact) -> Option<Self> {
        Self::read(fact.body()?)
    }
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
    let Some(change) = change_in(fact) else { return Vec::new() };
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

    /// Names this node's own author, in whose name [`Documents::edit`] writes.
    pub fn set_author(&mut self, author: &AuthorId, incarnation: u32) {
        let me = (*author, incarnation);
        self.me = Some(me);
        let lost = |slot: &Slot| matches!(slot, Slot::Here(document) if document.has_lost(&me));
        self.owing.extend(self.slots.iter().filter(|(_, slot)| lost(slot)).map(|(key, _)| key.clone()));
    }

    /// Takes a `doc.change` fact. `counts` is false when it lies beyond a cut of its author, or of a fork.
    pub fn apply(&mut self, fact: &Arc<Fact>, counts: bool) -> Applied {
        match self.feed(fact, counts) {
            Ok(key) => {
                self.settle(&key);
                match self.slots.get(&key) {
                    Some(Slot::Here(document)) => document.verdict(fact),
                    _ => Applied::Waiting,
                }
            }
            Err(applied) => applied,
        }
    }

    /// Takes a fact without looking at it yet: call [`Documents::settle_all`] after the last one.
    ///
    /// # Errors
    /// What becomes of a change that no document takes.
    pub fn feed(&mut self, fact: &Arc<Fact>, counts: bool) -> Result<DocKey, Applied> {
        let body = DocChange::of(fact).ok_or(Applied::Refused(Unfit::Malformed))?;
        let doc: DocId = body.doc.parse().map_err(|_| Applied::Refused(Unfit::Malformed))?;
        if body.epoch != 0 {
            return Err(Applied::Other);
        }
        let header = fact.header();
        let writer = (header.author, header.incarnation);
        let written = self.written.entry((header.scope.clone(), writer)).or_default();
        if !written.contains(&doc) {
            // In the order of the writer's chain, so every node draws the line at the same document.
            if written.len() >= limits::DOCS_PER_WRITER_MAX {
                return Err(Applied::Refused(Unfit::TooManyDocs));
            }
            written.insert(doc.clone());
        }
        let key = DocKey { scope: header.scope.clone(), doc };
        let slot = self.slots.entry(key.clone());
        match slot.or_insert_with(|| Slot::Here(Box::new(Document::new(key.clone())))) {
            Slot::Here(document) => document.feed(fact.clone(), counts),
            Slot::Away { pending, .. } => pending.push((fact.clone(), counts)),
        }
        Ok(key)
    }

    /// Decides what was fed.
    pub fn settle_all(&mut self) {
        let keys: Vec<DocKey> = self.slots.keys().cloned().collect();
        keys.iter().for_each(|key| self.settle(key));
    }

    fn settle(&mut self, key: &DocKey) {
        while let Some(Slot::Here(document)) = self.slots.get_mut(key) {
            match document.cost() {
                0 => break,
                cost if cost <= limits::DOC_INLINE_MAX => document.step(),
                _ => {
                    let away = Slot::Away { view: document.view(), pending: Vec::new() };
                    if let Some(Slot::Here(document)) = self.slots.insert(key.clone(), away) {
                        self.work.push_back(Work::build(key.clone(), document));
                    }
                    return;
                }
            }
        }
        self.collect(key);
    }

    /// Tells what changed, and whether something is to be written again.
    fn collect(&mut self, key: &DocKey) {
        let Some(Slot::Here(document)) = self.slots.get_mut(key) else { return };
        debug_assert!(document.is_true(), "{} holds other changes than its fence", key.doc);
        let news = std::mem::take(&mut document.news);
        self.changed.extend(news.iter().map(|fact| Changed { key: key.clone(), fact: Some(fact.id()) }));
        // What others do later may make something missing that was not at first.
        let moved = std::mem::take(&mut document.lost) || !news.is_empty();
        if moved && self.me.is_some_and(|me| document.has_lost(&me)) && !planted::active("reissue-forgotten") {
            self.owing.insert(key.clone());
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
        let keys: Vec<DocKey> = self.slots.keys().cloned().collect();
        for key in keys {
            let Some(Slot::Here(document)) = self.slots.get_mut(&key) else { continue };
            let ends = document.chains.iter().filter_map(|(writer, chain)| {
                // Mostly everything counts: one look per chain.
                let all = chain.fed.last().is_none_or(|fact| counts(fact));
                let counting = if all { chain.fed.len() } else { chain.fed.partition_point(|fact| counts(fact)) };
                (counting != chain.counting).then_some((*writer, counting))
            });
            let ends: Vec<(Writer, usize)> = ends.collect();
            ends.iter().for_each(|(writer, counting)| document.recount(writer, *counting));
            if !ends.is_empty() {
                self.settle(&key);
            }
        }
    }

    /// Goes back to the facts where a base counts no more. `vouches` answers for the facts that it rests on, which may not be
    /// here.
    pub fn recheck(&mut self, vouches: &dyn Fn(&Fact) -> bool) {
        let keys: Vec<DocKey> = self.slots.keys().cloned().collect();
        for key in keys {
            let Some(Slot::Here(document)) = self.slots.get_mut(&key) else { continue };
            if document.recheck_base(vouches) {
                self.settle(&key);
            }
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
        match self.slots.get_mut(key) {
            Some(Slot::Here(document)) => document.draft(&me, edit),
            Some(Slot::Away { .. }) => Err(Unfit::NotWritable),
            None => Document::new(key.clone()).draft(&me, edit),
        }
    }

    /// A document in which this node has to say something again, and the bodies of the facts that do.
    #[must_use]
    pub fn reissue(&mut self) -> Option<(DocKey, Vec<Vec<u8>>)> {
        let me = self.me?;
        let (mut later, mut found) = (Vec::new(), None);
        while let Some(key) = self.owing.pop_first() {
            let Some(Slot::Here(document)) = self.slots.get_mut(&key) else {
                later.push(key);
                continue;
            };
            match document.reissue(&me) {
                Ok(bodies) if bodies.is_empty() => {}
                Ok(bodies) => {
                    found = Some((key, bodies));
                    break;
                }
                Err(Unfit::NotWritable) => later.push(key),
                // What no document would take, nobody misses.
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

    /// The documents, by scope and name.
    pub fn keys(&self) -> impl Iterator<Item = &DocKey> {
        self.slots.keys()
    }

    /// A document as people see it.
    #[must_use]
    pub fn view(&self, key: &DocKey) -> Option<Arc<View>> {
        match self.slots.get(key)? {
            Slot::Here(document) => Some(document.view()),
            Slot::Away { view, .. } => Some(view.clone()),
        }
    }

    /// What is known of a document beside its content.
    #[must_use]
    pub fn status(&self, key: &DocKey) -> Option<DocStatus> {
        match self.slots.get(key)? {
            Slot::Here(document) => Some(DocStatus {
                building: false,
                changes: document.fence.accepted().len() as u64,
                waiting: document.waiting() as u64,
                refused: document.fence.refused().len() as u64,
                missing: document.fence.bare() as u64,
                digest: Some(document.digest()),
            }),
            Slot::Away { pending, .. } => {
                let waiting = pending.len() as u64;
                Some(DocStatus { building: true, changes: 0, waiting, refused: 0, missing: 0, digest: None })
            }
        }
    }

    /// How many changes a document holds, and how many of them without their facts; none while it is being built.
    #[must_use]
    pub fn size(&self, key: &DocKey) -> Option<(u64, u64)> {
        match self.slots.get(key)? {
            Slot::Here(document) => Some((document.fence.accepted().len() as u64, document.fence.bare() as u64)),
            Slot::Away { .. } => None,
        }
    }

    /// How many changes were refused or taken out.
    #[must_use]
    pub fn left_out(&self, key: &DocKey) -> u64 {
        match self.slots.get(key) {
            Some(Slot::Here(document)) => document.fence.refused().len() as u64,
            _ => 0,
        }
    }

    /// The facts whose changes are in a document, in an order in which they apply, as far as they are here; none while it
    /// is being built.
    #[must_use]
    pub fn facts(&self, key: &DocKey) -> Vec<Arc<Fact>> {
        match self.slots.get(key) {
            Some(Slot::Here(document)) => document.fence.accepted().iter().filter_map(|a| a.fact().cloned()).collect(),
            _ => Vec::new(),
        }
    }

    /// Documents that miss something this node wrote, because what it followed was taken out.
    #[must_use]
    pub fn owed(&self) -> Vec<DocKey> {
        let Some(me) = self.me else { return Vec::new() };
        let owed = |slot: &Slot| matches!(slot, Slot::Here(document) if document.misses(&me));
        self.slots.iter().filter(|(_, slot)| owed(slot)).map(|(key, _)| key.clone()).collect()
    }

    /// Every change of a document with what it did; none while it is being built.
    #[must_use]
    pub fn history(&self, key: &DocKey) -> Option<Vec<Step>> {
        match self.slots.get(key)? {
            Slot::Here(document) => catch_unwind(AssertUnwindSafe(|| document.history())).ok(),
            Slot::Away { .. } => None,
        }
    }

    /// Who set what a document shows; none while it is being built.
    #[must_use]
    pub fn blame(&self, key: &DocKey) -> Option<Vec<Blame>> {
        match self.slots.get(key)? {
            Slot::Here(document) => catch_unwind(AssertUnwindSafe(|| document.blame())).ok(),
            Slot::Away { .. } => None,
        }
    }

    /// Whether a change is in a document, by the fact that carried it; none while it is being built.
    #[must_use]
    pub fn verdict(&self, key: &DocKey, fact: &Fact) -> Option<Applied> {
        match self.slots.get(key)? {
            Slot::Here(document) => Some(document.verdict(fact)),
            Slot::Away { .. } => None,
        }
    }
}

/// What is known of a document beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocStatus {
    /// It is being built: what is shown is older, or nothing.
    pub building: bool,
    /// Changes in it.
    pub changes: u64,
    /// Changes that wait for others.
    pub waiting: u64,
    /// Changes that were refused or taken out.
    pub refused: u64,
    /// Changes in it whose facts are still to come.
    pub missing: u64,
    /// One hash for the set of changes in it: equal at two nodes exactly when the documents are.
    pub digest: Option<Digest>,
}
