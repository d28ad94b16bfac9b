//! Documents in one piece: for a node that lacks very many facts, from one that holds them all.
//!
//! The taker asks what the peer has, then fetches one document after the other, part by part. Meanwhile the facts of that
//! scope wait ([`SyncOutput::Far`](cauldron_crdt::SyncOutput)); afterwards they come as always. A base proves itself, so
//! nothing rests on who gave it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_crdt::SyncInput;
use cauldron_crdt::doc::{BaseError, DocId, DocKey};
use cauldron_crdt::limits::BASE_LEN_MAX;
use cauldron_identity::{AuthorId, Digest, Lane, Scope};

use crate::core::{NodeCore, Writers};
use crate::docs::vouches;
use crate::frame::{BaseAsk, BaseList, BaseOffer, BasePart, Frame};
use crate::input::LinkId;

/// Documents named in one list.
const LIST_MAX: usize = 64;
/// Bytes of a base in one frame.
const PART_LEN: usize = 192 * 1024;
/// Packed documents that are kept for those who are fetching them.
const SAVED_MAX: usize = 2;
/// For so long one that has changed since is still given, milliseconds.
const SAVED_MS_MAX: u64 = 30_000;
/// A peer has a document packed for it once in this time, milliseconds: each costs some tenths of a second.
const SAVE_AGAIN_MS: u64 = 30_000;
/// How long the next part may take, milliseconds.
const PART_MS_MAX: u64 = 5_000;
/// And a whole document.
const PULL_MS_MAX: u64 = 60_000;
/// A peer is told once in this time which documents there are, milliseconds.
const LIST_AGAIN_MS: u64 = 10_000;
/// What is missing behind a document is waited for so long after everything that a peer has is here, milliseconds.
const GHOST_MS: u64 = 60_000;
/// Between two looks at what is missing, milliseconds.
const LOOK_MS: u64 = 10_000;

/// What this node gives and takes.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    saved: BTreeMap<DocKey, Saved>,
    /// Documents that are being packed, and who waits for them.
    saving: BTreeMap<DocKey, BTreeSet<LinkId>>,
    /// When a document was last packed for an author, and its documents of a scope were last listed for one.
    saved_for: BTreeMap<(AuthorId, DocKey), u64>,
    listed_for: BTreeMap<(AuthorId, Scope), u64>,
    /// Lists that were asked for, and when.
    listing: BTreeMap<(LinkId, Scope), u64>,
    /// What is to be fetched next.
    queue: VecDeque<(LinkId, DocKey)>,
    pull: Option<Pull>,
    /// Who gave what is being unpacked.
    loading: BTreeMap<DocKey, LinkId>,
    /// Documents in which something is missing although everything that a peer has is here, and since when.
    ghosts: BTreeMap<DocKey, u64>,
    look_ms: u64,
}

#[derive(Debug)]
struct Saved {
    bytes: Vec<u8>,
    of: Digest,
    /// Changes in it, and those that were left out, when it was packed.
    state: (u64, u64),
    made_ms: u64,
    used_ms: u64,
}

/// A base that is being fetched.
#[derive(Debug)]
struct Pull {
    link: LinkId,
    key: DocKey,
    of: Option<Digest>,
    len: usize,
    got: Vec<u8>,
    begun_ms: u64,
    deadline_ms: u64,
}

impl Bases {
    /// When something is overdue, boot time in milliseconds.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let listing = self.listing.values().map(|asked_ms| asked_ms + PART_MS_MAX);
        let ghosts = (!self.ghosts.is_empty()).then_some(self.look_ms);
        listing.chain(ghosts).chain(self.pull.as_ref().map(|pull| pull.deadline_ms)).min()
    }

    /// Whether something of a scope is still to be fetched or unpacked.
    fn busy_with(&self, scope: &Scope) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.key.scope == *scope)
            || self.queue.iter().any(|(_, key)| key.scope == *scope)
            || self.listing.keys().any(|(_, of)| of == scope)
            || self.loading.keys().any(|key| key.scope == *scope)
    }
}

impl NodeCore {
    fn shares(&self, link: LinkId, scope: &Scope) -> bool {
        scope.lane() == Lane::Data && self.links.get(&link).is_some_and(|p| p.converses() && p.shared.contains(scope))
    }

    /// How many changes a document must have to be worth fetching in one piece: a part of what is far.
    fn worth(&self) -> u64 {
        self.far_facts / 4
    }

