//! Whatever arrives first: all orders come to the same.

use super::reform::{Reform, amend, seat};
use super::*;

/// Everything that an authority answers, of the authors with these keys.
fn view(a: &Authority, authors: &[u8], facts: &[Fact]) -> String {
    let effects: Vec<bool> = (0..=a.index()).map(|i| a.in_effect(i)).collect();
    let entries: Vec<_> = a.entries().map(|e| (e.id, &e.refused)).collect();
    let places: Vec<_> = facts.iter().map(|f| a.index_of(&f.id())).collect();
    let mut said = format!("{entries:?} {effects:?} {places:?} {:?} {:?}", a.people(), a.next_charter());
    for author in authors.iter().map(|n| key(*n)) {
        let id = author.author_id();
        said += &format!("\n{:?} {}", a.member(&id), a.may_read(&id, &Scope::mesh()));
        for life in 0..3 {
            let standing = [1, 4, 5].map(|seq| a.standing(&header(&author, life, Scope::mesh(), seq), SOME));
            said += &format!(" {} {standing:?}", a.is_cut(&id, life));
        }
    }
    let ever: Vec<_> = ["ana", "bo"].map(|id| a.person_ever(id, a.index()).collect::<Vec<_>>()).into();
    said + &format!("\n{:?} {ever:?}", a.cuts_beside().collect::<Vec<_>>())
}

fn assert_same(views: &[String]) {
    let differing = views.iter().skip(1).flat_map(|other| views[0].lines().zip(other.lines()).filter(|(a, b)| a != b));
    let differing: Vec<String> = differing.map(|(a, b)| format!("{a}\n{b}")).collect();
    assert!(views.len() == 1, "{} views:\n{}", views.len(), differing.join("\n\n"));
}

/// One thing that a node may hear of.
#[derive(Clone, Copy)]
enum Heard<'a> {
    Fact(&'a Fact),
    Term(&'a EntryBody),
    Fork(u8, u64),
}

/// Tells an authority of all things in `rounds` random orders; returns the views it came to.
fn in_random_orders(mesh: &Reform, things: &[Heard<'_>], rounds: u64, authors: &[u8]) -> Vec<String> {
    let (mut views, mut state) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..rounds {
        let mut order = things.to_vec();
        for i in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, usize::try_from((state >> 33) % (i as u64 + 1)).expect("small"));
        }
        let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
        let mut refused = Vec::new();
        for thing in order {
            match thing {
                Heard::Fact(fact) => _ = fresh.apply(fact),
                Heard::Term(term) if matches!(fresh.apply_term(term), TermOutcome::Refused(_)) => refused.push(term),
                Heard::Term(_) => {}
                Heard::Fork(author, seq) => fresh.forked(key(author).author_id(), 0, seq),
            }
        }
        // As a node tries them again.
        fresh.apply_terms(refused);
        let view = view(&fresh, authors, &mesh.facts);
        if !views.contains(&view) {
            views.push(view);
        }
    }
    views
}

/// What people cut on a branch that a term took out, and what its author shows later, changes nothing of which entries behind the
/// term count, whenever it comes.
#[test]
fn cuts_beside_the_chain_come_to_the_same_in_any_order() {
    let mut mesh = Reform::found();
    let (lyon, quito, porto) = (key(3).author_id(), key(6).author_id(), key(4).author_id());
    let cut = |author, incarnation, fork: Vec<crate::fact::SealedFact>| {
        let ends = vec![ChainEnd { scope: Scope::mesh(), seq: 4, id: Some(SOME) }];
        Entry::Cut(Cut { author, incarnation, ends, fork })
    };
    let id = mesh.authority.mesh();
    let forged =
        |n: u8| [1u8, 2].map(|v| seal(&key(n), id, Scope::mesh(), 1, None, "note", &v).sealed().clone()).to_vec();
    let enrol = |n: u8, name: &str| Entry::Enrol(Enrol::new(&id, &key(n), &node_id(name)));
    let incarnate = |n: u8, life| Entry::Incarnate(Incarnate::new(&id, &key(n), life, vec![]));
    assert_eq!(mesh.enrol(3, "lyon"), None);
    assert_eq!(mesh.enrol(6, "quito"), None);
    assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    // The branch that goes: nobody but the council's restrictions survive it.
    assert_eq!(mesh.enrol(4, "porto"), None);
    assert_eq!(mesh.write(&cut(lyon, 0, vec![]), &[11, 12]), None);
    assert_eq!(mesh.write(&cut(porto, 0, vec![]), &[12, 13]), None);
    assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
    let dropped = (mesh.authority.head(), mesh.authority.index());
    let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 13]);
    assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(4));
    // The branch that stays, by a sequencer that need not have seen the other.
    let mut new = |entry: &Entry, signers: &[u8]| mesh.write_as(5, 0, entry, signers);
    assert!(new(&enrol(7, "lyon"), &[]).is_some());
    assert!(new(&enrol(7, "lyon"), &[11, 12]).expect("refused").contains("cut"), "the chain holds no cut of lyon");
    assert_eq!(new(&incarnate(3, 1), &[]), None);
    assert_eq!(new(&incarnate(6, 1), &[]), None);
    assert_eq!(new(&enrol(4, "porto"), &[]), None);
    assert_eq!(new(&Reform::person("bo"), &[11, 12]), None);
    // What the former one writes since: proof that quito forked its first life, on both branches, and what no council signed.
    let late = mesh.body_on(dropped.0, dropped.1, &cut(quito, 0, forged(6)), &[]);
    mesh.carry(2, 0, &late);
    let ahead = mesh.body(&cut(key(7).author_id(), 0, forged(7)), &[]);
    mesh.carry(2, 0, &ahead);
    let unsigned = mesh.body(&cut(quito, 1, vec![]), &[11]);
    mesh.carry(2, 0, &unsigned);
    // An entry before its time, on a head that is in the chain: it waits for its place and lies beside nothing.
    let skipped = mesh.body_on(base, index, &cut(quito, 1, vec![]), &[11, 12]);
    mesh.write_as(5, 0, &Reform::person("cleo"), &[11, 12]);
    mesh.carry(5, 0, &skipped);
    for n in [3, 6] {
        mesh.hold(n);
    }
    let held: Vec<Fact> = [(3, 3), (6, 7), (7, 9)]
        .iter()
        .map(|(n, at)| {
            let head = mesh.authority.entries().nth(at - 1).expect("entry").id;
            let body = Held { head, index: *at as u64, suspensions: vec![], trust: None };
            seal(&key(*n), id, Scope::mesh(), 1, None, KIND_HELD, &body)
        })
        .collect();

    let things: Vec<Heard<'_>> = mesh.facts.iter().chain(&held).map(Heard::Fact).chain([Heard::Term(&term)]).collect();
    let views = in_random_orders(&mesh, &things, 200, &[2, 3, 4, 5, 6, 7]);
    assert_same(&views);

    let a = &mesh.authority;
    assert!(a.is_cut(&lyon, 0) && a.is_cut(&lyon, 1), "a new life, begun since, does not undo what people cut");
    assert!(a.is_cut(&porto, 0), "nor does an enrolment");
    assert!(a.is_cut(&quito, 0) && !a.is_cut(&quito, 1), "proof is about one life");
    assert!(!a.is_cut(&key(5).author_id(), 0));
    assert!(a.person("ana").is_none());
    let again = mesh.body(&incarnate(3, 2), &[]);
    assert!(mesh.authority.would_accept(&again).is_err(), "an honest sequencer writes no further life of it");
}

