//! What a browser hands out when a passkey was made (Level 3, §5.2.1 and §7.1).

use minicbor::Decoder;
use minicbor::data::Type;

use super::assertion::judge_party;
use super::auth_data::{self, REGISTERED_BYTES_MAX};
use super::client_data::{self, Ceremony};
use super::error::{PasskeyError, shown, within};
use super::{Passkey, RelyingParty};
use crate::codec::{self, CodecError};
use crate::ids::Digest;

/// Statements carry a chain of certificates, which nobody reads here.
const ATTESTATION_BYTES_MAX: usize = 16 * 1024 + REGISTERED_BYTES_MAX;
const FORMAT_BYTES_MAX: usize = 32;

/// A new passkey as its page hands it in, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    attestation_object: Vec<u8>,
    client_data_json: Vec<u8>,
}

/// A new passkey that may be enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The passkey.
    pub passkey: Passkey,
    /// Model of the authenticator, as it says itself; all zeros where it does not.
    pub aaguid: [u8; 16],
    /// Format of the statement that came with it. None is verified: whatever it claims, the passkey counts as unattested.
    pub format: String,
    /// Its counter. Recorded, never decisive.
    pub counter: u32,
    /// Whether it can live on several devices.
    pub backup_eligible: bool,
    /// Whether it does.
    pub backed_up: bool,
}

impl Registration {
    /// Puts together what `PublicKeyCredential.response` holds, as bytes.
    ///
    /// # Errors
    /// [`PasskeyError::Length`] of a part.
    pub fn new(attestation_object: Vec<u8>, client_data_json: Vec<u8>) -> Result<Self, PasskeyError> {
        within("attestation object", &attestation_object, 1, ATTESTATION_BYTES_MAX)?;
        within("clientDataJSON", &client_data_json, 2, client_data::BYTES_MAX)?;
        Ok(Self { attestation_object, client_data_json })
    }

    /// Checks that it answers `challenge` on a page of `rp`, that the device knew who was there, and that the key is no weak one.
    ///
    /// Nothing in a registration without attestation proves that its maker holds the key: a vote does, and before that the council's
    /// word for whose it is.
    ///
    /// # Errors
    /// [`PasskeyError`]: the first rule broken.
    pub fn verify(&self, challenge: &Digest, rp: &RelyingParty<'_>) -> Result<Registered, PasskeyError> {
        let (format, authenticator_data) = self.object()?;
        let (fixed, new) = auth_data::registered(authenticator_data)?;
        let origin = client_data::judge(&self.client_data_json, Ceremony::Create, challenge)?;
        judge_party(&fixed, &origin, rp)?;
        new.passkey.key().check()?;
        Ok(Registered {
            passkey: new.passkey,
            aaguid: new.aaguid,
            format: shown(format),
            counter: fixed.counter,
            backup_eligible: fixed.backup_eligible,
            backed_up: fixed.backed_up,
        })
    }

    /// Format and authenticator data: three members in the order of canonical CBOR, the statement between them passed over.
    fn object(&self) -> Result<(&str, &[u8]), PasskeyError> {
        let refused = |source| PasskeyError::Cbor { what: "attestation object", source };
        let bytes = &self.attestation_object[..];
        codec::check(bytes).map_err(refused)?;
        let read = || -> Result<_, minicbor::decode::Error> {
            let mut input = Decoder::new(bytes);
            let members = input.map()?;
            let (fmt, format) = (input.str()?, input.str()?);
            let (att, statement, size) = (input.str()?, input.datatype()?, input.probe().map().ok().flatten());
            input.skip()?;
            let (auth, data) = (input.str()?, input.bytes()?);
            let fits = (members, [fmt, att, auth], statement) == (Some(3), ["fmt", "attStmt", "authData"], Type::Map);
            Ok(fits.then_some((format, size, data)))
        };
        let read = read().map_err(|e| refused(CodecError::Shape(e.to_string())))?;
        let (format, size, data) =
            read.ok_or_else(|| refused(CodecError::Shape("fmt, attStmt and authData are wanted".into())))?;
        within("attestation format", format.as_bytes(), 1, FORMAT_BYTES_MAX)?;
        match (format, size) {
            ("none", Some(1..)) => Err(PasskeyError::Attestation),
            _ => Ok((format, data)),
        }
    }
}
