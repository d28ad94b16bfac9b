//! A mesh whose processes run in namespaces, the faults that befall them, and the truth about both.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::check::{Bounds, Expected, Lie, lies};
use super::net::{Net, Site};
use super::shape::Path;
use super::truth::{Fault, Truth, now_ms};
use super::watch::{Sample, Watch};
use super::writers::{DOCUMENT, Writers};
use crate::{Node, cauldron, cauldron_with, eventually, wait_until};

const TRUST_DOMAIN: &str = "acme.example";
/// Where every node listens, in its own namespace.
const PORT: u16 = 7_443;
/// The coordinator, and its site on the network.
const HQ: &str = "hq";

/// A node of a site.
#[derive(Debug, Clone, Copy)]
pub struct Member<'m> {
    /// Its name.
    pub name: &'m str,
    /// Its site.
    pub site: &'m str,
    /// Whether it listens on IPv6; it then dials IPv4 from another port.
    pub v6: bool,
    /// Whom it calls beside hq.
    pub calls: &'m [&'m str],
}

/// A founded mesh in namespaces. hq is the coordinator, alone in a site of the network.
#[derive(Debug)]
pub struct Fleet {
    nodes: BTreeMap<String, Node>,
    pairs: Vec<(String, String)>,
    /// Addresses in configurations, with whose they are.
    called: BTreeMap<String, String>,
    truth: Arc<Truth>,
    net: Net,
    folder: TempDir,
}

impl Fleet {
    /// Founds a mesh, joins `members` and starts all; the WAN is free of faults, and its chance follows from `seed`.
    ///
    /// # Panics
    /// When any of it fails.
    #[must_use]
    pub fn found(members: &[Member<'_>], seed: u64) -> Self {
        let mut sites = vec![Site::new(HQ, &[HQ])];
        for member in members {
            match sites.iter_mut().find(|site| site.name == member.site) {
                Some(site) => site.nodes.push(member.name.to_owned()),
                None => sites.push(Site::new(member.site, &[member.name])),
            }
        }
        let net = Net::build(&sites, seed);
        let mut folder = tempfile::Builder::new().prefix("cauldron-netns-").tempdir().expect("a temporary directory");
        folder.disable_cleanup(keeps());
        let truth =
            Arc::new(Truth::of(sites.iter().flat_map(|s| s.nodes.iter().map(|node| (node.as_str(), s.name.as_str())))));
        let nodes = BTreeMap::new();
        let mut fleet = Self { nodes, pairs: Vec::new(), called: BTreeMap::new(), truth, net, folder };

        let at = fleet.called(HQ, false);
        let listen = format!("0.0.0.0:{PORT}");
        let who = ["--trust-domain", TRUST_DOMAIN, "--person", "ana"];
        let args = [&["init", "--first"][..], &who, &["--listen", &listen, "--advertise", &at]].concat();
        cauldron(fleet.folder(), &args).ok();
        fleet.place(HQ);
        fleet.start(HQ);
        fleet.node(HQ).until_up();
        for member in members {
            fleet.join(member, members);
        }
        for member in members {
            fleet.start(member.name);
        }
        fleet.until_active();
        fleet
    }

    fn join(&mut self, member: &Member<'_>, all: &[Member<'_>]) {
        let (hq, id) = (self.dir(HQ), self.id(member));
        let token = cauldron(self.folder(), &["authority", "token", &id, "--node", &hq]).ok().out;
        let listen = if member.v6 { format!("[::]:{PORT}") } else { format!("0.0.0.0:{PORT}") };
        let (log, list) = (self.file(member.name, "auth.log"), self.file(member.name, "blocklist"));
        std::fs::write(&log, "").expect("written");
        let args = ["node", "join", "-", "--listen", &listen, "--auth-log", &log, "--blocklist", &list];
        cauldron_with(self.folder(), &args, token.trim(), &[]).ok();
        self.place(member.name);
        let peers = member.calls.iter().map(|name| {
            let peer = all.iter().find(|peer| peer.name == *name).unwrap_or_else(|| panic!("there is no {name}"));
            format!("\"{}\", ", self.called(name, peer.v6))
        });
        let peers: String = peers.collect();
        let config = self.node(member.name).config();
        let text = std::fs::read_to_string(&config).expect("written by join");
        assert!(text.contains("\njoin = ["), "{text}");
        let joins = format!("\njoin = [{peers}");
        std::fs::write(config, text.replacen("\njoin = [", &joins, 1)).expect("writable");
        let calls = [HQ].iter().chain(member.calls);
        self.pairs.extend(calls.map(|peer| (member.name.to_owned(), (*peer).to_owned())));
    }

