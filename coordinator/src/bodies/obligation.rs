//! What must be met before an effect. Two judges' obligations unite to what satisfies both.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::authority::Assurance;
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::Amount;

/// How many people of a group must approve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct GroupNeed {
    /// The approver group.
    #[n(0)]
    pub group: String,
    /// Distinct people of it.
    #[n(1)]
    pub n: u32,
}

/// Seats to fill: by any one of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct Need {
    /// The alternatives, sorted; one is enough.
    #[n(0)]
    pub any_of: Vec<GroupNeed>,
}

/// People who may sit from some time on, so that a silent group does not hold things up. Nobody's seat goes away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct Escalation {
    /// The group that is added.
    #[n(0)]
    pub add: String,
    /// From when on, milliseconds since the Unix epoch.
    #[n(1)]
    pub at_ms: u64,
}

/// Silence allows, once somebody has had the time to object.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct VetoWindow {
    /// How long, milliseconds from the decision.
    #[n(0)]
    pub ms: u64,
    /// Groups whose members may object. Sorted; where nobody is in any of them, people must approve instead.
    #[n(1)]
    pub groups: Vec<String>,
}

/// What must be met before the effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, serde::Deserialize)]
#[cbor(map)]
pub struct Obligations {
    /// Approvals, all of them needed; one person fills one seat. Sorted.
    #[n(0)]
    pub approvals: Vec<Need>,
    /// Until when; a timeout is a deny. Milliseconds since the Unix epoch.
    #[n(1)]
    pub decide_by_ms: u64,
    /// Who may not fill a seat beside proposer, editor and principal: see [`DISTINCT`]. Sorted.
    #[n(2)]
    #[cbor(default)]
    pub distinct_from: Vec<String>,
    /// How sure each approval must be.
    #[n(3)]
    #[cbor(default)]
    pub assurance: Assurance,
    /// Who is added when time passes. Sorted by group.
    #[n(4)]
    #[cbor(default)]
    pub escalation: Vec<Escalation>,
    /// Where silence allows: how long it must last.
    #[n(5)]
    pub veto: Option<VetoWindow>,
    /// Rights that the owner must hold and reserve before it starts. Sorted by budget.
    #[n(6)]
    #[cbor(default)]
    pub reserve: Vec<Amount>,
    /// Restrictions under which a connector works, e.g. `net:none`. Sorted.
    #[n(7)]
    #[cbor(default)]
    pub sandbox: Vec<String>,
    /// Checks of the connector's that must hold after the effect. Sorted.
    #[n(8)]
    #[cbor(default)]
    pub post_checks: Vec<String>,
    /// Share of such effects that people look at afterwards, parts per million.
    #[n(9)]
    #[cbor(default)]
    pub audit_ppm: u32,
    /// Groups that are told. Sorted.
    #[n(10)]
    #[cbor(default)]
    pub notify: Vec<String>,
}

/// Obligation that bars votes whose page came from the proposing or owning node.
pub const SELF_SERVED: &str = "self-served";
/// Obligation that bars votes cast by somebody for another person.
pub const DELEGATES: &str = "delegates";
/// Every rule of distinctness that this build knows; a policy that names another one is refused.
pub const DISTINCT: [&str; 2] = [SELF_SERVED, DELEGATES];

impl Need {
    /// Seats of one group.
    #[must_use]
    pub fn of(group: &str, n: u32) -> Self {
        Self { any_of: vec![GroupNeed { group: group.to_owned(), n }] }
    }

    /// The fewest people that fill it.
    #[must_use]
    pub fn seats_min(&self) -> u32 {
        self.any_of.iter().map(|a| a.n).min().unwrap_or(0)
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, need) in self.any_of.iter().enumerate() {
            write!(f, "{}{} of {}", if i > 0 { " or " } else { "" }, need.n, need.group)?;
        }
        Ok(())
    }
}

impl Obligations {
    /// Whether there is nothing to wait for, to set aside, to keep to or to check, and nobody to tell: what is decided and done in one step
    /// carries none of it.
    #[must_use]
    pub fn bind_nobody(&self) -> bool {
        let Self { approvals, veto, reserve, sandbox, post_checks, notify, audit_ppm, .. } = self;
        let none = [sandbox, post_checks, notify].into_iter().all(Vec::is_empty);
        none && *audit_ppm == 0 && approvals.is_empty() && veto.is_none() && reserve.is_empty()
    }

