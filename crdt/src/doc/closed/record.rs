//! A closed epoch as it is kept, and how it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use automerge::legacy::OpId;
use automerge::{ActorId, ChangeHash};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{AuthorId, Digest, Fact, Scope};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::super::fence::screen;
use super::super::genesis::{self, Genesis, Origin};
use super::{Closed, Place, Written, place_of};
use crate::doc::document::{Document, Writer};
use crate::doc::epoch::{EpochId, Epochs, Found, Slot};
use crate::doc::{DocKey, Documents};
use crate::limits;
use crate::runs::Runs;

/// Of this layout, and of the rules by which changes are judged: a record of another version is none.
pub const CLOSED_VERSION: u8 = 0;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    v: u8,
    #[n(1)]
    scope: Scope,
    #[n(2)]
    doc: String,
    #[n(3)]
    epoch: u32,
    #[n(4)]
    genesis: Option<Digest>,
    #[n(5)]
    heads: Vec<Digest>,
    /// Changes that its end takes along.
    #[n(6)]
    takes: u64,
    #[n(7)]
    next: Digest,
    /// What the next one began from.
    #[n(8)]
    changes: Vec<ByteVec>,
    /// By operation of these: whose fact said so, by the number of a writer and position; and which operation that was, by
    /// counter and the number of an actor.
    #[n(9)]
    origins: Vec<(At, At)>,
    #[n(10)]
    writers: Vec<(AuthorId, u32)>,
    #[n(11)]
    actors: Vec<ByteVec>,
    #[n(12)]
    chains: Vec<Chain>,
    #[n(13)]
    judged: Vec<Judged>,
    #[n(14)]
    again: Vec<Digest>,
    #[n(15)]
    refused: u64,
    #[n(16)]
    outside: u64,
}

/// A number of a table, and a position or counter; none where there is nothing.
type At = Option<(u32, u64)>;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Chain {
    /// Number of the writer.
    #[n(0)]
    writer: u32,
    #[n(1)]
    fed: Vec<(u64, u64)>,
    #[n(2)]
    counting: u64,
    #[n(3)]
    inside: Vec<(u64, u64)>,
    #[n(4)]
    left: Vec<(u64, u64)>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Judged {
    #[n(0)]
    heads: Vec<Digest>,
    #[n(1)]
    next: Digest,
    /// None where it does not hold.
    #[n(2)]
    takes: Option<u64>,
}

/// What a closed epoch that came back needs of the facts.
#[derive(Debug)]
pub(in crate::doc) struct Lacking {
    id: EpochId,
    origins: Vec<(Option<Place>, Option<OpId>)>,
    edges: BTreeMap<Writer, (Option<Place>, Option<Place>)>,
}

/// Things by number, in the order in which they came.
struct Table<T> {
    all: Vec<T>,
    numbers: BTreeMap<T, u32>,
}

impl<T: Ord + Clone> Table<T> {
    fn new() -> Self {
        Self { all: Vec::new(), numbers: BTreeMap::new() }
    }

    fn number(&mut self, of: &T) -> u32 {
        if let Some(number) = self.numbers.get(of) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(of.clone());
        self.numbers.insert(of.clone(), number);
        number
    }
}

fn digests(hashes: &[ChangeHash]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::from_bytes(hash.0)).collect()
}

fn hashes(digests: &[Digest]) -> Vec<ChangeHash> {
    digests.iter().map(|digest| ChangeHash(*digest.as_bytes())).collect()
}

fn nth<T: Clone>(all: &[T], number: u32) -> Option<T> {
    all.get(usize::try_from(number).ok()?).cloned()
}

