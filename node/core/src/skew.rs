//! How far the clocks of peers are from this one: each is asked when its link comes up and now and then.

use cauldron_identity::Digest;

use crate::core::NodeCore;
use crate::frame::{Frame, TimeAsk, TimeTell};
use crate::input::LinkId;

/// Between two asks of a peer, milliseconds: a clock that drifts by 200 ppm is 60 ms off by then.
const SKEW_EVERY_MS: u64 = 300_000;

/// What is known of a peer's clock.
#[derive(Debug, Default)]
pub(crate) struct Skew {
    /// The ask that is not answered yet, and when it was sent; boot time in milliseconds.
    asked: Option<(Digest, u64)>,
    pub(crate) told: Option<Told>,
}

/// A peer's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// How far its wall clock was ahead of the one here, milliseconds.
    pub(crate) ahead_ms: i64,
    /// Half of the time that the answer took: it was written at any moment of it.
    pub(crate) error_ms: u64,
    /// When it came, milliseconds since the Unix epoch.
    pub(crate) as_of_ms: u64,
}

impl NodeCore {
    /// Asks every peer for the time, when it is time.
    pub(crate) fn keep_skews(&mut self) {
        if self.skews_at_ms > self.now.boottime_ms {
            return;
        }
        let links: Vec<LinkId> = self.links.iter().filter(|(_, p)| p.converses()).map(|(link, _)| *link).collect();
        self.skews_at_ms = if links.is_empty() { u64::MAX } else { self.now.boottime_ms + SKEW_EVERY_MS };
        links.into_iter().for_each(|link| self.ask_skew(link));
    }

    /// Asks one peer, whose link has just come up.
    pub(crate) fn ask_skew(&mut self, link: LinkId) {
        let now_ms = self.now.boottime_ms;
        let Some(peer) = self.links.get_mut(&link).filter(|p| p.converses()) else { return };
        // Over a link that is authenticated, a nonce need not be more than new.
        let nonce = Digest::of("cauldron/skew/v1", &now_ms.to_be_bytes());
        peer.skew.asked = Some((nonce, now_ms));
        self.skews_at_ms = self.skews_at_ms.min(now_ms + SKEW_EVERY_MS);
        self.send(link, &Frame::TimeAsk(TimeAsk { nonce }));
    }

    /// Takes an answer to [`Self::ask_skew`]; any other is not meant for it.
    pub(crate) fn skew_told(&mut self, link: LinkId, tell: &TimeTell) {
        let now = self.now;
        let Some(peer) = self.links.get_mut(&link) else { return };
        let Some((_, asked_ms)) = peer.skew.asked.take_if(|(nonce, _)| *nonce == tell.nonce) else { return };
        let took_ms = now.boottime_ms.saturating_sub(asked_ms);
        let ahead = i128::from(tell.wall_ms) - (i128::from(now.wall_ms) - i128::from(took_ms / 2));
        // A peer may say any time at all.
        let ahead_ms = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
        // Both clocks are read in whole milliseconds.
        let error_ms = took_ms.div_ceil(2) + 1;
        peer.skew.told = Some(Told { ahead_ms, error_ms, as_of_ms: now.wall_ms });
    }
}