#[test]
fn a_cut_beside_the_chain_unseats_no_sequencer_that_the_council_named_since() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    let both = vec![seat(2, "hq"), seat(5, "hq-2")];
    assert_eq!(mesh.write(&amend(|a| a.coordinators = Some(both)), &[11, 12]), None);
    let cut = Cut { author: key(5).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
    assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
    let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(2));
    assert!(!mesh.authority.is_cut(&key(5).author_id(), 0));
    let fact = header(&key(5), 0, Scope::mesh(), 1);
    assert_eq!(mesh.authority.standing(&fact, SOME), Standing::Counts);
    let next = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[11, 12]);
    assert_eq!(mesh.authority.apply_term(&next), TermOutcome::Began(3));
    assert!(mesh.authority.is_cut(&key(5).author_id(), 0));
}

/// Amendments and terms on branches of one another, and proof of a fork, whenever it comes.
#[test]
fn branches_terms_and_forks_come_to_the_same_in_any_order() {
    for forked in [None, Some(3)] {
        let mut mesh = Reform::found();
        assert_eq!(mesh.enrol(3, "lyon"), None);
        let (base, index) = (mesh.authority.head(), mesh.authority.index());
        assert_eq!(mesh.enrol(4, "porto"), None);
        let council = [13, 14, 15].map(|n| key(n).public().into()).to_vec();
        assert_eq!(mesh.write(&amend(|a| a.council = Some(council)), &[11, 12, 14, 15]), None);
        let gone = Cut { author: key(3).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        assert_eq!(mesh.write(&Entry::Cut(gone.clone()), &[13, 14]), None);
        let back = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
        let ahead = mesh.body(&Reform::term(1, seat(7, "hq-4")), &[13, 14]);
        // What each term's sequencer writes, where nobody has seen the other.
        for (term, by, signers) in [(&back, 5, [11, 12]), (&ahead, 7, [14, 15])] {
            let mut on = Reform { facts: mesh.facts.clone(), ..Reform::found() };
            on.facts.iter().take(if by == 5 { 1 } else { 4 }).for_each(|f| _ = on.authority.apply(f));
            assert!(matches!(on.authority.apply_term(term), TermOutcome::Began(_)));
            let before = on.facts.len();
            assert_eq!(on.write_as(by, 0, &Reform::person("ana"), &signers), None);
            assert_eq!(
                on.write_as(by, 0, &Entry::Enrol(Enrol::new(&on.authority.mesh(), &key(8), &node_id("oslo"))), &[]),
                None
            );
            assert_eq!(
                on.write_as(by, 0, &Entry::Cut(Cut { author: key(8).author_id(), ..gone.clone() }), &signers),
                None
            );
            mesh.facts.extend(on.facts.drain(before..));
        }
        let things: Vec<Heard<'_>> = mesh
            .facts
            .iter()
            .map(Heard::Fact)
            .chain([Heard::Term(&back), Heard::Term(&ahead)])
            .chain(forked.map(|seq| Heard::Fork(2, seq)))
            .collect();
        let views = in_random_orders(&mesh, &things, 200, &[2, 3, 4, 5, 7, 8]);
        assert_same(&views);
    }
}
