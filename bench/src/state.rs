//! State: what a fact costs to write, to believe and to keep, and what a document costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use automerge::sync::{State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{Automerge, ROOT};
use cauldron_crdt::doc::{Applied, DocKey, Documents, Edit, Field, KIND};
use cauldron_crdt::{Access, ChainId, Draft, FactLog, Record};
use cauldron_identity::{AuthorId, AuthorKey, Fact, MeshId, PublicKey, Scope, SealedFact};
use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch, record};

use crate::{Bound, Figure, Report, grown, million, partition};

pub(crate) const MESH: MeshId = MeshId::from_bytes([7; 32]);
/// Facts in one commit.
const BATCH: usize = 100;
/// Facts that are written, read and verified.
const FACTS: usize = 40_000;
/// Facts in the log whose growth is watched.
const LONG: usize = 200_000;
/// Changes in a full document.
const CHANGES: usize = 19_900;
const WRITERS: u8 = 20;
/// Figures of the issue.
const APPEND_MIN: f64 = 10_000.0;
const STORED_RATIO_MIN: f64 = 0.5;
const VERIFY_MIN: f64 = 15_000.0;
const VERIFY_BULK_MIN: f64 = 200_000.0;
const INGEST_MS_MAX: f64 = 0.5;
const INGEST_RATIO_MAX: f64 = 0.1;

/// Everybody may write everything.
pub(crate) struct Open(pub(crate) BTreeMap<AuthorId, PublicKey>);

impl Access for Open {
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey> {
        self.0.get(author).copied()
    }

    fn may_write(&self, _: &AuthorId, _: &Scope, _: &str) -> bool {
        true
    }
}

/// Measures in processor time of the calling thread, but for what waits for the disk.
///
/// # Errors
/// A debug build, or an operation that fails.
pub fn measure() -> Result<Report, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let mut figures = Vec::new();
    let facts = written(&mut figures)?;
    believed(&mut figures, &facts)?;
    grown(&mut figures)?;
    documented(&mut figures)?;
    figures.extend(crate::newcomer::figures()?);
    figures.extend(grown::figures()?);
    figures.extend(partition::figures()?);
    figures.extend(million::figures()?);
    Ok(Report { figures })
}

pub(crate) fn key(n: u8) -> AuthorKey {
    AuthorKey::from_seed(&[n; 32])
}

pub(crate) fn draft(body: Vec<u8>, kind: &str, hlc: u64) -> Draft {
    let (scope, kind) = (Scope::mesh(), kind.to_owned());
    Draft { scope, incarnation: 0, kind, deps: vec![], body, hlc, traceparent: None }
}

pub(crate) fn line(n: usize) -> Vec<u8> {
    format!("{{\"line\":{n},\"text\":\"Failed password for root from 203.0.113.7 port 4242 ssh2\"}}").into_bytes()
}

pub(crate) fn put(batch: &mut WriteBatch, sealed: &SealedFact) -> Result<(), String> {
    let fact = Record::Fact(sealed.clone());
    let key = fact.key().map_err(|e| e.to_string())?;
    let value = record::wrap(&key, b'f', &fact.value());
    batch.put(key, value);
    Ok(())
}

/// Appends with commits, signing included and already signed, beside redb alone on the same bytes.
fn written(figures: &mut Vec<Figure>) -> Result<Vec<SealedFact>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let open = |name: &str| RedbStore::open(folder.path().join(name), CACHE_BYTES_DEFAULT).map_err(|e| e.to_string());
    let (mut log, author, store) = (FactLog::new(MESH), key(1), open("signing")?);
    let mut facts = Vec::with_capacity(FACTS);
    let (start, spent) = (std::time::Instant::now(), processor_time());
    for chunk in 0..FACTS / BATCH {
        let mut batch = WriteBatch::new();
        for n in 0..BATCH {
            let fact = log.append(&author, draft(line(chunk * BATCH + n), "note", 0)).map_err(|e| e.to_string())?;
            put(&mut batch, fact.sealed())?;
            facts.push(fact.sealed().clone());
        }
        store.commit(batch).map_err(|e| e.to_string())?;
    }
    let (wall, spent) = (start.elapsed(), processor_time() - spent);
    figures.push(Figure {
        name: format!("facts signed and appended, commits of {BATCH}, per core"),
        value: FACTS as f64 / spent.as_secs_f64(),
        unit: "/s",
        yardstick: None,
        target: Some(Bound::AtLeast(APPEND_MIN)),
    });
    figures.push(Figure {
        name: "the same, waiting for the disk".to_owned(),
        value: FACTS as f64 / wall.as_secs_f64(),
        unit: "/s",
        yardstick: None,
        target: None,
    });

    let (signed, raw) = (open("signed")?, open("raw")?);
    let bytes: Vec<(Vec<u8>, Vec<u8>)> = facts
        .iter()
        .map(|sealed| {
            let fact = Record::Fact(sealed.clone());
            Ok((fact.key().map_err(|e| e.to_string())?, fact.value()))
        })
        .collect::<Result<_, String>>()?;
    // In turn, so that a busy disk slows both alike.
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for (facts, bytes) in facts.chunks(BATCH).zip(bytes.chunks(BATCH)) {
        let start = std::time::Instant::now();
        let mut batch = WriteBatch::new();
        for fact in facts {
            put(&mut batch, fact)?;
        }
        signed.commit(batch).map_err(|e| e.to_string())?;
        ours += start.elapsed();
        let start = std::time::Instant::now();
        let mut batch = WriteBatch::new();
        for (key, value) in bytes {
            batch.put(key.clone(), value.clone());
        }
        raw.commit(batch).map_err(|e| e.to_string())?;
        theirs += start.elapsed();
    }
    figures.push(Figure {
        name: format!("facts already signed, commits of {BATCH}"),
        value: FACTS as f64 / ours.as_secs_f64(),
        unit: "/s",
        yardstick: Some(("the same bytes into redb".to_owned(), FACTS as f64 / theirs.as_secs_f64())),
        target: Some(Bound::AtLeast(STORED_RATIO_MIN)),
    });
    Ok(facts)
}

