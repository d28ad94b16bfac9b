//! What a metered link may carry: a token bucket.
//!
//! A quarter of the budget may go at once, and three quarters come evenly over its period: so in no span as long as the period
//! more than the budget goes in the lanes that it holds back. Everything that goes over the link counts, both ways;
//! restrictions, votes and decisions go even when nothing is left, and what they overdraw is paid back first.

use cauldron_identity::planted;

use super::Lane;

/// The smallest budget, bytes: three quarters of what it lets go at once are more than the largest frame.
pub const BUDGET_MIN: u64 = 4_000_000;

/// So many bytes in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// At least [`BUDGET_MIN`].
    pub bytes: u64,
    /// Milliseconds; not 0.
    pub per_ms: u64,
}

/// What is left of a budget. Levels are kept in bytes × 4 × period, so that nothing is lost in rounding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    budget: Budget,
    level: i128,
    at_ms: u64,
}

impl Meter {
    /// With `left` bytes of what may go at once, or all of it.
    #[must_use]
    pub fn new(budget: Budget, now_ms: u64, left: Option<i64>) -> Self {
        let mut meter = Self { budget, level: 0, at_ms: now_ms };
        meter.level = left.map_or(meter.most(), |left| meter.units(i128::from(left)).min(meter.most()));
        meter
    }

    /// The budget.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Bytes that may go at once after a pause.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.budget.bytes / 4
    }

    /// So much time passed while nobody counted.
    pub fn rest(&mut self, passed_ms: u64) {
        self.earn(passed_ms);
    }

    /// Counts what went over the link.
    pub fn charge(&mut self, now_ms: u64, bytes: usize) {
        self.pass(now_ms);
        self.level -= self.units(bytes as i128);
    }

    /// Whether a frame of this lane and length may go.
    pub fn may(&mut self, now_ms: u64, lane: Lane, len: usize) -> bool {
        !lane.is_bulk() || self.wait_ms(now_ms, lane, len) == 0 || planted::active("budget-ignored")
    }

    /// Bytes of this lane that may go now.
    pub fn left(&mut self, now_ms: u64, lane: Lane) -> usize {
        self.pass(now_ms);
        if planted::active("budget-ignored") {
            return usize::MAX;
        }
        usize::try_from((self.level - self.reserve(lane)) / self.units(1)).unwrap_or(0)
    }

    /// What is left of it, bytes; below zero when what must go overdrew it.
    pub fn level(&mut self, now_ms: u64) -> i64 {
        self.pass(now_ms);
        i64::try_from(self.level.div_euclid(self.units(1))).unwrap_or(i64::MIN)
    }

    /// How long a frame of this lane and length has to wait, milliseconds.
    pub fn wait_ms(&mut self, now_ms: u64, lane: Lane, len: usize) -> u64 {
        self.pass(now_ms);
        self.earned_in(self.reserve(lane) + self.units(len as i128) - self.level)
    }

    /// How long until all that may go at once is there again, milliseconds.
    pub fn full_in_ms(&mut self, now_ms: u64) -> u64 {
        self.pass(now_ms);
        self.earned_in(self.most() - self.level)
    }

    /// How long until what is lacking is there, milliseconds.
    fn earned_in(&self, lacking: i128) -> u64 {
        u64::try_from((lacking.max(0) + self.per_ms() - 1) / self.per_ms()).unwrap_or(u64::MAX)
    }

    /// What a lane leaves to those before it: the last eighth of what may go at once is for proposals, and half of that not for
    /// telemetry.
    fn reserve(&self, lane: Lane) -> i128 {
        match lane {
            Lane::Documents => self.most() / 8,
            Lane::Telemetry => self.most() / 16,
            Lane::Restrictions | Lane::Votes | Lane::Proposals => 0,
        }
    }

    fn pass(&mut self, now_ms: u64) {
        self.earn(now_ms.saturating_sub(self.at_ms));
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn earn(&mut self, passed_ms: u64) {
        self.level = (self.level + i128::from(passed_ms) * self.per_ms()).min(self.most());
    }

    /// Three quarters of the budget over its period.
    fn per_ms(&self) -> i128 {
        3 * i128::from(self.budget.bytes)
    }

    fn most(&self) -> i128 {
        self.units(i128::from(self.burst()))
    }

    fn units(&self, bytes: i128) -> i128 {
        bytes * 4 * i128::from(self.budget.per_ms)
    }
}
