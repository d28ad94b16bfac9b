//! Guardrails: Rego bundles evaluated in process (regorus), compiled once, one clone per evaluation.
//!
//! Policy is pure: time, freshness and history are inputs, and builtins that read anything else are masked. Outcomes
//! combine as deny > defer > step_up > modify > allow; where nothing holds, on any error and on a timeout, the answer is deny.

mod bundle;
mod check;
mod fired;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use bundle::{Bundle, BundleError, Class, MANIFEST, PACKED_LEN_MAX};
use cauldron_identity::Digest;
pub use check::{CaseResult, check};
use regorus::utils::limits::ExecutionTimerConfig;

use crate::action::Catalogue;
use crate::bodies::{Evaluation, Obligations, Outcome, RiskClass};
use crate::input::Input;
use fired::Verdict;

/// How long one evaluation may take. Ours take well under a millisecond; the rest is room for a busy edge box, because
/// a timeout denies for good.
pub const EVALUATION_MS_MAX: u64 = 1_000;
/// How long people have to decide where a rule does not say, milliseconds.
pub const DECIDE_WITHIN_MS_DEFAULT: u64 = 24 * 3_600_000;

const TICKS_PER_CLOCK_READ: NonZeroU32 = NonZeroU32::new(256).unwrap();
const RULES_MAX: usize = 32;
const WHY_LEN_MAX: usize = 512;
const PACKAGE: &str = "data.cauldron.guardrail";
const VERDICT: &str = "data.cauldron.guardrail.cauldron_verdict";

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

/// Builtins that read a clock, chance, the machine or the network, with their arity.
const IMPURE: [(&str, u8); 5] =
    [("time.now_ns", 0), ("rand.intn", 2), ("uuid.rfc4122", 1), ("opa.runtime", 0), ("http.send", 1)];

/// Why a bundle cannot judge.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("class {class}: {file} cannot be loaded: {why}")]
pub struct PolicyError {
    /// The action class.
    pub class: String,
    /// The file.
    pub file: String,
    /// What the Rego compiler or JSON parser says.
    pub why: String,
}

/// A bundle, compiled.
#[derive(Debug, Clone)]
pub struct Engine {
    digest: Digest,
    catalogue: Catalogue,
    classes: BTreeMap<String, Compiled>,
}

#[derive(Debug, Clone)]
struct Compiled {
    engine: regorus::Engine,
    version: Digest,
    risk: RiskClass,
}

impl Engine {
    /// Compiles every class of `bundle`.
    ///
    /// # Errors
    /// [`PolicyError`] for the first file that does not compile.
    pub fn new(bundle: &Bundle) -> Result<Self, PolicyError> {
        let mut classes = BTreeMap::new();
        for (name, class) in bundle.classes() {
            let engine = compile(bundle, name, class)?;
            let version = bundle.class_version(name).unwrap_or_else(|| unjudged(name));
            classes.insert(name.clone(), Compiled { engine, version, risk: class.risk });
        }
        Ok(Self { digest: bundle.digest(), catalogue: bundle.catalogue().clone(), classes })
    }

    /// The actions that can be judged: those that the build knows, and those that the bundle brings a schema for.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The classes that the bundle judges.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    /// Digest of the bundle it was made from.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The policy version for an action class; a class that the bundle does not judge has one too, and is denied.
    #[must_use]
    pub fn class_version(&self, class: &str) -> Digest {
        self.classes.get(class).map_or_else(|| unjudged(class), |c| c.version)
    }

    /// Judges one input. Never fails: whatever goes wrong is a deny that says so.
    #[must_use]
    pub fn evaluate(&self, input: &Input) -> Evaluation {
        let class = input.action_class();
        let Some(compiled) = self.classes.get(class) else {
            let why = format!("policy.no_class: the active policy does not judge {class}");
            return self.denied(input, RiskClass::R3, why);
        };
        // A bug in the interpreter must not take the node down with it; the clone is dropped either way.
        let verdict = catch_unwind(AssertUnwindSafe(|| run(compiled, input)));
        match verdict.unwrap_or_else(|_| Err("the policy engine panicked".to_owned())) {
            Ok(verdict) => self.combine(input, compiled.risk, verdict),
            Err(why) => self.denied(input, compiled.risk, format!("policy.error: {}", shorten(&why))),
        }
    }

