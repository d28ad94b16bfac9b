//! Getting an SVID and keeping it fresh: from the embedded authority on this machine, or over the enrol lane.

use std::sync::Arc;
use std::time::Duration;

use cauldron_agents::proposal::for_display;
use cauldron_identity::authority::{Enrol, EntryBody};
use cauldron_identity::x509::{AuthorityCa, Bundle, Bundles, SvidKey, certificates_from_pem, certificates_to_pem};
use cauldron_identity::{AuthorKey, MeshId, SealedFact, SignedCharter, SpiffeId};
use cauldron_mesh::{SvidSource, enrol_client};
use cauldron_node_core::enrol::{EnrolReply, EnrolRequest, Grant, Outcome, TokenId, TokenProof};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::token::JoinToken;
use crate::{chance, clock, files, founding};

/// Between two tries to reach the authority; doubled up to [`RETRY_MAX`], with jitter.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A stranger's words, shown to a person.
const REASON_BYTES_MAX: usize = 300;
/// How often the renewal task looks at what is left; half of a 1 h SVID is 30 min, tests use seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An SVID with its key, and whom this node trusts.
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: SvidKey,
    /// The trust domain's roots.
    pub bundles: Bundles,
}

/// What a node that has just joined received beside its SVID.
pub struct Welcome {
    /// The charter.
    pub charter: SignedCharter,
    /// The authority chain so far.
    pub authority: Vec<SealedFact>,
    /// Terms of the council.
    pub terms: Vec<EntryBody>,
}

/// The certificate authority on this machine, where there is one.
///
/// # Errors
/// [`CliError`] when its files are missing or damaged, or are another mesh's.
pub fn authority(config: &Config) -> Result<Option<AuthorityCa>, CliError> {
    if config.authority.is_none() {
        return Ok(None);
    }
    let dir = &config.node.dir;
    let ca = AuthorityCa::from_pem(&files::read_secret(&dir.ca_key())?, &files::read_text(&dir.ca_certificate())?)
        .map_err(|e| CliError::integrity("the certificate authority in ca/ cannot be used").because(&e))?;
    Ok(Some(ca))
}

/// Issues this node's own SVID, on the machine that holds the authority.
///
/// # Errors
/// [`CliError`] when the authority is out of its own time.
pub fn issue_own(ca: &AuthorityCa, id: &SpiffeId, lifetime: Duration) -> Result<Identity, CliError> {
    let failed = |e| CliError::integrity("this node's own SVID cannot be issued").because(&e);
    let key = SvidKey::generate().map_err(failed)?;
    let csr = key.csr_der().map_err(failed)?;
    let now_s = clock::wall_ms() / 1000;
    let chain = ca.issue(&csr, id, now_s, lifetime.as_secs(), chance::bytes()).map_err(failed)?;
    let mut bundles = Bundles::new();
    bundles.insert(ca.bundle().map_err(failed)?);
    Ok(Identity { chain, key, bundles })
}

/// Reads the SVID that was sealed on disk; nothing where none was written yet.
///
/// # Errors
/// [`CliError`] when a file is damaged or readable by others.
pub fn read(dir: &DataDir, id: &SpiffeId) -> Result<Option<Identity>, CliError> {
    if !dir.svid().try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let damaged = |e| {
        CliError::integrity("the SVID on disk cannot be used")
            .because(&e)
            .hint("remove svid.pem from the data directory; the node gets a new one by its author key")
    };
    let pem = zeroize::Zeroizing::new(files::read_secret(&dir.svid())?);
    let chain = certificates_from_pem(&pem).map_err(damaged)?;
    let key = SvidKey::from_pkcs8_pem(&pem).map_err(damaged)?;
    let roots = certificates_from_pem(&files::read_text(&dir.bundle())?).map_err(damaged)?;
    let mut bundles = Bundles::new();
    bundles.insert(Bundle::new(id.trust_domain().clone(), roots).map_err(damaged)?);
    Ok(Some(Identity { chain, key, bundles }))
}

/// Seals an SVID on disk: a node starts with every authority dark.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write(dir: &DataDir, identity: &Identity) -> Result<(), CliError> {
    let roots: Vec<CertificateDer<'static>> = identity
        .bundles
        .trust_domains()
        .filter_map(|domain| identity.bundles.get(domain))
        .flat_map(|bundle| bundle.roots().to_vec())
        .collect();
    files::write_public(&dir.bundle(), certificates_to_pem(&roots).as_bytes())?;
    // Key and certificate in one file, written last: a kill in between leaves the old pair or the new one.
    let mut pem = zeroize::Zeroizing::new(identity.key.to_pkcs8_pem().to_string());
    pem.push_str(&certificates_to_pem(&identity.chain));
    files::write_private(&dir.svid(), pem.as_bytes())
}

