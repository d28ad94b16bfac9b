//! Hands: each connector has a thread of its own and does one thing at a time. A connector that hangs holds up nobody else: a
//! watch reports what it was doing as unknown and hands it nothing more until it answers.

mod desk;
pub mod elsewhere;
mod job;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cauldron_agents::connector::{Connector, Reading};
use cauldron_coordinator::action::Action;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_identity::FactId;
use cauldron_node_core::Input;
use cauldron_node_core::view::Time;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::clock::SystemClock;
use crate::config::External;
use crate::run::engine::{Effects, Handle, Question};
use crate::run::propose::Seen;
use crate::trace::Traceparent;
use desk::Desk;
use elsewhere::Elsewhere;
use job::Job;

/// Between two looks at whether somebody hangs, at most; a short limit is looked at more often.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long somebody who proposes waits for what the connector sees. A file is read in microseconds.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// Readings that are kept for whoever asked, at 64 KiB each for the largest file 4 MiB.
const READINGS_MAX: usize = 64;

/// The connectors of this node. A clone is the same hands.
#[derive(Clone)]
pub struct Hands(Arc<Shared>);

struct Shared {
    desks: Vec<Arc<Desk>>,
    elsewhere: Elsewhere,
    /// Answers to what no connector here does.
    unanswered: Mutex<Vec<Input>>,
    /// What reads brought, the newest last. Not kept over a restart: what was read is not the node's to store.
    readings: Mutex<VecDeque<(FactId, Reading)>>,
    clock: SystemClock,
    answer_within: Duration,
}

/// A connector, for status.
#[derive(Debug, Serialize)]
pub struct HandView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub operations: Vec<String>,
    /// How a stale owner is kept from acting.
    pub fencing: cauldron_agents::connector::Fencing,
    /// Sandboxes that it enforces.
    pub sandboxes: Vec<String>,
    /// `ok`, or `hangs`.
    pub state: &'static str,
    /// What it hangs on.
    pub doing: Option<String>,
    /// Since when it has not answered.
    pub since: Option<Time>,
    /// How often it has hung since the process started.
    pub hung: u64,
}

/// Why nobody can say what an action would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSeen {
    /// No connector here does this.
    NoConnector,
    /// It could not be carried out as things are.
    Refused(String),
    /// The connector does not answer.
    Silent(String),
}

