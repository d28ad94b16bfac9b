//! One attempt to reach a member that the node's core asked for; whom to try, and when again, is decided there.

use std::net::SocketAddr;
use std::num::NonZeroU8;

use cauldron_identity::SpiffeId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::timeout;

use super::Driver;
use crate::config::MeshEvent;
use crate::limits::{RESOLVE_TIME_MAX, SEEK_ADDRESSES_MAX};
use crate::peer_id::peer_id_of;
use crate::transport::multiaddr_of;

/// What stands in front of the name of a relay, where others have an address.
const VIA: &str = "via ";

/// Whom, where it may be, and through which relays it can be reached.
pub(super) type Found = (SpiffeId, Vec<SocketAddr>, Vec<PeerId>);

impl Driver {
    /// Looks the addresses up, all at once.
    pub(super) fn seek(&mut self, spiffe_id: SpiffeId, addresses: Vec<String>) {
        let relay = |address: &String| SpiffeId::new(address.strip_prefix(VIA)?).ok().map(|id| peer_id_of(&id));
        let relays = addresses.iter().filter_map(relay).collect();
        self.searches.spawn(async move {
            let direct = addresses.into_iter().filter(|address| !address.starts_with(VIA));
            let lookups = direct.take(SEEK_ADDRESSES_MAX).map(|address| async move {
                let found = timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(address)).await;
                found.ok().and_then(Result::ok).into_iter().flatten().collect::<Vec<SocketAddr>>()
            });
            let mut found: Vec<SocketAddr> = Vec::new();
            for address in futures::future::join_all(lookups).await.into_iter().flatten() {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            (spiffe_id, found, relays)
        });
    }

    pub(super) fn on_found(&mut self, (spiffe_id, mut addresses, relays): Found) {
        addresses.retain(|address| !self.listening.contains(address) && !address.ip().is_multicast());
        addresses.truncate(SEEK_ADDRESSES_MAX);
        let peer = peer_id_of(&spiffe_id);
        // Directly if that works; otherwise through a relay that is linked.
        let through = |relay: &PeerId| {
            let at = multiaddr_of(self.relay_at(relay).ok()?).with(Protocol::P2p(*relay));
            Some(at.with(Protocol::P2pCircuit).with(Protocol::P2p(peer)))
        };
        let circuits: Vec<Multiaddr> = relays.iter().filter(|relay| **relay != peer).filter_map(through).collect();
        let ways: Vec<Multiaddr> = addresses.into_iter().map(multiaddr_of).chain(circuits).collect();
        if ways.is_empty() {
            return self.report(MeshEvent::DialFailed { spiffe_id });
        }
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(ways)
            // One after the other, or a peer with two families would have two connections.
            .override_dial_concurrency_factor(NonZeroU8::MIN)
            .build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.sought.insert(connection, spiffe_id);
            }
            Err(error) => {
                tracing::debug!(peer = %spiffe_id, %error, "not dialled");
                self.report(MeshEvent::DialFailed { spiffe_id });
            }
        }
    }
}
