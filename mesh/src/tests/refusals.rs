//! The matrix of bad peers, as dialer and as acceptor: the good side never reports a link, counts each, and says why.

use std::time::Duration;

use cauldron_tests::badcert::{Bad, certificates};
use quinn::crypto::rustls::QuicClientConfig;

use super::*;
use crate::admission::{self, Lane, Side, Version};
use crate::hello::Features;
use crate::limits;
use crate::tls;
use crate::{PostQuantum, ProcessNonce};

/// Every wrong certificate, and the authority itself as a leaf.
fn matrix(world: &World) -> Vec<Bad> {
    let bad = SpiffeId::new(id("bad")).expect("an id");
    let mut all = certificates(&world.ca, &bad, now_s());
    let key = SvidKey::from_pkcs8_pem(&world.ca.key_pem().expect("held")).expect("a key");
    all.push(Bad { name: "the root as leaf", chain: vec![world.ca.certificate().clone()], key, says: "has no path" });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_certificate_is_let_in_by_either_side() {
    let world = World::new();
    for Bad { name, chain, key, says } in matrix(&world) {
        for bad_dials in [true, false] {
            let (mut good, mut bad) = (world.node("good").await, world.node("bad").await);
            bad.source.present_unchecked(chain.clone(), &key);
            if bad_dials {
                bad.dial(&good)
            } else {
                good.dial(&bad)
            }
            let (code, reason) = good.refused().await;
            assert_eq!(code, CloseCode::Certificate, "{name}, dials {bad_dials}: {reason}");
            assert!(reason.contains(says), "{name}: {reason}");
            assert!(good.handle.counters().refused(CloseCode::Certificate) >= 1, "{name}");
            let (_, told) = bad.refused().await;
            assert!(!told.contains("a.test"), "{name}: the bad peer was told {told}");
            good.stays_alone(Duration::from_millis(20)).await;
        }
    }
}

/// Only the TLS session of a refused peer could remember that it was once accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_never_resumed_so_a_distrusted_peer_is_verified_again() {
    let world = World::new();
    let good = world.node("good").await;
    let peer = world.source("peer", 600);
    let mut config = rustls::ClientConfig::builder_with_provider(peer.provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(tls::any_server(peer.provider()))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(peer.certified())));
    config.alpn_protocols = vec![Version::V2.alpn().to_vec()];
    // The client would resume: it keeps whatever tickets it is given, over both connections.
    let crypto = QuicClientConfig::try_from(config).expect("a QUIC configuration");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client(LOOPBACK.parse().expect("an address")).expect("a socket");
    let connect =
        || async { endpoint.connect_with(config.clone(), good.address, tls::SERVER_NAME).expect("dials").await };
    let first = connect().await.expect("the SVID is in order");
    // Tickets come behind the handshake.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(first);

    good.source.set_bundles(trust(&[&authority("b.test")]));
    let ended = match connect().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let quinn::ConnectionError::ConnectionClosed(close) = ended else { panic!("not by the verifier: {ended:?}") };
    assert_eq!(u64::from(close.error_code), 0x100 + 49);
}

/// A client without libp2p, free to misbehave after the handshake.
async fn raw_client(crypto: QuicClientConfig, to: SocketAddr) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client(LOOPBACK.parse().expect("an address")).expect("a socket");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, to, tls::SERVER_NAME).expect("dials").await
}

fn without_certificate(world: &World, alpn: &[u8]) -> QuicClientConfig {
    anonymous(world, alpn, rustls::crypto::aws_lc_rs::default_provider())
}

fn anonymous(world: &World, alpn: &[u8], provider: rustls::crypto::CryptoProvider) -> QuicClientConfig {
    let provider = Arc::new(provider);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.ca.certificate().clone()).expect("a root");
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone());
    let verifier = tls::any_server(&provider);
    let mut config = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // An empty name stands for a client that offers no protocol at all.
    config.alpn_protocols = Some(alpn.to_vec()).filter(|name| !name.is_empty()).into_iter().collect();
    QuicClientConfig::try_from(config).expect("a QUIC configuration")
}

