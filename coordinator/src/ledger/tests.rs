use super::*;
use crate::bodies::{Failed, KIND_FAILED, KIND_PERMIT, Target};
use crate::owner::Verdict;
use crate::testkit::{NOW, World, key, proposal};
use crate::vote::Choice;
use cauldron_identity::Authority;
use cauldron_identity::Confidence;
use proptest::prelude::*;
use proptest::sample::Index;

#[test]
fn the_straight_way() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    assert_eq!(world.state(&p), State::Proposed);
    world.run();
    assert_eq!(world.state(&p), State::PendingApproval);
    let status = world.status(&p);
    assert!(status.why[0].contains("0 of 1 approvals; waits for security-duty"), "{:?}", status.why);
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::Approved);
    let permit = world.run()[0];
    assert_eq!((world.state(&p), world.status(&p).permit), (State::Permitted, Some(permit)));
    let started = world.start(&permit);
    assert_eq!(world.state(&p), State::Started);
    world.done(&started);
    let status = world.status(&p);
    assert_eq!((status.state, status.contested, status.started), (State::Done, false, Some(started)));
    let kinds: Vec<_> = world.ledger.timeline(&p, &world.authority).into_iter().map(|e| (e.kind, e.void)).collect();
    let expected = ["proposal", "decision", "vote", "permit", "started", "done"].map(|k| (k.to_owned(), None));
    assert_eq!(kinds, expected);
    assert_eq!(world.ledger.why(&permit, &world.authority, NOW), Some(vec!["done: blocklist:198.51.100.7".into()]));
    assert_eq!(world.ledger.why(&FactId::from_bytes([9; 32]), &world.authority, NOW), None);
}

#[test]
fn any_persons_no_is_final_and_a_late_one_contests() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.vote("cy", &p, Choice::Deny);
    world.clock.wall_ms += 1;
    world.vote("cy", &p, Choice::Approve);
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::Denied);
    assert_eq!(world.step(), vec![]);
    world.revoke("cy");
    assert_eq!(world.state(&p), State::Denied, "a revocation does not undo a no");

    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    world.start(&permit);
    world.vote("bo", &p, Choice::Deny);
    let status = world.status(&p);
    assert_eq!((status.state, status.contested), (State::Started, true));
}

#[test]
fn a_kill_after_the_outcome_contests_nothing() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let started = world.start(&permit);
    world.done(&started);
    world.clock.wall_ms += 1;
    world.restrict(2, "mesh#restrict", Target::All);
    assert!(!world.status(&p).contested);
    world.restrict(2, "mesh#restrict", Target::Lineage(p));
    assert!(world.status(&p).contested);
}

#[test]
fn an_approval_can_be_taken_back_until_the_start() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    world.clock.wall_ms += 1;
    world.vote("ana", &p, Choice::Withdraw);
    assert_eq!(world.state(&p), State::PendingApproval);
    world.clock.wall_ms += 1;
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::Permitted);
    world.start_with_new_permit(&p);
    world.clock.wall_ms += 1;
    world.vote("ana", &p, Choice::Withdraw);
    assert_eq!(world.state(&p), State::Started);
}

#[test]
fn of_two_statements_at_one_time_the_cautious_one_holds() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.vote("ana", &p, Choice::Withdraw);
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.state(&p), State::PendingApproval);
}

#[test]
fn time_alone_expires_and_voids() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let pending = world.propose(proposal("198.51.100.8"));
    world.run();
    world.clock.wall_ms += PERMIT_MS_MAX + 1;
    assert_eq!((world.state(&p), world.state(&pending)), (State::Void, State::PendingApproval));
    world.vote("ana", &p, Choice::Withdraw);
    assert_eq!(world.state(&p), State::Void, "nothing leads out of it");
    world.clock.wall_ms += 12 * 3_600_000;
    assert_eq!((world.state(&p), world.state(&pending)), (State::Expired, State::Expired));
    world.vote("ana", &pending, Choice::Approve);
    assert_eq!(world.state(&pending), State::Expired);
}

