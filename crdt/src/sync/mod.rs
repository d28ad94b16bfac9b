//! Anti-entropy and push in one core. No sockets, no clock, no tasks.
//!
//! Call [`Sync::handle`] with one input, then [`Sync::poll`] until it is empty. Time is an argument, milliseconds of a
//! clock that never goes back.
//!
//! On a new link both sides announce the heads of the scopes they share, restrictions first. Each asks for what it
//! lacks, at most four ranges at a time; data lanes only when all restrictions and authority entries that the peer
//! announced are here, and there every author in turn. A long range of data comes packed and on one signature: see
//! [`FactLog::insert_range`]. A new fact is pushed to a few co-readers and told to the others. Digests, now and then,
//! find what got lost.
//!
//! Nothing of a session outlives its link, and nothing needs to: what is asked for follows from what the log holds. So
//! after any cut the next session goes on behind the last fact taken.
//!
//! The shared scopes of a link, given by the node core from the reader rules, are the only gate: of another scope
//! nothing leaves, its name included, and nothing that comes is looked at.
//!
//! Frames are made from the log as it is. So whoever inserts or appends a fact makes it durable before he lets out what
//! this core wants sent afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_identity::{AuthorId, FactId, Scope, SealedFact};

use crate::limits;
use crate::log::{ChainId, Evidence, FactLog, Inserted, Refusal, Taken};

mod answer;
mod ask;
mod beat;
mod bulk;
mod fair;
mod hold;
mod lag;
mod link;
mod orphans;
mod ranks;
mod spread;
mod stats;
#[cfg(test)]
mod tests;
mod wire;
#[cfg(test)]
mod world;

pub use bulk::{packed, unpacked};
use hold::Holds;
use lag::Gone;
pub use lag::Lag;
use link::Link;
pub use ranks::{Ranks, Room};
pub use stats::SyncStats;
use wire::{Frame, Refused};
pub use wire::{SYNC_KIND_MAX, concerns_sync};

/// A link as the mesh numbers it: one per peer.
pub type LinkId = u64;

/// What happens to the core.
#[derive(Debug)]
pub enum SyncInput<'i> {
    /// A peer is there, its author key proven.
    LinkUp {
        /// The link.
        link: LinkId,
        /// Who it is.
        peer: AuthorId,
        /// The scopes that both this node and the peer may read.
        scopes: BTreeSet<Scope>,
    },
    /// The peer is gone.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// Authority changed: these are the scopes shared from now on.
    ScopesChanged {
        /// The link.
        link: LinkId,
        /// The scopes that both this node and the peer may read.
        scopes: BTreeSet<Scope>,
    },
    /// A frame arrived.
    Frame {
        /// The link.
        link: LinkId,
        /// Its bytes, not trusted.
        bytes: &'i [u8],
    },
    /// What the log said of a fact that was offered: exactly one answer per offered fact.
    Answered {
        /// The fact.
        id: FactId,
        /// The log's answer.
        answer: &'i Result<Inserted, Refusal>,
    },
    /// What the log said of a range that was offered.
    RangeAnswered {
        /// Where it came from.
        link: LinkId,
        /// Its chain.
        chain: &'i ChainId,
        /// The log's answer.
        taken: &'i Taken,
    },
    /// What the log said of offered evidence.
    EvidenceAnswered {
        /// Where it came from.
        link: LinkId,
        /// The log's answer.
        answer: &'i Result<Inserted, Refusal>,
    },
    /// A fact, own or learned, is in the log *and durable*: tell others.
    Spread {
        /// The fact.
        id: FactId,
        /// Where it came from; none for an own one.
        source: Option<LinkId>,
    },
    /// Evidence of a fork is in the log and durable: tell others.
    SpreadEvidence {
        /// The forked chain.
        chain: ChainId,
        /// Where it came from, when it came as evidence.
        source: Option<LinkId>,
    },
    /// What was fetched of a scope is being unpacked: its facts wait up to [`limits::HOLD_OWN_MS_MAX`] from here, if they
    /// still do.
    Prolong {
        /// The scope.
        scope: Scope,
    },
    /// Ask for the facts of a scope now: its documents are here in one piece, or will not come. See [`SyncOutput::Far`].
    Release {
        /// The scope.
        scope: Scope,
        /// Whether the peer was asked for documents at all: if not, another may have its turn at once.
        tried: bool,
    },
    /// What a link has room for from now on; all of it until the first. Facts that wait stay in the log.
    Room {
        /// The link.
        link: LinkId,
        /// What it has.
        room: Room,
    },
    /// The time of the last [`SyncOutput::Timer`] has come.
    Tick,
}

