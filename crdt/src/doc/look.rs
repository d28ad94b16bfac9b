//! Reading a document: its values, who wrote them, and what each change did.

use std::collections::BTreeMap;
use std::sync::Arc;

use automerge::iter::ListRangeItem;
use automerge::legacy::{Key, ObjectId, OpId, OpType};
use automerge::{Automerge, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, ScalarValueRef, Value, ValueRef};
use cauldron_identity::{AuthorId, Fact};

use super::document::Document;
use super::field::{Field, Rows, View};
use super::name::Kind;
use super::profile::{Made, Slot, TEXT, TITLE};
use super::{Unfit, operations};

/// What one signed fact did to a document.
#[derive(Debug, Clone)]
pub struct Step {
    /// The fact: its header says who, when and where in its author's chain.
    pub fact: Arc<Fact>,
    /// Why it is not in the document, if it is not.
    pub left_out: Option<Unfit>,
    /// What it did.
    pub did: Vec<Did>,
}

/// One thing that a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    /// Set a field of a row.
    Set {
        /// The row.
        row: String,
        /// The field.
        field: String,
        /// To what.
        value: Field,
    },
    /// Removed a field of a row.
    Removed {
        /// The row.
        row: String,
        /// The field.
        field: String,
    },
    /// Gave the notes a title.
    Titled(String),
    /// Wrote and deleted characters of the text.
    Wrote {
        /// What was inserted, in the order of the change.
        inserted: String,
        /// How many characters were deleted.
        deleted: usize,
    },
}

/// Who set a value.
#[derive(Debug, Clone)]
pub struct Blame {
    /// The row of a table; for notes `title` or `text`.
    pub row: String,
    /// The field of a table; empty for notes.
    pub field: String,
    /// The value; for the text of notes, a piece of it by one author in one change.
    pub value: Field,
    /// Who set it; none when that was in an earlier epoch whose facts are still to come.
    pub author: Option<AuthorId>,
    /// The fact that set it, once it is here.
    pub fact: Option<Arc<Fact>>,
    /// Whether others set it at the same time and lost: they follow, this is the value that is shown.
    pub conflict: bool,
}

pub(super) fn empty(kind: Kind) -> View {
    if kind.is_table() { View::Table(Rows::new()) } else { View::Note { title: String::new(), text: String::new() } }
}

