//! What is known of presence: of each member what it said last of itself, and who lost it since.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{AuthorId, planted};

use crate::io::LinkId;
use crate::limits::{HEARD_FROM_MAX, OBSERVERS_MAX};
use crate::statement::{Announce, Sealed, Sighting, Statement};

/// A statement that is kept.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    pub(crate) said: T,
    pub(crate) sealed: Sealed,
    pub(crate) mark: u64,
    /// When it came here: boot time and wall clock, milliseconds.
    pub(crate) heard_ms: u64,
    pub(crate) heard_wall_ms: u64,
    /// Links that told it: it does not go back there.
    pub(crate) from: Vec<LinkId>,
    /// Whether it was told on.
    pub(crate) told: bool,
}

impl<T> Kept<T> {
    fn new(said: T, sealed: Sealed, heard: Heard) -> Self {
        let mark = sealed.mark();
        let (heard_ms, heard_wall_ms) = (heard.boot_ms, heard.wall_ms);
        Self { said, sealed, mark, heard_ms, heard_wall_ms, from: heard.from.into_iter().collect(), told: false }
    }

    fn tell(&mut self, news: &mut Vec<(Sealed, Vec<LinkId>)>) {
        if !std::mem::replace(&mut self.told, true) {
            news.push((self.sealed.clone(), self.from.clone()));
        }
    }

    fn also_from(&mut self, link: LinkId) {
        if self.from.len() < HEARD_FROM_MAX && !self.from.contains(&link) {
            self.from.push(link);
        }
    }
}

/// When and from where something came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
    pub(crate) from: Option<LinkId>,
}

#[derive(Debug, Default)]
pub(crate) struct Board {
    announces: BTreeMap<AuthorId, Kept<Announce>>,
    sightings: BTreeMap<AuthorId, BTreeMap<AuthorId, Kept<Sighting>>>,
    /// Of whom the announcement before this one was to be told in all sites, and this one is not: there they are to hear the end of it.
    narrowed: BTreeSet<AuthorId>,
    /// Gateways that say that they reach nobody beyond their site: since when.
    stranded: BTreeMap<AuthorId, u64>,
    /// Rises with each change of what is kept.
    changes: u64,
}

impl Board {
    /// Whether it is told of in all sites: a hub, or a gateway.
    pub(crate) fn is_wide(&self, author: &AuthorId) -> bool {
        self.announces.get(author).is_some_and(|kept| is_wide(&kept.said))
    }

    /// Whether all sites are to hear what is said of it last: that it is a hub or a gateway, or is not any more.
    pub(crate) fn is_news_everywhere(&self, author: &AuthorId) -> bool {
        self.is_wide(author) || self.narrowed.contains(author)
    }

