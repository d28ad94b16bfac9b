//! Policies that misbehave: each ends in a deny, and the next evaluation is as good as the first.

use std::time::{Duration, Instant};

use serde_json::json;

use super::tests::{denied, input, with};
use super::*;
use crate::testkit::World;

const ALLOW: &str = "allow contains {\"rule\": \"a\", \"why\": \"w\"}";

/// The timer reads the clock now and then, and the machine may be busy.
const IN_TIME: Duration = Duration::from_millis(3 * EVALUATION_MS_MAX);

#[test]
fn an_endless_policy_is_a_deny_after_a_second() {
    let long = "count([1 | some x in n; some y in n; some z in n; x + y == z + 100000]) == 0";
    for rego in [
        // Alone, behind a condition, and among so many that they are judged at once.
        format!("n := numbers.range(1, 3000 * input.v)\n{ALLOW} if {{ {long} }}"),
        format!("n := numbers.range(1, 3000 * input.v)\n{ALLOW} if {{ input.v == 1; {long} }}"),
        format!("n := numbers.range(1, 3000 * input.v)\n{}", format!("{ALLOW} if {{ {long} }}\n").repeat(6)),
    ] {
        let engine = World::engine_with(&format!("package cauldron.guardrail\n{rego}"));
        let start = Instant::now();
        denied(&engine.evaluate(&input(json!({}))), "time limit");
        assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
    }
    let idle = format!("package cauldron.guardrail\nn := numbers.range(1, 3000)\n{ALLOW} if {{ {long} }}");
    let refused = Engine::new(&World::bundle(&idle)).expect_err("loading a bundle evaluates it on nothing");
    assert!(refused.why.contains("time limit"), "{refused}");
}

/// A list in memory grows only as fast as the interpreter walks, and the timer ends that.
#[test]
fn a_policy_that_collects_without_end_is_a_deny_and_takes_little_memory() {
    let rego = format!(
        "n := numbers.range(1, 3000 * input.v)\n\
         {ALLOW} if count([t | some x in n; some y in n; t := sprintf(\"%0100d\", [x * y])]) > 0"
    );
    let before = peak_mb();
    denied(&with(&rego), "time limit");
    assert!(peak_mb() - before < 1024, "{} MB", peak_mb() - before);
}

/// The most memory that this process has held.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

#[test]
fn one_call_cannot_fill_the_memory() {
    let mut doubled = String::from("t0 := \"abcdefgh\"\n");
    for n in 0..60 {
        doubled.push_str(&format!("t{} := concat(\"\", [t{n}, t{n}])\n", n + 1));
    }
    let mut lists = String::from("l0 := [1, 2]\n");
    for n in 0..60 {
        lists.push_str(&format!("l{} := array.concat(l{n}, l{n})\n", n + 1));
    }
    for rego in [
        format!("{ALLOW} if count(numbers.range(1, 1000000000000)) > 0"),
        format!("{ALLOW} if count(numbers.range(-9223372036854775808, 9223372036854775807)) > 0"),
        format!("{ALLOW} if count(numbers.range(1, 1e30)) > 0"),
        format!("{ALLOW} if count(numbers.range_step(1, 1000000000000, 1)) > 0"),
        format!("{ALLOW} if bits.lsh(1, 1000000000000) > 0"),
        format!("{ALLOW} if count(sprintf(\"%0999999999d\", [1])) > 0"),
        format!(
            "long := concat(\"\", [\"a\" | some _ in numbers.range(1, 9000)])\n{ALLOW} if count(replace(long, \"\", long)) > 0"
        ),
        format!(
            "long := concat(\"\", [\"a\" | some _ in numbers.range(1, 9000)])\n{ALLOW} if count(regex.replace(long, \"\", long)) > 0"
        ),
        format!("{doubled}{ALLOW} if count(t60) > 0"),
        format!("{lists}{ALLOW} if count(l60) > 0"),
    ] {
        denied_or_refused(&rego, "would make more than");
    }
    // What fits is made as ever.
    let fits = format!(
        "{ALLOW} if {{ count(numbers.range(10, 1)) == 10; concat(\",\", {{\"b\", \"a\"}}) == \"a,b\"; sprintf(\"%03d\", [7]) == \"007\" }}"
    );
    assert_eq!(with(&fits).outcome, Outcome::Allow, "{:?}", with(&fits));
}

