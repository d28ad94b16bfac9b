//! `SpiffeQuic`: a libp2p transport on quinn and rustls whose peers are SPIFFE IDs.
//!
//! Every connection it hands to libp2p is mutually authenticated by SVIDs and admitted by author keys; it is closed when
//! the peer's SVID runs out or its trust is withdrawn. One UDP port serves all lanes; the ALPN says which.

mod address;
mod endpoint;
mod error;
mod establish;
mod listener;
mod muxer;

pub(crate) use address::{multiaddr_of, socket_addr_of};
#[cfg(feature = "yardstick")]
pub(crate) use endpoint::make_room;
pub(crate) use endpoint::quic_parameters;
pub(crate) use error::EstablishError;
pub(crate) use muxer::Muxer;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use cauldron_identity::{AuthorKey, MeshId, PublicKey, SpiffeId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use tokio::sync::Semaphore;

use crate::config::Enrolled;
use crate::counters::Counters;
use crate::enrol::EnrolLane;
use crate::limits::PENDING_HANDSHAKES_MAX;
use crate::registry::Registry;
use crate::source::SvidSource;
use listener::Listener;

/// What all connections of one node share.
pub(crate) struct Shared {
    pub(crate) source: Arc<SvidSource>,
    pub(crate) author: Arc<AuthorKey>,
    pub(crate) mesh_id: MeshId,
    pub(crate) local_peer: PeerId,
    pub(crate) registry: Arc<Registry>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) enrol: EnrolLane,
    pub(crate) enrolled: Option<Enrolled>,
    pub(crate) handshakes: Arc<Semaphore>,
    pub(crate) quic: Arc<quinn::TransportConfig>,
    /// Sockets in use, so that stopping can wait for their last packets.
    endpoints: Mutex<Vec<quinn::Endpoint>>,
}

impl Shared {
    pub(crate) fn new(
        source: Arc<SvidSource>,
        author: Arc<AuthorKey>,
        mesh_id: MeshId,
        connections_max: usize,
        counters: Arc<Counters>,
        enrol: EnrolLane,
        enrolled: Option<Enrolled>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local_peer: crate::peer_id::peer_id_of(source.spiffe_id()),
            source,
            author,
            mesh_id,
            registry: Registry::new(connections_max),
            counters,
            enrol,
            enrolled,
            handshakes: Arc::new(Semaphore::new(PENDING_HANDSHAKES_MAX)),
            quic: Arc::new(endpoint::quic_parameters()),
            endpoints: Mutex::default(),
        })
    }

    pub(crate) fn endpoints(&self) -> Vec<quinn::Endpoint> {
        std::mem::take(&mut *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Under which name an author key is enrolled, where the data lane is open at all.
    pub(crate) fn name_of(&self, author: &PublicKey) -> Option<SpiffeId> {
        self.enrolled.as_ref().and_then(|enrolled| enrolled.name_of(author))
    }

    fn remember(&self, endpoint: &quinn::Endpoint) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint.clone());
    }
}

/// The transport; its `Output` always names an admitted peer.
pub(crate) struct SpiffeQuic {
    shared: Arc<Shared>,
    listeners: SelectAll<Listener>,
    /// Sockets that only dial, by family, for when no listener fits.
    dialers: BTreeMap<bool, quinn::Endpoint>,
    waker: Option<Waker>,
}

impl SpiffeQuic {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, listeners: SelectAll::new(), dialers: BTreeMap::new(), waker: None }
    }

    /// The listener's own port where possible: NAT mappings and peers' address books then stay right.
    fn endpoint_towards(&mut self, to: SocketAddr, port_use: PortUse) -> Result<quinn::Endpoint, EstablishError> {
        if port_use == PortUse::Reuse {
            if let Some(listener) = self.listeners.iter().find(|l| l.can_reach(&to)) {
                return Ok(listener.endpoint().clone());
            }
            if let Some(dialer) = self.dialers.get(&to.is_ipv6()) {
                return Ok(dialer.clone());
            }
        }
        let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let dialer = endpoint::bind(&self.shared, SocketAddr::new(any, 0), false)?;
        if port_use == PortUse::Reuse {
            self.shared.remember(&dialer);
            self.dialers.insert(to.is_ipv6(), dialer.clone());
        }
        Ok(dialer)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Transport for SpiffeQuic {
    type Output = (PeerId, Muxer);
    type Error = EstablishError;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        let socket = socket_addr_of(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let listener = Listener::open(id, self.shared.clone(), socket).map_err(TransportError::Other)?;
        self.shared.remember(listener.endpoint());
        self.dialers.remove(&socket.is_ipv6());
        self.listeners.push(listener);
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let listener = self.listeners.iter_mut().find(|l| l.id() == id);
        listener.is_some_and(|l| {
            l.close(Ok(()));
            true
        })
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let refused = || TransportError::MultiaddrNotSupported(address.clone());
        let to = socket_addr_of(&address).ok_or_else(refused)?;
        if to.port() == 0 || to.ip().is_unspecified() {
            return Err(refused());
        }
        match (opts.role, opts.port_use) {
            // Hole punching needs a relay to agree on the moment; there is none yet.
            (Endpoint::Listener, PortUse::New) => Err(refused()),
            (Endpoint::Dialer, _) | (Endpoint::Listener, PortUse::Reuse) => {
                let endpoint = self.endpoint_towards(to, opts.port_use).map_err(TransportError::Other)?;
                Ok(Box::pin(establish::dial(self.shared.clone(), endpoint, to)))
            }
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        if let Poll::Ready(Some(event)) = self.listeners.poll_next_unpin(cx) {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
