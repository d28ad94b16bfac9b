//! The weather as it strikes, and the calm after it.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::Permit;
use cauldron_identity::authority::{ChainEnd, Cut, Entry};
use cauldron_identity::{Confidence, Header, Scope};
use cauldron_node_core::Command;

use super::process::Death;
use super::{Asked, HQ, Happening, World};
use crate::facts::Known;
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;

/// Kinds of faults that strike again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed.
    Kill,
    /// A machine loses power.
    Power,
    /// A backup job copies a disk.
    Backup,
    /// A machine gets an older disk.
    Restore,
    /// Some places are cut off from the others.
    Partition,
    /// One direction falls silent.
    Stall,
    /// A machine is suspended.
    Freeze,
    /// A wall clock jumps.
    Jump,
    /// Somebody without an enrolled key connects.
    Stranger,
    /// hq writes what nobody voted for.
    Forge,
    /// The council cuts a node.
    Cut,
    /// hq signs two entries for one place and shows them to different nodes.
    Lie,
    /// The next step in the rotation of the root key.
    Rotate,
    /// Somebody with an owner's key writes what it did not do.
    Executor,
    /// Somebody with a member's key says that it lost another.
    Rumour,
}

impl World {
    /// Plans everything that happens by itself in this world.
    pub(crate) fn schedule_weather(&mut self) {
        use Fault::{Backup, Cut, Forge, Freeze, Jump, Kill, Lie, Partition, Power, Restore, Rotate, Stall, Stranger};
        for fault in [Kill, Power, Backup, Restore, Partition, Stall, Freeze, Jump, Stranger, Forge, Cut, Lie, Rotate] {
            self.plan(fault);
        }
        self.plan(Fault::Executor);
        self.plan(Fault::Rumour);
        let span = self.weather.turbulence_ms;
        for _ in 0..self.weather.agents.proposals {
            let at = self.rng.between(6_000, span);
            self.queue.at(at, Happening::Propose);
        }
        for person in 0..self.founding.people.len() {
            let at = self.rng.between(6_000, 12_000);
            self.queue.at(at, Happening::Look { person });
        }
        if let Some(mean) = self.weather.people.veto_ms {
            self.queue.after(mean, Happening::Veto);
        }
        if let Some(mean) = self.weather.people.deputy_ms {
            self.queue.after(5_000 + mean, Happening::Deputy);
        }
        if let Some(mean) = self.weather.people.undo_ms {
            self.queue.after(mean, Happening::WantBack);
        }
        if let Some(mean) = self.weather.write_ms {
            self.queue.after(mean, Happening::Write);
        }
        if let Some(mean) = self.weather.budget_ms {
            self.queue.after(5_000 + mean, Happening::Rights);
        }
        if self.weather.people.revoke && self.founding.people.len() > 2 {
            let at = self.rng.between(span / 3, span);
            self.queue.at(at, Happening::Revoke);
        }
        self.schedule_alone();
    }

    fn every_ms(&self, fault: Fault) -> Option<Ms> {
        let f = &self.weather.faults;
        match fault {
            Fault::Kill => f.kill_ms,
            Fault::Power => f.power_ms,
            // A backup that is taken often is lost seldom: half as long as the mean time to a restore.
            Fault::Backup => f.restore_ms.map(|ms| ms / 2),
            Fault::Restore => f.restore_ms,
            Fault::Partition => f.partition_ms,
            Fault::Stall => f.stall_ms,
            Fault::Freeze => f.freeze_ms,
            Fault::Jump => f.jump_ms,
            Fault::Stranger => f.stranger_ms,
            Fault::Forge => f.forge_ms,
            Fault::Cut => f.cut_ms,
            Fault::Lie => f.lie_ms,
            Fault::Rotate => self.weather.rotate_ms,
            Fault::Executor => f.executor_ms,
            Fault::Rumour => f.rumour_ms,
        }
    }

