//! How a mesh begins, and how a node's data directory is prepared: keys, charter, the founder's facts.
//!
//! One person founds a mesh alone (1 of 1, said plainly) and grows it by amendment. What only the founder may sign is sealed
//! here, while the founder's keys and the sequencer's are on one machine, and waits in `founding.cbor` for the first run.

use std::net::SocketAddr;

use cauldron_coordinator::bodies::KIND_BUNDLE;
use cauldron_coordinator::policy::Bundle;
use cauldron_identity::authority::{Activate, Credential, Entry, EntryBody, KIND_ENTRY, Person};
use cauldron_identity::charter::{ClassAges, Seat};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
use cauldron_identity::x509::{AuthorityCa, SvidKey, Validity, certificates_to_pem};
use cauldron_identity::{
    AuthorKey, Charter, Digest, Fact, FactId, HeaderDraft, MeshId, Scope, SealedFact, SignedCharter, SpiffeId,
    TrustDomain,
};

use crate::clock::{Mark, boot_id, boottime_ms};
use crate::config::{PeerAddr, Template};
use crate::error::CliError;
use crate::keyfile::{self, Purpose};
use crate::paths::{Binding, DataDir};
use crate::sealing::Seal;
use crate::token::JoinToken;
use crate::{chance, files};

/// The root certificate outlives every charter amendment of a sane mesh; the *key* is what the charter pins.
const ROOT_LIFETIME_S: u64 = 10 * 365 * 86_400;
/// For peers whose clocks are behind.
const ROOT_BACKDATE_S: u64 = 3_600;
const RETENTION_FLOOR_DAYS: u32 = 180;

/// What the founder decides.
#[derive(Debug)]
pub struct Request {
    /// Name of the first coordinator.
    pub name: String,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Id of the founder: council, policy author and first approver in one person.
    pub person: String,
    /// What people call the founder.
    pub person_name: String,
    /// Approver groups of the founder.
    pub groups: Vec<String>,
    /// WebAuthn relying party id of the approval pages.
    pub rp_id: String,
    /// Origins from which a passkey vote counts.
    pub vote_origins: Vec<String>,
    /// How old a lease may be, by class.
    pub class_ages: ClassAges,
    /// The first policy.
    pub bundle: Bundle,
    /// Seals the council key; without, its file is plain.
    pub council_seal: Option<Seal>,
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What was founded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The mesh.
    pub mesh: MeshId,
    /// The first coordinator.
    pub spiffe_id: SpiffeId,
    /// The founder's credential.
    pub credential: Digest,
}

/// What [`found`] left for the first run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// In order: the policy bundle on `mesh`, then the entries of the authority chain.
    pub facts: Vec<SealedFact>,
}

/// Founds a mesh in an empty directory: everything of the first node but its configuration file.
///
/// # Errors
/// [`CliError`]: the directory belongs to somebody else, a name makes no sense, or the disk refuses.
pub fn found(dir: &DataDir, request: &Request) -> Result<Founded, CliError> {
    let spiffe_id = SpiffeId::new(format!("spiffe://{}/coordinator/{}", request.trust_domain, request.name))
        .map_err(|e| CliError::usage(format!("{} is no name for a coordinator", request.name)).because(&e))?;
    dir.create_new()?;
    for below in [dir.ca(), dir.people()] {
        files::create_dir(&below)?;
    }
    let keys = Keys { author: keyfile::generate(), council: keyfile::generate(), person: keyfile::generate() };
    let root_key = found_ca(dir, request)?;
    let (mesh, charter) = charter(request, &spiffe_id, &keys, root_key)?;
    let facts = facts(request, mesh, &keys);

    keyfile::write(&dir.author_key(), &Purpose::Author, &keys.author, None)?;
    keyfile::write(
        &dir.council_key(&request.person),
        &Purpose::Council(request.person.clone()),
        &keys.council,
        request.council_seal.as_ref(),
    )?;
    keyfile::write(&dir.person_key(&request.person), &Purpose::Person(request.person.clone()), &keys.person, None)?;
    files::write_public(&dir.charter(), &to_cbor(&charter))?;
    files::write_private(&dir.founding(), &to_cbor(&facts))?;
    write_clock(dir, request.now_ms)?;
    dir.bind(&Binding { mesh, spiffe_id: spiffe_id.clone(), author: keys.author.author_id() })?;
    Ok(Founded { mesh, spiffe_id, credential: credential(&keys.person).id() })
}

struct Keys {
    author: AuthorKey,
    council: AuthorKey,
    person: AuthorKey,
}

fn credential(key: &AuthorKey) -> Credential {
    Credential::of(key.public().into())
}

