//! Runs the agents of this node: follows their sources, hands lines in, and turns drafts into proposals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cauldron_agents::host::{Agent, Observation};
use cauldron_agents::security::sshd::{self, SshdBruteforce};
use cauldron_agents::source::{Checkpoint, FileFollower, SourceEvent};
use cauldron_identity::SpiffeId;
use cauldron_node_core::{Command, NodeCore, Reply};

use crate::clock::SystemClock;
use crate::run::engine::Handle;
use crate::run::propose::from_draft;

/// Between two looks at a log that has no news: quick enough for the eye, cheap enough for a small box.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at which of the agent's proposals have come to their end.
const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// Between two checkpoints of how far the log was read.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

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
    spiffe_id: SpiffeId,
    clock: SystemClock,
    stop: Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("agent-sshd".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        match runtime {
            Ok(runtime) => Runner::new(source, node, spiffe_id, clock).run(&runtime, &stop),
            Err(error) => tracing::error!(%error, "the sshd agent cannot start"),
        }
    })
}

struct Runner {
    agent: SshdBruteforce,
    source: SshdSource,
    node: Handle,
    spiffe_id: SpiffeId,
    clock: SystemClock,
    /// Intents of this agent that the agent has been told of, and whether something still comes of them.
    told: BTreeMap<String, bool>,
    /// Drafts that could not be recorded, e.g. because too many proposals are open; tried again.
    held_back: Vec<cauldron_agents::ProposalDraft>,
    note: String,
    noted: Option<Checkpoint>,
}

impl Runner {
    fn new(mut source: SshdSource, node: Handle, spiffe_id: SpiffeId, clock: SystemClock) -> Self {
        source.rule.reference_year = reference_year(&source, &clock);
        let note = format!("source/{}", source.path.display());
        let agent = SshdBruteforce::new(source.rule.clone());
        Self { agent, source, node, spiffe_id, clock, told: BTreeMap::new(), held_back: Vec::new(), note, noted: None }
    }

    fn run(&mut self, runtime: &tokio::runtime::Runtime, stop: &AtomicBool) {
        let note = self.note.clone();
        let stored = runtime.block_on(self.node.read(move |core| core.note(&note).map(<[u8]>::to_vec)));
        let resume: Option<Checkpoint> = stored.ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut follower = FileFollower::new(&self.source.path, resume);
        self.settle(runtime);
        let (mut settled, mut noted) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            let mut waiting = Vec::new();
            let polled = follower.poll(&mut |event| self.observe(event, &mut waiting));
            self.propose(waiting);
            if settled.elapsed() >= SETTLE_EVERY {
                self.settle(runtime);
                let again = std::mem::take(&mut self.held_back);
                self.propose(again);
                settled = Instant::now();
            }
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

    fn observe(&mut self, event: SourceEvent<'_>, drafts: &mut Vec<cauldron_agents::ProposalDraft>) {
        match event {
            SourceEvent::Line(line) => self.agent.handle(Observation::Line(line)),
            SourceEvent::TooLong { len, at } => {
                self.agent.too_long();
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

    /// Proposes; what cannot be recorded now is held back and tried again.
    fn propose(&mut self, drafts: Vec<cauldron_agents::ProposalDraft>) {
        for draft in drafts {
            let kept = draft.clone();
            let (object, intent) = (draft.object.clone(), draft.intent_key.clone());
            let source = self.source.path.display().to_string();
            let proposal = match from_draft(draft, &self.spiffe_id, &source) {
                Ok(proposal) => Box::new(proposal),
                Err(why) => {
                    tracing::error!(object, why, "the agent's draft is not a valid proposal");
                    continue;
                }
            };
            let traceparent = Some(crate::telemetry::traceparent());
            match self.patiently(|| Command::Propose { proposal: proposal.clone(), traceparent: traceparent.clone() }) {
                Ok(Reply::Recorded(id)) => {
                    tracing::info!(id = %id.short(), object, "proposed");
                    self.told.insert(intent, true);
                }
                Ok(_) => {
                    self.told.insert(intent, true);
                }
                Err(why) => {
                    if self.held_back.is_empty() {
                        tracing::warn!(object, code = why.code, reason = why.reason, "not recorded yet; trying again");
                    }
                    self.held_back.push(kept);
                }
            }
        }
    }

    /// Asks again while the node is only starting up.
    fn patiently(&self, command: impl Fn() -> Command) -> Result<Reply, cauldron_node_core::Refusal> {
        for _ in 0..60 {
            match self.node.command_blocking(command()) {
                Err(why) if matches!(why.code, "confirming" | "not_enrolled" | "read_only") => {
                    std::thread::sleep(POLL_EVERY);
                }
                answer => return answer,
            }
        }
        self.node.command_blocking(command())
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

/// The year of the log's first stamp, if its stamps have none: read off the first line and the clock.
fn reference_year(source: &SshdSource, clock: &SystemClock) -> i16 {
    use std::io::{BufRead, BufReader, Read};
    let now_s = i64::try_from(clock.now().wall_ms / 1000).unwrap_or(i64::MAX);
    let mut line = Vec::new();
    let first = std::fs::File::open(&source.path).map(|f| BufReader::new(f.take(4096)).read_until(b'\n', &mut line));
    match first {
        Ok(Ok(_)) => sshd::reference_year(&line, now_s),
        _ => None,
    }
    .or_else(|| sshd::reference_year(b"Jan  1 00:00:00 host sshd[1]: x", now_s))
    .unwrap_or(source.rule.reference_year)
}
