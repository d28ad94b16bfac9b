use std::num::NonZeroU64;
use std::path::Path;

use automerge::legacy::{Key, ObjectId, Op, OpId, OpType};
use automerge::{ExpandedChange, ScalarValue};
use cauldron_identity::AuthorKey;
use proptest::prelude::*;

use super::*;
use crate::testing::key;

const NAME: &str = "board";

fn author(seed: u8) -> AuthorId {
    AuthorKey::author_id(&key(seed))
}

fn board_of(seed: u8) -> Board {
    let mut board = Board::new(NAME, 0);
    board.set_author(&author(seed), 0);
    board
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Field> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Field::from(*value))).collect()
}

fn set(board: &mut Board, site: &str, key: &str, value: &str) -> Vec<u8> {
    board.set(site, &fields(&[(key, value)])).expect("fits").expect("changes something")
}

/// An honest first change of author 1, taken apart.
fn honest() -> (Board, ExpandedChange) {
    let body = set(&mut board_of(1), "lyon", "state", "up");
    let change = Change::try_from(from_cbor::<DocChange>(&body).expect("a body").change.as_slice()).expect("a change");
    (Board::new(NAME, 0), change.decode())
}

fn body_of(change: ExpandedChange) -> Vec<u8> {
    raw_body(Change::from(change).raw_bytes().to_vec())
}

fn raw_body(change: Vec<u8>) -> Vec<u8> {
    to_cbor(&DocChange { doc: NAME.into(), epoch: 0, change })
}

/// Applies what `spoil` makes of an honest change, and checks that the board is the same afterwards and still works.
#[track_caller]
fn refused(spoil: impl FnOnce(&mut ExpandedChange), why: Unfit) {
    let (mut board, mut change) = honest();
    let other = set(&mut board_of(2), "porto", "state", "up");
    assert_eq!(board.apply(&author(2), 0, &other), Applied::Yes);
    let before = (board.view(), board.digest());
    spoil(&mut change);
    change.hash = None;
    assert_eq!(board.apply(&author(1), 0, &body_of(change)), Applied::Refused(why));
    assert_eq!((board.view(), board.digest()), before);
    let (_, good) = honest();
    assert_eq!(board.apply(&author(1), 0, &body_of(good)), Applied::Yes);
    assert_eq!(board.view().len(), 2);
}

#[test]
fn what_one_node_writes_another_reads() {
    let (mut lyon, mut hq) = (board_of(1), board_of(2));
    let first = set(&mut lyon, "lyon", "state", "up");
    let second = set(&mut lyon, "lyon", "blocked", "198.51.100.7");
    assert_eq!(lyon.set("lyon", &fields(&[("state", "up")])), Ok(None), "the board says so already");
    assert_eq!(hq.apply(&author(1), 0, &first), Applied::Yes);
    assert_eq!(hq.apply(&author(1), 0, &second), Applied::Yes);
    assert_eq!(hq.apply(&author(1), 0, &second), Applied::Duplicate);
    assert_eq!(lyon.apply(&author(1), 0, &second), Applied::Duplicate, "own facts come back");
    assert_eq!(hq.view()["lyon"], fields(&[("state", "up"), ("blocked", "198.51.100.7")]));
    assert_eq!((hq.view(), hq.digest()), (lyon.view(), lyon.digest()));
}

#[test]
fn every_kind_of_field_survives_and_unfit_names_are_refused() {
    let mut board = board_of(1);
    let all = BTreeMap::from([
        ("text".to_owned(), Field::from("é\u{202e}")),
        ("count".to_owned(), Field::Int(i64::MIN)),
        ("at".to_owned(), Field::Timestamp(1_763_978_400_000)),
        ("flag".to_owned(), Field::Flag(true)),
    ]);
    let body = board.set("lyon", &all).expect("fits").expect("changes");
    let mut other = Board::new(NAME, 0);
    assert_eq!(other.apply(&author(1), 0, &body), Applied::Yes);
    assert_eq!(other.view()["lyon"], all);
    for (site, key, value) in [("Lyon", "a", "b"), ("lyon", "", "b"), ("lyon", "a", &*"x".repeat(5000))] {
        assert_eq!(board.set(site, &fields(&[(key, value)])), Err(Unfit::Profile), "{site} {key}");
    }
    assert_eq!(board.view()["lyon"], all, "a refused write leaves nothing");
    assert_eq!(Board::new(NAME, 0).set("lyon", &all), Err(Unfit::NotWritable));
}

