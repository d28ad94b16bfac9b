//! Limits that hold across sites that cannot reach each other, told as stories on a calm world.

use cauldron_coordinator::ledger::State;
use cauldron_crdt::escrow::{Balance, Budget, Life, Share, purpose_named};
use cauldron_identity::Confidence;
use cauldron_identity::FactId;
use cauldron_node_core::{BudgetAct, Command, NodeCore};
use cauldron_simulations::founding::BLOCKS;
use cauldron_simulations::story::{MINUTE, SECOND};
use cauldron_simulations::weather::{Takes, Weather};
use cauldron_simulations::world::{Asked, World};

fn budget() -> Budget {
    Budget::new("isolations").expect("a name")
}

fn core<'w>(world: &'w World, name: &str) -> &'w NodeCore {
    world.machines[world.place(name)].core.as_ref().expect("it runs")
}

fn act(world: &mut World, name: &str, act: BudgetAct) {
    let place = world.place(name);
    world.ask(place, Command::Budget(act), Asked::Rights);
    world.run_for(3 * SECOND);
}

fn mint(world: &mut World, window_ms: u64) {
    let (window, holder) = (None, None);
    act(world, "hq", BudgetAct::Mint { budget: budget(), window, window_ms: Some(window_ms), amount: 10, holder });
}

fn grant(world: &mut World, from: &str, to: &str, amount: u64) {
    let to = world.machines[world.place(to)].author;
    act(world, from, BudgetAct::Grant { budget: budget(), window: None, amount, to });
}

fn reserve(world: &mut World, name: &str, amount: u64, what: &str) {
    act(world, name, BudgetAct::Reserve { budget: budget(), amount, purpose: purpose_named(what) });
}

fn balance(world: &World, at: &str) -> Balance {
    core(world, at).escrow().balance(&budget(), 0)
}

/// What `name` has in its life `incarnation`, as far as `at` knows.
fn share(world: &World, at: &str, name: &str, incarnation: u32) -> Share {
    balance(world, at).of(&Life { author: world.machines[world.place(name)].author, incarnation })
}

/// hq, lyon and porto; hq holds 4 and lyon 6 of 10.
fn shared() -> World {
    let mut world = World::story(1, &[1, 1]);
    mint(&mut world, 0);
    grant(&mut world, "hq", "lyon", 6);
    assert_eq!((share(&world, "porto", "lyon", 0).held, share(&world, "lyon", "hq", 0).held), (6, 4));
    world
}

#[test]
fn sites_share_a_limit_while_hq_is_dark() {
    let mut world = shared();
    world.cut("hq");
    grant(&mut world, "lyon", "porto", 2);
    reserve(&mut world, "porto", 2, "one");
    reserve(&mut world, "porto", 1, "two");
    assert_eq!(world.reached.count("budget.not_enough"), 1, "porto has no more");
    assert_eq!(world.reached.count("budget.borrow_under_partition"), 1);
    world.heal("hq");
    world.settle();
    let total = balance(&world, "hq").total();
    assert_eq!((total.held, total.reserved, total.lost), (8, 2, 0));
}

#[test]
fn a_grant_outlives_the_process_that_wrote_it_and_arrives_once() {
    let mut world = shared();
    world.cut("lyon");
    grant(&mut world, "lyon", "porto", 3);
    world.kill("lyon");
    world.run_for(10 * MINUTE);
    assert_eq!(world.reached.count("budget.crash_debit_to_send"), 1);
    assert_eq!((share(&world, "lyon", "lyon", 0).held, share(&world, "lyon", "porto", 0).in_flight), (3, 3));
    world.heal("lyon");
    world.settle();
    assert_eq!((share(&world, "hq", "lyon", 0).held, share(&world, "hq", "porto", 0).held), (3, 3));
}

#[test]
fn a_site_that_restarted_alone_uses_its_rights_when_a_peer_has_spoken() {
    let mut world = shared();
    world.cut("lyon");
    world.kill("lyon");
    world.run_for(MINUTE);
    reserve(&mut world, "lyon", 1, "alone");
    assert_eq!((share(&world, "lyon", "lyon", 0).reserved, world.reached.count("budget.unconfirmed")), (0, 1));
    world.heal("lyon");
    world.run_for(2 * MINUTE);
    reserve(&mut world, "lyon", 1, "alone");
    assert_eq!(share(&world, "lyon", "lyon", 0).reserved, 1);
    world.settle();
}

