//! Bases: a whole document at once, vouched for by a few signed facts.

use automerge::Automerge;

use super::*;
use crate::testing::Members;

fn members() -> Members {
    crate::testing::wake();
    let mut members = Members::default();
    (1..=9).for_each(|seed| members.enrol(&key(seed), None));
    members
}

/// A document as a node packs it for others.
pub(super) fn packed(node: &mut Node, key: &DocKey) -> Vec<u8> {
    assert!(node.docs.save(key), "nothing of it is missing");
    let work = node.docs.work().expect("to be packed").run(&check::unpack);
    let Done::Saved(Some(bytes)) = node.docs.finish(work) else { panic!("packed") };
    bytes
}

/// Gives a node a packed document.
pub(super) fn load(
    node: &mut Node,
    key: &DocKey,
    bytes: &[u8],
    counts: &dyn Fn(&Fact) -> bool,
) -> Result<(), BaseError> {
    node.docs.load(key, bytes, &members(), counts)?;
    let mut loaded = None;
    while let Some(work) = node.docs.work() {
        if let Done::Loaded(result) = node.docs.finish(work.run(&check::unpack)) {
            loaded = Some(result);
        }
    }
    loaded.expect("it was loaded")
}

/// Two authors who built on each other, and their facts.
fn two_authors() -> (Node, Node, Vec<Arc<Fact>>) {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let mut facts = Vec::new();
    for n in 0..20 {
        let fact = a.set("lyon", "a.state", &format!("a{n}"));
        b.take(std::slice::from_ref(&fact));
        facts.push(fact);
        let fact = b.set("porto", "b.state", &format!("b{n}"));
        a.take(std::slice::from_ref(&fact));
        facts.push(fact);
    }
    (a, b, facts)
}

fn missing(node: &Node) -> u64 {
    node.docs.status(&sites()).expect("held").missing
}

#[test]
fn a_newcomer_reads_and_writes_at_once_and_the_facts_come_afterwards() {
    let (mut a, mut b, facts) = two_authors();
    let bytes = packed(&mut a, &sites());
    let mut new = Node::new(3);
    load(&mut new, &sites(), &bytes, &|_| true).expect("sound");
    assert_eq!((new.rows(), new.digest(&sites()), missing(&new)), (a.rows(), a.digest(&sites()), 40));
    assert!(matches!(new.docs.changed(), Some(Changed { what: What::Base, .. })), "watchers hear of it once");
    assert!(new.history(&sites()).is_empty(), "no fact is here yet");
    let blame = new.docs.blame(&sites()).expect("built");
    assert!(blame.iter().all(|b| b.fact.is_none()), "{blame:?}");
    assert_eq!(blame[0].author, Some(a.key.author_id()));
    assert!(!new.docs.save(&sites()), "only who holds the facts passes it on");

    let own = new.set("hq", "c.state", "new here");
    for node in [&mut a, &mut b] {
        node.take(std::slice::from_ref(&own));
        assert_eq!(node.rows()["hq"]["c.state"], Field::from("new here"));
    }
    let late = b.set("porto", "b.state", "later");
    for (n, fact) in facts.iter().enumerate() {
        new.take(std::slice::from_ref(fact));
        assert_eq!(missing(&new), 39 - n as u64);
    }
    new.take(std::slice::from_ref(&late));
    a.take(&[late]);
    assert_eq!((new.rows(), new.digest(&sites())), (a.rows(), a.digest(&sites())));
    assert_eq!(new.history(&sites()).len(), 42);
    assert!(new.docs.blame(&sites()).expect("built").iter().all(|b| b.fact.is_some()));
    packed(&mut new, &sites());
}

#[test]
fn notes_come_in_one_piece_too() {
    let (mut a, mut new) = (Node::new(1), Node::new(3));
    let key = doc("notes/a");
    let one = a.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "all quiet".into() });
    let two = a.edit(&key, &Edit::Text { at: 4, remove: 5, insert: "well".into() });
    let bytes = packed(&mut a, &key);
    load(&mut new, &key, &bytes, &|_| true).expect("sound");
    assert_eq!(new.text(&key), "all well");
    assert_eq!(new.docs.blame(&key).expect("built").len(), 2);
    new.take(&[one, two].concat());
    assert_eq!(new.digest(&key), a.digest(&key));
}

/// A base with another chunk.
pub(super) fn with_chunk(bytes: &[u8], change: impl FnOnce(Automerge) -> Vec<u8>) -> Vec<u8> {
    use minicbor::bytes::ByteVec;
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.map().expect("a map");
    (0..3).for_each(|_| decoder.skip().expect("a field"));
    decoder.skip().expect("a field");
    decoder.skip().expect("a key");
    let from = decoder.position();
    let chunk: ByteVec = decoder.decode().expect("a chunk");
    let to = decoder.position();
    let new = change(Automerge::load(&chunk).expect("ours"));
    [&bytes[..from], &cauldron_identity::codec::to_cbor(&ByteVec::from(new)), &bytes[to..]].concat()
}

