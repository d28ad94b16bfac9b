//! Peers with a valid SVID and key that misbehave afterwards: closed with a code, counted, and nobody else notices.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{PeerId, Stream};

use super::*;
use crate::counters::Counters;
use crate::limits::{PENDING_HANDSHAKES_MAX, PENDING_HANDSHAKES_RETRY, SEND_QUEUE_BYTES_MAX};
use crate::link::SYNC;
use crate::transport::{Shared, multiaddr_of};
use crate::{ProcessNonce, SendError};

/// Our own transport and Swarm, with a test instead of a node behind them.
struct Raw {
    control: libp2p_stream::Control,
    /// Streams that the other side opened; taken, and read by nobody.
    theirs: mpsc::UnboundedReceiver<Stream>,
    task: tokio::task::JoinHandle<()>,
}

impl Raw {
    fn start(world: &World, name: &str, dial: Option<SocketAddr>) -> Self {
        let config = MeshConfig { process: ProcessNonce::from_bytes([1; 16]), ..world.config(name) };
        let shared = Shared::new(config, Arc::new(Counters::default()));
        let mut swarm = crate::swarm::build(&shared);
        let mut control = swarm.behaviour().stream.new_control();
        let mut incoming = control.accept(SYNC).expect("a new protocol");
        let (tx, theirs) = mpsc::unbounded_channel();
        if let Some(to) = dial {
            swarm.dial(DialOpts::unknown_peer_id().address(multiaddr_of(to)).build()).expect("dials");
        }
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    Some((_, mut stream)) = incoming.next() => {
                        stream.write_all(&[6]).await.expect("answers");
                        stream.flush().await.expect("answers");
                        if tx.send(stream).is_err() { return; }
                    }
                }
            }
        });
        Self { control, theirs, task }
    }

    /// A stream to `peer` that it has taken. Like the product, opens another one where the first was dropped on the way
    /// (libp2p-stream does so while its one-slot channel is full).
    async fn stream(&mut self, peer: PeerId) -> Stream {
        const TAKEN_WITHIN: Duration = Duration::from_secs(5);
        let mut failures = Vec::new();
        for _ in 0..200 {
            let opened = tokio::time::timeout(TAKEN_WITHIN, self.control.open_stream(peer, SYNC)).await;
            let mut stream = match opened {
                Ok(Ok(stream)) => stream,
                // The other side may know of the connection before we do.
                Ok(Err(why)) => {
                    failures.push(why.to_string());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                Err(_) => {
                    failures.push("not opened in time".into());
                    continue;
                }
            };
            let mut taken = [0];
            match tokio::time::timeout(TAKEN_WITHIN, stream.read_exact(&mut taken)).await {
                Ok(Ok(())) => return stream,
                Ok(Err(why)) => failures.push(format!("dropped: {why}")),
                Err(_) => failures.push("not taken in time".into()),
            }
        }
        panic!("no stream was taken: {failures:?}");
    }
}

