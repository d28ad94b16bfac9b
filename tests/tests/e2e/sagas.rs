//! Three files on two nodes: all are changed, or none.

use cauldron_identity::ids::sha256;
use cauldron_tests::{Mesh, Node, Plan, Ran, cauldron, eventually};
use serde_json::{Value, json};

use crate::site::{listens, replace};

/// A mesh with two nodes at lyon, each with a folder of its own.
struct Place {
    mesh: Mesh,
    annexe: Node,
}

impl Place {
    fn found() -> Self {
        let init = ["--group", "security-duty", "--group", "devops"];
        let mut mesh = Mesh::only_hq(Plan { init: &init, without_porto: true, ..Plan::default() });
        for (folder, files) in [("lyon.d", &["a.conf", "c.conf"][..]), ("annexe.d", &["b.conf"])] {
            std::fs::create_dir(mesh.folder().join(folder)).expect("made");
            for file in files {
                std::fs::write(mesh.folder().join(folder).join(file), "one\n").expect("written");
            }
        }
        let folder = |name: &str| mesh.folder().join(name).display().to_string();
        mesh.join("lyon", &["--folder", &folder("lyon.d")]).ok();
        let hq = mesh.hq.dir().display().to_string();
        let id = format!("spiffe://{}/site/lyon/node/annexe", Mesh::TRUST_DOMAIN);
        let token = cauldron(mesh.folder(), &["authority", "token", &id, "--node", &hq]).ok().out;
        mesh.join_with(token.trim(), &["--folder", &folder("annexe.d")]).ok();
        let mut annexe = Node::new(mesh.folder(), "annexe");
        // They talk without hq, too.
        replace(&annexe.config(), "join = [", &format!("join = [\"{}\", ", listens(&mesh.lyon)));
        mesh.lyon.start();
        annexe.start();
        mesh.until_up();
        annexe.until_up();
        Self { mesh, annexe }
    }

    fn texts(&self) -> [String; 3] {
        ["lyon.d/a.conf", "annexe.d/b.conf", "lyon.d/c.conf"]
            .map(|file| std::fs::read_to_string(self.mesh.folder().join(file)).expect("readable"))
    }

    fn propose(&self, name: &str, text: &str) -> Ran {
        let file = self.mesh.folder().join(name);
        std::fs::write(&file, text).expect("written");
        self.mesh.lyon.run(&["propose", "--file", &file.display().to_string()])
    }

    /// Writes `two` into all three, and waits until people are asked about each; the steps.
    fn three(&self) -> [String; 3] {
        let ids = self.propose("saga.json", &saga().to_string()).ok().json()["steps"].clone();
        let ids: Vec<String> = serde_json::from_value(ids).expect("ids");
        ids.iter().for_each(|id| self.mesh.hq.until_state(id, "PENDING_APPROVAL"));
        ids.try_into().expect("three")
    }
}

fn step(file: &str) -> Value {
    json!({ "operation": "devops.file.write", "args": { "path": file, "text": "two\n" }, "rationale": "the port moved" })
}

fn saga() -> Value {
    let mut second = step("b.conf");
    second["node"] = "annexe".into();
    second["expected_version"] = format!("sha256:{}", hex::encode(sha256(b"one\n"))).into();
    second["dry_run"] = "-one\n+two\n".into();
    json!({ "steps": [step("a.conf"), second, step("c.conf")] })
}

