//! Who is there, as seen from here.

use cauldron_identity::AuthorId;

/// How a member stands, as far as this node can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A link to it is up, or it said that it is there, and whoever would tell this node otherwise can.
    Alive,
    /// Its link was lost a moment ago.
    Suspect,
    /// It was lost, nothing was ever heard of it, or this node is cut off from all that could tell.
    Unreachable,
    /// It said that it stops.
    Departed,
    /// It is cut or suspended: nobody talks to it.
    Quarantined,
}

impl State {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
            Self::Departed => "departed",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What is known of a member, since when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// How it stands.
    pub state: State,
    /// When that was seen, by the wall clock of who saw it, milliseconds since the Unix epoch; none when nothing was.
    pub as_of_ms: Option<u64>,
    /// Who saw it: this node, the member itself, or a peer that lost it. None when nobody did.
    pub observer: Option<AuthorId>,
}
