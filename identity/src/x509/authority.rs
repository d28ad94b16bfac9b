//! The embedded certificate authority of one trust domain: one root key, short leaves, and between them at most one
//! intermediate for each site ([`super::SiteCa`]).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use spiffe::{SpiffeId, TrustDomain};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::bundle::Bundle;
use super::error::CaError;
use super::key::SvidKey;
use super::parse;
use super::root_key::RootKey;
use crate::ids::{Digest, sha256};

/// Lifetime of an SVID unless configuration says otherwise: short, because nothing is ever revoked by list.
pub const LIFETIME_S_DEFAULT: u64 = 3_600;
/// Leaves start this long before their issue, for peers whose clocks are behind.
pub const BACKDATE_S: u64 = 60;
/// A site intermediate lives 30 days at most: as long as a site may have to live in the dark.
pub const SITE_LIFETIME_S_MAX: u64 = 30 * 86_400;
/// A request is a key, a signature and little else.
const CSR_BYTES_MAX: usize = 4 * 1024;
/// 9999-12-31T23:59:59Z, the last moment X.509 can write (RFC 5280 §4.1.2.5).
const LAST_SECOND: u64 = 253_402_300_799;

/// A span of Unix seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before_s: u64,
    /// Last second.
    pub not_after_s: u64,
}

