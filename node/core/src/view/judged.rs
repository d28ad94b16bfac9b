//! What policy said, to be judged again.

use cauldron_coordinator::bodies::{Decision, Evaluation, Obligations, Outcome, Proposal, Read};
use cauldron_identity::{Digest, FactId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Time;

/// A decision of a coordinator, or a read of a node.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedView {
    /// The fact.
    pub id: FactId,
    /// What it judges; of a read, the read itself.
    pub proposal: FactId,
    /// Operation and resource kind.
    pub action_class: String,
    /// When, milliseconds since the Unix epoch; for the cursor.
    #[serde(skip)]
    pub at_ms: u64,
    /// When.
    pub at: Time,
    /// What it came to.
    pub evaluation: Evaluation,
    /// Digest of the bundle that judged.
    pub bundle: Digest,
}

impl JudgedView {
    pub(crate) fn of_decision(id: FactId, p: &Proposal, d: &Decision) -> Self {
        Self {
            id,
            proposal: d.proposal,
            action_class: p.action_class.clone(),
            at_ms: d.decided_ms,
            at: Time(d.decided_ms),
            evaluation: d.evaluation(),
            bundle: d.policy.digest,
        }
    }

    pub(crate) fn of_read(id: FactId, r: &Read) -> Self {
        let evaluation = Evaluation {
            outcome: r.outcome,
            obligations: Obligations::none(r.proposal.expires_ms),
            rules: r.rules.clone(),
            risk: r.risk,
            modify: None,
            input_digest: r.input_digest,
            class_version: r.policy.class_version,
        };
        debug_assert!(matches!(r.outcome, Outcome::Allow | Outcome::Deny));
        Self {
            id,
            proposal: id,
            action_class: r.proposal.action_class.clone(),
            at_ms: r.at_ms,
            at: Time(r.at_ms),
            evaluation,
            bundle: r.policy.digest,
        }
    }
}

/// What a vote that was recorded comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VoteView {
    /// Whether it does what it says: a yes fills a seat, an objection ends a silence, a no stands. None for what asks for nothing.
    pub counts: Option<bool>,
    /// Why it does not: half a sentence.
    pub why: Option<String>,
    /// Seats that are filled, with it.
    pub seats_filled: u32,
    /// Seats that policy asks for.
    pub seats_needed: u32,
    /// Groups that still lack somebody.
    pub open: Vec<String>,
    /// People of those groups who may approve it, by name.
    pub could: Vec<String>,
    /// All of that in words; none where the vote does what it says.
    pub says: Option<String>,
}
