//! Every refusal of the owner, by its code.

mod alone;
mod bad_input;
mod glass;
mod hands;
mod powers;
mod saga;
mod seats;
mod undo;
mod votes;
mod word;

use super::*;
use crate::bodies::*;
use crate::coordinate::permit_for;
use crate::testkit::{NOW, World, key, proposal, spiffe};
use crate::vote::Choice;
use cauldron_identity::Digest;
use cauldron_identity::charter::KeySignature;
use cauldron_identity::codec::to_cbor;

#[track_caller]
fn refused(world: &World, permit: &FactId, code: Code) -> String {
    let verdict = world.judge(permit);
    assert_eq!(verdict.code(), Some(code), "{verdict:?}");
    verdict.why().unwrap_or_default().to_owned()
}

#[track_caller]
fn waits(world: &World, permit: &FactId, what: &str) {
    match world.judge(permit) {
        Verdict::Wait { why } => assert!(why.contains(what), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn verified(world: &World, permit: &FactId) -> Box<VerifiedPermit> {
    match world.judge(permit) {
        Verdict::Execute(verified) => verified,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn executes(world: &World, permit: &FactId) {
    drop(verified(world, permit));
}

/// An approved permit, changed before it is signed by `author`.
fn forged(author: u8, change: impl Fn(&mut Permit)) -> (World, FactId) {
    let mut world = World::new();
    let good = world.permitted("198.51.100.7");
    let mut body = world.ledger.permit(&good).expect("here").body.clone();
    change(&mut body);
    let id = world.put(author, "site/lyon", KIND_PERMIT, &body);
    (world, id)
}

/// A permit without the votes it needs, as a coordinator that lies would write it.
fn unvoted(change: impl Fn(&mut World, &FactId) -> Vec<Digest>) -> (World, FactId) {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let votes = change(&mut world, &p);
    let id = permit_with(&mut world, &p, votes);
    (world, id)
}

fn permit_with(world: &mut World, p: &FactId, mut votes: Vec<Digest>) -> FactId {
    votes.sort();
    let decision = world.ledger.decisions_on(p).next().expect("decided");
    let proposal = world.ledger.proposal(p).expect("here");
    let owner = world.ledger.owner_of(&proposal.body.resource, &world.authority).expect("an owner");
    let body = Permit {
        votes,
        issued_ms: NOW,
        execute_by_ms: NOW + 60_000,
        authority_head: world.authority.head(),
        ..permit_for(
            (*p, &proposal.body),
            (decision.id, &decision.body),
            (owner.author, owner.incarnation),
            world.engine.catalogue(),
        )
    };
    world.put(2, "site/lyon", KIND_PERMIT, &body)
}

#[test]
fn a_sound_permit_executes_and_names_what_it_is_for() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let verified = verified(&world, &permit);
    assert_eq!(verified.permit(), permit);
    assert_eq!((verified.resource(), verified.risk()), ("lyon/lyon/blocklist/198.51.100.7", RiskClass::R1));
    assert_eq!((verified.action().object(), &verified.action().args()["ttl_s"]), ("198.51.100.7", &3600.into()));
    assert_eq!(verified.started(1, NOW).idempotency_key, verified.idempotency_key());
}

#[test]
fn not_owner_other_incarnation() {
    let (world, id) = forged(2, |p| p.owner = key(4).author_id());
    refused(&world, &id, Code::NotOwner);
    let (world, id) = forged(2, |p| p.incarnation = 1);
    refused(&world, &id, Code::OtherIncarnation);
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    let other = spiffe("/site/lyon/node/other");
    let bench = Bench { me: Me { spiffe_id: &other, ..world.bench(&other).me }, ..world.bench(&other) };
    assert_eq!(judge(&id, &bench).code(), Some(Code::NotOwner), "the resource is not this node's");
    world.reincarnate_lyon();
    world.incarnation = 1;
    refused(&world, &id, Code::OtherIncarnation);
}

#[test]
fn signer_must_be_an_entitled_coordinator_in_good_standing() {
    let (world, id) = forged(3, |_| {});
    refused(&world, &id, Code::Signer);
    let mut world = World::with_coordinators(2);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let acts = world.step();
    let by_second = world.write_as(101, &acts);
    executes(&world, &by_second[0]);
    world.cut(&key(101));
    refused(&world, &by_second[0], Code::Signer);
}

#[test]
fn proposer_must_be_the_agents_own_node() {
    let mut world = World::new();
    let p = world.put(2, "site/lyon", KIND_PROPOSAL, &proposal("198.51.100.7"));
    assert_eq!(world.step(), vec![], "hq does not even decide it");
    let body = world.ledger.proposal(&p).expect("here").body.clone();
    let honest = world.propose(Proposal { created_ms: NOW + 1, ..body });
    world.run();
    let vote = world.vote("ana", &honest, Choice::Approve);
    let good = permit_with(&mut world, &honest, vec![vote]);
    let mut permit = world.ledger.permit(&good).expect("here").body.clone();
    (permit.proposal, permit.lineage) = (p, p);
    let id = world.put(2, "site/lyon", KIND_PERMIT, &permit);
    refused(&world, &id, Code::Proposer);
}

#[test]
fn schema_and_mismatch() {
    let mut world = World::new();
    let bad = Proposal { intent_key: "elsewhere".into(), ..proposal("198.51.100.7") };
    let p = world.propose(bad);
    world.run();
    let id = permit_with(&mut world, &p, vec![]);
    refused(&world, &id, Code::Schema);
    let other = Digest::of("other", b"");
    let changes: [&dyn Fn(&mut Permit); 6] = [
        &|p| p.args_digest = other,
        &|p| p.resource.push('1'),
        &|p| p.lineage = FactId::from_bytes([9; 32]),
        &|p| p.max_uses = 2,
        &|p| p.terms = other,
        &|p| p.execute_by_ms = p.issued_ms + PERMIT_MS_MAX + 1,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let (world, id) = forged(2, change);
        assert_eq!(world.judge(&id).code(), Some(Code::Mismatch), "{i}");
    }
}

#[test]
fn version_must_be_the_one_it_was_reasoned_on() {
    let mut world = World::new();
    let p = world.propose(Proposal { expected_version: Some("v1".into()), ..proposal("198.51.100.7") });
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let id = world.run()[0];
    refused(&world, &id, Code::Version);
    world.resource_version = Some("v1".into());
    executes(&world, &id);
    world.resource_version = Some("v2".into());
    refused(&world, &id, Code::Version);
}

#[test]
fn killed_vetoed_denied() {
    let agent = || spiffe("/site/lyon/node/lyon/agent/sshd-bruteforce").to_string();
    let kills = [
        ("mesh#restrict", Target::All),
        ("site/lyon#restrict", Target::All),
        ("mesh#restrict", Target::ActionClass("security.address.block/blocklist".into())),
        ("site/lyon#restrict", Target::Agent(agent())),
        ("mesh#restrict", Target::Site("lyon".into())),
    ];
    for (scope, target) in kills {
        let mut world = World::new();
        let id = world.permitted("198.51.100.7");
        world.restrict(2, "site/porto#restrict", target.clone());
        executes(&world, &id);
        world.restrict(2, scope, target);
        refused(&world, &id, Code::Killed);
    }
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    let lineage = world.ledger.permit(&id).expect("here").body.lineage;
    world.restrict(2, "site/lyon#restrict", Target::Lineage(lineage));
    refused(&world, &id, Code::Vetoed);
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.vote("cy", &world.ledger.permit(&id).expect("here").body.proposal.clone(), Choice::Deny);
    refused(&world, &id, Code::Denied);
}

#[test]
fn a_node_restricts_only_with_a_duty_officers_signature() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.restrict(3, "site/lyon#restrict", Target::All);
    let by_cy = Restriction::by_person(&world.order(Target::All, "cy"), &World::person_key("cy"));
    world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &by_cy);
    let forged = Restriction::by_person(&world.order(Target::All, "ana"), &World::person_key("cy"));
    world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &forged);
    executes(&world, &id);
    // Signed for something else.
    let order = world.order(Target::All, "ana");
    let elsewhere = World::person_key("ana").sign_ssh("cauldron/vote/v1", &to_cbor(&order));
    let key = World::person_key("ana").public().into();
    world.put(
        3,
        "site/lyon#restrict",
        KIND_RESTRICTION,
        &Restriction::signed(&order, KeySignature { key, signature: elsewhere }),
    );
    executes(&world, &id);
    let by_ana = Restriction::by_person(&order, &World::person_key("ana"));
    world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &by_ana);
    world.revoke("ana");
    refused(&world, &id, Code::Killed);
}