#[test]
fn a_permit_out_of_thin_air_neither_helps_nor_hinders() {
    let mut world = World::new();
    let real = world.permitted("198.51.100.7");
    let forged = world.ledger.permit(&real).expect("here").body.clone();
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let forged = Permit { votes: vec![], ..forged };
    let id = world.put(2, "site/lyon", KIND_PERMIT, &forged);
    assert_eq!(world.state(&p), State::PendingApproval);
    assert!(matches!(world.judge(&id), Verdict::Refuse { .. }));
    let told = world.ledger.timeline(&p, &world.authority);
    assert!(told.iter().any(|e| e.id == id && e.void.as_deref() == Some("no decision and votes here support it")));
    world.vote("ana", &p, Choice::Approve);
    assert_eq!(world.run().len(), 1);
    assert_eq!(world.state(&p), State::Permitted);
}

#[test]
fn a_garbage_signature_does_not_hide_the_true_vote() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let statement = world.statement_on("ana", &p, Choice::Approve);
    let forged = statement.sign(&key(99));
    world.put(3, "site/lyon", KIND_VOTE, &forged);
    assert_eq!(world.state(&p), State::PendingApproval);
    world.cast(&statement, "ana");
    assert_eq!(world.state(&p), State::Approved);
    world.cast(&statement, "ana");
    assert_eq!(world.ledger.votes_on(&p).count(), 2, "carried twice is one vote");
}

#[test]
fn only_an_entitled_coordinator_decides() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    let acts = world.step();
    world.write_as(3, &acts);
    world.write_as(4, &acts);
    assert_eq!(world.state(&p), State::Proposed);
    world.write(&acts);
    assert_eq!(world.state(&p), State::PendingApproval);
}

#[test]
fn only_the_owner_starts_and_reports() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    let Verdict::Execute(verified) = world.judge(&permit) else { panic!("sound") };
    let body = verified.started(1, NOW);
    world.put(4, "site/lyon", KIND_STARTED, &body);
    assert_eq!(world.state(&p), State::Permitted);
    let started = world.start(&permit);
    let done =
        crate::bodies::Failed { started, probed_no_effect: true, reason: "x".into(), failed_ms: NOW, labels: vec![] };
    world.put(4, "site/lyon", KIND_FAILED, &done);
    assert_eq!(world.state(&p), State::Started);
}

#[test]
fn a_restored_owner_leaves_its_open_permits_and_starts_unknown() {
    let mut world = World::new();
    let open = world.permitted("198.51.100.7");
    let begun = world.permitted("198.51.100.8");
    world.start(&begun);
    let of = |id: &FactId| world.ledger.permit(id).expect("here").body.proposal;
    let (open, begun) = (of(&open), of(&begun));
    world.reincarnate_lyon();
    assert_eq!((world.state(&open), world.state(&begun)), (State::Unknown, State::Unknown));
    world.clock.wall_ms += 13 * 3_600_000;
    assert_eq!(world.state(&open), State::Unknown, "never void");
}

#[test]
fn facts_of_other_kinds_or_shapes_mean_nothing() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    let fact = world.facts[0].clone();
    assert_eq!(world.ledger.insert(&fact), Inserted::Duplicate);
    let bare = fact.sealed().without_body().open(&world.lyon.public()).expect("opens");
    let mut ledger = Ledger::new();
    assert!(matches!(ledger.insert(&bare), Inserted::Unreadable(_)));
    assert!(ledger.proposal(&p).is_none());
}

#[test]
fn open_intents_are_listed_per_resource() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    let resource = proposal("198.51.100.7").resource;
    let intents = |w: &World| w.ledger.intents_on(&resource, &w.authority, w.clock.wall_ms);
    assert_eq!(intents(&world).into_iter().collect::<Vec<_>>(), [proposal("198.51.100.7").intent_key]);
    world.run();
    assert_eq!(world.ledger.waiting_approvals(&world.authority, NOW).len(), 1);
    world.vote("ana", &p, Choice::Deny);
    assert!(intents(&world).is_empty() && world.ledger.open(&world.authority, NOW).is_empty());
}