    /// The address by which others call a node.
    fn called(&mut self, name: &str, v6: bool) -> String {
        let address = self.net.address(name);
        let at = if v6 { format!("[{}]:{PORT}", address.v6) } else { format!("{}:{PORT}", address.v4) };
        self.called.insert(at.clone(), name.to_owned());
        at
    }

    fn place(&mut self, name: &str) {
        let mut node = Node::new(self.folder(), name);
        node.set_namespace(Some(self.net.namespace(name)));
        self.nodes.insert(name.to_owned(), node);
    }

    fn id(&self, member: &Member<'_>) -> String {
        format!("spiffe://{TRUST_DOMAIN}/site/{}/node/{}", member.site, member.name)
    }

    fn dir(&self, name: &str) -> String {
        self.folder().join(name).display().to_string()
    }

    fn file(&self, name: &str, of: &str) -> String {
        self.folder().join(format!("{name}.{of}")).display().to_string()
    }

    /// Where data directories and logs lie.
    #[must_use]
    pub fn folder(&self) -> &FilePath {
        self.folder.path()
    }

    /// What has been done to whom.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Every node's name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Starts a node's process.
    pub fn start(&mut self, name: &str) {
        self.node_mut(name).start();
        self.truth.end(&Fault::Dead(name.to_owned()));
    }

    /// Kills it as a power cut would.
    pub fn kill9(&mut self, name: &str) {
        self.truth.begin(Fault::Dead(name.to_owned()));
        self.node_mut(name).kill9();
    }

    /// Stops the process where it stands (`SIGSTOP`): its sockets stay, it does nothing.
    pub fn freeze(&mut self, name: &str) {
        self.truth.begin(Fault::Frozen(name.to_owned()));
        self.node_mut(name).freeze();
    }

    /// Lets it go on.
    pub fn thaw(&mut self, name: &str) {
        self.node_mut(name).thaw();
        self.truth.end(&Fault::Frozen(name.to_owned()));
    }

    /// Takes its interface down.
    pub fn unplug(&self, name: &str) {
        self.truth.begin(Fault::Unplugged(name.to_owned()));
        self.net.unplug(name);
    }

    /// Brings it up again.
    pub fn plug(&self, name: &str) {
        self.net.plug(name);
        self.truth.end(&Fault::Unplugged(name.to_owned()));
    }

    /// Cuts the way from one site to another, in that direction alone.
    pub fn cut(&self, from: &str, to: &str) {
        self.truth.begin(Fault::Cut(from.to_owned(), to.to_owned()));
        let path = self.net.wan().path(from, to);
        self.net.wan().set(from, to, Path { cut: true, ..path });
    }

    /// Opens it again.
    pub fn heal(&self, from: &str, to: &str) {
        let path = self.net.wan().path(from, to);
        self.net.wan().set(from, to, Path { cut: false, ..path });
        self.truth.end(&Fault::Cut(from.to_owned(), to.to_owned()));
    }

    /// Every way into or out of a site, each direction.
    fn ways(&self, site: &str) -> Vec<(String, String)> {
        let others = self.net.wan().sites().into_iter().filter(|other| other != site);
        others.flat_map(|other| [(site.to_owned(), other.clone()), (other, site.to_owned())]).collect()
    }

    /// Cuts a site off from all others.
    pub fn part(&self, site: &str) {
        self.ways(site).iter().for_each(|(from, to)| self.cut(from, to));
    }

    /// Ends that.
    pub fn rejoin(&self, site: &str) {
        self.ways(site).iter().for_each(|(from, to)| self.heal(from, to));
    }

    /// Sets every way between sites, both directions.
    pub fn weather(&self, path: Path) {
        let sites = self.net.wan().sites();
        let pairs = sites.iter().flat_map(|from| sites.iter().filter(move |to| *to != from).map(move |to| (from, to)));
        for (from, to) in pairs {
            self.net.wan().set(from, to, path);
            let [least, most] = [path.delay, path.longest()].map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
            self.truth.way_takes(from, to, (least, most), now_ms());
        }
    }

    /// Begins to write at every node, all the time.
    #[must_use]
    pub fn writers(&self) -> Writers {
        Writers::begin(self.sockets(), &self.truth)
    }

