//! Healing: an author writes again what it had written on top of changes that were taken out.
//!
//! A cut takes an author's later changes out of a document, and with them all that follow them, whoever wrote those. What
//! an honest author had written stands in its own signed facts, so it can say the same again, without what is gone: it
//! begins a new round, in which it keeps its changes up to the first that was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ChangeHash, ScalarValue};
use cauldron_identity::{Fact, FactId};

use super::document::{Chain, Document, Writer};
use super::edit::{Draft, elements};
use super::field::Field;
use super::genesis::Moved;
use super::late::is_copy;
use super::profile::{Made, Slot, TITLE};
use super::{DocChange, Unfit, change_in, limits, look, operations, operations_in};

/// Operations that are not in the document, by id.
#[derive(Default)]
pub(super) struct Lost {
    /// Maps of rows.
    rows: BTreeMap<OpId, String>,
    /// Characters, and behind which element they stood.
    characters: BTreeMap<OpId, ElementId>,
    /// Characters of earlier epochs that are in later ones.
    pub moved: Moved,
    /// Characters that others deleted.
    pub deleted: BTreeSet<OpId>,
}

/// The last word on a field: the value or its removal, and the fact that says so.
pub(super) struct Word {
    value: Option<Field>,
    pub fact: Arc<Fact>,
}

/// What was said in the end, by row and field.
pub(super) type Said = BTreeMap<(String, String), Word>;

/// Which of two words is the last one.
fn last(fact: &Fact) -> (u64, FactId) {
    (fact.header().hlc, fact.id())
}

impl Lost {
    /// Notes what an operation made.
    pub fn note(&mut self, op: &Op, id: OpId) {
        match (&op.key, &op.action) {
            (Key::Map(row), OpType::Make(_)) if op.obj == ObjectId::Root => {
                self.rows.entry(id).or_insert_with(|| row.to_string());
            }
            (Key::Seq(after), OpType::Put(_)) if op.insert => {
                self.characters.entry(id).or_insert_with(|| after.clone());
            }
            _ => {}
        }
    }
}

impl Document {
    /// Facts of this writer's present round whose changes were taken out because of others.
    fn lost_facts(&self, writer: &Writer) -> Vec<Arc<Fact>> {
        let Some(chain) = self.chains.get(writer).filter(|_| self.has_lost(writer)) else { return Vec::new() };
        let actor = self.actor(writer, chain.round);
        let refused = self.fence.refused();
        let lost = |fact: &&Arc<Fact>| {
            // A copy is nobody's word: what it had said is owed by itself.
            DocChange::of(fact).is_some_and(|body| body.round == chain.round && body.again.is_none())
                && change_in(fact).is_some_and(|change| {
                    let waits = chain.stuck && !self.fence.holds(&change.hash());
                    *change.actor_id() == actor && (waits || refused.get(&change.hash()) == Some(&Unfit::RefusedDep))
                })
        };
        chain.fed.iter().filter(lost).cloned().collect()
    }

    /// Whether a change of this writer's present round was taken out because of others.
    pub fn has_lost(&self, writer: &Writer) -> bool {
        let misses = |chain: &Chain| (chain.lost || chain.stuck) && chain.round < limits::DOC_ROUNDS_MAX;
        self.chains.get(writer).is_some_and(misses)
    }

    /// Whether the document misses something that this writer said.
    pub fn misses(&self, writer: &Writer) -> bool {
        let again = || self.draft_again(writer).is_ok_and(|bodies| !bodies.is_empty());
        self.has_lost(writer) && catch_unwind(AssertUnwindSafe(again)).unwrap_or(false)
    }

    /// The bodies of the facts that say again what this writer lost; none when nothing of it is missing.
    pub fn reissue(&mut self, writer: &Writer) -> Result<Vec<Vec<u8>>, Unfit> {
        // Who said what last is known when all facts are here.
        let chain = self.chains.get(writer);
        let waits = self.waits(writer) && !chain.is_some_and(|chain| chain.stuck);
        if self.cost() > 0 || waits || !chain.is_none_or(Chain::is_read) || self.base.is_some() {
            return Err(Unfit::NotWritable);
        }
        let doc = &*self;
        catch_unwind(AssertUnwindSafe(|| doc.draft_again(writer))).map_err(|_| Unfit::Poison)?
    }

    fn draft_again(&self, writer: &Writer) -> Result<Vec<Vec<u8>>, Unfit> {
        let facts = self.lost_facts(writer);
        let lost = self.lost_ops();
        let mut draft = Draft::new(self, writer);
        if self.key.doc.kind().is_table() {
            let mut said = Said::new();
            self.said(&facts, &lost, &mut said);
            self.set_again(said, &mut draft);
        } else {
            self.write_again(&facts, &lost, &mut draft);
        }
        if draft.is_empty() { Ok(Vec::new()) } else { draft.finish() }
    }

    /// Sets the fields of a table again, unless somebody did so later.
    pub(super) fn set_again(&self, said: Said, draft: &mut Draft<'_>) {
        let mut made = BTreeMap::new();
        for ((row, key), word) in said {
            let now = look::field(&self.engine.doc, &row, &key).and_then(|(_, id)| self.fact_of(&id));
            // What a copy says was weighed by what it repeats.
            if now.is_none_or(|now| is_copy(&now) || last(&now) < last(&word.fact)) {
                draft.field(&row, &key, word.value.as_ref(), &mut made);
            }
        }
    }

