//! News: pushed to a few, told to the rest.

use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, Digest, FactId, Scope, planted};

use super::wire::{Facts, Frame, Have};
use super::{LinkId, Sync, SyncOutput};
use crate::limits::{COALESCE_MS, HEADS_PER_FRAME_MAX, PUSH_FANOUT, URGENT_RUN_LEN};
use crate::log::{ChainId, FactLog, Head};

impl Sync {
    /// Pushes a fact to a few co-readers that can use it at once and notes it for the others; never back to its source.
    pub(super) fn spread(&mut self, now_ms: u64, log: &FactLog, id: FactId, source: Option<LinkId>) {
        let Some(fact) = log.get(&id) else { return };
        let (chain, seq) = (ChainId::of(fact.header()), fact.header().seq);
        let alone = log.is_seen(&chain, seq) || planted::active("vouched-told-alone");
        let mut readers: Vec<(Digest, LinkId)> = self
            .links
            .iter()
            .filter(|(link, l)| Some(**link) != source && l.scopes.contains(&chain.scope) && l.remote_seq(&chain) < seq)
            .map(|(link, l)| (rank(&id, &l.peer), *link))
            .collect();
        readers.sort();
        self.stir(now_ms, &chain.scope);
        let rank = (self.ranks.of)(&chain.scope, &fact.header().kind);
        let bulk = rank >= self.ranks.bulk;
        let mut pushes = 0;
        for (_, link) in readers {
            let Some(l) = self.links.get_mut(&link) else { continue };
            if l.remote_seq(&chain) + 1 == seq {
                l.falls_behind(now_ms, &chain.scope);
            }
            let has = l.remote_seq(&chain).max(l.pushed.get(&chain).copied().unwrap_or(0));
            // Where documents wait the last one is told, and asked for when there is room. An urgent fact takes what is before
            // it in its chain along.
            let may = pushes < PUSH_FANOUT && alone && *l.room.of(self.ranks, rank) > 0;
            let run = match has + 1 {
                next if next == seq && may => vec![fact.clone()],
                next if next < seq && may && !bulk => log.range(&chain, next, seq, URGENT_RUN_LEN),
                _ => Vec::new(),
            };
            if run.last().is_some_and(|last| last.id() == id) && (run.len() == 1 || log.all_seen(&chain, &run)) {
                pushes += 1;
                l.pushed.insert(chain.clone(), seq);
                let facts = run.iter().map(|fact| fact.sealed().clone()).collect();
                let bytes = Frame::Facts(Facts { request: None, facts }).encode();
                let room = l.room.of(self.ranks, rank);
                *room = room.saturating_sub(bytes.len());
                self.outputs.push_back(SyncOutput::Send { link, bytes, rank, chain: Some(chain.clone()) });
            } else {
                if l.news.is_empty() {
                    l.news_ms = now_ms + COALESCE_MS;
                }
                l.news.insert(chain.clone());
                self.set_alarm(now_ms, link);
            }
        }
    }

    /// What is held of `scope` changed, so its digest does on every link that shares it.
    fn stir(&mut self, now_ms: u64, scope: &Scope) {
        let sharing: Vec<LinkId> =
            self.links.iter().filter(|(_, l)| l.scopes.contains(scope)).map(|(link, _)| *link).collect();
        for link in sharing {
            if let Some(l) = self.links.get_mut(&link) {
                l.beat.stir(now_ms);
                self.set_alarm(now_ms, link);
            }
        }
    }

    pub(super) fn spread_evidence(&mut self, now_ms: u64, log: &FactLog, chain: &ChainId, source: Option<LinkId>) {
        let Some(evidence) = log.evidence_of(chain) else { return };
        self.stir(now_ms, &chain.scope);
        let frame = Frame::Evidence(Box::new(evidence.clone()));
        let readers: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(link, l)| Some(**link) != source && l.scopes.contains(&chain.scope))
            .map(|(link, _)| *link)
            .collect();
        readers.into_iter().for_each(|link| self.send(link, &frame));
    }

    /// Sends the collected news that are due: heads as they are now.
    pub(super) fn tell_news(&mut self, now_ms: u64, log: &FactLog, due: &[LinkId]) {
        for &link in due {
            let Some(l) = self.links.get_mut(&link).filter(|l| l.news_ms <= now_ms) else { continue };
            let news: Vec<(Scope, Head)> = std::mem::take(&mut l.news)
                .into_iter()
                .filter_map(|chain| log.head(&chain).map(|head| (chain.scope, head)))
                .collect();
            for chunk in news.chunks(HEADS_PER_FRAME_MAX / 2) {
                let mut scopes: BTreeMap<&Scope, Vec<Head>> = BTreeMap::new();
                chunk.iter().for_each(|(scope, head)| scopes.entry(scope).or_default().push(*head));
                let (ranks, Some(l)) = (self.ranks, self.links.get(&link)) else { break };
                let told = scopes.iter().map(|(scope, heads)| ranks.told(log, scope, heads, |c| l.remote_seq(c)));
                let have = Have { first: None, scopes: told.collect() };
                self.send(link, &Frame::Have(have));
            }
        }
    }
}

/// Who is pushed to differs from fact to fact, and is the same at every run.
fn rank(fact: &FactId, peer: &AuthorId) -> Digest {
    Digest::of("cauldron/push-rank/v1", &[fact.as_bytes().as_slice(), peer.as_bytes()].concat())
}
