//! From what agents and programs say to a proposal that can be judged. Who and when is the core's to fill in.

use cauldron_agents::ProposalDraft;
use cauldron_agents::proposal::for_display;
use cauldron_coordinator::action::{Action, Catalogue, Each};
use cauldron_coordinator::bodies::{Amount, Blast, Evidence, Proposal, Reversibility, RiskClass};
use cauldron_identity::scope::is_name;
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
    /// The connector, where several can do it.
    #[serde(default)]
    connector: Option<String>,
    /// The node of this site that the resource is named after; this one's own without.
    #[serde(default)]
    node: Option<String>,
    /// What would change, where another node owns the resource: this one cannot look. Shown as the proposer's word.
    #[serde(default)]
    dry_run: Option<String>,
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
    /// The class, where the proposer thinks it is higher than the action's schema says.
    #[serde(default)]
    risk: Option<RiskClass>,
    /// How it is taken back, in words; what the action's schema says without.
    #[serde(default)]
    undo_plan: Option<String>,
    /// For whom: a person's id, or a workload's SPIFFE ID.
    #[serde(default)]
    on_behalf_of: Option<String>,
    /// How far it reaches.
    #[serde(default)]
    blast: Vec<Blast>,
    /// What else was thought of.
    #[serde(default)]
    alternatives: Vec<String>,
    /// Rights of budgets that it needs.
    #[serde(default)]
    budgets: Vec<Amount>,
    /// Proposals with one key exclude each other; the resource without.
    #[serde(default)]
    conflict_key: Option<String>,
    /// The version of the resource that it was reasoned on; the present one without.
    #[serde(default)]
    expected_version: Option<String>,
    /// When it lapses, RFC 3339; a day from now without, 7 days at most.
    #[serde(default)]
    expires: Option<String>,
    /// Digest of the model that reasoned.
    #[serde(default)]
    model: Option<Digest>,
    /// Digest of the prompt it was given.
    #[serde(default)]
    prompt: Option<Digest>,
    /// Digest of the tools it could choose from.
    #[serde(default)]
    tools: Option<Digest>,
}

/// What `POST /v1/sagas` takes, and `cauldron propose --file` where the file has `steps`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SagaRequest {
    /// The steps, the first first: each is done after the one before it, and all are taken back when one is not done.
    pub steps: Vec<ProposalRequest>,
}

const fn certain() -> u32 {
    1_000_000
}

impl ProposalRequest {
    /// The action it asks for.
    ///
    /// # Errors
    /// A sentence.
    pub fn action(&self, catalogue: &Catalogue) -> Result<Action, String> {
        Action::new(catalogue, &self.operation, self.connector.as_deref(), &self.args)
            .map_err(|e| crate::run::chain(&e))
    }

    /// What it would act on, by name.
    ///
    /// # Errors
    /// A sentence.
    pub fn resource(&self, spiffe_id: &SpiffeId, action: &Action) -> Result<String, String> {
        let (site, node) = owner(spiffe_id)?;
        let named = self.node.as_deref();
        if let Some(bad) = named.filter(|name| !is_name(name)) {
            return Err(format!("node: {bad:?} is no name of a node"));
        }
        Ok(resource_of(action, &site, named.unwrap_or(&node)))
    }

    /// Whether it says after which node the resource is named.
    #[must_use]
    pub fn names_node(&self) -> bool {
        self.node.is_some()
    }

    /// Whether it says which version of the resource it was reasoned on.
    #[must_use]
    pub fn names_version(&self) -> bool {
        self.expected_version.is_some()
    }

