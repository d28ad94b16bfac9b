//! What the browser says of the ceremony (Level 3, §5.8.1), and the authenticator signs by its hash.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, IgnoredAny};

use super::error::{PasskeyError, shown, within};
use crate::ids::Digest;

/// Browsers write some 150 bytes and an origin; members that nobody knows yet may come.
pub(super) const BYTES_MAX: usize = 4096;

/// Which ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceremony {
    Create,
    Get,
}

impl Ceremony {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "webauthn.create",
            Self::Get => "webauthn.get",
        }
    }
}

/// Members that decide; §5.8.1 lets browsers add others, which mean nothing here. serde refuses one that comes twice.
#[derive(serde::Deserialize)]
struct Members {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin", deserialize_with = "present")]
    top_origin: bool,
}

/// True, whatever is there.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(d).map(|_| true)
}

/// Checks everything but the origin, and gives that.
pub(super) fn judge(bytes: &[u8], ceremony: Ceremony, challenge: &Digest) -> Result<String, PasskeyError> {
    within("clientDataJSON", bytes, 2, BYTES_MAX)?;
    let members = read(bytes)?;
    if members.r#type != ceremony.name() {
        return Err(PasskeyError::Type { found: shown(&members.r#type), wanted: ceremony.name() });
    }
    let wanted = BASE64_URL_SAFE_NO_PAD.encode(challenge.as_bytes());
    if members.challenge != wanted {
        return Err(PasskeyError::Challenge { wanted });
    }
    if members.cross_origin {
        return Err(PasskeyError::CrossOrigin);
    }
    if members.top_origin {
        return Err(PasskeyError::TopOrigin);
    }
    Ok(members.origin)
}

fn read(bytes: &[u8]) -> Result<Members, PasskeyError> {
    let refused = |why: &str| PasskeyError::ClientData(shown(why));
    let text = std::str::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))?;
    // serde would also take an array of the members' values, and white space around.
    if !text.starts_with('{') || !text.ends_with('}') {
        return Err(refused("it does not begin with { and end with }"));
    }
    serde_json::from_str(text).map_err(|e| refused(&e.to_string()))
}
