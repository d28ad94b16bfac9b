//! The operations that this build knows, with typed arguments. What has no schema here can be neither permitted nor done.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cauldron_identity::scope::is_name;
use serde_json::{Value, json};

use crate::bodies::{Proposal, RiskClass};
use crate::json::{JsonError, canonical, from_canonical, rfc3339};

/// `security.address.block`: drop traffic from one address for a while.
pub const OP_ADDRESS_BLOCK: &str = "security.address.block";
/// Every action class of this build: operation and connector.
pub const CLASSES: [&str; 1] = ["security.address.block/blocklist"];
/// The longest block, seconds.
pub const TTL_S_MAX: u64 = 86_400;
/// How long a proposal may stay open, milliseconds: older reasons should be looked at again.
pub const PROPOSAL_AGE_MS_MAX: u64 = 7 * 86_400_000;

const TEXT_LEN_MAX: usize = 2_048;
const NAME_LEN_MAX: usize = 256;
const EVIDENCE_MAX: usize = 64;
const PPM: u32 = 1_000_000;

/// `<site>/<node>/<connector>/<object>`: what an action touches. The node owns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// The site.
    pub site: String,
    /// The node that owns it.
    pub node: String,
    /// The connector, e.g. `blocklist`.
    pub connector: String,
    /// What is acted on inside the connector. May contain slashes.
    pub object: String,
}

/// A typed, validated action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// [`OP_ADDRESS_BLOCK`].
    BlockAddress(BlockAddress),
}

/// Arguments of [`OP_ADDRESS_BLOCK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockAddress {
    /// The address; an IPv4-mapped IPv6 address is its IPv4 self.
    pub address: IpAddr,
    /// How long, seconds, 1 to [`TTL_S_MAX`].
    pub ttl_s: u32,
    /// Why, for people.
    pub reason: String,
}

/// Why a proposal is not an action that could be judged.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum ActionError {
    /// No schema for it.
    #[error("operation {0:?} is not known to this build")]
    Operation(String),
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
        field: &'static str,
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

impl FromStr for Resource {
    type Err = ActionError;
    fn from_str(text: &str) -> Result<Self, ActionError> {
        let refused = || ActionError::Resource(text.chars().take(120).collect());
        let mut parts = text.splitn(4, '/');
        let mut next = || parts.next().ok_or_else(refused);
        let (site, node, connector, object) = (next()?, next()?, next()?, next()?);
        let plain = object.len() <= NAME_LEN_MAX && !object.chars().any(char::is_control);
        if [site, node, connector].into_iter().all(is_name) && !object.is_empty() && plain {
            let own = str::to_owned;
            Ok(Self { site: own(site), node: own(node), connector: own(connector), object: own(object) })
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.site, self.node, self.connector, self.object)
    }
}

impl BlockAddress {
    /// Normalises the address and checks the ranges.
    ///
    /// # Errors
    /// [`ActionError::Argument`].
    pub fn new(address: IpAddr, ttl_s: u64, reason: &str) -> Result<Self, ActionError> {
        let argument = |field, why: String| ActionError::Argument { field, why };
        let ttl = u32::try_from(ttl_s).ok().filter(|_| (1..=TTL_S_MAX).contains(&ttl_s));
        let ttl_s = ttl.ok_or_else(|| argument("ttl_s", format!("{ttl_s} is not within 1 to {TTL_S_MAX}")))?;
        if reason.trim().is_empty() || reason.len() > TEXT_LEN_MAX {
            return Err(argument("reason", format!("must be 1 to {TEXT_LEN_MAX} bytes")));
        }
        Ok(Self { address: address.to_canonical(), ttl_s, reason: reason.to_owned() })
    }

    fn from_value(value: &Value) -> Result<Self, ActionError> {
        let argument = |field, why: &str| ActionError::Argument { field, why: why.to_owned() };
        let map = value.as_object().ok_or_else(|| argument("(all)", "must be an object"))?;
        if let Some(extra) = map.keys().find(|k| !matches!(k.as_str(), "address" | "ttl_s" | "reason")) {
            return Err(ActionError::Argument { field: "(all)", why: format!("{extra:?} is not an argument") });
        }
        let text = map.get("address").and_then(Value::as_str).ok_or_else(|| argument("address", "must be a text"))?;
        let address: IpAddr = text.parse().map_err(|_| argument("address", "is no IP address"))?;
        let ttl_s = map.get("ttl_s").and_then(Value::as_u64).ok_or_else(|| argument("ttl_s", "must be an integer"))?;
        let reason = map.get("reason").and_then(Value::as_str).ok_or_else(|| argument("reason", "must be a text"))?;
        let block = Self::new(address, ttl_s, reason)?;
        if block.address.to_string() == text { Ok(block) } else { Err(argument("address", "is not in canonical form")) }
    }
}