/// One random thing that happens in a mesh.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Propose(bool),
    Coordinate,
    Vote(u8, Index, u8),
    Forge(Index),
    Veto(Index),
    Kill(u8),
    Start(Index),
    Report(Index, u8),
    Pass(u64),
    Revoke(u8),
    Policy(u8),
    Restore(u8),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        4 => any::<bool>().prop_map(Op::Propose),
        6 => Just(Op::Coordinate),
        8 => (0u8..3, index(), 0u8..12).prop_map(|(w, p, c)| Op::Vote(w, p, c)),
        1 => index().prop_map(Op::Forge),
        1 => index().prop_map(Op::Veto),
        1 => (0u8..8).prop_map(Op::Kill),
        8 => index().prop_map(Op::Start),
        6 => (index(), 0u8..4).prop_map(|(s, r)| Op::Report(s, r)),
        4 => (1u64..800_000).prop_map(Op::Pass),
        1 => Just(Op::Pass(10 * 3_600_000)),
        1 => (0u8..3).prop_map(Op::Revoke),
        1 => (0u8..2).prop_map(Op::Policy),
        1 => (0u8..4).prop_map(Op::Restore),
    ]
}

pub(super) const PEOPLE: [&str; 3] = ["ana", "bo", "cy"];

pub(super) fn apply(world: &mut World, op: &Op) {
    let proposals: Vec<FactId> = world.ledger.proposals().map(|p| p.id).collect();
    let pick = |index: &Index| (!proposals.is_empty()).then(|| *index.get(&proposals));
    match op {
        Op::Propose(child) => {
            let n = proposals.len();
            let mut body = proposal(&format!("198.51.100.{}", n % 3));
            (body.created_ms, body.expires_ms) = (world.clock.wall_ms, world.clock.wall_ms + 9 * 3_600_000);
            body.parent = proposals.first().copied().filter(|_| *child);
            body.lineage = body.parent.and_then(|p| Some(world.ledger.proposal(&p)?.body.lineage(p)));
            world.propose(body);
        }
        Op::Coordinate => drop(world.run()),
        Op::Vote(who, p, choice) => {
            let choice = [Choice::Deny, Choice::Withdraw, Choice::Abstain].get(*choice as usize).copied();
            let decided = pick(p).filter(|p| world.ledger.decisions_on(p).next().is_some());
            if let Some(p) = decided {
                world.vote(PEOPLE[*who as usize], &p, choice.unwrap_or(Choice::Approve));
            }
        }
        Op::Forge(p) => {
            let permit = pick(p).and_then(|p| world.ledger.permits_on(&p).next().map(|r| r.body.clone()));
            if let Some(permit) = permit {
                world.put(2, "site/lyon", KIND_PERMIT, &Permit { votes: vec![], ..permit });
            }
        }
        Op::Veto(p) => drop(pick(p).map(|p| world.restrict(2, "site/lyon#restrict", Target::Lineage(p)))),
        Op::Kill(n) => {
            if *n == 0 {
                world.restrict(2, "mesh#restrict", Target::Site("lyon".into()));
            }
        }
        Op::Start(p) => {
            let permits: Vec<FactId> = pick(p)
                .into_iter()
                .flat_map(|p| world.ledger.permits_on(&p).map(|r| r.id).collect::<Vec<_>>())
                .collect();
            for permit in permits {
                if matches!(world.judge(&permit), Verdict::Execute(_)) {
                    world.start(&permit);
                }
            }
        }
        Op::Report(index, kind) => {
            let starts: Vec<FactId> = world.ledger.starts().map(|s| s.id).collect();
            if starts.is_empty() {
                return;
            }
            let start = *index.get(&starts);
            // An honest owner never takes back that it was done, or that a probe saw no effect.
            let settled =
                |r: &Report| matches!(r, Report::Done(_) | Report::Failed(Failed { probed_no_effect: true, .. }));
            if world.ledger.reports_on(&start).any(|r| settled(&r.body)) {
                return;
            }
            match kind {
                0 | 1 => drop(world.done(&start)),
                2 => drop(world.failed(&start, true)),
                _ => drop(world.failed(&start, false)),
            }
        }
        Op::Pass(ms) => world.clock.wall_ms += ms,
        Op::Revoke(who) => {
            if world.authority.person(PEOPLE[*who as usize]).is_some() {
                world.revoke(PEOPLE[*who as usize]);
            }
        }
        Op::Policy(n) => {
            let extra = format!(
                "package cauldron.guardrail\nstep_up contains {{\"rule\":\"r{n}\",\"why\":\"y\",\"approvals\":[{{\"group\":\"security-duty\",\"n\":1}}]}}"
            );
            world.activate(&World::bundle(&extra));
        }
        Op::Restore(n) => {
            if *n == 0 && world.incarnation == 0 {
                world.reincarnate_lyon();
                world.incarnation = 1;
            }
        }
    }
}

