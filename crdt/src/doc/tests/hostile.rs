//! Changes that no honest writer makes, validly signed.

use std::num::NonZeroU64;
use std::path::Path;

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{Automerge, ExpandedChange, ObjType, ScalarValue};
use cauldron_identity::codec::to_cbor;

use super::*;

fn author(seed: u8) -> AuthorId {
    key(seed).author_id()
}

fn actor(seed: u8, key: &DocKey) -> ActorId {
    actor_of(key, &EpochId::FIRST, &author(seed), 0, 0)
}

pub(super) fn raw_body(key: &DocKey, change: Vec<u8>) -> Vec<u8> {
    to_cbor(&DocChange { doc: key.doc.to_string(), change, ..DocChange::default() })
}

fn body_of(key: &DocKey, mut change: ExpandedChange) -> Vec<u8> {
    change.hash = None;
    raw_body(key, Change::from(change).raw_bytes().to_vec())
}

/// An honest first change of author 1, taken apart.
fn honest(key: &DocKey) -> ExpandedChange {
    let edit = match key.doc.kind() {
        Kind::Notes => Edit::Text { at: 0, remove: 0, insert: "ab".into() },
        _ => put("lyon", "a.state", "up"),
    };
    let fact = Node::new(1).edit(key, &edit).remove(0);
    change_in(&fact).expect("a change").decode()
}

/// Whether what the document became can be saved and loaded again.
pub(super) fn loads(docs: &mut Documents, key: &DocKey) -> bool {
    let Some(document) = docs.docs.get_mut(key).and_then(Epochs::here_mut) else { return true };
    let saved = document.engine.doc.save();
    let view = document.view();
    Automerge::load(&saved).is_ok_and(|doc| look::read(key.doc.kind(), &doc) == *view)
}

/// Applies what `spoil` makes of an honest change, and checks that the document is the same afterwards and still works.
#[track_caller]
fn refused_in(key: &DocKey, spoil: impl FnOnce(&mut ExpandedChange), why: Unfit) {
    let (mut reader, mut other, mut bad) = (Node::new(9), Node::new(2), Node::new(1));
    let theirs = match key.doc.kind() {
        Kind::Notes => other.edit(key, &Edit::Text { at: 0, remove: 0, insert: "xyz".into() }),
        _ => other.edit(key, &put("porto", "b.state", "up")),
    };
    reader.take(&theirs);
    let before = (reader.docs.view(key), reader.digest(key));
    let mut change = honest(key);
    spoil(&mut change);
    let fact = bad.sign(body_of(key, change));
    assert_eq!(reader.docs.apply(&fact, true), Applied::Refused(why));
    assert_eq!((reader.docs.view(key), reader.digest(key)), before);
    assert!(loads(&mut reader.docs, key));
    let good = bad.sign(body_of(key, honest(key)));
    assert_eq!(reader.docs.apply(&good, true), Applied::Yes);
}

#[track_caller]
fn refused(spoil: impl FnOnce(&mut ExpandedChange), why: Unfit) {
    refused_in(&sites(), spoil, why);
}

#[test]
fn nobody_writes_in_anothers_name() {
    let (mut bad, mut reader) = (Node::new(2), Node::new(9));
    let fact = bad.sign(body_of(&sites(), honest(&sites())));
    assert_eq!(reader.docs.apply(&fact, true), Applied::Refused(Unfit::Actor));
    let good = Node::new(1).sign(body_of(&sites(), honest(&sites())));
    assert_eq!(reader.docs.apply(&good, true), Applied::Yes);
}

#[test]
fn a_change_that_breaks_the_order_is_refused() {
    refused(|c| c.seq = 2, Unfit::Seq);
    refused(|c| c.start_op = NonZeroU64::new(2).expect("two"), Unfit::StartOp);
    refused(|c| c.start_op = NonZeroU64::new(1 << 31).expect("large"), Unfit::StartOp);
    refused(|c| c.start_op = NonZeroU64::new(u64::from(u32::MAX)).expect("large"), Unfit::StartOp);
}

