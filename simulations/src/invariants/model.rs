//! The reference model: who may say what, read straight from the facts that a node holds. Small, slow, and without a line
//! of the coordinator's ledger, quorum or owner in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_coordinator::bodies::{
    Decision, KIND_DECISION, KIND_RESTRICTION, KIND_VOTE, Outcome, Permit, Proposal, Restriction, Target,
};
use cauldron_coordinator::vote::{Choice, VoteStatement};
use cauldron_identity::authority::{Credential, Entry, EntryBody, Held, KIND_ENTRY, KIND_HELD, Term};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{AuthorId, Digest, FactId, Scope, SshSignature};
use minicbor::Decode;
use minicbor::bytes::ByteVec;

use crate::facts::{Facts, Known, of_kind};
use crate::founding::{DUTY, Founding};
use crate::world::machine::Machine;

/// A signed statement as it stands in a `vote` fact.
#[derive(Decode)]
#[cbor(map)]
struct RawVote {
    #[n(0)]
    statement: ByteVec,
    #[n(1)]
    signature: ByteVec,
}

/// A vote whose signature is an enrolled person's.
#[derive(Debug, Clone)]
pub struct Vote {
    /// Hash of the statement.
    pub id: Digest,
    /// What was said.
    pub statement: VoteStatement,
    /// Whether the person is enrolled no longer.
    pub revoked: bool,
    /// Whether they are on duty.
    pub on_duty: bool,
}

/// One node's facts, with what they say about authority.
pub struct Model<'w> {
    founding: &'w Founding,
    known: &'w Facts,
    hq: AuthorId,
    entries: Vec<(FactId, EntryBody, Entry)>,
    covered: u64,
    /// Terms of the council that this machine keeps.
    terms: Vec<Term>,
    term_ids: Vec<FactId>,
}

impl<'w> Model<'w> {
    /// Reads what a machine holds.
    #[must_use]
    pub fn new(founding: &'w Founding, hq: AuthorId, machine: &'w Machine) -> Self {
        let known = &machine.known;
        let written = of_kind::<EntryBody>(known, KIND_ENTRY).filter(|(f, _)| f.header.author == hq);
        let read = written.filter_map(|(f, b)| from_cbor::<Entry>(b.entry_bytes()).ok().map(|e| (f.id, b, e)));
        let mut entries: Vec<_> = read.collect();
        entries.sort_by_key(|(_, body, _)| body.index);
        let held = of_kind::<Held>(known, KIND_HELD).filter(|(f, _)| f.header.author != hq);
        let covered = held.map(|(_, h)| h.index).max().unwrap_or(0);
        let council = [founding.council.public().into()];
        let signed = machine.terms().into_iter().filter(|b| b.signers(&founding.mesh, &council) == 1);
        let terms = signed.filter_map(|b| match b.entry() {
            Ok(Entry::Term(term)) => Some((term, Term::id(&founding.mesh, &b))),
            _ => None,
        });
        let (terms, term_ids) = terms.unzip();
        Self { founding, known, hq, entries, covered, terms, term_ids }
    }

    fn by_council(&self, body: &EntryBody) -> bool {
        body.signers(&self.founding.mesh, &[self.founding.council.public().into()]) == 1
    }

