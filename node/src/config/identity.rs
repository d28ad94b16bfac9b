//! `[identity]`: who the node is, where its SVIDs come from, and to whom on its machine it gives some.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cauldron_identity::spiffe_id::is_agent_of;
use cauldron_identity::{Role, SpiffeId};
use cauldron_workload_api::{Entry, Selectors};

use super::read::{NAME_HINT, SOCKET_PATH_LEN_MAX, mode, name};
use super::reader::{Item, Reader};
use super::{Identity, Mesh, Node, Security, Source, Workload, Workloads};

/// A node renews the SVIDs of its workloads one by one at half-life; more entries belong on more nodes, or on SPIRE.
const WORKLOADS_MAX: usize = 64;
const SELECTORS: &str = "add uid or gid, as the kernel must say of the caller; path and sha256 narrow it further";

/// Reads the section.
pub(super) fn read(
    r: &Reader<'_>,
    base: &Path,
    node: Option<&Node>,
    mesh: Option<&Mesh>,
    issues: bool,
    security: Option<&Security>,
) -> Option<Identity> {
    let source = source(r, base);
    let who = who(r, node, mesh, issues);
    let workloads = workloads(r, base, node, who.as_ref().map(|(id, _)| id), source.as_ref(), security);
    let (spiffe_id, role) = who?;
    Some(Identity { spiffe_id, role, source: source?, workloads: workloads? })
}

fn who(r: &Reader<'_>, node: Option<&Node>, mesh: Option<&Mesh>, issues: bool) -> Option<(SpiffeId, Role)> {
    let site = name(r, "node.site");
    let given =
        r.parsed("identity.spiffe_id", |t| SpiffeId::new(t), "write spiffe://<trust domain>/site/<site>/node/<name>");
    let spiffe_id = match (given, r.has("identity.spiffe_id")) {
        (Some(id), _) => id,
        (None, true) => return None,
        (None, false) => derived(r, node?, mesh?, site.as_deref(), issues)?,
    };
    if r.has("identity.spiffe_id") {
        fits(r, &spiffe_id, node, mesh, site.as_deref());
    }
    let key = if r.has("identity.spiffe_id") { "identity.spiffe_id" } else { "node.name" };
    match Role::of(&spiffe_id) {
        Ok(role) if role.is_peer() => Some((spiffe_id, role)),
        Ok(_) => {
            r.problem(key, "names an agent, not a node", "leave out /agent/… at its end");
            None
        }
        Err(_) => {
            r.problem(
                key,
                "names neither a coordinator nor a node",
                "use /coordinator/<name> or /site/<site>/node/<node>",
            );
            None
        }
    }
}

fn derived(r: &Reader<'_>, node: &Node, mesh: &Mesh, site: Option<&str>, issues: bool) -> Option<SpiffeId> {
    let (domain, name) = (&mesh.trust_domain, &node.name);
    let text = match site {
        Some(site) => format!("spiffe://{domain}/site/{site}/node/{name}"),
        None if issues => format!("spiffe://{domain}/coordinator/{name}"),
        None => {
            if !r.has("node.site") {
                let hint = "set node.site to the site this node stands in, or identity.spiffe_id";
                r.problem("identity.spiffe_id", "is missing and cannot be derived", hint);
            }
            return None;
        }
    };
    SpiffeId::new(&text).map_err(|e| r.problem("node.name", &e.to_string(), NAME_HINT)).ok()
}

/// What is said twice must be said alike.
fn fits(r: &Reader<'_>, id: &SpiffeId, node: Option<&Node>, mesh: Option<&Mesh>, site: Option<&str>) {
    let key = "identity.spiffe_id";
    if let Some(mesh) = mesh.filter(|m| m.trust_domain != *id.trust_domain()) {
        let what = format!("is outside mesh.trust_domain `{}`", mesh.trust_domain);
        r.problem(key, &what, "write one trust domain in both places");
    }
    let Ok(role) = Role::of(id) else { return };
    if let Some(site) = site.filter(|s| role.site() != Some(s)) {
        r.problem(key, &format!("does not lie in node.site `{site}`"), "leave one of the two out");
    }
    if let Some(node) = node.filter(|n| role.name() != n.name) {
        r.problem(key, &format!("ends in another name than node.name `{}`", node.name), "use one name in both places");
    }
}

