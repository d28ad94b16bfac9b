//! What waits for a person reaches a receiver outside: signed, with a link, once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cauldron_tests::{Mesh, Plan, append, cauldron, eventually};
use serde_json::Value;

const SECRET: [u8; 32] = [7; 32];

/// A message as it arrived: its headers and its body.
#[derive(Debug, Clone)]
struct Message {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Message {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut reader = BufReader::new(stream);
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        reader.read_line(&mut line)?;
        headers.insert("request".to_owned(), line.trim().to_owned());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Self { headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn data(&self) -> Value {
        let value: Value = serde_json::from_str(&self.body).expect("JSON");
        let mut data = value["data"].clone();
        data["type"] = value["type"].clone();
        data
    }

    /// Standard Webhooks, "Signature scheme", by this test's own reading.
    fn verifies(&self) -> bool {
        let signed = format!("{}.{}.{}", self.headers["webhook-id"], self.headers["webhook-timestamp"], self.body);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signed.as_bytes());
        self.headers["webhook-signature"] == format!("v1,{}", BASE64_STANDARD.encode(signature))
    }
}

/// A receiver of messages that takes all of them. Its thread ends with this test's process.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hooks/duty", listener.local_addr().expect("bound"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let messages = got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                let Ok(message) = Message::read(&stream) else { continue };
                messages.lock().expect("nobody panicked").push(message);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, got }
    }

    fn got(&self) -> Vec<Message> {
        self.got.lock().expect("nobody panicked").clone()
    }

    fn until(&self, n: usize) -> Vec<Message> {
        eventually(&format!("{n} messages arrive"), || self.got().len() >= n);
        self.got()
    }
}

/// The policies of this repository, but that a block is allowed, and more.
fn activate(mesh: &Mesh, suffix: &str, with: &str) {
    let folder = mesh.policies(suffix, |name, text| {
        if name == "security_address_block_test.rego" {
            // They say that somebody is always asked.
            return text.lines().filter(|line| line.starts_with("package ")).map(|line| format!("{line}\n")).collect();
        }
        if name != "security_address_block.rego" {
            return text;
        }
        let asks = "step_up contains {\n\t\"rule\": \"duty.approves\"";
        assert!(text.contains(asks), "one rule asks people");
        let text = text.replace(asks, "allow contains {\n\t\"rule\": \"duty.is.not.asked\"");
        let approvals = "\"approvals\": [{\"group\": limits.approver_group, \"n\": limits.approvers}]";
        assert!(text.contains(approvals), "it says who");
        text.replace(approvals, with)
    });
    mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &mesh.council_key(), "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        eventually("the policy is active", || node.get("/v1/self")["policy"] == format!("2026.11.2-{suffix}").as_str());
    }
}

#[test]
fn a_veto_window_reaches_who_may_object_and_an_objection_asks_anew() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let receiver = Receiver::start();
    let secret = mesh.folder().join("duty.secret");
    std::fs::write(&secret, format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let (url, secret) = (&receiver.url, secret.display());
    let duty = format!(
        "\n[[notify.webhook]]\nname = \"duty\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\ngroups = [\"security-duty\"]\n"
    );
    append(&mesh.hq.config(), format!("{duty}[page]\nurl = \"https://approve.acme.example/\"\n"));
    mesh.hq.restart();
    mesh.until_up();
    // Nobody of security-duty objects within 20 seconds.
    activate(&mesh, "silence", "\"veto\": {\"within_ms\": 20000, \"groups\": [limits.approver_group]}");

    let first = mesh.lyon.propose("198.51.100.7", 3_600).expect("recorded");
    let opened = receiver.until(1)[0].clone();
    let data = opened.data();
    assert!(opened.verifies() && data["type"] == "veto-window.opened" && data["proposal"] == first.as_str(), "{data}");
    assert_eq!(data["waiting_for"], serde_json::json!(["security-duty"]));
    assert_eq!(data["link"], format!("https://approve.acme.example/approvals/{first}"));
    let (how, closes) = (data["how"].as_str().expect("text"), data["deadline"].as_str().expect("a time"));
    assert!(how.contains(closes) && how.contains(&format!("cauldron approvals object {}", &first[..12])), "{how}");
    let why = mesh.hq.run(&["why", &first]).ok().out;
    assert!(why.contains(&closes[..19]), "when the window closes: {closes}, {why}");

    mesh.hq.run(&["approvals", "object", &first, "--reason", "a customer", "--yes"]).ok();
    let asked = receiver.until(2)[1].data();
    assert_eq!((&asked["type"], &asked["proposal"]), (&"approval.pending".into(), &first.as_str().into()));
    mesh.approve(&first).ok();
    mesh.lyon.until_state(&first, "DONE");
    let over = receiver.until(3)[2].data();
    assert_eq!(
        (&over["type"], &over["outcome"], &over["how"]),
        (&"approval.decided".into(), &"approved".into(), &Value::Null)
    );

    // Nobody objects: it is told, and it is told that it happened.
    let second = mesh.lyon.propose("198.51.100.8", 3_600).expect("recorded");
    assert_eq!(receiver.until(4)[3].data()["type"], "veto-window.opened");
    mesh.lyon.until_state(&second, "DONE");
    let over = receiver.until(5)[4].data();
    assert_eq!((&over["proposal"], &over["outcome"]), (&second.as_str().into(), &"approved".into()));
}

