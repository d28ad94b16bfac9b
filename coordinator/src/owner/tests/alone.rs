//! Past the lease: every row of governance §4, and lifts at the site.

use super::*;
use crate::bodies::{KIND_SITE_LIFT, SiteLiftStatement};
use crate::budget::BudgetSeen;
use crate::coordinate::Act;
use crate::ledger::State;
use crate::signed::Signed;
use cauldron_identity::authority::Entry;
use cauldron_identity::budget::Budget;
use cauldron_identity::charter::ClassAges;
use cauldron_identity::isolation::{HORIZONS_MAX, IsolationGrant};

const MINUTE_MS: u64 = 60_000;
const TWO: &str = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":1}],\"reserve\":[{\"budget\":\"blocks\",\"amount\":1}]}";

fn grant() -> IsolationGrant {
    IsolationGrant {
        site: "lyon".into(),
        acting: vec![spiffe("/site/lyon/node/lyon").to_string()],
        horizon: HORIZONS_MAX,
        groups: vec!["security-duty".into()],
        escrow: vec![Budget::new("blocks").expect("a name")],
        lift: 2,
    }
}

pub(super) fn granted(world: &mut World, change: impl FnOnce(&mut IsolationGrant)) {
    let mut grant = grant();
    change(&mut grant);
    world.entry(&Entry::Isolation(grant));
    let free = [(world.lyon.author_id(), 10)].into();
    let name = "blocks".to_owned();
    world.budgets = vec![BudgetSeen { name, window: Some(0), limit: 10, held: 10, free, ..BudgetSeen::default() }];
}

/// Lyon, cut off, decides and permits by its own grant; what it wrote.
fn alone(world: &mut World) -> Vec<FactId> {
    let lyon = world.lyon.author_id();
    let mut written = Vec::new();
    for _ in 0..20 {
        let acts = world.step_as(&lyon, world.lease);
        if acts.is_empty() {
            return written;
        }
        written.extend(world.write_as(3, &acts));
    }
    panic!("it writes the same for ever");
}

/// A proposal of `risk` that lyon decided alone and ana approved, and its permit by lyon.
fn permitted_alone(world: &mut World, risk: RiskClass, people: &[&str]) -> (FactId, Option<FactId>) {
    let p = world.propose(Proposal { risk, ..proposal("198.51.100.7") });
    alone(world);
    for person in people {
        world.vote(person, &p, Choice::Approve);
    }
    (p, alone(world).pop())
}

#[test]
fn past_the_lease_only_what_the_grant_says() {
    let mut world = World::new();
    granted(&mut world, |g| g.horizon = ClassAges { r1_ms: 2 * 60 * MINUTE_MS, ..HORIZONS_MAX });
    // A permit under way when the links broke.
    let id = world.permitted("198.51.100.7");
    for age_ms in [60 * MINUTE_MS, 60 * MINUTE_MS + 1, 120 * MINUTE_MS] {
        world.lease = LeaseAge::Ms(age_ms);
        executes(&world, &id);
    }
    world.lease = LeaseAge::Ms(120 * MINUTE_MS + 1);
    assert!(refused(&world, &id, Code::Isolated).contains("ended with a lease 7200 s old"));
    world.lease = LeaseAge::Never;
    assert!(refused(&world, &id, Code::Isolated).contains("no isolation grant covers that"), "nobody knows since when");
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    granted(&mut world, |g| g.horizon = ClassAges { r1_ms: 0, ..HORIZONS_MAX });
    assert!(refused(&world, &id, Code::Isolated).contains("does not name this class"));
    granted(&mut world, |g| g.acting.clear());
    assert!(refused(&world, &id, Code::Isolated).contains("no isolation grant"), "an empty one takes it back");
    granted(&mut world, |_| {});
    executes(&world, &id);
    // A grant of another site is none.
    let mut world = World::new();
    let porto = spiffe("/site/porto/node/porto").to_string();
    granted(&mut world, |g| (g.site, g.acting) = ("porto".into(), vec![porto]));
    let id = world.permitted("198.51.100.7");
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    refused(&world, &id, Code::Isolated);
}

