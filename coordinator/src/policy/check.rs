//! Runs a bundle's own test cases: rules named `test_…` in files named `…_test.rego`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::builtins::pure_engine;
use super::compiled::{PANICKED, add_file, package_of};
use super::{Bundle, recursion};

/// One test rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CaseResult {
    /// File and rule, `<file>:<rule>`.
    pub name: String,
    /// None when it held; otherwise what went wrong.
    pub failure: Option<String>,
}

/// Runs every test case of `bundle`. A test that is not true, or that fails to evaluate, is a failure.
///
/// `x_test.rego` is run beside the files of each class that names `x.rego`; where none does, beside all files.
#[must_use]
pub fn check(bundle: &Bundle) -> Vec<CaseResult> {
    let mut results = Vec::new();
    for (name, bytes) in bundle.files().iter().filter(|(name, _)| name.ends_with(TEST)) {
        let tested = tested_by(name);
        let classes: Vec<_> = bundle.classes().values().filter(|class| class.files.contains(&tested)).collect();
        for class in &classes {
            let files = class.files.iter().filter_map(|file| bundle.files().get_key_value(file));
            results.extend(check_file(files, name, bytes));
        }
        if classes.is_empty() {
            let files = bundle.files().iter();
            let others = files.filter(|(n, _)| n.as_str() != super::MANIFEST && !n.ends_with(TEST) && n.contains('.'));
            results.extend(check_file(others, name, bytes));
        }
    }
    results
}

/// The classes of which no file has a test beside it.
pub fn untested(bundle: &Bundle) -> impl Iterator<Item = &str> {
    let tested: BTreeSet<String> = bundle.files().keys().filter(|n| n.ends_with(TEST)).map(|n| tested_by(n)).collect();
    let classes = bundle.classes().iter();
    classes.filter(move |(_, class)| !class.files.iter().any(|f| tested.contains(f))).map(|(name, _)| name.as_str())
}

/// How the names of files with tests end.
const TEST: &str = "_test.rego";

fn tested_by(test: &str) -> String {
    format!("{}.rego", test.trim_end_matches(TEST))
}

fn check_file<'a>(
    files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>,
    name: &'a String,
    bytes: &'a Vec<u8>,
) -> Vec<CaseResult> {
    let case = |rule: &str, failure| CaseResult { name: format!("{name}:{rule}"), failure };
    let mut engine = pure_engine();
    let mut packages = BTreeSet::new();
    for (file, content) in files.chain([(name, bytes)]) {
        if let Err(why) = add_file(&mut engine, &mut packages, file, content) {
            return vec![case(file, Some(why))];
        }
    }
    if let Err(why) = recursion::check(engine.get_modules()) {
        return vec![case("(all)", Some(why))];
    }
    let text = String::from_utf8_lossy(bytes);
    let package = package_of(&text);
    let rules = text.lines().filter(|l| l.starts_with("test_")).filter_map(|l| l.split_whitespace().next());
    let run = |rule: &str| {
        let attempt = AssertUnwindSafe(|| engine.clone().eval_rule(format!("{package}.{rule}")));
        match catch_unwind(attempt) {
            Ok(Ok(value)) if value == regorus::Value::from(true) => None,
            Ok(Ok(_)) => Some("is not true".to_owned()),
            Ok(Err(e)) => Some(format!("{e:#}")),
            Err(_) => Some(PANICKED.to_owned()),
        }
    };
    rules.map(|rule| case(rule, run(rule))).collect()
}