fn peer(name: &str) -> PeerId {
    crate::peer_id::peer_id_of(&SpiffeId::new(id(name)).expect("an id"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_frames_close_that_link_only() {
    let world = World::new();
    let (mut good, mut friend) = (world.node("good").await, world.node("friend").await);
    let (to_good, to_friend) = join(&mut friend, &mut good).await;
    let cases: [(&str, &[u8], bool, CloseCode); 6] = [
        ("garbage", &[0xff; 64], false, CloseCode::FrameTooLarge),
        ("text", b"GET / HTTP/1.1\r\n", false, CloseCode::FrameTooLarge),
        ("one byte too long", &[0, 5, 0, 1], false, CloseCode::FrameTooLarge),
        ("half a header", &[0, 0], true, CloseCode::FrameTruncated),
        ("half a frame", &[0, 0, 0, 9, 1, 2, 3], true, CloseCode::FrameTruncated),
        ("an empty frame", &[0, 0, 0, 0], false, CloseCode::FrameEmpty),
    ];
    for (n, (case, bytes, end, code)) in cases.into_iter().enumerate() {
        let before = good.handle.counters().closed(code);
        let mut raw = Raw::start(&world, &format!("raw{n}"), Some(good.address));
        let link = good.up().await.link;
        let mut stream = raw.stream(peer("good")).await;
        stream.write_all(&[0, 0, 0, 1, 42]).await.expect("writes");
        stream.flush().await.expect("writes");
        assert_eq!(good.frame(link).await, [42], "{case}: a good frame first");
        stream.write_all(bytes).await.expect("writes");
        stream.flush().await.expect("writes");
        if end {
            stream.close().await.expect("ends");
        }
        let reason = good.down(link).await;
        assert!(reason.starts_with(code.label()), "{case}: {reason}");
        assert_eq!(good.handle.counters().closed(code), before + 1, "{case}");
        raw.task.abort();
    }
    friend.handle.send(to_good.link, b"untouched".to_vec()).expect("queued");
    assert_eq!(good.frame(to_friend.link).await, b"untouched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_started_frame_that_stalls_is_closed_by_its_deadline() {
    let world = World::new();
    let mut good = world.node("good").await;
    let mut raw = Raw::start(&world, "raw", Some(good.address));
    let link = good.up().await.link;
    let mut stream = raw.stream(peer("good")).await;
    stream.write_all(&[0]).await.expect("writes");
    stream.flush().await.expect("writes");
    let start = std::time::Instant::now();
    let reason = good.down(link).await;
    assert!(reason.starts_with("frame_timeout"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_restarts_the_link() {
    let world = World::new();
    let mut good = world.node("good").await;
    let mut raw = Raw::start(&world, "raw", Some(good.address));
    let link = good.up().await.link;
    let _first = raw.stream(peer("good")).await;
    let _second = raw.control.open_stream(peer("good"), SYNC).await;
    let reason = good.down(link).await;
    assert!(reason.starts_with("link_restarted"), "{reason}");
    assert_eq!(good.handle.counters().closed(CloseCode::LinkRestarted), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_loses_its_link_and_holds_back_nobody() {
    let world = World::new();
    let (mut good, mut friend) = (world.node("good").await, world.node("friend").await);
    let (to_good, to_friend) = join(&mut friend, &mut good).await;
    let mut raw = Raw::start(&world, "raw", Some(good.address));
    let link = good.up().await.link;
    let _unread = timeout(PATIENCE, raw.theirs.recv()).await.expect("opens its stream");
    let chunk = vec![1; 256 * 1024];
    let mut sent = 0;
    let error = loop {
        match good.handle.send(link, chunk.clone()) {
            Ok(()) => sent += chunk.len(),
            Err(e) => break e,
        }
    };
    assert_eq!(error, SendError::QueueFull);
    assert!(sent <= SEND_QUEUE_BYTES_MAX + 4 * 1024 * 1024, "{sent} bytes were taken");
    assert_eq!(good.handle.send(link, vec![1]), Err(SendError::LinkDown));
    friend.handle.send(to_good.link, b"quick".to_vec()).expect("queued");
    let start = std::time::Instant::now();
    let mut down = None;
    let mut frame = None;
    while down.is_none() || frame.is_none() {
        match timeout(PATIENCE, good.events.recv()).await.expect("an event").expect("runs") {
            MeshEvent::LinkDown { link: which, reason } if which == link => down = Some(reason),
            MeshEvent::Frame { link: which, bytes } if which == to_friend.link => frame = Some(bytes),
            _ => {}
        }
    }
    assert!(down.is_some_and(|reason| reason.starts_with("queue_full")));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(good.handle.counters().closed(CloseCode::QueueFull), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_are_bounded_with_retry_before_refusal() {
    let world = World::new();
    let counters = Arc::new(Counters::default());
    let shared = Shared::new(world.config("hub"), counters.clone());
    let mut swarm = crate::swarm::build(&shared);
    swarm.listen_on(multiaddr_of(LOOPBACK.parse().expect("an address"))).expect("listens");
    let (tx, mut at) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            if let libp2p::swarm::SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                tx.send(crate::transport::socket_addr_of(&address)).expect("the test runs");
            }
        }
    });
    let hub = at.recv().await.expect("listens").expect("an address").to_string();

    let busy = u32::try_from(PENDING_HANDSHAKES_RETRY).expect("fits");
    let some = shared.handshakes.clone().acquire_many_owned(busy).await.expect("slots");
    let mut a = world.node("a").await;
    a.handle.dial(hub.clone());
    a.up().await;
    assert!(counters.handshakes_retried.load(std::sync::atomic::Ordering::Relaxed) >= 1);

    let rest = u32::try_from(PENDING_HANDSHAKES_MAX - PENDING_HANDSHAKES_RETRY).expect("fits");
    let others = shared.handshakes.clone().acquire_many_owned(rest).await.expect("slots");
    let mut b = world.node("b").await;
    b.handle.dial(hub);
    let (_, reason) = b.refused().await;
    assert!(reason.contains("refused"), "{reason}");
    assert!(counters.refused(CloseCode::Busy) >= 1);
    drop((some, others));
    b.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_with_a_code_the_dialer_reads() {
    let world = World::new();
    let mut config = world.config("hub");
    config.connections_max = 2;
    let mut hub = Node::start(config).await;
    let (mut a, mut b, mut c) = (world.node("a").await, world.node("b").await, world.node("c").await);
    join(&mut a, &mut hub).await;
    join(&mut b, &mut hub).await;
    c.dial(&hub);
    assert_eq!(hub.refused().await.0, CloseCode::TooManyConnections);
    assert_eq!(c.refused().await.0, CloseCode::TooManyConnections);

    let raws: Vec<_> = (0..3).map(|_| Raw::start(&world, "same", Some(a.address))).collect();
    let (code, reason) = a
        .wait("a refusal", |event| match event {
            MeshEvent::Refused { code, reason, .. } => Some((code, reason)),
            _ => None,
        })
        .await;
    assert_eq!(code, CloseCode::TooManyConnections, "{reason}");
    assert!(reason.contains("already has 2 connections"), "{reason}");
    drop(raws);
}