#[test]
fn whom_the_grant_names_decides_only_while_cut_off() {
    let mut world = World::new();
    granted(&mut world, |_| {});
    let p = world.propose(proposal("198.51.100.7"));
    world.lease = LeaseAge::Ms(60 * MINUTE_MS);
    assert_eq!(alone(&mut world), vec![], "the lease is fresh enough for R1");
    world.lease = LeaseAge::Ms(60 * MINUTE_MS + 1);
    assert_eq!(alone(&mut world).len(), 1, "a decision");
    assert_eq!(world.state(&p), State::PendingApproval);
    world.vote("ana", &p, Choice::Approve);
    let permit = alone(&mut world).pop().expect("a permit");
    assert_eq!(world.state(&p), State::Permitted);
    executes(&world, &permit);
    // The coordinator is heard again before the owner started: its own permit is what counts then.
    world.lease = LeaseAge::Ms(1_000);
    assert!(refused(&world, &permit, Code::Signer).contains("only while this node is isolated"));
    // And the other way round: both permits, one start.
    assert_eq!(world.run().len(), 1, "hq decides too, sees a permit in force, and writes no second one");
    world.lease = LeaseAge::Ms(60 * MINUTE_MS + 1);
    world.start(&permit);
    refused(&world, &permit, Code::Used);
    // Beyond the horizon it writes nothing more.
    world.propose(proposal("198.51.100.8"));
    world.lease = LeaseAge::Ms(HORIZONS_MAX.r1_ms + 1);
    assert_eq!(alone(&mut world), vec![]);
}

#[test]
fn whom_the_grant_names_can_say_no_in_its_own_site_while_that_is_connected_and_nothing_else() {
    let mut world = World::new();
    granted(&mut world, |_| {});
    // As a node that was taken over writes it: with a fresh lease, and more than its code would.
    world.lease = LeaseAge::Ms(1_000);
    let said = |world: &mut World, p: &FactId, outcome, scope: &str| {
        world.run();
        let body = Decision { outcome, obligations: Obligations::none(NOW + 3_600_000), ..world.decision(p) };
        world.put(3, scope, KIND_DECISION, &body)
    };
    let p = world.propose(proposal("198.51.100.7"));
    said(&mut world, &p, Outcome::Deny, "site/lyon");
    let first = world.decision(&p);
    assert_eq!(world.state(&p), State::Denied, "a no is safe, and final");
    // It cannot make anything happen: people are still asked, and its permit is refused.
    let p = world.propose(proposal("198.51.100.8"));
    world.run();
    let yes = world.statement_on("ana", &p, Choice::Approve);
    said(&mut world, &p, Outcome::Allow, "site/lyon");
    assert_eq!(world.state(&p), State::PendingApproval, "of two decisions the stricter governs");
    world.cast(&yes, "ana");
    let acts = world.step();
    let [Act::Permit { body, .. }] = &acts[..] else { panic!("{acts:?}") };
    let own = world.put(3, "site/lyon", KIND_PERMIT, &**body);
    assert!(refused(&world, &own, Code::Signer).contains("only while this node is isolated"));
    // Nor does its no reach beyond its site.
    let porto = Proposal {
        site: "porto".into(),
        agent: format!("{}/agent/x", spiffe("/site/porto/node/porto")),
        ..proposal("198.51.100.9")
    };
    let p = world.put(4, "site/porto", KIND_PROPOSAL, &porto);
    let before = world.state(&p);
    let no = Decision { proposal: p, outcome: Outcome::Deny, ..first };
    world.put(3, "site/porto", KIND_DECISION, &no);
    world.put(3, "site/lyon", KIND_DECISION, &no);
    assert_eq!(world.state(&p), before);
}

#[test]
fn a_node_that_no_grant_names_decides_nothing_and_its_permit_is_refused() {
    let mut world = World::new();
    granted(&mut world, |_| {});
    let p = world.propose(proposal("198.51.100.7"));
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    let porto = world.porto.author_id();
    assert_eq!(world.step_as(&porto, world.lease), vec![]);
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let acts = world.step();
    let [Act::Permit { body, .. }] = &acts[..] else { panic!("{acts:?}") };
    let forged = world.put(4, "site/lyon", KIND_PERMIT, &**body);
    refused(&world, &forged, Code::Signer);
}

