//! Peers of one trust domain, with the mesh and without.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::x509::{AuthorityCa, Bundles, SvidKey, Validity};
use cauldron_identity::{AuthorKey, MeshId, SpiffeId, TrustDomain};
use cauldron_mesh::{Mesh, MeshConfig, MeshEvent, MeshHandle, SvidSource, limits, system_clock, yardstick};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Nothing here takes longer on a machine that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const DAY_S: u64 = 86_400;

/// An authority and its mesh.
pub(super) struct Domain {
    ca: AuthorityCa,
    mesh: MeshId,
}

/// A running mesh of one node.
pub(super) struct Peer {
    pub(super) handle: MeshHandle,
    pub(super) events: Receiver<MeshEvent>,
    pub(super) address: SocketAddr,
}

impl Domain {
    pub(super) fn new() -> Result<Self, String> {
        let name = TrustDomain::new("bench.test").map_err(|e| e.to_string())?;
        let (key, now_s) = (SvidKey::generate().map_err(|e| e.to_string())?, system_clock()());
        let validity = Validity { not_before_s: now_s - DAY_S, not_after_s: now_s + DAY_S };
        let ca = AuthorityCa::self_signed(name, key, validity, [5; 16]).map_err(|e| e.to_string())?;
        Ok(Self { ca, mesh: MeshId::of("bench", b"mesh") })
    }

    /// An SVID with whom it trusts.
    pub(super) fn source(&self, name: &str) -> Result<Arc<SvidSource>, String> {
        let id = SpiffeId::new(format!("spiffe://bench.test/coordinator/{name}")).map_err(|e| e.to_string())?;
        source(&self.ca, &id)
    }

    pub(super) async fn peer(&self, name: &str) -> Result<Peer, String> {
        let author = AuthorKey::from_seed(&cauldron_identity::ids::sha256(name.as_bytes()));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = MeshConfig::new(listen, self.mesh, Arc::new(author), self.source(name)?);
        config.connections_max = limits::CONNECTIONS_MAX_HUB;
        Peer::start(config).await
    }

    /// Two peers and their links to each other.
    pub(super) async fn pair(&self) -> Result<([Peer; 2], [u64; 2]), String> {
        let (mut a, mut b) = (self.peer("a").await?, self.peer("b").await?);
        a.handle.dial(b.address.to_string());
        let links = [a.up().await?, b.up().await?];
        Ok(([a, b], links))
    }

    /// An endpoint that listens, without the mesh.
    pub(super) fn listener(&self, name: &str) -> Result<quinn::Endpoint, String> {
        let config = yardstick::server(&self.source(name)?).map_err(|e| e.to_string())?;
        endpoint(Some(config))
    }

    /// An endpoint that dials, without the mesh.
    pub(super) fn dialler(&self, name: &str) -> Result<quinn::Endpoint, String> {
        let config = yardstick::client(&self.source(name)?).map_err(|e| e.to_string())?;
        let mut endpoint = endpoint(None)?;
        endpoint.set_default_client_config(config);
        Ok(endpoint)
    }

    /// A connection without the mesh, from both ends; the endpoints live as long as it does.
    pub(super) async fn connection(&self) -> Result<([quinn::Connection; 2], [quinn::Endpoint; 2]), String> {
        let (here, there) = (self.dialler("raw-a")?, self.listener("raw-b")?);
        let (one, other) = tokio::join!(dial(&here, &there), async {
            there.accept().await.ok_or("closed")?.await.map_err(|e| e.to_string())
        });
        Ok(([one?, other?], [here, there]))
    }
}

fn endpoint(server: Option<quinn::ServerConfig>) -> Result<quinn::Endpoint, String> {
    let socket = yardstick::socket(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|e| e.to_string())?;
    let (config, runtime) = (quinn::EndpointConfig::default(), Arc::new(quinn::TokioRuntime));
    quinn::Endpoint::new(config, server, socket, runtime).map_err(|e| e.to_string())
}

/// A handshake without the mesh, seen from the dialler.
pub(super) async fn dial(from: &quinn::Endpoint, to: &quinn::Endpoint) -> Result<quinn::Connection, String> {
    let address = to.local_addr().map_err(|e| e.to_string())?;
    let connecting = from.connect(address, yardstick::SERVER_NAME).map_err(|e| e.to_string())?;
    connecting.await.map_err(|e| e.to_string())
}

/// An SVID for `id` with the bundle of its authority.
pub(super) fn source(ca: &AuthorityCa, id: &SpiffeId) -> Result<Arc<SvidSource>, String> {
    let key = SvidKey::generate().map_err(|e| e.to_string())?;
    let request = key.csr_der().map_err(|e| e.to_string())?;
    let serial = cauldron_identity::ids::sha256(id.to_string().as_bytes());
    let serial = serial.first_chunk::<16>().copied().unwrap_or_default();
    let chain = ca.issue(&request, id, system_clock()(), 3_600, serial).map_err(|e| e.to_string())?;
    let mut bundles = Bundles::new();
    bundles.insert(ca.bundle().map_err(|e| e.to_string())?);
    SvidSource::new(chain, &key, bundles, system_clock()).map_err(|e| e.to_string())
}

impl Peer {
    pub(super) async fn start(config: MeshConfig) -> Result<Self, String> {
        let (handle, mut events) = Mesh::start(config).map_err(|e| e.to_string())?;
        match timeout(PATIENCE, events.recv()).await {
            Ok(Some(MeshEvent::Listening(address))) => Ok(Self { handle, events, address }),
            other => Err(format!("a peer does not listen: {other:?}")),
        }
    }

    /// Waits for the next link.
    pub(super) async fn up(&mut self) -> Result<u64, String> {
        let up = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    MeshEvent::LinkUp { link, .. } => return Ok(link),
                    MeshEvent::Refused { reason, .. } => return Err(format!("no link: {reason}")),
                    _ => {}
                }
            }
            Err("the mesh has stopped".to_owned())
        };
        timeout(PATIENCE, up).await.unwrap_or_else(|_| Err("no link in time".to_owned()))
    }

    /// The next frame of its link.
    pub(super) async fn frame(&mut self) -> Result<Vec<u8>, String> {
        while let Some(event) = self.events.recv().await {
            match event {
                MeshEvent::Frame { bytes, .. } => return Ok(bytes),
                MeshEvent::LinkDown { reason, .. } => return Err(format!("the link went down: {reason}")),
                _ => {}
            }
        }
        Err("the mesh has stopped".to_owned())
    }
}
