//! libp2p's relay, for members alone: a valid SVID opens no circuit, an enrolled author key does.

use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, relay};

use crate::transport::Shared;

/// The relay, in front of which stands the question who asks.
pub(crate) struct MembersRelay {
    inner: relay::Behaviour,
    shared: Arc<Shared>,
}

impl MembersRelay {
    pub(crate) fn new(inner: relay::Behaviour, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// Whether the peer has proven an author key that is enrolled under its name now. A node that knows of no enrolment
    /// serves whoever is linked.
    fn serves(&self, peer: &PeerId) -> bool {
        if self.shared.enrolled.is_none() {
            return true;
        }
        let info = self.shared.registry.info(peer);
        info.is_some_and(|info| self.shared.name_of(&info.author).is_some_and(|name| name == info.spiffe_id))
    }
}

impl NetworkBehaviour for MembersRelay {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        // What a stranger asks ends with its request: the stream is dropped, and nothing was promised. Whether somebody is
        // a member is asked at each request, because an enrolment may arrive after the link.
        if self.serves(&peer) {
            self.inner.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
