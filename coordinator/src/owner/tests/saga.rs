//! Steps of sagas: in their turn, whole, of one hand, and off again in reverse order.

use cauldron_identity::authority::Fenced;

use super::*;
use crate::coordinate::Act;
use crate::ledger::{Fate, State};

const ADDRESSES: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];

fn awaits(world: &World, p: &FactId) -> Option<String> {
    world.ledger.awaits_step(world.ledger.proposal(p).expect("here"), &world.authority)
}

fn rolls_back(world: &World, p: &FactId) -> Option<String> {
    world.ledger.rolls_back(world.ledger.proposal(p).expect("here"), &world.authority)
}

fn counts(world: &World, p: &FactId) -> Result<(), String> {
    world.ledger.proposal_counts(world.ledger.proposal(p).expect("here"), &world.authority)
}

fn permits(acts: &[Act]) -> Vec<FactId> {
    let of = |act: &Act| match act {
        Act::Permit { body, .. } => Some(body.proposal),
        _ => None,
    };
    acts.iter().filter_map(of).collect()
}

/// A saga of which people agreed to everything.
fn agreed() -> (World, Vec<FactId>) {
    let mut world = World::new();
    let steps = world.saga(&ADDRESSES);
    world.run();
    steps.iter().for_each(|step| _ = world.vote("ana", step, Choice::Approve));
    (world, steps)
}

/// A permit for a step out of turn, by a coordinator that lies.
fn permit_anyway(world: &mut World, p: &FactId) -> FactId {
    let recorded = world.ledger.proposal(p).expect("here").clone();
    let decision = world.ledger.decisions_on(p).next().expect("decided").clone();
    let ballot = Ballot::new(&world.ledger, &world.authority, &recorded, &decision.body);
    let votes = ballot.approving(world.clock.wall_ms).into_iter().collect();
    let body = Permit {
        votes,
        issued_ms: world.clock.wall_ms,
        execute_by_ms: world.clock.wall_ms + 600_000,
        authority_head: world.authority.head(),
        ..permit_for(
            (recorded.id, &recorded.body),
            (decision.id, &decision.body),
            (world.lyon.author_id(), 0),
            Catalogue::built_in(),
        )
    };
    world.put(2, "site/lyon", KIND_PERMIT, &body)
}

#[test]
fn each_step_is_permitted_once_the_one_before_it_is_done() {
    let (mut world, steps) = agreed();
    assert_eq!(permits(&world.step()), [steps[0]], "people agreed to all, and the first alone is permitted");
    let why = world.status(&steps[1]).why;
    assert!(why[0].contains("waits for step 1") && why[0].contains("not done"), "{why:?}");
    for (n, step) in steps.iter().enumerate() {
        assert_eq!(permits(&world.step()), [*step]);
        world.run();
        let permit = world.ledger.permits_on(step).next().expect("a permit").id;
        let started = world.start(&permit);
        assert_eq!(permits(&world.step()), [], "begun is not done");
        world.done(&started);
        assert_eq!(world.ledger.fate(step, &world.authority), Fate::Done, "step {n}");
    }
    assert!(steps.iter().all(|step| rolls_back(&world, step).is_none()));
}

#[test]
fn an_owner_begins_no_step_out_of_turn_whatever_a_coordinator_permits() {
    let (mut world, steps) = agreed();
    let early = permit_anyway(&mut world, &steps[1]);
    let why = refused(&world, &early, Code::Saga);
    assert!(why.contains("waits for step 1") && why.contains("must be done"), "{why}");
    let started = world.carried_out(&steps[0]);
    executes(&world, &early);
    world.compensated(&started);
    let why = refused(&world, &early, Code::Saga);
    assert!(why.contains("saga.step: step 1") && why.contains("taken back"), "{why}");
    assert!(matches!(world.judge(&early), Verdict::Void { .. }));
    assert_eq!((world.state(&steps[1]), world.state(&steps[2])), (State::Denied, State::Denied));
}