/// The root key of a trust domain with its self-signed certificate.
#[derive(Debug)]
pub struct AuthorityCa {
    trust_domain: TrustDomain,
    key: RootKey,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl AuthorityCa {
    /// Makes a root certificate for `key`; also used to re-issue the certificate of a pinned key.
    ///
    /// `serial`: 16 unpredictable bytes; its first bit is cleared, X.509 numbers are positive.
    ///
    /// # Errors
    /// [`CaError::Validity`], [`CaError::Encode`], [`CaError::External`].
    pub fn self_signed(
        trust_domain: TrustDomain,
        key: impl Into<RootKey>,
        validity: Validity,
        serial: [u8; 16],
    ) -> Result<Self, CaError> {
        let key = key.into();
        let mut params = params(validity, serial)?;
        params.distinguished_name.push(DnType::CommonName, format!("{trust_domain} root"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = key
            .sign_with(|signer| params.self_signed(signer).map_err(|e| CaError::Encode(e.to_string())))?
            .der()
            .clone();
        Ok(Self { trust_domain, certificate, key, validity })
    }

    /// Loads what [`AuthorityCa::key_pem`] and [`AuthorityCa::certificate_pem`] wrote.
    ///
    /// # Errors
    /// As [`AuthorityCa::with_key`], or when the key is damaged.
    pub fn from_pem(key_pem: &str, certificate_pem: &str) -> Result<Self, CaError> {
        Self::with_key(SvidKey::from_pkcs8_pem(key_pem)?, certificate_pem)
    }

    /// Takes a key and the certificate that [`AuthorityCa::certificate_pem`] wrote for it. A key that is not held here signs
    /// once, as a trial.
    ///
    /// # Errors
    /// [`CaError`] when the certificate is damaged, is not this key's, or is not a root with a SPIFFE ID, or the key does not
    /// sign.
    pub fn with_key(key: impl Into<RootKey>, certificate_pem: &str) -> Result<Self, CaError> {
        let key = key.into();
        let certificate = parse::certificates_from_pem(certificate_pem)?.swap_remove(0);
        let id = spiffe::cert::spiffe_id_from_der(certificate.as_ref()).map_err(|e| CaError::Root(e.to_string()))?;
        let trust_domain = id.trust_domain().clone();
        // The same checks that any verifier will make of this root.
        Bundle::new(trust_domain.clone(), vec![certificate.clone()])?;
        let validity = {
            let parsed = parse::certificate(&certificate).map_err(CaError::Root)?;
            if parsed.public_key().raw != key.spki_der() {
                return Err(CaError::KeyMismatch);
            }
            parse::validity(&parsed)
        };
        key.probe()?;
        Ok(Self { trust_domain, key, certificate, validity })
    }

    /// Signs an X.509-SVID for the key in `csr_der`, and returns the chain to present (the leaf alone: the root is in the
    /// peers' bundles).
    ///
    /// Of the request only the public key is used, after its own signature was checked; names and extensions in it count
    /// for nothing. The leaf starts [`BACKDATE_S`] before `now_s`, lasts `lifetime_s` from `now_s`, and never outlives
    /// the root.
    ///
    /// # Errors
    /// [`CaError::Csr`], [`CaError::KeyType`], [`CaError::NotOurs`], [`CaError::OutOfTime`], [`CaError::Validity`],
    /// [`CaError::External`].
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        now_s: u64,
        lifetime_s: u64,
        serial: [u8; 16],
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        if id.trust_domain() != &self.trust_domain || id.path().is_empty() {
            return Err(CaError::NotOurs { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let leaf = leaf(csr_der, id, self.validity, now_s, lifetime_s, serial)?;
        Ok(vec![self.sign(leaf)?])
    }

    /// Signs the intermediate of one site for the key in `csr_der`: it may issue for `spiffe://<td>/site/<site>/…`, directly
    /// and to nobody else, for [`SITE_LIFETIME_S_MAX`] at most and never longer than this authority.
    ///
    /// # Errors
    /// As [`AuthorityCa::issue`]; [`CaError::Site`] for a name that is no site's; [`CaError::TooShort`] when it would not
    /// live for one SVID of `svid_lifetime_s`.
    pub fn issue_site(
        &self,
        csr_der: &[u8],
        site: &str,
        now_s: u64,
        svid_lifetime_s: u64,
        serial: [u8; 16],
    ) -> Result<CertificateDer<'static>, CaError> {
        if !crate::scope::is_name(site) {
            return Err(CaError::Site { name: site.to_owned() });
        }
        self.validity.must_outlive(now_s, svid_lifetime_s)?;
        let public_key = public_key_of(csr_der)?;
        let validity = within(self.validity, now_s, SITE_LIFETIME_S_MAX)?;
        let mut params = params(validity, serial)?;
        params.distinguished_name.push(DnType::CommonName, format!("{} site {site}", self.trust_domain));
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/site/{site}", self.trust_domain))?];
        // No authority below it (RFC 5280 §4.2.1.9): the verifier checks that, and the path, which webpki cannot.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        self.sign(ToSign { params, public_key })
    }

    fn sign(&self, it: ToSign) -> Result<CertificateDer<'static>, CaError> {
        self.key.sign_with(|signer| it.signed_by(&self.certificate, signer))
    }

    /// The certificate of the same key once more, for a new span of time: what a charter pins is the key.
    ///
    /// # Errors
    /// As [`AuthorityCa::self_signed`].
    pub fn reissued(self, validity: Validity, serial: [u8; 16]) -> Result<Self, CaError> {
        Self::self_signed(self.trust_domain, self.key, validity, serial)
    }

    /// Whom this authority speaks for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// When its own certificate holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The root certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root's DER `SubjectPublicKeyInfo`: what a charter pins.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.key.spki_der()
    }

    /// SHA-256 of [`AuthorityCa::spki_der`]: how a charter names it.
    #[must_use]
    pub fn key_digest(&self) -> Digest {
        Digest::from_bytes(sha256(&self.spki_der()))
    }

    /// The bundle that makes a verifier trust this authority.
    ///
    /// # Errors
    /// [`CaError::Root`]; cannot happen for a root that was made or loaded here.
    pub fn bundle(&self) -> Result<Bundle, CaError> {
        Bundle::new(self.trust_domain.clone(), vec![self.certificate.clone()])
    }

    /// The root key, for a file that only its owner reads; nothing where it is kept elsewhere.
    #[must_use]
    pub fn key_pem(&self) -> Option<Zeroizing<String>> {
        self.key.to_pkcs8_pem()
    }

    /// The root certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        parse::certificates_to_pem(std::slice::from_ref(&self.certificate))
    }
}

impl Validity {
    /// Whether a certificate of `lifetime_s` issued at `now_s` would end before this span does.
    ///
    /// # Errors
    /// [`CaError::OutOfTime`] outside the span, [`CaError::TooShort`] when less than that is left.
    pub fn must_outlive(self, now_s: u64, lifetime_s: u64) -> Result<(), CaError> {
        let Self { not_before_s, not_after_s } = self;
        if now_s < not_before_s || now_s >= not_after_s {
            return Err(CaError::OutOfTime { not_before_s, not_after_s, at_s: now_s });
        }
        let left_s = not_after_s - now_s;
        if left_s < lifetime_s { Err(CaError::TooShort { left_s, needed_s: lifetime_s }) } else { Ok(()) }
    }
}

/// A certificate ready to be signed.
pub(super) struct ToSign {
    params: CertificateParams,
    public_key: SubjectPublicKeyInfo,
}

impl ToSign {
    pub(super) fn signed_by(
        self,
        issuer: &CertificateDer<'_>,
        key: impl SigningKey,
    ) -> Result<CertificateDer<'static>, CaError> {
        let issuer = Issuer::from_ca_cert_der(issuer, key).map_err(|e| CaError::Root(e.to_string()))?;
        let signed = self.params.signed_by(&self.public_key, &issuer).map_err(|e| CaError::Encode(e.to_string()))?;
        Ok(signed.der().clone())
    }
}

