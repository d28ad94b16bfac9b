//! The ground that the other tests stand on: namespaces, the WAN and its NAT do what they say, and leave nothing behind.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use cauldron_tests::netns::{Mapping, Net, Path, Site};

const ANSWER_MAX: Duration = Duration::from_secs(2);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Whether a namespace of that name is there.
fn is_there(name: &str) -> bool {
    std::path::Path::new("/run/netns").join(name).exists()
}

/// A socket at a node, on a port of its own.
fn socket(net: &Net, node: &str, v6: bool) -> UdpSocket {
    let address: IpAddr = if v6 { net.address(node).v6.into() } else { net.address(node).v4.into() };
    let socket = net.inside(node, move || UdpSocket::bind((address, 0))).expect("a socket");
    socket.set_read_timeout(Some(ANSWER_MAX)).expect("set");
    socket
}

/// Sends one datagram; where it came from and how long it took, if it came.
fn send(from: &UdpSocket, to: &UdpSocket, at: SocketAddr) -> Option<(SocketAddr, Duration)> {
    let began = Instant::now();
    from.send_to(b"hello", at).ok()?;
    let (length, source) = to.recv_from(&mut [0; 64]).ok()?;
    (length == 5).then(|| (source, began.elapsed()))
}

#[test]
fn the_wan_carries_delays_loses_cuts_counts_and_translates_and_leaves_nothing_behind() {
    if super::unable("netns::ground") {
        return;
    }
    let net = Net::build(&[Site::new("hq", &["hq"]), Site::new("lyon", &["lyon", "annexe"])], 7);
    let mut names = ["hq", "lyon", "annexe"].map(|node| net.namespace(node).to_owned()).to_vec();
    assert!(names.iter().all(|name| is_there(name)), "{names:?}");
    for v6 in [false, true] {
        let [hq, lyon, annexe] = ["hq", "lyon", "annexe"].map(|node| socket(&net, node, v6));
        let [at_hq, at_lyon, at_annexe] = [&hq, &lyon, &annexe].map(|s| s.local_addr().expect("bound"));
        net.wan().set("hq", "lyon", Path::wan(80, 0.0));
        let (source, took) = send(&hq, &lyon, at_lyon).expect("it arrives");
        assert!(source == at_hq && took >= ms(80) && took < ms(200), "{source} {took:?}");
        let (_, took) = send(&lyon, &hq, at_hq).expect("the way back is another");
        assert!(took < ms(80), "{took:?}");
        let (_, took) = send(&lyon, &annexe, at_annexe).expect("a site is one network");
        assert!(took < ms(80), "{took:?}");
        net.wan().set("hq", "lyon", Path { cut: true, ..Path::default() });
        lyon.set_read_timeout(Some(ms(300))).expect("set");
        assert!(send(&hq, &lyon, at_lyon).is_none());
        assert!(send(&lyon, &hq, at_hq).is_some(), "one way is cut, the other is not");
        net.wan().set("hq", "lyon", Path::default());

        net.unplug("lyon");
        assert!(send(&hq, &lyon, at_lyon).is_none() && send(&annexe, &lyon, at_lyon).is_none());
        net.plug("lyon");
        assert!(send(&hq, &lyon, at_lyon).is_some() && send(&annexe, &lyon, at_lyon).is_some());
    }
    assert!(net.wan().carried("hq", "lyon").bytes > 4 * 33 && net.wan().carried("hq", "lyon").lost == 2);

    net.wan().translate("lyon", Mapping::Symmetric, Duration::from_secs(30));
    let [hq, other, lyon] = ["hq", "hq", "lyon"].map(|node| socket(&net, node, false));
    let [at_hq, at_other, at_lyon] = [&hq, &other, &lyon].map(|s| s.local_addr().expect("bound"));
    let (first, _) = send(&lyon, &hq, at_hq).expect("it goes out");
    assert_eq!(first.ip(), IpAddr::from(net.wan().outside("lyon").expect("an address")));
    let (source, _) = send(&hq, &lyon, first).expect("the answer comes in");
    assert_eq!(source, at_hq);
    assert_ne!(send(&lyon, &other, at_other).expect("it goes out").0, first, "each peer sees another port");
    lyon.set_read_timeout(Some(ms(300))).expect("set");
    assert!(send(&other, &lyon, first).is_none() && send(&hq, &lyon, at_lyon).is_none());
    net.wan().rebind("lyon");
    assert!(send(&hq, &lyon, first).is_none());
    assert_ne!(send(&lyon, &hq, at_hq).expect("it goes out").0, first);

    let doomed = Net::build(&[Site::new("far", &["far"])], 1);
    names.push(doomed.namespace("far").to_owned());
    let panics = move || {
        let _held = doomed;
        panic!("on purpose");
    };
    assert!(std::thread::spawn(panics).join().is_err());
    drop(net);
    assert!(!names.iter().any(|name| is_there(name)), "{names:?}");
}
