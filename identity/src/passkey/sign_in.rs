//! A person at a page. Signing in, making a passkey and voting each have a challenge in a domain of their own, so that an answer
//! to one is never an answer to another.
//!
//! The page must compute the challenge from the nonce itself. A page that passes on a ready-made challenge lets the node that
//! serves it put anything there, the id of a vote among it.

use super::{Assertion, Attested, Passkey, PasskeyError};
use crate::authority::{Authority, Credential, Person};
use crate::ids::{AuthorId, Digest, MeshId};

/// Domain of a challenge by which a person signs in.
pub const SIGN_IN_DOMAIN: &str = "cauldron/sign-in/v1";
/// Domain of a challenge under which a passkey is made.
pub const REGISTRATION_DOMAIN: &str = "cauldron/passkey-registration/v1";

/// Why nobody signed in.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum SignInError {
    /// Nobody's, or of somebody who was revoked.
    #[error(
        "nobody is enrolled with this passkey: the council enrols it, `cauldron people enrol PERSON --passkey FILE`"
    )]
    Unknown,
    /// The passkey's answer is refused.
    #[error("the passkey's answer is refused")]
    Refused(#[from] PasskeyError),
}

/// Who is at the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The person's id.
    pub person: String,
    /// The credential, [`Credential::id`].
    pub credential: Digest,
    /// What the passkey said.
    pub attested: Attested,
}

/// What a person signs to sign in at the page of `node`: H(mesh ‖ node ‖ nonce). The nonce is fresh, of chance, and used once.
#[must_use]
pub fn sign_in_challenge(mesh: &MeshId, node: &AuthorId, nonce: &Digest) -> Digest {
    challenge(SIGN_IN_DOMAIN, mesh, node, nonce)
}

/// What a new passkey is made under, on the page of `node`.
#[must_use]
pub fn registration_challenge(mesh: &MeshId, node: &AuthorId, nonce: &Digest) -> Digest {
    challenge(REGISTRATION_DOMAIN, mesh, node, nonce)
}

fn challenge(domain: &str, mesh: &MeshId, node: &AuthorId, nonce: &Digest) -> Digest {
    Digest::of(domain, &[mesh.as_bytes().as_slice(), node.as_bytes(), nonce.as_bytes()].concat())
}

/// Who signed in with the passkey that the browser names (`rawId`), by the charter and the people in force here.
///
/// # Errors
/// [`SignInError`].
pub fn sign_in(
    authority: &Authority,
    node: &AuthorId,
    nonce: &Digest,
    credential_id: &[u8],
    assertion: &Assertion,
) -> Result<SignedIn, SignInError> {
    let people = authority.people();
    let found = people.iter().find_map(|person| holds(person, credential_id).map(|found| (person, found)));
    let (person, (credential, passkey)) = found.ok_or(SignInError::Unknown)?;
    let challenge = sign_in_challenge(&authority.mesh(), node, nonce);
    let attested = assertion.verify(passkey, &challenge, &authority.charter().relying_party())?;
    Ok(SignedIn { person: person.id.clone(), credential: credential.id(), attested })
}

fn holds<'p>(person: &'p Person, credential_id: &[u8]) -> Option<(&'p Credential, &'p Passkey)> {
    let passkeys = person.credentials.iter().filter_map(|c| Some((c, c.passkey()?)));
    let mut named = passkeys.filter(|(_, passkey)| passkey.credential_id() == credential_id);
    named.next()
}
