//! SPIFFE IDs and the roles their paths name.
//!
//! Grammar: [SPIFFE-ID](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md), parsed by the `spiffe` crate.

pub use spiffe::{SpiffeId, TrustDomain};

use crate::scope::is_name;

/// What a SPIFFE ID's path says its holder is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `/coordinator/<name>`: a coordinator of the whole mesh.
    Coordinator {
        /// Its name.
        name: String,
    },
    /// `/site/<site>/coordinator/<name>`.
    SiteCoordinator {
        /// The site it coordinates.
        site: String,
        /// Its name.
        name: String,
    },
    /// `/site/<site>/node/<node>`.
    Node {
        /// Where it stands.
        site: String,
        /// Its name.
        node: String,
    },
    /// `/site/<site>/node/<node>/agent/<agent>`: an agent on a node; never a mesh peer.
    Agent {
        /// Where its node stands.
        site: String,
        /// Its node.
        node: String,
        /// Its name.
        agent: String,
    },
}

/// A SPIFFE ID whose path is none of the four forms.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error(
    "{id} names no role: use /coordinator/<name>, /site/<site>/coordinator/<name>, /site/<site>/node/<node> or \
     /site/<site>/node/<node>/agent/<agent>, each name 1 to 63 of a-z, 0-9 and '-'"
)]
pub struct RoleError {
    /// The SPIFFE ID.
    pub id: String,
}

impl Role {
    /// Reads the role from the path.
    ///
    /// # Errors
    /// [`RoleError`] when the path is none of the four forms.
    pub fn of(id: &SpiffeId) -> Result<Self, RoleError> {
        let parts: Vec<&str> = id.path().split('/').skip(1).collect();
        let own = |s: &str| s.to_owned();
        let (role, names) = match parts[..] {
            ["coordinator", name] => (Self::Coordinator { name: own(name) }, vec![name]),
            ["site", site, "coordinator", name] => {
                (Self::SiteCoordinator { site: own(site), name: own(name) }, vec![site, name])
            }
            ["site", site, "node", node] => (Self::Node { site: own(site), node: own(node) }, vec![site, node]),
            ["site", site, "node", node, "agent", agent] => {
                (Self::Agent { site: own(site), node: own(node), agent: own(agent) }, vec![site, node, agent])
            }
            _ => return Err(RoleError { id: id.to_string() }),
        };
        if names.into_iter().all(is_name) { Ok(role) } else { Err(RoleError { id: id.to_string() }) }
    }

    /// The site, for everything below one.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        match self {
            Self::Coordinator { .. } => None,
            Self::SiteCoordinator { site, .. } | Self::Node { site, .. } | Self::Agent { site, .. } => Some(site),
        }
    }

    /// The last name: what people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Coordinator { name } | Self::SiteCoordinator { name, .. } => name,
            Self::Node { node, .. } => node,
            Self::Agent { agent, .. } => agent,
        }
    }

    /// Whether this role coordinates the whole mesh.
    #[must_use]
    pub fn is_mesh_coordinator(&self) -> bool {
        matches!(self, Self::Coordinator { .. })
    }

    /// Whether the holder may be a peer in the mesh: everything but an agent.
    #[must_use]
    pub fn is_peer(&self) -> bool {
        !matches!(self, Self::Agent { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_forms_and_no_other() {
        let role = |s: &str| Role::of(&SpiffeId::new(s).expect(s));
        let lyon = role("spiffe://a.test/site/lyon/node/n1").expect("a node");
        assert_eq!((lyon.site(), lyon.name(), lyon.is_peer()), (Some("lyon"), "n1", true));
        assert!(role("spiffe://a.test/coordinator/hq").expect("a coordinator").is_mesh_coordinator());
        assert!(!role("spiffe://a.test/site/lyon/node/n1/agent/x").expect("an agent").is_peer());
        for bad in [
            "spiffe://a.test",
            "spiffe://a.test/coordinator",
            "spiffe://a.test/site/Lyon/node/n",
            "spiffe://a.test/x/y",
        ] {
            assert!(role(bad).is_err(), "{bad}");
        }
    }
}
