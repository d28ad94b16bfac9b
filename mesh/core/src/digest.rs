//! What two ends of a link know, compared now and then: both compute the same sums over the same set.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, planted};

use crate::core::MeshCore;
use crate::io::LinkId;
use crate::limits::{BUCKETS, DIGEST_IDLE_MS, DIGEST_MS, HAVE_MAX};
use crate::wire::{Frame, Have, bucket};

type Parts = [u64; BUCKETS];

/// Sums over the marks of what is known, made once per change of it.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// [`crate::board::Board::changes`] at that time.
    at: Option<u64>,
    /// Of whom everybody may hear.
    common: Parts,
    /// Of whom a site and the coordinators may.
    sites: BTreeMap<String, Parts>,
}

impl Sums {
    /// Who is a member has changed.
    pub(crate) fn forget(&mut self) {
        self.at = None;
    }
}

/// Whose ordinary nodes both ends of a link may hear of.
enum Shared<'a> {
    All,
    Site(&'a str),
    Nobody,
}

impl MeshCore {
    fn shared_sites(&self, peer: &AuthorId) -> Option<Shared<'_>> {
        let own = self.members.get(&self.me)?;
        let peer = self.members.get(peer).filter(|m| m.counts)?;
        Some(match (&own.site, &peer.site) {
            (None, None) => Shared::All,
            (Some(site), None) | (None, Some(site)) => Shared::Site(site),
            (Some(a), Some(b)) if a == b => Shared::Site(a),
            _ => Shared::Nobody,
        })
    }

    /// Subjects in some parts of the digest that both this node and the peer may hear of.
    fn shared_with(&self, peer: &AuthorId, parts: u32) -> Vec<AuthorId> {
        let Some(shared) = self.shared_sites(peer) else { return Vec::new() };
        let in_parts = self.members.iter().filter(|(subject, _)| parts & 1 << bucket(subject) != 0);
        let both = in_parts.filter(|(subject, member)| match (&member.site, &shared) {
            (None, _) | (_, Shared::All) => true,
            (Some(site), Shared::Site(both)) if site == both => true,
            _ => self.board.is_wide(subject),
        });
        both.map(|(subject, _)| *subject).collect()
    }

    /// Marks of what is known of whom both may hear.
    #[cfg(test)]
    pub(crate) fn known_with(&self, peer: &AuthorId) -> BTreeSet<u64> {
        self.shared_with(peer, u32::MAX).iter().flat_map(|s| self.board.about(s)).map(|(mark, _)| mark).collect()
    }

    fn sum_up(&mut self) {
        if self.sums.at == Some(self.board.changes()) {
            return;
        }
        let mut sums = Sums { at: Some(self.board.changes()), ..Sums::default() };
        for (subject, member) in &self.members {
            let of_site = member.site.as_ref().filter(|_| !self.board.is_wide(subject));
            let parts = match of_site {
                Some(site) => sums.sites.entry(site.clone()).or_default(),
                None => &mut sums.common,
            };
            for (mark, _) in self.board.about(subject) {
                parts[bucket(subject)] = parts[bucket(subject)].wrapping_add(mark);
            }
        }
        self.sums = sums;
    }

    fn digest(&mut self, peer: &AuthorId) -> Vec<u8> {
        self.sum_up();
        let mut parts = self.sums.common;
        let add =
            |of_site: &Parts| parts.iter_mut().zip(of_site).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
        match self.shared_sites(peer) {
            Some(Shared::All) => self.sums.sites.values().for_each(add),
            Some(Shared::Site(site)) => self.sums.sites.get(site).into_iter().for_each(add),
            Some(Shared::Nobody) => {}
            None => parts = Parts::default(),
        }
        parts.iter().flat_map(|sum| sum.to_be_bytes()).collect()
    }

    pub(crate) fn digests_due(&mut self) {
        let now_ms = self.now.boottime_ms;
        let due: Vec<(LinkId, AuthorId)> =
            self.links.iter().filter(|(_, l)| l.digest_at_ms <= now_ms).map(|(link, l)| (*link, l.peer)).collect();
        for (link, peer) in due {
            let digest = self.digest(&peer);
            // Whoever finds that it differs says so.
            self.compared(link, true);
            self.send(link, Frame { digest: Some(digest), ..Frame::default() });
        }
    }

    /// The next digest of a link: later each time that nobody saw a difference, and of either end only.
    fn compared(&mut self, link: LinkId, agreed: bool) {
        let (now_ms, jitter_ms) = (self.now.boottime_ms, self.chance(DIGEST_MS));
        let Some(l) = self.links.get_mut(&link) else { return };
        if agreed {
            l.digest_at_ms = now_ms + l.digest_wait_ms + jitter_ms;
            l.digest_wait_ms = (l.digest_wait_ms * 2).min(DIGEST_IDLE_MS);
        } else {
            l.digest_wait_ms = DIGEST_MS;
            l.digest_at_ms = l.digest_at_ms.min(now_ms + DIGEST_MS + jitter_ms);
        }
    }

    pub(crate) fn compare(&mut self, link: LinkId, peer: &AuthorId, theirs: &[u8]) {
        let now_ms = self.now.boottime_ms;
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers.take(now_ms, 1_000, 4) {
            return;
        }
        let ours = self.digest(peer);
        let differ = ours.chunks(8).zip(theirs.chunks(8)).enumerate().filter(|(_, (a, b))| a != b);
        let buckets = differ.fold(0u32, |mask, (at, _)| mask | 1 << at);
        self.compared(link, buckets == 0);
        if buckets == 0 || planted::active("presence-not-compared") {
            return;
        }
        let subjects = self.shared_with(peer, buckets);
        let marks = subjects.iter().flat_map(|s| self.board.about(s)).map(|(mark, _)| mark).take(HAVE_MAX).collect();
        self.send(link, Frame { have: Some(Have { buckets, marks }), ..Frame::default() });
    }

    /// Sends what the peer did not name.
    pub(crate) fn answer_have(&mut self, link: LinkId, peer: &AuthorId, have: &Have) {
        let now_ms = self.now.boottime_ms;
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers.take(now_ms, 1_000, 4) {
            return;
        }
        self.compared(link, false);
        let named: BTreeSet<u64> = have.marks.iter().copied().collect();
        let subjects = self.shared_with(peer, have.buckets);
        let lacks = subjects.iter().flat_map(|s| self.board.about(s)).filter(|(mark, _)| !named.contains(mark));
        let statements = lacks.map(|(_, sealed)| sealed.clone()).collect();
        self.send_statements(link, statements);
    }
}
