//! What a closed epoch must not answer by itself: found by a review that tried to break it.

use super::epoch::{CHANGES, all_facts, exchange, node};
use super::*;

fn fill(nodes: &mut [&mut Node], epochs: u32, name: &str) -> Vec<Arc<Fact>> {
    let mut facts = Vec::new();
    for n in 0.. {
        if nodes[0].docs.status(&sites()).map(|s| s.epoch) == Some(epochs) {
            return facts;
        }
        assert!(n < 200);
        let fact = nodes[0].set("lyon", &format!("{name}.k"), &n.to_string());
        facts.extend(exchange(nodes, vec![fact]));
    }
    facts
}

fn fill_note(nodes: &mut [&mut Node], epochs: u32) -> Vec<Arc<Fact>> {
    let mut facts = Vec::new();
    let key = doc("notes/a");
    for n in 0.. {
        if nodes[0].docs.status(&key).map(|s| s.epoch) == Some(epochs) {
            return facts;
        }
        assert!(n < 200);
        let at = nodes[0].text(&key).chars().count();
        let fact = nodes[0].edit(&key, &Edit::Text { at, remove: 0, insert: format!("{}", n % 10) });
        facts.extend(exchange(nodes, fact));
    }
    facts
}

/// The third node in its second life, which has heard these facts.
fn reborn(keeps_all: bool, facts: &[Arc<Fact>]) -> Node {
    let mut node = Node::reborn(3, CHANGES);
    node.shelf.keeps_all = keeps_all;
    node.take(facts);
    work(&mut node.docs);
    node.tend();
    node.heal();
    node
}

#[test]
fn text_of_an_earlier_life_is_said_again_where_it_stood() {
    let texts = [true, false].map(|keeps_all| {
        let (mut a, mut b, mut c) = (node(1), node(2), node(3));
        let key = doc("notes/a");
        let first = a.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "alpha omega".into() });
        let mut facts = exchange(&mut [&mut a, &mut b, &mut c], first);
        let late = c.edit(&key, &Edit::Text { at: 5, remove: 0, insert: " LATE".into() });
        let more = c.edit(&key, &Edit::Text { at: 0, remove: 1, insert: "A".into() });
        facts.extend(fill_note(&mut [&mut a, &mut b], 4));
        let mut c = reborn(keeps_all, &facts);
        let closed = c.docs.closed_epochs(&key).count();
        assert_eq!(closed > 0, !keeps_all);
        c.take(&[late, more].concat());
        work(&mut c.docs);
        c.tend();
        let said = c.heal();
        (c.text(&key), said.len())
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn an_older_own_word_does_not_override_a_later_one_of_another() {
    let rows = [true, false].map(|keeps_all| {
        let (mut a, mut b, mut c, mut d) = (node(1), node(2), node(3), node(4));
        let first = a.set("lyon", "first.k", "0");
        let mut facts = exchange(&mut [&mut a, &mut b, &mut c, &mut d], vec![first]);
        // c of life 0 writes to the first epoch, and nobody has it yet.
        let late = c.set("hq", "x.k", "old, of c");
        // The first epoch ends; d is late in the second, and says it again.
        let turned = fill(&mut [&mut a, &mut b], 1, "a");
        d.take(&turned);
        work(&mut d.docs);
        d.hlc += 1000;
        let of_d = d.set("hq", "x.k", "later, of d");
        facts.extend(turned);
        facts.extend(fill(&mut [&mut a, &mut b], 2, "b"));
        // Everybody hears of d's word now, outside of the second epoch; d says it again.
        facts.extend(exchange(&mut [&mut a, &mut b, &mut d], [facts.clone(), vec![of_d]].concat()));
        facts.extend(fill(&mut [&mut a, &mut b, &mut d], 5, "c"));
        let mut seen = BTreeSet::new();
        facts.retain(|fact| seen.insert(fact.id()));
        assert_eq!(a.rows()["hq"]["x.k"], Field::from("later, of d"));
        let mut c = reborn(keeps_all, &facts);
        assert_eq!(c.docs.closed_epochs(&sites()).count() > 0, !keeps_all);
        c.take(&[late]);
        work(&mut c.docs);
        c.tend();
        c.heal();
        c.rows()["hq"]["x.k"].clone()
    });
    assert_eq!(rows[0], rows[1]);
}

#[test]
fn another_end_that_holds_is_known_after_a_start() {
    let (mut a, mut b, mut c, mut d) = (node(1), node(2), node(3), node(4));
    let first = a.set("lyon", "first.k", "0");
    exchange(&mut [&mut a, &mut b, &mut c, &mut d], vec![first]);
    // c and d end the first epoch with more changes, and write nothing since.
    for n in 0..CHANGES + 4 {
        let fact = c.set("porto", &format!("c.k{n}"), "c");
        d.take(&[fact]);
    }
    let seals = c.seal();
    exchange(&mut [&mut c, &mut d], seals);
    // a and b go on for some epochs.
    fill(&mut [&mut a, &mut b], 1, "a");
    let before = b.log.iter().count() as u64;
    fill(&mut [&mut a, &mut b], 2, "b");
    let all = all_facts(&[&c, &d]);
    let own: Vec<_> =
        all.into_iter().filter(|f| [c.key.author_id(), d.key.author_id()].contains(&f.header().author)).collect();
    for node in [&mut a, &mut b] {
        node.take(&own);
        work(&mut node.docs);
        node.tend();
        assert_eq!(node.heal(), vec![]);
    }
    assert_eq!(a.docs.status(&sites()).expect("held").epoch, 2);
    assert_eq!(a.docs.closed_epochs(&sites()).count(), 1);
    let mut plain = Node::with_epoch(9, CHANGES);
    plain.shelf.keeps_all = true;
    plain.take(&all_facts(&[&a, &b, &c, &d]));
    work(&mut plain.docs);
    let mut a = a.restarted(true);
    a.heal();
    assert_eq!(a.docs.closed_epochs(&sites()).count(), 1);
    // b is cut behind its seal of the first epoch: the second does not end any more.
    let bad = b.key.author_id();
    for node in [&mut a, &mut plain] {
        node.cut(&bad, before);
        work(&mut node.docs);
        node.tend();
        work(&mut node.docs);
        node.tend();
    }
    assert_eq!(a.digest(&sites()), plain.digest(&sites()), "{:?} {:?}", a.rows(), plain.rows());
}

#[test]
fn a_fact_that_is_cut_in_the_input_in_which_it_came_does_not_count() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let first = a.set("lyon", "first.k", "0");
    exchange(&mut [&mut a, &mut b, &mut c], vec![first]);
    let late = c.set("hq", "c.k", "late");
    fill(&mut [&mut a, &mut b], 4, "a");
    assert_eq!(a.docs.closed_epochs(&sites()).count(), 3);
    // In one frame: the fact, and a second one for its place.
    a.shelf.facts.insert(at(&late), (late.clone(), false));
    a.docs.apply(&late, true);
    let bad = c.key.author_id();
    a.docs.recount(&|fact| fact.header().author != bad);
    a.tend();
    let status = a.docs.verdict(&sites(), &late);
    let left = a.docs.history(&sites(), None).expect("built").into_iter().find(|s| s.fact.id() == late.id());
    let mut plain = Node::with_epoch(9, CHANGES);
    plain.shelf.keeps_all = true;
    plain.take(&all_facts(&[&a, &b]));
    plain.docs.apply(&late, true);
    plain.docs.recount(&|fact| fact.header().author != bad);
    assert_eq!(status, plain.docs.verdict(&sites(), &late), "{left:?}");
}