#[test]
fn a_step_whose_checks_have_not_come_out_is_not_done() {
    let (mut world, steps) = agreed();
    world.run();
    let first = world.ledger.permits_on(&steps[0]).next().expect("a permit").body.clone();
    let checked = world.put(2, "site/lyon", KIND_PERMIT, &Permit { post_checks: vec!["listed".into()], ..first });
    let started = world.start(&checked);
    world.done(&started);
    assert!(awaits(&world, &steps[1]).is_some_and(|why| why.contains("checks have not come out")));
    assert_eq!(permits(&world.step()), []);
    let check = Checked { name: "listed".into(), held: Some(true), says: "looked".into() };
    world.put(3, "site/lyon", KIND_VERIFIED, &Verified { started, checks: vec![check], at_ms: NOW });
    assert_eq!(permits(&world.step()), [steps[1]]);
}

#[test]
fn half_a_saga_is_not_begun() {
    let mut world = World::new();
    let saga = Some(SagaStep { index: 1, of: 2, after: None });
    let first = world.propose(Proposal { saga, ..proposal(ADDRESSES[0]) });
    world.run();
    world.vote("ana", &first, Choice::Approve);
    assert_eq!(permits(&world.step()), []);
    assert!(world.status(&first).why[0].contains("step 2 of 2 of its saga is not here"), "{:?}", world.status(&first));
    let permit = permit_anyway(&mut world, &first);
    assert!(refused(&world, &permit, Code::Saga).contains("half a saga"));
    let saga = Some(SagaStep { index: 2, of: 2, after: Some(first) });
    world.propose(Proposal { saga, ..proposal(ADDRESSES[1]) });
    executes(&world, &permit);
}

#[test]
fn nobody_hangs_a_step_on_what_somebody_else_proposed() {
    let mut world = World::new();
    let steps = world.saga(&ADDRESSES[..2]);
    let alone = world.propose(proposal("198.51.100.9"));
    let follows = |index, of, after: FactId| Some(SagaStep { index, of, after: Some(after) });
    let forged = [
        (
            "another agent",
            Proposal {
                saga: follows(2, 2, steps[0]),
                agent: proposal("198.51.100.5").agent.replace("sshd", "ssh"),
                ..proposal("198.51.100.5")
            },
        ),
        ("another length", Proposal { saga: follows(2, 3, steps[0]), ..proposal("198.51.100.6") }),
        ("no step", Proposal { saga: follows(2, 2, alone), ..proposal("198.51.100.7") }),
        ("behind the end", Proposal { saga: follows(3, 2, steps[1]), ..proposal("198.51.100.8") }),
    ];
    for (what, body) in forged {
        let id = world.propose(body);
        assert!(counts(&world, &id).is_err(), "{what}");
        // Whoever owns what it would do gives it up; that takes nothing of anybody back.
        world.abort(3, &id);
    }
    // Another node's word about the same agent.
    let body = Proposal { saga: follows(2, 2, steps[0]), ..proposal("198.51.100.4") };
    let id = world.put(4, "site/lyon", KIND_PROPOSAL, &body);
    assert!(counts(&world, &id).is_err());
    let started = world.carried_out(&steps[0]);
    world.abort(3, &id);
    assert_eq!((counts(&world, &steps[1]), rolls_back(&world, &steps[0])), (Ok(()), None));
    // Nor is it given up by anybody but its owner.
    world.abort(4, &steps[1]);
    assert_eq!(rolls_back(&world, &steps[0]), None);
    world.abort(3, &steps[1]);
    assert!(rolls_back(&world, &steps[0]).is_some_and(|why| why.contains("did not happen: denied")));
    assert!(take_back(&started, &world.bench(&world.me())).is_ok());
}

#[test]
fn of_two_that_say_to_be_one_step_neither_is_begun() {
    let (mut world, steps) = agreed();
    let saga = Some(SagaStep { index: 2, of: 3, after: Some(steps[0]) });
    let twin = world.propose(Proposal { saga, ..proposal("198.51.100.9") });
    for id in [twin, steps[1], steps[2]] {
        assert!(
            counts(&world, &id).expect_err("two").contains("more than one proposal says to be step 2"),
            "{}",
            id.short()
        );
    }
    assert_eq!(permits(&world.step()), [], "nor what comes before them");
}

