//! A machine's disk, and the commit that is running on it.

use std::collections::BTreeMap;

use cauldron_node_core::Record;

use crate::queue::Ms;
use crate::rng::Rng;
use crate::weather::DiskWeather;

/// Commits longer than this count as slow in the table of hard places.
pub const SLOW_MS: Ms = 200;

/// What survives a loss of power.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Records on their way to the platter.
#[derive(Debug)]
pub struct Commit {
    /// What is written, in order.
    pub records: Vec<Record>,
    /// When it began.
    pub began: Ms,
    /// How long it takes.
    pub takes: Ms,
}

impl Disk {
    /// Makes one record durable.
    pub fn write(&mut self, record: &Record) {
        match &record.value {
            Some(value) => self.durable.insert(record.key.clone(), value.clone()),
            None => self.durable.remove(&record.key),
        };
    }

    /// Every record, as a process finds them when it starts.
    #[must_use]
    pub fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// One record.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.durable.get(key).map(Vec::as_slice)
    }
}

impl DiskWeather {
    /// How long the next commit takes.
    pub fn commit_ms(&self, rng: &mut Rng) -> Ms {
        if rng.chance(self.slow_ppm) {
            rng.between(SLOW_MS.min(self.slow_ms_max), self.slow_ms_max)
        } else {
            rng.below(self.usual_ms_max + 1)
        }
    }
}

impl Commit {
    /// What of it had reached the platter when the power went: nothing, all, or, record by record, a part. One commit of
    /// a store is atomic, so a part is possible only where records are committed one by one.
    pub fn survivors(self, rng: &mut Rng) -> Vec<Record> {
        if rng.percent(50) { self.records } else { Vec::new() }
    }
}
