use serde_json::json;

use super::*;
use crate::bodies::Outcome;
use crate::policy::Bundle;
use crate::policy::tests::input;
use crate::testkit::World;

fn explain(rego: &str, change: serde_json::Value) -> Explanation {
    let engine = World::engine_with(&format!("package cauldron.guardrail\n{rego}"));
    engine.explain(&input(change)).expect("a class of the bundle")
}

fn flips(explanation: &Explanation) -> Vec<(String, Outcome)> {
    explanation.flips.iter().map(|flip| (flip.to_string(), flip.outcome)).collect()
}

const PAY: &str = r#"
args := input.proposal.args

deny contains {"rule": "limit", "why": "too much"} if {
	input.v == 1
	args.amount > 500
}

deny contains {"rule": "taint", "why": "foreign words"} if {
	some label in input.taint
	label == "external"
}

deny contains {"rule": "frozen", "why": "no payments now"} if input.frozen

allow contains {"rule": "small", "why": "w"} if {
	input.v == 1
	args.amount >= 10
}
"#;

#[test]
fn each_rule_says_whether_it_holds_and_where_it_stops() {
    let told = explain(PAY, json!({"proposal": {"args": {"amount": 400}}, "taint": ["internal"], "frozen": false}));
    assert_eq!(told.evaluation.outcome, Outcome::Allow);
    let lines: Vec<_> =
        told.rules.iter().map(|r| (r.set.as_str(), r.at.line, r.stopped.as_ref().map(|s| s.line))).collect();
    assert_eq!(lines, [("deny", 5, Some(7)), ("deny", 10, Some(12)), ("deny", 15, Some(15)), ("allow", 17, None)]);
    assert_eq!(told.rules[0].stopped.as_ref().map(|s| s.text.as_str()), Some("args.amount > 500"));
    assert_eq!(told.rules[3].adds, ["small: w"]);
    let early = explain(PAY, json!({"v": 2}));
    assert_eq!(early.rules[0].stopped.as_ref().map(|s| s.line), Some(6));
}

#[test]
fn thresholds_are_exact() {
    let change = json!({"proposal": {"args": {"amount": 400}}, "taint": [], "frozen": false});
    let expected = [
        ("frozen = true", Outcome::Deny),
        ("proposal.args.amount ≤ 9", Outcome::Deny),
        ("proposal.args.amount ≥ 501", Outcome::Deny),
    ];
    let found = flips(&explain(PAY, change));
    assert!(expected.iter().all(|(flip, outcome)| found.contains(&((*flip).to_owned(), *outcome))), "{found:?}");
    let change = json!({"proposal": {"args": {"amount": 60_000}}, "taint": [], "frozen": false});
    assert!(flips(&explain(PAY, change)).contains(&("proposal.args.amount ≤ 500".into(), Outcome::Allow)));
}

#[test]
fn a_label_that_decides_is_named() {
    let change = json!({"proposal": {"args": {"amount": 400}}, "taint": ["mail", "external"], "frozen": false});
    let told = explain(PAY, change);
    assert_eq!(told.evaluation.outcome, Outcome::Deny);
    assert_eq!(flips(&told), [("taint without \"external\"".to_owned(), Outcome::Allow)]);
}

#[test]
fn an_error_is_told_at_its_rule() {
    let told =
        explain("allow contains {\"rule\": \"a\", \"why\": \"w\"} if net.cidr_contains(input.v, \"x\")", json!({}));
    assert!(told.rules[0].error.is_some() && told.rules[0].stopped.is_none(), "{told:?}");
}

#[test]
fn the_default_bundle_explains_itself() {
    let engine = Engine::new(&Bundle::default_bundle()).expect("compiles");
    let told = engine.explain(&input(json!({"proposal": {"args": {"ttl_s": 86_500}}}))).expect("its class");
    assert!(flips(&told).contains(&("proposal.args.ttl_s ≤ 86400".into(), Outcome::StepUp)), "{:?}", flips(&told));
    assert!(engine.explain(&Input::from_document(json!({}))).is_none());
}
