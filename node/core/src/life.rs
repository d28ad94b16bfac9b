//! Whether this node may write: has anybody seen more of its own chains than it has itself?
//!
//! A store restored from a backup lies behind what peers hold. Writing on would sign a second fact for a place already
//! used, and a permit consumed after the backup would be consumed again. So a node that starts on a used store first asks
//! (decision 0005).

use std::collections::BTreeMap;

use cauldron_identity::{Scope, planted};

/// How long a restarted node waits for a peer to confirm its heads before it records alone, milliseconds. Long enough for
/// a redial with backoff on a live network, short enough that an isolated site loses no observations.
pub(crate) const CONFIRM_GRACE_MS: u64 = 10_000;

/// What the node may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// Waiting for a peer's version vector; nothing is appended, nothing is executed.
    Confirming {
        /// Boot time, milliseconds, at which the node goes on alone.
        grace_ends_ms: u64,
    },
    /// Writing. `confirmed` says whether a peer vouched for the heads (or the store was never used before).
    Active {
        /// Whether permits that were on disk at start may be executed without the connector's probe.
        confirmed: bool,
    },
    /// Peers hold more of this node's chains than it does: it fetches them, then needs an `Incarnate` entry.
    ReadOnly {
        /// The highest own position that any peer has shown, by scope.
        seen: BTreeMap<Scope, u64>,
    },
}

impl Life {
    /// At start: a store that no process has used holds nothing that could lie behind.
    pub(crate) fn at_start(used_before: bool, now_ms: u64) -> Self {
        if used_before && !planted::active("restored-node-repeats") {
            Self::Confirming { grace_ends_ms: now_ms + CONFIRM_GRACE_MS }
        } else {
            Self::Active { confirmed: true }
        }
    }

    /// A peer showed how far it holds this node's chains of the present incarnation; `own` is how far we hold them.
    /// Returns whether anything changed.
    pub(crate) fn shown(&mut self, peer: &BTreeMap<Scope, u64>, own: &BTreeMap<Scope, u64>) -> bool {
        let beyond = |(scope, seq): (&Scope, &u64)| *seq > own.get(scope).copied().unwrap_or(0);
        let before = self.clone();
        if let Self::ReadOnly { seen } = self {
            for (scope, seq) in peer {
                let slot = seen.entry(scope.clone()).or_default();
                *slot = (*slot).max(*seq);
            }
        } else if peer.iter().any(beyond) && !planted::active("restored-node-repeats") {
            *self = Self::ReadOnly { seen: peer.clone() };
        } else {
            *self = Self::Active { confirmed: true };
        }
        *self != before
    }

    /// The grace may be over.
    pub(crate) fn tick(&mut self, now_ms: u64) -> bool {
        match self {
            Self::Confirming { grace_ends_ms } if *grace_ends_ms <= now_ms => {
                *self = Self::Active { confirmed: false };
                true
            }
            _ => false,
        }
    }

    /// Whether everything that peers have shown of this node's old life was fetched.
    pub(crate) fn caught_up(&self, own: &BTreeMap<Scope, u64>) -> bool {
        match self {
            Self::ReadOnly { seen } => seen.iter().all(|(s, seq)| own.get(s).copied().unwrap_or(0) >= *seq),
            _ => false,
        }
    }

    /// Whether permits that were on disk at start may be executed.
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Active { confirmed: true })
    }

    /// The state's name in the API, and a sentence for people.
    pub(crate) fn describe(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Confirming { .. } => Some((
                "confirming",
                "waiting for a peer to confirm this node's own heads; it records alone after 10 s, and executes permits \
                 from before the restart only once a peer or the connector's probe has answered"
                    .into(),
            )),
            Self::ReadOnly { .. } => Some((
                "read_only",
                "peers hold facts of this node that its store lacks: it was restored from a backup, or copied; it fetches \
                 them and asks the sequencer for a new incarnation"
                    .into(),
            )),
            Self::Active { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(seq: u64) -> BTreeMap<Scope, u64> {
        BTreeMap::from([(Scope::mesh(), seq)])
    }

    #[test]
    fn a_fresh_store_writes_at_once_and_a_used_one_asks_first() {
        assert!(Life::at_start(false, 0).is_confirmed());
        let mut life = Life::at_start(true, 5);
        assert!(life.describe().is_some());
        assert!(life.shown(&heads(3), &heads(3)) && life.is_confirmed());
    }

    #[test]
    fn the_grace_lets_it_write_but_not_execute_what_was_on_disk() {
        let mut life = Life::at_start(true, 5);
        assert!(!life.tick(5 + CONFIRM_GRACE_MS - 1) && life.tick(5 + CONFIRM_GRACE_MS));
        assert!(life.describe().is_none() && !life.is_confirmed());
    }

    #[test]
    fn a_peer_that_holds_more_makes_it_read_only_until_everything_is_fetched() {
        let mut life = Life::at_start(true, 0);
        assert!(life.shown(&heads(4), &heads(2)));
        assert!(life.describe().is_some() && !life.caught_up(&heads(3)));
        life.shown(&heads(5), &heads(4));
        assert!(!life.caught_up(&heads(4)) && life.caught_up(&heads(5)));
        life.shown(&heads(0), &heads(5));
        assert!(life.describe().is_some(), "only a new incarnation ends it");
    }

    #[test]
    fn behind_shows_even_after_the_grace() {
        let mut life = Life::at_start(true, 0);
        life.tick(CONFIRM_GRACE_MS);
        assert!(life.shown(&heads(9), &heads(1)) && life.describe().is_some());
    }
}