#[test]
fn r2_needs_two_of_the_sites_own_people_and_escrow() {
    let mut world = World::with_policy(TWO);
    granted(&mut world, |_| {});
    world.lease = LeaseAge::Ms(11 * MINUTE_MS);
    let (p, permit) = permitted_alone(&mut world, RiskClass::R2, &["ana"]);
    assert_eq!(permit, None, "one of them is not enough, though policy asks for one");
    world.clock.wall_ms += 1;
    world.vote("cy", &p, Choice::Approve);
    assert_eq!(alone(&mut world), vec![], "cy is of another group");
    world.vote("bo", &p, Choice::Approve);
    let permit = alone(&mut world).pop().expect("a permit");
    executes(&world, &permit);
    world.lease = LeaseAge::Ms(HORIZONS_MAX.r2_ms + 1);
    refused(&world, &permit, Code::Isolated);
    world.lease = LeaseAge::Ms(11 * MINUTE_MS);
    // A permit of hq with one vote, under way when the links broke.
    let body = world.ledger.permit(&permit).expect("here").body.clone();
    let ana =
        world.ledger.votes_on(&p).find(|v| v.statement().is_ok_and(|s| s.person == "ana")).expect("she voted").id();
    let one = world.put(2, "site/lyon", KIND_PERMIT, &Permit { votes: vec![ana], ..body });
    assert!(refused(&world, &one, Code::Isolated).contains("needs 2 of the site's own people"));
    granted(&mut world, |g| g.escrow = vec![Budget::new("other").expect("a name")]);
    assert!(refused(&world, &permit, Code::Isolated).contains("draws on blocks"));

    let without = TWO.replace(",\"reserve\":[{\"budget\":\"blocks\",\"amount\":1}]", "");
    let mut world = World::with_policy(&without);
    granted(&mut world, |_| {});
    world.lease = LeaseAge::Ms(11 * MINUTE_MS);
    let (_, permit) = permitted_alone(&mut world, RiskClass::R2, &["ana", "bo"]);
    assert_eq!(permit, None, "R2 draws on escrow, or is not done");
    world.propose(proposal("198.51.100.8"));
    assert_eq!(alone(&mut world), vec![], "R1 has its lease for another 49 minutes: that is hq's");
}

#[test]
fn r1_stays_inside_local_escrow() {
    let mut world = World::with_policy(TWO);
    granted(&mut world, |g| g.escrow.clear());
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    let (_, permit) = permitted_alone(&mut world, RiskClass::R1, &["ana"]);
    assert_eq!(permit, None);
    granted(&mut world, |_| {});
    let permit = alone(&mut world).pop().expect("a permit");
    executes(&world, &permit);
}

#[test]
fn no_grant_makes_r3_possible_and_silence_allows_nothing() {
    let rego = "package cauldron.guardrail\nstep_up contains {\"rule\":\"x\",\"why\":\"y\",\"approvals\":[{\"group\":\"security-duty\",\"n\":2}],\"reserve\":[{\"budget\":\"blocks\",\"amount\":1}]}";
    let mut world = World::with_coordinators(3);
    world.activate(&World::bundle(rego));
    granted(&mut world, |_| {});
    world.lease = LeaseAge::Ms(31_000);
    let (p, permit) = permitted_alone(&mut world, RiskClass::R3, &[]);
    assert_eq!((permit, world.ledger.decisions_on(&p).count()), (None, 0), "nobody alone decides R3");

    let veto = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\", \"veto\": {\"within_ms\": 600000, \"groups\": [\"security-duty\"]}}";
    let mut world = World::with_policy(veto);
    granted(&mut world, |_| {});
    world.propose(proposal("198.51.100.7"));
    world.run();
    world.clock.wall_ms += 600_000;
    let permit = world.run().pop().expect("hq says that nobody objected");
    executes(&world, &permit);
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    assert!(refused(&world, &permit, Code::Silence).contains("fresh lease"));
}

