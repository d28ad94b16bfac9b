//! `cauldron node run`: opens what the node needs, starts its threads and tasks, and ends them in order.
//!
//! Everything that can be wrong with configuration, directory, keys and store is found before a socket opens.

pub mod api;
pub mod engine;
pub mod facts;

mod agents;
mod effects;
mod enrolment;
mod fault;
mod propose;
mod quiet;
mod svid;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cauldron_agents::connector::Connector;
use cauldron_agents::connector::blocklist::Blocklist;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::x509::AuthorityCa;
use cauldron_identity::{AuthorKey, MeshId, SealedFact, SignedCharter};
use cauldron_mesh::{CloseCode, Mesh, MeshConfig, MeshEvent, MeshHandle, SvidSource, system_clock};
use cauldron_node_core::{Command, Input, LinkId, NodeConfig, NodeCore, Seed};
use cauldron_store::{RedbStore, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::clock::{Mark, SystemClock};
use crate::config::Config;
use crate::error::{CliError, Kind};
use crate::run::engine::{Handle, Wire};
use crate::run::facts::Facts;
use crate::run::fault::Fault;
use crate::{chance, clock, founding, keyfile, telemetry};

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
    let (mesh, author) = (binding.mesh, Arc::new(keyfile::read_author(&dir.author_key())?));
    if author.author_id() != binding.author {
        return Err(CliError::integrity(format!(
            "{} is not the author key of this directory",
            dir.author_key().display()
        ))
        .hint("restore author.key from the node's own backup; a new box joins with a new token"));
    }
    let ca = svid::authority(&config)?.map(Arc::new);
    let store: Arc<dyn Store> = Arc::new(open_store(&config)?);
    let sockets = Sockets::bind(&config).await?;
    let used_before = dir.svid().try_exists().unwrap_or(true);
    let start = tokio::select! {
        start = enter(&config, mesh, &author, ca.as_deref()) => start?,
        () = stop_signal.wait() => return Ok(()),
    };
    let node = open_node(&config, mesh, &author, start, store.as_ref(), &fault, used_before)?;
    let running = Running::start(config.clone(), mesh, author, ca, store, node, sockets, &fault)?;
    running.until(stop_signal).await
}

/// Where the API answers.
struct Sockets {
    socket: tokio::net::UnixListener,
    health: Option<tokio::net::TcpListener>,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, CliError> {
        let socket = api::bind(&config.node.socket, config.node.socket_mode)
            .map_err(|e| CliError::config("cannot serve the API").because(&e))?;
        let health = match config.api.listen {
            None => None,
            Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(|e| {
                CliError::config(format!("cannot listen on TCP {address}"))
                    .because(&e)
                    .hint("free the port, or name another one in api.listen")
            })?),
        };
        Ok(Self { socket, health })
    }
}

/// What a node starts with beside its store.
struct Start {
    identity: svid::Identity,
    charter: SignedCharter,
    bootstrap: Vec<SealedFact>,
    terms: Vec<EntryBody>,
}

fn open_store(config: &Config) -> Result<RedbStore, CliError> {
    let path = config.node.dir.store();
    RedbStore::open(&path, config.store.cache_bytes).map_err(|e| {
        let kind = if matches!(e, cauldron_store::StoreError::Locked { .. }) { Kind::Config } else { Kind::Integrity };
        CliError::new(kind, "the store cannot be opened").because(&e)
    })
}

