//! Reading and replacing a file that others edit, too.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::ConnectorError;

/// Largest file that is read; a blocklist of this size has 200,000 lines and wants another connector.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Mode of a file that did not exist before.
const NEW_FILE_MODE: u32 = 0o644;

/// What stood in a file, and which file it was.
pub(super) struct Snapshot {
    pub(super) bytes: Vec<u8>,
    /// `None`: there was no file.
    meta: Option<Metadata>,
}

/// How a replacement ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    Yes,
    /// Somebody changed the file since it was read; nothing was done.
    ChangedMeanwhile,
}

/// Reads `path` without following a symlink and without waiting. A missing file is an empty one.
pub(super) fn read(path: &Path) -> Result<Snapshot, ConnectorError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Snapshot { bytes: Vec::new(), meta: None }),
        // What the system says of it ("too many levels") would only mislead.
        Err(_) if fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) => {
            return Err(ConnectorError::Symlink { path: path.to_owned() });
        }
        Err(error) => return Err(ConnectorError::io("open", path)(error)),
    };
    let meta = file.metadata().map_err(ConnectorError::io("look at", path))?;
    if !meta.is_file() {
        return Err(ConnectorError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ConnectorError::io("read", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConnectorError::TooLarge { path: path.to_owned(), bytes_max: FILE_BYTES_MAX });
    }
    Ok(Snapshot { bytes, meta: Some(meta) })
}

/// Puts `bytes` in the place of `old`: a temporary file beside it is written and synced, takes over mode and owner, and is
/// renamed if `path` is still what was read; then the directory is synced. `before` and `after` surround the rename.
///
/// Between the last look and the rename there are microseconds in which an edit by somebody who does not lock is lost.
pub(super) fn replace(
    path: &Path,
    old: &Snapshot,
    bytes: &[u8],
    before: impl FnOnce(),
    after: impl FnOnce(),
) -> Result<Replaced, ConnectorError> {
    let temporary = beside(path, ".tmp");
    write_temporary(&temporary, old.meta.as_ref(), bytes)?;
    before();
    if !unchanged(path, old.meta.as_ref()) {
        fs::remove_file(&temporary).map_err(ConnectorError::io("remove", &temporary))?;
        return Ok(Replaced::ChangedMeanwhile);
    }
    fs::rename(&temporary, path).map_err(ConnectorError::io("replace", path))?;
    sync_directory(path)?;
    after();
    Ok(Replaced::Yes)
}

/// Claims `<path>.owner` for `owner` and locks it until the returned handle is dropped. The file holds one line, the SPIFFE ID;
/// it appears with its content or not at all (written beside, then hard-linked into place).
pub(super) fn claim(path: &Path, owner: &str) -> Result<File, ConnectorError> {
    let marker = suffixed(path, ".owner");
    if !is_claimed_by(path, owner)? {
        // Two nodes may get here at once, so the name is not shared.
        let temporary = beside(&marker, &format!(".{}", std::process::id()));
        write_temporary(&temporary, None, format!("{owner}\n").as_bytes())?;
        let linked = fs::hard_link(&temporary, &marker);
        fs::remove_file(&temporary).map_err(ConnectorError::io("remove", &temporary))?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ConnectorError::io("create", &marker)(error));
            }
            _ => sync_directory(&marker)?,
        }
        is_claimed_by(path, owner)?;
    }
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(&marker).map_err(ConnectorError::io("open", &marker))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ConnectorError::Locked { path: path.to_owned(), marker }),
        Err(error) => Err(ConnectorError::io("lock", &marker)(error)),
    }
}

/// Whether `<path>.owner` names `owner`; false where there is none.
pub(super) fn is_claimed_by(path: &Path, owner: &str) -> Result<bool, ConnectorError> {
    let marker = suffixed(path, ".owner");
    if fs::symlink_metadata(&marker).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(false);
    }
    let found = read(&marker)?;
    let found = String::from_utf8_lossy(&found.bytes).trim_end().to_owned();
    if found == owner {
        return Ok(true);
    }
    let found = crate::proposal::for_display(found.as_bytes(), 256);
    Err(ConnectorError::OwnedByAnother { path: path.to_owned(), marker, found, us: owner.to_owned() })
}

/// `<path><suffix>`
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `<directory>/.<name><suffix>`: hidden, and on the same file system.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// The directory a path lies in; a bare name lies in the working directory.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_temporary(path: &Path, like: Option<&Metadata>, bytes: &[u8]) -> Result<(), ConnectorError> {
    // Left behind by a crash; the lock says that nobody is writing it now.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ConnectorError::io("remove", path)(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(ConnectorError::io("create", path))?;
    let fill = |file: &mut File| {
        file.write_all(bytes)?;
        let now = file.metadata()?;
        if let Some(like) = like.filter(|like| (like.uid(), like.gid()) != (now.uid(), now.gid())) {
            std::os::unix::fs::fchown(&*file, Some(like.uid()), Some(like.gid()))?;
        }
        let mode = like.map_or(NEW_FILE_MODE, |like| like.mode() & 0o7777);
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    fill(&mut file).map_err(|error| {
        // The first error is the one that matters.
        let _ = fs::remove_file(path);
        ConnectorError::io("write", path)(error)
    })
}

fn unchanged(path: &Path, old: Option<&Metadata>) -> bool {
    let same =
        |m: &Metadata| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.mode());
    match (fs::symlink_metadata(path), old) {
        (Ok(now), Some(old)) => same(&now) == same(old),
        (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn sync_directory(path: &Path) -> Result<(), ConnectorError> {
    let directory = directory(path);
    File::open(directory).and_then(|d| d.sync_all()).map_err(ConnectorError::io("sync", directory))
}
