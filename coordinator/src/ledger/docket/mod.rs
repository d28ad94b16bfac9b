//! Statuses of open proposals as last computed, and what a coordinator has to look at.
//!
//! A status is a function of the facts, the authority chain and the time. The docket keeps it for as long as none of them can have
//! changed it: [`Ledger::touched_by`] says whom a fact may concern, [`Authority::revision`] when the chain moved, and each status
//! has the times between which it holds. So what a node does for one input grows with what the input changed, not with what is
//! open.

mod queue;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;

use self::queue::{Place, Queue};
use super::{Call, Ledger, Matter, Recorded, Status, Touched};
use crate::bodies::Proposal;
use crate::coordinate::Limits;
use crate::vote::{Choice, SKEW_MS_MAX};

pub use queue::Held;

/// Deferred proposals that are judged again with one input: all take turns.
const AGAIN_MAX: usize = 64;

/// Proposals to look at.
pub(crate) type Due<'a> = Vec<&'a Recorded<Proposal>>;

/// A status, and from when until when it is this one, as long as nothing else changes.
#[derive(Debug, Clone)]
struct Kept {
    status: Status,
    from_ms: u64,
    until_ms: u64,
}

/// What is kept about open proposals.
#[derive(Debug, Clone)]
pub struct Docket {
    /// Of the authority chain; none before anything was computed.
    revision: Option<u64>,
    now_ms: u64,
    open: BTreeMap<FactId, Box<Kept>>,
    untils: BTreeSet<(u64, FactId)>,
    stale: BTreeSet<FactId>,
    queue: Queue,
    due: BTreeSet<FactId>,
    deferred: BTreeSet<FactId>,
    deferred_last: Option<FactId>,
    /// Held back, and told of.
    told: BTreeSet<FactId>,
    /// What a person must look at.
    calls: BTreeMap<FactId, (Call, Matter)>,
    /// Of those, what was not told of yet.
    raised: BTreeSet<FactId>,
}

