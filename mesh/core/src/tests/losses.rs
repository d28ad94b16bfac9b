//! What is said of those who are lost, and what is not.

use super::world::{MESH, WALL_MS, World, settled_mesh};
use crate::Input;
use crate::statement::{Sighting, Statement};
use crate::{LinkId, State};
use cauldron_identity::MeshId;

#[test]
fn a_lie_about_somebody_who_is_there_is_answered() {
    let mut world = settled_mesh();
    let gateway = MESH[5..8].iter().find(|n| world.core(n).said().is_some_and(|a| a.gateway)).expect("a gateway");
    let (liar, victim) = (world.at("graz/a"), world.id(gateway));
    let n = world.core("graz/a").announced(&victim).expect("known").n;
    world.tell(liar, Sighting { observer: world.id("graz/a"), subject: victim, n, as_of_ms: WALL_MS + world.now_ms });
    world.run_for(30);
    let others = || MESH.iter().filter(|a| *a != gateway);
    let fooled = |world: &World| others().filter(|a| world.seen(a, gateway) != State::Alive).count();
    assert!(fooled(&world) > 0, "those without a link of their own can only believe it");
    world.run_for(10_000);
    assert_eq!(fooled(&world), 0);
}

#[test]
fn a_lie_about_what_nobody_announced_is_not_believed() {
    let mut world = settled_mesh();
    let gateway = MESH[5..8].iter().find(|n| world.core(n).said().is_some_and(|a| a.gateway)).expect("a gateway");
    let victim = world.id(gateway);
    let last = world.core(gateway).said().expect("said").n;
    for n in [u64::MAX, last + 1, last - 1] {
        world
            .tell(world.at("graz/a"), Sighting { observer: world.id("graz/a"), subject: victim, n, as_of_ms: WALL_MS });
    }
    let alive =
        |world: &World| MESH.iter().filter(|a| **a != *gateway && world.seen(a, gateway) == State::Alive).count();
    world.run_for(30);
    assert_eq!(alive(&world), MESH.len() - 1, "nobody believes it, not even for a moment");
    world.run_for(5_000);
    assert_eq!(world.core(gateway).said().expect("said").n, last, "nor has its victim to answer");
    // It is lost in earnest, and is back: what is said of it then counts.
    world.kill(gateway);
    world.run_for(20_000);
    assert_eq!(alive(&world), 0);
    world.start(world.at(gateway));
    world.run_for(60_000);
    world.settled();
}

#[test]
fn who_was_cut_off_alone_says_nothing_of_the_others() {
    let mut world = settled_mesh();
    let said = |world: &World| MESH.iter().map(|n| world.core(n).said().expect("said").n).collect::<Vec<u64>>();
    let stays = |a: &&&str| **a != "lyon/a";
    world.part(|name| name == "lyon/a");
    world.run_for(30_000);
    for other in MESH.iter().filter(stays) {
        assert_ne!(world.seen("lyon/a", other), State::Alive, "nothing of {other} can come");
    }
    let before = said(&world);
    world.parted.clear();
    // It may have been told of as lost itself, and answers; of the others nobody has to.
    for _ in 0..60 {
        world.run_for(1_000);
        for (a, b) in MESH.iter().filter(stays).flat_map(|a| MESH.iter().filter(stays).map(move |b| (a, b))) {
            let hears = a != b && world.may_hear(a, b);
            assert!(!hears || world.seen(a, b) == State::Alive, "{b}, as {a} sees it");
        }
    }
    let after = said(&world);
    for ((name, before), after) in MESH.iter().zip(before).zip(after).filter(|((name, ..), _)| stays(name)) {
        let gateway = name.starts_with("lyon") && after <= before + 2;
        assert!(before == after || gateway, "{name} had to answer");
    }
    world.settled();
}

