//! Worlds in which nothing happens by itself: tests that read as stories.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{
    Decision, Ended, KIND_DECISION, KIND_ENDED, KIND_PROPOSAL, KIND_STARTED, Proposal, Started,
};
use cauldron_coordinator::ledger::State;
use cauldron_coordinator::vote::Choice;
use cauldron_identity::FactId;

use crate::facts::of_kind;
use crate::invariants;
use crate::network::Place;
use crate::queue::Ms;
use crate::world::people::Odd;
use crate::world::process::Death;
use crate::world::{HQ, World};

/// One minute of virtual time.
pub const MINUTE: Ms = 60_000;
/// One second of virtual time.
pub const SECOND: Ms = 1_000;

/// A vote that still needs a place and a person.
#[derive(Debug)]
pub struct Ballot<'w> {
    world: &'w mut World,
    proposal: FactId,
    choice: Choice,
    place: Place,
}

impl World {
    /// Cuts a machine's whole site (or hq) off from everybody else, until healed.
    pub fn cut(&mut self, name: &str) {
        let shores = self.shores_of(name);
        self.fall_silent(&shores);
    }

    /// Ends [`World::cut`].
    pub fn heal(&mut self, name: &str) {
        let shores = self.shores_of(name);
        self.heal_silence(&shores, &[]);
    }

    fn shores_of(&self, name: &str) -> Vec<(Place, Place)> {
        let place = self.place(name);
        let site = self.machines[place].site.clone();
        let island: BTreeSet<Place> = (0..self.machines.len())
            .filter(|p| *p == place || (site.is_some() && self.machines[*p].site == site))
            .collect();
        self.shores(&island)
    }

    /// An agent at `name` proposes to block `address`; time passes until the proposal is on its disk.
    ///
    /// # Panics
    /// When the node does not record it within ten seconds: the story ends there.
    pub fn propose(&mut self, name: &str, address: &str) -> FactId {
        let place = self.place(name);
        let before = self.history.proposals.len();
        self.propose_block(place, address);
        for _ in 0..100 {
            if let Some((id, _)) = self.history.proposals.get(before) {
                return *id;
            }
            self.run_for(100);
        }
        panic!("{name} does not record the proposal; violation: {:?}", self.violation);
    }

    /// Somebody will approve.
    pub fn approve(&mut self, proposal: FactId) -> Ballot<'_> {
        Ballot { world: self, proposal, choice: Choice::Approve, place: HQ }
    }

    /// Somebody will deny.
    pub fn deny(&mut self, proposal: FactId) -> Ballot<'_> {
        Ballot { world: self, proposal, choice: Choice::Deny, place: HQ }
    }

    /// The process on a machine dies and comes back after a moment.
    pub fn kill(&mut self, name: &str) {
        let place = self.place(name);
        self.die(place, Death::Kill);
    }

    /// The process on a machine dies right before its `n`th output from now.
    pub fn kill_at_output(&mut self, name: &str, n: u32) {
        let place = self.place(name);
        self.machines[place].dies_at = Some(n);
    }

    /// A machine is suspended for a while.
    pub fn freeze(&mut self, name: &str, lasts: Ms) {
        let place = self.place(name);
        self.freeze_for(place, lasts);
    }

    /// A backup job copies a machine's disk.
    pub fn back_up(&mut self, name: &str) {
        let place = self.place(name);
        self.machines[place].backup = Some(self.machines[place].disk.clone());
    }

    /// A machine loses its disk and gets the copy back.
    pub fn restore_backup(&mut self, name: &str) {
        let place = self.place(name);
        self.restore(place);
    }

    /// How often the outside world was changed for a proposal.
    #[must_use]
    pub fn effects_of(&self, proposal: FactId) -> usize {
        let lineage = self.history.facts.get(&proposal).and_then(|f| f.body::<Proposal>()).map(|p| p.lineage(proposal));
        self.history.effects.iter().filter(|e| Some(e.lineage) == lineage).count()
    }

    /// The state of a proposal as the facts on one machine have it.
    #[must_use]
    pub fn state_at(&self, name: &str, proposal: FactId) -> Option<State> {
        let m = &self.machines[self.place(name)];
        let (authority, ledger) = invariants::fold(self, &m.terms(), m.known.values())?;
        ledger.status(&proposal, &authority, m.clock.wall(self.now())).map(|s| s.state)
    }

    /// Whether a machine's disk says that what was done for a proposal is over.
    #[must_use]
    pub fn ended_at(&self, name: &str, proposal: FactId) -> bool {
        let m = &self.machines[self.place(name)];
        let mut starts = of_kind::<Started>(&m.known, KIND_STARTED).filter(|(_, s)| s.proposal == proposal);
        let ended = |start: FactId| {
            of_kind::<Ended>(&m.known, KIND_ENDED).any(|(f, e)| e.started == start && m.durable.contains(&f.id))
        };
        starts.any(|(fact, _)| ended(fact.id))
    }

    /// Whether hq has decided a proposal, as far as a machine knows.
    #[must_use]
    pub fn decided_at(&self, name: &str, proposal: FactId) -> bool {
        let m = &self.machines[self.place(name)];
        of_kind::<Decision>(&m.known, KIND_DECISION).any(|(_, d)| d.proposal == proposal)
    }

    /// Facts of a site that a machine holds.
    #[must_use]
    pub fn facts_of_site_at(&self, name: &str, site: &str) -> usize {
        let m = &self.machines[self.place(name)];
        m.known.values().filter(|f| f.header.scope.site_name() == Some(site)).count()
    }

    /// How many proposals a machine holds.
    #[must_use]
    pub fn proposals_at(&self, name: &str) -> usize {
        self.machines[self.place(name)].known.values().filter(|f| f.kind() == KIND_PROPOSAL).count()
    }

    /// From now on effects fail as often as the weather says.
    pub fn storm(&mut self) {
        self.calm = false;
    }

    /// Runs until everything has settled and judges what must hold then.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn settle(&mut self) {
        self.calm_down();
        self.run_for(2 * MINUTE);
        self.finish();
        self.expect_no_violation();
    }

    /// No invariant is broken so far.
    ///
    /// # Panics
    /// When one is.
    pub fn expect_no_violation(&self) {
        assert_eq!(self.violation, None);
    }
}

impl Ballot<'_> {
    /// At which node. hq, unless said.
    #[must_use]
    pub fn at(mut self, name: &str) -> Self {
        self.place = self.world.place(name);
        self
    }

    /// Who votes.
    ///
    /// # Panics
    /// When nobody has that name, or when the node has nothing to show yet: a mistake in a story.
    pub fn by(self, person: &str) {
        let index = self.world.founding.people.iter().position(|p| p.id == person);
        let index = index.unwrap_or_else(|| panic!("nobody is called {person}"));
        let ticket = self.world.vote(self.place, index, self.proposal, self.choice, Odd::Right);
        assert!(ticket.is_some(), "{} has nothing to show {person} yet", self.world.machines[self.place].name);
        self.world.run_for(50);
    }
}
