//! The chain as a pure fold: which entries follow each other, and what they made of the charter.
//!
//! Facts may come in any order. Everything readable is kept in a pool, and the chain is walked from the founding on: at
//! each head a [`Term`] that the council signed wins, else the sequencer's next entry follows. A term that arrives late
//! takes the entries beside it out of the chain ([`super::beside`]). It wins over no term as high as itself, and over no change
//! of the council or the recovery keys.

use std::collections::{BTreeMap, BTreeSet};

use super::amend::Term;
use super::entry::{Cut, Entry, EntryBody};
use super::powers::Powers;
use super::standing::Ends;
use super::table::Effect;
use super::{Applied, Member, member};
use crate::budget::{Budget, Window};
use crate::charter::{COUNCIL_MAX, Charter, KeySignature};
use crate::fact::Fact;
use crate::ids::{AuthorId, FactId, MeshId};
use crate::scope::Scope;

/// Terms kept that are not in the chain: they wait for what they build on, or another won. Each is some hundred bytes; an
/// honest council signs one at a time.
const TERMS_BESIDE_MAX: usize = 8;
/// Signatures kept on one term: all of a council, before and after a change of it.
const SIGNATURES_MAX: usize = 2 * COUNCIL_MAX;

/// Where an entry stands in the log: author, incarnation, position.
type Place = (AuthorId, u32, u64);

/// One entry as it arrived.
#[derive(Debug, Clone)]
struct Pooled {
    id: FactId,
    /// When its author wrote it, milliseconds since the Unix epoch.
    at_ms: u64,
    body: Result<EntryBody, String>,
}

/// Every entry and term that arrived, in the chain or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    entries: BTreeMap<Place, Pooled>,
    places: BTreeMap<FactId, Place>,
    terms: BTreeMap<FactId, EntryBody>,
    /// Entries that say who the council is, and whether one that was signed them.
    amends: BTreeMap<FactId, bool>,
    /// Which charters that was looked up in: the term, and how many.
    amends_by: ((u32, u64), usize, usize),
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
    /// Charters on branches that a term took out: who else may have signed what does not fit here.
    pub(super) explored: Vec<Charter>,
    /// What was minted of each budget.
    pub(super) minted: BTreeMap<Budget, Minted>,
    /// What was lifted, granted and moved.
    pub(super) powers: Powers,
    /// Index of the entry that began each further life of an author.
    begun: BTreeMap<(AuthorId, u32), u64>,
    /// The next position in the sequencer's own chain.
    next_seq: u64,
}

/// The mints of one budget, in effect or not.
#[derive(Debug, Clone)]
pub(super) struct Minted {
    /// How long each window is, milliseconds; 0 without time.
    pub(super) window_ms: u64,
    /// Index of the entry for each window.
    pub(super) windows: BTreeMap<Window, u64>,
}

impl Pool {
    /// Keeps an entry; false when it is here already.
    pub(super) fn insert(&mut self, fact: &Fact) -> bool {
        let header = fact.header();
        let place = (header.author, header.incarnation, header.seq);
        if self.places.contains_key(&fact.id()) || self.entries.contains_key(&place) {
            return false;
        }
        let body = fact.decode_body::<EntryBody>().map_err(|e| format!("the entry cannot be read: {e}"));
        let amends = |body: &EntryBody| matches!(body.entry(), Ok(Entry::Amend(amend)) if amend.is_of_the_root());
        if body.as_ref().is_ok_and(amends) {
            self.amends.insert(fact.id(), false);
            self.amends_by = Default::default();
        }
        self.places.insert(fact.id(), place);
        self.entries.insert(place, Pooled { id: fact.id(), at_ms: header.wall_ms(), body });
        true
    }