#[test]
fn a_link_that_nobody_needs_ends_and_nobody_takes_it_for_a_loss() {
    let mut world = settled_mesh();
    // Two gateways that are nothing to each other.
    let gateway = |a: &str| world.core(a).said().is_some_and(|said| said.gateway);
    let foreign = |a: &str, b: &str| a.contains('/') && b.contains('/') && a[..4] != b[..4];
    let pairs = MESH.iter().flat_map(|a| MESH.iter().map(move |b| (*a, *b)));
    let wants = |world: &World, a: &str, b: &str| world.core(a).wanted().any(|peer| *peer == world.id(b));
    let (a, b) = pairs
        .filter(|(a, b)| foreign(a, b) && gateway(a) && gateway(b))
        .find(|(a, b)| !wants(&world, a, b) && !wants(&world, b, a))
        .expect("two");
    let (a, b) = (world.at(a), world.at(b));
    world.connect(a, b);
    let link = *world.links.iter().find(|(_, ends)| **ends == (a, b)).expect("up").0;
    world.nodes[a].core.as_mut().expect("runs").links.get_mut(&link).expect("up").ours = true;
    let said = |world: &World| MESH.iter().map(|n| world.core(n).said().expect("said").n).collect::<Vec<u64>>();
    world.run_for(30_000);
    let before = said(&world);
    let mut longest = 0;
    for _ in 0..100 {
        world.run_for(1_000);
        world.settled();
        longest += u64::from(world.links.contains_key(&link));
    }
    assert!((20..80).contains(&longest), "it stands for {longest} s");
    assert_eq!(said(&world), before, "nobody had to say that it is there");
}

#[test]
fn who_died_while_its_observers_restarted_is_missed() {
    let mut world = settled_mesh();
    let gateways: Vec<&str> =
        MESH[2..5].iter().filter(|n| world.core(n).said().is_some_and(|a| a.gateway)).copied().collect();
    // Those without a link to lyon go on, and know what its gateways said.
    let linked = |world: &World, name: &str| MESH[2..5].iter().any(|n| world.linked(world.at(n), world.at(name)));
    let observers: Vec<&str> = MESH.iter().filter(|n| !n.starts_with("lyon") && linked(&world, n)).copied().collect();
    assert!(observers.len() < 8, "somebody is to know of lyon without a link to it");
    MESH[2..5].iter().for_each(|name| world.kill(name));
    observers.iter().for_each(|name| world.kill(name));
    let knows = |world: &World, name: &&str| world.nodes[world.at(name)].core.is_some();
    let witness = MESH.iter().find(|n| knows(&world, n)).expect("a witness");
    for name in &observers {
        world.start(world.at(name));
        world.connect(world.at(name), world.at(witness));
    }
    world.run_for(5_000);
    assert_eq!(world.seen("hq", gateways[0]), State::Alive, "it is taken for there at first");
    world.run_for(60_000);
    for (name, gateway) in MESH.iter().filter(|n| knows(&world, n)).flat_map(|n| gateways.iter().map(move |g| (n, g))) {
        assert_eq!(world.seen(name, gateway), State::Unreachable, "{gateway}, as {name} sees it");
    }
}