    /// The peer has very many facts of a scope that are missing here.
    pub(crate) fn far(&mut self, link: LinkId, scope: Scope) {
        if !self.links.get(&link).is_some_and(crate::core::Peer::converses) {
            return self.sync(SyncInput::Release { scope, tried: false });
        }
        self.bases.listing.insert((link, scope.clone()), self.now.boottime_ms);
        self.send(link, &Frame::BaseAsk(BaseAsk { scope, doc: None, at: 0, of: None }));
    }

    pub(crate) fn base_asked(&mut self, link: LinkId, ask: BaseAsk) {
        if !self.shares(link, &ask.scope) {
            *self.refused.entry("foreign_scope".into()).or_default() += 1;
            return;
        }
        let Some(doc) = ask.doc else { return self.list_bases(link, ask.scope) };
        let Ok(doc) = doc.parse::<DocId>() else { return };
        let key = DocKey { scope: ask.scope, doc };
        let now_ms = self.now.boottime_ms;
        let state = self.doc_state(&key);
        let saved = self.bases.saved.get(&key);
        let good = saved.is_some_and(|saved| match ask.of {
            Some(of) => saved.of == of,
            // What was taken out since would be refused by all who know of it.
            None => saved.state == state || (saved.state.1 == state.1 && now_ms < saved.made_ms + SAVED_MS_MAX),
        });
        if good {
            return self.give_part(link, &key, ask.at);
        }
        if let Some(waiting) = self.bases.saving.get_mut(&key) {
            waiting.insert(link);
            return;
        }
        let Some(peer) = self.links.get(&link).map(|p| p.author) else { return };
        self.bases.saved_for.retain(|_, at| now_ms < *at + SAVE_AGAIN_MS);
        let again = !self.bases.saved_for.contains_key(&(peer, key.clone()));
        if ask.of.is_none() && again && self.bases.saving.is_empty() && self.docs.save(&key) {
            self.bases.saved_for.insert((peer, key.clone()), now_ms);
            self.bases.saving.insert(key, BTreeSet::from([link]));
            self.dirty = true;
        } else {
            self.give_part(link, &key, u32::MAX);
        }
    }

    /// What tells one state of a document from another: changes in it, and changes that are left out.
    fn doc_state(&self, key: &DocKey) -> (u64, u64) {
        (self.docs.size(key).map_or(0, |(changes, _)| changes), self.docs.left_out(key))
    }

    fn list_bases(&mut self, link: LinkId, scope: Scope) {
        let (worth, now_ms) = (self.worth(), self.now.boottime_ms);
        let Some(peer) = self.links.get(&link).map(|p| p.author) else { return };
        self.bases.listed_for.retain(|_, at| now_ms < *at + LIST_AGAIN_MS);
        if self.bases.listed_for.contains_key(&(peer, scope.clone())) {
            *self.refused.entry("too_often".into()).or_default() += 1;
            return;
        }
        self.bases.listed_for.insert((peer, scope.clone()), now_ms);
        let offer = |key: &DocKey| {
            let (changes, _) = self.docs.size(key).filter(|(changes, missing)| *missing == 0 && *changes >= worth)?;
            Some(BaseOffer { doc: key.doc.to_string(), changes })
        };
        let keys = self.docs.keys().filter(|key| key.scope == scope);
        let docs = keys.filter_map(offer).take(LIST_MAX).collect();
        self.send(link, &Frame::BaseList(BaseList { scope, docs }));
    }

    /// The part at `at`; an empty one when there is none.
    fn give_part(&mut self, link: LinkId, key: &DocKey, at: u32) {
        let (scope, doc) = (key.scope.clone(), key.doc.to_string());
        if let Some(saved) = self.bases.saved.get_mut(key) {
            saved.used_ms = self.now.boottime_ms;
        }
        let saved = self.bases.saved.get(key);
        let part = saved.and_then(|saved| {
            let rest = saved.bytes.get(at as usize..).filter(|rest| !rest.is_empty())?;
            let len = u32::try_from(saved.bytes.len()).ok()?;
            let bytes = rest.get(..PART_LEN.min(rest.len())).unwrap_or_default().to_vec();
            Some(BasePart { scope: scope.clone(), doc: doc.clone(), of: saved.of, len, at, bytes })
        });
        let none = BasePart { scope, doc, of: Digest::from_bytes([0; 32]), len: 0, at: 0, bytes: Vec::new() };
        self.send(link, &Frame::BasePart(part.unwrap_or(none)));
    }

