//! What a coordinator writes: decisions and permits, and the terms that bind votes to them.

use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Digest, FactId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::RiskClass;

/// What policy says. Ordered by strictness, so that the stricter of two is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Policy alone allows it.
    #[n(0)]
    Allow,
    /// People must approve.
    #[n(1)]
    StepUp,
    /// Not now: new facts are needed.
    #[n(2)]
    Defer,
    /// No.
    #[n(3)]
    Deny,
}

/// How many people of a group must approve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct GroupNeed {
    /// The approver group.
    #[n(0)]
    pub group: String,
    /// Distinct people of it.
    #[n(1)]
    pub n: u32,
}

/// What must be met before the effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Obligations {
    /// Approvals, all of them needed; one person fills one seat. Sorted by group.
    #[n(0)]
    pub approvals: Vec<GroupNeed>,
    /// Until when; a timeout is a deny. Milliseconds since the Unix epoch.
    #[n(1)]
    pub decide_by_ms: u64,
    /// Who may not fill a seat beside the proposer: `self-served` bars votes whose page came from the proposing or
    /// owning node. Sorted.
    #[n(2)]
    pub distinct_from: Vec<String>,
}

impl Obligations {
    /// Nothing to meet but the deadline.
    #[must_use]
    pub fn none(decide_by_ms: u64) -> Self {
        Self { approvals: Vec::new(), decide_by_ms, distinct_from: Vec::new() }
    }

    /// Both sets of obligations at once: the larger need per group, the earlier deadline, every exclusion.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut needs = std::collections::BTreeMap::new();
        for need in self.approvals.iter().chain(&other.approvals) {
            let n: &mut u32 = needs.entry(need.group.clone()).or_default();
            *n = (*n).max(need.n);
        }
        let distinct: std::collections::BTreeSet<_> = self.distinct_from.iter().chain(&other.distinct_from).collect();
        Self {
            approvals: needs.into_iter().filter(|(_, n)| *n > 0).map(|(group, n)| GroupNeed { group, n }).collect(),
            decide_by_ms: self.decide_by_ms.min(other.decide_by_ms),
            distinct_from: distinct.into_iter().cloned().collect(),
        }
    }
}

/// What an evaluation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evaluation {
    /// The outcome after combination.
    pub outcome: Outcome,
    /// What must be met.
    pub obligations: Obligations,
    /// The rules that led to it, as `<rule>: <sentence>`. Sorted.
    pub rules: Vec<String>,
    /// The class that policy gives the action.
    pub risk: RiskClass,
    /// Digest of the input document.
    pub input_digest: Digest,
    /// The version of the rules for this action class.
    pub class_version: Digest,
}

/// H(proposal, policy version, outcome, obligations): what a person agrees to. A vote counts under every decision with
/// these terms and under no other.
#[must_use]
pub fn terms(proposal: &FactId, class_version: &Digest, outcome: Outcome, obligations: &Obligations) -> Digest {
    let mut bytes = proposal.as_bytes().to_vec();
    bytes.extend_from_slice(class_version.as_bytes());
    bytes.extend_from_slice(&to_cbor(&outcome));
    bytes.extend_from_slice(&to_cbor(obligations));
    Digest::of("cauldron/terms/v0", &bytes)
}

/// Which policy judged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct PolicyRef {
    /// The authority entry that activated the bundle.
    #[n(0)]
    pub entry: FactId,
    /// Digest of the bundle.
    #[n(1)]
    pub digest: Digest,
    /// Digest of the rules and data for this action class: unrelated changes to a bundle void nothing.
    #[n(2)]
    pub class_version: Digest,
}

/// A coordinator's evaluation, written down.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Decision {
    /// What it decides.
    #[n(0)]
    pub proposal: FactId,
    /// The outcome.
    #[n(1)]
    pub outcome: Outcome,
    /// What must be met.
    #[n(2)]
    pub obligations: Obligations,
    /// The rules that led to it.
    #[n(3)]
    pub rules: Vec<String>,
    /// The policy.
    #[n(4)]
    pub policy: PolicyRef,
    /// Digest of the input document it judged.
    #[n(5)]
    pub input_digest: Digest,
    /// The authority chain as the coordinator held it.
    #[n(6)]
    pub authority_head: Option<FactId>,
    /// The class it gives the action.
    #[n(7)]
    pub risk: RiskClass,
    /// When, milliseconds since the Unix epoch.
    #[n(8)]
    pub decided_ms: u64,
}

impl Decision {
    /// The terms a vote for it binds to.
    #[must_use]
    pub fn terms(&self) -> Digest {
        terms(&self.proposal, &self.policy.class_version, self.outcome, &self.obligations)
    }

    /// The evaluation it records.
    #[must_use]
    pub fn evaluation(&self) -> Evaluation {
        Evaluation {
            outcome: self.outcome,
            obligations: self.obligations.clone(),
            rules: self.rules.clone(),
            risk: self.risk,
            input_digest: self.input_digest,
            class_version: self.policy.class_version,
        }
    }
}

/// Leave to act once, for one owner, on one resource. It convinces nobody by itself: the owner judges again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Permit {
    /// What may be done.
    #[n(0)]
    pub proposal: FactId,
    /// Its lineage.
    #[n(1)]
    pub lineage: FactId,
    /// The decision it rests on.
    #[n(2)]
    pub decision: FactId,
    /// Votes it rests on, by the hash of their statements. Sorted.
    #[n(3)]
    pub votes: Vec<Digest>,
    /// Who may use it.
    #[n(4)]
    pub owner: AuthorId,
    /// In which of its lives.
    #[n(5)]
    pub incarnation: u32,
    /// On what.
    #[n(6)]
    pub resource: String,
    /// At which version.
    #[n(7)]
    pub expected_version: Option<String>,
    /// With which arguments.
    #[n(8)]
    pub args_digest: Digest,
    /// How often; 1.
    #[n(9)]
    pub max_uses: u32,
    /// When it was written, milliseconds since the Unix epoch.
    #[n(10)]
    pub issued_ms: u64,
    /// Until when the effect must have started.
    #[n(11)]
    pub execute_by_ms: u64,
    /// The authority chain as the coordinator held it.
    #[n(12)]
    pub authority_head: Option<FactId>,
    /// The policy.
    #[n(13)]
    pub policy: PolicyRef,
    /// What the votes agreed to.
    #[n(14)]
    pub terms: Digest,
}
