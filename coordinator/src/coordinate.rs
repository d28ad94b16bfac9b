//! A coordinator's next writings: one decision per proposal and policy version, one permit once people agree.
//!
//! [`step`] is a function of what the coordinator holds. Stepping again after its facts were inserted yields nothing.

mod glass;
mod several;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::{ActivePolicy, Authority};
use cauldron_identity::{AuthorId, Clock, Confidence, Digest, FactId, Role, Scope};

pub use glass::{Glass, break_glass, would_break};

use crate::action::{Action, Catalogue};
use crate::alone::{acts, grant_for, meets};
use crate::bodies::{
    Decision, Evaluation, Obligations, Outcome, Permit, PolicyRef, Proposal, Resolution, RiskClass, WindowClosed,
    undo_digest,
};
use crate::budget::BudgetSeen;
use crate::input::{Input, Observer, build, reported};
use crate::json::canonical;
use crate::lease::LeaseAge;
use crate::ledger::{
    Ballot, Docket, Held, Ledger, PERMIT_MS_MAX, Recorded, State, Status, entitled, may_decide, modified,
};
use crate::policy::Engine;

/// How much a coordinator takes on (guarantees §4). What is above waits, undecided, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open proposals per agent.
    pub open_per_agent: usize,
    /// Open proposals per site, so that one site cannot crowd out another.
    pub open_per_site: usize,
    /// Open proposals in all: above it, every site's oldest comes before any site's second.
    pub open_total: usize,
    /// How long a permit may be used, milliseconds; at most [`PERMIT_MS_MAX`].
    pub permit_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open_per_agent: 20, open_per_site: 500, open_total: 10_000, permit_ms: PERMIT_MS_MAX }
    }
}

/// Something to seal and write into `scope`, resting on `deps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Write a decision.
    Decide {
        /// Where.
        scope: Scope,
        /// What it rests on.
        deps: Vec<FactId>,
        /// The body.
        body: Box<Decision>,
        /// The document that was judged: to be kept by its digest, so that the decision can be judged again.
        input: Input,
    },
    /// Write the proposal that policy made of another one.
    Modify {
        /// Where.
        scope: Scope,
        /// What it rests on.
        deps: Vec<FactId>,
        /// The body.
        body: Box<Proposal>,
    },
    /// Write that the time to object is over.
    Close {
        /// Where.
        scope: Scope,
        /// What it rests on.
        deps: Vec<FactId>,
        /// The body.
        body: WindowClosed,
    },
    /// Write a permit.
    Permit {
        /// Where.
        scope: Scope,
        /// What it rests on.
        deps: Vec<FactId>,
        /// The body.
        body: Box<Permit>,
    },
}

/// Who coordinates, and what it goes by.
#[derive(Debug, Clone, Copy)]
pub struct Sitting<'a> {
    /// The coordinator.
    pub me: &'a AuthorId,
    /// How old its lease is.
    pub lease: LeaseAge,
    /// What its books say about budgets.
    pub budgets: &'a [BudgetSeen],
}

/// What a coordinator should write now. Nothing without an active policy whose bundle is the engine's: proposals
/// then wait, and their owners would deny them anyway. Whom a site's isolation grant names writes for that site while its own
/// `lease` is too old for the class, and the grant goes on; coordinators need none.
#[must_use]
pub fn step(
    ledger: &Ledger,
    authority: &Authority,
    engine: Option<&Engine>,
    clock: &Clock,
    sitting: &Sitting<'_>,
    limits: &Limits,
) -> Vec<Act> {
    let role = authority.member(sitting.me).map(|m| &m.role);
    if matches!(role, Some(Role::Coordinator { .. } | Role::SiteCoordinator { .. })) {
        let mut docket = Docket::new(*limits);
        docket.refresh(ledger, authority, clock.wall_ms);
        return step_on(&mut docket, ledger, authority, engine, clock, sitting, limits).acts;
    }
    let Some((policy, engine)) = authority.policy().zip(engine) else { return Vec::new() };
    if policy.activate.digest != engine.digest() {
        return Vec::new();
    }
    let desk = Desk { ledger, authority, engine, policy, clock, sitting: *sitting, limits };
    desk.admitted().into_iter().filter_map(|(p, status)| desk.act(p, &status).0).collect()
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct Step {
    /// To be written, the oldest proposal first.
    pub acts: Vec<Act>,
    /// Proposals that are open above the limits and were not told of before.
    pub held: Vec<(FactId, Held)>,
}

/// The same of what changed on a docket since the last step on it: stepping again yields nothing, also while nothing is written, but
/// for what was deferred. The docket must be refreshed.
#[must_use]
pub fn step_on(
    docket: &mut Docket,
    ledger: &Ledger,
    authority: &Authority,
    engine: Option<&Engine>,
    clock: &Clock,
    sitting: &Sitting<'_>,
    limits: &Limits,
) -> Step {
    let Some((policy, engine)) = authority.policy().zip(engine) else { return Step::default() };
    if policy.activate.digest != engine.digest() {
        return Step::default();
    }
    let desk = Desk { ledger, authority, engine, policy, clock, sitting: *sitting, limits };
    let (due, held) = docket.take_due(ledger);
    let mut acts = Vec::new();
    for p in due.into_iter().filter(|p| entitled(authority, sitting.me, &p.header.scope)) {
        let Some(status) = docket.kept(&p.id) else { continue };
        let (act, deferred) = desk.act(p, status);
        docket.defer(p.id, deferred);
        acts.extend(act);
    }
    Step { acts, held }
}

/// One step's view.
struct Desk<'a> {
    ledger: &'a Ledger,
    authority: &'a Authority,
    engine: &'a Engine,
    policy: ActivePolicy,
    clock: &'a Clock,
    sitting: Sitting<'a>,
    limits: &'a Limits,
}

