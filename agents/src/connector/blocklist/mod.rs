//! The blocklist file: one line per blocked address, for a firewall or a daemon to read.
//!
//! `198.51.100.7 # until 2026-11-22T10:00:00Z permit <id>`: only lines of exactly this spelling are ours. All other bytes of
//! the file are kept as they are.
//!
//! Beside the file stand `<path>.owner`, which names the one node that may write it (one line, its SPIFFE ID) and carries the
//! lock against a second process, and `<path>.journal`: the permits begun and ended, by idempotency key. To hand the file to another node,
//! stop the first one and remove `<path>.owner`.

mod journal;
mod lift;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cauldron_coordinator::action::{
    Action, ActionError, OP_ADDRESS_BLOCK, OP_ADDRESS_UNBLOCK, OP_BLOCKLIST_READ, Resource,
};
use cauldron_coordinator::bodies::Blast;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_identity::SpiffeId;
use cauldron_identity::ids::sha256;

pub use super::FaultHook;
use super::file::{self, Replaced, Snapshot};
use super::{
    Connector, ConnectorError, DryRun, Effect, Ended, EndedWhy, Fencing, Held, Limits, Outcome, Probe, Reading, is_id,
    sandbox,
};
use crate::net::{canonical, never_a_target};
use journal::{Journal, What};
use lift::Lift;
pub use text::Entry;

/// Third part of a resource `<site>/<node>/blocklist/<address>`.
pub const NAME: &str = "blocklist";

