//! The last judge. An owner believes nobody: before an effect it evaluates its own newest policy on input it built
//! itself, checks every signature, and only then makes the one thing that a connector accepts.

mod alone;
mod hands;
mod permit;
mod step;
mod undo;
mod verdict;

#[cfg(test)]
mod tests;

use cauldron_identity::authority::{Authority, Standing};
use cauldron_identity::{AuthorId, Clock, Confidence, FactId, SpiffeId};

pub(crate) use alone::used_already;
pub use hands::{Declared, Hands, NO_HANDS};
pub use permit::VerifiedPermit;
pub use undo::{VerifiedUndo, take_back};
pub use verdict::{Code, Verdict};

use crate::action::{Action, Catalogue};
use crate::bodies::{Decision, Evaluation, Obligations, Outcome, Permit, Proposal, RiskClass};
use crate::budget::BudgetSeen;
use crate::coordinate::flatten;
use crate::input::{Observer, build};
use crate::json::{from_canonical, rfc3339};
use crate::lease::LeaseAge;
use crate::ledger::{Ballot, Denial, DenialKind, Ledger, PERMIT_MS_MAX, Recorded, State};
use crate::planted;
use crate::policy::Engine;
use crate::signed::with_reason;
use alone::Way;
use verdict::{Judged, Stop, refuse, void, wait};

/// Who judges.
#[derive(Debug, Clone, Copy)]
pub struct Me<'a> {
    /// This node's author.
    pub author: AuthorId,
    /// Its present life.
    pub incarnation: u32,
    /// Its SPIFFE ID.
    pub spiffe_id: &'a SpiffeId,
    /// The resource's version now, where its connector has versions.
    pub resource_version: Option<&'a str>,
    /// Its connectors.
    pub hands: &'a Hands,
}

/// What a connector's probe saw, asked by idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// There is no such effect.
    Absent,
    /// The effect is there.
    Applied,
    /// The target could not be asked.
    Unreachable,
}

/// Everything a judgement reads.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// The facts.
    pub ledger: &'a Ledger,
    /// The authority chain.
    pub authority: &'a Authority,
    /// The compiled bundle, where one could be loaded.
    pub engine: Option<&'a Engine>,
    /// The time.
    pub clock: &'a Clock,
    /// How old this node's lease is.
    pub lease: LeaseAge,
    /// What this node's books say of every budget.
    pub budgets: &'a [BudgetSeen],
    /// Who judges.
    pub me: Me<'a>,
}

/// Judges a permit. Only a permit that this node has not started yet can come out as [`Verdict::Execute`].
#[must_use]
pub fn judge(permit: &FactId, bench: &Bench<'_>) -> Verdict {
    bench.judge(permit, None).into()
}

/// Judges again a start of this same life that has no outcome, e.g. after a crash between start and effect. It goes on,
/// with the same idempotency key, only while its permit is valid and the connector's probe found no effect.
#[must_use]
pub fn resume(started: &FactId, bench: &Bench<'_>, probe: Probe) -> Verdict {
    bench.resume(started, probe).into()
}

impl<'a> Bench<'a> {
    fn resume(&self, started: &FactId, probe: Probe) -> Judged<VerifiedPermit> {
        let start = self.ledger.start(started).ok_or_else(|| wait("the start is not in the ledger yet"))?;
        if (start.header.author, start.header.incarnation) != (self.me.author, self.me.incarnation) {
            return refuse(Code::OtherIncarnation, "another life of this node, or another node, started it");
        }
        if self.ledger.reports_on(started).next().is_some() {
            return refuse(Code::Used, "its outcome is written");
        }
        match probe {
            Probe::Absent => self.judge(&start.body.permit, Some(started)),
            Probe::Applied => refuse(Code::Used, "the probe found the effect"),
            Probe::Unreachable => Err(wait("the target could not be asked whether the effect happened")),
        }
    }

