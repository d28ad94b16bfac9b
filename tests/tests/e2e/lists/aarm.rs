//! AARM conformance, R1 to R6: each test by its id, against real processes.

use std::time::Duration;

use cauldron_tests::{eventually, wait_until};
use serde_json::{Value, json};

use super::place::{Place, in_seconds, place, set_of};

#[test]
fn aarm_01_a_denied_action_does_not_run_and_has_a_receipt() {
    let place = place();
    let call = place.session("kim", "clerk").block("forbidden");
    place.until(&call, "DENIED");
    let receipt = place.receipt_of(&call.id, "deny");
    assert!(receipt.judged()[0]["rules"].to_string().contains("list.forbidden"), "{}", receipt.file);
    receipt.check(&[]).ok();
    place.untouched(&call);
}

#[test]
fn aarm_02_a_deferred_action_is_suspended_and_has_a_receipt() {
    let place = place();
    let call = place.session("kim", "clerk").block("wait");
    place.until(&call, "DEFERRED");
    let receipt = place.receipt_of(&call.id, "defer");
    assert!(receipt.judged()[0]["rules"].to_string().contains("list.wait"), "{}", receipt.file);
    receipt.check(&[]).ok();
    place.untouched(&call);
}

#[test]
fn aarm_03_without_a_control_plane_the_action_fails() {
    let mut place = Place::new();
    place.mesh.hq.stop();
    let call = place.session("kim", "clerk").block_with("allow", &json!({ "wait_ms": 4000, "expires": in_seconds(6) }));
    assert_eq!(call.state, "PROPOSED", "{}", call.answer);
    place.untouched(&call);
    place.until(&call, "EXPIRED");
    // What was waited out is not made up for.
    place.mesh.hq.start();
    place.mesh.hq.until_up();
    eventually("hq knows of it", || !place.mesh.hq.state(&call.id).is_empty());
    assert!(place.mesh.hq.facts(&call.id, "permit").is_empty());
    place.untouched(&call);
}

/// The document that was judged for a proposal, once hq has judged it.
fn judged_input(place: &Place, id: &str) -> Value {
    wait_until("hq judged it", Duration::from_secs(60), || {
        let all = place.mesh.hq.items("/v1/decisions");
        let found = all.iter().find(|d| d["input"]["proposal"]["id"] == id);
        found.map(|d| d["input"].clone()).ok_or_else(|| format!("{} decisions, none of it", all.len()))
    })
}

