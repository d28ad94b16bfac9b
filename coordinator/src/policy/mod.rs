//! Guardrails: Rego bundles evaluated in process (regorus), compiled once, interpreters reused.
//!
//! Policy is pure: time, freshness and history are inputs, and builtins that read anything else are masked. Outcomes
//! combine as deny > defer > step_up > allow; where nothing holds, on any error and on a timeout, the answer is deny.

mod backtest;
mod builtins;
mod bundle;
mod check;
mod compiled;
pub mod explain;
mod index;
mod recursion;
mod words;

use std::collections::BTreeMap;

use cauldron_identity::Digest;
use serde::Deserialize;

pub use backtest::{CHANGES_MAX, Change, Report as BacktestReport, backtest};
pub use builtins::{EVALUATION_MS_MAX, MADE_MAX, bounded, conformant_engine, masked};
pub use bundle::{Bundle, BundleError, Class, MANIFEST, PACKED_LEN_MAX};
pub use check::{CaseResult, check, untested};
use compiled::Compiled;

use crate::bodies::{Evaluation, GroupNeed, Obligations, Outcome, RiskClass};
use crate::input::Input;

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
    classes: BTreeMap<String, Judge>,
}

#[derive(Debug, Clone)]
struct Judge {
    compiled: Compiled,
    version: Digest,
    risk: RiskClass,
}

/// One element of a partial rule.
#[derive(Debug, Deserialize)]
struct Fired {
    rule: String,
    why: String,
    #[serde(default)]
    approvals: Vec<Need>,
    decide_within_ms: Option<u64>,
    #[serde(default)]
    distinct_from: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Need {
    group: String,
    n: u32,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    deny: Vec<Fired>,
    defer: Vec<Fired>,
    modify: Vec<Fired>,
    step_up: Vec<Fired>,
    allow: Vec<Fired>,
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
        Ok(Self { digest: bundle.digest(), classes })
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

    fn combine(&self, input: &Input, risk: RiskClass, v: Verdict) -> Evaluation {
        if !v.modify.is_empty() {
            let why = "policy.modify: the policy asks for a modified proposal, which this build cannot make";
            return self.denied(input, risk, why.to_owned());
        }
        let (outcome, fired) = match () {
            () if !v.deny.is_empty() => (Outcome::Deny, v.deny),
            () if !v.defer.is_empty() => (Outcome::Defer, v.defer),
            () if !v.step_up.is_empty() => (Outcome::StepUp, v.step_up),
            () if !v.allow.is_empty() => (Outcome::Allow, v.allow),
            () => return self.denied(input, risk, "policy.default: no rule of the policy allows this".to_owned()),
        };
        let mut obligations = Obligations::none(input.decide_by_ms(DECIDE_WITHIN_MS_DEFAULT));
        for rule in &fired {
            obligations = obligations.union(&rule.obligations(input));
        }
        if outcome == Outcome::StepUp && obligations.approvals.is_empty() {
            return self.denied(input, risk, "policy.error: a step_up rule names no approvers".to_owned());
        }
        let mut rules: Vec<String> = fired.iter().map(|f| shorten(&format!("{}: {}", f.rule, f.why))).collect();
        rules.sort();
        rules.truncate(RULES_MAX);
        self.evaluation(input, risk, outcome, obligations, rules)
    }

    fn denied(&self, input: &Input, risk: RiskClass, why: String) -> Evaluation {
        let obligations = Obligations::none(input.decide_by_ms(DECIDE_WITHIN_MS_DEFAULT));
        self.evaluation(input, risk, Outcome::Deny, obligations, vec![why])
    }

    fn evaluation(
        &self,
        input: &Input,
        risk: RiskClass,
        outcome: Outcome,
        obligations: Obligations,
        rules: Vec<String>,
    ) -> Evaluation {
        let class_version = self.class_version(input.action_class());
        Evaluation { outcome, obligations, rules, risk, input_digest: input.digest(), class_version }
    }
}

impl Fired {
    fn obligations(&self, input: &Input) -> Obligations {
        let within_ms = self.decide_within_ms.unwrap_or(DECIDE_WITHIN_MS_DEFAULT);
        let needs = self.approvals.iter().map(|n| GroupNeed { group: n.group.clone(), n: n.n });
        let own = Obligations {
            approvals: needs.collect(),
            decide_by_ms: input.decide_by_ms(within_ms),
            distinct_from: self.distinct_from.clone(),
        };
        // A union with itself sorts and merges.
        own.union(&own)
    }
}

fn unjudged(class: &str) -> Digest {
    Digest::of("cauldron/class-unjudged/v0", class.as_bytes())
}

fn shorten(text: &str) -> String {
    text.chars().take(WHY_LEN_MAX).collect()
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
