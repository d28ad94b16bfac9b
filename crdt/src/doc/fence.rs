//! What decides about a change before Automerge sees it: structure, causal past, profile, room.
//!
//! The verdict on a change is a function of the change and its past alone, so every node comes to the same one in
//! whatever order changes arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{ActorId, Change, ChangeHash};
use cauldron_identity::Fact;

use super::name::Kind;
use super::profile::{self, Known, OpRef};
use super::{Unfit, limits, prescan};

/// What a change that the document holds came in.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A fact; its body holds the change's bytes.
    Fact(Arc<Fact>),
    /// A base: these are the change's bytes, its fact is not here yet.
    Base(Arc<[u8]>),
    /// The beginning of an epoch: these are the change's bytes, and no fact carries them.
    Genesis(Arc<[u8]>),
}

/// A change that the document holds.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub hash: ChangeHash,
    pub max_op: u64,
    /// Its actor's index.
    actor: u16,
    /// By actor's index, how many of its changes lie in the past, this one included.
    clock: Box<[u32]>,
    pub source: Source,
}

impl Accepted {
    /// The fact it came in, once it is here.
    pub fn fact(&self) -> Option<&Arc<Fact>> {
        match &self.source {
            Source::Fact(fact) => Some(fact),
            Source::Base(_) | Source::Genesis(_) => None,
        }
    }

    /// Whether its fact is still to come.
    fn is_bare(&self) -> bool {
        matches!(self.source, Source::Base(_))
    }

    pub fn change(&self) -> Option<Change> {
        match &self.source {
            Source::Fact(fact) => super::change_in(fact),
            Source::Base(bytes) | Source::Genesis(bytes) => super::change_of(bytes),
        }
    }
}

#[derive(Debug, Default)]
struct Actor {
    hashes: Vec<ChangeHash>,
    /// Per change: bytes and operations of this actor up to and including it.
    sums: Vec<(u64, u64)>,
}

/// The history of one document epoch.
#[derive(Debug)]
pub(super) struct Fence {
    kind: Kind,
    names: Vec<ActorId>,
    index: BTreeMap<ActorId, u16>,
    actors: Vec<Actor>,
    /// In an order in which they apply.
    accepted: Vec<Accepted>,
    places: BTreeMap<ChangeHash, usize>,
    heads: BTreeSet<ChangeHash>,
    /// Changes held whose facts are not here yet.
    bare: usize,
    ops: BTreeMap<OpRef, Known>,
    refused: BTreeMap<ChangeHash, Unfit>,
}

/// A change that passed all checks.
pub(super) struct Checked {
    actor: u16,
    past: Past,
    ops: BTreeMap<OpRef, Known>,
}

/// What lies behind a change or behind some heads.
#[derive(Debug)]
pub(super) struct Past {
    max_op: u64,
    /// By actor's index, how many of its changes.
    clock: Vec<u32>,
}

/// What a past takes up.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Room {
    pub changes: u64,
    pub bytes: u64,
    pub ops: u64,
    pub writers: usize,
}

impl Room {
    /// Whether one more change has its place behind this; `writers` are those other than its own.
    fn takes(&self, bytes: u64, ops: u64) -> bool {
        self.changes < limits::DOC_CHANGES_MAX
            && self.bytes + bytes <= limits::DOC_BYTES_MAX
            && self.ops + ops <= limits::DOC_OPS_MAX
            && self.writers < limits::DOC_ACTORS_MAX
    }
}

impl Past {
    fn join(&mut self, held: &Accepted) {
        self.max_op = self.max_op.max(held.max_op);
        for (known, seq) in self.clock.iter_mut().zip(&held.clock) {
            *known = (*known).max(*seq);
        }
    }
}

impl Fence {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            names: Vec::new(),
            index: BTreeMap::new(),
            actors: Vec::new(),
            accepted: Vec::new(),
            places: BTreeMap::new(),
            heads: BTreeSet::new(),
            bare: 0,
            ops: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The changes held, in an order in which they apply.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    pub fn holds(&self, hash: &ChangeHash) -> bool {
        self.places.contains_key(hash)
    }

    /// The change held under this hash.
    pub fn find(&self, hash: &ChangeHash) -> Option<&Accepted> {
        self.places.get(hash).and_then(|place| self.accepted.get(*place))
    }

