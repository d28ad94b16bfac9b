//! When a link's digest is sent: soon after a change, and ever more seldom while nothing changes.
//!
//! A digest finds what push lost. What was pushed and lost is a change at its sender, so the sender's digest shows it within
//! [`DIGEST_EVERY_MS`]; the peer, which differs, answers with its own at once, or [`TELL_AGAIN_MS`] after its
//! last, is told the heads that it lacks, and asks for them. Nothing of this waits for a beat that has become slow: only a link whose ends agreed, and at which nothing changed
//! since, has one.

use crate::limits::{DIGEST_EVERY_MS, DIGEST_IDLE_MS, TELL_AGAIN_MS};

/// The digests of one link.
#[derive(Debug)]
pub(super) struct Beat {
    next_ms: u64,
    every_ms: u64,
    sent_ms: Option<u64>,
    /// When something changed here, or the peer was seen to differ.
    stirred_ms: u64,
    agreed: bool,
}

impl Beat {
    pub fn new(now_ms: u64) -> Self {
        let (next_ms, every_ms) = (now_ms.saturating_add(DIGEST_EVERY_MS), DIGEST_EVERY_MS);
        Self { next_ms, every_ms, sent_ms: None, stirred_ms: now_ms, agreed: false }
    }

    /// When the next digest is due.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Something changed in a scope of the link, or which scopes it shares.
    pub fn stir(&mut self, now_ms: u64) {
        self.next_ms = self.next_ms.min(now_ms.saturating_add(DIGEST_EVERY_MS));
        (self.agreed, self.stirred_ms) = (false, now_ms);
    }

    /// The peer's digests were compared with ours.
    pub fn compared(&mut self, now_ms: u64, equal: bool) {
        if equal {
            // Of several frames one may differ, and one may have crossed with a change.
            self.agreed |= now_ms >= self.stirred_ms.saturating_add(TELL_AGAIN_MS);
            return;
        }
        self.stir(now_ms);
        // It learns from our digest what it lacks; two that differ for long must not answer each other without end.
        let soon_ms = self.sent_ms.map_or(now_ms, |at| at.saturating_add(TELL_AGAIN_MS).max(now_ms));
        self.next_ms = self.next_ms.min(soon_ms);
    }

    /// The digests are sent now.
    pub fn sent(&mut self, now_ms: u64) {
        self.every_ms = if self.agreed { (2 * self.every_ms).min(DIGEST_IDLE_MS) } else { DIGEST_EVERY_MS };
        self.next_ms = now_ms.saturating_add(self.every_ms);
        self.sent_ms = Some(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When digests are sent until `end_ms` by an end whose peer agrees with each at once.
    fn beats(beat: &mut Beat, end_ms: u64) -> Vec<u64> {
        let due = std::iter::from_fn(|| {
            let now_ms = beat.next_ms();
            (now_ms <= end_ms).then(|| {
                beat.sent(now_ms);
                beat.compared(now_ms, true);
                now_ms / 1_000
            })
        });
        due.collect()
    }

    #[test]
    fn it_slows_down_while_both_ends_agree_and_a_change_is_shown_in_time() {
        let mut beat = Beat::new(0);
        assert_eq!(beats(&mut beat, 300_000), [8, 16, 32, 64, 128, 192, 256]);
        beat.stir(301_000);
        assert_eq!(beat.next_ms(), 301_000 + DIGEST_EVERY_MS);
        assert_eq!(beats(&mut beat, 340_000), [309, 317, 333]);
    }

    #[test]
    fn who_differs_answers_at_once_and_not_without_end() {
        let mut beat = Beat::new(0);
        beats(&mut beat, 300_000);
        beat.compared(300_000, false);
        assert_eq!(beat.next_ms(), 300_000);
        beat.sent(300_000);
        beat.compared(300_100, false);
        assert_eq!(beat.next_ms(), 300_000 + TELL_AGAIN_MS);
        beat.compared(300_200 + TELL_AGAIN_MS, false);
        assert_eq!(beat.next_ms(), 300_000 + TELL_AGAIN_MS, "it is due");
    }

    #[test]
    fn one_frame_of_several_that_is_equal_says_little() {
        let mut beat = Beat::new(0);
        beats(&mut beat, 300_000);
        beat.compared(300_000, false);
        beat.compared(300_001, true);
        beat.sent(300_002);
        assert_eq!(beat.next_ms(), 300_002 + DIGEST_EVERY_MS);
    }
}
