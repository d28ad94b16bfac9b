//! `cauldron node run`: opens what the node needs, starts its threads and tasks, and ends them in order.
//!
//! Everything that can be wrong with configuration, directory, keys and store is found before a socket opens.

pub mod api;
pub mod engine;
mod errand;
pub mod facts;
pub mod federation;

mod agents;
pub(crate) mod archive;
mod bounds;
mod certificate;
mod connectors;
mod effects;
mod enrolment;
mod external;
mod fault;
mod https;
mod issued;
mod lane;
pub mod notify;
mod open;
pub(crate) mod page;
mod propose;
mod quiet;
mod refusals;
mod root_keeper;
mod roots;
mod site;
mod stop;
mod svid;
mod tokens;
mod wires;
mod workloads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cauldron_agents::connector::Connector;
use cauldron_identity::{AuthorKey, MeshId};
use cauldron_mesh::limits::{CONNECTIONS_MAX_EDGE, CONNECTIONS_MAX_HUB};
use cauldron_mesh::{Mesh, MeshConfig, MeshHandle, RealNet};
use cauldron_node_core::{Command, Input};
use cauldron_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::clock::SystemClock;
use crate::config::{Config, Source};
use crate::error::CliError;
use crate::run::engine::Handle;
use crate::run::facts::Facts;
use crate::run::fault::Fault;
use crate::run::open::{Opened, enter, open_node, open_store};
use crate::run::refusals::Refusals;
use crate::run::root_keeper::RootKeeper;
use crate::run::roots::{Roots, RootsWatch};
use crate::run::site::SiteHolder;
use crate::run::stop::StopSignal;
use crate::run::wires::{Advertised, Wires, keep_addresses, pump};
use crate::{clock, founding, keyfile, telemetry};

pub(crate) use root_keeper::load_authority;

/// How long the end of the process waits for threads that are busy.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Between two stored marks of the clock.
const MARK_EVERY: Duration = Duration::from_secs(60);
const CLOCK_NOTE: &str = "clock";

/// An error with its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Runs a node until it is told to stop (SIGINT, SIGTERM, or the end of standard input where
/// `CAULDRON_EXIT_ON_STDIN_EOF` is set).
///
/// # Errors
/// [`CliError`] with the exit code of its kind.
pub fn run(config: Config) -> Result<(), CliError> {
    let telemetry = telemetry::install(&config.telemetry, &config.identity.spiffe_id.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| CliError::config("cannot start the runtime").because(&e))?;
    let result = runtime.block_on(run_node(Arc::new(config)));
    telemetry.shutdown();
    runtime.shutdown_timeout(STOP_MAX);
    result
}

async fn run_node(config: Arc<Config>) -> Result<(), CliError> {
    let fault = Fault::from_env()?;
    let mut stop_signal = StopSignal::listen()?;
    let dir = &config.node.dir;
    let binding = dir.open(&config.identity.spiffe_id, config.mesh.charter.as_ref())?;
    for path in dir.seal_plain_secrets(config.authority.as_ref().and_then(|a| a.root_key.file()))? {
        tracing::info!(path = %path.display(), "sealed, as node.key_seal says");
    }
    let (mesh, author) = (binding.mesh, Arc::new(keyfile::read_author(dir)?));
    if author.author_id() != binding.author {
        return Err(CliError::integrity(format!(
            "{} is not the author key of this directory",
            dir.author_key().display()
        ))
        .hint("restore author.key from the node's own backup; a new box joins with a new token"));
    }
    founding::complete(dir, &mesh, &author)?;
    let ca = RootKeeper::open(&config)?;
    let hands = Hands::open(&config, &fault)?;
    let holder = SiteHolder::open(&config)?;
    let foreign = federation::Known::read(&config)?;
    let notifier = notify::Notifier::open(&config, &mesh)?;
    let store: Arc<dyn Store> = Arc::new(open_store(&config)?);
    let sockets = Sockets::bind(&config).await?;
    let (stop, stopped) = watch::channel(false);
    let gate = api::Gate::default();
    tokio::spawn(api::serve(sockets.socket, gate.router(), stopped.clone()));
    let used_before = dir.svid().try_exists().unwrap_or(true);
    let start = tokio::select! {
        start = enter(&config, mesh, &author, ca.as_deref(), holder.as_deref()) => start?,
        () = stop_signal.wait() => return Ok(()),
    };
    let declared = connectors::declared(&hands.connectors, &config.connectors.externals);
    let node = open_node(&config, mesh, &author, start, &store, &fault, (used_before, declared))?;
    let Sockets { health, bundle, page, _file, .. } = sockets;
    let door = Door { gate, health, bundle, page, foreign, notifier, stop, stopped };
    let issuers = Issuers { ca, holder, fault, roots: Arc::default() };
    let running = Running::start(config.clone(), mesh, author, issuers, store, node, door, hands)?;
    running.until(stop_signal).await
}

