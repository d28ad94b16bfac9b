//! Addresses that change under a living node: families, interfaces, and a NAT that forgets.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cauldron_tests::skipped;

use super::*;
use crate::limits::LISTEN_ADDRESSES_MAX;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_listens_on_both_families_and_dials_from_the_socket_of_the_family() {
    let world = World::new();
    let parse = |text: &str| text.parse::<SocketAddr>().expect(text);
    let mut config = world.config("both");
    config.listen = vec![parse("127.0.0.1:0"), parse("[::1]:0")];
    let mut both = Node::start(config).await;
    let mut listening = both.handle.listen_addrs().await;
    for _ in 0..100 {
        if listening.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        listening = both.handle.listen_addrs().await;
    }
    assert_eq!(listening.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);

    for (n, address) in ["127.0.0.1:0", "[::1]:0"].into_iter().enumerate() {
        let mut config = world.config(&format!("n{n}"));
        config.listen = vec![parse(address)];
        let mut node = Node::start(config).await;
        both.dial(&node);
        node.up().await;
        both.up().await;
        let links = node.handle.status().await.links;
        let from = links.first().expect("a link").remote_addr;
        assert!(listening.contains(&from), "dialled from {from}, listens on {listening:?}");
        let mut back = Node::start(MeshConfig { listen: vec![parse(address)], ..world.config(&format!("b{n}")) }).await;
        back.handle.dial(listening[n].to_string());
        back.up().await;
        both.up().await;
    }

    for wrong in [0, LISTEN_ADDRESSES_MAX + 1] {
        let config = MeshConfig { listen: vec![parse(LOOPBACK); wrong], ..world.config("wrong") };
        let error = Mesh::start(config).map(drop).expect_err("not that many").to_string();
        assert!(error.contains("1 to 16") && error.contains(&wrong.to_string()), "{error}");
    }
}

/// A NAT on loopback between one client and one server: on command it forgets the client's mapping and takes another port,
/// without a word to anybody.
struct Nat {
    address: SocketAddr,
    rebind: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Nat {
    fn before(server: SocketAddr) -> Self {
        let socket = || {
            let socket = UdpSocket::bind(LOOPBACK).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(2))).expect("a time-out");
            socket
        };
        let (inside, mut outside) = (socket(), socket());
        let address = inside.local_addr().expect("bound");
        let (rebind, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (again, end) = (rebind.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut client, mut buffer) = (None, [0; 65_536]);
            while !end.load(SeqCst) {
                if again.swap(false, SeqCst) {
                    outside = socket();
                }
                if let Ok((n, from)) = inside.recv_from(&mut buffer) {
                    client = Some(from);
                    outside.send_to(&buffer[..n], server).expect("sends");
                }
                while let Ok((n, _)) = outside.recv_from(&mut buffer) {
                    if let Some(client) = client {
                        inside.send_to(&buffer[..n], client).expect("sends");
                    }
                }
            }
        });
        Self { address, rebind, stop, thread: Some(thread) }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_survives_a_nat_that_changes_the_port_and_status_shows_the_new_one() {
    let world = World::new();
    let (mut server, mut client) = (world.node("server").await, world.node("client").await);
    let nat = Nat::before(server.address);
    client.handle.dial(nat.address.to_string());
    let (to_server, to_client) = (client.up().await, server.up().await);
    let remote = async |node: &Node| node.handle.status().await.links.first().map(|link| link.remote_addr);
    let before = remote(&server).await.expect("a link");

    for round in 0..3u8 {
        nat.rebind.store(true, SeqCst);
        client.handle.send(to_server.link, vec![round]).expect("queued");
        assert_eq!(server.frame(to_client.link).await, [round]);
        server.handle.send(to_client.link, vec![round, round]).expect("queued");
        assert_eq!(client.frame(to_server.link).await, [round, round]);
    }
    let after = remote(&server).await.expect("the link stays");
    assert_ne!(after.port(), before.port());
    assert_eq!(remote(&client).await, Some(nat.address));
    for node in [&server, &client] {
        let links = node.handle.status().await.links;
        let [link] = &links[..] else { panic!("{links:?}") };
        assert!(link.packets_sent > 0 && link.bytes_out > 0 && link.bytes_in > 0, "{link:?}");
    }
}

const IN_NAMESPACE: &str = "CAULDRON_TEST_IN_NAMESPACE";

/// Needs a network of its own, where interfaces may come and go: the test starts itself again in one.
#[test]
fn a_wildcard_socket_follows_the_interfaces() {
    const NAME: &str = "tests::paths::a_wildcard_socket_follows_the_interfaces";
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return in_a_namespace();
    }
    let can = Command::new("unshare").args(["--net", "ip", "link", "add", "probe", "type", "veth"]).output();
    if !can.as_ref().is_ok_and(|out| out.status.success()) {
        return skipped(NAME, "needs root, `unshare`, `ip` and veth interfaces");
    }
    let out = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&out.stderr));
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn in_a_namespace() {
    ip("link set lo up");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let world = World::new();
        let mut config = world.config("wild");
        let parse = |text: &str| text.parse::<SocketAddr>().expect(text);
        config.listen = vec![parse("0.0.0.0:7443"), parse("[::]:7443")];
        let mut wild = Node::start(config).await;
        let shows = async |wild: &Node, wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|text| parse(text)).collect();
            let mut seen = Vec::new();
            for _ in 0..200 {
                seen = wild.handle.listen_addrs().await;
                if seen == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            panic!("listens on {seen:?}, wanted {wanted:?}");
        };
        shows(&wild, &["127.0.0.1:7443", "[::1]:7443"]).await;

        ip("link add wan type veth peer name far");
        ip("link set far up");
        ip("addr add 192.0.2.1/24 dev wan");
        // Told before the one that is waited for, and not listened on.
        ip("addr add fe80::1/64 dev wan nodad");
        ip("addr add 2001:db8::1/64 dev wan nodad");
        ip("link set wan up");
        let all = ["127.0.0.1:7443", "192.0.2.1:7443", "[::1]:7443", "[2001:db8::1]:7443"];
        shows(&wild, &all).await;
        let mut peer = world.node("peer").await;
        peer.handle.dial("127.0.0.1:7443");
        let (to_wild, to_peer) = (peer.up().await, wild.up().await);

        ip("addr del 192.0.2.1/24 dev wan");
        shows(&wild, &["127.0.0.1:7443", "[::1]:7443", "[2001:db8::1]:7443"]).await;
        ip("link del wan");
        shows(&wild, &["127.0.0.1:7443", "[::1]:7443"]).await;
        peer.handle.send(to_wild.link, b"untouched".to_vec()).expect("queued");
        assert_eq!(wild.frame(to_peer.link).await, b"untouched");

        ip("link add wan type veth peer name far");
        ip("addr add 192.0.2.1/24 dev wan");
        ip("link set wan up");
        shows(&wild, &["127.0.0.1:7443", "192.0.2.1:7443", "[::1]:7443"]).await;
    });
}
