//! What may go wrong where epochs turn: other ways through them, hostile seals, what is large, what comes in one piece.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::base::{load, packed};
use super::epoch::{CHANGES, all_facts, ended_with_one_of_another, epoch, exchange, late, node, same};
use super::*;

fn cut(nodes: &mut [&mut Node], bad: &AuthorId, seq: u64) {
    for node in nodes.iter_mut() {
        node.cut(bad, seq);
        work(&mut node.docs);
    }
}

fn write(node: &mut Node, key: &DocKey, text: &str) -> Vec<Arc<Fact>> {
    let at = node.text(key).chars().count();
    node.edit(key, &Edit::Text { at, remove: 0, insert: text.into() })
}

fn heads_of(node: &Node, key: &DocKey) -> Vec<Digest> {
    let document = node.docs.docs[key].here().expect("here");
    document.fence.heads().iter().map(|head| Digest::from_bytes(head.0)).collect()
}

fn said(node: &mut Node, seal: &Seal) -> Arc<Fact> {
    node.sign_as(KIND_SEAL, Scope::mesh(), cauldron_identity::codec::to_cbor(seal))
}

#[test]
fn what_was_inside_on_one_side_is_said_again_when_the_other_side_holds() {
    let (mut ours, mut theirs) = (0, 0);
    for variant in 0..12 {
        let mut nodes: Vec<Node> = (1..=5).map(node).collect();
        let [a, b, c, d, e] = &mut nodes[..] else { panic!("five") };
        let fact = a.set("lyon", "a.k", "0");
        exchange(&mut [a, b, c, d, e], vec![fact]);
        // c writes one change that is folded on its side, and one that is not.
        let inside = c.set("hq", "c.inside", "1");
        let mut x = exchange(&mut [a, b, c], vec![inside]);
        let mut outside = None;
        for n in 0..CHANGES - 2 {
            if n == CHANGES - 3 {
                outside = Some(c.set("hq", "c.outside", "1"));
            }
            let fact = a.set("lyon", &format!("a.k{n}"), &format!("v{variant}"));
            x.extend(exchange(&mut [a, b], vec![fact]));
        }
        let news = x.into_iter().chain(outside).collect();
        let x = exchange(&mut [a, b, c], news);
        assert_eq!(c.rows()["hq"].len(), 2);
        let mut y = Vec::new();
        for n in 0..CHANGES {
            let fact = d.set("porto", &format!("d.k{n}"), "d");
            y.extend(exchange(&mut [d, e], vec![fact]));
        }
        let other = d.docs.docs[&sites()].current();
        exchange(&mut [a, b, c, d, e], [x, y].concat());
        same(&mut [a, b, c, d, e], &sites());
        let switched = a.docs.docs[&sites()].current() == other;
        (ours, theirs) = (ours + usize::from(!switched), theirs + usize::from(switched));
        assert_eq!(
            a.rows()["hq"].len(),
            2,
            "variant {variant}, switched: {switched} {:?} {:?}",
            a.rows()["hq"],
            c.history(&sites())
                .iter()
                .filter(|s| s.fact.header().author == c.key.author_id())
                .map(|s| (
                    s.fact.header().seq,
                    DocChange::of(&s.fact).expect("x").epoch,
                    s.left_out,
                    DocChange::of(&s.fact).expect("x").again,
                    s.did.len()
                ))
                .collect::<Vec<_>>()
        );
        assert_eq!(a.rows()["porto"].len(), CHANGES as usize);
    }
    assert!(theirs > 0, "{ours} {theirs}");
}

#[test]
fn what_others_had_said_later_out_there_stands() {
    let (mut a, mut b, mut c, mut d) = (node(1), node(2), node(3), node(4));
    let key = doc("notes/a");
    let first = [vec![a.set("lyon", "a.k0", "first")], write(&mut a, &key, "base ")].concat();
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c, &mut d], first);
    for n in 1..CHANGES {
        let more = [vec![a.set("lyon", &format!("a.k{n}"), "a")], write(&mut a, &key, &n.to_string())].concat();
        facts.extend(exchange(&mut [&mut a, &mut b], more));
    }
    // Of two that are cut off together the second takes back what the first wrote.
    let own =
        [vec![c.set("porto", "k.x", "old"), c.set("porto", "k.gone", "old")], write(&mut c, &key, "WRONG")].concat();
    d.take(&own);
    let removed = Edit::Row { row: "porto".into(), fields: BTreeMap::from([("k.gone".to_owned(), None)]) };
    let more = [
        vec![d.set("porto", "k.x", "new")],
        d.edit(&sites(), &removed),
        d.edit(&key, &Edit::Text { at: 5, remove: 5, insert: String::new() }),
    ]
    .concat();
    c.take(&more);
    // The first hears of the new epoch before the second does.
    c.take(&facts);
    work(&mut c.docs);
    let again = c.heal();
    exchange(&mut [&mut a, &mut b, &mut c, &mut d], [facts, own, more, again].concat());
    same(&mut [&mut a, &mut b, &mut c, &mut d], &sites());
    same(&mut [&mut a, &mut b, &mut c, &mut d], &key);
    assert_eq!(a.rows()["porto"], BTreeMap::from([("k.x".to_owned(), Field::from("new"))]));
    assert_eq!(a.text(&key), "base 1234567");
}

