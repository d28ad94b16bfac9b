//! Facts whose own signature nobody here has looked at yet.
//!
//! A header names the one before it by hash, so one good signature proves who wrote everything below it. A range is taken
//! on such a proof; the signatures in between are *unseen*: they prove nothing that is not proven already, but a relay may
//! have exchanged them for garbage. So that each fact stays verifiable alone, no fact leaves alone before its own
//! signature was seen to be good, [`FactLog::settle`] looks at what is unseen bit by bit, and what it finds *bad* is asked
//! of other peers, whose good copy replaces it.
//!
//! Never more than [`VOUCH_SPAN`] positions are unseen in a row, all of them small: whatever is unseen can be shown up to
//! the next seen fact, in one frame, as a range or as evidence.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_identity::{AuthorId, Fact, Scope};
use minicbor::{Decode, Encode};

use super::{Access, ChainId, FactLog, Inserted, Record};
use crate::limits::{VOUCH_SPAN, VOUCHED_LEN_MAX};

/// What is unproven in one chain, one fact at a time.
#[derive(Debug, Default)]
pub(super) struct Vouched {
    /// Positions whose signature was not looked at.
    unseen: BTreeSet<u64>,
    /// Positions whose signature is not the author's.
    bad: BTreeSet<u64>,
    /// What the latest [`Mark`] says.
    marked: Option<(u64, u64)>,
}

/// Kept beside a chain: which of its facts may lie in the store with a signature that was not seen to be good. It is
/// durable before the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    #[n(0)]
    scope: Scope,
    #[n(1)]
    author: AuthorId,
    #[n(2)]
    incarnation: u32,
    /// The lowest such position.
    #[n(3)]
    from: u64,
    /// The position that vouches for them; below `from` when there are none.
    #[n(4)]
    to: u64,
}

/// What [`FactLog::settle`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// To be persisted, in any order.
    pub records: Vec<Record>,
    /// Signatures that were good.
    pub good: usize,
    /// Signatures that were not: each is asked of other peers.
    pub bad: usize,
}

/// Whether the signature of `fact` is looked at before it is taken, whatever vouches for it. `next` is the fact that
/// follows it in the same range.
pub(super) fn always_seen(fact: &Fact, next: Option<&Fact>) -> bool {
    let large = |fact: &Fact| fact.sealed().wire_len() > VOUCHED_LEN_MAX;
    fact.header().seq.is_multiple_of(VOUCH_SPAN) || large(fact) || next.is_none_or(large)
}

impl Mark {
    fn new(chain: &ChainId, span: Option<(u64, u64)>) -> Self {
        let (from, to) = span.unwrap_or((1, 0));
        Self { scope: chain.scope.clone(), author: chain.author, incarnation: chain.incarnation, from, to }
    }

    /// The chain it is about.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        ChainId { scope: self.scope.clone(), author: self.author, incarnation: self.incarnation }
    }
}

impl Vouched {
    pub fn is_seen(&self, seq: u64) -> bool {
        !self.unseen.contains(&seq) && !self.bad.contains(&seq)
    }

    fn saw(&mut self, seq: u64) {
        self.unseen.remove(&seq);
        self.bad.remove(&seq);
    }

    /// Positions that are unseen, and bad.
    pub fn unproven(&self) -> (&BTreeSet<u64>, &BTreeSet<u64>) {
        (&self.unseen, &self.bad)
    }

    /// What there is to keep of it, if anything.
    pub fn to_mark(&self, chain: &ChainId) -> Option<Mark> {
        self.span().map(|span| Mark::new(chain, Some(span)))
    }

    /// From the lowest unproven position to the one that vouches for the highest.
    fn span(&self) -> Option<(u64, u64)> {
        let low = self.unseen.first().into_iter().chain(self.bad.first()).min()?;
        let high = self.unseen.last().into_iter().chain(self.bad.last()).max()?;
        Some((*low, high + 1))
    }
}

impl FactLog {
    /// Whether the own signature of the fact at `seq` was seen to be good.
    #[must_use]
    pub fn is_seen(&self, chain: &ChainId, seq: u64) -> bool {
        self.chains.get(chain).is_none_or(|c| c.vouched.is_seen(seq))
    }

    /// Whether there is nothing for [`FactLog::settle`] to do.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Facts whose signature is unseen or bad; a later signature of the same author vouches for each.
    #[must_use]
    pub fn unproven(&self) -> usize {
        let chains = self.unsettled.union(&self.damaged).filter_map(|chain| self.chains.get(chain));
        chains.map(|c| c.vouched.unseen.len() + c.vouched.bad.len()).sum()
    }

    /// Positions with a bad signature, the lowest of each chain: another peer may have the good one. Never many of one
    /// chain, whose author may have made it so and never sign better.
    pub fn damaged(&self) -> impl Iterator<Item = (&ChainId, u64)> {
        let chains = self.damaged.iter().filter_map(|chain| self.chains.get_key_value(chain));
        let lowest = |c: &'_ super::Chain| c.vouched.bad.iter().copied().take(VOUCH_SPAN as usize).collect::<Vec<_>>();
        chains.flat_map(move |(chain, c)| lowest(c).into_iter().map(move |seq| (chain, seq)))
    }

