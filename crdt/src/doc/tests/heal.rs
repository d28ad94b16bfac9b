//! Cuts: what lies beyond one is taken out, and those who had built on it say their part again.

use super::*;

/// An author writes, another builds on it and on something beyond the coming cut.
fn tangled() -> (Node, Node, Node, Vec<Arc<Fact>>) {
    let (mut bad, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3));
    let stays = bad.set("lyon", "a.state", "up");
    let goes = bad.set("lyon", "a.state", "broken");
    good.take(&[stays.clone(), goes.clone()]);
    let on_it = good.set("porto", "b.state", "fine");
    let on_top = good.set("lyon", "b.load", "7");
    let facts = vec![stays, goes, on_it, on_top];
    reader.take(&facts);
    (bad, good, reader, facts)
}

#[test]
fn a_cut_takes_out_what_lies_beyond_and_honest_work_is_said_again() {
    let (bad, mut good, mut reader, _) = tangled();
    let author = bad.key.author_id();
    good.cut(&author, 1);
    let shown = good.rows();
    assert_eq!(shown["lyon"], BTreeMap::from([("a.state".to_owned(), Field::from("up"))]), "the rest hung on it");
    assert!(!shown.contains_key("porto"));
    let again = good.heal();
    assert!(!again.is_empty());
    let healed = good.rows();
    assert_eq!(healed["porto"]["b.state"], Field::from("fine"));
    assert_eq!(
        healed["lyon"],
        BTreeMap::from([("a.state".to_owned(), Field::from("up")), ("b.load".to_owned(), Field::from("7")),])
    );
    assert!(good.heal().is_empty(), "once is enough");
    // The reader hears of the cut before or after the repair.
    reader.take(&again);
    reader.cut(&author, 1);
    assert_eq!(reader.rows(), healed);
    assert_eq!(reader.digest(&sites()), good.digest(&sites()));
    // Nothing is forgotten: history shows what is left out, and why.
    let left: Vec<_> = reader.history(&sites()).into_iter().filter_map(|s| s.left_out).collect();
    assert_eq!(left.iter().filter(|why| **why == Unfit::Cut).count(), 1);
    assert_eq!(left.len(), 3);
    // And the document is written on.
    let more = good.set("porto", "b.state", "better");
    reader.take(&[more]);
    assert_eq!(reader.rows()["porto"]["b.state"], Field::from("better"));
}

#[test]
fn every_order_of_facts_cut_and_repair_gives_the_same() {
    let (bad, mut good, _, mut facts) = tangled();
    let author = bad.key.author_id();
    good.cut(&author, 1);
    facts.extend(good.heal());
    facts.push(good.set("porto", "b.state", "better"));
    let (own, others): (Vec<_>, Vec<_>) = facts.iter().cloned().partition(|f| f.header().author == author);
    for cut_after in 0..=facts.len() {
        for interleave in 0..=others.len() {
            let mut reader = Node::new(3);
            let order = others.iter().take(interleave).chain(&own).chain(others.iter().skip(interleave));
            for (index, fact) in order.enumerate() {
                if index == cut_after {
                    reader.cut(&author, 1);
                }
                let counts = index < cut_after || fact.header().author != author || fact.header().seq <= 1;
                reader.docs.apply(fact, counts);
            }
            reader.cut(&author, 1);
            assert_eq!(reader.rows(), good.rows(), "cut after {cut_after}, {interleave} first");
            assert_eq!(reader.digest(&sites()), good.digest(&sites()));
        }
    }
}

#[test]
fn a_node_that_never_saw_what_was_cut_heals_too() {
    let (bad, mut good, _, facts) = tangled();
    let author = bad.key.author_id();
    good.cut(&author, 1);
    let again = good.heal();
    let mut reader = Node::new(3);
    for fact in facts.iter().filter(|f| f.header().author != author || f.header().seq == 1).chain(&again) {
        reader.docs.apply(fact, true);
    }
    assert_eq!(reader.rows(), good.rows());
    assert_eq!(reader.digest(&sites()), good.digest(&sites()));
}

