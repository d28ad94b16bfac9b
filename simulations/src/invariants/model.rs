//! The reference model: who may say what, read straight from the facts that a node holds. Small, slow, and without a line
//! of the coordinator's ledger, quorum or owner in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_coordinator::bodies::{
    Decision, Deputy, KIND_DECISION, KIND_DEPUTY, KIND_PROPOSAL, KIND_RESTRICTION, KIND_VOTE, Outcome, Permit,
    Proposal, Restriction, Target, WindowClosed,
};
use cauldron_coordinator::vote::{Choice, VoteStatement};
use cauldron_identity::authority::{Credential, Entry, EntryBody, Held, KIND_ENTRY, KIND_HELD, Term};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::isolation::IsolationGrant;
use cauldron_identity::{AuthorId, AuthorKey, Digest, FactId, Scope, SshSignature};
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

/// How people came to agree.
#[derive(Debug, Clone, Copy)]
pub struct Agreed {
    /// Without deputies it would not have been enough.
    pub deputies: bool,
    /// By silence.
    pub silence: bool,
}

/// The most people of whom each sits for another one.
fn most_seated(rights: &[(String, Vec<String>)], taken: &BTreeSet<String>) -> BTreeSet<String> {
    let Some(((who, held), rest)) = rights.split_first() else { return BTreeSet::new() };
    let without = most_seated(rest, taken);
    let with = held.iter().filter(|right| !taken.contains(*right)).map(|right| {
        let mut taken = taken.clone();
        taken.insert(right.clone());
        let mut seated = most_seated(rest, &taken);
        seated.insert(who.clone());
        seated
    });
    with.chain([without]).max_by_key(BTreeSet::len).unwrap_or_default()
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
    machine: &'w Machine,
}

impl<'w> Model<'w> {
    /// Reads what a machine holds.
    #[must_use]
    pub fn new(founding: &'w Founding, machine: &'w Machine) -> Self {
        let hq = AuthorKey::from_seed(&founding.hq_seed).author_id();
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
        Self { founding, known, hq, entries, covered, terms, term_ids, machine }
    }

    /// Whether the charter seats this author as a coordinator.
    #[must_use]
    pub fn coordinates(&self, author: &AuthorId) -> bool {
        self.founding.coordinators.contains(author)
    }

    /// Whether a permit is a coordinator's, of whom the site's grant names, or the owner's own by a token.
    #[must_use]
    pub fn may_permit(&self, fact: &Known, permit: &Permit) -> bool {
        let (h, me) = (&fact.header, self.machine.author);
        if permit.break_glass.is_some() {
            return h.author == me && h.incarnation == self.incarnation(&me);
        }
        let site = self.machine.site.as_deref().unwrap_or_default();
        self.coordinates(&h.author) || self.grant(site).is_some_and(|grant| self.acts(&h.author, &grant))
    }

    /// What the council granted a site for when it is cut off, where the newest entry in effect about it gives anything.
    #[must_use]
    pub fn grant(&self, site: &str) -> Option<IsolationGrant> {
        let mut newest = None;
        for (_, body, entry) in self.entries.iter().filter(|(_, body, _)| body.index <= self.covered) {
            if let Entry::Isolation(grant) = entry
                && grant.site == site
                && self.by_council(body)
            {
                newest = Some(grant);
            }
        }
        newest.filter(|grant| !grant.acting.is_empty()).cloned()
    }

    /// Whether a grant names an author.
    #[must_use]
    pub fn acts(&self, author: &AuthorId, grant: &IsolationGrant) -> bool {
        self.entries.iter().any(|(_, _, entry)| match entry {
            Entry::Enrol(e) => e.author.author_id() == *author && grant.acting.contains(&e.spiffe_id),
            _ => false,
        })
    }

    /// Whether a grant of this machine's site ever named an author: what it decided then a coordinator may permit later.
    fn acted(&self, author: &AuthorId) -> bool {
        self.entries.iter().any(|(_, body, entry)| match entry {
            Entry::Isolation(g) => {
                self.machine.site.as_ref() == Some(&g.site) && self.by_council(body) && self.acts(author, g)
            }
            _ => false,
        })
    }

    /// Whether the newest entry in effect about the tokens of a life names this one.
    #[must_use]
    pub fn holds_token(&self, author: &AuthorId, life: u32, token: &Digest) -> bool {
        let in_effect = self.entries.iter().filter(|(_, body, _)| body.index <= self.covered && self.by_council(body));
        let mut newest = in_effect.filter_map(|(_, _, entry)| match entry {
            Entry::BreakGlass(b) if (b.holder.author, b.holder.incarnation) == (*author, life) => Some(b),
            _ => None,
        });
        newest.next_back().is_some_and(|b| b.digests.contains(token))
    }

