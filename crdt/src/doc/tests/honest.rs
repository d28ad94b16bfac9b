use super::*;

#[test]
fn what_one_node_writes_another_reads() {
    let (mut lyon, mut hq) = (Node::new(1), Node::new(2));
    let first = lyon.set("lyon", "a.state", "up");
    let second = lyon.set("lyon", "a.blocked", "3");
    assert_eq!(lyon.docs.edit(&sites(), &put("lyon", "a.state", "up")), Ok(vec![]), "the board says so already");
    assert_eq!(hq.docs.apply(&first, true), Applied::Yes);
    assert_eq!(hq.docs.apply(&second, true), Applied::Yes);
    assert_eq!(hq.rows(), lyon.rows());
    assert_eq!(hq.rows()["lyon"]["a.blocked"], Field::from("3"));
    assert_eq!(hq.digest(&sites()), lyon.digest(&sites()));
}

#[test]
fn every_kind_of_field_survives_and_unfit_names_are_refused() {
    let (mut node, mut other, config) = (Node::new(1), Node::new(2), doc("config/main"));
    let all = BTreeMap::from([
        ("text".to_owned(), Some(Field::from("é\u{202e}"))),
        ("count".to_owned(), Some(Field::Int(i64::MIN))),
        ("at".to_owned(), Some(Field::Timestamp(1_763_978_400_000))),
        ("flag.deep".to_owned(), Some(Field::Flag(true))),
    ]);
    let facts = node.edit(&config, &Edit::Row { row: "lyon".into(), fields: all.clone() });
    other.take(&facts);
    let shown: BTreeMap<String, Field> = all.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    assert_eq!(other.docs.view(&config).expect("there").rows().expect("a table")["lyon"], shown);
    let long = "x".repeat(5000);
    for (row, field, value) in [("Lyon", "a", "b"), ("lyon", "", "b"), ("lyon", "A", "b"), ("lyon", "a", &long)] {
        assert_eq!(node.docs.edit(&config, &put(row, field, value)), Err(Unfit::Profile), "{row} {field}");
    }
    // Each kind has its own profile.
    for (name, field, value) in [
        ("board/sites", "state", "up"),
        ("catalogue/agents", "digest", "abc"),
        ("catalogue/agents", "withdrawn", "yes"),
    ] {
        assert_eq!(node.docs.edit(&doc(name), &put("lyon", field, value)), Err(Unfit::Profile), "{name} {field}");
    }
    assert_eq!(node.docs.edit(&doc("notes/a"), &put("lyon", "a", "b")), Err(Unfit::NoPlace));
    assert_eq!(node.docs.edit(&config, &Edit::Title("x".into())), Err(Unfit::NoPlace));
    assert_eq!(Documents::new().edit(&config, &put("lyon", "a", "b")), Err(Unfit::NotWritable), "nobody's");
    assert_eq!(node.docs.view(&config).expect("there").rows().expect("a table")["lyon"], shown, "nothing is left");
}

#[test]
fn a_field_is_removed_in_every_map_of_its_row() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let (one, two) = (a.set("lyon", "a.state", "up"), b.set("lyon", "a.state", "down"));
    a.take(&[two]);
    b.take(&[one]);
    let gone = Edit::Row { row: "lyon".into(), fields: BTreeMap::from([("a.state".to_owned(), None)]) };
    let facts = a.edit(&sites(), &gone);
    assert_eq!(a.rows(), Rows::new());
    b.take(&facts);
    assert_eq!(b.rows(), Rows::new());
    assert_eq!(a.docs.edit(&sites(), &gone), Ok(vec![]), "it is gone already");
}

#[test]
fn two_makers_of_one_row_are_both_seen() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let (one, two) = (a.set("lyon", "a.state", "up"), b.set("lyon", "b.load", "low"));
    a.take(&[two]);
    b.take(&[one]);
    assert_eq!(a.rows(), b.rows());
    assert_eq!(a.rows()["lyon"].len(), 2);
    // Whichever map won, a later write counts.
    let three = a.set("lyon", "b.load", "high");
    b.take(&[three]);
    assert_eq!(b.rows()["lyon"]["b.load"], Field::from("high"));
}