impl Closed {
    /// The bytes to keep.
    pub fn record(&self, key: &DocKey) -> Vec<u8> {
        let (mut writers, mut actors) = (Table::new(), Table::<ActorId>::new());
        let origins = self.next.origins.iter().map(|origin| {
            let fact = origin.fact.as_ref().map(|fact| place_of(fact));
            let fact = fact.map(|(writer, seq)| (writers.number(&writer), seq));
            (fact, origin.op.as_ref().map(|op| (actors.number(&op.1), op.0)))
        });
        let origins = origins.collect();
        let chains = self.chains.iter().map(|(writer, written)| Chain {
            writer: writers.number(writer),
            fed: written.fed.pairs().to_vec(),
            counting: written.counting,
            inside: written.inside.pairs().to_vec(),
            left: written.left.pairs().to_vec(),
        });
        let chains = chains.collect();
        let judged = self.judged.iter().map(|((next, heads), takes)| Judged {
            heads: digests(heads),
            next: *next,
            takes: *takes,
        });
        to_cbor(&Record {
            v: CLOSED_VERSION,
            scope: key.scope.clone(),
            doc: key.doc.to_string(),
            epoch: self.id.number,
            genesis: self.id.genesis,
            heads: digests(&self.found.heads),
            takes: self.found.changes,
            next: self.found.next.genesis.unwrap_or_else(|| Digest::from_bytes([0; 32])),
            changes: self.next.changes.iter().map(|bytes| ByteVec::from(bytes.to_vec())).collect(),
            origins,
            chains,
            writers: writers.all,
            actors: actors.all.iter().map(|actor| ByteVec::from(actor.to_bytes().to_vec())).collect(),
            judged: judged.collect(),
            again: self.again.iter().map(|hash| Digest::from_bytes(hash.0)).collect(),
            refused: self.refused,
            outside: self.outside,
        })
    }
}

impl Record {
    fn closed(self) -> Option<(DocKey, Closed, Lacking)> {
        let key = DocKey { scope: self.scope, doc: self.doc.parse().ok()? };
        let id = EpochId::of(self.epoch, self.genesis).filter(|_| self.v == CLOSED_VERSION)?;
        let heads = hashes(&self.heads);
        // What an epoch begins from has its name from all that it is.
        let actor = genesis::actor_of(&key, &id, &heads);
        let changes: Option<Vec<_>> = self.changes.iter().map(|bytes| screen(&actor, bytes).ok()).collect();
        let changes = changes?;
        let next = id.then(genesis::name_of(&actor, changes.iter().map(automerge::Change::hash)));
        if next.genesis != Some(self.next) {
            return None;
        }
        let actors: Vec<ActorId> = self.actors.iter().map(|bytes| ActorId::from(bytes.as_slice())).collect();
        let place = |(writer, seq): (u32, u64)| nth(&self.writers, writer).map(|writer| (writer, seq));
        let origins = self.origins.iter().map(|(fact, op)| {
            let op = op.and_then(|(actor, counter)| Some(OpId(counter, nth(&actors, actor)?)));
            (fact.and_then(place), op)
        });
        let (mut chains, mut edges) = (BTreeMap::new(), BTreeMap::new());
        for chain in &self.chains {
            let writer = nth(&self.writers, chain.writer)?;
            let read = |runs: &[(u64, u64)]| Runs::read(runs, u64::MAX, limits::CLOSED_FACTS_MAX);
            let (fed, inside, left) = (read(&chain.fed)?, read(&chain.inside)?, read(&chain.left)?);
            let at = |index: Option<u64>| index.and_then(|index| fed.nth(index)).map(|seq| (writer, seq));
            edges.insert(writer, (at(chain.counting.checked_sub(1)), at(Some(chain.counting))));
            chains.insert(writer, Written { fed, counting: chain.counting, inside, left, edge: (None, None) });
        }
        let judged = self.judged.iter().map(|judged| ((judged.next, hashes(&judged.heads)), judged.takes));
        let changes = changes.iter().map(|change| change.raw_bytes().into()).collect();
        let lacking = Lacking { id, origins: origins.collect(), edges };
        let closed = Closed {
            id,
            begins: None,
            found: Found { next, heads, changes: self.takes },
            next: Arc::new(Genesis { id: next, actor, changes, origins: Vec::new() }),
            chains,
            judged: judged.collect(),
            again: hashes(&self.again).into_iter().collect(),
            refused: self.refused,
            outside: self.outside,
            pending: Vec::new(),
            wanted: false,
        };
        Some((key, closed, lacking))
    }
}

