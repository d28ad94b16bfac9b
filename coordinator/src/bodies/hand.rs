//! What a person wrote or edited carries their signature, so that nobody can say afterwards that another one did, and so that they
//! fill no seat on it.

use cauldron_identity::{Digest, FactId, MeshId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::signed::{Signed, statement};

/// What a person signs when they write or edit a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct HandStatement {
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
    /// [`super::Proposal::content`] of what they wrote.
    #[n(4)]
    pub content: Digest,
    /// Why, in their words.
    #[n(5)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(6)]
    pub issued_ms: u64,
    /// Makes each statement unique.
    #[n(7)]
    pub nonce: Digest,
}

/// The statement as signed.
pub type Hand = Signed<HandStatement>;

statement!(HandStatement, "cauldron/hand/v1");
