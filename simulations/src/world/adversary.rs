//! Adversaries of this world: a stranger at the door, and hq's own key in the wrong hands.

use cauldron_coordinator::bodies::{
    Decision, GroupNeed, KIND_DECISION, KIND_PERMIT, KIND_PROPOSAL, KIND_VOTE, Obligations, Outcome, Permit, Proposal,
};
use cauldron_coordinator::ledger::PERMIT_MS_MAX;
use cauldron_coordinator::vote::{Choice, SignedVote};
use cauldron_crdt::log::Record as LogRecord;
use cauldron_identity::authority::{Enrol, Entry, EntryBody, KIND_ENTRY};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{AuthorKey, Digest, Fact, FactId, HeaderDraft, Scope};
use cauldron_node_core::{Input, Record};

use super::machine::{Arriving, Machine};
use super::people::Odd;
use super::process::Death;
use super::{HQ, World};
use crate::facts::{Known, of_kind};
use crate::network::Place;
use crate::reached;

/// What a compromised hq writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// A permit on a real decision, with no votes.
    NoVotes,
    /// A decision that policy allows it, and a permit on that.
    Allow,
    /// A permit with votes for other terms.
    OtherTerms,
    /// A permit in which two keys of one person fill two seats.
    TwoKeys,
    /// A second permit for what was permitted before, with the same votes.
    Again,
}

const FORGERIES: [Forgery; 5] =
    [Forgery::NoVotes, Forgery::Allow, Forgery::OtherTerms, Forgery::TwoKeys, Forgery::Again];

impl World {
    /// A link from somebody whose key is not enrolled under that name. It repeats what it overheard, and garbage.
    pub(crate) fn stranger(&mut self, place: Place) {
        if !self.machines[place].is_up() {
            return;
        }
        let link = self.network.strange_link();
        self.strange_links.insert(link);
        let (spiffe_id, author) = self.disguise();
        reached!(self, "stranger.spoke");
        self.note(place, "stranger", &link.to_be_bytes(), || format!("{spiffe_id} on {link}"));
        let strange = |input| Arriving { input, knows_hq_at: 0, stranger: true };
        self.give(place, strange(Input::LinkUp { link, spiffe_id, author }));
        for _ in 0..self.rng.between(1, 5) {
            let pool: Vec<Vec<u8>> = self.overheard.iter().cloned().collect();
            let mut bytes = self.rng.pick(&pool).cloned().unwrap_or_default();
            if self.rng.percent(40) {
                self.mutate(&mut bytes);
            }
            self.give(place, strange(Input::Frame { link, bytes }));
        }
        self.give(place, strange(Input::LinkDown { link }));
    }

    /// A true name with a foreign key, an enrolled key under another's name, or nobody at all.
    fn disguise(&mut self) -> (cauldron_identity::SpiffeId, cauldron_identity::PublicKey) {
        let fresh = AuthorKey::from_seed(&self.rng.bytes()).public();
        let (a, b) = (self.rng.index(self.machines.len()), self.rng.index(self.machines.len()));
        match self.rng.below(3) {
            0 => (self.machines[a].spiffe_id.clone(), fresh),
            1 if a != b => (self.machines[a].spiffe_id.clone(), self.machines[b].public),
            _ => {
                let id = cauldron_identity::SpiffeId::new("spiffe://sim.cauldron.internal/site/lyon/node/ghost");
                (id.expect("a valid SPIFFE ID"), fresh)
            }
        }
    }

    /// Somebody with hq's key and disk writes a permit that nobody voted for, while hq is down.
    pub(crate) fn forge(&mut self) {
        let candidates = self.forgeable();
        let Some((proposal, scope)) = self.rng.pick(&candidates).cloned() else { return };
        let forgery = self.rng.pick(&FORGERIES).copied().unwrap_or(Forgery::NoVotes);
        self.forge_permit(proposal, &scope, forgery);
    }

    fn forgeable(&self) -> Vec<(FactId, Scope)> {
        let hq = &self.machines[HQ];
        let durable = |f: &&std::sync::Arc<Known>| hq.durable.contains(&f.id) && f.kind() == KIND_PROPOSAL;
        hq.known.values().filter(durable).map(|f| (f.id, f.header.scope.clone())).collect()
    }

    /// Forges one permit. Returns its id, unless what the forgery needs is not there.
    pub fn forge_permit(&mut self, proposal: FactId, scope: &Scope, forgery: Forgery) -> Option<FactId> {
        self.die(HQ, Death::Kill);
        self.machines[HQ].recall();
        let wall_ms = self.machines[HQ].clock.wall(self.queue.now());
        let body: Proposal = self.machines[HQ].known.get(&proposal)?.body()?;
        let (decision_id, decision) = self.decision_on(proposal)?;
        let (decision_id, decision) = match forgery {
            Forgery::Allow => {
                let allow =
                    Decision { outcome: Outcome::Allow, obligations: Obligations::none(wall_ms + 600_000), ..decision };
                let id = self.inject(HQ, scope, KIND_DECISION, vec![proposal], to_cbor(&allow))?;
                (id, allow)
            }
            _ => (decision_id, decision),
        };
        let votes = self.votes_for(forgery, proposal, scope, &decision)?;
        let permit = self.permit(proposal, &body, decision_id, &decision, votes, wall_ms)?;
        let id = self.inject(HQ, scope, KIND_PERMIT, vec![proposal, decision_id], to_cbor(&permit))?;
        reached!(self, "permit.forged");
        self.note(HQ, "FORGED", id.as_bytes(), || format!("{forgery:?} {} on {}", id.short(), proposal.short()));
        Some(id)
    }

