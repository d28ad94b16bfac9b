//! Epochs that ended a while ago: what the others need of them is kept, their facts are left to the log.
//!
//! An epoch's verdicts are functions of its facts. So an epoch that is decided can be let go of, and built anew from the log when
//! something comes that its summary cannot answer: a fact of it, a cut that reaches into it, a finding about its end that nobody
//! looked at, something of ours that is to be said again. It is then what it had been.
//!
//! The summary is durable in this node's own store, and facts that it speaks for need not be read at a start. What it speaks
//! for and what it needs is said by position in the authors' chains.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::ChangeHash;
use cauldron_identity::{AuthorId, Fact, planted};

use super::document::{Document, Writer};
use super::epoch::{EpochId, Epochs, Found, Slot};
use super::genesis::Genesis;
use super::seal::Finding;
use super::{DocKey, Documents, limits};
use crate::runs::Runs;

mod read;
mod record;

pub use read::Reading;
pub(super) use record::Lacking;
pub use record::{CLOSED_VERSION, record_name};

/// Where a fact stands in a scope: its author's life and position.
pub(super) type Place = (Writer, u64);

pub(super) fn place_of(fact: &Fact) -> Place {
    ((fact.header().author, fact.header().incarnation), fact.header().seq)
}

/// One writer's facts in a closed epoch.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// All of them.
    pub fed: Runs,
    /// How many of them count.
    pub counting: u64,
    /// Those whose changes are in the epoch as it ended.
    pub inside: Runs,
    /// Those that were left outside: owed, unless they were said again.
    pub left: Runs,
    /// The last that counts and the first that does not: whether that is still so tells whether anything was cut since.
    pub edge: (Option<Arc<Fact>>, Option<Arc<Fact>>),
}

/// An epoch of which the facts are left to the log.
#[derive(Debug)]
pub(super) struct Closed {
    pub id: EpochId,
    /// What it began from; none for the first, or when the epoch before has it.
    pub begins: Option<Arc<Genesis>>,
    /// How it ended.
    pub found: Found,
    /// What the next one began from.
    pub next: Arc<Genesis>,
    pub chains: BTreeMap<Writer, Written>,
    /// What was found of its end, and how many changes that takes along; nothing where it does not hold.
    pub judged: BTreeMap<Finding, Option<u64>>,
    /// Changes that say something again and are in it.
    pub again: BTreeSet<ChangeHash>,
    /// How many changes were refused in it or taken out.
    pub refused: u64,
    /// How many of those that it took were left outside when it ended.
    pub outside: u64,
    /// Facts that came since: with them it is built anew.
    pub pending: Vec<(Arc<Fact>, bool)>,
    /// It is to be built anew.
    pub wanted: bool,
}

/// An epoch that was closed: what is to be kept of it, and what is not needed any more.
#[derive(Debug)]
pub struct Closing {
    /// Which document.
    pub key: DocKey,
    /// Which epoch of it.
    pub epoch: EpochId,
    /// To be given to [`Documents::restore`] at the next start.
    pub record: Vec<u8>,
    /// Where the facts are that its seals cover.
    pub sealed: Vec<Positions>,
}

/// The positions of an author in one life.
pub type Positions = ((AuthorId, u32), Vec<u64>);

impl Closed {
    /// The summary of an epoch that ended so.
    fn of(document: &Document, found: &Found, epochs: &Epochs, changes: u64) -> Option<Self> {
        let next = document.folded_to(&found.next)?;
        let mut chains: BTreeMap<Writer, Written> = BTreeMap::new();
        for (writer, chain) in &document.chains {
            let fact = |index: Option<usize>| index.and_then(|index| chain.fed.get(index)).cloned();
            let edge = (fact(chain.counting.checked_sub(1)), fact(Some(chain.counting)));
            let fed = Runs::of(chain.fed.iter().map(|fact| fact.header().seq));
            let counting = chain.counting as u64;
            chains.insert(*writer, Written { fed, counting, edge, ..Written::default() });
        }
        let mut note = |facts: Vec<&Fact>, runs: fn(&mut Written) -> &mut Runs| {
            let places: BTreeSet<Place> = facts.into_iter().map(place_of).collect();
            for (writer, seq) in places {
                runs(chains.entry(writer).or_default()).push(seq);
            }
        };
        let inside = document.fence.accepted().iter().filter(|held| !document.is_outside(&held.hash));
        note(inside.filter_map(|held| held.fact().map(Arc::as_ref)).collect(), |written| &mut written.inside);
        note(document.left(true).iter().map(Arc::as_ref).collect(), |written| &mut written.left);
        Some(Self {
            id: document.id,
            begins: document.genesis.clone(),
            found: found.clone(),
            next,
            chains,
            judged: epochs.judged(document, changes),
            again: epochs.said_again_in(document),
            refused: document.fence.refused().len() as u64,
            outside: document.outside(),
            pending: Vec::new(),
            wanted: false,
        })
    }

