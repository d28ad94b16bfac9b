//! What an action touches, and who owns it.

use std::fmt;
use std::str::FromStr;

use cauldron_identity::scope::is_name;

use super::{ActionError, NAME_LEN_MAX};

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

impl FromStr for Resource {
    type Err = ActionError;
    fn from_str(text: &str) -> Result<Self, ActionError> {
        let refused = || ActionError::Resource(text.chars().take(120).collect());
        let mut parts = text.splitn(4, '/');
        let mut next = || parts.next().ok_or_else(refused);
        let (site, node, connector, object) = (next()?, next()?, next()?, next()?);
        if [site, node, connector].into_iter().all(is_name) && is_object(object) {
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

/// Whether a text can be the last part of a resource: 1 to 256 bytes, no control character.
pub(super) fn is_object(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
