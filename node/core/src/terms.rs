//! Terms of the council as this node takes, keeps and tells them.

use cauldron_identity::authority::{EntryBody, Term, TermOutcome};

use crate::core::NodeCore;
use crate::frame::Frame;
use crate::input::{Event, LinkId};
use crate::local;

/// Terms kept in memory that nobody known here signed.
const UNJUDGED_MAX: usize = 8;

impl NodeCore {
    /// Takes those that can be judged now, in any order; returns the others.
    pub(crate) fn take_terms(&mut self, terms: &[EntryBody]) -> Vec<EntryBody> {
        loop {
            let (mut refused, mut news) = (Vec::new(), false);
            for body in terms {
                match self.take_term(body) {
                    TermOutcome::Refused(_) => refused.push(body.clone()),
                    TermOutcome::Known => {}
                    TermOutcome::Began(_) | TermOutcome::Waits | TermOutcome::Beside(_) => news = true,
                }
            }
            if !news {
                return refused;
            }
        }
    }

    /// Takes a term in, from wherever it comes. What is new is durable and told to every peer before anything else.
    pub(crate) fn take_term(&mut self, body: &EntryBody) -> TermOutcome {
        let outcome = self.authority.apply_term(body);
        if matches!(outcome, TermOutcome::Began(_) | TermOutcome::Waits | TermOutcome::Beside(_)) {
            let id = Term::id(&self.authority.mesh(), body);
            // With all its signatures, not those of this copy alone.
            if let Some(whole) = self.authority.kept_term(&id).cloned() {
                self.persist(local::term(&id, &whole));
                self.work.stored_terms.insert(id);
                self.tell_term(&whole);
            }
            self.forget_terms();
            self.after_entries();
        }
        outcome
    }

    /// A term that made room for another leaves the store too.
    pub(crate) fn forget_terms(&mut self) {
        let authority = &self.authority;
        let gone: Vec<_> = self.work.stored_terms.extract_if(.., |id| authority.kept_term(id).is_none()).collect();
        for id in gone {
            self.persist(local::no_term(&id));
        }
    }

    /// The chain may have grown, or a term may have taken entries out of it.
    pub(crate) fn after_entries(&mut self) {
        let (n, sequencer) = (self.authority.term(), self.authority.sequencer().spiffe_id.clone());
        if std::mem::replace(&mut self.term_seen, n) != n {
            // What this node said it holds may not be the chain any more.
            self.recall_held();
            if self.opened {
                self.tell(Event::Term { n, sequencer });
            }
        }
        let unjudged = std::mem::take(&mut self.work.unjudged);
        self.work.unjudged = self.take_terms(&unjudged);
        self.become_incarnation();
        self.hold.index = self.hold.index.min(self.authority.index());
        self.seen_index = u64::MAX;
        (self.recount, self.rights_moved, self.dirty) = (true, true, true);
    }

    /// Tells every enrolled peer a new term of the council. From a stranger one is taken, since a successor may be one here.
    fn tell_term(&mut self, body: &EntryBody) {
        let links: Vec<LinkId> = self.links.iter().filter(|(_, p)| !p.shared.is_empty()).map(|(l, _)| *l).collect();
        for link in links {
            self.send(link, &Frame::Term(Box::new(body.clone())));
        }
    }

    pub(crate) fn term_told(&mut self, link: LinkId, body: &EntryBody) {
        match self.take_term(body) {
            TermOutcome::Began(_) => self.authority_changed(),
            TermOutcome::Known | TermOutcome::Waits | TermOutcome::Beside(_) => {}
            TermOutcome::Refused(why) => {
                let member = self.links.get(&link).is_some_and(|p| !p.shared.is_empty());
                if member && !self.work.unjudged.contains(body) {
                    if self.work.unjudged.len() >= UNJUDGED_MAX {
                        self.work.unjudged.remove(0);
                    }
                    self.work.unjudged.push(body.clone());
                }
                let peer = self.links.get(&link).map(|p| p.spiffe_id.to_string()).unwrap_or_default();
                self.count_refusal("term", format!("a term from {peer}: {why}"));
            }
        }
    }
}
