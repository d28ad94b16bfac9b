//! Tests of the fold and the decider: by hand here, at random in `random`, exhaustively in `crdt/tests/escrow_model`.

use cauldron_identity::{AuthorId, Digest, FactId, MeshId, Scope};

use super::*;
use crate::log::Draft;
use crate::testing::{MESH, key};

mod random;
mod reference;

const NOW: Window = 5;
const MINT: FactId = FactId::from_bytes([0xaa; 32]);

fn life(n: u8) -> Life {
    Life { author: AuthorId::from_bytes([n; 32]), incarnation: 0 }
}

fn purpose(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn demo() -> Budget {
    Budget::new("demo").expect("a name")
}

/// Books to which facts are given by hand; ids count up.
#[derive(Clone)]
struct Desk {
    books: Escrow,
    next: u8,
}

impl Desk {
    /// Ten rights of window 5, in the hands of life 1.
    fn new() -> Self {
        let mut desk = Self { books: Escrow::new(), next: 0 };
        desk.books.mint(MINT, 1, &Mint { budget: demo(), window: NOW, amount: 10, holder: life(1), window_ms: 0 });
        desk.settle_dues(1);
        desk
    }

    fn held(&self, life: Life) -> u64 {
        self.books.chains.get(&life).map_or(0, |chain| chain.held)
    }

    fn place(&mut self, life: Life) -> Place {
        self.next += 1;
        Place { life, seq: self.held(life) + 1, id: FactId::from_bytes([self.next; 32]) }
    }

    fn write(&mut self, n: u8, body: Body) -> Place {
        let place = self.place(life(n));
        assert_eq!(self.books.fold_body(place, Some(Some(body))), Folded::New);
        place
    }

    fn settle_dues(&mut self, n: u8) {
        for body in self.decider(n).dues() {
            self.write(n, body);
        }
        assert_eq!(self.decider(n).dues(), []);
    }

    fn decider(&self, n: u8) -> Decider<'_> {
        self.books.decider(life(n), NOW)
    }

    fn grant(&mut self, from: u8, to: u8, amount: u64) -> Place {
        let debit = self.decider(from).debit(&demo(), NOW, amount, life(to)).expect("may grant");
        self.write(from, Body::Debit(debit))
    }

    fn share(&self, n: u8) -> Share {
        self.books.balance(&demo(), NOW).of(&life(n))
    }

    #[track_caller]
    fn void(&mut self, n: u8, body: Body, why: Void) {
        let before = self.books.balance(&demo(), NOW);
        let place = self.write(n, body);
        assert_eq!(self.books.verdict(&place), Some(Verdict::Void(why)));
        assert_eq!(self.books.balance(&demo(), NOW), before, "what is void moves nothing");
    }

    #[track_caller]
    fn check(&self) {
        for result in [invariants::conserve(&self.books), invariants::credit_once(&self.books)] {
            assert_eq!(result, Ok(()));
        }
    }
}

fn debit(to: u8, amount: u64) -> Body {
    Body::Debit(Debit { budget: demo(), window: NOW, amount, to: life(to), purpose: None })
}

fn credit(source: Source) -> Body {
    Body::Credit(Credit { budget: demo(), window: NOW, source })
}

fn reserve(amount: u64, purpose: Digest) -> Body {
    Body::Reserve(Reserve { budget: demo(), window: NOW, amount, purpose })
}

