//! Epochs: documents end and go on, and nothing that anybody wrote is lost silently.

use proptest::prelude::*;

use super::base::{load, packed};
use super::*;

pub(super) const CHANGES: u64 = 8;

pub(super) fn node(seed: u8) -> Node {
    crate::testing::wake();
    Node::with_epoch(seed, CHANGES)
}

pub(super) fn epoch(node: &Node, key: &DocKey) -> u32 {
    node.docs.status(key).expect("held").epoch
}

/// Everybody takes what everybody else said, until nobody has anything to say.
pub(super) fn exchange(nodes: &mut [&mut Node], news: Vec<Arc<Fact>>) -> Vec<Arc<Fact>> {
    let (mut all, mut news) = (Vec::new(), news);
    while !news.is_empty() {
        for node in nodes.iter_mut() {
            let others: Vec<_> = news.iter().filter(|f| f.header().author != node.key.author_id()).cloned().collect();
            node.take(&others);
            work(&mut node.docs);
        }
        all.append(&mut news);
        for node in nodes.iter_mut() {
            news.extend(node.heal());
            news.extend(node.seal());
        }
    }
    all
}

pub(super) fn same(nodes: &mut [&mut Node], key: &DocKey) {
    let state = |node: &mut &mut Node| (node.docs.view(key), node.digest(key), epoch(node, key));
    let first = state(&mut nodes[0]);
    for node in nodes.iter_mut().skip(1) {
        assert_eq!(state(node), first);
        assert!(node.docs.owed().is_empty());
    }
}

/// Two readers fill an epoch, and seal it.
pub(super) fn sealed() -> (Node, Node, Vec<Arc<Fact>>) {
    let (mut a, mut b) = (node(1), node(2));
    let mut facts = Vec::new();
    for n in 0..CHANGES {
        let fact = a.set(["lyon", "porto"][n as usize % 2], &format!("a.k{}", n % 3), &n.to_string());
        facts.extend(exchange(&mut [&mut a, &mut b], vec![fact]));
    }
    (a, b, facts)
}

#[test]
fn an_epoch_that_two_readers_sealed_goes_on_with_what_the_document_says() {
    let (mut a, mut b, mut facts) = sealed();
    let seals = facts.iter().filter(|fact| fact.header().kind == KIND_SEAL).count();
    assert_eq!((epoch(&a, &sites()), seals), (1, 2), "one says so, the other confirms it");
    same(&mut [&mut a, &mut b], &sites());
    assert_eq!(a.rows()["lyon"]["a.k0"], Field::from("6"));
    assert_eq!(a.docs.status(&sites()).expect("held").changes, CHANGES);
    // Who said what is known as before.
    let blame = b.docs.blame(&sites()).expect("built");
    assert!(blame.iter().all(|b| b.author == Some(a.key.author_id()) && b.fact.is_some()), "{blame:?}");

    let fact = b.set("hq", "b.k", "on");
    facts.extend(exchange(&mut [&mut a, &mut b], vec![fact]));
    same(&mut [&mut a, &mut b], &sites());
    assert_eq!((a.rows().len(), a.history(&sites()).len()), (3, 1 + CHANGES as usize));
    // Whoever reads it later comes to the same, in whatever order it comes.
    for facts in [facts.clone(), facts.iter().rev().cloned().collect()] {
        let mut late = node(3);
        let mut by_author: BTreeMap<_, Vec<_>> = BTreeMap::new();
        facts.iter().for_each(|f| by_author.entry(f.header().author).or_default().push(f.clone()));
        let chains = by_author.into_values().map(|mut chain| {
            chain.sort_by_key(|fact| fact.header().seq);
            chain
        });
        chains.for_each(|chain| late.take(&chain));
        assert_eq!((late.rows(), late.digest(&sites())), (a.rows(), a.digest(&sites())));
    }
}

