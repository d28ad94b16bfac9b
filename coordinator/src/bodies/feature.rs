//! Features that can be stopped as a whole.

use std::fmt;
use std::str::FromStr;

use cauldron_identity::scope::is_name;

/// Something that Cauldron does, by the name that a restriction carries. Each is stopped where it would act, see
/// `docs/restrictions.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feature {
    /// Everything that one connector does, reads included, at whatever node.
    Connector(String),
    /// Sessions of agents that run elsewhere: none of their steps is carried out.
    Sessions,
    /// Approvals by passkey, as the approval page makes them: it takes none, and none counts. A no is taken as before.
    ApprovalPage,
    /// Autonomy: no grant raises anybody's level.
    Autonomy,
}

const CONNECTOR: &str = "connector/";

impl FromStr for Feature {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sessions" => Ok(Self::Sessions),
            "approval-page" => Ok(Self::ApprovalPage),
            "autonomy" => Ok(Self::Autonomy),
            _ => match text.strip_prefix(CONNECTOR).filter(|name| is_name(name)) {
                Some(name) => Ok(Self::Connector(name.to_owned())),
                None => Err(format!(
                    "{:?} is no feature: use sessions, approval-page, autonomy or {CONNECTOR}NAME",
                    text.chars().take(80).collect::<String>()
                )),
            },
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connector(name) => write!(f, "{CONNECTOR}{name}"),
            Self::Sessions => f.write_str("sessions"),
            Self::ApprovalPage => f.write_str("approval-page"),
            Self::Autonomy => f.write_str("autonomy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_one_name_each_and_nothing_else_is_one() {
        for name in ["sessions", "approval-page", "autonomy", "connector/blocklist"] {
            assert_eq!(name.parse::<Feature>().expect("one").to_string(), name);
        }
        for other in ["", "Sessions", "connector/", "connector/Block List", "page"] {
            assert!(other.parse::<Feature>().expect_err("none").contains("no feature"), "{other:?}");
        }
    }
}
