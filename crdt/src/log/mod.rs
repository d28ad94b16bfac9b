//! What this node holds: one gapless chain per (author, incarnation, scope).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_identity::{AuthorId, AuthorKey, Fact, FactId, HeaderDraft, MeshId, PublicKey, Scope, SealedFact};
use minicbor::{Decode, Encode};

mod cold;
mod digest;
mod evidence;
mod index;
mod pack;
mod packing;
mod places;
mod range;
mod record;
mod refusal;
mod rows;
#[cfg(test)]
mod tests;
mod vouched;

pub use cold::{Archive, Damage};
pub use evidence::Evidence;
pub use index::INDEX_HEAD;
pub use pack::{PREFIX as PACK_PREFIX, Pack, Packed, Packs, stubbed};
pub use packing::{PackBatch, Packing};
pub use range::Taken;
pub use record::{Record, RestoreError, Restoring};
pub use refusal::Refusal;
pub use rows::Row;
pub use vouched::{Mark, Settled};

use crate::limits;

/// What the log must know about authors. The node implements it over its `Authority`; the answer may only grow.
pub trait Access {
    /// The author's key, once it is enrolled.
    fn author_key(&self, author: &AuthorId) -> Option<PublicKey>;
    /// Writer rule: whether a fact of `kind` by this author is stored in `scope` at all. Beyond a cut it still is, as
    /// evidence; what it counts for is judged elsewhere.
    fn may_write(&self, author: &AuthorId, scope: &Scope, kind: &str) -> bool;
}

/// The name of a chain. `Ord` starts with the scope's order of service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The replication group.
    pub scope: Scope,
    /// Who writes it.
    pub author: AuthorId,
    /// In which life.
    pub incarnation: u32,
}

/// The end of a chain as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Head {
    /// Who writes the chain.
    #[n(0)]
    pub author: AuthorId,
    /// In which life.
    #[n(1)]
    pub incarnation: u32,
    /// Position of the last fact.
    #[n(2)]
    pub seq: u64,
    /// Its id: heights alone would not show a fork.
    #[n(3)]
    pub id: FactId,
}

/// What became of a fact that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is new, and now the head of its chain: persist it before any frame leaves.
    New(Arc<Fact>),
    /// It was here already.
    Duplicate,
    /// It was here already, with a signature that was not seen to be good: persist this copy in its place.
    Mended(Arc<Fact>),
    /// Its author signed two facts for one position. The first one seen stays, the chain is frozen there; the evidence
    /// is to be persisted and shown to every co-reader.
    Fork(Box<Evidence>),
}

/// A fact to be written by this node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub scope: Scope,
    /// This node's incarnation.
    pub incarnation: u32,
    /// What the body is.
    pub kind: String,
    /// Facts it rests on: of the same realm, or of `mesh`.
    pub deps: Vec<FactId>,
    /// The body.
    pub body: Vec<u8>,
    /// Hybrid logical clock, `milliseconds << 16 | counter`.
    pub hlc: u64,
    /// W3C `traceparent` of the work that caused it.
    pub traceparent: Option<String>,
}

#[derive(Debug, Default)]
struct Chain {
    /// Its number in [`FactLog::names`].
    no: u32,
    /// `ids[i]` is the fact of `seq` `i + 1`.
    ids: Vec<FactId>,
    /// As long as `ids`: what is known of each without reading it.
    notes: Vec<rows::Note>,
    /// By `seq`, those in memory.
    hot: BTreeMap<u64, Arc<Fact>>,
    /// The lowest position known to be forked.
    fork: Option<Box<Evidence>>,
    vouched: vouched::Vouched,
}

/// All chains of one node.
///
/// A fact is in the log as soon as it was inserted or appended. The caller must have made its [`Record`] durable before
/// it lets any frame out: an own fact that was told but then lost in a crash would be written a second time, as a fork.
#[derive(Debug)]
pub struct FactLog {
    mesh: MeshId,
    chains: BTreeMap<ChainId, Chain>,
    /// Every chain by its number.
    names: Vec<ChainId>,
    kinds: rows::Kinds,
    places: places::Places,
    hot: cold::Hot,
    digests: digest::Digests,
    /// Chains with work for [`FactLog::settle`].
    unsettled: BTreeSet<ChainId>,
    /// Chains with a signature that is bad.
    damaged: BTreeSet<ChainId>,
    /// Facts that a start left aside.
    left_aside: Vec<(ChainId, u64)>,
}

impl ChainId {
    /// The chain that a header belongs to.
    #[must_use]
    pub fn of(header: &cauldron_identity::Header) -> Self {
        Self { scope: header.scope.clone(), author: header.author, incarnation: header.incarnation }
    }
}

