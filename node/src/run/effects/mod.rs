//! The hands' thread: carries permits to connectors, one at a time, and sweeps effects whose time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cauldron_agents::connector::{Connector, Effect, Ended, Probe as Trace};
use cauldron_coordinator::owner::VerifiedPermit;
use cauldron_identity::Confidence;
use cauldron_node_core::{EffectResult, Input, Probe};

use crate::clock::SystemClock;
use crate::run::engine::{Effects, Handle, Question};
use crate::trace::Traceparent;

/// Between two sweeps: how late a block may leave after its time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

enum Job {
    Execute(Box<VerifiedPermit>, Option<Traceparent>),
    Probe(Question),
}

/// Hands jobs to the thread. The queue is bounded by the number of open permits, which the core bounds.
pub struct Worker(Sender<Job>);

impl Effects for Worker {
    fn execute(&self, permit: Box<VerifiedPermit>, trace: Option<Traceparent>) {
        // The thread outlives the loop; if it has died, the permit's Started is on disk and is probed at the next start.
        let _ = self.0.send(Job::Execute(permit, trace));
    }

    fn probe(&self, question: Question) {
        let _ = self.0.send(Job::Probe(question));
    }
}

/// Starts the thread with the connectors of this node.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    mut connectors: Vec<Box<dyn Connector + Send>>,
    node: Handle,
    clock: SystemClock,
    stop: Arc<AtomicBool>,
) -> std::io::Result<(Worker, JoinHandle<()>)> {
    let (sender, jobs) = channel();
    let thread = std::thread::Builder::new()
        .name("effects".into())
        .spawn(move || work(&mut connectors, &node, &clock, &jobs, &stop))?;
    Ok((Worker(sender), thread))
}

fn work(
    connectors: &mut [Box<dyn Connector + Send>],
    node: &Handle,
    clock: &SystemClock,
    jobs: &Receiver<Job>,
    stop: &AtomicBool,
) {
    let mut swept = std::time::Instant::now() - SWEEP_EVERY;
    while !stop.load(Ordering::Relaxed) {
        let inputs = match jobs.recv_timeout(SWEEP_EVERY) {
            Ok(Job::Execute(permit, trace)) => {
                let span = tracing::info_span!("execute", permit = %permit.permit().short());
                trace.inspect(|parent| parent.adopt(&span));
                span.in_scope(|| execute(connectors, &permit, clock))
            }
            Ok(Job::Probe(question)) => vec![probe(connectors, &question)],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if inputs.into_iter().any(|input| node.input(input).is_err()) {
            return;
        }
        if swept.elapsed() >= SWEEP_EVERY {
            swept = std::time::Instant::now();
            for ended in sweep(connectors, clock) {
                if node.input(ended).is_err() {
                    return;
                }
            }
        }
    }
}

fn connector<'c>(
    connectors: &'c mut [Box<dyn Connector + Send>],
    operation: &str,
) -> Option<&'c mut Box<dyn Connector + Send>> {
    connectors.iter_mut().find(|c| c.operations().contains(&operation))
}

fn execute(connectors: &mut [Box<dyn Connector + Send>], permit: &VerifiedPermit, clock: &SystemClock) -> Vec<Input> {
    let mut replaced = None;
    let result = match connector(connectors, permit.action().operation()) {
        None => {
            let reason = format!("this node has no connector for {}", permit.action().operation());
            EffectResult::Failed { reason }
        }
        Some(hand) => match hand.execute(permit, clock.now().wall_ms) {
            Ok(outcome) => {
                replaced = outcome.replaced.clone();
                done(&outcome)
            }
            // Whether anything happened is what the connector can see by itself.
            Err(error) => match hand.probe(&permit.idempotency_key()) {
                Ok(Trace::Absent) => EffectResult::Failed { reason: error.to_string() },
                Ok(Trace::Applied | Trace::Ended) => {
                    EffectResult::Done { effect_ref: String::new(), note: error.to_string(), until_ms: None }
                }
                Err(second) => EffectResult::Unknown { reason: format!("{error}; and the probe failed: {second}") },
            },
        },
    };
    if let EffectResult::Failed { reason } | EffectResult::Unknown { reason } = &result {
        tracing::warn!(permit = %permit.permit().short(), reason, "the effect did not happen as permitted");
    }
    let ended = replaced.and_then(|e| ended(&e));
    [Input::Executed { permit: permit.permit(), result }].into_iter().chain(ended).collect()
}

/// `None` for a line that somebody wrote with an id of their own.
fn ended(effect: &Ended) -> Option<Input> {
    effect.permit_id.parse().ok().map(|permit| Input::Ended { permit })
}

fn done(outcome: &cauldron_agents::connector::Outcome) -> EffectResult {
    let note = match outcome.effect {
        Effect::Applied => "applied",
        Effect::AlreadyApplied => "had been applied under this permit before; nothing was done twice",
        Effect::AlreadyEnded => "had been applied under this permit before, and its time was over",
        Effect::AlreadyListed => "a foreign line lists it already; that line was left alone",
    };
    EffectResult::Done { effect_ref: outcome.effect_ref.clone(), note: note.into(), until_ms: outcome.until_ms }
}

fn probe(connectors: &mut [Box<dyn Connector + Send>], question: &Question) -> Input {
    let Question { permit, operation, idempotency_key } = question;
    let probe = match connector(connectors, operation).map(|hand| hand.probe(idempotency_key)) {
        Some(Ok(Trace::Applied)) => Probe::Applied,
        Some(Ok(Trace::Ended)) => Probe::Ended,
        Some(Ok(Trace::Absent)) => Probe::Absent,
        Some(Err(error)) => {
            tracing::warn!(%error, permit = %permit.short(), "the effect of a permit cannot be probed");
            Probe::Unclear
        }
        None => Probe::Unclear,
    };
    Input::Probed { permit: *permit, probe }
}

/// Removes what is over; connectors that cannot are asked again at the next sweep.
fn sweep(connectors: &mut [Box<dyn Connector + Send>], clock: &SystemClock) -> Vec<Input> {
    let mut over = Vec::new();
    // A clock that nobody vouches for must not end what people permitted.
    if clock.now().confidence == Confidence::Unknown {
        return over;
    }
    for hand in connectors {
        match hand.sweep(clock.now().wall_ms) {
            Ok(gone) => over.extend(gone.iter().filter_map(ended)),
            Err(error) => tracing::warn!(%error, "effects whose time is over cannot be removed; trying again"),
        }
    }
    over
}
