//! Reads: proposed, decided and carried out in one step by the node that owns what is read.

use cauldron_identity::{Digest, FactId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{Outcome, PolicyRef, Proposal, Requester, RiskClass};

/// Body of a `read` fact: what was asked, what the owner's own policy said, and what came back. Class R0 only, and it changes nothing;
/// so no coordinator is asked, and it is on the record all the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Read {
    /// What was asked.
    #[n(0)]
    pub proposal: Proposal,
    /// [`Outcome::Allow`] or [`Outcome::Deny`]: what needs anybody else is no read of this kind.
    #[n(1)]
    pub outcome: Outcome,
    /// The rules that led to it.
    #[n(2)]
    pub rules: Vec<String>,
    /// The policy.
    #[n(3)]
    pub policy: PolicyRef,
    /// Digest of the input document.
    #[n(4)]
    pub input_digest: Digest,
    /// The authority chain as the node held it.
    #[n(5)]
    pub authority_head: Option<FactId>,
    /// The class it was judged under.
    #[n(6)]
    pub risk: RiskClass,
    /// For whom.
    #[n(7)]
    pub requester: Requester,
    /// What came back; none where it was denied, or could not be read.
    #[n(8)]
    pub result: Option<Returned>,
    /// Why nothing came back though it was allowed.
    #[n(9)]
    pub problem: Option<String>,
    /// When, milliseconds since the Unix epoch.
    #[n(10)]
    pub at_ms: u64,
}

/// What a read gave.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Returned {
    /// SHA-256 of the bytes.
    #[n(0)]
    pub digest: Digest,
    /// How many there were.
    #[n(1)]
    pub len: u64,
    /// Labels of where they come from: they travel into every later step of the session.
    #[n(2)]
    pub labels: Vec<String>,
}
