//! The operations that a node knows, with typed arguments. What has no schema can be neither permitted nor done.

mod catalogue;
mod resource;
mod schema;

use std::sync::Arc;

use cauldron_identity::Digest;
use serde_json::Value;

pub use catalogue::Catalogue;
pub use resource::Resource;
pub use schema::{About, Each, Effect, Intent, Schema, SchemaError, Undo};

use crate::bodies::{Proposal, Reversibility, RiskClass};
use crate::json::{JsonError, canonical, from_canonical, rfc3339};

/// `security.address.block`: drop traffic from one address for a while.
pub const OP_ADDRESS_BLOCK: &str = "security.address.block";
/// `security.address.unblock`: let it back in.
pub const OP_ADDRESS_UNBLOCK: &str = "security.address.unblock";
/// `security.blocklist.read`: which addresses are blocked.
pub const OP_BLOCKLIST_READ: &str = "security.blocklist.read";
/// `devops.file.read`: one managed file.
pub const OP_FILE_READ: &str = "devops.file.read";
/// `devops.file.write`: its new content.
pub const OP_FILE_WRITE: &str = "devops.file.write";
/// `devops.file.restore`: the content from before an action.
pub const OP_FILE_RESTORE: &str = "devops.file.restore";
/// `devops.file.delete`: the file and every copy kept of it.
pub const OP_FILE_DELETE: &str = "devops.file.delete";
/// The longest block, seconds.
pub const TTL_S_MAX: u64 = 86_400;
/// How long a proposal may stay open, milliseconds: older reasons should be looked at again.
pub const PROPOSAL_AGE_MS_MAX: u64 = 7 * 86_400_000;
/// Bytes of arguments: a proposal must fit into one fact, with its reasons.
pub const ARGS_LEN_MAX: usize = 128 * 1024;

const TEXT_LEN_MAX: usize = 2_048;
const NAME_LEN_MAX: usize = 256;
const DIFF_LEN_MAX: usize = 32 * 1024;
const LIST_MAX: usize = 64;
const PPM: u32 = 1_000_000;

/// A typed, validated action: arguments that fit the schema of their class.
#[derive(Debug, Clone)]
pub struct Action {
    schema: Arc<Schema>,
    args: Value,
    bytes: Vec<u8>,
    object: String,
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        self.schema.class() == other.schema.class() && self.bytes == other.bytes
    }
}

impl Eq for Action {}