    /// A person's credentials, and whether the council has taken them away since, in force here.
    fn person(&self, id: &str) -> Option<(Vec<Credential>, bool, bool)> {
        let mut found = None;
        for (_, body, entry) in &self.entries {
            match entry {
                Entry::Person(p) if p.id == id && self.by_council(body) => {
                    found = Some((p.credentials.clone(), p.groups.iter().any(|g| g == DUTY), false));
                }
                Entry::RevokePerson(revoked)
                    if revoked == id && self.by_council(body) && body.index <= self.covered =>
                {
                    if let Some(person) = &mut found {
                        person.2 = true;
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The present life of an author.
    #[must_use]
    pub fn incarnation(&self, author: &AuthorId) -> u32 {
        let begun = self.entries.iter().filter_map(|(_, _, entry)| match entry {
            Entry::Incarnate(i) if i.author == *author => Some(i.incarnation),
            _ => None,
        });
        // For hq, whose chain the authority chain is, a term begins the new life.
        let terms = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
        if *author == self.hq { terms } else { begun.max().unwrap_or(0) }
    }

    /// Whether a fact lies beyond the end of its author's chain, as a `Cut` or a new life names it.
    #[must_use]
    pub fn is_beyond(&self, fact: &Known) -> bool {
        let h = &fact.header;
        if h.author == self.hq
            && let Some(term) = self.terms.get(h.incarnation as usize)
            && h.scope != Scope::authority()
        {
            return term.ends.iter().find(|e| e.scope == h.scope).is_none_or(|end| h.seq > end.seq);
        }
        self.entries.iter().any(|(_, body, entry)| {
            let ends = match entry {
                Entry::Cut(c) if c.author == h.author && c.incarnation == h.incarnation && self.by_council(body) => {
                    &c.ends
                }
                Entry::Incarnate(i) if i.author == h.author && i.incarnation == h.incarnation + 1 => &i.ends,
                _ => return false,
            };
            ends.iter().find(|e| e.scope == h.scope).is_none_or(|end| h.seq > end.seq)
        })
    }

    /// Whether the council cut this author.
    #[must_use]
    pub fn is_cut(&self, author: &AuthorId) -> bool {
        self.entries
            .iter()
            .any(|(_, body, e)| matches!(e, Entry::Cut(c) if c.author == *author) && self.by_council(body))
    }

    /// Every vote on a proposal that some enrolled person's key really signed, by whoever carried it.
    #[must_use]
    pub fn votes_on(&self, proposal: FactId) -> Vec<Vote> {
        let raw = of_kind::<RawVote>(self.known, KIND_VOTE);
        raw.filter_map(|(_, vote)| self.vote(&vote).filter(|v| v.statement.proposal == proposal)).collect()
    }

    fn vote(&self, raw: &RawVote) -> Option<Vote> {
        let statement: VoteStatement = from_cbor(&raw.statement).ok()?;
        let (credentials, on_duty, revoked) = self.person(&statement.person)?;
        let key = credentials.iter().find(|c| c.id() == statement.credential)?.signer()?;
        let signature = SshSignature::from_bytes(&raw.signature)?;
        key.verify("cauldron/vote/v1", &raw.statement, &signature).ok()?;
        let id = Digest::of("cauldron/vote/v1", &raw.statement);
        (statement.mesh == self.founding.mesh).then_some(Vote { id, statement, revoked, on_duty })
    }

    /// Who said no to this proposal, as far as this node can know: people, and hq's vetoes and kills.
    #[must_use]
    pub fn noes(&self, fact: &Known, proposal: &Proposal) -> Vec<String> {
        let votes = self.votes_on(fact.id).into_iter().filter(|v| v.statement.choice == Choice::Deny);
        let mut noes: Vec<String> = votes.map(|v| format!("{} denied it", v.statement.person)).collect();
        let orders = of_kind::<Restriction>(self.known, KIND_RESTRICTION).filter(|(f, _)| f.header.author == self.hq);
        for (restriction, body) in orders {
            let Ok(order) = body.order() else { continue };
            let reaches = restriction.header.scope.site_name().is_none_or(|site| site == proposal.site);
            let hits = match &order.target {
                Target::Lineage(lineage) => *lineage == proposal.lineage(fact.id),
                Target::ActionClass(class) => *class == proposal.action_class,
                Target::Agent(agent) => *agent == proposal.agent,
                Target::Site(site) => *site == proposal.site,
                Target::All => true,
                Target::Build(build) => *build == proposal.agent_build,
                // hq stops no feature in this world.
                Target::Author(..) | Target::Feature(_) => false,
            };
            if hits && reaches && order.mesh == self.founding.mesh {
                noes.push(format!("hq restricted it ({:?})", order.target));
            }
        }
        let decided = of_kind::<Decision>(self.known, KIND_DECISION);
        let denied =
            decided.filter(|(f, d)| d.proposal == fact.id && d.outcome == Outcome::Deny && f.header.author == self.hq);
        noes.extend(denied.map(|_| "hq decided that policy denies it".to_owned()));
        noes
    }

    /// The decision that a permit names, if hq wrote it under the policy of this world and it is no refusal. It may ask for
    /// fewer people than the policy does, when hq was broken into: how many must have agreed is not its word.
    ///
    /// # Errors
    /// A sentence.
    pub fn decision_of(&self, permit: &Permit) -> Result<Decision, String> {
        let fact: &Arc<Known> = self.known.get(&permit.decision).ok_or("its decision is not here")?;
        let decision: Decision = fact.body().ok_or("its decision cannot be read")?;
        let checks = [
            (fact.header.author == self.hq, "its decision is not hq's"),
            (decision.proposal == permit.proposal, "its decision is about another proposal"),
            (matches!(decision.outcome, Outcome::StepUp | Outcome::Allow), "its decision is a refusal"),
            (decision.policy.class_version == self.founding.class_version, "its decision is under a foreign policy"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(why.to_owned()),
            None => Ok(decision),
        }
    }

    /// Distinct people on duty who approved exactly these terms, and neither took it back nor lost their enrolment.
    #[must_use]
    pub fn approvers(&self, permit: &Permit, decision: &Decision, wall_ms: Option<u64>) -> BTreeSet<String> {
        let mut said: BTreeMap<String, Vec<Vote>> = BTreeMap::new();
        for vote in self.votes_on(permit.proposal) {
            said.entry(vote.statement.person.clone()).or_default().push(vote);
        }
        let terms = decision.terms();
        let counts = |v: &Vote| {
            v.statement.choice == Choice::Approve
                && v.on_duty
                && !v.revoked
                && v.statement.terms == terms
                && permit.votes.contains(&v.id)
                && wall_ms.is_none_or(|now| v.statement.expires_ms >= now && self.has_entry(v.statement.authority_head))
        };
        let taken_back = |votes: &[Vote], approval: &Vote| {
            let later = |v: &&Vote| v.statement.issued_ms > approval.statement.issued_ms;
            votes.iter().filter(later).any(|v| v.statement.choice == Choice::Withdraw)
        };
        let approved = said.into_iter().filter(|(_, votes)| votes.iter().any(|v| counts(v) && !taken_back(votes, v)));
        approved.map(|(person, _)| person).collect()
    }

    /// Whether a vote was cast under an entry that is here. One that a term dropped may never come.
    fn has_entry(&self, head: Option<FactId>) -> bool {
        head.is_none_or(|head| self.known.contains_key(&head) || self.term_ids.contains(&head))
    }
}
