//! Writes at every node all the time, so that there is always something to carry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::truth::{Truth, now_ms};
use crate::request;

/// What all write to, each a row of its own.
pub(super) const DOCUMENT: &str = "/v1/docs/config/netns";
/// Between two writes at a node. On a line that loses a fifth of all packets one link carries some 10 KB/s, and each write
/// takes most of a KB on several links.
const EVERY: Duration = Duration::from_secs(1);

/// The writers: one thread for each node.
#[derive(Debug)]
pub struct Writers {
    acknowledged: Arc<Mutex<BTreeMap<String, u64>>>,
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(super) fn begin(nodes: Vec<(String, PathBuf)>, truth: &Arc<Truth>) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let [stop, pause] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let writer = |(node, socket): (String, PathBuf)| {
            let (acknowledged, truth) = (acknowledged.clone(), truth.clone());
            let (stop, pause) = (stop.clone(), pause.clone());
            std::thread::spawn(move || {
                for value in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if !pause.load(Ordering::Relaxed) && write(&node, &socket, value) {
                        truth.wrote(&node, now_ms());
                        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), value);
                    }
                    std::thread::sleep(EVERY);
                }
            })
        };
        let threads = nodes.into_iter().map(writer).collect();
        Self { acknowledged, stop, pause, threads }
    }

    /// Writes nothing until it is told otherwise.
    pub fn pause(&self, pause: bool) {
        self.pause.store(pause, Ordering::Relaxed);
    }

    /// Stops; the last value that each node acknowledged. One that was not may be there all the same.
    ///
    /// # Panics
    /// When a writer did.
    #[must_use]
    pub fn end(mut self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer ends");
        }
        std::mem::take(&mut *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(node: &str, socket: &Path, value: u64) -> bool {
    let body = json!({ "row": node, "fields": { "n": value } });
    let answer = request(socket, DOCUMENT, Some(&body));
    answer.is_ok_and(|answer| answer.status == 200 && !answer.json()["id"].is_null())
}
