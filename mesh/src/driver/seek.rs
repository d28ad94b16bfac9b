//! One attempt to reach a member that the node's core asked for; whom to try, and when again, is decided there.

use std::net::SocketAddr;
use std::num::NonZeroU8;

use cauldron_identity::SpiffeId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::time::timeout;

use super::Driver;
use crate::config::MeshEvent;
use crate::limits::{RESOLVE_TIME_MAX, SEEK_ADDRESSES_MAX};
use crate::peer_id::peer_id_of;
use crate::transport::multiaddr_of;

/// Whom, and where it may be.
pub(super) type Found = (SpiffeId, Vec<SocketAddr>);

impl Driver {
    /// Looks the addresses up, all at once.
    pub(super) fn seek(&mut self, spiffe_id: SpiffeId, addresses: Vec<String>) {
        self.searches.spawn(async move {
            let lookups = addresses.into_iter().take(SEEK_ADDRESSES_MAX).map(|address| async move {
                let found = timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(address)).await;
                found.ok().and_then(Result::ok).into_iter().flatten().collect::<Vec<SocketAddr>>()
            });
            let mut found: Vec<SocketAddr> = Vec::new();
            for address in futures::future::join_all(lookups).await.into_iter().flatten() {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            (spiffe_id, found)
        });
    }

    pub(super) fn on_found(&mut self, (spiffe_id, mut addresses): Found) {
        addresses.retain(|address| !self.listening.contains(address) && !address.ip().is_multicast());
        addresses.truncate(SEEK_ADDRESSES_MAX);
        if addresses.is_empty() {
            return self.report(MeshEvent::DialFailed { spiffe_id });
        }
        let opts = DialOpts::peer_id(peer_id_of(&spiffe_id))
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses.into_iter().map(multiaddr_of).collect())
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