#[test]
fn a_foreign_region_that_is_dark_is_not_kept_alive_by_hearsay() {
    // All hubs are in the south; the north is linked with them and with one gateway of theirs.
    let names = [
        "dr", "ds", "lyon/a", "lyon/b", "porto/a", "porto/b", "graz/a", "graz/b", "oslo/a", "oslo/b", "rome/a",
        "rome/b",
    ];
    let south = |name: &str| ["dr", "ds", "gr", "os", "ro"].contains(&&name[..2]);
    let mut world = World::of_regions(&names, |name| if south(name) { "south" } else { "north" });
    world.start_all();
    world.run_for(120_000);
    // The links of the start, which nobody wants, are not what it hangs on.
    let wants = |world: &World, a: usize, b: usize| {
        world.nodes[a]
            .core
            .as_ref()
            .is_some_and(|core| core.wanted().any(|peer| *peer == world.nodes[b].key.author_id()))
    };
    let surplus = world.links.iter().filter(|(_, (a, b))| !wants(&world, *a, *b) && !wants(&world, *b, *a));
    let surplus: Vec<LinkId> = surplus.map(|(link, _)| *link).collect();
    surplus.into_iter().for_each(|link| world.cut(link));
    world.run_for(60_000);
    world.settled();
    world.part(south);
    world.run_for(40_000);
    for a in names.iter().filter(|a| !south(a)) {
        for b in names.iter().filter(|b| south(b) && world.may_hear(a, b)) {
            assert_ne!(world.seen(a, b), State::Alive, "{b}, as {a} sees it");
        }
    }
    world.parted.clear();
    world.run_for(120_000);
    world.settled();
}

#[test]
fn digests_agree_after_a_gateway_was_demoted_and_after_all_sorts_of_losses() {
    let mut world = settled_mesh();
    let gateway = |world: &World, name: &str| world.core(name).said().is_some_and(|a| a.gateway);
    let first = *MESH[2..5].iter().find(|n| gateway(&world, n)).expect("a gateway");
    world.kill(first);
    world.run_for(40_000);
    world.agreed();
    let stand_in = *MESH[2..5].iter().filter(|n| **n != first).find(|n| gateway(&world, n)).expect("another");
    // The stand-in steps back once the first is there again; outside they heard of it.
    world.start(world.at(first));
    world.run_for(60_000);
    world.settled();
    let demoted = MESH[2..5].iter().find(|n| !gateway(&world, n)).expect("one steps back");
    let heard = MESH.iter().filter(|n| n.contains('/') && !n.starts_with("lyon"));
    assert!(
        heard.clone().any(|n| world.core(n).announced(&world.id(demoted)).is_some()),
        "{demoted} was told of, {stand_in} stood in"
    );
    for name in heard {
        assert!(
            world.core(name).announced(&world.id(demoted)).is_none_or(|a| !a.gateway),
            "{name} still counts on {demoted}"
        );
    }
    // A node that missed the end of it is told by who knows more.
    world.part(|name| name.starts_with("graz"));
    world.run_for(20_000);
    world.kill(first);
    world.run_for(40_000);
    world.start(world.at(first));
    world.run_for(60_000);
    world.parted.clear();
    world.run_for(120_000);
    world.settled();
    world.part(|name| name == "graz/a" || name == "porto/b");
    world.run_for(40_000);
    world.kill("dr");
    world.run_for(40_000);
    world.agreed();
    world.parted.clear();
    world.run_for(120_000);
    world.settled();
}

#[test]
fn an_observer_that_loses_everybody_all_the_time_is_not_told_on() {
    let mut world = settled_mesh();
    let (liar, at) = (world.at("graz/a"), world.at("hq"));
    let link = *world.links.iter().find(|(_, (a, b))| (*a, *b) == (liar, at) || (*a, *b) == (at, liar)).expect("one").0;
    let before = world.core("hq").stats();
    for n in 0..500 {
        let subject = world.id(MESH[2 + n % 3]);
        let last = world.core("hq").announced(&subject).expect("known").n;
        let as_of_ms = WALL_MS + n as u64;
        let sighting = Sighting { observer: world.id("graz/a"), subject, n: last, as_of_ms };
        let sealed = Statement::Sighting(sighting).seal(&world.nodes[liar].key, &MeshId::of("test", b"mesh"));
        let bytes = crate::wire::Frame { statements: Some(vec![sealed]), ..Default::default() }.encode();
        world.give(at, Input::Frame { link, bytes: &bytes });
    }
    let after = world.core("hq").stats();
    assert!(after.new - before.new <= crate::limits::SIGHTINGS_BURST, "{} believed", after.new - before.new);
    assert!(after.dropped > before.dropped);
}
