//! Cores with wires of 20 ms between them.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, AuthorKey, Clock, Confidence, MeshId};

use super::{member, members};
use crate::statement::{Sighting, Statement};
use crate::{Config, Input, LinkId, MeshCore, Output, State};

pub(super) const LATENCY_MS: u64 = 20;
pub(super) const WALL_MS: u64 = 1_764_500_000_000;

pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) key: AuthorKey,
    pub(super) core: Option<MeshCore>,
    pub(super) region: &'static str,
    pub(super) wakes_ms: u64,
}

pub(super) enum Event {
    Frame { to: usize, link: LinkId, bytes: Vec<u8> },
    Dialled { from: usize, to: usize },
    Failed { from: usize, to: AuthorId },
    Lost { at: usize, link: LinkId },
}

pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) names: Vec<&'static str>,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    pub(super) next: u64,
    /// Of each link its two ends.
    pub(super) links: BTreeMap<LinkId, (usize, usize)>,
    pub(super) parted: BTreeSet<(usize, usize)>,
    pub(super) dials: u64,
    pub(super) bytes: u64,
    pub(super) inputs: u64,
}

impl World {
    /// Everybody knows who is a member; nobody knows where they are, but the first of all, to whom each is connected at first.
    pub(super) fn new(names: &[&'static str]) -> Self {
        super::planted();
        let mut world = Self {
            now_ms: 0,
            nodes: Vec::new(),
            names: names.to_vec(),
            queue: BTreeMap::new(),
            next: 0,
            links: BTreeMap::new(),
            parted: BTreeSet::new(),
            dials: 0,
            bytes: 0,
            inputs: 0,
        };
        for name in names {
            let key = member(name).0;
            world.nodes.push(Node { name, key, core: None, region: "", wakes_ms: 0 });
        }
        world
    }

    pub(super) fn of_regions(names: &[&'static str], region_of: impl Fn(&str) -> &'static str) -> Self {
        let mut world = Self::new(names);
        world.nodes.iter_mut().for_each(|node| node.region = region_of(node.name));
        world
    }

    pub(super) fn at(&self, name: &str) -> usize {
        self.names.iter().position(|n| *n == name).expect(name)
    }

    pub(super) fn id(&self, name: &str) -> AuthorId {
        self.nodes[self.at(name)].key.author_id()
    }

    pub(super) fn clock(&self) -> Clock {
        Clock { wall_ms: WALL_MS + self.now_ms, boottime_ms: self.now_ms, confidence: Confidence::Local }
    }

    pub(super) fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let config = Config { region: node.region.to_owned(), hub: false };
        node.core = Some(MeshCore::new(node.key.author_id(), MeshId::of("test", b"mesh"), config, [at as u8; 32]));
        self.give(at, Input::Members(members(&self.names)));
        self.give(at, Input::Addresses(vec![format!("{at}:7443")]));
    }

    pub(super) fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.start(at));
        (1..self.nodes.len()).for_each(|at| self.connect(at, 0));
    }

    pub(super) fn give(&mut self, at: usize, input: Input<'_>) {
        let clock = self.clock();
        self.inputs += 1;
        let node = &mut self.nodes[at];
        let Some(core) = &mut node.core else { return };
        core.handle(&node.key, &clock, input);
        let mut outputs = Vec::new();
        while let Some(output) = core.poll() {
            outputs.push(output);
        }
        node.wakes_ms = core.wake_ms();
        assert!(node.wakes_ms > self.now_ms, "{} would spin", node.name);
        for output in outputs {
            match output {
                Output::Send { link, bytes } => {
                    let Some((a, b)) = self.links.get(&link) else { continue };
                    let to = if *a == at { *b } else { *a };
                    assert!(bytes.len() <= crate::limits::FRAME_LEN_MAX);
                    self.bytes += bytes.len() as u64;
                    self.after(LATENCY_MS, Event::Frame { to, link, bytes });
                }
                Output::Dial { peer, addresses, .. } => {
                    self.dials += 1;
                    let to = addresses.iter().find_map(|a| a.split(':').next()?.parse().ok());
                    match to {
                        Some(to) if self.reaches(at, to) => self.after(LATENCY_MS, Event::Dialled { from: at, to }),
                        _ => self.after(2_000, Event::Failed { from: at, to: peer }),
                    }
                }
                Output::Close { link, .. } => self.cut(link),
            }
        }
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now_ms + ms, self.next), event);
    }

    pub(super) fn reaches(&self, a: usize, b: usize) -> bool {
        self.nodes[a].core.is_some()
            && self.nodes[b].core.is_some()
            && !self.parted.contains(&(a, b))
            && !self.parted.contains(&(b, a))
    }

    pub(super) fn linked(&self, a: usize, b: usize) -> bool {
        self.links.values().any(|ends| *ends == (a, b) || *ends == (b, a))
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if self.linked(a, b) || !self.reaches(a, b) {
            return;
        }
        self.next += 1;
        let link = self.next;
        self.links.insert(link, (a, b));
        for (at, to) in [(a, b), (b, a)] {
            let peer = self.nodes[to].key.author_id();
            self.give(at, Input::LinkUp { link, peer });
        }
    }

    /// A link ends, and both ends know it.
    pub(super) fn cut(&mut self, link: LinkId) {
        let Some((a, b)) = self.links.remove(&link) else { return };
        self.after(0, Event::Lost { at: a, link });
        self.after(0, Event::Lost { at: b, link });
    }

    /// A process ends; its peers notice when the transport does.
    pub(super) fn kill(&mut self, name: &str) {
        let at = self.at(name);
        self.nodes[at].core = None;
        let links: Vec<(LinkId, (usize, usize))> = self.links.iter().map(|(l, ends)| (*l, *ends)).collect();
        for (link, (a, b)) in links.into_iter().filter(|(_, (a, b))| *a == at || *b == at) {
            self.links.remove(&link);
            self.after(9_000, Event::Lost { at: if a == at { b } else { a }, link });
        }
    }

    pub(super) fn part(&mut self, inside: impl Fn(&str) -> bool) {
        for (a, x) in self.names.iter().enumerate() {
            for (b, y) in self.names.iter().enumerate() {
                if inside(x) && !inside(y) {
                    self.parted.insert((a, b));
                }
            }
        }
        let across = |ends: &(usize, usize)| self.parted.contains(ends) || self.parted.contains(&(ends.1, ends.0));
        let links: Vec<LinkId> = self.links.iter().filter(|(_, ends)| across(ends)).map(|(l, _)| *l).collect();
        for link in links {
            let Some((a, b)) = self.links.remove(&link) else { continue };
            // Each link is missed in its own time.
            let noticed_ms = 4_500 + link % 4 * 1_500;
            self.after(noticed_ms, Event::Lost { at: a, link });
            self.after(noticed_ms, Event::Lost { at: b, link });
        }
    }

    pub(super) fn run_for(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            let wakes = self.nodes.iter().filter(|n| n.core.is_some()).map(|n| n.wakes_ms).min();
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let Some(next) = wakes.into_iter().chain(event).min().filter(|at| *at <= until) else { break };
            self.now_ms = next.max(self.now_ms);
            while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= self.now_ms) {
                match entry.remove() {
                    Event::Frame { to, link, bytes } if self.links.contains_key(&link) => {
                        self.give(to, Input::Frame { link, bytes: &bytes });
                    }
                    Event::Frame { .. } => {}
                    Event::Dialled { from, to } if self.reaches(from, to) => self.connect(from, to),
                    Event::Dialled { from, to } => {
                        let to = self.nodes[to].key.author_id();
                        self.give(from, Input::DialFailed { peer: to });
                    }
                    Event::Failed { from, to } => self.give(from, Input::DialFailed { peer: to }),
                    Event::Lost { at, link } => self.give(at, Input::LinkDown { link }),
                }
            }
            for at in 0..self.nodes.len() {
                if self.nodes[at].core.is_some() && self.nodes[at].wakes_ms <= self.now_ms {
                    self.give(at, Input::Tick);
                }
            }
        }
        self.now_ms = until;
    }

    pub(super) fn core(&self, name: &str) -> &MeshCore {
        self.nodes[self.at(name)].core.as_ref().expect("it runs")
    }

    /// Says something on all of its links, true or not.
    pub(super) fn tell(&mut self, from: usize, sighting: Sighting) {
        let sealed = Statement::Sighting(sighting).seal(&self.nodes[from].key, &MeshId::of("test", b"mesh"));
        let bytes = crate::wire::Frame { statements: Some(vec![sealed]), ..Default::default() }.encode();
        let links: Vec<(LinkId, (usize, usize))> = self.links.iter().map(|(l, e)| (*l, *e)).collect();
        for (link, (a, b)) in links.into_iter().filter(|(_, (a, b))| *a == from || *b == from) {
            let to = if a == from { b } else { a };
            self.after(1, Event::Frame { to, link, bytes: bytes.clone() });
        }
    }

    /// How `who` stands as `at` sees it.
    pub(super) fn seen(&self, at: &str, who: &str) -> State {
        self.core(at).presence(&self.id(who), &self.clock()).state
    }

    pub(super) fn may_hear(&self, at: &str, who: &str) -> bool {
        let site = |name: &str| name.split_once('/').map(|(site, _)| site.to_owned());
        let gateway = self.core(at).announced(&self.id(who)).is_some_and(|a| a.gateway);
        site(at).is_none() || site(who).is_none() || site(at) == site(who) || gateway
    }

    /// Both ends of each link know the same of whom both may hear: their digests agree, however it came to that.
    pub(super) fn agreed(&self) {
        for (a, b) in self.links.values() {
            let known = |at: &usize, of: &usize| {
                let core = self.nodes[*at].core.as_ref().expect("it runs");
                core.known_with(&self.nodes[*of].key.author_id())
            };
            assert_eq!(known(a, b), known(b, a), "{} and {}", self.names[*a], self.names[*b]);
        }
    }

    /// Everybody who runs has the links it wants, and sees all whom it may hear of.
    pub(super) fn settled(&self) {
        self.agreed();
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(core) = &node.core else { continue };
            for peer in core.wanted() {
                let to = self.nodes.iter().position(|n| n.key.author_id() == *peer).expect("a member");
                let name = self.names[to];
                assert!(self.nodes[to].core.is_none() || self.linked(at, to), "{} lacks its link to {name}", node.name);
            }
            for (who, other) in self.nodes.iter().enumerate().filter(|(who, n)| *who != at && n.core.is_some()) {
                if self.may_hear(node.name, other.name) {
                    let (a, b) = (node.name, self.names[who]);
                    assert_eq!(self.seen(a, b), State::Alive, "{b}, as {a} sees it");
                }
            }
        }
    }
}

