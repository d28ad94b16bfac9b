//! From keys to a [`Config`]: each section by itself, then what must fit together.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cauldron_agents::net::Cidr;
use cauldron_identity::scope::is_name;
use cauldron_identity::{MeshId, Role, SpiffeId, TrustDomain};
use cauldron_mesh::PostQuantum;
use cauldron_mesh::limits::LISTEN_ADDRESSES_MAX;
use cauldron_store::CACHE_BYTES_DEFAULT;

use super::identity;
use super::problem::Problem;
use super::reader::Reader;
use super::{Api, Authority, Blocklist, Config, Identity, Mesh, Node, PeerAddr, Security, SiteIssuer, Sshd, Store};
use crate::paths::DataDir;
use crate::root_key::{self, RootKey};
use crate::sealing::Source;
use crate::telemetry::{self, LogFormat};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1024 * 1024;
/// `sun_path` of a Unix socket address has 108 bytes with its terminator (unix(7)).
pub(super) const SOCKET_PATH_LEN_MAX: usize = 107;
pub(super) const NAME_HINT: &str = "write 1 to 63 of a-z, 0-9 and '-', not at either end";

/// Reads everything; either a whole configuration or every problem.
pub(super) fn config(text: &str, path: &Path) -> Result<Config, Vec<Problem>> {
    let reader = Reader::new(text);
    let read = all(&reader, path);
    let broken = reader.is_broken();
    let problems = reader.into_problems();
    match read {
        Some(config) if problems.is_empty() && !broken => Ok(config),
        _ => Err(problems),
    }
}

/// Every section is read before the first missing one is looked at.
fn all(r: &Reader<'_>, path: &Path) -> Option<Config> {
    let base = path.parent().unwrap_or(Path::new("/"));
    let (node, mesh) = (node(r, base), mesh(r));
    let (authority, site_issuer) = authority(r, base, node.as_ref());
    let (store, security, api, telemetry) = (store(r), security(r, base), api(r), telemetry(r));
    let identity = identity::read(r, base, node.as_ref(), mesh.as_ref(), authority.is_some(), security.as_ref());
    let connectors = super::connectors::read(r, base, identity.as_ref());
    let federation = super::federation::read(r, base, authority.is_some(), mesh.as_ref().map(|m| &m.trust_domain));
    let link = super::link::read(r);
    let (notify, page) = (super::notify::webhooks(r, base), super::page::read(r, base));
    together(r, identity.as_ref(), security.as_ref());
    Some(Config {
        path: path.to_owned(),
        node: node?,
        identity: identity?,
        mesh: mesh?,
        authority,
        site_issuer,
        store,
        security,
        connectors,
        federation,
        link,
        notify,
        page,
        api,
        telemetry,
    })
}

pub(super) fn name(r: &Reader<'_>, key: &str) -> Option<String> {
    let parse = |t: &str| if is_name(t) { Ok(t.to_owned()) } else { Err("is no name") };
    r.parsed(key, parse, NAME_HINT)
}

fn node(r: &Reader<'_>, base: &Path) -> Option<Node> {
    if !r.has("node.name") {
        r.problem("node.name", "is missing", &format!("name this node: {NAME_HINT}"));
    }
    let node_name = name(r, "node.name");
    let root = r.path("node.dir", base);
    let seal_hint = "name a file with 32 random bytes, or \"credential:<name>\" for a systemd credential";
    let seal = r.parsed("node.key_seal", |text| Source::parse(text, base), seal_hint);
    let dir = DataDir::new(root.unwrap_or_else(|| base.to_owned())).sealed_by(seal);
    let socket: PathBuf = r.path("node.socket", base).unwrap_or_else(|| dir.socket());
    if socket.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        let key = if r.has("node.socket") { "node.socket" } else { "node.dir" };
        let what = format!("makes a socket path of more than {SOCKET_PATH_LEN_MAX} bytes: {}", socket.display());
        r.problem(key, &what, "set node.socket to a shorter path, such as /run/cauldron/node.sock");
    }
    let socket_mode = mode(r, "node.socket_mode").unwrap_or(0o660);
    Some(Node { name: node_name?, dir, socket, socket_mode })
}

