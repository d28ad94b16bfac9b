//! What an epoch begins from: a document folded to what it says at some heads.
//!
//! The same heads give the same bytes at every node: rows, fields and characters in their order, written by an actor that is
//! derived from the heads. What is folded away is who else had set a field at the same time and lost, and what was there before.
//! Who set what stays known as long as the facts do.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Change, ChangeHash, ExpandedChange, ObjId, ObjType, ScalarValue};
use cauldron_identity::ids::domain_hash;
use cauldron_identity::{Digest, Fact};

use super::document::Document;
use super::edit::{elements_of, op_id};
use super::engine::Engine;
use super::epoch::{EpochId, Found};
use super::fence::{Past, Room, Source, screen};
use super::profile::{TEXT, TITLE};
use super::{DocKey, View, limits, look, prescan};

/// Epochs at their beginning that are kept ready.
const BEGUN_MAX: usize = 2;

/// Where an operation of a genesis comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// The fact that had said so; none for what says nothing by itself, and in a base.
    pub fact: Option<Arc<Fact>>,
    /// The character's operation in the epoch before.
    pub op: Option<OpId>,
}

/// What an epoch begins from.
#[derive(Debug)]
pub(super) struct Genesis {
    pub id: EpochId,
    pub actor: ActorId,
    /// Plain changes, in order.
    pub changes: Vec<Arc<[u8]>>,
    /// By operation; empty when it came in one piece.
    pub origins: Vec<Origin>,
}

/// How an epoch ended.
#[derive(Debug)]
pub(super) struct End {
    heads: Vec<ChangeHash>,
    past: Past,
}

/// Who writes the beginning of the epoch that follows on `of` at `heads`: nobody, and everybody the same.
pub(super) fn actor_of(key: &DocKey, of: &EpochId, heads: &[ChangeHash]) -> ActorId {
    let mut input = of.number.to_be_bytes().to_vec();
    input.extend_from_slice(of.genesis.as_ref().map_or(&[0; 32], |genesis| genesis.as_bytes()));
    heads.iter().for_each(|head| input.extend_from_slice(&head.0));
    input.extend_from_slice(format!("{}\0{}", key.scope, key.doc).as_bytes());
    ActorId::from(&domain_hash("cauldron/doc-genesis/v1", &input)[..prescan::ACTOR_LEN])
}

/// The name of a genesis: all of it, hence also what it follows on.
pub(super) fn name_of(actor: &ActorId, changes: impl IntoIterator<Item = ChangeHash>) -> Digest {
    let mut input = actor.to_bytes().to_vec();
    changes.into_iter().for_each(|hash| input.extend_from_slice(&hash.0));
    Digest::of("cauldron/doc-genesis/v1", &input)
}

/// Operations of a genesis, as they come.
struct Writing {
    actor: ActorId,
    ops: Vec<Op>,
    origins: Vec<Origin>,
}

impl Writing {
    fn push(&mut self, obj: ObjectId, key: Key, action: OpType, insert: bool, origin: Origin) -> OpId {
        self.ops.push(Op { action, obj, key, pred: vec![].into(), insert });
        self.origins.push(origin);
        OpId(self.ops.len() as u64, self.actor.clone())
    }

    fn changes(&self) -> Option<Vec<Change>> {
        let mut changes: Vec<Change> = Vec::new();
        let mut start_op = 1;
        for (ops, seq) in super::edit::pieces(&self.ops).zip(1..) {
            let expanded = ExpandedChange {
                operations: ops.to_vec(),
                actor_id: self.actor.clone(),
                hash: None,
                seq,
                start_op: NonZeroU64::new(start_op)?,
                time: 0,
                message: None,
                deps: changes.last().map(Change::hash).into_iter().collect(),
                extra_bytes: Vec::new(),
                author: None,
            };
            let bytes = Change::from(expanded).raw_bytes().to_vec();
            changes.push(screen(&self.actor, &bytes).ok()?);
            start_op += ops.len() as u64;
        }
        Some(changes)
    }
}

impl Genesis {
    /// Folds a document to what it says at `heads`; none when Automerge cannot, or when an epoch could not begin from it.
    /// Gives the epoch at its beginning with it.
    pub fn fold(document: &Document, heads: &[ChangeHash]) -> Option<(Arc<Self>, Document)> {
        let folded = catch_unwind(AssertUnwindSafe(|| Self::folded(document, heads))).ok().flatten()?;
        let folded = Arc::new(folded);
        let begun = Document::begin(document.key.clone(), folded.clone())?;
        Some((folded, begun))
    }

