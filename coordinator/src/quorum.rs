//! Whether a set of people fills the seats that obligations ask for. One person fills one seat.

use std::collections::{BTreeMap, BTreeSet};

use crate::bodies::{GroupNeed, Need};

/// Seats that one proposal may ask for; more is a policy mistake, and the search below stays small.
pub const SEATS_MAX: u32 = 64;
/// Ways in which needs with alternatives may be met together; more is a policy mistake.
pub const WAYS_MAX: usize = 256;

/// Somebody who approved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Voter {
    /// Groups whose seats they may take.
    pub groups: BTreeSet<String>,
    /// Whether they were added in time and may take any seat.
    pub any_seat: bool,
}

/// How far the seats are filled.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fill {
    /// Seats asked for; of alternatives, those that are nearest to being filled.
    pub needed: u32,
    /// Seats filled by distinct people.
    pub filled: u32,
    /// Groups that still lack somebody, each once, in the order of their names.
    pub missing: Vec<String>,
}

impl Fill {
    fn new(needed: u32, filled: u32, missing: BTreeSet<String>) -> Self {
        Self { needed, filled, missing: missing.into_iter().collect() }
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.filled >= self.needed
    }
}

impl Voter {
    /// Somebody who may take seats of these groups.
    #[must_use]
    pub fn of(groups: BTreeSet<String>) -> Self {
        Self { groups, any_seat: false }
    }
}

/// Fills as many seats as possible: over every way to choose among alternatives, the one that lacks least. `voters` are distinct
/// people. Needs beyond [`SEATS_MAX`] or [`WAYS_MAX`] are never met.
#[must_use]
pub fn fill(needs: &[Need], voters: &BTreeMap<String, Voter>) -> Fill {
    let ways = needs.iter().try_fold(1usize, |ways, need| {
        ways.checked_mul(need.any_of.len()).filter(|ways| (1..=WAYS_MAX).contains(ways))
    });
    let Some(ways) = ways else { return never(needs) };
    let fills = (0..ways).map(|mut way| {
        let mut chosen = Vec::new();
        for need in needs {
            chosen.extend(need.any_of.get(way % need.any_of.len()));
            way /= need.any_of.len();
        }
        fill_chosen(&chosen, voters)
    });
    let mut best: Option<Fill> = None;
    for fill in fills {
        let lacks = |f: &Fill| f.needed.saturating_sub(f.filled);
        match &mut best {
            Some(best) if lacks(best) < lacks(&fill) => {}
            // Equally near: whoever is in either group can help.
            Some(best) if lacks(best) == lacks(&fill) => {
                let either = best.missing.drain(..).chain(fill.missing).collect();
                *best = Fill::new(best.needed, best.filled, either);
            }
            _ => best = Some(fill),
        }
    }
    best.unwrap_or_else(|| never(needs))
}

fn never(needs: &[Need]) -> Fill {
    let groups = needs.iter().flat_map(|n| &n.any_of).map(|n| n.group.clone());
    Fill::new(u32::MAX, 0, groups.collect())
}

/// Maximum bipartite matching by augmenting paths (Kuhn 1955).
fn fill_chosen(needs: &[&GroupNeed], voters: &BTreeMap<String, Voter>) -> Fill {
    let needed: u32 = needs.iter().fold(0, |sum, need| sum.saturating_add(need.n));
    if needed > SEATS_MAX {
        return Fill::new(needed, 0, needs.iter().map(|n| n.group.clone()).collect());
    }
    let seats: Vec<&str> = needs.iter().flat_map(|n| (0..n.n).map(|_| n.group.as_str())).collect();
    let mut seat_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (seat, group) in seats.iter().enumerate() {
        if !place(seat, &seats, voters, &mut seat_of, &mut BTreeSet::new()) {
            missing.insert((*group).to_owned());
        }
    }
    Fill::new(needed, u32::try_from(seat_of.len()).unwrap_or(0), missing)
}