#[test]
fn one_reader_ends_nothing() {
    let mut a = node(1);
    for n in 0..2 * CHANGES {
        a.set("lyon", "a.k", &n.to_string());
        a.seal();
    }
    assert_eq!(epoch(&a, &sites()), 0);
    assert_eq!(a.docs.seals_due(), vec![], "it has said so, once");
}

#[test]
fn notes_go_on_character_by_character() {
    let (mut a, mut b) = (node(1), node(2));
    let key = doc("notes/a");
    for (n, word) in ["all ", "is ", "well ", "in ", "lyon ", "and ", "porto ", "today"].iter().enumerate() {
        let at = a.text(&key).chars().count();
        let who = if n % 2 == 0 { &mut a } else { &mut b };
        let facts = who.edit(&key, &Edit::Text { at, remove: 0, insert: (*word).into() });
        exchange(&mut [&mut a, &mut b], facts);
    }
    assert_eq!((epoch(&a, &key), a.text(&key).as_str()), (1, "all is well in lyon and porto today"));
    let pieces = a.docs.blame(&key).expect("built");
    assert_eq!(pieces.iter().filter(|p| p.author == Some(b.key.author_id())).count(), 4, "{pieces:?}");
    let facts = b.edit(&key, &Edit::Text { at: 0, remove: 3, insert: "Nearly all".into() });
    exchange(&mut [&mut a, &mut b], facts);
    assert_eq!(a.text(&key), "Nearly all is well in lyon and porto today");
}

/// A third writer that was cut off while two others ended the epoch.
pub(super) fn late() -> (Node, Node, Node, Vec<Arc<Fact>>) {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let fact = a.set("lyon", "a.k0", "first");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], vec![fact]);
    for n in 1..CHANGES {
        let fact = a.set("lyon", &format!("a.k{n}"), "a");
        facts.extend(exchange(&mut [&mut a, &mut b], vec![fact]));
    }
    assert_eq!((epoch(&a, &sites()), epoch(&c, &sites())), (1, 0));
    (a, b, c, facts)
}

#[test]
fn what_a_late_writer_wrote_to_an_epoch_that_had_ended_is_merged() {
    let (mut a, mut b, mut c, facts) = late();
    let own = vec![c.set("porto", "c.k", "late"), c.set("lyon", "a.k0", "of c")];
    let later = a.set("lyon", "a.k1", "a again");
    a.take(&own);
    let told = a.history(&sites());
    assert_eq!(told.iter().filter(|step| step.left_out == Some(Unfit::Late)).count(), 2, "told until it is said again");
    assert!(!a.rows().contains_key("porto"));

    let news: Vec<_> = facts.into_iter().chain(own).chain([later]).collect();
    exchange(&mut [&mut a, &mut b, &mut c], news);
    same(&mut [&mut a, &mut b, &mut c], &sites());
    assert_eq!(a.rows()["porto"]["c.k"], Field::from("late"));
    assert_eq!(a.rows()["lyon"]["a.k0"], Field::from("of c"), "it was said after what it replaces");
    let told = a.history(&sites());
    assert_eq!(told.iter().filter(|step| step.left_out == Some(Unfit::SaidAgain)).count(), 2);
    // Once is enough, also after a restart.
    let mut again = node(3);
    again.take(&all_facts(&[&a, &b, &c]));
    assert_eq!((again.heal(), again.docs.owed()), (vec![], vec![]));
}

pub(super) fn all_facts(nodes: &[&Node]) -> Vec<Arc<Fact>> {
    nodes.iter().flat_map(|node| node.log.iter()).collect()
}

