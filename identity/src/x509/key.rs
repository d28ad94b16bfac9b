//! The key pair behind an X.509-SVID: ECDSA P-256, replaced at every renewal if the holder likes, apart from author keys.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::error::CaError;

/// An ECDSA P-256 key pair. Never printed.
pub struct SvidKey {
    pair: KeyPair,
}

impl SvidKey {
    /// A fresh key from the system's randomness.
    ///
    /// # Errors
    /// [`CaError::Key`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, CaError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| CaError::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads PKCS#8 DER.
    ///
    /// # Errors
    /// [`CaError::Key`] for anything but a P-256 key.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, CaError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
        let pair =
            KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(|e| CaError::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    /// [`CaError::Key`] for anything but a P-256 key.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, CaError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
            .map_err(|e| CaError::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads PKCS#8 DER of any type that TLS can sign with here: an authority elsewhere chooses what it issues for.
    ///
    /// # Errors
    /// [`CaError::Key`].
    pub fn any_from_pkcs8_der(der: &[u8]) -> Result<Self, CaError> {
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).map_err(|e| CaError::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads PKCS#8 PEM of any type that TLS can sign with here.
    ///
    /// # Errors
    /// [`CaError::Key`].
    pub fn any_from_pkcs8_pem(pem: &str) -> Result<Self, CaError> {
        let pair = KeyPair::from_pem(pem).map_err(|e| CaError::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// PKCS#8 DER, for TLS and for a file that only its owner reads.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    /// PKCS#8 PEM, for a file that only its owner reads.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.pair.serialize_pem())
    }

    /// The public half as DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// A PKCS#10 request (RFC 2986) that proves possession of the key and asks for nothing: the issuer decides the name.
    ///
    /// # Errors
    /// [`CaError::Encode`] when signing fails.
    pub fn csr_der(&self) -> Result<Vec<u8>, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&self.pair).map_err(|e| CaError::Encode(e.to_string()))?;
        Ok(csr.der().to_vec())
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

impl std::fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SvidKey(secret)")
    }
}