/// Facts of a peer: one by one, and as ranges.
fn believed(figures: &mut Vec<Figure>, facts: &[SealedFact]) -> Result<(), String> {
    let access = Open(BTreeMap::from([(key(1).author_id(), key(1).public())]));
    let single = FACTS / 4;
    let (mut log, spent) = (FactLog::new(MESH), processor_time());
    for fact in facts.iter().take(single) {
        log.insert(fact.clone(), &access).map_err(|e| e.to_string())?;
    }
    let one_by_one = single as f64 / (processor_time() - spent).as_secs_f64();
    let packed = |chunk: &[SealedFact]| cauldron_crdt::sync::packed(chunk).ok_or("a range does not fit its frame");
    let frames: Vec<Vec<u8>> = facts.chunks(1_000).map(packed).collect::<Result<_, _>>()?;
    let chain = ChainId { scope: Scope::mesh(), author: key(1).author_id(), incarnation: 0 };
    let (mut log, mut from, spent) = (FactLog::new(MESH), 1, processor_time());
    for frame in &frames {
        let facts = cauldron_crdt::sync::unpacked(frame).ok_or("a frame of ours cannot be read")?;
        let count = facts.len() as u64;
        let taken = log.insert_range(&chain, from, facts, &access);
        if taken.new.len() as u64 != count {
            return Err(format!("a range of ours is not taken: {:?}", taken.refused));
        }
        from += count;
    }
    let bulk = FACTS as f64 / (processor_time() - spent).as_secs_f64();
    let wire: usize = frames.iter().map(Vec::len).sum();
    let plain: usize = facts.iter().map(SealedFact::wire_len).sum();
    figures.extend([
        Figure {
            name: "facts of a peer verified one by one, per core".to_owned(),
            value: one_by_one,
            unit: "/s",
            yardstick: None,
            target: Some(Bound::AtLeast(VERIFY_MIN)),
        },
        Figure {
            name: "facts of a peer taken as ranges, unpacked and linked, per core".to_owned(),
            value: bulk,
            unit: "/s",
            yardstick: None,
            target: Some(Bound::AtLeast(VERIFY_BULK_MIN)),
        },
        Figure {
            name: "bytes on the wire per fact, as ranges".to_owned(),
            value: wire as f64 / FACTS as f64,
            unit: "B",
            yardstick: Some(("one by one".to_owned(), plain as f64 / FACTS as f64)),
            target: None,
        },
    ]);
    Ok(())
}

/// What a fact costs when there are many: in time and in memory.
fn grown(figures: &mut Vec<Figure>) -> Result<(), String> {
    let (author, before) = (key(1), resident()?);
    let mut log = FactLog::new(MESH);
    let mut tenths = Vec::new();
    for tenth in 0..10 {
        let spent = processor_time();
        for n in 0..LONG / 10 {
            log.append(&author, draft(line(tenth * n), "note", 0)).map_err(|e| e.to_string())?;
        }
        tenths.push((processor_time() - spent).as_secs_f64() * 1e6 / (LONG / 10) as f64);
    }
    let held = resident()?.saturating_sub(before);
    let (first, last) = (tenths.first().copied().unwrap_or(0.0), tenths.last().copied().unwrap_or(0.0));
    figures.extend([
        Figure {
            name: format!("cost of a fact, the last tenth of {LONG}"),
            value: last,
            unit: "µs",
            yardstick: Some(("the first tenth".to_owned(), first)),
            target: Some(Bound::AtMost(1.25)),
        },
        Figure {
            name: "resident memory per 100,000 facts, where a log keeps all in memory".to_owned(),
            value: held as f64 * 100_000.0 / LONG as f64 / 1e6,
            unit: "MB",
            yardstick: None,
            target: None,
        },
    ]);
    let records: Vec<Record> = log.iter().map(|fact| Record::Fact(fact.sealed().clone())).collect();
    let spent = processor_time();
    let again = FactLog::restore(MESH, records, None).map_err(|e| e.to_string())?;
    let opened = (processor_time() - spent).as_secs_f64();
    if again.len() != LONG {
        return Err("the log did not come back whole".to_owned());
    }
    figures.push(Figure {
        name: format!("{LONG} facts brought back, read already"),
        value: opened,
        unit: "s",
        yardstick: None,
        target: None,
    });
    Ok(())
}

