//! Secret keys in files: one line that says what the key is for, so that none is used for another's purpose.
//!
//! `cauldron-key1.<purpose>.<base64url of seed ‖ first 4 bytes of SHA-256(purpose ‖ 0x00 ‖ seed)>`
//!
//! The file has mode 0600. Sealed ([`crate::sealing`]), it opens with a passphrase or a node's secret; plain, whoever reads it can
//! act as its holder.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cauldron_identity::AuthorKey;
use cauldron_identity::ids::sha256;
use cauldron_identity::scope::is_name;
use zeroize::Zeroizing;

use crate::chance;
use crate::error::CliError;
use crate::paths::DataDir;
use crate::sealing::{self, Seal, Unlock};

const PREFIX: &str = "cauldron-key1";
const CHECK_LEN: usize = 4;

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// A node's author key.
    Author,
    /// A council member's key.
    Council(String),
    /// A person's software credential.
    Person(String),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Author => f.write_str("author"),
            Self::Council(person) => write!(f, "council-{person}"),
            Self::Person(person) => write!(f, "person-{person}"),
        }
    }
}

impl Purpose {
    fn parse(text: &str) -> Option<Self> {
        if text == "author" {
            return Some(Self::Author);
        }
        let (kind, person) = text.split_once('-')?;
        match kind {
            _ if !is_name(person) => None,
            "council" => Some(Self::Council(person.to_owned())),
            "person" => Some(Self::Person(person.to_owned())),
            _ => None,
        }
    }
}

/// Draws a fresh key.
#[must_use]
pub fn generate() -> AuthorKey {
    AuthorKey::from_seed(&Zeroizing::new(chance::bytes::<32>()))
}

/// Writes a key for its owner alone, sealed where `seal` is given.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write(path: &Path, purpose: &Purpose, key: &AuthorKey, seal: Option<&Seal>) -> Result<(), CliError> {
    sealing::write(path, &purpose.to_string(), &encode(purpose, key), seal)
}

/// Reads a key of any purpose.
///
/// # Errors
/// [`CliError`]: missing, readable by others, sealed and not opened, or damaged.
pub fn read(path: &Path, unlock: Unlock<'_>) -> Result<(Purpose, AuthorKey), CliError> {
    let text = sealing::read(path, unlock)?;
    decode(&text).map_err(|why| CliError::integrity(format!("{} is no Cauldron key", path.display())).detail(why))
}

/// Reads a node's author key.
///
/// # Errors
/// As [`read`]; a key for another purpose is one.
pub fn read_author(dir: &DataDir) -> Result<AuthorKey, CliError> {
    let path = dir.author_key();
    match read(&path, dir.unlock())? {
        (Purpose::Author, key) => Ok(key),
        (other, _) => Err(CliError::config(format!("{} is a key for {other}, not an author key", path.display()))),
    }
}

/// What a plain key file says that it is for.
#[must_use]
pub fn purpose(text: &str) -> Option<Purpose> {
    let mut parts = text.splitn(3, '.');
    (parts.next() == Some(PREFIX)).then(|| parts.next().and_then(Purpose::parse)).flatten()
}

fn encode(purpose: &Purpose, key: &AuthorKey) -> Zeroizing<String> {
    let name = purpose.to_string();
    // With room for all of it: growing would leave copies of the seed behind.
    let mut payload = Zeroizing::new(Vec::with_capacity(key.seed().len() + CHECK_LEN));
    payload.extend_from_slice(&**key.seed());
    let sum = check(&name, &payload);
    payload.extend_from_slice(&sum);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*payload));
    let mut line = Zeroizing::new(String::with_capacity(PREFIX.len() + name.len() + text.len() + 3));
    for part in [PREFIX, ".", &name, ".", &text, "\n"] {
        line.push_str(part);
    }
    line
}

fn decode(text: &str) -> Result<(Purpose, AuthorKey), &'static str> {
    let mut parts = text.trim_end().splitn(3, '.');
    let (Some(PREFIX), Some(name), Some(payload)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a key file is one line that begins with `cauldron-key1.`");
    };
    let purpose = Purpose::parse(name).ok_or("this build does not know what the key is for")?;
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).map_err(|_| "the key is not base64url")?);
    let Some((seed, sum)) = payload.split_first_chunk::<32>() else { return Err("the key is cut off") };
    if sum != check(name, seed) {
        return Err("the checksum does not match: the file was changed or cut");
    }
    Ok((purpose, AuthorKey::from_seed(seed)))
}

fn check(purpose: &str, seed: &[u8]) -> [u8; CHECK_LEN] {
    // `domain_hash`, in a buffer that is wiped.
    let input = Zeroizing::new([b"cauldron/keyfile/v1", &[0][..], purpose.as_bytes(), &[0], seed].concat());
    let hash = sha256(&input);
    let mut out = [0; CHECK_LEN];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_round_trips_and_keeps_its_purpose() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("ana.key");
        let key = generate();
        write(&path, &Purpose::Person("ana".into()), &key, None).expect("written");
        let (purpose, read_back) = read(&path, Unlock::Node(None)).expect("readable");
        assert_eq!((purpose, read_back.public()), (Purpose::Person("ana".into()), key.public()));
        std::fs::rename(&path, dir.path().join("author.key")).expect("renamed");
        let error = read_author(&DataDir::new(dir.path())).expect_err("another purpose");
        assert!(error.to_string().contains("is a key for person-ana"), "{error}");
    }

    #[test]
    fn the_format_stays_what_files_hold() {
        let line = encode(&Purpose::Author, &AuthorKey::from_seed(&[7; 32]));
        assert_eq!(line.as_str(), "cauldron-key1.author.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwev8ZKE\n");
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = AuthorKey::from_seed(&[7; 32]);
        let text = encode(&Purpose::Council("ana".into()), &key);
        for place in 0..text.trim_end().len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] = if bytes[place] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(decode(&changed).is_err(), "{changed}");
        }
        assert!(decode("").is_err() && decode("cauldron-key1.author.").is_err());
    }
}
