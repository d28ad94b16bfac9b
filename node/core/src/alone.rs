//! Past the lease: isolation grants, tokens that break the glass, and what a site's own people lift.

use std::collections::BTreeMap;

use cauldron_coordinator::alone::{grant_for, horizon_ms, meets};
use cauldron_coordinator::bodies::{
    BrokenGlass, Decision, KIND_BREAK_GLASS, KIND_DECISION, KIND_PERMIT, KIND_REVIEW, KIND_SITE_LIFT, Proposal, Review,
    RiskClass, SiteLift,
};
use cauldron_coordinator::coordinate::{self, Act, Glass, Limits};
use cauldron_coordinator::lease::{LeaseAge, age_ms_max};
use cauldron_coordinator::ledger::{Ballot, Recorded, State, Status};
use cauldron_coordinator::signed::with_reason;
use cauldron_identity::budget::Budget;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::isolation::{BreakGlass, IsolationGrant};
use cauldron_identity::{Clock, FactId};

use crate::attention::how;
use crate::core::NodeCore;
use crate::input::{Event, Refusal, Reply};
use crate::local;
use crate::view::{ClassView, GlassView, IsolationView, Time};

const CLASSES: [(&str, RiskClass); 4] =
    [("R0", RiskClass::R0), ("R1", RiskClass::R1), ("R2", RiskClass::R2), ("R3", RiskClass::R3)];

impl NodeCore {
    /// Whether this node is isolated for any class: then what its own people lifted counts as lifted, class by class.
    pub(crate) fn is_cut_off(&self) -> bool {
        !self.lease_age().covers(RiskClass::R3, &self.authority.charter().class_ages)
    }

    /// The status of a proposal as this node goes by it: past the lease without what its own people lifted.
    pub(crate) fn status_here(&self, id: &FactId, now: Clock) -> Option<Status> {
        let class = self.ledger.proposal(id).map_or(RiskClass::R3, |p| p.body.risk);
        let isolated = !self.lease_age().covers(class, &self.authority.charter().class_ages);
        self.ledger.status_under(id, &self.authority, now.wall_ms, isolated)
    }

    /// A person uses a token. What would be refused is refused here, before the token is spent.
    pub(crate) fn use_glass(&mut self, mut used: BrokenGlass) -> Result<Reply, Refusal> {
        self.may_write()?;
        let unknown = || Refusal::new("unknown_proposal", "no such proposal is here; ask a node of its site");
        let p = self.ledger.proposal(&used.proposal).ok_or_else(unknown)?;
        let (scope, trace) = (p.header.scope.clone(), p.header.traceparent.clone());
        if used.reason.trim().is_empty() || used.reason.chars().any(char::is_control) {
            return Err(Refusal::new("bad_reason", "say why, in one line: it goes into the record"));
        }
        used.used_ms = self.now.wall_ms;
        let here = self.ledger.broken_glass_on(&used.proposal).find(|g| g.body.token == used.token);
        if let Some(here) = here {
            return Ok(Reply::Already(here.id));
        }
        let owner = self.ledger.owner_of(&p.body.resource, &self.authority);
        let owner = owner.ok_or_else(|| Refusal::new("no_owner", "the resource belongs to no enrolled node"))?;
        let header = self.would_be(scope.clone(), KIND_BREAK_GLASS);
        let as_read = Recorded { id: FactId::from_bytes([0; 32]), header, body: used };
        let refused = |why: String| Refusal::new("glass_refused", why);
        if owner.author == self.me {
            let version = self.ledger.proposal(&as_read.body.proposal).and_then(|p| p.body.expected_version.clone());
            coordinate::would_break(&as_read, &self.bench(version.as_deref()), &Limits::default()).map_err(refused)?;
        } else {
            // The owner judges; what is plain here needs no token.
            if !self.ledger.is_glass_for(&as_read, p, &self.authority) {
                return Err(refused("the council gave this site no such token, or it signed something else".into()));
            }
            if let Some(first) = self.ledger.bound_by(&as_read.body.digest(), &owner.author) {
                return Err(refused(format!("this token was used for {}", first.body.proposal.short())));
            }
        }
        let deps = vec![as_read.body.proposal];
        let body = to_cbor(&as_read.body);
        self.append(scope, KIND_BREAK_GLASS, deps, body, trace).map(|f| Reply::Recorded(f.id()))
    }

