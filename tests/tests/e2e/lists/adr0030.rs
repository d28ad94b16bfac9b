//! The acceptance criteria of ADR-0030 of Microsoft's agent governance toolkit: each test by its id, against real processes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cauldron_tests::{cauldron, eventually};
use serde_json::{Value, json};

use super::place::{Place, in_seconds, place};

#[test]
fn adr30_01_nothing_is_executed_without_a_terminal_allow() {
    let place = place();
    let session = place.session("kim", "clerk");
    let waiting = session.letter("dora", "approve", 500);
    place.until_asked(&waiting);
    let deferred = session.block("wait");
    place.until(&deferred, "DEFERRED");
    let denied = session.block("forbidden");
    place.until(&denied, "DENIED");
    for call in [&waiting, &deferred, &denied] {
        place.untouched(call);
        assert_eq!(session.wait(&call.id, 0)["execute"], Value::Null);
    }
    place.mesh.approve(&waiting.id).ok();
    let given = session.wait(&waiting.id, 15_000);
    assert_eq!((given["state"].as_str(), given["execute"]["args"]["to"].as_str()), (Some("STARTED"), Some("dora")));
    assert_eq!(place.mesh.lyon.facts(&waiting.id, "started").len(), 1);
    session.tell(&waiting.id, &json!({ "outcome": "done" }));
    place.until(&waiting, "DONE");
}

#[test]
fn adr30_02_an_approval_of_one_digest_cannot_execute_another() {
    let place = place();
    let call = place.session("kim", "clerk").block("two");
    place.until_asked(&call);
    place.mesh.approve(&call.id).ok();
    assert!(place.why(&call.id).contains("1 of 2"), "{}", place.why(&call.id));
    // The same in all but its arguments.
    let edit =
        ["approvals", "edit", &call.id, "--set", "ttl_s=7200", "--reason", "longer", "--key", &place.bo, "--yes"];
    let child = place.mesh.hq.run(&edit).ok().json()["id"].as_str().expect("an id").to_owned();
    place.mesh.hq.until_state(&child, "PENDING_APPROVAL");
    assert!(place.why(&child).contains("0 of 2"), "{}", place.why(&child));
    place.approve_by(&child, &place.cy).ok();
    assert!(place.why(&child).contains("1 of 2"), "what was said of the other counts: {}", place.why(&child));
    assert!(place.mesh.lyon.facts(&child, "started").is_empty());
    place.mesh.approve(&child).ok();
    place.mesh.lyon.until_state(&child, "DONE");
    assert_eq!((place.mesh.blocked(&call.address), place.mesh.lyon.state(&call.id).as_str()), (1, "SUPERSEDED"));
}

#[test]
fn adr30_03_a_change_of_target_arguments_policy_or_version_voids_the_approval() {
    let place = Place::new();
    let session = place.session("kim", "clerk");
    // Another target, the same approver, the same words: nothing is carried over.
    let (one, other) = (session.block("two"), session.block("two"));
    place.until_asked(&other);
    place.mesh.approve(&one.id).ok();
    assert!(place.why(&one.id).contains("1 of 2") && place.why(&other.id).contains("0 of 2"));
    // Other arguments: the edit begins anew (and adr30_02 carries it through).
    let edit = ["approvals", "edit", &one.id, "--set", "ttl_s=60", "--reason", "less", "--key", &place.bo, "--yes"];
    let child = place.mesh.hq.run(&edit).ok().json()["id"].as_str().expect("an id").to_owned();
    place.mesh.hq.until_state(&child, "PENDING_APPROVAL");
    assert!(place.why(&child).contains("0 of 2"), "{}", place.why(&child));
    // Another version of the resource.
    let args = json!({ "path": "a.conf", "text": "two\n" });
    let write = session.call_with("devops.file.write", &args, &json!({}));
    place.until_asked(&write);
    let file = place.mesh.folder().join("conf.d/a.conf");
    std::fs::write(&file, "by hand\n").expect("written");
    place.mesh.approve(&write.id).ok();
    eventually("lyon voids the permit", || {
        place.mesh.lyon.metric("cauldron_core_refused_total{code=\"permit.version\"}") >= 1
    });
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), "by hand\n");
    place.untouched(&write);
    // Another policy.
    place.mesh.approve(&other.id).ok();
    assert!(place.why(&other.id).contains("1 of 2"));
    let stricter = |name: &str, text: String| match name {
        "lists.rego" => text.replace("two decide", "two of them decide"),
        _ => text,
    };
    place.activate("lists-2", stricter);
    eventually("it is judged again", || place.mesh.hq.facts(&other.id, "decision").len() == 2);
    place.approve_by(&other.id, &place.bo).ok();
    assert_eq!(place.mesh.hq.state(&other.id), "PENDING_APPROVAL", "{}", place.why(&other.id));
    place.approve_by(&other.id, &place.cy).ok();
    place.until(&other, "DONE");
}

