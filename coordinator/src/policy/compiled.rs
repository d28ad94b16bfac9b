//! One action class, ready to judge.
//!
//! Rules are found by [`Index`]; what it leaves over is judged by the interpreter, rule by rule while that is few, else
//! all at once. Interpreters are prepared when the bundle is loaded and handed from evaluation to evaluation.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use regorus::Value;

use super::builtins::{EVALUATION_MS_MAX, limit_time, pure_engine};
use super::index::{Index, Indexed, SETS};
use super::{Bundle, Class, PolicyError, Verdict, recursion, shorten, words};

const PACKAGE: &str = "data.cauldron.guardrail";
const VERDICT: &str = "data.cauldron.guardrail.cauldron_verdict";
/// Rules that are judged one by one. Each costs about as much as six that are judged with all others.
const ONE_BY_ONE_MAX: usize = 4;
/// Expressions within expressions. People write ten; the stack of a thread of two megabytes bears a few hundred.
const DEPTH_MAX: usize = 100;
/// Interpreters kept between evaluations: as many as threads that judge at once on a large machine.
const IDLE_MAX: usize = 16;

/// Appended to the guardrail module: makes every partial rule exist and gathers them; the combination itself is code.
/// It must be the same module: regorus 0.14.1 loses helper rules when two modules share a package and a third reads it
/// (`not helper` then holds although `helper` is true), which is also why [`add_file`] refuses such bundles.
const EPILOGUE: &str = "
deny contains \"never\" if false
defer contains \"never\" if false
modify contains \"never\" if false
step_up contains \"never\" if false
allow contains \"never\" if false
classify contains \"never\" if false
cauldron_verdict := {\"deny\": deny, \"defer\": defer, \"modify\": modify, \"step_up\": step_up, \"allow\": allow, \"classify\": classify}
";

/// The rules of one class, compiled. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Compiled(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Never evaluates: a clone of it is a fresh interpreter.
    prepared: regorus::Engine,
    index: Option<Index>,
    idle: Mutex<Vec<regorus::Engine>>,
}

impl Compiled {
    /// Compiles the files of `class`.
    ///
    /// # Errors
    /// [`PolicyError`] for the first file that does not compile.
    pub(super) fn new(bundle: &Bundle, name: &str, class: &Class) -> Result<Self, PolicyError> {
        let refused =
            |file: &str, why: String| PolicyError { class: name.into(), file: file.into(), why: shorten(&why) };
        let mut engine = pure_engine();
        let mut packages = BTreeSet::new();
        for file in &class.files {
            let bytes = bundle.files().get(file).map(Vec::as_slice).unwrap_or_default();
            add_file(&mut engine, &mut packages, file, bytes).map_err(|why| refused(file, why))?;
        }
        recursion::check(engine.get_modules()).map_err(|why| refused("(all)", why))?;
        // Evaluating nothing forces the analysis of every rule, so that mistakes show when a bundle is loaded.
        engine.set_input(Value::new_object());
        let first = catch_unwind(AssertUnwindSafe(|| engine.eval_rule(VERDICT.to_owned())));
        first
            .unwrap_or_else(|_| Err(std::io::Error::other(PANICKED).into()))
            .map_err(|e| refused("(all)", format!("{e:#}")))?;
        let data = engine.get_data();
        let index = Index::read(engine.get_modules(), &data);
        Ok(Self(Arc::new(Shared { prepared: engine, index, idle: Mutex::new(Vec::new()) })))
    }

