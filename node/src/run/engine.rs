//! The one loop: the only place where the node core meets the disk and the wires.
//!
//! A thread of its own takes jobs, hands them to the core, drains the outputs, commits everything that must be durable
//! in one transaction (group commit), and only then carries out the rest, in order. Nothing leaves this node before the
//! facts it rests on are on disk.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_crdt::doc::What;
use cauldron_identity::{FactId, SpiffeId};
use cauldron_node_core::{Command, Event, Input, LinkId, NodeCore, Output, Record, Refusal, Reply};
use cauldron_store::{Store, StoreError, WriteBatch};
use tokio::sync::{broadcast, oneshot};

use crate::clock::SystemClock;
use crate::run::quiet::Quiet;
use crate::trace::Traceparent;

/// Jobs that may wait: at 320 KiB a frame, 80 MiB at the very worst. A full queue slows the producers down
/// (backpressure), it never grows.
const JOBS_MAX: usize = 256;
/// Jobs taken into one commit: enough to amortise an fsync, few enough to keep latency below a few milliseconds.
const BATCH_MAX: usize = 256;
/// Events that a slow follower of `/v1/events` may lag behind before it is told that it missed some.
const EVENTS_MAX: usize = 1_024;
/// Bytes of the index in one commit: a stop must not take the memory that the log does without.
const INDEX_COMMIT: usize = 4 * 1024 * 1024;
/// The longest sleep without a timer; only bounds the drift of the clock mark.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// A place to send frames to. The mesh implements it.
pub trait Wire: Send {
    /// Queues one frame; a link that is gone is not an error here, the core hears of it by itself.
    fn send(&self, link: LinkId, bytes: Vec<u8>);
    /// Closes a link with a coded reason.
    fn close(&self, link: LinkId, detail: &str);
    /// Ends a link that nobody needs any more.
    fn release(&self, link: LinkId);
    /// Tries once to reach a member; the answer comes back as an input.
    fn seek(&self, spiffe_id: SpiffeId, addresses: Vec<String>);
}

/// Where permitted effects are carried out.
pub trait Effects: Send {
    /// Carries out a permit, as part of its trace; the result comes back as an input.
    fn execute(&self, permit: Box<VerifiedPermit>, trace: Option<Traceparent>);
    /// Finds out whether the effect of a permit is there; the answer comes back as an input.
    fn probe(&self, question: Question);
    /// Finds out at which version the object of a permit is; the answer comes back as an input.
    fn version(&self, permit: FactId, operation: &str, object: String);
    /// Finds out whether checks hold after an effect; the answer comes back as an input.
    fn check(&self, question: Question, names: Vec<String>);
    /// Takes an effect back; the result comes back as an input.
    fn undo(&self, undo: Box<VerifiedUndo>);
}

/// Whether the effect of a permit is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The permit.
    pub permit: FactId,
    /// Whose connector to ask.
    pub operation: String,
    /// What it recognises the effect by.
    pub idempotency_key: String,
}

/// A look at the core's state.
type Read = Box<dyn FnOnce(&NodeCore) -> Answer + Send>;
/// What a read found, ready to be told.
type Answer = Box<dyn FnOnce() + Send>;

enum Job {
    Input(Input),
    Command(Box<Command>, oneshot::Sender<Result<Reply, Refusal>>),
    Read(Read),
    Stop,
}

/// A way to the loop; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    jobs: SyncSender<Job>,
    events: broadcast::Sender<Event>,
    commits: Arc<Commits>,
}

/// What the loop counts.
#[derive(Debug, Default)]
pub struct Commits {
    /// Durable commits.
    pub commits: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Microseconds spent in them.
    pub micros: AtomicU64,
}

