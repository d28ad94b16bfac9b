//! A folder of managed files: seen before it is approved, changed once, checked, and taken back.

use std::path::PathBuf;

use cauldron_tests::{Mesh, Plan, Ran, append, eventually};
use serde_json::{Value, json};

/// A mesh with a folder at lyon in which `a.conf` says `one`.
struct Place {
    mesh: Mesh,
}

impl Place {
    fn with(fault: Option<&str>) -> Self {
        let init = ["--group", "security-duty", "--group", "devops"];
        let mut mesh = Mesh::only_hq(Plan { init: &init, without_porto: true, ..Plan::default() });
        let folder = mesh.folder().join("conf.d");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("a.conf"), "one\n").expect("written");
        mesh.join("lyon", &["--folder", &folder.display().to_string()]).ok();
        append(&mesh.lyon.config(), "\n[connectors]\nanswer_within = \"2s\"\n");
        mesh.lyon.set_env("CAULDRON_FAULT", fault);
        mesh.lyon.start();
        mesh.until_up();
        Self { mesh }
    }

    fn file(&self) -> PathBuf {
        self.mesh.folder().join("conf.d/a.conf")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("readable")
    }

    /// Proposes at lyon, with a file as a program would.
    fn propose(&self, operation: &str, args: &Value) -> Ran {
        let body = json!({ "operation": operation, "args": args, "rationale": "the port moved" });
        let file = self.mesh.folder().join("proposal.json");
        std::fs::write(&file, body.to_string()).expect("written");
        self.mesh.lyon.run(&["propose", "--file", &file.display().to_string()])
    }

    /// A write of `two` that waits for a person at hq.
    fn write(&self) -> String {
        let ran = self.propose("devops.file.write", &json!({ "path": "a.conf", "text": "two\n" })).ok();
        let id = ran.json()["id"].as_str().expect("an id").to_owned();
        self.mesh.hq.until_state(&id, "PENDING_APPROVAL");
        id
    }

    fn written(&self) -> String {
        let id = self.write();
        self.mesh.approve(&id).ok();
        id
    }

    fn heal(&mut self) {
        self.mesh.lyon.set_env("CAULDRON_FAULT", None);
    }
}

#[test]
fn a_change_is_seen_approved_made_verified_and_taken_back() {
    let mut place = Place::with(None);
    let id = place.write();
    let shown = place.mesh.hq.run(&["approvals", "show", &id]).ok().json();
    let lines = shown["presentation"].to_string();
    for part in ["-one", "+two", "only at version", "sha256:"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert_eq!(place.text(), "one\n");
    place.mesh.approve(&id).ok();
    place.mesh.hq.until_state(&id, "VERIFIED");
    assert_eq!(place.text(), "two\n");

    let refused = place.mesh.hq.run(&["undo", &id, "--reason", "wrong port", "--yes"]);
    assert!(refused.refused_with(5).contains("did it; ask there"), "{refused:?}");
    // In the dark: it was permitted with the write.
    place.mesh.hq.stop();
    place.mesh.lyon.run(&["undo", &id, "--reason", "wrong port", "--by", "ana", "--yes"]).ok();
    place.mesh.lyon.until_state(&id, "COMPENSATED");
    assert_eq!(place.text(), "one\n");
    place.mesh.hq.start();
    place.mesh.hq.until_state(&id, "COMPENSATED");
    let told = place.mesh.hq.facts(&id, "compensating");
    assert!(told[0]["summary"].as_str().is_some_and(|s| s.contains("ana at spiffe://")), "{told:?}");
    place.mesh.until_converged();
}

#[test]
fn a_sandbox_is_shown_enforced_and_refused_where_the_connector_cannot() {
    let place = Place::with(None);
    let activate = |suffix: &str, sandbox: &str| {
        let folder = place.mesh.policies(suffix, |name, text| match name {
            "devops_file_write.rego" => {
                let checks = "\"post_checks\": [\"content\"],";
                assert!(text.contains(checks), "the rule asks for a check");
                text.replace(checks, &format!("{checks}\n\t\"sandbox\": {sandbox},"))
            }
            _ => text,
        });
        let key = place.mesh.council_key();
        place.mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &key, "--yes"]).ok();
        let active = format!("2026.11.2-{suffix}");
        for node in [&place.mesh.hq, &place.mesh.lyon] {
            eventually("the policy is active", || node.get("/v1/self")["policy"] == active.as_str());
        }
        std::fs::remove_dir_all(folder).expect("removed");
    };
    let own = place.mesh.lyon.get("/v1/self")["connectors"][0]["sandboxes"].clone();
    assert_eq!(own, json!(["net:none", "path:*", "bytes:*"]));

    activate("small", "[\"net:none\", \"path:a.conf\", \"bytes:4\"]");
    let id = place.write();
    // Before it is approved: what has begun has no page any more.
    let shown = place.mesh.hq.run(&["approvals", "show", &id]);
    assert!(shown.out.contains("runs under") && shown.out.contains("bytes:4"), "{shown:?}");
    place.mesh.approve(&id).ok();
    place.mesh.hq.until_state(&id, "VERIFIED");
    let ran = place.propose("devops.file.write", &json!({ "path": "a.conf", "text": "three\n" })).ok();
    let long = ran.json()["id"].as_str().expect("an id").to_owned();
    place.mesh.hq.until_state(&long, "PENDING_APPROVAL");
    place.mesh.approve(&long).ok();
    place.mesh.hq.until_state(&long, "FAILED");
    let why = place.mesh.hq.facts(&long, "failed")[0]["summary"].to_string();
    assert!(why.contains("6 bytes are more than the sandbox bytes:4 allows"), "{why}");
    assert_eq!(place.text(), "two\n");

    // What the connector has never heard of does not begin.
    activate("cpu", "[\"cpu:1\"]");
    let ran = place.propose("devops.file.write", &json!({ "path": "b.conf", "text": "six\n" })).ok();
    let id = ran.json()["id"].as_str().expect("an id").to_owned();
    place.mesh.hq.until_state(&id, "PENDING_APPROVAL");
    place.mesh.approve(&id).ok();
    eventually("lyon refuses", || place.mesh.lyon.metric("cauldron_core_refused_total{code=\"permit.sandbox\"}") >= 1);
    let why = place.mesh.lyon.run(&["why", &id]).ok().out;
    assert!(why.contains("under cpu:1, and connector folder enforces net:none, path:*, bytes:*"), "{why}");
    assert!(place.mesh.lyon.facts(&id, "started").is_empty() && !place.file().with_file_name("b.conf").exists());
}