    fn judge(&self, id: &FactId, resuming: Option<&FactId>) -> Judged<VerifiedPermit> {
        let permit = self.ledger.permit(id).ok_or_else(|| wait("the permit is not in the ledger yet"))?;
        let p = self.ledger.proposal(&permit.body.proposal);
        let p = p.ok_or_else(|| self.missing(&permit.body, "its proposal has not arrived here"))?;
        self.check_bound_to_me(permit, p)?;
        match &permit.body.break_glass {
            Some(used) => self.check_glass(permit, p, used)?,
            None => self.check_signer(permit, p)?,
        }
        let action = self.check_content(permit, p)?;
        let anew = resuming.is_none() || !planted::active("resume-unjudged");
        if anew {
            self.check_denials(permit, p)?;
        }
        self.check_step(p)?;
        self.check_unused(&permit.id, p, resuming)?;
        self.check_times(&permit.body, p)?;
        if planted::active("owner-trusts-coordinator") {
            return Ok(VerifiedPermit::new(permit, p, action, RiskClass::R0, permit.body.terms));
        }
        let decision = self.check_decision(permit, p)?;
        let (evaluation, class) = self.check_policy(permit, p, &decision.body, &action)?;
        let way = self.check_lease(permit, p, class)?;
        if anew {
            self.check_lifted(way, p)?;
        }
        let obligations = evaluation.obligations.both(&decision.body.obligations);
        self.check_carried(&permit.body, &obligations, &action)?;
        match way {
            // People were asked for, and nobody can be: that alone is skipped.
            Way::Glass => self.check_seats(class).and_then(|()| self.check_decided_in_time(p, &obligations))?,
            Way::Grant(grant) => {
                let ballot =
                    Ballot { obligations: &obligations, ..Ballot::new(self.ledger, self.authority, p, &decision.body) };
                self.check_votes(permit, p, &decision.body, &obligations, class)?;
                self.check_grant(grant, class, &obligations, &permit.body, &ballot, self.now_ms(p))?;
            }
            Way::Lease => {
                self.check_majority(permit, p, class)?;
                self.check_silence(permit, p, decision, &obligations)?;
                self.check_votes(permit, p, &decision.body, &obligations, class)?;
            }
        }
        let named = &decision.body.obligations.notify;
        let more = obligations.notify.iter().filter(|group| !named.contains(group)).cloned().collect();
        Ok(VerifiedPermit::new(permit, p, action, class, evaluation.input_digest).telling(more))
    }

