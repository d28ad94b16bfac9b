//! What escrow facts say. All of them lie on their author's own chain in `mesh`.

use cauldron_identity::budget::{Budget, Life, Window};
use cauldron_identity::codec::{CodecError, from_cbor, to_cbor};
use cauldron_identity::{Digest, FactId, Header};
use minicbor::{Decode, Encode};

/// Fact kind of [`Debit`].
pub const KIND_DEBIT: &str = "budget.debit";
/// Fact kind of [`Credit`].
pub const KIND_CREDIT: &str = "budget.credit";
/// Fact kind of [`Refuse`].
pub const KIND_REFUSE: &str = "budget.refuse";
/// Fact kind of [`Reserve`].
pub const KIND_RESERVE: &str = "budget.reserve";
/// Fact kind of [`Settle`].
pub const KIND_SETTLE: &str = "budget.settle";

/// A fact by its place in `mesh`. The place is named beside the id, so that everybody can tell a fact that is still to
/// come from one that lies beyond a fork and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Place {
    /// Whose chain.
    #[n(0)]
    pub life: Life,
    /// Position in it, from 1.
    #[n(1)]
    pub seq: u64,
    /// The fact there.
    #[n(2)]
    pub id: FactId,
}

impl Place {
    /// Where a fact of `mesh` stands.
    #[must_use]
    pub fn of(header: &Header, id: FactId) -> Self {
        let life = Life { author: header.author, incarnation: header.incarnation };
        Self { life, seq: header.seq, id }
    }
}

/// Rights leave the author. This fact, as it is synced, is the signed grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Debit {
    /// Of which budget.
    #[n(0)]
    pub budget: Budget,
    /// For which window.
    #[n(1)]
    pub window: Window,
    /// How much, from 1, in the budget's minor unit.
    #[n(2)]
    pub amount: u64,
    /// Who may credit or refuse it.
    #[n(3)]
    pub to: Life,
    /// What the receiver needs it for: [`purpose_of`] a permit, so that nobody grants twice for one. None for a grant by hand.
    #[n(4)]
    pub purpose: Option<Digest>,
}

/// What a [`Credit`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Source {
    /// A mint that names the author as holder: the authority entry's id.
    #[n(0)]
    Mint(#[n(0)] FactId),
    /// A debit in the author's favour.
    #[n(1)]
    Debit(#[n(0)] Place),
    /// The refusal of a debit that the author wrote: the only way back.
    #[n(2)]
    Refuse(#[n(0)] Place),
}

impl Source {
    /// The fact taken.
    #[must_use]
    pub fn id(&self) -> FactId {
        match self {
            Self::Mint(id) => *id,
            Self::Debit(place) | Self::Refuse(place) => place.id,
        }
    }
}

/// Rights reach the author, once per source; as it is synced, it is the acknowledgement too. Only a credit adds to what
/// its author holds, so the place of every addition is fixed in the author's own chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Credit {
    /// Of which budget.
    #[n(0)]
    pub budget: Budget,
    /// For which window.
    #[n(1)]
    pub window: Window,
    /// From where; the amount is the source's.
    #[n(2)]
    pub source: Source,
}

/// The author will never credit this debit: its grantor may take it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Refuse {
    /// Of which budget.
    #[n(0)]
    pub budget: Budget,
    /// For which window.
    #[n(1)]
    pub window: Window,
    /// The debit.
    #[n(2)]
    pub debit: Place,
}

/// Rights are set aside for one purpose, before anything is started.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Reserve {
    /// Of which budget.
    #[n(0)]
    pub budget: Budget,
    /// For which window.
    #[n(1)]
    pub window: Window,
    /// How much, from 1, in the budget's minor unit.
    #[n(2)]
    pub amount: u64,
    /// What for: [`purpose_of`] a permit. A life reserves once per budget and purpose.
    #[n(3)]
    pub purpose: Digest,
}

/// A reservation ends: so much was spent, the rest is held again. What ends as unknown is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Settle {
    /// The `budget.reserve` fact, on the same chain.
    #[n(0)]
    pub reserve: FactId,
    /// How much, at most what was reserved; 0 when nothing happened.
    #[n(1)]
    pub spent: u64,
}

/// The purpose of a reservation for a permit. Permits lie in scopes of sites, reservations in `mesh`: the id itself must
/// not leave the site.
#[must_use]
pub fn purpose_of(permit: &FactId) -> Digest {
    Digest::of("cauldron/budget-purpose/v1", permit.as_bytes())
}

/// The purpose of a reservation that a person or a program names in words of their own.
#[must_use]
pub fn purpose_named(words: &str) -> Digest {
    Digest::of("cauldron/budget-purpose-named/v1", words.as_bytes())
}

/// Any of the bodies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Rights leave.
    Debit(Debit),
    /// Rights arrive.
    Credit(Credit),
    /// A debit will not be credited.
    Refuse(Refuse),
    /// Rights are set aside.
    Reserve(Reserve),
    /// A reservation ends.
    Settle(Settle),
}

impl Body {
    /// The kind of its fact.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Debit(_) => KIND_DEBIT,
            Self::Credit(_) => KIND_CREDIT,
            Self::Refuse(_) => KIND_REFUSE,
            Self::Reserve(_) => KIND_RESERVE,
            Self::Settle(_) => KIND_SETTLE,
        }
    }

    /// The bytes of its fact.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Debit(body) => to_cbor(body),
            Self::Credit(body) => to_cbor(body),
            Self::Refuse(body) => to_cbor(body),
            Self::Reserve(body) => to_cbor(body),
            Self::Settle(body) => to_cbor(body),
        }
    }

    /// The facts that its header should name as causes; all lie in `mesh`.
    #[must_use]
    pub fn deps(&self) -> Vec<FactId> {
        match self {
            Self::Credit(body) => vec![body.source.id()],
            Self::Refuse(body) => vec![body.debit.id],
            Self::Settle(body) => vec![body.reserve],
            Self::Debit(_) | Self::Reserve(_) => Vec::new(),
        }
    }

    /// Reads the body of a fact of `kind`; nothing when the kind is not one of escrow.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(kind: &str, bytes: &[u8]) -> Option<Result<Self, CodecError>> {
        Some(match kind {
            KIND_DEBIT => from_cbor(bytes).map(Self::Debit),
            KIND_CREDIT => from_cbor(bytes).map(Self::Credit),
            KIND_REFUSE => from_cbor(bytes).map(Self::Refuse),
            KIND_RESERVE => from_cbor(bytes).map(Self::Reserve),
            KIND_SETTLE => from_cbor(bytes).map(Self::Settle),
            _ => return None,
        })
    }
}