/// The check after a block: the address is listed.
pub const CHECK_LISTED: &str = "listed";
/// The check after the end of a block: no line of ours lists the address.
pub const CHECK_UNLISTED: &str = "unlisted";

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
struct Block {
    address: IpAddr,
    ttl_s: u64,
    permit_id: String,
    idempotency_key: String,
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
        file::read(&path)?;
        let lock = file::claim(&path, &owner.to_string())?;
        Ok(Blocklist { path, fault, _lock: lock })
    }

    /// Whether [`Blocklist::open`] would succeed, as far as can be seen without claiming or locking anything.
    ///
    /// # Errors
    /// As [`Blocklist::open`], but for the lock.
    pub fn examine(path: &Path, owner: &SpiffeId) -> Result<(), ConnectorError> {
        let directory = file::directory(path);
        if !directory.is_dir() {
            return Err(ConnectorError::NoDirectory { directory: directory.to_owned(), path: path.to_owned() });
        }
        file::read(path)?;
        file::is_claimed_by(path, &owner.to_string()).map(drop)
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

    fn apply(&mut self, block: &Block, now_ms: u64) -> Result<Outcome, ConnectorError> {
        let address = canonical(block.address);
        if never_a_target(address) {
            return Err(ConnectorError::Refused {
                why: format!("{address} is this host, a link or a group, never one stranger"),
            });
        }
        for id in [&block.permit_id, &block.idempotency_key] {
            if !is_id(id) {
                return Err(ConnectorError::Refused {
                    why: format!("`{}` cannot stand in the file as an id", id.escape_debug()),
                });
            }
        }
        for _ in 0..ATTEMPTS_MAX {
            let old = file::read(&self.path)?;
            if let Some(outcome) = self.nothing_to_do(&old, address, block)? {
                return Ok(outcome);
            }
            if let Some(outcome) = self.try_block(&old, address, block, now_ms)? {
                return Ok(outcome);
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    fn look_for(&self, idempotency_key: &str) -> Result<Probe, ConnectorError> {
        let journal = Journal::read(&self.path)?;
        if let Some(probe) = self.look_for_lift(&journal, idempotency_key)? {
            return Ok(probe);
        }
        let present = self.entries()?.iter().any(|e| journal.has_begun(idempotency_key, &e.permit_id));
        Ok(match (present, journal.has_ended(idempotency_key)) {
            (true, _) => Probe::Applied,
            (false, true) => Probe::Ended,
            (false, false) => Probe::Absent,
        })
    }

    fn remove_expired(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError> {
        for _ in 0..ATTEMPTS_MAX {
            let old = file::read(&self.path)?;
            let mut expired = text::entries(&old.bytes);
            expired.retain(|e| e.until_ms <= now_ms);
            if expired.is_empty() {
                return Ok(Vec::new());
            }
            let mut journal = Journal::read(&self.path)?;
            expired.iter().for_each(|e| journal.end(&e.permit_id));
            let ended = expired.into_iter().map(|e| ended(e, EndedWhy::Expired)).collect();
            journal.save()?;
            let new = text::without(&old.bytes, |e| e.until_ms <= now_ms);
            if file::replace(&self.path, &old, &new, || {}, || (self.fault)("effect.ended"))? == Replaced::Yes {
                return Ok(ended);
            }
        }
        Err(ConnectorError::Contended { path: self.path.clone() })
    }

    /// The outcome when this was carried out before, or when somebody else lists the address.
    fn nothing_to_do(&self, old: &Snapshot, address: IpAddr, block: &Block) -> Result<Option<Outcome>, ConnectorError> {
        let mut journal = Journal::read(&self.path)?;
        let at = version(&old.bytes);
        let outcome = |effect, effect_ref, until_ms| {
            let (before, after, told) = (at.clone(), at.clone(), Vec::new());
            Some(Outcome { effect, effect_ref, until_ms, before, after, replaced: None, told })
        };
        let key = &block.idempotency_key;
        let same = |e: &Entry| e.permit_id == block.permit_id || journal.has_begun(key, &e.permit_id);
        if let Some(entry) = text::entries(&old.bytes).into_iter().find(same) {
            return Ok(outcome(Effect::AlreadyApplied, entry.line(), Some(entry.until_ms)));
        }
        if journal.has_ended(key) {
            return Ok(outcome(Effect::AlreadyEnded, format!("permit {}", block.permit_id), None));
        }
        let Some(n) = text::foreign_line_with(&old.bytes, address) else { return Ok(None) };
        journal.note(What::Foreign(address), key, &block.permit_id);
        journal.save()?;
        Ok(outcome(Effect::AlreadyListed, format!("{}:{n}", self.path.display()), None))
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
        let mut journal = Journal::read(&self.path)?;
        journal.begin(&block.idempotency_key, &block.permit_id);
        let replaces = previous.map(|previous| {
            journal.end(&previous.permit_id);
            ended(previous, EndedWhy::Replaced)
        });
        journal.save()?;
        let new = text::with(&old.bytes, &entry);
        let replaced =
            file::replace(&self.path, old, &new, || (self.fault)("effect.before"), || (self.fault)("effect.after"))?;
        Ok((replaced == Replaced::Yes).then(|| Outcome {
            effect: Effect::Applied,
            effect_ref: entry.line(),
            until_ms: Some(until_ms),
            before: version(&old.bytes),
            after: version(&new),
            replaced: replaces,
            told: Vec::new(),
        }))
    }
}

fn ended(entry: Entry, why: EndedWhy) -> Ended {
    Ended {
        object: entry.address.to_string(),
        effect_ref: entry.line(),
        until_ms: entry.until_ms,
        why,
        permit_id: entry.permit_id,
    }
}

/// The file's version, for the record: the addresses in it have none.
fn version(bytes: &[u8]) -> String {
    let hex: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

impl Connector for Blocklist {
    fn name(&self) -> &str {
        NAME
    }

    fn operations(&self) -> &[&'static str] {
        &[OP_ADDRESS_BLOCK, OP_ADDRESS_UNBLOCK, OP_BLOCKLIST_READ]
    }

    fn fencing(&self) -> Fencing {
        Fencing::Local
    }

    fn sandboxes(&self) -> &[&'static str] {
        &[sandbox::NET_NONE, sandbox::TTL_S]
    }

    fn version(&self, _: &str) -> Result<Option<String>, ConnectorError> {
        Ok(None)
    }

    fn dry_run(&self, action: &Action, now_ms: u64) -> Result<DryRun, ConnectorError> {
        let blast = |what: &str, n| vec![Blast { what: what.to_owned(), n }];
        if action.operation() == OP_BLOCKLIST_READ {
            let n = self.entries()?.len() as u64;
            return Ok(DryRun { text: format!("reads {n} lines\n"), blast: blast("lines", n) });
        }
        let file = file::read(&self.path)?.bytes;
        let address = address_of(action)?;
        let ours = text::entries(&file).into_iter().find(|entry| entry.address == address);
        let foreign = text::foreign_line_with(&file, address);
        let mut text = String::new();
        match (action.operation(), foreign) {
            (OP_ADDRESS_BLOCK, Some(n)) if ours.is_none() => {
                text = format!("(nothing changes: line {n}, which is somebody else's, lists it already)\n");
            }
            (OP_ADDRESS_BLOCK, _) => {
                let until_ms = now_ms.saturating_add(ttl_s_of(action).saturating_mul(1000));
                let until_ms = ours.as_ref().map_or(until_ms, |entry| entry.until_ms.max(until_ms));
                text.extend(ours.map(|entry| format!("-{}\n", entry.line())));
                text.push_str(&format!("+{address} # until {} permit …\n", text::utc_seconds(until_ms)));
            }
            _ => {
                text.push_str(&match ours {
                    Some(entry) => format!("-{}\n", entry.line()),
                    None => "(nothing changes: no line of this node lists it)\n".to_owned(),
                });
                text.extend(foreign.map(|n| format!("({})\n", lift::left_alone(n))));
            }
        }
        Ok(DryRun { text, blast: blast("addresses", 1) })
    }

    fn read(&self, action: &Action) -> Result<Reading, ConnectorError> {
        if action.operation() != OP_BLOCKLIST_READ || action.connector() != NAME {
            return Err(ConnectorError::refused(format!("{} is nothing that a blocklist reads", action.operation())));
        }
        let line = |entry: Entry| {
            let until = text::utc_seconds(entry.until_ms);
            serde_json::json!({ "address": entry.address, "until": until, "permit": entry.permit_id })
        };
        let lines: serde_json::Value = self.entries()?.into_iter().map(line).collect();
        Ok(Reading { bytes: lines.to_string().into_bytes(), labels: Vec::new() })
    }

    fn execute(&mut self, permit: &VerifiedPermit, now_ms: u64) -> Result<Outcome, ConnectorError> {
        let key = permit.idempotency_key();
        let address = asked(permit)?;
        Limits::parse(permit.sandbox(), self.sandboxes())?.admit(permit.action())?;
        // Done before is done: the deadline is for starting.
        if now_ms > permit.execute_by_ms() && self.look_for(&key)? == Probe::Absent {
            return Err(ConnectorError::Refused {
                why: "the time within which the permit had to be carried out is over".into(),
            });
        }
        let (permit_id, idempotency_key) = (permit.permit().to_string(), key);
        match permit.action().operation() {
            OP_ADDRESS_BLOCK => {
                let ttl_s = ttl_s_of(permit.action());
                self.apply(&Block { address, ttl_s, permit_id, idempotency_key }, now_ms)
            }
            _ => self.lift(&Lift { address, permit_id, idempotency_key }),
        }
    }

    fn probe(&self, idempotency_key: &str) -> Result<Probe, ConnectorError> {
        self.look_for(idempotency_key)
    }

    fn check(&self, idempotency_key: &str, name: &str) -> Result<Held, ConnectorError> {
        match name {
            CHECK_LISTED => self.is_listed(idempotency_key),
            CHECK_UNLISTED => self.is_unlisted(idempotency_key),
            other => Err(ConnectorError::refused(format!(
                "a blocklist has no check {other:?}; it has {CHECK_LISTED} and {CHECK_UNLISTED}"
            ))),
        }
    }

    fn undo(&mut self, undo: &VerifiedUndo, _: u64) -> Result<Outcome, ConnectorError> {
        if undo.action().operation() != OP_ADDRESS_UNBLOCK || undo.action().connector() != NAME {
            let why = format!("{} is nothing that a blocklist takes back", undo.action().operation());
            return Err(ConnectorError::Refused { why });
        }
        self.take_back(undo.undoes(), address_of(undo.action())?)
    }

    fn sweep(&mut self, now_ms: u64) -> Result<Vec<Ended>, ConnectorError> {
        self.remove_expired(now_ms)
    }
}

fn address_of(action: &Action) -> Result<IpAddr, ConnectorError> {
    let address = action.object().parse().map_err(|_| ConnectorError::refused("its object is no address"))?;
    Ok(canonical(address))
}

fn ttl_s_of(action: &Action) -> u64 {
    // The schema asks for it.
    action.args().get("ttl_s").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The address that a permit asks something of a blocklist for.
fn asked(permit: &VerifiedPermit) -> Result<IpAddr, ConnectorError> {
    let action = permit.action();
    let object: Resource =
        permit.resource().parse().map_err(|e: ActionError| ConnectorError::refused(e.to_string()))?;
    let ours = action.connector() == NAME && object.connector == NAME && object.object == action.object();
    match action.operation() {
        OP_ADDRESS_BLOCK | OP_ADDRESS_UNBLOCK if ours => address_of(action),
        _ => Err(ConnectorError::refused(format!(
            "{} on {} is nothing that this blocklist does",
            action.operation(),
            permit.resource()
        ))),
    }
}

impl std::fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocklist").field("path", &self.path).finish_non_exhaustive()
    }
}
