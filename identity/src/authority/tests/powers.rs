//! Lifts, autonomy and ownership: who signs what, what is in effect, and what a term leaves of it.

use super::*;
use crate::budget::Life;
use crate::codec::{from_cbor, to_cbor};

const VETO: FactId = FactId::from_bytes([9; 32]);
const PREFIX: &str = "lyon/lyon/blocklist";

/// A council of keys 1, 11 and 12, of whom two must sign; lyon (3) and lyon-2 (4) are nodes of one site, and hold what is written.
struct Site {
    mesh: Mesh,
    held: (u64, Option<FactId>),
}

fn site() -> Site {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("CAULDRON_PLANTED") {
        assert!(crate::planted::activate_everywhere(&name), "no bug is called {name}");
    }
    let mesh = Mesh::found_with(|c| {
        c.council = [1, 11, 12].map(|n| key(n).public().into()).to_vec();
        c.threshold = 2;
    });
    let mut site = Site { mesh, held: (0, None) };
    for (n, name) in [(3, "lyon"), (4, "lyon-2")] {
        let id = SpiffeId::new(format!("spiffe://acme.test/site/lyon/node/{name}")).expect("valid id");
        let enrol = Enrol::new(&site.mesh.authority.mesh(), &key(n), &id);
        assert_eq!(site.mesh.write(&Entry::Enrol(enrol), &[]), None);
    }
    site.mesh.enrol(&key(5), "porto");
    site.hold();
    site
}

impl Site {
    /// Has porto hold the chain.
    fn hold(&mut self) {
        let authority = &self.mesh.authority;
        let held = Held {
            head: authority.head().expect("entries"),
            index: authority.index(),
            suspensions: vec![],
            trust: None,
        };
        let (seq, prev) = self.held;
        let fact = seal(&key(5), authority.mesh(), Scope::mesh(), seq + 1, prev, KIND_HELD, &held);
        self.held = (seq + 1, Some(fact.id()));
        self.mesh.authority.apply(&fact);
    }

    /// Writes an entry under these council keys.
    fn write(&mut self, entry: Entry, signers: &[u8]) -> Option<String> {
        let keys: Vec<AuthorKey> = signers.iter().map(|n| key(*n)).collect();
        self.mesh.write(&entry, &keys.iter().collect::<Vec<_>>())
    }

    fn signed(&mut self, entry: Entry) {
        assert_eq!(self.write(entry, &[1, 12]), None);
    }

    fn refused(&mut self, entry: Entry) -> String {
        self.write(entry, &[1, 12]).expect("refused")
    }

    fn cut(&mut self, n: u8) {
        let cut = Cut { author: key(n).author_id(), incarnation: 0, ends: vec![], fork: vec![] };
        self.signed(Entry::Cut(cut));
    }

    fn owner(&self) -> Option<AuthorId> {
        self.mesh.authority.owner_of_prefix(PREFIX).map(|(author, _)| author)
    }

    /// A fact of a node of the site, in its chain there.
    fn fact<T: minicbor::Encode<()>>(&self, n: u8, seq: u64, kind: &str, body: &T) -> Fact {
        let prev = (seq > 1).then_some(SOME);
        let scope = Scope::site("lyon").expect("a name");
        seal(&key(n), self.mesh.authority.mesh(), scope, seq, prev, kind, body)
    }

    /// lyon's offer at `seq` and what `by` makes of it.
    fn handover(&self, offered_by: u8, seq: u64, to: u8) -> Reassign {
        let offer = self.fact(offered_by, seq, KIND_HANDOVER, &Offer { prefix: PREFIX.into(), to: life(to) });
        let accept = self.fact(to, seq, KIND_TAKEOVER, &Accept { offer: offer.id() });
        let handover = Some(Handover { offer: offer.sealed().clone(), accept: accept.sealed().clone() });
        Reassign { handover, ..reassign(3, to, None) }
    }
}

