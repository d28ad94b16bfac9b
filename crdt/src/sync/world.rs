//! A world of sync cores for the tests: links that lose, delay, reorder and break, and what must hold on them.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, AuthorKey, FactId, Lane, Scope, SealedFact, Signature};

use super::bulk::{Bulk, Packing};
use super::wire::Frame;
use super::{Lag, LinkId, Sync, SyncInput, SyncOutput};
use crate::limits::{VOUCH_SPAN, VOUCHED_LEN_MAX};
use crate::log::{ChainId, FactLog, Head, Inserted, Refusal};
use crate::testing::{MESH, Members, draft, key, scopes, wake};

/// Draws of one seed (xorshift64*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

pub(super) struct Node {
    pub key: AuthorKey,
    pub log: FactLog,
    pub sync: Sync,
    pub timer_ms: Option<u64>,
}

pub(super) struct InFlight {
    pub at_ms: u64,
    pub from: usize,
    pub to: usize,
    pub epoch: u64,
    pub bytes: Vec<u8>,
}

pub(super) fn chain_of(scope: &Scope, head: &Head) -> ChainId {
    ChainId { scope: scope.clone(), author: head.author, incarnation: head.incarnation }
}

/// A link that is up.
pub(super) struct Up {
    pub epoch: u64,
    /// What each side had of restrictions and authority when it came up.
    pub had: Vec<(usize, ChainId, u64)>,
}

/// The same frame as a relay may make it that means harm and wants to get away with it. Its own facts it sends as they
/// are: what an author never signs, nobody can mend.
fn garbled(bytes: Vec<u8>, relay: AuthorId) -> Vec<u8> {
    let Ok(Frame::Bulk(bulk)) = Frame::decode(&bytes) else { return bytes };
    let facts = bulk.unpack().expect("ours");
    if facts.iter().any(|fact| fact.peek().expect("readable").author == relay) {
        return bytes;
    }
    Frame::Bulk(plain(bulk.request, &garble(&facts))).encode()
}

pub(super) fn garble(facts: &[SealedFact]) -> Vec<SealedFact> {
    let garbage = Signature::from_bytes([7; 64]);
    let last = facts.len() - 1;
    let each = facts.iter().enumerate().map(|(index, fact)| {
        let seq = fact.peek().expect("readable").seq;
        let checked = index == last || seq % VOUCH_SPAN == 0 || fact.wire_len() > VOUCHED_LEN_MAX;
        let signature = if checked { fact.signature } else { garbage };
        SealedFact::new(fact.header.clone(), signature, fact.body().map(<[u8]>::to_vec))
    });
    each.collect()
}

pub(super) fn plain(request: u32, facts: &[SealedFact]) -> Bulk {
    let content = to_cbor(&facts);
    let len = u32::try_from(content.len()).expect("short");
    Bulk { request, packing: Packing::Plain, len, content: content.into() }
}

/// Node cores on links that lose, delay, reorder and break.
pub(super) struct World {
    pub now_ms: u64,
    pub dice: Dice,
    pub loss_percent: u64,
    pub delay_ms: u64,
    pub members: Members,
    pub nodes: Vec<Node>,
    pub links: BTreeMap<(usize, usize), Up>,
    pub epoch: u64,
    pub flying: Vec<InFlight>,
    pub closed: Vec<&'static str>,
    pub data_behind_gate: u64,
    /// A relay that exchanges for garbage whatever signature nobody checks at once.
    pub garbles: Option<usize>,
}

