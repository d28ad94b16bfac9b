//! Escrow (bounded) counters: mesh-wide limits that hold under partition. No clock, no chance, no IO.
//!
//! Rights are minted once per (budget, window) on the authority chain; a life holds them, hands them on and spends them.
//! Everything else is a fact on its author's own chain in `mesh`, and [`Escrow`] is a fold over them:
//!
//! ```text
//! mint ─▶ Credit ─▶ held ─▶ Debit ─ in flight ─▶ Credit (the receiver's)      held + reserved + spent
//!                    │ ▲                  └────▶ Refuse ─▶ Credit (back)         + in flight + lost = minted
//!                    ▼ └── the rest ──┐
//!                 Reserve ─────────▶ Settle ─▶ spent
//! ```
//!
//! The synced `Debit` is the grant, the synced `Credit` its acknowledgement: there are no other messages. Each fact is
//! judged at its place in its own chain, by what lies before it and the facts it names. So a verdict, once given, stays
//! (only a fork takes facts away), and any order of authors gives the same books. A fact whose source is not here yet
//! waits, and so do those behind it of the same life, budget and window.
//!
//! Ends of a life (cut, new incarnation, fork) move no books: what an ended life holds, or has on its way, is *lost*.
//! What it handed on counts as far as it was covered. A [`Decider`] credits nothing beyond an end.
//!
//! The balance (an escrow counter) is that of O'Neil, "The Escrow Transactional Method" (1986), and Balegas et al.,
//! "Extending Eventually Consistent Cloud Databases for Enforcing Numeric Invariants" (2015).

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::{Fact, FactId, Scope};

use crate::log::{FactLog, Row};

mod balance;
mod body;
mod books;
mod decide;
pub mod invariants;
mod judge;
#[cfg(test)]
mod tests;

pub use balance::{Balance, Share};
pub use body::{
    Body, Credit, Debit, KIND_CREDIT, KIND_DEBIT, KIND_REFUSE, KIND_RESERVE, KIND_SETTLE, Place, Refuse, Reserve,
    Settle, Source, purpose_named, purpose_of,
};
pub use books::Reservation;
pub use cauldron_identity::budget::{Budget, BudgetError, Life, Mint, Window};
pub use decide::{Decider, Refused};
pub use judge::{Verdict, Void};

use books::{Books, Chain};

/// What became of a fact that was given to [`Escrow::fold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// It was taken.
    New,
    /// It was here already, or lies beyond a fork of its chain.
    Known,
    /// Facts before it are missing: the log hands out no such fact, so nothing was folded.
    Gap,
}

/// Two mints of one (budget, window): the sequencer equivocates. The first in the order of authority counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondMint {
    /// Of which budget.
    pub budget: Budget,
    /// For which window.
    pub window: Window,
    /// The authority entry that counts.
    pub first: FactId,
    /// The one that does not.
    pub second: FactId,
}

/// The books of every budget, as far as this node knows.
///
/// Its memory is a constant times that of the `budget.*` facts in the log, about 400 bytes each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Escrow {
    /// By (budget, window), then by place in the authority chain.
    mints: BTreeMap<(Budget, Window), BTreeMap<(u64, FactId), Mint>>,
    chains: BTreeMap<Life, Chain>,
    /// Last positions in `mesh` that count, of lives that were cut or followed by another.
    ends: BTreeMap<Life, u64>,
    suspended: BTreeMap<Life, u64>,
    books: Books,
}

impl Escrow {
    /// Empty books.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The books of what `log` holds. Mints and ends come from the authority chain: the caller adds them.
    #[must_use]
    pub fn of_log(log: &FactLog) -> Self {
        let (mut escrow, mesh) = (Self::new(), Scope::mesh());
        for header in log.evidence(&mesh).filter_map(crate::log::Evidence::header) {
            escrow.fork(Life { author: header.author, incarnation: header.incarnation }, header.seq);
        }
        for row in log.rows_in(&mesh) {
            if row.kind.is_some_and(|kind| !Self::reads(kind)) {
                escrow.fold_unread(&row);
            } else if let Some(fact) = log.at(row.chain, row.seq) {
                escrow.fold(&fact);
            }
        }
        escrow
    }

