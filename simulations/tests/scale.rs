//! A large mesh in small: what `sim --scale 1000` does with a thousand nodes.

use cauldron_simulations::scale;

/// Bytes per second that a node sends while nothing happens, on average (architecture §7).
const IDLE_MAX: f64 = 580.0;
/// Of a hundred deliveries the slowest but one, on links of 10 to 50 ms, milliseconds (architecture §7).
const PUSH_P99_MS_MAX: u64 = 400;
/// Copies of a fact per delivery (architecture §7).
const COPIES_MAX: f64 = 3.0;

#[test]
fn sixty_nodes_converge_after_a_partition_within_the_bounds_of_the_design() {
    let (report, figures) = scale::run(7, 60, false);
    assert_eq!(report.violation, None);
    assert!(figures.backlog > 100, "there was something to catch up on: {figures:?}");
    assert!(figures.idle.0 > 1.0 && figures.idle.0 <= IDLE_MAX, "{figures:?}");
    assert!(figures.push_ms.1 <= PUSH_P99_MS_MAX && figures.copies <= COPIES_MAX, "{figures:?}");
}

#[test]
fn the_same_seed_gives_the_same_large_mesh() {
    let traces = [11, 11, 12].map(|seed| scale::run(seed, 22, false).0.trace);
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
}
