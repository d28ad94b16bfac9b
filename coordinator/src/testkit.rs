//! A founded mesh for unit tests: hq coordinates, lyon owns and proposes, porto is elsewhere; ana, bo and cy vote.

mod said;

use std::collections::BTreeMap;

use cauldron_identity::authority::{
    Activate, Amend, Authority, Credential, Cut, Enrol, Entry, EntryBody, Held, Incarnate, KIND_ENTRY, KIND_HELD,
    Person,
};
use cauldron_identity::charter::{Charter, ClassAges, Seat};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::passkey::authenticator::Authenticator;
use cauldron_identity::{
    AuthorId, AuthorKey, Clock, Confidence, Digest, Fact, FactId, HeaderDraft, Scope, SignedCharter, SpiffeId,
};

use crate::action::Action;
use crate::bodies::*;
use crate::coordinate::{Act, Limits, Sitting, step};
use crate::lease::LeaseAge;
use crate::ledger::{Inserted, Ledger, State, Status};
use crate::owner::{Bench, Hands, Me, Verdict, judge};
use crate::policy::{Bundle, Engine};
use crate::vote::{Choice, VoteStatement, present_decision};

/// Where the approval pages stand, under the relying party id `localhost`.
pub const PAGE: &str = "http://localhost:7480";
pub const NOW: u64 = 1_795_341_600_000;

pub fn key(n: u8) -> AuthorKey {
    AuthorKey::from_seed(&[n; 32])
}

pub fn spiffe(path: &str) -> SpiffeId {
    SpiffeId::new(format!("spiffe://acme.test{path}")).expect("valid id")
}

/// A sound proposal of lyon's agent to block `address` for an hour.
pub fn proposal(address: &str) -> Proposal {
    let action = Action::block(address, 3600, "brute force").expect("valid");
    let agent = spiffe("/site/lyon/node/lyon/agent/sshd-bruteforce").to_string();
    Proposal {
        agent_build: Digest::of("build", b"1"),
        undo_plan: "remove the line".into(),
        confidence_ppm: 900_000,
        confidence_method: "test".into(),
        rationale: "9 failed logins in 10 minutes".into(),
        evidence: vec![Evidence {
            source: "auth.log".into(),
            line_no: 7,
            digest: Digest::of("line", b"7"),
            text: "Failed password for root".into(),
            labels: vec!["untrusted:log".into()],
        }],
        taint: vec!["untrusted:log".into()],
        created_ms: NOW,
        expires_ms: NOW + 12 * 3_600_000,
        ..action.proposal("lyon", "lyon", &agent, &crate::json::rfc3339(NOW - 600_000))
    }
}

/// The planted bug that `cargo xtask planted` names, where it does.
#[cfg(test)]
fn wake() {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
        assert!(crate::planted::activate_everywhere(&name), "no bug is called {name}");
    }
}

pub struct World {
    pub council: AuthorKey,
    pub hq: AuthorKey,
    pub lyon: AuthorKey,
    pub porto: AuthorKey,
    pub authority: Authority,
    pub ledger: Ledger,
    pub engine: Engine,
    pub clock: Clock,
    pub lease: LeaseAge,
    pub resource_version: Option<String>,
    pub hands: Hands,
    pub budgets: Vec<crate::budget::BudgetSeen>,
    pub incarnation: u32,
    /// Every governance fact written, in order.
    pub facts: Vec<Fact>,
    chains: BTreeMap<(AuthorId, u32, Scope), (u64, FactId)>,
}

impl World {
    pub fn new() -> Self {
        Self::with_bundle(&Bundle::default_bundle(), 1)
    }

    pub fn with_policy(rego: &str) -> Self {
        Self::with_bundle(&Self::bundle(rego), 1)
    }

    pub fn with_coordinators(n: u8) -> Self {
        Self::with_bundle(&Bundle::default_bundle(), n)
    }

    pub fn bundle(rego: &str) -> Bundle {
        let manifest =
            r#"{"version":"t","classes":{"security.address.block/blocklist":{"risk":"R1","files":["t.rego"]}}}"#;
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        Bundle::new([file("manifest.json", manifest), file("t.rego", rego)].into()).expect("valid bundle")
    }

    pub fn engine_with(rego: &str) -> Engine {
        Engine::new(&Self::bundle(rego)).expect("compiles")
    }

    pub fn with_bundle(bundle: &Bundle, coordinators: u8) -> Self {
        let seats: Vec<String> = (0..coordinators).map(|n| format!("/coordinator/hq{n}")).collect();
        Self::with_seats(bundle, &seats)
    }