    fn decision_on(&self, proposal: FactId) -> Option<(FactId, Decision)> {
        let known = &self.machines[HQ].known;
        of_kind::<Decision>(known, KIND_DECISION).find(|(_, d)| d.proposal == proposal).map(|(f, d)| (f.id, d))
    }

    fn votes_for(
        &mut self,
        forgery: Forgery,
        proposal: FactId,
        scope: &Scope,
        decision: &Decision,
    ) -> Option<Vec<Digest>> {
        let mut votes = match forgery {
            Forgery::NoVotes | Forgery::Allow => vec![],
            Forgery::Again => {
                let known = &self.machines[HQ].known;
                let earlier = of_kind::<Permit>(known, KIND_PERMIT).find(|(_, p)| p.proposal == proposal)?;
                earlier.1.votes
            }
            Forgery::OtherTerms => {
                let seats: u32 = decision.obligations.approvals.iter().map(|n: &GroupNeed| n.n).sum();
                let people = (0..self.founding.people.len().min(seats as usize)).collect::<Vec<_>>();
                people.into_iter().filter_map(|p| self.stolen_vote(p, 0, proposal, scope, Odd::OtherTerms)).collect()
            }
            // The second person of every world is on duty and has two keys.
            Forgery::TwoKeys => {
                (0..2).filter_map(|key| self.stolen_vote(1, key, proposal, scope, Odd::Right)).collect()
            }
        };
        votes.sort();
        Some(votes)
    }

    /// A vote that a person really signed, carried by hq's own chain.
    fn stolen_vote(&mut self, person: usize, key: usize, proposal: FactId, scope: &Scope, odd: Odd) -> Option<Digest> {
        let statement = self.statement(HQ, person, proposal, Choice::Approve, odd, key)?;
        let signed: SignedVote = self.signed(person, key, &statement)?;
        self.inject(HQ, scope, KIND_VOTE, vec![proposal], to_cbor(&signed))?;
        Some(signed.id())
    }

    fn permit(
        &self,
        proposal: FactId,
        body: &Proposal,
        decision_id: FactId,
        decision: &Decision,
        votes: Vec<Digest>,
        wall_ms: u64,
    ) -> Option<Permit> {
        let owner = body.resource.split('/').nth(1)?;
        let owner = self.machines.iter().find(|m| m.name == owner)?;
        Some(Permit {
            proposal,
            lineage: body.lineage(proposal),
            decision: decision_id,
            votes,
            owner: owner.author,
            incarnation: self.incarnation_of(owner),
            resource: body.resource.clone(),
            expected_version: body.expected_version.clone(),
            args_digest: body.args_digest,
            max_uses: 1,
            issued_ms: wall_ms,
            execute_by_ms: wall_ms + PERMIT_MS_MAX,
            authority_head: decision.authority_head,
            policy: decision.policy.clone(),
            terms: decision.terms(),
        })
    }

    /// The incarnation of a machine's author, as hq's disk has it.
    #[must_use]
    pub fn incarnation_of(&self, machine: &Machine) -> u32 {
        let entries = of_kind::<EntryBody>(&self.machines[HQ].known, KIND_ENTRY);
        let begun = entries.filter_map(|(_, body)| match from_cbor::<Entry>(body.entry_bytes()) {
            Ok(Entry::Incarnate(i)) if i.author == machine.author => Some(i.incarnation),
            Ok(Entry::Enrol(Enrol { .. })) => None,
            _ => None,
        });
        begun.max().unwrap_or(0)
    }

    /// Appends a fact to a machine's own chain, on its disk, with its key, while no process runs there.
    pub fn inject(
        &mut self,
        place: Place,
        scope: &Scope,
        kind: &str,
        deps: Vec<FactId>,
        body: Vec<u8>,
    ) -> Option<FactId> {
        let mesh = self.founding.mesh;
        let wall_ms = self.machines[place].clock.wall(self.queue.now());
        let m = &mut self.machines[place];
        let own = |f: &&std::sync::Arc<Known>| f.header.author == m.author && f.header.scope == *scope;
        let last = m.known.values().filter(own).max_by_key(|f| (f.header.incarnation, f.header.seq));
        let (incarnation, seq, prev) =
            last.map_or((0, 1, None), |f| (f.header.incarnation, f.header.seq + 1, Some(f.id)));
        let draft = HeaderDraft {
            mesh,
            scope: scope.clone(),
            incarnation,
            seq,
            prev,
            hlc: (wall_ms << 16) + seq,
            kind: kind.to_owned(),
            deps,
            traceparent: None,
        };
        let fact = Fact::seal(&m.key(), draft, body);
        let stored = LogRecord::Fact(fact.sealed().clone());
        let record = Record { key: stored.key().ok()?, value: Some(stored.value()) };
        m.disk.write(&record);
        m.recall();
        let known = Known::of_sealed(fact.sealed().clone())?;
        self.history.durable(&known);
        self.history.fact(known);
        self.history.forged.insert(fact.id());
        Some(fact.id())
    }
}
