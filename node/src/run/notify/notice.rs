//! What is said of a proposal without asking anybody: whom policy tells, and what calls a person, once more each day.

use std::collections::BTreeSet;

use cauldron_coordinator::ledger::{Call, Matter};
use cauldron_identity::{Clock, FactId};
use cauldron_node_core::{Attention, Told};

use super::message::{Kind, REVIEW_MS, notice_key};

const DAY_MS: u64 = 86_400_000;
/// After how long people are called again where nobody came: after a night, and not within one.
const REMIND_MS: u64 = DAY_MS;
/// The same for audits, of which there may be many and none presses.
const REMIND_AUDIT_MS: u64 = 7 * DAY_MS;

/// Something that is said once, before it is known what to say of its proposal.
pub(super) struct Notice {
    pub(super) proposal: FactId,
    pub(super) kind: Kind,
    pub(super) terms: String,
    pub(super) groups: BTreeSet<String>,
    pub(super) until_ms: u64,
}

impl From<Told> for Notice {
    fn from(told: Told) -> Self {
        let (kind, terms, until_ms) =
            (Kind::Told(told.outcome), told.terms.to_string(), told.decided_ms.saturating_add(REVIEW_MS));
        Self { proposal: told.proposal, kind, terms, groups: told.groups, until_ms }
    }
}

impl Notice {
    pub(super) fn of(calls: Attention, now: Clock) -> Self {
        let every_ms = if calls.call == Call::Audit { REMIND_AUDIT_MS } else { REMIND_MS };
        // Numbered from when it came up, so that every node calls again at the same time, under the same id. Whatever that time is: one
        // that lies far ahead moves the hour of the day, and stops nothing.
        let Matter { since_ms, said } = calls.matter;
        let round = now.wall_ms.saturating_sub(since_ms % every_ms) / every_ms;
        let terms = format!("{}/{since_ms}/{said}/{round}", calls.call.name());
        let (kind, until_ms) = (Kind::Attention(calls.call), now.wall_ms.saturating_add(REVIEW_MS));
        Self { proposal: calls.proposal, kind, terms, groups: calls.groups, until_ms }
    }

    pub(super) fn key(&self) -> String {
        notice_key(&self.proposal.to_string(), self.kind, &self.terms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::groups;
    use super::*;

    #[test]
    fn who_does_not_come_is_called_again_and_every_node_calls_at_the_same_time() {
        let since_ms = 1_764_500_000_000;
        let at = |ms: u64| Clock {
            wall_ms: since_ms + ms,
            boottime_ms: 0,
            confidence: cauldron_identity::Confidence::Local,
        };
        let notice = |call: Call, since_ms: u64, ms: u64| {
            let calls = Attention {
                proposal: FactId::from_bytes([1; 32]),
                call,
                groups: groups(&[]),
                matter: Matter { since_ms, said: 2 },
            };
            let notice = Notice::of(calls, at(ms));
            (notice.key(), notice.terms)
        };
        let first = notice(Call::Unknown, since_ms, 0);
        assert_eq!(notice(Call::Unknown, since_ms, DAY_MS - 1), first, "within a day it is said once");
        let again = notice(Call::Unknown, since_ms, DAY_MS);
        assert!(again.0 == first.0 && again.1 != first.1, "{again:?}");
        assert_eq!(notice(Call::Unknown, since_ms, 2 * DAY_MS - 1), again);
        assert_ne!(notice(Call::Unknown, since_ms + 1, 1).1, first.1, "it came up anew");
        let audit = |ms: u64| notice(Call::Audit, since_ms, ms).1;
        assert!(audit(0) == audit(7 * DAY_MS - 1) && audit(0) != audit(7 * DAY_MS));
        // Somebody's clock is far ahead: no day goes by without a call for that.
        let far: BTreeSet<String> = (0..5).map(|day| notice(Call::Unknown, u64::MAX - 7, day * DAY_MS).1).collect();
        assert_eq!(far.len(), 5);
    }
}