    /// A charter with these coordinators: the first is hq, number n has key 100 + n.
    pub fn with_seats(bundle: &Bundle, seats: &[String]) -> Self {
        #[cfg(test)]
        wake();
        let (council, hq, lyon, porto) = (key(1), key(2), key(3), key(4));
        let seat = |(n, path): (u8, &String)| Seat {
            author: if n == 0 { hq.public() } else { key(100 + n).public() },
            spiffe_id: spiffe(path).to_string(),
        };
        let charter = Charter {
            v: cauldron_identity::fact::VERSION,
            trust_domain: "acme.test".into(),
            root_keys: vec![Digest::of("root", b"1")],
            council: vec![council.public().into()],
            threshold: 1,
            recovery: vec![],
            sequencer: seat((0, &seats[0])),
            coordinators: (0..).zip(seats).map(seat).collect(),
            policy_authors: vec![council.public().into()],
            rp_id: "localhost".into(),
            vote_origins: vec![],
            class_ages: ClassAges::default(),
            retention_floor_days: 180,
            created_ms: NOW - 1_000_000,
        };
        let mesh = SignedCharter::sign(&charter, &[&council]).mesh_id();
        let authority = Authority::new(mesh, charter).expect("roles");
        let clock = Clock { wall_ms: NOW, boottime_ms: 1_000_000, confidence: Confidence::Local };
        let mut world = Self {
            council,
            hq,
            lyon,
            porto,
            authority,
            ledger: Ledger::new(),
            engine: Engine::new(bundle).expect("compiles"),
            clock,
            lease: LeaseAge::Ms(1_000),
            resource_version: None,
            hands: Hands::new(),
            budgets: vec![],
            incarnation: 0,
            facts: vec![],
            chains: BTreeMap::new(),
        };
        for name in ["lyon", "porto"] {
            let id = spiffe(&format!("/site/{name}/node/{name}"));
            let enrol = Enrol::new(&mesh, if name == "lyon" { &world.lyon } else { &world.porto }, &id);
            world.entry(&Entry::Enrol(enrol));
        }
        for (name, groups) in
            [("ana", vec!["security-duty"]), ("bo", vec!["security-duty", "finance"]), ("cy", vec!["hr"])]
        {
            world.enrol_person(name, &groups);
        }
        world.activate(bundle);
        world
    }

    pub fn activate(&mut self, bundle: &Bundle) {
        let activate = Activate { bundle: FactId::from_bytes([8; 32]), digest: bundle.digest(), version: "t".into() };
        self.entry(&Entry::Activate(activate));
        self.engine = Engine::new(bundle).expect("compiles");
    }

    pub fn enrol_person(&mut self, name: &str, groups: &[&str]) {
        let key = |name: &str| Credential::of(Self::person_key(name).public().into());
        let credentials = vec![key(name), key(&format!("{name}'s other key"))];
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        self.entry(&Entry::Person(Person { id: name.into(), name: name.into(), groups, credentials }));
    }

    /// The passkey with which `name` votes on the page; its signatures are the same each time.
    pub fn passkey(name: &str) -> Authenticator {
        Authenticator::eddsa(Digest::of("passkey", name.as_bytes()).as_bytes(), "localhost", PAGE)
    }

    /// Enrols `name` with that passkey alone, and has the charter name the page; the credential's id.
    pub fn enrol_passkey(&mut self, name: &str, groups: &[&str]) -> Digest {
        if self.authority.charter().vote_origins.is_empty() {
            self.move_pages(&[PAGE]);
        }
        let credential = Credential::Passkey(Self::passkey(name).passkey().clone());
        let (id, groups) = (credential.id(), groups.iter().map(|g| (*g).to_owned()).collect());
        self.entry(&Entry::Person(Person {
            id: name.into(),
            name: name.into(),
            groups,
            credentials: vec![credential],
        }));
        id
    }

    /// Moves the approval pages.
    pub fn move_pages(&mut self, origins: &[&str]) {
        let vote_origins = Some(origins.iter().map(|o| (*o).to_owned()).collect());
        self.entry(&Entry::Amend(Box::new(Amend { vote_origins, ..Amend::default() })));
    }

    pub fn enrol(&mut self, name: &str, credential: Credential) -> Digest {
        let id = credential.id();
        let person = Person { id: name.into(), name: name.into(), groups: vec![], credentials: vec![credential] };
        self.entry(&Entry::Person(person));
        id
    }

    pub fn revoke(&mut self, name: &str) {
        self.entry(&Entry::RevokePerson(name.into()));
    }

    pub fn person_key(name: &str) -> AuthorKey {
        AuthorKey::from_seed(Digest::of("person", name.as_bytes()).as_bytes())
    }

