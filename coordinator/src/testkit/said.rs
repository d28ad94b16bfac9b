//! What people sign and owners report in a test world.

use super::*;

impl World {
    /// What somebody signs who looked at something.
    pub fn review_statement(&self, person: &str, used: FactId) -> ReviewStatement {
        ReviewStatement {
            mesh: self.authority.mesh(),
            person: person.into(),
            credential: Self::credential(person),
            authority_head: self.authority.head(),
            used,
            note: "as it should be".into(),
            issued_ms: self.clock.wall_ms,
            nonce: Digest::of("nonce", person.as_bytes()),
        }
    }

    /// The same, signed.
    pub fn review(&self, person: &str, used: FactId) -> Review {
        Review::sign(&self.review_statement(person, used), &Self::person_key(person))
    }

    /// Says as `author` that a step will not be done.
    pub fn abort(&mut self, author: u8, proposal: &FactId) -> FactId {
        let at_ms = self.clock.wall_ms;
        self.put(author, "site/lyon", KIND_ABORTED, &Aborted { proposal: *proposal, reason: "denied".into(), at_ms })
    }

    /// Says that what was started is taken back.
    pub fn compensated(&mut self, started: &FactId) -> FactId {
        let at_ms = self.clock.wall_ms;
        let body = Compensated { started: *started, effect_ref: "gone".into(), after_version: None, at_ms };
        self.put(3, "site/lyon", KIND_COMPENSATED, &body)
    }

    /// A statement about a proposal that is not here.
    pub fn statement(&self, person: &str, choice: Choice) -> VoteStatement {
        let id = FactId::from_bytes([1; 32]);
        VoteStatement {
            mesh: self.authority.mesh(),
            person: person.into(),
            credential: Self::credential(person),
            lineage: id,
            proposal: id,
            terms: Digest::of("terms", b""),
            presentation: Digest::of("presentation", b""),
            served_by: self.hq.author_id(),
            authority_head: self.authority.head(),
            choice,
            reason: "because".into(),
            dwell_ms: 12_000,
            issued_ms: self.clock.wall_ms,
            expires_ms: self.clock.wall_ms + 3_600_000,
            nonce: Digest::of("nonce", &(self.facts.len() as u64).to_be_bytes()),
        }
    }

    pub fn credential(key_name: &str) -> Digest {
        Credential::of(Self::person_key(key_name).public().into()).id()
    }

    /// A statement about a decided proposal, as the page of hq would make it.
    pub fn statement_on(&self, person: &str, p: &FactId, choice: Choice) -> VoteStatement {
        let decision = self.decision(p);
        let proposal = &self.ledger.proposal(p).expect("here").body;
        VoteStatement {
            lineage: proposal.lineage(*p),
            proposal: *p,
            terms: decision.terms(),
            presentation: present_decision(proposal, &decision).digest(),
            ..self.statement(person, choice)
        }
    }

    pub fn vote(&mut self, person: &str, p: &FactId, choice: Choice) -> Digest {
        let statement = self.statement_on(person, p, choice);
        self.cast(&statement, person)
    }

    pub fn cast(&mut self, statement: &VoteStatement, key_name: &str) -> Digest {
        let vote = statement.sign(&Self::person_key(key_name));
        self.put(3, "site/lyon", KIND_VOTE, &vote);
        statement.id()
    }

    pub fn done(&mut self, started: &FactId) -> FactId {
        let done = Done {
            started: *started,
            effect_ref: "blocklist:198.51.100.7".into(),
            result_digest: Digest::of("result", b""),
            before_version: None,
            after_version: None,
            until_ms: None,
            done_ms: self.clock.wall_ms,
            labels: vec![],
        };
        self.put(3, "site/lyon", KIND_DONE, &done)
    }

    pub fn failed(&mut self, started: &FactId, probed_no_effect: bool) -> FactId {
        let failed = Failed {
            started: *started,
            probed_no_effect,
            reason: "disk".into(),
            failed_ms: self.clock.wall_ms,
            labels: vec![],
        };
        self.put(3, "site/lyon", KIND_FAILED, &failed)
    }

    /// Its owner says that it does not know what became of a start.
    pub fn lost(&mut self, started: &FactId) -> FactId {
        let noticed_ms = self.clock.wall_ms;
        let unknown = Unknown { started: *started, reason: "it hangs".into(), noticed_ms, labels: vec![] };
        self.put(3, "site/lyon", KIND_UNKNOWN, &unknown)
    }

    /// A person says whether it happened.
    pub fn word(&mut self, person: &str, started: &FactId, happened: bool) -> FactId {
        let statement = self.word_statement(person, started, happened);
        self.put(3, "site/lyon", KIND_RECONCILED, &Word::sign(&statement, &Self::person_key(person)))
    }

    pub fn word_statement(&self, person: &str, started: &FactId, happened: bool) -> WordStatement {
        WordStatement {
            mesh: self.authority.mesh(),
            person: person.into(),
            credential: Self::credential(person),
            authority_head: self.authority.head(),
            started: *started,
            happened,
            reason: "looked".into(),
            issued_ms: self.clock.wall_ms,
            nonce: Digest::of("nonce", &(self.facts.len() as u64).to_be_bytes()),
        }
    }
}
