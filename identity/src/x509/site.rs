//! A site's intermediate: issues for one site while the trust domain's authority is dark.

use rustls_pki_types::CertificateDer;
use spiffe::SpiffeId;
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroizing;

use super::authority::{self, SITE_LIFETIME_S_MAX, Validity};
use super::error::CaError;
use super::key::SvidKey;
use super::parse;

/// The key of a site's intermediate with its certificate, as [`super::AuthorityCa::issue_site`] signs it.
#[derive(Debug)]
pub struct SiteCa {
    authority: SpiffeId,
    key: SvidKey,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl SiteCa {
    /// Takes a key and the certificate that an authority signed for it.
    ///
    /// # Errors
    /// [`CaError::Intermediate`] when it is not path-scoped, may sign other authorities or lives longer than
    /// [`SITE_LIFETIME_S_MAX`]; [`CaError::KeyMismatch`].
    pub fn new(key: SvidKey, certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let refuse = |detail: String| CaError::Intermediate(detail);
        let authority = spiffe::cert::spiffe_id_from_der(certificate.as_ref()).map_err(|e| refuse(e.to_string()))?;
        if site_of(&authority).is_none() {
            return Err(refuse(format!("it names `{authority}`, which is no site")));
        }
        let validity = {
            let parsed = parse::certificate(&certificate).map_err(refuse)?;
            if parsed.public_key().raw != key.spki_der() {
                return Err(CaError::KeyMismatch);
            }
            check(&parsed).map_err(|detail| refuse(detail.to_owned()))?;
            parse::validity(&parsed)
        };
        Ok(Self { authority, key, certificate, validity })
    }

    /// Loads what [`SiteCa::to_pem`] wrote.
    ///
    /// # Errors
    /// [`CaError`] when either part is damaged or they are not a pair.
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        let key = SvidKey::from_pkcs8_pem(pem)?;
        Self::new(key, parse::certificates_from_pem(pem)?.swap_remove(0))
    }

    /// Key and certificate, for one file that only its owner reads.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut pem = self.key.to_pkcs8_pem();
        pem.push_str(&parse::certificates_to_pem(std::slice::from_ref(&self.certificate)));
        pem
    }

    /// Signs an X.509-SVID as [`super::AuthorityCa::issue`] does, for a workload of this site, and returns the chain to
    /// present: leaf and intermediate.
    ///
    /// # Errors
    /// [`CaError::OutsideSite`], and as [`super::AuthorityCa::issue`].
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        now_s: u64,
        lifetime_s: u64,
        serial: [u8; 16],
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        if !speaks_for(&self.authority, id) {
            return Err(CaError::OutsideSite { id: id.clone(), authority: self.authority.clone() });
        }
        let leaf = authority::leaf(csr_der, id, self.validity, now_s, lifetime_s, serial)?;
        Ok(vec![leaf.signed_by(&self.certificate, self.key.pair())?, self.certificate.clone()])
    }

    /// Its own SPIFFE ID, `spiffe://<td>/site/<site>`.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.authority
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &str {
        site_of(&self.authority).unwrap_or_default()
    }

    /// When its certificate holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

/// The site that an intermediate's SPIFFE ID names.
fn site_of(authority: &SpiffeId) -> Option<&str> {
    authority.path().strip_prefix("/site/").filter(|site| crate::scope::is_name(site))
}

/// Whether an authority of this name may sign for `id`: everything below its path, whole path segments only.
pub(super) fn speaks_for(authority: &SpiffeId, id: &SpiffeId) -> bool {
    let path = authority.path();
    let below = path.is_empty() || id.path().strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    authority.trust_domain() == id.trust_domain() && below
}

/// What an intermediate with a path must be: the last authority of its chain, and short-lived.
pub(super) fn check(parsed: &X509Certificate<'_>) -> Result<(), &'static str> {
    let constraint = parsed.basic_constraints().ok().flatten().and_then(|c| c.value.path_len_constraint);
    if constraint != Some(0) {
        return Err("it speaks for a path and may sign other authorities: its path length is not 0");
    }
    let Validity { not_before_s, not_after_s } = parse::validity(parsed);
    if not_after_s.saturating_sub(not_before_s) > SITE_LIFETIME_S_MAX + authority::BACKDATE_S {
        return Err("it speaks for a path and lives longer than 30 days");
    }
    Ok(())
}