    /// What this owner decides and permits because somebody broke the glass.
    pub(crate) fn open_glass(&mut self) {
        if self.may_write().is_err() || !self.wall_is_known() {
            return;
        }
        let mine = |g: &&Recorded<BrokenGlass>| {
            let p = self.ledger.proposal(&g.body.proposal);
            p.is_some_and(|p| self.owns(&p.body))
        };
        let uses: Vec<FactId> = self.ledger.all_broken_glass().filter(mine).map(|g| g.id).collect();
        for id in uses {
            // A decision first, then the permit on it.
            for _ in 0..2 {
                let Some(used) = self.ledger.broken_glass(&id) else { break };
                let version = self.ledger.proposal(&used.body.proposal).and_then(|p| p.body.expected_version.clone());
                match coordinate::break_glass(used, &self.bench(version.as_deref()), &Limits::default()) {
                    Glass::Permitted(_) => {
                        self.work.verdicts.remove(&id);
                        break;
                    }
                    Glass::Refused(why) => {
                        self.work.verdicts.insert(id, why);
                        break;
                    }
                    Glass::Write(act) => self.write_glass(*act),
                }
            }
        }
    }

    fn owns(&self, p: &Proposal) -> bool {
        self.ledger.owner_of(&p.resource, &self.authority).is_some_and(|owner| owner.author == self.me)
    }

    fn write_glass(&mut self, act: Act) {
        let (scope, deps, kind, body, of) = match act {
            Act::Decide { scope, deps, body, input } => {
                self.persist(local::judged(&body.input_digest, input.bytes()));
                (scope, deps, KIND_DECISION, to_cbor(&body), body.proposal)
            }
            Act::Permit { scope, deps, body } => (scope, deps, KIND_PERMIT, to_cbor(&body), body.proposal),
            Act::Modify { .. } | Act::Close { .. } => return,
        };
        let trace = self.ledger.proposal(&of).and_then(|p| p.header.traceparent.clone());
        if let Err(why) = self.append(scope, kind, deps, body, trace) {
            self.count_refusal(why.code, why.reason);
        }
    }

    /// Says loudly that somebody broke the glass.
    pub(crate) fn heard_glass(&mut self, id: FactId) {
        if let Some(used) = self.ledger.broken_glass(&id).filter(|_| self.opened) {
            let (proposal, reason) = (used.body.proposal, used.body.reason.clone());
            self.tell(Event::BrokenGlass { id, proposal, reason });
        }
    }

    /// Somebody looked at a use of a token, at an action that was selected for an audit, or at a failure, and accepts it. What would
    /// settle nothing is refused.
    pub(crate) fn review_glass(&mut self, review: &Review) -> Result<Reply, Refusal> {
        let (statement, person) =
            review.verify(&self.authority).map_err(|e| Refusal::new("review_invalid", e.to_string()))?;
        let unknown = || {
            let sentence = "no such use of a token, start, or report of a failure is here; `cauldron break-glass list`";
            Refusal::new("unknown_use", sentence)
        };
        let ledger = &self.ledger;
        let (may, scope) = if let Some(used) = ledger.broken_glass(&statement.used) {
            (ledger.reviewers(used, &self.authority), used.header.scope.clone())
        } else {
            let start = ledger.reviewed_start(&statement.used).ok_or_else(unknown)?;
            let p = ledger.proposal(&start.body.proposal).ok_or_else(unknown)?;
            if ledger.writers(p).contains(&person.id) {
                let sentence = format!("{} asked for it: somebody else must look", person.id);
                return Err(Refusal::new("not_a_reviewer", sentence));
            }
            if !self.to_review(&p.id).contains(&statement.used) {
                let sentence = format!(
                    "that settles nothing here: {}",
                    match self.docket.call_of(&p.id) {
                        None => "nobody has to look at it, or somebody has already".to_owned(),
                        Some(call) => how(call, &p.id.short()),
                    }
                );
                return Err(Refusal::new("nothing_to_review", sentence));
            }
            (ledger.auditors(start, &self.authority), p.header.scope.clone())
        };
        if !person.groups.iter().any(|g| may.contains(g)) {
            let may: Vec<String> = may.into_iter().collect();
            let sentence = format!("{} is in none of the groups that may: {}", person.id, may.join(", "));
            return Err(Refusal::new("not_a_reviewer", sentence));
        }
        self.append(scope, KIND_REVIEW, vec![statement.used], to_cbor(review), None).map(|f| Reply::Recorded(f.id()))
    }

