//! Adversaries of this world: a stranger at the door, and hq's own key in the wrong hands.

use std::collections::BTreeMap;

use cauldron_coordinator::action::Catalogue;
use cauldron_coordinator::bodies::{
    Decision, KIND_DECISION, KIND_PERMIT, KIND_PROPOSAL, KIND_VOTE, KIND_WINDOW, Obligations, Outcome, Permit,
    Proposal, WindowClosed,
};
use cauldron_coordinator::coordinate::permit_for;
use cauldron_coordinator::ledger::PERMIT_MS_MAX;
use cauldron_coordinator::vote::{Choice, SignedVote};
use cauldron_crdt::log::Record as LogRecord;
use cauldron_identity::authority::{ChainEnd, Credential, Enrol, Entry, EntryBody, KIND_ENTRY, Person, Term};
use cauldron_identity::charter::Seat;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{AuthorKey, Digest, Fact, FactId, HeaderDraft, PublicKey, Scope, SpiffeId};
use cauldron_node_core::{Command, Input, Record};

use super::machine::{Arriving, Machine};
use super::people::Odd;
use super::process::Death;
use super::{Asked, HQ, Happening, World};
use crate::facts::{Known, of_kind};
use crate::founding::{DUTY, TRUST_DOMAIN};
use crate::invariants;
use crate::network::Place;
use crate::reached;

/// The kind of link frame that carries a term (`docs/wire.md`).
const TERM_FRAME: u8 = 6;

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
    /// A permit by votes of people whom hq enrolled without the council.
    Invented,
    /// Where silence allows: the word that it was kept, before it was.
    Hasty,
}