    /// Whether an epoch that ended so can be closed. What waits for changes that nobody has waits on: when they come, it is built
    /// anew.
    fn fits(document: &Document, found: &Found) -> bool {
        let whole = document.cost() == 0 && document.base.is_none() && document.fence.bare() == 0;
        let facts = document.chains.values().map(|chain| chain.fed.len() as u64).sum::<u64>();
        facts <= limits::CLOSED_FACTS_MAX
            && whole
            && !document.lacks_origins()
            && document.folded_to(&found.next).is_some()
    }

    /// Whether it speaks for a fact.
    pub fn covers(&self, (writer, seq): &Place) -> bool {
        self.chains.get(writer).is_some_and(|written| written.fed.holds(*seq))
    }

    /// How many changes it holds, those that were left outside not counted.
    pub fn changes(&self) -> u64 {
        self.chains.values().map(|written| written.inside.len()).sum()
    }

    /// All facts that were written to it.
    pub fn positions(&self) -> Vec<Positions> {
        self.chains.iter().map(|(writer, written)| (*writer, written.fed.iter().collect())).collect()
    }

    /// The facts whose changes are in it, as it ended.
    fn sealed(&self) -> Vec<Positions> {
        self.chains.iter().map(|(writer, written)| (*writer, written.inside.iter().collect())).collect()
    }

    /// Whether each fact counts that did, and no other.
    pub fn counts_as_before(&self, counts: &dyn Fn(&Fact) -> bool) -> bool {
        if planted::active("closed-outlives-cut") {
            return true;
        }
        self.chains.values().all(|written| {
            let (last, beyond) = &written.edge;
            last.as_ref().is_none_or(|fact| counts(fact)) && !beyond.as_ref().is_some_and(|fact| counts(fact))
        })
    }

    pub fn is_inside(&self, (writer, seq): &Place) -> bool {
        self.chains.get(writer).is_some_and(|written| written.inside.holds(*seq))
    }

    pub fn is_left(&self, (writer, seq): &Place) -> bool {
        self.chains.get(writer).is_some_and(|written| written.left.holds(*seq))
    }

    /// What was left outside.
    pub fn left(&self) -> impl Iterator<Item = Place> + '_ {
        self.chains.iter().flat_map(|(writer, written)| written.left.iter().map(|seq| (*writer, seq)))
    }

    /// Facts that must be at hand even so.
    pub fn needs(&self) -> BTreeSet<Place> {
        let edges = self.chains.values().flat_map(|written| [&written.edge.0, &written.edge.1]).flatten();
        edges.chain(self.next.facts()).map(|fact| place_of(fact)).collect()
    }
}

impl Slot {
    pub fn closed(&self) -> Option<&Closed> {
        match self {
            Self::Closed(closed) => Some(closed),
            Self::Here(_) | Self::Away { .. } => None,
        }
    }
}

impl Epochs {
    pub fn closed(&self) -> impl Iterator<Item = &Closed> {
        self.held.values().filter_map(Slot::closed)
    }

    /// Has a closed epoch built anew.
    pub fn want(&mut self, id: &EpochId) {
        if let Some(Slot::Closed(closed)) = self.held.get_mut(id) {
            closed.wanted = true;
        }
    }

