//! Where the root key of an authority lies: in a file, or in a token that signs with it and never gives it away.

#[cfg(feature = "pkcs11")]
mod token;
mod uri;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cauldron_identity::x509::{self, ExternalKey, SvidKey};

pub use uri::{SCHEME, TokenUri};

use crate::error::CliError;
use crate::sealing::{self, Unlock};

/// What a build without the feature says.
const NOT_BUILT: &str = "names a key in a token, which this build cannot use";
const NOT_BUILT_HINT: &str =
    "use a build with the feature `pkcs11`, which `full` has; `cauldron version` says what a build has";
/// What a value may be.
pub const HINT: &str = "write a path, or \"pkcs11:token=NAME;object=NAME?module-path=/FILE&pin-source=/FILE\"; the latter \
                        needs a build with the feature `pkcs11`: `cauldron version` says what a build has";

/// `authority.root_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// A PEM file, plain or sealed.
    File(PathBuf),
    /// A key pair in a token.
    Token(TokenUri),
}

impl RootKey {
    /// Reads a path, relative to `base`, or a URI.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: what does not belong into a URI may be a PIN.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        match text {
            "" => Err("is empty".into()),
            _ if text.contains('\0') => Err("contains a zero byte".into()),
            _ if !text.starts_with(SCHEME) => Ok(Self::File(base.join(text))),
            _ if !cfg!(feature = "pkcs11") => Err(NOT_BUILT.into()),
            _ => TokenUri::parse(text).map(Self::Token),
        }
    }

    /// Reads the key, or opens the token.
    ///
    /// # Errors
    /// [`CliError`] that names the file; or as [`open_token`].
    pub fn open(&self, unlock: Unlock<'_>) -> Result<x509::RootKey, CliError> {
        match self {
            Self::File(path) => {
                let pem = sealing::read(path, unlock)?;
                let key = SvidKey::from_pkcs8_pem(&pem);
                let failed = |e| CliError::integrity(format!("{} cannot be used", path.display())).because(&e);
                key.map(Into::into).map_err(failed)
            }
            Self::Token(uri) => open_token(uri, false).map(Into::into),
        }
    }

    /// The file, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Token(_) => None,
        }
    }
}

/// Opens the key in a token; with `generate` it is made there first, and must not be there yet.
///
/// # Errors
/// [`CliError`]: code 3 for a module, PIN or key that is not what the URI says, 4 for a token that is not there or does not
/// answer, 5 for a locked one.
pub fn open_token(uri: &TokenUri, generate: bool) -> Result<Arc<dyn ExternalKey>, CliError> {
    #[cfg(feature = "pkcs11")]
    return token::open(uri, generate);
    #[cfg(not(feature = "pkcs11"))]
    {
        let _ = generate;
        Err(CliError::config(format!("{uri} {NOT_BUILT}")).hint(NOT_BUILT_HINT))
    }
}

/// Reads `--root-key`, which names a token.
///
/// # Errors
/// [`CliError`]; the value is not repeated.
pub fn from_command_line(text: &str) -> Result<TokenUri, CliError> {
    let hint = "write \"pkcs11:token=NAME;object=NAME?module-path=/FILE&pin-source=/FILE\", in quotes; without \
                --root-key the key is made in ca/root.key";
    match RootKey::parse(text, Path::new("")) {
        Ok(RootKey::Token(uri)) => Ok(uri),
        Ok(RootKey::File(_)) => Err(CliError::usage("--root-key names no key in a token").hint(hint)),
        Err(why) if why == NOT_BUILT => Err(CliError::config(format!("--root-key {why}")).hint(NOT_BUILT_HINT)),
        Err(why) => Err(CliError::usage(format!("--root-key {why}")).hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::paths::DataDir;

    const URI: &str = "pkcs11:token=acme;object=root?module-path=/m.so&pin-source=/etc/cauldron/pin";

    fn configured(root_key: &str) -> Result<RootKey, CliError> {
        let text = format!(
            "[node]\nname = \"hq\"\ndir = \"hq\"\n[mesh]\ntrust_domain = \"acme.test\"\nfirst = true\n\
             [authority]\nenabled = true\n{root_key}\n"
        );
        let config = Config::parse(&text, Path::new("/etc/cauldron/node.toml"))?;
        Ok(config.authority.expect("it is enabled").root_key)
    }

    #[test]
    fn a_root_key_is_a_file_unless_configured_otherwise() {
        let file = |path: &str| Ok(RootKey::File(PathBuf::from(path)));
        assert_eq!(configured(""), file("/etc/cauldron/hq/ca/root.key"));
        assert_eq!(configured("root_key = \"keys/root.pem\""), file("/etc/cauldron/keys/root.pem"));
        assert_eq!(configured("root_key = \"\"").expect_err("empty").kind().exit_code(), 3);
    }

    #[test]
    fn a_token_is_taken_by_a_build_that_has_it_and_refused_with_a_place_by_another() {
        let read = configured(&format!("root_key = \"{URI}\""));
        if cfg!(feature = "pkcs11") {
            assert_eq!(read, TokenUri::parse(URI).map(RootKey::Token).map_err(CliError::config));
            assert!(from_command_line(URI).is_ok());
            return;
        }
        let error = read.expect_err("not in this build");
        let told = error.to_string();
        assert_eq!((error.kind().exit_code(), told.contains("9:12")), (3, true), "{told}");
        assert!(told.contains(NOT_BUILT) && told.contains("`cauldron version`"), "{told}");
        let error = from_command_line(URI).expect_err("not in this build");
        assert_eq!(error.kind().exit_code(), 3);
        let uri = TokenUri::parse(URI).expect("a URI");
        assert!(
            open_token(&uri, false).expect_err("not in this build").to_string().contains("key `root` in token `acme`")
        );
    }

    #[test]
    fn a_pin_in_the_wrong_place_is_not_repeated() {
        for text in ["pkcs11:pin-value=8642;token=a", "pkcs11:token=a;object=b?pin-value=8642&module-path=/m"] {
            for error in [
                configured(&format!("root_key = \"{text}\"")).expect_err("refused"),
                from_command_line(text).expect_err("refused"),
            ] {
                assert!(!error.to_string().contains("8642"), "{error}");
            }
        }
    }

    #[test]
    fn a_file_of_another_place_is_sealed_as_the_usual_one() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, bytes: &[u8]| {
            crate::files::write_private(&folder.path().join(name), bytes).expect("written");
            folder.path().join(name)
        };
        let pem = SvidKey::generate().expect("a key").to_pkcs8_pem();
        let path = write("root.pem", pem.as_bytes());
        let seal = sealing::Source::File(write("seal", &[7; 32]));
        let dir = DataDir::new(folder.path().join("hq")).sealed_by(Some(seal));
        assert_eq!(dir.seal_plain_secrets(Some(&path)), Ok(vec![path.clone()]));
        assert!(!crate::files::read_text(&path).expect("readable").contains("PRIVATE KEY"));
        let key = RootKey::File(path);
        assert!(matches!(key.open(dir.unlock()), Ok(x509::RootKey::Held(_))));
        assert_eq!(key.open(Unlock::Node(None)).expect_err("sealed").kind().exit_code(), 3);
    }
}
