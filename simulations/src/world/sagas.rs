//! Several steps at once: often at two machines of one site.

use cauldron_identity::FactId;
use cauldron_node_core::{Command, Ticket};

use super::World;
use super::deeds::{Asked, Intent};
use crate::clock::EPOCH_MS;
use crate::history::Ack;
use crate::invariants;
use crate::network::Place;
use crate::reached;

impl World {
    /// Whether what an agent is about to propose is a saga. A world without any draws nothing for it.
    pub(super) fn proposes_a_saga(&mut self) -> bool {
        let sagas = self.weather.agents.sagas;
        sagas > 0 && self.rng.percent(sagas)
    }

    /// An agent of `place` proposes two or three blocks in a row, at its own list or its neighbour's.
    pub(super) fn propose_steps(&mut self, place: Place) {
        let steps = self.rng.between(2, 3);
        let intents: Vec<Intent> = (0..steps).map(|_| self.new_intent(place)).collect();
        self.ask_for_saga(place, &intents);
    }

    fn ask_for_saga(&mut self, place: Place, intents: &[Intent]) -> Ticket {
        let steps = intents.iter().map(|intent| self.draft(place, intent)).collect();
        let owners = intents.iter().map(|intent| intent.owner).collect();
        self.ask(place, Command::ProposeSaga { steps, traceparent: None }, Asked::Saga { owners })
    }

    /// An agent at `name` proposes these blocks in a row, each at the machine named beside it; time passes until they are recorded.
    ///
    /// # Panics
    /// When the node does not record them within ten seconds: the story ends there.
    pub fn propose_saga(&mut self, name: &str, steps: &[(&str, &str)]) -> Vec<FactId> {
        let place = self.place(name);
        let before = self.history.proposals.len();
        let intent = |(owner, address): &(&str, &str)| Intent {
            owner: self.place(owner),
            address: (*address).to_owned(),
            window_ms: EPOCH_MS,
        };
        let intents: Vec<Intent> = steps.iter().map(intent).collect();
        self.ask_for_saga(place, &intents);
        for _ in 0..100 {
            if self.history.proposals.len() >= before + steps.len() {
                return self.history.proposals[before..].iter().map(|(id, _)| *id).collect();
            }
            self.run_for(100);
        }
        panic!("{name} does not record the saga; violation: {:?}", self.violation);
    }

    /// Cuts one machine off from everybody, its own site included, or ends that.
    pub fn cut_alone(&mut self, name: &str, cut: bool) {
        let island = [self.place(name)].into();
        let shores = self.shores(&island);
        if cut { self.fall_silent(&shores) } else { self.heal_silence(&shores, &[]) }
    }

    /// Every step is acknowledged like a proposal of its own.
    pub(super) fn saga_written(&mut self, place: Place, owners: &[Place], ids: &[FactId]) {
        reached!(self, "saga.proposed");
        for (fact, owner) in ids.iter().zip(owners) {
            let ack = Ack { at: self.queue.now(), place, fact: *fact };
            if let Err(violation) = invariants::at_each_ack(self, &ack) {
                return self.break_off(violation);
            }
            self.history.acks.push(ack);
            self.history.proposals.push((*fact, *owner));
        }
    }
}
