//! SPIFFE IDs and the roles their paths name.
//!
//! Grammar: [SPIFFE-ID](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md), parsed by the `spiffe` crate.

pub use spiffe::{SpiffeId, TrustDomain};

use crate::scope::is_name;

/// SPIFFE-ID §2.3: everybody must understand that many bytes, and should not make more.
pub const ID_BYTES_MAX: usize = 2048;

/// Why a text is no SPIFFE ID.
#[derive(Debug, thiserror::Error, PartialEq, Clone)]
pub enum IdError {
    /// Longer than any SPIFFE ID that others would understand.
    #[error("it has {0} bytes, a SPIFFE ID has at most {ID_BYTES_MAX}")]
    TooLong(usize),
    /// Against the grammar.
    #[error(transparent)]
    Grammar(#[from] spiffe::SpiffeIdError),
}

/// Reads a SPIFFE ID from outside: the grammar as the `spiffe` crate reads it, and the length, which it leaves open.
///
/// Scheme and trust domain are case-insensitive (§2.4) and come out in lower case; the path is not.
///
/// # Errors
/// [`IdError`].
pub fn parse(text: &str) -> Result<SpiffeId, IdError> {
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    Ok(SpiffeId::new(text)?)
}

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
    /// `/coordinator/<name>/agent/<agent>`: a workload beside a coordinator of the whole mesh; never a mesh peer.
    CoordinatorAgent {
        /// The coordinator.
        coordinator: String,
        /// Its name.
        agent: String,
    },
}

/// A SPIFFE ID whose path is none of the five forms.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error(
    "{id} names no role: use /coordinator/<name>, /site/<site>/coordinator/<name> or /site/<site>/node/<node>, for a workload on a \
     node or a mesh coordinator with /agent/<agent> behind it, each name 1 to 63 of a-z, 0-9 and '-'"
)]
pub struct RoleError {
    /// The SPIFFE ID.
    pub id: String,
}

impl Role {
    /// Reads the role from the path.
    ///
    /// # Errors
    /// [`RoleError`] when the path is none of the five forms.
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
            ["coordinator", name, "agent", agent] => {
                (Self::CoordinatorAgent { coordinator: own(name), agent: own(agent) }, vec![name, agent])
            }
            _ => return Err(RoleError { id: id.to_string() }),
        };
        if names.into_iter().all(is_name) { Ok(role) } else { Err(RoleError { id: id.to_string() }) }
    }

    /// The site, for everything below one.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        match self {
            Self::Coordinator { .. } | Self::CoordinatorAgent { .. } => None,
            Self::SiteCoordinator { site, .. } | Self::Node { site, .. } | Self::Agent { site, .. } => Some(site),
        }
    }

    /// The last name: what people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Coordinator { name } | Self::SiteCoordinator { name, .. } => name,
            Self::Node { node, .. } => node,
            Self::Agent { agent, .. } | Self::CoordinatorAgent { agent, .. } => agent,
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
        !matches!(self, Self::Agent { .. } | Self::CoordinatorAgent { .. })
    }
}

