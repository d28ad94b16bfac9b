//! The matrix of bad certificates against a real node, and what the node says about it.

use std::process::Command;

use cauldron_tests::{Mesh, Plan, binary, free_port};

/// Cases of `cauldron_tests::badcert`, one UDP port each.
const CASES: usize = 17;

#[test]
fn the_adversary_gets_nowhere_and_the_node_says_why() {
    let mut mesh = Mesh::only_hq(Plan::default());
    // hq calls the adversary too: one address for each bad certificate.
    let addresses: Vec<String> = (0..CASES).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let peers: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let text = std::fs::read_to_string(mesh.hq.config()).expect("there");
    let text = text.replacen("[mesh]", &format!("[mesh]\njoin = [{}]", peers.join(", ")), 1);
    std::fs::write(mesh.hq.config(), text).expect("written");
    mesh.hq.restart();

    let target = mesh.hq.get("/v1/self")["listen"][0].as_str().expect("an address").to_owned();
    let adversary = binary().with_file_name("cauldron-adversary");
    let run = |more: &[&str]| {
        let mut command = Command::new(&adversary);
        command.args(["badcert", "--all", "--target", &target]).args(more);
        let output = command.output().expect("the adversary starts");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
        table
    };
    let ca = mesh.hq.dir().join("ca").display().to_string();
    let table = run(&["--ca", &ca, "--listen", &addresses.join(",")]);
    assert!(table.contains("\n0 accepted of"), "{table}");
    let acceptors = table.lines().filter(|line| line.starts_with("acceptor")).count();
    assert_eq!(acceptors, CASES, "{table}");

    // A call is over when the data lane was tried too, and nobody listens there any more.
    cauldron_tests::eventually("every refusal is counted", || {
        mesh.hq.get("/v1/self")["refused_connections"]["by_code"]["certificate"].as_u64() >= Some(4 * CASES as u64)
    });
    let own = mesh.hq.get("/v1/self");
    let refused = &own["refused_connections"];
    assert!(refused["by_code"]["no_certificate"].as_u64() >= Some(1), "{refused}");
    let last = refused["last"].as_array().expect("a list");
    assert!((1..=32).contains(&last.len()), "{refused}");
    let reasons = refused["last"].to_string();
    for part in ["may sign below", "expired at", "is valid from", "belongs to trust domain", "has 5 certificates"] {
        assert!(reasons.contains(part), "{part} is missing in {reasons}");
    }
    let why = mesh.hq.run(&["why", "spiffe://acme.example/site/adversary/node/adversary"]).ok().out;
    assert!(why.contains("no member of this mesh") && why.contains("expired at"), "{why}");
    assert_eq!(own["state"], "active");
    assert!(mesh.hq.items("/v1/peers").is_empty());

    let table = run(&[]);
    assert!(table.contains("\n0 accepted of"), "an authority of its own gets it nowhere either: {table}");
}

#[test]
fn a_missing_peer_is_explained() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.hq.kill9();
    cauldron_tests::eventually("lyon says what becomes of its calls", || {
        let ran = mesh.lyon.run(&["why", "hq"]);
        ran.out.contains("is unreachable") && ran.out.contains("calling 127.0.0.1")
    });
}
