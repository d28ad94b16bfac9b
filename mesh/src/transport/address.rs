//! `/ip4|ip6/<address>/udp/<port>/quic-v1`, and back.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The socket address of a QUIC multiaddress; a `/p2p/<id>` behind it is left to the Swarm to compare.
pub(crate) fn socket_addr_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Where the relay of a circuit's address is: `/ip4|ip6/…/udp/…/quic-v1[/p2p/<relay>]/p2p-circuit…`.
pub(crate) fn relay_addr_of(address: &Multiaddr) -> Option<SocketAddr> {
    address.iter().any(|part| part == Protocol::P2pCircuit).then_some(())?;
    socket_addr_of(&address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect())
}

/// The multiaddress of a socket address.
pub(crate) fn multiaddr_of(address: SocketAddr) -> Multiaddr {
    Multiaddr::empty().with(address.ip().into()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_others_are_not_ours() {
        for text in ["127.0.0.1:7443", "[::1]:7443", "[2001:db8::1]:1"] {
            let address: SocketAddr = text.parse().expect(text);
            assert_eq!(socket_addr_of(&multiaddr_of(address)), Some(address));
        }
        let parse = |s: &str| s.parse::<Multiaddr>().expect(s);
        let id = libp2p::PeerId::random();
        assert!(socket_addr_of(&parse(&format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{id}"))).is_some());
        let circuit = parse(&format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{id}/p2p-circuit/p2p/{id}"));
        assert_eq!(relay_addr_of(&circuit), Some("1.2.3.4:5".parse().expect("an address")));
        assert_eq!(relay_addr_of(&multiaddr_of("1.2.3.4:5".parse().expect("an address"))), None);
        for other in [
            "/ip4/1.2.3.4/tcp/5".to_owned(),
            "/ip4/1.2.3.4/udp/5".to_owned(),
            "/dns/a.test/udp/5/quic-v1".to_owned(),
            format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{id}/p2p-circuit"),
        ] {
            assert_eq!(socket_addr_of(&parse(&other)), None, "{other}");
        }
    }
}