/// Gets an SVID and the charter: from disk, from the authority on this machine, or by joining.
async fn enter(config: &Config, mesh: MeshId, author: &AuthorKey, ca: Option<&AuthorityCa>) -> Result<Start, CliError> {
    let dir = &config.node.dir;
    let on_disk = svid::read(dir, &config.identity.spiffe_id).unwrap_or_else(|why| {
        tracing::warn!(%why, "the SVID on disk is of no use; getting a new one");
        None
    });
    let (identity, welcome) = match (on_disk, ca, &config.authority) {
        // The authority's own SVID is issued afresh: it costs nothing and cannot have expired.
        (_, Some(ca), Some(settings)) => {
            let identity = svid::issue_own(ca, &config.identity.spiffe_id, settings.svid_lifetime)?;
            svid::write(dir, &identity)?;
            (identity, None)
        }
        (Some(identity), ..) => (identity, None),
        (None, ..) => {
            let (identity, welcome) = svid::join(config, mesh, author).await?;
            (identity, Some(welcome))
        }
    };
    let (charter, _) = founding::read_charter(dir, &mesh)?;
    let founded = founding::read_founding(dir)?.map(|f| f.facts).unwrap_or_default();
    let (bootstrap, terms) = welcome.map_or((founded, vec![]), |w| (w.authority, w.terms));
    Ok(Start { identity, charter, bootstrap, terms })
}

/// The core, the clock and the TLS identity, ready to run.
struct Opened {
    core: NodeCore,
    clock: SystemClock,
    source: Arc<SvidSource>,
}

fn open_node(
    config: &Config,
    mesh: MeshId,
    author: &AuthorKey,
    start: Start,
    store: &dyn Store,
    fault: &Fault,
    used_before: bool,
) -> Result<Opened, CliError> {
    let records = read_records(store)?;
    let noted = records.iter().find(|(key, _)| *key == cauldron_node_core::local::note_key(CLOCK_NOTE));
    let stored: Option<Mark> = noted.and_then(|(_, value)| cauldron_identity::codec::from_cbor(value).ok());
    let mark = match stored {
        Some(mark) => Some(mark),
        None => founding::read_clock(&config.node.dir)?,
    };
    let clock = SystemClock::start(mark.as_ref());
    let settings = NodeConfig {
        key: AuthorKey::from_seed(author.seed()),
        spiffe_id: config.identity.spiffe_id.clone(),
        charter: start.charter,
        mesh,
        boot_id: clock.boot_id().to_owned(),
        bootstrap: start.bootstrap,
        terms: start.terms,
        used_before,
        seed: Seed(chance::bytes()),
        misbehave: fault.misbehave,
    };
    let core = NodeCore::open(settings, records, clock.now()).map_err(|e| {
        CliError::integrity("this node cannot start on its store").because(&e).hint(
            "keep the data directory as it is; restore it from a backup, or give the box a new identity with a new token",
        )
    })?;
    let identity = start.identity;
    let source = SvidSource::new(identity.chain, &identity.key, identity.bundles, system_clock())
        .map_err(|e| CliError::integrity("the SVID cannot be used for TLS").because(&e))?;
    if let Err(problem) = source.own_status() {
        tracing::warn!(%problem, "no peer accepts this node's SVID now; it is renewed by the author key as soon as an authority answers");
    }
    Ok(Opened { core, clock, source })
}

/// A record as the core takes it.
type KeyValue = (Vec<u8>, Vec<u8>);

/// Every record, out of its checked envelope.
fn read_records(store: &dyn Store) -> Result<Vec<KeyValue>, CliError> {
    let mut records = Vec::new();
    let mut damaged = None;
    let scanned = store.scan(b"", &mut |key, value| {
        let kind = key.first().copied().unwrap_or_default();
        match cauldron_store::record::unwrap(key, kind, value) {
            Ok(body) => {
                records.push((key.to_vec(), body.to_vec()));
                ControlFlow::Continue(())
            }
            Err(e) => {
                damaged = Some(e);
                ControlFlow::Break(())
            }
        }
    });
    match scanned.err().or(damaged) {
        None => Ok(records),
        Some(e) => Err(CliError::integrity("a record of the store is damaged").because(&e)),
    }
}

