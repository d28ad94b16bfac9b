//! Through which relays this node can be reached: wanted once, asked for again whenever the way was lost.

use std::collections::BTreeMap;

use cauldron_identity::SpiffeId;
use libp2p::PeerId;
use libp2p::core::transport::ListenerId;
use tokio::time::Instant;

use crate::limits::{REDIAL_WAIT_MAX, REDIAL_WAIT_MIN};

/// Every relay that is wanted, with its state.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    relays: BTreeMap<PeerId, Wanted>,
}

#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) relay: SpiffeId,
    state: State,
    failures: u32,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Until then, and until there is a link to the relay.
    Waiting(Instant),
    Asked(ListenerId),
    Held(ListenerId),
}

impl Wanted {
    pub(crate) fn held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }
}

impl Reservations {
    /// Wants to be reached through `relay` from now on.
    pub(crate) fn want(&mut self, peer: PeerId, relay: SpiffeId, now: Instant) {
        let state = State::Waiting(now);
        self.relays.entry(peer).or_insert(Wanted { relay, state, failures: 0, last_error: None });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Wanted> {
        self.relays.values()
    }

    /// When the next wait of a relay that `linked` says is linked ends.
    pub(crate) fn next_at(&self, linked: impl Fn(&PeerId) -> bool) -> Option<Instant> {
        let waits = self.relays.iter().filter(|(peer, _)| linked(peer)).filter_map(|(_, wanted)| match wanted.state {
            State::Waiting(until) => Some(until),
            State::Asked(_) | State::Held(_) => None,
        });
        waits.min()
    }

    /// Linked relays to ask now.
    pub(crate) fn due(&self, now: Instant, linked: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let due = |wanted: &Wanted| matches!(wanted.state, State::Waiting(until) if until <= now);
        self.relays.iter().filter(|(peer, wanted)| due(wanted) && linked(peer)).map(|(peer, _)| *peer).collect()
    }

    pub(crate) fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some(wanted) = self.relays.get_mut(peer) {
            wanted.state = State::Asked(listener);
        }
    }

    /// The relay keeps a way open. False for a listener that is no reservation.
    pub(crate) fn held(&mut self, listener: ListenerId) -> bool {
        let Some(wanted) = self.of(listener) else { return false };
        wanted.state = State::Held(listener);
        wanted.failures = 0;
        wanted.last_error = None;
        true
    }

    /// The way is lost, or was not granted. False for a listener that is no reservation.
    pub(crate) fn closed(&mut self, listener: ListenerId, reason: Option<String>, now: Instant) -> bool {
        let Some(wanted) = self.of(listener) else { return false };
        wanted.failed(reason.unwrap_or_else(|| "the link to the relay went down".to_owned()), now);
        true
    }

    /// It could not even be asked for.
    pub(crate) fn not_asked(&mut self, peer: &PeerId, reason: String, now: Instant) {
        if let Some(wanted) = self.relays.get_mut(peer) {
            wanted.failed(reason, now);
        }
    }

    fn of(&mut self, listener: ListenerId) -> Option<&mut Wanted> {
        let is = |state: &State| matches!(state, State::Asked(id) | State::Held(id) if *id == listener);
        self.relays.values_mut().find(|wanted| is(&wanted.state))
    }
}

impl Wanted {
    fn failed(&mut self, reason: String, now: Instant) {
        let wait = REDIAL_WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(REDIAL_WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason);
        self.state = State::Waiting(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_way_is_asked_for_again_while_the_relay_is_linked() {
        let (mut reservations, relay, mut now) = (Reservations::default(), PeerId::random(), Instant::now());
        let id = SpiffeId::new("spiffe://a.test/coordinator/hq").expect("an id");
        reservations.want(relay, id, now);
        assert_eq!(reservations.due(now, |_| false), []);
        assert_eq!(reservations.next_at(|_| false), None, "nothing to wait for without a link");
        let mut longest = std::time::Duration::ZERO;
        for _ in 0..12 {
            assert_eq!(reservations.due(now, |_| true), [relay]);
            let listener = ListenerId::next();
            reservations.asked(&relay, listener);
            assert_eq!(reservations.due(now, |_| true), [], "one question at a time");
            assert!(reservations.closed(listener, Some("full".to_owned()), now));
            let at = reservations.next_at(|_| true).expect("another try");
            longest = longest.max(at - now);
            now = at;
        }
        assert_eq!(longest, REDIAL_WAIT_MAX);
        let listener = ListenerId::next();
        reservations.asked(&relay, listener);
        assert!(reservations.held(listener) && !reservations.held(ListenerId::next()));
        assert!(reservations.iter().all(|wanted| wanted.held() && wanted.last_error.is_none()));
        assert!(!reservations.closed(ListenerId::next(), None, now), "somebody else's listener");
    }
}
