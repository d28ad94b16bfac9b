//! The client side of an ssh-agent's socket (draft-ietf-sshm-ssh-agent): list keys, ask for one signature.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use cauldron_identity::ssh::{self, AGENT_MESSAGE_MAX, SshError};
use cauldron_identity::{SignerKey, SshSignature};

use crate::error::CliError;

/// Names the agent's socket, as for every SSH program.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// A person has to find the token and touch it, or confirm on a screen; tokens give up after half a minute.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// An agent that answers on a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent that `SSH_AUTH_SOCK` names.
    ///
    /// # Errors
    /// [`CliError`] where the variable is not set.
    pub fn from_env() -> Result<Self, CliError> {
        match std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
            Some(socket) => Ok(Self::at(socket)),
            None => Err(CliError::config(format!("no ssh-agent: {VARIABLE} is not set"))
                .hint("start one with `eval $(ssh-agent)` and add your key with `ssh-add FILE`")),
        }
    }

    /// The agent at `socket`.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Its keys of the two kinds that sign here, with their comments.
    ///
    /// # Errors
    /// [`CliError`]: nobody answers, or not as an agent does.
    pub fn keys(&self) -> Result<Vec<(SignerKey, String)>, CliError> {
        ssh::agent_keys(&self.ask(&ssh::agent_list())?).map_err(|e| self.nonsense(&e))
    }

    /// Its signature over exactly `data`, not verified.
    ///
    /// # Errors
    /// [`CliError`]: it refuses, nobody answers, or not as an agent does.
    pub fn sign(&self, key: &SignerKey, data: &[u8]) -> Result<SshSignature, CliError> {
        ssh::agent_signature(&self.ask(&ssh::agent_sign(key, data))?).map_err(|e| match e {
            SshError::AgentRefused => CliError::new(crate::error::Kind::Refused, "the ssh-agent did not sign")
                .because(&e)
                .hint("see `ssh-add -l`; a token has to be touched in time"),
            other => self.nonsense(&other),
        })
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, CliError> {
        self.exchange(request).map_err(|e| {
            CliError::new(
                crate::error::Kind::Unreachable,
                format!("no answer from the ssh-agent at {}", self.socket.display()),
            )
            .because(&e)
        })
    }

    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let length = u32::try_from(request.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), request].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > AGENT_MESSAGE_MAX {
            return Err(std::io::Error::other(format!(
                "it announces {length} bytes, at most {AGENT_MESSAGE_MAX} are read"
            )));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    fn nonsense(&self, why: &SshError) -> CliError {
        CliError::integrity(format!("{} does not answer as an ssh-agent does", self.socket.display())).because(why)
    }
}
