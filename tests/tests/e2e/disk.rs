//! A disk that takes no more.

use cauldron_tests::{Mesh, Node, Plan, cauldron};
use serde_json::json;

/// One site may have 500 open; at some 30 KiB each the store is full long before.
const PROPOSALS_MAX: u32 = 400;

/// A proposal with as much evidence as one may carry; nothing when it was not acknowledged.
fn propose_much(node: &Node, n: u32) -> Option<String> {
    let evidence: Vec<String> = (0..64).map(|line| format!("line {line}: {}", "scanned ".repeat(60))).collect();
    let body = json!({
        "operation": "security.address.block",
        "args": { "address": format!("198.18.{}.{}", n / 250, n % 250 + 1), "ttl_s": 600, "reason": "scans our VPN" },
        "rationale": "The provider reports scans of our VPN from this address.",
        "agent": format!("operator-{}", n / 20),
        "evidence": evidence,
    });
    let answer = cauldron_tests::request(&node.dir().join("node.sock"), "/v1/proposals", Some(&body)).ok()?;
    (answer.status == 200).then(|| answer.json()["id"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_node_whose_disk_is_full_stops_with_a_sentence_and_has_everything_it_acknowledged() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.lyon.stop();
    let store = mesh.lyon.dir().join("store.redb");
    let blocks = std::fs::metadata(&store).expect("there").len().div_ceil(1024);
    mesh.lyon.limit_files(Some(blocks + 256));
    mesh.lyon.start();
    mesh.lyon.until_up();
    let recorded: Vec<String> = (0..PROPOSALS_MAX).map_while(|n| propose_much(&mesh.lyon, n)).collect();
    assert!((1..PROPOSALS_MAX as usize).contains(&recorded.len()), "{} were recorded", recorded.len());

    let status = mesh.lyon.until_ended();
    assert_eq!(status.code(), Some(6), "{}", mesh.lyon.log());
    assert!(mesh.lyon.logged("the store did not confirm a write; the node has stopped") >= 1, "{}", mesh.lyon.log());
    assert!(mesh.lyon.logged("check the disk and its free space") >= 1, "{}", mesh.lyon.log());

    mesh.lyon.limit_files(None);
    mesh.lyon.start();
    mesh.until_up();
    for id in &recorded {
        assert!(!mesh.lyon.state(id).is_empty(), "{id} was acknowledged and is gone");
    }
    mesh.until_converged();
    mesh.lyon.stop();
    cauldron(mesh.folder(), &["store", "verify", "--node", &mesh.lyon.dir().display().to_string()]).ok();
}
