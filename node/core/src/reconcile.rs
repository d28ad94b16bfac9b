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
        self.work.line.moved(said.started);
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
    use cauldron_coordinator::bodies::{Compensating, KIND_COMPENSATING};
    use cauldron_coordinator::testkit::World;
    use cauldron_identity::FactId;

    use crate::testing::lyon;

    /// What was done before, in which life of its owner, and what was said by whom: whether something comes of it, and whether it is
    /// heard at all.
    fn heard(said_by: (&str, &str), happened: bool, past: bool, before: &dyn Fn(&mut World, FactId)) -> (bool, bool) {
        let mut world = World::new();
        let permit = world.permitted("203.0.113.7");
        let started = world.start(&permit);
        before(&mut world, started);
        if past {
            world.reincarnate_lyon();
        }
        let (person, signer) = said_by;
        let statement = world.word_statement(person, &started, happened);
        let word = Word::sign(&statement, &World::person_key(signer));
        let fact = world.sealed(4, "site/lyon", KIND_RECONCILED, &word);
        let mut core = lyon(&world);
        core.ledger.insert(&fact);
        core.work.line = crate::line::Line::default();
        core.heard_word(&fact);
        (core.work.aftermath.is_open(&permit), core.work.line.is_moved())
    }

    fn lost(world: &mut World, started: FactId) {
        world.lost(&started);
    }

    fn done(world: &mut World, started: FactId) {
        world.done(&started);
    }

    fn taken_back(world: &mut World, started: FactId) {
        world.done(&started);
        let begun = Compensating { started, by: None, reason: "a veto".into(), at_ms: world.clock.wall_ms };
        world.put(3, "site/lyon", KIND_COMPENSATING, &begun);
    }

    #[test]
    fn a_word_of_what_a_past_life_started_is_heard() {
        const ANA: (&str, &str) = ("ana", "ana");
        assert_eq!(heard(ANA, true, false, &lost), (true, true), "its own life's");
        assert_eq!(heard(ANA, true, true, &lost), (true, true));
        assert_eq!(heard(ANA, false, true, &lost), (false, true), "it had no effect: nothing is left to do");
        assert_eq!(heard(ANA, true, true, &taken_back), (true, true), "nobody goes on with it, and that is said");
        assert_eq!(heard(ANA, true, true, &done), (false, true), "its owner knew: a new life checks nothing of it");
    }

    #[test]
    fn a_word_of_nobody_who_may_say_it_is_not_heard() {
        // Not hers; of no group that was asked; not enrolled at all.
        for by in [("ana", "cy"), ("cy", "cy"), ("eve", "eve")] {
            for past in [false, true] {
                for before in [&lost as &dyn Fn(&mut World, FactId), &done, &taken_back] {
                    assert_eq!(heard(by, true, past, before), (false, false), "{by:?}");
                }
            }
        }
    }
}