/// Asks an authority once, by token or, as an enrolled author, without.
///
/// # Errors
/// A sentence; whether asking again may help is in [`Refused::fatal`].
pub async fn ask(
    address: &str,
    mesh: MeshId,
    author: &AuthorKey,
    id: &SpiffeId,
    token: Option<&JoinToken>,
) -> Result<(Identity, Welcome), Refused> {
    let again = |why: String| Refused { why, fatal: false };
    let key = SvidKey::generate().map_err(|e| again(e.to_string()))?;
    let csr = key.csr_der().map_err(|e| again(e.to_string()))?;
    let enrol = Enrol::new(&mesh, author, id);
    let request = |exporter: &[u8; 32]| {
        let proof = token.map(|t| TokenProof::new(TokenId(t.id), &t.secret, &author.public(), &csr, exporter));
        EnrolRequest::new(mesh, proof, enrol, csr, author, exporter).to_bytes()
    };
    let check =
        |exporter: &[u8; 32], bytes: &[u8]| EnrolReply::open(bytes, &mesh, exporter).map_err(|e| crate::run::chain(&e));
    match enrol_client(address, request, check).await {
        Err(e) => Err(again(crate::run::chain(&e))),
        Ok(Outcome::Refused(why)) => {
            Err(Refused { fatal: is_fatal(&why.code), why: for_display(why.reason.as_bytes(), REASON_BYTES_MAX) })
        }
        Ok(Outcome::Granted(grant)) => granted(grant, mesh, key, id).map_err(again),
    }
}

/// Why no SVID was issued.
#[derive(Debug)]
pub struct Refused {
    /// A sentence.
    pub why: String,
    /// Asking again the same way will not help.
    pub fatal: bool,
}

fn is_fatal(code: &str) -> bool {
    code.starts_with("token_")
        || matches!(code, "not_enrolled" | "other_mesh" | "other_name" | "cut" | "enrolment_refused" | "bad_spiffe_id")
}

fn granted(grant: Grant, mesh: MeshId, key: SvidKey, id: &SpiffeId) -> Result<(Identity, Welcome), String> {
    // `EnrolReply::open` has checked that the charter is the pinned one.
    let charter = grant.charter_in_effect(&mesh).map_err(|e| e.to_string())?;
    let der = |bytes: Vec<u8>| CertificateDer::from(bytes);
    let roots: Vec<CertificateDer<'static>> = grant.bundle.into_iter().map(|b| der(b.into())).collect();
    for root in &roots {
        let spki = cauldron_identity::x509::spki_der(root).map_err(|e| e.to_string())?;
        let digest = cauldron_identity::Digest::from_bytes(cauldron_identity::ids::sha256(&spki));
        if !charter.root_keys.contains(&digest) {
            return Err("a root certificate in the reply has a key that the charter does not name".into());
        }
    }
    let chain: Vec<CertificateDer<'static>> = grant.chain.into_iter().map(|b| der(b.into())).collect();
    let mut bundles = Bundles::new();
    bundles.insert(Bundle::new(id.trust_domain().clone(), roots).map_err(|e| e.to_string())?);
    let found =
        cauldron_identity::x509::verify_svid(&chain, &bundles, grant.time_ms / 1000).map_err(|e| e.to_string())?;
    if found.spiffe_id != *id {
        return Err(format!("the SVID in the reply names {}, not {id}", found.spiffe_id));
    }
    if *found.spki_sha256.as_ref() != cauldron_identity::ids::sha256(&key.spki_der()) {
        return Err("the SVID in the reply is for another key than the one asked for".into());
    }
    Ok((
        Identity { chain, key, bundles },
        Welcome { charter: grant.charter, authority: grant.authority, terms: grant.terms },
    ))
}

