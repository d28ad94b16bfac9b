//! Documents in one piece: for a node that lacks very many facts, from one that holds them all.
//!
//! The taker asks what the peer has, then fetches one document after the other, part by part. Meanwhile the facts of that
//! scope wait ([`SyncOutput::Far`](cauldron_crdt::SyncOutput)); afterwards they come as always. A base proves itself, so
//! nothing rests on who gave it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_crdt::SyncInput;
use cauldron_crdt::doc::{BaseError, DocId, DocKey};
use cauldron_crdt::limits::BASE_LEN_MAX;
use cauldron_identity::{Digest, Lane, Scope};

use crate::core::{NodeCore, Writers};
use crate::docs::counts;
use crate::frame::{BaseAsk, BaseList, BaseOffer, BasePart, Frame};
use crate::input::{LinkId, Output};

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

/// What this node gives and takes.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    saved: BTreeMap<DocKey, Saved>,
    /// Documents that are being packed, and who waits for them.
    saving: BTreeMap<DocKey, BTreeSet<LinkId>>,
    /// When a document was last packed for a peer.
    saved_for: BTreeMap<(LinkId, DocKey), u64>,
    /// Lists that were asked for.
    listing: BTreeSet<(LinkId, Scope)>,
    /// What is to be fetched next.
    queue: VecDeque<(LinkId, DocKey)>,
    pull: Option<Pull>,
    /// Who gave what is being unpacked.
    loading: BTreeMap<DocKey, LinkId>,
}

#[derive(Debug)]
struct Saved {
    bytes: Vec<u8>,
    of: Digest,
    changes: u64,
    made_ms: u64,
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
        self.pull.as_ref().map(|pull| pull.deadline_ms)
    }

    /// Whether something of a scope is still to be fetched or unpacked.
    fn busy_with(&self, scope: &Scope) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.key.scope == *scope)
            || self.queue.iter().any(|(_, key)| key.scope == *scope)
            || self.listing.iter().any(|(_, of)| of == scope)
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
            return self.sync(SyncInput::Release { scope });
        }
        self.bases.listing.insert((link, scope.clone()));
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
        let changes = self.docs.status(&key).map_or(0, |status| status.changes);
        let saved = self.bases.saved.get(&key);
        let good = saved.is_some_and(|saved| match ask.of {
            Some(of) => saved.of == of,
            None => saved.changes == changes || now_ms < saved.made_ms + SAVED_MS_MAX,
        });
        if good {
            return self.give_part(link, &key, ask.at);
        }
        if let Some(waiting) = self.bases.saving.get_mut(&key) {
            waiting.insert(link);
            return;
        }
        let last_ms = self.bases.saved_for.get(&(link, key.clone())).copied();
        let again = last_ms.is_none_or(|ms| now_ms >= ms + SAVE_AGAIN_MS);
        if ask.of.is_none() && again && self.bases.saving.is_empty() && self.docs.save(&key) {
            self.bases.saved_for.insert((link, key.clone()), now_ms);
            self.bases.saving.insert(key, BTreeSet::from([link]));
            self.dirty = true;
        } else {
            self.give_part(link, &key, u32::MAX);
        }
    }

    fn list_bases(&mut self, link: LinkId, scope: Scope) {
        let worth = self.worth();
        let offer = |key: &DocKey| {
            let status = self.docs.status(key).filter(|s| !s.building && s.missing == 0 && s.changes >= worth)?;
            Some(BaseOffer { doc: key.doc.to_string(), changes: status.changes })
        };
        let keys = self.docs.keys().filter(|key| key.scope == scope);
        let docs = keys.filter_map(offer).take(LIST_MAX).collect();
        self.send(link, &Frame::BaseList(BaseList { scope, docs }));
    }

    /// The part at `at`; an empty one when there is none.
    fn give_part(&mut self, link: LinkId, key: &DocKey, at: u32) {
        let (scope, doc) = (key.scope.clone(), key.doc.to_string());
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
            let changes = self.docs.status(key).map_or(0, |status| status.changes);
            let (of, made_ms) = (Digest::of("cauldron/base/v0", &bytes), self.now.boottime_ms);
            self.bases.saved.insert(key.clone(), Saved { bytes, of, changes, made_ms });
            while self.bases.saved.len() > SAVED_MAX {
                let oldest = self.bases.saved.iter().min_by_key(|(_, saved)| saved.made_ms).map(|(key, _)| key.clone());
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
        if !self.bases.listing.remove(&(link, list.scope.clone())) || !self.shares(link, &list.scope) {
            *self.refused.entry("unasked_frame".into()).or_default() += 1;
            return;
        }
        for offer in list.docs.into_iter().take(LIST_MAX) {
            let Ok(doc) = offer.doc.parse::<DocId>() else { continue };
            let key = DocKey { scope: list.scope.clone(), doc };
            let here = self.docs.status(&key).map_or(0, |status| status.changes);
            let known = self.bases.queue.iter().any(|(_, queued)| *queued == key);
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
            self.sync(SyncInput::Release { scope: scope.clone() });
        }
    }

    fn pull_next(&mut self) {
        while self.bases.pull.is_none() {
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
        if Digest::of("cauldron/base/v0", &bytes) != part.of {
            return self.base_refused(link, "it is not what it was said to be");
        }
        let (authority, log) = (&self.authority, &self.log);
        let counts = |fact: &cauldron_identity::Fact| {
            let begun =
                authority.member(&fact.header().author).is_some_and(|m| fact.header().incarnation <= m.incarnation);
            begun && counts(authority, log, fact)
        };
        match self.docs.load(&key, &bytes, &Writers(authority), &counts) {
            Ok(()) => {
                let scope = key.scope.clone();
                self.bases.loading.insert(key, link);
                self.sync(SyncInput::Prolong { scope });
                self.dirty = true;
                self.pulled();
            }
            Err(why) => {
                self.base_loaded(&key, link, &why);
                self.pulled();
            }
        }
    }

    /// A base was unpacked, or not.
    pub(crate) fn base_done(&mut self, key: &DocKey, result: Result<(), BaseError>) {
        let link = self.bases.loading.remove(key);
        if let (Err(why), Some(link)) = (result, link) {
            self.base_loaded(key, link, &why);
        }
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
            self.outputs.push_back(Output::Close { link, detail: format!("a document in one piece: {why}") });
        }
        if self.bases.pull.as_ref().is_some_and(|pull| pull.link == link) {
            self.pulled();
        }
    }

    /// Gives up what takes too long.
    pub(crate) fn tend_bases(&mut self) {
        if self.bases.wake_ms().is_some_and(|at| at <= self.now.boottime_ms) {
            self.pulled();
        }
    }

    /// A link is gone, and with it what it was to give.
    pub(crate) fn bases_down(&mut self, link: LinkId) {
        let Bases { saving, saved_for, listing, queue, .. } = &mut self.bases;
        saving.values_mut().for_each(|waiting| _ = waiting.remove(&link));
        saved_for.retain(|(of, _), _| *of != link);
        let mut scopes: BTreeSet<Scope> =
            queue.iter().filter(|(of, _)| *of == link).map(|(_, k)| k.scope.clone()).collect();
        queue.retain(|(of, _)| *of != link);
        listing.retain(|(of, scope)| {
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