    /// Whether an entry that says who the council is, signed by one that was, lies outside the chain.
    pub(super) fn amends_beside(&mut self, fold: &Fold) -> bool {
        let by = (fold.term, fold.charters.len(), fold.explored.len());
        if self.amends_by != by {
            self.amends_by = by;
            let unsigned: Vec<FactId> =
                self.amends.iter().filter_map(|(id, signed)| (!signed).then_some(*id)).collect();
            for id in unsigned {
                let signed = self.body_of(&id).is_some_and(|body| fold.is_signed_by_known(body));
                self.amends.insert(id, signed);
            }
        }
        self.amends.iter().any(|(id, signed)| *signed && !fold.places.contains_key(id))
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

    /// Keeps a term with those of its signatures that hold. Those in the chain stay; of the others only so many, first those of
    /// the present council, on an entry that is here, with the highest number. False when it is not among them.
    pub(super) fn insert_term(&mut self, id: FactId, mut body: EntryBody, fold: &Fold) -> bool {
        let signatures = std::mem::take(&mut body.signatures);
        add_signatures(&mut body, signatures, fold);
        self.terms.insert(id, body);
        let beside: Vec<FactId> = self.terms.keys().filter(|t| !fold.places.contains_key(*t)).copied().collect();
        let rank = |id: &FactId| {
            let body = self.terms.get(id)?;
            let n = if let Ok(Entry::Term(term)) = body.entry() { term.n } else { 0 };
            let here = body.prev.is_none_or(|prev| fold.places.contains_key(&prev));
            Some((fold.is_signed_by(&fold.charter, body), here, n, *id))
        };
        if beside.len() > TERMS_BESIDE_MAX
            && let Some(least) = beside.into_iter().min_by_key(rank)
        {
            self.terms.remove(&least);
        }
        self.terms.contains_key(&id)
    }

    /// Adds what a copy brings to a term that is here; whether that is the signature of somebody who may sign one.
    pub(super) fn complete_term(&mut self, id: &FactId, copy: &EntryBody, fold: &Fold) -> bool {
        self.terms.get_mut(id).is_some_and(|body| add_signatures(body, copy.signatures.clone(), fold))
    }

    pub(super) fn term(&self, id: &FactId) -> Option<&EntryBody> {
        self.terms.get(id)
    }

    pub(super) fn terms(&self) -> &BTreeMap<FactId, EntryBody> {
        &self.terms
    }

    /// Terms that build on an entry which is not in the chain here.
    pub(super) fn waiting<'p>(&'p self, fold: &'p Fold) -> impl Iterator<Item = (&'p FactId, &'p EntryBody)> {
        self.terms.iter().filter(|(_, body)| body.prev.is_some_and(|prev| !fold.places.contains_key(&prev)))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.terms.len()
    }

    /// Entries that are not in the chain and never will be while this term lasts: the present sequencer's may only wait for one
    /// before them. Without a body where it cannot be read.
    pub(super) fn outside<'p>(&'p self, fold: &Fold) -> impl Iterator<Item = (&'p FactId, Option<&'p EntryBody>)> {
        let present = (fold.sequencer(), fold.sequencer_life());
        let past = self.entries.iter().filter(move |((author, life, _), _)| (*author, *life) != present);
        let outside = past.filter(|(_, pooled)| !fold.places.contains_key(&pooled.id));
        outside.map(|(_, pooled)| (&pooled.id, pooled.body.as_ref().ok()))
    }

    /// An entry or term that is not in the chain, if it is here and does not wait for its place.
    pub(super) fn outside_of(&self, id: &FactId, fold: &Fold) -> Option<&EntryBody> {
        let present = (fold.sequencer(), fold.sequencer_life());
        match self.places.get(id) {
            Some((author, life, _)) if (*author, *life) == present => None,
            Some(_) => self.body_of(id),
            None => self.terms.get(id),
        }
    }

    fn body_of(&self, id: &FactId) -> Option<&EntryBody> {
        let place = self.places.get(id)?;
        self.entries.get(place)?.body.as_ref().ok()
    }
}