/// The loop has ended; the process is about to.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl Handle {
    /// Hands in something that happened.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn input(&self, input: Input) -> Result<(), Stopped> {
        self.jobs.send(Job::Input(input)).map_err(|_| Stopped)
    }

    /// The same, without holding up a runtime's thread while the queue is full.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn input_async(&self, input: Input) -> Result<(), Stopped> {
        match self.jobs.try_send(Job::Input(input)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(job)) => {
                let jobs = self.jobs.clone();
                tokio::task::spawn_blocking(move || jobs.send(job)).await.map_err(|_| Stopped)?.map_err(|_| Stopped)
            }
        }
    }

    /// Asks for something and waits until the answer is durable.
    ///
    /// # Errors
    /// The node's refusal; a stopping node refuses everything.
    pub async fn command(&self, command: Command) -> Result<Reply, Refusal> {
        let stopping = || Refusal { code: "stopping", reason: "the node is stopping; ask again when it runs".into() };
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.clone();
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Command(Box::new(command), answer))).await;
        match sent {
            Ok(Ok(())) => answered.await.unwrap_or_else(|_| Err(stopping())),
            _ => Err(stopping()),
        }
    }

    /// Like [`Handle::command`], for threads without a runtime.
    ///
    /// # Errors
    /// The node's refusal.
    pub fn command_blocking(&self, command: Command) -> Result<Reply, Refusal> {
        let stopping = || Refusal { code: "stopping", reason: "the node is stopping; ask again when it runs".into() };
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Command(Box::new(command), answer)).map_err(|_| stopping())?;
        answered.blocking_recv().unwrap_or_else(|_| Err(stopping()))
    }

    /// Reads the core's state in the loop, between two inputs.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&NodeCore) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Read(Box::new(move |core| {
            let found = read(core);
            // The asker may be gone; then nobody needs the answer.
            Box::new(move || drop(answer.send(found)))
        }));
        let jobs = self.jobs.clone();
        tokio::task::spawn_blocking(move || jobs.send(job)).await.map_err(|_| Stopped)?.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Follows events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What the loop counted.
    #[must_use]
    pub fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Ends the loop after what is queued before.
    pub fn stop(&self) {
        let _ = self.jobs.send(Job::Stop);
    }
}

/// The loop's own things.
pub struct Engine {
    core: NodeCore,
    store: Arc<dyn Store>,
    clock: SystemClock,
    wire: Box<dyn Wire>,
    effects: Box<dyn Effects>,
    jobs: Receiver<Job>,
    /// The way back in, for work done on other threads.
    back: SyncSender<Job>,
    events: broadcast::Sender<Event>,
    commits: Arc<Commits>,
    waiting: std::collections::BTreeMap<u64, oneshot::Sender<Result<Reply, Refusal>>>,
    next_ticket: u64,
    wake_at_ms: Option<u64>,
    reads: Vec<Read>,
    quiet: Quiet,
}

/// A channel into a loop that does not run yet, so that wires and effects can be built with a way back.
pub struct Pending {
    handle: Handle,
    jobs: Receiver<Job>,
}

/// Opens the channel.
#[must_use]
pub fn pending() -> Pending {
    let (sender, jobs) = sync_channel(JOBS_MAX);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    Pending { handle: Handle { jobs: sender, events, commits: Arc::default() }, jobs }
}

impl Pending {
    /// The way in.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the loop on a thread of its own. The thread ends with the store's first write error, which is fatal.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        self,
        core: NodeCore,
        store: Arc<dyn Store>,
        clock: SystemClock,
        wire: Box<dyn Wire>,
        effects: Box<dyn Effects>,
    ) -> std::io::Result<std::thread::JoinHandle<Result<(), StoreError>>> {
        let Self { handle, jobs } = self;
        let mut engine = Engine {
            core,
            store,
            clock,
            wire,
            effects,
            jobs,
            back: handle.jobs,
            events: handle.events,
            commits: handle.commits,
            waiting: std::collections::BTreeMap::new(),
            next_ticket: 1,
            wake_at_ms: None,
            reads: Vec::new(),
            quiet: Quiet::default(),
        };
        std::thread::Builder::new().name("core".into()).spawn(move || engine.run())
    }
}

