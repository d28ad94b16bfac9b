//! What an honest life may write next. Each answer is a body to append; nothing here changes the books.

use std::collections::BTreeMap;

use cauldron_identity::{Digest, FactId, planted};

use super::Escrow;
use super::body::{Body, Credit, Debit, Refuse, Reserve, Settle, Source};
use super::books::{Account, Grant, Purse, Reservation, Way};
use crate::limits::{DUES_MAX, GRANTS_OPEN_MAX};
use cauldron_identity::budget::{Budget, Life, Window};

/// The decisions of one life at one time.
///
/// The books must hold every fact that the life itself wrote. Append the body, fold the fact, and only then decide the
/// next; the fact is durable before a frame leaves or an effect starts.
#[derive(Debug)]
pub struct Decider<'e> {
    escrow: &'e Escrow,
    life: Life,
    now: Window,
}

/// Why a life may not do that. Each says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Zero is no amount.
    #[error("an amount of zero changes nothing: ask for 1 or more")]
    Zero,
    /// A grant to oneself.
    #[error("a life cannot grant to itself: name another one")]
    ToItself,
    /// This life is over.
    #[error("{life} was cut, forked its chain or was followed by another life: decide for the life of now")]
    Over {
        /// This life.
        life: Life,
    },
    /// Own facts wait for others.
    #[error("{waiting} own facts about {budget} in window {window} name facts that are not here: sync first")]
    Waiting {
        /// Of which budget.
        budget: Budget,
        /// For which window.
        window: Window,
        /// How many.
        waiting: usize,
    },
    /// The window is over.
    #[error("window {window} is over, {now} is open: rights of it are worth nothing, grant those of {now} or later")]
    Closed {
        /// The window asked for.
        window: Window,
        /// The one that is open.
        now: Window,
    },
    /// Not enough is held.
    #[error(
        "{wanted} of {budget} are wanted in window {window}, {held} are held and {in_flight} on their way: ask a peer for \
         the rest, or wait for the next window"
    )]
    NotEnough {
        /// Of which budget.
        budget: Budget,
        /// For which window.
        window: Window,
        /// What was asked for.
        wanted: u64,
        /// What is held.
        held: u64,
        /// What is on its way to this life.
        in_flight: u64,
    },
    /// The receiver's life is over, or it is suspended.
    #[error(
        "{to} is suspended or its life is over, so what it is given would be lost: grant to its life of now, or to another"
    )]
    NoReceiver {
        /// The receiver.
        to: Life,
    },
    /// Too many grants are unanswered.
    #[error(
        "{GRANTS_OPEN_MAX} grants of {budget} in window {window} are unanswered: wait until a receiver credits or refuses one"
    )]
    TooManyOpen {
        /// Of which budget.
        budget: Budget,
        /// For which window.
        window: Window,
    },
    /// There is a reservation for this purpose.
    #[error("the purpose was reserved for before, by fact {reserve}: go on with that one")]
    AlreadyReserved {
        /// The `budget.reserve` fact.
        reserve: FactId,
    },
    /// There is no such reservation.
    #[error("fact {reserve} is no reservation of this life: settle what it reserved itself")]
    NoReservation {
        /// The fact named.
        reserve: FactId,
    },
    /// It was settled before.
    #[error("fact {reserve} was settled before, with {spent}: nothing is left to do")]
    Settled {
        /// The `budget.reserve` fact.
        reserve: FactId,
        /// What was spent.
        spent: u64,
    },
    /// More was spent than was reserved.
    #[error(
        "{spent} are more than the {reserved} reserved: settle with {reserved}, and have a person look at the rest"
    )]
    MoreThanReserved {
        /// What was asked for.
        spent: u64,
        /// What was reserved.
        reserved: u64,
    },
    /// There is no such grant to refuse.
    #[error("fact {debit} is no open grant to this life: there is nothing to refuse")]
    NoGrant {
        /// The fact named.
        debit: FactId,
    },
}