    fn sockets(&self) -> Vec<(String, PathBuf)> {
        self.nodes.iter().map(|(name, node)| (name.clone(), node.dir().join("node.sock"))).collect()
    }

    /// What `reader` holds of what `writer` wrote.
    #[must_use]
    pub fn read(&self, reader: &str, writer: &str) -> Option<u64> {
        self.node(reader).get(DOCUMENT)["content"]["rows"][writer]["n"].as_u64()
    }

    /// Begins to ask every node for its status.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::begin(self.sockets(), &self.truth, keeps().then(|| self.folder().join("samples.jsonl")))
    }

    /// How long the machine kept threads waiting of late: who waits for nodes waits that much longer.
    #[must_use]
    pub fn stalled(&self, within: Duration) -> Duration {
        let from = now_ms().saturating_sub(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        Duration::from_millis(self.truth.stalled_ms(from, u64::MAX))
    }

    /// The pairs that call each other.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Waits until every node is active.
    ///
    /// # Panics
    /// When one is not in time.
    pub fn until_active(&self) {
        for (name, node) in &self.nodes {
            eventually(&format!("{name} is active"), || node.get("/v1/self")["state"] == "active");
        }
    }

    /// Waits until every pair that calls each other is linked, seen from both ends.
    ///
    /// # Panics
    /// When one is not in time.
    pub fn until_linked(&self, deadline: Duration) -> Duration {
        let began = Instant::now();
        wait_until("all are linked", deadline, || {
            let ends = self.pairs.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
            let missing: Vec<_> = ends.filter(|(at, peer)| !self.sees_up(at, peer)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        });
        began.elapsed()
    }

    /// Whether a peer is `up` at a node.
    #[must_use]
    pub fn sees_up(&self, at: &str, peer: &str) -> bool {
        let line = self.peer(at, peer);
        line["state"] == "alive" && !line["connected_ms"].is_null()
    }

    /// A node's line about a peer; null when it has none.
    #[must_use]
    pub fn peer(&self, at: &str, peer: &str) -> Value {
        let end = format!("/{peer}");
        let mut all = self.node(at).items("/v1/peers").into_iter();
        all.find(|p| p["spiffe_id"].as_str().is_some_and(|id| id.ends_with(&end))).unwrap_or_default()
    }

    /// Waits until every realm has one hash at all that hold it; how long that took.
    ///
    /// # Panics
    /// When it is not so in time.
    pub fn until_one_state(&self, deadline: Duration) -> Duration {
        self.until_one_state_without(&[], deadline)
    }

    /// As [`Fleet::until_one_state`], whatever `others` hold.
    ///
    /// # Panics
    /// When it is not so in time.
    pub fn until_one_state_without(&self, others: &[&str], deadline: Duration) -> Duration {
        let began = Instant::now();
        wait_until("every realm has one state", deadline, || {
            let asked = self.nodes.iter().filter(|(name, _)| !others.contains(&name.as_str()));
            let hashes: BTreeMap<&String, Value> =
                asked.map(|(name, node)| (name, node.get("/v1/sync")["state_hash"].clone())).collect();
            let mut realms: BTreeMap<String, BTreeMap<String, Vec<&String>>> = BTreeMap::new();
            for (name, of) in &hashes {
                let Some(of) = of.as_object().filter(|of| !of.is_empty()) else { return Err(format!("{name}: {of}")) };
                for (realm, hash) in of {
                    realms.entry(realm.clone()).or_default().entry(hash.to_string()).or_default().push(name);
                }
            }
            let apart: Vec<_> = realms.iter().filter(|(_, hashes)| hashes.len() > 1).collect();
            if apart.is_empty() { Ok(()) } else { Err(format!("{apart:?}")) }
        });
        began.elapsed()
    }

    /// What is wrong with what the nodes said, judged by what was so; and how often each invariant had something to judge.
    #[must_use]
    pub fn judge(&self, samples: &[Sample], bounds: &Bounds) -> (Vec<Lie>, BTreeMap<&'static str, u64>) {
        let expected = Expected { pairs: self.pairs.clone(), called: self.called.clone() };
        lies(samples, &self.truth, bounds, &expected)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if keeps() {
            // For people who look into a failure; the failure itself is told already.
            let _ = std::fs::write(self.folder().join("truth.txt"), self.truth.story().join("\n"));
            eprintln!("kept: {}", self.folder().display());
        }
    }
}

fn keeps() -> bool {
    std::env::var_os("CAULDRON_NETNS_KEEP").is_some()
}
