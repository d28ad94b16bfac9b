//! Three nodes: hq, lyon and porto.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use tempfile::TempDir;

use crate::{Node, Ran, cauldron, cauldron_with, eventually, free_port};

/// Version of the policies of this repository.
const POLICY: &str = "2026.11.2";

/// How a mesh differs from the usual one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan<'a> {
    /// How long a block of lyon's agent stands, as configured; 1 h without.
    pub block_ttl: Option<&'a str>,
    /// hq's `CAULDRON_FAULT`.
    pub hq_fault: Option<&'a str>,
    /// lyon's `CAULDRON_FAULT`.
    pub lyon_fault: Option<&'a str>,
    /// More arguments of hq's `init`.
    pub init: &'a [&'a str],
    /// A variable in the environment of hq, and of its `init`.
    pub hq_env: Option<(&'a str, &'a str)>,
    /// No porto: it is neither joined nor started.
    pub without_porto: bool,
}

/// A founded mesh in a temporary directory.
#[derive(Debug)]
pub struct Mesh {
    /// The coordinator and sequencer.
    pub hq: Node,
    /// The site that acts.
    pub lyon: Node,
    /// The site that looks on.
    pub porto: Node,
    folder: TempDir,
    _slot: Slot,
}

impl Mesh {
    /// The trust domain.
    pub const TRUST_DOMAIN: &'static str = "acme.example";

    /// The usual mesh, up.
    #[must_use]
    pub fn found() -> Self {
        Self::found_with(Plan::default())
    }

    /// Founds a mesh, joins its sites, starts all and waits until they hold leases.
    ///
    /// # Panics
    /// When any of it fails.
    #[must_use]
    pub fn found_with(plan: Plan<'_>) -> Self {
        let mut mesh = Self::only_hq(plan);
        std::fs::write(mesh.auth_log(), "").expect("written");
        let (log, blocklist) = (mesh.auth_log().display().to_string(), mesh.blocklist().display().to_string());
        mesh.join("lyon", &["--auth-log", &log, "--blocklist", &blocklist]).ok();
        if let Some(ttl) = plan.block_ttl {
            append(&mesh.lyon.config(), format!("ttl = \"{ttl}\"\n"));
        }
        mesh.lyon.set_env("CAULDRON_FAULT", plan.lyon_fault);
        mesh.lyon.start();
        if !plan.without_porto {
            mesh.join("porto", &[]).ok();
            mesh.porto.start();
        }
        mesh.until_up();
        mesh
    }

    /// Founds a mesh and starts hq alone.
    ///
    /// # Panics
    /// When any of it fails.
    #[must_use]
    pub fn only_hq(plan: Plan<'_>) -> Self {
        let slot = Slot::take();
        let folder = tempfile::Builder::new().prefix("cauldron-").tempdir().expect("a temporary directory");
        let node = |name| Node::new(folder.path(), name);
        let (mut hq, lyon, porto) = (node("hq"), node("lyon"), node("porto"));
        let listen = format!("127.0.0.1:{}", free_port());
        let args = ["init", "--first", "--trust-domain", Self::TRUST_DOMAIN, "--person", "ana", "--listen", &listen];
        cauldron_with(folder.path(), &[&args, plan.init].concat(), "", plan.hq_env.as_slice()).ok();
        hq.set_env("CAULDRON_FAULT", plan.hq_fault);
        if let Some((name, value)) = plan.hq_env {
            hq.set_env(name, Some(value));
        }
        hq.start();
        hq.until_up();
        Self { hq, lyon, porto, folder, _slot: slot }
    }

    /// Where all of it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The sshd log that lyon reads.
    #[must_use]
    pub fn auth_log(&self) -> PathBuf {
        self.folder().join("auth.log")
    }

    /// The blocklist that lyon writes.
    #[must_use]
    pub fn blocklist(&self) -> PathBuf {
        self.folder().join("blocklist")
    }

    /// The SPIFFE ID of a site's node.
    #[must_use]
    pub fn site_id(name: &str) -> String {
        format!("spiffe://{}/site/{name}/node/{name}", Self::TRUST_DOMAIN)
    }

    /// Mints a token for a site's node and returns its text.
    ///
    /// # Panics
    /// When hq refuses.
    #[must_use]
    pub fn token(&self, name: &str) -> String {
        let dir = self.hq.dir().display().to_string();
        let ran = cauldron(self.folder(), &["authority", "token", &Self::site_id(name), "--node", &dir]).ok();
        ran.out.trim().to_owned()
    }

    /// Invites a site's node and prepares its data directory.
    #[must_use]
    pub fn join(&self, name: &str, more: &[&str]) -> Ran {
        self.join_with(&self.token(name), more)
    }

    /// Prepares a data directory with `token`.
    #[must_use]
    pub fn join_with(&self, token: &str, more: &[&str]) -> Ran {
        let listen = format!("127.0.0.1:{}", free_port());
        let args: Vec<&str> = ["node", "join", "-", "--listen", &listen].iter().chain(more).copied().collect();
        cauldron_with(self.folder(), &args, token, &[])
    }

