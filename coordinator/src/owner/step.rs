//! Steps of sagas, as their owners judge them.

use super::Bench;
use super::verdict::{Code, Judged, refuse, void};
use crate::bodies::Proposal;
use crate::ledger::Recorded;
use crate::planted;

impl Bench<'_> {
    /// A coordinator that permits a step out of turn, or a step of half a saga, does not get it done.
    pub(super) fn check_step(&self, p: &Recorded<Proposal>) -> Judged<()> {
        if let Some(abort) = self.ledger.aborted(&p.body.lineage(p.id), self.authority) {
            return void(Code::Saga, &format!("this step was given up: {}", abort.body.reason));
        }
        match self.ledger.awaits_step(p, self.authority) {
            Some(why) if !planted::active("step-unchecked") => refuse(Code::Saga, &why),
            _ => Ok(()),
        }
    }
}