#[test]
fn an_old_title_does_not_replace_a_newer_one() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let key = doc("notes/a");
    let first = a.edit(&key, &Edit::Title("t0".into()));
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], first);
    let own = c.edit(&key, &Edit::Title("old".into()));
    a.hlc += 1000;
    for n in 1..=CHANGES {
        let more = a.edit(&key, &Edit::Title(format!("new{n}")));
        facts.extend(exchange(&mut [&mut a, &mut b], more));
    }
    exchange(&mut [&mut a, &mut b, &mut c], [facts, own].concat());
    assert!(
        matches!(a.docs.view(&key).as_deref(), Some(View::Note { title, .. }) if *title == format!("new{CHANGES}"))
    );
}

#[test]
fn what_is_larger_than_a_change_is_folded_and_said_again_in_pieces() {
    let key = doc("config/main");
    let big = "x".repeat(4000);
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let first = a.edit(&key, &put("lyon", "k", "first"));
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c], first);
    let mut own = Vec::new();
    for n in 0..70 {
        facts.extend(a.edit(&key, &put("lyon", &format!("k{n}"), &big)));
        own.extend(c.edit(&key, &put("porto", &format!("k{n}"), &big)));
    }
    b.take(&facts);
    let seals = [a.seal(), b.seal()].concat();
    facts.extend(exchange(&mut [&mut a, &mut b], seals));
    assert_eq!(epoch(&a, &key), 1);
    exchange(&mut [&mut a, &mut b, &mut c], [facts, own].concat());
    same(&mut [&mut a, &mut b, &mut c], &key);
    let view = a.docs.view(&key).expect("held");
    assert_eq!(view.rows().map(|rows| (rows["lyon"].len(), rows["porto"].len())), Some((71, 70)));
}

#[test]
fn a_sealer_that_is_cut_doubles_nothing() {
    let (mut a, mut b, mut c) = (node(1), node(2), node(3));
    let key = doc("notes/a");
    for n in 0..CHANGES {
        let facts = write(&mut a, &key, &n.to_string());
        b.take(&facts);
        c.take(&facts);
    }
    let one = a.seal();
    c.take(&one);
    let seals = [one.clone(), c.seal()].concat();
    a.take(&seals[1..]);
    b.take(&seals);
    for node in [&mut a, &mut b, &mut c] {
        work(&mut node.docs);
    }
    assert_eq!((epoch(&a, &key), epoch(&b, &key)), (1, 1));
    let facts = write(&mut a, &key, " hello");
    b.take(&facts);
    let bad = c.key.author_id();
    cut(&mut [&mut a, &mut b], &bad, 0);
    assert_eq!(epoch(&b, &key), 0, "one reader is not enough");
    // Everybody says its part again at once, and the second seal comes later.
    let news = [a.heal(), b.heal(), a.seal(), b.seal()].concat();
    exchange(&mut [&mut a, &mut b], news);
    same(&mut [&mut a, &mut b], &key);
    assert_eq!(a.text(&key), "01234567 hello");
}