#[test]
fn a_change_waits_for_what_it_follows() {
    let (mut a, mut b, mut late) = (Node::new(1), Node::new(2), Node::new(3));
    let one = a.set("lyon", "a.state", "up");
    b.take(std::slice::from_ref(&one));
    let two = b.set("porto", "b.state", "up");
    let three = b.set("porto", "b.state", "down");
    assert_eq!(late.docs.apply(&two, true), Applied::Waiting);
    assert_eq!(late.docs.apply(&three, true), Applied::Waiting);
    let status = late.docs.status(&sites()).expect("there");
    assert_eq!((status.waiting, status.changes), (2, 0));
    assert_eq!(late.docs.apply(&one, true), Applied::Yes);
    assert_eq!((late.docs.status(&sites()).expect("there").waiting, late.rows()), (0, b.rows()));
}

#[test]
fn what_waits_beyond_the_bound_is_looked_at_later_and_never_lost() {
    let (mut a, mut b, mut late) = (Node::new(1), Node::new(2), Node::new(3));
    let first = a.set("lyon", "a.state", "up");
    b.take(std::slice::from_ref(&first));
    let facts: Vec<_> = (0..limits::WAITING_MAX + 5).map(|i| b.set("porto", "b.count", &i.to_string())).collect();
    late.take(&facts);
    assert_eq!(late.rows(), Rows::new());
    late.take(&[first]);
    work(&mut late.docs);
    assert_eq!(late.rows(), b.rows());
    assert_eq!(late.digest(&sites()), b.digest(&sites()));
}

#[test]
fn documents_of_one_scope_keep_apart_and_watchers_hear_of_each() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let one = a.set("lyon", "a.state", "up");
    let two = a.edit(&doc("board/other"), &put("lyon", "a.state", "down"));
    b.take(&[one.clone(), two[0].clone()]);
    assert_eq!(b.rows()["lyon"]["a.state"], Field::from("up"));
    let heard: Vec<Changed> = std::iter::from_fn(|| b.docs.changed()).collect();
    let other = Changed { key: doc("board/other"), what: What::Change(two[0].id()) };
    assert_eq!(heard, [Changed { key: sites(), what: What::Change(one.id()) }, other]);
    // A change cannot be carried over to another document: its actor is derived from the name.
    let mut body = DocChange::of(&one).expect("a body");
    body.doc = "board/third".into();
    let copied = a.sign(cauldron_identity::codec::to_cbor(&body));
    assert_eq!(b.docs.apply(&copied, true), Applied::Refused(Unfit::Actor));
    body.doc = "board/sites".into();
    let elsewhere = {
        let mut node = Node::new(1);
        let scope = Scope::site("lyon").expect("a site");
        node.sign_in(scope, cauldron_identity::codec::to_cbor(&body))
    };
    assert_eq!(b.docs.apply(&elsewhere, true), Applied::Refused(Unfit::Actor), "nor to another scope");
    body.epoch = 1;
    let later = a.sign(cauldron_identity::codec::to_cbor(&body));
    assert_eq!(b.docs.apply(&later, true), Applied::Refused(Unfit::Malformed), "no epoch is called so");
    body.genesis = Some(Digest::from_bytes([7; 32]));
    let later = a.sign(cauldron_identity::codec::to_cbor(&body));
    assert_eq!(b.docs.apply(&later, true), Applied::Waiting, "one that nobody here knows waits");
}

#[test]
fn one_writer_cannot_open_documents_without_end() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    for i in 0..limits::DOCS_PER_WRITER_MAX {
        let facts = a.edit(&doc(&format!("notes/n{i}")), &Edit::Title("t".into()));
        b.take(&facts);
    }
    let more = doc("notes/more");
    assert_eq!(a.docs.edit(&more, &Edit::Title("t".into())), Err(Unfit::TooManyDocs));
    let bodies = Document::new(more.clone(), EpochId::FIRST).draft(&(a.key.author_id(), 0), &Edit::Title("t".into()));
    let fact = a.sign(bodies.expect("fits").remove(0));
    assert_eq!(b.docs.apply(&fact, true), Applied::Refused(Unfit::TooManyDocs));
    assert_eq!(b.docs.view(&more), None);
}

