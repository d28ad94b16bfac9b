//! What a change may do to a document of each kind.
//!
//! Tables: make a row's map below the root, put and delete plain values in it. Notes: put a title, make one text, insert
//! and delete single characters. Every name an operation uses (object, element, replaced value) must lie in the causal
//! past of its change, so no node's order of arrival can change the verdict.

use std::collections::BTreeMap;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, ObjType, ScalarValue};
use cauldron_identity::scope::is_name;

use super::Unfit;
use super::name::Kind;
use super::prescan::KEY_LEN_MAX;

/// Text in one field, bytes: a line for people.
pub(super) const TEXT_LEN_MAX: usize = 4096;
/// The title of notes, bytes.
const TITLE_LEN_MAX: usize = 256;
/// Where the title of notes stands.
pub(super) const TITLE: &str = "title";
/// Where the text of notes stands.
pub(super) const TEXT: &str = "text";

/// An operation's id, its actor by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpRef {
    pub counter: u64,
    pub actor: u16,
}

/// Where in an object a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Under a key of a map.
    Key(Box<str>),
    /// A character of a text, by the operation that inserted it.
    Element(OpRef),
}

/// What an operation made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Row,
    Text,
    Value,
    Nothing,
}

/// An operation of an accepted change.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The map or text it stands in; none for the root.
    pub object: Option<OpRef>,
    pub slot: Slot,
    pub made: Made,
    /// Position of its change among its actor's.
    pub seq: u32,
}

/// The change that is checked.
pub(super) struct Mine {
    pub actor: u16,
    pub seq: u32,
    pub start_op: u64,
}

/// What the operations of one change are checked against.
struct Check<'c> {
    kind: Kind,
    known: &'c BTreeMap<OpRef, Known>,
    index: &'c BTreeMap<ActorId, u16>,
    seen: &'c dyn Fn(u16) -> u32,
    added: BTreeMap<OpRef, Known>,
}

/// Checks the operations of one change and gives what they add. `seen` says up to which of an actor's changes the causal
/// past reaches.
pub(super) fn check(
    kind: Kind,
    ops: &[Op],
    mine: &Mine,
    known: &BTreeMap<OpRef, Known>,
    index: &BTreeMap<ActorId, u16>,
    seen: &dyn Fn(u16) -> u32,
) -> Result<BTreeMap<OpRef, Known>, Unfit> {
    let mut check = Check { kind, known, index, seen, added: BTreeMap::new() };
    for (op, counter) in ops.iter().zip(mine.start_op..) {
        let id = OpRef { counter, actor: mine.actor };
        let added = check.one(op, id, mine.seq)?;
        check.added.insert(id, added);
    }
    Ok(check.added)
}

