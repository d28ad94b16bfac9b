//! The epochs of a document.
//!
//! A history is bounded, so now and then readers fold a document to what it says, and everybody goes on from there with a new
//! history. Two of them must have folded the same changes to the same hash; what they sign is a [`Seal`](super::Seal). An
//! epoch is a document of its own: its verdicts are functions of the facts in it. Which epoch follows on which is a function of the
//! facts too, so every node comes to the same one, also where two follow on one because two sides of a partition ended it. What
//! is left outside is said again by its author in the epoch in use.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::ChangeHash;
use cauldron_identity::{AuthorId, Digest, Fact};

use super::closed::{Closed, Lacking, Place, place_of};
use super::document::{Document, Writer};
use super::late::Mark;
use super::seal::Vote;
use super::{DocKey, View};

/// Which epoch of a document, and what it began from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EpochId {
    /// Its number; the first is 0.
    pub number: u32,
    /// The hash of what it began from; none for the first, which began empty.
    pub genesis: Option<Digest>,
}

/// An epoch's document, or who has it.
#[derive(Debug)]
pub(super) enum Slot {
    Here(Box<Document>),
    /// Ended a while ago: its facts are left to the log.
    Closed(Box<Closed>),
    /// Being built; what people see meanwhile, and the facts that came since.
    Away {
        view: Arc<View>,
        pending: Vec<(Arc<Fact>, bool)>,
    },
}

/// All epochs of one document.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    pub held: BTreeMap<EpochId, Slot>,
    /// Facts of epochs whose beginning is not known here.
    pub ahead: BTreeMap<EpochId, Vec<(Arc<Fact>, bool)>>,
    /// Who said that an epoch ends, and how.
    pub votes: BTreeMap<EpochId, Vec<Vote>>,
    /// The ends of an epoch that hold. More than one where readers did not know of each other.
    pub ends: BTreeMap<EpochId, Vec<Found>>,
    /// From the first epoch to the last that the facts here lead to.
    way: Vec<EpochId>,
    /// An epoch that came in one piece: two readers vouched for it, and the facts before it may be missing.
    pub vouched: Option<EpochId>,
    /// Where an author said again what had been left outside.
    pub marks: BTreeMap<AuthorId, Vec<Mark>>,
    /// What was said of where an epoch begins: which one it follows on, and at which heads.
    pub named: BTreeMap<EpochId, BTreeSet<(EpochId, Vec<ChangeHash>)>>,
    /// Something has changed since it was last looked at what cannot stay closed.
    pub unchecked: bool,
    /// How often each was opened again since the start.
    pub reopened: BTreeMap<EpochId, u32>,
    /// At a start: facts that closed epochs need, as they come.
    pub needed: BTreeMap<Place, Option<Arc<Fact>>>,
    /// At a start: what closed epochs still lack.
    pub lacking: Vec<Lacking>,
}

/// An end that holds: enough readers found it, and it was found again here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub next: EpochId,
    pub heads: Vec<ChangeHash>,
    /// Changes that it takes along.
    pub changes: u64,
}

impl EpochId {
    /// The first epoch of every document.
    pub const FIRST: Self = Self { number: 0, genesis: None };

    /// An epoch as facts name it; none when no epoch is called so.
    #[must_use]
    pub fn of(number: u32, genesis: Option<Digest>) -> Option<Self> {
        ((number == 0) == genesis.is_none()).then_some(Self { number, genesis })
    }

    pub(super) fn then(&self, genesis: Digest) -> Self {
        Self { number: self.number.saturating_add(1), genesis: Some(genesis) }
    }
}

impl Slot {
    pub fn here(&self) -> Option<&Document> {
        match self {
            Self::Here(document) => Some(document),
            Self::Closed(_) | Self::Away { .. } => None,
        }
    }

    pub fn here_mut(&mut self) -> Option<&mut Document> {
        match self {
            Self::Here(document) => Some(document),
            Self::Closed(_) | Self::Away { .. } => None,
        }
    }

