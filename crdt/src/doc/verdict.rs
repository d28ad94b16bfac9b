//! What becomes of a change, and why one is not taken.

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is on the board.
    Yes,
    /// It waits for changes it follows, or for an earlier one of its author.
    Waiting,
    /// It was here already.
    Duplicate,
    /// It belongs to another document or epoch.
    Other,
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
    /// It does something that the board does not know.
    #[error("the change does what the board does not allow")]
    Profile,
    /// An operation names something outside the change's past.
    #[error("an operation names what its change cannot know of")]
    BeyondPast,
    /// It builds on a change that was refused.
    #[error("the change follows a refused one")]
    RefusedDep,
    /// The document's epoch is full.
    #[error("the document's epoch is full")]
    Full,
    /// Its author has too many changes waiting. Feed the author's facts again later.
    #[error("too many changes of this author are waiting")]
    WaitingFull,
    /// Too many changes of its author were refused.
    #[error("too many changes of this author were refused")]
    Banned,
    /// Automerge panicked or refused, or could not give the change back.
    #[error("the change is poison to the engine")]
    Poison,
    /// This node's board cannot write: no author was set, or own changes still wait.
    #[error("this board cannot be written to now")]
    NotWritable,
}

impl Unfit {
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
            Self::WaitingFull => "waiting-full",
            Self::Banned => "banned",
            Self::Poison => "poison",
            Self::NotWritable => "not-writable",
        }
    }
}