    pub fn refused(&self) -> &BTreeMap<ChangeHash, Unfit> {
        &self.refused
    }

    pub fn refuse(&mut self, hash: ChangeHash, why: Unfit) {
        self.refused.insert(hash, why);
    }

    /// The changes that no other follows.
    pub fn heads(&self) -> &BTreeSet<ChangeHash> {
        &self.heads
    }

    /// How many changes are held whose facts are not here yet.
    pub fn bare(&self) -> usize {
        self.bare
    }

    /// Whose facts are missing: the actors of changes that only a base has shown.
    pub fn is_bare(&self, actor: &ActorId) -> bool {
        self.of_actor(actor).iter().filter_map(|hash| self.find(hash)).any(Accepted::is_bare)
    }

    /// Notes the fact of a change; false when the document does not hold the change.
    pub fn adopt(&mut self, hash: &ChangeHash, fact: &Arc<Fact>) -> bool {
        let Some(place) = self.places.get(hash) else { return false };
        if let Some(held) = self.accepted.get_mut(*place).filter(|held| held.is_bare()) {
            held.source = Source::Fact(fact.clone());
            self.bare -= 1;
        }
        true
    }

    /// One more than the highest operation counter so far.
    pub fn next_op(&self) -> u64 {
        1 + self.heads.iter().filter_map(|hash| self.find(hash)).map(|c| c.max_op).max().unwrap_or(0)
    }

    /// The changes of one actor, in order.
    pub fn of_actor(&self, actor: &ActorId) -> &[ChangeHash] {
        let index = self.index.get(actor).copied().map(usize::from);
        index.and_then(|i| self.actors.get(i)).map_or(&[], |a| a.hashes.as_slice())
    }

    /// The actor of an index.
    pub fn name_of(&self, actor: u16) -> Option<&ActorId> {
        self.names.get(usize::from(actor))
    }

    /// The last change of each actor that has any.
    pub fn tips(&self) -> impl Iterator<Item = &ChangeHash> {
        self.actors.iter().filter_map(|actor| actor.hashes.last())
    }

    /// All hashes held, in ascending order.
    pub fn hashes(&self) -> impl Iterator<Item = &ChangeHash> {
        self.places.keys()
    }

    /// An operation held, by its id.
    pub fn op(&self, counter: u64, actor: &ActorId) -> Option<&Known> {
        self.ops.get(&OpRef { counter, actor: *self.index.get(actor)? })
    }

    /// The change that an operation came in.
    pub fn change_of(&self, counter: u64, actor: &ActorId) -> Option<&Accepted> {
        let known = self.op(counter, actor)?;
        let index = usize::try_from(known.seq.checked_sub(1)?).ok()?;
        self.find(self.of_actor(actor).get(index)?)
    }

    /// How many changes of each actor lie behind these heads; none when one of them is not held.
    pub fn past(&self, heads: &[ChangeHash]) -> Option<Past> {
        let mut past = Past { max_op: 0, clock: vec![0; self.names.len()] };
        heads.iter().try_for_each(|head| self.find(head).map(|held| past.join(held)))?;
        Some(past)
    }

    /// Whether a change that is held lies in a past.
    pub fn is_in(&self, past: &Past, hash: &ChangeHash) -> bool {
        self.find(hash).is_some_and(|held| {
            let seq = |clock: &[u32]| clock.get(usize::from(held.actor)).copied().unwrap_or(0);
            seq(&held.clock) <= seq(&past.clock)
        })
    }

