//! The configuration: a TOML file in, a typed [`Config`] or every mistake at once out.
//!
//! Parse, don't validate: a [`Config`] exists only if everything in it makes sense together. Nothing here opens a socket,
//! creates a file or looks at the network. `docs/configuration.md` explains every key of [`schema::KEYS`].

mod address;
mod connectors;
mod federation;
mod identity;
mod link;
mod notify;
mod page;
mod problem;
mod read;
mod reader;
pub mod schema;
mod template;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cauldron_agents::connector::Fencing;
use cauldron_agents::net::Cidr;
use cauldron_identity::{MeshId, Role, SpiffeId, TrustDomain};
use cauldron_mesh::PostQuantum;

pub use address::PeerAddr;
pub use federation::{Endpoint, Federation, ForeignDomain, Profile, endpoint_url};
pub use link::Link;
pub use notify::{HookUrl, Webhook};
pub use page::{Page, Serve};
pub use template::{SecurityTemplate, Template};

use crate::error::CliError;
use crate::files;
use crate::paths::DataDir;
use crate::root_key::RootKey;
use crate::telemetry;

/// Everything a node needs to know before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// The node itself.
    pub node: Node,
    /// Who it is.
    pub identity: Identity,
    /// Whom it talks to.
    pub mesh: Mesh,
    /// What the embedded authority does here; nothing on a node that issues no identities.
    pub authority: Option<Authority>,
    /// What this node's site intermediate does here; nothing on a node that holds none.
    pub site_issuer: Option<SiteIssuer>,
    /// Where state is kept.
    pub store: Store,
    /// Which slices run here.
    pub security: Option<Security>,
    /// What this node acts with, beyond modules.
    pub connectors: Connectors,
    /// Bundles of other trust domains, and ours for them.
    pub federation: Federation,
    /// What links may carry: `[link]`.
    pub link: Link,
    /// Whom to tell what waits for a person: `[[notify.webhook]]`.
    pub notify: Vec<Webhook>,
    /// The approval page.
    pub page: Page,
    /// The HTTP API beyond the socket.
    pub api: Api,
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What people call it.
    pub name: String,
    /// Its data directory.
    pub dir: DataDir,
    /// The API's socket.
    pub socket: PathBuf,
    /// The socket's permission bits.
    pub socket_mode: u32,
}

/// `[identity]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// What its path says: a coordinator or a node.
    pub role: Role,
    /// Where its SVIDs come from.
    pub source: Source,
    /// What the node gives to programs on its machine.
    pub workloads: Workloads,
}

/// Where a node's SVIDs and trust bundles come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The mesh's own authority.
    Embedded,
    /// A SPIFFE Workload API, such as a SPIRE agent's.
    WorkloadApi {
        /// Its Unix socket.
        socket: PathBuf,
    },
    /// PEM files that somebody else keeps fresh.
    Files {
        /// The SVID, leaf first.
        certificate: PathBuf,
        /// Its key, PKCS#8.
        key: PathBuf,
        /// Root certificates of the trust domain.
        bundle: PathBuf,
    },
}

impl Source {
    /// As it is written in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::WorkloadApi { .. } => "workload-api",
            Self::Files { .. } => "files",
        }
    }
}

/// The Workload API of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workloads {
    /// Its socket.
    pub socket: PathBuf,
    /// The socket's permission bits.
    pub socket_mode: u32,
    /// Who may have what; with none there is no socket.
    pub entries: Vec<Workload>,
}

/// `[[identity.workload]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The identity, and who may have it.
    pub entry: cauldron_workload_api::Entry,
    /// Lifetime of its SVIDs, where it is shorter than the authority's.
    pub ttl: Option<Duration>,
}

/// `[mesh]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// The trust domain of this node.
    pub trust_domain: TrustDomain,
    /// The UDP addresses for peers and joining nodes; at least one.
    pub listen: Vec<SocketAddr>,
    /// Where others reach this node; goes into the tokens minted here.
    pub advertise: Vec<PeerAddr>,
    /// Peers to call.
    pub join: Vec<PeerAddr>,
    /// Whether this is the node that founded the mesh.
    pub first: bool,
    /// The pinned charter hash, when the file pins one beside the data directory.
    pub charter: Option<MeshId>,
    /// The region that this node is in; empty for the only one.
    pub region: String,
    /// Whether it offers itself to the gateways of all sites.
    pub hub: bool,
    /// Whether it carries circuits between peers that cannot reach each other.
    pub relay: bool,
    /// Relays through which others reach this node.
    pub via: Vec<SpiffeId>,
    /// Whether peers without a post-quantum key exchange are let in.
    pub post_quantum: PostQuantum,
}