#[test]
fn a_thousand_times_the_same_cause_is_refused() {
    let (mut a, mut reader) = (Node::new(1), Node::new(9));
    let one = a.set("lyon", "a.state", "up");
    reader.take(std::slice::from_ref(&one));
    let hash = change_in(&one).expect("a change").hash();
    for many in [2, 1000] {
        let mut change = honest(&sites());
        (change.seq, change.deps) = (2, vec![hash; many]);
        let fact = a.sign(body_of(&sites(), change));
        assert!(matches!(reader.docs.apply(&fact, true), Applied::Refused(Unfit::Seq | Unfit::TooLarge)));
    }
}

#[test]
fn the_second_change_of_a_number_is_refused_and_so_is_what_follows_it() {
    let (mut a, mut twin, mut other, mut reader) = (Node::new(1), Node::new(1), Node::new(2), Node::new(9));
    let (one, two) = (a.set("lyon", "a.state", "up"), twin.set("lyon", "a.state", "down"));
    other.take(std::slice::from_ref(&two));
    let on_two = other.set("porto", "b.state", "up");
    assert_eq!(reader.docs.apply(&on_two, true), Applied::Waiting);
    assert_eq!(reader.docs.apply(&one, true), Applied::Yes);
    // Not a fork of the chain, but two changes of one number in two facts of it.
    let copied = a.sign(two.body().expect("a body").to_vec());
    assert_eq!(reader.docs.apply(&copied, true), Applied::Refused(Unfit::Seq));
    assert_eq!(reader.docs.verdict(&sites(), &on_two), Some(Applied::Refused(Unfit::RefusedDep)));
    assert_eq!(reader.rows(), a.rows());
    // The other says it again, on what is left.
    other.take(&[one]);
    other.docs.apply(&copied, true);
}

#[test]
fn the_same_change_in_a_second_fact_does_nothing_even_beyond_a_cut() {
    let (mut a, mut reader) = (Node::new(1), Node::new(9));
    let one = a.set("lyon", "a.state", "up");
    let again = a.sign(one.body().expect("a body").to_vec());
    reader.take(&[one, again]);
    assert_eq!(reader.rows(), a.rows());
    reader.cut(&author(1), 1);
    assert_eq!(reader.rows(), a.rows());
    let beyond = a.sign(reader.docs.history(&sites(), None).expect("built")[0].fact.body().expect("a body").to_vec());
    reader.docs.apply(&beyond, false);
    assert_eq!(reader.rows(), a.rows());
}

fn op(obj: ObjectId, key: Key, action: OpType, pred: Vec<OpId>, insert: bool) -> Op {
    Op { action, obj, key, pred: pred.into(), insert }
}

fn prop(key: &str) -> Key {
    Key::Map(key.into())
}

fn text(text: &str) -> OpType {
    OpType::Put(ScalarValue::Str(text.into()))
}

