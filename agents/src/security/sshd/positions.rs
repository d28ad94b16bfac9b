//! Where to read again after a restart, so that the detector's state need not be stored.

use std::collections::BTreeMap;

use crate::source::Position;

/// Slices a window is divided into. Reading starts at a slice's first line, so at most one slice more than needed is read.
const SLICES: i64 = 64;

/// Remembers, per slice of event time, where its first line begins: those of the window and the last one before it, so that
/// the first line read again says how far back the memory reaches. About [`SLICES`] entries, less than twice as many.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    window_s: i64,
    slice_s: i64,
    first_in_slice: BTreeMap<i64, Position>,
}

impl Positions {
    pub(super) fn new(window_s: u32) -> Self {
        let window_s = i64::from(window_s);
        Positions { window_s, slice_s: (window_s / SLICES).max(1), first_in_slice: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, event_s: i64, at: Position) {
        let newest_s = self
            .first_in_slice
            .last_key_value()
            .map_or(event_s, |(slice, _)| slice.saturating_mul(self.slice_s).max(event_s));
        let oldest_slice = newest_s.saturating_sub(self.window_s).div_euclid(self.slice_s);
        let slice = event_s.div_euclid(self.slice_s);
        if slice >= oldest_slice {
            self.first_in_slice.entry(slice).or_insert(at);
        }
        if let Some(last_before) = self.first_in_slice.range(..oldest_slice).next_back().map(|(slice, _)| *slice) {
            self.first_in_slice = self.first_in_slice.split_off(&last_before);
        }
    }

    pub(super) fn restarted(&mut self) {
        self.first_in_slice.clear();
    }

    /// The smallest offset among the remembered slices: lines need not be in order.
    pub(super) fn oldest_in_window(&self) -> Option<Position> {
        self.first_in_slice.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing inside the window lies before the resume position, and in an orderly log it is no line
        /// of the window itself.
        #[test]
        fn the_whole_window_is_read_again(backwards_s_max in prop_oneof![Just(0i64), Just(30)], steps in proptest::collection::vec(0i64..120, 1..400), window_s in 1u32..2000) {
            let mut positions = Positions::new(window_s);
            let mut seen: Vec<(i64, u64)> = Vec::new();
            let mut at_s = 1_700_000_000;
            for (n, step) in (0u64..).zip(steps) {
                at_s += step - backwards_s_max;
                positions.note(at_s, Position { offset: n * 10, line_no: n + 1 });
                seen.push((at_s, n * 10));
                let newest = seen.iter().map(|(t, _)| *t).max().unwrap();
                let oldest = seen.iter().filter(|(t, _)| *t >= newest - i64::from(window_s)).map(|(_, o)| *o).min().unwrap();
                let resume = positions.oldest_in_window().unwrap();
                prop_assert!(resume.offset <= oldest);
                let first_read = seen[resume.offset as usize / 10].0;
                prop_assert!(backwards_s_max > 0 || resume.offset == 0 || first_read < newest - i64::from(window_s));
                prop_assert!(positions.first_in_slice.len() <= 2 * SLICES as usize + 3);
            }
        }
    }
}
