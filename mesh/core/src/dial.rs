//! When whom to dial: one attempt at a time per peer, waiting longer after each failure, for ever.

use std::collections::BTreeMap;

use cauldron_identity::AuthorId;

use crate::limits::{DIAL_MS_MAX, DIALS_MAX, DIALS_PER_REGION, REDIAL_MS_MIN, UP_MS_MIN};

#[derive(Debug, Default)]
pub(crate) struct Dials {
    peers: BTreeMap<AuthorId, Dial>,
    /// Not before this is there another look for room, unless an attempt ends.
    full_until_ms: u64,
}

#[derive(Debug)]
struct Dial {
    failures: u32,
    /// Not before.
    next_ms: u64,
    /// Until when an attempt may last.
    under_way_ms: Option<u64>,
    wait_ms_max: u64,
    region: String,
    /// When its link came up, while it is.
    up_ms: Option<u64>,
}

/// A peer that is to be connected with and is not.
pub(crate) struct Missing<'a> {
    pub(crate) peer: AuthorId,
    pub(crate) region: &'a str,
    /// How long to leave the first attempt to the other side.
    pub(crate) yield_ms: u64,
    pub(crate) wait_ms_max: u64,
}

impl Dials {
    /// Whom to dial now. `chance` gives a number below its argument.
    pub(crate) fn due<'a>(
        &mut self,
        now_ms: u64,
        missing: impl Iterator<Item = Missing<'a>>,
        mut chance: impl FnMut(u64) -> u64,
    ) -> Vec<AuthorId> {
        let mut seen = BTreeMap::new();
        for m in missing {
            let dial = self.peers.remove(&m.peer).unwrap_or_else(|| Dial {
                failures: 0,
                next_ms: now_ms + m.yield_ms + chance(REDIAL_MS_MIN / 2),
                under_way_ms: None,
                wait_ms_max: m.wait_ms_max,
                region: String::new(),
                up_ms: None,
            });
            let mut dial = Dial { region: m.region.to_owned(), wait_ms_max: m.wait_ms_max, ..dial };
            match dial.up_ms.take() {
                // Whoever sends us away at once is not asked again at once.
                Some(up_ms) if now_ms < up_ms + UP_MS_MIN => dial.failed(now_ms, &mut chance),
                Some(_) => (dial.failures, dial.next_ms) = (0, now_ms + chance(REDIAL_MS_MIN / 2)),
                None => {}
            }
            seen.insert(m.peer, dial);
        }
        // Who is not missing any more is forgotten, with its failures; who has just come up, a little later.
        self.peers.retain(|_, d| d.up_ms.is_some_and(|up_ms| now_ms < up_ms + UP_MS_MIN));
        self.peers.append(&mut seen);
        for dial in self.peers.values_mut().filter(|d| d.up_ms.is_none()) {
            if dial.under_way_ms.is_some_and(|until| until <= now_ms) {
                dial.failed(now_ms, &mut chance);
            }
        }
        // Who failed least comes first, and of those who has waited longest: nobody waits for one that fails again and again.
        let waiting = self.peers.iter().filter(|(_, d)| d.waits() && d.next_ms <= now_ms);
        let mut order: Vec<(u32, u64, AuthorId)> = waiting.map(|(peer, d)| (d.failures, d.next_ms, *peer)).collect();
        order.sort_unstable();
        let mut regions: BTreeMap<String, usize> = BTreeMap::new();
        for dial in self.peers.values().filter(|d| d.under_way_ms.is_some()) {
            *regions.entry(dial.region.clone()).or_default() += 1;
        }
        let mut room = DIALS_MAX.saturating_sub(regions.values().sum());
        let mut due = Vec::new();
        for (_, _, peer) in order {
            let Some(dial) = self.peers.get_mut(&peer) else { continue };
            let in_region = regions.entry(dial.region.clone()).or_default();
            let full = *in_region >= DIALS_PER_REGION && !cauldron_identity::planted::active("region-takes-all");
            if room == 0 || full {
                self.full_until_ms = now_ms + REDIAL_MS_MIN;
                continue;
            }
            (room, *in_region) = (room - 1, *in_region + 1);
            dial.under_way_ms = Some(now_ms + DIAL_MS_MAX);
            due.push(peer);
        }
        due
    }

    /// How often it was dialled in vain since it is missing.
    pub(crate) fn failures(&self, peer: &AuthorId) -> u32 {
        self.peers.get(peer).map_or(0, |dial| dial.failures)
    }

    /// Its link is up; whether an attempt was under way.
    pub(crate) fn linked(&mut self, peer: &AuthorId, now_ms: u64) -> bool {
        let Some(dial) = self.peers.get_mut(peer) else { return false };
        dial.up_ms = Some(now_ms);
        dial.under_way_ms.take().is_some()
    }

    pub(crate) fn failed(&mut self, peer: &AuthorId, now_ms: u64, mut chance: impl FnMut(u64) -> u64) {
        if let Some(dial) = self.peers.get_mut(peer) {
            dial.failed(now_ms, &mut chance);
        }
    }

    /// The peer has said something new of itself: there is a reason to try again soon.
    pub(crate) fn hopeful(&mut self, peer: &AuthorId, now_ms: u64) {
        if let Some(dial) = self.peers.get_mut(peer) {
            dial.failures = 0;
            dial.next_ms = dial.next_ms.min(now_ms + REDIAL_MS_MIN);
        }
    }

    /// The network has changed: whoever could not be reached is dialled soon.
    pub(crate) fn hurry(&mut self, now_ms: u64) {
        for dial in self.peers.values_mut().filter(|d| d.waits()) {
            dial.next_ms = dial.next_ms.min(now_ms + REDIAL_MS_MIN);
        }
    }

    /// When something is due.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let waits = |d: &Dial| d.under_way_ms.unwrap_or(d.next_ms.max(self.full_until_ms));
        self.peers.values().filter(|d| d.up_ms.is_none()).map(waits).min()
    }
}

