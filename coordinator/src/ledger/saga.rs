//! Sagas, as the ledger holds them: steps in a row, each done after the one before it, and all taken back when one will not be.
//!
//! What became of a step is read from its owner's facts alone: nobody's clock says that somebody else did nothing. Where the resource
//! moved, what its present owner began or did stands before what those before it say.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;

use super::rights::{ever_owned, is_its_owners};
use super::word::is_gone;
use super::{Ledger, Origin, Recorded, Report, State};
use crate::bodies::{Aborted, Proposal, Started};
use crate::planted;

/// How many that say to be one step are looked after, beside those that were begun: with two of them none is permitted.
const TWINS_MAX: usize = 16;

/// What became of a step, as its owner's facts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate<'a> {
    /// Nothing was begun.
    Open,
    /// It was begun, and nothing is known yet.
    Begun,
    /// It was begun, and its owner does not know whether it happened.
    Unknown,
    /// It is done, checked where its permit asks for it, and stands.
    Done,
    /// It is done; its checks have not come out well, or it is being taken back.
    Unsettled,
    /// It is done, and could not be taken back.
    Stuck,
    /// It was done, and was over by its own time limit.
    Ended,
    /// It was over by its own time limit before the checks that its permit asks for had come out.
    Lapsed,
    /// It has no effect and never will have: it was taken back, or given up. With the fact that says so, and what that says.
    Over(&'a Origin, String),
}

impl Ledger {
    /// The first proposal of a lineage, where it is a step of a saga.
    fn first_of(&self, lineage: &FactId) -> Option<&Recorded<Proposal>> {
        self.proposal(lineage).filter(|p| p.body.saga.is_some() && p.body.lineage.is_none())
    }

    /// The steps that follow one: of the same agent and node, and numbered next.
    fn steps_behind<'a>(&'a self, before: &'a Recorded<Proposal>) -> impl Iterator<Item = &'a Recorded<Proposal>> {
        let named = self.next_steps.of(&before.id).filter_map(|id| self.proposal(id));
        named.filter(|next| follows(next, before))
    }

    /// Whether a step of a saga follows the step that it names.
    pub(super) fn saga_counts(&self, p: &Recorded<Proposal>) -> Result<(), String> {
        if p.body.saga.is_none() {
            return Ok(());
        }
        // One that is not recorded yet is the first of its lineage.
        let mut at = match p.body.lineage {
            Some(lineage) => self.first_of(&lineage).ok_or("its saga has no such step")?,
            None => p,
        };
        // Numbers go down, so this ends.
        while let Some(step) = &at.body.saga {
            step.fits()?;
            let Some(after) = step.after else { return Ok(()) };
            let before = self.proposal(&after).ok_or("the step of its saga before it has not arrived here")?;
            if !follows(at, before) {
                return Err(format!("it is no step behind {}: another agent or node proposed that", after.short()));
            }
            if self.steps_behind(before).nth(1).is_some() {
                return Err(format!("more than one proposal says to be step {} of its saga", step.index));
            }
            at = before;
        }
        Ok(())
    }