    /// Whether a fact of `kind` has a body for the books.
    #[must_use]
    pub fn reads(kind: &str) -> bool {
        [KIND_DEBIT, KIND_CREDIT, KIND_REFUSE, KIND_RESERVE, KIND_SETTLE].contains(&kind)
    }

    /// [`Escrow::fold`], of a fact whose kind is none of those that [`Escrow::reads`]: where it stands is enough.
    pub fn fold_unread(&mut self, row: &Row<'_>) -> Folded {
        if row.chain.scope != Scope::mesh() {
            return Folded::Known;
        }
        let life = Life { author: row.chain.author, incarnation: row.chain.incarnation };
        self.fold_body(Place { life, seq: row.seq, id: row.id }, None)
    }

    /// Takes the next fact of a chain. Every fact of `mesh` belongs here, those of other kinds too: they say how far a
    /// chain goes. A fact of another scope is not of this house and changes nothing.
    pub fn fold(&mut self, fact: &Fact) -> Folded {
        if fact.header().scope != Scope::mesh() {
            return Folded::Known;
        }
        let place = Place::of(fact.header(), fact.id());
        // A body that was withheld says as little as one that cannot be read.
        let body = Body::read(&fact.header().kind, fact.body().unwrap_or_default());
        self.fold_body(place, body.map(Result::ok))
    }

    /// [`Escrow::fold`], of a fact that was read already: `None` for another kind, `Some(None)` for a body that cannot
    /// be read.
    pub fn fold_body(&mut self, place: Place, body: Option<Option<Body>>) -> Folded {
        let chain = self.chains.entry(place.life).or_default();
        if place.seq <= chain.held || chain.fork.is_some_and(|fork| place.seq >= fork) {
            return Folded::Known;
        }
        if place.seq != chain.held + 1 {
            return Folded::Gap;
        }
        chain.held = place.seq;
        let index = body.map(|body| chain.push(place, body));
        self.arrive(place, index);
        Folded::New
    }

    /// Takes a mint that is in effect, at `index` of the authority chain. Where a term dropped entries, the caller makes
    /// the books anew.
    pub fn mint(&mut self, entry: FactId, index: u64, mint: &Mint) {
        let of = self.mints.entry((mint.budget.clone(), mint.window)).or_default();
        if of.contains_key(&(index, entry)) {
            return;
        }
        let first = of.keys().next().is_none_or(|first| (index, entry) < *first);
        let alone = of.is_empty();
        of.insert((index, entry), mint.clone());
        if first && !alone {
            // The authority chain is folded in its order, so this is rare, and only then a verdict may change.
            self.refold();
        } else {
            self.minted(entry, mint, first);
        }
    }

    /// The chain of `life` in `mesh` is proven to be forked at `seq`: from there on nothing of it counts, for nobody
    /// knows which branch others hold. Where facts in the books lie beyond, all books are made anew: a caller with several
    /// proofs about one chain gives the lowest alone.
    pub fn fork(&mut self, life: Life, seq: u64) {
        let chain = self.chains.entry(life).or_default();
        if chain.fork.is_some_and(|known| known <= seq) {
            return;
        }
        chain.fork = Some(seq);
        if chain.entries.last().is_some_and(|last| last.seq >= seq) {
            self.refold();
        } else {
            chain.held = chain.held.min(seq.saturating_sub(1));
            self.never_comes(life, seq);
        }
    }

    /// The life ended: it was cut, or followed by another incarnation. `seq` is the last position in `mesh` that counts;
    /// of several the lowest stays. It holds nothing from now on: what is left of its rights is lost.
    pub fn end(&mut self, life: Life, seq: u64) {
        let end = self.ends.entry(life).or_insert(seq);
        *end = seq.min(*end);
    }

