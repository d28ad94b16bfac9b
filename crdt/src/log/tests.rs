use cauldron_identity::codec::to_cbor;
use proptest::prelude::*;

use super::*;
use crate::limits::{VOUCH_SPAN, VOUCHED_LEN_MAX};
use crate::testing::{MESH, Members, draft, key, scopes};

mod cold;
mod pack;
mod range;

fn members() -> Members {
    let mut members = Members::default();
    members.enrol(&key(1), None);
    members.enrol(&key(2), Some("lyon"));
    members
}

fn chain_of(seed: u8, scope: &Scope, count: u8) -> Vec<SealedFact> {
    let mut log = FactLog::new(MESH);
    (0..count).map(|i| log.append(&key(seed), draft(scope, &[i])).expect("appends").sealed().clone()).collect()
}

fn evidence(one: &SealedFact, other: &SealedFact) -> Evidence {
    Evidence::new(std::slice::from_ref(one), std::slice::from_ref(other))
}

fn insert(log: &mut FactLog, fact: &SealedFact) -> Result<Inserted, Refusal> {
    log.insert(fact.clone(), &members())
}

#[track_caller]
fn refused(result: Result<Inserted, Refusal>, code: &str) {
    assert_eq!(result.expect_err("refused").code(), code);
}

#[test]
fn a_chain_grows_without_gaps_and_knows_duplicates() {
    let facts = chain_of(1, &Scope::mesh(), 3);
    let mut log = FactLog::new(MESH);
    refused(insert(&mut log, &facts[1]), "gap");
    for fact in &facts {
        assert!(matches!(insert(&mut log, fact), Ok(Inserted::New(f)) if f.id() == fact.id()));
        assert_eq!(insert(&mut log, fact), Ok(Inserted::Duplicate));
    }
    let head = log.vector(&Scope::mesh());
    assert_eq!((head.len(), head[0].seq, head[0].id), (1, 3, facts[2].id()));
    assert_eq!(log.get(&facts[1].id()).expect("held").sealed(), &facts[1]);
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut log = FactLog::new(MESH);
    let good = &chain_of(1, &Scope::mesh(), 1)[0];
    let empty = log.state_hash_of(&scopes());

    refused(insert(&mut log, &good.without_body()), "body-missing");
    refused(insert(&mut log, &SealedFact::new(good.header.clone(), good.signature, Some(b"x".to_vec()))), "bad-body");
    let other = chain_of(1, &Scope::authority(), 1).remove(0);
    let signed_otherwise = SealedFact::new(good.header.clone(), other.signature, good.body().map(<[u8]>::to_vec));
    refused(insert(&mut log, &signed_otherwise), "bad-signature");
    refused(insert(&mut log, &SealedFact::new(vec![0xff; 10], good.signature, None)), "malformed");
    refused(insert(&mut log, &chain_of(9, &Scope::mesh(), 1)[0]), "unknown-author");
    refused(insert(&mut log, &chain_of(2, &Scope::site("porto").expect("a name"), 1)[0]), "not-a-writer");
    let mut foreign = FactLog::new(MeshId::from_bytes([8; 32]));
    let foreign = foreign.append(&key(1), draft(&Scope::mesh(), b"")).expect("appends");
    refused(insert(&mut log, foreign.sealed()), "wrong-mesh");

    assert!(log.is_empty());
    assert_eq!(log.state_hash_of(&scopes()), empty);
}

#[test]
fn a_fork_freezes_the_chain_and_the_evidence_convinces_others() {
    let scope = Scope::mesh();
    let facts = chain_of(1, &scope, 4);
    let mut other = FactLog::new(MESH);
    facts[..2].iter().for_each(|f| assert!(insert(&mut other, f).is_ok()));
    let twin = other.append(&key(1), draft(&scope, b"another third")).expect("appends").sealed().clone();
    let after_twin = other.append(&key(1), draft(&scope, b"its fourth")).expect("appends").sealed().clone();

    let mut log = FactLog::new(MESH);
    facts[..3].iter().for_each(|f| assert!(insert(&mut log, f).is_ok()));
    refused(insert(&mut log, &after_twin), "diverged");
    let Ok(Inserted::Fork(evidence)) = insert(&mut log, &twin) else { panic!("no fork") };
    assert_eq!(evidence.verify(MESH, &members()).map(|h| h.seq), Ok(3));
    refused(insert(&mut log, &facts[3]), "forked");
    refused(insert(&mut log, &twin), "forked");
    assert_eq!(insert(&mut log, &facts[2]), Ok(Inserted::Duplicate));
    assert_eq!(log.get(&facts[2].id()).map(|f| f.id()), Some(facts[2].id()), "the first one seen stays");

    let mut third = FactLog::new(MESH);
    insert(&mut third, &facts[0]).expect("is new");
    assert!(matches!(third.insert_evidence(*evidence.clone(), &members()), Ok(Inserted::Fork(_))));
    assert_eq!(third.insert_evidence(*evidence, &members()), Ok(Inserted::Duplicate));
    insert(&mut third, &facts[1]).expect("what lies below the fork is still taken");
    refused(insert(&mut third, &facts[2]), "forked");
    assert_eq!(log.state_hash(&scope), third.state_hash(&scope), "both know as much that counts");
    assert_eq!(third.append(&key(1), draft(&scope, b"")).expect_err("frozen").code(), "forked");
}

