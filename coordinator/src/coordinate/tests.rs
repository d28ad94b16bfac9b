//! What a coordinator writes, and what it leaves.

use super::*;
use crate::testkit::{NOW, World, proposal, sitting};
use crate::vote::Choice;

#[test]
fn one_decision_then_one_permit_then_nothing() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    let acts = world.step();
    assert!(matches!(&acts[..], [Act::Decide { body, .. }] if body.outcome == Outcome::StepUp && body.proposal == p));
    assert_eq!(world.step(), acts, "the same until it is written");
    world.write(&acts);
    assert_eq!(world.step(), vec![]);
    world.vote("ana", &p, Choice::Approve);
    let acts = world.step();
    let [Act::Permit { body, .. }] = &acts[..] else { panic!("{acts:?}") };
    assert_eq!((body.owner, body.max_uses, body.votes.len()), (world.lyon.author_id(), 1, 1));
    assert!(body.execute_by_ms <= NOW + PERMIT_MS_MAX);
    world.write(&acts);
    assert_eq!(world.step(), vec![]);
    assert_eq!(world.state(&p), State::Permitted);
}

#[test]
fn without_the_active_bundle_or_entitlement_nothing_is_written() {
    let mut world = World::new();
    world.propose(proposal("198.51.100.7"));
    let limits = Limits::default();
    let (ledger, authority) = (&world.ledger, &world.authority);
    let porto = world.porto.author_id();
    assert_eq!(step(ledger, authority, Some(&world.engine), &world.clock, &sitting(&porto), &limits), vec![]);
    let hq = world.hq.author_id();
    assert_eq!(step(ledger, authority, None, &world.clock, &sitting(&hq), &limits), vec![]);
    let other = World::engine_with("package cauldron.guardrail\nallow contains {\"rule\":\"x\",\"why\":\"y\"}");
    assert_eq!(step(ledger, authority, Some(&other), &world.clock, &sitting(&hq), &limits), vec![]);
}

#[test]
fn a_broken_proposal_is_denied_with_the_reason() {
    let mut world = World::new();
    let mut bad = proposal("198.51.100.7");
    bad.args_digest = Proposal::digest_of_args(b"other");
    let p = world.propose(bad);
    world.run();
    assert_eq!(world.state(&p), State::Denied);
    assert!(world.status(&p).why[0].contains("args_digest"), "{:?}", world.status(&p).why);
}

#[test]
fn r3_is_refused_in_a_mesh_with_one_coordinator() {
    let mut world = World::new();
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    world.run();
    assert!(world.status(&p).why[0].contains("one coordinator"));
}

#[test]
fn r2_needs_a_person_whatever_policy_asks() {
    let mut world = World::with_policy("package cauldron.guardrail\nallow contains {\"rule\":\"all\",\"why\":\"yes\"}");
    let (r1, r2) = (proposal("198.51.100.7"), Proposal { risk: RiskClass::R2, ..proposal("198.51.100.8") });
    let (r1, r2) = (world.propose(r1), world.propose(r2));
    world.run();
    assert_eq!(world.state(&r1), State::Permitted, "R1 is policy's to allow");
    assert!(world.status(&r2).why[0].contains("needs 1 people"));
}

#[test]
fn a_deferral_is_judged_again_until_it_resolves() {
    let rego = format!(
        "package cauldron.guardrail\ndefer contains {{\"rule\":\"later\",\"why\":\"w\"}} if input.now_ms < {}\nallow contains {{\"rule\":\"now\",\"why\":\"w\"}}",
        NOW + 1_000
    );
    let mut world = World::with_policy(&rego);
    let p = world.propose(proposal("198.51.100.7"));
    assert_eq!(world.run().len(), 1);
    assert_eq!(world.state(&p), State::Deferred);
    world.clock.wall_ms += 1_000;
    assert_eq!(world.run().len(), 2, "a decision and a permit");
    assert_eq!(world.state(&p), State::Permitted);
}

#[test]
fn no_permit_while_nobody_vouches_for_the_clock() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.vote("ana", &p, Choice::Approve);
    world.clock.confidence = Confidence::Unknown;
    assert_eq!(world.step(), vec![]);
    world.clock.confidence = Confidence::Local;
    assert_eq!(world.step().len(), 1);
}

#[test]
fn limits_hold_back_what_is_above_them() {
    let mut world = World::new();
    for n in 0..25 {
        world.propose(proposal(&format!("198.51.100.{n}")));
    }
    assert_eq!(world.step().len(), 20);
    let limits = Limits { open_total: 3, ..Limits::default() };
    let hq = world.hq.author_id();
    let acts = step(&world.ledger, &world.authority, Some(&world.engine), &world.clock, &sitting(&hq), &limits);
    assert_eq!(acts.len(), 3);
}

#[test]
fn a_used_intent_gets_no_second_permit() {
    let mut world = World::new();
    let first = world.permitted("198.51.100.7");
    world.start(&first);
    let again = Proposal { created_ms: NOW + 1, ..proposal("198.51.100.7") };
    let p = world.propose(again);
    world.run();
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::Approved);
    assert_eq!(world.step(), vec![]);
}