#[test]
fn golden_bytes_of_the_bodies() {
    let place = Place { life: life(1), seq: 9, id: FactId::from_bytes([3; 32]) };
    let settle = Body::Settle(Settle { reserve: place.id, spent: 4 });
    let bodies = [
        debit(2, 300),
        credit(Source::Mint(MINT)),
        credit(Source::Debit(place)),
        credit(Source::Refuse(place)),
        Body::Refuse(Refuse { budget: demo(), window: NOW, debit: place }),
        reserve(7, purpose(4)),
        settle,
    ];
    let mut text = String::new();
    for body in bodies {
        text += &format!("{} {}\n", body.kind(), hex::encode(body.to_bytes()));
        assert_eq!(Body::read(body.kind(), &body.to_bytes()), Some(Ok(body)));
    }
    text += &format!("purposes {} {}\n", purpose_of(&MINT), purpose_named("a cup of tea"));
    expect_test::expect![[r#"
        budget.debit a4006464656d6f01050219012c03a200582002020202020202020202020202020202020202020202020202020202020202020100
        budget.credit a3006464656d6f0105028200815820aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        budget.credit a3006464656d6f010502820181a300a20058200101010101010101010101010101010101010101010101010101010101010101010001090258200303030303030303030303030303030303030303030303030303030303030303
        budget.credit a3006464656d6f010502820281a300a20058200101010101010101010101010101010101010101010101010101010101010101010001090258200303030303030303030303030303030303030303030303030303030303030303
        budget.refuse a3006464656d6f010502a300a20058200101010101010101010101010101010101010101010101010101010101010101010001090258200303030303030303030303030303030303030303030303030303030303030303
        budget.reserve a4006464656d6f010502070358200404040404040404040404040404040404040404040404040404040404040404
        budget.settle a200582003030303030303030303030303030303030303030303030303030303030303030104
        purposes a39ecbbd5575edd3f637ef6ffabd493f5a9ed6ecb0b3f02bbc3441a7f1a376a1 95c54503ed168109425bba8bde67c981ec52c879d1d0fe2189856dfe4fbe81dc
    "#]].assert_eq(&text);
    assert_eq!(Body::read("note", b""), None);
    assert!(Body::read(KIND_DEBIT, &settle_bytes()).is_some_and(|read| read.is_err()));
}

fn settle_bytes() -> Vec<u8> {
    Body::Settle(Settle { reserve: MINT, spent: 1 }).to_bytes()
}

#[test]
fn a_name_of_a_budget_is_one_label() {
    for name in ["", "Eur", "a/b", "-a", &"a".repeat(64)] {
        assert!(Budget::new(name).is_err(), "{name:?}");
    }
    assert_eq!(Budget::new(&"a".repeat(63)).expect("fits").as_str().len(), 63);
    assert!(Budget::new("Eur").expect_err("upper case").to_string().contains("use 1 to 63 of a-z"));
}

#[test]
fn a_right_travels_is_reserved_and_spent_and_the_rest_is_held_again() {
    let mut desk = Desk::new();
    desk.grant(1, 2, 6);
    assert_eq!((desk.share(1).held, desk.share(2).in_flight), (4, 6));
    desk.settle_dues(2);
    let body = desk.decider(2).reserve(&demo(), 5, purpose(1)).expect("covered");
    let reserve = desk.write(2, Body::Reserve(body)).id;
    assert_eq!((desk.share(2).held, desk.share(2).reserved), (1, 5));
    let body = desk.decider(2).settle(reserve, 3).expect("at most what was reserved");
    desk.write(2, Body::Settle(body));
    let share = desk.share(2);
    assert_eq!((share.held, share.reserved, share.spent), (3, 0, 3));
    let total = desk.books.balance(&demo(), NOW).total();
    assert_eq!((total.minted, total.sum(), total.overdrawn), (10, 10, 0));
    desk.check();
}

#[test]
fn a_refused_grant_comes_back_and_no_other_does() {
    let mut desk = Desk::new();
    let grant = desk.grant(1, 2, 6);
    assert_eq!(desk.decider(1).refuse(grant.id), Err(Refused::NoGrant { debit: grant.id }), "not the grantor");
    let body = desk.decider(2).refuse(grant.id).expect("it is open");
    let refuse = desk.write(2, Body::Refuse(body));
    assert_eq!((desk.share(1).held, desk.share(1).in_flight, desk.share(2).in_flight), (4, 6, 0));
    desk.void(2, credit(Source::Debit(grant)), Void::Taken);
    desk.void(2, credit(Source::Refuse(refuse)), Void::NotAddressed);
    desk.void(1, credit(Source::Debit(grant)), Void::NotAddressed);
    desk.settle_dues(1);
    assert_eq!(desk.share(1).held, 10);
    desk.void(1, credit(Source::Refuse(refuse)), Void::Taken);
    desk.check();
}

#[test]
fn what_is_not_covered_or_not_addressed_is_void_for_everybody() {
    let mut desk = Desk::new();
    desk.void(1, debit(2, 11), Void::NotCovered);
    desk.void(1, debit(2, u64::MAX), Void::NotCovered);
    desk.void(1, debit(1, 1), Void::ToItself);
    desk.void(1, debit(2, 0), Void::Zero);
    desk.void(1, credit(Source::Mint(MINT)), Void::Taken);
    let grant = desk.grant(1, 2, 3);
    desk.void(3, credit(Source::Debit(grant)), Void::NotAddressed);
    let no_mint = desk.write(4, credit(Source::Mint(grant.id)));
    assert_eq!(desk.books.verdict(&no_mint), Some(Verdict::Waits), "no authority entry has that id, yet");
    let elsewhere = Credit { budget: demo(), window: NOW + 1, source: Source::Debit(grant) };
    desk.void(2, Body::Credit(elsewhere), Void::NotAddressed);
    let wrong_id = Place { id: MINT, ..grant };
    desk.void(2, credit(Source::Debit(wrong_id)), Void::NoSource);
    desk.void(2, credit(Source::Debit(Place { seq: 0, ..grant })), Void::NoSource);
    desk.void(2, Body::Settle(Settle { reserve: grant.id, spent: 0 }), Void::NoReservation);
    let unread = desk.place(life(2));
    desk.books.fold_body(unread, Some(None));
    assert_eq!(desk.books.verdict(&unread), Some(Verdict::Void(Void::Unreadable)));
    desk.settle_dues(2);
    assert_eq!(desk.share(2).held, 3);
    desk.check();
}

#[test]
fn a_liar_that_overspends_uses_up_its_own_rights_and_nobody_else_s() {
    let mut desk = Desk::new();
    let id = desk.write(1, reserve(25, purpose(1))).id;
    assert_eq!((desk.share(1).held, desk.share(1).reserved, desk.share(1).overdrawn), (0, 10, 15));
    assert_eq!(
        desk.decider(1).settle(id, 25),
        Err(Refused::MoreThanReserved { spent: 25, reserved: 10 }),
        "an honest life settles what it held"
    );
    desk.write(1, Body::Settle(Settle { reserve: id, spent: u64::MAX }));
    assert_eq!((desk.share(1).spent, desk.share(1).overdrawn), (10, u64::MAX - 10));
    desk.void(1, Body::Settle(Settle { reserve: id, spent: 0 }), Void::Settled);
    desk.check();
}

#[test]
fn one_purpose_is_reserved_for_once_and_a_restart_finds_it() {
    let mut desk = Desk::new();
    let reserved = desk.write(1, reserve(2, purpose(1))).id;
    let again = desk.decider(1).reserve(&demo(), 2, purpose(1));
    assert_eq!(again, Err(Refused::AlreadyReserved { reserve: reserved }));
    assert!(again.expect_err("again").to_string().contains("go on with that one"));
    let (id, found) = desk.decider(1).reservation(&demo(), &purpose(1)).expect("is there");
    assert_eq!((id, found.amount, found.spent), (reserved, 2, None));
    desk.void(1, reserve(2, purpose(1)), Void::SamePurpose);
    let next = Reserve { budget: demo(), window: NOW + 1, amount: 1, purpose: purpose(1) };
    desk.void(1, Body::Reserve(next), Void::SamePurpose);
}

#[test]
fn a_closed_window_is_neither_reserved_nor_granted_but_still_credited() {
    let mut desk = Desk::new();
    let grant = desk.grant(1, 2, 4);
    let later = desk.books.decider(life(1), NOW + 1);
    assert_eq!(later.debit(&demo(), NOW, 1, life(2)), Err(Refused::Closed { window: NOW, now: NOW + 1 }));
    assert!(matches!(later.reserve(&demo(), 1, purpose(1)), Err(Refused::NotEnough { held: 0, .. })));
    let dues = desk.books.decider(life(2), NOW + 1).dues();
    assert_eq!(dues, [credit(Source::Debit(grant))]);
    // Rights of a window to come may be handed out before it opens, and not spent.
    desk.books.mint(
        FactId::from_bytes([0xbb; 32]),
        2,
        &Mint { budget: demo(), window: 9, amount: 3, holder: life(1), window_ms: 0 },
    );
    desk.settle_dues(1);
    assert!(desk.decider(1).debit(&demo(), 9, 3, life(2)).is_ok());
    assert!(matches!(desk.decider(1).reserve(&demo(), 7, purpose(1)), Err(Refused::NotEnough { held: 6, .. })));
}

#[test]
fn a_second_mint_is_ignored_and_is_evidence() {
    let mut desk = Desk::new();
    let second = FactId::from_bytes([0xbb; 32]);
    desk.books.mint(second, 8, &Mint { budget: demo(), window: NOW, amount: 99, holder: life(2), window_ms: 0 });
    desk.books.mint(MINT, 1, &Mint { budget: demo(), window: NOW, amount: 10, holder: life(1), window_ms: 0 });
    let proofs: Vec<SecondMint> = desk.books.second_mints().collect();
    assert_eq!(proofs, [SecondMint { budget: demo(), window: NOW, first: MINT, second }]);
    assert_eq!(desk.books.balance(&demo(), NOW).total().minted, 10);
    assert_eq!(desk.decider(2).dues(), []);
    desk.void(2, credit(Source::Mint(second)), Void::SecondMint);
}

#[test]
fn what_an_ended_life_holds_is_lost_and_what_it_did_still_counts() {
    let mut desk = Desk::new();
    let before = desk.grant(1, 2, 1);
    desk.books.end(life(1), before.seq);
    assert_eq!((desk.share(1).lost, desk.share(1).held), (9, 0));
    assert_eq!(desk.decider(1).reserve(&demo(), 1, purpose(1)), Err(Refused::Over { life: life(1) }));
    // It did not know of its cut yet: it granted and reserved on.
    let beyond = desk.write(1, debit(2, 2));
    let credited_by_one_that_did_not_know = desk.write(1, debit(3, 3));
    let reserved = desk.write(1, reserve(1, purpose(1))).id;
    assert!(desk.decider(1).settle(reserved, 1).is_ok(), "an outcome may be told after a cut");
    desk.write(3, credit(Source::Debit(credited_by_one_that_did_not_know)));
    assert_eq!((desk.share(1).lost, desk.share(1).reserved, desk.share(3).held), (3, 1, 3));
    let mut dues = desk.decider(2).dues();
    dues.sort_by_key(Body::kind);
    let refuse = Body::Refuse(Refuse { budget: demo(), window: NOW, debit: beyond });
    assert_eq!(dues, [credit(Source::Debit(before)), refuse]);
    desk.settle_dues(2);
    assert_eq!((desk.share(2).held, desk.share(1).lost), (1, 5), "what was refused is lost with the rest");
    assert_eq!(desk.decider(1).dues(), [], "an ended life takes nothing");
    let new = Life { incarnation: 1, ..life(1) };
    assert_eq!(desk.books.balance(&demo(), NOW).of(&new), Share::default(), "a new life begins with nothing");
    assert!(matches!(desk.decider(2).debit(&demo(), NOW, 1, life(1)), Err(Refused::NoReceiver { .. })));
    assert!(desk.decider(2).debit(&demo(), NOW, 1, new).is_ok());
    desk.check();
}

#[test]
fn grants_beyond_a_suspension_wait_for_its_lift() {
    let mut desk = Desk::new();
    let (known, beyond) = (desk.grant(1, 2, 1), desk.grant(1, 2, 2));
    desk.books.suspend(life(1), Some(known.seq));
    assert_eq!(desk.decider(2).dues(), [credit(Source::Debit(known))]);
    assert!(matches!(
        desk.decider(2).debit(&demo(), NOW, 1, life(1)),
        Err(Refused::NotEnough { .. } | Refused::NoReceiver { .. })
    ));
    desk.settle_dues(2);
    desk.books.suspend(life(1), None);
    assert_eq!(desk.decider(2).dues(), [credit(Source::Debit(beyond))]);
}

#[test]
fn a_fork_takes_away_what_lies_beyond_and_the_overshoot_is_shown() {
    let mut desk = Desk::new();
    let grant = desk.grant(1, 2, 6);
    desk.settle_dues(2);
    desk.write(2, reserve(5, purpose(1)));
    let before = desk.clone();
    desk.books.fork(life(1), grant.seq);
    assert_eq!(desk.books.verdict(&grant), None);
    assert_eq!((desk.share(1).lost, desk.share(2).reserved, desk.share(2).overdrawn), (10, 0, 5));
    desk.check();
    desk.books.fork(life(1), grant.seq + 1);
    let mut early = Desk { books: Escrow::new(), next: 0 };
    early.books.fork(life(1), grant.seq);
    for (place, body, _) in before.books.facts() {
        early.books.fold_body(place, Some(body.cloned()));
    }
    early.books.mint(MINT, 1, &Mint { budget: demo(), window: NOW, amount: 10, holder: life(1), window_ms: 0 });
    assert_eq!(early.books, desk.books, "whether the proof or the facts come first");
}

#[test]
fn facts_wait_for_what_they_name_and_gaps_are_not_taken() {
    let full = {
        let mut desk = Desk::new();
        desk.grant(1, 2, 6);
        desk.settle_dues(2);
        desk.write(2, reserve(5, purpose(1)));
        desk.books
    };
    let facts: Vec<(Place, Option<Body>)> = full.facts().map(|(place, body, _)| (place, body.cloned())).collect();
    let mut books = Escrow::new();
    for (place, body) in facts.iter().rev() {
        let folded = books.fold_body(*place, Some(body.clone()));
        assert_eq!(folded, if place.seq == 1 { Folded::New } else { Folded::Gap });
    }
    for (place, body) in facts.iter().rev().chain(&facts) {
        books.fold_body(*place, Some(body.clone()));
    }
    assert!(books.facts().all(|(_, _, verdict)| verdict == Verdict::Waits), "nothing was minted");
    let decider = books.decider(life(2), NOW);
    assert!(matches!(decider.reserve(&demo(), 1, purpose(2)), Err(Refused::Waiting { waiting: 2, .. })));
    books.mint(MINT, 1, &Mint { budget: demo(), window: NOW, amount: 10, holder: life(1), window_ms: 0 });
    assert_eq!(books, full);
}

#[test]
fn open_grants_are_bounded() {
    let mut desk = Desk { books: Escrow::new(), next: 0 };
    desk.books.mint(MINT, 1, &Mint { budget: demo(), window: NOW, amount: 1000, holder: life(1), window_ms: 0 });
    desk.settle_dues(1);
    for _ in 0..crate::limits::GRANTS_OPEN_MAX {
        desk.grant(1, 2, 1);
    }
    assert!(matches!(desk.decider(1).debit(&demo(), NOW, 1, life(2)), Err(Refused::TooManyOpen { .. })));
    assert_eq!(desk.decider(2).dues().len(), crate::limits::DUES_MAX);
    desk.settle_dues(2);
    assert!(desk.decider(1).debit(&demo(), NOW, 1, life(2)).is_ok());
}

#[test]
fn refusals_say_what_to_do() {
    let desk = Desk::new();
    let error = desk.decider(1).debit(&demo(), NOW, 11, life(2)).expect_err("too much");
    expect_test::expect!["11 of demo are wanted in window 5, 10 are held and 0 on their way: ask a peer for the rest, or wait for the next window"].assert_eq(&error.to_string());
    assert_eq!(desk.decider(1).debit(&demo(), NOW, 0, life(2)), Err(Refused::Zero));
    assert_eq!(desk.decider(1).debit(&demo(), NOW, 1, life(1)), Err(Refused::ToItself));
    assert_eq!(desk.decider(1).settle(MINT, 0), Err(Refused::NoReservation { reserve: MINT }));
}

#[test]
fn sealed_facts_of_a_log_give_the_same_books_as_their_bodies() {
    let mut log = FactLog::new(MESH);
    let own = Life { author: key(1).author_id(), incarnation: 0 };
    let mint = Mint { budget: demo(), window: NOW, amount: 10, holder: own, window_ms: 0 };
    let mut books = Escrow::new();
    books.mint(MINT, 1, &mint);
    let append = |log: &mut FactLog, kind: &str, body: Vec<u8>, deps: Vec<FactId>| {
        let draft = Draft { kind: kind.into(), body, deps, ..crate::testing::draft(&Scope::mesh(), b"") };
        log.append(&key(1), draft).expect("appends")
    };
    append(&mut log, "note", b"of another kind".to_vec(), vec![]);
    for body in [credit(Source::Mint(MINT)), debit(2, 4)] {
        append(&mut log, body.kind(), body.to_bytes(), body.deps());
    }
    append(&mut log, KIND_DEBIT, b"not a debit".to_vec(), vec![]);
    log.append(&key(1), crate::testing::draft(&Scope::site("lyon").expect("a name"), b"")).expect("appends");
    log.iter().for_each(|fact| _ = books.fold(&fact));
    let mut again = Escrow::of_log(&log);
    again.mint(MINT, 1, &mint);
    assert_eq!(again, books);
    let share = books.balance(&demo(), NOW).of(&own);
    assert_eq!((share.minted, share.held, books.balance(&demo(), NOW).of(&life(2)).in_flight), (10, 6, 4));
    assert_eq!(log.mesh(), MeshId::from_bytes([7; 32]));
}

#[test]
fn what_was_granted_for_a_purpose_is_remembered_whoever_granted_it_and_only_if_it_counts() {
    let mut desk = Desk::new();
    let granted = |desk: &Desk, to: u8, n: u8| desk.books.granted_for(&demo(), NOW, life(to), &purpose(n));
    let grant = |desk: &mut Desk, from: u8, amount: u64| {
        let body = Debit { budget: demo(), window: NOW, amount, to: life(3), purpose: Some(purpose(7)) };
        desk.write(from, Body::Debit(body))
    };
    desk.grant(1, 2, 4);
    desk.settle_dues(2);
    desk.grant(1, 3, 1);
    assert_eq!(granted(&desk, 3, 7), 0, "a grant by hand is for nothing in particular");
    grant(&mut desk, 1, 2);
    grant(&mut desk, 2, 3);
    assert_eq!((granted(&desk, 3, 7), granted(&desk, 2, 7), granted(&desk, 3, 8)), (5, 0, 0));
    grant(&mut desk, 2, 9);
    assert_eq!(granted(&desk, 3, 7), 5, "what is not covered grants nothing");
    desk.settle_dues(3);
    assert_eq!(granted(&desk, 3, 7), 5, "it stays granted when it has arrived");
    assert_eq!(desk.books.brief(&demo(), NOW), desk.books.balance(&demo(), NOW));
}
