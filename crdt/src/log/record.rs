//! How the log is kept on disk, and how it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{AuthorId, Fact, FactId, MeshId, SealedFact, planted};

use super::{Access, Archive, ChainId, Damage, Evidence, FactLog, Mark, Pack, Packed, Packs, Refusal, pack};

pub(super) const FACT_PREFIX: &[u8] = b"f/";
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
    /// In the place of a fact: which pack it lies in.
    Packed(Packed),
    /// Many facts.
    Pack(Pack),
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
    /// A record that was there a moment ago.
    #[error(transparent)]
    Damaged(Damage),
}

/// Builds a log from its records as they are read from the store, so that memory holds no more facts than the log may.
///
/// Where the store has an index that holds together, facts need not be given; those that are, are passed over. Ids, body
/// hashes and the links of each chain are checked; signatures, which were checked before anything was stored or are named
/// by a [`Mark`], only by [`FactLog::check`].
#[derive(Debug)]
pub struct Restoring {
    log: FactLog,
    indexed: bool,
    /// Facts that came before the one they follow.
    waiting: BTreeMap<(ChainId, u64), SealedFact>,
    marks: Vec<Mark>,
    /// Where there is no archive to read them from: packs, and what lies in them.
    given: Given,
    packed: Vec<Packed>,
}

/// Packs by key.
#[derive(Debug, Default)]
struct Given(BTreeMap<Vec<u8>, Vec<u8>>);

impl Archive for Given {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(key).cloned())
    }
}

impl Restoring {
    /// Begins with what the archive's index says, or with nothing.
    #[must_use]
    pub fn from(mesh: MeshId, archive: Arc<dyn Archive>, hot_bytes_max: usize) -> Self {
        match FactLog::indexed(mesh, &archive, hot_bytes_max) {
            Some(log) => Self::of(log, true),
            None => Self::over(mesh, archive, hot_bytes_max),
        }
    }

    /// Begins with nothing, whatever index there is.
    #[must_use]
    pub fn over(mesh: MeshId, archive: Arc<dyn Archive>, hot_bytes_max: usize) -> Self {
        Self::of(FactLog::over(mesh, archive, hot_bytes_max), false)
    }

    /// Begins with nothing, and keeps every fact in memory.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self::of(FactLog::new(mesh), false)
    }

    fn of(log: FactLog, indexed: bool) -> Self {
        let (waiting, marks, given, packed) = Default::default();
        Self { log, indexed, waiting, marks, given, packed }
    }

    /// Whether facts need not be given.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        self.indexed
    }

    /// Takes the next record. In the order of the keys it costs no more memory than a log may take.
    ///
    /// # Errors
    /// It does not hold.
    pub fn take(&mut self, record: Record) -> Result<(), RestoreError> {
        match record {
            Record::Fact(_) | Record::Packed(_) if self.indexed => {}
            Record::Fact(sealed) => {
                let header = sealed.peek().map_err(|e| refused("a fact".into(), e.into()))?;
                let chain = ChainId::of(&header);
                if header.seq == self.log.held(&chain) + 1 {
                    self.log.restore_fact(&chain, sealed).map_err(|why| refused(place(&chain, header.seq), why))?;
                    self.log.chill_restored();
                } else {
                    self.waiting.insert((chain, header.seq), sealed);
                }
            }
            Record::Evidence(evidence) => self.log.restore_evidence(evidence)?,
            Record::Mark(mark) => self.marks.push(mark),
            Record::Packed(packed) => match self.log.hot.archive() {
                Some(archive) => {
                    let fact = unpacked(self.log.hot.packs(), archive, &packed)?;
                    self.take(fact)?;
                }
                None => self.packed.push(packed),
            },
            Record::Pack(pack) if self.log.hot.archive().is_none() => {
                self.given.0.insert(pack.key(), pack.value());
            }
            // It is read when a fact in it is.
            Record::Pack(_) => {}
        }
        Ok(())
    }

    /// The log, once every record was taken.
    ///
    /// # Errors
    /// A gap, or a record that does not hold.
    pub fn done(mut self) -> Result<FactLog, RestoreError> {
        let packs = Packs::default();
        for packed in std::mem::take(&mut self.packed) {
            let fact = unpacked(&packs, &self.given, &packed)?;
            self.take(fact)?;
        }
        let Self { mut log, indexed, waiting, marks, .. } = self;
        for ((chain, seq), sealed) in waiting {
            log.restore_fact(&chain, sealed).map_err(|why| refused(place(&chain, seq), why))?;
            log.chill_restored();
        }
        if !indexed {
            log.place_all();
        }
        for mark in &marks {
            if indexed { log.restore_marked(mark) } else { log.restore_mark(mark) }
        }
        match log.damage() {
            Some(damage) => Err(RestoreError::Damaged(damage.clone())),
            None => Ok(log),
        }
    }
}

