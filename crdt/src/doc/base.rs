//! A document in one piece, for a node that lacks most of its facts.
//!
//! Such a node can read and write long before it has caught up with the facts, and trusts nobody for it: a change names
//! the changes it follows by hash, among them always its author's last one. So one signed fact per actor, the one with
//! its last change, proves who wrote what. The facts of all others come afterwards, by sync, and take their places.
//!
//! What a base cannot prove is that it is the newest, that no fact in between was one that no document takes, and that the
//! facts will come. The first costs nothing; where the facts say otherwise once they are here, the document is built anew
//! from them; and where they do not come, the base is given up, and who had written on top of it says its part again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{ActorId, Automerge};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Digest, Fact, SealedFact, planted};
use minicbor::{Decode, Encode};

use super::check::{self, NotUnpacked};
use super::document::{Document, Writer};
use super::engine::Engine;
use super::epoch::{EpochId, Epochs};
use super::fence::{Source, screen};
use super::genesis::{self, Genesis};
use super::{DocChange, DocKey, KIND, KIND_SEAL, Seal, Unfit, actor_of, change_of, limits};
use crate::log::{Access, Refusal};

/// The last change of one actor: a signed fact, whose body follows from the chunk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Tip {
    /// Header and signature.
    #[n(0)]
    fact: SealedFact,
    #[n(1)]
    round: u32,
    #[n(2)]
    keeps: Option<u64>,
    #[n(3)]
    again: Option<u64>,
    #[n(4)]
    more: Option<bool>,
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Packed {
    #[n(0)]
    doc: String,
    #[n(1)]
    epoch: u32,
    /// One Automerge document chunk.
    #[cbor(n(2), with = "minicbor::bytes")]
    chunk: Vec<u8>,
    /// One per actor.
    #[n(3)]
    tips: Vec<Tip>,
    /// What the epoch began from; none for the first.
    #[n(4)]
    genesis: Option<Digest>,
    /// The seals of two readers who folded the epoch before to it.
    #[n(5)]
    seals: Vec<SealedFact>,
}

/// Why a base is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It is no base of this document: whoever sent it broke the protocol.
    #[error("these are not the bytes of a base")]
    Malformed,
    /// The fact with an actor's last change is not what it should be.
    #[error("the fact that vouches for an author is refused: {0}")]
    Tip(Refusal),
    /// An author counts for nothing here, or no longer: the sender may only know less.
    #[error("it holds changes of an author that does not count here")]
    Author,
    /// The chunk was not unpacked.
    #[error("it is not unpacked: {0}")]
    Chunk(NotUnpacked),
    /// A change in it would be refused.
    #[error("it holds a change that is refused: {0}")]
    Change(Unfit),
    /// An actor's last change is not the one that its author signed.
    #[error("it holds changes that nobody signed")]
    Unsigned,
}

/// A base whose vouching facts were checked.
#[derive(Debug)]
pub(super) struct Checked {
    id: EpochId,
    /// Who wrote the beginning of the epoch.
    begins: Option<ActorId>,
    chunk: Vec<u8>,
    tips: BTreeMap<ActorId, (Tip, Arc<Fact>)>,
}

/// What a document still has of its base.
#[derive(Debug)]
pub(super) struct Base {
    /// The last fact of each actor, without its body.
    pub tips: Vec<Arc<Fact>>,
    pub actors: BTreeMap<ActorId, Writer>,
}

/// A document that is to be packed.
#[derive(Debug)]
pub(super) struct Saving {
    engine: Automerge,
    packed: Packed,
}

impl BaseError {
    /// Whether the sender made it up or broke the protocol.
    #[must_use]
    pub fn blames_peer(&self) -> bool {
        match self {
            Self::Tip(refusal) => refusal.blames_peer(),
            Self::Author | Self::Chunk(NotUnpacked::Untried(_)) => false,
            Self::Malformed | Self::Chunk(NotUnpacked::Bad(_)) | Self::Change(_) | Self::Unsigned => true,
        }
    }
}

