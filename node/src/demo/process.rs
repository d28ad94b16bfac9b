//! One node of the demo: a real process of this same program, its data directory and its log.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cauldron_identity::SpiffeId;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::error::CliError;
use crate::files;
use crate::paths::DataDir;

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a node that was asked to stop may take before it is killed: its threads get 5 s each.
const STOP_MAX: Duration = Duration::from_secs(12);
/// Lines of a node's log that a failure shows.
const TAIL_LINES: usize = 12;
/// Bytes of the log's end in which they are looked for.
const TAIL_BYTES: usize = 16 * 1024;

/// Why something did not come about, and the node whose log says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A sentence.
    pub why: String,
    /// The end of a node's log.
    pub log: Option<String>,
}

impl Failure {
    /// A failure that no log explains.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), log: None }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        let text = error.to_string();
        let text = text.strip_prefix("Error: ").unwrap_or(&text);
        Self::new(text.lines().map(str::trim).collect::<Vec<_>>().join("; "))
    }
}

/// A node as the demo sees it from outside.
#[derive(Debug)]
pub struct Node {
    /// What people call it.
    pub name: &'static str,
    /// Who it is in the mesh.
    pub spiffe_id: SpiffeId,
    /// Its data directory.
    pub dir: DataDir,
    /// Where its process writes what it logs.
    pub log: PathBuf,
    exe: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Node {
    /// A node that does not run yet, below `root`.
    pub fn new(name: &'static str, spiffe_id: SpiffeId, root: &Path, exe: &Path) -> Self {
        let (dir, log) = (DataDir::new(root.join(name)), root.join(format!("{name}.log")));
        Self { name, spiffe_id, dir, log, exe: exe.to_owned(), child: Mutex::new(None) }
    }

    /// Starts the process, with a fault point if one is named. It ends with this process even where this one is killed: its
    /// standard input ends then, and it watches that. A process group of its own keeps Ctrl-C for us to handle.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be started.
    pub fn start(&self, fault: Option<&str>) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("cannot start {}: {e}", self.name));
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = Command::new(&self.exe);
        command
            .args(["node", "run", "--config"])
            .arg(self.dir.config())
            .env("CAULDRON_EXIT_ON_STDIN_EOF", "1")
            .env_remove("CAULDRON_FAULT")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(fault) = fault {
            command.env("CAULDRON_FAULT", fault);
        }
        let child = command.spawn().map_err(failed)?;
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Asks the process to stop, by the end of its standard input, and waits until it has.
    pub async fn stop(&self) {
        let Some(mut child) = self.take() else { return };
        // Waiting closes its standard input.
        if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }

    /// SIGKILL, as a power cut would end it.
    pub async fn kill(&self) {
        if let Some(mut child) = self.take() {
            let _ = child.kill().await;
        }
    }

    fn take(&self) -> Option<Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Why the process is not running; nothing while it is.
    pub fn gone(&self) -> Option<String> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.as_mut().map(Child::try_wait) {
            None => Some(format!("{} is not running", self.name)),
            Some(Ok(None)) => None,
            Some(Ok(Some(status))) => Some(format!("{} has ended: {status}", self.name)),
            Some(Err(e)) => Some(format!("{} cannot be watched: {e}", self.name)),
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// [`Failure`] when it still runs after `limit`.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus, Failure> {
        let began = Instant::now();
        while began.elapsed() < limit {
            let status = match self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(child) => child.try_wait().ok().flatten(),
                None => return Err(Failure::new(format!("{} is not running", self.name))),
            };
            if let Some(status) = status {
                return Ok(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(self.failure(format!("{} still runs after {} s", self.name, limit.as_secs())))
    }

    /// The node's API.
    pub fn client(&self) -> Client {
        Client::new(self.dir.socket())
    }

    /// What the node's API answers at `path`.
    ///
    /// # Errors
    /// [`Failure`] with the node's own words, or that it does not answer.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        if let Some(why) = self.gone() {
            return Err(self.failure(why));
        }
        self.client().get(path).await.map_err(|e| self.failure(Failure::from(e).why))
    }

    /// Looks at `path` again and again until `found` makes something of the answer. `what` says what is waited for.
    ///
    /// # Errors
    /// [`Failure`] after `limit`, or as soon as the process is gone, with what was waited for.
    pub async fn until<T>(
        &self,
        limit: Duration,
        what: &str,
        path: &str,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        loop {
            if let Some(why) = self.gone() {
                return Err(self.failure(format!("waited for {what}, but {why}")));
            }
            let last = match self.client().get(path).await {
                Ok(answer) => match found(&answer) {
                    Some(it) => return Ok(it),
                    None => "it answers, but does not show that".to_owned(),
                },
                Err(e) => format!("last answer: {}", e.message()),
            };
            if began.elapsed() >= limit {
                let limit = limit.as_secs();
                return Err(self.failure(format!("waited {limit} s for {what} at {} ({last})", self.name)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A failure with the end of this node's log.
    pub fn failure(&self, why: impl Into<String>) -> Failure {
        Failure { why: why.into(), log: self.log_tail() }
    }

    fn log_tail(&self) -> Option<String> {
        let bytes = std::fs::read(&self.log).ok()?;
        let end = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        let text = String::from_utf8_lossy(end);
        let lines: Vec<String> = text.lines().map(crate::output::harmless).collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
        (!tail.is_empty()).then(|| format!("the end of {}:\n{tail}", self.log.display()))
    }

    /// Writes the configuration of this node.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn configure(&self, template: &crate::config::Template) -> Result<(), CliError> {
        let text = template.render();
        crate::config::Config::parse(&text, &self.dir.config())?;
        files::write_public(&self.dir.config(), text.as_bytes())
    }
}

/// Looks again and again until `found` has something, for what is not one node's answer.
///
/// # Errors
/// [`Failure`] after `limit`, with the last reason that `found` gave.
pub async fn until<T>(
    limit: Duration,
    what: &str,
    mut found: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match found().await {
            Ok(it) => return Ok(it),
            Err(last) if began.elapsed() >= limit => {
                let why = format!("waited {} s for {what}: {}", limit.as_secs(), last.why);
                return Err(Failure { why, log: last.log });
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
