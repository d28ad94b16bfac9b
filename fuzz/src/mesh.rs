//! A founded mesh, the same in every run: hq coordinates, lyon owns and proposes, porto is elsewhere; ana and bo vote.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cauldron_coordinator::bodies::KIND_BUNDLE;
use cauldron_coordinator::policy::{Bundle, Engine};
use cauldron_crdt::{Access, FactLog, Record};
use cauldron_identity::authority::{
    Activate, Credential, Enrol, Entry, EntryBody, Held, KIND_ENTRY, KIND_HELD, Person,
};
use cauldron_identity::charter::{Charter, ClassAges, Seat};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{
    AuthorId, AuthorKey, Authority, Clock, Confidence, Digest, Fact, FactId, HeaderDraft, MeshId, PublicKey, Scope,
    SignedCharter, SpiffeId,
};
use cauldron_node_core::{Misbehave, NodeConfig, Seed};

/// What time it is at the start of every input.
pub const NOW: Clock = Clock { wall_ms: 1_795_341_600_000, boottime_ms: 1_000_000, confidence: Confidence::Confirmed };

/// Numbers of the keys below.
pub const COUNCIL: u8 = 1;
/// The sequencer.
pub const HQ: u8 = 2;
/// A node, which owns and proposes.
pub const LYON: u8 = 3;
/// A node of another site.
pub const PORTO: u8 = 4;
/// Nobody the mesh knows.
pub const STRANGER: u8 = 5;
/// A person who may vote.
pub const ANA: u8 = 6;
/// Another one, who is also a recovery key.
pub const BO: u8 = 7;

static KEYS: LazyLock<Vec<AuthorKey>> = LazyLock::new(|| (0..8).map(|n| AuthorKey::from_seed(&[n; 32])).collect());

/// The mesh as every input finds it.
pub static FOUNDED: LazyLock<Mesh> = LazyLock::new(|| Mesh::found(true));
/// The same, before a policy was activated: a node compiles the active one whenever it starts, which takes as long as many inputs.
pub static WITHOUT_POLICY: LazyLock<Mesh> = LazyLock::new(|| Mesh::found(false));
/// Its policy, compiled.
pub static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&Bundle::default_bundle()).expect("the built-in bundle compiles"));

/// One of the keys above.
#[must_use]
pub fn key(n: u8) -> &'static AuthorKey {
    &KEYS[usize::from(n) % KEYS.len()]
}

/// The key pair of a public key, where it is one of ours.
#[must_use]
pub fn key_of(public: &PublicKey) -> Option<&'static AuthorKey> {
    KEYS.iter().find(|key| key.public() == *public)
}

/// The key pair of an author, where it is one of ours.
#[must_use]
pub fn key_of_author(author: &AuthorId) -> Option<&'static AuthorKey> {
    KEYS.iter().find(|key| key.author_id() == *author)
}

/// The SPIFFE ID that a key acts under.
#[must_use]
pub fn spiffe_id(n: u8) -> SpiffeId {
    let path = match n {
        HQ => "coordinator/hq",
        LYON => "site/lyon/node/lyon",
        PORTO => "site/porto/node/porto",
        _ => "site/lyon/node/stranger",
    };
    SpiffeId::new(format!("spiffe://acme.test/{path}")).expect("an id")
}

/// Every scope of the mesh, in the order of service.
#[must_use]
pub fn scopes() -> Vec<Scope> {
    let texts = [
        "mesh",
        "mesh#authority",
        "mesh#restrict",
        "site/lyon",
        "site/lyon#restrict",
        "site/porto",
        "site/porto#restrict",
    ];
    let mut scopes: Vec<Scope> = texts.iter().map(|text| text.parse().expect("a scope")).collect();
    scopes.sort();
    scopes
}

/// A mesh, with the chains of its authors as they go on.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The charter.
    pub charter: SignedCharter,
    /// Its hash.
    pub id: MeshId,
    /// The authority chain so far.
    pub authority: Authority,
    /// Every fact so far.
    pub facts: Vec<Fact>,
    ends: BTreeMap<(AuthorId, u32, Scope), (u64, FactId)>,
}

impl Mesh {
    /// The mesh that every input starts from.
    #[must_use]
    pub fn founded() -> Self {
        FOUNDED.clone()
    }

    fn found(with_policy: bool) -> Self {
        let charter = SignedCharter::sign(&charter(), &[key(COUNCIL)]);
        let id = charter.mesh_id();
        let authority = Authority::new(id, charter.open(&id).expect("our own")).expect("its seats have roles");
        let mut mesh = Self { charter, id, authority, facts: Vec::new(), ends: BTreeMap::new() };
        let bundle = Bundle::default_bundle();
        let packed = mesh.seal(HQ, Scope::mesh(), KIND_BUNDLE, bundle.packed().to_vec()).id();
        for node in [LYON, PORTO] {
            mesh.enter(&Entry::Enrol(Enrol::new(&id, key(node), &spiffe_id(node))));
        }
        for (person, groups) in [(ANA, vec!["security-duty"]), (BO, vec!["security-duty", "duty-officer"])] {
            mesh.enter(&Entry::Person(self::person(person, &groups)));
        }
        if with_policy {
            mesh.enter(&Entry::Activate(Activate { bundle: packed, digest: bundle.digest(), version: "1".into() }));
        }
        let refused = mesh.authority.entries().filter(|entry| entry.refused.is_some()).count();
        assert_eq!(refused, 0, "every entry counts");
        mesh
    }

