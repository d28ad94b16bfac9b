//! The chain as a pure fold: which entries follow each other, and what they made of the charter.
//!
//! Facts may come in any order. Everything readable is kept in a pool, and the chain is walked from the founding on: at
//! each head a [`Term`] that the council signed wins, else the sequencer's next entry follows. A term that arrives late
//! takes the entries beside it out of the chain. What they raised is gone; what they restricted stays. It wins over no term as
//! high as itself, and over no change of the council or the recovery keys.

use std::collections::{BTreeMap, BTreeSet};

use super::amend::Term;
use super::entry::{Cut, Entry, EntryBody, Person};
use super::standing::Ends;
use super::table::Effect;
use super::{Applied, Member, member};
use crate::charter::{COUNCIL_MAX, Charter, KeySignature};
use crate::fact::Fact;
use crate::ids::{AuthorId, FactId, MeshId};
use crate::scope::Scope;

/// Terms kept although nothing they build on is here. Each is some hundred bytes; an honest council signs one at a time.
const TERMS_WAITING_MAX: usize = 8;

/// Where an entry stands in the log: author, incarnation, position.
type Place = (AuthorId, u32, u64);

/// One entry as it arrived.
#[derive(Debug, Clone)]
struct Pooled {
    id: FactId,
    body: Result<EntryBody, String>,
}

/// Every entry and term that arrived, in the chain or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    entries: BTreeMap<Place, Pooled>,
    places: BTreeMap<FactId, Place>,
    terms: BTreeMap<FactId, EntryBody>,
    /// Entries that say who the council is, signed by one that was.
    amends: BTreeSet<FactId>,
    /// Where each proven liar's chain was forked, lowest.
    forked: BTreeMap<(AuthorId, u32), u64>,
}

/// What the walk over the pool has come to.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    pub(super) mesh: MeshId,
    /// As of the last accepted entry, in effect or not: what the next entry is judged by.
    pub(super) charter: Charter,
    /// The charter after each entry that changed it, by index; the founding one at 0.
    pub(super) charters: Vec<(u64, Charter)>,
    pub(super) chain: Vec<Applied>,
    pub(super) members: BTreeMap<AuthorId, Member>,
    pub(super) ends: BTreeMap<(AuthorId, u32), Ends>,
    /// Index of each entry, from 1.
    pub(super) places: BTreeMap<FactId, u64>,
    /// The number of the present term, and the index of the entry that began it; both 0 at first.
    pub(super) term: (u32, u64),
    /// Sequencers whose term is over.
    pub(super) outgoing: BTreeSet<AuthorId>,
    /// What entries outside the chain say that must not lapse, by the index from which it counts: revocations and cuts.
    pub(super) revoked: Vec<(u64, String)>,
    /// People that entries outside the chain enrolled: a no of theirs still counts.
    pub(super) people_beside: Vec<Person>,
    /// Where an entry outside the chain branched off.
    pub(super) beside: BTreeMap<FactId, u64>,
    /// Entries outside the chain that descend from something which is not here, and what that is.
    dangling: BTreeSet<FactId>,
    wanted: BTreeSet<FactId>,
    /// The next position in the sequencer's own chain.
    next_seq: u64,
}

impl Pool {
    /// Keeps an entry; false when it is here already.
    pub(super) fn insert(&mut self, fact: &Fact, fold: &Fold) -> bool {
        let header = fact.header();
        let place = (header.author, header.incarnation, header.seq);
        if self.places.contains_key(&fact.id()) || self.entries.contains_key(&place) {
            return false;
        }
        let body = fact.decode_body::<EntryBody>().map_err(|e| format!("the entry cannot be read: {e}"));
        let amends = |body: &EntryBody| {
            matches!(body.entry(), Ok(Entry::Amend(amend)) if amend.is_of_the_root()) && fold.is_signed_by_known(body)
        };
        if body.as_ref().is_ok_and(amends) {
            self.amends.insert(fact.id());
        }
        self.places.insert(fact.id(), place);
        self.entries.insert(place, Pooled { id: fact.id(), body });
        true
    }

    /// Whether an entry that says who the council is lies outside the chain.
    pub(super) fn amends_beside(&self, fold: &Fold) -> bool {
        self.amends.iter().any(|id| !fold.places.contains_key(id))
    }