    /// Whether somebody is on duty, and enrolled still.
    #[must_use]
    pub fn is_on_duty(&self, person: &str) -> bool {
        self.person(person).is_some_and(|(_, on_duty, revoked)| on_duty && !revoked)
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

    /// Who said no to this proposal, as far as this node can know: people, and coordinators' vetoes and kills.
    #[must_use]
    pub fn noes(&self, fact: &Known, proposal: &Proposal) -> Vec<String> {
        let votes = self.votes_on(fact.id).into_iter().filter(|v| v.statement.choice == Choice::Deny);
        let mut noes: Vec<String> = votes.map(|v| format!("{} denied it", v.statement.person)).collect();
        let orders =
            of_kind::<Restriction>(self.known, KIND_RESTRICTION).filter(|(f, _)| self.coordinates(&f.header.author));
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
                noes.push(format!("a coordinator restricted it ({:?})", order.target));
            }
        }
        let decided = of_kind::<Decision>(self.known, KIND_DECISION);
        let denied = decided
            .filter(|(f, d)| d.proposal == fact.id && d.outcome == Outcome::Deny && self.coordinates(&f.header.author));
        noes.extend(denied.map(|_| "a coordinator decided that policy denies it".to_owned()));
        noes.extend(self.edits_of(fact.id).map(|editor| format!("{editor} edited it")));
        noes
    }

    /// The decision that a permit names, if a coordinator wrote it under the policy of this world and it is no refusal. It may ask
    /// for fewer people than the policy does, when the coordinator was broken into: how many must have agreed is not its word.
    ///
    /// # Errors
    /// A sentence.
    pub fn decision_of(&self, permit: &Permit) -> Result<Decision, String> {
        let fact: &Arc<Known> = self.known.get(&permit.decision).ok_or("its decision is not here")?;
        let decision: Decision = fact.body().ok_or("its decision cannot be read")?;
        let checks = [
            (self.may_permit(fact, permit) || self.acted(&fact.header.author), "its decision is not a coordinator's"),
            (decision.proposal == permit.proposal, "its decision is about another proposal"),
            (matches!(decision.outcome, Outcome::StepUp | Outcome::Allow), "its decision is a refusal"),
            (decision.policy.class_version == self.founding.class_version, "its decision is under a foreign policy"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(why.to_owned()),
            None => Ok(decision),
        }
    }

    /// Whether people agree to what a permit allows, as this world's policy asks for it: enough distinct people on duty, or, where
    /// silence allows, nobody of them against it.
    ///
    /// # Errors
    /// A sentence.
    pub fn agreed(&self, permit: &Permit, decision: &Decision, wall_ms: Option<u64>) -> Result<Agreed, String> {
        let (people, deputies) = self.approvers(permit, decision, wall_ms);
        let silent = self.founding.silence_ms.filter(|_| self.objection(permit.proposal).is_none());
        let needed = match self.founding.silence_ms {
            None => self.founding.approvers as usize,
            Some(_) => usize::from(silent.is_none()),
        };
        if people.len() < needed {
            return Err(format!("{} of {needed} people on duty approved these terms: {people:?}", people.len()));
        }
        if let Some(silence_ms) = silent {
            self.kept_silence(permit, decision, silence_ms, wall_ms)?;
        }
        Ok(Agreed { deputies: needed > people.len().saturating_sub(deputies), silence: silent.is_some() })
    }

    /// Somebody on duty who objected, or the lack of anybody who could have.
    fn objection(&self, proposal: FactId) -> Option<String> {
        let said = self.votes_on(proposal).into_iter().find(|v| v.on_duty && v.statement.choice == Choice::Object);
        if let Some(vote) = said {
            return Some(format!("{} objected", vote.statement.person));
        }
        let writers = self.writers(proposal);
        let could = |id: &&String| {
            !writers.contains(*id) && self.person(id).is_some_and(|(_, on_duty, revoked)| on_duty && !revoked)
        };
        let everybody: Vec<String> = self.founding.people.iter().map(|p| p.id.clone()).collect();
        everybody.iter().find(could).is_none().then(|| "nobody could object".to_owned())
    }

    /// A coordinator's word, dated after the time to object, and by this node's own clock that time is over.
    fn kept_silence(
        &self,
        permit: &Permit,
        decision: &Decision,
        silence_ms: u64,
        wall_ms: Option<u64>,
    ) -> Result<(), String> {
        let fact =
            permit.window.and_then(|id| self.known.get(&id)).ok_or("no word about the time to object is here")?;
        let word: WindowClosed = fact.body().ok_or("the word about the time to object cannot be read")?;
        let created_ms =
            self.known.get(&permit.proposal).and_then(|f| f.body::<Proposal>()).map_or(0, |p| p.created_ms);
        let checks = [
            (self.coordinates(&fact.header.author), "that nobody objected is not a coordinator's word"),
            (!self.is_beyond(fact), "that nobody objected was said beyond its author's end"),
            (word.decision == permit.decision, "the time to object was another decision's"),
            (word.closed_ms >= decision.decided_ms + silence_ms, "the time to object was too short"),
            (
                wall_ms.is_none_or(|now| now >= created_ms + silence_ms),
                "the time to object is not over by its own clock",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why.to_owned()))
    }

    /// Who wrote or edited a proposal or what it came from, or for whom it is.
    fn writers(&self, proposal: FactId) -> BTreeSet<String> {
        let mut writers = BTreeSet::new();
        let mut next = Some(proposal);
        while let Some(p) = next.take().and_then(|id| self.known.get(&id)?.body::<Proposal>()) {
            writers.extend(p.hand.as_ref().and_then(|h| h.statement().ok()).map(|s| s.person));
            writers.extend(p.session.as_ref().map(|s| s.principal.clone()));
            writers.extend(p.on_behalf_of.clone());
            next = p.parent;
        }
        writers
    }

    /// People on duty who put another proposal in the place of this one, under their own signature.
    fn edits_of(&self, parent: FactId) -> impl Iterator<Item = String> {
        let children = of_kind::<Proposal>(self.known, KIND_PROPOSAL).filter(move |(_, p)| p.parent == Some(parent));
        children.filter_map(|(_, child)| {
            let statement = child.hand.as_ref()?.statement().ok()?;
            let (_, on_duty, _) = self.person(&statement.person)?;
            let binds = statement.content == child.content() && self.has_entry(statement.authority_head);
            let gone = self.was_revoked_at(&statement.person, statement.authority_head);
            (on_duty && binds && !gone).then_some(statement.person)
        })
    }

    /// Whether somebody was revoked by the entry that a statement of theirs names, or before it. Where that is not in effect yet such a
    /// statement can be made; it counts no longer once it is.
    fn was_revoked_at(&self, person: &str, head: Option<FactId>) -> bool {
        let at = self.entries.iter().find(|(id, ..)| Some(*id) == head).map_or(0, |(_, body, _)| body.index);
        self.entries.iter().any(|(_, body, entry)| {
            matches!(entry, Entry::RevokePerson(id) if id == person) && body.index <= at && self.by_council(body)
        })
    }

    /// For whom a person sits at a time.
    fn deputised(&self, to: &str, at_ms: u64) -> BTreeSet<String> {
        let said =
            || of_kind::<Deputy>(self.known, KIND_DEPUTY).filter_map(|(_, d)| Some((d.id(), d.statement().ok()?)));
        let gone: BTreeSet<(String, Digest)> =
            said().filter_map(|(_, s)| Some((s.person.clone(), s.takes_back?))).collect();
        let holds = said().filter(|(id, s)| {
            s.to == to && (s.from_ms..=s.until_ms).contains(&at_ms) && !gone.contains(&(s.person.clone(), *id))
        });
        let on_duty = |person: &String| self.person(person).is_some_and(|(_, on_duty, revoked)| on_duty && !revoked);
        holds.map(|(_, s)| s.person).filter(on_duty).collect()
    }

    /// People who approved exactly these terms, and neither took it back nor lost their enrolment, each with a right of their own: on
    /// duty themselves, or for somebody on duty who said nothing. And how many of them sit for somebody.
    #[must_use]
    pub fn approvers(&self, permit: &Permit, decision: &Decision, wall_ms: Option<u64>) -> (BTreeSet<String>, usize) {
        let writers = self.writers(permit.proposal);
        let mut said: BTreeMap<String, Vec<Vote>> = BTreeMap::new();
        for vote in self.votes_on(permit.proposal) {
            said.entry(vote.statement.person.clone()).or_default().push(vote);
        }
        let terms = decision.terms();
        let counts = |v: &Vote| {
            v.statement.choice == Choice::Approve
                && !writers.contains(&v.statement.person)
                && !v.revoked
                && v.statement.terms == terms
                && permit.votes.contains(&v.id)
                && wall_ms.is_none_or(|now| v.statement.expires_ms >= now && self.has_entry(v.statement.authority_head))
        };
        let taken_back = |votes: &[Vote], approval: &Vote| {
            let later = |v: &&Vote| v.statement.issued_ms > approval.statement.issued_ms;
            votes.iter().filter(later).any(|v| v.statement.choice == Choice::Withdraw)
        };
        let approval = |votes: &[Vote]| votes.iter().find(|v| counts(v) && !taken_back(votes, v)).cloned();
        let approved: Vec<Vote> = said.values().filter_map(|votes| approval(votes)).collect();
        let own = |v: &&Vote| v.on_duty;
        let mut seated: BTreeSet<String> = approved.iter().filter(own).map(|v| v.statement.person.clone()).collect();
        // Nobody sits for somebody who spoke; and one right fills one seat.
        let spoken: BTreeSet<String> = approved.iter().map(|v| v.statement.person.clone()).collect();
        let rights: Vec<(String, Vec<String>)> = approved
            .iter()
            .filter(|v| !v.on_duty)
            .map(|v| {
                let held = self.deputised(&v.statement.person, v.statement.issued_ms).into_iter();
                let free = held.filter(|p| !spoken.contains(p) && !writers.contains(p));
                (v.statement.person.clone(), free.collect())
            })
            .collect();
        let sitting = most_seated(&rights, &BTreeSet::new());
        let deputies = sitting.len();
        seated.extend(sitting);
        (seated, deputies)
    }

    /// Whether a vote was cast under an entry that is here. One that a term dropped may never come.
    fn has_entry(&self, head: Option<FactId>) -> bool {
        head.is_none_or(|head| self.known.contains_key(&head) || self.term_ids.contains(&head))
    }
}
