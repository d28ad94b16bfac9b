//! The life of a process: start, inputs, outputs in order, death between any two of them.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{KIND_ENDED, KIND_PERMIT, KIND_STARTED};
use cauldron_crdt::Packs;
use cauldron_crdt::doc::What;
use cauldron_identity::authority::{Entry, EntryBody, KIND_ENTRY};
use cauldron_identity::ids::sha256;
use cauldron_node_core::local::EPOCH;
use cauldron_node_core::{Event, Input, Output, Record};

use super::machine::{Arriving, Restored};
use super::{Happening, World};
use crate::disk::{Commit, Disk, SLOW_MS};
use crate::facts::Known;
use crate::invariants::{self, Violation};
use crate::network::Place;
use crate::reached;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Killed; the machine, its boot clock and its network stack live on.
    Kill,
    /// The machine loses power.
    Power,
}

impl World {
    /// Hands an input to a process, now or when it is able to listen.
    pub(crate) fn give(&mut self, place: Place, arriving: Arriving) {
        let blocking = self.weather.disk.blocking;
        let m = &mut self.machines[place];
        if !m.is_up() {
            return;
        }
        if m.frozen || (blocking && m.commit.is_some()) {
            m.inbox.push_back(arriving);
            return;
        }
        self.handle(place, arriving);
    }

    fn handle(&mut self, place: Place, arriving: Arriving) {
        let now = self.queue.now();
        let m = &mut self.machines[place];
        m.fresh_at = if m.site.is_none() { now } else { m.fresh_at.max(arriving.fresh_at) };
        let clock = m.clock.read(now);
        let Some(core) = m.core.as_mut() else { return };
        core.handle(clock, arriving.input);
        self.drain(place, arriving.stranger);
        self.pump(place);
    }

    pub(crate) fn tick(&mut self, place: Place, process: u64) {
        let now = self.queue.now();
        let m = &mut self.machines[place];
        if m.process != process || m.wake_at.is_none_or(|at| at > now) {
            return;
        }
        m.wake_at = None;
        let second = now / 1_000;
        m.woken = if m.woken.0 == second { (second, m.woken.1 + 1) } else { (second, 1) };
        let timer = m.wake_for;
        self.note(place, "tick", &[], || format!("{timer:?}"));
        if let Err(violation) = invariants::at_each_tick(self, place) {
            return self.break_off(violation);
        }
        self.give(place, Input::Tick.into());
    }

    /// Takes every output of the core into the outbox, and looks at what the node now says it keeps.
    pub(super) fn drain(&mut self, place: Place, stranger: bool) {
        let mut bulk = BTreeSet::new();
        loop {
            let Some(core) = self.machines[place].core.as_mut() else { return };
            match core.poll() {
                Output::Idle { until } => {
                    if let Some(damage) = core.damage().cloned() {
                        let text = format!("{} cannot read its own store: {damage}", self.machines[place].name);
                        return self.break_off(Violation::new("RECOVERY", text));
                    }
                    self.machines[place].wake_for = until.map(|(_, timer)| timer);
                    if let Err(violation) = invariants::at_each_handover(self, place, &bulk) {
                        return self.break_off(violation);
                    }
                    self.set_alarm(place, until.map(|(at, _)| at));
                    return;
                }
                output => {
                    match &output {
                        Output::Persist(record) => self.keeps(place, record, stranger),
                        Output::Send { link, lane, .. } if lane.is_bulk() => _ = bulk.insert(*link),
                        _ => {}
                    }
                    self.machines[place].outbox.push_back(output);
                }
            }
        }
    }

    fn set_alarm(&mut self, place: Place, boottime_ms: Option<u64>) {
        let now = self.queue.now();
        let m = &mut self.machines[place];
        let Some(at) = boottime_ms.map(|boottime| m.clock.when(boottime).max(now + 1)) else { return };
        if m.wake_at.is_none_or(|planned| at < planned || planned < now) {
            m.wake_at = Some(at);
            let process = m.process;
            self.queue.at(at, Happening::Tick { place, process });
        }
    }