/// What this node acts with, and what its agent must never propose.
struct Hands {
    connectors: Vec<Box<dyn Connector + Send>>,
    sshd: Option<agents::SshdSource>,
}

impl Hands {
    fn open(config: &Config, fault: &Fault) -> Result<Self, CliError> {
        Ok(Self { connectors: connectors::open(config, fault)?, sshd: sshd(config)? })
    }
}

/// Where the API answers.
struct Sockets {
    socket: tokio::net::UnixListener,
    health: Option<tokio::net::TcpListener>,
    bundle: Option<federation::Server>,
    page: Option<page::Page>,
    /// Goes when the node does, however it ends.
    _file: SocketFile,
}

/// A socket file that nobody serves would only mislead.
struct SocketFile(std::path::PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that is gone already is fine.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The API's way in while the node runs.
struct Door {
    gate: api::Gate,
    health: Option<tokio::net::TcpListener>,
    bundle: Option<federation::Server>,
    page: Option<page::Page>,
    foreign: federation::Known,
    notifier: Option<Arc<notify::Notifier>>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, CliError> {
        // The mesh opens its port only with an SVID; a port that is taken must be known before a token is spent on one.
        for address in &config.mesh.listen {
            RealNet::is_free(*address).map_err(|e| mesh_port(&address.to_string(), &e))?;
        }
        let socket = api::bind(&config.node.socket, config.node.socket_mode)
            .map_err(|e| CliError::config("cannot serve the API").because(&e))?;
        let _file = SocketFile(config.node.socket.clone());
        let health = match config.api.listen {
            None => None,
            Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(|e| {
                CliError::config(format!("cannot listen on TCP {address}"))
                    .because(&e)
                    .hint("free the port, or name another one in api.listen")
            })?),
        };
        let bundle = match &config.federation.endpoint {
            None => None,
            Some(endpoint) => Some(federation::Server::bind(endpoint).await?),
        };
        let page = match &config.page.serve {
            None => None,
            Some(serve) => Some(page::Page::bind(serve).await?),
        };
        Ok(Self { socket, health, bundle, page, _file })
    }
}

fn mesh_port(address: &str, why: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::config(format!("cannot listen for the mesh on UDP {address}"))
        .because(why)
        .hint("free the port, or name another one in mesh.listen")
}

/// What this node can sign certificates with, and what a test wants to go wrong.
#[derive(Clone)]
struct Issuers {
    ca: Option<Arc<RootKeeper>>,
    holder: Option<Arc<SiteHolder>>,
    fault: Fault,
    roots: Arc<RootsWatch>,
}

