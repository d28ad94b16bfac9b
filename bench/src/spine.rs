//! The product as a whole: what an operator pays before it does anything, and how long a person waits for what they approved.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, binary};

use crate::{Bound, Figure, Report, approve, fsync};

/// The default build stays small because resident memory is mostly mapped binary.
const BINARY_MB_MAX: f64 = 40.0;
/// The budget of an idle node in the default build.
const IDLE_RSS_MB_MAX: f64 = 32.0;
/// After start, links, first leases and their allocations are over.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// The 99th percentile is then the second worst.
const ACTIONS: u8 = 100;
/// What an action waits for one after the other at the least: the vote durable at hq, the start durable at its owner.
const SYNCS: usize = 2;
/// A person who has just approved sees the effect as immediate (Nielsen 1993: 1 s keeps the flow of thought).
const EFFECT_P99_MS_MAX: f64 = 1_000.0;
const STARTS: usize = 10;
/// The figure: a node needs no authority to boot.
const DARK_START_MS_MAX: f64 = 300.0;

/// Builds the binary that ships and measures it; it stands beside this benchmark's own executable.
///
/// # Errors
/// The benchmark itself is not a release build, the build failed, or its result cannot be read.
pub fn measure() -> Result<Report, String> {
    build()?;
    let mut figures = vec![size()?];
    let mut mesh = Mesh::found();
    sleep(IDLE_AFTER);
    for (name, node) in [("hq, a coordinator", &mesh.hq), ("porto, a site", &mesh.porto)] {
        figures.push(shown(
            &format!("resident memory, idle: {name}"),
            rss_mb(node.pid())?,
            "MB",
            Some(IDLE_RSS_MB_MAX),
        ));
    }
    figures.extend(approval(&mesh)?);
    figures.push(shown("resident memory after the actions: lyon", rss_mb(mesh.lyon.pid())?, "MB", None));
    figures.push(start(&mut mesh, "start to first answer", None)?);
    mesh.hq.stop();
    figures.push(start(&mut mesh, "start with every authority dark, to first answer", Some(DARK_START_MS_MAX))?);
    Ok(Report { figures })
}

/// Builds what ships. A binary that `CAULDRON_BIN` names is taken as it is.
pub(crate) fn build() -> Result<(), String> {
    if std::env::var_os("CAULDRON_BIN").is_some() {
        return Ok(());
    }
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "cauldron-node", "--bin", "cauldron"])
        .status()
        .map_err(|error| format!("cannot start cargo to build the node: {error}"))?;
    if status.success() { Ok(()) } else { Err("the node does not build".to_owned()) }
}

fn size() -> Result<Figure, String> {
    let path = binary();
    let bytes = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?.len();
    Ok(shown("stripped binary, default features", bytes as f64 / 1e6, "MB", Some(BINARY_MB_MAX)))
}

/// `VmRSS` of `/proc/<pid>/status`, which counts in KiB (proc_pid_status(5)).
pub(crate) fn rss_mb(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| format!("{path} names no VmRSS"))
}

/// Approve to effect, beside what the disk takes for the syncs that cannot be avoided.
fn approval(mesh: &Mesh) -> Result<Vec<Figure>, String> {
    let disk = fsync::times_ms(mesh.folder(), SYNCS, usize::from(ACTIONS))?;
    let times = approve::times_ms(mesh, ACTIONS)?;
    let figure = |name: &str, share: f64| Figure {
        name: format!("approve to effect, {name}"),
        value: percentile(&times, share),
        unit: "ms",
        yardstick: Some((format!("{SYNCS} fsyncs, {name}"), percentile(&disk, share))),
        target: None,
    };
    let bound = shown(
        "approve to effect, p99, beside what a person notices",
        percentile(&times, 0.99),
        "ms",
        Some(EFFECT_P99_MS_MAX),
    );
    Ok(vec![figure("p50", 0.5), figure("p99", 0.99), bound])
}

/// lyon stopped and started again on the store that the actions left: until its API answers, with a valid SVID from disk.
fn start(mesh: &mut Mesh, name: &str, most: Option<f64>) -> Result<Figure, String> {
    let mut times = Vec::with_capacity(STARTS);
    let mut facts = 0;
    for _ in 0..STARTS {
        mesh.lyon.stop();
        let started = Instant::now();
        mesh.lyon.start();
        let own = loop {
            // Before the store is read the socket answers that the node is not up yet.
            let own = mesh.lyon.try_get("/v1/self").map(|answer| answer.json()).unwrap_or_default();
            if own["facts"].is_u64() {
                break own;
            }
            if started.elapsed() > IDLE_AFTER {
                return Err("lyon does not come back".to_owned());
            }
            sleep(Duration::from_micros(500));
        };
        times.push(started.elapsed().as_secs_f64() * 1e3);
        facts = own["facts"].as_u64().unwrap_or_default();
        if own["svid"]["valid"] != true {
            return Err(format!("lyon starts without a valid SVID: {}", own["svid"]));
        }
    }
    Ok(shown(&format!("{name}, {facts} facts, p50"), percentile(&times, 0.5), "ms", most))
}

fn shown(name: &str, value: f64, unit: &'static str, most: Option<f64>) -> Figure {
    Figure { name: name.to_owned(), value, unit, yardstick: None, target: most.map(Bound::AtMost) }
}

/// The smallest measured value that at least `share` of all values do not exceed (nearest rank); not a number without values.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
        assert_eq!(percentile(&[3.0], 0.5), 3.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn resident_memory_is_that_of_a_process() {
        let own = rss_mb(std::process::id()).expect("this process runs");
        assert!(own > 0.5 && own < 10_000.0, "{own}");
        assert!(rss_mb(u32::MAX).is_err());
    }
}
