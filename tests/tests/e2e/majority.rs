//! What cannot be taken back takes the word of more than half of the coordinators: with two of them, of both.

use std::collections::BTreeSet;
use std::time::Duration;

use cauldron_tests::{Mesh, Node, Plan, cauldron, eventually, free_port};
use serde_json::json;

use crate::people::enrol;
use crate::site::listens;

const HQ: &str = "spiffe://acme.example/coordinator/hq";
const WEST: &str = "spiffe://acme.example/coordinator/west";

/// A mesh with a folder at lyon, in which files may be deleted by two of the team with keys in files: ana and bo.
struct Place {
    mesh: Mesh,
    bo: String,
}

impl Place {
    fn found() -> Self {
        let init = ["--group", "security-duty", "--group", "devops"];
        let mut mesh = Mesh::only_hq(Plan { init: &init, without_porto: true, ..Plan::default() });
        let folder = mesh.folder().join("conf.d");
        std::fs::create_dir(&folder).expect("made");
        mesh.join("lyon", &["--folder", &folder.display().to_string()]).ok();
        mesh.lyon.start();
        mesh.until_up();
        let bo = enrol(&mesh, "bo", &["devops"]);
        let asks = "\t\"assurance\": \"verified\",\n";
        let policies = mesh.policies("keys", |name, text| match name {
            "devops_file_delete.rego" => {
                assert!(text.contains(asks), "the default policy asks for a touch");
                text.replace(asks, "")
            }
            _ => text.replace("\trule.assurance == \"verified\"\n", ""),
        });
        let council = mesh.council_key();
        mesh.hq.run(&["policy", "activate", "--bundle", &policies, "--key", &council, "--yes"]).ok();
        for node in [&mesh.hq, &mesh.lyon] {
            eventually("the policy is active", || node.get("/v1/self")["policy"] == "2026.11.2-keys");
        }
        Self { mesh, bo }
    }

    /// A second coordinator, as docs/operations.md says.
    fn second(&self) -> Node {
        let folder = self.mesh.folder();
        let hq = self.mesh.hq.dir().display().to_string();
        let run = |args: &[&str]| cauldron(folder, args);
        run(&["authority", "export", "--out", "mesh.export", "--node", &hq]).ok();
        let listen = format!("127.0.0.1:{}", free_port());
        let (at_hq, at_lyon) = (listens(&self.mesh.hq), listens(&self.mesh.lyon));
        let init = |name: &str, more: &[&str]| {
            let args = ["init", "--coordinator", "mesh.export", "--name", name, "--listen", &listen];
            run(&[&args[..], more].concat())
        };
        init("hq", &["--join", &at_hq]).refused_with(2);
        assert_eq!(init("west", &[]).code, Some(2), "whom it is to ask is not guessed");
        // Nobody seats this one: the sequencer refuses it, and it says what is missing.
        init("early", &["--join", &at_hq]).ok();
        let mut early = Node::new(folder, "early");
        early.start();
        assert_eq!(early.until_ended().code(), Some(5));
        let log = early.log();
        assert!(log.contains("not enrolled") && log.contains("the council seats a coordinator"), "{log}");
        let said = init("west", &["--join", &at_hq, "--join", &at_lyon]).ok().out;
        // What it prints is what a person then pastes into a shell.
        let mut pasted = said.lines().map(str::trim);
        assert!(pasted.any(|line| line == "cauldron charter amend --print > charter.toml"), "{said}");
        let seat = pasted.next().and_then(|line| line.strip_suffix(" >> charter.toml")).expect("the seat").to_owned();
        let seat = std::process::Command::new("sh").args(["-c", &seat]).output().expect("a shell").stdout;
        let seat = String::from_utf8(seat).expect("text");

        let mut west = Node::new(folder, "west");
        let charter = run(&["charter", "amend", "--print", "--node", &hq, "--output", "table"]).ok().out;
        std::fs::write(folder.join("charter.toml"), charter + &seat).expect("written");
        run(&["charter", "amend", "charter.toml", "--out", "seat.entry", "--node", &hq]).ok();
        self.mesh.ratify("seat.entry");
        west.start();
        west.until_up();
        eventually("west is active", || west.get("/v1/self")["state"] == "active");
        eventually("hq and lyon know west", || {
            let up = |node: &Node| {
                node.items("/v1/peers").iter().any(|p| p["spiffe_id"] == WEST && !p["connected_ms"].is_null())
            };
            up(&self.mesh.hq) && up(&self.mesh.lyon)
        });
        eventually("west has the policy", || west.get("/v1/self")["policy"] == "2026.11.2-keys");
        west
    }

