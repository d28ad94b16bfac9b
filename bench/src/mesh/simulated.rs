//! A large mesh in the simulator: the cores that ship, in one process of their own, whose memory and time count.

use std::process::Command;

use serde_json::Value;

use crate::{Bound, Figure, Report};

/// The figures.
const NODES: usize = 1_000;
const PUSH_P99_MS_MAX: f64 = 400.0;
const COPIES_MAX: f64 = 3.0;
const IDLE_B_S_MAX: f64 = 580.0;
/// The simulator's own: a thousand nodes are judged in a minute and 4 GB.
const SECONDS_MAX: f64 = 60.0;
const MEMORY_MB_MAX: f64 = 4_000.0;
/// The seed of the handbook's figures.
const SEED: &str = "7";

pub(super) fn measure() -> Result<Report, String> {
    let found = of(NODES)?;
    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    let figure = |name: &str, value, unit, most: Option<f64>| Figure {
        name: format!("{NODES} nodes: {name}"),
        value,
        unit,
        yardstick: None,
        target: most.map(Bound::AtMost),
    };
    let figures = vec![
        figure("write to have, p50", value("push_p50_ms"), "ms", None),
        figure("write to have, p99", value("push_p99_ms"), "ms", Some(PUSH_P99_MS_MAX)),
        figure("copies per delivery", value("copies"), "", Some(COPIES_MAX)),
        figure("idle, sent per node", value("idle_bytes_s"), "B/s", Some(IDLE_B_S_MAX)),
        figure("idle, sent by the busiest", value("idle_bytes_s_busiest"), "B/s", None),
        figure("simulated in", value("seconds"), "s", Some(SECONDS_MAX)),
        figure("most memory of the simulator", value("memory_mb"), "MB", Some(MEMORY_MB_MAX)),
    ];
    Ok(Report { figures })
}

/// What the simulator says of a mesh of so many nodes.
pub(super) fn of(nodes: usize) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "cauldron-simulations", "--bin", "sim", "--"])
        .args(["--seed", SEED, "--json", "--scale", &nodes.to_string()])
        .output()
        .map_err(|e| format!("cannot start cargo to run the simulator: {e}"))?;
    if !output.status.success() {
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        return Err(format!("{nodes} nodes: {}", said.trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("the simulator's answer is no JSON: {e}"))
}
