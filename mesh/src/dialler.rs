//! Whom we dial, when, and what went wrong last: a configured peer is tried for ever.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use crate::limits::{REDIAL_WAIT_MAX, REDIAL_WAIT_MIN};

/// Every configured peer address with its state.
#[derive(Debug, Default)]
pub(crate) struct Dialler {
    targets: BTreeMap<String, Target>,
}

#[derive(Debug)]
pub(crate) struct Target {
    state: State,
    /// Addresses of the current attempt that were not tried yet.
    addresses: VecDeque<SocketAddr>,
    failures: u32,
    pub(crate) last_error: Option<String>,
    /// Who answered there last, or is asked for.
    pub(crate) peer: Option<PeerId>,
    /// Through which relay it is dialled.
    relay: Option<PeerId>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Instant },
    Resolving,
    Dialling { connection: ConnectionId },
    Up,
}

impl Dialler {
    /// Adds `host:port`; known ones stay as they are.
    pub(crate) fn add(&mut self, address: String, now: Instant) {
        self.targets.entry(address).or_insert(Target {
            state: State::Waiting { until: now },
            addresses: VecDeque::new(),
            failures: 0,
            last_error: None,
            peer: None,
            relay: None,
        });
    }

    /// Adds a peer that is dialled through a relay; known ones stay as they are.
    pub(crate) fn add_through(&mut self, name: String, relay: PeerId, peer: PeerId, linked: bool, now: Instant) {
        self.targets.entry(name).or_insert(Target {
            state: if linked { State::Up } else { State::Waiting { until: now } },
            addresses: VecDeque::new(),
            failures: 0,
            last_error: None,
            peer: Some(peer),
            relay: Some(relay),
        });
    }

    /// Relay and peer of a target that is dialled through a relay.
    pub(crate) fn through(&self, name: &str) -> Option<(PeerId, PeerId)> {
        let target = self.targets.get(name)?;
        target.relay.zip(target.peer)
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = (&String, &Target)> {
        self.targets.iter()
    }

    /// The network has changed: whoever could not be reached is called at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            if let State::Waiting { until } = &mut target.state {
                *until = now;
            }
        }
    }

    /// When the next wait ends.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.targets.values().filter_map(Target::waits_until).min()
    }

    /// Targets whose wait is over; they count as being resolved from here on.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for (address, target) in &mut self.targets {
            if target.waits_until().is_some_and(|until| until <= now) {
                target.state = State::Resolving;
                due.push(address.clone());
            }
        }
        due
    }

    /// The name was looked up: the first address to dial, if there is one.
    pub(crate) fn resolved(
        &mut self,
        address: &str,
        found: Result<Vec<SocketAddr>, String>,
        now: Instant,
    ) -> Option<SocketAddr> {
        let target = self.targets.get_mut(address).filter(|t| t.state == State::Resolving)?;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                target.addresses = addresses.into();
                target.addresses.pop_front()
            }
            Ok(_) => {
                target.failed(format!("`{address}` has no address"), now);
                None
            }
            Err(reason) => {
                target.failed(format!("cannot look up `{address}`: {reason}"), now);
                None
            }
        }
    }

    pub(crate) fn dialling(&mut self, address: &str, connection: ConnectionId) {
        if let Some(target) = self.targets.get_mut(address) {
            target.state = State::Dialling { connection };
        }
    }

    /// A dial failed: the target's next address to try at once, or it waits. `peer` if we learned who is there.
    pub(crate) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        reason: &str,
        now: Instant,
    ) -> Option<(String, SocketAddr)> {
        let (address, target) = self.targets.iter_mut().find(|(_, t)| t.state == State::Dialling { connection })?;
        // Whoever answers through a relay, the one that was asked for is meant.
        if target.relay.is_none() {
            target.peer = peer.or(target.peer);
        }
        target.last_error = Some(reason.to_owned());
        if let Some(next) = target.addresses.pop_front() {
            return Some((address.clone(), next));
        }
        target.failed(reason.to_owned(), now);
        None
    }

    /// A dial that could not even start.
    pub(crate) fn not_started(&mut self, address: &str, reason: String, now: Instant) {
        if let Some(target) = self.targets.get_mut(address) {
            target.failed(reason, now);
        }
    }

    /// A dial succeeded.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(target) = self.targets.values_mut().find(|t| t.state == State::Dialling { connection }) {
            target.peer = Some(peer);
        }
        self.link_up(peer);
    }

    /// A link to `peer` is up, whoever dialled: targets that lead to it rest.
    pub(crate) fn link_up(&mut self, peer: PeerId) {
        for target in self.targets.values_mut().filter(|t| t.peer == Some(peer)) {
            target.state = State::Up;
            target.failures = 0;
            target.last_error = None;
            target.addresses.clear();
        }
    }

    /// The link to `peer` is gone: targets that lead to it are dialled again soon.
    pub(crate) fn link_down(&mut self, peer: PeerId, reason: &str, now: Instant) {
        for target in self.targets.values_mut().filter(|t| t.peer == Some(peer) && t.state == State::Up) {
            target.failed(reason.to_owned(), now);
        }
    }
}

