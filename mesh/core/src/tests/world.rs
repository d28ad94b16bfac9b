//! Cores with wires of 20 ms between them.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, AuthorKey, Clock, Confidence, MeshId};

use super::{member, members};
use crate::statement::{Sighting, Statement};
use crate::{Config, Input, LinkId, MeshCore, Output, State};

const LATENCY_MS: u64 = 20;
const WALL_MS: u64 = 1_764_500_000_000;

struct Node {
    name: &'static str,
    key: AuthorKey,
    core: Option<MeshCore>,
    region: &'static str,
    wakes_ms: u64,
}

enum Event {
    Frame { to: usize, link: LinkId, bytes: Vec<u8> },
    Dialled { from: usize, to: usize },
    Failed { from: usize, to: AuthorId },
    Lost { at: usize, link: LinkId },
}

struct World {
    now_ms: u64,
    nodes: Vec<Node>,
    names: Vec<&'static str>,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    /// Of each link its two ends.
    links: BTreeMap<LinkId, (usize, usize)>,
    parted: BTreeSet<(usize, usize)>,
    dials: u64,
    bytes: u64,
    inputs: u64,
}

impl World {
    /// Everybody knows who is a member; nobody knows where they are, but the first of all, to whom each is connected at first.
    fn new(names: &[&'static str]) -> Self {
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

    fn of_regions(names: &[&'static str], region_of: impl Fn(&str) -> &'static str) -> Self {
        let mut world = Self::new(names);
        world.nodes.iter_mut().for_each(|node| node.region = region_of(node.name));
        world
    }

    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|n| *n == name).expect(name)
    }

    fn id(&self, name: &str) -> AuthorId {
        self.nodes[self.at(name)].key.author_id()
    }

    fn clock(&self) -> Clock {
        Clock { wall_ms: WALL_MS + self.now_ms, boottime_ms: self.now_ms, confidence: Confidence::Local }
    }

    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let config = Config { region: node.region.to_owned(), hub: false };
        node.core = Some(MeshCore::new(node.key.author_id(), MeshId::of("test", b"mesh"), config, [at as u8; 32]));
        self.give(at, Input::Members(members(&self.names)));
        self.give(at, Input::Addresses(vec![format!("{at}:7443")]));
    }

    fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.start(at));
        (1..self.nodes.len()).for_each(|at| self.connect(at, 0));
    }

    fn give(&mut self, at: usize, input: Input<'_>) {
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

    fn after(&mut self, ms: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now_ms + ms, self.next), event);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        self.nodes[a].core.is_some()
            && self.nodes[b].core.is_some()
            && !self.parted.contains(&(a, b))
            && !self.parted.contains(&(b, a))
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        self.links.values().any(|ends| *ends == (a, b) || *ends == (b, a))
    }

    fn connect(&mut self, a: usize, b: usize) {
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
    fn cut(&mut self, link: LinkId) {
        let Some((a, b)) = self.links.remove(&link) else { return };
        self.after(0, Event::Lost { at: a, link });
        self.after(0, Event::Lost { at: b, link });
    }

    /// A process ends; its peers notice when the transport does.
    fn kill(&mut self, name: &str) {
        let at = self.at(name);
        self.nodes[at].core = None;
        let links: Vec<(LinkId, (usize, usize))> = self.links.iter().map(|(l, ends)| (*l, *ends)).collect();
        for (link, (a, b)) in links.into_iter().filter(|(_, (a, b))| *a == at || *b == at) {
            self.links.remove(&link);
            self.after(9_000, Event::Lost { at: if a == at { b } else { a }, link });
        }
    }

    fn part(&mut self, inside: impl Fn(&str) -> bool) {
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

    fn run_for(&mut self, ms: u64) {
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

    fn core(&self, name: &str) -> &MeshCore {
        self.nodes[self.at(name)].core.as_ref().expect("it runs")
    }

    /// Says something on all of its links, true or not.
    fn tell(&mut self, from: usize, sighting: Sighting) {
        let sealed = Statement::Sighting(sighting).seal(&self.nodes[from].key, &MeshId::of("test", b"mesh"));
        let bytes = crate::wire::Frame { statements: Some(vec![sealed]), ..Default::default() }.encode();
        let links: Vec<(LinkId, (usize, usize))> = self.links.iter().map(|(l, e)| (*l, *e)).collect();
        for (link, (a, b)) in links.into_iter().filter(|(_, (a, b))| *a == from || *b == from) {
            let to = if a == from { b } else { a };
            self.after(1, Event::Frame { to, link, bytes: bytes.clone() });
        }
    }

    /// How `who` stands as `at` sees it.
    fn seen(&self, at: &str, who: &str) -> State {
        self.core(at).presence(&self.id(who), &self.clock()).state
    }

    fn may_hear(&self, at: &str, who: &str) -> bool {
        let site = |name: &str| name.split_once('/').map(|(site, _)| site.to_owned());
        let gateway = self.core(at).announced(&self.id(who)).is_some_and(|a| a.gateway);
        site(at).is_none() || site(who).is_none() || site(at) == site(who) || gateway
    }

    /// Both ends of each link know the same of whom both may hear: their digests agree, however it came to that.
    fn agreed(&self) {
        for (a, b) in self.links.values() {
            let known = |at: &usize, of: &usize| {
                let core = self.nodes[*at].core.as_ref().expect("it runs");
                core.known_with(&self.nodes[*of].key.author_id())
            };
            assert_eq!(known(a, b), known(b, a), "{} and {}", self.names[*a], self.names[*b]);
        }
    }

    /// Everybody who runs has the links it wants, and sees all whom it may hear of.
    fn settled(&self) {
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

const MESH: [&str; 11] =
    ["hq", "dr", "lyon/a", "lyon/b", "lyon/c", "porto/a", "porto/b", "porto/c", "graz/a", "graz/b", "graz/c"];

fn settled_mesh() -> World {
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
fn without_hubs_the_ring_carries_the_mesh() {
    let mut world = settled_mesh();
    world.kill("hq");
    world.kill("dr");
    world.run_for(60_000);
    world.settled();
}

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
