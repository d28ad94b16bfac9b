//! What policies read of budgets, and what a verdict may ask of them. The books themselves are not this crate's: what they
//! say is an argument.

use std::collections::BTreeMap;

use cauldron_identity::AuthorId;
use serde_json::{Value, json};

use crate::bodies::Amount;

/// Parts per million.
const PPM: u128 = 1_000_000;

/// One budget in its open window, as the books of the node that judges have it. In the budget's minor unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetSeen {
    /// Its name.
    pub name: String,
    /// The window that is open; none while the judge's clock is not believed. Then all sums are zero.
    pub window: Option<u64>,
    /// When that window ends, milliseconds since the Unix epoch; none without time.
    pub ends_ms: Option<u64>,
    /// What was minted for it.
    pub limit: u64,
    /// What may be granted or reserved, by all.
    pub held: u64,
    /// What is set aside and not settled.
    pub reserved: u64,
    /// What was spent.
    pub spent: u64,
    /// What is on its way.
    pub in_flight: u64,
    /// What lives that are over held.
    pub lost: u64,
    /// What each author holds in its present life, of [`BudgetSeen::held`].
    pub free: BTreeMap<AuthorId, u64>,
}

impl BudgetSeen {
    fn free_of(&self, author: Option<&AuthorId>) -> u64 {
        author.and_then(|author| self.free.get(author)).copied().unwrap_or(0)
    }

    /// Reserved and spent of the limit, parts per million; all of it where nothing was minted.
    fn used_ppm(&self) -> u64 {
        let used = u128::from(self.reserved) + u128::from(self.spent);
        (used * PPM)
            .checked_div(u128::from(self.limit))
            .map_or(PPM as u64, |ppm| u64::try_from(ppm).unwrap_or(u64::MAX))
    }
}

/// The `budgets` of an input document, in the order of `seen`.
pub(crate) fn view(seen: &[BudgetSeen], asked: &[Amount], me: Option<&AuthorId>, owner: Option<&AuthorId>) -> Value {
    let one = |b: &BudgetSeen| {
        let ask = asked.iter().filter(|a| a.budget == b.name).map(|a| a.amount).max().unwrap_or(0);
        json!({
            "name": b.name,
            "window": b.window,
            "ends_ms": b.ends_ms,
            "limit": b.limit,
            "held": b.held,
            "reserved": b.reserved,
            "spent": b.spent,
            "in_flight": b.in_flight,
            "lost": b.lost,
            "used_ppm": b.used_ppm(),
            "held_here": b.free_of(me),
            "held_by_owner": b.free_of(owner),
            "ask": ask,
        })
    };
    seen.iter().map(one).collect()
}

/// Whether rights can be set aside as a verdict over `document` asks.
///
/// # Errors
/// Which budget cannot, and what to do.
pub(crate) fn check(reserve: &[Amount], document: &Value) -> Result<(), String> {
    let known = |name: &str| {
        let listed = document.get("budgets").and_then(Value::as_array).into_iter().flatten();
        listed.filter_map(|b| b.get("name").and_then(Value::as_str)).any(|listed| listed == name)
    };
    match reserve.iter().find(|a| a.amount == 0 || !known(&a.budget)) {
        None => Ok(()),
        Some(Amount { budget, amount: 0 }) => {
            Err(format!("budget.zero: 0 of {budget:?} cannot be set aside: reserve 1 or more, or nothing"))
        }
        Some(Amount { budget, amount }) => Err(format!(
            "budget.unknown: {amount} of {budget:?} cannot be set aside, for nothing was ever minted of such a budget: \
             `cauldron budgets mint` it, or correct its name"
        )),
    }
}

