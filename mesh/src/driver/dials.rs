//! Dialling: names, relays, and what went wrong.

use std::net::SocketAddr;

use cauldron_identity::SpiffeId;
use libp2p::core::transport::TransportError;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, ListenError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout};

use super::Driver;
use crate::code::CloseCode;
use crate::config::{Direction, MeshEvent};
use crate::limits::RESOLVE_TIME_MAX;
use crate::peer_id::peer_id_of;
use crate::transport::{EstablishError, multiaddr_of, relay_addr_of, socket_addr_of};

impl Driver {
    /// Stays connected with a peer through a relay.
    pub(super) fn add_target_through(&mut self, relay: &SpiffeId, target: &SpiffeId) {
        let (name, peer) = (format!("{target} via {relay}"), peer_id_of(target));
        let linked = self.links.contains_key(&peer);
        self.dialler.add_through(name, peer_id_of(relay), peer, linked, Instant::now());
    }

    pub(super) fn look_up_due(&mut self) {
        for address in self.dialler.due(Instant::now()) {
            if let Some((relay, _)) = self.dialler.through(&address) {
                match self.relay_at(&relay) {
                    Ok(at) => self.on_lookup(&address, Ok(vec![at])),
                    Err(why) => self.dialler.not_started(&address, why.to_owned(), Instant::now()),
                }
                continue;
            }
            self.lookups.spawn(async move {
                let found = match timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(&address)).await {
                    Ok(Ok(found)) => Ok(found.collect()),
                    Ok(Err(e)) => Err(e.to_string()),
                    Err(_) => Err("the name server does not answer".to_owned()),
                };
                (address, found)
            });
        }
    }

    pub(super) fn on_lookup(&mut self, address: &str, found: Result<Vec<SocketAddr>, String>) {
        if let Some(to) = self.dialler.resolved(address, found, Instant::now()) {
            self.dial(address, to);
        }
    }

    fn dial(&mut self, address: &str, to: SocketAddr) {
        let way = match self.dialler.through(address) {
            Some((relay, peer)) => {
                multiaddr_of(to).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
            }
            None if self.listening.contains(&to) => {
                return self.dialler.not_started(address, format!("{to}: the address is our own"), Instant::now());
            }
            None => multiaddr_of(to),
        };
        let opts = DialOpts::unknown_peer_id().address(way).build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dialler.dialling(address, connection),
            Err(e) => self.dialler.not_started(address, format!("{to}: {}", dial_reason(&e).1), Instant::now()),
        }
    }

    pub(super) fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        if let Some(spiffe_id) = self.sought.remove(&connection) {
            self.report(MeshEvent::DialFailed { spiffe_id });
        }
        let (code, reason) = dial_reason(error);
        let remote = match error {
            DialError::Transport(tried) => tried.first().and_then(|(address, _)| end_of(address)),
            DialError::LocalPeerId { address } | DialError::WrongPeerId { address, .. } => end_of(address),
            _ => None,
        };
        if let Some(code) = code {
            self.shared.counters.count_refused(code);
            if let Some(remote) = remote {
                let direction = Direction::Outbound;
                self.report(MeshEvent::Refused { direction, remote, reason: reason.clone(), code });
            }
        }
        let sentence = remote.map_or_else(|| reason.clone(), |remote| format!("{remote}: {reason}"));
        if let Some((address, next)) = self.dialler.dial_failed(connection, peer, &sentence, Instant::now()) {
            self.dial(&address, next);
        }
        if let Some(peer) = peer.filter(|peer| self.links.contains_key(peer)) {
            self.dialler.link_up(peer);
        }
    }

    pub(super) fn on_refused_inbound(&mut self, from: Option<SocketAddr>, error: &ListenError) {
        let (code, reason) = match error {
            ListenError::Transport(TransportError::Other(io)) => match establish_error(io) {
                Some(EstablishError::EnrolLane) => return,
                Some(e) => (e.code(), e.to_string()),
                None => (CloseCode::Protocol, io.to_string()),
            },
            ListenError::Denied { cause } => (CloseCode::TooManyConnections, cause.to_string()),
            ListenError::LocalPeerId { .. } => (CloseCode::Ourselves, "the address is our own".to_owned()),
            other => (CloseCode::Protocol, other.to_string()),
        };
        self.shared.counters.count_refused(code);
        if let Some(remote) = from {
            self.report(MeshEvent::Refused { direction: Direction::Inbound, remote, reason, code });
        }
    }
}

/// The other end of an address, as far as UDP says: of a circuit, its relay.
fn end_of(address: &Multiaddr) -> Option<SocketAddr> {
    socket_addr_of(address).or_else(|| relay_addr_of(address))
}

/// Our own error inside libp2p's boxes.
pub(super) fn establish_error(io: &std::io::Error) -> Option<&EstablishError> {
    io.get_ref()?.downcast_ref()
}

/// The sentence for a failed dial, and a code if somebody refused somebody (an address that nobody answers at is no
/// refusal).
fn dial_reason(error: &DialError) -> (Option<CloseCode>, String) {
    match error {
        DialError::Transport(tried) => match tried.first().map(|(_, e)| e) {
            Some(TransportError::Other(io)) => match establish_error(io) {
                Some(e @ (EstablishError::Timeout | EstablishError::Connect(_) | EstablishError::Bind { .. })) => {
                    (None, e.to_string())
                }
                Some(e @ (EstablishError::Relay(_) | EstablishError::Circuit(_))) => (None, e.to_string()),
                Some(EstablishError::Quic(quinn::ConnectionError::TimedOut)) => (None, "no answer".to_owned()),
                Some(e) => (Some(e.code()), e.to_string()),
                None => (None, io.to_string()),
            },
            Some(TransportError::MultiaddrNotSupported(_)) => (None, "not an address to dial".to_owned()),
            None => (None, "no address".to_owned()),
        },
        DialError::Denied { cause } => (Some(CloseCode::TooManyConnections), cause.to_string()),
        DialError::LocalPeerId { .. } => (Some(CloseCode::Ourselves), "the address is our own".to_owned()),
        other => (None, other.to_string()),
    }
}
