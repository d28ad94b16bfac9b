//! Secrets at rest: one line that says what it is for and how to open it, and a ciphertext that only the right secret opens.
//!
//! `cauldron-sealed1.<purpose>.<kdf>.<salt>.<nonce>.<ciphertext>.<check>`; binary parts are base64url without padding.
//!
//! * `kdf`: `argon2id-<KiB>-<passes>-<lanes>` (RFC 9106) for what a person remembers; `hkdf` (RFC 5869, SHA-256) for a machine's
//!   secret of full entropy, where slow hashing would cost a start and add nothing.
//! * `ciphertext`: AES-256-GCM-SIV (RFC 8452) with its tag. Everything before it is authenticated too.
//! * `check`: the first bytes of a SHA-256 over everything before it. It protects nothing; it tells a damaged file from a wrong
//!   secret.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::ids::domain_hash;

/// How every sealed file begins.
pub const PREFIX: &str = "cauldron-sealed1";
/// The shortest machine secret: as much as the key that is made of it.
pub const MACHINE_SECRET_BYTES_MIN: usize = 32;
/// The longest secret that is read: passphrases and random files are far shorter.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;
const SALT_LEN: usize = 16;
const CHECK_LEN: usize = 4;
/// Bounds on what a file may demand of the machine that opens it.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// How the sealing key is made of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// Of a passphrase: slow and large on purpose.
    Argon2id {
        /// Memory, KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Of a random secret of at least [`MACHINE_SECRET_BYTES_MIN`] bytes.
    Hkdf,
}

/// The second recommended option of RFC 9106 §4: 64 MiB, 3 passes, 4 lanes.
pub const PASSPHRASE: Kdf = Kdf::Argon2id { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

/// Fresh random bytes for one sealing.
#[derive(Clone, Copy)]
pub struct Chance {
    /// Makes equal secrets give different keys.
    pub salt: [u8; SALT_LEN],
    /// Makes equal plaintexts give different ciphertexts.
    pub nonce: [u8; NONCE_LEN],
}

/// Why something is not sealed or not opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum SealError {
    /// Another kind of file, or a later version of this one.
    #[error("it does not begin with `{PREFIX}.`")]
    NotSealed,
    /// A part is missing or not of its form.
    #[error("its {what}, from character {at} on, is malformed: the file was changed or cut")]
    Part {
        /// Which part.
        what: &'static str,
        /// Where it begins, from 1.
        at: usize,
    },
    /// The check does not match.
    #[error("its check does not match: the file was changed or cut somewhere in its {0} characters")]
    Damaged(usize),
    /// More work than any file of ours asks for.
    #[error("it asks for more memory or work than {MEMORY_KIB_MAX} KiB, {PASSES_MAX} passes, {LANES_MAX} lanes")]
    Cost,
    /// The check matches and the key does not open it.
    #[error("the passphrase or secret is not the one that it was sealed with")]
    WrongSecret,
    /// Too short for a machine's secret, or absurdly long.
    #[error("a machine secret is {MACHINE_SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes; this one has {0}")]
    SecretLength(usize),
}

/// What a sealed file says without being opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// What the secret in it is for.
    pub purpose: &'a str,
    /// How the key is made.
    pub kdf: Kdf,
    /// Everything before the ciphertext, which the tag covers.
    header: &'a str,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
}

/// Whether `text` is a sealed file, of whatever version.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with("cauldron-sealed")
}

/// Seals `plain`. `purpose` is lower-case letters, digits and `-`.
///
/// # Errors
/// [`SealError::SecretLength`], [`SealError::Cost`].
pub fn seal(purpose: &str, plain: &[u8], secret: &[u8], kdf: Kdf, chance: Chance) -> Result<String, SealError> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = format!("{PREFIX}.{purpose}.{}.{}.{}", kdf.text(), encode(&chance.salt), encode(&chance.nonce));
    let key = key(secret, kdf, &chance.salt)?;
    // With room for the tag: growing would leave a copy of the plaintext behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM_SIV.tag_len()));
    sealed.extend_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(chance.nonce);
    match key.seal_in_place_append_tag(nonce, Aad::from(header.as_bytes()), &mut *sealed) {
        Ok(()) => {}
        Err(_) => unreachable!("AES-GCM-SIV seals whatever fits into memory"),
    }
    let body = format!("{header}.{}", encode(&sealed));
    Ok(format!("{body}.{}\n", encode(&check(&body))))
}