pub(super) fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    /// Node 0 is a coordinator; the others stand in lyon and porto by turns.
    pub(super) fn new(count: usize, seed: u64, loss_percent: u64, delay_ms: u64) -> Self {
        wake();
        let mut members = Members::default();
        let node = |i: usize| {
            let key = key(u8::try_from(i).expect("few nodes") + 1);
            members.enrol(&key, [None, Some("lyon"), Some("porto")][if i == 0 { 0 } else { 1 + i % 2 }]);
            Node { key, log: FactLog::new(MESH), sync: Sync::new(), timer_ms: None }
        };
        let nodes = (0..count).map(node).collect();
        Self {
            now_ms: 0,
            dice: Dice(seed | 1),
            loss_percent,
            delay_ms,
            members,
            nodes,
            links: BTreeMap::new(),
            epoch: 0,
            flying: Vec::new(),
            closed: Vec::new(),
            data_behind_gate: 0,
            garbles: None,
        }
    }

    pub(super) fn author(&self, node: usize) -> AuthorId {
        self.nodes[node].key.author_id()
    }

    pub(super) fn handle(&mut self, node: usize, input: SyncInput<'_>) {
        let n = &mut self.nodes[node];
        n.sync.handle(self.now_ms, &n.log, input);
        while let Some(output) = self.nodes[node].sync.poll() {
            self.obey(node, output);
        }
    }

    pub(super) fn obey(&mut self, node: usize, output: SyncOutput) {
        match output {
            SyncOutput::Send { link, bytes, .. } => {
                let to = usize::try_from(link).expect("a node");
                self.must_not_leak(to, &bytes);
                self.must_stand_alone(&bytes);
                let bytes = if self.garbles == Some(node) { garbled(bytes, self.author(node)) } else { bytes };
                let epoch = self.links.get(&ordered(node, to)).map_or(0, |l| l.epoch);
                if self.dice.roll(100) >= self.loss_percent {
                    let at_ms = self.now_ms + 1 + self.dice.roll(self.delay_ms.max(1));
                    self.flying.push(InFlight { at_ms, from: node, to, epoch, bytes });
                }
            }
            SyncOutput::Offer { link, facts } => facts.into_iter().for_each(|fact| self.take(node, link, fact)),
            SyncOutput::OfferRange { link, chain, from, facts } => self.take_range(node, link, &chain, from, facts),
            SyncOutput::Settle => {
                self.nodes[node].log.settle(crate::limits::SETTLE_FACTS, &self.members);
            }
            SyncOutput::OfferEvidence { link, evidence } => {
                let answer = self.nodes[node].log.insert_evidence(*evidence, &self.members);
                self.handle(node, SyncInput::EvidenceAnswered { link, answer: &answer });
                self.tell_fork(node, Some(link), &answer);
            }
            SyncOutput::Close { link, code } => {
                self.closed.push(code);
                self.links.remove(&ordered(node, usize::try_from(link).expect("a node")));
                self.handle(usize::try_from(link).expect("a node"), SyncInput::LinkDown { link: node as u64 });
            }
            SyncOutput::Far { .. } => unreachable!("nothing is far in this world"),
            SyncOutput::Timer { at_ms } => self.nodes[node].timer_ms = Some(at_ms),
        }
    }

    pub(super) fn take(&mut self, node: usize, link: LinkId, fact: SealedFact) {
        let id = fact.id();
        let scope = fact.peek().expect("offered facts are readable").scope;
        if scope.lane() == Lane::Data {
            self.restrictions_came_first(node, link);
        }
        let answer = self.nodes[node].log.insert(fact, &self.members);
        self.handle(node, SyncInput::Answered { id, answer: &answer });
        if matches!(answer, Ok(Inserted::New(_))) {
            self.handle(node, SyncInput::Spread { id, source: Some(link) });
        }
        self.tell_fork(node, None, &answer);
    }

    fn take_range(&mut self, node: usize, link: LinkId, chain: &ChainId, from: u64, facts: Vec<SealedFact>) {
        self.restrictions_came_first(node, link);
        let taken = self.nodes[node].log.insert_range(chain, from, facts, &self.members);
        self.handle(node, SyncInput::RangeAnswered { link, chain, taken: &taken });
        if let Some(last) = taken.new.last() {
            self.handle(node, SyncInput::Spread { id: last.id(), source: Some(link) });
        }
        if taken.fork.is_some() {
            self.handle(node, SyncInput::SpreadEvidence { chain: chain.clone(), source: None });
        }
    }

    pub(super) fn tell_fork(&mut self, node: usize, source: Option<LinkId>, answer: &Result<Inserted, Refusal>) {
        if let Ok(Inserted::Fork(evidence)) = answer {
            let chain = ChainId::of(&evidence.header().expect("verified"));
            self.handle(node, SyncInput::SpreadEvidence { chain, source });
        }
    }

    /// Whatever the peer had of restrictions and authority when the link came up is here before data of this link.
    pub(super) fn restrictions_came_first(&mut self, node: usize, link: LinkId) {
        let peer = usize::try_from(link).expect("a node");
        let Some(Up { had, .. }) = self.links.get(&ordered(node, peer)) else { return };
        let log = &self.nodes[node].log;
        for (holder, chain, seq) in had {
            let fork = log.fork_seq(chain).map_or(u64::MAX, |fork| fork - 1);
            assert!(*holder != peer || log.held(chain) >= *seq.min(&fork), "data before {} at {node}", chain.scope);
        }
        self.data_behind_gate += u64::from(had.iter().any(|(holder, _, _)| *holder == peer));
    }

    /// SCOPE: no byte of a scope, its name and the ids of its facts included, reaches a node outside its reader rule.
    pub(super) fn must_not_leak(&self, to: usize, bytes: &[u8]) {
        let reader = self.author(to);
        let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        for scope in scopes().iter().filter(|scope| !self.members.may_read(&reader, scope)) {
            assert!(!contains(scope.to_string().as_bytes()), "the name {scope} reached node {to}");
            for fact in self.nodes.iter().flat_map(|n| n.log.iter_scope(scope)) {
                assert!(!contains(fact.id().as_bytes()), "a fact id of {scope} reached node {to}");
                assert!(!contains(fact.body().expect("present")), "a body of {scope} reached node {to}");
            }
        }
    }

    /// Each fact that leaves alone is verifiable alone.
    fn must_stand_alone(&self, bytes: &[u8]) {
        if let Ok(Frame::Facts(frame)) = Frame::decode(bytes) {
            for fact in frame.facts {
                let header = fact.peek().expect("readable");
                let key = self.members.0.get(&header.author).map(|(key, _)| *key).expect("a member");
                assert!(fact.open(&key).is_ok(), "position {} left alone with a bad signature", header.seq);
            }
        }
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if a == b || self.links.contains_key(&ordered(a, b)) {
            return;
        }
        self.epoch += 1;
        let shared = self.members.shared(&self.author(a), &self.author(b));
        let mut had = Vec::new();
        for node in [a, b] {
            for scope in shared.iter().filter(|scope| scope.lane() != Lane::Data) {
                let heads = self.nodes[node].log.vector(scope).into_iter();
                had.extend(heads.map(|h| (node, chain_of(scope, &h), h.seq)));
            }
        }
        self.links.insert(ordered(a, b), Up { epoch: self.epoch, had });
        for (node, peer) in [(a, b), (b, a)] {
            let input = SyncInput::LinkUp { link: peer as u64, peer: self.author(peer), scopes: shared.clone() };
            self.handle(node, input);
        }
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&ordered(a, b)).is_some() {
            self.handle(a, SyncInput::LinkDown { link: b as u64 });
            self.handle(b, SyncInput::LinkDown { link: a as u64 });
        }
    }

    pub(super) fn write(&mut self, node: usize, scope: &Scope) -> FactId {
        let n = &mut self.nodes[node];
        let body = format!("{scope} says {} at {}", n.log.len(), self.now_ms);
        let fact = n.log.append(&n.key, draft(scope, body.as_bytes())).expect("appends");
        let id = fact.id();
        self.handle(node, SyncInput::Spread { id, source: None });
        id
    }

    pub(super) fn run_until(&mut self, end_ms: u64) {
        loop {
            let timers = self.nodes.iter().filter_map(|n| n.timer_ms);
            let next = self.flying.iter().map(|f| f.at_ms).chain(timers).min().unwrap_or(u64::MAX);
            if next > end_ms {
                self.now_ms = end_ms;
                return;
            }
            self.now_ms = self.now_ms.max(next);
            for node in 0..self.nodes.len() {
                if self.nodes[node].timer_ms.is_some_and(|at| at <= self.now_ms) {
                    self.nodes[node].timer_ms = None;
                    self.handle(node, SyncInput::Tick);
                }
            }
            let now_ms = self.now_ms;
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.flying).into_iter().partition(|f| f.at_ms <= now_ms);
            self.flying = later;
            for frame in due {
                if self.links.get(&ordered(frame.from, frame.to)).is_some_and(|l| l.epoch == frame.epoch) {
                    self.handle(frame.to, SyncInput::Frame { link: frame.from as u64, bytes: &frame.bytes });
                }
            }
        }
    }

    pub(super) fn writable(&mut self, node: usize) -> Scope {
        let author = self.author(node);
        let all: Vec<Scope> = scopes().into_iter().filter(|scope| self.members.may_read(&author, scope)).collect();
        let index = self.dice.roll(all.len() as u64);
        all[usize::try_from(index).expect("small")].clone()
    }

    /// Both ends of each link that is up.
    fn ends(&self) -> Vec<(usize, usize)> {
        self.links.keys().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect()
    }

    /// What `node` shows of `peer`.
    pub(super) fn lags(&self, node: usize, peer: usize) -> Vec<Lag> {
        let n = &self.nodes[node];
        n.sync.lags(self.now_ms, &n.log, &self.author(peer)).map(|(_, lags)| lags).unwrap_or_default()
    }

    /// TRUTH: nobody shows a peer as further than it is, link or no link.
    pub(super) fn nobody_is_flattered(&self) {
        let pairs = (0..self.nodes.len()).flat_map(|a| (0..self.nodes.len()).map(move |b| (a, b)));
        for (node, peer) in pairs {
            let (ours, theirs) = (&self.nodes[node].log, &self.nodes[peer].log);
            for lag in self.lags(node, peer) {
                let lacks = |head: &Head| {
                    let chain = chain_of(&lag.scope, head);
                    let end = ours.fork_seq(&chain).map_or(head.seq, |fork| head.seq.min(fork - 1));
                    end.saturating_sub(theirs.held(&chain))
                };
                let lacks: u64 = ours.vector(&lag.scope).iter().map(lacks).sum();
                assert!(lag.behind >= lacks, "{node} shows {peer} {} behind, it is {lacks}: {}", lag.behind, lag.scope);
                assert_eq!(lag.oldest_ms.is_some(), lag.behind > 0);
            }
        }
    }

    pub(super) fn differing(&self) -> Vec<String> {
        let mut differing = Vec::new();
        for scope in scopes() {
            let readers = (0..self.nodes.len()).filter(|n| self.members.may_read(&self.author(*n), &scope));
            let hashes: BTreeSet<_> = readers.map(|n| self.nodes[n].log.state_hash(&scope)).collect();
            if hashes.len() > 1 {
                differing.push(scope.to_string());
            }
        }
        differing
    }

    /// The weather ends; every pair that may talk does; what is missing must come within a bound.
    pub(super) fn calm(&mut self, star: bool) {
        self.loss_percent = 0;
        for _ in 0..30 {
            for a in 0..self.nodes.len() {
                (0..if star { 1 } else { self.nodes.len() }).for_each(|b| self.connect(a, b));
            }
            self.run_until(self.now_ms + 4_000);
        }
        assert_eq!(self.differing(), Vec::<String>::new());
        let lags: Vec<Lag> = self.ends().into_iter().flat_map(|(a, b)| self.lags(a, b)).collect();
        let level = |lag: &Lag| (lag.behind, lag.ahead, lag.oldest_ms, lag.stalled) == (0, 0, None, Some(false));
        assert!(!lags.is_empty() && lags.iter().all(level), "{lags:?}");
    }
}