pub(super) const MESH: [&str; 11] =
    ["hq", "dr", "lyon/a", "lyon/b", "lyon/c", "porto/a", "porto/b", "porto/c", "graz/a", "graz/b", "graz/c"];

pub(super) fn settled_mesh() -> World {
    let mut world = World::new(&MESH);
    world.start_all();
    world.run_for(60_000);
    world.settled();
    world
}

#[test]
fn from_one_address_the_mesh_finds_itself_and_stays_quiet() {
    let mut world = settled_mesh();
    let (dials, bytes) = (world.dials, world.bytes);
    world.run_for(20 * 60_000);
    assert_eq!(world.dials, dials, "nobody is looked for");
    let per_s = (world.bytes - bytes) / (20 * 60) / MESH.len() as u64;
    assert!(per_s < 30, "{per_s} B/s at each node while nothing happens");
    world.settled();
}

#[test]
fn who_dies_is_missed_everywhere_in_time_and_found_when_it_is_back() {
    let mut world = settled_mesh();
    let gateway = MESH[2..5].iter().find(|n| world.core(n).said().is_some_and(|a| a.gateway)).expect("a gateway");
    world.kill(gateway);
    world.run_for(9_000 + 1_000);
    let mates: Vec<&str> = MESH[2..5].iter().filter(|n| *n != gateway).copied().collect();
    for mate in &mates {
        assert_ne!(
            world.seen(mate, gateway),
            State::Alive,
            "{mate}: a peer that lost it knows after the transport does"
        );
    }
    world.run_for(5_000);
    for name in MESH.iter().filter(|n| *n != gateway) {
        assert_eq!(world.seen(name, gateway), State::Unreachable, "{name}");
    }
    // Another stands in for it.
    let stand_ins = mates.iter().filter(|n| world.core(n).said().is_some_and(|a| a.gateway && a.outside)).count();
    assert_eq!(stand_ins, 2);
    world.start(world.at(gateway));
    world.run_for(45_000);
    world.settled();
}

