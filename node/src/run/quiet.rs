//! Keeps what strangers do from filling the log: per code, one line in ten seconds and a count of the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);

/// Remembers when each code was last told. Codes are constants of ours, so this stays small.
#[derive(Debug, Default)]
pub struct Quiet {
    told: BTreeMap<&'static str, (Instant, u64)>,
}

impl Quiet {
    /// Whether to tell of `code` now; with how many were kept silent since the last time.
    pub fn tell(&mut self, code: &'static str, now: Instant) -> Option<u64> {
        match self.told.get_mut(code) {
            Some((last, silent)) if now.duration_since(*last) < EVERY => {
                *silent += 1;
                None
            }
            Some((last, silent)) => {
                *last = now;
                Some(std::mem::take(silent))
            }
            None => {
                self.told.insert(code, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_rest_counted() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.tell("a", now), Some(0));
        assert_eq!(quiet.tell("a", now), None);
        assert_eq!(quiet.tell("b", now), Some(0));
        assert_eq!(quiet.tell("a", now + EVERY / 2), None);
        assert_eq!(quiet.tell("a", now + EVERY), Some(2));
        assert_eq!(quiet.tell("a", now + EVERY * 2), Some(0));
    }
}
