//! Budgets: hq mints, nodes grant to each other, reserve and settle; and hq's key in the wrong hands does so too.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_crdt::escrow::{
    Body, Budget, Credit, Debit, KIND_CREDIT, KIND_DEBIT, Life, Source, Window, purpose_named,
};
use cauldron_identity::budget::window_at;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{FactId, Scope};
use cauldron_node_core::{BudgetAct, Command, NodeCore, Refusal};

use super::process::Death;
use super::{Asked, HQ, Happening, World};
use crate::facts::{Known, of_kind};
use crate::network::Place;
use crate::reached;

/// A limit per window of time, and one without time.
const BUDGETS: [&str; 2] = ["actions", "slots"];
/// What a mint brings at most: so little that nodes run out of it.
const AMOUNT_MAX: u64 = 40;

fn budget(name: &str) -> Budget {
    Budget::new(name).expect("a valid name")
}

impl World {
    /// Somebody does something with a budget, at a random node that runs.
    pub(crate) fn move_rights(&mut self) {
        let Some(mean) = self.weather.budget_ms.filter(|_| !self.calm) else { return };
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::Rights);
        let up: Vec<Place> =
            (0..self.machines.len()).filter(|p| self.machines[*p].is_up() && self.machines[*p].has_joined()).collect();
        let name = if self.rng.percent(70) { BUDGETS[0] } else { BUDGETS[1] };
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let window_ms = if name == BUDGETS[0] { self.weather.window_ms } else { 0 };
        let window = window_at(window_ms, self.machines[place].clock.wall(self.queue.now()));
        let held = self.held(place, &budget(name), window);
        // Whoever holds nothing mostly knows so.
        let poor = held == 0 && self.rng.percent(80);
        match self.rng.below(100) {
            0..70 if poor => {}
            0..45 => self.grant_something(place, &budget(name), held),
            45..70 => self.reserve_something(place, budget(name), held),
            70..85 => self.settle_something(place),
            _ => self.mint_something(budget(name), window_ms),
        }
    }

    /// What a node holds in a window, as far as it knows.
    fn held(&self, place: Place, budget: &Budget, window: Window) -> u64 {
        let m = &self.machines[place];
        let Some(core) = m.core.as_ref() else { return 0 };
        life_of(core, m.author).map_or(0, |life| core.escrow().balance(budget, window).of(&life).held)
    }

    /// Mostly what is there, now and then one more.
    fn some_of(&mut self, held: u64) -> u64 {
        let most = if self.rng.percent(10) { held + 1 } else { held.max(1) };
        self.rng.between(1, most)
    }

    fn mint_something(&mut self, budget: Budget, window_ms: u64) {
        let amount = self.rng.between(5, AMOUNT_MAX);
        let window = self.rng.percent(20).then(|| {
            let now = window_at(window_ms, self.machines[HQ].clock.wall(self.queue.now()));
            if window_ms == 0 { 0 } else { now + self.rng.below(3) }
        });
        let holder = self.rng.percent(40).then(|| self.rng.index(self.machines.len()));
        let holder = holder.map(|place| self.machines[place].author);
        let act = BudgetAct::Mint { budget, window, window_ms: Some(window_ms), amount, holder };
        self.ask(HQ, Command::Budget(act), Asked::Rights);
    }

    fn grant_something(&mut self, place: Place, budget: &Budget, held: u64) {
        let to = self.rng.index(self.machines.len());
        let act = BudgetAct::Grant {
            budget: budget.clone(),
            window: None,
            amount: self.some_of(held),
            to: self.machines[to].author,
        };
        self.ask(place, Command::Budget(act), Asked::Rights);
    }

    /// Now and then for a purpose that was reserved for before.
    fn reserve_something(&mut self, place: Place, budget: Budget, held: u64) {
        let amount = self.some_of(held.min(5));
        let purpose = purpose_named(&format!("job {}", self.rng.below(1_000)));
        self.ask(place, Command::Budget(BudgetAct::Reserve { budget, amount, purpose }), Asked::Reservation { amount });
    }

    fn settle_something(&mut self, place: Place) {
        let here: Vec<usize> = (0..self.reserved.len()).filter(|i| self.reserved[*i].0 == place).collect();
        let Some(index) = self.rng.pick(&here).copied() else { return };
        let (_, reserve, amount) = self.reserved[index];
        let spent = if self.rng.percent(50) { amount } else { self.rng.below(amount + 1) };
        self.ask(place, Command::Budget(BudgetAct::Settle { reserve, spent }), Asked::Rights);
        reached!(self, "budget.settled");
    }

    pub(crate) fn mark_refusal(&mut self, why: &Refusal) {
        match why.code {
            "not_enough" => reached!(self, "budget.not_enough"),
            "clock_unknown" => reached!(self, "budget.clock_unknown"),
            "rights_unconfirmed" => reached!(self, "budget.unconfirmed"),
            _ => {}
        }
    }

    /// Whether a grant lies on this machine's disk of which no other machine knows.
    pub(crate) fn holds_an_untold_grant(&self, place: Place) -> bool {
        let m = &self.machines[place];
        let own = |f: &&Arc<Known>| f.kind() == KIND_DEBIT && f.header.author == m.author && m.durable.contains(&f.id);
        let told = |f: &Arc<Known>| {
            self.machines.iter().enumerate().any(|(other, o)| other != place && o.known.contains_key(&f.id))
        };
        m.known.values().filter(own).any(|f| !told(f))
    }

    /// The place of a grant by this machine that hq knows and its receiver does not.
    pub(crate) fn grant_in_flight(&self, place: Place) -> Option<u64> {
        let author = self.machines[place].author;
        let granted = of_kind::<Debit>(&self.machines[HQ].known, KIND_DEBIT).filter(|(f, _)| f.header.author == author);
        let mut untold = granted.filter(|(f, debit)| {
            let receiver = self.machines.iter().find(|m| m.author == debit.to.author);
            receiver.is_some_and(|m| !m.known.contains_key(&f.id))
        });
        untold.next().map(|(f, _)| f.header.seq)
    }

    /// Biased towards a hard place: as a grant is written, its receiver is cut off for longer than a session lasts, and
    /// meanwhile its author is found out. The receiver will learn of the cut first.
    pub(crate) fn tempt_with_a_grant(&mut self, place: Place, debit: &Debit) {
        let rare = self.weather.faults.cut_ms.is_none() || self.weather.cut_early == 0;
        if self.calm || rare || place == HQ || !self.history.cuts.is_empty() || !self.rng.percent(30) {
            return;
        }
        let receiver = self.machines.iter().position(|m| m.author == debit.to.author);
        let Some(receiver) = receiver.filter(|receiver| *receiver != HQ) else { return };
        self.cut_off(&BTreeSet::from([receiver]), 60_000);
        self.queue.after(5_000, Happening::Cut { place });
    }

    /// Somebody with hq's key credits the same rights again, or grants what hq does not hold, while hq is down.
    pub(crate) fn forge_rights(&mut self) {
        self.die(HQ, Death::Kill);
        self.machines[HQ].recall();
        let again = self.rng.percent(60);
        let body = if again { self.a_credit_of_hq().map(Body::Credit) } else { Some(self.a_grant_from_nothing()) };
        let Some(body) = body else { return };
        let forged = self.inject(HQ, &Scope::mesh(), body.kind(), body.deps(), body.to_bytes());
        if let Some(id) = forged {
            self.note(HQ, "FORGED", id.as_bytes(), || format!("{body:?}"));
        }
    }

    fn a_credit_of_hq(&mut self) -> Option<Credit> {
        let hq = &self.machines[HQ];
        let own = of_kind::<Credit>(&hq.known, KIND_CREDIT).filter(|(f, _)| f.header.author == hq.author);
        let credits: Vec<Credit> = own.map(|(_, credit)| credit).collect();
        self.rng.pick(&credits).cloned()
    }

    fn a_grant_from_nothing(&mut self) -> Body {
        let name = if self.rng.percent(50) { BUDGETS[0] } else { BUDGETS[1] };
        let window_ms = if name == BUDGETS[0] { self.weather.window_ms } else { 0 };
        let window = window_at(window_ms, self.machines[HQ].clock.wall(self.queue.now()));
        let to = self.rng.between(1, self.machines.len() as u64 - 1) as usize;
        let incarnation = self.incarnation_of(&self.machines[to]);
        let to = Life { author: self.machines[to].author, incarnation };
        Body::Debit(Debit { budget: budget(name), window, amount: 1_000_000, to, purpose: None })
    }

    /// Whether a forged fact credits what another fact of its author credited.
    pub(crate) fn is_second_credit(&self, fact: &Known) -> bool {
        let Some(credit) = fact.body::<Credit>().filter(|_| fact.kind() == KIND_CREDIT) else { return false };
        self.history.forged.contains(&fact.id) && self.credits_of(credit.source) > 1
    }

    fn credits_of(&self, source: Source) -> usize {
        of_kind::<Credit>(&self.history.facts, KIND_CREDIT)
            .filter(|(_, c)| to_cbor(&c.source) == to_cbor(&source))
            .count()
    }

    /// Own credits that a machine's disk has lost, by what they took.
    pub(crate) fn lost_credits(&self, place: Place) -> Vec<FactId> {
        let Some(restored) = self.machines[place].restored.as_ref() else { return Vec::new() };
        let lost = restored.lost.keys().filter_map(|id| self.history.facts.get(id));
        lost.filter(|f| f.kind() == KIND_CREDIT).filter_map(|f| Some(f.body::<Credit>()?.source.id())).collect()
    }
}

/// The present life of an author, as a node knows it.
fn life_of(core: &NodeCore, author: cauldron_identity::AuthorId) -> Option<Life> {
    core.authority().member(&author).map(|m| Life { author, incarnation: m.incarnation })
}