    pub fn feed(&mut self, fact: Arc<Fact>, counts: bool) {
        match self {
            Self::Here(document) => document.feed(fact, counts),
            // At a start after a crash it is given what it speaks for.
            Self::Closed(closed) if closed.covers(&place_of(&fact)) => {}
            Self::Closed(closed) => {
                closed.pending.push((fact, counts));
                closed.wanted = true;
            }
            Self::Away { pending, .. } => pending.push((fact, counts)),
        }
    }
}

impl Epochs {
    /// The first epoch is there as soon as something was written to the document.
    pub fn begin_first(&mut self, key: &DocKey) {
        if let Entry::Vacant(first) = self.held.entry(EpochId::FIRST) {
            first.insert(Slot::Here(Box::new(Document::new(key.clone(), EpochId::FIRST))));
            self.refresh();
        }
    }

    /// The epochs from the first one to the last that the facts here lead to.
    pub fn path(&self) -> &[EpochId] {
        &self.way
    }

    /// Whether an epoch is on the way to the one in use, and ended so.
    pub fn leads_on(&self, id: &EpochId, found: &Found) -> bool {
        let after = self.way.iter().position(|of| of == id).and_then(|at| self.way.get(at + 1));
        after == Some(&found.next)
    }

    fn proven(&self) -> EpochId {
        self.way.last().copied().unwrap_or_default()
    }

    /// The epoch in use.
    pub fn current(&self) -> EpochId {
        let proven = self.proven();
        self.vouched.filter(|vouched| vouched.number > proven.number).unwrap_or(proven)
    }

    /// Which of several ends holds: the one by which most changes lead on, its own and those of the epochs behind it, then the one with
    /// the smaller hash. So an old epoch cannot be ended once more to lead away from what came after it, but by as much work.
    fn leads(&self, ends: &[Found], behind: &BTreeMap<EpochId, u64>) -> Option<Found> {
        let rank = |found: &&Found| {
            let changes = found.changes.saturating_add(behind.get(&found.next).copied().unwrap_or(0));
            (changes, std::cmp::Reverse(found.next))
        };
        ends.iter().filter(|found| self.held.contains_key(&found.next)).max_by_key(rank).cloned()
    }

    /// Walks anew from the first epoch to the one in use, and notes in each how it ended.
    pub fn refresh(&mut self) {
        let (mut behind, mut leads): (BTreeMap<EpochId, u64>, BTreeMap<EpochId, Found>) = Default::default();
        for id in self.held.keys().rev() {
            if let Some(found) = self.ends.get(id).and_then(|ends| self.leads(ends, &behind)) {
                let further = behind.get(&found.next).copied().unwrap_or(0);
                behind.insert(*id, found.changes.saturating_add(further));
                leads.insert(*id, found);
            }
        }
        let first = self.held.contains_key(&EpochId::FIRST).then_some(EpochId::FIRST);
        self.way = std::iter::successors(first, |id| leads.get(id).map(|found| found.next)).collect();
        for (id, slot) in &mut self.held {
            if let Some(document) = slot.here_mut() {
                document.ends_so(leads.get(id));
            }
        }
        self.know_origins();
        // What came in one piece is proven by now, or the facts lead elsewhere.
        if let Some(vouched) =
            self.vouched.take_if(|vouched| vouched.number <= self.way.last().map_or(0, |id| id.number))
            && !self.way.contains(&vouched)
        {
            self.forget(&vouched);
        }
    }

    /// Who said what in the beginning of an epoch that came in one piece is known once the one before was folded here.
    fn know_origins(&mut self) {
        let bare = self.held.iter().filter(|(_, slot)| slot.here().is_some_and(Document::lacks_origins));
        for id in bare.map(|(id, _)| *id).collect::<Vec<_>>() {
            let genesis = self.held.values().filter_map(Slot::here).find_map(|document| document.folded_to(&id));
            if let Some((genesis, document)) = genesis.zip(self.held.get_mut(&id).and_then(Slot::here_mut)) {
                document.genesis = Some(genesis);
            }
        }
    }

