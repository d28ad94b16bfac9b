//! A site's NAT (RFC 4787), between its network and the WAN: IPv4 and UDP, which is all that nodes speak.
//!
//! What comes in is let through only from an address and port that something went out to from that mapping: the strictest
//! filtering (RFC 4787 §5), which hole punching must cope with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::packet::{End, Udp};

/// Ports given out; a restart of the numbering would revive old mappings.
const FIRST_PORT: u16 = 40_000;

/// Which port an inner address gets outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// One for all it speaks to (RFC 4787 §4.1): another peer learns a port that it can use.
    EndpointIndependent,
    /// One for each it speaks to: what one peer sees is of no use to another, and only a relay connects two of them.
    Symmetric,
}

#[derive(Debug)]
struct Mapped {
    inside: SocketAddrV4,
    /// Whom it spoke to, so who may answer.
    spoke_to: BTreeSet<SocketAddrV4>,
    used: Duration,
}

/// A NAT and its mappings.
#[derive(Debug)]
pub(super) struct Nat {
    mapping: Mapping,
    outside: Ipv4Addr,
    /// After this without a packet from inside a mapping is forgotten.
    idle: Duration,
    next_port: u16,
    by_port: BTreeMap<u16, Mapped>,
    /// Inner address, and with [`Mapping::Symmetric`] the peer.
    by_inside: BTreeMap<(SocketAddrV4, Option<SocketAddrV4>), u16>,
}

impl Nat {
    pub(super) fn new(mapping: Mapping, outside: Ipv4Addr, idle: Duration) -> Self {
        let (by_port, by_inside) = Default::default();
        Self { mapping, outside, idle, next_port: FIRST_PORT, by_port, by_inside }
    }

    /// Forgets every mapping, as a router does that lost its power or its address table: what goes out next gets a new port.
    pub(super) fn rebind(&mut self) {
        self.by_port.clear();
        self.by_inside.clear();
    }

    /// Rewrites what leaves the site; false if it cannot leave.
    pub(super) fn outward(&mut self, now: Duration, packet: &mut [u8]) -> bool {
        self.expire(now);
        let Some(mut udp) = Udp::of(packet) else { return false };
        let (inside, peer) = (udp.address(End::Source), udp.address(End::Destination));
        let key = (inside, (self.mapping == Mapping::Symmetric).then_some(peer));
        let port = *self.by_inside.entry(key).or_insert_with(|| {
            self.next_port += 1;
            self.next_port
        });
        let mapped = self.by_port.entry(port).or_insert(Mapped { inside, spoke_to: BTreeSet::new(), used: now });
        mapped.spoke_to.insert(peer);
        mapped.used = now;
        udp.set(End::Source, SocketAddrV4::new(self.outside, port));
        true
    }

    /// Rewrites what comes for the site's outer address; false if nobody inside has asked for it.
    pub(super) fn inward(&mut self, now: Duration, packet: &mut [u8]) -> bool {
        self.expire(now);
        let Some(mut udp) = Udp::of(packet) else { return false };
        let (peer, to) = (udp.address(End::Source), udp.address(End::Destination));
        let mapped = self.by_port.get(&to.port()).filter(|m| *to.ip() == self.outside && m.spoke_to.contains(&peer));
        let Some(mapped) = mapped else { return false };
        udp.set(End::Destination, mapped.inside);
        true
    }

    fn expire(&mut self, now: Duration) {
        let idle = self.idle;
        self.by_port.retain(|_, mapped| now.saturating_sub(mapped.used) < idle);
        let live = &self.by_port;
        self.by_inside.retain(|_, port| live.contains_key(port));
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::udp;
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().expect(text)
    }

    fn out(nat: &mut Nat, now_s: u64, from: &str, to: &str) -> SocketAddrV4 {
        let mut packet = udp(at(from), at(to), b"x");
        assert!(nat.outward(Duration::from_secs(now_s), &mut packet));
        Udp::of(&mut packet).expect("one").address(End::Source)
    }

    fn back(nat: &mut Nat, now_s: u64, from: &str, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let mut packet = udp(at(from), to, b"x");
        nat.inward(Duration::from_secs(now_s), &mut packet)
            .then(|| Udp::of(&mut packet).expect("one").address(End::Destination))
    }

    #[test]
    fn mappings_follow_their_kind_and_only_who_was_spoken_to_answers() {
        let (node, hq, other) = ("10.77.2.10:7443", "10.77.1.10:7443", "10.77.3.10:7443");
        for mapping in [Mapping::EndpointIndependent, Mapping::Symmetric] {
            let mut nat = Nat::new(mapping, Ipv4Addr::new(198, 51, 100, 2), IDLE);
            let for_hq = out(&mut nat, 0, node, hq);
            assert_eq!(for_hq, out(&mut nat, 1, node, hq), "a mapping stays");
            assert_eq!(back(&mut nat, 1, hq, for_hq), Some(at(node)));
            assert_eq!(back(&mut nat, 1, other, for_hq), None, "nobody spoke to it");
            assert_eq!(back(&mut nat, 1, "10.77.1.10:7444", for_hq), None, "nor to that port");
            assert_eq!(back(&mut nat, 1, hq, at(node)), None, "inner addresses mean nothing outside");
            let for_other = out(&mut nat, 2, node, other);
            assert_eq!(for_other == for_hq, mapping == Mapping::EndpointIndependent);
            assert_eq!(back(&mut nat, 2, other, for_other), Some(at(node)));
        }
    }

    #[test]
    fn a_mapping_ends_when_nothing_leaves_by_it_or_when_the_router_forgets() {
        let (node, hq) = ("10.77.2.10:7443", "10.77.1.10:7443");
        let mut nat = Nat::new(Mapping::EndpointIndependent, Ipv4Addr::new(198, 51, 100, 2), IDLE);
        let first = out(&mut nat, 0, node, hq);
        assert_eq!(back(&mut nat, 29, hq, first), Some(at(node)));
        assert_eq!(back(&mut nat, 30, hq, first), None, "what comes in keeps nothing alive");
        let second = out(&mut nat, 31, node, hq);
        assert_ne!(first, second);
        nat.rebind();
        assert_eq!(back(&mut nat, 31, hq, second), None);
        assert_ne!(out(&mut nat, 31, node, hq), second);
    }
}
