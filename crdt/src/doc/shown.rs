//! Documents as they are shown: what they say, what is known of them, their history, who said what.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cauldron_identity::{Digest, Fact};

use super::closed::{Closed, place_of};
use super::document::Document;
use super::epoch::{Epochs, Slot};
use super::late;
use super::look::{self, Blame, Step};
use super::{Applied, DocChange, DocKey, Documents, EpochId, Unfit, View};

impl Epochs {
    /// What became of a change in one of its documents.
    fn verdict(&self, id: &EpochId, document: &Document, fact: &Fact) -> Applied {
        let off = id.number > 0 && self.vouched != Some(*id) && !self.path().contains(id);
        match document.verdict(fact) {
            Applied::Yes if off => self.late_verdict(fact),
            Applied::Refused(Unfit::Late) => self.late_verdict(fact),
            other => other,
        }
    }

    fn late_verdict(&self, fact: &Fact) -> Applied {
        // What a copy had said is owed by itself.
        let said = self.has_said_again(fact) || late::is_copy(fact);
        Applied::Refused(if said { Unfit::SaidAgain } else { Unfit::Late })
    }

    /// The documents of the epochs up to the one in use, in order, whose changes are in it.
    fn in_it(&self) -> impl Iterator<Item = &Document> {
        let current = self.current();
        let beyond = (self.path().last() != Some(&current)).then_some(current);
        let ids = self.path().iter().copied().chain(beyond);
        ids.filter_map(|id| self.held.get(&id)?.here())
    }

