//! What the shell knows beside the core, for the API: SVID, addresses, wires, disk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_identity::{Clock, MeshId, SpiffeId};
use cauldron_mesh::{CloseCode, Counters, MeshStatus, SvidSource};
use cauldron_node_core::NodeCore;
use cauldron_node_core::view::Time;
use serde_json::{Value, json};

use crate::config::Config;
use crate::run::refusals::Refusals;

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
    /// Whom the wires refused last, and why.
    pub refusals: Refusals,
    /// When the process started, milliseconds since the Unix epoch.
    pub started_ms: u64,
}

impl Facts {
    /// The part of `/v1/self` that the core does not know.
    pub fn about_self(&self, now: Clock, mesh: &MeshStatus, counters: &Counters) -> Value {
        let (svid, runway) = self.svid(now);
        let listen: Vec<String> = mesh.listening.iter().map(ToString::to_string).collect();
        json!({
            "name": self.config.node.name,
            "svid": svid,
            "runway": runway,
            "listen": listen,
            "refused_connections": {
                "by_code": refused_by_code(counters),
                "last": self.refusals.view(),
            },
            "socket": self.config.node.socket,
            "dir": self.config.node.dir.root(),
            "started": Time(self.started_ms),
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

    /// Why a peer is not here, as far as the wires know: what was refused to it, and how calling goes.
    pub fn why_missing(&self, name: &str, mesh: &MeshStatus) -> Vec<String> {
        let mut sentences = self.refusals.about(name);
        for target in mesh.targets.iter().filter(|t| !t.up) {
            if let Some(error) = &target.last_error {
                sentences.push(format!("calling {} fails: {error}", target.address));
            }
        }
        sentences
    }

    /// What the wire says about each peer, by SPIFFE ID.
    pub fn wires(mesh: &MeshStatus) -> BTreeMap<String, Value> {
        let wire = |link: &cauldron_mesh::LinkStatus| {
            let value = json!({
                "address": link.remote_addr.to_string(),
                "rtt_ms": link.rtt_ms,
                "connections": link.connections,
                "dialer": link.dialer,
                "lane": if link.svid_not_after_s.is_some() { "mesh" } else { "data" },
                "svid_not_after": link.svid_not_after_s.map(|s| Time(s * 1000)),
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

    /// Where a joining node should knock: what is advertised, otherwise where this node listens.
    pub fn join_addresses(&self, listening: &[SocketAddr]) -> Vec<String> {
        let advertised: Vec<String> = self.config.mesh.advertise.iter().map(ToString::to_string).collect();
        if advertised.is_empty() { listening.iter().map(ToString::to_string).collect() } else { advertised }
    }
}

/// Connections refused before admission, the codes that occurred.
fn refused_by_code(counters: &Counters) -> BTreeMap<&'static str, u64> {
    let counted = CloseCode::ALL.into_iter().map(|code| (code.label(), counters.refused(code)));
    counted.filter(|(_, n)| *n > 0).collect()
}