#[test]
fn a_start_wants_nothing_while_the_epoch_in_use_is_built() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let first = a.set("lyon", "first.k", "0");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], vec![first]);
    let late = c.set("hq", "c.k", "late");
    facts.extend(fill(&mut [&mut a, &mut b], 4, "a"));
    exchange(&mut [&mut a, &mut b, &mut c], [vec![late], facts].concat());
    assert_eq!(c.docs.closed_epochs(&sites()).count(), 3);
    for n in 0..520 {
        c.set("hq", "c.n", &n.to_string());
    }
    let mut c = c.starting(true);
    let opened = c.shelf.opened;
    // As the node core does after the start.
    assert!(c.docs.reissue().is_none());
    assert!(c.docs.wanted().is_none(), "{:?}", c.docs.wanted().map(|(_, id, _)| id));
    assert_eq!(c.shelf.opened, opened);
}

#[test]
fn what_waits_for_what_nobody_has_does_not_keep_an_epoch_open() {
    let (mut a, mut b, mut c, mut d) = (node(1), node(2), node(3), node(4));
    let first = a.set("lyon", "first.k", "0");
    exchange(&mut [&mut a, &mut b, &mut c, &mut d], vec![first]);
    let ghost = d.set("hq", "d.k", "ghost");
    c.take(&[ghost]);
    let waits = c.set("hq", "c.k", "waits");
    a.take(std::slice::from_ref(&waits));
    b.take(&[waits]);
    fill(&mut [&mut a, &mut b], 4, "a");
    let closed: Vec<_> = a.docs.closed_epochs(&sites()).map(|(n, _)| n).collect();
    assert_eq!(closed, [0, 1, 2]);
}

#[test]
fn a_seal_of_a_document_that_is_not_there_does_not_lock_it() {
    let (mut a, mut c) = (node(1), node(3));
    let key = doc("notes/new");
    let seal = Seal {
        doc: key.doc.to_string(),
        epoch: 0,
        genesis: None,
        heads: vec![Digest::from_bytes([1; 32])],
        next: Digest::from_bytes([2; 32]),
    };
    let seal = c.sign_as(KIND_SEAL, Scope::mesh(), cauldron_identity::codec::to_cbor(&seal));
    a.take(&[seal]);
    assert!(a.docs.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "x".into() }).is_ok());
}

#[test]
fn a_document_is_shown_while_something_else_of_it_is_built() {
    let (mut a, mut b) = (node(1), node(2));
    let mut open = Node::with_epoch(1, CHANGES);
    open.shelf.keeps_all = true;
    fill(&mut [&mut a, &mut b], 3, "a");
    let fact = b.set("hq", "b.k", "1");
    for n in 0..520 {
        a.set("hq", "a.n", &n.to_string());
    }
    a.take(&[fact]);
    assert_eq!(a.docs.closed_epochs(&sites()).count(), 2);
    open.take(&all_facts(&[&a, &b]));
    work(&mut open.docs);
    let bad = b.key.author_id();
    open.cut(&bad, 1);
    a.cut(&bad, 1);
    let there =
        |node: &Node| (node.docs.view(&sites()).is_some(), node.docs.status(&sites()).map(|status| status.epoch));
    assert_eq!(there(&a), there(&open));
}
