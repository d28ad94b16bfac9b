//! Facts that nobody asked for and nobody can use yet. None is kept; looking at them is what costs.

use super::{LinkId, Sync};
use crate::limits::{FLOOD_FRAMES_MAX, ORPHAN_BYTES_MAX, ORPHANS_MAX, ORPHANS_MS};

/// What one peer has sent of them, less what it has earned again since.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    facts: u64,
    bytes: u64,
    since_ms: u64,
    /// Frames not looked at since something new came.
    dropped: u64,
}

impl Orphans {
    /// Counts what could not be used.
    pub fn came(&mut self, facts: u64, bytes: usize) {
        self.facts = self.facts.saturating_add(facts);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Whether pushed facts are looked at. What a push brings in vain is found again by the next digest.
    pub fn may_come(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.since_ms).min(ORPHANS_MS);
        let earned = |max: u64| max * passed_ms / ORPHANS_MS;
        if earned(ORPHANS_MAX) > 0 {
            self.facts = self.facts.saturating_sub(earned(ORPHANS_MAX));
            self.bytes = self.bytes.saturating_sub(earned(ORPHAN_BYTES_MAX));
            self.since_ms = now_ms;
        }
        self.facts < ORPHANS_MAX && self.bytes < ORPHAN_BYTES_MAX
    }

    /// Something new came.
    pub fn forgive(&mut self) {
        self.dropped = 0;
    }
}

impl Sync {
    /// A frame was not looked at. Who sends thousands of them has no use for this link.
    pub(super) fn dropped(&mut self, link: LinkId) {
        self.stats.orphans_dropped += 1;
        let Some(l) = self.links.get_mut(&link) else { return };
        l.orphans.dropped += 1;
        if l.orphans.dropped >= FLOOD_FRAMES_MAX {
            self.close(link, "flood");
        }
    }
}