#[test]
fn the_state_hash_tells_branches_of_one_height_apart() {
    let scope = Scope::mesh();
    let with = |body: &[u8]| {
        let mut log = FactLog::new(MESH);
        log.append(&key(1), draft(&scope, body)).expect("appends");
        log.state_hash(&scope)
    };
    assert_eq!(with(b"one"), with(b"one"));
    assert_ne!(with(b"one"), with(b"two"));
    assert_ne!(with(b"one"), FactLog::new(MESH).state_hash(&scope));
}

/// What is kept of the last answer never outlives a change: of a head, of a fork, by evidence alone, by a record.
#[test]
fn the_state_hash_follows_every_change() {
    let (one, other) = (Scope::mesh(), Scope::site("lyon").expect("a name"));
    let mut log = FactLog::new(MESH);
    let mut seen = std::collections::BTreeSet::from([log.state_hash(&one)]);
    let mut changed = |log: &FactLog| {
        let now = log.state_hash(&one);
        assert_eq!(now, log.state_hash(&one));
        assert_eq!(now, log.state_hash_of([&one]), "made anew it is the same");
        assert!(seen.insert(now), "it changed");
    };
    let facts = chain_of(1, &one, 2);
    for fact in &facts {
        insert(&mut log, fact).expect("new");
        changed(&log);
    }
    let before = log.state_hash(&one);
    log.append(&key(2), draft(&other, b"elsewhere")).expect("appends");
    assert_eq!(log.state_hash(&one), before, "another scope");
    log.append(&key(2), draft(&one, b"own")).expect("appends");
    changed(&log);
    let twin = FactLog::new(MESH).append(&key(1), draft(&one, b"twin")).expect("appends").sealed().clone();
    assert!(matches!(insert(&mut log, &twin), Ok(Inserted::Fork(_))));
    changed(&log);
    let (a, b) = (
        chain_of(2, &one, 1).remove(0),
        log.at(&ChainId { scope: one.clone(), author: key(2).author_id(), incarnation: 0 }, 1)
            .expect("own")
            .sealed()
            .clone(),
    );
    log.insert_evidence(evidence(&a, &b), &members()).expect("evidence");
    changed(&log);
}

#[test]
fn false_evidence_proves_nothing() {
    let facts = chain_of(1, &Scope::mesh(), 2);
    let mut log = FactLog::new(MESH);
    for pair in [[&facts[0], &facts[0]], [&facts[0], &facts[1]]] {
        refused(log.insert_evidence(evidence(pair[0], pair[1]), &members()), "no-evidence");
    }
    let mut other = FactLog::new(MESH);
    let twin = other.append(&key(1), draft(&Scope::mesh(), b"twin")).expect("appends");
    let forged = SealedFact::new(twin.sealed().header.clone(), facts[0].signature, None);
    refused(log.insert_evidence(evidence(&facts[0], &forged), &members()), "bad-signature");
    assert_eq!(log.fork_seq(&ChainId::of(twin.header())), None);
}

#[test]
fn a_cause_must_be_readable_by_the_readers_of_its_effect() {
    let mut log = FactLog::new(MESH);
    let site = Scope::site("lyon").expect("a name");
    let secret = log.append(&key(1), draft(&site, b"s")).expect("appends").id();
    let public = log.append(&key(1), draft(&Scope::mesh(), b"p")).expect("appends").id();
    let with = |scope: &Scope, dep| Draft { deps: vec![dep], ..draft(scope, b"") };
    assert_eq!(log.append(&key(1), with(&Scope::mesh(), secret)).expect_err("foreign").code(), "foreign-dep");
    assert!(log.append(&key(1), with(&site, public)).is_ok());
    assert!(log.append(&key(1), with(&site, secret)).is_ok());
    let large = Draft { body: vec![0; 256 * 1024 + 1], ..draft(&site, b"") };
    assert_eq!(log.append(&key(1), large).expect_err("large").code(), "too-large");
}

#[test]
fn ranges_are_bounded_and_never_empty_when_there_is_a_fact() {
    let mut log = FactLog::new(MESH);
    let scope = Scope::mesh();
    for _ in 0..5 {
        log.append(&key(1), draft(&scope, &[0; 1000])).expect("appends");
    }
    let chain = ChainId { scope, author: key(1).author_id(), incarnation: 0 };
    let count = |from, to, bytes| log.range(&chain, from, to, bytes).len();
    assert_eq!((count(1, 5, 1), count(1, 5, 3000), count(2, u64::MAX, usize::MAX)), (1, 2, 4));
    assert_eq!((count(6, 9, 1), count(0, 1, 1), count(4, 3, 1)), (0, 1, 0));
}