#[test]
fn two_makers_of_one_site_are_both_seen() {
    let (mut a, mut b) = (board_of(1), board_of(2));
    let (one, two) = (set(&mut a, "lyon", "state", "up"), set(&mut b, "lyon", "load", "low"));
    assert_eq!(a.apply(&author(2), 0, &two), Applied::Yes);
    assert_eq!(b.apply(&author(1), 0, &one), Applied::Yes);
    assert_eq!(a.view(), b.view());
    assert_eq!(a.view()["lyon"], fields(&[("state", "up"), ("load", "low")]));
    // Whichever map won, a later write counts.
    let three = set(&mut a, "lyon", "load", "high");
    assert_eq!(b.apply(&author(1), 0, &three), Applied::Yes);
    assert_eq!(b.view()["lyon"]["load"], Field::from("high"));
}

#[test]
fn a_change_waits_for_what_it_follows() {
    let (mut a, mut b, mut late) = (board_of(1), board_of(2), Board::new(NAME, 0));
    let one = set(&mut a, "lyon", "state", "up");
    b.apply(&author(1), 0, &one);
    let two = set(&mut b, "porto", "state", "up");
    let three = set(&mut b, "porto", "state", "down");
    assert_eq!(late.apply(&author(2), 0, &two), Applied::Waiting);
    assert_eq!(late.apply(&author(2), 0, &three), Applied::Waiting);
    assert_eq!((late.waiting(), late.len()), (2, 0));
    assert_eq!(late.apply(&author(1), 0, &one), Applied::Yes);
    assert_eq!((late.waiting(), late.view()), (0, b.view()));
}

#[test]
fn waiting_is_bounded() {
    let (mut a, mut b, mut late) = (board_of(1), board_of(2), Board::new(NAME, 0));
    b.apply(&author(1), 0, &set(&mut a, "lyon", "state", "up"));
    let mut full = 0;
    for i in 0..limits::WAITING_MAX + 5 {
        let body = set(&mut b, "porto", "count", &i.to_string());
        full += usize::from(late.apply(&author(2), 0, &body) == Applied::Refused(Unfit::WaitingFull));
    }
    assert_eq!((full, late.waiting()), (5, limits::WAITING_MAX));
}

#[test]
fn another_document_or_epoch_is_left_alone() {
    let body = set(&mut board_of(1), "lyon", "state", "up");
    assert_eq!(Board::new(NAME, 1).apply(&author(1), 0, &body), Applied::Other);
    assert_eq!(Board::new("other", 0).apply(&author(1), 0, &body), Applied::Other);
}

#[test]
fn nobody_writes_in_anothers_name_or_life() {
    let body = set(&mut board_of(1), "lyon", "state", "up");
    let mut board = Board::new(NAME, 0);
    assert_eq!(board.apply(&author(2), 0, &body), Applied::Refused(Unfit::Actor));
    assert_eq!(board.apply(&author(1), 1, &body), Applied::Refused(Unfit::Actor));
    assert_eq!(board.apply(&author(1), 0, &body), Applied::Yes);
}

#[test]
fn a_change_that_breaks_the_order_is_refused() {
    refused(|c| c.seq = 2, Unfit::Seq);
    refused(|c| c.start_op = NonZeroU64::new(2).expect("two"), Unfit::StartOp);
    refused(|c| c.start_op = NonZeroU64::new(u64::from(u32::MAX)).expect("large"), Unfit::StartOp);
}

