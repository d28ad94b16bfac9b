//! From the records of a store to a node that knows them again.

use std::sync::Arc;

use cauldron_coordinator::ledger::Ledger;
use cauldron_crdt::doc::{KIND as KIND_CHANGE, KIND_SEAL};
use cauldron_crdt::log::{Damage, INDEX_HEAD, RestoreError};
use cauldron_crdt::{Archive, ChainId, Escrow, FactLog, Record as LogRecord, Restoring, Row};
use cauldron_identity::authority::{EntryBody, KIND_HELD, KIND_ISSUED, KIND_ROOTS};
use cauldron_identity::{MeshId, Scope, planted};

use crate::config::OpenError;
use crate::core::NodeCore;
use crate::input::Record;
use crate::local::{self, Local};

/// Takes the records of a store as they are read, for [`NodeCore::open_with`].
#[derive(Debug)]
pub struct Opening {
    pub(crate) locals: Vec<Local>,
    facts: Restoring,
    /// An index lies in the store, true or not: it is not of what comes now.
    index: bool,
}

impl Opening {
    /// Keeps every fact in memory.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self { locals: Vec::new(), facts: Restoring::new(mesh), index: false }
    }

    /// Keeps up to `hot_bytes_max` bytes of facts in memory and reads the others from `archive`: the same store.
    #[must_use]
    pub fn over(mesh: MeshId, archive: Arc<dyn Archive>, hot_bytes_max: usize) -> Self {
        let index = !matches!(archive.read(INDEX_HEAD), Ok(None));
        Self { locals: Vec::new(), facts: Restoring::from(mesh, archive, hot_bytes_max), index }
    }

    /// Whether the store was left in order, so that records under `f/`, which are most, need not be taken.
    #[must_use]
    pub fn knows_facts(&self) -> bool {
        self.facts.is_indexed()
    }

    /// Takes the next record; in the order of keys it takes no more memory than the facts may.
    ///
    /// # Errors
    /// It cannot be read, or does not hold.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), OpenError> {
        if key.starts_with(local::PREFIX) {
            let source = |source| OpenError::Local { key: String::from_utf8_lossy(key).into_owned(), source };
            self.locals.push(Local::decode(key, value).map_err(source)?);
            return Ok(());
        }
        if key.starts_with(local::JUDGED) {
            return Ok(());
        }
        if LogRecord::is_index(key) {
            self.index |= key == INDEX_HEAD;
            return Ok(());
        }
        let record = LogRecord::read(key, value).map_err(OpenError::Log)?;
        self.facts.take(record).map_err(OpenError::Log)
    }

    /// A note of the shell, where its record was taken.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&[u8]> {
        self.locals.iter().find_map(|local| match local {
            Local::Note(known, value) if known == name => Some(value.as_slice()),
            _ => None,
        })
    }

    /// The log, and what is to be persisted before anything else.
    pub(crate) fn done(self) -> Result<(FactLog, Option<Record>), OpenError> {
        let log = self.facts.done().map_err(OpenError::Log)?;
        let gone = self.index && !planted::active("index-outlives-its-store");
        Ok((log, gone.then(|| Record { key: INDEX_HEAD.to_vec(), value: None })))
    }
}

/// Whether [`NodeCore::fold`] looks into a fact. Of any other it is enough to know where it stands.
fn is_folded(row: &Row<'_>) -> bool {
    let looked_into = |kind: &str| {
        let here = [KIND_HELD, KIND_CHANGE, KIND_SEAL, KIND_ROOTS, KIND_ISSUED];
        here.contains(&kind) || Escrow::reads(kind) || Ledger::reads(kind)
    };
    !row.shelved && row.kind.is_none_or(looked_into)
}

impl NodeCore {
    /// Folds everything that the log holds, authority first. What no fold looks into is not read. An index knows what that is of
    /// closed epochs.
    pub(crate) fn refold(&mut self, terms: &[EntryBody], indexed: bool) -> Result<(), OpenError> {
        let authority = Scope::authority();
        for fact in self.log.iter_scope(&authority) {
            self.authority.apply(&fact);
        }
        let forks: Vec<_> = self.log.evidence(&authority).filter_map(cauldron_crdt::Evidence::header).collect();
        for header in forks {
            self.authority.forked(header.author, header.incarnation, header.seq);
        }
        self.authority.apply_terms(terms);
        self.forget_terms();
        self.become_incarnation();
        self.fork_rights();
        let chains: Vec<ChainId> = self.log.chains().filter(|chain| chain.scope != authority).cloned().collect();
        for chain in chains {
            let mut next = 1;
            while let Some(seq) = self.next_folded(&chain, next) {
                if let Some(fact) = self.log.at(&chain, seq) {
                    self.fold(&fact);
                }
                next = seq + 1;
            }
        }
        if let Some(damage) = self.log.damage() {
            return Err(OpenError::Log(RestoreError::Damaged(damage.clone())));
        }
        self.docs.settle_all();
        if !indexed {
            self.shelve_closed();
        }
        Ok(())
    }

    /// The next position that a fold looks into; the books hear of the others.
    fn next_folded(&mut self, chain: &ChainId, from: u64) -> Option<u64> {
        for row in self.log.rows_from(chain, from) {
            if is_folded(&row) {
                return Some(row.seq);
            }
            self.escrow.fold_unread(&row);
        }
        None
    }

    /// What a clean stop leaves in the store, so that the next start need not read the facts: records in the order in
    /// which they must become durable, after everything else and before nothing.
    pub fn index(&self) -> impl Iterator<Item = Record> {
        self.log.index().map(|(key, value)| Record { key, value: Some(value) })
    }

    /// A record of the store that could not be read back. What was answered since may lack facts: the shell lets nothing of
    /// it out, and stops.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.log.damage()
    }
}