/// `[authority]`, where it is enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The root key.
    pub root_key: RootKey,
    /// Whether the enrol lane is answered.
    pub enrol: bool,
    /// Lifetime of the SVIDs issued here.
    pub svid_lifetime: Duration,
    /// Lifetime of join tokens unless the request says otherwise, and the longest it may say.
    pub token_lifetime: Duration,
    /// Nodes that get the intermediate of their site, beside every site coordinator.
    pub site_issuers: Vec<SpiffeId>,
}

/// `[authority]` of a node with `site_issuer = true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteIssuer {
    /// Lifetime of the SVIDs issued here.
    pub svid_lifetime: Duration,
}

/// `[store]`. The engine is redb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Page cache, bytes.
    pub cache_bytes: usize,
}

/// `[security]`, where `modules.list` has it. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// The agent that reads an sshd log.
    pub sshd: Option<Sshd>,
    /// The connector that keeps a blocklist file.
    pub blocklist: Option<Blocklist>,
}

/// `[security.sshd]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sshd {
    /// The log to follow.
    pub log: PathBuf,
    /// Failed logins from one source that make a finding.
    pub threshold: u32,
    /// Event time in which they must lie.
    pub window: Duration,
    /// Sources that are never proposed.
    pub allow: Vec<Cidr>,
    /// This node's addresses, never proposed either; nothing means those of the interfaces.
    pub own_addresses: Option<Vec<IpAddr>>,
}

/// `[security.blocklist]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocklist {
    /// The file.
    pub path: PathBuf,
    /// How long a block stands when it is proposed here.
    pub ttl: Duration,
}

/// `[connectors]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connectors {
    /// How long any connector may take for one thing, also those of modules, before it counts as hanging.
    pub answer_within: Duration,
    /// The connector that keeps a folder of files.
    pub folder: Option<Folder>,
    /// Those whose hands are elsewhere: `[[connectors.external]]`.
    pub externals: Vec<External>,
}

/// `[[connectors.external]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Third part of a resource.
    pub name: String,
    /// What it does.
    pub operations: Vec<String>,
    /// Labels of whatever comes back from it.
    pub labels: Vec<String>,
    /// How long whoever runs a session has to say what came of a call.
    pub report_within: Duration,
    /// How a stale owner is kept from acting.
    pub fencing: Fencing,
    /// Sandboxes that whoever runs its sessions enforces.
    pub sandboxes: Vec<String>,
}

/// `[connectors.folder]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// A loopback address for HTTP beside the socket.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Whether others link with this node from afar: a mesh coordinator, or whom the configuration makes a hub.
    pub fn is_hub(&self) -> bool {
        self.mesh.hub || self.identity.role.site().is_none()
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`CliError`] of kind `Config`: the file cannot be read, or a report of everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = files::read_text(&path).map_err(|e| {
            e.hint("name the file with --config; `cauldron init --first` and `cauldron node join` write one")
        })?;
        Self::parse(&text, &path)
    }

    /// Reads `text` as if it stood in the file at `path`.
    ///
    /// # Errors
    /// A report of everything that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        read::config(text, path).map_err(|problems| problem::report(path, problems))
    }

    /// The detector's configuration for this node, but for what only the running node knows (year, zone, interfaces).
    #[must_use]
    pub fn sshd_agent(&self) -> Option<cauldron_agents::security::sshd::Config> {
        let security = self.security.as_ref()?;
        let sshd = security.sshd.as_ref()?;
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let defaults = cauldron_agents::security::sshd::Config::default();
        Some(cauldron_agents::security::sshd::Config {
            threshold: sshd.threshold,
            window_s: seconds(sshd.window),
            own_addresses: sshd.own_addresses.clone().unwrap_or_default(),
            allow: sshd.allow.clone(),
            ttl_s: security.blocklist.as_ref().map_or(defaults.ttl_s, |b| seconds(b.ttl)),
            ..defaults
        })
    }
}
