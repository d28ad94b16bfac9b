//! Public keys of passkeys, and their signatures.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::Decoder;

use super::error::{PasskeyError, within};
use crate::codec::{self, CodecError};
use crate::keys::{PublicKey, Signature};

/// What a passkey signs with (IANA, COSE Algorithms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, -7: phones, laptops, most tokens.
    Es256,
    /// EdDSA on Ed25519, -8.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, -257: Windows Hello over older TPMs.
    Rs256,
}

impl Algorithm {
    /// All, in the order in which a page should ask for them (`pubKeyCredParams`).
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The number in the registry.
    #[must_use]
    pub const fn cose(self) -> i32 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }

    /// Reads [`Algorithm::cose`].
    ///
    /// # Errors
    /// [`PasskeyError::Algorithm`].
    pub fn from_cose(number: i64) -> Result<Self, PasskeyError> {
        let found = Self::ALL.into_iter().find(|a| i64::from(a.cose()) == number);
        found.ok_or(PasskeyError::Algorithm(number))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        })
    }
}

/// An uncompressed point of SEC 1, §2.3.3.
const POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;
/// NIST SP 800-131A refuses less; RFC 8812 too.
const RSA_BYTES_MIN: usize = 2048 / 8;
/// No authenticator makes more, and verification takes longer with each bit.
const RSA_BYTES_MAX: usize = 4096 / 8;
/// 65,537, the only public exponent that authenticators use: none has to be kept.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];
/// A PKCS #1 signature is as long as the modulus, the longest of the three.
pub(super) const SIGNATURE_BYTES_MAX: usize = RSA_BYTES_MAX;
/// Two integers of 33 bytes, their heads and the sequence's.
const DER_BYTES_MAX: usize = 72;
const ED25519_BYTES: usize = 64;

/// A passkey's public key, in one form: for ES256 the uncompressed point (65 bytes, beginning with 4), for EdDSA the 32 bytes of
/// RFC 8032, for RS256 the modulus (256 to 512 bytes, without leading zeros; the exponent is 65,537).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoseKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl CoseKey {
    /// Reads that form. Whether the key is weak is asked where it is admitted, [`CoseKey::check`].
    ///
    /// # Errors
    /// [`PasskeyError::Length`], [`PasskeyError::Key`].
    pub fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Result<Self, PasskeyError> {
        let (min, max) = match algorithm {
            Algorithm::Es256 => (POINT_BYTES, POINT_BYTES),
            Algorithm::EdDsa => (32, 32),
            Algorithm::Rs256 => (RSA_BYTES_MIN, RSA_BYTES_MAX),
        };
        within("public key", &bytes, min, max)?;
        match algorithm {
            Algorithm::Es256 if bytes[0] != UNCOMPRESSED => Err(PasskeyError::Key("it is no uncompressed point")),
            Algorithm::Rs256 if bytes[0] == 0 => Err(PasskeyError::Key("its modulus begins with zeros")),
            _ => Ok(Self { algorithm, bytes }),
        }
    }

    /// Reads a `COSE_Key` as authenticators write it: exactly the members that the algorithm asks for (Level 3, §6.5.1.1).
    ///
    /// # Errors
    /// [`PasskeyError::Cbor`], [`PasskeyError::Algorithm`], [`PasskeyError::Key`], [`PasskeyError::Length`].
    pub fn from_cose(bytes: &[u8]) -> Result<Self, PasskeyError> {
        codec::check(bytes).map_err(cbor)?;
        let mut input = Members(Decoder::new(bytes));
        let members = input.0.map().map_err(shape)?;
        let kty = input.number(1)?;
        let algorithm = Algorithm::from_cose(input.number(3)?)?;
        let wanted = match algorithm {
            Algorithm::Es256 => (2, 5),
            Algorithm::EdDsa => (1, 4),
            Algorithm::Rs256 => (3, 4),
        };
        if (kty, members) != (wanted.0, Some(wanted.1)) {
            return Err(PasskeyError::Key(
                "its type does not fit its algorithm, or it has other members than it needs",
            ));
        }
        let key = match algorithm {
            Algorithm::Es256 => {
                input.curve(1)?;
                let (x, y) = (input.bytes(-2)?, input.bytes(-3)?);
                within("x coordinate", x, 32, 32)?;
                within("y coordinate", y, 32, 32)?;
                [&[UNCOMPRESSED], x, y].concat()
            }
            Algorithm::EdDsa => {
                input.curve(6)?;
                input.bytes(-2)?.to_vec()
            }
            Algorithm::Rs256 => {
                let n = input.bytes(-1)?.to_vec();
                if input.bytes(-2)? != RSA_EXPONENT {
                    return Err(PasskeyError::Key("its exponent is not 65537"));
                }
                n
            }
        };
        Self::new(algorithm, key)
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The form that [`CoseKey::new`] reads.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of an EdDSA passkey.
    #[must_use]
    pub fn ed25519(&self) -> Option<PublicKey> {
        let bytes = self.bytes.as_slice().try_into().ok();
        bytes.filter(|_| self.algorithm == Algorithm::EdDsa).map(PublicKey::from_bytes)
    }

    /// Whether others than its holder could sign for it.
    ///
    /// # Errors
    /// [`PasskeyError::Key`], with the reason.
    pub fn check(&self) -> Result<(), PasskeyError> {
        let weak = match self.algorithm {
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes)
                .err()
                .map(|_| "its point does not lie on P-256"),
            Algorithm::EdDsa => self
                .ed25519()
                .is_none_or(|key| key.is_weak())
                .then_some("it is a weak (small-order) or invalid point: anybody could sign for it"),
            Algorithm::Rs256 => weak_modulus(&self.bytes),
        };
        weak.map_or(Ok(()), |why| Err(PasskeyError::Key(why)))
    }

    /// Verifies a signature over `message`: for ES256 in DER, for the others bare.
    ///
    /// # Errors
    /// [`PasskeyError::Length`], [`PasskeyError::Signature`]. Weakness is checked where keys are admitted.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), PasskeyError> {
        let (min, max) = match self.algorithm {
            Algorithm::Es256 => (8, DER_BYTES_MAX),
            Algorithm::EdDsa => (ED25519_BYTES, ED25519_BYTES),
            Algorithm::Rs256 => (self.bytes.len(), self.bytes.len()),
        };
        within("signature", signature, min, max)?;
        let verify = || {
            let good = match self.algorithm {
                Algorithm::Es256 => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(message, signature).is_ok()
                }
                Algorithm::EdDsa => self.ed25519().zip(signature.try_into().ok()).is_some_and(|(key, signature)| {
                    key.verify_bytes(message, &Signature::from_bytes(signature)).is_ok()
                }),
                Algorithm::Rs256 => RsaPublicKeyComponents { n: &self.bytes[..], e: &RSA_EXPONENT }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                    .is_ok(),
            };
            if good { Ok(()) } else { Err(PasskeyError::Signature) }
        };
        crate::memo::once(&[&self.bytes, message, signature], verify)
    }
}

