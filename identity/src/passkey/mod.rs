//! Passkeys of people: what a browser hands out when one is made (*registration*) and when it signs (*assertion*), judged.
//!
//! Source: Web Authentication Level 3 (W3C), §5.8.1 (client data), §6.1 (authenticator data), §6.5 (attestation), §7 (what a
//! relying party checks); RFC 9052 and 9053 (COSE keys), RFC 8812 (RS256). Nothing here asks for or keeps a challenge: whoever
//! asks says what must have been signed.
//!
//! * [`CoseKey`], [`Passkey`]: the public half, and its name at the authenticator; [`PasskeyLine`] carries one to an enrolment.
//! * [`RelyingParty`]: for whom a passkey signs, as the charter says.
//! * [`Registration`]: reads a new one. No attestation is believed: which *people* hold which keys is the council's word.
//! * [`Assertion`]: verifies that one signed a challenge, on one of the charter's pages, by a person whom the device recognised.
//! * [`sign_in`]: a person at a page, in a domain apart from votes.
//!
//! The signature counter is told and decides nothing: a passkey that lives on several devices has none, and a vote is judged
//! again by every node, in any order.

mod assertion;
mod auth_data;
#[cfg(any(test, feature = "testing"))]
pub mod authenticator;
mod client_data;
mod error;
mod key;
mod line;
mod registration;
mod relying_party;
mod sign_in;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors_tests;

pub use assertion::{ASSERTION_BYTES_MAX, Assertion, Attested};
pub use error::PasskeyError;
pub use key::{Algorithm, CoseKey};
pub use line::{LINE_PREFIX, PasskeyLine};
pub use registration::{Registered, Registration};
pub use relying_party::{ORIGINS_MAX, RelyingParty};
pub use sign_in::{
    REGISTRATION_DOMAIN, SIGN_IN_DOMAIN, SignInError, SignedIn, registration_challenge, sign_in, sign_in_challenge,
};

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The shortest name that an authenticator may give a credential (Level 3, §4, "Credential ID").
pub const CREDENTIAL_ID_BYTES_MIN: usize = 16;
/// The longest (Level 3, §7.1).
pub const CREDENTIAL_ID_BYTES_MAX: usize = 1023;

/// A passkey's public half and the name by which its authenticator finds the other half.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Passkey {
    credential_id: Vec<u8>,
    key: CoseKey,
}

impl Passkey {
    /// Puts both together. Whether the key is weak is asked where it is admitted, [`CoseKey::check`].
    ///
    /// # Errors
    /// [`PasskeyError::Length`] of the credential id.
    pub fn new(credential_id: Vec<u8>, key: CoseKey) -> Result<Self, PasskeyError> {
        error::within("credential id", &credential_id, CREDENTIAL_ID_BYTES_MIN, CREDENTIAL_ID_BYTES_MAX)?;
        Ok(Self { credential_id, key })
    }

    /// The name that the authenticator gave it, 16 to 1,023 bytes: a page passes it as `allowCredentials[].id`.
    #[must_use]
    pub fn credential_id(&self) -> &[u8] {
        &self.credential_id
    }

    /// The same in base64url without padding, as browsers write it.
    #[must_use]
    pub fn credential_id_text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.credential_id)
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> &CoseKey {
        &self.key
    }
}

impl fmt::Display for Passkey {
    /// Algorithm, and the credential id as browsers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key.algorithm(), self.credential_id_text())
    }
}