#[test]
fn a_saga_is_taken_back_in_reverse_order_and_only_as_far_as_it_can_be() {
    let (mut world, steps) = agreed();
    let first = world.carried_out(&steps[0]);
    let second = world.carried_out(&steps[1]);
    world.vote("bo", &steps[2], Choice::Deny);
    // A no alone says nothing of what the owner began: its own word does.
    assert_eq!((rolls_back(&world, &steps[0]), rolls_back(&world, &steps[1])), (None, None));
    world.abort(3, &steps[2]);
    assert!(rolls_back(&world, &steps[1]).is_some_and(|why| why.contains("step 3")));
    assert_eq!(rolls_back(&world, &steps[0]), None, "what was done on top of it comes off first");
    let body = Compensating { started: second, by: None, reason: "r".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATING, &body);
    assert_eq!(rolls_back(&world, &steps[0]), None);
    let mut other = world.ledger.clone();
    world.compensated(&second);
    assert!(rolls_back(&world, &steps[0]).is_some_and(|why| why.contains("step 2") && why.contains("gone")));
    world.compensated(&first);
    assert_eq!(steps.map_state(&world), [State::Compensated, State::Compensated, State::Denied]);

    // The same, and the second cannot be taken back: it stays, and so does what lies below it.
    let failed = CompensationFailed { started: second, reason: "busy".into(), at_ms: NOW };
    let fact = world.sealed(3, "site/lyon", KIND_COMPENSATION_FAILED, &failed);
    other.insert(&fact);
    let first = other.proposal(&steps[0]).expect("here");
    assert_eq!(other.fate(&steps[1], &world.authority), Fate::Stuck);
    assert_eq!(other.rolls_back(first, &world.authority), None);
    let behind = other.stands_behind(first, &world.authority);
    assert!(behind.is_none(), "a person may decide to go on");
}

#[test]
fn nothing_is_begun_of_a_saga_of_which_a_step_will_not_be_done() {
    let (mut world, steps) = agreed();
    let early = permit_anyway(&mut world, &steps[0]);
    executes(&world, &early);
    world.abort(3, &steps[2]);
    assert_eq!(steps.map_state(&world), [State::Denied; 3]);
    assert!(world.status(&steps[0]).denials[0].why.contains("step 3"), "{:?}", world.status(&steps[0]));
    assert_eq!(permits(&world.step()), []);
    assert!(matches!(world.judge(&early), Verdict::Void { .. }));
}

#[test]
fn what_was_done_behind_a_step_that_is_over_is_taken_back_too() {
    let (mut world, steps) = agreed();
    let first = world.carried_out(&steps[0]);
    let early = world.carried_out(&steps[1]);
    let late = world.carried_out(&steps[2]);
    let behind = world.ledger.stands_behind(world.ledger.proposal(&steps[0]).expect("here"), &world.authority);
    assert_eq!(behind.map(|(n, p)| (n, p.id)), Some((3, steps[2])), "whoever asks for the first is told of the last");
    world.compensated(&first);
    assert_eq!(rolls_back(&world, &steps[1]), None);
    assert!(rolls_back(&world, &steps[2]).is_some_and(|why| why.contains("step 1")));
    assert!(!world.status(&steps[2]).contested, "nobody has to look: its owner takes it back");
    world.compensated(&late);
    assert!(rolls_back(&world, &steps[1]).is_some());
    world.compensated(&early);
}

#[test]
fn what_was_over_by_its_own_time_stands_in_nobodys_way() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    let second = world.carried_out(&steps[1]);
    world.put(3, "site/lyon", KIND_ENDED, &Ended { started: second, effect_ref: "line".into(), ended_ms: NOW });
    assert_eq!((awaits(&world, &steps[2]), rolls_back(&world, &steps[0])), (None, None));
    world.abort(3, &steps[2]);
    assert!(rolls_back(&world, &steps[0]).is_some_and(|why| why.contains("step 3")));
}

/// What an author says that it began of a step, on a resource of its choice.
fn said_to_be_begun(world: &mut World, author: u8, step: &FactId, resource: &str) -> FactId {
    begun_on(world, author, step, resource, FactId::from_bytes([7; 32]))
}

fn begun_on(world: &mut World, author: u8, step: &FactId, resource: &str, permit: FactId) -> FactId {
    let p = world.ledger.proposal(step).expect("here");
    let start = Started {
        permit,
        proposal: p.id,
        lineage: p.id,
        resource: resource.to_owned(),
        intent_key: p.body.intent_key.clone(),
        owner_seq: 1,
        idempotency_key: String::new(),
        input_digest: p.body.args_digest,
        started_ms: NOW,
    };
    world.put(author, "site/lyon", KIND_STARTED, &start)
}