impl Action {
    /// Reads the arguments of `operation`.
    ///
    /// # Errors
    /// [`ActionError`].
    pub fn parse(operation: &str, args: &[u8]) -> Result<Self, ActionError> {
        match operation {
            OP_ADDRESS_BLOCK => Ok(Self::BlockAddress(BlockAddress::from_value(&from_canonical(args)?)?)),
            other => Err(ActionError::Operation(other.chars().take(80).collect())),
        }
    }

    /// `<module>.<object>.<verb>`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::BlockAddress(_) => OP_ADDRESS_BLOCK,
        }
    }

    /// The module slice, first part of the operation.
    #[must_use]
    pub fn module(&self) -> &'static str {
        self.operation().split('.').next().unwrap_or_default()
    }

    /// The connector that carries it out.
    #[must_use]
    pub fn connector(&self) -> &'static str {
        match self {
            Self::BlockAddress(_) => "blocklist",
        }
    }

    /// What it touches inside the connector.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::BlockAddress(block) => block.address.to_string(),
        }
    }

    /// Operation and resource kind: what bundles are indexed by.
    #[must_use]
    pub fn action_class(&self) -> String {
        format!("{}/{}", self.operation(), self.connector())
    }

    /// The class that the schema gives it.
    #[must_use]
    pub fn risk(&self) -> RiskClass {
        match self {
            Self::BlockAddress(_) => RiskClass::R1,
        }
    }

    /// The arguments in canonical JSON.
    ///
    /// # Errors
    /// [`JsonError`]: not for any action made by this module.
    pub fn args(&self) -> Result<Vec<u8>, JsonError> {
        match self {
            Self::BlockAddress(b) => {
                canonical(&json!({"address": b.address.to_string(), "reason": b.reason, "ttl_s": b.ttl_s}))
            }
        }
    }

    /// The intent: the object and the window in which it was asked for.
    #[must_use]
    pub fn intent_key(&self, window_start_ms: u64) -> String {
        format!("{}/{}", self.object(), rfc3339(window_start_ms))
    }

    /// Checks a whole proposal: schema, and that its fields agree with each other.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn of_proposal(p: &Proposal) -> Result<Self, ActionError> {
        let action = Self::parse(&p.operation, &p.args)?;
        let resource: Resource = p.resource.parse()?;
        let field = |ok: bool, field, why: &str| {
            if ok { Ok(()) } else { Err(ActionError::Field { field, why: why.to_owned() }) }
        };
        field(p.module == action.module(), "module", "is not the operation's")?;
        field(p.action_class == action.action_class(), "action_class", "is not operation/connector")?;
        field(resource.site == p.site, "site", "is not the resource's")?;
        field(resource.connector == action.connector(), "resource", "names another connector than the operation's")?;
        field(resource.object == action.object(), "resource", "names another object than the arguments")?;
        field(p.args_digest == Proposal::digest_of_args(&p.args), "args_digest", "is not the arguments'")?;
        let prefix = format!("{}/", action.object());
        field(p.intent_key.starts_with(&prefix), "intent_key", "must begin with the object and a slash")?;
        field(p.confidence_ppm <= PPM, "confidence_ppm", "is above one million")?;
        let age = p.expires_ms.checked_sub(p.created_ms).filter(|ms| (1..=PROPOSAL_AGE_MS_MAX).contains(ms));
        field(age.is_some(), "expires_ms", "must be within 7 days after created_ms")?;
        check_sizes(p)?;
        Ok(action)
    }
}

