//! What is said again, where it is hard: forged characters, other ways through the epochs, pieces, rounds, what nobody has.

use automerge::legacy::{ElementId, Key, ObjectId, OpType};
use automerge::{Change, ExpandedChange, ScalarValue};

use super::epoch::{CHANGES, ended_with_one_of_another, epoch, exchange, late, node, same};
use super::*;

fn write(node: &mut Node, key: &DocKey, text: &str) -> Vec<Arc<Fact>> {
    let at = node.text(key).chars().count();
    node.edit(key, &Edit::Text { at, remove: 0, insert: text.into() })
}

/// Fills an epoch of notes with titles.
fn fill(nodes: &mut [&mut Node], key: &DocKey, changes: u64, name: &str) -> Vec<Arc<Fact>> {
    let mut facts = Vec::new();
    for n in 0..changes {
        let more = nodes[0].edit(key, &Edit::Title(format!("{name}{n}")));
        facts.extend(exchange(nodes, more));
    }
    facts
}

#[test]
fn characters_that_stand_behind_themselves_hold_nobody_up() {
    let (mut a, mut b, mut c, mut h) = (node(1), node(2), node(3), node(4));
    let key = doc("notes/a");
    let first = write(&mut h, &key, "f");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], first);
    let own = write(&mut c, &key, "C");
    let gone = a.edit(&key, &Edit::Text { at: 0, remove: 1, insert: String::new() });
    facts.extend(exchange(&mut [&mut a, &mut b], gone));
    facts.extend(fill(&mut [&mut a, &mut b], &key, CHANGES, "t"));
    // Refused, and yet among what its author is known to have said: two characters, each behind the other.
    let actor = actor_of(&key, &EpochId::FIRST, &h.key.author_id(), 0, 0);
    let behind = |after: u64| Op {
        action: OpType::Put(ScalarValue::Str("z".into())),
        obj: ObjectId::Id(OpId(1, actor.clone())),
        key: Key::Seq(ElementId::Id(OpId(after, actor.clone()))),
        pred: vec![].into(),
        insert: true,
    };
    let expanded = ExpandedChange {
        operations: vec![behind(3), behind(2)],
        actor_id: actor.clone(),
        hash: None,
        seq: 2,
        start_op: std::num::NonZeroU64::new(2).expect("two"),
        time: 0,
        message: None,
        deps: vec![],
        extra_bytes: vec![],
        author: None,
    };
    let change = Change::from(expanded).raw_bytes().to_vec();
    let forged =
        h.sign(cauldron_identity::codec::to_cbor(&DocChange { change, doc: "notes/a".into(), ..DocChange::default() }));
    c.take(&facts[1..]);
    assert_eq!(c.docs.apply(&forged, true), Applied::Refused(Unfit::Seq));
    work(&mut c.docs);
    assert_eq!((c.heal().len(), c.text(&key).as_str(), own.len()), (1, "C", 1));
}

#[test]
fn what_was_done_on_a_way_that_does_not_lead_on_finds_its_place_on_the_one_that_does() {
    let mut nodes: Vec<Node> = (1..=4).map(node).collect();
    let [a, b, c, d] = &mut nodes[..] else { panic!("four") };
    let key = doc("notes/a");
    let first = write(a, &key, "AAA BBB mid end");
    exchange(&mut [a, b, c, d], first);
    let mut all = [fill(&mut [a, b], &key, CHANGES, "a"), fill(&mut [c, d], &key, CHANGES, "c")].concat();
    assert_eq!((epoch(a, &key), epoch(c, &key)), (1, 1));
    for (at, remove, insert) in [(0, 4, ""), (7, 0, "(a)")] {
        let more = a.edit(&key, &Edit::Text { at, remove, insert: insert.into() });
        all.extend(exchange(&mut [a, b], more));
    }
    for (at, remove, insert) in [(4, 4, ""), (7, 0, "(c)")] {
        let more = c.edit(&key, &Edit::Text { at, remove, insert: insert.into() });
        all.extend(exchange(&mut [c, d], more));
    }
    assert_eq!((a.text(&key).as_str(), c.text(&key).as_str()), ("BBB mid(a) end", "AAA mid(c) end"));
    exchange(&mut [a, b, c, d], all);
    same(&mut [a, b, c, d], &key);
    let text = a.text(&key);
    assert!(["mid(a)(c) end", "mid(c)(a) end"].contains(&text.as_str()), "{text}");
}

