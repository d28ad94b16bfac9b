//! What is fuzzed is what ships: the fuzz targets' lock file names the same versions as the product's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Report, Tree};

const SHIPS: &str = "Cargo.lock";
const FUZZED: &str = "fuzz/Cargo.lock";

pub fn report(tree: &Tree) -> Result<Report, String> {
    let read = |file: &str| tree.text(Path::new(file))?.ok_or_else(|| format!("{file} is not UTF-8"));
    let (ships, fuzzed) = (read(SHIPS)?, read(FUZZED)?);
    let (ships, fuzzed) = (versions(&ships), versions(&fuzzed));
    let findings = differing(&ships, &fuzzed);
    Ok(Report { summary: format!("{} crates of {FUZZED}", fuzzed.len()), findings })
}

fn differing(ships: &BTreeMap<&str, BTreeSet<&str>>, fuzzed: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, versions) in fuzzed {
        let Some(ours) = ships.get(name) else { continue };
        for version in versions.difference(ours) {
            let ours: Vec<&str> = ours.iter().copied().collect();
            findings.push(format!(
                "{FUZZED}: {name} {version}, {SHIPS} has {}: copy {SHIPS} there and run `cargo fetch --manifest-path fuzz/Cargo.toml`",
                ours.join(", ")
            ));
        }
    }
    findings
}

/// Versions by name of a lock file's packages.
fn versions(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(next) = quoted(line, "name = ") {
            name = next;
        } else if let Some(version) = quoted(line, "version = ") {
            found.entry(name).or_default().insert(version);
        }
    }
    found
}

fn quoted<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::{differing, versions};

    #[test]
    fn another_version_is_found_and_another_crate_is_not() {
        let ships = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        let same = "[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n\n[[package]]\nname = \"libfuzzer\"\nversion = \"0.4.0\"\n";
        let other = "[[package]]\nname = \"a\"\nversion = \"2.0.1\"\n";
        assert!(differing(&versions(ships), &versions(same)).is_empty());
        assert_eq!(differing(&versions(ships), &versions(other)).len(), 1);
    }
}
