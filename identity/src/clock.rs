//! Time as an input: two clocks and how far the wall clock may be believed.

use serde::{Deserialize, Serialize};

/// What the shell knows about time when it hands an input to a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds since the Unix epoch. May jump either way.
    pub wall_ms: u64,
    /// Milliseconds since the machine booted, suspend included. Never goes back within one boot.
    pub boottime_ms: u64,
    /// How far `wall_ms` may be believed.
    pub confidence: Confidence,
}

/// How far a wall clock may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Behind the persisted high-water mark, or implausibly far ahead of it: nobody vouches for it.
    Unknown,
    /// This machine's own clock, consistent with its high-water mark.
    Local,
    /// Confirmed by signed times of enrolled peers.
    Confirmed,
}

/// How much the wall clock may run ahead of elapsed boot time before it needs confirmation (architecture §4).
pub const JUMP_MS_MAX: u64 = 5 * 60 * 1000;

/// The persisted mark below which a believed wall clock never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighWater {
    wall_ms: u64,
    boottime_ms: u64,
}

impl HighWater {
    /// Starts at a signed time (the charter's, the join reply's) or at the stored mark.
    #[must_use]
    pub fn new(wall_ms: u64, boottime_ms: u64) -> Self {
        Self { wall_ms, boottime_ms }
    }

    /// The mark after a boot: the one on disk, for what the machine shows now proves nothing.
    #[must_use]
    pub fn after_boot(stored_wall_ms: u64, shown_wall_ms: u64, boottime_ms: u64) -> Self {
        // The planted bug: the mark dies with the boot.
        let mark_ms = if crate::planted::active("high-water-not-persisted") { shown_wall_ms } else { stored_wall_ms };
        Self::new(mark_ms, boottime_ms)
    }

    /// The mark itself, milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Judges a wall clock reading: `Unknown` when it lies further behind or ahead of the mark and the boot time elapsed since than
    /// [`JUMP_MS_MAX`] explains. A clock that was set back stays unbelieved, however long it runs on.
    #[must_use]
    pub fn judge(&self, wall_ms: u64, boottime_ms: u64) -> Confidence {
        let elapsed = boottime_ms.saturating_sub(self.boottime_ms);
        let ceiling = self.wall_ms.saturating_add(elapsed).saturating_add(JUMP_MS_MAX);
        let floor = self.wall_ms.saturating_add(elapsed).saturating_sub(JUMP_MS_MAX);
        if (floor..=ceiling).contains(&wall_ms) { Confidence::Local } else { Confidence::Unknown }
    }

    /// Moves the mark to a believed reading; never back.
    pub fn advance(&mut self, clock: Clock) {
        if clock.confidence != Confidence::Unknown && clock.wall_ms > self.wall_ms {
            *self = Self { wall_ms: clock.wall_ms, boottime_ms: clock.boottime_ms };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_beyond_elapsed_boot_time_is_not_believed() {
        let mark = HighWater::new(1_000_000_000, 50_000);
        assert_eq!(mark.judge(1_000_060_000, 110_000), Confidence::Local);
        assert_eq!(mark.judge(1_000_000_000 + 60_000 + JUMP_MS_MAX + 1, 110_000), Confidence::Unknown);
        assert_eq!(mark.judge(1_000_000_000 - JUMP_MS_MAX - 1, 110_000), Confidence::Unknown);
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_believed_once_it_has_caught_up_with_the_mark() {
        let (mark, hour_ms, days_ms) = (HighWater::new(1_000_000_000, 50_000), 3_600_000, 5 * 86_400_000);
        let after = |elapsed: u64, behind_ms: u64| mark.judge(1_000_000_000 + elapsed - behind_ms, 50_000 + elapsed);
        assert_eq!(after(hour_ms, hour_ms), Confidence::Unknown);
        assert_eq!(after(days_ms, hour_ms), Confidence::Unknown, "an hour late is late for ever");
        assert_eq!(after(days_ms, JUMP_MS_MAX), Confidence::Local, "what a jump explains stays believed");
    }

    #[test]
    fn the_mark_never_moves_back() {
        let mut mark = HighWater::new(1_000, 0);
        mark.advance(Clock { wall_ms: 500, boottime_ms: 10, confidence: Confidence::Local });
        mark.advance(Clock { wall_ms: 9_000, boottime_ms: 10, confidence: Confidence::Unknown });
        assert_eq!(mark.wall_ms(), 1_000);
    }
}
