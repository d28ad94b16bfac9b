//! Facts that left memory: served, mended, contradicted and damaged like those that did not.

use std::sync::Mutex;

use super::*;
use crate::log::{Archive, INDEX_HEAD, Restoring};

/// A store: what was committed, and nothing else.
#[derive(Default)]
pub(super) struct Shelf(pub Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Archive for Shelf {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().expect("unpoisoned").get(key).cloned())
    }
}

impl Shelf {
    pub fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        self.0.lock().expect("unpoisoned").insert(key, value);
    }

    pub fn keep(&self, record: &Record) {
        self.put(record.key().expect("a key"), record.value());
    }

    pub fn change(&self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
        change(self.0.lock().expect("unpoisoned").get_mut(key).expect("kept"));
    }

    pub fn records(&self) -> Vec<Record> {
        let kept = self.0.lock().expect("unpoisoned");
        let of_log = kept.iter().filter(|(key, _)| !key.starts_with(b"x/"));
        of_log.map(|(key, value)| Record::read(key, value).expect("a record")).collect()
    }
}

pub(super) fn over(shelf: &Arc<Shelf>) -> FactLog {
    FactLog::over(MESH, shelf.clone(), 0)
}

pub(super) fn restored(shelf: &Arc<Shelf>) -> (bool, Result<FactLog, RestoreError>) {
    let mut restoring = Restoring::from(MESH, shelf.clone(), 0);
    let indexed = restoring.is_indexed();
    let taken = shelf.records().into_iter().try_for_each(|record| restoring.take(record));
    (indexed, taken.and_then(|()| restoring.done()))
}

pub(super) fn chain(seed: u8, scope: &Scope) -> ChainId {
    ChainId { scope: scope.clone(), author: key(seed).author_id(), incarnation: 0 }
}

/// A log of which everything is on the shelf and nothing in memory, and its twin that keeps all in memory.
pub(super) fn cold() -> (Arc<Shelf>, FactLog, FactLog) {
    crate::testing::wake();
    let shelf = Arc::new(Shelf::default());
    let (mut log, (twin, records)) = (over(&shelf), filled());
    for record in &records {
        match record {
            Record::Fact(fact) => _ = insert(&mut log, fact).expect("new"),
            Record::Evidence(evidence) => _ = log.insert_evidence(evidence.clone(), &members()).expect("proof"),
            Record::Mark(_) | Record::Packed(_) | Record::Pack(_) => {}
        }
        shelf.keep(record);
    }
    log.chill();
    assert_eq!(log.hot_bytes(), 0);
    (shelf, log, twin)
}

pub(super) fn same(one: &FactLog, other: &FactLog) {
    assert_eq!(one.state_hash_of(&scopes()), other.state_hash_of(&scopes()));
    assert!(one.iter().eq(other.iter()));
    assert!(one.rows().eq(other.rows()));
    assert_eq!((one.len(), one.unproven()), (other.len(), other.unproven()));
    assert_eq!(one.damage(), None);
}

#[test]
fn what_left_memory_is_served_as_if_it_had_not() {
    let (_shelf, log, twin) = cold();
    same(&log, &twin);
    let chain = chain(1, &Scope::mesh());
    assert_eq!(log.range(&chain, 1, 3, usize::MAX), twin.range(&chain, 1, 3, usize::MAX));
    for fact in twin.iter() {
        assert_eq!(log.get(&fact.id()), Some(fact.clone()));
        assert!(log.contains(&fact.id()));
    }
    assert_eq!(log.of_kind("note").count(), twin.of_kind("note").count());
    assert!(log.check(&members()).is_ok());
    assert_eq!((log.get(&FactId::from_bytes([9; 32])), log.damage()), (None, None));
}

#[test]
fn a_fact_stays_in_memory_until_the_store_gives_it_back() {
    let shelf = Arc::new(Shelf::default());
    let mut log = over(&shelf);
    let facts = chain_of(1, &Scope::mesh(), 3);
    facts.iter().for_each(|fact| _ = insert(&mut log, fact).expect("new"));
    log.chill();
    assert!(log.iter().map(|fact| fact.sealed().clone()).eq(facts.clone()), "nothing is durable yet");
    let all = log.hot_bytes();
    shelf.keep(&Record::Fact(facts[0].clone()));
    shelf.keep(&Record::Fact(facts[2].clone()));
    log.chill();
    assert!((1..all).contains(&log.hot_bytes()));
    assert!(log.iter().map(|fact| fact.sealed().clone()).eq(facts.clone()), "the first left, the second did not");
    shelf.keep(&Record::Fact(facts[1].clone()));
    log.chill();
    assert_eq!((log.hot_bytes(), log.damage()), (0, None));
}