    /// Waits until all that run are ready, linked to hq, and hold a lease.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn until_up(&mut self) {
        for node in [&mut self.hq, &mut self.lyon, &mut self.porto] {
            if node.runs() {
                eventually(&format!("{} is active", node.dir().display()), || {
                    node.get("/v1/self")["state"] == "active"
                });
            }
        }
    }

    /// Appends to the sshd log.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn log_lines(&self, text: impl AsRef<[u8]>) {
        append(&self.auth_log(), text);
    }

    /// Six failed logins from `address`, as sshd writes them.
    #[must_use]
    pub fn attack(address: &str) -> String {
        let line = |n: u32| {
            format!(
                "Nov 10 06:55:{:02} lyon sshd[{}]: Failed password for root from {address} port 40{n} ssh2\n",
                40 + n,
                240 + n
            )
        };
        (0..6).map(line).collect()
    }

    /// Lines of the blocklist that name `address`.
    #[must_use]
    pub fn blocked(&self, address: &str) -> usize {
        let text = std::fs::read_to_string(self.blocklist()).unwrap_or_default();
        text.lines().filter(|line| line.split(' ').next() == Some(address)).count()
    }

    /// How many permits the connector has ever carried out: its journal, which lyon's core does not write.
    #[must_use]
    pub fn carried_out(&self) -> usize {
        std::fs::read_to_string(self.folder().join("blocklist.journal")).unwrap_or_default().lines().count()
    }

    /// The key file of the council, which is the founder alone.
    #[must_use]
    pub fn council_key(&self) -> String {
        self.hq.dir().join("people/ana.council.key").display().to_string()
    }

    /// Has the council sign the draft in `file`, and hands it in at hq.
    ///
    /// # Panics
    /// When either is refused.
    pub fn ratify(&self, file: &str) {
        self.hq.run(&["authority", "sign", file, "--key", &self.council_key(), "--yes"]).ok();
        self.hq.run(&["authority", "submit", file]).ok();
    }

    /// The policies of this repository in a folder of their own, as version `<theirs>-<suffix>`, each file changed by `change`.
    ///
    /// # Panics
    /// When they cannot be read or written.
    #[must_use]
    pub fn policies(&self, suffix: &str, change: impl Fn(&str, String) -> String) -> String {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies");
        let to = self.folder().join("policies");
        std::fs::create_dir(&to).expect("made");
        for file in std::fs::read_dir(from).expect("readable").map(|file| file.expect("readable").path()) {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let mut text = std::fs::read_to_string(&file).expect("text");
            if name == "manifest.json" {
                text = text.replace(POLICY, &format!("{POLICY}-{suffix}"));
                assert!(text.contains(suffix), "the default bundle is version {POLICY}");
            }
            std::fs::write(to.join(&name), change(&name, text)).expect("written");
        }
        to.display().to_string()
    }

    /// The founder's "yes", by the command line at hq.
    #[must_use]
    pub fn approve(&self, id: &str) -> Ran {
        self.hq.run(&["approvals", "approve", id, "--yes"])
    }

    /// The founder's "no".
    #[must_use]
    pub fn deny(&self, id: &str) -> Ran {
        self.hq.run(&["approvals", "deny", id, "--yes"])
    }

    /// Waits until every realm has one state wherever it is held, and every node's record verifies.
    ///
    /// # Panics
    /// When it does not come to that in time.
    pub fn until_converged(&mut self) {
        let nodes = [&mut self.hq, &mut self.lyon, &mut self.porto];
        let running: Vec<&Node> = nodes.into_iter().filter_map(|node| node.runs().then_some(&*node)).collect();
        crate::wait_until("every realm has one state", std::time::Duration::from_secs(60), || {
            let hashes: Vec<_> = running.iter().map(|node| node.get("/v1/sync")["state_hash"].clone()).collect();
            let equal = hashes.iter().all(|mine| {
                let Some(mine) = mine.as_object().filter(|mine| !mine.is_empty()) else { return false };
                mine.iter()
                    .all(|(realm, hash)| hashes.iter().all(|other| other[realm].is_null() || other[realm] == *hash))
            });
            if equal { Ok(()) } else { Err(format!("{hashes:?}")) }
        });
        for node in running {
            assert!(node.broken().is_empty(), "{}: {:?}", node.dir().display(), node.broken());
        }
    }
}

/// Appends `text` to the file at `path`.
/// Adds `text` to the end of a file.
///
/// # Panics
/// When it cannot.
pub fn append(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file can be opened");
    file.write_all(text.as_ref()).expect("the file can be written");
}

/// Two meshes at a time: six nodes on two cores are enough.
const MESHES_MAX: usize = 2;
static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run one mesh.
#[derive(Debug)]
struct Slot;

impl Slot {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= MESHES_MAX {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
