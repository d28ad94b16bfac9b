//! What people write at a site that nobody outside can be asked for: a token used, a use reviewed, a restriction lifted.

use cauldron_identity::isolation::{is_used_for, sign_use, token_digest, use_message};
use cauldron_identity::{AuthorKey, Digest, FactId, MeshId, PublicKey, Signature};
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::signed::{Signed, statement};

/// Body of a `break-glass` fact: a token is used for one proposal. Whoever holds the token may; any node of the site carries it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct BrokenGlass {
    /// What is to be done without the approvals that policy asks for.
    #[n(0)]
    pub proposal: FactId,
    /// Its lineage.
    #[n(1)]
    pub lineage: FactId,
    /// The token's public half.
    #[n(2)]
    pub token: PublicKey,
    /// Why, in the words of who used it.
    #[n(3)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch, as the node that carries it says.
    #[n(4)]
    pub used_ms: u64,
    /// The token's signature over mesh, proposal, lineage and reason.
    #[n(5)]
    #[serde(skip)]
    pub signature: Signature,
}

/// The longest reason, bytes.
pub const REASON_LEN_MAX: usize = 2_048;

impl BrokenGlass {
    /// Uses a token.
    #[must_use]
    pub fn new(
        token: &AuthorKey,
        mesh: &MeshId,
        (proposal, lineage): (FactId, FactId),
        reason: &str,
        used_ms: u64,
    ) -> Self {
        let signature = sign_use(token, &use_message(mesh, &proposal, &lineage, reason));
        Self { proposal, lineage, token: token.public(), reason: reason.to_owned(), used_ms, signature }
    }

    /// Whether the token signed exactly this.
    #[must_use]
    pub fn is_signed(&self, mesh: &MeshId) -> bool {
        let message = use_message(mesh, &self.proposal, &self.lineage, &self.reason);
        self.reason.len() <= REASON_LEN_MAX && is_used_for(&self.token, &message, &self.signature)
    }

    /// What the authority chain says of its token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        token_digest(&self.token)
    }
}

/// What a person signs when they have looked at a use of a token, at an action that was selected for an audit, or at a failure that they
/// accept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct ReviewStatement {
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
    /// The `break-glass` fact; the `started` fact of an action that was selected for an audit; or the `verify-failed`,
    /// `compensation-failed` or left `compensating` fact.
    #[n(4)]
    pub used: FactId,
    /// What they found.
    #[n(5)]
    pub note: String,
    /// When, milliseconds since the Unix epoch.
    #[n(6)]
    pub issued_ms: u64,
    /// Makes each statement unique.
    #[n(7)]
    pub nonce: Digest,
}

/// The statement as signed: body of a `break-glass-review` fact.
pub type Review = Signed<ReviewStatement>;

/// What one of a site's own people signs to lift what one of them restricted, while the site is isolated.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct SiteLiftStatement {
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
    /// The `restriction` fact.
    #[n(4)]
    pub restriction: FactId,
    /// Why.
    #[n(5)]
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    #[n(6)]
    pub issued_ms: u64,
    /// Makes each statement unique.
    #[n(7)]
    pub nonce: Digest,
}

/// The statement as signed: body of a `site-lift` fact. It lifts once the site's grant names as many people as have signed one.
pub type SiteLift = Signed<SiteLiftStatement>;

statement!(ReviewStatement, "cauldron/break-glass-review/v1");
statement!(SiteLiftStatement, "cauldron/site-lift/v1");