/// Makes the root key and certificate; answers with the digest of the key that the charter pins.
fn found_ca(dir: &DataDir, request: &Request) -> Result<Digest, CliError> {
    let failed = |e| CliError::integrity("cannot make the certificate authority").because(&e);
    let now_s = request.now_ms / 1_000;
    let validity = Validity {
        not_before_s: now_s.saturating_sub(ROOT_BACKDATE_S),
        not_after_s: now_s.saturating_add(ROOT_LIFETIME_S),
    };
    let key = SvidKey::generate().map_err(failed)?;
    let ca = AuthorityCa::self_signed(request.trust_domain.clone(), key, validity, chance::bytes()).map_err(failed)?;
    files::write_private(&dir.ca_key(), ca.key_pem().as_bytes())?;
    files::write_private(&dir.ca_certificate(), ca.certificate_pem().as_bytes())?;
    let bundle = certificates_to_pem(std::slice::from_ref(ca.certificate()));
    files::write_public(&dir.bundle(), bundle.as_bytes())?;
    Ok(Digest::from_bytes(sha256(&ca.spki_der())))
}

fn charter(
    request: &Request,
    spiffe_id: &SpiffeId,
    keys: &Keys,
    root_key: Digest,
) -> Result<(MeshId, SignedCharter), CliError> {
    let seat = Seat { author: keys.author.public(), spiffe_id: spiffe_id.to_string() };
    let charter = Charter {
        v: 0,
        trust_domain: request.trust_domain.to_string(),
        root_keys: vec![root_key],
        council: vec![keys.council.public().into()],
        threshold: 1,
        recovery: Vec::new(),
        sequencer: seat.clone(),
        coordinators: vec![seat],
        policy_authors: vec![keys.council.public().into()],
        rp_id: request.rp_id.clone(),
        vote_origins: request.vote_origins.clone(),
        class_ages: request.class_ages,
        retention_floor_days: RETENTION_FLOOR_DAYS,
        created_ms: request.now_ms,
    };
    let signed = SignedCharter::sign(&charter, &[&keys.council]);
    let mesh = signed.mesh_id();
    // A charter that its own nodes would refuse must not reach the disk.
    signed.open(&mesh).map_err(|e| CliError::usage("this charter would not be valid").because(&e))?;
    Ok((mesh, signed))
}

/// The first facts of the sequencer: the policy, the founder as a person, and the activation, which names the policy.
fn facts(request: &Request, mesh: MeshId, keys: &Keys) -> Vec<SealedFact> {
    let hlc = |counter: u64| (request.now_ms << 16) | counter;
    let seal = |scope, seq, prev: Option<FactId>, counter, kind: &str, body| {
        let draft = HeaderDraft {
            mesh,
            scope,
            incarnation: 0,
            seq,
            prev,
            hlc: hlc(counter),
            kind: kind.to_owned(),
            deps: Vec::new(),
            traceparent: None,
        };
        Fact::seal(&keys.author, draft, body)
    };
    let entry = |prev: Option<FactId>, index, entry: &Entry| {
        let mut body = EntryBody::new(prev, index, entry);
        body.sign(&mesh, &keys.council);
        seal(Scope::authority(), index, prev, index, KIND_ENTRY, to_cbor(&body))
    };
    let bundle = seal(Scope::mesh(), 1, None, 0, KIND_BUNDLE, request.bundle.packed().to_vec());
    let person = Person {
        id: request.person.clone(),
        name: request.person_name.clone(),
        groups: request.groups.clone(),
        credentials: vec![credential(&keys.person)],
    };
    let activate =
        Activate { bundle: bundle.id(), digest: request.bundle.digest(), version: request.bundle.version().to_owned() };
    let person = entry(None, 1, &Entry::Person(person));
    let activate = entry(Some(person.id()), 2, &Entry::Activate(activate));
    [bundle, person, activate].iter().map(|fact| fact.sealed().clone()).collect()
}

/// Writes down the first moment that this node's clock may believe.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write_clock(dir: &DataDir, wall_ms: u64) -> Result<(), CliError> {
    let mark = Mark { wall_ms, boottime_ms: boottime_ms(), boot_id: boot_id() };
    files::write_private(&dir.clock(), &to_cbor(&mark))
}

/// The first mark of the clock, where founding or joining left one.
///
/// # Errors
/// [`CliError`] when the file is damaged.
pub fn read_clock(dir: &DataDir) -> Result<Option<Mark>, CliError> {
    optional(&dir.clock())
}

/// What [`found`] left for the first run; nothing on every other node.
///
/// # Errors
/// [`CliError`] when the file is damaged.
pub fn read_founding(dir: &DataDir) -> Result<Option<Founding>, CliError> {
    Ok(optional(&dir.founding())?.map(|facts| Founding { facts }))
}