fn source(r: &Reader<'_>, base: &Path) -> Option<Source> {
    let known = |t: &str| match t {
        "embedded" | "workload-api" | "files" => Ok(t.to_owned()),
        _ => Err("is no source of identities in this build"),
    };
    let hint = "write \"embedded\" (the mesh's own authority), \"workload-api\" (SPIRE and its like) or \"files\"";
    let named = match r.parsed("identity.source", known, hint) {
        None if r.has("identity.source") => return None,
        named => named.unwrap_or_else(|| "embedded".to_owned()),
    };
    let files = ["identity.certificate", "identity.key", "identity.bundle"];
    let unused: &[&str] = match &*named {
        "embedded" => &["identity.endpoint", "identity.certificate", "identity.key", "identity.bundle"],
        "workload-api" => &files,
        _ => &["identity.endpoint"],
    };
    for key in unused.iter().filter(|key| r.has(key)) {
        r.problem(
            key,
            &format!("is of no use with identity.source \"{named}\""),
            "remove it, or name the other source",
        );
    }
    match &*named {
        "embedded" => Some(Source::Embedded),
        "workload-api" => endpoint(r).map(|socket| Source::WorkloadApi { socket }),
        _ => {
            for key in files.iter().filter(|key| !r.has(key)) {
                r.problem(key, "is missing", "name the PEM file that is kept fresh for this node");
            }
            let [certificate, key, bundle] = files.map(|key| r.path(key, base));
            Some(Source::Files { certificate: certificate?, key: key?, bundle: bundle? })
        }
    }
}

/// SPIFFE Workload Endpoint §4: a `unix` URI with an absolute path and nothing else.
fn endpoint(r: &Reader<'_>) -> Option<PathBuf> {
    const KEY: &str = "identity.endpoint";
    const HINT: &str = "write the agent's socket, such as \"unix:///run/spire/sockets/agent.sock\"";
    let socket = |text: &str| match text.strip_prefix("unix:") {
        Some(rest) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.starts_with('/') && !path.contains(['?', '#']) {
                Ok(path.into())
            } else {
                Err("is no absolute path")
            }
        }
        None => Err("is no unix: address, and identities do not go over a network here"),
    };
    if r.has(KEY) {
        return r.parsed(KEY, socket, HINT);
    }
    match std::env::var("SPIFFE_ENDPOINT_SOCKET") {
        Ok(text) => socket(&text)
            .map_err(|why| r.problem(KEY, &format!("is not given, and SPIFFE_ENDPOINT_SOCKET {text:?} {why}"), HINT))
            .ok(),
        Err(_) => {
            r.problem(KEY, "is missing, and SPIFFE_ENDPOINT_SOCKET is not set", HINT);
            None
        }
    }
}

