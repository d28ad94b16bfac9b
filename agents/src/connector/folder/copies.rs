//! `.cauldron/copies`: what stood in a file before an action, under the action's idempotency key.

use std::collections::BTreeMap;
use std::path::Path;

use super::journal::{Journal, Record};
use super::place::Dir;
use super::{FILE_BYTES_MAX, version};
use crate::connector::{ABSENT, ConnectorError};

/// Copies that are kept, over all files.
pub(super) const COPIES_MAX: usize = 256;
/// Bytes of all copies; 256 of the largest files.
pub(super) const BYTES_MAX: u64 = COPIES_MAX as u64 * FILE_BYTES_MAX;

pub(super) struct Copies(pub(super) Dir);

impl Copies {
    /// Keeps what stands in a file before the deed of `record`, and drops the oldest copies beyond the limits. Returns a sentence
    /// for each that was dropped.
    pub(super) fn keep(&self, journal: &Journal, record: &Record, bytes: &[u8]) -> Result<Vec<String>, ConnectorError> {
        self.0.write_new(&record.key, bytes, None)?;
        let age: BTreeMap<&str, (usize, &Record)> =
            journal.newest().enumerate().map(|(n, r)| (r.key.as_str(), (n, r))).collect();
        let mut all = Vec::new();
        for name in self.0.names()?.into_iter().filter(|name| *name != record.key) {
            let size = self.0.stat(&name)?.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            // What the journal has forgotten is older than all it knows.
            all.push((age.get(name.as_str()).map_or(usize::MAX, |(n, _)| *n), name, size));
        }
        all.sort();
        let (mut count, mut sum, mut told) = (1, bytes.len() as u64, Vec::new());
        for (_, name, size) in all {
            (count, sum) = (count + 1, sum + size);
            if count > COPIES_MAX || sum > BYTES_MAX {
                self.drop(&name)?;
                let path = age.get(name.as_str()).map_or("a file", |(_, record)| record.path.as_str());
                told.push(format!(
                    "the oldest copy of {path} was dropped: {COPIES_MAX} copies of {BYTES_MAX} bytes are kept"
                ));
            }
        }
        Ok(told)
    }

    /// What stood at `path` before the deed of `record`, none being nothing.
    pub(super) fn read(&self, record: &Record, path: &Path) -> Result<Option<Vec<u8>>, ConnectorError> {
        if record.before == ABSENT {
            return Ok(None);
        }
        let lost = |why| ConnectorError::NoCopy { path: path.to_owned(), why };
        let found = self.0.read(&record.key, FILE_BYTES_MAX)?;
        let bytes = found.ok_or_else(|| lost("its copy was dropped, as the oldest of too many"))?.bytes;
        if version(Some(&bytes)) != record.before {
            return Err(lost("its copy is damaged"));
        }
        Ok(Some(bytes))
    }

    /// How many copies of `path` there are.
    pub(super) fn of(&self, journal: &Journal, path: &str) -> Result<u64, ConnectorError> {
        let mut count = 0;
        for record in journal.newest().filter(|record| record.path == path) {
            count += u64::from(self.0.stat(&record.key)?.is_some());
        }
        Ok(count)
    }

    /// Drops every copy of a file that is older than its deletion.
    pub(super) fn purge(&self, journal: &Journal, deletion: &Record) -> Result<(), ConnectorError> {
        let older = journal.newest().skip_while(|record| record.key != deletion.key);
        for record in older.filter(|record| record.path == deletion.path) {
            self.0.remove(&record.key)?;
        }
        self.0.sync()
    }

    pub(super) fn drop(&self, key: &str) -> Result<(), ConnectorError> {
        self.0.remove(key)
    }
}
