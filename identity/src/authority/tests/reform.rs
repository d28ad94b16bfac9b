//! Amendments, terms and recovery: a council of three with threshold two, and recovery keys.

use super::*;
use crate::charter::{Charter, Seat};

pub(super) struct Reform {
    pub(super) authority: Authority,
    pub(super) charter: Charter,
    pub(super) facts: Vec<Fact>,
}

pub(super) const COUNCIL: [u8; 3] = [11, 12, 13];

pub(super) fn seat(n: u8, name: &str) -> Seat {
    Seat { author: key(n).public(), spiffe_id: format!("spiffe://acme.test/coordinator/{name}") }
}

impl Reform {
    pub(super) fn found() -> Self {
        let council = COUNCIL.map(key);
        let mut charter = sample(&council.each_ref(), 2, &key(2));
        charter.recovery = vec![key(21).public().into(), key(22).public().into(), key(23).public().into()];
        charter.policy_authors = vec![council[0].public().into()];
        let signed = SignedCharter::sign(&charter, &council.each_ref());
        let authority = Authority::new(signed.mesh_id(), charter.clone()).expect("seats");
        Self { authority, charter, facts: vec![] }
    }

    pub(super) fn body(&self, entry: &Entry, signers: &[u8]) -> EntryBody {
        self.body_on(self.authority.head(), self.authority.index(), entry, signers)
    }

    pub(super) fn body_on(&self, prev: Option<FactId>, index: u64, entry: &Entry, signers: &[u8]) -> EntryBody {
        let mut body = EntryBody::new(prev, index + 1, entry);
        signers.iter().for_each(|n| body.sign(&self.authority.mesh(), &key(*n)));
        body
    }

    /// `author` writes the next entry of its chain of life `incarnation`; returns why it changed nothing.
    pub(super) fn write_as(&mut self, author: u8, incarnation: u32, entry: &Entry, signers: &[u8]) -> Option<String> {
        let fact = self.carry(author, incarnation, &self.body(entry, signers));
        let refused = self.authority.entries().find(|a| a.id == fact).map(|a| a.refused.clone());
        refused.unwrap_or_else(|| Some("not in the chain".into()))
    }

    /// `author` writes a body wherever it belongs; returns the fact.
    pub(super) fn carry(&mut self, author: u8, incarnation: u32, body: &EntryBody) -> FactId {
        let own = |f: &&Fact| f.header().author == key(author).author_id() && f.header().incarnation == incarnation;
        let last = self.facts.iter().rfind(own).map(|f| (f.header().seq, f.id()));
        let draft = HeaderDraft {
            mesh: self.authority.mesh(),
            scope: Scope::authority(),
            incarnation,
            seq: last.map_or(0, |l| l.0) + 1,
            prev: last.map(|l| l.1),
            hlc: 0,
            kind: KIND_ENTRY.into(),
            deps: vec![],
            traceparent: None,
        };
        let fact = Fact::seal(&key(author), draft, crate::codec::to_cbor(body));
        self.authority.apply(&fact);
        self.facts.push(fact.clone());
        fact.id()
    }

    pub(super) fn write(&mut self, entry: &Entry, signers: &[u8]) -> Option<String> {
        self.write_as(2, 0, entry, signers)
    }

    pub(super) fn enrol(&mut self, n: u8, name: &str) -> Option<String> {
        let enrol = Enrol::new(&self.authority.mesh(), &key(n), &node_id(name));
        self.write(&Entry::Enrol(enrol), &[])
    }

    pub(super) fn hold(&mut self, n: u8) {
        let (head, index) = (self.authority.head().expect("entries"), self.authority.index());
        let held = Held { head, index, suspensions: vec![], trust: None };
        let held = seal(&key(n), self.authority.mesh(), Scope::mesh(), 1, None, KIND_HELD, &held);
        self.authority.apply(&held);
    }

