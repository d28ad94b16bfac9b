//! How a mesh begins, and how a node's data directory is prepared: keys, charter, the founder's facts.
//!
//! One person founds a mesh alone (1 of 1, said plainly) and grows it by amendment, or a council founds it from many machines by
//! signing a [`Draft`]. What they founded waits in `founding.cbor` for the first run.

use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_coordinator::policy::Bundle;
use cauldron_identity::authority::{Credential, EntryBody, Person};
use cauldron_identity::charter::{CHARTER_NAMESPACE, ClassAges, Seat};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::x509::{AuthorityCa, ExternalKey, RootKey, SvidKey, Validity, certificates_to_pem};
use cauldron_identity::{
    AuthorKey, Charter, Digest, MeshId, SealedFact, SignedCharter, SignerKey, SpiffeId, TrustDomain,
};

use crate::clock::{Mark, boot_id, boottime_ms};
use crate::config::{PeerAddr, Template};
use crate::draft::{Draft, Progress};
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
    /// Who founds it.
    pub council: Council,
    /// The founder's public key for votes; without, a key is made in `people/`.
    pub person_key: Option<SignerKey>,
    /// The root key, where it is kept elsewhere; without, one is made in `ca/`.
    pub root_key: Option<Arc<dyn ExternalKey>>,
    /// Now, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// Who founds a mesh.
#[derive(Debug)]
pub enum Council {
    /// The founder alone, with a key that is made in `people/`, sealed or plain.
    Alone(Option<Seal>),
    /// Holders of these keys, of whom so many must sign the draft.
    Keys(Vec<SignerKey>, u32),
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
    /// Who has signed the draft; all that are needed, where the founder is alone.
    pub progress: Progress,
}

/// What [`found`] left for the first run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// In order: the policy bundle on `mesh`, then the entries of the authority chain.
    pub facts: Vec<SealedFact>,
}

/// Founds a mesh in an empty directory: everything of the first node but its configuration file. A founder who is alone signs
/// here; a council signs the draft that is left in `charter.draft`.
///
/// # Errors
/// [`CliError`]: the directory belongs to somebody else, a name makes no sense, or the disk refuses.
pub fn found(dir: &DataDir, request: &Request) -> Result<Founded, CliError> {
    let spiffe_id = SpiffeId::new(format!("spiffe://{}/coordinator/{}", request.trust_domain, request.name))
        .map_err(|e| CliError::usage(format!("{} is no name for a coordinator", request.name)).because(&e))?;
    let (author, alone) = (keyfile::generate(), keyfile::generate());
    let (council, threshold) = match &request.council {
        Council::Alone(_) => (vec![alone.public().into()], 1),
        Council::Keys(keys, threshold) => (keys.clone(), *threshold),
    };
    let (root_key, ca) = make_ca(&request.trust_domain, request.root_key.clone(), request.now_ms)?;
    let charter = charter(request, &spiffe_id, &author, (council, threshold), root_key)?;
    let person_key = keyfile::generate();
    let credential = Credential::of(request.person_key.clone().unwrap_or_else(|| person_key.public().into()));
    let person = Person {
        id: request.person.clone(),
        name: request.person_name.clone(),
        groups: request.groups.clone(),
        credentials: vec![credential.clone()],
    };
    let mut draft = Draft::new(&charter, &author, &request.bundle, person);

    dir.create_new()?;
    for below in [dir.ca(), dir.people()] {
        files::create_dir(&below)?;
    }
    write_ca(dir, &ca)?;
    keyfile::write(&dir.author_key(), &Purpose::Author, &author, None)?;
    if request.person_key.is_none() {
        let purpose = Purpose::Person(request.person.clone());
        keyfile::write(&dir.person_key(&request.person), &purpose, &person_key, None)?;
    }
    write_clock(dir, request.now_ms)?;
    let mesh = draft.mesh();
    if let Council::Alone(seal) = &request.council {
        let purpose = Purpose::Council(request.person.clone());
        keyfile::write(&dir.council_key(&request.person), &purpose, &alone, seal.as_ref())?;
        let signature = alone.sign_ssh(CHARTER_NAMESPACE, &draft.charter.message());
        draft.add(&charter, alone.public().into(), signature)?;
        settle(dir, &draft, &charter, &author)?;
    } else {
        draft.write(&dir.draft())?;
    }
    dir.bind(&Binding { mesh, spiffe_id: spiffe_id.clone(), author: author.author_id() })?;
    Ok(Founded { mesh, spiffe_id, credential: credential.id(), progress: draft.progress(&charter) })
}

