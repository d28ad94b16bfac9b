//! How a world's mesh is founded: as in production, by a charter, a council key, people, and an activated policy.

use cauldron_coordinator::policy::Bundle;
use cauldron_crdt::escrow::{Budget, Life, Mint};
use cauldron_identity::authority::{Activate, Credential, Enrol, Entry, EntryBody, KIND_ENTRY, Person};
use cauldron_identity::budget::window_at;
use cauldron_identity::charter::{Charter, ClassAges, Seat};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{
    AuthorId, AuthorKey, Digest, Fact, FactId, Header, HeaderDraft, MeshId, Scope, SealedFact, SignedCharter, SpiffeId,
};

use crate::clock::EPOCH_MS;
use crate::rng::Rng;
use crate::weather::{Takes, Weather};

/// The trust domain of every world.
pub const TRUST_DOMAIN: &str = "sim.cauldron.internal";
/// Whose approval the policy asks for.
pub const DUTY: &str = "security-duty";
/// The budget of which actions take, where they do.
pub const BLOCKS: &str = "blocks";
/// The class of action that agents propose here.
pub const ACTION_CLASS: &str = "security.address.block/blocklist";
/// SPIFFE ID of the first coordinator, which is the sequencer too.
pub const HQ_ID: &str = "spiffe://sim.cauldron.internal/coordinator/hq";
/// SPIFFE ID of the second coordinator, where there is one.
pub const WEST_ID: &str = "spiffe://sim.cauldron.internal/coordinator/west";

/// A person with the keys they vote with.
#[derive(Debug)]
pub struct Voter {
    /// Their id.
    pub id: String,
    /// Groups they belong to.
    pub groups: Vec<String>,
    /// Their software credentials; the first is the usual one.
    pub keys: Vec<AuthorKey>,
}

/// Everything decided before the first node starts.
#[derive(Debug)]
pub struct Founding {
    /// The charter.
    pub charter: SignedCharter,
    /// Its hash.
    pub mesh: MeshId,
    /// The council's only key; no node holds it.
    pub council: AuthorKey,
    /// Seed of hq's author key.
    pub hq_seed: [u8; 32],
    /// Seed of the second coordinator's author key, where there is one.
    pub west_seed: Option<[u8; 32]>,
    /// The charter's coordinators; hq first.
    pub coordinators: Vec<AuthorId>,
    /// The people.
    pub people: Vec<Voter>,
    /// Distinct people of [`DUTY`] that the policy asks for.
    pub approvers: u32,
    /// Where silence allows instead: how long it must last, milliseconds.
    pub silence_ms: Option<u64>,
    /// The policy's version for [`ACTION_CLASS`].
    pub class_version: Digest,
    /// What hq starts with: the bundle, the people, the activation.
    pub facts: Vec<SealedFact>,
    /// The root key that the charter names.
    pub root_key: Digest,
}

const NAMES: [&str; 4] = ["ana", "bo", "cleo", "dan"];

impl Founding {
    /// Founds a mesh.
    ///
    /// # Panics
    /// When the default policy bundle has no number of approvers to change: a bug of ours.
    #[must_use]
    pub fn new(rng: &mut Rng, weather: &Weather) -> Self {
        let council = AuthorKey::from_seed(&rng.bytes());
        let hq_seed = rng.bytes();
        let hq = AuthorKey::from_seed(&hq_seed);
        let west_seed = weather.second.then(|| Digest::of("sim/west", &hq_seed)).map(|seed| *seed.as_bytes());
        let west = west_seed.map(|seed| AuthorKey::from_seed(&seed));
        let coordinators = [Some(&hq), west.as_ref()].into_iter().flatten().map(AuthorKey::author_id).collect();
        let charter = SignedCharter::sign(&charter(&council, &hq, west.as_ref(), weather), &[&council]);
        let mesh = charter.mesh_id();
        let people = (0..weather.people.count).map(|i| voter(i, rng)).collect::<Vec<_>>();
        let bundle = bundle(weather);
        let class_version = bundle.class_version(ACTION_CLASS).expect("the default bundle judges the class");
        let mints = weather.takes.map(|takes| mints(takes, &hq)).unwrap_or_default();
        let facts = seal_all(&council, &hq, mesh, &people, &bundle, mints);
        let approvers = weather.people.approvers;
        let root_key = founding_root();
        Self {
            root_key,
            charter,
            mesh,
            council,
            hq_seed,
            west_seed,
            coordinators,
            people,
            approvers,
            silence_ms: weather.silence_ms,
            class_version,
            facts,
        }
    }
}