impl<'a> Desk<'a> {
    /// Open proposals of the site for which this author acts, oldest first, cut at the limits. Nobody acts with a lease that is fresh
    /// for every class.
    fn admitted(&self) -> Vec<(&'a Recorded<Proposal>, Status)> {
        if self.sitting.lease.covers(RiskClass::R3, &self.authority.charter().class_ages) {
            return Vec::new();
        }
        let mine = self.ledger.proposals().filter(|p| {
            may_decide(self.authority, self.sitting.me, &p.header.scope)
                && self.ledger.proposal_counts(p, self.authority).is_ok()
        });
        let now_ms = self.clock.wall_ms;
        let status =
            |p: &'a Recorded<Proposal>| Some((p, self.ledger.status_under(&p.id, self.authority, now_ms, true)?));
        let mut open: Vec<_> = mine.filter_map(status).filter(|(_, s)| s.state.is_open()).collect();
        open.sort_by_key(|(p, _)| (p.body.created_ms, p.id));
        let mut agents: BTreeMap<&str, usize> = BTreeMap::new();
        open.retain(|(p, _)| {
            let of_agent = agents.entry(&p.body.agent).or_default();
            *of_agent += 1;
            *of_agent <= self.limits.open_per_agent
        });
        open.truncate(self.limits.open_per_site);
        open
    }

    /// Whether this author decides here whatever its lease.
    fn by_role(&self, p: &Recorded<Proposal>) -> bool {
        entitled(self.authority, self.sitting.me, &p.header.scope)
    }

    /// Whether whoever writes about a proposal of `class` may: by role always, by the site's grant past the lease.
    fn sits(&self, p: &Recorded<Proposal>, class: RiskClass) -> bool {
        let site = p.header.scope.site_name().unwrap_or_default();
        self.by_role(p)
            || (!self.sitting.lease.covers(class, &self.authority.charter().class_ages)
                && acts(self.authority, self.sitting.me, site)
                && grant_for(self.authority, site, class, self.sitting.lease).is_ok())
    }

    /// The class that counts for a decision.
    fn class(&self, p: &Recorded<Proposal>, judged: RiskClass) -> RiskClass {
        let action = Action::of_proposal(self.engine.catalogue(), &p.body);
        action.map_or(judged, |action| action.risk().max(judged)).max(p.body.risk)
    }

    /// The next writing about a proposal, and whether it is deferred, to be judged again.
    fn act(&self, p: &'a Recorded<Proposal>, status: &Status) -> (Option<Act>, bool) {
        let class_version = self.engine.class_version(&p.body.action_class);
        // One that an earlier life wrote beyond its cut counts for nobody.
        let own = self.ledger.decisions_on(&p.id).filter(|d| {
            d.header.author == *self.sitting.me
                && d.body.policy.class_version == class_version
                && self.ledger.decision_grants(p, d, self.authority)
        });
        let own: Vec<&Recorded<Decision>> = own.collect();
        if own.iter().all(|d| d.body.outcome == Outcome::Defer) {
            // A deferral is judged again until it comes to something else.
            let again = |act: &Act| matches!(act, Act::Decide { body, .. } if body.outcome == Outcome::Defer);
            let act = self.decide(p, own.first().copied()).filter(|act| own.is_empty() || !again(act));
            return (act, !own.is_empty());
        }
        if !own.iter().any(|d| self.sits(p, self.class(p, d.body.risk))) {
            return (None, false);
        }
        let act = match status.state {
            State::Approved => self.permit(p, status),
            State::Permitted => self.permit_too(p, status),
            State::Evaluated => own.iter().find_map(|d| self.modify(p, d)),
            State::VetoWindow if self.by_role(p) => own.iter().find_map(|d| self.close(p, d)),
            _ => None,
        };
        (act, false)
    }

