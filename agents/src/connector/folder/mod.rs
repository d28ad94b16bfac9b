//! A folder of managed files: small texts, configuration above all, that are replaced whole.
//!
//! Every file has a version, `sha256:` and the hash of its bytes, or `absent`. A permit names the one it was given for, and the
//! effect happens only on that one: the comparison is made at the effect, under the folder's lock. Between that last look and
//! the system call there are microseconds in which an edit by somebody who does not lock is lost.
//!
//! In the folder stands a directory `.cauldron`, which nobody else may read: `folder.owner` names the one node that may
//! write here (one line, its SPIFFE ID) and carries the lock against a second process; `journal` says what was begun and done, by
//! idempotency key; `copies/<key>` is what stood in a file before the action of that key; `stage/<key>` is what is about to be
//! moved into place, or was moved out of it. Because one rename makes an effect real and moves the staged file, a crash at any
//! point leaves a trace that tells whether it happened. To hand the folder to another node, stop the first one and remove
//! `.cauldron/folder.owner`.

mod copies;
mod deed;
mod journal;
mod place;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use cauldron_coordinator::action::{
    Action, ActionError, OP_FILE_DELETE, OP_FILE_READ, OP_FILE_RESTORE, OP_FILE_WRITE, Resource,
};
use cauldron_coordinator::bodies::Blast;
use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
use cauldron_identity::SpiffeId;
use cauldron_identity::ids::sha256;

use super::sandbox;
use super::{
    ABSENT, Connector, ConnectorError, DryRun, Effect, Ended, FaultHook, Fencing, Held, Limits, Outcome, Probe,
    Reading, diff, file,
};
use copies::Copies;
use deed::Deed;
use journal::{Journal, State, Verb};
use place::{Dir, Found};

/// Third part of a resource `<site>/<node>/folder/<path>`.
pub const NAME: &str = "folder";
/// Label of what was read from a managed file: others may have written it.
pub const TAINT_FILE: &str = "untrusted:file";
/// The check after a write: the file's bytes are those that were written.
pub const CHECK_CONTENT: &str = "content";

/// Bytes of one file: a configuration file is far smaller, and a proposal carries the whole of it.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The hidden directory.
const HOME: &str = ".cauldron";
const PATH_BYTES_MAX: usize = 256;

/// The connector for one folder, which it holds locked while it lives.
pub struct Folder {
    path: PathBuf,
    root: Dir,
    home: Dir,
    stage: Dir,
    copies: Copies,
    fault: FaultHook,
    /// Lock on `.cauldron/folder.owner`; released when dropped or when the process dies.
    _lock: File,
}

/// A file's directory, its name there, and what stands there now.
struct Seen {
    dir: Dir,
    name: String,
    found: Option<Found>,
}

impl Folder {
    /// Claims the folder at `path` for the node `owner`, and finishes what a crash left half done.
    ///
    /// # Errors
    /// There is no such folder, it is a symbolic link, it cannot be written, another node owns it, or another process of
    /// this node holds it.
    pub fn open(path: impl Into<PathBuf>, owner: &SpiffeId, fault: FaultHook) -> Result<Self, ConnectorError> {
        let path = path.into();
        let root = Dir::open(&path)?;
        let home = root.make(HOME)?;
        let lock = file::claim(&marked(&path), &owner.to_string()).map_err(|e| of_folder(e, &path))?;
        let (stage, copies) = (home.make("stage")?, Copies(home.make("copies")?));
        let folder = Self { path, root, home, stage, copies, fault, _lock: lock };
        folder.recover()?;
        Ok(folder)
    }

