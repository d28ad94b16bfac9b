//! Runs one command of the program under test.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binary;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON on standard output ({e}): {self:?}"))
    }

    /// Itself, if the command ended with 0.
    ///
    /// # Panics
    /// When it did not.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// Standard error, if the command ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise, or said nothing.
    pub fn refused_with(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(self.err.contains("Error: "), "no sentence: {:?}", self.err);
        &self.err
    }
}

/// Runs `cauldron args` in `folder` to its end.
///
/// # Panics
/// When the program cannot be started.
pub fn cauldron(folder: &Path, args: &[&str]) -> Ran {
    cauldron_with(folder, args, "", &[])
}

/// As [`cauldron`], with `input` on standard input and `env` in the environment.
///
/// # Panics
/// When the program cannot be started.
pub fn cauldron_with(folder: &Path, args: &[&str], input: &str, env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder).envs(env.iter().copied());
    for name in ["CAULDRON_SOCKET", "CAULDRON_KEY", "CAULDRON_FAULT", "RUST_LOG"] {
        if env.iter().all(|(set, _)| *set != name) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program under test starts");
    // A command that does not read may have ended already; that is no failure of the test.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output can be read");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
