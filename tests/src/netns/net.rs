//! Sites with their nodes' namespaces, joined by the WAN.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::namespace::Namespace;
use super::wan::{Port, Wan};

/// Of every interface, bytes: Ethernet's.
pub(super) const MTU: u16 = 1_500;

/// A site to build.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<String>,
}

impl Site {
    /// A site with these nodes.
    #[must_use]
    pub fn new(name: &str, nodes: &[&str]) -> Self {
        Self { name: name.to_owned(), nodes: nodes.iter().map(|&node| node.to_owned()).collect() }
    }
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its site.
    pub site: String,
    /// On the site's network; the WAN carries it as it is unless the site has a NAT.
    pub v4: Ipv4Addr,
    /// Likewise.
    pub v6: Ipv6Addr,
}

/// Namespaces, bridges and the WAN between them; all of it goes when this is dropped.
#[derive(Debug)]
pub struct Net {
    nodes: BTreeMap<String, (Namespace, Address)>,
    // The WAN's devices go before the namespaces that they are in.
    wan: Wan,
    _sites: Vec<Namespace>,
}

impl Net {
    /// Builds `sites`; every path between two of them is free of delay and loss at first. What chance does on the WAN follows
    /// from `seed`.
    ///
    /// # Panics
    /// When the system refuses: see [`able`](super::able).
    #[must_use]
    pub fn build(sites: &[Site], seed: u64) -> Self {
        Self::try_build(sites, seed).unwrap_or_else(|why| panic!("cannot build the network: {why}"))
    }

    fn try_build(sites: &[Site], seed: u64) -> Result<Self, String> {
        let (mut nodes, mut ports, mut spaces) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (number, site) in (1u8..).zip(sites) {
            let space = Namespace::new(&site.name)?;
            space.inside(|| {
                for (key, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
                    let path = format!("/proc/sys/net/{key}");
                    std::fs::write(&path, value).map_err(|e| format!("cannot write {path}: {e}"))?;
                }
                Ok::<_, String>(())
            })??;
            let device = space.tun("wan0")?;
            // Addresses are there at once: nobody else on these networks could have taken them.
            space.ip(&[
                "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0".to_owned(),
                "link set br0 up".to_owned(),
                format!("addr add 10.77.{number}.1/24 dev br0"),
                format!("addr add fd77:{number}::1/64 dev br0 nodad"),
                "link set wan0 up".to_owned(),
                format!("addr replace {}/32 dev wan0", outside(number)),
                "route add default dev wan0".to_owned(),
                "-6 route add default dev wan0".to_owned(),
            ])?;
            for (place, name) in (10u8..).zip(&site.nodes) {
                let address = Address {
                    site: site.name.clone(),
                    v4: Ipv4Addr::new(10, 77, number, place),
                    v6: Ipv6Addr::new(0xfd77, number.into(), 0, 0, 0, 0, 0, place.into()),
                };
                let node = Namespace::new(name)?;
                node.ip(&[format!("link add eth0 type veth peer name p{place} netns {}", space.name())])?;
                space.ip(&[format!("link set p{place} master br0 up")])?;
                node.ip(&plugged(number, &address))?;
                nodes.insert(name.clone(), (node, address));
            }
            let networks = vec![
                (IpAddr::from([10, 77, number, 0]), 24),
                (IpAddr::from([0xfd77, number.into(), 0, 0, 0, 0, 0, 0]), 64),
                (IpAddr::from(outside(number)), 32),
            ];
            ports.push(Port { site: site.name.clone(), device, networks, outside: outside(number) });
            spaces.push(space);
        }
        Ok(Self { nodes, wan: Wan::start(ports, seed), _sites: spaces })
    }

    /// What lies between the sites.
    #[must_use]
    pub fn wan(&self) -> &Wan {
        &self.wan
    }

    /// Where a node is.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn address(&self, node: &str) -> &Address {
        &self.node(node).1
    }

    /// The name of a node's namespace, for `ip netns exec`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn namespace(&self, node: &str) -> &str {
        self.node(node).0.name()
    }

    /// Takes a node's interface down: its addresses and routes go, as with a pulled cable.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn unplug(&self, node: &str) {
        self.node(node).0.ip(&["link set eth0 down".to_owned()]).expect("the interface goes down");
    }

    /// Brings it up again, with addresses and routes as a network manager sets them.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn plug(&self, node: &str) {
        let (space, address) = self.node(node);
        let [_, _, number, _] = address.v4.octets();
        space.ip(&plugged(number, address)).expect("the interface comes up");
    }

    /// Does `work` on a thread in a node's namespace: sockets made there stay there.
    ///
    /// # Panics
    /// When there is no such node, or it cannot be entered.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> T {
        self.node(node).0.inside(work).expect("the namespace can be entered")
    }

    fn node(&self, node: &str) -> &(Namespace, Address) {
        self.nodes.get(node).unwrap_or_else(|| panic!("there is no node {node}"))
    }
}

/// What brings a node's interface up.
fn plugged(number: u8, address: &Address) -> Vec<String> {
    vec![
        "link set eth0 up".to_owned(),
        format!("addr replace {}/24 dev eth0", address.v4),
        format!("addr replace {}/64 dev eth0 nodad", address.v6),
        format!("route replace default via 10.77.{number}.1"),
        format!("-6 route replace default via fd77:{number}::1"),
    ]
}

/// A site's outer address (RFC 5737: TEST-NET-2), which its NAT uses where it has one.
fn outside(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, number)
}
