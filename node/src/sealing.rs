//! Secret files on this machine, plain or sealed ([`cauldron_identity::seal`]): who opens them, and with what.
//!
//! A person types a passphrase or names a file that holds one. A node reads a random secret that `node.key_seal` names. A
//! sealed file holds the whole plain one, so what is in it is read by the same code either way.

use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use cauldron_identity::seal::{self, Chance, Kdf, MACHINE_SECRET_BYTES_MIN, PASSPHRASE, SealError};
use clap::Args;
use zeroize::Zeroizing;

use crate::error::{CliError, Kind};
use crate::{chance, files};

/// Where systemd puts a unit's credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Marks a credential's name in `node.key_seal`.
const CREDENTIAL_PREFIX: &str = "credential:";
/// Shorter ones fall to a guess even when each try takes a second.
const PASSPHRASE_CHARS_MIN: usize = 10;

/// Where a person's passphrase comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// A file with the passphrase of a sealed key, instead of asking on the terminal
    #[arg(long, value_name = "PATH", env = "CAULDRON_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Where a node's sealing secret comes from: `node.key_seal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, mode 0600.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
}

/// A secret and how a key is made of it.
pub struct Seal {
    secret: Zeroizing<Vec<u8>>,
    kdf: Kdf,
}

/// Who would open a sealed file.
#[derive(Debug, Clone, Copy)]
pub enum Unlock<'a> {
    /// A node, with what `node.key_seal` names, if it names anything.
    Node(Option<&'a Source>),
    /// A person.
    Person(&'a PassphraseArgs),
}

impl Source {
    /// Reads `node.key_seal`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, base: &Path) -> Result<Self, &'static str> {
        match text.strip_prefix(CREDENTIAL_PREFIX) {
            Some(name) if name.is_empty() || name.contains('/') => Err("names no credential"),
            Some(name) => Ok(Self::Credential(name.to_owned())),
            None if text.is_empty() => Err("is empty"),
            None => Ok(Self::File(base.join(text))),
        }
    }

    /// Reads the secret: at least [`MACHINE_SECRET_BYTES_MIN`] random bytes, as they stand in the file.
    ///
    /// # Errors
    /// [`CliError`] that names the file.
    pub fn load(&self) -> Result<Seal, CliError> {
        let (path, secret) = match self {
            Self::File(path) => (path.clone(), files::read_secret_bytes(path)?),
            Self::Credential(name) => {
                let folder = std::env::var_os(CREDENTIALS).ok_or_else(|| {
                    CliError::config(format!(
                        "node.key_seal names the credential {name:?}, but {CREDENTIALS} is not set"
                    ))
                    .hint(format!("add LoadCredential={name}:/etc/cauldron/{name} to the unit, or name a file"))
                })?;
                let path = Path::new(&folder).join(name);
                // systemd sees to it that nobody else reads it; its mode is systemd's.
                let secret = files::read(&path)?;
                (path, Zeroizing::new(secret))
            }
        };
        if secret.len() < MACHINE_SECRET_BYTES_MIN {
            return Err(CliError::config(format!("{} is too short to seal keys with", path.display()))
                .because(&SealError::SecretLength(secret.len()))
                .hint(format!("head -c 32 /dev/urandom > {}", path.display())));
        }
        Ok(Seal { secret, kdf: Kdf::Hkdf })
    }
}

impl PassphraseArgs {
    /// A passphrase for a new sealing: from the file, or typed twice.
    ///
    /// # Errors
    /// [`CliError`]: no terminal and no file, too short, or typed differently.
    pub fn choose(&self, what: &str) -> Result<Seal, CliError> {
        let secret = self.secret(&format!("New passphrase for {what}: "))?;
        if String::from_utf8_lossy(&secret).chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(CliError::usage(format!("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters"))
                .hint("four or five random words are good and can be remembered"));
        }
        if self.passphrase_file.is_none() && *ask("The same again: ")? != *secret {
            return Err(CliError::usage("the two passphrases differ"));
        }
        Ok(Seal { secret, kdf: PASSPHRASE })
    }

    /// Whether [`PassphraseArgs::choose`] has anybody or anything to ask.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.passphrase_file.is_some() || std::io::stdin().is_terminal()
    }

    fn secret(&self, question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
        match &self.passphrase_file {
            Some(path) => files::read_secret_bytes(path).map(without_newline),
            None if std::io::stdin().is_terminal() => ask(question),
            None => Err(CliError::usage("nobody is at the terminal to type a passphrase")
                .hint("name a file with --passphrase-file, or in CAULDRON_PASSPHRASE_FILE")),
        }
    }
}

/// Asks on the terminal, without echo.
fn ask(question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let typed = rpassword::prompt_password(question);
    typed
        .map(|text| Zeroizing::new(text.into_bytes()))
        .map_err(|e| CliError::usage("cannot read a passphrase from the terminal").because(&e))
}

fn without_newline(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    while secret.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        secret.pop();
    }
    secret
}

