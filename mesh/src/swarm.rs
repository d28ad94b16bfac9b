//! The libp2p Swarm of a node: our transport, circuits through relays, ping, identify, connection limits and streams.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{Config, NetworkBehaviour, Swarm};
use libp2p::{Multiaddr, PeerId, Transport, connection_limits, dcutr, identify, ping, relay};

use crate::limits::{self, BIDI_STREAMS_MAX, CONNECTIONS_PER_PEER_MAX, PENDING_HANDSHAKES_MAX};
use crate::members::MembersRelay;
use crate::peer_id::synthetic_key_of;
use crate::transport::{Circuit, End, EstablishError, Shared, SpiffeQuic, establish_circuit, relay_addr_of};

/// Everything libp2p does on our connections.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    pub(crate) stream: libp2p_stream::Behaviour,
    circuits: relay::client::Behaviour,
    relay: Toggle<MembersRelay>,
    punch: dcutr::Behaviour,
}

pub(crate) fn build(shared: &Arc<Shared>) -> Swarm<Behaviour> {
    let (relayed, circuits) = relay::client::new(shared.local_peer);
    let identify = identify::Config::new("/cauldron/0".to_owned(), synthetic_key_of(shared.source.spiffe_id()))
        .with_agent_version(concat!("cauldron/", env!("CARGO_PKG_VERSION")).to_owned())
        // Whom to dial is configuration; what peers say about addresses must not decide it.
        .with_cache_size(0);
    let pending = u32::try_from(PENDING_HANDSHAKES_MAX).ok();
    // The registry already counts connections, with codes that the peer can read; these limits are the second wall. Direct
    // and relayed ones count each for themselves.
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(pending)
        .with_max_pending_outgoing(pending)
        .with_max_established_per_peer(u32::try_from(2 * CONNECTIONS_PER_PEER_MAX).ok());
    let relay = || relay::Behaviour::new(shared.local_peer, relay_bounds());
    let served = shared.relay.then(|| MembersRelay::new(relay(), shared.clone()));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        ping: ping::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        stream: libp2p_stream::Behaviour::new(),
        circuits,
        relay: served.into(),
        punch: dcutr::Behaviour::new(shared.local_peer),
    };
    let config = Config::with_tokio_executor()
        .with_max_negotiating_inbound_streams(BIDI_STREAMS_MAX as usize)
        // Links live as long as their connections; QUIC's own idle time-out finds the dead ones.
        .with_idle_connection_timeout(Duration::MAX);
    Swarm::new(transport(shared, relayed), behaviour, shared.local_peer, config)
}

/// Our sockets, and circuits through relays with the same TLS and admission inside.
fn transport(shared: &Arc<Shared>, relayed: relay::client::Transport) -> Boxed<(PeerId, StreamMuxerBox)> {
    let for_circuits = shared.clone();
    let circuits = relayed.map_err(|e| EstablishError::Relay(sentence(&e))).and_then(move |io, endpoint| {
        let ends = ends(&endpoint);
        async move {
            let (end, relay) = ends.ok_or_else(|| EstablishError::Relay(format!("{endpoint:?} names no relay")))?;
            establish_circuit(for_circuits, io, end, relay).await
        }
    });
    let circuits = circuits.map_err(|e| e.into_inner());
    OrTransport::new(circuits, SpiffeQuic::new(shared.clone()))
        .map(|connection, _| match connection {
            Either::Left((peer, circuit)) => {
                let circuit: Circuit<relay::client::Connection> = circuit;
                (peer, StreamMuxerBox::new(circuit))
            }
            Either::Right((peer, direct)) => (peer, StreamMuxerBox::new(direct)),
        })
        .map_err(|e| e.into_inner())
        .boxed()
}

/// Which end of a circuit we are, and where its relay is.
fn ends(endpoint: &ConnectedPoint) -> Option<(End, std::net::SocketAddr)> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => Some((End::Dialer(wanted(address)?), relay_addr_of(address)?)),
        ConnectedPoint::Listener { local_addr, .. } => Some((End::Listener, relay_addr_of(local_addr)?)),
    }
}

/// The peer behind the relay.
fn wanted(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// An error with its causes: libp2p's say little by themselves.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text} {why}");
        cause = why.source();
    }
    text
}

fn relay_bounds() -> relay::Config {
    let none =
        relay::Config { reservation_rate_limiters: vec![], circuit_src_rate_limiters: vec![], ..Default::default() };
    let bounds = relay::Config {
        max_reservations: limits::RELAY_RESERVATIONS_MAX,
        // Per peer libp2p lets in one more than it says.
        max_reservations_per_peer: limits::RELAY_RESERVATIONS_PER_PEER_MAX - 1,
        reservation_duration: limits::RELAY_RESERVATION_TIME,
        max_circuits: limits::RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: limits::RELAY_CIRCUITS_PER_PEER_MAX - 1,
        max_circuit_duration: limits::RELAY_CIRCUIT_TIME_MAX,
        max_circuit_bytes: limits::RELAY_CIRCUIT_BYTES_MAX,
        ..none
    };
    match NonZeroU32::new(limits::RELAY_ASKS_BURST) {
        Some(burst) => bounds
            .reservation_rate_per_peer(burst, limits::RELAY_ASKS_REFILL)
            .circuit_src_per_peer(burst, limits::RELAY_ASKS_REFILL),
        None => bounds,
    }
}
