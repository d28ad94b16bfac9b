//! Commands that need no mesh, and what the README says one can type.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Plan, cauldron, shared, skipped};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// Addresses that `agent replay` would propose over `log`, and how many proposals.
fn replayed(log: &Path) -> (BTreeSet<String>, usize) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let log = log.display().to_string();
    let found = cauldron(folder.path(), &["agent", "replay", "sshd-bruteforce", "--input", &log, "--output", "json"])
        .ok()
        .json();
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "it leaves no file behind");
    let proposals = found["proposals"].as_array().expect("a list");
    let address = |p: &serde_json::Value| p["args"]["address"].as_str().expect("an address").to_owned();
    for proposal in proposals {
        assert!(proposal["evidence"].as_array().is_some_and(|lines| !lines.is_empty()), "{proposal}");
        assert!(proposal["undo"]["plan"].as_str().is_some_and(|plan| !plan.is_empty()), "{proposal}");
    }
    (proposals.iter().map(address).collect(), proposals.len())
}

#[test]
fn replay_prints_what_would_be_proposed_and_changes_nothing() {
    let sample = repository().join("agents/samples/auth.log");
    let before = std::fs::read(&sample).expect("readable");
    let (sources, proposals) = replayed(&sample);
    assert!(!sources.is_empty() && proposals >= sources.len());
    assert_eq!(std::fs::read(&sample).expect("readable"), before);
    let again = replayed(&sample);
    assert_eq!((sources, proposals), again);
}

#[test]
fn replay_finds_the_eleven_sources_of_the_real_log() {
    let Some(log) = shared("data/loghub/OpenSSH/OpenSSH_2k.log") else {
        return skipped("replay of a real log", "needs ../shared/data/loghub");
    };
    assert_eq!(replayed(&log).0, crate::story::SOURCES.map(str::to_owned).into());
}

#[test]
fn replay_of_a_file_that_is_not_there_is_a_sentence() {
    let ran = cauldron(Path::new("/"), &["agent", "replay", "sshd-bruteforce", "--input", "/nonexistent/auth.log"]);
    assert!(ran.refused_with(3).contains("/nonexistent/auth.log"));
}

/// A bundle is packed, and says the same packed as in its folder; an evaluation is explained.
#[test]
fn a_packed_bundle_judges_and_explains_like_its_folder() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let run = |args: &[&str]| cauldron(folder.path(), &[args, &["--output", "json"]].concat());
    let policies = repository().join("deploy/policies").display().to_string();
    let packed = run(&["policy", "bundle", "--bundle", &policies, "--out", "packed.bundle"]).ok().json();
    let checked = run(&["policy", "check", "--bundle", "packed.bundle"]).ok().json();
    assert_eq!((&packed["digest"], &checked["warnings"]), (&checked["digest"], &serde_json::json!([])));
    let input = serde_json::json!({
        "confidence": { "raw_ppm": 900_000 },
        "proposal": {
            "action_class": "security.address.block/blocklist", "operation": "security.address.block",
            "args": { "address": "198.51.100.7", "ttl_s": 86_500 }, "evidence": [{}], "reversibility": "reversible",
            "undo_plan": "remove it", "created_ms": 1, "expires_ms": 2,
        },
    });
    std::fs::write(folder.path().join("input.json"), input.to_string()).expect("writable");
    let told = |bundle: &str| run(&["policy", "explain", "--bundle", bundle, "--input", "input.json"]).ok().json();
    let explained = told("packed.bundle");
    assert_eq!(explained, told(&policies));
    assert_eq!(explained["evaluation"]["outcome"], "deny");
    let flip =
        serde_json::json!({ "field": "proposal.args.ttl_s", "otherwise": { "at_most": 86_400 }, "outcome": "step_up" });
    assert!(explained["flips"].as_array().is_some_and(|flips| flips.contains(&flip)), "{explained}");
    let text = cauldron(folder.path(), &["policy", "explain", "--input", "input.json"]).ok().out;
    assert!(text.contains("if proposal.args.ttl_s ≤ 86400") && text.contains("security_address_block.rego:"), "{text}");
    std::fs::write(folder.path().join("packed.bundle"), "nonsense").expect("writable");
    assert!(run(&["policy", "check", "--bundle", "packed.bundle"]).refused_with(3).contains("packed.bundle"));
}

/// The commands of a page's shell blocks: `cauldron` and the words after it that name subcommands.
fn commands(page: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut shell = false;
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            shell = !shell && language == "sh";
            continue;
        }
        let parts: Vec<&str> = if shell { line.split(['|', '#']).collect() } else { Vec::new() };
        for part in parts {
            let mut words = part.split_whitespace();
            if words.next() == Some("cauldron") {
                let name =
                    |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-');
                // No command has a command below a command below a command.
                found.insert(words.take_while(name).take(2).map(str::to_owned).collect());
            }
        }
    }
    found
}

#[test]
fn every_command_that_the_readme_and_getting_started_name_exists() {
    for page in ["README.md", "docs/getting-started.md"] {
        let text = std::fs::read_to_string(repository().join(page)).expect("readable");
        let commands = commands(&text);
        assert!(commands.len() >= 8, "{page} names commands: {commands:?}");
        for command in commands {
            let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
            args.push("--help");
            let ran = cauldron(Path::new("/"), &args);
            assert_eq!(ran.code, Some(0), "{page}: cauldron {args:?}\n{}", ran.err);
            let named = command.last().map_or("cauldron", String::as_str);
            assert!(ran.out.contains("Usage: ") && ran.out.contains(named), "{page}: {args:?}\n{}", ran.out);
        }
    }
}

#[test]
fn a_collector_that_is_gone_holds_up_neither_start_nor_work_nor_stop() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.lyon.stop();
    let mut config = std::fs::read_to_string(mesh.lyon.config()).expect("readable");
    config.push_str("\n[telemetry]\notlp = \"http://127.0.0.1:1\"\n");
    std::fs::write(mesh.lyon.config(), config).expect("written");
    let started = Instant::now();
    mesh.lyon.start();
    mesh.lyon.until_up();
    assert!(started.elapsed() < Duration::from_secs(20), "up after {:?}", started.elapsed());
    let id = mesh.lyon.propose("192.0.2.99", 60).expect("recorded");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    let stopping = Instant::now();
    mesh.lyon.stop();
    assert!(stopping.elapsed() < Duration::from_secs(15), "stopped after {:?}", stopping.elapsed());
}

#[test]
fn a_kill_names_what_it_stops_or_is_refused() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let kill = |args: &[&str]| mesh.hq.run(&[&["kill", "--reason", "drill", "--yes"], args].concat());
    for (args, why) in [
        (["--agent", "sshd-bruteforce"], "is no agent"),
        (["--class", "block"], "is no action class"),
        (["--site", "Lyon!"], "site"),
    ] {
        let refused = kill(&args);
        assert!(refused.code.is_some_and(|c| c != 0) && refused.err.contains(why), "{refused:?}");
    }
    assert_eq!(mesh.hq.items("/v1/restrictions").len(), 0, "nothing was recorded");

    let before = mesh.lyon.propose("203.0.113.31", 600).expect("recorded");
    mesh.hq.until_state(&before, "PENDING_APPROVAL");
    let agent = mesh.hq.items("/v1/proposals")[0]["agent"].as_str().expect("an agent").to_owned();
    kill(&["--agent", &agent]).ok();
    mesh.lyon.until_state(&before, "DENIED");
    let after = mesh.lyon.propose("203.0.113.32", 600).expect("recorded");
    mesh.lyon.until_state(&after, "DENIED");
}
