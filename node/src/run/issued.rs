//! What this node issued, for the log of everything issued: told to the core before anybody gets it.

use cauldron_identity::authority::{Issuance, IssuedKind};
use cauldron_identity::ids::sha256;
use cauldron_identity::x509::{CertificateDer, key_digest, validity_of};
use cauldron_identity::{Digest, SpiffeId};
use cauldron_node_core::Command;

use crate::run::engine::Handle;

/// An X.509-SVID under the root or intermediate key `signed_by`; nothing for an empty chain.
pub fn svid(chain: &[CertificateDer<'_>], id: &SpiffeId, signed_by: Digest) -> Option<Issuance> {
    let leaf = chain.first()?;
    Some(certificate(IssuedKind::X509Svid, leaf, id.to_string(), signed_by))
}

/// An X.509-SVID under the site's intermediate, which stands behind it in the chain.
pub fn by_site(chain: &[CertificateDer<'_>], id: &SpiffeId) -> Option<Issuance> {
    svid(chain, id, key_digest(chain.get(1)?).ok()?)
}

/// A site's intermediate.
pub fn site(der: &CertificateDer<'_>, name: String, signed_by: Digest) -> Issuance {
    certificate(IssuedKind::SiteIntermediate, der, name, signed_by)
}

fn certificate(kind: IssuedKind, der: &CertificateDer<'_>, spiffe_id: String, signed_by: Digest) -> Issuance {
    let not_after_s = validity_of(der).map(|span| span.not_after_s).unwrap_or_default();
    Issuance { kind, spiffe_id, digest: Digest::from_bytes(sha256(der)), not_after_s, signed_by }
}

/// A JWT-SVID.
pub fn token(token: &str, id: &SpiffeId, not_after_s: u64, signed_by: Digest) -> Issuance {
    let digest = Digest::from_bytes(sha256(token.as_bytes()));
    Issuance { kind: IssuedKind::JwtSvid, spiffe_id: id.to_string(), digest, not_after_s, signed_by }
}

/// Waits until it is durable here, or kept for when this node may write.
///
/// # Errors
/// A sentence, when it is neither, or the node stops: then nobody gets it.
pub async fn tell(node: &Handle, issued: impl IntoIterator<Item = Issuance>) -> Result<(), String> {
    let issued: Vec<Issuance> = issued.into_iter().collect();
    if issued.is_empty() {
        return Ok(());
    }
    node.command(Command::Issued(issued)).await.map(drop).map_err(|refusal| refusal.reason)
}
