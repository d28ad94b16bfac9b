//! The sshd agent over whole files: the sample of this project and a real log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use cauldron_agents::net::never_a_target;
use cauldron_agents::security::replay::{Replay, replay};
use cauldron_agents::security::sshd::Config;

fn run(bytes: &[u8], config: Config) -> Replay {
    replay(bytes, config).expect("memory can be read")
}

fn proposed(replay: &Replay) -> BTreeSet<String> {
    replay.proposals.iter().map(|p| p.object.clone()).collect()
}

fn set(sources: &[&str]) -> BTreeSet<String> {
    sources.iter().map(|s| (*s).to_owned()).collect()
}

fn sample() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/auth.log"))
        .expect("the sample is part of the crate")
}

/// The shared corpus lies beside the repository where there is one.
fn real_log() -> Option<Vec<u8>> {
    std::fs::read(cauldron_tests::shared("data/loghub/OpenSSH/OpenSSH_2k.log")?).ok()
}

#[test]
fn the_sample_holds_what_it_is_meant_to_show() {
    let result = run(&sample(), Config { reference_year: 2025, ..Config::default() });
    let expected = ["198.51.100.7", "203.0.113.50", "198.51.100.23", "2001:db8:bad::5", "198.51.100.99"];
    assert_eq!(proposed(&result), set(&expected));
    assert_eq!(result.proposals.len(), expected.len());
    let new_year = &result.proposals[0];
    assert_eq!(new_year.intent_key, "198.51.100.7/2025-12-31T23:57:11Z");
    assert_eq!(new_year.evidence.len(), 5);
    let reasons = result.summary.by_reason;
    let counted = reasons.no_stamp
        + reasons.other_program
        + reasons.other_message
        + reasons.malformed
        + reasons.too_long
        + reasons.successes
        + reasons.failures;
    assert_eq!((result.summary.lines, result.summary.bytes), (counted, sample().len() as u64));
    assert_eq!((reasons.exempt, reasons.malformed, reasons.spared_by_success > 0), (15, 6, true));
}

#[test]
fn the_sample_names_only_documentation_addresses() {
    let text = String::from_utf8_lossy(&sample()).into_owned();
    let documentation = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]
        .map(|b| b.parse::<cauldron_agents::net::Cidr>().unwrap());
    let mut seen = 0;
    for word in text.split_whitespace() {
        if let Ok(address) = word.parse::<IpAddr>() {
            seen += 1;
            assert!(never_a_target(address) || documentation.iter().any(|b| b.contains(address)), "{address}");
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn configuration_spares_sources() {
    let config = Config {
        reference_year: 2025,
        allow: vec!["198.51.100.0/24".parse().unwrap()],
        own_addresses: vec!["2001:db8:bad::5".parse().unwrap()],
        ..Config::default()
    };
    assert_eq!(proposed(&run(&sample(), config)), set(&["203.0.113.50"]));
}

#[test]
fn a_huge_line_costs_nothing_and_hides_nothing() {
    let mut log = vec![b'x'; 10_000_000];
    log.push(b'\n');
    log.extend(sample());
    let result = run(&log, Config { reference_year: 2025, ..Config::default() });
    assert_eq!((proposed(&result).len(), result.summary.by_reason.too_long), (5, 1));
}

/// Counts again by other means: words from the right, seconds of the day, every pair of lines compared.
fn recount(log: &str) -> BTreeSet<String> {
    let mut failures: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
    let mut successes: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for line in log.lines().filter(|l| l.contains(" sshd[")) {
        let line = line.trim_end_matches(']');
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., "from", source, "port", _, "ssh2"] = words[..] else { continue };
        let clock: Vec<u32> = words[2].split(':').map(|n| n.parse().unwrap()).collect();
        let second = clock[0] * 3600 + clock[1] * 60 + clock[2];
        let n = if words[5] == "message" { words[7].parse().unwrap() } else { 1 };
        match words.iter().find(|w| ["Failed", "Accepted"].contains(w)) {
            Some(&"Failed") if !words.contains(&"none") => failures.entry(source).or_default().push((second, n)),
            Some(&"Accepted") => successes.entry(source).or_default().push(second),
            _ => {}
        }
    }
    let over = |source: &str, hits: &[(u32, u32)]| {
        let window = |end: u32| hits.iter().filter(move |(at, _)| *at <= end && end - at <= 600);
        let quiet = |end: u32| !successes.get(source).is_some_and(|s| s.iter().any(|at| at.abs_diff(end) <= 600));
        hits.iter().any(|(end, _)| window(*end).map(|(_, n)| n).sum::<u32>() >= 5 && quiet(*end))
    };
    failures.iter().filter(|(source, hits)| over(source, hits)).map(|(source, _)| (*source).to_owned()).collect()
}

#[test]
fn a_real_log_gives_the_sources_an_independent_count_gives() {
    let Some(log) = real_log() else {
        cauldron_tests::skipped(
            "a_real_log_gives_the_sources_an_independent_count_gives",
            "needs ../shared/data/loghub",
        );
        return;
    };
    let result = run(&log, Config { reference_year: 2015, ..Config::default() });
    let expected = [
        "5.36.59.76",
        "112.95.230.3",
        "123.235.32.19",
        "5.188.10.180",
        "106.5.5.195",
        "185.190.58.151",
        "103.99.0.122",
        "187.141.143.180",
        "60.2.12.12",
        "119.4.203.64",
        "183.62.140.253",
    ];
    assert_eq!(proposed(&result), set(&expected));
    assert_eq!(recount(&String::from_utf8_lossy(&log)), set(&expected));
    assert!(!proposed(&result).contains("119.137.62.142"), "it logged in");
    assert_eq!((result.summary.lines, result.summary.bytes), (2000, log.len() as u64));
    assert_eq!(
        (result.summary.by_reason.malformed, result.summary.by_reason.no_stamp, result.summary.by_reason.successes),
        (0, 0, 1)
    );
}
