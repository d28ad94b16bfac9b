//! Runs the agents of this node: follows their sources, hands lines in, and turns drafts into proposals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cauldron_agents::ProposalDraft;
use cauldron_agents::host::{Agent, Observation};
use cauldron_agents::security::sshd::{self, SshdBruteforce};
use cauldron_agents::source::{Checkpoint, FileFollower, SourceEvent};
use cauldron_identity::SpiffeId;
use cauldron_node_core::{Command, NodeCore, Refusal, Reply};

use crate::clock::SystemClock;
use crate::run::effects::Hands;
use crate::run::engine::Handle;
use crate::run::propose::{Seen, action_of, from_draft, resource_of_draft};
use cauldron_coordinator::action::Catalogue;

/// Between two looks at a log that has no news: quick enough for the eye, cheap enough for a small box.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at which of the agent's proposals have come to their end.
const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// Between two checkpoints of how far the log was read.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Drafts that wait at the same time, at up to 16 KiB of evidence each. The node takes 20 per agent before people decide some.
const HELD_BACK_MAX: usize = 256;
/// Bytes at the end of a log in which its newest stamp is looked for: the longest line that is read.
const TAIL_BYTES: u64 = cauldron_agents::source::LINE_BYTES_MAX as u64;

/// What the sshd agent needs.
#[derive(Debug, Clone)]
pub struct SshdSource {
    /// The log.
    pub path: PathBuf,
    /// The rule.
    pub rule: sshd::Config,
}

/// Starts the sshd agent on a thread of its own; it ends when `stop` turns true. Only this agent ends if it fails.
///
/// # Errors
/// When the thread cannot be started.
pub fn start_sshd(
    source: SshdSource,
    node: Handle,
    hands: Hands,
    spiffe_id: SpiffeId,
    clock: SystemClock,
    stop: Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("agent-sshd".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => Runner::new(source, node, hands, spiffe_id, clock).run(&runtime, &stop),
            Err(error) => tracing::error!(%error, "the sshd agent cannot start"),
        }
    })
}

struct Runner {
    agent: SshdBruteforce,
    source: SshdSource,
    node: Handle,
    hands: Hands,
    spiffe_id: SpiffeId,
    clock: SystemClock,
    /// Intents of this agent that the agent has been told of, and whether something still comes of them.
    told: BTreeMap<String, bool>,
    /// Drafts that could not be recorded, e.g. because too many proposals are open, by what they are about; tried again.
    held_back: BTreeMap<String, (ProposalDraft, Instant)>,
    /// The end of the log as the first line was read, until the year of its stamps is known.
    undated: Option<Option<Vec<u8>>>,
    /// Whether it was told that drafts wait.
    stuck: bool,
    note: String,
    noted: Option<Checkpoint>,
}

impl Runner {
    fn new(source: SshdSource, node: Handle, hands: Hands, spiffe_id: SpiffeId, clock: SystemClock) -> Self {
        let note = format!("source/{}", source.path.display());
        let agent = SshdBruteforce::new(source.rule.clone());
        let (told, held_back) = (BTreeMap::new(), BTreeMap::new());
        Self {
            agent,
            source,
            node,
            hands,
            spiffe_id,
            clock,
            told,
            held_back,
            undated: Some(None),
            stuck: false,
            note,
            noted: None,
        }
    }

    fn run(&mut self, runtime: &tokio::runtime::Runtime, stop: &AtomicBool) {
        let note = self.note.clone();
        let stored = runtime.block_on(self.node.read(move |core| core.note(&note).map(<[u8]>::to_vec)));
        let resume: Option<Checkpoint> = stored.ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut follower = FileFollower::new(&self.source.path, resume);
        self.settle(runtime);
        let (mut settled, mut noted) = (Instant::now(), Instant::now());
        // The node takes no proposals for the moment.
        let mut blocked = false;
        while !stop.load(Ordering::Relaxed) {
            let mut drafts = Vec::new();
            let polled = follower.poll(&mut |event| self.observe(event, &mut drafts));
            drafts.into_iter().for_each(|draft| self.hold_back(draft));
            if settled.elapsed() >= SETTLE_EVERY {
                self.settle(runtime);
                (settled, blocked) = (Instant::now(), false);
            }
            blocked = blocked || !self.propose(runtime);
            if noted.elapsed() >= CHECKPOINT_EVERY {
                self.checkpoint(&follower);
                noted = Instant::now();
            }
            if polled == cauldron_agents::source::follow::Polled::Idle {
                std::thread::sleep(POLL_EVERY);
            }
        }
        self.checkpoint(&follower);
    }

    fn observe(&mut self, event: SourceEvent<'_>, drafts: &mut Vec<ProposalDraft>) {
        match event {
            SourceEvent::Line(line) => {
                self.date(line.bytes);
                self.agent.handle(Observation::Line(line));
            }
            SourceEvent::TooLong { len, at } => {
                self.agent.too_long(at.line_no);
                tracing::warn!(len, line = at.line_no, "a log line is too long and was skipped");
            }
            SourceEvent::Missing { path, why } => {
                tracing::warn!(path = %path.display(), why, "the log cannot be read; trying again until it can");
            }
            SourceEvent::Recovered { path } => tracing::info!(path = %path.display(), "the log can be read again"),
            SourceEvent::Rotated { path } | SourceEvent::Truncated { path } => {
                tracing::info!(path = %path.display(), "the log starts anew");
                self.agent.handle(Observation::SourceRestarted);
            }
        }
        while let Some(draft) = self.agent.poll() {
            drafts.push(draft);
        }
    }

