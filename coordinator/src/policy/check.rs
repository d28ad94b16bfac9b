//! Runs a bundle's own test cases: rules named `test_…` in files named `…_test.rego`.

use std::collections::BTreeSet;

use super::Bundle;
use super::builtins::pure_engine;
use super::compiled::{add_file, package_of};

/// One test rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CaseResult {
    /// File and rule, `<file>:<rule>`.
    pub name: String,
    /// None when it held; otherwise what went wrong.
    pub failure: Option<String>,
}

/// Runs every test case of `bundle`. A test that is not true, or that fails to evaluate, is a failure.
#[must_use]
pub fn check(bundle: &Bundle) -> Vec<CaseResult> {
    let cases = bundle.files().iter().filter(|(name, _)| name.ends_with("_test.rego"));
    cases.flat_map(|(name, bytes)| check_file(bundle, name, bytes)).collect()
}

fn check_file(bundle: &Bundle, name: &str, bytes: &[u8]) -> Vec<CaseResult> {
    let case = |rule: &str, failure| CaseResult { name: format!("{name}:{rule}"), failure };
    let mut engine = pure_engine();
    let mut packages = BTreeSet::new();
    // Beside the file that it tests stand the other files of that file's class, as they will when it judges.
    let tested = name.replace("_test.rego", ".rego");
    let Some(class) = bundle.classes().values().find(|class| class.files.contains(&tested)) else {
        return vec![case("(all)", Some(format!("no class has a file {tested}, which this would test")))];
    };
    let files = class.files.iter().filter_map(|file| bundle.files().get_key_value(file));
    for (file, content) in files.chain([(&name.to_owned(), &bytes.to_vec())]) {
        if let Err(why) = add_file(&mut engine, &mut packages, file, content) {
            return vec![case(file, Some(why))];
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let package = package_of(&text);
    let rules = text.lines().filter(|l| l.starts_with("test_")).filter_map(|l| l.split_whitespace().next());
    rules
        .map(|rule| match engine.clone().eval_rule(format!("{package}.{rule}")) {
            Ok(value) if value == regorus::Value::from(true) => case(rule, None),
            Ok(_) => case(rule, Some("is not true".to_owned())),
            Err(e) => case(rule, Some(format!("{e:#}"))),
        })
        .collect()
}
