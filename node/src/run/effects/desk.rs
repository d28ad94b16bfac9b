//! One connector's queue, its thread, and what the watch sees of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cauldron_agents::connector::{Connector, Fencing};
use cauldron_identity::Confidence;
use cauldron_node_core::Input;
use cauldron_node_core::view::Time;

use super::job::{Asked, Job, ended, run};
use super::{HandView, Hands};
use crate::clock::SystemClock;
use crate::run::chain;
use crate::run::engine::Handle;

/// Between two sweeps: how late a block may leave after its time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where work for one connector waits. Bounded by the number of open permits, which the core bounds, and by what people propose.
pub(super) struct Desk {
    name: String,
    operations: Vec<&'static str>,
    fencing: Fencing,
    sandboxes: Vec<String>,
    inner: Mutex<Inner>,
    came: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Job>,
    at_work: Option<AtWork>,
    hung: u64,
}

struct AtWork {
    asked: Asked,
    since: Instant,
    /// When it was told that it hangs, and the wall clock when it began.
    hangs_since_ms: Option<u64>,
}

impl Desk {
    pub(super) fn of(connector: &dyn Connector) -> Self {
        Self {
            name: connector.name().to_owned(),
            operations: connector.operations().to_vec(),
            fencing: connector.fencing(),
            sandboxes: connector.sandboxes().iter().map(|s| (*s).to_owned()).collect(),
            inner: Mutex::default(),
            came: Condvar::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn does(&self, operation: &str) -> bool {
        self.operations.contains(&operation)
    }

    pub(super) fn put(&self, job: Job) {
        self.lock().queue.push_back(job);
        self.came.notify_one();
    }

    pub(super) fn view(&self) -> HandView {
        let inner = self.lock();
        let hangs = inner.at_work.as_ref().and_then(|work| Some((work.asked.says(), work.hangs_since_ms?)));
        HandView {
            name: self.name.clone(),
            operations: self.operations.iter().map(|o| (*o).to_owned()).collect(),
            fencing: self.fencing,
            sandboxes: self.sandboxes.clone(),
            state: if hangs.is_some() { "hangs" } else { "ok" },
            doing: hangs.as_ref().map(|(doing, _)| doing.clone()),
            since: hangs.map(|(_, ms)| Time(ms)),
            hung: inner.hung,
        }
    }

    /// The thread: one thing at a time, until told to stop.
    pub(super) fn work(
        &self,
        mut hand: Box<dyn Connector + Send>,
        of: &Hands,
        node: &Handle,
        clock: &SystemClock,
        stop: &AtomicBool,
    ) {
        let mut swept: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let mut inputs = Vec::new();
            if let Some(job) = self.next() {
                inputs = run(&mut *hand, job, clock.now().wall_ms, |permit, reading| of.keep(permit, reading));
                self.answered();
            }
            if swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                self.begin(Asked::Sweep);
                inputs.extend(sweep(&mut *hand, clock));
                self.answered();
                swept = Some(Instant::now());
            }
            if inputs.into_iter().any(|input| node.input(input).is_err()) {
                return;
            }
        }
    }

    /// The next job, which counts as begun.
    fn next(&self) -> Option<Job> {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            let waited = self.came.wait_timeout(inner, SWEEP_EVERY).unwrap_or_else(PoisonError::into_inner);
            inner = waited.0;
        }
        let job = inner.queue.pop_front()?;
        inner.at_work = Some(AtWork { asked: job.asked(), since: Instant::now(), hangs_since_ms: None });
        Some(job)
    }

    fn begin(&self, asked: Asked) {
        self.lock().at_work = Some(AtWork { asked, since: Instant::now(), hangs_since_ms: None });
    }

    fn answered(&self) {
        let work = self.lock().at_work.take();
        if let Some(work) = work.filter(|work| work.hangs_since_ms.is_some()) {
            let (after_s, doing) = (work.since.elapsed().as_secs(), work.asked.says());
            tracing::warn!(connector = self.name, after_s, doing, "a connector that hung answers again");
        }
    }

    /// What is to be said if the connector has not answered for longer than `limit`: once of what it is at, and of all that
    /// waits behind it.
    pub(super) fn overdue(&self, now: Instant, wall_ms: u64, limit: Duration) -> Vec<Input> {
        let mut inner = self.lock();
        let Some(work) = &mut inner.at_work else { return Vec::new() };
        let took = now.saturating_duration_since(work.since);
        if took < limit {
            return Vec::new();
        }
        let why = format!("connector {} has not answered for {} s", self.name, took.as_secs());
        let mut inputs = Vec::new();
        let asked = work.asked.clone();
        let first = work.hangs_since_ms.is_none();
        if first {
            work.hangs_since_ms = Some(wall_ms.saturating_sub(u64::try_from(took.as_millis()).unwrap_or(0)));
            inner.hung += 1;
            tracing::error!(connector = self.name, doing = asked.says(), "a connector hangs");
            inputs.extend(asked.unanswered(true, &why));
        }
        inputs.extend(inner.queue.drain(..).filter_map(|job| job.asked().unanswered(false, &why)));
        inputs
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is over; a connector that cannot is asked again at the next sweep.
fn sweep(hand: &mut dyn Connector, clock: &SystemClock) -> Vec<Input> {
    // A clock that nobody vouches for must not end what people permitted.
    if clock.now().confidence == Confidence::Unknown {
        return Vec::new();
    }
    match hand.sweep(clock.now().wall_ms) {
        Ok(gone) => gone.iter().filter_map(ended).collect(),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(error, "effects whose time is over cannot be removed; trying again");
            Vec::new()
        }
    }
}
