//! Resources go to another node, by their owner's hand or by the council's: the new owner acts, the old one does not.

use cauldron_tests::{Mesh, Node, Plan, Ran, eventually};
use serde_json::json;

const PREFIX: &str = "lyon/lyon/blocklist";
const LYON: &str = "spiffe://acme.example/site/lyon/node/lyon";
const NEXT: &str = "spiffe://acme.example/site/lyon/node/lyon-2";

/// A mesh whose site lyon has a second node with a blocklist of its own, `<folder>/blocklist-2`.
fn with_next() -> (Mesh, Node) {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let dir = mesh.hq.dir().display().to_string();
    let token = cauldron_tests::cauldron(mesh.folder(), &["authority", "token", NEXT, "--node", &dir]).ok().out;
    let at = |name: &str| mesh.folder().join(name).display().to_string();
    let (log, blocklist) = (at("auth-2.log"), at("blocklist-2"));
    std::fs::write(&log, "").expect("written");
    mesh.join_with(token.trim(), &["--auth-log", &log, "--blocklist", &blocklist]).ok();
    let mut next = Node::new(mesh.folder(), "lyon-2");
    next.start();
    next.until_up();
    eventually("lyon-2 is active", || next.get("/v1/self")["state"] == "active");
    (mesh, next)
}

/// Whether a blocklist names `address`.
fn lists(mesh: &Mesh, file: &str, address: &str) -> bool {
    let text = std::fs::read_to_string(mesh.folder().join(file)).unwrap_or_default();
    text.lines().any(|line| line.split(' ').next() == Some(address))
}

/// Proposes at `node` to block `address` on what is called lyon's.
fn propose(mesh: &Mesh, node: &Node, address: &str) -> Ran {
    let args = json!({ "address": address, "ttl_s": 36_000, "reason": "scans our VPN" });
    let body = json!({
        "operation": "security.address.block", "args": args, "rationale": "r", "evidence": ["ticket 7"], "node": "lyon",
    });
    let file = mesh.folder().join("proposal.json");
    std::fs::write(&file, body.to_string()).expect("written");
    node.run(&["propose", "--file", &file.display().to_string()])
}

fn id(ran: Ran) -> String {
    ran.ok().json()["id"].as_str().expect("an id").to_owned()
}

/// By whom a proposal was started.
fn started_by(node: &Node, id: &str) -> Vec<String> {
    let by = |fact: &serde_json::Value| fact["spiffe_id"].as_str().unwrap_or_default().to_owned();
    node.facts(id, "started").iter().map(by).collect()
}