fn life(n: u8) -> Life {
    Life { author: key(n).author_id(), incarnation: 0 }
}

fn lift(restrictions: &[FactId]) -> Entry {
    Entry::Lift(Lift { restrictions: restrictions.to_vec(), reason: "looked at".into() })
}

fn of(build: &[u8]) -> AutonomyOf {
    AutonomyOf {
        build: Digest::of("build", build),
        model: None,
        prompt: None,
        tools: None,
        action_class: "security.address.block/blocklist".into(),
        site: "lyon".into(),
    }
}

fn grant(level: Level) -> AutonomyGrant {
    let votes = if level <= Level::L1 { (VOTES_R2, VOTES_R3) } else { (0, 1) };
    AutonomyGrant { level, votes_r2: votes.0, votes_r3: votes.1, expires_ms: 2_000, evidence: None }
}

fn autonomy(build: &[u8], grant: Option<AutonomyGrant>) -> Entry {
    Entry::Autonomy(Autonomy { of: of(build), grant, reason: "shadowed for a month".into() })
}

fn reassign(from: u8, to: u8, fencing: Option<Fenced>) -> Reassign {
    Reassign { prefix: PREFIX.into(), from: life(from), to: life(to), handover: None, fencing, attests: vec![] }
}

#[test]
fn golden_bytes_of_lift_autonomy_and_reassign() {
    let id = FactId::from_bytes([7; 32]);
    let d = |n: u8| Digest::from_bytes([n; 32]);
    let lift = Entry::Lift(Lift { restrictions: vec![id], reason: "ok".into() });
    let of = AutonomyOf {
        build: d(1),
        model: Some(d(2)),
        prompt: None,
        tools: None,
        action_class: "a.b.c/d".into(),
        site: "lyon".into(),
    };
    let grant = AutonomyGrant { level: Level::L3, votes_r2: 0, votes_r3: 2, expires_ms: 1_000, evidence: Some(d(3)) };
    let autonomy = Entry::Autonomy(Autonomy { of, grant: Some(grant), reason: "ok".into() });
    let life = |n: u8| Life { author: AuthorId::from_bytes([n; 32]), incarnation: 1 };
    let moved = Reassign {
        prefix: PREFIX.into(),
        from: life(1),
        to: life(2),
        handover: None,
        fencing: Some(Fenced::None),
        attests: vec![],
    };
    let hex32 = |n: u8| format!("5820{}", hex::encode([n; 32]));
    let reassign = Entry::Reassign(Box::new(moved));
    let golden = [
        (lift, format!("820b81a20081{}01626f6b", hex32(7))),
        (
            autonomy,
            format!(
                "820c81a300a400{}01{}0467612e622e632f6405646c796f6e01a50003010002020319 03e804{}02626f6b",
                hex32(1),
                hex32(2),
                hex32(3)
            )
            .replace(' ', ""),
        ),
        (
            reassign,
            format!(
                "820d81a500736c796f6e2f6c796f6e2f626c6f636b6c69737401a200{}010102a200{}010104020580",
                hex32(1),
                hex32(2)
            ),
        ),
    ];
    for (entry, hex) in golden {
        assert_eq!(hex::encode(to_cbor(&entry)), hex, "{entry:?}");
        assert_eq!(from_cbor::<Entry>(&to_cbor(&entry)), Ok(entry));
    }
}

#[test]
fn a_council_quorum_lifts_what_it_names_once_it_is_held() {
    let mut site = site();
    for few in [&[][..], &[1], &[1, 1], &[1, 9]] {
        assert!(site.write(lift(&[VETO]), few).expect("refused").contains("of 2 council keys"), "{few:?}");
    }
    assert_eq!(site.mesh.authority.lifted(&VETO), None);
    site.signed(lift(&[VETO]));
    assert_eq!(site.mesh.authority.lifted(&VETO), None, "nobody but the sequencer holds it");
    site.hold();
    let lifted = site.mesh.authority.lifted(&VETO).expect("in effect");
    assert_eq!((lifted.index, lifted.reason), (site.mesh.authority.index(), "looked at"));
    assert_eq!(site.mesh.authority.lifted(&SOME), None, "any other stays");
    assert!(site.refused(lift(&[SOME, VETO])).contains("already"));
}

