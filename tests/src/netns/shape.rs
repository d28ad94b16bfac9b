//! What a WAN link does to a packet. Time is an argument and chance has a seed: the same packets fare the same.

use std::time::Duration;

/// What waits for a link with a rate, at most; later packets are dropped, as at a router with little memory.
const BACKLOG_MAX: Duration = Duration::from_millis(500);

/// How one direction of the way between two sites is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Path {
    /// How long every packet takes.
    pub delay: Duration,
    /// Up to this much longer, each packet for itself: packets overtake each other.
    pub jitter: Duration,
    /// The share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Bytes per second; none for as many as come.
    pub rate: Option<u64>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Path {
    /// A path that takes `delay_ms` and loses `loss` of all packets.
    #[must_use]
    pub fn wan(delay_ms: u64, loss: f64) -> Self {
        Self { delay: Duration::from_millis(delay_ms), loss, ..Self::default() }
    }

    /// The longest that a packet may be on its way.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.delay + self.jitter + if self.rate.is_some() { BACKLOG_MAX } else { Duration::ZERO }
    }
}

/// What went over one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Packets that got through.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets that did not.
    pub lost: u64,
}

/// One direction between two sites.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) path: Path,
    pub(super) carried: Carried,
    chance: fastrand::Rng,
    /// When the last byte that has been taken is on its way.
    free_at: Duration,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        let chance = fastrand::Rng::with_seed(seed);
        Self { path: Path::default(), carried: Carried::default(), chance, free_at: Duration::ZERO }
    }

    /// When a packet that comes at `now` arrives; nothing if it is lost.
    pub(super) fn pass(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let arrives = self.fare(now, bytes as u64);
        match arrives {
            Some(_) => {
                self.carried.packets += 1;
                self.carried.bytes += bytes as u64;
            }
            None => self.carried.lost += 1,
        }
        arrives
    }

    fn fare(&mut self, now: Duration, bytes: u64) -> Option<Duration> {
        if self.path.cut || self.chance.f64() < self.path.loss {
            return None;
        }
        let mut leaves = now;
        if let Some(rate) = self.path.rate {
            let begins = self.free_at.max(now);
            if begins - now > BACKLOG_MAX {
                return None;
            }
            leaves = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.free_at = leaves;
        }
        Some(leaves + self.path.delay + self.path.jitter.mul_f64(self.chance.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn passed(path: Path, seed: u64) -> Vec<Option<Duration>> {
        let mut lane = Lane::new(seed);
        lane.path = path;
        (0..2_000).map(|n| lane.pass(ms(n), 100)).collect()
    }

    #[test]
    fn delay_loss_and_cut_are_what_was_asked_for_and_follow_the_seed() {
        let all = passed(Path::wan(100, 0.0), 1);
        assert!(all.iter().enumerate().all(|(n, at)| *at == Some(ms(n as u64 + 100))));
        let lossy = passed(Path::wan(100, 0.2), 1);
        let lost = lossy.iter().filter(|at| at.is_none()).count();
        assert!((320..480).contains(&lost), "20 % of 2,000 is 400, not {lost}");
        assert_eq!(lossy, passed(Path::wan(100, 0.2), 1), "one seed, one fate");
        assert_ne!(lossy, passed(Path::wan(100, 0.2), 2));
        assert!(passed(Path { cut: true, ..Path::default() }, 1).iter().all(Option::is_none));
        let jitter = passed(Path { jitter: ms(20), ..Path::default() }, 1);
        let late = |(n, at): (usize, &Option<Duration>)| at.map(|at| at - ms(n as u64)).filter(|late| *late <= ms(20));
        let spread: std::collections::BTreeSet<_> = jitter.iter().enumerate().map(late).collect();
        assert!(!spread.contains(&None) && spread.len() > 1_000);
    }

    #[test]
    fn a_rate_holds_back_then_drops_and_what_came_through_is_counted() {
        let mut lane = Lane::new(1);
        // 100 packets of 100 bytes at once over 10,000 bytes per second take a second; more than half of it does not wait.
        lane.path.rate = Some(10_000);
        let arrivals: Vec<_> = (0..100).map(|_| lane.pass(ms(0), 100)).collect();
        assert_eq!((arrivals[0], arrivals[49]), (Some(ms(10)), Some(ms(500))));
        assert!(arrivals[60].is_none());
        assert_eq!(lane.carried.packets + lane.carried.lost, 100);
        assert_eq!(lane.carried.bytes, lane.carried.packets * 100);
        assert!(lane.pass(ms(2_000), 100) == Some(ms(2_010)), "a pause empties the queue");
    }
}