/// Reads and opens the charter of `mesh`.
///
/// # Errors
/// [`CliError`]: it is missing, damaged, not signed by enough of its council, or another mesh's.
pub fn read_charter(dir: &DataDir, mesh: &MeshId) -> Result<(SignedCharter, Charter), CliError> {
    let path = dir.charter();
    let refused = || CliError::integrity(format!("{} is not the charter of this mesh", path.display()));
    let signed: SignedCharter = from_cbor(&files::read(&path)?).map_err(|e| refused().because(&e))?;
    let charter = signed.open(mesh).map_err(|e| {
        refused().because(&e).hint("restore the charter from a backup, or copy it from another node of the mesh")
    })?;
    Ok((signed, charter))
}

fn optional<T: for<'b> minicbor::Decode<'b, ()>>(path: &std::path::Path) -> Result<Option<T>, CliError> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let bytes = files::read(path)?;
    from_cbor(&bytes).map(Some).map_err(|e| CliError::integrity(format!("{} is damaged", path.display())).because(&e))
}

/// What the operator of a joining node decides.
#[derive(Debug, Clone)]
pub struct Join {
    /// The invitation.
    pub token: JoinToken,
    /// Where this node will listen.
    pub listen: SocketAddr,
}

/// Prepares a directory for a node that `join.token` admits: author key, binding, the token for the first run. A second call
/// with another token for the same node replaces the token and keeps the author key, so that a join that was cut off can be
/// repeated.
///
/// # Errors
/// [`CliError`]: the directory belongs to another node or mesh, or the disk refuses.
pub fn prepare_join(dir: &DataDir, join: &Join) -> Result<Template, CliError> {
    let token = &join.token;
    let bad = |e| CliError::usage("this join token cannot be used").because(&e);
    let spiffe_id = token.spiffe_id().map_err(bad)?;
    let role = cauldron_identity::Role::of(&spiffe_id)
        .map_err(|e| CliError::usage("this join token cannot be used").because(&e))?;
    let join_addresses: Vec<PeerAddr> = token
        .addresses
        .iter()
        .map(|a| {
            a.parse().map_err(|why| CliError::usage("this join token cannot be used").detail(format!("{a} {why}")))
        })
        .collect::<Result<_, _>>()?;
    if dir.binding()?.is_some() {
        dir.open(&spiffe_id, Some(&token.mesh))?;
    } else {
        dir.create_new()?;
        let author = keyfile::generate();
        keyfile::write(&dir.author_key(), &Purpose::Author, &author, None)?;
        dir.bind(&Binding { mesh: token.mesh, spiffe_id: spiffe_id.clone(), author: author.author_id() })?;
    }
    files::write_private(&dir.join_token(), token.encode().as_bytes())?;
    Ok(Template {
        name: role.name().to_owned(),
        site: role.site().map(str::to_owned),
        dir: None,
        trust_domain: spiffe_id.trust_domain().to_string(),
        listen: join.listen,
        advertise: Vec::new(),
        join: join_addresses,
        charter: Some(token.mesh.to_string()),
        first: false,
        api: None,
        security: None,
    })
}

