//! Sessions: dialled with backoff, ordered and reliable while they live, ended by breaks, silence and death.

use cauldron_identity::SpiffeId;
use cauldron_node_core::{Input, LinkId, LinkLane};

use super::machine::Arriving;
use super::{Happening, World};
use crate::invariants;
use crate::network::{Item, Place, pair};
use crate::reached;

/// The first byte of a frame of sync (`docs/wire.md`, frames on a link).
const SYNC: u8 = 0;
/// How many recent frames a stranger can repeat.
const OVERHEARD_MAX: usize = 64;

impl World {
    /// Two machines will try to reach each other soon.
    pub(crate) fn redial(&mut self, a: Place, b: Place) {
        let pair = pair(a, b);
        if !self.network.is_pair(a, b) {
            // Whoever wants this session asks for it.
            return;
        }
        if self.dialling.insert(pair) {
            let delay = if self.calm { self.rng.between(50, 500) } else { self.rng.between(100, 3_000) };
            self.queue.after(delay, Happening::Dial { a: pair.0, b: pair.1 });
        }
    }

    pub(crate) fn dial(&mut self, a: Place, b: Place) {
        self.dialling.remove(&pair(a, b));
        if self.network.between(a, b).is_some() || !self.machines[a].is_up() || !self.machines[b].is_up() {
            // Whoever starts later dials again.
            return;
        }
        if !self.network.is_open(a, b) || self.machines[a].frozen || self.machines[b].frozen {
            return self.redial(a, b);
        }
        // A transport reports one link per peer: what is left of an older one ends first.
        for (here, there) in [(a, b), (b, a)] {
            let old: Vec<LinkId> =
                self.machines[here].links.iter().filter(|(_, p)| **p == there).map(|(l, _)| *l).collect();
            for link in old {
                let process = self.machines[here].process;
                self.lost(here, process, link);
            }
        }
        if !self.machines[a].is_up() || !self.machines[b].is_up() {
            return;
        }
        let link = self.network.open(a, b);
        self.note(a, "session", &link.to_be_bytes(), || format!("{link} opens to place {b}"));
        for lane in 0..2 {
            self.put_on_wire(link, lane, self.queue.now(), Item::Up);
        }
    }

    /// A node asks once for a session with a member.
    pub(crate) fn reach(&mut self, place: Place, spiffe_id: SpiffeId, addresses: &[String]) {
        self.note(place, "dial", spiffe_id.to_string().as_bytes(), || format!("{spiffe_id} at {addresses:?}"));
        let to = addresses.iter().find_map(|address| address.strip_prefix("place-")?.split(':').next()?.parse().ok());
        let process = self.machines[place].process;
        let delay = self.rng.between(self.weather.latency_ms.0, self.weather.latency_ms.1);
        self.queue.after(delay, Happening::Reach { place, process, to, spiffe_id });
    }

    pub(crate) fn reached(&mut self, place: Place, to: Option<Place>, spiffe_id: SpiffeId) {
        let answers = |to: &Place| {
            let m = &self.machines[*to];
            m.spiffe_id == spiffe_id && m.is_up() && !m.frozen && self.network.is_open(place, *to)
        };
        let may = |to: &Place| self.may_reach(place, *to);
        match to.filter(|to| *to < self.machines.len()).filter(answers).filter(may) {
            Some(to) => {
                reached!(self, "topology.dialled");
                self.dial(place, to);
            }
            None => {
                let delay = self.rng.between(500, 6_000);
                let process = self.machines[place].process;
                self.queue.after(delay, Happening::Missed { place, process, spiffe_id });
            }
        }
    }

    /// Whether there is a way at all, in whatever weather.
    pub(crate) fn may_reach(&self, a: Place, b: Place) -> bool {
        let same = self.machines[a].site == self.machines[b].site;
        same || self.coordinates(a) || self.coordinates(b) || self.weather.sites_linked
    }

    /// What a direction of a session carries, bytes in a second; none: anything at once.
    fn carries(&self, a: Place, b: Place) -> Option<u64> {
        let apart = self.machines[a].site != self.machines[b].site;
        self.weather.thin.filter(|_| apart && !self.calm).map(|thin| thin.bytes_per_s)
    }

    /// A frame is with the wires from now on, and may be overtaken no more. When will they have taken it?
    fn taken_at(&mut self, link: LinkId, lane: usize, bytes: usize) -> u64 {
        let now = self.queue.now();
        let Some([a, b]) = self.network.session(link).map(|s| s.ends) else { return now };
        let Some(rate) = self.carries(a, b) else { return now };
        let Some(session) = self.network.session_mut(link) else { return now };
        let busy = &mut session.lanes[lane].busy_until;
        *busy = now.max(*busy) + (bytes as u64 * 1_000).div_ceil(rate);
        *busy
    }

