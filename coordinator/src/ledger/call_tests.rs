//! Who is called when nobody but a person can settle something.

use super::{Call, State, is_audited};
use crate::bodies::{
    Compensating, CompensationFailed, KIND_COMPENSATING, KIND_COMPENSATION_FAILED, KIND_REVIEW, KIND_UNKNOWN, Target,
    Unknown,
};
use crate::bodies::{Proposal, Review, ReviewStatement};
use crate::signed::Signed;
use crate::testkit::{NOW, World};
use cauldron_identity::{Digest, FactId};

const ALLOWED: &str = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"audit_ppm\": 1000000, \"notify\": [\"security-duty\"]}";

fn call(world: &World, p: &FactId) -> Option<Call> {
    world.ledger.call(&world.status(p), &world.authority)
}

fn done(world: &mut World, address: &str) -> (FactId, FactId) {
    let permit = world.permitted(address);
    let started = world.start(&permit);
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    world.done(&started);
    (p, started)
}

#[test]
fn a_late_no_calls_until_it_is_taken_back() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    assert_eq!(call(&world, &p), None);
    let lineage = world.status(&p).lineage;
    world.restrict(2, "site/lyon#restrict", Target::Lineage(lineage));
    assert_eq!(call(&world, &p), Some(Call::Contested));
    let asked = world.ledger.asked_about(world.ledger.proposal(&p).expect("here"), &world.authority);
    assert!(asked.contains("security-duty"), "{asked:?}");
    let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    assert_eq!(call(&world, &p), None, "its owner is at it");
    let failed = CompensationFailed { started, reason: "busy".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATION_FAILED, &failed);
    assert_eq!(call(&world, &p), Some(Call::CompensationFailed));
    world.compensated(&started);
    assert_eq!(call(&world, &p), None);
}

#[test]
fn what_nobody_knows_calls() {
    let mut world = World::new();
    let permit = world.permitted("203.0.113.7");
    let started = world.start(&permit);
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    assert_eq!(call(&world, &p), None);
    world.put(
        3,
        "site/lyon",
        KIND_UNKNOWN,
        &Unknown { started, reason: "it hung".into(), noticed_ms: NOW, labels: Vec::new() },
    );
    assert_eq!((world.state(&p), call(&world, &p)), (State::Unknown, Some(Call::Unknown)));
    world.done(&started);
    assert_eq!(call(&world, &p), None, "a probe found it");

    // A permit that a past life may have used: there is nothing that anybody could say.
    let mut world = World::new();
    let permit = world.permitted("203.0.113.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    world.reincarnate_lyon();
    assert_eq!((world.state(&p), call(&world, &p)), (State::Unknown, None));
}

#[test]
fn whoever_had_something_done_does_not_audit_it() {
    let mut world = World::with_policy(ALLOWED);
    let asked = Proposal { on_behalf_of: Some("ana".into()), ..crate::testkit::proposal("203.0.113.7") };
    let p = world.propose(asked);
    let permit = *world.run().last().expect("a permit");
    let started = world.start(&permit);
    world.done(&started);
    let own = review(&world, started, "ana");
    world.put(3, "site/lyon", KIND_REVIEW, &own);
    assert_eq!(call(&world, &p), Some(Call::Audit));
    let other = review(&world, started, "bo");
    world.put(3, "site/lyon", KIND_REVIEW, &other);
    assert_eq!(call(&world, &p), None);
}

fn review(world: &World, started: FactId, person: &str) -> Review {
    let statement = ReviewStatement {
        mesh: world.authority.mesh(),
        person: person.into(),
        credential: World::credential(person),
        authority_head: world.authority.head(),
        used: started,
        note: "as it should be".into(),
        issued_ms: world.clock.wall_ms,
        nonce: Digest::from_bytes([1; 32]),
    };
    Signed::sign(&statement, &World::person_key(person))
}

#[test]
fn what_policy_has_audited_calls_whom_it_tells_until_one_of_them_looked() {
    let mut world = World::with_policy(ALLOWED);
    let p = world.propose(crate::testkit::proposal("203.0.113.7"));
    let permit = *world.run().last().expect("a permit");
    let told: Vec<_> = world.ledger.told_since(0, &world.authority).map(|d| d.body.proposal).collect();
    assert_eq!(told, [p], "nobody is asked, and they are told");
    let started = world.start(&permit);
    assert_eq!(call(&world, &p), None, "it is not done");
    world.done(&started);
    assert_eq!(call(&world, &p), Some(Call::Audit));
    let others = review(&world, started, "cy");
    world.put(3, "site/lyon", KIND_REVIEW, &others);
    assert_eq!(call(&world, &p), Some(Call::Audit), "cy was not told");
    let theirs = review(&world, started, "ana");
    let fact = world.sealed(3, "site/lyon", KIND_REVIEW, &theirs);
    world.ledger.insert(&fact);
    assert_eq!(call(&world, &p), None);
    assert_eq!(world.ledger.touched_by(&fact), super::Touched::These([p].into()));
    let story = world.ledger.timeline(&p, &world.authority);
    assert!(story.iter().any(|event| event.says == "ana looked at it: as it should be"), "{story:?}");
}

#[test]
fn a_decision_of_somebody_else_tells_nobody() {
    let mut world = World::with_policy(ALLOWED);
    let p = world.propose(crate::testkit::proposal("203.0.113.7"));
    world.run();
    let decision = world.decision(&p);
    world.put(3, "site/lyon", crate::bodies::KIND_DECISION, &decision);
    assert_eq!(world.ledger.told_since(0, &world.authority).count(), 1, "the coordinator's alone");
    assert_eq!(world.ledger.told_since(decision.decided_ms + 1, &world.authority).count(), 0);
}

#[test]
fn the_share_that_is_audited_is_the_one_that_was_asked_for() {
    let starts =
        (0..20_000u32).map(|n| Digest::of("test", &n.to_be_bytes())).map(|d| FactId::from_bytes(*d.as_bytes()));
    let starts: Vec<FactId> = starts.collect();
    let count = |ppm: u32| starts.iter().filter(|id| is_audited(id, ppm)).count();
    assert_eq!((count(0), count(1_000_000)), (0, starts.len()));
    // Ten standard deviations around the mean.
    assert!((1_575..2_425).contains(&count(100_000)), "{}", count(100_000));
    // Whoever is audited at one share is at any larger one.
    assert!(starts.iter().all(|id| !is_audited(id, 10_000) || is_audited(id, 20_000)));
}
