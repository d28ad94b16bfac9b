//! Real nodes on loopback: what an honest peer gets, and what every other one does not.

mod circuits;
mod data;
mod enrol;
mod hostile;
mod lifetime;
mod links;
mod paths;
mod pipe;
mod process;
mod refusals;
mod relays;
mod versions;
mod virtual_time;
mod walls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::x509::{AuthorityCa, Bundles, CertificateDer, SvidKey, Validity};
use cauldron_identity::{AuthorKey, MeshId, SpiffeId, TrustDomain};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{CloseCode, Mesh, MeshConfig, MeshEvent, MeshHandle, SvidSource, system_clock};

const PATIENCE: Duration = Duration::from_secs(20);
const LOOPBACK: &str = "127.0.0.1:0";

pub(crate) fn now_s() -> u64 {
    system_clock()()
}

fn authority(name: &str) -> AuthorityCa {
    let validity = Validity { not_before_s: now_s() - 86_400, not_after_s: now_s() + 86_400 };
    let domain = TrustDomain::new(name).expect("a trust domain");
    AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [5; 16]).expect("a root")
}

fn svid(ca: &AuthorityCa, id: &str, at_s: u64, lifetime_s: u64) -> (Vec<CertificateDer<'static>>, SvidKey) {
    let key = SvidKey::generate().expect("a key");
    let id = SpiffeId::new(id).expect("a SPIFFE ID");
    let chain = ca.issue(&key.csr_der().expect("a request"), &id, at_s, lifetime_s, [6; 16]).expect("an SVID");
    (chain, key)
}

fn trust(cas: &[&AuthorityCa]) -> Bundles {
    let mut bundles = Bundles::new();
    for ca in cas {
        bundles.insert(ca.bundle().expect("a bundle"));
    }
    bundles
}

/// Two peers that trust each other, for handshakes without a network.
pub(crate) fn world_source() -> (Arc<SvidSource>, Arc<SvidSource>) {
    let world = World::new();
    (world.source("a", 600), world.source("b", 600))
}

/// One trust domain, one mesh.
struct World {
    ca: AuthorityCa,
    mesh: MeshId,
}

impl World {
    fn new() -> Self {
        // `cargo xtask planted` runs these tests with one bug each, and wants them to fail.
        #[cfg(feature = "planted")]
        if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
            assert!(cauldron_identity::planted::activate_everywhere(&name), "{name} is no bug of the wires");
        }
        Self { ca: authority("a.test"), mesh: MeshId::of("test", b"one") }
    }

    fn source(&self, name: &str, lifetime_s: u64) -> Arc<SvidSource> {
        let (chain, key) = svid(&self.ca, &id(name), now_s(), lifetime_s);
        SvidSource::new(chain, &key, trust(&[&self.ca]), system_clock()).expect("a source")
    }

    fn config(&self, name: &str) -> MeshConfig {
        let author = Arc::new(author(name));
        MeshConfig::new(LOOPBACK.parse().expect("an address"), self.mesh, author, self.source(name, 3_600))
    }

    async fn node(&self, name: &str) -> Node {
        Node::start(self.config(name)).await
    }
}

fn id(name: &str) -> String {
    format!("spiffe://a.test/coordinator/{name}")
}

fn author(name: &str) -> AuthorKey {
    AuthorKey::from_seed(&cauldron_identity::ids::sha256(name.as_bytes()))
}

struct Node {
    handle: MeshHandle,
    events: mpsc::Receiver<MeshEvent>,
    address: SocketAddr,
    source: Arc<SvidSource>,
}

/// A link as the test remembers it.
#[derive(Debug)]
struct Up {
    link: u64,
    spiffe_id: String,
    dialer: bool,
    not_after_s: u64,
    author: cauldron_identity::PublicKey,
}

impl Node {
    async fn start(config: MeshConfig) -> Self {
        let source = config.source.clone();
        let (handle, events) = Mesh::start(config).expect("starts");
        Self::listening(handle, events, source).await
    }

    /// Starts on an address that another node has just left: its socket is given back a moment later.
    async fn restart(config: impl Fn() -> MeshConfig) -> Self {
        for _ in 0..100 {
            let config = config();
            let source = config.source.clone();
            match Mesh::start(config) {
                Ok((handle, events)) => return Self::listening(handle, events, source).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("the address is not given back");
    }

    async fn listening(handle: MeshHandle, mut events: mpsc::Receiver<MeshEvent>, source: Arc<SvidSource>) -> Self {
        match timeout(PATIENCE, events.recv()).await.expect("listens").expect("runs") {
            MeshEvent::Listening(address) => Self { handle, events, address, source },
            other => panic!("{other:?} before listening"),
        }
    }

    fn dial(&self, other: &Node) {
        self.handle.dial(other.address.to_string());
    }

    /// The first event that `pick` takes; the others are dropped.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(MeshEvent) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("runs");
                seen.push(format!("{event:?}").chars().take(200).collect::<String>());
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("waited for {what}, saw {seen:#?}"))
    }

    async fn up(&mut self) -> Up {
        self.wait("a link", |event| match event {
            MeshEvent::LinkUp { link, spiffe_id, dialer, svid_not_after_s, author, .. } => {
                Some(Up { link, spiffe_id: spiffe_id.to_string(), dialer, not_after_s: svid_not_after_s, author })
            }
            _ => None,
        })
        .await
    }

    async fn down(&mut self, number: u64) -> String {
        self.wait("the end of a link", |event| match event {
            MeshEvent::LinkDown { link, reason } if link == number => Some(reason),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self, number: u64) -> Vec<u8> {
        self.wait("a frame", |event| match event {
            MeshEvent::Frame { link, bytes } if link == number => Some(bytes),
            MeshEvent::LinkDown { reason, .. } => panic!("the link went down: {reason}"),
            _ => None,
        })
        .await
    }

    /// Waits for a refusal and fails on any link.
    async fn refused(&mut self) -> (CloseCode, String) {
        self.wait("a refusal", |event| match event {
            MeshEvent::Refused { code, reason, .. } => Some((code, reason)),
            MeshEvent::LinkUp { spiffe_id, .. } | MeshEvent::DataLinkUp { spiffe_id, .. } => {
                panic!("{spiffe_id} was let in")
            }
            _ => None,
        })
        .await
    }

    /// Waits for a refusal of this kind and fails on any link; what else the reason says is for the caller.
    async fn refused_as(&mut self, wanted: CloseCode) -> String {
        self.wait("a refusal", |event| match event {
            MeshEvent::Refused { code, reason, .. } if code == wanted => Some(reason),
            MeshEvent::LinkUp { spiffe_id, .. } | MeshEvent::DataLinkUp { spiffe_id, .. } => {
                panic!("{spiffe_id} was let in")
            }
            _ => None,
        })
        .await
    }

    /// Nothing of a link is reported for a while.
    async fn stays_alone(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(end, self.events.recv()).await {
            if let MeshEvent::LinkUp { spiffe_id, .. } = event.expect("runs") {
                panic!("{spiffe_id} was let in");
            }
        }
    }
}

/// Dials from `a` to `b` and waits until both have their link.
async fn join(a: &mut Node, b: &mut Node) -> (Up, Up) {
    a.dial(b);
    (a.up().await, b.up().await)
}
