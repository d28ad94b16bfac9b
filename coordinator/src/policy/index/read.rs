//! Reads the conditions out of the parsed modules of a class.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Value;
use regorus::unstable::{BUILTINS, Expr, Literal, LiteralStmt, Module, Ref, Rule, RuleHead, Span};

use super::{Call, Index, Indexed, SETS, Term, Test};
use crate::policy::builtins::{bounded, masked};
use crate::policy::words::{path, rebound, root, texts};

const GUARDRAIL: [&str; 2] = ["cauldron", "guardrail"];
/// Builtins that the interpreter treats in a way of its own.
const SPECIAL: [&str; 3] = ["print", "trace", "walk"];
/// Terms within terms. Rules of people need four.
const DEPTH_MAX: usize = 16;

impl Index {
    /// Reads `modules` beside the bundle's `data`. None where rules of the sets could come from elsewhere, or have a
    /// form that is not understood.
    pub(in crate::policy) fn read(modules: &[Ref<Module>], data: &Value) -> Option<Self> {
        let mut guardrail = None;
        let mut packages = BTreeSet::new();
        for module in modules {
            let package = path(&module.package.refr)?;
            match package.first().map(String::as_str) {
                Some("cauldron") if package == GUARDRAIL && guardrail.is_none() => guardrail = Some(module),
                // A package above or below the guardrail's can add to its sets.
                Some("cauldron") | None => return None,
                Some(root) => _ = packages.insert(root.to_owned()),
            }
        }
        let module = guardrail?;
        packages.insert("cauldron".to_owned());
        if data[&Value::from("cauldron")] != Value::Undefined {
            return None;
        }
        let index = Self { fields: Vec::new(), tests: Vec::new(), rules: Vec::new() };
        let mut reader =
            Reader { index, data, packages, names: definitions(module), helpers: BTreeMap::new(), depth: 0 };
        for (rule, text) in texts(module) {
            reader.rule(module, rule, text)?;
        }
        // In the order of the verdict, so that of several errors the same one is told.
        reader.index.rules.sort_by_key(|rule| rule.set);
        Some(reader.index)
    }
}

struct Reader<'a> {
    index: Index,
    data: &'a Value,
    /// First parts of the packages' names: below them lie rules, not data.
    packages: BTreeSet<String>,
    /// What the names of the module stand for.
    names: BTreeMap<String, Vec<Definition>>,
    /// What each helper came to; None where it is not understood, and while it is read: it may name itself.
    helpers: BTreeMap<String, Option<Term>>,
    depth: usize,
}

/// One of the places that give a name its meaning.
enum Definition {
    Rule(Ref<Rule>, String),
    Import,
}

/// How names are used at the place that is read.
type Rebound = BTreeSet<String>;

