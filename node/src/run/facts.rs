//! What the shell knows beside the core, for the API: SVID, addresses, wires, disk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cauldron_identity::x509::{CertificateDer, validity_of};
use cauldron_identity::{Clock, MeshId, SpiffeId, TrustBundle, TrustDomain};
use cauldron_mesh::{CloseCode, Counters, LinkPath, MeshStatus, SvidSource};
use cauldron_node_core::view::{RunwayView, Time};
use serde_json::{Value, json};

use crate::config::Config;
use crate::run::bounds::bounds;
use crate::run::effects::Hands;
use crate::run::external::Health;
use crate::run::federation::{Federation, Published};
use crate::run::notify::Notifier;
use crate::run::refusals::Refusals;
use crate::run::root_keeper::RootKeeper;
use crate::run::site::SiteHolder;
use crate::run::workloads::Overview;

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
    /// The site's intermediate, where this node is to hold it.
    pub holder: Option<Arc<SiteHolder>>,
    /// Whom the wires refused last, and why.
    pub refusals: Refusals,
    /// What is wrong with the source of this node's identity.
    pub health: Arc<Health>,
    /// Identities of the programs on this machine.
    pub workloads: Option<Overview>,
    /// When the process started, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// What this node acts with.
    pub hands: Hands,
    /// Foreign trust bundles.
    pub federation: Arc<Federation>,
    /// Who is told what waits for a person, where a webhook is configured.
    pub notifier: Option<Arc<Notifier>>,
    /// The certificate authority, where this machine holds it.
    pub authority: Option<Arc<RootKeeper>>,
    /// Our own trust bundle, where the authority is.
    pub published: Option<Arc<Published>>,
}

impl Facts {
    /// The part of `/v1/self` that the core does not know.
    pub fn about_self(&self, now: Clock, of_core: Vec<RunwayView>, mesh: &MeshStatus, counters: &Counters) -> Value {
        let svid = self.svid();
        let mut runway = self.certificate_runway(now);
        runway.extend(of_core);
        // What ends first stands first; what never ends, last.
        runway.sort_by_key(|line| line.in_ms.unwrap_or(u64::MAX));
        let listen: Vec<String> = mesh.listening.iter().map(ToString::to_string).collect();
        json!({
            "name": self.config.node.name,
            "svid": svid,
            "runway": runway,
            "identity": self.source_of_identity(),
            "workloads": self.workloads(),
            "listen": listen,
            "refused_connections": {
                "by_code": refused_by_code(counters),
                "last": self.refusals.view(),
            },
            "socket": self.config.node.socket,
            "dir": self.config.node.dir.root(),
            "started": Time(self.started_ms),
            "federation": self.federation.status(now.wall_ms),
            "notify": self.notifier.as_ref().map_or_else(|| json!([]), |notifier| notifier.status()),
            "connectors": self.hands.views(),
            "version": env!("CARGO_PKG_VERSION"),
            "limits": bounds(self.config.is_hub()),
            "wall_clock": { "now": Time(now.wall_ms), "confidence": now.confidence },
        })
    }

    /// What is wrong that the core does not see.
    pub fn problems(&self) -> Vec<String> {
        let svid = self.source.own_status().err().map(|problem| {
            format!(
                "no peer accepts this node's SVID: {problem}; facts go over the data lane until an authority answers; \
                 then it renews by its author key"
            )
        });
        svid.into_iter().chain(self.hands.problems()).collect()
    }

    /// The SVID as a peer sees it.
    fn svid(&self) -> Value {
        match self.source.own_status() {
            Ok(own) => json!({
                "not_before": Time(own.not_before_s * 1000),
                "not_after": Time(own.not_after_s * 1000),
                "valid": true,
                "problem": null,
            }),
            Err(problem) => {
                let until = self.source.chain().first().and_then(|leaf| validity_of(leaf).ok());
                let until = until.map(|v| Time(v.not_after_s * 1000));
                json!({ "not_after": until, "valid": false, "problem": problem.to_string() })
            }
        }
    }