impl Saving {
    /// Takes what is needed of a document that lacks no fact.
    pub fn of(epochs: &Epochs) -> Option<Self> {
        let document = epochs.here().filter(|_| epochs.unproven() == 0)?;
        if document.fence.bare() > 0 || document.cost() > 0 || document.fence.accepted().is_empty() {
            return None;
        }
        let mut tips = Vec::new();
        for hash in document.fence.tips() {
            let held = document.fence.find(hash)?;
            let Some(fact) = held.fact() else { continue };
            let body = DocChange::of(fact)?;
            let fact = fact.sealed().without_body();
            tips.push(Tip { fact, round: body.round, keeps: body.keeps, again: body.again, more: body.more });
        }
        let (doc, id) = (document.key.doc.to_string(), document.id);
        let seals = epochs.seals_of(&id);
        let packed = Packed { doc, epoch: id.number, genesis: id.genesis, chunk: Vec::new(), tips, seals };
        let fits = packed.tips.len() <= limits::BASE_TIPS_MAX;
        fits.then(|| Self { engine: document.engine.doc.clone(), packed })
    }

    pub fn run(self) -> Option<Vec<u8>> {
        let chunk = catch_unwind(AssertUnwindSafe(|| self.engine.save())).ok()?;
        Some(to_cbor(&Packed { chunk, ..self.packed }))
    }
}

impl Epochs {
    /// Two seals that count, by which an epoch began.
    fn seals_of(&self, id: &EpochId) -> Vec<SealedFact> {
        let before =
            self.ends.iter().filter_map(|(of, ends)| ends.iter().find(|found| found.next == *id).map(|f| (of, f)));
        let mut by_author = BTreeMap::new();
        for (of, found) in before {
            let votes = self.votes.get(of).into_iter().flatten();
            for vote in votes.filter(|vote| vote.counts && Some(vote.next) == id.genesis && vote.heads == found.heads) {
                by_author.entry(vote.fact.header().author).or_insert_with(|| vote.fact.sealed().clone());
            }
        }
        by_author.into_values().take(limits::SEAL_READERS).collect()
    }
}

impl Base {
    pub fn has(&self, writer: &Writer) -> bool {
        self.actors.values().any(|of| of == writer)
    }
}

/// Checks a fact that vouches for something in a document.
fn open(
    key: &DocKey,
    kind: &str,
    sealed: &SealedFact,
    access: &dyn Access,
    counts: &dyn Fn(&Fact) -> bool,
) -> Result<Fact, BaseError> {
    let header = sealed.peek().map_err(|why| BaseError::Tip(why.into()))?;
    if header.scope != key.scope || header.kind != kind {
        return Err(BaseError::Malformed);
    }
    let known = access.author_key(&header.author).ok_or(BaseError::Author)?;
    if !access.may_write(&header.author, &header.scope, &header.kind) {
        return Err(BaseError::Author);
    }
    let fact = sealed.clone().open(&known).map_err(|why| BaseError::Tip(why.into()))?;
    if counts(&fact) { Ok(fact) } else { Err(BaseError::Author) }
}

/// Checks the seals by which an epoch began. Gives who wrote its beginning; none for the first epoch.
fn read_seals(
    key: &DocKey,
    id: &EpochId,
    sealed: &[SealedFact],
    access: &dyn Access,
    counts: &dyn Fn(&Fact) -> bool,
) -> Result<Option<ActorId>, BaseError> {
    let Some(next) = id.genesis else { return Ok(None) };
    let (mut readers, mut begins) = (BTreeSet::new(), None);
    for sealed in sealed.iter().take(limits::SEAL_READERS) {
        let fact = open(key, KIND_SEAL, sealed, access, counts)?;
        let seal: Seal = super::read_body(&fact).ok_or(BaseError::Malformed)?;
        let (before, heads) = seal.read().ok_or(BaseError::Malformed)?;
        let actor = genesis::actor_of(key, &before, &heads);
        let same = begins.as_ref().is_none_or(|known| *known == actor);
        if seal.doc != key.doc.to_string() || before.then(next) != *id || seal.next != next || !same {
            return Err(BaseError::Malformed);
        }
        begins = Some(actor);
        readers.insert(fact.header().author);
    }
    if readers.len() < limits::SEAL_READERS { Err(BaseError::Unsigned) } else { Ok(begins) }
}

