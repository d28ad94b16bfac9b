//! The product as a whole: what an operator pays before it does anything.

use std::process::Command;

use crate::{Bound, Figure, Report};

/// The default build stays small because resident memory is mostly mapped binary.
const BINARY_MB_MAX: f64 = 40.0;

/// Builds the binary that ships and measures it; it stands beside this benchmark's own executable.
///
/// # Errors
/// The benchmark itself is not a release build, the build failed, or its result cannot be read.
pub fn measure() -> Result<Report, String> {
    let here =
        std::env::current_exe().map_err(|error| format!("cannot find the benchmark's own executable: {error}"))?;
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "cauldron-node", "--bin", "cauldron"])
        .status()
        .map_err(|error| format!("cannot start cargo to build the node: {error}"))?;
    if !status.success() {
        return Err("the node does not build".to_owned());
    }
    let binary = here.with_file_name("cauldron").with_extension(std::env::consts::EXE_EXTENSION);
    let bytes = std::fs::metadata(&binary).map_err(|error| format!("cannot read {}: {error}", binary.display()))?.len();
    let size = Figure {
        name: "stripped binary, default features".to_owned(),
        value: bytes as f64 / 1e6,
        unit: "MB",
        yardstick: None,
        target: Some(Bound::AtMost(BINARY_MB_MAX)),
    };
    Ok(Report { figures: vec![size] })
}
