//! Documents of several nodes, whose facts are real ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use cauldron_identity::{AuthorKey, Fact};

use super::closed::{Place, place_of};
use super::*;
use crate::log::{Draft, FactLog};
use crate::testing::{MESH, key};

mod base;
mod closed;
mod epoch;
mod golden;
mod heal;
mod honest;
mod hostile;
mod late;
mod lockstep;
mod notes;
mod random;
mod reopened;
mod turns;

pub(super) fn sites() -> DocKey {
    DocKey { scope: Scope::mesh(), doc: DocId::sites() }
}

pub(super) fn doc(name: &str) -> DocKey {
    DocKey { scope: Scope::mesh(), doc: name.parse().expect("a document") }
}

/// A node: its key, its log and its documents.
pub(super) struct Node {
    pub key: AuthorKey,
    pub log: FactLog,
    pub docs: Documents,
    pub hlc: u64,
    pub shelf: Shelf,
    pub life: u32,
}

/// What the node core's log and store are to a node's documents.
#[derive(Default)]
pub(super) struct Shelf {
    /// Every fact, and whether it counts.
    facts: BTreeMap<(Scope, Place), (Arc<Fact>, bool)>,
    /// What was kept of closed epochs.
    records: BTreeMap<(DocKey, EpochId), Vec<u8>>,
    /// Facts that no start reads.
    shelved: BTreeSet<(Scope, Place)>,
    /// Epochs that were closed, and opened again.
    pub closed: usize,
    pub opened: usize,
    /// It closes nothing.
    pub keeps_all: bool,
}

fn at(fact: &Fact) -> (Scope, Place) {
    (fact.header().scope.clone(), place_of(fact))
}

impl Node {
    pub fn new(seed: u8) -> Self {
        let key = key(seed);
        let mut docs = Documents::new();
        docs.set_author(&key.author_id(), 0);
        Self { key, log: FactLog::new(MESH), docs, hlc: 1, shelf: Shelf::default(), life: 0 }
    }

    /// One whose epochs take few changes.
    pub fn with_epoch(seed: u8, changes: u64) -> Self {
        let mut node = Self { docs: Documents::with_epoch(changes), ..Self::new(seed) };
        node.docs.set_author(&node.key.author_id(), 0);
        node
    }

    /// A fact of this node with any body.
    pub fn sign(&mut self, body: Vec<u8>) -> Arc<Fact> {
        self.sign_in(Scope::mesh(), body)
    }

    pub fn sign_in(&mut self, scope: Scope, body: Vec<u8>) -> Arc<Fact> {
        self.sign_as(KIND, scope, body)
    }

    pub fn sign_as(&mut self, kind: &str, scope: Scope, body: Vec<u8>) -> Arc<Fact> {
        self.hlc += 1;
        let draft = Draft {
            scope,
            incarnation: self.life,
            kind: kind.into(),
            deps: vec![],
            body,
            hlc: self.hlc << 16,
            traceparent: None,
        };
        let fact = self.log.append(&self.key, draft).expect("fits");
        self.shelf.facts.insert(at(&fact), (fact.clone(), true));
        fact
    }

    /// Closes epochs and opens them again, as the node core does after each input.
    pub fn tend(&mut self) {
        if self.shelf.keeps_all {
            return;
        }
        for _ in 0..64 {
            while let Some((key, epoch, positions)) = self.docs.wanted() {
                self.shelf.opened += 1;
                self.shelf.records.remove(&(key.clone(), epoch));
                let places: Vec<Place> = places(&positions).collect();
                for place in &places {
                    self.shelf.shelved.remove(&(key.scope.clone(), *place));
                }
                let fact = |place: &Place| self.shelf.facts[&(key.scope.clone(), *place)].clone();
                let facts = places.iter().map(fact).collect();
                self.docs.reopen(&key, &epoch, facts);
                work(&mut self.docs);
            }
            while let Some(Closing { key, epoch, record, .. }) = self.docs.close() {
                self.shelf.closed += 1;
                self.shelf.records.insert((key.clone(), epoch), record);
                let shelved = self.docs.shelved(&key, Some(&epoch));
                self.shelf.shelved.extend(places(&shelved).map(|place| (key.scope.clone(), place)));
            }
            if self.docs.wanted().is_none() {
                return;
            }
        }
        panic!("epochs are closed and opened without end");
    }

