//! A closed epoch, read again: beside the loop, since it is built from its facts.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cauldron_identity::Fact;

use super::{Closed, Place, Positions, place_of};
use crate::doc::document::Document;
use crate::doc::epoch::{Epochs, Found};
use crate::doc::late::is_copy;
use crate::doc::{Applied, DocKey, Documents, Step, Unfit};

/// A closed epoch with its facts. Reading it takes as long as building it: some tenths of a second for a full one.
#[derive(Debug)]
pub struct Reading {
    document: Document,
    found: Found,
    /// What was left outside and said again since.
    said: BTreeSet<Place>,
}

impl Reading {
    /// Every change of it with what it did: those in it, in an order in which they apply, then those that are left out. None when
    /// Automerge cannot.
    #[must_use]
    pub fn history(mut self) -> Option<Vec<Step>> {
        let read = || {
            while self.document.cost() > 0 {
                self.document.step();
            }
            self.document.ends_so(Some(&self.found));
            let mut steps = self.document.history(&|document, fact| match document.verdict(fact) {
                Applied::Refused(Unfit::Late) if self.said.contains(&place_of(fact)) || is_copy(fact) => {
                    Applied::Refused(Unfit::SaidAgain)
                }
                other => other,
            });
            steps.sort_by_key(|step| step.left_out.is_some());
            steps
        };
        catch_unwind(AssertUnwindSafe(read)).ok()
    }
}

impl Documents {
    /// The epochs of a document that are closed, and how many changes each holds.
    pub fn closed_epochs(&self, key: &DocKey) -> impl Iterator<Item = (u32, u64)> {
        let closed = self.docs.get(key).into_iter().flat_map(Epochs::closed);
        closed.map(|closed| (closed.id.number, closed.changes()))
    }

    fn closed_of(&self, key: &DocKey, epoch: u32) -> Option<&Closed> {
        self.docs.get(key)?.closed().find(|closed| closed.id.number == epoch)
    }

    /// The facts that were written to a closed epoch; none when it is not closed.
    #[must_use]
    pub fn positions(&self, key: &DocKey, epoch: u32) -> Option<Vec<Positions>> {
        self.closed_of(key, epoch).map(Closed::positions)
    }

    /// A closed epoch, to be read, from all its facts and whether each counts: each author's in the order of their chain.
    #[must_use]
    pub fn read_closed(&self, key: &DocKey, epoch: u32, facts: Vec<(Arc<Fact>, bool)>) -> Option<Reading> {
        let (epochs, closed) = (self.docs.get(key)?, self.closed_of(key, epoch)?);
        let mut document = epochs.begin_again(key, closed)?;
        facts.into_iter().for_each(|(fact, counts)| document.feed(fact, counts));
        let said = closed.left().filter(|place| epochs.is_said_again(place)).collect();
        Some(Reading { document, found: closed.found.clone(), said })
    }
}