impl Engine {
    fn run(&mut self) -> Result<(), StoreError> {
        self.carry_out()?;
        loop {
            let first = match self.jobs.recv_timeout(self.sleep()) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let mut stop = first.is_some_and(|job| self.take(job).is_break());
            for _ in 1..BATCH_MAX {
                match self.jobs.try_recv() {
                    Ok(job) if !stop => stop = self.take(job).is_break(),
                    _ => break,
                }
            }
            let now = self.clock.now();
            if self.wake_at_ms.is_some_and(|at| at <= now.boottime_ms) {
                self.core.handle(now, Input::Tick);
            }
            self.carry_out()?;
            let answers: Vec<Answer> =
                std::mem::take(&mut self.reads).into_iter().map(|read| read(&self.core)).collect();
            // What lacks a damaged fact is told to nobody.
            self.sound()?;
            answers.into_iter().for_each(|answer| answer());
            if stop {
                self.carry_out()?;
                return self.leave_index();
            }
        }
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now().boottime_ms;
        self.wake_at_ms.map_or(SLEEP_MAX, |at| Duration::from_millis(at.saturating_sub(now))).min(SLEEP_MAX)
    }

    fn take(&mut self, job: Job) -> ControlFlow<()> {
        match job {
            Job::Input(input) => self.core.handle(self.clock.now(), input),
            Job::Command(command, answer) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.waiting.insert(ticket, answer);
                self.core.handle(self.clock.now(), Input::Command { ticket, command });
            }
            // Answered after the commit: nobody may learn of a fact that could still be lost.
            Job::Read(read) => self.reads.push(read),
            Job::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Drains the core: one commit for all records, then everything else in order.
    fn carry_out(&mut self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        let mut rest = Vec::new();
        loop {
            match self.core.poll() {
                Output::Persist(record) => put(&mut batch, record),
                Output::Idle { until } => {
                    self.wake_at_ms = until.map(|(at, _)| at);
                    break;
                }
                other => rest.push(other),
            }
        }
        // Nothing that rests on a fact which could not be read gets out.
        self.sound()?;
        self.commit(batch)?;
        for output in rest {
            self.act(output);
        }
        Ok(())
    }

    /// Whether every record came back as it was kept.
    fn sound(&self) -> Result<(), StoreError> {
        let Some(damage) = self.core.damage() else { return Ok(()) };
        tracing::error!(%damage, "a record of the store is damaged; the node stops");
        Err(StoreError::Corrupt { place: damage.place.clone(), detail: damage.detail.clone() })
    }

    /// After everything else is on disk: what lets the next start do without reading the facts. Its head is the last
    /// commit, and the first thing that the next start takes away.
    fn leave_index(&mut self) -> Result<(), StoreError> {
        let (mut batch, mut bytes) = (WriteBatch::new(), 0);
        for record in self.core.index() {
            bytes += record.value.as_ref().map_or(0, Vec::len);
            put(&mut batch, record);
            if bytes >= INDEX_COMMIT {
                self.store.commit(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.commit(batch)
    }

    fn commit(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (records, started) = (batch.len() as u64, std::time::Instant::now());
        self.store.commit(batch).inspect_err(|error| {
            tracing::error!(%error, "the store did not confirm a write; the node stops, nothing unconfirmed was sent");
        })?;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.commits.commits.fetch_add(1, Ordering::Relaxed);
        self.commits.records.fetch_add(records, Ordering::Relaxed);
        self.commits.micros.fetch_add(micros, Ordering::Relaxed);
        Ok(())
    }

    /// What follows from an event here, and what an operator reads. A fact joins the trace that it carries, so one proposal is one trace across nodes.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Stored { id, kind, scope, author, traceparent } => {
                let span = tracing::info_span!("fact", otel.name = kind, id = %id.short(), kind, scope, author);
                if let Some(parent) = traceparent.as_ref().and_then(|t| t.parse::<Traceparent>().ok()) {
                    parent.adopt(&span);
                }
                span.in_scope(|| tracing::debug!("stored"));
            }
            Event::Peer { spiffe_id, admitted: true } => tracing::info!(peer = %spiffe_id, "peer admitted"),
            Event::Peer { spiffe_id, admitted: false } => tracing::info!(peer = %spiffe_id, "peer gone"),
            Event::Refused { code, detail } => {
                if let Some(silent) = self.quiet.tell(code, std::time::Instant::now()) {
                    tracing::warn!(code, detail, silent, "refused");
                }
            }
            Event::Document { scope, doc, what } => match what {
                What::Change(fact) => tracing::debug!(scope, doc, fact = %fact.short(), "document changed"),
                What::Base => tracing::info!(scope, doc, "document taken in one piece; the facts behind it follow"),
                What::Epoch(epoch) => tracing::info!(scope, doc, epoch, "the document goes on in another epoch"),
            },
            Event::Fork { author } => {
                tracing::error!(author, "two facts signed for one place of a chain; the evidence is kept");
            }
            Event::Term { n, sequencer } => {
                tracing::warn!(n, sequencer, "a new term: the council named who writes the authority chain")
            }
            Event::Frozen { seq } => {
                tracing::error!(
                    seq,
                    "the sequencer signed two entries for one place: authority is frozen until a new term"
                );
            }
            Event::ClockVouched { wall_ms } => {
                self.clock.confirm(*wall_ms);
                tracing::info!("peers vouch for this machine's clock");
            }
            Event::BrokenGlass { id, proposal, reason } => {
                tracing::warn!(%id, %proposal, reason, "somebody broke the glass: this skips approvals, and must be reviewed");
            }
            Event::Attention { proposal, call, how } => {
                tracing::warn!(%proposal, what = call.name(), how, "a person must look at an action");
            }
            Event::ClockReset { wall_ms, isolated } => {
                self.clock.confirm(*wall_ms);
                tracing::warn!(wall_ms, isolated, "the operator reset the clock");
            }
            Event::State { state, reason } => tracing::info!(state, reason, "node state"),
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Send { link, bytes, .. } => self.wire.send(link, bytes),
            Output::Close { link, detail } => self.wire.close(link, &detail),
            Output::Dial { spiffe_id, addresses } => self.wire.seek(spiffe_id, addresses),
            Output::Release { link } => self.wire.release(link),
            Output::Execute(permit) => {
                let trace = self.core.traceparent_of(&permit.permit()).and_then(|t| t.parse().ok());
                self.effects.execute(permit, trace);
            }
            Output::Probe { permit, operation, idempotency_key } => {
                self.effects.probe(Question { permit, operation, idempotency_key });
            }
            Output::Version { permit, operation, object } => self.effects.version(permit, &operation, object),
            Output::Check { permit, operation, idempotency_key, names } => {
                self.effects.check(Question { permit, operation, idempotency_key }, names);
            }
            Output::Undo(undo) => self.effects.undo(undo),
            Output::Work(work) => {
                let (back, work) = (self.back.clone(), Arc::new(Mutex::new(Some(work))));
                let theirs = work.clone();
                let build = move || {
                    let work = theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
                    // A loop that has ended needs no document: the facts are on disk.
                    let done = work.map(|work| Job::Input(Input::Worked(Box::new(work.run(&crate::scratch::unpack)))));
                    let _ = done.map(|done| back.send(done));
                };
                if let Err(error) = std::thread::Builder::new().name("documents".into()).spawn(build) {
                    tracing::warn!(%error, "no thread for a document: all else waits until it is done");
                    if let Some(work) = work.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        let done = work.run(&crate::scratch::unpack);
                        self.core.handle(self.clock.now(), Input::Worked(Box::new(done)));
                    }
                }
            }
            Output::Reply { ticket, result } => {
                if let Some(answer) = self.waiting.remove(&ticket) {
                    // The asker may be gone; what it asked for is recorded all the same.
                    let _ = answer.send(result);
                }
            }
            Output::Event(event) => {
                self.note(&event);
                // Nobody may be listening.
                let _ = self.events.send(event);
            }
            Output::Persist(_) | Output::Idle { .. } => unreachable!("carry_out keeps these"),
        }
    }
}

fn put(batch: &mut WriteBatch, record: Record) {
    match record.value {
        Some(value) => {
            let kind = record.key.first().copied().unwrap_or_default();
            let value = cauldron_store::record::wrap(&record.key, kind, &value);
            batch.put(record.key, value)
        }
        None => batch.delete(record.key),
    };
}

/// A handle whose inputs a test reads itself.
#[cfg(test)]
pub(crate) fn inputs_for_tests() -> (Handle, Receiver<Input>) {
    let Pending { handle, jobs } = pending();
    let (sender, inputs) = sync_channel(JOBS_MAX);
    std::thread::spawn(move || {
        for job in jobs {
            if let Job::Input(input) = job
                && sender.send(input).is_err()
            {
                return;
            }
        }
    });
    (handle, inputs)
}