    pub(super) fn fork(&mut self, author: AuthorId, incarnation: u32, seq: u64) {
        let lowest = self.forked.entry((author, incarnation)).or_insert(seq);
        *lowest = seq.min(*lowest);
    }

    /// Whether an entry lies at or behind a place for which its author signed two.
    fn is_forked(&self, id: &FactId) -> bool {
        let place = self.places.get(id);
        place.is_some_and(|(author, life, seq)| self.forked.get(&(*author, *life)).is_some_and(|lowest| seq >= lowest))
    }

    /// Keeps a term. Those in the chain stay; of the others only so many. A copy brings the signatures that were missing.
    pub(super) fn insert_term(&mut self, id: FactId, body: EntryBody, fold: &Fold) -> bool {
        if let Some(here) = self.terms.get_mut(&id) {
            let missing = |s: &KeySignature| here.signatures.iter().all(|other| other.key != s.key);
            let new: Vec<KeySignature> = body.signatures.iter().filter(|s| missing(s)).cloned().collect();
            let room = (2 * COUNCIL_MAX).saturating_sub(here.signatures.len());
            let gained = !new.is_empty() && room > 0;
            here.signatures.extend(new.into_iter().take(room));
            return gained;
        }
        let waiting: Vec<FactId> = self.terms.keys().filter(|t| !fold.places.contains_key(*t)).copied().collect();
        if let Some(oldest) = waiting.first().filter(|_| waiting.len() >= TERMS_WAITING_MAX) {
            self.terms.remove(oldest);
        }
        self.terms.insert(id, body);
        true
    }

    pub(super) fn drop_term(&mut self, id: &FactId) {
        self.terms.remove(id);
    }

    pub(super) fn term(&self, id: &FactId) -> Option<&EntryBody> {
        self.terms.get(id)
    }

    /// Terms that build on an entry which is not in the chain here.
    pub(super) fn waiting<'p>(&'p self, fold: &'p Fold) -> impl Iterator<Item = (&'p FactId, &'p EntryBody)> {
        self.terms.iter().filter(|(_, body)| body.prev.is_some_and(|prev| !fold.places.contains_key(&prev)))
    }

    fn body_of(&self, id: &FactId) -> Option<&EntryBody> {
        let place = self.places.get(id)?;
        self.entries.get(place)?.body.as_ref().ok()
    }
}

impl Fold {
    /// The state before the first entry: the coordinators that the charter seats.
    pub(super) fn new(mesh: MeshId, charter: Charter) -> Result<Self, String> {
        let mut members = BTreeMap::new();
        for seat in &charter.coordinators {
            members.insert(seat.author.author_id(), member(seat.author, &seat.spiffe_id, 0)?);
        }
        Ok(Self {
            mesh,
            charters: vec![(0, charter.clone())],
            charter,
            chain: Vec::new(),
            members,
            ends: BTreeMap::new(),
            places: BTreeMap::new(),
            term: (0, 0),
            outgoing: BTreeSet::new(),
            revoked: Vec::new(),
            people_beside: Vec::new(),
            beside: BTreeMap::new(),
            dangling: BTreeSet::new(),
            wanted: BTreeSet::new(),
            next_seq: 1,
        })
    }

    pub(super) fn head(&self) -> Option<FactId> {
        self.chain.last().map(|a| a.id)
    }

    pub(super) fn index(&self) -> u64 {
        self.chain.len() as u64
    }

    pub(super) fn sequencer(&self) -> AuthorId {
        self.charter.sequencer.author.author_id()
    }

    /// The sequencer's present life: only its chain goes on.
    pub(super) fn sequencer_life(&self) -> u32 {
        self.members.get(&self.sequencer()).map_or(0, |m| m.incarnation)
    }

    /// Goes on along the pool as far as entries follow each other.
    pub(super) fn extend(&mut self, pool: &Pool) {
        self.extend_to(pool, u64::MAX);
    }

    /// Goes on until it holds `index` entries.
    pub(super) fn extend_to(&mut self, pool: &Pool, index: u64) {
        while self.index() < index {
            let Some((id, term)) = self.next_term(pool) else {
                if self.take_next(pool) {
                    continue;
                }
                break;
            };
            // What follows here without the term.
            let mut beside = self.clone();
            if beside.take_next(pool) {
                beside.extend(pool);
                if beside.stands_against(self.chain.len(), &term, pool) {
                    if index == u64::MAX {
                        *self = beside;
                        break;
                    }
                    self.take_next(pool);
                    continue;
                }
            }
            self.begin_term(id, &term);
        }
    }