#[test]
fn the_second_change_of_a_number_is_refused_and_so_is_what_follows_it() {
    let (mut a, mut twin, mut other) = (board_of(1), board_of(1), board_of(2));
    let (one, two) = (set(&mut a, "lyon", "state", "up"), set(&mut twin, "lyon", "state", "down"));
    other.apply(&author(1), 0, &two);
    let on_two = set(&mut other, "porto", "state", "up");
    let mut board = Board::new(NAME, 0);
    assert_eq!(board.apply(&author(2), 0, &on_two), Applied::Waiting);
    assert_eq!(board.apply(&author(1), 0, &one), Applied::Yes);
    assert_eq!(board.apply(&author(1), 0, &two), Applied::Refused(Unfit::Seq));
    assert_eq!(board.waiting(), 0);
    assert_eq!(board.view(), a.view());
    let why: BTreeSet<Unfit> = board.quarantine().map(|(_, why)| why).collect();
    assert_eq!(why, BTreeSet::from([Unfit::Seq, Unfit::RefusedDep]));
}

#[test]
fn a_reused_operation_counter_is_refused() {
    let (mut a, mut board) = (board_of(1), Board::new(NAME, 0));
    board.apply(&author(1), 0, &set(&mut a, "lyon", "state", "up"));
    let body = set(&mut a, "lyon", "state", "down");
    let change = Change::try_from(from_cbor::<DocChange>(&body).expect("a body").change.as_slice()).expect("a change");
    let mut change = change.decode();
    change.start_op = NonZeroU64::MIN;
    assert_eq!(board.apply(&author(1), 0, &body_of(change)), Applied::Refused(Unfit::StartOp));
    assert_eq!(board.view()["lyon"]["state"], Field::from("up"));
}

fn op(obj: ObjectId, key: Key, action: OpType, pred: Vec<OpId>, insert: bool) -> Op {
    Op { action, obj, key, pred: pred.into(), insert }
}

