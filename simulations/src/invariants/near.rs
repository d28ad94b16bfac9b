//! Who is linked with whom, and what is shown of who is there.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::AuthorId;
use cauldron_node_core::PeerState;

use super::{Holds, Violation};
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;
use crate::world::World;
use crate::world::machine::Machine;

/// Between two looks at what nodes show of each other.
const LOOK_MS: Ms = 1_000;
/// So long after nothing of a node can have come any more, nobody shows it as there: sessions notice within 45 s, and who
/// lost it tells the others.
const APART_MS_MAX: Ms = 90_000;
/// Worlds of more machines are looked at by their own figures.
const MACHINES_MAX: usize = 20;

/// What the looks remember.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    looked_at: Ms,
    /// Of two machines, how long nothing can have come from the second to the first; days that were leapt over do not count.
    apart_ms: BTreeMap<(Place, Place), Ms>,
    /// Whom each machine could exchange anything with.
    with: BTreeMap<Place, BTreeSet<Place>>,
}

/// PRESENCE: what a node shows as there can have been there a moment ago.
pub(super) fn nobody_shows_the_lost(world: &mut World) -> Holds {
    let now = world.now();
    if now < world.watch.near.looked_at + LOOK_MS || world.machines.len() > MACHINES_MAX {
        return Ok(());
    }
    world.watch.near.looked_at = now;
    let together = together(world);
    let all = 0..world.machines.len();
    for a in all.clone() {
        let with: BTreeSet<Place> = all.clone().filter(|b| together[*b] == together[a]).collect();
        let before = world.watch.near.with.insert(a, with.clone()).unwrap_or_default();
        // Who comes back may bring old news, and learns with it what is lost.
        if !with.is_subset(&before) {
            world.watch.near.apart_ms.retain(|(seer, _), _| *seer != a);
        }
    }
    for (a, b) in all.clone().flat_map(|a| all.clone().map(move |b| (a, b))) {
        let (seer, seen) = (&world.machines[a], &world.machines[b]);
        // Who stands still itself has the time again once it goes on.
        let looks = seer.is_up() && !seer.frozen;
        let apart = world.watch.near.apart_ms.entry((a, b)).or_default();
        *apart = if looks && together[a] != together[b] { *apart + LOOK_MS } else { 0 };
        if *apart <= APART_MS_MAX {
            continue;
        }
        let clock = seer.clock.clone().read(now);
        let state = seer.core.as_ref().and_then(|core| core.peer(&seen.author, clock));
        if state == Some(PeerState::Alive) {
            let text =
                format!("{} shows {} as there, of which nothing came for {APART_MS_MAX} ms", seer.name, seen.name);
            return Err(Violation::new("PRESENCE", text));
        }
        reached!(world, "presence.lost_for_long");
    }
    Ok(())
}

/// Of each machine the first with which it can exchange anything, over others or not; a stopped one is with itself alone.
fn together(world: &World) -> Vec<Place> {
    let all = world.machines.len();
    let runs = |place: Place| world.machines[place].is_up() && !world.machines[place].frozen;
    let mut groups: Vec<Place> = (0..all).collect();
    for first in 0..all {
        if groups[first] != first || !runs(first) {
            continue;
        }
        let mut edge = vec![first];
        while let Some(at) = edge.pop() {
            for next in (first + 1..all).filter(|next| runs(*next)) {
                if groups[next] == next && world.network.is_open(at, next) && world.may_reach(at, next) {
                    groups[next] = first;
                    edge.push(next);
                }
            }
        }
    }
    groups
}

