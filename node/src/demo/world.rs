//! The three nodes, founded as any mesh is: keys and charter by `init`'s code, members by join tokens from hq's API.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cauldron_coordinator::policy::Bundle;
use cauldron_identity::charter::ClassAges;
use cauldron_identity::scope::is_name;
use cauldron_identity::{SpiffeId, TrustDomain};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::auth_log::AuthLog;
use super::look::text;
use super::process::{Failure, Node};
use crate::config::{PeerAddr, SecurityTemplate, Template};
use crate::error::CliError;
use crate::founding::{self, Council, Join, Request};
use crate::output::items;
use crate::token::JoinToken;
use crate::{chance, clock, files};

const TRUST_DOMAIN: &str = "demo.cauldron.internal";
/// A debug build on two busy cores starts within a few seconds.
pub const START_MAX: Duration = Duration::from_secs(30);
/// A vote: one start of this program and two requests.
const VOTE_MAX: Duration = Duration::from_secs(30);

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything lies; nothing means a directory that goes away at the end.
    pub keep: Option<PathBuf>,
    /// The user's own log.
    pub auth_log: Option<PathBuf>,
    /// How long a block stands.
    pub block_ttl: Duration,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// UDP, for peers.
    pub mesh: SocketAddr,
    /// TCP, for health over HTTP, and the origin of votes.
    pub api: SocketAddr,
}

/// The demo's mesh on disk and as processes.
#[derive(Debug)]
pub struct World {
    /// The coordinator.
    pub hq: Node,
    /// The site under attack.
    pub lyon: Node,
    /// The other site.
    pub porto: Node,
    /// The log that lyon reads.
    pub auth_log: AuthLog,
    /// The file in which lyon blocks.
    pub blocklist: PathBuf,
    /// Who decides.
    pub person: String,
    /// This program.
    pub exe: PathBuf,
    /// Where hq, lyon and porto listen.
    pub ports: [Ports; 3],
    block_ttl: Duration,
    root: Root,
}

/// The demo's directory; removed at the end unless it is to be kept.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    keep: bool,
}

