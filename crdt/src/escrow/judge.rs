//! The fold: each fact is judged once, at its place in its account, when all that it names is judged.

use std::collections::BTreeSet;

use cauldron_identity::{FactId, planted};

use super::Escrow;
use super::body::{Body, Credit, Debit, Place, Refuse, Reserve, Settle, Source};
use super::books::{Account, Awaited, Grant, Reservation, Way};
use cauldron_identity::budget::{Life, Mint};

/// What a `budget.*` fact counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is in the books.
    Counts,
    /// It never changes anything.
    Void(Void),
    /// What it names, or what lies before it in its account, is not here yet.
    Waits,
}

/// Why a fact is void. An honest author writes none that is, unless a grantor forked its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Void {
    /// The body is not of the shape of its kind.
    #[error("its body cannot be read")]
    Unreadable,
    /// Nothing is granted or reserved.
    #[error("its amount is zero")]
    Zero,
    /// A debit in its author's own favour.
    #[error("it grants to its own author")]
    ToItself,
    /// The author held less than it gave away.
    #[error("its author held less than it grants")]
    NotCovered,
    /// The fact that it names does not exist, is of another kind, or lies beyond a fork.
    #[error("the fact that it names does not exist in that place")]
    NoSource,
    /// The fact that it names is void.
    #[error("the fact that it names is void")]
    VoidSource,
    /// The mint that it names is a second one for its budget and window.
    #[error("the mint that it names is not the first of its budget and window")]
    SecondMint,
    /// The fact that it names is in favour of another life, budget or window.
    #[error("the fact that it names is in favour of another")]
    NotAddressed,
    /// The source was credited or refused before.
    #[error("what it takes was credited or refused before")]
    Taken,
    /// The life has reserved for this purpose before.
    #[error("its author has reserved for this purpose before")]
    SamePurpose,
    /// No reservation of this chain has that id, or it was void.
    #[error("it settles no reservation of its own chain")]
    NoReservation,
    /// The reservation was settled before.
    #[error("the reservation was settled before")]
    Settled,
}

/// Why a fact does not count now.
enum Stop {
    Waits(Awaited),
    Void(Void),
}

impl From<Void> for Stop {
    fn from(void: Void) -> Self {
        Self::Void(void)
    }
}

impl Escrow {
    /// Takes the fact at `place`, which is entry `index` of its chain unless it is of another kind.
    pub(super) fn arrive(&mut self, place: Place, index: Option<usize>) {
        let mut todo = self.woken(Awaited::Place(place.life, place.seq));
        let chain = self.chains.entry(place.life).or_default();
        let entry = index.and_then(|index| chain.entries.get(index).cloned());
        if let (Some(index), Some(entry)) = (index, entry) {
            let account = match &entry.body {
                Some(body) => chain.account_of(place.life, place.id, body),
                None => Err(Void::Unreadable),
            };
            match account {
                Ok(account) => {
                    self.books.purse(&account).queue.push_back(index);
                    todo.insert(account);
                }
                Err(void) => chain.entries[index].verdict = Verdict::Void(void),
            }
        }
        self.work(todo);
    }

    /// Puts a mint into the books and wakes whoever waits for it.
    pub(super) fn minted(&mut self, entry: FactId, mint: &Mint, first: bool) {
        if !first {
            self.books.second_mints.insert(entry);
        } else {
            let account = Account { budget: mint.budget.clone(), window: mint.window, life: mint.holder };
            self.books.purse(&account).minted = mint.amount;
            let (budget, window) = (account.budget, account.window);
            let (amount, to) = (mint.amount, mint.holder);
            self.books.send(entry, Grant { budget, window, amount, debit: None, to, way: Way::There });
        }
        let todo = self.woken(Awaited::Mint(entry));
        self.work(todo);
    }