    pub(super) fn person(id: &str) -> Entry {
        let own = AuthorKey::from_seed(Digest::of("person", id.as_bytes()).as_bytes());
        let credentials = vec![Credential::of(own.public().into())];
        Entry::Person(Person { id: id.into(), name: id.into(), groups: vec![], credentials })
    }

    pub(super) fn term(n: u32, sequencer: Seat) -> Entry {
        Entry::Term(Term { n, sequencer, ends: vec![], root_keys: vec![] })
    }
}

pub(super) fn amend(change: impl FnOnce(&mut Amend)) -> Entry {
    let mut amend = Amend::default();
    change(&mut amend);
    Entry::Amend(Box::new(amend))
}

#[test]
fn the_present_council_amends_and_what_is_read_is_the_charter_in_effect() {
    let mut mesh = Reform::found();
    let ages = amend(|a| {
        a.rp_id = Some("acme.test".into());
        a.vote_origins = Some(vec!["https://hq.acme.test".into()]);
    });
    assert!(mesh.write(&ages, &[11]).expect("refused").contains("1 of 2 council keys"));
    assert_eq!(mesh.write(&ages, &[11, 12]), None);
    assert_eq!(mesh.authority.charter().vote_origins, ["https://hq.acme.test"]);
    assert_eq!(mesh.authority.founding(), &mesh.charter, "the founding charter stays the mesh's name");
    assert_eq!(mesh.enrol(3, "lyon"), None);
    assert_eq!(mesh.write(&amend(|a| a.retention_floor_days = Some(9)), &[11, 12]), None);
    assert_eq!(mesh.authority.charter().retention_floor_days, 180, "not before somebody else holds it");
    mesh.hold(3);
    assert_eq!(mesh.authority.charter().retention_floor_days, 9);
}

#[test]
fn a_new_council_key_proves_itself_and_the_old_council_is_judged_no_more() {
    let mut mesh = Reform::found();
    let council = [12, 13, 14].map(|n| key(n).public().into()).to_vec();
    let change = amend(|a| a.council = Some(council));
    assert!(mesh.write(&change, &[11, 12]).expect("refused").contains("each new council key"));
    assert_eq!(mesh.write(&change, &[11, 12, 14]), None);
    assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "11 left the council");
    assert_eq!(mesh.write(&Reform::person("ana"), &[12, 14]), None);
}

#[test]
fn an_amendment_cannot_break_the_rules_of_a_charter() {
    let mut mesh = Reform::found();
    let refused =
        |mesh: &mut Reform, change: &dyn Fn(&mut Amend)| mesh.write(&amend(|a| change(a)), &[11, 12]).expect("refused");
    assert!(refused(&mut mesh, &|a| a.threshold = Some(1)).contains("threshold"));
    assert!(refused(&mut mesh, &|a| a.root_keys = Some(vec![])).contains("root keys"));
    assert!(refused(&mut mesh, &|a| a.coordinators = Some(vec![])).contains("sequencer"));
    assert!(refused(&mut mesh, &|_| {}).contains("nothing"));
    let weak = PublicKey::from_bytes([0; 32]);
    assert!(refused(&mut mesh, &|a| a.policy_authors = Some(vec![weak.into()])).contains("weak"));
}