impl Lacking {
    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let edges = self.edges.values().flat_map(|(last, beyond)| [*last, *beyond]);
        self.origins.iter().map(|(fact, _)| *fact).chain(edges).flatten()
    }
}

impl Documents {
    /// Takes back what was kept of a closed epoch, before any fact is fed. False when it is of no use: its facts are read
    /// then, as if it had never been closed.
    pub fn restore(&mut self, record: &[u8]) -> bool {
        let Some((key, closed, lacking)) = from_cbor(record).ok().and_then(Record::closed) else { return false };
        for writer in closed.chains.keys() {
            self.written.entry((key.scope.clone(), *writer)).or_default().insert(key.doc.clone());
        }
        let epochs = self.epochs(&key);
        epochs.needed.extend(lacking.places().map(|place| (place, None)));
        epochs.ends.insert(closed.id, vec![closed.found.clone()]);
        epochs.lacking.push(lacking);
        epochs.held.insert(closed.id, Slot::Closed(Box::new(closed)));
        true
    }
}

impl Epochs {
    /// A fact that a closed epoch may need, at the start.
    pub fn offer(&mut self, fact: &Arc<Fact>) {
        if let Some(needed) = self.needed.get_mut(&place_of(fact)) {
            *needed = Some(fact.clone());
        }
    }

    /// Gives closed epochs that came back what they need, and begins the one that follows on the last of them. What lacks
    /// something is built anew.
    pub fn resolve(&mut self, key: &DocKey) {
        let needed = std::mem::take(&mut self.needed);
        let mut lacking = std::mem::take(&mut self.lacking);
        lacking.sort_by_key(|lacking| lacking.id);
        for Lacking { id, origins, edges } in lacking {
            let begins = self.genesis_of(&id);
            let Some(Slot::Closed(closed)) = self.held.get_mut(&id) else { continue };
            let find = |place: &Option<Place>| match place {
                None => Some(None),
                Some(place) => needed.get(place).cloned().flatten().map(Some),
            };
            let origin = |(fact, op): (Option<Place>, Option<OpId>)| Some(Origin { fact: find(&fact)?, op });
            let origins: Option<Vec<Origin>> = origins.into_iter().map(origin).collect();
            let whole = origins.is_some();
            if let Some(next) = Arc::get_mut(&mut closed.next) {
                next.origins = origins.unwrap_or_default();
            }
            let edges = edges.iter().map(|(writer, (last, beyond))| Some((writer, (find(last)?, find(beyond)?))));
            let edges: Option<Vec<_>> = edges.collect();
            closed.wanted |= !whole || edges.is_none();
            for (writer, edge) in edges.into_iter().flatten() {
                if let Some(written) = closed.chains.get_mut(writer) {
                    written.edge = edge;
                }
            }
            closed.begins = begins;
            let next = closed.next.clone();
            if !self.held.contains_key(&next.id)
                && let Some(document) = Document::begin(key.clone(), next)
            {
                self.begin(Box::new(document));
            }
        }
        self.unchecked = true;
        self.refresh();
    }
}

/// What a record says of itself, for those that keep it: which document and epoch.
#[must_use]
pub fn record_name(key: &DocKey, epoch: &EpochId) -> Vec<u8> {
    let genesis = epoch.genesis.map_or_else(Vec::new, |genesis| genesis.as_bytes().to_vec());
    [
        key.scope.to_string().as_bytes(),
        &[0],
        key.doc.to_string().as_bytes(),
        &[0],
        &epoch.number.to_be_bytes(),
        &genesis,
    ]
    .concat()
}
