//! Who is called when nobody but a person can settle something.

use super::{Call, State, is_audited};
use crate::bodies::{
    Compensating, CompensationFailed, Decision, KIND_COMPENSATING, KIND_COMPENSATION_FAILED, KIND_DECISION,
    KIND_PERMIT, KIND_REVIEW, KIND_STARTED, KIND_UNKNOWN, KIND_VERIFY_FAILED, Permit, Proposal, ReviewStatement,
    Started, Target, Unknown, Verified,
};
use crate::signed::Signed;
use crate::testkit::{NOW, World};
use cauldron_identity::{Digest, FactId};

const DUTY: &str = "security-duty";
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
    assert!(world.ledger.concerned(world.ledger.start(&started).expect("here"), &world.authority).contains(DUTY));
    let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    assert_eq!(call(&world, &p), None, "its owner is at it");
    let failed = CompensationFailed { started, reason: "busy".into(), at_ms: NOW };
    world.put(3, "site/lyon", KIND_COMPENSATION_FAILED, &failed);
    assert_eq!(call(&world, &p), Some(Call::CompensationFailed));
    let before = world.ledger.clone();
    world.compensated(&started);
    assert_eq!(call(&world, &p), None);
    // Or until somebody says that they have seen how it stands; a second try that fails is another matter.
    world.ledger = before;
    let look = world.review("ana", started);
    world.put(3, "site/lyon", KIND_REVIEW, &look);
    assert_eq!(call(&world, &p), Some(Call::CompensationFailed), "that names the start alone");
    accept(&mut world, &p, "ana");
    assert_eq!(call(&world, &p), None);
    world.put(3, "site/lyon", KIND_COMPENSATING, &Compensating { reason: "again".into(), ..begun });
    world.put(3, "site/lyon", KIND_COMPENSATION_FAILED, &CompensationFailed { at_ms: 0, ..failed });
    assert_eq!(call(&world, &p), Some(Call::CompensationFailed));
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
    accept(&mut world, &p, "cy");
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed), "cy was not asked");
    // Whoever looked at the action has not accepted what came of a check, whatever their clock says.
    for issued_ms in [0, NOW, u64::MAX] {
        let early = ReviewStatement { issued_ms, ..world.review_statement("ana", started) };
        world.put(3, "site/lyon", KIND_REVIEW, &Signed::sign(&early, &World::person_key("ana")));
    }
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed));
    accept(&mut world, &p, "ana");
    assert_eq!(call(&world, &p), Some(Call::Contested));
    // Each check that fails is another matter, whenever its owner says that it was.
    for at_ms in [0, NOW, u64::MAX] {
        world.put(3, "site/lyon", KIND_VERIFY_FAILED, &Verified { at_ms, checks: vec![], started });
        assert_eq!(call(&world, &p), Some(Call::VerifyFailed), "{at_ms}");
        assert_eq!(world.ledger.to_review(&world.status(&p), &world.authority).len(), 1);
        accept(&mut world, &p, "ana");
        assert_eq!(call(&world, &p), Some(Call::Contested), "{at_ms}");
    }
    world.compensated(&started);
    assert_eq!(call(&world, &p), None);
}

/// Signs what has to be looked at, as somebody.
fn accept(world: &mut World, p: &FactId, person: &str) {
    let status = world.status(p);
    for used in world.ledger.to_review(&status, &world.authority) {
        let look = world.review(person, used);
        let fact = world.sealed(3, "site/lyon", KIND_REVIEW, &look);
        world.ledger.insert(&fact);
        assert_eq!(world.ledger.touched_by(&fact), super::Touched::These([*p].into()));
    }
}

#[test]
fn a_report_of_somebody_else_is_none_that_is_accepted() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    let refuted = Verified { started, checks: vec![], at_ms: NOW };
    let others = world.put(4, "site/lyon", KIND_VERIFY_FAILED, &refuted);
    assert_eq!(call(&world, &p), None);
    let look = world.review("ana", others);
    world.put(3, "site/lyon", KIND_REVIEW, &look);
    let own = world.put(3, "site/lyon", KIND_VERIFY_FAILED, &refuted);
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed));
    world.put(4, "site/lyon", KIND_VERIFY_FAILED, &Verified { at_ms: NOW + 1, ..refuted });
    assert_eq!(world.ledger.to_review(&world.status(&p), &world.authority), [own]);
}