impl Unlock<'_> {
    /// Without newlines at its end where it is a passphrase: an editor adds one to a file.
    fn secret(self, kdf: Kdf, path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let shown = path.display();
        let secret = match self {
            Self::Person(args) => args.secret(&format!("Passphrase of {shown}: "))?,
            Self::Node(Some(source)) => source.load()?.secret,
            Self::Node(None) => {
                return Err(CliError::config(format!(
                    "{shown} is sealed, and node.key_seal names no secret to open it"
                ))
                .hint("set node.key_seal to the secret it was sealed with, or unseal it with `cauldron key unseal`"));
            }
        };
        Ok(if kdf == Kdf::Hkdf { secret } else { without_newline(secret) })
    }
}

/// Reads a secret text file, opening it where it is sealed. Refuses one that others may read.
///
/// # Errors
/// [`CliError`]: code 5 for a wrong passphrase or secret, 6 for damage.
pub fn read(path: &Path, unlock: Unlock<'_>) -> Result<Zeroizing<String>, CliError> {
    let text = Zeroizing::new(files::read_secret(path)?);
    if !seal::is_sealed(&text) {
        return Ok(text);
    }
    let damaged = |e| {
        CliError::integrity(format!("{} is damaged", path.display())).because(&e).hint("restore it from its backup")
    };
    let sealed = seal::read(&text).map_err(damaged)?;
    let secret = unlock.secret(sealed.kdf, path)?;
    let mut plain = sealed.open(&secret).map_err(|e| match e {
        SealError::WrongSecret => CliError::new(Kind::Refused, format!("{} stays sealed", path.display())).because(&e),
        other => damaged(other),
    })?;
    String::from_utf8(std::mem::take(&mut *plain))
        .map(Zeroizing::new)
        .map_err(|e| CliError::integrity(format!("{} does not hold text", path.display())).because(&e.utf8_error()))
}

/// Writes a secret text file for its owner alone, sealed where `seal` is given.
///
/// # Errors
/// [`CliError`] that names the file.
pub fn write(path: &Path, purpose: &str, plain: &str, seal: Option<&Seal>) -> Result<(), CliError> {
    match seal {
        None => files::write_private(path, plain.as_bytes()),
        Some(seal) => {
            let chance = Chance { salt: chance::bytes(), nonce: chance::bytes() };
            let text = seal::seal(purpose, plain.as_bytes(), &seal.secret, seal.kdf, chance)
                .map_err(|e| CliError::config(format!("cannot seal {}", path.display())).because(&e))?;
            files::write_private(path, text.as_bytes())
        }
    }
}

/// What a secret file is for, without opening it: the purpose of a key file or a sealed one, else `pem`.
#[must_use]
pub fn purpose(text: &str) -> String {
    match seal::read(text) {
        Ok(sealed) => sealed.purpose.to_owned(),
        Err(_) => crate::keyfile::purpose(text).map_or_else(|| "pem".to_owned(), |p| p.to_string()),
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:?}, a secret of {} bytes)", self.kdf, self.secret.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        files::write_private(&path, bytes).expect("written");
        path
    }

    #[test]
    fn a_passphrase_seals_and_only_it_opens() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let args = |name: &str, text: &str| PassphraseArgs {
            passphrase_file: Some(secret_file(dir.path(), name, text.as_bytes())),
        };
        let (right, wrong) = (args("right", "correct horse battery\n"), args("wrong", "correct horse bakery\n"));
        let path = dir.path().join("ana.key");
        write(&path, "person-ana", "plain text", Some(&right.choose("ana").expect("long enough"))).expect("sealed");
        let raw = files::read_text(&path).expect("readable");
        assert!(raw.starts_with("cauldron-sealed1.person-ana.argon2id-65536-3-4.") && !raw.contains("plain"), "{raw}");
        assert_eq!(read(&path, Unlock::Person(&right)).expect("opens").as_str(), "plain text");
        let error = read(&path, Unlock::Person(&wrong)).expect_err("the wrong passphrase");
        assert_eq!(error.kind().exit_code(), 5);
        assert!(!error.to_string().contains("horse"), "{error}");
        assert_eq!(args("short", "horse").choose("ana").expect_err("short").kind().exit_code(), 2);
        let error = read(&path, Unlock::Node(None)).expect_err("a node without a secret");
        assert!(error.to_string().contains("node.key_seal"), "{error}");
        std::fs::write(&path, raw.replacen("person-ana", "person-eve", 1)).expect("written");
        assert_eq!(read(&path, Unlock::Person(&right)).expect_err("changed").kind().exit_code(), 6);
    }

    #[test]
    fn a_machine_secret_seals_fast_and_a_short_one_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let source = Source::File(secret_file(dir.path(), "seal", &[10; 32]));
        let path = dir.path().join("author.key");
        write(&path, "author", "plain", Some(&source.load().expect("long enough"))).expect("sealed");
        assert_eq!(read(&path, Unlock::Node(Some(&source))).expect("opens").as_str(), "plain");
        let short = Source::File(secret_file(dir.path(), "short", b"password"));
        assert!(short.load().expect_err("short").to_string().contains("/dev/urandom"));
        assert!(!format!("{:?}", source.load().expect("loads")).contains("10, 10"));
        assert!(Source::parse("credential:a/b", Path::new("/")).is_err());
        assert_eq!(Source::parse("credential:seal", Path::new("/")), Ok(Source::Credential("seal".into())));
        assert_eq!(Source::parse("seal", Path::new("/etc")), Ok(Source::File("/etc/seal".into())));
    }
}
