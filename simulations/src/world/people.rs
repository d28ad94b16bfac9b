//! People: they look at some node's list, and approve, deny, change their minds, or cast votes that must not count.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{Decision, Outcome, Proposal, Started};
use cauldron_coordinator::vote::{Choice, SignedVote, VoteStatement, present_decision};
use cauldron_identity::{AuthorKey, Digest, FactId};
use cauldron_node_core::{Command, Ticket};

use super::{Asked, Happening, World};
use crate::facts::of_kind;
use crate::invariants;
use crate::network::Place;
use crate::reached;

/// How a vote is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// In no way.
    Right,
    /// It agrees to terms that nobody decided.
    OtherTerms,
    /// It has expired when it is cast.
    Expired,
    /// Cast a second time, with the person's other key.
    SecondKey,
}

impl World {
    /// A person looks at the list of a random node, and votes on one thing there.
    pub(crate) fn look(&mut self, person: usize) {
        if self.calm {
            return;
        }
        let mean = self.weather.people.look_ms;
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::Look { person });
        let up: Vec<Place> = (0..self.machines.len()).filter(|p| self.machines[*p].is_up()).collect();
        let here: Vec<Place> = up.iter().copied().filter(|p| self.is_alone(*p)).collect();
        let near = !here.is_empty() && self.rng.percent(70);
        let Some(place) = self.rng.pick(if near { &here } else { &up }).copied() else { return };
        let waiting = self.waiting_at(place, person);
        let Some(proposal) = self.rng.pick(&waiting).copied() else { return };
        self.ballots.insert((person, proposal));
        let weather = self.weather.people;
        if self.rng.percent(weather.edit) {
            self.edit(place, person, proposal);
            return;
        }
        let choice = if self.rng.percent(weather.deny) { Choice::Deny } else { Choice::Approve };
        // Where silence allows, who would approve mostly keeps it; who would not, objects as often as they deny.
        let choice = match (self.weather.silence_ms, choice) {
            (Some(_), Choice::Approve) if self.rng.percent(60) => return,
            (Some(_), _) if self.rng.percent(30) => Choice::Object,
            (_, choice) => choice,
        };
        let odd = if choice == Choice::Approve && self.rng.percent(weather.odd) {
            self.rng.pick(&[Odd::OtherTerms, Odd::Expired, Odd::SecondKey]).copied().unwrap_or(Odd::Right)
        } else {
            Odd::Right
        };
        self.vote(place, person, proposal, choice, odd);
        if choice == Choice::Approve && self.rng.percent(weather.withdraw) {
            let delay = self.rng.between(100, 8_000);
            self.queue.after(delay, Happening::Withdraw { person, proposal });
        }
    }

    /// Proposals that this node shows as waiting for people, on which this person has not voted.
    pub(super) fn waiting_at(&self, place: Place, person: usize) -> Vec<FactId> {
        let known = &self.machines[place].known;
        let started: BTreeSet<FactId> = of_kind::<Started>(known, "started").map(|(_, s)| s.proposal).collect();
        let asked = of_kind::<Decision>(known, "decision")
            .filter(|(_, d)| d.outcome == Outcome::StepUp || d.obligations.veto.is_some());
        let open = asked.map(|(_, d)| d.proposal).filter(|p| known.contains_key(p) && !started.contains(p));
        open.filter(|p| !self.ballots.contains(&(person, *p))).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A person votes at a node.
    pub fn vote(&mut self, place: Place, person: usize, proposal: FactId, choice: Choice, odd: Odd) -> Option<Ticket> {
        let keys = self.founding.people.get(person)?.keys.len();
        if odd == Odd::SecondKey {
            if keys < 2 {
                return self.cast(place, person, proposal, choice, Odd::Right, 0);
            }
            reached!(self, "vote.two_keys");
            self.cast(place, person, proposal, choice, Odd::Right, 0);
            return self.cast(place, person, proposal, choice, Odd::Right, 1);
        }
        self.cast(place, person, proposal, choice, odd, 0)
    }

    fn cast(
        &mut self,
        place: Place,
        person: usize,
        proposal: FactId,
        choice: Choice,
        odd: Odd,
        key: usize,
    ) -> Option<Ticket> {
        if odd != Odd::Right {
            reached!(self, "vote.odd");
        }
        let statement = self.statement(place, person, proposal, choice, odd, key)?;
        let signed = self.signed(person, key, &statement)?;
        self.note(place, "vote", signed.id().as_bytes(), || {
            format!("{} {:?} on {} {odd:?}", statement.person, statement.choice, proposal.short())
        });
        Some(self.ask(place, Command::Vote(Box::new(signed)), Asked::Vote))
    }

    /// Signs with one of a person's keys.
    #[must_use]
    pub fn signed(&self, person: usize, key: usize, statement: &VoteStatement) -> Option<SignedVote> {
        let key: &AuthorKey = self.founding.people.get(person)?.keys.get(key)?;
        Some(statement.sign(key))
    }

    /// What a person signs when a node shows them a proposal under the decision it holds.
    pub fn statement(
        &mut self,
        place: Place,
        person: usize,
        proposal: FactId,
        choice: Choice,
        odd: Odd,
        key: usize,
    ) -> Option<VoteStatement> {
        let now = self.queue.now();
        let nonce = Digest::from_bytes(self.rng.bytes());
        let m = &self.machines[place];
        let (_, decision) = of_kind::<Decision>(&m.known, "decision").find(|(_, d)| d.proposal == proposal)?;
        let body: Proposal = m.known.get(&proposal)?.body()?;
        let voter = self.founding.people.get(person)?.person();
        // As the page of a running node names it, or what the disk of one that is down says.
        let head = match &m.core {
            Some(core) => core.authority().head(),
            None => invariants::fold(self, &m.terms(), m.known.values())?.0.head(),
        };
        let wall_ms = m.clock.wall(now);
        Some(VoteStatement {
            mesh: self.founding.mesh,
            credential: voter.credentials.get(key)?.id(),
            person: voter.id,
            lineage: body.lineage(proposal),
            proposal,
            terms: if odd == Odd::OtherTerms { nonce } else { decision.terms() },
            presentation: present_decision(&body, &decision).digest(),
            served_by: m.author,
            authority_head: head,
            choice,
            reason: "looked at it".into(),
            dwell_ms: 4_000,
            issued_ms: wall_ms,
            expires_ms: if odd == Odd::Expired { wall_ms.saturating_sub(1) } else { wall_ms + 3_600_000 },
            nonce,
        })
    }

    pub(crate) fn withdraw(&mut self, person: usize, proposal: FactId) {
        let up: Vec<Place> = (0..self.machines.len())
            .filter(|p| self.machines[*p].is_up() && self.machines[*p].known.contains_key(&proposal))
            .collect();
        if self.calm {
            return;
        }
        let Some(place) = self.rng.pick(&up).copied() else { return };
        self.vote(place, person, proposal, Choice::Withdraw, Odd::Right);
    }
}
