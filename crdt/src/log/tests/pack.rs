//! Facts in packs: served, restored, mended and damaged like those that are not.

use super::cold::{Shelf, chain, changed, cold, over, restored, same};
use super::*;
use crate::doc::{DocKey, Documents, Edit, Field, KIND};
use crate::log::{Archive, Pack, PackBatch, Packed, Restoring, stubbed};

impl Shelf {
    fn commit(&self, batch: PackBatch) {
        batch.into_iter().for_each(|(key, value)| self.put(key, value));
    }

    fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.lock().expect("unpoisoned").clone().into_iter().collect()
    }

    /// Bytes of keys and values.
    fn bytes(&self) -> usize {
        self.all().iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn packs(&self) -> Vec<Vec<u8>> {
        self.all().into_iter().map(|(key, _)| key).filter(|key| key.starts_with(b"p/")).collect()
    }

    fn index(&self, log: &FactLog) {
        log.index().for_each(|(key, value)| self.put(key, value));
    }

    fn indexed(self: &Arc<Self>) -> Option<FactLog> {
        FactLog::indexed(MESH, &(self.clone() as Arc<dyn Archive>), 0)
    }
}

/// Packs every fact that can be; gives the number of packs.
fn pack_all(shelf: &Shelf, log: &FactLog) -> usize {
    let mut packs = 0;
    for chain in log.chains() {
        let seqs: Vec<u64> = (1..=log.held(chain)).collect();
        log.pack(chain, &seqs).for_each(|batch| {
            shelf.commit(batch);
            packs += 1;
        });
    }
    packs
}

/// Every record read, whatever index there is.
fn reopened(shelf: &Arc<Shelf>) -> Result<FactLog, RestoreError> {
    let mut restoring = Restoring::over(MESH, shelf.clone(), 0);
    for (key, value) in shelf.all().iter().filter(|(key, _)| !Record::is_index(key)) {
        restoring.take(Record::read(key, value)?)?;
    }
    restoring.done()
}

/// A log of `count` facts of one chain, all of them on the shelf, and the positions of all.
fn long(count: u8) -> (Arc<Shelf>, FactLog, ChainId) {
    let shelf = Arc::new(Shelf::default());
    let mut log = over(&shelf);
    for fact in chain_of(1, &Scope::mesh(), count) {
        insert(&mut log, &fact).expect("new");
        shelf.keep(&Record::Fact(fact));
    }
    (shelf, log, chain(1, &Scope::mesh()))
}

#[test]
fn what_is_in_a_pack_comes_back_to_the_byte() {
    let (shelf, log, twin) = cold();
    let before = shelf.bytes();
    assert_eq!(pack_all(&shelf, &log), 6, "a pack for each chain");
    assert!(shelf.bytes() < before);
    same(&log, &twin);
    assert!(log.check(&members()).is_ok());
    assert_eq!(pack_all(&shelf, &log), 0, "once is enough");
    for indexed in [false, true] {
        let (by_index, again) = restored(&shelf);
        let again = again.expect("restores");
        same(&again, &twin);
        assert!(by_index == indexed && again.check(&members()).is_ok());
        shelf.index(&log);
    }
}

#[test]
fn what_is_not_durable_or_packed_or_in_order_is_left_out() {
    let shelf = Arc::new(Shelf::default());
    let mut log = over(&shelf);
    let facts = chain_of(1, &Scope::mesh(), 9);
    facts.iter().for_each(|fact| _ = insert(&mut log, fact).expect("new"));
    let chain = chain(1, &Scope::mesh());
    let packed = |seqs: &[u64]| -> Vec<Vec<u64>> {
        let seqs_of = |batch: PackBatch| {
            let seqs = batch[1..].iter().map(|(key, _)| u64::from_be_bytes(*key.last_chunk().expect("a position")));
            let seqs = seqs.collect();
            shelf.commit(batch);
            seqs
        };
        log.pack(&chain, seqs).map(seqs_of).collect()
    };
    assert_eq!(packed(&[1, 2, 3]), [[0; 0]; 0], "nothing is durable");
    [0, 1, 3, 4].iter().for_each(|at| shelf.keep(&Record::Fact(facts[*at].clone())));
    assert_eq!(packed(&[2, 1, 2, 3, 5, 4, 99]), [[2, 5]]);
    facts
        .iter()
        .enumerate()
        .filter(|(at, _)| ![1, 4].contains(at))
        .for_each(|(_, fact)| shelf.keep(&Record::Fact(fact.clone())));
    assert_eq!(packed(&[2, 3]), [[0; 0]; 0], "one alone would not be smaller");
    assert_eq!(packed(&[1, 2, 3, 4, 5, 6, 7]), [[1, 3, 4, 6, 7]]);
    assert!(FactLog::new(MESH).pack(&chain, &[1]).next().is_none());
    log.chill();
    assert!(log.iter().map(|fact| fact.sealed().clone()).eq(facts));
    assert_eq!((log.hot_bytes(), log.damage()), (0, None));
}