/// Adds the signatures that hold, by keys that have not signed yet; those of keys that a charter names go before others. Returns
/// whether one of these was added.
fn add_signatures(body: &mut EntryBody, signatures: Vec<KeySignature>, fold: &Fold) -> bool {
    let named =
        |s: &KeySignature| fold.charters.iter().any(|(_, c)| c.council.contains(&s.key) || c.recovery.contains(&s.key));
    let mut added = false;
    for signature in signatures {
        if body.signatures.iter().any(|here| here.key == signature.key) {
            continue;
        }
        let key = signature.key.clone();
        body.signatures.push(signature);
        if body.signers(&fold.mesh, std::slice::from_ref(&key)) == 0 {
            body.signatures.pop();
        } else {
            added |= body.signatures.last().is_some_and(named);
        }
    }
    body.signatures.sort_by_key(|s| !named(s));
    body.signatures.truncate(SIGNATURES_MAX);
    added
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
            explored: Vec::new(),
            minted: BTreeMap::new(),
            powers: Powers::default(),
            begun: BTreeMap::new(),
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
                let seen = beside.charters.into_iter().map(|(_, charter)| charter).chain(beside.explored);
                for charter in seen {
                    if !self.explored.contains(&charter) {
                        self.explored.push(charter);
                    }
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

    /// Whether the council or the recovery keys of any charter that is known here signed: enough to keep what cannot be
    /// judged yet.
    pub(super) fn is_signed_by_known(&self, body: &EntryBody) -> bool {
        let known = self.charters.iter().map(|(_, charter)| charter).chain(&self.explored);
        known.into_iter().any(|charter| self.is_signed_by(charter, body))
    }

    /// Whether the council or the recovery keys of `charter` signed.
    pub(super) fn is_signed_by(&self, charter: &Charter, body: &EntryBody) -> bool {
        let signed = |keys: &[crate::signer::SignerKey]| body.signers(&self.mesh, keys);
        signed(&charter.council) >= charter.threshold as usize
            || (!charter.recovery.is_empty() && signed(&charter.recovery) * 2 > charter.recovery.len())
    }

    /// The charter as the chain's first `index` entries leave it.
    pub(super) fn charter_at(&self, index: u64) -> &Charter {
        self.charters.iter().rev().find(|(at, _)| *at <= index).map_or(&self.charter, |(_, charter)| charter)
    }

    /// Whether the chain's first `index` entries enrolled an author.
    pub(super) fn knew(&self, author: &AuthorId, index: u64) -> bool {
        self.members.get(author).is_some_and(|m| m.index <= index)
    }

    /// The life of an author after the chain's first `index` entries.
    pub(super) fn life_at(&self, author: &AuthorId, index: u64) -> u32 {
        let lives = self.begun.range((*author, 0)..=(*author, u32::MAX));
        lives.filter(|(_, at)| **at <= index).map(|((_, life), _)| *life).max().unwrap_or(0)
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
        self.push(Applied { id: pooled.id, entry, refused: verdict.err(), at_once, at_ms: pooled.at_ms });
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
                    self.begun.insert((i.author, i.incarnation), index);
                    self.ends.entry((i.author, old)).or_default().lower(&i.ends);
                }
            }
            Entry::Cut(c) => self.cut(c),
            Entry::Amend(amend) => {
                if let Ok(charter) = amend.apply_to(&self.charter) {
                    self.change_charter(charter, index);
                }
            }
            Entry::Mint(mint) => {
                let fresh = || Minted { window_ms: mint.window_ms, windows: BTreeMap::new() };
                self.minted.entry(mint.budget.clone()).or_insert_with(fresh).windows.insert(mint.window, index);
            }
            Entry::Lift(lift) => self.powers.lift(lift, index),
            Entry::Autonomy(autonomy) => self.powers.autonomy(autonomy, index),
            Entry::Reassign(reassign) => self.powers.reassign(reassign, index),
            Entry::Person(_) | Entry::RevokePerson(_) | Entry::Activate(_) | Entry::Term(_) => {}
            Entry::Isolation(_) | Entry::BreakGlass(_) => {}
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
                self.begun.insert((old, member.incarnation), index);
            }
        } else {
            over.revoked = true;
            self.outgoing.insert(old);
        }
        self.change_charter(charter, index);
        self.term = (term.n, index);
        self.next_seq = 1;
        self.push(Applied { id, entry: Some(Entry::Term(term.clone())), refused: None, at_once: true, at_ms: 0 });
    }
}
