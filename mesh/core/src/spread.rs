//! How statements travel: told on once, in step with what each link may hear.

use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, planted};

use crate::board::Heard;
use crate::core::MeshCore;
use crate::io::{LinkId, Output, Why};
use crate::limits::{
    ANNOUNCE_MIN_MS, ANNOUNCES_BURST, COPY_DOUBLINGS, REFRESH_MS, REFUTE_MS, REGION_BURST, REGION_PER_S, REGIONS_MAX,
    SIGHTINGS_BURST, SIGHTINGS_BURST_HUB, SIGHTINGS_MS, SITE_FULL_MAX, SPREAD_AGAIN_MS, SPREAD_MS_MAX,
    STATEMENTS_LEN_MAX,
};
use crate::member::Member;
use crate::statement::{Sealed, Statement};
use crate::wire::Frame;

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
    /// What each author may still say of itself, and of others.
    authors: BTreeMap<AuthorId, [Bucket; 2]>,
}

/// Who is to hear of somebody.
#[derive(Debug, Clone, Copy)]
enum Audience<'a> {
    Everybody,
    /// A site and the coordinators.
    Site(&'a str),
}

impl Spread {
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        self.due.values().min().copied()
    }

    /// Keeps what concerns these alone.
    pub(crate) fn retain(&mut self, member: impl Fn(&AuthorId) -> bool) {
        self.due.retain(|subject, _| member(subject));
        self.last.retain(|subject, _| member(subject));
        self.authors.retain(|author, _| member(author));
    }

    /// Whether its author has room for one more that is news.
    fn has_room(&mut self, statement: &Statement, coordinates: bool, now_ms: u64) -> bool {
        let sightings = if coordinates { SIGHTINGS_BURST_HUB } else { SIGHTINGS_BURST };
        let full = || [Bucket::full(ANNOUNCES_BURST, now_ms), Bucket::full(sightings, now_ms)];
        let [announces, losses] = self.authors.entry(*statement.author()).or_insert_with(full);
        match statement {
            Statement::Announce(_) => announces.take(now_ms, ANNOUNCE_MIN_MS, ANNOUNCES_BURST),
            Statement::Sighting(_) => {
                planted::active("sightings-unbounded") || losses.take(now_ms, SIGHTINGS_MS, sightings)
            }
        }
    }

    /// The bucket of a region; beyond a bound of names those of all others share the one of no name.
    pub(crate) fn region(&mut self, name: &str, now_ms: u64) -> &mut Bucket {
        let known = self.regions.contains_key(name) || self.regions.len() < REGIONS_MAX;
        let name = if known { name } else { "" };
        self.regions.entry(name.to_owned()).or_insert(Bucket::full(REGION_BURST, now_ms))
    }

    #[cfg(test)]
    pub(crate) fn region_names(&self) -> usize {
        self.regions.len()
    }

    pub(crate) fn at_once(&mut self, subject: AuthorId, now_ms: u64) {
        self.due.insert(subject, now_ms);
    }
}

impl MeshCore {
    /// Whether `reader` is to hear what is said last of `subject`: hubs and gateways concern everybody, others their site and the
    /// mesh's coordinators.
    fn hears(&self, reader: &AuthorId, subject: &AuthorId) -> bool {
        self.audience(subject).is_some_and(|audience| self.is_among(reader, audience))
    }

