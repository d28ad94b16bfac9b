//! What the council stops, lifts, grants and moves, as the last judge takes it.

use super::*;
use crate::ledger::{State, with_handover};
use cauldron_identity::authority::{
    Accept, Autonomy, AutonomyGrant, Enrol, Entry, Fenced, Level, Lift, Offer, Reassign,
};
use cauldron_identity::budget::Life;
use cauldron_identity::{SignerKey, SpiffeId};

const ALLOW: &str = "package cauldron.guardrail\nallow contains {\"rule\": \"x\", \"why\": \"y\"}";
const VETO: &str = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"veto\": {\"within_ms\": 600000, \"groups\": [\"security-duty\"]}}";

fn lift(world: &mut World, ids: &[FactId]) {
    world.entry(&Entry::Lift(Lift { restrictions: ids.to_vec(), reason: "looked at".into() }));
}

/// Later by so much, a proposal about another address.
fn later(world: &mut World, address: &str) -> FactId {
    world.clock.wall_ms += 1_000;
    let created_ms = world.clock.wall_ms;
    world.propose(Proposal { created_ms, ..proposal(address) })
}

fn council_order(world: &World, target: Target, signers: &[u8]) -> Restriction {
    let order = world.order(target, "the council");
    let sign = |n: &u8| {
        let signature = key(*n).sign_ssh(ORDER_NAMESPACE, &to_cbor(&order));
        KeySignature { key: key(*n).public().into(), signature }
    };
    Restriction::by_council(&order, signers.iter().map(sign).collect())
}

#[test]
fn a_council_quorum_stops_an_agent_by_whatever_node_carries_it() {
    let mut world = World::new();
    let stop = Target::Agent(proposal("198.51.100.7").agent);
    let id = world.permitted("198.51.100.7");
    for signers in [&[][..], &[9]] {
        let none = council_order(&world, stop.clone(), signers);
        world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &none);
        executes(&world, &id);
    }
    let in_its_name = council_order(&world, stop.clone(), &[]);
    world.put(2, "mesh#restrict", KIND_RESTRICTION, &in_its_name);
    executes(&world, &id);
    let council = council_order(&world, stop, &[1]);
    world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &council);
    assert!(refused(&world, &id, Code::Killed).contains("the council"));
}

#[test]
fn too_few_council_members_or_one_twice_order_nothing() {
    let world = World::new();
    let council: Vec<SignerKey> = [1, 11, 12].map(|n| key(n).public().into()).to_vec();
    let signers = |signers: &[u8]| council_order(&world, Target::All, signers).council_signers(&council);
    assert_eq!((signers(&[1, 12]), signers(&[1, 1]), signers(&[9, 1]), signers(&[])), (2, 1, 1, 0));
}

#[test]
fn a_lift_frees_what_is_proposed_since_and_nothing_else() {
    let mut world = World::new();
    let before = world.propose(proposal("198.51.100.7"));
    let class = proposal("198.51.100.7").action_class;
    let kill = world.restrict(2, "mesh#restrict", Target::ActionClass(class));
    assert_eq!(world.state(&before), State::Denied);
    let during = later(&mut world, "198.51.100.8");
    world.clock.wall_ms += 1_000;
    lift(&mut world, &[kill]);
    assert_eq!(world.state(&before), State::Denied, "a final state stays");
    assert_eq!(world.state(&during), State::Denied);
    let after = later(&mut world, "198.51.100.9");
    assert_eq!(world.state(&after), State::Proposed);
    let told = world.ledger.timeline(&before, &world.authority);
    assert!(
        told.iter().any(|e| e.id == kill && e.says.contains("lifted by entry")),
        "it stays in the record: {told:?}"
    );
    // Both at once: what the lift does not name stays.
    world.restrict(2, "site/lyon#restrict", Target::Site("lyon".into()));
    assert_eq!(world.state(&after), State::Denied);
    assert_eq!(world.ledger.in_force(&world.authority).count(), 1);
}

