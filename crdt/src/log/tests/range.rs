//! Ranges taken on one signature, and what is kept of that.

use super::super::record::fact_key;
use cauldron_identity::Signature;

use super::*;

fn chain() -> ChainId {
    ChainId { scope: Scope::mesh(), author: key(1).author_id(), incarnation: 0 }
}

fn with_signature(fact: &SealedFact, signature: Signature) -> SealedFact {
    SealedFact::new(fact.header.clone(), signature, fact.body().map(<[u8]>::to_vec))
}

/// Every signature is garbage but those that are always checked.
fn garbled(facts: &[SealedFact]) -> Vec<SealedFact> {
    let last = facts.last().map(SealedFact::id);
    let checked =
        |fact: &SealedFact| Some(fact.id()) == last || fact.peek().expect("readable").seq.is_multiple_of(VOUCH_SPAN);
    let garbage = Signature::from_bytes([9; 64]);
    facts.iter().map(|fact| if checked(fact) { fact.clone() } else { with_signature(fact, garbage) }).collect()
}

fn take(log: &mut FactLog, from: u64, facts: &[SealedFact]) -> Taken {
    log.insert_range(&chain(), from, facts.to_vec(), &members())
}

fn code(taken: &Taken) -> Option<&'static str> {
    taken.refused.as_ref().map(Refusal::code)
}

#[test]
fn a_range_gives_the_log_that_single_facts_give() {
    let facts = chain_of(1, &Scope::mesh(), 80);
    let (mut one, mut many) = (FactLog::new(MESH), FactLog::new(MESH));
    facts.iter().for_each(|fact| assert!(insert(&mut one, fact).is_ok()));
    for (from, to) in [(1, 10), (5, 40), (41, 41), (42, 80), (1, 80)] {
        let taken = take(&mut many, from as u64, &facts[from - 1..to]);
        assert_eq!((code(&taken), many.held(&chain())), (None, to as u64));
        assert!(taken.new.iter().zip(&facts[to - taken.new.len()..]).all(|(new, fact)| new.sealed() == fact));
    }
    assert_eq!(one.state_hash(&Scope::mesh()), many.state_hash(&Scope::mesh()));
    assert!(one.iter().eq(many.iter()));
    while !many.is_settled() {
        assert_eq!(many.settle(7, &members()).bad, 0);
    }
    assert_eq!(many.unproven(), 0);
}

#[test]
fn what_vouches_is_never_far_and_always_fits_one_frame() {
    let mut author = FactLog::new(MESH);
    let body = |n: u64| vec![0; if n.is_multiple_of(50) { 200_000 } else { VOUCHED_LEN_MAX - 400 }];
    let facts: Vec<SealedFact> = (1..=200)
        .map(|n| author.append(&key(1), draft(&Scope::mesh(), &body(n))).expect("appends").sealed().clone())
        .collect();
    let mut log = FactLog::new(MESH);
    assert_eq!(take(&mut log, 1, &facts).new.len(), 200);
    assert!(log.unproven() > 150);
    for from in 1..=200 {
        let range = log.range(&chain(), from, from, 1);
        let last = range.last().expect("never nothing");
        assert!(log.is_seen(&chain(), last.header().seq) && range.len() as u64 <= VOUCH_SPAN);
        let bytes: usize = range.iter().map(|fact| fact.sealed().wire_len()).sum();
        assert!(range.len() == 1 || bytes <= crate::limits::FACTS_LEN_MAX, "{bytes}");
    }
    for large in [50, 100, 150] {
        assert!(log.is_seen(&chain(), large) && log.is_seen(&chain(), large - 1));
    }
}

