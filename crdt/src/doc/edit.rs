//! Writing: from what somebody wants changed to the changes that say it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Automerge, Change, ChangeHash, ExpandedChange, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use cauldron_identity::codec::to_cbor;

use super::document::{Document, Writer};
use super::fence::screen;
use super::field::{Edit, Field};
use super::profile::{TEXT, TITLE, is_character};
use super::{DocChange, Unfit, limits, look};

/// Operations that are to become changes of one writer.
#[derive(Debug)]
pub(super) struct Draft<'d> {
    pub doc: &'d Document,
    actor: ActorId,
    round: u32,
    /// Set when the writer begins a round with this: how many changes of the last one stay.
    keeps: Option<u64>,
    /// Set when the writer says again with this what had been left outside earlier epochs: up to which of its facts.
    again: Option<u64>,
    seq: u64,
    start_op: u64,
    deps: Vec<ChangeHash>,
    ops: Vec<Op>,
}

impl<'d> Draft<'d> {
    /// Behind everything the document holds.
    pub fn new(doc: &'d Document, writer: &Writer) -> Self {
        let old = doc.chains.get(writer).map_or(0, |chain| chain.round);
        let kept = doc.fence.of_actor(&doc.actor(writer, old)).len() as u64;
        let anew = doc.has_lost(writer);
        let round = old + u32::from(anew);
        let actor = doc.actor(writer, round);
        let own = doc.fence.of_actor(&actor);
        let mut deps: Vec<ChangeHash> = doc.fence.heads().iter().copied().collect();
        // Always its own last change, even when another follows it: so the own chain can be walked.
        deps.extend(own.last().filter(|last| !doc.fence.heads().contains(*last)));
        deps.sort();
        Self {
            doc,
            round,
            keeps: anew.then_some(kept),
            again: None,
            seq: own.len() as u64 + 1,
            start_op: doc.fence.next_op(),
            actor,
            deps,
            ops: Vec::new(),
        }
    }