#[test]
fn a_file_that_changed_meanwhile_is_left_alone() {
    let place = Place::with(None);
    let id = place.write();
    std::fs::write(place.file(), "by hand\n").expect("written");
    place.mesh.approve(&id).ok();
    eventually("lyon voids the permit", || {
        place.mesh.lyon.metric("cauldron_core_refused_total{code=\"permit.version\"}") >= 1
    });
    let why = place.mesh.lyon.run(&["why", &id]).ok().out;
    assert!(why.contains("it was reasoned on another"), "{why}");
    assert_eq!(place.text(), "by hand\n");
    assert!(place.mesh.lyon.facts(&id, "started").is_empty());
}

#[test]
fn what_cannot_be_done_is_refused_before_anybody_is_asked() {
    let place = Place::with(None);
    let refused = place.propose("devops.file.write", &json!({ "path": "none/a.conf", "text": "x" }));
    assert!(refused.err.contains("there is no directory"), "{refused:?}");
    let refused = place.propose("devops.file.restore", &json!({ "path": "a.conf" }));
    assert!(refused.err.contains("is not kept"), "{refused:?}");
    assert!(place.mesh.lyon.items("/v1/proposals").is_empty());
}

#[test]
fn a_connector_that_hangs_is_told_of_and_holds_up_nobody() {
    let mut place = Place::with(Some("effect.before:hang"));
    let id = place.written();
    place.mesh.hq.until_state(&id, "UNKNOWN");
    let called = "cauldron_governance_attention{why=\"unknown\"}";
    eventually("hq counts that a person must look", || place.mesh.hq.metric(called) == 1);
    let own = place.mesh.lyon.get("/v1/self");
    assert_eq!(own["connectors"][0]["state"], "hangs", "{own}");
    assert!(own["reasons"].to_string().contains("connector folder hangs since"), "{own}");
    assert_eq!(place.mesh.lyon.metric("cauldron_connector_hangs{connector=\"folder\"}"), 1);
    // Nothing more is handed to it; the node itself answers.
    let refused = place.propose("devops.file.write", &json!({ "path": "b.conf", "text": "x" }));
    assert!(refused.err.contains("connector folder does not answer"), "{refused:?}");
    place.heal();
    place.mesh.lyon.kill9();
    place.mesh.lyon.start();
    place.mesh.until_up();
    assert_eq!((place.text().as_str(), place.mesh.lyon.state(&id).as_str()), ("one\n", "UNKNOWN"));
    assert_eq!(place.mesh.lyon.facts(&id, "started").len(), 1);
}