/// Permissions of a socket.
pub(super) fn mode(r: &Reader<'_>, key: &str) -> Option<u32> {
    let mode = |text: &str| match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 && text.len() >= 3 => Ok(mode),
        _ => Err("is no file mode that lets the node itself in"),
    };
    r.parsed(key, mode, "write octal permissions in quotes, such as \"0660\"")
}

fn mesh(r: &Reader<'_>) -> Option<Mesh> {
    if !r.has("mesh.trust_domain") {
        r.problem("mesh.trust_domain", "is missing", "write the trust domain of the mesh, such as \"acme.example\"");
    }
    let trust_domain = r.parsed("mesh.trust_domain", |t| TrustDomain::new(t), "write a name such as \"acme.example\"");
    let listen = listen(r);
    let address_hint = "write host:port, such as \"hq.example:7443\" or \"[2001:db8::5]:7443\"";
    let peers = |key| r.list(key, str::parse::<PeerAddr>, address_hint).unwrap_or_default();
    let (advertise, join) = (peers("mesh.advertise"), peers("mesh.join"));
    let first = r.flag("mesh.first").unwrap_or(false);
    // What is given but wrong is told by its own problem; only what is really absent is called empty.
    let meant = first || r.flag_is_bad("mesh.first") || r.list_has_items("mesh.join");
    if !meant {
        r.problem("mesh.join", "is empty", "name one peer, or set mesh.first = true");
    }
    let charter = r.parsed("mesh.charter", str::parse::<MeshId>, "write the mesh id, 64 lower-case hex characters");
    let told = listen.iter().copied().filter(|address| !address.ip().is_unspecified());
    let advertise = if advertise.is_empty() { told.map(PeerAddr::from).collect() } else { advertise };
    let insists = |text: &str| match text {
        "prefer" => Ok(PostQuantum::Prefer),
        "require" => Ok(PostQuantum::Require),
        _ => Err("is neither"),
    };
    let post_quantum = r.parsed("mesh.post_quantum", insists, "write \"prefer\" or \"require\"").unwrap_or_default();
    let label = |text: &str| match cauldron_identity::scope::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("is no name"),
    };
    let region = r.parsed("mesh.region", label, "write 1 to 63 of a-z, 0-9 and '-', such as \"eu-west\"");
    let (region, hub) = (region.unwrap_or_default(), r.flag("mesh.hub").unwrap_or(false));
    let relay = r.flag("mesh.relay").unwrap_or(false);
    let id = |t: &str| SpiffeId::new(t).map_err(|e| e.to_string());
    let via = r.list("mesh.via", id, "write SPIFFE IDs of hubs with mesh.relay = true").unwrap_or_default();
    let trust_domain = trust_domain?;
    Some(Mesh { trust_domain, listen, advertise, join, first, charter, region, hub, relay, via, post_quantum })
}

/// Where the mesh listens: each address once, and not more of them than there can be sockets.
fn listen(r: &Reader<'_>) -> Vec<SocketAddr> {
    let given = r.addresses("mesh.listen").unwrap_or_default();
    let mut listen: Vec<SocketAddr> = Vec::new();
    for address in given {
        if listen.contains(&address) {
            r.problem("mesh.listen", &format!("names {address} twice"), "name each address once");
        } else {
            listen.push(address);
        }
    }
    if listen.len() > LISTEN_ADDRESSES_MAX {
        let what = format!("has {} addresses, at most {LISTEN_ADDRESSES_MAX} are listened on", listen.len());
        r.problem("mesh.listen", &what, "write 0.0.0.0 or [::] for every address of a family");
    }
    if listen.is_empty() {
        listen.push(SocketAddr::from(([0, 0, 0, 0], 7443)));
    }
    listen
}