    /// Changes, bytes, operations and writers of a past.
    pub fn room(&self, past: &Past) -> Room {
        let mut room = Room::default();
        for (seq, held) in past.clock.iter().zip(&self.actors).filter(|(seq, _)| **seq > 0) {
            let last = usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX);
            let (bytes, ops) = held.sums.get(last).copied().unwrap_or((0, 0));
            room.changes += u64::from(*seq);
            (room.bytes, room.ops, room.writers) = (room.bytes + bytes, room.ops + ops, room.writers + 1);
        }
        room
    }

    /// Whether all causes of a change are decided.
    pub fn decidable(&self, change: &Change) -> bool {
        change.deps().iter().all(|dep| self.places.contains_key(dep) || self.refused.contains_key(dep))
    }

    /// Checks a change whose causes are all decided.
    pub fn check(&mut self, change: &Change) -> Result<Checked, Unfit> {
        let actor = self.index_of(change.actor_id())?;
        let past = self.past_of(change, actor)?;
        let ops = catch_unwind(AssertUnwindSafe(|| change.decode().operations)).map_err(|_| Unfit::Malformed)?;
        let seq = u32::try_from(change.seq()).map_err(|_| Unfit::Full)?;
        let mine = profile::Mine { actor, seq, start_op: change.start_op().get() };
        let seen = |actor: u16| past.clock.get(usize::from(actor)).copied().unwrap_or(0);
        let ops = profile::check(self.kind, &ops, &mine, &self.ops, &self.index, &seen)?;
        Ok(Checked { actor, past, ops })
    }

    /// Checks a change whose causes are all decided, and takes it into the history.
    pub fn accept(&mut self, change: &Change, source: Source) -> Result<(), Unfit> {
        let Checked { actor, past, ops } = self.check(change)?;
        self.ops.extend(ops);
        let hash = change.hash();
        for dep in change.deps() {
            self.heads.remove(dep);
        }
        self.heads.insert(hash);
        self.places.insert(hash, self.accepted.len());
        let held = self.actors.get_mut(usize::from(actor)).ok_or(Unfit::Full)?;
        let (bytes, count) = held.sums.last().copied().unwrap_or((0, 0));
        held.sums.push((bytes + change.raw_bytes().len() as u64, count + change.len() as u64));
        held.hashes.push(hash);
        let (max_op, clock) = (past.max_op, past.clock.into_boxed_slice());
        self.bare += usize::from(matches!(source, Source::Base(_)));
        self.accepted.push(Accepted { hash, max_op, actor, clock, source });
        Ok(())
    }

    /// Takes a change in as if it had passed.
    #[cfg(test)]
    pub fn believe(&mut self, change: &Change, fact: &Arc<Fact>) {
        let actor = self.index_of(change.actor_id()).expect("room");
        let hash = change.hash();
        change.deps().iter().for_each(|dep| {
            self.heads.remove(dep);
        });
        self.heads.insert(hash);
        self.places.insert(hash, self.accepted.len());
        self.actors[usize::from(actor)].hashes.push(hash);
        self.actors[usize::from(actor)].sums.push((0, 0));
        let clock = vec![0; self.names.len()].into_boxed_slice();
        let source = Source::Fact(fact.clone());
        self.accepted.push(Accepted { hash, max_op: change.max_op(), actor, clock, source });
    }

    fn index_of(&mut self, actor: &ActorId) -> Result<u16, Unfit> {
        if let Some(index) = self.index.get(actor) {
            return Ok(*index);
        }
        let index = u16::try_from(self.names.len()).map_err(|_| Unfit::Full)?;
        self.names.push(actor.clone());
        self.index.insert(actor.clone(), index);
        self.actors.push(Actor::default());
        Ok(index)
    }

    /// Checks the change's place in history and joins the pasts of its causes.
    fn past_of(&self, change: &Change, actor: u16) -> Result<Past, Unfit> {
        let own = self.actors.get(usize::from(actor)).map_or(&[][..], |a| a.hashes.as_slice());
        if change.deps().iter().any(|dep| self.refused.contains_key(dep)) {
            return Err(Unfit::RefusedDep);
        }
        // Honest writers always name their own last change, even when another follows it.
        if change.seq() != own.len() as u64 + 1 || own.last().is_some_and(|last| !change.deps().contains(last)) {
            return Err(Unfit::Seq);
        }
        let mut past = self.past(change.deps()).ok_or(Unfit::Seq)?;
        // Also keeps the counters below Automerge's 32 bits.
        if change.start_op().get() != past.max_op + 1 {
            return Err(Unfit::StartOp);
        }
        self.check_room(change, actor, &past)?;
        past.max_op = past.max_op.saturating_add(change.len() as u64);
        if let Some(own) = past.clock.get_mut(usize::from(actor)) {
            *own = u32::try_from(change.seq()).map_err(|_| Unfit::Full)?;
        }
        Ok(past)
    }

    /// Bounds the history behind a change. Only the past counts, so every node draws the line at the same change.
    fn check_room(&self, change: &Change, actor: u16, past: &Past) -> Result<(), Unfit> {
        let room = self.room(past);
        let others = room.writers - usize::from(past.clock.get(usize::from(actor)).is_some_and(|seq| *seq > 0));
        let room = Room { writers: others, ..room };
        if room.takes(change.raw_bytes().len() as u64, change.len() as u64) { Ok(()) } else { Err(Unfit::Full) }
    }

    /// Takes changes out of the history, and all that follow them. Gives those that were in it, with the reason.
    pub fn take_out(&mut self, out: BTreeMap<ChangeHash, Unfit>) -> Vec<(Source, Unfit)> {
        self.refused.extend(out);
        let (mut kept, mut left) = (Vec::with_capacity(self.accepted.len()), Vec::new());
        for change in std::mem::take(&mut self.accepted) {
            let named = self.refused.get(&change.hash).copied();
            let why = named.or_else(|| {
                let deps = change.change().map(|c| c.deps().to_vec()).unwrap_or_default();
                deps.iter().any(|dep| self.refused.contains_key(dep)).then_some(Unfit::RefusedDep)
            });
            match why {
                Some(why) => {
                    self.refused.insert(change.hash, why);
                    left.push((change.source, why));
                }
                None => kept.push(change),
            }
        }
        self.accepted = kept;
        if !left.is_empty() {
            self.reindex();
        }
        left
    }

    /// Puts right what is derived from `accepted`. What is left of an actor is always its first changes: each follows
    /// the one before.
    fn reindex(&mut self) {
        self.places = self.accepted.iter().enumerate().map(|(place, change)| (change.hash, place)).collect();
        let (places, actors) = (&self.places, &mut self.actors);
        for actor in actors.iter_mut() {
            let left = actor.hashes.iter().take_while(|hash| places.contains_key(*hash)).count();
            actor.hashes.truncate(left);
            actor.sums.truncate(left);
        }
        let held = |actor: u16| actors.get(usize::from(actor)).map_or(0, |a| a.hashes.len());
        self.ops.retain(|id, op| op.seq as usize <= held(id.actor));
        self.heads = self.places.keys().copied().collect();
        self.bare = self.accepted.iter().filter(|change| change.is_bare()).count();
        for change in &self.accepted {
            for dep in change.change().map(|c| c.deps().to_vec()).unwrap_or_default() {
                self.heads.remove(&dep);
            }
        }
    }
}