    /// A node puts out a record: from here on it takes the fact in it for known.
    fn keeps(&mut self, place: Place, record: &Record, stranger: bool) {
        let value = record.value.as_deref().unwrap_or_default();
        if record.key.starts_with(EPOCH) && record.value.is_some() {
            reached!(self, "document.closed");
        } else if record.key.starts_with(EPOCH) {
            reached!(self, "document.reopened");
        }
        if record.key.starts_with(cauldron_crdt::log::PACK_PREFIX) {
            reached!(self, "document.packed");
        }
        let detail = sha256(&[record.key.as_slice(), value].concat());
        let Some(fact) = Known::of_record(&record.key, value) else {
            self.note(place, "keep", &detail, || {
                String::from_utf8_lossy(&record.key[..2.min(record.key.len())]).into_owned()
            });
            return;
        };
        let unheard_of = !self.history.facts.contains_key(&fact.id);
        let fact = self.history.fact(fact);
        self.note(place, "keep", &detail, || format!("{} {} {}", fact.id.short(), fact.kind(), fact.header.scope));
        let m = &mut self.machines[place];
        // A restored node gets its own lost facts back from peers; these it does not write.
        let own = fact.header.author == m.author && unheard_of;
        if own {
            m.written += 1;
            if m.restored.as_ref().is_some_and(|r| !r.told.contains(&fact.header.scope)) {
                self.history.blind.insert(fact.id);
            }
        }
        if self.coordinates(place) && own && fact.kind() == KIND_PERMIT {
            self.tempt(&fact);
        }
        let now = self.queue.now();
        let m = &mut self.machines[place];
        let new = m.known.insert(fact.id, fact.clone()).is_none();
        if new && let Some(tally) = &mut self.tally {
            tally.kept(now, &fact);
        }
        if new && let Err(violation) = invariants::at_each_fact(self, place, &fact, own, stranger) {
            self.break_off(violation);
        }
    }

    /// Carries out outputs, in order, until a commit runs or nothing is left.
    pub(crate) fn pump(&mut self, place: Place) {
        loop {
            let m = &mut self.machines[place];
            if m.commit.is_some() || !m.is_up() || m.frozen {
                return;
            }
            if self.dies_in_this_gap(place) {
                return self.die(place, Death::Kill);
            }
            let m = &mut self.machines[place];
            match m.outbox.pop_front() {
                None => match m.inbox.pop_front() {
                    Some(arriving) => {
                        // Handled here, not by recursion: a full inbox must not deepen the stack.
                        let now = self.queue.now();
                        m.fresh_at = if m.site.is_none() { now } else { m.fresh_at.max(arriving.fresh_at) };
                        let clock = m.clock.read(now);
                        let Some(core) = m.core.as_mut() else { return };
                        core.handle(clock, arriving.input);
                        self.drain(place, arriving.stranger);
                    }
                    None => return,
                },
                Some(Output::Persist(record)) => self.begin_commit(place, record),
                Some(output) => self.carry_out(place, output),
            }
            if self.violation.is_some() {
                return;
            }
        }
    }

    fn begin_commit(&mut self, place: Place, first: Record) {
        let (weather, calm) = (self.weather.disk, self.calm);
        let takes = if calm { 1 } else { weather.commit_ms(&mut self.rng) };
        let now = self.queue.now();
        let m = &mut self.machines[place];
        let mut records = vec![first];
        // Group commit: everything up to the first output that somebody outside could see.
        let mut events = Vec::new();
        while weather.group && matches!(m.outbox.front(), Some(Output::Persist(_) | Output::Event(_))) {
            match m.outbox.pop_front() {
                Some(Output::Persist(record)) => records.push(record),
                Some(event) => events.push(event),
                None => break,
            }
        }
        for event in events.into_iter().rev() {
            m.outbox.push_front(event);
        }
        let process = m.process;
        m.commit = Some(Commit { records, began: now, takes });
        self.queue.after(takes, Happening::Synced { place, process });
    }

    pub(crate) fn synced(&mut self, place: Place, process: u64) {
        let m = &mut self.machines[place];
        if m.process != process || m.frozen {
            return;
        }
        let Some(commit) = m.commit.take() else { return };
        self.note(place, "synced", &[], || format!("{} records in {} ms", commit.records.len(), commit.takes));
        self.make_durable(place, &commit.records);
        self.pump(place);
    }

    fn make_durable(&mut self, place: Place, records: &[Record]) {
        for record in records {
            if let Err(violation) = invariants::at_each_write(self, place, record) {
                self.break_off(violation);
            }
            let m = &mut self.machines[place];
            if record.value.is_none()
                && let Some(gone) =
                    m.disk.get(&record.key).and_then(|value| m.disk.fact(&Packs::default(), &record.key, &value))
            {
                reached!(self, "store.left_aside");
                m.known.remove(&gone.id);
                m.durable.remove(&gone.id);
            }
            m.disk.write(record);
            if let Some(fact) = record.value.as_deref().and_then(|value| Known::of_record(&record.key, value)) {
                m.durable.insert(fact.id);
                m.cut_known.extend(cut_by_council(&self.founding, &fact));
                self.history.durable(&fact);
                if let Err(violation) = invariants::at_each_durable(self, place, &fact) {
                    self.break_off(violation);
                }
            }
        }
    }

