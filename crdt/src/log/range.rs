//! Many facts of one chain at once, on one signature.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_identity::fact::FactError;
use cauldron_identity::{Fact, PublicKey, SealedFact, planted};

use super::vouched::always_seen;
use super::{Access, ChainId, Evidence, FactLog, Inserted, Record, Refusal};

/// What became of a range.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// To be persisted before the facts.
    pub mark: Option<Record>,
    /// New, in order; the last one is the head of its chain now.
    pub new: Vec<Arc<Fact>>,
    /// Held before, now with a good signature: persist them in the place of the ones before.
    pub mended: Vec<Arc<Fact>>,
    /// Held before.
    pub duplicates: usize,
    /// The first position in which the range and what is held differ.
    pub fork: Option<Box<Evidence>>,
    /// Why the rest was not taken.
    pub refused: Option<Refusal>,
}

/// Facts of a range that hang together, and what stands against those behind them.
struct Linked {
    facts: Vec<Fact>,
    cut: Option<Refusal>,
}

impl FactLog {
    /// Checks facts `from..` of `chain`, which a peer sent in one piece, and adds them.
    ///
    /// Of each fact its encoding, its body, its link to the one before and the writer rule are checked. Of signatures
    /// only the last one, those at every [`VOUCH_SPAN`](crate::limits::VOUCH_SPAN)th position, and those beside large
    /// facts: they prove who wrote the rest. What lies between is looked at later: see [`FactLog::settle`].
    ///
    /// When a lie of the sender is found, nothing is taken.
    pub fn insert_range(&mut self, chain: &ChainId, from: u64, facts: Vec<SealedFact>, access: &dyn Access) -> Taken {
        match self.check_range(chain, from, facts, access) {
            Ok((linked, key, seen)) => self.take_range(chain, linked, &key, &seen),
            Err(refusal) => Taken { refused: Some(refusal), ..Taken::default() },
        }
    }

    /// Everything that is judged before anything is taken: the facts, and the positions whose own signature is good.
    fn check_range(
        &self,
        chain: &ChainId,
        from: u64,
        facts: Vec<SealedFact>,
        access: &dyn Access,
    ) -> Result<(Linked, PublicKey, BTreeSet<u64>), Refusal> {
        let held = self.held(chain);
        if from == 0 || from > held + 1 {
            return Err(Refusal::Gap { have: held, got: from });
        }
        let key = access.author_key(&chain.author).ok_or(Refusal::UnknownAuthor { author: chain.author })?;
        let mut linked = self.link(chain, from, facts, access)?;
        if linked.cut.is_some() {
            proven_end(&mut linked.facts, &key)?;
        }
        let mut seen = BTreeSet::new();
        for (index, fact) in linked.facts.iter().enumerate() {
            let seq = fact.header().seq;
            let known = self.id_at(chain, seq) == Some(fact.id()) && self.is_seen(chain, seq);
            if !known && always_seen(fact, linked.facts.get(index + 1)) {
                fact.check_signature(&key)?;
                seen.insert(seq);
            }
        }
        Ok((linked, key, seen))
    }

    /// The facts as far as they are one piece of `chain` that may be stored.
    fn link(&self, chain: &ChainId, from: u64, facts: Vec<SealedFact>, access: &dyn Access) -> Result<Linked, Refusal> {
        let fork = self.fork_seq(chain).unwrap_or(u64::MAX);
        let mut linked = Linked { facts: Vec::with_capacity(facts.len()), cut: None };
        for (sealed, seq) in facts.into_iter().zip(from..) {
            if seq >= fork {
                linked.cut = Some(Refusal::Forked { seq });
                break;
            }
            if sealed.body().is_none() {
                linked.cut = Some(Refusal::BodyMissing);
                break;
            }
            let fact = match sealed.reopen() {
                Ok(fact) => fact,
                Err(FactError::Version(found)) => {
                    linked.cut = Some(Refusal::Version { found });
                    break;
                }
                Err(why) => return Err(why.into()),
            };
            let header = fact.header();
            if header.mesh != self.mesh {
                return Err(Refusal::WrongMesh { found: header.mesh });
            }
            let here =
                (&header.scope, header.author, header.incarnation) == (&chain.scope, chain.author, chain.incarnation);
            let before = linked.facts.last();
            let follows = before.is_none_or(|before| header.prev == Some(before.id()))
                || planted::active("range-interior-unchecked-prev");
            if !here || header.seq != seq || !follows {
                return Err(Refusal::Hole { seq });
            }
            let asked = before.is_some_and(|before| before.header().kind == header.kind);
            if !asked && !access.may_write(&chain.author, &chain.scope, &header.kind) {
                linked.cut = Some(Refusal::NotAWriter { author: chain.author, kind: header.kind.clone() });
                break;
            }
            linked.facts.push(fact);
        }
        Ok(linked)
    }

