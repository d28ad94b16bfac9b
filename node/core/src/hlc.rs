//! The hybrid logical clock (Kulkarni et al., 2014) of this node's own facts: `milliseconds << 16 | counter`.

/// Issues readings that never repeat and never go back. For display and tie-breaks only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hlc(u64);

/// Readings further ahead of the wall than this are not followed, or one peer with a wrong clock would carry everybody's
/// display into the future (guarantees §4: facts more than 5 min ahead are flagged).
pub const AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

impl Hlc {
    /// The next reading at `wall_ms`.
    pub(crate) fn tick(&mut self, wall_ms: u64) -> u64 {
        self.0 = (self.0 + 1).max(wall_ms << 16);
        self.0
    }

    /// Follows a reading seen in another author's fact.
    pub(crate) fn observe(&mut self, seen: u64, wall_ms: u64) {
        if seen >> 16 <= wall_ms.saturating_add(AHEAD_MS_MAX) {
            self.0 = self.0.max(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_ascend_even_when_the_wall_goes_back() {
        let mut hlc = Hlc::default();
        let a = hlc.tick(1_000);
        let b = hlc.tick(500);
        let c = hlc.tick(1_000);
        assert!(a < b && b < c);
        assert_eq!(c >> 16, 1_000);
    }

    #[test]
    fn a_reading_from_the_far_future_is_not_followed() {
        let mut hlc = Hlc::default();
        hlc.observe((AHEAD_MS_MAX + 10_000) << 16, 1_000);
        assert_eq!(hlc.tick(1_000) >> 16, 1_000);
        hlc.observe(2_000 << 16, 1_000);
        assert_eq!(hlc.tick(1_000) >> 16, 2_000);
    }
}
