//! The connector of each machine, in virtual time: it may die before, between and after, and it never lies.

use cauldron_coordinator::bodies::Checked;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_identity::FactId;
use cauldron_node_core::{EffectResult, Happened, Input, Probe};

use super::blocklist::Line;
use super::machine::Arriving;
use super::{Happening, World};
use crate::history::Effect;
use crate::invariants;
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;

/// How often a connector looks for blocks whose time is over, milliseconds.
const SWEEP_MS: u64 = 5_000;

/// A permit handed to a connector, with what it will write.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    effect: Effect,
    address: String,
    ttl_ms: u64,
}

impl World {
    pub(crate) fn execute(&mut self, place: Place, permit: &VerifiedPermit) {
        let id = permit.permit();
        self.note(place, "execute", id.as_bytes(), || id.short());
        if let Err(violation) = invariants::at_each_execute(self, place, id) {
            return self.break_off(violation);
        }
        if self.watch.probed.contains(&(place, id)) {
            reached!(self, "execute.resumed");
        }
        let action = permit.action();
        let ttl_ms = action.args().get("ttl_s").and_then(|ttl| ttl.as_u64()).unwrap_or(0) * 1_000;
        let effect = Effect {
            at: 0,
            place,
            permit: id,
            lineage: permit.lineage(),
            resource: permit.resource().to_owned(),
            intent: self.intent_of(permit.proposal()),
            taken_back: false,
        };
        let job = Job { effect, address: action.object().to_owned(), ttl_ms };
        self.watch.jobs.insert((place, id), job);
        self.machines[place].in_hand.insert(id);
        let delay = self.rng.between(0, self.weather.effect_ms_max);
        let process = self.machines[place].process;
        self.queue.after(delay, Happening::Effect { place, process, permit: id });
    }

    pub(crate) fn effect(&mut self, place: Place, process: u64, permit: FactId) {
        if self.machines[place].process != process {
            return;
        }
        let Some(job) = self.watch.jobs.get(&(place, permit)).cloned() else { return };
        let until_ms = self.machines[place].clock.wall(self.queue.now()) + job.ttl_ms;
        let (fails, unknown) = if self.calm { (0, 0) } else { self.weather.effect_fails };
        let roll = self.rng.below(100);
        let result = if roll < fails || self.machines[place].blocklist.read_only {
            EffectResult::failed("the file is read-only")
        } else {
            let lost = roll < fails + unknown;
            if !lost || self.rng.percent(50) {
                self.change_file(place, &job, until_ms);
            }
            if lost {
                reached!(self, "effect.unknown");
                EffectResult::unknown("the answer was lost")
            } else {
                Happened {
                    effect_ref: job.effect.resource.clone(),
                    note: format!("{} is blocked", job.address).into_bytes(),
                    until_ms: Some(until_ms),
                    ..Happened::default()
                }
                .into()
            }
        };
        let delay = self.rng.between(0, self.weather.effect_ms_max);
        let arriving = Arriving::from(Input::Executed { permit, result });
        self.queue.after(delay, Happening::Give { place, process, arriving });
    }

    fn change_file(&mut self, place: Place, job: &Job, until_ms: Ms) {
        let now = self.queue.now();
        let m = &mut self.machines[place];
        let line = Line { address: job.address.clone(), until_ms };
        if m.blocklist.apply(job.effect.permit, line) {
            let effect = Effect { at: now, ..job.effect.clone() };
            self.note(place, "EFFECT", effect.permit.as_bytes(), || format!("{} blocked", job.address));
            reached!(self, "effect.done");
            self.history.effects.push(effect);
            if let Err(violation) = invariants::at_each_effect(self) {
                self.break_off(violation);
            }
        }
    }

    pub(crate) fn probe(&mut self, place: Place, id: FactId) {
        let probe = self.machines[place].blocklist.probe(&id);
        self.watch.probed.insert((place, id));
        self.note(place, "probe", id.as_bytes(), || format!("{} {probe:?}", id.short()));
        match probe {
            Probe::Applied => reached!(self, "probe.applied"),
            Probe::Absent => reached!(self, "probe.absent"),
            Probe::Ended => reached!(self, "probe.ended"),
            Probe::Unclear => {}
        }
        let process = self.machines[place].process;
        let delay = self.rng.between(0, self.weather.effect_ms_max);
        let arriving = Arriving::from(Input::Probed { permit: id, probe });
        self.queue.after(delay, Happening::Give { place, process, arriving });
    }

    /// Lines have no versions.
    pub(crate) fn version(&mut self, place: Place, permit: FactId) {
        self.answer(place, Input::Version { permit, version: Ok(None) });
    }

    /// Looks whether the line stands; some say no though it does, so that it is taken back.
    pub(crate) fn check(&mut self, place: Place, permit: FactId, names: Vec<String>) {
        let stands = self.machines[place].blocklist.lines().contains_key(&permit);
        let held = stands && !self.rng.percent(self.weather.checks.unwrap_or(0));
        self.note(place, "check", permit.as_bytes(), || format!("{} {held}", permit.short()));
        if held {
            reached!(self, "check.held");
        } else {
            reached!(self, "check.refuted");
        }
        let check = |name| Checked { name, held: Some(held), says: format!("the line stands: {stands}") };
        let checks = names.into_iter().map(check).collect();
        self.answer(place, Input::Checked { permit, checks });
    }

    pub(crate) fn undo(&mut self, place: Place, undo: &VerifiedUndo) {
        let permit = undo.permit();
        self.note(place, "undo", permit.as_bytes(), || permit.short());
        if let Err(violation) = invariants::at_each_undo(self, place, permit) {
            return self.break_off(violation);
        }
        if self.machines[place].blocklist.take_back(&permit) {
            let of = |e: &&mut Effect| e.permit == permit && e.place == place;
            self.history.effects.iter_mut().filter(of).for_each(|e| e.taken_back = true);
            reached!(self, "undo.done");
        }
        let effect_ref = undo.resource().to_owned();
        let result = Happened { effect_ref, ..Happened::default() }.into();
        self.answer(place, Input::Undone { permit, result });
    }

    fn answer(&mut self, place: Place, input: Input) {
        let process = self.machines[place].process;
        let delay = self.rng.between(0, self.weather.effect_ms_max);
        self.queue.after(delay, Happening::Give { place, process, arriving: Arriving::from(input) });
    }

    /// The process looks at its file from time to time; one that is down does not.
    pub(crate) fn sweep(&mut self, place: Place) {
        self.queue.after(SWEEP_MS, Happening::Sweep { place });
        let now = self.queue.now();
        let m = &mut self.machines[place];
        if !m.is_up() || m.frozen {
            return;
        }
        let wall_ms = m.clock.wall(now);
        for (permit, line) in m.blocklist.sweep(wall_ms) {
            self.note(place, "ended", permit.as_bytes(), || line.address.clone());
            reached!(self, "effect.ended");
            self.give(place, Input::Ended { permit }.into());
        }
    }

    fn intent_of(&self, proposal: FactId) -> String {
        let fact = self.history.facts.get(&proposal);
        let body = fact.and_then(|f| f.body::<cauldron_coordinator::bodies::Proposal>());
        body.map(|p| p.intent_key).unwrap_or_default()
    }
}