#[test]
fn what_nobody_signed_is_not_taken() {
    let (mut a, _, _) = two_authors();
    let good = packed(&mut a, &sites());
    let older = with_chunk(&good, |doc| {
        let changes = doc.get_changes(&[]);
        let mut less = Automerge::new();
        less.apply_changes(changes[..30].iter().cloned()).expect("sound");
        less.save()
    });
    let more = with_chunk(&good, |mut doc| {
        use automerge::transaction::Transactable as _;
        // In the name of an author, and in one of its own.
        let actor = actor_of(&sites(), &EpochId::FIRST, &key(2).author_id(), 0, 0);
        doc.set_actor(actor);
        let mut transaction = doc.transaction();
        let row = transaction.put_object(automerge::ROOT, "porto", automerge::ObjType::Map).expect("fits");
        transaction.put(&row, "b.state", "forged").expect("fits");
        transaction.commit();
        doc.save()
    });
    let stranger = with_chunk(&good, |mut doc| {
        use automerge::transaction::Transactable as _;
        doc.set_actor(automerge::ActorId::from([7; 16].as_slice()));
        let mut transaction = doc.transaction();
        transaction.put_object(automerge::ROOT, "x", automerge::ObjType::Map).expect("fits");
        transaction.commit();
        doc.save()
    });
    let garbage = with_chunk(&good, |_| b"no chunk at all".to_vec());
    let plain = with_chunk(&good, |doc| doc.get_changes(&[])[0].raw_bytes().to_vec());
    for (bad, what) in
        [(older, "older"), (more, "more"), (stranger, "stranger"), (garbage, "garbage"), (plain, "plain")]
    {
        let mut new = Node::new(3);
        let why = load(&mut new, &sites(), &bad, &|_| true).expect_err(what);
        assert!(why.blames_peer(), "{what}: {why}");
        assert!(new.docs.status(&sites()).is_none(), "{what}");
    }
    // Of another document, or cut short.
    let mut new = Node::new(3);
    assert_eq!(load(&mut new, &doc("config/a"), &good, &|_| true), Err(BaseError::Malformed));
    assert_eq!(load(&mut new, &sites(), &good[..good.len() - 1], &|_| true), Err(BaseError::Malformed));
    let elsewhere = DocKey { scope: Scope::site("lyon").expect("a name"), ..sites() };
    assert_eq!(load(&mut new, &elsewhere, &good, &|_| true), Err(BaseError::Malformed));
}

#[test]
fn authors_that_do_not_count_here_are_nobodys_lie_and_a_later_cut_goes_back_to_the_facts() {
    let (mut a, mut b, facts) = two_authors();
    let bytes = packed(&mut a, &sites());
    let cut = key(2).author_id();
    let counts = |fact: &Fact| fact.header().author != cut || fact.header().seq <= 10;
    let mut new = Node::new(3);
    let why = load(&mut new, &sites(), &bytes, &counts).expect_err("beyond a cut");
    assert!(why == BaseError::Author && !why.blames_peer());
    new.docs.load(&sites(), &bytes, &Members::default(), &|_| true).expect_err("nobody is known");

    load(&mut new, &sites(), &bytes, &|_| true).expect("sound");
    new.take(&facts[..10]);
    // The reader's own word hangs on what is about to go.
    let own = new.set("hq", "c.state", "here");
    new.docs.recount(&counts);
    new.docs.recheck(&counts);
    assert!(!new.rows().contains_key("hq"), "{:?}", new.rows());
    assert_eq!(missing(&new), 0);
    facts[10..].iter().for_each(|fact| _ = new.docs.apply(fact, counts(fact)));
    for node in [&mut a, &mut b] {
        node.take(std::slice::from_ref(&own));
        node.docs.recount(&counts);
    }
    let again = new.heal();
    assert_eq!(new.rows()["hq"]["c.state"], Field::from("here"), "said again");
    for node in [&mut a, &mut b] {
        node.heal();
    }
    a.take(&again);
    assert_eq!(a.rows()["hq"]["c.state"], Field::from("here"));
}

