//! What this node lacks: hearing what peers have, asking for it, taking what comes.

use std::collections::BTreeSet;

use cauldron_identity::{FactId, Lane, SealedFact};

use super::bulk::Bulk;
use super::fair::plan;
use super::link::{Link, Request};
use super::wire::{Facts, Frame, Have, Want};
use super::{LinkId, Offered, Sync, SyncOutput};
use crate::limits::{REQUEST_MS_MAX, UNMET_MAX, VOUCH_SPAN};
use crate::log::{ChainId, FactLog, Inserted, Refusal, Taken};

impl Sync {
    pub(super) fn heard_have(&mut self, now_ms: u64, log: &FactLog, link: LinkId, have: Have) {
        let bulk = self.ranks.bulk;
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
            let chain_of = |head: &crate::log::Head| {
                let (author, incarnation) = (head.author, head.incarnation);
                ChainId { scope: told.scope.clone(), author, incarnation }
            };
            for head in told.heads.iter().filter(|head| head.seq > 0) {
                let chain = chain_of(head);
                if announces {
                    l.require(chain.clone(), head.seq, head.id);
                }
                if !l.note(now_ms, log, chain, head.seq, head.id) {
                    self.stats.over_limit += 1;
                }
            }
            for urgent in told.urgent.iter().flatten() {
                if let Some(head) = told.heads.get(usize::from(urgent.head)) {
                    l.note_urgent(&chain_of(head), urgent.rank, urgent.seq, bulk);
                }
            }
        }
    }

    /// Asks the links that are looked at for what they have and this node lacks.
    pub(super) fn ask_all(&mut self, now_ms: u64, log: &FactLog, looked_at: &BTreeSet<LinkId>) {
        // Each chain is asked of one peer at a time, and not while facts of it are with the log.
        let mut busy: BTreeSet<ChainId> = self.offered.values().map(|o| o.chain.clone()).collect();
        busy.extend(self.ranges.keys().cloned());
        // A link that asks is active, so all that ask are looked at.
        let asking = looked_at.iter().filter_map(|link| self.links.get(link));
        busy.extend(asking.flat_map(|l| l.requests.values().map(|r| r.chain.clone())));
        for &link in looked_at {
            let Some(l) = self.links.get_mut(&link) else { continue };
            let ranges = plan(now_ms, log, l, &self.holds, self.ranks.bulk, &mut busy);
            if !ranges.is_empty() {
                self.send(link, &Frame::Want(Want { ranges }));
            }
        }
    }

    pub(super) fn heard_facts(&mut self, now_ms: u64, log: &FactLog, link: LinkId, frame: Facts) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let request = frame.request.and_then(|id| l.answered(id));
        let offer = match request {
            Some((request, _)) if frame.facts.is_empty() => return self.unmet(now_ms, link, request),
            Some((request, _)) => asked(now_ms, l, log, &request, frame.facts),
            None if !l.orphans.may_come(now_ms) => return self.dropped(link),
            None => pushed(now_ms, l, log, frame.facts),
        };
        let Usable { facts, unasked, unasked_bytes, foreign } = match offer {
            Ok(usable) => usable,
            Err(refusal) => return self.refused(link, &refusal),
        };
        l.orphans.came(unasked, unasked_bytes);
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

    /// A range in one piece. Only what was asked for is unpacked.
    pub(super) fn heard_bulk(&mut self, now_ms: u64, log: &FactLog, link: LinkId, bulk: &Bulk) {
        let Some(l) = self.links.get_mut(&link) else { return };
        let Some((request, _)) = l.answered(bulk.request) else {
            l.orphans.came(1, bulk.content.len());
            self.stats.facts_unasked += 1;
            return;
        };
        if request.chain.scope.lane() != Lane::Data {
            return self.close(link, "malformed");
        }
        let facts = match bulk.unpack() {
            Ok(facts) => facts,
            Err(why) => return self.close(link, why.code()),
        };
        let Some(last) = facts.last() else { return self.unmet(now_ms, link, request) };
        // It may go on to the next fact that vouches for the last one asked for.
        let end = request.from + facts.len() as u64 - 1;
        if end >= request.to.saturating_add(VOUCH_SPAN) {
            return self.refused(link, &Refusal::Hole { seq: request.to + 1 });
        }
        l.note(now_ms, log, request.chain.clone(), end, last.id());
        self.stats.ranges += 1;
        *self.ranges.entry(request.chain.clone()).or_default() += 1;
        self.outputs.push_back(SyncOutput::OfferRange { link, chain: request.chain, from: request.from, facts });
    }

    /// The peer was asked for what it said it has, and gave nothing. Others have their turn first. It may have been told
    /// not to tell any more, once; a session of nothing else serves nobody.
    fn unmet(&mut self, now_ms: u64, link: LinkId, request: Request) {
        let Some(l) = self.links.get_mut(&link).filter(|_| !request.mends) else { return };
        self.stats.claims_unmet += 1;
        l.unmet += 1;
        l.paused.insert(request.chain, now_ms + REQUEST_MS_MAX);
        if l.unmet >= UNMET_MAX {
            self.close(link, "withheld");
        }
    }

    pub(super) fn answered(&mut self, now_ms: u64, log: &FactLog, id: FactId, answer: &Result<Inserted, Refusal>) {
        let Some(Offered { chain, link }) = self.offered.remove(&id) else { return };
        match answer {
            Ok(Inserted::New(_)) => {
                self.stats.facts_new += 1;
                self.brought(now_ms, link, &chain);
            }
            Ok(Inserted::Fork(_)) => self.brought(now_ms, link, &chain),
            Ok(Inserted::Mended(_)) => {
                self.stats.facts_mended += 1;
                self.brought(now_ms, link, &chain);
            }
            Ok(Inserted::Duplicate) => {
                self.stats.facts_duplicate += 1;
                self.showed_ours(link, &chain);
            }
            Err(refusal) => self.refused_of(now_ms, log, link, &chain, refusal),
        }
    }

    pub(super) fn range_answered(&mut self, now_ms: u64, log: &FactLog, link: LinkId, chain: &ChainId, taken: &Taken) {
        if let Some(left) = self.ranges.get_mut(chain).and_then(|count| count.checked_sub(1)).filter(|left| *left > 0) {
            self.ranges.insert(chain.clone(), left);
        } else {
            self.ranges.remove(chain);
        }
        self.stats.facts_new += taken.new.len() as u64;
        self.stats.facts_mended += taken.mended.len() as u64;
        self.stats.facts_duplicate += (taken.duplicates - taken.mended.len()) as u64;
        if !taken.new.is_empty() || !taken.mended.is_empty() || taken.fork.is_some() {
            self.brought(now_ms, link, chain);
        } else if taken.duplicates > 0 && taken.refused.is_none() {
            self.showed_ours(link, chain);
        }
        if let Some(refusal) = &taken.refused {
            self.refused_of(now_ms, log, link, chain, refusal);
        }
    }

    fn brought(&mut self, now_ms: u64, link: LinkId, chain: &ChainId) {
        if chain.scope.lane() == Lane::Authority {
            // Who was unknown may be known now.
            self.links.values_mut().for_each(|l| l.paused.retain(|_, until| *until == u64::MAX));
        }
        let Some(l) = self.links.get_mut(&link) else { return };
        l.progress(now_ms);
        l.probes.remove(chain);
    }

    /// It claimed another branch, then showed ours.
    fn showed_ours(&mut self, link: LinkId, chain: &ChainId) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if l.probes.remove(chain) {
            l.paused.insert(chain.clone(), u64::MAX);
        }
    }

    /// What cannot even be offered.
    fn refused(&mut self, link: LinkId, refusal: &Refusal) {
        self.stats.facts_refused += 1;
        self.close(link, refusal.code());
    }

    fn refused_of(&mut self, now_ms: u64, log: &FactLog, link: LinkId, chain: &ChainId, refusal: &Refusal) {
        self.stats.facts_refused += 1;
        let Some(l) = self.links.get_mut(&link) else { return };
        match refusal {
            refusal if refusal.blames_peer() => self.close(link, refusal.code()),
            Refusal::Diverged { .. } => {
                if log.held(chain) > 0 {
                    l.probes.insert(chain.clone());
                } else {
                    l.paused.insert(chain.clone(), u64::MAX);
                }
            }
            Refusal::Gap { .. } | Refusal::Forked { .. } => {}
            // Knowledge may come that changes the answer; time is a bad sign, so ask again slowly.
            _ => {
                l.paused.insert(chain.clone(), now_ms + REQUEST_MS_MAX);
            }
        }
    }
}

