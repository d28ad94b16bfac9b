//! Terms of the council as they are handed in, and forks of the chain that call for one.

use super::{Authority, Entry, EntryBody, Term};
use crate::charter::COUNCIL_MAX;
use crate::ids::{AuthorId, FactId};
use crate::planted;
use crate::scope::Scope;

/// What became of a term that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermOutcome {
    /// It began, at this index.
    Began(u64),
    /// It is here already, with all signatures that matter.
    Known,
    /// It waits for the entry that it builds on.
    Waits,
    /// It is kept and does not begin, and why: the council signed it, but something else stands there.
    Beside(String),
    /// It is not kept, and why.
    Refused(String),
}

impl Authority {
    /// Takes terms in that were kept, in any order: one may be signed by keys that an entry behind another brings.
    pub fn apply_terms<'b>(&mut self, terms: impl IntoIterator<Item = &'b EntryBody>) {
        let terms: Vec<&EntryBody> = terms.into_iter().collect();
        let is_news = |outcome| !matches!(outcome, TermOutcome::Known | TermOutcome::Refused(_));
        // All again: while those before it were missing, one may have had to make room.
        while terms.iter().filter(|body| is_news(self.apply_term(body))).count() > 0 {}
    }

    /// Takes a term in, from a file or from a peer. It needs no place in anybody's chain, and may come before what it
    /// builds on. Nothing of the signatures is believed before that is here.
    ///
    /// Anybody may send one: a walk over the chain is done once for each that people signed, and for no copy of it.
    pub fn apply_term(&mut self, body: &EntryBody) -> TermOutcome {
        let term = match body.entry() {
            Ok(Entry::Term(term)) => term,
            Ok(_) => return TermOutcome::Refused("this entry is no term; hand it to the sequencer".into()),
            Err(why) => return TermOutcome::Refused(format!("the term cannot be read: {why}")),
        };
        let id = Term::id(&self.fold.mesh, body);
        if self.fold.places.contains_key(&id) {
            return TermOutcome::Known;
        }
        if body.signatures.len() > 2 * COUNCIL_MAX {
            return TermOutcome::Refused("it carries more signatures than there can be signers".into());
        }
        if self.pool.terms().contains_key(&id) {
            if !self.pool.complete_term(&id, body, &self.fold) {
                return TermOutcome::Known;
            }
        } else if let Err(why) = self.keep_term(id, body, &term) {
            return TermOutcome::Refused(why);
        }
        self.rebuild();
        match (self.fold.places.get(&id), self.place_of(body)) {
            (Some(index), _) => TermOutcome::Began(*index),
            (None, None) => TermOutcome::Waits,
            (None, Some(at)) => {
                let judged = self.replay(at).and_then(|fold| fold.judge_term(body, &term).map(|_| ()));
                TermOutcome::Beside(judged.err().unwrap_or_else(|| {
                    "behind the entry that it builds on stands another term, or a change of the council or the \
                     recovery keys; draft it on the present head"
                        .into()
                }))
            }
        }
    }

    /// Keeps a new term that those signed who may where it stands, or who might where that is not known yet.
    fn keep_term(&mut self, id: FactId, body: &EntryBody, term: &Term) -> Result<(), String> {
        let signed = match self.place_of(body) {
            Some(at) => self.fold.is_signed_by(self.fold.charter_at(at), body),
            None => self.fold.is_signed_by_known(body),
        };
        if !signed && !planted::active("term-by-anybody") {
            if body.prev == self.head() {
                self.fold.judge_term(body, term)?;
            }
            return Err("neither the council nor the recovery keys signed it, as far as is known here".into());
        }
        if self.pool.insert_term(id, body.clone(), &self.fold) {
            return Ok(());
        }
        Err("more terms than an honest council signs are kept here already".into())
    }

    /// Index of the entry that a term builds on; nothing where that is not in the chain here.
    fn place_of(&self, term: &EntryBody) -> Option<u64> {
        term.prev.map_or(Some(0), |prev| self.fold.places.get(&prev).copied())
    }

    /// Terms in the chain, and those that are kept beside it: what a peer may lack.
    pub fn terms(&self) -> impl Iterator<Item = (FactId, &EntryBody)> {
        let begun = self.fold.chain.iter().filter_map(|a| self.pool.term(&a.id).map(|body| (a.id, body)));
        let beside = self.pool.terms().iter().filter(|(id, _)| !self.fold.places.contains_key(*id));
        begun.chain(beside.map(|(id, body)| (*id, body)))
    }

    /// A term that is kept, with every signature that is known.
    #[must_use]
    pub fn kept_term(&self, id: &FactId) -> Option<&EntryBody> {
        self.pool.term(id)
    }

    /// The number of the present term; 0 is the founding's.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.fold.term.0
    }

    /// Index of the entry that began the present term; 0 for the founding.
    #[must_use]
    pub fn term_begun(&self) -> u64 {
        self.fold.term.1
    }

    /// Two facts of `author` for one place of its authority chain are known. From here on it is a proven liar: what it wrote
    /// stays as this node holds it, nothing follows, until the council names a new term.
    pub fn forked(&mut self, author: AuthorId, incarnation: u32, seq: u64) {
        let lowest = self.forked.entry((author, incarnation)).or_insert(seq);
        *lowest = seq.min(*lowest);
        self.revision += 1;
        self.pool.fork(author, incarnation, seq);
        // What stood against a term may lie behind the fork.
        if !self.pool.terms().is_empty() {
            self.rebuild();
        }
    }

    /// Whether authority is frozen: the present sequencer forked its chain at this position.
    #[must_use]
    pub fn frozen(&self) -> Option<u64> {
        self.forked.get(&(self.fold.sequencer(), self.fold.sequencer_life())).copied()
    }

    /// Whether the council has vouched, by a term, for this entry of an earlier sequencer: then no fork of it says anything.
    #[must_use]
    pub fn is_vouched(&self, author: &AuthorId, incarnation: u32, seq: u64) -> bool {
        let over = *author != self.fold.sequencer() || incarnation != self.fold.sequencer_life();
        let end = self.fold.ends.get(&(*author, incarnation)).and_then(|ends| ends.end_of(&Scope::authority()));
        over && end.is_some_and(|end| seq <= end)
    }
}
