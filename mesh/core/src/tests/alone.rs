//! One core, and what a test has its peers say.

use cauldron_identity::{AuthorId, AuthorKey, Clock, Confidence, MeshId};

use super::{member, members};
use crate::limits::{
    ANNOUNCES_BURST, BELIEVED_MS, CLOCK_STEP_MS, REFRESH_MS, REGIONS_MAX, SIGHTINGS_BURST, SIGHTINGS_BURST_HUB,
};
use crate::statement::{Announce, Sealed, Sighting, Statement};
use crate::wire::Frame;
use crate::{Config, Input, MeshCore, Output, State};

const WALL_MS: u64 = 1_764_500_000_000;
const SITE: [&str; 3] = ["lyon/a", "lyon/b", "lyon/c"];

fn mesh() -> MeshId {
    MeshId::of("test", b"mesh")
}

/// `lyon/a` by itself.
struct Alone {
    key: AuthorKey,
    core: MeshCore,
    now: Clock,
}

impl Alone {
    fn new() -> Self {
        super::planted();
        let key = member("lyon/a").0;
        let core = MeshCore::new(key.author_id(), mesh(), Config::default(), [7; 32]);
        let now = Clock { wall_ms: WALL_MS, boottime_ms: 1_000, confidence: Confidence::Local };
        let mut alone = Self { key, core, now };
        alone.give(Input::Members(members(&SITE)));
        alone
    }

    /// Takes an input in; what comes out.
    fn give(&mut self, input: Input<'_>) -> Vec<Output> {
        self.core.handle(&self.key, &self.now, input);
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    /// A peer says something on link 1.
    fn hear(&mut self, statements: Vec<Sealed>) -> Vec<Output> {
        let bytes = Frame { statements: Some(statements), ..Frame::default() }.encode();
        self.give(Input::Frame { link: 1, bytes: &bytes })
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.boottime_ms + ms;
        while self.core.wake_ms() <= until {
            let step = self.core.wake_ms() - self.now.boottime_ms;
            (self.now.boottime_ms, self.now.wall_ms) = (self.now.boottime_ms + step, self.now.wall_ms + step);
            self.give(Input::Tick);
        }
        let step = until - self.now.boottime_ms;
        (self.now.boottime_ms, self.now.wall_ms) = (until, self.now.wall_ms + step);
    }

    fn seen(&self, name: &str) -> State {
        self.core.presence(&member(name).0.author_id(), &self.now).state
    }
}

/// What a node says of itself, somewhere that nobody can dial.
fn announce(name: &str, n: u64, as_of_ms: u64) -> Sealed {
    let (key, _) = member(name);
    Statement::Announce(of(key.author_id(), n, as_of_ms)).seal(&key, &mesh())
}

fn of(author: AuthorId, n: u64, as_of_ms: u64) -> Announce {
    Announce {
        author,
        n,
        as_of_ms,
        leaving: false,
        addresses: vec![],
        region: String::new(),
        hub: false,
        gateway: false,
        outside: false,
    }
}

#[test]
fn hearsay_is_believed_for_an_hour_after_it_was_made() {
    let mut a = Alone::new();
    a.give(Input::LinkUp { link: 1, peer: member("lyon/b").0.author_id() });
    a.hear(vec![announce("lyon/c", 5, WALL_MS - REFRESH_MS)]);
    assert_eq!(a.seen("lyon/c"), State::Alive);
    a.wait(BELIEVED_MS - REFRESH_MS - 2_000);
    assert_eq!(a.seen("lyon/c"), State::Alive, "its next word may be under way");
    a.wait(4_000);
    assert_eq!(a.seen("lyon/c"), State::Unreachable);
    a.hear(vec![announce("lyon/c", 6, a.now.wall_ms)]);
    assert_eq!(a.seen("lyon/c"), State::Alive);
}

#[test]
fn a_step_of_the_own_clock_makes_nobody_older() {
    let mut a = Alone::new();
    a.give(Input::LinkUp { link: 1, peer: member("lyon/b").0.author_id() });
    a.hear(vec![announce("lyon/c", 5, WALL_MS)]);
    a.now.wall_ms += 2 * BELIEVED_MS;
    assert_eq!(a.seen("lyon/c"), State::Alive);
}

#[test]
fn a_forged_word_of_a_gateway_brings_nobody_what_it_may_not_hear() {
    let mut a = in_a_site();
    let evil = member("graz/evil").0;
    a.give(Input::Members(members(&[&MANY[..], &["graz/evil"]].concat())));
    a.hear(vec![announce("lyon/c", 5, WALL_MS)]);
    a.give(Input::LinkUp { link: 2, peer: evil.author_id() });
    a.wait(2_000);
    let author = member("lyon/c").0.author_id();
    let said = Announce { gateway: true, ..of(author, 1, WALL_MS) };
    let forged = Statement::Announce(said).seal(&evil, &mesh());
    let bytes = Frame { statements: Some(vec![forged]), ..Frame::default() }.encode();
    let out = a.give(Input::Frame { link: 2, bytes: &bytes });
    assert!(out.iter().any(|o| matches!(o, Output::Close { link: 2, .. })), "{out:?}");
    assert!(frames(out).iter().all(|frame| frame.statements.is_none()), "nothing is said in return");
}

#[test]
fn a_clock_that_was_set_is_a_reason_to_say_anew() {
    let mut a = Alone::new();
    a.give(Input::LinkUp { link: 1, peer: member("lyon/b").0.author_id() });
    a.wait(120_000);
    let before = a.core.said().expect("said").clone();
    a.now.wall_ms += CLOCK_STEP_MS / 2;
    a.wait(30_000);
    assert_eq!(a.core.said(), Some(&before), "a little does not matter");
    a.now.wall_ms += 3_600_000;
    a.wait(30_000);
    let after = a.core.said().expect("said");
    assert!(after.n == before.n + 1 && after.as_of_ms >= before.as_of_ms + 3_600_000, "{after:?}");
}

fn sighting(observer: &str, subject: &str, n: u64, as_of_ms: u64) -> Sealed {
    let (key, subject) = (member(observer).0, member(subject).0.author_id());
    Statement::Sighting(Sighting { observer: key.author_id(), subject, n, as_of_ms }).seal(&key, &mesh())
}

/// Frames that go out on link 1, each as what it has in it.
fn frames(outputs: Vec<Output>) -> Vec<Frame> {
    let bytes = outputs.into_iter().filter_map(|output| match output {
        Output::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    bytes.map(|bytes| Frame::decode(&bytes).expect("a frame")).collect()
}

const MANY: [&str; 6] = ["hq", "lyon/a", "lyon/b", "lyon/c", "lyon/d", "lyon/e"];

/// `lyon/a`, linked with `lyon/b`, in a larger site.
fn in_a_site() -> Alone {
    let mut a = Alone::new();
    a.give(Input::Members(members(&MANY)));
    a.give(Input::LinkUp { link: 1, peer: member("lyon/b").0.author_id() });
    a
}

#[test]
fn whoever_heard_the_same_knows_the_same_in_whatever_order_it_came() {
    let of_others = || ["lyon/b", "lyon/d", "lyon/e", "hq"].map(|observer| sighting(observer, "lyon/c", 5, WALL_MS));
    // Two announcements of one number are a copy's work; one of them is everybody's.
    let (one, other) = (announce("lyon/d", 8, WALL_MS), announce("lyon/d", 8, WALL_MS + 1));
    let mut orders = vec![];
    for turn in 0..4 {
        let mut a = in_a_site();
        let mut told = of_others();
        told.rotate_left(turn);
        let copies = if turn % 2 == 0 { [one.clone(), other.clone()] } else { [other.clone(), one.clone()] };
        a.hear([vec![announce("lyon/c", 5, WALL_MS)], told.to_vec(), copies.to_vec()].concat());
        let known = a.core.known_with(&member("lyon/b").0.author_id());
        assert_eq!(known.len(), 1 + 1 + 2 + 1, "itself, lyon/c, two who lost it, and lyon/d");
        a.core.known_with(&member("lyon/b").0.author_id()).iter().for_each(|mark| assert!(*mark > 0));
        // What it says of itself is as old as it is: the same here.
        orders.push(known);
    }
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]), "{orders:?}");
}

