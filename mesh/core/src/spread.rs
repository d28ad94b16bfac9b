//! How statements travel: told on once, in step with what each link may hear, and compared now and then.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, planted};

use crate::board::{Heard, Taken};
use crate::core::MeshCore;
use crate::io::{LinkId, Output, Why};
use crate::limits::{
    ANNOUNCE_MIN_MS, BUCKETS, DIGEST_IDLE_MS, DIGEST_MS, HAVE_MAX, REFUTE_MS, REGION_BURST, REGION_PER_S,
    SIGHTINGS_BURST, SIGHTINGS_MS, SITE_FULL_MAX, SPREAD_AGAIN_MS, SPREAD_MS_MAX, STATEMENTS_LEN_MAX,
};
use crate::statement::{Sealed, Statement};
use crate::wire::{Frame, Have, bucket};

/// Something that may happen so often and no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    left: u64,
    at_ms: u64,
}

impl Bucket {
    pub(crate) fn full(burst: u64, now_ms: u64) -> Self {
        Self { left: burst, at_ms: now_ms }
    }

    /// One more, if there is one; another comes every `every_ms`.
    pub(crate) fn take(&mut self, now_ms: u64, every_ms: u64, burst: u64) -> bool {
        let more = now_ms.saturating_sub(self.at_ms) / every_ms;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(burst);
            self.at_ms += more * every_ms;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// What is to be told on, and how much of it lately.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Subjects of whom there is news, and when it goes on.
    due: BTreeMap<AuthorId, u64>,
    last: BTreeMap<AuthorId, u64>,
    regions: BTreeMap<String, Bucket>,
    observers: BTreeMap<AuthorId, Bucket>,
}

impl Spread {
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        self.due.values().min().copied()
    }

    pub(crate) fn at_once(&mut self, subject: AuthorId, now_ms: u64) {
        self.due.insert(subject, now_ms);
    }
}

impl MeshCore {
    /// Whether `reader` may hear of `subject`: hubs and gateways concern everybody, others their site and the mesh's
    /// coordinators.
    fn reads(&self, reader: &AuthorId, subject: &AuthorId) -> bool {
        let (Some(reader_is), Some(subject_is)) = (self.members.get(reader), self.members.get(subject)) else {
            return false;
        };
        let same_site = reader_is.site == subject_is.site;
        reader_is.counts
            && (reader_is.reads_all() || subject_is.reads_all() || same_site || self.board.is_wide(subject))
    }