impl FactLog {
    /// An empty log of `mesh` that keeps every fact in memory.
    #[must_use]
    pub fn new(mesh: MeshId) -> Self {
        Self::with_hot(mesh, cold::Hot::default())
    }

    /// An empty log of `mesh` that keeps up to `hot_bytes_max` bytes of facts in memory, and reads the others.
    #[must_use]
    pub fn over(mesh: MeshId, archive: Arc<dyn Archive>, hot_bytes_max: usize) -> Self {
        Self::with_hot(mesh, cold::Hot::new(Some(archive), hot_bytes_max))
    }

    fn with_hot(mesh: MeshId, hot: cold::Hot) -> Self {
        Self {
            mesh,
            chains: BTreeMap::new(),
            names: Vec::new(),
            kinds: rows::Kinds::default(),
            places: places::Places::default(),
            hot,
            digests: digest::Digests::default(),
            unsettled: BTreeSet::new(),
            damaged: BTreeSet::new(),
            left_aside: Vec::new(),
        }
    }

    /// The mesh whose facts it holds.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// Checks a fact from a peer and adds it. Nothing is kept of a fact that is refused, so a flood of orphans costs no
    /// memory.
    ///
    /// # Errors
    /// [`Refusal`]; [`Refusal::blames_peer`] tells a lie from a matter of order.
    pub fn insert(&mut self, sealed: SealedFact, access: &dyn Access) -> Result<Inserted, Refusal> {
        let header = sealed.peek()?;
        if header.mesh != self.mesh {
            return Err(Refusal::WrongMesh { found: header.mesh });
        }
        let chain = ChainId::of(&header);
        let id = sealed.id();
        if self.id_at(&chain, header.seq) == Some(id) {
            if self.is_seen(&chain, header.seq) || sealed.body().is_none() {
                return Ok(Inserted::Duplicate);
            }
            let key = access.author_key(&header.author).ok_or(Refusal::UnknownAuthor { author: header.author })?;
            let fact = sealed.open(&key)?;
            return Ok(self.mend(&chain, fact));
        }
        if self.is_frozen(&chain, header.seq) {
            return Err(Refusal::Forked { seq: header.seq });
        }
        let held = self.held(&chain);
        // Far from the end there is nothing to compare with: no signature is worth checking.
        if header.seq > held + 1 {
            return Err(Refusal::Gap { have: held, got: header.seq });
        }
        let key = access.author_key(&header.author).ok_or(Refusal::UnknownAuthor { author: header.author })?;
        if !access.may_write(&header.author, &header.scope, &header.kind) {
            return Err(Refusal::NotAWriter { author: header.author, kind: header.kind });
        }
        if sealed.body().is_none() {
            return Err(Refusal::BodyMissing);
        }
        let fact = sealed.open(&key)?;
        if header.seq <= held {
            return self.fork(chain, &fact);
        }
        if header.prev != self.id_at(&chain, held) {
            return Err(Refusal::Diverged { seq: held });
        }
        Ok(Inserted::New(self.push(chain, fact)))
    }

    /// Checks evidence from a peer and freezes the chain that it is about.
    ///
    /// # Errors
    /// [`Refusal`] when it proves nothing.
    pub fn insert_evidence(&mut self, evidence: Evidence, access: &dyn Access) -> Result<Inserted, Refusal> {
        let header = evidence.verify(self.mesh, access)?;
        let chain = ChainId::of(&header);
        if self.is_frozen(&chain, header.seq) {
            return Ok(Inserted::Duplicate);
        }
        Ok(Inserted::Fork(self.freeze(chain, evidence)))
    }

    /// Writes the next fact of this node's own chain.
    ///
    /// # Errors
    /// [`Refusal::Forked`] when the own chain is frozen, [`Refusal::ForeignDep`] when a cause lies in a realm whose
    /// readers are others, [`Refusal::TooLarge`] or [`Refusal::Malformed`] when a bound is broken.
    pub fn append(&mut self, key: &AuthorKey, draft: Draft) -> Result<Arc<Fact>, Refusal> {
        self.would_take(&key.author_id(), &draft)?;
        let chain = ChainId { scope: draft.scope.clone(), author: key.author_id(), incarnation: draft.incarnation };
        let held = self.held(&chain);
        let header = HeaderDraft {
            mesh: self.mesh,
            scope: draft.scope,
            incarnation: draft.incarnation,
            seq: held + 1,
            prev: self.id_at(&chain, held),
            hlc: draft.hlc,
            kind: draft.kind,
            deps: draft.deps,
            traceparent: draft.traceparent,
        };
        Ok(self.push(chain, Fact::seal(key, header, draft.body)))
    }