pub(super) fn read(kind: Kind, doc: &Automerge) -> View {
    if kind.is_table() {
        return View::Table(read_rows(doc));
    }
    let title = match doc.get(ROOT, TITLE) {
        Ok(Some((Value::Scalar(scalar), _))) => scalar.as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    // Two people may have begun the text at the same time: both are shown, the one that further writing goes to first.
    let texts = texts(doc);
    let text: Vec<String> = texts.iter().rev().filter_map(|text| doc.text(text).ok()).collect();
    View::Note { title, text: text.concat() }
}

/// The operation that gave notes the title that is shown.
pub(super) fn title(doc: &Automerge) -> Option<ObjId> {
    doc.get(ROOT, TITLE).ok().flatten().map(|(_, id)| id)
}

/// The texts of notes, in ascending order of their ids: the last one is what a plain reader would see.
pub(super) fn texts(doc: &Automerge) -> Vec<ObjId> {
    let all = doc.get_all(ROOT, TEXT).unwrap_or_default();
    all.into_iter().filter(|(value, _)| matches!(value, Value::Object(ObjType::Text))).map(|(_, id)| id).collect()
}

/// The maps of a row, in ascending order of their ids. Two writers may have made it at the same time.
pub(super) fn maps(doc: &Automerge, row: &str) -> Vec<ObjId> {
    let all = doc.get_all(ROOT, row).unwrap_or_default();
    all.into_iter().filter(|(value, _)| matches!(value, Value::Object(ObjType::Map))).map(|(_, id)| id).collect()
}

fn read_rows(doc: &Automerge) -> Rows {
    let mut rows = Rows::new();
    for row in doc.keys(ROOT) {
        let fields = rows.entry(row.clone()).or_default();
        for map in maps(doc, &row) {
            let field = |key: String| match doc.get(&map, key.as_str()) {
                Ok(Some((Value::Scalar(scalar), _))) => Field::of(&scalar).map(|field| (key, field)),
                _ => None,
            };
            fields.extend(doc.keys(&map).filter_map(field));
        }
    }
    rows.retain(|_, fields| !fields.is_empty());
    rows
}

/// A value of one field of a row, as it is shown, with the operation that set it.
pub(super) fn field(doc: &Automerge, row: &str, key: &str) -> Option<(Field, ObjId)> {
    maps(doc, row).iter().rev().find_map(|map| match doc.get(map, key) {
        Ok(Some((Value::Scalar(scalar), id))) => Field::of(&scalar).map(|field| (field, id)),
        _ => None,
    })
}

/// Where a value comes from.
struct Origin {
    change: ChangeHash,
    /// None when it lies in an epoch before, whose facts are still to come.
    author: Option<AuthorId>,
    fact: Option<Arc<Fact>>,
}

impl Origin {
    fn is(&self, other: &Self) -> bool {
        let fact = |origin: &Self| origin.fact.as_ref().map(|fact| fact.id());
        self.change == other.change && fact(self) == fact(other)
    }
}

impl Document {
    pub(super) fn fact_of(&self, id: &ObjId) -> Option<Arc<Fact>> {
        let ObjId::Id(counter, actor, _) = id else { return None };
        match self.begun_at(id) {
            Some((counter, genesis)) => genesis.fact_of(counter).cloned(),
            None => self.fence.change_of(*counter, actor).and_then(|change| change.fact().cloned()),
        }
    }

    /// The change that an operation came in: its hash, who wrote it, and its fact, once it is here.
    fn origin(&self, id: &ObjId) -> Option<Origin> {
        let ObjId::Id(counter, actor, _) = id else { return None };
        let change = self.fence.change_of(*counter, actor)?;
        let fact = self.fact_of(id);
        let author = match &fact {
            Some(fact) => Some(fact.header().author),
            None => self.base.as_ref().and_then(|base| base.actors.get(actor)).map(|writer| writer.0),
        };
        Some(Origin { change: change.hash, author, fact })
    }

    /// Who set what is shown. Values that lost against one set at the same time follow it.
    pub fn blame(&self) -> Vec<Blame> {
        let doc = &self.engine.doc;
        let mut all = Vec::new();
        if !self.key.doc.kind().is_table() {
            self.blame_values(&mut all, &[ROOT], TITLE, ("title", ""));
            for text in texts(doc).iter().rev() {
                self.blame_text(&mut all, text);
            }
            return all;
        }
        for row in doc.keys(ROOT) {
            let maps: Vec<ObjId> = maps(doc, &row).into_iter().rev().collect();
            let mut keys: Vec<String> = maps.iter().flat_map(|map| doc.keys(map)).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                self.blame_values(&mut all, &maps, &key, (&row, &key));
            }
        }
        all
    }

    fn blame_values(&self, all: &mut Vec<Blame>, maps: &[ObjId], key: &str, (row, field): (&str, &str)) {
        let values = maps.iter().flat_map(|map| {
            let values = self.engine.doc.get_all(map, key).unwrap_or_default();
            // The last one is shown.
            values.into_iter().rev().collect::<Vec<_>>()
        });
        let values: Vec<(Field, Origin)> = values
            .filter_map(|(value, id)| match value {
                Value::Scalar(scalar) => Some((Field::of(&scalar)?, self.origin(&id)?)),
                Value::Object(_) => None,
            })
            .collect();
        let conflict = values.len() > 1;
        all.extend(values.into_iter().map(|(value, origin)| Blame {
            row: row.to_owned(),
            field: field.to_owned(),
            value,
            author: origin.author,
            fact: origin.fact,
            conflict,
        }));
    }

    /// The text in pieces, each of one change.
    fn blame_text(&self, all: &mut Vec<Blame>, text: &ObjId) {
        let mut piece: Option<(String, Origin)> = None;
        let mut end = |piece: Option<(String, Origin)>| {
            all.extend(piece.map(|(text, origin)| Blame {
                row: "text".to_owned(),
                field: String::new(),
                value: Field::Text(text),
                author: origin.author,
                fact: origin.fact,
                conflict: false,
            }));
        };
        for item in self.engine.doc.list_range(text, ..) {
            let Some(origin) = self.origin(&item.id()) else { continue };
            let character = character(&item);
            match &mut piece {
                Some((text, of)) if of.is(&origin) => text.push_str(&character),
                other => {
                    end(other.take());
                    *other = Some((character, origin));
                }
            }
        }
        end(piece);
    }

    /// Every change of the document whose fact is here, in an order in which they apply, then those that are left out.
    pub fn history(&self, verdict: &dyn Fn(&Self, &Fact) -> super::Applied) -> Vec<Step> {
        let left_out = |fact: &Fact| match verdict(self, fact) {
            super::Applied::Refused(why) => Some(why),
            super::Applied::Waiting => Some(Unfit::Waits),
            super::Applied::Yes => None,
        };
        let step = |fact: &Arc<Fact>, left_out| Step { fact: fact.clone(), left_out, did: self.did(fact) };
        let accepted = self.fence.accepted().iter().filter_map(|accepted| accepted.fact());
        let mut steps: Vec<Step> = accepted.map(|fact| step(fact, left_out(fact))).collect();
        let fed = self.chains.values().flat_map(|chain| &chain.fed);
        let others = fed.map(|fact| (fact, left_out(fact))).filter(|(_, why)| why.is_some_and(|why| !why.is_late()));
        steps.extend(others.map(|(fact, why)| step(fact, why)));
        steps
    }

    /// What a change did, as far as its own operations and the document tell.
    fn did(&self, fact: &Fact) -> Vec<Did> {
        let mut rows: BTreeMap<OpId, String> = BTreeMap::new();
        let mut did = Vec::new();
        let (mut inserted, mut deleted) = (String::new(), 0);
        for (op, id) in operations(fact) {
            let row = match &op.obj {
                ObjectId::Root => None,
                ObjectId::Id(id) if rows.contains_key(id) => rows.get(id).cloned(),
                ObjectId::Id(id) => self.fence.op(id.0, &id.1).and_then(|known| match (&known.slot, known.made) {
                    (Slot::Key(key), Made::Row) => Some(key.to_string()),
                    _ => None,
                }),
            };
            match (&op.key, &op.action, row) {
                (Key::Map(key), OpType::Make(_), None) => {
                    rows.insert(id, key.to_string());
                }
                (Key::Map(_), OpType::Put(ScalarValue::Str(title)), None) => did.push(Did::Titled(title.to_string())),
                (Key::Map(key), OpType::Put(value), Some(row)) => {
                    did.extend(Field::of(value).map(|value| Did::Set { row, field: key.to_string(), value }))
                }
                (Key::Map(key), OpType::Delete, Some(row)) => did.push(Did::Removed { row, field: key.to_string() }),
                (Key::Seq(_), OpType::Put(ScalarValue::Str(text)), _) => inserted.push_str(text),
                (Key::Seq(_), OpType::Delete, _) => deleted += 1,
                _ => {}
            }
        }
        if !inserted.is_empty() || deleted > 0 {
            did.push(Did::Wrote { inserted, deleted });
        }
        did
    }
}

pub(super) fn character(item: &ListRangeItem<'_>) -> String {
    match &item.value {
        ValueRef::Scalar(ScalarValueRef::Str(text)) => text.to_string(),
        _ => String::new(),
    }
}