#[test]
fn operations_outside_the_profile_or_the_past_are_refused() {
    let me = actor(1, &sites());
    let stranger = actor(7, &sites());
    let make = || op(ObjectId::Root, prop("lyon"), OpType::Make(ObjType::Map), vec![], false);
    let map = || ObjectId::Id(OpId(1, me.clone()));
    let inside = |action| vec![make(), op(map(), prop("a.k"), action, vec![], false)];
    let cases: Vec<(Vec<Op>, Unfit)> = vec![
        // Panics in plain Automerge: a missing object, of a known and of an unknown actor; a scalar as an object.
        (vec![op(ObjectId::Id(OpId(7, me.clone())), prop("a.k"), text("x"), vec![], false)], Unfit::BeyondPast),
        (vec![op(ObjectId::Id(OpId(1, stranger.clone())), prop("a.k"), text("x"), vec![], false)], Unfit::BeyondPast),
        (
            vec![
                make(),
                op(map(), prop("a.k"), text("x"), vec![], false),
                op(ObjectId::Id(OpId(2, me.clone())), prop("a.k"), text("x"), vec![], false),
            ],
            Unfit::Profile,
        ),
        // Saves that cannot be loaded: a replaced value that nobody knows.
        (
            vec![op(ObjectId::Root, prop("lyon"), OpType::Make(ObjType::Map), vec![OpId(9, me.clone())], false)],
            Unfit::BeyondPast,
        ),
        (
            vec![op(ObjectId::Root, prop("lyon"), OpType::Make(ObjType::Map), vec![OpId(1, stranger)], false)],
            Unfit::BeyondPast,
        ),
        (inside(OpType::Increment(1)), Unfit::Profile),
        (inside(OpType::Put(ScalarValue::counter(1))), Unfit::Profile),
        (inside(OpType::Put(ScalarValue::F64(1.0))), Unfit::Profile),
        (inside(OpType::Put(ScalarValue::Bytes(vec![1]))), Unfit::Profile),
        (inside(OpType::Put(ScalarValue::Null)), Unfit::Profile),
        (inside(OpType::Make(ObjType::List)), Unfit::Profile),
        (inside(OpType::Make(ObjType::Text)), Unfit::Profile),
        (inside(OpType::Make(ObjType::Map)), Unfit::Profile),
        (inside(OpType::Delete), Unfit::Profile),
        (inside(text(&"x".repeat(300))), Unfit::Profile),
        (vec![op(ObjectId::Root, prop("lyon"), text("x"), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, prop("Lyon!"), OpType::Make(ObjType::Map), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, Key::head(), OpType::Make(ObjType::Map), vec![], false)], Unfit::Profile),
        // List keys on a map.
        (vec![make(), op(map(), Key::head(), text("x"), vec![], true)], Unfit::Profile),
        (vec![make(), op(map(), prop(&"k".repeat(65)), text("x"), vec![], false)], Unfit::Profile),
    ];
    for (operations, why) in cases {
        refused(|change| change.operations = operations, why);
    }
    refused(|change| change.extra_bytes = vec![1, 2, 3], Unfit::Profile);
    refused(|change| change.message = Some("hello".into()), Unfit::Profile);
    refused(|change| change.operations.clear(), Unfit::Profile);
}

#[test]
fn operations_outside_the_profile_of_notes_are_refused() {
    let notes = doc("notes/a");
    let me = actor(1, &notes);
    let make = || op(ObjectId::Root, prop("text"), OpType::Make(ObjType::Text), vec![], false);
    let object = || ObjectId::Id(OpId(1, me.clone()));
    let elem = |n: u64| Key::Seq(ElementId::Id(OpId(n, me.clone())));
    let insert = |after: Key, value: OpType| op(object(), after, value, vec![], true);
    let cases: Vec<(Vec<Op>, Unfit)> = vec![
        // Behind a character that nobody wrote; plain Automerge accepts it.
        (vec![make(), insert(elem(7), text("x"))], Unfit::BeyondPast),
        (vec![make(), insert(elem(1), text("x"))], Unfit::Profile),
        (vec![make(), op(object(), prop("k"), text("x"), vec![], false)], Unfit::Profile),
        (vec![make(), insert(Key::head(), text("two"))], Unfit::Profile),
        (vec![make(), insert(Key::head(), text(""))], Unfit::Profile),
        (vec![make(), insert(Key::head(), text("\u{0}"))], Unfit::Profile),
        (vec![make(), insert(Key::head(), OpType::Put(ScalarValue::Int(1)))], Unfit::Profile),
        (vec![make(), insert(Key::head(), OpType::Make(ObjType::Map))], Unfit::Profile),
        (
            vec![
                make(),
                insert(Key::head(), text("x")),
                op(object(), elem(2), text("y"), vec![OpId(2, me.clone())], false),
            ],
            Unfit::Profile,
        ),
        (
            vec![make(), insert(Key::head(), text("x")), op(object(), elem(2), OpType::Delete, vec![], false)],
            Unfit::Profile,
        ),
        (
            vec![
                make(),
                insert(Key::head(), text("x")),
                op(object(), elem(2), OpType::Delete, vec![OpId(1, me.clone())], false),
            ],
            Unfit::Profile,
        ),
        (vec![make(), op(object(), Key::head(), OpType::Delete, vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, prop("other"), OpType::Make(ObjType::Text), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, prop("text"), text("x"), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, prop("title"), OpType::Put(ScalarValue::Int(1)), vec![], false)], Unfit::Profile),
    ];
    for (operations, why) in cases {
        refused_in(&notes, |change| change.operations = operations, why);
    }
}