    /// What a review of a proposal has to name; nothing where a look settles nothing.
    pub(crate) fn to_review(&self, proposal: &FactId) -> Vec<FactId> {
        let status = self.ledger.status(proposal, &self.authority, self.now.wall_ms);
        status.map(|status| self.ledger.to_review(&status, &self.authority)).unwrap_or_default()
    }

    /// One of the site's own people lifts what one of them restricted, while the site is isolated.
    pub(crate) fn lift_at_site(&mut self, lift: &SiteLift) -> Result<Reply, Refusal> {
        let (statement, person) =
            lift.verify(&self.authority).map_err(|e| Refusal::new("lift_invalid", e.to_string()))?;
        let refused = |why: String| Refusal::new("lift_not_counted", why);
        let found = self.ledger.restrictions(&self.authority).find(|(r, _)| r.id == statement.restriction);
        let (r, order) = found.ok_or_else(|| refused("no restriction that counts here has this id".into()))?;
        let site = r.header.scope.site_name().map(str::to_owned);
        let council = "only the council lifts it";
        let site = site.ok_or_else(|| refused(format!("it restricts the mesh: {council}")))?;
        let grant = self.authority.isolation_grant(&site).filter(|grant| grant.lift > 0);
        let grant = grant.ok_or_else(|| refused(format!("no isolation grant of {site} says who may: {council}")))?;
        if !r.body.is_by_person(&r.header, &order, &self.authority) {
            return Err(refused(format!("none of the site's own people signed it: {council}")));
        }
        if matches!(order.target, cauldron_coordinator::bodies::Target::Author(..)) {
            return Err(refused(format!("it suspends an author: {council}")));
        }
        if !person.groups.iter().any(|g| grant.groups.contains(g)) {
            return Err(refused(format!(
                "{} is none of the site's own people ({})",
                person.id,
                grant.groups.join(", ")
            )));
        }
        if !self.is_cut_off() {
            return Err(refused(format!("the site is not isolated: {council}")));
        }
        let scope = cauldron_identity::Scope::site(&site).map_err(|e| Refusal::new("bad_site", e.to_string()))?;
        let deps = vec![r.id];
        self.append(scope, KIND_SITE_LIFT, deps, to_cbor(lift), None).map(|f| Reply::Recorded(f.id()))
    }

    /// When time alone changes what this node may do: a lease gets too old for a class, or a grant ends. Boot time, milliseconds.
    pub(crate) fn next_lease_edge(&self) -> Option<u64> {
        let age_ms = self.lease_age().ms().filter(|_| !self.role.is_mesh_coordinator())?;
        let grant = self.role.site().and_then(|site| self.authority.isolation_grant(site))?;
        let ages = &self.authority.charter().class_ages;
        let edges = CLASSES.into_iter().flat_map(|(_, class)| [age_ms_max(class, ages), horizon_ms(grant, class)]);
        let next = edges.filter(|edge| *edge >= age_ms && *edge < u64::MAX).min()?;
        Some(self.now.boottime_ms.saturating_add(next - age_ms).saturating_add(1))
    }

    /// How this node's own site stands, where it has one; none for a mesh coordinator.
    #[must_use]
    pub fn isolation_view(&self, now: Clock) -> Option<IsolationView> {
        let site = self.role.site()?;
        let age = self.lease.age(&now);
        let since = age.ms().map(|ms| Time(now.wall_ms.saturating_sub(ms)));
        let stopped = |class| !age.covers(class, &self.authority.charter().class_ages);
        let state = if stopped(RiskClass::R1) { "isolated" } else { "connected" };
        Some(self.isolation_of(site, state, since, age, now))
    }

    /// How a site stands, as far as this node can tell: its own by its lease, another by when it was last heard.
    pub(crate) fn isolation_of_site(&self, site: &str, now: Clock) -> IsolationView {
        if self.role.site() == Some(site)
            && let Some(own) = self.isolation_view(now)
        {
            return own;
        }
        let nodes = || self.authority.members().filter(|(_, m)| m.role.site() == Some(site));
        let linked = self.links.values().any(|p| !p.shared.is_empty() && nodes().any(|(a, _)| *a == p.author));
        let heard = nodes().filter_map(|(a, _)| self.last_seen_ms.get(a)).max().copied();
        let age = match (linked, heard) {
            (true, _) => LeaseAge::Ms(0),
            (false, Some(ms)) => LeaseAge::Ms(now.wall_ms.saturating_sub(ms)),
            (false, None) => LeaseAge::Never,
        };
        let since = heard.filter(|_| !linked).map(Time);
        self.isolation_of(site, if linked { "connected" } else { "unheard" }, since, age, now)
    }

