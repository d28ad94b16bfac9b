//! A mesh whose policy gives every answer, shared by the tests of the lists that run at the same time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cauldron_tests::{Mesh, Plan, Ran, append, cauldron, eventually, wait_until};
use serde_json::{Value, json};

const HOST: &str = "203.0.113";
const EXTERNAL: &str = r#"
[[connectors.external]]
name = "letters"
operations = ["office.letter.send"]
labels = ["untrusted:letters"]
report_within = "3s"

[[connectors.external]]
name = "records"
operations = ["office.record.read"]
report_within = "3s"
"#;

/// The mesh, and two people beside ana; all three are on duty and of the team.
pub struct Place {
    pub mesh: Mesh,
    pub bo: String,
    pub cy: String,
}

static SHARED: Mutex<Weak<Place>> = Mutex::new(Weak::new());
static NEXT: AtomicU16 = AtomicU16::new(1);

/// The place that other tests are at, or a new one.
pub fn place() -> Arc<Place> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = shared.upgrade() {
        return place;
    }
    let place = Arc::new(Place::new());
    *shared = Arc::downgrade(&place);
    place
}

impl Place {
    /// One that nobody shares: for tests that stop nodes, or change the policy.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same, with more in hq's configuration.
    pub fn with(hq: &str) -> Self {
        let init = ["--group", "security-duty", "--group", "devops"];
        let mut mesh = Mesh::only_hq(Plan { init: &init, without_porto: true, ..Plan::default() });
        if !hq.is_empty() {
            append(&mesh.hq.config(), hq);
            mesh.hq.restart();
        }
        let folder = mesh.folder().join("conf.d");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("a.conf"), "one\n").expect("written");
        std::fs::write(mesh.auth_log(), "").expect("written");
        let paths = [mesh.auth_log(), mesh.blocklist(), folder].map(|path| path.display().to_string());
        mesh.join("lyon", &["--auth-log", &paths[0], "--blocklist", &paths[1], "--folder", &paths[2]]).ok();
        append(&mesh.lyon.config(), EXTERNAL);
        mesh.lyon.start();
        mesh.until_up();
        let [bo, cy] = ["bo", "cy"].map(|name| crate::people::enrol(&mesh, name, &["security-duty", "devops"]));
        let place = Self { mesh, bo, cy };
        place.activate("lists-1", |_, text| text);
        place
    }

    /// Activates the policy of the lists as `version`, each file changed by `change`.
    pub fn activate(&self, version: &str, change: impl Fn(&str, String) -> String) {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let to = self.mesh.folder().join(version);
        std::fs::create_dir(&to).expect("made");
        let own = std::fs::read_dir(here.join("tests/e2e/lists/policies")).expect("readable");
        let own = own.map(|file| file.expect("readable").path());
        let shipped =
            ["devops_file_write.rego", "devops_file.json"].map(|name| here.join("../deploy/policies").join(name));
        for file in own.chain(shipped) {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&file).expect("text").replace("lists-1", version);
            std::fs::write(to.join(&name), change(&name, text)).expect("written");
        }
        let (council, folder) = (self.mesh.hq.dir().join("people/ana.council.key"), to.display().to_string());
        let key = council.display().to_string();
        self.mesh.hq.run(&["policy", "activate", "--bundle", &folder, "--key", &key, "--yes"]).ok();
        for node in [&self.mesh.hq, &self.mesh.lyon] {
            eventually("the policy is active", || node.get("/v1/self")["policy"] == version);
        }
    }

    pub fn session(&self, principal: &str, role: &str) -> Session<'_> {
        self.open(&json!({ "agent": "clerk", "principal": principal, "role": role }))
    }

    pub fn open(&self, request: &Value) -> Session<'_> {
        let answer = self.mesh.lyon.post("/v1/sessions", request).json();
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        Session { place: self, id: text("session"), key: text("key") }
    }

    /// Waits until a proposal has come to `state`, at lyon.
    pub fn until(&self, call: &Call, state: &str) {
        self.mesh.lyon.until_state(&call.id, state);
    }

    /// Waits until hq asks people about it.
    pub fn until_asked(&self, call: &Call) {
        self.mesh.hq.until_state(&call.id, "PENDING_APPROVAL");
    }

    pub fn approve_by(&self, id: &str, key: &str) -> Ran {
        self.mesh.hq.run(&["approvals", "approve", id, "--key", key, "--yes"])
    }

    /// `2 of 3 approvals …`, as hq tells it.
    pub fn why(&self, id: &str) -> String {
        self.mesh.hq.get(&format!("/v1/proposals/{id}"))["status"]["why"].to_string()
    }

    /// Nothing was done, and nothing was begun.
    pub fn untouched(&self, call: &Call) {
        assert!(self.mesh.lyon.facts(&call.id, "started").is_empty(), "{} was started", call.id);
        assert_eq!(self.mesh.blocked(&call.address), 0, "{} is blocked", call.address);
    }

    /// The receipt of an action as lyon gives it, in a file of its own.
    pub fn receipt(&self, id: &str) -> Receipt {
        let ran = self.mesh.lyon.run(&["audit", "receipt", id]).ok();
        Receipt { folder: tempfile::tempdir().expect("a folder"), file: ran.json() }
    }

    /// The receipt once the decision or read in it came to `outcome`.
    pub fn receipt_of(&self, id: &str, outcome: &str) -> Receipt {
        let has = |receipt: Receipt| match receipt.judged().iter().any(|j| j["outcome"] == outcome) {
            true => Ok(receipt),
            false => Err(receipt.file["says"].to_string()),
        };
        wait_until(&format!("a receipt says {outcome}"), Duration::from_secs(60), || has(self.receipt(id)))
    }

    pub fn mesh_id(&self) -> String {
        self.mesh.lyon.get("/v1/self")["mesh"].as_str().expect("a mesh").to_owned()
    }
}