    /// Builds the proposal that the node `spiffe_id` makes.
    ///
    /// # Errors
    /// A sentence.
    pub fn into_proposal(self, spiffe_id: &SpiffeId, catalogue: &Catalogue, look: Look) -> Result<Proposal, String> {
        let action = self.action(catalogue)?;
        let (site, own) = owner(spiffe_id)?;
        let said = self.dry_run.map(|text| format!("as the proposer says, who is not its owner:\n{text}"));
        let seen = match look {
            Look::Own(_) if said.is_some() => {
                return Err("dry_run: this node looks itself at what it owns; leave it out".to_owned());
            }
            Look::Own(seen) => seen,
            Look::Elsewhere => Seen { dry_run: said, ..Seen::default() },
        };
        let node = self.node.unwrap_or(own);
        let agent = format!("{spiffe_id}/agent/{}", self.agent.as_deref().unwrap_or("operator"));
        let version = self.expected_version.or(seen.version);
        let window = || cauldron_coordinator::json::rfc3339(crate::clock::wall_ms() / 60_000 * 60_000);
        let intent = match action.schema().about().intent.each {
            Each::Version => version.clone().unwrap_or_default(),
            _ => self.intent.unwrap_or_else(window),
        };
        let base = action.proposal(&site, &node, &agent, &intent);
        Ok(Proposal {
            agent_build: Digest::of("cauldron/agent-build/v1", self.agent.as_deref().unwrap_or("operator").as_bytes()),
            expected_version: version,
            undo_plan: self.undo_plan.unwrap_or_else(|| base.undo_plan.clone()),
            risk: self.risk.unwrap_or(base.risk),
            confidence_ppm: self.confidence_ppm,
            rationale: self.rationale,
            evidence: stated(&self.evidence, &self.taint),
            taint: self.taint,
            conflict_key: self.conflict_key.unwrap_or_else(|| base.conflict_key.clone()),
            expires_ms: self.expires.as_deref().map(instant).transpose()?.unwrap_or(0),
            on_behalf_of: self.on_behalf_of,
            agent_model: self.model,
            agent_prompt: self.prompt,
            agent_tools: self.tools,
            blast: if self.blast.is_empty() { seen.blast } else { self.blast },
            dry_run: seen.dry_run,
            alternatives: self.alternatives,
            budgets: self.budgets,
            ..base
        })
    }
}

/// What a connector saw of a resource before anything is proposed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its version, where it has versions.
    pub version: Option<String>,
    /// What the action would change.
    pub dry_run: Option<String>,
    /// How far it reaches.
    pub blast: Vec<Blast>,
}

/// What the proposing node can say of a resource before anything is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It owns the resource, and its connector saw this.
    Own(Seen),
    /// Another node owns it.
    Elsewhere,
}

