//! The enrol lane as operators meet it.

use std::thread::sleep;
use std::time::Duration;

use cauldron_tests::{Mesh, Node, Plan, cauldron, cauldron_with, eventually};

#[test]
fn a_token_admits_the_same_node_again_and_no_other_author() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let token = mesh.token("porto");
    mesh.join_with(&token, &[]).ok();
    mesh.porto.start();
    mesh.porto.until_up();
    let author = mesh.porto.get("/v1/self")["author"].clone();
    mesh.porto.stop();

    // As if the power had gone before the SVID reached the disk: the node asks once more with the token it has.
    std::fs::remove_file(mesh.porto.dir().join("svid.pem")).expect("there");
    mesh.join_with(&token, &[]).ok();
    mesh.porto.start();
    mesh.porto.until_up();
    assert_eq!(mesh.porto.get("/v1/self")["author"], author);
    assert_eq!(mesh.porto.logged("joined the mesh"), 2);
    let members = mesh.hq.get("/v1/authority")["members"].as_array().map_or(0, Vec::len);
    assert_eq!(members, 2, "hq and porto, once");

    // Somebody else with a copy of the token.
    mesh.join_with(&token, &["--dir", "thief"]).ok();
    let ran = cauldron(mesh.folder(), &["node", "run", "--config", "thief/node.toml"]);
    let error = ran.refused_with(5);
    assert!(error.contains("another author key has redeemed this token") && error.contains("mint a new"), "{error}");
    assert!(!mesh.folder().join("thief/svid.pem").exists());
    eventually("porto is linked as before", || mesh.hq.items("/v1/peers").iter().any(|p| !p["connected_ms"].is_null()));
}

#[test]
fn a_blocklist_that_cannot_be_used_costs_no_token() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let token = mesh.token("lyon");
    std::fs::write(mesh.auth_log(), "").expect("written");
    std::os::unix::fs::symlink(mesh.folder().join("elsewhere"), mesh.blocklist()).expect("linked");
    let (log, blocklist) = (mesh.auth_log().display().to_string(), mesh.blocklist().display().to_string());
    mesh.join_with(&token, &["--auth-log", &log, "--blocklist", &blocklist]).ok();
    let pre = cauldron(mesh.folder(), &["check", "--pre", "--config", "lyon/node.toml"]);
    assert!(pre.code == Some(1) && pre.out.contains("is a symlink"), "{pre:?}");
    let ran = cauldron(mesh.folder(), &["node", "run", "--config", "lyon/node.toml"]);
    let error = ran.refused_with(3);
    assert!(error.contains("is a symlink; name the file itself"), "{error}");
    for file in ["node.sock", "svid.pem", "store.redb"] {
        assert!(!mesh.lyon.dir().join(file).exists(), "{file}");
    }
    std::fs::write(mesh.blocklist().with_extension("owner"), "spiffe://acme.example/site/other/node/other\n")
        .expect("written");
    std::fs::remove_file(mesh.blocklist()).expect("there");
    let pre = cauldron(mesh.folder(), &["check", "--pre", "--config", "lyon/node.toml"]);
    assert!(pre.code == Some(1) && pre.out.contains("belongs to spiffe://acme.example/site/other"), "{pre:?}");
    let ran = cauldron(mesh.folder(), &["node", "run", "--config", "lyon/node.toml"]);
    assert!(ran.refused_with(3).contains("belongs to spiffe://acme.example/site/other"), "{}", ran.err);
    std::fs::remove_file(mesh.blocklist().with_extension("owner")).expect("there");
    mesh.lyon.start();
    mesh.lyon.until_up();
}

#[test]
fn a_node_that_cannot_join_yet_says_so_to_whoever_asks_it() {
    let mut mesh = Mesh::only_hq(Plan::default());
    mesh.join("porto", &[]).ok();
    mesh.hq.stop();
    mesh.porto.start();
    eventually("it lives", || mesh.porto.try_get("/v1/live").is_some_and(|answer| answer.status == 200));
    let begun = std::time::Instant::now();
    let ran = mesh.porto.run(&["status"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "it does not wait");
    assert!(ran.refused_with(4).contains("it has no SVID yet"), "{}", ran.err);
    mesh.hq.start();
    mesh.porto.until_up();
}

#[test]
fn a_token_of_another_mesh_is_refused_with_a_sentence_and_nothing_is_believed() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let listen = mesh.hq.get("/v1/self")["listen"][0].as_str().expect("an address").to_owned();
    mesh.join("porto", &[]).ok();
    mesh.hq.stop();
    // Somebody founded another mesh of the same name where the token points.
    let args = ["init", "--first", "--trust-domain", Mesh::TRUST_DOMAIN, "--person", "eve", "--dir", "other"];
    cauldron(mesh.folder(), &[&args[..], &["--listen", &listen]].concat()).ok();
    let mut other = Node::new(mesh.folder(), "other");
    other.start();
    other.until_up();
    let ran = cauldron(mesh.folder(), &["node", "run", "--config", "porto/node.toml"]);
    assert!(ran.refused_with(5).contains("this is another mesh"), "{}", ran.err);
    assert!(!mesh.porto.dir().join("charter.cbor").exists() && !mesh.porto.dir().join("svid.pem").exists());
    assert!(other.logged("other_mesh") > 0, "it counts the refusal by its code");
    other.stop();
    // The token is still good where it came from.
    mesh.hq.start();
    mesh.porto.start();
    mesh.porto.until_up();
}

#[test]
fn an_expired_or_damaged_token_is_refused_with_a_sentence() {
    let mesh = Mesh::only_hq(Plan::default());
    let dir = mesh.hq.dir().display().to_string();
    let id = Mesh::site_id("porto");
    let token = cauldron(mesh.folder(), &["authority", "token", &id, "--ttl", "1s", "--node", &dir]).ok().out;
    mesh.join_with(&token, &[]).ok();
    sleep(Duration::from_millis(1_500));
    let ran = cauldron(mesh.folder(), &["node", "run", "--config", "porto/node.toml"]);
    let error = ran.refused_with(5);
    assert!(error.contains("expired") && error.contains("cauldron authority token"), "{error}");

    let damaged = token.trim().replacen("cauldron1.p", "cauldron1.q", 1);
    assert!(damaged != token.trim(), "the token was changed");
    let ran = cauldron_with(mesh.folder(), &["node", "join", "-", "--dir", "other"], &damaged, &[]);
    assert!(ran.refused_with(2).contains("checksum"), "{}", ran.err);
    let foreign =
        cauldron(mesh.folder(), &["authority", "token", "spiffe://other.example/site/x/node/x", "--node", &dir]);
    let error = foreign.refused_with(5);
    assert!(
        error.contains("other.example") || error.contains(Mesh::TRUST_DOMAIN),
        "it names the trust domain: {error}"
    );
}
