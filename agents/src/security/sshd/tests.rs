use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

const START_S: i64 = 1_795_338_000; // 2026-11-22T09:00:00Z

/// Feeds `(seconds after START_S, message)` and returns the findings as text.
fn findings(detector: &mut SshdBruteforce, lines: &[(i64, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (n, (after_s, message)) in (1u64..).zip(lines) {
        let line = format!("{} host sshd[7]: {message}", rfc3339(START_S + after_s));
        let line = LineRef { bytes: line.as_bytes(), line_no: n, offset: n * 100 };
        if let Some(f) = detector.observe(line) {
            found.push(format!("+{after_s} {} x{} from +{}", f.source, f.failures, f.window_start_s - START_S));
        }
    }
    found
}

fn failed(after_s: i64, source: &str) -> (i64, String) {
    (after_s, format!("Failed password for root from {source} port 22 ssh2"))
}

fn repeated(after_s: i64, n: u64, source: &str) -> (i64, String) {
    (after_s, format!("message repeated {n} times: [ Failed password for root from {source} port 22 ssh2]"))
}

fn accepted(after_s: i64, source: &str) -> (i64, String) {
    (after_s, format!("Accepted password for root from {source} port 22 ssh2"))
}

fn detector() -> SshdBruteforce {
    SshdBruteforce::new(Config {
        own_addresses: vec!["192.0.2.10".parse().unwrap(), "::ffff:192.0.2.11".parse().unwrap()],
        allow: vec!["203.0.113.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()],
        ..Config::default()
    })
}

const A: &str = "198.51.100.7";

/// Name, lines, findings.
type Case = (&'static str, Vec<(i64, String)>, &'static [&'static str]);

#[test]
fn the_rule() {
    let five = |source: &str| (0..5).map(|n| failed(n, source)).collect::<Vec<_>>();
    let every = |step: i64, n: i64| (0..n).map(|k| failed(k * step, A)).collect::<Vec<_>>();
    let cases: Vec<Case> = vec![
        ("four are not enough", every(1, 4), &[]),
        ("five are", every(1, 5), &["+4 198.51.100.7 x5 from +0"]),
        ("both ends belong to the window", every(150, 5), &["+600 198.51.100.7 x5 from +0"]),
        ("a second too long", [every(150, 4), vec![failed(601, A)]].concat(), &[]),
        ("four per window for ever", every(151, 60), &[]),
        ("N times counts N", vec![failed(0, A), repeated(9, 4, A)], &["+9 198.51.100.7 x5 from +0"]),
        ("an absurd N is bounded", vec![repeated(0, u64::MAX, A)], &["+0 198.51.100.7 x1000 from +0"]),
        ("sources are counted apart", (0..8).map(|n| failed(n, &format!("198.51.100.{}", n % 2))).collect(), &[]),
        (
            "one host under two names",
            (0..5).map(|n| failed(n, [A, "::ffff:198.51.100.7"][n as usize % 2])).collect(),
            &["+4 198.51.100.7 x5 from +0"],
        ),
        ("IPv6", five("2001:db8::7"), &["+4 2001:db8::7 x5 from +0"]),
        ("loopback", five("127.0.0.1"), &[]),
        ("loopback under another name", five("::ffff:127.0.0.1"), &[]),
        ("link-local", five("fe80::1"), &[]),
        ("our own address", five("192.0.2.10"), &[]),
        ("our own address under another name", five("::ffff:192.0.2.10"), &[]),
        ("our own address, configured under another name", five("192.0.2.11"), &[]),
        ("an allowed address", five("203.0.113.200"), &[]),
        ("an allowed IPv6 address", five("2001:db8:1:2::3"), &[]),
        ("a success before", [vec![accepted(-600, A)], every(1, 5)].concat(), &[]),
        ("a success long before", [vec![accepted(-601, A)], every(1, 5)].concat(), &["+4 198.51.100.7 x5 from +0"]),
        ("a success between", [every(1, 4), vec![accepted(4, A), failed(5, A), failed(6, A)]].concat(), &[]),
        (
            "somebody else's success",
            [vec![accepted(0, "198.51.100.8")], every(1, 5)].concat(),
            &["+4 198.51.100.7 x5 from +0"],
        ),
        (
            "a late line is put in its place",
            vec![failed(0, A), failed(10, A), failed(5, A), failed(400, A), failed(11, A), failed(12, A)],
            &["+11 198.51.100.7 x5 from +0"],
        ),
        ("one open finding", every(1, 500), &["+4 198.51.100.7 x5 from +0"]),
        (
            "armed again after the time to live",
            every(10, 372),
            &["+40 198.51.100.7 x5 from +0", "+3650 198.51.100.7 x5 from +3610"],
        ),
    ];
    for (name, lines, expected) in cases {
        assert_eq!(findings(&mut detector(), &lines), expected, "{name}");
    }
}

#[test]
fn a_settled_source_is_armed_again_after_its_window() {
    let mut d = detector();
    let burst = |at: i64| (at..at + 5).map(|n| failed(n, A)).collect::<Vec<_>>();
    assert_eq!(findings(&mut d, &burst(0)).len(), 1);
    d.settled("::ffff:198.51.100.7".parse().unwrap());
    assert_eq!(findings(&mut d, &burst(300)), [""; 0], "the window is not over");
    assert_eq!(findings(&mut d, &burst(1000)), ["+1004 198.51.100.7 x5 from +1000"]);
    assert_eq!(findings(&mut d, &burst(2000)), [""; 0], "open and not settled");
}

#[test]
fn after_a_restart_what_is_open_stays_one() {
    let mut d = detector();
    d.handle(Observation::Opened { intent_key: "198.51.100.7/2026-11-22T09:00:00Z" });
    let lines: Vec<_> = (0..5).map(|n| failed(n, A)).collect();
    assert_eq!(findings(&mut d, &lines), [""; 0]);
    d.handle(Observation::Settled { object: A });
    // What lies in the window belongs to the open proposal.
    let lines: Vec<_> = [598, 599, 600, 610].map(|n| failed(n, A)).into();
    assert_eq!(findings(&mut d, &lines), [""; 0]);
    let lines: Vec<_> = (700..704).map(|n| failed(n, A)).collect();
    assert_eq!(findings(&mut d, &lines), ["+703 198.51.100.7 x5 from +610"]);
}

#[test]
fn a_draft_that_waited_falls_with_a_login() {
    let mut d = SshdBruteforce::new(Config { ttl_s: 3_600, ..Config::default() });
    let drafts = |d: &mut SshdBruteforce, from: i64| {
        let lines: Vec<_> = (from..from + 5).map(|n| failed(n, A)).collect();
        let mut found = Vec::new();
        for (after_s, message) in lines {
            let text = format!("{} host sshd[7]: {message}", rfc3339(START_S + after_s));
            d.handle(Observation::Line(LineRef { bytes: text.as_bytes(), line_no: 1, offset: 0 }));
            found.extend(d.poll());
        }
        found
    };
    let draft = drafts(&mut d, 0).pop().expect("found");
    assert!(d.still_stands(&draft));
    // Much later than the window, and long before anybody asks again.
    assert_eq!(findings(&mut d, &[accepted(1_500, A), failed(3_000, "192.0.2.1")]), [""; 0]);
    assert!(!d.still_stands(&draft), "it has logged in");
    let draft = drafts(&mut d, 4_000).pop().expect("found again once its time to live has passed");
    assert!(d.still_stands(&draft), "that login was long before");
}

#[test]
fn a_log_that_begins_with_a_line_without_a_stamp_was_not_entered_midway() {
    let lines: Vec<String> =
        (0..5).map(|n| format!("{} h sshd[1]: {}", rfc3339(START_S + n), failed(n, A).1)).collect();
    let feed = |first_no: u64, begin: &dyn Fn(&mut SshdBruteforce)| {
        let mut d = detector();
        begin(&mut d);
        let found = lines.iter().zip(first_no..).filter_map(|(line, line_no)| {
            d.observe(LineRef { bytes: line.as_bytes(), line_no, offset: line_no * 100 })
        });
        found.count()
    };
    let half_a_line = |line_no| {
        move |d: &mut SshdBruteforce| {
            assert!(d.observe(LineRef { bytes: b"half a line", line_no, offset: 0 }).is_none());
        }
    };
    assert_eq!((feed(1, &|_| {}), feed(2, &half_a_line(1)), feed(2, &|d| d.too_long(1))), (1, 1, 1));
    assert_eq!((feed(7, &|_| {}), feed(8, &half_a_line(7)), feed(8, &|d| d.too_long(7))), (0, 0, 0));
}

#[test]
fn memory_is_bounded_and_a_flood_does_not_erase_successes() {
    let mut d = SshdBruteforce::new(Config { sources_max: 3, ..Config::default() });
    let mut lines = vec![accepted(0, A)];
    lines.extend((0..50).map(|n| failed(n, &format!("2001:db8::{n:x}"))));
    lines.extend((50..60).map(|n| failed(n, A)));
    assert_eq!(findings(&mut d, &lines), [""; 0]);
    assert_eq!(d.counters().evicted, 48);
    // The one that is silent for longest goes first.
    let mut d = SshdBruteforce::new(Config { sources_max: 2, ..Config::default() });
    let busy = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.1",
        "192.0.2.3",
        "192.0.2.1",
        "192.0.2.4",
        "192.0.2.1",
        "192.0.2.5",
        "192.0.2.1",
    ];
    let lines: Vec<_> = (0..).zip(busy).map(|(n, a)| failed(n, a)).collect();
    assert_eq!(findings(&mut d, &lines), ["+8 192.0.2.1 x5 from +0"]);
}

#[test]
fn a_draft_tells_the_whole_story() {
    let mut d = SshdBruteforce::new(Config { ttl_s: 20, reference_year: 2025, ..Config::default() });
    let lines = [
        "Dec 31 23:59:50 h sshd[1]: Failed password for invalid user \x1b[31m from 198.51.100.7 port 22 ssh2",
        "Jan  1 00:00:10 h sshd[1]: message repeated 4 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]",
    ];
    let mut drafts = Vec::new();
    for (n, line) in (1u64..).zip(lines) {
        d.handle(Observation::Line(LineRef { bytes: line.as_bytes(), line_no: n, offset: 0 }));
        drafts.extend(d.poll());
    }
    let mut json = serde_json::to_value(&drafts).unwrap();
    assert_eq!(json[0]["evidence"][1]["digest"], Digest::from_bytes(sha256(lines[1].as_bytes())).to_string());
    json[0]["agent"]["build_digest"] = "…".into();
    json[0]["evidence"][0]["digest"] = "…".into();
    json[0]["evidence"][1]["digest"] = "…".into();
    expect![[r#"
        [
          {
            "agent": {
              "name": "sshd-bruteforce",
              "build_digest": "…"
            },
            "module": "security",
            "operation": "security.address.block",
            "risk_class": "R1",
            "connector": "blocklist",
            "object": "198.51.100.7",
            "args": {
              "address": "198.51.100.7",
              "reason": "5 failed sshd logins from 198.51.100.7 within 20 s, none successful",
              "ttl_s": 20
            },
            "undo": {
              "reversible": true,
              "plan": "the line for 198.51.100.7 leaves the blocklist by itself after 20 s; removing it by hand undoes the block at once"
            },
            "rationale": "5 failed sshd logins from 198.51.100.7 within 20 s, none successful (first 2025-12-31T23:59:50Z, last 2026-01-01T00:00:10Z); the rule asks for 5 within 600 s.",
            "confidence_ppm": 565508,
            "confidence_method": "wilson-lower-95/v0",
            "evidence": [
              {
                "line_no": 1,
                "event_s": 1767225590,
                "count": 1,
                "digest": "…",
                "text": "Dec 31 23:59:50 h sshd[1]: Failed password for invalid user \\u{1b}[31m from 198.51.100.7 port 22 ssh2"
              },
              {
                "line_no": 2,
                "event_s": 1767225610,
                "count": 4,
                "digest": "…",
                "text": "Jan  1 00:00:10 h sshd[1]: message repeated 4 times: [ Failed password for root from 198.51.100.7 port 22 ssh2]"
              }
            ],
            "taint": [
              "untrusted:log"
            ],
            "intent_key": "198.51.100.7/2025-12-31T23:59:50Z",
            "window_start_s": 1767225590,
            "window_end_s": 1767225610
          }
        ]"#]].assert_eq(&serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn confidence_is_the_documented_formula() {
    let wilson = |n: f64| 1e6 * n / (n + 1.96f64 * 1.96);
    for n in [1u32, 5, 6, 80, 100, 1000, u32::MAX] {
        assert!((f64::from(confidence_ppm(n)) - wilson(f64::from(n))).abs() <= 1.0, "{n}");
    }
    assert_eq!((confidence_ppm(5), confidence_ppm(100)), (565_508, 963_005));
}

#[test]
fn every_line_is_counted_once() {
    let mut d = detector();
    let lines = [
        "no stamp",
        "Nov 22 09:00:00 h cron[1]: x",
        "Nov 22 09:00:00 h sshd[1]: Connection closed",
        "Nov 22 09:00:00 h sshd[1]: Failed password for a from b",
        "Nov 22 09:00:00 h sshd[1]: Accepted password for a from 192.0.2.1 port 1 ssh2",
        "Nov 22 09:00:00 h sshd[1]: Failed password for a from 127.0.0.1 port 1 ssh2",
    ];
    for line in lines {
        assert_eq!(d.observe(LineRef { bytes: line.as_bytes(), line_no: 1, offset: 0 }), None);
    }
    let long = vec![b'x'; LINE_BYTES_MAX + 1];
    d.observe(LineRef { bytes: &long, line_no: 1, offset: 0 });
    let expected = Counters {
        no_stamp: 1,
        other_program: 1,
        other_message: 1,
        malformed: 1,
        too_long: 1,
        successes: 1,
        failures: 1,
        exempt: 1,
        ..Counters::default()
    };
    assert_eq!(d.counters(), expected);
}

/// The rule written down a second time: all events are kept, and everything is looked through for each line.
fn first_findings(events: &[(i64, u8, u32, bool)]) -> BTreeMap<u8, i64> {
    let mut first = BTreeMap::new();
    for (n, &(at, source, _, success)) in events.iter().enumerate() {
        let mine = || events.iter().take(n + 1).filter(move |e| e.1 == source);
        let window: Vec<_> = mine().filter(|e| !e.3 && e.0 >= at - 600).collect();
        let newest = &window[window.len().saturating_sub(5)..];
        let count: u32 = newest.iter().map(|e| e.2).sum();
        let spared = newest.first().is_some_and(|oldest| mine().any(|e| e.3 && e.0 >= oldest.0 - 600));
        if !success && count >= 5 && !spared {
            first.entry(source).or_insert(at);
        }
    }
    first
}

proptest! {
    #[test]
    fn the_detector_agrees_with_the_rule(steps in proptest::collection::vec((0i64..200, 0u8..4, 1u32..4, 0u8..8), 0..80)) {
        let mut at = 0;
        let events: Vec<_> = steps.into_iter().map(|(step, source, count, kind)| { at += step; (at, source, count, kind == 0) }).collect();
        let lines: Vec<_> = events.iter().map(|&(at, source, count, success)| {
            let address = format!("192.0.2.{source}");
            match (success, count) {
                (true, _) => accepted(at, &address),
                (false, 1) => failed(at, &address),
                (false, n) => repeated(at, n.into(), &address),
            }
        }).collect();
        let mut first = BTreeMap::new();
        for text in findings(&mut detector(), &lines) {
            let mut words = text.split(' ');
            let at: i64 = words.next().unwrap().parse().unwrap();
            let source: u8 = words.next().unwrap().rsplit('.').next().unwrap().parse().unwrap();
            first.entry(source).or_insert(at);
        }
        prop_assert_eq!(first, first_findings(&events));
    }

    /// A restart at any line, with what is open told and the lines from `resume_at` read again, changes nothing.
    #[test]
    fn a_restart_changes_nothing(steps in proptest::collection::vec((0i64..200, 0u8..3, 0u8..8), 1..80), cut in 0usize..80) {
        let config = Config { ttl_s: 86_400, ..Config::default() };
        let mut at = START_S;
        let lines: Vec<String> = steps.iter().map(|(step, source, kind)| {
            at += step;
            let word = if *kind == 0 { "Accepted" } else { "Failed" };
            format!("{} h sshd[1]: {word} password for a from 192.0.2.{source} port 1 ssh2", rfc3339(at))
        }).collect();
        let feed = |d: &mut SshdBruteforce, from: usize, to: usize| {
            let mut keys = Vec::new();
            for (n, line) in lines.iter().enumerate().take(to).skip(from) {
                d.handle(Observation::Line(LineRef { bytes: line.as_bytes(), line_no: n as u64 + 1, offset: n as u64 }));
                keys.extend(d.poll().map(|draft| draft.intent_key));
            }
            keys
        };
        let expected = feed(&mut SshdBruteforce::new(config.clone()), 0, lines.len());
        let cut = cut.min(lines.len());
        let mut first = SshdBruteforce::new(config.clone());
        let mut keys = feed(&mut first, 0, cut);
        let mut second = SshdBruteforce::new(config);
        keys.iter().for_each(|intent_key| second.handle(Observation::Opened { intent_key }));
        let from = first.resume_at().map_or(0, |p| p.offset as usize);
        keys.extend(feed(&mut second, from, lines.len()));
        prop_assert_eq!(keys, expected);
    }

    #[test]
    fn a_framed_address_is_never_proposed(users in proptest::collection::vec(r"[ -~]{0,30} from 192\.0\.2\.66 port 22 ssh2[ -~]{0,10}", 12)) {
        let lines: Vec<_> = (0..).zip(&users).map(|(n, user)| {
            (n, format!("Failed password for invalid user {user} from {A} port 4711 ssh2"))
        }).collect();
        let found = findings(&mut detector(), &lines);
        prop_assert_eq!(found, ["+4 198.51.100.7 x5 from +0"]);
    }

    #[test]
    fn no_bytes_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20), glue in any::<bool>()) {
        let mut d = detector();
        for line in &lines {
            let line = if glue { [b"Nov 22 09:00:00 h sshd[1]: Failed password for x from ".as_slice(), line].concat() } else { line.clone() };
            d.observe(LineRef { bytes: &line, line_no: u64::MAX, offset: u64::MAX });
        }
    }
}