#[test]
fn operations_outside_the_profile_or_the_past_are_refused() {
    let me = actor_of(NAME, 0, &author(1), 0);
    let stranger = actor_of(NAME, 0, &author(9), 0);
    let prop = |key: &str| Key::Map(key.into());
    let text = |text: &str| OpType::Put(ScalarValue::Str(text.into()));
    let make = || op(ObjectId::Root, prop("lyon"), OpType::Make(ObjType::Map), vec![], false);
    let map = || ObjectId::Id(OpId(1, me.clone()));
    let inside = |action| vec![make(), op(map(), prop("k"), action, vec![], false)];
    let cases: Vec<(Vec<Op>, Unfit)> = vec![
        // Panics in plain Automerge: a missing object, of a known and of an unknown actor; a scalar as an object.
        (vec![op(ObjectId::Id(OpId(7, me.clone())), prop("k"), text("x"), vec![], false)], Unfit::BeyondPast),
        (vec![op(ObjectId::Id(OpId(1, stranger.clone())), prop("k"), text("x"), vec![], false)], Unfit::BeyondPast),
        (
            vec![
                make(),
                op(map(), prop("k"), text("x"), vec![], false),
                op(ObjectId::Id(OpId(2, me.clone())), prop("k"), text("x"), vec![], false),
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
        (vec![op(ObjectId::Root, prop("lyon"), text("x"), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, prop("Lyon!"), OpType::Make(ObjType::Map), vec![], false)], Unfit::Profile),
        (vec![op(ObjectId::Root, Key::head(), OpType::Make(ObjType::Map), vec![], false)], Unfit::Profile),
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
fn an_operation_may_not_name_what_only_others_know() {
    // Author 2 writes into author 1's map without following author 1's change: fine at a node that has it, a panic at
    // one that has not. So it is refused at both.
    let (mut a, me) = (board_of(1), actor_of(NAME, 0, &author(1), 0));
    let one = set(&mut a, "lyon", "state", "up");
    let (_, mut change) = honest();
    change.actor_id = actor_of(NAME, 0, &author(2), 0);
    let put = OpType::Put(ScalarValue::Str("x".into()));
    change.operations = vec![op(ObjectId::Id(OpId(1, me)), Key::Map("k".into()), put, vec![], false)];
    let two = body_of(change);
    for order in [[(1, &one), (2, &two)], [(2, &two), (1, &one)]] {
        let mut board = Board::new(NAME, 0);
        let verdicts: Vec<Applied> = order.iter().map(|(seed, body)| board.apply(&author(*seed), 0, body)).collect();
        assert!(verdicts.contains(&Applied::Refused(Unfit::BeyondPast)), "{verdicts:?}");
        assert_eq!(board.view(), a.view());
    }
}

/// The last line of defence, reached here by going around the fence: what makes Automerge panic or lose bytes.
#[test]
fn poison_that_reaches_the_engine_is_taken_out_again() {
    let me = actor_of(NAME, 0, &author(1), 0);
    let put = |pred| op(ObjectId::Root, Key::Map("k".into()), OpType::Put(ScalarValue::Int(1)), pred, false);
    let missing = op(ObjectId::Id(OpId(7, me.clone())), Key::Map("k".into()), OpType::Delete, vec![], false);
    let spoils: [&dyn Fn(&mut ExpandedChange); 3] = [
        &|c| c.operations = vec![missing.clone()],
        &|c| c.operations = vec![put(vec![OpId(9, actor_of(NAME, 0, &author(9), 0))])],
        &|c| c.seq = 5,
    ];
    for spoil in spoils {
        let (mut board, mut change) = honest();
        let other = set(&mut board_of(2), "porto", "state", "up");
        assert_eq!(board.apply(&author(2), 0, &other), Applied::Yes);
        let view = board.view();
        spoil(&mut change);
        change.hash = None;
        assert_eq!(board.engine(&Change::from(change)), Err(Unfit::Poison));
        assert_eq!(board.view(), view);
        assert!(loads(&board));
        let (_, good) = honest();
        assert_eq!(board.apply(&author(1), 0, &body_of(good)), Applied::Yes);
    }
}

#[test]
fn chunks_of_other_kinds_and_bombs_are_refused_unopened() {
    let (mut board, change) = honest();
    let good = Change::from(change).raw_bytes().to_vec();
    let mut try_bytes = |bytes: Vec<u8>| board.apply(&author(1), 0, &raw_body(bytes));
    for kind in [0, 2, 3, 9] {
        let mut other = good.clone();
        other[8] = kind;
        assert_eq!(try_bytes(other), Applied::Refused(Unfit::Chunk));
    }
    assert_eq!(try_bytes([&good[..], &[0]].concat()), Applied::Refused(Unfit::Malformed));
    assert_eq!(try_bytes(good[..good.len() - 1].to_vec()), Applied::Refused(Unfit::Malformed));
    assert_eq!(try_bytes(vec![0; 300_000]), Applied::Refused(Unfit::TooLarge));
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
    let actor = actor_of(NAME, 0, &author(1), 0);
    let mut body = vec![0, 16];
    body.extend_from_slice(actor.to_bytes());
    body.extend_from_slice(&[1, 1, 0, 0, 0, 1, spec, u8::try_from(column.len()).expect("short")]);
    body.extend_from_slice(&column);
    let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1, u8::try_from(body.len()).expect("short")];
    bytes.extend_from_slice(&body);
    bytes
}

/// With the checksum put right, so that the change is judged by its content.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = cauldron_identity::ids::sha256(bytes.get(8..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(4..8) {
        field.copy_from_slice(&hash[..4]);
    }
    bytes
}

fn loads(board: &Board) -> bool {
    let saved = board.doc.save();
    Automerge::load(&saved).is_ok_and(|doc| read(&doc) == board.view())
}

#[test]
fn every_changed_byte_of_a_change_is_refused_or_harmless() {
    let mut a = board_of(1);
    let one = set(&mut a, "lyon", "state", "up");
    let change = from_cbor::<DocChange>(&set(&mut a, "lyon", "state", "down")).expect("a body").change;
    let (mut taken, mut turned_down) = (0, 0);
    for index in 9..change.len() {
        for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff, change[index] ^ 1, change[index] ^ 0x40] {
            let mut bytes = change.clone();
            bytes[index] = value;
            let mut board = Board::new(NAME, 0);
            assert_eq!(board.apply(&author(1), 0, &one), Applied::Yes);
            match board.apply(&author(1), 0, &raw_body(with_checksum(bytes))) {
                Applied::Refused(_) | Applied::Waiting => turned_down += 1,
                _ => taken += 1,
            }
            assert!(loads(&board), "byte {index} = {value}");
        }
    }
    assert!(taken > 5 && turned_down > 500, "{taken} {turned_down}");
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
                let mut board = Board::new(NAME, 0);
                let applied = board.apply(&author(1), 0, &raw_body(bytes));
                assert!(matches!(applied, Applied::Refused(_)), "{applied:?}");
                assert!(board.is_empty());
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

/// Three authors write, now and then taking over what another wrote: (author, body) in the order of writing.
fn history(script: &[(u8, u8, u8, bool)]) -> Vec<(u8, Vec<u8>)> {
    let mut boards: Vec<Board> = (1..=3).map(board_of).collect();
    let mut written: Vec<(u8, Vec<u8>)> = Vec::new();
    for (who, site, value, learns) in script {
        let who = who % 3 + 1;
        let board = &mut boards[usize::from(who) - 1];
        if *learns {
            for (other, body) in &written {
                board.apply(&author(*other), 0, body);
            }
        }
        let site = ["lyon", "porto", "hq"][usize::from(site % 3)];
        let key = format!("k{}", value % 4);
        if let Some(body) = board.set(site, &fields(&[(&key, &value.to_string())])).expect("fits") {
            written.push((who, body));
        }
    }
    written
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// MERGE-LAWS: any interleaving of the authors' chains, with repetition, gives the same board.
    #[test]
    fn the_order_of_arrival_does_not_show(
        script in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()), 1..30),
        picks in proptest::collection::vec(any::<u8>(), 200),
    ) {
        let written = history(&script);
        let mut reference = Board::new(NAME, 0);
        for (who, body) in &written {
            prop_assert_eq!(reference.apply(&author(*who), 0, body), Applied::Yes);
        }
        let mut queues: Vec<VecDeque<&Vec<u8>>> =
            (1..=3).map(|who| written.iter().filter(|(w, _)| *w == who).map(|(_, body)| body).collect()).collect();
        let mut board = Board::new(NAME, 0);
        for pick in picks.into_iter().chain([0, 1, 2].into_iter().cycle().take(3 * written.len())) {
            let who = pick % 3;
            if let Some(body) = queues[usize::from(who)].pop_front() {
                board.apply(&author(who + 1), 0, body);
                if pick > 128 {
                    board.apply(&author(who + 1), 0, body);
                }
            }
        }
        prop_assert_eq!(board.waiting(), 0);
        prop_assert_eq!(board.view(), reference.view());
        prop_assert_eq!(board.digest(), reference.digest());
        prop_assert!(loads(&board));
    }

    /// NO-PANIC and no poison: random mutations with the checksum put right.
    #[test]
    fn mutated_changes_never_harm_the_board(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4), noise in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut a = board_of(1);
        let one = set(&mut a, "lyon", "state", "up");
        let mut bytes = from_cbor::<DocChange>(&set(&mut a, "lyon", "load", "low")).expect("a body").change;
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [with_checksum(bytes), noise] {
            let mut board = Board::new(NAME, 0);
            board.apply(&author(1), 0, &one);
            board.apply(&author(1), 0, &raw_body(bytes.clone()));
            board.apply(&author(2), 0, &bytes);
            prop_assert!(loads(&board));
        }
    }
}
