//! Documents of several nodes, whose facts are real ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use cauldron_identity::{AuthorKey, Fact};

use super::*;
use crate::log::{Draft, FactLog};
use crate::testing::{MESH, key};

mod base;
mod epoch;
mod golden;
mod heal;
mod honest;
mod hostile;
mod late;
mod notes;
mod random;
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
}

impl Node {
    pub fn new(seed: u8) -> Self {
        let key = key(seed);
        let mut docs = Documents::new();
        docs.set_author(&key.author_id(), 0);
        Self { key, log: FactLog::new(MESH), docs, hlc: 1 }
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
            incarnation: 0,
            kind: kind.into(),
            deps: vec![],
            body,
            hlc: self.hlc << 16,
            traceparent: None,
        };
        self.log.append(&self.key, draft).expect("fits")
    }

    pub fn edit(&mut self, key: &DocKey, edit: &Edit) -> Vec<Arc<Fact>> {
        let bodies = self.docs.edit(key, edit).expect("fits");
        self.append(bodies)
    }

    /// Signs bodies and takes them as the node core does.
    pub fn append(&mut self, bodies: Vec<Vec<u8>>) -> Vec<Arc<Fact>> {
        let mut facts = Vec::new();
        for body in bodies {
            let fact = self.sign(body);
            assert_eq!(self.docs.apply(&fact, true), Applied::Yes, "an own change is taken");
            facts.push(fact);
        }
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
            match fact.header().kind.as_str() {
                KIND_SEAL => self.docs.apply_seal(fact, true),
                _ => self.docs.apply(fact, true),
            };
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
        while let Some((_, bodies)) = self.docs.reissue() {
            facts.extend(self.append(bodies));
        }
        facts
    }

    /// Takes what others sent since it last did so.
    pub fn hear(&mut self, sent: &[Arc<Fact>], known: &mut usize) {
        let own = self.key.author_id();
        let news: Vec<_> = sent[*known..].iter().filter(|fact| fact.header().author != own).cloned().collect();
        *known = sent.len();
        self.take(&news);
        work(&mut self.docs);
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

    /// Cuts an author behind `seq`.
    pub fn cut(&mut self, author: &AuthorId, seq: u64) {
        let (author, seq) = (*author, seq);
        self.docs.recount(&|fact| fact.header().author != author || fact.header().seq <= seq);
    }
}

pub(super) fn put(row: &str, field: &str, value: &str) -> Edit {
    Edit::Row { row: row.into(), fields: BTreeMap::from([(field.to_owned(), Some(Field::from(value)))]) }
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