impl Docket {
    /// An empty docket of a coordinator that takes on so much.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            revision: None,
            now_ms: 0,
            open: BTreeMap::new(),
            untils: BTreeSet::new(),
            stale: BTreeSet::new(),
            queue: Queue::new(limits),
            due: BTreeSet::new(),
            deferred: BTreeSet::new(),
            deferred_last: None,
            told: BTreeSet::new(),
            calls: BTreeMap::new(),
            raised: BTreeSet::new(),
        }
    }

    /// A fact that the ledger has taken in may have changed these.
    pub fn touch(&mut self, touched: Touched) {
        match touched {
            Touched::These(ids) => self.stale.extend(ids),
            Touched::Any => self.revision = None,
        }
    }

    /// Computes anew what may have changed. Everything, when the chain moved or the clock went back.
    pub fn refresh(&mut self, ledger: &Ledger, authority: &Authority, now_ms: u64) {
        if self.revision != Some(authority.revision()) || now_ms < self.now_ms {
            self.stale = ledger.proposals.keys().copied().collect();
            self.revision = Some(authority.revision());
        }
        self.now_ms = now_ms;
        while let Some((_, id)) = self.untils.first().filter(|(until_ms, _)| *until_ms <= now_ms).copied() {
            self.renew(ledger, authority, id);
        }
        for id in std::mem::take(&mut self.stale) {
            self.renew(ledger, authority, id);
        }
        self.queue.share();
        self.due.extend(self.queue.risen());
    }

    fn renew(&mut self, ledger: &Ledger, authority: &Authority, id: FactId) {
        if let Some(old) = self.open.remove(&id) {
            self.untils.remove(&(old.until_ms, id));
        }
        let Some(p) = ledger.proposal(&id) else { return };
        let status = ledger.status(&id, authority, self.now_ms);
        let call = status.as_ref().and_then(|status| {
            let call = ledger.call(status, authority)?;
            Some((call, ledger.matter(status, call, authority)))
        });
        self.call(id, call);
        let status = status.filter(|status| status.state.is_open());
        // What does not count anyway must not stand in the way of what would.
        let counts = status.is_some() && ledger.proposal_counts(p, authority).is_ok();
        if counts {
            self.queue.insert(&p.body.agent, &p.body.site, place(p));
            self.due.insert(id);
        } else {
            self.queue.remove(&p.body.agent, &p.body.site, place(p));
            self.due.remove(&id);
            self.deferred.remove(&id);
            self.told.remove(&id);
        }
        // Time alone opens nothing again: what is closed stays so until something else changes.
        let Some(mut status) = status else { return };
        // Thousands are kept, and a sentence that was put together has room left.
        status.why.shrink_to_fit();
        status.why.iter_mut().for_each(String::shrink_to_fit);
        let (from_ms, until_ms) = ledger.holds(p, authority, &status, self.now_ms);
        self.untils.insert((until_ms, id));
        self.open.insert(id, Box::new(Kept { status, from_ms, until_ms }));
    }

    fn call(&mut self, id: FactId, call: Option<(Call, Matter)>) {
        let before = match call {
            Some(call) => self.calls.insert(id, call),
            None => self.calls.remove(&id),
        };
        if call.is_none() {
            self.raised.remove(&id);
        } else if before.map(|(call, _)| call) != call.map(|(call, _)| call) {
            self.raised.insert(id);
        }
    }

    /// What a person must look at, as of the last refresh. None of it comes or goes by time alone.
    pub fn calls(&self) -> impl Iterator<Item = (&FactId, Call, Matter)> {
        self.calls.iter().map(|(id, (call, matter))| (id, *call, *matter))
    }

    /// Why a person must look at one proposal, as of the last refresh.
    #[must_use]
    pub fn call_of(&self, id: &FactId) -> Option<Call> {
        self.calls.get(id).map(|(call, _)| *call)
    }

    /// What of it is new since this was asked last, or another reason than before.
    pub fn take_raised(&mut self) -> Vec<(FactId, Call)> {
        let raised = std::mem::take(&mut self.raised);
        raised.into_iter().filter_map(|id| Some((id, self.calls.get(&id)?.0))).collect()
    }

    /// Whether nothing has changed since the last refresh but the time, which went on.
    fn is_current(&self, authority: &Authority, now_ms: u64) -> bool {
        self.revision == Some(authority.revision()) && self.stale.is_empty() && now_ms >= self.now_ms
    }

    /// The status of one proposal, as [`Ledger::status`] says it.
    #[must_use]
    pub fn status<'a>(
        &'a self,
        ledger: &Ledger,
        authority: &Authority,
        id: &FactId,
        now_ms: u64,
    ) -> Option<Cow<'a, Status>> {
        match self.open.get(id).filter(|kept| self.is_current(authority, now_ms) && kept.holds(now_ms)) {
            Some(kept) => Some(Cow::Borrowed(&kept.status)),
            None => ledger.status(id, authority, now_ms).map(Cow::Owned),
        }
    }

    /// The open ones, by id, as [`Ledger::open`] says them.
    #[must_use]
    pub fn open<'a>(&'a self, ledger: &Ledger, authority: &Authority, now_ms: u64) -> Vec<Cow<'a, Status>> {
        if !self.is_current(authority, now_ms) {
            return ledger.open(authority, now_ms).into_iter().map(Cow::Owned).collect();
        }
        let open = self.open.keys().filter_map(|id| self.status(ledger, authority, id, now_ms));
        open.filter(|status| status.state.is_open()).collect()
    }

    /// When the next status changes by time alone, milliseconds since the Unix epoch.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.untils.first().map(|(until_ms, _)| *until_ms).filter(|until_ms| *until_ms < u64::MAX)
    }

    /// What keeps an open proposal from being judged.
    #[must_use]
    pub fn held(&self, p: &Recorded<Proposal>) -> Option<Held> {
        let counts = self.queue.of_agent(&p.body.agent).any(|at| *at == place(p));
        counts.then(|| self.queue.held(&p.body.site, place(p))).flatten()
    }

    /// The open proposals of an agent that count.
    pub fn of_agent<'a>(&'a self, ledger: &'a Ledger, agent: &str) -> impl Iterator<Item = &'a Recorded<Proposal>> {
        self.queue.of_agent(agent).filter_map(|(_, id)| ledger.proposal(id))
    }

    /// How many proposals of a site are open and count; of each agent no more than it may have.
    #[must_use]
    pub fn of_site(&self, site: &str) -> usize {
        self.queue.of_site(site)
    }

    /// What a coordinator has to look at, the oldest first: what changed since it was asked last, and in turn what was deferred.
    /// Beside it, what is held back and was not told of yet.
    pub(crate) fn take_due<'a>(&mut self, ledger: &'a Ledger) -> (Due<'a>, Vec<(FactId, Held)>) {
        let mut ids = std::mem::take(&mut self.due);
        let last = self.deferred_last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.deferred.range((last, Bound::Unbounded));
        let again: Vec<FactId> = behind.chain(&self.deferred).take(AGAIN_MAX).copied().collect();
        self.deferred_last = again.last().copied();
        ids.extend(again);
        let (mut due, mut held) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(p) = ledger.proposal(&id).filter(|_| self.open.contains_key(&id)) else { continue };
            match self.queue.held(&p.body.site, place(p)) {
                None => due.push(p),
                // It is due again once it has risen.
                Some(by) => {
                    self.deferred.remove(&id);
                    held.extend(self.told.insert(id).then_some((id, by)));
                }
            }
        }
        due.sort_by_key(|p| place(p));
        (due, held)
    }

    /// The status of an open proposal, as of the last refresh.
    pub(crate) fn kept(&self, id: &FactId) -> Option<&Status> {
        self.open.get(id).map(|kept| &kept.status)
    }

    /// Whether something is to be judged again although nothing changes.
    #[must_use]
    pub fn defers(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// A proposal that policy deferred is judged again, in turn, until it comes to something.
    pub(crate) fn defer(&mut self, id: FactId, deferred: bool) {
        if deferred {
            self.deferred.insert(id);
        } else {
            self.deferred.remove(&id);
        }
    }

    /// What should have been written about a proposal was not: it is looked at again.
    pub fn again(&mut self, id: FactId) {
        if self.open.contains_key(&id) {
            self.due.insert(id);
        }
    }
}

