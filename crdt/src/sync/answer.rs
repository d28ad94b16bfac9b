//! What peers lack: announcing, answering requests, digests.

use std::collections::BTreeSet;

use cauldron_identity::{Scope, planted};

use super::bulk;
use super::link::Link;
use super::ranks::Ranks;
use super::wire::{Digests, Frame, Have, Part, ScopeDigest, ScopeHeads, Want};
use super::{LinkId, Sync, SyncOutput};
use crate::limits::{DIGESTS_PER_FRAME_MAX, HEADS_PER_FRAME_MAX, REQUEST_MS_MAX, REQUESTS_MAX};
use crate::log::{ChainId, Evidence, FactLog, Inserted, Refusal};

impl Sync {
    /// Tells a link the heads of all shared scopes, in the order of service, after the forks known in them.
    pub(super) fn announce(&mut self, log: &FactLog, link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else { return };
        l.round_sent += 1;
        let round = l.round_sent;
        let scopes: Vec<Scope> = l.scopes.iter().cloned().collect();
        // First: the heads of a forked chain hide what lies beyond the fork, and its author must not take them for all there is.
        scopes.iter().for_each(|scope| self.tell_forks(log, link, scope));
        let Some(l) = self.links.get(&link) else { return };
        let mut frames = pack(log, self.ranks, l, &scopes);
        if frames.is_empty() {
            frames.push(Vec::new());
        }
        let last = frames.len() - 1;
        for (index, scopes) in frames.into_iter().enumerate() {
            let part = u32::try_from(index).unwrap_or(u32::MAX);
            let first = Some(Part { round, part, more: index < last });
            self.send(link, &Frame::Have(Have { first, scopes }));
        }
    }

    fn tell_forks(&mut self, log: &FactLog, link: LinkId, scope: &Scope) {
        for evidence in log.evidence(scope) {
            self.send(link, &Frame::Evidence(Box::new(evidence.clone())));
        }
    }

    pub(super) fn heard_want(&mut self, link: LinkId, want: Want) {
        let Some(l) = self.links.get_mut(&link) else { return };
        for range in want.ranges {
            // No answer at all: whether the scope exists is not the peer's to know.
            if !l.scopes.contains(&range.scope) {
                self.stats.foreign_scope += 1;
            } else if let Some(before) = l.serve.iter_mut().find(|before| before.chain() == range.chain()) {
                // It waited so long that the peer asks again: once is enough.
                (*before, l.blocked) = (range, false);
                self.stats.over_limit += 1;
            } else if l.serve.len() >= REQUESTS_MAX {
                self.stats.over_limit += 1;
            } else {
                l.serve.push_back(range);
                l.blocked = false;
            }
        }
    }

    /// Answers what was asked, as far as the budget of each link goes.
    pub(super) fn serve_all(&mut self, now_ms: u64, log: &FactLog, looked_at: &BTreeSet<LinkId>) {
        for &link in looked_at {
            while self.links.get_mut(&link).is_some_and(|l| !l.serve.is_empty() && l.may_serve(now_ms)) {
                let Some((range, rank)) = self.next_served(log, link) else { break };
                let Some(l) = self.links.get_mut(&link) else { break };
                let len_max = if rank >= self.ranks.bulk { l.room.bulk } else { usize::MAX };
                let (answer, last) = bulk::answer(log, &range, len_max);
                let bytes = answer.encode();
                l.served(bytes.len());
                let room = l.room.of(self.ranks, rank);
                *room = room.saturating_sub(bytes.len());
                // The peer has it now: what follows on it is pushed.
                let pushed = l.pushed.entry(range.chain()).or_default();
                *pushed = last.max(*pushed);
                self.outputs.push_back(SyncOutput::Send { link, bytes, rank, chain: Some(range.chain()) });
            }
        }
    }

    pub(super) fn send_digests(&mut self, now_ms: u64, log: &FactLog, looked_at: &BTreeSet<LinkId>) {
        for &link in looked_at {
            let Some(l) = self.links.get_mut(&link).filter(|l| l.beat.next_ms() <= now_ms) else { continue };
            l.beat.sent(now_ms);
            let round = l.round_sent;
            let all: Vec<ScopeDigest> =
                l.scopes.iter().map(|s| ScopeDigest { scope: s.clone(), digest: log.state_hash(s) }).collect();
            for scopes in all.chunks(DIGESTS_PER_FRAME_MAX) {
                self.send(link, &Frame::Digests(Digests { round, scopes: scopes.to_vec() }));
            }
            if all.is_empty() {
                self.send(link, &Frame::Digests(Digests { round, scopes: all }));
            }
        }
    }