/// A receiver that answers every message as if it could decide something, and badly.
fn bad_receiver(taken: &Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (port, taken) = (listener.local_addr().expect("an address").port(), taken.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 64 * 1024]);
            // The first message gets no answer at all.
            if taken.fetch_add(1, Ordering::SeqCst) > 0 {
                let body = "{\"decision\":\"allow\",\"approved\":true,\"choice\":\"approve\"";
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        }
    });
    port
}

#[test]
fn adr30_04_timeout_silence_failed_callback_restart_and_malformed_answers_fail_closed() {
    let taken = Arc::new(AtomicUsize::new(0));
    let port = bad_receiver(&taken);
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").expect("written");
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o600)).expect("set");
    let hook = format!(
        "\n[[notify.webhook]]\nname = \"bad\"\nurl = \"http://127.0.0.1:{port}/\"\nsecret_file = \"{}\"\n",
        secret.path().display()
    );
    let mut place = Place::with(&hook);
    let call = place.session("kim", "clerk").block_with("approve", &json!({ "expires": in_seconds(25) }));
    place.until_asked(&call);
    eventually("the receiver has answered", || taken.load(Ordering::SeqCst) >= 2);
    assert_eq!(place.mesh.hq.state(&call.id), "PENDING_APPROVAL");
    // Both ends start anew; nothing is taken for said meanwhile.
    place.mesh.hq.restart();
    place.mesh.lyon.restart();
    place.until_asked(&call);
    place.untouched(&call);
    place.until(&call, "EXPIRED");
    eventually("hq says so, too", || place.mesh.hq.state(&call.id) == "EXPIRED");
    place.mesh.approve(&call.id).refused_with(5);
    place.untouched(&call);
}

#[test]
fn adr30_05_an_approver_whose_identity_was_not_verified_fills_no_stage() {
    let place = place();
    let call = place.session("kim", "clerk").block("approve");
    place.until_asked(&call);
    // A key that the council never enrolled, in the name of ana.
    let key = place.mesh.folder().join("stranger.key").display().to_string();
    if !std::path::Path::new(&key).exists() {
        cauldron(place.mesh.folder(), &["key", "new", &key, "--person", "ana", "--no-passphrase"]).ok();
    }
    let refused = place.approve_by(&call.id, &key);
    assert!(!refused.err.is_empty() && refused.code != Some(0), "{refused:?}");
    assert_eq!(place.mesh.hq.state(&call.id), "PENDING_APPROVAL");
    // And one whose key is not as strong as policy asks.
    let strong = place.session("kim", "clerk").block("verified");
    place.until_asked(&strong);
    let _ = place.mesh.approve(&strong.id);
    assert_eq!(place.mesh.hq.state(&strong.id), "PENDING_APPROVAL", "{}", place.why(&strong.id));
    assert!(place.why(&strong.id).contains("0 of 1"), "{}", place.why(&strong.id));
    place.untouched(&call);
    place.untouched(&strong);
}

#[test]
fn adr30_06_one_deny_ends_the_chain() {
    let place = place();
    let call = place.session("kim", "clerk").block("two");
    place.until_asked(&call);
    place.approve_by(&call.id, &place.bo).ok();
    place.mesh.deny(&call.id).ok();
    place.until(&call, "DENIED");
    let _ = place.approve_by(&call.id, &place.cy);
    assert_eq!(place.mesh.hq.state(&call.id), "DENIED");
    place.untouched(&call);
}

#[test]
fn adr30_07_allow_comes_only_after_every_stage() {
    let place = place();
    let call = place.session("kim", "clerk").block("stages");
    place.until_asked(&call);
    place.mesh.approve(&call.id).ok();
    // One person fills one seat, though ana belongs to both groups.
    let _ = place.mesh.approve(&call.id);
    assert_eq!(place.mesh.hq.state(&call.id), "PENDING_APPROVAL", "{}", place.why(&call.id));
    assert!(place.mesh.hq.facts(&call.id, "permit").is_empty());
    place.untouched(&call);
    place.approve_by(&call.id, &place.bo).ok();
    place.until(&call, "DONE");
}

