//! What clients ask nodes for, and what becomes of it: joining, proposing, entries of the council.

use cauldron_coordinator::action::Action;
use cauldron_coordinator::bodies::{Evidence, Order, Proposal, Restriction, RiskClass, Target};
use cauldron_identity::authority::{Enrol, Entry, EntryBody, KIND_ENTRY, Term};
use cauldron_identity::charter::Seat;
use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, FactId, SealedFact};
use cauldron_node_core::enrol::{EnrolRequest, TokenId, TokenProof};
use cauldron_node_core::{Command, Input, Refusal, Reply, Ticket};

use super::{HQ, Happening, World};
use crate::clock::EPOCH_MS;
use crate::facts::of_kind;
use crate::history::Ack;
use crate::invariants;
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;

/// How long a joining node waits for an answer before it asks again, milliseconds.
const JOIN_AGAIN_MS: Ms = 4_000;

/// What a ticket stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A token for a new node.
    Token {
        /// The new node.
        place: Place,
    },
    /// A new node's admission.
    Admission {
        /// The new node.
        place: Place,
    },
    /// A proposal on a resource of this place.
    Proposal {
        /// Who owns the resource.
        owner: Place,
    },
    /// An edit of a proposal on a resource of this place.
    Edit {
        /// Who owns the resource.
        owner: Place,
    },
    /// A saga of steps on resources of these places.
    Saga {
        /// Who owns each step's resource.
        owners: Vec<Place>,
    },
    /// A session; then comes its first step, on a resource of the place.
    Session {
        /// The step.
        step: Box<(Place, Proposal)>,
    },
    /// A deputy.
    Deputy,
    /// That an effect be taken back.
    Undo,
    /// A vote.
    Vote,
    /// A veto or kill.
    Restriction,
    /// An entry of the authority chain.
    Entry,
    /// A term of the council.
    Term,
    /// That the clock be believed.
    Clock,
    /// That hq sign with another root.
    Activation {
        /// Its key.
        key: Digest,
    },
    /// Rights for some purpose.
    Reservation {
        /// How much.
        amount: u64,
    },
    /// Something else about a budget.
    Rights,
    /// That a token be used.
    Glass,
    /// That a use of a token was looked at.
    Review,
    /// That a restriction be lifted at its site.
    SiteLift,
    /// Something whose answer nobody waits for.
    Other,
}

/// Something that an agent once wanted.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(super) owner: Place,
    pub(super) address: String,
    pub(super) window_ms: u64,
}