/// Checks all of a change that can be checked without the document.
pub(super) fn screen(actor: &ActorId, bytes: &[u8]) -> Result<Change, Unfit> {
    prescan::prescan(bytes)?;
    let parsed = catch_unwind(AssertUnwindSafe(|| Change::try_from(bytes)));
    let change = parsed.map_err(|_| Unfit::Malformed)?.map_err(|_| Unfit::Malformed)?;
    if bytes.get(4..8) != change.hash().0.get(..4) {
        return Err(Unfit::Checksum);
    }
    if change.actor_id() != actor {
        return Err(Unfit::Actor);
    }
    if change.author().is_some() || change.is_empty() || change.raw_bytes() != bytes {
        return Err(Unfit::Profile);
    }
    let distinct: BTreeSet<_> = change.deps().iter().collect();
    if change.seq() == 0 || distinct.len() != change.deps().len() {
        return Err(Unfit::Seq);
    }
    if change.len() as u64 > limits::CHANGE_OPS_MAX {
        return Err(Unfit::TooManyOps);
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_takes_what_its_bounds_allow_and_nothing_more() {
        let (bytes, ops) = (limits::CHANGE_LEN_MAX as u64, limits::CHANGE_OPS_MAX);
        let nearly = Room {
            changes: limits::DOC_CHANGES_MAX - 1,
            bytes: limits::DOC_BYTES_MAX - bytes,
            ops: limits::DOC_OPS_MAX - ops,
            writers: limits::DOC_ACTORS_MAX - 1,
        };
        assert!(nearly.takes(bytes, ops));
        for full in [
            Room { changes: nearly.changes + 1, ..nearly },
            Room { bytes: nearly.bytes + 1, ..nearly },
            Room { ops: nearly.ops + 1, ..nearly },
            Room { writers: nearly.writers + 1, ..nearly },
        ] {
            assert!(!full.takes(bytes, ops), "{full:?}");
        }
    }
}
