//! Class R3 in a mesh with two coordinators: both permit it, or nobody does it.

use cauldron_coordinator::ledger::State;
use cauldron_identity::FactId;
use cauldron_simulations::story::{MINUTE, SECOND};
use cauldron_simulations::weather::Weather;
use cauldron_simulations::world::World;

/// hq, west and lyon, where agents want nothing but what cannot be taken back.
fn two() -> World {
    let mut weather = Weather::calm(vec![1]);
    (weather.second, weather.agents.wide, weather.people.approvers) = (true, 100, 2);
    let world = World::story_in(1, weather);
    world.expect_no_violation();
    world
}

fn both_approve(world: &mut World, block: FactId) {
    world.approve(block).at("hq").by("ana");
    world.approve(block).at("hq").by("bo");
}

#[test]
fn both_coordinators_permit_it_and_it_is_done_once() {
    let mut world = two();
    let block = world.propose("lyon", "198.51.100.7");
    world.run_for(2 * SECOND);
    both_approve(&mut world, block);
    world.run_for(5 * SECOND);
    assert_eq!(world.state_at("hq", block), Some(State::Done));
    world.settle();
    assert_eq!(world.effects_of(block), 1);
}

#[test]
fn it_waits_for_a_coordinator_that_has_not_judged_it_for_longer_than_a_permit_lives() {
    for dark in ["west", "hq"] {
        let mut world = two();
        let (up, block) = (if dark == "west" { "hq" } else { "west" }, world.propose("lyon", "198.51.100.6"));
        world.run_for(MINUTE);
        both_approve(&mut world, block);
        world.run_for(5 * SECOND);
        assert_eq!(world.effects_of(block), 1, "nothing is dark yet");
        world.cut(dark);
        let block = world.propose("lyon", "198.51.100.7");
        world.run_for(2 * SECOND);
        for person in ["ana", "bo"] {
            world.approve(block).at(up).by(person);
        }
        world.run_for(20 * MINUTE);
        assert_eq!((world.state_at(up, block), world.effects_of(block)), (Some(State::Approved), 0), "{dark}");
        world.heal(dark);
        world.run_for(MINUTE);
        assert_eq!((world.state_at(up, block), world.effects_of(block)), (Some(State::Done), 1), "{dark}");
        world.settle();
    }
}

#[test]
fn the_permit_of_one_starts_nothing_and_runs_out() {
    let mut world = two();
    let (soon, late) = (world.propose("lyon", "198.51.100.7"), world.propose("lyon", "198.51.100.8"));
    world.run_for(2 * SECOND);
    world.cut("west");
    both_approve(&mut world, soon);
    world.run_for(5 * MINUTE);
    assert_eq!((world.state_at("lyon", soon), world.effects_of(soon)), (Some(State::Permitted), 0));
    world.heal("west");
    world.run_for(MINUTE);
    assert_eq!((world.state_at("hq", soon), world.effects_of(soon)), (Some(State::Done), 1));
    world.cut("west");
    both_approve(&mut world, late);
    world.run_for(16 * MINUTE);
    world.heal("west");
    world.run_for(MINUTE);
    assert_eq!((world.state_at("hq", late), world.effects_of(late)), (Some(State::Void), 0));
    world.settle();
}
