//! The board: one Automerge document, root → site → fields, whose changes are the bodies of `doc.change` facts.
//!
//! Automerge 0.12 is not safe against hostile changes: of 300,000 mutated ones 13 % panicked and 4 % left a document
//! that could not be loaded again. So nothing reaches it that has not passed the [`Board`]'s fence: bytes are scanned,
//! the structure and all that an operation names are checked against the change's causal past, it is applied under
//! `catch_unwind`, and read back. What still fails is taken out by building the document anew from the raw changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, Change, ChangeHash, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::domain_hash;
use cauldron_identity::{AuthorId, Digest};
use minicbor::{Decode, Encode};

mod prescan;
mod profile;
#[cfg(test)]
mod tests;
mod verdict;

pub use verdict::{Applied, Unfit};

use crate::limits;

/// The kind of the facts that carry changes.
pub const KIND: &str = "doc.change";
/// Changes of one author that may be refused before all further ones are.
const REFUSED_MAX: usize = 1024;

/// The body of a [`KIND`] fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DocChange {
    /// Which document.
    #[n(0)]
    pub doc: String,
    /// Which epoch of it.
    #[n(1)]
    pub epoch: u32,
    /// One plain Automerge change chunk.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub change: Vec<u8>,
}

/// A value on the board.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// A line of text, at most 4 KiB.
    Text(String),
    /// A number.
    Int(i64),
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    /// Yes or no.
    Flag(bool),
}

/// The board as people see it: site → field → value.
pub type View = BTreeMap<String, BTreeMap<String, Field>>;

/// What an accepted change adds to the history behind it.
#[derive(Debug, Clone)]
struct Past {
    max_op: u64,
    /// Per actor, how many of its changes lie in the past, this one included.
    clock: BTreeMap<ActorId, u64>,
}

#[derive(Debug, Default)]
struct Author {
    last: Option<ChangeHash>,
    /// Per change: bytes and operations of this author up to and including it.
    sums: Vec<(u64, u64)>,
    /// In the order of the author's chain: the first one blocks the rest, so that the verdict on each is the same
    /// everywhere.
    waiting: VecDeque<Change>,
    waiting_bytes: usize,
    refused: usize,
}

/// The replicated board of one mesh.
///
/// Feed it every `doc.change` fact once, each author's facts in the order of their chain (the log's order), authors in
/// any order: the same set gives the same view.
#[derive(Debug)]
pub struct Board {
    name: String,
    epoch: u32,
    me: Option<ActorId>,
    doc: Automerge,
    /// The raw changes on the board, in an order in which they apply: the truth that `doc` can be rebuilt from.
    raw: Vec<Change>,
    past: BTreeMap<ChangeHash, Past>,
    authors: BTreeMap<ActorId, Author>,
    ops: profile::Ops,
    refused: BTreeMap<ChangeHash, Unfit>,
}

