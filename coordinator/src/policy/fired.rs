//! What the rules of a policy said, and what that comes to.

use std::collections::BTreeMap;

use cauldron_identity::authority::Assurance;
use serde::Deserialize;
use serde_json::Value;

use super::{DECIDE_WITHIN_MS_DEFAULT, RULES_MAX, shorten};
use crate::bodies::{Amount, DISTINCT, Escalation, GroupNeed, Need, Obligations, Outcome, RiskClass, VetoWindow};
use crate::budget;
use crate::input::Input;
use crate::json::canonical;
use crate::quorum::{SEATS_MAX, WAYS_MAX};

/// The longest veto window, milliseconds: a proposal lasts no longer.
const VETO_MS_MAX: u64 = crate::action::PROPOSAL_AGE_MS_MAX;
const PPM: u32 = 1_000_000;

/// Every partial rule of the guardrail package, gathered.
#[derive(Debug, Deserialize)]
pub(super) struct Verdict {
    deny: Vec<Fired>,
    defer: Vec<Fired>,
    modify: Vec<Fired>,
    step_up: Vec<Fired>,
    allow: Vec<Fired>,
    classify: Vec<Classified>,
}

/// What a verdict comes to.
pub(super) struct Combined {
    pub(super) outcome: Outcome,
    pub(super) obligations: Obligations,
    pub(super) rules: Vec<String>,
    pub(super) modify: Option<Vec<u8>>,
}

/// One element of a partial rule. A field that this build does not know is an obligation that it cannot meet: refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fired {
    rule: String,
    why: String,
    #[serde(default)]
    approvals: Vec<NeedText>,
    decide_within_ms: Option<u64>,
    #[serde(default)]
    distinct_from: Vec<String>,
    #[serde(default)]
    assurance: Assurance,
    #[serde(default)]
    escalate: Vec<EscalationText>,
    veto: Option<VetoText>,
    #[serde(default)]
    reserve: Vec<Amount>,
    #[serde(default)]
    sandbox: Vec<String>,
    #[serde(default)]
    post_checks: Vec<String>,
    #[serde(default)]
    audit_ppm: u32,
    #[serde(default)]
    notify: Vec<String>,
    /// Of a `modify` rule: a JSON merge patch for the arguments.
    set: Option<Value>,
}