/// The rights that a proposal asks for itself, as its document has them. One that cannot be read asks for nothing: then
/// nothing else of it can be read either.
pub(crate) fn asked(document: &Value) -> Vec<Amount> {
    let budgets = document.get("proposal").and_then(|p| p.get("budgets")).cloned().unwrap_or_default();
    serde_json::from_value(budgets).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bodies::{KIND_PERMIT, Outcome, Permit, Proposal};
    use crate::ledger::State;
    use crate::owner::{Code, Verdict};
    use crate::testkit::{World, key, proposal};

    const RESERVES: &str = r#"package cauldron.guardrail
allow contains {"rule": "all", "why": "inside the budget", "reserve": [{"budget": "blocks", "amount": 2}]} if {
	some b in input.budgets
	b.name == "blocks"
	b.used_ppm < 800000
}
deny contains {"rule": "share", "why": sprintf("%d of %d blocks are used", [b.reserved + b.spent, b.limit])} if {
	some b in input.budgets
	b.name == "blocks"
	b.used_ppm >= 800000
}
"#;

    fn blocks(limit: u64, spent: u64) -> BudgetSeen {
        let held = limit - spent;
        let free = [(key(3).author_id(), held.min(3)), (key(2).author_id(), held.saturating_sub(3))].into();
        BudgetSeen { name: "blocks".into(), window: Some(7), limit, held, spent, free, ..BudgetSeen::default() }
    }

    fn world(budgets: Vec<BudgetSeen>, p: Proposal) -> (World, cauldron_identity::FactId) {
        let mut world = World::with_policy(RESERVES);
        world.budgets = budgets;
        let p = world.propose(p);
        world.run();
        (world, p)
    }

    #[test]
    fn a_rule_reads_what_is_used_and_what_it_reserves_is_carried_by_the_permit() {
        let (world, p) = world(vec![blocks(10, 7)], proposal("198.51.100.7"));
        let permit = world.ledger.permits_on(&p).next().expect("permitted");
        assert_eq!(permit.body.budgets, [Amount { budget: "blocks".into(), amount: 2 }]);
        let Verdict::Execute(verified) = world.judge(&permit.id) else { panic!("{:?}", world.judge(&permit.id)) };
        assert_eq!(verified.budgets(), permit.body.budgets);
    }

    #[test]
    fn permits_that_take_are_found_until_they_lapse_and_others_are_not() {
        let (mut world, p) = world(vec![blocks(10, 7)], proposal("198.51.100.7"));
        let permit = world.ledger.permits_on(&p).next().expect("permitted").clone();
        let free = Permit { budgets: vec![], issued_ms: permit.body.issued_ms + 1, ..permit.body.clone() };
        world.put(2, "site/lyon", KIND_PERMIT, &free);
        assert_eq!(world.ledger.permits_on(&p).count(), 2);
        let at = |ms: u64| world.ledger.permits_taking(ms).map(|permit| permit.id).collect::<Vec<_>>();
        let until_ms = permit.body.execute_by_ms;
        assert_eq!((at(0), at(until_ms), at(until_ms + 1)), (vec![permit.id], vec![permit.id], vec![]));
    }

    #[test]
    fn a_rule_denies_above_a_share() {
        let (world, p) = world(vec![blocks(10, 8)], proposal("198.51.100.7"));
        assert_eq!(world.state(&p), State::Denied);
        let rules = world.decision(&p).rules;
        assert!(rules.iter().any(|rule| rule.contains("8 of 10 blocks are used")), "{rules:?}");
    }

    #[test]
    fn the_document_says_what_judge_and_owner_hold_and_what_is_asked() {
        let ask = vec![Amount { budget: "blocks".into(), amount: 4 }];
        let seen = [blocks(10, 0), BudgetSeen { name: "none".into(), ..BudgetSeen::default() }];
        let (hq, lyon) = (key(2).author_id(), key(3).author_id());
        let view = view(&seen, &ask, Some(&hq), Some(&lyon));
        let of = |n: usize, field: &str| view[n][field].as_u64().expect("a number");
        assert_eq!((of(0, "held_here"), of(0, "held_by_owner"), of(0, "ask"), of(0, "used_ppm")), (7, 3, 4, 0));
        assert_eq!((of(1, "limit"), of(1, "ask"), of(1, "used_ppm")), (0, 0, 1_000_000), "nothing of nothing is left");
        assert!(view[1]["window"].is_null());
    }

    #[test]
    fn a_budget_that_was_never_minted_is_refused_by_both_judges_with_the_reason() {
        let named = "package cauldron.guardrail\nallow contains {\"rule\": \"all\", \"why\": \"w\", \"reserve\": [{\"budget\": \"bloks\", \"amount\": 2}]}";
        let mut world = World::with_policy(named);
        world.budgets = vec![blocks(10, 0)];
        let p = world.propose(proposal("198.51.100.7"));
        world.run();
        assert_eq!(world.decision(&p).outcome, Outcome::Deny);
        assert!(world.status(&p).why[0].contains("nothing was ever minted"), "{:?}", world.status(&p).why);

        let (mut world, p) = self::world(vec![blocks(10, 0)], proposal("198.51.100.7"));
        let permit = world.ledger.permits_on(&p).next().expect("permitted").id;
        world.budgets.clear();
        let verdict = world.judge(&permit);
        assert_eq!(verdict.code(), Some(Code::Policy), "an owner that knows of no such budget: {verdict:?}");
    }

    #[test]
    fn a_permit_that_takes_less_than_its_owners_policy_asks_is_refused() {
        let (mut world, p) = world(vec![blocks(10, 0)], proposal("198.51.100.7"));
        let mut body = world.ledger.permits_on(&p).next().expect("permitted").body.clone();
        for (amount, code) in [(Some(1), Some(Code::Budget)), (None, Some(Code::Budget)), (Some(3), None)] {
            body.budgets = amount.map(|amount| Amount { budget: "blocks".into(), amount }).into_iter().collect();
            body.issued_ms += 1;
            let permit = world.put(2, "site/lyon", KIND_PERMIT, &body);
            assert_eq!(world.judge(&permit).code(), code, "{amount:?}");
        }
    }

    #[test]
    fn the_rule_in_the_handbook_holds() {
        let handbook = include_str!("../../docs/policy.md");
        let rule = handbook.split("```rego\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a rule");
        for (spent, state) in [(7, State::Permitted), (8, State::PendingApproval)] {
            let mut world = World::with_policy(rule);
            world.budgets = vec![BudgetSeen { name: "blocks-lyon".into(), ..blocks(10, spent) }];
            let p = world.propose(proposal("198.51.100.7"));
            world.run();
            assert_eq!(world.state(&p), state, "{:?}", world.status(&p).why);
            assert_eq!(world.decision(&p).obligations.reserve, [Amount { budget: "blocks-lyon".into(), amount: 1 }]);
        }
        let mut world = World::with_policy(rule);
        let p = world.propose(proposal("198.51.100.7"));
        world.run();
        assert_eq!(world.state(&p), State::Denied, "there is no such budget");
    }

    #[test]
    fn what_a_proposal_asks_is_reserved_too_and_nothing_cannot_be() {
        let asks = |budget: &str, amount| Proposal {
            budgets: vec![Amount { budget: budget.into(), amount }],
            ..proposal("198.51.100.7")
        };
        let (w, p) = world(vec![blocks(10, 0)], asks("blocks", 5));
        assert_eq!(w.decision(&p).obligations.reserve, [Amount { budget: "blocks".into(), amount: 5 }]);
        let (w, p) = world(vec![blocks(10, 0)], asks("blocks", 1));
        assert_eq!(w.decision(&p).obligations.reserve[0].amount, 2, "of two, the larger");
        for (budget, amount, why) in [("other", 1, "budget.unknown"), ("blocks-2", 0, "budget.zero")] {
            let (w, p) = world(vec![blocks(10, 0)], asks(budget, amount));
            assert_eq!(w.state(&p), State::Denied);
            assert!(w.status(&p).why[0].contains(why), "{:?}", w.status(&p).why);
        }
    }
}
