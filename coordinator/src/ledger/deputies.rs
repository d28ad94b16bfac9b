//! Deputies: whose seats a person may take.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::Digest;
use cauldron_identity::authority::Authority;

use super::{Ledger, Recorded};
use crate::bodies::{DEPUTY_MS_MAX, DeputyStatement, Proposal};

/// What one person handed on to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deputised {
    /// Whose right it is.
    pub person: String,
    /// In which groups: of those named, the ones that the person belongs to now.
    pub groups: BTreeSet<String>,
}

impl Ledger {
    /// What was handed on to a person that holds for a proposal at `at_ms`. A deputy hands nothing on: only a person's own groups
    /// count.
    #[must_use]
    pub fn deputised(&self, to: &str, p: &Recorded<Proposal>, at_ms: u64, authority: &Authority) -> Vec<Deputised> {
        let said = self.deputies.get(to).into_iter().flat_map(BTreeMap::keys);
        let holds = |s: &DeputyStatement| {
            s.until_ms.saturating_sub(s.from_ms) <= DEPUTY_MS_MAX
                && (s.from_ms..=s.until_ms).contains(&at_ms)
                && (s.classes.is_empty() || s.classes.contains(&p.body.action_class))
                && s.person != to
        };
        let handed = said.filter_map(|d| Some((d.id(), d.verify(authority).ok()?)));
        let handed = handed.filter(|(id, (s, _))| holds(s) && !self.takes_back(&s.person, id, authority));
        let view = |(_, (s, now)): (Digest, (DeputyStatement, cauldron_identity::authority::Person))| Deputised {
            groups: s.groups.into_iter().filter(|g| now.groups.contains(g)).collect(),
            person: s.person,
        };
        handed.map(view).collect()
    }

    /// Whether a person took back what they said.
    fn takes_back(&self, person: &str, id: &Digest, authority: &Authority) -> bool {
        let said = self.taken_back.get(person).into_iter().flat_map(BTreeMap::keys);
        said.filter_map(|d| d.verify(authority).ok()).any(|(s, _)| s.takes_back == Some(*id))
    }

    /// Who sits for whom by a statement that counts and was not taken back, for people to see.
    #[must_use]
    pub fn deputy_statements(&self, authority: &Authority) -> Vec<(Digest, DeputyStatement)> {
        let said = self.deputies.values().flat_map(BTreeMap::keys);
        let counts = said.filter_map(|d| Some((d.id(), d.verify(authority).ok()?.0)));
        counts.filter(|(id, s)| !self.takes_back(&s.person, id, authority)).collect()
    }
}