#[test]
fn a_seat_is_added_by_the_council_and_goes_only_behind_a_cut() {
    let mut mesh = Reform::found();
    let both = vec![seat(2, "hq"), seat(4, "hq-2")];
    assert_eq!(mesh.write(&amend(|a| a.coordinators = Some(both.clone())), &[11, 12]), None);
    assert!(mesh.authority.member(&key(4).author_id()).is_some_and(|m| m.role.is_mesh_coordinator()));
    let twice = vec![seat(2, "hq"), seat(4, "hq-2"), seat(5, "hq-2")];
    assert!(mesh.write(&amend(|a| a.coordinators = Some(twice)), &[11, 12]).is_some(), "one author per name");
    let alone = amend(|a| a.coordinators = Some(vec![seat(2, "hq")]));
    assert!(mesh.write(&alone, &[11, 12]).expect("refused").contains("cut"));
    let cut = Cut { author: key(4).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
    assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
    assert_eq!(mesh.write(&alone, &[11, 12]), None);
}

#[test]
fn recovery_keys_replace_a_lost_council_and_name_a_sequencer_and_nothing_else() {
    let mut mesh = Reform::found();
    assert!(mesh.write(&Reform::person("ana"), &[21, 22, 23]).is_some());
    assert!(mesh.write(&amend(|a| a.retention_floor_days = Some(1)), &[21, 22, 23]).is_some());
    let council = |a: &mut Amend| (a.council, a.threshold) = (Some(vec![key(31).public().into()]), Some(1));
    assert!(mesh.write(&amend(council), &[21, 31]).is_some(), "one of three is no majority");
    assert_eq!(mesh.write(&amend(council), &[21, 22, 31]), None);
    assert_eq!(mesh.write(&Reform::person("ana"), &[31]), None);
    let term = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[22, 23]);
    assert!(matches!(mesh.authority.apply_term(&term), TermOutcome::Began(_)));
}

#[test]
fn a_council_that_lost_its_quorum_raises_nothing_and_is_told_what_is_needed() {
    let mut mesh = Reform::found();
    // One of three is left, and two are needed; its signature twice is one.
    for entry in [Reform::person("ana"), amend(|a| a.retention_floor_days = Some(1)), Entry::RevokePerson("ana".into())]
    {
        for signers in [&[11][..], &[11, 11]] {
            let why = mesh.write(&entry, signers).expect("refused");
            assert!(why.contains("needs the council") && why.contains("1 of 2"), "{why}");
        }
    }
    let term = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[11]);
    let outcome = mesh.authority.apply_term(&term);
    assert!(matches!(&outcome, TermOutcome::Refused(why) if why.contains("the council")), "{outcome:?}");
    assert_eq!(mesh.authority.person("ana"), None);
    // The way out that the charter provides for.
    let council = |a: &mut Amend| (a.council, a.threshold) = (Some(vec![key(31).public().into()]), Some(1));
    assert_eq!(mesh.write(&amend(council), &[21, 22, 31]), None);
    assert_eq!(mesh.write(&Reform::person("ana"), &[31]), None);
}

#[test]
fn a_term_names_the_next_sequencer_cuts_the_one_before_and_needs_the_council() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let term = Reform::term(1, seat(5, "hq-2"));
    let weak = mesh.body(&term, &[11]);
    assert!(matches!(mesh.authority.apply_term(&weak), TermOutcome::Refused(why) if why.contains("the council")));
    let body = mesh.body(&term, &[11, 12]);
    assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Began(2));
    assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Known);
    assert!(mesh.authority.is_cut(&key(2).author_id(), 0));
    assert_eq!(mesh.authority.sequencer(), &seat(5, "hq-2"));
    assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "the outgoing one writes no more");
    assert_eq!(mesh.write_as(5, 0, &Reform::person("ana"), &[11, 12]), None);
    assert!(mesh.authority.may_write(&key(5).author_id(), &Scope::authority(), KIND_ENTRY));
    let old = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[11, 12]);
    assert!(matches!(mesh.authority.apply_term(&old), TermOutcome::Beside(why) if why.contains("not above")));
}