    /// Lets go of an epoch that the facts do not lead to; its facts wait.
    pub fn forget(&mut self, id: &EpochId) {
        // What is closed is reopened first.
        if self.held.get(id).is_none_or(|slot| slot.closed().is_some()) {
            return self.want(id);
        }
        let Some(slot) = self.held.remove(id) else { return };
        self.unchecked = true;
        let mut facts = Vec::new();
        match slot {
            Slot::Closed(_) => {}
            Slot::Here(document) => {
                for chain in document.chains.into_values() {
                    let counting = chain.counting;
                    facts.extend(chain.fed.into_iter().enumerate().map(|(place, fact)| (fact, place < counting)));
                }
            }
            Slot::Away { pending, .. } => facts.extend(pending),
        }
        // In the order of their chains: what is ahead already came later.
        facts.extend(self.ahead.remove(id).unwrap_or_default());
        if !facts.is_empty() {
            self.ahead.insert(*id, facts);
        }
    }

    /// How many epochs came before the one in use whose facts are not all here.
    pub fn unproven(&self) -> u32 {
        self.current().number - self.proven().number
    }

    pub fn slot(&self) -> Option<&Slot> {
        self.held.get(&self.current())
    }

    /// The document of the epoch in use.
    pub fn here(&self) -> Option<&Document> {
        self.slot()?.here()
    }

    pub fn here_mut(&mut self) -> Option<&mut Document> {
        let current = self.current();
        self.held.get_mut(&current)?.here_mut()
    }

    /// Whether nothing of it is being built: what is the epoch in use now stays it until more facts come.
    pub fn is_quiet(&self) -> bool {
        self.held.values().all(|slot| match slot {
            Slot::Here(document) => document.cost() == 0,
            Slot::Closed(closed) => !closed.wanted,
            Slot::Away { .. } => false,
        })
    }

    /// Whether the first epoch is all there is.
    pub fn is_plain(&self) -> bool {
        self.held.len() <= 1 && self.ahead.is_empty()
    }

    /// Takes a fact into the epoch that it names.
    pub fn feed(&mut self, id: &EpochId, fact: Arc<Fact>, counts: bool) {
        match self.held.get_mut(id) {
            Some(slot) => slot.feed(fact, counts),
            None => {
                self.unchecked = true;
                self.ahead.entry(*id).or_default().push((fact, counts));
            }
        }
    }

    /// Takes an epoch in, and the facts that waited for it.
    pub fn begin(&mut self, mut document: Box<Document>) {
        let id = document.id;
        for (fact, counts) in self.ahead.remove(&id).unwrap_or_default() {
            document.feed(fact, counts);
        }
        self.held.insert(id, Slot::Here(document));
        self.unchecked = true;
        self.refresh();
    }

    /// Counts facts anew that are in no document, votes and marks; gives the epochs whose votes count otherwise now, and whether
    /// some marks do.
    pub fn recount(&mut self, counts: &dyn Fn(&Fact) -> bool) -> (BTreeSet<EpochId>, bool) {
        for (fact, counted) in self.ahead.values_mut().flatten() {
            *counted = counts(fact);
        }
        let (mut moved, mut marks) = (BTreeSet::new(), false);
        for (id, votes) in &mut self.votes {
            for vote in votes {
                let now = counts(&vote.fact);
                if now != std::mem::replace(&mut vote.counts, now) {
                    moved.insert(*id);
                }
            }
        }
        for mark in self.marks.values_mut().flatten() {
            let now = counts(&mark.fact);
            marks |= now != std::mem::replace(&mut mark.counts, now);
        }
        (moved, marks)
    }

    /// Whether a writer has a change in the epoch in use or before.
    pub fn has(&self, writer: &Writer) -> bool {
        self.held.values().filter_map(Slot::here).any(|d| d.base.as_ref().is_some_and(|base| base.has(writer)))
    }
}
