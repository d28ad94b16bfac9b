//! Pending approvals reach people: signed messages to webhooks, tried again until somebody took them or nobody can decide any more.
//!
//! The core knows nothing of it. This errand is told by the event stream that something was stored, reads what
//! `/v1/approvals` shows, compares it with what was told, and each webhook's own task delivers at its own pace. Messages
//! follow the [Standard Webhooks](https://www.standardwebhooks.com) specification 1.0.0.

mod kept;
mod message;
mod notice;
mod outbox;
mod post;
mod sign;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cauldron_identity::{Clock, MeshId};
use cauldron_node_core::Event;
use cauldron_node_core::view::Time;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};

use crate::clock::SystemClock;
use crate::config::{Config, Webhook};
use crate::error::CliError;
use crate::run::engine::Handle;
use crate::run::notify::message::{Seen, Sender};
use crate::run::notify::notice::Shown;
use crate::run::notify::outbox::{Change, Outbox, Step};
use crate::run::notify::post::Client;
use crate::run::quiet::Quiet;

pub use outbox::Counts;

/// Between two looks at what waits: what comes together is read at once, and the core has other things to do.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A look without an event, for what only time changes.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The webhooks of this node.
#[derive(Debug)]
pub struct Notifier {
    hooks: Vec<Arc<Hook>>,
    sender: Sender,
}

/// One webhook's numbers.
#[derive(Debug)]
pub struct Counted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Messages that wait.
    pub queued: u64,
    /// What was counted.
    pub counts: Counts,
}

/// One webhook.
#[derive(Debug)]
struct Hook {
    name: String,
    /// Its address as it may be shown.
    shown: String,
    groups: BTreeSet<String>,
    client: Client,
    outbox: Mutex<Outbox>,
    /// Something new is queued.
    wake: Notify,
    /// Where it is kept what was told.
    file: PathBuf,
}

impl Notifier {
    /// Reads secrets, root certificates and what was told before; nobody is told anything yet. Nothing where no webhook is
    /// configured.
    ///
    /// # Errors
    /// [`CliError`] with every webhook whose files cannot be used.
    pub fn open(config: &Config, mesh: &MeshId) -> Result<Option<Arc<Self>>, CliError> {
        if config.notify.is_empty() {
            return Ok(None);
        }
        let opened = config.notify.iter().map(|hook| Hook::open(config.node.dir.told(&hook.name), hook));
        let (hooks, problems): (Vec<_>, Vec<_>) = opened.partition(Result::is_ok);
        let problems: Vec<CliError> = problems.into_iter().filter_map(Result::err).collect();
        if !problems.is_empty() {
            let error = CliError::config("not every webhook can be used");
            let error = problems.iter().fold(error, |error, problem| error.detail(problem.one_line()));
            return Err(error.hint("`cauldron check --pre` looks at them without starting"));
        }
        if config.page.url.is_none() {
            tracing::warn!("page.url is not set: messages to webhooks carry no link to the approval page");
        }
        let node = config.identity.spiffe_id.to_string();
        let sender = Sender { node, mesh: mesh.to_string(), page: config.page.clone() };
        Ok(Some(Arc::new(Self { hooks: hooks.into_iter().flatten().map(Arc::new).collect(), sender })))
    }

    /// Whether the files of `hook` can be used, for checks before a start.
    ///
    /// # Errors
    /// A sentence.
    pub fn examine(hook: &Webhook) -> Result<String, String> {
        Client::open(hook).map(|_| hook.url.to_string()).map_err(|e| e.one_line())
    }

    /// Tells people from here on, until `stop` turns true.
    pub fn start(self: &Arc<Self>, node: &Handle, clock: &SystemClock, stop: &watch::Receiver<bool>) {
        for hook in &self.hooks {
            tokio::spawn(hook.clone().deliver(clock.clone(), stop.clone()));
        }
        tokio::spawn(self.clone().follow(node.clone(), clock.clone(), stop.clone()));
    }