#[test]
fn a_no_to_the_last_of_three_steps_leaves_every_file_as_it_was() {
    let place = Place::found();
    let [a, b, c] = place.three();
    let listed = place.mesh.hq.items("/v1/approvals");
    let listed: Vec<&str> = listed.iter().filter_map(|p| p["id"].as_str()).collect();
    assert_eq!(listed, [&a, &b, &c], "as they would be done");
    let shown = place.mesh.hq.run(&["approvals", "show", &b]).ok().json();
    let lines = shown["presentation"].to_string();
    for part in ["step 2 of 3", "as the proposer says", "+two"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    // Agreed to out of turn: it waits.
    place.mesh.approve(&b).ok();
    let why = place.mesh.hq.run(&["why", &b]).ok().out;
    assert!(why.contains("waits for step 1") && why.contains("step 2 of 3 of a saga, after"), "{why}");
    assert_eq!(place.texts(), ["one\n"; 3]);
    place.mesh.approve(&a).ok();
    place.mesh.hq.until_state(&b, "VERIFIED");
    assert_eq!(place.texts(), ["two\n", "two\n", "one\n"]);
    let refused = place.mesh.lyon.run(&["undo", &a, "--reason", "wrong port", "--yes"]);
    assert!(refused.refused_with(5).contains("step 2 of its saga"), "{refused:?}");

    place.mesh.deny(&c).ok();
    for (id, state) in [(&a, "COMPENSATED"), (&b, "COMPENSATED"), (&c, "DENIED")] {
        place.mesh.hq.until_state(id, state);
        place.annexe.until_state(id, state);
    }
    assert_eq!(place.texts(), ["one\n"; 3]);
    let told = place.mesh.hq.facts(&a, "compensating");
    assert!(
        told[0]["summary"].as_str().is_some_and(|s| s.contains("step 2") && s.contains("did not happen")),
        "{told:?}"
    );
    assert_eq!(place.mesh.hq.facts(&c, "aborted").len(), 1);
    let receipt = place.mesh.hq.run(&["audit", "receipt", &b]).ok().json();
    let facts = receipt["says"]["facts"].as_array().expect("facts");
    assert!(facts.iter().all(|fact| fact["void"].is_null()), "{facts:?}");
}

#[test]
fn a_saga_is_done_whole_and_taken_back_from_its_end_in_the_dark() {
    let mut place = Place::found();
    let ids = place.three();
    ids.iter().for_each(|id| _ = place.mesh.approve(id).ok());
    place.mesh.hq.until_state(&ids[2], "VERIFIED");
    assert_eq!(place.texts(), ["two\n"; 3]);
    eventually("the neighbours know each other", || {
        place.annexe.items("/v1/peers").iter().filter(|p| !p["connected_ms"].is_null()).count() == 2
    });
    place.mesh.hq.stop();
    place.mesh.lyon.run(&["undo", &ids[2], "--reason", "wrong port", "--by", "ana", "--yes"]).ok();
    ids.iter().for_each(|id| place.mesh.lyon.until_state(id, "COMPENSATED"));
    assert_eq!(place.texts(), ["one\n"; 3]);
}

#[test]
fn a_saga_with_a_bad_step_is_not_proposed_at_all() {
    let place = Place::found();
    let mut broken = saga();
    broken["steps"][2]["args"]["path"] = "none/c.conf".into();
    let refused = place.propose("broken.json", &broken.to_string());
    assert!(refused.err.contains("step 3 of 3") && refused.err.contains("there is no directory"), "{refused:?}");
    let mut unknown = saga();
    unknown["steps"][1]["node"] = "nowhere".into();
    let refused = place.propose("unknown.json", &unknown.to_string());
    assert!(refused.err.contains("step 2 of 3") && refused.err.contains("no node is enrolled"), "{refused:?}");
    // What fits its own limits and is too long as a whole is seen before anything is written.
    let mut long = saga();
    long["steps"][1]["args"]["text"] = "x".repeat(65_536).into();
    for (name, len) in [("dry_run", 32_000), ("rationale", 2_048), ("undo_plan", 2_048)] {
        long["steps"][1][name] = "x".repeat(len).into();
    }
    for (list, len) in [("evidence", 512), ("alternatives", 2_048)] {
        long["steps"][1][list] = vec!["x".repeat(len); 64].into();
    }
    let answer = place.mesh.lyon.post("/v1/sagas", &long);
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(
        answer.status != 200 && detail.contains("step 2 of 3: ") && detail.contains("body"),
        "{} {detail}",
        answer.status
    );
    let one = json!({ "steps": [step("a.conf")] });
    assert!(place.propose("one.json", &one.to_string()).err.contains("2 to 16 steps"));
    assert!(place.mesh.lyon.items("/v1/proposals").is_empty());
    let toml =
        "[[steps]]\noperation = \"devops.file.write\"\nrationale = \"r\"\nargs = { path = \"a.conf\", text = \"x\" }\n";
    let both = format!("{toml}{}", toml.replace("a.conf", "c.conf"));
    assert_eq!(place.propose("saga.toml", &both).ok().json()["steps"].as_array().map(Vec::len), Some(2));
}