#[test]
fn what_is_decided_later_names_nobody_who_looks() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    world.put(3, "site/lyon", KIND_VERIFY_FAILED, &Verified { started, checks: vec![], at_ms: NOW });
    let decision = world.decision(&p);
    let mut later = Decision { decided_ms: decision.decided_ms + 1, ..decision.clone() };
    later.obligations.approvals[0].any_of[0].group = "hr".into();
    later.obligations.notify = vec!["hr".into()];
    let named = world.put(2, "site/lyon", KIND_DECISION, &later);
    let start = |world: &World, id: &FactId| world.ledger.start(id).expect("here").clone();
    let groups = [DUTY.to_owned()].into();
    assert_eq!(world.ledger.concerned(&start(&world, &started), &world.authority), groups);
    accept(&mut world, &p, "cy");
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed));

    // Nor does an owner, by a decision and a permit of its own: neither who looks, nor who says what became of it.
    let own = world.put(3, "site/lyon", KIND_DECISION, &later);
    let body = start(&world, &started).body;
    let permit = world.ledger.permit(&body.permit).expect("here").body.clone();
    for (author, decision) in [(3, own), (3, named), (2, own)] {
        let permit = world.put(author, "site/lyon", KIND_PERMIT, &Permit { decision, ..permit.clone() });
        let forged = world.put(3, "site/lyon", KIND_STARTED, &Started { permit, ..body.clone() });
        let (forged, authority) = (start(&world, &forged), &world.authority);
        assert!(world.ledger.concerned(&forged, authority).is_empty(), "every webhook");
        for may in [world.ledger.auditors(&forged, authority), world.ledger.reconcilers(&forged, authority)] {
            assert_eq!(may, crate::bodies::DUTY_GROUPS.map(str::to_owned).into());
        }
    }
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
    accept(&mut world, &p, "ana");
    assert_eq!((world.state(&p), call(&world, &p)), (State::Compensating, None));
}

#[test]
fn another_try_that_a_life_left_behind_calls_though_the_first_was_accepted() {
    for (again, called) in [(true, Some(Call::CompensationFailed)), (false, None)] {
        let mut world = World::new();
        let (p, started) = done(&mut world, "203.0.113.7");
        let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: NOW };
        world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
        let failed = CompensationFailed { started, reason: "busy".into(), at_ms: NOW };
        world.put(3, "site/lyon", KIND_COMPENSATION_FAILED, &failed);
        accept(&mut world, &p, "ana");
        if again {
            world.put(3, "site/lyon", KIND_COMPENSATING, &Compensating { reason: "again".into(), ..begun });
        }
        assert_eq!(call(&world, &p), None, "its owner is at it, or every try came to an end");
        world.reincarnate_lyon();
        assert_eq!(call(&world, &p), called);
        accept(&mut world, &p, "ana");
        assert_eq!(call(&world, &p), None);
    }
}

#[test]
fn a_look_counts_where_the_start_is_read() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    let refuted = Verified { started, checks: vec![], at_ms: NOW };
    let failed = world.put(3, "site/lyon", KIND_VERIFY_FAILED, &refuted);
    let look = world.review("ana", failed);
    world.put(4, "site/porto", KIND_REVIEW, &look);
    assert_eq!(call(&world, &p), Some(Call::VerifyFailed));
    world.put(4, "site/lyon", KIND_REVIEW, &look);
    assert_eq!(call(&world, &p), None);
}