#[test]
fn what_is_refused_in_a_range_leaves_no_trace_of_it() {
    let facts = chain_of(1, &Scope::mesh(), 40);
    let mut log = FactLog::new(MESH);
    let garbage = Signature::from_bytes([9; 64]);
    let mut lies: Vec<(Vec<SealedFact>, &str)> = vec![
        (facts[1..].to_vec(), "hole"),
        (chain_of(2, &Scope::mesh(), 40), "hole"),
        (chain_of(1, &Scope::authority(), 40), "hole"),
        ([&facts[..10], &facts[11..]].concat(), "hole"),
    ];
    for at in [VOUCH_SPAN as usize - 1, 39] {
        let mut lie = facts.clone();
        lie[at] = with_signature(&facts[at], garbage);
        lies.push((lie, "bad-signature"));
    }
    let mut lie = facts.clone();
    lie[5] = SealedFact::new(facts[5].header.clone(), facts[5].signature, Some(b"other".to_vec()));
    lies.push((lie, "bad-body"));
    for (n, (lie, expected)) in lies.iter().enumerate() {
        let taken = take(&mut log, 1, lie);
        assert_eq!((code(&taken), taken.new.len(), log.len()), (Some(*expected), 0, 0), "lie {n}");
        assert!(taken.refused.expect("refused").blames_peer());
    }
    assert_eq!(code(&take(&mut log, 2, &facts[1..])), Some("gap"));
    assert_eq!(code(&log.insert_range(&chain(), 1, facts.clone(), &Members::default())), Some("unknown-author"));
}

/// A relay that knows of more writers than this node may have ended with a fact that is not taken here.
#[test]
fn a_range_is_taken_as_far_as_it_may_be_stored_and_proven() {
    for garbage in [false, true] {
        let mut author = FactLog::new(MESH);
        let kind = |n: u64| if n == 45 { "forbidden" } else { "note" };
        let facts: Vec<SealedFact> = (1..=60)
            .map(|n| Draft { kind: kind(n).into(), ..draft(&Scope::mesh(), b"x") })
            .map(|draft| author.append(&key(1), draft).expect("appends").sealed().clone())
            .collect();
        let facts = if garbage { garbled(&facts) } else { facts };
        let mut log = FactLog::new(MESH);
        let taken = take(&mut log, 1, &facts);
        assert_eq!(code(&taken), Some("not-a-writer"));
        assert!(!taken.refused.expect("refused").blames_peer());
        assert_eq!(log.held(&chain()), if garbage { VOUCH_SPAN } else { 44 });
        assert!(log.is_seen(&chain(), log.held(&chain())));
    }
}

#[test]
fn a_bad_signature_is_found_kept_in_mind_and_mended() {
    let facts = chain_of(1, &Scope::mesh(), 40);
    let mut log = FactLog::new(MESH);
    take(&mut log, 1, &garbled(&facts));
    let settled = log.settle(1_000, &members());
    assert_eq!((settled.good, settled.bad, log.unproven()), (0, 38, 38));
    assert_eq!(log.damaged().count(), VOUCH_SPAN as usize, "a few at a time");
    // Garbage once more, alone and in a range, changes nothing; alone it is a lie.
    refused(insert(&mut log, &garbled(&facts)[3]), "bad-signature");
    assert_eq!(take(&mut log, 1, &garbled(&facts)).mended.len(), 0);
    assert!(matches!(insert(&mut log, &facts[3]), Ok(Inserted::Mended(fact)) if fact.sealed() == &facts[3]));
    let taken = take(&mut log, 1, &facts);
    assert_eq!((taken.mended.len(), taken.duplicates, log.unproven()), (37, 40, 0));
    assert!(matches!(taken.mark, Some(Record::Mark(_))) && log.damaged().count() == 0);
    assert!(log.iter().map(|fact| fact.sealed().clone()).eq(facts));
}