#[test]
fn for_a_restored_sequencer_the_term_is_its_incarnate() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let end = ChainEnd { scope: Scope::mesh(), seq: 4, id: None };
    let term = Entry::Term(Term { n: 1, sequencer: seat(2, "hq"), ends: vec![end], root_keys: vec![] });
    let body = mesh.body(&term, &[12, 13]);
    assert_eq!(mesh.authority.apply_term(&body), TermOutcome::Began(2));
    assert_eq!(mesh.authority.member(&key(2).author_id()).map(|m| m.incarnation), Some(1));
    assert!(!mesh.authority.is_cut(&key(2).author_id(), 0));
    let standing = |seq| mesh.authority.standing(&header(&key(2), 0, Scope::mesh(), seq), SOME);
    assert_eq!((standing(4), standing(5)), (Standing::Counts, Standing::BeyondCut));
    assert!(mesh.write(&Reform::person("ana"), &[11, 12]).is_some(), "the old life's chain is over");
    assert_eq!(mesh.write_as(2, 1, &Reform::person("ana"), &[11, 12]), None);
}

#[test]
fn beside_another_entry_a_term_wins_and_what_people_restricted_there_stays() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    assert_eq!(mesh.enrol(6, "quito"), None);
    assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    assert_eq!(mesh.enrol(4, "porto"), None);
    assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
    let cut = Cut { author: key(3).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
    assert_eq!(mesh.write(&Entry::Cut(cut), &[11, 12]), None);
    let dropped = mesh.authority.head().expect("head");
    let term = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 13]);
    assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(4));
    assert!(mesh.authority.member(&key(4).author_id()).is_none(), "what was raised there is gone");
    assert!(mesh.authority.person("ana").is_none() && mesh.authority.is_cut(&key(3).author_id(), 0));
    assert_eq!(mesh.authority.index_of(&dropped), Some(index), "a vote under it knew the chain up to the branch");
    assert_eq!(mesh.write_as(5, 0, &Reform::person("ana"), &[11, 12]), None);
    mesh.hold(6);
    assert!(mesh.authority.people().iter().any(|p| p.id == "ana"), "the council may enrol her again");
}

#[test]
fn facts_and_terms_make_the_same_chain_in_any_order() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    assert_eq!(mesh.write(&Reform::person("ana"), &[11, 12]), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    assert_eq!(mesh.write(&Entry::RevokePerson("ana".into()), &[11, 12]), None);
    let first = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    mesh.authority.apply_term(&first);
    assert_eq!(mesh.write_as(5, 0, &Reform::person("bo"), &[11, 12]), None);
    let second = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[12, 13]);
    mesh.authority.apply_term(&second);
    assert_eq!(mesh.write_as(6, 0, &Reform::person("cleo"), &[11, 12]), None);
    let seen = |a: &Authority| {
        let people: Vec<String> = a.people().iter().map(|p| p.id.clone()).collect();
        let chain: Vec<FactId> = a.entries().map(|e| e.id).collect();
        (chain, people, a.term(), a.sequencer().clone(), a.is_cut(&key(5).author_id(), 0))
    };
    let whole = seen(&mesh.authority);
    assert_eq!(whole.1, ["bo"], "the second term vouches for bo; nobody holds cleo's entry yet");
    // Every order of six things, by the factorial number system.
    let mut things: Vec<Result<Fact, EntryBody>> = mesh.facts.iter().cloned().map(Ok).collect();
    things.extend([Err(first), Err(second)]);
    let count = things.len();
    let all: usize = (1..=count).product();
    for mut code in 0..all {
        let mut order: Vec<usize> = (0..count).collect();
        let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
        for left in (1..=count).rev() {
            match &things[order.remove(code % left)] {
                Ok(fact) => drop(fresh.apply(fact)),
                Err(term) => drop(fresh.apply_term(term)),
            }
            code /= left;
        }
        assert_eq!(seen(&fresh), whole);
    }
}