impl Founding {
    /// Enrols nodes at the founding: what hq writes when each redeems its token.
    pub fn enrol(&mut self, nodes: &[(AuthorKey, SpiffeId)]) {
        let hq = AuthorKey::from_seed(&self.hq_seed);
        let entries = self.facts.iter().filter(|fact| {
            let header: Option<Header> = from_cbor(&fact.header).ok();
            header.is_some_and(|header| header.scope == Scope::authority())
        });
        let (mut index, mut prev) = entries.fold((0, None), |(count, _), fact| (count + 1, Some(fact.id())));
        for (key, spiffe_id) in nodes {
            index += 1;
            let body = EntryBody::new(prev, index, &Entry::Enrol(Enrol::new(&self.mesh, key, spiffe_id)));
            let fact = seal(&hq, self.mesh, Scope::authority(), index, prev, KIND_ENTRY, to_cbor(&body));
            prev = Some(fact.id());
            self.facts.push(fact.sealed().clone());
        }
    }
}

impl Voter {
    /// The entry that describes them.
    #[must_use]
    pub fn person(&self) -> Person {
        let credential = |key: &AuthorKey| Credential::of(key.public().into());
        Person {
            id: self.id.clone(),
            name: self.id.clone(),
            groups: self.groups.clone(),
            credentials: self.keys.iter().map(credential).collect(),
        }
    }
}

fn founding_root() -> Digest {
    Digest::of("sim/root", b"")
}

fn charter(council: &AuthorKey, hq: &AuthorKey, west: Option<&AuthorKey>, weather: &Weather) -> Charter {
    let seat = Seat { author: hq.public(), spiffe_id: HQ_ID.into() };
    let west = west.map(|key| Seat { author: key.public(), spiffe_id: WEST_ID.into() });
    Charter {
        v: cauldron_identity::fact::VERSION,
        trust_domain: TRUST_DOMAIN.into(),
        root_keys: vec![founding_root()],
        council: vec![council.public().into()],
        threshold: 1,
        recovery: vec![],
        sequencer: seat.clone(),
        coordinators: [Some(seat), west].into_iter().flatten().collect(),
        policy_authors: vec![council.public().into()],
        rp_id: "localhost".into(),
        vote_origins: vec![],
        class_ages: class_ages(weather),
        retention_floor_days: 1,
        created_ms: EPOCH_MS,
    }
}

/// How old a lease may be for each class.
#[must_use]
pub fn class_ages(weather: &Weather) -> ClassAges {
    let usual = ClassAges::default();
    let r2_ms = weather.alone.map_or(usual.r2_ms, |alone| alone.lease_r2_ms);
    ClassAges { r1_ms: weather.lease_r1_ms, r2_ms, ..usual }
}

/// The first two are on duty, so that two approvers can be found; every second person has two keys.
fn voter(i: usize, rng: &mut Rng) -> Voter {
    let keys = (0..=i % 2).map(|_| AuthorKey::from_seed(&rng.bytes())).collect();
    let on_duty = i < 2 || rng.percent(40);
    let group = if on_duty { DUTY } else { "finance" };
    Voter {
        id: NAMES.get(i).map_or_else(|| format!("person-{i}"), |n| (*n).to_owned()),
        groups: vec![group.into()],
        keys,
    }
}