    /// Decides the year at the first line without one, wherever reading begins and whenever the log appears.
    fn date(&mut self, line: &[u8]) {
        let Some(tail) = &mut self.undated else { return };
        let tail = tail.get_or_insert_with(|| tail_of(&self.source.path).unwrap_or_default());
        let now_s = i64::try_from(self.clock.now().wall_ms / 1000).unwrap_or(i64::MAX);
        if let Some(year) = sshd::reference_year(line, tail, now_s) {
            self.agent.set_reference_year(year);
            self.undated = None;
        }
    }

    /// Queues a draft. One per object: a later finding says more.
    fn hold_back(&mut self, draft: ProposalDraft) {
        if self.held_back.len() >= HELD_BACK_MAX && !self.held_back.contains_key(&draft.object) {
            // It is found again if it goes on, and after a restart.
            self.agent.handle(Observation::Settled { object: &draft.object });
            return;
        }
        self.held_back.insert(draft.object.clone(), (draft, Instant::now()));
    }

    /// Proposes what is held back, oldest first, until the node takes no more. Whether it took all.
    fn propose(&mut self, runtime: &tokio::runtime::Runtime) -> bool {
        let mut waiting: Vec<(i64, String)> =
            self.held_back.values().map(|(draft, _)| (draft.window_end_s, draft.object.clone())).collect();
        waiting.sort_unstable();
        let ttl = Duration::from_secs(self.source.rule.ttl_s.into());
        for (_, object) in waiting {
            let Some((draft, since)) = self.held_back.get(&object).cloned() else { continue };
            if !self.agent.still_stands(&draft) || since.elapsed() > ttl {
                tracing::info!(object, "not proposed any more: the source has logged in, or too much time has passed");
                self.held_back.remove(&object);
                self.agent.handle(Observation::Settled { object: &object });
                continue;
            }
            let intent = draft.intent_key.clone();
            match self.ask(draft, runtime) {
                Ok(()) => {
                    self.held_back.remove(&object);
                    self.told.insert(intent, true);
                }
                Err(why) => {
                    if !std::mem::replace(&mut self.stuck, true) {
                        let waiting = self.held_back.len();
                        tracing::warn!(waiting, code = why.code, reason = why.reason, "not recorded yet; trying again");
                    }
                    return false;
                }
            }
        }
        if std::mem::take(&mut self.stuck) {
            tracing::info!("everything found is recorded or settled again");
        }
        true
    }

    fn ask(&self, draft: ProposalDraft, runtime: &tokio::runtime::Runtime) -> Result<(), Refusal> {
        let object = draft.object.clone();
        // The root of the trace that the proposal's facts carry on.
        let span = tracing::info_span!("propose", object);
        let _inside = span.enter();
        let (catalogue, source) = (Catalogue::built_in(), self.source.path.display().to_string());
        let seen = self.look(&draft, runtime);
        let proposal = match from_draft(draft, &self.spiffe_id, catalogue, &source, seen) {
            Ok(proposal) => Box::new(proposal),
            Err(why) => {
                tracing::error!(object, why, "the agent's draft is not a valid proposal");
                return Ok(());
            }
        };
        let traceparent = Some(crate::telemetry::traceparent());
        if let Reply::Recorded(id) = self.node.command_blocking(Command::Propose { proposal, traceparent })? {
            tracing::info!(id = %id.short(), object, "proposed");
        }
        Ok(())
    }

    /// What would change, as the connector sees it. A finding that nobody can look at is still one: people see that the dry run is missing,
    /// and policy may ask for it.
    fn look(&self, draft: &ProposalDraft, runtime: &tokio::runtime::Runtime) -> Seen {
        let Ok(action) = action_of(draft, Catalogue::built_in()) else { return Seen::default() };
        let Ok(resource) = resource_of_draft(&action, &self.spiffe_id) else { return Seen::default() };
        // Moved to another machine: what stands here says nothing of that.
        match runtime.block_on(self.node.read(move |core| core.owned_elsewhere(&resource))) {
            Ok(None) => {}
            _ => return Seen::default(),
        }
        runtime.block_on(self.hands.look(action)).unwrap_or_else(|why| {
            tracing::warn!(object = draft.object, ?why, "proposed without a dry run");
            Seen::default()
        })
    }

    /// Tells the agent which of its proposals exist, and which have come to their end.
    fn settle(&mut self, runtime: &tokio::runtime::Runtime) {
        let (now, name) = (self.clock.now(), self.agent.info().name.clone());
        let read = self.node.read(move |core: &NodeCore| core.agent_intents(now, &name));
        let Ok(intents) = runtime.block_on(read) else { return };
        for intent in &intents {
            let before = self.told.insert(intent.intent_key.clone(), intent.busy);
            if before.is_none() {
                self.agent.handle(Observation::Opened { intent_key: &intent.intent_key });
            }
            if !intent.busy && before != Some(false) {
                self.agent.handle(Observation::Settled { object: &intent.object });
            }
        }
        // What is older than the core's day is settled for good.
        self.told.retain(|key, _| intents.iter().any(|i| i.intent_key == *key));
    }

    fn checkpoint(&mut self, follower: &FileFollower) {
        // Not past a finding that is not recorded: after a restart it is found again.
        if !self.held_back.is_empty() {
            return;
        }
        let Some(checkpoint) = follower.checkpoint(self.agent.resume_at()) else { return };
        if self.noted == Some(checkpoint) {
            return;
        }
        let Ok(value) = serde_json::to_vec(&checkpoint) else { return };
        if self.node.command_blocking(Command::Remember { name: self.note.clone(), value }).is_ok() {
            self.noted = Some(checkpoint);
        }
    }
}

/// The last bytes of the log, for the stamp of its newest line.
fn tail_of(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}
