//! Whether enough of the charter's coordinators stand behind an action of class R3.
//!
//! No coordinator permits what the others have not judged on the same terms: a permit runs out within minutes, and a coordinator may
//! be dark for longer. So the action stays approved until enough have judged it, and then each of them permits it.

use std::collections::BTreeSet;

use cauldron_identity::authority::{Authority, Standing};
use cauldron_identity::{AuthorId, Digest};

use super::{Ledger, Recorded, State, Status, entitled};
use crate::bodies::{Permit, Proposal, RiskClass};
use crate::json::rfc3339;

/// Who of the charter's coordinators said something about an action, and who did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Majority {
    /// How many must: more than half of the seats.
    pub needed: usize,
    /// How many seats the charter has.
    pub seats: usize,
    /// Who did.
    pub agreeing: BTreeSet<AuthorId>,
    /// SPIFFE IDs of those who may and did not.
    pub absent: Vec<String>,
}

impl Majority {
    fn of(p: &Recorded<Proposal>, agreeing: BTreeSet<AuthorId>, authority: &Authority) -> Self {
        let seats = &authority.charter().coordinators;
        let author = |seat: &cauldron_identity::charter::Seat| seat.author.author_id();
        let may = |author: &AuthorId| entitled(authority, author, &p.header.scope);
        let absent = seats.iter().filter(|seat| may(&author(seat)) && !agreeing.contains(&author(seat)));
        Self {
            needed: seats.len() / 2 + 1,
            seats: seats.len(),
            absent: absent.map(|seat| seat.spiffe_id.clone()).collect(),
            agreeing: seats.iter().map(author).filter(|author| agreeing.contains(author)).collect(),
        }
    }

    /// Whether they are enough.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.agreeing.len() >= self.needed
    }

    /// Whose word is missing.
    #[must_use]
    pub fn waits_for(&self) -> String {
        let (lacking, absent) = (self.needed.saturating_sub(self.agreeing.len()), self.absent.join(", "));
        match self.absent.len() {
            n if n > lacking => format!("{lacking} of these {n}: {absent}"),
            _ => absent,
        }
    }
}

impl Ledger {
    /// Coordinators of the charter that permit a proposal on the terms of `permit`.
    pub(crate) fn permitting(&self, p: &Recorded<Proposal>, permit: &Permit, authority: &Authority) -> Majority {
        let agreeing = self.permits_on(&p.id).filter(|other| {
            self.permit_entitled(p, other, authority)
                && authority.standing(&other.header, other.id) == Standing::Counts
                && other.body.terms == permit.terms
                && other.body.args_digest == permit.args_digest
        });
        Majority::of(p, agreeing.map(|other| other.header.author).collect(), authority)
    }

    /// Coordinators of the charter that judged a proposal on these terms.
    pub(crate) fn judging(&self, p: &Recorded<Proposal>, terms: &Digest, authority: &Authority) -> Majority {
        let agreeing = self
            .decisions_on(&p.id)
            .filter(|d| self.decision_grants(p, d, authority) && d.body.terms() == *terms)
            .map(|d| d.header.author);
        Majority::of(p, agreeing.collect(), authority)
    }

    /// Whose word an open proposal of class R3 lacks, beside that of people; none where that does not hold it up. What only its schema
    /// puts into R3, and neither policy nor proposer, the owner alone tells.
    #[must_use]
    pub fn awaits_coordinators(&self, status: &Status, authority: &Authority) -> Option<Majority> {
        let p = self.proposal(&status.id)?;
        let decision = self.decisions_on(&p.id).find(|d| Some(d.id) == status.decision)?;
        if p.body.risk.max(decision.body.risk) < RiskClass::R3 {
            return None;
        }
        let permit = status.permit.and_then(|id| self.permit(&id));
        let majority = match (status.state, permit) {
            (State::Permitted, Some(permit)) if permit.body.break_glass.is_none() => {
                self.permitting(p, &permit.body, authority)
            }
            (State::PendingApproval | State::VetoWindow | State::Approved, _) => {
                self.judging(p, &decision.body.terms(), authority)
            }
            _ => return None,
        };
        Some(majority).filter(|majority| !majority.is_reached())
    }

    /// What an approved or permitted proposal waits for, where it is the word of coordinators.
    pub(super) fn says_coordinators(&self, status: &Status, authority: &Authority) -> Option<String> {
        let lacks = self.awaits_coordinators(status, authority)?;
        let (needed, seats, have, whom) = (lacks.needed, lacks.seats, lacks.agreeing.len(), lacks.waits_for());
        let permit = status.permit.and_then(|id| self.permit(&id));
        let (did, to, by_ms) = match permit {
            Some(permit) => ("given it", "to permit it", permit.body.execute_by_ms),
            None => ("judged it on these terms", "to judge it", status.deadline_ms),
        };
        let by = rfc3339(by_ms);
        Some(format!(
            "class R3 takes permits of {needed} of the charter's {seats} coordinators, and {have} of them has {did}; waits for {whom} {to} by {by}"
        ))
    }
}