    /// Looks whenever something was stored that may concern people, and at deadlines.
    async fn follow(self: Arc<Self>, node: Handle, clock: SystemClock, mut stop: watch::Receiver<bool>) {
        let mut events = node.events();
        let mut quiet = Quiet::default();
        // Notices that every webhook has seen: they are read once.
        let mut shown = Shown::default();
        loop {
            let (now, known) = (clock.now(), self.known());
            let Ok(seen) = node.read(move |core| Seen::of(core, now, &known, &shown)).await else { return };
            for hook in &self.hooks {
                hook.observe(now, &seen, &self.sender, &mut quiet);
            }
            shown = seen.shown;
            for hook in &self.hooks {
                hook.outbox().unplaced().for_each(|key| shown.forget(key));
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.next_look(now)) => {}
                more = concerns_people(&mut events) => if !more { return },
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
        }
    }

    /// Proposals whose end somebody is to hear of.
    fn known(&self) -> BTreeSet<String> {
        let of = |hook: &Arc<Hook>| hook.outbox().open().map(|(proposal, _)| proposal.clone()).collect::<Vec<_>>();
        self.hooks.iter().flat_map(of).collect()
    }

    /// Until the next deadline, which no event tells of.
    fn next_look(&self, now: Clock) -> Duration {
        let of = |hook: &Arc<Hook>| hook.outbox().open().map(|(_, deadline_ms)| deadline_ms).min();
        let next_ms = self.hooks.iter().filter_map(of).filter(|ms| *ms > now.wall_ms).min();
        let until = next_ms.map(|ms| Duration::from_millis(ms - now.wall_ms));
        until.map_or(LOOK_EVERY, |until| until.min(LOOK_EVERY))
    }

    /// One row per webhook: whether it works, what waits, what went wrong last.
    #[must_use]
    pub fn status(&self) -> Value {
        let row = |hook: &Arc<Hook>| {
            let outbox = hook.outbox();
            json!({
                "name": hook.name,
                "url": hook.shown,
                "groups": hook.groups,
                "state": outbox.state(),
                "queued": outbox.queued(),
                "delivered": outbox.counts.delivered,
                "dropped": outbox.counts.dropped,
                "last_success": outbox.last_success_ms.map(Time),
                "last_error": outbox.last_error.as_ref().map(|(_, why)| why),
                "last_error_at": outbox.last_error.as_ref().map(|(at, _)| Time(*at)),
            })
        };
        self.hooks.iter().map(row).collect()
    }

    /// The numbers of each webhook.
    #[must_use]
    pub fn counted(&self) -> Vec<Counted<'_>> {
        let of = |hook: &'_ Arc<Hook>| {
            let outbox = hook.outbox();
            (outbox.queued() as u64, outbox.counts.clone())
        };
        let counted = |hook| {
            let (queued, counts) = of(hook);
            Counted { name: &hook.name, queued, counts }
        };
        self.hooks.iter().map(counted).collect()
    }
}

