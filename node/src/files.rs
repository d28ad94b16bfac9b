//! Files that only their owner may read, written so that a crash leaves the old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::CliError;

/// Configuration, charters, keys and tokens are far below; a larger file is a mistake, not an input.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Creates `dir` and its parents, each new one for its owner alone (0700).
///
/// # Errors
/// [`CliError`] that names the directory.
pub fn create_dir(dir: &Path) -> Result<(), CliError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| failed("create the directory", dir, &e).hint("choose a directory that this user may write to"))
}

/// Writes `bytes` to `path` with mode 0600 through a temporary file: durable when this returns.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write(path, bytes, 0o600)
}

/// The same with mode 0644, for what is no secret.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    replace(path, bytes, mode).map_err(|e| failed("write", path, &e).hint("check permissions and free space"))
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let temporary = parent.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Reads a whole file of at most 8 MiB.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    read_bounded(path).map_err(|e| failed("read", path, &e))
}

/// Reads a whole text file of at most 8 MiB.
///
/// # Errors
/// [`CliError`] that names the file; text that is not UTF-8 is one.
pub fn read_text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(read(path)?)
        .map_err(|e| failed("read", path, &io::Error::new(io::ErrorKind::InvalidData, e.utf8_error())))
}

/// Reads a secret text, refusing a file that others may read.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn read_secret(path: &Path) -> Result<String, CliError> {
    refuse_shared(path)?;
    read_text(path)
}

/// Reads secret bytes, refusing a file that others may read.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn read_secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    refuse_shared(path)?;
    read(path).map(Zeroizing::new)
}

fn refuse_shared(path: &Path) -> Result<(), CliError> {
    let metadata = fs::metadata(path).map_err(|e| failed("read", path, &e))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(CliError::config(format!("{} holds a secret, but others may read it (mode {mode:04o})", path.display()))
        .hint(format!("chmod 600 {}", path.display())))
}

/// Whether `dir` exists and holds anything.
///
/// # Errors
/// [`CliError`] when it cannot be listed, or is no directory.
pub fn is_occupied(dir: &Path) -> Result<bool, CliError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("look into", dir, &e)),
    }
}

/// Permission bits of `path`.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn mode(path: &Path) -> Result<u32, CliError> {
    Ok(fs::metadata(path).map_err(|e| failed("look at", path, &e))?.permissions().mode() & 0o777)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // Room for all of it: growing would leave copies of a secret behind.
    let length = file.metadata()?.len().min(FILE_BYTES_MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::config(format!("cannot {doing} {}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_and_refused_when_they_are_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("author.key");
        write_private(&path, b"secret").expect("written");
        assert_eq!(mode(&path), Ok(0o600));
        assert_eq!(read_secret(&path).as_deref(), Ok("secret"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = read_secret(&path).expect_err("readable by the group");
        assert!(error.to_string().contains("mode 0640") && error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_rewrite_leaves_no_temporary_file_behind() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("node.toml");
        write_public(&path, b"a").expect("written");
        write_public(&path, b"b").expect("written again");
        assert_eq!(read(&path).as_deref(), Ok(b"b".as_slice()));
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
        assert!(write_public(&dir.path().join("missing/node.toml"), b"c").is_err());
    }

    #[test]
    fn an_endless_file_is_refused() {
        assert!(read(Path::new("/dev/zero")).expect_err("endless").to_string().contains("larger than"));
    }
}
