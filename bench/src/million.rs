//! A million facts in the store of a real node: what they take at a start, and what of memory.
//!
//! They stand on hq's own chain in `mesh`, signed like any, and are of a kind that no fold looks into, as telemetry would be:
//! what folds keep of other facts is theirs to bound. The first start reads every fact, as after a crash; it ends in order, and
//! the second finds what that left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cauldron_crdt::limits::HOT_BYTES_MAX;
use cauldron_crdt::log::INDEX_HEAD;
use cauldron_crdt::{ChainId, Draft, FactLog, Record, Restoring};
use cauldron_identity::{AuthorKey, MeshId, Scope};
use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch, record};
use cauldron_tests::{Mesh, Node, Plan};

use crate::partition::{facts, until};
use crate::shelf::{Shelf, kind_of};
use crate::state::{line, put};
use crate::{Bound, Figure, approve, spine};

const FACTS: u64 = 1_000_000;
/// Facts in one commit.
const COMMIT: u64 = 5_000;
/// The figures.
const OPEN_S_MAX: f64 = 2.0;
const RSS_MB_MAX: f64 = 150.0;
/// Which kind they are.
const KIND: &str = "telemetry";
/// What the kernel may still take back after a start.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn figures() -> Result<Vec<Figure>, String> {
    spine::build()?;
    let mut mesh = Mesh::only_hq(Plan::default());
    let hq = &mut mesh.hq;
    let pin: MeshId = hq.get("/v1/self")["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;
    hq.stop();
    write(&hq.dir(), pin)?;
    let (crashed, crashed_mb) = start(hq)?;
    hq.stop();
    let (clean, clean_mb) = start(hq)?;
    hq.stop();
    let figure = |name: &str, value, unit, target| {
        let name = format!("a node with {FACTS} facts of a kind that no fold keeps: {name}");
        Figure { name, value, unit, yardstick: None, target }
    };
    Ok(vec![
        figure("from start to answering, after a clean stop", clean, "s", Some(Bound::AtMost(OPEN_S_MAX))),
        figure("resident memory then", clean_mb, "MB", Some(Bound::AtMost(RSS_MB_MAX))),
        figure("from start to answering, after a crash", crashed, "s", None),
        figure("resident memory then, after a crash", crashed_mb, "MB", None),
    ])
}

/// Seconds until the node answers with everything, and what it takes of memory a moment later, MB.
fn start(node: &mut Node) -> Result<(f64, f64), String> {
    let began = Instant::now();
    node.start();
    until("the node answers", || facts(node) >= FACTS)?;
    let took = began.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    Ok((took, spine::rss_mb(node.pid())?))
}

/// Continues the node's own chain in `mesh`, in its store.
fn write(dir: &Path, mesh: MeshId) -> Result<(), String> {
    let author: AuthorKey = approve::key_file(&dir.join("author.key"))?;
    let store = Arc::new(RedbStore::open(dir.join("store.redb"), CACHE_BYTES_DEFAULT).map_err(|e| e.to_string())?);
    let mut log = restored(&store, mesh)?;
    let chain = ChainId { scope: Scope::mesh(), author: author.author_id(), incarnation: 0 };
    let hlc = log.at(&chain, log.held(&chain)).map_or(0, |fact| fact.header().hlc);
    for first in (0..FACTS).step_by(usize::try_from(COMMIT).unwrap_or(1)) {
        let mut batch = WriteBatch::new();
        batch.delete(INDEX_HEAD);
        for n in first..first + COMMIT {
            let (scope, body) = (Scope::mesh(), line(usize::try_from(n).unwrap_or(0)));
            let draft =
                Draft { scope, incarnation: 0, kind: KIND.into(), deps: vec![], body, hlc: hlc + n, traceparent: None };
            put(&mut batch, log.append(&author, draft).map_err(|e| e.to_string())?.sealed())?;
        }
        store.commit(batch).map_err(|e| e.to_string())?;
        log.chill();
    }
    Ok(())
}

pub(crate) fn restored(store: &Arc<RedbStore>, mesh: MeshId) -> Result<FactLog, String> {
    let mut restoring = Restoring::over(mesh, Arc::new(Shelf(store.clone())), HOT_BYTES_MAX);
    let mut broken = Ok(());
    for prefix in Record::PREFIXES {
        let scanned = store.scan(prefix, &mut |key, value| {
            let body = record::unwrap(key, kind_of(key), value).map_err(|e| e.to_string());
            let read = body.and_then(|body| Record::read(key, body).map_err(|e| e.to_string()));
            broken = read.and_then(|record| restoring.take(record).map_err(|e| e.to_string()));
            if broken.is_ok() { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        });
        scanned.map_err(|e| e.to_string())?;
        broken.clone()?;
    }
    restoring.done().map_err(|e| e.to_string())
}