impl Hands {
    /// Starts a thread for each connector, and one that watches them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        connectors: Vec<Box<dyn Connector + Send>>,
        externals: Vec<External>,
        node: &Handle,
        clock: &SystemClock,
        answer_within: Duration,
        stop: &Arc<AtomicBool>,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (desks, hands): (Vec<_>, Vec<_>) = connectors.into_iter().map(|c| (Arc::new(Desk::of(&*c)), c)).unzip();
        let (unanswered, readings) = (Mutex::default(), Mutex::default());
        let shared = Shared {
            desks,
            elsewhere: Elsewhere::new(externals),
            unanswered,
            readings,
            clock: clock.clone(),
            answer_within,
        };
        let all = Self(Arc::new(shared));
        let mut threads = Vec::new();
        for (desk, connector) in all.0.desks.iter().zip(hands) {
            let (desk, of, node, clock, stop) = (desk.clone(), all.clone(), node.clone(), clock.clone(), stop.clone());
            let work = move || desk.work(connector, &of, &node, &clock, &stop);
            threads.push(std::thread::Builder::new().name("connector".into()).spawn(work)?);
        }
        let (of, node, stop) = (all.clone(), node.clone(), stop.clone());
        let watch = std::thread::Builder::new().name("effects".into());
        threads.push(watch.spawn(move || of.watch(&node, &stop))?);
        Ok((all, threads))
    }

    /// What the connector sees of an action's object, and what the action would change.
    ///
    /// # Errors
    /// [`NotSeen`].
    pub async fn look(&self, action: Action) -> Result<Seen, NotSeen> {
        if self.0.elsewhere.connector(action.operation()).is_some() {
            let versioned = action.schema().about().versioned;
            let why =
                || NotSeen::Refused("its schema asks for versions, and an external connector has none".to_owned());
            return if versioned { Err(why()) } else { Ok(Seen::default()) };
        }
        let desk = self.desk(action.operation()).ok_or(NotSeen::NoConnector)?;
        let silent = || NotSeen::Silent(format!("connector {} does not answer", desk.name()));
        let (answer, answered) = oneshot::channel();
        desk.put(Job::Look { action: Box::new(action), answer });
        match tokio::time::timeout(LOOK_MAX, answered).await {
            Ok(Ok(seen)) => seen.map_err(NotSeen::Refused),
            _ => Err(silent()),
        }
    }

    /// Reads, for a session's step that policy let go ahead.
    ///
    /// # Errors
    /// [`NotSeen`].
    pub async fn read(&self, action: Action) -> Result<Reading, NotSeen> {
        let desk = self.desk(action.operation()).ok_or(NotSeen::NoConnector)?;
        let silent = || NotSeen::Silent(format!("connector {} does not answer", desk.name()));
        let (answer, answered) = oneshot::channel();
        desk.put(Job::Read { action: Box::new(action), answer });
        match tokio::time::timeout(LOOK_MAX, answered).await {
            Ok(Ok(reading)) => reading.map_err(NotSeen::Refused),
            _ => Err(silent()),
        }
    }

    /// What the read under a permit brought, while it is kept.
    #[must_use]
    pub fn reading(&self, permit: &FactId) -> Option<Reading> {
        let readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.iter().find(|(of, _)| of == permit).map(|(_, reading)| reading.clone())
    }

    /// The connectors whose hands are elsewhere.
    #[must_use]
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.0.elsewhere
    }

    /// Every connector.
    #[must_use]
    pub fn views(&self) -> Vec<HandView> {
        self.0.desks.iter().map(|desk| desk.view()).chain(self.0.elsewhere.views()).collect()
    }

    /// A sentence for each connector that hangs.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let hangs = |view: HandView| {
            let (doing, since) = (view.doing.unwrap_or_default(), view.since?);
            Some(format!(
                "connector {} hangs since {since} ({doing}); nothing more is handed to it until it answers",
                view.name
            ))
        };
        self.views().into_iter().filter_map(hangs).collect()
    }

    fn keep(&self, permit: FactId, reading: Reading) {
        let mut readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back((permit, reading));
        if readings.len() > READINGS_MAX {
            readings.pop_front();
        }
    }

    fn desk(&self, operation: &str) -> Option<&Arc<Desk>> {
        self.0.desks.iter().find(|desk| desk.does(operation))
    }

    /// Gives a job to whoever does it. Never blocks: the loop itself calls this.
    fn hand(&self, operation: &str, job: Job) {
        if self.0.elsewhere.connector(operation).is_some() {
            let answer = match &job {
                Job::Execute(permit, _) => {
                    self.0.elsewhere.started(permit);
                    None
                }
                other => elsewhere::unanswered(other.asked()),
            };
            return self.0.unanswered.lock().unwrap_or_else(PoisonError::into_inner).extend(answer);
        }
        match self.desk(operation) {
            Some(desk) => desk.put(job),
            None => {
                let answer = job.asked().unanswered(false, &format!("this node has no connector for {operation}"));
                self.0.unanswered.lock().unwrap_or_else(PoisonError::into_inner).extend(answer);
            }
        }
    }

    fn watch(&self, node: &Handle, stop: &AtomicBool) {
        let pause = (self.0.answer_within / 4).min(WATCH_EVERY);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(pause);
            for input in self.overdue(Instant::now()) {
                if node.input(input).is_err() {
                    return;
                }
            }
        }
    }

    /// What is to be said of connectors that hang.
    fn overdue(&self, now: Instant) -> Vec<Input> {
        let wall_ms = self.0.clock.now().wall_ms;
        let mut inputs = std::mem::take(&mut *self.0.unanswered.lock().unwrap_or_else(PoisonError::into_inner));
        inputs.extend(self.0.elsewhere.overdue(now));
        inputs.extend(self.0.desks.iter().flat_map(|desk| desk.overdue(now, wall_ms, self.0.answer_within)));
        inputs
    }
}

impl Effects for Hands {
    fn execute(&self, permit: Box<VerifiedPermit>, trace: Option<Traceparent>) {
        // The threads outlive the loop; if one has died, the permit's Started is on disk and is probed at the next start.
        let operation = permit.action().operation().to_owned();
        self.hand(&operation, Job::Execute(permit, trace));
    }

    fn probe(&self, question: Question) {
        let operation = question.operation.clone();
        self.hand(&operation, Job::Probe(question));
    }

    fn version(&self, permit: FactId, operation: &str, object: String) {
        self.hand(operation, Job::Version { permit, object });
    }

    fn check(&self, question: Question, names: Vec<String>) {
        let operation = question.operation.clone();
        self.hand(&operation, Job::Check { question, names });
    }

    fn undo(&self, undo: Box<VerifiedUndo>) {
        let operation = undo.action().operation().to_owned();
        self.hand(&operation, Job::Undo(undo));
    }
}
