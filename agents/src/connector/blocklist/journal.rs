//! `<path>.journal`: which permits this connector has begun to carry out, under which idempotency key, and whose line has left
//! the blocklist again. A probe after a crash must not take "its time was over" for "it never happened".
//!
//! One line each, oldest first: `<word> <idempotency key> <permit id>`, for some with an address behind it.
//!
//! | word | address | |
//! |---|---|---|
//! | `begun` | | a block; written before the effect, so the blocklist says whether it followed |
//! | `ended` | | a block whose line has left |
//! | `foreign` | yes | a block of what somebody else lists: nothing was done |
//! | `lifting` | yes | an end of blocks; written before the effect |
//! | `lifted` | yes | an end of blocks that happened |

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::connector::file::{self, Replaced, Snapshot};
use crate::connector::{ConnectorError, is_id};

/// Records that are kept. A permit must be executed within 15 minutes; nobody approves this many in that time. Counted
/// and not timed, so that a clock that jumps forgets nothing.
const RECORDS_MAX: usize = 4096;

pub(super) struct Journal {
    path: PathBuf,
    read: Snapshot,
    records: VecDeque<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Begun,
    Ended,
    Foreign(IpAddr),
    Lifting(IpAddr),
    Lifted(IpAddr),
}

pub(super) struct Record {
    what: What,
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
        self.records.iter().any(|r| r.what == What::Ended && r.key == key)
    }

    /// Whether `permit_id` was begun under `key`, as a block.
    pub(super) fn has_begun(&self, key: &str, permit_id: &str) -> bool {
        self.blocks().any(|r| r.key == key && r.permit_id == permit_id)
    }

    /// What else than a block stands under `key`.
    pub(super) fn other(&self, key: &str) -> Option<What> {
        let of_key = self.records.iter().rev().find(|r| r.key == key);
        of_key.map(|r| r.what).filter(|what| !matches!(what, What::Begun | What::Ended))
    }

    /// Whether the block of `permit_id` was begun before the end of blocks under `key`; one that the journal has forgotten was.
    pub(super) fn is_older(&self, permit_id: &str, key: &str) -> bool {
        let place = |of: &dyn Fn(&Record) -> bool| self.records.iter().position(of);
        let block = place(&|r| r.permit_id == permit_id && matches!(r.what, What::Begun | What::Ended));
        block < place(&|r| r.key == key)
    }

    /// Notes that `permit_id` is about to be carried out under `key`.
    pub(super) fn begin(&mut self, key: &str, permit_id: &str) {
        if !self.has_begun(key, permit_id) {
            self.push(What::Begun, key, permit_id);
        }
    }

    /// Notes something that is no block, in the place of what was noted under `key` before.
    pub(super) fn note(&mut self, what: What, key: &str, permit_id: &str) {
        match self.records.iter_mut().find(|r| r.key == key) {
            Some(record) => record.what = what,
            None => self.push(what, key, permit_id),
        }
    }

    /// Notes that the line of `permit_id` is about to leave the blocklist.
    pub(super) fn end(&mut self, permit_id: &str) {
        let blocks = self.records.iter_mut().filter(|r| r.what == What::Begun && r.permit_id == permit_id);
        blocks.for_each(|r| r.what = What::Ended);
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

    fn blocks(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|r| matches!(r.what, What::Begun | What::Ended))
    }

    fn push(&mut self, what: What, key: &str, permit_id: &str) {
        self.records.push_back(Record { what, key: key.to_owned(), permit_id: permit_id.to_owned() });
    }
}

impl Record {
    fn line(&self) -> String {
        let Self { what, key, permit_id } = self;
        match what {
            What::Begun => format!("begun {key} {permit_id}\n"),
            What::Ended => format!("ended {key} {permit_id}\n"),
            What::Foreign(address) => format!("foreign {key} {permit_id} {address}\n"),
            What::Lifting(address) => format!("lifting {key} {permit_id} {address}\n"),
            What::Lifted(address) => format!("lifted {key} {permit_id} {address}\n"),
        }
    }

    fn parse(line: &str) -> Option<Record> {
        let words: Vec<&str> = line.split(' ').collect();
        let what = match words[..] {
            ["begun", _, _] => What::Begun,
            ["ended", _, _] => What::Ended,
            ["foreign", _, _, address] => What::Foreign(address.parse().ok()?),
            ["lifting", _, _, address] => What::Lifting(address.parse().ok()?),
            ["lifted", _, _, address] => What::Lifted(address.parse().ok()?),
            _ => return None,
        };
        let [_, key, permit_id, ..] = words[..] else { return None };
        let record = Record { what, key: key.to_owned(), permit_id: permit_id.to_owned() };
        (is_id(key) && is_id(permit_id)).then_some(record)
    }
}
