//! What people put in writing beside their votes: an edit of what they were asked, a deputy, the wish to have something
//! undone; and agents that work for somebody, step by step.

use cauldron_coordinator::action::Catalogue;
use cauldron_coordinator::bodies::{
    Deputy, DeputyStatement, Done, Hand, HandStatement, KIND_DEPUTY, KIND_DONE, Proposal, Started,
};
use cauldron_coordinator::ledger::{Recorded, edited};
use cauldron_identity::FactId;
use cauldron_identity::authority::Credential;
use cauldron_node_core::{Command, OpenSession, Ticket};

use super::{Asked, Happening, World};
use crate::facts::of_kind;
use crate::founding::DUTY;
use crate::network::Place;
use crate::queue::Ms;

/// How long somebody sits for another person, at least and at most, milliseconds.
const DEPUTY_MS: (Ms, Ms) = (20_000, 300_000);

impl World {
    /// A person edits what a node shows them instead of voting on it.
    pub(crate) fn edit(&mut self, place: Place, person: usize, parent: FactId) -> Option<Ticket> {
        let known = self.machines[place].known.get(&parent)?.clone();
        let recorded = Recorded { id: parent, header: (&known.header).into(), body: known.body::<Proposal>()? };
        let owner = recorded.body.resource.split('/').nth(1)?;
        let owner = self.machines.iter().position(|m| m.name == owner)?;
        let ttl_s = self.rng.between(1, self.weather.agents.ttl_s.max(2));
        let patch = serde_json::json!({ "ttl_s": ttl_s });
        let mut child = edited(&recorded, &patch, Catalogue::built_in()).ok()?;
        let (nonce, now) = (cauldron_identity::Digest::from_bytes(self.rng.bytes()), self.queue.now());
        let voter = self.founding.people.get(person)?;
        let key = voter.keys.first()?;
        let m = &self.machines[place];
        let statement = HandStatement {
            mesh: self.founding.mesh,
            person: voter.id.clone(),
            credential: Credential::of(key.public().into()).id(),
            authority_head: m.core.as_ref()?.authority().head(),
            content: child.content(),
            reason: "shorter is enough".into(),
            issued_ms: m.clock.wall(now),
            nonce,
        };
        child.hand = Some(Box::new(Hand::sign(&statement, key)));
        Some(self.ask(place, Command::ByHand(Box::new(child)), Asked::Edit { owner }))
    }

    /// Somebody names a deputy at some node, or takes one back.
    pub(crate) fn name_a_deputy(&mut self) {
        let Some(mean) = self.weather.people.deputy_ms else { return };
        if self.calm {
            return;
        }
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::Deputy);
        let up: Vec<Place> = (0..self.machines.len()).filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let (from, to) = (self.rng.index(self.founding.people.len()), self.rng.index(self.founding.people.len()));
        let (nonce, lasts) = (self.rng.bytes(), self.rng.between(DEPUTY_MS.0, DEPUTY_MS.1));
        let back = self.rng.percent(20).then(|| self.deputy_of(place, from)).flatten();
        let m = &self.machines[place];
        let wall_ms = m.clock.wall(self.queue.now());
        let (person, deputy) = (&self.founding.people[from], &self.founding.people[to]);
        let Some(core) = m.core.as_ref() else { return };
        let statement = DeputyStatement {
            mesh: self.founding.mesh,
            person: person.id.clone(),
            credential: Credential::of(person.keys[0].public().into()).id(),
            authority_head: core.authority().head(),
            to: deputy.id.clone(),
            groups: vec![DUTY.into()],
            classes: vec![],
            from_ms: wall_ms,
            until_ms: wall_ms + lasts,
            takes_back: back,
            nonce: cauldron_identity::Digest::from_bytes(nonce),
        };
        let deputy = Deputy::sign(&statement, &person.keys[0]);
        self.ask(place, Command::Deputy(Box::new(deputy)), Asked::Deputy);
    }

    fn deputy_of(&mut self, place: Place, person: usize) -> Option<cauldron_identity::Digest> {
        let id = &self.founding.people[person].id;
        let said = of_kind::<Deputy>(&self.machines[place].known, KIND_DEPUTY);
        let own = said.filter(|(_, d)| d.statement().is_ok_and(|s| s.person == *id && s.takes_back.is_none()));
        let own: Vec<_> = own.map(|(_, d)| d.id()).collect();
        self.rng.pick(&own).copied()
    }

    /// Somebody at a node wants back what it did.
    pub(crate) fn want_it_back(&mut self) {
        let Some(mean) = self.weather.people.undo_ms else { return };
        if self.calm {
            return;
        }
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::WantBack);
        let up: Vec<Place> = self.at_sites().filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        let m = &self.machines[place];
        let done: Vec<FactId> = of_kind::<Done>(&m.known, KIND_DONE)
            .filter(|(f, _)| f.header.author == m.author)
            .filter_map(|(_, d)| Some(m.known.get(&d.started)?.body::<Started>()?.proposal))
            .collect();
        let Some(proposal) = self.rng.pick(&done).copied() else { return };
        let by = self.founding.people[0].id.clone();
        self.ask(
            place,
            Command::Undo { proposal, by, reason: "it was somebody else".into(), out_of_turn: false },
            Asked::Undo,
        );
    }

    /// An agent begins to work for a person; its proposal is the first step.
    pub(crate) fn propose_for_somebody(&mut self, place: Place, owner: Place, proposal: Proposal) {
        let principal = self.rng.index(self.founding.people.len());
        let open = OpenSession {
            agent: proposal.agent.clone(),
            principal: self.founding.people[principal].id.clone(),
            role: "operator".into(),
            delegation: vec![],
            purpose: None,
        };
        let step = Box::new((owner, proposal));
        self.ask(place, Command::OpenSession(Box::new(open)), Asked::Session { step });
    }
}
