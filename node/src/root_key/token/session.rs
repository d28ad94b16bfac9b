//! One session with a token: found by its label, opened with the PIN, opened again when it was away.

use std::time::SystemTime;

use cauldron_identity::x509::POINT_LEN;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::super::uri::TokenUri;
use crate::error::{CliError, Kind};
use crate::{chance, files};

/// The object identifier of P-256, DER (RFC 5480 §2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The header of a DER octet string of [`POINT_LEN`] bytes: `CKA_EC_POINT` has one, though some tokens leave it out.
const OCTETS: [u8; 2] = [0x04, 0x41];

/// Keeps a session where one can be had.
pub(super) struct Keeper {
    uri: TokenUri,
    open: Option<Open>,
    point: Option<[u8; POINT_LEN]>,
    /// When the file with a refused PIN was written. Tokens lock themselves after a few wrong ones: it is tried once.
    refused: Option<SystemTime>,
}

/// A session that is logged in, and the private key. The session ends before its module does.
struct Open {
    session: Session,
    key: ObjectHandle,
    _module: Module,
}

/// A module that is at work until this goes; begun anew, it looks for its tokens anew.
struct Module(Pkcs11);

impl Drop for Module {
    fn drop(&mut self) {
        // One that cannot end cannot begin again either, and says so then.
        let _ = self.0.clone().finalize();
    }
}

impl Keeper {
    pub(super) fn new(uri: TokenUri) -> Self {
        Self { uri, open: None, point: None, refused: None }
    }

    /// Opens the token for the first time and returns the public key.
    pub(super) fn begin(&mut self, generate: bool) -> Result<[u8; POINT_LEN], CliError> {
        let (open, point) = self.connect(generate)?;
        (self.open, self.point) = (Some(open), Some(point));
        Ok(point)
    }

    /// A DER signature over a SHA-256 digest. After a failure the token is opened once more, then the failure counts.
    pub(super) fn sign(&mut self, digest: &[u8; 32]) -> Result<Vec<u8>, CliError> {
        let signed = self.open.take().and_then(|open| Some((open.sign(digest).ok()?, open)));
        let (raw, open) = match signed {
            Some(signed) => signed,
            None => {
                let (open, point) = self.connect(false)?;
                if Some(point) != self.point {
                    return Err(CliError::integrity(format!("the {} is another one than at the start", self.uri)));
                }
                let raw = open.sign(digest).map_err(|e| self.away("does not sign", &e))?;
                tracing::info!(key = %self.uri, "the token was opened again");
                (raw, open)
            }
        };
        self.open = Some(open);
        der_signature(&raw).ok_or_else(|| {
            CliError::integrity(format!("the {} answered {} bytes, no P-256 signature", self.uri, raw.len()))
        })
    }

    fn connect(&mut self, generate: bool) -> Result<(Open, [u8; POINT_LEN]), CliError> {
        let module = self.module()?;
        let slot = self.slot(&module.0)?;
        let session = match generate {
            true => module.0.open_rw_session(slot),
            false => module.0.open_ro_session(slot),
        };
        let session = session.map_err(|e| self.away("opens no session", &e))?;
        self.login(&session, &self.token_info(&module.0, slot)?)?;
        if generate {
            self.generate(&session)?;
        }
        let key = self.one(&session, ObjectClass::PRIVATE_KEY)?;
        let point = self.point(&session)?;
        Ok((Open { session, key, _module: module }, point))
    }

