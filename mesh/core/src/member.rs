//! What the authority chain says of a member, as far as it concerns links.

use cauldron_identity::{PublicKey, SpiffeId};

/// A member of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub spiffe_id: SpiffeId,
    /// Its author key.
    pub key: PublicKey,
    /// Its site; none for a mesh coordinator.
    pub site: Option<String>,
    /// Whether it may be talked to: neither cut nor suspended.
    pub counts: bool,
}

impl Member {
    /// Whether it reads every site: a mesh coordinator.
    #[must_use]
    pub fn reads_all(&self) -> bool {
        self.site.is_none()
    }
}