#[test]
fn history_and_blame_name_the_fact() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let one = a.set("lyon", "a.state", "up");
    b.take(std::slice::from_ref(&one));
    let (two, three) = (a.set("lyon", "a.state", "down"), b.set("lyon", "a.state", "off"));
    let four = b.set("lyon", "b.load", "low");
    a.take(&[three.clone(), four.clone()]);
    let history = a.history(&sites());
    let did: Vec<_> = history.iter().map(|step| (step.fact.id(), step.did.clone(), step.left_out)).collect();
    let set = |field: &str, value: &str| {
        vec![Did::Set { row: "lyon".into(), field: field.into(), value: Field::from(value) }]
    };
    assert_eq!(did.len(), 4);
    assert_eq!(did[0], (one.id(), set("a.state", "up"), None));
    assert!(did.contains(&(two.id(), set("a.state", "down"), None)));
    assert!(did.contains(&(three.id(), set("a.state", "off"), None)));
    let blame = a.docs.blame(&sites()).expect("built");
    // Two said it at the same time: what is shown comes first, both are named.
    let state: Vec<_> = blame.iter().filter(|b| b.field == "a.state").collect();
    assert_eq!(state.len(), 2);
    assert!(state.iter().all(|b| b.conflict));
    assert_eq!(state[0].value, a.rows()["lyon"]["a.state"]);
    let load = blame.iter().find(|b| b.field == "b.load").expect("there");
    assert_eq!((load.fact.as_ref().map(|f| f.id()), load.conflict), (Some(four.id()), false));
    assert_eq!(a.docs.verdict(&sites(), &one), Some(Applied::Yes));
}

#[test]
fn a_long_history_is_built_beside_the_loop_and_read_meanwhile() {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    let facts: Vec<_> = (0..limits::DOC_INLINE_MAX + 100).map(|i| a.set("lyon", "a.n", &i.to_string())).collect();
    for fact in &facts[..facts.len() - 1] {
        b.docs.feed(fact, true).expect("a document");
    }
    b.docs.settle_all();
    assert!(b.docs.status(&sites()).expect("there").building);
    assert_eq!(b.docs.edit(&sites(), &put("porto", "b.n", "1")), Err(Unfit::NotWritable));
    let job = b.docs.work().expect("sent away").run(&check::unpack);
    assert_eq!(b.docs.apply(&facts[facts.len() - 1], true), Applied::Waiting, "it came meanwhile");
    b.docs.finish(job);
    assert_eq!(b.rows(), a.rows());
    assert_eq!(b.digest(&sites()), a.digest(&sites()));
    b.set("porto", "b.n", "1");
}

#[test]
fn two_hundred_writers_share_a_document() {
    let mut nodes: Vec<Node> = (1..=200).map(Node::new).collect();
    // Each writes once without knowing of the others, then all know all, then each writes once more.
    let first: Vec<_> = nodes.iter_mut().map(|n| n.set("lyon", "a.hello", "world")).collect();
    let mut reader = Node::new(201);
    reader.take(&first);
    let mut second = Vec::new();
    for (index, node) in nodes.iter_mut().enumerate().take(12) {
        let others: Vec<_> = first.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, f)| f.clone()).collect();
        node.take(&others);
        second.push(node.set("lyon", &format!("n{index}.count"), "1"));
    }
    reader.take(&second);
    let status = reader.docs.status(&sites()).expect("there");
    assert_eq!((status.changes, status.waiting, status.refused), (212, 0, 0));
    nodes[0].take(&second[1..]);
    assert_eq!(nodes[0].digest(&sites()), reader.digest(&sites()));
    assert_eq!(nodes[0].rows(), reader.rows());
}
