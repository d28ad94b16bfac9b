use super::*;

fn notes() -> DocKey {
    doc("notes/handover")
}

fn write(node: &mut Node, at: usize, remove: usize, insert: &str) -> Vec<Arc<Fact>> {
    node.edit(&notes(), &Edit::Text { at, remove, insert: insert.into() })
}

#[test]
fn two_people_write_one_text() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let start = write(&mut a, 0, 0, "shift over\n");
    b.take(&start);
    let left = write(&mut a, 0, 0, "Early ");
    let right = write(&mut b, 10, 0, ": all quiet ☀");
    a.take(&right);
    b.take(&left);
    assert_eq!(a.text(&notes()), "Early shift over: all quiet ☀\n");
    assert_eq!(a.text(&notes()), b.text(&notes()));
    let cut = write(&mut b, 6, 6, "");
    a.take(&cut);
    assert_eq!(a.text(&notes()), "Early over: all quiet ☀\n");
    let titled = a.edit(&notes(), &Edit::Title("Handover".into()));
    b.take(&titled);
    let title = |n: &mut Node| matches!(n.docs.view(&notes()).as_deref(), Some(View::Note { title, .. }) if title == "Handover");
    assert!(title(&mut a) && title(&mut b));
    assert_eq!(a.docs.edit(&notes(), &Edit::Title("Handover".into())), Ok(vec![]));
}

#[test]
fn texts_begun_at_the_same_time_are_both_kept() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let (one, two) = (write(&mut a, 0, 0, "from a. "), write(&mut b, 0, 0, "from b. "));
    a.take(&two);
    b.take(&one);
    assert_eq!(a.text(&notes()), b.text(&notes()));
    assert!(a.text(&notes()).contains("from a. ") && a.text(&notes()).contains("from b. "));
    // Both halves can be written in.
    let length = a.text(&notes()).chars().count();
    let more = write(&mut a, length, 0, "end");
    b.take(&more);
    let gone = write(&mut b, 0, 5, "");
    a.take(&gone);
    assert_eq!(a.text(&notes()), b.text(&notes()));
    assert_eq!(a.text(&notes()).chars().count(), length + 3 - 5);
}

#[test]
fn places_and_characters_that_are_none_are_refused() {
    let mut a = Node::new(1);
    write(&mut a, 0, 0, "abc");
    let edit = |at, remove, insert: &str| Edit::Text { at, remove, insert: insert.into() };
    for wrong in [edit(4, 0, "x"), edit(3, 1, ""), edit(0, usize::MAX, ""), edit(usize::MAX, 1, "")] {
        assert_eq!(a.docs.edit(&notes(), &wrong), Err(Unfit::NoPlace), "{wrong:?}");
    }
    for wrong in ["\u{0}", "a\u{1b}b", "\r"] {
        assert_eq!(a.docs.edit(&notes(), &edit(0, 0, wrong)), Err(Unfit::Profile), "{wrong:?}");
    }
    assert_eq!(a.docs.edit(&notes(), &Edit::Title("x".repeat(300))), Err(Unfit::Profile));
    assert_eq!(a.text(&notes()), "abc");
}

#[test]
fn a_long_text_becomes_several_changes() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let long: String = ('a'..='z').cycle().take(limits::EDIT_OPS_MAX + 100).collect();
    let facts = write(&mut a, 0, 0, &long);
    assert_eq!(facts.len(), 2);
    b.take(&facts);
    assert_eq!(b.text(&notes()), long);
}

#[test]
fn blame_names_who_wrote_which_piece() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let one = write(&mut a, 0, 0, "helo world");
    b.take(&one);
    let two = write(&mut b, 3, 0, "l");
    a.take(&two);
    let pieces: Vec<_> =
        a.docs.blame(&notes()).expect("built").into_iter().map(|p| (p.value, p.fact.expect("here").id())).collect();
    let piece = |text: &str, fact: &Arc<Fact>| (Field::from(text), fact.id());
    assert_eq!(pieces, [piece("hel", &one[0]), piece("l", &two[0]), piece("o world", &one[0])]);
    let history = a.history(&notes());
    assert_eq!(history[1].did, [Did::Wrote { inserted: "l".into(), deleted: 0 }]);
}