    /// Says with the first change that nothing more is to be said of earlier epochs, up to a fact of the writer's own.
    pub fn says_again(&mut self, seq: u64) {
        self.again = Some(seq);
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub fn push(&mut self, obj: ObjectId, key: Key, action: OpType, pred: Vec<OpId>, insert: bool) -> OpId {
        let id = OpId(self.start_op + self.ops.len() as u64, self.actor.clone());
        self.ops.push(Op { action, obj, key, pred: pred.into(), insert });
        id
    }

    /// The operations that a map holds under a key: what a new value replaces.
    fn values(&self, map: &ObjId, key: &str) -> Vec<OpId> {
        let all = self.doc.engine.doc.get_all(map, key).unwrap_or_default();
        all.iter().filter_map(|(_, id)| op_id(id)).collect()
    }

    /// Sets or removes a field of a row, unless it is so already. `row` remembers the row's map within this draft.
    pub fn field(&mut self, row: &str, key: &str, value: Option<&Field>, made: &mut BTreeMap<String, ObjectId>) {
        let doc = &self.doc.engine.doc;
        let now = look::field(doc, row, key).map(|(field, _)| field);
        if now.as_ref() == value {
            return;
        }
        let maps = look::maps(doc, row);
        let Some(value) = value else {
            for map in maps {
                let (pred, object) = (self.values(&map, key), object_id(&map));
                if let Some(object) = object.filter(|_| !pred.is_empty()) {
                    self.push(object, Key::Map(key.into()), OpType::Delete, pred, false);
                }
            }
            return;
        };
        let (object, pred) = match maps.last().and_then(|map| Some((object_id(map)?, self.values(map, key)))) {
            Some(known) => known,
            None => {
                let object = made.get(row).cloned().unwrap_or_else(|| {
                    let id = self.push(ObjectId::Root, Key::Map(row.into()), OpType::Make(ObjType::Map), vec![], false);
                    ObjectId::Id(id)
                });
                made.insert(row.to_owned(), object.clone());
                (object, vec![])
            }
        };
        self.push(object, Key::Map(key.into()), OpType::Put(value.scalar()), pred, false);
    }

    pub fn title(&mut self, title: &str) {
        let pred = self.values(&ROOT, TITLE);
        self.push(ObjectId::Root, Key::Map(TITLE.into()), OpType::Put(ScalarValue::Str(title.into())), pred, false);
    }

    /// The text that is written to, made if there is none.
    pub fn text(&mut self) -> ObjectId {
        match look::texts(&self.doc.engine.doc).last().and_then(object_id) {
            Some(text) => text,
            None => {
                let made = OpType::Make(ObjType::Text);
                ObjectId::Id(self.push(ObjectId::Root, Key::Map(TEXT.into()), made, vec![], false))
            }
        }
    }

    pub fn insert(&mut self, text: &ObjectId, after: ElementId, character: &str) -> OpId {
        let put = OpType::Put(ScalarValue::Str(character.into()));
        self.push(text.clone(), Key::Seq(after), put, vec![], true)
    }

    pub fn delete(&mut self, text: &ObjectId, element: OpId) {
        self.push(text.clone(), Key::Seq(ElementId::Id(element.clone())), OpType::Delete, vec![element], false);
    }

    fn edit_text(&mut self, at: usize, remove: usize, insert: &str) -> Result<(), Unfit> {
        let elements = elements(self.doc);
        let end = at.checked_add(remove).filter(|end| *end <= elements.len()).ok_or(Unfit::NoPlace)?;
        let anchor = at.checked_sub(1).and_then(|before| elements.get(before)).cloned();
        if !insert.is_empty() {
            let (text, mut after) = match anchor {
                Some((text, id)) => (text, ElementId::Id(id)),
                None => (self.text(), ElementId::Head),
            };
            for character in insert.chars() {
                let character = character.to_string();
                if !is_character(&character) {
                    return Err(Unfit::Profile);
                }
                after = ElementId::Id(self.insert(&text, after, &character));
            }
        }
        for (text, id) in elements.get(at..end).unwrap_or_default() {
            self.delete(text, id.clone());
        }
        Ok(())
    }

    /// The bodies of the facts to append, in this order.
    pub fn finish(self) -> Result<Vec<Vec<u8>>, Unfit> {
        let mut bodies: Vec<DocChange> = Vec::new();
        let (mut seq, mut start_op, mut deps) = (self.seq, self.start_op, self.deps);
        let (mut keeps, again) = (self.keeps, self.again);
        for ops in pieces(&self.ops) {
            let expanded = ExpandedChange {
                operations: ops.to_vec(),
                actor_id: self.actor.clone(),
                hash: None,
                seq,
                start_op: NonZeroU64::new(start_op).ok_or(Unfit::StartOp)?,
                time: 0,
                message: None,
                deps: deps.clone(),
                extra_bytes: Vec::new(),
                author: None,
            };
            let made = catch_unwind(AssertUnwindSafe(|| Change::from(expanded).raw_bytes().to_vec()));
            let change = made.map_err(|_| Unfit::Poison)?;
            // Our own changes pass the same fence: what it refuses is never signed.
            deps = vec![screen(&self.actor, &change)?.hash()];
            seq += 1;
            start_op += ops.len() as u64;
            bodies.push(DocChange { change, round: self.round, keeps: keeps.take(), again, ..self.doc.body() });
        }
        if bodies.is_empty() && again.is_some() {
            bodies.push(DocChange { again, round: self.round, ..self.doc.body() });
        }
        // Only the last one says that all is said.
        for body in bodies.iter_mut().rev().skip(1).filter(|body| body.again.is_some()) {
            body.more = Some(true);
        }
        let bodies = bodies.iter().map(to_cbor).collect();
        Ok(bodies)
    }
}

/// Operations in pieces that each fit into a change. What an epoch begins from is cut so too: at every node alike.
pub(super) fn pieces(ops: &[Op]) -> impl Iterator<Item = &[Op]> {
    let mut rest = ops;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fits = |op: &&Op| {
            len += length(op);
            len <= limits::EDIT_LEN_MAX
        };
        let count = rest.iter().take(limits::EDIT_OPS_MAX).take_while(fits).count().max(1).min(rest.len());
        let piece = rest.get(..count).filter(|piece| !piece.is_empty());
        rest = rest.get(count..).unwrap_or_default();
        piece
    })
}