    /// What the rules say to `input`, before combination.
    ///
    /// # Errors
    /// Why there is no answer, as a sentence.
    pub(super) fn run(&self, input: &serde_json::Value) -> Result<Verdict, String> {
        let idle = self.idle().pop();
        let mut engine = idle.unwrap_or_else(|| self.0.prepared.clone());
        // A bug in the interpreter must not take the node down with it. After a panic or an error the interpreter is
        // dropped: it may have stopped half way.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.judge(&mut engine, value_of(input))));
        let verdict = verdict.unwrap_or_else(|_| Err(PANICKED.to_owned()))?;
        engine.set_input(Value::Undefined);
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(engine);
        }
        Ok(verdict)
    }

    /// A fresh interpreter of the rules.
    pub(super) fn interpreter(&self) -> regorus::Engine {
        self.0.prepared.clone()
    }

    /// The same rules, judged by the interpreter alone.
    #[cfg(test)]
    pub(super) fn without_index(&self) -> Self {
        Self(Arc::new(Shared { prepared: self.0.prepared.clone(), index: None, idle: Mutex::default() }))
    }

    /// How many rules are left to the interpreter; None without an index.
    #[cfg(test)]
    pub(super) fn candidates(&self, input: &serde_json::Value) -> Option<usize> {
        self.0.index.as_ref().map(|index| index.candidates(&value_of(input)).len())
    }

    fn judge(&self, engine: &mut regorus::Engine, input: Value) -> Result<Verdict, String> {
        let candidates = self.0.index.as_ref().map(|index| index.candidates(&input));
        engine.set_input(input);
        let answer = match candidates {
            Some(few) if few.len() <= ONE_BY_ONE_MAX => one_by_one(engine, &few)?,
            _ => engine.eval_rule(VERDICT.to_owned()).map_err(|e| format!("{e:#}"))?,
        };
        let json = answer.to_json_str().map_err(|e| format!("{e:#}"))?;
        serde_json::from_str(&json).map_err(|e| format!("the policy's answer has an unexpected shape: {e}"))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<regorus::Engine>> {
        // Nothing panics while it is held, and a list of interpreters is whole at any time.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const PANICKED: &str = "the policy engine panicked";

/// The verdict of `rules` alone; all others are known to add nothing.
fn one_by_one(engine: &mut regorus::Engine, rules: &[&Indexed]) -> Result<Value, String> {
    let mut sets = SETS.map(|_| BTreeSet::new());
    // Each evaluation starts the timer anew; together they have the time of one.
    limit_time(engine, EVALUATION_MS_MAX / rules.len().max(1) as u64);
    for rule in rules {
        let data = engine.eval_rule_in_module(&rule.module, &rule.rule, false).map_err(|e| format!("{e:#}"))?;
        let found = &data["cauldron"]["guardrail"][SETS[rule.set]];
        sets[rule.set].extend(found.as_set().map_err(|e| format!("{e:#}"))?.iter().cloned());
    }
    limit_time(engine, EVALUATION_MS_MAX);
    let fields = SETS.iter().zip(sets).map(|(name, set)| (Value::from(*name), Value::from(set)));
    Ok(Value::from(fields.collect::<BTreeMap<_, _>>()))
}

/// The interpreter's form of a document.
pub(super) fn value_of(document: &serde_json::Value) -> Value {
    match document {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::from(*b),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(document.clone()),
        },
        serde_json::Value::Array(items) => Value::from(items.iter().map(value_of).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => {
            let fields = map.iter().map(|(key, item)| (Value::from(key.as_str()), value_of(item)));
            Value::from(fields.collect::<BTreeMap<_, _>>())
        }
    }
}

/// Adds one file. Every Rego file has a package of its own; the rules are in `cauldron.guardrail`.
pub(super) fn add_file(
    engine: &mut regorus::Engine,
    packages: &mut BTreeSet<String>,
    name: &str,
    bytes: &[u8],
) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("is not UTF-8: {e}"))?;
    match name.rsplit_once('.') {
        Some((_, "json")) => return engine.add_data_json(text).map_err(|e| format!("{e:#}")),
        Some((_, "rego")) => {}
        _ => return Err("is neither .rego nor .json".to_owned()),
    }
    // Parser and interpreter go down with each.
    if words::depth(text) > DEPTH_MAX {
        return Err(format!("expressions are nested deeper than {DEPTH_MAX}"));
    }
    let guards = package_of(text) == PACKAGE;
    let text = if guards { format!("{text}{EPILOGUE}") } else { text.to_owned() };
    let package = engine.add_policy(name.to_owned(), text).map_err(|e| format!("{e:#}"))?;
    if (package == PACKAGE) != guards {
        return Err("must begin its first code line with `package <name>`".to_owned());
    }
    if packages.insert(package.clone()) { Ok(()) } else { Err(format!("another file has package {package} too")) }
}

/// The package a module declares, as a data path.
pub(super) fn package_of(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("package ")).unwrap_or_default();
    format!("data.{}", name.trim())
}