    /// The history of all epochs.
    pub fn history(&self, key: &DocKey) -> Vec<Step> {
        let mut all = Vec::new();
        for (epoch, _) in self.docs.closed_epochs(key) {
            let positions = self.docs.positions(key, epoch).expect("closed");
            let fact = |place| self.shelf.facts[&(key.scope.clone(), place)].clone();
            let facts = places(&positions).map(fact).collect();
            let reading = self.docs.read_closed(key, epoch, facts).expect("begins");
            all.extend(reading.history().expect("reads"));
        }
        all.extend(self.docs.history(key, None).expect("built"));
        all
    }

    /// The same node after a stop, in order or not.
    pub fn restarted(self, in_order: bool) -> Self {
        let mut again = self.starting(in_order);
        work(&mut again.docs);
        again.tend();
        again
    }

    /// Begins a new life with nothing.
    pub fn reborn(seed: u8, changes: u64) -> Self {
        let mut node = Self::with_epoch(seed, changes);
        node.life = 1;
        node.docs.set_author(&node.key.author_id(), 1);
        node
    }

    /// The same, before anything that takes long was done.
    pub fn starting(self, in_order: bool) -> Self {
        let Self { key, log, docs, hlc, mut shelf, life } = self;
        let mut again = Documents::with_epoch(docs.epoch_changes);
        for record in shelf.records.values() {
            assert!(again.restore(record), "what was kept is of use");
        }
        for (place, (fact, counts)) in &shelf.facts {
            let shelved = shelf.shelved.contains(place);
            match fact.header().kind.as_str() {
                _ if shelved && in_order => {}
                KIND_SEAL => _ = again.feed_seal(fact, *counts),
                _ => _ = again.feed(fact, *counts),
            }
        }
        again.settle_all();
        again.set_author(&key.author_id(), life);
        let facts = &shelf.facts;
        again.recount(&|fact| facts.get(&at(fact)).is_some_and(|(_, counts)| *counts));
        shelf.shelved.clear();
        for key in again.keys().cloned().collect::<Vec<_>>() {
            let shelved = again.shelved(&key, None);
            shelf.shelved.extend(places(&shelved).map(|place| (key.scope.clone(), place)));
        }
        Self { key, log, docs: again, hlc, shelf, life }
    }

    pub fn edit(&mut self, key: &DocKey, edit: &Edit) -> Vec<Arc<Fact>> {
        let bodies = self.docs.edit(key, edit).expect("fits");
        self.append(bodies)
    }

    /// Sets one of a few fields, or writes to a text somewhere, as chance has it.
    pub fn scribble(&mut self, key: &DocKey, place: u8, value: u8) -> Vec<Arc<Fact>> {
        if key.doc.kind().is_table() {
            let row = ["lyon", "porto", "hq"][usize::from(place % 3)];
            return self.edit(key, &put(row, &format!("k.k{}", value % 4), &value.to_string()));
        }
        let length = self.text(key).chars().count();
        let at = usize::from(place) % (length + 1);
        let remove = usize::from(value % 3).min(length - at);
        self.edit(key, &Edit::Text { at, remove, insert: format!("{value}") })
    }

    /// Signs bodies and takes them as the node core does.
    pub fn append(&mut self, bodies: Vec<Vec<u8>>) -> Vec<Arc<Fact>> {
        let mut facts = Vec::new();
        for body in bodies {
            let fact = self.sign(body);
            assert_eq!(self.docs.apply(&fact, true), Applied::Yes, "an own change is taken");
            facts.push(fact);
        }
        self.tend();
        facts
    }

    pub fn set(&mut self, row: &str, field: &str, value: &str) -> Arc<Fact> {
        let mut facts = self.edit(&sites(), &put(row, field, value));
        assert_eq!(facts.len(), 1);
        facts.remove(0)
    }

    pub fn take(&mut self, facts: &[Arc<Fact>]) {
        self.hlc = facts.iter().map(|f| f.header().wall_ms()).max().unwrap_or(0).max(self.hlc);
        for fact in facts {
            self.shelf.facts.insert(at(fact), (fact.clone(), true));
            match fact.header().kind.as_str() {
                KIND_SEAL => self.docs.apply_seal(fact, true),
                _ => self.docs.apply(fact, true),
            };
            self.tend();
        }
    }

