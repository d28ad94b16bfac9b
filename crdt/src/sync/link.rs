//! What the sync core knows of one peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_identity::{AuthorId, Digest, FactId, Lane, Scope};

use super::beat::Beat;
use super::fair::Turns;
use super::lag::Moved;
use super::orphans::Orphans;
use super::ranks::Room;
use super::wire::{Part, Range};
use crate::limits::{
    DIGEST_FRAMES_MAX, DIGEST_MS_MIN, HEADS_PER_LINK_MAX, LATE_MAX, PARTS_MAX, SERVE_BURST_BYTES, SERVE_BYTES_PER_S,
    STALL_MS_MAX, TELL_AGAIN_MS,
};
use crate::log::{ChainId, FactLog};

/// A request to this peer that was not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub chain: ChainId,
    pub from: u64,
    pub to: u64,
    pub deadline_ms: u64,
    /// For signatures of facts that are here already.
    pub mends: bool,
}

/// The latest announcement of the peer.
#[derive(Debug, Default)]
struct Announcement {
    round: u32,
    parts: BTreeSet<u32>,
    last: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub peer: AuthorId,
    /// The only gate: what is not in here is neither told, asked nor answered on this link.
    pub scopes: BTreeSet<Scope>,
    /// The highest position of each chain that the peer is known to hold.
    remote: BTreeMap<ChainId, (u64, FactId)>,
    /// Chains of which the peer has what this node lacks.
    pub wanted: BTreeSet<ChainId>,
    /// Chains not to be asked for here until then.
    pub paused: BTreeMap<ChainId, u64>,
    /// Chains whose branch at this peer differs from ours: the fact at our head is to be asked for.
    pub probes: BTreeSet<ChainId>,
    pub requests: BTreeMap<u32, Request>,
    pub request_next: u32,
    /// Requests given up: on a bad line the answer may still come, and is welcome.
    late: VecDeque<(u32, Request)>,
    pub turns: Turns,
    /// Facts with a bad signature that this peer was asked for.
    pub mends_asked: BTreeSet<(ChainId, u64)>,
    /// Not to be asked for more of them before.
    pub mends_ms: u64,
    /// Answers without what was claimed, since something new came.
    pub unmet: u32,
    pub orphans: Orphans,

    announced: Announcement,
    /// Whether it was looked at how much the peer has in advance.
    pub measured: bool,
    /// What the peer announced of restrict and authority lanes and this node does not hold yet.
    gate: BTreeMap<ChainId, (u64, FactId)>,
    /// Announcements sent to the peer.
    pub round_sent: u32,

    /// The highest position pushed on each chain: the peer has it, or will ask.
    pub pushed: BTreeMap<ChainId, u64>,
    /// Chains with news for the peer, to be told at `news_ms`.
    pub news: BTreeSet<ChainId>,
    pub news_ms: u64,

    /// How far the peer holds facts of each urgent rank, of chains that are missing here.
    urgent: BTreeMap<ChainId, BTreeMap<u8, u64>>,
    /// The peer is not asked for documents before.
    pub later_ms: u64,
    pub room: Room,
    /// There was no room for any of the ranges below.
    pub blocked: bool,
    /// Ranges the peer asked for, waiting for the budget.
    pub serve: VecDeque<Range>,
    /// Below zero when a frame overdrew it.
    budget_bytes: i64,
    budget_ms: u64,

    /// When the core is to look at this link next.
    pub alarm_ms: u64,
    pub beat: Beat,
    digests_ms: u64,
    digests: u32,
    /// The digest of each scope when its heads were last told on a digest that differs, and when that was.
    told: BTreeMap<Scope, (Digest, u64)>,
    /// The digest of each scope at which the peer agreed last.
    agreed: BTreeMap<Scope, Digest>,
    pub again_ms: Option<u64>,
    progress_ms: u64,
    /// When it came up.
    pub up_ms: u64,
    /// What the peer said of each scope, and when.
    pub moved: BTreeMap<Scope, Moved>,
    /// Requests that timed out since the last progress.
    pub timeouts: u32,
}

