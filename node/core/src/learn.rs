//! What peers bring: judged by the log, onto the disk, folded, and only then told to others.

use cauldron_crdt::limits::SETTLE_FACTS;
use cauldron_crdt::log::Taken;
use cauldron_crdt::{ChainId, Evidence, Inserted, Record as LogRecord, Refusal, SyncInput};
use cauldron_identity::{AuthorId, Header, Lane, Scope, SealedFact};

use crate::core::{NodeCore, Writers};
use crate::input::{Event, LinkId, Record};
use crate::local;

impl NodeCore {
    pub(crate) fn offered(&mut self, link: LinkId, sealed: SealedFact) {
        let id = sealed.id();
        let settled = |h: &Header| self.vouched_for(h).filter(|_| !self.log.contains(&id));
        let answer = match sealed.peek().ok().and_then(|h| self.unknown_life(&h).or_else(|| settled(&h))) {
            Some(why) => Err(why),
            None => self.log.insert(sealed, &Writers(&self.authority)),
        };
        self.sync.handle(self.now.boottime_ms, &self.log, SyncInput::Answered { id, answer: &answer });
        match answer {
            Ok(Inserted::New(fact)) => {
                if fact.header().author == self.me && fact.header().incarnation == self.incarnation {
                    self.fall_behind();
                }
                self.stored(&fact);
                // Before anything else leaves: an entry may have cut the peer that would receive it.
                if fact.header().scope.lane() != Lane::Data {
                    self.authority_changed();
                }
                self.spread(&fact, Some(link));
            }
            Ok(Inserted::Duplicate) => {}
            Ok(Inserted::Mended(fact)) => self.keep(&LogRecord::Fact(fact.sealed().clone())),
            Ok(Inserted::Fork(evidence)) => self.forked(&evidence, None),
            Err(why) if why.blames_peer() => self.count_refusal(why.code(), format!("a fact from a peer: {why}")),
            Err(why) => *self.refused.entry(why.code().to_owned()).or_default() += 1,
        }
    }

    /// A range of data in one piece: the mark before the facts, all facts before any of them is told.
    pub(crate) fn offered_range(&mut self, link: LinkId, chain: &ChainId, from: u64, facts: Vec<SealedFact>) {
        let unknown = !self.begun(&chain.author, chain.incarnation);
        let taken = if unknown {
            let why = Refusal::UnknownAuthor { author: chain.author };
            Taken { refused: Some(why), ..Taken::default() }
        } else {
            self.log.insert_range(chain, from, facts, &Writers(&self.authority))
        };
        self.sync.handle(self.now.boottime_ms, &self.log, SyncInput::RangeAnswered { link, chain, taken: &taken });
        // The mark says no more of what was mended, so that is durable before it.
        taken.mended.iter().for_each(|fact| self.keep(&LogRecord::Fact(fact.sealed().clone())));
        taken.mark.iter().for_each(|mark| self.keep(mark));
        if !taken.new.is_empty() && chain.author == self.me && chain.incarnation == self.incarnation {
            self.fall_behind();
        }
        taken.new.iter().for_each(|fact| self.stored(fact));
        if let Some(last) = taken.new.last() {
            self.spread(last, Some(link));
        }
        if let Some(evidence) = &taken.fork {
            self.forked(evidence, None);
        }
        match &taken.refused {
            Some(why) if why.blames_peer() => self.count_refusal(why.code(), format!("a range from a peer: {why}")),
            Some(why) => *self.refused.entry(why.code().to_owned()).or_default() += 1,
            None => {}
        }
    }

    /// Evidence of a fork from a peer.
    pub(crate) fn offered_evidence(&mut self, link: LinkId, evidence: Evidence) {
        let answer = match evidence.header().and_then(|h| self.unknown_life(&h).or_else(|| self.vouched_for(&h))) {
            Some(why) => Err(why),
            None => self.log.insert_evidence(evidence, &Writers(&self.authority)),
        };
        self.sync.handle(self.now.boottime_ms, &self.log, SyncInput::EvidenceAnswered { link, answer: &answer });
        if let Ok(Inserted::Fork(evidence)) = &answer {
            self.forked(evidence, Some(link));
        }
    }

    /// Looks at some of the signatures that later ones vouched for.
    pub(crate) fn settle(&mut self) {
        let settled = self.log.settle(SETTLE_FACTS, &Writers(&self.authority));
        settled.records.iter().for_each(|record| self.keep(record));
        if settled.bad > 0 {
            *self.refused.entry("unproven-signature".into()).or_default() += settled.bad as u64;
        }
    }

    pub(crate) fn keep(&mut self, record: &LogRecord) {
        if let Ok(key) = record.key() {
            self.persist(Record { key, value: Some(record.value()) });
        }
    }

    fn begun(&self, author: &AuthorId, incarnation: u32) -> bool {
        self.authority.member(author).is_some_and(|m| incarnation <= m.incarnation)
    }

    /// A life that no entry began: an author could otherwise open as many chains as there are numbers. The entry may still
    /// be on its way, so this is not held against the peer.
    fn unknown_life(&self, header: &Header) -> Option<Refusal> {
        let author = header.author;
        let begun = self.begun(&author, header.incarnation);
        (!begun).then_some(Refusal::UnknownAuthor { author })
    }

    /// An entry of an earlier sequencer that the council's term builds on: a second one for its place is no news, and must
    /// not freeze what everybody else has.
    fn vouched_for(&self, header: &Header) -> Option<Refusal> {
        let chain = ChainId::of(header);
        let settled = header.scope == Scope::authority()
            && self.authority.is_vouched(&header.author, header.incarnation, header.seq)
            && self.log.held(&chain) >= header.seq;
        settled.then_some(Refusal::Forked { seq: header.seq })
    }

    /// Keeps the evidence of a fork and shows it around.
    fn forked(&mut self, evidence: &Evidence, source: Option<LinkId>) {
        self.keep(&LogRecord::Evidence(evidence.clone()));
        let Some(header) = evidence.header() else { return };
        let author = self.authority.member(&header.author).map(|m| m.spiffe_id.to_string());
        self.tell(Event::Fork { author: author.unwrap_or_else(|| header.author.to_string()) });
        if header.scope == Scope::authority() {
            let before = self.authority.frozen();
            self.authority.forked(header.author, header.incarnation, header.seq);
            if let Some(seq) = self.authority.frozen().filter(|seq| before != Some(*seq)) {
                self.tell(Event::Frozen { seq });
            }
        }
        if header.scope == Scope::mesh() {
            self.fork_rights();
        }
        // What lies at or beyond the fork is no part of a document.
        (self.recount, self.dirty) = (true, true);
        if header.author == self.me && header.incarnation == self.incarnation {
            // The other branch is another life of this store: both end below the fork.
            self.fall_behind();
        }
        self.sync(SyncInput::SpreadEvidence { chain: ChainId::of(&header), source });
    }

    /// Proof has arrived that this life lies behind its own past. It must survive a restart.
    pub(crate) fn fall_behind(&mut self) {
        self.life.proven_behind(self.now.boottime_ms);
        self.persist(local::behind(self.incarnation));
        self.dirty = true;
    }
}
