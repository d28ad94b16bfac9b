//! A healed partition: two real nodes, each with 100,000 facts that the other lacks, exchange them over QUIC on loopback.
//!
//! What each wrote alone is put into its store as the node itself would have stored it. Both are opened apart; the clock runs
//! from the moment they see each other until both show one state, looked at every 20 ms.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use cauldron_crdt::log::INDEX_HEAD;
use cauldron_crdt::{ChainId, Draft, FactLog, Record};
use cauldron_identity::{AuthorKey, MeshId, Scope};
use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch, record};
use cauldron_tests::{Mesh, Node, Plan};

use crate::{Bound, Figure, approve, spine};

/// Facts that each side wrote alone.
const FACTS: usize = 100_000;
/// The figure, seconds.
const EXCHANGED_S_MAX: f64 = 30.0;
/// Records in one commit of the yardstick: as many inputs as a node takes into one commit.
const COMMIT: usize = 256;
/// How long a measurement may take at all.
const PATIENCE: Duration = Duration::from_secs(300);

/// Key and value of a record as the store holds it.
type Stored = (Vec<u8>, Vec<u8>);

/// Seconds until both sides have everything, beside the same records into redb alone, one side after the other.
pub(crate) fn figures() -> Result<Vec<Figure>, String> {
    spine::build()?;
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let pin: MeshId =
        mesh.hq.get("/v1/self")["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;
    mesh.lyon.stop();
    mesh.hq.stop();
    let mut written = Vec::new();
    for node in [&mesh.hq, &mesh.lyon] {
        written.extend(write_alone(&node.dir(), pin)?);
    }
    let raw = raw_s(mesh.folder(), &written)?;
    drop(written);

    mesh.hq.start();
    until("hq has read its store", || facts(&mesh.hq) >= FACTS as u64)?;
    mesh.lyon.start();
    let linked = || mesh.lyon.metric("cauldron_mesh_links") >= 1;
    until("lyon sees hq", linked)?;
    let began = Instant::now();
    let all = 2 * FACTS as u64;
    until("both have everything", || facts(&mesh.hq) >= all && facts(&mesh.lyon) >= all && one_state(&mesh))?;
    let took = began.elapsed().as_secs_f64();
    let packed = mesh.hq.metric("cauldron_sync_ranges_total") + mesh.lyon.metric("cauldron_sync_ranges_total");
    let bytes = mesh.hq.metric("cauldron_mesh_bytes_total{direction=\"out\"}")
        + mesh.lyon.metric("cauldron_mesh_bytes_total{direction=\"out\"}");
    if packed == 0 {
        return Err("nothing came as a range, so this was not the exchange that is meant".to_owned());
    }
    let figure =
        |name: &str, value, unit, target| Figure { name: name.to_owned(), value, unit, yardstick: None, target };
    Ok(vec![
        figure(
            "two nodes exchange 100,000 facts each, over QUIC on loopback",
            took,
            "s",
            Some(Bound::AtMost(EXCHANGED_S_MAX)),
        ),
        Figure {
            name: "the same, beside the disk".to_owned(),
            value: took,
            unit: "s",
            yardstick: Some(("the same records into redb alone, one side after the other".to_owned(), raw)),
            target: None,
        },
        figure("bytes on the wire per fact, envelopes of frames included", bytes as f64 / all as f64, "B", None),
    ])
}

/// Continues the node's own chain in `mesh` in its store. Returns the records.
fn write_alone(dir: &Path, mesh: MeshId) -> Result<Vec<Stored>, String> {
    let author: AuthorKey = approve::key_file(&dir.join("author.key"))?;
    let store = RedbStore::open(dir.join("store.redb"), CACHE_BYTES_DEFAULT).map_err(|e| e.to_string())?;
    let mut stored = Vec::new();
    let mut damaged = None;
    let scanned = store.scan(b"", &mut |key, value| {
        let kind = key.first().copied().unwrap_or_default();
        match record::unwrap(key, kind, value) {
            Ok(body) => stored.push((key.to_vec(), body.to_vec())),
            Err(e) => {
                damaged = Some(e.to_string());
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(|e| e.to_string())?;
    if let Some(why) = damaged {
        return Err(why);
    }
    let of_log = stored.iter().filter(|(key, _)| Record::PREFIXES.iter().any(|prefix| key.starts_with(prefix)));
    let records: Result<Vec<Record>, _> = of_log.map(|(key, value)| Record::read(key, value)).collect();
    let mut log = FactLog::restore(mesh, records.map_err(|e| e.to_string())?, None).map_err(|e| e.to_string())?;
    let chain = ChainId { scope: Scope::mesh(), author: author.author_id(), incarnation: 0 };
    let begins = log.held(&chain);
    let hlc = log.at(&chain, begins).map_or(0, |fact| fact.header().hlc);
    let mut written = Vec::with_capacity(FACTS);
    for n in 0..FACTS {
        let body = format!("{{\"line\":{n},\"text\":\"Failed password for root from 203.0.113.7 port 4242 ssh2\"}}")
            .into_bytes();
        let (scope, kind) = (Scope::mesh(), "note".to_owned());
        let draft = Draft { scope, incarnation: 0, kind, deps: vec![], body, hlc: hlc + n as u64, traceparent: None };
        let fact = Record::Fact(log.append(&author, draft).map_err(|e| e.to_string())?.sealed().clone());
        let key = fact.key().map_err(|e| e.to_string())?;
        let value = record::wrap(&key, b'f', &fact.value());
        written.push((key, value));
    }
    commit(&store, &written, 10 * COMMIT)?;
    Ok(written)
}

fn commit(store: &RedbStore, records: &[Stored], size: usize) -> Result<(), String> {
    for chunk in records.chunks(size) {
        let mut batch = WriteBatch::new();
        // The index of the stop before does not know of these.
        batch.delete(INDEX_HEAD);
        for (key, value) in chunk {
            batch.put(key.clone(), value.clone());
        }
        store.commit(batch).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn raw_s(folder: &Path, records: &[Stored]) -> Result<f64, String> {
    let store = RedbStore::open(folder.join("raw.redb"), CACHE_BYTES_DEFAULT).map_err(|e| e.to_string())?;
    let began = Instant::now();
    commit(&store, records, COMMIT)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Facts that a node holds, as it says itself; none while it does not answer.
pub(crate) fn facts(node: &Node) -> u64 {
    let own = node.try_get("/v1/self").map(|answer| answer.json()).unwrap_or_default();
    own["facts"].as_u64().unwrap_or(0)
}

fn one_state(mesh: &Mesh) -> bool {
    let hash = |node: &Node| node.get("/v1/sync")["state_hash"]["mesh"].clone();
    hash(&mesh.hq) == hash(&mesh.lyon)
}

pub(crate) fn until(what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
