//! What the books say of one budget in one window.

use std::collections::BTreeMap;

use super::Escrow;
use super::books::{Account, Purse};
use cauldron_identity::Digest;
use cauldron_identity::budget::{Budget, Life, Window};

/// The sums of one life, or of all. In the budget's minor unit.
///
/// `held + reserved + spent + in_flight + lost` of all lives is what was minted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// What a mint gave to it.
    pub minted: u64,
    /// What it may grant or reserve now.
    pub held: u64,
    /// What it has set aside and not settled. What ended as unknown stays here.
    pub reserved: u64,
    /// What it has spent.
    pub spent: u64,
    /// What is on its way to it: minted or granted and not yet credited, or refused and not yet taken back.
    pub in_flight: u64,
    /// What it held, or had on its way, when its life ended. Facts of that life that arrive later may still turn it into
    /// spent or granted rights; nothing else does.
    pub lost: u64,
    /// What it reserved or spent beyond its rights, beside the sum: not zero only for a liar, or where a grantor forked
    /// its chain.
    pub overdrawn: u64,
}

/// The books of one budget in one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// By life; only those of which something is to be said.
    pub by: BTreeMap<Life, Share>,
}

impl Share {
    /// Everything but `minted` and `overdrawn`, added up.
    #[must_use]
    pub fn sum(&self) -> u64 {
        [self.held, self.reserved, self.spent, self.in_flight, self.lost].iter().fold(0, |a, b| a.saturating_add(*b))
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            minted: self.minted.saturating_add(other.minted),
            held: self.held.saturating_add(other.held),
            reserved: self.reserved.saturating_add(other.reserved),
            spent: self.spent.saturating_add(other.spent),
            in_flight: self.in_flight.saturating_add(other.in_flight),
            lost: self.lost.saturating_add(other.lost),
            overdrawn: self.overdrawn.saturating_add(other.overdrawn),
        }
    }
}

impl Balance {
    /// The sums of all lives.
    #[must_use]
    pub fn total(&self) -> Share {
        self.by.values().fold(Share::default(), Share::plus)
    }

    /// The sums of one life; nothing of anything when it never had to do with this budget.
    #[must_use]
    pub fn of(&self, life: &Life) -> Share {
        self.by.get(life).copied().unwrap_or_default()
    }
}

impl Escrow {
    /// What the books say of `budget` in `window`.
    #[must_use]
    pub fn balance(&self, budget: &Budget, window: Window) -> Balance {
        let mut balance = Balance::default();
        for (life, mut share, purse) in self.shares_of(budget, window) {
            share.overdrawn = purse.reservations.values().fold(0, |sum, r| r.overdrawn().saturating_add(sum));
            if share != Share::default() {
                balance.by.insert(life, share);
            }
        }
        balance
    }

    /// The same without what was overdrawn, whatever the number of reservations: what policies read at every decision.
    #[must_use]
    pub fn brief(&self, budget: &Budget, window: Window) -> Balance {
        let shares = self.shares_of(budget, window).map(|(life, share, _)| (life, share));
        Balance { by: shares.filter(|(_, share)| *share != Share::default()).collect() }
    }

    fn shares_of(&self, budget: &Budget, window: Window) -> impl Iterator<Item = (Life, Share, &Purse)> {
        self.purses_of(budget, window).map(|(account, purse)| {
            let mut share = Share {
                minted: purse.minted,
                held: purse.held,
                reserved: purse.reserved,
                spent: purse.spent,
                in_flight: purse.incoming,
                ..Share::default()
            };
            if self.is_ended(&account.life) {
                share.lost = share.held.saturating_add(share.in_flight);
                (share.held, share.in_flight) = (0, 0);
            }
            (account.life, share, purse)
        })
    }

    /// What was ever granted to `to` for `purpose`, by everybody: whoever grants for a permit grants no more than it needs.
    #[must_use]
    pub fn granted_for(&self, budget: &Budget, window: Window, to: Life, purpose: &Digest) -> u64 {
        let account = Account { budget: budget.clone(), window, life: to };
        self.books.for_purpose.get(&(account, *purpose)).copied().unwrap_or(0)
    }

    /// The budgets and windows of which something was minted, in order.
    pub fn minted_windows(&self) -> impl Iterator<Item = (&Budget, Window)> {
        self.mints.keys().map(|(budget, window)| (budget, *window))
    }
}
