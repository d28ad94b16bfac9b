//! Links through relays: who gets one, what ends it, what the relay learns, and the way to a direct connection.

use cauldron_tests::badcert::{Bad, certificates};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerExt};

use super::pipe::{Pipe, lock, pipe};
use super::walls::Walls;
use super::*;
use crate::counters::Counters;
use crate::peer_id::peer_id_of;
use crate::transport::{Circuit, End, EstablishError, Shared, establish_circuit};
use crate::{Features, LinkPath};

pub(super) fn spiffe(name: &str) -> SpiffeId {
    SpiffeId::new(id(name)).expect("an id")
}

pub(super) fn behind(walls: &Walls, config: MeshConfig) -> MeshConfig {
    MeshConfig { net: Arc::new(walls.clone()), ..config }
}

pub(super) async fn relay(world: &World, name: &str) -> Node {
    Node::start(MeshConfig { relay: true, ..world.config(name) }).await
}

/// Links `node` to the relay.
pub(super) async fn attach(node: &mut Node, relay: &mut Node) {
    join(node, relay).await;
}

/// The node can be reached through the relay.
pub(super) async fn reachable(node: &Node, through: &str) {
    node.handle.reserve(spiffe(through));
    let held = async {
        loop {
            let status = node.handle.status().await;
            if status.reservations.iter().any(|r| r.relay == spiffe(through) && r.held) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, held).await.expect("the relay keeps a way open");
}

/// A relay, and two nodes that are linked with it; the second can be reached through it.
pub(super) async fn beside_a_relay(world: &World, walls: &Walls) -> (Node, Node, Node) {
    let mut hub = relay(world, "hub").await;
    let mut a = Node::start(behind(walls, world.config("a"))).await;
    let mut b = Node::start(behind(walls, world.config("b"))).await;
    attach(&mut a, &mut hub).await;
    attach(&mut b, &mut hub).await;
    reachable(&b, "hub").await;
    (hub, a, b)
}

pub(super) async fn up_by(node: &mut Node, wanted: LinkPath) -> u64 {
    node.wait("a link", |event| match event {
        MeshEvent::LinkUp { link, path, .. } => {
            assert_eq!(path, wanted);
            Some(link)
        }
        _ => None,
    })
    .await
}

async fn exchange(a: &Node, to_b: u64, b: &Node, to_a: u64) {
    a.handle.send(to_b, b"there".to_vec()).expect("queued");
    b.handle.send(to_a, b"back".to_vec()).expect("queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_sought_directly_first_and_through_its_relay_then() {
    let (world, walls) = (World::new(), Walls::closed());
    let (_hub, mut a, mut b) = beside_a_relay(&world, &walls).await;
    let (direct, via) = (b.address.to_string(), format!("via {}", id("hub")));
    let failed = |event| matches!(event, MeshEvent::DialFailed { spiffe_id } if spiffe_id == spiffe("b")).then_some(());
    a.handle.seek(spiffe("b"), vec![direct.clone()]);
    a.wait("that nobody was reached", failed).await;
    for none in [vec![], vec!["via nobody".to_owned()], vec![format!("via {}", id("b"))]] {
        a.handle.seek(spiffe("b"), none);
        a.wait("that there is no way", failed).await;
    }
    a.handle.seek(spiffe("b"), vec![direct, via]);
    let (to_b, to_a) = (up_by(&mut a, LinkPath::Relayed).await, up_by(&mut b, LinkPath::Relayed).await);
    exchange(&a, to_b, &b, to_a).await;
    assert_eq!(b.frame(to_a).await, b"there");
    assert_eq!(a.frame(to_b).await, b"back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_cannot_reach_each_other_link_through_a_relay_and_status_says_so() {
    let (world, walls) = (World::new(), Walls::closed());
    let (hub, mut a, mut b) = beside_a_relay(&world, &walls).await;
    a.handle.dial_through(spiffe("hub"), spiffe("b"));
    let (to_b, to_a) = (up_by(&mut a, LinkPath::Relayed).await, up_by(&mut b, LinkPath::Relayed).await);
    exchange(&a, to_b, &b, to_a).await;
    assert_eq!(b.frame(to_a).await, b"there");
    assert_eq!(a.frame(to_b).await, b"back");
    let largest = vec![7; crate::limits::FRAME_BYTES_MAX];
    for _ in 0..8 {
        a.handle.send(to_b, largest.clone()).expect("queued");
    }
    for _ in 0..8 {
        assert_eq!(b.frame(to_a).await, largest);
    }

    for (node, other, link) in [(&a, "b", to_b), (&b, "a", to_a)] {
        let status = node.handle.status().await;
        let found = status.links.iter().find(|l| l.link == link).expect("the link");
        assert_eq!((found.spiffe_id.clone(), found.path, found.connections), (spiffe(other), LinkPath::Relayed, 1));
        assert_eq!((found.version, found.remote_addr), (2, hub.address));
        assert!(found.svid_not_after_s.is_some() && found.bytes_out > 0 && found.bytes_in > 0, "{found:?}");
        let of_hub = status.links.iter().find(|l| l.spiffe_id == spiffe("hub")).expect("the relay's link");
        assert!(of_hub.path == LinkPath::Direct && of_hub.features.has(Features::RELAY), "{of_hub:?}");
    }
    let targets = a.handle.status().await.targets;
    let name = format!("{} via {}", id("b"), id("hub"));
    assert!(targets.iter().any(|t| t.address == name && t.up), "{targets:?}");
    assert_eq!(hub.handle.status().await.links.len(), 2, "the relay has no part in it");

    // The peer's node stops: both learn it, and the relay's own links stay.
    b.handle.shutdown().await;
    a.down(to_b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_relay_a_way_or_a_link_the_reason_is_a_sentence() {
    let (world, walls) = (World::new(), Walls::closed());
    let (mut plain, mut hub) = (world.node("plain").await, relay(&world, "hub").await);
    let mut a = Node::start(behind(&walls, world.config("a"))).await;
    let mut b = Node::start(behind(&walls, world.config("b"))).await;
    attach(&mut a, &mut plain).await;
    attach(&mut a, &mut hub).await;
    attach(&mut b, &mut hub).await;
    // One is no relay, one knows no way to `b`, and one is nobody we are linked to.
    a.handle.reserve(spiffe("plain"));
    a.handle.dial_through(spiffe("hub"), spiffe("b"));
    a.handle.dial_through(spiffe("nobody"), spiffe("b"));
    let mut missing = vec!["reserve", "reservation", "there is no direct link to the relay"];
    let told = async {
        while !missing.is_empty() {
            let status = a.handle.status().await;
            let targets = status.targets.into_iter().filter_map(|t| t.last_error);
            let ways =
                status.reservations.into_iter().filter_map(|r| r.last_error.map(|why| format!("reserve: {why}")));
            let said: Vec<String> = targets.chain(ways).collect();
            missing.retain(|wanted| !said.iter().any(|text| text.contains(wanted)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, told).await.is_ok(), "never said: {missing:?}; {:?}", a.handle.status().await);
    b.stays_alone(Duration::from_millis(200)).await;

    // As soon as there is a way, it is found.
    reachable(&b, "hub").await;
    up_by(&mut b, LinkPath::Relayed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nats_a_relayed_link_becomes_a_direct_one_and_the_circuit_goes() {
    let (world, walls) = (World::new(), Walls::nats());
    let (_hub, mut a, mut b) = beside_a_relay(&world, &walls).await;
    a.handle.dial_through(spiffe("hub"), spiffe("b"));
    let (mut to_b, mut to_a) = (0, 0);
    for (node, link) in [(&mut a, &mut to_b), (&mut b, &mut to_a)] {
        let first = up_by(node, LinkPath::Relayed).await;
        let why = node.down(first).await;
        assert!(why.contains("moved") || why.contains("circuit") || why.contains("closed by this node"), "{why}");
        *link = up_by(node, LinkPath::Direct).await;
    }
    exchange(&a, to_b, &b, to_a).await;
    assert_eq!(b.frame(to_a).await, b"there");
    assert_eq!(a.frame(to_b).await, b"back");
    let settled = async {
        loop {
            let links = a.handle.status().await.links;
            let link = links.iter().find(|l| l.spiffe_id == spiffe("b")).expect("the link");
            assert_eq!((link.link, link.path, link.remote_addr), (to_b, LinkPath::Direct, b.address));
            let circuits = format!("{links:?}").matches("Relayed").count();
            if circuits == 0 && link.connections <= 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("the circuit goes");
    a.stays_alone(Duration::from_millis(500)).await;
}

/// Three trust domains would do; two are enough to end one link and not the relay's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withdrawn_trust_ends_a_relayed_link_and_leaves_the_relays() {
    let (world, walls, other) = (World::new(), Walls::closed(), authority("b.test"));
    let both = || trust(&[&world.ca, &other]);
    let config = |name: &str, ca: &AuthorityCa, full: &str| {
        let (chain, key) = svid(ca, full, now_s(), 600);
        let source = SvidSource::new(chain, &key, both(), system_clock()).expect("a source");
        MeshConfig { source, ..world.config(name) }
    };
    let hub_id = SpiffeId::new("spiffe://b.test/coordinator/hub").expect("an id");
    let mut hub = Node::start(MeshConfig { relay: true, ..config("hub", &other, &hub_id.to_string()) }).await;
    let mut a = Node::start(behind(&walls, config("a", &world.ca, &id("a")))).await;
    let mut b = Node::start(behind(&walls, config("b", &world.ca, &id("b")))).await;
    attach(&mut a, &mut hub).await;
    attach(&mut b, &mut hub).await;
    b.handle.reserve(hub_id.clone());
    a.handle.dial_through(hub_id, spiffe("b"));
    let (to_b, to_a) = (up_by(&mut a, LinkPath::Relayed).await, up_by(&mut b, LinkPath::Relayed).await);

    a.source.set_bundles(trust(&[&other]));
    let reason = a.down(to_b).await;
    assert!(reason.contains("belongs to trust domain `a.test`"), "{reason}");
    b.down(to_a).await;
    assert_eq!(a.handle.counters().closed(CloseCode::Untrusted), 1);
    let again = a.refused_as(CloseCode::Certificate).await;
    assert!(again.contains("belongs to trust domain `a.test`"), "it is not let in again: {again}");
    assert_eq!(a.handle.status().await.links.len(), 1, "the relay is still trusted");
    a.source.set_bundles(both());
    up_by(&mut a, LinkPath::Relayed).await;
}

/// The relay's clock stands still, so that only the ends see the SVID run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_svid_ends_a_relayed_link() {
    let (world, walls, start_s) = (World::new(), Walls::closed(), now_s());
    let (chain, key) = svid(&world.ca, &id("hub"), now_s(), 600);
    let source = SvidSource::new(chain, &key, trust(&[&world.ca]), Arc::new(move || start_s)).expect("a source");
    let mut hub = Node::start(MeshConfig { relay: true, source, ..world.config("hub") }).await;
    let mut a = Node::start(behind(&walls, world.config("a"))).await;
    let short = MeshConfig { source: world.source("b", 5), ..world.config("b") };
    let mut b = Node::start(behind(&walls, short)).await;
    attach(&mut a, &mut hub).await;
    attach(&mut b, &mut hub).await;
    reachable(&b, "hub").await;
    a.handle.dial_through(spiffe("hub"), spiffe("b"));
    let to_b = up_by(&mut a, LinkPath::Relayed).await;
    let reason = a.down(to_b).await;
    assert!(reason.contains("expired at"), "{reason}");
    assert_eq!(a.handle.counters().closed(CloseCode::SvidExpired), 1);
    assert!(hub.handle.status().await.links.len() == 2, "the relay believes its own clock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_comes_through_another_relay_is_refused_and_told_why() {
    let (world, walls) = (World::new(), Walls::closed());
    let (mut hub, mut other) = (relay(&world, "hub").await, relay(&world, "other").await);
    let mut a = Node::start(behind(&walls, world.config("a"))).await;
    let mut original = Node::start(behind(&walls, world.config("twin"))).await;
    let mut copy = Node::start(behind(&walls, world.config("twin"))).await;
    attach(&mut a, &mut hub).await;
    attach(&mut a, &mut other).await;
    attach(&mut original, &mut hub).await;
    attach(&mut copy, &mut other).await;
    reachable(&a, "hub").await;
    reachable(&a, "other").await;
    original.handle.dial_through(spiffe("hub"), spiffe("a"));
    let (to_a, to_original) = (up_by(&mut original, LinkPath::Relayed).await, up_by(&mut a, LinkPath::Relayed).await);
    copy.handle.dial_through(spiffe("other"), spiffe("a"));
    let seen = a.refused_as(CloseCode::SecondProcess).await;
    assert!(seen.contains("its data directory was copied"), "{seen}");
    let told = copy.refused_as(CloseCode::SecondProcess).await;
    assert!(told.contains("this data directory was copied"), "{told}");
    original.handle.send(to_a, b"still here".to_vec()).expect("queued");
    assert_eq!(a.frame(to_original).await, b"still here");
}

type Ended = Result<(libp2p::PeerId, Circuit<Pipe>), EstablishError>;

/// Both ends of one circuit, over a carrier of the test's.
async fn ends(dialer: MeshConfig, wanted: &str, listener: MeshConfig, carrier: (Pipe, Pipe)) -> (Ended, Ended) {
    let shared = |config| Shared::new(config, Arc::new(Counters::default()));
    let at: SocketAddr = "192.0.2.1:7443".parse().expect("an address");
    let dials = establish_circuit(shared(dialer), carrier.0, End::Dialer(peer_id_of(&spiffe(wanted))), at);
    let listens = establish_circuit(shared(listener), carrier.1, End::Listener, at);
    futures::future::join(dials, listens).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_leads_elsewhere_or_shows_a_bad_certificate_gets_nothing() {
    let world = World::new();
    let (dialer, listener) = ends(world.config("a"), "b", world.config("b"), pipe()).await;
    assert_eq!(dialer.expect("let in").0, peer_id_of(&spiffe("b")));
    assert_eq!(listener.expect("let in").0, peer_id_of(&spiffe("a")));

    // A member with a valid SVID of its own, the relay itself for one, is not whom we asked for.
    let (dialer, listener) = ends(world.config("a"), "b", world.config("relay"), pipe()).await;
    let error = dialer.err().expect("refused").to_string();
    assert!(error.contains("asked for another peer") && error.contains(&id("relay")), "{error}");
    assert!(listener.is_err());

    let mut bad: Vec<Bad> = certificates(&world.ca, &spiffe("bad"), now_s());
    let foreign = authority("a.test");
    let (chain, key) = svid(&foreign, &id("bad"), now_s(), 600);
    bad.push(Bad { name: "another authority of that name", chain, key, says: "" });
    for Bad { name, chain, key, says } in bad {
        for bad_dials in [true, false] {
            let config = world.config("bad");
            config.source.present_unchecked(chain.clone(), &key);
            let refused = match bad_dials {
                true => ends(config, "good", world.config("good"), pipe()).await.1,
                false => ends(world.config("good"), "bad", config, pipe()).await.0,
            };
            let error = refused.err().unwrap_or_else(|| panic!("{name} was let in"));
            assert_eq!(error.code(), CloseCode::Certificate, "{name}, dials {bad_dials}: {error}");
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
    }

    let other_mesh = MeshConfig { mesh_id: MeshId::of("test", b"two"), ..world.config("a") };
    let (dialer, listener) = ends(other_mesh, "b", world.config("b"), pipe()).await;
    assert_eq!(listener.err().map(|e| e.code()), Some(CloseCode::WrongMesh));
    assert_eq!(dialer.err().map(|e| e.code()), Some(CloseCode::WrongMesh), "it is told");
    let stranger = MeshConfig { post_quantum: crate::PostQuantum::Require, ..world.config("a") };
    assert!(ends(stranger, "b", world.config("b"), pipe()).await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_reads_nothing_and_what_it_changes_ends_the_circuit() {
    let world = World::new();
    let carrier = pipe();
    let (there, back) = (carrier.0.writes.clone(), carrier.1.writes.clone());
    let (dialer, listener) = ends(world.config("a"), "b", world.config("b"), carrier).await;
    let (mut dialer, mut listener) = (dialer.expect("let in").1, listener.expect("let in").1);
    let secret = b"what nobody else may read";
    let drive = async |muxer: &mut Circuit<Pipe>| {
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut *muxer).poll(cx)).await.expect_err("ends")
    };
    let mut stream = futures::future::poll_fn(|cx| dialer.poll_outbound_unpin(cx)).await.expect("a stream");
    let sends = async {
        stream.write_all(secret).await.expect("writes");
        stream.flush().await.expect("writes");
    };
    let takes = async {
        let mut inbound = futures::future::poll_fn(|cx| listener.poll_inbound_unpin(cx)).await.expect("a stream");
        let mut read = vec![0; secret.len()];
        tokio::select! {
            done = inbound.read_exact(&mut read) => done.expect("reads"),
            error = drive(&mut listener) => panic!("{error}"),
        }
        (read, inbound)
    };
    // The stream stays open at both ends, so that nothing but the change can end it.
    let (read, _inbound) = tokio::select! {
        (taken, ()) = futures::future::join(takes, sends) => taken,
        error = drive(&mut dialer) => panic!("{error}"),
    };
    assert_eq!(read, secret);
    for flow in [&there, &back] {
        let seen = lock(flow).seen.clone();
        assert!(!seen.is_empty() && !seen.windows(secret.len()).any(|part| part == secret));
        assert!(!seen.windows(6).any(|part| part == b"a.test"), "certificates are encrypted, too");
    }

    lock(&there).tamper = true;
    let changes = async {
        stream.write_all(b"more").await.expect("written");
        let _ = stream.flush().await;
        std::future::pending::<()>().await
    };
    let ended = tokio::select! {
        error = drive(&mut listener) => error,
        error = drive(&mut dialer) => panic!("the wrong end: {error}"),
        () = changes => unreachable!("it waits"),
    };
    assert!(matches!(ended, EstablishError::Circuit(_)), "{ended}");
}