impl Link {
    pub fn new(now_ms: u64, peer: AuthorId, scopes: BTreeSet<Scope>) -> Self {
        Self {
            peer,
            scopes,
            remote: BTreeMap::new(),
            wanted: BTreeSet::new(),
            paused: BTreeMap::new(),
            probes: BTreeSet::new(),
            requests: BTreeMap::new(),
            request_next: 0,
            late: VecDeque::new(),
            turns: Turns::default(),
            mends_asked: BTreeSet::new(),
            mends_ms: 0,
            unmet: 0,
            orphans: Orphans::default(),
            announced: Announcement::default(),
            measured: false,
            gate: BTreeMap::new(),
            round_sent: 0,
            pushed: BTreeMap::new(),
            news: BTreeSet::new(),
            news_ms: 0,
            urgent: BTreeMap::new(),
            later_ms: 0,
            room: Room::ALL,
            blocked: false,
            serve: VecDeque::new(),
            budget_bytes: SERVE_BURST_BYTES as i64,
            budget_ms: now_ms,
            alarm_ms: u64::MAX,
            beat: Beat::new(now_ms),
            digests_ms: now_ms,
            digests: 0,
            told: BTreeMap::new(),
            agreed: BTreeMap::new(),
            again_ms: None,
            progress_ms: now_ms,
            up_ms: now_ms,
            moved: BTreeMap::new(),
            timeouts: 0,
        }
    }

    /// Forgets all that concerns scopes no longer shared.
    pub fn retain_scopes(&mut self, scopes: BTreeSet<Scope>) {
        self.remote.retain(|chain, _| scopes.contains(&chain.scope));
        self.gate.retain(|chain, _| scopes.contains(&chain.scope));
        self.pushed.retain(|chain, _| scopes.contains(&chain.scope));
        self.urgent.retain(|chain, _| scopes.contains(&chain.scope));
        self.paused.retain(|chain, _| scopes.contains(&chain.scope));
        self.requests.retain(|_, request| scopes.contains(&request.chain.scope));
        self.late.retain(|(_, request)| scopes.contains(&request.chain.scope));
        self.mends_asked.retain(|(chain, _)| scopes.contains(&chain.scope));
        self.told.retain(|scope, _| scopes.contains(scope));
        self.moved.retain(|scope, _| scopes.contains(scope));
        self.agreed.retain(|scope, _| scopes.contains(scope));
        self.wanted.retain(|chain| scopes.contains(&chain.scope));
        self.probes.retain(|chain| scopes.contains(&chain.scope));
        self.news.retain(|chain| scopes.contains(&chain.scope));
        self.serve.retain(|range| scopes.contains(&range.scope));
        self.scopes = scopes;
    }

    /// Notes that the peer holds `chain` up to `seq`. False when there is no room to remember it.
    ///
    /// The highest position counts, except that one which is missing here is not hidden by a higher one which is not:
    /// beyond a known fork nothing is missing, and below it the branches may differ as well.
    pub fn note(&mut self, now_ms: u64, log: &FactLog, chain: ChainId, seq: u64, id: FactId) -> bool {
        self.told_of(now_ms, &chain.scope, self.remote_seq(&chain) < seq);
        if self.remote.len() >= HEADS_PER_LINK_MAX && !self.remote.contains_key(&chain) {
            return false;
        }
        let known = self.remote.entry(chain.clone()).or_insert((seq, id));
        let missing = lacks(log, &chain, seq, id);
        if known.0 <= seq || (missing && !lacks(log, &chain, known.0, known.1)) {
            *known = (seq, id);
        }
        if missing {
            self.wanted.insert(chain);
        }
        true
    }

    /// Notes where the peer says that urgent facts are. Data is never as urgent as what restricts.
    ///
    /// Only of chains that it was asked for or will be: what a peer says of others takes no room here.
    pub fn note_urgent(&mut self, chain: &ChainId, rank: u8, seq: u64, bulk: u8) {
        let data = chain.scope.lane() == Lane::Data && self.wanted.contains(chain);
        if data && (1..bulk).contains(&rank) && self.remote_seq(chain) >= seq {
            let known = self.urgent.entry(chain.clone()).or_default().entry(rank).or_default();
            *known = seq.max(*known);
        }
    }

