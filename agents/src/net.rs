//! Addresses as agents meet them: one canonical spelling, CIDR blocks, and those that are never a target.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A CIDR block such as `192.0.2.0/24` (RFC 4632) or `2001:db8::/32` (RFC 4291 §2.3). A bare address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a CIDR block.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CidrError {
    /// The part before `/` is no IP address.
    #[error("`{0}` is not an IP address or CIDR block such as 192.0.2.0/24")]
    Address(String),
    /// The prefix length is no number or too long for the address family.
    #[error("the prefix length of `{text}` must be a number between 0 and {max}")]
    Prefix {
        /// The text as given.
        text: String,
        /// 32 for IPv4, 128 for IPv6.
        max: u8,
    },
    /// Bits are set beyond the prefix, which is nearly always a slip.
    #[error("`{text}` has bits set beyond its prefix; write {network} instead")]
    HostBits {
        /// The text as given.
        text: String,
        /// The block that contains it.
        network: Cidr,
    },
}

impl Cidr {
    /// Whether `address` lies in the block; an IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        width_bits(address) == width_bits(self.network)
            && masked(address, self.prefix_bits) == masked(self.network, self.prefix_bits)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| CidrError::Address(text.to_owned()))?;
        let max = width_bits(network);
        let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        let prefix_bits = match prefix {
            None => max,
            Some(p) => p
                .parse::<u8>()
                .ok()
                .filter(|bits| digits(p) && *bits <= max)
                .ok_or_else(|| CidrError::Prefix { text: text.to_owned(), max })?,
        };
        // An IPv4-mapped block of at least /96 is an IPv4 block under another name.
        let (network, prefix_bits) = match (canonical(network), network) {
            (IpAddr::V4(v4), IpAddr::V6(_)) if prefix_bits >= 96 => (IpAddr::V4(v4), prefix_bits - 96),
            _ => (network, prefix_bits),
        };
        let base = from_number(masked(network, prefix_bits), network);
        let block = Cidr { network: base, prefix_bits };
        if base != network {
            return Err(CidrError::HostBits { text: text.to_owned(), network: block });
        }
        Ok(block)
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let network = canonical(address);
        Cidr { network, prefix_bits: width_bits(network) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

impl From<Cidr> for String {
    fn from(block: Cidr) -> String {
        block.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

/// One spelling per host: an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) becomes its IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Addresses that no agent may propose to block, whatever a log says: they are this host, nobody, or everybody.
/// Loopback, unspecified (with all of `0.0.0.0/8`, RFC 1122 §3.2.1.3), link-local, multicast and broadcast.
pub fn never_a_target(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4 == Ipv4Addr::BROADCAST
                || matches!(v4.octets(), [0, ..])
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

fn width_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> u128 {
    let number = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let host_bits = u32::from(width_bits(address).saturating_sub(prefix_bits));
    number.checked_shr(host_bits).and_then(|n| n.checked_shl(host_bits)).unwrap_or(0)
}

fn from_number(number: u128, family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::from((number as u32).to_be_bytes()),
        IpAddr::V6(_) => IpAddr::from(number.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_contains_what_its_prefix_says() {
        let cases = [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("198.51.100.7", "198.51.100.7", true),
            ("198.51.100.7", "198.51.100.8", false),
            ("0.0.0.0/0", "203.0.113.5", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
        ];
        for (block, address, expected) in cases {
            let block: Cidr = block.parse().unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), expected, "{address} in {block}");
        }
    }

    #[test]
    fn a_wrong_block_says_what_to_write() {
        let message = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(
            message("192.0.2.9/24"),
            "`192.0.2.9/24` has bits set beyond its prefix; write 192.0.2.0/24 instead"
        );
        assert_eq!(message("192.0.2.0/33"), "the prefix length of `192.0.2.0/33` must be a number between 0 and 32");
        assert_eq!(message("192.0.2.0/+8"), "the prefix length of `192.0.2.0/+8` must be a number between 0 and 32");
        assert_eq!(message("fe80::1%eth0"), "`fe80::1%eth0` is not an IP address or CIDR block such as 192.0.2.0/24");
    }

    #[test]
    fn special_addresses_are_never_a_target() {
        for a in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "0.1.2.3", "::", "169.254.1.1", "fe80::1"]
        {
            assert!(never_a_target(a.parse().unwrap()), "{a}");
        }
        for a in ["224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255"] {
            assert!(never_a_target(a.parse().unwrap()), "{a}");
        }
        for a in ["198.51.100.7", "10.0.0.1", "2001:db8::1", "::ffff:203.0.113.5"] {
            assert!(!never_a_target(a.parse().unwrap()), "{a}");
        }
    }
}