fn instant(text: &str) -> Result<u64, String> {
    let at: jiff::Timestamp = text.parse().map_err(|_| format!("expires: {text:?} is no RFC 3339 time"))?;
    u64::try_from(at.as_millisecond()).map_err(|_| format!("expires: {text} is long past"))
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

/// The action that a draft asks for.
///
/// # Errors
/// A sentence.
pub fn action_of(draft: &ProposalDraft, catalogue: &Catalogue) -> Result<Action, String> {
    Action::new(catalogue, &draft.operation, Some(&draft.connector), &draft.args).map_err(|e| crate::run::chain(&e))
}

/// Turns an agent's draft into a proposal for a resource of this node, with what its connector sees.
///
/// # Errors
/// A sentence.
pub fn from_draft(
    draft: ProposalDraft,
    spiffe_id: &SpiffeId,
    catalogue: &Catalogue,
    source: &str,
    seen: Seen,
) -> Result<Proposal, String> {
    let action = action_of(&draft, catalogue)?;
    let (site, node) = owner(spiffe_id)?;
    let evidence = draft.evidence.into_iter().map(|line| Evidence {
        source: source.to_owned(),
        line_no: line.line_no,
        digest: line.digest,
        text: line.text,
        labels: draft.taint.clone(),
    });
    let risk = serde_json::from_value(Value::String(draft.risk_class.clone()));
    let base = action.proposal(&site, &node, &format!("{spiffe_id}/agent/{}", draft.agent.name), "");
    Ok(Proposal {
        agent_build: draft.agent.build_digest,
        reversibility: if draft.undo.reversible { base.reversibility } else { Reversibility::Irreversible },
        undo_plan: draft.undo.plan,
        risk: risk.map_err(|_| format!("{:?} is no risk class; use R0 to R3", draft.risk_class))?,
        confidence_ppm: draft.confidence_ppm,
        confidence_method: draft.confidence_method,
        rationale: draft.rationale,
        evidence: evidence.collect(),
        taint: draft.taint,
        intent_key: draft.intent_key,
        expected_version: seen.version,
        dry_run: seen.dry_run,
        blast: seen.blast,
        ..base
    })
}

/// What an action acts on, where the node `node` owns it by name.
fn resource_of(action: &Action, site: &str, node: &str) -> String {
    format!("{site}/{node}/{}/{}", action.connector(), action.object())
}

/// What a draft would act on.
///
/// # Errors
/// A sentence.
pub fn resource_of_draft(action: &Action, spiffe_id: &SpiffeId) -> Result<String, String> {
    let (site, node) = owner(spiffe_id)?;
    Ok(resource_of(action, &site, &node))
}

/// Site and name of the node that owns what is proposed.
fn owner(spiffe_id: &SpiffeId) -> Result<(String, String), String> {
    match Role::of(spiffe_id) {
        Ok(Role::Node { site, node }) => Ok((site, node)),
        _ => Err(format!("{spiffe_id} owns no actuator; propose at a site's node")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(value: Value) -> Result<Proposal, String> {
        looked(value, Look::Own(Seen::default()))
    }

    fn looked(value: Value, look: Look) -> Result<Proposal, String> {
        let id = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
        serde_json::from_value::<ProposalRequest>(value).map_err(|e| e.to_string())?.into_proposal(
            &id,
            Catalogue::built_in(),
            look,
        )
    }

    #[test]
    fn a_request_becomes_a_proposal_whose_fields_agree() {
        let args = json!({ "ttl_s": 60, "reason": "test", "address": "198.51.100.7" });
        let mut p =
            request(json!({ "operation": "security.address.block", "args": args, "rationale": "r" })).expect("valid");
        assert_eq!(p.resource, "lyon/lyon/blocklist/198.51.100.7");
        (p.created_ms, p.expires_ms) = (1, 2);
        assert!(
            Action::of_proposal(Catalogue::built_in(), &p).is_ok(),
            "{:?}",
            Action::of_proposal(Catalogue::built_in(), &p)
        );
    }

    #[test]
    fn an_agents_draft_carries_what_its_connector_sees_and_nothing_that_nobody_measured() {
        let draft = ProposalDraft {
            agent: cauldron_agents::AgentInfo::built_in("sshd-bruteforce", "rule"),
            module: "security".into(),
            operation: "security.address.block".into(),
            risk_class: "R1".into(),
            connector: "blocklist".into(),
            object: "198.51.100.7".into(),
            args: json!({ "ttl_s": 60, "reason": "test", "address": "198.51.100.7" }),
            undo: cauldron_agents::proposal::Undo { reversible: true, plan: "p".into() },
            rationale: "r".into(),
            confidence_ppm: 565_508,
            confidence_method: "wilson-lower-95/v0".into(),
            evidence: vec![],
            taint: vec![],
            intent_key: "i".into(),
            window_start_s: 0,
            window_end_s: 1,
        };
        let id = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
        let seen = Seen {
            version: None,
            dry_run: Some("+198.51.100.7\n".into()),
            blast: vec![Blast { what: "addresses".into(), n: 1 }],
        };
        let of = |seen| from_draft(draft.clone(), &id, Catalogue::built_in(), "auth.log", seen).expect("valid");
        let p = of(seen.clone());
        assert_eq!((p.dry_run, p.blast), (seen.dry_run, seen.blast));
        let p = of(Seen::default());
        assert_eq!((p.dry_run, p.calibration, p.alternatives), (None, None, vec![]));
    }

    #[test]
    fn what_another_node_does_is_told_in_the_proposers_words() {
        let args = json!({ "path": "a.conf", "text": "two\n" });
        let step = |node: &str| {
            json!({ "operation": "devops.file.write", "args": args, "rationale": "r", "node": node,
                    "dry_run": "+two", "expected_version": "absent" })
        };
        let p = looked(step("annexe"), Look::Elsewhere).expect("valid");
        assert_eq!((p.resource.as_str(), p.site.as_str()), ("lyon/annexe/folder/a.conf", "lyon"));
        assert!(p.agent.contains("/node/lyon/agent/"), "{}", p.agent);
        assert!(p.dry_run.is_some_and(|text| text.starts_with("as the proposer says") && text.ends_with("+two")));
        assert!(request(step("lyon")).expect_err("its own").contains("looks itself"));
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
