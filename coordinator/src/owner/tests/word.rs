//! What people say of effects of which nobody knows.

use super::*;
use crate::ledger::{Fate, State};

/// Started by lyon on ana's approval, and lost; the proposal and the start.
fn lost(world: &mut World) -> (FactId, FactId) {
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    world.lost(&started);
    (world.ledger.permit(&permit).expect("here").body.proposal, started)
}

fn used(world: &World, p: &FactId) -> bool {
    world.ledger.used_by(world.ledger.proposal(p).expect("here"), &world.authority, None).is_some()
}

fn blocked(world: &World) -> bool {
    let lyon = world.lyon.author_id();
    world.ledger.unsettled_on("lyon/lyon/blocklist", &lyon, &world.authority).next().is_some()
}

#[test]
fn what_did_not_happen_by_a_persons_word_may_be_wanted_again() {
    let mut world = World::new();
    let (p, started) = lost(&mut world);
    assert_eq!((world.state(&p), used(&world, &p), blocked(&world)), (State::Unknown, true, true));
    world.word("bo", &started, false);
    let status = world.status(&p);
    assert_eq!((status.state, used(&world, &p), blocked(&world)), (State::Failed, false, false));
    assert!(status.why.contains(&"it did not happen, by the word of bo: looked".to_owned()), "{:?}", status.why);
    assert_eq!(world.ledger.fate(&status.lineage, &world.authority), Fate::Open);
    assert!(take_back(&started, &world.bench(&world.me())).expect_err("nothing").contains("not known to be done"));
    let told = world.ledger.timeline(&status.lineage, &world.authority);
    assert!(told.iter().any(|e| e.kind == KIND_RECONCILED && e.void.is_none()), "{told:?}");
    // The same intent, to its effect.
    let again = world.propose(Proposal { rationale: "again".into(), ..proposal("198.51.100.7") });
    world.run();
    world.vote("ana", &again, Choice::Approve);
    let permit = world.run().pop().expect("a permit");
    let started = world.start(&permit);
    world.done(&started);
    assert_eq!((world.state(&again), used(&world, &p)), (State::Done, true));
}

#[test]
fn what_happened_by_a_persons_word_is_done_and_can_be_taken_back() {
    let mut world = World::new();
    let (p, started) = lost(&mut world);
    world.word("ana", &started, true);
    let status = world.status(&p);
    assert_eq!((status.state, used(&world, &p), blocked(&world)), (State::Done, true, false));
    assert_eq!(world.ledger.fate(&status.lineage, &world.authority), Fate::Done);
    assert!(crate::ledger::Ledger::reads(KIND_RECONCILED));
    let undo = take_back(&started, &world.bench(&world.me())).expect("permitted with it");
    assert_eq!(undo.permit(), world.ledger.start(&started).expect("here").body.permit);
    let begun = Compensating { started, by: None, reason: "r".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    assert_eq!(world.state(&p), State::Compensating);
    assert!(take_back(&started, &world.bench(&world.me())).is_ok(), "resumed after a crash");
    // Whatever becomes of whoever said it, and whoever says otherwise now.
    world.revoke("ana");
    world.word("bo", &started, false);
    assert_eq!((world.state(&p), used(&world, &p)), (State::Compensating, true));
    assert!(take_back(&started, &world.bench(&world.me())).is_ok());
    world.compensated(&started);
    assert_eq!(world.state(&p), State::Compensated);
    assert!(take_back(&started, &world.bench(&world.me())).expect_err("twice").contains("taken back already"));
}

#[test]
fn only_whom_the_permit_needed_says_what_became_of_it() {
    let mut world = World::new();
    let (p, started) = lost(&mut world);
    // Cy is of no such group; eve is enrolled nowhere; a signature of somebody else's key; another mesh.
    world.word("cy", &started, false);
    world.word("eve", &started, false);
    let statement = world.word_statement("ana", &started, false);
    world.put(3, "site/lyon", KIND_RECONCILED, &Word::sign(&statement, &World::person_key("cy")));
    let foreign = WordStatement { mesh: cauldron_identity::MeshId::from_bytes([7; 32]), ..statement.clone() };
    world.put(3, "site/lyon", KIND_RECONCILED, &Word::sign(&foreign, &World::person_key("ana")));
    // Carried where the site does not read it.
    world.put(3, "mesh", KIND_RECONCILED, &Word::sign(&statement, &World::person_key("ana")));
    assert_eq!((world.state(&p), used(&world, &p), blocked(&world)), (State::Unknown, true, true));
    let told = world.ledger.timeline(&p, &world.authority);
    assert!(told.iter().filter(|e| e.kind == KIND_RECONCILED).all(|e| e.void.is_some()), "{told:?}");
    // Whoever is revoked speaks no more.
    world.word("bo", &started, false);
    assert_eq!(world.state(&p), State::Failed);
    world.revoke("bo");
    assert_eq!((world.state(&p), used(&world, &p)), (State::Unknown, true));
    let start = world.ledger.start(&started).expect("here");
    assert!(world.ledger.was_freed_by_word(start, &world.authority), "but nobody did wrong who went by it");
}

#[test]
fn whoever_asked_for_something_does_not_say_what_became_of_it() {
    let mut world = World::new();
    let mut p = proposal("198.51.100.7");
    p.on_behalf_of = Some("bo".into());
    let p = world.propose(p);
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let permit = world.run().pop().expect("a permit");
    let started = world.start(&permit);
    world.lost(&started);
    world.word("bo", &started, false);
    assert_eq!((world.state(&p), used(&world, &p)), (State::Unknown, true));
    world.word("ana", &started, false);
    assert_eq!(world.state(&p), State::Failed);
}

#[test]
fn a_word_counts_only_while_the_owner_does_not_know() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let started = world.start(&permit);
    world.word("ana", &started, false);
    assert_eq!((world.state(&p), used(&world, &p), blocked(&world)), (State::Started, true, true));
    world.lost(&started);
    assert_eq!(world.state(&p), State::Failed);
    // What the owner itself finds out goes before it.
    world.done(&started);
    assert_eq!((world.state(&p), used(&world, &p)), (State::Done, true));

    let mut world = World::new();
    let (p, started) = lost(&mut world);
    world.word("ana", &started, true);
    world.failed(&started, true);
    assert_eq!((world.state(&p), used(&world, &p)), (State::Failed, false));
}

#[test]
fn of_two_who_contradict_each_other_whoever_says_that_it_happened_counts() {
    for order in [[true, false], [false, true]] {
        let mut world = World::new();
        let (p, started) = lost(&mut world);
        world.word("ana", &started, order[0]);
        world.word("ana", &started, order[0]);
        world.word("bo", &started, order[1]);
        assert_eq!((world.state(&p), used(&world, &p)), (State::Done, true));
    }
}

#[test]
fn what_a_lost_owner_began_is_settled_by_a_persons_word_too() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let started = world.start(&permit);
    world.reincarnate_lyon();
    assert_eq!(world.state(&p), State::Unknown);
    world.word("ana", &started, false);
    assert_eq!((world.state(&p), used(&world, &p)), (State::Failed, false));
}