impl Reader<'_> {
    /// None when the rule belongs to an outcome set in a form that is not understood.
    fn rule(&mut self, module: &Ref<Module>, rule: &Ref<Rule>, text: &str) -> Option<()> {
        let refr = match rule.as_ref() {
            Rule::Spec { head, .. } => head_ref(head),
            Rule::Default { refr, .. } => refr,
        };
        let Some(set) = SETS.iter().position(|set| root(refr).as_deref() == Some(set)) else { return Some(()) };
        let Rule::Spec { head: RuleHead::Set { refr, .. }, bodies, .. } = rule.as_ref() else { return None };
        if !matches!(refr.as_ref(), Expr::Var { .. }) || bodies.len() > 1 {
            return None;
        }
        let mut tests = Vec::new();
        if let Some(body) = bodies.first() {
            if body.is_else || body.assign.is_some() {
                return None;
            }
            let rebound = rebound(text);
            for statement in &body.query.stmts {
                let Some(test) = self.test(statement, &rebound) else { break };
                tests.push(test);
            }
        }
        self.index.rules.push(Indexed { set, module: module.clone(), rule: rule.clone(), tests });
        Some(())
    }

    fn test(&mut self, statement: &LiteralStmt, rebound: &Rebound) -> Option<usize> {
        if !statement.with_mods.is_empty() {
            return None;
        }
        let (negated, expr) = match &statement.literal {
            Literal::Expr { expr, .. } => (false, expr),
            Literal::NotExpr { expr, .. } => (true, expr),
            _ => return None,
        };
        let test = Test { negated, term: self.term(expr, rebound)? };
        let known = self.index.tests.iter().position(|t| *t == test);
        Some(known.unwrap_or_else(|| {
            self.index.tests.push(test);
            self.index.tests.len() - 1
        }))
    }

    fn term(&mut self, expr: &Expr, rebound: &Rebound) -> Option<Term> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let term = self.term_within(expr, rebound);
        self.depth -= 1;
        term
    }

    fn term_within(&mut self, expr: &Expr, rebound: &Rebound) -> Option<Term> {
        if let Some(value) = constant(expr) {
            return Some(Term::Fixed(value));
        }
        match expr {
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let (left, right) = (self.term(lhs, rebound)?, self.term(rhs, rebound)?);
                Some(Term::Compare(op.clone(), left.into(), right.into()))
            }
            Expr::Membership { key: None, value, collection, .. } => {
                let (wanted, among) = (self.term(value, rebound)?, self.term(collection, rebound)?);
                Some(Term::Among(wanted.into(), among.into()))
            }
            Expr::Call { span, fcn, params, .. } => self.call(span, fcn, params, rebound),
            _ => {
                let names = path(expr)?;
                if rebound.contains(names.first()?) { None } else { self.named(names) }
            }
        }
    }

    fn call(&mut self, span: &Span, fcn: &Expr, params: &[Ref<Expr>], rebound: &Rebound) -> Option<Term> {
        let names = path(fcn)?;
        let wanted = names.join(".");
        let mut special = SPECIAL.into_iter().chain(masked()).chain(bounded());
        if special.any(|name| name == wanted) || self.names.contains_key(names.first()?) {
            return None;
        }
        let (name, builtin) = BUILTINS.get_key_value(wanted.as_str())?;
        if usize::from(builtin.1) != params.len() {
            return None;
        }
        let args = params.iter().map(|param| self.term(param, rebound)).collect::<Option<_>>()?;
        Some(Term::Call(Call { name, builtin: *builtin, args, span: span.clone(), params: params.to_vec() }))
    }

    /// What a path of names stands for in the module.
    fn named(&mut self, mut names: Vec<String>) -> Option<Term> {
        let first = names.first()?.clone();
        match self.names.get(&first) {
            None if first == "input" => Some(self.field(&names)),
            None if first == "data" => {
                // Data is fixed when the bundle is loaded; what rules say is not.
                let plain = names.get(1).is_some_and(|name| !self.packages.contains(name));
                let value = names.iter().skip(1).fold(self.data, |value, name| &value[&Value::from(name.as_str())]);
                plain.then(|| Term::Fixed(value.clone()))
            }
            None => None,
            Some(definitions) => {
                if let [Definition::Rule(rule, _)] = definitions.as_slice()
                    && let Some(target) = alias(rule)
                {
                    // A name for a name could go round in a circle.
                    let plain = ["input", "data"].contains(&target.first()?.as_str());
                    names.splice(..1, target);
                    return if plain && !self.names.contains_key(names.first()?) { self.named(names) } else { None };
                }
                let rules: Option<Vec<(Ref<Rule>, String)>> = definitions.iter().map(Definition::rule).collect();
                if names.len() > 1 {
                    return None;
                }
                if let Some(known) = self.helpers.get(&first) {
                    return known.clone();
                }
                self.helpers.insert(first.clone(), None);
                let helper = self.helper(&rules?);
                self.helpers.insert(first, helper.clone());
                helper
            }
        }
    }

    /// Rules that are true or undefined, when every statement of them is understood.
    fn helper(&mut self, rules: &[(Ref<Rule>, String)]) -> Option<Term> {
        let mut all = Vec::new();
        for (rule, text) in rules {
            let Rule::Spec { head: RuleHead::Compr { refr, assign: None, .. }, bodies, .. } = rule.as_ref() else {
                return None;
            };
            let [body] = bodies.as_slice() else { return None };
            if body.is_else || body.assign.is_some() || !matches!(refr.as_ref(), Expr::Var { .. }) {
                return None;
            }
            // The name of the rule stands in its head, where it gives it no other meaning in the body.
            let mut rebound = rebound(text);
            rebound.remove(&root(refr)?);
            let tests = body.query.stmts.iter().map(|statement| self.test(statement, &rebound));
            all.push(tests.collect::<Option<_>>()?);
        }
        Some(Term::Helper(all))
    }

    fn field(&mut self, names: &[String]) -> Term {
        let keys: Vec<Value> = names.iter().skip(1).map(|name| Value::from(name.as_str())).collect();
        let known = self.index.fields.iter().position(|field| *field == keys);
        Term::Field(known.unwrap_or_else(|| {
            self.index.fields.push(keys);
            self.index.fields.len() - 1
        }))
    }
}

impl Definition {
    fn rule(&self) -> Option<(Ref<Rule>, String)> {
        match self {
            Self::Rule(rule, text) => Some((rule.clone(), text.clone())),
            Self::Import => None,
        }
    }
}

fn definitions(module: &Module) -> BTreeMap<String, Vec<Definition>> {
    let mut names: BTreeMap<String, Vec<Definition>> = BTreeMap::new();
    for (rule, text) in texts(module) {
        let refr = match rule.as_ref() {
            Rule::Spec { head, .. } => head_ref(head),
            Rule::Default { refr, .. } => refr,
        };
        names.entry(root(refr).unwrap_or_default()).or_default().push(Definition::Rule(rule.clone(), text.to_owned()));
    }
    for import in &module.imports {
        let last = path(&import.refr).and_then(|p| p.last().cloned()).unwrap_or_default();
        let name = import.r#as.as_ref().map_or(last, |span| span.text().to_owned());
        names.entry(name).or_default().push(Definition::Import);
    }
    names
}

/// The path that a rule is only another name for: `args := input.proposal.args`.
fn alias(rule: &Rule) -> Option<Vec<String>> {
    match rule {
        Rule::Spec { head: RuleHead::Compr { refr, assign: Some(assign), .. }, bodies, .. }
            if bodies.is_empty() && matches!(refr.as_ref(), Expr::Var { .. }) =>
        {
            path(&assign.value)
        }
        _ => None,
    }
}

fn head_ref(head: &RuleHead) -> &Ref<Expr> {
    match head {
        RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
    }
}

fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. } => Some(value.clone()),
        Expr::Null { .. } => Some(Value::Null),
        Expr::Set { items, .. } => {
            let items: Option<BTreeSet<Value>> = items.iter().map(|item| constant(item)).collect();
            Some(Value::from(items?))
        }
        Expr::Array { items, .. } => {
            let items: Option<Vec<Value>> = items.iter().map(|item| constant(item)).collect();
            Some(Value::from(items?))
        }
        _ => None,
    }
}
