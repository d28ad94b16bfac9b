//! A proposal: what an agent wants, why, and how it is taken back.

use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Digest, FactId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{Hand, SagaStep, SessionStep};

/// How much an action can harm (governance §4). The class that counts is the highest that schema, policy or proposal name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(index_only)]
pub enum RiskClass {
    /// A read of low sensitivity.
    #[n(0)]
    R0,
    /// Reversible and small.
    #[n(1)]
    R1,
    /// Compensable.
    #[n(2)]
    R2,
    /// Irreversible or wide.
    #[n(3)]
    R3,
}

/// Whether an effect can be taken back. Ordered: the later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    /// Without loss.
    #[n(0)]
    Reversible,
    /// By a second action that makes good.
    #[n(1)]
    Compensable,
    /// Not at all.
    #[n(2)]
    Irreversible,
}

/// One thing that was observed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Evidence {
    /// Where it stands, e.g. the log's name.
    #[n(0)]
    pub source: String,
    /// Line in the source, from 1.
    #[n(1)]
    pub line_no: u64,
    /// Digest of the raw bytes, so that the original can be compared.
    #[n(2)]
    pub digest: Digest,
    /// The text, made harmless for display. Data, never instruction.
    #[n(3)]
    pub text: String,
    /// Labels of where it came from.
    #[n(4)]
    pub labels: Vec<String>,
}

/// What an agent proposes. Signed, as a fact, by the agent's node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Proposal {
    /// The first proposal of its line; none when this is the first itself.
    #[n(0)]
    pub lineage: Option<FactId>,
    /// The agent's SPIFFE ID, below its node's.
    #[n(1)]
    pub agent: String,
    /// What the agent was built from.
    #[n(2)]
    pub agent_build: Digest,
    /// The site it concerns.
    #[n(3)]
    pub site: String,
    /// The module slice, first part of the operation.
    #[n(4)]
    pub module: String,
    /// Operation and resource kind, `<operation>/<connector>`.
    #[n(5)]
    pub action_class: String,
    /// `<module>.<object>.<verb>`.
    #[n(6)]
    pub operation: String,
    /// `<site>/<node>/<connector>/<object>`.
    #[n(7)]
    pub resource: String,
    /// The resource's version this was reasoned on, where its connector has versions.
    #[n(8)]
    pub expected_version: Option<String>,
    /// Arguments of the operation, canonical JSON.
    #[cbor(n(9), with = "minicbor::bytes")]
    #[serde(serialize_with = "super::bytes_as_text")]
    pub args: Vec<u8>,
    /// Digest of `args`, see [`Proposal::digest_of_args`].
    #[n(10)]
    pub args_digest: Digest,
    /// Whether the effect can be taken back.
    #[n(11)]
    pub reversibility: Reversibility,
    /// How.
    #[n(12)]
    pub undo_plan: String,
    /// The class the agent declares.
    #[n(13)]
    pub risk: RiskClass,
    /// The agent's raw score, parts per million.
    #[n(14)]
    pub confidence_ppm: u32,
    /// Name of the score's formula.
    #[n(15)]
    pub confidence_method: String,
    /// One sentence for the person who decides.
    #[n(16)]
    pub rationale: String,
    /// What was seen.
    #[n(17)]
    pub evidence: Vec<Evidence>,
    /// Labels of every input that shaped it.
    #[n(18)]
    pub taint: Vec<String>,
    /// Proposals with one conflict key exclude each other.
    #[n(19)]
    pub conflict_key: String,
    /// What it wants, so that it is done at most once per resource.
    #[n(20)]
    pub intent_key: String,
    /// When it was made, milliseconds since the Unix epoch.
    #[n(21)]
    pub created_ms: u64,
    /// When it lapses: a timeout is a deny.
    #[n(22)]
    pub expires_ms: u64,
    /// The proposal that this one edits, modifies or takes up again.
    #[n(23)]
    pub parent: Option<FactId>,
    /// The step of a session that it is.
    #[n(24)]
    pub session: Option<Box<SessionStep>>,
    /// For whom the agent acts: a person's id, or a workload's SPIFFE ID.
    #[n(25)]
    pub on_behalf_of: Option<String>,
    /// Digest of the model that reasoned, where one did.
    #[n(26)]
    pub agent_model: Option<Digest>,
    /// Digest of the prompt it was given.
    #[n(27)]
    pub agent_prompt: Option<Digest>,
    /// Digest of the tool schemas it could choose from.
    #[n(28)]
    pub agent_tools: Option<Digest>,
    /// What the raw score means, where that was measured.
    #[n(29)]
    pub calibration: Option<Box<Calibration>>,
    /// How far it reaches.
    #[n(30)]
    #[cbor(default)]
    pub blast: Vec<Blast>,
    /// What would change, as text for people: a unified diff where the connector can make one. Made by the resource's owner.
    #[n(31)]
    pub dry_run: Option<String>,
    /// What else was thought of.
    #[n(32)]
    #[cbor(default)]
    pub alternatives: Vec<String>,
    /// Rights of budgets that it needs.
    #[n(33)]
    #[cbor(default)]
    pub budgets: Vec<Amount>,
    /// The signature of the person who wrote or edited it, where one did.
    #[n(34)]
    pub hand: Option<Box<Hand>>,
    /// The step of a saga that it is.
    #[n(35)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saga: Option<SagaStep>,
}

/// How good the agent's scores were so far.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Calibration {
    /// Share of right decisions among those with such a score, parts per million.
    #[n(0)]
    pub right_ppm: u32,
    /// How many decisions that rests on.
    #[n(1)]
    pub n: u64,
    /// Digest of the table it was read from.
    #[n(2)]
    pub table: Digest,
}

/// How much of one thing an action reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct Blast {
    /// What: `hosts`, `rows`, a currency in minor units.
    #[n(0)]
    pub what: String,
    /// How many.
    #[n(1)]
    pub n: u64,
}

/// An amount of one budget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct Amount {
    /// The budget's name.
    #[n(0)]
    pub budget: String,
    /// Rights, in the budget's unit.
    #[n(1)]
    pub amount: u64,
}

impl Proposal {
    /// The lineage of this proposal, given its own id.
    #[must_use]
    pub fn lineage(&self, id: FactId) -> FactId {
        self.lineage.unwrap_or(id)
    }

    /// What `args_digest` must be for `args`.
    #[must_use]
    pub fn digest_of_args(args: &[u8]) -> Digest {
        Digest::of("cauldron/args/v1", args)
    }

    /// What its [`Hand`] signs: everything in it but the signature and the times, which the node that records it sets.
    #[must_use]
    pub fn content(&self) -> Digest {
        let bare = Self { hand: None, created_ms: 0, expires_ms: 0, ..self.clone() };
        Digest::of("cauldron/proposal-content/v1", &to_cbor(&bare))
    }
}
