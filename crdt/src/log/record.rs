//! How the log is kept on disk, and how it comes back.

use std::collections::BTreeMap;

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Header, MeshId, SealedFact};

use super::{Access, ChainId, Evidence, FactLog, Refusal};

const FACT_PREFIX: &[u8] = b"f/";
const EVIDENCE_PREFIX: &[u8] = b"e/";

/// One thing to keep. Keys sort by scope name, author, incarnation and position: see `cauldron_store::keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A fact.
    Fact(SealedFact),
    /// Evidence of a fork.
    Evidence(Evidence),
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
    pub const PREFIXES: [&'static [u8]; 2] = [FACT_PREFIX, EVIDENCE_PREFIX];

    /// The key to store it under.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for bytes that no log ever held.
    pub fn key(&self) -> Result<Vec<u8>, Refusal> {
        let (prefix, header) = match self {
            Self::Fact(sealed) => (FACT_PREFIX, sealed.peek()?),
            Self::Evidence(evidence) => (EVIDENCE_PREFIX, evidence.consistent()?),
        };
        Ok(key(prefix, &header))
    }

    /// The bytes to store.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Fact(sealed) => to_cbor(sealed),
            Self::Evidence(evidence) => to_cbor(evidence),
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
        } else {
            return Err(unreadable("the key has no prefix of the log".into()));
        };
        let own = record.key().map_err(|why| unreadable(why.to_string()))?;
        if own == stored { Ok(record) } else { Err(RestoreError::Misplaced { place: hex(&own), key: hex(stored) }) }
    }
}

impl FactLog {
    /// Brings the log back from its records, in any order. Ids, body hashes and the links of each chain are checked;
    /// signatures, which were checked before anything was stored, only when `access` is given.
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
        for record in records {
            match record {
                Record::Fact(sealed) => {
                    let header = sealed.peek().map_err(|e| refused("a fact".into(), e.into()))?;
                    waiting.insert((ChainId::of(&header), header.seq), sealed);
                }
                Record::Evidence(evidence) => log.restore_evidence(evidence, access)?,
            }
        }
        for ((chain, seq), sealed) in waiting {
            let place = || format!("{} of {} ({}), position {seq}", chain.scope, chain.author, chain.incarnation);
            log.restore_fact(&chain, sealed, access).map_err(|why| refused(place(), why))?;
        }
        Ok(log)
    }

    fn restore_fact(
        &mut self,
        chain: &ChainId,
        sealed: SealedFact,
        access: Option<&dyn Access>,
    ) -> Result<(), Refusal> {
        if sealed.body().is_none() {
            return Err(Refusal::BodyMissing);
        }
        let fact = match access {
            None => sealed.reopen()?,
            Some(access) => {
                let key = access.author_key(&chain.author).ok_or(Refusal::UnknownAuthor { author: chain.author })?;
                sealed.open(&key)?
            }
        };
        let (header, held) = (fact.header(), self.held(chain));
        if header.mesh != self.mesh {
            return Err(Refusal::WrongMesh { found: header.mesh });
        }
        if header.seq != held + 1 {
            return Err(Refusal::Gap { have: held, got: header.seq });
        }
        if header.prev != self.id_at(chain, held) {
            return Err(Refusal::Diverged { seq: held });
        }
        self.push(chain.clone(), fact);
        Ok(())
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

fn key(prefix: &[u8], header: &Header) -> Vec<u8> {
    let scope = header.scope.to_string();
    let parts: [&[u8]; 6] = [
        prefix,
        scope.as_bytes(),
        &[0],
        header.author.as_bytes(),
        &header.incarnation.to_be_bytes(),
        &header.seq.to_be_bytes(),
    ];
    parts.concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