#[test]
fn memory_holds_the_newest_up_to_its_bound() {
    let shelf = Arc::new(Shelf::default());
    let mut log = FactLog::over(MESH, shelf.clone(), 10_000);
    for n in 0..100 {
        let fact = log.append(&key(1), draft(&Scope::mesh(), &[n; 100])).expect("appends");
        shelf.keep(&Record::Fact(fact.sealed().clone()));
        log.chill();
        assert!(log.hot_bytes() <= 10_000);
    }
    assert!(log.hot_bytes() > 8_000);
    // The newest need no store.
    let last = shelf.records().len() as u64;
    shelf.0.lock().expect("unpoisoned").clear();
    assert!(log.at(&chain(1, &Scope::mesh()), last).is_some());
    assert!(log.damage().is_none());
}

#[test]
fn a_fork_against_a_cold_fact_is_proven() {
    let scope = Scope::mesh();
    let (_shelf, mut log, _) = cold();
    let mut other = FactLog::new(MESH);
    other.append(&key(2), draft(&scope, b"another first")).expect("appends");
    let twin = other.append(&key(2), draft(&scope, b"another second")).expect("appends").sealed().clone();
    let Ok(Inserted::Fork(evidence)) = insert(&mut log, &twin) else { panic!("no fork") };
    assert_eq!(evidence.verify(MESH, &members()).map(|header| header.seq), Ok(2));
}

pub(super) fn changed(fact: &SealedFact) -> SealedFact {
    SealedFact::new(fact.header.clone(), chain_of(2, &Scope::mesh(), 1)[0].signature, fact.body().map(<[u8]>::to_vec))
}

#[test]
fn cold_signatures_are_looked_at_and_mended() {
    let scope = Scope::mesh();
    let (shelf, chain) = (Arc::new(Shelf::default()), chain(1, &scope));
    let (good, mut log) = (chain_of(1, &scope, 9), over(&shelf));
    let mut range = good.clone();
    range[3] = changed(&good[3]);
    let taken = log.insert_range(&chain, 1, range, &members());
    let new = taken.new.iter().map(|fact| Record::Fact(fact.sealed().clone()));
    new.chain(taken.mark).for_each(|record| shelf.keep(&record));
    log.chill();
    assert_eq!((log.hot_bytes(), log.unproven()), (0, 8));

    let settled = log.settle(100, &members());
    assert_eq!((settled.good, settled.bad), (7, 1));
    settled.records.iter().for_each(|record| shelf.keep(record));
    assert!(log.damaged().eq([(&chain, 4)]));
    log.index().for_each(|(key, value)| shelf.put(key, value));
    let (indexed, again) = restored(&shelf);
    let again = again.expect("restores");
    assert!(indexed && again.damaged().eq([(&chain, 4)]) && again.is_settled());

    let Ok(Inserted::Mended(mended)) = insert(&mut log, &good[3]) else { panic!("not mended") };
    log.chill();
    assert!(log.hot_bytes() > 0, "the store still has the bad copy");
    assert_eq!(log.at(&chain, 4).expect("held").sealed(), &good[3]);
    shelf.keep(&Record::Fact(mended.sealed().clone()));
    log.chill();
    assert_eq!((log.hot_bytes(), log.at(&chain, 4).expect("held").sealed()), (0, &good[3]));
    assert_eq!(log.damage(), None);
}

