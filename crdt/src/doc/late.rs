//! What was left outside when an epoch ended: its author says it again in the epoch in use.
//!
//! Nothing of it is lost silently. It stays in its author's signed facts and in `doc history`; its author, who alone may speak in its
//! own name, says its last word on each field again, unless somebody spoke later, and writes its characters where
//! their neighbours are now.
//!
//! What says something again is marked as a copy, and the last of several carries a [`Mark`]. The rule is one sentence: what lies
//! outside is owed, unless it is itself a copy, or lies before a mark that is inside. So where another way through the epochs turns
//! out to hold, copies that are outside then count for nothing, and what they had said is owed again by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::ChangeHash;
use automerge::legacy::{ElementId, Key, ObjectId, OpId, OpType};
use cauldron_identity::{AuthorId, Fact};

use super::closed::{Closed, Place, place_of};
use super::document::{Document, Writer};
use super::edit::{Draft, elements};
use super::epoch::{EpochId, Epochs, Slot};
use super::fence::Source;
use super::genesis::Genesis;
use super::reissue::{Lost, Said};
use super::{DocChange, Unfit, change_of, limits, operations};

/// Everything that its author had left outside up to a place in its chain is said again here.
#[derive(Debug)]
pub(super) struct Mark {
    pub fact: Arc<Fact>,
    epoch: EpochId,
    /// The change that came with it; none where there was nothing to say.
    change: Option<ChangeHash>,
    up_to: u64,
    /// False beyond a cut.
    pub counts: bool,
}

/// An epoch, and what an author wrote outside it.
type Left<'e> = (&'e Document, Vec<Arc<Fact>>);

/// A fact's place among its author's: life and position.
fn place(fact: &Fact) -> (u32, u64) {
    (fact.header().incarnation, fact.header().seq)
}

impl Mark {
    /// The mark in a fact, if it carries one.
    pub fn of(fact: &Arc<Fact>, body: &DocChange, epoch: EpochId, counts: bool) -> Option<Self> {
        let up_to = body.again.filter(|_| body.more != Some(true))?;
        // Nobody speaks for what it has not said yet.
        let up_to = up_to.min(fact.header().seq - 1);
        let change = change_of(&body.change).map(|change| change.hash());
        Some(Self { fact: fact.clone(), epoch, change, up_to, counts })
    }

    fn covers(&self, life: u32, seq: u64) -> bool {
        (life, seq) <= (self.fact.header().incarnation, self.up_to)
    }
}

impl Document {
    /// An epoch with nothing in it but what lies behind these heads, whatever was cut or taken back since.
    fn behind(&self, heads: &[ChangeHash]) -> Option<Self> {
        let begun = self.genesis.clone().and_then(|genesis| Self::begin(self.key.clone(), genesis));
        let mut document = begun.unwrap_or_else(|| Self::new(self.key.clone(), self.id));
        let mut all = BTreeMap::new();
        for (writer, chain) in &self.chains {
            let own = chain.fed.iter().filter_map(|fact| Some((self.own_change(writer, fact)?, fact)));
            own.for_each(|(change, fact)| _ = all.entry(change.hash()).or_insert((change, fact)));
        }
        let (mut needed, mut todo) = (BTreeMap::new(), heads.to_vec());
        while let Some(hash) = todo.pop() {
            if !document.fence.holds(&hash)
                && let Some((change, fact)) = all.remove(&hash)
            {
                todo.extend(change.deps());
                needed.insert((change.start_op(), hash), (change, fact));
            }
        }
        // What a change follows has smaller counters.
        for (change, fact) in needed.into_values() {
            document.fence.accept(&change, Source::Fact(fact.clone())).ok()?;
        }
        Some(document)
    }

    /// Facts that are not in the epoch as it ended; all where the epoch in use does not follow on this one. Without those that
    /// their authors took back themselves, or said again in a later round, or that no document would take.
    pub fn left(&self, led_on: bool) -> Vec<Arc<Fact>> {
        let mut left = Vec::new();
        for (writer, chain) in &self.chains {
            for (hash, at) in chain.own.iter().filter(|(_, at)| **at < chain.counting) {
                let Some(fact) = chain.fed.get(*at) else { continue };
                let present = || DocChange::of(fact).is_some_and(|body| body.round == chain.round);
                let fault = match self.fence.refused().get(hash) {
                    Some(Unfit::RefusedDep) => !present(),
                    Some(_) => true,
                    None => !self.fence.holds(hash) && chain.stuck && !present(),
                };
                let inside = led_on && self.fence.holds(hash) && !self.is_outside(hash);
                // A copy is nobody's word: what it had said counts by itself.
                if !fault && !inside && !is_copy(fact) {
                    debug_assert_eq!(*writer, (fact.header().author, fact.header().incarnation));
                    left.push(fact.clone());
                }
            }
        }
        left.sort_by_key(|fact| (fact.header().author, place(fact)));
        left
    }
}

impl Epochs {
    /// Notes a mark.
    pub fn note_again(&mut self, mark: Mark) {
        self.marks.entry(mark.fact.header().author).or_default().push(mark);
    }

