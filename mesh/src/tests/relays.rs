//! What a relay serves, to whom, and how much of it.

use super::circuits::{attach, behind, beside_a_relay, reachable, relay, spiffe, up_by};
use super::walls::Walls;
use super::*;
use crate::LinkPath;
use crate::limits::{RELAY_CIRCUIT_BYTES_MAX, RELAY_CIRCUITS_PER_PEER_MAX};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_serves_members_alone() {
    let (world, walls) = (World::new(), Walls::closed());
    let members =
        crate::Enrolled::new(|key| ["hub", "a"].into_iter().find(|name| author(name).public() == *key).map(spiffe));
    let mut hub = Node::start(MeshConfig { relay: true, enrolled: Some(members), ..world.config("hub") }).await;
    let mut a = Node::start(behind(&walls, world.config("a"))).await;
    let mut stranger = Node::start(behind(&walls, world.config("stranger"))).await;
    attach(&mut a, &mut hub).await;
    attach(&mut stranger, &mut hub).await;
    reachable(&a, "hub").await;
    stranger.handle.reserve(spiffe("hub"));
    stranger.handle.dial_through(spiffe("hub"), spiffe("a"));
    let refused = async {
        loop {
            let status = stranger.handle.status().await;
            assert!(status.reservations.iter().all(|r| !r.held), "a stranger is reachable");
            let way = status.reservations.iter().any(|r| r.last_error.is_some());
            if way && status.targets.iter().any(|t| t.last_error.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("a stranger is told that nothing comes of it");
    a.stays_alone(Duration::from_millis(300)).await;
    assert_eq!(hub.handle.status().await.links.len(), 2, "its link is untouched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_carries_so_many_circuits_of_one_member_and_no_more() {
    let (world, walls) = (World::new(), Walls::closed());
    let mut hub = relay(&world, "hub").await;
    let mut a = Node::start(behind(&walls, world.config("a"))).await;
    attach(&mut a, &mut hub).await;
    let mut others = Vec::new();
    for n in 0..=RELAY_CIRCUITS_PER_PEER_MAX {
        let name = format!("n{n}");
        let mut node = Node::start(behind(&walls, world.config(&name))).await;
        attach(&mut node, &mut hub).await;
        reachable(&node, "hub").await;
        a.handle.dial_through(spiffe("hub"), spiffe(&name));
        others.push(node);
    }
    let full = async {
        loop {
            let status = a.handle.status().await;
            let relayed = status.links.iter().filter(|l| l.path == LinkPath::Relayed).count();
            assert!(relayed <= RELAY_CIRCUITS_PER_PEER_MAX, "{relayed} circuits");
            let limited = |why: &String| why.contains("resource limit exceeded");
            let refused = status.targets.iter().filter(|t| t.last_error.as_ref().is_some_and(limited)).count();
            if (relayed, refused) == (RELAY_CIRCUITS_PER_PEER_MAX, 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, full).await.is_ok(), "{:?}", a.handle.status().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_that_carried_its_share_ends_and_is_dialled_again() {
    let (world, walls) = (World::new(), Walls::closed());
    let (hub, mut a, mut b) = beside_a_relay(&world, &walls).await;
    a.handle.dial_through(spiffe("hub"), spiffe("b"));
    let (to_b, to_a) = (up_by(&mut a, LinkPath::Relayed).await, up_by(&mut b, LinkPath::Relayed).await);
    let frame = vec![7; crate::limits::FRAME_BYTES_MAX];
    let (mut sent, mut taken) = (0u64, 0u64);
    let why = loop {
        if sent - taken < 8 * frame.len() as u64 && a.handle.send(to_b, frame.clone()).is_ok() {
            sent += frame.len() as u64;
            continue;
        }
        match timeout(PATIENCE, b.events.recv()).await.expect("goes on").expect("runs") {
            MeshEvent::Frame { link, bytes } if link == to_a => taken += bytes.len() as u64,
            MeshEvent::LinkDown { link, reason } if link == to_a => break reason,
            _ => {}
        }
    };
    let whole = RELAY_CIRCUIT_BYTES_MAX;
    assert!(taken <= whole && taken > whole - 16 * frame.len() as u64, "{taken} of {whole} bytes: {why}");
    a.down(to_b).await;
    up_by(&mut a, LinkPath::Relayed).await;
    assert_eq!(hub.handle.status().await.links.len(), 2, "the relay's own links stay");
}
