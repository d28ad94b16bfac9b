//! Identities of the programs on this machine: kept fresh, sealed on disk, and handed out by the Workload API.
//!
//! The node asks for them as it asks for its own: it signs them where it holds the authority or its site's intermediate,
//! otherwise it asks on the enrol lane by its author key. They lie below its own name and are on disk, so that workloads are
//! served in the dark.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::x509::{
    BACKDATE_S, Bundle, SvidKey, certificates_from_pem, certificates_to_pem, root_of, verify_svid,
};
use cauldron_identity::{AuthorKey, Digest, MeshId, SpiffeId, TrustBundle, TrustDomain};
use cauldron_mesh::SvidSource;
use cauldron_node_core::NodeCore;
use cauldron_node_core::enrol::{Believed, Grant, Workload as Asked};
use cauldron_workload_api::{Served, Server, Status, Svid};
use futures::StreamExt as _;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::config::{Config, Workload};
use crate::error::CliError;
use crate::run::engine::Handle;
use crate::run::federation::{Federation, Published};
use crate::run::root_keeper::RootKeeper;
use crate::run::roots::RootsWatch;
use crate::run::site::SiteHolder;
use crate::run::tokens::Tokens;
use crate::run::{api, issued, svid};
use crate::{clock, files, sealing};

/// Requests at once: an authority that was dark is not met by every workload of every node in the same second.
const REQUESTS_MAX: usize = 4;
/// Between two tries; doubled up to the second, with jitter.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How often the task looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What signs for this node's workloads, in the order of preference.
pub struct Signers {
    /// The authority on this machine.
    pub ca: Option<Arc<RootKeeper>>,
    /// Which roots are on their way out at once.
    pub roots: Arc<RootsWatch>,
    /// The site's intermediate on this machine.
    pub holder: Option<Arc<SiteHolder>>,
    /// Proves this node on the enrol lane.
    pub author: Arc<AuthorKey>,
    /// The mesh.
    pub mesh: MeshId,
    /// The way to the core.
    pub node: Handle,
}

impl Signers {
    /// A token over the enrol lane.
    ///
    /// # Errors
    /// A sentence: nobody who could sign answers, or it refuses.
    pub async fn token(&self, config: &Config, asked: Asked) -> Result<Grant, String> {
        let believed = self.node.read(NodeCore::believed).await.unwrap_or_default();
        let who = self.applicant(&config.identity.spiffe_id, &believed);
        let mut last = NOBODY.to_owned();
        for peer in &config.mesh.join {
            match svid::ask_grant(&peer.to_string(), &who, Vec::new(), asked.clone()).await {
                Ok(grant) => return Ok(grant),
                Err(refused) => last = refused.why,
            }
        }
        Err(last)
    }

    fn applicant<'a>(&'a self, host: &'a SpiffeId, believed: &'a Believed) -> svid::Applicant<'a> {
        svid::Applicant { mesh: self.mesh, author: &self.author, id: host, token: None, believed, holder: None }
    }
}

const NOBODY: &str = "no peer is configured in mesh.join to ask";

/// One workload's SVID: what is held, and when to look again.
#[derive(Default)]
struct Held {
    issued: Option<Issued>,
    due_ms: u64,
    wait: Duration,
    problem: Option<String>,
}

struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: SvidKey,
    not_before_s: u64,
    not_after_s: u64,
}

type Table = Arc<Mutex<BTreeMap<SpiffeId, Held>>>;

/// What the API of the node says about its workloads.
#[derive(Clone)]
pub struct Overview {
    table: Table,
    status: Status,
}

/// One line of it.
pub struct Line {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Last second of validity, where there is an SVID.
    pub not_after_s: Option<u64>,
    /// Why it was not renewed, if it should have been.
    pub problem: Option<String>,
}

impl Overview {
    /// Every entry.
    pub fn lines(&self) -> Vec<Line> {
        let line = |(id, held): (&SpiffeId, &Held)| Line {
            spiffe_id: id.clone(),
            not_after_s: held.issued.as_ref().map(|i| i.not_after_s),
            problem: held.problem.clone(),
        };
        self.table.lock().unwrap_or_else(PoisonError::into_inner).iter().map(line).collect()
    }

