//! What was permitted to be taken back, and how that is told.

use super::*;
use crate::action::Catalogue;
use crate::ledger::State;

fn report<T: minicbor::Encode<()>>(world: &mut World, kind: &str, body: &T) {
    world.put(3, "site/lyon", kind, body);
}

fn checked(started: FactId, held: Option<bool>) -> Verified {
    let check = Checked { name: "listed".into(), held, says: "looked".into() };
    Verified { started, checks: vec![check], at_ms: NOW }
}

fn undone(world: &World, started: &FactId) -> Result<VerifiedUndo, String> {
    take_back(started, &world.bench(&world.me()))
}

#[test]
fn a_permit_carries_the_leave_to_take_its_effect_back() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let verified = verified(&world, &permit);
    let undo = verified.undo(Catalogue::built_in()).expect("permitted with it");
    assert_eq!((undo.permit(), undo.action().operation()), (permit, "security.address.unblock"));
    assert_eq!((undo.undoes(), undo.resource()), (verified.idempotency_key().as_str(), verified.resource()));
}

#[test]
fn only_what_this_life_did_can_be_taken_back_and_only_once() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    assert!(undone(&world, &started).expect_err("not done").contains("not known to be done"));
    world.done(&started);
    // Neither a policy nor a lease is asked for: an isolated site can always undo.
    world.lease = LeaseAge::Ms(u64::MAX);
    let id = world.me();
    let bench = Bench { engine: None, ..world.bench(&id) };
    assert_eq!(take_back(&started, &bench).expect("permitted").permit(), permit);

    let other = Bench { me: Me { incarnation: 1, ..bench.me }, ..bench };
    assert!(take_back(&started, &other).expect_err("another life").contains("a past life"));
    let elsewhere = Bench { me: Me { author: key(4).author_id(), ..bench.me }, ..bench };
    assert!(take_back(&started, &elsewhere).expect_err("another node").contains("another node"));

    let body = Compensated { started, effect_ref: "gone".into(), after_version: None, at_ms: NOW };
    report(&mut world, KIND_COMPENSATED, &body);
    assert!(undone(&world, &started).expect_err("twice").contains("taken back already"));
}

#[test]
fn an_effect_that_is_over_is_not_taken_back() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    world.done(&started);
    report(&mut world, KIND_ENDED, &Ended { started, effect_ref: "line".into(), ended_ms: NOW });
    assert!(undone(&world, &started).expect_err("over").contains("is over"));
}

#[test]
fn a_way_back_that_the_permit_does_not_name_is_not_taken() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let body = Permit { undo: None, ..world.ledger.permit(&permit).expect("here").body.clone() };
    let other = world.put(2, "site/lyon", KIND_PERMIT, &body);
    let recorded = world.ledger.permit(&permit).expect("here").body.clone();
    assert!(recorded.undo.is_some());
    let started = world.start(&permit);
    world.done(&started);
    let start = Started { permit: other, ..world.ledger.start(&started).expect("here").body.clone() };
    let started = world.put(3, "site/lyon", KIND_STARTED, &start);
    world.done(&started);
    assert!(undone(&world, &started).expect_err("not named").contains("another way back"));
}

#[test]
fn what_was_done_is_verified_or_taken_back() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let proposal = world.ledger.permit(&permit).expect("here").body.proposal;
    let started = world.start(&permit);
    let compensating = Compensating { started, by: None, reason: "a check does not hold".into(), at_ms: NOW };
    let failed = CompensationFailed { started, reason: "busy".into(), at_ms: NOW };
    let compensated = Compensated { started, effect_ref: "gone".into(), after_version: None, at_ms: NOW };
    world.done(&started);
    assert_eq!(world.state(&proposal), State::Done);
    report(&mut world, KIND_VERIFIED, &checked(started, Some(true)));
    assert_eq!(world.state(&proposal), State::Verified);
    report(&mut world, KIND_VERIFY_FAILED, &checked(started, Some(false)));
    assert_eq!(world.state(&proposal), State::VerifyFailed);
    report(&mut world, KIND_COMPENSATING, &compensating);
    assert_eq!(world.state(&proposal), State::Compensating);
    report(&mut world, KIND_COMPENSATION_FAILED, &failed);
    assert_eq!(world.state(&proposal), State::CompensationFailed);
    report(&mut world, KIND_COMPENSATED, &compensated);
    let status = world.status(&proposal);
    assert_eq!((status.state, status.contested), (State::Compensated, false));
    let told = world.ledger.timeline(&status.lineage, &world.authority);
    let told: Vec<&str> = told.iter().map(|e| e.says.as_str()).collect();
    assert!(told.contains(&"not verified: listed does not hold: looked"), "{told:?}");
    for fact in &world.facts[world.facts.len() - 5..] {
        assert!(crate::ledger::Ledger::reads(&fact.header().kind), "{}", fact.header().kind);
    }
}

#[test]
fn what_was_taken_back_may_be_wanted_again_by_another_lineage() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    world.done(&started);
    let again = world.propose(Proposal { rationale: "again".into(), ..proposal("198.51.100.7") });
    let used = |world: &World, p: &FactId| {
        let p = world.ledger.proposal(p).expect("here");
        world.ledger.used_by(p, &world.authority, None)
    };
    assert!(used(&world, &again).is_some());
    let body = Compensated { started, effect_ref: "gone".into(), after_version: None, at_ms: NOW };
    report(&mut world, KIND_COMPENSATED, &body);
    assert_eq!(used(&world, &again), None);
    let first = world.ledger.permit(&permit).expect("here").body.proposal;
    assert!(used(&world, &first).is_some(), "its own lineage is used for ever");
}
