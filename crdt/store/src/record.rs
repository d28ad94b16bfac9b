//! The envelope of every stored value: a version, a kind and a checksum.
//!
//! redb does not verify its page checksums when it reads (measured: a flipped bit after a clean close came back as a
//! wrong value in 32 of 40 trials), and SQLite has none. So each value carries its own, over its key as well: a record
//! that turns up under another key is damage too.
//!
//! `version (1) ‖ kind (1) ‖ first 8 bytes of SHA-256(version ‖ kind ‖ key length as u32 BE ‖ key ‖ body) ‖ body`

use aws_lc_rs::digest::{Context, SHA256};

use crate::{StoreError, keys};

const VERSION: u8 = 1;
/// 64 bits: damage is found by chance, not sought by an attacker, who could write a matching checksum of any length.
const CHECK_LEN: usize = 8;
/// Bytes that the envelope adds.
pub const OVERHEAD: usize = 2 + CHECK_LEN;

/// Puts `body` into the envelope for `key`.
#[must_use]
pub fn wrap(key: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(OVERHEAD + body.len());
    value.extend_from_slice(&[VERSION, kind]);
    value.extend_from_slice(&checksum(VERSION, kind, key, body));
    value.extend_from_slice(body);
    value
}

/// Takes the body out of the envelope that was made for `key`.
///
/// # Errors
/// [`StoreError::Corrupt`] naming the key, when the value is not exactly what [`wrap`] made.
pub fn unwrap<'v>(key: &[u8], kind: u8, value: &'v [u8]) -> Result<&'v [u8], StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { place: format!("record {}", keys::display(key)), detail };
    let Some(([version, found, check @ ..], body)) = value.split_first_chunk::<OVERHEAD>() else {
        return Err(corrupt(format!("{} bytes are too short for a record", value.len())));
    };
    if *check != checksum(*version, *found, key, body) {
        return Err(corrupt("the checksum does not match".into()));
    }
    if *version != VERSION {
        let written = if *version < VERSION { "an earlier" } else { "a later" };
        return Err(corrupt(format!(
            "written by {written} build: record version {version}, and this build reads {VERSION} only; open it with that build"
        )));
    }
    if *found != kind {
        return Err(corrupt(format!("record kind {found} where kind {kind} belongs")));
    }
    Ok(body)
}

fn checksum(version: u8, kind: u8, key: &[u8], body: &[u8]) -> [u8; CHECK_LEN] {
    let mut hash = Context::new(&SHA256);
    hash.update(&[version, kind]);
    hash.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(key);
    hash.update(body);
    let mut check = [0; CHECK_LEN];
    check.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_flip_every_truncation_and_a_wrong_place_are_found() {
        let value = wrap(b"f/x", 1, b"body");
        assert_eq!(unwrap(b"f/x", 1, &value).expect("intact"), b"body");
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(b"f/x", 1, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..value.len() {
            assert!(unwrap(b"f/x", 1, &value[..len]).is_err(), "length {len}");
        }
        assert!(unwrap(b"f/y", 1, &value).is_err());
        assert!(unwrap(b"f/x", 2, &value).is_err());
    }

    #[test]
    fn the_error_names_the_key() {
        let error = unwrap(b"m/schema", 1, b"").expect_err("too short");
        assert!(error.to_string().contains("record m/schema"), "{error}");
        assert!(error.hint().contains("peers"));
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let value = wrap(b"k", 7, b"v");
        assert_eq!((value[0], value[1], value[10]), (1, 7, b'v'));
        // printf '\x01\x07\x00\x00\x00\x01kv' | sha256sum | cut -c1-16
        assert_eq!(value[2..10], GOLDEN);
    }

    const GOLDEN: [u8; 8] = [0xe1, 0xb1, 0x56, 0x5a, 0x91, 0x38, 0x2a, 0x5f];
}
