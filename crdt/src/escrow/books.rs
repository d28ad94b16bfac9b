//! What the fold keeps: the facts of each chain, and the books that follow from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_identity::{AuthorId, Digest, FactId};

use super::body::{Body, Place};
use super::judge::{Verdict, Void};
use cauldron_identity::budget::{Budget, Life, Window};

/// What one life holds of one budget in one window: the unit of judgement. `Ord` puts those of one budget and window
/// side by side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub budget: Budget,
    pub window: Window,
    pub life: Life,
}

/// A `budget.*` fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub seq: u64,
    pub id: FactId,
    /// None when it cannot be read.
    pub body: Option<Body>,
    pub verdict: Verdict,
}

/// The chain of one life in `mesh`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Ascending by position.
    pub entries: Vec<Entry>,
    /// The last position seen, of any kind.
    pub held: u64,
    /// The lowest position known to be forked.
    pub fork: Option<u64>,
    /// The first reservation for each purpose, whatever became of it.
    pub purposes: BTreeMap<(Budget, Digest), FactId>,
    /// Whose reservation a settlement means.
    pub reserves: BTreeMap<FactId, Account>,
}

impl Chain {
    pub fn push(&mut self, place: Place, body: Option<Body>) -> usize {
        self.entries.push(Entry { seq: place.seq, id: place.id, body, verdict: Verdict::Waits });
        self.entries.len() - 1
    }

    /// The `budget.*` fact at a position.
    pub fn at(&self, seq: u64) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.entries.get(index)
    }

    /// Forgets every verdict, and every fact that lies beyond a fork.
    pub fn begin_again(&mut self) {
        let fork = self.fork.unwrap_or(u64::MAX);
        self.entries.retain(|entry| entry.seq < fork);
        self.held = self.held.min(fork.saturating_sub(1));
        self.entries.iter_mut().for_each(|entry| entry.verdict = Verdict::Waits);
        self.purposes.clear();
        self.reserves.clear();
    }

    /// The account that a fact of `life` is about, and the verdict on what needs no account.
    pub fn account_of(&mut self, life: Life, id: FactId, body: &Body) -> Result<Account, Void> {
        let (budget, window) = match body {
            Body::Debit(body) => (&body.budget, body.window),
            Body::Credit(body) => (&body.budget, body.window),
            Body::Refuse(body) => (&body.budget, body.window),
            Body::Reserve(body) => (&body.budget, body.window),
            Body::Settle(body) => return self.reserves.get(&body.reserve).cloned().ok_or(Void::NoReservation),
        };
        let account = Account { budget: budget.clone(), window, life };
        if let Body::Reserve(body) = body {
            // By the order of the chain alone: accounts of two windows are judged independently.
            if *self.purposes.entry((body.budget.clone(), body.purpose)).or_insert(id) != id {
                return Err(Void::SamePurpose);
            }
            self.reserves.insert(id, account.clone());
        }
        Ok(account)
    }
}

/// Rights set aside by one life for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Of which budget.
    pub budget: Budget,
    /// For which window.
    pub window: Window,
    /// What for.
    pub purpose: Digest,
    /// How much was asked for.
    pub amount: u64,
    /// How much of it the author held; less than `amount` only where somebody lied.
    pub covered: u64,
    /// How much was spent, once it is settled.
    pub spent: Option<u64>,
}

impl Reservation {
    /// What was set aside or spent without rights.
    #[must_use]
    pub fn overdrawn(&self) -> u64 {
        self.spent.unwrap_or(self.amount).saturating_sub(self.covered)
    }
}

/// The sums of one account. Of `incoming` the account is not the owner yet, but nobody else is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Purse {
    pub minted: u64,
    pub held: u64,
    pub reserved: u64,
    pub spent: u64,
    pub incoming: u64,
    /// Debits of this account that were neither credited nor taken back.
    pub grants_open: usize,
    pub reservations: BTreeMap<FactId, Reservation>,
    /// Facts that are not judged yet, as indices into the chain.
    pub queue: VecDeque<usize>,
}

/// How far a grant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// On its way to the receiver.
    There,
    /// Refused, and so on its way back.
    Back {
        /// The `budget.refuse` fact.
        refuse: Place,
    },
    /// Credited by the receiver, or again by its grantor.
    Arrived,
}

/// Rights that left: a debit that counts, or a mint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub budget: Budget,
    pub window: Window,
    pub amount: u64,
    /// The debit; none for a mint.
    pub debit: Option<Place>,
    pub to: Life,
    pub way: Way,
}

impl Grant {
    /// Who may credit it now.
    pub fn taker(&self) -> Option<Life> {
        match self.way {
            Way::There => Some(self.to),
            Way::Back { .. } => self.debit.map(|debit| debit.life),
            Way::Arrived => None,
        }
    }
}

/// What a fact waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    /// An authority entry.
    Mint(FactId),
    /// The fact at a place, or the verdict on it.
    Place(Life, u64),
}

/// What follows from the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub purses: BTreeMap<Account, Purse>,
    /// By debit or mint.
    pub grants: BTreeMap<FactId, Grant>,
    /// Grants by who may credit them.
    pub due: BTreeMap<Life, BTreeSet<FactId>>,
    pub waiting: BTreeMap<Awaited, BTreeSet<Account>>,
    /// Mints that do not count.
    pub second_mints: BTreeSet<FactId>,
    /// What was ever granted to a life for one purpose, by all grantors.
    pub for_purpose: BTreeMap<(Account, Digest), u64>,
}

impl Books {
    pub fn purse(&mut self, account: &Account) -> &mut Purse {
        self.purses.entry(account.clone()).or_default()
    }

    /// Records a grant that is on its way.
    pub fn send(&mut self, id: FactId, grant: Grant) {
        let account = grant.account_of(grant.to);
        let purse = self.purse(&account);
        purse.incoming = purse.incoming.saturating_add(grant.amount);
        self.due.entry(grant.to).or_default().insert(id);
        self.grants.insert(id, grant);
    }

    /// Changes the way of a grant, with the sums and the index that depend on it.
    pub fn turn(&mut self, id: FactId, way: Way) {
        let Some(grant) = self.grants.get_mut(&id) else { return };
        let (before, amount, debit) = (grant.taker(), grant.amount, grant.debit);
        grant.way = way;
        let grant = grant.clone();
        if let Some(life) = before {
            let purse = self.purse(&grant.account_of(life));
            purse.incoming = purse.incoming.saturating_sub(amount);
            if let Some(due) = self.due.get_mut(&life) {
                due.remove(&id);
            }
        }
        match (grant.taker(), debit) {
            (Some(life), _) => {
                let purse = self.purse(&grant.account_of(life));
                purse.incoming = purse.incoming.saturating_add(amount);
                self.due.entry(life).or_default().insert(id);
            }
            (None, Some(debit)) => {
                let purse = self.purse(&grant.account_of(debit.life));
                purse.grants_open = purse.grants_open.saturating_sub(1);
            }
            (None, None) => {}
        }
    }
}

impl Grant {
    fn account_of(&self, life: Life) -> Account {
        Account { budget: self.budget.clone(), window: self.window, life }
    }
}

impl super::Escrow {
    /// The accounts of one budget and window.
    pub(super) fn purses_of(&self, budget: &Budget, window: Window) -> impl Iterator<Item = (&Account, &Purse)> {
        let least = Life { author: AuthorId::from_bytes([0; 32]), incarnation: 0 };
        let (budget, first) = (budget.clone(), Account { budget: budget.clone(), window, life: least });
        self.books
            .purses
            .range(first..)
            .take_while(move |(account, _)| account.budget == budget && account.window == window)
    }
}
