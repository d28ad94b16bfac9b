//! A passkey on its way from the page where it was made to the council that enrols it: one line of text.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::error::{PasskeyError, within};
use super::{Algorithm, CoseKey, Passkey};
use crate::codec::{from_cbor, to_cbor};

/// What the line begins with.
pub const LINE_PREFIX: &str = "cauldron-passkey:v1:";
/// Relying party, credential id and key at their longest, in base64, are some 2,400 characters.
const LINE_BYTES_MAX: usize = 4096;
const RP_ID_BYTES_MAX: usize = 253;

/// A passkey and for whom it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyLine {
    /// The relying party id, which must be the charter's.
    pub rp_id: String,
    /// The passkey.
    pub passkey: Passkey,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Content {
    #[n(0)]
    rp_id: String,
    #[n(1)]
    credential_id: ByteVec,
    #[n(2)]
    algorithm: i64,
    #[n(3)]
    key: ByteVec,
}

impl PasskeyLine {
    /// Reads [`Passkey::to_line`]; white space around it counts for nothing. The key is one that may be enrolled.
    ///
    /// # Errors
    /// [`PasskeyError::Line`], or what is wrong with what it carries.
    pub fn parse(text: &str) -> Result<Self, PasskeyError> {
        let text = text.trim();
        within("passkey line", text.as_bytes(), 1, LINE_BYTES_MAX)?;
        let body = text.strip_prefix(LINE_PREFIX);
        let body = body.ok_or(PasskeyError::Line("it does not begin with `cauldron-passkey:v1:`"))?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(body);
        let bytes =
            bytes.map_err(|_| PasskeyError::Line("what follows is not base64url on one line: copy all of it"))?;
        let content: Content =
            from_cbor(&bytes).map_err(|source| PasskeyError::Cbor { what: "passkey line", source })?;
        within("relying party id", content.rp_id.as_bytes(), 1, RP_ID_BYTES_MAX)?;
        let key = CoseKey::new(Algorithm::from_cose(content.algorithm)?, content.key.into())?;
        key.check()?;
        Ok(Self { rp_id: content.rp_id, passkey: Passkey::new(content.credential_id.into(), key)? })
    }
}

impl Passkey {
    /// The line by which it is enrolled, without a line break.
    #[must_use]
    pub fn to_line(&self, rp_id: &str) -> String {
        let content = Content {
            rp_id: rp_id.to_owned(),
            credential_id: self.credential_id().to_vec().into(),
            algorithm: self.key().algorithm().cose().into(),
            key: self.key().bytes().to_vec().into(),
        };
        format!("{LINE_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(to_cbor(&content)))
    }

    /// [`PasskeyLine::parse`].
    ///
    /// # Errors
    /// As there.
    pub fn parse_line(text: &str) -> Result<PasskeyLine, PasskeyError> {
        PasskeyLine::parse(text)
    }
}