#[test]
fn whoever_owned_a_step_before_gives_up_nothing_that_its_present_owner_began() {
    for (begun, counts) in [(false, true), (true, false)] {
        let (mut world, steps) = agreed();
        world.carried_out(&steps[0]);
        super::hands::move_to_lyon_2(&mut world, Fenced::Local);
        if begun {
            let permit = permit_anyway(&mut world, &steps[1]);
            let body = world.ledger.permit(&permit).expect("here").body.clone();
            let permit =
                world.put(2, "site/lyon", KIND_PERMIT, &Permit { owner: key(5).author_id(), incarnation: 0, ..body });
            begun_on(&mut world, 5, &steps[1], "lyon/lyon/blocklist/198.51.100.2", permit);
        }
        world.abort(3, &steps[1]);
        assert_eq!(world.ledger.aborted(&steps[1], &world.authority).is_some(), counts);
        assert_eq!(rolls_back(&world, &steps[0]).is_some(), counts);
        // Nor does it say more than its present owner of what became of it.
        let old = said_to_be_begun(&mut world, 3, &steps[1], "lyon/lyon/blocklist/198.51.100.2");
        world.compensated(&old);
        assert_eq!(world.ledger.fate(&steps[1], &world.authority) == Fate::Begun, begun);
        // Nor by a permit of its own making.
        let own = permit_anyway(&mut world, &steps[1]);
        let body = world.ledger.permit(&own).expect("here").body.clone();
        let own = world.put(3, "site/lyon", KIND_PERMIT, &body);
        let old = begun_on(&mut world, 3, &steps[1], "lyon/lyon/blocklist/198.51.100.2", own);
        world.compensated(&old);
        assert_eq!(world.ledger.fate(&steps[1], &world.authority) == Fate::Begun, begun);
        world.abort(5, &steps[1]);
        assert!(rolls_back(&world, &steps[0]).is_some(), "the present owner's word is believed");
    }
}

#[test]
fn nobody_says_what_became_of_a_step_that_another_owner_has_to_do() {
    let (mut world, steps) = agreed();
    let first = world.carried_out(&steps[0]);
    for resource in ["porto/porto/blocklist/198.51.100.2", "lyon/lyon/blocklist/198.51.100.2"] {
        let started = said_to_be_begun(&mut world, 4, &steps[1], resource);
        assert_eq!(world.ledger.fate(&steps[1], &world.authority), Fate::Open, "{resource}");
        let taken = Compensated { started, effect_ref: "gone".into(), after_version: None, at_ms: NOW };
        world.put(4, "site/lyon", KIND_COMPENSATED, &taken);
        assert_eq!(world.ledger.fate(&steps[1], &world.authority), Fate::Open, "{resource}");
        assert_eq!(rolls_back(&world, &steps[0]), None, "{resource}: nothing is taken back");
    }
    let done = said_to_be_begun(&mut world, 4, &steps[1], "porto/porto/blocklist/198.51.100.2");
    let of = |p: &FactId| world.ledger.reports_on(p).next().cloned();
    assert!(of(&first).is_some());
    let body = Done {
        started: done,
        effect_ref: "e".into(),
        result_digest: Digest::of("result", b""),
        before_version: None,
        after_version: None,
        until_ms: None,
        done_ms: NOW,
        labels: vec![],
    };
    world.put(4, "site/lyon", KIND_DONE, &body);
    assert!(awaits(&world, &steps[2]).is_some_and(|why| why.contains("step 2") && why.contains("not done")));
    assert_eq!(permits(&world.step()), [steps[1]]);
    let behind = world.ledger.stands_behind(world.ledger.proposal(&steps[0]).expect("here"), &world.authority);
    assert!(behind.is_none(), "nor does it stand in the way of taking the first back");
}

#[test]
fn a_rival_of_a_step_that_stands_takes_nothing_back() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    world.carried_out(&steps[1]);
    // Both ways that ids may sort.
    for n in 0..8 {
        let saga = Some(SagaStep { index: 2, of: 3, after: Some(steps[0]) });
        let twin = world.propose(Proposal { saga, ..proposal(&format!("198.51.100.{}", 100 + n)) });
        world.abort(3, &twin);
        assert!(matches!(world.ledger.fate(&twin, &world.authority), Fate::Over(..)));
        assert_eq!(rolls_back(&world, &steps[0]), None, "rival {n}");
    }
    world.abort(3, &steps[2]);
    assert!(rolls_back(&world, &steps[1]).is_some(), "and what hangs on the step itself still does");
}