#[test]
fn a_lift_of_nothing_of_too_much_or_without_a_reason_is_refused() {
    let mut site = site();
    let many: Vec<FactId> = (0..=LIFTS_MAX as u8).map(|n| FactId::from_bytes([n; 32])).collect();
    assert!(site.refused(lift(&[])).contains("names 1 to 64"));
    assert!(site.refused(lift(&many)).contains("not 65"));
    assert!(site.refused(lift(&[VETO, VETO])).contains("twice"));
    let silent = Entry::Lift(Lift { restrictions: vec![VETO], reason: " ".into() });
    assert!(site.refused(silent).contains("say why"));
}

#[test]
fn autonomy_is_of_one_build_ends_by_itself_and_is_taken_back_at_once() {
    let mut site = site();
    let held = |site: &Site, build: &[u8], now_ms| {
        site.mesh.authority.autonomy(&of(build), now_ms).map(|held| held.grant.level)
    };
    assert!(site.write(autonomy(b"1", Some(grant(Level::L3))), &[1]).is_some(), "one of two");
    site.signed(autonomy(b"1", Some(grant(Level::L3))));
    assert_eq!(held(&site, b"1", 1_000), None, "not held yet");
    site.hold();
    assert_eq!(held(&site, b"1", 1_999), Some(Level::L3));
    assert_eq!(held(&site, b"1", 2_000), None, "expired");
    assert_eq!(held(&site, b"2", 1_000), None, "another build has none");
    let model = AutonomyOf { model: Some(Digest::of("model", b"")), ..of(b"1") };
    let elsewhere = AutonomyOf { site: "porto".into(), ..of(b"1") };
    for other in [model, elsewhere] {
        assert_eq!(site.mesh.authority.autonomy(&other, 1_000), None, "{other:?}");
    }
    site.signed(autonomy(b"1", Some(grant(Level::L2))));
    site.hold();
    assert_eq!(held(&site, b"1", 1_000), Some(Level::L2), "the newest holds");
    assert_eq!(site.mesh.authority.autonomies().count(), 1);
    site.signed(autonomy(b"1", None));
    assert_eq!(held(&site, b"1", 1_000), None, "at once");
    assert_eq!(site.mesh.authority.autonomies().count(), 0);
    assert!(site.refused(autonomy(b"2", None)).contains("nothing was granted"));
}

#[test]
fn autonomy_beyond_its_level_or_about_nothing_is_refused() {
    let mut site = site();
    let mut with = |change: &dyn Fn(&mut Autonomy)| {
        let mut one = Autonomy { of: of(b"1"), grant: Some(grant(Level::L3)), reason: "so".into() };
        change(&mut one);
        site.refused(Entry::Autonomy(one))
    };
    assert!(with(&|a| a.grant.as_mut().expect("one").votes_r2 = 2).contains("none asks for more"));
    assert!(with(&|a| a.grant.as_mut().expect("one").level = Level::L1).contains("people decide"));
    assert!(with(&|a| a.of.site = "Lyon".into()).contains("no name of a site"));
    assert!(with(&|a| a.of.action_class = "everything".into()).contains("<operation>/<connector>"));
    assert!(with(&|a| a.reason.clear()).contains("say why"));
}

