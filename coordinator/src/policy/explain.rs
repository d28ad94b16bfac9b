//! Why a policy says what it says: the rules that hold, the first condition of each that does not, and what would have to
//! be otherwise.

mod flip;

use std::collections::BTreeSet;

use regorus::Value;
use regorus::unstable::{Module, Ref, Rule, RuleHead};
use serde::Serialize;

pub use flip::{Flip, Otherwise, RUNS_MAX};

use super::Engine;
use super::compiled::value_of;
use super::index::SETS;
use super::words::root;
use crate::bodies::Evaluation;
use crate::input::Input;

/// An evaluation and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What the policy says.
    pub evaluation: Evaluation,
    /// Every rule of the outcome sets, in the order of the text.
    pub rules: Vec<Told>,
    /// Single changes of the input that would change the outcome.
    pub flips: Vec<Flip>,
}

/// What became of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// `deny`, `defer`, `modify`, `step_up` or `allow`.
    pub set: String,
    /// Where the rule begins.
    pub at: Place,
    /// Names of the elements that it adds; empty when it does not hold.
    pub adds: Vec<String>,
    /// The first condition that does not hold. None when the rule holds, or fails.
    pub stopped: Option<Place>,
    /// What the interpreter refuses, when it does.
    pub error: Option<String>,
}

/// A line of a bundle's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// What stands there.
    pub text: String,
}

impl Engine {
    /// Explains the evaluation of `input`. None when the policy does not judge its class.
    #[must_use]
    pub fn explain(&self, input: &Input) -> Option<Explanation> {
        let mut interpreter = self.classes.get(input.action_class())?.compiled.interpreter();
        let evaluation = self.evaluate(input);
        let modules: Vec<Ref<Module>> = interpreter.get_modules().clone();
        interpreter.set_enable_coverage(true);
        interpreter.set_input(value_of(input.document()));
        let mut rules = Vec::new();
        for module in &modules {
            for rule in module.policy.iter().filter(|rule| set_of(rule).is_some()) {
                // The epilogue's own rules are not the author's.
                if !never(rule) {
                    rules.push(tell(&mut interpreter, module, rule));
                }
            }
        }
        let flips = flip::flips(self, input, &evaluation, &modules, &interpreter.get_data());
        Some(Explanation { evaluation, rules, flips })
    }
}

fn set_of(rule: &Rule) -> Option<&'static str> {
    let Rule::Spec { head: RuleHead::Set { refr, .. }, .. } = rule else { return None };
    SETS.into_iter().find(|set| root(refr).as_deref() == Some(*set))
}

fn never(rule: &Rule) -> bool {
    let Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } = rule else { return false };
    matches!(key.as_ref(), regorus::unstable::Expr::String { value, .. } if *value == Value::from("never"))
}

fn tell(interpreter: &mut regorus::Engine, module: &Ref<Module>, rule: &Ref<Rule>) -> Told {
    let set = set_of(rule).unwrap_or_default();
    let source = &module.package.span.source;
    let place = |line: u32| {
        let text = source.contents().lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
        Place { file: source.file().clone(), line, text: text.trim().to_owned() }
    };
    let at = place(rule.span().line);
    let told = Told { set: set.to_owned(), at, adds: Vec::new(), stopped: None, error: None };
    interpreter.clear_coverage_data();
    let attempt = std::panic::AssertUnwindSafe(|| interpreter.eval_rule_in_module(module, rule, false));
    let data = match std::panic::catch_unwind(attempt) {
        Ok(Ok(data)) => data,
        Ok(Err(e)) => return Told { error: Some(super::shorten(&format!("{e:#}"))), ..told },
        Err(_) => return Told { error: Some(super::compiled::PANICKED.to_owned()), ..told },
    };
    let found = data["cauldron"]["guardrail"][set].as_set().map(|set| set.iter().map(name).collect::<Vec<_>>());
    match found {
        Ok(adds) if !adds.is_empty() => Told { adds, ..told },
        _ => Told { stopped: stopped(interpreter, rule).map(place), ..told },
    }
}

fn name(element: &Value) -> String {
    let field = |name: &str| element[name].as_string().map(ToString::to_string).ok();
    match (field("rule"), field("why")) {
        (Some(rule), Some(why)) => super::shorten(&format!("{rule}: {why}")),
        _ => super::shorten(&element.to_string()),
    }
}

/// The line of the last statement that was reached before the first that was not.
fn stopped(interpreter: &regorus::Engine, rule: &Rule) -> Option<u32> {
    let Rule::Spec { span, bodies, .. } = rule else { return None };
    let report = interpreter.get_coverage_report().ok()?;
    let reached: BTreeSet<u32> =
        report.files.into_iter().filter(|f| f.path == *span.source.file()).flat_map(|f| f.covered).collect();
    let mut last = None;
    for statement in bodies.first()?.query.stmts.iter() {
        if last.is_some() && !reached.contains(&statement.span.line) {
            return last;
        }
        last = Some(statement.span.line);
    }
    last
}

#[cfg(test)]
mod tests;