#[test]
fn an_epoch_that_a_cut_opens_again_doubles_nothing() {
    let (mut a, mut b, mut c, mut x) = (node(1), node(2), node(3), node(4));
    let key = doc("notes/a");
    let first = write(&mut a, &key, "base");
    let mut facts = exchange(&mut [&mut a, &mut b, &mut c, &mut x], first);
    let own = write(&mut c, &key, " late");
    let more = x.edit(&key, &Edit::Text { at: 0, remove: 0, insert: "X".into() });
    facts.extend(exchange(&mut [&mut a, &mut b], more));
    for n in 2..CHANGES {
        let more = write(&mut a, &key, &n.to_string());
        facts.extend(exchange(&mut [&mut a, &mut b], more));
    }
    exchange(&mut [&mut a, &mut b, &mut c], [facts, own].concat());
    assert_eq!(epoch(&c, &key), 1);
    let bad = x.key.author_id();
    cut(&mut [&mut a, &mut b, &mut c], &bad, 0);
    let news = [a.heal(), b.heal(), c.heal()].concat();
    exchange(&mut [&mut a, &mut b, &mut c], news);
    same(&mut [&mut a, &mut b, &mut c], &key);
    let mut characters: Vec<char> = a.text(&key).chars().collect();
    characters.sort_unstable();
    assert_eq!(characters.into_iter().collect::<String>(), " 234567aabeelst");
}

#[test]
fn who_starts_with_a_cut_that_is_known_says_its_part_again_all_the_same() {
    let (_, b, c, facts) = ended_with_one_of_another();
    let bad = c.key.author_id();
    let mut again = b.started_over(CHANGES, &facts, &|fact| fact.header().author != bad);
    let told = again.history(&sites());
    assert!(told.iter().any(|step| step.left_out == Some(Unfit::Late)));
    assert_eq!((again.heal().len(), again.docs.owed()), (1, vec![]));
    assert_eq!(again.rows()["hq"]["b.k"], Field::from("after"));
}

#[test]
fn what_is_said_again_beyond_the_end_of_a_life_is_said_again_by_the_next() {
    let (mut a, mut b, mut c, facts) = late();
    let own = vec![c.set("porto", "c.k", "late")];
    exchange(&mut [&mut a, &mut b, &mut c], [facts, own].concat());
    assert_eq!(a.rows()["porto"]["c.k"], Field::from("late"));
    let (author, end) = (c.key.author_id(), c.log.len() as u64 - 1);
    let mut next = node(3);
    next.docs.set_author(&author, 1);
    for fact in &all_facts(&[&a, &b, &c]) {
        let counts = fact.header().author != author || fact.header().seq <= end;
        match fact.header().kind.as_str() {
            KIND_SEAL => _ = next.docs.apply_seal(fact, counts),
            _ => _ = next.docs.apply(fact, counts),
        }
    }
    work(&mut next.docs);
    assert!(!next.rows().contains_key("porto"));
    assert_eq!(next.docs.reissue().expect("owed").1.len(), 1);
}

#[test]
fn a_fold_that_fails_stalls_nobody_and_junk_seals_spoil_no_base() {
    let key = doc("config/main");
    let (mut a, mut b, mut h) = (node(1), node(2), node(3));
    let mut facts = Vec::new();
    for n in 0..CHANGES {
        facts.extend(h.edit(&key, &put("lyon", &format!("k{n}"), "x")));
    }
    let bad = heads_of(&h, &key);
    facts.extend(h.edit(&key, &put("lyon", "k", "more")));
    // A seal of heads that lie behind others, of heads that nobody has, and of what nothing folds to; and facts on top of it.
    let junk = Digest::from_bytes([7; 32]);
    let mut both: Vec<Digest> = [bad.clone(), heads_of(&h, &key)].concat();
    both.sort();
    for heads in [bad, both, vec![Digest::from_bytes([1; 32])]] {
        let seal = Seal { doc: "config/main".into(), epoch: 0, genesis: None, heads, next: junk };
        facts.push(said(&mut h, &seal));
    }
    let on_top =
        DocChange { doc: "config/main".into(), epoch: 1, genesis: Some(junk), change: vec![1], ..DocChange::default() };
    facts.push(h.sign(cauldron_identity::codec::to_cbor(&on_top)));
    for node in [&mut a, &mut b] {
        node.take(&facts);
        work(&mut node.docs);
    }
    let seals = [a.seal(), b.seal()].concat();
    exchange(&mut [&mut a, &mut b], seals);
    same(&mut [&mut a, &mut b], &key);
    assert_eq!(epoch(&a, &key), 1);

    // One that names the same beginning and other heads does not go into a base.
    let next = a.docs.docs[&key].current().genesis.expect("begun");
    let heads = vec![Digest::from_bytes([1; 32])];
    let seal = Seal { doc: "config/main".into(), epoch: 0, genesis: None, heads, next };
    for seed in 4..8 {
        let fact = said(&mut node(seed), &seal);
        assert_eq!(a.docs.apply_seal(&fact, true), Applied::Yes);
    }
    let more = a.edit(&key, &put("lyon", "k", "on"));
    assert_eq!(more.len(), 1);
    let bytes = packed(&mut a, &key);
    load(&mut node(9), &key, &bytes, &|_| true).expect("sound");
}

