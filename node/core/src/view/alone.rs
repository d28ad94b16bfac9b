//! Isolation as people read it: what a site may still do, where somebody broke the glass, and what else a person must look at.

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;

/// What a site may do in one class of action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClassView {
    /// `R0` to `R3`.
    pub class: &'static str,
    /// `lease` while a coordinator's word is fresh, `grant` past it, `stopped`; of another site that is unheard, `unknown`.
    pub under: &'static str,
    /// Until when, by the clock here; none where it is stopped.
    #[schema(value_type = Option<String>)]
    pub until: Option<Time>,
    /// How long that is, milliseconds.
    pub for_ms: Option<u64>,
    /// What it needs, or why it is stopped.
    pub says: String,
}

/// How a site stands to the mesh's coordinators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IsolationView {
    /// `connected`, `isolated`, or of another site `unheard`.
    pub state: &'static str,
    /// Since when no coordinator's word has come; of another site, when it was last heard here. None where that is not known.
    #[schema(value_type = Option<String>)]
    pub since: Option<Time>,
    /// Class by class.
    pub classes: Vec<ClassView>,
    /// Who decides there past the lease, by SPIFFE ID.
    pub acting: Vec<String>,
    /// Whose members are the site's own people.
    pub groups: Vec<String>,
    /// Budgets that it may draw on.
    pub escrow: Vec<String>,
    /// How many of its own people lift what one of them restricted; 0 for none can.
    pub lift: u32,
}

/// A use of a token that breaks the glass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GlassView {
    /// The use.
    pub id: String,
    /// What it is for.
    pub proposal: String,
    /// Why, in the words of who used it.
    pub reason: String,
    /// When, as the node that carried it says.
    #[schema(value_type = String)]
    pub used: Time,
    /// Which node carried it.
    pub carried_by: String,
    /// `permitted`, `refused` or `waiting` for the owner.
    pub state: &'static str,
    /// Why it is refused, or what it waits for.
    pub why: Option<String>,
    /// Whether somebody has to look at it yet.
    pub needs_review: bool,
    /// Of which groups.
    pub reviewers: Vec<String>,
    /// Who looked, and what they found.
    pub reviewed: Option<String>,
}

/// An action that a person must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttentionView {
    /// The proposal.
    pub proposal: String,
    /// The beginning of it, enough for commands.
    pub short: String,
    /// `unknown`, `compensation_failed`, `verify_failed`, `contested`, or `audit`.
    pub what: &'static str,
    /// What it does.
    pub operation: String,
    /// To what.
    pub target: String,
    /// What that means, in one sentence without an end.
    pub says: &'static str,
    /// What that means, and what they can do.
    pub how: String,
    /// Commands that may settle it, as far as this node can tell: an effect whose connector knows no way back is not undone. Words in
    /// capitals are for whoever runs them to put in.
    pub commands: Vec<String>,
}
