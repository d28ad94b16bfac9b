//! Whom this node lost, and whether that is for others to know.
//!
//! A loss is told once, a moment after it happened, and from then on stands on the board. It is not told when the link was to end,
//! when others told it first, or when this node lost everybody: then it was this node that was cut off.

use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, AuthorKey, planted};

use crate::core::MeshCore;
use crate::limits::{CUT_OFF_MS, DOUBT_MS, LOST_MS, OBSERVERS_MAX, SIGHT_AFTER_MS};
use crate::statement::{Sighting, Statement};

/// A peer whose link was lost: when, and whether that was said or is not to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
    settled: bool,
}

/// What this node lost.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    lost: BTreeMap<AuthorId, Lost>,
    /// Since when this node has had any link; none while it has none.
    linked_since_ms: Option<u64>,
}

impl Losses {
    pub(crate) fn of(&self, peer: &AuthorId) -> Option<&Lost> {
        self.lost.get(peer)
    }

    pub(crate) fn retain(&mut self, member: impl Fn(&AuthorId) -> bool) {
        self.lost.retain(|peer, _| member(peer));
    }

    /// A link to `peer` is up.
    pub(crate) fn found(&mut self, peer: &AuthorId, now_ms: u64) {
        self.lost.remove(peer);
        self.linked_since_ms.get_or_insert(now_ms);
    }

    /// When something is due, boot time in milliseconds; nothing is while there is nobody to be told.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let since_ms = self.linked_since_ms?;
        self.lost.values().map(|lost| lost.due_ms(since_ms)).min()
    }
}

impl Lost {
    /// When it is told, or forgotten once it was.
    fn due_ms(&self, linked_since_ms: u64) -> u64 {
        if self.settled { self.boot_ms.max(linked_since_ms) + LOST_MS } else { self.boot_ms + SIGHT_AFTER_MS }
    }
}

impl MeshCore {
    /// The last link to `peer` is gone, and it was not to end.
    pub(crate) fn lose(&mut self, peer: AuthorId) {
        let (boot_ms, wall_ms) = (self.now.boottime_ms, self.now.wall_ms);
        self.losses.lost.insert(peer, Lost { boot_ms, wall_ms, settled: false });
        self.doubted.insert(peer, boot_ms + DOUBT_MS);
    }

    /// Without any link it was this node that was cut off, and not all those whom it lost a moment ago.
    pub(crate) fn alone(&mut self) {
        self.losses.linked_since_ms = None;
        if planted::active("own-cut-told") {
            return;
        }
        let since_ms = self.now.boottime_ms.saturating_sub(CUT_OFF_MS);
        for lost in self.losses.lost.values_mut().filter(|lost| lost.boot_ms >= since_ms) {
            lost.settled = true;
        }
        self.board.take_back(&self.me, since_ms);
    }

    /// Says which peers were lost, unless enough others did; not while there is nobody to be told.
    pub(crate) fn sight(&mut self, key: &AuthorKey) {
        let Some(since_ms) = self.losses.linked_since_ms else { return };
        let now_ms = self.now.boottime_ms;
        let due = self.losses.lost.iter().filter(|(_, lost)| lost.due_ms(since_ms) <= now_ms);
        let due: Vec<(AuthorId, Lost)> = due.map(|(peer, lost)| (*peer, *lost)).collect();
        for (subject, mut lost) in due {
            if lost.settled {
                // What is on the board by now says more.
                self.losses.lost.remove(&subject);
                continue;
            }
            lost.settled = true;
            self.losses.lost.insert(subject, lost);
            let counts = self.members.get(&subject).is_some_and(|m| m.counts);
            let Some(announce) = self.board.announce(&subject).filter(|a| counts && !a.said.leaving) else { continue };
            if announce.heard_ms > lost.boot_ms || self.board.observers(&subject) >= OBSERVERS_MAX {
                continue;
            }
            let sighting = Sighting { observer: self.me, subject, n: announce.said.n, as_of_ms: lost.wall_ms };
            self.say(key, Statement::Sighting(sighting));
        }
    }
}