    /// Takes the sequencer's next entry, if it is here.
    fn take_next(&mut self, pool: &Pool) -> bool {
        let place = (self.sequencer(), self.sequencer_life(), self.next_seq);
        let Some(pooled) = pool.entries.get(&place) else { return false };
        self.next_seq += 1;
        self.take(pooled);
        true
    }

    /// Whether what this chain holds from place `from` on is not a term's to take out: as high a term, or a change of the
    /// council or the recovery keys. Else keys that the council gave up could take the mesh back from a place before that, and
    /// a term that was never used would win for ever. Of a chain that was forked only what lies before the fork counts: nodes
    /// hold different entries behind it.
    fn stands_against(&self, from: usize, term: &Term, pool: &Pool) -> bool {
        let accepted = self.chain.iter().skip(from).filter(|a| a.refused.is_none());
        accepted.filter(|a| !pool.is_forked(&a.id)).any(|a| match &a.entry {
            Some(Entry::Term(other)) => other.n >= term.n,
            Some(Entry::Amend(amend)) => amend.is_of_the_root(),
            _ => false,
        })
    }

    /// Whether the council or the recovery keys of any charter that was in force here signed: enough to keep what cannot be
    /// judged yet.
    pub(super) fn is_signed_by_known(&self, body: &EntryBody) -> bool {
        let signed = |keys: &[crate::signer::SignerKey]| body.signers(&self.mesh, keys);
        self.charters.iter().any(|(_, c)| {
            signed(&c.council) >= c.threshold as usize
                || (!c.recovery.is_empty() && signed(&c.recovery) * 2 > c.recovery.len())
        })
    }

    /// The term that begins at this head: of several the highest, then the one with the lowest id.
    fn next_term(&self, pool: &Pool) -> Option<(FactId, Term)> {
        let here = pool.terms.iter().filter(|(_, body)| body.prev == self.head());
        let good = here.filter_map(|(id, body)| match body.entry() {
            Ok(Entry::Term(term)) if self.judge_term(body, &term).is_ok() => Some((*id, term)),
            _ => None,
        });
        good.max_by_key(|(id, term)| (term.n, std::cmp::Reverse(*id)))
    }

    fn take(&mut self, pooled: &Pooled) {
        let entry = pooled.body.as_ref().ok().and_then(|body| body.entry().ok());
        let verdict = match (&pooled.body, &entry) {
            (Err(why), _) => Err(why.clone()),
            (Ok(_), None) => Err("this build does not know this kind of entry".to_owned()),
            (Ok(body), Some(entry)) => self.judge(body, entry),
        };
        let at_once = verdict.as_ref().is_ok_and(|rule| rule.effect == Effect::AtOnce);
        if let (Ok(_), Some(entry)) = (&verdict, &entry) {
            self.enact(entry);
        }
        self.push(Applied { id: pooled.id, entry, refused: verdict.err(), at_once });
    }

    fn push(&mut self, applied: Applied) {
        self.places.insert(applied.id, self.index() + 1);
        self.chain.push(applied);
    }

    fn enact(&mut self, entry: &Entry) {
        let index = self.index() + 1;
        match entry {
            Entry::Enrol(e) => {
                if let Ok(member) = member(e.author, &e.spiffe_id, index) {
                    self.members.insert(e.author.author_id(), member);
                }
            }
            Entry::Incarnate(i) => {
                if let Some(member) = self.members.get_mut(&i.author) {
                    let old = member.incarnation;
                    member.incarnation = i.incarnation;
                    self.ends.entry((i.author, old)).or_default().lower(&i.ends);
                }
            }
            Entry::Cut(c) => self.cut(c),
            Entry::Amend(amend) => {
                if let Ok(charter) = amend.apply_to(&self.charter) {
                    self.change_charter(charter, index);
                }
            }
            Entry::Person(_) | Entry::RevokePerson(_) | Entry::Activate(_) | Entry::Term(_) => {}
        }
    }