    /// Whether [`FactLog::append`] would take a draft of `author`.
    ///
    /// # Errors
    /// What it would say.
    pub fn would_take(&self, author: &AuthorId, draft: &Draft) -> Result<(), Refusal> {
        let chain = ChainId { scope: draft.scope.clone(), author: *author, incarnation: draft.incarnation };
        let next = self.held(&chain) + 1;
        if self.is_frozen(&chain, next) {
            return Err(Refusal::Forked { seq: next });
        }
        self.check_draft(draft)
    }

    fn check_draft(&self, draft: &Draft) -> Result<(), Refusal> {
        use cauldron_identity::fact::{BODY_LEN_MAX, DEPS_MAX, KIND_LEN_MAX};
        if draft.body.len() > BODY_LEN_MAX {
            return Err(Refusal::TooLarge { what: "body", len: draft.body.len() });
        }
        if draft.deps.len() > DEPS_MAX {
            return Err(Refusal::TooLarge { what: "deps", len: draft.deps.len() });
        }
        if draft.kind.is_empty() || draft.kind.len() > KIND_LEN_MAX {
            return Err(Refusal::TooLarge { what: "kind", len: draft.kind.len() });
        }
        if let Some(trace) = draft.traceparent.as_ref().filter(|t| t.len() > limits::TRACEPARENT_LEN_MAX) {
            return Err(Refusal::TooLarge { what: "traceparent", len: trace.len() });
        }
        let mesh = Scope::mesh();
        for dep in &draft.deps {
            let realm = self.place_of(dep).map(|(chain, _)| chain.scope.realm());
            if realm.is_some_and(|r| r != draft.scope.realm() && r != mesh.realm()) {
                return Err(Refusal::ForeignDep { dep: *dep });
            }
        }
        Ok(())
    }

    fn push(&mut self, chain: ChainId, fact: Fact) -> Arc<Fact> {
        let (no, fact) = self.push_unplaced(chain, fact);
        self.places.insert(fact.id(), no, fact.header().seq);
        fact
    }

    /// Leaves it to [`FactLog::place_all`] that the fact is found by its id.
    fn push_unplaced(&mut self, chain: ChainId, fact: Fact) -> (u32, Arc<Fact>) {
        let fact = Arc::new(fact);
        let note = self.kinds.note(fact.header());
        self.digests.forget(&chain.scope);
        let c = self.chain_mut(&chain);
        let no = c.no;
        c.ids.push(fact.id());
        c.notes.push(note);
        c.hot.insert(fact.header().seq, fact.clone());
        self.hot.came(no, &fact);
        (no, fact)
    }

    fn place_all(&mut self) {
        let ids = self.chains.values().flat_map(|c| c.ids.iter().zip(1..).map(|(id, seq)| (*id, c.no, seq)));
        self.places = ids.collect();
    }

    /// Takes the last fact of a chain out again.
    /// Keys of facts that lie in the store and not in the log, because nothing vouched for them when the process died: to be
    /// taken out of the store before anything else, or the next start would take them for proven. Behind that, the marks of
    /// their chains are to be kept, which say no more of them.
    pub fn left_aside(&mut self) -> (Vec<Vec<u8>>, Vec<Record>) {
        let aside = std::mem::take(&mut self.left_aside);
        let keys = aside.iter().map(|(chain, seq)| record::fact_key(chain, *seq)).collect();
        let chains: BTreeSet<ChainId> = aside.into_iter().map(|(chain, _)| chain).collect();
        (keys, chains.iter().filter_map(|chain| self.mark(chain)).collect())
    }

    fn pop(&mut self, id: &ChainId) {
        let Some(c) = self.chains.get_mut(id) else { return };
        let seq = c.len();
        if let Some(last) = c.ids.pop() {
            c.notes.pop();
            self.places.remove(last, c.no, seq);
            c.hot.remove(&seq).iter().for_each(|fact| self.hot.left(fact));
            self.digests.forget(&id.scope);
        }
    }

    fn chain_mut(&mut self, id: &ChainId) -> &mut Chain {
        if !self.chains.contains_key(id) {
            let no = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.push(id.clone());
            self.chains.insert(id.clone(), Chain { no, ..Chain::default() });
        }
        self.chains.entry(id.clone()).or_default()
    }

    fn fork(&mut self, chain: ChainId, second: &Fact) -> Result<Inserted, Refusal> {
        let seq = second.header().seq;
        let evidence = Evidence::new(&self.proof(&chain, seq), std::slice::from_ref(second.sealed()));
        Ok(Inserted::Fork(self.freeze(chain, evidence)))
    }

    fn freeze(&mut self, chain: ChainId, evidence: Evidence) -> Box<Evidence> {
        let evidence = Box::new(evidence);
        self.digests.forget(&chain.scope);
        self.chain_mut(&chain).fork = Some(evidence.clone());
        evidence
    }

