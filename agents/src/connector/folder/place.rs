//! Directories by handle. Every step goes by one name, from a directory that is held open, and follows no symbolic link: what
//! somebody moves or links elsewhere meanwhile cannot lead out of the folder.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::connector::ConnectorError;

/// Mode of a file that did not exist before.
const NEW_FILE_MODE: u32 = 0o644;
/// Mode of what only this connector reads.
const PRIVATE_MODE: u32 = 0o700;

/// A directory that is held open.
pub(super) struct Dir {
    fd: OwnedFd,
    /// For messages.
    path: PathBuf,
}

/// A file as it was read.
pub(super) struct Found {
    pub(super) bytes: Vec<u8>,
    pub(super) stat: Stat,
}

impl Dir {
    /// Opens the directory at `path`, which may not be a symbolic link itself.
    pub(super) fn open(path: &Path) -> Result<Self, ConnectorError> {
        match rustix::fs::openat(CWD, path, directory(), Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(_) if is_symlink(&CWD, path) => Err(ConnectorError::Symlink { path: path.to_owned() }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ConnectorError::NoFolder { path: path.to_owned() }),
            Err(error) => Err(ConnectorError::io("open", path)(error)),
        }
    }

    /// The directory `name` in this one.
    pub(super) fn enter(&self, name: &str) -> Result<Self, ConnectorError> {
        let path = self.path.join(name);
        match rustix::fs::openat(&self.fd, name, directory(), Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(_) if is_symlink(&self.fd, name) => Err(ConnectorError::Symlink { path }),
            Err(Errno::NOENT) => Err(ConnectorError::NoDirectory { directory: path.clone(), path }),
            Err(Errno::NOTDIR) => Err(ConnectorError::NotAFile { path }),
            Err(error) => Err(ConnectorError::io("open", &path)(error)),
        }
    }

    /// The directory `name` in this one, made where it is not there, and readable by nobody else.
    pub(super) fn make(&self, name: &str) -> Result<Self, ConnectorError> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(PRIVATE_MODE)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(ConnectorError::io("create", &self.path.join(name))(error)),
        }
        let made = self.enter(name)?;
        rustix::fs::fchmod(&made.fd, Mode::from_raw_mode(PRIVATE_MODE))
            .map_err(ConnectorError::io("make private", &made.path))?;
        Ok(made)
    }

    /// A regular file, at most `bytes_max` long; none where there is no such name.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Found>, ConnectorError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            // What the system says of it ("too many levels") would only mislead.
            Err(_) if is_symlink(&self.fd, name) => return Err(ConnectorError::Symlink { path }),
            // A socket, or a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => return Err(ConnectorError::NotAFile { path }),
            Err(error) => return Err(ConnectorError::io("open", &path)(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(ConnectorError::io("look at", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ConnectorError::NotAFile { path });
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::from(fd);
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(ConnectorError::io("read", &path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(ConnectorError::TooLarge { path, bytes_max });
        }
        Ok(Some(Found { bytes, stat }))
    }

    /// A new file with `bytes`, synced, with the mode and the owner of `like`. What a crash left under this name goes first.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8], like: Option<&Stat>) -> Result<(), ConnectorError> {
        self.remove(name)?;
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(ConnectorError::io("create", &path))?;
        let fill = || {
            let mut file = std::fs::File::from(fd);
            file.write_all(bytes)?;
            let now = rustix::fs::fstat(&file)?;
            if let Some(like) = like.filter(|like| (like.st_uid, like.st_gid) != (now.st_uid, now.st_gid)) {
                std::os::unix::fs::fchown(&file, Some(like.st_uid), Some(like.st_gid))?;
            }
            let mode = like.map_or(NEW_FILE_MODE, |like| like.st_mode & 0o7777);
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            file.sync_all()
        };
        fill().map_err(|error| {
            // The first error is the one that matters.
            let _ = self.remove(name);
            ConnectorError::io("write", &path)(error)
        })?;
        self.sync()
    }

    /// Moves a file, over one that is there. Durable when both directories are synced.
    pub(super) fn rename(&self, name: &str, to: &Self, to_name: &str) -> Result<(), ConnectorError> {
        let path = to.path.join(to_name);
        rustix::fs::renameat(&self.fd, name, &to.fd, to_name).map_err(ConnectorError::io("replace", &path))
    }

    /// Removes a file; one that is not there is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), ConnectorError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(ConnectorError::io("remove", &self.path.join(name))(error)),
        }
    }

    /// What is there under a name, without following it.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>, ConnectorError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(ConnectorError::io("look at", &self.path.join(name))(error)),
        }
    }

    /// The names of the files in it.
    pub(super) fn names(&self) -> Result<Vec<String>, ConnectorError> {
        let entries = rustix::fs::Dir::read_from(&self.fd).map_err(ConnectorError::io("list", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ConnectorError::io("list", &self.path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            names.extend((name != "." && name != "..").then_some(name));
        }
        Ok(names)
    }

    pub(super) fn sync(&self) -> Result<(), ConnectorError> {
        rustix::fs::fsync(&self.fd).map_err(ConnectorError::io("sync", &self.path))
    }
}

/// Whether a file is still the one that was read.
pub(super) fn same(a: Option<&Stat>, b: Option<&Stat>) -> bool {
    let of =
        |s: &Stat| (s.st_dev, s.st_ino, s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec, s.st_mode);
    a.map(of) == b.map(of)
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn is_symlink<P: rustix::path::Arg>(dir: impl std::os::fd::AsFd, name: P) -> bool {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Whether two handles hold one directory.
pub(super) fn same_place(a: &Dir, b: &Dir) -> Result<bool, ConnectorError> {
    let of = |dir: &Dir| {
        let stat = rustix::fs::fstat(&dir.fd).map_err(ConnectorError::io("look at", &dir.path))?;
        Ok::<_, ConnectorError>((stat.st_dev, stat.st_ino))
    };
    Ok(of(a)? == of(b)?)
}
