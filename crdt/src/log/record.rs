//! How the log is kept on disk, and how it comes back.

use std::collections::BTreeMap;

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{MeshId, SealedFact, planted};

use super::{Access, ChainId, Evidence, FactLog, Mark, Refusal};

const FACT_PREFIX: &[u8] = b"f/";
const EVIDENCE_PREFIX: &[u8] = b"e/";
const MARK_PREFIX: &[u8] = b"v/";

/// One thing to keep. Keys sort by scope name, author, incarnation and position: see `cauldron_store::keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A fact.
    Fact(SealedFact),
    /// Evidence of a fork.
    Evidence(Evidence),
    /// What of a chain is proven by later signatures only. One per chain: a new one replaces the one before.
    Mark(Mark),
}

/// Why the stored log cannot be used as it is. Names the record, so that it can be looked at and fetched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A record cannot be decoded.
    #[error("record {key} cannot be decoded: {detail}")]
    Unreadable {
        /// The key, in hex.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// A record is a fact or evidence, but breaks a rule.
    #[error("record {place} is refused")]
    Refused {
        /// Scope, author, incarnation and position.
        place: String,
        /// The rule.
        #[source]
        why: Refusal,
    },
    /// A record lies under a key that is not its own.
    #[error("record {place} lies under the key {key}, which is another's")]
    Misplaced {
        /// Scope, author, incarnation and position by its content.
        place: String,
        /// The key, in hex.
        key: String,
    },
}

impl Record {
    /// The prefixes under which [`Record`]s are kept.
    pub const PREFIXES: [&'static [u8]; 3] = [FACT_PREFIX, EVIDENCE_PREFIX, MARK_PREFIX];

    /// The key to store it under.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for bytes that no log ever held.
    pub fn key(&self) -> Result<Vec<u8>, Refusal> {
        let (prefix, header) = match self {
            Self::Fact(sealed) => (FACT_PREFIX, sealed.peek()?),
            Self::Evidence(evidence) => (EVIDENCE_PREFIX, evidence.consistent()?),
            Self::Mark(mark) => return Ok(key(MARK_PREFIX, &mark.chain(), None)),
        };
        Ok(key(prefix, &ChainId::of(&header), Some(header.seq)))
    }

    /// The bytes to store.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Fact(sealed) => to_cbor(sealed),
            Self::Evidence(evidence) => to_cbor(evidence),
            Self::Mark(mark) => to_cbor(mark),
        }
    }

    /// Reads what [`Record::key`] and [`Record::value`] gave.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn read(stored: &[u8], value: &[u8]) -> Result<Self, RestoreError> {
        let unreadable = |detail: String| RestoreError::Unreadable { key: hex(stored), detail };
        let record = if stored.starts_with(FACT_PREFIX) {
            Self::Fact(from_cbor(value).map_err(|e| unreadable(e.to_string()))?)
        } else if stored.starts_with(EVIDENCE_PREFIX) {
            Self::Evidence(from_cbor(value).map_err(|e| unreadable(e.to_string()))?)
        } else if stored.starts_with(MARK_PREFIX) {
            Self::Mark(from_cbor(value).map_err(|e| unreadable(e.to_string()))?)
        } else {
            return Err(unreadable("the key has no prefix of the log".into()));
        };
        let own = record.key().map_err(|why| unreadable(why.to_string()))?;
        if own == stored { Ok(record) } else { Err(RestoreError::Misplaced { place: hex(&own), key: hex(stored) }) }
    }
}

