//! Whether a set of people fills the seats that obligations ask for. One person fills one seat.

use std::collections::{BTreeMap, BTreeSet};

use crate::bodies::GroupNeed;

/// Seats that one proposal may ask for; more is a policy mistake, and the search below stays small.
pub const SEATS_MAX: u32 = 64;

/// How far the seats are filled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fill {
    /// Seats asked for.
    pub needed: u32,
    /// Seats filled by distinct people.
    pub filled: u32,
    /// Groups that still lack somebody.
    pub missing: BTreeSet<String>,
}

impl Fill {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.filled >= self.needed
    }
}

/// Fills as many seats as possible (maximum bipartite matching by augmenting paths, Kuhn 1955). `voters` maps each
/// distinct voter to their groups. Needs beyond [`SEATS_MAX`] are never met.
#[must_use]
pub fn fill(needs: &[GroupNeed], voters: &BTreeMap<String, BTreeSet<String>>) -> Fill {
    let needed: u32 = needs.iter().fold(0, |sum, need| sum.saturating_add(need.n));
    if needed > SEATS_MAX {
        return Fill { needed, filled: 0, missing: needs.iter().map(|n| n.group.clone()).collect() };
    }
    let seats: Vec<&str> = needs.iter().flat_map(|n| (0..n.n).map(|_| n.group.as_str())).collect();
    let mut seat_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (seat, group) in seats.iter().enumerate() {
        if !place(seat, &seats, voters, &mut seat_of, &mut BTreeSet::new()) {
            missing.insert((*group).to_owned());
        }
    }
    Fill { needed, filled: u32::try_from(seat_of.len()).unwrap_or(0), missing }
}

/// Finds a person for `seat`, moving others to other seats where that helps.
fn place<'v>(
    seat: usize,
    seats: &[&str],
    voters: &'v BTreeMap<String, BTreeSet<String>>,
    seat_of: &mut BTreeMap<&'v str, usize>,
    tried: &mut BTreeSet<&'v str>,
) -> bool {
    let Some(group) = seats.get(seat) else { return false };
    for (voter, groups) in voters {
        if !groups.contains(*group) || !tried.insert(voter) {
            continue;
        }
        let free = match seat_of.get(voter.as_str()).copied() {
            None => true,
            Some(taken) => place(taken, seats, voters, seat_of, tried),
        };
        if free {
            seat_of.insert(voter, seat);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn need(group: &str, n: u32) -> GroupNeed {
        GroupNeed { group: group.into(), n }
    }

    fn voters(list: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        list.iter().map(|(who, groups)| ((*who).into(), groups.iter().map(|g| (*g).into()).collect())).collect()
    }

    #[test]
    fn one_person_in_two_groups_fills_one_seat() {
        let needs = [need("finance", 1), need("security", 1)];
        let both = voters(&[("ana", &["finance", "security"])]);
        assert_eq!(fill(&needs, &both).filled, 1);
        let two = voters(&[("ana", &["finance", "security"]), ("bo", &["finance"])]);
        assert!(fill(&needs, &two).is_complete(), "ana moves to security so that bo can sit for finance");
        assert!(fill(&[], &voters(&[])).is_complete());
        assert!(!fill(&[need("x", u32::MAX)], &both).is_complete());
    }

    /// Tries every assignment of people to seats.
    fn brute_force(seats: &[String], people: &[BTreeSet<String>], used: &mut Vec<bool>) -> bool {
        let Some((seat, rest)) = seats.split_first() else { return true };
        (0..people.len()).any(|i| {
            if used[i] || !people[i].contains(seat) {
                return false;
            }
            used[i] = true;
            let found = brute_force(rest, people, used);
            used[i] = false;
            found
        })
    }

    proptest! {
        #[test]
        fn equals_trying_every_assignment(
            needs in proptest::collection::vec(0u32..3, 3),
            people in proptest::collection::vec(proptest::collection::btree_set("[abc]", 0..3), 0..6),
        ) {
            let groups = ["a", "b", "c"];
            let needs: Vec<_> = groups.iter().zip(&needs).map(|(g, n)| need(g, *n)).collect();
            let seats: Vec<String> = needs.iter().flat_map(|n| vec![n.group.clone(); n.n as usize]).collect();
            let map = people.iter().enumerate().map(|(i, g)| (i.to_string(), g.clone())).collect();
            let expected = brute_force(&seats, &people, &mut vec![false; people.len()]);
            prop_assert_eq!(fill(&needs, &map).is_complete(), expected);
            prop_assert_eq!(fill(&needs, &map).missing.is_empty(), expected);
        }
    }
}