    /// Whether [`Folder::open`] would succeed, as far as can be seen without claiming or locking anything.
    ///
    /// # Errors
    /// As [`Folder::open`], but for the lock.
    pub fn examine(path: &Path, owner: &SpiffeId) -> Result<(), ConnectorError> {
        let root = Dir::open(path)?;
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(ConnectorError::io("write in", path))?;
        if root.stat(HOME)?.is_none() {
            return Ok(());
        }
        root.enter(HOME)?;
        file::is_claimed_by(&marked(path), &owner.to_string()).map(drop).map_err(|e| of_folder(e, path))
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands at `object`.
    fn see(&self, object: &str) -> Result<Seen, ConnectorError> {
        let outside = || ConnectorError::Outside { folder: self.path.clone(), object: object.to_owned() };
        let is_name = |part: &&str| {
            !part.is_empty() && !part.starts_with('.') && !part.chars().any(|c| c == '\\' || c.is_control())
        };
        if object.len() > PATH_BYTES_MAX || !object.split('/').all(|part| is_name(&part)) {
            return Err(outside());
        }
        let (above, name) = object.rsplit_once('/').map_or((None, object), |(above, name)| (Some(above), name));
        let mut dir = Dir::open(&self.path)?;
        if !place::same_place(&dir, &self.root)? {
            // Somebody put another folder there: what we hold is not what the firewall, say, reads.
            return Err(ConnectorError::NoFolder { path: self.path.clone() });
        }
        for part in above.into_iter().flat_map(|above| above.split('/')) {
            dir = dir.enter(part).map_err(|e| match e {
                ConnectorError::NoDirectory { directory, .. } => {
                    ConnectorError::NoDirectory { directory, path: self.path.join(object) }
                }
                other => other,
            })?;
        }
        let found = dir.read(name, FILE_BYTES_MAX)?;
        if found.as_ref().is_some_and(|found| std::str::from_utf8(&found.bytes).is_err()) {
            return Err(ConnectorError::NotText { path: self.path.join(object) });
        }
        Ok(Seen { dir, name: name.to_owned(), found })
    }

    fn look_for(&self, key: &str) -> Result<Probe, ConnectorError> {
        let journal = Journal::read(&self.home)?;
        let Some(record) = journal.get(key) else { return Ok(Probe::Absent) };
        Ok(match (self.happened(record)?, record.state) {
            (false, _) => Probe::Absent,
            (true, State::Undone) => Probe::Ended,
            (true, _) => Probe::Applied,
        })
    }

    fn holds(&self, key: &str) -> Result<Held, ConnectorError> {
        let journal = Journal::read(&self.home)?;
        let Some(record) = journal.get(key) else {
            return Ok(Held::No("there is no trace of such an action".into()));
        };
        let found = match self.see(&record.path) {
            Ok(seen) => seen.version(),
            Err(error @ ConnectorError::Io { .. }) => return Err(error),
            Err(error) => return Ok(Held::No(error.to_string())),
        };
        let (path, after) = (&record.path, &record.after);
        Ok(if found == *after {
            Held::Yes(format!("{path} is at {after}, as written"))
        } else {
            Held::No(format!("{path} is at {found}; {after} was written"))
        })
    }

    /// What `action` would put in the place of the file, none being nothing.
    fn wanted(&self, action: &Action, seen: &Seen) -> Result<Option<Vec<u8>>, ConnectorError> {
        match action.operation() {
            OP_FILE_WRITE => {
                let text = action.args().get("text").and_then(serde_json::Value::as_str).unwrap_or_default();
                if text.len() as u64 > FILE_BYTES_MAX {
                    let path = self.path.join(action.object());
                    return Err(ConnectorError::TooLarge { path, bytes_max: FILE_BYTES_MAX });
                }
                Ok(Some(text.as_bytes().to_vec()))
            }
            OP_FILE_RESTORE => self.before(action.object(), &seen.version()),
            OP_FILE_DELETE if seen.found.is_none() => {
                Err(ConnectorError::refused(format!("there is no {}", self.path.join(action.object()).display())))
            }
            OP_FILE_DELETE => Ok(None),
            other => Err(ConnectorError::refused(format!("{other} is nothing that changes a file"))),
        }
    }

    /// What stood at `path` before the newest action of ours that made it `version`.
    fn before(&self, path: &str, version: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
        let journal = Journal::read(&self.home)?;
        let led_here = |r: &&journal::Record| {
            r.path == path
                && r.after == version
                && r.state == State::Done
                && matches!(r.verb, Verb::Write | Verb::Restore)
        };
        match journal.newest().find(led_here) {
            Some(record) => self.copies.read(record, &self.path.join(path)),
            None => Err(ConnectorError::NoCopy {
                path: self.path.join(path),
                why: "no action of this connector made it what it is now",
            }),
        }
    }

    fn take_back(&self, key: &str, object: &str) -> Result<Outcome, ConnectorError> {
        let mut journal = Journal::read(&self.home)?;
        let record = journal.get(key).filter(|record| record.path == object).cloned();
        let Some(record) = record else {
            return Err(ConnectorError::refused(format!("nothing was done to {object} under this permit")));
        };
        if !self.happened(&record)? {
            return Err(ConnectorError::refused(format!("what was to be done to {object} never happened")));
        }
        let found = self.see(object)?.version();
        if record.state == State::Undone || found == record.before {
            journal.mark(key, State::Undone);
            journal.save(&self.home)?;
            return Ok(nothing(Effect::NothingThere, object, found));
        }
        if found != record.after {
            return Err(ConnectorError::Changed { path: self.path.join(object), expected: record.after, found });
        }
        let new = self.copies.read(&record, &self.path.join(object))?;
        self.carry_out(&Deed {
            verb: Verb::Undo,
            key: deed::undo_key(key),
            permit: record.permit,
            path: record.path,
            expected: record.after,
            new,
        })
    }
}

impl Seen {
    fn version(&self) -> String {
        version(self.found.as_ref().map(|found| found.bytes.as_slice()))
    }

