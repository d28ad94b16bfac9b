//! The pure fold of governance facts: what every proposal has come to.
//!
//! A ledger is nothing but the set of facts it was given, indexed: any order and any repetition make the same ledger.
//! States are computed from that set, the authority chain and a time, and never stored; so an expiry needs no event.
//!
//! What grants (decisions, permits, approvals) counts only while its author may say it and stands. What restricts
//! (denials, restrictions) and what happened (starts, outcomes) counts whatever becomes of its author.

mod agree;
mod alone;
mod call;
mod child;
mod deputies;
mod docket;
mod index;
mod origin;
mod owners;
mod report;
mod restrictions;
mod rights;
mod saga;
mod seats;
mod session;
mod state;
mod tally;
mod timeline;
mod touched;
mod word;

#[cfg(test)]
mod call_tests;
#[cfg(test)]
pub(crate) mod people_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod voter_tests;

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::{Accept, Offer};
use cauldron_identity::codec::CodecError;
use cauldron_identity::{AuthorId, Digest, Fact, FactId};
use minicbor::Decode;

pub use alone::Reviewed;
pub use call::{Call, Matter, is_audited};
pub use child::{GENERATIONS_MAX, edited, modified};
pub use deputies::Deputised;
pub use docket::{Docket, Held};
pub use origin::Origin;
pub use owners::with_handover;
pub use report::Report;
pub use rights::{Owner, entitled, may_decide};
pub use saga::Fate;
pub use seats::Majority;
pub use session::HISTORY_MAX;
pub use state::{Denial, DenialKind, PERMIT_MS_MAX, State, Status};
pub use tally::{APPROVALS_PER_HOUR_MAX, Ballot, Weight};
pub use timeline::Event;
pub use touched::Touched;

use self::index::{About, Index, intent};
use crate::bodies::{
    Aborted, BrokenGlass, Decision, Deputy, KIND_ABORTED, KIND_BREAK_GLASS, KIND_DECISION, KIND_DEPUTY, KIND_HANDOVER,
    KIND_PERMIT, KIND_PROPOSAL, KIND_READ, KIND_RECONCILED, KIND_RESTRICTION, KIND_REVIEW, KIND_SITE_LIFT,
    KIND_STARTED, KIND_TAKEOVER, KIND_VOTE, KIND_WINDOW, KINDS, Permit, Proposal, Read, Restriction, Review, SiteLift,
    Started, WindowClosed, Word,
};
use crate::planted;
use crate::signed::{Signed, Statement};
use crate::vote::{Choice, SignedVote};

/// A body with the fact that carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<T> {
    /// The fact's id.
    pub id: FactId,
    /// What is kept of the fact's header.
    pub header: Origin,
    /// The body.
    pub body: T,
}

/// A list that was decoded has room for four at least, and a ledger keeps thousands of lists of one.
impl Recorded<Proposal> {
    fn trimmed(mut self) -> Self {
        self.body.evidence.shrink_to_fit();
        self.body.taint.shrink_to_fit();
        self
    }
}

impl Recorded<Decision> {
    fn trimmed(mut self) -> Self {
        self.body.rules.shrink_to_fit();
        let approvals = &mut self.body.obligations.approvals;
        approvals.shrink_to_fit();
        approvals.iter_mut().for_each(|need| need.any_of.shrink_to_fit());
        self
    }
}

/// What became of a fact that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It was not here before.
    New,
    /// It was.
    Duplicate,
    /// It is no governance fact.
    NotGovernance,
    /// Its body is withheld or cannot be read: it stays in its chain and means nothing here.
    Unreadable(CodecError),
}

