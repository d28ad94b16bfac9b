//! Commands that build something of the workspace and hand over to it, exit code included.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// All of CI. The steps live in `.ci/run` alone, so that CI and a developer cannot run different things.
pub fn check(args: &[OsString]) -> Result<ExitCode, String> {
    let script = repository()?.join(".ci").join("run");
    hand_over(Command::new(script).args(args))
}

/// The simulator, optimised and with the planted bugs compiled in; which of them is awake is decided at run time.
pub fn sim(args: &[OsString]) -> Result<ExitCode, String> {
    hand_over(
        cargo()
            .args(["run", "--quiet", "--profile", "sim", "--package", "cauldron-simulations"])
            .args(["--features", "planted", "--bin", "sim", "--"])
            .args(args),
    )
}

/// The benchmarks, in the profile that ships.
pub fn bench(args: &[OsString]) -> Result<ExitCode, String> {
    hand_over(cargo().args(["run", "--quiet", "--release", "--package", "cauldron-bench", "--"]).args(args))
}

/// The generator of the Workload API's stubs. It has a workspace and a lock file of its own, so that nobody else builds it.
pub fn proto(check: bool) -> Result<ExitCode, String> {
    let root = repository()?;
    let manifest = root.join("identity/workload-api/generate/Cargo.toml");
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    // Beside the product's own build, where `cargo clean` finds it.
    command.arg("--target-dir").arg(root.join("target/proto"));
    hand_over(if check { command.args(["--", "--check"]) } else { &mut command })
}

/// The cargo that started us, so that `cargo +toolchain xtask` stays on its toolchain.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The root of the working tree, found at run time: a path compiled in would be wrong after a move.
pub fn repository() -> Result<PathBuf, String> {
    let output = Command::new("git")
        .args(["rev-parse", "--show-toplevel"])
        .output()
        .map_err(|error| format!("cannot run git to find the repository: {error}"))?;
    if !output.status.success() {
        return Err(format!("git finds no repository here: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let path = String::from_utf8(output.stdout).map_err(|_| "the repository's path is not UTF-8".to_owned())?;
    Ok(PathBuf::from(path.trim_end_matches('\n')))
}

fn hand_over(command: &mut Command) -> Result<ExitCode, String> {
    let program = command.get_program().to_owned();
    let status = command.status().map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
