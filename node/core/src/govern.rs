//! Governance as this node lives it: folding facts, proposing, coordinating.

use std::sync::Arc;

use cauldron_coordinator::action::{Action, Catalogue, PROPOSAL_AGE_MS_MAX};
use cauldron_coordinator::alone;
use cauldron_coordinator::bodies::{
    DEPUTY_MS_MAX, Deputy, KIND_BREAK_GLASS, KIND_BUNDLE, KIND_DECISION, KIND_DEPUTY, KIND_PERMIT, KIND_PROPOSAL,
    KIND_RESTRICTION, KIND_WINDOW, Proposal,
};
use cauldron_coordinator::coordinate::{self, Act, Limits, Sitting, Step};
use cauldron_coordinator::ledger::{PERMIT_MS_MAX, Recorded, State};
use cauldron_coordinator::policy::{Bundle, Engine};
use cauldron_crdt::doc::{KIND as KIND_CHANGE, KIND_SEAL};
use cauldron_crdt::escrow::{KIND_CREDIT, KIND_DEBIT, KIND_REFUSE, KIND_RESERVE, KIND_SETTLE};
use cauldron_identity::authority::{KIND_HELD, KIND_ISSUED, KIND_ROOTS, Standing};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Fact, FactId, Scope};

use crate::core::NodeCore;
use crate::input::{Refusal, Reply};
use crate::local;

/// How long a proposal may wait when its proposer names no deadline, milliseconds.
pub(crate) const PROPOSAL_MS: u64 = 24 * 60 * 60 * 1000;
const _: () = assert!(PROPOSAL_MS <= PROPOSAL_AGE_MS_MAX);
/// Guarantees §4: proposals that one agent may have open.
pub const OPEN_PER_AGENT_MAX: usize = 20;
/// Guarantees §4: proposals that one site may have open.
pub const OPEN_PER_SITE_MAX: usize = 500;
/// Guarantees §4: proposals that a coordinator takes on at once, fair between sites.
pub const OPEN_MAX: usize = 10_000;
/// How long what policy deferred waits at most until it is judged again, milliseconds.
const JUDGE_AGAIN_MS: u64 = 2_000;
/// How much is judged at once.
pub(crate) const LIMITS: Limits = Limits {
    open_per_agent: OPEN_PER_AGENT_MAX,
    open_per_site: OPEN_PER_SITE_MAX,
    open_total: OPEN_MAX,
    permit_ms: PERMIT_MS_MAX,
};

impl NodeCore {
    /// Takes a fact of any lane but the authority's into what this node knows.
    pub(crate) fn fold(&mut self, fact: &Arc<Fact>) {
        if fact.header().scope == Scope::mesh() {
            // Facts of every kind: they say how far a chain goes.
            self.escrow.fold(fact);
        }
        match fact.header().kind.as_str() {
            KIND_HELD => {
                let before = self.authority.covered();
                self.authority.apply(fact);
                if self.authority.covered() != before {
                    self.rights_moved = true;
                    // A lift may have come into effect.
                    if self.ledger.restrictions(&self.authority).next().is_some() {
                        self.suspend();
                    }
                }
                self.heard_held(fact);
            }
            KIND_DEBIT | KIND_CREDIT | KIND_REFUSE | KIND_RESERVE | KIND_SETTLE => {}
            KIND_CHANGE => self.fold_change(fact),
            KIND_SEAL => self.fold_seal(fact),
            KIND_ROOTS => self.roots.heard_roots(fact),
            KIND_ISSUED => self.heard_issued(fact),
            KIND_BUNDLE => {}
            kind => {
                self.ledger.insert(fact);
                // What is folded before a node is open is looked at all at once.
                if self.opened {
                    let touched = self.ledger.touched_by(fact);
                    self.heard_step(fact, &touched);
                    self.heard_word(fact);
                    self.docket.touch(touched);
                }
                if kind == KIND_RESTRICTION {
                    self.suspend();
                }
                if kind == KIND_BREAK_GLASS {
                    self.heard_glass(fact.id());
                }
            }
        }
        self.dirty = true;
    }

    pub(crate) fn suspend(&mut self) {
        let suspended = self.ledger.suspensions(&self.authority);
        self.authority.suspend_only(suspended);
        (self.links_dirty, self.rights_moved) = (true, true);
    }

