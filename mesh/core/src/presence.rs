//! Who is there, as seen from here.

use cauldron_identity::{AuthorId, Clock};

use crate::board::Kept;
use crate::core::MeshCore;
use crate::limits::{BELIEVED_MS, SUSPECT_MS};
use crate::statement::Announce;

/// How a member stands, as far as this node can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A link to it is up, or it said that it is there, and whoever would tell this node otherwise can.
    Alive,
    /// Its link was lost a moment ago.
    Suspect,
    /// It was lost, nothing was ever heard of it, or this node is cut off from all that could tell.
    Unreachable,
    /// It said that it stops.
    Departed,
    /// It is cut or suspended: nobody talks to it.
    Quarantined,
}

impl State {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
            Self::Departed => "departed",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What is known of a member, since when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// How it stands.
    pub state: State,
    /// When that was seen, by the wall clock of who saw it, milliseconds since the Unix epoch; none when nothing was.
    pub as_of_ms: Option<u64>,
    /// Who saw it: this node, the member itself, or a peer that lost it. None when nobody did.
    pub observer: Option<AuthorId>,
}

impl MeshCore {
    /// How a member stands, as far as can be told from here.
    #[must_use]
    pub fn presence(&self, author: &AuthorId, now: &Clock) -> Presence {
        let seen = |state, as_of_ms, observer| Presence { state, as_of_ms, observer };
        if !self.members.get(author).is_some_and(|m| m.counts) {
            return seen(State::Quarantined, None, None);
        }
        if self.is_linked(author) {
            return seen(State::Alive, Some(now.wall_ms), Some(self.me));
        }
        let announce = self.board.announce(author);
        // What it says of itself may be dated by a clock that is ahead: it was seen when it came here at the latest.
        let said = announce.map(|a| a.said.as_of_ms.min(a.heard_wall_ms));
        if let Some(leaving) = announce.filter(|a| a.said.leaving) {
            return seen(State::Departed, said, Some(leaving.said.author));
        }
        if let Some(lost) = self.losses.of(author) {
            let heard_since = announce.is_some_and(|a| a.heard_ms > lost.boot_ms);
            if !heard_since {
                let fresh = now.boottime_ms < lost.boot_ms + SUSPECT_MS;
                let state = if fresh { State::Suspect } else { State::Unreachable };
                return seen(state, Some(lost.wall_ms), Some(self.me));
            }
        }
        if let Some(sighting) = self.board.lost_by(author) {
            let as_of_ms = sighting.said.as_of_ms.min(sighting.heard_wall_ms);
            return seen(State::Unreachable, Some(as_of_ms), Some(sighting.said.observer));
        }
        let state = match announce {
            Some(a) if is_believed(a, now) && self.would_hear_of(author, now) => State::Alive,
            _ => State::Unreachable,
        };
        seen(state, said, announce.map(|a| a.said.author))
    }

    /// Whether this node would be told that a member is gone: it is connected with some who would know.
    fn would_hear_of(&self, author: &AuthorId, now: &Clock) -> bool {
        let (Some(member), Some(own)) = (self.members.get(author), self.members.get(&self.me)) else { return false };
        let neighbours = || self.links.values().filter_map(|l| self.members.get_key_value(&l.peer));
        let inside = || neighbours().filter(|(_, m)| own.site.is_some() && m.site == own.site);
        if own.site.is_some() && member.site == own.site {
            return inside().next().is_some();
        }
        // Of whom this node is no reader nobody tells it anything.
        if own.site.is_some() && member.site.is_some() && !self.board.is_wide(author) {
            return false;
        }
        let abroad = |a: &AuthorId| self.board.announce(a).is_some_and(|k| k.said.gateway && k.said.outside);
        let outside = neighbours().any(|(_, m)| own.site.is_none() || m.site != own.site);
        if !outside && !inside().any(|(a, _)| abroad(a)) {
            return false;
        }
        // A site is heard of through its gateways.
        let speaks = |k: &Kept<Announce>| {
            let of_site = self.members.get(&k.said.author).is_some_and(|m| m.counts && m.site == member.site);
            of_site && k.said.gateway && self.stands(k, now) && self.hears_of_region(&k.said.region, now)
        };
        member.site.is_none() || self.board.announces().any(speaks)
    }

    /// Whether a region is heard of: this node's own, one that it is linked with, or one in which a hub stands: others are linked with
    /// that. The gateways of a region without hubs are linked with those of others.
    fn hears_of_region(&self, region: &str, now: &Clock) -> bool {
        let is_there = |peer: &AuthorId| self.board.announce(peer).is_some_and(|k| k.said.region == region);
        if self.config.region == region || self.links.values().any(|l| is_there(&l.peer)) {
            return true;
        }
        let is_hub = |k: &&Kept<Announce>| k.said.hub && self.members.get(&k.said.author).is_some_and(|m| m.counts);
        let hubs = || self.board.announces().filter(is_hub);
        let of_its_own = hubs().any(|k| k.said.region == region);
        let mut witnesses = hubs().filter(|k| !of_its_own || k.said.region == region);
        witnesses.any(|k| k.said.author == self.me || self.stands(k, now))
    }

    /// Whether the author of an announcement counts as there, as far as links and statements say so.
    fn stands(&self, announce: &Kept<Announce>, now: &Clock) -> bool {
        let author = &announce.said.author;
        let lost = self.losses.of(author).is_some_and(|lost| announce.heard_ms <= lost.boot_ms);
        let told = !lost && self.board.lost_by(author).is_none() && is_believed(announce, now);
        !announce.said.leaving && (told || self.is_linked(author))
    }
}

/// Whether what a node said of itself is recent enough for those who have no link to it.
fn is_believed(announce: &Kept<Announce>, now: &Clock) -> bool {
    // How old it was when it came, by the clock here then, and how long it has been here: no step of that clock makes it older.
    let before_ms = announce.heard_wall_ms.saturating_sub(announce.said.as_of_ms);
    let here_ms = now.boottime_ms.saturating_sub(announce.heard_ms);
    before_ms.saturating_add(here_ms) < BELIEVED_MS
}