/// FINAL: nothing leads from a final state towards an effect; what was begun stays begun; done stays done.
fn check_final(before: &BTreeMap<FactId, State>, after: &BTreeMap<FactId, State>) -> Result<(), TestCaseError> {
    for (id, was) in before {
        let Some(is) = after.get(id) else { return Err(TestCaseError::fail("a proposal vanished")) };
        let kept = is.is_started() || (is.is_final() && (*was != State::Denied || *is == State::Denied));
        prop_assert!(!was.is_final() || kept, "{was:?} became {is:?}");
        prop_assert!(!was.is_started() || is.is_started(), "{was:?} became {is:?}");
        prop_assert!(*was != State::Done || *is == State::Done, "{was:?} became {is:?}");
    }
    Ok(())
}

fn states(ledger: &Ledger, authority: &Authority, now_ms: u64) -> BTreeMap<FactId, State> {
    ledger.statuses(authority, now_ms).into_iter().map(|s| (s.id, s.state)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn states_are_final_and_nothing_is_started_twice(ops in proptest::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        let mut before = BTreeMap::new();
        for op in &ops {
            apply(&mut world, op);
            let after = states(&world.ledger, &world.authority, world.clock.wall_ms);
            check_final(&before, &after)?;
            before = after;
            // ONCE: per lineage, and per resource and intent, at most one start that may have had an effect.
            let mut used = BTreeSet::new();
            for start in world.ledger.starts() {
                let free = world.ledger.reports_on(&start.id).any(|r| matches!(&r.body, Report::Failed(f) if f.probed_no_effect))
                    && !world.ledger.reports_on(&start.id).any(|r| matches!(&r.body, Report::Done(_)));
                if !free {
                    prop_assert!(used.insert(start.body.lineage.to_string()), "lineage started twice");
                    prop_assert!(used.insert(format!("{} {}", start.body.resource, start.body.intent_key)), "intent started twice");
                }
            }
        }
    }

    #[test]
    fn any_order_and_repetition_give_one_ledger_and_every_way_there_is_final(
        ops in proptest::collection::vec(op(), 1..30),
        order in proptest::collection::vec(any::<u32>(), 200),
    ) {
        let mut world = World::new();
        for op in &ops {
            apply(&mut world, op);
        }
        let mut shuffled: Vec<(u32, &cauldron_identity::Fact)> = world.facts.iter().zip(order.iter().cycle()).map(|(f, n)| (*n, f)).collect();
        shuffled.sort_by_key(|(n, f)| (*n, f.id()));
        let mut other = Ledger::new();
        let mut before = BTreeMap::new();
        for (_, fact) in &shuffled {
            other.insert(fact);
            let after = states(&other, &world.authority, world.clock.wall_ms);
            check_final(&before, &after)?;
            before = after;
        }
        for (_, fact) in shuffled.iter().rev() {
            prop_assert_eq!(other.insert(fact), Inserted::Duplicate);
        }
        prop_assert_eq!(&other, &world.ledger);
        let at = |ledger: &Ledger| ledger.statuses(&world.authority, world.clock.wall_ms);
        prop_assert_eq!(at(&other), at(&world.ledger));
    }
}

#[test]
fn the_random_worlds_reach_the_hard_places() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let mut contested = false;
    for _ in 0..160 {
        let ops = proptest::collection::vec(op(), 40).new_tree(&mut runner).expect("ops").current();
        let mut world = World::new();
        world.clock.confidence = Confidence::Local;
        for op in &ops {
            apply(&mut world, op);
            for status in world.ledger.statuses(&world.authority, world.clock.wall_ms) {
                seen.insert(status.state);
                contested |= status.contested;
            }
        }
    }
    use State::*;
    for state in [PendingApproval, Approved, Permitted, Started, Done, Failed, Unknown, Denied, Expired, Void] {
        assert!(seen.contains(&state), "{state:?} was never reached: {seen:?}");
    }
    assert!(contested);
}

