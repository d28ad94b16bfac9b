//! The core: one door in, one drain out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_identity::{AuthorId, AuthorKey, Clock, MeshId};

use crate::board::{Board, Heard};
use crate::dial::{Dials, Missing};
use crate::digest::Sums;
use crate::io::{Config, Input, LinkId, Output, Stats};
use crate::limits::{
    ADDRESS_LEN_MAX, ADDRESSES_MAX, ANNOUNCE_MIN_MS, CLOCK_STEP_MS, DIGEST_MS, DOUBT_MS, HELP_AFTER_MS, LINK_BURST,
    LINK_PER_S, MEMBERS_AT_ONCE_MAX, REDIAL_MS_MAX, REDIAL_RING_MS_MAX, REFRESH_MS, TOPOLOGY_EVERY_MS, WAKE_MS,
    YIELD_MS,
};
use crate::losses::Losses;
use crate::member::Member;
use crate::spread::{Bucket, Spread};
use crate::statement::{Announce, Statement};
use crate::topology::{self, All, Known, Tie};

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: AuthorId,
    /// What it may still bring.
    pub(crate) budget: Bucket,
    pub(crate) digest_at_ms: u64,
    pub(crate) digest_wait_ms: u64,
    /// Answers to digests.
    pub(crate) answers: Bucket,
    /// Since when nobody wants it.
    pub(crate) surplus_since_ms: Option<u64>,
    /// This core asked for it.
    pub(crate) ours: bool,
    /// This core said that it ends it, and does then.
    pub(crate) closes_at_ms: Option<u64>,
    /// The peer said that it ends it; after this it did not.
    pub(crate) parting_until_ms: u64,
}

/// Presence, topology and dialling of one node. See the crate's contract.
#[derive(Debug)]
pub struct MeshCore {
    pub(crate) me: AuthorId,
    pub(crate) mesh: MeshId,
    pub(crate) config: Config,
    addresses: Vec<String>,
    leaving: bool,
    seed: [u8; 32],
    drawn: u64,
    pub(crate) now: Clock,
    pub(crate) members: BTreeMap<AuthorId, Member>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) board: Board,
    pub(crate) spread: Spread,
    pub(crate) sums: Sums,
    /// Members of this node's site, itself included.
    pub(crate) site_members: usize,
    /// What this node said of itself last, and when.
    said: Option<(Announce, u64)>,
    /// It has to say more than that: its number, and not before.
    pub(crate) answer: Option<(u64, u64)>,
    /// How often lately somebody else with its key said more, and when last.
    pub(crate) contradicted: (u32, u64),
    pub(crate) losses: Losses,
    pub(crate) doubted: BTreeMap<AuthorId, u64>,
    pub(crate) dials: Dials,
    pub(crate) wanted: BTreeMap<AuthorId, Tie>,
    gateway: bool,
    pub(crate) moved: bool,
    topology_at_ms: u64,
    wake_ms: u64,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) stats: Stats,
}

