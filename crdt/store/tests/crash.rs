//! SIGKILL at random moments: what was acknowledged is there, and no batch is half there.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cauldron_store::{CACHE_BYTES_DEFAULT, RedbStore, Store, WriteBatch, record};

const CYCLES: u32 = 24;
const RECORDS_PER_BATCH: u64 = 5;
const PATH: &str = "CAULDRON_CRASH_STORE";

fn key(batch: u64, record: u64) -> Vec<u8> {
    [b"f/".as_slice(), &batch.to_be_bytes(), &record.to_be_bytes()].concat()
}

/// The highest batch in the store, after checking that each batch up to it is whole and right.
fn verify(store: &dyn Store) -> u64 {
    let mut count = 0u64;
    let scanned = store.scan(b"f/", &mut |found, value| {
        let want = key(count / RECORDS_PER_BATCH + 1, count % RECORDS_PER_BATCH);
        assert_eq!(found, want, "record {count} is missing");
        let body = record::unwrap(found, 1, value).expect("intact");
        assert_eq!(body, (count / RECORDS_PER_BATCH + 1).to_be_bytes().repeat(60));
        count += 1;
        ControlFlow::Continue(())
    });
    scanned.expect("scans");
    assert_eq!(count % RECORDS_PER_BATCH, 0, "a batch is half there");
    count / RECORDS_PER_BATCH
}

#[test]
#[ignore = "the child of kill_9_loses_nothing_acknowledged"]
fn child() {
    let path = std::env::var(PATH).expect("started by the parent");
    let store = RedbStore::open(path, CACHE_BYTES_DEFAULT).expect("opens");
    let mut next = verify(&store) + 1;
    loop {
        let mut batch = WriteBatch::new();
        for record in 0..RECORDS_PER_BATCH {
            let key = key(next, record);
            let value = record::wrap(&key, 1, &next.to_be_bytes().repeat(60));
            batch.put(key, value);
        }
        store.commit(batch).expect("commits");
        let mut out = std::io::stdout();
        writeln!(out, "ack {next}").and_then(|()| out.flush()).expect("the parent listens");
        next += 1;
    }
}

/// Runs one child until it has acknowledged batch `until`, lets it go on for `extra`, kills it. The last batch it
/// acknowledged.
fn run_and_kill(path: &Path, until: u64, extra: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut last: Option<u64> = None;
    let mut read = |last: &mut Option<u64>| {
        let mut line = String::new();
        let length = lines.read_line(&mut line).expect("reads");
        // A line without its end was cut by the kill: not an acknowledgement.
        if let Some(number) = line.strip_suffix('\n').and_then(|l| l.rsplit("ack ").next()?.parse().ok()) {
            *last = Some(number);
        }
        length > 0
    };
    while last.unwrap_or(0) < until && read(&mut last) {}
    std::thread::sleep(extra);
    child.kill().expect("kills");
    child.wait().expect("ends");
    while read(&mut last) {}
    last
}

#[test]
fn kill_9_loses_nothing_acknowledged_and_halves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut acknowledged = 0;
    for cycle in 0..CYCLES {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Every fourth kill comes early: while the child opens the store, repairs it or makes its first commits.
        let until = if cycle % 4 == 3 { 0 } else { acknowledged + 1 + seed % 40 };
        let last = run_and_kill(&path, until, Duration::from_micros(seed % 9_000));
        acknowledged = acknowledged.max(last.unwrap_or(0));
        if path.exists() {
            let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect("reopens after the kill");
            let found = verify(&store);
            assert!(found >= acknowledged, "cycle {cycle}: {acknowledged} acknowledged, {found} found");
            acknowledged = found;
        }
    }
    assert!(acknowledged > 100, "only {acknowledged} batches were written: nothing was tested");
}
