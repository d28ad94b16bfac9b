//! What people and programs need of governance beside the list: drafts of edits, deputies, and what was judged.

use cauldron_coordinator::bodies::{DeputyStatement, Proposal};
use cauldron_coordinator::ledger::{Recorded, State, Status, edited};
use cauldron_identity::authority::Entry;
use cauldron_identity::{Clock, Digest, FactId};
use serde_json::Value;

use crate::core::NodeCore;
use crate::view::JudgedView;

impl NodeCore {
    /// The proposal that a person would make of another one by a JSON merge patch for its arguments: for them to sign.
    ///
    /// # Errors
    /// A sentence.
    pub fn edit_draft(&self, id: &FactId, patch: &Value) -> Result<Proposal, String> {
        let parent =
            self.ledger.proposal(id).ok_or_else(|| format!("{} is not a proposal that this node holds", id.short()))?;
        edited(parent, patch, self.catalogue()).map_err(|e| match std::error::Error::source(&e) {
            Some(why) => format!("{e}: {why}"),
            None => e.to_string(),
        })
    }

    /// Where a call of a session stands, with the labels of what came back.
    #[must_use]
    pub fn call_state(&self, now: Clock, id: &FactId) -> Option<(Status, Vec<String>)> {
        let status = self.ledger.status(id, &self.authority, now.wall_ms)?;
        let labels = self.ledger.proposal(id).map(|p| self.ledger.labels_read(p, &self.authority)).unwrap_or_default();
        Some((status, labels))
    }

    /// The session that a call belongs to; an edit or a modification belongs to that of what it came from.
    #[must_use]
    pub fn session_of_call(&self, id: &FactId) -> Option<Digest> {
        let call = self.ledger.proposal(id)?;
        self.ledger.ancestors(call).find_map(|p| p.body.session.as_ref()).map(|step| step.id)
    }

    /// The steps of a session that are here, the first first.
    #[must_use]
    pub fn session_steps(&self, now: Clock, session: &Digest) -> Vec<(Recorded<Proposal>, State, Vec<String>)> {
        let Some((_, head)) = self.ledger.session_head(session) else { return Vec::new() };
        let steps = self.ledger.history(head).into_iter().chain([head]);
        let view = |p: &Recorded<Proposal>| {
            let (status, labels) = self.call_state(now, &p.id)?;
            Some((p.clone(), status.state, labels))
        };
        steps.filter_map(view).collect()
    }

    /// Every word of people about deputies that counts now.
    #[must_use]
    pub fn deputies(&self) -> Vec<(Digest, DeputyStatement)> {
        self.ledger.deputy_statements(&self.authority)
    }

    /// What was judged, by time and id: decisions of coordinators and reads of nodes, those behind `after`.
    #[must_use]
    pub fn judged(&self, after: Option<(u64, FactId)>, most: usize) -> Vec<JudgedView> {
        let decided = self.ledger.proposals().flat_map(|p| self.ledger.decisions_on(&p.id).map(move |d| (p, d)));
        let decided = decided.map(|(p, d)| JudgedView::of_decision(d.id, &p.body, &d.body));
        let read = self.ledger.all_reads().map(|r| JudgedView::of_read(r.id, &r.body));
        let mut all: Vec<JudgedView> =
            decided.chain(read).filter(|j| after.is_none_or(|a| (j.at_ms, j.id) > a)).collect();
        all.sort_by_key(|j| (j.at_ms, j.id));
        all.truncate(most);
        all
    }

    /// The bundle with this digest, packed, where the authority chain ever activated it and it is here.
    #[must_use]
    pub fn bundle(&self, digest: &Digest) -> Option<Vec<u8>> {
        let activated = self.authority.entries().filter_map(|a| match &a.entry {
            Some(Entry::Activate(a)) if a.digest == *digest => Some(a.bundle),
            _ => None,
        });
        activated.filter_map(|id| self.log.get(&id)).find_map(|fact| fact.body().map(<[u8]>::to_vec))
    }
}