    /// Whether what a mark stands for shows in the epoch in use.
    fn is_inside(&self, mark: &Mark) -> bool {
        let led_on = self.path().contains(&mark.epoch) || mark.epoch == self.current();
        let shows = |hash: &ChangeHash| match self.held.get(&mark.epoch) {
            Some(Slot::Here(document)) => document.fence.holds(hash) && !document.is_outside(hash),
            Some(Slot::Closed(closed)) => closed.again.contains(hash),
            Some(Slot::Away { .. }) | None => false,
        };
        mark.counts && led_on && mark.change.as_ref().is_none_or(shows)
    }

    /// Whether an author has said a fact again where it shows.
    pub fn has_said_again(&self, fact: &Fact) -> bool {
        self.is_said_again(&place_of(fact))
    }

    /// The same of the fact at a place.
    pub fn is_said_again(&self, ((author, life), seq): &Place) -> bool {
        let marks = self.marks.get(author).into_iter().flatten();
        marks.into_iter().any(|mark| mark.covers(*life, *seq) && self.is_inside(mark))
    }

    /// Changes that say something again and are in an epoch as it ended.
    pub fn said_again_in(&self, document: &Document) -> BTreeSet<ChangeHash> {
        let marks = self.marks.values().flatten().filter(|mark| mark.epoch == document.id);
        let shows = |hash: &ChangeHash| document.fence.holds(hash) && !document.is_outside(hash);
        marks.filter_map(|mark| mark.change).filter(shows).collect()
    }

    /// An epoch that begins nowhere any more, as far as seals and facts tell: to understand what was written to it.
    fn as_it_was(&self, id: &EpochId, far: usize) -> Option<Document> {
        let (of, heads) = self.named(id)?;
        let before = match self.held.get(&of).and_then(Slot::here) {
            Some(held) => held.behind(heads)?,
            None => self.as_it_was(&of, far.checked_sub(1)?)?.behind(heads)?,
        };
        let (_, mut document) = Genesis::fold(&before, heads).filter(|(genesis, _)| genesis.id == *id)?;
        self.ahead.get(id)?.iter().for_each(|(fact, _)| document.feed(fact.clone(), true));
        while document.cost() > 0 {
            document.step();
        }
        Some(document)
    }

    /// What somebody said an epoch follows on, and at which heads.
    pub fn named(&self, id: &EpochId) -> Option<(EpochId, &[ChangeHash])> {
        self.named.get(id)?.first().map(|(of, heads)| (*of, heads.as_slice()))
    }

    /// Whether an epoch begins nowhere any more: what it followed on was cut.
    pub fn is_gone(&self, id: &EpochId) -> bool {
        let mut id = *id;
        for _ in 0..limits::EPOCHS_GONE_MAX {
            let Some((of, heads)) = self.named(&id).filter(|_| !self.held.contains_key(&id)) else { return false };
            if let Some(before) = self.held.get(&of).and_then(Slot::here) {
                return heads.iter().any(|head| before.fence.refused().contains_key(head));
            }
            id = of;
        }
        false
    }

    /// Epochs that begin nowhere any more and to which an author wrote what counts.
    fn gone(&self, author: &AuthorId) -> Vec<Document> {
        let own = |(fact, counts): &(Arc<Fact>, bool)| *counts && fact.header().author == *author;
        let written = self.ahead.iter().filter(|(id, facts)| facts.iter().any(own) && self.is_gone(id));
        written.filter_map(|(id, _)| self.as_it_was(id, limits::EPOCHS_GONE_MAX)).collect()
    }

    /// Whether a fact of an epoch that is not held counts.
    fn counts_ahead(&self, id: &EpochId, fact: &Fact) -> bool {
        self.ahead.get(id).into_iter().flatten().any(|(known, counts)| *counts && known.id() == fact.id())
    }

    /// Everything that lies outside, by epoch; none while that is not known.
    fn outside<'e>(&'e self, gone: &'e [Document]) -> Option<Vec<Left<'e>>> {
        if self.held.len() <= 1 && gone.is_empty() {
            return Some(Vec::new());
        }
        if !self.is_quiet() || self.unproven() > 0 {
            return None;
        }
        let current = self.current();
        let others = self.held.iter().filter(|(id, _)| **id != current).filter_map(|(_, slot)| slot.here());
        let left = others.map(|document| (document, document.left(self.path().contains(&document.id))));
        let gone = gone.iter().map(|document| {
            let mut facts = document.left(false);
            facts.retain(|fact| self.counts_ahead(&document.id, fact));
            (document, facts)
        });
        Some(left.chain(gone).filter(|(_, facts)| !facts.is_empty()).collect())
    }