    /// Signs the seals that are due, as the node core does after a while.
    pub fn seal(&mut self) -> Vec<Arc<Fact>> {
        let mut seals = Vec::new();
        for due in self.docs.seals_due() {
            let mut body = self.docs.seal(&due);
            if body.is_none() {
                work(&mut self.docs);
                body = self.docs.seal(&due);
            }
            let Some(body) = body else { continue };
            let fact = self.sign_as(KIND_SEAL, due.key.scope.clone(), body);
            self.docs.apply_seal(&fact, true);
            work(&mut self.docs);
            seals.push(fact);
        }
        self.tend();
        seals
    }

    pub fn rows(&mut self) -> Rows {
        match self.docs.view(&sites()).as_deref() {
            Some(View::Table(rows)) => rows.clone(),
            _ => Rows::new(),
        }
    }

    pub fn text(&mut self, key: &DocKey) -> String {
        match self.docs.view(key).as_deref() {
            Some(View::Note { text, .. }) => text.clone(),
            _ => String::new(),
        }
    }

    pub fn digest(&self, key: &DocKey) -> Option<Digest> {
        self.docs.status(key)?.digest
    }

    /// Writes again what was lost, as the node core does.
    pub fn heal(&mut self) -> Vec<Arc<Fact>> {
        let mut facts = Vec::new();
        loop {
            while let Some((_, bodies)) = self.docs.reissue() {
                facts.extend(self.append(bodies));
            }
            if self.docs.wanted().is_none() {
                self.tend();
                return facts;
            }
            self.tend();
        }
    }

    /// Takes what others sent since it last did so.
    pub fn hear(&mut self, sent: &[Arc<Fact>], known: &mut usize) {
        let own = self.key.author_id();
        let news: Vec<_> = sent[*known..].iter().filter(|fact| fact.header().author != own).cloned().collect();
        *known = sent.len();
        self.take(&news);
        work(&mut self.docs);
        self.tend();
    }

    /// The same node after a start with these facts, when it is known which of them count.
    pub fn started_over(self, changes: u64, facts: &[Arc<Fact>], counts: &dyn Fn(&Fact) -> bool) -> Self {
        let mut again = Self { docs: Documents::with_epoch(changes), ..self };
        for fact in facts {
            match fact.header().kind.as_str() {
                KIND_SEAL => _ = again.docs.feed_seal(fact, counts(fact)),
                _ => _ = again.docs.feed(fact, counts(fact)),
            }
        }
        again.docs.settle_all();
        again.docs.set_author(&again.key.author_id(), 0);
        work(&mut again.docs);
        again
    }

    /// Only what `counts` says does.
    pub fn recounted(&mut self, counts: &dyn Fn(&Fact) -> bool) {
        self.shelf.facts.values_mut().for_each(|(fact, counted)| *counted = counts(fact));
        self.docs.recount(counts);
        work(&mut self.docs);
        self.tend();
    }

    /// Takes facts, some of which do not count.
    pub fn take_counting(&mut self, facts: &[Arc<Fact>], counts: &dyn Fn(&Fact) -> bool) {
        self.hlc = facts.iter().map(|f| f.header().wall_ms()).max().unwrap_or(0).max(self.hlc);
        for fact in facts {
            self.shelf.facts.insert(at(fact), (fact.clone(), counts(fact)));
            match fact.header().kind.as_str() {
                KIND_SEAL => self.docs.apply_seal(fact, counts(fact)),
                _ => self.docs.apply(fact, counts(fact)),
            };
            work(&mut self.docs);
            self.tend();
        }
    }

    /// Cuts an author behind `seq`.
    pub fn cut(&mut self, author: &AuthorId, seq: u64) {
        let (author, seq) = (*author, seq);
        let counts = |fact: &Fact| fact.header().author != author || fact.header().seq <= seq;
        self.shelf.facts.values_mut().for_each(|(fact, counted)| *counted = counts(fact));
        self.docs.recount(&counts);
        self.tend();
    }
}

pub(super) fn put(row: &str, field: &str, value: &str) -> Edit {
    Edit::Row { row: row.into(), fields: BTreeMap::from([(field.to_owned(), Some(Field::from(value)))]) }
}

fn places(positions: &[Positions]) -> impl Iterator<Item = Place> {
    positions.iter().flat_map(|(writer, seqs)| seqs.iter().map(|seq| (*writer, *seq)))
}

/// Builds what was sent away, as the shell does.
pub(super) fn work(docs: &mut Documents) -> usize {
    let mut jobs = 0;
    while let Some(work) = docs.work() {
        docs.finish(work.run(&check::unpack));
        jobs += 1;
    }
    jobs
}