#[test]
fn what_somebody_said_later_stands() {
    let (bad, mut good, mut reader, _) = tangled();
    let author = bad.key.author_id();
    // Another, who had seen only what stays, writes the same field after the honest author did.
    let mut third = Node::new(4);
    let stays = bad.log.at(&crate::log::ChainId { scope: Scope::mesh(), author, incarnation: 0 }, 1);
    third.take(&[stays.expect("there")]);
    third.hlc = 100;
    let later = third.set("porto", "b.state", "flooded");
    good.take(std::slice::from_ref(&later));
    reader.take(&[later]);
    good.cut(&author, 1);
    let again = good.heal();
    reader.cut(&author, 1);
    reader.take(&again);
    assert_eq!(good.rows()["porto"]["b.state"], Field::from("flooded"));
    assert_eq!(good.rows()["lyon"]["b.load"], Field::from("7"));
    assert_eq!(reader.rows(), good.rows());
}

#[test]
fn a_lifted_cut_brings_everything_back() {
    let (bad, _, mut reader, _) = tangled();
    let before = (reader.rows(), reader.digest(&sites()));
    reader.cut(&bad.key.author_id(), 1);
    assert_ne!((reader.rows(), reader.digest(&sites())), before);
    reader.docs.recount(&|_| true);
    work(&mut reader.docs);
    assert_eq!((reader.rows(), reader.digest(&sites())), before);
}

#[test]
fn a_text_heals_around_what_was_cut() {
    let (mut bad, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3));
    let notes = doc("notes/handover");
    let write = |node: &mut Node, at, remove, insert: &str| {
        node.edit(&doc("notes/handover"), &Edit::Text { at, remove, insert: insert.into() })
    };
    let mut facts = write(&mut bad, 0, 0, "alpha gamma");
    facts.extend(write(&mut bad, 6, 0, "EVIL "));
    good.take(&facts);
    // Inside and behind the evil piece, and deleting part of what stays.
    let mut honest = write(&mut good, 8, 0, "beta ");
    honest.extend(write(&mut good, 0, 6, ""));
    let end = good.text(&notes).chars().count();
    honest.extend(write(&mut good, end, 0, " delta"));
    assert_eq!(good.text(&notes), "EVbeta IL gamma delta");
    reader.take(&facts);
    reader.take(&honest);
    for node in [&mut good, &mut reader] {
        node.cut(&bad.key.author_id(), 1);
        assert_eq!(node.text(&notes), "alpha gamma");
    }
    let again = good.heal();
    reader.take(&again);
    assert_eq!(good.text(&notes), "beta gamma delta");
    assert_eq!(reader.text(&notes), good.text(&notes));
    assert_eq!(reader.digest(&notes), good.digest(&notes));
}

#[test]
fn nobody_can_have_another_refused_by_copying_its_change() {
    let (mut bad, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3));
    let honest = good.set("porto", "b.state", "fine");
    let copy = bad.sign(honest.body().expect("a body").to_vec());
    reader.docs.apply(&copy, false);
    reader.cut(&bad.key.author_id(), 0);
    assert_eq!(reader.docs.apply(&honest, true), Applied::Yes);
}

#[test]
fn beginning_anew_is_bounded_and_must_say_what_stays() {
    let (mut a, mut reader) = (Node::new(1), Node::new(2));
    let first = a.set("lyon", "a.state", "up");
    reader.take(std::slice::from_ref(&first));
    let begin = |round: u32, keeps: Option<u64>| {
        let mut fresh = Document::new(sites(), EpochId::FIRST);
        let writer = (key(1).author_id(), 0);
        fresh.chains.entry(writer).or_default().round = round;
        let mut body =
            DocChange::read(&fresh.draft(&writer, &put("lyon", "a.state", "again")).expect("fits")[0]).expect("a body");
        (body.round, body.keeps) = (round, keeps);
        cauldron_identity::codec::to_cbor(&body)
    };
    for (round, keeps) in [(1, None), (2, Some(0)), (0, Some(1))] {
        let fact = a.sign(begin(round, keeps));
        assert!(matches!(reader.docs.apply(&fact, true), Applied::Refused(Unfit::Round)), "{round} {keeps:?}");
    }
    for round in 1..=limits::DOC_ROUNDS_MAX {
        let fact = a.sign(begin(round, Some(0)));
        assert_eq!(reader.docs.apply(&fact, true), Applied::Yes, "{round}");
    }
    let fact = a.sign(begin(limits::DOC_ROUNDS_MAX + 1, Some(0)));
    assert_eq!(reader.docs.apply(&fact, true), Applied::Refused(Unfit::Round));
    assert_eq!(reader.docs.status(&sites()).expect("there").changes, 1, "each round took the last one back");
    assert_eq!(reader.docs.verdict(&sites(), &first), Some(Applied::Refused(Unfit::Withdrawn)));
}