    fn text(&self) -> Option<&str> {
        self.found.as_ref().and_then(|found| std::str::from_utf8(&found.bytes).ok())
    }
}

/// `sha256:` and the hash of a file's bytes, or [`ABSENT`].
fn version(bytes: Option<&[u8]>) -> String {
    bytes.map_or(ABSENT.to_owned(), |bytes| {
        let hex: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
        format!("sha256:{hex}")
    })
}

fn nothing(effect: Effect, object: &str, at: String) -> Outcome {
    let effect_ref = format!("{object} at {at}");
    Outcome { effect, effect_ref, until_ms: None, before: at.clone(), after: at, replaced: None, told: Vec::new() }
}

/// What the owner's marker is named after.
fn marked(folder: &Path) -> PathBuf {
    folder.join(HOME).join(NAME)
}

/// Errors of the marker are about the folder.
fn of_folder(error: ConnectorError, folder: &Path) -> ConnectorError {
    match error {
        ConnectorError::OwnedByAnother { marker, found, us, .. } => {
            ConnectorError::OwnedByAnother { path: folder.to_owned(), marker, found, us }
        }
        ConnectorError::Locked { marker, .. } => ConnectorError::Locked { path: folder.to_owned(), marker },
        other => other,
    }
}

impl Connector for Folder {
    fn name(&self) -> &str {
        NAME
    }

    fn operations(&self) -> &[&'static str] {
        &[OP_FILE_READ, OP_FILE_WRITE, OP_FILE_RESTORE, OP_FILE_DELETE]
    }

    fn fencing(&self) -> Fencing {
        Fencing::Local
    }

    fn sandboxes(&self) -> &[&'static str] {
        &[sandbox::NET_NONE, sandbox::PATH, sandbox::BYTES]
    }

    fn version(&self, object: &str) -> Result<Option<String>, ConnectorError> {
        self.see(object).map(|seen| Some(seen.version()))
    }

    fn dry_run(&self, action: &Action, _: u64) -> Result<DryRun, ConnectorError> {
        let seen = self.see(action.object())?;
        let blast = |what: &str, n| Blast { what: what.to_owned(), n };
        if action.operation() == OP_FILE_READ {
            let bytes = seen.found.map_or(0, |found| found.bytes.len() as u64);
            return Ok(DryRun { text: format!("reads {bytes} bytes\n"), blast: vec![blast("bytes", bytes)] });
        }
        let new = self.wanted(action, &seen)?;
        let new = new.as_deref().map(String::from_utf8_lossy);
        let copies = match action.operation() {
            OP_FILE_DELETE => self.copies.of(&Journal::read(&self.home)?, action.object())?,
            _ => 0,
        };
        let last = if copies > 0 { format!("(and {copies} kept copies of it)\n") } else { String::new() };
        let room = DryRun::TEXT_BYTES_MAX - last.len();
        let text = diff::unified(seen.text(), new.as_deref(), action.object(), room) + &last;
        let mut reaches = vec![blast("files", 1)];
        reaches.extend((copies > 0).then(|| blast("copies", copies)));
        Ok(DryRun { text, blast: reaches })
    }

    fn read(&self, action: &Action) -> Result<Reading, ConnectorError> {
        if action.operation() != OP_FILE_READ || action.connector() != NAME {
            return Err(ConnectorError::refused(format!("{} is nothing that a folder reads", action.operation())));
        }
        let found = self.see(action.object())?.found;
        let found = found.ok_or_else(|| {
            ConnectorError::refused(format!("there is no {}", self.path.join(action.object()).display()))
        })?;
        Ok(Reading { bytes: found.bytes, labels: vec![TAINT_FILE.to_owned()] })
    }

    fn execute(&mut self, permit: &VerifiedPermit, now_ms: u64) -> Result<Outcome, ConnectorError> {
        let (action, key) = (permit.action(), permit.idempotency_key());
        let object: Resource =
            permit.resource().parse().map_err(|e: ActionError| ConnectorError::refused(e.to_string()))?;
        if action.connector() != NAME || object.connector != NAME || object.object != action.object() {
            let why = format!("{} on {} is nothing that a folder does", action.operation(), permit.resource());
            return Err(ConnectorError::Refused { why });
        }
        let expected = permit.expected_version().ok_or_else(|| ConnectorError::refused("it names no version"))?;
        // Done before is done: the deadline is for starting.
        if self.look_for(&key)? == Probe::Absent && now_ms > permit.execute_by_ms() {
            return Err(ConnectorError::refused("the time within which the permit had to be carried out is over"));
        }
        let limits = Limits::parse(permit.sandbox(), self.sandboxes())?;
        limits.admit(action)?;
        self.act_within(action, &key, &permit.permit().to_string(), expected, &limits)
    }

    fn probe(&self, idempotency_key: &str) -> Result<Probe, ConnectorError> {
        self.look_for(idempotency_key)
    }

    fn check(&self, idempotency_key: &str, name: &str) -> Result<Held, ConnectorError> {
        match name {
            CHECK_CONTENT => self.holds(idempotency_key),
            other => Err(ConnectorError::refused(format!("a folder has no check {other:?}; it has {CHECK_CONTENT}"))),
        }
    }

    fn undo(&mut self, undo: &VerifiedUndo, _: u64) -> Result<Outcome, ConnectorError> {
        if undo.action().operation() != OP_FILE_RESTORE || undo.action().connector() != NAME {
            let why = format!("{} is nothing that a folder takes back", undo.action().operation());
            return Err(ConnectorError::Refused { why });
        }
        self.take_back(undo.undoes(), undo.action().object())
    }

    fn sweep(&mut self, _: u64) -> Result<Vec<Ended>, ConnectorError> {
        Ok(Vec::new())
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).finish_non_exhaustive()
    }
}