    /// Writes an authority entry that the council signed, and has lyon hold it.
    pub fn entry(&mut self, entry: &Entry) {
        let mut body = EntryBody::new(self.authority.head(), self.authority.index() + 1, entry);
        body.sign(&self.authority.mesh(), &self.council);
        let fact = self.seal(&key(2), Scope::authority(), KIND_ENTRY, to_cbor(&body));
        self.authority.apply(&fact);
        let refused = self.authority.entries().last().and_then(|a| a.refused.clone());
        assert_eq!(refused, None, "{entry:?}");
        let held = Held {
            head: self.authority.head().expect("entries"),
            index: self.authority.index(),
            suspensions: vec![],
            trust: None,
        };
        let fact = self.seal(&key(4), Scope::mesh(), KIND_HELD, to_cbor(&held));
        self.authority.apply(&fact);
    }

    pub fn cut(&mut self, who: &AuthorKey) {
        let cut = Cut { author: who.author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        self.entry(&Entry::Cut(cut));
    }

    /// Begins a new life of lyon; every fact it wrote so far still counts.
    pub fn reincarnate_lyon(&mut self) {
        let end = |((_, _, scope), (seq, id)): (&(AuthorId, u32, Scope), &(u64, FactId))| {
            cauldron_identity::authority::ChainEnd { scope: scope.clone(), seq: *seq, id: Some(*id) }
        };
        let ends = self.chains.iter().filter(|((a, ..), _)| *a == self.lyon.author_id()).map(end).collect();
        let incarnate = Incarnate::new(&self.authority.mesh(), &self.lyon, 1, ends);
        self.entry(&Entry::Incarnate(incarnate));
    }

    fn seal(&mut self, author: &AuthorKey, scope: Scope, kind: &str, body: Vec<u8>) -> Fact {
        let incarnation = if author.author_id() == self.lyon.author_id() { self.incarnation } else { 0 };
        let place = (author.author_id(), incarnation, scope.clone());
        let last = self.chains.get(&place).copied();
        let seq = last.map_or(1, |(seq, _)| seq + 1);
        let draft = HeaderDraft {
            mesh: self.authority.mesh(),
            scope,
            incarnation,
            seq,
            prev: last.map(|(_, id)| id),
            hlc: (self.clock.wall_ms << 16) + self.facts.len() as u64,
            kind: kind.into(),
            deps: vec![],
            traceparent: None,
        };
        let fact = Fact::seal(author, draft, body);
        self.chains.insert(place, (seq, fact.id()));
        fact
    }

    /// Seals a governance fact and puts it into the ledger.
    pub fn put<T: minicbor::Encode<()>>(&mut self, author: u8, scope: &str, kind: &str, body: &T) -> FactId {
        let fact = self.sealed(author, scope, kind, body);
        assert_eq!(self.ledger.insert(&fact), Inserted::New);
        self.facts.push(fact.clone());
        fact.id()
    }

    /// Seals a governance fact, and leaves it to the caller.
    pub fn sealed<T: minicbor::Encode<()>>(&mut self, author: u8, scope: &str, kind: &str, body: &T) -> Fact {
        self.seal(&key(author), scope.parse().expect("scope"), kind, to_cbor(body))
    }

    pub fn propose(&mut self, p: Proposal) -> FactId {
        self.put(3, "site/lyon", KIND_PROPOSAL, &p)
    }

    /// A saga of lyon's agent that blocks these addresses in a row.
    pub fn saga(&mut self, addresses: &[&str]) -> Vec<FactId> {
        let of = u32::try_from(addresses.len()).expect("few");
        let mut ids: Vec<FactId> = Vec::new();
        for (index, address) in (1..).zip(addresses) {
            let saga = Some(SagaStep { index, of, after: ids.last().copied() });
            let (created_ms, expires_ms) = (self.clock.wall_ms, self.clock.wall_ms + 12 * 3_600_000);
            ids.push(self.propose(Proposal { saga, created_ms, expires_ms, ..proposal(address) }));
        }
        ids
    }

    /// Approves, permits, starts and does a proposal; its start.
    pub fn carried_out(&mut self, p: &FactId) -> FactId {
        self.run();
        self.vote("ana", p, Choice::Approve);
        self.run();
        let permit = self.ledger.permits_on(p).next();
        let permit = permit.unwrap_or_else(|| panic!("no permit: {:?}", self.status(p))).id;
        let started = self.start(&permit);
        self.done(&started);
        started
    }

    pub fn step(&self) -> Vec<Act> {
        self.step_as(&self.hq.author_id(), LeaseAge::Ms(0))
    }

    pub fn step_as(&self, me: &AuthorId, lease: LeaseAge) -> Vec<Act> {
        let sitting = Sitting { me, lease, budgets: &self.budgets };
        step(&self.ledger, &self.authority, Some(&self.engine), &self.clock, &sitting, &Limits::default())
    }

    /// What the coordinator with key `n` writes next.
    pub fn step_of(&self, n: u8) -> Vec<Act> {
        self.step_as(&key(n).author_id(), LeaseAge::Ms(0))
    }

    pub fn write(&mut self, acts: &[Act]) -> Vec<FactId> {
        self.write_as(2, acts)
    }

    pub fn write_as(&mut self, author: u8, acts: &[Act]) -> Vec<FactId> {
        let one = |world: &mut Self, act: &Act| match act {
            Act::Decide { scope, body, .. } => world.put(author, &scope.to_string(), KIND_DECISION, &**body),
            Act::Permit { scope, body, .. } => world.put(author, &scope.to_string(), KIND_PERMIT, &**body),
            Act::Modify { scope, body, .. } => world.put(author, &scope.to_string(), KIND_PROPOSAL, &**body),
            Act::Close { scope, body, .. } => world.put(author, &scope.to_string(), KIND_WINDOW, body),
        };
        acts.iter().map(|act| one(self, act)).collect()
    }

    /// Lets the coordinator write until it has nothing more to write.
    pub fn run(&mut self) -> Vec<FactId> {
        let mut written = Vec::new();
        loop {
            let acts = self.step();
            if acts.is_empty() {
                return written;
            }
            written.extend(self.write(&acts));
        }
    }

    pub fn decision(&self, p: &FactId) -> Decision {
        self.ledger.decisions_on(p).next().expect("decided").body.clone()
    }

    pub fn evaluation(&self) -> Evaluation {
        let mut world = Self::new();
        let p = world.propose(proposal("198.51.100.7"));
        world.run();
        world.decision(&p).evaluation()
    }

    /// Proposes, decides, approves by ana, permits; the permit's id.
    pub fn permitted(&mut self, address: &str) -> FactId {
        let p = self.propose(proposal(address));
        self.run();
        self.vote("ana", &p, Choice::Approve);
        self.run().pop().expect("a permit")
    }

    pub fn restrict(&mut self, author: u8, scope: &str, target: Target) -> FactId {
        let order = self.order(target, "hq");
        self.put(author, scope, KIND_RESTRICTION, &Restriction::by_coordinator(&order))
    }

    pub fn order(&self, target: Target, by: &str) -> Order {
        let (mesh, issued_ms) = (self.authority.mesh(), self.clock.wall_ms);
        Order { mesh, target, by: by.into(), reason: "stop".into(), issued_ms }
    }

    pub fn me(&self) -> SpiffeId {
        spiffe("/site/lyon/node/lyon")
    }

    pub fn bench<'a>(&'a self, id: &'a SpiffeId) -> Bench<'a> {
        Bench {
            ledger: &self.ledger,
            authority: &self.authority,
            engine: Some(&self.engine),
            clock: &self.clock,
            lease: self.lease,
            budgets: &self.budgets,
            me: Me {
                author: self.lyon.author_id(),
                incarnation: self.incarnation,
                spiffe_id: id,
                resource_version: self.resource_version.as_deref(),
                hands: &self.hands,
            },
        }
    }

    pub fn judge(&self, permit: &FactId) -> Verdict {
        judge(permit, &self.bench(&self.me()))
    }

    /// Judges and writes the start.
    pub fn start(&mut self, permit: &FactId) -> FactId {
        let verdict = self.judge(permit);
        let Verdict::Execute(verified) = verdict else { panic!("{verdict:?}") };
        let started = verified.started(self.ledger.next_owner_seq(&self.lyon.author_id()), self.clock.wall_ms);
        self.put(3, "site/lyon", KIND_STARTED, &started)
    }

    /// Writes a permit for the approvals as they are now, and starts on it.
    pub fn start_with_new_permit(&mut self, p: &FactId) -> FactId {
        let old = self.ledger.permits_on(p).next().expect("a permit").body.clone();
        let recorded = self.ledger.proposal(p).expect("here").clone();
        let decision = self.decision(p);
        let ballot = crate::ledger::Ballot::new(&self.ledger, &self.authority, &recorded, &decision);
        let votes = ballot.approving(self.clock.wall_ms).into_iter().collect();
        let permit = self.put(2, "site/lyon", KIND_PERMIT, &Permit { votes, ..old });
        self.start(&permit)
    }

    pub fn status(&self, p: &FactId) -> Status {
        self.ledger.status(p, &self.authority, self.clock.wall_ms).expect("here")
    }

    pub fn state(&self, p: &FactId) -> State {
        self.status(p).state
    }
}

/// A coordinator with a fresh lease, of whose books nothing is asked.
pub fn sitting(me: &AuthorId) -> Sitting<'_> {
    Sitting { me, lease: LeaseAge::Ms(0), budgets: &[] }
}
