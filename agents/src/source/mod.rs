//! Where observations come from.

pub mod follow;
mod lines;

pub use follow::{Checkpoint, FileFollower, SourceEvent};
pub use lines::{LINE_BYTES_MAX, LineSplitter, Piece};

use serde::{Deserialize, Serialize};

/// One line of a source, without its terminator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRef<'a> {
    /// Raw bytes; nothing is known about their encoding.
    pub bytes: &'a [u8],
    /// Number of the line in its source, from 1.
    pub line_no: u64,
    /// Offset of the line's first byte in its source.
    pub offset: u64,
}

/// A place between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Offset of the next line's first byte.
    pub offset: u64,
    /// Number of the next line, from 1.
    pub line_no: u64,
}

impl Position {
    /// The beginning of a source.
    pub const START: Position = Position { offset: 0, line_no: 1 };
}

impl LineRef<'_> {
    /// Where this line begins.
    pub fn position(&self) -> Position {
        Position { offset: self.offset, line_no: self.line_no }
    }
}