impl Kept {
    fn holds(&self, now_ms: u64) -> bool {
        (self.from_ms..self.until_ms).contains(&now_ms)
    }
}

fn place(p: &Recorded<Proposal>) -> Place {
    (p.body.created_ms, p.id)
}

impl Ledger {
    /// From when until when, as far as time alone goes, the status of an open proposal is what it is now, and a coordinator
    /// would write the same.
    fn holds(&self, p: &Recorded<Proposal>, authority: &Authority, status: &Status, now_ms: u64) -> (u64, u64) {
        let after = |ms: u64| ms.saturating_add(1);
        let permits = self.permits_on(&p.id).filter(|permit| self.permit_entitled(p, permit, authority));
        let permits = permits.map(|permit| after(permit.body.execute_by_ms));
        let votes = self.votes_on(&p.id).filter_map(|v| v.verify(authority).ok()).map(|v| v.statement);
        let votes = votes.filter(|s| s.choice == Choice::Approve);
        let votes = votes.flat_map(|s| [s.issued_ms.saturating_sub(SKEW_MS_MAX), after(s.expires_ms)]);
        let windows = self.decisions_on(&p.id).filter(|d| self.decision_restricts(p, d, authority));
        let windows =
            windows.filter_map(|d| Some(d.body.decided_ms.saturating_add(d.body.obligations.veto.as_ref()?.ms)));
        let turns = permits.chain(votes).chain(windows).chain([after(status.deadline_ms)]);
        turns.fold((0, u64::MAX), |(from_ms, until_ms), at_ms| {
            if at_ms <= now_ms { (from_ms.max(at_ms), until_ms) } else { (from_ms, until_ms.min(at_ms)) }
        })
    }
}
