//! A store as a log reads it.

use std::sync::Arc;

use cauldron_crdt::Archive;
use cauldron_store::{RedbStore, Store, record};

/// Reads records out of their envelopes, as the node does.
pub(crate) struct Shelf(pub(crate) Arc<RedbStore>);

impl Archive for Shelf {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let value = self.0.get(key).map_err(|e| e.to_string())?;
        let body = |value: &Vec<u8>| record::unwrap(key, kind_of(key), value).map(<[u8]>::to_vec);
        value.as_ref().map(body).transpose().map_err(|e| e.to_string())
    }

    fn read_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let values = self.0.get_many(keys).map_err(|e| e.to_string())?;
        let body = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            let body = value.as_ref().map(|value| record::unwrap(key, kind_of(key), value).map(<[u8]>::to_vec));
            body.transpose().map_err(|e| e.to_string())
        };
        keys.iter().zip(&values).map(body).collect()
    }
}

/// Which kind of record lies under a key.
pub(crate) fn kind_of(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default()
}
