//! Counters for `/metrics`: they only grow, except the two gauges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::code::CloseCode;

/// What the mesh has done since it started.
#[derive(Debug, Default)]
pub struct Counters {
    refused: PerCode,
    closed: PerCode,
    /// Frames handed to the node.
    pub frames_in: AtomicU64,
    /// Frames written to peers.
    pub frames_out: AtomicU64,
    /// Bytes of frames received, headers included.
    pub bytes_in: AtomicU64,
    /// Bytes of frames written, headers included.
    pub bytes_out: AtomicU64,
    /// Links up now (gauge).
    pub links: AtomicU64,
    /// Handshakes in flight now (gauge).
    pub handshakes_pending: AtomicU64,
    /// Handshakes that were answered with Retry first.
    pub handshakes_retried: AtomicU64,
    /// Connections admitted, both directions.
    pub admitted: AtomicU64,
    /// Enrolment exchanges answered.
    pub enrolments: AtomicU64,
    /// Events of refused strangers that were counted but not reported, because the node was behind.
    pub reports_dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct PerCode([AtomicU64; CloseCode::ALL.len()]);

impl PerCode {
    fn slot(&self, code: CloseCode) -> Option<&AtomicU64> {
        let index = CloseCode::ALL.iter().position(|c| *c == code)?;
        self.0.get(index)
    }
}

impl Counters {
    /// Connections refused before admission, by code.
    #[must_use]
    pub fn refused(&self, code: CloseCode) -> u64 {
        self.refused.slot(code).map_or(0, |n| n.load(Relaxed))
    }

    /// Links and connections closed by us after admission, by code.
    #[must_use]
    pub fn closed(&self, code: CloseCode) -> u64 {
        self.closed.slot(code).map_or(0, |n| n.load(Relaxed))
    }

    pub(crate) fn count_refused(&self, code: CloseCode) {
        if let Some(n) = self.refused.slot(code) {
            n.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn count_closed(&self, code: CloseCode) {
        if let Some(n) = self.closed.slot(code) {
            n.fetch_add(1, Relaxed);
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}