    fn put_on_wire(&mut self, link: LinkId, lane: usize, from: u64, item: Item) {
        let latency = self.rng.between(self.weather.latency_ms.0, self.weather.latency_ms.1);
        let at = from + latency;
        let Some(session) = self.network.session_mut(link) else { return };
        let items = &mut session.lanes[lane].items;
        let at = items.back().map_or(at, |(last, _)| at.max(*last));
        items.push_back((at, item));
        self.queue.at(at, Happening::Wire { link, lane });
    }

    pub(crate) fn send(&mut self, place: Place, link: LinkId, lane: LinkLane, bytes: Vec<u8>) {
        self.note(place, "send", &bytes, || format!("{} bytes on {link}", bytes.len()));
        if let Some(tally) = &mut self.tally {
            tally.sent(place, bytes.len());
        }
        if let Err(violation) = invariants::at_each_send(self, place, link, lane, bytes.len()) {
            return self.break_off(violation);
        }
        if !self.calm && self.network.session(link).is_some() && self.rng.chance(self.weather.break_ppm) {
            reached!(self, "link.broken_in_flight");
            return self.end_session(link);
        }
        self.slip(place, link, bytes);
    }

    /// Sends what no core asked for, so that none is judged by it.
    pub(crate) fn slip(&mut self, place: Place, link: LinkId, bytes: Vec<u8>) {
        let Some(lane) = self.network.session(link).map(|s| s.lane_from(place)) else { return };
        let fresh_at = if self.coordinates(place) { self.queue.now() } else { self.machines[place].fresh_at };
        let (len, taken_at) = (bytes.len(), self.taken_at(link, lane, bytes.len()));
        self.put_on_wire(link, lane, taken_at, Item::Frame { bytes, fresh_at });
        if taken_at > self.queue.now() {
            let process = self.machines[place].process;
            return self.queue.at(taken_at, Happening::Drained { place, process, link, bytes: len });
        }
        // A wide link takes it at once.
        let clock = self.machines[place].clock.read(self.queue.now());
        if let Some(core) = self.machines[place].core.as_mut() {
            core.handle(clock, Input::Drained { link, bytes: len });
            self.drain(place, false);
        }
    }

    pub(crate) fn wire(&mut self, link: LinkId, lane: usize) {
        let now = self.queue.now();
        let Some(session) = self.network.session(link) else { return };
        let (from, to) = (session.receiver(1 - lane), session.receiver(lane));
        if self.network.is_silent(from, to) {
            return;
        }
        let Some(session) = self.network.session_mut(link) else { return };
        let front = &mut session.lanes[lane];
        if front.items.front().is_none_or(|(due, _)| *due > now) {
            return;
        }
        match front.items.pop_front() {
            Some((_, Item::Up)) => {
                front.announced = true;
                self.announce(link, from, to);
            }
            Some((_, Item::Frame { bytes, fresh_at })) => self.deliver(link, from, to, bytes, fresh_at),
            None => {}
        }
    }

    fn announce(&mut self, link: LinkId, from: Place, to: Place) {
        let peer = &self.machines[from];
        let input = Input::LinkUp { link, spiffe_id: peer.spiffe_id.clone(), author: peer.public };
        self.machines[to].links.insert(link, from);
        self.note(to, "link up", &link.to_be_bytes(), || format!("{link}"));
        self.give(to, input.into());
    }

    fn deliver(&mut self, link: LinkId, from: Place, to: Place, mut bytes: Vec<u8>, fresh_at: u64) {
        if let Err(violation) = invariants::at_each_frame(self, from, to, &bytes) {
            return self.break_off(violation);
        }
        if invariants::packed_facts(&bytes) > 0 {
            reached!(self, "range.packed");
        }
        // Heads are among the first of its frames of sync.
        if bytes.first() == Some(&SYNC) {
            self.hear(link, from, to);
            self.machines[to].spoken.insert(from);
        }
        if self.overheard.len() == OVERHEARD_MAX {
            self.overheard.pop_front();
        }
        self.overheard.push_back(bytes.clone());
        if !self.calm && self.weather.faults.stranger_ms.is_some() && self.rng.chance(1_000) {
            reached!(self, "garbage.from_member");
            self.mutate(&mut bytes);
        }
        self.note(to, "frame", &bytes, || format!("{} bytes on {link}", bytes.len()));
        self.give(to, Arriving { input: Input::Frame { link, bytes }, fresh_at, stranger: false });
    }

