//! What a state of the model is made of. Books follow from facts, so they are no part of a state's identity.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use cauldron_crdt::escrow::{Body, Escrow, Life, Place, invariants};
use cauldron_identity::{AuthorId, Digest, FactId};

use crate::NODES;

/// A fact; its id is made of `tag`, a hash of author, position and body.
#[derive(Debug, Clone)]
pub struct Fact {
    pub tag: u64,
    pub place: Place,
    pub body: Arc<Body>,
}

impl Fact {
    pub fn new(node: usize, seq: u64, body: Body) -> Self {
        let mut hasher = DefaultHasher::new();
        (node, seq, &body).hash(&mut hasher);
        let tag = hasher.finish();
        let mut id = [0; 32];
        id[..8].copy_from_slice(&tag.to_be_bytes());
        Self { tag, place: Place { life: life(node), seq, id: FactId::from_bytes(id) }, body: Arc::new(body) }
    }
}

impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag
    }
}
impl Eq for Fact {}
impl Hash for Fact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.tag);
    }
}

/// Books, and which of the invariants hold of them: looked up once, however many states share them.
#[derive(Debug, Clone)]
pub struct Books {
    pub escrow: Escrow,
    pub holds: OnceLock<[bool; 3]>,
}

impl Books {
    pub fn new(escrow: Escrow) -> Arc<Self> {
        Arc::new(Self { escrow, holds: OnceLock::new() })
    }

    pub fn fold(self: &mut Arc<Self>, fact: &Fact) {
        let books = Arc::make_mut(self);
        books.escrow.fold_body(fact.place, Some(Some((*fact.body).clone())));
        books.holds = OnceLock::new();
    }

    /// CONSERVE, NONNEG, CREDIT-ONCE.
    pub fn holds(&self) -> &[bool; 3] {
        self.holds.get_or_init(|| {
            let nonneg = invariants::nonneg(&self.escrow, |_| true);
            [invariants::conserve(&self.escrow).is_ok(), nonneg.is_ok(), invariants::credit_once(&self.escrow).is_ok()]
        })
    }
}

/// What a node knows; `books` follow from `chains`.
#[derive(Debug, Clone)]
pub struct Node {
    pub chains: [Vec<Fact>; NODES],
    pub durable: [usize; NODES],
    pub books: Arc<Books>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        (&self.chains, self.durable) == (&other.chains, other.durable)
    }
}
impl Eq for Node {}
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.chains.hash(state);
        self.durable.hash(state);
    }
}

#[derive(Debug, Clone)]
pub struct State {
    pub nodes: [Arc<Node>; NODES],
    /// Public facts of each author, as the network may deliver them.
    pub public: [Arc<Vec<Fact>>; NODES],
    /// What was really done, by node.
    pub executed: [u64; NODES],
    pub crashes: u8,
    /// The books of all durable facts, which no node has; they follow from `nodes`.
    pub truth: Arc<Books>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let parts = |s: &Self| (s.executed, s.crashes);
        parts(self) == parts(other) && self.nodes == other.nodes && self.public == other.public
    }
}
impl Eq for State {}
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.nodes, &self.public, self.executed, self.crashes).hash(state);
    }
}

pub fn life(node: usize) -> Life {
    Life { author: AuthorId::from_bytes([node as u8; 32]), incarnation: 0 }
}

pub fn purpose(node: usize) -> Digest {
    Digest::from_bytes([node as u8; 32])
}

pub fn node_of(life: &Life) -> usize {
    usize::from(life.author.as_bytes()[0])
}

pub fn publish(public: &mut Arc<Vec<Fact>>, fact: Fact) {
    if let Err(at) = public.binary_search_by_key(&fact.place, |known| known.place) {
        Arc::make_mut(public).insert(at, fact);
    }
}