#[test]
fn an_operation_may_not_name_what_only_others_know() {
    // Author 2 writes into author 1's map without following author 1's change: fine at a node that has it, a panic at
    // one that has not. So it is refused at both.
    let (mut a, mut bad) = (Node::new(1), Node::new(2));
    let one = a.set("lyon", "a.state", "up");
    let mut change = honest(&sites());
    change.actor_id = actor(2, &sites());
    let map = ObjectId::Id(OpId(1, actor(1, &sites())));
    change.operations = vec![op(map, prop("a.k"), text("x"), vec![], false)];
    let two = bad.sign(body_of(&sites(), change));
    for order in [[&one, &two], [&two, &one]] {
        let mut reader = Node::new(9);
        let verdicts: Vec<Applied> = order.iter().map(|fact| reader.docs.apply(fact, true)).collect();
        assert!(verdicts.contains(&Applied::Refused(Unfit::BeyondPast)), "{verdicts:?}");
        assert_eq!(reader.rows(), a.rows());
    }
}

/// The last line of defence, reached here by going around the fence: what makes Automerge panic or lose bytes.
#[test]
fn poison_that_reaches_the_engine_is_taken_out_again() {
    let me = actor(1, &sites());
    let put_op = |pred| op(ObjectId::Root, prop("k"), OpType::Put(ScalarValue::Int(1)), pred, false);
    let missing = op(ObjectId::Id(OpId(7, me.clone())), prop("k"), OpType::Delete, vec![], false);
    let spoils: [&dyn Fn(&mut ExpandedChange); 2] = [&|c| c.operations = vec![missing.clone()], &|c| {
        c.operations = vec![put_op(vec![OpId(9, actor(7, &sites()))])]
    }];
    for spoil in spoils {
        for batch in [1, 3] {
            let (mut other, mut bad) = (Node::new(2), Node::new(1));
            let mut document = Document::new(sites(), EpochId::FIRST);
            let first = other.set("porto", "b.state", "up");
            document.feed(first, true);
            document.step();
            let view = document.view();
            let mut change = honest(&sites());
            spoil(&mut change);
            let fact = bad.sign(body_of(&sites(), change));
            let poison = change_in(&fact).expect("a change");
            document.around_the_fence(&poison, &fact);
            document.feed(fact, true);
            let mut given = vec![poison];
            for i in 1..batch {
                let fact = other.set("porto", "b.count", &i.to_string());
                let change = change_in(&fact).expect("a change");
                document.around_the_fence(&change, &fact);
                document.feed(fact, true);
                given.push(change);
            }
            document.give(&given);
            while document.cost() > 0 {
                document.step();
            }
            let why = document.fence.refused().get(&given[0].hash());
            assert_eq!(why, Some(&Unfit::Poison));
            assert_eq!(document.fence.accepted().len(), batch);
            if batch == 1 {
                assert_eq!(document.view(), view);
            }
            assert!(Automerge::load(&document.engine.doc.save()).is_ok());
        }
    }
}