#[test]
fn groups_that_nobody_asks_or_nobody_is_in_keep_nobody_else_from_looking() {
    let mut world = World::new();
    let (p, started) = done(&mut world, "203.0.113.7");
    let body = world.ledger.start(&started).expect("here").body.clone();
    let permit = world.ledger.permit(&body.permit).expect("here").body.clone();
    let decision = world.decision(&p);
    let mut looks = |group: &str, n: u32| {
        let mut named = decision.clone();
        let need = &mut named.obligations.approvals[0].any_of[0];
        (need.group, need.n) = (group.into(), n);
        let decision = world.put(2, "site/lyon", KIND_DECISION, &named);
        let permit = world.put(2, "site/lyon", KIND_PERMIT, &Permit { decision, ..permit.clone() });
        let started = world.put(3, "site/lyon", KIND_STARTED, &Started { permit, ..body.clone() });
        let start = world.ledger.start(&started).expect("here");
        (world.ledger.concerned(start, &world.authority), world.ledger.auditors(start, &world.authority))
    };
    let duty = crate::bodies::DUTY_GROUPS.map(str::to_owned).into();
    assert_eq!(looks("hr", 0), ([].into(), duty), "nobody is asked");
    let ghosts = looks("ghosts", 1);
    assert_eq!(ghosts.0, ["ghosts".to_owned()].into());
    assert_eq!(ghosts.1, crate::bodies::DUTY_GROUPS.map(str::to_owned).into(), "nobody is in it");
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
    let own = world.review("ana", started);
    world.put(3, "site/lyon", KIND_REVIEW, &own);
    assert_eq!(call(&world, &p), Some(Call::Audit));
    let other = world.review("bo", started);
    world.put(3, "site/lyon", KIND_REVIEW, &other);
    assert_eq!(call(&world, &p), None);
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
    let others = world.review("cy", started);
    world.put(3, "site/lyon", KIND_REVIEW, &others);
    assert_eq!(call(&world, &p), Some(Call::Audit), "cy was not told");
    let theirs = world.review("ana", started);
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
fn an_owner_that_names_another_permit_is_looked_at() {
    const RARE: &str = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"audit_ppm\": 1}";
    let mut world = World::with_policy(RARE);
    let [other, p] = ["203.0.113.6", "203.0.113.7"].map(|address| {
        let p = world.propose(crate::testkit::proposal(address));
        world.run();
        p
    });
    let granted = |world: &World, p: &FactId| world.ledger.permits_on(p).next().expect("a permit").clone();
    let (other, permit) = (granted(&world, &other), granted(&world, &p));
    let started = world.start(&permit.id);
    world.done(&started);
    let start = world.ledger.start(&started).expect("here").body.clone();
    assert_eq!(call(&world, &p), None, "one in a million is drawn, and this one is not");

    // Its own permit, under its own decision or the coordinator's; somebody else's; one of another proposal; one that is not here.
    let mut decision = world.decision(&p);
    decision.obligations.audit_ppm = 0;
    let own = world.put(3, "site/lyon", KIND_DECISION, &decision);
    let named = permit.body.decision;
    let porto = Permit { owner: world.porto.author_id(), ..permit.body.clone() };
    let forged = [
        world.put(3, "site/lyon", KIND_PERMIT, &Permit { decision: own, ..permit.body.clone() }),
        world.put(3, "site/lyon", KIND_PERMIT, &Permit { decision: named, ..permit.body.clone() }),
        world.put(2, "site/lyon", KIND_PERMIT, &porto),
        other.id,
        FactId::from_bytes([7; 32]),
    ];
    let before = world.ledger.clone();
    for (n, permit) in forged.into_iter().enumerate() {
        world.ledger = before.clone();
        // The greatest id is shown of several starts that were done.
        let mut another = |ledger: &super::Ledger, ms: u64| {
            world.ledger = ledger.clone();
            let started = world.put(3, "site/lyon", KIND_STARTED, &Started { permit, started_ms: ms, ..start.clone() });
            world.done(&started);
            (world.status(&p).started == Some(started)).then(|| call(&world, &p))
        };
        let shown = (1..64).find_map(|ms| another(&before, NOW + ms));
        assert_eq!(shown, Some(Some(Call::Audit)), "{n}");
    }
}

#[test]
fn an_owner_with_two_permits_is_looked_at_where_either_is_drawn() {
    const HALF: &str =
        "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"audit_ppm\": 500000}";
    let mut world = World::with_policy(HALF);
    let p = world.propose(crate::testkit::proposal("203.0.113.7"));
    let first = *world.run().last().expect("a permit");
    let body = world.ledger.permit(&first).expect("here").body.clone();
    // One that is drawn and one that is not, by the coordinator.
    let of = |world: &World, drawn: bool| {
        world.ledger.permits_on(&p).map(|permit| permit.id).find(|id| is_audited(id, 500_000) == drawn)
    };
    for ms in 1..64 {
        if of(&world, true).is_some() && of(&world, false).is_some() {
            break;
        }
        world.put(2, "site/lyon", KIND_PERMIT, &Permit { issued_ms: body.issued_ms + ms, ..body.clone() });
    }
    let undrawn = of(&world, false).expect("half are not");
    let started = world.start(&undrawn);
    world.done(&started);
    assert!(of(&world, true).is_some());
    assert_eq!(call(&world, &p), Some(Call::Audit));
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