    /// Who is to hear it: everybody, or a site; none when it is no member.
    fn audience(&self, subject: &AuthorId) -> Option<Audience<'_>> {
        let site = self.members.get(subject)?.site.as_deref();
        Some(site.filter(|_| !self.board.is_news_everywhere(subject)).map_or(Audience::Everybody, Audience::Site))
    }

    fn is_among(&self, reader: &AuthorId, audience: Audience<'_>) -> bool {
        let may = |m: &Member| match audience {
            Audience::Everybody => true,
            Audience::Site(site) => m.reads_all() || m.site.as_deref() == Some(site),
        };
        self.members.get(reader).is_some_and(|m| m.counts && may(m))
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
        let may = |reader: &AuthorId| wide || self.hears(reader, &subject);
        let known = self.members.get(&author).filter(|m| m.counts).map(|m| (m.key, m.reads_all()));
        let Some((key, coordinates)) = known.filter(|_| room && may(&self.me) && may(peer) && may(&author)) else {
            self.stats.dropped += 1;
            return Ok(());
        };
        if self.board.is_kept(&subject, &sealed, link) {
            self.stats.known += 1;
            return Ok(());
        }
        let of_me = subject == self.me;
        if !of_me && !self.board.is_news(&statement, sealed.mark()) {
            self.stats.known += 1;
            if wide && !self.board.is_wide(&subject) {
                // Or anybody could read with a word of its own making what it may not hear.
                sealed.check(&key, &self.mesh).map_err(|e| e.to_string())?;
                self.mend_narrowed(link, &subject);
            }
            return Ok(());
        }
        sealed.check(&key, &self.mesh).map_err(|e| e.to_string())?;
        if of_me {
            self.told_of_me(&statement);
            return Ok(());
        }
        if !self.spread.has_room(&statement, coordinates, now_ms) {
            self.stats.dropped += 1;
            return Ok(());
        }
        self.stats.new += 1;
        let announced = matches!(statement, Statement::Announce(_));
        self.board.take(statement, sealed, Heard { boot_ms: now_ms, wall_ms: self.now.wall_ms, from: Some(link) });
        if announced {
            self.heard_of(&subject);
        }
        self.moved = true;
        let jitter = self.chance(SPREAD_MS_MAX);
        let again = self.spread.last.get(&subject).map_or(0, |last| last + SPREAD_AGAIN_MS);
        self.spread.due.entry(subject).or_insert((now_ms + jitter).max(again));
        Ok(())
    }

    /// Who still takes it for a hub or a gateway is no reader of what it is now, and learns that with this alone.
    fn mend_narrowed(&mut self, link: LinkId, subject: &AuthorId) {
        if let Some(kept) = self.board.announce(subject) {
            let sealed = kept.sealed.clone();
            self.send_statements(link, vec![sealed]);
        }
    }

    fn told_of_me(&mut self, statement: &Statement) {
        match statement {
            // From before a restart, or from a copy of this node; many may tell of it.
            Statement::Announce(a) if a.n >= self.said_n() && self.answer.is_none_or(|(n, _)| n <= a.n) => {
                let wait_ms = self.contradicted();
                self.answer_above(a.n, wait_ms);
            }
            Statement::Sighting(s) if s.n == self.said_n() => self.answer_above(s.n, REFUTE_MS),
            _ => {}
        }
    }

    /// Somebody with this node's key says more than it did. How long to wait with more than that, milliseconds: two copies of one
    /// node answer each other, and everybody hears it.
    fn contradicted(&mut self) -> u64 {
        let now_ms = self.now.boottime_ms;
        let (times, last_ms) = self.contradicted;
        let times = if now_ms.saturating_sub(last_ms) > REFRESH_MS { 0 } else { times };
        self.contradicted = (times + 1, now_ms);
        ANNOUNCE_MIN_MS << times.min(COPY_DOUBLINGS)
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
        let Some(announce) = self.board.announce(subject).filter(|k| k.said.region != self.config.region) else {
            return true;
        };
        let now_ms = self.now.boottime_ms;
        self.spread.region(&announce.said.region, now_ms).take(now_ms, 1_000 / REGION_PER_S, REGION_BURST)
    }

    /// Links on which a statement goes on: of those that may hear of the subject, not where it came from, and not within the
    /// site when the site heard it from inside: there everybody tells everybody.
    fn hearers(&self, subject: &AuthorId, from: &[LinkId]) -> Vec<LinkId> {
        let Some(audience) = self.audience(subject) else { return Vec::new() };
        let own_site = self.members.get(&self.me).and_then(|m| m.site.as_deref());
        let inside = |link: &LinkId| {
            let peer = self.links.get(link).and_then(|l| self.members.get(&l.peer));
            own_site.is_some() && peer.is_some_and(|m| m.site.as_deref() == own_site)
        };
        let told_inside = self.site_members <= SITE_FULL_MAX && from.iter().any(inside);
        let hears = |(link, l): &(&LinkId, &crate::core::Link)| {
            !from.contains(link) && self.is_among(&l.peer, audience) && !(told_inside && inside(link))
        };
        self.links.iter().filter(hears).map(|(link, _)| *link).collect()
    }

    pub(crate) fn send_statements(&mut self, link: LinkId, statements: Vec<Sealed>) {
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
}
