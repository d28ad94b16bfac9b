//! What the node is told of its links while they are up.

use crate::config::MeshEvent;
use crate::limits::RECEIVED_FRAMES_MAX;

use super::Driver;

impl Driver {
    pub(super) fn on_frame(&mut self, link: u64, bytes: Vec<u8>) {
        // Frames of a link that is going down are dropped: the next one syncs anew.
        if self.live(link).is_some() {
            self.report(MeshEvent::Frame { link, bytes });
        }
    }

    /// One report of several frames where the node has not taken the last yet.
    pub(super) fn on_drained(&mut self, link: u64, bytes: usize) {
        if self.live(link).is_none() {
            return;
        }
        match self.waiting.back_mut() {
            Some(MeshEvent::Drained { link: of, bytes: before }) if *of == link => *before += bytes,
            _ => self.report(MeshEvent::Drained { link, bytes }),
        }
    }

    /// What came since `since` came at that time at the earliest, and nobody is said to have been heard later than he was.
    pub(super) fn on_heard(&mut self, since: std::time::Instant) {
        let heard = self.shared.registry.heard();
        let links: Vec<u64> = heard.iter().filter_map(|peer| self.links.get(peer)).map(|link| link.number).collect();
        // A node that takes no events has newer ones to read first.
        if !links.is_empty() && self.waiting.len() < RECEIVED_FRAMES_MAX {
            self.report(MeshEvent::Heard { links, since });
        }
    }
}
