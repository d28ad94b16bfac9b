//! Who failed when: bounded memory over sources, one open finding each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Config, Finding};
use crate::proposal::Evidence;

/// Sources with a successful login that are remembered within a window. Attackers cannot grow this table.
const SUCCESSES_MAX: usize = 65_536;

/// Failures and successes per source.
///
/// Memory: a source holds at most `threshold` failures (a finding takes them all away), so `sources_max` × `threshold`
/// evidence lines of at most 512 bytes bound the whole: about 13 MiB with the defaults.
#[derive(Clone, Debug)]
pub(super) struct Tracker {
    threshold: u32,
    window_s: i64,
    ttl_s: i64,
    sources_max: usize,
    open_max: usize,
    failures: BTreeMap<IpAddr, Vec<Evidence>>,
    /// Every key of `failures` by its newest event: the front is forgotten first.
    by_age: BTreeSet<(i64, IpAddr)>,
    last_success_s: BTreeMap<IpAddr, i64>,
    open: BTreeMap<IpAddr, Open>,
    newest_s: i64,
    /// Events from here on have all been seen.
    complete_from_s: i64,
    evicted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Up to here failures belong to the finding and do not count again.
    found_s: i64,
    window_over_s: i64,
    expires_s: i64,
    settled: bool,
}

/// What a failure led to.
#[derive(Debug)]
pub(super) enum Verdict {
    Nothing,
    Found(Finding),
    /// Over the threshold, but the source has logged in within the window.
    Spared,
    TooManyOpen,
    /// A success that would spare the source may lie before the first line that was seen.
    HalfSeen,
}

impl Tracker {
    pub(super) fn new(config: &Config, open_max: usize) -> Self {
        Tracker {
            threshold: config.threshold,
            window_s: i64::from(config.window_s),
            ttl_s: i64::from(config.ttl_s),
            sources_max: config.sources_max,
            open_max,
            failures: BTreeMap::new(),
            by_age: BTreeSet::new(),
            last_success_s: BTreeMap::new(),
            open: BTreeMap::new(),
            newest_s: i64::MIN,
            complete_from_s: i64::MIN,
            evicted: 0,
        }
    }

    /// Reading began in the middle of the log, at `event_s`.
    pub(super) fn began_midway(&mut self, event_s: i64) {
        self.complete_from_s = event_s;
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn failure(&mut self, source: IpAddr, evidence: Evidence) -> Verdict {
        let event_s = evidence.event_s;
        self.newest_s = self.newest_s.max(event_s);
        if self.open.get(&source).is_some_and(|open| event_s <= open.found_s) {
            return Verdict::Nothing;
        }
        let window = self.remember(source, evidence);
        if window.failures < self.threshold || self.is_open(source, event_s) {
            return Verdict::Nothing;
        }
        if self.succeeded_near(source, window.start_s, window.end_s) {
            return Verdict::Spared;
        }
        if window.start_s.saturating_sub(self.window_s) < self.complete_from_s {
            return Verdict::HalfSeen;
        }
        if self.open.len() >= self.open_max {
            self.open.retain(|_, open| !open.is_over(event_s));
        }
        if self.open.len() >= self.open_max {
            return Verdict::TooManyOpen;
        }
        let evidence = self.forget(source);
        self.open.insert(source, self.opening(window.start_s, window.end_s));
        let inside = |e: &Evidence| (window.start_s..=window.end_s).contains(&e.event_s);
        Verdict::Found(Finding {
            source,
            failures: window.failures,
            window_start_s: window.start_s,
            window_end_s: window.end_s,
            evidence: evidence.into_iter().filter(inside).collect(),
        })
    }

    pub(super) fn success(&mut self, source: IpAddr, event_s: i64) {
        self.newest_s = self.newest_s.max(event_s);
        let last = self.last_success_s.entry(source).or_insert(event_s);
        *last = event_s.max(*last);
        if self.last_success_s.len() > SUCCESSES_MAX {
            let horizon_s = self.newest_s.saturating_sub(self.window_s.saturating_mul(2));
            self.last_success_s.retain(|_, at| *at >= horizon_s);
        }
        if self.last_success_s.len() > SUCCESSES_MAX
            && let Some(oldest) = self.last_success_s.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source)
        {
            self.last_success_s.remove(&oldest);
        }
    }

