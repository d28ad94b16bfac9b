//! Whether this node may write: has anybody seen more of its own chains than it has itself?
//!
//! A store restored from a backup lies behind what peers hold. Writing on would sign a second fact for a place already
//! used, and a permit consumed after the backup would be consumed again. So a node that starts on a used store first asks
//! (decision 0005). What a peer *claims* only makes it wait; read-only it becomes by proof alone, a fact that it signed
//! itself and does not hold, or any peer could silence it.

use cauldron_identity::planted;

/// How long a restarted node waits for a peer to confirm its heads before it records alone, milliseconds. Long enough for
/// a redial with backoff on a live network, short enough that an isolated site loses no observations.
pub(crate) const CONFIRM_GRACE_MS: u64 = 10_000;
/// How long a peer's claim to hold more can put that off, milliseconds: twelve requests. Beyond it the claim is taken for a
/// lie.
const CLAIM_MS_MAX: u64 = 60_000;
/// How long a restored node waits for more of its own facts before it asks for a new incarnation although a peer claims
/// to have some, milliseconds: the time-out of one request.
const QUIET_MS: u64 = 5_000;

/// What the node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Waiting for a peer's version vector; nothing is appended, nothing is executed.
    Confirming {
        /// Boot time, milliseconds, at which the node goes on alone.
        grace_ends_ms: u64,
        /// The latest to which claims can put that off; none while no peer has claimed anything.
        latest_ms: Option<u64>,
    },
    /// Writing. `confirmed` says whether a peer vouched for the heads (or the store was never used before).
    Active {
        /// Whether permits that were on disk at start, and not started, may be used.
        confirmed: bool,
        /// Whether a claim has been waited for in vain: a second one is not waited for.
        tried: bool,
    },
    /// Proven to lie behind its own past: it fetches the rest, then needs an `Incarnate` entry.
    ReadOnly {
        /// Boot time, milliseconds, when the last fact of its own arrived.
        last_ms: u64,
    },
}

impl Life {
    /// At start: a store that no process has used holds nothing that could lie behind.
    pub(crate) fn at_start(used_before: bool, now_ms: u64) -> Self {
        if used_before && !planted::active("restored-node-repeats") {
            Self::Confirming { grace_ends_ms: now_ms + CONFIRM_GRACE_MS, latest_ms: None }
        } else {
            Self::Active { confirmed: true, tried: false }
        }
    }

    /// A connected peer claims to hold more of this node's own chains than the store. If that is true, proof is on its way;
    /// it is waited for once in the life of a process.
    pub(crate) fn claimed(&mut self, now_ms: u64) {
        match self {
            Self::Confirming { grace_ends_ms, latest_ms } => {
                let latest = *latest_ms.get_or_insert(now_ms + CLAIM_MS_MAX);
                *grace_ends_ms = (*grace_ends_ms).max(now_ms + CONFIRM_GRACE_MS).min(latest);
            }
            // One co-reader may have vouched that lacks what another holds.
            Self::Active { tried: false, .. } if !planted::active("restored-node-repeats") => {
                let latest_ms = Some(now_ms + CLAIM_MS_MAX);
                *self = Self::Confirming { grace_ends_ms: now_ms + CONFIRM_GRACE_MS, latest_ms };
            }
            Self::Active { .. } | Self::ReadOnly { .. } => {}
        }
    }

    /// For every scope a connected peer that shares it has announced everything, and none claims more than the store
    /// holds. Returns whether anything changed.
    pub(crate) fn vouched(&mut self) -> bool {
        match self {
            Self::Confirming { .. } | Self::Active { confirmed: false, .. } => {
                let tried =
                    matches!(self, Self::Active { tried: true, .. } | Self::Confirming { latest_ms: Some(_), .. });
                *self = Self::Active { confirmed: true, tried };
                true
            }
            _ => false,
        }
    }