    fn combine(&self, input: &Input, risk: RiskClass, verdict: Verdict) -> Evaluation {
        let risk = verdict.risk(risk);
        match verdict.combine(input) {
            Ok(combined) => Evaluation {
                outcome: combined.outcome,
                obligations: combined.obligations,
                rules: combined.rules,
                risk,
                modify: combined.modify,
                input_digest: input.digest(),
                class_version: self.class_version(input.action_class()),
            },
            Err(why) => self.denied(input, risk, why),
        }
    }

    fn denied(&self, input: &Input, risk: RiskClass, why: String) -> Evaluation {
        Evaluation {
            outcome: Outcome::Deny,
            obligations: Obligations::none(input.decide_by_ms(DECIDE_WITHIN_MS_DEFAULT)),
            rules: vec![why],
            risk,
            modify: None,
            input_digest: input.digest(),
            class_version: self.class_version(input.action_class()),
        }
    }
}

fn run(compiled: &Compiled, input: &Input) -> Result<Verdict, String> {
    let mut engine = compiled.engine.clone();
    engine.set_input(regorus::Value::from(input.document().clone()));
    let value = engine.eval_rule(VERDICT.to_owned()).map_err(|e| format!("{e:#}"))?;
    let json = value.to_json_str().map_err(|e| format!("{e:#}"))?;
    serde_json::from_str(&json).map_err(|e| format!("the policy's answer has an unexpected shape: {e}"))
}

fn compile(bundle: &Bundle, name: &str, class: &Class) -> Result<regorus::Engine, PolicyError> {
    let refused = |file: &str, why: String| PolicyError { class: name.into(), file: file.into(), why: shorten(&why) };
    let mut engine = pure_engine();
    let mut packages = BTreeSet::new();
    for file in &class.files {
        let bytes = bundle.files().get(file).map(Vec::as_slice).unwrap_or_default();
        add_file(&mut engine, &mut packages, file, bytes).map_err(|why| refused(file, why))?;
    }
    // Evaluating nothing forces the analysis of every rule, so that mistakes show when a bundle is loaded.
    engine.set_input(regorus::Value::new_object());
    engine.eval_rule(VERDICT.to_owned()).map_err(|e| refused("(all)", format!("{e:#}")))?;
    Ok(engine)
}

fn pure_engine() -> regorus::Engine {
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: Duration::from_millis(EVALUATION_MS_MAX),
        check_interval: TICKS_PER_CLOCK_READ,
    });
    for (name, arity) in IMPURE {
        let masked = move |_: Vec<regorus::Value>| Err(std::io::Error::other(format!("{name} is not pure")).into());
        assert!(engine.add_extension(name.into(), arity, Box::new(masked)).is_ok(), "{name} masked twice");
    }
    engine
}

/// Adds one file. Every Rego file has a package of its own; the rules are in `cauldron.guardrail`.
fn add_file(
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
    let guards = package_of(text) == PACKAGE;
    let text = if guards { format!("{text}{EPILOGUE}") } else { text.to_owned() };
    let package = engine.add_policy(name.to_owned(), text).map_err(|e| format!("{e:#}"))?;
    if (package == PACKAGE) != guards {
        return Err("must begin its first code line with `package <name>`".to_owned());
    }
    if packages.insert(package.clone()) { Ok(()) } else { Err(format!("another file has package {package} too")) }
}

/// The package a module declares, as a data path.
fn package_of(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("package ")).unwrap_or_default();
    format!("data.{}", name.trim())
}

fn unjudged(class: &str) -> Digest {
    Digest::of("cauldron/class-unjudged/v0", class.as_bytes())
}

fn shorten(text: &str) -> String {
    text.chars().take(WHY_LEN_MAX).collect()
}

#[cfg(test)]
mod tests;
