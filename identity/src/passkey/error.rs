//! Why a passkey, or what it signed, is refused: the rule, and what would satisfy it.

use crate::codec::CodecError;

/// A rule of [`super`] that was broken. What a stranger wrote is cut short and shown without control characters.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum PasskeyError {
    /// Longer or shorter than anything that makes sense there.
    #[error("its {what} has {found} bytes: {min} to {max} are taken")]
    Length {
        /// Of what.
        what: &'static str,
        /// How many bytes there are.
        found: usize,
        /// How many there must be at least.
        min: usize,
        /// And at most.
        max: usize,
    },
    /// Not deterministic CBOR, or of another shape.
    #[error("its {what} is not CBOR in CTAP2 canonical form, or has another shape")]
    Cbor {
        /// Of what.
        what: &'static str,
        /// The rule of the encoding.
        #[source]
        source: CodecError,
    },
    /// `clientDataJSON` is not what browsers write.
    #[error("its clientDataJSON is not one JSON object with `type`, `challenge` and `origin`, each once: {0}")]
    ClientData(String),
    /// Made in the other ceremony.
    #[error("its type is {found:?}: {wanted:?} is wanted here")]
    Type {
        /// What it says.
        found: String,
        /// What it must say.
        wanted: &'static str,
    },
    /// An answer to something else.
    #[error("it answers another challenge: the page must ask for exactly {wanted} (base64url)")]
    Challenge {
        /// The challenge that was asked.
        wanted: String,
    },
    /// From a page that does not belong to this mesh.
    #[error("it was made on {found:?}: only pages of {allowed} count")]
    Origin {
        /// Where.
        found: String,
        /// The charter's origins.
        allowed: String,
    },
    /// From inside a frame of another site.
    #[error("it was made inside a page of another origin (crossOrigin): open the page on its own, in no frame")]
    CrossOrigin,
    /// The same, with the other site's name.
    #[error("it names a topOrigin, so the page was framed by another: open the page on its own")]
    TopOrigin,
    /// Authenticator data that ends too early.
    #[error("its authenticator data ends inside {0}")]
    CutOff(&'static str),
    /// Bytes that belong to nothing.
    #[error("{bytes} bytes follow its {what}: none may")]
    Trailing {
        /// Behind what.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// Made for another relying party.
    #[error("it is bound to another relying party than {wanted:?}: use a passkey that was made for that one")]
    RpId {
        /// The charter's `rp_id`.
        wanted: String,
    },
    /// Nobody touched anything.
    #[error("its flag UP is not set: somebody must be at the authenticator and confirm")]
    NotPresent,
    /// The device did not ask who it is.
    #[error("its flag UV is not set: ask with userVerification \"required\", and use a PIN, finger or face")]
    NotVerified,
    /// Backed up, and not eligible for that.
    #[error("its flag BS is set without BE: what cannot be backed up cannot have been")]
    Backup,
    /// An assertion with, or a registration without, a new credential.
    #[error("its flag AT is {found}: a registration carries a new credential, an assertion never does")]
    AttestedData {
        /// `set` or `not set`.
        found: &'static str,
    },
    /// An attestation object whose statement contradicts its format.
    #[error("its attestation format \"none\" comes with a statement: ask with attestation \"none\"")]
    Attestation,
    /// An algorithm that is not verified here.
    #[error("its algorithm is {0}: ES256 (-7), EdDSA with Ed25519 (-8) and RS256 (-257) are taken")]
    Algorithm(i64),
    /// A key that is none, or that others could sign for.
    #[error("its key cannot be admitted: {0}")]
    Key(&'static str),
    /// The signature is somebody else's, or over something else.
    #[error("the signature does not verify under the enrolled passkey")]
    Signature,
    /// No line of [`super::PasskeyLine`].
    #[error("it is no passkey as the registration page hands it out: {0}")]
    Line(&'static str),
}

pub(super) fn within(what: &'static str, bytes: &[u8], min: usize, max: usize) -> Result<(), PasskeyError> {
    match (min..=max).contains(&bytes.len()) {
        true => Ok(()),
        false => Err(PasskeyError::Length { what, found: bytes.len(), min, max }),
    }
}

/// A stranger's words in an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}
