//! What people are shown and told, in a core that holds a founded mesh.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cauldron_coordinator::bodies::{KIND_DECISION, KIND_PERMIT, Outcome, Permit, Proposal, SagaStep};
use cauldron_coordinator::owner::Verdict;
use cauldron_coordinator::testkit::{self, World};
use cauldron_coordinator::vote::Choice;
use cauldron_identity::charter::Seat;
use cauldron_identity::{AuthorKey, Digest, FactId};

use crate::NodeCore;
use crate::attention::{OWN_TOLD_MAX, OWN_TOLD_MS, Told, keep_told};
use crate::testing::{self, charter, config};

/// A core of `key` that holds what the world holds.
fn core_of(world: &World, key: AuthorKey, spiffe_id: &str) -> NodeCore {
    let seat = testing::key(9).public();
    let charter = charter(Seat { author: seat, spiffe_id: "spiffe://acme.test/coordinator/hq".into() });
    let mut core = NodeCore::open(config(key, spiffe_id, &charter), [], world.clock).expect("it opens");
    (core.ledger, core.authority) = (world.ledger.clone(), world.authority.clone());
    core
}

fn core(world: &World) -> NodeCore {
    core_of(world, testing::key(9), "spiffe://acme.test/coordinator/hq")
}

#[test]
fn what_ends_first_is_at_the_top_and_a_saga_stands_together_where_the_first_of_its_steps_ends() {
    let mut world = World::new();
    let mut ends = |n: u64, saga: Option<SagaStep>| {
        let expires_ms = testkit::NOW + n * 1_200_000;
        world.propose(Proposal { saga, expires_ms, ..testkit::proposal(&format!("203.0.113.{n}")) })
    };
    // The second step of each ends before its first, and one saga begins while the other is not over.
    let [a, b] = [(12, 6), (11, 8)].map(|(first, second)| {
        let first = ends(first, Some(SagaStep { index: 1, of: 2, after: None }));
        [first, ends(second, Some(SagaStep { index: 2, of: 2, after: Some(first) }))]
    });
    let [soon, between, late] = [5, 7, 10].map(|n| ends(n, None));
    world.run();
    let expected = [soon, a[0], a[1], between, b[0], b[1], late];
    let core = core(&world);
    let shown = core.waiting_view(world.clock);
    assert_eq!(shown.iter().filter_map(|line| line.id.parse().ok()).collect::<Vec<FactId>>(), expected);
    let mut waiting = world.ledger.waiting_approvals(&world.authority, world.clock.wall_ms);
    for _ in 0..waiting.len() {
        waiting.rotate_left(1);
        let placed = core.in_turn(waiting.iter().map(Cow::Borrowed).collect());
        let placed: Vec<FactId> = placed.iter().map(|status| status.id).collect();
        assert_eq!(placed, expected, "whatever order they come in");
    }
}

#[test]
fn a_yes_or_an_objection_to_what_is_over_is_told_as_counting_for_nothing() {
    let mut world = World::new();
    let p = world.propose(testkit::proposal("203.0.113.7"));
    world.run();
    let vote = |world: &World, person: &str, choice: Choice| {
        world.statement_on(person, &p, choice).sign(&World::person_key(person))
    };
    let weigh = |world: &World, vote: &cauldron_coordinator::vote::SignedVote| {
        let weight = core(world).weigh(world.clock, vote).expect("it is here");
        (weight.counts, weight.why, weight.open)
    };
    // The yes by which it was permitted counts, also where its owner began at once.
    let yes = vote(&world, "ana", Choice::Approve);
    world.cast(&world.statement_on("ana", &p, Choice::Approve), "ana");
    let permit = *world.run().last().expect("a permit");
    let started = world.start(&permit);
    assert_eq!(weigh(&world, &yes), (Some(true), None, vec![]));
    world.done(&started);
    let why = || Some("it is DONE already".to_owned());
    for choice in [Choice::Approve, Choice::Object] {
        let late = vote(&world, "bo", choice);
        assert_eq!(weigh(&world, &late), (Some(false), why(), vec![]), "{choice:?}");
    }
    assert_eq!(weigh(&world, &vote(&world, "bo", Choice::Deny)).0, Some(true), "a no makes people look");

    let mut world = World::new();
    world.propose(testkit::proposal("203.0.113.7"));
    world.run();
    let late = vote(&world, "ana", Choice::Approve);
    assert_eq!(weigh(&world, &late).0, Some(false), "it fills no seat unless it is here");
    world.cast(&world.statement_on("ana", &p, Choice::Approve), "ana");
    assert_eq!(weigh(&world, &late), (Some(true), None, vec![]));
    world.clock.wall_ms += 13 * 3_600_000;
    assert_eq!(weigh(&world, &late), (Some(false), Some("it is EXPIRED already".to_owned()), vec![]));
}

#[test]
fn what_could_not_be_started_is_not_told_as_allowed() {
    const TELLS: &str =
        "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"notify\": [\"security-duty\"]}";
    let mut world = World::with_policy(TELLS);
    let p = world.propose(testkit::proposal("203.0.113.7"));
    world.run();
    // Its owner's own policy tells a group that the decision does not name.
    let mut decided = world.decision(&p);
    decided.obligations.notify.clear();
    let decision = world.put(2, "site/lyon", KIND_DECISION, &decided);
    let permit = world.ledger.permits_on(&p).next().expect("a permit").body.clone();
    let permit = world.put(2, "site/lyon", KIND_PERMIT, &Permit { decision, terms: decided.terms(), ..permit });
    let told = |mut core: NodeCore| {
        let Verdict::Execute(verified) = world.judge(&permit) else { panic!("{:?}", world.judge(&permit)) };
        core.start(verified);
        (core.ledger.starts_on_permit(&permit).count(), core.work.told.len())
    };
    assert_eq!(told(core(&world)), (0, 0), "nobody knows this author, and its start is refused");
    assert_eq!(told(core_of(&world, testkit::key(3), "spiffe://acme.test/site/lyon/node/lyon")), (1, 1));
}

#[test]
fn of_too_many_own_notices_the_oldest_goes() {
    let told = |n: u64| Told {
        proposal: FactId::from_bytes([1; 32]),
        terms: Digest::of("test", b""),
        groups: ["duty".to_owned()].into(),
        outcome: Outcome::Allow,
        decided_ms: testkit::NOW + n,
    };
    let id = |n: u64| FactId::from_bytes(*Digest::of("test", &n.to_be_bytes()).as_bytes());
    let mut all = BTreeMap::new();
    let most = OWN_TOLD_MAX as u64;
    (0..most + 3).for_each(|n| keep_told(&mut all, id(n), told(n)));
    assert_eq!(all.len(), OWN_TOLD_MAX);
    assert!((0..3).all(|n| !all.contains_key(&id(n))) && (3..most + 3).all(|n| all.contains_key(&id(n))));
    keep_told(&mut all, id(most + 3), told(OWN_TOLD_MS + most));
    assert_eq!(all.len(), 3, "and what is older than a week goes anyway");
}