/// A file that proves something.
pub struct Receipt {
    pub folder: tempfile::TempDir,
    pub file: Value,
}

impl Receipt {
    /// What was judged, as it says.
    pub fn judged(&self) -> Vec<Value> {
        self.file["says"]["judged"].as_array().cloned().unwrap_or_default()
    }

    pub fn kinds(&self) -> Vec<String> {
        let facts = self.file["says"]["facts"].as_array().cloned().unwrap_or_default();
        facts.iter().map(|fact| fact["kind"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Checks it where there is no node.
    pub fn check(&self, more: &[&str]) -> Ran {
        std::fs::write(self.folder.path().join("receipt.json"), self.file.to_string()).expect("written");
        let args = [&["audit", "check", "receipt.json", "--output", "json"], more].concat();
        cauldron(self.folder.path(), &args)
    }

    /// The proof with `from` put in the place of the text `to`, which is as long; what it says is left out.
    pub fn altered(&self, from: &str, to: &str) -> Self {
        use base64::Engine as _;
        use base64::prelude::BASE64_STANDARD;
        assert_eq!(from.len(), to.len());
        let mut bytes = BASE64_STANDARD.decode(self.file["proof"].as_str().expect("a proof")).expect("base64");
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "{from:?} stands nowhere in the proof");
        places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to.as_bytes()));
        let file = json!({ "proof": BASE64_STANDARD.encode(bytes) });
        Self { folder: tempfile::tempdir().expect("a folder"), file }
    }
}

/// What an agent does for somebody.
pub struct Session<'p> {
    pub place: &'p Place,
    pub id: String,
    pub key: String,
}

/// A call, and what came of it at first.
pub struct Call {
    pub id: String,
    pub state: String,
    pub address: String,
    pub answer: Value,
}

impl Session<'_> {
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.place.mesh.lyon.post(&format!("/v1/sessions/{}{path}", self.id), body).json()
    }

    pub fn call_with(&self, operation: &str, args: &Value, more: &Value) -> Call {
        let mut call = json!({ "operation": operation, "args": args, "rationale": "asked to", "key": self.key });
        more.as_object().into_iter().flatten().for_each(|(key, value)| call[key] = value.clone());
        let answer = self.post("/calls", &call);
        let id = answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let state = answer["state"].as_str().unwrap_or_default().to_owned();
        Call { id, state, address: args["address"].as_str().unwrap_or_default().to_owned(), answer }
    }

    /// Blocks an address that nobody else blocks, for `reason`: what policy answers follows from that alone.
    pub fn block(&self, reason: &str) -> Call {
        self.block_with(reason, &json!({}))
    }

    pub fn block_with(&self, reason: &str, more: &Value) -> Call {
        let address = format!("{HOST}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let args = json!({ "address": address, "ttl_s": 3600, "reason": reason });
        self.call_with("security.address.block", &args, more)
    }

    /// Reads a record, and says which labels came back.
    pub fn read(&self, labels: &[&str]) -> Value {
        let given = self.call_with("office.record.read", &json!({ "record": "7" }), &json!({}));
        self.tell(&given.id, &json!({ "outcome": "done", "digest": "ab".repeat(32), "len": 3, "labels": labels }))
    }

    pub fn tell(&self, call: &str, outcome: &Value) -> Value {
        let mut outcome = outcome.clone();
        outcome["key"] = json!(self.key);
        self.post(&format!("/calls/{call}/outcome"), &outcome)
    }

    /// Sends a letter, for `reason`.
    pub fn letter(&self, to: &str, reason: &str, wait_ms: u64) -> Call {
        let args = json!({ "to": to, "text": "hello", "reason": reason });
        let intent = format!("{to}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.call_with("office.letter.send", &args, &json!({ "wait_ms": wait_ms, "intent": intent }))
    }

    pub fn wait(&self, call: &str, wait_ms: u64) -> Value {
        self.post(&format!("/calls/{call}/wait"), &json!({ "key": self.key, "wait_ms": wait_ms }))
    }
}

/// Until when something lapses that begins now, as the API reads it.
pub fn in_seconds(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let at = i64::try_from(now).expect("fits") + seconds;
    jiff::Timestamp::from_second(at).expect("a time").to_string()
}

pub fn set_of(values: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    values.into_iter().collect()
}