impl Record {
    /// The prefixes under which [`Record`]s are kept.
    pub const PREFIXES: [&'static [u8]; 4] = [FACT_PREFIX, EVIDENCE_PREFIX, MARK_PREFIX, pack::PREFIX];

    /// Whether a key is one of the index that a clean stop leaves; no [`Record`] has it.
    #[must_use]
    pub fn is_index(key: &[u8]) -> bool {
        key.starts_with(super::index::PREFIX)
    }

    /// The key to store it under.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for bytes that no log ever held.
    pub fn key(&self) -> Result<Vec<u8>, Refusal> {
        let (prefix, header) = match self {
            Self::Fact(sealed) => (FACT_PREFIX, sealed.peek()?),
            Self::Evidence(evidence) => (EVIDENCE_PREFIX, evidence.consistent()?),
            Self::Mark(mark) => return Ok(key(MARK_PREFIX, &mark.chain(), None)),
            Self::Packed(packed) => return Ok(packed.key()),
            Self::Pack(pack) => return Ok(pack.key()),
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
            Self::Packed(packed) => packed.value(),
            Self::Pack(pack) => pack.value(),
        }
    }

    /// Reads what [`Record::key`] and [`Record::value`] gave.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn read(stored: &[u8], value: &[u8]) -> Result<Self, RestoreError> {
        let unreadable = |detail: String| RestoreError::Unreadable { key: hex(stored), detail };
        let record = if stored.starts_with(FACT_PREFIX) && Packed::is_stub(value) {
            Self::Packed(Packed::read(stored, value).map_err(unreadable)?)
        } else if stored.starts_with(pack::PREFIX) {
            Self::Pack(Pack::read(stored, value).map_err(unreadable)?)
        } else if stored.starts_with(FACT_PREFIX) {
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
    /// Brings the log back from its records, in any order, with every fact in memory: see [`Restoring`].
    ///
    /// # Errors
    /// The first record that does not hold, or the first gap.
    pub fn restore(
        mesh: MeshId,
        records: impl IntoIterator<Item = Record>,
        access: Option<&dyn Access>,
    ) -> Result<Self, RestoreError> {
        let mut restoring = Restoring::of(Self::new(mesh), false);
        for record in records {
            if let (Record::Evidence(evidence), Some(access)) = (&record, access) {
                evidence.verify(mesh, access).map_err(|why| refused("evidence of a fork".into(), why))?;
            }
            restoring.take(record)?;
        }
        let log = restoring.done()?;
        if let Some(access) = access {
            log.check(access)?;
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
        self.push_unplaced(chain.clone(), fact);
        Ok(())
    }

    /// Everything again from the bytes, of facts in memory and of those that are not: evidence, ids, bodies, links, and
    /// every signature except where a later one of the same chain is known to stand for it.
    ///
    /// # Errors
    /// The first record that does not hold.
    pub fn check(&self, access: &dyn Access) -> Result<(), RestoreError> {
        for (id, c) in &self.chains {
            if let Some(evidence) = &c.fork {
                evidence.verify(self.mesh, access).map_err(|why| refused("evidence of a fork".into(), why))?;
            }
            let (mut before, mut key) = (None, None);
            for seq in 1..=c.len() {
                let fact = self.at(id, seq).ok_or_else(|| self.damaged_record(id, seq))?;
                let checked = self.check_fact(id, seq, before, &fact).and_then(|()| match c.vouched.is_seen(seq) {
                    false => Ok(()),
                    true => {
                        let unknown = Refusal::UnknownAuthor { author: id.author };
                        let known = *key.get_or_insert_with(|| access.author_key(&id.author));
                        fact.check_signature(&known.ok_or(unknown)?).map_err(Refusal::from)
                    }
                });
                checked.map_err(|why| refused(place(id, seq), why))?;
                before = Some(fact.id());
            }
        }
        Ok(())
    }

    fn check_fact(&self, id: &ChainId, seq: u64, before: Option<FactId>, fact: &Fact) -> Result<(), Refusal> {
        let again = fact.sealed().clone().reopen()?;
        let header = again.header();
        if header.mesh != self.mesh {
            return Err(Refusal::WrongMesh { found: header.mesh });
        }
        if again.body().is_none() {
            return Err(Refusal::BodyMissing);
        }
        if ChainId::of(header) != *id || header.seq != seq {
            return Err(Refusal::Hole { seq });
        }
        if header.prev != before || Some(again.id()) != self.id_at(id, seq) {
            return Err(Refusal::Diverged { seq: seq - 1 });
        }
        Ok(())
    }

    fn damaged_record(&self, id: &ChainId, seq: u64) -> RestoreError {
        let unknown = || Damage { place: place(id, seq), detail: "it cannot be read".into() };
        RestoreError::Damaged(self.damage().cloned().unwrap_or_else(unknown))
    }

    /// Everything from which [`FactLog::restore`] makes an equal log.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.chains.iter().flat_map(|(id, chain)| {
            let facts = (1..=chain.len()).filter_map(|seq| self.at(id, seq));
            let facts = facts.map(|fact| Record::Fact(fact.sealed().clone()));
            let evidence = chain.fork.as_deref().cloned().map(Record::Evidence);
            facts.chain(evidence).chain(chain.vouched.to_mark(id).map(Record::Mark))
        })
    }

