//! The store in memory: for tests and the simulator, which models loss of power itself.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use crate::{Health, Store, StoreError, Visit, WriteBatch};

/// A [`Store`] that forgets when it is dropped.
#[derive(Debug, Default)]
pub struct MemStore {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that holds what `self` holds now: a backup, or a disk image for the simulator.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { map: Mutex::new(map) }
    }
}

impl Store for MemStore {
    fn commit(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.writes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.map.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        // Copied, so that `visit` may use the store.
        let found: Vec<_> = {
            let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
            map.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        for (key, value) in found {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<Health, StoreError> {
        Ok(Health::Sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::run(&|| MemStore::new());
    }

    #[test]
    fn a_snapshot_is_independent() {
        let store = MemStore::new();
        let mut batch = WriteBatch::new();
        batch.put("a", "1");
        store.commit(batch.clone()).expect("commits");
        let copy = store.snapshot();
        batch.put("a", "2");
        store.commit(batch).expect("commits");
        assert_eq!(copy.get(b"a").expect("reads"), Some(b"1".to_vec()));
    }
}
