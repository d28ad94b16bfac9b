//! Following one file through everything that happens to log files: rotation, truncation, absence.
//!
//! [`FileFollower::poll`] is called now and then (there is no notification service to trust on every file system) and reads
//! at most [`POLL_BYTES_MAX`]. Conditions are told when they begin and when they end, not on every poll.
//!
//! What to do is decided by `decide`, a pure function of what was seen; the rest is thin IO.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LineRef, LineSplitter, Piece, Position};

/// Bytes read per poll, so that a large backlog does not keep the caller from its other work.
pub const POLL_BYTES_MAX: usize = 1024 * 1024;

/// Follows one file.
#[derive(Debug)]
pub struct FileFollower {
    path: PathBuf,
    resume: Option<Checkpoint>,
    current: Option<Current>,
    /// What was last told about the path being unusable.
    told: Option<Trouble>,
}

/// Where to go on after a restart. The node stores the *oldest line still inside the detector's window*
/// ([`Agent::resume_at`](crate::host::Agent::resume_at)), so that no detector state has to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Device of the file.
    pub dev: u64,
    /// Inode of the file.
    pub inode: u64,
    /// Offset of the first byte to read.
    pub offset: u64,
    /// Number of the line that begins there, from 1.
    pub line_no: u64,
}

/// What a poll brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent<'a> {
    /// A whole line.
    Line(LineRef<'a>),
    /// A line beyond [`LINE_BYTES_MAX`](super::LINE_BYTES_MAX) was skipped.
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// Where it began.
        at: Position,
    },
    /// The file cannot be read; told once per reason, retried on every poll.
    Missing {
        /// The path as configured.
        path: &'a Path,
        /// Why, and what would help.
        why: String,
    },
    /// The file can be read again after [`SourceEvent::Missing`].
    Recovered {
        /// The path as configured.
        path: &'a Path,
    },
    /// Another file stands at the path; reading starts at its beginning. Earlier positions mean nothing any more.
    Rotated {
        /// The path as configured.
        path: &'a Path,
    },
    /// The file became shorter than what was read of it; reading starts at its beginning.
    Truncated {
        /// The path as configured.
        path: &'a Path,
    },
}

/// What a poll leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Polled {
    /// All there was has been read.
    Idle,
    /// There is more: poll again without waiting.
    More,
}

#[derive(Debug)]
struct Current {
    file: File,
    id: FileId,
    splitter: LineSplitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    dev: u64,
    inode: u64,
}

/// Why a path is of no use; equal troubles are told once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    Io(io::ErrorKind),
    NotAFile(&'static str),
}

/// What to do when the open file has been read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    StartOver,
    Switch,
}

/// `read_to`: offset up to which the open file was read; `len`: its length now; `at_path`: who stands at the path, if anyone.
fn decide(open: FileId, read_to: u64, len: u64, at_path: Option<FileId>) -> Next {
    match at_path {
        Some(id) if id != open => Next::Switch,
        _ if len < read_to => Next::StartOver,
        _ => Next::Stay,
    }
}

impl FileFollower {
    /// Follows `path`, from `resume` if that file still stands there, otherwise from its beginning.
    pub fn new(path: impl Into<PathBuf>, resume: Option<Checkpoint>) -> Self {
        FileFollower { path: path.into(), resume, current: None, told: None }
    }