#[test]
fn a_step_whose_owner_lost_that_life_is_unknown_and_bars_no_person() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    world.run();
    world.vote("ana", &steps[1], Choice::Approve);
    world.run();
    let permit = world.ledger.permits_on(&steps[1]).next().expect("a permit").id;
    world.start(&permit);
    let first = |world: &World| world.ledger.proposal(&steps[0]).expect("here").clone();
    let behind = |world: &World| world.ledger.stands_behind(&first(world), &world.authority).map(|(n, _)| n);
    assert_eq!((world.ledger.fate(&steps[1], &world.authority), behind(&world)), (Fate::Begun, Some(2)));
    world.reincarnate_lyon();
    assert_eq!((world.ledger.fate(&steps[1], &world.authority), behind(&world)), (Fate::Unknown, None));
}

#[test]
fn what_was_over_before_its_checks_came_out_bars_the_next_step_and_no_roll_back() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    world.run();
    let second = world.ledger.permits_on(&steps[1]).next().expect("a permit").body.clone();
    let checked = world.put(2, "site/lyon", KIND_PERMIT, &Permit { post_checks: vec!["listed".into()], ..second });
    let started = world.start(&checked);
    world.done(&started);
    world.put(3, "site/lyon", KIND_ENDED, &Ended { started, effect_ref: "line".into(), ended_ms: NOW });
    assert!(awaits(&world, &steps[2]).is_some_and(|why| why.contains("before its checks")));
    world.abort(3, &steps[2]);
    assert!(rolls_back(&world, &steps[0]).is_some());
}

#[test]
fn an_edited_step_keeps_its_place() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    let mut child = crate::ledger::people_tests::edit(&world, &steps[1], "bo", crate::ledger::people_tests::shorter);
    assert_eq!(child.saga.map(|s| s.index), Some(2));
    let id = world.put(3, "site/lyon", KIND_PROPOSAL, &child);
    assert_eq!((counts(&world, &id), world.state(&steps[1])), (Ok(()), State::Superseded));
    world.carried_out(&id);
    assert_eq!(awaits(&world, &steps[2]), None);
    child.saga = Some(SagaStep { index: 3, of: 3, after: Some(steps[1]) });
    let moved = world.put(3, "site/lyon", KIND_PROPOSAL, &child);
    assert!(counts(&world, &moved).expect_err("moved").contains("another step of a saga"));
}

#[test]
fn policy_sees_the_steps_before() {
    let (mut world, steps) = agreed();
    world.carried_out(&steps[0]);
    let me = world.me();
    let observer = Observer { spiffe_id: &me, lease: world.lease, resource_version: None, budgets: &[] };
    let input = build(&world.ledger, &world.authority, &world.clock, &observer, &steps[1]).expect("here");
    let saga = &input.document()["saga"];
    assert_eq!((saga["step"].as_u64(), saga["of"].as_u64()), (Some(2), Some(3)));
    assert_eq!(saga["before"][0]["state"], "DONE");
    let alone = world.propose(proposal("198.51.100.9"));
    let input = build(&world.ledger, &world.authority, &world.clock, &observer, &alone).expect("here");
    assert!(input.document()["saga"].is_null());
}

/// States of steps in a row.
trait States {
    fn map_state(&self, world: &World) -> Vec<State>;
}

impl States for Vec<FactId> {
    fn map_state(&self, world: &World) -> Vec<State> {
        self.iter().map(|step| world.state(step)).collect()
    }
}

#[test]
fn a_step_and_an_edit_of_it_have_one_place_in_their_saga() {
    let mut world = World::new();
    let ids = world.saga(&["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
    let place = |world: &World, id: &FactId| world.ledger.saga_place(world.ledger.proposal(id).expect("here"));
    let places: Vec<_> = ids.iter().map(|id| place(&world, id)).collect();
    assert_eq!(places, [(ids[0], 1), (ids[0], 2), (ids[0], 3)]);
    let saga = world.ledger.proposal(&ids[1]).expect("here").body.saga;
    let child =
        world.propose(Proposal { lineage: Some(ids[1]), parent: Some(ids[1]), saga, ..proposal("198.51.100.9") });
    assert_eq!(place(&world, &child), (ids[0], 2));
    let alone = world.propose(proposal("198.51.100.8"));
    assert_eq!(place(&world, &alone), (alone, 0));
}