    fn carry_out(&mut self, place: Place, output: Output) {
        match output {
            Output::Send { link, lane, bytes } => self.send(place, link, lane, bytes),
            Output::Close { link, detail } => {
                self.note(place, "close", &link.to_be_bytes(), || detail);
                self.end_session(link);
            }
            Output::Dial { spiffe_id, addresses } => self.reach(place, spiffe_id, &addresses),
            Output::Release { link } => {
                self.note(place, "release", &link.to_be_bytes(), String::new);
                self.end_session(link);
            }
            Output::Execute(permit) => self.execute(place, &permit),
            Output::Probe { permit, .. } => self.probe(place, permit),
            Output::Version { permit, .. } => self.version(place, permit),
            Output::Check { permit, names, .. } => self.check(place, permit, names),
            Output::Undo(undo) => self.undo(place, &undo),
            Output::Work(work) => self.build(place, *work),
            Output::Reply { ticket, result } => self.replied(place, ticket, result),
            Output::Event(event) => self.told(place, &event),
            Output::Persist(_) | Output::Idle { .. } => unreachable!("the pump keeps these"),
        }
    }

    fn told(&mut self, place: Place, event: &Event) {
        self.note(place, "event", &[], || format!("{event:?}"));
        if matches!(event, Event::Document { what: What::Base, .. }) {
            reached!(self, "document.in_one_piece");
        }
        if matches!(event, Event::State { state: "read_only", .. })
            && let Some(restored) = &mut self.machines[place].restored
        {
            restored.admitted = true;
        }
        if let Event::ClockVouched { wall_ms } = event {
            let now = self.queue.now();
            self.machines[place].clock.vouched(*wall_ms, now);
        }
        if let Event::ClockReset { wall_ms, isolated } = event {
            reached!(self, "clock.reset");
            if let Err(violation) = invariants::at_each_reset(self, place, *wall_ms, *isolated) {
                return self.break_off(violation);
            }
            let now = self.queue.now();
            self.machines[place].clock.vouched(*wall_ms, now);
        }
    }

    /// Whether the process dies right before its next output. Places that matter for once-only execution are favoured.
    fn dies_in_this_gap(&mut self, place: Place) -> bool {
        let m = &mut self.machines[place];
        if let Some(left) = m.dies_at.filter(|_| !m.outbox.is_empty()) {
            m.dies_at = left.checked_sub(1);
            return left == 0;
        }
        let gap_ppm = self.weather.faults.gap_ppm;
        if self.calm || gap_ppm == 0 {
            return false;
        }
        let m = &self.machines[place];
        let (ppm, mark) = match m.outbox.front() {
            Some(Output::Execute(_)) => (gap_ppm, "crash.started_to_effect"),
            Some(Output::Undo(_)) => (gap_ppm, "crash.announced_to_undo"),
            Some(Output::Reply { .. }) => (gap_ppm / 10, "crash.before_reply"),
            Some(Output::Send { .. }) => (gap_ppm / 100, "crash.before_send"),
            Some(Output::Persist(record)) => {
                match record.value.as_deref().and_then(|v| Known::of_record(&record.key, v)) {
                    Some(fact) if fact.kind() == KIND_STARTED => (gap_ppm, "crash.permit_to_started"),
                    Some(fact) if fact.kind() == KIND_ENDED => (gap_ppm, "crash.end_to_ended"),
                    Some(fact) if fact.kind() == KIND_PERMIT => (gap_ppm / 4, "crash.before_persist"),
                    Some(fact) if fact.kind().starts_with("budget.") => (gap_ppm / 10, "crash.before_persist"),
                    Some(_) => (gap_ppm / 40, "crash.before_persist"),
                    None => (0, "crash.before_persist"),
                }
            }
            _ => (0, "crash.before_send"),
        };
        let dies = ppm > 0 && self.rng.chance(ppm);
        if dies {
            self.reached.mark(mark);
        }
        dies
    }