    /// Reads what is new and tells it to `sink`.
    pub fn poll(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> Polled {
        if self.current.is_none() && !self.open(sink) {
            return Polled::Idle;
        }
        let Some(current) = self.current.as_mut() else { return Polled::Idle };
        match current.read_some(sink) {
            Ok(Polled::More) => return Polled::More,
            Ok(Polled::Idle) => {}
            Err(error) => {
                self.trouble(Trouble::Io(error.kind()), &error.to_string(), sink);
                return Polled::Idle;
            }
        }
        self.look_around(sink)
    }

    /// The checkpoint for `at`, a position in the file that is open now (default: the first line not yet handed on). `None`
    /// while no file is open.
    pub fn checkpoint(&self, at: Option<Position>) -> Option<Checkpoint> {
        let current = self.current.as_ref()?;
        let Position { offset, line_no } = at.unwrap_or_else(|| current.splitter.position());
        Some(Checkpoint { dev: current.id.dev, inode: current.id.inode, offset, line_no })
    }

    /// At the end of the open file: was it cut, was it replaced, is the path still there?
    fn look_around(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> Polled {
        let Some(current) = self.current.as_mut() else { return Polled::Idle };
        let at_path = std::fs::metadata(&self.path);
        let len = current.file.metadata().map_or(u64::MAX, |m| m.len());
        let id = at_path.as_ref().ok().map(FileId::of);
        match decide(current.id, current.splitter.next_offset(), len, id) {
            Next::Stay => {}
            Next::StartOver => {
                current.splitter = LineSplitter::new(Position::START);
                if current.file.seek(SeekFrom::Start(0)).is_err() {
                    self.current = None;
                }
                sink(SourceEvent::Truncated { path: &self.path });
                return Polled::More;
            }
            Next::Switch => return self.switch(sink),
        }
        match at_path {
            Ok(_) => self.recovered(sink),
            Err(error) => self.trouble(Trouble::Io(error.kind()), &error.to_string(), sink),
        }
        Polled::Idle
    }

    /// Another file stands at the path. What was written to the old one between our last read and its end is read first; its
    /// writer is gone or has reopened, so an unfinished last line is complete.
    fn switch(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> Polled {
        let next = match open_regular(&self.path) {
            Ok(next) => next,
            Err((trouble, why)) => {
                self.trouble(trouble, &why, sink);
                return Polled::Idle;
            }
        };
        if let Some(old) = self.current.as_mut() {
            if let Ok(Polled::More) = old.read_some(sink) {
                return Polled::More;
            }
            old.splitter.finish(&mut |piece| sink(piece.into()));
        }
        self.current = Some(next);
        self.recovered(sink);
        sink(SourceEvent::Rotated { path: &self.path });
        Polled::More
    }

    /// Opens the path for the first time, or after it could not be opened.
    fn open(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> bool {
        let mut opened = match open_regular(&self.path) {
            Ok(opened) => opened,
            Err((trouble, why)) => {
                self.trouble(trouble, &why, sink);
                return false;
            }
        };
        self.recovered(sink);
        if let Some(resume) = self.resume.take() {
            match opened.resume(resume) {
                Ok(None) => {}
                Ok(Some(Next::StartOver)) => sink(SourceEvent::Truncated { path: &self.path }),
                Ok(Some(_)) => sink(SourceEvent::Rotated { path: &self.path }),
                Err(error) => {
                    self.resume = Some(resume);
                    self.trouble(Trouble::Io(error.kind()), &error.to_string(), sink);
                    return false;
                }
            }
        }
        self.current = Some(opened);
        true
    }

    fn trouble(&mut self, trouble: Trouble, why: &str, sink: &mut dyn FnMut(SourceEvent<'_>)) {
        if self.told.as_ref() != Some(&trouble) {
            let why = match &trouble {
                Trouble::Io(io::ErrorKind::PermissionDenied) => {
                    format!("{why}; give this node's user read access to it")
                }
                _ => why.to_owned(),
            };
            sink(SourceEvent::Missing { path: &self.path, why });
            self.told = Some(trouble);
        }
    }

    fn recovered(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) {
        if self.told.take().is_some() {
            sink(SourceEvent::Recovered { path: &self.path });
        }
    }
}

impl Current {
    fn read_some(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> io::Result<Polled> {
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        while read < POLL_BYTES_MAX {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(Polled::Idle),
                Ok(n) => {
                    read += n;
                    self.splitter.push(buffer.get(..n).unwrap_or_default(), &mut |piece| sink(piece.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Polled::More)
    }

    /// Goes to the checkpoint if it still means a line's beginning in this very file; otherwise says what happened.
    fn resume(&mut self, at: Checkpoint) -> io::Result<Option<Next>> {
        if self.id != (FileId { dev: at.dev, inode: at.inode }) {
            return Ok(Some(Next::Switch));
        }
        if self.file.metadata()?.len() < at.offset {
            return Ok(Some(Next::StartOver));
        }
        // An inode may be used again for a new file: a line must end right before the checkpoint.
        let Some(before) = at.offset.checked_sub(1) else { return Ok(None) };
        let mut byte = [0];
        self.file.seek(SeekFrom::Start(before))?;
        self.file.read_exact(&mut byte)?;
        if byte != *b"\n" {
            self.file.seek(SeekFrom::Start(0))?;
            return Ok(Some(Next::Switch));
        }
        self.splitter = LineSplitter::new(Position { offset: at.offset, line_no: at.line_no.max(1) });
        Ok(None)
    }
}

/// Opens without waiting (a FIFO would block) and only what is a regular file.
fn open_regular(path: &Path) -> Result<Current, (Trouble, String)> {
    let of_io = |error: io::Error| (Trouble::Io(error.kind()), error.to_string());
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).map_err(of_io)?;
    let meta = file.metadata().map_err(of_io)?;
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => {
            return Ok(Current { id: FileId::of(&meta), splitter: LineSplitter::new(Position::START), file });
        }
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () => "a device or socket",
    };
    Err((Trouble::NotAFile(what), format!("it is {what}; name a regular file")))
}

impl FileId {
    fn of(meta: &std::fs::Metadata) -> Self {
        FileId { dev: meta.dev(), inode: meta.ino() }
    }
}

impl<'a> From<Piece<'a>> for SourceEvent<'a> {
    fn from(piece: Piece<'a>) -> Self {
        match piece {
            Piece::Line(line) => SourceEvent::Line(line),
            Piece::TooLong { len, at } => SourceEvent::TooLong { len, at },
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
