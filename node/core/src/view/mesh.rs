//! What is shown of peers, of sync with them, and of who cannot be reached.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Seen, Time};

/// One line of `/v1/peers`: every enrolled member but this node; one that is gone is unreachable, never forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PeerView {
    /// The member.
    pub spiffe_id: String,
    /// Its author id.
    pub author: String,
    /// Its site.
    pub site: Option<String>,
    /// `alive`, `suspect`, `unreachable`, `departed` or `quarantined`.
    pub state: &'static str,
    /// `counts`, `pending`, `suspended`, `beyond_cut`.
    pub standing: &'static str,
    /// How long the present link has been up.
    pub connected_ms: Option<u64>,
    /// Facts of ours in shared scopes that it has not told us it holds: by what it says now, or said last before its link went
    /// down (`/v1/sync` has each scope, with its time). None where it has not said since this node started.
    pub behind: Option<u64>,
    /// How long ago the oldest of these was written, by its author's clock; none where there is none.
    pub oldest_unsynced_ms: Option<u64>,
    /// Whether something is missing on either side of the link and nothing has moved for two minutes; none without a link.
    pub stalled: Option<bool>,
    /// How far its wall clock is ahead of this node's; none while it has not been asked over the present link.
    pub skew: Option<SkewView>,
    /// When it was last seen and by whom.
    #[serde(flatten)]
    pub seen: Option<Seen>,
}

/// How far a peer's wall clock is ahead of this node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SkewView {
    /// Milliseconds; negative where it is behind.
    pub ahead_ms: i64,
    /// How much that can be wrong either way: half of the time that the answer took.
    pub error_ms: u64,
    /// When the answer came.
    #[serde(flatten)]
    pub seen: Seen,
}

/// How a peer stands with one scope that it shares with this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LagView {
    /// The peer.
    pub spiffe_id: String,
    /// The scope.
    pub scope: String,
    /// Whether there is a link to it now. Otherwise this is what it last said, and others may have told it more since.
    pub linked: bool,
    /// Facts held here that it has not said it holds.
    pub behind: u64,
    /// Facts that it has said it holds and that are not here.
    pub ahead: u64,
    /// How long ago the oldest of those it lacks was written, by its author's clock.
    pub oldest_unsynced_ms: Option<u64>,
    /// Whether something is missing on either side and nothing has moved for two minutes; none without a link.
    pub stalled: Option<bool>,
    /// When it last said something of this scope.
    #[serde(flatten)]
    pub seen: Seen,
}

/// `/v1/partitions`: who can be reached from here and who cannot, by site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartitionsView {
    /// `whole`, `partitioned`, or `alone` where this node has no link and there are others.
    pub state: &'static str,
    /// Each site, and the coordinators of the mesh, which have none.
    pub items: Vec<PartView>,
    /// When and by whom.
    #[serde(flatten)]
    pub seen: Seen,
}

/// The members of a site, as seen from here. Who departed or is quarantined is missed by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartView {
    /// The site; none for the coordinators of the mesh.
    pub site: Option<String>,
    /// `reachable`, `partial`, `cut_off`; `unknown` where nothing was ever heard of any of its members, `gone` where all of them
    /// departed or are quarantined.
    pub state: &'static str,
    /// Its members but this node.
    pub members: u64,
    /// Those that are there.
    pub alive: u64,
    /// Those that this node is linked with.
    pub linked: u64,
    /// Those that are `suspect` or `unreachable`.
    pub missing: Vec<MissingView>,
    /// Those of which nothing was ever heard, and in a foreign site that can be reached those of which nothing is: its ordinary
    /// nodes say nothing outside it.
    pub unknown: u64,
    /// When anybody of it was last seen, and by whom.
    #[serde(flatten)]
    pub seen: Option<Seen>,
}

/// A member that cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MissingView {
    /// The member.
    pub spiffe_id: String,
    /// `suspect` or `unreachable`.
    pub state: &'static str,
    /// When it was last seen.
    pub since: Time,
}