    fn isolation_of(
        &self,
        site: &str,
        state: &'static str,
        since: Option<Time>,
        age: LeaseAge,
        now: Clock,
    ) -> IsolationView {
        let grant = self.authority.isolation_grant(site);
        let ages = &self.authority.charter().class_ages;
        let class = |(name, class): (&'static str, RiskClass)| {
            let left = |most_ms: u64| most_ms.saturating_sub(age.ms().unwrap_or(u64::MAX));
            let (under, for_ms, says) = if age.covers(class, ages) {
                let past = grant.map_or(0, |g| horizon_ms(g, class));
                let then =
                    if past > age_ms_max(class, ages) { "then under the isolation grant" } else { "then it stops" };
                ("lease", Some(left(age_ms_max(class, ages))), then.to_owned())
            } else {
                match grant_for(&self.authority, site, class, age) {
                    Ok(grant) => ("grant", Some(left(horizon_ms(grant, class))), needs(grant, class)),
                    Err(why) if state != "unheard" => ("stopped", None, why),
                    // Another coordinator may have heard it since.
                    Err(_) => (
                        "unknown",
                        None,
                        "by what was heard of it here it has stopped; others may have heard more".into(),
                    ),
                }
            };
            let until = for_ms.filter(|ms| *ms < u64::MAX / 2).map(|ms| Time(now.wall_ms.saturating_add(ms)));
            ClassView { class: name, under, until, for_ms, says }
        };
        IsolationView {
            state,
            since,
            classes: CLASSES.map(class).into(),
            acting: grant.map(|g| g.acting.clone()).unwrap_or_default(),
            groups: grant.map(|g| g.groups.clone()).unwrap_or_default(),
            escrow: grant.map(|g| g.escrow.iter().map(|b| b.as_str().to_owned()).collect()).unwrap_or_default(),
            lift: grant.map_or(0, |g| g.lift),
        }
    }

    /// Every use of a token that this node holds, newest first.
    #[must_use]
    pub fn glass_view(&self) -> Vec<GlassView> {
        let mut views: Vec<(u64, GlassView)> =
            self.ledger.all_broken_glass().map(|used| (used.body.used_ms, self.glass_line(used))).collect();
        views.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
        views.into_iter().map(|(_, view)| view).collect()
    }

    fn glass_line(&self, used: &Recorded<BrokenGlass>) -> GlassView {
        let permitted = self.ledger.permits_on(&used.body.proposal).any(|p| p.body.break_glass == Some(used.id));
        let why = self.work.verdicts.get(&used.id).filter(|_| !permitted).cloned();
        let p = self.ledger.proposal(&used.body.proposal);
        let owner = p.is_some_and(|p| self.owns(&p.body));
        let reviewed = self.ledger.reviewed(used, &self.authority);
        let (state, why) = match (permitted, why) {
            (true, _) => ("permitted", None),
            (false, Some(why)) => ("refused", Some(why)),
            (false, None) if owner => ("waiting", Some("waits until this node may write".to_owned())),
            (false, None) => ("waiting", Some("the node that owns the resource has not said yet".to_owned())),
        };
        let author = self.authority.member(&used.header.author);
        GlassView {
            id: used.id.to_string(),
            proposal: used.body.proposal.to_string(),
            reason: used.body.reason.clone(),
            used: Time(used.body.used_ms),
            carried_by: author.map_or_else(|| used.header.author.to_string(), |m| m.spiffe_id.to_string()),
            state,
            why,
            needs_review: permitted && reviewed.is_none(),
            reviewers: self.ledger.reviewers(used, &self.authority).into_iter().collect(),
            reviewed: reviewed.map(|r| with_reason(&r.person, &r.note)),
        }
    }