#[test]
fn a_suspended_proposer_grants_nothing() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.restrict(2, "mesh#restrict", Target::Author(world.lyon.author_id(), vec![]));
    for (author, ends) in world.ledger.suspensions(&world.authority) {
        world.authority.suspend(author, &ends);
    }
    refused(&world, &id, Code::Proposer);
}

#[test]
fn used_lineage_and_intent() {
    let mut world = World::new();
    let first = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&first).expect("here").body.proposal;
    // The same lineage under another intent, and the same intent under another lineage.
    let child = Proposal {
        lineage: Some(p),
        parent: Some(p),
        intent_key: "198.51.100.7/later".into(),
        ..proposal("198.51.100.7")
    };
    let twin = Proposal { created_ms: NOW + 1, ..proposal("198.51.100.7") };
    let fresh = Proposal { intent_key: "198.51.100.7/fresh".into(), ..proposal("198.51.100.7") };
    let permits: Vec<FactId> = [child, twin, fresh]
        .into_iter()
        .map(|body| {
            let p = world.propose(body);
            world.run();
            world.vote("ana", &p, Choice::Approve);
            world.run().pop().expect("permit")
        })
        .collect();
    let started = world.start(&first);
    for id in [first, permits[0], permits[1]] {
        refused(&world, &id, Code::Used);
    }
    executes(&world, &permits[2]);
    let mut blind = world_with(&world);
    blind.failed(&started, false);
    refused(&blind, &permits[0], Code::Used);
    world.failed(&started, true);
    executes(&world, &permits[0]);
    assert!(refused(&world, &first, Code::Used).contains("this permit was used"));
    world.done(&started);
    refused(&world, &permits[0], Code::Used);
}

