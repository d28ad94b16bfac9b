//! Trust bundles: which roots speak for which trust domain, and never for another.

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use spiffe::TrustDomain;

use super::error::CaError;
use super::parse;

/// The roots of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Bundle {
    /// Takes the root certificates of `trust_domain`.
    ///
    /// # Errors
    /// [`CaError::Root`] when there is none, or one is unreadable, is no certificate authority, may not sign certificates,
    /// or names another trust domain.
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, CaError> {
        if roots.is_empty() {
            return Err(CaError::Root(format!("the bundle of `{trust_domain}` is empty")));
        }
        let mut anchors = Vec::with_capacity(roots.len());
        for root in &roots {
            check_root(root, &trust_domain)?;
            let anchor = webpki::anchor_from_trusted_cert(root).map_err(|e| CaError::Root(e.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self { trust_domain, roots, anchors })
    }

    /// Whose roots these are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificates.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

/// One bundle per trust domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundles(BTreeMap<TrustDomain, Bundle>);

impl Bundles {
    /// Trusts nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the roots of a trust domain, replacing older ones.
    pub fn insert(&mut self, bundle: Bundle) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// Stops trusting a trust domain; true if it was trusted.
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> bool {
        self.0.remove(trust_domain).is_some()
    }

    /// The roots of a trust domain.
    #[must_use]
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.0.get(trust_domain)
    }

    /// The trust domains in order.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.keys()
    }
}

impl From<Bundle> for Bundles {
    fn from(bundle: Bundle) -> Self {
        let mut bundles = Self::new();
        bundles.insert(bundle);
        bundles
    }
}

/// X509-SVID §4: a signing certificate is a CA with keyCertSign, and its SPIFFE ID, where it has one, names its own
/// trust domain without a path.
fn check_root(root: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<(), CaError> {
    let parsed = parse::certificate(root).map_err(CaError::Root)?;
    let refuse = |detail: &str| Err(CaError::Root(format!("root of `{trust_domain}`: {detail}")));
    if !parsed.is_ca() {
        return refuse("it is not a certificate authority");
    }
    if !matches!(parsed.key_usage(), Ok(Some(usage)) if usage.value.key_cert_sign()) {
        return refuse("its key usage lacks keyCertSign");
    }
    match spiffe::cert::spiffe_id_from_der(root.as_ref()) {
        Ok(id) if id.trust_domain() != trust_domain => refuse(&format!("it names `{id}`")),
        Ok(id) if !id.path().is_empty() => refuse(&format!("it names the workload `{id}`")),
        // Roots made elsewhere may carry no SPIFFE ID at all.
        Ok(_) | Err(_) => Ok(()),
    }
}