fn filled() -> (FactLog, Vec<Record>) {
    let mut log = FactLog::new(MESH);
    let mut records = Vec::new();
    for scope in [Scope::mesh(), Scope::authority(), Scope::site("lyon").expect("a name")] {
        for fact in chain_of(1, &scope, 3).into_iter().chain(chain_of(2, &scope, 2)) {
            insert(&mut log, &fact).expect("new");
            records.push(Record::Fact(fact));
        }
    }
    let twin = FactLog::new(MESH).append(&key(1), draft(&Scope::mesh(), b"twin")).expect("appends");
    let Ok(Inserted::Fork(evidence)) = insert(&mut log, twin.sealed()) else { panic!("no fork") };
    records.push(Record::Evidence(*evidence));
    (log, records)
}

#[test]
fn restore_gives_the_same_log_from_records_in_any_order() {
    let (log, mut records) = filled();
    records.reverse();
    for record in &records {
        let key = record.key().expect("a key");
        assert_eq!(Record::read(&key, &record.value()).as_ref(), Ok(record));
        assert!(Record::read(b"f/elsewhere", &record.value()).is_err());
    }
    for access in [None, Some(&members() as &dyn Access)] {
        let back = FactLog::restore(MESH, records.clone(), access).expect("restores");
        assert_eq!(back.state_hash_of(&scopes()), log.state_hash_of(&scopes()));
        assert!(back.iter().eq(log.iter()));
    }
}

#[test]
fn a_missing_swapped_or_changed_record_is_named() {
    let (_, records) = filled();
    let without = |skip: usize| records.iter().enumerate().filter(move |(i, _)| *i != skip).map(|(_, r)| r.clone());
    let error = FactLog::restore(MESH, without(1), None).expect_err("a gap");
    assert!(
        matches!(&error, RestoreError::Refused { place, why: Refusal::Gap { .. } } if place.contains("mesh")),
        "{error:?}"
    );
    assert!(error.to_string().contains("position 3"), "{error}");

    let Record::Fact(fact) = &records[2] else { panic!("a fact") };
    let changed = SealedFact::new(fact.header.clone(), fact.signature, Some(b"changed".to_vec()));
    let error = FactLog::restore(MESH, without(2).chain([Record::Fact(changed)]), None).expect_err("changed");
    assert!(matches!(error, RestoreError::Refused { why: Refusal::BadBody, .. }), "{error:?}");
}

#[test]
fn every_bit_of_a_stored_record_is_guarded_when_signatures_are_checked() {
    let (_, records) = filled();
    let (key, value) = (records[0].key().expect("a key"), records[0].value());
    for bit in 0..value.len() * 8 {
        let mut flipped = value.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let read = Record::read(&key, &flipped);
        let back = read.and_then(|record| FactLog::restore(MESH, [record], Some(&members())));
        assert!(back.is_err(), "bit {bit}");
    }
}

#[test]
fn keys_are_those_that_the_store_documents() {
    let (_, records) = filled();
    for record in &records {
        let prefix = match record {
            Record::Fact(_) => cauldron_store::keys::FACT,
            Record::Evidence(_) => cauldron_store::keys::EVIDENCE,
            Record::Mark(_) => cauldron_store::keys::VOUCHED,
            Record::Packed(_) | Record::Pack(_) => panic!("no log has them in memory"),
        };
        assert!(record.key().expect("a key").starts_with(prefix));
    }
    use cauldron_store::keys::{EVIDENCE, FACT, PACK, VOUCHED};
    assert_eq!(Record::PREFIXES, [FACT, EVIDENCE, VOUCHED, PACK]);
    assert!(Record::is_index(cauldron_store::keys::INDEX) && INDEX_HEAD.starts_with(cauldron_store::keys::INDEX));
    assert_eq!(to_cbor(&evidence(&chain_of(1, &Scope::mesh(), 1)[0], &chain_of(2, &Scope::mesh(), 1)[0]))[0], 0xa2);
}

proptest! {
    /// MERGE-LAWS: the set of facts decides, not the order, the repetition or who came first.
    #[test]
    fn any_order_with_repetition_gives_the_same_log(order in proptest::collection::vec(0usize..18, 60..200)) {
        let all: Vec<SealedFact> = [Scope::mesh(), Scope::mesh_restrict(), Scope::site("lyon").expect("a name")]
            .iter()
            .flat_map(|scope| chain_of(1, scope, 4).into_iter().chain(chain_of(2, scope, 2)))
            .collect();
        let mut reference = FactLog::new(MESH);
        all.iter().for_each(|fact| assert!(insert(&mut reference, fact).is_ok()));
        let mut log = FactLog::new(MESH);
        // Gaps are refused and come again, as sync would bring them: the random part first, then rounds until all is in.
        for index in order.into_iter().chain((0..4).flat_map(|_| (0..18).rev())) {
            let result = insert(&mut log, &all[index]);
            prop_assert!(matches!(result, Ok(Inserted::New(_) | Inserted::Duplicate) | Err(Refusal::Gap { .. })), "{:?}", result);
        }
        prop_assert_eq!(log.state_hash_of(&scopes()), reference.state_hash_of(&scopes()));
        prop_assert!(log.iter().eq(reference.iter()));
    }
}
