//! Everything that can run out has run out; nobody touches anything but the clock and one authority.

use cauldron_tests::{Mesh, Node, eventually};

/// Beyond the root certificate's ten years, so beyond everything.
const LATER: &str = "clock:+4000d";

fn insert_peer(node: &Node, peer: &Node) {
    let text = std::fs::read_to_string(peer.config()).expect("there");
    let listen = text.lines().find_map(|line| line.strip_prefix("listen = ")).expect("it listens").to_owned();
    let text = std::fs::read_to_string(node.config()).expect("there");
    std::fs::write(node.config(), text.replacen("join = [", &format!("join = [{listen}, "), 1)).expect("written");
}

fn lane(node: &Node, peer: &str) -> String {
    let peers = node.items("/v1/peers");
    let peer = peers.iter().find(|p| !p["connected_ms"].is_null() && p["spiffe_id"].as_str() == Some(peer));
    peer.and_then(|p| p["lane"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_mesh_in_which_everything_has_expired_heals_when_its_authority_is_back() {
    let mut mesh = Mesh::found();
    insert_peer(&mesh.porto, &mesh.lyon);
    let before = mesh.lyon.propose("203.0.113.40", 600).expect("recorded");
    mesh.hq.until_state(&before, "PENDING_APPROVAL");
    mesh.until_converged();
    for node in [&mut mesh.hq, &mut mesh.lyon, &mut mesh.porto] {
        node.stop();
        node.set_env("CAULDRON_FAULT", Some(LATER));
    }
    let root = std::fs::read_to_string(mesh.hq.dir().join("ca/root.pem")).expect("there");

    // Two sites without any authority, and not one certificate between them that still counts.
    mesh.lyon.start();
    mesh.porto.start();
    let (lyon, porto) = (Mesh::site_id("lyon"), Mesh::site_id("porto"));
    eventually("facts flow by author keys alone", || {
        lane(&mesh.porto, &lyon) == "data" && lane(&mesh.lyon, &porto) == "data"
    });
    assert_eq!(mesh.lyon.get("/v1/self")["svid"]["valid"], false);
    assert_eq!(mesh.porto.get("/v1/self")["svid"]["valid"], false);
    mesh.until_converged();

    mesh.hq.start();
    let hq = format!("spiffe://{}/coordinator/hq", Mesh::TRUST_DOMAIN);
    for node in [&mesh.lyon, &mesh.porto] {
        eventually("it is renewed", || node.get("/v1/self")["svid"]["valid"] == true);
        eventually("it is back on the mesh lane", || lane(node, &hq) == "mesh");
    }
    eventually("the sites too", || lane(&mesh.porto, &lyon) == "mesh");
    mesh.until_up();
    assert_ne!(std::fs::read_to_string(mesh.hq.dir().join("ca/root.pem")).expect("there"), root);

    let after = mesh.lyon.propose("203.0.113.41", 600).expect("recorded");
    mesh.hq.until_state(&after, "PENDING_APPROVAL");
    mesh.until_converged();
}

#[test]
fn a_token_whose_reply_was_lost_is_redeemed_again() {
    let mut mesh = Mesh::only_hq(cauldron_tests::Plan { hq_fault: Some("enrol.reply:kill"), ..Default::default() });
    mesh.join("porto", &[]).ok();
    mesh.porto.start();
    // Enrolled on disk, and the answer never left.
    assert!(!mesh.hq.until_ended().success());
    assert!(!mesh.porto.dir().join("svid.pem").exists());
    mesh.hq.set_env("CAULDRON_FAULT", None);
    mesh.hq.start();
    mesh.porto.until_up();
    let author = mesh.porto.get("/v1/self")["author"].clone();
    let members = mesh.hq.get("/v1/authority")["members"].clone();
    let of_porto = members.as_array().map_or(0, |all| all.iter().filter(|m| m["author"] == author).count());
    assert_eq!((of_porto, members.as_array().map_or(0, Vec::len)), (1, 2), "{members}");
}