    /// Tells the peer the heads of each scope in which the two differ.
    pub(super) fn heard_digests(&mut self, now_ms: u64, log: &FactLog, link: LinkId, digests: &Digests) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.may_compare(now_ms) {
            self.stats.over_limit += 1;
            return;
        }
        let misses = !l.announced(digests.round);
        let (shared, foreign): (Vec<_>, Vec<_>) = digests.scopes.iter().partition(|d| l.scopes.contains(&d.scope));
        self.stats.foreign_scope += foreign.len() as u64;
        if misses {
            self.send(link, &Frame::Again);
        }
        let Some(l) = self.links.get_mut(&link) else { return };
        let mut equal = true;
        let mut differ: Vec<Scope> = Vec::new();
        for told in shared {
            let ours = log.state_hash(&told.scope);
            if ours == told.digest {
                l.told_of(now_ms, &told.scope, false);
                // What was pushed or told is not acknowledged one by one; this says that all of it is there.
                if l.agrees(&told.scope, ours) && !planted::active("agreement-unheard") {
                    for head in log.vector(&told.scope) {
                        let (author, incarnation) = (head.author, head.incarnation);
                        l.note(
                            now_ms,
                            log,
                            ChainId { scope: told.scope.clone(), author, incarnation },
                            head.seq,
                            head.id,
                        );
                    }
                }
                continue;
            }
            equal = false;
            if l.may_tell(now_ms, &told.scope, ours) {
                differ.push(told.scope.clone());
            } else {
                self.stats.digests_repeated += 1;
            }
        }
        l.beat.compared(now_ms, equal);
        let told = self.links.get(&link).map(|l| pack(log, self.ranks, l, &differ)).unwrap_or_default();
        for scopes in told {
            self.send(link, &Frame::Have(Have { first: None, scopes }));
        }
        differ.iter().for_each(|scope| self.tell_forks(log, link, scope));
    }

    pub(super) fn heard_again(&mut self, now_ms: u64, log: &FactLog, link: LinkId) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if l.again_ms.is_some_and(|at| now_ms < at + REQUEST_MS_MAX) {
            self.stats.over_limit += 1;
            return;
        }
        l.again_ms = Some(now_ms);
        self.announce(log, link);
    }

    pub(super) fn heard_evidence(&mut self, log: &FactLog, link: LinkId, evidence: Box<Evidence>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let Some(header) = evidence.header() else {
            self.close(link, "malformed");
            return;
        };
        if !l.scopes.contains(&header.scope) {
            self.stats.foreign_scope += 1;
            return;
        }
        let known = log.fork_seq(&crate::log::ChainId::of(&header));
        if known.is_none_or(|known| header.seq < known) {
            self.outputs.push_back(SyncOutput::OfferEvidence { link, evidence });
        }
    }

    pub(super) fn evidence_answered(&mut self, link: LinkId, answer: &Result<Inserted, Refusal>) {
        if let Err(refusal) = answer {
            self.stats.facts_refused += 1;
            if refusal.blames_peer() {
                self.close(link, refusal.code());
            }
        }
    }
}

/// The heads of `scopes`, in frames of bounded length.
fn pack(log: &FactLog, ranks: Ranks, l: &Link, scopes: &[Scope]) -> Vec<Vec<ScopeHeads>> {
    let mut frames: Vec<Vec<ScopeHeads>> = Vec::new();
    let mut room = 0;
    for scope in scopes {
        for heads in log.vector(scope).chunks(HEADS_PER_FRAME_MAX) {
            // A scope's name counts like a head.
            if room < heads.len() + 1 {
                frames.push(Vec::new());
                room = HEADS_PER_FRAME_MAX + 1;
            }
            room -= heads.len() + 1;
            if let Some(frame) = frames.last_mut() {
                frame.push(ranks.told(log, scope, heads, |chain| l.remote_seq(chain)));
            }
        }
    }
    frames
}
