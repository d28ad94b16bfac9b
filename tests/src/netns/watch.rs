//! Asks every node for its status all the time, and keeps the answers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::truth::{Truth, now_ms};
use crate::request;

/// Between two rounds at one node: finer than any bound that is checked, and cheap enough for a debug build.
const EVERY: Duration = Duration::from_millis(500);

/// Between two beats of the thread that notices when the machine is too busy to run it.
const BEAT: Duration = Duration::from_millis(50);

/// What one node said in one round. Each view was computed between the two times.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Who was asked.
    pub node: String,
    /// When the first question was sent, milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// When the last answer was here.
    pub answered_ms: u64,
    /// `/v1/self`.
    pub own: Value,
    /// `/v1/peers`.
    pub peers: Value,
    /// `/v1/sync`.
    pub sync: Value,
    /// `/v1/sites`.
    pub sites: Value,
}

impl Sample {
    /// Asks the node at `socket`; nothing when it does not answer.
    #[must_use]
    pub fn take(node: &str, socket: &Path) -> Option<Self> {
        let ask = |path| request(socket, path, None).ok().filter(|answer| answer.status == 200).map(|a| a.json());
        let asked_ms = now_ms();
        let (own, peers, sync, sites) = (ask("/v1/self")?, ask("/v1/peers")?, ask("/v1/sync")?, ask("/v1/sites")?);
        Some(Self { node: node.to_owned(), asked_ms, answered_ms: now_ms(), own, peers, sync, sites })
    }
}

/// The watchers: one thread for each node, and one that watches the machine.
#[derive(Debug)]
pub struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    keep: Option<PathBuf>,
}

impl Watch {
    /// Begins to ask the nodes, each by its name and socket. What they say is kept in the file `keep` in the end.
    pub(super) fn begin(nodes: Vec<(String, PathBuf)>, truth: &Arc<Truth>, keep: Option<PathBuf>) -> Self {
        let (samples, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let watcher = |(node, socket): (String, PathBuf)| {
            let (samples, stop) = (samples.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(sample) = Sample::take(&node, &socket) {
                        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                    }
                    std::thread::sleep(EVERY);
                }
            })
        };
        let mut threads: Vec<JoinHandle<()>> = nodes.into_iter().map(watcher).collect();
        let (truth, stopped) = (truth.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(BEAT);
                let late = began.elapsed().saturating_sub(BEAT);
                // A thread that sleeps is never back to the millisecond.
                if late > BEAT {
                    truth.stalled(now_ms(), u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
                }
            }
        }));
        Self { samples, stop, threads, keep }
    }

    /// Stops asking; everything that was said, in the order of the questions.
    ///
    /// # Panics
    /// When a watcher did.
    #[must_use]
    pub fn end(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a watcher ends");
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        samples.sort_by_key(|sample| sample.asked_ms);
        samples
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(path) = &self.keep {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            // For people who look into a failure; the failure itself is told already.
            if let Err(error) = keep(&samples, path) {
                eprintln!("cannot keep the samples: {error}");
            }
        }
    }
}

/// Writes samples to a file, one JSON object a line.
fn keep(samples: &[Sample], path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for s in samples {
        let line = json!({
            "node": s.node, "asked_ms": s.asked_ms, "answered_ms": s.answered_ms,
            "self": s.own, "peers": s.peers, "sync": s.sync, "sites": s.sites,
        });
        writeln!(file, "{line}")?;
    }
    file.flush()
}
