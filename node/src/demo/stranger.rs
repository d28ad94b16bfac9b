//! A stranger at hq's door: the right trust domain in its certificate, the wrong authority behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cauldron_identity::MeshId;
use cauldron_identity::x509::{AuthorityCa, Bundle, Bundles, SvidKey, Validity, certificates_from_pem};
use cauldron_mesh::{Mesh, MeshConfig, MeshEvent, SvidSource, system_clock};

use super::process::Failure;
use super::world::{World, spiffe_id, trust_domain};
use crate::{chance, clock, files, keyfile};

const LIFETIME_S: u64 = 3_600;

/// A way into the mesh's port, held open while it lives.
pub struct Stranger {
    events: tokio::sync::mpsc::Receiver<MeshEvent>,
    _handle: cauldron_mesh::MeshHandle,
}

/// Who signs the stranger's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// An authority that the stranger made up.
    Itself,
    /// The mesh's own.
    Mesh,
}

impl Stranger {
    /// Dials hq's mesh port.
    ///
    /// # Errors
    /// [`Failure`] when the certificate cannot be made or no port is free.
    pub fn knock(world: &World, signer: Signer) -> Result<Self, Failure> {
        let failed = |what: &str, e: &dyn std::error::Error| Failure::new(format!("{what}: {e}"));
        let now_s = clock::wall_ms() / 1_000;
        let dir = &world.hq.dir;
        let authority = match signer {
            Signer::Itself => {
                let validity =
                    Validity { not_before_s: now_s.saturating_sub(LIFETIME_S), not_after_s: now_s + 2 * LIFETIME_S };
                let key = SvidKey::generate().map_err(|e| failed("cannot make a root key", &e))?;
                AuthorityCa::self_signed(trust_domain()?, key, validity, chance::bytes())
            }
            Signer::Mesh => {
                AuthorityCa::from_pem(&files::read_secret(&dir.ca_key())?, &files::read_text(&dir.ca_certificate())?)
            }
        };
        let authority = authority.map_err(|e| failed("cannot make an authority", &e))?;
        let key = SvidKey::generate().map_err(|e| failed("cannot make a key", &e))?;
        let id = spiffe_id("site/lyon/node/stranger")?;
        let csr = key.csr_der().map_err(|e| failed("cannot make a request", &e))?;
        let chain = authority.issue(&csr, &id, now_s, LIFETIME_S, chance::bytes());
        let chain = chain.map_err(|e| failed("cannot issue a certificate", &e))?;
        // It trusts hq, so that it is hq alone who refuses.
        let roots = certificates_from_pem(&files::read_text(&dir.bundle())?)
            .and_then(|roots| Bundle::new(id.trust_domain().clone(), roots))
            .map_err(|e| failed("hq's bundle cannot be read", &e))?;
        let mut bundles = Bundles::new();
        bundles.insert(roots);
        let source = SvidSource::new(chain, &key, bundles, system_clock());
        let source = source.map_err(|e| failed("the certificate cannot be used", &e))?;
        let mesh = dir.binding()?.map_or(MeshId::from_bytes([0; 32]), |b| b.mesh);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let [hq, ..] = world.ports;
        let config = MeshConfig {
            peers: vec![hq.mesh.to_string()],
            ..MeshConfig::new(any, mesh, Arc::new(keyfile::generate()), source)
        };
        let (handle, events) = Mesh::start(config).map_err(|e| failed("the stranger has no port", &e))?;
        Ok(Self { events, _handle: handle })
    }

    /// How the first attempt ended, in a sentence.
    ///
    /// # Errors
    /// [`Failure`]: it was let in, or nothing happened within `limit`.
    pub async fn turned_away(&mut self, limit: Duration) -> Result<String, Failure> {
        let attempt = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    MeshEvent::LinkUp { spiffe_id, .. } => {
                        return Err(format!("the stranger was let in by {spiffe_id}"));
                    }
                    MeshEvent::Refused { reason, .. } => return Ok(reason),
                    _ => {}
                }
            }
            Err("the stranger's own side ended".to_owned())
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(ended) => ended.map_err(Failure::new),
            Err(_) => Err(Failure::new(format!("hq did not answer the stranger within {} s", limit.as_secs()))),
        }
    }
}