impl Root {
    fn create(keep: Option<&Path>) -> Result<Self, CliError> {
        let path = match keep {
            Some(dir) => std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
            None => std::env::temp_dir().join(format!("cauldron-demo-{}", hex::encode(chance::bytes::<4>()))),
        };
        if files::is_occupied(&path)? {
            return Err(CliError::config(format!("{} is not empty", path.display()))
                .hint("name a new or empty directory with --keep"));
        }
        files::create_dir(&path)?;
        Ok(Self { path, keep: keep.is_some() })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: what is left lies in the system's directory for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl World {
    /// Founds the mesh at hq and writes what lyon reads. Nothing runs yet.
    ///
    /// # Errors
    /// [`CliError`] that names what cannot be written, read or opened.
    pub fn found(plan: &Plan) -> Result<Self, CliError> {
        let exe = std::env::current_exe()
            .map_err(|e| CliError::config("cannot find this program to start nodes with it").because(&e))?;
        let root = Root::create(plan.keep.as_deref())?;
        let ports = free_ports()?;
        let node = |name, path: &str| Ok(Node::new(name, spiffe_id(path)?, &root.path, &exe));
        let (hq, lyon, porto) = (
            node("hq", "coordinator/hq")?,
            node("lyon", "site/lyon/node/lyon")?,
            node("porto", "site/porto/node/porto")?,
        );
        let auth_log = AuthLog::create(root.path.join("auth.log"), plan.auth_log.as_deref(), Timestamp::now())?;
        let person = std::env::var("USER").ok().filter(|user| is_name(user)).unwrap_or_else(|| "founder".into());
        let blocklist = root.path.join("blocklist");
        let block_ttl = plan.block_ttl;
        let world = Self { hq, lyon, porto, auth_log, blocklist, person, exe, ports, block_ttl, root };
        world.found_hq()?;
        Ok(world)
    }

    fn found_hq(&self) -> Result<(), CliError> {
        let request = Request {
            name: "hq".into(),
            trust_domain: trust_domain()?,
            person: self.person.clone(),
            person_name: self.person.clone(),
            groups: vec!["security-duty".into()],
            rp_id: "localhost".into(),
            vote_origins: self.ports.iter().map(|p| format!("http://localhost:{}", p.api.port())).collect(),
            class_ages: ClassAges::default(),
            bundle: Bundle::default_bundle(),
            council: Council::Alone(None),
            person_key: None,
            root_key: None,
            now_ms: clock::wall_ms(),
        };
        let founded = founding::found(&self.hq.dir, &request)?;
        let [hq, lyon, porto] = self.ports;
        self.hq.configure(&Template {
            name: "hq".into(),
            site: None,
            dir: None,
            trust_domain: TRUST_DOMAIN.into(),
            listen: hq.mesh,
            advertise: vec![hq.mesh.into()],
            join: vec![lyon.mesh.into(), porto.mesh.into()],
            charter: Some(founded.mesh.to_string()),
            first: true,
            authority: false,
            root_key: None,
            api: Some(hq.api),
            security: None,
            folder: None,
        })
    }

    /// Invites lyon and porto through hq's API and prepares their directories, as `node join` does.
    ///
    /// # Errors
    /// [`Failure`]: hq does not answer or refuses, or a file cannot be written.
    pub async fn invite(&self) -> Result<(), Failure> {
        let security = SecurityTemplate {
            log: self.auth_log.path().to_owned(),
            blocklist: self.blocklist.clone(),
            ttl: Some(humantime::format_duration(self.block_ttl).to_string()),
        };
        let [hq, lyon, porto] = self.ports;
        self.prepare(&self.lyon, lyon, [hq, porto], Some(security)).await?;
        self.prepare(&self.porto, porto, [hq, lyon], None).await
    }

    async fn prepare(
        &self,
        node: &Node,
        own: Ports,
        others: [Ports; 2],
        security: Option<SecurityTemplate>,
    ) -> Result<(), Failure> {
        let request = json!({ "spiffe_id": node.spiffe_id.to_string() });
        let answer = self.hq.client().post("/v1/authority/tokens", &request).await;
        let answer = answer.map_err(|e| self.hq.failure(Failure::from(e).why))?;
        let text = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        let token = JoinToken::decode(text).map_err(|e| self.hq.failure(format!("hq gave a bad token: {e}")))?;
        let template = founding::prepare_join(&node.dir, &Join { token, listen: own.mesh })?;
        let join: Vec<PeerAddr> = others.iter().map(|p| p.mesh.into()).collect();
        node.configure(&Template { join, api: Some(own.api), security, ..template })?;
        Ok(())
    }

    /// The three nodes.
    pub fn nodes(&self) -> [&Node; 3] {
        [&self.hq, &self.lyon, &self.porto]
    }

    /// Starts hq, invites the others and starts those of them that `starts` names.
    ///
    /// # Errors
    /// [`Failure`] of the first thing that did not come about.
    pub async fn rise(&self, starts: &[&Node]) -> Result<(), Failure> {
        self.hq.start(None)?;
        self.hq.until(START_MAX, "hq to take work", "/v1/ready", |_| Some(())).await?;
        self.invite().await?;
        starts.iter().try_for_each(|node| node.start(None))
    }

    /// Asks all processes to stop and waits for them.
    pub async fn stop(&self) {
        tokio::join!(self.hq.stop(), self.lyon.stop(), self.porto.stop());
    }

    /// Where everything lies.
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    /// How long a block stands.
    pub fn block_ttl(&self) -> Duration {
        self.block_ttl
    }

    /// Proposes a block of `source` by hand at lyon, as `cauldron propose` does, where lyon's agent has no room for another
    /// proposal: a long log of one's own fills it. Whether it did.
    pub async fn propose_where_full(&self, source: &str) -> Result<bool, Failure> {
        let list = self.lyon.get("/v1/proposals").await?;
        let open = |p: &&Value| matches!(text(p, "/state"), "PROPOSED" | "EVALUATED" | "PENDING_APPROVAL");
        if items(&list).iter().filter(open).count() < cauldron_node_core::OPEN_PER_AGENT_MAX {
            return Ok(false);
        }
        let ttl_s = self.block_ttl().as_secs();
        let body = json!({
            "operation": "security.address.block",
            "args": { "address": source, "ttl_s": ttl_s, "reason": "attacks sshd while hq is gone" },
            "rationale": "The agent has as many proposals open as it may; this one is by hand.",
            "evidence": ["the last lines of the log"],
        });
        self.lyon.client().post("/v1/proposals", &body).await?;
        Ok(true)
    }

    /// Whether the directory stays at the end.
    pub fn is_kept(&self) -> bool {
        self.root.keep
    }

    /// Decides as the person, with the person's key, by the same command that a person would type.
    ///
    /// # Errors
    /// [`Failure`] with what the command said.
    pub async fn decide(&self, verb: &str, proposal: &str, reason: &str) -> Result<(), Failure> {
        let key = self.hq.dir.person_key(&self.person);
        let args: [&OsStr; 12] = [
            "--node".as_ref(),
            self.hq.dir.root().as_ref(),
            "--output".as_ref(),
            "json".as_ref(),
            "approvals".as_ref(),
            verb.as_ref(),
            proposal.as_ref(),
            "--yes".as_ref(),
            "--reason".as_ref(),
            reason.as_ref(),
            "--key".as_ref(),
            key.as_ref(),
        ];
        let mut command = tokio::process::Command::new(&self.exe);
        command.args(args).env_remove("CAULDRON_FAULT").stdin(Stdio::null()).kill_on_drop(true);
        let failed = |why: String| self.hq.failure(format!("`cauldron approvals {verb}` failed: {why}"));
        let output = match tokio::time::timeout(VOTE_MAX, command.output()).await {
            Ok(output) => output.map_err(|e| failed(e.to_string()))?,
            Err(_) => return Err(failed(format!("no answer within {} s", VOTE_MAX.as_secs()))),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        Err(failed(said.lines().map(str::trim).collect::<Vec<_>>().join("; ")))
    }
}

/// The demo's trust domain.
pub fn trust_domain() -> Result<TrustDomain, CliError> {
    TrustDomain::new(TRUST_DOMAIN).map_err(|e| CliError::integrity("the demo's trust domain").because(&e))
}

/// An id below the demo's trust domain.
pub fn spiffe_id(path: &str) -> Result<SpiffeId, CliError> {
    SpiffeId::new(format!("spiffe://{TRUST_DOMAIN}/{path}"))
        .map_err(|e| CliError::integrity("an id of the demo").because(&e))
}

/// Free ports: all are held while they are chosen, so that none is chosen twice, and released for the nodes.
fn free_ports() -> Result<[Ports; 3], CliError> {
    let failed = |e: std::io::Error| CliError::config("cannot find a free port on 127.0.0.1").because(&e);
    let (mut held, mut ports) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        ports.push(Ports { mesh: udp.local_addr().map_err(failed)?, api: tcp.local_addr().map_err(failed)? });
        held.push((udp, tcp));
    }
    ports.try_into().map_err(|_| CliError::config("cannot find three free ports on 127.0.0.1"))
}