#[test]
fn a_fork_in_a_range_convinces_others_whatever_its_signatures() {
    let ours = chain_of(1, &Scope::mesh(), 70);
    let mut other = FactLog::new(MESH);
    ours[..9].iter().for_each(|fact| assert!(insert(&mut other, fact).is_ok()));
    let theirs: Vec<SealedFact> = ours[..9]
        .iter()
        .cloned()
        .chain(
            (0..61).map(|_| other.append(&key(1), draft(&Scope::mesh(), b"branch")).expect("appends").sealed().clone()),
        )
        .collect();
    let mut log = FactLog::new(MESH);
    take(&mut log, 1, &garbled(&ours));
    let taken = take(&mut log, 1, &garbled(&theirs));
    let evidence = taken.fork.expect("a fork");
    assert_eq!((evidence.seq(), taken.new.len(), log.held(&chain())), (10, 0, 70));
    assert!(crate::limits::FRAME_LEN_MAX > to_cbor(evidence.as_ref()).len());
    let mut third = FactLog::new(MESH);
    assert!(matches!(third.insert_evidence(*evidence.clone(), &members()), Ok(Inserted::Fork(_))));
    assert_eq!(third.fork_seq(&chain()), Some(10));
    // Below the fork a range is still taken, and no further.
    let taken = take(&mut third, 1, &ours);
    assert_eq!((code(&taken), third.held(&chain())), (Some("forked"), 9));

    // Cut short, it proves nothing.
    let proof = &theirs[9..VOUCH_SPAN as usize];
    let short = Evidence::new(&ours[9..10], &garbled(proof)[..5]);
    assert!(FactLog::new(MESH).insert_evidence(short, &members()).is_err());
    let torn = Evidence::new(&ours[9..10], &[&theirs[9..12], &theirs[13..20]].concat());
    refused(FactLog::new(MESH).insert_evidence(torn, &members()), "no-evidence");
}

#[test]
fn what_is_unproven_survives_a_restart_and_an_audit_says_so() {
    let facts = chain_of(1, &Scope::mesh(), 70);
    let mut log = FactLog::new(MESH);
    let taken = take(&mut log, 1, &garbled(&facts));
    let mark = taken.mark.expect("a mark");
    let records = || taken.new.iter().map(|fact| Record::Fact(fact.sealed().clone()));
    for access in [None, Some(&members() as &dyn Access)] {
        let back = FactLog::restore(MESH, records().chain([mark.clone()]), access).expect("restores");
        assert_eq!((back.len(), back.unproven()), (70, 67));
        assert!(back.records().any(|record| record == mark));
    }
    let error = FactLog::restore(MESH, records(), Some(&members())).expect_err("no mark speaks for it");
    assert!(matches!(error, RestoreError::Refused { why: Refusal::BadSignature, .. }), "{error:?}");

    let mut back = FactLog::restore(MESH, records().chain([mark]), None).expect("restores");
    take(&mut back, 1, &facts);
    assert_eq!(back.unproven(), 0);
    let back = FactLog::restore(MESH, back.records(), Some(&members())).expect("each signed");
    assert!(back.iter().eq(log_of(&facts).iter()));
}

fn log_of(facts: &[SealedFact]) -> FactLog {
    let mut log = FactLog::new(MESH);
    facts.iter().for_each(|fact| assert!(insert(&mut log, fact).is_ok()));
    log
}

/// The mark is durable before the facts, the facts in their order: a crash leaves any beginning of that.
#[test]
fn after_a_crash_within_a_range_only_what_is_proven_is_held() {
    let facts = chain_of(1, &Scope::mesh(), 70);
    for before in [0, 10] {
        let mut log = FactLog::new(MESH);
        facts[..before].iter().for_each(|fact| assert!(insert(&mut log, fact).is_ok()));
        let taken = take(&mut log, before as u64 + 1, &garbled(&facts)[before..]);
        let mark = taken.mark.expect("a mark");
        for kept in before..=70 {
            let records = log.iter().take(kept).map(|fact| Record::Fact(fact.sealed().clone()));
            let mut back = FactLog::restore(MESH, records.chain([mark.clone()]), None).expect("restores");
            let expected = match kept as u64 {
                70 => 70,
                kept if kept < VOUCH_SPAN => before as u64,
                kept => kept / VOUCH_SPAN * VOUCH_SPAN,
            };
            assert_eq!(back.held(&chain()), expected, "{kept} of 70 on disk");
            assert_eq!(back.len() as u64, expected);
            // What nothing vouches for leaves the store too: without the mark it would pass for proven.
            let aside: Vec<Vec<u8>> = (expected + 1..=kept as u64).rev().map(|seq| fact_key(&chain(), seq)).collect();
            assert_eq!(back.left_aside().0, aside);
            // And the rest is taken as ever.
            assert_eq!(code(&take(&mut back, expected + 1, &facts[expected as usize..])), None);
            assert_eq!(back.held(&chain()), 70);
        }
    }
}
