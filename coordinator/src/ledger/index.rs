//! Which facts are about what: one sorted set each.
//!
//! Most keys have one fact. A set of its own for each of them would be a node of a tree with room for eleven: with 10,000 open
//! proposals that was most of what a coordinator's memory held.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{Digest, FactId};

use super::Recorded;

pub(super) const FIRST: FactId = FactId::from_bytes([0; 32]);
pub(super) const LAST: FactId = FactId::from_bytes([u8::MAX; 32]);

/// Ids of facts by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index<K>(BTreeSet<(K, FactId)>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Copy> Index<K> {
    pub(super) fn insert(&mut self, key: K, id: FactId) {
        self.0.insert((key, id));
    }

    /// In the order of the ids.
    pub(super) fn of<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a FactId> + use<'a, K> {
        self.0.range((*key, FIRST)..=(*key, LAST)).map(|(_, id)| id)
    }
}

/// What was said about facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About<T>(BTreeMap<(FactId, FactId), Box<Recorded<T>>>);

impl<T> Default for About<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> About<T> {
    /// Whether it was not here.
    pub(super) fn insert(&mut self, about: FactId, said: Recorded<T>) -> bool {
        self.0.insert((about, said.id), Box::new(said)).is_none()
    }

    /// One of them.
    pub(super) fn get(&self, about: &FactId, id: &FactId) -> Option<&Recorded<T>> {
        self.0.get(&(*about, *id)).map(AsRef::as_ref)
    }

    /// In the order of their ids.
    pub(super) fn on<'a>(&'a self, about: &FactId) -> impl Iterator<Item = &'a Recorded<T>> + use<'a, T> {
        self.0.range((*about, FIRST)..=(*about, LAST)).map(|(_, said)| said.as_ref())
    }
}

/// The key of what somebody wants of a resource. Never stored or sent.
pub(super) fn intent(resource: &str, intent_key: &str) -> Digest {
    let length = (resource.len() as u64).to_be_bytes();
    Digest::of("cauldron/intent-on", &[&length, resource.as_bytes(), intent_key.as_bytes()].concat())
}