    /// What a step's owner, or one before it, began of it. What others say that they did in its name is nothing, and neither is what
    /// no permit for them was about.
    fn begun<'a>(
        &'a self,
        step: &'a Recorded<Proposal>,
        a: &'a Authority,
    ) -> impl Iterator<Item = &'a Recorded<Started>> {
        let starts = self.starts_in(&step.id).filter(|s| s.header.scope == step.header.scope);
        let permitted = |s: &Recorded<Started>| {
            self.permits.get(&s.body.permit).is_some_and(|permit| {
                permit.body.owner == s.header.author
                    && permit.body.lineage == step.id
                    && self.permit_entitled(step, permit, a)
            })
        };
        starts.filter(move |s| is_its_owners(s, step, a) && permitted(s))
    }

    /// The steps of a proposal's saga that are here, by their number: the first proposal of each. Of several that say to be one
    /// step, the one that was begun.
    #[must_use]
    pub fn saga(&self, p: &Recorded<Proposal>, authority: &Authority) -> BTreeMap<u32, &Recorded<Proposal>> {
        let mut steps = BTreeMap::new();
        let Some(own) = self.first_of(&p.body.lineage(p.id)) else { return steps };
        let number = |p: &Recorded<Proposal>| p.body.saga.map_or(0, |step| step.index);
        let mut at = Some(own);
        while let Some(step) = at {
            steps.insert(number(step), step);
            let before = step.body.saga.and_then(|s| s.after).and_then(|id| self.proposal(&id));
            at = before.filter(|before| follows(step, before));
        }
        let mut last = own;
        while let Some(next) = self.steps_behind(last).min_by_key(|n| (self.begun(n, authority).next().is_none(), n.id))
        {
            steps.insert(number(next), next);
            last = next;
        }
        steps
    }

    /// Where a proposal stands in its saga: the first step that is here, and its own number. One of no saga is the first of itself.
    #[must_use]
    pub fn saga_place(&self, p: &Recorded<Proposal>) -> (FactId, u32) {
        let lineage = p.body.lineage(p.id);
        let Some(own) = self.first_of(&lineage) else { return (lineage, 0) };
        let mut first = own;
        let before = |step: &Recorded<Proposal>| self.proposal(&step.body.saga?.after?);
        while let Some(step) = before(first).filter(|step| follows(first, step)) {
            first = step;
        }
        (first.id, own.body.saga.map_or(0, |step| step.index))
    }

    /// All proposals of the sagas of `ids`: what becomes of one step concerns every other.
    pub(super) fn with_sagas(&self, ids: &mut BTreeSet<FactId>) {
        let of = |id: &FactId| self.proposal(id).filter(|p| p.body.saga.is_some()).map(|p| p.body.lineage(*id));
        let mut open: Vec<FactId> = ids.iter().filter_map(of).collect();
        let mut seen = BTreeSet::new();
        while let Some(lineage) = open.pop() {
            if !seen.insert(lineage) {
                continue;
            }
            ids.extend(self.lineages.of(&lineage));
            let Some(p) = self.first_of(&lineage) else { continue };
            let begun = |next: &Recorded<Proposal>| self.starts_in.of(&next.id).next().is_some();
            let behind = self.steps_behind(p).enumerate().filter(|(n, next)| *n < TWINS_MAX || begun(next));
            open.extend(behind.map(|(_, next)| next.id));
            let before = p.body.saga.and_then(|step| step.after).and_then(|id| self.proposal(&id));
            open.extend(before.filter(|before| follows(p, before)).map(|before| before.id));
        }
    }

    /// Whether an owner of a step, or somebody who was, said that it will not be done.
    pub(super) fn may_abort(&self, abort: &Recorded<Aborted>, authority: &Authority) -> bool {
        let step = self.first_of(&abort.body.proposal);
        step.is_some_and(|p| {
            abort.header.scope == p.header.scope && ever_owned(&abort.header.author, &p.body.resource, authority)
        })
    }

    /// The word of a step's owner that it will not be done. Of somebody who owned it before, as long as nobody else has begun it.
    #[must_use]
    pub fn aborted(&self, lineage: &FactId, authority: &Authority) -> Option<&Recorded<Aborted>> {
        let step = self.first_of(lineage)?;
        let mut aborts = self.aborts.on(lineage).filter(|abort| self.may_abort(abort, authority)).peekable();
        aborts.peek()?;
        let owner = self.owner_of(&step.body.resource, authority).map(|owner| owner.author);
        aborts.find(|abort| {
            let author = abort.header.author;
            Some(author) == owner || !self.begun(step, authority).any(|s| s.header.author != author)
        })
    }

    /// What became of a step, by its lineage.
    #[must_use]
    pub fn fate(&self, lineage: &FactId, authority: &Authority) -> Fate<'_> {
        if let Some(abort) = self.aborted(lineage, authority) {
            return Fate::Over(&abort.header, abort.body.reason.clone());
        }
        let mut fate = Fate::Open;
        let Some(step) = self.proposal(lineage) else { return fate };
        let owner = self.owner_of(&step.body.resource, authority).map(|owner| owner.author);
        let by_owner = |s: &&Recorded<Started>| Some(s.header.author) == owner;
        let present = self.begun(step, authority).any(|s| by_owner(&s));
        for start in self.begun(step, authority).filter(|s| !present || by_owner(s)) {
            let of_start = self.fate_of_start(start, authority);
            if rank(&of_start) > rank(&fate) {
                fate = of_start;
            }
        }
        fate
    }

    fn fate_of_start(&self, start: &Recorded<Started>, authority: &Authority) -> Fate<'_> {
        let asked = self.permits.get(&start.body.permit).is_none_or(|p| !p.body.post_checks.is_empty());
        let word = self.word_on(start, authority).map(|word| word.happened);
        let (mut done, mut verified, mut undoing, mut stuck) = (word == Some(true), word == Some(true), false, false);
        let (mut ended, mut failed, mut unknown) = (false, word == Some(false), false);
        for report in self.reports_on(&start.id) {
            match &report.body {
                Report::Compensated(c) => {
                    return Fate::Over(&report.header, format!("it was taken back: {}", c.effect_ref));
                }
                Report::Done(_) => done = true,
                Report::Verified(_) => verified = true,
                Report::VerifyFailed(_) => {}
                // Whoever takes something back went by that it was done.
                Report::Compensating(_) => (done, undoing) = (true, true),
                Report::CompensationFailed(_) => (done, stuck) = (true, true),
                Report::Ended(_) => ended = true,
                Report::Failed(f) => failed |= f.probed_no_effect,
                Report::Unknown(_) => unknown = true,
            }
        }
        match () {
            () if ended && asked && !verified => Fate::Lapsed,
            () if ended => Fate::Ended,
            () if done && stuck => Fate::Stuck,
            () if done && (undoing || (asked && !verified)) => Fate::Unsettled,
            () if done => Fate::Done,
            // Another try may come, until its owner gives it up.
            () if failed => Fate::Open,
            // Nobody is left who could say.
            () if unknown || is_gone(&start.header, authority) => Fate::Unknown,
            () => Fate::Begun,
        }
    }

    /// What a step of a saga waits for before it may be permitted or begun: all steps must be here, and the one before it done.
    #[must_use]
    pub fn awaits_step(&self, p: &Recorded<Proposal>, authority: &Authority) -> Option<String> {
        let step = p.body.saga?;
        if planted::active("step-out-of-turn") {
            return None;
        }
        let steps = self.saga(p, authority);
        if let Some(missing) = (1..=step.of).find(|n| !steps.contains_key(n)) {
            return Some(format!(
                "step {missing} of {} of its saga is not here, and half a saga is not begun",
                step.of
            ));
        }
        if let Some(why) = steps.values().find_map(|step| self.saga_counts(step).err()) {
            return Some(why);
        }
        let (n, before) = steps.range(..step.index).next_back()?;
        let name = format!("step {n} ({})", before.id.short());
        match self.fate(&before.id, authority) {
            Fate::Done | Fate::Ended => None,
            Fate::Over(_, why) => Some(format!("{name} will not be done: {why}")),
            Fate::Lapsed => Some(format!("{name} was over by its own time before its checks had come out")),
            Fate::Unsettled => Some(format!("waits for {name}, whose checks have not come out or which is taken back")),
            Fate::Stuck => Some(format!("waits for {name}, which was to be taken back and could not be")),
            Fate::Unknown => Some(format!("waits for {name}, of which nobody knows whether it happened")),
            Fate::Open | Fate::Begun => Some(format!("waits for {name}, which is not done")),
        }
    }

    /// The first step before `p` that is over, and why.
    fn over_before(&self, p: &Recorded<Proposal>, authority: &Authority) -> Option<String> {
        let index = p.body.saga?.index;
        let (n, _, why) = self.over(p, authority)?;
        (n < index).then_some(why)
    }

    /// The first other step that is over, and why: then `p` must not happen either.
    pub(super) fn over(&self, p: &Recorded<Proposal>, authority: &Authority) -> Option<(u32, &Origin, String)> {
        let index = p.body.saga?.index;
        let others = self.saga(p, authority).into_iter().filter(|(n, _)| *n != index);
        others.into_iter().find_map(|(n, other)| match self.fate(&other.id, authority) {
            Fate::Over(by, why) => {
                Some((n, by, format!("saga.step: step {n} ({}) will not be done: {why}", other.id.short())))
            }
            _ => None,
        })
    }

    /// Why what was done as a step is to be taken back: the next step is over, or an earlier one and nothing is left behind it.
    /// Later steps go first: none of them may stand, or be begun. One that says to be a step beside another takes nothing back as
    /// long as that stands.
    #[must_use]
    pub fn rolls_back(&self, p: &Recorded<Proposal>, authority: &Authority) -> Option<String> {
        let step = p.body.saga?;
        // A store that lost its word and went on.
        if let Some(abort) = self.aborted(&p.body.lineage(p.id), authority) {
            return Some(format!("this step was given up: {}", abort.body.reason));
        }
        let steps = self.saga(p, authority);
        let mut before = self.first_of(&p.body.lineage(p.id))?;
        for n in step.index + 1..=step.of {
            let next = steps.get(&n)?;
            let twins = self.steps_behind(before).map(|twin| (twin, self.fate(&twin.id, authority)));
            let (mut over, mut left) = (None, false);
            for (twin, fate) in twins {
                match fate {
                    Fate::Over(_, why) => over = over.or(Some((twin, why))),
                    // Nothing is left of it, so what lies behind it tells.
                    Fate::Ended | Fate::Lapsed => {}
                    // With a rival it is never permitted.
                    Fate::Open => left = true,
                    _ => return None,
                }
            }
            match over {
                Some((twin, why)) => return Some(format!("step {n} ({}) did not happen: {why}", twin.id.short())),
                None if left => return None,
                None => before = next,
            }
        }
        self.over_before(p, authority)
    }

    /// The last step behind `p` that stands, or may: it is taken back first. What nobody could take back, or knows about, is for
    /// people to decide.
    #[must_use]
    pub fn stands_behind(&self, p: &Recorded<Proposal>, authority: &Authority) -> Option<(u32, &Recorded<Proposal>)> {
        let index = p.body.saga?.index;
        let stands =
            |p: &Recorded<Proposal>| matches!(self.fate(&p.id, authority), Fate::Begun | Fate::Done | Fate::Unsettled);
        self.saga(p, authority).into_iter().rev().find(|(n, p)| *n > index && stands(p))
    }

    /// The state of a step: of the proposal of its lineage that got furthest.
    #[must_use]
    pub fn step_state(&self, first: &Recorded<Proposal>, authority: &Authority, now_ms: u64) -> Option<State> {
        let of = self.lineage(&first.id).filter(|p| p.id == first.id || self.proposal_counts(p, authority).is_ok());
        let states: Vec<State> = of.filter_map(|p| self.status(&p.id, authority, now_ms)).map(|s| s.state).collect();
        let begun = states.iter().find(|s| s.is_started());
        let open = states.iter().find(|s| s.is_open());
        let last = states.iter().find(|s| **s != State::Superseded);
        begun.or(open).or(last).or(states.first()).copied()
    }

    /// One sentence: which step of how many it is, and what hangs on it.
    #[must_use]
    pub fn saga_says(&self, p: &Recorded<Proposal>, authority: &Authority, now_ms: u64) -> Option<String> {
        let step = p.body.saga?;
        let before = step.after.and_then(|id| self.proposal(&id));
        let Some(before) = before else {
            return Some(format!("step 1 of {} of a saga; if a later step does not happen it is taken back", step.of));
        };
        let state = self.step_state(before, authority, now_ms);
        let state = state.and_then(|s| serde_json::to_value(s).ok()).and_then(|v| v.as_str().map(str::to_owned));
        let (short, state) = (before.id.short(), state.unwrap_or_default());
        Some(format!(
            "step {} of {} of a saga, after {short} ({state}); if it does not happen {short} is taken back",
            step.index, step.of
        ))
    }
}

/// Whether a proposal is the step behind another one, as both say: nobody hangs a step on what somebody else proposed.
fn follows(next: &Recorded<Proposal>, before: &Recorded<Proposal>) -> bool {
    let Some((n, b)) = next.body.saga.zip(before.body.saga) else { return false };
    n.fits().is_ok()
        && next.body.lineage.is_none()
        && before.body.lineage.is_none()
        && n.after == Some(before.id)
        && (n.of, Some(n.index)) == (b.of, b.index.checked_add(1))
        && (planted::active("step-by-anybody")
            || (next.body.agent == before.body.agent && next.header.author == before.header.author))
        && next.header.scope == before.header.scope
}

/// Which of several starts of a step tells what became of it. What is over stays so: others went by it.
fn rank(fate: &Fate<'_>) -> u8 {
    match fate {
        Fate::Open => 0,
        Fate::Lapsed => 1,
        Fate::Ended => 2,
        Fate::Unknown => 3,
        Fate::Begun => 4,
        Fate::Done => 5,
        Fate::Unsettled => 6,
        Fate::Stuck => 7,
        Fate::Over(..) => 8,
    }
}
