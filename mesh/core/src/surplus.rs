//! The end of links that nobody needs any more, without anybody taking it for a loss.

use crate::core::MeshCore;
use crate::io::{LinkId, Output, Why};
use crate::limits::{PARTING_MS, PARTING_MS_MAX, SURPLUS_MS};
use crate::wire::Frame;

impl MeshCore {
    /// Links that this core asked for and does not want any more. If the other end wants one, it dials.
    pub(crate) fn close_surplus(&mut self) {
        let now_ms = self.now.boottime_ms;
        let mut parting = Vec::new();
        for (link, entry) in &mut self.links {
            if let Some(at_ms) = entry.closes_at_ms {
                if at_ms <= now_ms {
                    // It is asked for once, and ends in the transport's own time.
                    entry.closes_at_ms = Some(u64::MAX);
                    self.outputs.push_back(Output::Close { link: *link, why: Why::Surplus });
                }
            } else if !entry.ours || self.wanted.contains_key(&entry.peer) {
                entry.surplus_since_ms = None;
            } else if now_ms >= *entry.surplus_since_ms.get_or_insert(now_ms) + SURPLUS_MS {
                entry.closes_at_ms = Some(now_ms + PARTING_MS);
                parting.push(*link);
            }
        }
        for link in parting {
            self.send(link, Frame { parting: Some(true), ..Frame::default() });
        }
    }

    /// The peer ends this link in a moment.
    pub(crate) fn parting(&mut self, link: LinkId) {
        let until_ms = self.now.boottime_ms + PARTING_MS_MAX;
        if let Some(entry) = self.links.get_mut(&link) {
            entry.parting_until_ms = until_ms;
        }
    }
}
