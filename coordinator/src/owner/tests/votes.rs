//! Which votes fill a seat at the owner.

use super::*;

#[test]
fn a_coordinator_of_a_site_decides_and_permits_there_and_nowhere_else() {
    let seats = ["/coordinator/hq", "/site/lyon/coordinator/c"].map(str::to_owned);
    let mut world = World::with_seats(&crate::policy::Bundle::default_bundle(), &seats);
    let (me, fresh) = (key(101).author_id(), LeaseAge::Ms(0));
    let there = Proposal {
        agent: spiffe("/site/porto/node/porto/agent/sshd-bruteforce").to_string(),
        site: "porto".into(),
        resource: "porto/porto/blocklist/198.51.100.8".into(),
        conflict_key: "porto/porto/blocklist/198.51.100.8".into(),
        ..proposal("198.51.100.8")
    };
    let there = world.put(4, "site/porto", KIND_PROPOSAL, &there);
    let here = world.propose(proposal("198.51.100.7"));
    let mut written = Vec::new();
    for _ in 0..2 {
        written.extend({
            let acts = world.step_as(&me, fresh);
            world.write_as(101, &acts)
        });
        world.vote("ana", &here, Choice::Approve);
    }
    let acts = world.step_as(&me, fresh);
    written.extend(world.write_as(101, &acts));
    let permit = *written.last().expect("a permit");
    assert!(world.ledger.permit(&permit).is_some(), "{:?}", world.status(&here).why);
    executes(&world, &permit);
    assert_eq!(world.ledger.decisions_on(&there).count(), 0, "another site is none of its business");
    // What it writes there all the same counts nowhere.
    let decision = world.decision(&here);
    world.put(101, "site/porto", KIND_DECISION, &Decision { proposal: there, ..decision });
    assert_eq!(world.state(&there), State::Proposed);
}
use crate::bodies::SELF_SERVED;

/// Prepares a decided proposal and says which votes its permit shall name.
type Case = Box<dyn Fn(&mut World, &FactId) -> Vec<Digest>>;

#[test]
fn quorum_counts_only_good_votes() {
    let cases: Vec<(&str, Case)> = vec![
        ("0 of 1", Box::new(|_, _| vec![])),
        ("0 of 1", Box::new(|w, p| vec![w.vote("cy", p, Choice::Approve)])),
        ("0 of 1", Box::new(|w, p| vec![w.vote("ana", p, Choice::Abstain)])),
        (
            "verify",
            Box::new(|w, p| {
                let s = w.statement_on("ana", p, Choice::Approve);
                vec![w.cast(&s, "eve")]
            }),
        ),
        ("other terms", changed(|s| s.terms = Digest::of("other", b""))),
        ("something else", changed(|s| s.presentation = Digest::of("other", b""))),
        ("expired", changed(|s| s.expires_ms = NOW - 1)),
        ("future", changed(|s| s.issued_ms = NOW + crate::vote::SKEW_MS_MAX + 1)),
        ("another proposal", changed(|s| s.lineage = FactId::from_bytes([9; 32]))),
        (
            "revoked",
            Box::new(|w, p| {
                let vote = w.vote("ana", p, Choice::Approve);
                w.revoke("ana");
                vec![vote]
            }),
        ),
        (
            "0 of 1",
            Box::new(|w, p| {
                let vote = w.vote("ana", p, Choice::Approve);
                w.clock.wall_ms += 1;
                w.vote("ana", p, Choice::Withdraw);
                vec![vote]
            }),
        ),
        (
            "0 of 1",
            Box::new(|w, p| {
                w.vote("ana", p, Choice::Approve);
                vec![]
            }),
        ),
    ];
    for (i, (want, case)) in cases.into_iter().enumerate() {
        let (world, id) = unvoted(case);
        let why = refused(&world, &id, Code::Quorum);
        assert!(why.contains(want), "case {i}: {why}");
    }
    let (world, id) = unvoted(|w, p| vec![w.vote("ana", p, Choice::Approve)]);
    executes(&world, &id);
}

pub(super) fn changed(change: impl Fn(&mut crate::vote::VoteStatement) + 'static) -> Case {
    Box::new(move |w, p| {
        let mut s = w.statement_on("ana", p, Choice::Approve);
        change(&mut s);
        vec![w.cast(&s, "ana")]
    })
}

#[test]
fn two_keys_of_one_person_are_one_vote() {
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";
    let mut world = World::with_policy(rego);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let one = world.vote("ana", &p, Choice::Approve);
    let mut second = world.statement_on("ana", &p, Choice::Approve);
    second.credential = World::credential("ana's other key");
    let two = world.cast(&second, "ana's other key");
    let id = permit_with(&mut world, &p, vec![one, two]);
    refused(&world, &id, Code::Quorum);
    let three = world.vote("bo", &p, Choice::Approve);
    let id = permit_with(&mut world, &p, vec![one, two, three]);
    executes(&world, &id);
}

#[test]
fn self_served_pages_do_not_count_where_policy_says_so() {
    let rego = format!(
        "package cauldron.guardrail\nstep_up contains {{\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{{\"group\":\"security-duty\",\"n\":1}}],\"distinct_from\":[\"{SELF_SERVED}\"]}}"
    );
    let mut world = World::with_policy(&rego);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let mut by_lyon = world.statement_on("ana", &p, Choice::Approve);
    by_lyon.served_by = world.lyon.author_id();
    let vote = world.cast(&by_lyon, "ana");
    let id = permit_with(&mut world, &p, vec![vote]);
    assert!(refused(&world, &id, Code::Quorum).contains("served by"));
}

#[test]
fn a_node_key_enrolled_as_a_persons_fills_no_seat() {
    use cauldron_identity::authority::{Credential, Entry, Person};
    let mut world = World::new();
    let credential = Credential::of(world.lyon.public().into());
    let id = credential.id();
    let groups = vec!["security-duty".to_owned()];
    world.entry(&Entry::Person(Person { id: "bot".into(), name: "bot".into(), groups, credentials: vec![credential] }));
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let mut statement = world.statement_on("ana", &p, Choice::Approve);
    (statement.person, statement.credential) = ("bot".into(), id);
    let vote = statement.sign(&key(3));
    world.put(3, "site/lyon", KIND_VOTE, &vote);
    let permit = permit_with(&mut world, &p, vec![statement.id()]);
    assert!(refused(&world, &permit, Code::Quorum).contains("owning node"));
}

#[test]
fn an_unknown_clock_needs_a_persons_signed_time() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.clock.confidence = Confidence::Unknown;
    world.clock.wall_ms = 0;
    executes(&world, &id);
    let mut world = World::with_policy("package cauldron.guardrail\nallow contains {\"rule\":\"x\",\"why\":\"y\"}");
    world.propose(proposal("198.51.100.7"));
    let id = world.run().pop().expect("a permit");
    executes(&world, &id);
    world.clock.confidence = Confidence::Unknown;
    refused(&world, &id, Code::Quorum);
}

#[test]
fn a_second_approval_of_one_person_does_not_push_out_the_one_that_the_permit_lists() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    let proposal = world.ledger.permit(&id).expect("here").body.proposal;
    executes(&world, &id);
    world.clock.wall_ms += 1;
    world.vote("ana", &proposal, Choice::Approve);
    executes(&world, &id);
    world.clock.wall_ms += 1;
    world.vote("ana", &proposal, Choice::Withdraw);
    refused(&world, &id, Code::Quorum);
}