    /// Where, among the epochs that are held, one begins that is not.
    fn root(&self, ahead: &EpochId) -> Option<EpochId> {
        let mut id = *ahead;
        for _ in 0..limits::EPOCHS_GONE_MAX {
            let (of, _) = self.named(&id)?;
            if self.held.contains_key(&of) {
                return Some(of);
            }
            id = of;
        }
        None
    }

    /// Epochs on top of which an author wrote, and that do not lead there: to say it again it is to be understood.
    fn roots(&self, author: &AuthorId) -> BTreeSet<EpochId> {
        let own = |(fact, counts): &(Arc<Fact>, bool)| *counts && fact.header().author == *author;
        let written = self.ahead.iter().filter(|(_, facts)| facts.iter().any(own));
        written.filter_map(|(id, _)| self.root(id)).collect()
    }

    /// Wants what cannot stay closed: it leads elsewhere, is in use again, or what was written on top of it is to be understood.
    pub fn check_closed(&mut self, me: Option<&AuthorId>) {
        self.want(&self.current());
        // Most often nothing has changed that could matter.
        if !self.unchecked || !self.is_quiet() {
            return;
        }
        self.unchecked = false;
        if self.closed().next().is_none() {
            return;
        }
        let roots = me.map(|me| self.roots(me)).unwrap_or_default();
        let moved = |closed: &&Closed| roots.contains(&closed.id) || !self.leads_on(&closed.id, &closed.found);
        let wanted: Vec<EpochId> = self.closed().filter(moved).map(|closed| closed.id).collect();
        wanted.iter().for_each(|id| self.want(id));
    }

    /// Wants what is needed to say again what an author wrote outside closed epochs: what others left there, too, and for a text the
    /// way that its characters went since. False when nothing is missing.
    pub fn want_left(&mut self, author: &AuthorId, is_table: bool) -> bool {
        if self.closed().next().is_none() || !self.owes(author) {
            return false;
        }
        let needed = |closed: &&Closed| !is_table || closed.left().next().is_some();
        let wanted: Vec<EpochId> = self.closed().filter(needed).map(|closed| closed.id).collect();
        wanted.iter().for_each(|id| self.want(id));
        !wanted.is_empty()
    }

    /// The first epoch on the way to the one in use that can be closed.
    fn closable(&self, me: Option<&AuthorId>, changes: u64) -> Option<Closed> {
        if !self.is_quiet() || self.unproven() > 0 {
            return None;
        }
        let upto = self.current().number.checked_sub(limits::EPOCHS_OPEN_BEHIND + 1)?;
        let often = |id: &EpochId| self.reopened.get(id).is_some_and(|times| *times >= limits::EPOCH_REOPENS_MAX);
        let here = |id: &EpochId| self.held.get(id).is_some_and(|slot| slot.here().is_some());
        let open = |id: &&EpochId| id.number <= upto && here(id) && !often(id);
        let mut open = self.path().iter().filter(open).peekable();
        // Most often nothing is.
        open.peek()?;
        let roots = me.map(|me| self.roots(me)).unwrap_or_default();
        let (document, found) = open.filter(|id| !roots.contains(id)).find_map(|id| {
            let document = self.held.get(id)?.here()?;
            let found = self.ends.get(id)?.iter().find(|found| self.leads_on(id, found))?;
            Closed::fits(document, found).then_some((document, found))
        })?;
        if me.is_some_and(|me| self.owes(me)) {
            return None;
        }
        Closed::of(document, found, self, changes)
    }
}

impl Documents {
    /// Lets go of an epoch that ended a while ago: [`Documents::shelved`] says which of its facts no start needs to read.
    #[must_use]
    pub fn close(&mut self) -> Option<Closing> {
        while let Some(key) = self.closable.pop_first() {
            if self.owing.contains(&key) {
                continue;
            }
            let Some(epochs) = self.docs.get_mut(&key) else { continue };
            let me = self.me.as_ref().map(|me| &me.0);
            let Some(closed) = epochs.closable(me, self.epoch_changes) else { continue };
            let (epoch, record, sealed) = (closed.id, closed.record(&key), closed.sealed());
            epochs.held.insert(epoch, Slot::Closed(Box::new(closed)));
            epochs.unchecked = true;
            self.closable.insert(key.clone());
            return Some(Closing { key, epoch, record, sealed });
        }
        None
    }