    /// Of what lies outside, what an author has to say again.
    fn owed(&self, author: &AuthorId, outside: &[Left<'_>]) -> BTreeSet<(u32, u64)> {
        let open = outside.iter().flat_map(|(_, facts)| facts).map(|fact| place_of(fact));
        let own = open.chain(self.closed().flat_map(Closed::left)).filter(|((of, _), _)| of == author);
        own.filter(|place| !self.is_said_again(place)).map(|((_, life), seq)| (life, seq)).collect()
    }

    /// Whether something that an author said is to be said again.
    pub fn owes(&self, author: &AuthorId) -> bool {
        let gone = self.gone(author);
        self.outside(&gone).is_some_and(|outside| !self.owed(author, &outside).is_empty())
    }

    /// The bodies of the facts that say again what this writer had said outside the epoch in use; none when there is nothing.
    pub fn late(&self, writer: &Writer) -> Result<Vec<Vec<u8>>, Unfit> {
        let gone = self.gone(&writer.0);
        let outside = self.outside(&gone).ok_or(Unfit::NotWritable)?;
        let owed = self.owed(&writer.0, &outside);
        let Some(last) = owed.last() else { return Ok(Vec::new()) };
        let ready = |document: &&Document| document.base.is_none() && !document.waits(writer);
        let document = self.here().filter(ready).ok_or(Unfit::NotWritable)?;
        let is_owed = |fact: &Fact| fact.header().author == writer.0 && owed.contains(&place(fact));
        let draft = || {
            let mut draft = Draft::new(document, writer);
            draft.says_again(if last.0 == writer.1 { last.1 } else { 0 });
            if document.key.doc.kind().is_table() {
                let mut said = Said::new();
                for (of, facts) in &outside {
                    of.said(facts, &of.lost_ops(), &mut said);
                }
                // What somebody else said last, out there, is for that one to say again.
                said.retain(|_, word| is_owed(&word.fact));
                document.set_again(said, &mut draft);
            } else {
                let all = outside.iter().flat_map(|(_, facts)| facts);
                let (own, others): (Vec<&Arc<Fact>>, Vec<&Arc<Fact>>) = all.partition(|fact| is_owed(fact));
                let own: Vec<Arc<Fact>> = own.into_iter().cloned().collect();
                let characters = self.characters(&gone, &others);
                self.take_back_pieces(writer, &characters, document, &mut draft);
                document.write_again(&own, &characters, &mut draft);
            }
            draft.finish()
        };
        catch_unwind(AssertUnwindSafe(draft)).map_err(|_| Unfit::Poison)?
    }

    /// Deletes the characters of copies of which the end came between two pieces: all of it is said anew.
    fn take_back_pieces(&self, writer: &Writer, characters: &Lost, document: &Document, draft: &mut Draft<'_>) {
        let marks = || self.marks.get(&writer.0).into_iter().flatten().filter(|mark| self.is_inside(mark));
        let shown: BTreeMap<OpId, ObjectId> = elements(document).into_iter().map(|(text, id)| (id, text)).collect();
        let led_on = self.held.iter().filter(|(id, _)| self.path().contains(id) || **id == self.current());
        for of in led_on.filter_map(|(_, slot)| slot.here()) {
            for (of_writer, chain) in of.chains.iter().filter(|(of, _)| of.0 == writer.0) {
                let own = chain.fed.iter().filter(|fact| DocChange::of(fact).is_some_and(|b| b.more == Some(true)));
                for fact in own {
                    let Some(change) = of.own_change(of_writer, fact) else { continue };
                    let inside = of.fence.holds(&change.hash()) && !of.is_outside(&change.hash());
                    let whole = marks().any(|mark| place(&mark.fact) > place(fact) && mark.epoch == of.id);
                    if !inside || whole {
                        continue;
                    }
                    for (op, id) in super::operations_in(change.raw_bytes()).into_iter().filter(|(op, _)| op.insert) {
                        let id = characters.moved.to(id);
                        if let Some(text) = shown.get(&id).filter(|_| matches!(op.action, OpType::Put(_))) {
                            draft.delete(text, id);
                        }
                    }
                }
            }
        }
    }

    /// Every character of every epoch: behind which one it was written, and where it is now. And which of them others deleted
    /// outside.
    fn characters(&self, gone: &[Document], others: &[&Arc<Fact>]) -> Lost {
        let mut lost = Lost::default();
        for document in self.held.values().filter_map(Slot::here).chain(gone) {
            document.note_own(&mut lost, |_| true);
            let Some(genesis) = &document.genesis else { continue };
            for (op, id) in genesis.changes.iter().flat_map(|bytes| super::operations_in(bytes)) {
                lost.note(&op, id);
            }
        }
        for document in self.held.values().filter_map(Slot::here).chain(gone) {
            match &document.genesis {
                Some(genesis) if self.path().contains(&document.id) => lost.moved.add(genesis),
                Some(genesis) => lost.moved.add_back(genesis),
                None => {}
            }
        }
        let deleted = others.iter().flat_map(|fact| operations(fact)).filter_map(|(op, _)| match (op.key, op.action) {
            (Key::Seq(ElementId::Id(element)), OpType::Delete) => Some(element),
            _ => None,
        });
        lost.deleted = deleted.collect::<BTreeSet<OpId>>();
        lost
    }
}

/// Whether a fact says something again.
pub(super) fn is_copy(fact: &Fact) -> bool {
    DocChange::of(fact).is_some_and(|body| body.again.is_some())
}