/// A node at work.
struct Running {
    config: Arc<Config>,
    node: Handle,
    mesh: MeshHandle,
    clock: SystemClock,
    stop: watch::Sender<bool>,
    stop_threads: Arc<AtomicBool>,
    core: Option<std::thread::JoinHandle<Result<(), cauldron_store::StoreError>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    #[allow(clippy::too_many_arguments, reason = "the composition root: each is made once, just before")]
    fn start(
        config: Arc<Config>,
        mesh_id: MeshId,
        author: Arc<AuthorKey>,
        ca: Option<Arc<AuthorityCa>>,
        store: Arc<dyn Store>,
        opened: Opened,
        sockets: Sockets,
        fault: &Fault,
    ) -> Result<Self, CliError> {
        let Opened { core, clock, source } = opened;
        let Sockets { socket, health } = sockets;
        let thread_failed = |e: std::io::Error| CliError::config("cannot start a thread").because(&e);
        let stop_threads = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = watch::channel(false);
        let pending = engine::pending();
        let node = pending.handle();

        let connectors = connectors(&config, fault)?;
        let (enrol, asked) = mpsc::channel(16);
        let enrols = config.authority.as_ref().is_some_and(|a| a.enrol);
        let (mesh, events) = Mesh::start(MeshConfig {
            peers: config.mesh.join.iter().map(ToString::to_string).collect(),
            enrol: enrols.then_some(enrol),
            ..MeshConfig::new(config.mesh.listen, mesh_id, author.clone(), source.clone())
        })
        .map_err(|e| {
            CliError::config("cannot open the mesh port")
                .because(&e)
                .hint("free the port, or name another one in mesh.listen")
        })?;

        let (worker, hands) =
            effects::start(connectors, node.clone(), clock.clone(), stop_threads.clone()).map_err(thread_failed)?;
        let mut threads = vec![hands];
        let core = pending
            .start(core, store, clock.clone(), Box::new(Wires(mesh.clone())), Box::new(worker))
            .map_err(thread_failed)?;
        tokio::spawn(pump(events, node.clone()));
        if let (true, Some(ca), Some(authority)) = (enrols, ca.clone(), &config.authority) {
            let (node, author) = (node.clone(), author.clone());
            let registrar = enrolment::Registrar { node, ca, author, svid_lifetime: authority.svid_lifetime };
            tokio::spawn(registrar.run(asked));
        }
        tokio::spawn(svid::keep_fresh(config.clone(), source.clone(), mesh_id, author, ca, stopped.clone()));
        tokio::spawn(keep_mark(node.clone(), clock.clone(), stopped.clone()));
        let spiffe_id = config.identity.spiffe_id.clone();
        let facts = Facts { config: config.clone(), spiffe_id, mesh: mesh_id, source, started_ms: clock::wall_ms() };
        let context =
            api::Context { node: node.clone(), clock: clock.clone(), mesh: mesh.clone(), facts: Arc::new(facts) };
        if let Some(health) = health {
            tokio::spawn(api::serve(health, api::health(context.clone()), stopped.clone()));
        }
        tokio::spawn(api::serve(socket, api::router(context), stopped));
        if let Some(agent) = start_agent(&config, &node, &clock, &stop_threads).map_err(thread_failed)? {
            threads.push(agent);
        }
        tracing::info!(
            spiffe_id = %config.identity.spiffe_id,
            mesh = %mesh_id.short(),
            listen = %config.mesh.listen,
            socket = %config.node.socket.display(),
            "the node runs"
        );
        Ok(Self { config, node, mesh, clock, stop, stop_threads, core: Some(core), threads })
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
                self.node.stop();
                ended.await
            }
        };
        self.stop_threads.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(STOP_MAX, self.mesh.shutdown()).await;
        // A socket file that nobody serves would only mislead; one that is gone already is fine.
        let _ = std::fs::remove_file(&self.config.node.socket);
        match result {
            Ok(Some(Ok(Ok(())))) | Ok(None) => Ok(()),
            Ok(Some(Ok(Err(e)))) => Err(CliError::integrity("the store did not confirm a write; the node has stopped")
                .because(&e)
                .hint("check the disk and its free space, then start the node again: what was acknowledged is there")),
            Ok(Some(Err(_))) | Err(_) => Err(CliError::integrity("the node's loop ended by a defect of its own")
                .hint("please report it with the log; what was acknowledged is in the store")),
        }
    }
}

