//! What somebody who decides sees of a proposal, whether their yes would count, and what they would sign.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{Decision, Proposal, RiskClass};
use cauldron_coordinator::ledger::{Ballot, Denial, Recorded, State, Status, Weight};
use cauldron_coordinator::quorum::{Fill, Voter, fill};
use cauldron_coordinator::vote::{Choice, SignedVote, VerifiedVote, VoteStatement, present_decision};
use cauldron_identity::authority::{Credential, Person};
use cauldron_identity::{AuthorId, Clock, Digest, FactId};

use crate::core::NodeCore;
use crate::story::state_word;
use crate::view::{ApprovalView, ProposalView, Time, VoteView};

/// A person at a page, by the credential that they signed in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// The person's id.
    pub person: String,
    /// [`Credential::id`].
    pub credential: Digest,
}

/// One proposal as it lies before an approver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desk {
    /// The proposal in short.
    pub line: ProposalView,
    /// The whole of it.
    pub proposal: Proposal,
    /// What is signed; a sentence where there is nothing to decide.
    pub approval: Result<ApprovalView, String>,
    /// The class that policy gives it, once it was judged.
    pub risk: Option<RiskClass>,
    /// What people said so far, oldest first.
    pub votes: Vec<Said>,
    /// Every no.
    pub denials: Vec<Denial>,
    /// How far the seats are filled.
    pub seats: Option<Fill>,
    /// People who could fill a seat that is still empty, by name.
    pub could: Vec<String>,
    /// Until when silence can still be broken, and by which groups.
    pub veto_until: Option<(Time, String)>,
    /// What this node is to the proposal.
    pub party: Party,
    /// What the approver's own word would be worth.
    pub seat: Seat,
    /// What the approver may say now.
    pub choices: Vec<Choice>,
}

/// What a node that serves a page is to what the page shows. A vote from a party's page is `self-served`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Party {
    /// It proposed this.
    pub proposes: bool,
    /// It owns the resource, and would carry it out.
    pub owns: bool,
}

/// One person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who, by name.
    pub who: String,
    /// What.
    pub choice: Choice,
    /// Why, in their words.
    pub reason: String,
    /// When, as they say.
    pub at: Time,
    /// Why it does not count as a yes; nothing for one that does, and for anything but a yes.
    pub void: Option<String>,
}

/// What the approver's own yes would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seat {
    /// Why it would not count: half a sentence.
    pub barred: Option<String>,
    /// Whether it would fill a seat that is empty.
    pub fills: bool,
    /// Whether their objection would end a silence.
    pub objects: bool,
    /// The last thing that they said of it.
    pub said: Option<Choice>,
}

impl NodeCore {
    /// One proposal as it lies before `who`; none where this node does not hold it.
    #[must_use]
    pub fn desk(&self, now: Clock, id: &FactId, who: &Approver) -> Option<Desk> {
        let status = self.ledger.status(id, &self.authority, now.wall_ms)?;
        self.desk_of(now, &status, who)
    }

    /// What waits for people, what ends first at the top; at most `most` of it, and how much there is.
    #[must_use]
    pub fn desks(&self, now: Clock, who: &Approver, most: usize) -> (Vec<Desk>, usize) {
        let mut open = self.docket.open(&self.ledger, &self.authority, now.wall_ms);
        open.retain(|s| matches!(s.state, State::PendingApproval | State::VetoWindow));
        let open = self.in_turn(open);
        let all = open.len();
        (open.iter().filter_map(|s| self.desk_of(now, s, who)).take(most).collect(), all)
    }

    /// What `who` signs to say `choice`: about exactly what [`NodeCore::desk`] shows now.
    ///
    /// # Errors
    /// A sentence, when they cannot say that now.
    pub fn ballot(&self, now: Clock, id: &FactId, who: &Approver, words: Words) -> Result<VoteStatement, String> {
        let missing = || format!("{} is not a proposal that this node holds", id.short());
        let status = self.ledger.status(id, &self.authority, now.wall_ms).ok_or_else(missing)?;
        let desk = self.desk_of(now, &status, who).ok_or_else(missing)?;
        if !desk.choices.contains(&words.choice) {
            return Err(format!("{} is {}: {}", id.short(), desk.line.state, desk.line.why.join("; ")));
        }
        let (p, decision) = self.decided(&status).ok_or_else(missing)?;
        let statement = self.statement(p, &decision.body, who, now, status.deadline_ms);
        let Words { choice, reason, dwell_ms, nonce } = words;
        Ok(VoteStatement { choice, reason, dwell_ms, nonce, ..statement })
    }

