//! Scopes: replication groups with reader and writer rules over SPIFFE IDs.
//!
//! A scope is a *realm* and a *lane*. Restrictions and authority entries have lanes, hence chains, of their own, so that
//! "restrictions first" is nothing but the order in which the scopes of a link are served.

use std::fmt;
use std::str::FromStr;

/// Length of a site or node name, in bytes: one DNS label.
pub const NAME_LEN_MAX: usize = 63;

/// Who shares a scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Realm {
    /// Every enrolled author.
    Mesh,
    /// The nodes and coordinators of one site, and the mesh coordinators.
    Site(String),
}

/// What travels in a scope; the order is the order of service on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Deny, veto, suspend, kill: what restricts.
    Restrict,
    /// Entries of the authority chain: what raises.
    Authority,
    /// Everything else.
    Data,
}

/// A replication group. `Ord` is the order of service: restrictions, authority, data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    lane: Lane,
    realm: Realm,
}

/// A text that names no scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum ScopeError {
    /// Not one of the four forms.
    #[error("{0:?} is no scope: use mesh, mesh#authority, mesh#restrict, site/<name> or site/<name>#restrict")]
    Form(String),
    /// A site name outside [a-z0-9-], empty, or too long.
    #[error("{0:?} is no site name: 1 to {NAME_LEN_MAX} of a-z, 0-9 and '-', not at either end")]
    Name(String),
}

/// Whether `name` may name a site or node: one DNS label in lower case.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Scope {
    /// `mesh`: what every enrolled author may read.
    #[must_use]
    pub const fn mesh() -> Self {
        Self { lane: Lane::Data, realm: Realm::Mesh }
    }

    /// `mesh#authority`: the authority chain.
    #[must_use]
    pub const fn authority() -> Self {
        Self { lane: Lane::Authority, realm: Realm::Mesh }
    }

    /// `mesh#restrict`: restrictions that concern the whole mesh.
    #[must_use]
    pub const fn mesh_restrict() -> Self {
        Self { lane: Lane::Restrict, realm: Realm::Mesh }
    }

    /// `site/<name>`.
    ///
    /// # Errors
    /// [`ScopeError::Name`].
    pub fn site(name: &str) -> Result<Self, ScopeError> {
        Self::of_site(name, Lane::Data)
    }

    /// `site/<name>#restrict`.
    ///
    /// # Errors
    /// [`ScopeError::Name`].
    pub fn site_restrict(name: &str) -> Result<Self, ScopeError> {
        Self::of_site(name, Lane::Restrict)
    }

    fn of_site(name: &str, lane: Lane) -> Result<Self, ScopeError> {
        if is_name(name) {
            Ok(Self { lane, realm: Realm::Site(name.to_owned()) })
        } else {
            Err(ScopeError::Name(name.chars().take(80).collect()))
        }
    }

    /// Who shares it.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What travels in it.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// The site, for a site's scope.
    #[must_use]
    pub fn site_name(&self) -> Option<&str> {
        match &self.realm {
            Realm::Mesh => None,
            Realm::Site(name) => Some(name),
        }
    }

    /// The scope in which restrictions of this realm live: the narrowest that contains what they restrict.
    #[must_use]
    pub fn restrict(&self) -> Self {
        Self { lane: Lane::Restrict, realm: self.realm.clone() }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.realm {
            Realm::Mesh => f.write_str("mesh")?,
            Realm::Site(name) => write!(f, "site/{name}")?,
        }
        match self.lane {
            Lane::Restrict => f.write_str("#restrict"),
            Lane::Authority => f.write_str("#authority"),
            Lane::Data => Ok(()),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        match text {
            "mesh" => return Ok(Self::mesh()),
            "mesh#authority" => return Ok(Self::authority()),
            "mesh#restrict" => return Ok(Self::mesh_restrict()),
            _ => {}
        }
        let site = text.strip_prefix("site/").ok_or_else(|| ScopeError::Form(text.chars().take(80).collect()))?;
        match site.strip_suffix("#restrict") {
            Some(name) => Self::site_restrict(name),
            None => Self::site(site),
        }
    }
}

impl<C> minicbor::Encode<C> for Scope {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Scope {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(minicbor::decode::Error::message)
    }
}

impl serde::Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_order_is_service_order() {
        let texts = ["mesh#restrict", "site/lyon#restrict", "mesh#authority", "mesh", "site/lyon"];
        let scopes: Vec<Scope> = texts.iter().map(|t| t.parse().expect(t)).collect();
        assert_eq!(scopes.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
        assert!(scopes.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn refuses_what_is_no_scope() {
        for text in
            ["", "Mesh", "site/", "site/Lyon", "site/a/b", "site/-a", "mesh#data", "site/lyon#authority", "mesh "]
        {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
        assert!(Scope::site(&"a".repeat(64)).is_err());
    }
}