/// The same facts in another world.
fn world_with(world: &World) -> World {
    let mut copy = World::new();
    for fact in &world.facts {
        copy.ledger.insert(fact);
    }
    (copy.authority, copy.facts) = (world.authority.clone(), world.facts.clone());
    copy
}

#[test]
fn a_permit_of_a_past_life_uses_up_its_lineage() {
    let mut world = World::new();
    let first = world.permitted("198.51.100.7");
    let p = world.ledger.permit(&first).expect("here").body.proposal;
    let child = world.propose(Proposal { lineage: Some(p), parent: Some(p), ..proposal("198.51.100.7") });
    world.run();
    let vote = world.vote("ana", &child, Choice::Approve);
    world.reincarnate_lyon();
    world.incarnation = 1;
    let again = permit_with(&mut world, &child, vec![vote]);
    let mut body = world.ledger.permit(&again).expect("here").body.clone();
    body.incarnation = 1;
    let again = world.put(2, "site/lyon", KIND_PERMIT, &body);
    assert!(refused(&world, &again, Code::Used).contains("past life"));
}

#[test]
fn late() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.clock.wall_ms = world.ledger.permit(&id).expect("here").body.execute_by_ms;
    executes(&world, &id);
    world.clock.wall_ms += 1;
    refused(&world, &id, Code::Late);
}

#[test]
fn what_it_names_is_waited_for_until_it_runs_out() {
    let whole = {
        let mut world = World::new();
        world.permitted("198.51.100.7");
        world
    };
    let permit = whole.facts.last().expect("facts").id();
    for (kind, what) in
        [(KIND_PROPOSAL, "proposal"), (KIND_DECISION, "decision"), (KIND_VOTE, "vote"), (KIND_PERMIT, "permit")]
    {
        let mut part = World::new();
        for fact in whole.facts.iter().filter(|f| f.header().kind != kind) {
            part.ledger.insert(fact);
        }
        waits(&part, &permit, what);
        part.clock.wall_ms += PERMIT_MS_MAX + 1;
        if kind != KIND_PERMIT {
            refused(&part, &permit, Code::Late);
        }
    }
    let (mut world, id) = forged(2, |p| p.authority_head = Some(FactId::from_bytes([9; 32])));
    waits(&world, &id, "authority entry");
    world.clock.wall_ms += PERMIT_MS_MAX + 1;
    refused(&world, &id, Code::Late);
}

#[test]
fn no_policy_and_overtaken() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    let me = world.me();
    let none = Bench { engine: None, ..world.bench(&me) };
    assert_eq!(judge(&id, &none).code(), Some(Code::NoPolicy));
    let other = World::engine_with("package cauldron.guardrail\nallow contains {\"rule\":\"x\",\"why\":\"y\"}");
    let stale = Bench { engine: Some(&other), ..world.bench(&me) };
    assert_eq!(judge(&id, &stale).code(), Some(Code::NoPolicy));
    world.activate(&World::bundle("package cauldron.guardrail\nallow contains {\"rule\":\"x\",\"why\":\"y\"}"));
    refused(&world, &id, Code::Overtaken);
}