fn application_code(error: quinn::ConnectionError) -> Option<CloseCode> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => CloseCode::from_wire(close.error_code.into()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_certificate_is_closed_before_a_byte_is_read() {
    let world = World::new();
    let mut good = world.node("good").await;
    let crypto = without_certificate(&world, Version::V2.alpn());
    let connection = raw_client(crypto, good.address).await.expect("TLS alone lets it in");
    // May fail already: the close can be faster than the write.
    if let Ok(mut stream) = connection.open_uni().await {
        let _ = stream.write_all(&[0; 129]).await;
    }
    assert_eq!(application_code(connection.closed().await), Some(CloseCode::NoCertificate));
    assert_eq!(good.refused().await.0, CloseCode::NoCertificate);
    assert_eq!(good.handle.counters().refused(CloseCode::NoCertificate), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused_in_the_handshake() {
    let world = World::new();
    let mut good = world.node("good").await;
    for alpn in [&b"h3"[..], b"cauldron-mesh/0", b""] {
        let result = raw_client(without_certificate(&world, alpn), good.address).await;
        assert!(result.is_err(), "{alpn:?}");
        assert_eq!(good.refused().await.0, CloseCode::Protocol);
    }
}

/// What a build without ML-KEM would offer.
fn classical() -> rustls::crypto::CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() != rustls::NamedGroup::X25519MLKEM768);
    provider
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_post_quantum_is_required_a_classical_peer_is_refused_as_dialler_and_acceptor_and_told_apart() {
    let world = World::new();
    let strict = |name| MeshConfig { post_quantum: PostQuantum::Require, ..world.config(name) };
    let (mut a, mut b) = (Node::start(strict("a")).await, Node::start(strict("b")).await);
    join(&mut a, &mut b).await;
    let mut lenient = world.node("c").await;
    join(&mut lenient, &mut a).await;

    for lane in [Version::V2.alpn(), tls::ALPN_ENROL, tls::ALPN_DATA] {
        assert!(raw_client(anonymous(&world, lane, classical()), a.address).await.is_err());
        let (code, reason) = a.refused().await;
        assert_eq!(code, CloseCode::Protocol);
        assert!(reason.contains("no key exchange in common") && reason.contains("mesh.post_quantum"), "{reason}");
    }
    assert!(raw_client(anonymous(&world, Version::V2.alpn(), classical()), lenient.address).await.is_ok());

    let source = world.source("odd", 600);
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(classical()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(source.certified())));
    config.alpn_protocols = vec![Version::V2.alpn().to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("a QUIC configuration");
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let odd = quinn::Endpoint::server(server, LOOPBACK.parse().expect("an address")).expect("a socket");
    b.handle.dial(odd.local_addr().expect("bound").to_string());
    tokio::spawn(async move {
        while let Some(incoming) = odd.accept().await {
            drop(incoming.await);
        }
    });
    let (code, reason) = b.refused().await;
    assert_eq!(code, CloseCode::Protocol);
    assert!(reason.contains("no key exchange in common"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptor_with_another_protocol_or_without_tls_gets_no_link() {
    let world = World::new();
    let mut good = world.node("good").await;
    let source = world.source("odd", 600);
    let mut config = rustls::ServerConfig::builder_with_provider(source.provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(source.certified())));
    config.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).expect("a QUIC configuration");
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let odd = quinn::Endpoint::server(server, LOOPBACK.parse().expect("an address")).expect("a socket");
    let at = odd.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Some(incoming) = odd.accept().await {
            drop(incoming.await);
        }
    });
    good.handle.dial(at.to_string());
    assert_eq!(good.refused().await.0, CloseCode::Protocol);

    let deaf = tokio::net::UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let deaf_at = deaf.local_addr().expect("bound").to_string();
    good.handle.dial(deaf_at.clone());
    good.stays_alone(Duration::from_secs(6)).await;
    let status = good.handle.status().await;
    let target = status.targets.iter().find(|t| t.address == deaf_at).expect("the target");
    let error = target.last_error.as_deref().expect("an error");
    assert!(error.contains("no handshake within 5 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stranger_reads_an_alert_and_nothing_about_us() {
    let world = World::new();
    let mut good = world.node("good").await;
    let bad = world.source("bad", 600);
    let (chain, key) = svid(&authority("evil.test"), "spiffe://evil.test/x", now_s(), 600);
    bad.present_unchecked(chain, &key);
    let crypto = tls::mesh_client(&terms(Version::ALL), &bad, &tls::Report::default()).expect("a configuration");
    let error = match raw_client(crypto, good.address).await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    // TLS alert 49, access_denied, as RFC 9001 §4.8 carries it.
    assert_eq!(u64::from(close.error_code), 0x100 + 49);
    let told = String::from_utf8_lossy(&close.reason).into_owned();
    assert!(!told.contains("a.test") && !told.contains("evil.test"), "{told}");
    let (_, reason) = good.refused().await;
    assert!(reason.contains("`evil.test`, we trust `a.test`"), "{reason}");
}

fn terms(versions: &'static [Version]) -> tls::Terms {
    tls::Terms::new(PostQuantum::Prefer, versions)
}

/// An SVID is in order; what follows is up to the test.
async fn with_svid(
    world: &World,
    name: &str,
    versions: &'static [Version],
    to: SocketAddr,
) -> (quinn::Connection, [u8; 32]) {
    let source = world.source(name, 600);
    let crypto = tls::mesh_client(&terms(versions), &source, &tls::Report::default()).expect("a configuration");
    let connection = raw_client(crypto, to).await.expect("the SVID is in order");
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, admission::EXPORTER_LABEL, b"").expect("an exporter");
    (connection, exporter)
}

async fn admit_with(connection: &quinn::Connection, frame: &[u8]) -> Option<CloseCode> {
    let mut stream = connection.open_uni().await.expect("opens");
    stream.write_all(frame).await.expect("writes");
    stream.finish().expect("finishes");
    application_code(connection.closed().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_for_another_session_or_version_or_garbage_instead_is_refused() {
    let world = World::new();
    let mut good = world.node("good").await;
    let me = SpiffeId::new(id("x")).expect("an id");
    let process = admission::Process { nonce: ProcessNonce::from_bytes([1; 16]), features: Features::NONE };
    let seal = |version, exporter: &[u8; 32], side| {
        admission::seal(Lane::Mesh(version, &me), &author("x"), &process, &world.mesh, side, exporter)
    };
    for (version, only) in [(Version::V1, &[Version::V1]), (Version::V2, &[Version::V2])] {
        let other = if version == Version::V1 { Version::V2 } else { Version::V1 };
        let connect = || with_svid(&world, "x", only, good.address);
        let (connection, _) = connect().await;
        let sealed = seal(version, &[1; 32], Side::Dialer);
        assert_eq!(admit_with(&connection, &sealed).await, Some(CloseCode::Admission));
        let (connection, exporter) = connect().await;
        let sealed = seal(version, &exporter, Side::Listener);
        assert_eq!(admit_with(&connection, &sealed).await, Some(CloseCode::Admission));
        let (connection, exporter) = connect().await;
        let sealed = seal(other, &exporter, Side::Dialer);
        assert_eq!(admit_with(&connection, &sealed).await, Some(CloseCode::Admission));
        let (connection, _) = connect().await;
        assert_eq!(admit_with(&connection, b"GET / HTTP/1.1\r\n\r\n").await, Some(CloseCode::Admission));
        let (connection, _) = connect().await;
        assert_eq!(admit_with(&connection, &[]).await, Some(CloseCode::Admission));
    }
    for _ in 0..10 {
        assert_eq!(good.refused().await.0, CloseCode::Admission);
    }
    assert_eq!(good.handle.counters().refused(CloseCode::Admission), 10);

    let (connection, exporter) = with_svid(&world, "x", Version::ALL, good.address).await;
    let mut stream = connection.open_uni().await.expect("opens");
    stream.write_all(&seal(Version::V2, &exporter, Side::Dialer)).await.expect("writes");
    assert_eq!(good.up().await.spiffe_id, id("x"), "the right proof is let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_proves_its_key_is_closed_within_the_handshake_time() {
    let world = World::new();
    let mut good = world.node("good").await;
    let (connection, _) = with_svid(&world, "x", Version::ALL, good.address).await;
    let start = std::time::Instant::now();
    assert_eq!(application_code(connection.closed().await), Some(CloseCode::HandshakeTimeout));
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(good.refused().await.0, CloseCode::HandshakeTimeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_mesh_is_told_apart() {
    let world = World::new();
    let mut config = world.config("b");
    config.mesh_id = MeshId::of("test", b"two");
    let (mut a, mut b) = (world.node("a").await, Node::start(config).await);
    b.dial(&a);
    let (code, reason) = a.refused().await;
    assert_eq!(code, CloseCode::WrongMesh);
    assert!(reason.contains(&world.mesh.to_string()), "{reason}");
    assert_eq!(b.refused().await.0, CloseCode::WrongMesh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_spiffe_id_with_two_author_keys_is_reported() {
    let world = World::new();
    let (mut hub, mut first) = (world.node("hub").await, world.node("twin").await);
    let (_, link) = join(&mut first, &mut hub).await;
    let mut config = world.config("twin");
    config.author = Arc::new(author("another key"));
    let mut second = Node::start(config).await;
    second.dial(&hub);
    let (code, reason) = hub.refused().await;
    assert_eq!(code, CloseCode::KeyConflict);
    assert!(reason.contains(&id("twin")) && reason.contains("copied"), "{reason}");
    assert_eq!(second.refused().await.0, CloseCode::KeyConflict);
    first.handle.send(1, b"the first one stays".to_vec()).expect("queued");
    assert_eq!(hub.frame(link.link).await, b"the first one stays");

    second.dial(&first);
    let (code, reason) = first.refused().await;
    assert_eq!(code, CloseCode::KeyConflict);
    assert!(reason.contains("our own SPIFFE ID"), "{reason}");
}

/// With an SVID and before its admission, while nobody reads what it writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_opens_or_writes_more_than_it_may_waits_and_others_do_not() {
    /// What is allowed is allowed at once: the limits come with the handshake.
    const SOON: Duration = Duration::from_millis(20);
    async fn fill(stream: &mut quinn::SendStream) -> usize {
        let mut sent = 0;
        while let Ok(written) = timeout(SOON, stream.write(&[0; 64 * 1024])).await {
            sent += written.expect("open");
        }
        sent
    }
    let world = World::new();
    let mut good = world.node("good").await;
    let (connection, _) = with_svid(&world, "x", Version::ALL, good.address).await;
    let (mut bidi, mut uni) = (Vec::new(), Vec::new());
    while let Ok(opened) = timeout(SOON, connection.open_bi()).await {
        bidi.push(opened.expect("open").0);
    }
    while let Ok(opened) = timeout(SOON, connection.open_uni()).await {
        uni.push(opened.expect("open"));
    }
    assert_eq!((bidi.len(), uni.len()), (limits::BIDI_STREAMS_MAX as usize, limits::UNI_STREAMS_MAX as usize));
    let mut total = fill(&mut bidi[0]).await;
    assert_eq!(total, limits::STREAM_WINDOW_BYTES as usize);
    for stream in bidi.iter_mut().skip(1) {
        total += fill(stream).await;
    }
    assert_eq!(total, limits::CONNECTION_WINDOW_BYTES as usize);
    let mut friend = world.node("friend").await;
    join(&mut friend, &mut good).await;
    assert_eq!(application_code(connection.closed().await), Some(CloseCode::HandshakeTimeout));
}