#[test]
fn what_somebody_said_later_stands() {
    let (mut a, mut b, mut c, facts) = late();
    let own = c.set("lyon", "a.k0", "of c");
    a.hlc += 100;
    let later = a.set("lyon", "a.k0", "later");
    let news: Vec<_> = facts.into_iter().chain([own, later]).collect();
    exchange(&mut [&mut a, &mut b, &mut c], news);
    same(&mut [&mut a, &mut b, &mut c], &sites());
    assert_eq!(a.rows()["lyon"]["a.k0"], Field::from("later"));
    // Removed meanwhile, it does not come back when its author starts anew.
    let removed = Edit::Row { row: "lyon".into(), fields: BTreeMap::from([("a.k0".to_owned(), None)]) };
    let gone = a.edit(&sites(), &removed);
    exchange(&mut [&mut a, &mut b, &mut c], gone);
    let mut again = node(3);
    again.take(&all_facts(&[&a, &b, &c]));
    assert_eq!(again.heal(), vec![]);
    assert!(!again.rows()["lyon"].contains_key("a.k0"));
}

#[test]
fn late_characters_find_their_neighbours() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let key = doc("notes/a");
    let facts = a.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "one two three".into() });
    let mut news = exchange(&mut [&mut a, &mut b, &mut c], facts);
    let own = c.edit(&key, &Edit::Text { at: 7, remove: 0, insert: " and a half".into() });
    let own = [own, c.edit(&key, &Edit::Text { at: 0, remove: 3, insert: "One".into() })].concat();
    for n in 1..CHANGES {
        let at = a.text(&key).chars().count();
        let facts = a.edit(&key, &Edit::Text { at, remove: 0, insert: format!(" {n}") });
        news.extend(exchange(&mut [&mut a, &mut b], facts));
    }
    // And one more epoch goes by.
    for n in 0..CHANGES {
        let facts = b.edit(&key, &Edit::Title(format!("t{n}")));
        news.extend(exchange(&mut [&mut a, &mut b], facts));
    }
    assert_eq!((epoch(&a, &key), a.text(&key).as_str()), (2, "one two three 1 2 3 4 5 6 7"));
    exchange(&mut [&mut a, &mut b, &mut c], [news, own].concat());
    same(&mut [&mut a, &mut b, &mut c], &key);
    assert_eq!(a.text(&key), "One two and a half three 1 2 3 4 5 6 7");
}

#[test]
fn two_sides_that_ended_an_epoch_differently_come_together() {
    let mut nodes: Vec<Node> = (1..=4).map(node).collect();
    let [a, b, c, d] = &mut nodes[..] else { panic!("four") };
    let fact = a.set("lyon", "a.k", "0");
    exchange(&mut [a, b, c, d], vec![fact]);
    let mut sides = [Vec::new(), Vec::new()];
    for n in 1..=CHANGES + 2 {
        let fact = a.set("lyon", &format!("a.k{n}"), "a");
        sides[0].extend(exchange(&mut [a, b], vec![fact]));
        let fact = c.set("porto", &format!("c.k{n}"), "c");
        sides[1].extend(exchange(&mut [c, d], vec![fact]));
    }
    assert!(epoch(a, &sites()) == 1 && epoch(c, &sites()) == 1 && a.digest(&sites()) != c.digest(&sites()));
    exchange(&mut [a, b, c, d], sides.concat());
    same(&mut [a, b, c, d], &sites());
    assert_eq!(
        a.rows()["lyon"].len() + a.rows()["porto"].len(),
        1 + 2 * (CHANGES as usize + 2),
        "all of both is in it"
    );
}

/// An epoch that ended with one change of a third author in it, and a change of the second after it.
pub(super) fn ended_with_one_of_another() -> (Node, Node, Node, Vec<Arc<Fact>>) {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let mut facts = Vec::new();
    for n in 0..CHANGES {
        let who = if n == 1 { &mut c } else { &mut a };
        let fact = who.set("lyon", &format!("k.k{n}"), "x");
        facts.extend(exchange(&mut [&mut a, &mut b, &mut c], vec![fact]));
    }
    let fact = b.set("hq", "b.k", "after");
    facts.extend(exchange(&mut [&mut a, &mut b, &mut c], vec![fact]));
    assert_eq!(epoch(&a, &sites()), 1);
    (a, b, c, facts)
}