#[test]
fn what_waits_reaches_people_signed_with_a_link_and_once() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let receiver = Receiver::start();
    let secret = mesh.folder().join("duty.secret");
    std::fs::write(&secret, format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET))).expect("written");
    let webhook = |name: &str, url: &str, group: &str| {
        let secret = secret.display();
        format!(
            "\n[[notify.webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\ngroups = [\"{group}\"]\n"
        )
    };
    let duty = webhook("duty", &receiver.url, "security-duty");
    let others = webhook("others", &format!("{}-of-others", receiver.url), "others");
    append(&mesh.hq.config(), format!("{duty}{others}[page]\nurl = \"https://approve.acme.example/\"\n"));
    mesh.hq.stop();
    let config = mesh.hq.config().display().to_string();
    let pre = ["check", "--pre", "--config", &config, "-o", "json"];
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let shared = cauldron(mesh.folder(), &pre);
    assert!(shared.out.contains("chmod 600") && shared.out.contains("duty"), "{shared:?}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let checks = cauldron(mesh.folder(), &pre).ok().json();
    let links = checks["checks"].as_array().into_iter().flatten().find(|check| check["name"] == "page links");
    assert_eq!(links.map(|check| check["detail"].clone()), Some("lead to https://approve.acme.example".into()));
    mesh.hq.start();
    mesh.until_up();

    mesh.log_lines(Mesh::attack("198.51.100.7"));
    let asked = receiver.until(1)[0].clone();
    let id = mesh.hq.items("/v1/approvals")[0]["id"].as_str().expect("an id").to_owned();
    assert!(asked.verifies(), "{asked:?}");
    assert_eq!(asked.headers["request"], "POST /hooks/duty HTTP/1.1");
    let data = asked.data();
    assert_eq!((&data["type"], &data["proposal"]), (&"approval.pending".into(), &id.as_str().into()));
    assert_eq!(data["link"], format!("https://approve.acme.example/approvals/{id}"));
    assert_eq!((&data["operation"], &data["site"]), (&"security.address.block".into(), &"lyon".into()));
    assert_eq!(data["waiting_for"], serde_json::json!(["security-duty"]));
    assert_eq!(data["node"], format!("spiffe://{}/coordinator/hq", Mesh::TRUST_DOMAIN));
    assert!(!asked.body.contains("Failed password"), "evidence stays on the page: {}", asked.body);

    // A start repeats nothing; what comes after it is told.
    mesh.hq.restart();
    mesh.until_up();
    mesh.log_lines(Mesh::attack("198.51.100.8"));
    let second = receiver.until(2)[1].clone();
    assert!(second.verifies() && second.data()["proposal"] != data["proposal"], "{second:?}");

    mesh.approve(&id).ok();
    let over = receiver.until(3)[2].clone();
    assert!(over.verifies(), "{over:?}");
    let data = over.data();
    assert_eq!((&data["type"], &data["outcome"]), (&"approval.decided".into(), &"approved".into()));
    assert_eq!(data["proposal"], id);
    mesh.lyon.until_state(&id, "DONE");

    let ids: BTreeSet<String> = receiver.got().iter().map(|message| message.headers["webhook-id"].clone()).collect();
    assert_eq!((receiver.got().len(), ids.len()), (3, 3), "each once, and none to the others");
    let rows = mesh.hq.get("/v1/self")["notify"].clone();
    assert_eq!((&rows[0]["name"], &rows[0]["state"], &rows[0]["queued"]), (&"duty".into(), &"ok".into(), &0.into()));
    assert!(rows[0]["last_success"].is_string() && !rows.to_string().contains("/hooks/"), "{rows}");
    assert_eq!(mesh.hq.metric("cauldron_notify_delivered_total{webhook=\"duty\"}"), 2, "since its start");
    assert_eq!(mesh.hq.metric("cauldron_notify_delivered_total{webhook=\"others\"}"), 0);

    // Another node tells the same receiver of what still waits, under the same id: it drops what it has seen.
    append(&mesh.lyon.config(), &duty);
    mesh.lyon.restart();
    let again = receiver.until(4)[3].clone();
    assert!(again.verifies() && again.headers["webhook-id"] == second.headers["webhook-id"], "{again:?}");
    assert_eq!((&again.data()["node"], &again.data()["link"]), (&Mesh::site_id("lyon").into(), &Value::Null));
}

