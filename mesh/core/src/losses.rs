//! Whom this node lost, and whether that is for others to know.
//!
//! A loss is told once, a moment after it happened, and from then on stands on the board. It is not told when the link was to end,
//! when others told it first, or when this node lost everybody: then it was this node that was cut off.
//!
//! Who is to be linked with this node, and is not although nobody says that it is lost, is missed, and that is told, too, more seldom
//! each time: a process that restarts has forgotten whom it was linked with, and nobody else may know that they are gone.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, AuthorKey, planted};

use crate::core::MeshCore;
use crate::limits::{
    CUT_OFF_MS, DOUBT_MS, LOST_MS, MISSED_DIALS, MISSED_DOUBLINGS, MISSED_MS, OBSERVERS_MAX, SIGHT_AFTER_MS,
};
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
    /// Who is to be linked with this node and is not: since when.
    missed: BTreeMap<AuthorId, u64>,
    /// How often that was told since there was a link.
    told: BTreeMap<AuthorId, u32>,
}

impl Losses {
    pub(crate) fn of(&self, peer: &AuthorId) -> Option<&Lost> {
        self.lost.get(peer)
    }

    pub(crate) fn retain(&mut self, member: impl Fn(&AuthorId) -> bool) {
        self.lost.retain(|peer, _| member(peer));
        self.missed.retain(|peer, _| member(peer));
        self.told.retain(|peer, _| member(peer));
    }

    /// A link to `peer` is up.
    pub(crate) fn found(&mut self, peer: &AuthorId, now_ms: u64) {
        self.lost.remove(peer);
        self.missed.remove(peer);
        self.told.remove(peer);
        self.linked_since_ms.get_or_insert(now_ms);
    }

    /// These are to be linked with this node, and `linked` are.
    pub(crate) fn expect(&mut self, peers: BTreeSet<AuthorId>, linked: &BTreeSet<AuthorId>, now_ms: u64) {
        let missing = peers.into_iter().filter(|peer| !linked.contains(peer));
        self.missed = missing.map(|peer| (peer, self.missed.get(&peer).copied().unwrap_or(now_ms))).collect();
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

    /// Says which peers were lost or are missed, unless others did; not while there is nobody to be told.
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
            let heard_since = self.board.announce(&subject).is_some_and(|a| a.heard_ms > lost.boot_ms);
            if !heard_since && self.board.observers(&subject) < OBSERVERS_MAX {
                self.tell_lost(key, subject, lost.wall_ms);
            }
        }
        let missed: Vec<AuthorId> = self.losses.missed.keys().copied().collect();
        for subject in missed {
            // Whoever is to be dialled was dialled, and in vain.
            let tried = !self.wanted.contains_key(&subject) || self.dials.failures(&subject) >= MISSED_DIALS;
            if tried && self.missed_at_ms(&subject).is_some_and(|at_ms| at_ms <= now_ms) {
                *self.losses.told.entry(subject).or_default() += 1;
                self.tell_lost(key, subject, self.now.wall_ms);
            }
        }
    }

    /// When a missed peer has been missed for long enough; none while somebody says that it is lost, or it that it stops.
    fn missed_at_ms(&self, peer: &AuthorId) -> Option<u64> {
        let announce = self.board.announce(peer).filter(|a| !a.said.leaving && self.board.lost_by(peer).is_none())?;
        let missed_ms = *self.losses.missed.get(peer)?;
        let since_ms = missed_ms.max(announce.heard_ms).max(self.losses.linked_since_ms?);
        let told = self.losses.told.get(peer).copied().unwrap_or_default();
        Some(since_ms + (MISSED_MS << told.min(MISSED_DOUBLINGS)))
    }

    fn tell_lost(&mut self, key: &AuthorKey, subject: AuthorId, as_of_ms: u64) {
        let counts = self.members.get(&subject).is_some_and(|m| m.counts);
        if let Some(announce) = self.board.announce(&subject).filter(|a| counts && !a.said.leaving) {
            let sighting = Sighting { observer: self.me, subject, n: announce.said.n, as_of_ms };
            self.say(key, Statement::Sighting(sighting));
        }
    }

    /// When a loss is due to be told or forgotten, boot time in milliseconds; nothing is while there is nobody to be told.
    pub(crate) fn losses_wake_ms(&self) -> Option<u64> {
        let (since_ms, now_ms) = (self.losses.linked_since_ms?, self.now.boottime_ms);
        let lost = self.losses.lost.values().map(|lost| lost.due_ms(since_ms));
        // What is overdue waits for a dial to fail.
        let missed =
            self.losses.missed.keys().filter_map(|peer| self.missed_at_ms(peer)).filter(|at_ms| *at_ms > now_ms);
        lost.chain(missed).min()
    }
}