/// Governance facts, indexed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    proposals: BTreeMap<FactId, Box<Recorded<Proposal>>>,
    lineages: Index<FactId>,
    intents: Index<Digest>,
    children: Index<FactId>,
    /// By the build of the agent and the time.
    builds: BTreeMap<Digest, BTreeSet<(u64, FactId)>>,
    /// Steps of a session, by their index.
    sessions: BTreeMap<Digest, BTreeMap<u64, BTreeSet<FactId>>>,
    /// Steps by the step that they name before them.
    followers: Index<FactId>,
    decisions: About<Decision>,
    /// Decisions that name groups to tell, by when they say to be decided; with what they are on.
    telling: BTreeMap<(u64, FactId), FactId>,
    windows: About<WindowClosed>,
    /// By proposal; a signed statement may be carried by several facts.
    votes: BTreeMap<FactId, BTreeMap<SignedVote, BTreeMap<FactId, Box<Origin>>>>,
    /// When a person approved, and what: for the rate at which one may.
    approvals: BTreeMap<String, BTreeMap<(u64, Digest), SignedVote>>,
    /// By the deputy; what takes one back, by whoever named them.
    deputies: BTreeMap<String, BTreeMap<Deputy, BTreeSet<FactId>>>,
    taken_back: BTreeMap<String, BTreeMap<Deputy, BTreeSet<FactId>>>,
    reads: BTreeMap<FactId, Recorded<Read>>,
    permits: BTreeMap<FactId, Recorded<Permit>>,
    permits_of: Index<FactId>,
    /// Those that their owner has not started, by it and until when they may be used.
    unstarted: BTreeMap<AuthorId, BTreeSet<(u64, FactId)>>,
    /// Those that take from a budget, by until when they may be used.
    permits_taking: BTreeSet<(u64, FactId)>,
    starts: BTreeMap<FactId, Recorded<Started>>,
    starts_of: Index<FactId>,
    starts_on: Index<Digest>,
    starts_in: Index<FactId>,
    started_on: Index<FactId>,
    starts_by: BTreeMap<AuthorId, BTreeSet<(u64, FactId)>>,
    reports: About<Report>,
    /// Reports that a person may accept, with their starts.
    failures: BTreeMap<FactId, FactId>,
    /// By the lineage of the step.
    aborts: About<Aborted>,
    /// Steps of sagas by the step that they name before them; children of a step name what it does.
    next_steps: Index<FactId>,
    restrictions: BTreeMap<FactId, Recorded<Restriction>>,
    /// By what is offered.
    offers: BTreeMap<String, BTreeMap<FactId, Recorded<Offer>>>,
    /// By the offer.
    accepts: BTreeMap<FactId, BTreeMap<FactId, Recorded<Accept>>>,
    glasses: BTreeMap<FactId, Recorded<BrokenGlass>>,
    reviews: alone::Said<Review>,
    site_lifts: alone::Said<SiteLift>,
    /// By the start.
    words: alone::Said<Word>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`Ledger::insert`] looks into a fact of `kind`; of any other it takes nothing.
    #[must_use]
    pub fn reads(kind: &str) -> bool {
        KINDS.contains(&kind)
    }

    /// Takes one verified fact in.
    pub fn insert(&mut self, fact: &Fact) -> Inserted {
        if let Some(report) = Report::read(fact) {
            return inserted(report.map(|r| self.insert_report(r.body.started(), r)));
        }
        let taken = match fact.header().kind.as_str() {
            KIND_PROPOSAL => read(fact).map(|r: Recorded<Proposal>| self.insert_proposal(r.trimmed())),
            KIND_DECISION => read(fact).map(|r: Recorded<Decision>| {
                if !r.body.obligations.notify.is_empty() {
                    self.telling.insert((r.body.decided_ms, r.id), r.body.proposal);
                }
                self.decisions.insert(r.body.proposal, r.trimmed())
            }),
            KIND_VOTE => self.insert_vote(fact),
            KIND_PERMIT => read(fact).map(|r: Recorded<Permit>| {
                self.permits_of.insert(r.body.proposal, r.id);
                if !r.body.budgets.is_empty() {
                    self.permits_taking.insert((r.body.execute_by_ms, r.id));
                }
                let id = r.id;
                let new = self.permits.insert(id, r).is_none();
                self.note_started(&id);
                new
            }),
            KIND_STARTED => read(fact).map(|r| self.insert_start(r)),
            KIND_WINDOW => read(fact).map(|r: Recorded<WindowClosed>| self.windows.insert(r.body.proposal, r)),
            KIND_DEPUTY => self.insert_deputy(fact),
            KIND_READ => read(fact).map(|r| self.insert_read(r)),
            KIND_HANDOVER => self.insert_offer(fact),
            KIND_TAKEOVER => self.insert_accept(fact),
            KIND_ABORTED => read(fact).map(|r: Recorded<Aborted>| self.aborts.insert(r.body.proposal, r)),
            KIND_RESTRICTION => read(fact).map(|r| self.restrictions.insert(r.id, r).is_none()),
            KIND_BREAK_GLASS => read(fact).map(|r| self.glasses.insert(r.id, r).is_none()),
            KIND_REVIEW => said(fact).map(|(id, review, s): (_, Review, _)| self.insert_review(id, review, s.used)),
            KIND_SITE_LIFT => {
                said(fact).map(|(id, lift, s): (_, SiteLift, _)| self.insert_site_lift(id, lift, s.restriction))
            }
            KIND_RECONCILED => said(fact).map(|(id, word, s): (_, Word, _)| self.insert_word(id, word, s.started)),
            other => {
                debug_assert!(!Self::reads(other), "{other} is said to be read");
                return Inserted::NotGovernance;
            }
        };
        inserted(taken)
    }

    fn insert_proposal(&mut self, recorded: Recorded<Proposal>) -> bool {
        let (id, p) = (recorded.id, &recorded.body);
        self.lineages.insert(p.lineage(id), id);
        self.intents.insert(intent(&p.resource, &p.intent_key), id);
        self.builds.entry(p.agent_build).or_default().insert((p.created_ms, id));
        if let Some(parent) = p.parent {
            self.children.insert(parent, id);
        }
        if let Some(after) = p.saga.and_then(|step| step.after) {
            self.next_steps.insert(after, id);
        }
        self.insert_step(id, &recorded.body);
        self.proposals.insert(id, Box::new(recorded)).is_none()
    }

    /// A read is a proposal, too, so that a session has one chain; what it wants of a resource is nobody's to repeat or not.
    fn insert_read(&mut self, recorded: Recorded<Read>) -> bool {
        let (id, p) = (recorded.id, recorded.body.proposal.clone());
        self.lineages.insert(p.lineage(id), id);
        self.builds.entry(p.agent_build).or_default().insert((p.created_ms, id));
        self.insert_step(id, &p);
        let proposal = Recorded { id, header: recorded.header.clone(), body: p };
        self.proposals.insert(id, Box::new(proposal));
        self.reads.insert(id, recorded).is_none()
    }

    fn insert_step(&mut self, id: FactId, p: &Proposal) {
        let Some(step) = &p.session else { return };
        self.sessions.entry(step.id).or_default().entry(step.index).or_default().insert(id);
        if let Some(prev) = step.prev {
            self.followers.insert(prev, id);
        }
    }

    fn insert_start(&mut self, recorded: Recorded<Started>) -> bool {
        let (id, s) = (recorded.id, &recorded.body);
        self.starts_of.insert(s.proposal, id);
        self.starts_in.insert(s.lineage, id);
        let permit = s.permit;
        self.started_on.insert(permit, id);
        self.starts_by.entry(recorded.header.author).or_default().insert((s.owner_seq, id));
        self.starts_on.insert(intent(&s.resource, &s.intent_key), id);
        let new = self.starts.insert(id, recorded).is_none();
        self.note_started(&permit);
        new
    }

    /// A permit or a start on it has come: whether it waits to be started.
    fn note_started(&mut self, permit: &FactId) {
        let Some((owner, place)) = self.permit(permit).map(|p| (p.body.owner, (p.body.execute_by_ms, p.id))) else {
            return;
        };
        let started = self.starts_on_permit(permit).next().is_some();
        let of = self.unstarted.entry(owner).or_default();
        if started {
            of.remove(&place);
        } else {
            of.insert(place);
        }
        if of.is_empty() {
            self.unstarted.remove(&owner);
        }
    }

    fn insert_vote(&mut self, fact: &Fact) -> Result<bool, CodecError> {
        let recorded: Recorded<SignedVote> = read(fact)?;
        let statement = recorded.body.statement().map_err(|e| CodecError::Shape(e.to_string()))?;
        if statement.choice == Choice::Approve {
            let at = (statement.issued_ms, recorded.body.id());
            self.approvals.entry(statement.person).or_default().insert(at, recorded.body.clone());
        }
        let carriers = self.votes.entry(statement.proposal).or_default().entry(recorded.body).or_default();
        Ok(carriers.insert(recorded.id, Box::new(recorded.header)).is_none())
    }

    fn insert_deputy(&mut self, fact: &Fact) -> Result<bool, CodecError> {
        let recorded: Recorded<Deputy> = read(fact)?;
        let statement = recorded.body.statement().map_err(|e| CodecError::Shape(e.to_string()))?;
        let (id, deputy) = (recorded.id, recorded.body);
        Ok(match statement.takes_back {
            Some(_) => self.taken_back.entry(statement.person).or_default().entry(deputy).or_default().insert(id),
            None => self.deputies.entry(statement.to).or_default().entry(deputy).or_default().insert(id),
        })
    }

    fn insert_report(&mut self, started: FactId, report: Recorded<Report>) -> bool {
        if report.body.is_failure() {
            self.failures.insert(report.id, started);
        }
        self.reports.insert(started, report)
    }

    /// A proposal.
    #[must_use]
    pub fn proposal(&self, id: &FactId) -> Option<&Recorded<Proposal>> {
        self.proposals.get(id).map(Box::as_ref)
    }

    /// All proposals, in the order of their ids.
    pub fn proposals(&self) -> impl Iterator<Item = &Recorded<Proposal>> {
        self.proposals.values().map(Box::as_ref)
    }

    /// The proposals of one lineage.
    pub fn lineage(&self, lineage: &FactId) -> impl Iterator<Item = &Recorded<Proposal>> {
        self.lineages.of(lineage).filter_map(|id| self.proposal(id))
    }

    /// A permit.
    #[must_use]
    pub fn permit(&self, id: &FactId) -> Option<&Recorded<Permit>> {
        self.permits.get(id)
    }

    /// The permits of one proposal.
    pub fn permits_on(&self, proposal: &FactId) -> impl Iterator<Item = &Recorded<Permit>> {
        self.permits_of.of(proposal).filter_map(|id| self.permits.get(id))
    }

    /// The permits of one owner that it has not started and that may be used at `at_ms` or later, as far as their own time goes.
    pub fn unstarted(&self, owner: &AuthorId, at_ms: u64) -> impl Iterator<Item = &Recorded<Permit>> {
        let later = self.unstarted.get(owner).into_iter();
        let later = later.flat_map(move |of| of.range((at_ms, FactId::from_bytes([0; 32]))..));
        later.filter_map(|(_, id)| self.permits.get(id))
    }

    /// The permits of anybody that take from a budget and may be used at `at_ms` or later, as far as their own time goes.
    pub fn permits_taking(&self, at_ms: u64) -> impl Iterator<Item = &Recorded<Permit>> {
        let later = self.permits_taking.range((at_ms, FactId::from_bytes([0; 32]))..);
        later.filter_map(|(_, id)| self.permits.get(id))
    }

    /// All permits, in the order of their ids.
    pub fn permits(&self) -> impl Iterator<Item = &Recorded<Permit>> {
        self.permits.values()
    }

    /// The decisions on one proposal.
    pub fn decisions_on(&self, proposal: &FactId) -> impl Iterator<Item = &Recorded<Decision>> {
        self.decisions.on(proposal)
    }

    /// The distinct signed statements on one proposal.
    pub fn votes_on(&self, proposal: &FactId) -> impl Iterator<Item = &SignedVote> {
        self.votes.get(proposal).into_iter().flat_map(BTreeMap::keys)
    }

    /// Whether a statement with this hash is here, under whatever signature.
    #[must_use]
    pub fn has_vote(&self, proposal: &FactId, vote: &Digest) -> bool {
        self.votes_on(proposal).any(|v| v.id() == *vote)
    }

    /// A start.
    #[must_use]
    pub fn start(&self, id: &FactId) -> Option<&Recorded<Started>> {
        self.starts.get(id)
    }

    /// All starts, in the order of their ids.
    pub fn starts(&self) -> impl Iterator<Item = &Recorded<Started>> {
        self.starts.values()
    }

    /// The starts of one author, in the order of its own numbers.
    pub fn starts_by(&self, author: &AuthorId) -> impl Iterator<Item = &Recorded<Started>> {
        self.starts_by.get(author).into_iter().flatten().filter_map(|(_, id)| self.starts.get(id))
    }

    /// What a read came to, where a proposal is one.
    #[must_use]
    pub fn read(&self, id: &FactId) -> Option<&Recorded<Read>> {
        self.reads.get(id)
    }

    /// All reads, in the order of their ids.
    pub fn all_reads(&self) -> impl Iterator<Item = &Recorded<Read>> {
        self.reads.values()
    }

    /// The starts on one permit by the owner that it names: nobody else uses it, whatever they say.
    pub fn starts_on_permit(&self, permit: &FactId) -> impl Iterator<Item = &Recorded<Started>> {
        let owner = self.permit(permit).map(|p| p.body.owner).filter(|_| !planted::active("start-by-hearsay"));
        let all = self.started_on.of(permit).filter_map(|id| self.starts.get(id));
        all.filter(move |s| owner.is_none_or(|owner| s.header.author == owner))
    }

    /// The starts of one lineage.
    pub fn starts_in(&self, lineage: &FactId) -> impl Iterator<Item = &Recorded<Started>> {
        self.starts_in.of(lineage).filter_map(|id| self.starts.get(id))
    }

    /// What coordinators said of the time to object to one proposal.
    pub fn windows_on(&self, proposal: &FactId) -> impl Iterator<Item = &Recorded<WindowClosed>> {
        self.windows.on(proposal)
    }

    /// The newest proposals of an agent's build, the newest first.
    pub fn newest_of(&self, build: &Digest, most: usize) -> impl Iterator<Item = &Recorded<Proposal>> {
        let of = self.builds.get(build).into_iter().flatten().rev().take(most);
        of.filter_map(|(_, id)| self.proposal(id))
    }

    /// The proposals that want the same of the same resource.
    pub fn same_intent(&self, resource: &str, intent_key: &str) -> impl Iterator<Item = &Recorded<Proposal>> {
        self.intents.of(&intent(resource, intent_key)).filter_map(|id| self.proposal(id))
    }

    /// What whoever started it reported about a start.
    pub fn reports_on(&self, started: &FactId) -> impl Iterator<Item = &Recorded<Report>> {
        let by = self.start(started).map(|s| s.header.author).filter(|_| !planted::active("start-by-hearsay"));
        self.told_of(started).filter(move |r| by.is_none_or(|by| r.header.author == by))
    }

    /// What anybody reported about a start.
    pub(crate) fn told_of(&self, started: &FactId) -> impl Iterator<Item = &Recorded<Report>> {
        self.reports.on(started)
    }
}

impl<T> Recorded<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded { id: self.id, header: self.header, body: f(self.body) }
    }
}

fn inserted(taken: Result<bool, CodecError>) -> Inserted {
    match taken {
        Ok(true) => Inserted::New,
        Ok(false) => Inserted::Duplicate,
        Err(e) => Inserted::Unreadable(e),
    }
}

/// The fact that carries a statement, the statement as signed, and what it says.
type Said<T> = ((FactId, Origin), Signed<T>, T);

/// A signed statement, with what it says.
fn said<T: Statement>(fact: &Fact) -> Result<Said<T>, CodecError> {
    let recorded: Recorded<Signed<T>> = read(fact)?;
    let statement = recorded.body.statement().map_err(|e| CodecError::Shape(e.to_string()))?;
    Ok(((recorded.id, recorded.header), recorded.body, statement))
}

fn read<T: for<'b> Decode<'b, ()>>(fact: &Fact) -> Result<Recorded<T>, CodecError> {
    Ok(Recorded { id: fact.id(), header: fact.header().into(), body: fact.decode_body()? })
}
