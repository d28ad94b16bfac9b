//! The blocklist's text: our lines among those of others. Pure functions over bytes.
//!
//! The law that everything here keeps: taking our lines out of a file gives exactly the bytes that others wrote, in their
//! order, with their line ends, whatever they are.

use std::net::IpAddr;
use std::str::FromStr;

use crate::connector::is_id;
use crate::net::{Cidr, canonical};

/// One line of ours: `198.51.100.7 # until 2026-11-22T10:00:00Z permit <id>`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Canonical address.
    pub address: IpAddr,
    /// When the line leaves the file, Unix milliseconds (whole seconds).
    pub until_ms: u64,
    /// Id of the permit: the idempotency key.
    pub permit_id: String,
}

impl Entry {
    /// The line without its terminator.
    pub(super) fn line(&self) -> String {
        format!("{} # until {} permit {}", self.address, utc_seconds(self.until_ms), self.permit_id)
    }

    /// Reads a line without its `\n`. Only the exact spelling is ours; a `\r` that an editor added does not make a block eternal.
    fn parse(line: &[u8]) -> Option<Entry> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).ok()?;
        let (address, rest) = text.split_once(" # until ")?;
        let (until, permit_id) = rest.split_once(" permit ")?;
        let until: jiff::Timestamp = until.parse().ok()?;
        let entry = Entry {
            address: address.parse().ok()?,
            until_ms: u64::try_from(until.as_millisecond()).ok()?,
            permit_id: permit_id.to_owned(),
        };
        (is_id(permit_id) && entry.address == canonical(entry.address) && entry.line() == text).then_some(entry)
    }
}

/// RFC 3339 in UTC with whole seconds, rounded up: a block never ends early.
pub(super) fn utc_seconds(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms.div_ceil(1000)).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Our lines, in file order.
pub(super) fn entries(file: &[u8]) -> Vec<Entry> {
    lines(file).filter_map(|line| Entry::parse(body(line))).collect()
}

/// Number (from 1) of a line of somebody else that lists `address` itself, as an address or as a block of one.
pub(super) fn foreign_line_with(file: &[u8], address: IpAddr) -> Option<u64> {
    let wanted = Cidr::from(address);
    let lists = |line: &[u8]| {
        let word = body(line).split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'#' | b';' | b',')).next()?;
        Cidr::from_str(std::str::from_utf8(word).ok()?).ok().filter(|block| *block == wanted)
    };
    (1..).zip(lines(file)).find(|(_, line)| Entry::parse(body(line)).is_none() && lists(line).is_some()).map(|(n, _)| n)
}

/// The file with `entry`: in place of our line for the same address if there is one, otherwise at the end. An unfinished last
/// line (no `\n`) stays the last one.
pub(super) fn with(file: &[u8], entry: &Entry) -> Vec<u8> {
    let line = format!("{}\n", entry.line());
    let mut out = Vec::with_capacity(file.len() + line.len());
    let mut placed = false;
    for old in lines(file) {
        let ours_for_address = Entry::parse(body(old)).is_some_and(|e| e.address == entry.address);
        let unfinished = !old.ends_with(b"\n");
        if !placed && (ours_for_address || unfinished) {
            out.extend_from_slice(line.as_bytes());
            placed = true;
        }
        if !ours_for_address {
            out.extend_from_slice(old);
        }
    }
    if !placed {
        out.extend_from_slice(line.as_bytes());
    }
    out
}

/// The file without those of our lines that `gone` names.
pub(super) fn without(file: &[u8], gone: impl Fn(&Entry) -> bool) -> Vec<u8> {
    lines(file).filter(|line| !Entry::parse(body(line)).is_some_and(|e| gone(&e))).flatten().copied().collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|b| *b == b'\n')
}

fn body(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(address: &str, permit_id: &str) -> Entry {
        Entry { address: address.parse().unwrap(), until_ms: 1_795_341_600_000, permit_id: permit_id.into() }
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let line = entry("198.51.100.7", "01J").line();
        assert_eq!(line, "198.51.100.7 # until 2026-11-22T10:00:00Z permit 01J");
        assert_eq!(Entry::parse(line.as_bytes()), Some(entry("198.51.100.7", "01J")));
        assert_eq!(utc_seconds(1_795_341_600_001), "2026-11-22T10:00:01Z");
        assert_eq!(utc_seconds(u64::MAX), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn only_the_exact_spelling_is_ours() {
        let line = entry("198.51.100.7", "01J").line();
        assert!(Entry::parse(format!("{line}\r").as_bytes()).is_some());
        for foreign in [
            format!(" {line}"),
            format!("{line} "),
            format!("#{line}"),
            line.replace("10:00:00Z", "11:00:00+01:00"),
            line.replace("198.51.100.7", "::ffff:198.51.100.7"),
            line.replace("198.51.100.7", "198.51.100.0/24"),
            line.replace("01J", ""),
            line.replace("01J", "01J ours"),
        ] {
            assert_eq!(Entry::parse(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_foreign_line_that_lists_the_address_is_found() {
        let file = b"# header\r\n203.0.113.0/24\n198.51.100.7/32\tby hand\n2001:DB8::7 # x\n\xff\n";
        let find = |a: &str| foreign_line_with(file, a.parse().unwrap());
        assert_eq!(find("198.51.100.7"), Some(3));
        assert_eq!(find("2001:db8::7"), Some(4));
        assert_eq!(find("203.0.113.9"), None, "a wider block is not the address");
        assert_eq!(
            foreign_line_with(entry("198.51.100.7", "p").line().as_bytes(), "198.51.100.7".parse().unwrap()),
            None
        );
    }

    /// Lines as editors, other tools and accidents leave them.
    fn foreign_file() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"# comment\n".to_vec()),
            Just(b"203.0.113.9\r\n".to_vec()),
            Just(b"198.51.100.7 # until tomorrow permit me\n".to_vec()),
            Just(b"198.51.100.7 # until 2026-11-22T10:00:00+00:00 permit x\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_kept(file in foreign_file(), hosts in proptest::collection::vec(1u8..9, 1..8)) {
            let mut ours: std::collections::BTreeMap<IpAddr, Entry> = Default::default();
            let mut text = file.clone();
            for (n, host) in hosts.iter().enumerate() {
                let e = entry(&format!("192.0.2.{host}"), &format!("p{n}"));
                text = with(&text, &e);
                ours.insert(e.address, e);
                let mut found = entries(&text);
                found.sort_by_key(|e| e.address);
                prop_assert_eq!(&found, &ours.values().cloned().collect::<Vec<_>>());
                prop_assert_eq!(without(&text, |_| true), file.clone());
            }
            let first = ours.keys().next().copied().unwrap();
            prop_assert_eq!(entries(&without(&text, |e| e.address == first)).len(), ours.len() - 1);
            prop_assert_eq!(without(&text, |_| false), text);
        }

        #[test]
        fn no_bytes_panic(file in proptest::collection::vec(any::<u8>(), 0..300), tail in "[ -~]{0,60}") {
            let _ = (entries(&file), foreign_line_with(&file, "192.0.2.1".parse().unwrap()));
            let _ = entries(format!("192.0.2.1 # until {tail} permit {tail}").as_bytes());
        }
    }
}
