//! Starts that end with a sentence and exit code 3, before anything is touched.

use std::net::UdpSocket;
use std::path::Path;

use cauldron_tests::{Mesh, Node, Plan, Ran, cauldron, free_port};
use tempfile::TempDir;

/// A founded node that does not run.
fn founded() -> (TempDir, u16) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let args = ["init", "--first", "--trust-domain", "acme.example", "--person", "ana", "--listen", &listen];
    cauldron(folder.path(), &args).ok();
    (folder, port)
}

fn run(folder: &Path) -> Ran {
    cauldron(folder, &["node", "run", "--config", "hq/node.toml"])
}

/// Changes hq's configuration, starts it, and looks for `sentences` in what it says.
#[track_caller]
fn refuses(change: impl Fn(String) -> String, sentences: &[&str]) {
    let (folder, _) = founded();
    let path = folder.path().join("hq/node.toml");
    let text = std::fs::read_to_string(&path).expect("readable");
    let changed = change(text.clone());
    assert_ne!(changed, text);
    std::fs::write(&path, changed).expect("written");
    let ran = run(folder.path());
    let error = ran.refused_with(3);
    for sentence in sentences {
        assert!(error.contains(sentence), "{sentence:?} is not in: {error}");
    }
    assert!(error.contains("Hint: ") || error.contains("problems"), "it says what to do: {error}");
    assert!(!folder.path().join("hq/node.sock").exists() && !folder.path().join("hq/store.redb").exists());
}

#[test]
fn another_charter_is_refused() {
    let zeros = "0".repeat(64);
    refuses(
        |text| {
            let lines = text
                .lines()
                .map(|l| if l.starts_with("charter") { format!("charter = \"{zeros}\"") } else { l.into() });
            lines.collect::<Vec<_>>().join("\n")
        },
        &["data directory of another mesh", &zeros, "mesh.charter"],
    );
}

#[test]
fn the_data_directory_of_another_node_is_refused() {
    refuses(
        |text| text.replace("name = \"hq\"", "name = \"other\""),
        &[
            "data directory of another node",
            "spiffe://acme.example/coordinator/hq",
            "spiffe://acme.example/coordinator/other",
        ],
    );
}

#[test]
fn another_trust_domain_is_refused() {
    refuses(
        |text| text.replace("acme.example", "other.example"),
        &["data directory of another node", "spiffe://other.example/coordinator/hq", "node.dir"],
    );
}

#[test]
fn several_mistakes_are_reported_at_once_with_their_lines() {
    refuses(
        |text| {
            let text =
                text.replace("name = \"hq\"", "name = \"Head Quarters\"").replace("[mesh]", "[mesh]\nlsiten = 1");
            text.replace("enabled = true", "enabled = true\nsvid_lifetime = \"10s\"") + "\n[store]\nengine = \"sled\"\n"
        },
        &["4 problems", "4:8", "Head Quarters", "lsiten", "svid_lifetime", "5m", "sled", "redb"],
    );
}

#[test]
fn a_taken_port_is_named_and_nothing_else_is_left_behind() {
    let (folder, port) = founded();
    let _taken = UdpSocket::bind(("127.0.0.1", port)).expect("the port was free");
    let ran = run(folder.path());
    let error = ran.refused_with(3);
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("mesh.listen"), "{error}");
    assert!(!folder.path().join("hq/node.sock").exists() && !folder.path().join("hq/svid.pem").exists());
    drop(_taken);
    let mut hq = Node::new(folder.path(), "hq");
    hq.start();
    hq.until_up();
    assert_eq!(hq.get("/v1/self")["state"], "active", "this is its first start, nobody has to confirm it");
    assert_eq!(hq.logged("confirming"), 0);
}

#[test]
fn mistakes_are_found_before_a_socket_opens() {
    let (folder, port) = founded();
    let _taken = UdpSocket::bind(("127.0.0.1", port)).expect("the port was free");
    let path = folder.path().join("hq/node.toml");
    let text = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, text.replace("name = \"hq\"", "nmae = \"hq\"")).expect("written");
    let ran = run(folder.path());
    let error = ran.refused_with(3);
    assert!(error.contains("nmae") && !error.contains("listen"), "the port was not tried: {error}");
}

#[test]
fn a_second_process_on_the_same_directory_is_turned_away_and_the_first_goes_on() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let ran = run(mesh.folder());
    let error = ran.refused_with(3);
    assert!(error.contains("store.redb") && error.contains("another process"), "{error}");
    assert!(mesh.hq.runs());
    assert_eq!(mesh.hq.get("/v1/self")["state"], "active", "its socket still answers");
    assert!(mesh.hq.propose("192.0.2.1", 60).is_none(), "a coordinator owns no actuator");
}

#[test]
fn an_unknown_fault_point_is_refused() {
    let (folder, _) = founded();
    let args = ["node", "run", "--config", "hq/node.toml"];
    let ran = cauldron_tests::cauldron_with(folder.path(), &args, "", &[("CAULDRON_FAULT", "effect.never:kill")]);
    assert!(ran.refused_with(3).contains("effect.never:kill"));
}
