//! MERGE-LAWS and NO-PANIC over random scripts.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::base::{load, packed};
use super::hostile::{loads, raw_body, with_checksum};
use super::*;

/// Three authors write two documents, now and then taking over what others wrote: facts in the order of writing.
fn history(script: &[(u8, u8, u8, bool)]) -> Vec<(usize, Arc<Fact>)> {
    let mut nodes: Vec<Node> = (1..=3).map(Node::new).collect();
    let mut known = [0; 3];
    let mut written: Vec<(usize, Arc<Fact>)> = Vec::new();
    for (who, row, value, learns) in script {
        let who = usize::from(who % 3);
        let node = &mut nodes[who];
        if *learns {
            for (other, fact) in written.iter().skip(known[who]) {
                if *other != who {
                    node.take(std::slice::from_ref(fact));
                }
            }
            known[who] = written.len();
        }
        let facts = if value % 2 == 0 {
            let edit =
                put(["lyon", "porto", "hq"][usize::from(row % 3)], &format!("k.k{}", value % 4), &value.to_string());
            node.edit(&sites(), &edit)
        } else {
            let length = node.text(&doc("notes/a")).chars().count();
            let at = usize::from(*row) % (length + 1);
            let remove = usize::from(value % 3).min(length - at);
            node.edit(&doc("notes/a"), &Edit::Text { at, remove, insert: format!("{value}") })
        };
        written.extend(facts.into_iter().map(|fact| (who, fact)));
    }
    written
}

fn state(node: &mut Node) -> Vec<(DocKey, Option<Arc<View>>, Option<Digest>)> {
    let keys: Vec<DocKey> = node.docs.keys().cloned().collect();
    keys.into_iter().map(|key| (key.clone(), node.docs.view(&key), node.digest(&key))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// MERGE-LAWS: any interleaving of the authors' chains, of a cut, and of a base, gives the same documents.
    #[test]
    fn the_order_of_arrival_does_not_show(
        script in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()), 1..30),
        picks in proptest::collection::vec(any::<u8>(), 200),
        cut in any::<(u8, u8)>(),
        base in any::<(u8, u8)>(),
    ) {
        let written = history(&script);
        let (cut_author, cut_seq) = (key(cut.0 % 3 + 1).author_id(), u64::from(cut.1 % 8));
        let counts = |fact: &Fact| fact.header().author != cut_author || fact.header().seq <= cut_seq;
        let mut reference = Node::new(9);
        for (_, fact) in &written {
            prop_assert_eq!(reference.docs.apply(fact, true), Applied::Yes);
        }
        // One who knows part of it, and nothing of the cut.
        let mut peer = Node::new(8);
        peer.take(&written.iter().take(1 + usize::from(base.1)).map(|(_, fact)| fact.clone()).collect::<Vec<_>>());
        reference.docs.recount(&counts);
        let mut queues: Vec<VecDeque<&Arc<Fact>>> =
            (0..3).map(|who| written.iter().filter(|(w, _)| *w == who).map(|(_, fact)| fact).collect()).collect();
        let mut node = Node::new(9);
        let cut_at = usize::from(cut.1);
        for (step, pick) in picks.into_iter().chain([0, 1, 2].into_iter().cycle().take(3 * written.len())).enumerate() {
            if step == cut_at {
                node.docs.recount(&counts);
                node.docs.recheck(&counts);
            }
            if step == usize::from(base.0) {
                for key in peer.docs.keys().cloned().collect::<Vec<_>>() {
                    let bytes = packed(&mut peer, &key);
                    let loaded = load(&mut node, &key, &bytes, &|fact| step < cut_at || counts(fact));
                    prop_assert!(loaded.is_ok() || (step >= cut_at && loaded == Err(BaseError::Author)));
                }
            }
            if let Some(fact) = queues[usize::from(pick % 3)].pop_front() {
                node.docs.apply(fact, step < cut_at || counts(fact));
            }
        }
        node.docs.recount(&counts);
        node.docs.recheck(&counts);
        prop_assert_eq!(state(&mut node), state(&mut reference));
        for (key, ..) in state(&mut node) {
            prop_assert!(loads(&mut node.docs, &key));
        }
        // Lifted again, nothing is missing.
        for node in [&mut node, &mut reference] {
            node.docs.recount(&|_| true);
            work(&mut node.docs);
        }
        prop_assert_eq!(state(&mut node), state(&mut reference));
        let changes: u64 = state(&mut node).iter().map(|(key, ..)| node.docs.status(key).map_or(0, |s| s.changes)).sum();
        prop_assert_eq!(changes, written.len() as u64);
    }

    /// NO-PANIC and no poison: random mutations with the checksum put right.
    #[test]
    fn mutated_changes_never_harm_a_document(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        notes in any::<bool>(),
    ) {
        let mut a = Node::new(1);
        let key = if notes { doc("notes/a") } else { sites() };
        let edit = |n: usize| match notes {
            true => Edit::Text { at: n, remove: 0, insert: format!("x{n}") },
            false => put("lyon", "a.k", &n.to_string()),
        };
        let one = a.edit(&key, &edit(0)).remove(0);
        let mut bytes = DocChange::read(&a.docs.edit(&key, &edit(1)).expect("fits")[0]).expect("a body").change;
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [with_checksum(bytes), noise] {
            let mut reader = Node::new(9);
            reader.take(std::slice::from_ref(&one));
            let mut bad = Node::new(1);
            bad.sign(vec![]);
            let fact = bad.sign(raw_body(&key, bytes.clone()));
            reader.docs.apply(&fact, true);
            let garbage = bad.sign(bytes);
            reader.docs.apply(&garbage, true);
            prop_assert!(reader.docs.history(&key, None).is_some() && reader.docs.blame(&key).is_some());
            prop_assert!(loads(&mut reader.docs, &key));
        }
    }
}
