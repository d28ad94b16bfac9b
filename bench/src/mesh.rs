//! The mesh: links beside the QUIC they stand on, many simulated nodes, what a real node keeps in memory and what a flood does
//! to it.

mod bulk;
mod curve;
mod flood;
mod handshake;
mod hub;
mod initial;
mod peers;
mod roundtrip;
mod simulated;
mod stock;

use crate::{Report, Room};

pub use curve::draw as curve;

/// The parts of this room, each of which is a room as well.
pub const PARTS: [(&str, Room); 6] = [
    ("mesh.bulk", bulk::measure),
    ("mesh.roundtrip", roundtrip::measure),
    ("mesh.handshake", handshake::measure),
    ("mesh.memory", hub::measure),
    ("mesh.flood", flood::measure),
    ("mesh.simulated", simulated::measure),
];

/// Every part, one after the other.
///
/// # Errors
/// A debug build, or a part that cannot be measured.
pub fn measure() -> Result<Report, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build say nothing: use `cargo xtask bench`".to_owned());
    }
    let mut all = Report::default();
    for (name, part) in PARTS {
        all.figures.extend(part().map_err(|why| format!("{name}: {why}"))?.figures);
    }
    Ok(all)
}

/// As many workers as a node has (`node/src/run`), so that all that is compared runs on the same.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().map_err(|e| e.to_string())
}

/// Processor time of this process so far, all threads: both ends of what is measured. Other work on the machine does not count.
fn processor_s() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