    /// Loads the bundle that the authority chain activated, once it is here.
    pub(crate) fn load_policy(&mut self) {
        let Some(active) = self.authority.policy() else { return };
        if self.policy.bundle == Some(active.activate.bundle) && self.policy.digest == Some(active.activate.digest) {
            return;
        }
        let Some(fact) = self.log.get(&active.activate.bundle) else {
            self.policy.engine = None;
            self.policy.problem =
                Some(format!("policy {} is active, its bundle has not arrived yet", active.activate.version));
            return;
        };
        let loaded = fact.body().ok_or_else(|| "its body is withheld".to_owned()).and_then(|bytes| {
            let bundle = Bundle::unpack(bytes).map_err(|e| e.to_string())?;
            if bundle.digest() != active.activate.digest {
                return Err("its digest is not the activated one".to_owned());
            }
            Engine::new(&bundle).map_err(|e| e.to_string())
        });
        (self.policy.bundle, self.policy.digest) = (Some(active.activate.bundle), Some(active.activate.digest));
        match loaded {
            Ok(engine) => (self.policy.engine, self.policy.problem) = (Some(engine), None),
            Err(why) => {
                self.policy.engine = None;
                self.policy.problem =
                    Some(format!("the bundle of policy {} cannot be loaded: {why}", active.activate.version));
                self.count_refusal(
                    "policy",
                    format!("the active policy cannot be loaded, everything is denied: {why}"),
                );
            }
        }
        self.dirty = true;
    }

