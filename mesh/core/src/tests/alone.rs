//! One core, and what a test has its peers say.

use cauldron_identity::{AuthorKey, Clock, Confidence, MeshId};

use super::{member, members};
use crate::limits::{BELIEVED_MS, CLOCK_STEP_MS, REFRESH_MS};
use crate::statement::{Announce, Sealed, Statement};
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
    let announce = Announce {
        author: key.author_id(),
        n,
        as_of_ms,
        leaving: false,
        addresses: vec![],
        region: String::new(),
        hub: false,
        gateway: false,
        outside: false,
    };
    Statement::Announce(announce).seal(&key, &mesh())
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
