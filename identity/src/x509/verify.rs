//! The one verifier of X.509-SVIDs: for handshakes, for live connections, for stored evidence.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use spiffe::SpiffeId;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::certificate::X509Certificate;

use super::authority::Validity;
use super::bundle::{Bundle, Bundles};
use super::error::SvidError;
use super::{parse, site};
use crate::ids::{Digest, sha256};
use crate::planted;
use crate::spiffe_id::ID_BYTES_MAX;

/// Bytes of a whole chain that we are ready to parse for a stranger.
pub const CHAIN_BYTES_MAX: usize = 16 * 1024;
/// Certificates of a chain: leaf, site intermediate, trust domain intermediate, root.
pub const CHAIN_DEPTH_MAX: usize = 4;

/// An X.509-SVID that led to a root of its own trust domain. Made by [`verify_svid`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedSvid {
    /// Who presented it.
    pub spiffe_id: SpiffeId,
    /// First second of validity of the leaf, Unix seconds.
    pub not_before_s: u64,
    /// Last second of validity of the leaf, Unix seconds.
    pub not_after_s: u64,
    /// SHA-256 of the leaf's `SubjectPublicKeyInfo`.
    pub spki_sha256: [u8; 32],
}

/// Verifies a chain (leaf first) against the roots of the leaf's own trust domain, as of `at_s` (Unix seconds).
///
/// Checks: size; exactly one URI SAN, a SPIFFE ID with a path; no CA; digitalSignature without keyCertSign and cRLSign;
/// both TLS purposes where purposes are named; time; every intermediate may issue, and one with a path only below it,
/// to leaves alone and for 30 days at most; signatures up to a root *of that trust domain*.
///
/// # Errors
/// [`SvidError`] says which and with which values.
pub fn verify_svid(chain: &[CertificateDer<'_>], bundles: &Bundles, at_s: u64) -> Result<VerifiedSvid, SvidError> {
    let (leaf, intermediates) = bounded(chain)?;
    let parsed = parse::certificate(leaf).map_err(|detail| SvidError::Malformed { index: 0, detail })?;
    let id = leaf_id(leaf, &parsed)?;
    let Some(bundle) = bundles.get(id.trust_domain()) else {
        return Err(SvidError::UnknownTrustDomain { id, trusted: bundles.trust_domains().cloned().collect() });
    };
    let (not_before_s, not_after_s) = in_time(&id, &parsed, at_s)?;
    for (index, certificate) in intermediates.iter().enumerate() {
        may_issue(&id, index + 1, certificate)?;
    }
    leads_to_root(&id, leaf, intermediates, bundle.anchors(), at_s)?;
    let spki_sha256 = sha256(parsed.public_key().raw);
    Ok(VerifiedSvid { spiffe_id: id, not_before_s, not_after_s, spki_sha256 })
}

/// The key of the root that a chain leads to, among `bundle`'s: SHA-256 of its `SubjectPublicKeyInfo`. Judged as of the first
/// second in which all its certificates hold, whether that is over or not; none when it leads to none of them.
#[must_use]
pub fn root_of(chain: &[CertificateDer<'_>], bundle: &Bundle) -> Option<Digest> {
    let begins_s = |certificate: &CertificateDer<'_>| parse::validity_of(certificate).ok().map(|v| v.not_before_s);
    bundle.roots().iter().find_map(|root| {
        let at_s = chain.iter().chain([root]).map(begins_s).max()??;
        let alone = Bundle::new(bundle.trust_domain().clone(), vec![root.clone()]).ok()?;
        verify_svid(chain, &alone.into(), at_s).ok()?;
        parse::key_digest(root).ok()
    })
}

/// What a chain says of itself where no root is at hand. It proves nothing: anybody can make such a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnprovenSvid {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// First second of validity of the leaf, Unix seconds.
    pub not_before_s: u64,
    /// Last second of validity of the leaf, Unix seconds.
    pub not_after_s: u64,
    /// SHA-256 of the leaf's `SubjectPublicKeyInfo`.
    pub spki_sha256: [u8; 32],
}

/// Checks everything that [`verify_svid`] checks except that the chain leads to a root that is trusted: form, time, and
/// signatures from the leaf up to the last certificate that is there.
///
/// # Errors
/// [`SvidError`] says which and with which values.
pub fn inspect_svid(chain: &[CertificateDer<'_>], at_s: u64) -> Result<UnprovenSvid, SvidError> {
    let (leaf, above) = bounded(chain)?;
    let parsed = parse::certificate(leaf).map_err(|detail| SvidError::Malformed { index: 0, detail })?;
    let id = leaf_id(leaf, &parsed)?;
    let (not_before_s, not_after_s) = in_time(&id, &parsed, at_s)?;
    for (index, certificate) in above.iter().enumerate() {
        may_issue(&id, index + 1, certificate)?;
    }
    if let Some((top, between)) = above.split_last() {
        let unreadable = |e: webpki::Error| SvidError::Malformed { index: above.len(), detail: e.to_string() };
        let anchor = webpki::anchor_from_trusted_cert(top).map_err(unreadable)?;
        leads_to_root(&id, leaf, between, &[anchor], at_s)?;
    }
    let spki_sha256 = sha256(parsed.public_key().raw);
    Ok(UnprovenSvid { spiffe_id: id, not_before_s, not_after_s, spki_sha256 })
}

/// Splits leaf from intermediates once the chain is known to be small.
pub(super) fn bounded<'c, 'd>(
    chain: &'c [CertificateDer<'d>],
) -> Result<(&'c CertificateDer<'d>, &'c [CertificateDer<'d>]), SvidError> {
    if chain.len() > CHAIN_DEPTH_MAX {
        return Err(SvidError::TooDeep { depth: chain.len(), max: CHAIN_DEPTH_MAX });
    }
    let bytes = chain.iter().map(|c| c.as_ref().len()).sum();
    if bytes > CHAIN_BYTES_MAX {
        return Err(SvidError::TooLarge { bytes, max: CHAIN_BYTES_MAX });
    }
    chain.split_first().ok_or(SvidError::Empty)
}

