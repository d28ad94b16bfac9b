//! What a node is told when it starts, and why it cannot.

use cauldron_coordinator::owner::Hands;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::{AuthorKey, MeshId, SealedFact, SignedCharter, SpiffeId};

use crate::input::Seed;

/// What a node is told when it starts.
#[derive(Debug)]
pub struct NodeConfig {
    /// Its author key.
    pub key: AuthorKey,
    /// The SPIFFE ID it acts as.
    pub spiffe_id: SpiffeId,
    /// The charter.
    pub charter: SignedCharter,
    /// The pinned hash of the charter.
    pub mesh: MeshId,
    /// Whether this node has run before, as far as the shell can tell without the store: a store that is empty then was lost,
    /// not new.
    pub used_before: bool,
    /// Which boot of the machine this is; a lease does not outlive it.
    pub boot_id: String,
    /// Facts it starts with when its store lacks them: what founding sealed, or what the join reply brought.
    pub bootstrap: Vec<SealedFact>,
    /// Terms that the council signed, from files or the join reply.
    pub terms: Vec<EntryBody>,
    /// Where chance comes from.
    pub seed: Seed,
    /// From so many facts of a scope on that are missing here, documents are fetched in one piece before them;
    /// [`cauldron_crdt::limits::FAR_FACTS`] unless a test wants fewer.
    pub far_facts: u64,
    /// How many changes an epoch of a document takes, at every node of the mesh; [`cauldron_crdt::limits::EPOCH_CHANGES`] unless a
    /// test wants fewer.
    pub epoch_changes: u64,
    /// Its place in the mesh.
    pub place: cauldron_mesh_core::Config,
    /// What its links may carry.
    pub budgets: crate::flow::Budgets,
    /// Bytes of one link that the transport holds at most: [`cauldron_mesh_core::lanes::WINDOW_MAX`] unless a test wants less.
    pub window_max: usize,
    /// Its connectors, and what they declare; none at a node that acts on nothing.
    pub hands: Hands,
    /// What it does wrong on purpose; nothing by default.
    pub misbehave: Misbehave,
}

/// Faults that a test can switch on. Without the feature `fault-points` there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Misbehave {
    /// As a coordinator, permit what nobody approved.
    #[cfg(feature = "fault-points")]
    pub forge_permits: bool,
}

/// Why a node cannot start on its store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The charter is not the pinned one, or not valid.
    #[error("the charter does not open")]
    Charter(#[source] cauldron_identity::charter::CharterError),
    /// The charter or the SPIFFE ID names no role.
    #[error("{0}")]
    Role(String),
    /// The stored log does not hold together.
    #[error("the store cannot be used: {0}")]
    Log(#[source] cauldron_crdt::log::RestoreError),
    /// A local record cannot be read.
    #[error("the local record {key} cannot be read")]
    Local {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: cauldron_identity::codec::CodecError,
    },
    /// A fact the node was to start with is refused.
    #[error("a founding fact is refused: {0}")]
    Bootstrap(String),
    /// The charter seats this SPIFFE ID with another key.
    #[error("the charter seats {0} with another author key; this data directory is not that coordinator's")]
    Seat(String),
}