/// The council's term on the chain's entry `index`, which leaves all behind it beside the chain.
fn term_behind(site: &mut Site, index: usize) {
    let prev = site.mesh.authority.entries().nth(index - 1).map(|a| a.id);
    let hq = crate::charter::Seat { author: key(2).public(), spiffe_id: "spiffe://acme.test/coordinator/hq".into() };
    let ends = [Scope::authority(), Scope::mesh()].map(|scope| ChainEnd { scope, seq: 100, id: None }).to_vec();
    let term = Entry::Term(Term { n: 1, sequencer: hq, ends, root_keys: vec![] });
    let mut body = EntryBody::new(prev, index as u64 + 1, &term);
    [1, 12].iter().for_each(|n| body.sign(&site.mesh.authority.mesh(), &key(*n)));
    assert!(matches!(site.mesh.authority.apply_term(&body), TermOutcome::Began(_)));
}

#[test]
fn what_a_term_takes_out_of_the_chain_raises_nothing_and_what_it_took_back_stays_so() {
    let mut site = site();
    site.signed(autonomy(b"1", Some(grant(Level::L3))));
    let before = site.mesh.authority.index() as usize;
    site.signed(autonomy(b"1", None));
    site.signed(autonomy(b"2", Some(grant(Level::L3))));
    site.signed(lift(&[VETO]));
    site.hold();
    assert!(site.mesh.authority.lifted(&VETO).is_some());
    term_behind(&mut site, before);
    assert_eq!(site.mesh.authority.lifted(&VETO), None, "a lift is gone with its entry");
    let level = |build: &[u8]| site.mesh.authority.autonomy(&of(build), 1_000).map(|held| held.grant.level);
    assert_eq!((level(b"1"), level(b"2")), (None, None), "nobody holds again what the council took back");
}

#[test]
fn nobody_is_reassigned_from_before_it_is_cut_and_nothing_goes_to_strangers() {
    let mut site = site();
    let lyon = Some(key(3).author_id());
    assert_eq!(site.owner(), lyon);
    let entry = |r: Reassign| Entry::Reassign(Box::new(r));
    assert!(site.refused(entry(reassign(3, 4, Some(Fenced::Local)))).contains("has not been cut"));
    site.cut(3);
    assert_eq!(site.owner(), None);
    assert!(site.write(entry(reassign(3, 4, Some(Fenced::Local))), &[1]).is_some(), "one of two");
    assert!(site.refused(entry(reassign(4, 4, Some(Fenced::Local)))).contains("not the present owner"));
    assert!(site.refused(entry(reassign(3, 5, Some(Fenced::Local)))).contains("a node of site lyon"));
    assert!(site.refused(entry(reassign(3, 2, Some(Fenced::Local)))).contains("a node of site lyon"));
    assert!(site.refused(entry(reassign(3, 9, Some(Fenced::Local)))).contains("not enrolled"));
    assert!(site.refused(entry(reassign(3, 4, None))).contains("local, native or none"));
    let whole = Reassign { prefix: "lyon/lyon".into(), ..reassign(3, 4, Some(Fenced::Local)) };
    assert!(site.refused(entry(whole)).contains("<site>/<node>/<connector>"));
    site.signed(entry(reassign(3, 4, Some(Fenced::Local))));
    assert_eq!(site.owner(), None, "not held yet");
    site.hold();
    assert_eq!(site.owner(), Some(key(4).author_id()));
    let authority = &site.mesh.authority;
    let other = authority.owner_of_prefix("lyon/lyon/folder").map(|(author, _)| author);
    assert_eq!(other, None, "another connector of the cut node is nobody's");
    assert!(authority.ever_owned(&key(3).author_id(), PREFIX) && authority.ever_owned(&key(4).author_id(), PREFIX));
    assert!(!authority.ever_owned(&key(5).author_id(), PREFIX));
    assert!(site.refused(entry(reassign(3, 4, Some(Fenced::Local)))).contains("not the present owner"));
}