    fn restore_evidence(&mut self, evidence: Evidence) -> Result<(), RestoreError> {
        let header = evidence.consistent().map_err(|why| refused("evidence of a fork".into(), why))?;
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

pub(super) fn place(chain: &ChainId, seq: u64) -> String {
    format!("{} of {} ({}), position {seq}", chain.scope, chain.author, chain.incarnation)
}

/// The key of the fact at a position.
pub(super) fn fact_key(chain: &ChainId, seq: u64) -> Vec<u8> {
    key(FACT_PREFIX, chain, Some(seq))
}

/// The fact that lies in a pack, as the record that it was.
fn unpacked(packs: &Packs, archive: &dyn Archive, packed: &Packed) -> Result<Record, RestoreError> {
    let fact = packs.fact(archive, packed).and_then(|value| from_cbor(&value).map_err(|why| why.to_string()));
    let (chain, seq) = packed.place();
    fact.map(Record::Fact).map_err(|detail| RestoreError::Damaged(Damage { place: place(chain, seq), detail }))
}

pub(super) fn key(prefix: &[u8], chain: &ChainId, seq: Option<u64>) -> Vec<u8> {
    let scope = chain.scope.to_string();
    let parts: [&[u8]; 5] = [prefix, scope.as_bytes(), &[0], chain.author.as_bytes(), &chain.incarnation.to_be_bytes()];
    let mut key = parts.concat();
    key.extend(seq.iter().flat_map(|seq| seq.to_be_bytes()));
    key
}

/// [`key`], in reverse: chain and position, and what of the key is left.
pub(super) fn parse<'k>(prefix: &[u8], key: &'k [u8]) -> Option<(ChainId, u64, &'k [u8])> {
    let key = key.strip_prefix(prefix)?;
    let (scope, rest) = key.split_at(key.iter().position(|byte| *byte == 0)?);
    let (author, rest) = rest.strip_prefix(&[0])?.split_first_chunk::<32>()?;
    let (incarnation, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let scope = std::str::from_utf8(scope).ok()?.parse().ok()?;
    let (author, incarnation) = (AuthorId::from_bytes(*author), u32::from_be_bytes(*incarnation));
    Some((ChainId { scope, author, incarnation }, u64::from_be_bytes(*seq), rest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
