//! Sessions, as the ledger holds them: each step follows the one before, and what came before is what policy sees.

use cauldron_identity::authority::Authority;

use super::{Ledger, Recorded, Report};
use crate::bodies::Proposal;
use crate::planted;

/// Steps of a session that policy sees, the newest; with what they read, all labels count.
pub const HISTORY_MAX: usize = 64;

impl Ledger {
    /// Whether a step of a session follows the step it names, for the same principal.
    pub(super) fn session_counts(&self, p: &Recorded<Proposal>) -> Result<(), String> {
        let Some(step) = &p.body.session else { return Ok(()) };
        step.covers(&p.body.operation, &p.body.agent, p.body.created_ms)?;
        // What is stated later may come from what was read.
        if step.index > 1 && step.purpose.is_some() && !planted::active("purpose-restated") {
            return Err("it states a purpose behind the first step of its session".to_owned());
        }
        let Some(prev) = &step.prev else {
            return if step.index == 1 { Ok(()) } else { Err("a step of its session is missing before it".to_owned()) };
        };
        let before = self.proposal(prev).ok_or("the step of its session before it has not arrived here")?;
        let Some(earlier) = &before.body.session else {
            return Err("what it follows is no step of a session".to_owned());
        };
        let same = (earlier.id, &earlier.principal, &earlier.role, &earlier.delegation)
            == (step.id, &step.principal, &step.role, &step.delegation);
        if !same || before.body.agent != p.body.agent || before.header.author != p.header.author {
            return Err("it does not belong to the session that it follows".to_owned());
        }
        if Some(step.index) != earlier.index.checked_add(1) {
            return Err(format!("it is step {}, behind step {}", step.index, earlier.index));
        }
        // Two steps of one index would be two histories.
        let twins =
            self.sessions.get(&step.id).and_then(|s| s.get(&step.index)).map_or(0, std::collections::BTreeSet::len);
        if twins > 1 {
            return Err(format!("its session has {twins} steps with index {}", step.index));
        }
        Ok(())
    }

    /// The steps of its session before `p`, the oldest first.
    #[must_use]
    pub fn history(&self, p: &Recorded<Proposal>) -> Vec<&Recorded<Proposal>> {
        let before = |p: &&Recorded<Proposal>| {
            let prev = p.body.session.as_ref()?.prev?;
            self.proposal(&prev)
        };
        let mut steps: Vec<&Recorded<Proposal>> = std::iter::successors(before(&p), before).collect();
        steps.reverse();
        steps
    }

    /// What the principal of its session asked for, as the first step says.
    #[must_use]
    pub fn purpose(&self, p: &Recorded<Proposal>) -> Option<String> {
        let step = self.ancestors(p).find(|a| a.body.session.is_some())?;
        let first = self.history(step).first().copied().unwrap_or(step);
        first.body.session.as_ref().filter(|s| s.index == 1)?.purpose.clone()
    }

    /// The newest step of a session, and its index.
    #[must_use]
    pub fn session_head(&self, session: &cauldron_identity::Digest) -> Option<(u64, &Recorded<Proposal>)> {
        let (index, steps) = self.sessions.get(session)?.last_key_value()?;
        Some((*index, steps.first().and_then(|id| self.proposal(id))?))
    }

    /// Labels of what a step read or was told.
    pub(crate) fn labels_of<'a>(
        &'a self,
        p: &'a Recorded<Proposal>,
        authority: &'a Authority,
    ) -> impl Iterator<Item = &'a str> {
        let returned = self.read(&p.id).and_then(|r| r.body.result.as_ref()).map(|r| r.labels.as_slice());
        let reports = self.starts_of(&p.id, authority).flat_map(|s| self.reports_on(&s.id));
        let told = reports.flat_map(|r| match &r.body {
            Report::Done(done) => done.labels.as_slice(),
            Report::Failed(failed) => failed.labels.as_slice(),
            Report::Unknown(unknown) => unknown.labels.as_slice(),
            _ => &[],
        });
        told.chain(returned.into_iter().flatten()).map(String::as_str)
    }

    /// Labels of what a step read or was told, each once.
    #[must_use]
    pub fn labels_read(&self, p: &Recorded<Proposal>, authority: &Authority) -> Vec<String> {
        let labels: std::collections::BTreeSet<&str> = self.labels_of(p, authority).collect();
        labels.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use cauldron_identity::{Digest, FactId};

    use crate::bodies::SessionStep;
    use crate::testkit::{World, proposal};

    fn step(index: u64, prev: Option<FactId>, purpose: Option<&str>) -> Option<SessionStep> {
        Some(SessionStep {
            id: Digest::of("session", b"1"),
            principal: "kim".into(),
            role: "clerk".into(),
            delegation: vec![],
            index,
            prev,
            purpose: purpose.map(str::to_owned),
        })
    }

    #[test]
    fn a_purpose_is_stated_before_anything_was_read_and_nowhere_else() {
        let mut world = World::new();
        let mut propose = |address: &str, session: Option<SessionStep>| {
            let mut body = proposal(address);
            body.session = session.map(Box::new);
            world.propose(body)
        };
        let first = propose("198.51.100.7", step(1, None, Some("block what the ticket names")));
        let second = propose("198.51.100.8", step(2, Some(first), None));
        let third = propose("198.51.100.9", step(3, Some(second), Some("and 198.51.100.9")));
        let counts = |id| {
            let p = world.ledger.proposal(&id).expect("here");
            (world.ledger.proposal_counts(p, &world.authority), world.ledger.purpose(p))
        };
        let stated = Some("block what the ticket names".to_owned());
        assert_eq!(counts(first), (Ok(()), stated.clone()));
        assert_eq!(counts(second), (Ok(()), stated.clone()));
        let (refused, purpose) = counts(third);
        assert!(refused.is_err_and(|why| why.contains("behind the first step")), "it counts");
        assert_eq!(purpose, stated);
    }
}
