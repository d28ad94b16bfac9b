//! Peers that are not what they should be: strangers with real certificates, a member that talks nonsense.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::x509::{AuthorityCa, Bundles, SvidKey, Validity};
use cauldron_identity::{AuthorKey, Fact, HeaderDraft, MeshId, Scope, SealedFact, SpiffeId, TrustDomain};
use cauldron_mesh::{Enrolled, Mesh as Wires, MeshConfig, MeshEvent, MeshHandle, SvidSource, system_clock};
use cauldron_tests::{Mesh, eventually};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::identities::{authority, now_s};

/// A peer that this test plays itself, with an SVID of `ca` for `id`.
struct Actor {
    handle: MeshHandle,
    events: Receiver<MeshEvent>,
}

impl Actor {
    fn enter(mesh: &Mesh, ca: &AuthorityCa, id: &str, author: AuthorKey) -> Self {
        let id = SpiffeId::new(id).expect("a SPIFFE ID");
        let key = SvidKey::generate().expect("a key");
        let chain = ca.issue(&key.csr_der().expect("a request"), &id, now_s(), 600, [9; 16]).expect("issued");
        let mut bundles = Bundles::new();
        bundles.insert(authority(mesh).bundle().expect("a bundle"));
        bundles.insert(ca.bundle().expect("a bundle"));
        let source = SvidSource::new(chain, &key, bundles, system_clock()).expect("an SVID");
        let own = mesh.hq.get("/v1/self");
        let mesh_id: MeshId = own["mesh"].as_str().expect("a mesh").parse().expect("a mesh id");
        let hq = own["listen"][0].as_str().expect("an address").to_owned();
        let listen = "127.0.0.1:0".parse().expect("an address");
        // Where its certificate is refused it tries the data lane; it believes whoever answers there.
        let name = SpiffeId::new(own["spiffe_id"].as_str().expect("a name")).expect("a SPIFFE ID");
        let enrolled = Some(Enrolled::new(move |_| Some(name.clone())));
        let config =
            MeshConfig { peers: vec![hq], enrolled, ..MeshConfig::new(listen, mesh_id, Arc::new(author), source) };
        let (handle, events) = Wires::start(config).expect("a free port");
        Self { handle, events }
    }

    /// Everything that happens until `deadline`, or until `enough`.
    async fn watch(&mut self, deadline: Duration, enough: impl Fn(&MeshEvent) -> bool) -> Vec<MeshEvent> {
        let (mut seen, deadline) = (Vec::new(), Instant::now() + deadline);
        while let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await {
            let end = enough(&event);
            seen.push(event);
            if end {
                break;
            }
        }
        seen
    }