impl fmt::Display for CoseKey {
    /// The algorithm and, in base64url, the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, BASE64_URL_SAFE_NO_PAD.encode(&self.bytes))
    }
}

impl FromStr for CoseKey {
    type Err = PasskeyError;

    /// Reads what is displayed.
    fn from_str(text: &str) -> Result<Self, PasskeyError> {
        let (name, bytes) = text.split_once(' ').ok_or(PasskeyError::Key("it is no algorithm and bytes"))?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.to_string() == name);
        let algorithm = algorithm.ok_or(PasskeyError::Key("its algorithm is none of ES256, EdDSA and RS256"))?;
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(bytes).map_err(|_| PasskeyError::Key("its bytes are not base64url"))?;
        Self::new(algorithm, bytes)
    }
}

impl fmt::Debug for CoseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoseKey({} {})", self.algorithm, hex::encode(&self.bytes[..6]))
    }
}

/// Primes by whose remainders the keys of a faulty library are recognised.
const FINGERPRINT: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
/// The first primes: a modulus that one of them divides is no product of two large ones.
const SMALL: [u32; 8] = [2, 3, 5, 7, 23, 29, 31, 41];

/// Why an RSA modulus is easy to factor, as far as a look at it tells.
fn weak_modulus(n: &[u8]) -> Option<&'static str> {
    let remainder = |p: u32| n.iter().fold(0, |r, byte| ((r << 8) | u32::from(*byte)) % p);
    if SMALL.iter().chain(&FINGERPRINT).any(|p| remainder(*p) == 0) {
        return Some("its modulus has a small divisor");
    }
    // CVE-2017-15361: TPMs of one maker chose primes that are powers of 65537 modulo a product of small primes (Nemec et al., CCS
    // 2017, §2.2). Other keys look so once in 2^27.
    let is_power = |p: &u32| {
        let r = remainder(*p);
        std::iter::successors(Some(1), |power| Some(power * 65_537 % p)).take(*p as usize).any(|power| power == r)
    };
    FINGERPRINT
        .iter()
        .all(is_power)
        .then_some("a faulty TPM made it (CVE-2017-15361): update its firmware, make another")
}

/// The members of a `COSE_Key`, in the only order that canonical CBOR has.
struct Members<'b>(Decoder<'b>);

impl<'b> Members<'b> {
    fn label(&mut self, wanted: i64) -> Result<(), PasskeyError> {
        match self.0.i64() {
            Ok(label) if label == wanted => Ok(()),
            _ => Err(cbor(CodecError::Shape(format!("member {wanted} is missing")))),
        }
    }

    fn number(&mut self, label: i64) -> Result<i64, PasskeyError> {
        self.label(label)?;
        self.0.i64().map_err(shape)
    }

    fn bytes(&mut self, label: i64) -> Result<&'b [u8], PasskeyError> {
        self.label(label)?;
        self.0.bytes().map_err(shape)
    }

    fn curve(&mut self, wanted: i64) -> Result<(), PasskeyError> {
        match self.number(-1)? == wanted {
            true => Ok(()),
            false => Err(PasskeyError::Key("its curve does not fit its algorithm")),
        }
    }
}

fn cbor(source: CodecError) -> PasskeyError {
    PasskeyError::Cbor { what: "credential public key", source }
}

fn shape(error: minicbor::decode::Error) -> PasskeyError {
    cbor(CodecError::Shape(error.to_string()))
}