/// A node at work.
struct Running {
    node: Handle,
    mesh: MeshHandle,
    clock: SystemClock,
    stop: watch::Sender<bool>,
    stop_threads: Arc<AtomicBool>,
    core: Option<std::thread::JoinHandle<Result<(), StoreError>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    #[allow(clippy::too_many_arguments, reason = "the composition root: each is made once, just before")]
    fn start(
        config: Arc<Config>,
        mesh_id: MeshId,
        author: Arc<AuthorKey>,
        issuers: Issuers,
        store: Arc<dyn Store>,
        opened: Opened,
        door: Door,
        hands: Hands,
    ) -> Result<Self, CliError> {
        let Opened { core, clock, source, issued: at_start } = opened;
        let Door { gate, health, bundle, page, foreign, notifier, stop, stopped } = door;
        let Hands { connectors, sshd } = hands;
        let thread_failed = |e: std::io::Error| CliError::config("cannot start a thread").because(&e);
        let stop_threads = Arc::new(AtomicBool::new(false));
        let pending = engine::pending();
        let node = pending.handle();

        let foreign = federation::Federation::new(&config, foreign, source.clone());
        let published = federation::Published::of(&config, source.clone())?;
        let (enrol, asked) = mpsc::channel(16);
        let Issuers { ca, holder, fault, roots } = issuers.clone();
        let issuer = match (&config.authority, ca.clone(), holder.clone()) {
            (Some(authority), Some(ca), _) if authority.enrol => Some(enrolment::Issuer::Authority {
                ca,
                source: source.clone(),
                svid_lifetime: authority.svid_lifetime,
                site_issuers: authority.site_issuers.clone(),
                published: published.clone(),
            }),
            (None, _, Some(holder)) => Some(enrolment::Issuer::Site { holder, source: source.clone() }),
            _ => None,
        };
        let members = lane::Members::default();
        members.set(core.enrolled());
        let listen = config.mesh.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let hub = config.is_hub();
        let (mesh, events) = Mesh::start(MeshConfig {
            enrolled: Some(members.enrolled()),
            peers: config.mesh.join.iter().map(ToString::to_string).collect(),
            enrol: issuer.is_some().then_some(enrol),
            relay: config.mesh.relay,
            post_quantum: config.mesh.post_quantum,
            connections_max: if hub { CONNECTIONS_MAX_HUB } else { CONNECTIONS_MAX_EDGE },
            ..MeshConfig::on(config.mesh.listen.clone(), mesh_id, author.clone(), source.clone())
        })
        .map_err(|e| mesh_port(&listen, &e))?;

        let (within, externals) = (config.connectors.answer_within, config.connectors.externals.clone());
        let (hands, mut threads) = effects::Hands::start(connectors, externals, &node, &clock, within, &stop_threads)
            .map_err(thread_failed)?;
        let core = pending
            .start(core, store.clone(), clock.clone(), Box::new(Wires(mesh.clone())), Box::new(hands.clone()))
            .map_err(thread_failed)?;
        let refusals = Refusals::default();
        tokio::spawn(pump(events, node.clone(), refusals.clone()));
        config.mesh.via.iter().for_each(|relay| mesh.reserve(relay.clone()));
        let via = config.mesh.via.iter().map(|relay| format!("via {relay}"));
        let advertised = Advertised {
            configured: config.mesh.advertise.iter().map(ToString::to_string).collect(),
            via: via.collect(),
        };
        tokio::spawn(keep_addresses(mesh.clone(), node.clone(), advertised, stopped.clone()));
        let log = node.clone();
        tokio::spawn(async move {
            // Its own; it stops with the node.
            let _ = issued::tell(&log, at_start).await;
        });
        if let Some(issuer) = issuer {
            let author = author.clone();
            let registrar = enrolment::Registrar { node: node.clone(), issuer, author, fault };
            tokio::spawn(registrar.run(asked));
        }
        let signers = workloads::Signers {
            ca: ca.clone(),
            roots: roots.clone(),
            holder: holder.clone(),
            author: author.clone(),
            mesh: mesh_id,
            node: node.clone(),
        };
        let workloads = workloads::start(&config, &source, signers, published.clone(), foreign.clone(), &stopped)?;
        let identity_health = Arc::new(external::Health::default());
        if config.identity.source == Source::Embedded {
            let fresh = svid::keep_fresh(
                config.clone(),
                source.clone(),
                mesh_id,
                author,
                issuers,
                node.clone(),
                stopped.clone(),
            );
            tokio::spawn(fresh);
            let (config, source, node, holder, workloads) =
                (config.clone(), source.clone(), node.clone(), holder.clone(), workloads.clone());
            let roots = Roots { config, source, node, keeper: ca.clone(), holder, workloads, watch: roots };
            tokio::spawn(roots.follow(stopped.clone()));
        } else {
            let (config, source, health) = (config.clone(), source.clone(), identity_health.clone());
            tokio::spawn(external::keep_fresh(config, source, health, stopped.clone()));
        }
        tokio::spawn(members.follow(node.clone(), stopped.clone()));
        tokio::spawn(keep_mark(node.clone(), clock.clone(), stopped.clone()));
        foreign.follow(&stopped);
        if let Some(notifier) = &notifier {
            notifier.start(&node, &clock, &stopped);
        }
        federation::publish(published.as_ref(), bundle, &source, &stopped);
        let spiffe_id = config.identity.spiffe_id.clone();
        let facts = Facts {
            config: config.clone(),
            spiffe_id,
            mesh: mesh_id,
            source,
            refusals,
            holder,
            workloads,
            health: identity_health,
            started_ms: clock::wall_ms(),
            federation: foreign,
            notifier,
            hands: hands.clone(),
            authority: ca,
            published,
        };
        let context = api::Context {
            node: node.clone(),
            clock: clock.clone(),
            mesh: mesh.clone(),
            facts: Arc::new(facts),
            store,
        };
        if let Some(page) = page {
            tokio::spawn(page.run(context.clone(), stopped.clone()));
        }
        if let Some(health) = health {
            tokio::spawn(api::serve(health, api::health(context.clone()), stopped));
        }
        gate.open(api::router(context));
        if let Some(sshd) = sshd {
            let (node, id, clock) = (node.clone(), config.identity.spiffe_id.clone(), clock.clone());
            let agent = agents::start_sshd(sshd, node, hands, id, clock, stop_threads.clone());
            threads.push(agent.map_err(thread_failed)?);
        }
        tracing::info!(
            spiffe_id = %config.identity.spiffe_id,
            mesh = %mesh_id.short(),
            listen,
            socket = %config.node.socket.display(),
            "the node runs"
        );
        Ok(Self { node, mesh, clock, stop, stop_threads, core: Some(core), threads })
    }

