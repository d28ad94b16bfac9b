//! What is said of a proposal without asking anybody: whom policy tells, and what calls a person, once more each day.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::ledger::{Call, Matter};
use cauldron_identity::{Clock, FactId};
use cauldron_node_core::{Attention, Told};

use super::message::{Kind, REVIEW_MS, notice_key};

const DAY_MS: u64 = 86_400_000;
/// After how long people are called again where nobody came: after a night, and not within one.
const REMIND_MS: u64 = DAY_MS;
/// The same for audits, of which there may be many and none presses.
const REMIND_AUDIT_MS: u64 = 7 * DAY_MS;

/// How long at least between two calls about one proposal for one reason. What people are called for is made of facts, and whoever may
/// write these chooses how often something is new.
const CALL_PAUSE_MS: u64 = 60 * 60 * 1_000;
const _: () = assert!(CALL_PAUSE_MS < REMIND_MS);

/// What notices said last, by what they are remembered under, and at which boot time they began to.
#[derive(Debug, Default, Clone)]
pub(super) struct Shown(BTreeMap<String, (String, u64)>);

impl Shown {
    /// Takes a notice into the next look, and says whether webhooks are to see it: it is new, and not within an hour of the one before.
    pub(super) fn take(&mut self, before: &Self, notice: &Notice, now: Clock) -> bool {
        let key = notice.key();
        let last = before.0.get(&key).filter(|(terms, at_ms)| *terms == notice.terms || is_recent(*at_ms, now));
        let said = last.cloned().unwrap_or_else(|| (notice.terms.clone(), now.boottime_ms));
        self.0.insert(key, said);
        last.is_none()
    }

    /// Keeps of the look before when somebody was called last for what nobody has to look at now: it may come up again.
    pub(super) fn keep_recent(&mut self, before: &Self, now: Clock) {
        for (key, (_, at_ms)) in before.0.iter().filter(|(_, (_, at_ms))| is_recent(*at_ms, now)) {
            self.0.entry(key.clone()).or_insert_with(|| (String::new(), *at_ms));
        }
    }

    /// One that a webhook had no room for is read again.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

fn is_recent(at_ms: u64, now: Clock) -> bool {
    now.boottime_ms < at_ms.saturating_add(CALL_PAUSE_MS)
}

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

    fn calls(n: u8, call: Call, matter: Matter, now: Clock) -> Notice {
        Notice::of(Attention { proposal: FactId::from_bytes([n; 32]), call, groups: groups(&[]), matter }, now)
    }

    /// Looks every second for two hours; the seconds in which webhooks saw something new.
    fn looks(notices: impl Fn(u64, Clock) -> Vec<Notice>) -> Vec<u64> {
        let (mut shown, mut new) = (Shown::default(), Vec::new());
        for second in 0..=7_200 {
            // The time of day may be anything: how long ago something was is told by the time since the start.
            let wall_ms = 1_764_500_000_000 + if second == 5_000 { 400 * DAY_MS } else { second * 1_000 };
            let confidence = cauldron_identity::Confidence::Local;
            let (now, mut next) = (Clock { wall_ms, boottime_ms: second * 1_000, confidence }, Shown::default());
            for notice in notices(second, now) {
                new.extend(next.take(&shown, &notice, now).then_some(second));
            }
            next.keep_recent(&shown, now);
            shown = next;
        }
        new
    }

    #[test]
    fn whoever_says_something_new_every_second_has_people_called_once_an_hour() {
        // Dates are free: each is another hour, far back or far ahead.
        let matter = |second: u64| {
            let since_ms = if second.is_multiple_of(2) { second * 3_600_000 } else { u64::MAX - second * 3_600_000 };
            Matter { since_ms, said: second }
        };
        let hourly = [0, 3_600, 7_200];
        assert_eq!(looks(|second, now| vec![calls(1, Call::Unknown, matter(second), now)]), hourly);
        // Settled and not, by turns.
        let turns = |second: u64, now: Clock| {
            let unknown = calls(1, Call::Unknown, matter(second), now);
            if second.is_multiple_of(2) { vec![unknown] } else { vec![] }
        };
        assert_eq!(looks(turns), hourly);
        // Nobody else waits for that, and no other reason.
        let beside = |second: u64, now: Clock| {
            let mut all = vec![calls(1, Call::Unknown, matter(second), now)];
            all.extend((second == 7).then(|| calls(2, Call::Unknown, matter(0), now)));
            all.extend((second == 9).then(|| calls(1, Call::Contested, matter(0), now)));
            all
        };
        assert_eq!(looks(beside), [0, 7, 9, 3_600, 7_200]);
        // What came up twice within an hour is called for at its end, and what did not change is not called for again.
        let once = |second: u64, now: Clock| {
            let said = if second < 60 { 1 } else { 2 };
            vec![calls(1, Call::Unknown, Matter { since_ms: 1_764_500_000_000, said }, now)]
        };
        let new = looks(once);
        assert_eq!(new.iter().filter(|second| **second < 5_000).collect::<Vec<_>>(), [&0, &3_600]);
        assert!(new.len() <= 3, "and what a jump of the clock brings is held to an hour, too: {new:?}");
    }

    #[test]
    fn who_does_not_come_is_called_again_and_every_node_calls_at_the_same_time() {
        let since_ms = 1_764_500_000_000;
        let at = |ms: u64| Clock {
            wall_ms: since_ms + ms,
            boottime_ms: 0,
            confidence: cauldron_identity::Confidence::Local,
        };
        let notice = |call: Call, since_ms: u64, ms: u64| {
            let notice = calls(1, call, Matter { since_ms, said: 2 }, at(ms));
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
