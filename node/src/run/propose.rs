//! From what agents and programs say to a proposal that can be judged. Who and when is the core's to fill in.

use cauldron_agents::ProposalDraft;
use cauldron_agents::proposal::for_display;
use cauldron_coordinator::action::{Action, Resource};
use cauldron_coordinator::bodies::{Evidence, Proposal, Reversibility, RiskClass};
use cauldron_coordinator::json::canonical;
use cauldron_identity::{Digest, Role, SpiffeId};
use serde::Deserialize;
use serde_json::Value;

/// What `POST /v1/proposals` and `cauldron propose --file` take. Everything else follows from the operation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    /// `<module>.<object>.<verb>`.
    operation: String,
    /// Arguments of the operation.
    args: Value,
    /// One sentence for the person who decides.
    rationale: String,
    /// The proposing agent's name; `operator` without.
    #[serde(default)]
    agent: Option<String>,
    /// What makes a second proposal the same as this one, behind the object; the present minute without.
    #[serde(default)]
    intent: Option<String>,
    /// Parts per million, when the proposer has a score.
    #[serde(default = "certain")]
    confidence_ppm: u32,
    /// What was seen, one text each; the default policy denies a block without any.
    #[serde(default)]
    evidence: Vec<String>,
    /// Labels of where it comes from.
    #[serde(default)]
    taint: Vec<String>,
}

const fn certain() -> u32 {
    1_000_000
}

impl ProposalRequest {
    /// Builds the proposal for a resource that the node `spiffe_id` owns.
    pub fn into_proposal(self, spiffe_id: &SpiffeId) -> Result<Proposal, String> {
        let agent = self.agent.unwrap_or_else(|| "operator".into());
        let build = Digest::of("cauldron/agent-build/v0", agent.as_bytes());
        let intent = self
            .intent
            .unwrap_or_else(|| cauldron_coordinator::json::rfc3339(crate::clock::wall_ms() / 60_000 * 60_000));
        build_proposal(Draft {
            spiffe_id,
            agent: &agent,
            build,
            operation: &self.operation,
            args: &self.args,
            intent: Err(&intent),
            undo: None,
            risk: None,
            confidence: (self.confidence_ppm, "stated/v0".into()),
            rationale: self.rationale,
            evidence: stated(&self.evidence, &self.taint),
            taint: self.taint,
        })
    }
}

/// Evidence in somebody's own words: numbered, made harmless for display.
fn stated(texts: &[String], labels: &[String]) -> Vec<Evidence> {
    let line = |(i, text): (usize, &String)| Evidence {
        source: "stated".into(),
        line_no: i as u64 + 1,
        digest: Digest::from_bytes(cauldron_identity::ids::sha256(text.as_bytes())),
        text: for_display(text.as_bytes(), cauldron_agents::Evidence::TEXT_BYTES_MAX),
        labels: labels.to_vec(),
    };
    texts.iter().enumerate().map(line).collect()
}

/// Turns an agent's draft into a proposal for a resource of this node.
pub fn from_draft(draft: ProposalDraft, spiffe_id: &SpiffeId, source: &str) -> Result<Proposal, String> {
    let labels = draft.taint.clone();
    let evidence = draft.evidence.into_iter().map(|line| Evidence {
        source: source.to_owned(),
        line_no: line.line_no,
        digest: line.digest,
        text: line.text,
        labels: labels.clone(),
    });
    let reversibility = if draft.undo.reversible { Reversibility::Reversible } else { Reversibility::Irreversible };
    build_proposal(Draft {
        spiffe_id,
        agent: &draft.agent.name,
        build: draft.agent.build_digest,
        operation: &draft.operation,
        args: &draft.args,
        intent: Ok(&draft.intent_key),
        undo: Some((reversibility, draft.undo.plan)),
        risk: Some(draft.risk_class),
        confidence: (draft.confidence_ppm, draft.confidence_method),
        rationale: draft.rationale,
        evidence: evidence.collect(),
        taint: draft.taint,
    })
}

struct Draft<'a> {
    spiffe_id: &'a SpiffeId,
    agent: &'a str,
    build: Digest,
    operation: &'a str,
    args: &'a Value,
    /// The whole intent key, or only what stands behind the object.
    intent: Result<&'a str, &'a str>,
    undo: Option<(Reversibility, String)>,
    risk: Option<String>,
    confidence: (u32, String),
    rationale: String,
    evidence: Vec<Evidence>,
    taint: Vec<String>,
}

fn build_proposal(draft: Draft<'_>) -> Result<Proposal, String> {
    let Ok(Role::Node { site, node }) = Role::of(draft.spiffe_id) else {
        return Err(format!("{} owns no actuator; propose at a site's node", draft.spiffe_id));
    };
    let args = canonical(draft.args).map_err(|e| format!("args: {e}"))?;
    let action = Action::parse(draft.operation, &args).map_err(|e| e.to_string())?;
    let risk = match draft.risk.as_deref() {
        None => action.risk(),
        Some("R0") => RiskClass::R0,
        Some("R1") => RiskClass::R1,
        Some("R2") => RiskClass::R2,
        Some("R3") => RiskClass::R3,
        Some(other) => return Err(format!("{other:?} is no risk class; use R0 to R3")),
    };
    let object = action.object();
    let resource = Resource { site: site.clone(), node, connector: action.connector().into(), object: object.clone() };
    let default_undo = || (Reversibility::Reversible, "the effect ends by itself after its time limit".to_owned());
    let (reversibility, undo_plan) = draft.undo.unwrap_or_else(default_undo);
    Ok(Proposal {
        lineage: None,
        agent: format!("{}/agent/{}", draft.spiffe_id, draft.agent),
        agent_build: draft.build,
        site,
        module: action.module().into(),
        action_class: action.action_class(),
        operation: action.operation().into(),
        resource: resource.to_string(),
        expected_version: None,
        args_digest: Proposal::digest_of_args(&args),
        args,
        reversibility,
        undo_plan,
        risk,
        confidence_ppm: draft.confidence.0,
        confidence_method: draft.confidence.1,
        rationale: draft.rationale,
        evidence: draft.evidence,
        taint: draft.taint,
        conflict_key: resource.to_string(),
        intent_key: match draft.intent {
            Ok(whole) => whole.to_owned(),
            Err(suffix) => format!("{object}/{suffix}"),
        },
        created_ms: 0,
        expires_ms: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(value: Value) -> Result<Proposal, String> {
        let id = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
        serde_json::from_value::<ProposalRequest>(value).map_err(|e| e.to_string())?.into_proposal(&id)
    }

    #[test]
    fn a_request_becomes_a_proposal_whose_fields_agree() {
        let args = json!({ "ttl_s": 60, "reason": "test", "address": "198.51.100.7" });
        let mut p =
            request(json!({ "operation": "security.address.block", "args": args, "rationale": "r" })).expect("valid");
        assert_eq!(p.resource, "lyon/lyon/blocklist/198.51.100.7");
        (p.created_ms, p.expires_ms) = (1, 2);
        assert!(Action::of_proposal(&p).is_ok(), "{:?}", Action::of_proposal(&p));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |value| request(value).expect_err("must be refused");
        assert!(wrong(json!({ "operation": "erp.x.y", "args": {}, "rationale": "r" })).contains("erp.x.y"));
        assert!(
            wrong(json!({ "operation": "security.address.block", "args": {}, "rationale": "r" })).contains("address")
        );
        assert!(wrong(json!({ "operation": "o", "args": {}, "rationale": "r", "ratoinale": 1 })).contains("ratoinale"));
    }
}