    /// Wakes whoever waits for what lies at or beyond a fork.
    pub(super) fn never_comes(&mut self, life: Life, seq: u64) {
        let beyond = Awaited::Place(life, seq)..=Awaited::Place(life, u64::MAX);
        let awaited: Vec<Awaited> = self.books.waiting.range(beyond).map(|(awaited, _)| *awaited).collect();
        let todo = awaited.into_iter().flat_map(|awaited| self.woken(awaited)).collect();
        self.work(todo);
    }

    fn woken(&mut self, by: Awaited) -> BTreeSet<Account> {
        self.books.waiting.remove(&by).unwrap_or_default()
    }

    /// Judges what can be judged in these accounts, and in those that waited for it.
    fn work(&mut self, mut todo: BTreeSet<Account>) {
        while let Some(account) = todo.pop_first() {
            while let Some(index) = self.books.purses.get(&account).and_then(|purse| purse.queue.front().copied()) {
                let Some((place, body)) = self.entry(account.life, index) else { break };
                let verdict = match self.judge(&account, place, &body) {
                    Ok(()) => Verdict::Counts,
                    Err(Stop::Void(void)) => Verdict::Void(void),
                    Err(Stop::Waits(awaited)) => {
                        self.books.waiting.entry(awaited).or_default().insert(account.clone());
                        break;
                    }
                };
                if let Some(entry) = self.chains.get_mut(&account.life).and_then(|chain| chain.entries.get_mut(index)) {
                    entry.verdict = verdict;
                }
                self.books.purse(&account).queue.pop_front();
                todo.extend(self.woken(Awaited::Place(place.life, place.seq)));
            }
        }
    }

    fn entry(&self, life: Life, index: usize) -> Option<(Place, Body)> {
        let entry = self.chains.get(&life)?.entries.get(index)?;
        Some((Place { life, seq: entry.seq, id: entry.id }, entry.body.clone()?))
    }

    fn judge(&mut self, account: &Account, place: Place, body: &Body) -> Result<(), Stop> {
        match body {
            Body::Debit(debit) => self.debit(account, place, debit),
            Body::Credit(credit) => self.credit(account, credit),
            Body::Refuse(refuse) => self.refuse(account, place, refuse),
            Body::Reserve(reserve) => self.reserve(account, place.id, reserve),
            Body::Settle(settle) => self.settle(account, settle),
        }
    }

    fn debit(&mut self, account: &Account, place: Place, debit: &Debit) -> Result<(), Stop> {
        if debit.amount == 0 {
            return Err(Void::Zero.into());
        }
        if debit.to == account.life {
            return Err(Void::ToItself.into());
        }
        let purse = self.books.purse(account);
        purse.held = purse.held.checked_sub(debit.amount).ok_or(Void::NotCovered)?;
        purse.grants_open += 1;
        let (budget, window) = (account.budget.clone(), account.window);
        let (amount, to) = (debit.amount, debit.to);
        if let Some(purpose) = debit.purpose {
            let receiver = Account { life: to, ..account.clone() };
            let sum = self.books.for_purpose.entry((receiver, purpose)).or_default();
            *sum = sum.saturating_add(amount);
        }
        self.books.send(place.id, Grant { budget, window, amount, debit: Some(place), to, way: Way::There });
        Ok(())
    }

    fn credit(&mut self, account: &Account, credit: &Credit) -> Result<(), Stop> {
        let id = match credit.source {
            Source::Mint(entry) => self.first_mint(entry)?,
            Source::Debit(debit) => self.counted(&debit).and_then(|body| match body {
                Body::Debit(_) => Ok(debit.id),
                _ => Err(Void::NoSource.into()),
            })?,
            Source::Refuse(refuse) => self.counted(&refuse).and_then(|body| match body {
                Body::Refuse(body) => Ok(body.debit.id),
                _ => Err(Void::NoSource.into()),
            })?,
        };
        let grant = self.books.grants.get(&id).ok_or(Void::NoSource)?;
        if (&grant.budget, grant.window) != (&account.budget, account.window) {
            return Err(Void::NotAddressed.into());
        }
        let amount = grant.amount;
        let back = matches!(credit.source, Source::Refuse(_));
        let addressed = if back { grant.debit.map(|debit| debit.life) } else { Some(grant.to) };
        let refunds = planted::active("refund-by-timeout") && grant.debit.map(|debit| debit.life) == Some(account.life);
        if addressed != Some(account.life) && !refunds {
            return Err(Void::NotAddressed.into());
        }
        let open = if back { matches!(grant.way, Way::Back { .. }) } else { grant.way == Way::There };
        if !open && !planted::active("credit-counted-twice") {
            return Err(Void::Taken.into());
        }
        self.books.turn(id, Way::Arrived);
        let purse = self.books.purse(account);
        purse.held = purse.held.saturating_add(amount);
        Ok(())
    }