#[test]
fn a_deny_and_a_veto_of_a_lineage_are_never_lifted() {
    let mut world = World::new();
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    let veto = world.restrict(2, "mesh#restrict", Target::Lineage(p));
    let q = later(&mut world, "198.51.100.8");
    world.run();
    world.vote("ana", &q, Choice::Deny);
    let deny = world.facts.last().expect("a vote").id();
    world.clock.wall_ms += 1_000;
    lift(&mut world, &[veto, deny]);
    assert_eq!((world.state(&p), world.state(&q)), (State::Denied, State::Denied));
    assert_eq!(world.ledger.in_force(&world.authority).count(), 1, "the veto");
}

#[test]
fn a_lifted_suspension_suspends_nobody() {
    let mut world = World::new();
    let suspension = world.restrict(2, "mesh#restrict", Target::Author(key(4).author_id(), vec![]));
    assert_eq!(world.ledger.suspensions(&world.authority).len(), 1);
    lift(&mut world, &[suspension]);
    assert_eq!(world.ledger.suspensions(&world.authority), vec![]);
    assert_eq!(world.ledger.restrictions(&world.authority).count(), 1, "it stays in the record");
}

#[test]
fn a_feature_is_stopped_where_it_would_act() {
    let feature = |name: &str| Target::Feature(name.into());
    for (name, stopped) in
        [("connector/blocklist", true), ("connector/folder", false), ("sessions", false), ("of-a-later-build", false)]
    {
        let mut world = World::new();
        let id = world.permitted("198.51.100.7");
        world.restrict(2, "mesh#restrict", feature(name));
        assert_eq!(world.judge(&id).code(), stopped.then_some(Code::Killed), "{name}");
    }
    assert!(feature("sessions").is_enforced() && !feature("of-a-later-build").is_enforced());
    let mut world = World::new();
    let build = proposal("198.51.100.7").agent_build;
    let (id, other) = (world.permitted("198.51.100.7"), Digest::of("build", b"other"));
    world.restrict(2, "mesh#restrict", Target::Build(other));
    executes(&world, &id);
    world.restrict(2, "mesh#restrict", Target::Build(build));
    refused(&world, &id, Code::Killed);
}

fn grant(level: Level) -> AutonomyGrant {
    AutonomyGrant { level, votes_r2: 0, votes_r3: 2, expires_ms: NOW + 3_600_000, evidence: None }
}

fn granted(world: &mut World, grant: Option<AutonomyGrant>) {
    let of = crate::autonomy::of(&proposal("198.51.100.7"));
    world.entry(&Entry::Autonomy(Autonomy { of, grant, reason: "a month of shadowing".into() }));
}

/// lyon's agent proposes something of class R2, and policy allows it without people.
fn of_class_r2(world: &mut World, change: impl Fn(&mut Proposal)) -> FactId {
    let mut p = Proposal { risk: RiskClass::R2, created_ms: world.clock.wall_ms, ..proposal("198.51.100.7") };
    change(&mut p);
    world.propose(p)
}

#[test]
fn the_floor_yields_to_a_grant_for_exactly_this_agent_and_as_long_as_it_lasts() {
    let level = |world: &World, p: &FactId| {
        let me = world.me();
        let observer = Observer { spiffe_id: &me, lease: world.lease, resource_version: None, budgets: &[] };
        let input = build(&world.ledger, &world.authority, &world.clock, &observer, p).expect("here");
        let agent = &input.document()["agent"];
        (agent["level"].as_str().expect("one").to_owned(), agent["grant"]["expires_ms"].as_u64())
    };
    let mut world = World::with_policy(ALLOW);
    let p = of_class_r2(&mut world, |_| ());
    assert_eq!(level(&world, &p), ("L1".into(), None));
    world.run();
    assert_eq!(world.state(&p), State::Denied, "floor.votes");
    let mut world = World::with_policy(ALLOW);
    granted(&mut world, Some(grant(Level::L3)));
    let p = of_class_r2(&mut world, |_| ());
    assert_eq!(level(&world, &p), ("L3".into(), Some(NOW + 3_600_000)));
    let permit = world.run().pop().expect("a permit");
    executes(&world, &permit);
    // The owner goes by its own chain and its own clock.
    world.clock.confidence = Confidence::Unknown;
    refused(&world, &permit, Code::Quorum);
    world.clock.confidence = Confidence::Local;
    granted(&mut world, None);
    refused(&world, &permit, Code::Quorum);
    granted(&mut world, Some(AutonomyGrant { expires_ms: NOW + 1, ..grant(Level::L3) }));
    executes(&world, &permit);
    world.clock.wall_ms += 1;
    refused(&world, &permit, Code::Quorum);
}

