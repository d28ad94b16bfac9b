//! Sites that the council lets go on past their leases, and a partition that lasts for days.

use cauldron_identity::charter::ClassAges;
use cauldron_identity::isolation::HORIZONS_MAX;
use cauldron_identity::planted;

use super::{Takes, Weather};
use crate::queue::Ms;
use crate::rng::Rng;

const HOUR_MS: Ms = 3_600_000;
/// The longest partition (ten days).
pub const APART_MS_MAX: Ms = 240 * HOUR_MS;
/// A world with a long partition is turbulent for so long at least: before it, during it, and after.
const TURBULENCE_MS_MIN: Ms = 90_000;

/// What sites are granted, and how long one of them is alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone {
    /// The charter's lease age for R2.
    pub lease_r2_ms: Ms,
    /// Up to which age of the lease each class goes on.
    pub horizon: ClassAges,
    /// Whether all nodes of a site may decide there, or its first alone.
    pub all_act: bool,
    /// Whether the grant names the budget that actions take of.
    pub escrow: bool,
    /// How many of its own people lift what one of them restricted.
    pub lift: u32,
    /// Sealed tokens that each node gets.
    pub tokens: u64,
    /// How long the site is alone in all.
    pub apart_ms: Ms,
    /// In how many leaps most of that passes.
    pub leaps: u64,
    /// Whether the council takes the grant back meanwhile.
    pub taken_back: bool,
    /// Whether it does so already before, so that the site hears of it.
    pub taken_early: bool,
    /// Whether somebody cuts one of the site's nodes meanwhile.
    pub cut: bool,
}

impl Weather {
    /// Some worlds have a long partition.
    pub(super) fn go_alone(&mut self, rng: &mut Rng) {
        if rng.percent(30) {
            self.alone = Some(Alone::draw(rng));
            self.suit_the_alone();
        }
        self.favour_alone(rng);
    }

    /// What a long partition does not go together with in this simulator: a term of the council takes grants out of the chain, and
    /// rights of windows would have to be minted for days ahead.
    fn suit_the_alone(&mut self) {
        self.turbulence_ms = self.turbulence_ms.max(TURBULENCE_MS_MIN);
        self.faults.lie_ms = None;
        self.lease_r1_ms = self.lease_r1_ms.min(45_000);
        if let Some(takes) = &mut self.takes {
            *takes = Takes { limit: takes.limit + 4, window_ms: None };
        }
    }

    /// Weather in which a bug of isolation shows soon.
    fn favour_alone(&mut self, rng: &mut Rng) {
        const BUGS: [&str; 5] = [
            "horizon-ignored",
            "withdrawn-grant-stands",
            "one-local-person",
            "isolation-without-escrow",
            "break-glass-twice",
        ];
        if !BUGS.into_iter().any(planted::active) {
            return;
        }
        let mut alone = Alone::draw(rng);
        (alone.apart_ms, alone.all_act) = (alone.apart_ms.max(HORIZONS_MAX.r1_ms), true);
        (self.silence_ms, self.people.look_ms, self.people.deny, self.people.edit) = (None, 2_000, 0, 0);
        (self.faults.forge_ms, self.faults.executor_ms, self.faults.freeze_ms) = (None, None, None);
        (self.faults.power_ms, self.faults.restore_ms, self.budget_ms, self.write_ms) = (None, None, None, None);
        (self.people.approvers, self.people.veto_ms) = (1, None);
        if planted::active("one-local-person") {
            (alone.escrow, self.takes) = (true, Some(Takes { limit: 9, window_ms: None }));
        }
        if planted::active("isolation-without-escrow") {
            (alone.escrow, self.people.count) = (false, 4);
        }
        if planted::active("withdrawn-grant-stands") {
            (alone.taken_early, alone.leaps) = (true, 2);
        }
        if planted::active("break-glass-twice") {
            // Whoever carries the use must not be the owner, which knows what it used.
            (alone.tokens, alone.leaps, self.sites, self.takes) = (1, 3, vec![2], None);
            (self.people.revoke, self.faults.cut_ms, alone.cut) = (false, None, false);
            (self.turbulence_ms, self.faults.kill_ms, self.faults.partition_ms) = (0, None, None);
        }
        self.alone = Some(alone);
        self.suit_the_alone();
    }
}

impl Alone {
    fn draw(rng: &mut Rng) -> Self {
        let most = HORIZONS_MAX;
        let of = |rng: &mut Rng, most: Ms, shares: [Ms; 4]| *rng.pick(&shares.map(|part| most / part)).unwrap_or(&most);
        Self {
            lease_r2_ms: *rng.pick(&[12_000, 20_000, 600_000]).unwrap_or(&600_000),
            horizon: ClassAges {
                r1_ms: of(rng, most.r1_ms, [1, 1, 7, 2_000]),
                r2_ms: if rng.percent(15) { 0 } else { of(rng, most.r2_ms, [1, 1, 72, 2_000]) },
                ..most
            },
            all_act: rng.percent(70),
            escrow: rng.percent(75),
            lift: *rng.pick(&[0, 1, 2]).unwrap_or(&0),
            tokens: *rng.pick(&[0, 2, 3]).unwrap_or(&2),
            apart_ms: *rng
                .pick(&[HOUR_MS / 2, 24 * HOUR_MS, 71 * HOUR_MS, 8 * 24 * HOUR_MS, APART_MS_MAX])
                .unwrap_or(&APART_MS_MAX),
            leaps: rng.between(1, 3),
            taken_back: rng.percent(40),
            taken_early: false,
            cut: rng.percent(15),
        }
    }
}