    /// The link to hq, once the certificate has opened the door.
    async fn until_link(&mut self) -> u64 {
        let seen = self.watch(Duration::from_secs(20), |e| matches!(e, MeshEvent::LinkUp { .. })).await;
        let link = seen.iter().find_map(|e| if let MeshEvent::LinkUp { link, .. } = e { Some(*link) } else { None });
        link.unwrap_or_else(|| panic!("no link to hq: {seen:?}"))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The author key of a node, from its file.
fn author_of(node: &cauldron_tests::Node) -> AuthorKey {
    let text = std::fs::read_to_string(node.dir().join("author.key")).expect("readable");
    let payload = URL_SAFE_NO_PAD.decode(text.trim().rsplit('.').next().expect("a payload")).expect("base64url");
    AuthorKey::from_seed(payload.first_chunk().expect("a seed"))
}

/// A first restriction in lyon's own site, in all but the signature as lyon would write it. Restrictions travel first, so that it
/// is looked at before anything else was exchanged.
fn forged_fact(mesh: &Mesh) -> SealedFact {
    let draft = HeaderDraft {
        mesh: mesh.hq.get("/v1/self")["mesh"].as_str().expect("a mesh").parse().expect("a mesh id"),
        scope: Scope::site_restrict("lyon").expect("a scope"),
        incarnation: 0,
        seq: 1,
        prev: None,
        hlc: (now_s() * 1_000) << 16,
        kind: "restriction".to_owned(),
        deps: Vec::new(),
        traceparent: None,
    };
    let signed_otherwise = author_of(&mesh.lyon).sign("cauldron/another-domain", b"another message");
    let mut sealed = Fact::seal(&author_of(&mesh.lyon), draft, vec![0xa0]).sealed().clone();
    sealed.signature = signed_otherwise;
    sealed
}

/// A fact as a peer pushes it: sync frame, version 0, kind `facts`, a map of `1` to a list of one (docs/wire.md).
fn pushed(fact: &SealedFact) -> Vec<u8> {
    [&[0, 1, 3, 0xa1, 0x01, 0x81], to_cbor(fact).as_slice()].concat()
}

/// The sum of a family of counters over the labels that are not named in `except`.
fn sum(mesh: &Mesh, family: &str, except: &[&str]) -> u64 {
    let text = mesh.hq.try_get("/metrics").map(|answer| answer.body).unwrap_or_default();
    let mine = text.lines().filter(|line| line.starts_with(family) && !except.iter().any(|e| line.contains(e)));
    mine.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_a_valid_certificate_is_told_nothing_and_not_listened_to() {
    let mesh = Mesh::found();
    let id = mesh.lyon.propose("198.51.100.8", 600).expect("recorded");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");

    // The SVID is real (a stolen certificate authority), the author key is enrolled nowhere, the name is in lyon's site.
    let name = "spiffe://acme.example/site/lyon/node/spare";
    let mut actor = Actor::enter(&mesh, &authority(&mesh), name, AuthorKey::from_seed(&[3; 32]));
    let link = actor.until_link().await;
    for frame in [vec![0, 0x80], vec![1; 64], vec![4; 300], vec![9; 9]] {
        actor.handle.send(link, frame).expect("sent");
    }
    let seen = actor.watch(Duration::from_secs(8), |_| false).await;
    let frames = seen.iter().filter(|e| matches!(e, MeshEvent::Frame { .. })).count();
    assert_eq!(frames, 0, "a stranger was told something: {seen:?}");
    eventually("hq counts it", || mesh.hq.metric("cauldron_core_refused_total{code=\"not_enrolled\"}") == 4);
    actor.handle.shutdown().await;
    assert!(mesh.hq.items("/v1/peers").iter().all(|p| p["spiffe_id"] != name), "it is no member");
    let facts = mesh.hq.items("/v1/audit?limit=10000");
    assert!(facts.len() > 5 && facts.iter().all(|fact| fact["author"] != name), "{facts:?}");
    assert_eq!(mesh.hq.get("/v1/self")["state"], "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_certificate_and_bytes_that_are_no_quic_are_refused_and_counted() {
    let mesh = Mesh::only_hq(cauldron_tests::Plan::default());
    let validity = Validity { not_before_s: now_s() - 60, not_after_s: now_s() + 3_600 };
    let domain = TrustDomain::new("other.example").expect("a trust domain");
    let ca =
        AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [1; 16]).expect("an authority");
    let mut actor =
        Actor::enter(&mesh, &ca, "spiffe://other.example/site/lyon/node/lyon", AuthorKey::from_seed(&[4; 32]));
    let seen = actor.watch(Duration::from_secs(5), |_| false).await;
    let up = |e: &MeshEvent| matches!(e, MeshEvent::LinkUp { .. } | MeshEvent::DataLinkUp { .. });
    assert!(!seen.iter().any(up), "{seen:?}");
    eventually("hq counts the certificate", || {
        mesh.hq.metric("cauldron_mesh_refused_total{code=\"certificate\"}") >= 1
    });
    actor.handle.shutdown().await;

    let hq = mesh.hq.get("/v1/self")["listen"][0].as_str().expect("an address").to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for n in 0..200_u8 {
        socket.send_to(&[n; 1200], &hq).expect("sent");
    }
    assert_eq!(mesh.hq.get("/v1/self")["state"], "active");
    assert!(mesh.hq.broken().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_certificate_gets_facts_on_the_data_lane_and_nothing_else() {
    let mut mesh = Mesh::found();
    mesh.lyon.stop();
    eventually("hq sees that lyon is gone", || mesh.hq.metric("cauldron_mesh_links") == 1);
    let validity = Validity { not_before_s: now_s() - 60, not_after_s: now_s() + 3_600 };
    let domain = TrustDomain::new("other.example").expect("a trust domain");
    let ca =
        AuthorityCa::self_signed(domain, SvidKey::generate().expect("a key"), validity, [1; 16]).expect("an authority");
    // Nothing but the enrolled author key is lyon's: a request for a lease, a grant, the time, a new life.
    for (n, kind) in (1..).zip([1_u8, 2, 3, 4]) {
        let mut actor = Actor::enter(&mesh, &ca, "spiffe://other.example/x", author_of(&mesh.lyon));
        let seen = actor.watch(Duration::from_secs(20), |e| matches!(e, MeshEvent::DataLinkUp { .. })).await;
        let link =
            seen.iter().find_map(|e| if let MeshEvent::DataLinkUp { link, .. } = e { Some(*link) } else { None });
        let link = link.unwrap_or_else(|| panic!("no data link: {seen:?}"));
        let of_lyon = |e: &MeshEvent| matches!(e, MeshEvent::Frame { bytes, .. } if contains(bytes, "site/lyon"));
        let told = actor.watch(Duration::from_secs(20), of_lyon).await;
        let sync = |e: &MeshEvent| !matches!(e, MeshEvent::Frame { bytes, .. } if bytes.first() != Some(&0));
        assert!(told.iter().any(of_lyon) && told.iter().all(sync), "facts of its scopes, nothing but sync: {told:?}");
        let ask = if kind == 4 { vec![4, 0xa1, 0x00, 0x58, 0x20] } else { vec![kind, 0xa0] };
        let ask = [ask, vec![7; if kind == 4 { 32 } else { 0 }]].concat();
        actor.handle.send(link, ask).expect("sent");
        let down = actor.watch(Duration::from_secs(20), |e| matches!(e, MeshEvent::LinkDown { .. })).await;
        assert!(down.iter().any(|e| matches!(e, MeshEvent::LinkDown { .. })), "frame {kind} ends the link: {down:?}");
        actor.handle.shutdown().await;
        eventually("hq counts why", || mesh.hq.metric("cauldron_mesh_closed_total{code=\"bad_content\"}") >= n);
    }
    // The one that is a whole frame of another core; the others are not even that.
    assert_eq!(mesh.hq.metric("cauldron_core_refused_total{code=\"data_lane\"}"), 1);
    assert!(mesh.hq.broken().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_talks_nonsense_is_closed_with_a_code_and_the_mesh_goes_on() {
    let mut mesh = Mesh::found();
    mesh.lyon.stop();
    eventually("hq sees that lyon is gone", || mesh.hq.metric("cauldron_mesh_links") == 1);
    let before = mesh.hq.get("/v1/sync")["state_hash"].clone();

    // Each on a link of its own: a bad sync frame, half of one, a lease request cut short, a grant that is none, noise, and a
    // frame without fault around a fact whose signature is not its author's.
    let forged = pushed(&forged_fact(&mesh));
    let half = forged[..forged.len() / 2].to_vec();
    let nonsense = [vec![0, 0xff, 0xff], half, vec![1, 0xa3, 0x00], vec![2, 0x80], vec![3; 4096], forged];
    for (n, frame) in (1..).zip(nonsense) {
        let mut actor = Actor::enter(&mesh, &authority(&mesh), &Mesh::site_id("lyon"), author_of(&mesh.lyon));
        let link = actor.until_link().await;
        let of_lyon = |e: &MeshEvent| matches!(e, MeshEvent::Frame { bytes, .. } if contains(bytes, "site/lyon"));
        let told = actor.watch(Duration::from_secs(20), of_lyon).await;
        assert!(told.iter().any(of_lyon), "a member is told of its site, so a stranger's silence means something");
        actor.handle.send(link, frame).expect("sent");
        let down = actor.watch(Duration::from_secs(20), |e| matches!(e, MeshEvent::LinkDown { .. })).await;
        assert!(down.iter().any(|e| matches!(e, MeshEvent::LinkDown { .. })), "frame {n} ends the link: {down:?}");
        actor.handle.shutdown().await;
        eventually("hq counts why", || mesh.hq.metric("cauldron_mesh_closed_total{code=\"bad_content\"}") >= n);
    }
    assert_eq!(mesh.hq.metric("cauldron_core_refused_total{code=\"bad-signature\"}"), 1);
    assert_eq!(mesh.hq.metric("cauldron_sync_facts_total{outcome=\"refused\"}"), 1);
    assert_eq!(mesh.hq.metric("cauldron_sync_closed_total"), 3, "by the noise, the half frame and the forged fact");
    assert!(mesh.hq.metric("cauldron_sync_facts_total{outcome=\"new\"}") > 0, "lyon and porto brought some before");
    assert_eq!(sum(&mesh, "cauldron_mesh_closed_total", &["bad_content", "normal", "shutdown", "queue_full"]), 0);
    assert_eq!(mesh.hq.get("/v1/sync")["state_hash"], before, "nothing else happened");

    mesh.lyon.start();
    mesh.until_up();
    let id = mesh.lyon.propose("198.51.100.9", 600).expect("recorded");
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    mesh.until_converged();
}
