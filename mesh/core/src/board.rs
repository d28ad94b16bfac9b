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

    fn also_from(&mut self, link: Option<LinkId>) {
        if let Some(link) = link
            && self.from.len() < HEARD_FROM_MAX
            && !self.from.contains(&link)
        {
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

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is new, and is told on.
    New,
    /// It is known, or something newer is.
    Known,
}

#[derive(Debug, Default)]
pub(crate) struct Board {
    announces: BTreeMap<AuthorId, Kept<Announce>>,
    sightings: BTreeMap<AuthorId, BTreeMap<AuthorId, Kept<Sighting>>>,
    /// Who was once to be told of beyond its site: there they are to hear the end of it, too.
    wide: BTreeSet<AuthorId>,
    /// Gateways that say that they reach nobody beyond their site: since when.
    stranded: BTreeMap<AuthorId, u64>,
}

impl Board {
    /// Whether it is, or was, told of in all sites: a hub, or a gateway.
    pub(crate) fn is_wide(&self, author: &AuthorId) -> bool {
        self.wide.contains(author)
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

    /// Keeps a statement whose signature was checked. `reads` says who is still a member.
    pub(crate) fn take(&mut self, statement: Statement, sealed: Sealed, heard: Heard) -> Taken {
        match statement {
            Statement::Announce(a) => self.take_announce(a, sealed, heard),
            Statement::Sighting(s) => self.take_sighting(s, sealed, heard),
        }
    }

    fn take_announce(&mut self, a: Announce, sealed: Sealed, heard: Heard) -> Taken {
        if let Some(known) = self.announces.get_mut(&a.author)
            && known.said.n >= a.n
        {
            if known.sealed == sealed {
                known.also_from(heard.from);
            }
            return Taken::Known;
        }
        // Whoever speaks is there: what was said of it before is over.
        if let Some(of) = self.sightings.get_mut(&a.author)
            && !planted::active("refutation-ignored")
        {
            of.retain(|_, s| s.said.n >= a.n);
        }
        if a.hub || a.gateway {
            self.wide.insert(a.author);
        }
        if a.gateway && !a.outside {
            self.stranded.entry(a.author).or_insert(heard.boot_ms);
        } else {
            self.stranded.remove(&a.author);
        }
        self.announces.insert(a.author, Kept::new(a, sealed, heard));
        Taken::New
    }

    fn take_sighting(&mut self, s: Sighting, sealed: Sealed, heard: Heard) -> Taken {
        // It says something of the announcement that is known here, and of no other: an earlier one was answered, and of a
        // later one, if there is one, the digests bring first the announcement and then this.
        let any_later = planted::active("sighting-unanchored");
        let of_this = |known: u64| known == s.n || (any_later && known < s.n);
        if !self.announces.get(&s.subject).is_some_and(|known| of_this(known.said.n)) {
            return Taken::Known;
        }
        let of = self.sightings.entry(s.subject).or_default();
        if let Some(known) = of.get_mut(&s.observer) {
            if (known.said.n, known.said.as_of_ms) >= (s.n, s.as_of_ms) {
                if known.sealed == sealed {
                    known.also_from(heard.from);
                }
                return Taken::Known;
            }
        } else if of.len() >= OBSERVERS_MAX {
            return Taken::Known;
        }
        of.insert(s.observer, Kept::new(s, sealed, heard));
        Taken::New
    }

    /// What an observer said since `since_ms`, boot time here, was its own mistake.
    pub(crate) fn take_back(&mut self, observer: &AuthorId, since_ms: u64) {
        for of in self.sightings.values_mut() {
            of.retain(|by, kept| by != observer || kept.heard_ms < since_ms);
        }
    }

    /// An observer has the subject again.
    pub(crate) fn found(&mut self, observer: &AuthorId, subject: &AuthorId) {
        if let Some(of) = self.sightings.get_mut(subject) {
            of.remove(observer);
        }
    }

    /// Keeps what concerns these alone.
    pub(crate) fn retain(&mut self, member: impl Fn(&AuthorId) -> bool) {
        self.announces.retain(|author, _| member(author));
        self.wide.retain(|author| member(author));
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