impl Refused {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Zero => "amount_zero",
            Self::ToItself => "grant_to_itself",
            Self::Over { .. } => "life_over",
            Self::Waiting { .. } => "rights_waiting",
            Self::Closed { .. } => "window_closed",
            Self::NotEnough { .. } => "not_enough",
            Self::NoReceiver { .. } => "no_receiver",
            Self::TooManyOpen { .. } => "too_many_grants",
            Self::AlreadyReserved { .. } => "already_reserved",
            Self::NoReservation { .. } => "no_reservation",
            Self::Settled { .. } => "already_settled",
            Self::MoreThanReserved { .. } => "more_than_reserved",
            Self::NoGrant { .. } => "no_grant",
        }
    }
}

impl<'e> Decider<'e> {
    pub(super) fn new(escrow: &'e Escrow, life: Life, now: Window) -> Self {
        Self { escrow, life, now }
    }

    /// Sets `amount` of the open window aside for `purpose`, before anything is started.
    ///
    /// # Errors
    /// [`Refused::AlreadyReserved`] names the reservation that a life made before it crashed; [`Refused::NotEnough`]; and
    /// those of every decision.
    pub fn reserve(&self, budget: &Budget, amount: u64, purpose: Digest) -> Result<Reserve, Refused> {
        let own = self.escrow.chains.get(&self.life);
        if let Some(reserve) = own.and_then(|chain| chain.purposes.get(&(budget.clone(), purpose))) {
            return Err(Refused::AlreadyReserved { reserve: *reserve });
        }
        self.covers(budget, self.now, amount)?;
        Ok(Reserve { budget: budget.clone(), window: self.now, amount, purpose })
    }

    /// Ends a reservation: `spent` of it is gone, the rest is held again. What ended as unknown is not settled until a
    /// probe or a person says how it ended. A life that was cut may still say so: outcomes count whatever happens.
    ///
    /// # Errors
    /// [`Refused::NoReservation`], [`Refused::Settled`], [`Refused::MoreThanReserved`], [`Refused::Waiting`].
    pub fn settle(&self, reserve: FactId, spent: u64) -> Result<Settle, Refused> {
        let found = self.own(&reserve).ok_or(Refused::NoReservation { reserve })?;
        self.settled_purse(&found.budget, found.window)?;
        match found.spent {
            Some(spent) => Err(Refused::Settled { reserve, spent }),
            None if spent > found.covered => Err(Refused::MoreThanReserved { spent, reserved: found.covered }),
            None => Ok(Settle { reserve, spent }),
        }
    }

    /// Grants `amount` of the open or a later window to another life. It must be one that is enrolled: what goes to
    /// nobody is lost. No time brings it back, only the receiver's refusal.
    ///
    /// # Errors
    /// [`Refused::Closed`], [`Refused::ToItself`], [`Refused::NoReceiver`], [`Refused::NotEnough`],
    /// [`Refused::TooManyOpen`]; and those of every decision.
    pub fn debit(&self, budget: &Budget, window: Window, amount: u64, to: Life) -> Result<Debit, Refused> {
        if window < self.now {
            return Err(Refused::Closed { window, now: self.now });
        }
        if to == self.life {
            return Err(Refused::ToItself);
        }
        if self.escrow.is_ended(&to) || self.escrow.suspended.contains_key(&to) {
            return Err(Refused::NoReceiver { to });
        }
        let purse = match self.covers(budget, window, amount) {
            Err(Refused::NotEnough { .. }) if planted::active("grant-from-nothing") => None,
            covered => covered?,
        };
        if purse.is_some_and(|purse| purse.grants_open >= GRANTS_OPEN_MAX) {
            return Err(Refused::TooManyOpen { budget: budget.clone(), window });
        }
        Ok(Debit { budget: budget.clone(), window, amount, to, purpose: None })
    }

    /// Says that this life will never credit an open grant: its grantor may take it back.
    ///
    /// # Errors
    /// [`Refused::NoGrant`], [`Refused::Waiting`], [`Refused::Over`].
    pub fn refuse(&self, debit: FactId) -> Result<Refuse, Refused> {
        self.lives()?;
        let grant =
            self.escrow.books.grants.get(&debit).filter(|grant| grant.way == Way::There && grant.to == self.life);
        let (grant, place) = grant.and_then(|grant| Some((grant, grant.debit?))).ok_or(Refused::NoGrant { debit })?;
        self.settled_purse(&grant.budget, grant.window)?;
        Ok(Refuse { budget: grant.budget.clone(), window: grant.window, debit: place })
    }

