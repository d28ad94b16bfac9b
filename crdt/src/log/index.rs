//! What a clean stop leaves behind, so that the next start need not read the facts: every id, and what is known of each.
//!
//! The rows of all chains lie in numbered chunks; the head says what they are of and what they hash to. Chunks are written
//! first, the head last; the head is removed with or before the first record that the index does not know of. So a head
//! that is there is true of the store, and anything else that is found means: read the facts.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{AuthorId, Digest, FactId, MeshId, Scope};
use minicbor::{Decode, Encode};

use super::record::fact_key;
use super::rows::Note;
use super::{Archive, ChainId, FactLog, cold};
use crate::limits::{INDEX_ROWS, KINDS_MAX};
use crate::runs::Runs;

pub(super) const PREFIX: &[u8] = b"x/";
/// Key of the head of the index.
pub const INDEX_HEAD: &[u8] = b"x/\0\0\0\0";
/// Of this layout, and of what shelved facts are summed up in. A start that finds another one reads the facts.
const VERSION: u8 = crate::doc::CLOSED_VERSION + 1;
/// Id, clock, kind and whether it is shelved.
const ROW_LEN: usize = 32 + 8 + 2 + 1;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    v: u8,
    #[n(1)]
    mesh: MeshId,
    #[n(2)]
    chunks: u32,
    /// Over every chunk, and over this head with the digest of the chunks in this place.
    #[n(3)]
    digest: Digest,
    #[n(4)]
    kinds: Vec<String>,
    #[n(5)]
    chains: Vec<Indexed>,
}

/// One chain.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct Indexed {
    #[n(0)]
    scope: Scope,
    #[n(1)]
    author: AuthorId,
    #[n(2)]
    incarnation: u32,
    #[n(3)]
    facts: u64,
    /// First and last of each run of positions whose signature nobody looked at.
    #[n(4)]
    unseen: Vec<(u64, u64)>,
    /// The same, of signatures that are not the author's.
    #[n(5)]
    bad: Vec<(u64, u64)>,
}

impl Head {
    fn sealed(self) -> Self {
        Self { digest: Digest::of("cauldron/index/v1", &to_cbor(&self)), ..self }
    }
}

impl FactLog {
    /// The index of this log: keys and values in the order in which they must become durable, no other record between.
    pub fn index(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let mut rows = self.chains.values().flat_map(|c| c.ids.iter().zip(&c.notes));
        let (mut chunks, mut digest, mut done) = (0, Digest::from_bytes([0; 32]), false);
        std::iter::from_fn(move || {
            let mut chunk = Vec::with_capacity(INDEX_ROWS * ROW_LEN);
            rows.by_ref().take(INDEX_ROWS).for_each(|(id, note)| push_row(&mut chunk, *id, *note));
            if chunk.is_empty() {
                return (!std::mem::replace(&mut done, true))
                    .then(|| (INDEX_HEAD.to_vec(), self.head_of(chunks, digest)));
            }
            chunks += 1;
            digest = digest_of(digest, &chunk);
            Some((chunk_key(chunks), chunk))
        })
    }

    fn head_of(&self, chunks: u32, digest: Digest) -> Vec<u8> {
        let indexed = |(id, c): (&ChainId, &super::Chain)| {
            let (unseen, bad) = c.vouched.unproven();
            let runs = |positions: &BTreeSet<u64>| Runs::of(positions.iter().copied()).pairs().to_vec();
            let (scope, author, incarnation) = (id.scope.clone(), id.author, id.incarnation);
            Indexed { scope, author, incarnation, facts: c.len(), unseen: runs(unseen), bad: runs(bad) }
        };
        let chains = self.chains.iter().filter(|(_, c)| c.len() > 0).map(indexed).collect();
        let kinds = self.kinds.names().to_vec();
        to_cbor(&Head { v: VERSION, mesh: self.mesh, chunks, digest, kinds, chains }.sealed())
    }