/// Nobody can write as somebody else's actor: the id is derived, not chosen.
#[must_use]
pub fn actor_of(doc: &str, epoch: u32, author: &AuthorId, incarnation: u32) -> ActorId {
    let mut input = Vec::new();
    input.extend_from_slice(&epoch.to_be_bytes());
    input.extend_from_slice(author.as_bytes());
    input.extend_from_slice(&incarnation.to_be_bytes());
    input.extend_from_slice(doc.as_bytes());
    ActorId::from(&domain_hash("cauldron/doc-actor/v0", &input)[..prescan::ACTOR_LEN])
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(name: &str, epoch: u32) -> Self {
        Self {
            name: name.to_owned(),
            epoch,
            me: None,
            doc: Automerge::new(),
            raw: Vec::new(),
            past: BTreeMap::new(),
            authors: BTreeMap::new(),
            ops: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Names this node's own author, in whose name [`Board::set`] writes.
    pub fn set_author(&mut self, author: &AuthorId, incarnation: u32) {
        self.me = Some(actor_of(&self.name, self.epoch, author, incarnation));
    }

    /// Takes the body of a `doc.change` fact by `author`.
    pub fn apply(&mut self, author: &AuthorId, incarnation: u32, body: &[u8]) -> Applied {
        let Ok(body) = from_cbor::<DocChange>(body) else { return Applied::Refused(Unfit::Malformed) };
        if body.doc != self.name || body.epoch != self.epoch {
            return Applied::Other;
        }
        let actor = actor_of(&self.name, self.epoch, author, incarnation);
        match self.enqueue(&actor, &body.change) {
            Ok(hash) => {
                self.drain();
                self.verdict(&hash)
            }
            Err(applied) => applied,
        }
    }

    /// Writes fields of a site, as this node. Gives the body of the `doc.change` fact to append, or none when the board
    /// says all of it already. The change is on this board at once, so the fact must be appended.
    ///
    /// # Errors
    /// [`Unfit`]: names or texts outside the bounds, a full epoch, or no author.
    pub fn set(&mut self, site: &str, fields: &BTreeMap<String, Field>) -> Result<Option<Vec<u8>>, Unfit> {
        let actor = self.me.clone().ok_or(Unfit::NotWritable)?;
        if self.authors.get(&actor).is_some_and(|a| !a.waiting.is_empty()) {
            return Err(Unfit::NotWritable);
        }
        let view = self.view();
        let changed: BTreeMap<_, _> =
            fields.iter().filter(|(key, field)| view.get(site).and_then(|s| s.get(*key)) != Some(field)).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        let made = catch_unwind(AssertUnwindSafe(|| write(&self.doc, &actor, site, &changed)));
        let change = made.ok().flatten().ok_or(Unfit::Poison)?;
        let body = DocChange { doc: self.name.clone(), epoch: self.epoch, change: change.raw_bytes().to_vec() };
        // Our own changes pass the same fence: what it refuses is never signed.
        let change = screen(&actor, &body.change)?;
        self.accept(&change)?;
        Ok(Some(to_cbor(&body)))
    }

    /// The board as people see it. Two nodes of a site may have made its map at the same time: then the fields of both
    /// are shown, those of the later map first.
    #[must_use]
    pub fn view(&self) -> View {
        // The fence keeps the document sound; if Automerge panics all the same, an empty board is better than no node.
        catch_unwind(AssertUnwindSafe(|| read(&self.doc))).unwrap_or_default()
    }

    /// One hash for the set of changes on the board.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let all: Vec<u8> = self.past.keys().flat_map(|hash| hash.0).collect();
        Digest::of("cauldron/board/v0", &all)
    }

    /// Number of changes on the board.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether the board has no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Number of changes that wait for others.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.authors.values().map(|author| author.waiting.len()).sum()
    }

    /// Changes that were refused by their place in history after they could be read, by hash, with the reason.
    pub fn quarantine(&self) -> impl Iterator<Item = ([u8; 32], Unfit)> {
        self.refused.iter().map(|(hash, why)| (hash.0, *why))
    }

    fn verdict(&self, hash: &ChangeHash) -> Applied {
        match self.refused.get(hash) {
            Some(why) => Applied::Refused(*why),
            None if self.past.contains_key(hash) => Applied::Yes,
            None => Applied::Waiting,
        }
    }

    fn enqueue(&mut self, actor: &ActorId, bytes: &[u8]) -> Result<ChangeHash, Applied> {
        let author = self.authors.entry(actor.clone()).or_default();
        if author.refused >= REFUSED_MAX {
            return Err(Applied::Refused(Unfit::Banned));
        }
        let change = screen(actor, bytes).map_err(Applied::Refused)?;
        let hash = change.hash();
        if let Some(why) = self.refused.get(&hash) {
            return Err(Applied::Refused(*why));
        }
        if self.past.contains_key(&hash) || author.waiting.iter().any(|waiting| waiting.hash() == hash) {
            return Err(Applied::Duplicate);
        }
        let full = author.waiting.len() >= limits::WAITING_MAX
            || author.waiting_bytes + bytes.len() > limits::WAITING_BYTES_MAX;
        if full {
            return Err(Applied::Refused(Unfit::WaitingFull));
        }
        author.waiting_bytes += bytes.len();
        author.waiting.push_back(change);
        Ok(hash)
    }

    /// Decides every change that can be decided, until none can.
    fn drain(&mut self) {
        while let Some(actor) = self.decidable() {
            let Some(author) = self.authors.get_mut(&actor) else { return };
            let Some(change) = author.waiting.pop_front() else { return };
            author.waiting_bytes -= change.raw_bytes().len();
            // What is not remembered holds up those who follow it, but costs no memory.
            if author.refused >= REFUSED_MAX {
                continue;
            }
            if let Err(why) = self.accept(&change) {
                self.refused.insert(change.hash(), why);
                self.authors.entry(actor).or_default().refused += 1;
            }
        }
    }

    /// An author whose next change has all its causes decided.
    fn decidable(&self) -> Option<ActorId> {
        let decided = |hash: &ChangeHash| self.past.contains_key(hash) || self.refused.contains_key(hash);
        let next = self.authors.iter().find(|(_, a)| a.waiting.front().is_some_and(|c| c.deps().iter().all(decided)));
        next.map(|(actor, _)| actor.clone())
    }

    /// Checks a change whose causes are all decided, and applies it.
    fn accept(&mut self, change: &Change) -> Result<(), Unfit> {
        let past = self.past_of(change)?;
        let ops = catch_unwind(AssertUnwindSafe(|| change.decode().operations)).map_err(|_| Unfit::Malformed)?;
        let seen = |actor: &ActorId| past.clock.get(actor).copied().unwrap_or(0);
        let added = profile::check(&ops, change.actor_id(), change.seq(), change.start_op().get(), &self.ops, &seen)?;
        self.engine(change)?;
        self.raw.push(change.clone());
        self.past.insert(change.hash(), past);
        self.ops.extend(added);
        let author = self.authors.entry(change.actor_id().clone()).or_default();
        let (bytes, ops) = author.sums.last().copied().unwrap_or((0, 0));
        author.sums.push((bytes + change.raw_bytes().len() as u64, ops + change.len() as u64));
        author.last = Some(change.hash());
        Ok(())
    }

    /// Checks the change's place in history and joins the pasts of its causes.
    fn past_of(&self, change: &Change) -> Result<Past, Unfit> {
        let actor = change.actor_id();
        let author = self.authors.get(actor);
        let (count, last) = author.map_or((0, None), |a| (a.sums.len() as u64, a.last));
        if change.deps().iter().any(|dep| self.refused.contains_key(dep)) {
            return Err(Unfit::RefusedDep);
        }
        // Honest writers always name their own last change, even when another follows it.
        if change.seq() != count + 1 || last.is_some_and(|last| !change.deps().contains(&last)) {
            return Err(Unfit::Seq);
        }
        let mut past = Past { max_op: 0, clock: BTreeMap::new() };
        for dep in change.deps() {
            let dep = self.past.get(dep).ok_or(Unfit::Seq)?;
            past.max_op = past.max_op.max(dep.max_op);
            for (actor, seq) in &dep.clock {
                let known = past.clock.entry(actor.clone()).or_insert(0);
                *known = (*known).max(*seq);
            }
        }
        // Also keeps the counters below Automerge's 32 bits.
        if change.start_op().get() != past.max_op + 1 {
            return Err(Unfit::StartOp);
        }
        self.check_room(change, &past)?;
        past.max_op = past.max_op.saturating_add(change.len() as u64);
        past.clock.insert(actor.clone(), change.seq());
        Ok(past)
    }

    /// Bounds the history behind a change. Only the past counts, so every node draws the line at the same change.
    fn check_room(&self, change: &Change, past: &Past) -> Result<(), Unfit> {
        let (mut changes, mut bytes, mut ops) = (1, change.raw_bytes().len() as u64, change.len() as u64);
        for (actor, seq) in &past.clock {
            changes += seq;
            let index = usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX);
            let sums = self.authors.get(actor).and_then(|a| a.sums.get(index));
            let (b, o) = sums.copied().unwrap_or((0, 0));
            bytes += b;
            ops += o;
        }
        let full = changes > limits::DOC_CHANGES_MAX
            || bytes > limits::DOC_BYTES_MAX
            || ops > limits::DOC_OPS_MAX
            || past.clock.len() >= limits::DOC_ACTORS_MAX && !past.clock.contains_key(change.actor_id());
        if full { Err(Unfit::Full) } else { Ok(()) }
    }

    /// Gives the change to Automerge and reads it back.
    fn engine(&mut self, change: &Change) -> Result<(), Unfit> {
        let doc = &mut self.doc;
        let sound = catch_unwind(AssertUnwindSafe(|| {
            let applied = doc.apply_changes([change.clone()]).is_ok();
            applied && doc.get_change_by_hash(&change.hash()).is_some_and(|back| back.raw_bytes() == change.raw_bytes())
        }));
        if matches!(sound, Ok(true)) {
            return Ok(());
        }
        // Applying is not atomic when it fails: only the raw changes are to be trusted now.
        let raw = &self.raw;
        let rebuilt = catch_unwind(AssertUnwindSafe(|| {
            let mut doc = Automerge::new();
            doc.apply_changes(raw.iter().cloned()).is_ok().then_some(doc)
        }));
        self.doc = rebuilt.ok().flatten().unwrap_or_default();
        Err(Unfit::Poison)
    }
}