#[test]
fn another_build_model_or_site_or_a_persons_hand_has_no_autonomy() {
    let mut world = World::with_policy(ALLOW);
    granted(&mut world, Some(grant(Level::L4)));
    granted(&mut world, Some(grant(Level::L3)));
    let held = |world: &World, change: &dyn Fn(&mut Proposal)| {
        let mut body = proposal("198.51.100.7");
        change(&mut body);
        let header = world.facts.last().expect("one").header().into();
        let p = Recorded { id: FactId::from_bytes([1; 32]), header, body };
        crate::autonomy::held(&world.ledger, &world.authority, &p, &world.clock).map(|held| held.grant.level)
    };
    world.propose(proposal("198.51.100.7"));
    assert_eq!(held(&world, &|_| ()), Some(Level::L3), "the newest");
    assert_eq!(held(&world, &|p| p.agent_build = Digest::of("build", b"2")), None);
    assert_eq!(held(&world, &|p| p.agent_model = Some(Digest::of("model", b""))), None);
    assert_eq!(held(&world, &|p| p.agent_prompt = Some(Digest::of("prompt", b""))), None);
    assert_eq!(held(&world, &|p| p.site = "porto".into()), None);
    assert_eq!(held(&world, &|p| p.action_class = "security.address.unblock/blocklist".into()), None);
    world.restrict(2, "mesh#restrict", Target::Feature("autonomy".into()));
    assert_eq!(held(&world, &|_| ()), None, "the feature is stopped");
}

#[test]
fn each_level_has_its_bound_and_l0_observes() {
    let with = |rego: &str, level: Level| {
        let mut world = World::with_policy(rego);
        let votes = if level <= Level::L1 { 1 } else { 0 };
        granted(&mut world, Some(AutonomyGrant { votes_r2: votes, ..grant(level) }));
        let p = of_class_r2(&mut world, |_| ());
        world.run();
        let why = world.decision(&p).rules.join("; ");
        (world.state(&p), why)
    };
    assert_eq!(with(ALLOW, Level::L1).0, State::Denied);
    assert_eq!(with(ALLOW, Level::L2).0, State::Denied, "L2 needs time to object");
    assert_eq!(with(VETO, Level::L2).0, State::VetoWindow);
    assert_eq!(with(ALLOW, Level::L3).0, State::Permitted);
    assert_eq!(with(ALLOW, Level::L4).0, State::Denied, "L4 needs a budget");
    let (state, why) = with(ALLOW, Level::L0);
    assert!(state == State::Denied && why.contains("only observes"), "{why}");
}

fn next_owner() -> SpiffeId {
    spiffe("/site/lyon/node/lyon-2")
}

/// lyon-2 (key 5) is a second node of the site.
fn two_owners() -> World {
    let mut world = World::new();
    let enrol = Enrol::new(&world.authority.mesh(), &key(5), &next_owner());
    world.entry(&Entry::Enrol(enrol));
    world
}

const PREFIX: &str = "lyon/lyon/blocklist";
const RESOURCE: &str = "lyon/lyon/blocklist/198.51.100.7";

