//! What goes over a link first: restrictions, votes and decisions, proposals, documents, telemetry.
//!
//! A queue of one link in front of its transport. It hands over one window of bytes at a time, because what the transport has
//! taken cannot be overtaken any more; the window follows how fast the transport gets rid of it. Between lanes the more urgent
//! one goes first. A lane below the restrictions that was passed over for long goes before its turn, so that documents and
//! presence do not stand still behind a flood of proposals: whoever decides on documents that are a day old decides wrongly,
//! and nobody gains by that. Within a lane scopes take turns by bytes.

mod fair;
mod meter;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use cauldron_identity::{AuthorId, Scope, planted};

use fair::Fair;
pub use meter::{BUDGET_MIN, Budget, Meter};

/// What waits for one link, bytes; what the transport itself may hold was the same before there were lanes.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames that wait for one link: each takes some 200 bytes beside its content.
pub const QUEUE_FRAMES_MAX: usize = 8_192;
/// The largest window: a peer's stream takes as much, and at 16 MiB/s a core that reports every 16 ms keeps it full.
pub const WINDOW_MAX: usize = 256 * 1024;
/// The smallest window: a quarter of a second at 1 Mbit/s.
pub const WINDOW_MIN: usize = 32 * 1024;
/// A frame that the transport holds for longer than this halves the window, milliseconds; a quarter of it doubles a full one.
pub const SLOW_MS: u64 = 250;
/// Answers smaller than this are not worth their envelope, bytes: documents wait until there is so much room.
pub const ROOM_MIN: usize = 4 * 1024;
/// Of so many bytes that go by while a lane waits, it gets one.
pub const SHARE: usize = 16;

/// How urgent a frame is; the order is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What restricts, and the authority chain.
    Restrictions,
    /// Votes, decisions and what follows from them; what keeps the link itself.
    Votes,
    /// What agents propose.
    Proposals,
    /// Documents, and facts of kinds that this build does not know.
    Documents,
    /// Who is there: said again when it is lost.
    Telemetry,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Restrictions, Self::Votes, Self::Proposals, Self::Documents, Self::Telemetry];

    /// The lane of a number that counts from 0, the most urgent.
    #[must_use]
    pub fn of_rank(rank: u8) -> Self {
        Self::ALL.get(usize::from(rank)).copied().unwrap_or(Self::Documents)
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn rank(self) -> u8 {
        self as u8
    }

    /// Whether a budget that is used up holds it back.
    #[must_use]
    pub fn is_bulk(self) -> bool {
        self >= Self::Proposals
    }

    /// Its name, for status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restrictions => "restrictions",
            Self::Votes => "votes",
            Self::Proposals => "proposals",
            Self::Documents => "documents",
            Self::Telemetry => "telemetry",
        }
    }
}

/// What a frame is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its lane.
    pub lane: Lane,
    /// Whose turn it takes.
    pub scope: Option<Scope>,
    /// The author and life whose chain in this scope it belongs to, where it carries facts of one.
    pub writer: Option<(AuthorId, u32)>,
}

impl About {
    /// A frame of no scope.
    #[must_use]
    pub const fn of(lane: Lane) -> Self {
        Self { lane, scope: None, writer: None }
    }
}

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    scope: Option<Scope>,
    writer: Option<(AuthorId, u32)>,
    bytes: Vec<u8>,
    since_ms: u64,
    number: u64,
}

/// The queue is full of what cannot be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What one lane holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub lane: Lane,
    /// Frames that wait.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Since when the oldest of them waits, boot time in milliseconds.
    pub since_ms: Option<u64>,
    /// Bytes handed to the transport since the link came up.
    pub sent_bytes: u64,
}

