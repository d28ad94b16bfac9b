//! Calls that whoever runs a session carries out itself.

use cauldron_tests::eventually;
use serde_json::{Value, json};

use super::place::{Place, place};

#[test]
fn a_call_is_given_out_after_it_was_started_and_told_of_by_its_own_session() {
    let place = place();
    let (mine, other) = (place.session("kim", "clerk"), place.session("lee", "clerk"));
    // Without the key nothing is begun.
    let args = json!({ "to": "dora", "text": "hello", "reason": "allow" });
    let body = json!({ "operation": "office.letter.send", "args": args, "rationale": "asked to" });
    assert!(mine.post("/calls", &body).to_string().contains("not_your_session"));
    let outside = place.mesh.lyon.post("/v1/proposals", &body).json();
    assert_eq!(outside["kind"], "needs_session", "{outside}");

    let call = mine.letter("dora", "allow", 15_000);
    assert_eq!(call.state, "STARTED", "{}", call.answer);
    let execute = &call.answer["execute"];
    assert_eq!(
        (execute["args"]["to"].as_str(), execute["operation"].as_str()),
        (Some("dora"), Some("office.letter.send"))
    );
    assert_eq!(execute["idempotency_key"].as_str().map(str::len), Some(64), "{execute}");
    assert_eq!(place.mesh.lyon.facts(&call.id, "started").len(), 1, "it was durable before");
    assert_eq!(mine.wait(&call.id, 0)["execute"], Value::Null, "it is given once");
    // One step follows the other.
    let busy = mine.post(
        "/calls",
        &json!({ "operation": "security.blocklist.read", "args": { "list": "addresses" }, "rationale": "x" }),
    );
    assert!(busy.to_string().contains("session_busy"), "{busy}");
    // Another session says nothing of it, with its own key or without.
    let foreign = other.tell(&call.id, &json!({ "outcome": "done" }));
    assert!(foreign.to_string().contains("not_your_session"), "{foreign}");
    let stolen = place.mesh.lyon.post(
        &format!("/v1/sessions/{}/calls/{}/outcome", mine.id, call.id),
        &json!({ "key": other.key, "outcome": "done" }),
    );
    assert!(stolen.json().to_string().contains("not_your_session"), "{stolen:?}");
    let bad = mine.tell(&call.id, &json!({ "outcome": "failed" }));
    assert!(bad.to_string().contains("why it is not done"), "{bad}");

    let digest = "cd".repeat(32);
    let told = mine.tell(
        &call.id,
        &json!({ "outcome": "done", "digest": digest, "len": 3, "labels": ["data:receipt"], "says": "message 7" }),
    );
    assert_eq!(
        (told["state"].as_str(), &told["labels"]),
        (Some("DONE"), &json!(["data:receipt", "untrusted:letters"])),
        "{told}"
    );
    let done = place.mesh.lyon.facts(&call.id, "done");
    assert!(done[0]["summary"].as_str().is_some_and(|s| s.contains("message 7") && s.contains(&digest)), "{done:?}");
    // What came back travels on.
    let next = mine.letter("dora", "forbidden", 10_000);
    assert_eq!(next.state, "DENIED", "{}", next.answer);
    eventually("hq has judged it", || {
        let all = place.mesh.hq.items("/v1/decisions");
        all.iter().any(|d| {
            d["input"]["proposal"]["id"] == next.id.as_str()
                && d["input"]["taint"] == json!(["data:receipt", "untrusted:letters"])
        })
    });
}

#[test]
fn what_nobody_speaks_of_is_unknown_and_never_done_again() {
    let place = place();
    let session = place.session("kim", "clerk");
    let call = session.letter("dora", "allow", 15_000);
    assert!(call.answer["execute"].is_object(), "{}", call.answer);
    place.until(&call, "UNKNOWN");
    assert_eq!(session.wait(&call.id, 0)["execute"], Value::Null);
    assert_eq!(place.mesh.lyon.facts(&call.id, "started").len(), 1);
    // Its labels count all the same, and the session goes on.
    let steps = place.mesh.lyon.items(&format!("/v1/sessions/{}", session.id));
    assert_eq!(steps[0]["labels"], json!(["untrusted:letters"]), "{steps:?}");
    // A late word counts.
    session.tell(&call.id, &json!({ "outcome": "done", "says": "message 8" }));
    place.until(&call, "DONE");

    // A read that nobody speaks of is on the record, too.
    let read = session.call_with("office.record.read", &json!({ "record": "7" }), &json!({}));
    assert_eq!((read.state.as_str(), read.id.starts_with("read-")), ("STARTED", true), "{}", read.answer);
    eventually("it is over", || place.mesh.lyon.items(&format!("/v1/sessions/{}", session.id)).len() == 2);
    let steps = place.mesh.lyon.items(&format!("/v1/sessions/{}", session.id));
    assert_eq!(steps[1]["state"], "FAILED", "{steps:?}");
    let late = session.tell(&read.id, &json!({ "outcome": "done" }));
    assert!(late.to_string().contains("nothing waits to be told"), "{late}");
}

#[test]
fn a_restart_leaves_what_was_given_out_unknown() {
    let mut place = Place::new();
    let session = place.session("kim", "clerk");
    let call = session.letter("dora", "allow", 15_000);
    assert!(call.answer["execute"].is_object(), "{}", call.answer);
    let (id, key) = (session.id.clone(), session.key.clone());
    place.mesh.lyon.kill9();
    place.mesh.lyon.start();
    place.mesh.lyon.until_up();
    place.mesh.lyon.until_state(&call.id, "UNKNOWN");
    let told = place
        .mesh
        .lyon
        .post(&format!("/v1/sessions/{id}/calls/{}/outcome", call.id), &json!({ "key": key, "outcome": "done" }));
    assert!(told.json().to_string().contains("since the node was started"), "{told:?}");
    assert_eq!(place.mesh.lyon.facts(&call.id, "started").len(), 1);
}
