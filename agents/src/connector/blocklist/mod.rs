//! The blocklist file: one line per blocked address, for a firewall or a daemon to read.
//!
//! `198.51.100.7 # until 2026-11-22T10:00:00Z permit <id>`: only lines of exactly this spelling are ours. All other bytes of
//! the file are kept as they are.
//!
//! Beside the file stand `<path>.owner`, which names the one node that may write it (one line, its SPIFFE ID) and carries the
//! lock against a second process, and `<path>.ended`, the permits whose time is over. To hand the file to another node,
//! stop the first one and remove `<path>.owner`.

mod ended;
mod file;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cauldron_identity::ids::sha256;
use cauldron_identity::{Digest, SpiffeId};

use super::{ConnectorError, Effect, Ended, EndedWhy, Outcome, Probe};
use crate::net::{canonical, never_a_target};
use file::{Replaced, Snapshot};
pub use text::Entry;

/// Called at the named fault points `effect.before` and `effect.after`, right around the rename that makes a block real.
pub type FaultHook = Box<dyn Fn(&str) + Send + Sync>;

/// Attempts to replace a file that others keep editing.
const ATTEMPTS_MAX: usize = 5;

/// The connector for one blocklist file, which it holds locked while it lives.
pub struct Blocklist {
    path: PathBuf,
    fault: FaultHook,
    /// Lock on `<path>.owner`; released when dropped or when the process dies.
    _lock: File,
}

/// What a permit asks for.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) address: IpAddr,
    pub(super) ttl_s: u64,
    pub(super) permit_id: String,
}

impl Blocklist {
    /// Claims the blocklist at `path` for the node `owner`.
    ///
    /// # Errors
    /// The directory is missing, the path is a symlink or no regular file, another node owns the file, or another process
    /// of this node holds it.
    pub fn open(path: impl Into<PathBuf>, owner: &SpiffeId, fault: FaultHook) -> Result<Self, ConnectorError> {
        let path = path.into();
        let directory = file::directory(&path);
        if !directory.is_dir() {
            return Err(ConnectorError::NoDirectory { directory: directory.to_owned(), path });
        }
        let lock = file::claim(&path, &owner.to_string())?;
        file::read(&path)?;
        Ok(Blocklist { path, fault, _lock: lock })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lines of ours that stand in the file now, in file order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, ConnectorError> {
        Ok(text::entries(&file::read(&self.path)?.bytes))
    }

    pub(super) fn apply(&mut self, block: &Block, now_ms: u64) -> Result<Outcome, ConnectorError> {
        let address = canonical(block.address);
        if never_a_target(address) {
            return Err(ConnectorError::Refused {
                why: format!("{address} is this host, a link or a group, never one stranger"),
            });
        }
        if !text::is_permit_id(&block.permit_id) {
            return Err(ConnectorError::Refused {
                why: format!("`{}` cannot be a permit's id", block.permit_id.escape_debug()),
            });
        }
        for _ in 0..ATTEMPTS_MAX {
            let old = file::read(&self.path)?;
            if let Some(outcome) = self.nothing_to_do(&old, address, &block.permit_id)? {
                return Ok(outcome);
            }
            if let Some(outcome) = self.try_block(&old, address, block, now_ms)? {
                return Ok(outcome);
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    pub(super) fn look_for(&self, permit_id: &str) -> Result<Probe, ConnectorError> {
        let present = self.entries()?.iter().any(|e| e.permit_id == permit_id);
        let applied = present || ended::contains(&self.path, permit_id)?;
        Ok(if applied { Probe::Applied } else { Probe::Absent })
    }

    pub(super) fn remove_expired(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError> {
        for _ in 0..ATTEMPTS_MAX {
            let old = file::read(&self.path)?;
            let mut expired = text::entries(&old.bytes);
            expired.retain(|e| e.until_ms <= now_ms);
            if expired.is_empty() {
                return Ok(Vec::new());
            }
            let ids: Vec<String> = expired.iter().map(|e| e.permit_id.clone()).collect();
            ended::remember(&self.path, &ids, now_ms)?;
            let new = text::without(&old.bytes, |e| e.until_ms <= now_ms);
            if file::replace(&self.path, &old, &new, || {}, || {})? == Replaced::Yes {
                return Ok(expired.into_iter().map(|e| e.ended(EndedWhy::Expired)).collect());
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    /// The outcome when the permit was carried out before, or when somebody else lists the address.
    fn nothing_to_do(
        &self,
        old: &Snapshot,
        address: IpAddr,
        permit_id: &str,
    ) -> Result<Option<Outcome>, ConnectorError> {
        let version = Digest::from_bytes(sha256(&old.bytes));
        let outcome = |effect, effect_ref, until_ms| Outcome {
            effect,
            effect_ref,
            until_ms,
            before: version,
            after: version,
            replaced: None,
        };
        if let Some(entry) = text::entries(&old.bytes).into_iter().find(|e| e.permit_id == permit_id) {
            return Ok(Some(outcome(Effect::AlreadyApplied, entry.line(), Some(entry.until_ms))));
        }
        if ended::contains(&self.path, permit_id)? {
            return Ok(Some(outcome(Effect::AlreadyEnded, format!("permit {permit_id}"), None)));
        }
        let foreign = text::foreign_line_with(&old.bytes, address);
        Ok(foreign.map(|n| outcome(Effect::AlreadyListed, format!("{}:{n}", self.path.display()), None)))
    }

    /// `None`: the file changed under our hands, look again.
    fn try_block(
        &mut self,
        old: &Snapshot,
        address: IpAddr,
        block: &Block,
        now_ms: u64,
    ) -> Result<Option<Outcome>, ConnectorError> {
        let until_ms = now_ms.saturating_add(block.ttl_s.saturating_mul(1000)).div_ceil(1000).saturating_mul(1000);
        let previous = text::entries(&old.bytes).into_iter().find(|e| e.address == address);
        // A second permit for the same address never shortens the first.
        let until_ms = previous.as_ref().map_or(until_ms, |p| p.until_ms.max(until_ms));
        let entry = Entry { address, until_ms, permit_id: block.permit_id.clone() };
        if let Some(previous) = &previous {
            ended::remember(&self.path, std::slice::from_ref(&previous.permit_id), now_ms)?;
        }
        let new = text::with(&old.bytes, &entry);
        let replaced =
            file::replace(&self.path, old, &new, || (self.fault)("effect.before"), || (self.fault)("effect.after"))?;
        Ok((replaced == Replaced::Yes).then(|| Outcome {
            effect: Effect::Applied,
            effect_ref: entry.line(),
            until_ms: Some(until_ms),
            before: Digest::from_bytes(sha256(&old.bytes)),
            after: Digest::from_bytes(sha256(&new)),
            replaced: previous.map(|p| p.ended(EndedWhy::Replaced)),
        }))
    }
}

impl Entry {
    fn ended(self, why: EndedWhy) -> Ended {
        Ended { idempotency_key: self.permit_id, object: self.address.to_string(), until_ms: self.until_ms, why }
    }
}

impl std::fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocklist").field("path", &self.path).finish_non_exhaustive()
    }
}