/// What the core wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncOutput {
    /// Send a frame.
    Send {
        /// On this link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
        /// How urgent it is: [`Ranks`].
        rank: u8,
        /// The chain of the facts in it: they must not be overtaken by later ones of it.
        chain: Option<ChainId>,
    },
    /// Insert these facts into the log, in this order, and report each with [`SyncInput::Answered`].
    Offer {
        /// Where they came from.
        link: LinkId,
        /// All of scopes that the link shares.
        facts: Vec<SealedFact>,
    },
    /// Insert this range with [`FactLog::insert_range`] and report with [`SyncInput::RangeAnswered`]. Make all that is new
    /// durable before any of it is spread; to spread the last new fact is enough.
    OfferRange {
        /// Where it came from.
        link: LinkId,
        /// A chain of a scope that the link shares.
        chain: ChainId,
        /// The position of the first fact.
        from: u64,
        /// The facts.
        facts: Vec<SealedFact>,
    },
    /// Insert this evidence and report with [`SyncInput::EvidenceAnswered`].
    OfferEvidence {
        /// Where it came from.
        link: LinkId,
        /// About a chain of a scope that the link shares.
        evidence: Box<Evidence>,
    },
    /// Close the link. The core has forgotten it already.
    Close {
        /// The link.
        link: LinkId,
        /// Why: a [`Refusal::code`], or `malformed`, `too-large`, `version`, `bomb` (it would grow beyond its bounds when
        /// unpacked), `wrong-length` (it is not as long as it says), `withheld` (it does not give what it says it has),
        /// `flood` (it sends and sends what nobody asked for) or `stalled`.
        code: &'static str,
    },
    /// The peer holds very many facts of this scope that are missing here. They are asked for after
    /// [`SyncInput::Release`], or [`limits::HOLD_MS_MAX`]: until then is time to fetch documents in one piece.
    Far {
        /// The link.
        link: LinkId,
        /// A scope that the link shares.
        scope: Scope,
    },
    /// Call [`FactLog::settle`] with [`limits::SETTLE_FACTS`] and persist what it returns.
    Settle,
    /// Call with [`SyncInput::Tick`] at this time. Replaces the timer before.
    Timer {
        /// Milliseconds on the clock of `handle`.
        at_ms: u64,
    },
}

/// A fact that was given to the log and not answered yet.
#[derive(Debug)]
struct Offered {
    chain: ChainId,
    link: LinkId,
}

/// Sync and push of one node.
#[derive(Debug, Default)]
pub struct Sync {
    links: BTreeMap<LinkId, Link>,
    offered: BTreeMap<FactId, Offered>,
    /// Ranges given to the log and not answered yet, by chain.
    ranges: BTreeMap<ChainId, u32>,
    holds: Holds,
    gone: Gone,
    ranks: Ranks,
    /// Links that ask, want to ask, or are being served: the others have nothing to do between two alarms.
    active: BTreeSet<LinkId>,
    /// When each link is to be looked at next, soonest first.
    alarms: BTreeSet<(u64, LinkId)>,
    /// When unseen signatures are looked at next.
    settle_ms: Option<u64>,
    outputs: VecDeque<SyncOutput>,
    timer_ms: Option<u64>,
    stats: SyncStats,
}

impl Sync {
    /// A core without links.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A core without links that says when a peer holds `far` or more facts of a scope that are missing here: see
    /// [`SyncOutput::Far`].
    #[must_use]
    pub fn with_far(far: u64) -> Self {
        Self { holds: Holds::new(far), ..Self::default() }
    }

    /// The same core, which ranks facts so.
    #[must_use]
    pub fn ranked(self, ranks: Ranks) -> Self {
        Self { ranks, ..self }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> SyncStats {
        self.stats
    }

    /// Whether everything this link's peer is known to have is here.
    #[must_use]
    pub fn is_caught_up(&self, log: &FactLog, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|l| l.announced(1) && !l.wanted.iter().any(|chain| l.lacks(log, chain)))
    }

    /// How far the peer said it holds `chain`, once it has announced everything it holds; none before.
    #[must_use]
    pub fn shown(&self, link: LinkId, chain: &ChainId) -> Option<u64> {
        self.links.get(&link).filter(|l| l.announced(1)).map(|l| l.remote_seq(chain))
    }

    /// Whether the peer said it holds more of `chain`, or another branch of it, once it has announced everything it holds;
    /// none before. What it says of this node's own chains tells whether the store lies behind its own past.
    #[must_use]
    pub fn shows_more(&self, log: &FactLog, link: LinkId, chain: &ChainId) -> Option<bool> {
        self.links.get(&link).filter(|l| l.announced(1)).map(|l| l.lacks(log, chain))
    }