/// The wires as the loop sees them.
struct Wires(MeshHandle);

impl Wire for Wires {
    fn send(&self, link: LinkId, bytes: Vec<u8>) {
        // A link that is gone, or whose queue is full and which is closed for it, is reported as an event.
        let _ = self.0.send(link, bytes);
    }

    fn close(&self, link: LinkId, detail: &str) {
        tracing::warn!(link, detail, "closing a link");
        // The detail stays here: a stranger learns the code alone.
        self.0.close(link, CloseCode::BadContent, "");
    }
}

/// Carries what happens on the wires to the core.
async fn pump(mut events: mpsc::Receiver<MeshEvent>, node: Handle) {
    let mut quiet = quiet::Quiet::default();
    while let Some(event) = events.recv().await {
        let input = match event {
            MeshEvent::LinkUp { link, spiffe_id, author, remote_addr, .. } => {
                tracing::info!(link, peer = %spiffe_id, remote = %remote_addr, "link up");
                Input::LinkUp { link, spiffe_id, author }
            }
            MeshEvent::LinkDown { link, reason } => {
                tracing::info!(link, reason, "link down");
                Input::LinkDown { link }
            }
            MeshEvent::Frame { link, bytes } => Input::Frame { link, bytes },
            MeshEvent::Listening(address) => {
                tracing::info!(%address, "listening");
                continue;
            }
            MeshEvent::Refused { direction, remote, reason, code } => {
                if let Some(silent) = quiet.tell(code.label(), std::time::Instant::now()) {
                    tracing::warn!(?direction, %remote, code = code.label(), reason, silent, "connection refused");
                }
                continue;
            }
        };
        // Waits while the loop is busy: the mesh's own bounded queues then slow the peers down.
        if node.input_async(input).await.is_err() {
            return;
        }
    }
}

fn connectors(config: &Config, fault: &Fault) -> Result<Vec<Box<dyn Connector + Send>>, CliError> {
    let mut connectors: Vec<Box<dyn Connector + Send>> = Vec::new();
    if let Some(blocklist) = config.security.as_ref().and_then(|s| s.blocklist.as_ref()) {
        let fault = fault.clone();
        let hook = Box::new(move |point: &str| fault.reached(point));
        let open = Blocklist::open(&blocklist.path, &config.identity.spiffe_id, hook);
        let open = open.map_err(|e| CliError::config("the blocklist cannot be used").because(&e))?;
        connectors.push(Box::new(open));
    }
    Ok(connectors)
}

fn start_agent(
    config: &Config,
    node: &Handle,
    clock: &SystemClock,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<Option<std::thread::JoinHandle<()>>> {
    let sshd = config.security.as_ref().and_then(|s| s.sshd.as_ref());
    let (Some(sshd), Some(mut rule)) = (sshd, config.sshd_agent()) else { return Ok(None) };
    if sshd.own_addresses.is_none() {
        rule.own_addresses = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip()).collect();
    }
    let source = agents::SshdSource { path: sshd.log.clone(), rule };
    let id = config.identity.spiffe_id.clone();
    agents::start_sshd(source, node.clone(), id, clock.clone(), stop.clone()).map(Some)
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

/// SIGINT, SIGTERM, or the end of standard input where a parent asked for that.
struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    parent: watch::Receiver<bool>,
}

impl StopSignal {
    fn listen() -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::config("cannot listen for signals").because(&e);
        let (gone, parent) = watch::channel(false);
        if std::env::var_os("CAULDRON_EXIT_ON_STDIN_EOF").is_some() {
            std::thread::Builder::new()
                .name("parent".into())
                .spawn(move || {
                    // Whatever the parent writes is of no interest; its end is.
                    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                    let _ = gone.send(true);
                })
                .map_err(failed)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            parent,
        })
    }

    async fn wait(&mut self) {
        let parent = async {
            if self.parent.wait_for(|gone| *gone).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = parent => {}
        }
    }
}
