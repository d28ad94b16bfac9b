//! Getting an SVID and keeping it fresh: from the embedded authority on this machine, or over the enrol lane.

use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::authority::{Enrol, EntryBody};
use cauldron_identity::x509::{
    AuthorityCa, Bundle, Bundles, SvidKey, certificates_from_pem, certificates_to_pem, key_digest,
};
use cauldron_identity::{AuthorKey, MeshId, Role, SealedFact, SignedCharter, SpiffeId};
use cauldron_mesh::SvidSource;
use cauldron_node_core::NodeCore;
use cauldron_node_core::enrol::{Believed, EnrolRequest, Grant, TokenId, TokenProof, Workload};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::run::Issuers;
use crate::run::engine::Handle;
use crate::run::errand::exchange;
use crate::run::issued;
use crate::run::root_keeper::RootKeeper;
use crate::run::roots::RootsWatch;
use crate::run::site::SiteHolder;
use crate::token::JoinToken;
use crate::{chance, clock, files, founding, sealing};

/// Between two tries to reach the authority; doubled up to [`RETRY_MAX`], with jitter.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest time over which renewals from under a tainted root are spread.
pub(super) const HURRY_MAX: Duration = Duration::from_secs(60);
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
    /// Term and length of the authority chain by which the reply was judged.
    pub judged_by: (u32, u64),
}

/// Issues this node's own SVID, on the machine that holds the authority. `known`: whom it trusts already.
///
/// # Errors
/// [`CliError`] when the authority is out of its own time.
pub fn issue_own(ca: &AuthorityCa, id: &SpiffeId, lifetime: Duration, known: &Bundles) -> Result<Identity, CliError> {
    let failed = |e| CliError::integrity("this node's own SVID cannot be issued").because(&e);
    let key = SvidKey::generate().map_err(failed)?;
    let csr = key.csr_der().map_err(failed)?;
    let now_s = clock::wall_ms() / 1000;
    let chain = ca.issue(&csr, id, now_s, lifetime.as_secs(), chance::bytes()).map_err(failed)?;
    let mut bundles = known.clone();
    let mut roots = known.get(ca.trust_domain()).map(|b| b.roots().to_vec()).unwrap_or_default();
    if !roots.contains(ca.certificate()) {
        roots.push(ca.certificate().clone());
    }
    bundles.insert(Bundle::new(ca.trust_domain().clone(), roots).map_err(failed)?);
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
    let pem = sealing::read(&dir.svid(), dir.unlock())?;
    let chain = certificates_from_pem(&pem).map_err(damaged)?;
    let key = SvidKey::any_from_pkcs8_pem(&pem).map_err(damaged)?;
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
    // Of the own trust domain alone: read back, all of them speak for it.
    let leaf = identity.chain.first().map(AsRef::as_ref).unwrap_or_default();
    let own = spiffe::cert::spiffe_id_from_der(leaf)
        .map_err(|e| CliError::integrity("an SVID without a SPIFFE ID is not sealed").because(&e))?;
    let roots = identity.bundles.get(own.trust_domain()).map(|bundle| bundle.roots().to_vec()).unwrap_or_default();
    files::write_public(&dir.bundle(), certificates_to_pem(&roots).as_bytes())?;
    // Key and certificate in one file, written last: a kill in between leaves the old pair or the new one.
    let (key, chain) = (identity.key.to_pkcs8_pem(), certificates_to_pem(&identity.chain));
    let mut pem = zeroize::Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    pem.push_str(&key);
    pem.push_str(&chain);
    sealing::write(&dir.svid(), "pem", &pem, dir.seal()?.as_ref())
}

/// Who asks for an SVID.
pub struct Applicant<'a> {
    /// The pinned mesh.
    pub mesh: MeshId,
    /// The author key that proves itself.
    pub author: &'a AuthorKey,
    /// The name.
    pub id: &'a SpiffeId,
    /// A join token; none once the author is enrolled.
    pub token: Option<&'a JoinToken>,
    /// What this node knows of those who may answer.
    pub believed: &'a Believed,
    /// Where the site's intermediate goes, on a node that is to hold one.
    pub holder: Option<&'a SiteHolder>,
}