    /// The actions that this node knows: the build's, and those that the active policy brings.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        self.policy.engine.as_ref().map_or(Catalogue::built_in(), Engine::catalogue)
    }

    /// Their classes.
    #[must_use]
    pub fn action_classes(&self) -> Vec<String> {
        self.catalogue().schemas().map(|schema| schema.class()).collect()
    }

    pub(crate) fn propose(&mut self, mut proposal: Proposal, traceparent: Option<String>) -> Result<Reply, Refusal> {
        let scope = self.ready(&mut proposal)?;
        if let Some(known) = self.known_as(&proposal) {
            return Ok(Reply::Already(known));
        }
        self.has_room(&proposal)?;
        self.gets_away(&scope)?;
        let body = to_cbor(&proposal);
        self.append(scope, KIND_PROPOSAL, vec![], body, traceparent).map(|f| Reply::Recorded(f.id()))
    }

    /// Fills in the times of a proposal and looks whether an agent of this node may make it; the scope that carries it.
    pub(crate) fn ready(&self, proposal: &mut Proposal) -> Result<Scope, Refusal> {
        self.may_write()?;
        let scope = self.site_scope(proposal)?;
        proposal.created_ms = self.now.wall_ms;
        if proposal.expires_ms == 0 {
            proposal.expires_ms = proposal.created_ms + PROPOSAL_MS;
        }
        Action::of_proposal(self.catalogue(), proposal).map_err(|e| Refusal::new("bad_proposal", e.to_string()))?;
        if !proposal.agent.starts_with(&format!("{}/agent/", self.spiffe_id)) {
            let sentence = format!("{} is no agent of {}", proposal.agent, self.spiffe_id);
            return Err(Refusal::new("not_our_agent", sentence));
        }
        Ok(scope)
    }

    /// A proposal of the same agent on the same resource that is open, or one that wanted the same there.
    pub(crate) fn known_as(&mut self, proposal: &Proposal) -> Option<FactId> {
        self.refresh_docket();
        let same = |p: &&Recorded<Proposal>| p.body.resource == proposal.resource;
        let open = self.docket.of_agent(&self.ledger, &proposal.agent).find(same).map(|known| known.id);
        open.or_else(|| self.same_intent(proposal))
    }

    /// Computes anew what may have changed of what is open.
    pub(crate) fn refresh_docket(&mut self) {
        self.docket.refresh(&self.ledger, &self.authority, self.now.wall_ms);
    }

    /// Whether one more proposal of this agent and this site may be open (guarantees §4). What does not count anyway does not
    /// stand in the way of what would.
    pub(crate) fn has_room(&mut self, proposal: &Proposal) -> Result<(), Refusal> {
        self.refresh_docket();
        let of_agent = self.docket.of_agent(&self.ledger, &proposal.agent).count();
        if of_agent >= OPEN_PER_AGENT_MAX {
            let sentence = format!("{of_agent} proposals of this agent are open; decide some of them first");
            return Err(Refusal::new("agent_limit", sentence));
        }
        let of_site = self.docket.of_site(&proposal.site);
        if of_site >= OPEN_PER_SITE_MAX {
            let sentence = format!("{of_site} proposals of site {} are open; decide some of them first", proposal.site);
            return Err(Refusal::new("site_limit", sentence));
        }
        Ok(())
    }

    /// A step of a session that somebody else has to judge. A session repeats itself as it likes: what it wants twice is done once.
    pub(crate) fn propose_step(
        &mut self,
        mut proposal: Proposal,
        traceparent: Option<String>,
    ) -> Result<Reply, Refusal> {
        let scope = self.site_scope(&proposal)?;
        proposal.created_ms = self.now.wall_ms;
        if proposal.expires_ms == 0 {
            proposal.expires_ms = proposal.created_ms + PROPOSAL_MS;
        }
        Action::of_proposal(self.catalogue(), &proposal).map_err(|e| Refusal::new("bad_proposal", e.to_string()))?;
        self.has_room(&proposal)?;
        let body = to_cbor(&proposal);
        self.append(scope, KIND_PROPOSAL, vec![], body, traceparent).map(|f| Reply::Recorded(f.id()))
    }

    /// A person wrote or edited a proposal: this node carries it as they signed it, with the time.
    pub(crate) fn by_hand(&mut self, mut proposal: Proposal) -> Result<Reply, Refusal> {
        self.may_write()?;
        let scope = self.site_scope(&proposal)?;
        proposal.created_ms = self.now.wall_ms;
        let parent = proposal.parent.and_then(|parent| self.ledger.proposal(&parent)).map(|p| p.body.expires_ms);
        let latest = parent.unwrap_or(proposal.created_ms + PROPOSAL_MS);
        proposal.expires_ms = if proposal.expires_ms == 0 { latest } else { proposal.expires_ms.min(latest) };
        Action::of_proposal(self.catalogue(), &proposal).map_err(|e| Refusal::new("bad_proposal", e.to_string()))?;
        let as_read = Recorded {
            id: FactId::from_bytes([0; 32]),
            header: self.would_be(scope.clone(), KIND_PROPOSAL),
            body: proposal,
        };
        if as_read.body.hand.is_none() {
            return Err(Refusal::new("not_signed", "nobody signed it"));
        }
        // "Recorded" must mean that it counts.
        self.ledger.proposal_counts(&as_read, &self.authority).map_err(|why| Refusal::new("edit_not_counted", why))?;
        let parent = as_read.body.parent;
        if let Some(parent) = parent
            && let Some(status) = self.ledger.status(&parent, &self.authority, self.now.wall_ms)
            && !status.state.is_open()
        {
            return Err(Refusal::new("not_open", format!("{} is over: {}", parent.short(), status.why.join("; "))));
        }
        self.has_room(&as_read.body)?;
        let trace = parent.and_then(|p| self.ledger.proposal(&p)).and_then(|p| p.header.traceparent.clone());
        let deps = parent.into_iter().collect();
        self.append(scope, KIND_PROPOSAL, deps, to_cbor(&as_read.body), trace).map(|f| Reply::Recorded(f.id()))
    }

    /// A person named a deputy, or took one back: everybody in the mesh may have to know.
    pub(crate) fn deputy(&mut self, deputy: &Deputy) -> Result<Reply, Refusal> {
        let (statement, person) =
            deputy.verify(&self.authority).map_err(|e| Refusal::new("deputy_invalid", e.to_string()))?;
        if statement.takes_back.is_none() {
            if self.authority.person(&statement.to).is_none() {
                return Err(Refusal::new("unknown_person", format!("{:?} is not enrolled", statement.to)));
            }
            let lasts_ms = statement.until_ms.saturating_sub(statement.from_ms);
            if lasts_ms == 0 || lasts_ms > DEPUTY_MS_MAX {
                return Err(Refusal::new("deputy_time", "a deputy is named for at most 31 days"));
            }
            if let Some(foreign) = statement.groups.iter().find(|g| !person.groups.contains(g)) {
                let sentence = format!("{} does not belong to {foreign} and cannot hand it on", person.id);
                return Err(Refusal::new("deputy_group", sentence));
            }
        }
        self.append(Scope::mesh(), KIND_DEPUTY, vec![], to_cbor(deputy), None).map(|f| Reply::Recorded(f.id()))
    }

    /// Brings a bundle into the mesh. It judges nothing until policy authors activate it; one that cannot be loaded never could.
    pub(crate) fn bring_bundle(&mut self, bundle: &Bundle) -> Result<Reply, Refusal> {
        Engine::new(bundle).map_err(|e| Refusal::new("bad_bundle", e.to_string()))?;
        let here = self
            .log
            .iter_scope(&Scope::mesh())
            .find(|fact| fact.header().kind == KIND_BUNDLE && fact.body() == Some(bundle.packed()));
        if let Some(fact) = here {
            return Ok(Reply::Already(fact.id()));
        }
        self.append(Scope::mesh(), KIND_BUNDLE, vec![], bundle.packed().to_vec(), None).map(|f| Reply::Recorded(f.id()))
    }

    /// A proposal that wanted the same thing on the same resource, whatever became of it: the log that names this window
    /// has been read before. Not one of which people say that it did not happen.
    fn same_intent(&self, proposal: &Proposal) -> Option<FactId> {
        let counts = |p: &&Recorded<Proposal>| {
            self.ledger.proposal_counts(p, &self.authority).is_ok() && !self.is_free_by_word(p)
        };
        self.ledger.same_intent(&proposal.resource, &proposal.intent_key).find(counts).map(|p| p.id)
    }

    /// A coordinator's next decisions and permits.
    pub(crate) fn coordinate(&mut self) {
        self.work.judge_at_ms = None;
        let site = self.role.site();
        let acts = || site.is_some_and(|site| alone::acts(&self.authority, &self.me, site)) && self.is_cut_off();
        let by_role = self.coordinates();
        if !(by_role || acts()) || self.may_write().is_err() || !self.wall_is_known() {
            return;
        }
        // What counts for nothing changes nothing: it would be written again, and again.
        let own = self.would_be(Scope::mesh(), KIND_DECISION);
        if self.authority.standing(&own, FactId::from_bytes([0; 32])) != Standing::Counts {
            return;
        }
        self.refresh_docket();
        let engine = self.policy.engine.as_ref();
        let sitting = Sitting { me: &self.me, lease: self.lease_age(), budgets: &self.work.rights.seen };
        let (ledger, authority) = (&self.ledger, &self.authority);
        // Whoever acts for a site that is cut off looks at all of it: there is little.
        let Step { mut acts, held } = match by_role {
            true => coordinate::step_on(&mut self.docket, ledger, authority, engine, &self.now, &sitting, &LIMITS),
            false => {
                let acts = coordinate::step(ledger, authority, engine, &self.now, &sitting, &LIMITS);
                Step { acts, ..Step::default() }
            }
        };
        for (id, by) in held {
            self.count_refusal(by.code(), format!("proposal {}: {}", id.short(), by.says()));
        }
        #[cfg(feature = "fault-points")]
        if self.misbehave.forge_permits {
            acts.extend(self.forge());
        }
        for act in std::mem::take(&mut acts) {
            let (scope, deps, of, kind, body) = match act {
                Act::Decide { scope, deps, body, input } => {
                    // So that it can be judged again, by this policy or by another one.
                    self.persist(local::judged(&body.input_digest, input.bytes()));
                    (scope, deps, body.proposal, KIND_DECISION, to_cbor(&body))
                }
                Act::Modify { scope, deps, body } => {
                    let Some(parent) = body.parent else { continue };
                    (scope, deps, parent, KIND_PROPOSAL, to_cbor(&body))
                }
                Act::Close { scope, deps, body } => (scope, deps, body.proposal, KIND_WINDOW, to_cbor(&body)),
                Act::Permit { scope, deps, body } => (scope, deps, body.proposal, KIND_PERMIT, to_cbor(&body)),
            };
            let trace = self.ledger.proposal(&of).and_then(|p| p.header.traceparent.clone());
            if let Err(why) = self.append(scope, kind, deps, body, trace) {
                self.docket.again(of);
                self.count_refusal(why.code, why.reason);
            }
        }
        // Policy may let through by time alone what it deferred, and on a quiet day nothing else comes.
        let deferred = match by_role {
            true => self.docket.defers(),
            false => {
                let open = self.docket.open(&self.ledger, &self.authority, self.now.wall_ms);
                open.iter().any(|status| status.state == State::Deferred)
            }
        };
        self.work.judge_at_ms = deferred.then(|| self.now.boottime_ms.saturating_add(JUDGE_AGAIN_MS));
    }

    /// What a compromised coordinator would write: a permit for every proposal it has decided, whatever people said.
    #[cfg(feature = "fault-points")]
    fn forge(&self) -> Vec<Act> {
        use cauldron_coordinator::bodies::Permit;
        const FORGED_MS: u64 = 10 * 60 * 1000;
        let unpermitted = self.ledger.proposals().filter(|p| self.ledger.permits_on(&p.id).next().is_none());
        let forged = unpermitted.filter_map(|p| {
            let decision = self.ledger.decisions_on(&p.id).next()?;
            let owner = self.ledger.owner_of(&p.body.resource, &self.authority)?;
            let body = Permit {
                issued_ms: self.now.wall_ms,
                execute_by_ms: self.now.wall_ms + FORGED_MS,
                authority_head: self.authority.head(),
                ..coordinate::permit_for(
                    (p.id, &p.body),
                    (decision.id, &decision.body),
                    (owner.author, owner.incarnation),
                    self.catalogue(),
                )
            };
            Some(Act::Permit { scope: p.header.scope.clone(), deps: vec![p.id, decision.id], body: Box::new(body) })
        });
        forged.collect()
    }

    /// When the next status changes by time alone, this node's lease gets too old for something, or rights are looked at again, boot
    /// time in milliseconds.
    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.refresh_docket();
        let next = self.docket.next_ms();
        let next = next.map(|at| self.now.boottime_ms.saturating_add(at.saturating_sub(self.now.wall_ms)));
        next.into_iter()
            .chain(self.next_lease_edge())
            .chain(self.work.rights.again_ms)
            .chain(self.work.judge_at_ms)
            .min()
    }
}