impl Checked {
    /// Everybody who wrote to it.
    pub fn writers(&self) -> impl Iterator<Item = Writer> {
        self.tips.values().map(|(_, fact)| (fact.header().author, fact.header().incarnation))
    }

    /// Reads a base and checks the facts that vouch for it. `counts` answers for a fact that the log may not hold.
    pub fn read(
        key: &DocKey,
        bytes: &[u8],
        access: &dyn Access,
        counts: &dyn Fn(&Fact) -> bool,
    ) -> Result<Self, BaseError> {
        let packed: Packed = from_cbor(bytes).map_err(|_| BaseError::Malformed)?;
        let id = EpochId::of(packed.epoch, packed.genesis).ok_or(BaseError::Malformed)?;
        let tips_min = usize::from(id == EpochId::FIRST);
        if packed.doc != key.doc.to_string() || !(tips_min..=limits::BASE_TIPS_MAX).contains(&packed.tips.len()) {
            return Err(BaseError::Malformed);
        }
        let begins = read_seals(key, &id, &packed.seals, access, counts)?;
        let mut tips = BTreeMap::new();
        for tip in packed.tips {
            if tip.round > limits::DOC_ROUNDS_MAX {
                return Err(BaseError::Malformed);
            }
            let fact = open(key, KIND, &tip.fact.clone().without_body(), access, counts)?;
            let header = fact.header();
            let actor = actor_of(key, &id, &header.author, header.incarnation, tip.round);
            if tips.insert(actor, (tip, Arc::new(fact))).is_some() {
                return Err(BaseError::Malformed);
            }
        }
        Ok(Self { id, begins, chunk: packed.chunk, tips })
    }

    /// Builds the document. `unpack` turns the chunk into plain changes: [`super::check::unpack`], in a process of its own
    /// where strangers' bytes may come.
    pub fn build(&self, key: &DocKey, unpack: &check::Unpack<'_>) -> Result<Document, BaseError> {
        let changes = unpack(&self.chunk).map_err(BaseError::Chunk)?;
        let mut document = Document::new(key.clone(), self.id);
        let mut genesis = Vec::new();
        let mut batch = Vec::with_capacity(changes.len());
        for bytes in changes {
            let actor = change_of(&bytes).map(|c| c.actor_id().clone()).ok_or(BaseError::Change(Unfit::Malformed))?;
            let change = screen(&actor, &bytes).map_err(BaseError::Change)?;
            let bytes: Arc<[u8]> = bytes.into();
            let source = if self.begins.as_ref() == Some(&actor) {
                genesis.push((change.hash(), bytes.clone()));
                Source::Genesis(bytes)
            } else if self.tips.contains_key(&actor) {
                Source::Base(bytes)
            } else {
                return Err(BaseError::Unsigned);
            };
            document.fence.accept(&change, source).map_err(BaseError::Change)?;
            batch.push(change);
        }
        if let Some((actor, id)) = self.begins.as_ref().zip(self.id.genesis) {
            if genesis::name_of(actor, genesis.iter().map(|(hash, _)| *hash)) != id
                && !planted::active("genesis-unchecked")
            {
                return Err(BaseError::Unsigned);
            }
            let changes = genesis.into_iter().map(|(_, bytes)| bytes).collect();
            let genesis = Genesis { id: self.id, actor: actor.clone(), changes, origins: Vec::new() };
            document.genesis = Some(Arc::new(genesis));
        }
        for (actor, (tip, fact)) in &self.tips {
            let last = document.fence.of_actor(actor).last().and_then(|hash| document.fence.find(hash));
            let change = last.and_then(|held| held.change()).ok_or(BaseError::Unsigned)?;
            let change = change.raw_bytes().to_vec();
            let (round, keeps, again, more) = (tip.round, tip.keeps, tip.again, tip.more);
            let body = to_cbor(&DocChange { change, round, keeps, again, more, ..document.body() });
            let whole = SealedFact::new(tip.fact.header.clone(), tip.fact.signature, Some(body));
            if whole.check_body(fact.header()).is_err() && !planted::active("base-tips-unchecked") {
                return Err(BaseError::Unsigned);
            }
        }
        document.engine = Engine::of(&batch).ok_or(BaseError::Change(Unfit::Poison))?;
        let tips: Vec<Arc<Fact>> = self.tips.values().map(|(_, fact)| fact.clone()).collect();
        let writer = |fact: &Fact| (fact.header().author, fact.header().incarnation);
        let actors = self.tips.iter().map(|(actor, (_, fact))| (actor.clone(), writer(fact))).collect();
        document.base = Some(Base { tips, actors });
        Ok(document)
    }
}

