//! Where a peer listens: a host name or address, and a UDP port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::reader::port_problem;

/// `host:port`; a name is looked up anew at every attempt, for it may move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddr {
    host: String,
    port: u16,
}

impl PeerAddr {
    /// Host name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for PeerAddr {
    type Err = String;

    /// Accepts `quic://` in front, as messages show it.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("quic://").unwrap_or(text);
        let no_port = || port_problem(rest).unwrap_or("has no port").to_owned();
        let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(no_port)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => {
                inner.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| "is no IPv6 address".to_owned())?
            }
            None if host.contains(':') => return Err("is an IPv6 address without brackets".into()),
            None if is_host(host) => host.to_ascii_lowercase(),
            None => return Err("is no host name or address".into()),
        };
        Ok(Self { host, port })
    }
}

/// RFC 1123 §2.1 host names and IPv4 addresses.
fn is_host(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // Something made of digits and dots alone is meant as an address and must be one.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host.len() <= 253 && host.split('.').all(label) && (!numeric || host.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, shown) in [
            ("hq.example:7443", "hq.example:7443"),
            ("quic://10.0.0.5:7443", "10.0.0.5:7443"),
            ("[2001:DB8::1]:1", "[2001:db8::1]:1"),
            ("localhost:65535", "localhost:65535"),
        ] {
            assert_eq!(text.parse::<PeerAddr>().map(|a| a.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for (text, why) in [
            ("hq.example", "has no port"),
            ("hq.example:", "has no port"),
            ("hq.example:0", "the port must be between 1 and 65535"),
            ("hq.example:70000", "the port must be between 1 and 65535"),
            ("2001:db8::1:7443", "is an IPv6 address without brackets"),
            ("10.0.0.256:7443", "is no host name or address"),
            ("hq_1:7443", "is no host name or address"),
            (":7443", "is no host name or address"),
        ] {
            assert_eq!(text.parse::<PeerAddr>(), Err(why.to_owned()), "{text}");
        }
    }
}
