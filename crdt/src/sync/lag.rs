//! How far each peer is behind this node and ahead of it, scope by scope, and whether that moves.

use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, Scope};

use super::Sync;
use super::link::Link;
use crate::limits::{PARTED_CHAINS_MAX, STANDSTILL_MS};
use crate::log::{ChainId, FactLog};

/// When something was last heard of a scope from a peer, and when that last said that it came further; milliseconds of the
/// core's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub told_ms: u64,
    pub moved_ms: u64,
}

/// How a peer stands with one scope, by what it said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The scope.
    pub scope: Scope,
    /// Facts held here that the peer has not said it holds.
    pub behind: u64,
    /// Facts the peer has said it holds and that are not here.
    pub ahead: u64,
    /// When the oldest of those it lacks was written, by its author's clock, milliseconds since the Unix epoch; none when it
    /// lacks nothing.
    pub oldest_ms: Option<u64>,
    /// Whether something is missing on either side and nothing has moved for [`STANDSTILL_MS`]; none while there is no link
    /// on which something could.
    pub stalled: Option<bool>,
    /// When the peer last said something of this scope; milliseconds of the core's clock.
    pub told_ms: u64,
}

/// What a peer held of the scopes it shared with this node when its link went down.
#[derive(Debug)]
struct Parted {
    /// How many had gone before.
    n: u64,
    told_ms: BTreeMap<Scope, u64>,
    remote: BTreeMap<ChainId, u64>,
}

/// Peers whose links are down, as far as there is room to remember what they held.
#[derive(Debug, Default)]
pub(super) struct Gone {
    peers: BTreeMap<AuthorId, Parted>,
    n: u64,
}

impl Gone {
    /// Notes what the peer of a link held that goes down now.
    pub fn note(&mut self, l: &Link) {
        if !l.announced(1) {
            return;
        }
        let told_ms = l.scopes.iter().map(|scope| (scope.clone(), l.moved(scope).told_ms)).collect();
        let remote = l.remote().iter().map(|(chain, (seq, _))| (chain.clone(), *seq)).collect();
        self.n += 1;
        self.peers.insert(l.peer, Parted { n: self.n, told_ms, remote });
        while self.peers.values().map(|parted| parted.remote.len()).sum::<usize>() > PARTED_CHAINS_MAX {
            let Some(peer) = self.peers.iter().min_by_key(|(_, parted)| parted.n).map(|(peer, _)| *peer) else {
                return;
            };
            self.peers.remove(&peer);
        }
    }
}

impl Sync {
    /// How a peer stands with each scope it shares, and whether by what it says now: by what it last said where its link is
    /// down. None where it has never announced everything it holds, or that is no longer remembered.
    #[must_use]
    pub fn lags(&self, now_ms: u64, log: &FactLog, peer: &AuthorId) -> Option<(bool, Vec<Lag>)> {
        let up = self.links.values().find(|l| l.peer == *peer && l.announced(1));
        if let Some(l) = up {
            return Some((true, l.scopes.iter().map(|scope| l.lag(now_ms, log, scope)).collect()));
        }
        let parted = self.gone.peers.get(peer)?;
        let lag = |(scope, told_ms): (&Scope, &u64)| {
            let (behind, ahead, oldest_ms) = compare(log, scope, &parted.remote, |seq| *seq);
            Lag { scope: scope.clone(), behind, ahead, oldest_ms, stalled: None, told_ms: *told_ms }
        };
        Some((false, parted.told_ms.iter().map(lag).collect()))
    }
}

impl Link {
    /// The peer said something of a scope, and whether it has come further there.
    pub fn told_of(&mut self, now_ms: u64, scope: &Scope, further: bool) {
        let moved = self.moved_mut(scope);
        moved.told_ms = now_ms;
        if further {
            moved.moved_ms = now_ms;
        }
    }

    /// The peer had all of a chain, and now there is one fact more: it is not late yet.
    pub fn falls_behind(&mut self, now_ms: u64, scope: &Scope) {
        self.moved_mut(scope).moved_ms = now_ms;
    }

    fn moved_mut(&mut self, scope: &Scope) -> &mut Moved {
        let since_ms = self.up_ms;
        self.moved.entry(scope.clone()).or_insert(Moved { told_ms: since_ms, moved_ms: since_ms })
    }

    fn lag(&self, now_ms: u64, log: &FactLog, scope: &Scope) -> Lag {
        let (behind, ahead, oldest_ms) = compare(log, scope, self.remote(), |(seq, _)| *seq);
        let moved = self.moved(scope);
        let stands = |since_ms: u64| now_ms >= since_ms.saturating_add(STANDSTILL_MS);
        let stalled = (behind > 0 && stands(moved.moved_ms)) || (ahead > 0 && stands(self.progress_ms()));
        Lag { scope: scope.clone(), behind, ahead, oldest_ms, stalled: Some(stalled), told_ms: moved.told_ms }
    }

    fn moved(&self, scope: &Scope) -> Moved {
        self.moved.get(scope).copied().unwrap_or(Moved { told_ms: self.up_ms, moved_ms: self.up_ms })
    }
}

/// Facts of `scope` beyond what the other end holds, and those it holds beyond ours; and when the oldest of the first was
/// written.
fn compare<T>(
    log: &FactLog,
    scope: &Scope,
    remote: &BTreeMap<ChainId, T>,
    seq: impl Fn(&T) -> u64,
) -> (u64, u64, Option<u64>) {
    // Beyond a known fork nothing is missing: what lies there counts for nobody.
    let counted = |chain: &ChainId, seq: u64| log.fork_seq(chain).map_or(seq, |fork| seq.min(fork.saturating_sub(1)));
    let (mut behind, mut oldest_ms) = (0, None::<u64>);
    for head in log.vector(scope) {
        let chain = ChainId { scope: scope.clone(), author: head.author, incarnation: head.incarnation };
        let (ours, theirs) = (counted(&chain, head.seq), remote.get(&chain).map_or(0, &seq));
        if theirs < ours {
            behind += ours - theirs;
            oldest_ms = oldest_ms.into_iter().chain(log.written_ms(&chain, theirs + 1)).min();
        }
    }
    let first = ChainId { scope: scope.clone(), author: AuthorId::from_bytes([0; 32]), incarnation: 0 };
    let of_scope = remote.range(first..).take_while(|(chain, _)| chain.scope == *scope);
    let more = of_scope.map(|(chain, held)| counted(chain, seq(held)).saturating_sub(log.held(chain)));
    // A peer may claim any position at all, of many chains.
    (behind, more.fold(0, u64::saturating_add), oldest_ms)
}
