//! Closed epochs in the store: a start reads nothing of them but what it needs, and says the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_crdt::doc::{DocId, DocKey, Documents, Edit, Field, KIND, KIND_SEAL};
use cauldron_crdt::{ChainId, Draft, FactLog, Record as LogRecord};
use cauldron_identity::{Clock, Fact, Scope};

use crate::opening_tests::Store;
use crate::testing::{NOW, key};
use crate::{Input, NodeCore, Output, Timer};

/// What an epoch takes here.
const CHANGES: u64 = 8;

fn sites() -> DocKey {
    DocKey { scope: Scope::mesh(), doc: DocId::sites() }
}

/// Two readers of one document, each with its own chain.
struct Pair {
    logs: [FactLog; 2],
    docs: [Documents; 2],
    facts: Vec<Arc<Fact>>,
}

impl Pair {
    fn new(store: &Store) -> Self {
        let docs = [0, 1].map(|who| {
            let mut docs = Documents::with_epoch(CHANGES);
            docs.set_author(&key(who + 1).author_id(), 0);
            docs
        });
        Self { logs: [0, 1].map(|_| FactLog::new(store.charter.mesh_id())), docs, facts: Vec::new() }
    }

    fn say(&mut self, who: usize, kind: &str, body: Vec<u8>) {
        let (scope, hlc) = (Scope::mesh(), self.facts.len() as u64 + 1);
        let draft = Draft { scope, incarnation: 0, kind: kind.into(), deps: vec![], body, hlc, traceparent: None };
        let fact = self.logs[who].append(&key(who as u8 + 1), draft).expect("appends");
        for docs in &mut self.docs {
            match kind {
                KIND_SEAL => docs.apply_seal(&fact, true),
                _ => docs.apply(&fact, true),
            };
        }
        self.facts.push(fact);
    }

    fn set(&mut self, value: i64) {
        let fields = [("lyon.k".to_owned(), Some(Field::Int(value)))].into();
        let bodies = self.docs[0].edit(&sites(), &Edit::Row { row: "lyon".into(), fields }).expect("fits");
        bodies.into_iter().for_each(|body| self.say(0, KIND, body));
        for who in [0, 1] {
            for due in self.docs[who].seals_due() {
                if let Some(body) = self.docs[who].seal(&due).or_else(|| self.docs[who].seal(&due)) {
                    self.say(who, KIND_SEAL, body);
                }
            }
        }
    }
}

/// A store with a document of several epochs.
fn store() -> (Store, Pair) {
    store_of(5)
}

fn store_of(epochs: i64) -> (Store, Pair) {
    let mut store = Store::empty();
    store.epoch_changes = CHANGES;
    let mut pair = Pair::new(&store);
    (0..epochs * CHANGES as i64).for_each(|n| pair.set(n));
    for fact in &pair.facts {
        let record = LogRecord::Fact(fact.sealed().clone());
        store.disk.put(record.key().expect("a key"), Some(record.value()));
    }
    (store, pair)
}

/// What anybody can ask of the document, whichever of its epochs are closed.
fn told(core: &NodeCore) -> BTreeSet<String> {
    let key = sites();
    let closed = core.doc_closed_epochs(&key);
    let history = closed.iter().map(|(epoch, _)| core.doc_closed_history(&key, *epoch).expect("closed").run());
    let mut history: Vec<_> = history.flat_map(|steps| core.doc_steps(&steps.expect("reads"))).collect();
    history.extend(core.doc_history(&key, None).expect("built"));
    let view = core.doc_view(NOW, &key).map(|view| (view.summary, view.content));
    let facts = core.document_facts(&key).into_iter().map(|fact| format!("{:?}", fact.id()));
    let told = history.iter().map(|step| format!("{step:?}")).chain(facts);
    told.chain([format!("{view:?}"), format!("{:?}", core.doc_blame(&key))]).collect()
}

#[test]
fn a_start_reads_no_fact_of_a_closed_epoch_but_those_it_needs() {
    let (store, pair) = store();
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    assert_eq!(core.doc_closed_epochs(&sites()).iter().map(|(_, changes)| *changes).collect::<Vec<_>>(), [CHANGES; 4]);
    let before = told(&core);
    store.stop_in_order(&core);
    store.disk.facts_read();

    let (known, mut core) = store.open().expect("opens");
    let (read, all) = (store.disk.facts_read(), pair.facts.len());
    assert!(known && read < all / 2, "{read} of {all}");
    assert!(told(&core) == before);
    store.save(&mut core);
    // After a crash all are read, and come to the same.
    let (known, mut core) = store.open().expect("opens");
    assert!(!known && told(&core) == before);
    store.save(&mut core);
    store.stop_in_order(&core);
    store.disk.facts_read();
    assert!(store.open().is_ok_and(|(known, _)| known) && store.disk.facts_read() == read, "and are left alone again");
}

