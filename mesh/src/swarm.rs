//! The libp2p Swarm of a node: our transport, ping, identify, connection limits and streams.

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::swarm::{Config, NetworkBehaviour, Swarm};
use libp2p::{Transport, connection_limits, identify, ping};

use crate::limits::{BIDI_STREAMS_MAX, CONNECTIONS_PER_PEER_MAX, PENDING_HANDSHAKES_MAX};
use crate::peer_id::synthetic_key_of;
use crate::transport::{Shared, SpiffeQuic};

/// Everything libp2p does on our connections.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    pub(crate) stream: libp2p_stream::Behaviour,
}

pub(crate) fn build(shared: &Arc<Shared>) -> Swarm<Behaviour> {
    let transport = SpiffeQuic::new(shared.clone()).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed();
    let identify = identify::Config::new("/cauldron/0".to_owned(), synthetic_key_of(shared.source.spiffe_id()))
        .with_agent_version(concat!("cauldron/", env!("CARGO_PKG_VERSION")).to_owned())
        // Whom to dial is configuration; what peers say about addresses must not decide it.
        .with_cache_size(0);
    let pending = u32::try_from(PENDING_HANDSHAKES_MAX).ok();
    // The registry already counts connections, with codes that the peer can read; these limits are the second wall.
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(pending)
        .with_max_pending_outgoing(pending)
        .with_max_established_per_peer(u32::try_from(CONNECTIONS_PER_PEER_MAX).ok());
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        ping: ping::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        stream: libp2p_stream::Behaviour::new(),
    };
    let config = Config::with_tokio_executor()
        .with_max_negotiating_inbound_streams(BIDI_STREAMS_MAX as usize)
        // Links live as long as their connections; QUIC's own idle time-out finds the dead ones.
        .with_idle_connection_timeout(Duration::MAX);
    Swarm::new(transport, behaviour, shared.local_peer, config)
}