impl Dial {
    fn waits(&self) -> bool {
        self.under_way_ms.is_none() && self.up_ms.is_none()
    }

    /// Waits twice as long as last time, less a random half, so that nodes that lost each other do not meet in step.
    fn failed(&mut self, now_ms: u64, chance: &mut impl FnMut(u64) -> u64) {
        self.under_way_ms = None;
        let full = REDIAL_MS_MIN.saturating_mul(1 << self.failures.min(16)).min(self.wait_ms_max);
        self.failures = self.failures.saturating_add(1);
        self.next_ms = now_ms + full / 2 + chance(full / 2 + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REDIAL_MS_MAX;

    fn missing(n: u8, region: &str) -> Missing<'_> {
        Missing { peer: AuthorId::from_bytes([n; 32]), region, yield_ms: 0, wait_ms_max: REDIAL_MS_MAX }
    }

    #[test]
    fn failures_wait_longer_up_to_a_bound_and_never_for_good() {
        let (mut dials, mut now, mut longest) = (Dials::default(), 0, 0);
        let none = |_| 0;
        assert_eq!(dials.due(now, [missing(1, "")].into_iter(), none).len(), 1);
        dials.failed(&AuthorId::from_bytes([1; 32]), now, none);
        for _ in 0..40 {
            let at = dials.wake_ms().expect("a next attempt");
            longest = longest.max(at - now);
            now = at;
            assert_eq!(dials.due(now, [missing(1, "")].into_iter(), none).len(), 1);
            assert!(dials.due(now, [missing(1, "")].into_iter(), none).is_empty(), "one attempt at a time");
            dials.failed(&AuthorId::from_bytes([1; 32]), now, none);
        }
        assert!((REDIAL_MS_MAX / 2..=REDIAL_MS_MAX).contains(&longest), "{longest}");
        dials.hopeful(&AuthorId::from_bytes([1; 32]), now);
        assert_eq!(dials.wake_ms(), Some(now + REDIAL_MS_MIN));
    }

    #[test]
    fn whoever_sends_us_away_at_once_is_not_asked_again_at_once() {
        let (mut dials, mut now) = (Dials::default(), 0);
        let peer = AuthorId::from_bytes([1; 32]);
        for _ in 0..10 {
            while dials.due(now, [missing(1, "")].into_iter(), |_| 0).is_empty() {
                now = dials.wake_ms().expect("a next attempt");
            }
            dials.linked(&peer, now);
            dials.due(now, [].into_iter(), |_| 0);
        }
        assert!(now > REDIAL_MS_MAX, "{now}");
        dials.due(now + UP_MS_MIN, [].into_iter(), |_| 0);
        assert!(dials.peers.is_empty(), "a link that held is forgotten");
    }

    #[test]
    fn a_region_that_is_gone_leaves_room_for_the_others() {
        crate::tests::planted();
        let mut dials = Dials::default();
        let all = || (0..100).map(|n| missing(n, "gone")).chain((100..110).map(|n| missing(n, "well")));
        dials.due(0, all(), |_| 0);
        let due = dials.due(0, all(), |_| 0);
        assert!(due.is_empty(), "all that has room is under way: {due:?}");

        let well = |d: &AuthorId| d.as_bytes()[0] >= 100;
        let under_way: Vec<AuthorId> =
            dials.peers.iter().filter(|(_, d)| d.under_way_ms.is_some()).map(|(p, _)| *p).collect();
        assert_eq!(under_way.len(), DIALS_PER_REGION * 2);
        assert_eq!(under_way.iter().filter(|p| well(p)).count(), DIALS_PER_REGION);
    }

    #[test]
    fn those_that_fail_keep_nobody_waiting() {
        crate::tests::planted();
        // Many that never answer, and one whose id comes last.
        let all = || (0..200).map(|n| missing(n, ""));
        let (mut dials, mut now, last) = (Dials::default(), 0, AuthorId::from_bytes([199; 32]));
        let mut under_way: Vec<(u64, AuthorId)> = vec![];
        loop {
            let due = dials.due(now, all(), |_| 0);
            if due.contains(&last) {
                break;
            }
            under_way.extend(due.into_iter().map(|peer| (now + 5_000, peer)));
            now = dials
                .wake_ms()
                .expect("a next look")
                .min(under_way.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX));
            for (_, peer) in under_way.extract_if(.., |(at, _)| *at <= now) {
                dials.failed(&peer, now, |_| 0);
            }
        }
        // Each of the others has had one turn of 5 s, six at a time.
        assert!(now <= 200 / DIALS_PER_REGION as u64 * 5_000 + 5_000, "{now} ms");
    }

    #[test]
    fn an_attempt_of_which_nothing_is_heard_is_over_in_time() {
        let mut dials = Dials::default();
        assert_eq!(dials.due(0, [missing(1, "")].into_iter(), |_| 0).len(), 1);
        let at = dials.wake_ms().expect("a time-out");
        assert_eq!(at, DIAL_MS_MAX);
        assert!(dials.due(at, [missing(1, "")].into_iter(), |_| 0).is_empty(), "it waits first");
        let at = dials.wake_ms().expect("a next attempt");
        assert_eq!(dials.due(at, [missing(1, "")].into_iter(), |_| 0).len(), 1);
    }
}
