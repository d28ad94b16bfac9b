//! Deputies: whose seats a person may take.

use std::collections::BTreeSet;

use cauldron_identity::Digest;
use cauldron_identity::authority::Authority;

use super::{Ledger, Recorded};
use crate::bodies::{DEPUTY_MS_MAX, DeputyStatement, Proposal};

/// What one person handed on to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deputised {
    /// Whose right it is.
    pub person: String,
    /// Who may use it.
    pub to: String,
    /// In which groups: of those named, the ones that the person belongs to now.
    pub groups: BTreeSet<String>,
}

impl Ledger {
    /// What people handed on that holds for a proposal at `at_ms`. A deputy hands nothing on: only a person's own groups count.
    #[must_use]
    pub fn deputised(&self, p: &Recorded<Proposal>, at_ms: u64, authority: &Authority) -> Vec<Deputised> {
        let mut found = Vec::new();
        for (person, said) in &self.deputies {
            let verified = said.keys().filter_map(|d| Some((d.id(), d.verify(authority).ok()?)));
            let verified: Vec<(Digest, (DeputyStatement, _))> = verified.collect();
            let back: BTreeSet<Digest> = verified.iter().filter_map(|(_, (s, _))| s.takes_back).collect();
            for (id, (s, now)) in verified {
                let lasts = s.until_ms.saturating_sub(s.from_ms) <= DEPUTY_MS_MAX;
                let holds =
                    s.takes_back.is_none() && !back.contains(&id) && lasts && (s.from_ms..=s.until_ms).contains(&at_ms);
                if holds && (s.classes.is_empty() || s.classes.contains(&p.body.action_class)) && s.to != *person {
                    let groups = s.groups.into_iter().filter(|g| now.groups.contains(g)).collect();
                    found.push(Deputised { person: person.clone(), to: s.to, groups });
                }
            }
        }
        found
    }

    /// Every statement of a person about deputies that counts now, for people to see.
    #[must_use]
    pub fn deputy_statements(&self, authority: &Authority) -> Vec<(Digest, DeputyStatement)> {
        let said = self.deputies.values().flat_map(|said| said.keys());
        said.filter_map(|d| Some((d.id(), d.verify(authority).ok()?.0))).collect()
    }
}