impl Check<'_> {
    /// An operation of the past.
    fn past(&self, id: &OpId) -> Result<(OpRef, &Known), Unfit> {
        let actor = *self.index.get(&id.1).ok_or(Unfit::BeyondPast)?;
        let id = OpRef { counter: id.0, actor };
        let known = self.known.get(&id).filter(|k| k.seq <= (self.seen)(actor));
        Ok((id, known.ok_or(Unfit::BeyondPast)?))
    }

    /// An operation of the past, or an earlier one of this change.
    fn named(&self, id: &OpId) -> Result<(OpRef, &Known), Unfit> {
        let own = self.index.get(&id.1).map(|actor| OpRef { counter: id.0, actor: *actor });
        match own.and_then(|own| self.added.get(&own).map(|known| (own, known))) {
            Some(own) => Ok(own),
            None => self.past(id),
        }
    }

    fn one(&self, op: &Op, id: OpRef, seq: u32) -> Result<Known, Unfit> {
        let object = match &op.obj {
            ObjectId::Root => None,
            ObjectId::Id(id) => Some(self.named(id)?),
        };
        let inside = object.map(|(_, known)| known.made);
        let object = object.map(|(id, _)| id);
        let (slot, made) = match (&op.key, inside) {
            (Key::Map(key), None | Some(Made::Row)) => {
                (Slot::Key(key.as_str().into()), self.in_map(op, key, inside.is_none())?)
            }
            (Key::Seq(element), Some(Made::Text)) => self.in_text(op, element, object, id)?,
            _ => return Err(Unfit::Profile),
        };
        let mut last: Option<&OpId> = None;
        for pred in op.pred.iter() {
            // An inserted character is replaced by nothing but its deletion, so it may be of this very change.
            let (_, replaced) = if inside == Some(Made::Text) { self.named(pred)? } else { self.past(pred)? };
            let gone = replaced.made == Made::Nothing;
            if last == Some(pred) || gone || replaced.object != object || replaced.slot != slot {
                return Err(Unfit::Profile);
            }
            last = Some(pred);
        }
        Ok(Known { object, slot, made, seq })
    }

    /// An operation on a key of the root or of a row.
    fn in_map(&self, op: &Op, key: &str, root: bool) -> Result<Made, Unfit> {
        if op.insert || key.is_empty() || key.len() as u64 > KEY_LEN_MAX {
            return Err(Unfit::Profile);
        }
        match (&op.action, self.kind.is_table(), root) {
            (OpType::Make(ObjType::Map), true, true) if is_name(key) => Ok(Made::Row),
            (OpType::Put(value), true, false) if plain(value) && fits(self.kind, key, value) => Ok(Made::Value),
            (OpType::Delete, true, _) if !op.pred.is_empty() => Ok(Made::Nothing),
            (OpType::Make(ObjType::Text), false, true) if key == TEXT => Ok(Made::Text),
            (OpType::Put(ScalarValue::Str(text)), false, true) if key == TITLE && text.len() <= TITLE_LEN_MAX => {
                Ok(Made::Value)
            }
            _ => Err(Unfit::Profile),
        }
    }

    /// An operation on a character: inserting one behind another, or deleting one.
    fn in_text(&self, op: &Op, element: &ElementId, object: Option<OpRef>, id: OpRef) -> Result<(Slot, Made), Unfit> {
        let at = match element {
            ElementId::Head => None,
            ElementId::Id(element) => {
                let (element, known) = self.named(element)?;
                // What a deletion or another text left is no character of this one.
                if known.object != object || known.made != Made::Value {
                    return Err(Unfit::Profile);
                }
                Some(element)
            }
        };
        match (&op.action, op.insert, at) {
            (OpType::Put(ScalarValue::Str(text)), true, _) if op.pred.is_empty() && is_character(text) => {
                Ok((Slot::Element(id), Made::Value))
            }
            (OpType::Delete, false, Some(element)) if !op.pred.is_empty() => {
                Ok((Slot::Element(element), Made::Nothing))
            }
            _ => Err(Unfit::Profile),
        }
    }
}

fn plain(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Str(text) => text.len() <= TEXT_LEN_MAX,
        ScalarValue::Int(_) | ScalarValue::Timestamp(_) | ScalarValue::Boolean(_) => true,
        _ => false,
    }
}

/// Whether a table of this kind has such a field.
fn fits(kind: Kind, key: &str, value: &ScalarValue) -> bool {
    match kind {
        // `<node>.<measure>`: how much, never what.
        Kind::Board => {
            let named = key.split_once('.').is_some_and(|(node, measure)| is_name(node) && is_name(measure));
            named && !matches!(value, ScalarValue::Str(text) if text.len() > 256)
        }
        Kind::Catalogue => match (key, value) {
            ("digest", ScalarValue::Str(text)) => {
                text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            }
            ("version" | "module" | "publisher" | "summary", ScalarValue::Str(_)) => true,
            ("digest" | "version" | "module" | "publisher" | "summary", _) => false,
            ("withdrawn", ScalarValue::Boolean(_)) => true,
            ("withdrawn", _) => false,
            _ => is_name(key),
        },
        Kind::Config => key.split('.').all(is_name),
        Kind::Notes => false,
    }
}

/// One Unicode scalar value that may stand in a text: no control character but line feed and tab.
pub(super) fn is_character(text: &str) -> bool {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => !c.is_control() || c == '\n' || c == '\t',
        _ => false,
    }
}