#[test]
fn without_fencing_two_people_say_that_the_old_machine_is_off() {
    let mut site = site();
    for (id, n) in [("ana", 50), ("bo", 51)] {
        let credentials = vec![Credential::of(key(n).public().into())];
        let person = Person { id: id.into(), name: id.into(), groups: vec![], credentials };
        site.signed(Entry::Person(person));
    }
    site.cut(3);
    let mesh = site.mesh.authority.mesh();
    let attested = |people: &[(&str, u8)]| {
        let mut unfenced = reassign(3, 4, Some(Fenced::None));
        people.iter().for_each(|(id, n)| unfenced.attest(&mesh, id, &key(*n)));
        Entry::Reassign(Box::new(unfenced))
    };
    for few in
        [&[][..], &[("ana", 50)], &[("ana", 50), ("ana", 50)], &[("ana", 50), ("bo", 50)], &[("ana", 50), ("eve", 51)]]
    {
        assert!(site.refused(attested(few)).contains("two people who attest"), "{few:?}");
    }
    let mut other = reassign(3, 4, Some(Fenced::None));
    other.prefix = "lyon/lyon/folder".into();
    [("ana", 50), ("bo", 51)].iter().for_each(|(id, n)| other.attest(&mesh, id, &key(*n)));
    other.prefix = PREFIX.into();
    assert!(
        site.refused(Entry::Reassign(Box::new(other))).contains("two people"),
        "their word was about something else"
    );
    site.signed(attested(&[("ana", 50), ("bo", 51)]));
    site.hold();
    assert_eq!(site.owner(), Some(key(4).author_id()));
    assert_eq!(site.mesh.authority.fencing_of(PREFIX), Some(Fenced::None));
}

#[test]
fn the_council_says_anew_what_fences_an_old_owner_of_the_same_move_alone() {
    let mut site = site();
    let entry = |r: Reassign| Entry::Reassign(Box::new(r));
    assert_eq!(site.mesh.authority.fencing_of(PREFIX), None);
    site.cut(3);
    site.signed(entry(reassign(3, 4, Some(Fenced::Native))));
    site.hold();
    assert_eq!(site.mesh.authority.fencing_of(PREFIX), Some(Fenced::Native));
    assert!(site.refused(entry(reassign(3, 4, Some(Fenced::Native)))).contains("not the present owner"), "as before");
    assert!(site.refused(entry(reassign(3, 4, Some(Fenced::None)))).contains("two people"), "nobody attested it");
    assert!(site.write(entry(reassign(3, 4, Some(Fenced::Local))), &[1]).is_some(), "one of two");
    site.signed(entry(reassign(3, 4, Some(Fenced::Local))));
    site.hold();
    let authority = &site.mesh.authority;
    assert_eq!((authority.fencing_of(PREFIX), site.owner()), (Some(Fenced::Local), Some(key(4).author_id())));
    assert_eq!(authority.fencing_of("lyon/lyon/folder"), None);
}

#[test]
fn an_owner_hands_over_by_its_own_word_and_nobody_elses() {
    let mut site = site();
    let by_another = site.handover(4, 1, 4);
    assert!(site.write(Entry::Reassign(Box::new(by_another)), &[]).expect("refused").contains("not by the owner"));
    let good = site.handover(3, 1, 4);
    let mut elsewhere = good.clone();
    elsewhere.to = life(3);
    assert!(site.write(Entry::Reassign(Box::new(elsewhere)), &[]).expect("refused").contains("another next owner"));
    let mut unwilling = good.clone();
    unwilling.handover.as_mut().expect("one").accept =
        site.fact(3, 2, KIND_TAKEOVER, &Accept { offer: SOME }).sealed().clone();
    assert!(site.write(Entry::Reassign(Box::new(unwilling)), &[]).expect("refused").contains("not by the next owner"));
    let mut of_another = good.clone();
    of_another.handover.as_mut().expect("one").accept =
        site.fact(4, 2, KIND_TAKEOVER, &Accept { offer: SOME }).sealed().clone();
    assert!(site.write(Entry::Reassign(Box::new(of_another)), &[]).expect("refused").contains("of another offer"));
    assert_eq!(site.owner(), Some(key(3).author_id()));
    assert_eq!(site.write(Entry::Reassign(Box::new(good.clone())), &[]), None);
    site.hold();
    assert_eq!(site.owner(), Some(key(4).author_id()));
    // Back again, by the next owner's word; then the old offer is worth nothing.
    let back = site.handover(4, 3, 3);
    let back = Reassign { from: life(4), ..back };
    assert_eq!(site.write(Entry::Reassign(Box::new(back)), &[]), None);
    assert!(site.write(Entry::Reassign(Box::new(good)), &[]).expect("refused").contains("spent already"));
    let later = site.handover(3, 4, 4);
    site.cut(3);
    assert!(site.write(Entry::Reassign(Box::new(later)), &[]).expect("refused").contains("whoever was cut"));
}