/// Asks an authority once, by token or, as an enrolled author, without.
///
/// # Errors
/// A sentence; whether asking again may help is in [`Refused::fatal`].
pub async fn ask(address: &str, who: &Applicant<'_>) -> Result<(Identity, Welcome), Refused> {
    let Applicant { mesh, author, id, token, holder, .. } = *who;
    let again = |why: String| Refused { why, fatal: false };
    let key = SvidKey::generate().map_err(|e| again(e.to_string()))?;
    let csr = key.csr_der().map_err(|e| again(e.to_string()))?;
    let site_key = match holder.filter(|holder| holder.wants()) {
        Some(_) => Some(SvidKey::generate().map_err(|e| again(e.to_string()))?),
        None => None,
    };
    let site_csr = site_key.as_ref().map(SvidKey::csr_der).transpose().map_err(|e| again(e.to_string()))?;
    let enrol = Enrol::new(&mesh, author, id);
    let request = |exporter: &[u8; 32]| {
        let proof = token.map(|t| TokenProof::new(TokenId(t.id), &t.secret, &author.public(), &csr, exporter));
        let request = EnrolRequest::new(mesh, proof, enrol.clone(), csr.clone(), author, exporter);
        match site_csr.clone() {
            Some(site_csr) => request.with_site(site_csr, author, exporter),
            None => request,
        }
    };
    let (mut grant, believed) = exchange(address, who, request).await?;
    let site = grant.site.take();
    grant.authority = believed.told_with(grant.authority);
    let (identity, welcome) = granted(grant, &Applicant { believed: &believed, ..*who }, key, id).map_err(again)?;
    if let (Some(holder), Some(key)) = (holder, site_key) {
        match site.map(|der| holder.take(key, CertificateDer::from(Vec::from(der)), &identity.bundles)) {
            Some(Ok(())) => {}
            Some(Err(why)) => tracing::warn!(why, "the site intermediate in the reply cannot be used"),
            None => tracing::warn!(
                address,
                "no site intermediate was granted; on the authority, authority.site_issuers must name this node"
            ),
        }
    }
    Ok((identity, welcome))
}

/// Asks an authority once for the X.509-SVID of a workload on this machine, as the enrolled author `who`; also what the
/// grant says of JWT keys.
///
/// # Errors
/// As [`ask`].
pub async fn ask_for(
    address: &str,
    who: &Applicant<'_>,
    id: &SpiffeId,
    workload: Workload,
) -> Result<(Identity, Option<Vec<u8>>), Refused> {
    let again = |why: String| Refused { why, fatal: false };
    let key = SvidKey::generate().map_err(|e| again(e.to_string()))?;
    let csr = key.csr_der().map_err(|e| again(e.to_string()))?;
    let mut grant = ask_grant(address, who, csr, workload).await?;
    let jwks = grant.jwt_bundle.take().map(Vec::from);
    granted(grant, who, key, id).map(|(identity, _)| (identity, jwks)).map_err(again)
}

/// Asks an authority once for something of a workload on this machine.
///
/// # Errors
/// As [`ask`].
pub async fn ask_grant(address: &str, who: &Applicant<'_>, csr: Vec<u8>, workload: Workload) -> Result<Grant, Refused> {
    let Applicant { mesh, author, .. } = *who;
    let enrol = Enrol::new(&mesh, author, who.id);
    let request = |exporter: &[u8; 32]| {
        EnrolRequest::for_workload(mesh, enrol.clone(), csr.clone(), workload.clone(), author, exporter)
    };
    Ok(exchange(address, who, request).await?.0)
}

/// Why no SVID was issued.
#[derive(Debug)]
pub struct Refused {
    /// A sentence.
    pub why: String,
    /// Asking again the same way will not help.
    pub fatal: bool,
}

pub(super) fn is_fatal(code: &str) -> bool {
    code.starts_with("token_")
        || matches!(
            code,
            "not_enrolled" | "other_mesh" | "other_name" | "cut" | "enrolment_refused" | "bad_spiffe_id" | "not_below"
        )
}

