//! Following one file through everything that happens to log files: rotation, truncation, absence.
//!
//! [`FileFollower::poll`] is called now and then (there is no notification service to trust on every file system) and reads
//! at most [`POLL_BYTES_MAX`]. Conditions are told when they begin and when they end, not on every poll.
//!
//! What to do is decided by `decide`, a pure function of what was seen; the rest is thin IO.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cauldron_identity::Digest;
use serde::{Deserialize, Serialize};

use super::{LineRef, LineSplitter, Piece, Position};

/// Bytes read per poll, so that a large backlog does not keep the caller from its other work.
pub const POLL_BYTES_MAX: usize = 1024 * 1024;

/// Bytes before a place by which it is recognised. A log line with its stamp fits; two logs that agree on all of them at the
/// same offset are the same log.
const TAIL_BYTES: usize = 128;

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
    /// Hash of the bytes right before it: a file that was emptied and has grown again is not the one that was read.
    pub before: Digest,
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
    /// The file was emptied (it is shorter than what was read of it, or holds other bytes there now); reading starts at its
    /// beginning.
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
    /// The last bytes read, up to [`TAIL_BYTES`].
    tail: Vec<u8>,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Up to the end.
    End,
    /// As much as a poll may read.
    Portion,
    /// What was read before is not in the file any more.
    Emptied,
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
            Ok(Progress::Portion) => Polled::More,
            Ok(Progress::End) => self.look_around(sink),
            Ok(Progress::Emptied) => self.start_over(sink),
            Err(error) => {
                self.trouble(Trouble::Io(error.kind()), &error.to_string(), sink);
                Polled::Idle
            }
        }
    }

    /// The checkpoint for `at`, a position in the file that is open now (default: the first line not yet handed on). `None`
    /// while no file is open.
    pub fn checkpoint(&self, at: Option<Position>) -> Option<Checkpoint> {
        let current = self.current.as_ref()?;
        let Position { offset, line_no } = at.unwrap_or_else(|| current.splitter.position());
        let before = hash(&before(&current.file, offset).ok()?);
        Some(Checkpoint { dev: current.id.dev, inode: current.id.inode, offset, line_no, before })
    }

    /// At the end of the open file: was it cut, was it replaced, is the path still there?
    fn look_around(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> Polled {
        let Some(current) = self.current.as_mut() else { return Polled::Idle };
        let at_path = std::fs::metadata(&self.path);
        let len = current.file.metadata().map_or(u64::MAX, |m| m.len());
        let id = at_path.as_ref().ok().map(FileId::of);
        match decide(current.id, current.splitter.next_offset(), len, id) {
            Next::Stay => {}
            Next::StartOver => return self.start_over(sink),
            Next::Switch => return self.switch(sink),
        }
        match at_path {
            Ok(_) => self.recovered(sink),
            Err(error) => self.trouble(Trouble::Io(error.kind()), &error.to_string(), sink),
        }
        Polled::Idle
    }

    /// The open file was emptied: what it holds now is read from its beginning.
    fn start_over(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> Polled {
        if self.current.as_mut().is_some_and(|current| current.go_to(Position::START, Vec::new()).is_err()) {
            self.current = None;
        }
        sink(SourceEvent::Truncated { path: &self.path });
        Polled::More
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
            match old.read_some(sink) {
                Ok(Progress::Portion) => return Polled::More,
                Ok(Progress::Emptied) => return self.start_over(sink),
                Ok(Progress::End) | Err(_) => {}
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
    fn read_some(&mut self, sink: &mut dyn FnMut(SourceEvent<'_>)) -> io::Result<Progress> {
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        while read < POLL_BYTES_MAX {
            let n = match self.file.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // Looked at after the read: what was emptied before it cannot pass for the continuation.
            if !self.holds_what_was_read()? {
                return Ok(Progress::Emptied);
            }
            if n == 0 {
                return Ok(Progress::End);
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            read += n;
            self.tail.extend_from_slice(bytes.get(n.saturating_sub(TAIL_BYTES)..).unwrap_or_default());
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
            self.splitter.push(bytes, &mut |piece| sink(piece.into()));
        }
        Ok(Progress::Portion)
    }

    fn holds_what_was_read(&self) -> io::Result<bool> {
        match before(&self.file, self.splitter.next_offset()) {
            Ok(bytes) => Ok(bytes == self.tail),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads on from `at`, where `tail` stands right before.
    fn go_to(&mut self, at: Position, tail: Vec<u8>) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at.offset))?;
        (self.splitter, self.tail) = (LineSplitter::new(at), tail);
        Ok(())
    }

    /// Goes to the checkpoint if it still means a line's beginning in this very file; otherwise says what happened.
    fn resume(&mut self, at: Checkpoint) -> io::Result<Option<Next>> {
        if self.id != (FileId { dev: at.dev, inode: at.inode }) {
            return Ok(Some(Next::Switch));
        }
        if self.file.metadata()?.len() < at.offset {
            return Ok(Some(Next::StartOver));
        }
        // An inode may be used again for a new file, and a file may be emptied and grow again.
        let tail = before(&self.file, at.offset)?;
        if hash(&tail) != at.before {
            return Ok(Some(Next::StartOver));
        }
        self.go_to(Position { offset: at.offset, line_no: at.line_no.max(1) }, tail)?;
        Ok(None)
    }
}

/// The bytes right before `offset`, up to [`TAIL_BYTES`].
fn before(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let from = offset.saturating_sub(TAIL_BYTES as u64);
    let mut bytes = vec![0; usize::try_from(offset - from).unwrap_or(TAIL_BYTES)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

fn hash(bytes: &[u8]) -> Digest {
    Digest::of("cauldron/log-place/v1", bytes)
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
            return Ok(Current {
                id: FileId::of(&meta),
                splitter: LineSplitter::new(Position::START),
                tail: Vec::new(),
                file,
            });
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