/// What an authority makes of `facts` and `terms`, in each order.
fn in_any_order(mesh: &Reform, terms: &[EntryBody]) -> Vec<(Vec<FactId>, u32, Seat)> {
    let mut things: Vec<Result<&Fact, &EntryBody>> = mesh.facts.iter().map(Ok).collect();
    things.extend(terms.iter().map(Err));
    let count = things.len();
    let mut seen = Vec::new();
    for mut code in 0..(1..=count).product() {
        let mut order: Vec<usize> = (0..count).collect();
        let mut fresh = Authority::new(mesh.authority.mesh(), mesh.charter.clone()).expect("seats");
        let mut refused = Vec::new();
        for left in (1..=count).rev() {
            match things[order.remove(code % left)] {
                Ok(fact) => drop(fresh.apply(fact)),
                Err(term) if matches!(fresh.apply_term(term), TermOutcome::Refused(_)) => refused.push(term),
                Err(_) => {}
            }
            code /= left;
        }
        // As a node tries them again.
        fresh.apply_terms(refused);
        let now = (fresh.entries().map(|e| e.id).collect(), fresh.term(), fresh.sequencer().clone());
        if !seen.contains(&now) {
            seen.push(now);
        }
    }
    seen
}

#[test]
fn keys_that_left_the_council_do_not_take_the_mesh_back_from_a_place_before_that() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    let council = [13, 14, 15].map(|n| key(n).public().into()).to_vec();
    assert_eq!(mesh.write(&amend(|a| a.council = Some(council)), &[11, 12, 14, 15]), None);
    assert_eq!(mesh.enrol(4, "porto"), None);
    let back = mesh.body_on(base, index, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    let outcome = mesh.authority.apply_term(&back);
    assert!(matches!(&outcome, TermOutcome::Beside(why) if why.contains("present head")), "{outcome:?}");
    let seen = in_any_order(&mesh, std::slice::from_ref(&back));
    assert!(seen.len() == 1 && seen[0].1 == 0, "{seen:?}");

    let ahead = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[13, 14]);
    assert!(matches!(mesh.authority.apply_term(&ahead), TermOutcome::Began(4)));
    let seen = in_any_order(&mesh, &[back, ahead]);
    assert!(seen.len() == 1 && seen[0].1 == 1 && seen[0].0.len() == 4, "{seen:?}");
}

#[test]
fn a_term_that_was_never_used_does_not_win_over_a_later_one() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let unused = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[11, 12]);
    assert_eq!(mesh.enrol(4, "porto"), None);
    let used = mesh.body(&Reform::term(2, seat(5, "hq-2")), &[12, 13]);
    assert!(matches!(mesh.authority.apply_term(&used), TermOutcome::Began(3)));
    assert!(matches!(mesh.authority.apply_term(&unused), TermOutcome::Beside(_)));
    let seen = in_any_order(&mesh, &[unused, used]);
    assert!(seen.len() == 1 && seen[0].1 == 2 && seen[0].2 == seat(5, "hq-2"), "{seen:?}");
}

#[test]
fn of_two_terms_with_one_number_on_one_entry_all_nodes_take_the_same() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let one = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    let other = mesh.body(&Reform::term(1, seat(6, "hq-3")), &[12, 13]);
    assert_eq!(in_any_order(&mesh, &[one, other]).len(), 1);
}

#[test]
fn a_copy_of_a_term_with_other_signatures_is_the_same_term_and_adds_what_was_missing() {
    let mut mesh = Reform::found();
    let base = FactId::from_bytes([9; 32]);
    let term = Reform::term(1, seat(5, "hq-2"));
    let whole = mesh.body_on(Some(base), 7, &term, &[11, 12, 13]);
    let mut stripped = whole.clone();
    stripped.signatures.truncate(2);
    stripped.index = 1;
    assert_eq!(mesh.authority.apply_term(&stripped), TermOutcome::Waits);
    assert_eq!(mesh.authority.apply_term(&whole), TermOutcome::Waits, "a third signature is news");
    assert_eq!(mesh.authority.apply_term(&whole), TermOutcome::Known);
    assert_eq!(mesh.authority.terms().map(|(_, b)| b.signatures.len()).collect::<Vec<_>>(), [3]);
}

