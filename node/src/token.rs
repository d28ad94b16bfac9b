//! Join tokens as people pass them on: one string that pins the mesh, says where to knock and proves the invitation.
//!
//! `cauldron1.<base64url of CBOR ‖ first 4 bytes of SHA-256(CBOR)>`. The checksum finds slips of the hand; what the token
//! grants is decided by its issuer, who stores the hash of the secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::ids::sha256;
use cauldron_identity::{MeshId, SpiffeId};
use minicbor::{Decode, Encode};

const PREFIX: &str = "cauldron1.";
const CHECK_LEN: usize = 4;
/// A token with eight long host names stays below; beyond it the text is no token.
const TEXT_LEN_MAX: usize = 4 * 1024;
/// Addresses worth trying one after the other.
pub const ADDRESSES_MAX: usize = 8;

/// What a join token says.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct JoinToken {
    /// The mesh: the charter that the node will accept must have this hash.
    #[n(0)]
    pub mesh: MeshId,
    /// Where the authority listens, `host:port`, best first.
    #[n(1)]
    pub addresses: Vec<String>,
    /// Public name of the token.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// Its secret.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// The SPIFFE ID that it admits.
    #[n(4)]
    pub spiffe_id: String,
    /// Until when, milliseconds since the Unix epoch.
    #[n(5)]
    pub expires_ms: u64,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({} for {}, secret)", hex::encode(self.id), self.spiffe_id)
    }
}

/// Why a text is no join token.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum TokenError {
    /// It does not begin as tokens do.
    #[error("a join token begins with `{PREFIX}`, this text does not")]
    Prefix,
    /// Characters outside base64url.
    #[error("the token has a character that does not belong there; it is one word without spaces or line breaks")]
    Alphabet,
    /// The checksum does not match.
    #[error("the token's checksum does not match: a character was changed or lost on the way")]
    Checksum,
    /// Intact, but not of this version.
    #[error("the token is intact but this build cannot read it: {0}")]
    Shape(String),
}

impl JoinToken {
    /// The text to hand to the joining node's operator.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut payload = to_cbor(self);
        payload.extend_from_slice(&check(&payload));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload))
    }

    /// Reads a token, whitespace around it allowed.
    ///
    /// # Errors
    /// [`TokenError`]. Expiry is not judged here: the issuer's clock decides.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if body.len() > TEXT_LEN_MAX {
            return Err(TokenError::Shape(format!("it is longer than {TEXT_LEN_MAX} characters")));
        }
        let payload = URL_SAFE_NO_PAD.decode(body).map_err(|e| match e {
            base64::DecodeError::InvalidByte(..) => TokenError::Alphabet,
            _ => TokenError::Checksum,
        })?;
        let (cbor, sum) = payload.split_last_chunk::<CHECK_LEN>().ok_or(TokenError::Checksum)?;
        if *sum != check(cbor) {
            return Err(TokenError::Checksum);
        }
        let token: Self = from_cbor(cbor).map_err(|e| TokenError::Shape(e.to_string()))?;
        token.spiffe_id()?;
        if token.addresses.is_empty() || token.addresses.len() > ADDRESSES_MAX {
            return Err(TokenError::Shape(format!("it must name 1 to {ADDRESSES_MAX} addresses")));
        }
        Ok(token)
    }

    /// The SPIFFE ID that it admits, parsed.
    ///
    /// # Errors
    /// [`TokenError::Shape`].
    pub fn spiffe_id(&self) -> Result<SpiffeId, TokenError> {
        SpiffeId::new(&self.spiffe_id).map_err(|e| TokenError::Shape(format!("{}: {e}", self.spiffe_id)))
    }

    /// What the issuer keeps of the secret: its SHA-256.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        sha256(&self.secret)
    }
}

fn check(cbor: &[u8]) -> [u8; CHECK_LEN] {
    let hash = sha256(cbor);
    let mut out = [0; CHECK_LEN];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            mesh: MeshId::from_bytes([1; 32]),
            addresses: vec!["hq.example:7443".into(), "192.0.2.1:7443".into()],
            id: [2; 16],
            secret: [3; 32],
            spiffe_id: "spiffe://acme.test/site/lyon/node/lyon".into(),
            expires_ms: 1_800_000_000_000,
        }
    }

    #[test]
    fn a_token_round_trips_and_does_not_print_its_secret() {
        let text = token().encode();
        assert_eq!(JoinToken::decode(&format!("  {text}\n")), Ok(token()));
        assert!(!format!("{:?}", token()).contains(&hex::encode([3u8; 32])));
    }

    #[test]
    fn wire_v1_of_the_join_token_is_pinned() {
        expect_test::expect!["cauldron1.pgBYIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAYJvaHEuZXhhbXBsZTo3NDQzbjE5Mi4wLjIuMTo3NDQzAlACAgICAgICAgICAgICAgICA1ggAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMEeCZzcGlmZmU6Ly9hY21lLnRlc3Qvc2l0ZS9seW9uL25vZGUvbHlvbgUbAAABoxhcUADajeXa"].assert_eq(&token().encode());
    }

    #[test]
    fn slips_of_the_hand_are_named() {
        let text = token().encode();
        assert_eq!(JoinToken::decode("cauldron2.abc"), Err(TokenError::Prefix));
        assert_eq!(JoinToken::decode(&text.replace("cauldron1.", "")), Err(TokenError::Prefix));
        let (head, tail) = text.split_at(40);
        assert_eq!(JoinToken::decode(&format!("{head} {tail}")), Err(TokenError::Alphabet));
        assert!(matches!(JoinToken::decode(&text[..text.len() - 3]), Err(TokenError::Checksum)));
        assert!(matches!(JoinToken::decode("cauldron1."), Err(TokenError::Checksum)));
        let nobody = JoinToken { addresses: vec![], ..token() };
        assert!(matches!(JoinToken::decode(&nobody.encode()), Err(TokenError::Shape(_))));
    }

    proptest! {
        #[test]
        fn every_single_change_is_refused(place in 0usize..200, with in "[A-Za-z0-9_-]") {
            let text = token().encode();
            let place = PREFIX.len() + place % (text.len() - PREFIX.len());
            prop_assume!(text[place..=place] != with);
            let changed = format!("{}{with}{}", &text[..place], &text[place + 1..]);
            prop_assert!(JoinToken::decode(&changed).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = JoinToken::decode(&text);
            let _ = JoinToken::decode(&format!("{PREFIX}{text}"));
        }
    }
}