    fn folded(document: &Document, heads: &[ChangeHash]) -> Option<Self> {
        let past = document.fence.past(heads)?;
        let held = document.fence.accepted().iter().filter(|held| document.fence.is_in(&past, &held.hash));
        let engine = Engine::of(&held.map(|held| held.change()).collect::<Option<Vec<_>>>()?)?;
        let actor = actor_of(&document.key, &document.id, heads);
        let mut writing = Writing { actor: actor.clone(), ops: Vec::new(), origins: Vec::new() };
        match look::read(document.key.doc.kind(), &engine.doc) {
            View::Table(rows) => {
                for (row, fields) in rows {
                    let map = OpType::Make(ObjType::Map);
                    let row_key = Key::Map(row.as_str().into());
                    let map = ObjectId::Id(writing.push(ObjectId::Root, row_key, map, false, Origin::default()));
                    for (key, value) in fields {
                        let id = look::field(&engine.doc, &row, &key).map(|(_, id)| id);
                        let fact = id.and_then(|id| document.fact_of(&id));
                        let origin = Origin { fact, op: None };
                        writing.push(map.clone(), Key::Map(key.into()), OpType::Put(value.scalar()), false, origin);
                    }
                }
            }
            View::Note { title, .. } => Self::fold_note(document, &engine, &title, &mut writing),
        }
        let changes = writing.changes()?;
        let id = document.id.then(name_of(&actor, changes.iter().map(Change::hash)));
        let changes = changes.iter().map(|change| change.raw_bytes().into()).collect();
        Some(Self { id, actor, changes, origins: writing.origins })
    }

    fn fold_note(document: &Document, engine: &Engine, title: &str, writing: &mut Writing) {
        if !title.is_empty() {
            let id = look::title(&engine.doc);
            let origin = Origin { fact: id.and_then(|id| document.fact_of(&id)), op: None };
            let put = OpType::Put(ScalarValue::Str(title.into()));
            writing.push(ObjectId::Root, Key::Map(TITLE.into()), put, false, origin);
        }
        let characters = elements_of(&engine.doc);
        if characters.is_empty() {
            return;
        }
        let make = OpType::Make(ObjType::Text);
        let text = ObjectId::Id(writing.push(ObjectId::Root, Key::Map(TEXT.into()), make, false, Origin::default()));
        let mut after = ElementId::Head;
        for (_, id, character) in characters {
            let fact = document.fact_of(&id);
            let put = OpType::Put(ScalarValue::Str(character.into()));
            let origin = Origin { fact, op: op_id(&id) };
            after = ElementId::Id(writing.push(text.clone(), Key::Seq(after), put, true, origin));
        }
    }

    /// The facts that had said what it says.
    pub fn facts(&self) -> impl Iterator<Item = &Arc<Fact>> {
        self.origins.iter().filter_map(|origin| origin.fact.as_ref())
    }

    fn origin(&self, counter: u64) -> Option<&Origin> {
        self.origins.get(usize::try_from(counter.checked_sub(1)?).ok()?)
    }

    /// The fact that had said what an operation of it says.
    pub fn fact_of(&self, counter: u64) -> Option<&Arc<Fact>> {
        self.origin(counter)?.fact.as_ref()
    }

    /// Where the characters of the epoch before went.
    pub fn moved(&self) -> impl Iterator<Item = (OpId, OpId)> {
        let old = self.origins.iter().zip(1..).filter_map(|(origin, counter)| Some((origin.op.clone()?, counter)));
        old.map(|(old, counter)| (old, OpId(counter, self.actor.clone())))
    }
}

impl Document {
    /// An epoch at its beginning; none when it cannot begin so.
    pub fn begin(key: DocKey, genesis: Arc<Genesis>) -> Option<Self> {
        let mut document = Self::new(key, genesis.id);
        let mut batch = Vec::with_capacity(genesis.changes.len());
        for bytes in &genesis.changes {
            let change = screen(&genesis.actor, bytes).ok()?;
            document.fence.accept(&change, Source::Genesis(bytes.clone())).ok()?;
            batch.push(change);
        }
        document.engine = Engine::of(&batch)?;
        document.genesis = Some(genesis);
        Some(document)
    }

    /// How many changes it holds beside its beginning.
    pub fn written(&self) -> u64 {
        (self.fence.accepted().len() - self.begun()) as u64
    }

    /// What its beginning takes up.
    fn room_begun(&self) -> Room {
        let last = self.genesis.iter().flat_map(|genesis| self.fence.of_actor(&genesis.actor).last());
        let past = last.copied().next().and_then(|last| self.fence.past(&[last]));
        past.map_or_else(Room::default, |past| self.fence.room(&past))
    }

    fn begun(&self) -> usize {
        self.genesis.as_ref().map_or(0, |genesis| genesis.changes.len())
    }

    /// How many changes the epoch takes along if it ends at these heads; none when it may not: they are not all held, some lie
    /// behind others or leave out what the epoch began from, or it is not nearly full there. `changes` is how many it takes.
    pub fn may_end(&self, heads: &[ChangeHash], changes: u64) -> Option<u64> {
        let past = self.fence.past(heads)?;
        let (room, begun) = (self.fence.room(&past), self.room_begun());
        let written = room.changes.saturating_sub(begun.changes);
        // Nearly full, and not by what it began from alone: epochs must not turn for ever.
        let nearly = |used: u64, begun: u64, max: u64| {
            let added = used.saturating_sub(begun);
            used >= max / 5 * 4 && (written >= limits::EPOCH_CHANGES_MIN || added >= max / 10)
        };
        let full = nearly(room.bytes, begun.bytes, limits::DOC_BYTES_MAX)
            || nearly(room.ops, begun.ops, limits::DOC_OPS_MAX)
            || nearly(room.writers as u64, begun.writers as u64, limits::DOC_ACTORS_MAX as u64);
        if written < changes && !full {
            return None;
        }
        let own = self.genesis.iter().flat_map(|genesis| self.fence.of_actor(&genesis.actor).last());
        let whole = own.into_iter().all(|last| self.fence.is_in(&past, last));
        let behind = |head: &ChangeHash| {
            let past = self.fence.past(std::slice::from_ref(head));
            past.is_some_and(|past| heads.iter().any(|other| other != head && self.fence.is_in(&past, other)))
        };
        (whole && !heads.iter().any(behind)).then_some(written)
    }

