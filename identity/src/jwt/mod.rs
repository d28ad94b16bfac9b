//! JWT-SVIDs: the authority's signing keys, issuing, and the one validator.
//!
//! Source: [JWT-SVID](https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md). Sans-IO: times are Unix seconds given
//! by the caller; only key generation and signing draw randomness.
//!
//! * [`JwtAuthority`] holds a trust domain's JWT keys, rotates them with overlap and issues tokens;
//! * [`JwtPublicKey`] is what a trust bundle carries of them, in the form of a JWK;
//! * [`validate_jwt`] decides a token against the bundle of its own subject's trust domain.

mod authority;
mod error;
mod jwk;
mod validate;

#[cfg(test)]
mod fixtures_tests;
#[cfg(test)]
mod tests;

pub use authority::{JwtAuthority, JwtKey, LIFETIME_S_DEFAULT, LIFETIME_S_MAX, PUBLISH_AHEAD_S, SIGNS_FOR_S};
pub use error::{JwkError, JwtError, JwtIssueError};
pub use jwk::{Algorithm, JwtPublicKey, KID_BYTES_MAX};
pub use validate::{LEEWAY_S, TOKEN_BYTES_MAX, VerifiedJwt, validate_jwt};
