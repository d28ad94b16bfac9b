//! A certificate that something else renews in its files, for a port of ours: the bundle endpoint's, the approval page's.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::CliError;
use crate::files;

/// Reads the PEM files that `<section>.certificate` and `<section>.key` name.
///
/// # Errors
/// [`CliError`]: one of them cannot be read, or they do not belong together.
pub fn load((certificate, key): &(PathBuf, PathBuf), section: &str) -> Result<Arc<CertifiedKey>, CliError> {
    let unusable = || {
        CliError::config(format!("{section}.certificate cannot be used"))
            .hint(format!("{section}.certificate and {section}.key name PEM files that belong together"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(files::read_text(certificate)?.as_bytes()).collect();
    let chain = chain.map_err(|e| unusable().because(&e))?;
    let pem = zeroize::Zeroizing::new(files::read_secret(key)?);
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable().because(&e))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map(Arc::new).map_err(|e| unusable().because(&e))
}

/// The certificate that was read last, at each handshake.
#[derive(Debug)]
pub struct Newest(pub Arc<ArcSwap<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