    fn take_range(&mut self, chain: &ChainId, linked: Linked, key: &PublicKey, seen: &BTreeSet<u64>) -> Taken {
        let mut taken = Taken { refused: linked.cut, ..Taken::default() };
        let held = self.held(chain);
        let mut facts = linked.facts.into_iter();
        while let Some(fact) = facts.next() {
            let seq = fact.header().seq;
            let here = self.id_at(chain, seq);
            if here == Some(fact.id()) {
                taken.duplicates += 1;
                if !self.is_seen(chain, seq) && (seen.contains(&seq) || fact.check_signature(key).is_ok()) {
                    taken.mended.extend(match self.mend(chain, fact) {
                        Inserted::Mended(fact) => Some(fact),
                        _ => None,
                    });
                }
            } else if here.is_some() {
                taken.fork = self.branches(chain, fact, facts, seen);
                break;
            } else if seq == held + 1 && fact.header().prev != self.id_at(chain, held) {
                taken.refused = Some(Refusal::Diverged { seq: held });
                break;
            } else {
                taken.new.push(self.push(chain.clone(), fact));
                if !seen.contains(&seq) {
                    self.vouch(chain, seq);
                }
            }
        }
        taken.mark = self.mark(chain);
        taken
    }

    /// The range holds another fact at a position than this log: both, each up to the next signature that proves it.
    fn branches(
        &mut self,
        chain: &ChainId,
        first: Fact,
        rest: impl Iterator<Item = Fact>,
        seen: &BTreeSet<u64>,
    ) -> Option<Box<Evidence>> {
        let mut theirs = vec![first];
        let mut rest = rest;
        while theirs.last().is_some_and(|last| !seen.contains(&last.header().seq)) {
            theirs.push(rest.next()?);
        }
        let seq = theirs.first()?.header().seq;
        let evidence = Evidence::new(&self.proof(chain, seq), &sealed(theirs.iter()));
        Some(self.freeze(chain.clone(), evidence))
    }

    /// The fact at `seq` and those behind it, up to the next one whose own signature was seen.
    pub(super) fn proof(&self, chain: &ChainId, seq: u64) -> Vec<SealedFact> {
        let end = (seq..=self.held(chain)).find(|seq| self.is_seen(chain, *seq)).unwrap_or(seq);
        (seq..=end).filter_map(|seq| self.at(chain, seq)).map(|fact| fact.sealed().clone()).collect()
    }

    /// Facts `from..=to` of `chain` while they fit into `bytes_max`; the first one always fits. The last one's own
    /// signature was seen to be good: where that needs it, the range is cut shorter, and when nothing is left, it goes on
    /// to the next such fact, at most [`VOUCH_SPAN`](crate::limits::VOUCH_SPAN) small ones away.
    #[must_use]
    pub fn range(&self, chain: &ChainId, from: u64, to: u64, bytes_max: usize) -> Vec<Arc<Fact>> {
        let (mut bytes, mut end) = (0, 0);
        let mut facts: Vec<Arc<Fact>> = Vec::new();
        for seq in from.max(1)..=self.held(chain) {
            let Some(fact) = self.at(chain, seq) else { break };
            bytes += fact.sealed().wire_len();
            let full = seq > to || (!facts.is_empty() && bytes > bytes_max);
            if from > to || (full && end > 0) {
                break;
            }
            facts.push(fact);
            if self.is_seen(chain, seq) {
                end = facts.len();
            }
        }
        facts.truncate(end);
        facts
    }

    /// Whether each of these facts of `chain` may leave alone.
    #[must_use]
    pub fn all_seen(&self, chain: &ChainId, facts: &[Arc<Fact>]) -> bool {
        self.chains.get(chain).is_some_and(|c| facts.iter().all(|fact| c.vouched.is_seen(fact.header().seq)))
    }
}

fn sealed<'f>(facts: impl Iterator<Item = &'f Fact>) -> Vec<SealedFact> {
    facts.map(|fact| fact.sealed().clone()).collect()
}

/// Drops facts from the end until the last one's own signature is good. Those are facts that the sender did not end
/// with, so it may have taken them on trust itself, except where nobody does.
fn proven_end(facts: &mut Vec<Fact>, key: &PublicKey) -> Result<(), Refusal> {
    while let Some(last) = facts.last() {
        match last.check_signature(key) {
            Ok(()) => break,
            Err(why) if always_seen(last, Some(last)) => return Err(why.into()),
            Err(_) => drop(facts.pop()),
        }
    }
    Ok(())
}