#[test]
fn who_stops_on_purpose_has_departed() {
    let mut world = settled_mesh();
    let at = world.at("lyon/a");
    world.give(at, Input::Leave);
    world.run_for(1_000);
    world.kill("lyon/a");
    world.run_for(20_000);
    for name in MESH.iter().filter(|n| **n != "lyon/a" && world.may_hear(n, "lyon/a")) {
        assert_eq!(world.seen(name, "lyon/a"), State::Departed, "{name}");
    }
}

#[test]
fn a_site_that_is_cut_off_sees_the_rest_as_gone_and_the_rest_sees_it_so() {
    let mut world = settled_mesh();
    world.part(|name| name.starts_with("porto"));
    world.run_for(20_000);
    for a in MESH {
        for b in MESH.iter().filter(|b| **b != a && world.may_hear(a, b)) {
            let across = a.starts_with("porto") != b.starts_with("porto");
            let expected = if across { State::Unreachable } else { State::Alive };
            assert_eq!(world.seen(a, b), expected, "{b}, as {a} sees it");
        }
    }
    // Hours later it still tries, seldom, and is back within a minute.
    world.run_for(60 * 60_000);
    let (before, inputs) = (world.dials, world.inputs);
    world.run_for(60 * 60_000);
    assert!(world.dials - before < 11 * 4 * 120, "{} dials in an hour", world.dials - before);
    assert!(world.inputs - inputs < 11 * 2 * 3_600, "{} inputs in an hour", world.inputs - inputs);
    world.parted.clear();
    world.run_for(60_000);
    world.settled();
}

