//! What an agent would propose over a whole file: no mesh, no effect, no clock.

use std::io::{self, Read};

use serde::Serialize;

use super::sshd::{Config, Counters, SshdBruteforce};
use crate::host::{Agent, Observation};
use crate::proposal::ProposalDraft;
use crate::source::{LineSplitter, Piece, Position};

/// Result of [`replay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// In the order in which they would have been made.
    pub proposals: Vec<ProposalDraft>,
    /// What became of the input.
    pub summary: Summary,
}

/// Counters of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines read, the too long ones included.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Lines by what they were.
    pub by_reason: Counters,
}

/// Reads `reader` to its end and returns every proposal the sshd agent would have made. No proposal is ever settled, so a
/// source is proposed again only after its time to live. Memory does not depend on the length of the input or of its lines.
///
/// # Errors
/// Whatever the reader reports; `Interrupted` is retried.
pub fn replay(mut reader: impl Read, config: Config) -> io::Result<Replay> {
    let mut agent = SshdBruteforce::new(config);
    let mut splitter = LineSplitter::new(Position::START);
    let mut proposals = Vec::new();
    let (mut lines, mut bytes) = (0, 0);
    let mut sink = |piece: Piece<'_>| {
        lines += 1;
        match piece {
            Piece::Line(line) => agent.handle(Observation::Line(line)),
            Piece::TooLong { at, .. } => agent.too_long(at.line_no),
        }
        while let Some(draft) = agent.poll() {
            proposals.push(draft);
        }
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                bytes += n as u64;
                splitter.push(buffer.get(..n).unwrap_or_default(), &mut sink);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    splitter.finish(&mut sink);
    let summary = Summary { lines, bytes, by_reason: agent.counters() };
    Ok(Replay { proposals, summary })
}