/// Why a proposal is not an action that could be judged.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum ActionError {
    /// No schema for it.
    #[error("operation {0:?} is not known here: neither this build nor the active policy has a schema for it")]
    Operation(String),
    /// Several connectors can do it.
    #[error("operation {operation:?} is done by several connectors: say which of {connectors}")]
    Connector {
        /// The operation.
        operation: String,
        /// Their names.
        connectors: String,
    },
    /// Not the four parts of a resource.
    #[error("{0:?} is no resource: use <site>/<node>/<connector>/<object>")]
    Resource(String),
    /// The arguments are not canonical JSON.
    #[error("arguments")]
    Json(#[from] JsonError),
    /// An argument is missing, surplus or outside its range.
    #[error("argument {field}: {why}")]
    Argument {
        /// Which one.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two fields of the proposal contradict each other, or one is outside its bounds.
    #[error("field {field}: {why}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Action {
    /// An action of `operation` with these arguments; `connector` may be left out where only one does it.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn new(
        catalogue: &Catalogue,
        operation: &str,
        connector: Option<&str>,
        args: &Value,
    ) -> Result<Self, ActionError> {
        let known: Vec<&Arc<Schema>> =
            catalogue.of_operation(operation).filter(|s| connector.is_none_or(|c| s.about().connector == c)).collect();
        match &known[..] {
            [] => Err(ActionError::Operation(operation.chars().take(80).collect())),
            [schema] => Self::checked(schema, canonical(args)?),
            several => {
                let connectors: Vec<&str> = several.iter().map(|s| s.about().connector.as_str()).collect();
                Err(ActionError::Connector { operation: operation.to_owned(), connectors: connectors.join(", ") })
            }
        }
    }

    /// Reads the arguments of a class, `<operation>/<connector>`.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn parse(catalogue: &Catalogue, class: &str, args: &[u8]) -> Result<Self, ActionError> {
        let schema = catalogue.get(class).ok_or_else(|| ActionError::Operation(class.chars().take(120).collect()))?;
        Self::checked(schema, args.to_vec())
    }

    fn checked(schema: &Arc<Schema>, bytes: Vec<u8>) -> Result<Self, ActionError> {
        if bytes.len() > ARGS_LEN_MAX {
            let why = format!("{} bytes of arguments; at most {ARGS_LEN_MAX}", bytes.len());
            return Err(ActionError::Argument { field: "(all)".into(), why });
        }
        let args = from_canonical(&bytes)?;
        schema.check(&args)?;
        let object = schema.object(&args)?;
        schema.intent(&args)?;
        Ok(Self { schema: Arc::clone(schema), args, bytes, object })
    }

    /// What it is.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// `<module>.<object>.<verb>`.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.schema.about().operation
    }

    /// The connector that carries it out.
    #[must_use]
    pub fn connector(&self) -> &str {
        &self.schema.about().connector
    }

    /// What it touches inside the connector.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Operation and resource kind: what bundles are indexed by.
    #[must_use]
    pub fn action_class(&self) -> String {
        self.schema.class()
    }

    /// The class that the schema gives it.
    #[must_use]
    pub fn risk(&self) -> RiskClass {
        self.schema.about().class
    }

    /// Whether it only reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.schema.about().effect == Effect::Read
    }

    /// The arguments.
    #[must_use]
    pub fn args(&self) -> &Value {
        &self.args
    }

    /// The arguments in canonical JSON.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The action that takes this one back, where its schema names one.
    ///
    /// # Errors
    /// The schema's undo does not fit: the arguments lack something, or there is no such operation.
    pub fn undo(&self, catalogue: &Catalogue) -> Result<Option<Self>, ActionError> {
        let about = self.schema.about();
        let Some((undo, args)) = about.undo.as_ref().zip(self.schema.undo_args(&self.args)?) else { return Ok(None) };
        Self::new(catalogue, &undo.operation, Some(&about.connector), &args).map(Some)
    }

    /// [`OP_ADDRESS_BLOCK`] at a blocklist.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn block(address: &str, ttl_s: u32, reason: &str) -> Result<Self, ActionError> {
        let args = serde_json::json!({ "address": address, "ttl_s": ttl_s, "reason": reason });
        Self::new(Catalogue::built_in(), OP_ADDRESS_BLOCK, Some("blocklist"), &args)
    }

    /// The intent key, where the schema asks for a window: that which began at `window_start_ms`.
    #[must_use]
    pub fn intent_key(&self, window_start_ms: u64) -> String {
        self.intent_with(&rfc3339(window_start_ms))
    }

    /// The intent key with what stands behind the arguments, where the schema asks for something there.
    #[must_use]
    pub fn intent_with(&self, suffix: &str) -> String {
        // The fields were found to be there when this was made.
        let key = self.schema.intent(&self.args).unwrap_or_default();
        match self.schema.about().intent.each {
            Each::Once => key,
            Each::Window | Each::Version => format!("{key}/{suffix}"),
        }
    }

    /// A proposal of this action at a node's resource, with all that follows from the action. `intent` stands behind the arguments in
    /// its intent key; reasons, times and what the agent knows of itself are the proposer's to add.
    #[must_use]
    pub fn proposal(&self, site: &str, node: &str, agent: &str, intent: &str) -> Proposal {
        let about = self.schema.about();
        let resource = Resource {
            site: site.to_owned(),
            node: node.to_owned(),
            connector: about.connector.clone(),
            object: self.object.clone(),
        };
        let undo_plan = match (&about.undo, about.reversibility) {
            (Some(undo), _) => format!("{} takes it back", undo.operation),
            (None, Reversibility::Irreversible) => "nothing takes it back".to_owned(),
            (None, _) => String::new(),
        };
        Proposal {
            lineage: None,
            agent: agent.to_owned(),
            agent_build: Digest::of("cauldron/agent-build/v1", agent.as_bytes()),
            site: site.to_owned(),
            module: self.schema.module().to_owned(),
            action_class: self.action_class(),
            operation: about.operation.clone(),
            conflict_key: resource.to_string(),
            resource: resource.to_string(),
            expected_version: None,
            args_digest: Proposal::digest_of_args(&self.bytes),
            args: self.bytes.clone(),
            reversibility: about.reversibility,
            undo_plan,
            risk: about.class,
            confidence_ppm: PPM,
            confidence_method: "stated/v0".to_owned(),
            rationale: String::new(),
            evidence: Vec::new(),
            taint: Vec::new(),
            intent_key: self.intent_with(intent),
            created_ms: 0,
            expires_ms: 0,
            parent: None,
            session: None,
            on_behalf_of: None,
            agent_model: None,
            agent_prompt: None,
            agent_tools: None,
            calibration: None,
            blast: Vec::new(),
            dry_run: None,
            alternatives: Vec::new(),
            budgets: Vec::new(),
            hand: None,
            saga: None,
        }
    }

    /// Checks a whole proposal: schema, and that its fields agree with each other.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn of_proposal(catalogue: &Catalogue, p: &Proposal) -> Result<Self, ActionError> {
        let resource: Resource = p.resource.parse()?;
        let action = Self::parse(catalogue, &p.action_class, &p.args)?;
        let field = |ok: bool, field, why: &str| {
            if ok { Ok(()) } else { Err(ActionError::Field { field, why: why.to_owned() }) }
        };
        let about = action.schema.about();
        field(p.operation == about.operation, "operation", "is not the action class's")?;
        field(p.module == action.schema.module(), "module", "is not the operation's")?;
        field(resource.site == p.site, "site", "is not the resource's")?;
        field(resource.connector == about.connector, "resource", "names another connector than the action class")?;
        field(resource.object == action.object, "resource", "names another object than the arguments")?;
        field(p.args_digest == Proposal::digest_of_args(&p.args), "args_digest", "is not the arguments'")?;
        field(
            !about.versioned || p.expected_version.is_some(),
            "expected_version",
            "is missing: this resource has versions",
        )?;
        field(
            p.reversibility >= about.reversibility,
            "reversibility",
            "says more than the action's schema: it cannot be taken back so well",
        )?;
        action.check_intent(p)?;
        field(p.confidence_ppm <= PPM, "confidence_ppm", "is above one million")?;
        let age = p.expires_ms.checked_sub(p.created_ms).filter(|ms| (1..=PROPOSAL_AGE_MS_MAX).contains(ms));
        field(age.is_some(), "expires_ms", "must be within 7 days after created_ms")?;
        check_sizes(p)?;
        Ok(action)
    }

    fn check_intent(&self, p: &Proposal) -> Result<(), ActionError> {
        let key = self.schema.intent(&self.args)?;
        let suffix = p.intent_key.strip_prefix(&format!("{key}/")).filter(|suffix| !suffix.is_empty());
        let (ok, why) = match self.schema.about().intent.each {
            Each::Once => (p.intent_key == key, "must be the key that the arguments make, with nothing behind it"),
            Each::Window => (suffix.is_some(), "must begin with the key that the arguments make, and a slash"),
            Each::Version => (
                suffix.is_some() && suffix == p.expected_version.as_deref(),
                "must be the key that the arguments make, a slash, and the expected version",
            ),
        };
        if ok { Ok(()) } else { Err(ActionError::Field { field: "intent_key", why: why.to_owned() }) }
    }
}