    fn check_bound_to_me(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> Judged<()> {
        let body = &permit.body;
        if body.owner != self.me.author {
            return refuse(Code::NotOwner, "it names another owner");
        }
        if body.incarnation != self.me.incarnation {
            return void(Code::OtherIncarnation, "it names another life of this node");
        }
        let owner = self.ledger.owner_of(&p.body.resource, self.authority);
        if let Some(why) = self.ledger.moved_since(body, self.authority) {
            return void(Code::NotOwner, why);
        }
        if owner.is_none_or(|o| o.author != self.me.author || o.spiffe_id != *self.me.spiffe_id) {
            return refuse(Code::NotOwner, "the resource belongs to another node");
        }
        Ok(())
    }

    fn check_signer(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> Judged<()> {
        if !self.may_permit(permit, p) {
            return refuse(Code::Signer, "its signer may not permit in this scope");
        }
        match self.authority.standing(&permit.header, permit.id) {
            Standing::Counts => Ok(()),
            Standing::Pending => Err(self.missing(&permit.body, "its signer's enrolment is not in effect here yet")),
            _ => refuse(Code::Signer, "its signer is cut or suspended"),
        }
    }

    fn check_content(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> Judged<Action> {
        let (body, proposal) = (&permit.body, &p.body);
        self.ledger.proposal_counts(p, self.authority).or_else(|why| refuse(Code::Proposer, &why))?;
        let catalogue = self.engine.map_or(Catalogue::built_in(), Engine::catalogue);
        let action = Action::of_proposal(catalogue, proposal).or_else(|e| refuse(Code::Schema, &flatten(&e)))?;
        if body.args_digest != proposal.args_digest {
            return refuse(Code::Mismatch, "it permits other arguments than were proposed");
        }
        if body.resource != proposal.resource || body.lineage != proposal.lineage(p.id) {
            return refuse(Code::Mismatch, "it names another resource or lineage than the proposal");
        }
        if body.max_uses != 1 {
            return refuse(Code::Mismatch, "it is not for a single use");
        }
        let version = self.me.resource_version;
        if body.expected_version != proposal.expected_version || body.expected_version.as_deref() != version {
            let found = version.unwrap_or("none");
            return void(Code::Version, &format!("the resource is at version {found}, it was reasoned on another"));
        }
        Ok(action)
    }

    /// What the site's own people lifted is set aside until the class tells whether this node is isolated for it.
    fn check_denials(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> Judged<()> {
        match permit.body.break_glass {
            Some(_) if planted::active("break-glass-skips-deny") => Ok(()),
            Some(_) => self.stops(&self.ledger.denials(p, self.authority)),
            None => self.stops(&self.ledger.denials_alone(p, self.authority)),
        }
    }

    fn stops(&self, denials: &[Denial]) -> Judged<()> {
        let Some(denial) = denials.iter().min_by_key(|d| d.kind) else { return Ok(()) };
        let code = match denial.kind {
            DenialKind::Kill => Code::Killed,
            DenialKind::Veto => Code::Vetoed,
            DenialKind::Vote | DenialKind::Policy => Code::Denied,
            DenialKind::Saga => Code::Saga,
        };
        void(code, &with_reason(format!("denied by {}", denial.by), &denial.why))
    }

    fn check_unused(&self, permit: &FactId, p: &Recorded<Proposal>, resuming: Option<&FactId>) -> Judged<()> {
        let mut earlier = self
            .ledger
            .starts_on_permit(permit)
            .filter(|s| s.header.author == self.me.author && s.body.proposal == p.id && Some(&s.id) != resuming);
        let spent = earlier.next().filter(|_| !planted::active("intent-key-ignored"));
        if let Some(start) = spent {
            // Even after a failure without effect: another try needs another permit.
            return void(Code::Used, &format!("this permit was used by start {}", start.id.short()));
        }
        match self.ledger.used_by(p, self.authority, resuming) {
            Some(why) => void(Code::Used, &why),
            None => Ok(()),
        }
    }

    fn check_times(&self, permit: &Permit, p: &Recorded<Proposal>) -> Judged<()> {
        if permit.execute_by_ms > permit.issued_ms.saturating_add(PERMIT_MS_MAX) {
            return refuse(Code::Mismatch, "it could be used for longer than 15 minutes");
        }
        let now_ms = self.now_ms(p);
        if now_ms > permit.execute_by_ms {
            return void(Code::Late, &format!("it could be used until {}", rfc3339(permit.execute_by_ms)));
        }
        match self.ledger.status(&p.id, self.authority, now_ms) {
            Some(s) if s.state == State::Expired => void(Code::Late, &s.why.join("; ")),
            Some(s) if s.state == State::Void => void(Code::Late, &s.why.join("; ")),
            Some(s) if s.state == State::Superseded => void(Code::Overtaken, &s.why.join("; ")),
            // Also of what was started and is resumed: people asked for another thing before it happened.
            _ => match self.ledger.superseded_by(&p.id, self.authority) {
                Some(child) => void(Code::Overtaken, &format!("{} took its place", child.short())),
                None => Ok(()),
            },
        }
    }

    /// The time to judge by: a wall clock that nobody vouches for is at least as late as the votes it sees.
    fn now_ms(&self, p: &Recorded<Proposal>) -> u64 {
        if self.clock.confidence != Confidence::Unknown {
            return self.clock.wall_ms;
        }
        let votes = self.ledger.votes_on(&p.id).filter_map(|v| v.verify(self.authority).ok());
        votes.map(|v| v.statement.issued_ms).fold(self.clock.wall_ms, u64::max)
    }

    fn check_decision(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>) -> Judged<&'a Recorded<Decision>> {
        let body = &permit.body;
        let decision = self.ledger.decisions_on(&p.id).find(|d| d.id == body.decision);
        let decision = decision.ok_or_else(|| self.missing(body, "its decision has not arrived here"))?;
        if body.terms != decision.body.terms() || body.policy != decision.body.policy {
            return refuse(Code::Mismatch, "its terms are not its decision's");
        }
        if body.authority_head.is_some_and(|head| self.authority.index_of(&head).is_none()) {
            return Err(self.missing(body, "it names an authority entry that has not arrived here"));
        }
        if !matches!(decision.body.outcome, Outcome::Allow | Outcome::StepUp) {
            return refuse(Code::Mismatch, "its decision does not allow it");
        }
        Ok(decision)
    }

    /// This owner's own evaluation, and the class that counts: the highest of schema, policy and proposal.
    fn check_policy(
        &self,
        permit: &Recorded<Permit>,
        p: &Recorded<Proposal>,
        decision: &Decision,
        action: &Action,
    ) -> Judged<(Evaluation, RiskClass)> {
        let body = &permit.body;
        let Some(active) = self.authority.policy() else {
            return refuse(Code::NoPolicy, "no policy is active here");
        };
        let engine = self.engine.filter(|e| e.digest() == active.activate.digest);
        let Some(engine) = engine else {
            return refuse(Code::NoPolicy, "the active policy's bundle could not be loaded here");
        };
        let named = self.authority.index_of(&body.policy.entry);
        let named = named.ok_or_else(|| self.missing(body, "it names a policy that has not arrived here"))?;
        if engine.class_version(&p.body.action_class) != body.policy.class_version {
            if named > active.index {
                return Err(self.missing(body, "it names a policy that is not in effect here yet"));
            }
            return void(Code::Overtaken, "a newer policy for its action class is active");
        }
        let Me { spiffe_id, resource_version, .. } = self.me;
        let observer = Observer { spiffe_id, lease: self.lease, resource_version, budgets: self.budgets };
        let input = build(self.ledger, self.authority, self.clock, &observer, &p.id);
        let input = input.ok_or_else(|| wait("its proposal has not arrived here"))?;
        let mut evaluation = engine.evaluate(&input);
        // What the coordinator adds can only make it stricter: a liar among coordinators must not talk an owner into anything.
        if let Some(reported) = decision.reported.as_deref().and_then(|bytes| from_canonical(bytes).ok()) {
            let told = engine.evaluate(&input.with_reported(reported));
            evaluation = if planted::active("reported-trusted") { told } else { stricter(evaluation, told) };
        }
        match evaluation.outcome {
            Outcome::Deny => refuse(Code::Policy, &evaluation.rules.join("; ")),
            Outcome::Defer => Err(wait(&evaluation.rules.join("; "))),
            Outcome::Modify => {
                refuse(Code::Policy, &format!("policy asks for other arguments: {}", evaluation.rules.join("; ")))
            }
            Outcome::Allow | Outcome::StepUp => {
                let class = action.risk().max(evaluation.risk).max(decision.risk).max(p.body.risk);
                Ok((evaluation, class))
            }
        }
    }

    /// Silence allows only where those who could object had the time, and a coordinator vouches for it.
    fn check_silence(
        &self,
        permit: &Recorded<Permit>,
        p: &Recorded<Proposal>,
        decision: &Recorded<Decision>,
        obligations: &Obligations,
    ) -> Judged<()> {
        let Some(window) = &obligations.veto else { return Ok(()) };
        let ballot = Ballot { obligations, ..Ballot::new(self.ledger, self.authority, p, &decision.body) };
        // Then people must have said yes: the votes tell.
        if ballot.silence_is_no_yes(window).is_some() {
            return Ok(());
        }
        if planted::active("silence-unvouched") {
            return Ok(());
        }
        // A coordinator's word alone could be dated early: by this node's own clock the time is over too.
        let over_ms = p.body.created_ms.saturating_add(window.ms);
        if self.now_ms(p) < over_ms && !planted::active("silence-not-waited") {
            return Err(wait(&format!("people may object until {}", rfc3339(over_ms))));
        }
        let Some(named) = permit.body.window else {
            return refuse(Code::Silence, "it names no coordinator's word that the time to object is over");
        };
        let silence = self.ledger.silence(p, decision, window, self.authority).filter(|w| w.id == named);
        let Some(silence) = silence else {
            return Err(
                self.missing(&permit.body, "a coordinator's word that the time to object is over has not arrived here")
            );
        };
        if silence.body.authority_head.is_some_and(|head| self.authority.index_of(&head).is_none()) {
            return Err(self.missing(&permit.body, "that word names an authority entry that has not arrived here"));
        }
        match silence.body.votes.iter().find(|v| !self.ledger.has_vote(&p.id, v)) {
            Some(absent) => Err(self.missing(&permit.body, &format!("vote {} has not arrived here", absent.short()))),
            None => Ok(()),
        }
    }

    /// R3: permits with the same terms by more than half of the charter's coordinators, of which there are several.
    fn check_majority(&self, permit: &Recorded<Permit>, p: &Recorded<Proposal>, class: RiskClass) -> Judged<()> {
        self.check_seats(class)?;
        if class < RiskClass::R3 {
            return Ok(());
        }
        let majority = self.ledger.permitting(p, &permit.body, self.authority);
        if majority.is_reached() || planted::active("one-coordinator-for-r3") {
            return Ok(());
        }
        let (have, needed, whom) = (majority.agreeing.len(), majority.needed, majority.waits_for());
        Err(self
            .missing(&permit.body, &format!("{have} of {needed} coordinators permit it so far; it waits for {whom}")))
    }

    fn check_seats(&self, class: RiskClass) -> Judged<()> {
        if class < RiskClass::R3 || self.authority.charter().coordinators.len() > 1 {
            return Ok(());
        }
        refuse(Code::Majority, "a mesh with one coordinator refuses class R3")
    }

    fn check_votes(
        &self,
        permit: &Recorded<Permit>,
        p: &Recorded<Proposal>,
        decision: &Decision,
        obligations: &Obligations,
        class: RiskClass,
    ) -> Judged<()> {
        let body = &permit.body;
        let now_ms = self.now_ms(p);
        self.check_decided_in_time(p, obligations)?;
        if let Some(absent) = body.votes.iter().find(|v| !self.ledger.has_vote(&p.id, v)) {
            return Err(self.missing(body, &format!("vote {} has not arrived here", absent.short())));
        }
        let ballot = Ballot { obligations, ..Ballot::new(self.ledger, self.authority, p, decision) };
        let voters = ballot.voters(now_ms, Some(&body.votes));
        let filled = ballot.fill(now_ms, Some(&body.votes));
        let held = crate::autonomy::held(self.ledger, self.authority, p, self.clock);
        let floor = crate::autonomy::votes_floor(class, held.as_ref(), obligations);
        let floor = floor.or_else(|why| refuse(Code::Policy, &why))?.max(self.votes_for_clock(class));
        if filled.is_complete() && voters.len() >= floor as usize {
            return Ok(());
        }
        let rejected = self.rejected_votes(&ballot, body, now_ms);
        let have = if filled.is_complete() { voters.len() } else { filled.filled as usize };
        let needed = filled.needed.max(floor);
        refuse(Code::Quorum, &format!("{have} of {needed} votes count{rejected}"))
    }

    fn check_decided_in_time(&self, p: &Recorded<Proposal>, obligations: &Obligations) -> Judged<()> {
        if self.now_ms(p) > obligations.decide_by_ms {
            return void(Code::Late, &format!("people had until {}", rfc3339(obligations.decide_by_ms)));
        }
        Ok(())
    }

    /// With a clock that nobody vouches for, a person's signed time must stand in (architecture §4); R3 never.
    fn votes_for_clock(&self, class: RiskClass) -> u32 {
        match (self.clock.confidence, class) {
            (Confidence::Unknown, RiskClass::R3) => u32::MAX,
            (Confidence::Unknown, RiskClass::R1 | RiskClass::R2) => 1,
            _ => 0,
        }
    }

    fn rejected_votes(&self, ballot: &Ballot<'_>, permit: &Permit, now_ms: u64) -> String {
        let listed = self.ledger.votes_on(&permit.proposal).filter(|v| permit.votes.contains(&v.id()));
        let reasons = listed.filter_map(|v| match v.verify(self.authority) {
            Ok(verified) => ballot.counts(&verified, now_ms).err(),
            Err(e) => Some(e.to_string()),
        });
        let reasons: std::collections::BTreeSet<String> = reasons.collect();
        reasons.into_iter().map(|why| format!("; one: {why}")).collect()
    }

    /// Something the permit names is not here: wait for it until the permit runs out.
    fn missing(&self, permit: &Permit, what: &str) -> Stop {
        if self.clock.wall_ms > permit.execute_by_ms {
            let until = rfc3339(permit.execute_by_ms);
            let why = format!("{what}, and it could be used until {until}; {}", Code::Late.remedy());
            return Stop::Void(Code::Late, why);
        }
        wait(what)
    }
}

/// The stricter of two evaluations of one owner: the worse outcome, and the obligations of both.
fn stricter(a: Evaluation, b: Evaluation) -> Evaluation {
    let obligations = a.obligations.both(&b.obligations);
    let risk = a.risk.max(b.risk);
    let input_digest = a.input_digest;
    let worse = if b.outcome > a.outcome { b } else { a };
    // Which document a start names: the one that this owner built alone.
    Evaluation { obligations, risk, input_digest, ..worse }
}