/// Whether `agent` names an agent (or another workload) of the peer `host`: its path and `/agent/<agent>` behind it. A peer
/// may ask for SVIDs of these and of nobody else.
#[must_use]
pub fn is_agent_of(agent: &SpiffeId, host: &SpiffeId) -> bool {
    let below = agent.path().strip_prefix(host.path()).and_then(|rest| rest.strip_prefix("/agent/"));
    agent.trust_domain() == host.trust_domain()
        && below.is_some_and(is_name)
        && Role::of(host).is_ok_and(|role| role.is_peer())
        && Role::of(agent).is_ok_and(|role| !role.is_peer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_the_specification_s() {
        let (segment, domain) = ("a".repeat(2048 - "spiffe://a.test/".len()), "d".repeat(255));
        let good = [
            ("spiffe://a.test", "a.test", ""),
            ("spiffe://a.test/x", "a.test", "/x"),
            ("spiffe://127.0.0.1/x", "127.0.0.1", "/x"),
            ("spiffe://a-b_c.0/X.y-z_0/...", "a-b_c.0", "/X.y-z_0/..."),
            ("spiffe://a.test/.x/x.", "a.test", "/.x/x."),
            ("SPIFFE://A.Test/Path", "a.test", "/Path"),
            (&format!("spiffe://{domain}/x"), &domain, "/x"),
            (&format!("spiffe://a.test/{segment}"), "a.test", &format!("/{segment}")),
        ];
        for (text, trust_domain, path) in good {
            let id = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((id.trust_domain_name(), id.path()), (trust_domain, path), "{text}");
        }
        let long = [format!("spiffe://a.test/{segment}a"), format!("spiffe://{domain}d/x")];
        let bad = [
            ("", "cannot be empty"),
            ("a.test/x", "scheme"),
            ("https://a.test/x", "scheme"),
            ("spiffe:a.test/x", "scheme"),
            ("spiffe:/a.test/x", "scheme"),
            ("xspiffe://a.test/x", "scheme"),
            (" spiffe://a.test/x", "scheme"),
            ("spiffe://", "trust domain is missing"),
            ("spiffe:///x", "trust domain is missing"),
            ("spiffe://a.test:443/x", "trust domain may only contain"),
            ("spiffe://u@a.test/x", "trust domain may only contain"),
            ("spiffe://u:p@a.test/x", "trust domain may only contain"),
            ("spiffe://a%2etest/x", "trust domain may only contain"),
            ("spiffe://[::1]/x", "trust domain may only contain"),
            ("spiffe://ä.test/x", "trust domain may only contain"),
            ("spiffe://a test/x", "trust domain may only contain"),
            ("spiffe://a.test?q", "trust domain may only contain"),
            ("spiffe://a.test#f", "trust domain may only contain"),
            ("spiffe://a.test/", "trailing slash"),
            ("spiffe://a.test/x/", "trailing slash"),
            ("spiffe://a.test//x", "empty segments"),
            ("spiffe://a.test/x//y", "empty segments"),
            ("spiffe://a.test/.", "dot segments"),
            ("spiffe://a.test/x/../y", "dot segments"),
            ("spiffe://a.test/x%2fy", "path segment characters"),
            ("spiffe://a.test/x?q=1", "path segment characters"),
            ("spiffe://a.test/x#f", "path segment characters"),
            ("spiffe://a.test/x:y", "path segment characters"),
            ("spiffe://a.test/ü", "path segment characters"),
            ("spiffe://a.test/x\0", "path segment characters"),
            ("spiffe://a.test/x\n", "path segment characters"),
            (&long[0], "2049 bytes"),
            (&long[1], "255 bytes"),
        ];
        for (text, why) in bad {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn reads_the_five_forms_and_no_other() {
        let role = |s: &str| Role::of(&SpiffeId::new(s).expect(s));
        let lyon = role("spiffe://a.test/site/lyon/node/n1").expect("a node");
        assert_eq!((lyon.site(), lyon.name(), lyon.is_peer()), (Some("lyon"), "n1", true));
        assert!(role("spiffe://a.test/coordinator/hq").expect("a coordinator").is_mesh_coordinator());
        assert!(!role("spiffe://a.test/site/lyon/node/n1/agent/x").expect("an agent").is_peer());
        let web = role("spiffe://a.test/coordinator/hq/agent/web").expect("an agent");
        assert_eq!((web.site(), web.name(), web.is_peer()), (None, "web", false));
        for bad in [
            "spiffe://a.test/site/lyon/coordinator/n1/agent/x",
            "spiffe://a.test",
            "spiffe://a.test/coordinator",
            "spiffe://a.test/site/Lyon/node/n",
            "spiffe://a.test/x/y",
        ] {
            assert!(role(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agent_is_of_one_peer_alone() {
        let id = |s: &str| SpiffeId::new(s).expect(s);
        let of = |agent: &str, host: &str| is_agent_of(&id(agent), &id(host));
        let node = "spiffe://a.test/site/lyon/node/n1";
        assert!(of("spiffe://a.test/site/lyon/node/n1/agent/x", node));
        assert!(of("spiffe://a.test/coordinator/hq/agent/x", "spiffe://a.test/coordinator/hq"));
        for other in [
            node,
            "spiffe://a.test/site/lyon/node/n10/agent/x",
            "spiffe://a.test/site/lyon/node/n2/agent/x",
            "spiffe://b.test/site/lyon/node/n1/agent/x",
            "spiffe://a.test/site/lyon/node/n1/agent/x/agent/y",
            "spiffe://a.test/coordinator/hq",
        ] {
            assert!(!of(other, node), "{other}");
        }
        assert!(!of("spiffe://a.test/site/lyon/node/n1/agent/x", "spiffe://a.test/site/lyon/node/n1/agent/x"));
    }
}