#[test]
fn an_epoch_that_ended_long_ago_is_not_ended_once_more() {
    let (mut a, mut b, mut d, mut h1, mut h2) = (node(1), node(2), node(3), node(4), node(5));
    h1.shelf.keeps_all = true;
    for n in 0..CHANGES {
        let fact = a.set("lyon", &format!("a.k{n}"), "a");
        exchange(&mut [&mut a, &mut b, &mut d, &mut h1, &mut h2], vec![fact]);
    }
    let fact = d.set("hq", "d.legacy", "precious");
    exchange(&mut [&mut a, &mut b, &mut h1, &mut h2], vec![fact]);
    for e in 0..2 {
        for n in 0..CHANGES {
            let fact = a.set("lyon", &format!("a.k{n}"), &format!("e{e}"));
            exchange(&mut [&mut a, &mut b, &mut h1, &mut h2], vec![fact]);
        }
    }
    let (before, digest) = (epoch(&a, &sites()), a.digest(&sites()));
    // Two liars try every set of heads with the true last one in it.
    let first = h1.docs.docs[&sites()].held[&EpochId::FIRST].here().expect("here");
    let all: Vec<_> = first.fence.accepted().iter().map(|change| change.hash).collect();
    let mut seals = Vec::new();
    for mask in 0..(1u32 << (all.len() - 1)) {
        let others = (0..all.len() - 1).filter(|at| mask >> at & 1 == 1).map(|at| all[at]);
        let mut heads: Vec<_> = others.chain(all.last().copied()).collect();
        heads.sort();
        let Some((genesis, _)) = super::super::genesis::Genesis::fold(first, &heads) else { continue };
        let heads = heads.iter().map(|head| Digest::from_bytes(head.0)).collect();
        let next = genesis.id.genesis.expect("a name");
        seals.push(Seal { doc: "board/sites".into(), epoch: 0, genesis: None, heads, next });
    }
    seals.sort_by_key(|seal| seal.next);
    let said: Vec<_> = seals.iter().take(3).flat_map(|seal| [said(&mut h1, seal), said(&mut h2, seal)]).collect();
    for node in [&mut a, &mut b] {
        node.take(&said);
        work(&mut node.docs);
        assert_eq!(node.heal(), vec![]);
        assert_eq!((epoch(node, &sites()), node.digest(&sites())), (before, digest));
    }
    assert_eq!(a.rows()["hq"]["d.legacy"], Field::from("precious"));
}

#[test]
fn who_said_what_is_known_whichever_came_first() {
    let (mut a, mut b) = (node(1), node(2));
    let mut facts = Vec::new();
    for n in 0..CHANGES {
        let fact = a.set("lyon", &format!("a.k{n}"), "a");
        b.take(std::slice::from_ref(&fact));
        facts.push(fact);
    }
    let early = packed(&mut b, &sites());
    let one = a.seal();
    b.take(&one);
    let seals = [one, b.seal()].concat();
    a.take(&seals[1..]);
    work(&mut a.docs);
    let bare = |node: &Node| node.docs.blame(&sites()).expect("built").iter().filter(|b| b.fact.is_none()).count();
    // A base of the first epoch, then the seals, then the facts.
    let mut new = node(3);
    load(&mut new, &sites(), &early, &|_| true).expect("sound");
    new.take(&seals);
    work(&mut new.docs);
    new.take(&facts);
    work(&mut new.docs);
    assert_eq!((epoch(&new, &sites()), bare(&new)), (1, 0));
    // The facts, then a base of the second epoch.
    let mut away = node(4);
    away.take(&facts);
    away.take(&seals);
    work(&mut away.docs);
    let more: Vec<_> = (0..4).map(|n| a.set("hq", "a.z", &n.to_string())).collect();
    let later = packed(&mut a, &sites());
    load(&mut away, &sites(), &later, &|_| true).expect("sound");
    away.take(&more);
    work(&mut away.docs);
    assert_eq!((away.digest(&sites()), bare(&away)), (a.digest(&sites()), 0));
}