impl FactLog {
    /// Brings the log back from its records, in any order. Ids, body hashes and the links of each chain are checked;
    /// signatures, which were checked before anything was stored or are named by a [`Mark`], only when `access` is given.
    ///
    /// # Errors
    /// The first record that does not hold, or the first gap.
    pub fn restore(
        mesh: MeshId,
        records: impl IntoIterator<Item = Record>,
        access: Option<&dyn Access>,
    ) -> Result<Self, RestoreError> {
        let mut log = Self::new(mesh);
        let mut waiting: BTreeMap<(ChainId, u64), SealedFact> = BTreeMap::new();
        let mut marks = Vec::new();
        for record in records {
            match record {
                Record::Fact(sealed) => {
                    let header = sealed.peek().map_err(|e| refused("a fact".into(), e.into()))?;
                    waiting.insert((ChainId::of(&header), header.seq), sealed);
                }
                Record::Evidence(evidence) => log.restore_evidence(evidence, access)?,
                Record::Mark(mark) => marks.push(mark),
            }
        }
        for ((chain, seq), sealed) in waiting {
            log.restore_fact(&chain, sealed).map_err(|why| refused(place(&chain, seq), why))?;
        }
        marks.iter().for_each(|mark| log.restore_mark(mark));
        if let Some(access) = access {
            log.check_signatures(access)?;
        }
        Ok(log)
    }

    fn restore_fact(&mut self, chain: &ChainId, sealed: SealedFact) -> Result<(), Refusal> {
        if sealed.body().is_none() {
            return Err(Refusal::BodyMissing);
        }
        let fact = sealed.reopen()?;
        let (header, held) = (fact.header(), self.held(chain));
        if header.mesh != self.mesh {
            return Err(Refusal::WrongMesh { found: header.mesh });
        }
        if header.seq != held + 1 {
            return Err(Refusal::Gap { have: held, got: header.seq });
        }
        if header.prev != self.id_at(chain, held) && !planted::active("restore-unlinked") {
            return Err(Refusal::Diverged { seq: held });
        }
        self.push(chain.clone(), fact);
        Ok(())
    }

    /// Every signature, except where a mark says that a later one of the same chain stands for it.
    fn check_signatures(&self, access: &dyn Access) -> Result<(), RestoreError> {
        for fact in self.iter() {
            let (chain, seq, author) = (ChainId::of(fact.header()), fact.header().seq, fact.header().author);
            if self.is_seen(&chain, seq) {
                let key = access.author_key(&author).ok_or(Refusal::UnknownAuthor { author });
                let signed = key.and_then(|key| fact.check_signature(&key).map_err(Refusal::from));
                signed.map_err(|why| refused(place(&chain, seq), why))?;
            }
        }
        Ok(())
    }

    /// Everything from which [`FactLog::restore`] makes an equal log.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.chains.iter().flat_map(|(id, chain)| {
            let facts = chain.facts.iter().map(|fact| Record::Fact(fact.sealed().clone()));
            let evidence = chain.fork.as_deref().cloned().map(Record::Evidence);
            facts.chain(evidence).chain(chain.vouched.to_mark(id).map(Record::Mark))
        })
    }

    fn restore_evidence(&mut self, evidence: Evidence, access: Option<&dyn Access>) -> Result<(), RestoreError> {
        let header = match access {
            Some(access) => evidence.verify(self.mesh, access),
            None => evidence.consistent(),
        };
        let header = header.map_err(|why| refused("evidence of a fork".into(), why))?;
        let chain = ChainId::of(&header);
        // Evidence of a lower position may have come later: the lowest counts.
        if self.fork_seq(&chain).is_none_or(|known| header.seq < known) {
            self.freeze(chain, evidence);
        }
        Ok(())
    }
}

fn refused(place: String, why: Refusal) -> RestoreError {
    RestoreError::Refused { place, why }
}

fn place(chain: &ChainId, seq: u64) -> String {
    format!("{} of {} ({}), position {seq}", chain.scope, chain.author, chain.incarnation)
}

fn key(prefix: &[u8], chain: &ChainId, seq: Option<u64>) -> Vec<u8> {
    let scope = chain.scope.to_string();
    let parts: [&[u8]; 5] = [prefix, scope.as_bytes(), &[0], chain.author.as_bytes(), &chain.incarnation.to_be_bytes()];
    let mut key = parts.concat();
    key.extend(seq.iter().flat_map(|seq| seq.to_be_bytes()));
    key
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
