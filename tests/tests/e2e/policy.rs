//! A policy is tried on what was judged, activated, and what it judged can be judged again.

use cauldron_tests::{Mesh, Plan, eventually};

/// The policies of this repository, with two approvers for a block, in a folder of their own.
fn stricter(mesh: &Mesh) -> String {
    mesh.policies("two", |name, text| match name {
        "security_address_block.json" => text.replace("\"approvers\": 1", "\"approvers\": 2"),
        _ if name.ends_with("_test.rego") => {
            text.replace("\"group\": \"security-duty\", \"n\": 1", "\"group\": \"security-duty\", \"n\": 2")
        }
        _ => text,
    })
}

#[test]
fn a_bundle_is_back_tested_activated_and_replayed() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    mesh.log_lines(Mesh::attack("198.51.100.7"));
    eventually("hq asks", || mesh.hq.items("/v1/approvals").len() == 1);
    let first = mesh.hq.items("/v1/approvals")[0]["id"].as_str().expect("an id").to_owned();
    let replayed = mesh.hq.run(&["policy", "replay"]).ok();
    assert_eq!((replayed.json()["same"].as_u64(), replayed.json()["elsewhere"].as_u64()), (Some(1), Some(0)));

    let folder = stricter(&mesh);
    let tried = mesh.hq.run(&["policy", "backtest", "--bundle", &folder]).ok();
    let report = &tried.json()["report"];
    assert_eq!((report["decisions"].as_u64(), report["changed"].as_u64()), (Some(1), Some(1)), "{report}");
    assert_eq!(report["changes"][0]["obligations"], true);

    // Somebody who is no policy author cannot.
    let ana = mesh.hq.dir().join("people/ana.key").display().to_string();
    let activate = |key: &str| mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", key, "--yes"]);
    activate(&ana).refused_with(5);
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    activate(&council).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-two");
    }
    // What waits is judged again, and one person is not enough any more.
    eventually("it is judged again", || mesh.hq.facts(&first, "decision").len() == 2);
    mesh.approve(&first).ok();
    assert_eq!(mesh.hq.get(&format!("/v1/proposals/{first}"))["status"]["state"], "PENDING_APPROVAL");
    let replayed = mesh.hq.run(&["policy", "replay"]).ok();
    assert_eq!(replayed.json()["same"].as_u64(), Some(2), "{replayed:?}");
}
