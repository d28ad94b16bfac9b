//! Epochs whose facts are left to the log: nobody can tell, but by the memory.

use proptest::prelude::*;

use super::epoch::{CHANGES, all_facts, exchange, node, same};
use super::*;

/// Fills so many epochs, and seals them.
fn turned(nodes: &mut [&mut Node], epochs: u32, name: &str) -> Vec<Arc<Fact>> {
    let mut facts = Vec::new();
    for n in 0.. {
        if epoch_or_none(nodes[0]) == Some(epochs) {
            return facts;
        }
        assert!(n < 8 * CHANGES * u64::from(epochs), "it does not turn");
        let fact = nodes[0].set("lyon", &format!("{name}.k"), &n.to_string());
        facts.extend(exchange(nodes, vec![fact]));
    }
    facts
}

fn epoch_or_none(node: &Node) -> Option<u32> {
    node.docs.status(&sites()).map(|status| status.epoch)
}

/// What anybody can ask of a document.
pub(super) fn told(node: &mut Node, key: &DocKey) -> BTreeSet<String> {
    let history = node.history(key).into_iter().map(|step| {
        let (header, epoch) = (step.fact.header(), DocChange::of(&step.fact).map(|body| body.epoch));
        let place = (header.author, header.seq, epoch);
        // Of what is out, the reason tells what was known first, too.
        match step.left_out {
            Some(_) => format!("step {place:?} is left out"),
            None => format!("step {place:?} did {:?}", step.did),
        }
    });
    let history: Vec<String> = history.collect();
    let blame = node.docs.blame(key).expect("built").into_iter();
    let blame = blame.map(|b| format!("{} {} {:?} by {:?}", b.row, b.field, b.value, b.fact.map(|fact| fact.id())));
    let status = node.docs.status(key).expect("held");
    let status = (status.epoch, status.changes, status.missing, status.digest);
    let more = [format!("{status:?}"), format!("{:?}", node.docs.view(key))];
    history.into_iter().chain(blame).chain(more).collect()
}

/// What one says and the other does not.
fn differs(node: &mut Node, other: &mut Node, key: &DocKey) -> Vec<String> {
    let (one, other) = (told(node, key), told(other, key));
    let (only, missing) = (one.difference(&other), other.difference(&one));
    only.map(|line| format!("+ {line}")).chain(missing.map(|line| format!("- {line}"))).collect()
}

/// The same facts at a node that closes nothing.
fn open(nodes: &[&mut Node], changes: u64) -> Node {
    let mut open = Node::with_epoch(9, changes);
    open.shelf.keeps_all = true;
    let nodes: Vec<&Node> = nodes.iter().map(|node| &**node).collect();
    open.take(&all_facts(&nodes));
    work(&mut open.docs);
    open
}

#[test]
fn epochs_behind_the_last_one_are_closed_and_read_as_before() {
    let (mut a, mut b) = (node(1), node(2));
    let facts = turned(&mut [&mut a, &mut b], 4, "a");
    assert_eq!((a.shelf.closed, a.shelf.opened), (3, 0));
    let epochs: Vec<u32> = a.docs.closed_epochs(&sites()).map(|(number, _)| number).collect();
    assert_eq!(epochs, [0, 1, 2]);
    same(&mut [&mut a, &mut b], &sites());
    let written = facts.iter().filter(|fact| fact.header().kind == KIND).count();
    assert_eq!(a.docs.status(&sites()).expect("held").changes, written as u64);
    assert!(a.shelf.shelved.len() as u64 > 2 * CHANGES, "{}", a.shelf.shelved.len());
    let mut plain = open(&[&mut a, &mut b], CHANGES);
    assert_eq!(told(&mut a, &sites()), told(&mut plain, &sites()));
    let held: Vec<_> = a.docs.closed_facts(&sites());
    assert_eq!(places(&held).count() + a.docs.facts(&sites()).len(), written);
}

#[test]
fn what_comes_for_a_closed_epoch_opens_it_and_is_said_again() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let first = a.set("lyon", "first.k", "0");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], vec![first]);
    let late = c.set("hq", "c.k", "late");
    facts.extend(turned(&mut [&mut a, &mut b], 4, "a"));
    exchange(&mut [&mut a, &mut b, &mut c], [vec![late], facts].concat());
    same(&mut [&mut a, &mut b, &mut c], &sites());
    assert_eq!(a.rows()["hq"]["c.k"], Field::from("late"));
    assert!(a.shelf.opened > 0 && c.docs.closed_epochs(&sites()).count() == 3, "and closed again");
    let mut plain = open(&[&mut a, &mut b, &mut c], CHANGES);
    assert_eq!(told(&mut a, &sites()), told(&mut plain, &sites()));
}