fn authority(r: &Reader<'_>, base: &Path, node: Option<&Node>) -> (Option<Authority>, Option<SiteIssuer>) {
    let enabled = r.flag("authority.enabled");
    let id = |t: &str| SpiffeId::new(t).map_err(|e| e.to_string());
    let site_issuers = r.list("authority.site_issuers", id, "write spiffe://<trust domain>/site/<site>/node/<name>");
    let root_key = r.parsed("authority.root_key", |text| RootKey::parse(text, base), root_key::HINT);
    let default = || RootKey::File(node.map_or_else(|| DataDir::new(base), |n| n.dir.clone()).ca_key());
    let authority = Authority {
        root_key: root_key.unwrap_or_else(default),
        enrol: r.flag("authority.enrol").unwrap_or(true),
        svid_lifetime: r.duration("authority.svid_lifetime", 5 * MINUTE, DAY).unwrap_or(HOUR),
        token_lifetime: r.duration("authority.token_lifetime", MINUTE, 7 * DAY).unwrap_or(HOUR),
        site_issuers: site_issuers.unwrap_or_default(),
    };
    let for_site = r.flag("authority.site_issuer") == Some(true);
    let site_issuer = for_site.then_some(SiteIssuer { svid_lifetime: authority.svid_lifetime });
    let authority = match enabled {
        Some(true) => Some(authority),
        _ => {
            if r.flag("mesh.first") == Some(true) && !(r.has("authority.enabled") && enabled.is_none()) {
                let what = "but the first node of a mesh issues its identities";
                let key = if r.has("authority.enabled") { "authority.enabled" } else { "mesh.first" };
                r.problem(key, what, "set authority.enabled = true");
            }
            None
        }
    };
    (authority, site_issuer)
}

fn store(r: &Reader<'_>) -> Store {
    let engine = |t: &str| if t == "redb" { Ok(()) } else { Err("is no engine in this build") };
    r.parsed("store.engine", engine, "write \"redb\"");
    let size = |text: &str| match size_bytes(text) {
        Some(bytes) if (MIB..=4096 * MIB).contains(&bytes) => Ok(bytes),
        Some(_) => Err("must be between 1 MiB and 4 GiB"),
        None => Err("is no size"),
    };
    let cache = r.parsed("store.cache", size, "write a size such as \"32 MiB\"");
    Store { cache_bytes: cache.and_then(|b| usize::try_from(b).ok()).unwrap_or(CACHE_BYTES_DEFAULT) }
}

/// `32 MiB`, `1GiB`, `65536`: IEC prefixes only, so that nobody has to guess what a MB is.
fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => MIB,
        "GiB" => 1024 * MIB,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn security(r: &Reader<'_>, base: &Path) -> Option<Security> {
    let known = |t: &str| if t == "security" { Ok(()) } else { Err("is no module in this build") };
    let listed = r.list("modules.list", known, "this build has: security").is_some_and(|l| !l.is_empty());
    let (sshd, blocklist) = (sshd(r, base), blocklist(r, base));
    let (has_sshd, has_blocklist) = (r.has_section("security.sshd"), r.has_section("security.blocklist"));
    if listed && !has_sshd && !has_blocklist {
        let hint = "add [security.sshd] and [security.blocklist], or leave the module out";
        r.problem("modules.list", "has security, which nothing configures", hint);
    }
    if !listed && (has_sshd || has_blocklist) && !r.list_has_items("modules.list") {
        let section = if has_sshd { "security.sshd" } else { "security.blocklist" };
        let what = format!("lacks security, but [{section}] is there");
        r.problem("modules.list", &what, "add \"security\" to modules.list, or remove the section");
    }
    if listed && has_sshd && !has_blocklist {
        let what = "is missing: the sshd agent proposes blocks that nothing here could carry out";
        r.problem("security.blocklist.path", what, "name the file that the firewall reads");
    }
    (listed && (sshd.is_some() || blocklist.is_some())).then_some(Security { sshd, blocklist })
}