/// Finds a person for `seat`, moving others to other seats where that helps.
fn place<'v>(
    seat: usize,
    seats: &[&str],
    voters: &'v BTreeMap<String, Voter>,
    seat_of: &mut BTreeMap<&'v str, usize>,
    tried: &mut BTreeSet<&'v str>,
) -> bool {
    let Some(group) = seats.get(seat) else { return false };
    for (name, voter) in voters {
        if !(voter.any_seat || voter.groups.contains(*group)) || !tried.insert(name) {
            continue;
        }
        let free = match seat_of.get(name.as_str()).copied() {
            None => true,
            Some(taken) => place(taken, seats, voters, seat_of, tried),
        };
        if free {
            seat_of.insert(name, seat);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn voters(list: &[(&str, &[&str])]) -> BTreeMap<String, Voter> {
        let groups = |groups: &[&str]| Voter::of(groups.iter().map(|g| (*g).into()).collect());
        list.iter().map(|(who, of)| ((*who).into(), groups(of))).collect()
    }

    fn either(of: &[(&str, u32)]) -> Need {
        Need { any_of: of.iter().map(|(group, n)| GroupNeed { group: (*group).into(), n: *n }).collect() }
    }

    #[test]
    fn one_person_in_two_groups_fills_one_seat() {
        let needs = [Need::of("finance", 1), Need::of("security", 1)];
        let both = voters(&[("ana", &["finance", "security"])]);
        assert_eq!(fill(&needs, &both).filled, 1);
        let two = voters(&[("ana", &["finance", "security"]), ("bo", &["finance"])]);
        assert!(fill(&needs, &two).is_complete(), "ana moves to security so that bo can sit for finance");
        assert!(fill(&[], &voters(&[])).is_complete());
        assert!(!fill(&[Need::of("x", u32::MAX)], &both).is_complete());
        assert!(!fill(&[Need { any_of: vec![] }], &both).is_complete());
    }

    #[test]
    fn one_of_the_alternatives_is_enough_and_all_that_help_are_named() {
        let needs = [either(&[("cfo", 1), ("finance", 2)]), Need::of("security", 1)];
        assert!(fill(&needs, &voters(&[("ana", &["cfo"]), ("bo", &["security"])])).is_complete());
        assert!(
            fill(&needs, &voters(&[("ana", &["finance"]), ("cy", &["finance"]), ("bo", &["security"])])).is_complete()
        );
        let short = fill(&needs, &voters(&[("ana", &["finance"]), ("bo", &["security"])]));
        assert_eq!((short.is_complete(), short.missing), (false, ["cfo".to_owned(), "finance".to_owned()].into()));
        let many = vec![either(&[("a", 1), ("b", 1)]); 9];
        assert!(!fill(&many, &voters(&[("ana", &["a"])])).is_complete(), "512 ways are too many");
    }

    #[test]
    fn whoever_was_added_in_time_takes_any_one_seat() {
        let mut people = voters(&[("ana", &["finance"]), ("on-call", &[])]);
        people.entry("on-call".into()).or_default().any_seat = true;
        assert!(fill(&[Need::of("finance", 1), Need::of("security", 1)], &people).is_complete());
        assert_eq!(fill(&[Need::of("finance", 2), Need::of("security", 1)], &people).filled, 2);
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

    /// Tries every choice of alternatives.
    fn brute_needs(needs: &[Need], seats: &[String], people: &[BTreeSet<String>]) -> bool {
        let Some((need, rest)) = needs.split_first() else {
            return brute_force(seats, people, &mut vec![false; people.len()]);
        };
        need.any_of.iter().any(|one| {
            let more = std::iter::repeat_n(one.group.clone(), one.n as usize);
            brute_needs(rest, &seats.iter().cloned().chain(more).collect::<Vec<_>>(), people)
        })
    }

    proptest! {
        #[test]
        fn equals_trying_everything(
            needs in proptest::collection::vec(proptest::collection::vec(("[abc]", 0u32..3), 1..3), 0..3),
            people in proptest::collection::vec(proptest::collection::btree_set("[abc]", 0..3), 0..6),
        ) {
            let needs: Vec<Need> = needs.into_iter().map(|n| Need { any_of: n.into_iter().map(|(group, n)| GroupNeed { group, n }).collect() }).collect();
            let map = people.iter().enumerate().map(|(i, g)| (i.to_string(), Voter::of(g.clone()))).collect();
            let expected = brute_needs(&needs, &[], &people);
            prop_assert_eq!(fill(&needs, &map).is_complete(), expected);
            prop_assert_eq!(fill(&needs, &map).missing.is_empty(), expected);
        }
    }
}
