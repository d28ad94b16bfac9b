//! How urgent facts are, and what a link has room for. The node core says both.

use std::collections::BTreeMap;

use cauldron_identity::{Lane, Scope};

use super::wire::{Later, Range, ScopeHeads, Urgent};
use super::{Frame, LinkId, Sync};
use crate::limits::{LATER_MS_MAX, REQUEST_MS_MAX, URGENT_AMONG, VOUCH_SPAN};
use crate::log::{ChainId, FactLog, Head};

/// Ranks facts: 0 for what restricts, then ever less urgent. Frames that carry no facts rank 0 where restrictions wait for them,
/// else 1.
#[derive(Debug, Clone, Copy)]
pub struct Ranks {
    /// The rank of a fact by its scope and kind. A kind of which nothing is known is one that no build knows.
    pub of: fn(&Scope, &str) -> u8,
    /// From this rank on facts are not urgent any more, and have room of their own.
    pub middle: u8,
    /// From this rank on they are not told of one by one, and wait where a budget is used up.
    pub bulk: u8,
}

impl Default for Ranks {
    fn default() -> Self {
        Self { of: |scope, _| u8::from(scope.lane() == Lane::Data), middle: 1, bulk: 1 }
    }
}

/// What a link has room for, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of urgent facts: nobody less urgent takes any of it.
    pub urgent: usize,
    /// Of those between.
    pub middle: usize,
    /// Of the others.
    pub bulk: usize,
    /// For how long there is no room for the others, because a budget is used up, milliseconds: then none of them is asked for
    /// either.
    pub later_ms: Option<u64>,
}

impl Room {
    /// For everything.
    pub const ALL: Self = Self { urgent: usize::MAX, middle: usize::MAX, bulk: usize::MAX, later_ms: None };

    pub(super) fn of(&mut self, ranks: Ranks, rank: u8) -> &mut usize {
        match rank {
            bulk if bulk >= ranks.bulk => &mut self.bulk,
            middle if middle >= ranks.middle => &mut self.middle,
            _ => &mut self.urgent,
        }
    }
}

impl Ranks {
    /// The rank of a chain's most urgent fact from a position to another, and where the last of the urgent ones is.
    pub(super) fn most_urgent(&self, log: &FactLog, chain: &ChainId, from: u64, to: u64) -> (u8, u64) {
        if chain.scope.lane() != Lane::Data {
            return ((self.of)(&chain.scope, ""), to);
        }
        let mut found: Option<(u8, u64)> = None;
        for row in log.rows_from(chain, from).take_while(|row| row.seq <= to.min(from.saturating_add(URGENT_AMONG))) {
            let rank = (self.of)(&chain.scope, row.kind.unwrap_or_default());
            if rank < self.bulk {
                found = Some((found.map_or(rank, |(before, _)| before.min(rank)), row.seq));
            }
        }
        // A few documents behind them are not worth an answer of their own.
        let end = |last: u64| if to.saturating_sub(last) <= VOUCH_SPAN { to } else { last };
        found.map_or((self.bulk, to), |(rank, last)| (rank, end(last)))
    }

    /// Heads as they are told to a peer that holds each chain as far as `held` says.
    pub(super) fn told(
        &self,
        log: &FactLog,
        scope: &Scope,
        heads: &[Head],
        held: impl Fn(&ChainId) -> u64,
    ) -> ScopeHeads {
        let mut urgent = Vec::new();
        for (index, head) in (0..).zip(heads).filter(|_| scope.lane() == Lane::Data) {
            let chain = ChainId { scope: scope.clone(), author: head.author, incarnation: head.incarnation };
            let from = held(&chain).max(head.seq.saturating_sub(URGENT_AMONG)) + 1;
            let mut last: BTreeMap<u8, u64> = BTreeMap::new();
            for row in log.rows_from(&chain, from).take_while(|row| row.seq <= head.seq) {
                let rank = (self.of)(scope, row.kind.unwrap_or_default());
                if rank < self.bulk {
                    last.retain(|less, _| *less < rank);
                    last.insert(rank, row.seq);
                }
            }
            urgent.extend(last.into_iter().map(|(rank, seq)| Urgent { head: index, rank, seq }));
        }
        ScopeHeads { scope: scope.clone(), heads: heads.to_vec(), urgent: Some(urgent).filter(|u| !u.is_empty()) }
    }
}

impl Sync {
    /// Whether something that was asked for waits for room on this link.
    #[must_use]
    pub fn waits_for_room(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|l| !l.serve.is_empty())
    }

    /// How far somebody at the other end of a link was given a chain of a scope that is shared there, or is known to hold it;
    /// none when nobody is there.
    #[must_use]
    pub fn given(&self, chain: &ChainId) -> Option<u64> {
        // What it holds it says first.
        let sharing = self.links.values().filter(|l| l.announced(1) && l.scopes.contains(&chain.scope));
        sharing.map(|l| l.remote_seq(chain).max(l.pushed.get(chain).copied().unwrap_or(0))).max()
    }

    /// Notes what a link has room for from now on, where nothing waits for it: see [`super::SyncInput::Room`].
    pub fn set_room(&mut self, link: LinkId, room: Room) {
        if let Some(l) = self.links.get_mut(&link) {
            (l.room, l.blocked) = (room, false);
        }
    }

    /// The most urgent of what the peer asked for, cut behind its last urgent fact, and its rank.
    pub(super) fn next_served(&mut self, log: &FactLog, link: LinkId) -> Option<(Range, u8)> {
        let l = self.links.get_mut(&link).filter(|l| !l.blocked)?;
        let ranks = self.ranks;
        let ranked = l
            .serve
            .iter()
            .enumerate()
            .map(|(at, range)| (ranks.most_urgent(log, &range.chain(), range.from, range.to), at));
        let ((rank, to), at) = ranked.min_by_key(|((rank, _), at)| (*rank, *at))?;
        l.blocked = *l.room.of(ranks, rank) == 0;
        if l.blocked
            && rank >= ranks.bulk
            && let Some(wait_ms) = l.room.later_ms
        {
            l.serve.clear();
            self.send(link, &Frame::Later(Later { wait_ms }));
            return None;
        }
        if l.blocked {
            return None;
        }
        l.serve.remove(at).map(|range| (Range { to, ..range }, rank))
    }

    /// The peer's budget is used up: its documents are asked for elsewhere, and here when it said.
    pub(super) fn heard_later(&mut self, now_ms: u64, link: LinkId, later: Later) {
        let bulk = self.ranks.bulk;
        let Some(l) = self.links.get_mut(&link) else { return };
        // Whoever says so again and again must not keep chains from others: each time costs what a request without an answer does.
        l.later_ms = now_ms.saturating_add(later.wait_ms.clamp(REQUEST_MS_MAX, LATER_MS_MAX));
        let waits = l.requests.iter().filter(|(_, request)| l.rank_of(&request.chain, request.from, bulk) >= bulk);
        let waits: Vec<u32> = waits.map(|(id, _)| *id).collect();
        for id in waits {
            if let Some(request) = l.give_up(id).filter(|request| !request.mends) {
                l.wanted.insert(request.chain);
            }
        }
        l.timeouts = 0;
    }
}
