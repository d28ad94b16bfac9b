//! Effects of which nobody knows whether they happened, and people who found out.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{KIND_RECONCILED, Proposal, REASON_LEN_MAX, Started, Word};
use cauldron_coordinator::ledger::{Recorded, State, Status};
use cauldron_identity::Fact;
use cauldron_identity::codec::to_cbor;

use crate::core::NodeCore;
use crate::input::{Refusal, Reply};

impl NodeCore {
    /// Carries a person's word of what became of a start.
    pub(crate) fn reconcile(&mut self, word: &Word) -> Result<Reply, Refusal> {
        self.may_write()?;
        let (statement, person) =
            word.verify(&self.authority).map_err(|e| Refusal::new("word_invalid", e.to_string()))?;
        let (reason, long) = (&statement.reason, statement.reason.len() > REASON_LEN_MAX);
        if reason.trim().is_empty() || long || reason.chars().any(char::is_control) {
            let sentence = format!("say how you know, in one line of at most {REASON_LEN_MAX} bytes");
            return Err(Refusal::new("bad_reason", sentence));
        }
        let unknown = || Refusal::new("unknown_start", "no such start is here; ask a node of its site");
        let start = self.ledger.start(&statement.started).ok_or_else(unknown)?;
        if !self.ledger.is_unknown(start, &self.authority) {
            let sentence = "its owner knows what became of it, or may still say so; `cauldron why` says more";
            return Err(Refusal::new("not_unknown", sentence));
        }
        self.ledger.may_say(start, &person, &self.authority).map_err(|why| Refusal::new("not_a_reconciler", why))?;
        let (scope, deps, trace) = (start.header.scope.clone(), vec![start.id], start.header.traceparent.clone());
        self.append(scope, KIND_RECONCILED, deps, to_cbor(word), trace).map(|f| Reply::Recorded(f.id()))
    }

    /// What this node started and people say to have happened may have to be taken back.
    pub(crate) fn heard_word(&mut self, fact: &Fact) {
        if fact.header().kind != KIND_RECONCILED {
            return;
        }
        let said = fact.decode_body::<Word>().ok().and_then(|word| word.statement().ok());
        let start = said
            .and_then(|s| self.ledger.start(&s.started))
            .filter(|s| (s.header.author, s.header.incarnation) == (self.me, self.incarnation));
        if let Some(permit) = start.map(|s| s.body.permit) {
            self.work.aftermath.look_at(permit);
            self.work.line_moved = true;
        }
    }

    /// Whether people say of a start that it happened, where this node does not know.
    pub(crate) fn happened_by_word(&self, start: &Recorded<Started>) -> Option<bool> {
        self.ledger.word_on(start, &self.authority).map(|word| word.happened)
    }

    /// Whether something of a proposal's lineage was started, and all of it had no effect by people's word: it may be wanted again.
    pub(crate) fn is_free_by_word(&self, proposal: &Recorded<Proposal>) -> bool {
        let lineage = proposal.body.lineage(proposal.id);
        let of = self.ledger.lineage(&lineage);
        let mut starts = of.flat_map(|p| self.ledger.starts_of(&p.id, &self.authority)).peekable();
        starts.peek().is_some() && starts.all(|s| self.happened_by_word(s) == Some(false))
    }

    /// What a person can do about something of which nobody knows whether it happened.
    pub(crate) fn why_unknown(&self, status: &Status) -> Option<String> {
        let start = status.started.filter(|_| status.state == State::Unknown)?;
        let groups: BTreeSet<String> = self.ledger.reconcilers(self.ledger.start(&start)?);
        let groups: Vec<String> = groups.into_iter().collect();
        Some(format!(
            "if nobody can tell by the record, somebody of {} looks, and says so: cauldron reconcile {} --happened yes|no --reason TEXT",
            groups.join(", "),
            status.id.short()
        ))
    }
}