    /// Forgets every end and suspension, for the caller to say them anew: a term of the council may take back the entry
    /// that began another life. The books stay as they are.
    pub fn forget_ends(&mut self) {
        self.ends.clear();
        self.suspended.clear();
    }

    /// A suspension of the life begins or, with `None`, is lifted. `seq` is the last position in `mesh` that counts.
    /// The books stay as they are; this node neither grants to it nor takes from it beyond.
    pub fn suspend(&mut self, life: Life, seq: Option<u64>) {
        match seq {
            Some(seq) => _ = self.suspended.insert(life, seq),
            None => _ = self.suspended.remove(&life),
        }
    }

    /// Whether the life is over: cut, followed by another, or forked.
    #[must_use]
    pub fn is_ended(&self, life: &Life) -> bool {
        self.ends.contains_key(life) || self.chains.get(life).is_some_and(|chain| chain.fork.is_some())
    }

    /// The authority entries whose mints were taken.
    pub fn mint_entries(&self) -> impl Iterator<Item = FactId> + '_ {
        self.mints.values().flat_map(|of| of.keys().map(|(_, entry)| *entry))
    }

    /// Proofs against the sequencer.
    pub fn second_mints(&self) -> impl Iterator<Item = SecondMint> + '_ {
        self.mints.iter().flat_map(|((budget, window), of)| {
            let mut ids = of.keys().map(|(_, id)| *id);
            let first = ids.next();
            ids.filter_map(move |second| {
                Some(SecondMint { budget: budget.clone(), window: *window, first: first?, second })
            })
        })
    }

    /// What `life` decides when `now` is the window that is open: bodies to append, or why not.
    #[must_use]
    pub fn decider(&self, life: Life, now: Window) -> Decider<'_> {
        Decider::new(self, life, now)
    }

    /// What a fact of a `budget.*` kind counts for; nothing when it is not in the books.
    #[must_use]
    pub fn verdict(&self, place: &Place) -> Option<Verdict> {
        let entry = self.chains.get(&place.life)?.at(place.seq)?;
        (entry.id == place.id).then_some(entry.verdict)
    }

    /// Every `budget.*` fact in the books with its verdict, by chain and position; no body for one that cannot be read.
    pub fn facts(&self) -> impl Iterator<Item = (Place, Option<&Body>, Verdict)> {
        self.chains.iter().flat_map(|(life, chain)| {
            chain
                .entries
                .iter()
                .map(|entry| (Place { life: *life, seq: entry.seq, id: entry.id }, entry.body.as_ref(), entry.verdict))
        })
    }

    /// The reservations of a life that count, with their fact ids. What is not settled is to be reconciled.
    pub fn reservations(&self, life: Life) -> impl Iterator<Item = (FactId, &Reservation)> {
        let of = self.books.purses.iter().filter(move |(account, _)| account.life == life);
        of.flat_map(|(_, purse)| purse.reservations.iter().map(|(id, reservation)| (*id, reservation)))
    }

    /// Makes the books anew from what was taken.
    fn refold(&mut self) {
        self.books = Books::default();
        let ordered = self.mints.values().flat_map(|of| of.iter().enumerate());
        let mints: Vec<(FactId, Mint, bool)> =
            ordered.map(|(place, ((_, entry), mint))| (*entry, mint.clone(), place == 0)).collect();
        mints.iter().for_each(|(entry, mint, first)| self.minted(*entry, mint, *first));
        let mut arriving: BTreeSet<(Life, usize)> = BTreeSet::new();
        for (life, chain) in &mut self.chains {
            chain.begin_again();
            arriving.extend((0..chain.entries.len()).map(|index| (*life, index)));
        }
        for (life, index) in arriving {
            let Some(entry) = self.chains.get(&life).and_then(|chain| chain.entries.get(index)) else { continue };
            let place = Place { life, seq: entry.seq, id: entry.id };
            self.arrive(place, Some(index));
        }
    }
}