    /// The next thing to do; none until the next input.
    #[must_use]
    pub fn poll(&mut self) -> Option<SyncOutput> {
        self.outputs.pop_front()
    }

    /// Takes one input. `log` is the node's log as it is now.
    pub fn handle(&mut self, now_ms: u64, log: &FactLog, input: SyncInput<'_>) {
        // Whatever the input concerns; of the other links only those are looked at that are active or whose time has come.
        let touched = match &input {
            SyncInput::LinkUp { link, .. }
            | SyncInput::LinkDown { link }
            | SyncInput::ScopesChanged { link, .. }
            | SyncInput::Frame { link, .. }
            | SyncInput::RangeAnswered { link, .. }
            | SyncInput::Room { link, .. }
            | SyncInput::EvidenceAnswered { link, .. } => Some(*link),
            SyncInput::Answered { id, .. } => self.offered.get(id).map(|offered| offered.link),
            SyncInput::Spread { .. }
            | SyncInput::SpreadEvidence { .. }
            | SyncInput::Prolong { .. }
            | SyncInput::Release { .. }
            | SyncInput::Tick => None,
        };
        match input {
            SyncInput::LinkUp { link, peer, scopes } => self.link_up(now_ms, log, link, peer, scopes),
            SyncInput::LinkDown { link } => self.forget(link),
            SyncInput::ScopesChanged { link, scopes } => self.scopes_changed(now_ms, log, link, scopes),
            SyncInput::Frame { link, bytes } => self.frame(now_ms, log, link, bytes),
            SyncInput::Answered { id, answer } => self.answered(now_ms, log, id, answer),
            SyncInput::RangeAnswered { link, chain, taken } => self.range_answered(now_ms, log, link, chain, taken),
            SyncInput::EvidenceAnswered { link, answer } => self.evidence_answered(link, answer),
            SyncInput::Spread { id, source } => self.spread(now_ms, log, id, source),
            SyncInput::SpreadEvidence { chain, source } => self.spread_evidence(now_ms, log, &chain, source),
            SyncInput::Prolong { scope } => self.holds.prolong(now_ms, &scope),
            SyncInput::Release { scope, tried } => self.holds.release(&scope, tried),
            SyncInput::Room { link, room } => self.set_room(link, room),
            SyncInput::Tick => self.timer_ms = None,
        }
        let due: Vec<LinkId> = self.alarms.range(..=(now_ms, LinkId::MAX)).map(|(_, link)| *link).collect();
        let mut looked_at: BTreeSet<LinkId> = due.iter().copied().chain(touched).collect();
        looked_at.extend(&self.active);
        if log.damaged().next().is_some() {
            // Bad signatures are mended by whoever has the fact, wanted or not.
            looked_at.extend(self.links.keys());
        }
        self.expire(now_ms, log, &looked_at);
        self.hold_far(now_ms, log, &looked_at);
        self.ask_all(now_ms, log, &looked_at);
        self.serve_all(now_ms, log, &looked_at);
        self.tell_news(now_ms, log, &due);
        self.send_digests(now_ms, log, &looked_at);
        self.settle(now_ms, log);
        looked_at.into_iter().for_each(|link| self.set_alarm(now_ms, link));
        self.set_timer(now_ms);
    }

    fn link_up(&mut self, now_ms: u64, log: &FactLog, link: LinkId, peer: AuthorId, scopes: BTreeSet<Scope>) {
        self.forget(link);
        self.links.insert(link, Link::new(now_ms, peer, scopes));
        self.announce(log, link);
    }

    fn scopes_changed(&mut self, now_ms: u64, log: &FactLog, link: LinkId, scopes: BTreeSet<Scope>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let grew = scopes.iter().any(|scope| !l.scopes.contains(scope));
        l.retain_scopes(scopes);
        l.beat.stir(now_ms);
        if grew {
            self.announce(log, link);
        }
    }

    /// Forgets a link. Answers that are still to come for its facts count for nobody.
    fn forget(&mut self, link: LinkId) {
        if let Some(l) = self.links.remove(&link) {
            self.gone.note(&l);
            self.alarms.remove(&(l.alarm_ms, link));
            self.active.remove(&link);
        }
        self.outputs.retain(|output| !matches!(output, SyncOutput::Send { link: l, .. } if *l == link));
    }

    fn close(&mut self, link: LinkId, code: &'static str) {
        if self.links.contains_key(&link) {
            self.forget(link);
            self.stats.closed += 1;
            self.outputs.push_back(SyncOutput::Close { link, code });
        }
    }