/// Found by fuzzing: an author's first change that Automerge does not give back as it was, for it has a row too many, and then a
/// sound first change. Whoever met both at once refused the second for the first's sake.
#[test]
fn what_is_poison_is_as_if_it_had_never_been() {
    let key = doc("config/main");
    let mut bad = Node::new(3);
    let sound = bad.docs.edit(&key, &put("lyon", "lyon.state", "up")).expect("fits").remove(0);
    let mut bytes = DocChange::read(&sound).expect("a body").change;
    let runs = bytes.len() - 2;
    assert_eq!(bytes[runs..], [2, 0], "how many values each of the two operations replaces");
    bytes[runs] = 10;
    let poison = bad.sign(raw_body(&key, with_checksum(bytes)));
    let sound = bad.sign(sound);
    let (mut one, mut other) = (Node::new(9), Node::new(9));
    assert_eq!(one.docs.apply(&poison, true), Applied::Refused(Unfit::Poison));
    assert_eq!(one.docs.apply(&sound, true), Applied::Yes);
    for fact in [&poison, &sound] {
        other.docs.feed(fact, true).expect("of this document");
    }
    other.docs.settle_all();
    assert_eq!(other.digest(&key), one.digest(&key));
    other.docs.recount(&|_| false);
    other.docs.recount(&|_| true);
    assert_eq!(other.digest(&key), one.digest(&key));
    assert_eq!(other.docs.verdict(&key, &poison), Some(Applied::Refused(Unfit::Poison)));
}

#[test]
fn chunks_of_other_kinds_and_bombs_are_refused_unopened() {
    let (mut bad, mut reader) = (Node::new(1), Node::new(9));
    let good = Change::from(honest(&sites())).raw_bytes().to_vec();
    let mut try_bytes = |bytes: Vec<u8>| {
        let fact = bad.sign(raw_body(&sites(), bytes));
        reader.docs.apply(&fact, true)
    };
    for kind in [0, 2, 3, 9] {
        let mut other = good.clone();
        other[8] = kind;
        assert_eq!(try_bytes(other), Applied::Refused(Unfit::Chunk));
    }
    assert_eq!(try_bytes([&good[..], &[0]].concat()), Applied::Refused(Unfit::Malformed));
    assert_eq!(try_bytes(good[..good.len() - 1].to_vec()), Applied::Refused(Unfit::Malformed));
    assert_eq!(try_bytes(vec![0; limits::CHANGE_LEN_MAX + 1]), Applied::Refused(Unfit::TooLarge));
    let mut checksum = good.clone();
    checksum[5] ^= 1;
    assert_eq!(try_bytes(checksum), Applied::Refused(Unfit::Checksum));
    for bomb in [bomb(0x42), bomb(0x70), bomb(0x34), bomb(0x15)] {
        assert!(bomb.len() < 120);
        assert_eq!(try_bytes(bomb), Applied::Refused(Unfit::TooManyOps));
    }
    assert_eq!(try_bytes(good), Applied::Yes);
}

/// A change of a few bytes whose column `spec` says "this value, 2^28 times".
fn bomb(spec: u8) -> Vec<u8> {
    let run = [0x80, 0x80, 0x80, 0x80, 0x01];
    let mut column = run.to_vec();
    column.extend_from_slice(if spec == 0x15 { &[1, b'k'] } else { &[1] });
    let mut body = vec![0, 16];
    body.extend_from_slice(actor(1, &sites()).to_bytes());
    body.extend_from_slice(&[1, 1, 0, 0, 0, 1, spec, u8::try_from(column.len()).expect("short")]);
    body.extend_from_slice(&column);
    let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1, u8::try_from(body.len()).expect("short")];
    bytes.extend_from_slice(&body);
    bytes
}

/// With the checksum put right, so that the change is judged by its content.
pub(super) fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = cauldron_identity::ids::sha256(bytes.get(8..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&hash[..4]);
    }
    bytes
}