    /// A fact arrived that this node signed and did not hold, or one that contradicts what it holds.
    pub(crate) fn proven_behind(&mut self, now_ms: u64) {
        if !planted::active("restored-node-repeats") {
            *self = Self::ReadOnly { last_ms: now_ms };
        }
    }

    /// The grace may be over.
    pub(crate) fn tick(&mut self, now_ms: u64) -> bool {
        match self {
            Self::Confirming { grace_ends_ms, latest_ms } if *grace_ends_ms <= now_ms => {
                *self = Self::Active { confirmed: false, tried: latest_ms.is_some() };
                true
            }
            _ => false,
        }
    }

    /// Whether what peers have of this node's old life was fetched, as far as they give it.
    pub(crate) fn caught_up(&self, beyond: bool, now_ms: u64) -> bool {
        matches!(self, Self::ReadOnly { last_ms } if !beyond || *last_ms + QUIET_MS <= now_ms)
    }

    /// When it must be looked at again, boot time in milliseconds.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        match self {
            Self::Confirming { grace_ends_ms, .. } => Some(*grace_ends_ms),
            Self::ReadOnly { last_ms } => Some(*last_ms + QUIET_MS),
            Self::Active { .. } => None,
        }
    }

    /// Whether permits that were on disk at start may be executed.
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Active { confirmed: true, .. })
    }

    /// The state's name in the API, and a sentence for people; none while the node may write.
    pub(crate) fn describe(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Confirming { .. } => Some((
                "confirming",
                "waiting for peers to confirm this node's own heads; it records alone after 10 s, or after a minute while a \
                 peer claims to hold more, and uses permits from before the restart only once they have confirmed"
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

    #[test]
    fn a_fresh_store_writes_at_once_and_a_used_one_asks_first() {
        assert!(Life::at_start(false, 0).is_confirmed());
        let mut life = Life::at_start(true, 5);
        assert!(life.describe().is_some());
        assert!(life.vouched() && life.is_confirmed());
    }

    #[test]
    fn the_grace_lets_it_write_but_not_execute_what_was_on_disk() {
        let mut life = Life::at_start(true, 5);
        assert!(!life.tick(5 + CONFIRM_GRACE_MS - 1) && life.tick(5 + CONFIRM_GRACE_MS));
        assert!(life.describe().is_none() && !life.is_confirmed());
        assert!(life.vouched() && life.is_confirmed(), "a peer may still vouch later");
    }

    #[test]
    fn a_claim_makes_it_wait_and_proof_makes_it_read_only() {
        let mut life = Life::at_start(true, 0);
        for now_ms in (0..CLAIM_MS_MAX).step_by(1_000) {
            life.claimed(now_ms);
            assert!(!life.tick(now_ms), "it still confirms");
        }
        assert!(
            life.tick(CLAIM_MS_MAX) && life.describe().is_none() && !life.is_confirmed(),
            "a liar does not silence it"
        );
        life.claimed(CLAIM_MS_MAX + 1);
        assert!(life.describe().is_none(), "nor a second time");
        life.proven_behind(90_000);
        assert!(!life.vouched() && life.describe().is_some(), "only a new incarnation ends it");
    }

    #[test]
    fn a_claim_heard_after_the_grace_is_waited_for_once() {
        let mut life = Life::at_start(true, 0);
        life.tick(CONFIRM_GRACE_MS);
        life.claimed(50_000);
        assert!(life.describe().is_some());
        assert!(life.tick(50_000 + CONFIRM_GRACE_MS) && life.describe().is_none());
    }

    #[test]
    fn it_has_caught_up_when_no_peer_claims_more_or_none_gives_more() {
        let mut life = Life::at_start(true, 0);
        assert!(!life.caught_up(false, 99_999));
        life.proven_behind(1_000);
        assert!(life.caught_up(false, 1_001) && !life.caught_up(true, 1_001) && life.caught_up(true, 1_000 + QUIET_MS));
    }
}
