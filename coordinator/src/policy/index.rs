//! Which rules of a class can hold at all: conditions on plain input, decided before the interpreter runs.
//!
//! A rule's *conditions* are the first statements of its body that are made of fields of `input`, fields of the bundle's
//! data, constants, comparisons, calls of pure builtins, and names that stand for such things. The interpreter evaluates
//! them first and in the order of the text, so a rule with a condition that does not hold adds nothing and reaches no
//! later statement. What is not understood here ends the conditions of its rule, or makes no index at all; what a builtin
//! refuses is not decided here. The interpreter judges then, as it judges every rule whose conditions hold.

mod read;

use std::borrow::Cow;

use regorus::Value;
use regorus::unstable::{BoolOp, BuiltinFcn, Expr, Module, Ref, Rule, Span};

/// The outcome sets of a guardrail, strictest first.
pub(super) const SETS: [&str; 6] = ["deny", "defer", "modify", "step_up", "allow", "classify"];

/// The conditions of every rule of the outcome sets.
pub(super) struct Index {
    /// Each distinct field of the input, as keys from its root.
    fields: Vec<Vec<Value>>,
    tests: Vec<Test>,
    rules: Vec<Indexed>,
}

/// One rule of an outcome set.
pub(super) struct Indexed {
    /// Which of [`SETS`].
    pub(super) set: usize,
    /// Where it stands.
    pub(super) module: Ref<Module>,
    /// The rule.
    pub(super) rule: Ref<Rule>,
    tests: Vec<usize>,
}

#[derive(Clone, PartialEq)]
struct Test {
    /// `not …`
    negated: bool,
    term: Term,
}

#[derive(Clone, PartialEq)]
enum Term {
    /// A field of the input, by its place in [`Index::fields`].
    Field(usize),
    Fixed(Value),
    Compare(BoolOp, Box<Term>, Box<Term>),
    /// `… in …`
    Among(Box<Term>, Box<Term>),
    Call(Call),
    /// A rule that is true when the tests of one of its bodies hold.
    Helper(Vec<Vec<usize>>),
}

/// A call of a builtin that needs nothing but its arguments.
#[derive(Clone)]
struct Call {
    name: &'static str,
    builtin: BuiltinFcn,
    args: Vec<Term>,
    /// Where it stands: the builtin wants it for its messages.
    span: Span,
    params: Vec<Ref<Expr>>,
}

/// Only the interpreter can tell.
#[derive(Clone, Copy)]
struct Undecided;

/// One evaluation.
struct Now<'a> {
    fields: Vec<&'a Value>,
    /// What is known of each test.
    known: Vec<Option<Result<bool, Undecided>>>,
}

impl Index {
    /// The rules that may hold for `input`, set by set.
    pub(super) fn candidates(&self, input: &Value) -> Vec<&Indexed> {
        let fields = self.fields.iter().map(|keys| keys.iter().fold(input, |value, key| &value[key])).collect();
        let mut now = Now { fields, known: vec![None; self.tests.len()] };
        self.rules.iter().filter(|rule| self.all(&rule.tests, &mut now).unwrap_or(true)).collect()
    }

    /// Whether all hold; what follows the first that does not is not looked at.
    fn all<'a>(&'a self, tests: &'a [usize], now: &mut Now<'a>) -> Result<bool, Undecided> {
        for test in tests {
            if !self.holds(*test, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As the interpreter judges a statement: what is undefined does not hold, and neither does `false`.
    fn holds<'a>(&'a self, place: usize, now: &mut Now<'a>) -> Result<bool, Undecided> {
        if let Some(known) = now.known[place] {
            return known;
        }
        let test = &self.tests[place];
        let value = self.value(&test.term, now);
        let holds = value.map(|value| !matches!(*value, Value::Undefined | Value::Bool(false)) != test.negated);
        now.known[place] = Some(holds);
        holds
    }

    fn value<'a>(&'a self, term: &'a Term, now: &mut Now<'a>) -> Result<Cow<'a, Value>, Undecided> {
        let own = |value: bool| Ok(Cow::Owned(Value::Bool(value)));
        match term {
            Term::Field(place) => Ok(Cow::Borrowed(now.fields[*place])),
            Term::Fixed(value) => Ok(Cow::Borrowed(value)),
            Term::Compare(op, left, right) => {
                let (left, right) = (self.value(left, now)?, self.value(right, now)?);
                if *left == Value::Undefined || *right == Value::Undefined {
                    return Ok(Cow::Owned(Value::Undefined));
                }
                own(match op {
                    BoolOp::Eq => left == right,
                    BoolOp::Ne => left != right,
                    BoolOp::Lt => left < right,
                    BoolOp::Le => left <= right,
                    BoolOp::Gt => left > right,
                    BoolOp::Ge => left >= right,
                })
            }
            Term::Among(wanted, collection) => {
                let (wanted, collection) = (self.value(wanted, now)?, self.value(collection, now)?);
                own(match &*collection {
                    Value::Array(items) => items.contains(&wanted),
                    Value::Set(items) => items.contains(&wanted),
                    Value::Object(items) => items.values().any(|item| *item == *wanted),
                    _ => false,
                })
            }
            Term::Call(call) => {
                let args = call.args.iter().map(|arg| self.value(arg, now).map(Cow::into_owned));
                let args = args.collect::<Result<Vec<_>, _>>()?;
                if args.contains(&Value::Undefined) {
                    return Ok(Cow::Owned(Value::Undefined));
                }
                let answer = (call.builtin.0)(&call.span, &call.params, &args, true);
                answer.map(Cow::Owned).map_err(|_| Undecided)
            }
            // Every definition is evaluated: one that fails makes the whole fail, whatever the others say.
            Term::Helper(bodies) => {
                let mut holds = false;
                for body in bodies {
                    holds |= self.all(body, now)?;
                }
                Ok(Cow::Owned(if holds { Value::Bool(true) } else { Value::Undefined }))
            }
        }
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.args == other.args
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fields, tests, rules) = (self.fields.len(), self.tests.len(), self.rules.len());
        f.debug_struct("Index").field("fields", &fields).field("tests", &tests).field("rules", &rules).finish()
    }
}

#[cfg(test)]
mod tests;