fn granted(grant: Grant, who: &Applicant<'_>, key: SvidKey, id: &SpiffeId) -> Result<(Identity, Welcome), String> {
    // `EnrolReply::open` has checked that the charter is the pinned one.
    let (charter, term, index) = grant.charter_in_effect(&who.mesh, who.believed).map_err(|e| e.to_string())?;
    let judged_by = (term, index);
    let der = |bytes: Vec<u8>| CertificateDer::from(bytes);
    let mut roots: Vec<CertificateDer<'static>> = grant.bundle.into_iter().map(|b| der(b.into())).collect();
    // The server may not have come as far: what the charter does not name, or names no more, counts for nothing.
    roots.retain(|root| key_digest(root).is_ok_and(|key| charter.root_keys.contains(&key)));
    if roots.is_empty() {
        return Err("no root certificate in the reply has a key that the charter names".into());
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
        Welcome { charter: grant.charter, authority: grant.authority, terms: grant.terms, judged_by },
    ))
}

/// Gets an SVID where none is on disk: by the join token of the first run, otherwise as the enrolled author that this node
/// is. Keeps trying while the authority is dark.
///
/// # Errors
/// [`CliError`] when every address refuses for good.
pub async fn join(
    config: &Config,
    mesh: MeshId,
    author: &AuthorKey,
    holder: Option<&SiteHolder>,
) -> Result<(Identity, Welcome), CliError> {
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
    let joining = Believed::default();
    let who = Applicant { mesh, author, id, token: token.as_ref(), believed: &joining, holder };
    let mut wait = RETRY;
    loop {
        let mut refusals = Vec::new();
        for address in &addresses {
            match ask(address, &who).await {
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
            let hint = match config.identity.role {
                Role::Coordinator { .. } => {
                    "the council seats a coordinator in the charter before it starts: `cauldron charter amend`, sign, submit"
                }
                _ => {
                    "mint a new token on the coordinator with `cauldron authority token`, then `cauldron node join TOKEN`"
                }
            };
            let refused = CliError::new(crate::error::Kind::Refused, "this node was refused");
            return Err(refused.detail(refusals.join("; ")).hint(hint));
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Renews at half-life with jitter, without restart, until `stop` turns true. Renewal needs nothing that expires.
#[allow(clippy::too_many_arguments, reason = "a task of the composition root: each is made once, there")]
pub async fn keep_fresh(
    config: Arc<Config>,
    source: Arc<SvidSource>,
    mesh: MeshId,
    author: Arc<AuthorKey>,
    issuers: Issuers,
    node: Handle,
    mut stop: watch::Receiver<bool>,
) {
    let Issuers { ca, holder, roots, .. } = issuers;
    let mut due = due_ms(&source);
    let mut wait = RETRY;
    let mut hurried = false;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match hurry(&source, &roots, holder.as_deref()) {
            None => hurried = false,
            Some(_) if hurried => {}
            // Once: from there on failures are tried again as ever.
            Some(within) => {
                hurried = true;
                due = due.min(clock::wall_ms() + drawn_ms(within));
            }
        }
        if clock::wall_ms() < due {
            continue;
        }
        let believed = node.read(NodeCore::believed).await.unwrap_or_default();
        let id = &config.identity.spiffe_id;
        let who = Applicant { mesh, author: &author, id, token: None, believed: &believed, holder: holder.as_deref() };
        match renew(&config, &source, &who, ca.as_deref(), &node, &roots).await {
            Ok(()) => {
                (due, wait) = (due_ms(&source), RETRY);
                tracing::info!("the SVID was renewed");
            }
            Err(why) => {
                match source.own_status() {
                    Ok(_) => tracing::warn!(why, "the SVID could not be renewed; trying again"),
                    Err(problem) => {
                        tracing::error!(why, %problem, "this node has no valid SVID and cannot renew it; trying again")
                    }
                }
                due = clock::wall_ms() + u64::try_from(jittered(wait).as_millis()).unwrap_or(u64::MAX);
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn renew(
    config: &Config,
    source: &SvidSource,
    who: &Applicant<'_>,
    ca: Option<&RootKeeper>,
    node: &Handle,
    watch: &RootsWatch,
) -> Result<(), String> {
    let (dir, id) = (&config.node.dir, who.id);
    // An authority that is not the mesh's signs nothing: its machine renews like any other.
    let ca = ca.and_then(|keeper| keeper.ca().ok());
    let identity = match (ca, &config.authority) {
        (Some(ca), Some(settings)) => {
            let own = issue_own(&ca, id, settings.svid_lifetime, &source.bundles()).map_err(|e| e.to_string())?;
            issued::tell(node, issued::svid(&own.chain, id, ca.key_digest())).await?;
            own
        }
        _ => {
            let mut last = "no peer is configured in mesh.join to renew at".to_owned();
            let mut found = None;
            for peer in &config.mesh.join {
                match ask(&peer.to_string(), who).await {
                    Ok((identity, welcome)) => {
                        watch.granted(welcome.judged_by.0, welcome.judged_by.1);
                        found = Some(identity);
                        break;
                    }
                    Err(refused) => last = refused.why,
                }
            }
            match (found, who.holder) {
                (Some(identity), _) => identity,
                // In the dark a site renews under its own intermediate.
                (None, Some(holder)) => {
                    let own = holder.issue_own(id, (*source.bundles()).clone()).map_err(|_| last)?;
                    issued::tell(node, issued::by_site(&own.chain, id)).await?;
                    own
                }
                (None, None) => return Err(last),
            }
        }
    };
    source.set_bundles(identity.bundles.clone());
    source.rotate(identity.chain.clone(), &identity.key).map_err(|e| crate::run::chain(&e))?;
    write(dir, &identity).map_err(|e| e.to_string())
}

/// Whether to renew before half-life, and within which time: no peer accepts the SVID, or it stands under a tainted root, or
/// the site's intermediate does.
fn hurry(source: &SvidSource, roots: &RootsWatch, holder: Option<&SiteHolder>) -> Option<Duration> {
    let bundles = source.bundles();
    let bundle = bundles.get(source.spiffe_id().trust_domain());
    let tainted = roots.is_tainted(&source.chain(), bundle) || holder.is_some_and(SiteHolder::is_tainted);
    match source.own_status() {
        Ok(own) if tainted => Some(HURRY_MAX.min(Duration::from_secs((own.not_after_s - own.not_before_s) / 10))),
        Ok(_) => None,
        Err(_) => Some(Duration::ZERO),
    }
}

/// A part of `within`, by chance, milliseconds.
pub(super) fn drawn_ms(within: Duration) -> u64 {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    u64::from(u16::from_be_bytes(chance::bytes())).saturating_mul(within_ms) / 65_536
}

/// Half-life, with up to a tenth of jitter; at once for an SVID that no peer would accept.
fn due_ms(source: &SvidSource) -> u64 {
    match source.own_status() {
        Ok(own) => half_life_ms(own.not_before_s, own.not_after_s, u16::from_be_bytes(chance::bytes())),
        Err(_) => 0,
    }
}

/// Half of the life, less up to a tenth of it by `draw`: nodes that were renewed together do not come back together.
fn half_life_ms(not_before_s: u64, not_after_s: u64, draw: u16) -> u64 {
    let life_ms = not_after_s.saturating_sub(not_before_s) * 1000;
    let jitter_ms = u64::from(draw) * (life_ms / 10) / 65_536;
    (not_before_s * 1000 + life_ms / 2).saturating_sub(jitter_ms)
}

pub(super) fn jittered(wait: Duration) -> Duration {
    let share = f64::from(u16::from_be_bytes(chance::bytes())) / 65_536.0;
    wait.mul_f64(0.75 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_between_two_fifths_and_half_of_a_life() {
        let due = |draw| half_life_ms(1_000, 4_600, draw);
        assert_eq!(due(0), 2_800_000);
        assert_eq!(due(u16::MAX).div_ceil(1_000), 2_441, "a tenth of an hour earlier, less a draw's width");
        let drawn: std::collections::BTreeSet<u64> = (0..=u16::MAX).step_by(4_096).map(due).collect();
        assert_eq!(drawn.len(), 16, "spread evenly");
        assert!(drawn.iter().all(|at| (2_440_000..=2_800_000).contains(at)));
    }
}