#[test]
fn a_damaged_archive_record_is_missing_and_reported() {
    let fact_key = |log: &FactLog, seq| {
        Record::Fact(log.at(&chain(1, &Scope::mesh()), seq).expect("held").sealed().clone()).key().expect("a key")
    };
    let another = |value: &mut Vec<u8>| *value = to_cbor(&chain_of(2, &Scope::mesh(), 2)[1]);
    let cut = |value: &mut Vec<u8>| value.truncate(value.len() / 2);
    let empty = |value: &mut Vec<u8>| value.clear();
    for change in [&another as &dyn Fn(&mut Vec<u8>), &cut, &empty] {
        let (shelf, log, twin) = cold();
        shelf.change(&fact_key(&twin, 2), change);
        let chain = chain(1, &Scope::mesh());
        assert!(log.at(&chain, 1).is_some() && log.damage().is_none());
        assert_eq!(log.at(&chain, 2), None);
        let told = log.damage().expect("reported").to_string();
        assert!(told.contains("mesh") && told.contains("position 2"), "{told}");
        assert!(matches!(log.check(&members()), Err(RestoreError::Damaged(_))));
    }
    let (shelf, log, twin) = cold();
    shelf.0.lock().expect("unpoisoned").remove(&fact_key(&twin, 3));
    assert_eq!(log.at(&chain(1, &Scope::mesh()), 3), None);
    assert!(log.damage().is_some());
}

#[test]
fn damage_is_told_while_the_fact_is_still_in_memory_and_what_is_not_there_yet_is_none() {
    let facts = chain_of(1, &Scope::mesh(), 4);
    let shelf = Arc::new(Shelf::default());
    let mut log = over(&shelf);
    facts.iter().for_each(|fact| assert!(insert(&mut log, fact).is_ok()));
    let keep = |fact: &SealedFact| shelf.keep(&Record::Fact(fact.clone()));
    keep(&facts[0]);
    log.chill();
    assert!(log.damage().is_none(), "the others are on their way");
    let key = |fact: &SealedFact| Record::Fact(fact.clone()).key().expect("a key");
    facts[1..].iter().for_each(keep);
    shelf.change(&key(&facts[2]), |value: &mut Vec<u8>| value.truncate(9));
    log.chill();
    let told = log.damage().expect("told").to_string();
    assert!(told.contains("position 3"), "{told}");
    let chain = chain(1, &Scope::mesh());
    assert!((1..=4).all(|seq| log.at(&chain, seq).is_some()), "nothing was let go of");
}

#[test]
fn an_index_brings_back_what_the_records_do() {
    let (shelf, mut log, _) = cold();
    log.shelve(&chain(1, &Scope::mesh()), &[2], true);
    let by_records = restored(&shelf);
    assert!(!by_records.0);
    log.index().for_each(|(key, value)| shelf.put(key, value));
    let (indexed, by_index) = restored(&shelf);
    let (mut by_records, by_index) = (by_records.1.expect("restores"), by_index.expect("restores"));
    assert!(indexed);
    same(&by_index, &log);
    assert_ne!(by_index.rows().position(|row| row.shelved), None, "what was shelved is");
    by_records.shelve(&chain(1, &Scope::mesh()), &[2], true);
    same(&by_records, &by_index);
    assert!(by_records.index().eq(by_index.index()));
    // It goes on as before.
    let mut by_index = by_index;
    let next = by_index.append(&key(2), draft(&Scope::authority(), b"next")).expect("appends");
    assert_eq!(next.header().seq, 3);
    assert_eq!(by_index.get(&next.id()), Some(next));
}

#[test]
fn an_index_that_does_not_hold_together_is_none() {
    let (shelf, log, twin) = cold();
    let index: Vec<(Vec<u8>, Vec<u8>)> = log.index().collect();
    assert_eq!((index.len(), index[1].0.as_slice()), (2, INDEX_HEAD));
    let put = || index.iter().for_each(|(key, value)| shelf.put(key.clone(), value.clone()));
    let falls_back = |why: &str| {
        let (indexed, log) = restored(&shelf);
        assert!(!indexed, "{why}");
        same(&log.expect("restores"), &twin);
        put();
    };
    put();
    assert!(restored(&shelf).0);
    for (key, value) in &index {
        for bit in 0..value.len() * 8 {
            shelf.change(key, |value| value[bit / 8] ^= 1 << (bit % 8));
            assert!(FactLog::indexed(MESH, &(shelf.clone() as Arc<dyn Archive>), 0).is_none(), "bit {bit}");
            put();
        }
        shelf.change(key, |value| value.truncate(value.len() - 1));
        falls_back("cut short");
        shelf.change(key, |value| value.push(0));
        falls_back("too long");
        shelf.0.lock().expect("unpoisoned").remove(key);
        falls_back("gone");
    }
    shelf.0.lock().expect("unpoisoned").retain(|key, _| !key.starts_with(b"f/"));
    assert!(!restored(&shelf).0, "of facts that are not there");
}
