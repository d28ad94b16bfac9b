//! What connectors declare, against what permits and the council say.

use cauldron_identity::authority::{Enrol, Entry, Fenced, Reassign};
use cauldron_identity::budget::Life;

use super::*;

fn hand(fencing: Fenced, sandbox: &[&str]) -> Hands {
    let sandbox = sandbox.iter().map(|one| (*one).to_owned()).collect();
    [("blocklist".to_owned(), Declared { fencing, sandbox })].into()
}

/// Policy that asks for `net:none` and `ttl_s:600`, and a permit for what it allows.
fn sandboxed() -> (World, FactId) {
    let mut world = World::with_policy(
        r#"package cauldron.guardrail
allow contains {"rule": "r", "why": "it is kept small", "sandbox": ["ttl_s:600", "net:none"]} if true"#,
    );
    world.hands = hand(Fenced::Local, &["net:none", "ttl_s:*"]);
    world.propose(proposal("198.51.100.7"));
    let permit = world.run().pop().expect("a permit");
    (world, permit)
}

#[test]
fn a_sandbox_that_the_connector_cannot_enforce_is_refused_and_says_what_it_can() {
    let (mut world, permit) = sandboxed();
    let verified = verified(&world, &permit);
    assert_eq!(verified.sandbox(), ["net:none", "ttl_s:600"], "the connector gets all of it");
    for (hands, says) in [
        (hand(Fenced::Local, &["net:none"]), "under ttl_s:600, and connector blocklist enforces net:none"),
        (hand(Fenced::Local, &[]), "under net:none, and connector blocklist enforces none"),
        (Hands::new(), "connector blocklist is not among this node's"),
    ] {
        world.hands = hands;
        let why = refused(&world, &permit, Code::Sandbox);
        assert!(why.contains(says) && why.contains(Code::Sandbox.remedy()), "{why}");
    }
    // A coordinator may ask for more than policy here does.
    let (mut world, _) = forged(2, |_| {});
    world.hands = hand(Fenced::Local, &["net:none"]);
    let body =
        world.ledger.permits_on(&world.ledger.proposals().next().expect("one").id).next().expect("one").body.clone();
    let stricter = Permit { sandbox: vec!["cpu:1".into()], ..body };
    let id = world.put(2, "site/lyon", KIND_PERMIT, &stricter);
    refused(&world, &id, Code::Sandbox);
}

/// The council cuts lyon, and moves its blocklist to the node lyon-2 (key 5).
pub(super) fn move_to_lyon_2(world: &mut World, fencing: Fenced) {
    let enrol = Enrol::new(&world.authority.mesh(), &key(5), &spiffe("/site/lyon/node/lyon-2"));
    world.entry(&Entry::Enrol(enrol));
    world.cut(&key(3));
    let life = |n: u8| Life { author: key(n).author_id(), incarnation: 0 };
    let entry = Reassign {
        prefix: "lyon/lyon/blocklist".into(),
        from: life(3),
        to: life(5),
        handover: None,
        fencing: Some(fencing),
        attests: vec![],
    };
    world.entry(&Entry::Reassign(Box::new(entry)));
}

/// A permit for lyon-2, to which the council moved lyon's blocklist on `fencing`.
fn reassigned(fencing: Fenced) -> (World, FactId) {
    let mut world = World::new();
    move_to_lyon_2(&mut world, fencing);
    let p = world.put(
        5,
        "site/lyon",
        KIND_PROPOSAL,
        &Proposal {
            agent: format!("{}/agent/sshd-bruteforce", spiffe("/site/lyon/node/lyon-2")),
            ..proposal("198.51.100.7")
        },
    );
    world.run();
    world.vote("ana", &p, Choice::Approve);
    let permit = world.run().pop().expect("a permit for the new owner");
    (world, permit)
}

#[test]
fn a_new_owner_whose_connector_fences_less_than_was_said_refuses() {
    let me = spiffe("/site/lyon/node/lyon-2");
    let judged = |world: &World, permit: &FactId| {
        let bench = world.bench(&me);
        let me = Me { author: key(5).author_id(), incarnation: 0, ..bench.me };
        judge(permit, &Bench { me, ..bench })
    };
    for (said, declared, stands) in [
        (Fenced::Local, Fenced::Local, true),
        (Fenced::Local, Fenced::Native, true),
        (Fenced::Native, Fenced::Native, true),
        (Fenced::Local, Fenced::None, false),
        (Fenced::Native, Fenced::None, false),
        (Fenced::Native, Fenced::Local, false),
    ] {
        let (mut world, permit) = reassigned(said);
        world.hands = hand(declared, &[]);
        let verdict = judged(&world, &permit);
        match (&verdict, stands) {
            (Verdict::Execute(_), true) => {}
            (Verdict::Refuse { code: Code::Fencing, why }, false) => {
                assert!(why.contains("connector blocklist declares") && why.contains("two people attest"), "{why}");
            }
            _ => panic!("{said:?}, {declared:?}: {verdict:?}"),
        }
    }
}
