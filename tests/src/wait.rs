//! Waiting for what takes time, never longer than a deadline, never by sleeping and hoping.

use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For what a quiet machine does within two seconds: tests run beside each other, on small machines.
const DEADLINE: Duration = Duration::from_secs(40);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When `deadline` passes; the message says what was waited for and what was there instead.
pub fn wait_until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) if started.elapsed() > deadline => {
                panic!("waited {} s for: {what}; instead: {instead}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// [`wait_until`] a condition holds, with the usual deadline.
///
/// # Panics
/// As [`wait_until`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(what, DEADLINE, || if holds() { Ok(()) } else { Err("it does not hold".to_owned()) });
}
