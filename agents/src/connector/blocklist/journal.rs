//! `<path>.journal`: which permits this connector has begun to carry out, under which idempotency key, and whose line has left
//! the blocklist again. A probe after a crash must not take "its time was over" for "it never happened".
//!
//! One line each, oldest first: `begun <idempotency key> <permit id>` or `ended <idempotency key> <permit id>`. `begun` alone
//! proves nothing: it is written before the effect, and the blocklist says whether the effect followed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::file::{self, Replaced, Snapshot};
use super::text::is_permit_id;
use crate::connector::ConnectorError;

/// Records that are kept. A permit must be executed within 15 minutes; nobody approves this many in that time. Counted
/// and not timed, so that a clock that jumps forgets nothing.
const RECORDS_MAX: usize = 4096;

pub(super) struct Journal {
    path: PathBuf,
    read: Snapshot,
    records: VecDeque<Record>,
}

struct Record {
    ended: bool,
    key: String,
    permit_id: String,
}

impl Journal {
    /// Reads the journal of the blocklist at `blocklist`.
    pub(super) fn read(blocklist: &Path) -> Result<Self, ConnectorError> {
        let path = file::suffixed(blocklist, ".journal");
        let read = file::read(&path)?;
        let records = String::from_utf8_lossy(&read.bytes).lines().filter_map(Record::parse).collect();
        Ok(Journal { path, read, records })
    }

    /// Whether a permit under `key` was carried out and its line has left the blocklist.
    pub(super) fn has_ended(&self, key: &str) -> bool {
        self.records.iter().any(|r| r.ended && r.key == key)
    }

    /// Whether `permit_id` was begun under `key`.
    pub(super) fn has_begun(&self, key: &str, permit_id: &str) -> bool {
        self.records.iter().any(|r| r.key == key && r.permit_id == permit_id)
    }

    /// Notes that `permit_id` is about to be carried out under `key`.
    pub(super) fn begin(&mut self, key: &str, permit_id: &str) {
        if !self.has_begun(key, permit_id) {
            self.records.push_back(Record { ended: false, key: key.to_owned(), permit_id: permit_id.to_owned() });
        }
    }

    /// Notes that the line of `permit_id` is about to leave the blocklist.
    pub(super) fn end(&mut self, permit_id: &str) {
        self.records.iter_mut().filter(|r| r.permit_id == permit_id).for_each(|r| r.ended = true);
    }

    /// Makes the notes durable; must return before the blocklist is changed.
    pub(super) fn save(mut self) -> Result<(), ConnectorError> {
        let surplus = self.records.len().saturating_sub(RECORDS_MAX);
        self.records.drain(..surplus);
        let text: String = self.records.iter().map(Record::line).collect();
        match file::replace(&self.path, &self.read, text.as_bytes(), || {}, || {})? {
            Replaced::Yes => Ok(()),
            Replaced::ChangedMeanwhile => Err(ConnectorError::Contended { path: self.path }),
        }
    }
}

impl Record {
    fn line(&self) -> String {
        format!("{} {} {}\n", if self.ended { "ended" } else { "begun" }, self.key, self.permit_id)
    }

    fn parse(line: &str) -> Option<Record> {
        let mut words = line.split(' ');
        let ended = match words.next()? {
            "ended" => true,
            "begun" => false,
            _ => return None,
        };
        let mut id = || words.next().filter(|id| is_permit_id(id)).map(str::to_owned);
        let (key, permit_id) = (id()?, id()?);
        words.next().is_none().then_some(Record { ended, key, permit_id })
    }
}