    /// What everybody's changes that are not in the document made.
    pub(super) fn lost_ops(&self) -> Lost {
        let mut lost = Lost::default();
        self.note_own(&mut lost, |hash| !self.fence.holds(hash));
        lost
    }

    /// Notes what the changes of these hashes made, each its writer's own: what somebody claims in another's name is nothing.
    pub(super) fn note_own(&self, lost: &mut Lost, which: impl Fn(&ChangeHash) -> bool) {
        for (writer, chain) in &self.chains {
            for change in chain.fed.iter().filter_map(|fact| self.own_change(writer, fact)) {
                if which(&change.hash()) {
                    operations_in(change.raw_bytes()).into_iter().for_each(|(op, id)| lost.note(&op, id));
                }
            }
        }
    }

    /// The last word of these facts on each field of a table.
    pub(super) fn said(&self, facts: &[Arc<Fact>], lost: &Lost, said: &mut Said) {
        for fact in facts {
            for (op, _) in operations(fact) {
                let (Key::Map(key), ObjectId::Id(map)) = (&op.key, &op.obj) else { continue };
                let held = self.fence.op(map.0, &map.1).and_then(|known| match (&known.slot, known.made) {
                    (Slot::Key(row), Made::Row) => Some(row.to_string()),
                    _ => None,
                });
                let Some(row) = held.or_else(|| lost.rows.get(map).cloned()) else { continue };
                let value = match &op.action {
                    OpType::Put(scalar) => Field::of(scalar),
                    _ => None,
                };
                let place = (row, key.to_string());
                if said.get(&place).is_none_or(|word| last(&word.fact) <= last(fact)) {
                    said.insert(place, Word { value, fact: fact.clone() });
                }
            }
        }
    }

    /// Inserts and deletes the same characters again, each behind the nearest one before it that is still there.
    pub(super) fn write_again(&self, facts: &[Arc<Fact>], lost: &Lost, draft: &mut Draft<'_>) {
        let shown: BTreeMap<OpId, ObjectId> = elements(self).into_iter().map(|(text, id)| (id, text)).collect();
        let deleted: BTreeSet<OpId> = facts
            .iter()
            .flat_map(|fact| operations(fact))
            .filter_map(|(op, _)| match (&op.key, &op.action) {
                (Key::Seq(ElementId::Id(element)), OpType::Delete) => Some(element.clone()),
                _ => None,
            })
            .collect();
        let mut again: BTreeMap<OpId, (ObjectId, OpId)> = BTreeMap::new();
        let mut title = None;
        for (fact, (op, id)) in facts.iter().flat_map(|fact| operations(fact).into_iter().map(move |op| (fact, op))) {
            match (&op.key, &op.action) {
                (Key::Map(key), OpType::Put(ScalarValue::Str(text))) if key == TITLE => {
                    title = Some((text.to_string(), fact))
                }
                (Key::Seq(after), OpType::Put(ScalarValue::Str(text)))
                    if op.insert && !deleted.contains(&id) && !lost.deleted.contains(&id) =>
                {
                    let (object, after) = self.anchor(after.clone(), lost, &again, draft);
                    let new = draft.insert(&object, after, text);
                    again.insert(id, (object, new));
                }
                _ => {}
            }
        }
        for element in deleted {
            let element = lost.moved.to(element);
            if let Some(text) = shown.get(&element) {
                draft.delete(text, element);
            }
        }
        if let Some((title, fact)) = title {
            let now = look::title(&self.engine.doc).and_then(|id| self.fact_of(&id));
            if now.is_none_or(|now| is_copy(&now) || last(&now) < last(fact)) {
                draft.title(&title);
            }
        }
    }

    /// Where a character goes that stood behind `after`.
    fn anchor(
        &self,
        mut after: ElementId,
        lost: &Lost,
        again: &BTreeMap<OpId, (ObjectId, OpId)>,
        draft: &mut Draft<'_>,
    ) -> (ObjectId, ElementId) {
        // What was refused may stand behind itself.
        let mut seen = BTreeSet::new();
        while let ElementId::Id(element) = &after
            && seen.insert(element.clone())
        {
            if let Some((object, new)) = again.get(element) {
                return (object.clone(), ElementId::Id(new.clone()));
            }
            let element = lost.moved.to(element.clone());
            if let Some(object) = self.text_of(&element) {
                return (object, ElementId::Id(element));
            }
            after = lost.characters.get(&element).cloned().unwrap_or(ElementId::Head);
        }
        // What was begun in this round goes on behind its last character; else at the start of the text.
        match again.values().last() {
            Some((object, _)) => (object.clone(), ElementId::Head),
            None => (draft.text(), ElementId::Head),
        }
    }

    /// The text that a character of the document stands in, deleted or not.
    fn text_of(&self, element: &OpId) -> Option<ObjectId> {
        let known = self.fence.op(element.0, &element.1).filter(|known| known.made == Made::Value)?;
        let text = known.object.filter(|_| matches!(known.slot, Slot::Element(_)))?;
        Some(ObjectId::Id(OpId(text.counter, self.fence.name_of(text.actor)?.clone())))
    }
}