    /// The process dies: what was not durable is gone, what was running on the disk may or may not have arrived.
    pub(crate) fn die(&mut self, place: Place, death: Death) {
        if !self.machines[place].is_up() {
            return;
        }
        self.note(place, "dies", &[death as u8], || format!("{death:?}"));
        self.mark_death(place);
        let now = self.queue.now();
        if let Some(commit) = self.machines[place].commit.take() {
            let survivors = commit.survivors(&mut self.rng);
            self.make_durable(place, &survivors);
        }
        let m = &mut self.machines[place];
        m.forget_process();
        if death == Death::Power {
            m.clock.reboot(now);
        }
        for link in self.network.links_of(place) {
            self.end_session(link);
        }
        let down = if self.calm { 200 } else { self.rng.between(100, 9_000) };
        self.queue.after(down, Happening::Start { place });
    }

    fn mark_death(&mut self, place: Place) {
        let m = &self.machines[place];
        if let Some(commit) = &m.commit {
            self.reached.mark("crash.before_persist");
            if commit.takes > SLOW_MS {
                self.reached.mark("crash.slow_fsync");
            }
        }
        let waiting = m.outbox.iter().any(|o| matches!(o, Output::Execute(_)));
        let begun = m.in_hand.iter().any(|p| m.blocklist.times(p) == 0);
        let made = m.in_hand.iter().any(|p| m.blocklist.times(p) > 0);
        if waiting || begun {
            reached!(self, "crash.started_to_effect");
        }
        if made {
            reached!(self, "crash.effect_to_done");
        }
        if self.holds_an_untold_grant(place) {
            reached!(self, "budget.crash_debit_to_send");
        }
    }

    /// The machine loses its disk and gets an older copy.
    pub(crate) fn restore(&mut self, place: Place) {
        // Now and then there is no copy at all.
        let none = !self.calm && self.rng.percent(15) && self.machines[place].is_up();
        let copy = if none { Some(Disk::default()) } else { self.machines[place].backup.clone() };
        let Some(backup) = copy else { return };
        self.die(place, Death::Power);
        self.put_back(place, backup);
    }

    /// Puts an older disk into a machine that is down.
    pub(crate) fn put_back(&mut self, place: Place, backup: Disk) {
        let m = &mut self.machines[place];
        m.recall();
        let before = std::mem::take(&mut m.known);
        m.disk = backup;
        m.cut_known.clear();
        m.recall();
        let author = m.author;
        // What an earlier restore lost counts until a copy has it again. What was heard since is forgotten either way.
        let mut lost = m.restored.take().unwrap_or_default().lost;
        lost.extend(before.values().filter(|f| f.header.author == author).map(|f| (f.id, f.header.scope.clone())));
        lost.retain(|id, _| !m.known.contains_key(id));
        self.note(place, "restored", &(lost.len() as u64).to_be_bytes(), || format!("{} own facts lost", lost.len()));
        if lost.is_empty() {
            return;
        }
        reached!(self, "restore.with_loss");
        self.history.lost.extend(lost.keys());
        *self.history.restored.entry(author).or_default() += 1;
        self.machines[place].restored = Some(Restored { lost, ..Restored::default() });
    }

    pub(crate) fn thaw(&mut self, place: Place) {
        let now = self.queue.now();
        let m = &mut self.machines[place];
        if !m.frozen {
            return;
        }
        m.frozen = false;
        let (process, waiting) = (m.process, m.inbox.len());
        self.note(place, "thaws", &[], || format!("{waiting} inputs waiting"));
        if waiting > 0 {
            reached!(self, "freeze.thawed_with_backlog");
        }
        let m = &mut self.machines[place];
        if let Some(commit) = &m.commit {
            let done = (commit.began + commit.takes).max(now);
            self.queue.at(done, Happening::Synced { place, process });
        } else {
            self.pump(place);
        }
        if self.machines[place].wake_at.is_some() {
            self.machines[place].wake_at = Some(now);
            self.queue.at(now, Happening::Tick { place, process });
        }
    }
}

/// Whom an entry of the council cuts.
fn cut_by_council(founding: &crate::founding::Founding, fact: &Known) -> Option<(cauldron_identity::AuthorId, u32)> {
    let body = (fact.kind() == KIND_ENTRY).then(|| fact.body::<EntryBody>()).flatten()?;
    match body.entry() {
        Ok(Entry::Cut(cut)) if body.signers(&founding.mesh, &[founding.council.public().into()]) == 1 => {
            Some((cut.author, cut.incarnation))
        }
        _ => None,
    }
}