    /// After a restore: has somebody who holds a lost fact spoken by now? Its heads are among its first
    /// frames, lane by lane.
    fn hear(&mut self, link: LinkId, from: Place, to: Place) {
        const HEADS_FRAMES: u32 = 8;
        let [speaker, listener] = [from, to].map(|p| p);
        // What waits in a suspended machine was not heard.
        if self.machines[listener].restored.is_none() || self.machines[listener].frozen {
            return;
        }
        // Nobody listens to an author that was cut, or tells it anything.
        let shuts_out = |a: Place, b: Place| {
            let author = self.machines[b].author;
            self.machines[a].cut_known.iter().any(|(cut, _)| *cut == author)
        };
        // On a lost disk nobody is known before the authority chain came.
        let core = self.machines[listener].core.as_ref();
        let is_known = core.is_some_and(|c| c.authority().member(&self.machines[speaker].author).is_some());
        if !is_known || shuts_out(listener, speaker) || shuts_out(speaker, listener) {
            return;
        }
        let holds = self.machines[speaker].durable.clone();
        if let Some(restored) = &mut self.machines[listener].restored {
            let heard = restored.heard.entry(link).or_default();
            *heard += 1;
            if *heard >= HEADS_FRAMES {
                let scopes = restored.lost.iter().filter(|(id, _)| holds.contains(id)).map(|(_, scope)| scope.clone());
                restored.told.extend(scopes);
            }
        }
    }

    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        match self.rng.below(4) {
            0 => bytes.truncate(self.rng.index(bytes.len().max(1))),
            1 => bytes.extend_from_slice(&self.rng.bytes()),
            _ => {
                for _ in 0..self.rng.between(1, 4) {
                    let (at, bit) = (self.rng.index(bytes.len().max(1)), self.rng.below(8));
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
            }
        }
    }

    /// A session ends; each end notices in its own time, and they dial again.
    pub(crate) fn end_session(&mut self, link: LinkId) {
        let Some(session) = self.network.end(link) else { return };
        for (lane, place) in [(0, session.ends[1]), (1, session.ends[0])] {
            if session.lanes[lane].announced && self.machines[place].is_up() {
                let process = self.machines[place].process;
                let delay = self.rng.between(1, 2_000);
                self.queue.after(delay, Happening::Lost { place, process, link });
            }
        }
        let [a, b] = session.ends;
        self.redial(a, b);
    }

    pub(crate) fn lost(&mut self, place: Place, process: u64, link: LinkId) {
        let m = &mut self.machines[place];
        if m.process == process && m.links.remove(&link).is_some() {
            self.note(place, "link down", &link.to_be_bytes(), || format!("{link}"));
            self.give(place, Input::LinkDown { link }.into());
        }
    }

    /// Silence has lasted longer than the transport's idle time-out.
    pub(crate) fn give_up(&mut self, link: LinkId) {
        let Some([a, b]) = self.network.session(link).map(|s| s.ends) else { return };
        if !self.network.is_open(a, b) || self.machines[a].frozen || self.machines[b].frozen {
            self.end_session(link);
        }
    }

    /// Nothing passes in these directions any more; sessions notice after a while.
    pub(crate) fn fall_silent(&mut self, directions: &[(Place, Place)]) {
        for (from, to) in directions {
            self.network.silence(*from, *to, true);
            if let Some(link) = self.network.between(*from, *to) {
                let patience = self.rng.between(8_000, 30_000);
                self.queue.after(patience, Happening::GiveUp { link });
            }
        }
    }

    /// These directions are heard again: what waited arrives now, in order.
    pub(crate) fn heal_silence(&mut self, silenced: &[(Place, Place)], written: &[u64]) {
        for (from, to) in silenced {
            self.network.silence(*from, *to, false);
        }
        let news = self.machines.iter().zip(written).filter(|(m, before)| m.written > **before).count();
        if silenced.len() == 1 {
            if silenced.iter().any(|(a, b)| self.network.between(*a, *b).is_some()) {
                reached!(self, "stall.healed");
            }
        } else if news >= 2 {
            reached!(self, "partition.healed");
        }
        self.trace.note(self.queue.now(), "world", "heals", &[], || format!("{silenced:?}"));
        self.flush_wires();
    }

    /// Everything that is due is looked at again.
    pub(crate) fn flush_wires(&mut self) {
        let now = self.queue.now();
        for link in self.network.links() {
            let Some(session) = self.network.session_mut(link) else { continue };
            for lane in 0..2 {
                let mut due = Vec::new();
                for (at, _) in &mut session.lanes[lane].items {
                    *at = (*at).max(now);
                    due.push(*at);
                }
                for at in due {
                    self.queue.at(at, Happening::Wire { link, lane });
                }
            }
        }
    }
}
