//! The store as the log reads it, and the core from the store.

use std::ops::ControlFlow;
use std::sync::Arc;

use cauldron_crdt::Archive;
use cauldron_crdt::limits::HOT_BYTES_MAX;
use cauldron_identity::MeshId;
use cauldron_node_core::Opening;
use cauldron_store::{Store, keys, record};

use crate::error::CliError;

/// Reads records out of their checked envelopes.
pub struct StoreArchive(pub Arc<dyn Store>);

impl Archive for StoreArchive {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let value = self.0.get(key).map_err(|e| super::chain(&e))?;
        let body = |value: &Vec<u8>| record::unwrap(key, kind_of(key), value).map(<[u8]>::to_vec);
        value.as_ref().map(body).transpose().map_err(|e| e.to_string())
    }
}

/// Takes what the core must know of the store. After a clean stop no fact is read: those that are needed are read one by
/// one. After any other, all are, and memory holds no more of them than while the node runs.
///
/// # Errors
/// A record that is damaged, or does not hold.
pub fn read_store(store: &Arc<dyn Store>, mesh: MeshId) -> Result<Opening, CliError> {
    let mut opening = Opening::over(mesh, Arc::new(StoreArchive(store.clone())), HOT_BYTES_MAX);
    let damaged = |e: &dyn std::error::Error| CliError::integrity("a record of the store is damaged").because(e);
    let known = opening.knows_facts();
    tracing::debug!(indexed = known, "the store is read");
    for first in 0..=u8::MAX {
        if keys::INDEX.starts_with(&[first]) || (known && keys::FACT.starts_with(&[first])) {
            continue;
        }
        let mut broken = None;
        let scanned = store.scan(&[first], &mut |key, value| {
            let taken = match record::unwrap(key, kind_of(key), value) {
                Ok(body) => opening.take(key, body).map_err(|e| super::open::unusable(&e)),
                Err(e) => Err(damaged(&e)),
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    broken = Some(e);
                    ControlFlow::Break(())
                }
            }
        });
        scanned.map_err(|e| damaged(&e))?;
        broken.map_or(Ok(()), Err)?;
    }
    Ok(opening)
}

/// Which kind of record lies under a key: the first byte of its prefix.
pub fn kind_of(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default()
}
