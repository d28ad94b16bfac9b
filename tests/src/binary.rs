//! Finds the program under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `cauldron` that stands beside the running test or benchmark: the same target directory, the same profile.
///
/// `cargo test --workspace` has built it before any test starts. Where somebody runs this package alone and it is missing, it is
/// built here, once; one that is there is taken as it is, so build the node first after changing it. `CAULDRON_BIN` names
/// another one.
///
/// # Panics
/// When there is none and none can be built.
pub fn binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(path) = std::env::var_os("CAULDRON_BIN") {
            return PathBuf::from(path);
        }
        let here = std::env::current_exe().expect("this process has an executable");
        let profile = here
            .ancestors()
            .skip(1)
            .find(|folder| folder.file_name().is_some_and(|name| name != "deps"))
            .expect("the executable lies in a target directory");
        let path = profile.join("cauldron").with_extension(std::env::consts::EXE_EXTENSION);
        if !path.exists() {
            build(profile);
        }
        assert!(path.exists(), "{} was not built", path.display());
        path
    })
}

/// Builds the node into `profile`'s target directory; two test programs that start at once do it one after the other.
fn build(profile: &Path) {
    let lock = File::create(profile.join("cauldron-tests.lock")).expect("the target directory can be written");
    lock.lock().expect("the lock file can be locked");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "cauldron-node", "--bin", "cauldron"]);
    if profile.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.status().expect("cargo starts");
    assert!(status.success(), "the node does not build");
}