#[test]
fn what_a_round_keeps_may_still_wait() {
    let (mut bad, mut other, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3), Node::new(4));
    let first = other.set("lyon", "a.state", "up");
    good.take(std::slice::from_ref(&first));
    let kept = good.set("porto", "b.state", "fine");
    let evil = bad.set("lyon", "x.state", "down");
    good.take(&[evil]);
    let lost = good.set("porto", "b.load", "7");
    good.cut(&bad.key.author_id(), 0);
    let mut facts = vec![kept, lost];
    facts.extend(good.heal());
    // All of the author's own arrives before what its first change follows.
    reader.take(&facts);
    reader.take(&[first]);
    assert_eq!(reader.rows(), good.rows());
    assert_eq!(reader.digest(&sites()), good.digest(&sites()));
}

#[test]
fn a_restart_does_not_forget_what_is_to_be_said_again() {
    let (bad, good, _, facts) = tangled();
    let author = bad.key.author_id();
    // The cut arrives, and the process dies before it can answer.
    let mut again = Node { docs: Documents::new(), ..good };
    for fact in &facts {
        let counts = fact.header().author != author || fact.header().seq <= 1;
        again.docs.feed(fact, counts).expect("a document");
    }
    again.docs.settle_all();
    again.docs.set_author(&again.key.author_id(), 0);
    assert!(!again.heal().is_empty());
    assert_eq!(again.rows()["porto"]["b.state"], Field::from("fine"));
}

#[test]
fn what_an_earlier_round_kept_is_not_judged_by_a_later_one() {
    let (mut bad, mut other, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3), Node::new(4));
    let first = other.set("lyon", "a.state", "up");
    good.take(std::slice::from_ref(&first));
    let mut facts = vec![good.set("porto", "b.state", "fine")];
    // Twice it builds on what is cut later; in the second round it keeps nothing.
    for end in [0, 1] {
        let evil = bad.set("lyon", "x.state", &format!("down {end}"));
        good.docs.apply(&evil, true);
        facts.push(good.set("porto", "b.load", &format!("{end}")));
        good.cut(&bad.key.author_id(), 0);
        facts.extend(good.heal());
    }
    assert!(facts.iter().filter_map(|f| DocChange::of(f)).any(|body| body.round == 1));
    reader.take(&facts);
    reader.take(&[first]);
    assert_eq!(reader.rows(), good.rows());
    assert_eq!(reader.digest(&sites()), good.digest(&sites()));
}

#[test]
fn what_waits_for_ever_of_an_earlier_round_holds_up_no_later_one() {
    let (mut bad, mut good, mut reader) = (Node::new(1), Node::new(2), Node::new(3));
    good.take(&[bad.set("lyon", "x.state", "down")]);
    let mut facts = vec![good.set("porto", "b.state", "fine")];
    good.take(&[bad.set("lyon", "y.state", "down")]);
    facts.push(good.set("porto", "b.load", "7"));
    // It is cut, and then earlier still; what it wrote reaches the reader from nobody.
    for end in [1, 0] {
        good.cut(&bad.key.author_id(), end);
        facts.extend(good.heal());
    }
    let rounds: Vec<_> = facts.iter().filter_map(|f| DocChange::of(f)).map(|b| (b.round, b.keeps)).collect();
    assert!(rounds.contains(&(1, Some(1))) && rounds.contains(&(2, Some(0))), "{rounds:?}");
    reader.take(&facts);
    assert_eq!(reader.rows(), good.rows());
    assert_eq!(reader.digest(&sites()), good.digest(&sites()));
}