#[test]
fn what_was_kept_of_an_epoch_and_is_of_no_use_is_made_anew_from_the_facts() {
    let (store, _) = store();
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    let before = told(&core);
    store.stop_in_order(&core);
    let spoiled = store.disk.spoil(b"l/epoch/");
    assert_eq!(spoiled, 4);
    let (known, mut core) = store.open().expect("opens");
    store.save(&mut core);
    assert!(known);
    assert!(told(&core) == before, "the index says that their facts need not be read, and they are all the same");
}

#[test]
fn what_comes_for_a_closed_epoch_opens_it_in_the_store_too() {
    let (store, pair) = store();
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    assert_eq!(store.disk.count(b"l/epoch/"), 4);
    // Somebody else's word on the first epoch, which its author had not got across.
    let mut late = Documents::with_epoch(CHANGES);
    late.set_author(&key(3).author_id(), 0);
    late.apply(&pair.facts[0], true);
    let fields = [("hq.k".to_owned(), Some(Field::Int(1)))].into();
    let body = late.edit(&sites(), &Edit::Row { row: "hq".into(), fields }).expect("fits").remove(0);
    let draft = Draft {
        scope: Scope::mesh(),
        incarnation: 0,
        kind: KIND.into(),
        deps: vec![],
        body,
        hlc: 1,
        traceparent: None,
    };
    let fact = FactLog::new(store.charter.mesh_id()).append(&key(3), draft).expect("appends");
    let record = LogRecord::Fact(fact.sealed().clone());
    store.disk.put(record.key().expect("a key"), Some(record.value()));
    let (_, mut core) = store.open().expect("opens");
    store.save(&mut core);
    assert_eq!(store.disk.count(b"l/epoch/"), 3);
    let steps = core.doc_history(&sites(), Some(0)).expect("open");
    let late = steps.iter().find(|step| step.fact == fact.id().to_string()).expect("told");
    assert!(late.left_out.is_some() && steps.len() as u64 == CHANGES + 1, "{}", steps.len());
}

#[test]
fn many_facts_are_packed_one_part_after_the_other_without_anybody_asking() {
    let (store, _) = store_of(40);
    let (_, mut core) = store.open().expect("opens");
    let until = store.save(&mut core);
    let at_first = store.disk.count(b"l/epoch/");
    assert!((1..39).contains(&at_first), "{at_first}");
    let (at_ms, timer) = until.expect("it wants to go on");
    assert_eq!(timer, Timer::Pack);
    core.handle(Clock { boottime_ms: at_ms, ..NOW }, Input::Tick);
    store.save(&mut core);
    assert_eq!(store.disk.count(b"l/epoch/"), 39, "as many as are closed");
}

#[test]
fn what_seals_cover_is_packed_before_its_summary_is_kept_and_nothing_else() {
    let (store, pair) = store();
    let (_, mut core) = store.open().expect("opens");
    let mut kept = Vec::new();
    loop {
        match core.poll() {
            Output::Persist(record) => {
                kept.push(String::from_utf8_lossy(&record.key[..3]).into_owned());
                store.disk.put(record.key, record.value);
            }
            Output::Idle { .. } => break,
            _ => {}
        }
    }
    let (packs, stubs) = (store.disk.count(b"p/"), kept.iter().filter(|prefix| prefix.starts_with("f/")).count());
    // The last epoch but one is open, and its facts lie where they did; so do seals.
    assert!(packs > 0 && stubs > 0 && stubs as u64 <= 4 * CHANGES, "{packs} packs, {stubs} stubs");
    let first = |prefix: &str| kept.iter().position(|of| of.starts_with(prefix));
    assert!(first("p/") < first("f/") && first("f/") < first("l/e"), "{kept:?}");
    let before = told(&core);
    let (_, mut core) = store.open().expect("opens");
    assert!(told(&core) == before, "all of it comes back");
    store.save(&mut core);
    store.stop_in_order(&core);
    let (known, core) = store.open().expect("opens");
    assert!(known && told(&core) == before);
    for fact in &pair.facts {
        let header = fact.header();
        let chain = ChainId { scope: header.scope.clone(), author: header.author, incarnation: header.incarnation };
        assert_eq!(core.log.at(&chain, header.seq).as_ref(), Some(fact), "to the byte");
    }
}
