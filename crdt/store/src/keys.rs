//! The layout of keys. Each prefix has one owner; a scan of a prefix meets nobody else's records.
//!
//! | prefix | then | value (inside the [envelope](crate::record)) | owner |
//! |---|---|---|---|
//! | `f/` | scope text, 0x00, author (32 bytes), incarnation (u32 BE), seq (u64 BE) | the sealed fact, or a stub that names its pack | `cauldron-crdt`, `FactLog` |
//! | `e/` | as `f/`: the position where a chain forked | both branches, sealed headers | `cauldron-crdt`, `FactLog` |
//! | `p/` | as `f/`, the seq of its first fact; then 8 bytes of a hash over key and value | a pack: facts that lie under stubs | `cauldron-crdt`, `FactLog` |
//! | `v/` | as `f/`, without the seq | what of a chain a later signature vouches for | `cauldron-crdt`, `FactLog` |
//! | `x/` | number (u32 BE): 0 the head, then the chunks | what a clean stop leaves so that facts need not be read | `cauldron-crdt`, `FactLog` |
//! | `m/` | a name | what the node knows of itself: schema, mesh, incarnation, marks | `cauldron-node-core` |
//! | `j/` | digest (32 bytes) of what was judged | the document, canonical JSON | `cauldron-node-core` |
//! | `l/` | a name | what is local and never replicated: leases, checkpoints | `cauldron-node-core` |
//!
//! Numbers are big-endian, so that a chain's facts are scanned in the order of their `seq`.

/// Facts.
pub const FACT: &[u8] = b"f/";
/// Evidence of forks.
pub const EVIDENCE: &[u8] = b"e/";
/// Packs of facts.
pub const PACK: &[u8] = b"p/";
/// What of a chain a later signature vouches for.
pub const VOUCHED: &[u8] = b"v/";
/// What a clean stop leaves so that the next start need not read the facts.
pub const INDEX: &[u8] = b"x/";
/// What the node knows of itself.
pub const META: &[u8] = b"m/";
/// Local state that is never replicated.
pub const LOCAL: &[u8] = b"l/";

/// Documents that policy judged.
pub const JUDGED: &[u8] = b"j/";

/// A key under [`META`].
#[must_use]
pub fn meta(name: &str) -> Vec<u8> {
    [META, name.as_bytes()].concat()
}

/// A key under [`LOCAL`].
#[must_use]
pub fn local(name: &str) -> Vec<u8> {
    [LOCAL, name.as_bytes()].concat()
}

/// A key as a person can read it: printable ASCII as it is, the rest in hex.
#[must_use]
pub fn display(key: &[u8]) -> String {
    key.iter().fold(String::with_capacity(key.len() * 2), |mut text, byte| {
        if byte.is_ascii_graphic() && *byte != b'\\' {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("\\x{byte:02x}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_do_not_overlap_and_keys_are_readable() {
        let all = [FACT, EVIDENCE, PACK, VOUCHED, INDEX, META, LOCAL, JUDGED];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| !a.starts_with(b) && !b.starts_with(a)));
        }
        assert_eq!(display(&meta("schema")), "m/schema");
        assert_eq!(display(b"f/mesh\x00\xff"), "f/mesh\\x00\\xff");
    }
}