impl Document {
    /// Takes the facts of a document that holds less.
    pub fn succeed(&mut self, other: Self) {
        self.refeed(other.chains);
    }

    /// Goes back to the facts, because what is missing does not come; without a base, own changes that still wait are to be
    /// said again. Gives whether there was anything to give up.
    pub(super) fn give_up(&mut self, me: &Writer) -> bool {
        if self.base.is_some() {
            self.replay();
            return true;
        }
        let waits = self.waits(me);
        if waits {
            self.stop_waiting(me);
        }
        waits
    }

    /// Forgets the base when the facts of all that it brought are here. Where they say otherwise they alone count: true,
    /// and everything is to be decided anew.
    pub(super) fn settle_base(&mut self) -> bool {
        let Some(base) = &self.base else { return false };
        if self.fence.bare() == 0 {
            self.base = None;
            return false;
        }
        let otherwise = base.tips.iter().all(|tip| self.has_fed(tip));
        if otherwise {
            self.replay();
        }
        otherwise
    }

    fn has_fed(&self, tip: &Fact) -> bool {
        let header = tip.header();
        self.chains.get(&(header.author, header.incarnation)).is_some_and(|chain| {
            chain.fed.last().is_some_and(|last| last.header().seq >= header.seq) && chain.is_decided()
        })
    }

    /// Whether the facts of some changes of this writer are still to come.
    pub(super) fn is_bare(&self, writer: &Writer) -> bool {
        let actors = self.base.iter().flat_map(|base| &base.actors).filter(|(_, of)| *of == writer);
        actors.into_iter().any(|(actor, _)| self.fence.is_bare(actor))
    }

    /// Goes back to the facts when what a base was vouched for by counts no more.
    pub fn recheck_base(&mut self, counts: &dyn Fn(&Fact) -> bool) -> bool {
        let gone = self.base.as_ref().is_some_and(|base| base.tips.iter().any(|tip| !counts(tip)));
        let gone = gone && !planted::active("base-outlives-cut");
        if gone {
            self.replay();
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All but the chunk, which is Automerge's own form and is read by every build that reads Automerge's.
    #[test]
    fn wire_v1_of_a_base_is_pinned() {
        let draft = crate::log::Draft {
            scope: cauldron_identity::Scope::mesh(),
            incarnation: 0,
            kind: KIND.into(),
            deps: vec![],
            body: vec![0x80],
            hlc: 7 << 16,
            traceparent: None,
        };
        let mut log = crate::FactLog::new(crate::testing::MESH);
        let fact = log.append(&crate::testing::key(1), draft).expect("appends").sealed().clone();
        let tip = Tip { fact: fact.without_body(), round: 1, keeps: Some(2), again: Some(3), more: Some(true) };
        let bare = Tip { round: 0, keeps: None, again: None, more: None, ..tip.clone() };
        let genesis = Some(Digest::from_bytes([3; 32]));
        let packed = |epoch, tips, genesis, seals| {
            let packed = Packed { doc: "notes/a".into(), epoch, chunk: vec![1, 2], tips, genesis, seals };
            let bytes = to_cbor(&packed);
            assert_eq!(from_cbor(&bytes), Ok(packed));
            format!("{} {}\n", bytes.len(), Digest::from_bytes(cauldron_identity::ids::sha256(&bytes)))
        };
        let text = [packed(0, vec![bare], None, vec![]), packed(2, vec![tip], genesis, vec![fact])];
        expect_test::expect![[r#"
            235 ee977822425253a74d3b39ba43ae641c79e666f12ef4c36ec3a3ea4b0c61d781
            490 3be341149515d13791f8d49aba469009718c8f9d93e91133c65dde4a603cebbe
        "#]]
        .assert_eq(&text.concat());
    }
}
