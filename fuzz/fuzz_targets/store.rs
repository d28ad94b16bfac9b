//! A store that somebody else wrote: the envelope of records, the log's records, and what only this node keeps.
//!
//! Input: a door, then 0 messages, a key and a value each, laid over the store of a founded mesh; without a key, where the value
//! belongs. 1 a value of the engine: as it is, and in its envelope with one bit changed. 2 a pack of facts under the key that
//! its content gives it, and stubs that name it.
#![no_main]
#![allow(dead_code, reason = "modules of the store's crate, which would bring its engine along")]

#[path = "../../crdt/store/src/error.rs"]
mod error;
#[path = "../../crdt/store/src/keys.rs"]
mod keys;
#[path = "../../crdt/store/src/record.rs"]
mod record;

use std::collections::BTreeMap;

use cauldron_coordinator::lease::LeaseState;
use cauldron_crdt::log::{Packs, stubbed};
use cauldron_crdt::{Archive, ChainId, Record};
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::mesh::{HQ, NOW, WITHOUT_POLICY, key};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::codec::from_cbor;
use cauldron_identity::{Scope, SealedFact};
use cauldron_node_core::{NodeCore, Output};
use error::StoreError;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| match door(input) {
    (door, rest) if door % 3 == 0 => opened(rest),
    (door, value) if door % 3 == 1 => enveloped(value),
    (_, value) => packed(value),
}));

/// What a store holds beside the records of a founded mesh.
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Archive for Disk {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(key).cloned())
    }
}

/// Positions at which stubs stand.
const STUBS: u64 = 4;

fn packed(value: &[u8]) {
    let chain = ChainId { scope: Scope::mesh(), author: key(HQ).author_id(), incarnation: 0 };
    let (disk, packs) = (Disk(stubbed(&chain, 1, value.to_vec(), 1..=STUBS).into_iter().collect()), Packs::default());
    for (key, value) in &disk.0 {
        if let Ok(record) = Record::read(key, value) {
            assert_eq!((record.key().as_ref(), &record.value()), (Ok(key), value));
        }
        if !key.starts_with(keys::FACT) {
            continue;
        }
        if let Ok(whole) = packs.whole(&disk, key, value.clone()) {
            let fact = Record::read(key, &whole).expect("a pack gives the fact that the key is of");
            assert!(matches!(fact, Record::Fact(_)));
        }
    }
    open(WITHOUT_POLICY.records().into_iter().chain(disk.0).collect());
}

fn opened(messages: &[u8]) {
    let mut records = WITHOUT_POLICY.records();
    let messages: Vec<&[u8]> = chunks(messages).collect();
    for pair in messages.chunks(2) {
        let [key, value] = pair else { continue };
        let _ = (Record::read(key, value), LeaseState::restore(value, "boot"));
        let own = || Record::Fact(from_cbor::<SealedFact>(value).ok()?).key().ok();
        let Some(key) = (if key.is_empty() { own() } else { Some(key.to_vec()) }) else { continue };
        records.insert(key, value.to_vec());
    }
    open(records);
}

fn open(records: BTreeMap<Vec<u8>, Vec<u8>>) {
    let Ok(mut core) = NodeCore::open(WITHOUT_POLICY.config(HQ), records, NOW) else { return };
    while !matches!(core.poll(), Output::Idle { .. }) {}
    let _ = (core.self_view(NOW), core.authority_view(NOW), core.proposals_view(NOW), core.verify());
}

fn enveloped(value: &[u8]) {
    const KEY: &[u8] = b"f/x";
    if let Ok(body) = record::unwrap(KEY, 1, value) {
        assert_eq!(record::wrap(KEY, 1, body), value, "two envelopes of one value");
    }
    let mut wrapped = record::wrap(KEY, 1, value);
    assert_eq!(record::unwrap(KEY, 1, &wrapped).ok(), Some(value));
    let (bit, _) = door(value);
    let at = usize::from(bit / 8) % wrapped.len();
    wrapped[at] ^= 1 << (bit % 8);
    assert!(record::unwrap(KEY, 1, &wrapped).is_err(), "damage that nobody notices");
}
