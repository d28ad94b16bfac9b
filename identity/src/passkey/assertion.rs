//! What a browser hands out when a passkey signed (Level 3, §5.2.2 and §7.2).

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::auth_data::{self, ASSERTED_BYTES_MAX, FIXED_BYTES, Fixed};
use super::client_data::{self, Ceremony};
use super::error::{PasskeyError, shown, within};
use super::key::SIGNATURE_BYTES_MAX;
use super::{Passkey, RelyingParty};
use crate::codec::{from_cbor, to_cbor};
use crate::ids::{Digest, sha256};

/// The longest [`Assertion::to_bytes`]: the three parts, their heads and keys.
pub const ASSERTION_BYTES_MAX: usize = ASSERTED_BYTES_MAX + client_data::BYTES_MAX + SIGNATURE_BYTES_MAX + 16;

/// An answer of an authenticator, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion(Parts);

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Parts {
    #[n(0)]
    authenticator_data: ByteVec,
    #[n(1)]
    client_data_json: ByteVec,
    #[n(2)]
    signature: ByteVec,
}

/// What a verified assertion says. Only [`Assertion::attest`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    fixed: Fixed,
    origin: String,
}

impl Assertion {
    /// Puts together what `PublicKeyCredential.response` holds, as bytes.
    ///
    /// # Errors
    /// [`PasskeyError::Length`] of a part.
    pub fn new(
        authenticator_data: Vec<u8>,
        client_data_json: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<Self, PasskeyError> {
        Self::of(Parts {
            authenticator_data: authenticator_data.into(),
            client_data_json: client_data_json.into(),
            signature: signature.into(),
        })
    }

    fn of(parts: Parts) -> Result<Self, PasskeyError> {
        within("authenticator data", &parts.authenticator_data, FIXED_BYTES, ASSERTED_BYTES_MAX)?;
        within("clientDataJSON", &parts.client_data_json, 2, client_data::BYTES_MAX)?;
        within("signature", &parts.signature, 1, SIGNATURE_BYTES_MAX)?;
        Ok(Self(parts))
    }

    /// Deterministic CBOR, a map of 0 authenticator data, 1 clientDataJSON, 2 signature: a passkey's signature in a vote.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(&self.0)
    }

    /// Reads [`Assertion::to_bytes`].
    ///
    /// # Errors
    /// [`PasskeyError::Cbor`], [`PasskeyError::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PasskeyError> {
        within("assertion", bytes, 1, ASSERTION_BYTES_MAX)?;
        Self::of(from_cbor(bytes).map_err(|source| PasskeyError::Cbor { what: "assertion", source })?)
    }

    /// Checks everything but for whom it was made: that `passkey` signed `challenge`, in this ceremony, in no frame, and that
    /// the device knew who was there.
    ///
    /// # Errors
    /// [`PasskeyError`]: the first rule broken.
    pub fn attest(&self, passkey: &Passkey, challenge: &Digest) -> Result<Attested, PasskeyError> {
        let parts = &self.0;
        let fixed = auth_data::asserted(&parts.authenticator_data)?;
        let origin = client_data::judge(&parts.client_data_json, Ceremony::Get, challenge)?;
        let signed = [&parts.authenticator_data[..], &sha256(&parts.client_data_json)].concat();
        passkey.key().verify(&signed, &parts.signature)?;
        Ok(Attested { fixed, origin })
    }

    /// [`Assertion::attest`], and that it was made for `rp` on one of its pages.
    ///
    /// # Errors
    /// [`PasskeyError`]: the first rule broken.
    pub fn verify(
        &self,
        passkey: &Passkey,
        challenge: &Digest,
        rp: &RelyingParty<'_>,
    ) -> Result<Attested, PasskeyError> {
        let attested = self.attest(passkey, challenge)?;
        attested.is_for(rp)?;
        Ok(attested)
    }
}

impl Attested {
    /// Whether it was made for this relying party, on one of its pages.
    ///
    /// # Errors
    /// [`PasskeyError::RpId`], [`PasskeyError::Origin`].
    pub fn is_for(&self, rp: &RelyingParty<'_>) -> Result<(), PasskeyError> {
        judge_party(&self.fixed, &self.origin, rp)
    }

    /// The page's origin.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How often the authenticator says it has signed; 0 where it does not count. Recorded, never decisive.
    #[must_use]
    pub fn counter(&self) -> u32 {
        self.fixed.counter
    }

    /// Whether the passkey can live on several devices.
    #[must_use]
    pub fn backup_eligible(&self) -> bool {
        self.fixed.backup_eligible
    }

    /// Whether it does.
    #[must_use]
    pub fn backed_up(&self) -> bool {
        self.fixed.backed_up
    }
}

pub(super) fn judge_party(fixed: &Fixed, origin: &str, rp: &RelyingParty<'_>) -> Result<(), PasskeyError> {
    if !fixed.is_for(rp.rp_id) {
        return Err(PasskeyError::RpId { wanted: rp.rp_id.to_owned() });
    }
    if !rp.allows(origin) {
        let allowed =
            if rp.origins.is_empty() { "no origin (the charter names none)".into() } else { rp.origins.join(", ") };
        return Err(PasskeyError::Origin { found: shown(origin), allowed });
    }
    Ok(())
}
