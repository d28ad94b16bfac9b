//! What one webhook was told, has to be told, and when the next attempt is due. No sockets, no files, no clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cauldron_coordinator::ledger::Call;
use cauldron_identity::Clock;
use hyper::body::Bytes;

use super::kept::{self, Told};
use super::message::{self, Asking, Kind, Seen, Sender};
use super::post::{Failure, Why};
use crate::config::Webhook;

/// Messages that wait for one endpoint. A site has at most 500 open proposals; whoever has been away for so many finds the rest
/// on the page.
const QUEUE_MAX: usize = 256;
/// The first pause after a failure. It doubles with each that follows.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest: an endpoint that is back is noticed while an approval of hours is still of use.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long it is tried to say that something is over: by then nobody waits for it.
const OVER_MS: u64 = 60 * 60 * 1_000;
/// How long after its deadline a proposal is remembered: longer than any message about it waits.
const REMEMBER_MS: u64 = 24 * 60 * 60 * 1_000;
const _: () = assert!(REMEMBER_MS > OVER_MS);

/// A message that waits.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) id: String,
    pub(super) body: Bytes,
    kind: Kind,
    proposal: String,
    site: String,
    terms: String,
    groups: BTreeSet<String>,
    /// Of no use later, milliseconds since the Unix epoch.
    until_ms: u64,
    attempts: u32,
    /// Boot time.
    not_before_ms: u64,
}

/// What a message gives way by, the first at first: how much it is missed, and whose share of the queue it takes.
type Share = (u8, String);

/// How much a message is missed that is not told: what nobody has to answer soon gives way at first.
const fn missed(kind: Kind) -> u8 {
    match kind {
        Kind::Attention(Call::Audit) => 0,
        Kind::Told(_) => 1,
        _ => 2,
    }
}

impl Queued {
    fn share(&self) -> Share {
        (missed(self.kind), self.site.clone())
    }
}

/// What is known of a proposal here.
#[derive(Debug)]
struct Known {
    /// What it was last asked under, told or not.
    terms: String,
    deadline_ms: u64,
    /// What the receiver has taken.
    told: Option<Told>,
    /// Nothing more is to be said.
    over: bool,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Try to deliver this.
    Send(Box<Queued>),
    /// Nothing before that time has passed.
    Wait(Duration),
    /// Nothing before something new comes.
    Idle,
}

/// What an operator wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It worked before.
    Failing,
    /// It did not before.
    Recovered,
    /// The endpoint wants no more messages.
    Gone,
}

/// What was counted since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that the receiver took.
    pub delivered: u64,
    /// Attempts that it did not take, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Messages that it is not told any more, by reason:
    /// `queue_full`, `expired`, `gone`, and `settled`: there is nothing to decide any more.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// One webhook's messages.
#[derive(Debug)]
pub(super) struct Outbox {
    hook: Webhook,
    known: BTreeMap<String, Known>,
    queue: VecDeque<Queued>,
    /// What there was no room for, by what it is remembered under: it waits for a place.
    unplaced: BTreeMap<String, Share>,
    failures: u32,
    /// Boot time before which nothing is sent.
    rest_until_ms: u64,
    gone: bool,
    pub(super) counts: Counts,
    /// Milliseconds since the Unix epoch.
    pub(super) last_success_ms: Option<u64>,
    /// When and what, of the last attempt that failed.
    pub(super) last_error: Option<(u64, String)>,
}

impl Outbox {
    /// With what was told before this process.
    pub(super) fn new(hook: Webhook, told: kept::All) -> Self {
        let known = |(proposal, told): (String, Told)| {
            let (terms, deadline_ms, over) = (told.terms.clone(), told.deadline_ms, told.over);
            (proposal, Known { terms, deadline_ms, told: Some(told), over })
        };
        Self {
            hook,
            known: told.into_iter().map(known).collect(),
            queue: VecDeque::new(),
            unplaced: BTreeMap::new(),
            failures: 0,
            rest_until_ms: 0,
            gone: false,
            counts: Counts::default(),
            last_success_ms: None,
            last_error: None,
        }
    }

    /// Proposals whose end is still to be told, each with its deadline.
    pub(super) fn open(&self) -> impl Iterator<Item = (&String, u64)> {
        self.known.iter().filter(|(_, known)| !known.over).map(|(proposal, known)| (proposal, known.deadline_ms))
    }