    /// Keys of the roots that their SVIDs stand under.
    pub fn roots(&self, bundle: &Bundle) -> BTreeSet<Digest> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.values().filter_map(|held| root_of(&held.issued.as_ref()?.chain, bundle)).collect()
    }

    /// Open connections to the socket.
    pub fn connections(&self) -> usize {
        self.status.connections()
    }
}

/// Opens the Workload API and keeps its SVIDs fresh until `stop` turns true; nothing where nothing is registered.
///
/// # Errors
/// [`CliError`] when the socket cannot be opened.
pub fn start(
    config: &Arc<Config>,
    source: &Arc<SvidSource>,
    signers: Signers,
    published: Option<Arc<Published>>,
    foreign: Arc<Federation>,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Overview>, CliError> {
    let workloads = &config.identity.workloads;
    if workloads.entries.is_empty() {
        return Ok(None);
    }
    let listener = api::bind(&workloads.socket, workloads.socket_mode).map_err(|e| {
        CliError::config("cannot serve the Workload API").because(&e).hint("name another identity.socket")
    })?;
    let table: Table = Arc::default();
    for workload in &workloads.entries {
        let held = read(config, source, workload);
        table.lock().unwrap_or_else(PoisonError::into_inner).insert(workload.entry.spiffe_id.clone(), held);
    }
    let (served, receiver) = watch::channel(Arc::default());
    let signers = Arc::new(signers);
    let tokens = Arc::new(Tokens::open(config, signers.clone(), published, foreign));
    let (config, source) = (config.clone(), source.clone());
    let keeper = Keeper { config, source, signers, tokens: tokens.clone(), table: table.clone(), served };
    keeper.publish();
    let server = Server::new(listener, receiver, Arc::new(|| clock::wall_ms() / 1000), Some(tokens));
    let overview = Overview { table, status: server.status() };
    tracing::info!(socket = %workloads.socket.display(), entries = workloads.entries.len(), "the Workload API is served");
    tokio::spawn(keeper.run(stop.clone()));
    let (stop, socket) = (stop.clone(), workloads.socket.clone());
    tokio::spawn(async move {
        if let Err(why) = server.run(stop).await {
            tracing::error!(%why, "the Workload API has ended");
        }
        // A socket file that nobody serves would only mislead.
        let _ = std::fs::remove_file(socket);
    });
    Ok(Some(overview))
}

struct Keeper {
    config: Arc<Config>,
    source: Arc<SvidSource>,
    signers: Arc<Signers>,
    tokens: Arc<Tokens>,
    table: Table,
    served: watch::Sender<Arc<Served>>,
}

impl Keeper {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut trust = self.source.subscribe();
        let mut known = self.tokens.bundles();
        loop {
            let latest = self.tokens.bundles();
            if latest != known {
                known = latest;
                self.publish();
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                changed = trust.changed() => if changed.is_ok() { self.publish() } else { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now_ms = clock::wall_ms();
            self.hurry(now_ms);
            let due: Vec<&Workload> = self
                .config
                .identity
                .workloads
                .entries
                .iter()
                .filter(|w| self.held(w, |held| held.due_ms <= now_ms))
                .collect();
            if due.is_empty() {
                continue;
            }
            let renewal = futures::stream::iter(due).for_each_concurrent(REQUESTS_MAX, |workload| self.renew(workload));
            tokio::pin!(renewal);
            // An authority that answers late keeps no change of trust from the workloads.
            loop {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    changed = trust.changed() => if changed.is_ok() { self.publish() } else { return },
                    () = &mut renewal => break,
                }
            }
            self.publish();
        }
    }

    fn held<T>(&self, workload: &Workload, look: impl FnOnce(&mut Held) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        look(table.entry(workload.entry.spiffe_id.clone()).or_default())
    }

    /// What stands under a tainted root is due within a minute, drawn once; what failed for it is tried again as ever.
    fn hurry(&self, now_ms: u64) {
        let (bundles, domain) = (self.source.bundles(), self.config.identity.spiffe_id.trust_domain());
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for held in table.values_mut().filter(|held| held.problem.is_none()) {
            let later = Duration::from_millis(held.due_ms.saturating_sub(now_ms)) > svid::HURRY_MAX;
            let Some(issued) = held.issued.as_ref().filter(|_| later) else { continue };
            if self.signers.roots.is_tainted(&issued.chain, bundles.get(domain)) {
                held.due_ms = now_ms + svid::drawn_ms(svid::HURRY_MAX);
            }
        }
    }

    async fn renew(&self, workload: &Workload) {
        let id = &workload.entry.spiffe_id;
        let result = self.issue(workload).await.and_then(|(chain, key)| {
            let found =
                verify_svid(&chain, &self.source.bundles(), clock::wall_ms() / 1000).map_err(|e| e.to_string())?;
            Ok(Issued { chain, key, not_before_s: found.not_before_s, not_after_s: found.not_after_s })
        });
        match result {
            Ok(issued) => {
                if let Err(why) = write(&self.config, workload, &issued) {
                    tracing::warn!(%id, %why, "a workload's SVID could not be sealed on disk");
                }
                tracing::info!(%id, "a workload's SVID was issued");
                self.held(workload, |held| {
                    let due_ms = half_life_ms(issued.not_before_s, issued.not_after_s);
                    *held = Held { issued: Some(issued), due_ms, wait: RETRY.0, problem: None };
                });
            }
            Err(why) => self.held(workload, |held| {
                tracing::warn!(%id, why, "a workload's SVID could not be issued; trying again");
                held.due_ms =
                    clock::wall_ms() + u64::try_from(svid::jittered(held.wait).as_millis()).unwrap_or(u64::MAX);
                held.wait = (held.wait * 2).clamp(RETRY.0, RETRY.1);
                held.problem = Some(why);
            }),
        }
    }

    async fn issue(&self, workload: &Workload) -> Result<(Vec<CertificateDer<'static>>, SvidKey), String> {
        let Signers { ca, holder, node, .. } = &*self.signers;
        let id = &workload.entry.spiffe_id;
        let lifetime = |longest: Duration| workload.ttl.map_or(longest, |ttl| ttl.min(longest));
        let ca = ca.as_ref().and_then(|keeper| keeper.ca().ok());
        if let (Some(ca), Some(settings)) = (ca, &self.config.authority) {
            let own = svid::issue_own(&ca, id, lifetime(settings.svid_lifetime), &self.source.bundles());
            let own = own.map_err(|e| e.to_string())?;
            issued::tell(node, issued::svid(&own.chain, id, ca.key_digest())).await?;
            return Ok((own.chain, own.key));
        }
        if let Some(holder) = holder.as_ref().filter(|holder| holder.ca().is_some() && !holder.is_tainted()) {
            let own = holder.issue(id, lifetime(holder.svid_lifetime()))?;
            issued::tell(node, issued::by_site(&own.0, id)).await?;
            return Ok(own);
        }
        let believed = node.read(NodeCore::believed).await.unwrap_or_default();
        let host = &self.config.identity.spiffe_id;
        let who = self.signers.applicant(host, &believed);
        let mut last = NOBODY.to_owned();
        for peer in &self.config.mesh.join {
            let lifetime_s = workload.ttl.map(|ttl| ttl.as_secs());
            let asked = Asked { spiffe_id: id.to_string(), lifetime_s, audience: Vec::new() };
            match svid::ask_for(&peer.to_string(), &who, id, asked).await {
                Ok((issued, jwks)) => {
                    if let Some(jwks) = jwks {
                        self.tokens.told(&jwks);
                    }
                    return Ok((issued.chain, issued.key));
                }
                Err(refused) => last = refused.why,
            }
        }
        Err(last)
    }

    /// The complete state, as it is now.
    fn publish(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let svid = |(id, held): (&SpiffeId, &Held)| {
            let issued = held.issued.as_ref()?;
            let svid = Svid {
                chain_der: concatenated(&issued.chain),
                key_pkcs8: Zeroizing::new(issued.key.to_pkcs8_der().to_vec()),
                not_after_s: issued.not_after_s,
            };
            Some((id.clone(), svid))
        };
        let bundles = self.source.bundles();
        let bundle = |domain: &TrustDomain| Some((domain.clone(), concatenated(bundles.get(domain)?.roots())));
        let known = self.tokens.bundles();
        let mut x509_bundles: BTreeMap<TrustDomain, Vec<u8>> = known
            .iter()
            .filter(|bundle| !bundle.roots().is_empty())
            .map(|bundle| (bundle.trust_domain().clone(), concatenated(bundle.roots())))
            .collect();
        // Of our own domain what the mesh itself verifies against.
        x509_bundles.extend(bundles.trust_domains().filter_map(bundle));
        self.served.send_replace(Arc::new(Served {
            entries: self.config.identity.workloads.entries.iter().map(|w| w.entry.clone()).collect(),
            svids: table.iter().filter_map(svid).collect(),
            x509_bundles,
            jwt_bundles: known.iter().map(|bundle| (bundle.trust_domain().clone(), jwt_keys(bundle))).collect(),
        }));
    }
}

/// Half of the life that was left at its issue, less up to a tenth of jitter. The minute by which leaves are backdated would
/// have the shortest ones renewed without end.
fn half_life_ms(not_before_s: u64, not_after_s: u64) -> u64 {
    let issued_s = not_before_s.saturating_add(BACKDATE_S).min(not_after_s);
    let life_ms = (not_after_s - issued_s) * 1000;
    (issued_s * 1000 + life_ms / 2).saturating_sub(svid::drawn_ms(Duration::from_millis(life_ms / 10)))
}

/// The JWT keys alone: the X.509 roots go by the X.509 profile.
fn jwt_keys(bundle: &TrustBundle) -> Vec<u8> {
    let mut keys = TrustBundle::new(bundle.trust_domain().clone());
    keys.set_jwt_keys(bundle.jwt_keys());
    keys.to_jwks().into_bytes()
}

fn concatenated(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|c| c.as_ref().iter().copied()).collect()
}