/// Waits for something stored that people may have to decide or no longer have to; false when there will be nothing.
async fn concerns_people(events: &mut Receiver<Event>) -> bool {
    loop {
        match events.recv().await {
            // Documents and budgets are written all the time, and nobody approves them here.
            Ok(Event::Stored { kind, .. }) if kind.starts_with("doc.") || kind.starts_with("budget.") => {}
            Ok(Event::Stored { .. } | Event::Term { .. } | Event::State { .. }) | Err(RecvError::Lagged(_)) => {
                return true;
            }
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

impl Hook {
    fn open(file: PathBuf, hook: &Webhook) -> Result<Self, CliError> {
        let client = Client::open(hook)?;
        let told = kept::read(&file).unwrap_or_else(|why| {
            tracing::warn!(webhook = hook.name, %why, "what was told is not known: what waits is told once more, under the same ids");
            kept::All::new()
        });
        Ok(Self {
            name: hook.name.clone(),
            shown: hook.url.to_string(),
            groups: hook.groups.clone(),
            client,
            outbox: Mutex::new(Outbox::new(hook.clone(), told)),
            wake: Notify::new(),
            file,
        })
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, now: Clock, seen: &Seen, sender: &Sender, quiet: &mut Quiet) {
        let full = |outbox: &Outbox| outbox.counts.dropped.get("queue_full").copied().unwrap_or(0);
        let mut outbox = self.outbox();
        let before = full(&outbox);
        outbox.observe(now, seen, sender);
        let (dropped, queued) = (full(&outbox) - before, outbox.queued());
        drop(outbox);
        if dropped > 0
            && let Some(silent) = quiet.tell("queue_full", Instant::now())
        {
            tracing::warn!(
                webhook = self.name,
                dropped,
                silent,
                "more waits for this webhook than is kept: some of it is told once there is room"
            );
        }
        if queued > 0 {
            self.wake.notify_one();
        }
    }

    /// Delivers one message after the other until `stop` turns true.
    async fn deliver(self: Arc<Self>, clock: SystemClock, mut stop: watch::Receiver<bool>) {
        let mut quiet = Quiet::default();
        loop {
            let step = self.step(clock.now(), &mut quiet);
            let message = match step {
                Step::Send(message) => message,
                step => {
                    let wait = if let Step::Wait(wait) = step { wait } else { Duration::MAX };
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                    continue;
                }
            };
            let sent = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                sent = self.client.post(&message.id, &message.body, clock.now().wall_ms) => sent,
            };
            let now = clock.now();
            let change = match &sent {
                Ok(()) => {
                    tracing::debug!(webhook = self.name, id = message.id, "told");
                    let change = self.outbox().delivered(&message, now);
                    self.keep(&mut quiet).await;
                    change
                }
                Err(failure) => {
                    tracing::debug!(webhook = self.name, id = message.id, why = failure.text, "not told yet");
                    self.outbox().failed(&message, failure, now, u16::from_be_bytes(crate::chance::bytes()))
                }
            };
            self.say(change, sent.err().map(|failure| failure.text).unwrap_or_default());
        }
    }

    fn step(&self, now: Clock, quiet: &mut Quiet) -> Step {
        let expired = |outbox: &Outbox| outbox.counts.dropped.get("expired").copied().unwrap_or(0);
        let mut outbox = self.outbox();
        let before = expired(&outbox);
        let step = outbox.next(now);
        let dropped = expired(&outbox) - before;
        drop(outbox);
        if dropped > 0
            && let Some(silent) = quiet.tell("expired", Instant::now())
        {
            tracing::warn!(
                webhook = self.name,
                dropped,
                silent,
                "the time for a decision is over and this webhook could not be told"
            );
        }
        step
    }

    fn say(&self, change: Change, why: String) {
        match change {
            Change::None => {}
            Change::Failing => {
                tracing::warn!(webhook = self.name, why, "a webhook takes no messages; they wait and are tried again");
            }
            Change::Recovered => tracing::info!(webhook = self.name, "a webhook takes messages again"),
            Change::Gone => tracing::error!(webhook = self.name, why, "a webhook is switched off until a restart"),
        }
    }

    /// Puts what was told on disk. Without it a start would repeat messages, under ids that the receiver knows.
    async fn keep(&self, quiet: &mut Quiet) {
        let (file, told) = (self.file.clone(), self.outbox().told());
        let kept = tokio::task::spawn_blocking(move || kept::write(&file, &told)).await;
        if let Ok(Err(why)) = kept
            && let Some(silent) = quiet.tell("not_kept", Instant::now())
        {
            tracing::warn!(webhook = self.name, %why, silent, "what was told could not be kept; a restart would repeat it");
        }
    }
}
