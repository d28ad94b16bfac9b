//! Starts with and without the index of a clean stop, and what is read at each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cauldron_crdt::log::INDEX_HEAD;
use cauldron_crdt::{Archive, ChainId, Draft, FactLog, Record as LogRecord};
use cauldron_identity::charter::Seat;
use cauldron_identity::{Scope, SignedCharter};

use crate::testing::{NOW, charter, config, key};
use crate::{NodeConfig, NodeCore, OpenError, Opening, Output, Timer};

const HQ: &str = "spiffe://acme.test/coordinator/hq";

/// A disk, and which of its keys were read.
#[derive(Default)]
pub(crate) struct Disk {
    records: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    read: Mutex<BTreeSet<Vec<u8>>>,
}

impl Archive for Disk {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let found = self.records.lock().expect("unpoisoned").get(key).cloned();
        if found.is_some() {
            self.read.lock().expect("unpoisoned").insert(key.to_vec());
        }
        Ok(found)
    }
}

impl Disk {
    pub(crate) fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let mut records = self.records.lock().expect("unpoisoned");
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }

    /// Number of records under a prefix.
    pub(crate) fn count(&self, prefix: &[u8]) -> usize {
        self.records.lock().expect("unpoisoned").keys().filter(|key| key.starts_with(prefix)).count()
    }

    /// Makes records under a prefix unreadable; gives how many.
    pub(crate) fn spoil(&self, prefix: &[u8]) -> usize {
        let mut records = self.records.lock().expect("unpoisoned");
        let found = records.iter_mut().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(_, value)| value.truncate(value.len() / 2)).count()
    }

    fn has_index(&self) -> bool {
        self.records.lock().expect("unpoisoned").contains_key(INDEX_HEAD)
    }

    /// Facts read since this was asked last.
    pub(crate) fn facts_read(&self) -> usize {
        std::mem::take(&mut *self.read.lock().expect("unpoisoned")).iter().filter(|key| key.starts_with(b"f/")).count()
    }
}

pub(crate) struct Store {
    pub(crate) charter: SignedCharter,
    pub(crate) disk: Arc<Disk>,
    pub(crate) epoch_changes: u64,
}

/// Facts of a kind that nothing here looks into.
const TELEMETRY: u64 = 50;

fn telemetry() -> ChainId {
    ChainId { scope: Scope::mesh(), author: key(1).author_id(), incarnation: 0 }
}

impl Store {
    /// hq's, with nothing in it.
    pub(crate) fn empty() -> Self {
        let seat = Seat { author: key(1).public(), spiffe_id: HQ.into() };
        Self { charter: charter(seat), disk: Arc::default(), epoch_changes: cauldron_crdt::limits::EPOCH_CHANGES }
    }

    /// hq's, with telemetry on its chain in `mesh`, and a budget fact behind it that nobody minted.
    fn found() -> Self {
        let store = Self::empty();
        let mut log = FactLog::new(store.charter.mesh_id());
        for n in 0..=TELEMETRY {
            let kind = if n < TELEMETRY { "telemetry" } else { cauldron_crdt::escrow::KIND_DEBIT };
            let (scope, body) = (Scope::mesh(), vec![0x80]);
            let draft =
                Draft { scope, incarnation: 0, kind: kind.into(), deps: vec![], body, hlc: n, traceparent: None };
            let fact = log.append(&key(1), draft).expect("appends");
            let record = LogRecord::Fact(fact.sealed().clone());
            store.disk.put(record.key().expect("a key"), Some(record.value()));
        }
        store
    }

    pub(crate) fn open(&self) -> Result<(bool, NodeCore), OpenError> {
        let mut opening = Opening::over(self.charter.mesh_id(), self.disk.clone(), 0);
        let known = opening.knows_facts();
        let records = self.disk.records.lock().expect("unpoisoned").clone();
        records.iter().try_for_each(|(key, value)| opening.take(key, value))?;
        let config = NodeConfig { epoch_changes: self.epoch_changes, ..config(key(1), HQ, &self.charter) };
        let core = NodeCore::open_with(config, opening, NOW)?;
        Ok((known, core))
    }

    /// Makes durable what the core says; gives when it wants to be woken, and why.
    pub(crate) fn save(&self, core: &mut NodeCore) -> Option<(u64, Timer)> {
        loop {
            match core.poll() {
                Output::Persist(record) => self.disk.put(record.key, record.value),
                Output::Idle { until } => return until,
                _ => {}
            }
        }
    }

    pub(crate) fn stop_in_order(&self, core: &NodeCore) {
        core.index().for_each(|record| self.disk.put(record.key, record.value));
    }
}

#[test]
fn an_index_is_gone_before_anything_that_it_does_not_know_of() {
    let store = Store::found();
    let (known, mut core) = store.open().expect("opens");
    store.save(&mut core);
    assert!(!known && !store.disk.has_index());
    store.stop_in_order(&core);

    let (known, mut core) = store.open().expect("opens");
    assert!(known && store.disk.has_index());
    let Output::Persist(first) = core.poll() else { panic!("nothing is persisted first") };
    assert_eq!((first.key.as_slice(), first.value), (INDEX_HEAD, None));
    store.disk.put(first.key, None);
    store.save(&mut core);
    assert!(!store.open().expect("opens").0, "a crash now leaves no index");
}

#[test]
fn what_no_fold_looks_into_is_not_read_at_a_start() {
    let store = Store::found();
    let (_, mut whole) = store.open().expect("opens");
    store.save(&mut whole);
    store.stop_in_order(&whole);
    store.disk.facts_read();
    let (known, core) = store.open().expect("opens");
    // The end of the chain, which is the fact of the budget.
    assert_eq!((known, store.disk.facts_read()), (true, 1));
    assert_eq!(format!("{:?}", core.sync_view(NOW)), format!("{:?}", whole.sync_view(NOW)));
    assert_eq!(core.self_view(NOW).facts, TELEMETRY + 1);
    assert_eq!(core.escrow, whole.escrow, "the books know how far the chain goes");
    assert_eq!(store.disk.facts_read(), 0, "no view of every minute reads the store");
    assert_eq!((core.audit_tail(3, None).len(), store.disk.facts_read()), (3, 3));
    assert_eq!(core.damage(), None);
}

#[test]
fn what_was_shelved_is_not_read_at_a_start_either() {
    let store = Store::found();
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    core.log.shelve(&telemetry(), &[TELEMETRY + 1], true);
    store.stop_in_order(&core);
    store.disk.facts_read();
    let (_, core) = store.open().expect("opens");
    assert!(store.disk.facts_read() <= 1, "at most to see that it is there");
    assert_eq!(core.escrow.facts().count(), 0);
}

#[test]
fn a_record_that_is_lost_after_a_clean_stop_is_told_when_it_is_asked_for() {
    let store = Store::found();
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    store.stop_in_order(&core);
    let lost = core.log.at(&telemetry(), 7).expect("held");
    let record = LogRecord::Fact(lost.sealed().clone());
    store.disk.put(record.key().expect("a key"), None);
    let (known, core) = store.open().expect("opens");
    assert!(known && core.damage().is_none());
    assert!(core.verify().iter().any(|check| check.name == "chains" && !check.ok));
    assert!(core.damage().expect("told").to_string().contains("position 7"));
    // And after a crash the start itself finds it.
    store.disk.put(INDEX_HEAD.to_vec(), None);
    assert!(matches!(store.open(), Err(OpenError::Log(_))));
}