    /// Another number than before, when anything that is kept has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn announce(&self, author: &AuthorId) -> Option<&Kept<Announce>> {
        self.announces.get(author)
    }

    /// Since when it has said, as a gateway, that it reaches nobody beyond its site.
    pub(crate) fn stranded_since_ms(&self, author: &AuthorId) -> Option<u64> {
        self.stranded.get(author).copied()
    }

    /// Who lost it since it announced itself last; the newest first.
    pub(crate) fn lost_by(&self, subject: &AuthorId) -> Option<&Kept<Sighting>> {
        let of = self.sightings.get(subject)?;
        of.values().max_by_key(|s| (s.heard_ms, s.said.observer))
    }

    pub(crate) fn observers(&self, subject: &AuthorId) -> usize {
        self.sightings.get(subject).map_or(0, BTreeMap::len)
    }

    /// Whether it would be kept, if its signature is good: newer than what is known, of what is known. All who heard the same keep the
    /// same, in whatever order it came.
    pub(crate) fn is_news(&self, statement: &Statement, mark: u64) -> bool {
        match statement {
            Statement::Announce(a) => self.announces.get(&a.author).is_none_or(|k| (k.said.n, k.mark) < (a.n, mark)),
            Statement::Sighting(s) => self.is_news_of(s, mark),
        }
    }

    fn is_news_of(&self, s: &Sighting, mark: u64) -> bool {
        // It says something of the announcement that is known here, and of no other: an earlier one was answered, and of a
        // later one, if there is one, the digests bring first the announcement and then this.
        let any_later = planted::active("sighting-unanchored");
        let of_this = |known: u64| known == s.n || (any_later && known < s.n);
        if !self.announces.get(&s.subject).is_some_and(|known| of_this(known.said.n)) {
            return false;
        }
        let Some(of) = self.sightings.get(&s.subject) else { return true };
        match of.get(&s.observer) {
            Some(known) => (known.said.n, known.said.as_of_ms, known.mark) < (s.n, s.as_of_ms, mark),
            // Those who observed it and come first by id are kept, whoever spoke first.
            None => of.len() < OBSERVERS_MAX || of.keys().next_back().is_some_and(|last| s.observer < *last),
        }
    }

    /// Keeps a statement that is news and whose signature was checked.
    pub(crate) fn take(&mut self, statement: Statement, sealed: Sealed, heard: Heard) {
        self.changes += 1;
        match statement {
            Statement::Announce(a) => self.take_announce(a, sealed, heard),
            Statement::Sighting(s) => {
                let of = self.sightings.entry(s.subject).or_default();
                of.insert(s.observer, Kept::new(s, sealed, heard));
                if of.len() > OBSERVERS_MAX {
                    of.pop_last();
                }
            }
        }
    }

    fn take_announce(&mut self, a: Announce, sealed: Sealed, heard: Heard) {
        // Whoever speaks is there: what was said of it before is over.
        let stays =
            |n: u64| planted::active("refutation-ignored") || (planted::active("sighting-unanchored") && n >= a.n);
        if let Some(of) = self.sightings.get_mut(&a.author) {
            of.retain(|_, kept| stays(kept.said.n));
        }
        // Two such words in a row: what the first one ended may not have been told yet.
        let untold = self.announces.get(&a.author).is_some_and(|kept| !kept.told) && self.narrowed.contains(&a.author);
        if !is_wide(&a) && (self.is_wide(&a.author) || untold) {
            self.narrowed.insert(a.author);
        } else {
            self.narrowed.remove(&a.author);
        }
        if a.gateway && !a.outside {
            self.stranded.entry(a.author).or_insert(heard.boot_ms);
        } else {
            self.stranded.remove(&a.author);
        }
        self.announces.insert(a.author, Kept::new(a, sealed, heard));
    }

    /// It is kept already: whether it is, and then it is not told to who told it.
    pub(crate) fn is_kept(&mut self, subject: &AuthorId, sealed: &Sealed, from: LinkId) -> bool {
        if let Some(kept) = self.announces.get_mut(subject).filter(|kept| kept.sealed == *sealed) {
            kept.also_from(from);
            return true;
        }
        let mut of = self.sightings.get_mut(subject).into_iter().flat_map(BTreeMap::values_mut);
        of.find(|kept| kept.sealed == *sealed).map(|kept| kept.also_from(from)).is_some()
    }

    /// What an observer said since `since_ms`, boot time here, was its own mistake.
    pub(crate) fn take_back(&mut self, observer: &AuthorId, since_ms: u64) {
        self.changes += 1;
        for of in self.sightings.values_mut() {
            of.retain(|by, kept| by != observer || kept.heard_ms < since_ms);
        }
    }

    /// Keeps what concerns these alone.
    pub(crate) fn retain(&mut self, member: impl Fn(&AuthorId) -> bool) {
        self.changes += 1;
        self.announces.retain(|author, _| member(author));
        self.narrowed.retain(|author| member(author));
        self.stranded.retain(|author, _| member(author));
        self.sightings.retain(|subject, of| {
            of.retain(|observer, _| member(observer));
            member(subject)
        });
    }

    /// A link is gone: its number is not used again.
    pub(crate) fn forget_link(&mut self, link: LinkId) {
        self.announces.values_mut().for_each(|kept| kept.from.retain(|l| *l != link));
        self.sightings.values_mut().flat_map(BTreeMap::values_mut).for_each(|kept| kept.from.retain(|l| *l != link));
    }

    pub(crate) fn announces(&self) -> impl Iterator<Item = &Kept<Announce>> {
        self.announces.values()
    }

    /// Everything that is said of a subject.
    pub(crate) fn about(&self, subject: &AuthorId) -> impl Iterator<Item = (u64, &Sealed)> {
        let announce = self.announces.get(subject).map(|k| (k.mark, &k.sealed));
        let sightings = self.sightings.get(subject).into_iter().flat_map(BTreeMap::values);
        announce.into_iter().chain(sightings.map(|k| (k.mark, &k.sealed)))
    }

    /// What is said of a subject and was not told on yet, with the links that told it.
    pub(crate) fn news(&mut self, subject: &AuthorId) -> Vec<(Sealed, Vec<LinkId>)> {
        let mut news = Vec::new();
        if let Some(kept) = self.announces.get_mut(subject) {
            kept.tell(&mut news);
        }
        for kept in self.sightings.get_mut(subject).into_iter().flat_map(BTreeMap::values_mut) {
            kept.tell(&mut news);
        }
        news
    }
}

/// Whether it concerns all sites.
fn is_wide(announce: &Announce) -> bool {
    announce.hub || announce.gateway
}
