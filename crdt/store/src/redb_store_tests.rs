use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::conformance::dump;

fn batch(key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(key, value);
    batch
}

fn filled(path: &Path) {
    let store = RedbStore::open(path, CACHE_BYTES_DEFAULT).expect("opens");
    for i in 0..200 {
        store.commit(batch(&format!("f/{i:04}"), &"x".repeat(500))).expect("commits");
    }
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let count = std::cell::Cell::new(0);
    crate::conformance::run(&|| {
        count.set(count.get() + 1);
        RedbStore::open(dir.path().join(format!("{}.redb", count.get())), CACHE_BYTES_DEFAULT).expect("opens")
    });
}

#[test]
fn a_second_opener_is_told_which_file_is_locked() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    let _first = RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect("opens");
    let error = RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect_err("locked");
    assert!(matches!(&error, StoreError::Locked { path: p } if *p == path.display().to_string()), "{error:?}");
}

#[test]
fn a_new_file_is_private_and_a_missing_directory_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    filled(&path);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
    }
    let error = RedbStore::open(dir.path().join("none/store.redb"), CACHE_BYTES_DEFAULT).expect_err("no directory");
    assert!(matches!(error, StoreError::Io { doing: "create", .. }), "{error:?}");
}

#[test]
fn damage_after_a_clean_close_is_an_error_or_harmless_never_a_wrong_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    filled(&path);
    let clean = fs::read(&path).expect("reads");
    let want = dump(&RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect("opens"), b"");
    let mut refused = 0;
    for page in 0..clean.len() / 4096 {
        let mut bytes = clean.clone();
        let damaged = &mut bytes[page * 4096..(page + 1) * 4096];
        if damaged.iter().all(|byte| *byte == 0) {
            continue;
        }
        damaged.fill(0);
        fs::write(&path, &bytes).expect("writes");
        match RedbStore::open(&path, CACHE_BYTES_DEFAULT) {
            Err(StoreError::Corrupt { place, .. }) => {
                assert_eq!(place, path.display().to_string());
                refused += 1;
            }
            Err(other) => panic!("page {page}: {other:?}"),
            Ok(store) => assert_eq!(dump(&store, b""), want, "page {page}"),
        }
    }
    assert!(refused > 10, "only {refused} damaged pages were noticed");
}

#[test]
fn truncated_and_foreign_files_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    filled(&path);
    let clean = fs::read(&path).expect("reads");
    for bytes in [&clean[..clean.len() / 2], &clean[..100], b"not a store at all".as_slice()] {
        fs::write(&path, bytes).expect("writes");
        let error = RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect_err("damaged");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{} bytes: {error:?}", bytes.len());
    }
}

/// A disk whose fsync fails on demand.
#[derive(Debug)]
struct FailingDisk {
    disk: InMemoryBackend,
    fails: Arc<AtomicBool>,
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> Result<u64, io::Error> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.disk.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        if self.fails.load(Ordering::Relaxed) { Err(io::Error::other("EIO by test")) } else { self.disk.sync_data() }
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.disk.write(offset, data)
    }
}

#[test]
fn after_one_failed_fsync_no_commit_is_ever_accepted_again() {
    let fails = Arc::new(AtomicBool::new(false));
    let disk = FailingDisk { disk: InMemoryBackend::new(), fails: fails.clone() };
    let store = RedbStore::open_by("disk".into(), CACHE_BYTES_DEFAULT, |b| b.create_with_backend(disk)).expect("opens");
    store.commit(batch("a", "1")).expect("commits");
    fails.store(true, Ordering::Relaxed);
    let first = store.commit(batch("a", "2")).expect_err("fsync fails");
    assert!(matches!(first, StoreError::Io { .. }) && first.is_fatal(), "{first:?}");
    fails.store(false, Ordering::Relaxed);
    let second = store.commit(batch("a", "3")).expect_err("suspect");
    assert!(matches!(&second, StoreError::Suspect { cause, .. } if cause.contains("EIO by test")), "{second:?}");
    assert_eq!(store.check().expect("answers"), Health::Suspect);
}

#[test]
fn what_shrank_leaves_no_pages_half_empty_and_the_last_write_still_wins() {
    use redb::ReadableTableMetadata;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store.redb");
    filled(&path);
    let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).expect("opens");
    let pages = || {
        let database = store.database.read().expect("unpoisoned");
        let table = database.begin_read().expect("reads").open_table(TABLE).expect("there");
        table.stats().expect("counted").leaf_pages()
    };
    let (before, mut shrink) = (pages(), WriteBatch::new());
    for i in 0..200 {
        shrink.put(format!("f/{i:04}"), "stub");
    }
    // Written twice: smaller, then as large as before; and smaller, then gone.
    shrink.put("f/0007", "y".repeat(500)).delete("f/0008");
    store.commit(shrink).expect("commits");
    let after = pages();
    assert!(after * 8 < before, "{after} of {before}");
    let value = |key: &str| store.get(key.as_bytes()).expect("reads");
    assert_eq!((value("f/0007"), value("f/0008")), (Some("y".repeat(500).into()), None));
    let kept = |i: &u32| value(&format!("f/{i:04}")) == Some(b"stub".to_vec());
    assert_eq!((0..200).filter(kept).count(), 198);
}
