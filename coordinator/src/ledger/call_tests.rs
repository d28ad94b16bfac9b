//! Who is called when nobody but a person can settle something.

use super::{Call, State, is_audited};
use crate::bodies::{
    Compensating, CompensationFailed, Decision, KIND_COMPENSATING, KIND_COMPENSATION_FAILED, KIND_REVIEW, KIND_UNKNOWN,
    KIND_VERIFY_FAILED, Target, Unknown, Verified,
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
fn what_a_check_refutes_calls_until_it_is_taken_back_or_somebody_says_that_it_stands() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    let refuted = Verified { started, checks: vec![], at_ms: NOW };
    world.put(3, "site/lyon", KIND_VERIFY_FAILED, &refuted);
    assert_eq!((world.state(&p), call(&world, &p)), (State::VerifyFailed, Some(Call::VerifyFailed)));
    let lineage = world.status(&p).lineage;
    world.restrict(2, "site/lyon#restrict", Target::Lineage(lineage));
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed), "the more pressing of two");
    let others = review(&world, started, "cy");
    world.put(3, "site/lyon", KIND_REVIEW, &others);
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed), "cy was not asked");
    let looked = review(&world, started, "ana");
    world.put(3, "site/lyon", KIND_REVIEW, &looked);
    assert_eq!(call(&world, &p), Some(Call::Contested));
    // A check that fails after somebody looked is another matter.
    world.put(3, "site/lyon", KIND_VERIFY_FAILED, &Verified { at_ms: NOW + 3_600_000, ..refuted });
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed));
    world.compensated(&started);
    assert_eq!(call(&world, &p), None);
}

#[test]
fn what_a_life_that_is_over_was_taking_back_calls() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    assert_eq!(call(&world, &p), None, "its owner is at it");
    world.reincarnate_lyon();
    assert_eq!((world.state(&p), call(&world, &p)), (State::Compensating, Some(Call::CompensationFailed)));
}

#[test]
fn what_is_said_anew_makes_a_new_matter_of_a_call() {
    let mut world = World::new();
    let permit = world.permitted("203.0.113.7");
    let started = world.start(&permit);
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let since = |world: &World| {
        let status = world.status(&p);
        let call = world.ledger.call(&status, &world.authority);
        (call, world.ledger.matter(&status, Call::Unknown, &world.authority))
    };
    world.clock.wall_ms += 1_000;
    world.lost(&started);
    let (call, first) = since(&world);
    assert_eq!((call, first.since_ms), (Some(Call::Unknown), world.clock.wall_ms));
    world.clock.wall_ms += 1_000;
    world.word("ana", &started, false);
    assert_eq!(since(&world).0, None, "ana knows");
    // Who said so leaves, and nobody knows again: that is not what people were called for before.
    world.revoke("ana");
    let (call, again) = since(&world);
    assert!(call == Some(Call::Unknown) && again.since_ms > first.since_ms, "{again:?}");
    world.clock.wall_ms += 1_000;
    world.word("cy", &started, false);
    assert_eq!(since(&world).1, again, "cy may not say");
    // Nor does who carries it to where nobody else reads of the start.
    let aside = world.word_statement("bo", &started, false);
    world.put(3, "site/porto", crate::bodies::KIND_RECONCILED, &Signed::sign(&aside, &World::person_key("bo")));
    assert_eq!(since(&world).1, again, "bo says it elsewhere");
    // Whoever dates their word far ahead hides no later one.
    let far = crate::bodies::WordStatement { issued_ms: u64::MAX, ..world.word_statement("bo", &started, false) };
    world.put(3, "site/lyon", crate::bodies::KIND_RECONCILED, &Signed::sign(&far, &World::person_key("bo")));
    world.revoke("bo");
    let far = since(&world).1;
    world.lost(&started);
    assert_ne!(since(&world).1, far);
}

