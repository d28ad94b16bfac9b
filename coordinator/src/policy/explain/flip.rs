//! What would have to be otherwise: the policy judged again on inputs that differ in one place.
//!
//! Only fields that the rules read are changed. Numbers move over the constants of rules and data, and the boundary is
//! found by halving; booleans are turned; members of lists are taken away.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Module, Ref, Rule, RuleHead, TokenKind};
use serde::Serialize;
use serde_json::Value;

use crate::bodies::{Evaluation, Outcome};
use crate::input::Input;
use crate::policy::Engine;
use crate::policy::words::{path, root, texts, words};

/// Evaluations that one explanation may take: a fraction of a second.
pub const RUNS_MAX: usize = 2_000;

/// One change of the input and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flip {
    /// The field, as a path below `input`.
    pub field: String,
    /// How it would have to be.
    pub otherwise: Otherwise,
    /// The outcome then.
    pub outcome: Outcome,
}

/// How a field would have to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// At most this number.
    AtMost(i64),
    /// At least this number.
    AtLeast(i64),
    /// This truth.
    Is(bool),
    /// Without this member.
    Without(Value),
}

impl std::fmt::Display for Flip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = &self.field;
        match &self.otherwise {
            Otherwise::AtMost(n) => write!(f, "{field} ≤ {n}"),
            Otherwise::AtLeast(n) => write!(f, "{field} ≥ {n}"),
            Otherwise::Is(truth) => write!(f, "{field} = {truth}"),
            Otherwise::Without(member) => write!(f, "{field} without {member}"),
        }
    }
}

/// Single changes that change the outcome, in the order of the fields' names.
pub(super) fn flips(
    engine: &Engine,
    input: &Input,
    was: &Evaluation,
    modules: &[Ref<Module>],
    data: &regorus::Value,
) -> Vec<Flip> {
    let mut constants = BTreeSet::new();
    let mut fields = BTreeSet::new();
    for module in modules {
        read(module, &mut fields, &mut constants);
    }
    numbers_of(data, &mut constants);
    let mut trial = Trial { engine, document: input.document(), was: was.outcome, runs: 0, flips: Vec::new() };
    for field in &fields {
        match at(trial.document, field) {
            Some(Value::Number(n)) => {
                if let Some(n) = n.as_i64() {
                    trial.number(field, n, &constants);
                }
            }
            Some(Value::Bool(truth)) => trial.truth(field, *truth),
            Some(Value::Array(members)) => trial.members(field, members),
            _ => {}
        }
    }
    trial.flips
}

struct Trial<'a> {
    engine: &'a Engine,
    document: &'a Value,
    was: Outcome,
    runs: usize,
    flips: Vec<Flip>,
}

