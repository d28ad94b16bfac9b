//! This version of the mesh lane, and the one before it.

use super::*;
use crate::admission::Version;
use crate::{Features, Versions};

fn speaking(world: &World, name: &str, versions: &'static [Version]) -> MeshConfig {
    // Bit 40 belongs to no wire of ours: what we do not know is kept and means nothing.
    MeshConfig { versions: Versions(versions), features: Features(1 << 40), ..world.config(name) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbouring_versions_link_whoever_dials_and_two_new_ones_speak_the_newest() {
    let world = World::new();
    let only_old: &[Version] = &[Version::V1];
    for (dialer, listener, spoken) in [
        (Version::ALL, Version::ALL, 2),
        (Version::ALL, only_old, 1),
        (only_old, Version::ALL, 1),
        (only_old, only_old, 1),
    ] {
        let mut a = Node::start(speaking(&world, "a", dialer)).await;
        let mut b = Node::start(speaking(&world, "b", listener)).await;
        let (to_b, to_a) = join(&mut a, &mut b).await;
        a.handle.send(to_b.link, b"over".to_vec()).expect("queued");
        assert_eq!(b.frame(to_a.link).await, b"over");
        b.handle.send(to_a.link, b"and back".to_vec()).expect("queued");
        assert_eq!(a.frame(to_b.link).await, b"and back");
        for node in [&a, &b] {
            let links = node.handle.status().await.links;
            let [link] = &links[..] else { panic!("{links:?}") };
            assert_eq!(link.version, spoken);
            let told = if spoken == 2 { Features(1 << 40) | Features::CIRCUITS } else { Features::NONE };
            assert_eq!(link.features, told, "{link:?}");
        }
    }
}

/// Both sides dial: a peer of the older version cannot say that it is one process, and is believed to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_with_an_older_peer_are_one_link() {
    let world = World::new();
    for _ in 0..5 {
        let mut a = Node::start(speaking(&world, "a", Version::ALL)).await;
        let mut b = Node::start(speaking(&world, "b", &[Version::V1])).await;
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
