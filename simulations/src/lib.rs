//! A seeded discrete-event world of node cores, with invariants and planted bugs.
//!
//! One seed is one world: its size, its wires, its disks, its people, its faults, and everything that happens. The same
//! seed gives the same world on every machine ([`trace`] says so). Nodes are the production cores; disks, wires, clocks,
//! people and the outside world are ours.
//!
//! * [`world`]: machines, events, faults; [`weather`]: what is drawn from the seed.
//! * [`invariants`]: what must always be true, as named functions beside a reference model.
//! * [`mod@reached`]: the hard places that a run must have got to, or its silence means nothing.
//! * [`story`]: worlds in which nothing happens by itself, for tests that read as stories.
//! * [`scale`]: many nodes, and what they cost.
//! * [`run`]: one seed, many seeds, every planted bug.
//!
//! Absent on purpose: sockets, files, threads and the wall clock. The binary `sim` has the latter two.
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod facts;
pub mod founding;
pub mod history;
pub mod invariants;
pub mod network;
pub mod queue;
pub mod reached;
pub mod rng;
pub mod run;
pub mod scale;
pub mod story;
pub mod trace;
pub mod weather;
pub mod week;
pub mod world;
