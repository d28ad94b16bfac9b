//! A step of a saga, and the word of a step's owner that it will not be done.

use cauldron_identity::FactId;
use minicbor::{Decode, Encode};
use serde::Serialize;

/// Steps of one saga: what is taken back in a row must still be something that a person can follow.
pub const SAGA_STEPS_MAX: u32 = 16;

/// Which step of which saga a proposal is. A saga is proposed as a whole, by one agent at one node: every step says how many there
/// are, so that half of one is never begun, and nobody else can add one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct SagaStep {
    /// Its number, from 1.
    #[n(0)]
    pub index: u32,
    /// How many there are.
    #[n(1)]
    pub of: u32,
    /// The proposal that is done before it; none for the first.
    #[n(2)]
    pub after: Option<FactId>,
}

impl SagaStep {
    /// What hangs on it, for a person who decides.
    #[must_use]
    pub fn says(&self) -> String {
        let Self { index, of, after } = self;
        match after {
            Some(after) => format!(
                "step {index} of {of}, after {}; if it does not happen, the steps done before it are taken back",
                after.short()
            ),
            None => format!("step {index} of {of}; if a later step does not happen, it is taken back"),
        }
    }

    /// Whether its numbers can be those of a step.
    ///
    /// # Errors
    /// A sentence.
    pub fn fits(&self) -> Result<(), String> {
        let Self { index, of, after } = self;
        if !(2..=SAGA_STEPS_MAX).contains(of) {
            return Err(format!("a saga has 2 to {SAGA_STEPS_MAX} steps, it names {of}"));
        }
        if !(1..=*of).contains(index) || (*index == 1) != after.is_none() {
            return Err(format!(
                "it is no step {index} of {of}: the first follows nothing, and every other one the step before"
            ));
        }
        Ok(())
    }
}

/// The owner of a step says that it has not done it and never will. Whoever did the step before it takes that back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Aborted {
    /// The lineage of the step: its first proposal.
    #[n(0)]
    pub proposal: FactId,
    /// Why.
    #[n(1)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(2)]
    pub at_ms: u64,
}
