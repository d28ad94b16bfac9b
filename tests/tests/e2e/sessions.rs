//! What an agent does for somebody, call by call, over the API.

use cauldron_tests::{Mesh, Plan, eventually};
use serde_json::{Value, json};

fn open(mesh: &Mesh, principal: &str) -> String {
    let answer =
        mesh.lyon.post("/v1/sessions", &json!({ "agent": "helper", "principal": principal, "role": "clerk" })).json();
    answer["session"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn call(mesh: &Mesh, session: &str, operation: &str, args: Value, wait_ms: u64) -> Value {
    let call = json!({ "operation": operation, "args": args, "rationale": "asked to", "evidence": ["a ticket"], "wait_ms": wait_ms });
    let mut answer = Value::Null;
    // A node that has just started may not have its policy yet, and says so.
    eventually("lyon has its policy", || {
        answer = mesh.lyon.post(&format!("/v1/sessions/{session}/calls"), &call).json();
        answer["kind"] != "no_policy"
    });
    answer
}

#[test]
fn every_call_is_a_step_reads_are_answered_at_once_and_what_they_brought_travels_on() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let session = open(&mesh, "ana");
    let read = call(&mesh, &session, "security.blocklist.read", json!({ "list": "addresses" }), 0);
    assert_eq!((read["state"].as_str(), read["bytes"].is_string()), (Some("DONE"), true), "{read}");
    // On the record at both ends before anybody asked for it.
    let id = read["id"].as_str().expect("an id").to_owned();
    assert_eq!(mesh.lyon.facts(&id, "read").len(), 1);
    eventually("hq holds it", || mesh.hq.facts(&id, "read").len() == 1);
    // A write waits for people.
    let block = json!({ "address": "198.51.100.7", "ttl_s": 60, "reason": "asked to" });
    let asked = call(&mesh, &session, "security.address.block", block, 500);
    let second = asked["id"].as_str().unwrap_or_else(|| panic!("{asked}")).to_owned();
    assert_eq!(asked["bytes"], Value::Null);
    eventually("hq asks", || mesh.hq.items("/v1/approvals").iter().any(|p| p["id"] == second.as_str()));
    // It is done for ana, so ana does not approve it.
    mesh.approve(&second).ok();
    assert_eq!(mesh.hq.get(&format!("/v1/proposals/{second}"))["status"]["state"], "PENDING_APPROVAL");
    let steps = mesh.lyon.items(&format!("/v1/sessions/{session}"));
    let indices: Vec<_> =
        steps.iter().map(|s| (s["index"].as_u64(), s["operation"].as_str().unwrap_or_default())).collect();
    assert_eq!(indices, [(Some(1), "security.blocklist.read"), (Some(2), "security.address.block")]);
    let body = mesh.hq.get(&format!("/v1/proposals/{second}"));
    assert_eq!(body["proposal"]["session"]["prev"], id.as_str());
    // What it names as its principal stands on the decision.
    let decided = mesh.hq.items("/v1/decisions");
    assert!(
        decided
            .iter()
            .any(|d| d["input"]["principal"]["sub"] == "ana" && d["input"]["history"][0]["outcome"] == "DONE"),
        "{decided:?}"
    );
}

#[test]
fn a_call_beyond_the_delegation_is_refused_and_a_session_of_nobody_is_none() {
    let mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let agent = format!("{}/agent/helper", Mesh::site_id("lyon"));
    let link = json!({ "from": "ana", "to": agent, "operations": ["security.blocklist.*"], "expires_ms": 4_000_000_000_000u64 });
    let opened =
        mesh.lyon.post("/v1/sessions", &json!({ "agent": "helper", "principal": "ana", "delegation": [link] })).json();
    let session = opened["session"].as_str().expect("a session").to_owned();
    let read = call(&mesh, &session, "security.blocklist.read", json!({ "list": "addresses" }), 0);
    assert_eq!(read["state"], "DONE", "{read}");
    let block = json!({ "address": "198.51.100.7", "ttl_s": 60, "reason": "asked to" });
    let refused = call(&mesh, &session, "security.address.block", block, 0);
    assert!(refused.to_string().contains("does not cover security.address.block"), "{refused}");
    let nobody = mesh.lyon.post("/v1/sessions", &json!({ "agent": "helper", "principal": " " })).json();
    assert!(nobody.to_string().contains("principal"), "{nobody}");
    let unknown = call(&mesh, &"0".repeat(64), "security.blocklist.read", json!({ "list": "addresses" }), 0);
    assert!(unknown.to_string().contains("open one first"), "{unknown}");
}
