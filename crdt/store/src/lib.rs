//! The store: what a node knows, on disk. One small trait, two engines, one conformance suite.
//!
//! * [`Store`]: atomic durable commit, get, scan, check. The log in it is the truth; everything else can be rebuilt.
//! * [`RedbStore`]: one redb file, the default. [`MemStore`]: for tests and the simulator.
//! * [`record`]: the checked envelope of every value, because no engine notices all bit rot when it reads.
//! * [`keys`]: which prefix belongs to whom.
//!
//! It contains no policy, no network and no meaning of the records it keeps.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;

mod error;
pub mod keys;
mod mem;
pub mod record;
mod redb_store;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

pub use error::StoreError;
pub use mem::MemStore;
pub use redb_store::{CACHE_BYTES_DEFAULT, RedbStore};

/// What a scan calls with each key and value.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// An ordered map of bytes whose commits survive power loss.
pub trait Store: Send + Sync {
    /// Applies the whole batch or nothing of it. When it returns `Ok`, the batch is on disk: a crash or power loss in
    /// the next instruction does not take it back.
    ///
    /// # Errors
    /// Any error is fatal for writing: the outcome of the batch is unknown, and every later commit is refused with
    /// [`StoreError::Suspect`]. Reading still works.
    fn commit(&self, batch: WriteBatch) -> Result<(), StoreError>;

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The values of many keys, in their order, as of one commit.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Calls `visit` with each key that starts with `prefix`, and its value, in ascending order of the keys' bytes,
    /// until `visit` breaks. The scan sees one commit: what is written meanwhile does not show.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Verifies everything the engine can verify by itself. Slow: it reads the whole file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    fn check(&self) -> Result<Health, StoreError>;
}

/// What [`Store::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Everything verified.
    Sound,
    /// The engine's own bookkeeping was wrong and was rebuilt; no record was lost.
    Repaired,
    /// Readable, but a commit failed: see [`StoreError::Suspect`].
    Suspect,
}

/// Writes that happen together or not at all. The last write of a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push((key.into(), Some(value.into())));
        self
    }

    /// Removes `key`, if it exists.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push((key.into(), None));
        self
    }

    /// Appends the writes of `other`, so that several records become one commit.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.writes.append(&mut other.writes);
        self
    }

    /// Number of writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes in order; `None` deletes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}