/// What was sealed for a workload; one that is damaged, or is not believed any more, is asked for anew.
fn read(config: &Config, source: &SvidSource, workload: &Workload) -> Held {
    let fresh = Held { wait: RETRY.0, ..Held::default() };
    let path = config.node.dir.workload(&workload.entry.hint);
    if !path.try_exists().unwrap_or(true) {
        return fresh;
    }
    let read = || -> Result<Issued, String> {
        let pem = sealing::read(&path, config.node.dir.unlock()).map_err(|e| e.to_string())?;
        let chain = certificates_from_pem(&pem).map_err(|e| e.to_string())?;
        let key = SvidKey::from_pkcs8_pem(&pem).map_err(|e| e.to_string())?;
        let found = verify_svid(&chain, &source.bundles(), clock::wall_ms() / 1000).map_err(|e| e.to_string())?;
        if found.spiffe_id != workload.entry.spiffe_id {
            return Err(format!("it is of {}", found.spiffe_id));
        }
        Ok(Issued { chain, key, not_before_s: found.not_before_s, not_after_s: found.not_after_s })
    };
    match read() {
        Ok(issued) => {
            let due_ms = half_life_ms(issued.not_before_s, issued.not_after_s);
            Held { issued: Some(issued), due_ms, ..fresh }
        }
        Err(why) => {
            tracing::warn!(path = %path.display(), why, "a workload's SVID on disk is of no use; getting a new one");
            fresh
        }
    }
}

fn write(config: &Config, workload: &Workload, issued: &Issued) -> Result<(), CliError> {
    let dir = &config.node.dir;
    files::create_dir(&dir.workloads())?;
    let (key, chain) = (issued.key.to_pkcs8_pem(), certificates_to_pem(&issued.chain));
    let mut pem = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    pem.push_str(&key);
    pem.push_str(&chain);
    sealing::write(&dir.workload(&workload.entry.hint), "pem", &pem, dir.seal()?.as_ref())
}
