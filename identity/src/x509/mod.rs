//! X.509-SVIDs: keys, the embedded certificate authority, trust bundles, and what a verifier must check.
//!
//! Source: [X509-SVID](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md). Sans-IO: times are Unix seconds
//! given by the caller, serial numbers too; only key generation and ECDSA signing draw randomness.
//!
//! * [`SvidKey`] makes the key pair and the certificate signing request of a workload;
//! * [`AuthorityCa`] signs short SVIDs for requests with a trust domain's root key, held here or an [`ExternalKey`];
//! * [`SiteCa`] holds a site's intermediate and issues below it while the root is dark;
//! * [`Bundles`] says which roots speak for which trust domain;
//! * [`verify_svid`] is the one verifier: for TLS, for live connections, for stored evidence; a [`Verifier`] remembers what it
//!   has verified against the same bundles.

mod authority;
mod bundle;
mod error;
mod key;
mod parse;
mod root_key;
mod site;
mod verifier;
mod verify;

#[cfg(test)]
mod fixtures_tests;
#[cfg(test)]
mod root_key_tests;
#[cfg(test)]
mod tests;

pub use authority::{AuthorityCa, BACKDATE_S, LIFETIME_S_DEFAULT, SITE_LIFETIME_S_MAX, Validity};
pub use bundle::{Bundle, Bundles};
pub(crate) use error::utc;
pub use error::{CaError, SvidError};
pub use key::SvidKey;
pub use parse::{certificates_from_der, certificates_from_pem, certificates_to_pem, key_digest, spki_der, validity_of};
pub use root_key::{ExternalKey, POINT_LEN, RootKey};
pub use site::SiteCa;
pub use verifier::Verifier;
pub use verify::{CHAIN_BYTES_MAX, CHAIN_DEPTH_MAX, UnprovenSvid, VerifiedSvid, inspect_svid, root_of, verify_svid};

pub use rustls_pki_types::CertificateDer;
