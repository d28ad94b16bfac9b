//! One redb file: every commit is fdatasynced, every open verifies the file, every call runs behind a panic fence.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, TableDefinition};

use crate::{Health, Store, StoreError, Visit, WriteBatch};

/// redb's own default is 1 GiB, too much for an edge box; measured with `cargo xtask bench state`, 4 to 64 MiB make no difference on our records.
pub const CACHE_BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// A value that became smaller by more than this is taken out and put in again, so that its page is not left half empty.
const SHRUNK_BYTES: usize = 128;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// A [`Store`] in one redb file. The file is locked while the store is open.
#[derive(Debug)]
pub struct RedbStore {
    path: String,
    /// Shared for reading and committing, which redb orders itself; exclusive for [`Store::check`].
    database: RwLock<Database>,
    /// The first failed commit. Set once, never cleared: only a restart verifies what is on disk.
    suspect: Mutex<Option<String>>,
}

impl RedbStore {
    /// Opens the store at `path`, or makes an empty one that only its owner may read. The checksum of every page is
    /// verified, about 0.5 s for 300 MB: redb itself only does so after an unclean close, and afterwards trusts what
    /// it reads.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Corrupt`] or [`StoreError::Io`], each naming the path.
    pub fn open(path: impl AsRef<Path>, cache_bytes: usize) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        create_private(path).map_err(|source| StoreError::Io { doing: "create", path: name.clone(), source })?;
        Self::open_by(name, cache_bytes, |builder| builder.create(path))
    }

    fn open_by(
        path: String,
        cache_bytes: usize,
        open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        let database = fenced(&path, || {
            let mut builder = Builder::new();
            builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
            let database = open(&builder).map_err(|error| opening(&path, error))?;
            // The table exists from the start, so that a reader never has to tell "no table" from damage.
            let transaction = database.begin_write().map_err(|error| failure(&path, "open", error.into()))?;
            transaction.open_table(TABLE).map_err(|error| failure(&path, "open", error.into()))?;
            transaction.commit().map_err(|error| failure(&path, "open", error.into()))?;
            Ok(database)
        })?;
        Ok(Self { path, database: RwLock::new(database), suspect: Mutex::new(None) })
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        let failed = |error: redb::Error| failure(&self.path, "write to", error);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = database.begin_write().map_err(|error| failed(error.into()))?;
        transaction.set_durability(Durability::Immediate).map_err(|error| failed(error.into()))?;
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            let mut shrunk = BTreeMap::new();
            for (key, value) in batch.iter() {
                shrunk.remove(key);
                let before = match value {
                    Some(value) => table.insert(key, value).map_err(|error| failed(error.into()))?,
                    None => table.remove(key).map_err(|error| failed(error.into()))?,
                };
                let before = before.map_or(0, |before| before.value().len());
                if let Some(value) = value.filter(|value| before > value.len() + SHRUNK_BYTES) {
                    shrunk.insert(key, value);
                }
            }
            // redb merges pages that have become nearly empty only when something is taken out.
            for key in shrunk.keys() {
                table.remove(*key).map_err(|error| failed(error.into()))?;
            }
            for (key, value) in shrunk {
                table.insert(key, value).map_err(|error| failed(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn suspected(&self) -> Option<StoreError> {
        let suspect = self.suspect.lock().unwrap_or_else(PoisonError::into_inner);
        suspect.as_ref().map(|cause| StoreError::Suspect { path: self.path.clone(), cause: cause.clone() })
    }
}

impl RedbStore {
    fn get_all(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        fenced(&self.path, || {
            let failed = |error: redb::Error| failure(&self.path, "read", error);
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
            let table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            let value = |key: &[u8]| -> Result<Option<Vec<u8>>, StoreError> {
                let found = table.get(key).map_err(|error| failed(error.into()))?;
                Ok(found.map(|value| value.value().to_vec()))
            };
            keys.iter().map(|key| value(key.as_ref())).collect()
        })
    }
}

impl Store for RedbStore {
    fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        if let Some(refusal) = self.suspected() {
            return Err(refusal);
        }
        fenced(&self.path, || self.write(&batch)).inspect_err(|error| {
            let mut suspect = self.suspect.lock().unwrap_or_else(PoisonError::into_inner);
            suspect.get_or_insert_with(|| chain(error));
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_all(&[key]).map(|mut found| found.pop().flatten())
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.get_all(keys)
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let failed = |error: redb::Error| failure(&self.path, "read", error);
        let mut range = fenced(&self.path, || {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
            let table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            table.range(prefix..).map_err(|error| failed(error.into()))
        })?;
        // Only the engine is fenced: a panic of `visit` is the caller's own.
        while let Some(entry) = fenced(&self.path, || Ok(range.next()))? {
            let (key, value) = entry.map_err(|error| failed(error.into()))?;
            if !key.value().starts_with(prefix) || visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<Health, StoreError> {
        if self.suspected().is_some() {
            return Ok(Health::Suspect);
        }
        fenced(&self.path, || {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            match database.check_integrity() {
                Ok(true) => Ok(Health::Sound),
                Ok(false) => Ok(Health::Repaired),
                Err(error) => Err(opening(&self.path, error)),
            }
        })
    }
}

/// Runs `work`; a panic inside the engine means that it met bytes it never wrote.
fn fenced<T>(path: &str, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // The state behind the fence is redb's, which poisons its own transactions, and our two locks, which hold no
    // half-made value.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(corrupt(path, format!("the engine panicked: {}", said.unwrap_or("without a message"))))
    })
}

fn corrupt(path: &str, detail: String) -> StoreError {
    StoreError::Corrupt { place: path.to_owned(), detail }
}

fn opening(path: &str, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::Locked { path: path.to_owned() }
        }
        other => failure(path, "open", other.into()),
    }
}

fn failure(path: &str, doing: &'static str, error: redb::Error) -> StoreError {
    let io = |source| StoreError::Io { doing, path: path.to_owned(), source };
    match error {
        // Cut short or not redb's at all: the bytes are wrong, not the operating system.
        redb::Error::Io(source)
            if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            corrupt(path, source.to_string())
        }
        redb::Error::Io(source) => io(source),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => io(io::Error::other(error.to_string())),
        redb::Error::Corrupted(detail) => corrupt(path, detail),
        other => corrupt(path, other.to_string()),
    }
}

/// An error and its sources in one line.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Makes an empty file with mode 0600 and makes its name durable; leaves an existing file alone.
fn create_private(path: &Path) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(file) => {
            file.sync_all()?;
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::File::open(parent)?.sync_all()
        }
    }
}

#[cfg(test)]
#[path = "redb_store_tests.rs"]
mod tests;
