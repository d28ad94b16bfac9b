//! Which proposals a fact may have changed: what is kept about the others stays true.

use std::collections::BTreeSet;

use cauldron_identity::{Digest, Fact, FactId};
use minicbor::Decode;

use super::index::intent;
use super::tally::HOUR_MS;
use super::{Ledger, Report};
use crate::bodies::{
    Aborted, Decision, Deputy, KIND_ABORTED, KIND_DECISION, KIND_DEPUTY, KIND_PERMIT, KIND_PROPOSAL, KIND_READ,
    KIND_RECONCILED, KIND_RESTRICTION, KIND_REVIEW, KIND_STARTED, KIND_VOTE, KIND_WINDOW, Permit, Restriction, Review,
    Started, Target, WindowClosed, Word,
};
use crate::vote::{Choice, SignedVote};

/// Proposals whose status, or what a coordinator should write about them, may be another one since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// These; rather too many than too few.
    These(BTreeSet<FactId>),
    /// Any.
    Any,
}

impl Ledger {
    /// What a fact may have changed that this ledger has taken in. A kind that is not known here may change anything.
    #[must_use]
    pub fn touched_by(&self, fact: &Fact) -> Touched {
        let mut ids = BTreeSet::new();
        let kind = fact.header().kind.as_str();
        match kind {
            // Whose facts count after a suspension is the authority's to say.
            KIND_RESTRICTION => match of(fact, |r: Restriction| r.order().ok().map(|order| order.target)).flatten() {
                Some(Target::Lineage(lineage)) => ids.extend(self.lineages.of(&lineage)),
                Some(Target::Author(..)) | None => {}
                Some(_) => return Touched::Any,
            },
            KIND_PROPOSAL | KIND_READ => self.of_proposal(&fact.id(), &mut ids),
            KIND_DECISION => _ = of(fact, |d: Decision| self.around(&d.proposal, &mut ids)),
            KIND_PERMIT => {
                _ = of(fact, |p: Permit| self.around(&p.proposal, &mut ids));
                // Whether a start that was here before it is done depends on the checks that it asks for.
                let starts = self.started_on.of(&fact.id()).filter_map(|id| self.starts.get(id));
                starts.for_each(|s| self.of_start(&s.body, &mut ids));
            }
            KIND_WINDOW => _ = of(fact, |w: WindowClosed| self.around(&w.proposal, &mut ids)),
            KIND_STARTED => _ = of(fact, |s: Started| self.of_start(&s, &mut ids)),
            KIND_VOTE => _ = of(fact, |v: SignedVote| self.of_vote(&v, &mut ids)),
            KIND_DEPUTY => _ = of(fact, |d: Deputy| self.of_deputy(&d, &mut ids)),
            KIND_REVIEW => {
                let about =
                    of(fact, |r: Review| r.statement().ok().and_then(|s| self.reviewed_start(&s.used))).flatten();
                about.into_iter().for_each(|start| _ = ids.insert(start.body.proposal));
            }
            KIND_ABORTED => {
                _ = of(fact, |a: Aborted| ids.extend(self.lineages.of(&a.proposal)));
            }
            KIND_RECONCILED => {
                let start = of(fact, |w: Word| w.statement().ok()).flatten().and_then(|w| self.starts.get(&w.started));
                start.into_iter().for_each(|s| self.of_start(&s.body, &mut ids));
            }
            _ => match Report::read(fact) {
                Some(report) => {
                    let start = report.ok().and_then(|r| self.starts.get(&r.body.started()));
                    start.into_iter().for_each(|s| self.of_start(&s.body, &mut ids));
                }
                None if Self::reads(kind) => return Touched::Any,
                None => {}
            },
        }
        self.with_sagas(&mut ids);
        Touched::These(ids)
    }

    /// A proposal, what it came from, what came from it, and whatever wants the same: one of them may have used it up.
    fn around(&self, id: &FactId, ids: &mut BTreeSet<FactId>) {
        let Some(p) = self.proposals.get(id) else { return };
        ids.insert(*id);
        ids.extend(p.body.parent);
        ids.extend(self.children.of(id));
        self.wanting(&p.body.lineage(*id), &p.body.resource, &p.body.intent_key, ids);
    }

    fn wanting(&self, lineage: &FactId, resource: &str, intent_key: &str, ids: &mut BTreeSet<FactId>) {
        ids.extend(self.lineages.of(lineage));
        ids.extend(self.intents.of(&intent(resource, intent_key)));
    }

    fn of_proposal(&self, id: &FactId, ids: &mut BTreeSet<FactId>) {
        let Some(p) = self.proposals.get(id) else { return };
        self.around(id, ids);
        if let Some(step) = &p.body.session {
            // A second step of one index takes the first out.
            ids.extend(self.sessions.get(&step.id).and_then(|steps| steps.get(&step.index)).into_iter().flatten());
        }
        ids.extend(self.followers.of(id));
        ids.extend(self.next_steps.of(id));
        // Whatever came from it may have waited for it.
        let (mut open, mut seen) = (vec![*id], BTreeSet::from([*id]));
        while let Some(next) = open.pop() {
            open.extend(self.children.of(&next).filter(|child| seen.insert(**child)));
        }
        ids.append(&mut seen);
    }

    fn of_start(&self, start: &Started, ids: &mut BTreeSet<FactId>) {
        self.around(&start.proposal, ids);
        self.wanting(&start.lineage, &start.resource, &start.intent_key, ids);
        if let Some(permit) = self.permits.get(&start.permit) {
            self.around(&permit.body.proposal, ids);
        }
    }

    /// A vote counts for its proposal, and for the rate of what its person approved in the hour after it.
    fn of_vote(&self, vote: &SignedVote, ids: &mut BTreeSet<FactId>) {
        let Ok(statement) = vote.statement() else { return };
        self.around(&statement.proposal, ids);
        if statement.choice == Choice::Approve {
            let (from, to) = (statement.issued_ms, statement.issued_ms.saturating_add(HOUR_MS));
            let range = (from, Digest::from_bytes([0; 32]))..=(to, Digest::from_bytes([0xff; 32]));
            let after = self.approvals.get(&statement.person).into_iter().flat_map(|said| said.range(range.clone()));
            after.filter_map(|(_, v)| v.statement().ok()).for_each(|s| self.around(&s.proposal, ids));
        }
    }

    /// Whom somebody sits for counts where they approved.
    fn of_deputy(&self, deputy: &Deputy, ids: &mut BTreeSet<FactId>) {
        let Ok(statement) = deputy.statement() else { return };
        let named = |id: &Digest| {
            let said = self.deputies.iter().filter(|(_, said)| said.keys().any(|d| d.id() == *id));
            said.map(|(to, _)| to.as_str()).collect()
        };
        let whom: Vec<&str> = match &statement.takes_back {
            Some(taken) => named(taken),
            None => vec![&statement.to],
        };
        let votes = whom.into_iter().filter_map(|to| self.approvals.get(to)).flat_map(|said| said.values());
        votes.filter_map(|v| v.statement().ok()).for_each(|s| self.around(&s.proposal, ids));
    }
}

/// What cannot be read means nothing.
fn of<T: for<'b> Decode<'b, ()>, U>(fact: &Fact, look: impl FnOnce(T) -> U) -> Option<U> {
    fact.decode_body().ok().map(look)
}