impl Trial<'_> {
    /// The outcome when `field` has another value; None when that is an error, or when there were enough runs.
    fn outcome(&mut self, field: &[String], value: Value) -> Option<Outcome> {
        if self.runs >= RUNS_MAX {
            return None;
        }
        self.runs += 1;
        let mut document = self.document.clone();
        *at_mut(&mut document, field)? = value;
        let evaluation = self.engine.evaluate(&Input::from_document(document));
        let error = evaluation.rules.iter().any(|rule| rule.starts_with("policy.error"));
        (!error).then_some(evaluation.outcome)
    }

    fn tell(&mut self, field: &[String], otherwise: Otherwise, outcome: Outcome) {
        self.flips.push(Flip { field: field.join("."), otherwise, outcome });
    }

    /// The nearest boundary on each side.
    fn number(&mut self, field: &[String], value: i64, constants: &BTreeSet<i64>) {
        let near = |c: &i64| [c.saturating_sub(1), *c, c.saturating_add(1)];
        let below: BTreeSet<i64> = constants.iter().flat_map(near).filter(|c| *c < value).collect();
        let above: BTreeSet<i64> = constants.iter().flat_map(near).filter(|c| *c > value).collect();
        let down = self.boundary(field, value, below.into_iter().rev());
        let up = self.boundary(field, value, above.into_iter());
        for (found, otherwise) in [(down, Otherwise::AtMost as fn(i64) -> Otherwise), (up, Otherwise::AtLeast)] {
            if let Some((boundary, outcome)) = found {
                self.tell(field, otherwise(boundary), outcome);
            }
        }
    }

    /// The first value of `candidates` that changes the outcome, moved as near to `same` as it still does.
    fn boundary(
        &mut self,
        field: &[String],
        mut same: i64,
        candidates: impl Iterator<Item = i64>,
    ) -> Option<(i64, Outcome)> {
        let (mut other, mut outcome) = (None, self.was);
        for candidate in candidates {
            match self.outcome(field, candidate.into()) {
                Some(found) if found != self.was => {
                    (other, outcome) = (Some(candidate), found);
                    break;
                }
                Some(_) => same = candidate,
                None => {}
            }
        }
        let mut other = other?;
        while same.abs_diff(other) > 1 {
            let middle = same.midpoint(other);
            match self.outcome(field, middle.into()) {
                Some(found) if found == outcome => other = middle,
                Some(_) => same = middle,
                None => break,
            }
        }
        Some((other, outcome))
    }

    fn truth(&mut self, field: &[String], truth: bool) {
        if let Some(outcome) = self.outcome(field, (!truth).into()).filter(|found| *found != self.was) {
            self.tell(field, Otherwise::Is(!truth), outcome);
        }
    }

    fn members(&mut self, field: &[String], members: &[Value]) {
        for (n, member) in members.iter().enumerate() {
            let mut rest = members.to_vec();
            rest.remove(n);
            if let Some(outcome) = self.outcome(field, rest.into()).filter(|found| *found != self.was) {
                self.tell(field, Otherwise::Without(member.clone()), outcome);
            }
        }
    }
}

/// Collects the fields of the input that the rules name, themselves or by another name, and the numbers in their text.
fn read(module: &Module, fields: &mut BTreeSet<Vec<String>>, constants: &mut BTreeSet<i64>) {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::from([("input".to_owned(), Vec::new())]);
    for rule in &module.policy {
        if let Rule::Spec { head: RuleHead::Compr { refr, assign: Some(assign), .. }, bodies, .. } = rule.as_ref()
            && let Some(target) = path(&assign.value)
            && let Some((first, rest)) = target.split_first()
            && bodies.is_empty()
            && first == "input"
        {
            names.insert(root(refr).unwrap_or_default(), rest.to_vec());
        }
    }
    for (_, text) in texts(module) {
        let words = words(text).unwrap_or_default();
        let text_of = |n: usize| words.get(n).map(|word| word.1.text()).unwrap_or_default();
        for (n, word) in words.iter().enumerate() {
            if word.0 == TokenKind::Number {
                constants.extend(word.1.text().parse::<i64>());
            }
            let Some(start) = names.get(word.1.text()).filter(|_| n == 0 || text_of(n - 1) != ".") else { continue };
            let (mut field, mut next) = (start.clone(), n + 1);
            while text_of(next) == "." && words.get(next + 1).is_some_and(|w| w.0 == TokenKind::Ident) {
                field.push(text_of(next + 1).to_owned());
                next += 2;
            }
            fields.insert(field);
        }
    }
}

fn numbers_of(data: &regorus::Value, constants: &mut BTreeSet<i64>) {
    match data {
        regorus::Value::Number(_) => constants.extend(data.as_i64().ok()),
        regorus::Value::Array(items) => items.iter().for_each(|item| numbers_of(item, constants)),
        regorus::Value::Object(items) => items.values().for_each(|item| numbers_of(item, constants)),
        _ => {}
    }
}

fn at<'a>(document: &'a Value, field: &[String]) -> Option<&'a Value> {
    field.iter().try_fold(document, |value, name| value.get(name))
}

fn at_mut<'a>(document: &'a mut Value, field: &[String]) -> Option<&'a mut Value> {
    field.iter().try_fold(document, |value, name| value.get_mut(name))
}
