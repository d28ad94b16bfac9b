//! What this node lacks: hearing what peers have, asking for it, taking what comes.

use std::collections::BTreeSet;

use cauldron_identity::{FactId, Lane, SealedFact};

use super::link::{Link, Request};
use super::wire::{Facts, Frame, Have, Range, Want};
use super::{LinkId, Offered, Sync, SyncOutput};
use crate::limits::{RANGE_FACTS_MAX, REQUEST_MS_MAX, REQUESTS_MAX};
use crate::log::{ChainId, FactLog, Inserted, Refusal};

impl Sync {
    pub(super) fn heard_have(&mut self, now_ms: u64, log: &FactLog, link: LinkId, have: Have) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let announces = have.first.is_some_and(|part| l.announce(part));
        if announces {
            l.progress(now_ms);
        } else {
            l.start_waiting(now_ms);
        }
        for told in have.scopes {
            if !l.scopes.contains(&told.scope) {
                self.stats.foreign_scope += 1;
                continue;
            }
            for head in told.heads.into_iter().filter(|head| head.seq > 0) {
                let chain = ChainId { scope: told.scope.clone(), author: head.author, incarnation: head.incarnation };
                if announces {
                    l.require(chain.clone(), head.seq, head.id);
                }
                if !l.note(log, chain, head.seq, head.id) {
                    self.stats.over_limit += 1;
                }
            }
        }
    }

    /// Asks every link for what it has and this node lacks.
    pub(super) fn ask_all(&mut self, now_ms: u64, log: &FactLog) {
        // Each chain is asked of one peer at a time, and not while facts of it are with the log.
        let mut busy: BTreeSet<ChainId> = self.offered.values().map(|o| o.chain.clone()).collect();
        busy.extend(self.links.values().flat_map(|l| l.requests.values().map(|r| r.chain.clone())));
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let Some(l) = self.links.get_mut(&link) else { continue };
            let ranges = plan(now_ms, log, l, &mut busy);
            if !ranges.is_empty() {
                self.send(link, &Frame::Want(Want { ranges }));
            }
        }
    }

    pub(super) fn heard_facts(&mut self, now_ms: u64, log: &FactLog, link: LinkId, frame: Facts) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let request = frame.request.and_then(|id| l.requests.remove(&id));
        let offer = match request {
            Some(request) if frame.facts.is_empty() => {
                // The peer lost it, or may no longer tell: others have their turn first.
                l.paused.insert(request.chain, now_ms + REQUEST_MS_MAX);
                return;
            }
            Some(request) => asked(l, log, &request, frame.facts),
            None => pushed(l, log, frame.facts),
        };
        let Ok(Taken { facts, unasked, foreign }) = offer else {
            self.close(link, "malformed");
            return;
        };
        self.stats.facts_unasked += unasked;
        self.stats.foreign_scope += foreign;
        let mut offered = Vec::new();
        for (chain, id, fact) in facts {
            // The same fact may be with the log already, from another peer.
            if let std::collections::btree_map::Entry::Vacant(entry) = self.offered.entry(id) {
                entry.insert(Offered { chain, link });
                offered.push(fact);
            } else {
                self.stats.facts_duplicate += 1;
            }
        }
        if !offered.is_empty() {
            self.outputs.push_back(SyncOutput::Offer { link, facts: offered });
        }
    }

    pub(super) fn answered(&mut self, now_ms: u64, log: &FactLog, id: FactId, answer: &Result<Inserted, Refusal>) {
        let Some(Offered { chain, link }) = self.offered.remove(&id) else { return };
        match answer {
            Ok(Inserted::New(_)) => self.stats.facts_new += 1,
            Ok(Inserted::Duplicate) => self.stats.facts_duplicate += 1,
            Ok(Inserted::Fork(_)) => {}
            Err(_) => self.stats.facts_refused += 1,
        }
        if matches!(answer, Ok(Inserted::New(_))) && chain.scope.lane() == Lane::Authority {
            // Who was unknown may be known now.
            self.links.values_mut().for_each(|l| l.paused.retain(|_, until| *until == u64::MAX));
        }
        let Some(l) = self.links.get_mut(&link) else { return };
        match answer {
            Ok(Inserted::New(_) | Inserted::Fork(_)) => {
                l.progress(now_ms);
                l.probes.remove(&chain);
            }
            // It claimed another branch, then showed ours.
            Ok(Inserted::Duplicate) => {
                if l.probes.remove(&chain) {
                    l.paused.insert(chain, u64::MAX);
                }
            }
            Err(refusal) if refusal.blames_peer() => self.close(link, refusal.code()),
            Err(Refusal::Diverged { .. }) => {
                if log.held(&chain) > 0 {
                    l.probes.insert(chain);
                } else {
                    l.paused.insert(chain, u64::MAX);
                }
            }
            Err(Refusal::Gap { .. } | Refusal::Forked { .. }) => {}
            // Knowledge may come that changes the answer; time is a bad sign, so ask again slowly.
            Err(_) => {
                l.paused.insert(chain, now_ms + REQUEST_MS_MAX);
            }
        }
    }
}