/// At least as many bytes as an operation takes in a change.
fn length(op: &Op) -> usize {
    let key = match &op.key {
        Key::Map(key) => key.len(),
        Key::Seq(_) => 0,
    };
    let value = match &op.action {
        OpType::Put(ScalarValue::Str(text)) => text.len(),
        _ => 0,
    };
    limits::OP_LEN + key + value + op.pred.len() * limits::OP_LEN
}

/// The characters of notes as they are shown: the text each stands in, and the operation that inserted it.
pub(super) fn elements(doc: &Document) -> Vec<(ObjectId, OpId)> {
    let known = |(text, id, _): (ObjId, ObjId, String)| Some((object_id(&text)?, op_id(&id)?));
    elements_of(&doc.engine.doc).into_iter().filter_map(known).collect()
}

/// The same of any engine, with what each character is.
pub(super) fn elements_of(engine: &Automerge) -> Vec<(ObjId, ObjId, String)> {
    let texts = look::texts(engine);
    let of = |text: &ObjId| {
        let items = engine.list_range(text, ..).map(|item| (text.clone(), item.id(), look::character(&item)));
        items.collect::<Vec<_>>()
    };
    texts.iter().rev().flat_map(of).collect()
}

pub(super) fn op_id(id: &ObjId) -> Option<OpId> {
    match id {
        ObjId::Root => None,
        ObjId::Id(counter, actor, _) => Some(OpId(*counter, actor.clone())),
    }
}

fn object_id(id: &ObjId) -> Option<ObjectId> {
    op_id(id).map(ObjectId::Id)
}

impl Document {
    /// The body of a fact about it, without a change.
    pub(super) fn body(&self) -> DocChange {
        let (epoch, genesis) = (self.id.number, self.id.genesis);
        DocChange { doc: self.key.doc.to_string(), epoch, genesis, ..DocChange::default() }
    }

    /// The bodies of the facts that say `edit` in the writer's name; none when the document says so already.
    pub fn draft(&mut self, writer: &Writer, edit: &Edit) -> Result<Vec<Vec<u8>>, Unfit> {
        if self.cost() > 0 || self.waits(writer) || self.is_bare(writer) {
            return Err(Unfit::NotWritable);
        }
        let draft = |doc: &Self| {
            let mut draft = Draft::new(doc, writer);
            match edit {
                Edit::Row { row, fields } if doc.key.doc.kind().is_table() => {
                    let mut made = BTreeMap::new();
                    fields.iter().for_each(|(key, value)| draft.field(row, key, value.as_ref(), &mut made));
                }
                Edit::Title(title) if !doc.key.doc.kind().is_table() => {
                    let now = look::read(doc.key.doc.kind(), &doc.engine.doc);
                    if !matches!(now, super::View::Note { title: now, .. } if now == *title) {
                        draft.title(title);
                    }
                }
                Edit::Text { at, remove, insert } if !doc.key.doc.kind().is_table() => {
                    draft.edit_text(*at, *remove, insert)?;
                }
                _ => return Err(Unfit::NoPlace),
            }
            draft.finish()
        };
        let doc = &*self;
        let bodies = catch_unwind(AssertUnwindSafe(|| draft(doc))).map_err(|_| Unfit::Poison)??;
        if let Some(first) = bodies.first() {
            self.would_accept(writer, first)?;
        }
        Ok(bodies)
    }

    pub(super) fn would_accept(&mut self, writer: &Writer, body: &[u8]) -> Result<(), Unfit> {
        let body = DocChange::read(body).ok_or(Unfit::Malformed)?;
        let change = screen(&self.actor(writer, body.round), &body.change)?;
        self.fence.check(&change).map(|_| ())
    }
}