/// Strangers may repeat what the council once signed: nothing is walked for it a second time, and nothing is forgotten.
#[test]
fn a_term_that_does_not_begin_is_kept_and_no_copy_of_it_is_news() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let (base, index) = (mesh.authority.head(), mesh.authority.index());
    let begun = mesh.body(&Reform::term(2, seat(5, "hq-2")), &[11, 12]);
    assert!(matches!(mesh.authority.apply_term(&begun), TermOutcome::Began(_)));
    let lower = mesh.body_on(base, index, &Reform::term(1, seat(6, "hq-3")), &[11, 12]);
    let same = mesh.body(&Reform::term(2, seat(6, "hq-3")), &[11, 12]);
    for term in [&lower, &same] {
        assert!(matches!(mesh.authority.apply_term(term), TermOutcome::Beside(_)));
        assert_eq!(mesh.authority.apply_term(term), TermOutcome::Known);
        let mut forged = term.clone();
        let mut signature = forged.signatures[0].clone();
        signature.key = key(13).public().into();
        forged.signatures.push(signature);
        assert_eq!(mesh.authority.apply_term(&forged), TermOutcome::Known);
        let mut more = term.clone();
        more.sign(&mesh.authority.mesh(), &key(99));
        assert_eq!(mesh.authority.apply_term(&more), TermOutcome::Known, "nobody asked 99");
        more.sign(&mesh.authority.mesh(), &key(13));
        assert!(matches!(mesh.authority.apply_term(&more), TermOutcome::Beside(_)), "the true signature is");
        let id = Term::id(&mesh.authority.mesh(), term);
        let signers = mesh
            .authority
            .kept_term(&id)
            .map(|b| b.signers(&mesh.authority.mesh(), &COUNCIL.map(|n| key(n).public().into())));
        assert_eq!(signers, Some(3));
    }
    let unsigned = mesh.body(&Reform::term(3, seat(6, "hq-3")), &[11]);
    assert!(matches!(mesh.authority.apply_term(&unsigned), TermOutcome::Refused(_)));
    assert_eq!(mesh.authority.terms().count(), 3);
}

#[test]
fn only_so_many_terms_are_kept_beside_the_chain_and_the_highest_stay() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    let waits = |n: u32| mesh.body_on(Some(SOME), 9, &Reform::term(n, seat(5, "hq-2")), &[11, 12]);
    let terms: Vec<EntryBody> = (1..=9).map(waits).collect();
    for term in terms.iter().rev().take(8) {
        assert_eq!(mesh.authority.apply_term(term), TermOutcome::Waits);
    }
    assert!(matches!(mesh.authority.apply_term(&terms[0]), TermOutcome::Refused(_)));
    assert_eq!(mesh.authority.terms().count(), 8);
    assert!(mesh.authority.kept_term(&Term::id(&mesh.authority.mesh(), &terms[0])).is_none());
    let here = mesh.body(&Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    assert!(matches!(mesh.authority.apply_term(&here), TermOutcome::Began(_)), "one that begins needs no room");
}

#[test]
fn a_proven_fork_freezes_until_a_term_and_says_nothing_of_what_the_council_vouched_for() {
    let mut mesh = Reform::found();
    assert_eq!(mesh.enrol(3, "lyon"), None);
    assert_eq!(mesh.enrol(4, "porto"), None);
    let hq = key(2).author_id();
    mesh.authority.forked(hq, 0, 2);
    assert_eq!(mesh.authority.frozen(), Some(2));
    assert!(!mesh.authority.is_vouched(&hq, 0, 1));
    let first = mesh.facts[0].id();
    let term = mesh.body_on(Some(first), 1, &Reform::term(1, seat(5, "hq-2")), &[11, 12]);
    assert_eq!(mesh.authority.apply_term(&term), TermOutcome::Began(2));
    assert_eq!(mesh.authority.frozen(), None);
    assert!(mesh.authority.is_vouched(&hq, 0, 1) && !mesh.authority.is_vouched(&hq, 0, 2));
    assert!(mesh.authority.member(&key(4).author_id()).is_none(), "beyond the common entry");
}