/// The queue of one link.
#[derive(Debug)]
pub struct Lanes {
    lanes: [Fair; 5],
    sent: [u64; 5],
    /// What went by while each lane waited, bytes.
    passed: [usize; 5],
    /// What the transport holds: when it was handed over, and its length.
    handed: VecDeque<(u64, usize)>,
    in_flight: usize,
    /// What the transport got rid of of the first of these.
    drained: usize,
    window: usize,
    window_max: usize,
    /// Something waited for the window.
    short: bool,
    next_number: u64,
    dropped: u64,
}

impl Lanes {
    /// An empty queue whose window grows to `window_max` bytes: [`WINDOW_MAX`] unless a test wants less.
    #[must_use]
    pub fn new(window_max: usize) -> Self {
        Self {
            lanes: Default::default(),
            sent: [0; 5],
            passed: [0; 5],
            handed: VecDeque::new(),
            in_flight: 0,
            drained: 0,
            window: window_max.min(WINDOW_MAX / 4),
            window_max,
            short: false,
            next_number: 0,
            dropped: 0,
        }
    }

    /// Queues a frame. Frames of the same chain that wait in less urgent lanes go before it, in its lane: a chain stays in
    /// order.
    ///
    /// # Errors
    /// [`Full`]; telemetry is dropped instead.
    pub fn push(&mut self, now_ms: u64, about: About, bytes: Vec<u8>) -> Result<(), Full> {
        while !self.takes(bytes.len()) {
            if self.of_mut(Lane::Telemetry).pop().is_none() {
                return if about.lane == Lane::Telemetry { Ok(()) } else { Err(Full) };
            }
            self.dropped += 1;
        }
        let About { lane, scope, writer } = about;
        if writer.is_some() {
            for behind in Lane::ALL.into_iter().filter(|other| *other > lane) {
                let moved = self.of_mut(behind).take_chain(&scope, &writer);
                moved.into_iter().for_each(|waiting| self.of_mut(lane).push(waiting));
            }
        }
        self.next_number += 1;
        let number = self.next_number;
        self.of_mut(lane).push(Waiting { scope, writer, bytes, since_ms: now_ms, number });
        Ok(())
    }

    /// The next frame for the transport, unless its window is full, nothing waits, or what waits is more than `meter` allows. It
    /// counts as handed over, and against the meter.
    pub fn next(&mut self, now_ms: u64, mut meter: Option<&mut Meter>) -> Option<(Lane, Vec<u8>)> {
        if self.in_flight >= self.window {
            self.short |= !self.is_empty();
            return None;
        }
        let lane = self.turn(now_ms, meter.as_deref_mut())?;
        let waiting = self.of_mut(lane).pop()?;
        let len = waiting.bytes.len();
        if let Some(meter) = meter {
            meter.charge(now_ms, len);
        }
        for behind in Lane::ALL.into_iter().filter(|behind| *behind > lane && lane != Lane::Restrictions) {
            let waits = !self.of_mut(behind).is_empty();
            if let Some(passed) = self.passed.get_mut(usize::from(behind.rank())).filter(|_| waits) {
                *passed += len;
            }
        }
        let at = usize::from(lane.rank());
        (self.passed[at], self.sent[at]) = (0, self.sent[at] + len as u64);
        self.handed.push_back((now_ms, len));
        self.in_flight += len;
        Some((lane, waiting.bytes))
    }

    /// The lane whose turn it is.
    fn turn(&mut self, now_ms: u64, mut meter: Option<&mut Meter>) -> Option<Lane> {
        if planted::active("lanes-ignored") {
            return Lane::ALL.into_iter().min_by_key(|lane| self.of_mut(*lane).oldest().unwrap_or(u64::MAX));
        }
        let mut may = |lanes: &mut Self, lane: Lane| {
            let len = lanes.of_mut(lane).front_len()?;
            meter.as_deref_mut().is_none_or(|meter| meter.may(now_ms, lane, len)).then_some(len)
        };
        if !self.lanes[0].is_empty() {
            return Some(Lane::Restrictions);
        }
        let below = [Lane::Proposals, Lane::Documents, Lane::Telemetry];
        let owed = below.into_iter().find(|lane| {
            let passed = self.passed[usize::from(lane.rank())];
            may(self, *lane).is_some_and(|len| passed >= (SHARE - 1) * len)
        });
        owed.or_else(|| Lane::ALL.into_iter().find(|lane| may(self, *lane).is_some()))
    }