    /// Policy asked for other arguments: the child that has them. What policy said is written either way, so a child that cannot be
    /// made leaves its parent where it is, until it lapses.
    fn modify(&self, p: &Recorded<Proposal>, d: &Recorded<Decision>) -> Option<Act> {
        if d.body.outcome != Outcome::Modify {
            return None;
        }
        let mut body = modified(p, &d.body)?;
        (body.created_ms, body.expires_ms) = (self.clock.wall_ms, p.body.expires_ms);
        if body.expires_ms <= body.created_ms {
            return None;
        }
        Some(Act::Modify { scope: p.header.scope.clone(), deps: vec![p.id, d.id], body: Box::new(body) })
    }

    /// Nobody objected while they could.
    fn close(&self, p: &Recorded<Proposal>, d: &Recorded<Decision>) -> Option<Act> {
        let (until_ms, _) = self.ledger.awaits_silence(p, d, self.authority)?;
        if self.clock.confidence == Confidence::Unknown || self.clock.wall_ms < until_ms {
            return None;
        }
        let body = WindowClosed {
            proposal: p.id,
            decision: d.id,
            authority_head: self.authority.head(),
            votes: self
                .ledger
                .votes_on(&p.id)
                .map(crate::vote::SignedVote::id)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            closed_ms: self.clock.wall_ms,
        };
        Some(Act::Close { scope: p.header.scope.clone(), deps: vec![p.id, d.id], body })
    }

    fn decide(&self, p: &Recorded<Proposal>, deferred: Option<&Recorded<Decision>>) -> Option<Act> {
        let (act, class) = self.evaluated(p, deferred)?;
        self.sits(p, class).then_some(act)
    }

    /// The decision, and the class it is of.
    fn evaluated(&self, p: &Recorded<Proposal>, deferred: Option<&Recorded<Decision>>) -> Option<(Act, RiskClass)> {
        let member = self.authority.member(self.sitting.me)?;
        let lease = if self.by_role(p) { LeaseAge::Ms(0) } else { self.sitting.lease };
        let budgets = self.sitting.budgets;
        let observer = Observer { spiffe_id: &member.spiffe_id, lease, resource_version: None, budgets };
        let input = build(self.ledger, self.authority, self.clock, &observer, &p.id)?;
        let evaluation = match Action::of_proposal(self.engine.catalogue(), &p.body) {
            Ok(action) => self.floor(&action, p, self.engine.evaluate(&input)),
            Err(e) => refuse(&self.engine.evaluate(&input), format!("schema: {}", flatten(&e))),
        };
        let class = self.class(p, evaluation.risk);
        let resolves = deferred.map(|d| Resolution {
            deferred: d.id,
            reason: d.body.rules.clone(),
            deferred_ms: d.body.decided_ms,
        });
        let reported = reported(self.ledger, self.authority, p, self.clock.wall_ms);
        let body = Decision {
            proposal: p.id,
            outcome: evaluation.outcome,
            obligations: evaluation.obligations,
            rules: evaluation.rules,
            policy: self.policy_ref(&p.body.action_class),
            input_digest: evaluation.input_digest,
            authority_head: self.authority.head(),
            risk: evaluation.risk,
            decided_ms: self.clock.wall_ms,
            requester: self.ledger.requester(p),
            session_head: p.body.session.as_ref().and_then(|s| s.prev),
            resolves: resolves.map(Box::new),
            modify: evaluation.modify,
            reported: canonical(&reported).ok(),
        };
        Some((Act::Decide { scope: p.header.scope.clone(), deps: vec![p.id], body: Box::new(body), input }, class))
    }

    /// What no policy can waive: the owner would refuse it anyway, so people should not be asked.
    fn floor(&self, action: &Action, p: &Recorded<Proposal>, evaluation: Evaluation) -> Evaluation {
        let class = action.risk().max(p.body.risk).max(evaluation.risk);
        if let Some(why) = self.lacks_seats(p, class) {
            return refuse(&evaluation, why);
        }
        let seats = evaluation.obligations.seats_min();
        if evaluation.outcome == Outcome::Modify {
            return evaluation;
        }
        let held = crate::autonomy::held(self.ledger, self.authority, p, self.clock);
        let needed = match crate::autonomy::votes_floor(class, held.as_ref(), &evaluation.obligations) {
            Ok(needed) => needed,
            Err(why) => return refuse(&evaluation, format!("floor.autonomy: {why}")),
        };
        if seats < needed && evaluation.outcome != Outcome::Deny {
            return refuse(
                &evaluation,
                format!("floor.votes: class {class:?} needs {needed} people, policy asks {seats}"),
            );
        }
        evaluation
    }

