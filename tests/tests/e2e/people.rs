//! What people do besides yes and no: edit, let others sit for them, leave remarks.

use cauldron_tests::{Mesh, Plan, cauldron, eventually};

/// Enrols `name` into `groups` with a new key, and gives the key file's path.
pub fn enrol(mesh: &Mesh, name: &str, groups: &[&str]) -> String {
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    let key = mesh.folder().join(format!("{name}.key")).display().to_string();
    let mut args = vec!["people", "enrol", name, "--council-key", &council, "--new-key", &key];
    groups.iter().for_each(|group| args.extend(["--group", group]));
    mesh.hq.run(&args).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("everybody knows them", || {
            node.get("/v1/authority")["people"].as_array().is_some_and(|p| p.iter().any(|p| p["id"] == name))
        });
    }
    key
}

fn waiting(mesh: &Mesh) -> String {
    eventually("hq asks", || !mesh.hq.items("/v1/approvals").is_empty());
    mesh.hq.items("/v1/approvals")[0]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn an_edit_takes_the_place_of_what_was_proposed_and_its_writer_does_not_approve_it() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let bo = enrol(&mesh, "bo", &["security-duty"]);
    let cy = enrol(&mesh, "cy", &["hr"]);
    mesh.log_lines(Mesh::attack("198.51.100.7"));
    let first = waiting(&mesh);
    // Who is not asked does not edit; neither does anybody into something that cannot be.
    let edit = |key: &str, set: &str| {
        mesh.hq.run(&["approvals", "edit", &first, "--set", set, "--reason", "too long", "--key", key, "--yes"])
    };
    assert!(edit(&cy, "ttl_s=60").refused_with(5).contains("not asked"));
    assert!(edit(&bo, "ttl_s=0").refused_with(2).contains("ttl_s"));
    let answer = edit(&bo, "ttl_s=60").ok();
    let child = answer.json()["id"].as_str().expect("an id").to_owned();
    mesh.lyon.until_state(&first, "SUPERSEDED");
    eventually("hq asks about the edit", || mesh.hq.items("/v1/approvals").iter().any(|p| p["id"] == child.as_str()));
    let shown = mesh.hq.get(&format!("/v1/approvals/{child}"));
    let lines = shown["presentation"].as_array().expect("lines");
    let says = |label: &str, text: &str| {
        lines.iter().any(|l| l[0] == label && l[1].as_str().is_some_and(|t| t.contains(text)))
    };
    assert!(says("written by", "bo: too long") && says("arguments", "\"ttl_s\":60"), "{lines:?}");
    mesh.hq.run(&["approvals", "approve", &child, "--key", &bo, "--yes"]).ok();
    assert_eq!(mesh.hq.get(&format!("/v1/proposals/{child}"))["status"]["state"], "PENDING_APPROVAL");
    mesh.approve(&child).ok();
    mesh.lyon.until_state(&child, "DONE");
    assert_eq!((mesh.blocked("198.51.100.7"), mesh.carried_out()), (1, 1));
    let why = mesh.hq.run(&["why", &first]).ok();
    assert!(why.out.contains("took its place"), "{why:?}");
}

#[test]
fn a_deputy_sits_for_somebody_until_that_is_taken_back() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let cy = enrol(&mesh, "cy", &["hr"]);
    let delegate = ["approvals", "delegate", "--to", "cy", "--group", "security-duty", "--for", "1h", "--yes"];
    let said = mesh.hq.run(&delegate).ok();
    assert!(said.json()["id"].is_string(), "{said:?}");
    let too_long = ["approvals", "delegate", "--to", "cy", "--group", "security-duty", "--for", "90d", "--yes"];
    mesh.hq.run(&too_long).refused_with(2);
    let not_mine = ["approvals", "delegate", "--to", "cy", "--group", "finance", "--yes"];
    assert!(mesh.hq.run(&not_mine).refused_with(5).contains("does not belong to finance"));
    let listed = mesh.hq.items("/v1/deputies");
    assert_eq!((listed.len(), listed[0]["to"].as_str()), (1, Some("cy")));

    mesh.log_lines(Mesh::attack("198.51.100.7"));
    let first = waiting(&mesh);
    mesh.hq.run(&["approvals", "comment", &first, "--reason", "looks real", "--key", &cy, "--yes"]).ok();
    mesh.hq.run(&["approvals", "approve", &first, "--key", &cy, "--yes"]).ok();
    mesh.lyon.until_state(&first, "DONE");

    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    mesh.hq.run(&["approvals", "delegate", "--take-back", &id, "--yes"]).ok();
    assert!(mesh.hq.items("/v1/deputies").is_empty());
    mesh.log_lines(Mesh::attack("198.51.100.8"));
    let second = waiting(&mesh);
    let said = mesh.hq.run(&["approvals", "approve", &second, "--key", &cy, "--yes"]).ok();
    assert_eq!(mesh.hq.get(&format!("/v1/proposals/{second}"))["status"]["state"], "PENDING_APPROVAL");
    let vote = &said.json()["vote"];
    assert_eq!((&vote["counts"], &vote["open"]), (&false.into(), &serde_json::json!(["security-duty"])), "{said:?}");
    let hq = mesh.hq.dir().display().to_string();
    let told = ["approvals", "approve", &second, "--key", &cy, "--yes", "--node", &hq, "--output", "table"];
    let told = cauldron(mesh.folder(), &told).ok().out;
    assert!(told.contains("It is recorded, but fills no seat") && told.contains("Who could: ana"), "{told}");
    let no = mesh.hq.run(&["approvals", "comment", &second, "--reason", "hm", "--key", &cy, "--yes"]).ok().json();
    assert_eq!((&no["vote"]["counts"], &no["vote"]["says"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let said = mesh.approve(&second).ok().json();
    assert_eq!((&said["vote"]["counts"], &said["vote"]["says"]), (&true.into(), &serde_json::Value::Null), "{said}");
    mesh.lyon.until_state(&second, "DONE");
}

#[test]
fn a_proposal_in_somebodys_own_name_needs_somebody_else() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let bo = enrol(&mesh, "bo", &["security-duty"]);
    let file = mesh.folder().join("block.json");
    let request = r#"{"operation": "security.address.block", "args": {"address": "198.51.100.9", "ttl_s": 60, "reason": "seen by hand"},
        "rationale": "a customer called", "evidence": ["ticket 7"]}"#;
    std::fs::write(&file, request).expect("written");
    let file = file.display().to_string();
    let answer = mesh.lyon.run(&["propose", "--file", &file, "--signed", "--key", &bo, "--yes"]).ok();
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    eventually("hq asks", || mesh.hq.items("/v1/approvals").iter().any(|p| p["id"] == id.as_str()));
    mesh.hq.run(&["approvals", "approve", &id, "--key", &bo, "--yes"]).ok();
    assert_eq!(mesh.hq.get(&format!("/v1/proposals/{id}"))["status"]["state"], "PENDING_APPROVAL");
    mesh.approve(&id).ok();
    mesh.lyon.until_state(&id, "DONE");
}