#[test]
fn where_the_facts_say_otherwise_the_facts_count() {
    // Between two sound changes, the author signed one that no document takes: it names a round that it never began.
    let mut author = Node::new(1);
    let mut facts = Vec::new();
    let mut liar = Node::new(4);
    for n in 0..3 {
        let body = author.docs.edit(&sites(), &put("lyon", "a.state", &n.to_string())).expect("fits").remove(0);
        let honest = author.sign(body.clone());
        author.docs.apply(&honest, true);
        facts.push(honest);
    }
    let mut odd = Node::new(1);
    let mut signed = Vec::new();
    for (n, fact) in facts.iter().enumerate() {
        let mut body = DocChange::of(fact).expect("a change");
        body.round = if n == 1 { 5 } else { 0 };
        signed.push(odd.sign(cauldron_identity::codec::to_cbor(&body)));
    }
    // Who packs it holds the change under another fact.
    liar.take(&facts);
    let bytes = packed(&mut liar, &sites());
    let tip = cauldron_identity::codec::to_cbor(&facts[2].sealed().without_body());
    let new_tip = cauldron_identity::codec::to_cbor(&signed[2].sealed().without_body());
    let at = bytes.windows(tip.len()).position(|window| window == tip).expect("the tip");
    let bytes = [&bytes[..at], &new_tip, &bytes[at + tip.len()..]].concat();

    let mut new = Node::new(3);
    load(&mut new, &sites(), &bytes, &|_| true).expect("the last change is signed");
    assert_eq!(missing(&new), 3);
    new.take(&signed);
    let mut reference = Node::new(5);
    reference.take(&signed);
    assert_eq!((missing(&new), new.rows()), (0, reference.rows()));
    assert_eq!(new.digest(&sites()), reference.digest(&sites()));
    assert_eq!(new.rows()["lyon"]["a.state"], Field::from("0"), "the others hang on the odd one");
}

#[test]
fn a_base_replaces_less_and_never_more() {
    let (mut a, _, facts) = two_authors();
    let bytes = packed(&mut a, &sites());
    let (mut behind, mut ahead) = (Node::new(3), Node::new(4));
    behind.take(&facts[..7]);
    load(&mut behind, &sites(), &bytes, &|_| true).expect("sound");
    assert_eq!((missing(&behind), behind.rows()), (33, a.rows()), "what was here is known at once");
    ahead.take(&facts);
    ahead.set("hq", "c.state", "more");
    load(&mut ahead, &sites(), &bytes, &|_| true).expect("sound");
    assert_eq!(ahead.rows()["hq"]["c.state"], Field::from("more"));
    assert_eq!(missing(&ahead), 0);
}

#[test]
fn what_rests_on_a_fact_that_never_comes_is_said_again() {
    let (mut a, mut b, facts) = two_authors();
    // Signed, packed, and told nobody.
    a.set("lyon", "a.state", "secret");
    let bytes = packed(&mut a, &sites());
    let mut new = Node::new(3);
    load(&mut new, &sites(), &bytes, &|_| true).expect("sound");
    let own = new.set("hq", "c.state", "here");
    new.take(&facts);
    assert_eq!(missing(&new), 1);
    b.take(std::slice::from_ref(&own));
    assert!(!b.rows().contains_key("hq"), "it waits for what nobody has");
    assert_eq!(new.docs.unsettled(), [sites()]);

    // Everything that anybody has is here, and has been for long.
    new.docs.give_up(&sites());
    assert_eq!((missing(&new), new.rows()["lyon"]["a.state"].clone()), (0, Field::from("a19")));
    new.docs.give_up(&sites());
    let again = new.heal();
    assert!(!again.is_empty() && new.docs.unsettled().is_empty());
    b.take(&again);
    assert_eq!((new.rows()["hq"]["c.state"].clone(), new.digest(&sites())), (Field::from("here"), b.digest(&sites())));
    let more = new.set("hq", "c.state", "still here");
    b.take(&[more]);
    assert_eq!(b.rows()["hq"]["c.state"], Field::from("still here"));
    // It comes after all.
    let late = a.log.iter().last().expect("written").clone();
    for node in [&mut new, &mut b] {
        node.take(std::slice::from_ref(&late));
        assert_eq!(node.rows()["hq"]["c.state"], Field::from("still here"));
    }
    assert_eq!(new.digest(&sites()), b.digest(&sites()));
}

#[test]
fn a_base_brings_nobody_more_documents_than_one_may_write() {
    let (mut a, mut new) = (Node::new(1), Node::new(3));
    let name = |n: usize| doc(&format!("config/d{n}"));
    let edit = Edit::Row { row: "r".into(), fields: BTreeMap::from([("k".to_owned(), Some(Field::Int(1)))]) };
    let all: Vec<Vec<u8>> = (0..limits::DOCS_PER_WRITER_MAX)
        .map(|n| {
            a.edit(&name(n), &edit);
            packed(&mut a, &name(n))
        })
        .collect();
    for (n, bytes) in all.iter().enumerate() {
        load(&mut new, &name(n), bytes, &|_| true).expect("within the bound");
    }
    // The author has others, elsewhere.
    let mut twin = Node::new(1);
    twin.edit(&name(99), &edit);
    let bytes = packed(&mut twin, &name(99));
    assert_eq!(load(&mut new, &name(99), &bytes, &|_| true), Err(BaseError::Author));
}