/// The token that waits to be redeemed.
///
/// # Errors
/// [`CliError`] when the file is damaged or readable by others.
pub fn read_join_token(dir: &DataDir) -> Result<Option<JoinToken>, CliError> {
    let path = dir.join_token();
    if !path.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let token = JoinToken::decode(&files::read_secret(&path)?);
    token.map(Some).map_err(|e| {
        CliError::integrity(format!("{} is damaged", path.display()))
            .because(&e)
            .hint("run `cauldron node join TOKEN` again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_identity::Authority;

    fn request() -> Request {
        Request {
            name: "hq".into(),
            trust_domain: TrustDomain::new("acme.test").expect("a trust domain"),
            person: "ana".into(),
            person_name: "Ana".into(),
            groups: vec!["security-duty".into()],
            rp_id: "localhost".into(),
            vote_origins: vec!["http://localhost:7480".into()],
            class_ages: ClassAges::default(),
            bundle: Bundle::default_bundle(),
            council_seal: None,
            now_ms: crate::clock::wall_ms(),
        }
    }

    #[test]
    fn a_founded_mesh_opens_and_has_people_and_policy_in_effect() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("hq"));
        let founded = found(&dir, &request()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(founded.spiffe_id.to_string(), "spiffe://acme.test/coordinator/hq");

        let binding = dir.open(&founded.spiffe_id, Some(&founded.mesh)).expect("its own directory");
        let (_, charter) = read_charter(&dir, &binding.mesh).expect("opens");
        assert_eq!((charter.threshold, charter.council.len()), (1, 1));
        let author = keyfile::read_author(&dir).expect("readable");
        assert_eq!(charter.sequencer.author, author.public());

        let mut authority = Authority::new(binding.mesh, charter).expect("seats");
        let facts = read_founding(&dir).expect("readable").expect("there").facts;
        let opened: Vec<Fact> = facts.into_iter().map(|f| f.open(&author.public()).expect("sealed by hq")).collect();
        for fact in &opened {
            authority.apply(fact);
        }
        assert_eq!(authority.entries().filter_map(|a| a.refused.clone()).collect::<Vec<_>>(), Vec::<String>::new());
        let person = authority.person("ana").expect("enrolled");
        assert_eq!(person.groups, ["security-duty"]);
        assert_eq!(person.credentials[0].id(), founded.credential);
        let policy = authority.policy().expect("in effect").activate;
        let bundle = opened.iter().find(|f| f.id() == policy.bundle).expect("carried");
        let bundle = Bundle::unpack(bundle.body().expect("a body")).expect("a bundle");
        assert_eq!((bundle.digest(), bundle.version().to_owned()), (policy.digest, policy.version));
        assert!(opened.iter().all(|f| authority.may_write(&author.author_id(), &f.header().scope, &f.header().kind)));
    }

    #[test]
    fn the_root_key_is_the_one_that_the_charter_pins_and_secrets_are_private() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("hq"));
        let founded = found(&dir, &request()).unwrap_or_else(|e| panic!("{e}"));
        let pem = |path: std::path::PathBuf| files::read_text(&path).expect("readable");
        let ca = AuthorityCa::from_pem(&pem(dir.ca_key()), &pem(dir.ca_certificate())).expect("a pair");
        let (_, charter) = read_charter(&dir, &founded.mesh).expect("opens");
        assert_eq!(charter.root_keys, [Digest::from_bytes(sha256(&ca.spki_der()))]);
        for secret in [dir.author_key(), dir.ca_key(), dir.founding(), dir.person_key("ana"), dir.council_key("ana")] {
            assert_eq!(files::mode(&secret), Ok(0o600), "{}", secret.display());
        }
        let (purpose, key) = keyfile::read(&dir.person_key("ana"), dir.unlock()).expect("readable");
        assert_eq!(purpose, Purpose::Person("ana".into()));
        assert_eq!(credential(&key).id(), founded.credential);
    }

    #[test]
    fn nothing_is_founded_over_somebody_else() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("hq"));
        let founded = found(&dir, &request()).unwrap_or_else(|e| panic!("{e}"));
        let again = found(&dir, &request()).expect_err("occupied");
        assert!(again.to_string().contains("data directory of another node"), "{again}");
        assert_eq!(dir.binding().expect("readable").map(|b| b.mesh), Some(founded.mesh), "nothing was overwritten");
        let error = read_charter(&dir, &MeshId::from_bytes([0; 32])).expect_err("another mesh");
        assert_eq!(error.kind().exit_code(), 6);
        assert!(error.to_string().contains("this is another mesh"), "{error}");
    }

    fn token(spiffe_id: &str, mesh: u8) -> JoinToken {
        JoinToken {
            mesh: MeshId::from_bytes([mesh; 32]),
            addresses: vec!["hq.acme.test:7443".into()],
            id: [1; 16],
            secret: chance::bytes(),
            spiffe_id: spiffe_id.into(),
            expires_ms: 1,
        }
    }

    #[test]
    fn a_join_is_prepared_once_and_can_be_repeated() {
        let temporary = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::new(temporary.path().join("lyon"));
        let listen = "0.0.0.0:7443".parse().expect("an address");
        let lyon = "spiffe://acme.test/site/lyon/node/lyon";
        let first = Join { token: token(lyon, 1), listen };
        let template = prepare_join(&dir, &first).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read_join_token(&dir), Ok(Some(first.token)));
        let author = keyfile::read_author(&dir).expect("readable").author_id();
        let config = crate::config::Config::parse(&template.render(), &dir.config()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.identity.spiffe_id.to_string(), lyon);
        assert_eq!(dir.open(&config.identity.spiffe_id, config.mesh.charter.as_ref()).map(|b| b.author), Ok(author));

        let second = Join { token: token(lyon, 1), listen };
        prepare_join(&dir, &second).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read_join_token(&dir), Ok(Some(second.token)));
        assert_eq!(keyfile::read_author(&dir).expect("readable").author_id(), author);

        let error = prepare_join(&dir, &Join { token: token(lyon, 2), listen }).expect_err("another mesh");
        assert!(error.to_string().contains("another mesh"), "{error}");
        let porto = token("spiffe://acme.test/site/porto/node/porto", 1);
        assert!(prepare_join(&dir, &Join { token: porto, listen }).is_err(), "another node");
    }
}
