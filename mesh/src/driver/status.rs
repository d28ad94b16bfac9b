//! The state of the mesh at one moment.

use tokio::time::Instant;

use super::Driver;
use crate::handle::{LinkStatus, MeshStatus, ReservationStatus, TargetStatus};
use crate::hello::Features;

impl Driver {
    pub(super) fn status(&self) -> MeshStatus {
        let now = Instant::now();
        let links = self.links.iter().map(|(peer, link)| {
            let path = self.shared.registry.path(peer);
            let traffic = path.map(|path| path.traffic).unwrap_or_default();
            let (queued_frames, queued_bytes) = link.outbox.depth();
            LinkStatus {
                link: link.number,
                spiffe_id: link.info.spiffe_id.clone(),
                author: link.info.author,
                svid_not_after_s: link.info.svid_not_after_s,
                version: link.info.version,
                features: link.info.process.map_or(Features::NONE, |process| process.features),
                // Between the end of its last connection and the link's own there is nothing to look at.
                remote_addr: path.map_or(link.remote, |path| path.remote),
                path: link.path,
                dialer: link.dialer,
                connections: path.map_or(0, |path| path.connections),
                rtt_ms: u64::try_from(traffic.rtt.as_millis()).unwrap_or(u64::MAX),
                packets_sent: traffic.packets_sent,
                packets_lost: traffic.packets_lost,
                bytes_out: traffic.bytes_out,
                bytes_in: traffic.bytes_in,
                queued_frames,
                queued_bytes,
            }
        });
        let targets = self.dialler.targets().map(|(address, target)| {
            let (up, wait) = target.status(now);
            TargetStatus {
                address: address.clone(),
                up,
                last_error: target.last_error.clone(),
                next_dial_in_ms: wait.map(|w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX)),
            }
        });
        let reservations = self.reservations.iter().map(|wanted| ReservationStatus {
            relay: wanted.relay.clone(),
            held: wanted.held(),
            last_error: wanted.last_error.clone(),
        });
        MeshStatus {
            listening: self.listening.iter().copied().collect(),
            links: links.collect(),
            targets: targets.collect(),
            reservations: reservations.collect(),
        }
    }
}
