use serde_json::{Value, json};

use crate::policy::PolicyError;
use crate::policy::compiled::Compiled;
use crate::testkit::World;

const CLASS: &str = "security.address.block/blocklist";

fn compile(rego: &str) -> Result<Compiled, PolicyError> {
    let bundle = World::bundle(&format!("package cauldron.guardrail\n{rego}"));
    Compiled::new(&bundle, CLASS, &bundle.classes()[CLASS])
}

/// The rules that are left to the interpreter.
#[track_caller]
fn candidates(rego: &str, input: Value) -> usize {
    compile(rego).expect(rego).candidates(&input).expect("an index")
}

fn inputs() -> Vec<Value> {
    vec![
        json!({}),
        json!({"n": 5, "text": "abc", "yes": true, "no": false, "list": ["a", "b"], "map": {"k": "a"}, "nothing": null}),
        json!({"n": "5", "text": 5, "yes": "true", "no": null, "list": "ab", "map": ["k"]}),
        json!({"n": -1, "text": "", "yes": false, "no": true, "list": [], "map": {}}),
        json!({"n": 9_000_000_000_000_000_000_u64, "text": "10.1.2.3", "list": [1, 2, 3], "map": {"k": 5}}),
        json!({"n": [5], "text": {"a": 1}, "list": {"x": "a", "y": 5}, "yes": [], "map": null}),
    ]
}

const STATEMENTS: [&str; 30] = [
    "input.n > 4",
    "input.n == 5",
    "5 >= input.n",
    "input.n != \"5\"",
    "not input.n > 4",
    "input.yes",
    "not input.no",
    "input.nothing",
    "input.nothing == null",
    "input[\"text\"] == \"abc\"",
    "input.map.k in {\"a\", 5}",
    "input.n in input.list",
    "\"a\" in input.map",
    "not \"a\" in input.list",
    "count(input.list) > 0",
    "startswith(input.text, \"a\")",
    "net.cidr_contains(\"10.0.0.0/8\", input.text)",
    "not net.cidr_contains(\"10.0.0.0/8\", input.text)",
    "lower(input.text) == input.map.k",
    "args.k == \"a\"",
    "args.k in limits.words",
    "input.n <= limits.most",
    "helper",
    "not helper",
    "other",
    "data.address_block.missing > 1",
    "false",
    "x := input.n + 1; x > 5",
    "some y in input.list; y == \"a\"",
    "every z in input.list { z != 1 }",
];

const NAMES: &str = "
args := input.map
limits := data.limits
helper if { input.n > 1; input.yes }
helper if { startswith(input.text, \"1\") }
other if { not helper; input.no == false }
";

/// The interpreter is the reference: with the index before it nothing changes, errors included.
#[test]
fn the_index_changes_no_answer() {
    let (mut decided, mut answered) = (0, 0);
    // A walk through the pairs that meets each statement first and second several times.
    for step in 0..300 {
        let (first, second) = (STATEMENTS[step * 7 % 30], STATEMENTS[(step * 11 + step / 30) % 30]);
        let rego = format!(
            "{NAMES}\nallow contains {{\"rule\": \"a\", \"why\": \"w\"}} if {{\n{first}\n{second}\n}}\n\
             deny contains {{\"rule\": \"d\", \"why\": \"w\"}} if {{\n{second}\n{first}\n}}\n"
        );
        // One name cannot be defined twice.
        let Ok(indexed) = compile(&rego) else { continue };
        let plain = indexed.without_index();
        for input in inputs() {
            let (got, want) = (indexed.run(&input), plain.run(&input));
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{first}; {second} for {input}");
            answered += usize::from(want.is_ok());
            decided += usize::from(indexed.candidates(&input) == Some(0));
        }
    }
    assert!(answered > 600 && decided > 400, "the hard places were reached: {answered} answers, {decided} decided");
}

#[test]
fn only_rules_that_may_hold_are_left_over() {
    let rules =
        "deny contains 1 if { input.n > 3; input.text == \"a\" }\ndeny contains 2 if input.n < 3\ndeny contains 3";
    assert_eq!(candidates(rules, json!({"n": 4, "text": "a"})), 2);
    assert_eq!(candidates(rules, json!({"n": 4, "text": "b"})), 1);
    assert_eq!(candidates(rules, json!({"n": 2})), 2);
    assert_eq!(candidates(&format!("{NAMES}\ndeny contains 1 if not helper"), json!({"n": 2, "yes": true})), 0);
}

#[test]
fn a_builtin_that_refuses_leaves_its_rule_to_the_interpreter() {
    let rule = "deny contains 1 if { startswith(input.text, \"a\"); input.n > 3 }";
    assert_eq!(candidates(rule, json!({"text": "b"})), 0);
    assert_eq!(candidates(rule, json!({"text": 5})), 1);
}

/// Each gives `args` another meaning in one rule: the index must not take it for the module's.
#[test]
fn a_name_with_another_meaning_is_left_to_the_interpreter() {
    let mut compiled = 0;
    for body in [
        "args := {\"k\": 1}\nargs.k == 1",
        "args.k == 1\nargs = {\"k\": 1}",
        "some args in [{\"k\": 1}]\nargs.k == 1",
        "some args\nargs.k == 1\nargs = {\"k\": 1}",
        "args.k == 1\n[args, _] = [{\"k\": 1}, 2]",
        "args.k == 1\nsome i, args in [{\"k\": 1}]",
        "every args in [{\"k\": 1}] { args.k == 1 }",
        "args.k == 1 with input as {\"map\": {\"k\": 1}}",
    ] {
        let rego = format!("{NAMES}\nallow contains {{\"rule\": \"a\", \"why\": \"w\"}} if {{\n{body}\n}}");
        // The compiler refuses some of them, which is as well.
        let Ok(indexed) = compile(&rego) else { continue };
        let plain = indexed.without_index();
        compiled += 1;
        for input in [json!({"map": {"k": 2}}), json!({"map": {"k": 1}}), json!({})] {
            assert_eq!(format!("{:?}", indexed.run(&input)), format!("{:?}", plain.run(&input)), "{body}: {input}");
        }
    }
    assert!(compiled >= 3, "{compiled}");
}

#[test]
fn forms_that_are_not_understood_make_no_index() {
    for rego in ["deny contains 1 if { input.n } else := 2 if { true }", "deny[x] if { x := 1 }"] {
        if let Ok(compiled) = compile(rego) {
            assert_eq!(compiled.candidates(&json!({})), None, "{rego}");
        }
    }
}

/// A helper that names itself, and helpers that name each other many times over, are read in no time.
#[test]
fn helpers_are_read_once() {
    let mut rego = String::from("deny contains 1 if h0\nh30 if input.n\nown if own\ndeny contains 2 if own\n");
    for n in 0..30 {
        let next = format!("h{}", n + 1);
        rego.push_str(&format!("h{n} if {{\n{next}\n{next}\n{next}\n}}\n"));
    }
    let _ = compile(&rego);
}