/// Checks all of a change that can be checked without the document.
fn screen(actor: &ActorId, bytes: &[u8]) -> Result<Change, Unfit> {
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

/// Makes a change that puts `fields`, on a copy of the document.
fn write(doc: &Automerge, actor: &ActorId, site: &str, fields: &BTreeMap<&String, &Field>) -> Option<Change> {
    let mut copy = doc.clone().with_actor(actor.clone());
    let mut transaction = copy.transaction();
    let map = match transaction.get(ROOT, site).ok()? {
        Some((Value::Object(ObjType::Map), map)) => map,
        _ => transaction.put_object(ROOT, site, ObjType::Map).ok()?,
    };
    for (key, field) in fields {
        transaction.put(&map, key.as_str(), field.scalar()).ok()?;
    }
    transaction.commit_with(CommitOptions::default().with_time(0)).0?;
    copy.get_last_local_change()
}

fn read(doc: &Automerge) -> View {
    let mut view = View::new();
    for site in doc.keys(ROOT) {
        let fields = view.entry(site.clone()).or_default();
        // In ascending order of their ids: the last one is what a plain reader would see.
        for (value, map) in doc.get_all(ROOT, site.as_str()).unwrap_or_default() {
            if matches!(value, Value::Object(ObjType::Map)) {
                fields.extend(read_fields(doc, &map));
            }
        }
    }
    view
}

fn read_fields(doc: &Automerge, map: &ObjId) -> BTreeMap<String, Field> {
    let field = |key: String| match doc.get(map, key.as_str()) {
        Ok(Some((Value::Scalar(scalar), _))) => Field::of(&scalar).map(|field| (key, field)),
        _ => None,
    };
    doc.keys(map).filter_map(field).collect()
}

impl Field {
    fn scalar(&self) -> ScalarValue {
        match self {
            Self::Text(text) => ScalarValue::Str(text.as_str().into()),
            Self::Int(number) => ScalarValue::Int(*number),
            Self::Timestamp(ms) => ScalarValue::Timestamp(*ms),
            Self::Flag(flag) => ScalarValue::Boolean(*flag),
        }
    }

    fn of(scalar: &ScalarValue) -> Option<Self> {
        match scalar {
            ScalarValue::Str(text) => Some(Self::Text(text.to_string())),
            ScalarValue::Int(number) => Some(Self::Int(*number)),
            ScalarValue::Timestamp(ms) => Some(Self::Timestamp(*ms)),
            ScalarValue::Boolean(flag) => Some(Self::Flag(*flag)),
            _ => None,
        }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
