//! Class R3: what a coordinator writes after, and because of, what the others wrote.

use cauldron_identity::AuthorId;

use super::{Act, Desk};
use crate::bodies::{Decision, Proposal, RiskClass};
use crate::ledger::{Recorded, Status, entitled};

impl Desk<'_> {
    /// Why no majority of coordinators can ever permit an action of this class here.
    pub(super) fn lacks_seats(&self, p: &Recorded<Proposal>, class: RiskClass) -> Option<String> {
        let seats = &self.authority.charter().coordinators;
        let speaks = |author: &AuthorId| {
            let member = self.authority.member(author);
            member.is_some_and(|m| !self.authority.is_cut(author, m.incarnation))
                && entitled(self.authority, author, &p.header.scope)
        };
        let may = seats.iter().filter(|seat| speaks(&seat.author.author_id())).count();
        let (all, needed) = (seats.len(), seats.len() / 2 + 1);
        if class < RiskClass::R3 {
            None
        } else if all < 2 {
            Some("floor.r3: a mesh with one coordinator refuses class R3".to_owned())
        } else {
            let why = format!(
                "floor.r3: class R3 takes {needed} of the charter's {all} coordinators, and {may} of them may decide here"
            );
            (may < needed).then_some(why)
        }
    }

    /// Whether as many coordinators judged it on the same terms as must permit it, this one among them: a permit would run out while
    /// the others are dark.
    pub(super) fn is_judged_by_enough(&self, p: &Recorded<Proposal>, decision: &Decision) -> bool {
        if self.class(p, decision.risk) < RiskClass::R3 {
            return true;
        }
        let judging = self.ledger.judging(p, &decision.terms(), self.authority);
        judging.is_reached() && judging.agreeing.contains(self.sitting.me)
    }

    /// The permit of one more coordinator, where class R3 takes several.
    pub(super) fn permit_too(&self, p: &Recorded<Proposal>, status: &Status) -> Option<Act> {
        let permit = status.permit.and_then(|id| self.ledger.permit(&id))?;
        let decision = self.ledger.decisions_on(&p.id).find(|d| d.id == permit.body.decision)?;
        if permit.body.break_glass.is_some() || self.class(p, decision.body.risk) < RiskClass::R3 {
            return None;
        }
        let majority = self.ledger.permitting(p, &permit.body, self.authority);
        if majority.is_reached() || majority.agreeing.contains(self.sitting.me) {
            return None;
        }
        self.permit(p, status)
    }
}
