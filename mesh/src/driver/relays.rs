//! Relays: which keep a way open to us, which can be used; the move from a circuit to a direct connection, and what of a
//! link's end belongs to it.

use std::net::SocketAddr;

use libp2p::PeerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::{Closing, Driver, Link, MOVED};
use crate::code::CloseCode;
use crate::config::LinkPath;
use crate::limits::OBSERVED_ADDRESS_TIME_MAX;
use crate::link::Ended;
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

    /// One of a link's two tasks is over.
    pub(super) fn on_ended(&mut self, ended: &Ended) {
        let Some(peer) = self.live(ended.link) else { return };
        if ended.untaken && self.links.get(&peer).is_some_and(|link| link.path == LinkPath::Direct) {
            // A stream of a circuit that is gone came late. Nothing was read of it, and the peer opens another one.
            if let Some(link) = self.links.get_mut(&peer) {
                link.reader = None;
            }
            return;
        }
        let relayed = self.links.get(&peer).is_some_and(|link| link.path == LinkPath::Relayed);
        // A circuit that ends inside a frame cuts it, and says no more than an end of the stream does.
        let broken = ended.code == CloseCode::StreamLost || (relayed && ended.code == CloseCode::FrameTruncated);
        if broken && relayed && self.shared.registry.is_direct(&peer) {
            // The peer has moved already. libp2p is about to tell of the direct connection: the next link is its.
            self.end(peer, Closing(Some(MOVED.to_owned())));
            return self.shared.registry.close_relayed(&peer);
        }
        match if broken { self.shared.registry.lost(&peer) } else { None } {
            // The stream broke because its connection did; a second connection cannot carry the link on without a gap.
            Some(reason) => {
                self.end(peer, Closing(reason));
                self.shared.registry.close(&peer, CloseCode::LinkRestarted, "the link's other connection was lost");
            }
            None => self.close(ended.link, ended.code, &ended.reason),
        }
    }
}