#[test]
fn adr30_08_what_is_delivered_twice_changes_nothing_the_second_time() {
    let place = place();
    let session = place.session("kim", "clerk");
    let call = session.letter("dora", "two", 200);
    place.until_asked(&call);
    place.approve_by(&call.id, &place.bo).ok();
    let _ = place.approve_by(&call.id, &place.bo);
    assert!(place.why(&call.id).contains("1 of 2"), "{}", place.why(&call.id));
    place.mesh.approve(&call.id).ok();
    let given = session.wait(&call.id, 15_000);
    assert!(given["execute"].is_object(), "{given}");
    // The callback that says what came of it.
    let told = session.tell(&call.id, &json!({ "outcome": "done", "says": "sent" }));
    assert_eq!(told["state"], "DONE", "{told}");
    let again = session.tell(&call.id, &json!({ "outcome": "failed", "says": "it was not" }));
    assert!(again.to_string().contains("told before"), "{again}");
    place.until(&call, "DONE");
    assert_eq!(
        (place.mesh.lyon.facts(&call.id, "done").len(), place.mesh.lyon.facts(&call.id, "failed").len()),
        (1, 0)
    );
}

#[test]
fn adr30_09_an_approval_is_consumed_once_under_concurrency() {
    let place = place();
    let session = place.session("kim", "clerk");
    let call = session.letter("dora", "approve", 200);
    place.until_asked(&call);
    let given: Vec<Value> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| session.wait(&call.id, 10_000))).collect();
        place.mesh.approve(&call.id).ok();
        waiting.into_iter().map(|thread| thread.join().expect("it answers")).collect()
    });
    let given: Vec<&Value> = given.iter().filter(|answer| answer["execute"].is_object()).collect();
    assert_eq!(given.len(), 1, "{given:?}");
    assert_eq!(place.mesh.lyon.facts(&call.id, "started").len(), 1);
    let told: Vec<Value> = std::thread::scope(|scope| {
        let telling: Vec<_> =
            (0..8).map(|_| scope.spawn(|| session.tell(&call.id, &json!({ "outcome": "done" })))).collect();
        telling.into_iter().map(|thread| thread.join().expect("it answers")).collect()
    });
    assert_eq!(told.iter().filter(|answer| answer["state"] == "DONE").count(), 1, "{told:?}");
    assert_eq!(place.mesh.lyon.facts(&call.id, "done").len(), 1);
}

#[test]
fn adr30_10_the_record_tells_the_way_from_decision_to_execution() {
    let place = place();
    let call = place.session("kim", "clerk").block("approve");
    place.until_asked(&call);
    place.mesh.approve(&call.id).ok();
    place.until(&call, "DONE");
    let receipt = place.receipt_of(&call.id, "step_up");
    assert_eq!(receipt.kinds(), ["proposal", "decision", "vote", "permit", "started", "done"]);
    receipt.check(&[]).ok();
    let facts = receipt.file["says"]["facts"].as_array().cloned().unwrap_or_default();
    assert!(facts.iter().all(|fact| fact["void"].is_null() && fact["by"].is_string()), "{facts:?}");
    assert!(facts[2]["says"].as_str().is_some_and(|says| says.starts_with("ana votes Approve")), "{facts:?}");
    let (permit, started) = (facts[3]["id"].as_str().expect("an id"), facts[4]["says"].as_str().expect("a sentence"));
    assert!(started.contains(&permit[..8]), "{facts:?}");
    assert!(place.mesh.lyon.broken().is_empty(), "{:?}", place.mesh.lyon.broken());
}

#[test]
fn adr30_11_advice_of_a_model_is_no_approval() {
    let place = place();
    let session = place.session("kim", "clerk");
    let call = session
        .block_with("approve", &json!({ "alternatives": ["none: the model is certain"], "confidence_ppm": 1_000_000 }));
    place.until_asked(&call);
    // Somebody passes on what a model says: a remark.
    let remark = ["approvals", "comment", &call.id, "--reason", "the model says: approve", "--yes"];
    place.mesh.hq.run(&remark).ok();
    // The agent votes itself, and the node's own key does.
    let vote = place.mesh.lyon.post("/v1/votes", &json!({ "vote": "b2theQ==" }));
    assert!(vote.status >= 400, "{vote:?}");
    let author = place.mesh.lyon.dir().join("author.key").display().to_string();
    let refused = place.approve_by(&call.id, &author);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert_eq!(place.mesh.hq.state(&call.id), "PENDING_APPROVAL");
    assert!(place.why(&call.id).contains("0 of 1"), "{}", place.why(&call.id));
    place.untouched(&call);
}