fn life(n: u8) -> Life {
    Life { author: key(n).author_id(), incarnation: 0 }
}

fn owner(world: &World) -> Option<AuthorId> {
    world.ledger.owner_of(RESOURCE, &world.authority).map(|owner| owner.author)
}

/// Judges as lyon-2 does.
fn judged_by_next(world: &World, permit: &FactId) -> Verdict {
    let id = next_owner();
    let bench =
        Bench { me: Me { author: key(5).author_id(), incarnation: 0, ..world.bench(&id).me }, ..world.bench(&id) };
    judge(permit, &bench)
}

#[test]
fn from_its_offer_on_an_owner_starts_nothing_and_the_next_one_starts_once_the_chain_says_so() {
    let mut world = two_owners();
    let permit = world.permitted("198.51.100.7");
    executes(&world, &permit);
    let by_another = Offer { prefix: PREFIX.into(), to: life(5) };
    world.put(4, "site/lyon", KIND_HANDOVER, &by_another);
    executes(&world, &permit);
    let offer = world.put(3, "site/lyon", KIND_HANDOVER, &Offer { prefix: PREFIX.into(), to: life(5) });
    assert_eq!(owner(&world), None);
    assert!(refused(&world, &permit, Code::NotOwner).contains("has offered"));
    assert!(world.ledger.handovers_due(&world.authority).is_empty(), "nobody took it yet");
    world.put(4, "site/lyon", KIND_TAKEOVER, &Accept { offer });
    assert!(world.ledger.handovers_due(&world.authority).is_empty(), "somebody else took it");
    let accept = world.put(5, "site/lyon", KIND_TAKEOVER, &Accept { offer });
    let due = world.ledger.handovers_due(&world.authority);
    let [(o, a, entry)] = &due[..] else { panic!("{due:?}") };
    assert_eq!((o, a), (&offer, &accept));
    let fact = |world: &World, id: &FactId| world.facts.iter().find(|f| f.id() == *id).expect("here").clone();
    let entry = with_handover(entry.clone(), &fact(&world, o), &fact(&world, a));
    world.entry(&Entry::Reassign(Box::new(entry)));
    assert_eq!(owner(&world), Some(key(5).author_id()));
    assert!(world.ledger.handovers_due(&world.authority).is_empty(), "it is spent");
    assert!(refused(&world, &permit, Code::NotOwner).contains("moved to another owner"));
    assert_eq!(world.state(&world.ledger.permit(&permit).expect("here").body.proposal), State::Void);
    let p = later(&mut world, "198.51.100.7");
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let next = world.run().pop().expect("a permit");
    assert_eq!(world.ledger.permit(&next).expect("here").body.owner, key(5).author_id());
    refused(&world, &next, Code::NotOwner);
    let verdict = judged_by_next(&world, &next);
    assert!(matches!(verdict, Verdict::Execute(_)), "{verdict:?}");
}

#[test]
fn after_a_cut_the_council_moves_resources_and_old_permits_are_void() {
    let mut world = two_owners();
    let permit = world.permitted("198.51.100.7");
    let started = world.start(&permit);
    world.done(&started);
    let lyon = key(3);
    world.cut(&lyon);
    assert_eq!(owner(&world), None);
    let entry = Reassign {
        prefix: PREFIX.into(),
        from: life(3),
        to: life(5),
        handover: None,
        fencing: Some(Fenced::Local),
        attests: vec![],
    };
    world.entry(&Entry::Reassign(Box::new(entry)));
    assert_eq!(owner(&world), Some(key(5).author_id()));
    let p = world.ledger.permit(&permit).expect("here").body.proposal;
    assert_eq!(world.state(&p), State::Done, "what was done stays done");
    let (me, catalogue) = (world.me(), world.engine.catalogue());
    assert!(take_back(&started, &world.bench(&me)).expect_err("another owner").contains("another owner"));
    assert!(catalogue.get("security.address.block/blocklist").is_some());
}