    fn send(&mut self, link: LinkId, frame: &Frame) {
        let (bytes, rank) = (frame.encode(), frame.rank());
        self.outputs.push_back(SyncOutput::Send { link, bytes, rank, chain: None });
    }

    fn frame(&mut self, now_ms: u64, log: &FactLog, link: LinkId, bytes: &[u8]) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if wire::is_facts(bytes) && l.asks_nothing() && !l.orphans.may_come(now_ms) {
            return self.dropped(link);
        }
        match Frame::decode(bytes) {
            Ok(Frame::Have(have)) => self.heard_have(now_ms, log, link, have),
            Ok(Frame::Want(want)) => self.heard_want(link, want),
            Ok(Frame::Facts(facts)) => self.heard_facts(now_ms, log, link, facts),
            Ok(Frame::Evidence(evidence)) => self.heard_evidence(log, link, evidence),
            Ok(Frame::Digests(digests)) => self.heard_digests(now_ms, log, link, &digests),
            Ok(Frame::Bulk(bulk)) => self.heard_bulk(now_ms, log, link, &bulk),
            Ok(Frame::Again) => self.heard_again(now_ms, log, link),
            Ok(Frame::Later(later)) => self.heard_later(now_ms, link, later),
            Err(Refused::Unknown(_)) => self.stats.frames_unknown += 1,
            Err(Refused::Version) => self.close(link, "version"),
            Err(Refused::TooLarge) => self.close(link, "too-large"),
            Err(Refused::Malformed(_)) => self.close(link, "malformed"),
        }
    }

    /// Ends what took too long: requests first, then sessions that bring nothing.
    fn expire(&mut self, now_ms: u64, log: &FactLog, looked_at: &BTreeSet<LinkId>) {
        let mut stalled = Vec::new();
        for id in looked_at {
            let Some(link) = self.links.get_mut(id) else { continue };
            let late: Vec<u32> =
                link.requests.iter().filter(|(_, r)| r.deadline_ms <= now_ms).map(|(id, _)| *id).collect();
            for request in late {
                if let Some(given_up) = link.give_up(request) {
                    self.stats.requests_timed_out += 1;
                    if given_up.mends {
                        // Others have their turn, then this one once more.
                        link.mends_asked.retain(|(chain, _)| *chain != given_up.chain);
                        link.mends_ms = now_ms + limits::STALL_MS_MAX;
                    } else {
                        link.timeouts += 1;
                        link.wanted.insert(given_up.chain.clone());
                        // Others have their turn first.
                        link.paused.insert(given_up.chain, now_ms + limits::REQUEST_MS_MAX / 5);
                    }
                }
            }
            // What timed out here and came from elsewhere is no longer waited for.
            if link.requests.is_empty() && link.timeouts > 0 && !link.wanted.iter().any(|c| link.lacks(log, c)) {
                link.timeouts = 0;
            }
            if link.stall_ms().is_some_and(|at| at <= now_ms) {
                stalled.push(*id);
            }
        }
        stalled.into_iter().for_each(|link| self.close(link, "stalled"));
    }

    /// What was taken on a later signature is looked at in small portions, whoever waits for what.
    fn settle(&mut self, now_ms: u64, log: &FactLog) {
        if self.settle_ms.is_some_and(|at| at <= now_ms) {
            self.settle_ms = None;
            if !log.is_settled() {
                self.outputs.push_back(SyncOutput::Settle);
                // Once more at least: what was found bad is to be asked for.
                self.settle_ms = Some(now_ms + limits::SETTLE_EVERY_MS);
            }
        } else if self.settle_ms.is_none() && !log.is_settled() {
            self.settle_ms = Some(now_ms + limits::SETTLE_EVERY_MS);
        }
    }

    /// Notes when a link is to be looked at again, and whether it has something to do until then.
    fn set_alarm(&mut self, now_ms: u64, link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let at = l.wake_ms(now_ms);
        if at != l.alarm_ms {
            self.alarms.remove(&(l.alarm_ms, link));
            self.alarms.insert((at, link));
            l.alarm_ms = at;
        }
        if l.is_active() {
            self.active.insert(link);
        } else {
            self.active.remove(&link);
        }
    }

    /// A hub has a thousand links with times of their own: they are rung together, or it would do little but wake up.
    fn set_timer(&mut self, now_ms: u64) {
        let soonest =
            self.alarms.first().map(|(at, _)| *at).into_iter().chain(self.settle_ms).chain(self.holds.wake_ms()).min();
        let next = soonest.map(|at| at.max(now_ms + 1).next_multiple_of(limits::WAKE_MS));
        if next != self.timer_ms {
            self.timer_ms = next;
            self.outputs.extend(next.map(|at_ms| SyncOutput::Timer { at_ms }));
        }
    }
}