#[test]
fn a_fact_whose_record_is_in_a_pack_leaves_memory_once_the_pack_gives_it_back() {
    for damaged in [false, true] {
        let (shelf, mut log, chain) = long(5);
        assert_eq!(pack_all(&shelf, &log), 1);
        if damaged {
            shelf.change(&shelf.packs()[0], |value| value[20] ^= 1);
        }
        log.chill();
        let told = log.damage().map(ToString::to_string).unwrap_or_default();
        assert_eq!(log.hot_bytes() > 0, damaged);
        assert_eq!(
            told.contains("position 1 is damaged: its pack, which begins at position 1, is damaged"),
            damaged,
            "{told}"
        );
        assert!((1..=5).all(|seq| log.at(&chain, seq).is_some()));
    }
}

#[test]
fn a_copy_that_memory_has_mended_is_not_packed() {
    let (scope, shelf) = (Scope::mesh(), Arc::new(Shelf::default()));
    let (good, mut log, chain) = (chain_of(1, &scope, 9), over(&shelf), chain(1, &scope));
    let mut range = good.clone();
    range[3] = changed(&good[3]);
    let taken = log.insert_range(&chain, 1, range, &members());
    taken.new.iter().for_each(|fact| shelf.keep(&Record::Fact(fact.sealed().clone())));
    log.settle(100, &members());
    log.chill();
    let Ok(Inserted::Mended(mended)) = insert(&mut log, &good[3]) else { panic!("not mended") };
    let batches: Vec<PackBatch> = log.pack(&chain, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).collect();
    let stubs = batches.iter().map(|batch| batch.len() - 1).sum::<usize>();
    assert_eq!(stubs, 8, "the better copy is on its way to the store, and the pack would come behind it");
    shelf.keep(&Record::Fact(mended.sealed().clone()));
    batches.into_iter().for_each(|batch| shelf.commit(batch));
    assert!(reopened(&shelf).expect("restores").iter().map(|fact| fact.sealed().clone()).eq(good));
}

#[test]
fn a_mended_fact_wins_and_no_pack_takes_the_place_of_another() {
    crate::testing::wake();
    let (shelf, mut log, chain) = long(40);
    let twin: Vec<Arc<Fact>> = log.iter().collect();
    log.pack(&chain, &(1..=20).collect::<Vec<_>>()).for_each(|batch| shelf.commit(batch));
    // The first one comes anew, and begins a pack of its own with others.
    shelf.keep(&Record::Fact(twin[0].sealed().clone()));
    let again: Vec<u64> = std::iter::once(1).chain(21..=40).collect();
    log.pack(&chain, &again).for_each(|batch| shelf.commit(batch));
    log.chill();
    assert!(log.iter().eq(twin.iter().cloned()), "{:?}", log.damage());
    assert_eq!((shelf.packs().len(), log.hot_bytes()), (2, 0));
    shelf.keep(&Record::Fact(twin[6].sealed().clone()));
    assert!(reopened(&shelf).expect("restores").iter().eq(twin));
}

#[test]
fn a_pack_that_is_damaged_or_gone_is_damage_of_the_facts_in_it() {
    let (shelf, log, chain) = long(7);
    log.pack(&chain, &[1, 2, 3, 4, 5]).for_each(|batch| shelf.commit(batch));
    shelf.index(&log);
    let (key, twin) = (shelf.packs().remove(0), log.iter().collect::<Vec<_>>());
    let value = shelf.read(&key).expect("reads").expect("there");
    let fails = |detail: &str| {
        let log = shelf.indexed().expect("neither end is in the pack");
        assert_eq!((log.at(&chain, 7), log.damage()), (Some(twin[6].clone()), None));
        assert_eq!(log.at(&chain, 2), None);
        let told = log.damage().expect("told").to_string();
        assert!(
            told.contains("position 2 is damaged: its pack, which begins at position 1, ") && told.contains(detail),
            "{told}"
        );
        let Err(RestoreError::Damaged(damage)) = reopened(&shelf) else { panic!("opened") };
        assert!(damage.place.contains("position 1") && damage.detail.contains(detail), "{damage}");
    };
    for at in 0..value.len() {
        shelf.change(&key, |value| value[at] ^= 1 << (at % 8));
        fails("is damaged");
        shelf.put(key.clone(), value.clone());
    }
    shelf.change(&key, |value| value.truncate(30));
    fails("is damaged");
    shelf.0.lock().expect("unpoisoned").remove(&key);
    fails("is missing");
    shelf.put(key, value);
    assert!(reopened(&shelf).expect("restores").iter().eq(twin));
}