/// Takes over a draft that enough of the council signed. Does nothing where the charter is settled, or was never drafted here.
///
/// # Errors
/// [`CliError`]: too few signed it, it was changed, or it founds another mesh than the one drafted here.
pub fn complete(dir: &DataDir, mesh: &MeshId, author: &AuthorKey) -> Result<(), CliError> {
    let path = dir.draft();
    if dir.charter().try_exists().unwrap_or(true) || !path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let (draft, content) = Draft::read(&path)?;
    if draft.mesh() != *mesh {
        return Err(CliError::integrity(format!("{} founds another mesh", path.display()))
            .detail(format!("it founds {}, this directory was drafted for {mesh}", draft.mesh()))
            .hint("put back the file that `cauldron init` wrote here, with the council's signatures"));
    }
    if let Some(missing) = draft.progress(&content.charter).missing() {
        return Err(CliError::config("the council has not founded this mesh yet").detail(missing).hint(format!(
            "members sign with `cauldron charter sign FILE --key KEY`; then put the file back as {}",
            path.display()
        )));
    }
    settle(dir, &draft, &content.charter, author)
}

/// The charter last: with it in place the draft counts no more, whatever is added to it.
fn settle(dir: &DataDir, draft: &Draft, charter: &Charter, author: &AuthorKey) -> Result<(), CliError> {
    files::write_private(&dir.founding(), &to_cbor(&draft.facts(charter, author)))?;
    files::write_public(&dir.charter(), &to_cbor(&draft.charter))
}

/// Makes the root key and certificate, and the digest of the key that the charter pins.
///
/// # Errors
/// [`CliError`] when an external key does not sign.
pub(crate) fn make_ca(
    trust_domain: &TrustDomain,
    external: Option<Arc<dyn ExternalKey>>,
    now_ms: u64,
) -> Result<(Digest, AuthorityCa), CliError> {
    let failed = |e| CliError::integrity("cannot make the certificate authority").because(&e);
    let now_s = now_ms / 1_000;
    let validity = Validity {
        not_before_s: now_s.saturating_sub(ROOT_BACKDATE_S),
        not_after_s: now_s.saturating_add(ROOT_LIFETIME_S),
    };
    let key: RootKey = match external {
        Some(external) => external.into(),
        None => SvidKey::generate().map_err(failed)?.into(),
    };
    let ca = AuthorityCa::self_signed(trust_domain.clone(), key, validity, chance::bytes()).map_err(failed)?;
    Ok((ca.key_digest(), ca))
}

/// Writes the authority down.
///
/// # Errors
/// [`CliError`] that names the file.
pub(crate) fn write_ca(dir: &DataDir, ca: &AuthorityCa) -> Result<(), CliError> {
    if let Some(key) = ca.key_pem() {
        files::write_private(&dir.ca_key(), key.as_bytes())?;
    }
    files::write_private(&dir.ca_certificate(), ca.certificate_pem().as_bytes())?;
    let bundle = certificates_to_pem(std::slice::from_ref(ca.certificate()));
    files::write_public(&dir.bundle(), bundle.as_bytes())
}

fn charter(
    request: &Request,
    spiffe_id: &SpiffeId,
    author: &AuthorKey,
    (council, threshold): (Vec<SignerKey>, u32),
    root_key: Digest,
) -> Result<Charter, CliError> {
    let seat = Seat { author: author.public(), spiffe_id: spiffe_id.to_string() };
    let charter = Charter {
        v: cauldron_identity::fact::VERSION,
        trust_domain: request.trust_domain.to_string(),
        root_keys: vec![root_key],
        policy_authors: council.clone(),
        council,
        threshold,
        recovery: Vec::new(),
        sequencer: seat.clone(),
        coordinators: vec![seat],
        rp_id: request.rp_id.clone(),
        vote_origins: request.vote_origins.clone(),
        class_ages: request.class_ages,
        retention_floor_days: RETENTION_FLOOR_DAYS,
        created_ms: request.now_ms,
    };
    // A charter that its own nodes would refuse must not reach the disk.
    let read = SignedCharter::draft(&charter, None).read();
    read.map_err(|e| CliError::usage("this charter would not be valid").because(&e))
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

/// Terms that a successor starts with; none on every other node.
///
/// # Errors
/// [`CliError`] when the file is damaged.
pub fn read_terms(dir: &DataDir) -> Result<Vec<EntryBody>, CliError> {
    Ok(optional(&dir.terms())?.unwrap_or_default())
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
        authority: false,
        root_key: None,
        api: None,
        security: None,
        folder: None,
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
    use cauldron_identity::{Authority, Fact};

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
            council: Council::Alone(None),
            person_key: None,
            root_key: None,
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
        assert_eq!(charter.root_keys, [ca.key_digest()]);
        for secret in [dir.author_key(), dir.ca_key(), dir.founding(), dir.person_key("ana"), dir.council_key("ana")] {
            assert_eq!(files::mode(&secret), Ok(0o600), "{}", secret.display());
        }
        let (purpose, key) = keyfile::read(&dir.person_key("ana"), dir.unlock()).expect("readable");
        assert_eq!(purpose, Purpose::Person("ana".into()));
        assert_eq!(Credential::of(key.public().into()).id(), founded.credential);
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
