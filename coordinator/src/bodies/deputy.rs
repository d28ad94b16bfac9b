//! A person names a deputy: part of their own right to approve, for a while.

use cauldron_identity::{Digest, FactId, MeshId};
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::signed::{Signed, statement};

/// What a person signs to name a deputy, or to take one back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct DeputyStatement {
    /// The mesh.
    #[n(0)]
    #[serde(skip)]
    pub mesh: MeshId,
    /// Whose right it is.
    #[n(1)]
    pub person: String,
    /// With which credential they sign.
    #[n(2)]
    pub credential: Digest,
    /// The authority chain as the person's node held it.
    #[n(3)]
    pub authority_head: Option<FactId>,
    /// The deputy, a person's id.
    #[n(4)]
    pub to: String,
    /// Groups of the person's in which the deputy may sit for them. What the person does not belong to counts for nothing.
    #[n(5)]
    pub groups: Vec<String>,
    /// Action classes that it is for; empty for all.
    #[n(6)]
    #[cbor(default)]
    pub classes: Vec<String>,
    /// From when on, milliseconds since the Unix epoch.
    #[n(7)]
    pub from_ms: u64,
    /// Until when.
    #[n(8)]
    pub until_ms: u64,
    /// Takes back an earlier one, by the hash of its statement; then the rest says nothing.
    #[n(9)]
    pub takes_back: Option<Digest>,
    /// Makes each statement unique.
    #[n(10)]
    pub nonce: Digest,
}

/// The statement as signed: body of a `deputy` fact.
pub type Deputy = Signed<DeputyStatement>;

/// The longest that one statement lasts, milliseconds: what is needed for longer is a group's to give.
pub const DEPUTY_MS_MAX: u64 = 31 * 86_400_000;

statement!(DeputyStatement, "cauldron/deputy/v1");