    /// A closed epoch that is to be built anew, with the positions of its facts: see [`Documents::reopen`]. Of one document one at
    /// a time.
    #[must_use]
    pub fn wanted(&self) -> Option<(DocKey, EpochId, Vec<Positions>)> {
        let is_built = |epochs: &Epochs| {
            epochs.held.values().all(|slot| match slot {
                Slot::Here(document) => document.cost() == 0,
                Slot::Closed(_) => true,
                Slot::Away { .. } => false,
            })
        };
        self.docs.iter().filter(|(_, epochs)| is_built(epochs)).find_map(|(key, epochs)| {
            let closed = epochs.closed().find(|closed| closed.wanted)?;
            Some((key.clone(), closed.id, closed.positions()))
        })
    }

    /// Builds a closed epoch anew, from its facts, and whether each counts: each author's in the order of their chain.
    pub fn reopen(&mut self, key: &DocKey, id: &EpochId, facts: Vec<(Arc<Fact>, bool)>) {
        let epochs = self.epochs(key);
        let Some(begun) = epochs.held.get(id).and_then(Slot::closed).map(|closed| epochs.begin_again(key, closed))
        else {
            return;
        };
        let Some(Slot::Closed(closed)) = epochs.held.remove(id) else { return };
        epochs.unchecked = true;
        *epochs.reopened.entry(*id).or_default() += 1;
        let facts = facts.into_iter().chain(closed.pending);
        match begun {
            Some(mut document) => {
                facts.for_each(|(fact, counts)| document.feed(fact, counts));
                epochs.held.insert(*id, Slot::Here(Box::new(document)));
            }
            // It waits until the one before leads to it again.
            None => epochs.ahead.entry(*id).or_default().extend(facts),
        }
        self.owing.insert(key.clone());
        self.settle_held(key);
    }

    /// Where the facts are whose changes are in closed epochs.
    #[must_use]
    pub fn closed_facts(&self, key: &DocKey) -> Vec<Positions> {
        self.docs.get(key).into_iter().flat_map(Epochs::closed).flat_map(Closed::sealed).collect()
    }

    /// Facts of closed epochs that no start needs to read, as long as those stay closed: of one of them, or of all.
    #[must_use]
    pub fn shelved(&self, key: &DocKey, of: Option<&EpochId>) -> Vec<Positions> {
        let Some(epochs) = self.docs.get(key) else { return Vec::new() };
        let needed = epochs.needed();
        let asked = epochs.closed().filter(|closed| of.is_none_or(|of| *of == closed.id));
        let written = asked.flat_map(|closed| &closed.chains);
        let free = |(writer, written): (&Writer, &Written)| {
            let free = written.fed.iter().filter(|seq| !needed.contains(&(*writer, *seq)));
            (*writer, free.collect())
        };
        written.map(free).collect()
    }
}

impl Epochs {
    /// A closed epoch at its beginning; none while that is not at hand.
    fn begin_again(&self, key: &DocKey, closed: &Closed) -> Option<Document> {
        match closed.begins.clone().or_else(|| self.genesis_of(&closed.id)) {
            Some(genesis) => Document::begin(key.clone(), genesis),
            None => (closed.id == EpochId::FIRST).then(|| Document::new(key.clone(), closed.id)),
        }
    }

    /// What an epoch begins from, by the one before it.
    fn genesis_of(&self, id: &EpochId) -> Option<Arc<Genesis>> {
        self.held.values().find_map(|slot| match slot {
            Slot::Here(document) => document.folded_to(id),
            Slot::Closed(closed) => (closed.found.next == *id).then(|| closed.next.clone()),
            Slot::Away { .. } => None,
        })
    }

    /// Facts that closed epochs need even so: those that carry marks, too.
    fn needed(&self) -> BTreeSet<Place> {
        let marks = self.marks.values().flatten().map(|mark| place_of(&mark.fact));
        self.closed().flat_map(Closed::needs).chain(marks).collect()
    }
}