    /// What a vote that was recorded comes to; none where this node holds no decision that it could be about.
    #[must_use]
    pub fn weigh(&self, now: Clock, vote: &SignedVote) -> Option<VoteView> {
        let vote = vote.verify(&self.authority).ok()?;
        let id = &vote.statement.proposal;
        let status = self.status_here(id, now)?;
        let by_terms = || {
            let decision = self.ledger.decisions_on(id).find(|d| d.body.terms() == vote.statement.terms)?;
            Some((self.ledger.proposal(id)?, decision))
        };
        let (p, decision) = self.decided(&status).or_else(by_terms)?;
        let Weight { mut counts, mut why, mut seats } =
            Ballot::new(&self.ledger, &self.authority, p, &decision.body).weigh(&vote, now.wall_ms);
        // A no still makes people look at what was begun; a yes or an objection comes too late for anything, but for the yes by which it
        // was begun.
        let led_to_it = || self.ledger.permits_on(id).any(|permit| permit.body.votes.contains(&vote.id));
        if !status.state.is_open() {
            if matches!(vote.statement.choice, Choice::Approve | Choice::Object) && !led_to_it() {
                (counts, why) = (Some(false), Some(format!("it is {} already", state_word(status.state))));
            }
            seats.missing.clear();
        }
        let could = self.could(p, &seats);
        let open = seats.missing.clone();
        let says = why.as_ref().map(|why| {
            let does =
                if vote.statement.choice == Choice::Object { "does not end the silence" } else { "fills no seat" };
            let mut says = format!("It is recorded, but {does}: {why}.");
            if !open.is_empty() {
                let who = if could.is_empty() { "nobody who is enrolled now".to_owned() } else { could.join(", ") };
                let (filled, needed) = (seats.filled, seats.needed);
                says +=
                    &format!(" {filled} of {needed} seats are filled; open for {}. Who could: {who}.", open.join(", "));
            }
            says
        });
        Some(VoteView { counts, why, seats_filled: seats.filled, seats_needed: seats.needed, open, could, says })
    }

    /// This node's author id: a statement names it as who served the page.
    #[must_use]
    pub fn author(&self) -> AuthorId {
        self.me
    }

    /// The person and the credential behind an approver, as enrolled now.
    #[must_use]
    pub fn approver(&self, who: &Approver) -> Option<(Person, Credential)> {
        let person = self.authority.person(&who.person)?;
        let credential = person.credentials.iter().find(|c| c.id() == who.credential)?.clone();
        Some((person.clone(), credential))
    }

    fn desk_of(&self, now: Clock, status: &Status, who: &Approver) -> Option<Desk> {
        let p = self.ledger.proposal(&status.id)?;
        let decided = self.decided(status);
        let ballot = decided.map(|(p, d)| Ballot::new(&self.ledger, &self.authority, p, &d.body));
        let seats = ballot.map(|b| b.fill(now.wall_ms, None));
        let silence = decided.and_then(|(p, d)| self.ledger.awaits_silence(p, d, &self.authority));
        let owner = self.ledger.owner_of(&p.body.resource, &self.authority);
        let party =
            Party { proposes: p.header.author == self.me, owns: owner.is_some_and(|owner| owner.author == self.me) };
        let votes = self.said(status, ballot.as_ref(), now);
        let seat = self.seat(now, status, ballot.as_ref(), who);
        let judged = decided.map(|(_, d)| d).or_else(|| self.ledger.governing(p, &self.authority).pop());
        Some(Desk {
            line: self.proposal_line(now, status)?,
            proposal: p.body.clone(),
            approval: self.approval_view(now, &status.id),
            risk: judged.map(|d| d.body.risk),
            votes,
            denials: status.denials.clone(),
            could: seats.as_ref().map(|fill| self.could(p, fill)).unwrap_or_default(),
            seats,
            veto_until: silence.map(|(at_ms, groups)| (Time(at_ms), groups)),
            party,
            choices: choices(status.state, decided.is_some(), &seat),
            seat,
        })
    }

