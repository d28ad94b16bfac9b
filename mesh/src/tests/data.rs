//! The data lane: enrolled author keys alone, where certificates stand in the way.

use super::*;
use crate::Enrolled;

/// Everybody in `names` is enrolled.
fn enrolled(names: &'static [&'static str]) -> Option<Enrolled> {
    Some(Enrolled::new(move |key| {
        let name = names.iter().find(|name| author(name).public() == *key)?;
        Some(SpiffeId::new(id(name)).expect("a SPIFFE ID"))
    }))
}

async fn start(world: &World, name: &'static str, lifetime_s: u64, knows: Option<Enrolled>) -> Node {
    let mut config = world.config(name);
    let (chain, key) = svid(&world.ca, &id(name), now_s() - 3_600, 3_600 + lifetime_s);
    let bundles = trust(&[&world.ca]);
    config.source = SvidSource::new(chain, &key, bundles, system_clock()).expect("a source");
    config.enrolled = knows;
    Node::start(config).await
}

async fn expired(world: &World, name: &'static str, knows: Option<Enrolled>) -> Node {
    let node = start(world, name, 600, knows).await;
    let (chain, key) = svid(&world.ca, &id(name), now_s() - 3_600, 600);
    node.source.rotate(chain, &key).expect("rotates");
    node
}

async fn data_up(node: &mut Node) -> (u64, String) {
    node.wait("a data link", |event| match event {
        MeshEvent::DataLinkUp { link, spiffe_id, .. } => Some((link, spiffe_id.to_string())),
        MeshEvent::LinkUp { spiffe_id, .. } => panic!("{spiffe_id} came over the mesh lane"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_expired_nodes_exchange_frames_and_a_renewed_one_comes_back_to_the_mesh_lane() {
    let world = World::new();
    let (mut a, mut b) =
        (expired(&world, "a", enrolled(&["a", "b"])).await, expired(&world, "b", enrolled(&["a", "b"])).await);
    a.dial(&b);
    let ((to_b, b_name), (to_a, a_name)) = (data_up(&mut a).await, data_up(&mut b).await);
    assert_eq!((a_name, b_name), (id("a"), id("b")));
    a.handle.send(to_b, b"facts".to_vec()).expect("queued");
    assert_eq!(b.frame(to_a).await, b"facts");
    b.handle.send(to_a, b"more".to_vec()).expect("queued");
    assert_eq!(a.frame(to_b).await, b"more");
    assert!(a.handle.counters().refused(CloseCode::Certificate) >= 1, "the mesh lane was tried first");
    let links = a.handle.status().await.links;
    assert_eq!(links.iter().map(|l| l.svid_not_after_s).collect::<Vec<_>>(), [None]);

    for (name, node) in [("b", &b), ("a", &a)] {
        let (chain, key) = svid(&world.ca, &id(name), now_s(), 600);
        node.source.rotate(chain, &key).expect("rotates");
    }
    a.down(to_b).await;
    let up = a.wait("the mesh lane", |event| match event {
        MeshEvent::LinkUp { spiffe_id, .. } => Some(spiffe_id.to_string()),
        _ => None,
    });
    assert_eq!(up.await, id("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_that_is_not_enrolled_gets_nothing_on_the_data_lane_as_dialler_or_acceptor() {
    let world = World::new();
    let mut good = start(&world, "good", 600, enrolled(&["good"])).await;
    let mut stranger = expired(&world, "stranger", enrolled(&["good", "stranger"])).await;
    stranger.dial(&good);
    let reason = good.refused_as(CloseCode::NotEnrolled).await;
    assert!(reason.contains("is not enrolled here"), "{reason}");
    stranger.refused().await;

    good.dial(&stranger);
    good.refused_as(CloseCode::Certificate).await;
    good.stays_alone(Duration::from_millis(300)).await;
    assert!(good.handle.status().await.links.is_empty());

    let mut closed = start(&world, "closed", 600, None).await;
    let mut dials = expired(&world, "b", enrolled(&["closed", "b"])).await;
    dials.dial(&closed);
    assert_eq!(dials.refused().await.0, CloseCode::Certificate, "a node without the lane turns it away");
    closed.refused_as(CloseCode::NotEnrolled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valid_certificate_does_not_open_the_data_lane_to_another_mesh() {
    let world = World::new();
    let mut good = start(&world, "good", 600, enrolled(&["good", "b"])).await;
    let mut config = world.config("b");
    config.mesh_id = MeshId::of("test", b"two");
    config.enrolled = enrolled(&["good", "b"]);
    let (chain, key) = svid(&world.ca, &id("b"), now_s() - 3_600, 600);
    config.source = SvidSource::new(chain, &key, trust(&[&world.ca]), system_clock()).expect("a source");
    let b = Node::start(config).await;
    b.dial(&good);
    good.refused_as(CloseCode::WrongMesh).await;
}