/// A nearly full document: one more change, and building it at the start.
fn documented(figures: &mut Vec<Figure>) -> Result<(), String> {
    let name = DocKey { scope: Scope::mesh(), doc: "config/main".parse().map_err(|e| format!("{e}"))? };
    let mut writers: Vec<(AuthorKey, FactLog)> = (1..=WRITERS).map(|n| (key(n), FactLog::new(MESH))).collect();
    let mut shared = Documents::new();
    let mut facts: Vec<Arc<Fact>> = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let (author, log) = &mut writers[n % usize::from(WRITERS)];
        shared.set_author(&author.author_id(), 0);
        let value = Some(Field::Int(i64::try_from(n).unwrap_or(0)));
        let fields = BTreeMap::from([(format!("k{}", n % 97), value)]);
        let edit = Edit::Row { row: format!("r{}", n % 41), fields };
        for body in shared.edit(&name, &edit).map_err(|e| e.to_string())? {
            let fact = log.append(author, draft(body, KIND, n as u64)).map_err(|e| e.to_string())?;
            shared.apply(&fact, true);
            facts.push(fact);
        }
    }
    let mut docs = Documents::new();
    let (built, rest) = facts.split_at(facts.len() - 100);
    let spent = processor_time();
    for fact in built {
        docs.feed(fact, true).map_err(|applied| format!("{applied:?}"))?;
    }
    docs.settle_all();
    while let Some(work) = docs.work() {
        docs.finish(work.run(&cauldron_crdt::doc::check::unpack));
    }
    let building = (processor_time() - spent).as_secs_f64();
    let spent = processor_time();
    for fact in rest {
        if docs.apply(fact, true) != Applied::Yes {
            return Err("a change of ours is not taken".to_owned());
        }
    }
    let ingest = (processor_time() - spent).as_secs_f64() * 1e3 / rest.len() as f64;
    figures.extend([
        Figure {
            name: format!("one more change in a document of {CHANGES}"),
            value: ingest,
            unit: "ms",
            yardstick: Some(("Automerge's own sync, both ends".to_owned(), automerge_sync()?)),
            target: Some(Bound::AtMost(INGEST_RATIO_MAX)),
        },
        Figure {
            name: "the same, alone".to_owned(),
            value: ingest,
            unit: "ms",
            yardstick: None,
            target: Some(Bound::AtMost(INGEST_MS_MAX)),
        },
        Figure {
            name: format!("a document of {CHANGES} changes built at the start"),
            value: building,
            unit: "s",
            yardstick: None,
            target: None,
        },
    ]);
    Ok(())
}

/// Milliseconds for one change through `automerge::sync`, from commit to the receiver's reply.
fn automerge_sync() -> Result<f64, String> {
    let mut one = Automerge::new();
    for n in 0..CHANGES {
        one.set_actor(automerge::ActorId::from([u8::try_from(n % usize::from(WRITERS)).unwrap_or(0)].as_slice()));
        let mut edit = one.transaction();
        edit.put(ROOT, format!("r{}k{}", n % 41, n % 97), n as u64).map_err(|e| e.to_string())?;
        edit.commit();
    }
    let mut other = one.fork();
    let (mut to, mut back) = (State::new(), State::new());
    let mut round = |one: &mut Automerge, other: &mut Automerge| -> Result<(), String> {
        while let Some(message) = one.generate_sync_message(&mut to) {
            other.receive_sync_message(&mut back, message).map_err(|e| e.to_string())?;
            if let Some(reply) = other.generate_sync_message(&mut back) {
                one.receive_sync_message(&mut to, reply).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    };
    round(&mut one, &mut other)?;
    let (rounds, spent) = (20, processor_time());
    for n in 0..rounds {
        let mut edit = one.transaction();
        edit.put(ROOT, "last", n as u64).map_err(|e| e.to_string())?;
        edit.commit();
        round(&mut one, &mut other)?;
    }
    Ok((processor_time() - spent).as_secs_f64() * 1e3 / f64::from(rounds))
}

pub(crate) fn processor_time() -> Duration {
    crate::identity::processor_time()
}

/// Resident memory of this process, bytes.
fn resident() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().map_err(|_| "VmRSS is no number".to_owned())?;
    Ok(kib * 1024)
}
