//! What a node must not do twice, and what it must not do at all.

use cauldron_tests::{Mesh, Plan, eventually};

const ADDRESS: &str = "198.51.100.7";

/// lyon dies at `fault`, with `blocked` lines of the address then in its blocklist, and comes back.
fn one_effect_after(fault: &str, blocked: usize) {
    let plan = Plan { lyon_fault: Some(fault), without_porto: true, ..Plan::default() };
    let mut mesh = Mesh::found_with(plan);
    let id = mesh.lyon.propose(ADDRESS, 600).expect("recorded");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    mesh.approve(&id).ok();
    let status = mesh.lyon.until_ended();
    assert!(!status.success(), "it was to die: {status}");
    assert_eq!(mesh.blocked(ADDRESS), blocked);

    mesh.lyon.set_env("CAULDRON_FAULT", None);
    mesh.lyon.start();
    mesh.lyon.until_state(&id, "DONE");
    assert_eq!((mesh.blocked(ADDRESS), mesh.carried_out()), (1, 1));
    mesh.until_converged();
    mesh.lyon.restart();
    mesh.until_converged();
    for node in [&mesh.lyon, &mesh.hq] {
        assert_eq!((node.facts(&id, "started").len(), node.facts(&id, "done").len()), (1, 1));
    }
    assert_eq!((mesh.blocked(ADDRESS), mesh.carried_out()), (1, 1), "a second restart repeats nothing");
}

#[test]
fn a_node_killed_between_permit_and_effect_acts_once() {
    one_effect_after("effect.before:kill", 0);
}

#[test]
fn a_node_killed_between_effect_and_outcome_acts_once() {
    one_effect_after("effect.after:kill", 1);
}

#[test]
fn a_node_killed_between_the_end_of_an_effect_and_the_record_of_it_tells_it_later() {
    let plan = Plan { lyon_fault: Some("effect.ended:kill"), without_porto: true, ..Plan::default() };
    let mut mesh = Mesh::found_with(plan);
    let id = mesh.lyon.propose(ADDRESS, 2).expect("recorded");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    mesh.approve(&id).ok();
    let status = mesh.lyon.until_ended();
    assert!(!status.success(), "it was to die: {status}");
    assert_eq!(mesh.blocked(ADDRESS), 0, "the line has left");
    mesh.lyon.set_env("CAULDRON_FAULT", None);
    mesh.lyon.start();
    eventually("hq hears of the end", || mesh.hq.facts(&id, "ended").len() == 1);
    mesh.until_converged();
    mesh.lyon.restart();
    mesh.until_converged();
    assert_eq!(mesh.hq.facts(&id, "ended").len(), 1, "told once");
    assert_eq!(mesh.carried_out(), 1);
}

#[test]
fn a_permit_that_hq_forged_without_votes_is_refused_by_its_owner() {
    let plan = Plan { hq_fault: Some("permit:forge-permit"), without_porto: true, ..Plan::default() };
    let mesh = Mesh::found_with(plan);
    let id = mesh.lyon.propose(ADDRESS, 600).expect("recorded");
    eventually("hq forges a permit and lyon holds it", || mesh.lyon.facts(&id, "permit").len() == 1);
    eventually("lyon refuses it and counts", || {
        mesh.lyon.metric("cauldron_core_refused_total{code=\"permit.quorum\"}") >= 1
    });
    assert!(mesh.lyon.facts(&id, "started").is_empty());
    assert_eq!((mesh.blocked(ADDRESS), mesh.carried_out()), (0, 0));
}