#[test]
fn a_cut_reaches_into_closed_epochs() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let bad = c.key.author_id();
    let evil = vec![c.set("hq", "c.k", "1"), c.set("hq", "c.j", "2")];
    exchange(&mut [&mut a, &mut b], evil);
    turned(&mut [&mut a, &mut b], 4, "a");
    assert_eq!(a.rows()["hq"].len(), 2);
    for node in [&mut a, &mut b] {
        assert_eq!(node.shelf.opened, 0);
        node.cut(&bad, 1);
    }
    let news = [a.heal(), b.heal(), a.seal(), b.seal()].concat();
    exchange(&mut [&mut a, &mut b], news);
    same(&mut [&mut a, &mut b], &sites());
    assert!(a.shelf.opened > 0);
    assert_eq!(a.rows()["hq"], BTreeMap::from([("c.k".to_owned(), Field::from("1"))]));
}

#[test]
fn a_start_reads_no_fact_of_a_closed_epoch_but_those_it_needs() {
    let (mut a, mut b) = (node(1), node(2));
    turned(&mut [&mut a, &mut b], 5, "a");
    let before = told(&mut a, &sites());
    for in_order in [true, false] {
        a = a.restarted(in_order);
        assert_eq!((a.shelf.opened, a.docs.closed_epochs(&sites()).count()), (0, 4), "in order: {in_order}");
        assert_eq!(told(&mut a, &sites()), before, "in order: {in_order}");
    }
    // It goes on as before.
    turned(&mut [&mut a, &mut b], 6, "b");
    same(&mut [&mut a, &mut b], &sites());
}

#[test]
fn what_was_kept_and_is_damaged_or_of_another_version_is_of_no_use() {
    let (mut a, mut b) = (node(1), node(2));
    turned(&mut [&mut a, &mut b], 2, "a");
    let record = a.shelf.records.values().next().expect("one").clone();
    for at in 0..record.len() {
        for flip in [1, 0x80] {
            let mut other = record.clone();
            other[at] ^= flip;
            let mut docs = Documents::with_epoch(CHANGES);
            if docs.restore(&other) {
                docs.settle_all();
                let _ = (docs.wanted(), docs.shelved(&sites(), None), docs.status(&sites()));
            }
        }
    }
    // One that names more facts than there can be.
    let many = [0x1b, 0, 0, 0, 1, 0, 0, 0, 0];
    // The first run of positions, from 1 to 8.
    let fed = record.windows(3).position(|bytes| bytes == [0x82, 1, CHANGES as u8]).expect("there") + 2;
    let other = [&record[..fed], &many, &record[fed + 1..]].concat();
    assert!(!Documents::with_epoch(CHANGES).restore(&other));
    let version = record.iter().position(|byte| *byte == CLOSED_VERSION).expect("there");
    let mut other = record;
    other[version] = CLOSED_VERSION + 1;
    assert!(!Documents::with_epoch(CHANGES).restore(&other));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever three writers do, with stops in order and without: closing epochs changes nothing that anybody can ask.
    #[test]
    fn closing_changes_nothing(
        script in proptest::collection::vec((0usize..3, any::<u8>(), any::<u8>(), 0u8..16), 10..120),
        cut_at in proptest::option::of(0u64..20),
    ) {
        crate::testing::wake();
        let mut nodes: Vec<Node> = (1..=3).map(|seed| Node::with_epoch(seed, 4)).collect();
        let mut sent: Vec<Arc<Fact>> = Vec::new();
        let mut known = [0; 3];
        for (who, row, value, what) in script {
            let node = &mut nodes[who];
            match what {
                0..=4 => {
                    node.hear(&sent, &mut known[who]);
                    sent.extend(node.heal());
                }
                5..=7 => {
                    node.hear(&sent, &mut known[who]);
                    sent.extend(node.seal());
                }
                8 => {
                    let node = nodes.remove(who);
                    nodes.insert(who, node.restarted(value % 2 == 0));
                }
                _ => sent.extend(node.scribble(&if what % 3 > 0 { sites() } else { doc("notes/a") }, row, value)),
            }
        }
        let [a, b, c] = &mut nodes[..] else { panic!("three") };
        for (node, mut known) in [(&mut *a, known[0]), (&mut *b, known[1]), (&mut *c, known[2])] {
            node.hear(&sent, &mut known);
        }
        let news = [a.heal(), b.heal(), c.heal(), a.seal(), b.seal(), c.seal()].concat();
        exchange(&mut [a, b, c], news);
        let bad = c.key.author_id();
        if let Some(cut_at) = cut_at {
            a.cut(&bad, cut_at);
            b.cut(&bad, cut_at);
            work(&mut a.docs);
            work(&mut b.docs);
            let news = [a.heal(), b.heal(), a.seal(), b.seal()].concat();
            exchange(&mut [a, b], news);
        }
        let mut plain = open(&[a, b, c], 4);
        if let Some(cut_at) = cut_at {
            plain.cut(&bad, cut_at);
            work(&mut plain.docs);
        }
        for key in a.docs.keys().cloned().collect::<Vec<_>>() {
            same(&mut [a, b], &key);
            let none: Vec<String> = Vec::new();
            prop_assert_eq!(&differs(a, &mut plain, &key), &none);
            prop_assert_eq!(&differs(b, &mut plain, &key), &none);
        }
    }
}
