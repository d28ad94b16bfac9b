//! What another policy would have said to decisions of the past.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::Digest;
use serde::Serialize;

use super::Engine;
use crate::bodies::{Evaluation, Outcome};
use crate::input::Input;

/// Changes that are told one by one; beyond, they are only counted. Nobody reads more.
pub const CHANGES_MAX: usize = 10_000;

/// What would change. [`Report::decisions`] is the sum of [`Report::same`] and [`Report::changed`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Decisions judged again.
    pub decisions: u64,
    /// With the same outcome, obligations and rules.
    pub same: u64,
    /// With another outcome, other obligations or other rules.
    pub changed: u64,
    /// How many went from one outcome to another, equal ones included.
    pub outcomes: BTreeMap<Outcome, BTreeMap<Outcome, u64>>,
    /// The first [`CHANGES_MAX`] of those that changed, in the order of the decisions.
    pub changes: Vec<Change>,
}

/// One decision that would be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its place among the decisions, from 0.
    pub at: u64,
    /// Operation and resource kind.
    pub action_class: String,
    /// Digest of the input document.
    pub input_digest: Digest,
    /// The outcome as recorded.
    pub was: Outcome,
    /// The outcome now.
    pub now: Outcome,
    /// Whether other things must be met.
    pub obligations: bool,
    /// Rules that would lead to it now and did not.
    pub rules_new: Vec<String>,
    /// Rules that led to it and would not now.
    pub rules_gone: Vec<String>,
}

/// Judges every input again with `engine` and compares with what was recorded. Risk class and policy version are not
/// compared: the version differs by intent, and the class stands in the bundle's manifest.
pub fn backtest(engine: &Engine, decisions: impl IntoIterator<Item = (Input, Evaluation)>) -> Report {
    let mut report = Report::default();
    for (input, was) in decisions {
        let now = engine.evaluate(&input);
        let counted = report.outcomes.entry(was.outcome).or_default().entry(now.outcome).or_default();
        *counted += 1;
        let change = Change::between(report.decisions, &input, &was, &now);
        report.decisions += 1;
        match change {
            None => report.same += 1,
            Some(change) => {
                report.changed += 1;
                if report.changes.len() < CHANGES_MAX {
                    report.changes.push(change);
                }
            }
        }
    }
    report
}

impl Change {
    fn between(at: u64, input: &Input, was: &Evaluation, now: &Evaluation) -> Option<Self> {
        if was.outcome == now.outcome && was.obligations == now.obligations && was.rules == now.rules {
            return None;
        }
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (was.rules.iter().collect(), now.rules.iter().collect());
        let only = |a: &BTreeSet<&String>, b: &BTreeSet<&String>| a.difference(b).map(|rule| (*rule).clone()).collect();
        Some(Self {
            at,
            action_class: input.action_class().to_owned(),
            input_digest: now.input_digest,
            was: was.outcome,
            now: now.outcome,
            obligations: was.obligations != now.obligations,
            rules_new: only(&new, &old),
            rules_gone: only(&old, &new),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::tests::input;
    use crate::testkit::World;

    fn engine(limit: u64) -> Engine {
        World::engine_with(&format!(
            "package cauldron.guardrail\n\
             allow contains {{\"rule\": \"small\", \"why\": \"w\"}} if input.n <= {limit}\n\
             step_up contains {{\"rule\": \"large\", \"why\": \"w\", \"approvals\": [{{\"group\": \"g\", \"n\": 1}}]}} if input.n > {limit}\n"
        ))
    }

    #[test]
    fn a_lower_limit_shows_whom_it_would_have_met() {
        let (old, new) = (engine(5), engine(3));
        let decisions = || (0..10).map(|n| input(json!({"n": n}))).map(|input| (input.clone(), old.evaluate(&input)));
        let same = backtest(&old, decisions());
        assert_eq!((same.decisions, same.same, same.changes.len()), (10, 10, 0));
        let report = backtest(&new, decisions());
        assert_eq!((report.decisions, report.same, report.changed), (10, 8, 2));
        assert_eq!(report.outcomes[&Outcome::Allow], BTreeMap::from([(Outcome::Allow, 4), (Outcome::StepUp, 2)]));
        let change = &report.changes[0];
        assert_eq!((change.at, change.was, change.now), (4, Outcome::Allow, Outcome::StepUp));
        assert!(change.obligations);
        assert_eq!((change.rules_new.join(","), change.rules_gone.join(",")), ("large: w".into(), "small: w".into()));
    }
}