#[test]
fn aarm_04_policy_sees_every_earlier_action_and_data_class_of_the_session() {
    let place = place();
    let session = place.session("kim", "clerk");
    session.read(&["data:prices"]);
    session.call_with("security.blocklist.read", &json!({ "list": "addresses" }), &json!({}));
    session.read(&["data:people"]);
    let denied = session.block("forbidden");
    place.until(&denied, "DENIED");
    let call = session.block("allow");
    let input = judged_input(&place, &call.id);
    let history: Vec<(&str, &str)> = input["history"]
        .as_array()
        .expect("a history")
        .iter()
        .map(|s| (s["operation"].as_str().unwrap_or_default(), s["outcome"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        history,
        [
            ("office.record.read", "DONE"),
            ("security.blocklist.read", "DONE"),
            ("office.record.read", "DONE"),
            ("security.address.block", "DENIED"),
        ]
    );
    assert_eq!(input["history"][0]["labels"], json!(["data:prices"]));
    assert_eq!(input["history"][2]["labels"], json!(["data:people"]));
    let taint = input["taint"].to_string();
    assert!(taint.contains("data:prices") && taint.contains("data:people"), "{taint}");
    place.until(&call, "DONE");
}

#[test]
fn aarm_05_an_altered_entry_of_the_context_is_detected() {
    let place = place();
    let session = place.session("kim", "clerk");
    let first = session.read(&["data:prices"]);
    let first = first["id"].as_str().expect("an id");
    let call = session.block("allow");
    place.until(&call, "DONE");
    // The later step names the earlier one by its hash, and that is signed.
    let later = place.receipt_of(&call.id, "allow");
    assert_eq!(later.judged()[0]["session"]["prev"], first);
    let earlier = place.receipt(first);
    earlier.check(&[]).ok();
    let refused = earlier.altered("data:prices", "data:nothin").check(&[]);
    assert!(refused.refused_with(6).contains("body does not match"), "{refused:?}");
}

#[test]
fn aarm_06_a_forbidden_action_is_denied_whatever_the_context() {
    let place = place();
    let (fresh, informed) = (place.session("kim", "clerk"), place.session("ana", "director"));
    informed.read(&["says:yes"]);
    let vouched = informed.block("confirm");
    for session in [&fresh, &informed] {
        let call = session.block("forbidden");
        place.until(&call, "DENIED");
        place.untouched(&call);
    }
    place.until_asked(&vouched);
}

#[test]
fn aarm_07_an_allowed_action_is_denied_after_access_to_sensitive_data() {
    let place = place();
    let session = place.session("kim", "clerk");
    let before = session.block("share");
    place.until(&before, "DONE");
    session.read(&["sensitive:health"]);
    let after = session.block("share");
    place.until(&after, "DENIED");
    assert!(place.receipt_of(&after.id, "deny").judged()[0]["rules"].to_string().contains("list.sensitive"));
    place.untouched(&after);
    // Another session has read nothing.
    place.until(&place.session("kim", "clerk").block("share"), "DONE");
}

#[test]
fn aarm_08_a_denied_action_with_confirming_context_is_stepped_up() {
    let place = place();
    let session = place.session("kim", "clerk");
    let before = session.block("confirm");
    place.until(&before, "DENIED");
    session.read(&[]);
    let after = session.block("confirm");
    place.until_asked(&after);
    place.mesh.approve(&after.id).ok();
    place.until(&after, "DONE");
    place.untouched(&before);
}

#[test]
fn aarm_09_conflicting_context_defers() {
    let place = place();
    let session = place.session("kim", "clerk");
    session.read(&["says:yes"]);
    place.until(&session.block("doubt"), "DONE");
    session.read(&["says:no"]);
    let call = session.block("doubt");
    place.until(&call, "DEFERRED");
    place.untouched(&call);
}

#[test]
fn aarm_10_each_of_the_five_decisions_does_what_it_says() {
    let place = place();
    let session = place.session("kim", "clerk");
    let [allow, deny, modify, step_up, defer] =
        ["allow", "forbidden", "modify", "approve", "wait"].map(|word| session.block(word));
    place.until(&allow, "DONE");
    assert_eq!(place.mesh.blocked(&allow.address), 1);
    place.until(&deny, "DENIED");
    place.untouched(&deny);
    // What happens is what policy made of it, and it happens once.
    place.until(&modify, "SUPERSEDED");
    eventually("the modified block stands", || place.mesh.blocked(&modify.address) == 1);
    let story = place.receipt_of(&modify.id, "modify");
    assert_eq!(story.judged().iter().filter(|j| j["outcome"] == "allow").count(), 1, "{}", story.file["says"]);
    assert!(place.mesh.lyon.items("/v1/proposals").iter().any(|p| {
        let child = place.mesh.lyon.get(&format!("/v1/proposals/{}", p["id"].as_str().unwrap_or_default()));
        child["proposal"]["parent"] == modify.id.as_str() && child["proposal"]["args"]["ttl_s"] == 30
    }));
    place.until_asked(&step_up);
    place.untouched(&step_up);
    place.mesh.approve(&step_up.id).ok();
    place.until(&step_up, "DONE");
    place.until(&defer, "DEFERRED");
    place.untouched(&defer);
}

#[test]
fn aarm_11_a_step_up_that_nobody_answers_is_denied() {
    let place = place();
    let call = place.session("kim", "clerk").block_with("approve", &json!({ "expires": in_seconds(4) }));
    place.until_asked(&call);
    place.until(&call, "EXPIRED");
    // A late yes changes nothing.
    place.mesh.approve(&call.id).refused_with(5);
    assert_eq!(place.mesh.hq.state(&call.id), "EXPIRED");
    place.untouched(&call);
}

#[test]
fn aarm_12_a_deferral_that_nothing_resolves_is_denied() {
    let place = place();
    let call = place.session("kim", "clerk").block_with("wait", &json!({ "expires": in_seconds(4) }));
    place.until(&call, "DEFERRED");
    place.until(&call, "EXPIRED");
    place.untouched(&call);
}

/// What a receipt must say of every decision.
fn is_whole(judged: &Value, principal: &str, role: &str, session: &str) {
    let requester = &judged["requester"];
    assert_eq!(requester["principal"], principal, "{judged}");
    assert_eq!(requester["role"], role, "{judged}");
    assert_eq!(requester["session"], session, "{judged}");
    assert!(requester["agent"].as_str().is_some_and(|agent| agent.ends_with("/agent/clerk")), "{judged}");
    for digest in ["digest", "class_version", "entry"] {
        assert_eq!(judged["policy"][digest].as_str().map(str::len), Some(64), "{digest}: {judged}");
    }
}

fn delegation(place: &Place, principal: &str, operations: &[&str]) -> Value {
    let agent = format!("{}/agent/clerk", cauldron_tests::Mesh::site_id("lyon"));
    assert!(place.mesh_id().len() == 64);
    json!([{ "from": principal, "to": agent, "operations": operations, "expires_ms": 4_000_000_000_000u64 }])
}

#[test]
fn aarm_13_receipts_of_all_five_decisions_name_requester_delegation_and_policy() {
    let place = place();
    let links = delegation(&place, "kim", &["security.*"]);
    let session = place.open(&json!({ "agent": "clerk", "principal": "kim", "role": "clerk", "delegation": links }));
    for (word, outcome) in
        [("allow", "allow"), ("forbidden", "deny"), ("modify", "modify"), ("approve", "step_up"), ("wait", "defer")]
    {
        let receipt = place.receipt_of(&session.block(word).id, outcome);
        let judged = receipt.judged();
        let judged = judged.iter().find(|j| j["outcome"] == outcome).expect("it is there");
        is_whole(judged, "kim", "clerk", &session.id);
        assert_eq!(judged["requester"]["delegation"], links, "{judged}");
        receipt.check(&["--mesh", &place.mesh_id()]).ok();
    }
}

#[test]
fn aarm_14_a_receipt_is_checked_offline() {
    let place = place();
    let call = place.session("kim", "clerk").block("allow");
    place.until(&call, "DONE");
    let receipt = place.receipt_of(&call.id, "allow");
    // In a folder without a node, and without a network to ask.
    let checked = receipt.check(&["--mesh", &place.mesh_id()]).ok();
    assert_eq!(checked.json(), receipt.file["says"]);
    let other = "0".repeat(64);
    assert!(receipt.check(&["--mesh", &other]).refused_with(6).contains("it is a receipt of mesh"));
}

#[test]
fn aarm_15_an_altered_receipt_does_not_verify() {
    let place = place();
    let call = place.session("kimberley", "clerk").block("allow");
    place.until(&call, "DONE");
    let receipt = place.receipt_of(&call.id, "allow");
    receipt.check(&[]).ok();
    // What it says, for people.
    for (pointer, value) in [
        ("/says/judged/0/requester/principal", "eve"),
        ("/says/judged/0/requester/role", "director"),
        ("/says/judged/0/policy/digest", "00"),
        ("/says/judged/0/policy/class_version", "00"),
    ] {
        let mut file = receipt.file.clone();
        *file.pointer_mut(pointer).expect(pointer) = json!(value);
        let altered = super::place::Receipt { file, ..place.receipt(&call.id) };
        let refused = altered.check(&[]);
        assert!(refused.refused_with(6).contains("what it says is not what was signed"), "{pointer}: {refused:?}");
    }
    // What was signed.
    let refused = receipt.altered("kimberley", "kimberlex").check(&[]);
    assert!(refused.refused_with(6).contains("body does not match"), "{refused:?}");
    let refused = receipt.altered("list.allow", "list.allox").check(&[]);
    assert!(refused.refused_with(6).contains("body does not match"), "{refused:?}");
}

#[test]
fn aarm_16_the_receipt_of_a_deferred_action_says_why_how_and_when_it_was_resolved() {
    let place = place();
    let call = place.session("kim", "clerk").block("later");
    place.until(&call, "DEFERRED");
    place.until(&call, "DONE");
    let receipt = place.receipt_of(&call.id, "allow");
    let judged = receipt.judged();
    let deferral = judged.iter().find(|j| j["outcome"] == "defer").expect("the deferral");
    let resolution = judged.iter().find(|j| j["outcome"] == "allow").expect("the resolution");
    assert_eq!(resolution["resolves"]["deferred"], deferral["id"], "{judged:?}");
    assert!(resolution["resolves"]["reason"].to_string().contains("list.later"), "{resolution}");
    assert!(resolution["rules"].to_string().contains("list.allow"), "{resolution}");
    let ms = |value: &Value| value.as_u64().expect("a time");
    assert_eq!(ms(&resolution["resolves"]["deferred_ms"]), ms(&deferral["decided_ms"]));
    assert!(ms(&resolution["decided_ms"]) > ms(&deferral["decided_ms"]));
    receipt.check(&[]).ok();
}

#[test]
fn aarm_17_receipts_name_the_right_identity_with_role_and_scope() {
    let place = place();
    let wide = delegation(&place, "lee", &["security.*", "office.*"]);
    let narrow = delegation(&place, "kim", &["security.address.block"]);
    let sessions = [("lee", "lead", wide), ("kim", "clerk", narrow)].map(|(principal, role, links)| {
        let request = json!({ "agent": "clerk", "principal": principal, "role": role, "delegation": links });
        (place.open(&request), principal, role, links)
    });
    let calls: Vec<_> = sessions.iter().map(|(session, ..)| session.block("allow")).collect();
    for ((session, principal, role, links), call) in sessions.iter().zip(&calls) {
        let receipt = place.receipt_of(&call.id, "allow");
        let judged = receipt.judged();
        is_whole(&judged[0], principal, role, &session.id);
        assert_eq!(judged[0]["requester"]["delegation"], *links);
    }
    // Beyond its scope nobody gets as far as a decision.
    let args = json!({ "to": "bo", "text": "x", "reason": "allow" });
    let (session, ..) = &sessions[1];
    let refused = session.post(
        "/calls",
        &json!({ "operation": "office.letter.send", "args": args, "rationale": "x", "key": session.key }),
    );
    assert!(refused.to_string().contains("does not cover office.letter.send"), "{refused}");
}

#[test]
fn aarm_18_the_resolution_of_a_deferral_names_the_original_identity() {
    let place = place();
    let session = place.session("lee", "lead");
    let call = session.block("later");
    place.until(&call, "DONE");
    let judged = place.receipt_of(&call.id, "allow").judged();
    assert_eq!(judged.len(), 2, "{judged:?}");
    judged.iter().for_each(|one| is_whole(one, "lee", "lead", &session.id));
    assert_eq!(set_of(judged.iter().map(|one| one["requester"].to_string())).len(), 1);
}