/// A span that starts [`BACKDATE_S`] before `now_s`, lasts `lifetime_s` from it, and never leaves the issuer's.
fn within(issuer: Validity, now_s: u64, lifetime_s: u64) -> Result<Validity, CaError> {
    let Validity { not_before_s, not_after_s } = issuer;
    if now_s < not_before_s || now_s >= not_after_s {
        return Err(CaError::OutOfTime { not_before_s, not_after_s, at_s: now_s });
    }
    Ok(Validity {
        not_before_s: now_s.saturating_sub(BACKDATE_S).max(not_before_s),
        not_after_s: now_s.saturating_add(lifetime_s).min(not_after_s),
    })
}

/// The SVID of `id` for the key in `csr_der`, within the issuer's own time.
pub(super) fn leaf(
    csr_der: &[u8],
    id: &SpiffeId,
    issuer: Validity,
    now_s: u64,
    lifetime_s: u64,
    serial: [u8; 16],
) -> Result<ToSign, CaError> {
    let validity = within(issuer, now_s, lifetime_s)?;
    let public_key = public_key_of(csr_der)?;
    let mut params = params(validity, serial)?;
    params.distinguished_name.push(DnType::OrganizationName, "Cauldron");
    params.subject_alt_names = vec![uri(&id.to_string())?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(ToSign { params, public_key })
}

/// The public key of a request whose own ECDSA P-256 signature verifies (proof of possession).
fn public_key_of(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CaError> {
    let refuse = |detail: String| CaError::Csr(detail);
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(refuse(format!("{} bytes, at most {CSR_BYTES_MAX} are read", csr_der.len())));
    }
    let (rest, csr) = X509CertificationRequest::from_der(csr_der).map_err(|e| refuse(e.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse(format!("{} bytes follow it", rest.len())));
    }
    let info = &csr.certification_request_info;
    let algorithm = &info.subject_pki.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve.as_ref() != Some(&OID_EC_P256) {
        let curve = curve.map(|c| format!(" with curve {c}")).unwrap_or_default();
        return Err(CaError::KeyType { found: format!("a key of type {}{curve}", algorithm.algorithm) });
    }
    if csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(refuse(format!("signature algorithm {}", csr.signature_algorithm.algorithm)));
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, info.subject_pki.subject_public_key.as_ref())
        .verify(info.raw, csr.signature_value.as_ref())
        .map_err(|_| refuse("its signature does not verify under its own key".to_owned()))?;
    SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|e| refuse(e.to_string()))
}

fn params(validity: Validity, serial: [u8; 16]) -> Result<CertificateParams, CaError> {
    let Validity { not_before_s, not_after_s } = validity;
    if not_before_s >= not_after_s || not_after_s > LAST_SECOND {
        return Err(CaError::Validity { not_before_s, not_after_s });
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + std::time::Duration::from_secs(not_before_s);
    params.not_after = epoch + std::time::Duration::from_secs(not_after_s);
    params.distinguished_name = DistinguishedName::new();
    // Positive, never zero, always 16 bytes long (RFC 5280 §4.1.2.2).
    let mut serial = serial;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(|e: rcgen::Error| CaError::Encode(e.to_string()))?))
}