    /// Nothing to meet but the deadline.
    #[must_use]
    pub fn none(decide_by_ms: u64) -> Self {
        Self {
            approvals: Vec::new(),
            decide_by_ms,
            distinct_from: Vec::new(),
            assurance: Assurance::Software,
            escalation: Vec::new(),
            veto: None,
            reserve: Vec::new(),
            sandbox: Vec::new(),
            post_checks: Vec::new(),
            audit_ppm: 0,
            notify: Vec::new(),
        }
    }

    /// The fewest people who can meet it.
    #[must_use]
    pub fn seats_min(&self) -> u32 {
        self.approvals.iter().fold(0, |sum, need| sum.saturating_add(need.seats_min()))
    }

    /// What several rules of one judge ask for: all of it. Who one of them adds in time may sit for the others too.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.unite(other, added(self.escalation.iter().chain(&other.escalation)))
    }

    /// What two judges ask for: all of it, and nobody is added in time whom only one of them adds.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        let (ours, theirs) = (added(self.escalation.iter()), added(other.escalation.iter()));
        let with = |(group, at_ms): (String, u64)| theirs.get(&group).map(|other| (group.clone(), at_ms.max(*other)));
        self.unite(other, ours.into_iter().filter_map(with).collect())
    }

    /// The same with more to reserve; of two amounts of one budget, the larger.
    #[must_use]
    pub fn reserving(mut self, more: &[Amount]) -> Self {
        self.reserve = amounts(self.reserve.iter().chain(more));
        self
    }

    fn unite(&self, other: &Self, escalation: BTreeMap<String, u64>) -> Self {
        let veto = match (&self.veto, &other.veto) {
            (Some(a), Some(b)) => Some(VetoWindow { ms: a.ms.max(b.ms), groups: sorted(&a.groups, &b.groups) }),
            (one, another) => one.clone().or_else(|| another.clone()),
        };
        Self {
            approvals: needs(self.approvals.iter().chain(&other.approvals)),
            decide_by_ms: self.decide_by_ms.min(other.decide_by_ms),
            distinct_from: sorted(&self.distinct_from, &other.distinct_from),
            assurance: self.assurance.max(other.assurance),
            escalation: escalation.into_iter().map(|(add, at_ms)| Escalation { add, at_ms }).collect(),
            veto,
            reserve: amounts(self.reserve.iter().chain(&other.reserve)),
            sandbox: sorted(&self.sandbox, &other.sandbox),
            post_checks: sorted(&self.post_checks, &other.post_checks),
            audit_ppm: self.audit_ppm.max(other.audit_ppm),
            notify: sorted(&self.notify, &other.notify),
        }
    }
}

/// Needs of one group become the larger of them; needs with alternatives stay as they are, each once.
fn needs<'a>(all: impl Iterator<Item = &'a Need>) -> Vec<Need> {
    let mut single: BTreeMap<String, u32> = BTreeMap::new();
    let mut open: BTreeSet<Need> = BTreeSet::new();
    for need in all {
        let mut fewest: BTreeMap<&String, u32> = BTreeMap::new();
        for one in &need.any_of {
            let n = fewest.entry(&one.group).or_insert(one.n);
            *n = (*n).min(one.n);
        }
        // Nobody is needed where one of the ways needs nobody.
        if fewest.values().any(|n| *n == 0) {
            continue;
        }
        match (fewest.pop_first(), fewest.is_empty()) {
            (Some((group, n)), true) => {
                let most = single.entry(group.clone()).or_default();
                *most = (*most).max(n);
            }
            (first, _) => {
                let all = first.into_iter().chain(fewest);
                open.insert(Need { any_of: all.map(|(group, n)| GroupNeed { group: group.clone(), n }).collect() });
            }
        }
    }
    open.extend(single.into_iter().map(|(group, n)| Need::of(&group, n)));
    open.into_iter().collect()
}

