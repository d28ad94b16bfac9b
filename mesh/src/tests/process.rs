//! One identity is one process: copies of a data directory are told apart from a node that was restarted.

use super::*;
use crate::admission::Version;
use crate::limits::ALIVE_TIME_MAX;
use crate::{Features, Versions};

/// A runtime that can vanish with its sockets: nobody says goodbye, as after `kill -9`.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_beside_its_original_is_refused_at_both_ends_and_the_link_stays() {
    let world = World::new();
    let (mut hub, mut original) = (world.node("hub").await, world.node("twin").await);
    let (to_hub, to_original) = join(&mut original, &mut hub).await;
    let mut copy = world.node("twin").await;
    for copy_dials in [true, false] {
        if copy_dials {
            copy.dial(&hub);
            let told = copy.refused_as(CloseCode::SecondProcess).await;
            assert!(told.contains("this data directory was copied and the original runs"), "{told}");
        } else {
            hub.dial(&copy);
        }
        let reason = hub
            .wait("a refusal", |event| match event {
                MeshEvent::Refused { code: CloseCode::SecondProcess, reason, .. } => Some(reason),
                MeshEvent::LinkDown { reason, .. } => panic!("the original's link went down: {reason}"),
                MeshEvent::LinkUp { .. } => panic!("the copy was let in"),
                _ => None,
            })
            .await;
        assert!(reason.contains(&id("twin")) && reason.contains("its data directory was copied"), "{reason}");
    }
    assert!(hub.handle.counters().refused(CloseCode::SecondProcess) >= 2);
    assert!(copy.handle.counters().refused(CloseCode::SecondProcess) >= 1);
    original.handle.send(to_hub.link, b"still here".to_vec()).expect("queued");
    assert_eq!(hub.frame(to_original.link).await, b"still here");

    // The original leaves for good: the copy is a node like any other.
    original.handle.shutdown().await;
    hub.down(to_original.link).await;
    let up = hub.up().await;
    assert_eq!(up.spiffe_id, id("twin"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_speaks_the_older_version_or_meets_its_original_is_no_better_off() {
    let world = World::new();
    let (mut hub, mut original) = (world.node("hub").await, world.node("twin").await);
    join(&mut original, &mut hub).await;
    let older = MeshConfig { versions: Versions(&[Version::V1]), ..world.config("twin") };
    let copy = Node::start(older).await;
    copy.dial(&hub);
    hub.refused_as(CloseCode::SecondProcess).await;

    let mut other = world.node("twin").await;
    other.dial(&original);
    for node in [&mut other, &mut original] {
        let reason = node.refused_as(CloseCode::SecondProcess).await;
        assert!(reason.contains("data directory was copied"), "{reason}");
    }
}

#[test]
fn a_node_that_was_killed_takes_its_place_again_from_the_same_port_and_from_another_one() {
    let world = World::new();
    for same_port in [true, false] {
        let (here, there) = (runtime(), runtime());
        let mut hub = here.block_on(world.node("hub"));
        let mut node = there.block_on(world.node("node"));
        node.dial(&hub);
        let first = here.block_on(hub.up());
        there.block_on(node.up());
        let listen = vec![if same_port { node.address } else { LOOPBACK.parse().expect("an address") }];
        there.shutdown_background();

        let again = runtime();
        let config = || MeshConfig { listen: listen.clone(), ..world.config("node") };
        let mut node = again.block_on(Node::restart(config));
        let start = std::time::Instant::now();
        node.dial(&hub);
        let (down, up) = here.block_on(async { (hub.down(first.link).await, hub.up().await) });
        let back = again.block_on(node.up());
        let took = start.elapsed();
        // From its port the new process answers for the lost connection; from another port nobody does.
        let wanted = if same_port { Duration::from_secs(1) } else { ALIVE_TIME_MAX + Duration::from_secs(1) };
        assert!(took < wanted, "took {took:?}");
        assert!(down.starts_with("replaced: ") || down.contains("reset by peer"), "{down}");
        if !same_port {
            assert_eq!(hub.handle.counters().closed(CloseCode::Replaced), 1, "{down}");
        }
        assert!(up.link > first.link);
        again.block_on(async { node.handle.send(back.link, b"again".to_vec()) }).expect("queued");
        assert_eq!(here.block_on(hub.frame(up.link)), b"again");
        let status = here.block_on(hub.handle.status());
        assert_eq!(status.links.len(), 1);
        assert_eq!(status.links.first().map(|link| link.features), Some(Features::CIRCUITS));
    }
}

/// The link of the process that froze is down when the new one is up, and the one that wakes learns why.
#[test]
fn of_two_copies_that_knock_at_once_after_a_death_one_gets_in() {
    let world = World::new();
    let (here, there) = (runtime(), runtime());
    let mut hub = here.block_on(world.node("hub"));
    let mut node = there.block_on(world.node("node"));
    node.dial(&hub);
    let first = here.block_on(hub.up());
    there.block_on(node.up());
    there.shutdown_background();
    here.block_on(async {
        let (b, c) = (world.node("node").await, world.node("node").await);
        b.dial(&hub);
        c.dial(&hub);
        hub.down(first.link).await;
        let up = hub.up().await;
        hub.refused_as(CloseCode::SecondProcess).await;
        let links = hub.handle.status().await.links;
        assert_eq!(links.iter().map(|l| (l.link, l.connections)).collect::<Vec<_>>(), [(up.link, 1)]);
    });
}
