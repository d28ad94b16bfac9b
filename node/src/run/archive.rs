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

    fn read_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let values = self.0.get_many(keys).map_err(|e| super::chain(&e))?;
        let body = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            let body = value.as_ref().map(|value| record::unwrap(key, kind_of(key), value).map(<[u8]>::to_vec));
            body.transpose().map_err(|e| e.to_string())
        };
        keys.iter().zip(&values).map(body).collect()
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
        // What a pack holds is read through the keys of its facts.
        let passed = [keys::INDEX, keys::JUDGED, keys::PACK].iter().any(|prefix| prefix.starts_with(&[first]));
        if passed || (known && keys::FACT.starts_with(&[first])) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::founding::{self, found};
    use crate::keyfile::read_author;
    use crate::paths::DataDir;
    use crate::run::engine::{self, Effects, Question, Wire};
    use crate::trace::Traceparent;
    use cauldron_coordinator::owner::{VerifiedPermit, VerifiedUndo};
    use cauldron_crdt::log::INDEX_HEAD;
    use cauldron_crdt::{ChainId, Draft, FactLog, Record};
    use cauldron_identity::{FactId, Scope, SpiffeId};
    use cauldron_node_core::{LinkId, Misbehave, NodeConfig, NodeCore, Seed};
    use cauldron_store::{MemStore, StoreError, WriteBatch};

    /// Nobody to talk to and nothing to do.
    struct Alone;

    impl Wire for Alone {
        fn send(&self, _: LinkId, _: Vec<u8>) {}
        fn close(&self, _: LinkId, _: &str) {}
        fn release(&self, _: LinkId) {}
        fn seek(&self, _: SpiffeId, _: Vec<String>) {}
    }

    impl Effects for Alone {
        fn execute(&self, _: Box<VerifiedPermit>, _: Option<Traceparent>) {}
        fn probe(&self, _: Question) {}
        fn version(&self, _: FactId, _: &str, _: String) {}
        fn check(&self, _: Question, _: Vec<String>) {}
        fn undo(&self, _: Box<VerifiedUndo>) {}
    }

    struct Site {
        _temporary: tempfile::TempDir,
        dir: DataDir,
        mesh: MeshId,
        store: Arc<dyn Store>,
    }

    impl Site {
        /// A founder's, with three facts of a kind that no fold looks into. Gives their keys, too.
        fn found() -> (Self, Vec<Vec<u8>>) {
            let temporary = tempfile::tempdir().expect("temporary directory");
            let dir = DataDir::new(temporary.path().join("hq"));
            found(&dir, &crate::cli::start::request_for_tests()).unwrap_or_else(|e| panic!("{e}"));
            let mesh = dir.binding().expect("readable").expect("bound").mesh;
            let (mut log, author) = (FactLog::new(mesh), read_author(&dir).expect("a key"));
            let (mut batch, mut keys) = (WriteBatch::new(), Vec::new());
            for hlc in 0..3 {
                let scope = Scope::site("lyon").expect("a name");
                let kind = "telemetry".to_owned();
                let draft = Draft { scope, incarnation: 0, kind, deps: vec![], body: vec![1], hlc, traceparent: None };
                let fact = Record::Fact(log.append(&author, draft).expect("appends").sealed().clone());
                let key = fact.key().expect("a key");
                batch.put(key.clone(), record::wrap(&key, kind_of(&key), &fact.value()));
                keys.push(key);
            }
            let store: Arc<dyn Store> = Arc::new(MemStore::default());
            store.commit(batch).expect("committed");
            (Self { _temporary: temporary, dir, mesh, store }, keys)
        }

        fn open(&self) -> (bool, NodeCore) {
            let opening = read_store(&self.store, self.mesh).unwrap_or_else(|e| panic!("{e}"));
            let clock = SystemClock::start(None);
            let config = NodeConfig {
                key: read_author(&self.dir).expect("a key"),
                spiffe_id: self.dir.binding().expect("readable").expect("bound").spiffe_id,
                charter: founding::read_charter(&self.dir, &self.mesh).unwrap_or_else(|e| panic!("{e}")).0,
                mesh: self.mesh,
                used_before: true,
                boot_id: clock.boot_id().to_owned(),
                bootstrap: founding::read_founding(&self.dir).expect("readable").expect("there").facts,
                terms: vec![],
                seed: Seed([1; 32]),
                place: cauldron_node_core::Place::default(),
                far_facts: 9,
                epoch_changes: cauldron_crdt::limits::EPOCH_CHANGES,
                budgets: cauldron_node_core::LinkBudgets::default(),
                window_max: cauldron_node_core::LINK_WINDOW_MAX,
                hands: cauldron_coordinator::owner::Hands::new(),
                misbehave: Misbehave::default(),
            };
            let known = opening.knows_facts();
            (known, NodeCore::open_with(config, opening, clock.now()).unwrap_or_else(|e| panic!("{e}")))
        }

        /// Runs the loop on `core`, lets `look` ask it, and stops it in order.
        fn run<T>(&self, core: NodeCore, look: impl FnOnce(&engine::Handle) -> T) -> (T, Result<(), StoreError>) {
            let pending = engine::pending();
            let node = pending.handle();
            let clock = SystemClock::start(None);
            let thread =
                pending.start(core, self.store.clone(), clock, Box::new(Alone), Box::new(Alone)).expect("starts");
            let seen = look(&node);
            node.stop();
            (seen, thread.join().expect("no panic"))
        }

        fn has_index(&self) -> bool {
            self.store.get(INDEX_HEAD).expect("readable").is_some()
        }
    }

    fn ask<T: Send + 'static>(node: &engine::Handle, read: impl FnOnce(&NodeCore) -> T + Send + 'static) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(node.read(read)).ok()
    }

    #[test]
    fn a_stop_in_order_leaves_an_index_and_the_next_start_takes_it_away() {
        let (node, _) = Site::found();
        let (known, core) = node.open();
        let (facts, ended) =
            node.run(core, |node| ask(node, |core| core.self_view(SystemClock::start(None).now()).facts));
        assert!(!known && ended.is_ok() && node.has_index());
        let (known, core) = node.open();
        assert!(known);
        let again = node.run(core, |handle| {
            let facts = ask(handle, |core| core.self_view(SystemClock::start(None).now()).facts);
            (facts, node.has_index())
        });
        assert_eq!(again.0, (facts, false), "while it runs there is none");
        assert!(again.1.is_ok() && node.has_index());
    }

    #[test]
    fn facts_in_packs_are_read_at_every_start_and_a_lost_pack_is_named() {
        let (node, keys) = Site::found();
        let all = |node: &engine::Handle| ask(node, |core| core.audit_tail(usize::MAX, Some("telemetry")).len());
        let (_, core) = node.open();
        node.run(core, |_| ()).1.expect("ends in order");

        let archive = Arc::new(StoreArchive(node.store.clone()));
        let log = FactLog::indexed(node.mesh, &(archive as Arc<dyn Archive>), HOT_BYTES_MAX).expect("left in order");
        let author = read_author(&node.dir).expect("a key").author_id();
        let chain = ChainId { scope: Scope::site("lyon").expect("a name"), author, incarnation: 0 };
        let (mut pack, mut batch) = (Vec::new(), WriteBatch::new());
        for (key, value) in log.pack(&chain, &[1, 2]).flatten() {
            batch.put(key.clone(), record::wrap(&key, kind_of(&key), &value));
            pack.extend((!keys.contains(&key)).then_some(key));
        }
        node.store.commit(batch).expect("committed");
        assert_eq!(pack.len(), 1);

        for indexed in [true, false] {
            let (known, core) = node.open();
            assert_eq!(known, indexed);
            let (told, ended) = node.run(core, all);
            assert!(told == Some(3) && ended.is_ok());
            let mut batch = WriteBatch::new();
            batch.delete(INDEX_HEAD);
            node.store.commit(batch).expect("committed");
        }
        let mut batch = WriteBatch::new();
        batch.delete(pack.remove(0));
        node.store.commit(batch).expect("committed");
        let Err(told) = read_store(&node.store, node.mesh) else { panic!("a fact is missing") };
        let why = told.to_string();
        assert!(why.contains("position 1") && why.contains("its pack"), "{why}");
    }

    #[test]
    fn a_record_that_does_not_come_back_stops_the_node_and_is_named() {
        let (node, keys) = Site::found();
        let (_, core) = node.open();
        node.run(core, |_| ()).1.expect("ends in order");
        let mut value = node.store.get(&keys[1]).expect("readable").expect("there");
        value.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
        let mut batch = WriteBatch::new();
        batch.put(keys[1].clone(), value);
        node.store.commit(batch).expect("committed");

        let (known, core) = node.open();
        assert!(known, "nobody asked for it yet");
        let asked = node.run(core, |node| ask(node, |core| core.audit_tail(usize::MAX, Some("telemetry")).len()));
        let (None, ended) = asked else { panic!("nobody is told what lacks a fact: {asked:?}") };
        let Err(StoreError::Corrupt { place, detail }) = ended else { panic!("{ended:?}") };
        assert!(place.contains("site/lyon") && place.contains("position 2"), "{place}");
        assert!(detail.contains("checksum"), "{detail}");
        assert!(!node.has_index(), "and the next start reads everything");
        assert!(read_store(&node.store, node.mesh).is_err());
    }
}