#[test]
fn an_end_between_two_pieces_of_a_copy_doubles_nothing() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let key = doc("notes/a");
    let first = write(&mut a, &key, "base");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], first);
    let own = write(&mut c, &key, &"x".repeat(6000));
    facts.extend(fill(&mut [&mut a, &mut b], &key, CHANGES, "t"));
    c.take(&facts);
    work(&mut c.docs);
    let pieces = c.heal();
    assert_eq!(pieces.len(), 2);
    let part = [own, vec![pieces[0].clone()]].concat();
    for node in [&mut a, &mut b] {
        node.take(&part);
        work(&mut node.docs);
    }
    let mut more = fill(&mut [&mut a, &mut b], &key, CHANGES - 1, "u");
    assert_eq!(epoch(&a, &key), 2);
    more.push(pieces[1].clone());
    exchange(&mut [&mut a, &mut b, &mut c], more);
    same(&mut [&mut a, &mut b, &mut c], &key);
    assert_eq!(a.text(&key).matches('x').count(), 6000);
}

#[test]
fn what_was_written_to_an_epoch_that_is_gone_is_understood_whatever_was_taken_back_since() {
    let (mut a, b, c, mut facts) = ended_with_one_of_another();
    let bad = c.key.author_id();
    a.cut(&bad, 0);
    work(&mut a.docs);
    // a takes back, in a round, what the epoch that is gone had begun from.
    let healed = a.heal();
    assert!(!healed.is_empty());
    facts.extend(healed);
    let mut again = b.started_over(CHANGES, &facts, &|fact| fact.header().author != bad);
    assert_eq!((again.heal().len(), again.docs.owed()), (1, vec![]));
    assert_eq!(again.rows()["hq"]["b.k"], Field::from("after"));
}

#[test]
fn an_older_word_does_not_stand_because_it_was_said_again_first() {
    let (mut a, mut b, mut c, facts) = late();
    let mut e = node(5);
    let own = c.set("lyon", "z.k", "old");
    e.take(&facts[..1]);
    e.hlc = c.hlc + 50;
    let newer = e.set("lyon", "z.k", "newer");
    c.hlc += 1000;
    let mut all = exchange(&mut [&mut a, &mut b, &mut c], [facts, vec![own]].concat());
    assert_eq!(a.rows()["lyon"]["z.k"], Field::from("old"));
    all.push(newer);
    exchange(&mut [&mut a, &mut b, &mut c, &mut e], all);
    same(&mut [&mut a, &mut b, &mut c, &mut e], &sites());
    assert_eq!(a.rows()["lyon"]["z.k"], Field::from("newer"));
}

#[test]
fn more_than_may_wait_is_given_up_and_said_again_once() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let first = a.set("lyon", "a.k", "0");
    b.take(&[first]);
    let own: Vec<_> = (0..limits::WAITING_MAX + 76).map(|n| b.set("hq", "b.k", &n.to_string())).collect();
    let mut again = Node { docs: Documents::new(), ..b };
    again.docs.set_author(&again.key.author_id(), 0);
    own.iter().for_each(|fact| assert!(again.docs.feed(fact, true).is_ok()));
    again.docs.settle_all();
    work(&mut again.docs);
    // Nobody has what they follow.
    again.docs.give_up(&sites());
    assert_eq!(again.heal().len(), 1);
    assert_eq!(again.rows()["hq"]["b.k"], Field::from((limits::WAITING_MAX + 75).to_string().as_str()));
}

#[test]
fn a_document_that_is_full_with_few_changes_goes_on() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let key = doc("notes/a");
    let mut facts = Vec::new();
    while let Ok(bodies) = a.docs.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "x".repeat(5000) }) {
        facts.extend(a.append(bodies));
    }
    assert!(facts.len() < 50);
    let gone = a.docs.edit(&key, &Edit::Text { at: 0, remove: 4000, insert: String::new() });
    let gone = a.append(gone.unwrap_or_default());
    b.take(&[facts, gone].concat());
    work(&mut b.docs);
    let seals = [a.seal(), b.seal()].concat();
    exchange(&mut [&mut a, &mut b], seals);
    assert_eq!(epoch(&a, &key), 1);
    same(&mut [&mut a, &mut b], &key);
}