    fn decided<'a>(&'a self, status: &Status) -> Option<(&'a Recorded<Proposal>, &'a Recorded<Decision>)> {
        let decision = self.ledger.decisions_on(&status.id).find(|d| Some(d.id) == status.decision)?;
        Some((self.ledger.proposal(&status.id)?, decision))
    }

    fn said(&self, status: &Status, ballot: Option<&Ballot<'_>>, now: Clock) -> Vec<Said> {
        let name = |id: &str| self.authority.person(id).map_or_else(|| id.to_owned(), |p| p.name.clone());
        let votes = self.ledger.votes_on(&status.id).filter_map(|vote| vote.verify(&self.authority).ok());
        let mut said: Vec<Said> = votes
            .map(|vote| {
                let judged = ballot.map_or(Ok(()), |ballot| ballot.counts(&vote, now.wall_ms));
                let s = vote.statement;
                Said {
                    who: name(&s.person),
                    choice: s.choice,
                    reason: s.reason,
                    at: Time(s.issued_ms),
                    void: judged.err().filter(|_| s.choice == Choice::Approve),
                }
            })
            .collect();
        said.sort_by(|a, b| (a.at, &a.who, a.choice).cmp(&(b.at, &b.who, b.choice)));
        said
    }

    /// People who are no writers of it and sit in a group that lacks somebody.
    fn could(&self, p: &Recorded<Proposal>, seats: &Fill) -> Vec<String> {
        let writers = self.ledger.writers(p);
        let sits = |person: &&Person| {
            !writers.contains(&person.id) && person.groups.iter().any(|group| seats.missing.contains(group))
        };
        self.authority.people().into_iter().filter(sits).map(|person| person.name.clone()).collect()
    }

    /// Judges a yes that nobody has said yet, by the rules for those that were.
    fn seat(&self, now: Clock, status: &Status, ballot: Option<&Ballot<'_>>, who: &Approver) -> Seat {
        let mine = self.ledger.votes_on(&status.id).filter_map(|vote| vote.verify(&self.authority).ok());
        let mine = mine.map(|vote| vote.statement).filter(|s| s.person == who.person && s.choice != Choice::Comment);
        let said = mine.max_by_key(|s| (s.issued_ms, s.choice)).map(|s| s.choice);
        let (Some(ballot), Some((person, credential))) = (ballot, self.approver(who)) else {
            return Seat { said, ..Seat::default() };
        };
        let statement = self.statement(ballot.proposal, ballot.decision, who, now, status.deadline_ms);
        let own: BTreeSet<String> = person.groups.iter().cloned().collect();
        let vote = VerifiedVote {
            id: statement.id(),
            groups: own.clone(),
            groups_then: own.clone(),
            kind: credential.kind(),
            key: credential.ed25519(),
            revoked: false,
            statement,
        };
        let barred = ballot.counts(&vote, now.wall_ms).err();
        let objects = ballot.obligations.veto.as_ref().is_some_and(|veto| veto.groups.iter().any(|g| own.contains(g)));
        let mut voters = ballot.voters(now.wall_ms, None);
        let before = fill(&ballot.needs(), &voters);
        let groups = self.may_sit_for(ballot, own, who, now);
        let added = ballot.obligations.escalation.iter().filter(|e| e.at_ms <= now.wall_ms);
        let any_seat = added.into_iter().any(|e| groups.contains(&e.add));
        voters.insert(who.person.clone(), Voter { groups, any_seat });
        let fills = fill(&ballot.needs(), &voters).filled > before.filled;
        Seat { fills: fills && barred.is_none(), barred, objects, said }
    }

    /// Their own groups, and those of whom they are a deputy for.
    fn may_sit_for(&self, ballot: &Ballot<'_>, own: BTreeSet<String>, who: &Approver, now: Clock) -> BTreeSet<String> {
        let mut groups = own;
        if !ballot.obligations.distinct_from.iter().any(|d| d == cauldron_coordinator::bodies::DELEGATES) {
            let handed = self.ledger.deputised(&who.person, ballot.proposal, now.wall_ms, &self.authority);
            groups.extend(handed.into_iter().flat_map(|d| d.groups));
        }
        groups
    }

    fn statement(
        &self,
        p: &Recorded<Proposal>,
        decision: &Decision,
        who: &Approver,
        now: Clock,
        expires_ms: u64,
    ) -> VoteStatement {
        VoteStatement {
            mesh: self.authority.mesh(),
            person: who.person.clone(),
            credential: who.credential,
            lineage: p.body.lineage(p.id),
            proposal: p.id,
            terms: decision.terms(),
            presentation: present_decision(&p.body, decision).digest(),
            served_by: self.me,
            authority_head: self.authority.head(),
            choice: Choice::Approve,
            reason: String::new(),
            dwell_ms: 0,
            issued_ms: now.wall_ms,
            expires_ms,
            nonce: Digest::from_bytes([0; 32]),
        }
    }
}

/// What an approver adds to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The choice.
    pub choice: Choice,
    /// Why.
    pub reason: String,
    /// How long they looked at it, milliseconds.
    pub dwell_ms: u64,
    /// Of chance.
    pub nonce: Digest,
}

/// What can still be said. A no is heard until the effect begins.
fn choices(state: State, decided: bool, seat: &Seat) -> Vec<Choice> {
    let approved = seat.said == Some(Choice::Approve);
    match (state, decided) {
        (_, false) => Vec::new(),
        (State::PendingApproval, _) => {
            let mut all = vec![Choice::Approve, Choice::Deny, Choice::Abstain, Choice::Comment];
            if approved {
                all.push(Choice::Withdraw);
            }
            all
        }
        (State::VetoWindow, _) if seat.objects => vec![Choice::Object, Choice::Deny, Choice::Comment],
        (State::VetoWindow, _) => vec![Choice::Deny, Choice::Comment],
        (State::Approved | State::Permitted, _) if approved => vec![Choice::Withdraw, Choice::Deny, Choice::Comment],
        (State::Approved | State::Permitted, _) => vec![Choice::Deny, Choice::Comment],
        _ => Vec::new(),
    }
}