const FORGERIES: [Forgery; 7] = [
    Forgery::NoVotes,
    Forgery::Allow,
    Forgery::OtherTerms,
    Forgery::TwoKeys,
    Forgery::Again,
    Forgery::Invented,
    Forgery::Hasty,
];

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
        let strange = |input| Arriving { input, fresh_at: 0, stranger: true };
        self.give(place, strange(Input::LinkUp { link, spiffe_id, author }));
        for _ in 0..self.rng.between(1, 5) {
            let pool: Vec<Vec<u8>> = self.overheard.iter().cloned().collect();
            let mut bytes = self.rng.pick(&pool).cloned().unwrap_or_default();
            if self.rng.percent(40) {
                self.mutate(&mut bytes);
            }
            self.give(place, strange(Input::Frame { link, bytes }));
        }
        if self.rng.percent(30)
            && let Some(bytes) = self.unsigned_term(place, author)
        {
            self.give(place, strange(Input::Frame { link, bytes }));
        }
        self.give(place, strange(Input::LinkDown { link }));
    }

    /// A true name with a foreign key, an enrolled key under another's name, or nobody at all.
    fn disguise(&mut self) -> (cauldron_identity::SpiffeId, cauldron_identity::PublicKey) {
        let fresh = AuthorKey::from_seed(&self.rng.bytes()).public();
        let (a, b) = (self.rng.index(self.machines.len()), self.rng.index(self.machines.len()));
        if let Some(impostor) = self.history.impostors.last().filter(|_| a % 2 == 0) {
            return impostor.clone();
        }
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
        if self.rng.percent(25) {
            return self.impersonate();
        }
        if self.weather.budget_ms.is_some() && self.rng.percent(50) {
            return self.forge_rights();
        }
        let by = self.some_coordinator();
        // The strongest of them, for it passes all that does not ask who enrolled whom. Only who writes entries can.
        let invent = self.rng.percent(40) && by == HQ;
        let hasty = self.weather.silence_ms.is_some() && self.rng.percent(40);
        let forgery = match (hasty, invent) {
            (true, _) => Some(Forgery::Hasty),
            (false, true) => Some(Forgery::Invented),
            (false, false) => self.rng.pick(&FORGERIES).copied(),
        };
        let forgery = forgery.filter(|f| by == HQ || *f != Forgery::Invented).unwrap_or(Forgery::NoVotes);
        let candidates = self.forgeable(by, forgery);
        let Some((proposal, scope)) = self.rng.pick(&candidates).cloned() else { return };
        self.forge_permit(by, proposal, &scope, forgery);
    }

    /// Proposals that a coordinator knows; for all but a repetition, those that are still open as far as it knows.
    fn forgeable(&self, by: Place, forgery: Forgery) -> Vec<(FactId, Scope)> {
        let hq = &self.machines[by];
        let durable = |f: &&std::sync::Arc<Known>| hq.durable.contains(&f.id) && f.kind() == KIND_PROPOSAL;
        let open = |f: &&std::sync::Arc<Known>| {
            forgery == Forgery::Again
                || self.state_at(&hq.name, f.id).is_none_or(cauldron_coordinator::ledger::State::is_open)
        };
        hq.known.values().filter(durable).filter(open).map(|f| (f.id, f.header.scope.clone())).collect()
    }

    /// Forges one permit with a coordinator's key. Returns its id, unless what the forgery needs is not there.
    pub fn forge_permit(&mut self, by: Place, proposal: FactId, scope: &Scope, forgery: Forgery) -> Option<FactId> {
        self.die(by, Death::Kill);
        self.machines[by].recall();
        let wall_ms = self.machines[by].clock.wall(self.queue.now());
        let body: Proposal = self.machines[by].known.get(&proposal)?.body()?;
        let (decision_id, decision) = self.decision_on(by, proposal)?;
        let (decision_id, decision) = match forgery {
            Forgery::Allow => {
                let allow =
                    Decision { outcome: Outcome::Allow, obligations: Obligations::none(wall_ms + 600_000), ..decision };
                let id = self.inject(by, scope, KIND_DECISION, vec![proposal], to_cbor(&allow))?;
                (id, allow)
            }
            _ => (decision_id, decision),
        };
        let votes = self.votes_for(by, forgery, proposal, scope, &decision)?;
        let mut permit = self.permit(proposal, &body, decision_id, &decision, votes, wall_ms)?;
        if forgery == Forgery::Hasty {
            permit.window = Some(self.closed_early(by, scope, decision_id, &decision)?);
        }
        let id = self.inject(by, scope, KIND_PERMIT, vec![proposal, decision_id], to_cbor(&permit))?;
        reached!(self, "permit.forged");
        self.note(by, "FORGED", id.as_bytes(), || format!("{forgery:?} {} on {}", id.short(), proposal.short()));
        Some(id)
    }

    /// The word of a coordinator that nobody objected in time, dated when it should have waited for.
    fn closed_early(&mut self, by: Place, scope: &Scope, id: FactId, decision: &Decision) -> Option<FactId> {
        let window = decision.obligations.veto.as_ref()?;
        let body = WindowClosed {
            proposal: decision.proposal,
            decision: id,
            authority_head: decision.authority_head,
            votes: vec![],
            closed_ms: decision.decided_ms + window.ms,
        };
        reached!(self, "silence.closed_early");
        self.inject(by, scope, KIND_WINDOW, vec![decision.proposal, id], to_cbor(&body))
    }

    fn decision_on(&self, by: Place, proposal: FactId) -> Option<(FactId, Decision)> {
        let known = &self.machines[by].known;
        of_kind::<Decision>(known, KIND_DECISION).find(|(_, d)| d.proposal == proposal).map(|(f, d)| (f.id, d))
    }

    fn votes_for(
        &mut self,
        by: Place,
        forgery: Forgery,
        proposal: FactId,
        scope: &Scope,
        decision: &Decision,
    ) -> Option<Vec<Digest>> {
        let mut votes = match forgery {
            Forgery::NoVotes | Forgery::Allow | Forgery::Hasty => vec![],
            Forgery::Again => {
                let known = &self.machines[by].known;
                let earlier = of_kind::<Permit>(known, KIND_PERMIT).find(|(_, p)| p.proposal == proposal)?;
                earlier.1.votes
            }
            Forgery::OtherTerms => {
                let seats: u32 = decision.obligations.seats_min();
                let people = (0..self.founding.people.len().min(seats as usize)).collect::<Vec<_>>();
                people
                    .into_iter()
                    .filter_map(|p| self.stolen_vote(by, p, 0, proposal, scope, Odd::OtherTerms))
                    .collect()
            }
            Forgery::Invented => {
                let seats: u32 = decision.obligations.seats_min();
                reached!(self, "forge.invented_person");
                (0..seats as usize).filter_map(|n| self.invented_vote(n, proposal, scope)).collect()
            }
            // The second person of every world is on duty and has two keys.
            Forgery::TwoKeys => {
                (0..2).filter_map(|key| self.stolen_vote(by, 1, key, proposal, scope, Odd::Right)).collect()
            }
        };
        votes.sort();
        Some(votes)
    }

    /// A vote that a person really signed, carried by a coordinator's own chain.
    fn stolen_vote(
        &mut self,
        by: Place,
        person: usize,
        key: usize,
        proposal: FactId,
        scope: &Scope,
        odd: Odd,
    ) -> Option<Digest> {
        let statement = self.statement(by, person, proposal, Choice::Approve, odd, key)?;
        let signed: SignedVote = self.signed(person, key, &statement)?;
        self.inject(by, scope, KIND_VOTE, vec![proposal], to_cbor(&signed))?;
        Some(signed.id())
    }

    /// An entry in hq's own hand, without anybody's word but hq's.
    fn write_alone(&mut self, entry: &Entry) -> Option<FactId> {
        let scope = Scope::authority();
        let m = &self.machines[HQ];
        let last =
            m.known.values().filter(|f| f.header.scope == scope).max_by_key(|f| (f.header.incarnation, f.header.seq));
        let (prev, index) = last.and_then(|f| Some((f.id, f.body::<EntryBody>()?.index)))?;
        let body = EntryBody::new(Some(prev), index + 1, entry);
        self.inject(HQ, &scope, KIND_ENTRY, vec![], to_cbor(&body))
    }

    /// A vote by a person whom nobody but hq knows. hq is patient: whom it has invented it uses again, for the entry may be in
    /// effect by then.
    fn invented_vote(&mut self, n: usize, proposal: FactId, scope: &Scope) -> Option<Digest> {
        if self.history.invented.len() <= n {
            let seed = self.rng.bytes();
            let id = format!("nobody-{n}-{}", self.rng.below(1_000_000));
            let credentials = vec![Credential::of(AuthorKey::from_seed(&seed).public().into())];
            let groups = vec![DUTY.to_owned()];
            let person = Person { id: id.clone(), name: id.clone(), groups, credentials };
            let entry = self.write_alone(&Entry::Person(person))?;
            self.history.invented.push((id, seed, entry));
        }
        let (id, seed, entry) = self.history.invented[n].clone();
        let key = AuthorKey::from_seed(&seed);
        let mut statement = self.statement(HQ, 0, proposal, Choice::Approve, Odd::Right, 0)?;
        (statement.person, statement.credential) = (id, Credential::of(key.public().into()).id());
        statement.authority_head = Some(entry);
        let signed = statement.sign(&key);
        self.inject(HQ, scope, KIND_VOTE, vec![proposal], to_cbor(&signed))?;
        Some(signed.id())
    }

    /// hq enrols a key of its own under the name of a node that has an author.
    pub(crate) fn impersonate(&mut self) {
        let victim = self.rng.between(1, self.machines.len() as u64 - 1) as usize;
        self.die(HQ, Death::Kill);
        self.machines[HQ].recall();
        let key = AuthorKey::from_seed(&self.rng.bytes());
        let name = self.machines[victim].spiffe_id.clone();
        if self.machines[victim].has_joined()
            && self.write_alone(&Entry::Enrol(Enrol::new(&self.founding.mesh, &key, &name))).is_some()
        {
            reached!(self, "forge.impostor");
            self.history.impostors.push((name, key.public()));
        }
    }

    /// hq signs two entries for one place: one stands on its own disk, the other it has shown to one node alone.
    pub fn lie(&mut self) {
        let scope = Scope::authority();
        let hq = &self.machines[HQ];
        let newest = hq.known.values().filter(|f| f.header.scope == scope).max_by_key(|f| f.header.seq);
        let Some(base) = newest.filter(|f| f.header.incarnation == 0).cloned() else { return };
        let told: Vec<Place> =
            (1..self.machines.len()).filter(|p| self.machines[*p].durable.contains(&base.id)).collect();
        // A node that the branch had enrolled would have to join again: another story.
        if self.history.lie.is_some()
            || !self.machines.iter().all(Machine::has_joined)
            || !hq.durable.contains(&base.id)
        {
            return;
        }
        let Some(victim) = self.rng.pick(&told).copied() else { return };
        let Some(index) = base.body::<EntryBody>().map(|body| body.index + 1) else { return };
        let key = self.machines[HQ].key();
        for (place, name) in [(HQ, "ghost-a"), (victim, "ghost-b")] {
            self.die(place, Death::Kill);
            let ghost = AuthorKey::from_seed(&self.rng.bytes());
            let id =
                SpiffeId::new(format!("spiffe://{TRUST_DOMAIN}/site/lyon/node/{name}")).expect("a valid SPIFFE ID");
            let entry = Entry::Enrol(Enrol::new(&self.founding.mesh, &ghost, &id));
            let draft = HeaderDraft {
                mesh: self.founding.mesh,
                scope: scope.clone(),
                incarnation: 0,
                seq: base.header.seq + 1,
                prev: Some(base.id),
                hlc: base.header.hlc + 1,
                kind: KIND_ENTRY.to_owned(),
                deps: vec![],
                traceparent: None,
            };
            let fact = Fact::seal(&key, draft, to_cbor(&EntryBody::new(Some(base.id), index, &entry)));
            self.plant(place, &fact);
        }
        reached!(self, "fork.shown");
        self.note(HQ, "LIES", base.id.as_bytes(), || format!("to place {victim} behind {}", base.id.short()));
        self.history.lie = Some((Some(base.id), index - 1, self.queue.now()));
        let (least, most) = self.weather.term_ms;
        let delay = self.rng.between(least, most);
        self.queue.after(delay, Happening::Term);
    }

    /// A fact of an adversary on a disk whose machine is down.
    fn plant(&mut self, place: Place, fact: &Fact) {
        let stored = LogRecord::Fact(fact.sealed().clone());
        let Ok(key) = stored.key() else { return };
        let m = &mut self.machines[place];
        // What a crash left half done at this place of the chain would be a third branch.
        m.disk.slip_in(&Record { key, value: Some(stored.value()) });
        m.recall();
        if let Some(known) = Known::of_sealed(fact.sealed().clone()) {
            self.history.durable(&known);
            self.history.fact(known);
        }
        self.history.forged.insert(fact.id());
        self.history.blind.insert(fact.id());
    }

    /// The council has seen the proof: hq, taken back, begins a new term behind the last entry that everybody holds. The file
    /// goes to whichever node is at hand.
    pub fn name_a_term(&mut self) {
        let Some((base, index, _)) = self.history.lie else { return };
        // Nobody listens to an author that was cut: what it alone keeps reaches nobody.
        let is_heard = |m: &Machine| !self.history.cuts.contains_key(&m.author);
        if self.machines.iter().any(|m| is_heard(m) && !m.terms().is_empty()) {
            return;
        }
        self.queue.after(5_000, Happening::Term);
        if self.history.terms.is_empty() {
            let hq = &self.machines[HQ];
            let mut ends: BTreeMap<Scope, ChainEnd> = BTreeMap::new();
            for f in hq.known.values().filter(|f| f.header.author == hq.author && f.header.scope != Scope::authority())
            {
                let end = ChainEnd { scope: f.header.scope.clone(), seq: f.header.seq, id: Some(f.id) };
                let known = ends.entry(f.header.scope.clone()).or_insert_with(|| end.clone());
                if known.seq < end.seq {
                    *known = end;
                }
            }
            let sequencer = Seat { author: hq.public, spiffe_id: hq.spiffe_id.to_string() };
            let ends: Vec<ChainEnd> = ends.into_values().collect();
            invariants::publish(self, &ends);
            let term = Term { n: 1, sequencer, ends, root_keys: vec![] };
            let mut body = EntryBody::new(base, index + 1, &Entry::Term(term));
            body.sign(&self.founding.mesh, &self.founding.council);
            self.history.terms.push(body);
        }
        let heard = |p: &Place| {
            let m = &self.machines[*p];
            m.is_up() && !self.history.cuts.contains_key(&m.author)
        };
        let up: Vec<Place> = (0..self.machines.len()).filter(heard).collect();
        if let (Some(place), Some(body)) = (self.rng.pick(&up).copied(), self.history.terms.first().cloned()) {
            reached!(self, "term.named");
            self.ask(place, Command::Term(Box::new(body)), Asked::Term);
        }
    }

    /// A term that nobody signed, as a link frame: it names whoever sends it.
    fn unsigned_term(&mut self, place: Place, author: PublicKey) -> Option<Vec<u8>> {
        let authority = self.machines[place].core.as_ref()?.authority();
        let sequencer = Seat { author, spiffe_id: format!("spiffe://{TRUST_DOMAIN}/coordinator/evil") };
        let term = Term { n: authority.term() + 1, sequencer, ends: vec![], root_keys: vec![] };
        let body = EntryBody::new(authority.head(), authority.index() + 1, &Entry::Term(term));
        reached!(self, "term.frame_from_stranger");
        Some([&[TERM_FRAME], to_cbor(&body).as_slice()].concat())
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
            votes,
            issued_ms: wall_ms,
            execute_by_ms: wall_ms + PERMIT_MS_MAX,
            authority_head: decision.authority_head,
            ..permit_for(
                (proposal, body),
                (decision_id, decision),
                (owner.author, self.incarnation_of(owner)),
                Catalogue::built_in(),
            )
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
        m.disk.slip_in(&record);
        m.recall();
        let known = Known::of_sealed(fact.sealed().clone())?;
        self.history.durable(&known);
        self.history.fact(known);
        self.history.forged.insert(fact.id());
        Some(fact.id())
    }
}