#[test]
fn what_liars_made_up_is_let_go_of() {
    let (mut a, mut b) = (node(1), node(2));
    let fact = a.set("lyon", "a.k", "true");
    b.take(&[fact]);
    for round in 0..3 {
        let (mut h1, mut h2) = (node(4), node(5));
        for n in 0..CHANGES {
            let fact = h1.set("lie", "a.k", &format!("{round}.{n}"));
            exchange(&mut [&mut h1, &mut h2], vec![fact]);
        }
        let bytes = packed(&mut h1, &sites());
        load(&mut a, &sites(), &bytes, &|_| true).expect("two readers say so");
        assert!(a.docs.docs[&sites()].held.len() <= 2, "one at a time");
        a.docs.give_up(&sites());
        assert_eq!(a.docs.docs[&sites()].held.len(), 1);
        assert_eq!(a.rows()["lyon"]["a.k"], Field::from("true"));
    }
}

#[test]
fn a_reader_of_many_documents_seals_one_more_and_once() {
    let (mut a, mut b) = (node(1), node(2));
    for n in 0..limits::DOCS_PER_WRITER_MAX {
        b.edit(&doc(&format!("config/c{n}")), &put("r", "k", "v"));
    }
    for n in 0..CHANGES {
        let fact = a.set("lyon", "a.k", &n.to_string());
        b.take(&[fact]);
    }
    let seals: Vec<_> = (0..5).flat_map(|_| b.seal()).collect();
    assert_eq!(seals.len(), 1);
    // Whoever has only the seal has no document.
    let mut other = node(3);
    other.take(&seals);
    assert_eq!((other.docs.keys().count(), other.docs.status(&sites())), (0, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever three writers and a sealer that is cut in the end do, in contact or not: each field and each character that
    /// somebody honest wrote, and nobody removed, shows exactly once everywhere.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(
        script in proptest::collection::vec((0usize..4, any::<u8>(), 0u8..12), 10..70),
        cut_at in 0u64..6,
    ) {
        let mut nodes: Vec<Node> = (1..=4).map(|seed| Node::with_epoch(seed, 4)).collect();
        let (mut sent, mut known): (Vec<Arc<Fact>>, _) = (Vec::new(), [0; 4]);
        let (mut fields, mut characters) = (BTreeSet::new(), BTreeSet::new());
        let key = doc("notes/a");
        for (step, (who, at, what)) in script.into_iter().enumerate() {
            let node = &mut nodes[who];
            match what {
                0..=3 => {
                    node.hear(&sent, &mut known[who]);
                    sent.extend(node.heal());
                }
                4..=5 => sent.extend(node.seal()),
                // The last one writes nothing.
                _ if who == 3 => sent.extend(node.seal()),
                _ if what % 2 == 0 => {
                    let field = format!("k.k{step}");
                    sent.extend(node.edit(&sites(), &put(["lyon", "porto"][usize::from(at % 2)], &field, "x")));
                    fields.insert(field);
                }
                _ => {
                    let character = char::from_u32(0x4e00 + step as u32).expect("a character");
                    let at = usize::from(at) % (node.text(&key).chars().count() + 1);
                    sent.extend(node.edit(&key, &Edit::Text { at, remove: 0, insert: character.to_string() }));
                    characters.insert(character);
                }
            }
        }
        let bad = nodes[3].key.author_id();
        let [a, b, c, _] = &mut nodes[..] else { panic!("four") };
        for (node, known) in [(&mut *a, known[0]), (&mut *b, known[1]), (&mut *c, known[2])] {
            let own = node.key.author_id();
            node.take(&sent[known..].iter().filter(|fact| fact.header().author != own).cloned().collect::<Vec<_>>());
            work(&mut node.docs);
        }
        for round in 0..2 {
            let news = [a.heal(), b.heal(), c.heal(), a.seal(), b.seal(), c.seal()].concat();
            exchange(&mut [a, b, c], news);
            if round == 0 {
                cut(&mut [a, b, c], &bad, cut_at);
            }
        }
        for node in [&mut *a, &mut *b, &mut *c] {
            let rows = node.rows();
            let shown: Vec<String> = rows.values().flat_map(|row| row.keys().cloned()).collect();
            prop_assert_eq!(&shown.iter().cloned().collect::<BTreeSet<_>>(), &fields);
            let text: Vec<char> = node.text(&key).chars().collect();
            prop_assert_eq!(text.len(), characters.len(), "{:?}", text);
            prop_assert_eq!(&text.into_iter().collect::<BTreeSet<_>>(), &characters);
        }
        for key in a.docs.keys().cloned().collect::<Vec<_>>() {
            same(&mut [a, b, c], &key);
        }
    }
}