#[test]
fn what_a_restored_node_held_is_lost_and_it_begins_with_nothing() {
    let mut world = shared();
    world.back_up("lyon");
    reserve(&mut world, "lyon", 4, "before");
    world.restore_backup("lyon");
    world.run_for(3 * MINUTE);
    let old = share(&world, "hq", "lyon", 0);
    assert_eq!((old.held, old.reserved, old.lost), (0, 4, 2));
    reserve(&mut world, "lyon", 1, "after");
    assert_eq!(world.reached.count("budget.not_enough"), 1);
    grant(&mut world, "hq", "lyon", 1);
    reserve(&mut world, "lyon", 1, "after");
    world.settle();
    assert_eq!(share(&world, "porto", "lyon", 1).reserved, 1);
    assert_eq!(balance(&world, "porto").total().sum(), 10);
}

#[test]
fn a_node_whose_clock_is_not_believed_does_not_guess_which_window_is_open() {
    let mut world = World::story(1, &[1, 1]);
    mint(&mut world, 60_000);
    world.cut("hq");
    let (hq, now) = (world.place("hq"), world.now());
    world.machines[hq].clock.jump(3_600_000, now);
    let clock = world.machines[hq].clock.read(now);
    assert_eq!(clock.confidence, Confidence::Unknown);
    let held = core(&world, "hq").budgets_view(clock, true).items[0].held;
    grant(&mut world, "hq", "lyon", 1);
    assert_eq!((held, world.reached.count("budget.clock_unknown")), (10, 1));
    world.heal("hq");
    world.settle();
}

/// Blocks take one each of a limit of `limit`; hq holds all of it.
fn taking(limit: u64, window_ms: Option<u64>, sites: &[usize]) -> World {
    let mut weather = Weather::calm(sites.to_vec());
    weather.takes = Some(Takes { limit, window_ms });
    World::story_in(1, weather)
}

fn blocks(world: &World, at: &str) -> Share {
    let budget = Budget::new(BLOCKS).expect("a name");
    let of = core(world, at).escrow();
    let windows: Vec<_> = of.minted_windows().filter(|(b, _)| **b == budget).map(|(_, w)| w).collect();
    let used = windows.iter().map(|w| of.balance(&budget, *w).total());
    used.max_by_key(|total| (total.reserved + total.spent, total.minted)).expect("minted")
}

fn approved(world: &mut World, address: &str) -> FactId {
    let id = world.propose("lyon", address);
    world.run_for(2 * SECOND);
    world.approve(id).by("ana");
    world.run_for(3 * SECOND);
    id
}

fn why(world: &World, at: &str, id: FactId) -> String {
    let m = &world.machines[world.place(at)];
    let views = core(world, at).proposals_view(m.clock.clone().read(world.now()));
    views.into_iter().find(|view| view.id == id.to_string()).map(|view| view.why.join("; ")).unwrap_or_default()
}

#[test]
fn a_permit_brings_what_its_owner_lacks_and_what_is_done_is_spent() {
    let mut world = taking(2, Some(120_000), &[1]);
    let first = approved(&mut world, "198.51.100.1");
    assert_eq!(world.state_at("lyon", first), Some(State::Done));
    let share = blocks(&world, "hq");
    assert_eq!((share.held, share.reserved, share.spent), (1, 0, 1));
    assert_eq!(world.reached.count("budget.granted_for_a_permit"), 1);
    world.settle();
}

#[test]
fn what_lacks_is_waited_for_and_said_and_void_when_the_time_is_over() {
    let mut world = taking(1, None, &[1]);
    let first = approved(&mut world, "198.51.100.1");
    let second = approved(&mut world, "198.51.100.2");
    assert_eq!(world.state_at("lyon", first), Some(State::Done));
    assert_eq!((world.state_at("lyon", second), world.effects_of(second)), (Some(State::Permitted), 0));
    let said = why(&world, "lyon", second);
    assert!(said.contains("it takes 1 of blocks, and 0 are free here") && said.contains("1 reserved"), "{said}");
    world.run_for(6 * MINUTE);
    assert_eq!(world.state_at("lyon", second), Some(State::Permitted), "the first still stands");
    // The first is over after ten minutes: a limit without time counts what stands at once.
    world.run_for(5 * MINUTE);
    assert_eq!(world.state_at("lyon", second), Some(State::Done));
    world.settle();

    // What was done in a window stays spent.
    let mut world = taking(1, Some(3_600_000), &[1]);
    approved(&mut world, "198.51.100.1");
    let second = approved(&mut world, "198.51.100.2");
    world.run_for(16 * MINUTE);
    assert_eq!((world.state_at("lyon", second), world.effects_of(second)), (Some(State::Void), 0));
    world.settle();
    let share = blocks(&world, "hq");
    assert_eq!((share.spent, share.held, share.reserved), (1, 0, 0), "nothing stays set aside");
}