    /// `ok`, `failing` since the last attempt, or `gone`.
    pub(super) fn state(&self) -> &'static str {
        match (self.gone, self.failures) {
            (true, _) => "gone",
            (false, 0) => "ok",
            (false, _) => "failing",
        }
    }

    /// How many messages wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    #[cfg(test)]
    pub(super) fn messages(&self) -> impl Iterator<Item = serde_json::Value> {
        self.queue.iter().map(|message| serde_json::from_slice(&message.body).expect("JSON"))
    }

    /// What there was no room for, and is now: of each site one, then of each the next.
    pub(super) fn unplaced(&self) -> impl Iterator<Item = &String> {
        let mut taken: BTreeMap<&Share, usize> = BTreeMap::new();
        let nth = |(key, share)| {
            let n = taken.entry(share).or_default();
            *n += 1;
            (*n, key)
        };
        let mut turns: Vec<(usize, &String)> = self.unplaced.iter().map(nth).collect();
        turns.sort_unstable();
        turns.into_iter().map(|(_, key)| key).take(QUEUE_MAX.saturating_sub(self.queue.len()))
    }

    /// What the receiver has taken: this is what a later start must know.
    pub(super) fn told(&self) -> kept::All {
        let told = |(proposal, known): (&String, &Known)| known.told.clone().map(|told| (proposal.clone(), told));
        self.known.iter().filter_map(told).collect()
    }

    /// Compares what the core shows with what was told, and queues what is new.
    pub(super) fn observe(&mut self, now: Clock, seen: &Seen, sender: &Sender) {
        if self.gone {
            return;
        }
        for asking in &seen.waiting {
            self.ask(now, asking, sender);
        }
        for (proposal, (about, outcome)) in &seen.settled {
            let Some(known) = self.known.get_mut(proposal).filter(|known| !known.over) else { continue };
            known.over = true;
            let told = known.told.clone();
            self.drop_where("settled", |message| message.proposal == *proposal);
            let Some(told) = told else { continue };
            let body = sender.body(Kind::Decided, about, &BTreeSet::new(), Some(outcome), now.wall_ms);
            let until_ms = now.wall_ms.saturating_add(OVER_MS);
            self.push(Kind::Decided, proposal, &about.site, told.terms, BTreeSet::new(), (body, until_ms));
        }
        // What needed a person and does not any more, before anybody could be told.
        let over =
            |message: &Queued| matches!(message.kind, Kind::Attention(_)) && !seen.notices.contains(&message.proposal);
        for message in self.queue.iter().filter(|message| over(message)) {
            self.known.remove(&message.proposal);
        }
        self.drop_where("settled", over);
        if !self.unplaced.is_empty() {
            let waiting: BTreeSet<String> = seen.waiting.iter().map(Asking::key).collect();
            self.unplaced.retain(|key, _| waiting.contains(key) || seen.notices.contains(key));
        }
        let queue = &self.queue;
        self.known.retain(|proposal, known| {
            known.deadline_ms.saturating_add(REMEMBER_MS) > now.wall_ms
                || seen.notices.contains(proposal)
                || queue.iter().any(|message| message.proposal == *proposal)
        });
    }

    fn ask(&mut self, now: Clock, asking: &Asking, sender: &Sender) {
        let proposal = &asking.key();
        // Broken glass is told to everybody, and so is what needs a person where nobody was asked before.
        let everybody = match asking.kind {
            Kind::Broken => true,
            Kind::Attention(_) => asking.groups.is_empty(),
            _ => false,
        };
        if !everybody && !self.hook.groups.is_empty() && self.hook.groups.is_disjoint(&asking.groups) {
            return;
        }
        if self.known.get(proposal).is_some_and(|known| known.terms == asking.terms) {
            return;
        }
        // It gave way before, and would again.
        let share = || (missed(asking.kind), asking.about.site.clone());
        if self.unplaced.contains_key(proposal)
            && self.queue.len() >= QUEUE_MAX
            && self.gives_way(Some(share())) == share()
        {
            return;
        }
        let told = self.known.remove(proposal).and_then(|known| known.told);
        // Other terms: what people agreed to before does not count any more, so they are asked again.
        let kind = match told.as_ref().is_some_and(|told| !asking.groups.is_subset(&told.groups)) {
            true if asking.kind == Kind::Pending => Kind::Escalated,
            _ => asking.kind,
        };
        let deadline_ms = asking.about.deadline_ms;
        self.drop_where("settled", |message| message.proposal == *proposal);
        self.known
            .insert(proposal.clone(), Known { terms: asking.terms.clone(), deadline_ms, told, over: kind.is_notice() });
        let body = sender.body(kind, &asking.about, &asking.groups, None, now.wall_ms);
        let (site, terms, groups) = (&asking.about.site, asking.terms.clone(), asking.groups.clone());
        self.push(kind, proposal, site, terms, groups, (body, deadline_ms));
    }

    fn push(
        &mut self,
        kind: Kind,
        proposal: &str,
        site: &str,
        terms: String,
        groups: BTreeSet<String>,
        (body, until_ms): (Bytes, u64),
    ) {
        let id = message::id(&self.hook.url, proposal, kind, &terms);
        self.unplaced.remove(proposal);
        let (proposal, site) = (proposal.to_owned(), site.to_owned());
        let (attempts, not_before_ms) = (0, 0);
        self.queue.push_back(Queued {
            id,
            body,
            kind,
            proposal,
            site,
            terms,
            groups,
            until_ms,
            attempts,
            not_before_ms,
        });
        if self.queue.len() > QUEUE_MAX {
            self.displace();
        }
    }

    /// Which kind and site gives way with one `more` of such: of what is missed least, the site that takes most of the queue.
    fn gives_way(&self, more: Option<Share>) -> Share {
        let mut shares: BTreeMap<Share, usize> = BTreeMap::new();
        self.queue.iter().map(Queued::share).chain(more).for_each(|share| *shares.entry(share).or_default() += 1);
        let first = shares.into_iter().min_by_key(|((missed, site), n)| (*missed, Reverse(*n), site.clone()));
        first.map(|(share, _)| share).unwrap_or_default()
    }

    /// Takes one message out of the queue: within its share a call before a question, and the oldest. It is not forgotten.
    fn displace(&mut self) {
        let share = self.gives_way(None);
        let of_share = self.queue.iter().enumerate().filter(|(_, message)| message.share() == share);
        let first = of_share.min_by_key(|(at, message)| (!matches!(message.kind, Kind::Attention(_)), *at));
        let Some(gone) = first.map(|(at, _)| at).and_then(|at| self.queue.remove(at)) else { return };
        *self.counts.dropped.entry("queue_full").or_default() += 1;
        if gone.kind == Kind::Decided {
            return;
        }
        // As if it had never been asked.
        if let Some(mut known) = self.known.remove(&gone.proposal)
            && let Some(told) = &known.told
        {
            known.terms.clone_from(&told.terms);
            self.known.insert(gone.proposal.clone(), known);
        }
        self.unplaced.insert(gone.proposal, share);
    }

    fn drop_where(&mut self, why: &'static str, gone: impl Fn(&Queued) -> bool) {
        let before = self.queue.len();
        self.queue.retain(|message| !gone(message));
        let dropped = before - self.queue.len();
        if dropped > 0 {
            *self.counts.dropped.entry(why).or_default() += dropped as u64;
        }
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Clock) -> Step {
        self.drop_where("expired", |message| message.until_ms <= now.wall_ms);
        let Some(due_ms) = self.queue.iter().map(|message| message.not_before_ms).min() else { return Step::Idle };
        let due_ms = due_ms.max(self.rest_until_ms);
        if due_ms > now.boottime_ms {
            return Step::Wait(Duration::from_millis(due_ms - now.boottime_ms));
        }
        match self.queue.iter().find(|message| message.not_before_ms <= now.boottime_ms) {
            Some(message) => Step::Send(Box::new(message.clone())),
            None => Step::Idle,
        }
    }

    /// The endpoint took `message`.
    pub(super) fn delivered(&mut self, message: &Queued, now: Clock) -> Change {
        self.queue.retain(|queued| queued.id != message.id);
        self.counts.delivered += 1;
        self.last_success_ms = Some(now.wall_ms);
        self.rest_until_ms = 0;
        if let Some(known) = self.known.get_mut(&message.proposal) {
            match (message.kind, &mut known.told) {
                (Kind::Decided, Some(told)) => told.over = true,
                (Kind::Decided, None) => {}
                (kind, told) => {
                    let (terms, groups) = (message.terms.clone(), message.groups.clone());
                    let over = kind.is_notice();
                    *told = Some(Told { terms, groups, deadline_ms: known.deadline_ms, over });
                }
            }
        }
        if std::mem::take(&mut self.failures) > 0 { Change::Recovered } else { Change::None }
    }

    /// The endpoint did not take `message`. `chance` spreads the next attempt, so that many nodes do not come at once.
    pub(super) fn failed(&mut self, message: &Queued, failure: &Failure, now: Clock, chance: u16) -> Change {
        *self.counts.failed.entry(failure.why.label()).or_default() += 1;
        self.last_error = Some((now.wall_ms, failure.text.clone()));
        if failure.why == Why::Gone {
            self.gone = true;
            self.unplaced.clear();
            self.drop_where("gone", |_| true);
            return Change::Gone;
        }
        self.failures = self.failures.saturating_add(1);
        let asked_for = failure.retry_after.unwrap_or_default();
        let after = |failures| now.boottime_ms.saturating_add(millis(pause(failures, chance).max(asked_for)));
        self.rest_until_ms = after(self.failures);
        // The next in line is tried first: one message that is refused does not keep the others.
        if let Some(at) = self.queue.iter().position(|queued| queued.id == message.id)
            && let Some(mut queued) = self.queue.remove(at)
        {
            queued.attempts = queued.attempts.saturating_add(1);
            queued.not_before_ms = after(queued.attempts);
            self.queue.push_back(queued);
        }
        if self.failures == 1 { Change::Failing } else { Change::None }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The pause after so many failures in a row: half of it fixed, the other half by `chance`.
fn pause(failures: u32, chance: u16) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let half = doubled.min(PAUSE_MAX) / 2;
    half + half * u32::from(chance) / u32::from(u16::MAX)
}
