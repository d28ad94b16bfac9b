//! Class R3: more than half of the charter's coordinators permit it, each by itself.

use super::*;
use crate::coordinate::Act;

/// An action of class R3 that people said yes to, as far as the first coordinator judged it.
fn r3_asked(world: &mut World) -> FactId {
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    let acts = world.step();
    world.write(&acts);
    for person in ["ana", "bo"] {
        world.vote(person, &p, Choice::Approve);
    }
    p
}

fn two_approve(coordinators: u8) -> World {
    let mut world = World::with_coordinators(coordinators);
    world.activate(&World::bundle(TWO_APPROVE));
    world
}

const TWO_APPROVE: &str = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";

#[test]
fn majority_of_coordinators_for_r3() {
    let mut world = World::with_policy(TWO_APPROVE);
    r3_asked(&mut world);
    assert!(world.step().is_empty(), "denied by the floor");
    let mut world = two_approve(3);
    r3_asked(&mut world);
    let second = world.step_of(101);
    world.write_as(101, &second);
    let acts = world.step();
    let first = world.write(&acts)[0];
    waits(
        &world,
        &first,
        "1 of 2 coordinators permit it so far; it waits for 1 of these 2: spiffe://acme.test/coordinator/hq1, ",
    );
    let acts = world.step_of(101);
    world.write_as(101, &acts);
    executes(&world, &first);
    assert_eq!(world.step_of(102).len(), 1, "the third judges it");
    let acts = world.step_of(102);
    world.write_as(102, &acts);
    assert!(world.step_of(102).is_empty(), "and permits nothing: two are enough");
    world.lease = LeaseAge::Ms(30_001);
    refused(&world, &first, Code::Isolated);
}

#[test]
fn r3_waits_for_a_coordinator_that_is_dark_for_longer_than_a_permit_lives() {
    let mut world = two_approve(2);
    let p = r3_asked(&mut world);
    assert!(world.step().is_empty(), "no permit that would run out");
    world.clock.wall_ms += 4 * PERMIT_MS_MAX;
    assert!(world.step().is_empty());
    let status = world.status(&p);
    assert_eq!(status.state, State::Approved);
    let says = "takes permits of 2 of the charter's 2 coordinators, and 1 of them has judged it on these terms; \
                waits for spiffe://acme.test/coordinator/hq1 to judge it by";
    assert!(status.why[0].contains(says), "{:?}", status.why);

    // It is back: it judges, the first one permits, and then so does it, though the proposal is permitted by then.
    let acts = world.step_of(101);
    assert!(matches!(&acts[..], [Act::Decide { .. }]), "{acts:?}");
    world.write_as(101, &acts);
    let acts = world.step();
    let first = world.write(&acts)[0];
    assert_eq!(world.state(&p), State::Permitted);
    assert!(world.status(&p).why[0].contains("1 of them has given it; waits for spiffe://acme.test/coordinator/hq1"));
    waits(&world, &first, "it waits for spiffe://acme.test/coordinator/hq1");
    let acts = world.step_of(101);
    assert!(matches!(&acts[..], [Act::Permit { .. }]), "{acts:?}");
    world.write_as(101, &acts);
    assert!(world.step_of(101).is_empty() && world.step().is_empty(), "once each");
    assert!(world.status(&p).why[0].contains("waits for its owner"), "{:?}", world.status(&p).why);
    executes(&world, &first);
    let started = world.start(&first);
    world.done(&started);
    let second = world.ledger.permits_on(&p).map(|permit| permit.id).find(|id| *id != first).expect("two permits");
    refused(&world, &second, Code::Used);
}

#[test]
fn r3_is_not_started_on_the_word_of_one_coordinator_under_two_names() {
    let mut world = two_approve(2);
    let p = r3_asked(&mut world);
    let second = world.step_of(101);
    world.write_as(101, &second);
    let acts = world.step();
    let first = world.write(&acts)[0];
    // The same coordinator once more, and somebody whom the charter does not seat.
    world.clock.wall_ms += 1;
    world.write(&acts);
    world.write_as(4, &acts);
    waits(&world, &first, "1 of 2 coordinators");
    // Other terms are another word.
    let permit = world.ledger.permit(&first).expect("here").body.clone();
    let other = Permit { terms: Digest::of("terms", b"other"), ..permit };
    world.put(101, "site/lyon", KIND_PERMIT, &other);
    waits(&world, &first, "1 of 2 coordinators");
    assert_eq!(world.state(&p), State::Permitted);
}

#[test]
fn where_too_few_coordinators_may_decide_r3_is_refused_before_anybody_is_asked() {
    // The second one is another site's.
    let seats = ["/coordinator/hq0".to_owned(), "/site/porto/coordinator/porto".to_owned()];
    let mut world = World::with_seats(&World::bundle(TWO_APPROVE), &seats);
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    world.run();
    assert_eq!(world.state(&p), State::Denied);
    let why = &world.status(&p).why[0];
    assert!(why.contains("takes 2 of the charter's 2 coordinators, and 1 of them may decide here"), "{why}");
    // Nor does one that was cut say anything any more.
    let mut world = two_approve(2);
    world.cut(&key(101));
    let p = world.propose(Proposal { risk: RiskClass::R3, ..proposal("198.51.100.7") });
    world.run();
    assert_eq!(world.state(&p), State::Denied);
}
