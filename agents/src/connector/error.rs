//! Why a connector did nothing.

use std::io;
use std::path::{Path, PathBuf};

/// Why a connector did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The directory of the file does not exist.
    #[error("there is no directory {} for {}; create it, or name another file", directory.display(), path.display())]
    NoDirectory {
        /// The missing directory.
        directory: PathBuf,
        /// The file as configured.
        path: PathBuf,
    },
    /// The file is a symlink, which could lead anywhere.
    #[error("{} is a symlink; name the file itself", path.display())]
    Symlink {
        /// The file as configured.
        path: PathBuf,
    },
    /// A directory, FIFO, device or socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file as configured.
        path: PathBuf,
    },
    /// Another node's file.
    #[error("{} belongs to {found}, this node is {us}; name another file, or stop that node and remove {}", path.display(), marker.display())]
    OwnedByAnother {
        /// The file as configured.
        path: PathBuf,
        /// The file that names the owner.
        marker: PathBuf,
        /// The owner it names.
        found: String,
        /// This node's SPIFFE ID.
        us: String,
    },
    /// Another process of this node uses the file.
    #[error("another process holds {} (lock on {}); stop it first", path.display(), marker.display())]
    Locked {
        /// The file as configured.
        path: PathBuf,
        /// The locked file.
        marker: PathBuf,
    },
    /// Larger than this connector reads.
    #[error("{} is larger than {bytes_max} bytes; shorten it", path.display())]
    TooLarge {
        /// The file as configured.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// Others kept changing the file while we tried. Nothing was done; trying again later is safe.
    #[error("{} kept changing while we tried to replace it; nothing was done", path.display())]
    Contended {
        /// The file that changed.
        path: PathBuf,
    },
    /// The folder to manage does not exist, or is none.
    #[error("there is no folder {}; create it, or name another one", path.display())]
    NoFolder {
        /// The folder as configured.
        path: PathBuf,
    },
    /// A path that is none below a folder.
    #[error("{} is no path below {}: parts without a leading dot, separated by /", object.escape_debug(), folder.display())]
    Outside {
        /// The folder.
        folder: PathBuf,
        /// The path as asked.
        object: String,
    },
    /// Not UTF-8.
    #[error("{} is not UTF-8 text; this connector keeps texts alone", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The resource is not at the version that the permit was given for. Nothing was done.
    #[error("{} is at version {found} and not at {expected}; nothing was done", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The version that was asked for.
        expected: String,
        /// The version that is there.
        found: String,
    },
    /// What stood in a file before is not kept (any more).
    #[error("what stood in {} before is not kept: {why}", path.display())]
    NoCopy {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The permit does not ask for something this connector does.
    #[error("refused: {why}")]
    Refused {
        /// What does not fit.
        why: String,
    },
    /// The system said no. Whether the effect happened must be probed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ConnectorError {
    /// For [`Result::map_err`]: what we were doing to `path`.
    pub(super) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source: source.into() }
    }

    /// Something that this connector does not do.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}
