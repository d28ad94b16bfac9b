//! What was seen from outside: promises given, starts written, effects made. The invariants judge this, not the nodes'
//! own opinion of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cauldron_identity::authority::{ChainEnd, EntryBody};
use cauldron_identity::{AuthorId, FactId, PublicKey, Scope, SpiffeId};

use crate::facts::{Facts, Known};
use crate::network::Place;
use crate::queue::Ms;

/// A node told a client that a fact is recorded.
#[derive(Debug, Clone)]
pub struct Ack {
    /// When.
    pub at: Ms,
    /// Who promised.
    pub place: Place,
    /// What.
    pub fact: FactId,
}

/// A change of a blocklist file.
#[derive(Debug, Clone)]
pub struct Effect {
    /// When.
    pub at: Ms,
    /// On which machine.
    pub place: Place,
    /// Under which permit.
    pub permit: FactId,
    /// The lineage it belongs to.
    pub lineage: FactId,
    /// The resource.
    pub resource: String,
    /// The intent.
    pub intent: String,
    /// Whether it was taken back: then its intent may be wanted again, by another lineage.
    pub taken_back: bool,
}

/// Where in its author's life a fact stands.
pub type Position = (AuthorId, u32, Scope, u64);

/// Everything seen.
#[derive(Debug, Default)]
pub struct History {
    /// Every fact that any process said it keeps.
    pub facts: Facts,
    /// What any disk ever held at each position.
    pub positions: BTreeMap<Position, BTreeSet<FactId>>,
    /// Promises.
    pub acks: Vec<Ack>,
    /// Effects, in order.
    pub effects: Vec<Effect>,
    /// Facts written by a restored node before anybody who knew better had spoken to it (decision 0005): the one case in
    /// which an honest node may fork itself.
    pub blind: BTreeSet<FactId>,
    /// Facts written by an adversary with an honest node's key.
    pub forged: BTreeSet<FactId>,
    /// Owners whose key an adversary holds.
    pub liars: BTreeSet<AuthorId>,
    /// Own facts that were lost with a disk.
    pub lost: BTreeSet<FactId>,
    /// How often each author's machine got a disk that had lost facts of its own.
    pub restored: BTreeMap<AuthorId, u64>,
    /// Proposals in the order in which agents made them, with the owner's place.
    pub proposals: Vec<(FactId, Place)>,
    /// Terms that the council signed.
    pub terms: Vec<EntryBody>,
    /// The entry that every node held when hq was made to sign two behind it, with its place; and when.
    pub lie: Option<(Option<FactId>, u64, Ms)>,
    /// Author keys that a compromised hq enrolled under names of others.
    pub impostors: Vec<(SpiffeId, PublicKey)>,
    /// Invented people: id, the seed of their key, and the entry that enrolled them.
    pub invented: Vec<(String, [u8; 32], FactId)>,
    /// Authors that the council cut, and when hq recorded it.
    pub cuts: BTreeMap<AuthorId, Ms>,
    /// Where the council cut each life of an author; more than once, where an entry was lost on the way.
    pub cut_ends: BTreeMap<(AuthorId, u32), Vec<Vec<ChainEnd>>>,
}

impl History {
    /// Takes note of a fact; the first reading of its bytes is kept.
    pub fn fact(&mut self, fact: Known) -> Arc<Known> {
        self.facts.entry(fact.id).or_insert_with(|| Arc::new(fact)).clone()
    }

    /// A fact is durable somewhere.
    pub fn durable(&mut self, fact: &Known) {
        let h = &fact.header;
        self.positions.entry((h.author, h.incarnation, h.scope.clone(), h.seq)).or_default().insert(fact.id);
    }
}