fn sshd(r: &Reader<'_>, base: &Path) -> Option<Sshd> {
    let log = r.path("security.sshd.log", base);
    if r.has_section("security.sshd") && !r.has("security.sshd.log") {
        r.problem("security.sshd.log", "is missing", "name the log of sshd, such as \"/var/log/auth.log\"");
    }
    let threshold = r.number("security.sshd.threshold", 1..33);
    let window = r.duration("security.sshd.window", SECOND, DAY);
    let allow =
        r.list("security.sshd.allow", str::parse::<Cidr>, "write an address or a block such as \"192.0.2.0/24\"");
    let address = |t: &str| t.parse::<IpAddr>().map_err(|_| "is no IP address");
    let own_addresses = r.list("security.sshd.own_addresses", address, "write an IP address");
    Some(Sshd {
        log: log?,
        threshold: threshold.and_then(|n| u32::try_from(n).ok()).unwrap_or(5),
        window: window.unwrap_or(10 * MINUTE),
        allow: allow.unwrap_or_default(),
        own_addresses,
    })
}

fn blocklist(r: &Reader<'_>, base: &Path) -> Option<Blocklist> {
    let path = r.path("security.blocklist.path", base);
    if r.has_section("security.blocklist") && !r.has("security.blocklist.path") && !r.has_section("security.sshd") {
        r.problem("security.blocklist.path", "is missing", "name the file that the firewall reads");
    }
    let ttl = r.duration("security.blocklist.ttl", SECOND, DAY);
    Some(Blocklist { path: path?, ttl: ttl.unwrap_or(HOUR) })
}

fn api(r: &Reader<'_>) -> Api {
    let listen = r.address("api.listen");
    if listen.is_some_and(|a| !a.ip().is_loopback()) {
        let hint = "write a loopback address such as \"127.0.0.1:7480\"; others reach this node through an SSH tunnel";
        r.problem("api.listen", "is not on loopback, and this door has no password", hint);
    }
    Api { listen }
}

fn telemetry(r: &Reader<'_>) -> telemetry::Settings {
    let endpoint = |text: &str| match text.split_once("://") {
        Some(("http", rest)) => rest.trim_end_matches('/').parse::<PeerAddr>().map(|_| text.to_owned()),
        Some(("https", _)) => Err("needs TLS to the collector, which this build does not have".to_owned()),
        _ => Err("is no endpoint".to_owned()),
    };
    let hint = "write the OTLP/gRPC address of a collector on this machine, such as \"http://127.0.0.1:4317\"";
    let filter = |text: &str| match telemetry::filter(text, "telemetry.log") {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is no log filter"),
    };
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is no log format"),
    };
    telemetry::Settings {
        otlp: r.parsed("telemetry.otlp", endpoint, hint),
        filter: r
            .parsed("telemetry.log", filter, "write a level such as \"info\", or \"warn,cauldron_node=debug\"")
            .unwrap_or_else(|| telemetry::FILTER_DEFAULT.to_owned()),
        format: r.parsed("telemetry.format", format, "write \"text\" or \"json\"").unwrap_or(LogFormat::Text),
    }
}

/// What only shows when the sections are seen together.
fn together(r: &Reader<'_>, identity: Option<&Identity>, security: Option<&Security>) {
    let Some(identity) = identity else { return };
    let coordinator = matches!(identity.role, Role::Coordinator { .. });
    if coordinator && security.is_some() {
        let what = format!("has security, but {} belongs to no site", identity.spiffe_id);
        r.problem("modules.list", &what, "run modules on a node with node.site; a mesh coordinator has none");
    }
    if r.flag("authority.site_issuer") == Some(true) && identity.role.site().is_none() {
        let what = format!("but {} belongs to no site", identity.spiffe_id);
        r.problem("authority.site_issuer", &what, "set it on one node of the site");
    }
    let issues = r.flag("authority.enabled") == Some(true);
    if issues && !coordinator {
        let what = format!("but {} is no coordinator of the mesh", identity.spiffe_id);
        r.problem("authority.enabled", &what, "leave node.site out on the coordinator, or authority.enabled here");
    }
}
