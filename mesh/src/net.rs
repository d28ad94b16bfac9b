//! The seam to the network: sockets, their runtime, and which addresses the machine has. Production uses [`RealNet`]; a
//! simulation brings its own, with virtual time and packets that it may lose.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use quinn::{AsyncUdpSocket, Runtime};
use socket2::{Domain, Protocol, Socket, Type};

/// An address of this machine came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceEvent {
    /// The address can be listened on.
    Up(IpAddr),
    /// It is gone.
    Down(IpAddr),
}

/// Addresses coming and going; the ones that are there come first, as [`InterfaceEvent::Up`].
pub type Interfaces = Pin<Box<dyn Stream<Item = io::Result<InterfaceEvent>> + Send>>;

/// What the wires need of a network.
pub trait Net: Debug + Send + Sync + 'static {
    /// Opens a UDP socket. IPv6 sockets take no IPv4 traffic, so that an address never has two spellings.
    ///
    /// # Errors
    /// The system's, when the address is taken or not ours.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Timers and tasks of the QUIC connections.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Watches the addresses of this machine, for sockets on a wildcard address. A network without such sockets has none.
    ///
    /// # Errors
    /// The system's, when it cannot be asked.
    fn interfaces(&self) -> io::Result<Interfaces> {
        Ok(Box::pin(futures::stream::empty()))
    }

    /// Seeds the randomness of QUIC that no secret rests on (connection ids, skipped packet numbers); `None` takes the
    /// operating system's. Never set outside a simulation.
    fn rng_seed(&self) -> Option<[u8; 32]> {
        None
    }
}

/// The machine's own network, under tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNet;

impl RealNet {
    /// Whether the mesh could listen at this address now: the socket is opened and given back.
    ///
    /// # Errors
    /// The system's, when the address is taken or not ours.
    pub fn is_free(address: SocketAddr) -> io::Result<()> {
        socket(address).map(drop)
    }
}

fn socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    make_room(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Net for RealNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.runtime().wrap_udp_socket(socket(address)?)
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn interfaces(&self) -> io::Result<Interfaces> {
        let events = IfWatcher::new()?.map(|event| {
            event.map(|event| match event {
                IfEvent::Up(net) => InterfaceEvent::Up(net.addr()),
                IfEvent::Down(net) => InterfaceEvent::Down(net.addr()),
            })
        });
        Ok(Box::pin(events))
    }
}

/// Asks for a receive buffer that outlasts a burst. The system may give less, which costs packets and breaks nothing.
pub(crate) fn make_room(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(crate::limits::SOCKET_BUFFER_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_serves_both_families_in_two_sockets_and_a_taken_one_is_not_free() {
        let four = socket("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let at = four.local_addr().expect("bound");
        assert_eq!(RealNet::is_free(at).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        let every_six = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), at.port());
        RealNet::is_free(every_six).expect("the other family has a port of its own");
        drop(four);
        RealNet::is_free(at).expect("given back");
    }

    /// Without segmentation offload bulk is less than half as fast (measured: 150 instead of 370 MiB/s).
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn sockets_offer_segmentation_offload_and_quic_uses_it() {
        let socket = RealNet.bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        assert!(socket.max_transmit_segments() > 1, "the socket sends one datagram per call");
        let parameters = format!("{:?}", crate::transport::quic_parameters());
        assert!(parameters.contains("enable_segmentation_offload: true"), "{parameters}");
    }
}
