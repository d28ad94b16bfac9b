//! Networks in which not everybody reaches everybody, out of the real one.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};

use crate::net::Interfaces;
use crate::{Net, RealNet};

/// What stands between the sockets of one test. Whoever is bound through it is behind a wall of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Walls(Arc<Mutex<Ground>>);

#[derive(Debug, Default)]
struct Ground {
    /// Whether a packet gets in from where one was sent to before, as with a NAT; otherwise nothing gets in from another
    /// walled socket.
    nat: bool,
    inside: BTreeSet<SocketAddr>,
    sent: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Walls {
    /// Nothing gets from one to the other.
    pub(super) fn closed() -> Self {
        Self::default()
    }

    /// What was sent opens the way back.
    pub(super) fn nats() -> Self {
        Self(Arc::new(Mutex::new(Ground { nat: true, ..Ground::default() })))
    }

    fn lets_through(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let mut ground = self.0.lock().expect("no test panics here");
        ground.sent.insert((from, to));
        !ground.inside.contains(&to) || (ground.nat && ground.sent.contains(&(to, from)))
    }
}

impl Net for Walls {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = RealNet.bind(address)?;
        let own = inner.local_addr()?;
        self.0.lock().expect("no test panics here").inside.insert(own);
        Ok(Arc::new(Walled { inner, own, walls: self.clone() }))
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        RealNet.runtime()
    }

    fn interfaces(&self) -> io::Result<Interfaces> {
        RealNet.interfaces()
    }
}

#[derive(Debug)]
struct Walled {
    inner: Arc<dyn AsyncUdpSocket>,
    own: SocketAddr,
    walls: Walls,
}

impl AsyncUdpSocket for Walled {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.walls.lets_through(self.own, transmit.destination) { self.inner.try_send(transmit) } else { Ok(()) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