    /// Writes an entry that the council signed, and has porto hold it.
    pub fn enter(&mut self, entry: &Entry) {
        let mut body = EntryBody::new(self.authority.head(), self.authority.index() + 1, entry);
        body.sign(&self.id, key(COUNCIL));
        self.seal(HQ, Scope::authority(), KIND_ENTRY, to_cbor(&body));
        self.seal(PORTO, Scope::mesh(), KIND_HELD, to_cbor(&self.held()));
    }

    /// Says that the chain is held up to here.
    #[must_use]
    pub fn held(&self) -> Held {
        let head = self.authority.head().unwrap_or(FactId::from_bytes([0; 32]));
        Held { head, index: self.authority.index(), suspensions: vec![], trust: None }
    }

    /// The next fact of a member's chain; kept, unless its author may not write it.
    pub fn seal(&mut self, author: u8, scope: Scope, kind: &str, body: Vec<u8>) -> Fact {
        let author = key(author);
        let incarnation = self.authority.member(&author.author_id()).map_or(0, |member| member.incarnation);
        let place = (author.author_id(), incarnation, scope.clone());
        let end = self.ends.get(&place).copied();
        let seq = end.map_or(1, |(seq, _)| seq + 1);
        let draft = HeaderDraft {
            mesh: self.id,
            scope,
            incarnation,
            seq,
            prev: end.map(|(_, id)| id),
            hlc: (NOW.wall_ms << 16) + self.facts.len() as u64,
            kind: kind.to_owned(),
            deps: vec![],
            traceparent: None,
        };
        let fact = Fact::seal(author, draft, body);
        let header = fact.header();
        if self.authority.may_write(&header.author, &header.scope, &header.kind) {
            self.ends.insert(place, (seq, fact.id()));
            self.authority.apply(&fact);
            self.facts.push(fact.clone());
        }
        fact
    }

    /// A log that holds every fact so far.
    #[must_use]
    pub fn log(&self) -> FactLog {
        let records = self.facts.iter().map(|fact| Record::Fact(fact.sealed().clone()));
        FactLog::restore(self.id, records, None).expect("its own facts")
    }

    /// What a node of this mesh starts with.
    #[must_use]
    pub fn config(&self, n: u8) -> NodeConfig {
        NodeConfig {
            key: AuthorKey::from_seed(&[n; 32]),
            spiffe_id: spiffe_id(n),
            charter: self.charter.clone(),
            mesh: self.id,
            used_before: false,
            boot_id: "boot".into(),
            bootstrap: vec![],
            terms: vec![],
            seed: Seed([9; 32]),
            place: cauldron_node_core::Place::default(),
            far_facts: cauldron_crdt::limits::FAR_FACTS,
            epoch_changes: 16,
            budgets: cauldron_node_core::LinkBudgets::default(),
            window_max: cauldron_node_core::LINK_WINDOW_MAX,
            hands: cauldron_coordinator::owner::Hands::new(),
            misbehave: Misbehave::default(),
        }
    }

    /// What a node's store holds of the facts so far.
    #[must_use]
    pub fn records(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let record = |fact: &Fact| {
            let record = Record::Fact(fact.sealed().clone());
            (record.key().expect("its own"), record.value())
        };
        self.facts.iter().map(record).collect()
    }
}

/// The log's questions about authors, answered from the chain.
pub struct Writers<'a>(pub &'a Authority);

impl Access for Writers<'_> {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.member(author).map(|member| member.key)
    }

    fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool {
        self.0.may_write(author, scope, kind)
    }
}

/// A person with the key of that number.
#[must_use]
pub fn person(n: u8, groups: &[&str]) -> Person {
    let name = if n == ANA { "ana" } else { "bo" };
    Person {
        id: name.into(),
        name: name.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        credentials: vec![Credential::of(key(n).public().into())],
    }
}

/// The charter that the council founded.
#[must_use]
pub fn charter() -> Charter {
    let seat = Seat { author: key(HQ).public(), spiffe_id: spiffe_id(HQ).to_string() };
    Charter {
        v: cauldron_identity::fact::VERSION,
        trust_domain: "acme.test".into(),
        root_keys: vec![Digest::of("root", b"1")],
        council: vec![key(COUNCIL).public().into()],
        threshold: 1,
        recovery: vec![key(BO).public().into()],
        sequencer: seat.clone(),
        coordinators: vec![seat],
        policy_authors: vec![key(COUNCIL).public().into()],
        rp_id: "localhost".into(),
        vote_origins: vec![],
        class_ages: ClassAges::default(),
        retention_floor_days: 180,
        created_ms: NOW.wall_ms - 1_000_000,
    }
}
