//! A machine's disk, and the commit that is running on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cauldron_crdt::log::INDEX_HEAD;
use cauldron_crdt::{Archive, Packs};
use cauldron_node_core::Record;

use crate::facts::Known;
use crate::queue::Ms;
use crate::rng::Rng;
use crate::weather::DiskWeather;

/// Commits longer than this count as slow in the table of hard places.
pub const SLOW_MS: Ms = 200;

/// What survives a loss of power. A clone is a copy, not the same disk.
#[derive(Debug, Default)]
pub struct Disk {
    durable: Arc<Mutex<Records>>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl Clone for Disk {
    fn clone(&self) -> Self {
        self.durable().clone().into_iter().collect()
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Disk {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(records: I) -> Self {
        Self { durable: Arc::new(Mutex::new(records.into_iter().collect())) }
    }
}

/// The same disk, for a process to read from.
struct Reader(Arc<Mutex<Records>>);

impl Archive for Reader {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }
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
    fn durable(&self) -> MutexGuard<'_, Records> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A way for a process to read what is durable, now and later.
    #[must_use]
    pub fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(Reader(self.durable.clone()))
    }

    /// Makes one record durable.
    pub fn write(&mut self, record: &Record) {
        match &record.value {
            Some(value) => self.durable().insert(record.key.clone(), value.clone()),
            None => self.durable().remove(&record.key),
        };
    }

    /// Makes a record durable that no process wrote which takes the index away first.
    pub fn slip_in(&mut self, record: &Record) {
        self.durable().remove(INDEX_HEAD);
        self.write(record);
    }

    /// Every record, as a process finds them when it starts.
    #[must_use]
    pub fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The fact in a record, which may lie in a pack on this disk.
    #[must_use]
    pub fn fact(&self, packs: &Packs, key: &[u8], value: &[u8]) -> Option<Known> {
        let whole = packs.whole(&Reader(self.durable.clone()), key, value.to_vec());
        Known::of_record(key, &whole.ok()?)
    }

    /// One record.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.durable().get(key).cloned()
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
