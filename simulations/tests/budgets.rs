//! Limits that hold across sites that cannot reach each other, told as stories on a calm world.

use cauldron_crdt::escrow::{Balance, Budget, Life, Share, purpose_named};
use cauldron_identity::Confidence;
use cauldron_node_core::{BudgetAct, Command, NodeCore};
use cauldron_simulations::story::{MINUTE, SECOND};
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