#[test]
fn what_the_grant_let_be_denied_stays_denied_when_it_is_taken_back() {
    let mut world = World::with_policy("package cauldron.guardrail\ndeny contains {\"rule\":\"no\",\"why\":\"w\"}");
    granted(&mut world, |_| {});
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    let p = world.propose(proposal("198.51.100.7"));
    alone(&mut world);
    assert_eq!(world.state(&p), State::Denied);
    granted(&mut world, |g| g.acting.clear());
    assert_eq!(world.state(&p), State::Denied);
}

/// One of the site's people lifts a restriction.
fn lifts(world: &mut World, person: &str, restriction: FactId) {
    let statement = SiteLiftStatement {
        mesh: world.authority.mesh(),
        person: person.into(),
        credential: World::credential(person),
        authority_head: world.authority.head(),
        restriction,
        reason: "it was a drill".into(),
        issued_ms: NOW,
        nonce: Digest::of("nonce", &(world.facts.len() as u64).to_be_bytes()),
    };
    let lift = Signed::sign(&statement, &World::person_key(person));
    world.put(3, "site/lyon", KIND_SITE_LIFT, &lift);
}

#[test]
fn a_sites_own_people_lift_what_one_of_them_restricted_while_isolated() {
    let mut world = World::new();
    granted(&mut world, |_| {});
    world.enrol_person("duty", &["duty-officer"]);
    let order = world.order(Target::All, "ana");
    let by_ana = Restriction::by_person(&order, &World::person_key("ana"));
    let stop = world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &by_ana);
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    let p = world.propose(proposal("198.51.100.7"));
    assert_eq!(alone(&mut world), vec![], "killed");
    for person in ["ana", "ana", "cy"] {
        lifts(&mut world, person, stop);
    }
    assert_eq!(alone(&mut world), vec![], "one of two, and cy is none of the site's");
    lifts(&mut world, "bo", stop);
    assert_eq!(alone(&mut world).len(), 1, "a decision");
    world.vote("ana", &p, Choice::Approve);
    let id = alone(&mut world).pop().expect("a permit");
    executes(&world, &id);
    world.lease = LeaseAge::Ms(1_000);
    let code = world.judge(&id).code();
    assert!(matches!(code, Some(Code::Signer | Code::Killed)), "it holds again once hq is heard: {code:?}");
    world.lease = LeaseAge::Ms(61 * MINUTE_MS);
    // Neither a coordinator's nor another group's, nor a person's no.
    let by_hq = world.restrict(2, "site/lyon#restrict", Target::All);
    for person in ["ana", "bo"] {
        lifts(&mut world, person, by_hq);
    }
    refused(&world, &id, Code::Killed);
}

#[test]
fn only_what_the_grant_names_can_be_lifted_at_the_site() {
    let lifted = |change: fn(&mut IsolationGrant), by: &str, target: fn(&World) -> Target| {
        let mut world = World::new();
        granted(&mut world, change);
        world.enrol_person("duty", &["duty-officer"]);
        let order = world.order(target(&world), by);
        let order = Restriction::by_person(&order, &World::person_key(by));
        let stop = world.put(3, "site/lyon#restrict", KIND_RESTRICTION, &order);
        for person in ["ana", "bo"] {
            lifts(&mut world, person, stop);
        }
        let here = world.ledger.restrictions(&world.authority).find(|(r, _)| r.id == stop);
        let (recorded, order) = here.expect("it counts");
        world.ledger.is_lifted_at_site(recorded, &order, &world.authority)
    };
    assert!(lifted(|_| {}, "ana", |_| Target::All));
    assert!(!lifted(|g| g.lift = 0, "ana", |_| Target::All));
    assert!(!lifted(|g| g.lift = 3, "ana", |_| Target::All));
    assert!(!lifted(|_| {}, "duty", |_| Target::All), "duty is none of the grant's groups");
    assert!(!lifted(|_| {}, "ana", |w| Target::Author(w.porto.author_id(), vec![])), "a suspension is the council's");
}