fn check_sizes(p: &Proposal) -> Result<(), ActionError> {
    let long = |field| ActionError::Field { field, why: "is too long".to_owned() };
    let texts = [("rationale", &p.rationale, TEXT_LEN_MAX), ("undo_plan", &p.undo_plan, TEXT_LEN_MAX)];
    let names = [("intent_key", &p.intent_key), ("conflict_key", &p.conflict_key), ("agent", &p.agent)];
    let names = names.into_iter().map(|(name, text)| (name, text, NAME_LEN_MAX));
    if let Some((name, ..)) = texts.into_iter().chain(names).find(|(_, text, max)| text.len() > *max) {
        return Err(long(name));
    }
    let evidence_fits = p.evidence.len() <= EVIDENCE_MAX
        && p.evidence
            .iter()
            .all(|e| e.text.len() <= TEXT_LEN_MAX && e.source.len() <= NAME_LEN_MAX && e.labels.len() <= EVIDENCE_MAX);
    if evidence_fits && p.taint.len() <= EVIDENCE_MAX { Ok(()) } else { Err(long("evidence")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::proposal;

    fn args(text: &str) -> Result<Action, ActionError> {
        Action::parse(OP_ADDRESS_BLOCK, text.as_bytes())
    }

    #[test]
    fn arguments_are_typed_and_have_one_form() {
        let action = args(r#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#).expect("valid");
        assert_eq!(action.object(), "198.51.100.7");
        assert!(CLASSES.contains(&action.action_class().as_str()));
        assert_eq!(
            action.args().expect("canonical"),
            br#"{"address":"198.51.100.7","reason":"brute force","ttl_s":3600}"#
        );
        assert_eq!(action.intent_key(1_795_341_600_000), "198.51.100.7/2026-11-22T10:00:00Z");
        for (text, field) in [
            (r#"{"address":"::ffff:198.51.100.7","reason":"r","ttl_s":1}"#, "address"),
            (r#"{"address":"2001:DB8::1","reason":"r","ttl_s":1}"#, "address"),
            (r#"{"address":"fe80::1%eth0","reason":"r","ttl_s":1}"#, "address"),
            (r#"{"reason":"r","ttl_s":1}"#, "address"),
            (r#"{"address":"198.51.100.7","reason":"r","ttl_s":0}"#, "ttl_s"),
            (r#"{"address":"198.51.100.7","reason":"r","ttl_s":86401}"#, "ttl_s"),
            (r#"{"address":"198.51.100.7","reason":"r","ttl_s":"1"}"#, "ttl_s"),
            (r#"{"address":"198.51.100.7","reason":" ","ttl_s":1}"#, "reason"),
            (r#"{"address":"198.51.100.7","force":true,"reason":"r","ttl_s":1}"#, "(all)"),
            ("[]", "(all)"),
        ] {
            let refused = args(text);
            assert!(
                matches!(&refused, Err(ActionError::Argument { field: f, .. }) if *f == field),
                "{text}: {refused:?}"
            );
        }
        assert!(matches!(args(r#"{"ttl_s":1,"reason":"r","address":"198.51.100.7"}"#), Err(ActionError::Json(_))));
        assert!(matches!(Action::parse("erp.invoice.pay", b"{}"), Err(ActionError::Operation(_))));
    }

    #[test]
    fn resources_have_four_parts() {
        let resource: Resource = "lyon/lyon/blocklist/2001:db8::1".parse().expect("valid");
        assert_eq!(
            (resource.object.as_str(), resource.to_string().as_str()),
            ("2001:db8::1", "lyon/lyon/blocklist/2001:db8::1")
        );
        for bad in
            ["", "lyon", "lyon/lyon/blocklist", "lyon/lyon/blocklist/", "Lyon/lyon/blocklist/x", "a//b/c", "a/b/c/x\ny"]
        {
            assert_eq!(bad.parse::<Resource>(), Err(ActionError::Resource(bad.into())), "{bad:?}");
        }
    }

    #[test]
    fn a_proposals_fields_must_agree() {
        let good = proposal("198.51.100.7");
        assert!(Action::of_proposal(&good).is_ok());
        type Change = fn(&mut Proposal);
        let cases: [(&str, Change); 11] = [
            ("module", |p| p.module = "erp".into()),
            ("action_class", |p| p.action_class = "security.address.block/nft".into()),
            ("site", |p| p.site = "porto".into()),
            ("resource", |p| p.resource = "lyon/lyon/blocklist/198.51.100.8".into()),
            ("resource", |p| p.resource = "lyon/lyon/other/198.51.100.7".into()),
            ("args_digest", |p| p.args_digest = Proposal::digest_of_args(b"{}")),
            ("intent_key", |p| p.intent_key = "198.51.100.70/x".into()),
            ("confidence_ppm", |p| p.confidence_ppm = 1_000_001),
            ("expires_ms", |p| p.expires_ms = p.created_ms),
            ("rationale", |p| p.rationale = "x".repeat(2_049)),
            ("evidence", |p| p.evidence = vec![p.evidence[0].clone(); 65]),
        ];
        for (want, change) in cases {
            let mut bad = good.clone();
            change(&mut bad);
            let refused = Action::of_proposal(&bad);
            assert!(matches!(&refused, Err(ActionError::Field { field, .. }) if *field == want), "{want}: {refused:?}");
        }
    }
}