#[test]
fn who_is_not_asked_is_told_and_what_nobody_else_can_settle_calls_people() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let (receiver, elsewhere) = (Receiver::start(), Receiver::start());
    let secret = mesh.folder().join("duty.secret");
    std::fs::write(&secret, format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    for (name, url, group) in [("duty", &receiver.url, "security-duty"), ("others", &elsewhere.url, "others")] {
        let secret = secret.display();
        let hook = format!(
            "\n[[notify.webhook]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\ngroups = [\"{group}\"]\n"
        );
        append(&mesh.hq.config(), hook);
    }
    mesh.hq.restart();
    mesh.until_up();
    activate(&mesh, "told", "\"notify\": [limits.approver_group], \"audit_ppm\": 1000000");

    // Policy allows it without asking anybody, tells security-duty, and has somebody of them look at it afterwards.
    let id = mesh.lyon.propose("198.51.100.7", 3_600).expect("recorded");
    mesh.hq.until_state(&id, "DONE");
    let told = receiver.until(1)[0].clone();
    let data = told.data();
    assert!(told.verifies() && data["type"] == "proposal.told" && data["proposal"] == id.as_str(), "{data}");
    assert_eq!((&data["outcome"], &data["told"]), (&"allowed".into(), &serde_json::json!(["security-duty"])));
    assert_eq!((&data["waiting_for"], &data["how"]), (&serde_json::json!([]), &Value::Null));
    let audit = receiver.until(2)[1].data();
    assert_eq!((&audit["type"], &audit["outcome"]), (&"attention.needed".into(), &"audit".into()));
    let counted = |why: &str| mesh.hq.metric(&format!("cauldron_governance_attention{{why=\"{why}\"}}"));
    assert_eq!((counted("audit"), counted("contested")), (1, 0));
    let shown = mesh.hq.get("/v1/self")["attention"].clone();
    assert_eq!((&shown[0]["proposal"], &shown[0]["what"]), (&id.as_str().into(), &"audit".into()));
    let status = mesh.hq.run(&["status"]).ok().out;
    assert!(status.contains(&format!("cauldron break-glass review {}", &id[..12])), "{status}");
    mesh.hq.run(&["break-glass", "review", &id[..12], "--note", "as it should be", "--yes"]).ok();
    for node in [&mesh.hq, &mesh.lyon] {
        let none = || node.get("/v1/self")["attention"].as_array().is_some_and(Vec::is_empty);
        eventually("nobody has to look any more", none);
    }
    assert!(mesh.hq.run(&["audit", "show", &id]).ok().out.contains("looked at it: as it should be"));

    // A no that comes too late: nobody was asked before, so whoever was told is called.
    mesh.hq.run(&["veto", &id, "--reason", "a customer"]).ok();
    let late = receiver.until(3)[2].data();
    assert_eq!((&late["type"], &late["outcome"]), (&"attention.needed".into(), &"contested".into()));
    let how = late["how"].as_str().expect("text");
    assert!(how.contains(&format!("`cauldron undo {}`", &id[..12])), "{how}");
    eventually("it is counted", || counted("contested") == 1);
    let why = mesh.lyon.run(&["why", &id]).ok().out;
    assert!(why.contains("a person must look: a no came after it was begun"), "{why}");
    mesh.lyon.run(&["undo", &id, "--reason", "a customer", "--yes"]).ok();
    mesh.hq.until_state(&id, "COMPENSATED");
    eventually("it is settled", || counted("contested") == 0);

    // A start repeats nothing.
    mesh.hq.restart();
    mesh.until_up();
    let second = mesh.lyon.propose("198.51.100.8", 3_600).expect("recorded");
    let next = receiver.until(4)[3].data();
    assert_eq!((&next["type"], &next["proposal"]), (&"proposal.told".into(), &second.as_str().into()));
    assert_eq!(elsewhere.got().len(), 0, "it is in none of the groups that were told");
}

#[test]
fn an_owner_tells_whom_its_own_policy_names_and_the_decision_does_not() {
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    let receiver = Receiver::start();
    let secret = mesh.folder().join("duty.secret");
    std::fs::write(&secret, format!("whsec_{}\n", BASE64_STANDARD.encode(SECRET))).expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    for node in [&mesh.hq, &mesh.lyon] {
        let (url, secret) = (&receiver.url, secret.display());
        append(
            &node.config(),
            format!(
                "\n[[notify.webhook]]\nname = \"duty\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\ngroups = [\"hr\"]\n"
            ),
        );
    }
    mesh.hq.restart();
    mesh.lyon.restart();
    mesh.until_up();
    activate(&mesh, "own", "\"notify\": [\"hr\" | endswith(input.node.spiffe, \"/node/lyon\")]");
    let id = mesh.lyon.propose("198.51.100.7", 3_600).expect("recorded");
    mesh.hq.until_state(&id, "DONE");
    let told = receiver.until(1)[0].data();
    assert_eq!((&told["type"], &told["proposal"]), (&"proposal.told".into(), &id.as_str().into()));
    assert_eq!((&told["told"], &told["node"]), (&serde_json::json!(["hr"]), &Mesh::site_id("lyon").into()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(receiver.got().len(), 1, "once, and by nobody else");
}