#[test]
fn a_stub_that_is_damaged_or_elsewhere_names_nothing() {
    let (shelf, log, chain) = long(7);
    log.pack(&chain, &[1, 2, 3, 4, 5]).for_each(|batch| shelf.commit(batch));
    let key = |seq| Record::Fact(log.at(&chain, seq).expect("held").sealed().clone()).key().expect("a key");
    let stub = shelf.read(&key(2)).expect("reads").expect("there");
    let Ok(Record::Packed(packed)) = Record::read(&key(2), &stub) else { panic!("a stub") };
    assert!(Packed::is_stub(&stub) && [packed.pack_key()] == *shelf.packs());
    for bit in 0..stub.len() * 8 {
        shelf.change(&key(2), |value| value[bit / 8] ^= 1 << (bit % 8));
        assert!(reopened(&shelf).is_err(), "bit {bit}");
        shelf.put(key(2), stub.clone());
    }
    let whole = shelf.read(&key(6)).expect("reads").expect("there");
    shelf.put(key(6), stub);
    let Err(RestoreError::Damaged(damage)) = reopened(&shelf) else { panic!("opened") };
    assert!(damage.to_string().ends_with("does not hold it") && damage.place.contains("position 6"), "{damage}");
    shelf.put(key(6), whole);
    assert!(reopened(&shelf).is_ok());
}

#[test]
fn a_pack_of_other_facts_is_none() {
    let (_, log, chain) = long(7);
    let sealed = |seq| log.at(&chain, seq).expect("held").sealed().clone();
    let facts = |seqs: &[u64]| -> Vec<(u64, SealedFact)> { seqs.iter().map(|seq| (*seq, sealed(*seq))).collect() };
    let read = |of: &ChainId, pack: Pack| {
        let shelf = Shelf::default();
        let batch = stubbed(of, 1, pack.value(), [1]);
        let (key, stub) = batch[1].clone();
        shelf.commit(batch);
        crate::log::Packs::default().whole(&shelf, &key, stub)
    };
    assert_eq!(read(&chain, Pack::of(&chain, &facts(&[1, 2]))), Ok(to_cbor(&sealed(1))));
    let other = super::cold::chain(2, &Scope::mesh());
    let fails = |result: Result<Vec<u8>, String>, why: &str| assert!(result.expect_err(why).contains(why));
    fails(read(&other, Pack::of(&other, &facts(&[1, 2]))), "another chain");
    fails(read(&chain, Pack::of(&chain, &facts(&[1, 2, 1]))), "two facts for one position");
    fails(read(&chain, Pack::of(&chain, &facts(&[2, 3]))), "does not hold it");
}

#[test]
fn a_log_without_an_archive_takes_packs_as_they_come() {
    let (shelf, log, twin) = cold();
    pack_all(&shelf, &log);
    for reverse in [false, true] {
        let mut records = shelf.records();
        if reverse {
            records.reverse();
        }
        let back = FactLog::restore(MESH, records, Some(&members())).expect("restores");
        same(&back, &twin);
    }
    let without = shelf.records().into_iter().filter(|record| !matches!(record, Record::Pack(_)));
    let Err(RestoreError::Damaged(damage)) = FactLog::restore(MESH, without, None) else { panic!("restored") };
    assert!(damage.to_string().ends_with("is missing"), "{damage}");
}

/// Facts that change a document, as nodes write them.
fn changes(count: u64) -> (Arc<Shelf>, FactLog, ChainId) {
    let shelf = Arc::new(Shelf::default());
    let (mut log, mut docs) = (over(&shelf), Documents::new());
    docs.set_author(&key(1).author_id(), 0);
    let board = DocKey { scope: Scope::mesh(), doc: "config/main".parse().expect("a document") };
    for n in 0..count {
        let field = ["status", "owner", "since", "note"][n as usize % 4];
        let value = format!("{} at {}", ["up", "down", "degraded"][n as usize % 3], 1_795_000_000 + n * 61);
        let fields = BTreeMap::from([(field.to_owned(), Some(Field::from(value.as_str())))]);
        for body in docs.edit(&board, &Edit::Row { row: format!("site-{}", n % 20), fields }).expect("fits") {
            let hlc = (1_795_000_000_000 + n * 61_337) << 16;
            let fact = log.append(&key(1), Draft { kind: KIND.into(), hlc, ..draft(&Scope::mesh(), &body) });
            let fact = fact.expect("appends");
            docs.apply(&fact, true);
            shelf.keep(&Record::Fact(fact.sealed().clone()));
        }
    }
    (shelf, log, chain(1, &Scope::mesh()))
}

