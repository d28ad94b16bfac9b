//! What a real node keeps in memory: one that idles, and a hub with many enrolled peers.
//!
//! The peers are meshes of this process, with keys, names and links of their own: as many real nodes would need the processor that
//! the hub is measured on. They answer pings and say nothing, so what the hub holds for each is its connection, its link with both
//! queues, its enrolment, and the sync state of a peer of which it knows nothing yet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cauldron_identity::authority::Enrol;
use cauldron_identity::ids::sha256;
use cauldron_identity::x509::{AuthorityCa, SvidKey};
use cauldron_identity::{AuthorKey, MeshId, SpiffeId};
use cauldron_mesh::{MeshConfig, enrol_client};
use cauldron_node_core::enrol::{Believed, EnrolReply, EnrolRequest, Outcome, TokenId, TokenProof};
use cauldron_tests::{Mesh, Node, Plan};
use minicbor::Decode;
use serde_json::json;
use tokio::runtime::Runtime;

use super::peers::{Peer, source};
use super::runtime;
use crate::spine::{build, rss_mb};
use crate::{Bound, Figure, Report};

/// The figures.
const IDLE_MB_MAX: f64 = 32.0;
const HUB_MB_MAX: f64 = 80.0;
const PEERS: usize = 200;
/// After the last link came up, its allocations are over.
const SETTLE: Duration = Duration::from_secs(20);
/// The authority lets one address enrol 30 nodes at once and then one each second.
const ENROL_AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure() -> Result<Report, String> {
    build()?;
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    sleep(SETTLE);
    let mut figures = vec![
        shown("resident memory, idle: a hub with one peer", rss_mb(mesh.hq.pid())?, Some(IDLE_MB_MAX)),
        shown("resident memory, idle: a site's node", rss_mb(mesh.lyon.pid())?, Some(IDLE_MB_MAX)),
    ];
    mesh.lyon.stop();
    let hub = Hub::of(&mesh)?;
    let runtime = runtime()?;
    let names: Vec<SpiffeId> = (0..PEERS)
        .map(|n| SpiffeId::new(Mesh::site_id(&format!("n{n}"))).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let mut believed = Believed::default();
    for name in &names {
        hub.enrol(&mesh.hq, &runtime, name, &mut believed)?;
    }
    sleep(SETTLE);
    figures.push(shown(&format!("resident memory: a hub that knows {PEERS} nodes"), rss_mb(mesh.hq.pid())?, None));
    let mut peers = Vec::with_capacity(PEERS);
    for name in &names {
        peers.push(runtime.block_on(hub.link(name))?);
    }
    sleep(SETTLE);
    let links = mesh.hq.metric("cauldron_mesh_links");
    if links != PEERS as u64 {
        return Err(format!("hq has {links} links, not {PEERS}"));
    }
    figures.push(shown(
        &format!("resident memory: a hub with {PEERS} peers"),
        rss_mb(mesh.hq.pid())?,
        Some(HUB_MB_MAX),
    ));
    runtime.block_on(futures::future::join_all(peers.iter().map(|peer| peer.handle.shutdown())));
    mesh.hq.stop();
    Ok(Report { figures })
}

/// hq, from outside.
struct Hub {
    address: SocketAddr,
    mesh: MeshId,
    ca: AuthorityCa,
}

/// Of a join token (`node/src/token.rs`), what proves it.
#[derive(Decode)]
#[cbor(map)]
struct Token {
    #[cbor(n(2), with = "minicbor::bytes")]
    id: [u8; 16],
    #[cbor(n(3), with = "minicbor::bytes")]
    secret: [u8; 32],
}

impl Hub {
    fn of(mesh: &Mesh) -> Result<Self, String> {
        let own = mesh.hq.get("/v1/self");
        let address = own["listen"][0].as_str().and_then(|a| a.parse().ok()).ok_or("hq names no address")?;
        let pin = own["mesh"].as_str().and_then(|id| id.parse().ok()).ok_or("hq names no mesh")?;
        let dir = mesh.hq.dir().join("ca");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).map_err(|e| format!("{name}: {e}"));
        let ca = AuthorityCa::from_pem(&read("root.key")?, &read("root.pem")?).map_err(|e| e.to_string())?;
        Ok(Self { address, mesh: pin, ca })
    }

    /// Enrols a node as its first start does: by a token, on the enrol lane.
    fn enrol(&self, hq: &Node, runtime: &Runtime, name: &SpiffeId, believed: &mut Believed) -> Result<(), String> {
        let answer = hq.post("/v1/authority/tokens", &json!({ "spiffe_id": name.to_string() }));
        let text = answer.json()["token"].as_str().map(str::to_owned).ok_or("hq mints no token")?;
        let payload = text.rsplit('.').next().and_then(|word| URL_SAFE_NO_PAD.decode(word).ok()).unwrap_or_default();
        let cbor = payload.split_last_chunk::<4>().map_or(&[][..], |(cbor, _)| cbor);
        let token: Token = minicbor::decode(cbor).map_err(|e| format!("not a token: {e}"))?;
        let author = author(name);
        let csr = SvidKey::generate().and_then(|key| key.csr_der()).map_err(|e| e.to_string())?;
        let began = Instant::now();
        loop {
            let have = believed.have();
            let request = |exporter: &[u8; 32]| {
                let proof = TokenProof::new(TokenId(token.id), &token.secret, &author.public(), &csr, exporter);
                let enrol = Enrol::new(&self.mesh, &author, name);
                let request = EnrolRequest::new(self.mesh, Some(proof), enrol, csr.clone(), &author, exporter);
                request.with_chain(have).to_bytes()
            };
            let check = |exporter: &[u8; 32], bytes: &[u8]| {
                EnrolReply::open(bytes, &self.mesh, exporter, believed).map_err(|e| e.to_string())
            };
            let why = match runtime.block_on(enrol_client(&self.address.to_string(), request, check)) {
                Ok(Outcome::Granted(_)) => return Ok(()),
                Ok(Outcome::Part(part)) => {
                    believed.learn(&self.mesh, *part).map_err(|e| e.to_string())?;
                    "hq shows its chain without end".to_owned()
                }
                Ok(Outcome::Refused(why)) => why.reason.clone(),
                Err(error) => error.to_string(),
            };
            if began.elapsed() > PATIENCE {
                return Err(format!("{name} is not enrolled: {why}"));
            }
            sleep(ENROL_AGAIN);
        }
    }

    /// A peer with that name, linked.
    async fn link(&self, name: &SpiffeId) -> Result<Peer, String> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = MeshConfig::new(any, self.mesh, Arc::new(author(name)), source(&self.ca, name)?);
        let mut peer = Peer::start(config).await?;
        peer.handle.dial(self.address.to_string());
        peer.up().await?;
        Ok(peer)
    }
}

fn author(name: &SpiffeId) -> AuthorKey {
    AuthorKey::from_seed(&sha256(name.to_string().as_bytes()))
}

fn shown(name: &str, value: f64, most: Option<f64>) -> Figure {
    Figure { name: name.to_owned(), value, unit: "MB", yardstick: None, target: most.map(Bound::AtMost) }
}