    /// A document is packed for those who wait.
    pub(crate) fn base_saved(&mut self, key: &DocKey, bytes: Option<Vec<u8>>) {
        let waiting = self.bases.saving.remove(key).unwrap_or_default();
        if let Some(bytes) = bytes.filter(|bytes| bytes.len() <= BASE_LEN_MAX) {
            let (of, made_ms) = (Digest::of("cauldron/base/v1", &bytes), self.now.boottime_ms);
            let saved = Saved { bytes, of, state: self.doc_state(key), made_ms, used_ms: made_ms };
            self.bases.saved.insert(key.clone(), saved);
            while self.bases.saved.len() > SAVED_MAX {
                let oldest = self.bases.saved.iter().min_by_key(|(_, saved)| saved.used_ms).map(|(key, _)| key.clone());
                oldest.map(|key| self.bases.saved.remove(&key));
            }
        }
        for link in waiting {
            // It may be gone, or cut, by now.
            if self.shares(link, &key.scope) {
                self.give_part(link, key, 0);
            }
        }
    }

    pub(crate) fn base_listed(&mut self, link: LinkId, list: BaseList) {
        let asked = self.bases.listing.remove(&(link, list.scope.clone())).is_some();
        if !asked || !self.shares(link, &list.scope) {
            *self.refused.entry("unasked_frame".into()).or_default() += 1;
            return;
        }
        for offer in list.docs.into_iter().take(LIST_MAX) {
            let Ok(doc) = offer.doc.parse::<DocId>() else { continue };
            let key = DocKey { scope: list.scope.clone(), doc };
            let here = self.docs.size(&key).map_or(0, |(changes, _)| changes);
            let known = self.bases.queue.iter().any(|(_, queued)| *queued == key)
                || self.bases.pull.as_ref().is_some_and(|pull| pull.key == key)
                || self.bases.loading.contains_key(&key);
            if offer.changes >= self.worth() && offer.changes / 2 >= here && !known {
                self.bases.queue.push_back((link, key));
            }
        }
        self.pull_next();
        self.release(&list.scope);
    }

    /// Asks for the facts of a scope when no document of it is under way any more: taking facts in would delay it.
    fn release(&mut self, scope: &Scope) {
        if !self.bases.busy_with(scope) {
            self.sync(SyncInput::Release { scope: scope.clone(), tried: true });
        }
    }

    /// One at a time: what is fetched is unpacked before the next.
    fn pull_next(&mut self) {
        while self.bases.pull.is_none() && self.bases.loading.is_empty() {
            let Some((link, key)) = self.bases.queue.pop_front() else { return };
            if !self.shares(link, &key.scope) {
                continue;
            }
            let ask = BaseAsk { scope: key.scope.clone(), doc: Some(key.doc.to_string()), at: 0, of: None };
            self.send(link, &Frame::BaseAsk(ask));
            let begun_ms = self.now.boottime_ms;
            let deadline_ms = begun_ms + PART_MS_MAX;
            self.bases.pull = Some(Pull { link, key, of: None, len: 0, got: Vec::new(), begun_ms, deadline_ms });
        }
    }

    /// Gives up what is being fetched, or is done with it.
    fn pulled(&mut self) {
        let Some(pull) = self.bases.pull.take() else { return };
        self.pull_next();
        self.release(&pull.key.scope);
    }

    pub(crate) fn base_part(&mut self, link: LinkId, part: BasePart) {
        let now_ms = self.now.boottime_ms;
        if !self.shares(link, &part.scope) {
            *self.refused.entry("foreign_scope".into()).or_default() += 1;
            return;
        }
        let asked =
            |pull: &Pull| pull.link == link && pull.key.scope == part.scope && pull.key.doc.to_string() == part.doc;
        let Some(pull) = self.bases.pull.as_mut().filter(|pull| asked(pull)) else {
            // It may be late.
            *self.refused.entry("unasked_frame".into()).or_default() += 1;
            return;
        };
        if part.len == 0 {
            return self.pulled();
        }
        if pull.of.is_none() {
            (pull.of, pull.len) = (Some(part.of), part.len as usize);
        }
        let after = pull.got.len() + part.bytes.len();
        let fits = pull.of == Some(part.of)
            && pull.len == part.len as usize
            && pull.got.len() == part.at as usize
            && !part.bytes.is_empty()
            && after <= pull.len
            && pull.len <= BASE_LEN_MAX;
        if !fits {
            return self.base_refused(link, "it is not what was asked for");
        }
        pull.got.extend_from_slice(&part.bytes);
        if after < pull.len {
            pull.deadline_ms = (now_ms + PART_MS_MAX).min(pull.begun_ms + PULL_MS_MAX);
            let at = u32::try_from(after).unwrap_or(u32::MAX);
            let ask = BaseAsk { scope: part.scope, doc: Some(part.doc), at, of: Some(part.of) };
            return self.send(link, &Frame::BaseAsk(ask));
        }
        let (key, bytes) = (pull.key.clone(), std::mem::take(&mut pull.got));
        if Digest::of("cauldron/base/v1", &bytes) != part.of {
            return self.base_refused(link, "it is not what it was said to be");
        }
        let (authority, log) = (&self.authority, &self.log);
        match self.docs.load(&key, &bytes, &Writers(authority), &|fact| vouches(authority, log, fact)) {
            Ok(()) => {
                let scope = key.scope.clone();
                self.bases.loading.insert(key, link);
                self.sync(SyncInput::Prolong { scope });
                self.dirty = true;
                self.pulled();
            }
            Err(why) => {
                // The next one first: if it is the same peer's, it goes with the link.
                self.pulled();
                self.base_loaded(&key, link, &why);
            }
        }
    }