#[test]
fn an_offer_binds_its_author_until_it_is_spent_or_another_takes_it_back() {
    let mut site = site();
    let fact = |site: &Site, seq: u64, to: u8| {
        let offer = Offer { prefix: PREFIX.into(), to: life(to) };
        let prev = (seq > 1).then_some(SOME);
        let scope = Scope::site("lyon").expect("a name");
        seal(&key(3), site.mesh.authority.mesh(), scope, seq, prev, KIND_HANDOVER, &offer)
    };
    let offer = fact(&site, 1, 4);
    let open = |site: &Site, fact: &Fact| site.mesh.authority.offer_is_open(fact.header(), fact.id(), PREFIX);
    assert!(open(&site, &offer));
    // To itself: the offer before it can no longer be accepted.
    let back = site.handover(3, 2, 3);
    assert_eq!(site.write(Entry::Reassign(Box::new(back)), &[]), None);
    site.hold();
    assert!(!open(&site, &offer));
    assert_eq!(site.owner(), Some(key(3).author_id()));
    let late = site.handover(3, 1, 4);
    assert!(site.write(Entry::Reassign(Box::new(late)), &[]).expect("refused").contains("spent already"));
    let next = fact(&site, 3, 4);
    assert!(open(&site, &next));
    let mesh = site.mesh.authority.mesh();
    assert_eq!(site.mesh.write(&Entry::Incarnate(Incarnate::new(&mesh, &key(3), 1, vec![])), &[]), None);
    assert!(!open(&site, &next), "another life of its author never gave it");
}

#[test]
fn a_term_gives_nothing_to_a_third_while_somebody_may_act_on_a_move_that_it_took_out() {
    let mut site = site();
    let id = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon-3").expect("valid id");
    let enrol = Enrol::new(&site.mesh.authority.mesh(), &key(6), &id);
    site.signed(Entry::Enrol(enrol));
    site.cut(3);
    let before = site.mesh.authority.index() as usize;
    site.signed(Entry::Reassign(Box::new(reassign(3, 4, Some(Fenced::Local)))));
    site.hold();
    assert_eq!(site.owner(), Some(key(4).author_id()));
    term_behind(&mut site, before);
    assert_eq!(site.owner(), None);
    assert!(site.mesh.authority.ever_owned(&key(4).author_id(), PREFIX), "what it started there was started");
    let body = |to: u8| {
        let entry = Entry::Reassign(Box::new(reassign(3, to, Some(Fenced::Local))));
        let authority = &site.mesh.authority;
        let mut body = EntryBody::new(authority.head(), authority.index() + 1, &entry);
        [1, 12].iter().for_each(|n| body.sign(&authority.mesh(), &key(*n)));
        body
    };
    let why = site.mesh.authority.would_accept(&body(6)).expect_err("lyon-2 may not have heard of the term");
    assert!(why.contains("name that node, or cut it first"), "{why}");
    assert_eq!(site.mesh.authority.would_accept(&body(4)), Ok(()));
}