struct Usable {
    facts: Vec<(ChainId, FactId, SealedFact)>,
    unasked: u64,
    unasked_bytes: usize,
    foreign: u64,
}

/// An answer is the range that was asked for, from its start and without a hole; it may be shorter.
fn asked(
    now_ms: u64,
    l: &mut Link,
    log: &FactLog,
    request: &Request,
    facts: Vec<SealedFact>,
) -> Result<Usable, Refusal> {
    let mut usable = Usable { facts: Vec::new(), unasked: 0, unasked_bytes: 0, foreign: 0 };
    for (seq, fact) in (request.from..).zip(facts) {
        let header = fact.peek()?;
        if ChainId::of(&header) != request.chain || header.seq != seq || seq > request.to {
            return Err(Refusal::Hole { seq });
        }
        let id = fact.id();
        l.note(now_ms, log, request.chain.clone(), seq, id);
        usable.facts.push((request.chain.clone(), id, fact));
    }
    Ok(usable)
}

/// The part of a push that can be used: the next facts of their chains, second branches, and what is held without a
/// signature known to be good. Of the rest it is noted that the peer has them, so that they are asked for when their turn
/// comes.
fn pushed(now_ms: u64, l: &mut Link, log: &FactLog, facts: Vec<SealedFact>) -> Result<Usable, Refusal> {
    let open = l.is_open(log);
    let mut usable = Usable { facts: Vec::new(), unasked: 0, unasked_bytes: 0, foreign: 0 };
    for fact in facts {
        let header = fact.peek()?;
        let (chain, id) = (ChainId::of(&header), fact.id());
        if !l.scopes.contains(&chain.scope) {
            usable.foreign += 1;
            usable.unasked_bytes += fact.wire_len();
            continue;
        }
        let in_frame = usable.facts.iter().filter(|(c, _, _)| *c == chain).count() as u64;
        let next = log.held(&chain) + 1 + in_frame;
        let other = log.id_at(&chain, header.seq) != Some(id) || !log.is_seen(&chain, header.seq);
        let fits = header.seq == next || (header.seq < next && other);
        l.note(now_ms, log, chain.clone(), header.seq, id);
        if fits && (open || chain.scope.lane() != Lane::Data) {
            usable.facts.push((chain, id, fact));
        } else {
            usable.unasked += u64::from(!log.contains(&id));
            usable.unasked_bytes += fact.wire_len();
        }
    }
    Ok(usable)
}
