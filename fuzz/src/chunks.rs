//! Several messages in one input: each behind its length (u16, big endian), the last one as far as the input goes.

/// More would only make inputs slow; what needs many messages has tests of its own.
const CHUNKS_MAX: usize = 48;

/// The messages of an input. Every input has some reading, so that no mutation is wasted.
pub fn chunks(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (chunk, rest) = rest.split_at(length);
        input = rest;
        Some(chunk)
    })
    .take(CHUNKS_MAX)
}

/// The input that [`chunks`] takes apart again. A message longer than 65,535 bytes is cut.
#[must_use]
pub fn join<C: AsRef<[u8]>>(parts: impl IntoIterator<Item = C>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let part = part.as_ref();
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&part[..usize::from(length)]);
    }
    out
}

/// The first byte, which says what an input is, and the rest.
#[must_use]
pub fn door(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest))
}

/// [`door`], in reverse.
#[must_use]
pub fn through(door: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&[door], rest.as_ref()].concat()
}