    /// How urgent what is missing of a chain from a position on is, as far as the peer says.
    pub fn rank_of(&self, chain: &ChainId, from: u64, bulk: u8) -> u8 {
        if chain.scope.lane() != Lane::Data {
            return 0;
        }
        self.urgent_at(chain, from).map_or(bulk, |(rank, _)| rank.min(bulk))
    }

    /// The most urgent rank that the peer says a chain has from a position on, and where its last fact is.
    pub fn urgent_at(&self, chain: &ChainId, from: u64) -> Option<(u8, u64)> {
        self.urgent.get(chain)?.iter().find(|(_, seq)| **seq >= from).map(|(rank, seq)| (*rank, *seq))
    }

    #[cfg(test)]
    pub fn urgent_chains(&self) -> usize {
        self.urgent.len()
    }

    /// Forgets what is urgent of chains that are not missing here any more.
    pub fn forget_urgent(&mut self) {
        self.urgent.retain(|chain, _| self.wanted.contains(chain));
    }

    /// The highest position the peer is known to hold.
    pub fn remote_seq(&self, chain: &ChainId) -> u64 {
        self.remote.get(chain).map_or(0, |(seq, _)| *seq)
    }

    /// The highest position of each chain that the peer is known to hold, and the fact there.
    pub fn remote(&self) -> &BTreeMap<ChainId, (u64, FactId)> {
        &self.remote
    }

    /// When something new last came of this link.
    pub fn progress_ms(&self) -> u64 {
        self.progress_ms
    }

    /// Whether something at this peer is still missing here.
    pub fn lacks(&self, log: &FactLog, chain: &ChainId) -> bool {
        self.remote.get(chain).is_some_and(|(seq, id)| lacks(log, chain, *seq, *id))
    }

    /// Starts or continues an announcement of the peer. False when the frame belongs to an older one.
    pub fn announce(&mut self, part: Part) -> bool {
        if part.round < self.announced.round || part.part >= PARTS_MAX {
            return false;
        }
        if part.round > self.announced.round {
            self.announced = Announcement { round: part.round, ..Announcement::default() };
        }
        self.announced.parts.insert(part.part);
        if !part.more {
            self.announced.last = Some(part.part);
        }
        true
    }

    /// Adds a head of a restrict or authority lane to what must be here before any data.
    pub fn require(&mut self, chain: ChainId, seq: u64, id: FactId) {
        if chain.scope.lane() != Lane::Data && self.gate.len() < HEADS_PER_LINK_MAX {
            self.gate.insert(chain, (seq, id));
        }
    }

    /// Whether the announcement numbered `round`, or a later one, is complete.
    pub fn announced(&self, round: u32) -> bool {
        let a = &self.announced;
        a.round >= round && a.last.is_some_and(|last| a.parts.len() as u64 == u64::from(last) + 1)
    }

    /// Whether data may be asked for: the peer announced everything, and all it announced of restrictions and authority
    /// is here. What the log refuses for good does not count against it.
    pub fn is_open(&mut self, log: &FactLog) -> bool {
        let paused = &self.paused;
        self.gate.retain(|chain, (seq, id)| {
            lacks(log, chain, *seq, *id) && paused.get(chain).is_none_or(|until| *until != u64::MAX)
        });
        self.announced(1) && self.gate.is_empty()
    }

    /// Counts a frame of digests. False when there were too many of late.
    pub fn may_compare(&mut self, now_ms: u64) -> bool {
        if now_ms >= self.digests_ms.saturating_add(DIGEST_MS_MIN) {
            self.digests_ms = now_ms;
            self.digests = 0;
        }
        self.digests += 1;
        self.digests <= DIGEST_FRAMES_MAX
    }

    /// Something new came of this link.
    pub fn progress(&mut self, now_ms: u64) {
        self.progress_ms = now_ms;
        self.timeouts = 0;
        self.unmet = 0;
        self.orphans.forgive();
    }