/// Rights of every window that a world's clocks may show, all in hq's hands.
fn mints(takes: Takes, hq: &AuthorKey) -> Vec<Mint> {
    let window_ms = takes.window_ms.unwrap_or(0);
    let now = window_at(window_ms, EPOCH_MS);
    let windows = if window_ms == 0 { 0..=0 } else { now - 1..=now + 4 };
    let holder = Life { author: hq.author_id(), incarnation: 0 };
    let budget = Budget::new(BLOCKS).expect("a name");
    windows.map(|window| Mint { budget: budget.clone(), window, amount: takes.limit, holder, window_ms }).collect()
}

fn bundle(weather: &Weather) -> Bundle {
    let approvers = weather.people.approvers;
    let mut files = Bundle::default_bundle().files().clone();
    let data = files.get_mut("security_address_block.json").expect("the default bundle has its data file");
    let text = String::from_utf8_lossy(data).into_owned();
    assert!(text.contains("\"approvers\": 1"), "the data file names the number of approvers");
    *data = text.replace("\"approvers\": 1", &format!("\"approvers\": {approvers}")).into_bytes();
    let mut more = String::new();
    if weather.checks.is_some() {
        more.push_str("\"post_checks\": [\"listed\"],\n\t");
    }
    if weather.takes.is_some() {
        more.push_str(&format!("\"reserve\": [{{\"budget\": \"{BLOCKS}\", \"amount\": 1}}],\n\t"));
    }
    if !more.is_empty() {
        let rules = files.get_mut("security_address_block.rego").expect("the default bundle has its rules");
        let (text, why) = (String::from_utf8_lossy(rules).into_owned(), "\"why\": \"blocking an address needs");
        assert!(text.contains(why), "the rules say who approves");
        *rules = text.replace(why, &format!("{more}{why}")).into_bytes();
    }
    if let Some(within_ms) = weather.silence_ms {
        let rules = files.get_mut("security_address_block.rego").expect("the default bundle has its rules");
        let text = String::from_utf8_lossy(rules).into_owned();
        let seats = "\"approvals\": [{\"group\": limits.approver_group, \"n\": limits.approvers}]";
        assert!(text.contains("step_up contains {") && text.contains(seats), "the rules ask for people");
        let veto = format!("\"veto\": {{\"within_ms\": {within_ms}, \"groups\": [limits.approver_group]}}");
        *rules = text.replace("step_up contains {", "allow contains {").replace(seats, &veto).into_bytes();
    }
    Bundle::new(files).expect("a bundle with another number, a check, or silence instead of people")
}

fn seal_all(
    council: &AuthorKey,
    hq: &AuthorKey,
    mesh: MeshId,
    people: &[Voter],
    bundle: &Bundle,
    mints: Vec<Mint>,
) -> Vec<SealedFact> {
    let policy = seal(hq, mesh, Scope::mesh(), 1, None, "policy.bundle", bundle.packed().to_vec());
    let activate = Activate { bundle: policy.id(), digest: bundle.digest(), version: bundle.version().to_owned() };
    let entries = people.iter().map(|p| Entry::Person(p.person())).chain([Entry::Activate(activate)]);
    let entries = entries.chain(mints.into_iter().map(Entry::Mint));
    let (mut facts, mut prev) = (vec![policy.sealed().clone()], None);
    for (index, entry) in (1..).zip(entries) {
        let mut body = EntryBody::new(prev, index, &entry);
        body.sign(&mesh, council);
        let fact = seal(hq, mesh, Scope::authority(), index, prev, KIND_ENTRY, to_cbor(&body));
        prev = Some(fact.id());
        facts.push(fact.sealed().clone());
    }
    facts
}

fn seal(
    key: &AuthorKey,
    mesh: MeshId,
    scope: Scope,
    seq: u64,
    prev: Option<FactId>,
    kind: &str,
    body: Vec<u8>,
) -> Fact {
    let hlc = EPOCH_MS << 16;
    let draft =
        HeaderDraft { mesh, scope, incarnation: 0, seq, prev, hlc, kind: kind.into(), deps: vec![], traceparent: None };
    Fact::seal(key, draft, body)
}