    /// The log that an index in the archive tells of, without one fact read; none when there is no index, or one that
    /// does not hold together.
    #[must_use]
    pub fn indexed(mesh: MeshId, archive: &Arc<dyn Archive>, hot_bytes_max: usize) -> Option<Self> {
        let head: Head = from_cbor(&archive.read(INDEX_HEAD).ok()??).ok()?;
        let fits = head.v == VERSION && head.mesh == mesh && head.kinds.len() <= usize::from(KINDS_MAX);
        let mut log = Self::with_hot(mesh, cold::Hot::new(Some(archive.clone()), hot_bytes_max));
        let known = head.kinds.iter().zip(0..).all(|(kind, number)| log.kinds.number(kind) == number);
        if !fits || !known {
            return None;
        }
        let mut rows = Chunks {
            archive: archive.as_ref(),
            left: head.chunks,
            chunk: Vec::new(),
            at: 0,
            read: 0,
            digest: Digest::from_bytes([0; 32]),
        };
        for chain in &head.chains {
            log.index_chain(chain, &mut rows)?;
        }
        if rows.left > 0 || rows.at < rows.chunk.len() {
            return None;
        }
        let digest = head.digest;
        if (Head { digest: rows.digest, ..head }).sealed().digest != digest {
            return None;
        }
        log.place_all();
        // Nothing came between: the last fact of each chain is where the index says, and none follows.
        let follows = |id, c: &super::Chain| archive.read(&fact_key(id, c.len() + 1)) != Ok(None);
        let ends = log.chains.iter().all(|(id, c)| log.at(id, c.len()).is_some() && !follows(id, c));
        ends.then_some(log)
    }

    fn index_chain(&mut self, chain: &Indexed, rows: &mut Chunks<'_>) -> Option<()> {
        let id = ChainId { scope: chain.scope.clone(), author: chain.author, incarnation: chain.incarnation };
        let facts = usize::try_from(chain.facts).ok().filter(|facts| *facts > 0 && *facts <= rows.most())?;
        if self.chains.contains_key(&id) {
            return None;
        }
        let c = self.chain_mut(&id);
        // No more than a chunk proves.
        c.ids.reserve_exact(facts.min(INDEX_ROWS));
        c.notes.reserve_exact(facts.min(INDEX_ROWS));
        for _ in 0..facts {
            let (fact, note) = rows.next()?;
            c.ids.push(fact);
            c.notes.push(note);
        }
        self.restore_vouched(&id, positions(&chain.unseen, chain.facts)?, positions(&chain.bad, chain.facts)?);
        Some(())
    }
}

/// The rows of an index, chunk by chunk.
struct Chunks<'a> {
    archive: &'a dyn Archive,
    left: u32,
    chunk: Vec<u8>,
    at: usize,
    read: u32,
    digest: Digest,
}

impl Chunks<'_> {
    /// Rows that can still come: an index that promises more is none.
    fn most(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1).saturating_mul(INDEX_ROWS)
    }

    fn next(&mut self) -> Option<(FactId, Note)> {
        if self.at >= self.chunk.len() {
            self.left = self.left.checked_sub(1)?;
            self.read += 1;
            self.chunk = self.archive.read(&chunk_key(self.read)).ok()??;
            self.digest = digest_of(self.digest, &self.chunk);
            self.at = 0;
        }
        let row = self.chunk.get(self.at..self.at + ROW_LEN)?;
        self.at += ROW_LEN;
        let (id, rest) = row.split_first_chunk::<32>()?;
        let (hlc, rest) = rest.split_first_chunk::<8>()?;
        let (kind, shelved) = rest.split_first_chunk::<2>()?;
        let (hlc, kind) = (u64::from_be_bytes(*hlc), u16::from_be_bytes(*kind));
        Some((FactId::from_bytes(*id), Note { hlc, kind, shelved: shelved == [1] }))
    }
}

fn push_row(chunk: &mut Vec<u8>, id: FactId, note: Note) {
    chunk.extend_from_slice(id.as_bytes());
    chunk.extend_from_slice(&note.hlc.to_be_bytes());
    chunk.extend_from_slice(&note.kind.to_be_bytes());
    chunk.push(u8::from(note.shelved));
}

fn digest_of(before: Digest, chunk: &[u8]) -> Digest {
    Digest::of("cauldron/index-rows/v1", &[before.as_bytes().as_slice(), chunk].concat())
}

fn chunk_key(number: u32) -> Vec<u8> {
    [PREFIX, &number.to_be_bytes()].concat()
}

/// None when a run names what the chain does not have.
fn positions(runs: &[(u64, u64)], held: u64) -> Option<BTreeSet<u64>> {
    Runs::read(runs, held, held).map(|runs| runs.iter().collect())
}
