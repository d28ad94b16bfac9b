//! Budgets as this node lives them: rights that the authority chain mints, granted, credited, reserved and settled by facts
//! in `mesh`. The books are [`Escrow`]'s; here is who may write into them, and when.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_crdt::ChainId;
use cauldron_crdt::escrow::{Body, Budget, Decider, Escrow, Life, Mint, Place, Refused, Share, Verdict, Window};
use cauldron_identity::authority::{Entry, EntryBody};
use cauldron_identity::budget::{window_at, window_span};
use cauldron_identity::{AuthorId, Clock, Digest, Fact, FactId, Scope, planted};

use crate::core::NodeCore;
use crate::input::{Refusal, Reply};
use crate::view::{BudgetView, BudgetsView, ReservationView, ShareView, Time};

/// How many windows ahead of the open one may be minted: a year of days, and a month to plan the next. A mistyped window
/// would stay in the authority chain for ever.
pub const WINDOWS_AHEAD_MAX: u64 = 400;

/// What may be done with a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetAct {
    /// Bring the rights of one window into being (sequencer only).
    Mint {
        /// Of which budget.
        budget: Budget,
        /// For which window; the open one without.
        window: Option<Window>,
        /// How long its windows are, milliseconds, 0 without time; may be left out when something of it was minted before.
        window_ms: Option<u64>,
        /// How much, in the budget's minor unit.
        amount: u64,
        /// Who holds it first; the sequencer without.
        holder: Option<AuthorId>,
    },
    /// Hand rights to another node.
    Grant {
        /// Of which budget.
        budget: Budget,
        /// For which window; the open one without.
        window: Option<Window>,
        /// How much.
        amount: u64,
        /// To whom: its present life.
        to: AuthorId,
    },
    /// Set rights of the open window aside, before anything is started. The same again is answered with the same fact.
    Reserve {
        /// Of which budget.
        budget: Budget,
        /// How much.
        amount: u64,
        /// What for.
        purpose: Digest,
    },
    /// End a reservation. The same again changes nothing.
    Settle {
        /// The `budget.reserve` fact.
        reserve: FactId,
        /// How much of it was spent.
        spent: u64,
    },
}

fn refuse(why: &Refused) -> Refusal {
    Refusal::new(why.code(), why.to_string())
}

impl NodeCore {
    /// This node's present life, as budgets know it.
    pub(crate) fn my_life(&self) -> Life {
        Life { author: self.me, incarnation: self.incarnation }
    }

