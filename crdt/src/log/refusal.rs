//! Why a fact is not taken.

use cauldron_identity::fact::FactError;
use cauldron_identity::{AuthorId, FactId, MeshId};

/// Why a fact is not taken. [`Refusal::code`] is stable: it appears in counters and close codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its header cannot be read, or breaks a rule of shape.
    #[error("the fact cannot be read")]
    Malformed(#[source] FactError),
    /// A part is longer than allowed.
    #[error("{what} of length {len} is outside the bounds")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// It was written by a later version of Cauldron.
    #[error("fact version {found} is newer than this build")]
    Version {
        /// The version in the header.
        found: u8,
    },
    /// It belongs to another mesh.
    #[error("the fact belongs to mesh {found}")]
    WrongMesh {
        /// The mesh in the header.
        found: MeshId,
    },
    /// Its author is not enrolled, as far as this node knows by now.
    #[error("author {author} is not enrolled")]
    UnknownAuthor {
        /// The author in the header.
        author: AuthorId,
    },
    /// The writer rule of the scope does not name the author for this kind.
    #[error("author {author} may not write {kind:?} in this scope")]
    NotAWriter {
        /// The author in the header.
        author: AuthorId,
        /// The kind in the header.
        kind: String,
    },
    /// The signature is not the author's.
    #[error("the signature does not verify")]
    BadSignature,
    /// The body is not the one whose hash was signed.
    #[error("the body does not match the header")]
    BadBody,
    /// The body was left out.
    #[error("the body is missing")]
    BodyMissing,
    /// Facts before it are missing here.
    #[error("position {got} does not follow position {have}")]
    Gap {
        /// The last position held.
        have: u64,
        /// The fact's position.
        got: u64,
    },
    /// A range is not one piece of the chain that was asked for.
    #[error("the range has a hole at position {seq}")]
    Hole {
        /// The position where another fact is expected.
        seq: u64,
    },
    /// It follows another fact than the one held at `seq`: the sender has a second branch of the chain.
    #[error("the fact follows another one than the one held at position {seq}")]
    Diverged {
        /// The position where the sender must hold another fact.
        seq: u64,
    },
    /// The chain is frozen: its author signed two facts for one position.
    #[error("the chain is frozen at or before position {seq}, because its author forked it")]
    Forked {
        /// The fact's position.
        seq: u64,
    },
    /// An own fact would name a cause that its readers may not know of.
    #[error("the cause {dep} lies in a realm with other readers")]
    ForeignDep {
        /// The cause.
        dep: FactId,
    },
    /// Evidence that does not show a fork.
    #[error("the evidence proves no fork: {0}")]
    NoEvidence(&'static str),
}

impl Refusal {
    /// A stable name for counters and close codes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge { .. } => "too-large",
            Self::Version { .. } => "version",
            Self::WrongMesh { .. } => "wrong-mesh",
            Self::UnknownAuthor { .. } => "unknown-author",
            Self::NotAWriter { .. } => "not-a-writer",
            Self::BadSignature => "bad-signature",
            Self::BadBody => "bad-body",
            Self::BodyMissing => "body-missing",
            Self::Gap { .. } => "gap",
            Self::Hole { .. } => "hole",
            Self::Diverged { .. } => "diverged",
            Self::Forked { .. } => "forked",
            Self::ForeignDep { .. } => "foreign-dep",
            Self::NoEvidence(_) => "no-evidence",
        }
    }

    /// Whether no honest node would have passed this on: every node checks before it stores, and where it takes facts on a
    /// later signature, it passes them on with that. The rest depends on what
    /// either side knows by now.
    #[must_use]
    pub fn blames_peer(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::TooLarge { .. }
            | Self::WrongMesh { .. }
            | Self::BadSignature
            | Self::BadBody
            | Self::Hole { .. }
            | Self::NoEvidence(_) => true,
            Self::Version { .. }
            | Self::UnknownAuthor { .. }
            | Self::NotAWriter { .. }
            | Self::BodyMissing
            | Self::Gap { .. }
            | Self::Diverged { .. }
            | Self::Forked { .. }
            | Self::ForeignDep { .. } => false,
        }
    }
}

impl From<FactError> for Refusal {
    fn from(error: FactError) -> Self {
        match error {
            FactError::Version(found) => Self::Version { found },
            FactError::Signature | FactError::Author => Self::BadSignature,
            FactError::Body => Self::BadBody,
            other => Self::Malformed(other),
        }
    }
}
