//! What signs for a person: a key file, or an agent that holds the key ([`crate::ssh_agent`]).

use std::path::{Path, PathBuf};

use cauldron_identity::{AuthorKey, SignerKey, SshSignature, ssh};
use clap::Args;

use crate::error::{CliError, Kind};
use crate::files;
use crate::keyfile::{self, Purpose};
use crate::sealing::{PassphraseArgs, Unlock};
use crate::ssh_agent::Agent;

/// Which key signs; a command says whether it has a default.
#[derive(Debug, Clone, Args)]
pub struct SignerArgs {
    /// Your key file
    #[arg(long, value_name = "PATH", env = "CAULDRON_KEY")]
    pub key: Option<PathBuf>,
    /// Your public key, of which your ssh-agent holds the secret half: a .pub file or its line; goes before --key
    #[arg(long, value_name = "KEY")]
    pub agent: Option<String>,
    /// How a sealed key file is opened.
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

/// A person's key, ready to sign.
#[derive(Debug)]
pub enum Signer {
    /// From a key file.
    File(Purpose, Box<AuthorKey>),
    /// In an agent: a key in a token, too, waits there to be touched.
    Agent(SignerKey, Agent),
}

impl SignerArgs {
    /// Opens the key that the arguments name.
    ///
    /// # Errors
    /// [`CliError`]: neither is named, the file cannot be used, or the agent does not hold the key.
    pub fn open(&self) -> Result<Signer, CliError> {
        match (&self.agent, &self.key) {
            (Some(named), _) => Signer::agent(&public_key(named)?),
            (None, Some(path)) => Signer::file(path, &self.passphrase),
            (None, None) => Err(CliError::usage("this needs a key that signs")
                .hint("name a key file with --key PATH, or a key in your ssh-agent with --agent KEY")),
        }
    }
}

impl Signer {
    /// The key in the file at `path`.
    ///
    /// # Errors
    /// As [`keyfile::read`].
    pub fn file(path: &Path, passphrase: &PassphraseArgs) -> Result<Self, CliError> {
        let (purpose, key) = keyfile::read(path, Unlock::Person(passphrase))?;
        Ok(Self::File(purpose, Box::new(key)))
    }

    /// `key`, of which the agent at `SSH_AUTH_SOCK` holds the secret half.
    ///
    /// # Errors
    /// As [`Agent::from_env`], and where the agent does not hold it.
    pub fn agent(key: &SignerKey) -> Result<Self, CliError> {
        let agent = Agent::from_env()?;
        let held = agent.keys()?;
        if held.iter().any(|(found, _)| found == key) {
            return Ok(Self::Agent(key.clone(), agent));
        }
        let mut error = CliError::new(Kind::Refused, "the ssh-agent does not hold this key");
        for (other, comment) in held.iter().take(8) {
            error = error.detail(format!("it holds {} ({comment})", ssh::public_line(other)));
        }
        Err(error.hint("add it with `ssh-add FILE`"))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SignerKey {
        match self {
            Self::File(_, key) => key.public().into(),
            Self::Agent(key, _) => key.clone(),
        }
    }

    /// Refuses a key file of a node or for another use; a key in an agent says nothing of its purpose.
    ///
    /// # Errors
    /// [`CliError`] that says what the key is for.
    pub fn for_council(self) -> Result<Self, CliError> {
        match &self {
            Self::File(other @ (Purpose::Author | Purpose::Person(_)), _) => {
                Err(CliError::config(format!("this is a key for {other}, not a council key")))
            }
            _ => Ok(self),
        }
    }

    /// Signs `message` for `namespace`, and checks what an agent answered.
    ///
    /// # Errors
    /// [`CliError`]: the agent refuses, does not answer, or signs something else.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<SshSignature, CliError> {
        let (key, agent) = match self {
            Self::File(_, key) => return Ok(key.sign_ssh(namespace, message)),
            Self::Agent(key, agent) => (key, agent),
        };
        if let SignerKey::Sk { .. } = key {
            eprintln!("Touch your token to sign.");
        }
        let signature = agent.sign(key, &ssh::signed_data(namespace, message))?;
        key.verify(namespace, message, &signature)
            .map_err(|e| CliError::integrity("what the ssh-agent answered is no signature by this key").because(&e))?;
        Ok(signature)
    }
}

/// A public key as a person names it: hex, the line of a `.pub` file, or the path of one.
///
/// # Errors
/// [`CliError`]: it is none of these, or a key that anybody could sign for.
pub fn public_key(named: &str) -> Result<SignerKey, CliError> {
    let path = Path::new(named);
    let text = if path.is_file() { files::read_text(path)? } else { named.to_owned() };
    let bad = |why: String| CliError::usage(format!("{named:?} is no public key that can sign here")).detail(why);
    let key: SignerKey = text.parse().map_err(bad)?;
    key.check().map_err(bad)?;
    Ok(key)
}