    /// Takes a request from the peer that did not answer it in time.
    pub fn give_up(&mut self, id: u32) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if self.late.len() >= LATE_MAX {
            self.late.pop_front();
        }
        self.late.push_back((id, request.clone()));
        Some(request)
    }

    /// The request that an answer names, and whether it was still waited for. Each is answered once.
    pub fn answered(&mut self, id: u32) -> Option<(Request, bool)> {
        if let Some(request) = self.requests.remove(&id) {
            return Some((request, true));
        }
        let index = self.late.iter().position(|(late, _)| *late == id)?;
        self.late.remove(index).map(|(_, request)| (request, false))
    }

    /// Whether no answer is to come.
    pub fn asks_nothing(&self) -> bool {
        self.requests.is_empty() && self.late.is_empty()
    }

    /// Whether the heads of a scope whose digests differ are worth telling: not when they were just told.
    pub fn may_tell(&mut self, now_ms: u64, scope: &Scope, ours: Digest) -> bool {
        let just = self.told.get(scope).is_some_and(|(told, at)| *told == ours && now_ms < at + TELL_AGAIN_MS);
        if !just {
            self.told.insert(scope.clone(), (ours, now_ms));
        }
        !just
    }

    /// Notes that the peer has what we have of a scope. False when that was known: its heads need no second look.
    pub fn agrees(&mut self, scope: &Scope, ours: Digest) -> bool {
        self.agreed.insert(scope.clone(), ours) != Some(ours)
    }

    /// When this session is to be closed, unless something comes before.
    pub fn stall_ms(&self) -> Option<u64> {
        let waits = !self.requests.is_empty() || self.timeouts > 0 || !self.announced(1) || !self.gate.is_empty();
        waits.then_some(self.progress_ms.saturating_add(STALL_MS_MAX))
    }

    /// Starts the patience anew where nothing was outstanding before.
    pub fn start_waiting(&mut self, now_ms: u64) {
        if self.stall_ms().is_none() {
            self.progress_ms = now_ms;
        }
    }

    /// Whether bytes may be served now.
    pub fn may_serve(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.budget_ms);
        let refill = i64::try_from(passed_ms.saturating_mul(SERVE_BYTES_PER_S) / 1000).unwrap_or(i64::MAX);
        if refill > 0 {
            self.budget_bytes = self.budget_bytes.saturating_add(refill).min(SERVE_BURST_BYTES as i64);
            self.budget_ms = now_ms;
        }
        self.budget_bytes > 0
    }

    /// Takes served bytes from the budget. One frame may overdraw it, so that a large fact never waits for ever; the next
    /// one waits until that is paid back.
    pub fn served(&mut self, bytes: usize) {
        self.budget_bytes = self.budget_bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When the budget allows for another frame.
    fn serve_ms(&self) -> u64 {
        let owed = u64::try_from(1 - self.budget_bytes).unwrap_or(0);
        self.budget_ms.saturating_add((owed * 1000).div_ceil(SERVE_BYTES_PER_S))
    }

    /// When something is due on this link although nothing comes.
    pub fn wake_ms(&self, now_ms: u64) -> u64 {
        let requests = self.requests.values().map(|r| r.deadline_ms);
        let paused = self.paused.values().copied().filter(|at| *at != u64::MAX);
        let news = (!self.news.is_empty()).then_some(self.news_ms);
        let serve = (!self.serve.is_empty() && !self.blocked).then(|| self.serve_ms().max(now_ms + 1));
        let later = (!self.wanted.is_empty() && self.later_ms > now_ms).then_some(self.later_ms);
        let times = requests.chain(paused).chain(news).chain(serve).chain(later).chain(self.stall_ms());
        times.fold(self.beat.next_ms(), u64::min)
    }

    /// Whether it asks, wants to ask, or is being served.
    pub fn is_active(&self) -> bool {
        !(self.wanted.is_empty() && self.probes.is_empty() && self.requests.is_empty() && self.serve.is_empty())
    }
}

/// Whether a head at a peer means that something is missing here: a longer chain, or another branch. Beyond a known
/// fork nothing is missing.
fn lacks(log: &FactLog, chain: &ChainId, seq: u64, id: FactId) -> bool {
    let held = log.held(chain);
    match log.fork_seq(chain) {
        Some(fork) if seq >= fork => held + 1 < fork,
        _ if seq > held => true,
        _ => log.id_at(chain, seq) != Some(id),
    }
}