    fn refuse(&mut self, account: &Account, place: Place, refuse: &Refuse) -> Result<(), Stop> {
        let Body::Debit(debit) = self.counted(&refuse.debit)? else { return Err(Void::NoSource.into()) };
        if debit.to != account.life || (&debit.budget, debit.window) != (&account.budget, account.window) {
            return Err(Void::NotAddressed.into());
        }
        if self.books.grants.get(&refuse.debit.id).is_none_or(|grant| grant.way != Way::There) {
            return Err(Void::Taken.into());
        }
        self.books.turn(refuse.debit.id, Way::Back { refuse: place });
        Ok(())
    }

    /// Counts even where it is not covered: its author has said that it may act, and what it held is used up by that.
    fn reserve(&mut self, account: &Account, id: FactId, reserve: &Reserve) -> Result<(), Stop> {
        if reserve.amount == 0 {
            return Err(Void::Zero.into());
        }
        let purse = self.books.purse(account);
        let covered = reserve.amount.min(purse.held);
        purse.held -= covered;
        purse.reserved = purse.reserved.saturating_add(covered);
        let reservation = Reservation {
            budget: account.budget.clone(),
            window: account.window,
            purpose: reserve.purpose,
            amount: reserve.amount,
            covered,
            spent: None,
        };
        purse.reservations.insert(id, reservation);
        Ok(())
    }

    fn settle(&mut self, account: &Account, settle: &Settle) -> Result<(), Stop> {
        let purse = self.books.purse(account);
        let reservation = purse.reservations.get_mut(&settle.reserve).ok_or(Void::NoReservation)?;
        if reservation.spent.is_some() {
            return Err(Void::Settled.into());
        }
        reservation.spent = Some(settle.spent);
        let covered = reservation.covered;
        let spent = settle.spent.min(covered);
        purse.reserved = purse.reserved.saturating_sub(covered);
        purse.spent = purse.spent.saturating_add(spent);
        purse.held = purse.held.saturating_add(covered - spent);
        Ok(())
    }

    /// The first mint of its budget and window, by its entry.
    fn first_mint(&self, entry: FactId) -> Result<FactId, Stop> {
        if self.books.grants.get(&entry).is_some_and(|grant| grant.debit.is_none()) {
            return Ok(entry);
        }
        let second = self.books.second_mints.contains(&entry);
        Err(if second { Void::SecondMint.into() } else { Stop::Waits(Awaited::Mint(entry)) })
    }

    /// The body of the fact at `place`, once it is known to count.
    fn counted(&self, place: &Place) -> Result<&Body, Stop> {
        let waits = Stop::Waits(Awaited::Place(place.life, place.seq));
        if place.seq == 0 {
            return Err(Void::NoSource.into());
        }
        let Some(chain) = self.chains.get(&place.life) else { return Err(waits) };
        if chain.fork.is_some_and(|fork| place.seq >= fork) {
            return Err(Void::NoSource.into());
        }
        let Some(entry) = chain.at(place.seq) else {
            return Err(if place.seq <= chain.held { Void::NoSource.into() } else { waits });
        };
        match (&entry.body, entry.verdict) {
            _ if entry.id != place.id => Err(Void::NoSource.into()),
            (Some(body), Verdict::Counts) => Ok(body),
            (Some(_), Verdict::Waits) => Err(waits),
            _ => Err(Void::VoidSource.into()),
        }
    }
}
