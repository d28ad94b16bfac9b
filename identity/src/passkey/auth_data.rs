//! What the authenticator says (Level 3, §6.1): 37 bytes, then a new credential, then extensions.

use minicbor::Decoder;
use minicbor::data::Type;

use super::error::{PasskeyError, within};
use super::key::CoseKey;
use super::{CREDENTIAL_ID_BYTES_MAX, CREDENTIAL_ID_BYTES_MIN, Passkey};
use crate::codec;
use crate::ids::sha256;

const USER_PRESENT: u8 = 1 << 0;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENSIONS: u8 = 1 << 7;

/// Hash of the relying party id, flags, counter.
pub(super) const FIXED_BYTES: usize = 32 + 1 + 4;
/// The answers to `hmac-secret`, `credProtect`, `credBlob`, `uvm` and `largeBlobKey` together stay below 400 bytes.
const EXTENSIONS_BYTES_MAX: usize = 1024;
/// A COSE key of 4,096 bits of RSA, the largest, has 532 bytes.
const KEY_BYTES_MAX: usize = 600;
/// Of an assertion, which carries no credential.
pub(super) const ASSERTED_BYTES_MAX: usize = FIXED_BYTES + EXTENSIONS_BYTES_MAX;
/// Of a registration: AAGUID and the credential id's length stand before it.
pub(super) const REGISTERED_BYTES_MAX: usize = ASSERTED_BYTES_MAX + 16 + 2 + CREDENTIAL_ID_BYTES_MAX + KEY_BYTES_MAX;

/// The fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) rp_id_hash: [u8; 32],
    pub(super) counter: u32,
    pub(super) backup_eligible: bool,
    pub(super) backed_up: bool,
}

/// A new credential, and the model of its authenticator.
pub(super) struct New {
    pub(super) aaguid: [u8; 16],
    pub(super) passkey: Passkey,
}

impl Fixed {
    /// Whether it was made for this relying party.
    pub(super) fn is_for(&self, rp_id: &str) -> bool {
        self.rp_id_hash == sha256(rp_id.as_bytes())
    }
}

/// Reads that of an assertion.
pub(super) fn asserted(bytes: &[u8]) -> Result<Fixed, PasskeyError> {
    within("authenticator data", bytes, FIXED_BYTES, ASSERTED_BYTES_MAX)?;
    let (fixed, flags, rest) = fixed(bytes)?;
    if flags & ATTESTED != 0 {
        return Err(PasskeyError::AttestedData { found: "set" });
    }
    extensions(flags, rest)?;
    Ok(fixed)
}

/// Reads that of a registration.
pub(super) fn registered(bytes: &[u8]) -> Result<(Fixed, New), PasskeyError> {
    within("authenticator data", bytes, FIXED_BYTES, REGISTERED_BYTES_MAX)?;
    let (fixed, flags, rest) = fixed(bytes)?;
    if flags & ATTESTED == 0 {
        return Err(PasskeyError::AttestedData { found: "not set" });
    }
    let (aaguid, rest) = rest.split_first_chunk::<16>().ok_or(PasskeyError::CutOff("the AAGUID"))?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(PasskeyError::CutOff("the credential id's length"))?;
    let length = usize::from(u16::from_be_bytes(*length));
    if !(CREDENTIAL_ID_BYTES_MIN..=CREDENTIAL_ID_BYTES_MAX).contains(&length) {
        let (min, max) = (CREDENTIAL_ID_BYTES_MIN, CREDENTIAL_ID_BYTES_MAX);
        return Err(PasskeyError::Length { what: "credential id", found: length, min, max });
    }
    let (id, rest) = rest.split_at_checked(length).ok_or(PasskeyError::CutOff("the credential id"))?;
    let (key, rest) =
        codec::first(rest).map_err(|source| PasskeyError::Cbor { what: "credential public key", source })?;
    within("credential public key", key, 1, KEY_BYTES_MAX)?;
    extensions(flags, rest)?;
    let passkey = Passkey::new(id.to_vec(), CoseKey::from_cose(key)?)?;
    Ok((fixed, New { aaguid: *aaguid, passkey }))
}

/// Reads the fixed part and holds its flags to the rules of both ceremonies. Level 3 reserves bits 1 and 5: they mean nothing yet.
fn fixed(bytes: &[u8]) -> Result<(Fixed, u8, &[u8]), PasskeyError> {
    let (rp_id_hash, rest) = bytes.split_first_chunk::<32>().ok_or(PasskeyError::CutOff("the relying party's hash"))?;
    let (flags, rest) = rest.split_first().ok_or(PasskeyError::CutOff("the flags"))?;
    let (counter, rest) = rest.split_first_chunk::<4>().ok_or(PasskeyError::CutOff("the counter"))?;
    let is = |flag: u8| flags & flag != 0;
    if !is(USER_PRESENT) {
        return Err(PasskeyError::NotPresent);
    }
    if !is(USER_VERIFIED) {
        return Err(PasskeyError::NotVerified);
    }
    if is(BACKED_UP) && !is(BACKUP_ELIGIBLE) {
        return Err(PasskeyError::Backup);
    }
    let fixed = Fixed {
        rp_id_hash: *rp_id_hash,
        counter: u32::from_be_bytes(*counter),
        backup_eligible: is(BACKUP_ELIGIBLE),
        backed_up: is(BACKED_UP),
    };
    Ok((fixed, *flags, rest))
}

/// Exactly one map where the flags announce one, else nothing. No extension means anything here.
fn extensions(flags: u8, rest: &[u8]) -> Result<(), PasskeyError> {
    if flags & EXTENSIONS == 0 {
        let bytes = rest.len();
        return if bytes == 0 { Ok(()) } else { Err(PasskeyError::Trailing { what: "authenticator data", bytes }) };
    }
    within("extensions", rest, 1, EXTENSIONS_BYTES_MAX)?;
    let refused = |source| PasskeyError::Cbor { what: "extensions", source };
    codec::check(rest).map_err(refused)?;
    match Decoder::new(rest).datatype() {
        Ok(Type::Map) => Ok(()),
        _ => Err(refused(codec::CodecError::Shape("a map is wanted".into()))),
    }
}