    /// lyon wants a file deleted; the proposal.
    fn delete(&self, file: &str) -> String {
        std::fs::write(self.mesh.folder().join("conf.d").join(file), "old\n").expect("written");
        let body = json!({
            "operation": "devops.file.delete", "args": { "path": file, "reason": "nobody reads it" },
            "rationale": "nobody reads it",
        });
        let request = self.mesh.folder().join("proposal.json");
        std::fs::write(&request, body.to_string()).expect("written");
        let ran = self.mesh.lyon.run(&["propose", "--file", &request.display().to_string()]).ok();
        ran.json()["id"].as_str().expect("an id").to_owned()
    }

    fn asked(&self, file: &str) -> String {
        let id = self.delete(file);
        self.mesh.hq.until_state(&id, "PENDING_APPROVAL");
        id
    }

    fn both_approve(&self, id: &str) {
        self.mesh.approve(id).ok();
        self.mesh.hq.run(&["approvals", "approve", id, "--key", &self.bo, "--yes"]).ok();
    }

    fn is_there(&self, file: &str) -> bool {
        self.mesh.folder().join("conf.d").join(file).exists()
    }

    fn why(&self, node: &Node, id: &str) -> String {
        node.run(&["why", id]).ok().out
    }

    /// It is done once, on the permits of both.
    fn done(&self, id: &str, file: &str) {
        eventually("it is done", || ["DONE", "VERIFIED"].contains(&self.mesh.lyon.state(id).as_str()));
        assert!(!self.is_there(file));
        eventually("hq has the story", || ["DONE", "VERIFIED"].contains(&self.mesh.hq.state(id).as_str()));
        assert_eq!(self.mesh.hq.facts(id, "started").len(), 1);
        let by: BTreeSet<String> = self.signers(id, "permit");
        assert_eq!(by, [HQ, WEST].map(str::to_owned).into());
    }

    fn signers(&self, id: &str, kind: &str) -> BTreeSet<String> {
        let by = |fact: &serde_json::Value| fact["spiffe_id"].as_str().unwrap_or_default().to_owned();
        self.mesh.hq.facts(id, kind).iter().map(by).collect()
    }
}

#[test]
fn what_cannot_be_taken_back_waits_for_both_coordinators_and_happens_once() {
    let place = Place::found();
    let alone = place.delete("first.conf");
    place.mesh.hq.until_state(&alone, "DENIED");
    let why = place.why(&place.mesh.hq, &alone);
    assert!(why.contains("a mesh with one coordinator refuses class R3"), "{why}");

    let mut west = place.second();
    let id = place.asked("both.conf");
    place.both_approve(&id);
    place.done(&id, "both.conf");

    // One of them is dark before anybody asked: it is not permitted at all, and says for whom it waits.
    west.stop();
    let id = place.asked("dark.conf");
    let waits = format!("waits for {WEST} to judge it");
    let shown = place.mesh.hq.run(&["approvals", "show", &id]).ok().out;
    assert!(shown.contains(&waits), "people see that their word is not all: {shown}");
    place.both_approve(&id);
    place.mesh.hq.until_state(&id, "APPROVED");
    let why = place.why(&place.mesh.hq, &id);
    let out_of_reach = format!("{WEST} is not connected to this node (last heard ");
    for part in ["takes permits of 2 of the charter's 2 coordinators, and 1", &waits, &out_of_reach, "start it"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let reasons = place.mesh.hq.get("/v1/self")["reasons"].to_string();
    assert!(reasons.contains(&format!("wait for the word of coordinators: 1 ({WEST})")), "{reasons}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((place.mesh.hq.facts(&id, "permit").len(), place.is_there("dark.conf")), (0, true));
    west.start();
    place.done(&id, "dark.conf");

    // It is dark between its judgement and its permit: one permit is none.
    let id = place.asked("late.conf");
    eventually("both judged it", || place.signers(&id, "decision").len() == 2);
    west.stop();
    place.both_approve(&id);
    place.mesh.lyon.until_state(&id, "PERMITTED");
    let waits = format!("waits for {WEST} to permit it by");
    eventually("hq says for whom", || place.why(&place.mesh.hq, &id).contains(&waits));
    eventually("so does its owner", || {
        let why = place.why(&place.mesh.lyon, &id);
        why.contains("1 of 2 coordinators permit it so far") && why.contains(&waits)
    });
    assert_eq!((place.mesh.hq.facts(&id, "started").len(), place.is_there("late.conf")), (0, true));
    west.start();
    place.done(&id, "late.conf");
    assert_eq!(place.mesh.hq.get("/v1/self")["reasons"], json!([]));
    let receipt = place.mesh.hq.run(&["audit", "receipt", &id]).ok().json();
    let facts = receipt["says"]["facts"].as_array().expect("facts");
    assert!(facts.iter().all(|fact| fact["void"].is_null()), "{facts:?}");
}