fn check_sizes(p: &Proposal) -> Result<(), ActionError> {
    let long = |field| Err(ActionError::Field { field, why: "is too long".to_owned() });
    let names = [
        ("intent_key", &p.intent_key),
        ("conflict_key", &p.conflict_key),
        ("agent", &p.agent),
        ("confidence_method", &p.confidence_method),
    ];
    let names = names.into_iter().map(|(name, text)| (name, text.as_str(), NAME_LEN_MAX));
    let texts = [("rationale", p.rationale.as_str(), TEXT_LEN_MAX), ("undo_plan", &p.undo_plan, TEXT_LEN_MAX)];
    let diff = [("dry_run", p.dry_run.as_deref().unwrap_or_default(), DIFF_LEN_MAX)];
    if let Some((name, ..)) = names.chain(texts).chain(diff).find(|(_, text, max)| text.len() > *max) {
        return long(name);
    }
    let evidence_fits = p.evidence.len() <= LIST_MAX
        && p.evidence
            .iter()
            .all(|e| e.text.len() <= TEXT_LEN_MAX && e.source.len() <= NAME_LEN_MAX && labels_fit(&e.labels));
    if !evidence_fits {
        return long("evidence");
    }
    if !labels_fit(&p.taint) {
        return long("taint");
    }
    if p.alternatives.len() > LIST_MAX || p.alternatives.iter().any(|a| a.len() > TEXT_LEN_MAX) {
        return long("alternatives");
    }
    if p.blast.len() > LIST_MAX || p.blast.iter().any(|b| b.what.len() > NAME_LEN_MAX) {
        return long("blast");
    }
    if p.budgets.len() > LIST_MAX || p.budgets.iter().any(|b| b.budget.len() > NAME_LEN_MAX) {
        return long("budgets");
    }
    if let Some(session) = &p.session
        && let Err(field) = session.fits()
    {
        return long(field);
    }
    Ok(())
}

fn labels_fit(labels: &[String]) -> bool {
    labels.len() <= LIST_MAX && labels.iter().all(|label| label.len() <= NAME_LEN_MAX)
}

#[cfg(test)]
mod tests;