    pub(super) fn settled(&mut self, source: IpAddr) {
        if let Some(open) = self.open.get_mut(&source) {
            open.settled = true;
        }
    }

    pub(super) fn opened(&mut self, source: IpAddr, window_start_s: i64) {
        if self.open.len() < self.open_max {
            // Which failures of the window belong to it is not known any more: all of them.
            self.open.insert(source, self.opening(window_start_s, window_start_s.saturating_add(self.window_s)));
            self.forget(source);
        }
    }

    /// Whether `source` has not logged in since a window before `window_start_s`.
    pub(super) fn still_stands(&self, source: IpAddr, window_start_s: i64) -> bool {
        self.last_success_s.get(&source).is_none_or(|at| *at < window_start_s.saturating_sub(self.window_s))
    }

    fn opening(&self, window_start_s: i64, found_s: i64) -> Open {
        Open {
            found_s,
            window_over_s: window_start_s.saturating_add(self.window_s),
            expires_s: found_s.saturating_add(self.ttl_s),
            settled: false,
        }
    }

    /// Whether a finding for `source` is open at `event_s`; one that is over is dropped.
    fn is_open(&mut self, source: IpAddr, event_s: i64) -> bool {
        match self.open.get(&source) {
            None => false,
            Some(open) if open.is_over(event_s) => {
                self.open.remove(&source);
                false
            }
            Some(_) => true,
        }
    }

    /// A success within a window before the first failure or after the last one: late lines count, too.
    fn succeeded_near(&self, source: IpAddr, start_s: i64, end_s: i64) -> bool {
        let near = start_s.saturating_sub(self.window_s)..=end_s.saturating_add(self.window_s);
        self.last_success_s.get(&source).is_some_and(|at| near.contains(at))
    }

    /// Adds a failure and returns the window around it with the most failures.
    fn remember(&mut self, source: IpAddr, evidence: Evidence) -> Window {
        let event_s = evidence.event_s;
        let near = event_s.saturating_sub(self.window_s)..=event_s.saturating_add(self.window_s);
        let mut hits = self.forget(source);
        hits.retain(|hit| near.contains(&hit.event_s));
        let at = hits.partition_point(|hit| hit.event_s <= event_s);
        hits.insert(at, evidence);
        let surplus = hits.len().saturating_sub(self.threshold as usize);
        hits.drain(..surplus);
        let best = best_window(&hits, self.window_s);
        if let Some(newest) = hits.last() {
            self.make_room();
            self.by_age.insert((newest.event_s, source));
            self.failures.insert(source, hits);
        }
        best
    }

    fn forget(&mut self, source: IpAddr) -> Vec<Evidence> {
        let hits = self.failures.remove(&source).unwrap_or_default();
        if let Some(newest) = hits.last() {
            self.by_age.remove(&(newest.event_s, source));
        }
        hits
    }

    fn make_room(&mut self) {
        while self.failures.len() >= self.sources_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.failures.remove(&oldest);
            self.evicted += 1;
        }
    }
}

impl Open {
    fn is_over(&self, event_s: i64) -> bool {
        event_s > self.window_over_s && (self.settled || event_s > self.expires_s)
    }
}

struct Window {
    failures: u32,
    start_s: i64,
    end_s: i64,
}

/// The stretch of at most `window_s` with the most failures, the earliest among equals. `hits` are in event order.
fn best_window(hits: &[Evidence], window_s: i64) -> Window {
    let mut best = Window { failures: 0, start_s: 0, end_s: 0 };
    for (n, first) in hits.iter().enumerate() {
        let inside = hits.iter().skip(n).take_while(|hit| hit.event_s.saturating_sub(first.event_s) <= window_s);
        let (failures, end_s) =
            inside.fold((0u32, first.event_s), |(sum, _), hit| (sum.saturating_add(hit.count), hit.event_s));
        if failures > best.failures {
            best = Window { failures, start_s: first.event_s, end_s };
        }
    }
    best
}
