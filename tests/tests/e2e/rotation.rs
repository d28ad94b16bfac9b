//! The rotation of the authority's root key: prepare, activate, taint, revoke, with nobody cut off on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use cauldron_tests::{Mesh, Node, eventually, wait_until};
use serde_json::Value;

fn roots(node: &Node) -> Vec<Value> {
    node.get("/v1/authority")["roots"].as_array().cloned().unwrap_or_default()
}

fn root(node: &Node, key: &str) -> Value {
    roots(node).into_iter().find(|root| root["key"] == key).unwrap_or(Value::Null)
}

/// Keys of the roots in a node's bundle on disk, by their certificates' bytes.
fn on_disk(node: &Node) -> usize {
    let pem = std::fs::read_to_string(node.dir().join("bundle.pem")).expect("readable");
    pem.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_root_key_is_rotated_in_four_steps_and_nobody_is_cut_off() {
    let mut mesh = Mesh::found();
    let folder = mesh.folder().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    let (more, less) = (file("more.entry"), file("less.entry"));
    eventually("everybody says to trust the founding root", || {
        let all = roots(&mesh.hq);
        all.len() == 1 && all[0]["state"] == "active" && all[0]["trusted_by"] == 3 && all[0]["of"] == 3
    });
    let old = roots(&mesh.hq)[0]["key"].as_str().expect("a key").to_owned();

    // Prepared, it is an announcement; the charter names it first, then every member trusts it, then it signs.
    mesh.hq.run(&["authority", "activate", "--yes"]).refused_with(5);
    mesh.lyon.run(&["authority", "prepare", "--out", &more]).refused_with(5);
    mesh.hq.run(&["authority", "prepare", "--out", &more]).ok();
    let prepared = roots(&mesh.hq).into_iter().find(|root| root["state"] == "prepared").expect("published");
    let new = prepared["key"].as_str().expect("a key").to_owned();
    assert_eq!((&prepared["named"], &prepared["trusted_by"]), (&false.into(), &0.into()));
    let refused = mesh.hq.run(&["authority", "activate", "--yes"]);
    assert!(refused.refused_with(5).contains("does not name root"), "{}", refused.err);
    mesh.porto.stop();
    mesh.ratify(&more);
    eventually("lyon trusts both", || on_disk(&mesh.lyon) == 2);
    eventually("hq sees that", || root(&mesh.hq, &new)["trusted_by"] == 2);
    let refused = mesh.hq.run(&["authority", "activate", "--yes"]);
    assert!(refused.refused_with(5).contains(&Mesh::site_id("porto")), "{}", refused.err);
    mesh.porto.start();
    mesh.porto.until_up();
    eventually("porto trusts both", || root(&mesh.hq, &new)["trusted_by"] == 3);
    mesh.hq.run(&["authority", "activate", "--yes"]).ok();
    assert_eq!((&root(&mesh.hq, &new)["state"], &root(&mesh.hq, &old)["state"]), (&"active".into(), &"old".into()));

    // Whoever holds a certificate under the old root keeps it there until it is tainted.
    let refused = mesh.hq.run(&["authority", "revoke", &old, "--out", &less]);
    assert!(refused.refused_with(5).contains(&Mesh::site_id("lyon")), "{}", refused.err);
    let refused = mesh.hq.run(&["authority", "revoke", &new, "--out", &less]);
    assert!(refused.refused_with(5).contains("signs now"), "{}", refused.err);
    mesh.hq.run(&["authority", "taint", "--yes"]).ok();
    // Renewals are spread over a minute.
    wait_until("nobody lives under the old root", Duration::from_secs(100), || {
        let under = root(&mesh.hq, &old)["under"].clone();
        if under == serde_json::json!([]) { Ok(()) } else { Err(under.to_string()) }
    });
    assert_eq!(root(&mesh.hq, &new)["under"].as_array().map(Vec::len), Some(3));
    let connected = |hq: &Node| hq.items("/v1/peers").iter().all(|peer| !peer["connected_ms"].is_null());
    assert!(connected(&mesh.hq), "no link was lost for it");

    mesh.hq.run(&["authority", "revoke", "--out", &less]).ok();
    mesh.ratify(&less);
    eventually("the old root is gone everywhere", || {
        [&mesh.hq, &mesh.lyon, &mesh.porto].iter().all(|node| on_disk(node) == 1 && roots(node).len() == 1)
    });
    eventually("its key is destroyed", || !mesh.hq.dir().join("ca/root.key").exists());

    // Links that were made under it end and are made again; hq signs with the new key after a restart too.
    mesh.hq.restart();
    mesh.hq.until_up();
    eventually("everybody is back", || connected(&mesh.hq));
    let under = |node: &Node| -> BTreeSet<String> {
        let lines = node.items("/v1/authority/issued");
        lines.iter().filter_map(|line| line["signed_by"].as_str().map(str::to_owned)).collect()
    };
    eventually("what hq signed after its restart is in the log", || {
        let lines = mesh.hq.items("/v1/authority/issued?limit=1");
        lines[0]["signed_by"] == new.as_str() && lines[0]["spiffe_id"] == "spiffe://acme.example/coordinator/hq"
    });
    assert_eq!(under(&mesh.hq), BTreeSet::from([old, new.clone()]));
    let of_porto = mesh.porto.items("/v1/authority/issued");
    let scoped = |line: &Value| {
        line["spiffe_id"].as_str().is_some_and(|id| id.contains("/site/porto/") || id.contains("/coordinator/"))
    };
    assert!(!of_porto.is_empty() && of_porto.iter().all(scoped), "{of_porto:?}");
    mesh.until_converged();
}
