//! What is restricted and how far that has got, what is granted, and what moves.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Seen, Time};

/// One restriction or cut, and who says to enforce it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RestrictionView {
    /// The fact or authority entry.
    pub id: String,
    /// `veto`, `kill-class`, `kill-agent`, `kill-build`, `kill-site`, `kill-all`, `stop-feature`, `suspend` or `cut`.
    pub kind: &'static str,
    /// What it stops.
    pub target: String,
    /// The scope that carries it.
    pub scope: String,
    /// Who ordered it.
    pub by: String,
    /// Why; of a cut, where it stands: in the authority chain, or beside it where a term took its entry out.
    pub reason: String,
    /// When; a cut carries no time.
    pub issued: Option<Time>,
    /// `CLOSED`: everybody says to enforce it. `PARTIAL`: some have not said so, and may act without it until `latest_by` at the
    /// latest. `UNKNOWN`: some have not said so, and nobody knows until when they may.
    pub state: &'static str,
    /// When the last authority without it ends by itself; only for `PARTIAL`.
    pub latest_by: Option<Time>,
    /// How many nodes must enforce it; of a cut, only in the authority chain.
    pub of: Option<usize>,
    /// How many say that they do.
    pub enforced_by: Option<usize>,
    /// Who has not said so yet.
    pub waiting: Vec<Waiting>,
    /// The same in each site.
    pub sites: Vec<SiteStopView>,
    /// Where it was lifted; it stays in the record.
    pub lifted: Option<LiftedView>,
}

/// Resources that their owner offered to another node, and that the chain does not give it yet: nobody starts anything on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OfferView {
    /// The fact.
    pub id: String,
    /// `<site>/<node>/<connector>`.
    pub prefix: String,
    /// Whose they were.
    pub from: String,
    /// To whom.
    pub to: String,
    /// When.
    pub offered: Time,
}

/// What an agent was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AutonomyView {
    /// Digest of its build.
    pub build: String,
    /// Digest of its model.
    pub model: Option<String>,
    /// Digest of its prompt.
    pub prompt: Option<String>,
    /// Digest of its tool schemas.
    pub tools: Option<String>,
    /// For which class of action.
    pub action_class: String,
    /// At which site.
    pub site: String,
    /// `L0` to `L4`.
    pub level: &'static str,
    /// Human votes that code still asks for of class R2.
    pub votes_r2: u32,
    /// The same of class R3.
    pub votes_r3: u32,
    /// Until when.
    pub expires: Time,
    /// Whether that is over.
    pub expired: bool,
    /// Digest of the evidence that its signers went by.
    pub evidence: Option<String>,
    /// Index of the entry.
    pub entry: u64,
    /// Why.
    pub reason: String,
}

/// The entry that lifts a restriction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LiftedView {
    /// Its index in the authority chain.
    pub entry: u64,
    /// When it was written: what was proposed before stays stopped.
    pub at: Time,
    /// Why.
    pub reason: String,
}

/// How far a restriction has got in one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SiteStopView {
    /// The site.
    pub site: String,
    /// `CLOSED`, `PARTIAL` or `UNKNOWN`.
    pub state: &'static str,
    /// How many of its nodes must enforce it.
    pub of: usize,
    /// How many say that they do.
    pub enforced_by: usize,
    /// When the last authority without it ends by itself; only for `PARTIAL`.
    pub latest_by: Option<Time>,
}

/// What all restrictions in force have come to in one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StopsView {
    /// `CLOSED`, `PARTIAL` or `UNKNOWN`, of the one that has got least far.
    pub state: &'static str,
    /// How many restrictions.
    pub restrictions: usize,
    /// When the last authority without one of them ends by itself; only for `PARTIAL`.
    pub latest_by: Option<Time>,
}

/// A node that has not said that it enforces a restriction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Waiting {
    /// Which.
    pub spiffe_id: String,
    /// When it was last heard; none when it never was.
    pub seen: Option<Seen>,
    /// When its authority without it ends by itself; none where nobody knows, or nothing of the kind applies.
    pub latest_by: Option<Time>,
}
