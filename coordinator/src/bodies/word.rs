//! What a person says of an effect of which nobody knows whether it happened.

use cauldron_identity::{Digest, FactId, MeshId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::signed::with_reason;
use crate::signed::{Signed, statement};

/// What a person signs when they have found out whether something happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct WordStatement {
    /// The mesh.
    #[n(0)]
    #[serde(skip)]
    pub mesh: MeshId,
    /// Who.
    #[n(1)]
    pub person: String,
    /// With which credential.
    #[n(2)]
    pub credential: Digest,
    /// The authority chain as the person's node held it.
    #[n(3)]
    pub authority_head: Option<FactId>,
    /// The `started` fact.
    #[n(4)]
    pub started: FactId,
    /// Whether the effect happened.
    #[n(5)]
    pub happened: bool,
    /// How they know.
    #[n(6)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(7)]
    pub issued_ms: u64,
    /// Makes each statement unique.
    #[n(8)]
    pub nonce: Digest,
}

impl WordStatement {
    /// What it says, in one sentence.
    #[must_use]
    pub fn says(&self) -> String {
        let what = if self.happened { "it happened" } else { "it did not happen" };
        with_reason(format!("{what}, by the word of {}", self.person), &self.reason)
    }
}

/// The statement as signed: body of a `reconciled` fact.
pub type Word = Signed<WordStatement>;

statement!(WordStatement, "cauldron/reconciled/v1");