    /// A base was unpacked, or not.
    pub(crate) fn base_done(&mut self, key: &DocKey, result: Result<(), BaseError>) {
        let link = self.bases.loading.remove(key);
        if let (Err(why), Some(link)) = (result, link) {
            self.base_loaded(key, link, &why);
        }
        self.pull_next();
        self.release(&key.scope);
    }

    fn base_loaded(&mut self, key: &DocKey, link: LinkId, why: &BaseError) {
        if why.blames_peer() {
            return self.base_refused(link, &format!("{} of {}: {why}", key.doc, key.scope));
        }
        self.count_refusal("base", format!("{} of {} in one piece: {why}", key.doc, key.scope));
    }

    /// Names the lie and closes the link.
    fn base_refused(&mut self, link: LinkId, why: &str) {
        self.count_refusal("base", format!("a document in one piece: {why}"));
        if self.links.contains_key(&link) {
            self.close(link, format!("a document in one piece: {why}"));
        }
        if self.bases.pull.as_ref().is_some_and(|pull| pull.link == link) {
            self.pulled();
        }
    }

    /// Gives up what takes too long.
    pub(crate) fn tend_bases(&mut self) {
        let now_ms = self.now.boottime_ms;
        if let Some(pull) = self.bases.pull.as_ref().filter(|pull| pull.deadline_ms <= now_ms) {
            let slow = pull.link;
            self.bases.queue.retain(|(link, _)| *link != slow);
            self.pulled();
        }
        let late = self.bases.listing.extract_if(.., |_, asked_ms| *asked_ms + PART_MS_MAX <= now_ms);
        let late: Vec<Scope> = late.map(|((_, scope), _)| scope).collect();
        late.iter().for_each(|scope| self.release(scope));
        if self.bases.look_ms <= now_ms {
            self.bases.look_ms = now_ms + LOOK_MS;
            self.give_up_ghosts();
        }
    }

    /// A fact that somebody signed and nobody has would leave a document waiting for ever, and whoever wrote on top of it.
    fn give_up_ghosts(&mut self) {
        let now_ms = self.now.boottime_ms;
        let before = std::mem::take(&mut self.bases.ghosts);
        for key in self.docs.unsettled() {
            let caught_up = |(link, peer): (&LinkId, &crate::core::Peer)| {
                peer.shared.contains(&key.scope) && self.sync.is_caught_up(&self.log, *link)
            };
            if !self.links.iter().any(caught_up) {
                continue;
            }
            let since_ms = before.get(&key).copied().unwrap_or(now_ms);
            if now_ms >= since_ms + GHOST_MS {
                self.docs.give_up(&key);
                self.dirty = true;
            } else {
                self.bases.ghosts.insert(key, since_ms);
            }
        }
    }

    /// A link is gone, and with it what it was to give.
    pub(crate) fn bases_down(&mut self, link: LinkId) {
        let Bases { saving, listing, queue, .. } = &mut self.bases;
        saving.values_mut().for_each(|waiting| _ = waiting.remove(&link));
        let mut scopes: BTreeSet<Scope> =
            queue.iter().filter(|(of, _)| *of == link).map(|(_, k)| k.scope.clone()).collect();
        queue.retain(|(of, _)| *of != link);
        listing.retain(|(of, scope), _| {
            if *of == link {
                scopes.insert(scope.clone());
            }
            *of != link
        });
        if self.bases.pull.as_ref().is_some_and(|pull| pull.link == link) {
            self.pulled();
        }
        scopes.iter().for_each(|scope| self.release(scope));
    }
}