    /// Whether somebody broke the glass for a proposal, and whether that was looked at: `waiting`, `refused`, `needs review` or
    /// `reviewed`.
    pub(crate) fn glass_word(&self, proposal: &FactId) -> Option<&'static str> {
        let lines = self.ledger.broken_glass_on(proposal).map(|used| self.glass_line(used));
        let word = |line: GlassView| match (line.state, line.needs_review) {
            ("permitted", true) => "needs review",
            ("permitted", false) => "reviewed",
            (other, _) => other,
        };
        // Of several the loudest.
        lines
            .map(word)
            .min_by_key(|word| ["needs review", "reviewed", "waiting", "refused"].iter().position(|w| w == word))
    }

    /// What `why` adds to a proposal's sentences about isolation and broken glass.
    pub(crate) fn why_alone(&self, status: &Status) -> Vec<String> {
        let Some(p) = self.ledger.proposal(&status.id) else { return Vec::new() };
        let mut why = Vec::new();
        for used in self.ledger.broken_glass_on(&status.id) {
            let line = self.glass_line(used);
            let then = match (&line.why, line.needs_review) {
                (Some(why), _) => format!("refused: {why}"),
                (None, true) => format!(
                    "permitted without approvals; somebody of {} must look at it: `cauldron break-glass review {}`",
                    line.reviewers.join(", "),
                    used.id.short()
                ),
                (None, false) => {
                    format!("permitted without approvals, and looked at by {}", line.reviewed.unwrap_or_default())
                }
            };
            why.push(format!("somebody broke the glass ({}): {then}", line.reason));
        }
        let site = p.body.site.as_str();
        let ages = &self.authority.charter().class_ages;
        let decision = status.decision.and_then(|id| self.ledger.decisions_on(&p.id).find(|d| d.id == id));
        let class = decision.map_or(p.body.risk, |d| d.body.risk.max(p.body.risk));
        if self.role.site() == Some(site) && status.state.is_open() && !self.lease_age().covers(class, ages) {
            match grant_for(&self.authority, site, class, self.lease_age()) {
                Ok(grant) => {
                    why.push(format!("the site is isolated and goes on under its grant: {}", needs(grant, class)));
                    let approved = decision.filter(|_| status.state == State::Approved);
                    why.extend(approved.and_then(|d| self.lacks_alone(grant, class, p, d)));
                }
                Err(says) => why.push(format!("the site is isolated: {says}")),
            }
        }
        why
    }

    /// What the grant asks for beside what policy does, and is not there yet.
    fn lacks_alone(
        &self,
        grant: &IsolationGrant,
        class: RiskClass,
        p: &Recorded<Proposal>,
        d: &Recorded<Decision>,
    ) -> Option<String> {
        let ballot = Ballot::new(&self.ledger, &self.authority, p, &d.body);
        let approved_by = ballot.voters(self.now.wall_ms, None).into_keys().collect();
        meets(grant, class, &d.body.obligations.reserve, &approved_by, &self.authority).err()
    }
}

/// What a class needs past the lease.
fn needs(grant: &IsolationGrant, class: RiskClass) -> String {
    let acting = grant.acting.join(", ");
    let escrow: Vec<&str> = grant.escrow.iter().map(Budget::as_str).collect();
    let escrow = if escrow.is_empty() { "no budget at all".to_owned() } else { escrow.join(", ") };
    match class {
        RiskClass::R0 => format!("{acting} decides"),
        RiskClass::R1 => format!("{acting} decides; it may draw on {escrow}"),
        RiskClass::R2 | RiskClass::R3 => {
            format!("{acting} decides, two people of {} approve, and it draws on {escrow}", grant.groups.join(", "))
        }
    }
}

pub(crate) fn summary_of_grant(grant: &IsolationGrant) -> String {
    if grant.is_withdrawn() {
        return format!("takes back the isolation grant of site {}", grant.site);
    }
    let horizons: BTreeMap<&str, u64> = grant.horizon.by_class().into_iter().filter(|(_, ms)| *ms > 0).collect();
    let horizons: Vec<String> =
        horizons.into_iter().map(|(class, ms)| format!("{class} up to {} s", ms / 1_000)).collect();
    let escrow: Vec<&str> = grant.escrow.iter().map(Budget::as_str).collect();
    format!(
        "lets site {} go on past its lease: {}; decided by {}; own people: {}; escrow: {}; {} of them lift",
        grant.site,
        if horizons.is_empty() { "nothing".to_owned() } else { horizons.join(", ") },
        grant.acting.join(", "),
        if grant.groups.is_empty() { "none".to_owned() } else { grant.groups.join(", ") },
        if escrow.is_empty() { "none".to_owned() } else { escrow.join(", ") },
        grant.lift
    )
}

pub(crate) fn summary_of_tokens(tokens: &BreakGlass) -> String {
    let (site, holder) = (&tokens.site, tokens.holder);
    match tokens.digests.len() {
        0 => format!("takes back the break-glass tokens of {holder} in site {site}"),
        n => format!("gives {holder} in site {site} {n} break-glass tokens, good until {}", Time(tokens.expires_ms)),
    }
}