#[test]
fn digests_that_agree_cost_one_frame_in_minutes_and_a_difference_is_seen_soon() {
    let mut a = in_a_site();
    a.wait(5_000);
    let mut sent = 0;
    // The peer knows the same and agrees; neither says more than the other.
    let until = a.now.boottime_ms + 3_600_000;
    while a.now.boottime_ms < until {
        let step = a.core.wake_ms().min(until) - a.now.boottime_ms;
        (a.now.boottime_ms, a.now.wall_ms) = (a.now.boottime_ms + step, a.now.wall_ms + step);
        sent += frames(a.give(Input::Tick)).iter().filter(|f| f.digest.is_some()).count();
    }
    assert!((10..=20).contains(&sent), "{sent} digests in an hour");
    // The peer names what it has, which is nothing: the next comparison is soon.
    let have = crate::wire::Have { buckets: u32::MAX, marks: vec![] };
    let bytes = Frame { have: Some(have), ..Frame::default() }.encode();
    let told = frames(a.give(Input::Frame { link: 1, bytes: &bytes }));
    assert!(told.iter().any(|f| f.statements.as_ref().is_some_and(|s| s.len() == 1)), "{told:?}");
    let before = a.now.boottime_ms;
    loop {
        let step = a.core.wake_ms() - a.now.boottime_ms;
        (a.now.boottime_ms, a.now.wall_ms) = (a.now.boottime_ms + step, a.now.wall_ms + step);
        if frames(a.give(Input::Tick)).iter().any(|f| f.digest.is_some()) {
            break;
        }
    }
    assert!(a.now.boottime_ms - before <= 30_000, "{} ms", a.now.boottime_ms - before);
}

