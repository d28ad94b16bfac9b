//! Positions in a chain, kept as runs: most stand side by side.

use std::collections::BTreeSet;

/// Positions, as the first and the last of each run, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    pub fn of(seqs: impl IntoIterator<Item = u64>) -> Self {
        let mut runs = Self::default();
        seqs.into_iter().collect::<BTreeSet<u64>>().into_iter().for_each(|seq| runs.push(seq));
        runs
    }

    /// Runs as they were kept; none when they are not in order, or name a position beyond `last_max` or more than `count_max`.
    pub fn read(runs: &[(u64, u64)], last_max: u64, count_max: u64) -> Option<Self> {
        let ascends = runs.iter().all(|(first, last)| 1 <= *first && first <= last && *last <= last_max);
        let counted = runs.iter().try_fold(0_u64, |sum, (first, last)| {
            let here = last.checked_sub(*first)?.checked_add(1)?;
            sum.checked_add(here).filter(|sum| *sum <= count_max)
        });
        let sound = ascends && counted.is_some() && runs.is_sorted_by(|a, b| a.1 < b.0);
        sound.then(|| Self(runs.to_vec()))
    }

    /// As they are kept.
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Adds a position behind all others.
    pub fn push(&mut self, seq: u64) {
        match self.0.last_mut().filter(|(_, last)| last.checked_add(1) == Some(seq)) {
            Some((_, last)) => *last = seq,
            None => self.0.push((seq, seq)),
        }
    }

    pub fn holds(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        self.0.get(at).is_some_and(|(first, _)| *first <= seq)
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The position at an index.
    pub fn nth(&self, index: u64) -> Option<u64> {
        let mut left = index;
        self.0.iter().find_map(|(first, last)| {
            let here = last - first + 1;
            let found = (left < here).then(|| first + left);
            left = left.saturating_sub(here);
            found
        })
    }

    /// How many positions.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_positions_they_were_made_of() {
        let runs = Runs::of([9, 1, 2, 3, 7, 8, 2]);
        assert_eq!(runs.pairs(), [(1, 3), (7, 9)]);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9]);
        assert_eq!((runs.len(), runs.nth(0), runs.nth(3), runs.nth(6)), (6, Some(1), Some(7), None));
        assert_eq!(
            [0, 1, 3, 4, 6, 7, 9, 10].map(|seq| runs.holds(seq)),
            [false, true, true, false, false, true, true, false]
        );
        assert_eq!(Runs::read(runs.pairs(), 9, 6), Some(runs.clone()));
        assert_eq!((Runs::read(runs.pairs(), 8, 6), Runs::read(runs.pairs(), 9, 5)), (None, None));
    }

    #[test]
    fn runs_that_nobody_wrote_are_none() {
        for bad in [&[(0, 1)][..], &[(2, 1)], &[(1, 3), (3, 4)], &[(5, 6), (1, 2)], &[(1, u64::MAX)]] {
            assert_eq!(Runs::read(bad, u64::MAX, 1 << 20), None, "{bad:?}");
        }
    }
}
