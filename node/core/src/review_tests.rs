//! What calls people is ended by what the calls tell them to do, and by nothing else.

use cauldron_coordinator::bodies::{Compensating, KIND_COMPENSATING, KIND_VERIFY_FAILED, Review, Verified};
use cauldron_coordinator::ledger::Call;
use cauldron_coordinator::testkit::World;
use cauldron_identity::FactId;

use crate::testing::lyon;
use crate::{NodeCore, Reply};

fn done(world: &mut World) -> (FactId, FactId) {
    let permit = world.permitted("203.0.113.7");
    let started = world.start(&permit);
    world.done(&started);
    (world.ledger.permit(&permit).expect("here").body.proposal, started)
}

fn refused(core: &mut NodeCore, review: &Review) -> &'static str {
    core.review_glass(review).expect_err("it is refused").code
}

#[test]
fn a_review_that_settles_nothing_is_refused() {
    let mut world = World::new();
    let (p, started) = done(&mut world);
    let mut core = lyon(&world);
    assert_eq!(refused(&mut core, &world.review("ana", started)), "nothing_to_review");

    let checks = Verified { started, checks: vec![], at_ms: u64::MAX };
    let failed = world.put(3, "site/lyon", KIND_VERIFY_FAILED, &checks);
    let others = world.put(4, "site/lyon", KIND_VERIFY_FAILED, &checks);
    let mut core = lyon(&world);
    assert_eq!((core.docket.call_of(&p), core.to_review(&p)), (Some(Call::VerifyFailed), vec![failed]));
    for (used, person, code) in [
        (started, "ana", "nothing_to_review"),
        (others, "ana", "nothing_to_review"),
        (failed, "cy", "not_a_reviewer"),
        (FactId::from_bytes([9; 32]), "ana", "unknown_use"),
    ] {
        assert_eq!(refused(&mut core, &world.review(person, used)), code, "{used} {person}");
    }
    let look = world.review("ana", failed);
    assert!(matches!(core.review_glass(&look), Ok(Reply::Recorded(_))));
    core.docket.refresh(&core.ledger, &core.authority, world.clock.wall_ms);
    assert_eq!((core.docket.call_of(&p), core.to_review(&p)), (None, vec![]));
    assert_eq!(refused(&mut core, &look), "nothing_to_review", "once is enough");
}

#[test]
fn what_a_past_life_was_taking_back_is_settled_by_a_review_and_not_asked_back() {
    let mut world = World::new();
    let (p, started) = done(&mut world);
    let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: world.clock.wall_ms };
    let begun = world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    let undo = |core: &mut NodeCore| core.undo_asked(&p, "ana".into(), "a veto".into(), false);
    assert_eq!(undo(&mut lyon(&world)), Ok(Reply::Already(begun)), "this life is at it");

    world.reincarnate_lyon();
    let mut core = lyon(&world);
    let why = undo(&mut core).expect_err("nobody goes on with it");
    assert!(why.code == "no_undo" && why.reason.contains("cauldron break-glass review"), "{why:?}");
    let called = core.attention_view();
    let commands: Vec<String> = called.iter().flat_map(|call| call.commands.clone()).collect();
    assert_eq!(commands, [format!("cauldron break-glass review {} --note FOUND", p.short())], "undo is not offered");
    assert_eq!(core.to_review(&p), [begun]);
    assert!(matches!(core.review_glass(&world.review("ana", begun)), Ok(Reply::Recorded(_))));
    core.docket.refresh(&core.ledger, &core.authority, world.clock.wall_ms);
    assert_eq!(core.attention_view(), []);
}
