//! Deterministic CBOR: one value, one encoding (RFC 8949 §4.2.1).
//!
//! Every decoder of peer or disk bytes in the house goes through [`from_cbor`], which walks the tokens once before it
//! builds anything. minicbor alone accepts trailing bytes, long forms, duplicate keys and indefinite lengths.

use minicbor::{Decode, Decoder, Encode};

/// Nesting that any of our values may reach; ours need 6, the rest is room for unknown fields of later versions.
pub const DEPTH_MAX: usize = 16;

/// Why bytes are not one strictly encoded value.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum CodecError {
    /// The input ended inside an item.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// Bytes follow the value.
    #[error("{0} bytes after the end of the value")]
    Trailing(usize),
    /// An integer, length or tag is not in its shortest form.
    #[error("not the shortest form at byte {0}")]
    NotShortest(usize),
    /// Indefinite lengths, floats and reserved codes are not used.
    #[error("unsupported item at byte {0}")]
    Unsupported(usize),
    /// Map keys are not strictly ascending in bytewise order.
    #[error("map keys not sorted or not unique at byte {0}")]
    KeyOrder(usize),
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} at byte {0}")]
    TooDeep(usize),
    /// A text item is not UTF-8.
    #[error("text is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// The tokens are fine, the shape is not what was expected.
    #[error("unexpected shape: {0}")]
    Shape(String),
}

/// Encodes `value`. Types of this house use integer keys in ascending order, so the result is deterministic.
pub fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    match minicbor::encode(value, &mut out) {
        Ok(()) => out,
        // Writing to a Vec cannot fail, and none of our encoders returns an error of its own.
        Err(never) => unreachable!("encoding to memory failed: {never}"),
    }
}

/// Decodes exactly one value from `bytes`, refusing every other encoding of the same value.
///
/// # Errors
/// [`CodecError`] with the byte offset where the rule was broken.
pub fn from_cbor<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, CodecError> {
    check(bytes)?;
    let mut decoder = Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| CodecError::Shape(e.to_string()))?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Checks that `bytes` is exactly one deterministic CBOR item.
///
/// # Errors
/// The first rule broken, with its offset.
pub fn check(bytes: &[u8]) -> Result<(), CodecError> {
    let end = item(bytes, 0, 0)?;
    if end == bytes.len() { Ok(()) } else { Err(CodecError::Trailing(bytes.len() - end)) }
}

/// Splits off the first item, for a format that puts something of its own behind it.
///
/// # Errors
/// The first rule that the item breaks, with its offset.
pub fn first(bytes: &[u8]) -> Result<(&[u8], &[u8]), CodecError> {
    Ok(bytes.split_at(item(bytes, 0, 0)?))
}

/// Walks one item from `at`, returns the offset behind it.
fn item(bytes: &[u8], at: usize, depth: usize) -> Result<usize, CodecError> {
    if depth > DEPTH_MAX {
        return Err(CodecError::TooDeep(at));
    }
    let (major, argument, next) = head(bytes, at)?;
    match major {
        0 | 1 => Ok(next),
        2 | 3 => {
            let length = usize::try_from(argument).map_err(|_| CodecError::Truncated(at))?;
            let end = next.checked_add(length).filter(|e| *e <= bytes.len()).ok_or(CodecError::Truncated(at))?;
            if major == 3 && std::str::from_utf8(&bytes[next..end]).is_err() {
                return Err(CodecError::NotUtf8(at));
            }
            Ok(end)
        }
        4 => {
            let mut next = next;
            for _ in 0..argument {
                next = item(bytes, next, depth + 1)?;
            }
            Ok(next)
        }
        5 => map(bytes, next, argument, depth),
        // Tags carry no meaning here; false, true and null are the only simple values.
        7 if (20..=22).contains(&argument) && next == at + 1 => Ok(next),
        _ => Err(CodecError::Unsupported(at)),
    }
}

fn map(bytes: &[u8], start: usize, entries: u64, depth: usize) -> Result<usize, CodecError> {
    let mut next = start;
    let mut previous: Option<&[u8]> = None;
    for _ in 0..entries {
        let key_end = item(bytes, next, depth + 1)?;
        let key = &bytes[next..key_end];
        if previous.is_some_and(|p| p >= key) {
            return Err(CodecError::KeyOrder(next));
        }
        previous = Some(key);
        next = item(bytes, key_end, depth + 1)?;
    }
    Ok(next)
}

/// Reads an initial byte and its argument: (major type, argument, offset behind).
fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), CodecError> {
    let first = *bytes.get(at).ok_or(CodecError::Truncated(at))?;
    let (major, info) = (first >> 5, first & 0x1f);
    let width = match info {
        0..=23 => return Ok((major, u64::from(info), at + 1)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(CodecError::Unsupported(at)),
    };
    if major == 7 {
        return Err(CodecError::Unsupported(at));
    }
    let tail = bytes.get(at + 1..at + 1 + width).ok_or(CodecError::Truncated(at))?;
    let value = tail.iter().fold(0u64, |v, b| (v << 8) | u64::from(*b));
    let shortest = match width {
        1 => value >= 24,
        2 => value > 0xff,
        4 => value > 0xffff,
        _ => value > 0xffff_ffff,
    };
    if shortest { Ok((major, value, at + 1 + width)) } else { Err(CodecError::NotShortest(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(hex: &str, want: CodecError) {
        let bytes = hex::decode(hex).expect("test vector is hex");
        assert_eq!(check(&bytes), Err(want), "{hex}");
    }

    #[test]
    fn accepts_the_deterministic_encodings_of_rfc_8949_appendix_a() {
        for hex in [
            "00",
            "17",
            "1818",
            "1903e8",
            "1a000f4240",
            "1b000000e8d4a51000",
            "20",
            "40",
            "4401020304",
            "6449455446",
            "80",
            "83010203",
            "a201020304",
            "f4",
            "f5",
            "f6",
        ] {
            let bytes = hex::decode(hex).expect("hex");
            assert_eq!(check(&bytes), Ok(()), "{hex}");
        }
    }

    #[test]
    fn refuses_every_second_encoding() {
        refused("1817", CodecError::NotShortest(0));
        refused("190017", CodecError::NotShortest(0));
        refused("1b0000000000000001", CodecError::NotShortest(0));
        refused("0000", CodecError::Trailing(1));
        refused("a20101", CodecError::Truncated(3));
        refused("a202010102", CodecError::KeyOrder(3));
        refused("a201010102", CodecError::KeyOrder(3));
        refused("5f4100ff", CodecError::Unsupported(0));
        refused("9f00ff", CodecError::Unsupported(0));
        refused("f93c00", CodecError::Unsupported(0));
        refused("c000", CodecError::Unsupported(0));
        refused("f7", CodecError::Unsupported(0));
        refused("5bffffffffffffffff", CodecError::Truncated(0));
        refused("61ff", CodecError::NotUtf8(0));
        refused("", CodecError::Truncated(0));
    }

    #[test]
    fn depth_is_bounded_without_recursing_further() {
        let mut bytes = vec![0x81; 5_000_000];
        bytes.push(0);
        assert_eq!(check(&bytes), Err(CodecError::TooDeep(DEPTH_MAX + 1)));
    }
}
