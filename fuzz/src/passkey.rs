//! Two passkeys, and the page on which they are used.

use cauldron_identity::Digest;
use cauldron_identity::passkey::RelyingParty;
use cauldron_identity::passkey::authenticator::Authenticator;

/// What they are bound to.
pub const RP_ID: &str = "acme.example";
/// The page.
pub const ORIGIN: &str = "https://hq.acme.example";

/// What is asked, in every run.
#[must_use]
pub fn challenge() -> Digest {
    Digest::of("fuzz", b"a challenge")
}

/// One of most devices. Its signatures differ from run to run.
#[must_use]
pub fn es256() -> Authenticator {
    Authenticator::es256(&[7; 32], RP_ID, ORIGIN)
}

/// One whose signatures are the same each time.
#[must_use]
pub fn eddsa() -> Authenticator {
    Authenticator::eddsa(&[7; 32], RP_ID, ORIGIN)
}

/// Looks with the eyes of a mesh that has that page.
pub fn with_party<T>(look: impl FnOnce(&RelyingParty<'_>) -> T) -> T {
    look(&RelyingParty { rp_id: RP_ID, origins: &[ORIGIN.to_owned()] })
}