impl Target {
    fn waits_until(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Resolving | State::Dialling { .. } | State::Up => None,
        }
    }

    /// Waits twice as long as last time, less a random half, so that peers that lost each other do not meet in step.
    fn failed(&mut self, reason: String, now: Instant) {
        let full = REDIAL_WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(REDIAL_WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason);
        self.state = State::Waiting { until: now + full.mul_f64(0.5 + 0.5 * fraction()) };
    }

    /// Whether a link stands behind this target, and in how long it is dialled otherwise.
    pub(crate) fn status(&self, now: Instant) -> (bool, Option<Duration>) {
        (self.state == State::Up, self.waits_until().map(|until| until.saturating_duration_since(now)))
    }
}

/// Between 0 and 1, from the randomness std seeds its hash maps with: jitter needs no better.
fn fraction() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish() >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_but_never_for_good() {
        let (mut dialler, mut now) = (Dialler::default(), Instant::now());
        dialler.add("hq.test:7443".to_owned(), now);
        let mut longest = Duration::ZERO;
        for attempt in 0..40 {
            assert_eq!(dialler.due(now), ["hq.test:7443"], "attempt {attempt}");
            assert_eq!(dialler.due(now).len(), 0, "one attempt at a time");
            assert!(dialler.resolved("hq.test:7443", Err("no such host".to_owned()), now).is_none());
            let wait = dialler.next_at().expect("a next attempt") - now;
            assert!(wait >= REDIAL_WAIT_MIN / 2 && wait <= REDIAL_WAIT_MAX, "{wait:?}");
            longest = longest.max(wait);
            now += wait;
        }
        assert!(longest > REDIAL_WAIT_MAX / 2);
        let (_, target) = dialler.targets().next().expect("the target");
        assert_eq!(target.last_error.as_deref(), Some("cannot look up `hq.test:7443`: no such host"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_network_ends_every_wait_once() {
        let (mut dialler, now) = (Dialler::default(), Instant::now());
        dialler.add("hq.test:1".to_owned(), now);
        let fail = |dialler: &mut Dialler| {
            assert_eq!(dialler.due(now), ["hq.test:1"]);
            dialler.resolved("hq.test:1", Err("the network is unreachable".to_owned()), now);
        };
        fail(&mut dialler);
        assert!(dialler.next_at().is_some_and(|at| at > now));
        dialler.hurry(now);
        fail(&mut dialler);
        assert!(
            dialler.next_at().is_some_and(|at| at >= now + REDIAL_WAIT_MIN),
            "then it waits, and longer than before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_of_a_name_is_tried_before_waiting() {
        let (mut dialler, now) = (Dialler::default(), Instant::now());
        dialler.add("hq.test:1".to_owned(), now);
        dialler.due(now);
        let found = ["[::1]:1", "127.0.0.1:1"].map(|a| a.parse().expect("an address"));
        assert_eq!(dialler.resolved("hq.test:1", Ok(found.to_vec()), now), Some(found[0]));
        dialler.dialling("hq.test:1", connection(1));
        let next = dialler.dial_failed(connection(1), None, "refused", now);
        assert_eq!(next, Some(("hq.test:1".to_owned(), found[1])));
        dialler.dialling("hq.test:1", connection(2));
        assert_eq!(dialler.dial_failed(connection(2), None, "refused", now), None);
        assert!(dialler.next_at().is_some_and(|at| at > now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_rests_while_its_peer_is_linked_by_any_connection() {
        let (mut dialler, now, peer) = (Dialler::default(), Instant::now(), PeerId::random());
        dialler.add("hq.test:1".to_owned(), now);
        dialler.due(now);
        dialler.resolved("hq.test:1", Ok(vec!["127.0.0.1:1".parse().expect("an address")]), now);
        dialler.dialling("hq.test:1", connection(1));
        dialler.connected(connection(1), peer);
        assert_eq!(dialler.next_at(), None);
        dialler.link_down(peer, "timed out", now);
        assert!(dialler.next_at().is_some());
        dialler.link_up(peer);
        assert_eq!(dialler.next_at(), None, "the peer dialled us meanwhile");
    }
}