    /// Looks at up to `facts_max` unseen signatures.
    pub fn settle(&mut self, facts_max: usize, access: &dyn Access) -> Settled {
        let mut settled = Settled::default();
        let mut left = facts_max;
        while left > 0
            && let Some(id) = self.unsettled.first().cloned()
        {
            let Some(key) = access.author_key(&id.author).filter(|_| self.chains.contains_key(&id)) else {
                self.unsettled.remove(&id);
                continue;
            };
            while left > 0
                && let Some(seq) = self.vouched_mut(&id).and_then(|vouched| vouched.unseen.pop_first())
            {
                left -= 1;
                if self.at(&id, seq).is_some_and(|fact| fact.check_signature(&key).is_ok()) {
                    settled.good += 1;
                } else {
                    settled.bad += 1;
                    self.vouched_mut(&id).map(|vouched| vouched.bad.insert(seq));
                }
            }
            settled.records.extend(self.mark(&id));
            if left > 0 {
                self.unsettled.remove(&id);
            }
        }
        settled
    }

    /// Notes that the fact at `seq` was taken on a later one's signature.
    pub(super) fn vouch(&mut self, id: &ChainId, seq: u64) {
        if let Some(c) = self.chains.get_mut(id) {
            c.vouched.unseen.insert(seq);
            self.unsettled.insert(id.clone());
        }
    }

    /// The mark to persist, when the latest one no longer tells what is unproven in the chain.
    pub(super) fn mark(&mut self, id: &ChainId) -> Option<Record> {
        let vouched = &mut self.chains.get_mut(id)?.vouched;
        let span = vouched.span();
        if vouched.bad.is_empty() {
            self.damaged.remove(id);
        } else {
            self.damaged.insert(id.clone());
        }
        if vouched.marked == span {
            return None;
        }
        vouched.marked = span;
        Some(Record::Mark(Mark::new(id, span)))
    }

    fn vouched_mut(&mut self, id: &ChainId) -> Option<&mut Vouched> {
        self.chains.get_mut(id).map(|c| &mut c.vouched)
    }

    /// Takes a copy of a held fact whose signature is good, where the one held was not seen to be.
    pub(super) fn mend(&mut self, id: &ChainId, fact: Fact) -> Inserted {
        let seq = fact.header().seq;
        if self.id_at(id, seq) != Some(fact.id()) {
            return Inserted::Duplicate;
        }
        let held = self.at(id, seq);
        let Some(c) = self.chains.get_mut(id) else { return Inserted::Duplicate };
        c.vouched.saw(seq);
        // The mark follows when the rest is looked at.
        self.unsettled.insert(id.clone());
        if held.is_some_and(|held| held.sealed().signature == fact.sealed().signature) {
            return Inserted::Duplicate;
        }
        let fact = Arc::new(fact);
        c.hot.insert(seq, fact.clone()).iter().for_each(|old| self.hot.left(old));
        self.hot.came(c.no, &fact);
        Inserted::Mended(fact)
    }

    /// After a start: what the mark says, as far as the facts are there.
    ///
    /// A crash between the facts of one range leaves some that nothing vouches for any more. No frame has told of them,
    /// since they are all durable before one leaves; they are fetched again.
    pub(super) fn restore_mark(&mut self, mark: &Mark) {
        let id = mark.chain();
        if !self.chains.contains_key(&id) || mark.from < 1 || mark.from > mark.to {
            return;
        }
        let mut unseen = BTreeSet::new();
        let mut fact = self.at(&id, mark.from);
        for seq in mark.from..=self.held(&id).min(mark.to.saturating_sub(1)) {
            let next = self.at(&id, seq + 1);
            let Some(this) = fact else { break };
            // Whether a range ended here is not known any more.
            if !always_seen(&this, Some(next.as_ref().unwrap_or(&this))) {
                unseen.insert(seq);
            }
            fact = next;
        }
        if let Some(vouched) = self.vouched_mut(&id) {
            vouched.unseen.append(&mut unseen);
            vouched.marked = Some((mark.from, mark.to));
        }
        while let held = self.held(&id)
            && self.vouched_mut(&id).is_some_and(|vouched| vouched.unseen.remove(&held))
        {
            self.left_aside.push((id.clone(), held));
            self.pop(&id);
        }
        self.unsettled.insert(id);
    }

    /// After a start from an index: it says what is unproven; the mark, what the store says of it.
    pub(super) fn restore_marked(&mut self, mark: &Mark) {
        if mark.from >= 1
            && mark.from <= mark.to
            && let Some(vouched) = self.vouched_mut(&mark.chain())
        {
            vouched.marked = Some((mark.from, mark.to));
        }
    }

    /// Says of a chain what an index kept: positions whose signature is unseen, and bad.
    pub(super) fn restore_vouched(&mut self, id: &ChainId, unseen: BTreeSet<u64>, bad: BTreeSet<u64>) {
        let Some(vouched) = self.vouched_mut(id) else { return };
        let (work, damaged) = (!unseen.is_empty(), !bad.is_empty());
        (vouched.unseen, vouched.bad) = (unseen, bad);
        if work {
            self.unsettled.insert(id.clone());
        }
        if damaged {
            self.damaged.insert(id.clone());
        }
    }
}