/// The next ranges to ask of a link.
fn plan(now_ms: u64, log: &FactLog, l: &mut Link, busy: &mut BTreeSet<ChainId>) -> Vec<Range> {
    l.paused.retain(|_, until| *until > now_ms);
    let settled: Vec<ChainId> =
        l.wanted.iter().filter(|c| !l.lacks(log, c) && !l.probes.contains(c)).cloned().collect();
    settled.iter().for_each(|chain| {
        l.wanted.remove(chain);
    });
    let open = l.is_open(log);
    let mut ranges = Vec::new();
    while l.requests.len() < REQUESTS_MAX {
        let Some(chain) = next_chain(l, open, busy) else { break };
        busy.insert(chain.clone());
        l.cursor = Some(chain.clone());
        let Some((from, to)) = next_range(log, l, &chain) else { continue };
        l.start_waiting(now_ms);
        l.request_next = l.request_next.wrapping_add(1);
        let request = l.request_next;
        let (scope, author, incarnation) = (chain.scope.clone(), chain.author, chain.incarnation);
        ranges.push(Range { request, scope, author, incarnation, from, to });
        l.requests.insert(request, Request { chain, from, to, deadline_ms: now_ms + REQUEST_MS_MAX });
    }
    ranges
}

/// Restrictions and authority in the order of their scopes; then, once the gate is open, data, each chain in its turn:
/// a cap that always served the first authors made the last ones starve.
fn next_chain(l: &Link, open: bool, busy: &BTreeSet<ChainId>) -> Option<ChainId> {
    let free = |chain: &&ChainId| !busy.contains(*chain) && !l.paused.contains_key(*chain);
    let first = l.wanted.iter().filter(|chain| chain.scope.lane() != Lane::Data).find(free);
    if first.is_some() || !open {
        return first.cloned();
    }
    let after = l.cursor.as_ref().and_then(|cursor| l.wanted.iter().filter(|chain| *chain > cursor).find(free));
    after.or_else(|| l.wanted.iter().find(free)).cloned()
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
    (held < end).then(|| (held + 1, end.min(held.saturating_add(RANGE_FACTS_MAX))))
}

struct Taken {
    facts: Vec<(ChainId, FactId, SealedFact)>,
    unasked: u64,
    foreign: u64,
}

struct Malformed;

/// The part of an answer that was asked for.
fn asked(l: &mut Link, log: &FactLog, request: &Request, facts: Vec<SealedFact>) -> Result<Taken, Malformed> {
    let mut taken = Taken { facts: Vec::new(), unasked: 0, foreign: 0 };
    for (seq, fact) in (request.from..=request.to.saturating_add(1)).zip(facts) {
        let header = fact.peek().map_err(|_| Malformed)?;
        if ChainId::of(&header) != request.chain || header.seq != seq || seq > request.to {
            taken.unasked += 1;
            break;
        }
        let id = fact.id();
        l.note(log, request.chain.clone(), seq, id);
        taken.facts.push((request.chain.clone(), id, fact));
    }
    Ok(taken)
}

/// The part of a push that can be used: the next facts of their chains, and second branches. Of the rest it is noted
/// that the peer has them, so that they are asked for when their turn comes.
fn pushed(l: &mut Link, log: &FactLog, facts: Vec<SealedFact>) -> Result<Taken, Malformed> {
    let open = l.is_open(log);
    let mut taken = Taken { facts: Vec::new(), unasked: 0, foreign: 0 };
    for fact in facts {
        let header = fact.peek().map_err(|_| Malformed)?;
        let (chain, id) = (ChainId::of(&header), fact.id());
        if !l.scopes.contains(&chain.scope) {
            taken.foreign += 1;
            continue;
        }
        let in_frame = taken.facts.iter().filter(|(c, _, _)| *c == chain).count() as u64;
        let next = log.held(&chain) + 1 + in_frame;
        let usable = header.seq == next || (header.seq < next && log.id_at(&chain, header.seq) != Some(id));
        l.note(log, chain.clone(), header.seq, id);
        if usable && (open || chain.scope.lane() != Lane::Data) {
            taken.facts.push((chain, id, fact));
        } else {
            taken.unasked += u64::from(log.get(&id).is_none());
        }
    }
    Ok(taken)
}
