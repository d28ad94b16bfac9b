//! A token bucket per address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use tokio::time::Instant;

use crate::limits::{ENROL_ADDRESSES_MAX, ENROL_BURST_PER_ADDRESS, ENROL_REFILL};

/// How often each address has asked. Memory is bounded by [`ENROL_ADDRESSES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Rate {
    buckets: BTreeMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// When `tokens` was last brought up to date.
    at: Instant,
}

impl Rate {
    /// Takes one token; false if the address has none.
    pub(super) fn take(&mut self, from: IpAddr, now: Instant) -> bool {
        let key = whole_network(from);
        if !self.buckets.contains_key(&key) && self.buckets.len() >= ENROL_ADDRESSES_MAX {
            let oldest = self.buckets.iter().min_by_key(|(_, b)| b.at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.buckets.remove(&oldest);
            }
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: ENROL_BURST_PER_ADDRESS, at: now });
        let earned = now.saturating_duration_since(bucket.at).as_millis() / ENROL_REFILL.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            bucket.tokens = bucket.tokens.saturating_add(earned).min(ENROL_BURST_PER_ADDRESS);
            bucket.at = now;
        }
        let granted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        granted
    }
}

/// One IPv6 customer has a whole /64 to choose from.
fn whole_network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_one_per_interval_and_others_unharmed() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        let greedy: IpAddr = "2001:db8::1".parse().expect("an address");
        let neighbour: IpAddr = "2001:db8::2".parse().expect("an address");
        let other: IpAddr = "192.0.2.1".parse().expect("an address");
        for _ in 0..ENROL_BURST_PER_ADDRESS {
            assert!(rate.take(greedy, now));
        }
        assert!(!rate.take(greedy, now));
        assert!(!rate.take(neighbour, now), "the same /64");
        assert!(rate.take(other, now));
        assert!(rate.take(greedy, now + ENROL_REFILL));
        assert!(!rate.take(greedy, now + ENROL_REFILL));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        for n in 0..2 * ENROL_ADDRESSES_MAX {
            let n = u32::try_from(n).expect("fits");
            rate.take(std::net::Ipv4Addr::from_bits(n).into(), now);
        }
        assert_eq!(rate.buckets.len(), ENROL_ADDRESSES_MAX);
    }
}