#[test]
fn a_policy_that_goes_round_in_a_circle_is_refused_or_denied() {
    for rego in [
        format!("a if b\nb if a\n{ALLOW} if a"),
        format!("a if not b\nb if not a\n{ALLOW} if a"),
        format!("f(x) := f(x)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := g(x + 1)\ng(x) := f(x + 1)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := 1 if x == 1000000\nelse := f(x + 1)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := [y | some z in [x]; y := f(z)]\n{ALLOW} if f(1) == 1"),
        format!("f(x) := data.cauldron.guardrail.f(x)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := data[\"cauldron\"].guardrail.f(x)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := data.cauldron.guardrail[\"f\"](x)\n{ALLOW} if f(1) == 1"),
        format!("import data.cauldron.guardrail as us\nf(x) := us.f(x)\n{ALLOW} if f(1) == 1"),
        format!("a.f(x) := a.f(x)\n{ALLOW} if a.f(1) == 1"),
        format!("f(x) := r\nr := f(1)\n{ALLOW} if f(1) == 1"),
        format!("f(x) := count(x) with count as f\n{ALLOW} if f(1) == 1"),
        format!("{ALLOW} if count(allow) == 0"),
        format!("{ALLOW} if count(deny) == 0\ndeny contains {{\"rule\": \"d\", \"why\": \"w\"}} if count(allow) == 0"),
        format!("{ALLOW} if count(data.cauldron.guardrail.cauldron_verdict) == 0"),
    ] {
        denied_or_refused(&rego, "policy.error");
    }
}

/// regorus 0.14.1 takes a digit of another script for one of its own, and panics.
#[test]
fn a_panic_of_the_interpreter_is_a_deny_and_the_next_answer_is_right() {
    let rego = format!(
        "package cauldron.guardrail\n{ALLOW} if {{ input.v == 1; sprintf(\"%\u{663}d\", [input.v]) != \"\" }}\n{ALLOW} if input.v == 2"
    );
    let engine = World::engine_with(&rego);
    for _ in 0..3 {
        denied(&engine.evaluate(&input(json!({}))), "the policy engine panicked");
        assert_eq!(engine.evaluate(&input(json!({"v": 2}))).outcome, Outcome::Allow);
    }
}

#[test]
fn an_error_leaves_nothing_behind() {
    let rego = format!(
        "package cauldron.guardrail\n{ALLOW} if {{ some x in input.proposal.args; net.cidr_contains(\"10.0.0.0/8\", x) }}\n{ALLOW} if input.v == 2"
    );
    let engine = World::engine_with(&rego);
    for _ in 0..3 {
        denied(&engine.evaluate(&input(json!({}))), "policy.error");
        assert_eq!(engine.evaluate(&input(json!({"v": 2, "proposal": {"args": []}}))).outcome, Outcome::Allow);
    }
}

#[test]
fn nonsense_is_a_deny_that_says_so() {
    for element in
        ["\"yes\"", "1", "null", "[]", "{}", "{\"rule\": 1, \"why\": \"w\"}", "{\"rule\": \"a\", \"why\": null}"]
    {
        denied(&with(&format!("allow contains {element}")), "unexpected shape");
    }
    denied(
        &with("step_up contains {\"rule\": \"s\", \"why\": \"w\", \"approvals\": [{\"group\": \"g\", \"n\": -1}]}"),
        "unexpected shape",
    );
    for rego in ["allow := \"yes\"", "allow := [1]", "deny := false", "cauldron_verdict := {}"] {
        denied_or_refused(rego, "policy.");
    }
}

/// Some bundles are refused when they are loaded; what is loaded denies, with the reason.
#[track_caller]
fn denied_or_refused(rego: &str, why: &str) {
    if let Ok(engine) = Engine::new(&World::bundle(&format!("package cauldron.guardrail\n{rego}"))) {
        denied(&engine.evaluate(&input(json!({}))), why);
    }
}