    /// How many changes it holds, all epochs together, and how many of them without their facts.
    fn changes(&self) -> (u64, u64) {
        let held = self.in_it().map(|document| (document.written() - document.outside(), document.fence.bare() as u64));
        let closed = self.closed().map(Closed::changes).sum();
        held.fold((closed, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// How many changes were refused, taken out or left outside.
    fn left_out(&self) -> u64 {
        let path = self.path();
        let of = |(id, slot): (&EpochId, &Slot)| {
            if let Some(closed) = slot.closed() {
                return Some(closed.refused.saturating_add(closed.outside));
            }
            let document = slot.here()?;
            let led_on = path.contains(id) || self.vouched == Some(*id);
            let outside = if led_on { document.outside() } else { document.written() };
            Some(document.fence.refused().len() as u64 + outside)
        };
        self.held.iter().filter_map(of).sum()
    }
}

impl Documents {
    /// The documents, by scope and name.
    pub fn keys(&self) -> impl Iterator<Item = &DocKey> {
        self.docs.iter().filter(|(_, epochs)| !epochs.held.is_empty()).map(|(key, _)| key)
    }

    /// A document as people see it.
    #[must_use]
    pub fn view(&self, key: &DocKey) -> Option<Arc<View>> {
        match self.docs.get(key)?.slot()? {
            Slot::Here(document) => Some(document.view()),
            Slot::Away { view, .. } => Some(view.clone()),
            // It is being built anew.
            Slot::Closed(_) => Some(Arc::new(look::empty(key.doc.kind()))),
        }
    }

    /// What is known of a document beside its content.
    #[must_use]
    pub fn status(&self, key: &DocKey) -> Option<DocStatus> {
        let epochs = self.docs.get(key).filter(|epochs| !epochs.held.is_empty())?;
        let away = epochs.held.values().map(|slot| match slot {
            Slot::Here(_) => 0,
            Slot::Closed(closed) => closed.pending.len() as u64,
            Slot::Away { pending, .. } => pending.len() as u64,
        });
        let waiting = away.sum::<u64>() + epochs.ahead.values().map(Vec::len).sum::<usize>() as u64;
        let here = epochs.here();
        let (changes, missing) = here.map_or((0, 0), |_| epochs.changes());
        Some(DocStatus {
            building: here.is_none(),
            epoch: epochs.current().number,
            epochs_missing: epochs.unproven(),
            changes,
            waiting: waiting + here.map_or(0, |document| document.waiting() as u64),
            refused: here.map_or(0, |_| epochs.left_out()),
            missing,
            digest: here.map(Document::digest),
        })
    }

    /// Whether something of a document is being built.
    #[must_use]
    pub fn is_building(&self, key: &DocKey) -> bool {
        self.docs.get(key).is_some_and(|epochs| !epochs.is_quiet())
    }

    /// How many changes a document holds, and how many of them without their facts; none while it is being built.
    #[must_use]
    pub fn size(&self, key: &DocKey) -> Option<(u64, u64)> {
        let epochs = self.docs.get(key)?;
        epochs.here().map(|_| epochs.changes())
    }

    /// How many changes were refused, taken out or left outside.
    #[must_use]
    pub fn left_out(&self, key: &DocKey) -> u64 {
        self.docs.get(key).map_or(0, Epochs::left_out)
    }

    /// The facts whose changes are in a document, in an order in which they apply, as far as they are here; none while it
    /// is being built.
    #[must_use]
    pub fn facts(&self, key: &DocKey) -> Vec<Arc<Fact>> {
        let Some(epochs) = self.docs.get(key) else { return Vec::new() };
        let of = |document: &Document| {
            let inside = document.fence.accepted().iter().filter(|held| !document.is_outside(&held.hash));
            inside.filter_map(|held| held.fact().cloned()).collect::<Vec<_>>()
        };
        epochs.in_it().flat_map(of).collect()
    }

    /// Documents that miss something this node wrote: what it followed was taken out, or its epoch had ended.
    #[must_use]
    pub fn owed(&self) -> Vec<DocKey> {
        let Some(me) = self.me else { return Vec::new() };
        let owed = |epochs: &Epochs| epochs.owes(&me.0) || epochs.here().is_some_and(|document| document.misses(&me));
        self.docs.iter().filter(|(_, epochs)| owed(epochs)).map(|(key, _)| key.clone()).collect()
    }

    /// Every change of a document with what it did, of one epoch, or of all that are not closed: [`Documents::read_closed`] reads
    /// those. None while it is being built.
    #[must_use]
    pub fn history(&self, key: &DocKey, epoch: Option<u32>) -> Option<Vec<Step>> {
        let epochs = self.docs.get(key)?;
        let asked = |id: &EpochId| epoch.is_none_or(|epoch| epoch == id.number);
        let all = || {
            let mut all = Vec::new();
            for (id, slot) in epochs.held.iter().filter(|(id, _)| asked(id)) {
                match slot {
                    Slot::Here(document) => {
                        all.extend(document.history(&|document, fact| epochs.verdict(id, document, fact)));
                    }
                    Slot::Closed(_) => {}
                    Slot::Away { .. } => return None,
                }
            }
            for (id, facts) in epochs.ahead.iter().filter(|(id, _)| asked(id)) {
                let left_out = |fact: &Fact| match epochs.late_verdict(fact) {
                    Applied::Refused(why) if epochs.is_gone(id) => Some(why),
                    _ => Some(Unfit::Waits),
                };
                let step = |fact: &Arc<Fact>| Step { fact: fact.clone(), left_out: left_out(fact), did: Vec::new() };
                all.extend(facts.iter().map(|(fact, counts)| match counts {
                    true => step(fact),
                    false => Step { left_out: Some(Unfit::Cut), ..step(fact) },
                }));
            }
            // Those that are in it first.
            all.sort_by_key(|step| step.left_out.is_some());
            Some(all)
        };
        catch_unwind(AssertUnwindSafe(all)).ok().flatten()
    }

    /// Who set what a document shows; none while it is being built.
    #[must_use]
    pub fn blame(&self, key: &DocKey) -> Option<Vec<Blame>> {
        let document = self.docs.get(key)?.here()?;
        catch_unwind(AssertUnwindSafe(|| document.blame())).ok()
    }

    /// What became of the change in a fact that was fed; none while that is being decided elsewhere.
    #[must_use]
    pub fn verdict(&self, key: &DocKey, fact: &Fact) -> Option<Applied> {
        let epochs = self.docs.get(key)?;
        let body = DocChange::of(fact)?;
        if body.again.is_some() && body.change.is_empty() {
            return Some(Applied::Yes);
        }
        let id = EpochId::of(body.epoch, body.genesis)?;
        match epochs.held.get(&id) {
            Some(Slot::Here(document)) => Some(epochs.verdict(&id, document, fact)),
            Some(Slot::Closed(closed)) => match place_of(fact) {
                place if closed.is_inside(&place) => Some(Applied::Yes),
                place if closed.is_left(&place) => Some(epochs.late_verdict(fact)),
                _ => None,
            },
            Some(Slot::Away { .. }) => None,
            None => Some(Applied::Waiting),
        }
    }
}

/// What is known of a document beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocStatus {
    /// It is being built: what is shown is older, or nothing.
    pub building: bool,
    /// The epoch in use.
    pub epoch: u32,
    /// Epochs before it whose facts are still to come.
    pub epochs_missing: u32,
    /// Changes in it, those of all its epochs.
    pub changes: u64,
    /// Changes that wait for others.
    pub waiting: u64,
    /// Changes that were refused, taken out or left outside.
    pub refused: u64,
    /// Changes in it whose facts are still to come.
    pub missing: u64,
    /// One hash for the set of changes in the epoch in use and what it began from: equal at two nodes exactly when the
    /// documents are.
    pub digest: Option<Digest>,
}