    fn module(&self) -> Result<Module, CliError> {
        let shown = self.uri.module.display();
        let failed = |e: Error| {
            CliError::config(format!("{shown} is no PKCS#11 module that works here"))
                .because(&e)
                .hint("correct module-path, or install the module of the token")
        };
        let module = Pkcs11::new(&self.uri.module).map_err(failed)?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(failed)?;
        Ok(Module(module))
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, CliError> {
        let TokenUri { token, serial, .. } = &self.uri;
        let slots = module.get_slots_with_initialized_token().map_err(|e| self.away("cannot be looked for", &e))?;
        let is_ours = |info: TokenInfo| {
            info.label() == token && serial.as_ref().is_none_or(|serial| info.serial_number() == serial)
        };
        let mut ours = slots.into_iter().filter(|slot| module.get_token_info(*slot).is_ok_and(is_ours));
        match (ours.next(), ours.next()) {
            (Some(slot), None) => Ok(slot),
            (None, _) => Err(CliError::new(Kind::Unreachable, format!("token `{token}` is not there")).hint(
                "plug it in or start its service, or correct the URI; `p11-kit list-tokens` and the like show tokens",
            )),
            (Some(_), Some(_)) => Err(CliError::config(format!("more than one token is called `{token}`"))
                .hint("add ;serial=NUMBER to the URI")),
        }
    }

    fn token_info(&self, module: &Pkcs11, slot: Slot) -> Result<TokenInfo, CliError> {
        module.get_token_info(slot).map_err(|e| self.away("does not say how it is", &e))
    }

    fn login(&mut self, session: &Session, info: &TokenInfo) -> Result<(), CliError> {
        let (token, path) = (&self.uri.token, &self.uri.pin_source);
        let locked = |what: &str| {
            CliError::new(Kind::Refused, format!("token `{token}` {what}"))
                .hint("log in with the right PIN by the token's own tool, or have its security officer reset it")
        };
        if info.user_pin_locked() {
            return Err(locked("is locked after too many wrong PINs"));
        }
        if info.user_pin_final_try() {
            return Err(locked("has one try left before it is locked; a machine does not use it up"));
        }
        let wrong = || {
            CliError::config(format!("token `{token}` refuses the PIN in {}", path.display()))
                .hint("correct the file; it is tried again when it has changed")
        };
        let written = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        if written.is_some() && written == self.refused {
            return Err(wrong());
        }
        let pin = Zeroizing::new(files::read_secret(path)?);
        let pin = AuthPin::from(pin.trim_end_matches(['\n', '\r']));
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) => Ok(()),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                let error = wrong();
                self.refused = written;
                Err(error)
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(locked("is locked after too many wrong PINs")),
            Err(e) => Err(self.away("does not let anybody in", &e)),
        }
    }

    fn generate(&self, session: &Session) -> Result<(), CliError> {
        if !self.find(session, ObjectClass::PRIVATE_KEY)?.is_empty() {
            return Err(CliError::config(format!("the {} is there already", self.uri))
                .hint("found on it without --root-key-generate, or write another object"));
        }
        let label = || Attribute::Label(self.uri.object.clone().into_bytes());
        let id: [u8; 16] = chance::bytes();
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.to_vec()),
            label(),
            Attribute::Id(id.to_vec()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label(),
            Attribute::Id(id.to_vec()),
        ];
        session
            .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            .map(drop)
            .map_err(|e| self.away("makes no key pair", &e))
    }

    fn find(&self, session: &Session, class: ObjectClass) -> Result<Vec<ObjectHandle>, CliError> {
        let label = Attribute::Label(self.uri.object.clone().into_bytes());
        session
            .find_objects(&[Attribute::Class(class), Attribute::KeyType(KeyType::EC), label])
            .map_err(|e| self.away("does not say what it holds", &e))
    }

    fn one(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, CliError> {
        let half = if class == ObjectClass::PRIVATE_KEY { "private" } else { "public" };
        let TokenUri { token, object, .. } = &self.uri;
        match self.find(session, class)?[..] {
            [one] => Ok(one),
            [] => Err(CliError::config(format!("token `{token}` holds no {half} EC key `{object}`"))
                .hint("correct object in the URI; `cauldron init --root-key-generate` makes the pair at founding")),
            _ => Err(CliError::config(format!("token `{token}` holds more than one {half} EC key `{object}`"))
                .hint("give each key pair a label of its own")),
        }
    }

    fn point(&self, session: &Session) -> Result<[u8; POINT_LEN], CliError> {
        let handle = self.one(session, ObjectClass::PUBLIC_KEY)?;
        let attributes = session
            .get_attributes(handle, &[AttributeType::EcPoint])
            .map_err(|e| self.away("does not show the public key", &e))?;
        let bytes = match attributes.first() {
            Some(Attribute::EcPoint(bytes)) => &bytes[..],
            _ => &[],
        };
        let bytes = bytes.strip_prefix(&OCTETS).filter(|point| point.len() == POINT_LEN).unwrap_or(bytes);
        let point = <[u8; POINT_LEN]>::try_from(bytes).ok().filter(|point| point[0] == 0x04);
        point.ok_or_else(|| {
            CliError::config(format!("the {} is not on the curve P-256", self.uri))
                .hint("name an EC key pair on prime256v1 (secp256r1)")
        })
    }

    fn away(&self, what: &str, error: &Error) -> CliError {
        CliError::new(Kind::Unreachable, format!("token `{}` {what}", self.uri.token)).because(error)
    }
}

impl Open {
    /// `r ‖ s` (PKCS #11 v2.40 §2.3.1).
    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Error> {
        self.session.sign(&Mechanism::Ecdsa, self.key, digest)
    }
}

/// `Ecdsa-Sig-Value` (RFC 3279 §2.2.3) of `r ‖ s`.
fn der_signature(raw: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
    let body = [integer(r), integer(s)].concat();
    Some([&[0x30, u8::try_from(body.len()).ok()?][..], &body].concat())
}

/// A positive DER integer of at most 32 big-endian bytes.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count().min(bytes.len().saturating_sub(1));
    let (_, value) = bytes.split_at(zeros);
    let sign: &[u8] = if value.first().is_some_and(|b| b & 0x80 != 0) { &[0] } else { &[] };
    let len = u8::try_from(sign.len() + value.len()).unwrap_or(u8::MAX);
    [&[0x02, len], sign, value].concat()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    };

    use super::*;

    #[test]
    fn a_signature_as_tokens_give_it_verifies_as_certificates_hold_it() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref().to_vec());
        // One in 128 has a leading zero byte in r or s, one in four needs no sign byte.
        for n in 0..1_000_u32 {
            let raw = pair.sign(&SystemRandom::new(), &n.to_be_bytes()).expect("signs");
            let der = der_signature(raw.as_ref()).expect("64 bytes");
            public.verify(&n.to_be_bytes(), &der).unwrap_or_else(|_| panic!("{}", hex::encode(&der)));
        }
    }

    #[test]
    fn integers_are_as_short_as_they_can_be() {
        let mut raw = [0; 64];
        (raw[31], raw[32]) = (0x7f, 0x80);
        let der = der_signature(&raw).expect("64 bytes");
        assert_eq!(der[..6], [0x30, 38, 0x02, 1, 0x7f, 0x02]);
        assert_eq!(der[6..9], [33, 0x00, 0x80]);
        assert_eq!(der_signature(&[0; 64]), Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0]));
        assert_eq!((der_signature(&raw[..63]), der_signature(&[])), (None, None));
    }
}
