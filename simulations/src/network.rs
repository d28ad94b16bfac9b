//! The wires: sessions between two machines, ordered and reliable while they live, as QUIC streams are. What a network
//! does to them is: latency, silence in one direction or both, and the end of the session with everything in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_node_core::LinkId;

use crate::queue::Ms;

/// Index of a machine in the world.
pub type Place = usize;

/// What travels in one direction.
#[derive(Debug, Clone)]
pub enum Item {
    /// The session begins for the receiver.
    Up,
    /// A frame, and the newest moment at hq of which its sender knew.
    Frame {
        /// The bytes.
        bytes: Vec<u8>,
        /// Virtual time.
        fresh_at: Ms,
    },
}

/// One direction of a session.
#[derive(Debug, Default)]
pub struct Lane {
    /// In order, each with the time before which it does not arrive.
    pub items: VecDeque<(Ms, Item)>,
    /// Until when a thin link is busy with what was sent before.
    pub busy_until: Ms,
    /// The receiver was told that the session is up.
    pub announced: bool,
}

/// A connection between two machines.
#[derive(Debug)]
pub struct Session {
    /// The machines; lane 0 goes from the first to the second.
    pub ends: [Place; 2],
    /// Both directions.
    pub lanes: [Lane; 2],
}

/// Every session, and which directions are silent.
#[derive(Debug, Default)]
pub struct Network {
    sessions: BTreeMap<LinkId, Session>,
    by_pair: BTreeMap<(Place, Place), LinkId>,
    next_link: LinkId,
    silent: BTreeMap<(Place, Place), u32>,
    pairs: BTreeSet<(Place, Place)>,
}

/// The two machines of a pair, lower place first.
#[must_use]
pub fn pair(a: Place, b: Place) -> (Place, Place) {
    (a.min(b), a.max(b))
}

impl Network {
    /// These two talk to each other whenever they can.
    pub fn connect(&mut self, a: Place, b: Place) {
        self.pairs.insert(pair(a, b));
    }

    /// Pairs that talk.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Place, Place)> {
        self.pairs.iter().copied().collect()
    }

    /// Whether these two talk whenever they can.
    #[must_use]
    pub fn is_pair(&self, a: Place, b: Place) -> bool {
        self.pairs.contains(&pair(a, b))
    }

    /// Pairs of one machine.
    pub fn pairs_of(&self, place: Place) -> impl Iterator<Item = (Place, Place)> {
        self.pairs.iter().copied().filter(move |(a, b)| *a == place || *b == place)
    }

    /// The living session of two machines.
    #[must_use]
    pub fn between(&self, a: Place, b: Place) -> Option<LinkId> {
        self.by_pair.get(&pair(a, b)).copied()
    }

    /// Begins a session.
    pub fn open(&mut self, dialler: Place, listener: Place) -> LinkId {
        self.next_link += 1;
        let session = Session { ends: [dialler, listener], lanes: Default::default() };
        self.sessions.insert(self.next_link, session);
        self.by_pair.insert(pair(dialler, listener), self.next_link);
        self.next_link
    }

    /// A name for a link that belongs to no session between machines.
    pub fn strange_link(&mut self) -> LinkId {
        self.next_link += 1;
        self.next_link
    }

    /// A session, if it lives.
    #[must_use]
    pub fn session(&self, link: LinkId) -> Option<&Session> {
        self.sessions.get(&link)
    }

    /// A session, if it lives.
    pub fn session_mut(&mut self, link: LinkId) -> Option<&mut Session> {
        self.sessions.get_mut(&link)
    }

    /// Ends a session; what was in flight is gone.
    pub fn end(&mut self, link: LinkId) -> Option<Session> {
        let session = self.sessions.remove(&link)?;
        self.by_pair.remove(&pair(session.ends[0], session.ends[1]));
        Some(session)
    }

    /// Sessions of one machine.
    #[must_use]
    pub fn links_of(&self, place: Place) -> Vec<LinkId> {
        self.sessions.iter().filter(|(_, s)| s.ends.contains(&place)).map(|(link, _)| *link).collect()
    }

    /// All sessions.
    #[must_use]
    pub fn links(&self) -> Vec<LinkId> {
        self.sessions.keys().copied().collect()
    }

    /// Nothing passes from `a` to `b` any more, or it passes again. Silences add up.
    pub fn silence(&mut self, a: Place, b: Place, silent: bool) {
        let count = self.silent.entry((a, b)).or_default();
        *count = if silent { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Every silence ends.
    pub fn all_heard(&mut self) {
        self.silent.clear();
    }

    /// Whether nothing passes from `a` to `b`.
    #[must_use]
    pub fn is_silent(&self, a: Place, b: Place) -> bool {
        self.silent.get(&(a, b)).is_some_and(|count| *count > 0)
    }

    /// Whether both directions pass.
    #[must_use]
    pub fn is_open(&self, a: Place, b: Place) -> bool {
        !self.is_silent(a, b) && !self.is_silent(b, a)
    }
}

impl Session {
    /// The direction in which `sender` speaks.
    #[must_use]
    pub fn lane_from(&self, sender: Place) -> usize {
        usize::from(self.ends[0] != sender)
    }

    /// Who hears lane `lane`.
    #[must_use]
    pub fn receiver(&self, lane: usize) -> Place {
        self.ends[1 - lane]
    }
}