/// A start in lyon's name by porto, on what `resource` says.
fn hearsay(world: &mut World, permit: &FactId, resource: &str) -> FactId {
    let of = world.ledger.permit(permit).expect("here").body.clone();
    let intent_key = world.ledger.proposal(&of.proposal).expect("here").body.intent_key.clone();
    let start = Started {
        permit: *permit,
        proposal: of.proposal,
        lineage: of.lineage,
        resource: resource.to_owned(),
        intent_key,
        owner_seq: 1,
        idempotency_key: String::new(),
        input_digest: of.args_digest,
        started_ms: NOW,
    };
    world.put(4, "site/lyon", KIND_STARTED, &start)
}

#[test]
fn what_others_say_they_started_changes_nothing_for_the_owner() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    // On its own resource, and on lyon's.
    for resource in ["porto/porto/blocklist/198.51.100.7", "lyon/lyon/blocklist/198.51.100.7"] {
        hearsay(&mut world, &permit, resource);
        assert_eq!(world.state(&p), State::Permitted, "{resource}");
        assert_eq!(world.ledger.starts_on_permit(&permit).count(), 0);
        assert!(matches!(world.judge(&permit), Verdict::Execute(_)), "{resource}");
    }
    let void = world.ledger.timeline(&p, &world.authority).into_iter().filter(|e| e.kind == "started");
    assert!(void.into_iter().all(|e| e.void.is_some()), "the record says that they are void");
    // Nor does it report on what lyon started.
    let started = world.start(&permit);
    let failed = Failed { started, probed_no_effect: true, reason: "never".into(), failed_ms: NOW, labels: vec![] };
    world.put(4, "site/lyon", KIND_FAILED, &failed);
    assert_eq!((world.state(&p), world.ledger.reports_on(&started).count()), (State::Started, 0));
    // And where lyon was restored and may have used a permit, nobody makes it look unused or used by another.
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    hearsay(&mut world, &permit, "porto/porto/blocklist/198.51.100.7");
    world.reincarnate_lyon();
    assert_eq!(world.state(&p), State::Unknown);
    assert!(world.ledger.used_by(world.ledger.proposal(&p).expect("here"), &world.authority, None).is_some());
}

#[test]
fn a_permit_waits_until_its_owner_starts_it_whatever_others_say() {
    let mut world = World::new();
    let permit = world.permitted("203.0.113.7");
    let waits = |world: &World, at_ms: u64| {
        world.ledger.unstarted(&world.lyon.author_id(), at_ms).map(|p| p.id).collect::<Vec<_>>()
    };
    let until_ms = world.ledger.permit(&permit).expect("here").body.execute_by_ms;
    assert_eq!((waits(&world, until_ms), waits(&world, until_ms + 1)), (vec![permit], vec![]));
    let crate::owner::Verdict::Execute(verified) = world.judge(&permit) else { panic!("it may be started") };
    world.put(4, "site/porto", crate::bodies::KIND_STARTED, &verified.started(1, NOW));
    assert_eq!(waits(&world, 0), [permit]);
    world.start(&permit);
    assert_eq!(waits(&world, 0), []);
}