    /// The transport got rid of so many bytes, in the order in which they were handed over.
    pub fn drained(&mut self, now_ms: u64, bytes: usize) {
        self.drained = self.drained.saturating_add(bytes);
        while let Some((at_ms, len)) = self.handed.front().copied().filter(|(_, len)| *len <= self.drained) {
            self.handed.pop_front();
            self.drained -= len;
            self.in_flight -= len;
            let took_ms = now_ms.saturating_sub(at_ms);
            if took_ms > SLOW_MS {
                self.window = (self.window / 2).max(WINDOW_MIN).min(self.window_max);
            } else if took_ms < SLOW_MS / 4 && self.short {
                (self.window, self.short) = ((self.window * 2).min(self.window_max), false);
            }
        }
        if self.handed.is_empty() {
            self.drained = 0;
        }
    }

    /// Bytes that producers of `lane` may still queue. Of documents that is what goes within the next window: the rest stays
    /// in the store.
    pub fn room(&mut self, now_ms: u64, lane: Lane, meter: Option<&mut Meter>) -> usize {
        let held = self.bytes(lane);
        match lane {
            // Nobody less urgent takes any of it.
            Lane::Restrictions | Lane::Votes => {
                let urgent = self.bytes(Lane::Restrictions) + self.bytes(Lane::Votes);
                return (QUEUE_BYTES_MAX / 2).saturating_sub(urgent);
            }
            Lane::Proposals => return (QUEUE_BYTES_MAX / 4).saturating_sub(held),
            Lane::Documents | Lane::Telemetry => {}
        }
        let room = self.window.saturating_sub(held);
        let allowed = meter.map_or(usize::MAX, |meter| meter.left(now_ms, lane).saturating_sub(held));
        Some(room.min(allowed)).filter(|room| *room >= ROOM_MIN.min(self.window)).unwrap_or(0)
    }

    /// When `meter` allows what waits, or documents at all where nothing does; none while it holds nothing back.
    pub fn wake_ms(&mut self, now_ms: u64, meter: &mut Meter) -> Option<u64> {
        let bulk = Lane::ALL.into_iter().filter(|lane| lane.is_bulk());
        let waits = bulk.filter_map(|lane| self.of_mut(lane).front_len().map(|len| (lane, len)));
        let soonest = waits.map(|(lane, len)| meter.wait_ms(now_ms, lane, len)).min();
        soonest.filter(|wait| *wait > 0).map(|wait| now_ms.saturating_add(wait))
    }

    /// Drops what waits and is not to leave any more; `keep` sees each frame with its scope.
    pub fn retain(&mut self, keep: impl Fn(Option<&Scope>, &[u8]) -> bool) {
        self.lanes.iter_mut().for_each(|lane| lane.retain(&keep));
    }

    /// What each lane holds.
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        Lane::ALL.into_iter().zip(&self.lanes).zip(self.sent).map(|((lane, fair), sent_bytes)| Held {
            lane,
            frames: fair.frames(),
            bytes: fair.bytes(),
            since_ms: fair.since_ms(),
            sent_bytes,
        })
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Fair::is_empty)
    }

    /// Frames of telemetry that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn bytes(&self, lane: Lane) -> usize {
        self.lanes[usize::from(lane.rank())].bytes()
    }

    fn of_mut(&mut self, lane: Lane) -> &mut Fair {
        &mut self.lanes[usize::from(lane.rank())]
    }

    fn takes(&self, len: usize) -> bool {
        let (bytes, frames) = self.lanes.iter().fold((0, 0), |(b, f), lane| (b + lane.bytes(), f + lane.frames()));
        bytes + len <= QUEUE_BYTES_MAX && frames < QUEUE_FRAMES_MAX
    }
}