/// Whatever is nested as deeply as a bundle has room for is refused, or denied, in words.
#[test]
fn depth_ends_in_words() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
    for (name, rego) in [
        ("parentheses", format!("x := {}\n{ALLOW} if x", deep("(", ")"))),
        ("lists", format!("x := {}\n{ALLOW} if x", deep("[", "]"))),
        ("objects", format!("x := {}\n{ALLOW} if x", deep("{\"a\": ", "}"))),
        ("minus", format!("x := {}\n{ALLOW} if x", deep("- ", ""))),
        ("sums left", format!("x := {}\n{ALLOW} if x", deep("(", " + 1)"))),
        ("lines", format!("x := 1{}\n{ALLOW} if x", " +\n1".repeat(20_000))),
        ("more lines", format!("x := 1{}\n{ALLOW} if x", "\n+ 1".repeat(20_000))),
        ("lists over lines", format!("x := {}\n{ALLOW} if x", deep("[\n", "\n]"))),
        ("not over lines", format!("x if {}\n{ALLOW} if x", deep("not\n", ""))),
        ("sums", format!("x := {}\n{ALLOW} if x", deep("1 + ", ""))),
        ("calls", format!("x := {}\n{ALLOW} if x", deep("abs(", ")"))),
        ("fields", format!("x := input{}\n{ALLOW} if x", ".a".repeat(20_000))),
        ("brackets", format!("x := input{}\n{ALLOW} if x", "[\"a\"]".repeat(12_000))),
        ("queries", format!("x := {}\n{ALLOW} if x", deep("[1 | ", "]"))),
        ("every", format!("{ALLOW} if {{ {} }}", "every x in [1] {\n".repeat(5_000) + "x" + &"}".repeat(5_000))),
        ("else", format!("x := 1 if false\n{}\n{ALLOW} if x", "else := 2 if false\n".repeat(3_000))),
        ("json", format!("x := json.unmarshal(`{}`)\n{ALLOW} if x", deep("[", "]"))),
        ("yaml", format!("x := yaml.unmarshal(`{}`)\n{ALLOW} if x", deep("[", "]"))),
        ("pattern", format!("x := regex.match(`{}`, \"a\")\n{ALLOW} if x", deep("(", ")"))),
        ("glob", format!("x := glob.match(`{}`, [], \"a\")\n{ALLOW} if x", deep("{", "}"))),
    ] {
        eprintln!("{name}");
        denied_or_refused(&rego, "policy.");
    }
}

/// Rules and functions that need one another in a row, short enough to be evaluated or refused.
#[test]
fn a_long_way_through_rules_ends_in_words() {
    let row = |n: usize, step: &dyn Fn(usize) -> String| (0..n).map(step).collect::<String>();
    for n in [10, 40, 100, 2_000] {
        let rules = row(n, &|i| format!("r{i} := r{} + 1\n", i + 1)) + &format!("r{n} := input.v\n{ALLOW} if r0 > 0");
        let functions = row(n, &|i| format!("f{i}(x) := f{}(x) + 1\n", i + 1))
            + &format!("f{n}(x) := x\n{ALLOW} if f0(input.v) > 0");
        let wide = row(n, &|i| format!("r{i} := [[[[r{}]]]][0][0][0][0]\n", i + 1))
            + &format!("r{n} := input.v\n{ALLOW} if r0 > 0");
        let circle =
            row(n, &|i| format!("r{i} := r{} + 1\n", i + 1)) + &format!("r{n} := r0 + input.v\n{ALLOW} if r0 > 0");
        for rego in [rules, functions, wide] {
            match Engine::new(&World::bundle(&format!("package cauldron.guardrail\n{rego}"))) {
                Ok(engine) => assert_eq!(engine.evaluate(&input(json!({}))).outcome, Outcome::Allow),
                Err(e) => assert!(n > 20 && e.why.contains("too many steps"), "{n}: {e}"),
            }
        }
        assert!(Engine::new(&World::bundle(&format!("package cauldron.guardrail\n{circle}"))).is_err());
    }
}