#[test]
fn a_person_says_that_what_nobody_knows_did_not_happen_and_it_is_wanted_again() {
    let mut place = Place::with(Some("effect.before:hang"));
    // One write at a time is all there is.
    let folder = place.mesh.policies("one", |name, text| match name {
        "devops_file_write.rego" => {
            let checks = "\"post_checks\": [\"content\"],";
            assert!(text.contains(checks), "the rule asks for a check");
            text.replace(checks, &format!("{checks}\n\t\"reserve\": [{{\"budget\": \"writes\", \"amount\": 1}}],"))
        }
        _ => text,
    });
    let key = place.mesh.council_key();
    place.mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &key, "--yes"]).ok();
    place.mesh.hq.run(&["budgets", "mint", "writes", "1", "--every", "30days"]).ok();
    for node in [&place.mesh.hq, &place.mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-one");
        eventually("the budget is there", || node.items("/v1/budgets").len() == 1);
    }
    let budget = |place: &Place| {
        let item = place.mesh.lyon.items("/v1/budgets")[0].clone();
        ["held", "reserved", "spent"].map(|name| item[name].as_u64().expect("a number"))
    };
    let waits = place.write();
    let looked = |happened| ["--happened", happened, "--reason", "the file still says one", "--yes"];
    let reconcile = |place: &Place, id: &str, happened| {
        place.mesh.hq.run(&[&["reconcile", id][..], &looked(happened)[..]].concat())
    };
    let early = reconcile(&place, &waits, "no");
    assert!(early.refused_with(5).contains("nothing here was started"), "{early:?}");
    place.mesh.approve(&waits).ok();
    place.mesh.hq.until_state(&waits, "UNKNOWN");
    place.heal();
    place.mesh.lyon.kill9();
    place.mesh.lyon.start();
    place.mesh.until_up();
    let why = place.mesh.hq.run(&["why", &waits[..8]]);
    assert!(why.out.contains("cauldron reconcile ") && why.out.contains("--happened yes|no"), "{why:?}");
    let me = "spiffe://acme.example/site/lyon/node/lyon".to_owned();
    let offer = |place: &Place| place.mesh.lyon.run(&["ownership", "offer", "lyon/lyon/folder", "--to", &me, "--yes"]);
    let kept = offer(&place);
    assert!(kept.refused_with(5).contains("cauldron reconcile "), "{kept:?}");
    let again = json!({ "path": "a.conf", "text": "two\n" });
    let known = place.propose("devops.file.write", &again).ok();
    assert_eq!(known.json()["id"], waits.as_str(), "its intent is used");
    assert_eq!(budget(&place), [0, 1, 0]);

    reconcile(&place, &waits, "no").ok();
    place.mesh.lyon.until_state(&waits, "FAILED");
    let why = place.mesh.lyon.run(&["why", &waits[..8]]);
    assert!(why.out.contains("it did not happen, by the word of ") && why.out.contains("still says one"), "{why:?}");
    assert_eq!(place.mesh.lyon.facts(&waits, "reconciled").len(), 1);
    eventually("its right is given back", || budget(&place) == [1, 0, 0]);
    let id = place.written();
    assert_ne!(id, waits);
    place.mesh.hq.until_state(&id, "VERIFIED");
    assert_eq!((place.text().as_str(), place.mesh.hq.state(&waits).as_str()), ("two\n", "FAILED"));
    eventually("its right is spent", || budget(&place) == [0, 0, 1]);
    let known = reconcile(&place, &id, "no");
    assert!(known.refused_with(5).contains("its owner knows"), "{known:?}");
    offer(&place).ok();
    place.mesh.until_converged();
}

#[test]
fn what_happened_by_a_persons_word_is_done_and_its_undo_is_the_connectors_to_refuse() {
    let mut place = Place::with(Some("effect.before:hang"));
    let id = place.written();
    place.mesh.hq.until_state(&id, "UNKNOWN");
    place.heal();
    place.mesh.lyon.kill9();
    // Somebody made the change by hand meanwhile.
    std::fs::write(place.file(), "two\n").expect("written");
    place.mesh.lyon.start();
    place.mesh.until_up();
    place.mesh.lyon.until_state(&id, "UNKNOWN");
    let undo = ["undo", &id, "--reason", "wrong port", "--by", "ana", "--yes"];
    assert!(place.mesh.lyon.run(&undo).refused_with(5).contains("it is not done"));
    place.mesh.hq.run(&["reconcile", &id, "--happened", "yes", "--reason", "it says two", "--yes"]).ok();
    place.mesh.lyon.until_state(&id, "DONE");
    let stands = || {
        let sites = place.mesh.hq.items("/v1/sites");
        let line = sites.iter().find(|s| s["site"] == "lyon").map(|s| s["line"].clone()).unwrap_or_default();
        line["lyon.done"] == "1" && line["lyon.standing"] == "1"
    };
    eventually("its site counts it", stands);
    place.mesh.lyon.run(&undo).ok();
    place.mesh.hq.until_state(&id, "COMPENSATION_FAILED");
    assert!(stands(), "it could not be taken back");
    assert_eq!((place.text().as_str(), place.mesh.lyon.facts(&id, "started").len()), ("two\n", 1));
    assert!(place.mesh.hq.facts(&id, "verify-failed").is_empty(), "whoever said so has looked");
}

