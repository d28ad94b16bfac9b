//! Bytes into lines, in any portions, with bounded memory.

use super::{LineRef, Position};

/// Longest line that is handed on, in bytes without the terminator. rsyslog cuts at 8 KiB by default; ours is generous.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What came out of a portion of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line.
    Line(LineRef<'a>),
    /// A line beyond [`LINE_BYTES_MAX`]: skipped, never held in memory.
    TooLong {
        /// Its length in bytes without the terminator.
        len: u64,
        /// Where it began.
        at: Position,
    },
}

/// Splits at `\n`; keeps at most one unfinished line of [`LINE_BYTES_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct LineSplitter {
    /// Where the unfinished line begins.
    start: Position,
    partial: Vec<u8>,
    /// Length of the unfinished line; more than `partial` holds once it is too long.
    partial_len: u64,
}

impl LineSplitter {
    /// A splitter whose next byte is the first of the line at `start`.
    pub fn new(start: Position) -> Self {
        LineSplitter { start, partial: Vec::new(), partial_len: 0 }
    }

    /// Where the first line that was not yet handed on begins: the place to read from again.
    pub fn position(&self) -> Position {
        self.start
    }

    /// Offset of the next byte expected by [`LineSplitter::push`].
    pub fn next_offset(&self) -> u64 {
        self.start.offset.saturating_add(self.partial_len)
    }

    /// Takes the next bytes and hands every line that ends in them to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (head, tail) = rest.split_at(end);
            if self.partial_len == 0 && head.len() <= LINE_BYTES_MAX {
                sink(Piece::Line(self.line_ref(head)));
                self.advance(head.len() as u64 + 1);
            } else {
                self.hold(head);
                self.emit_held(1, sink);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        self.hold(rest);
    }

    /// The source ends here for good: an unfinished last line is handed on as it is.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        if self.partial_len > 0 {
            self.emit_held(0, sink);
        }
    }

    fn line_ref<'a>(&self, bytes: &'a [u8]) -> LineRef<'a> {
        LineRef { bytes, line_no: self.start.line_no, offset: self.start.offset }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.partial_len = self.partial_len.saturating_add(bytes.len() as u64);
        if self.partial_len > LINE_BYTES_MAX as u64 {
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn emit_held(&mut self, terminator_len: u64, sink: &mut dyn FnMut(Piece<'_>)) {
        if self.partial_len > LINE_BYTES_MAX as u64 {
            sink(Piece::TooLong { len: self.partial_len, at: self.start });
        } else {
            sink(Piece::Line(self.line_ref(&self.partial)));
        }
        let len = self.partial_len;
        self.partial.clear();
        self.partial_len = 0;
        self.advance(len.saturating_add(terminator_len));
    }

    fn advance(&mut self, len: u64) {
        self.start.offset = self.start.offset.saturating_add(len);
        self.start.line_no = self.start.line_no.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    enum Owned {
        Line(Vec<u8>, Position),
        TooLong(u64, Position),
    }

    fn split(portions: &[&[u8]]) -> Vec<Owned> {
        let mut out = Vec::new();
        let mut splitter = LineSplitter::new(Position::START);
        let mut sink = |piece: Piece<'_>| {
            out.push(match piece {
                Piece::Line(l) => Owned::Line(l.bytes.to_vec(), l.position()),
                Piece::TooLong { len, at } => Owned::TooLong(len, at),
            });
        };
        portions.iter().for_each(|p| splitter.push(p, &mut sink));
        splitter.finish(&mut sink);
        out
    }

    #[test]
    fn a_ten_megabyte_line_is_skipped_in_bounded_memory() {
        let mut splitter = LineSplitter::new(Position::START);
        let mut seen = Vec::new();
        let megabyte = vec![b'x'; 1_000_000];
        for _ in 0..10 {
            splitter.push(&megabyte, &mut |_| panic!("nothing ended"));
            assert!(splitter.partial.capacity() <= 2 * LINE_BYTES_MAX, "{}", splitter.partial.capacity());
        }
        splitter.push(b"\nnext\n", &mut |piece| seen.push(format!("{piece:?}").len()));
        assert_eq!(seen.len(), 2);
        assert_eq!(splitter.position(), Position { offset: 10_000_006, line_no: 3 });
    }

    #[test]
    fn the_limit_is_exact() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        let too_long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(split(&[&longest, b"\n"]), [Owned::Line(longest.clone(), Position::START)]);
        assert_eq!(split(&[&too_long, b"\n"]), [Owned::TooLong(LINE_BYTES_MAX as u64 + 1, Position::START)]);
        assert_eq!(
            split(&[&[too_long.as_slice(), b"\n"].concat()]),
            [Owned::TooLong(LINE_BYTES_MAX as u64 + 1, Position::START)]
        );
    }

    proptest! {
        #[test]
        fn portions_do_not_matter(text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), cuts in proptest::collection::vec(0usize..200, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let portions: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let whole = split(&[&text]);
            prop_assert_eq!(&split(&portions), &whole);
            let mut lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
            if lines.last().is_some_and(|l| l.is_empty()) { lines.pop(); }
            prop_assert_eq!(whole.len(), lines.len());
            for (piece, expected) in whole.iter().zip(lines) {
                let Owned::Line(bytes, at) = piece else { panic!("short lines only") };
                prop_assert_eq!(bytes, expected);
                prop_assert_eq!(&text[at.offset as usize..][..bytes.len()], expected);
            }
        }
    }
}
