//! The enrol lane as operators meet it.

use std::thread::sleep;
use std::time::Duration;

use cauldron_tests::{Mesh, Plan, cauldron, cauldron_with, eventually};

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
    eventually("porto is linked as before", || mesh.hq.items("/v1/peers").iter().any(|p| p["state"] == "up"));
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