/// When each group is added; of two times, the later.
fn added<'a>(all: impl Iterator<Item = &'a Escalation>) -> BTreeMap<String, u64> {
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    for e in all {
        let at = latest.entry(e.add.clone()).or_insert(e.at_ms);
        *at = (*at).max(e.at_ms);
    }
    latest
}

fn amounts<'a>(all: impl Iterator<Item = &'a Amount>) -> Vec<Amount> {
    let mut largest: BTreeMap<String, u64> = BTreeMap::new();
    for a in all {
        let amount = largest.entry(a.budget.clone()).or_default();
        *amount = (*amount).max(a.amount);
    }
    largest.into_iter().map(|(budget, amount)| Amount { budget, amount }).collect()
}

fn sorted(a: &[String], b: &[String]) -> Vec<String> {
    let all: BTreeSet<&String> = a.iter().chain(b).collect();
    all.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some() -> Obligations {
        let mut o = Obligations::none(100);
        o.approvals = vec![Need::of("finance", 2)];
        o.escalation = vec![Escalation { add: "oncall".into(), at_ms: 50 }];
        o
    }

    #[test]
    fn one_judges_rules_add_up_and_a_second_judge_adds_nobody() {
        let mut other = Obligations::none(90);
        other.approvals = vec![Need::of("finance", 1), Need::of("security", 1)];
        other.escalation =
            vec![Escalation { add: "hr".into(), at_ms: 40 }, Escalation { add: "oncall".into(), at_ms: 60 }];
        let both = some().both(&other);
        assert_eq!(both.approvals, vec![Need::of("finance", 2), Need::of("security", 1)]);
        assert_eq!((both.decide_by_ms, both.seats_min()), (90, 3));
        assert_eq!(both.escalation, vec![Escalation { add: "oncall".into(), at_ms: 60 }]);
        let names: Vec<String> = some().union(&other).escalation.into_iter().map(|e| e.add).collect();
        assert_eq!(names, ["hr", "oncall"]);
    }

    #[test]
    fn alternatives_stay_alternatives() {
        let either =
            Need { any_of: vec![GroupNeed { group: "finance".into(), n: 2 }, GroupNeed { group: "cfo".into(), n: 1 }] };
        let mut o = Obligations::none(1);
        o.approvals = vec![either.clone(), either];
        let united = o.union(&o);
        assert_eq!((united.approvals.len(), united.seats_min()), (1, 1));
        assert_eq!(united.approvals[0].to_string(), "1 of cfo or 2 of finance");
    }

    fn obligations() -> impl Strategy<Value = Obligations> {
        let need = prop_oneof![
            ("[abc]", 0u32..3).prop_map(|(g, n)| Need::of(&g, n)),
            proptest::collection::vec(("[abc]", 1u32..3), 2..4)
                .prop_map(|v| Need { any_of: v.into_iter().map(|(group, n)| GroupNeed { group, n }).collect() }),
        ];
        let escalation =
            proptest::collection::vec(("[de]", 0u64..9).prop_map(|(add, at_ms)| Escalation { add, at_ms }), 0..3);
        let texts = || proptest::collection::vec("[xyz]", 0..3);
        (
            proptest::collection::vec(need, 0..4),
            0u64..9,
            texts(),
            any::<bool>(),
            escalation,
            texts(),
            proptest::option::of((0u64..9, texts())),
        )
            .prop_map(|(approvals, decide_by_ms, distinct_from, verified, escalation, sandbox, veto)| {
                Obligations {
                    approvals,
                    distinct_from,
                    assurance: if verified { Assurance::Verified } else { Assurance::Software },
                    escalation,
                    veto: veto.map(|(ms, groups)| VetoWindow { ms, groups }),
                    sandbox,
                    ..Obligations::none(decide_by_ms)
                }
            })
    }

    proptest! {
        #[test]
        fn uniting_is_the_same_in_any_order_and_again(a in obligations(), b in obligations(), c in obligations()) {
            let norm = |o: &Obligations| o.union(o);
            prop_assert_eq!(a.both(&b), b.both(&a));
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
            let n = norm(&a);
            prop_assert_eq!(n.union(&n), n.clone());
            prop_assert_eq!(n.both(&n), n);
        }
    }
}
