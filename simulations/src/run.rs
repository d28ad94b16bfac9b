//! Running worlds: one seed, and what became of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::invariants::Violation;
use crate::reached::Reached;
use crate::world::World;

/// Every how many seeds a seed is run twice.
pub const RECHECK_EVERY: u64 = 50;

/// What became of one seed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Hash over everything that happened.
    pub trace: String,
    /// How many events that were.
    pub events: u64,
    /// Machines in the world.
    pub machines: usize,
    /// Facts written.
    pub facts: usize,
    /// Effects made.
    pub effects: usize,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Hard places reached.
    pub reached: Reached,
    /// The first broken invariant.
    pub violation: Option<Violation>,
}

impl Report {
    /// What became of a world that has been lived through.
    pub(crate) fn of(seed: u64, world: World) -> Self {
        Self {
            seed,
            trace: world.trace.hash(),
            events: world.trace.events(),
            machines: world.machines.len(),
            facts: world.history.facts.len(),
            effects: world.history.effects.len(),
            virtual_ms: world.now(),
            reached: world.reached,
            violation: world.violation,
        }
    }
}

/// Lives through the world of one seed. A panic of any core is a broken NO-PANIC.
#[must_use]
pub fn seed(seed: u64, nodes: Option<usize>, print: bool) -> Report {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, nodes, print);
        world.live();
        Report::of(seed, world)
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Report {
            seed,
            trace: String::new(),
            events: 0,
            machines: 0,
            facts: 0,
            effects: 0,
            virtual_ms: 0,
            reached: Reached::default(),
            violation: Some(Violation::new("NO-PANIC", text.unwrap_or_else(|| "a core panicked".into()))),
        }
    })
}

/// Runs a seed, and every [`RECHECK_EVERY`]th a second time.
///
/// DETERMINISM: the same seed gives the same trace.
#[must_use]
pub fn checked(number: u64, nodes: Option<usize>) -> Report {
    let mut report = seed(number, nodes, false);
    if number.is_multiple_of(RECHECK_EVERY) && report.violation.is_none() {
        let again = seed(number, nodes, false);
        if again.trace != report.trace {
            let text = format!("one seed, two traces: {} and {}", report.trace, again.trace);
            report.violation = Some(Violation::new("DETERMINISM", text));
        }
    }
    report
}

/// Fewer seeds than this prove nothing about hard places.
pub const SEEDS_FOR_VACUITY: u64 = 200;

/// NOT-VACUOUS: enough worlds got to every hard place at least once.
///
/// # Errors
/// The places that none of them reached.
pub fn not_vacuous(seeds: u64, reached: &Reached) -> Result<(), Violation> {
    let missing = reached.missing(seeds);
    if seeds < SEEDS_FOR_VACUITY || missing.is_empty() {
        return Ok(());
    }
    Err(Violation::new("NOT-VACUOUS", format!("{seeds} worlds never reached {}", missing.join(", "))))
}