/// Gets an SVID where none is on disk: by the join token of the first run, otherwise as the enrolled author that this node
/// is. Keeps trying while the authority is dark.
///
/// # Errors
/// [`CliError`] when every address refuses for good.
pub async fn join(config: &Config, mesh: MeshId, author: &AuthorKey) -> Result<(Identity, Welcome), CliError> {
    let dir = &config.node.dir;
    let token = founding::read_join_token(dir)?;
    let configured = || config.mesh.join.iter().map(ToString::to_string).collect();
    let addresses: Vec<String> = token.as_ref().map_or_else(configured, |t| t.addresses.clone());
    if addresses.is_empty() {
        return Err(CliError::config(format!(
            "{} has neither an SVID nor anybody to ask for one",
            dir.root().display()
        ))
        .hint("mint a token on the coordinator with `cauldron authority token`, then `cauldron node join TOKEN`"));
    }
    let id = &config.identity.spiffe_id;
    let mut wait = RETRY;
    loop {
        let mut refusals = Vec::new();
        for address in &addresses {
            match ask(address, mesh, author, id, token.as_ref()).await {
                Ok((identity, welcome)) => {
                    // The charter first: with an SVID on disk nobody asks for it again.
                    files::write_public(&dir.charter(), &cauldron_identity::codec::to_cbor(&welcome.charter))?;
                    write(dir, &identity)?;
                    // Spent: from here on the author key is enough. One that cannot be removed does no harm.
                    let _ = std::fs::remove_file(dir.join_token());
                    tracing::info!(address, "joined the mesh");
                    return Ok((identity, welcome));
                }
                // A refusal on this lane is not signed by anybody we know: one address alone decides nothing.
                Err(refused) if refused.fatal => refusals.push(format!("{address}: {}", refused.why)),
                Err(refused) => tracing::warn!(address, why = refused.why, "cannot join yet; trying again"),
            }
        }
        if refusals.len() == addresses.len() {
            return Err(CliError::new(crate::error::Kind::Refused, "this node was refused").detail(refusals.join("; ")).hint(
                "mint a new token on the coordinator with `cauldron authority token`, then `cauldron node join TOKEN`",
            ));
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Renews at half-life with jitter, without restart, until `stop` turns true. Renewal needs nothing that expires.
pub async fn keep_fresh(
    config: Arc<Config>,
    source: Arc<SvidSource>,
    mesh: MeshId,
    author: Arc<AuthorKey>,
    ca: Option<Arc<AuthorityCa>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut due = due_ms(&source);
    let mut wait = RETRY;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if clock::wall_ms() < due {
            continue;
        }
        match renew(&config, &source, mesh, &author, ca.as_deref()).await {
            Ok(()) => {
                (due, wait) = (due_ms(&source), RETRY);
                tracing::info!("the SVID was renewed");
            }
            Err(why) => {
                tracing::warn!(why, "the SVID could not be renewed; trying again");
                due = clock::wall_ms() + u64::try_from(jittered(wait).as_millis()).unwrap_or(u64::MAX);
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn renew(
    config: &Config,
    source: &SvidSource,
    mesh: MeshId,
    author: &AuthorKey,
    ca: Option<&AuthorityCa>,
) -> Result<(), String> {
    let (dir, id) = (&config.node.dir, &config.identity.spiffe_id);
    let identity = match (ca, &config.authority) {
        (Some(ca), Some(settings)) => issue_own(ca, id, settings.svid_lifetime).map_err(|e| e.to_string())?,
        _ => {
            let mut last = "no peer is configured in mesh.join to renew at".to_owned();
            let mut found = None;
            for peer in &config.mesh.join {
                match ask(&peer.to_string(), mesh, author, id, None).await {
                    Ok((identity, _)) => {
                        found = Some(identity);
                        break;
                    }
                    Err(refused) => last = refused.why,
                }
            }
            found.ok_or(last)?
        }
    };
    source.set_bundles(identity.bundles.clone());
    source.rotate(identity.chain.clone(), &identity.key).map_err(|e| crate::run::chain(&e))?;
    write(dir, &identity).map_err(|e| e.to_string())
}

/// Half-life, with up to a tenth of jitter; at once for an SVID that no peer would accept.
fn due_ms(source: &SvidSource) -> u64 {
    match source.own_status() {
        Ok(own) => {
            let life_ms = own.not_after_s.saturating_sub(own.not_before_s) * 1000;
            let jitter = u64::from(u16::from_be_bytes(chance::bytes())) * (life_ms / 10) / 65_536;
            (own.not_before_s * 1000 + life_ms / 2).saturating_sub(jitter)
        }
        Err(_) => 0,
    }
}

fn jittered(wait: Duration) -> Duration {
    let share = f64::from(u16::from_be_bytes(chance::bytes())) / 65_536.0;
    wait.mul_f64(0.75 + share / 2.0)
}