#[test]
fn changes_of_a_document_shrink_to_half() {
    let (shelf, log, chain) = changes(400);
    let (before, values) = (shelf.bytes(), shelf.all().iter().map(|(_, value)| value.len()).sum::<usize>());
    let packs = pack_all(&shelf, &log);
    let sum = |prefix: &[u8]| -> usize {
        let all = shelf.all();
        all.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, value)| value.len()).sum()
    };
    let (packed, stubs) = (sum(b"p/"), sum(b"f/"));
    println!(
        "{} facts: {before} B with keys, {values} B of records; {packed} B in {packs} packs, {stubs} B of stubs",
        log.held(&chain)
    );
    assert!((packed + stubs) * 2 < values, "{packed} + {stubs} of {values}");
    assert!(
        shelf
            .packs()
            .iter()
            .all(|key| shelf.read(key).expect("reads").expect("there").len() <= crate::limits::PACK_LEN_AIM)
    );
    assert!(reopened(&shelf).expect("restores").iter().eq(log.iter()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is packed when, and however the log comes back: every fact, to the byte.
    #[test]
    fn any_packs_of_any_facts_give_the_same_log(
        deeds in proptest::collection::vec((0u8..12, any::<u8>(), any::<u8>(), any::<bool>()), 20..160),
        flipped in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let shelf = Arc::new(Shelf::default());
        let (mut log, mut twin) = (over(&shelf), FactLog::new(MESH));
        let chains: Vec<(u8, Scope)> = [1, 2].into_iter()
            .flat_map(|seed| [Scope::mesh(), Scope::site("lyon").expect("a name")].map(|scope| (seed, scope)))
            .collect();
        let mut pending = Vec::new();
        for (deed, a, b, flag) in deeds {
            let (seed, scope) = &chains[usize::from(a % 4)];
            let of = chain(*seed, scope);
            match deed {
                0..=5 => {
                    let body: Vec<u8> = (0..usize::from(b) * 3).map(|i| if flag { (i * i) as u8 ^ b } else { b }).collect();
                    let said = Draft { hlc: u64::from(b) << 20, ..draft(scope, &body) };
                    twin.append(&key(*seed), said.clone()).expect("appends");
                    pending.push(log.append(&key(*seed), said).expect("appends"));
                }
                6 => pending.drain(..).for_each(|fact| shelf.keep(&Record::Fact(fact.sealed().clone()))),
                7 | 8 => {
                    let some = |seq: &u64| !(seq * u64::from(b)).is_multiple_of(3) || flag;
                    let seqs: Vec<u64> = (1..=log.held(&of)).filter(some).collect();
                    log.pack(&of, &seqs).for_each(|batch| shelf.commit(batch));
                }
                9 => log.chill(),
                10 => {
                    if let Some(fact) = twin.at(&of, u64::from(b % 40)).filter(|_| pending.is_empty()) {
                        shelf.keep(&Record::Fact(fact.sealed().clone()));
                    }
                }
                _ => {
                    pending.drain(..).for_each(|fact| shelf.keep(&Record::Fact(fact.sealed().clone())));
                    shelf.0.lock().expect("unpoisoned").retain(|key, _| !Record::is_index(key));
                    if flag {
                        shelf.index(&log);
                    }
                    let (indexed, again) = restored(&shelf);
                    prop_assert_eq!(indexed, flag);
                    log = again.expect("restores");
                }
            }
        }
        same(&log, &twin);
        prop_assert!(log.check(&members()).is_ok());

        pending.drain(..).for_each(|fact| shelf.keep(&Record::Fact(fact.sealed().clone())));
        let packs = shelf.packs();
        if !packs.is_empty() {
            let pack = flipped.get(&packs);
            shelf.change(pack, |value| {
                let at = flipped.index(value.len());
                value[at] ^= 1 << bit;
            });
            let mut restoring = Restoring::over(MESH, shelf.clone(), 0);
            let all = shelf.all().into_iter().filter(|(key, _)| !Record::is_index(key) && key != pack);
            let read = all.map(|(key, value)| Record::read(&key, &value).and_then(|record| restoring.take(record)));
            // Either nobody reads it any more, or it is found.
            match read.collect::<Result<(), _>>().and_then(|()| restoring.done()) {
                Ok(log) => same(&log, &twin),
                Err(why) => prop_assert!(why.to_string().contains("its pack"), "{}", why),
            }
        }
    }
}