    /// Runs until told to stop, or until the loop ends by itself: then the store did not confirm a write.
    async fn until(mut self, mut signal: StopSignal) -> Result<(), CliError> {
        let core = self.core.take();
        let mut ended = tokio::task::spawn_blocking(move || core.map(std::thread::JoinHandle::join));
        let result = tokio::select! {
            () = signal.wait() => None,
            ended = &mut ended => Some(ended),
        };
        let result = match result {
            Some(ended) => ended,
            None => {
                tracing::info!("stopping");
                keep_mark_now(&self.node, &self.clock).await;
                // Threads that still hand work in are told first, the loop last: it finishes what is queued.
                self.stop_threads.store(true, Ordering::Relaxed);
                let _ = self.stop.send(true);
                for thread in std::mem::take(&mut self.threads) {
                    let _ = tokio::time::timeout(STOP_MAX, tokio::task::spawn_blocking(move || thread.join())).await;
                }
                // Peers are told: it departs, and is not looked for.
                let _ = self.node.input(Input::Leave);
                self.node.stop();
                ended.await
            }
        };
        self.stop_threads.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(STOP_MAX, self.mesh.shutdown()).await;
        match result {
            Ok(Some(Ok(Ok(())))) | Ok(None) => Ok(()),
            Ok(Some(Ok(Err(e @ StoreError::Corrupt { .. })))) => {
                Err(CliError::integrity("a record of the store is damaged; the node has stopped")
                    .because(&e)
                    .hint(e.hint()))
            }
            Ok(Some(Ok(Err(e)))) => Err(CliError::integrity("the store did not confirm a write; the node has stopped")
                .because(&e)
                .hint("check the disk and its free space, then start the node again: what was acknowledged is there")),
            Ok(Some(Err(_))) | Err(_) => Err(CliError::integrity("the node's loop ended by a defect of its own")
                .hint("please report it with the log; what was acknowledged is in the store")),
        }
    }
}

fn sshd(config: &Config) -> Result<Option<agents::SshdSource>, CliError> {
    let sshd = config.security.as_ref().and_then(|s| s.sshd.as_ref());
    let (Some(sshd), Some(mut rule)) = (sshd, config.sshd_agent()) else { return Ok(None) };
    if sshd.own_addresses.is_none() {
        let interfaces = if_addrs::get_if_addrs().map_err(|e| {
            CliError::config(
                "cannot list this machine's own addresses, which the sshd agent must never propose to block",
            )
            .because(&e)
            .hint("name them in security.sshd.own_addresses")
        })?;
        rule.own_addresses = interfaces.into_iter().map(|interface| interface.ip()).collect();
    }
    Ok(Some(agents::SshdSource { path: sshd.log.clone(), rule }))
}

/// Stores the clock's mark now and then, so that a later start can judge its wall clock.
async fn keep_mark(node: Handle, clock: SystemClock, mut stop: watch::Receiver<bool>) {
    loop {
        keep_mark_now(&node, &clock).await;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(MARK_EVERY) => {}
        }
    }
}

async fn keep_mark_now(node: &Handle, clock: &SystemClock) {
    let value = cauldron_identity::codec::to_cbor(&clock.mark());
    if let Err(why) = node.command(Command::Remember { name: CLOCK_NOTE.into(), value }).await {
        tracing::debug!(%why, "the clock's mark was not stored");
    }
}
