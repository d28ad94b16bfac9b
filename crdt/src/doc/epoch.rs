//! The epochs of a document.
//!
//! A history is bounded, so now and then readers fold a document to what it says, and everybody goes on from there with a new
//! history. Two of them must have folded the same changes to the same hash; what they sign is a [`Seal`](super::Seal). An
//! epoch is a document of its own: its verdicts are functions of the facts in it. Which epoch follows on which is a function of the
//! facts too, so every node comes to the same one, and where two follow on one (two sides of a partition ended it), to the
//! one with the smaller hash. What is left outside is said again by its author in the epoch in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_identity::{AuthorId, Digest, Fact};

use super::document::{Document, Writer};
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
    /// Being built; what people see meanwhile, and the facts that came since.
    Away {
        view: Arc<View>,
        pending: Vec<(Arc<Fact>, bool)>,
    },
}

/// All epochs of one document.
#[derive(Debug)]
pub(super) struct Epochs {
    pub held: BTreeMap<EpochId, Slot>,
    /// Facts of epochs whose beginning is not known here.
    pub ahead: BTreeMap<EpochId, Vec<(Arc<Fact>, bool)>>,
    /// Who said that an epoch ends, and how.
    pub votes: BTreeMap<EpochId, Vec<Vote>>,
    /// What follows on an epoch that ended.
    pub next: BTreeMap<EpochId, EpochId>,
    /// An epoch that came in one piece: two readers vouched for it, and the facts before it may be missing.
    pub vouched: Option<EpochId>,
    /// Up to which fact of its own (life and position) an author has said again what had been left outside.
    pub again: BTreeMap<AuthorId, (u32, u64)>,
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
            Self::Away { .. } => None,
        }
    }

    pub fn here_mut(&mut self) -> Option<&mut Document> {
        match self {
            Self::Here(document) => Some(document),
            Self::Away { .. } => None,
        }
    }

    pub fn feed(&mut self, fact: Arc<Fact>, counts: bool) {
        match self {
            Self::Here(document) => document.feed(fact, counts),
            Self::Away { pending, .. } => pending.push((fact, counts)),
        }
    }
}

impl Epochs {
    pub fn new(key: &DocKey) -> Self {
        let first = Slot::Here(Box::new(Document::new(key.clone(), EpochId::FIRST)));
        Self {
            held: BTreeMap::from([(EpochId::FIRST, first)]),
            ahead: BTreeMap::new(),
            votes: BTreeMap::new(),
            next: BTreeMap::new(),
            vouched: None,
            again: BTreeMap::new(),
        }
    }

    /// The epochs from the first one to the last that the facts here lead to.
    pub fn path(&self) -> Vec<EpochId> {
        let follows = |id: &EpochId| self.next.get(id).copied().filter(|next| self.held.contains_key(next));
        std::iter::successors(Some(EpochId::FIRST), follows).collect()
    }

    /// The epoch in use.
    pub fn current(&self) -> EpochId {
        let proven = self.path().last().copied().unwrap_or_default();
        self.vouched.filter(|vouched| vouched.number > proven.number).unwrap_or(proven)
    }

    /// How many epochs came before the one in use whose facts are not all here.
    pub fn unproven(&self) -> u32 {
        self.current().number - self.path().last().map_or(0, |proven| proven.number)
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
        self.held.values().all(|slot| slot.here().is_some_and(|document| document.cost() == 0))
    }

    /// Whether the first epoch is all there is.
    pub fn is_plain(&self) -> bool {
        self.held.len() == 1 && self.ahead.is_empty()
    }

    /// Takes a fact into the epoch that it names.
    pub fn feed(&mut self, id: &EpochId, fact: Arc<Fact>, counts: bool) {
        match self.held.get_mut(id) {
            Some(slot) => slot.feed(fact, counts),
            None => self.ahead.entry(*id).or_default().push((fact, counts)),
        }
    }

    /// Takes an epoch in, and the facts that waited for it.
    pub fn begin(&mut self, mut document: Box<Document>) {
        let id = document.id;
        for (fact, counts) in self.ahead.remove(&id).unwrap_or_default() {
            document.feed(fact, counts);
        }
        self.held.insert(id, Slot::Here(document));
    }

    /// Counts facts anew that are in no document, and votes; gives the epochs whose votes count otherwise now.
    pub fn recount(&mut self, counts: &dyn Fn(&Fact) -> bool) -> BTreeSet<EpochId> {
        for (fact, counted) in self.ahead.values_mut().flatten() {
            *counted = counts(fact);
        }
        let mut moved = BTreeSet::new();
        for (id, votes) in &mut self.votes {
            for vote in votes {
                let now = counts(&vote.fact);
                if now != std::mem::replace(&mut vote.counts, now) {
                    moved.insert(*id);
                }
            }
        }
        moved
    }

    /// Whether a writer has a change in the epoch in use or before.
    pub fn has(&self, writer: &Writer) -> bool {
        self.held.values().filter_map(Slot::here).any(|d| d.base.as_ref().is_some_and(|base| base.has(writer)))
    }
}
