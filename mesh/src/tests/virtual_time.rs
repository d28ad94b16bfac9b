//! The seam to the network: the real Swarm on a network in memory, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use cauldron_mesh_core::lanes::{About, Lane, Lanes, WINDOW_MAX};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use tokio::time::{Instant, Sleep};

use super::*;
use crate::limits::IDLE_TIME_MAX;
use crate::{Net, ProcessNonce};

const DELAY: Duration = Duration::from_millis(20);

/// Sockets that are queues, 20 ms apart.
#[derive(Debug, Clone, Default)]
struct MemoryNet {
    queues: Arc<Mutex<BTreeMap<SocketAddr, Queue>>>,
    cut: Arc<AtomicBool>,
    /// What each direction carries, bytes in a second.
    rate: Option<u64>,
}

/// What a thin line keeps for later; beyond, packets are lost, as in any router.
const BUFFER_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    waker: Option<Waker>,
    /// Until when the line is busy.
    busy: Option<Instant>,
}

impl MemoryNet {
    fn queues(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Queue>> {
        self.queues.lock().expect("no test panics here")
    }
}

impl Net for MemoryNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.queues().insert(address, Queue::default());
        let timer = Mutex::new(Box::pin(tokio::time::sleep(Duration::ZERO)));
        Ok(Arc::new(MemorySocket { net: self.clone(), own: address, timer }))
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn rng_seed(&self) -> Option<[u8; 32]> {
        Some([7; 32])
    }
}

#[derive(Debug)]
struct MemorySocket {
    net: MemoryNet,
    own: SocketAddr,
    timer: Mutex<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for MemorySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.net.cut.load(SeqCst) {
            return Ok(());
        }
        if let Some(queue) = self.net.queues().get_mut(&transmit.destination) {
            let now = Instant::now();
            let mut sent = queue.busy.unwrap_or(now).max(now);
            if let Some(rate) = self.net.rate {
                if sent > now + BUFFER_TIME {
                    return Ok(());
                }
                sent += Duration::from_micros(transmit.contents.len() as u64 * 1_000_000 / rate);
                queue.busy = Some(sent);
            }
            queue.packets.push_back((sent + DELAY, self.own, transmit.contents.to_vec()));
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queues = self.net.queues();
        let queue = queues.get_mut(&self.own).expect("bound");
        queue.waker = Some(cx.waker().clone());
        let Some(due) = queue.packets.front().map(|packet| packet.0) else { return Poll::Pending };
        if due > Instant::now() {
            let mut timer = self.timer.lock().expect("no test panics here");
            timer.as_mut().reset(due);
            std::task::ready!(timer.as_mut().poll(cx));
        }
        let (_, from, bytes) = queue.packets.pop_front().expect("looked at");
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return Poll::Pending };
        buffer.get_mut(..bytes.len()).expect("room").copy_from_slice(&bytes);
        *meta = RecvMeta { addr: from, len: bytes.len(), stride: bytes.len(), ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.own)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Two nodes on this network.
async fn pair(world: &World, net: &MemoryNet) -> (Node, Node) {
    let config = |name: &str, at: &str, nonce: u8| MeshConfig {
        listen: vec![at.parse().expect("an address")],
        net: Arc::new(net.clone()),
        process: ProcessNonce::from_bytes([nonce; 16]),
        ..world.config(name)
    };
    (Node::start(config("a", "10.0.0.1:7443", 1)).await, Node::start(config("b", "10.0.0.2:7443", 2)).await)
}

#[tokio::test(start_paused = true)]
async fn the_real_swarm_runs_on_a_network_in_memory_in_virtual_time() {
    let (world, net, real) = (World::new(), MemoryNet::default(), std::time::Instant::now());
    let (mut a, mut b) = pair(&world, &net).await;
    let began = Instant::now();
    let (to_b, to_a) = join(&mut a, &mut b).await;
    let took = began.elapsed();
    assert!(took >= 2 * DELAY && took < 10 * DELAY, "a handshake is a few round trips of 40 ms: {took:?}");
    a.handle.send(to_b.link, b"over".to_vec()).expect("queued");
    assert_eq!(b.frame(to_a.link).await, b"over");
    let rtt_ms = a.handle.status().await.links.first().map(|link| link.rtt_ms);
    assert!(rtt_ms.is_some_and(|ms| (40..60).contains(&ms)), "{rtt_ms:?}");

    net.cut.store(true, SeqCst);
    let began = Instant::now();
    a.down(to_b.link).await;
    b.down(to_a.link).await;
    let took = began.elapsed();
    assert!(took > IDLE_TIME_MAX / 2 && took < IDLE_TIME_MAX + Duration::from_secs(2), "{took:?}");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    net.cut.store(false, SeqCst);
    let began = Instant::now();
    timeout(Duration::from_secs(60), async {
        a.up().await;
        b.up().await;
    })
    .await
    .expect("finds its peer again");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(real.elapsed() < Duration::from_secs(60), "an hour of virtual time took {:?}", real.elapsed());
}

/// How long a restriction takes over 1 Mbit/s behind more documents than the link can carry: with the lanes of the core in front of
/// the transport, or straight to it.
async fn behind_documents(with_lanes: bool) -> Duration {
    let (world, net) = (World::new(), MemoryNet { rate: Some(125_000), ..MemoryNet::default() });
    let (mut a, mut b) = pair(&world, &net).await;
    let (to_b, to_a) = join(&mut a, &mut b).await;
    let began = Instant::now();
    let now_ms = move || u64::try_from(began.elapsed().as_millis()).expect("fits");
    let (mut lanes, mut written) = (Lanes::new(WINDOW_MAX), None);
    if !with_lanes {
        (0..200).for_each(|_| a.handle.send(to_b.link, vec![7; 32 * 1024]).expect("queued"));
    }
    loop {
        while with_lanes && lanes.room(now_ms(), Lane::Documents, None) > 0 {
            lanes.push(now_ms(), About::of(Lane::Documents), vec![7; 32 * 1024]).expect("room");
        }
        while let Some((_, frame)) = lanes.next(now_ms(), None) {
            a.handle.send(to_b.link, frame).expect("queued");
        }
        tokio::select! {
            () = tokio::time::sleep_until(began + Duration::from_secs(10)), if written.is_none() => {
                written = Some(Instant::now());
                lanes.push(now_ms(), About::of(Lane::Restrictions), b"stop".to_vec()).expect("room");
            }
            event = a.events.recv() => if let Some(MeshEvent::Drained { bytes, .. }) = event {
                lanes.drained(now_ms(), bytes);
            },
            event = b.events.recv() => match event {
                Some(MeshEvent::Frame { link, bytes }) if link == to_a.link && bytes == b"stop" => {
                    return written.expect("it was written").elapsed();
                }
                Some(MeshEvent::LinkDown { reason, .. }) => panic!("the link went down: {reason}"),
                _ => {}
            },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restriction_passes_the_documents_on_a_thin_link() {
    let (first, last) = (behind_documents(true).await, behind_documents(false).await);
    // A window of the core, as much of QUIC, and what the line itself keeps: far below the ten seconds that are promised.
    assert!(first < Duration::from_secs(3), "{first:?}");
    assert!(
        last > Duration::from_secs(30),
        "without lanes it waits for everything that was written before it: {last:?}"
    );
}