    /// What it folds to at these heads, once it was folded: [`Document::want_fold`].
    pub fn folded(&self, heads: &[ChangeHash]) -> Option<&Option<Arc<Genesis>>> {
        self.folds.get(heads)
    }

    /// Has it folded in the next steps.
    pub fn want_fold(&mut self, heads: &[ChangeHash]) {
        if !self.folds.contains_key(heads) {
            self.to_fold.insert(heads.to_vec());
        }
    }

    /// Heads at which it was folded and may end.
    pub fn folded_heads(&self, changes: u64) -> Option<&Vec<ChangeHash>> {
        let mut sound = self.folds.iter().filter(|(_, genesis)| genesis.is_some()).map(|(heads, _)| heads);
        sound.find(|heads| self.may_end(heads, changes).is_some())
    }

    /// What an epoch began from, if it follows on this one and that was folded here.
    pub fn folded_to(&self, id: &EpochId) -> Option<Arc<Genesis>> {
        self.folds.values().flatten().find(|genesis| genesis.id == *id).cloned()
    }

    /// Folds once; false when there is nothing to fold.
    pub(super) fn fold(&mut self) -> bool {
        let Some(heads) = self.to_fold.pop_first() else { return false };
        let (genesis, begun) = Genesis::fold(self, &heads).unzip();
        if let Some(begun) = begun {
            self.begun.insert(begun.id, Box::new(begun));
            while self.begun.len() > BEGUN_MAX {
                self.begun.pop_first();
            }
        }
        self.folds.insert(heads, genesis);
        true
    }

    /// An epoch that follows on this one, at its beginning: ready from the fold, or made anew.
    pub fn take_begun(&mut self, genesis: Arc<Genesis>) -> Option<Box<Self>> {
        let ready = self.begun.remove(&genesis.id);
        ready.or_else(|| Self::begin(self.key.clone(), genesis).map(Box::new))
    }

    /// Whether it is not known who said what in what it began from.
    pub fn lacks_origins(&self) -> bool {
        self.genesis.as_ref().is_some_and(|genesis| genesis.origins.is_empty() && !genesis.changes.is_empty())
    }

    /// Notes how it ended.
    pub fn ends_so(&mut self, found: Option<&Found>) {
        if self.end.as_ref().map(|end| &end.heads) != found.map(|found| &found.heads) {
            let end = |found: &Found| Some(End { heads: found.heads.clone(), past: self.fence.past(&found.heads)? });
            self.end = found.and_then(end);
        }
    }

    /// Whether a change that it holds was left outside when the epoch ended.
    pub fn is_outside(&self, hash: &ChangeHash) -> bool {
        self.end.as_ref().is_some_and(|end| !self.fence.is_in(&end.past, hash))
    }

    /// How many changes it holds that were left outside.
    pub fn outside(&self) -> u64 {
        let inside = |end: &End| self.fence.room(&end.past).changes.saturating_sub(self.begun() as u64);
        self.end.as_ref().map_or(0, |end| self.written().saturating_sub(inside(end)))
    }

    /// The genesis operation behind an id, by its counter.
    pub fn begun_at(&self, id: &ObjId) -> Option<(u64, &Genesis)> {
        let ObjId::Id(counter, actor, _) = id else { return None };
        self.genesis.as_deref().filter(|genesis| genesis.actor == *actor).map(|genesis| (*counter, genesis))
    }
}

/// Where the characters of earlier epochs are in later ones.
#[derive(Debug, Default)]
pub(super) struct Moved {
    forth: BTreeMap<OpId, OpId>,
    back: BTreeMap<OpId, OpId>,
}

impl Moved {
    /// Of an epoch that leads to the one in use.
    pub fn add(&mut self, genesis: &Genesis) {
        self.forth.extend(genesis.moved());
    }

    /// Of an epoch that leads elsewhere.
    pub fn add_back(&mut self, genesis: &Genesis) {
        self.back.extend(genesis.moved().map(|(old, new)| (new, old)));
    }

    /// The latest place of a character: from where the ways part, on the one that leads to the epoch in use.
    pub fn to(&self, mut element: OpId) -> OpId {
        while let Some(before) = self.back.get(&element) {
            element = before.clone();
        }
        while let Some(next) = self.forth.get(&element) {
            element = next.clone();
        }
        element
    }
}