/// X509-SVID §2, §4.1, §4.3: what a leaf must and must not be.
fn leaf_id(leaf: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let id =
        spiffe::cert::spiffe_id_from_der(leaf.as_ref()).map_err(|e| SvidError::NoSpiffeId { detail: e.to_string() })?;
    // SPIFFE-ID §2.3: the parser leaves the length open.
    let bytes = id.to_string().len();
    if bytes > ID_BYTES_MAX {
        let detail = format!("it has {bytes} bytes, a SPIFFE ID has at most {ID_BYTES_MAX}");
        return Err(SvidError::NoSpiffeId { detail });
    }
    if id.path().is_empty() {
        return Err(SvidError::NoPath { id });
    }
    if parsed.is_ca() {
        return Err(SvidError::LeafIsCa { id });
    }
    let detail = match parsed.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() => "digitalSignature is not set",
        Ok(Some(usage)) if usage.value.key_cert_sign() => "keyCertSign is set",
        Ok(Some(usage)) if usage.value.crl_sign() => "cRLSign is set",
        Ok(Some(_)) => return Ok(id),
        Ok(None) => "the extension is missing",
        Err(_) => "the extension cannot be read",
    };
    Err(SvidError::KeyUsage { id, detail })
}

fn in_time(id: &SpiffeId, parsed: &X509Certificate<'_>, at_s: u64) -> Result<(u64, u64), SvidError> {
    let Validity { not_before_s, not_after_s } = parse::validity(parsed);
    if at_s < not_before_s {
        return Err(SvidError::NotYetValid { id: id.clone(), not_before_s, at_s });
    }
    if at_s > not_after_s {
        return Err(SvidError::Expired { id: id.clone(), not_after_s, at_s });
    }
    Ok((not_before_s, not_after_s))
}

/// webpki checks the CA flag and signatures, but neither keyCertSign nor the path an intermediate speaks for.
fn may_issue(id: &SpiffeId, index: usize, certificate: &CertificateDer<'_>) -> Result<(), SvidError> {
    let parsed = parse::certificate(certificate).map_err(|detail| SvidError::Malformed { index, detail })?;
    let refuse = |detail: &str| SvidError::Intermediate { id: id.clone(), index, detail: detail.to_owned() };
    if !parsed.is_ca() {
        return Err(refuse("it is not a certificate authority"));
    }
    if !matches!(parsed.key_usage(), Ok(Some(usage)) if usage.value.key_cert_sign()) {
        return Err(refuse("its key usage lacks keyCertSign"));
    }
    let authority = match spiffe::cert::spiffe_id_from_der(certificate.as_ref()) {
        Ok(authority) => authority,
        Err(_) if matches!(parsed.subject_alternative_name(), Ok(None)) => return Ok(()),
        Err(e) => return Err(refuse(&e.to_string())),
    };
    if !site::speaks_for(&authority, id) && !planted::active("path-check-off") {
        return Err(SvidError::OutsideAuthority { id: id.clone(), authority });
    }
    if !authority.path().is_empty() {
        site::check(&parsed).map_err(refuse)?;
    }
    Ok(())
}

fn leads_to_root(
    id: &SpiffeId,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    at_s: u64,
) -> Result<(), SvidError> {
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at_s));
    EndEntityCert::try_from(leaf)
        .and_then(|certificate| {
            certificate
                .verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    anchors,
                    intermediates,
                    time,
                    BothTlsPurposes,
                    None,
                    None,
                )
                .map(drop)
        })
        .map_err(|e| match e {
            webpki::Error::EmptyEkuExtension => SvidError::ExtendedKeyUsage { id: id.clone() },
            other => SvidError::NotIssuedByTrustDomain { id: id.clone(), detail: other.to_string() },
        })
}

/// X509-SVID §4.4: a certificate that names purposes names both sides of TLS; one that names none is for any.
struct BothTlsPurposes;

impl ExtendedKeyUsageValidator for BothTlsPurposes {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        /// RFC 5280 §4.2.1.12, id-kp-serverAuth and id-kp-clientAuth.
        const SERVER: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
        const CLIENT: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
        let (mut named, mut server, mut client) = (false, false, false);
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            named = true;
            server |= purpose == SERVER;
            client |= purpose == CLIENT;
        }
        if !named || (server && client) { Ok(()) } else { Err(webpki::Error::EmptyEkuExtension) }
    }
}