#[test]
fn a_connector_that_dies_after_the_effect_acted_once() {
    let mut place = Place::with(Some("effect.after:kill"));
    let id = place.written();
    assert!(!place.mesh.lyon.until_ended().success());
    assert_eq!(place.text(), "two\n");
    place.heal();
    place.mesh.lyon.start();
    place.mesh.hq.until_state(&id, "VERIFIED");
    assert_eq!(place.text(), "two\n");
    for kind in ["started", "done", "verified"] {
        assert_eq!(place.mesh.hq.facts(&id, kind).len(), 1, "{kind}");
    }
}

#[test]
fn a_node_killed_before_the_effect_compares_versions_again_and_acts_once() {
    let mut place = Place::with(Some("effect.before:kill"));
    let id = place.written();
    assert!(!place.mesh.lyon.until_ended().success());
    assert_eq!(place.text(), "one\n");
    place.heal();
    place.mesh.lyon.start();
    place.mesh.hq.until_state(&id, "VERIFIED");
    assert_eq!((place.text().as_str(), place.mesh.hq.facts(&id, "started").len()), ("two\n", 1));
}

#[test]
fn a_connector_that_lies_about_an_effect_is_found_out_and_a_person_is_called() {
    let place = Place::with(Some("effect.done:lie"));
    let id = place.written();
    place.mesh.hq.until_state(&id, "COMPENSATION_FAILED");
    let failed = place.mesh.hq.facts(&id, "verify-failed");
    assert!(failed[0]["summary"].as_str().is_some_and(|s| s.contains("content does not hold")), "{failed:?}");
    assert_eq!(place.text(), "one\n");
    // Whoever was called has seen how it stands, and says so: of what could not be taken back, whose id nobody has to look up.
    let hq = &place.mesh.hq;
    let called = || hq.get("/v1/self")["attention"].as_array().cloned().unwrap_or_default();
    eventually("a person is called", || called().iter().any(|a| a["what"] == "compensation_failed"));
    let failed = hq.facts(&id, "compensation-failed")[0]["id"].clone();
    assert_eq!(hq.get(&format!("/v1/proposals/{id}"))["review"], serde_json::json!([failed]));
    let review = ["break-glass", "review", &id[..12], "--note", "it was never written", "--yes"];
    hq.run(&review).ok();
    eventually("nobody is called any more", || called().is_empty());
    let again = hq.run(&review);
    assert!(again.err.contains("nobody has to look at"), "{}", again.err);
}

#[test]
fn an_effect_whose_check_does_not_hold_is_taken_back() {
    let place = Place::with(Some("check.held:lie"));
    let id = place.written();
    place.mesh.hq.until_state(&id, "COMPENSATED");
    assert_eq!(place.text(), "one\n");
    for kind in ["done", "verify-failed", "compensating", "compensated"] {
        assert_eq!(place.mesh.hq.facts(&id, kind).len(), 1, "{kind}");
    }
}

#[test]
fn a_check_that_nobody_can_make_calls_a_person_who_may_let_it_stand() {
    let place = Place::with(None);
    let folder = place.mesh.policies("two", |name, text| match name {
        "devops_file_write.rego" => {
            let checks = "\"post_checks\": [\"content\"],";
            assert!(text.contains(checks), "the rule asks for a check");
            text.replace(checks, "\"post_checks\": [\"content\", \"weather\"],")
        }
        _ => text,
    });
    let key = place.mesh.council_key();
    place.mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &key, "--yes"]).ok();
    for node in [&place.mesh.hq, &place.mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-two");
    }
    let id = place.written();
    place.mesh.hq.until_state(&id, "VERIFY_FAILED");
    let called = || place.mesh.hq.get("/v1/self")["attention"].as_array().cloned().unwrap_or_default();
    eventually("a person is called", || called().iter().any(|a| a["proposal"] == id.as_str()));
    let (what, commands) = (called()[0]["what"].clone(), called()[0]["commands"].clone());
    let review = format!("cauldron break-glass review {} --note FOUND", &id[..12]);
    assert!(what == "verify_failed" && commands.to_string().contains(&review), "{what} {commands}");
    assert_eq!(place.mesh.hq.metric("cauldron_governance_attention{why=\"verify_failed\"}"), 1);
    place.mesh.hq.run(&["break-glass", "review", &id[..12], "--note", "it rains", "--yes"]).ok();
    eventually("nobody is called any more", || called().is_empty());
    assert_eq!((place.text().as_str(), place.mesh.hq.state(&id).as_str()), ("two\n", "VERIFY_FAILED"));
}
