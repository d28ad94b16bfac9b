//! What the server hands out at a moment: a complete state, replaced as a whole.

use std::collections::BTreeMap;

use cauldron_identity::{SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::entry::Entry;

/// Entries, SVIDs and bundles. What is not in it is not trusted and not issued (redaction by absence).
#[derive(Debug, Default)]
pub struct Served {
    /// Who may have what, in the order in which replies list it.
    pub entries: Vec<Entry>,
    /// What was issued, by identity.
    pub svids: BTreeMap<SpiffeId, Svid>,
    /// Concatenated DER root certificates of each trust domain.
    pub x509_bundles: BTreeMap<TrustDomain, Vec<u8>>,
    /// The JWK set of each trust domain.
    pub jwt_bundles: BTreeMap<TrustDomain, Vec<u8>>,
}

/// An X.509-SVID with its key.
pub struct Svid {
    /// Concatenated DER, the leaf first.
    pub chain_der: Vec<u8>,
    /// PKCS#8 DER.
    pub key_pkcs8: Zeroizing<Vec<u8>>,
    /// Last second of validity, Unix.
    pub not_after_s: u64,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("not_after_s", &self.not_after_s).finish_non_exhaustive()
    }
}

/// Signs and checks JWT-SVIDs for the server.
#[tonic::async_trait]
pub trait JwtAuthority: Send + Sync + 'static {
    /// A JWT-SVID of `id` for `audience` (never empty), in compact serialisation.
    ///
    /// # Errors
    /// [`JwtRefused`].
    async fn issue(&self, id: &SpiffeId, audience: &[String]) -> Result<String, JwtRefused>;

    /// Whose a JWT-SVID is, and its claims as JSON, when it is valid for `audience` now.
    ///
    /// # Errors
    /// A sentence for the workload.
    fn validate(&self, token: &str, audience: &str) -> Result<(SpiffeId, serde_json::Value), String>;
}

/// Why there is no JWT-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtRefused {
    /// Nobody who could sign answers now.
    Unavailable(String),
    /// It will not be signed.
    Denied(String),
    /// This identity has asked for more new tokens than it may; later it gets one again.
    TooMany(String),
}