/// Raises the class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Classified {
    class: RiskClass,
    #[serde(rename = "rule")]
    _rule: String,
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NeedText {
    One(GroupNeed),
    Any { any_of: Vec<GroupNeed> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EscalationText {
    after_ms: u64,
    add: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VetoText {
    within_ms: u64,
    groups: Vec<String>,
}

impl Verdict {
    /// The class: what the manifest says, or more where a rule says so.
    pub(super) fn risk(&self, manifest: RiskClass) -> RiskClass {
        self.classify.iter().map(|c| c.class).fold(manifest, RiskClass::max)
    }

    /// deny > defer > step_up > modify > allow; where nothing holds, deny.
    ///
    /// # Errors
    /// Why it is a deny that no rule of the policy asked for.
    pub(super) fn combine(self, input: &Input) -> Result<Combined, String> {
        let (outcome, fired) = match () {
            () if !self.deny.is_empty() => (Outcome::Deny, self.deny),
            () if !self.defer.is_empty() => (Outcome::Defer, self.defer),
            () if !self.step_up.is_empty() => (Outcome::StepUp, self.step_up),
            () if !self.modify.is_empty() => (Outcome::Modify, self.modify),
            () if !self.allow.is_empty() => (Outcome::Allow, self.allow),
            () => return Err("policy.default: no rule of the policy allows this".to_owned()),
        };
        let mut obligations = Obligations::none(input.decide_by_ms(DECIDE_WITHIN_MS_DEFAULT));
        for rule in &fired {
            let own =
                rule.obligations(input).map_err(|why| format!("policy.error: rule {}: {why}", shorten(&rule.rule)))?;
            obligations = obligations.union(&own);
        }
        if matches!(outcome, Outcome::Allow | Outcome::StepUp) {
            // What a proposal says that it takes is what people read: it is set aside whether a rule says so or not.
            obligations = obligations.reserving(&budget::asked(input.document()));
            budget::check(&obligations.reserve, input.document())?;
        }
        let modify = if outcome == Outcome::Modify { Some(patch(&fired)?) } else { None };
        match outcome {
            Outcome::StepUp if obligations.approvals.is_empty() => {
                return Err("policy.error: a step_up rule names no approvers".to_owned());
            }
            // Whatever people must do is a step up: an allow with seats would look allowed and wait for ever.
            Outcome::Allow if !obligations.approvals.is_empty() => {
                return Err("policy.error: an allow rule names approvers; say step_up".to_owned());
            }
            Outcome::StepUp if obligations.veto.is_some() => {
                return Err("policy.error: a step_up rule names a veto window; people say yes or no".to_owned());
            }
            _ => {}
        }
        let ways = obligations.approvals.iter().fold(1usize, |ways, n| ways.saturating_mul(n.any_of.len()));
        if ways > WAYS_MAX || obligations.seats_min() > SEATS_MAX {
            return Err(format!(
                "policy.error: more than {SEATS_MAX} seats, or more than {WAYS_MAX} ways to fill them"
            ));
        }
        let mut rules: Vec<String> = fired.iter().map(|f| shorten(&format!("{}: {}", f.rule, f.why))).collect();
        rules.sort();
        rules.truncate(RULES_MAX);
        Ok(Combined { outcome, obligations, rules, modify })
    }
}

impl Fired {
    fn obligations(&self, input: &Input) -> Result<Obligations, String> {
        let unknown = self.distinct_from.iter().find(|d| !DISTINCT.contains(&d.as_str()));
        if let Some(unknown) = unknown {
            return Err(format!("distinct_from {unknown:?} is none of {}", DISTINCT.join(", ")));
        }
        if self.approvals.iter().any(|n| matches!(n, NeedText::Any { any_of } if any_of.is_empty())) {
            return Err("any_of is empty".to_owned());
        }
        if self.veto.as_ref().is_some_and(|v| v.groups.is_empty() || v.within_ms == 0 || v.within_ms > VETO_MS_MAX) {
            return Err(format!("veto needs groups, and a time of 1 to {VETO_MS_MAX} ms"));
        }
        if self.audit_ppm > PPM {
            return Err("audit_ppm is above one million".to_owned());
        }
        let need = |n: &NeedText| match n {
            NeedText::One(one) => Need { any_of: vec![one.clone()] },
            NeedText::Any { any_of } => Need { any_of: any_of.clone() },
        };
        let escalation = |e: &EscalationText| Escalation { add: e.add.clone(), at_ms: input.after_ms(e.after_ms) };
        let veto = self.veto.as_ref().map(|v| VetoWindow { ms: v.within_ms, groups: v.groups.clone() });
        let own = Obligations {
            approvals: self.approvals.iter().map(need).collect(),
            decide_by_ms: input.decide_by_ms(self.decide_within_ms.unwrap_or(DECIDE_WITHIN_MS_DEFAULT)),
            distinct_from: self.distinct_from.clone(),
            assurance: self.assurance,
            escalation: escalation_of(self.escalate.iter().map(escalation)),
            veto,
            reserve: self.reserve.clone(),
            sandbox: self.sandbox.clone(),
            post_checks: self.post_checks.clone(),
            audit_ppm: self.audit_ppm,
            notify: self.notify.clone(),
        };
        // A union with itself sorts and merges.
        Ok(own.union(&own))
    }
}

/// One rule may name a group twice: then the earlier time holds, for that is what it says.
fn escalation_of(all: impl Iterator<Item = Escalation>) -> Vec<Escalation> {
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    for e in all {
        let at = first.entry(e.add).or_insert(e.at_ms);
        *at = (*at).min(e.at_ms);
    }
    first.into_iter().map(|(add, at_ms)| Escalation { add, at_ms }).collect()
}

/// The changes of all `modify` rules together, which must not contradict each other.
fn patch(fired: &[Fired]) -> Result<Vec<u8>, String> {
    let mut all = Value::Object(serde_json::Map::new());
    for rule in fired {
        let name = shorten(&rule.rule);
        let Some(set @ Value::Object(map)) = &rule.set else {
            return Err(format!("policy.error: modify rule {name} has no `set` with arguments"));
        };
        let clash = map.iter().find(|(key, value)| all.get(key).is_some_and(|other| other != *value));
        if let Some((key, _)) = clash {
            return Err(format!("policy.error: modify rule {name} and another one set {key} differently"));
        }
        merge_patch_keeping_nulls(&mut all, set);
    }
    canonical(&all).map_err(|e| format!("policy.error: modify: {e}"))
}

/// Joins two patches into one: a `null` stays, for it says that the argument goes.
fn merge_patch_keeping_nulls(into: &mut Value, patch: &Value) {
    if let (Value::Object(into), Value::Object(patch)) = (into, patch) {
        for (key, value) in patch {
            into.insert(key.clone(), value.clone());
        }
    }
}
