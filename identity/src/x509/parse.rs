//! Reading certificates: DER and PEM in, typed pieces out. Never panics on outside bytes.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::authority::Validity;
use super::error::CaError;
use crate::ids::{Digest, sha256};

/// Parses one DER certificate and nothing behind it.
pub(super) fn certificate<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow the certificate", rest.len())),
        Err(e) => Err(e.to_string()),
    }
}

/// When a certificate holds.
pub(super) fn validity(parsed: &X509Certificate<'_>) -> Validity {
    let unix = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
    Validity { not_before_s: unix(parsed.validity().not_before), not_after_s: unix(parsed.validity().not_after) }
}

/// When a certificate holds, as it says itself; nothing is verified.
///
/// # Errors
/// [`CaError::Root`] when the certificate cannot be parsed.
pub fn validity_of(der: &CertificateDer<'_>) -> Result<Validity, CaError> {
    certificate(der).map(|parsed| validity(&parsed)).map_err(CaError::Root)
}

/// The DER `SubjectPublicKeyInfo` of a certificate: what a charter pins of a root.
///
/// # Errors
/// [`CaError::Root`] when the certificate cannot be parsed.
pub fn spki_der(der: &CertificateDer<'_>) -> Result<Vec<u8>, CaError> {
    let parsed = certificate(der).map_err(CaError::Root)?;
    Ok(parsed.public_key().raw.to_vec())
}

/// SHA-256 of [`spki_der`]: the name of a root key in a charter.
///
/// # Errors
/// [`CaError::Root`] when the certificate cannot be parsed.
pub fn key_digest(der: &CertificateDer<'_>) -> Result<Digest, CaError> {
    spki_der(der).map(|spki| Digest::from_bytes(sha256(&spki)))
}

/// Every `CERTIFICATE` block of a PEM text, in order (RFC 7468).
///
/// # Errors
/// [`CaError::Pem`] when there is none or a block is damaged.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CaError::Pem("certificate")),
    }
}

/// DER certificates, one behind the other, and nothing else.
///
/// # Errors
/// [`CaError::Der`] when there is none or something else stands among them.
pub fn certificates_from_der(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (behind, _) = X509Certificate::from_der(rest).map_err(|e| CaError::Der(e.to_string()))?;
        found.push(CertificateDer::from(rest[..rest.len() - behind.len()].to_vec()));
        rest = behind;
    }
    if found.is_empty() { Err(CaError::Der("it is empty".to_owned())) } else { Ok(found) }
}

/// `CERTIFICATE` blocks for a chain or bundle, in order (RFC 7468).
#[must_use]
pub fn certificates_to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64_lines as lines;
    certificates
        .iter()
        .map(|der| format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines(der.as_ref())))
        .collect()
}

/// Base64 (RFC 4648 §4) in lines of 64 characters.
fn base64_lines(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for line in bytes.chunks(48) {
        for group in line.chunks(3) {
            let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let sextet = (bits >> (18 - 6 * place)) & 63;
                let filled = place <= group.len();
                out.push(if filled { char::from(ALPHABET[sextet as usize]) } else { '=' });
            }
        }
        out.push('\n');
    }
    out
}