#[test]
fn a_crash_anywhere_between_permit_and_outcome_sets_aside_once_and_loses_nothing() {
    for output in 0..24 {
        let mut world = taking(1, Some(3_600_000), &[1]);
        let id = world.propose("lyon", "198.51.100.7");
        world.run_for(2 * SECOND);
        world.kill_at_output("lyon", output);
        world.approve(id).by("ana");
        world.run_for(30 * SECOND);
        world.settle();
        let share = blocks(&world, "hq");
        assert_eq!((world.effects_of(id), share.spent, share.reserved), (1, 1, 0), "after output {output}");
    }
}

#[test]
fn what_failed_for_certain_is_held_again_and_what_is_unknown_stays_set_aside() {
    let mut world = taking(2, Some(3_600_000), &[1]);
    world.machines[1].blocklist.read_only = true;
    let failed = approved(&mut world, "198.51.100.1");
    assert_eq!(world.state_at("lyon", failed), Some(State::Failed));
    assert_eq!((blocks(&world, "hq").held, blocks(&world, "hq").reserved), (2, 0));
    world.settle();

    let mut weather = Weather::calm(vec![1]);
    (weather.takes, weather.effect_fails) = (Some(Takes { limit: 2, window_ms: Some(3_600_000) }), (0, 100));
    let mut world = World::story_in(1, weather);
    world.storm();
    let unknown = approved(&mut world, "198.51.100.1");
    assert_eq!(world.state_at("lyon", unknown), Some(State::Unknown));
    assert_eq!((blocks(&world, "hq").held, blocks(&world, "hq").reserved), (1, 1));
}

#[test]
fn a_neighbour_grants_while_hq_is_dark() {
    let mut world = taking(4, None, &[2]);
    let id = world.propose("lyon", "198.51.100.7");
    world.run_for(2 * SECOND);
    // hq gives all it has to the neighbour.
    let to = world.machines[world.place("lyon-2")].author;
    let budget = Budget::new(BLOCKS).expect("a name");
    act(&mut world, "hq", BudgetAct::Grant { budget: budget.clone(), window: None, amount: 4, to });
    world.approve(id).by("ana");
    world.run_for(40);
    world.cut("lyon");
    world.run_for(20 * SECOND);
    assert_eq!(world.effects_of(id), 1, "{}", why(&world, "lyon", id));
    assert_eq!(world.reached.count("budget.granted_by_a_neighbour"), 1);
    world.heal("lyon");
    world.settle();
}

#[test]
fn of_two_owners_in_need_who_gets_something_back_uses_it() {
    let mut world = taking(1, None, &[2]);
    let first = approved(&mut world, "198.51.100.1");
    let own = approved(&mut world, "198.51.100.2");
    let neighbours = world.propose("lyon-2", "198.51.100.3");
    world.run_for(2 * SECOND);
    world.approve(neighbours).by("ana");
    world.run_for(MINUTE);
    assert_eq!([first, own, neighbours].map(|id| world.effects_of(id)), [1, 0, 0]);
    // Each stands for ten minutes.
    world.run_for(10 * MINUTE);
    assert_eq!([own, neighbours].map(|id| world.effects_of(id)), [1, 0], "{}", why(&world, "lyon", own));
    assert_eq!(world.reached.count("budget.granted_by_a_neighbour"), 0);
    world.settle();
}

#[test]
fn an_owner_that_hides_what_it_was_granted_for_a_permit_gets_no_more() {
    let mut weather = Weather::calm(vec![2, 1]);
    (weather.takes, weather.lease_r1_ms) = (Some(Takes { limit: 4, window_ms: None }), 45_000);
    let mut world = World::story_in(1, weather);
    let budget = Budget::new(BLOCKS).expect("a name");
    let hand = |world: &mut World, from: &str, to: &str| {
        let to = world.machines[world.place(to)].author;
        act(world, from, BudgetAct::Grant { budget: budget.clone(), window: None, amount: 4, to });
    };
    let held = |world: &World, name: &str| {
        let life = Life { author: world.machines[world.place(name)].author, incarnation: 0 };
        core(world, "lyon-2").escrow().balance(&budget, 0).of(&life).held
    };
    // Nobody who reads the permit holds anything, and then lyon has no lease any more: it waits with an open permit.
    hand(&mut world, "hq", "porto");
    let id = approved(&mut world, "198.51.100.8");
    world.cut("hq");
    world.run_for(MINUTE);
    hand(&mut world, "porto", "lyon-2");
    assert_eq!((held(&world, "lyon"), held(&world, "lyon-2")), (1, 3), "its neighbour grants what the permit takes");
    let purpose = purpose_named("hidden");
    act(&mut world, "lyon", BudgetAct::Reserve { budget: budget.clone(), amount: 1, purpose });
    world.run_for(MINUTE);
    assert_eq!((held(&world, "lyon"), held(&world, "lyon-2"), world.effects_of(id)), (0, 3, 0), "once");
}
