//! A document in one piece, for a node that lacks most of its facts.
//!
//! Such a node can read and write long before it has caught up with the facts, and trusts nobody for it: a change names
//! the changes it follows by hash, among them always its author's last one. So one signed fact per actor, the one with
//! its last change, proves who wrote what. The facts of all others come afterwards, by sync, and take their places.
//!
//! What a base cannot prove is that it is the newest, that no fact in between was one that no document takes, and that the
//! facts will come. The first costs nothing; where the facts say otherwise once they are here, the document is built anew
//! from them; and where they do not come, the base is given up, and who had written on top of it says its part again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{ActorId, Automerge};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Fact, SealedFact, planted};
use minicbor::{Decode, Encode};

use super::check::{self, NotUnpacked};
use super::document::{Document, Writer};
use super::engine::Engine;
use super::fence::{Source, screen};
use super::{DocChange, DocKey, KIND, Unfit, actor_of, change_of, limits};
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
    doc: String,
    engine: Automerge,
    tips: Vec<Tip>,
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
    pub fn of(document: &Document) -> Option<Self> {
        if document.fence.bare() > 0 || document.cost() > 0 || document.fence.accepted().is_empty() {
            return None;
        }
        let mut tips = Vec::new();
        for hash in document.fence.tips() {
            let fact = document.fence.find(hash)?.fact()?;
            let body = DocChange::of(fact)?;
            tips.push(Tip { fact: fact.sealed().without_body(), round: body.round, keeps: body.keeps });
        }
        let packed = Self { doc: document.key.doc.to_string(), engine: document.engine.doc.clone(), tips };
        (packed.tips.len() <= limits::BASE_TIPS_MAX).then_some(packed)
    }

    pub fn run(self) -> Option<Vec<u8>> {
        let chunk = catch_unwind(AssertUnwindSafe(|| self.engine.save())).ok()?;
        Some(to_cbor(&Packed { doc: self.doc, epoch: 0, chunk, tips: self.tips }))
    }
}

impl Base {
    pub fn has(&self, writer: &Writer) -> bool {
        self.actors.values().any(|of| of == writer)
    }
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
        if packed.doc != key.doc.to_string()
            || packed.epoch != 0
            || !(1..=limits::BASE_TIPS_MAX).contains(&packed.tips.len())
        {
            return Err(BaseError::Malformed);
        }
        let mut tips = BTreeMap::new();
        for tip in packed.tips {
            let header = tip.fact.peek().map_err(|why| BaseError::Tip(why.into()))?;
            if header.scope != key.scope || header.kind != KIND || tip.round > limits::DOC_ROUNDS_MAX {
                return Err(BaseError::Malformed);
            }
            let known = access.author_key(&header.author).ok_or(BaseError::Author)?;
            if !access.may_write(&header.author, &header.scope, &header.kind) {
                return Err(BaseError::Author);
            }
            let fact = tip.fact.clone().without_body().open(&known).map_err(|why| BaseError::Tip(why.into()))?;
            if !counts(&fact) {
                return Err(BaseError::Author);
            }
            let actor = actor_of(key, 0, &header.author, header.incarnation, tip.round);
            if tips.insert(actor, (tip, Arc::new(fact))).is_some() {
                return Err(BaseError::Malformed);
            }
        }
        Ok(Self { chunk: packed.chunk, tips })
    }

    /// Builds the document. `unpack` turns the chunk into plain changes: [`super::check::unpack`], in a process of its own
    /// where strangers' bytes may come.
    pub fn build(&self, key: &DocKey, unpack: &check::Unpack<'_>) -> Result<Document, BaseError> {
        let changes = unpack(&self.chunk).map_err(BaseError::Chunk)?;
        let mut document = Document::new(key.clone());
        let mut batch = Vec::with_capacity(changes.len());
        for bytes in changes {
            let actor = change_of(&bytes).map(|c| c.actor_id().clone()).ok_or(BaseError::Change(Unfit::Malformed))?;
            if !self.tips.contains_key(&actor) {
                return Err(BaseError::Unsigned);
            }
            let change = screen(&actor, &bytes).map_err(BaseError::Change)?;
            document.fence.accept(&change, Source::Base(bytes.into())).map_err(BaseError::Change)?;
            batch.push(change);
        }
        for (actor, (tip, fact)) in &self.tips {
            let last = document.fence.of_actor(actor).last().and_then(|hash| document.fence.find(hash));
            let change = last.and_then(|held| held.change()).ok_or(BaseError::Unsigned)?;
            let (doc, change) = (key.doc.to_string(), change.raw_bytes().to_vec());
            let body = to_cbor(&DocChange { doc, epoch: 0, change, round: tip.round, keeps: tip.keeps });
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
        if let Some(chain) = self.chains.get_mut(me).filter(|_| waits) {
            chain.stuck = true;
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
