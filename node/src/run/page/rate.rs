//! How often somebody who is not signed in may ask: a bucket per address and one for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Signing in takes two requests; a person who tries three times within a minute is in trouble, not in a hurry.
const PER_ADDRESS: Bucket = Bucket { burst: 20.0, every: Duration::from_secs(2) };
/// A shift that signs in at once, from behind one proxy or many addresses. Each answer costs a signature check at most.
const FOR_ALL: Bucket = Bucket { burst: 240.0, every: Duration::from_millis(100) };
/// Addresses that are remembered; beyond them the longest silent is forgotten, and the bucket for all still holds.
const ADDRESSES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    burst: f64,
    every: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(self, level: &mut Level, now: Instant) -> bool {
        let back = now.duration_since(level.at).as_secs_f64() / self.every.as_secs_f64();
        *level = Level { left: (level.left + back).min(self.burst), at: now };
        let some = level.left >= 1.0;
        if some {
            level.left -= 1.0;
        }
        some
    }
}

/// The buckets.
#[derive(Debug, Default)]
pub struct Rate(Mutex<Levels>);

#[derive(Debug, Default)]
struct Levels {
    all: Option<Level>,
    by_address: BTreeMap<IpAddr, Level>,
}

impl Rate {
    /// Whether one more request from there is answered.
    pub fn allows(&self, from: IpAddr, now: Instant) -> bool {
        let mut levels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let levels = &mut *levels;
        let network = network(from);
        if levels.by_address.len() >= ADDRESSES_MAX && !levels.by_address.contains_key(&network) {
            let silent = levels.by_address.iter().min_by_key(|(_, level)| level.at).map(|(address, _)| *address);
            silent.map(|address| levels.by_address.remove(&address));
        }
        let full = Level { left: PER_ADDRESS.burst, at: now };
        let own = PER_ADDRESS.take(levels.by_address.entry(network).or_insert(full), now);
        own && FOR_ALL.take(levels.all.get_or_insert(Level { left: FOR_ALL.burst, at: now }), now)
    }
}

/// Whoever has one address of an IPv6 network has all 2⁶⁴ (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_and_then_what_flows_back() {
        let (rate, now) = (Rate::default(), Instant::now());
        let from: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!((0..100).filter(|_| rate.allows(from, now)).count(), 20);
        assert!(rate.allows("192.0.2.2".parse().expect("an address"), now), "another address is another bucket");
        assert!(!rate.allows(from, now + Duration::from_secs(1)) && rate.allows(from, now + Duration::from_secs(3)));
    }

    #[test]
    fn one_network_is_one_address_and_all_together_are_held_too() {
        let (rate, now) = (Rate::default(), Instant::now());
        let v6 = |n: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, host]);
        assert_eq!((0..100).filter(|host| rate.allows(v6(1, *host), now)).count(), 20);
        assert_eq!((2..1_000).filter(|n| rate.allows(v6(*n, 1), now)).count(), 220);
        (0..10_000).for_each(|n| {
            rate.allows(v6(n, 1), now);
        });
        assert!(rate.0.lock().expect("whole").by_address.len() <= ADDRESSES_MAX);
    }
}
