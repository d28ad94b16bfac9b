//! One listening UDP socket: which addresses it has, and whom it starts a handshake with.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use libp2p::core::transport::{ListenerId, TransportEvent};

use super::{EstablishError, Shared, SpiffeQuic, endpoint, establish, multiaddr_of};
use crate::code::CloseCode;
use crate::limits::{PENDING_HANDSHAKES_MAX, PENDING_HANDSHAKES_RETRY};
use crate::net::{InterfaceEvent, Interfaces};

type Event = TransportEvent<<SpiffeQuic as libp2p::Transport>::ListenerUpgrade, EstablishError>;

/// A listening socket; ends its stream after it was closed.
pub(super) struct Listener {
    id: ListenerId,
    shared: Arc<Shared>,
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    accept: BoxFuture<'static, Option<quinn::Incoming>>,
    /// Only for a wildcard address: one listening address per interface.
    interfaces: Option<Interfaces>,
    addresses: BTreeSet<IpAddr>,
    events: VecDeque<Event>,
    closed: bool,
    waker: Option<Waker>,
}

impl Listener {
    pub(super) fn open(id: ListenerId, shared: Arc<Shared>, address: SocketAddr) -> Result<Self, EstablishError> {
        let endpoint = endpoint::bind(&shared, address, true)?;
        let local = endpoint.local_addr().map_err(|source| EstablishError::Bind { address, source })?;
        let mut listener = Self {
            id,
            shared,
            accept: accept(endpoint.clone()),
            endpoint,
            local,
            interfaces: None,
            addresses: BTreeSet::new(),
            events: VecDeque::new(),
            closed: false,
            waker: None,
        };
        if local.ip().is_unspecified() {
            listener.interfaces = Some(listener.shared.net.interfaces().map_err(EstablishError::Interfaces)?);
        } else {
            listener.up(local.ip());
        }
        Ok(listener)
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    pub(super) fn endpoint(&self) -> &quinn::Endpoint {
        &self.endpoint
    }

    /// Whether packets sent from this socket can arrive at `to`.
    pub(super) fn can_reach(&self, to: &SocketAddr) -> bool {
        let own = self.local.ip();
        !self.closed
            && own.is_ipv4() == to.is_ipv4()
            && (own.is_unspecified() || own.is_loopback() == to.ip().is_loopback())
    }

    /// Takes no new connections; live ones go on.
    pub(super) fn close(&mut self, reason: Result<(), EstablishError>) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.endpoint.set_server_config(None);
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn up(&mut self, ip: IpAddr) {
        if self.addresses.insert(ip) {
            let listen_addr = multiaddr_of(SocketAddr::new(ip, self.local.port()));
            self.events.push_back(TransportEvent::NewAddress { listener_id: self.id, listen_addr });
        }
    }

    fn down(&mut self, ip: IpAddr) {
        if self.addresses.remove(&ip) {
            let listen_addr = multiaddr_of(SocketAddr::new(ip, self.local.port()));
            self.events.push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
    }

    fn poll_interfaces(&mut self, cx: &mut Context<'_>) {
        while let Some(interfaces) = &mut self.interfaces {
            match interfaces.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(InterfaceEvent::Up(ip)))) if self.serves(ip) => self.up(ip),
                Poll::Ready(Some(Ok(InterfaceEvent::Up(_)))) => {}
                Poll::Ready(Some(Ok(InterfaceEvent::Down(ip)))) => self.down(ip),
                Poll::Ready(Some(Err(error))) => {
                    let error = EstablishError::Interfaces(error);
                    self.events.push_back(TransportEvent::ListenerError { listener_id: self.id, error });
                    self.interfaces = None;
                }
                Poll::Ready(None) => self.interfaces = None,
                Poll::Pending => return,
            }
        }
    }

    /// Whether others can reach a wildcard socket at this address. A link-local IPv6 address means nothing without the
    /// name of an interface (RFC 4007 §6), which differs from machine to machine.
    fn serves(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.local.is_ipv4(),
            IpAddr::V6(ip) => self.local.is_ipv6() && !ip.is_unicast_link_local(),
        }
    }

    /// Bounds what strangers cost before they have proven anything.
    fn consider(&mut self, incoming: quinn::Incoming) -> Option<Event> {
        let counters = &self.shared.counters;
        let remote = incoming.remote_address();
        let Ok(slot) = self.shared.handshakes.clone().try_acquire_owned() else {
            counters.count_refused(CloseCode::Busy);
            incoming.refuse();
            return None;
        };
        let in_flight = PENDING_HANDSHAKES_MAX - self.shared.handshakes.available_permits();
        if in_flight > PENDING_HANDSHAKES_RETRY && !incoming.remote_address_validated() {
            counters.handshakes_retried.fetch_add(1, Relaxed);
            // Fails only for an address that is validated already.
            let _ = incoming.retry();
            return None;
        }
        Some(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: establish::accept(self.shared.clone(), incoming, slot).boxed(),
            local_addr: multiaddr_of(self.local),
            send_back_addr: multiaddr_of(remote),
        })
    }
}

fn accept(endpoint: quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    async move { endpoint.accept().await }.boxed()
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.closed {
                return Poll::Ready(None);
            }
            self.poll_interfaces(cx);
            if !self.events.is_empty() {
                continue;
            }
            match self.accept.poll_unpin(cx) {
                Poll::Ready(Some(incoming)) => {
                    self.accept = accept(self.endpoint.clone());
                    if let Some(event) = self.consider(incoming) {
                        return Poll::Ready(Some(event));
                    }
                }
                Poll::Ready(None) => self.close(Ok(())),
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}
