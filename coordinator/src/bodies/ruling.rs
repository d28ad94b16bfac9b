//! What a coordinator writes: decisions and permits, and the terms that bind votes to them.

use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorId, Digest, FactId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{Amount, Delegated, Obligations, Proposal, RiskClass};

/// What policy says. Ordered by strictness, so that the stricter of two is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Policy alone allows it.
    #[n(0)]
    Allow,
    /// Not so, but with other arguments: a child proposal, which is judged anew.
    #[n(1)]
    Modify,
    /// People must approve.
    #[n(2)]
    StepUp,
    /// Not now: new facts are needed.
    #[n(3)]
    Defer,
    /// No.
    #[n(4)]
    Deny,
}

/// What an evaluation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// The outcome after combination.
    pub outcome: Outcome,
    /// What must be met.
    pub obligations: Obligations,
    /// The rules that led to it, as `<rule>: <sentence>`. Sorted.
    pub rules: Vec<String>,
    /// The class that policy gives the action.
    pub risk: RiskClass,
    /// For [`Outcome::Modify`]: a JSON merge patch (RFC 7396) for the arguments, canonical.
    #[serde(
        serialize_with = "super::optional_bytes_as_text",
        skip_serializing_if = "Option::is_none",
        skip_deserializing
    )]
    pub modify: Option<Vec<u8>>,
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
    Digest::of("cauldron/terms/v1", &bytes)
}

/// For whom, by whom and by what right something is decided: on every decision, so that one alone says it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Requester {
    /// The agent's SPIFFE ID.
    #[n(0)]
    pub agent: String,
    /// For whom it acts.
    #[n(1)]
    pub principal: Option<String>,
    /// In which role.
    #[n(2)]
    pub role: Option<String>,
    /// How the right came to it.
    #[n(3)]
    #[cbor(default)]
    pub delegation: Vec<Delegated>,
    /// The session.
    #[n(4)]
    pub session: Option<Digest>,
}

impl Requester {
    /// The requester of a proposal.
    #[must_use]
    pub fn of(p: &Proposal) -> Self {
        let session = p.session.as_ref();
        Self {
            agent: p.agent.clone(),
            principal: session.map(|s| s.principal.clone()).or_else(|| p.on_behalf_of.clone()),
            role: session.map(|s| s.role.clone()),
            delegation: session.map(|s| s.delegation.clone()).unwrap_or_default(),
            session: session.map(|s| s.id),
        }
    }
}

/// How a deferral came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Resolution {
    /// The deferral.
    #[n(0)]
    pub deferred: FactId,
    /// Why it was deferred.
    #[n(1)]
    pub reason: Vec<String>,
    /// When it was deferred, milliseconds since the Unix epoch.
    #[n(2)]
    pub deferred_ms: u64,
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
    /// For whom it decides.
    #[n(9)]
    pub requester: Requester,
    /// The step of the session that came before, where there is one: the history it judged ends there.
    #[n(10)]
    pub session_head: Option<FactId>,
    /// The deferral that this one resolves.
    #[n(11)]
    pub resolves: Option<Box<Resolution>>,
    /// For [`Outcome::Modify`]: a JSON merge patch (RFC 7396) for the arguments, canonical.
    #[cbor(n(12), with = "minicbor::bytes")]
    #[serde(serialize_with = "super::optional_bytes_as_text", skip_serializing_if = "Option::is_none")]
    pub modify: Option<Vec<u8>>,
    /// What the coordinator knows and the owner may not, canonical JSON: `input.reported` of the owner's second evaluation.
    #[cbor(n(13), with = "minicbor::bytes")]
    #[serde(serialize_with = "super::optional_bytes_as_text", skip_serializing_if = "Option::is_none")]
    pub reported: Option<Vec<u8>>,
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
            modify: self.modify.clone(),
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
    /// Where silence allowed: the fact that says nobody objected in time.
    #[n(15)]
    pub window: Option<FactId>,
    /// Rights that the owner must reserve before it starts.
    #[n(16)]
    #[cbor(default)]
    pub budgets: Vec<Amount>,
    /// Restrictions under which the connector works.
    #[n(17)]
    #[cbor(default)]
    pub sandbox: Vec<String>,
    /// Checks that must hold after the effect.
    #[n(18)]
    #[cbor(default)]
    pub post_checks: Vec<String>,
    /// Digest of the action that takes it back, which is permitted with it: see [`undo_digest`].
    #[n(19)]
    pub undo: Option<Digest>,
    /// Where the owner itself permits, by a token: the `break-glass` fact.
    #[n(30)]
    pub break_glass: Option<FactId>,
}

/// Names the action that takes another back.
#[must_use]
pub fn undo_digest(class: &str, args: &[u8]) -> Digest {
    Digest::of("cauldron/undo/v1", &[class.as_bytes(), b"\0", args].concat())
}

/// Body of a `window-closed` fact: a coordinator says that the time to object is over, and what it holds by then.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct WindowClosed {
    /// The proposal.
    #[n(0)]
    pub proposal: FactId,
    /// The decision whose window it is.
    #[n(1)]
    pub decision: FactId,
    /// The authority chain as the coordinator holds it.
    #[n(2)]
    pub authority_head: Option<FactId>,
    /// Every vote on the proposal that it holds, by the hash of the statement. Sorted.
    #[n(3)]
    pub votes: Vec<Digest>,
    /// When, milliseconds since the Unix epoch.
    #[n(4)]
    pub closed_ms: u64,
}