impl World {
    /// Asks a node for something. Returns the ticket; a node that is down never answers.
    pub fn ask(&mut self, place: Place, command: Command, asked: Asked) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.asked.insert(ticket, (place, asked));
        self.note(place, "command", &ticket.to_be_bytes(), || format!("{ticket}"));
        self.give(place, Input::Command { ticket, command: Box::new(command) }.into());
        ticket
    }

    pub(crate) fn replied(&mut self, place: Place, ticket: Ticket, result: Result<Reply, Refusal>) {
        self.note(place, "reply", &ticket.to_be_bytes(), || format!("{ticket}: {result:?}"));
        let Some((_, asked)) = self.asked.remove(&ticket) else { return };
        // A term is no fact; that it is durable when its answer leaves, its own record says.
        if asked == Asked::Term {
            let kept = self.machines[place].terms().len();
            if result.is_ok() && kept == 0 {
                self.break_off(invariants::Violation::new("ACK-DURABLE", "a term was acknowledged and is not on disk"));
            }
            return;
        }
        if let Ok(Reply::Recorded(fact) | Reply::Already(fact)) = &result {
            let ack = Ack { at: self.queue.now(), place, fact: *fact };
            if let Err(violation) = invariants::at_each_ack(self, &ack) {
                return self.break_off(violation);
            }
            self.history.acks.push(ack);
        }
        match (asked, result) {
            (Asked::Token { place }, Ok(Reply::Minted)) => self.machines[place].has_token = true,
            // Its connection broke before the answer: it asks again.
            (Asked::Admission { .. }, Ok(Reply::Admitted { .. })) if !self.calm && self.rng.percent(20) => {
                reached!(self, "join.reply_lost");
            }
            (Asked::Admission { place }, Ok(Reply::Admitted { .. })) => self.admitted(place),
            // hq lost what it had minted, in a crash before its commit.
            (Asked::Admission { place }, Err(why)) if why.code == "token_unknown" => {
                self.machines[place].has_token = false;
            }
            (Asked::Activation { key }, Ok(_)) => self.activated(key),
            (Asked::Activation { .. }, Err(why)) if why.code == "root_not_trusted_yet" => {
                reached!(self, "root.waited_for");
            }
            (Asked::Reservation { amount }, Ok(Reply::Recorded(fact))) => self.reserved.push((place, fact, amount)),
            (Asked::Reservation { .. } | Asked::Rights, Err(why)) => self.mark_refusal(&why),
            (Asked::Proposal { owner }, Ok(Reply::Recorded(fact))) => self.history.proposals.push((fact, owner)),
            (Asked::Edit { owner }, Ok(Reply::Recorded(fact))) => {
                reached!(self, "edit.written");
                self.history.proposals.push((fact, owner));
            }
            (Asked::Session { step }, Ok(Reply::Session(session))) => {
                reached!(self, "session.opened");
                let (owner, proposal) = *step;
                let step = Command::Step { session, proposal: Box::new(proposal), traceparent: None };
                self.ask(place, step, Asked::Proposal { owner });
            }
            (Asked::Saga { owners }, Ok(Reply::Saga(ids))) => self.saga_written(place, &owners, &ids),
            (Asked::Deputy, Ok(Reply::Recorded(_))) => reached!(self, "deputy.named"),
            (Asked::Undo, Ok(Reply::Recorded(_))) => reached!(self, "undo.asked"),
            (Asked::Glass, Ok(Reply::Recorded(used))) => self.glass_broken(place, used),
            (Asked::Glass, Err(_)) => reached!(self, "glass.refused"),
            (Asked::Review, Ok(Reply::Recorded(_))) => reached!(self, "glass.reviewed"),
            (Asked::SiteLift, Ok(Reply::Recorded(_))) => reached!(self, "alone.lift_signed"),
            _ => {}
        }
    }

    /// A new node redeems its token, again and again until it is in. Both commands may be lost with a process.
    pub(crate) fn join(&mut self, place: Place) {
        if self.machines[place].has_joined() {
            return;
        }
        self.queue.after(JOIN_AGAIN_MS, Happening::Join { place });
        if !self.machines[HQ].is_up() || !self.network.is_open(HQ, place) {
            return;
        }
        let m = &self.machines[place];
        let (key, spiffe_id, mesh) = (m.key(), m.spiffe_id.clone(), self.founding.mesh);
        let secret = sha256(&m.seed);
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(&secret)[..16]);
        let id = TokenId(id);
        let expires_ms = EPOCH_MS + 90 * 86_400_000;
        // A token is minted once: redeeming it again must bring the reply that was lost.
        if !m.has_token {
            let token = Command::Token { id, secret_hash: sha256(&secret), spiffe_id: spiffe_id.clone(), expires_ms };
            self.ask(HQ, token, Asked::Token { place });
        }
        let (csr, exporter) = (b"csr".to_vec(), self.rng.bytes());
        let proof = TokenProof::new(id, &secret, &key.public(), &csr, &exporter);
        let enrol = Enrol::new(&mesh, &key, &spiffe_id);
        let request = Box::new(EnrolRequest::new(mesh, Some(proof), enrol, csr, &key, &exporter));
        self.ask(HQ, Command::Admit { request, exporter }, Asked::Admission { place });
    }

    /// The join reply brings the authority chain as hq holds it on disk.
    fn admitted(&mut self, place: Place) {
        let hq = &self.machines[HQ];
        let mut entries: Vec<_> =
            hq.known.values().filter(|f| f.kind() == KIND_ENTRY && hq.durable.contains(&f.id)).collect();
        entries.sort_by_key(|f| f.header.seq);
        let chain: Vec<SealedFact> = entries.into_iter().map(|f| f.sealed.clone()).collect();
        if !self.machines[place].has_joined() {
            self.machines[place].bootstrap = Some(chain.into());
            if self.weather.rotate_ms.is_some() {
                self.given_roots(place);
            }
            let delay = self.rng.between(10, 500);
            self.queue.after(delay, Happening::Start { place });
        }
    }

    /// Some agent proposes something; often what another has proposed already.
    pub(crate) fn propose_something(&mut self) {
        let up: Vec<Place> = self.at_sites().filter(|p| self.machines[*p].is_up()).collect();
        let Some(place) = self.rng.pick(&up).copied() else { return };
        if self.proposes_a_saga() {
            return self.propose_steps(place);
        }
        let repeat = self.rng.percent(self.weather.agents.repeats);
        let intent = match repeat.then(|| self.earlier_intent(place)).flatten() {
            Some(intent) => {
                reached!(self, "intent.repeated");
                intent
            }
            None => self.new_intent(place),
        };
        if self.rng.percent(self.weather.agents.sessions) {
            let proposal = self.draft(place, &intent);
            return self.propose_for_somebody(place, intent.owner, proposal);
        }
        self.propose_intent(place, &intent);
    }

    fn earlier_intent(&mut self, place: Place) -> Option<Intent> {
        let site = self.machines[place].site.clone();
        let here: Vec<Intent> = self.intents.iter().filter(|i| self.machines[i.owner].site == site).cloned().collect();
        self.rng.pick(&here).cloned()
    }

    /// Now and then an agent proposes for its neighbour's list instead of its own.
    pub(super) fn new_intent(&mut self, place: Place) -> Intent {
        let site = &self.machines[place].site;
        let here: Vec<Place> = self.at_sites().filter(|p| self.machines[*p].site == *site).collect();
        let owner = if self.rng.percent(70) { place } else { self.rng.pick(&here).copied().unwrap_or(place) };
        let address = format!("198.51.100.{}", self.rng.between(1, 250));
        let intent = Intent { owner, address, window_ms: EPOCH_MS + self.queue.now() / 60_000 * 60_000 };
        self.intents.push(intent.clone());
        intent
    }

    pub(super) fn propose_intent(&mut self, place: Place, intent: &Intent) -> Ticket {
        let proposal = self.draft(place, intent);
        self.ask(
            place,
            Command::Propose { proposal: Box::new(proposal), traceparent: None },
            Asked::Proposal { owner: intent.owner },
        )
    }

    /// An agent of `place` proposes to block `address` there. Returns the ticket.
    pub fn propose_block(&mut self, place: Place, address: &str) -> Ticket {
        let intent = Intent { owner: place, address: address.to_owned(), window_ms: EPOCH_MS };
        self.propose_intent(place, &intent)
    }

    /// A proposal as the brute-force agent of `place` would make it.
    pub(super) fn draft(&mut self, place: Place, intent: &Intent) -> Proposal {
        let now = self.queue.now();
        let agents = self.weather.agents;
        // Of the class that its schema says (R1), or of a higher one.
        let classes = [RiskClass::R1, RiskClass::R1, RiskClass::R2, RiskClass::R2, RiskClass::R3];
        let risk = self.weather.alone.and_then(|_| self.rng.pick(&classes).copied());
        let risk = if agents.wide > 0 && self.rng.percent(agents.wide) { Some(RiskClass::R3) } else { risk };
        let (m, owner) = (&self.machines[place], &self.machines[intent.owner]);
        let site = m.site.clone().unwrap_or_default();
        let action =
            Action::block(&intent.address, u32::try_from(agents.ttl_s.max(1)).unwrap_or(u32::MAX), "brute force")
                .expect("agents of this world know how addresses look");
        let agent = format!("{}/agent/sshd-bruteforce", m.spiffe_id);
        let window = cauldron_coordinator::json::rfc3339(intent.window_ms);
        let text = format!("Failed password for root from {} port 22 ssh2 ({site} {now})", intent.address);
        let drafted = action.proposal(&site, &owner.name, &agent, &window);
        Proposal {
            risk: risk.unwrap_or(drafted.risk),
            agent_build: Digest::of("sim/build", b"1"),
            undo_plan: "remove the line".into(),
            confidence_ppm: 900_000,
            confidence_method: "counts".into(),
            rationale: "many failed logins from one source".into(),
            evidence: vec![Evidence {
                source: "auth.log".into(),
                line_no: now,
                digest: Digest::of("sim/line", text.as_bytes()),
                text,
                labels: vec!["untrusted:log".into()],
            }],
            taint: vec!["untrusted:log".into()],
            conflict_key: intent.address.clone(),
            expires_ms: m.clock.wall(now) + agents.open_ms,
            ..drafted
        }
    }

    /// hq restricts something on its own authority.
    pub fn restrict(&mut self, target: Target, reason: &str) -> Ticket {
        self.restrict_at(HQ, target, reason)
    }

    /// A coordinator restricts something on its own authority.
    pub(crate) fn restrict_at(&mut self, place: Place, target: Target, reason: &str) -> Ticket {
        let order = Order {
            mesh: self.founding.mesh,
            target,
            by: self.machines[place].name.clone(),
            reason: reason.to_owned(),
            issued_ms: self.machines[place].clock.wall(self.queue.now()),
        };
        self.ask(place, Command::Restrict(Box::new(Restriction::by_coordinator(&order))), Asked::Restriction)
    }

    /// A coordinator vetoes an open proposal; now and then it kills everything of one agent.
    pub(crate) fn veto_something(&mut self) {
        let Some(mean) = self.weather.people.veto_ms else { return };
        if self.calm || !self.machines[HQ].is_up() {
            return;
        }
        let next = self.rng.between(mean / 2, mean * 3 / 2);
        self.queue.after(next, Happening::Veto);
        let place = self.some_coordinator();
        let hq = &self.machines[place];
        let open: Vec<(FactId, String)> =
            of_kind::<Proposal>(&hq.known, "proposal").map(|(f, p)| (f.id, p.agent)).collect();
        let Some((id, agent)) = self.rng.pick(&open).cloned() else { return };
        let target = if self.rng.percent(85) { Target::Lineage(id) } else { Target::Agent(agent) };
        self.restrict_at(place, target, "a coordinator says no");
    }

    /// An entry that the council signs for hq's present head. hq may refuse it when the head has moved on.
    pub fn council_entry(&mut self, entry: &Entry) -> Ticket {
        let hq = &self.machines[HQ];
        let (prev, index) = hq.core.as_ref().map_or((None, 0), |c| (c.authority().head(), c.authority().index()));
        let mut body = EntryBody::new(prev, index + 1, entry);
        body.sign(&self.founding.mesh, &self.founding.council);
        self.ask(HQ, Command::Authority(Box::new(body)), Asked::Entry)
    }

    /// The council signs a term for hq in a new life, as `cauldron authority term` drafts it at hq, and hands it to `to`.
    ///
    /// # Panics
    /// When hq is down: a mistake in a story.
    pub fn council_term(&mut self, to: Place) -> Ticket {
        let hq = &self.machines[HQ];
        let core = hq.core.as_ref().expect("hq runs");
        let (_, ends) = core.ends_of(&hq.author).expect("hq is seated");
        let sequencer = Seat { author: hq.public, spiffe_id: hq.spiffe_id.to_string() };
        let authority = core.authority();
        let term = Term { n: authority.term() + 1, sequencer, ends: ends.clone(), root_keys: vec![] };
        let mut body = EntryBody::new(authority.head(), authority.index() + 1, &Entry::Term(term));
        body.sign(&self.founding.mesh, &self.founding.council);
        invariants::publish(self, &ends);
        self.history.terms.push(body.clone());
        self.ask(to, Command::Term(Box::new(body)), Asked::Term)
    }

    /// The council takes the last person's credentials away.
    pub(crate) fn revoke_somebody(&mut self) {
        if self.calm || !self.machines[HQ].is_up() {
            return;
        }
        let Some(person) = self.founding.people.last().map(|p| p.id.clone()) else { return };
        reached!(self, "person.revoked");
        self.council_entry(&Entry::RevokePerson(person));
    }
}
