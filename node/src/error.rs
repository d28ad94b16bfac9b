//! The one error of the command line: what we were doing, why it failed, what to do next; the exit code follows the kind.

use std::fmt;
use std::process::ExitCode;

/// Who or what is wrong; decides the exit code (`docs/reference`: one vocabulary).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A check was made and did not hold: exit 1.
    Check,
    /// The command line makes no sense: exit 2.
    Usage,
    /// A file that a person writes is wrong or missing: exit 3.
    Config,
    /// Nobody answers: exit 4.
    Unreachable,
    /// Somebody who may refuse, refused: exit 5.
    Refused,
    /// Bytes, hashes or signatures are not what they must be: exit 6.
    Integrity,
}

impl Kind {
    /// The process's exit code; 0 is never among them.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Check => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::Integrity => 6,
        }
    }

    /// The kind that `problem+json` bodies name as `kind`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "check" => Self::Check,
            "usage" => Self::Usage,
            "config" => Self::Config,
            "unreachable" => Self::Unreachable,
            "refused" => Self::Refused,
            "integrity" => Self::Integrity,
            _ => return None,
        })
    }
}

/// A failure as a person sees it.
///
/// ```text
/// Error: cannot join the mesh through 10.0.0.5:7443
///   the peer's SVID belongs to trust domain `old.example`, we trust `acme.example`
/// Hint: ask for a token of the mesh that you mean
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// The node's stable code, when a node said no.
    code: Option<String>,
}

impl CliError {
    /// An error of `kind`; `message` says what we were doing.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hint: None, code: None }
    }

    /// A file, key or argument that a person has to correct.
    #[must_use]
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// A command line that makes no sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A check that did not hold.
    #[must_use]
    pub fn check(message: impl Into<String>) -> Self {
        Self::new(Kind::Check, message)
    }

    /// Bytes that are not what they must be.
    #[must_use]
    pub fn integrity(message: impl Into<String>) -> Self {
        Self::new(Kind::Integrity, message)
    }

    /// Adds a cause and everything behind it.
    #[must_use]
    pub fn because(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat their source in their own message; say each thing once.
            if self.causes.last().is_none_or(|last| !last.ends_with(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds a cause as a sentence.
    #[must_use]
    pub fn detail(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the node's stable code.
    #[must_use]
    pub fn coded(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// The node's stable code, when a node said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Who or what is wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What we were doing.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// All of it in one line, for a log or a reply.
    #[must_use]
    pub fn one_line(&self) -> String {
        let text = self.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.join("; ").trim_start_matches("Error: ").to_owned()
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error: {}", self.message)?;
        for line in self.causes.iter().flat_map(|cause| cause.lines()) {
            write!(f, "\n  {line}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nHint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let names = ["check", "usage", "config", "unreachable", "refused", "integrity"];
        let codes: Vec<u8> = names.iter().map(|n| Kind::from_name(n).expect("known").exit_code()).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6]);
        assert_eq!(Kind::from_name("ok"), None);
    }

    #[test]
    fn message_causes_and_hint_are_said_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it: denied")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("denied")]
        struct Inner;

        let error = CliError::config("cannot open node.toml").because(&Outer(Inner)).hint("chmod it");
        expect_test::expect![[r#"
            Error: cannot open node.toml
              cannot read it: denied
            Hint: chmod it"#]]
        .assert_eq(&error.to_string());
    }
}