    pub(crate) fn frame(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(peer) = self.links.get(&link).map(|l| l.peer) else { return };
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(why) => return self.bad(link, format!("a frame of presence cannot be read: {why}")),
        };
        for sealed in frame.statements.into_iter().flatten() {
            if let Err(why) = self.told(link, &peer, sealed) {
                return self.bad(link, why);
            }
        }
        if frame.parting == Some(true) {
            self.parting(link);
        }
        if let Some(digest) = frame.digest {
            self.compare(link, &peer, &digest);
        }
        if let Some(have) = frame.have {
            self.answer_have(link, &peer, &have);
        }
    }

    fn bad(&mut self, link: LinkId, why: String) {
        self.outputs.push_back(Output::Close { link, why: Why::Bad(why) });
    }

    /// One statement. An error is what no honest node sends.
    fn told(&mut self, link: LinkId, peer: &AuthorId, sealed: Sealed) -> Result<(), String> {
        let now_ms = self.now.boottime_ms;
        let mut budget = match self.links.get(&link) {
            Some(l) => l.budget,
            None => return Ok(()),
        };
        let room = self.refill(&mut budget);
        if let Some(l) = self.links.get_mut(&link) {
            l.budget = budget;
        }
        let statement = sealed.read().map_err(|e| e.to_string())?;
        let (author, subject) = (*statement.author(), *statement.subject());
        // A member that this node does not know yet is told of again by the digests; the same goes for whom a peer may not
        // speak of as far as this node knows.
        let wide = matches!(&statement, Statement::Announce(a) if a.hub || a.gateway);
        let may = |reader: &AuthorId| wide || self.reads(reader, &subject);
        let key = self.members.get(&author).filter(|m| m.counts).map(|m| m.key);
        let Some(key) = key.filter(|_| room && may(&self.me) && may(peer) && may(&author)) else {
            self.stats.dropped += 1;
            return Ok(());
        };
        if self.board.about(&subject).any(|(_, known)| *known == sealed) {
            self.stats.known += 1;
            let heard = Heard { boot_ms: now_ms, wall_ms: self.now.wall_ms, from: Some(link) };
            self.board.take(statement, sealed, heard);
            return Ok(());
        }
        sealed.check(&key, &self.mesh).map_err(|e| e.to_string())?;
        if subject == self.me {
            self.told_of_me(&statement);
            return Ok(());
        }
        if matches!(statement, Statement::Sighting(_)) && !planted::active("sightings-unbounded") {
            let bucket = self.spread.observers.entry(author).or_insert(Bucket::full(SIGHTINGS_BURST, now_ms));
            if !bucket.take(now_ms, SIGHTINGS_MS, SIGHTINGS_BURST) {
                self.stats.dropped += 1;
                return Ok(());
            }
        }
        let announced = matches!(statement, Statement::Announce(_));
        let heard = Heard { boot_ms: now_ms, wall_ms: self.now.wall_ms, from: Some(link) };
        match self.board.take(statement, sealed, heard) {
            Taken::Known => self.stats.known += 1,
            Taken::New => {
                self.stats.new += 1;
                if announced {
                    self.heard_of(&subject);
                }
                self.moved = true;
                let jitter = self.chance(SPREAD_MS_MAX);
                let again = self.spread.last.get(&subject).map_or(0, |last| last + SPREAD_AGAIN_MS);
                self.spread.due.entry(subject).or_insert((now_ms + jitter).max(again));
            }
        }
        Ok(())
    }

    fn told_of_me(&mut self, statement: &Statement) {
        match statement {
            // From before a restart, or from a copy of this node.
            Statement::Announce(a) if a.n >= self.said_n() => self.answer_above(a.n, ANNOUNCE_MIN_MS),
            Statement::Sighting(s) if s.n == self.said_n() => self.answer_above(s.n, REFUTE_MS),
            _ => {}
        }
    }

    /// Tells on what is due.
    pub(crate) fn spread_due(&mut self) {
        let now_ms = self.now.boottime_ms;
        let due: Vec<AuthorId> =
            self.spread.due.iter().filter(|(_, at)| **at <= now_ms).map(|(subject, _)| *subject).collect();
        let mut batches: BTreeMap<LinkId, Vec<Sealed>> = BTreeMap::new();
        for subject in due {
            if !self.may_spread(&subject) {
                self.spread.due.insert(subject, now_ms + 1_000 / REGION_PER_S);
                continue;
            }
            self.spread.due.remove(&subject);
            self.spread.last.insert(subject, now_ms);
            for (sealed, from) in self.board.news(&subject) {
                // Who was lost is to hear it, too: it may say that it is there.
                for link in self.hearers(&subject, &from) {
                    batches.entry(link).or_default().push(sealed.clone());
                }
            }
        }
        for (link, statements) in batches {
            self.send_statements(link, statements);
        }
    }

    /// Whether there is room for news from a region that is not this node's own.
    fn may_spread(&mut self, subject: &AuthorId) -> bool {
        let own = self.board.announce(&self.me).map(|k| k.said.region.clone()).unwrap_or_default();
        let Some(region) = self.board.announce(subject).map(|k| k.said.region.clone()) else { return true };
        if region == own || *subject == self.me {
            return true;
        }
        let now_ms = self.now.boottime_ms;
        let bucket = self.spread.regions.entry(region).or_insert(Bucket::full(REGION_BURST, now_ms));
        bucket.take(now_ms, 1_000 / REGION_PER_S, REGION_BURST)
    }

    /// Links on which a statement goes on: of those that may hear of the subject, not where it came from, and not within the
    /// site when the site heard it from inside: there everybody tells everybody.
    fn hearers(&self, subject: &AuthorId, from: &[LinkId]) -> Vec<LinkId> {
        let own_site = self.members.get(&self.me).and_then(|m| m.site.as_deref());
        let inside = |link: &LinkId| {
            let peer = self.links.get(link).and_then(|l| self.members.get(&l.peer));
            own_site.is_some() && peer.is_some_and(|m| m.site.as_deref() == own_site)
        };
        let site = self.members.values().filter(|m| own_site.is_some() && m.site.as_deref() == own_site).count();
        let told_inside = site <= SITE_FULL_MAX && from.iter().any(inside);
        let hears = |(link, l): &(&LinkId, &crate::core::Link)| {
            self.reads(&l.peer, subject) && !from.contains(link) && !(told_inside && inside(link))
        };
        self.links.iter().filter(hears).map(|(link, _)| *link).collect()
    }

    fn send_statements(&mut self, link: LinkId, statements: Vec<Sealed>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for sealed in statements {
            if bytes + sealed.len() > STATEMENTS_LEN_MAX {
                self.send(link, Frame { statements: Some(std::mem::take(&mut batch)), ..Frame::default() });
                bytes = 0;
            }
            bytes += sealed.len();
            batch.push(sealed);
        }
        if !batch.is_empty() {
            self.send(link, Frame { statements: Some(batch), ..Frame::default() });
        }
    }

    pub(crate) fn send(&mut self, link: LinkId, frame: Frame) {
        self.outputs.push_back(Output::Send { link, bytes: frame.encode() });
    }

    /// Subjects that both this node and the peer may hear of.
    fn shared_with(&self, peer: &AuthorId) -> Vec<AuthorId> {
        let both = |subject: &&AuthorId| self.reads(peer, subject) && self.reads(&self.me, subject);
        self.members.keys().filter(both).copied().collect()
    }

    fn digest(&self, peer: &AuthorId) -> Vec<u8> {
        let mut sums = [0u64; BUCKETS];
        for subject in self.shared_with(peer) {
            for (mark, _) in self.board.about(&subject) {
                let sum = &mut sums[bucket(&subject)];
                *sum = sum.wrapping_add(mark);
            }
        }
        sums.iter().flat_map(|sum| sum.to_be_bytes()).collect()
    }

    pub(crate) fn digests_due(&mut self) {
        let now_ms = self.now.boottime_ms;
        let due: Vec<(LinkId, AuthorId)> =
            self.links.iter().filter(|(_, l)| l.digest_at_ms <= now_ms).map(|(link, l)| (*link, l.peer)).collect();
        for (link, peer) in due {
            let digest = self.digest(&peer);
            let jitter = self.chance(DIGEST_MS / 4);
            if let Some(l) = self.links.get_mut(&link) {
                l.digest_at_ms = now_ms + l.digest_wait_ms + jitter;
            }
            self.send(link, Frame { digest: Some(digest), ..Frame::default() });
        }
    }

    fn compare(&mut self, link: LinkId, peer: &AuthorId, theirs: &[u8]) {
        let now_ms = self.now.boottime_ms;
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers.take(now_ms, 1_000, 4) {
            return;
        }
        let ours = self.digest(peer);
        let differ = ours.chunks(8).zip(theirs.chunks(8)).enumerate().filter(|(_, (a, b))| a != b);
        let buckets = differ.fold(0u32, |mask, (at, _)| mask | 1 << at);
        if let Some(l) = self.links.get_mut(&link) {
            l.digest_wait_ms = if buckets == 0 { (l.digest_wait_ms * 2).min(DIGEST_IDLE_MS) } else { DIGEST_MS };
        }
        if buckets == 0 || planted::active("presence-not-compared") {
            return;
        }
        let subjects = self.shared_with(peer);
        let named = subjects.iter().filter(|s| buckets & 1 << bucket(s) != 0);
        let marks = named.flat_map(|s| self.board.about(s).map(|(mark, _)| mark)).take(HAVE_MAX).collect();
        self.send(link, Frame { have: Some(Have { buckets, marks }), ..Frame::default() });
    }

    /// Sends what the peer did not name.
    fn answer_have(&mut self, link: LinkId, peer: &AuthorId, have: &Have) {
        let now_ms = self.now.boottime_ms;
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers.take(now_ms, 1_000, 4) {
            return;
        }
        let named: BTreeSet<u64> = have.marks.iter().copied().collect();
        let subjects = self.shared_with(peer);
        let asked = subjects.iter().filter(|s| have.buckets & 1 << bucket(s) != 0);
        let lacks = asked.flat_map(|s| self.board.about(s)).filter(|(mark, _)| !named.contains(mark));
        let statements = lacks.map(|(_, sealed)| sealed.clone()).collect();
        self.send_statements(link, statements);
    }
}
