use super::*;
use crate::testkit::World;
use serde_json::json;

const CLASS: &str = "security.address.block/blocklist";

pub(super) fn input(change: serde_json::Value) -> Input {
    let mut document = json!({
        "v": 1,
        "confidence": {"raw_ppm": 900_000},
        "proposal": {
            "action_class": CLASS,
            "operation": "security.address.block",
            "args": {"address": "198.51.100.7", "ttl_s": 60, "reason": "r"},
            "evidence": [{}],
            "reversibility": "reversible",
            "undo_plan": "remove it",
            "created_ms": 1_000,
            "expires_ms": 100_000_000,
        },
    });
    merge(&mut document, change);
    Input::from_document(document)
}

fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into.as_object_mut(), from) {
        (Some(map), serde_json::Value::Object(changes)) => {
            for (key, value) in changes {
                merge(map.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (_, from) => *into = from,
    }
}

pub(super) fn with(rego: &str) -> Evaluation {
    World::engine_with(&format!("package cauldron.guardrail\n{rego}")).evaluate(&input(json!({})))
}

#[track_caller]
pub(super) fn denied(evaluation: &Evaluation, why: &str) {
    assert_eq!(evaluation.outcome, Outcome::Deny, "{evaluation:?}");
    assert!(evaluation.rules.iter().any(|r| r.contains(why)), "{why}: {:?}", evaluation.rules);
}

#[test]
fn the_default_bundles_own_cases_hold() {
    let results = check(&Bundle::default_bundle());
    assert!(results.len() >= 11, "{results:?}");
    let failed: Vec<_> = results.iter().filter(|r| r.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_case_that_does_not_hold_is_a_failure() {
    let mut files = Bundle::default_bundle().files().clone();
    files.insert("security_address_block.json".into(), br#"{"address_block":{"never_block":[]}}"#.to_vec());
    let results = check(&Bundle::new(files).expect("valid"));
    assert!(results.iter().any(|r| r.name.ends_with("test_protected_ranges_are_never_blocked") && r.failure.is_some()));
}

/// Two classes have guardrails of one package; each is tested beside its own files.
#[test]
fn tests_run_beside_the_files_of_their_class() {
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let manifest =
        r#"{"version":"t","classes":{"a/b":{"risk":"R1","files":["a.rego"]},"c/d":{"risk":"R1","files":["c.rego"]}}}"#;
    let bundle = Bundle::new(
        [
            file(MANIFEST, manifest),
            file("a.rego", "package cauldron.guardrail\nx := 1"),
            file("c.rego", "package cauldron.guardrail\nx := 2"),
            file("a_test.rego", "package a_test\ntest_x if data.cauldron.guardrail.x == 1\n"),
        ]
        .into(),
    );
    let bundle = bundle.expect("valid");
    assert_eq!(check(&bundle), [CaseResult { name: "a_test.rego:test_x".into(), failure: None }]);
    assert_eq!(untested(&bundle).collect::<Vec<_>>(), ["c/d"]);
    assert_eq!(untested(&Bundle::default_bundle()).count(), 0);
}

#[test]
fn the_default_bundle_asks_a_person_and_denies_the_rest() {
    let engine = Engine::new(&Bundle::default_bundle()).expect("compiles");
    let asked = engine.evaluate(&input(json!({})));
    assert_eq!((asked.outcome, asked.risk), (Outcome::StepUp, RiskClass::R1));
    assert_eq!(asked.obligations.approvals, [crate::bodies::Need::of("security-duty", 1)]);
    assert_eq!(asked.obligations.decide_by_ms, 1_000 + 28_800_000);
    denied(&engine.evaluate(&input(json!({"proposal": {"args": {"address": "127.0.0.1"}}}))), "address.protected");
    denied(&engine.evaluate(&input(json!({"proposal": {"args": {"ttl_s": 86_401}}}))), "ttl.limit");
    denied(&engine.evaluate(&input(json!({"confidence": {"raw_ppm": 1}}))), "confidence.floor");
    denied(&engine.evaluate(&input(json!({"proposal": {"action_class": "erp.invoice.pay/bank"}}))), "no_class");
    denied(&engine.evaluate(&input(json!({"proposal": {"args": {"address": "no address"}}}))), "policy.error");
    denied(&engine.evaluate(&Input::from_document(json!({}))), "no_class");
}

#[test]
fn outcomes_combine_by_strictness() {
    let rule = |name: &str| {
        let more = match name {
            "allow" => "",
            "modify" => ", \"set\": {\"ttl_s\": 60}",
            _ => ", \"approvals\": [{\"group\": \"g\", \"n\": 1}]",
        };
        format!("{name} contains {{\"rule\": \"{name}\", \"why\": \"w\"{more}}}\n")
    };
    let all = ["allow", "modify", "step_up", "defer", "deny"];
    let outcomes = [Outcome::Allow, Outcome::Modify, Outcome::StepUp, Outcome::Defer, Outcome::Deny];
    for (i, expected) in outcomes.into_iter().enumerate() {
        let rego: String = all[..=i].iter().map(|n| rule(n)).collect();
        assert_eq!(with(&rego).outcome, expected);
    }
    denied(&with("x := 1"), "policy.default");
}

#[test]
fn whatever_goes_wrong_is_a_deny_that_says_so() {
    denied(&with("allow contains {\"rule\": \"a\"}"), "unexpected shape");
    denied(&with("allow contains \"yes\""), "unexpected shape");
    denied(&with("step_up contains {\"rule\": \"s\", \"why\": \"w\"}"), "names no approvers");
    denied(
        &with("allow contains {\"rule\": \"a\", \"why\": \"w\", \"approvals\": [{\"group\": \"g\", \"n\": 1}]}"),
        "say step_up",
    );
    denied(
        &with("step_up contains {\"rule\": \"a\", \"why\": \"w\", \"approvals\": [{\"any_of\": []}]}"),
        "any_of is empty",
    );
    denied(&with("allow contains {\"rule\": \"a\", \"why\": \"w\", \"distinct_from\": [\"the-moon\"]}"), "the-moon");
    denied(&with("allow contains {\"rule\": \"a\", \"why\": \"w\", \"must\": 1}"), "unexpected shape");
    denied(
        &with("allow contains {\"rule\": \"a\", \"why\": \"w\", \"veto\": {\"within_ms\": 0, \"groups\": [\"g\"]}}"),
        "veto",
    );
    let two = "modify contains {\"rule\": \"a\", \"why\": \"w\", \"set\": {\"ttl_s\": 60}}\nmodify contains {\"rule\": \"b\", \"why\": \"w\", \"set\": {\"ttl_s\": 61}}";
    denied(&with(two), "set ttl_s differently");
    denied(
        &with("modify contains {\"rule\": \"m\", \"why\": \"w\"}\nallow contains {\"rule\": \"a\", \"why\": \"w\"}"),
        "modify",
    );
    let error = "allow contains {\"rule\": \"a\", \"why\": \"w\"}\ndeny contains {\"rule\": \"d\", \"why\": \"w\"} if net.cidr_contains(input.proposal.operation, \"1.1.1.1\")";
    denied(&with(error), "policy.error");
}

#[test]
fn policy_cannot_read_clock_chance_or_machine() {
    let calls = ["time.now_ns() > 0", "rand.intn(\"x\", 2) >= 0", "uuid.rfc4122(\"x\") != \"\"", "opa.runtime() != 1"];
    for call in calls {
        let rego = format!("package cauldron.guardrail\nallow contains {{\"rule\": \"a\", \"why\": \"w\"}} if {call}");
        // Either the bundle does not load, or its evaluation is a deny; it never allows.
        if let Ok(engine) = Engine::new(&World::bundle(&rego)) {
            denied(&engine.evaluate(&input(json!({}))), "policy.error");
        }
    }
    let http = "package cauldron.guardrail\nallow contains {\"rule\": \"a\", \"why\": \"w\"} if http.send({\"url\": \"http://x\"})";
    if let Ok(engine) = Engine::new(&World::bundle(http)) {
        denied(&engine.evaluate(&input(json!({}))), "policy.error");
    }
}

#[test]
fn a_bundle_that_does_not_compile_names_the_file() {
    for rego in ["package cauldron.guardrail\nallow if {", "package cauldron.guardrail\ndeny := true"] {
        let refused = Engine::new(&World::bundle(rego)).expect_err(rego);
        assert_eq!(refused.class, CLASS, "{refused}");
    }
}

#[test]
fn two_files_of_one_package_are_refused() {
    let mut files = World::bundle("package cauldron.guardrail\nx := 1").files().clone();
    let manifest = r#"{"version":"t","classes":{"c/d":{"risk":"R1","files":["t.rego","u.rego"]}}}"#;
    files.insert("manifest.json".into(), manifest.as_bytes().to_vec());
    files.insert("u.rego".into(), b"package cauldron.guardrail\ny := 1".to_vec());
    let refused = Engine::new(&Bundle::new(files.clone()).expect("valid")).expect_err("one package, two files");
    assert!(refused.why.contains("another file"), "{refused}");
    files.insert("u.rego".into(), b"package\tcauldron.guardrail\ny := 1".to_vec());
    files.insert("t.rego".into(), b"package helper\nx := 1".to_vec());
    assert!(Engine::new(&Bundle::new(files).expect("valid")).is_err(), "an odd package line");
}

#[test]
fn engines_move_between_threads() {
    fn needs<T: Send + Sync + Clone>() {}
    needs::<Engine>();
}