/// Reads what `text` says of itself, and finds damage.
///
/// # Errors
/// [`SealError`], where it stands.
pub fn read(text: &str) -> Result<Sealed<'_>, SealError> {
    let line = text.trim_end();
    let Some(rest) = line.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')) else {
        return Err(SealError::NotSealed);
    };
    let mut parts = Parts { line, rest: Some(rest) };
    let (purpose, _) = parts.next("purpose")?;
    let (kdf, at) = parts.next("kdf")?;
    let kdf = Kdf::parse(kdf).ok_or(SealError::Part { what: "kdf", at })?;
    let salt = parts.bytes("salt")?;
    let nonce = parts.bytes("nonce")?;
    let (ciphertext, at) = parts.next("ciphertext")?;
    let header = &line[..at - 2];
    let ciphertext = decode(ciphertext).ok_or(SealError::Part { what: "ciphertext", at })?;
    let body = &line[..at - 1 + line[at - 1..].find('.').unwrap_or(line.len() - at + 1)];
    let claimed: [u8; CHECK_LEN] = parts.bytes("check")?;
    if parts.rest.is_some() || claimed != check(body) {
        return Err(SealError::Damaged(line.len()));
    }
    Ok(Sealed { purpose, kdf, header, salt, nonce, ciphertext })
}

