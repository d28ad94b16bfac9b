//! The main job, told on a real attack.

use std::collections::BTreeSet;
use std::path::Path;

use cauldron_tests::{Mesh, Plan, eventually, shared, skipped};

/// The sources in the OpenSSH log of Loghub that fail five times within ten minutes and never succeed. Found by a separate script
/// that shares no code with the agent.
pub const SOURCES: [&str; 11] = [
    "103.99.0.122",
    "106.5.5.195",
    "112.95.230.3",
    "119.4.203.64",
    "123.235.32.19",
    "183.62.140.253",
    "185.190.58.151",
    "187.141.143.180",
    "5.188.10.180",
    "5.36.59.76",
    "60.2.12.12",
];

/// Whether a file below `folder` contains `text`.
fn holds(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
    let mut files = files.filter(|path| path.is_file());
    files.any(|path| std::fs::read(path).expect("readable").windows(text.len()).any(|w| w == text.as_bytes()))
}

#[test]
fn a_real_attack_is_proposed_decided_executed_once_and_undone_and_porto_sees_nothing_of_it() {
    let Some(log) = shared("data/loghub/OpenSSH/OpenSSH_2k.log") else {
        return skipped("story on a real log", "needs ../shared/data/loghub");
    };
    let mut mesh = Mesh::found_with(Plan { block_ttl: Some("6s"), ..Plan::default() });
    mesh.log_lines(std::fs::read(log).expect("readable"));

    let address = |target: &str| target.rsplit('/').next().unwrap_or_default().to_owned();
    let sources = |mesh: &Mesh| -> BTreeSet<String> {
        let all = mesh.hq.items("/v1/approvals");
        all.iter().map(|p| address(p["target"].as_str().unwrap_or_default())).collect()
    };
    eventually("hq asks a person about every source", || sources(&mesh).len() >= SOURCES.len());
    assert_eq!(sources(&mesh), SOURCES.map(str::to_owned).into());
    assert_eq!(mesh.lyon.items("/v1/proposals").len(), SOURCES.len(), "one open proposal per source");

    let waiting = mesh.hq.items("/v1/approvals");
    let [yes, no] = [&waiting[0], &waiting[1]].map(|p| p["id"].as_str().expect("an id").to_owned());
    let [good, spared] = [&waiting[0], &waiting[1]].map(|p| address(p["target"].as_str().expect("a target")));
    let evidence = mesh.hq.get(&format!("/v1/proposals/{yes}"))["proposal"]["evidence"].clone();
    assert!(evidence.as_array().is_some_and(|lines| lines.iter().all(|l| l["text"].to_string().contains(&good))));

    mesh.approve(&yes).ok();
    mesh.deny(&no).ok();
    eventually("the address stands in the blocklist", || mesh.blocked(&good) == 1);
    mesh.lyon.until_state(&no, "DENIED");
    mesh.lyon.until_state(&yes, "DONE");
    eventually("its time is over and the line is gone", || mesh.blocked(&good) == 0);
    eventually("hq knows that it ended", || mesh.hq.facts(&yes, "ended").len() == 1);

    assert_eq!(mesh.carried_out(), 1, "the connector acted once in all");
    assert_eq!(mesh.lyon.facts(&yes, "started").len(), 1);
    assert_eq!(mesh.hq.facts(&no, "permit").len(), 0, "what was denied has no permit");
    let traces = ["blocklist", "blocklist.journal"]
        .map(|file| std::fs::read_to_string(mesh.folder().join(file)).expect("readable"));
    assert!(traces.iter().all(|text| !text.contains(&spared)), "{traces:?}");

    assert!(mesh.porto.items("/v1/proposals").is_empty());
    let sites = mesh.porto.items("/v1/sites");
    assert!(sites.iter().any(|s| s["site"] == "lyon" && s["source"] == "peer"), "the public line arrives: {sites:?}");
    mesh.until_converged();
    mesh.porto.stop();
    for secret in [good.as_str(), "Failed password", "sshd-bruteforce", "site/lyon#", yes.as_str()] {
        assert!(!holds(&mesh.porto.dir(), secret), "{secret:?} lies on porto's disk");
        assert!(!mesh.porto.log().contains(secret), "{secret:?} is in porto's log");
    }
    assert!(
        holds(&mesh.hq.dir(), &good) && holds(&mesh.lyon.dir(), "sshd-bruteforce"),
        "the search finds what is there"
    );
}
