//! What an owner writes about its own effects. These count whatever becomes of their author later.

use cauldron_identity::{Digest, FactId};
use minicbor::{Decode, Encode};
use serde::Serialize;

/// Durable before the effect: from here on the lineage is used.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Started {
    /// The permit used.
    #[n(0)]
    pub permit: FactId,
    /// The proposal carried out.
    #[n(1)]
    pub proposal: FactId,
    /// Its lineage.
    #[n(2)]
    pub lineage: FactId,
    /// The resource.
    #[n(3)]
    pub resource: String,
    /// The intent.
    #[n(4)]
    pub intent_key: String,
    /// Position among this owner's starts, from 1, without gaps.
    #[n(5)]
    pub owner_seq: u64,
    /// What the connector recognises a repetition by.
    #[n(6)]
    pub idempotency_key: String,
    /// Digest of the input of the owner's own evaluation.
    #[n(7)]
    pub input_digest: Digest,
    /// When, milliseconds since the Unix epoch.
    #[n(8)]
    pub started_ms: u64,
}

/// The effect happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Done {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// Where the effect can be seen.
    #[n(1)]
    pub effect_ref: String,
    /// Digest of what the connector returned.
    #[n(2)]
    pub result_digest: Digest,
    /// The resource's version before.
    #[n(3)]
    pub before_version: Option<String>,
    /// And after.
    #[n(4)]
    pub after_version: Option<String>,
    /// When the effect ends by itself, where it does.
    #[n(5)]
    pub until_ms: Option<u64>,
    /// When, milliseconds since the Unix epoch.
    #[n(6)]
    pub done_ms: u64,
    /// Labels of what came back: they travel into every later step of the session.
    #[n(7)]
    #[cbor(default)]
    pub labels: Vec<String>,
}

/// The effect did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Failed {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// Whether a probe, after the failure, saw that there is no effect. Only then may the lineage be started again.
    #[n(1)]
    pub probed_no_effect: bool,
    /// What went wrong, for people.
    #[n(2)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(3)]
    pub failed_ms: u64,
    /// Labels of what came back all the same.
    #[n(4)]
    #[cbor(default)]
    pub labels: Vec<String>,
}

/// Nobody knows whether the effect happened; never retried blindly.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Unknown {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// Why it is not known.
    #[n(1)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(2)]
    pub noticed_ms: u64,
    /// Labels of what came back all the same.
    #[n(3)]
    #[cbor(default)]
    pub labels: Vec<String>,
}

/// A done effect was over by its own time limit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Ended {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// Where the effect could be seen.
    #[n(1)]
    pub effect_ref: String,
    /// When it left, milliseconds since the Unix epoch.
    #[n(2)]
    pub ended_ms: u64,
}

/// What the checks after an effect saw; body of `verified` and of `verify-failed` facts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Verified {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// Each check that the permit names.
    #[n(1)]
    pub checks: Vec<Checked>,
    /// When, milliseconds since the Unix epoch.
    #[n(2)]
    pub at_ms: u64,
}

/// One check after an effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Checked {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Whether it holds; none where nobody could tell.
    #[n(1)]
    pub held: Option<bool>,
    /// What was seen, for people.
    #[n(2)]
    pub says: String,
}

impl Verified {
    /// Whether every check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.held == Some(true))
    }

    /// Whether a check was answered with no: then the effect is taken back without asking anybody.
    #[must_use]
    pub fn is_refuted(&self) -> bool {
        self.checks.iter().any(|check| check.held == Some(false))
    }

    /// The checks in one sentence.
    #[must_use]
    pub fn says(&self) -> String {
        let word = |held| match held {
            Some(true) => "holds",
            Some(false) => "does not hold",
            None => "cannot be told",
        };
        let checks = self.checks.iter().map(|c| format!("{} {}: {}", c.name, word(c.held), c.says));
        checks.collect::<Vec<_>>().join("; ")
    }
}

/// The owner begins to take an effect back; durable before it does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Compensating {
    /// What was started, and is taken back.
    #[n(0)]
    pub started: FactId,
    /// Who asked for it: a person or program at the node; none where a check did not hold.
    #[n(1)]
    pub by: Option<String>,
    /// Why.
    #[n(2)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(3)]
    pub at_ms: u64,
}

/// An effect was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Compensated {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// What was done, for people.
    #[n(1)]
    pub effect_ref: String,
    /// The resource's version after it.
    #[n(2)]
    pub after_version: Option<String>,
    /// When, milliseconds since the Unix epoch.
    #[n(3)]
    pub at_ms: u64,
}

/// An effect could not be taken back, or nobody knows: a person must look.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct CompensationFailed {
    /// What was started.
    #[n(0)]
    pub started: FactId,
    /// What went wrong, for people.
    #[n(1)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(2)]
    pub at_ms: u64,
}
