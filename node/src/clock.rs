//! The machine's clocks as the core's input: wall time, boot time, and how far the wall may be believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cauldron_identity::clock::HighWater;
use cauldron_identity::{Clock, Confidence};
use minicbor::{Decode, Encode};
use rustix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A believed moment, as it is kept on disk: a later start of the process judges its wall clock by it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    /// Milliseconds since the Unix epoch.
    #[n(0)]
    pub wall_ms: u64,
    /// Boot time then, milliseconds.
    #[n(1)]
    pub boottime_ms: u64,
    /// Which boot `boottime_ms` counts from.
    #[n(2)]
    pub boot_id: String,
}

/// Reads the machine's clocks and judges the wall clock by the highest moment it believed before.
///
/// A clone is the same clock: all share one mark.
#[derive(Debug, Clone)]
pub struct SystemClock {
    boot_id: Arc<str>,
    high_water: Arc<Mutex<HighWater>>,
}

impl SystemClock {
    /// Starts from the stored mark. Under another boot id boot time has started over, and nobody knows how long the machine
    /// was off: the mark then stands as if it were taken now. Without a mark the present wall time is the first one.
    #[must_use]
    pub fn start(stored: Option<&Mark>) -> Self {
        let boot_id = boot_id();
        let boottime = boottime_ms();
        let high_water = match stored {
            Some(mark) if mark.boot_id == boot_id => HighWater::new(mark.wall_ms, mark.boottime_ms),
            Some(mark) => HighWater::new(mark.wall_ms, boottime),
            None => HighWater::new(wall_ms(), boottime),
        };
        Self { boot_id: boot_id.into(), high_water: Arc::new(Mutex::new(high_water)) }
    }

    /// The time now. A believed reading moves the high-water mark.
    #[must_use]
    pub fn now(&self) -> Clock {
        let (wall_ms, boottime_ms) = (wall_ms(), boottime_ms());
        let mut mark = self.high_water.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = Clock { wall_ms, boottime_ms, confidence: mark.judge(wall_ms, boottime_ms) };
        mark.advance(clock);
        clock
    }

    /// Moves the mark to a time that enrolled peers or an operator vouched for; how they did is the caller's to judge.
    pub fn confirm(&self, wall_ms: u64) {
        let mut mark = self.high_water.lock().unwrap_or_else(PoisonError::into_inner);
        *mark = HighWater::new(wall_ms, boottime_ms());
    }

    /// What to keep on disk.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let clock = self.now();
        let believed = clock.confidence != Confidence::Unknown;
        let wall_ms = self.high_water.lock().unwrap_or_else(PoisonError::into_inner).wall_ms();
        Mark {
            wall_ms: if believed { clock.wall_ms.max(wall_ms) } else { wall_ms },
            boottime_ms: clock.boottime_ms,
            boot_id: self.boot_id.to_string(),
        }
    }

    /// This boot's id.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

/// Milliseconds by which both clocks are ahead of the machine's, where a test said so.
#[cfg(feature = "fault-points")]
static AHEAD_MS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// From here on both clocks of this process stand as if the machine had slept for `time`.
#[cfg(feature = "fault-points")]
pub fn sleep_through(time: std::time::Duration) {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    AHEAD_MS.store(ms, std::sync::atomic::Ordering::Relaxed);
}

/// Milliseconds by which the wall clock alone is ahead, where a test said so.
#[cfg(feature = "fault-points")]
static WALL_AHEAD_MS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// From here on the wall clock of this process is `time` ahead, as if somebody had set it so.
#[cfg(feature = "fault-points")]
pub fn set_ahead(time: std::time::Duration) {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    WALL_AHEAD_MS.store(ms, std::sync::atomic::Ordering::Relaxed);
}

fn wall_ahead_ms() -> u64 {
    #[cfg(feature = "fault-points")]
    return ahead_ms().saturating_add(WALL_AHEAD_MS.load(std::sync::atomic::Ordering::Relaxed));
    #[cfg(not(feature = "fault-points"))]
    0
}

fn ahead_ms() -> u64 {
    #[cfg(feature = "fault-points")]
    return AHEAD_MS.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(feature = "fault-points"))]
    0
}

/// Milliseconds since the Unix epoch; 0 for a clock that stands before it.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)).saturating_add(wall_ahead_ms())
}

/// The wall clock as certificates are judged by it, in Unix seconds.
#[must_use]
pub fn certificate_clock() -> cauldron_mesh::WallClock {
    Arc::new(|| wall_ms() / 1000)
}

/// Milliseconds since boot, suspend included (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(millis).saturating_add(ahead_ms())
}

/// This boot's id (random(4)). Where `/proc` hides it, an id that no other start of any process has: leases and marks then
/// do not survive a restart of the process, which is the safe side.
#[must_use]
pub fn boot_id() -> String {
    let read = std::fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned());
    read.ok()
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| format!("process-{}", hex::encode(crate::chance::bytes::<16>())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_identity::clock::JUMP_MS_MAX;

    fn mark(wall_ms: u64, boottime_ms: u64, boot_id: &str) -> Mark {
        Mark { wall_ms, boottime_ms, boot_id: boot_id.into() }
    }

    #[test]
    fn both_clocks_move_and_a_fresh_start_is_believed() {
        let clock = SystemClock::start(None);
        let (a, b) = (clock.now(), clock.now());
        assert_eq!(a.confidence, Confidence::Local);
        assert!(b.boottime_ms >= a.boottime_ms && a.boottime_ms > 0);
        assert!(a.wall_ms > 1_700_000_000_000);
    }

    #[test]
    fn time_since_the_mark_is_believed_within_one_boot_only() {
        let (wall, boottime) = (wall_ms(), boottime_ms());
        let hour = 3_600_000;
        let same = mark(wall - hour, boottime.saturating_sub(hour), &boot_id());
        // A machine that booted less than an hour ago has no such mark to keep.
        if boottime > hour {
            assert_eq!(SystemClock::start(Some(&same)).now().confidence, Confidence::Local);
        }
        let other = mark(wall - hour, boottime.saturating_sub(hour), "another boot");
        assert_eq!(SystemClock::start(Some(&other)).now().confidence, Confidence::Unknown);
        let recent = mark(wall - JUMP_MS_MAX / 2, 5, "another boot");
        assert_eq!(SystemClock::start(Some(&recent)).now().confidence, Confidence::Local);
    }

    #[test]
    fn a_clock_set_back_is_not_believed_until_confirmed_and_the_mark_stays() {
        let ahead = mark(wall_ms() + 10 * JUMP_MS_MAX, boottime_ms(), &boot_id());
        let clock = SystemClock::start(Some(&ahead));
        assert_eq!(clock.now().confidence, Confidence::Unknown);
        assert_eq!(clock.mark().wall_ms, ahead.wall_ms);
        clock.confirm(wall_ms());
        assert_eq!(clock.now().confidence, Confidence::Local);
    }
}
