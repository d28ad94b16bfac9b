//! One node: a data directory, its log, and the process while it runs.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Answer, Ran, binary, cauldron_with, eventually, request, wait_until};

/// An orderly stop waits for its threads for five seconds each, on a busy machine.
const STOP_MAX: Duration = Duration::from_secs(30);

/// One node of a [`Mesh`](crate::Mesh).
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    child: Option<Child>,
    env: Vec<(String, String)>,
    file_blocks_max: Option<u64>,
    namespace: Option<String>,
}

impl Node {
    /// The node whose data directory is `folder/name`; nothing is started.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            child: None,
            env: Vec::new(),
            file_blocks_max: None,
            namespace: None,
        }
    }

    /// Its data directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir().join("node.toml")
    }

    /// Sets a variable of its environment from the next start on; `None` removes it.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(set, _)| set != name);
        self.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// From the next start on no file that the node writes may grow beyond `blocks` of 1,024 bytes: writes fail then, as on a
    /// full disk. `None` takes the limit away.
    pub fn limit_files(&mut self, blocks: Option<u64>) {
        self.file_blocks_max = blocks;
    }

    /// From the next start on it runs in this network namespace (`ip netns`); `None` for the test's own.
    pub fn set_namespace(&mut self, name: Option<&str>) {
        self.namespace = name.map(str::to_owned);
    }

    /// Starts the process; [`Node::until_up`] waits for it.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some(name) = &self.namespace {
            // It becomes the node, so the process that is started is the one that runs.
            words.extend(["ip", "netns", "exec", name].map(Into::into));
        }
        if let Some(blocks) = self.file_blocks_max {
            // Without the trap the system would end the process instead of failing the write.
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            words.extend(["bash".into(), "-c".into(), script.into()]);
        }
        words.push(binary().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.args(["node", "run", "--config"]).arg(self.config()).current_dir(&self.folder);
        for name in ["CAULDRON_FAULT", "RUST_LOG"] {
            command.env_remove(name);
        }
        // The node ends with its standard input, so with this test too, however that ends.
        command.env("CAULDRON_EXIT_ON_STDIN_EOF", "1").envs(self.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(File::create("/dev/null").expect("there")).stderr(log);
        self.child = Some(command.spawn().expect("the program under test starts"));
    }

    /// Waits until it takes work.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn until_up(&self) {
        let ready = || self.try_get("/v1/ready").is_some_and(|answer| answer.status == 200);
        eventually(&format!("{} is ready", self.name), ready);
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not run, does not stop, or does not end with 0.
    pub fn stop(&mut self) {
        drop(self.child.as_mut().expect("it runs").stdin.take());
        let status = self.until_ended();
        assert!(status.success(), "{} stopped with {status}", self.name);
    }

    /// Kills it, as a power cut would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// Stops it where it stands; it keeps its sockets and answers nobody.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Node::freeze`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Stops it in order, starts it and waits until it is ready.
    ///
    /// # Panics
    /// As its parts.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
        self.until_up();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn until_ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let name = &self.name;
        let ended = wait_until(&format!("{name} ends"), STOP_MAX, || match child.try_wait() {
            Ok(Some(status)) => Ok(Ok(status)),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Ok(Err(error)),
        });
        ended.expect("a child can be waited for")
    }

    /// Whether the process is there.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child can be waited for").is_none())
    }

    /// The process's id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Where it writes its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How many lines of its log contain `text`.
    #[must_use]
    pub fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Asks for `path`; nothing when nobody answers.
    #[must_use]
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        request(&self.dir().join("node.sock"), path, None).ok()
    }

    /// The JSON at `path`; null when nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).map_or(Value::Null, |answer| answer.json())
    }

    /// The list at `path`.
    #[must_use]
    pub fn items(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Sends `body` to `path`.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        request(&self.dir().join("node.sock"), path, Some(body)).expect("the node answers")
    }

    /// A sample of a counter or gauge, 0 where it is absent: `metric("cauldron_mesh_closed_total{code=\"admission\"}")`.
    #[must_use]
    pub fn metric(&self, sample: &str) -> u64 {
        let text = self.try_get("/metrics").map(|answer| answer.body).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// Runs a command against this node.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ran {
        let dir = self.dir().display().to_string();
        let mut all = args.to_vec();
        all.extend(["--node", &dir, "--output", "json"]);
        cauldron_with(&self.folder, &all, "", &[])
    }

    /// Proposes to block `address` for `ttl_s` seconds; the id of what the node acknowledged, nothing if it did not.
    #[must_use]
    pub fn propose(&self, address: &str, ttl_s: u32) -> Option<String> {
        let body = json!({
            "operation": "security.address.block",
            "args": { "address": address, "ttl_s": ttl_s, "reason": "scans our VPN" },
            "rationale": "The provider reports scans of our VPN from this address.",
            "evidence": ["ticket 4711: 212 connection attempts in one hour"],
            "intent": address,
        });
        let answer = request(&self.dir().join("node.sock"), "/v1/proposals", Some(&body)).ok()?;
        if answer.status != 200 {
            return None;
        }
        answer.json()["id"].as_str().map(str::to_owned)
    }

    /// The state of a proposal here; empty while it is not known.
    #[must_use]
    pub fn state(&self, id: &str) -> String {
        self.get(&format!("/v1/proposals/{id}"))["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a proposal is in `state` here.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn until_state(&self, id: &str, state: &str) {
        let name = &self.name;
        wait_until(&format!("{id} is {state} at {name}"), Duration::from_secs(60), || {
            let found = self.get(&format!("/v1/proposals/{id}"))["status"].clone();
            if found["state"] == state { Ok(()) } else { Err(found.to_string()) }
        });
    }

    /// The facts of a lineage that are of `kind`.
    #[must_use]
    pub fn facts(&self, lineage: &str, kind: &str) -> Vec<Value> {
        let mut facts = self.items(&format!("/v1/audit/{lineage}"));
        facts.retain(|fact| fact["kind"] == kind);
        facts
    }

    /// What `audit verify` finds wrong here; empty when all holds.
    #[must_use]
    pub fn broken(&self) -> Vec<Value> {
        let found = self.get("/v1/audit/verify");
        let Some(checks) = found["checks"].as_array().filter(|checks| !checks.is_empty()) else { return vec![found] };
        checks.iter().filter(|check| check["ok"] != true).cloned().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of {} ({})\n{}", self.name, self.log_path().display(), self.log());
        }
    }
}

/// A UDP port on loopback that nobody uses, handed out once. Below the range from which systems take ports themselves.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two programs that run at once begin far from each other.
    let start = u16::try_from(std::process::id() * 37 % u32::from(COUNT)).expect("below COUNT");
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
