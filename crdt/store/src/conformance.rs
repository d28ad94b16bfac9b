//! What every engine must do, as one suite: call [`run`] with a maker of empty stores.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::{Health, Store, WriteBatch};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs the whole suite.
///
/// # Panics
/// When the engine breaks the contract of [`Store`].
pub fn run<S: Store>(make: &dyn Fn() -> S) {
    an_empty_store_is_empty(&make());
    the_last_write_of_a_batch_wins(&make());
    scans_are_ordered_bounded_by_the_prefix_and_breakable(&make());
    a_scan_sees_one_commit(&make());
    awkward_keys_and_values_survive(&make());
    random_batches_equal_the_model(&make());
    writers_on_several_threads_do_not_mix_batches(&make());
}

/// All records whose keys start with `prefix`.
///
/// # Panics
/// When the scan fails.
pub fn dump(store: &dyn Store, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let scanned = store.scan(prefix, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    assert!(scanned.is_ok(), "{scanned:?}");
    all
}

fn commit(store: &dyn Store, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    let done = store.commit(batch);
    assert!(done.is_ok(), "{done:?}");
}

fn get(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    match store.get(key) {
        Ok(value) => value,
        Err(error) => panic!("get {key:?}: {error}"),
    }
}

fn an_empty_store_is_empty(store: &dyn Store) {
    assert_eq!(get(store, b"x"), None);
    assert!(dump(store, b"").is_empty());
    commit(store, |_| {});
    assert!(matches!(store.check(), Ok(Health::Sound)));
}

fn the_last_write_of_a_batch_wins(store: &dyn Store) {
    commit(store, |b| {
        b.put("a", "1").put("b", "1").delete("b").delete("c").put("c", "3").put("a", "2");
    });
    assert_eq!(get(store, b"a"), Some(b"2".to_vec()));
    assert_eq!(get(store, b"b"), None);
    assert_eq!(get(store, b"c"), Some(b"3".to_vec()));
    let many = store.get_many(&[b"c".to_vec(), b"b".to_vec(), b"a".to_vec()]).expect("readable");
    assert_eq!(many, [Some(b"3".to_vec()), None, Some(b"2".to_vec())]);
}

fn scans_are_ordered_bounded_by_the_prefix_and_breakable(store: &dyn Store) {
    commit(store, |b| {
        for key in ["a/2", "a/1", "a/10", "b/1", "a", "a0"] {
            b.put(key, "v");
        }
        b.put(vec![0xff, 0xff], "v").put(vec![0xff], "v");
    });
    let keys = |prefix: &[u8]| dump(store, prefix).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(b"a/"), [b"a/1".to_vec(), b"a/10".to_vec(), b"a/2".to_vec()]);
    assert_eq!(keys(&[0xff]), [vec![0xff], vec![0xff, 0xff]]);
    assert_eq!(keys(b"").len(), 8);
    let mut seen = 0;
    let scanned = store.scan(b"a", &mut |_, _| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(scanned.is_ok());
    assert_eq!(seen, 2);
}

fn a_scan_sees_one_commit(store: &dyn Store) {
    commit(store, |b| {
        b.put("k/1", "old").put("k/2", "old");
    });
    let mut values = Vec::new();
    let scanned = store.scan(b"k/", &mut |_, value| {
        if values.is_empty() {
            commit(store, |b| {
                b.put("k/2", "new").put("k/3", "new");
            });
        }
        values.push(value.to_vec());
        ControlFlow::Continue(())
    });
    assert!(scanned.is_ok());
    assert_eq!(values, [b"old".to_vec(), b"old".to_vec()]);
    assert_eq!(get(store, b"k/3"), Some(b"new".to_vec()));
}

fn awkward_keys_and_values_survive(store: &dyn Store) {
    let large: Vec<u8> = (0..300 * 1024u32).map(|i| i.to_le_bytes()[0]).collect();
    commit(store, |b| {
        b.put(vec![], "empty key").put("empty value", "").put(vec![0; 200], large.clone());
    });
    assert_eq!(get(store, b""), Some(b"empty key".to_vec()));
    assert_eq!(get(store, b"empty value"), Some(vec![]));
    assert_eq!(get(store, &[0; 200]), Some(large));
}

fn random_batches_equal_the_model(store: &dyn Store) {
    let mut model = Model::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for _ in 0..60 {
        let mut batch = WriteBatch::new();
        for _ in 0..next(8) {
            let key = format!("{}/{}", next(3), next(20)).into_bytes();
            if next(4) == 0 {
                model.remove(&key);
                batch.delete(key);
            } else {
                let value = next(1000).to_be_bytes().to_vec();
                model.insert(key.clone(), value.clone());
                batch.put(key, value);
            }
        }
        commit(store, |b| {
            b.append(batch);
        });
        assert_eq!(dump(store, b""), model.clone().into_iter().collect::<Vec<_>>());
    }
}

fn writers_on_several_threads_do_not_mix_batches(store: &dyn Store) {
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            scope.spawn(move || {
                for _ in 0..10 {
                    commit(store, |b| {
                        b.put("left", vec![writer]).put("right", vec![writer]);
                    });
                }
            });
        }
        for _ in 0..20 {
            let both = dump(store, b"");
            let sides = |name: &[u8]| both.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            assert_eq!(sides(b"left"), sides(b"right"));
        }
    });
}
