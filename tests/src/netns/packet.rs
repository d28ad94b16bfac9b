//! IP packets as the WAN looks at them: where from, where to, and for NAT the ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

const UDP: u8 = 17;
const IPV4_HEADER_LEN_MIN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

/// Where a packet goes; nothing when it is no IP packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(16..20).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(|b| Ipv4Addr::from(b).into()),
        6 => packet.get(24..40).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}

/// Which end of an IPv4 UDP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// An unfragmented IPv4 UDP packet.
pub(super) struct Udp<'p> {
    packet: &'p mut [u8],
    header_len: usize,
}

impl<'p> Udp<'p> {
    pub(super) fn of(packet: &'p mut [u8]) -> Option<Self> {
        let first = *packet.first()?;
        let header_len = usize::from(first & 0x0f) * 4;
        let fits = first >> 4 == 4 && header_len >= IPV4_HEADER_LEN_MIN && packet.len() >= header_len + UDP_HEADER_LEN;
        // More fragments, or not the first one: ports are not to be seen.
        let fragment = fits && (packet[6] & 0x3f != 0 || packet[7] != 0);
        (fits && packet[9] == UDP && !fragment).then_some(Self { packet, header_len })
    }

    pub(super) fn address(&self, end: End) -> SocketAddrV4 {
        let (ip, port) = self.places(end);
        let ip: [u8; 4] = self.packet[ip..ip + 4].try_into().expect("four bytes");
        let port = u16::from_be_bytes([self.packet[port], self.packet[port + 1]]);
        SocketAddrV4::new(ip.into(), port)
    }

    /// Rewrites one end, with both checksums (RFC 1624).
    pub(super) fn set(&mut self, end: End, to: SocketAddrV4) {
        let (ip, port) = self.places(end);
        let udp_sum = self.header_len + 6;
        for (at, byte) in to.ip().octets().chunks(2).enumerate() {
            self.change(ip + 2 * at, [byte[0], byte[1]], &[10, udp_sum]);
        }
        self.change(port, to.port().to_be_bytes(), &[udp_sum]);
    }

    fn places(&self, end: End) -> (usize, usize) {
        match end {
            End::Source => (12, self.header_len),
            End::Destination => (16, self.header_len + 2),
        }
    }

    fn change(&mut self, at: usize, new: [u8; 2], sums: &[usize]) {
        let old = u16::from_be_bytes([self.packet[at], self.packet[at + 1]]);
        self.packet[at..at + 2].copy_from_slice(&new);
        for sum in sums {
            let before = u16::from_be_bytes([self.packet[*sum], self.packet[*sum + 1]]);
            // A UDP checksum of zero means that there is none.
            if before == 0 && *sum != 10 {
                continue;
            }
            let mut total = u32::from(!before) + u32::from(!old) + u32::from(u16::from_be_bytes(new));
            while total > 0xffff {
                total = (total & 0xffff) + (total >> 16);
            }
            // Not above 0xffff any more.
            let after = !u16::try_from(total).unwrap_or(u16::MAX);
            let after = if after == 0 && *sum != 10 { u16::MAX } else { after };
            self.packet[*sum..*sum + 2].copy_from_slice(&after.to_be_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The Internet checksum (RFC 1071) over `parts`.
    fn sum(parts: &[&[u8]]) -> u16 {
        let bytes = parts.concat();
        let words = bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])));
        let mut total: u32 = words.sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        !u16::try_from(total).expect("folded")
    }

    /// A packet with right checksums.
    pub(in super::super) fn udp(from: SocketAddrV4, to: SocketAddrV4, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(UDP_HEADER_LEN + content.len()).expect("short");
        let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, UDP, 0, 0];
        header.extend([from.ip().octets(), to.ip().octets()].concat());
        header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
        let checksum = sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut udp = [from.port(), to.port(), length, 0].map(u16::to_be_bytes).concat();
        udp.extend(content);
        let pseudo = [&from.ip().octets()[..], &to.ip().octets(), &[0, UDP], &length.to_be_bytes()].concat();
        let checksum = sum(&[&pseudo, &udp]);
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        [header, udp].concat()
    }

    #[test]
    fn rewriting_an_end_leaves_what_would_have_been_sent_from_there() {
        let at = |s: &str| s.parse::<SocketAddrV4>().expect(s);
        let (inside, outside, peer) = (at("10.77.1.10:7443"), at("198.51.100.1:40001"), at("10.77.2.10:7443"));
        for content in [&b"even"[..], b"odd", b"", &[0xff; 1200]] {
            let mut packet = udp(inside, peer, content);
            assert_eq!(destination(&packet), Some((*peer.ip()).into()));
            let mut view = Udp::of(&mut packet).expect("a UDP packet");
            assert_eq!((view.address(End::Source), view.address(End::Destination)), (inside, peer));
            view.set(End::Source, outside);
            assert_eq!(packet, udp(outside, peer, content));
            Udp::of(&mut packet).expect("still one").set(End::Source, inside);
            assert_eq!(packet, udp(inside, peer, content));
        }
        let mut fragment = udp(inside, peer, b"part");
        fragment[6] |= 0x20;
        assert!(Udp::of(&mut fragment).is_none());
        for length in 0..28 {
            assert!(Udp::of(&mut udp(inside, peer, b"")[..length]).is_none(), "{length} bytes");
        }
    }
}