impl Sealed<'_> {
    /// Opens it.
    ///
    /// # Errors
    /// [`SealError::WrongSecret`], [`SealError::Cost`], [`SealError::SecretLength`].
    pub fn open(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = key(secret, self.kdf, &self.salt)?;
        let mut plain = Zeroizing::new(self.ciphertext.clone());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let length = key
            .open_in_place(nonce, Aad::from(self.header.as_bytes()), &mut plain)
            .map_err(|_| SealError::WrongSecret)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

impl Kdf {
    fn text(self) -> String {
        match self {
            Self::Argon2id { memory_kib, passes, lanes } => format!("argon2id-{memory_kib}-{passes}-{lanes}"),
            Self::Hkdf => "hkdf".into(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "hkdf" {
            return Some(Self::Hkdf);
        }
        let mut numbers = text.strip_prefix("argon2id-")?.split('-').map(|n| n.parse().ok());
        let kdf = Self::Argon2id { memory_kib: numbers.next()??, passes: numbers.next()??, lanes: numbers.next()?? };
        // One text, one meaning: no leading zeros, no signs, nothing behind.
        (numbers.next().is_none() && kdf.text() == text).then_some(kdf)
    }
}

fn key(secret: &[u8], kdf: Kdf, salt: &[u8; SALT_LEN]) -> Result<LessSafeKey, SealError> {
    let machine = kdf == Kdf::Hkdf && secret.len() < MACHINE_SECRET_BYTES_MIN;
    if machine || secret.len() > SECRET_BYTES_MAX {
        return Err(SealError::SecretLength(secret.len()));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    match kdf {
        Kdf::Hkdf => {
            let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
            let expanded =
                pseudorandom.expand(&[PREFIX.as_bytes()], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *bytes));
            if expanded.is_err() {
                unreachable!("32 bytes are one block of HKDF-SHA-256");
            }
        }
        Kdf::Argon2id { memory_kib, passes, lanes } => {
            if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
                return Err(SealError::Cost);
            }
            let params =
                argon2::Params::new(memory_kib, passes, lanes, Some(bytes.len())).map_err(|_| SealError::Cost)?;
            argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_into(secret, salt, &mut *bytes)
                .map_err(|_| SealError::Cost)?;
        }
    }
    match UnboundKey::new(&AES_256_GCM_SIV, &*bytes) {
        Ok(key) => Ok(LessSafeKey::new(key)),
        Err(_) => unreachable!("32 bytes are an AES-256 key"),
    }
}

fn check(body: &str) -> [u8; CHECK_LEN] {
    let hash = domain_hash("cauldron/sealed/v1", body.as_bytes());
    let mut out = [0; CHECK_LEN];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

struct Parts<'a> {
    line: &'a str,
    rest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// The next part and where it begins, from 1.
    fn next(&mut self, what: &'static str) -> Result<(&'a str, usize), SealError> {
        let rest = self.rest.ok_or(SealError::Part { what, at: self.line.len() + 1 })?;
        let at = self.line.len() - rest.len() + 1;
        let (part, behind) = match rest.split_once('.') {
            Some((part, behind)) => (part, Some(behind)),
            None => (rest, None),
        };
        self.rest = behind;
        if part.is_empty() { Err(SealError::Part { what, at }) } else { Ok((part, at)) }
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], SealError> {
        let (part, at) = self.next(what)?;
        decode(part).and_then(|bytes| bytes.try_into().ok()).ok_or(SealError::Part { what, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small enough for a test; the same code as [`PASSPHRASE`].
    const QUICK: Kdf = Kdf::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
    const CHANCE: Chance = Chance { salt: [1; SALT_LEN], nonce: [2; NONCE_LEN] };
    const SECRET: &[u8] = &[7; MACHINE_SECRET_BYTES_MIN];

    fn sealed(kdf: Kdf) -> String {
        seal("council-ana", b"the seed", SECRET, kdf, CHANCE).expect("sealed")
    }

    #[test]
    fn only_the_right_secret_opens_it_and_it_says_what_it_is() {
        for kdf in [QUICK, Kdf::Hkdf] {
            let text = sealed(kdf);
            let found = read(&text).expect("readable");
            assert_eq!((found.purpose, found.kdf), ("council-ana", kdf));
            assert_eq!(found.open(SECRET).expect("opens").as_slice(), b"the seed");
            assert_eq!(found.open(&[8; 32]), Err(SealError::WrongSecret));
        }
        assert_eq!(seal("p", b"x", b"short", Kdf::Hkdf, CHANCE), Err(SealError::SecretLength(5)));
    }

    #[test]
    fn every_changed_character_is_noticed_as_damage() {
        let text = sealed(QUICK);
        let line = text.trim_end();
        for place in 0..line.len() {
            let mut bytes = line.as_bytes().to_vec();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(read(&changed).is_err(), "{changed}");
            assert!(read(&line[..place]).is_err(), "cut at {place}");
        }
        assert_eq!(read(&format!("{line}.x")), Err(SealError::Damaged(line.len() + 2)));
        let salt = line.replacen(".AQEB", ".AQE!", 1);
        assert!(matches!(read(&salt), Err(SealError::Part { what: "salt", .. })), "{salt}");
    }

    #[test]
    fn the_header_is_authenticated_even_with_a_new_check() {
        let text = sealed(Kdf::Hkdf);
        let forged = text.trim_end().replacen("council-ana", "council-eve", 1);
        let body = forged.rsplit_once('.').expect("a check").0;
        let forged = format!("{body}.{}", URL_SAFE_NO_PAD.encode(check(body)));
        assert_eq!(read(&forged).expect("readable").open(SECRET), Err(SealError::WrongSecret));
    }

    #[test]
    fn a_file_cannot_demand_the_machine() {
        let huge = Kdf::Argon2id { memory_kib: MEMORY_KIB_MAX + 1, passes: 1, lanes: 1 };
        assert_eq!(seal("p", b"x", SECRET, huge, CHANCE), Err(SealError::Cost));
        for text in ["argon2id-064-1-1", "argon2id-64-1", "argon2id-64-1-1-1", "argon2id-+64-1-1", "scrypt", ""] {
            assert_eq!(Kdf::parse(text), None, "{text}");
        }
    }

    /// Made by the reference implementation: `echo -n password | argon2 saltsaltsaltsalt -id -k 64 -t 3 -p 4 -l 32 -r` (argon2 20171227).
    #[test]
    fn argon2id_is_the_reference_implementations() {
        let params = argon2::Params::new(64, 3, 4, Some(32)).expect("parameters");
        let mut out = [0; 32];
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(b"password", b"saltsaltsaltsalt", &mut out)
            .expect("hashed");
        assert_eq!(hex::encode(out), "e443b773cab882827170da0b8e96d4ef1bad8c8049c8960ded8e7e227d1ee9ec");
    }
}
