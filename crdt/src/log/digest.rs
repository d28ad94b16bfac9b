//! One hash for what is held, so that two nodes see in 32 bytes whether they differ.
//!
//! Its cost follows what changed: each scope's hash is kept until one of its chains grows or forks, and is then made once,
//! however many links ask for it, from the heads. A chain's history is never read: its head stands for it, because
//! each header names the one before. So an idle node computes nothing, and a busy one walks the heads of the scopes that
//! changed, once per round of digests. A sum that is updated head by head would save that walk too, but a sum can be
//! steered by whoever chooses the summands; a hash over the sorted heads cannot.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cauldron_identity::{Digest, Scope};

use super::FactLog;

/// What was computed since the last change of each scope.
#[derive(Debug, Default)]
pub(super) struct Digests(BTreeMap<Scope, OnceLock<Digest>>);

impl Digests {
    /// A chain of `scope` changed.
    pub fn forget(&mut self, scope: &Scope) {
        match self.0.get_mut(scope) {
            Some(digest) => drop(digest.take()),
            None => drop(self.0.insert(scope.clone(), OnceLock::new())),
        }
    }
}

impl FactLog {
    /// One hash for what is held of `scope`: equal at two nodes exactly when their heads and known forks are. An empty
    /// scope has the same hash as an unknown one.
    #[must_use]
    pub fn state_hash(&self, scope: &Scope) -> Digest {
        let made = || self.state_hash_of([scope]);
        self.digests.0.get(scope).map_or_else(made, |kept| *kept.get_or_init(made))
    }

    /// One hash for several scopes: what CONVERGE compares.
    #[must_use]
    pub fn state_hash_of<'s>(&self, scopes: impl IntoIterator<Item = &'s Scope>) -> Digest {
        let mut scopes: Vec<&Scope> = scopes.into_iter().collect();
        scopes.sort();
        scopes.dedup();
        let mut input = Vec::new();
        for (chain, c) in scopes.into_iter().flat_map(|scope| self.chains_of(scope)) {
            let head = c.head(chain);
            let fork = c.fork.as_ref().map_or(0, |e| e.seq());
            if head.is_none() && fork == 0 {
                continue;
            }
            let name = chain.scope.to_string();
            input.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            input.extend_from_slice(name.as_bytes());
            input.extend_from_slice(chain.author.as_bytes());
            input.extend_from_slice(&chain.incarnation.to_be_bytes());
            input.extend_from_slice(&head.map_or(0, |h| h.seq).to_be_bytes());
            input.extend_from_slice(&head.map_or([0; 32], |h| *h.id.as_bytes()));
            input.extend_from_slice(&fork.to_be_bytes());
        }
        Digest::of("cauldron/state/v1", &input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_v1_of_what_is_held_is_pinned() {
        let mut log = FactLog::new(crate::testing::MESH);
        for n in 0..2 {
            let draft = crate::log::Draft {
                scope: Scope::mesh(),
                incarnation: 0,
                kind: "note".into(),
                deps: vec![],
                body: vec![n],
                hlc: 7 << 16,
                traceparent: None,
            };
            log.append(&crate::testing::key(1), draft).expect("appends");
        }
        let states = [Scope::mesh(), Scope::authority()].map(|scope| log.state_hash(&scope).to_string());
        expect_test::expect!["ca3b4513764e6e460c7bd3c3a11162506412bdd5ef97ed68dfafd2c7704a95d4 7adaedd055d37a8b2d6d02fc4b86e78e6843b76aa65155b5240db50528cca39e"].assert_eq(&states.join(" "));
    }
}