#[test]
fn every_changed_byte_of_a_change_is_refused_or_harmless() {
    for key in [sites(), doc("notes/a")] {
        let mut a = Node::new(1);
        let (first, second) = match key.doc.kind() {
            Kind::Notes => (
                Edit::Text { at: 0, remove: 0, insert: "abc".into() },
                Edit::Text { at: 1, remove: 1, insert: "de".into() },
            ),
            _ => (put("lyon", "a.state", "up"), put("lyon", "a.state", "down")),
        };
        let one = a.edit(&key, &first).remove(0);
        let change = DocChange::read(&a.docs.edit(&key, &second).expect("fits")[0]).expect("a body").change;
        let (mut taken, mut turned_down) = (0, 0);
        for index in 9..change.len() {
            for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff, change[index] ^ 1, change[index] ^ 0x40] {
                let mut bytes = change.clone();
                bytes[index] = value;
                let (mut reader, mut bad) = (Node::new(9), Node::new(1));
                bad.sign(vec![]);
                reader.take(std::slice::from_ref(&one));
                let fact = bad.sign(raw_body(&key, with_checksum(bytes)));
                match reader.docs.apply(&fact, true) {
                    Applied::Refused(_) | Applied::Waiting => turned_down += 1,
                    _ => taken += 1,
                }
                assert!(loads(&mut reader.docs, &key), "byte {index} = {value}");
                // Also what is left out is told, however it was made.
                assert!(reader.docs.history(&key, None).is_some_and(|h| h.len() == 2), "byte {index} = {value}");
                assert!(reader.docs.blame(&key).is_some());
            }
        }
        assert!(taken > 5 && turned_down > 500, "{taken} {turned_down}");
    }
}

#[test]
fn automerges_own_crashers_do_no_harm() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/automerge/tests");
    let mut seen = 0;
    for folder in ["fuzz-crashers", "fixtures"] {
        let Ok(files) = std::fs::read_dir(root.join(folder)) else {
            skipped("automerge crashers", &format!("{} is absent", root.join(folder).display()));
            return;
        };
        for file in files {
            let bytes = std::fs::read(file.expect("listed").path()).expect("reads");
            seen += 1;
            for bytes in [bytes.clone(), with_checksum(bytes)] {
                let (mut reader, mut bad) = (Node::new(9), Node::new(1));
                let body = raw_body(&sites(), bytes);
                if body.len() > cauldron_identity::fact::BODY_LEN_MAX {
                    continue;
                }
                let fact = bad.sign(body);
                let applied = reader.docs.apply(&fact, true);
                assert!(matches!(applied, Applied::Refused(_)), "{applied:?}");
                assert_eq!(reader.rows(), Rows::new());
            }
        }
    }
    assert!(seen >= 17, "{seen}");
}

fn skipped(name: &str, reason: &str) {
    use std::io::Write;
    let line = format!("skipped: {name}: {reason}");
    eprintln!("{line}");
    if let Ok(path) = std::env::var("CAULDRON_SKIPS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("the file of skipped tests can be written");
    }
}

#[test]
fn a_document_with_all_the_writers_it_may_have_refuses_one_more() {
    use automerge::transaction::Transactable as _;
    let writer = |n: u16| {
        let mut node = Node::new(0);
        node.key = AuthorKey::from_seed(&[&n.to_be_bytes()[..], &[7; 30]].concat().try_into().expect("32 bytes"));
        node.docs.set_author(&node.key.author_id(), 0);
        node
    };
    let writers = u16::try_from(limits::DOC_ACTORS_MAX).expect("fits");
    let all: Vec<_> = (0..writers).map(|n| writer(n).set("lyon", "a.hello", "world")).collect();
    let (mut reader, mut late) = (Node::new(201), writer(writers));
    reader.take(&all);
    let mut doc = Automerge::new();
    doc.apply_changes(all.iter().map(|fact| change_in(fact).expect("a change"))).expect("sound");
    doc.set_actor(actor_of(&sites(), &EpochId::FIRST, &late.key.author_id(), 0, 0));
    let mut transaction = doc.transaction();
    transaction.put_object(automerge::ROOT, "porto", ObjType::Map).expect("fits");
    transaction.commit();
    let change = doc.get_last_local_change().expect("a change").raw_bytes().to_vec();
    let fact = late.sign(raw_body(&sites(), change));
    assert_eq!(reader.docs.apply(&fact, true), Applied::Refused(Unfit::Full));
    let status = reader.docs.status(&sites()).expect("there");
    assert_eq!((status.changes, status.refused), (u64::from(writers), 1));
}
