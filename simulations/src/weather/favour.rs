//! Weather in which a planted bug shows soon.

use cauldron_identity::planted;

use super::{Takes, Weather};
use crate::queue::Ms;

impl Weather {
    /// A planted bug that only rare weather brings out is looked for in that weather: the search has half a minute, on any
    /// machine. Without a planted bug nothing changes.
    pub(super) fn favour_the_planted(&mut self, turbulence_ms: Ms) {
        let often = Some(turbulence_ms / 4);
        if planted::active("fork-not-frozen") {
            (self.faults.lie_ms, self.rotate_ms) = (often, None);
            // One branch must have spread before the other is met.
            (self.faults.partition_ms, self.sites) = (Some(15_000), vec![2, 2]);
            (self.write_ms, self.budget_ms, self.agents.proposals) = (None, None, 2);
            (self.faults.lie_ms, self.turbulence_ms, self.term_ms) = (Some(15_000), 120_000, (60_000, 90_000));
        }
        if planted::active("activate-unheard") {
            (self.faults.lie_ms, self.rotate_ms) = (None, Some(3_000));
        }
        if planted::active("coordinator-may-enrol-people") || planted::active("deny-not-final") {
            self.faults.forge_ms = often;
        }
        if planted::active("coordinator-may-enrol-people") {
            self.agents.sagas = 0;
        }
        if planted::active("deny-not-final") {
            (self.agents.proposals, self.people.deny, self.people.look_ms) = (9, 30, 2_000);
        }
        if planted::active("high-water-not-persisted") {
            (self.faults.jump_ms, self.faults.power_ms) = (Some(20_000), Some(20_000));
        }
        if planted::active("time-reset-unheard") {
            self.faults.jump_ms = Some(20_000);
        }
        if planted::active("intent-key-ignored") {
            (self.agents.repeats, self.budget_ms, self.write_ms) = (50, None, None);
            self.epoch_changes = 16_000;
        }
        if planted::active("start-by-hearsay") {
            (self.faults.executor_ms, self.sites, self.alone) = (Some(8_000), vec![2, 2], None);
            (self.agents.proposals, self.budget_ms, self.write_ms, self.takes) = (9, None, None, None);
        }
        if planted::active("end-not-probed") {
            self.faults.executor_ms = None;
        }
        if planted::active("lease-ignored") || planted::active("isolation-without-grant") {
            self.lease_r1_ms = 20_000;
        }
        if planted::active("cut-change-stays") || planted::active("reissue-forgotten") {
            (self.faults.cut_ms, self.write_ms, self.cut_early) = (often, Some(1_500), 90);
            self.epoch_changes = 16_000;
        }
        if planted::active("late-forgotten") {
            (self.faults.partition_ms, self.write_ms, self.epoch_changes) = (Some(20_000), Some(1_000), 6);
        }
        if planted::active("closed-outlives-cut") {
            (self.faults.cut_ms, self.write_ms, self.cut_early) = (often, Some(1_000), 50);
            (self.faults.partition_ms, self.epoch_changes) = (None, 4);
        }
        if planted::active("grant-from-nothing") || planted::active("reserve-not-durable") {
            self.budget_ms = Some(800);
        }
        if planted::active("refund-by-timeout") || planted::active("credit-counted-twice") {
            (self.budget_ms, self.faults.forge_ms) = (Some(800), often);
        }
        if planted::active("writer-approves") || planted::active("edit-beside-its-parent") {
            (self.people.edit, self.agents.sessions, self.people.look_ms, self.silence_ms) = (40, 50, 2_000, None);
        }
        if planted::active("deputy-votes-twice") {
            (self.people.deputy_ms, self.people.approvers, self.silence_ms) = (Some(3_000), 2, None);
            (self.people.count, self.people.look_ms, self.people.edit) = (4, 2_000, 0);
            (self.agents.proposals, self.takes, self.faults.restore_ms) = (12, None, None);
        }
        if planted::active("silence-unvouched") || planted::active("silence-not-waited") {
            (self.silence_ms, self.faults.forge_ms, self.budget_ms) = (Some(30_000), Some(8_000), None);
        }
        if planted::active("start-unreserved") {
            (self.takes, self.agents.repeats) = (Some(Takes { limit: 1, window_ms: None }), 0);
        }
        if planted::active("unknown-settled-unspent") {
            (self.takes, self.effect_fails) = (Some(Takes { limit: 5, window_ms: Some(120_000) }), (0, 40));
        }
        if planted::active("step-out-of-turn") {
            (self.agents.sagas, self.agents.proposals, self.takes, self.silence_ms) = (100, 8, None, None);
            (self.people.approvers, self.people.deny, self.people.look_ms) = (1, 0, 2_000);
            (self.people.edit, self.people.veto_ms, self.budget_ms, self.faults.lie_ms) = (0, None, None, None);
        }
        if planted::active("one-coordinator-for-r3") {
            (self.second, self.faults.partition_ms, self.takes) = (true, Some(15_000), None);
            (self.people.deny, self.people.look_ms, self.people.edit) = (0, 2_000, 0);
            self.widen();
        }
        if planted::active("sighting-unanchored") {
            (self.finds, self.faults.rumour_ms, self.sites) = (true, Some(3_000), vec![3, 3]);
            (self.agents.proposals, self.budget_ms, self.write_ms) = (0, None, None);
        }
        if planted::active("refutation-ignored") || planted::active("presence-not-compared") {
            (self.finds, self.faults.partition_ms, self.faults.kill_ms) = (true, Some(20_000), Some(20_000));
            (self.sites, self.agents.proposals, self.budget_ms, self.write_ms) = (vec![3, 3], 0, None, None);
        }
        if planted::active("lanes-ignored") {
            (self.thin, self.write_ms) = (Some(super::Thin { bytes_per_s: 3_000, budget: None }), Some(1_000));
        }
        if planted::active("budget-ignored") {
            (self.thin, self.write_ms) = (Some(super::Thin::metered(30_000)), Some(1_000));
        }
        if planted::active("cold-before-durable") {
            self.hot_bytes = 0;
        }
        if planted::active("rights-unconfirmed") {
            (self.budget_ms, self.faults.kill_ms) = (Some(400), Some(10_000));
        }
    }
}