    pub(crate) fn decider(&self, now: Window) -> Decider<'_> {
        self.escrow.decider(self.my_life(), now)
    }

    /// Tells the books of every fork of a chain in `mesh`.
    pub(crate) fn fork_rights(&mut self) {
        let mesh = Scope::mesh();
        for header in self.log.evidence(&mesh).filter_map(cauldron_crdt::Evidence::header) {
            let seq = self.log.fork_seq(&ChainId::of(&header)).unwrap_or(header.seq);
            self.escrow.fork(Life { author: header.author, incarnation: header.incarnation }, seq);
        }
    }

    /// After every input: takes in what the authority chain says now, and writes the credits and refusals that are due.
    pub(crate) fn tend_budgets(&mut self) {
        if std::mem::take(&mut self.rights_moved) {
            self.restate_rights();
        }
        // Before its own past is confirmed, a node does not know what it has credited already.
        while self.may_write().is_ok() {
            let dues = self.decider(0).dues();
            if dues.is_empty() {
                return;
            }
            for body in dues {
                let fact = match self.write_rights(&body) {
                    Ok(fact) => fact,
                    Err(why) => return self.count_refusal(why.code, why.reason),
                };
                // What does not count would be due again at once, for ever.
                if self.escrow.verdict(&Place::of(fact.header(), fact.id())) != Some(Verdict::Counts) {
                    return self.count_refusal("rights", format!("this node's own {} does not count", body.kind()));
                }
            }
        }
    }

    /// Mints in effect, and where lives end: as the authority chain has them now.
    fn restate_rights(&mut self) {
        self.work.rights.forget();
        let mesh = Scope::mesh();
        let in_effect: BTreeSet<FactId> = self.authority.mints().map(|(_, id, _)| id).collect();
        // A term may have taken a mint out of the chain: then nothing ever rested on it.
        if self.escrow.mint_entries().any(|entry| !in_effect.contains(&entry)) {
            self.escrow = Escrow::of_log(&self.log);
        }
        for (index, id, mint) in self.authority.mints() {
            self.escrow.mint(id, index, mint);
        }
        self.escrow.forget_ends();
        for ((author, incarnation), seq) in self.authority.ends_in(&mesh) {
            self.escrow.end(Life { author, incarnation }, seq);
        }
        for (author, seq) in self.authority.suspended_in(&mesh) {
            if let Some(member) = self.authority.member(&author) {
                self.escrow.suspend(Life { author, incarnation: member.incarnation }, Some(seq));
            }
        }
    }

    pub(crate) fn write_rights(&mut self, body: &Body) -> Result<Arc<Fact>, Refusal> {
        self.append(Scope::mesh(), body.kind(), body.deps(), body.to_bytes(), None)
    }

    fn record_rights(&mut self, body: &Body) -> Result<Reply, Refusal> {
        self.write_rights(body).map(|fact| Reply::Recorded(fact.id()))
    }

    /// Somebody on this machine does something with a budget.
    pub(crate) fn budget(&mut self, act: BudgetAct) -> Result<Reply, Refusal> {
        self.may_write()?;
        match act {
            BudgetAct::Mint { budget, window, window_ms, amount, holder } => {
                self.mint_rights(budget, window, window_ms, amount, holder)
            }
            BudgetAct::Grant { budget, window, amount, to } => {
                let now = self.open_window(&budget)?;
                self.may_use_rights()?;
                let to = self.life_of(&to)?;
                let debit = self.decider(now).debit(&budget, window.unwrap_or(now), amount, to);
                self.record_rights(&Body::Debit(debit.map_err(|why| refuse(&why))?))
            }
            BudgetAct::Reserve { budget, amount, purpose } => self.reserve_rights(&budget, amount, purpose),
            BudgetAct::Settle { reserve, spent } => {
                self.may_settle_by_hand(&reserve)?;
                self.settle_rights(reserve, spent)
            }
        }
    }

    fn settle_rights(&mut self, reserve: FactId, spent: u64) -> Result<Reply, Refusal> {
        match self.decider(0).settle(reserve, spent) {
            Ok(settle) => self.record_rights(&Body::Settle(settle)),
            Err(Refused::Settled { spent: before, .. }) if before == spent => Ok(Reply::Already(reserve)),
            Err(why) => Err(refuse(&why)),
        }
    }

    fn mint_rights(
        &mut self,
        budget: Budget,
        window: Option<Window>,
        window_ms: Option<u64>,
        amount: u64,
        holder: Option<AuthorId>,
    ) -> Result<Reply, Refusal> {
        self.only_sequencer("mints budgets")?;
        let known = self.authority.window_ms(&budget);
        let Some(window_ms) = window_ms.or(known) else {
            let sentence = format!("nothing of {budget} was minted yet: say how long its windows are, 0 for no time");
            return Err(Refusal::new("window_length", sentence));
        };
        let now = self.window_now(window_ms)?;
        let window = window.unwrap_or(now);
        if !(now..=now.saturating_add(WINDOWS_AHEAD_MAX)).contains(&window) {
            let sentence = format!(
                "window {window} is over or more than {WINDOWS_AHEAD_MAX} ahead: {now} is open, mint that or a later one"
            );
            return Err(Refusal::new("window_range", sentence));
        }
        let holder = self.life_of(&holder.unwrap_or(self.me))?;
        // Rights of a life that is over are lost, and a window is minted once.
        if self.escrow.is_ended(&holder) {
            return Err(refuse(&Refused::NoReceiver { to: holder }));
        }
        let entry = Entry::Mint(Mint { budget, window, amount, holder, window_ms });
        // Tried on a copy first: a chain that people read should not fill with entries that change nothing.
        let body = EntryBody::new(self.authority.head(), self.authority.index() + 1, &entry);
        self.authority.would_accept(&body).map_err(|why| Refusal::new("entry_refused", why))?;
        self.write_entry(&entry).map(|fact| Reply::Recorded(fact.id()))
    }

    fn reserve_rights(&mut self, budget: &Budget, amount: u64, purpose: Digest) -> Result<Reply, Refusal> {
        // Whoever asks again after a crash goes on with what is reserved, whatever window is open now.
        if let Some((id, before)) = self.decider(0).reservation(budget, &purpose) {
            return match before.spent {
                Some(spent) => Err(refuse(&Refused::Settled { reserve: id, spent })),
                // A store that is older than what its node did may hold it as open although it was used.
                None if before.amount == amount && before.overdrawn() == 0 => {
                    self.may_use_rights().map(|()| Reply::Already(id))
                }
                None => Err(refuse(&Refused::AlreadyReserved { reserve: id })),
            };
        }
        let now = self.open_window(budget)?;
        self.may_use_rights()?;
        let reserve = self.decider(now).reserve(budget, amount, purpose).map_err(|why| refuse(&why))?;
        self.record_rights(&Body::Reserve(reserve))
    }

    /// The window of a budget that is open by this node's clock.
    pub(crate) fn open_window(&self, budget: &Budget) -> Result<Window, Refusal> {
        match self.authority.window_ms(budget) {
            Some(window_ms) => self.window_now(window_ms),
            None => {
                Err(Refusal::new("unknown_budget", format!("no budget {budget} is known here: nothing was minted")))
            }
        }
    }

    pub(crate) fn window_now(&self, window_ms: u64) -> Result<Window, Refusal> {
        if window_ms > 0 && !self.wall_is_known() {
            let sentence = "this machine's clock is not believed, so nobody knows which window is open; connect to peers, \
                            or see `cauldron clock reset`";
            return Err(Refusal::new("clock_unknown", sentence));
        }
        Ok(window_at(window_ms, self.now.wall_ms))
    }

    /// A store that is older than what its node did holds rights that are gone: after a start somebody else has to say that
    /// nothing is missing, or that this life is a new one.
    pub(crate) fn may_use_rights(&self) -> Result<(), Refusal> {
        if self.rights_confirmed || planted::active("rights-unconfirmed") {
            return Ok(());
        }
        let sentence = "this node was restarted, and no peer has confirmed yet that its store is not older than what it did: \
                        rights are used once one has; crediting and settling go on";
        Err(Refusal::new("rights_unconfirmed", sentence))
    }

    fn life_of(&self, author: &AuthorId) -> Result<Life, Refusal> {
        match self.authority.member(author) {
            Some(member) => Ok(Life { author: *author, incarnation: member.incarnation }),
            None => Err(Refusal::new("not_enrolled", format!("author {} is not enrolled", author.short()))),
        }
    }

    /// The books of every budget, as far as this node knows.
    #[must_use]
    pub fn escrow(&self) -> &Escrow {
        &self.escrow
    }

    /// Credits and refusals that this node has to write and has not.
    #[must_use]
    pub fn rights_due(&self) -> Vec<Body> {
        self.decider(0).dues()
    }

    /// Every budget and window of which something was minted, and what this node has reserved and not settled. Windows that
    /// are over by this node's clock only with `all`.
    #[must_use]
    pub fn budgets_view(&self, now: Clock, all: bool) -> BudgetsView {
        let over = |budget: &Budget, window| {
            let window_ms = self.authority.window_ms(budget).unwrap_or(0);
            self.wall_is_known() && window < window_at(window_ms, self.now.wall_ms)
        };
        let shown = self.escrow.minted_windows().filter(|(budget, window)| all || !over(budget, *window));
        let items = shown.map(|(budget, window)| self.budget_view(budget, window));
        let open = self.escrow.reservations(self.my_life()).filter(|(_, r)| r.spent.is_none());
        let reservations = open.map(|(id, r)| ReservationView {
            id: id.to_string(),
            budget: r.budget.to_string(),
            window: r.window,
            amount: r.amount,
            purpose: r.purpose.to_string(),
        });
        BudgetsView { items: items.collect(), reservations: reservations.collect(), seen: self.seen_here(now) }
    }

    /// Whether nothing can be expected of a life now, as seen from here: it is over or suspended, or there is no session with
    /// it, and none with a coordinator that would pass its word on. A coordinator goes by its own sessions.
    pub(crate) fn is_away(&self, life: &Life) -> bool {
        if *life == self.my_life() && self.may_be_granted_from(life) {
            return false;
        }
        let connected = |found: &dyn Fn(&AuthorId) -> bool| {
            self.links.values().any(|peer| !peer.shared.is_empty() && found(&peer.author))
        };
        let coordinates =
            |author: &AuthorId| self.authority.member(author).is_some_and(|m| m.role.is_mesh_coordinator());
        let relayed = !self.role.is_mesh_coordinator() && !coordinates(&life.author) && connected(&coordinates);
        !self.may_be_granted_from(life) || !(relayed || connected(&|author| *author == life.author))
    }

    /// Of what a life has: what may come back, but not now. What is lost is not in it.
    fn stranded(&self, life: &Life, share: &Share) -> u64 {
        let has = share.held.saturating_add(share.reserved).saturating_add(share.in_flight);
        if self.is_away(life) { has } else { 0 }
    }

    fn budget_view(&self, budget: &Budget, window: Window) -> BudgetView {
        let window_ms = self.authority.window_ms(budget).unwrap_or(0);
        let (balance, span) = (self.escrow.balance(budget, window), window_span(window_ms, window));
        let total = balance.total();
        let open = match window_ms {
            0 => Some(true),
            _ if self.wall_is_known() => Some(window_at(window_ms, self.now.wall_ms) == window),
            _ => None,
        };
        let shares = balance.by.iter().map(|(life, share)| ShareView {
            author: life.author.to_string(),
            of: self.authority.member(&life.author).map(|m| m.spiffe_id.to_string()),
            incarnation: life.incarnation,
            ended: self.escrow.is_ended(life),
            held: share.held,
            reserved: share.reserved,
            spent: share.spent,
            in_flight: share.in_flight,
            lost: share.lost,
            stranded: self.stranded(life, share),
            overdrawn: share.overdrawn,
        });
        BudgetView {
            budget: budget.to_string(),
            window,
            window_ms,
            begins: span.map(|(begins, _)| Time(begins)),
            ends: span.map(|(_, ends)| Time(ends)),
            open,
            limit: total.minted,
            held: total.held,
            reserved: total.reserved,
            spent: total.spent,
            in_flight: total.in_flight,
            lost: total.lost,
            stranded: balance.by.iter().map(|(life, share)| self.stranded(life, share)).sum(),
            overdrawn: total.overdrawn,
            shares: shares.collect(),
        }
    }
}