#[test]
fn repetitions_spend_nothing_and_news_of_one_author_are_bounded() {
    let mut a = in_a_site();
    for _ in 0..100 {
        a.hear(vec![
            announce("lyon/c", 5, WALL_MS),
            sighting("hq", "lyon/c", 5, WALL_MS),
            sighting("hq", "lyon/c", 4, WALL_MS),
        ]);
    }
    assert_eq!(a.core.stats().dropped, 0);
    for n in 6..100 {
        a.hear(vec![announce("lyon/c", n, WALL_MS)]);
    }
    assert_eq!(a.core.announced(&member("lyon/c").0.author_id()).expect("known").n, 5 + ANNOUNCES_BURST - 1);
    a.wait(60_000);
    a.hear(vec![announce("lyon/c", 100, WALL_MS)]);
    assert_eq!(a.core.announced(&member("lyon/c").0.author_id()).expect("known").n, 100);
}

#[test]
fn a_coordinator_may_lose_many_at_once_and_a_node_a_site() {
    for (observer, most) in [("hq", SIGHTINGS_BURST_HUB), ("lyon/d", SIGHTINGS_BURST)] {
        let mut a = in_a_site();
        a.hear(vec![announce("lyon/c", 5, WALL_MS)]);
        let before = a.core.stats().new;
        for at in 0..most + 20 {
            a.hear(vec![sighting(observer, "lyon/c", 5, WALL_MS + at)]);
        }
        assert_eq!(a.core.stats().new - before, most, "{observer}");
    }
}

#[test]
fn names_of_regions_are_bounded() {
    let mut spread = crate::spread::Spread::default();
    for n in 0..1_000 {
        spread.region(&format!("r{n}"), 0);
    }
    assert!(spread.region_names() <= REGIONS_MAX + 1);
}

#[test]
fn who_is_no_member_any_more_has_nothing_to_say_and_sleeps() {
    let mut a = in_a_site();
    a.wait(REFRESH_MS - 60_000);
    a.hear(vec![sighting("hq", "lyon/a", a.core.said().expect("said").n, WALL_MS)]);
    a.give(Input::Members(members(&["hq", "lyon/b", "lyon/c"])));
    assert_eq!(a.core.said(), None);
    let mut woken = 0;
    let until = a.now.boottime_ms + 2 * REFRESH_MS;
    while a.core.wake_ms() <= until {
        let step = a.core.wake_ms() - a.now.boottime_ms;
        a.now.boottime_ms += step;
        a.give(Input::Tick);
        woken += 1;
    }
    assert!(woken < 500, "woken {woken} times in an hour");
    a.give(Input::Members(members(&MANY)));
    assert!(a.core.said().is_some(), "and speaks again when it is one");
}

#[test]
fn two_copies_of_one_node_answer_each_other_more_seldom_each_time() {
    let mut a = in_a_site();
    let mut answers = 0;
    let until = a.now.boottime_ms + 3_600_000;
    let mut last = a.core.said().expect("said").n;
    while a.now.boottime_ms < until {
        // The copy is as quick as it can be.
        a.wait(1_000);
        let said = a.core.said().expect("said").n;
        if said > last {
            answers += 1;
            last = said + 1;
            a.hear(vec![announce("lyon/a", last, a.now.wall_ms)]);
        } else if answers == 0 {
            a.hear(vec![announce("lyon/a", last + 1, a.now.wall_ms)]);
        }
    }
    assert!((5..=20).contains(&answers), "{answers} in an hour");
}

#[test]
fn the_first_address_and_relays_have_room_among_many() {
    let mut a = in_a_site();
    let many = (0..20).map(|n| format!("192.0.2.{n}:7443")).chain(["via spiffe://mesh.test/coordinator/hq".to_owned()]);
    a.give(Input::Addresses(many.collect()));
    a.wait(2_000);
    let told = &a.core.said().expect("said").addresses;
    assert_eq!((told.len(), told[0].as_str()), (8, "192.0.2.0:7443"));
    assert_eq!(told[7], "via spiffe://mesh.test/coordinator/hq");
    a.give(Input::Addresses((0..20).map(|n| format!("via spiffe://mesh.test/coordinator/c{n}")).collect()));
    a.wait(2_000);
    assert_eq!(a.core.said().expect("said").addresses.len(), 8);
}

#[test]
fn who_hears_from_many_what_it_said_before_its_restart_answers_once_and_soon() {
    let mut a = in_a_site();
    let before = announce("lyon/a", a.core.said().expect("said").n + 1_000_000, WALL_MS + 1_000_000);
    for _ in 0..30 {
        a.hear(vec![before.clone()]);
    }
    a.wait(1_500);
    assert_eq!(a.core.said().expect("said").n, WALL_MS + 1_000_001);
    a.wait(60_000);
    assert_eq!(a.core.said().expect("said").n, WALL_MS + 1_000_001);
}