    /// What this life has to write now: credits of mints and grants in its favour and of its own grants that were
    /// refused, and refusals of grants beyond the end of their grantor's life. At most [`DUES_MAX`]; the rest when these
    /// are folded. A grant beyond a suspension waits for its lift or a cut.
    #[must_use]
    pub fn dues(&self) -> Vec<Body> {
        if self.lives().is_err() {
            return Vec::new();
        }
        let due = self.escrow.books.due.get(&self.life).into_iter().flatten();
        let due = due.filter_map(|id| self.due(*id, self.escrow.books.grants.get(id)?));
        due.chain(self.planted_refunds()).take(DUES_MAX).collect()
    }

    /// The reservation of this life for `purpose`, and its fact.
    #[must_use]
    pub fn reservation(&self, budget: &Budget, purpose: &Digest) -> Option<(FactId, &'e Reservation)> {
        let id = self.escrow.chains.get(&self.life)?.purposes.get(&(budget.clone(), *purpose))?;
        Some((*id, self.own(id)?))
    }

    /// A reservation of this life that counts.
    fn own(&self, reserve: &FactId) -> Option<&'e Reservation> {
        let account = self.escrow.chains.get(&self.life)?.reserves.get(reserve)?;
        self.escrow.books.purses.get(account)?.reservations.get(reserve)
    }

    fn due(&self, id: FactId, grant: &Grant) -> Option<Body> {
        let (budget, window) = (grant.budget.clone(), grant.window);
        self.settled_purse(&budget, window).ok()?;
        let credit = |source| Some(Body::Credit(Credit { budget: budget.clone(), window, source }));
        match (grant.way, grant.debit) {
            (Way::There, None) => credit(Source::Mint(id)),
            (Way::There, Some(debit)) => {
                let beyond = |ends: &BTreeMap<Life, u64>| ends.get(&debit.life).is_some_and(|end| debit.seq > *end);
                if beyond(&self.escrow.ends) {
                    return Some(Body::Refuse(Refuse { budget, window, debit }));
                }
                if beyond(&self.escrow.suspended) { None } else { credit(Source::Debit(debit)) }
            }
            (Way::Back { refuse }, _) => credit(Source::Refuse(refuse)),
            (Way::Arrived, _) => None,
        }
    }

    /// The planted bug `refund-by-timeout`: whatever is unanswered has waited long enough.
    fn planted_refunds(&self) -> impl Iterator<Item = Body> {
        let planted = planted::active("refund-by-timeout");
        self.escrow.books.grants.values().filter(move |_| planted).filter_map(|grant| {
            let debit = grant.debit.filter(|debit| debit.life == self.life && grant.way == Way::There)?;
            let (budget, window) = (grant.budget.clone(), grant.window);
            Some(Body::Credit(Credit { budget, window, source: Source::Debit(debit) }))
        })
    }

    fn lives(&self) -> Result<(), Refused> {
        if self.escrow.is_ended(&self.life) { Err(Refused::Over { life: self.life }) } else { Ok(()) }
    }

    /// The own purse, when every own fact about it is judged.
    fn settled_purse(&self, budget: &Budget, window: Window) -> Result<Option<&'e Purse>, Refused> {
        let account = Account { budget: budget.clone(), window, life: self.life };
        let purse = self.escrow.books.purses.get(&account);
        match purse.map_or(0, |purse| purse.queue.len()) {
            0 => Ok(purse),
            waiting => Err(Refused::Waiting { budget: budget.clone(), window, waiting }),
        }
    }

    fn covers(&self, budget: &Budget, window: Window, amount: u64) -> Result<Option<&'e Purse>, Refused> {
        self.lives()?;
        if amount == 0 {
            return Err(Refused::Zero);
        }
        let purse = self.settled_purse(budget, window)?;
        let (held, in_flight) = purse.map_or((0, 0), |purse| (purse.held, purse.incoming));
        if held < amount {
            return Err(Refused::NotEnough { budget: budget.clone(), window, wanted: amount, held, in_flight });
        }
        Ok(purse)
    }
}
