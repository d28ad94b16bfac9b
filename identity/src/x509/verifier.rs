//! A verifier that knows the chains it has verified before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;

use super::bundle::Bundles;
use super::error::SvidError;
use super::parse;
use super::verify::{VerifiedSvid, bounded, verify_svid};

/// Chains that are remembered: every peer of a large mesh, and its successor. Only what led to a root is, so no stranger fills it.
const KNOWN_MAX: usize = 4_096;

/// [`verify_svid`] against bundles that do not change: other bundles are another verifier, and nothing that was verified against
/// the old ones outlives them. A chain that is seen again within the time of all its certificates costs a hash.
#[derive(Debug, Default)]
pub struct Verifier {
    bundles: Arc<Bundles>,
    known: Mutex<BTreeMap<[u8; 32], Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    svid: VerifiedSvid,
    from_s: u64,
    until_s: u64,
}

impl Verifier {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(bundles: Bundles) -> Self {
        Self { bundles: Arc::new(bundles), known: Mutex::default() }
    }

    /// What it verifies against.
    #[must_use]
    pub fn bundles(&self) -> &Arc<Bundles> {
        &self.bundles
    }

    /// As [`verify_svid`].
    ///
    /// # Errors
    /// As [`verify_svid`]; a refusal is not remembered.
    pub fn verify(&self, chain: &[CertificateDer<'_>], at_s: u64) -> Result<VerifiedSvid, SvidError> {
        bounded(chain)?;
        let name = name_of(chain);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&name).filter(|known| (known.from_s..=known.until_s).contains(&at_s)) {
            return Ok(known.svid.clone());
        }
        let svid = verify_svid(chain, &self.bundles, at_s)?;
        let (mut from_s, mut until_s) = (svid.not_before_s, svid.not_after_s);
        for certificate in chain {
            // They were parsed a moment ago.
            let Ok(span) = parse::validity_of(certificate) else { return Ok(svid) };
            (from_s, until_s) = (from_s.max(span.not_before_s), until_s.min(span.not_after_s));
        }
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name, Known { svid: svid.clone(), from_s, until_s });
        Ok(svid)
    }
}

/// SHA-256 over the certificates, each with its length: no two chains share the bytes.
fn name_of(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}
