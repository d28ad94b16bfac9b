//! The clocks of one machine: both are wrong in their own way.

use cauldron_identity::clock::{HighWater, JUMP_MS_MAX};
use cauldron_identity::{Clock, Confidence};

use crate::queue::Ms;

/// Wall time at the start of every world, milliseconds since the Unix epoch: 2026-11-22T10:00:00Z.
pub const EPOCH_MS: u64 = 1_795_341_600_000;

/// Wall clock, boot clock and the mark below which the wall clock is not believed.
#[derive(Debug, Clone)]
pub struct MachineClock {
    offset_ms: i64,
    drift_ppm: i64,
    booted_at: Ms,
    boots: u64,
    mark: HighWater,
    /// The reading believed last, and when that was: what the invariant goes by, beside the mark.
    believed: Option<(u64, Ms)>,
    /// A reading was believed that the one before does not explain.
    fooled: bool,
    /// When somebody set it last.
    set_at: Option<Ms>,
}

impl MachineClock {
    /// A machine whose wall clock is `offset_ms` off and which runs `drift_ppm` too fast.
    #[must_use]
    pub fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        Self {
            offset_ms,
            drift_ppm,
            booted_at: 0,
            boots: 1,
            mark: HighWater::new(EPOCH_MS, 0),
            believed: None,
            fooled: false,
            set_at: None,
        }
    }

    /// Milliseconds since the boot, by this machine's quartz. Suspend counts.
    #[must_use]
    pub fn boottime(&self, now: Ms) -> u64 {
        self.quartz(now.saturating_sub(self.booted_at))
    }

    /// The virtual time at which the boot clock will show `boottime_ms`.
    #[must_use]
    pub fn when(&self, boottime_ms: u64) -> Ms {
        // A core that never wants to be woken says so with the end of time.
        const NEVER: Ms = Ms::MAX / 4;
        if boottime_ms >= NEVER {
            return NEVER;
        }
        let mut at = self.booted_at.saturating_add(boottime_ms);
        // The drift is below one part in a thousand, so the true moment lies close to the guess.
        let error = i128::from(self.boottime(at)) - i128::from(boottime_ms);
        at = at.saturating_add_signed(i64::try_from(-error).unwrap_or(0));
        while self.boottime(at) < boottime_ms {
            at += 1;
        }
        at
    }

    fn quartz(&self, elapsed: u64) -> u64 {
        let drifted = i128::from(elapsed) * i128::from(1_000_000 + self.drift_ppm) / 1_000_000;
        u64::try_from(drifted).unwrap_or(0)
    }

    /// The wall clock, milliseconds since the Unix epoch.
    #[must_use]
    pub fn wall(&self, now: Ms) -> u64 {
        (EPOCH_MS + self.quartz(now)).saturating_add_signed(self.offset_ms)
    }

    /// What the shell hands to the core, judged as the shell does.
    pub fn read(&mut self, now: Ms) -> Clock {
        let (wall_ms, boottime_ms) = (self.wall(now), self.boottime(now));
        let clock = Clock { wall_ms, boottime_ms, confidence: self.mark.judge(wall_ms, boottime_ms) };
        self.mark.advance(clock);
        if clock.confidence != Confidence::Unknown {
            self.believe(wall_ms, now);
        }
        clock
    }

    fn believe(&mut self, wall_ms: u64, now: Ms) {
        if let Some((last_ms, at)) = self.believed.replace((wall_ms, now)) {
            let explained = last_ms.saturating_add(self.quartz(now.saturating_sub(at)));
            // Jumps that stay within what is believed may follow each other between two readings.
            self.fooled |= wall_ms.abs_diff(explained) > 3 * JUMP_MS_MAX;
        }
    }

    /// Whether this machine ever took a reading for true that its own past rules out.
    #[must_use]
    pub fn is_fooled(&self) -> bool {
        self.fooled
    }

    /// Whether the wall clock is believed now.
    #[must_use]
    pub fn is_believed(&self, now: Ms) -> bool {
        self.mark.judge(self.wall(now), self.boottime(now)) != Confidence::Unknown
    }

    /// Enrolled peers vouch for a reading of the wall clock: the mark moves to it.
    pub fn vouched(&mut self, wall_ms: u64, now: Ms) {
        self.mark = HighWater::new(wall_ms, self.boottime(now));
        self.believed = Some((wall_ms, now));
    }

    /// Somebody, or NTP, sets the wall clock.
    pub fn jump(&mut self, by_ms: i64, now: Ms) {
        self.offset_ms += by_ms;
        self.set_at = Some(now);
    }

    /// Whether somebody set the wall clock since.
    #[must_use]
    pub fn was_set_since(&self, since: Ms) -> bool {
        self.set_at.is_some_and(|at| at >= since)
    }

    /// NTP finds the true time again.
    pub fn correct(&mut self, now: Ms) {
        let error = i128::from(EPOCH_MS + now) - i128::from(self.wall(now));
        self.offset_ms += i64::try_from(error).unwrap_or(0);
        self.believed = None;
        self.set_at = Some(now);
    }

    /// The machine boots: the boot clock starts again, the mark stays.
    pub fn reboot(&mut self, now: Ms) {
        self.booted_at = now;
        self.boots += 1;
        self.mark = HighWater::after_boot(self.mark.wall_ms(), self.wall(now), 0);
    }

    /// When the machine booted, virtual time.
    #[must_use]
    pub fn booted_at(&self) -> Ms {
        self.booted_at
    }

    /// The name of the present boot.
    #[must_use]
    pub fn boot_id(&self, machine: &str) -> String {
        format!("{machine}-boot-{}", self.boots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_on_a_drifting_clock() {
        for drift in [-200, -1, 0, 1, 200] {
            let mut clock = MachineClock::new(0, drift);
            clock.reboot(12_345);
            for boottime in [0, 1, 999, 10_000, 3_600_000] {
                let at = clock.when(boottime);
                assert!(clock.boottime(at) >= boottime, "{drift} {boottime}");
                assert!(at == 12_345 || clock.boottime(at - 1) <= boottime, "{drift} {boottime}");
            }
        }
    }

    #[test]
    fn a_large_jump_is_not_believed_until_it_is_corrected() {
        let mut clock = MachineClock::new(50, 100);
        assert_eq!(clock.read(1_000).confidence, Confidence::Local);
        clock.jump(400_000_000, 1_500);
        assert!(!clock.is_believed(2_000));
        clock.correct(2_000);
        assert!(clock.is_believed(2_000));
        assert_eq!(clock.wall(2_000), EPOCH_MS + 2_000);
    }
}