#[test]
fn a_cut_reaches_into_epochs_that_ended() {
    let (mut a, mut b, c, _) = ended_with_one_of_another();
    let bad = c.key.author_id();
    for node in [&mut a, &mut b] {
        node.cut(&bad, 0);
        work(&mut node.docs);
    }
    let news: Vec<_> = [a.heal(), b.heal()].concat();
    exchange(&mut [&mut a, &mut b], news);
    same(&mut [&mut a, &mut b], &sites());
    let rows = a.rows();
    assert!(!rows["lyon"].contains_key("k.k1"), "what the cut author wrote is gone: {rows:?}");
    assert_eq!(rows["hq"]["b.k"], Field::from("after"));
    assert_eq!(rows["lyon"].len(), CHANGES as usize - 1);
}

#[test]
fn seals_that_are_wrong_end_nothing() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    for n in 0..3 {
        let fact = a.set("lyon", "a.k", &n.to_string());
        exchange(&mut [&mut a, &mut b, &mut c], vec![fact]);
    }
    let heads: Vec<Digest> =
        a.docs.docs[&sites()].here().expect("here").fence.heads().iter().map(|h| Digest::from_bytes(h.0)).collect();
    let seal = Seal { doc: "board/sites".into(), epoch: 0, genesis: None, heads, next: Digest::from_bytes([1; 32]) };
    let said = |node: &mut Node, seal: &Seal| {
        let fact = node.sign_as(KIND_SEAL, Scope::mesh(), cauldron_identity::codec::to_cbor(seal));
        node.docs.apply_seal(&fact, true);
        fact
    };
    // Two readers lie about a document that is not full.
    let lies = vec![said(&mut b, &seal), said(&mut c, &seal)];
    a.take(&lies);
    assert_eq!(epoch(&a, &sites()), 0);
    for n in 3..CHANGES {
        let fact = a.set("lyon", "a.k", &n.to_string());
        for node in [&mut b, &mut c] {
            node.take(std::slice::from_ref(&fact));
        }
    }
    // And about what it folds to when it is.
    let heads: Vec<Digest> =
        a.docs.docs[&sites()].here().expect("here").fence.heads().iter().map(|h| Digest::from_bytes(h.0)).collect();
    let lies = vec![
        said(&mut b, &Seal { heads: heads.clone(), ..seal.clone() }),
        said(&mut c, &Seal { heads, ..seal.clone() }),
    ];
    a.take(&lies);
    work(&mut a.docs);
    assert_eq!(epoch(&a, &sites()), 0);
    let mut nobody = Seal { heads: vec![], ..seal.clone() };
    let fact = b.sign_as(KIND_SEAL, Scope::mesh(), cauldron_identity::codec::to_cbor(&nobody));
    assert_eq!(a.docs.apply_seal(&fact, true), Applied::Refused(Unfit::Malformed));
    (nobody.heads, nobody.epoch) = (seal.heads.clone(), 1);
    let fact = b.sign_as(KIND_SEAL, Scope::mesh(), cauldron_identity::codec::to_cbor(&nobody));
    assert_eq!(a.docs.apply_seal(&fact, true), Applied::Refused(Unfit::Malformed));
    // Honest readers end it all the same.
    let mut d = node(4);
    d.take(&all_facts(&[&a, &b, &c]));
    let seals = a.seal();
    assert_eq!(seals.len(), 1);
    exchange(&mut [&mut a, &mut d], seals);
    same(&mut [&mut a, &mut d], &sites());
    assert_eq!(epoch(&a, &sites()), 1);
}