    /// The fact named `id`: from memory, or from the archive.
    #[must_use]
    pub fn get(&self, id: &FactId) -> Option<Arc<Fact>> {
        let (chain, seq) = self.place_of(id)?;
        self.at(chain, seq)
    }

    /// Whether the fact named `id` is held.
    #[must_use]
    pub fn contains(&self, id: &FactId) -> bool {
        self.place_of(id).is_some()
    }

    /// Where the fact named `id` stands.
    #[must_use]
    pub fn place_of(&self, id: &FactId) -> Option<(&ChainId, u64)> {
        let places = self.places.of(id).filter_map(|(no, seq)| Some((self.names.get(usize::try_from(no).ok()?)?, seq)));
        places.into_iter().find(|(chain, seq)| self.id_at(chain, *seq) == Some(*id))
    }

    /// The id of the fact at a position; none for position 0.
    #[must_use]
    pub fn id_at(&self, chain: &ChainId, seq: u64) -> Option<FactId> {
        self.chains.get(chain)?.id_at(seq)
    }

    /// The last position held of `chain`; 0 when nothing is.
    #[must_use]
    pub fn held(&self, chain: &ChainId) -> u64 {
        self.chains.get(chain).map_or(0, Chain::len)
    }

    /// The lowest position of `chain` that is known to be forked.
    #[must_use]
    pub fn fork_seq(&self, chain: &ChainId) -> Option<u64> {
        self.chains.get(chain)?.fork.as_ref().map(|e| e.seq())
    }

    fn is_frozen(&self, chain: &ChainId, seq: u64) -> bool {
        self.fork_seq(chain).is_some_and(|fork| seq >= fork)
    }

    /// What this node tells others it has of `scope`: one head per chain, in order. Of a forked chain only what lies
    /// below the fork is told; [`FactLog::evidence`] tells the rest.
    #[must_use]
    pub fn vector(&self, scope: &Scope) -> Vec<Head> {
        self.chains_of(scope).filter_map(|(chain, c)| c.head(chain)).collect()
    }

    /// The head of one chain, as [`FactLog::vector`] tells it.
    #[must_use]
    pub fn head(&self, chain: &ChainId) -> Option<Head> {
        self.chains.get(chain)?.head(chain)
    }

    /// Evidence of forks in `scope`.
    pub fn evidence<'l>(&'l self, scope: &'l Scope) -> impl Iterator<Item = &'l Evidence> {
        self.chains_of(scope).filter_map(|(_, c)| c.fork.as_deref())
    }

    /// The evidence about one chain.
    #[must_use]
    pub fn evidence_of(&self, chain: &ChainId) -> Option<&Evidence> {
        self.chains.get(chain)?.fork.as_deref()
    }

    /// Every fact, in an order that depends on nothing but the set: by scope, author, incarnation, seq. It reads what is
    /// not in memory, so it is for rare questions: see [`FactLog::rows`].
    pub fn iter(&self) -> impl Iterator<Item = Arc<Fact>> {
        self.chains.iter().flat_map(|(id, c)| (1..=c.len()).filter_map(|seq| self.at(id, seq)))
    }

    /// Every fact of `scope`, by author, incarnation, seq; as [`FactLog::iter`].
    pub fn iter_scope<'l>(&'l self, scope: &'l Scope) -> impl Iterator<Item = Arc<Fact>> + 'l {
        self.chains_of(scope).flat_map(|(id, c)| (1..=c.len()).filter_map(|seq| self.at(id, seq)))
    }

    /// The scopes of which something is held, in the order of service.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.chains.keys().map(|chain| chain.scope.clone()).collect();
        scopes.dedup();
        scopes
    }

    /// Number of facts held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn chains_of<'l>(&'l self, scope: &'l Scope) -> impl Iterator<Item = (&'l ChainId, &'l Chain)> {
        let first = ChainId { scope: scope.clone(), author: AuthorId::from_bytes([0; 32]), incarnation: 0 };
        self.chains.range(first..).take_while(move |(chain, _)| chain.scope == *scope)
    }
}

impl Chain {
    fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    fn id_at(&self, seq: u64) -> Option<FactId> {
        self.ids.get(usize::try_from(seq.checked_sub(1)?).ok()?).copied()
    }

    /// The last fact below any fork.
    fn head(&self, chain: &ChainId) -> Option<Head> {
        let below = self.fork.as_ref().map_or(u64::MAX, |e| e.seq() - 1);
        let seq = below.min(self.len());
        Some(Head { author: chain.author, incarnation: chain.incarnation, seq, id: self.id_at(seq)? })
    }
}