    fn cut(&mut self, cut: &Cut) {
        let ends = self.ends.entry((cut.author, cut.incarnation)).or_default();
        ends.lower(&cut.ends);
        ends.revoked = true;
    }

    fn change_charter(&mut self, charter: Charter, index: u64) {
        for seat in &charter.coordinators {
            let author = seat.author.author_id();
            if !self.members.contains_key(&author)
                && let Ok(member) = member(seat.author, &seat.spiffe_id, index)
            {
                self.members.insert(author, member);
            }
        }
        self.charter = charter.clone();
        self.charters.push((index, charter));
    }

    /// A new sequencer, or a new life of the same: the outgoing life ends where the term says, its entries at this head.
    fn begin_term(&mut self, id: FactId, term: &Term) {
        let (index, old, life) = (self.index() + 1, self.sequencer(), self.sequencer_life());
        let Ok(charter) = term.apply_to(&self.charter) else { return };
        let mut ends: Vec<_> = term.ends.iter().filter(|end| end.scope != Scope::authority()).cloned().collect();
        ends.push(super::ChainEnd { scope: Scope::authority(), seq: self.next_seq - 1, id: None });
        let over = self.ends.entry((old, life)).or_default();
        over.lower(&ends);
        if old == term.sequencer.author.author_id() {
            if let Some(member) = self.members.get_mut(&old) {
                member.incarnation += 1;
            }
        } else {
            over.revoked = true;
            self.outgoing.insert(old);
        }
        self.change_charter(charter, index);
        self.term = (term.n, index);
        self.next_seq = 1;
        self.push(Applied { id, entry: Some(Entry::Term(term.clone())), refused: None, at_once: true });
    }

    /// Entries that a term took out of the chain, or that its outgoing sequencer wrote since: what people signed there to
    /// restrict stays in force, judged by the charter where they branched off.
    pub(super) fn look_beside(&mut self, pool: &Pool, new: Option<&FactId>) {
        if self.term.0 == 0 {
            return;
        }
        // One that many hang on is rare; a liar may have written thousands that hang on nothing.
        let connects = new.is_none_or(|id| self.wanted.contains(id));
        if connects {
            self.dangling.clear();
            self.wanted.clear();
        }
        let outside = |p: &&Pooled| !self.places.contains_key(&p.id) && !self.beside.contains_key(&p.id);
        let beside: Vec<&Pooled> = match new.filter(|_| !connects) {
            Some(id) => {
                pool.places.get(id).and_then(|place| pool.entries.get(place)).into_iter().filter(outside).collect()
            }
            None => pool.entries.values().filter(outside).collect(),
        };
        for pooled in beside {
            let Ok(body) = &pooled.body else {
                self.beside.insert(pooled.id, 0);
                continue;
            };
            let Some(branch) = self.branch_of(pool, body) else {
                self.dangling.insert(pooled.id);
                continue;
            };
            self.beside.insert(pooled.id, branch);
            let Ok(entry) = body.entry() else { continue };
            let charter = self.charters.iter().rev().find(|(at, _)| *at <= branch).map_or(&self.charter, |(_, c)| c);
            let council = body.signers(&self.mesh, &charter.council) >= charter.threshold as usize;
            match entry {
                Entry::Cut(cut) if council || self.proves_fork(&cut) => self.cut(&cut),
                Entry::RevokePerson(person) if council => self.revoked.push((branch + 1, person)),
                Entry::Person(person) if council => self.people_beside.push(person),
                _ => {}
            }
        }
    }

    /// Index of the last entry of the chain that `body` descends from.
    fn branch_of(&mut self, pool: &Pool, body: &EntryBody) -> Option<u64> {
        let mut prev = body.prev;
        // A walk back cannot be longer than the pool, and a hash chain has no circle.
        for _ in 0..=pool.entries.len() {
            let Some(id) = prev else { return Some(0) };
            if let Some(index) = self.places.get(&id).or_else(|| self.beside.get(&id)) {
                return Some(*index);
            }
            if self.dangling.contains(&id) {
                return None;
            }
            match pool.body_of(&id).or_else(|| pool.term(&id)) {
                Some(before) => prev = before.prev,
                None => {
                    self.wanted.insert(id);
                    return None;
                }
            }
        }
        None
    }
}
