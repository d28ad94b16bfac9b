//! An owner's own decision and permit, where somebody broke the glass.

use cauldron_identity::{Clock, FactId};

use super::{Act, Desk, Limits, Sitting};
use crate::bodies::{BrokenGlass, Decision, Outcome, Permit, Proposal};
use crate::ledger::{PERMIT_MS_MAX, Recorded, State};
use crate::owner::{Bench, used_already};

/// What an owner writes for one use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glass {
    /// This next, its decision or its permit.
    Write(Box<Act>),
    /// It is permitted.
    Permitted(FactId),
    /// It cannot be, and why.
    Refused(String),
}

/// What the owner should write for a use of a token that is here.
#[must_use]
pub fn break_glass(used: &Recorded<BrokenGlass>, bench: &Bench<'_>, limits: &Limits) -> Glass {
    let ledger = bench.ledger;
    let written = |p: &&Recorded<Permit>| p.header.author == bench.me.author && p.body.break_glass == Some(used.id);
    if let Some(permit) = ledger.permits_on(&used.body.proposal).find(written) {
        return Glass::Permitted(permit.id);
    }
    let first = ledger.bound_by(&used.body.digest(), &bench.me.author);
    if let Some(first) = first.filter(|_| !crate::planted::active("break-glass-twice")) {
        return Glass::Refused(used_already(first));
    }
    match examine(used, bench, limits) {
        Ok(act) => Glass::Write(Box::new(act)),
        Err(why) => Glass::Refused(why),
    }
}

/// The same for a use that is not written yet: whoever holds the token should not spend it on what would be refused.
///
/// # Errors
/// A sentence.
pub fn would_break(used: &Recorded<BrokenGlass>, bench: &Bench<'_>, limits: &Limits) -> Result<(), String> {
    if let Some(first) = bench.ledger.bound_by(&used.body.digest(), &bench.me.author) {
        return Err(used_already(first));
    }
    examine(used, bench, limits).map(|_| ())
}

fn examine(used: &Recorded<BrokenGlass>, bench: &Bench<'_>, limits: &Limits) -> Result<Act, String> {
    let (ledger, authority) = (bench.ledger, bench.authority);
    let p = ledger.proposal(&used.body.proposal).ok_or("its proposal has not arrived here")?;
    ledger.proposal_counts(p, authority)?;
    bench.token_good(used, p)?;
    if let Some(why) = ledger.used_by(p, authority, None) {
        return Err(why);
    }
    let status = ledger.status(&p.id, authority, bench.clock.wall_ms).ok_or("its proposal has not arrived here")?;
    if matches!(status.state, State::Denied | State::Expired | State::Void | State::Superseded) {
        return Err(format!("broken glass skips approvals alone: {}", status.why.join("; ")));
    }
    let desk = desk(bench, limits).ok_or("the active policy's bundle could not be loaded here")?;
    let current = desk.engine.class_version(&p.body.action_class);
    let own = ledger.decisions_on(&p.id).find(|d| {
        d.header.author == bench.me.author
            && d.header.incarnation == bench.me.incarnation
            && d.body.policy.class_version == current
            && matches!(d.body.outcome, Outcome::Allow | Outcome::StepUp)
    });
    let (act, decision) = match own {
        Some(decision) => (permit(&desk, p, decision, used, bench.clock), decision.body.clone()),
        None => match desk.evaluated(p, None) {
            Some((Act::Decide { scope, mut deps, body, input }, _)) => {
                deps.push(used.id);
                let decision = (*body).clone();
                (Some(Act::Decide { scope, deps, body, input }), decision)
            }
            _ => return Err("this node is not enrolled here yet".into()),
        },
    };
    match decision.outcome {
        Outcome::Allow | Outcome::StepUp => act.ok_or_else(|| "the resource belongs to no node".into()),
        Outcome::Deny => {
            Err(format!("broken glass skips approvals alone, and policy denies it: {}", decision.rules.join("; ")))
        }
        Outcome::Defer => {
            Err(format!("broken glass skips approvals alone, and policy defers it: {}", decision.rules.join("; ")))
        }
        Outcome::Modify => Err(format!("policy asks for other arguments: {}", decision.rules.join("; "))),
    }
}

fn desk<'a>(bench: &'a Bench<'_>, limits: &'a Limits) -> Option<Desk<'a>> {
    let (policy, engine) = bench.authority.policy().zip(bench.engine)?;
    let desk = Desk {
        ledger: bench.ledger,
        authority: bench.authority,
        engine,
        policy,
        clock: bench.clock,
        sitting: Sitting { me: &bench.me.author, lease: bench.lease, budgets: bench.budgets },
        limits,
    };
    (desk.policy.activate.digest == engine.digest()).then_some(desk)
}

fn permit(
    desk: &Desk<'_>,
    p: &Recorded<Proposal>,
    decision: &Recorded<Decision>,
    used: &Recorded<BrokenGlass>,
    clock: &Clock,
) -> Option<Act> {
    let Act::Permit { scope, mut deps, body } = desk.permit_with(p, decision, Vec::new(), None)? else { return None };
    deps.push(used.id);
    let execute_by_ms = body.execute_by_ms.min(clock.wall_ms.saturating_add(PERMIT_MS_MAX));
    let body = Permit { break_glass: Some(used.id), execute_by_ms, ..*body };
    Some(Act::Permit { scope, deps, body: Box::new(body) })
}

impl Bench<'_> {
    /// Whether a token is good for a proposal at this owner.
    ///
    /// # Errors
    /// A sentence.
    fn token_good(&self, used: &Recorded<BrokenGlass>, p: &Recorded<Proposal>) -> Result<(), String> {
        let owner = self.ledger.owner_of(&p.body.resource, self.authority);
        if owner.is_none_or(|o| o.author != self.me.author) {
            return Err("the resource belongs to another node".into());
        }
        self.is_token_good(used, p)
    }
}
