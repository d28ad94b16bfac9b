//! Effects of which nobody knows whether they happened, and people who found out.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{KIND_RECONCILED, Proposal, REASON_LEN_MAX, Started, Word};
use cauldron_coordinator::ledger::{Recorded, Report, State, Status};
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

    /// What this node started and people who may say to have happened counts, and may have to be taken back. What a past life started no
    /// longer can be, and that is said; nothing else is done about it.
    pub(crate) fn heard_word(&mut self, fact: &Fact) {
        if fact.header().kind != KIND_RECONCILED {
            return;
        }
        let said = fact.decode_body::<Word>().ok().and_then(|word| word.verify_then(&self.authority).ok());
        let Some((said, person)) = said else { return };
        let start = self.ledger.start(&said.started).filter(|s| s.header.author == self.me);
        let Some(start) = start.filter(|s| self.ledger.may_say(s, &person, &self.authority).is_ok()) else { return };
        let begun = || self.ledger.reports_on(&start.id).any(|r| matches!(r.body, Report::Compensating(_)));
        let goes_on =
            start.header.incarnation == self.incarnation || self.happened_by_word(start) == Some(true) || begun();
        let permit = start.body.permit;
        if goes_on {
            self.work.aftermath.look_at(permit);
        }
        self.work.line_moved = true;
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
        let groups: BTreeSet<String> = self.ledger.reconcilers(self.ledger.start(&start)?, &self.authority);
        let groups: Vec<String> = groups.into_iter().collect();
        Some(format!(
            "if nobody can tell by the record, somebody of {} looks, and says so: cauldron reconcile {} --happened yes|no --reason TEXT",
            groups.join(", "),
            status.id.short()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cauldron_coordinator::bodies::{KIND_STARTED, WordStatement};
    use cauldron_identity::charter::Seat;
    use cauldron_identity::{Digest, FactId, HeaderDraft, Scope};

    use crate::testing::{NOW, charter, config, key};

    #[test]
    fn a_word_of_what_a_past_life_started_is_heard() {
        let hq = "spiffe://acme.test/coordinator/hq";
        let charter = charter(Seat { author: key(1).public(), spiffe_id: hq.into() });
        let mut core =
            NodeCore::open(config(key(1), hq, &charter), std::collections::BTreeMap::new(), NOW).expect("it opens");
        core.incarnation = 1;
        let seal = |author: u8, kind: &str, body: Vec<u8>| {
            let draft = HeaderDraft {
                mesh: charter.mesh_id(),
                scope: Scope::site("lyon").expect("a scope"),
                incarnation: 0,
                seq: 1,
                prev: None,
                hlc: 0,
                kind: kind.into(),
                deps: vec![],
                traceparent: None,
            };
            Fact::seal(&key(author), draft, body)
        };
        for (author, heard) in [(9, false), (1, true)] {
            let permit = FactId::from_bytes([author; 32]);
            let started = Started {
                permit,
                proposal: FactId::from_bytes([2; 32]),
                lineage: FactId::from_bytes([2; 32]),
                resource: "lyon/lyon/folder/a".into(),
                intent_key: "i".into(),
                owner_seq: 1,
                idempotency_key: "k".into(),
                input_digest: Digest::of("input", b""),
                started_ms: 1,
            };
            let started = seal(author, KIND_STARTED, to_cbor(&started));
            core.ledger.insert(&started);
            let said = WordStatement {
                mesh: charter.mesh_id(),
                person: "ana".into(),
                credential: Digest::of("credential", b""),
                authority_head: None,
                started: started.id(),
                happened: true,
                reason: "looked".into(),
                issued_ms: 2,
                nonce: Digest::of("nonce", b""),
            };
            core.work.line_moved = false;
            core.heard_word(&seal(7, KIND_RECONCILED, to_cbor(&Word::sign(&said, &key(3)))));
            assert_eq!((core.work.aftermath.is_open(&permit), core.work.line_moved), (heard, heard), "{author}");
        }
    }
}
