//! Sessions: what one agent does for one principal, step by step. Every step is a proposal, reads included.

use cauldron_identity::{Digest, FactId};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Links of a delegation chain.
pub const DELEGATION_MAX: usize = 8;
/// Operations that one link may name.
const OPERATIONS_MAX: usize = 64;
const TEXT_LEN_MAX: usize = 256;
/// Bytes of what the principal asked for.
pub const PURPOSE_LEN_MAX: usize = 4_096;

/// One step of a session. The chain has no gaps: whoever holds a step holds every step before it, in order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct SessionStep {
    /// The session.
    #[n(0)]
    pub id: Digest,
    /// For whom: a person's id, or a workload's SPIFFE ID.
    #[n(1)]
    pub principal: String,
    /// In which role.
    #[n(2)]
    pub role: String,
    /// How the principal's right came to the agent; empty where the principal asked the agent itself.
    #[n(3)]
    #[cbor(default)]
    pub delegation: Vec<Delegated>,
    /// Position in the session, from 1.
    #[n(4)]
    pub index: u64,
    /// The fact of the step before; none for the first.
    #[n(5)]
    pub prev: Option<FactId>,
    /// What the principal asked for, in its own words; on the first step alone, which is made before the session has read anything.
    #[n(6)]
    pub purpose: Option<String>,
}

/// One link of a delegation chain: it hands on part of what was held, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
#[serde(deny_unknown_fields)]
pub struct Delegated {
    /// Who hands on.
    #[n(0)]
    pub from: String,
    /// To whom.
    #[n(1)]
    pub to: String,
    /// Operations, in full or as `<prefix>.*`.
    #[n(2)]
    pub operations: Vec<String>,
    /// Until when, milliseconds since the Unix epoch.
    #[n(3)]
    pub expires_ms: u64,
}

impl SessionStep {
    /// Whether its parts are within their bounds.
    ///
    /// # Errors
    /// The part that is not.
    pub fn fits(&self) -> Result<(), &'static str> {
        let texts = [&self.principal, &self.role];
        let links = self.delegation.iter();
        let link_fits = |d: &Delegated| {
            d.from.len() <= TEXT_LEN_MAX
                && d.to.len() <= TEXT_LEN_MAX
                && d.operations.len() <= OPERATIONS_MAX
                && d.operations.iter().all(|o| o.len() <= TEXT_LEN_MAX)
        };
        if texts.iter().any(|t| t.len() > TEXT_LEN_MAX) {
            Err("session")
        } else if self.purpose.as_ref().is_some_and(|p| p.len() > PURPOSE_LEN_MAX) {
            Err("session.purpose")
        } else if self.delegation.len() > DELEGATION_MAX || !links.clone().all(link_fits) {
            Err("session.delegation")
        } else {
            Ok(())
        }
    }

    /// Whether the delegation covers `operation` for `agent` at `at_ms`: it begins with the principal, each link begins where the
    /// one before ended, none hands on more or for longer than it held, and the last one ends at the agent.
    ///
    /// # Errors
    /// A sentence.
    pub fn covers(&self, operation: &str, agent: &str, at_ms: u64) -> Result<(), String> {
        let (mut holder, mut held, mut until_ms) = (self.principal.as_str(), None::<&[String]>, u64::MAX);
        for link in &self.delegation {
            if link.from != holder {
                return Err(format!("{} hands on what {holder} holds", link.from));
            }
            if link.expires_ms > until_ms {
                return Err(format!("{} hands on for longer than it holds", link.from));
            }
            let wider = link.operations.iter().find(|o| held.is_some_and(|h| !h.iter().any(|h| contains(h, o))));
            if let Some(wider) = wider {
                return Err(format!("{} hands on {wider}, which it does not hold", link.from));
            }
            (holder, held, until_ms) = (&link.to, Some(link.operations.as_slice()), link.expires_ms);
        }
        if !self.delegation.is_empty() && holder != agent {
            return Err(format!("the delegation ends at {holder}, not at the agent"));
        }
        if at_ms > until_ms {
            return Err("the delegation has expired".to_owned());
        }
        match held {
            Some(held) if !held.iter().any(|h| contains(h, operation)) => {
                Err(format!("the delegation does not cover {operation}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a pattern (`<operation>` or `<prefix>.*`) covers an operation or a narrower pattern.
fn contains(pattern: &str, what: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => what.starts_with(prefix) && (prefix.is_empty() || prefix.ends_with('.')),
        None => pattern == what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str, operations: &[&str], expires_ms: u64) -> Delegated {
        let operations = operations.iter().map(|o| (*o).to_owned()).collect();
        Delegated { from: from.into(), to: to.into(), operations, expires_ms }
    }

    fn step(delegation: Vec<Delegated>) -> SessionStep {
        let id = Digest::of("session", b"1");
        SessionStep {
            id,
            principal: "ana".into(),
            role: "clerk".into(),
            delegation,
            index: 1,
            prev: None,
            purpose: None,
        }
    }

    #[test]
    fn a_delegation_attenuates_and_expires() {
        let good =
            step(vec![link("ana", "planner", &["erp.*"], 200), link("planner", "clerk", &["erp.invoice.pay"], 100)]);
        assert_eq!(good.covers("erp.invoice.pay", "clerk", 100), Ok(()));
        assert_eq!(step(vec![]).covers("erp.invoice.pay", "clerk", 100), Ok(()));
        for (chain, operation, at_ms, why) in [
            (good.delegation.clone(), "erp.invoice.draft", 100, "does not cover"),
            (good.delegation.clone(), "erp.invoice.pay", 101, "expired"),
            (vec![link("bo", "clerk", &["erp.*"], 200)], "erp.invoice.pay", 0, "bo hands on what ana holds"),
            (vec![link("ana", "other", &["erp.*"], 200)], "erp.invoice.pay", 0, "ends at other"),
            (
                vec![link("ana", "p", &["erp.invoice.*"], 200), link("p", "clerk", &["erp.*"], 200)],
                "erp.invoice.pay",
                0,
                "does not hold",
            ),
            (
                vec![link("ana", "p", &["erp.*"], 200), link("p", "clerk", &["erp.*"], 201)],
                "erp.invoice.pay",
                0,
                "for longer",
            ),
            (vec![link("ana", "clerk", &["erp*"], 200)], "erp.invoice.pay", 0, "does not cover"),
        ] {
            let refused = step(chain).covers(operation, "clerk", at_ms).expect_err(why);
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
