//! libp2p as it comes, in a program and a workspace of its own (`bench/stock`): it brings a second provider of cryptography, which
//! nothing of the product may link.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The running program; it ends with its standard input.
pub(super) struct Stock {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Stock {
    /// Builds it beside the product's own build, and starts it.
    pub(super) fn start() -> Result<Self, String> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("stock");
        let here = std::env::current_exe().map_err(|e| e.to_string())?;
        let target = here.ancestors().nth(2).ok_or("this program lies in no target directory")?.join("stock");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
            .arg(home.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .map_err(|e| format!("cannot start cargo to build {}: {e}", home.display()))?;
        if !status.success() {
            return Err(format!("{} does not build", home.display()));
        }
        let mut child = Command::new(target.join("release/cauldron-bench-stock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start stock libp2p: {e}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Seconds in which `bytes` were carried in chunks.
    pub(super) fn bulk(&mut self, bytes: usize, chunk: usize) -> Result<f64, String> {
        let input = self.input.as_mut().ok_or("it has ended")?;
        writeln!(input, "{bytes} {chunk}").map_err(|e| format!("stock libp2p: {e}"))?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|e| format!("stock libp2p: {e}"))?;
        line.trim().parse().map_err(|_| format!("stock libp2p says {line:?}"))
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        drop(self.input.take());
        // It reads the end of its input; whatever the wait says, this program goes on.
        let _ = self.child.wait();
    }
}