#[test]
fn an_owner_hands_over_and_from_then_on_the_next_one_acts_and_the_old_one_refuses() {
    let (mut mesh, next) = with_next();
    let before = mesh.lyon.propose("198.51.100.1", 36_000).expect("recorded");
    mesh.hq.until_state(&before, "PENDING_APPROVAL");
    mesh.approve(&before).ok();
    mesh.lyon.until_state(&before, "DONE");
    // Whoever proposes it, its owner acts.
    let asked = id(propose(&mesh, &next, "198.51.100.2"));
    mesh.hq.until_state(&asked, "PENDING_APPROVAL");
    mesh.approve(&asked).ok();
    mesh.hq.until_state(&asked, "DONE");
    assert_eq!(started_by(&mesh.hq, &asked), [LYON]);
    next.run(&["ownership", "offer", PREFIX, "--to", NEXT, "--yes"]).refused_with(5);

    mesh.lyon.run(&["ownership", "offer", PREFIX, "--to", NEXT, "--yes"]).ok();
    eventually("lyon-2 hears of it", || next.items("/v1/ownership/offers").len() == 1);
    let offer = next.items("/v1/ownership/offers")[0]["id"].as_str().expect("an id").to_owned();
    mesh.lyon.run(&["ownership", "accept", &offer]).refused_with(5);
    // From the offer on nobody starts anything.
    let between = mesh.lyon.propose("198.51.100.3", 36_000).expect("recorded");
    mesh.hq.until_state(&between, "PENDING_APPROVAL");
    mesh.approve(&between).ok();
    mesh.hq.until_state(&between, "APPROVED");
    next.run(&["ownership", "accept", &offer]).ok();
    eventually("it is done", || {
        next.items("/v1/ownership/offers").is_empty() && mesh.lyon.items("/v1/ownership/offers").is_empty()
    });
    mesh.hq.until_state(&between, "DONE");
    assert_eq!(started_by(&mesh.hq, &between), [NEXT]);
    assert!(lists(&mesh, "blocklist-2", "198.51.100.3") && !lists(&mesh, "blocklist", "198.51.100.3"));

    // The next owner proposes by the old name, sees what would change, and acts; the old one may not even take back.
    let after = id(propose(&mesh, &next, "198.51.100.4"));
    mesh.hq.until_state(&after, "PENDING_APPROVAL");
    let shown = mesh.hq.run(&["approvals", "show", &after]).ok().json()["presentation"].to_string();
    assert!(shown.contains("+198.51.100.4 # until"), "{shown}");
    mesh.approve(&after).ok();
    mesh.hq.until_state(&after, "DONE");
    assert_eq!(started_by(&mesh.hq, &after), [NEXT]);
    let late = id(propose(&mesh, &mesh.lyon, "198.51.100.5"));
    mesh.hq.until_state(&late, "PENDING_APPROVAL");
    mesh.approve(&late).ok();
    mesh.hq.until_state(&late, "DONE");
    assert_eq!(started_by(&mesh.hq, &late), [NEXT]);
    mesh.lyon.run(&["ownership", "offer", PREFIX, "--to", NEXT, "--yes"]).refused_with(5);
    mesh.lyon.run(&["undo", &before, "--reason", "wrong", "--yes"]).refused_with(5);
    assert!(lists(&mesh, "blocklist", "198.51.100.1"));
    assert_eq!(mesh.carried_out(), 2);
    mesh.until_converged();
}

#[test]
fn after_a_cut_the_council_moves_what_a_node_owned_and_the_cut_one_does_nothing_more() {
    let (mesh, next) = with_next();
    let lyon = mesh.lyon.get("/v1/self")["author"].as_str().expect("an id").to_owned();
    let move_it = |out: &str| {
        let args = ["ownership", "reassign", PREFIX, "--from", &lyon, "--to", NEXT, "--fencing", "local", "--out", out];
        mesh.hq.run(&args)
    };
    // Approved at the last moment: lyon never hears of it.
    let first = mesh.lyon.propose("198.51.100.1", 36_000).expect("recorded");
    mesh.hq.until_state(&first, "PENDING_APPROVAL");
    move_it("early.entry").ok();
    mesh.hq.run(&["authority", "sign", "early.entry", "--key", &mesh.council_key(), "--yes"]).ok();
    assert!(mesh.hq.run(&["authority", "submit", "early.entry"]).refused_with(5).contains("cut it first"));
    mesh.hq.run(&["authority", "cut", &lyon, "--out", "cut.entry"]).ok();
    mesh.ratify("cut.entry");
    move_it("move.entry").ok();
    mesh.ratify("move.entry");
    let head = mesh.hq.get("/v1/authority")["head"].clone();
    eventually("lyon-2 holds it", || next.get("/v1/authority")["head"] == head);

    // What was proposed before the cut is still there, for whoever owns it now.
    mesh.approve(&first).ok();
    mesh.hq.until_state(&first, "DONE");
    let second = id(propose(&mesh, &next, "198.51.100.2"));
    mesh.hq.until_state(&second, "PENDING_APPROVAL");
    mesh.approve(&second).ok();
    mesh.hq.until_state(&second, "DONE");
    for (proposal, address) in [(&first, "198.51.100.1"), (&second, "198.51.100.2")] {
        assert_eq!(started_by(&mesh.hq, proposal), [NEXT]);
        assert!(lists(&mesh, "blocklist-2", address) && !lists(&mesh, "blocklist", address), "{address}");
    }
    assert_eq!(mesh.carried_out(), 0, "the old owner did nothing");
}