    /// The certificates that this node rests on: when each runs out, and what stops then.
    fn certificate_runway(&self, now: Clock) -> Vec<RunwayView> {
        let mut all = Vec::new();
        let mut line = |what: String, der: &CertificateDer<'_>, renews_at: Option<u64>, stops: &str| {
            // Unreadable ones were refused when they were loaded.
            let Ok(span) = validity_of(der) else { return };
            let mut line = RunwayView::until(what, span.not_after_s * 1000, now.wall_ms, stops);
            let life_s = span.not_after_s.saturating_sub(span.not_before_s);
            line.renews = renews_at.map(|tenths| Time((span.not_before_s + life_s / 10 * tenths) * 1000));
            all.push(line);
        };
        let chain = self.source.chain();
        if let Some((leaf, above)) = chain.split_first() {
            let stops = "the mesh lane: links end within 60 s. Facts go over the data lane; recording, and renewal by author \
                         key, go on";
            line("svid".to_owned(), leaf, Some(5), stops);
            for der in above {
                line("intermediate of the svid".to_owned(), der, None, "the svid under it ends with it");
            }
        }
        if let Some(ca) = self.holder.as_ref().and_then(|holder| holder.ca()) {
            let stops = "this node renews nobody of its site in the dark any more";
            line(format!("intermediate of site {}", ca.site()), ca.certificate(), Some(5), stops);
        }
        let bundles = self.source.bundles();
        for domain in bundles.trust_domains() {
            for root in bundles.get(domain).map(cauldron_identity::x509::Bundle::roots).unwrap_or_default() {
                let stops = "what stands under it; the authority makes it anew for the same key while it runs";
                line(format!("root certificate of {domain}"), root, Some(9), stops);
            }
        }
        all
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

    /// Where the SVID comes from, and what is wrong there.
    fn source_of_identity(&self) -> Value {
        let problem = self.health.problem();
        json!({
            "source": self.config.identity.source.name(),
            "problem": problem.as_ref().map(|p| p.why.clone()),
            "since": problem.map(|p| Time(p.since_ms)),
        })
    }

    /// What the Workload API hands out, and what it could not get.
    fn workloads(&self) -> Value {
        let Some(overview) = &self.workloads else { return Value::Null };
        let line = |line: crate::run::workloads::Line| {
            json!({
                "spiffe_id": line.spiffe_id.to_string(),
                "not_after": line.not_after_s.map(|s| Time(s * 1000)),
                "problem": line.problem,
            })
        };
        json!({
            "socket": self.config.identity.workloads.socket,
            "connections": overview.connections(),
            "identities": overview.lines().into_iter().map(line).collect::<Vec<_>>(),
        })
    }

    /// What the wire says about each peer, by SPIFFE ID.
    pub fn wires(mesh: &MeshStatus) -> BTreeMap<String, Value> {
        let wire = |link: &cauldron_mesh::LinkStatus| {
            let value = json!({
                "address": link.remote_addr.to_string(),
                "path": match link.path {
                    LinkPath::Direct => "direct",
                    LinkPath::Relayed => "relayed",
                },
                "version": link.version,
                "features": link.features.names(),
                "rtt_ms": link.rtt_ms,
                "packets_sent": link.packets_sent,
                "packets_lost": link.packets_lost,
                "loss_ppm": link.packets_lost.saturating_mul(1_000_000).checked_div(link.packets_sent),
                "bytes_in": link.bytes_in,
                "bytes_out": link.bytes_out,
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

/// Connections refused before admission, the codes that occurred.
fn refused_by_code(counters: &Counters) -> BTreeMap<&'static str, u64> {
    let counted = CloseCode::ALL.into_iter().map(|code| (code.label(), counters.refused(code)));
    counted.filter(|(_, n)| *n > 0).collect()
}
