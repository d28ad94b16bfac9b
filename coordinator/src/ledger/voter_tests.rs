//! What people hear of their own votes.

use cauldron_identity::FactId;

use super::*;
use crate::testkit::{World, proposal};
use crate::vote::Choice;

/// A world in which `group` is asked, and what it is asked about.
fn asked(group: &str) -> (World, FactId) {
    let rule = format!(
        "package cauldron.guardrail\nstep_up contains {{\"rule\": \"r\", \"why\": \"w\", \"approvals\": [{{\"group\": \"{group}\", \"n\": 1}}]}}"
    );
    let mut world = World::with_policy(&rule);
    let p = world.propose(proposal("198.51.100.7"));
    world.run();
    assert_eq!(world.state(&p), State::PendingApproval, "{:?}", world.status(&p).why);
    (world, p)
}

#[test]
fn a_vote_that_changes_nothing_is_weighed_as_that() {
    let (mut world, p) = asked("finance");
    let weigh = |world: &mut World, person: &str, choice: Choice| {
        let id = world.vote(person, &p, choice);
        let (proposal, decision) = (world.ledger.proposal(&p).expect("here"), world.decision(&p));
        let ballot = Ballot::new(&world.ledger, &world.authority, proposal, &decision);
        let votes = world.ledger.votes_on(&p).filter_map(|v| v.verify(&world.authority).ok());
        let vote = votes.into_iter().find(|v| v.id == id).expect("here");
        let Weight { counts, why, seats } = ballot.weigh(&vote, world.clock.wall_ms);
        (counts, why.unwrap_or_default(), seats.missing.into_iter().collect::<Vec<_>>())
    };
    let (counts, why, open) = weigh(&mut world, "ana", Choice::Approve);
    assert_eq!((counts, open), (Some(false), vec!["finance".to_owned()]));
    assert!(why.contains("none of the seats that are open"), "{why}");
    assert_eq!(weigh(&mut world, "ana", Choice::Comment).0, None);
    let (counts, why, _) = weigh(&mut world, "ana", Choice::Object);
    assert!(counts == Some(false) && why.contains("silence does not allow this"), "{why}");
    assert_eq!(weigh(&mut world, "bo", Choice::Approve), (Some(true), String::new(), vec![]));
    world.clock.wall_ms += 1;
    let (counts, why, _) = weigh(&mut world, "cy", Choice::Approve);
    assert!(counts == Some(false) && why.contains("filled without it"), "{why}");
    assert_eq!(weigh(&mut world, "cy", Choice::Deny).0, Some(true), "a no is heard from everybody");
}

#[test]
fn a_no_without_a_reason_ends_with_the_name() {
    let (mut world, p) = asked("security-duty");
    let mut no = world.statement_on("ana", &p, Choice::Deny);
    no.reason = " ".into();
    world.cast(&no, "ana");
    assert_eq!(world.status(&p).why, ["denied by ana"]);
    let told = world.ledger.timeline(&p, &world.authority);
    assert!(told.iter().any(|event| event.says == "ana votes Deny"), "{told:?}");
    no.reason = "not ours".into();
    world.cast(&no, "ana");
    assert!(world.status(&p).why.contains(&"denied by ana: not ours".to_owned()), "{:?}", world.status(&p).why);
}
