//! A site's intermediate: the site renews for itself while hq is dark, and signs for no other site.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use cauldron_tests::{Mesh, Node, Plan, cauldron, eventually};

/// The value of a text key in a node's configuration.
pub(super) fn listens(node: &Node) -> String {
    let text = std::fs::read_to_string(node.config()).expect("written by join");
    let line = text.lines().find_map(|line| line.strip_prefix("listen = \"")).expect("it listens");
    line.trim_end_matches('"').to_owned()
}

pub(super) fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("readable");
    assert!(text.contains(from), "{from} is in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("writable");
}

#[test]
fn a_site_renews_under_its_own_intermediate_while_hq_is_dark() {
    let mut mesh = Mesh::only_hq(Plan::default());
    let holder = Mesh::site_id("lyon");
    let named = format!("[authority]\nsite_issuers = [\"{holder}\"]");
    replace(&mesh.hq.config(), "[authority]", &named);
    mesh.hq.restart();

    mesh.join("lyon", &[]).ok();
    replace(&mesh.lyon.config(), "[mesh]", "[authority]\nsite_issuer = true\n\n[mesh]");
    mesh.lyon.start();
    mesh.lyon.until_up();
    assert!(mesh.lyon.dir().join("ca/site.pem").exists(), "granted with the first SVID");

    let hq = mesh.hq.dir().display().to_string();
    let id = format!("spiffe://{}/site/lyon/node/annexe", Mesh::TRUST_DOMAIN);
    let token = cauldron(mesh.folder(), &["authority", "token", &id, "--node", &hq]).ok().out;
    mesh.join_with(token.trim(), &[]).ok();
    let mut annexe = Node::new(mesh.folder(), "annexe");
    replace(&annexe.config(), "join = [", &format!("join = [\"{}\", ", listens(&mesh.lyon)));
    annexe.start();
    annexe.until_up();
    eventually("both nodes of the site know each other", || {
        annexe.items("/v1/peers").iter().all(|p| !p["connected_ms"].is_null())
    });

    // Ten days without hq: every SVID has run out long ago, the intermediate has not.
    for node in [&mut mesh.hq, &mut mesh.lyon, &mut annexe] {
        node.stop();
    }
    for node in [&mut mesh.lyon, &mut annexe] {
        node.set_env("CAULDRON_FAULT", Some("clock:+10d"));
        node.start();
    }
    for node in [&mesh.lyon, &annexe] {
        eventually("it holds a valid SVID", || node.get("/v1/self")["svid"]["valid"] == true);
    }
    let up = |node: &Node, peer: &str| {
        node.items("/v1/peers").iter().any(|p| !p["connected_ms"].is_null() && p["spiffe_id"].as_str() == Some(peer))
    };
    eventually("the site talks", || up(&annexe, &holder) && up(&mesh.lyon, &id));
    assert_eq!(annexe.logged("the SVID was renewed"), 1);

    // Whoever holds the intermediate is asked by a node of another site in vain.
    mesh.hq.set_env("CAULDRON_FAULT", Some("clock:+10d"));
    mesh.hq.start();
    mesh.hq.until_up();
    eventually("hq is back and lets the site in", || up(&mesh.hq, &holder) && up(&mesh.hq, &id));
    mesh.join("porto", &[]).ok();
    mesh.porto.set_env("CAULDRON_FAULT", Some("clock:+10d"));
    mesh.porto.start();
    mesh.porto.until_up();
    mesh.porto.stop();
    mesh.hq.stop();
    replace(&mesh.porto.config(), "join = [", &format!("join = [\"{}\", ", listens(&mesh.lyon)));
    mesh.porto.set_env("CAULDRON_FAULT", Some("clock:+11d"));
    mesh.porto.start();
    eventually("porto asked lyon", || mesh.lyon.logged("other_site") > 0);
    sleep(Duration::from_millis(500));
    assert_eq!(mesh.porto.get("/v1/self")["svid"]["valid"], false);
}