    fn plan(&mut self, fault: Fault) {
        if let Some(mean) = self.every_ms(fault) {
            let delay = self.rng.between(mean / 2, mean * 3 / 2);
            self.queue.after(delay, Happening::Weather(fault));
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.plan(fault);
        let nodes = 1..self.machines.len();
        let node = self.rng.between(1, nodes.len() as u64) as usize;
        let any = self.rng.index(self.machines.len());
        self.trace.note(self.queue.now(), "world", "weather", &[], || format!("{fault:?}"));
        match fault {
            Fault::Kill => self.die(any, Death::Kill),
            Fault::Power => self.die(any, Death::Power),
            Fault::Backup => {
                let m = &mut self.machines[node];
                m.backup = Some(m.disk.clone());
            }
            Fault::Restore => self.restore(node),
            Fault::Partition => self.part(),
            Fault::Stall => self.stall(any),
            Fault::Freeze => self.suspend(any),
            Fault::Jump => self.jump(node),
            Fault::Stranger => self.stranger(any),
            Fault::Forge => self.forge(),
            Fault::Cut => self.cut_author(node),
            Fault::Lie => self.lie(),
            Fault::Rotate => self.rotate(),
            Fault::Executor => self.executor_lies(node),
            Fault::Rumour => self.rumour(any),
        }
    }

    /// hq goes dark, a site goes dark, or the mesh falls into two halves.
    fn part(&mut self) {
        let all: BTreeSet<Place> = (0..self.machines.len()).collect();
        let island: BTreeSet<Place> = match self.rng.below(3) {
            0 => BTreeSet::from([HQ]),
            1 => {
                let place = self.rng.between(1, self.machines.len() as u64 - 1) as usize;
                let site = self.machines[place].site.clone();
                all.iter().copied().filter(|p| *p != HQ && self.machines[*p].site == site).collect()
            }
            _ => all.iter().copied().filter(|_| self.rng.percent(50)).collect(),
        };
        let long = if self.rng.percent(25) { 150_000 } else { 40_000 };
        let lasts = self.rng.between(3_000, long);
        self.cut_off(&island, lasts);
    }

    /// Nothing passes between `island` and the rest for `lasts` milliseconds.
    pub(crate) fn cut_off(&mut self, island: &BTreeSet<Place>, lasts: Ms) {
        let silenced = self.shores(island);
        self.fall_silent(&silenced);
        let written = self.machines.iter().map(|m| m.written).collect();
        self.trace.note(self.queue.now(), "world", "parts", &[], || format!("{island:?} for {lasts} ms"));
        self.queue.after(lasts, Happening::Heal { silenced, written });
    }

    /// Every direction between `island` and the rest.
    pub(crate) fn shores(&self, island: &BTreeSet<Place>) -> Vec<(Place, Place)> {
        let all = 0..self.machines.len();
        let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
        pairs.filter(|(a, b)| island.contains(a) != island.contains(b)).collect()
    }

    fn stall(&mut self, from: Place) {
        let peers: Vec<Place> = self.network.pairs_of(from).map(|(a, b)| if a == from { b } else { a }).collect();
        let Some(to) = self.rng.pick(&peers).copied() else { return };
        let silenced = vec![(from, to)];
        self.fall_silent(&silenced);
        let lasts = self.rng.between(1_000, 25_000);
        let written = self.machines.iter().map(|m| m.written).collect();
        self.queue.after(lasts, Happening::Heal { silenced, written });
    }

    fn suspend(&mut self, place: Place) {
        let lasts = self.rng.between(1_000, 100_000);
        self.freeze_for(place, lasts);
    }

    /// Suspends a machine.
    pub fn freeze_for(&mut self, place: Place, lasts: Ms) {
        let m = &mut self.machines[place];
        if !m.is_up() || m.frozen {
            return;
        }
        m.frozen = true;
        self.note(place, "freezes", &lasts.to_be_bytes(), || format!("for {lasts} ms"));
        self.queue.after(lasts, Happening::Thaw { place });
        for link in self.network.links_of(place) {
            let patience = self.rng.between(30_000, 45_000);
            self.queue.after(patience, Happening::GiveUp { link });
        }
    }

    /// Biased towards a hard place: an owner falls asleep as its permit is written, and wakes with it in its inbox when its
    /// lease is over.
    pub(crate) fn tempt(&mut self, permit: &Known) {
        let lease_ms = self.weather.lease_r1_ms;
        if self.calm || self.weather.faults.freeze_ms.is_none() || lease_ms > 30_000 || !self.rng.percent(40) {
            return;
        }
        let owner = permit.body::<Permit>().map(|p| p.owner);
        if let Some(place) = self.machines.iter().position(|m| Some(m.author) == owner) {
            let lasts = lease_ms + self.rng.between(3_000, 9_000);
            self.freeze_for(place, lasts);
        }
    }

    fn jump(&mut self, place: Place) {
        let sizes = [200, 5_000, 120_000, 3_600_000, 10 * 365 * 86_400_000];
        let size = self.rng.pick(&sizes).copied().unwrap_or(200);
        let by = if self.rng.percent(50) { size } else { -size };
        let now = self.queue.now();
        let m = &mut self.machines[place];
        m.clock.jump(by, now);
        if !m.clock.is_believed(now) {
            reached!(self, "clock.unbelieved");
            if self.rng.percent(60) {
                let after = self.rng.between(1_000, 40_000);
                self.queue.after(after, Happening::ResetClock { place });
            }
        }
        self.note(place, "jumps", &by.to_be_bytes(), || format!("by {by} ms"));
    }

    /// The operator of a machine whose clock is not believed sets it right, mostly, and has the node believe it.
    pub(crate) fn reset_clock(&mut self, place: Place) {
        let now = self.queue.now();
        let mistaken = self.rng.percent(40);
        let m = &mut self.machines[place];
        let clock = m.clock.read(now);
        let Some(core) = m.core.as_ref().filter(|_| clock.confidence == Confidence::Unknown) else { return };
        // At an isolated site nobody contradicts, and the word of a mistaken operator is taken: it is the operator's machine.
        if !mistaken || place == HQ || core.self_view(clock).state != "active" {
            m.clock.correct(now);
        } else {
            reached!(self, "clock.mistaken_operator");
        }
        self.ask(place, Command::TimeReset, Asked::Clock);
    }

    /// The council ends an author's right to write, at the heads that hq holds.
    pub(crate) fn cut_author(&mut self, place: Place) {
        if !self.machines[place].has_joined() || !self.machines[HQ].is_up() || self.machines.len() < 4 {
            return;
        }
        let author = self.machines[place].author;
        let hq = &self.machines[HQ];
        let of_author = || hq.known.values().filter(|f| f.header.author == author);
        let Some(incarnation) = of_author().map(|f| f.header.incarnation).max() else { return };
        let of_life = |h: &Header| h.author == author && h.incarnation == incarnation;
        let mut ends: Vec<ChainEnd> = Vec::new();
        for fact in of_author().filter(|f| f.header.incarnation == incarnation) {
            let end = ChainEnd { scope: fact.header.scope.clone(), seq: fact.header.seq, id: Some(fact.id) };
            match ends.iter_mut().find(|e| e.scope == end.scope) {
                Some(known) if known.seq < end.seq => *known = end,
                Some(_) => {}
                None => ends.push(end),
            }
        }
        // What an author did before it was found out may be cut off too, where nothing but documents hangs on it.
        if self.rng.percent(self.weather.cut_early)
            && let Some(end) = ends.iter_mut().find(|e| e.scope == Scope::mesh() && e.seq > 1)
        {
            reached!(self, "cut.early");
            // Right before a grant that its receiver has not seen: it will learn of the cut first.
            let granted = self.grant_in_flight(place).filter(|seq| *seq > 1 && *seq <= end.seq);
            end.seq = match granted {
                Some(seq) => seq - 1,
                None => self.rng.between(1, end.seq - 1),
            };
            end.id = self.machines[HQ]
                .known
                .values()
                .find(|f| of_life(&f.header) && f.header.scope == end.scope && f.header.seq == end.seq)
                .map(|f| f.id);
        }
        ends.sort();
        self.history.cut_ends.entry((author, incarnation)).or_default().push(ends.clone());
        reached!(self, "cut.member");
        let now = self.queue.now();
        self.history.cuts.insert(author, now);
        self.council_entry(&Entry::Cut(Cut { author, incarnation, ends, fork: vec![] }));
    }

    /// The last fault is over: wires are whole, disks are quick, clocks are right, machines are awake.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.trace.note(self.queue.now(), "world", "calm", &[], String::new);
        self.network.all_heard();
        let now = self.queue.now();
        for place in 0..self.machines.len() {
            self.machines[place].clock.correct(now);
            self.thaw(place);
            self.queue.after(100, Happening::Start { place });
        }
        for (a, b) in self.network.pairs() {
            self.redial(a, b);
        }
        self.flush_wires();
    }
}