    fn permit(&self, p: &Recorded<Proposal>, status: &Status) -> Option<Act> {
        // A wall clock that nobody vouches for would make permits that are void, or live too long.
        if self.clock.confidence == Confidence::Unknown || self.ledger.used_by(p, self.authority, None).is_some() {
            return None;
        }
        // A step of a saga waits for its turn.
        if self.ledger.awaits_step(p, self.authority).is_some() {
            return None;
        }
        let decision = self.ledger.decisions_on(&p.id).find(|d| Some(d.id) == status.decision)?;
        let ballot = Ballot::new(self.ledger, self.authority, p, &decision.body);
        if !self.is_judged_by_enough(p, &decision.body) {
            return None;
        }
        // The owner would refuse it: people go on until the grant is met.
        if self.lacks(p, &decision.body, &ballot).is_some() {
            return None;
        }
        let votes = ballot.approving(self.clock.wall_ms).into_iter().collect();
        let obligations = &decision.body.obligations;
        let silence = obligations.veto.as_ref().and_then(|v| self.ledger.silence(p, decision, v, self.authority));
        self.permit_with(p, decision, votes, silence.map(|w| w.id))
    }

    /// What the site's grant asks for beside what policy does, and is not there yet.
    fn lacks(&self, p: &Recorded<Proposal>, decision: &Decision, ballot: &Ballot<'_>) -> Option<String> {
        if self.by_role(p) {
            return None;
        }
        let (site, class) = (p.header.scope.site_name()?, self.class(p, decision.risk));
        let voters = ballot.voters(self.clock.wall_ms, None).into_keys().collect();
        let met = grant_for(self.authority, site, class, self.sitting.lease)
            .and_then(|grant| meets(grant, class, &decision.obligations.reserve, &voters, self.authority));
        met.err()
    }

    fn permit_with(
        &self,
        p: &Recorded<Proposal>,
        decision: &Recorded<Decision>,
        votes: Vec<Digest>,
        window: Option<FactId>,
    ) -> Option<Act> {
        let owner = self.ledger.owner_of(&p.body.resource, self.authority)?;
        let now_ms = self.clock.wall_ms;
        let execute_by_ms = now_ms.saturating_add(self.limits.permit_ms.min(PERMIT_MS_MAX));
        let body = Permit {
            votes,
            issued_ms: now_ms,
            execute_by_ms: execute_by_ms.min(decision.body.obligations.decide_by_ms).min(p.body.expires_ms),
            authority_head: self.authority.head(),
            window,
            ..permit_for(
                (p.id, &p.body),
                (decision.id, &decision.body),
                (owner.author, owner.incarnation),
                self.engine.catalogue(),
            )
        };
        let deps = [Some(p.id), Some(decision.id), body.window].into_iter().flatten().collect();
        Some(Act::Permit { scope: p.header.scope.clone(), deps, body: Box::new(body) })
    }

    fn policy_ref(&self, class: &str) -> PolicyRef {
        let class_version = self.engine.class_version(class);
        PolicyRef { entry: self.policy.entry, digest: self.policy.activate.digest, class_version }
    }
}

/// What a permit says that follows from proposal and decision. Votes, times and the word on silence are its coordinator's to add.
#[must_use]
pub fn permit_for(
    (proposal, p): (FactId, &Proposal),
    (decision, d): (FactId, &Decision),
    (owner, incarnation): (AuthorId, u32),
    catalogue: &Catalogue,
) -> Permit {
    let undo = Action::of_proposal(catalogue, p).ok().and_then(|action| action.undo(catalogue).ok().flatten());
    Permit {
        proposal,
        lineage: p.lineage(proposal),
        decision,
        votes: vec![],
        owner,
        incarnation,
        resource: p.resource.clone(),
        expected_version: p.expected_version.clone(),
        args_digest: p.args_digest,
        max_uses: 1,
        issued_ms: 0,
        execute_by_ms: 0,
        authority_head: None,
        policy: d.policy.clone(),
        terms: d.terms(),
        window: None,
        budgets: d.obligations.reserve.clone(),
        sandbox: d.obligations.sandbox.clone(),
        post_checks: d.obligations.post_checks.clone(),
        undo: undo.map(|action| undo_digest(&action.action_class(), action.bytes())),
        break_glass: None,
    }
}

/// How many distinct people code asks for, whatever policy says (governance §3).
#[must_use]
pub fn votes_min(class: RiskClass) -> u32 {
    match class {
        RiskClass::R0 | RiskClass::R1 => 0,
        RiskClass::R2 => 1,
        RiskClass::R3 => 2,
    }
}

fn refuse(evaluation: &Evaluation, why: String) -> Evaluation {
    let obligations = Obligations::none(evaluation.obligations.decide_by_ms);
    Evaluation { outcome: Outcome::Deny, obligations, rules: vec![why], modify: None, ..evaluation.clone() }
}

/// An error with its sources in one line.
pub(crate) fn flatten(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
