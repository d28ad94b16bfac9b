//! Figures against yardsticks.
//!
//! A *room* measures a part of the product and returns a [`Report`]: figures, each beside what it is compared with in the same
//! run and the target it must keep. `cargo xtask bench ROOM` prints it and fails when a target is missed.
#![forbid(unsafe_code)]

mod approve;
mod fsync;
pub mod governance;
mod grown;
pub mod identity;
pub mod mesh;
mod million;
mod newcomer;
mod partition;
mod renewal;
pub mod report;
mod shelf;
pub mod spine;
pub mod state;
mod workload_api;

pub use report::{Bound, Figure, Report};

/// Measures a room from scratch; the error says what could not be measured and why.
pub type Room = fn() -> Result<Report, String>;

/// Every room there is, by the name that `cargo xtask bench` takes.
pub const ROOMS: [(&str, Room); 5] = [
    ("spine", spine::measure),
    ("identity", identity::measure),
    ("state", state::measure),
    ("governance", governance::measure),
    ("mesh", mesh::measure),
];
