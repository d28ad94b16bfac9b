//! What a chain knows of each fact without reading it: enough to count, to pick and to leave alone.

use std::collections::BTreeMap;

use cauldron_identity::{FactId, Header, Scope};

use super::{Chain, ChainId, FactLog};
use crate::limits::KINDS_MAX;

/// One fact, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'l> {
    /// Its chain.
    pub chain: &'l ChainId,
    /// Its position.
    pub seq: u64,
    /// Its id.
    pub id: FactId,
    /// Its kind; none when the log knows of too many kinds: then only the fact tells.
    pub kind: Option<&'l str>,
    /// Its author's hybrid clock, as in the header.
    pub hlc: u64,
    /// Whether it was said that no fold needs it: [`FactLog::shelve`].
    pub shelved: bool,
}

/// The same in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub hlc: u64,
    pub kind: u16,
    pub shelved: bool,
}

/// Kinds by number: there are few, and a fact should not name its own.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    names: Vec<String>,
    numbers: BTreeMap<String, u16>,
}

impl Kinds {
    pub fn note(&mut self, header: &Header) -> Note {
        Note { hlc: header.hlc, kind: self.number(&header.kind), shelved: false }
    }

    /// [`KINDS_MAX`] stands for every kind that came when the table was full.
    pub fn number(&mut self, kind: &str) -> u16 {
        if let Some(number) = self.numbers.get(kind) {
            return *number;
        }
        let number = u16::try_from(self.names.len()).unwrap_or(KINDS_MAX).min(KINDS_MAX);
        if number < KINDS_MAX {
            self.names.push(kind.to_owned());
            self.numbers.insert(kind.to_owned(), number);
        }
        number
    }

    pub fn name(&self, number: u16) -> Option<&str> {
        self.names.get(usize::from(number)).map(String::as_str)
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl FactLog {
    /// Every fact, unread, in the order of [`FactLog::iter`].
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.chains.iter().flat_map(|(id, c)| self.rows_of(id, c, 0))
    }

    /// Every fact of `scope`, unread.
    pub fn rows_in<'l>(&'l self, scope: &'l Scope) -> impl Iterator<Item = Row<'l>> {
        self.chains_of(scope).flat_map(|(id, c)| self.rows_of(id, c, 0))
    }

    /// The facts of `chain` from a position on, unread.
    pub fn rows_from<'l>(&'l self, chain: &ChainId, from: u64) -> impl Iterator<Item = Row<'l>> {
        let from = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let held = self.chains.get_key_value(chain);
        held.into_iter().flat_map(move |(id, c)| self.rows_of(id, c, from))
    }

    /// Every chain, in order.
    pub fn chains(&self) -> impl Iterator<Item = &ChainId> {
        self.chains.keys()
    }

    /// Number of facts of `scope`.
    #[must_use]
    pub fn count_in(&self, scope: &Scope) -> u64 {
        self.chains_of(scope).map(|(_, c)| c.len()).sum()
    }

    /// Number of facts whose authors' clocks stood beyond `wall_ms`.
    #[must_use]
    pub fn count_beyond(&self, wall_ms: u64) -> u64 {
        self.chains.values().map(|c| c.notes.iter().filter(|note| note.hlc >> 16 > wall_ms).count() as u64).sum()
    }

    /// When the fact at a position was written, by its author's clock, milliseconds since the Unix epoch. Nothing is read for it.
    pub fn written_ms(&self, chain: &ChainId, seq: u64) -> Option<u64> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.chains.get(chain)?.notes.get(at).map(|note| note.hlc >> 16)
    }

    /// Every fact of `kind`. Only those are read, and those whose kind is not known.
    pub fn of_kind<'l>(&'l self, kind: &'l str) -> impl Iterator<Item = std::sync::Arc<cauldron_identity::Fact>> + 'l {
        let asked = self.rows().filter(move |row| row.kind.is_none_or(|known| known == kind));
        asked.filter_map(|row| self.at(row.chain, row.seq)).filter(move |fact| fact.header().kind == kind)
    }

    /// Says that no fold needs the facts at these positions any more, or that it does again: they are not read when the node opens.
    /// They stay what they are for everybody else, and an unclean stop forgets that this was said.
    pub fn shelve(&mut self, chain: &ChainId, seqs: &[u64], shelved: bool) {
        let Some(c) = self.chains.get_mut(chain) else { return };
        for seq in seqs {
            let index = seq.checked_sub(1).and_then(|index| usize::try_from(index).ok());
            if let Some(note) = index.and_then(|index| c.notes.get_mut(index)) {
                note.shelved = shelved;
            }
        }
    }

    /// Says that folds need every fact again.
    pub fn shelve_nothing(&mut self) {
        self.chains.values_mut().flat_map(|c| &mut c.notes).for_each(|note| note.shelved = false);
    }

    fn rows_of<'l>(&'l self, chain: &'l ChainId, c: &'l Chain, skip: usize) -> impl Iterator<Item = Row<'l>> {
        let (ids, notes) = (c.ids.get(skip..).unwrap_or_default(), c.notes.get(skip..).unwrap_or_default());
        let noted = ids.iter().zip(notes).zip(skip as u64 + 1..);
        noted.map(move |((id, note), seq)| {
            let (hlc, kind, shelved) = (note.hlc, self.kinds.name(note.kind), note.shelved);
            Row { chain, seq, id: *id, kind, hlc, shelved }
        })
    }
}
