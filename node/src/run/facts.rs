//! What the shell knows beside the core, for the API: SVID, addresses, wires, disk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_identity::{Clock, MeshId, SpiffeId, TrustBundle, TrustDomain};
use cauldron_mesh::{MeshStatus, SvidSource};
use cauldron_node_core::NodeCore;
use cauldron_node_core::view::Time;
use serde_json::{Value, json};

use crate::config::Config;
use crate::run::federation::{Federation, Published};

/// What does not change while the process runs, and the ways to what does.
pub struct Facts {
    /// The configuration.
    pub config: Arc<Config>,
    /// This node.
    pub spiffe_id: SpiffeId,
    /// The mesh.
    pub mesh: MeshId,
    /// The SVID.
    pub source: Arc<SvidSource>,
    /// When the process started, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Foreign trust bundles.
    pub federation: Arc<Federation>,
    /// Our own trust bundle, where the authority is.
    pub published: Option<Arc<Published>>,
}

impl Facts {
    /// The part of `/v1/self` that the core does not know.
    pub fn about_self(&self, now: Clock, mesh: &MeshStatus) -> Value {
        let (svid, runway) = self.svid(now);
        let listen: Vec<String> = mesh.listening.iter().map(ToString::to_string).collect();
        json!({
            "name": self.config.node.name,
            "svid": svid,
            "runway": runway,
            "listen": listen,
            "socket": self.config.node.socket,
            "dir": self.config.node.dir.root(),
            "started": Time(self.started_ms),
            "federation": self.federation.status(now.wall_ms),
            "version": env!("CARGO_PKG_VERSION"),
            "limits": NodeCore::limits(),
            "wall_clock": { "now": Time(now.wall_ms), "confidence": now.confidence },
        })
    }

    /// What is wrong that the core does not see.
    pub fn problem(&self) -> Option<String> {
        let problem = self.source.own_status().err()?;
        Some(format!(
            "no peer accepts this node's SVID: {problem}; links are down until an authority answers, then it renews by its \
             author key"
        ))
    }

    /// The SVID as a peer sees it, and what expires when and what stops then.
    fn svid(&self, now: Clock) -> (Value, Value) {
        match self.source.own_status() {
            Ok(own) => {
                let (from_ms, until_ms) = (own.not_before_s * 1000, own.not_after_s * 1000);
                let renews_ms = from_ms + (until_ms - from_ms) / 2;
                let svid =
                    json!({ "not_before": Time(from_ms), "not_after": Time(until_ms), "valid": true, "problem": null });
                let runway = json!([{
                    "what": "svid",
                    "expires": Time(until_ms),
                    "in_ms": until_ms.saturating_sub(now.wall_ms),
                    "renews": Time(renews_ms),
                    "stops": "no new links; links that are up end within 60 s. Recording, and renewal by author key, go on",
                }]);
                (svid, runway)
            }
            Err(problem) => {
                let svid = json!({ "not_after": null, "valid": false, "problem": problem.to_string() });
                let runway = json!([{
                    "what": "svid",
                    "expires": null,
                    "in_ms": 0,
                    "stops": "no links; recording, and renewal by author key, go on",
                }]);
                (svid, runway)
            }
        }
    }

    /// What the wire says about each peer, by SPIFFE ID.
    pub fn wires(mesh: &MeshStatus) -> BTreeMap<String, Value> {
        let wire = |link: &cauldron_mesh::LinkStatus| {
            let value = json!({
                "address": link.remote_addr.to_string(),
                "rtt_ms": link.rtt_ms,
                "connections": link.connections,
                "dialer": link.dialer,
                "svid_not_after": Time(link.svid_not_after_s * 1000),
                "queued_frames": link.queued_frames,
                "queued_bytes": link.queued_bytes,
            });
            (link.spiffe_id.to_string(), value)
        };
        mesh.links.iter().map(wire).collect()
    }

    /// Configured peer addresses and how calling them goes.
    pub fn dialling(mesh: &MeshStatus) -> Value {
        let target = |t: &cauldron_mesh::TargetStatus| json!({ "address": t.address, "up": t.up, "last_error": t.last_error, "next_dial_in_ms": t.next_dial_in_ms });
        mesh.targets.iter().map(target).collect()
    }

    /// A trust bundle: ours, whole where the authority is and the X.509 roots elsewhere, or one that was fetched.
    pub fn trust_bundle(&self, trust_domain: Option<&str>) -> Option<TrustBundle> {
        let own = self.spiffe_id.trust_domain();
        match trust_domain.filter(|name| *name != own.as_str()) {
            Some(name) => self.federation.bundles().get(&TrustDomain::new(name).ok()?).cloned(),
            None => match &self.published {
                Some(published) => Some((**published.bundle().borrow()).clone()),
                None => {
                    let mut bundle = TrustBundle::new(own.clone());
                    let roots = self.source.bundles().get(own).map(|b| b.roots().to_vec()).unwrap_or_default();
                    bundle.set_roots(roots).ok()?;
                    Some(bundle)
                }
            },
        }
    }

    /// Where a joining node should knock: what is advertised, otherwise where this node listens.
    pub fn join_addresses(&self, listening: &[SocketAddr]) -> Vec<String> {
        let advertised: Vec<String> = self.config.mesh.advertise.iter().map(ToString::to_string).collect();
        if advertised.is_empty() { listening.iter().map(ToString::to_string).collect() } else { advertised }
    }
}