#[test]
fn this_owners_own_policy_decides() {
    // The coordinator says allow under the very policy that says deny.
    let mut world = World::new();
    let low = Proposal { confidence_ppm: 1, ..proposal("198.51.100.7") };
    let p = world.propose(low);
    let mut lie = {
        let acts = world.step();
        let [crate::coordinate::Act::Decide { body, .. }] = &acts[..] else { panic!("{acts:?}") };
        body.clone()
    };
    lie.outcome = Outcome::Allow;
    world.put(2, "site/lyon", KIND_DECISION, &lie);
    let id = permit_with(&mut world, &p, vec![]);
    assert!(refused(&world, &id, Code::Policy).contains("confidence.floor"));
}

#[test]
fn a_false_allow_does_not_waive_the_votes_of_this_owners_policy() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    let acts = world.step();
    let [crate::coordinate::Act::Decide { body, .. }] = &acts[..] else { panic!("{acts:?}") };
    let mut lie = body.clone();
    (lie.outcome, lie.obligations.approvals) = (Outcome::Allow, vec![]);
    world.put(2, "site/lyon", KIND_DECISION, &lie);
    let id = permit_with(&mut world, &p, vec![]);
    refused(&world, &id, Code::Quorum);
}

#[test]
fn isolated() {
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.lease = LeaseAge::Ms(3_600_000);
    executes(&world, &id);
    for lease in [LeaseAge::Ms(3_600_001), LeaseAge::Never] {
        world.lease = lease;
        assert!(refused(&world, &id, Code::Isolated).contains("isolation grant"));
    }
}

#[test]
fn a_start_is_resumed_only_by_its_own_life_with_no_effect_and_a_valid_permit() {
    let mut world = World::new();
    let permit = world.permitted("198.51.100.7");
    let key = verified(&world, &permit).idempotency_key();
    let started = world.start(&permit);
    let me = world.me();
    let code = |world: &World, probe| resume(&started, &world.bench(&me), probe).code();
    let Verdict::Execute(again) = resume(&started, &world.bench(&me), Probe::Absent) else { panic!("resumes") };
    assert_eq!(again.idempotency_key(), key);
    assert_eq!(code(&world, Probe::Applied), Some(Code::Used));
    assert!(matches!(resume(&started, &world.bench(&me), Probe::Unreachable), Verdict::Wait { .. }));
    let mut late = world_with(&world);
    late.clock.wall_ms += PERMIT_MS_MAX + 1;
    assert_eq!(code(&late, Probe::Absent), Some(Code::Late));
    let mut killed = world_with(&world);
    killed.restrict(2, "mesh#restrict", Target::All);
    assert_eq!(code(&killed, Probe::Absent), Some(Code::Killed));
    world.incarnation = 1;
    assert_eq!(code(&world, Probe::Absent), Some(Code::OtherIncarnation));
    world.incarnation = 0;
    world.failed(&started, false);
    assert_eq!(code(&world, Probe::Absent), Some(Code::Used));
}

#[cfg(feature = "planted")]
#[test]
fn each_planted_bug_lets_something_through() {
    use crate::planted::activate;
    let through = |name: &str, world: &World, id: &FactId| {
        assert!(world.judge(id).code().is_some(), "{name} is refused without the bug");
        activate(Some(name));
        let verdict = world.judge(id);
        activate(None);
        assert!(matches!(verdict, Verdict::Execute(_)), "{name}: {verdict:?}");
    };
    let (world, id) = unvoted(|_, _| vec![]);
    through("owner-trusts-coordinator", &world, &id);
    let (world, id) = unvoted(votes::changed(|s| s.terms = Digest::of("other", b"")));
    through("vote-not-bound-to-terms", &world, &id);
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.lease = LeaseAge::Never;
    through("lease-ignored", &world, &id);
    world.lease = LeaseAge::Ms(1);
    world.start(&id);
    through("intent-key-ignored", &world, &id);
    let mut world = World::new();
    let id = world.permitted("198.51.100.7");
    world.restrict(2, "mesh#restrict", Target::All);
    through("deny-not-final", &world, &id);
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}]}";
    let mut world = World::with_policy(rego);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let one = world.vote("ana", &p, Choice::Approve);
    let mut second = world.statement_on("ana", &p, Choice::Approve);
    second.credential = World::credential("ana's other key");
    let two = world.cast(&second, "ana's other key");
    let id = permit_with(&mut world, &p, vec![one, two]);
    through("same-person-twice", &world, &id);
}
