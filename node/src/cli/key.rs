//! Key files: made, shown, sealed and unsealed.

use std::path::{Path, PathBuf};

use cauldron_identity::scope::is_name;
use cauldron_identity::seal;
use cauldron_identity::{SignerKey, ssh};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::Global;
use crate::error::CliError;
use crate::files;
use crate::keyfile::{self, Purpose};
use crate::output::{As, Field, field, print, record};
use crate::sealing::{self, PassphraseArgs, Seal, Source, Unlock};

const KEY: &[Field] = &[
    field("file", "/file", As::Text),
    field("for", "/purpose", As::Text),
    field("at rest", "/at_rest", As::Text),
    field("public key", "/public_key", As::Text),
    field("for OpenSSH", "/openssh", As::Text),
];

/// `key …`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key for a council member or a voter
    New {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        holder: Holder,
        #[command(flatten)]
        passphrase: PassphraseArgs,
        /// Leave it plain: whoever reads the file can act as its holder
        #[arg(long)]
        no_passphrase: bool,
    },
    /// What a key file is for, and its public key
    Show {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        with: With,
    },
    /// Seal a plain file, by passphrase or with a node's secret
    Seal {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        with: With,
    },
    /// Write a sealed file back as a plain one
    Unseal {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        with: With,
    },
}

/// Whose key.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Holder {
    /// It signs for the council
    #[arg(long, value_name = "PERSON")]
    council: Option<String>,
    /// It votes
    #[arg(long, value_name = "PERSON")]
    person: Option<String>,
}

/// What seals a file.
#[derive(Debug, Args)]
pub struct With {
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// A node's sealing secret instead of a passphrase: what node.key_seal names
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
}

impl With {
    fn source(&self) -> Option<Source> {
        self.secret_file.clone().map(Source::File)
    }

    fn unlock<'a>(&'a self, source: Option<&'a Source>) -> Unlock<'a> {
        source.map_or(Unlock::Person(&self.passphrase), |source| Unlock::Node(Some(source)))
    }

    fn seal(&self, what: &Path) -> Result<Seal, CliError> {
        self.source().map_or_else(|| self.passphrase.choose(&what.display().to_string()), |source| source.load())
    }
}

pub(super) fn run(global: &Global, command: &Command) -> Result<(), CliError> {
    match command {
        Command::New { file, holder, passphrase, no_passphrase } => {
            new(global, file, holder, passphrase, *no_passphrase)
        }
        Command::Show { file, with } => {
            let text = files::read_secret(file).map(zeroize::Zeroizing::new)?;
            let source = with.source();
            let can_open = !seal::is_sealed(&text) || source.is_some() || with.passphrase.is_there();
            let public = match keyfile::read(file, with.unlock(source.as_ref())) {
                Ok((_, key)) => Some(key.public().into()),
                Err(error) if can_open && sealing::purpose(&text) != "pem" => return Err(error),
                Err(_) => None,
            };
            show(global, file, public.as_ref())
        }
        Command::Seal { file, with } => {
            let text = files::read_secret(file).map(zeroize::Zeroizing::new)?;
            if seal::is_sealed(&text) {
                return Err(CliError::usage(format!("{} is sealed already", file.display())).hint("unseal it first"));
            }
            let purpose = sealing::purpose(&text);
            if purpose == "pem" && !text.contains("PRIVATE KEY") {
                return Err(CliError::usage(format!("{} holds no secret key", file.display())));
            }
            sealing::write(file, &purpose, &text, Some(&with.seal(file)?))?;
            show(global, file, None)
        }
        Command::Unseal { file, with } => {
            let source = with.source();
            if !seal::is_sealed(&files::read_secret(file)?) {
                return Err(CliError::usage(format!("{} is not sealed", file.display())));
            }
            let text = sealing::read(file, with.unlock(source.as_ref()))?;
            sealing::write(file, "", &text, None)?;
            show(global, file, None)
        }
    }
}

fn new(
    global: &Global,
    file: &Path,
    holder: &Holder,
    passphrase: &PassphraseArgs,
    no_passphrase: bool,
) -> Result<(), CliError> {
    let purpose = match (&holder.council, &holder.person) {
        (Some(person), _) if is_name(person) => Purpose::Council(person.clone()),
        (_, Some(person)) if is_name(person) => Purpose::Person(person.clone()),
        _ => {
            return Err(CliError::usage("this is no id of a person")
                .hint("write 1 to 63 of a-z, 0-9 and '-', not at either end"));
        }
    };
    if file.exists() {
        return Err(CliError::usage(format!("{} exists", file.display())).hint("name a new file"));
    }
    let seal = if no_passphrase { None } else { Some(passphrase.choose(&file.display().to_string())?) };
    let key = keyfile::generate();
    keyfile::write(file, &purpose, &key, seal.as_ref())?;
    show(global, file, Some(&key.public().into()))
}

fn show(global: &Global, file: &Path, public: Option<&SignerKey>) -> Result<(), CliError> {
    let text = files::read_secret(file).map(zeroize::Zeroizing::new)?;
    let at_rest = match seal::read(&text) {
        Ok(sealed) if sealed.kdf == seal::Kdf::Hkdf => "sealed with a machine's secret",
        Ok(_) => "sealed by passphrase",
        Err(_) => "plain: whoever reads the file can act as its holder",
    };
    let value = json!({
        "file": file, "purpose": sealing::purpose(&text), "at_rest": at_rest,
        "public_key": public.map(ToString::to_string), "openssh": public.map(ssh::public_line),
    });
    print(global.output, &value, || record(&value, KEY, Timestamp::now()))
}