/// TOPOLOGY: after the storm each node has the links that it wants and can have, the readers of each scope are connected with
/// each other, and each of them with two others at least where there are two.
pub(super) fn readers_are_connected(world: &World) -> Holds {
    let sound: BTreeSet<Place> = places(world, |m| world.is_in_good_standing(m));
    let linked = |a: Place, b: Place| world.network.between(a, b).is_some();
    for place in &sound {
        let m = &world.machines[*place];
        let wanted = m.core.as_ref().map(|core| core.links_wanted()).unwrap_or_default();
        let missing = wanted
            .into_iter()
            .filter_map(|peer| of_author(world, &peer))
            .find(|to| sound.contains(to) && world.may_reach(*place, *to) && !linked(*place, *to));
        if let Some(to) = missing {
            let text = format!("{} wants a link to {} and has none", m.name, world.machines[to].name);
            return Err(Violation::new("TOPOLOGY", text));
        }
    }
    // Whoever carries need not be sound itself: a fork, or a cut that the sequencer refused, ends no link.
    let is_cut = |m: &Machine| world.machines.iter().any(|o| o.cut_known.iter().any(|(author, _)| *author == m.author));
    let carriers = places(world, |m| m.has_joined() && m.is_up() && !is_cut(m));
    let sites: BTreeSet<&String> = world.machines.iter().filter_map(|m| m.site.as_ref()).collect();
    for site in sites.into_iter().map(Some).chain([None]) {
        let reads = |m: &Machine| site.is_none() || m.site.is_none() || m.site.as_ref() == site;
        let readers: BTreeSet<Place> = sound.iter().copied().filter(|p| reads(&world.machines[*p])).collect();
        let carriers: BTreeSet<Place> = carriers.iter().copied().filter(|p| reads(&world.machines[*p])).collect();
        let name = site.map_or("mesh", String::as_str);
        for place in &readers {
            let by_links = over(*place, &carriers, linked);
            let by_ways = over(*place, &readers, |a, b| world.may_reach(a, b));
            if let Some(lost) = by_ways.difference(&by_links).next() {
                let (a, b) = (&world.machines[*place].name, &world.machines[*lost].name);
                return Err(Violation::new("TOPOLOGY", format!("{a} and {b} read {name} and nothing connects them")));
            }
        }
        for place in &readers {
            let others = readers.iter().filter(|p| *p != place && world.may_reach(*place, **p)).count();
            let have = carriers.iter().filter(|p| linked(*place, **p)).count();
            if have < others.min(2) {
                let name_of = &world.machines[*place].name;
                let text = format!("{name_of} is linked with {have} of {others} others who read {name}");
                return Err(Violation::new("TOPOLOGY", text));
            }
        }
    }
    Ok(())
}

/// PRESENCE: after the storm everybody who may hear of a node shows it as it is: there, or cut.
pub(super) fn everybody_shows_everybody(world: &World) -> Holds {
    let now = world.now();
    let sound = places(world, |m| world.is_in_good_standing(m));
    for a in &sound {
        let seer = &world.machines[*a];
        for b in sound.iter().filter(|b| *b != a) {
            let seen = &world.machines[*b];
            let near = seer.site.is_none() || seen.site.is_none() || seer.site == seen.site;
            let state = seer.core.as_ref().and_then(|core| core.peer(&seen.author, seer.clock.clone().read(now)));
            if near && state != Some(PeerState::Alive) {
                let text = format!("{} runs and is a member, and {} shows it as {state:?}", seen.name, seer.name);
                return Err(Violation::new("PRESENCE", text));
            }
        }
    }
    Ok(())
}

/// Whom one can get to over these, from each to the next.
fn over(from: Place, among: &BTreeSet<Place>, next: impl Fn(Place, Place) -> bool) -> BTreeSet<Place> {
    let (mut reached, mut edge) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = edge.pop() {
        for to in among.iter().filter(|to| next(at, **to)) {
            if reached.insert(*to) {
                edge.push(*to);
            }
        }
    }
    reached
}

fn places(world: &World, which: impl Fn(&Machine) -> bool) -> BTreeSet<Place> {
    world.machines.iter().enumerate().filter(|(_, m)| which(m)).map(|(place, _)| place).collect()
}

fn of_author(world: &World, author: &AuthorId) -> Option<Place> {
    world.machines.iter().position(|m| m.author == *author)
}
