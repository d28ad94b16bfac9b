//! What becomes of a change, and why one is not taken.

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is in the document.
    Yes,
    /// It waits for changes it follows, or for an earlier one of its author.
    Waiting,
    /// It is not taken, at this node and at every other.
    Refused(Unfit),
}

/// Why a change is not taken. [`Unfit::code`] is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unfit {
    /// Not the bytes of a change.
    #[error("these are not the bytes of a change")]
    Malformed,
    /// A chunk of another kind.
    #[error("this is not a plain change chunk")]
    Chunk,
    /// Longer than a change may be, or a list in it is.
    #[error("the change is too large")]
    TooLarge,
    /// More operations than a change may have.
    #[error("the change has too many operations")]
    TooManyOps,
    /// The checksum in the chunk's header is wrong.
    #[error("the checksum does not match")]
    Checksum,
    /// Written in the name of another actor.
    #[error("the change is another actor's")]
    Actor,
    /// Its number does not follow its author's last change.
    #[error("the change does not follow its author's last one")]
    Seq,
    /// Its operation counter does not follow its past.
    #[error("the operation counter does not follow the past")]
    StartOp,
    /// It does something that documents of its kind do not know.
    #[error("the change does what documents of this kind do not allow")]
    Profile,
    /// An operation names something outside the change's past.
    #[error("an operation names what its change cannot know of")]
    BeyondPast,
    /// It builds on a change that was refused.
    #[error("the change follows a refused one")]
    RefusedDep,
    /// The document's epoch is full.
    #[error("the document's epoch is full; it goes on when two readers have sealed it")]
    Full,
    /// Too many changes of its author were refused.
    #[error("too many changes of this author were refused")]
    Banned,
    /// Automerge panicked or refused, or could not give the change back.
    #[error("the change is poison to the engine")]
    Poison,
    /// It lies beyond its author's cut, or on a branch of a fork.
    #[error("the change lies beyond the end of its author's chain")]
    Cut,
    /// Its author took it back and began anew, because something it followed was taken out.
    #[error("its author took the change back")]
    Withdrawn,
    /// Its epoch had ended before it, and its author has not said it again yet.
    #[error("its epoch had ended before it; its author is to say it again in the one in use")]
    Late,
    /// Its epoch had ended before it, and its author has said it again since.
    #[error("its epoch had ended before it; its author has said it again since, where nobody had said otherwise later")]
    SaidAgain,
    /// It begins anew where it must not, too often, or without saying what it keeps.
    #[error("the change begins anew where it must not")]
    Round,
    /// It follows changes that are not here.
    #[error("the change waits for others that it follows")]
    Waits,
    /// Its author writes to more documents of this scope than one may.
    #[error("its author writes to too many documents")]
    TooManyDocs,
    /// The document cannot be written to here now: no author was set, own changes still wait, or it is being built.
    #[error("this document cannot be written to now; try again in a moment")]
    NotWritable,
    /// The document has no such row, field or position, or is of another kind.
    #[error("the document has no such place")]
    NoPlace,
}

impl Unfit {
    /// Whether it is a change that was good, and came when its epoch had ended.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::SaidAgain)
    }

    /// A stable name for counters.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Chunk => "chunk",
            Self::TooLarge => "too-large",
            Self::TooManyOps => "too-many-ops",
            Self::Checksum => "checksum",
            Self::Actor => "actor",
            Self::Seq => "seq",
            Self::StartOp => "start-op",
            Self::Profile => "profile",
            Self::BeyondPast => "beyond-past",
            Self::RefusedDep => "refused-dep",
            Self::Full => "full",
            Self::Banned => "banned",
            Self::Poison => "poison",
            Self::Cut => "cut",
            Self::Withdrawn => "withdrawn",
            Self::Late => "late",
            Self::SaidAgain => "said-again",
            Self::Round => "round",
            Self::Waits => "waits",
            Self::TooManyDocs => "too-many-documents",
            Self::NotWritable => "not-writable",
            Self::NoPlace => "no-place",
        }
    }
}
