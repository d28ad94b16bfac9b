//! Honest peers: links, frames, reconnection.

use super::*;
use crate::SendError;
use crate::limits::{
    FRAME_BYTES_MAX, IDLE_TIME_MAX, KEEP_ALIVE, LISTEN_EVERY, REDIAL_WAIT_MAX, SEND_QUEUE_BYTES_MAX,
    SEND_QUEUE_PACED_BYTES_MAX,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_know_each_other_and_exchange_frames_in_order() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (to_b, to_a) = join(&mut a, &mut b).await;
    assert_eq!((to_b.spiffe_id.as_str(), to_a.spiffe_id.as_str()), (id("b").as_str(), id("a").as_str()));
    assert_eq!((to_b.author, to_a.author), (author("b").public(), author("a").public()));
    assert!(to_b.dialer && !to_a.dialer);
    assert!(to_b.not_after_s.abs_diff(now_s() + 3_600) < 60);

    for n in 0..200u32 {
        a.handle.send(to_b.link, n.to_be_bytes().repeat(100)).expect("queued");
        b.handle.send(to_a.link, n.to_be_bytes().to_vec()).expect("queued");
    }
    for n in 0..200u32 {
        assert_eq!(b.frame(to_a.link).await, n.to_be_bytes().repeat(100));
        assert_eq!(a.frame(to_b.link).await, n.to_be_bytes());
    }
    let largest = vec![7; FRAME_BYTES_MAX];
    a.handle.send(to_b.link, largest.clone()).expect("queued");
    assert_eq!(b.frame(to_a.link).await, largest);
    let too_large = a.handle.send(to_b.link, vec![7; FRAME_BYTES_MAX + 1]);
    assert_eq!(too_large, Err(SendError::Length(FRAME_BYTES_MAX + 1)));
    assert_eq!(a.handle.send(to_b.link, vec![]), Err(SendError::Length(0)));
    assert_eq!(a.handle.send(99, vec![1]), Err(SendError::LinkDown));

    let counters = b.handle.counters();
    assert_eq!(counters.frames_in.load(std::sync::atomic::Ordering::Relaxed), 201);
    let status = a.handle.status().await;
    let [link] = &status.links[..] else { panic!("{status:?}") };
    assert_eq!((link.link, link.connections, link.dialer), (to_b.link, 1, true));
    assert!(status.targets[0].up && status.targets[0].last_error.is_none());
    assert_eq!(status.listening, [a.address]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_peer_is_heard_as_long_as_it_lives() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (to_b, _) = join(&mut a, &mut b).await;
    // What made the link has been heard; then keep-alives alone go.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    while a.events.try_recv().is_ok() {}
    let quiet_since = std::time::Instant::now();
    let (links, since) = a
        .wait("a keep-alive", |event| match event {
            MeshEvent::Heard { links, since } => Some((links, since)),
            _ => None,
        })
        .await;
    assert_eq!(links, [to_b.link]);
    assert!(quiet_since.elapsed() <= KEEP_ALIVE * 2 && since.elapsed() < LISTEN_EVERY * 2, "{:?}", since.elapsed());
    b.handle.shutdown().await;
    a.down(to_b.link).await;
    let after = timeout(KEEP_ALIVE * 2, a.events.recv()).await;
    assert!(after.is_err(), "nobody is heard any more: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_waits_for_room_never_fills_the_queue_and_leaves_room_for_others() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (to_b, to_a) = join(&mut a, &mut b).await;
    // Eight times what the queue holds, while the peer's node takes nothing.
    let handle = a.handle.clone();
    let producers: Vec<_> = (0..4u8)
        .map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move {
                for _ in 0..SEND_QUEUE_BYTES_MAX * 2 / FRAME_BYTES_MAX {
                    handle.send_paced(to_b.link, vec![n; FRAME_BYTES_MAX]).await?;
                }
                Ok::<_, SendError>(())
            })
        })
        .collect();
    // Windows and queues fill up; from then on nothing moves.
    let mut before = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = a.handle.status().await;
        let now = (status.links[0].queued_frames, status.links[0].queued_bytes);
        if now == before && now.1 > 0 {
            break;
        }
        before = now;
    }
    assert!(before.1 <= SEND_QUEUE_PACED_BYTES_MAX && before.1 > SEND_QUEUE_PACED_BYTES_MAX / 2, "{before:?}");
    a.handle.send(to_b.link, b"and somebody who does not wait".to_vec()).expect("room is left");
    let mut frames = Vec::new();
    while frames.len() < SEND_QUEUE_BYTES_MAX * 2 / FRAME_BYTES_MAX * 4 + 1 {
        frames.push(b.frame(to_a.link).await);
    }
    for producer in producers {
        assert_eq!(producer.await.expect("ends"), Ok(()));
    }
    let behind = frames.iter().position(|frame| frame == b"and somebody who does not wait").expect("it came");
    assert!(behind < frames.len() - 1, "it waited for less than everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_room_learns_that_the_link_is_gone() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (to_b, _) = join(&mut a, &mut b).await;
    let (handle, link) = (a.handle.clone(), to_b.link);
    let producer = tokio::spawn(async move {
        loop {
            if let Err(e) = handle.send_paced(link, vec![7; FRAME_BYTES_MAX]).await {
                return e;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!producer.is_finished(), "it waits");
    b.handle.shutdown().await;
    let ended = timeout(PATIENCE, producer).await.expect("is told").expect("ends");
    assert_eq!(ended, SendError::LinkDown);
    let oversize = FRAME_BYTES_MAX + 1;
    assert_eq!(a.handle.send_paced(link, vec![0; oversize]).await, Err(SendError::LinkDown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_are_one_link() {
    let world = World::new();
    for _ in 0..5 {
        let (mut a, mut b) = (world.node("a").await, world.node("b").await);
        a.dial(&b);
        b.dial(&a);
        let (to_b, to_a) = (a.up().await, b.up().await);
        a.handle.send(to_b.link, b"from a".to_vec()).expect("queued");
        b.handle.send(to_a.link, b"from b".to_vec()).expect("queued");
        assert_eq!(b.frame(to_a.link).await, b"from a");
        assert_eq!(a.frame(to_b.link).await, b"from b");
        a.stays_alone(Duration::from_millis(300)).await;
        assert_eq!((a.handle.status().await.links.len(), b.handle.status().await.links.len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mesh_of_six_comes_up_from_all_dialling_all() {
    let world = World::new();
    let mut nodes = Vec::new();
    for n in 0..6 {
        nodes.push(world.node(&format!("n{n}")).await);
    }
    for a in &nodes {
        for b in &nodes {
            if a.address != b.address {
                a.dial(b);
            }
        }
    }
    for node in &mut nodes {
        let mut peers = std::collections::BTreeSet::new();
        while peers.len() < 5 {
            peers.insert(node.up().await.spiffe_id);
        }
    }
    for node in &nodes {
        let status = node.handle.status().await;
        assert_eq!(status.links.len(), 5);
        assert!(status.links.iter().all(|l| l.connections <= 2), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_link_says_why_at_both_ends_and_only_it_closes() {
    let world = World::new();
    let (mut a, mut b, mut c) = (world.node("a").await, world.node("b").await, world.node("c").await);
    let (to_b, to_a) = join(&mut a, &mut b).await;
    let (c_to_b, b_to_c) = join(&mut c, &mut b).await;
    b.handle.close(to_a.link, CloseCode::NotEnrolled, "the author key is not enrolled");
    assert_eq!(b.handle.send(to_a.link, vec![1]), Err(SendError::LinkDown));
    assert_eq!(b.down(to_a.link).await, "not_enrolled: the author key is not enrolled");
    let told = a.down(to_b.link).await;
    assert!(told.contains("not_enrolled") && told.contains("the author key is not enrolled"), "{told}");
    assert_eq!(b.handle.counters().closed(CloseCode::NotEnrolled), 1);
    c.handle.send(c_to_b.link, b"still here".to_vec()).expect("queued");
    assert_eq!(b.frame(b_to_c.link).await, b"still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialler_finds_its_peer_again_after_a_clean_restart() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (first, _) = join(&mut a, &mut b).await;
    b.handle.shutdown().await;
    let reason = a.down(first.link).await;
    assert!(reason.contains("shutdown"), "{reason}");
    let listen = vec![b.address];
    drop(b);
    let mut b = Node::restart(|| MeshConfig { listen: listen.clone(), ..world.config("b") }).await;
    let (second, back) = (a.up().await, b.up().await);
    assert!(second.link > first.link);
    a.handle.send(second.link, b"again".to_vec()).expect("queued");
    assert_eq!(b.frame(back.link).await, b"again");
}

#[test]
fn a_crashed_peer_is_noticed_by_its_reset_before_the_idle_time_is_over() {
    let world = World::new();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    };
    let (here, there) = (runtime(), runtime());
    let mut a = here.block_on(world.node("a"));
    let mut b = there.block_on(world.node("b"));
    a.dial(&b);
    let first = here.block_on(a.up());
    there.block_on(b.up());
    let listen = vec![b.address];
    // The runtime vanishes with its sockets; nobody says goodbye.
    there.shutdown_background();
    let again = runtime();
    let mut b = again.block_on(Node::restart(|| MeshConfig { listen: listen.clone(), ..world.config("b") }));
    let start = std::time::Instant::now();
    // The first packet that the new process cannot place is answered; without the reset the idle time would pass.
    // Where a packet of ours met it already, there is no link any more to send on.
    let _ = a.handle.send(first.link, b"anybody there?".to_vec());
    let reason = here.block_on(a.down(first.link));
    assert!(reason.contains("reset by peer"), "{reason}");
    assert!(start.elapsed() < IDLE_TIME_MAX, "{:?}", start.elapsed());
    here.block_on(a.up());
    again.block_on(b.up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_a_target_are_kept_in_a_sentence() {
    let world = World::new();
    let a = world.node("a").await;
    a.handle.dial(a.address.to_string());
    a.handle.dial("nobody.invalid:7443");
    a.handle.dial("no port");
    let mut wanted = vec!["our own", "cannot look up `nobody.invalid:7443`", "cannot look up `no port`"];
    timeout(PATIENCE, async {
        while !wanted.is_empty() {
            let errors: Vec<_> = a.handle.status().await.targets.into_iter().filter_map(|t| t.last_error).collect();
            wanted.retain(|w| !errors.iter().any(|e| e.contains(w)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("missing {wanted:?}"));
    let status = a.handle.status().await;
    let waits = status.targets.iter().filter_map(|t| t.next_dial_in_ms);
    assert!(waits.clone().all(|ms| u128::from(ms) <= REDIAL_WAIT_MAX.as_millis()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_and_wildcard_addresses_work_and_a_taken_port_is_said() {
    let world = World::new();
    let mut v6 = world.config("six");
    v6.listen = vec!["[::1]:0".parse().expect("an address")];
    let mut wild = world.config("wild");
    wild.listen = vec!["0.0.0.0:0".parse().expect("an address")];
    let (mut six, mut seven, mut four) = {
        let mut seven = world.config("seven");
        seven.listen = v6.listen.clone();
        (Node::start(v6).await, Node::start(seven).await, world.node("four").await)
    };
    join(&mut six, &mut seven).await;

    let mut wild = Node::start(wild).await;
    assert!(!wild.address.ip().is_unspecified());
    four.handle.dial(format!("127.0.0.1:{}", wild.address.port()));
    four.up().await;
    wild.up().await;

    let mut taken = world.config("taken");
    taken.listen = vec![four.address];
    let error = Mesh::start(taken).map(drop).expect_err("the port is taken").to_string();
    assert!(error.starts_with(&format!("cannot listen on UDP {}: ", four.address)), "{error}");
    assert!(error.contains("in use"), "{error}");
}