#[test]
fn a_stop_after_the_end_makes_no_new_matter_of_what_it_does_not_contest() {
    let everything = |world: &mut World| {
        world.clock.wall_ms += 60_000;
        world.restrict(2, "mesh#restrict", Target::All);
    };
    let mut world = World::with_policy(ALLOWED);
    let p = world.propose(crate::testkit::proposal("203.0.113.7"));
    let permit = *world.run().last().expect("a permit");
    let started = world.start(&permit);
    world.done(&started);
    let seen = |world: &World, p: &FactId| {
        let status = world.status(p);
        let call = world.ledger.call(&status, &world.authority).expect("it calls");
        (call, world.ledger.matter(&status, call, &world.authority))
    };
    let audit = seen(&world, &p);
    assert_eq!(audit.0, Call::Audit);
    everything(&mut world);
    assert!(!world.status(&p).denials.is_empty(), "the stop is here");
    assert_eq!(seen(&world, &p), audit);
    world.put(3, "site/lyon", KIND_VERIFY_FAILED, &Verified { started, checks: vec![], at_ms: NOW });
    let refuted = seen(&world, &p);
    assert_eq!(refuted.0, Call::VerifyFailed);
    everything(&mut world);
    assert_eq!(seen(&world, &p), refuted);

    // Of what is contested a veto is a new matter, and a stop that came when it was done is none.
    let mut world = World::new();
    let (p, _) = done(&mut world, "203.0.113.7");
    let lineage = world.status(&p).lineage;
    world.restrict(2, "site/lyon#restrict", Target::Lineage(lineage));
    let contested = seen(&world, &p);
    assert_eq!(contested.0, Call::Contested);
    everything(&mut world);
    assert_eq!(seen(&world, &p), contested);
    world.restrict(2, "site/lyon#restrict", Target::Lineage(lineage));
    assert_ne!(seen(&world, &p), contested);
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
    let told: Vec<_> = world.ledger.told_since(0, NOW, &world.authority).map(|d| d.body.proposal).collect();
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
    let told = |world: &World, since_ms: u64, now_ms: u64| {
        let told = world.ledger.told_since(since_ms, now_ms, &world.authority);
        told.map(|d| d.body.decided_ms).collect::<Vec<_>>()
    };
    assert_eq!(told(&world, 0, NOW), [decision.decided_ms], "the coordinator's alone");
    assert!(told(&world, decision.decided_ms + 1, NOW).is_empty());
    // A coordinator that dates its decisions far ahead is told of when their time has come, and for no longer than others.
    let far_ms = NOW + 400 * 86_400_000;
    world.put(2, "site/lyon", crate::bodies::KIND_DECISION, &Decision { decided_ms: far_ms, ..decision.clone() });
    world.put(2, "site/lyon", crate::bodies::KIND_DECISION, &Decision { decided_ms: u64::MAX, ..decision.clone() });
    let earlier = Decision { decided_ms: decision.decided_ms - 1, ..decision.clone() };
    world.put(2, "site/lyon", crate::bodies::KIND_DECISION, &earlier);
    assert_eq!(told(&world, 0, NOW), [earlier.decided_ms, decision.decided_ms], "in the order of their times");
    let week_ms = 7 * 86_400_000;
    assert_eq!(told(&world, far_ms - week_ms, far_ms), [far_ms]);
    assert!(told(&world, far_ms + 1, far_ms + week_ms).is_empty());
}

#[test]
fn an_owner_does_not_choose_what_of_its_own_is_audited() {
    const HALF: &str =
        "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"audit_ppm\": 500000}";
    for n in 0..8 {
        let mut world = World::with_policy(HALF);
        let p = world.propose(crate::testkit::proposal(&format!("203.0.113.{n}")));
        let permit = *world.run().last().expect("a permit");
        let drawn = is_audited(&permit, 500_000);
        // Whatever it writes into its start, the lot is cast.
        for _ in 0..4 {
            world.clock.wall_ms += 1;
            let before = world.ledger.clone();
            let started = world.start(&permit);
            world.done(&started);
            assert_eq!(call(&world, &p) == Some(Call::Audit), drawn, "{n}");
            world.ledger = before;
        }
    }
}

#[test]
fn the_share_that_is_audited_is_the_one_that_was_asked_for() {
    let permits =
        (0..20_000u32).map(|n| Digest::of("test", &n.to_be_bytes())).map(|d| FactId::from_bytes(*d.as_bytes()));
    let permits: Vec<FactId> = permits.collect();
    let count = |ppm: u32| permits.iter().filter(|id| is_audited(id, ppm)).count();
    assert_eq!((count(0), count(1_000_000)), (0, permits.len()));
    // Ten standard deviations around the mean.
    assert!((1_575..2_425).contains(&count(100_000)), "{}", count(100_000));
    // Whoever is audited at one share is at any larger one.
    assert!(permits.iter().all(|id| !is_audited(id, 10_000) || is_audited(id, 20_000)));
}