impl MeshCore {
    /// A node of a mesh, alone so far. All chance comes from `seed`.
    #[must_use]
    pub fn new(me: AuthorId, mesh: MeshId, config: Config, seed: [u8; 32]) -> Self {
        let now = Clock { wall_ms: 0, boottime_ms: 0, confidence: cauldron_identity::Confidence::Unknown };
        Self {
            me,
            mesh,
            config,
            addresses: Vec::new(),
            leaving: false,
            seed,
            drawn: 0,
            now,
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            board: Board::default(),
            spread: Spread::default(),
            sums: Sums::default(),
            site_members: 0,
            said: None,
            answer: None,
            contradicted: (0, 0),
            losses: Losses::default(),
            doubted: BTreeMap::new(),
            dials: Dials::default(),
            wanted: BTreeMap::new(),
            gateway: false,
            moved: true,
            topology_at_ms: 0,
            wake_ms: u64::MAX,
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one input in; what this node says is signed with `key`. Drain [`MeshCore::poll`] afterwards.
    pub fn handle(&mut self, key: &AuthorKey, now: &Clock, input: Input<'_>) {
        self.now = *now;
        match input {
            Input::LinkUp { link, peer } => self.link_up(link, peer),
            Input::LinkDown { link } => self.link_down(link),
            Input::Frame { link, bytes } => self.frame(link, bytes),
            Input::DialFailed { peer } => {
                let now_ms = self.now.boottime_ms;
                self.doubted.insert(peer, now_ms + DOUBT_MS);
                let (seed, drawn) = (self.seed, &mut self.drawn);
                self.dials.failed(&peer, now_ms, |below| draw(&seed, drawn, below));
                self.moved = true;
            }
            Input::Addresses(addresses) => {
                let addresses = told_addresses(addresses);
                if addresses != self.addresses {
                    // The network has changed: what could not be reached before may be reached now.
                    self.doubted.clear();
                    self.dials.hurry(self.now.boottime_ms);
                    self.moved = true;
                }
                self.addresses = addresses;
            }
            Input::Members(members) => {
                self.members = members;
                self.members_changed();
            }
            Input::Leave => self.leaving = true,
            Input::Tick => {}
        }
        self.tend(key);
        self.wake_ms = self.next_wake_ms();
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What this node said of itself last.
    #[must_use]
    pub fn said(&self) -> Option<&Announce> {
        self.said.as_ref().map(|(announce, _)| announce)
    }

    /// What a member said of itself last.
    #[must_use]
    pub fn announced(&self, author: &AuthorId) -> Option<&Announce> {
        self.board.announce(author).map(|kept| &kept.said)
    }

    /// Whom this node is to be connected with.
    pub fn wanted(&self) -> impl Iterator<Item = &AuthorId> {
        self.wanted.keys()
    }

    /// When [`Input::Tick`] is due, boot time in milliseconds.
    #[must_use]
    pub fn wake_ms(&self) -> u64 {
        self.wake_ms
    }

    fn next_wake_ms(&self) -> u64 {
        let now_ms = self.now.boottime_ms;
        let links = self.links.values().flat_map(|l| [Some(l.digest_at_ms), l.closes_at_ms]).flatten();
        let refresh = self.said.as_ref().map(|(_, at)| at + REFRESH_MS);
        let answer = self.answer.map(|(_, at)| at);
        let topology = if self.moved { self.topology_at_ms } else { self.topology_at_ms.max(now_ms + DIGEST_MS) };
        let own = [refresh, answer, self.said_differs_at_ms()];
        let others = [self.dials.wake_ms(), self.spread.wake_ms(), self.losses_wake_ms()];
        let times = links.chain(own.into_iter().chain(others).flatten());
        let next = times.fold(topology, u64::min).max(now_ms + 1);
        if self.members.len() > MEMBERS_AT_ONCE_MAX { next.next_multiple_of(WAKE_MS) } else { next }
    }

    fn members_changed(&mut self) {
        let members = &self.members;
        // Two ends of a link agree on what they know only if neither keeps what the other may not take.
        let counts = |author: &AuthorId| members.get(author).is_some_and(|m| m.counts);
        self.board.retain(counts);
        self.losses.retain(counts);
        self.spread.retain(counts);
        self.sums.forget();
        let own_site = members.get(&self.me).and_then(|m| m.site.as_ref());
        self.site_members = members.values().filter(|m| own_site.is_some() && m.site.as_ref() == own_site).count();
        if !members.contains_key(&self.me) {
            // There is nothing to be said before it is a member again.
            (self.said, self.answer) = (None, None);
        }
        self.moved = true;
    }

    pub(crate) fn is_linked(&self, author: &AuthorId) -> bool {
        self.links.values().any(|l| l.peer == *author)
    }

    fn link_up(&mut self, link: LinkId, peer: AuthorId) {
        let now_ms = self.now.boottime_ms;
        let ours = self.wanted.contains_key(&peer) && self.dials.linked(&peer, now_ms);
        let entry = Link {
            peer,
            budget: Bucket::full(LINK_BURST, now_ms),
            digest_at_ms: now_ms,
            digest_wait_ms: DIGEST_MS,
            answers: Bucket::full(4, now_ms),
            surplus_since_ms: None,
            ours,
            closes_at_ms: None,
            parting_until_ms: 0,
        };
        self.links.insert(link, entry);
        self.losses.found(&peer, now_ms);
        self.doubted.remove(&peer);
        self.moved = true;
    }

    fn link_down(&mut self, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        self.board.forget_link(link);
        let parted = gone.closes_at_ms.is_some() || self.now.boottime_ms < gone.parting_until_ms;
        if !parted && !self.is_linked(&gone.peer) {
            self.lose(gone.peer);
        }
        if self.links.is_empty() {
            self.alone();
        }
        self.moved = true;
    }

    fn tend(&mut self, key: &AuthorKey) {
        self.announce(key);
        self.sight(key);
        self.rethink();
        // A gateway that has just become one says so at once.
        self.announce(key);
        self.dial();
        self.spread_due();
        self.digests_due();
        self.close_surplus();
    }

    /// What this node has to say of itself now.
    fn to_say(&self) -> Option<Announce> {
        let own = self.members.get(&self.me)?;
        let hub = self.config.hub || own.reads_all();
        let outside = self.links.values().any(|l| self.members.get(&l.peer).is_some_and(|m| m.site != own.site));
        Some(Announce {
            author: self.me,
            n: 0,
            as_of_ms: 0,
            leaving: self.leaving,
            addresses: self.addresses.clone(),
            region: self.config.region.clone(),
            hub,
            gateway: self.gateway,
            outside: outside || (hub && !self.links.is_empty()),
        })
    }

    /// When the next announcement may go out, if there is something new to say.
    fn said_differs_at_ms(&self) -> Option<u64> {
        let next = self.to_say()?;
        match &self.said {
            None => Some(self.now.boottime_ms),
            Some((said, at)) if Announce { n: said.n, as_of_ms: said.as_of_ms, ..next } == *said => {
                let shown_ms = said.as_of_ms.saturating_add(self.now.boottime_ms.saturating_sub(*at));
                (shown_ms.abs_diff(self.now.wall_ms) > CLOCK_STEP_MS).then_some(at + ANNOUNCE_MIN_MS)
            }
            Some((_, at)) if self.leaving => Some(*at),
            Some((_, at)) => Some(at + ANNOUNCE_MIN_MS),
        }
    }

    fn announce(&mut self, key: &AuthorKey) {
        let now_ms = self.now.boottime_ms;
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
        let refresh = self.said.as_ref().map(|(_, at)| at + REFRESH_MS);
        if !(due(self.said_differs_at_ms()) || due(refresh) || due(self.answer.map(|(_, at)| at))) {
            return;
        }
        let Some(mut next) = self.to_say() else { return };
        let answer = self.answer.take().map_or(0, |(n, _)| n);
        let last = self.said.as_ref().map_or(self.now.wall_ms, |(said, _)| said.n.saturating_add(1));
        next.n = last.max(answer);
        next.as_of_ms = self.now.wall_ms;
        self.said = Some((next.clone(), now_ms));
        self.say(key, Statement::Announce(next));
    }

    pub(crate) fn say(&mut self, key: &AuthorKey, statement: Statement) {
        let (sealed, subject) = (statement.seal(key, &self.mesh), *statement.subject());
        let heard = Heard { boot_ms: self.now.boottime_ms, wall_ms: self.now.wall_ms, from: None };
        self.board.take(statement, sealed, heard);
        self.spread.at_once(subject, self.now.boottime_ms);
    }

    /// Whom to be connected with, once something moved or some time has passed.
    fn rethink(&mut self) {
        let now_ms = self.now.boottime_ms;
        if now_ms < self.topology_at_ms || !(self.moved || now_ms >= self.topology_at_ms + DIGEST_MS) {
            return;
        }
        self.moved = false;
        self.topology_at_ms = now_ms + TOPOLOGY_EVERY_MS;
        self.doubted.retain(|_, until| *until > now_ms);
        let all = self.known();
        let (wanted, gateway) = (topology::wanted(&all, &self.me), topology::is_gateway(&all, &self.me));
        // What a ring carries hubs carry, too, and not everywhere is there a way from site to site.
        let mut expected: BTreeSet<AuthorId> = topology::gateways_below(&all, &self.me);
        expected.extend(wanted.iter().filter(|(_, tie)| **tie != Tie::Ring).map(|(peer, _)| *peer));
        drop(all);
        self.losses.expect(expected, &self.links.values().map(|l| l.peer).collect(), now_ms);
        (self.wanted, self.gateway) = (wanted, gateway);
    }

    fn known(&self) -> All<'_> {
        let now_ms = self.now.boottime_ms;
        let linked: BTreeSet<&AuthorId> = self.links.values().map(|l| &l.peer).collect();
        let mut all = All::new();
        for (author, member) in self.members.iter().filter(|(_, m)| m.counts) {
            let own = *author == self.me;
            let announce = self.board.announce(author).map(|k| &k.said);
            let sighted = self.board.lost_by(author).is_some_and(|s| now_ms < s.heard_ms + DOUBT_MS);
            let doubtful = sighted || self.doubted.contains_key(author);
            let there = own || linked.contains(author) || announce.is_some_and(|a| !a.leaving && !doubtful);
            let (hub, region) = match announce {
                _ if own => (self.config.hub || member.reads_all(), self.config.region.as_str()),
                Some(a) => (a.hub || member.reads_all(), a.region.as_str()),
                None => (member.reads_all(), ""),
            };
            let gateway = announce.is_some_and(|a| a.gateway);
            let stranded = self.board.stranded_since_ms(author).is_some_and(|since| now_ms >= since + HELP_AFTER_MS);
            all.insert(*author, Known { site: member.site.as_deref(), region, hub, gateway, there, stranded });
        }
        all
    }

    fn dial(&mut self) {
        let now_ms = self.now.boottime_ms;
        let linked: BTreeSet<&AuthorId> = self.links.values().map(|l| &l.peer).collect();
        let missing = self.wanted.iter().filter(|(peer, _)| !linked.contains(peer)).filter_map(|(peer, tie)| {
            let announce = &self.board.announce(peer)?.said;
            let first = *tie == Tie::Up || self.me < *peer;
            let yield_ms = if first { 0 } else { YIELD_MS };
            let wait_ms_max = if *tie == Tie::Ring { REDIAL_RING_MS_MAX } else { REDIAL_MS_MAX };
            let reachable = !announce.addresses.is_empty() && !announce.leaving;
            reachable.then_some(Missing { peer: *peer, region: &announce.region, yield_ms, wait_ms_max })
        });
        let (seed, drawn) = (self.seed, &mut self.drawn);
        let due = self.dials.due(now_ms, missing, |below| draw(&seed, drawn, below));
        for peer in due {
            let addresses = self.board.announce(&peer).map(|a| a.said.addresses.clone()).unwrap_or_default();
            if let Some(member) = self.members.get(&peer) {
                self.stats.dials += 1;
                let spiffe_id = member.spiffe_id.clone();
                self.outputs.push_back(Output::Dial { peer, spiffe_id, addresses });
            }
        }
    }

    /// A peer said something new of itself.
    pub(crate) fn heard_of(&mut self, peer: &AuthorId) {
        self.doubted.remove(peer);
        self.dials.hopeful(peer, self.now.boottime_ms);
        self.moved = true;
    }

    /// Somebody knows more of what this node said than it does itself, or lost it: it says more.
    pub(crate) fn answer_above(&mut self, n: u64, after_ms: u64) {
        let last_ms = self.said.as_ref().map_or(0, |(_, at)| *at);
        let at_ms = last_ms.saturating_add(after_ms).max(self.now.boottime_ms);
        let before = self.answer.map_or(0, |(n, _)| n);
        self.answer = Some((before.max(n.saturating_add(1)), at_ms));
    }

    pub(crate) fn said_n(&self) -> u64 {
        self.said.as_ref().map_or(0, |(said, _)| said.n)
    }

    pub(crate) fn chance(&mut self, below: u64) -> u64 {
        draw(&self.seed, &mut self.drawn, below)
    }

    pub(crate) fn refill(&self, bucket: &mut Bucket) -> bool {
        bucket.take(self.now.boottime_ms, 1_000 / LINK_PER_S, LINK_BURST)
    }
}

/// As many of a node's addresses as it tells, in their order: the first, then relays, then whatever there is room for.
fn told_addresses(mut addresses: Vec<String>) -> Vec<String> {
    addresses.retain(|address| address.len() <= ADDRESS_LEN_MAX);
    let is_relay = |address: &String| address.starts_with("via ");
    let relays = addresses.iter().skip(1).filter(|address| is_relay(address)).count().min(ADDRESSES_MAX - 1);
    let (mut relays_left, mut others_left) = (relays, ADDRESSES_MAX - 1 - relays);
    let mut first = true;
    addresses.retain(|address| {
        if std::mem::take(&mut first) {
            return true;
        }
        let left = if is_relay(address) { &mut relays_left } else { &mut others_left };
        let keeps = *left > 0;
        *left = left.saturating_sub(1);
        keeps
    });
    addresses
}

/// A number below `below`, from the seed: SHA-256 in counter mode.
fn draw(seed: &[u8; 32], drawn: &mut u64, below: u64) -> u64 {
    *drawn += 1;
    let hash =
        cauldron_identity::ids::domain_hash("cauldron/mesh-chance/v1", &[&seed[..], &drawn.to_be_bytes()].concat());
    let number = u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    if below == 0 { 0 } else { number % below }
}
