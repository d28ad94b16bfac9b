//! The root that people hold, told as stories on a calm world: amendment, suspension, a lying sequencer, a new term.

use cauldron_coordinator::bodies::Target;
use cauldron_coordinator::ledger::State;
use cauldron_identity::authority::{Amend, Entry};
use cauldron_identity::charter::ClassAges;
use cauldron_node_core::NodeCore;
use cauldron_simulations::story::SECOND;
use cauldron_simulations::world::{HQ, World};

/// hq, lyon and porto, joined and settled.
fn three() -> World {
    let world = World::story(1, &[1, 1]);
    world.expect_no_violation();
    world
}

fn core<'w>(world: &'w World, name: &str) -> &'w NodeCore {
    world.machines[world.place(name)].core.as_ref().expect("it runs")
}

fn clock(world: &mut World, place: usize) -> cauldron_identity::Clock {
    let now = world.now();
    world.machines[place].clock.read(now)
}

#[test]
fn an_amended_charter_holds_at_every_node_and_the_mesh_keeps_its_name() {
    let mut world = three();
    let ages = ClassAges { r1_ms: 77_000, ..ClassAges::default() };
    world.council_entry(&Entry::Amend(Box::new(Amend { class_ages: Some(ages), ..Amend::default() })));
    world.run_for(5 * SECOND);
    for name in ["hq", "lyon", "porto"] {
        assert_eq!(core(&world, name).authority().charter().class_ages.r1_ms, 77_000, "{name}");
        assert_eq!(core(&world, name).authority().mesh(), world.founding.mesh);
    }
    world.settle();
}

#[test]
fn a_suspended_node_loses_its_links_at_once_and_everybody_says_so() {
    let mut world = three();
    let lyon = world.place("lyon");
    let block = world.propose("lyon", "198.51.100.7");
    world.run_for(2 * SECOND);
    let author = world.machines[lyon].author;
    let (_, ends) = core(&world, "hq").ends_of(&author).expect("enrolled");
    world.restrict(Target::Author(author, ends), "stolen");
    world.run_for(5 * SECOND);
    world.expect_no_violation();
    let porto = world.place("porto");
    let now = clock(&mut world, porto);
    let seen = core(&world, "porto").restrictions_view(now);
    assert_eq!((seen[0].kind, seen[0].of, seen[0].enforced_by), ("suspend", Some(2), Some(2)));
    let lyon_at_porto = core(&world, "porto").peers_view(now).into_iter().find(|p| p.spiffe_id.ends_with("lyon"));
    assert!(lyon_at_porto.is_some_and(|p| p.state != "up" && p.standing == "suspended"));
    world.approve(block).at("hq").by("ana");
    world.run_for(30 * SECOND);
    assert_eq!(world.effects_of(block), 0, "the approval cannot reach it");
    world.expect_no_violation();
}

#[test]
fn a_coordinator_that_holds_its_own_suspension_writes_nothing_more() {
    let mut world = three();
    let hq = world.place("hq");
    world.propose("lyon", "198.51.100.7");
    world.run_for(2 * SECOND);
    let decisions = |world: &World| {
        let known = world.machines[hq].known.values();
        known.filter(|fact| fact.kind() == cauldron_coordinator::bodies::KIND_DECISION).count()
    };
    let before = decisions(&world);
    // From the first of its facts on: nothing that it writes about the proposal ever counts.
    world.restrict(Target::Author(world.machines[hq].author, vec![]), "stolen");
    world.run_for(5 * SECOND);
    assert_eq!(decisions(&world), before);
}

#[test]
fn a_lying_sequencer_freezes_authority_until_the_council_names_a_term() {
    let mut world = three();
    world.lie();
    world.run_for(2 * SECOND + 500);
    world.expect_no_violation();
    for name in ["hq", "lyon", "porto"] {
        assert!(core(&world, name).authority().frozen().is_some(), "{name} knows");
    }
    let before = core(&world, "hq").authority().index();
    world.council_entry(&Entry::RevokePerson("ana".into()));
    world.run_for(SECOND / 10);
    assert_eq!(core(&world, "hq").authority().index(), before, "nothing follows");
    world.name_a_term();
    world.run_for(30 * SECOND);
    for name in ["hq", "lyon", "porto"] {
        let authority = core(&world, name).authority();
        assert_eq!((authority.term(), authority.frozen()), (1, None), "{name}");
        assert!(authority.members().all(|(_, m)| !m.spiffe_id.to_string().contains("ghost")), "{name}");
    }
    let block = world.propose("lyon", "198.51.100.9");
    world.run_for(2 * SECOND);
    world.approve(block).at("lyon").by("bo");
    world.run_for(10 * SECOND);
    assert_eq!(world.state_at("lyon", block), Some(State::Done), "the mesh works under the new term");
    world.council_entry(&Entry::RevokePerson("ana".into()));
    world.run_for(5 * SECOND);
    assert!(core(&world, "porto").authority().person("ana").is_none());
    assert_eq!(world.machines[HQ].core.as_ref().map(NodeCore::incarnation), Some(1));
    world.settle();
}

#[test]
fn a_restored_sequencer_stays_read_only_until_a_term_begins_its_new_life() {
    let mut world = three();
    world.back_up("hq");
    let block = world.propose("lyon", "198.51.100.7");
    world.run_for(5 * SECOND);
    assert!(world.decided_at("hq", block));
    world.restore_backup("hq");
    world.run_for(60 * SECOND);
    let now = clock(&mut world, HQ);
    assert_eq!(core(&world, "hq").self_view(now).state, "read_only");
    world.council_term(world.place("porto"));
    world.run_for(60 * SECOND);
    world.expect_no_violation();
    let now = clock(&mut world, HQ);
    let hq = core(&world, "hq").self_view(now);
    assert_eq!((hq.state, hq.incarnation), ("active", 1), "{:?}", hq.reasons);
    world.council_entry(&Entry::RevokePerson("ana".into()));
    world.run_for(5 * SECOND);
    assert!(core(&world, "lyon").authority().person("ana").is_none(), "it writes the chain again");
    let next = world.propose("lyon", "198.51.100.8");
    world.run_for(2 * SECOND);
    world.approve(next).at("lyon").by("bo");
    world.run_for(10 * SECOND);
    assert_eq!(world.state_at("lyon", next), Some(State::Done));
    world.expect_no_violation();
}