#[test]
fn without_hubs_the_ring_carries_the_mesh() {
    let mut world = settled_mesh();
    world.kill("hq");
    world.kill("dr");
    world.run_for(60_000);
    world.settled();
}

#[test]
fn a_lost_statement_is_found_by_the_digests() {
    let mut world = settled_mesh();
    // What a node says while its wires drop everything but keep standing.
    let at = world.at("lyon/a");
    world.give(at, Input::Addresses(vec![format!("{at}:9")]));
    world.queue.retain(|_, event| !matches!(event, Event::Frame { .. }));
    world.run_for(5 * 60_000);
    for name in MESH.iter().filter(|n| **n != "lyon/a" && world.may_hear(n, "lyon/a")) {
        let announced = world.core(name).announced(&world.id("lyon/a")).expect("known");
        assert_eq!(announced.addresses, [format!("{at}:9")], "{name}");
    }
}

#[test]
fn nobody_hears_of_a_foreign_sites_nodes_but_of_its_gateways() {
    let world = settled_mesh();
    for name in MESH.iter().filter(|n| n.contains('/')) {
        let core = world.core(name);
        for other in MESH.iter().filter(|n| n.contains('/') && n[..4] != name[..4]) {
            let announced = core.announced(&world.id(other));
            assert!(announced.is_none_or(|a| a.gateway), "{name} knows where {other} is");
        }
    }
    let gateways = MESH.iter().filter(|n| world.core(n).said().is_some_and(|a| a.gateway)).count();
    assert_eq!(gateways, 6, "two of each site");
}

#[test]
fn a_region_that_flaps_costs_the_others_little() {
    let region = |name: &str| if name.starts_with("graz") { "south" } else { "north" };
    let mut world = World::of_regions(&MESH, region);
    world.start_all();
    world.run_for(60_000);
    world.settled();
    let told = |world: &World| world.core("lyon/a").stats();
    let before = told(&world);
    for minute in 0..600u64 {
        let at = world.at("graz/b");
        world.give(at, Input::Addresses(vec![format!("{at}:{}", 1_000 + minute)]));
        world.run_for(100);
    }
    let after = told(&world);
    let heard = after.new + after.known - before.new - before.known;
    assert!(heard <= 2 * 60 / 2 + 10, "{heard} statements in a minute");
    world.run_for(60_000);
    world.settled();
}

#[test]
fn garbage_ends_the_link_and_nothing_else() {
    let mut world = settled_mesh();
    let (link, (a, _)) = world.links.iter().map(|(l, e)| (*l, *e)).next().expect("a link");
    for bytes in [&b""[..], &[0xff; 40], &[0xa1, 0x02, 0x81, 0x82, 0x41, 0x00, 0x58]] {
        let at = a;
        world.give(at, Input::Frame { link, bytes });
    }
    assert!(!world.links.contains_key(&link), "the link is closed");
    world.run_for(60_000);
    world.settled();
}

#[test]
fn gateways_that_reach_nobody_outside_are_helped() {
    let mut world = settled_mesh();
    let gateway = |world: &World, name: &str| world.core(name).said().is_some_and(|a| a.gateway);
    let porto = || MESH.iter().filter(|n| n.starts_with("porto"));
    let stuck: BTreeSet<&str> = porto().filter(|n| gateway(&world, n)).copied().collect();
    let third = porto().find(|n| !stuck.contains(*n)).expect("a third");
    // Their way out is gone, the third one's is not.
    for (a, x) in MESH.iter().enumerate() {
        for (b, y) in MESH.iter().enumerate() {
            if stuck.contains(x) && !y.starts_with("porto") {
                world.parted.insert((a, b));
            }
        }
    }
    let hq = (world.at(third), 0);
    let gone: Vec<LinkId> = world
        .links
        .iter()
        .filter(|(_, (a, b))| world.parted.contains(&(*a, *b)) || world.parted.contains(&(*b, *a)) || (*a, *b) == hq)
        .map(|(link, _)| *link)
        .collect();
    gone.into_iter().for_each(|link| world.cut(link));
    world.run_for(90_000);
    assert!(gateway(&world, third), "{third} does not help");
    assert!(world.core(third).said().is_some_and(|a| a.outside));
    for name in &stuck {
        assert_eq!(world.seen(name, "hq"), State::Alive, "{name} hears of hq through {third}");
    }
}
