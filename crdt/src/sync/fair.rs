//! Whose turn it is. Restrictions before authority before data; within each, whoever was served least.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, Lane, Scope, planted};

use super::hold::Holds;
use super::link::{Link, Request};
use super::wire::Range;
use crate::limits::{RANGE_FACTS_MAX, REQUEST_MS_MAX, REQUESTS_MAX, VOUCH_SPAN};
use crate::log::{ChainId, FactLog};

/// Facts asked for per author since the peer last had nothing that is missing here.
///
/// One author's long backlog, or its many chains, take their turns like everybody's: a cap that always served the first
/// authors made the last ones starve. What is counted is what was *asked*, so a peer that promises much and gives little
/// uses up the turns of those whom it promised for.
#[derive(Debug, Default)]
pub(super) struct Turns {
    authors: BTreeMap<AuthorId, u64>,
    /// The same by scope: a site that wrote much leaves the others theirs.
    scopes: BTreeMap<Scope, u64>,
}

impl Turns {
    fn of(&self, chain: &ChainId) -> (u64, u64) {
        let scope = self.scopes.get(&chain.scope).copied().unwrap_or(0);
        (scope, self.authors.get(&chain.author).copied().unwrap_or(0))
    }

    fn took(&mut self, chain: &ChainId, facts: u64) {
        *self.authors.entry(chain.author).or_default() += facts;
        *self.scopes.entry(chain.scope.clone()).or_default() += facts;
    }
}

/// The next ranges to ask of a link. `busy` are the chains that are with some peer, or with the log.
pub(super) fn plan(
    now_ms: u64,
    log: &FactLog,
    l: &mut Link,
    holds: &Holds,
    bulk: u8,
    busy: &mut BTreeSet<ChainId>,
) -> Vec<Range> {
    l.paused.retain(|_, until| *until > now_ms);
    // Whoever let a request pass gets one at a time until it answers.
    let requests_max = if l.timeouts == 0 { REQUESTS_MAX } else { 1 };
    let mut ranges = Vec::new();
    if l.requests.len() >= requests_max {
        return ranges;
    }
    let settled: Vec<ChainId> =
        l.wanted.iter().filter(|c| !l.lacks(log, c) && !l.probes.contains(c)).cloned().collect();
    settled.iter().for_each(|chain| {
        l.wanted.remove(chain);
    });
    if l.wanted.is_empty() {
        l.turns = Turns::default();
    }
    l.forget_urgent();
    let later = now_ms < l.later_ms || l.room.later_ms.is_some();
    let open = l.is_open(log);
    let mut passed: BTreeSet<ChainId> = BTreeSet::new();
    while l.requests.len() < requests_max {
        let Some(chain) = next_chain(log, l, open, bulk, |chain| {
            busy.contains(chain)
                || passed.contains(chain)
                || holds.holds(&chain.scope)
                || (later && l.rank_of(chain, log.held(chain) + 1, bulk) >= bulk)
        }) else {
            break;
        };
        let Some((from, to)) = next_range(log, l, &chain) else {
            passed.insert(chain);
            continue;
        };
        busy.insert(chain.clone());
        l.turns.took(&chain, to - from + 1);
        ranges.push(ask(now_ms, l, chain, from, to, false));
    }
    let mends = now_ms >= l.mends_ms && !l.requests.values().any(|request| request.mends);
    if open && mends && l.requests.len() < requests_max {
        ranges.extend(mend(now_ms, log, l, busy));
    }
    ranges
}

fn ask(now_ms: u64, l: &mut Link, chain: ChainId, from: u64, to: u64, mends: bool) -> Range {
    l.start_waiting(now_ms);
    l.request_next = l.request_next.wrapping_add(1);
    let request = l.request_next;
    let (scope, author, incarnation) = (chain.scope.clone(), chain.author, chain.incarnation);
    l.requests.insert(request, Request { chain, from, to, deadline_ms: now_ms + REQUEST_MS_MAX, mends });
    Range { request, scope, author, incarnation, from, to }
}

/// The chain whose turn it is: the most urgent, then by lane, then the scope and the author asked for least, then the one with
/// least to fetch.
fn next_chain(log: &FactLog, l: &Link, open: bool, bulk: u8, taken: impl Fn(&ChainId) -> bool) -> Option<ChainId> {
    let free = |chain: &&ChainId| !taken(chain) && !l.paused.contains_key(*chain);
    let allowed = |chain: &&ChainId| open || chain.scope.lane() != Lane::Data;
    let mut candidates = l.wanted.iter().filter(allowed).filter(free);
    if planted::active("unfair-order") {
        return candidates.next().cloned();
    }
    let turn = |chain: &&ChainId| {
        let missing = l.remote_seq(chain).saturating_sub(log.held(chain));
        let rank = l.rank_of(chain, log.held(chain) + 1, bulk);
        (rank, chain.scope.lane(), l.turns.of(chain), missing)
    };
    candidates.min_by_key(turn).cloned()
}

fn next_range(log: &FactLog, l: &Link, chain: &ChainId) -> Option<(u64, u64)> {
    let (held, remote) = (log.held(chain), l.remote_seq(chain));
    if l.probes.contains(chain) {
        return Some((held, held));
    }
    if remote <= held {
        // Same height or less, other id: another branch. The fact itself is the evidence.
        return Some((remote, remote));
    }
    let end = log.fork_seq(chain).map_or(remote, |fork| remote.min(fork - 1));
    // What lies behind the last urgent fact is no more urgent than any document.
    let end = l.urgent_at(chain, held + 1).map_or(end, |(_, seq)| seq.min(end));
    (held < end).then(|| (held + 1, end.min(held.saturating_add(RANGE_FACTS_MAX))))
}

/// Asks for facts that are here with a bad signature, each peer once in a session.
fn mend(now_ms: u64, log: &FactLog, l: &mut Link, busy: &mut BTreeSet<ChainId>) -> Option<Range> {
    if !l.mends_asked.is_empty() {
        let damaged: BTreeSet<(ChainId, u64)> = log.damaged().map(|(chain, seq)| (chain.clone(), seq)).collect();
        l.mends_asked.retain(|asked| damaged.contains(asked));
    }
    let open = |chain: &ChainId, seq: u64| {
        l.scopes.contains(&chain.scope)
            && l.remote_seq(chain) >= seq
            && !busy.contains(chain)
            && !l.mends_asked.contains(&(chain.clone(), seq))
    };
    let (chain, from) =
        log.damaged().find(|(chain, seq)| open(chain, *seq)).map(|(chain, seq)| (chain.clone(), seq))?;
    let run = log.damaged().filter(|(c, seq)| **c == chain && open(c, *seq)).map(|(_, seq)| seq);
    let to = run.take_while(|seq| *seq < from + VOUCH_SPAN).last().unwrap_or(from);
    let asked: Vec<u64> =
        log.damaged().filter(|(c, seq)| **c == chain && (from..=to).contains(seq)).map(|d| d.1).collect();
    l.mends_asked.extend(asked.into_iter().map(|seq| (chain.clone(), seq)));
    busy.insert(chain.clone());
    Some(ask(now_ms, l, chain, from, to, true))
}
