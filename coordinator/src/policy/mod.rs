//! Guardrails: Rego bundles evaluated in process (regorus), compiled once, interpreters reused.
//!
//! Policy is pure: time, freshness and history are inputs, and builtins that read anything else are masked. Outcomes
//! combine as deny > defer > step_up > modify > allow; where nothing holds, on any error and on a timeout, the answer is deny.

mod backtest;
mod builtins;
mod bundle;
mod check;
mod compiled;
pub mod explain;
mod fired;
mod index;
mod recursion;
mod words;

use std::collections::BTreeMap;

use cauldron_identity::Digest;

pub use backtest::{CHANGES_MAX, Change, Report as BacktestReport, backtest};
pub use builtins::{EVALUATION_MS_MAX, MADE_MAX, bounded, conformant_engine, masked};
pub use bundle::{Bundle, BundleError, Class, MANIFEST, PACKED_LEN_MAX};
pub use check::{CaseResult, check, untested};
use compiled::Compiled;

use crate::action::Catalogue;
use crate::bodies::{Evaluation, Obligations, Outcome, RiskClass};
use crate::input::Input;
use fired::Verdict;

/// How long people have to decide where a rule does not say, milliseconds.
pub const DECIDE_WITHIN_MS_DEFAULT: u64 = 24 * 3_600_000;

const RULES_MAX: usize = 32;
const WHY_LEN_MAX: usize = 512;

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
    classes: BTreeMap<String, Judge>,
}

#[derive(Debug, Clone)]
struct Judge {
    compiled: Compiled,
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
            let compiled = Compiled::new(bundle, name, class)?;
            let version = bundle.class_version(name).unwrap_or_else(|| unjudged(name));
            classes.insert(name.clone(), Judge { compiled, version, risk: class.risk });
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
        let Some(judge) = self.classes.get(class) else {
            let why = format!("policy.no_class: the active policy does not judge {class}");
            return self.denied(input, RiskClass::R3, why);
        };
        match judge.compiled.run(input.document()) {
            Ok(verdict) => self.combine(input, judge.risk, verdict),
            Err(why) => self.denied(input, judge.risk, format!("policy.error: {}", shorten(&why))),
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

fn unjudged(class: &str) -> Digest {
    Digest::of("cauldron/class-unjudged/v1", class.as_bytes())
}

fn shorten(text: &str) -> String {
    text.chars().take(WHY_LEN_MAX).collect()
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
