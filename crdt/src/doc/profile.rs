//! What a change may do to the board: make a site's map below the root, put and delete plain values in it.
//!
//! Every name an operation uses (object, replaced value) must lie in the causal past of its change. So the verdict is a
//! function of the change and its past alone, and no node's order of arrival can change it.

use std::collections::BTreeMap;

use automerge::legacy::{Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, ObjType, ScalarValue};
use cauldron_identity::scope::is_name;

use super::Unfit;
use super::prescan::KEY_LEN_MAX;

/// Text in one field, bytes: a line for people.
pub(super) const TEXT_LEN_MAX: usize = 4096;

/// Where a value stands: below the root, or below the map that an operation made; and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    object: Option<(u64, ActorId)>,
    key: String,
}

/// An operation of an accepted change.
#[derive(Debug, Clone)]
pub(super) struct Known {
    place: Place,
    makes_map: bool,
    /// Position of its change in its author's history.
    pub seq: u64,
}

/// All operations of accepted changes.
pub(super) type Ops = BTreeMap<(ActorId, u64), Known>;

/// Checks the operations of one change and gives what they add to [`Ops`]. `seen` says up to which of an actor's
/// changes the causal past reaches.
pub(super) fn check(
    ops: &[Op],
    actor: &ActorId,
    seq: u64,
    start_op: u64,
    known: &Ops,
    seen: &dyn Fn(&ActorId) -> u64,
) -> Result<Ops, Unfit> {
    let mut added = Ops::new();
    for (op, counter) in ops.iter().zip(start_op..) {
        let past = |id: &OpId| {
            let known = known.get(&(id.1.clone(), id.0)).filter(|k| k.seq <= seen(&id.1));
            known.ok_or(Unfit::BeyondPast)
        };
        let object = match &op.obj {
            ObjectId::Root => None,
            ObjectId::Id(id) => {
                let own = added.get(&(id.1.clone(), id.0));
                let maker = own.map_or_else(|| past(id), Ok)?;
                if !maker.makes_map {
                    return Err(Unfit::Profile);
                }
                Some((id.0, id.1.clone()))
            }
        };
        let Key::Map(key) = &op.key else { return Err(Unfit::Profile) };
        let place = Place { object, key: key.to_string() };
        let makes_map = allowed(op, &place)?;
        let mut last: Option<&OpId> = None;
        for pred in op.pred.iter() {
            if last == Some(pred) || past(pred)?.place != place {
                return Err(Unfit::Profile);
            }
            last = Some(pred);
        }
        added.insert((actor.clone(), counter), Known { place, makes_map, seq });
    }
    Ok(added)
}

/// Whether the operation is one of the profile's; true when it makes a map.
fn allowed(op: &Op, place: &Place) -> Result<bool, Unfit> {
    if op.insert || place.key.is_empty() || place.key.len() as u64 > KEY_LEN_MAX {
        return Err(Unfit::Profile);
    }
    match (&op.action, &place.object) {
        (OpType::Make(ObjType::Map), None) if is_name(&place.key) => Ok(true),
        (OpType::Delete, _) if !op.pred.is_empty() => Ok(false),
        (OpType::Put(value), Some(_)) => match value {
            ScalarValue::Str(text) if text.len() <= TEXT_LEN_MAX => Ok(false),
            ScalarValue::Int(_) | ScalarValue::Timestamp(_) | ScalarValue::Boolean(_) => Ok(false),
            _ => Err(Unfit::Profile),
        },
        _ => Err(Unfit::Profile),
    }
}
