//! The outside world of one machine: a blocklist file, changed by a connector that tells the truth.

use std::collections::BTreeMap;

use cauldron_identity::FactId;
use cauldron_node_core::Probe;

/// A blocklist file and what was ever done to it.
#[derive(Debug, Clone, Default)]
pub struct Blocklist {
    lines: BTreeMap<FactId, Line>,
    ever: BTreeMap<FactId, u32>,
    /// Changes to the file fail.
    pub read_only: bool,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The blocked address.
    pub address: String,
    /// When it leaves, by the machine's wall clock.
    pub until_ms: u64,
}

impl Blocklist {
    /// Adds a line under a permit. Returns whether the file changed: a permit whose line stands changes nothing.
    pub fn apply(&mut self, permit: FactId, line: Line) -> bool {
        if self.lines.contains_key(&permit) {
            return false;
        }
        *self.ever.entry(permit).or_default() += 1;
        self.lines.insert(permit, line);
        true
    }

    /// Whether the effect of a permit is there, or was.
    #[must_use]
    pub fn probe(&self, permit: &FactId) -> Probe {
        match (self.lines.contains_key(permit), self.ever.contains_key(permit)) {
            (true, _) => Probe::Applied,
            (false, true) => Probe::Ended,
            (false, false) => Probe::Absent,
        }
    }

    /// Takes the line of a permit back. Returns whether the file changed.
    pub fn take_back(&mut self, permit: &FactId) -> bool {
        self.lines.remove(permit).is_some()
    }

    /// Removes lines whose time is over.
    pub fn sweep(&mut self, wall_ms: u64) -> Vec<(FactId, Line)> {
        let over: Vec<FactId> = self.lines.iter().filter(|(_, l)| l.until_ms <= wall_ms).map(|(p, _)| *p).collect();
        over.into_iter().filter_map(|permit| self.lines.remove_entry(&permit)).collect()
    }

    /// The file as it stands.
    #[must_use]
    pub fn lines(&self) -> &BTreeMap<FactId, Line> {
        &self.lines
    }

    /// How often the file was changed under a permit.
    #[must_use]
    pub fn times(&self, permit: &FactId) -> u32 {
        self.ever.get(permit).copied().unwrap_or(0)
    }
}