fn workloads(
    r: &Reader<'_>,
    base: &Path,
    node: Option<&Node>,
    host: Option<&SpiffeId>,
    source: Option<&Source>,
    security: Option<&Security>,
) -> Option<Workloads> {
    const KEY: &str = "identity.workload";
    let socket_mode = mode(r, "identity.socket_mode").unwrap_or(0o666);
    let socket = r.path("identity.socket", base);
    let keys = ["spiffe_id", "uid", "gid", "path", "sha256", "ttl"];
    let read = r.tables(KEY, &keys, |item| workload(item, host));
    let mut names: Vec<&SpiffeId> = read.iter().map(|w| &w.entry.spiffe_id).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first())).flatten()
    {
        r.problem(KEY, &format!("names {twice} twice"), "give each program an identity of its own");
    }
    if read.len() > WORKLOADS_MAX {
        r.problem(KEY, &format!("has more than {WORKLOADS_MAX} entries"), "spread them over more nodes, or use SPIRE");
    }
    let embedded = matches!(source, Some(Source::Embedded) | None);
    if !embedded && r.has(KEY) {
        let hint = "register them where this node's own identity comes from";
        r.problem(KEY, "needs identity.source \"embedded\": only its own authority signs for this node", hint);
    }
    let (node, host) = (node?, host?);
    let mut entries: Vec<Workload> = read;
    if embedded && security.is_some_and(|s| s.sshd.is_some()) {
        entries.extend(own_agent(host).filter(|own| !entries.iter().any(|e| e.entry.spiffe_id == own.entry.spiffe_id)));
    }
    let socket = socket.unwrap_or_else(|| node.dir.workload_socket());
    if !entries.is_empty() && socket.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        let what = format!("makes a socket path of more than {SOCKET_PATH_LEN_MAX} bytes: {}", socket.display());
        let key = if r.has("identity.socket") { "identity.socket" } else { "node.dir" };
        r.problem(key, &what, "set identity.socket to a shorter path, such as /run/cauldron/workload.sock");
    }
    Some(Workloads { socket, socket_mode, entries })
}

/// The built-in agent is a workload like others: this very program, under this very user.
fn own_agent(host: &SpiffeId) -> Option<Workload> {
    let spiffe_id = SpiffeId::new(format!("{host}/agent/{}", cauldron_agents::security::sshd::NAME)).ok()?;
    let path = std::env::current_exe().ok()?;
    let selectors =
        Selectors { uid: Some(rustix::process::geteuid().as_raw()), path: Some(path), ..Selectors::default() };
    Some(Workload {
        entry: Entry { spiffe_id, hint: cauldron_agents::security::sshd::NAME.into(), selectors },
        ttl: None,
    })
}

fn workload(item: &Item<'_, '_>, host: Option<&SpiffeId>) -> Option<Workload> {
    let below = |text: &str| {
        let id = SpiffeId::new(text).map_err(|e| e.to_string())?;
        match host {
            Some(host) if !is_agent_of(&id, host) => Err(format!("does not lie below this node, {host}/agent/<name>")),
            _ => Ok(id),
        }
    };
    let absolute = |text: &str| if text.starts_with('/') { Ok(PathBuf::from(text)) } else { Err("is not absolute") };
    let digest = |text: &str| {
        let bytes: Option<[u8; 32]> = hex::decode(text).ok().and_then(|b| b.try_into().ok());
        bytes.ok_or("is no SHA-256 in hexadecimal")
    };
    let ttl = |text: &str| match humantime::parse_duration(text) {
        Ok(d) if (Duration::from_secs(60)..=Duration::from_secs(86_400)).contains(&d) => Ok(d),
        _ => Err("is no duration between 1m and 24h"),
    };
    let spiffe_id = item.parsed("spiffe_id", below, "write this node's SPIFFE ID and /agent/<name> behind it");
    let selectors = Selectors {
        uid: item.number("uid"),
        gid: item.number("gid"),
        path: item.parsed("path", absolute, "write where the program lies, such as \"/usr/bin/curl\""),
        sha256: item.parsed("sha256", digest, "write what `sha256sum` prints for the program"),
    };
    let ttl = item.parsed("ttl", ttl, "write a duration such as \"10m\"");
    if !item.has("spiffe_id") {
        item.problem("has no spiffe_id", "name the identity, below this node's own");
    }
    // Whoever may run a program can have it say anything: path and digest narrow what one user may have.
    if !item.has("uid") && !item.has("gid") {
        item.problem("has neither uid nor gid and would be everybody's who can run the program", SELECTORS);
    }
    let spiffe_id = spiffe_id?;
    let hint = Role::of(&spiffe_id).ok()?.name().to_owned();
    Some(Workload { entry: Entry { spiffe_id, hint, selectors }, ttl })
}
