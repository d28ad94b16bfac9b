//! What a fact costs as history grows: appended and stored at its author, packed, unpacked, linked and stored at a peer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cauldron_crdt::limits::HOT_BYTES_MAX;
use cauldron_crdt::{ChainId, FactLog};
use cauldron_identity::{Scope, SealedFact};
use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch};

use crate::shelf::Shelf;
use crate::state::{MESH, Open, draft, key, line, processor_time, put};
use crate::{Bound, Figure};

/// Histories at which the next facts are measured.
const AT: [usize; 4] = [10_000, 50_000, 100_000, 200_000];
/// Facts measured at each.
const NEXT: usize = 5_000;
/// Facts in one commit and in one range.
const BATCH: usize = 250;
/// At the second of these each new fact sends an old one out of memory, and at the first none: so much dearer for that.
const STEP_MAX: f64 = 1.5;
/// Flat: so much dearer than at the second, as the store's tree grows in depth.
const GROWTH_MAX: f64 = 1.25;

/// One end: its log, and the store that has what the log no longer keeps in memory.
struct End {
    log: FactLog,
    store: Arc<RedbStore>,
}

impl End {
    fn open(path: &Path) -> Result<Self, String> {
        let store = Arc::new(RedbStore::open(path, CACHE_BYTES_DEFAULT).map_err(|e| e.to_string())?);
        Ok(Self { log: FactLog::over(MESH, Arc::new(Shelf(store.clone())), HOT_BYTES_MAX), store })
    }

    fn commit(&mut self, facts: &[SealedFact]) -> Result<(), String> {
        let mut batch = WriteBatch::new();
        facts.iter().try_for_each(|fact| put(&mut batch, fact))?;
        self.store.commit(batch).map_err(|e| e.to_string())?;
        self.log.chill();
        Ok(())
    }
}

/// Processor time per fact at each length of history. The yardstick is the shortest, and from there on the one behind it.
pub(crate) fn figures() -> Result<Vec<Figure>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut author = End::open(&folder.path().join("author"))?;
    let mut peer = End::open(&folder.path().join("peer"))?;
    let (mut figures, mut before) = (Vec::new(), None);
    for (nth, at) in AT.into_iter().enumerate() {
        while author.log.len() < at {
            exchange(&mut author, &mut peer)?;
        }
        let mut spent = (Duration::ZERO, Duration::ZERO);
        for _ in 0..NEXT / BATCH {
            let (append, ingest) = exchange(&mut author, &mut peer)?;
            spent = (spent.0 + append, spent.1 + ingest);
        }
        let micros = |spent: Duration| spent.as_secs_f64() * 1e6 / NEXT as f64;
        let cost = [micros(spent.0), micros(spent.1)];
        let (of, yardstick) = *before.get_or_insert((at, cost));
        let most = if nth == 1 { STEP_MAX } else { GROWTH_MAX };
        for (index, what) in ["appended and stored", "taken as a range and stored"].into_iter().enumerate() {
            figures.push(Figure {
                name: format!("a fact {what}, behind {at} others"),
                value: cost[index],
                unit: "µs",
                yardstick: Some((format!("behind {of}"), yardstick[index])),
                target: (nth > 0).then_some(Bound::AtMost(most)),
            });
        }
        if nth == 1 {
            before = Some((at, cost));
        }
    }
    Ok(figures)
}

/// One batch from author to peer: what each end spent.
fn exchange(author: &mut End, peer: &mut End) -> Result<(Duration, Duration), String> {
    let (signer, begins) = (key(1), author.log.len());
    let access = Open(BTreeMap::from([(signer.author_id(), signer.public())]));
    let start = processor_time();
    let mut facts = Vec::with_capacity(BATCH);
    for n in 0..BATCH {
        let fact = author.log.append(&signer, draft(line(begins + n), "note", 0)).map_err(|e| e.to_string())?;
        facts.push(fact.sealed().clone());
    }
    author.commit(&facts)?;
    let appended = processor_time();
    let frame = cauldron_crdt::sync::packed(&facts).ok_or("a range does not fit its frame")?;
    let packed = processor_time();
    let facts = cauldron_crdt::sync::unpacked(&frame).ok_or("a frame of ours cannot be read")?;
    let chain = ChainId { scope: Scope::mesh(), author: signer.author_id(), incarnation: 0 };
    let taken = peer.log.insert_range(&chain, begins as u64 + 1, facts.clone(), &access);
    if taken.new.len() != BATCH {
        return Err(format!("a range of ours is not taken: {:?}", taken.refused));
    }
    peer.commit(&facts)?;
    Ok((appended - start, processor_time() - packed))
}
