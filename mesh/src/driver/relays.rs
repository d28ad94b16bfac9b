//! Relays: which keep a way open to us, which can be used, and the move from a circuit to a direct connection.

use std::net::SocketAddr;

use libp2p::PeerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::{Driver, Link, MOVED};
use crate::config::LinkPath;
use crate::limits::OBSERVED_ADDRESS_TIME_MAX;
use crate::transport::multiaddr_of;

impl Driver {
    /// Asks relays that are linked to keep a way open.
    pub(super) fn reserve_due(&mut self) {
        let links = &self.links;
        let due = self.reservations.due(Instant::now(), |peer| links.get(peer).is_some_and(Link::carries_circuits));
        for relay in due {
            let at = match self.relay_at(&relay) {
                Ok(at) => at,
                Err(why) => {
                    self.reservations.not_asked(&relay, why.to_owned(), Instant::now());
                    continue;
                }
            };
            let way = multiaddr_of(at).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
            match self.swarm.listen_on(way) {
                Ok(listener) => self.reservations.asked(&relay, listener),
                Err(e) => self.reservations.not_asked(&relay, e.to_string(), Instant::now()),
            }
        }
    }

    /// Where a relay is that can be used now.
    pub(super) fn relay_at(&self, relay: &PeerId) -> Result<SocketAddr, &'static str> {
        let link = self.links.get(relay).filter(|link| link.carries_circuits());
        let link = link.ok_or("there is no direct link to the relay")?;
        if !self.observed && link.since.elapsed() < OBSERVED_ADDRESS_TIME_MAX {
            return Err("this node does not know yet how others see its address");
        }
        Ok(link.remote)
    }

    /// A direct connection takes over from a relayed one. Frames may be on their way through the relay, and a link has no
    /// gap: so one link ends and another begins, on a connection that is there already.
    pub(super) fn move_link(&mut self, peer: PeerId, dialer: bool) {
        self.shared.registry.close_relayed(&peer);
        self.finish_link(peer, MOVED);
        // Until libp2p has let go of the circuit, a stream of the new link could still be opened in it.
        self.moving.insert(peer, dialer);
        if !self.circuits.contains_key(&peer) {
            self.moved(peer);
        }
    }

    /// One of a peer's connections is gone.
    pub(super) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(circuits) = self.circuits.get_mut(&peer)
            && circuits.remove(&connection)
            && circuits.is_empty()
        {
            self.circuits.remove(&peer);
            self.moved(peer);
        }
    }

    /// The last circuit of a peer is gone: the direct link begins, if there was one to begin.
    fn moved(&mut self, peer: PeerId) {
        let Some(dialer) = self.moving.remove(&peer) else { return };
        let remote = self.shared.registry.path(&peer).filter(|path| !path.relayed).map(|path| path.remote);
        if let Some(remote) = remote {
            self.start_link(peer, remote, LinkPath::Direct, dialer);
        }
    }
}
