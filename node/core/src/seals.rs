//! Ending epochs of documents: who folds one that is nearly full, and says so.
//!
//! Every reader could, and two must. So each waits for a time of its own, and whoever comes first spares the others, as
//! [`crate::hold`] does for the authority chain. The second confirms the first one's finding rather than having its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use cauldron_crdt::doc::{Applied, KIND_SEAL, SealDue};
use cauldron_identity::Fact;

use crate::core::NodeCore;
use crate::docs::counts;
use crate::hold::share;

/// A document that is due is sealed within this for each member of the mesh, milliseconds.
const SEAL_MS: u64 = 20;
/// What could not be sealed is looked at again after this, milliseconds.
const FOLD_MS: u64 = 1_000;

/// When this node says that an epoch ends.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    due: BTreeMap<SealDue, u64>,
}

impl Seals {
    /// Whether it is time to look.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.due.values().any(|at| *at <= now_ms)
    }

    /// When there is something to say, boot time in milliseconds. What is being folded comes back by itself.
    pub(crate) fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        self.due.values().filter(|at| **at > now_ms).min().copied()
    }
}

impl NodeCore {
    /// Takes a seal in. At the start only its place is noted.
    pub(crate) fn fold_seal(&mut self, fact: &Arc<Fact>) {
        let counts = counts(&self.authority, &self.log, fact);
        let applied = if self.opened {
            self.docs.apply_seal(fact, counts)
        } else {
            self.docs.feed_seal(fact, counts).err().unwrap_or(Applied::Yes)
        };
        if let Applied::Refused(why) = applied {
            self.count_refusal(why.code(), format!("the seal of a document: {why}"));
        }
    }

    /// Seals the documents that are due.
    pub(crate) fn seal(&mut self) {
        let now_ms = self.now.boottime_ms;
        let may = |due: &SealDue| {
            self.readable().contains(&due.key.scope) && self.authority.may_write(&self.me, &due.key.scope, KIND_SEAL)
        };
        let all = if self.may_write().is_ok() { self.docs.seals_due() } else { Vec::new() };
        let all: Vec<SealDue> = all.into_iter().filter(may).collect();
        // While it is being folded, nothing is due.
        self.seals.due.retain(|due, _| all.contains(due) || self.docs.is_building(&due.key));
        let window = SEAL_MS * self.authority.members().count() as u64;
        for due in all {
            let next = due.next.or(due.epoch.genesis);
            let name = format!("{}\0{}", due.key.scope, due.key.doc);
            let next = next.as_ref().map_or(&[][..], |next| next.as_bytes());
            let mine = share(&[self.me.as_bytes(), name.as_bytes(), next].concat(), window);
            let at = *self.seals.due.entry(due.clone()).or_insert(now_ms + mine);
            if at > now_ms {
                continue;
            }
            let Some(body) = self.docs.seal(&due) else {
                if !self.docs.is_building(&due.key) {
                    self.seals.due.insert(due, now_ms + FOLD_MS);
                }
                continue;
            };
            self.seals.due.remove(&due);
            if let Err(why) = self.append(due.key.scope.clone(), KIND_SEAL, vec![], body, None) {
                self.count_refusal(why.code, why.reason);
            }
        }
    }
}
