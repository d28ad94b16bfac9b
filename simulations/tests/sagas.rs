//! Several steps as one: done in their turn, and off again in reverse order, by whoever did them, whatever dies or is cut off.

use cauldron_coordinator::ledger::State;
use cauldron_identity::FactId;
use cauldron_node_core::Command;
use cauldron_simulations::story::{MINUTE, SECOND};
use cauldron_simulations::weather::Weather;
use cauldron_simulations::world::{Asked, World};

/// hq, and two machines at lyon; three steps, the second at the neighbour's.
fn proposed() -> (World, [FactId; 3], [String; 2]) {
    // Blocks outlast proposals: what is gone was taken back.
    let mut weather = Weather::calm(vec![2]);
    weather.agents.ttl_s = 4 * 3_600;
    let mut world = World::story_in(1, weather);
    world.expect_no_violation();
    let names: Vec<String> = world.machines.iter().skip(1).map(|m| m.name.clone()).collect();
    let [one, two] = [names[0].clone(), names[1].clone()];
    let steps = [(&*one, "198.51.100.1"), (&*two, "198.51.100.2"), (&*one, "198.51.100.3")];
    let steps = world.propose_saga(&one, &steps);
    world.run_for(3 * SECOND);
    (world, [steps[0], steps[1], steps[2]], [one, two])
}

/// The same, and the first two are done.
fn half_done() -> (World, [FactId; 3], [String; 2]) {
    let (mut world, steps, names) = proposed();
    world.approve(steps[0]).at("hq").by("ana");
    world.approve(steps[1]).at("hq").by("ana");
    world.run_for(10 * SECOND);
    assert_eq!(states(&world, &steps), [Some(State::Done), Some(State::Done), Some(State::PendingApproval)]);
    (world, steps, names)
}

fn states(world: &World, steps: &[FactId; 3]) -> [Option<State>; 3] {
    steps.map(|step| world.state_at("hq", step))
}

fn lines(world: &World, names: &[String; 2]) -> [usize; 2] {
    [0, 1].map(|n| world.machines[world.place(&names[n])].blocklist.lines().len())
}

const ROLLED_BACK: [Option<State>; 3] = [Some(State::Compensated), Some(State::Compensated), Some(State::Denied)];

#[test]
fn steps_are_done_in_their_turn_whatever_the_order_of_the_votes() {
    let (mut world, steps, names) = proposed();
    world.approve(steps[2]).at("hq").by("ana");
    world.approve(steps[1]).at("hq").by("ana");
    world.run_for(MINUTE);
    assert_eq!(states(&world, &steps), [Some(State::PendingApproval), Some(State::Approved), Some(State::Approved)]);
    assert_eq!(lines(&world, &names), [0, 0]);
    world.approve(steps[0]).at("hq").by("ana");
    world.run_for(20 * SECOND);
    assert_eq!(states(&world, &steps), [Some(State::Done); 3]);
    assert_eq!(lines(&world, &names), [2, 1]);
    world.settle();
}

#[test]
fn a_no_to_the_last_step_takes_the_others_back_in_reverse_order() {
    let (mut world, steps, names) = half_done();
    world.deny(steps[2]).at("hq").by("bo");
    world.run_for(20 * SECOND);
    assert_eq!(states(&world, &steps), ROLLED_BACK);
    assert_eq!(lines(&world, &names), [0, 0]);
    let at = |step: &FactId| {
        let facts = world.history.facts.values().filter(|f| f.kind() == "compensated");
        let of = |f: &cauldron_simulations::facts::Known| {
            let started: cauldron_coordinator::bodies::Compensated = f.body()?;
            let start: cauldron_coordinator::bodies::Started = world.history.facts.get(&started.started)?.body()?;
            (start.lineage == *step).then_some(f.header.hlc)
        };
        facts.filter_map(|f| of(f)).next().expect("taken back")
    };
    assert!(at(&steps[1]) < at(&steps[0]), "the last that was done goes first");
    world.settle();
}

#[test]
fn time_that_runs_out_takes_them_back_too() {
    let (mut world, steps, names) = half_done();
    world.run_for(2 * 60 * MINUTE);
    assert_eq!(world.state_at("hq", steps[2]), Some(State::Expired));
    assert_eq!(states(&world, &steps)[..2], ROLLED_BACK[..2]);
    assert_eq!(lines(&world, &names), [0, 0]);
    world.settle();
}

#[test]
fn an_owner_that_is_cut_off_waits_for_the_word_of_the_other_and_guesses_nothing() {
    let (mut world, steps, [one, two]) = half_done();
    // The neighbour owns the second step and hears nothing; the first machine gives up the third.
    world.cut_alone(&two, true);
    world.deny(steps[2]).at("hq").by("bo");
    world.run_for(5 * MINUTE);
    assert_eq!(world.state_at(&two, steps[1]), Some(State::Done));
    assert_eq!(world.state_at(&one, steps[0]), Some(State::Done), "the second may stand, so the first does");
    world.cut_alone(&two, false);
    world.run_for(MINUTE);
    assert_eq!(states(&world, &steps), ROLLED_BACK);
    world.settle();
}

#[test]
fn a_site_in_the_dark_takes_everything_back_by_itself() {
    let (mut world, steps, [one, two]) = half_done();
    world.cut(&one);
    world.run_for(MINUTE);
    world.deny(steps[2]).at(&one).by("bo");
    world.run_for(MINUTE);
    assert_eq!([world.state_at(&one, steps[0]), world.state_at(&two, steps[1])], [Some(State::Compensated); 2]);
    assert_eq!(world.state_at("hq", steps[0]), Some(State::Done), "hq knows nothing of it");
    world.heal(&one);
    world.run_for(MINUTE);
    assert_eq!(states(&world, &steps), ROLLED_BACK);
    world.settle();
}

#[test]
fn a_crash_at_any_moment_resumes_the_way_back() {
    for (n, who) in (1..14).flat_map(|n| [(n, 0), (n, 1)]) {
        let (mut world, steps, names) = half_done();
        world.deny(steps[2]).at("hq").by("bo");
        world.kill_at_output(&names[who], n);
        world.run_for(2 * MINUTE);
        assert_eq!(states(&world, &steps), ROLLED_BACK, "died before output {n} of {}", names[who]);
        assert_eq!(lines(&world, &names), [0, 0]);
        world.settle();
    }
}

#[test]
fn whoever_wants_a_step_back_takes_the_last_one_and_the_rest_follows() {
    for out_of_turn in [false, true] {
        let (mut world, steps, names) = half_done();
        world.approve(steps[2]).at("hq").by("ana");
        world.run_for(10 * SECOND);
        assert_eq!(states(&world, &steps), [Some(State::Done); 3]);
        let one = world.place(&names[0]);
        let undo = |world: &mut World, step| {
            let (by, reason) = ("ana".to_owned(), "the wrong source".to_owned());
            world.ask(one, Command::Undo { proposal: step, by, reason, out_of_turn }, Asked::Undo);
            world.run_for(20 * SECOND);
        };
        undo(&mut world, steps[0]);
        if !out_of_turn {
            assert_eq!(states(&world, &steps), [Some(State::Done); 3], "two others stand behind it");
            undo(&mut world, steps[2]);
        }
        assert_eq!(states(&world, &steps), [Some(State::Compensated); 3]);
        assert_eq!(lines(&world, &names), [0, 0]);
        world.settle();
    }
}