#[test]
fn a_newcomer_reads_the_epoch_in_use_and_its_past_comes_afterwards() {
    let (mut a, mut b, mut facts) = sealed();
    for bytes_after in 0..2 {
        let mut new = node(3);
        let bytes = packed(&mut a, &sites());
        load(&mut new, &sites(), &bytes, &|_| true).expect("sound");
        assert_eq!((new.rows(), new.digest(&sites())), (a.rows(), a.digest(&sites())));
        let status = new.docs.status(&sites()).expect("held");
        assert_eq!((status.epoch, status.epochs_missing), (1, 1));
        let own = new.set("porto", "c.k", "new here");
        let mut old = node(4);
        old.take(&facts);
        old.take(std::slice::from_ref(&own));
        assert_eq!(old.rows()["porto"]["c.k"], Field::from("new here"));
        assert!(!new.docs.save(&sites()), "only who holds the facts passes it on");
        new.take(&facts);
        assert_eq!(new.docs.status(&sites()).expect("held").epochs_missing, 0);
        assert_eq!((new.rows(), new.digest(&sites())), (old.rows(), old.digest(&sites())));
        assert!(new.docs.blame(&sites()).expect("built").iter().all(|b| b.fact.is_some()));
        if bytes_after == 0 {
            let fact = b.set("hq", "b.k", "on");
            facts.extend(exchange(&mut [&mut a, &mut b], vec![fact]));
        }
    }
}

#[test]
fn an_epoch_in_one_piece_begins_from_what_its_readers_sealed() {
    let (mut a, b, _) = sealed();
    let bytes = packed(&mut a, &sites());
    // One of two readers does not count here.
    let counts = |fact: &Fact| fact.header().author != b.key.author_id() || fact.header().kind != KIND_SEAL;
    assert_eq!(load(&mut node(5), &sites(), &bytes, &counts), Err(BaseError::Author));
    // Somebody writes in the name of nobody.
    let actor = a.docs.docs[&sites()].here().and_then(|d| d.genesis.as_ref()).expect("begun").actor.clone();
    let forged = super::base::with_chunk(&bytes, |mut doc| {
        use automerge::transaction::Transactable as _;
        doc.set_actor(actor);
        let mut transaction = doc.transaction();
        let row = transaction.put_object(automerge::ROOT, "forged", automerge::ObjType::Map).expect("fits");
        transaction.put(&row, "b.state", "forged").expect("fits");
        transaction.commit();
        doc.save()
    });
    let why = load(&mut node(5), &sites(), &forged, &|_| true).expect_err("forged");
    assert!(why == BaseError::Unsigned && why.blames_peer());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever three writers do, cut off from each other or not: in the end all say the same, and nobody is owed anything.
    #[test]
    fn epochs_converge(
        script in proptest::collection::vec((0usize..3, any::<u8>(), any::<u8>(), 0u8..10), 10..60),
    ) {
        let mut nodes: Vec<Node> = (1..=3).map(|seed| Node::with_epoch(seed, 4)).collect();
        let mut sent: Vec<Arc<Fact>> = Vec::new();
        let mut known = [0; 3];
        for (who, row, value, what) in script {
            let node = &mut nodes[who];
            match what {
                // One learns what there is.
                0..=2 => {
                    node.hear(&sent, &mut known[who]);
                    sent.extend(node.heal());
                }
                3 => sent.extend(node.seal()),
                _ => sent.extend(node.scribble(&if what % 2 == 0 { sites() } else { doc("notes/a") }, row, value)),
            }
        }
        let [a, b, c] = &mut nodes[..] else { panic!("three") };
        for (node, known) in [(&mut *a, known[0]), (&mut *b, known[1]), (&mut *c, known[2])] {
            let own = node.key.author_id();
            node.take(&sent[known..].iter().filter(|fact| fact.header().author != own).cloned().collect::<Vec<_>>());
        }
        let news = [a.heal(), b.heal(), c.heal(), a.seal(), b.seal(), c.seal()].concat();
        exchange(&mut [a, b, c], news);
        let keys: Vec<DocKey> = a.docs.keys().cloned().collect();
        for key in keys {
            same(&mut [a, b, c], &key);
            let mut fresh = Node::with_epoch(9, 4);
            fresh.take(&all_facts(&[a, b, c]));
            work(&mut fresh.docs);
            prop_assert_eq!(fresh.digest(&key), a.digest(&key));
            prop_assert!(super::hostile::loads(&mut fresh.docs, &key));
        }
    }
}
