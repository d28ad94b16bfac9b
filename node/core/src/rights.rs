//! Rights that a permit takes: set aside before the start, settled when its outcome is known. What became of a reservation
//! follows from facts alone, so a crash anywhere between leaves nothing that the next round does not put right.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Amount;
use cauldron_coordinator::budget::BudgetSeen;
use cauldron_coordinator::json::rfc3339;
use cauldron_coordinator::ledger::Report;
use cauldron_coordinator::owner::VerifiedPermit;
use cauldron_crdt::escrow::{Balance, Body, Budget, Life, Window, purpose_of};
use cauldron_identity::budget::window_span;
use cauldron_identity::{Digest, FactId, planted};

use crate::core::NodeCore;
use crate::input::Refusal;

/// Holders that a sentence names.
const NAMED_MAX: usize = 4;

/// What this process keeps about rights and permits.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    /// Own permits with reservations that are not settled.
    kept: BTreeSet<FactId>,
    /// Whether those before this process were looked for, in the books as they are.
    recalled: bool,
    /// What the books say of every budget, for policies: as of the last look.
    pub(crate) seen: Vec<BudgetSeen>,
    /// Since when each permit of another owner has lacked rights, boot time in milliseconds.
    pub(crate) lacking: BTreeMap<(FactId, Budget), u64>,
    /// When such a one is looked at again, boot time in milliseconds.
    pub(crate) again_ms: Option<u64>,
}

impl Rights {
    /// The books were made anew.
    pub(crate) fn forget(&mut self) {
        self.recalled = false;
    }
}

/// What became of the permit that a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may still start, or its outcome is not known here yet.
    Open,
    /// Nobody knows its outcome, as far as is written: a probe or a person says.
    Unknown,
    /// It did nothing, and will not.
    Nothing,
    /// It is done, and stands.
    Stands,
    /// It was done, and is over or taken back.
    Over,
}

/// What a permit takes of each budget; of two amounts of one, the larger, as the owner judges them.
pub(crate) fn needs(amounts: &[Amount]) -> Result<BTreeMap<Budget, u64>, String> {
    let mut needs = BTreeMap::new();
    for Amount { budget, amount } in amounts {
        let need: &mut u64 = needs.entry(Budget::new(budget).map_err(|e| e.to_string())?).or_default();
        *need = (*need).max(*amount);
    }
    Ok(needs)
}

impl NodeCore {
    /// Looks at the books once for all that is judged next: by the window that is open by this node's clock.
    pub(crate) fn look_at_budgets(&mut self) {
        let one = |(budget, window_ms): (&Budget, u64)| {
            let window = self.window_now(window_ms).ok();
            let balance = window.map(|window| self.escrow.brief(budget, window)).unwrap_or_default();
            let total = balance.total();
            let free = balance.by.iter().filter(|(life, share)| share.held > 0 && self.may_be_granted_from(life));
            BudgetSeen {
                name: budget.to_string(),
                window,
                ends_ms: window.and_then(|window| window_span(window_ms, window)).map(|(_, ends)| ends),
                limit: total.minted,
                held: total.held,
                reserved: total.reserved,
                spent: total.spent,
                in_flight: total.in_flight,
                lost: total.lost,
                free: free.map(|(life, share)| (life.author, share.held)).collect(),
            }
        };
        self.work.rights.seen = self.authority.budgets().map(one).collect();
    }

    /// Whether a life is the present one of a member in good standing.
    pub(crate) fn may_be_granted_from(&self, life: &Life) -> bool {
        self.authority.member(&life.author).is_some_and(|member| member.incarnation == life.incarnation)
            && !self.authority.is_suspended(&life.author)
            && !self.escrow.is_ended(life)
    }

    /// Sets aside what a permit takes, durably before whatever is put out next: all of it or, while something lacks,
    /// nothing. What was set aside before a crash is found again.
    ///
    /// # Errors
    /// What it waits for.
    pub(crate) fn reserve_for(&mut self, permit: &VerifiedPermit) -> Result<(), String> {
        let purpose = purpose_of(&permit.permit());
        let needs = needs(permit.budgets()).map_err(|why| format!("the rights that it takes are wrong: {why}"))?;
        if needs.is_empty() {
            return Ok(());
        }
        let (mut bodies, mut lacks) = (Vec::new(), Vec::new());
        for (budget, amount) in &needs {
            match self.reservation_for(budget, *amount, purpose) {
                Ok(body) => bodies.extend(body),
                Err(why) => lacks.push(why),
            }
        }
        // Part of what it needs would only be kept from others.
        if !lacks.is_empty() {
            return Err(lacks.join("; "));
        }
        for body in bodies {
            self.write_rights(&body).map_err(|why| why.reason)?;
        }
        self.work.rights.kept.insert(permit.permit());
        Ok(())
    }

    /// The reservation still to be written; none where it stands.
    fn reservation_for(&self, budget: &Budget, amount: u64, purpose: Digest) -> Result<Option<Body>, String> {
        if let Some((_, before)) = self.decider(0).reservation(budget, &purpose) {
            return match before.spent {
                Some(_) => {
                    Err(format!("what it set aside of {budget} was settled before it started: it needs a new permit"))
                }
                // A store that is older than what its node did may hold it as open although it was used.
                None if before.covered >= amount => self.may_use_rights().map(|()| None).map_err(|why| why.reason),
                None => Err(format!("only {} of the {amount} that it set aside of {budget} were held", before.covered)),
            };
        }
        let now = self.open_window(budget).map_err(|why| why.reason)?;
        self.may_use_rights().map_err(|why| why.reason)?;
        match self.decider(now).reserve(budget, amount, purpose) {
            Ok(reserve) => Ok(Some(Body::Reserve(reserve))),
            Err(cauldron_crdt::escrow::Refused::NotEnough { held, in_flight, .. }) => {
                Err(self.lack(budget, now, amount, (held, in_flight)))
            }
            Err(why) => Err(why.to_string()),
        }
    }

    /// Which budget lacks how much, and where its rights are.
    fn lack(&self, budget: &Budget, window: Window, amount: u64, (held, in_flight): (u64, u64)) -> String {
        let window_ms = self.authority.window_ms(budget).unwrap_or(0);
        let until = window_span(window_ms, window)
            .map_or_else(String::new, |(_, ends)| format!(" in window {window}, which ends {}", rfc3339(ends)));
        let coming = if in_flight > 0 { format!(", {in_flight} are on their way") } else { String::new() };
        let balance = self.escrow.brief(budget, window);
        format!(
            "it takes {amount} of {budget}, and {held} are free here{until}{coming}; {}",
            self.where_rights_are(&balance)
        )
    }

    fn where_rights_are(&self, balance: &Balance) -> String {
        let total = balance.total();
        if total.minted == 0 {
            return "nothing was minted for that window".to_owned();
        }
        let others = balance.by.iter().filter(|(life, share)| **life != self.my_life() && share.held > 0);
        let mut others: Vec<(u64, &Life)> =
            others.filter(|(life, _)| self.may_be_granted_from(life)).map(|(life, share)| (share.held, life)).collect();
        others.sort_by_key(|(held, life)| (std::cmp::Reverse(*held), **life));
        let more = others.len().saturating_sub(NAMED_MAX);
        let named = others.iter().take(NAMED_MAX).map(|(held, life)| {
            let away = if self.is_away(life) { " (not connected)" } else { "" };
            format!("{} holds {held}{away}", self.name_of(&life.author))
        });
        let mut named = named.collect::<Vec<_>>().join(", ");
        if more > 0 {
            named += &format!(", {more} more hold some");
        }
        if named.is_empty() {
            return format!(
                "nobody else holds any: of {} minted {} are spent, {} reserved, {} lost",
                total.minted, total.spent, total.reserved, total.lost
            );
        }
        format!("{named}; who reads its permit grants what it lacks, others do by `cauldron budgets grant`")
    }

    /// Ends reservations whose permits have come to something.
    pub(crate) fn tend_rights(&mut self) {
        if self.may_write().is_err() {
            return;
        }
        if !std::mem::replace(&mut self.work.rights.recalled, true) {
            self.recall_rights();
        }
        for permit in self.work.rights.kept.clone() {
            let fate = self.fate(&permit);
            let purpose = purpose_of(&permit);
            let mut open = false;
            for (reserve, budget, covered) in self.kept_for(&purpose) {
                let spent = match fate {
                    Fate::Open | Fate::Unknown => None,
                    Fate::Nothing => Some(0),
                    // A limit without time counts what stands at once.
                    Fate::Stands if self.is_timeless(&budget) => None,
                    Fate::Over if self.is_timeless(&budget) => Some(0),
                    Fate::Stands | Fate::Over => Some(covered),
                };
                let Some(spent) = spent else {
                    open = true;
                    continue;
                };
                let settled = self.decider(0).settle(reserve, spent).map_err(|why| (why.code(), why.to_string()));
                let written = settled
                    .and_then(|settle| self.write_rights(&Body::Settle(settle)).map_err(|why| (why.code, why.reason)));
                if let Err((code, why)) = written {
                    self.count_refusal(code, why);
                    open = true;
                }
            }
            if !open {
                self.work.rights.kept.remove(&permit);
            }
        }
    }

    /// Rights of the next window may be here already: what lacks is looked at again when it opens.
    pub(crate) fn wake_with_the_next_window(&mut self) {
        let rights = &mut self.work.rights;
        let ends = rights.seen.iter().filter_map(|seen| seen.ends_ms).filter(|ends| *ends >= self.now.wall_ms).min();
        let at_ms = ends.map(|ends| self.now.boottime_ms.saturating_add(ends - self.now.wall_ms).saturating_add(1));
        rights.again_ms = rights.again_ms.into_iter().chain(at_ms).min();
    }

    /// The permit will never start: what it set aside is held again.
    pub(crate) fn release_rights(&mut self, permit: &FactId) {
        if self.work.rights.kept.contains(permit) && self.ledger.starts_on_permit(permit).next().is_none() {
            let purpose = purpose_of(permit);
            for (reserve, ..) in self.kept_for(&purpose) {
                let Ok(settle) = self.decider(0).settle(reserve, 0) else { continue };
                if let Err(why) = self.write_rights(&Body::Settle(settle)) {
                    self.count_refusal(why.code, why.reason);
                }
            }
        }
    }

    /// After a restart, or when the books were made anew: permits with reservations of this life that are not settled.
    fn recall_rights(&mut self) {
        let open = self.escrow.reservations(self.my_life()).filter(|(_, r)| r.spent.is_none());
        let open: BTreeSet<Digest> = open.map(|(_, r)| r.purpose).collect();
        if open.is_empty() {
            return;
        }
        let mine = self.ledger.permits().filter(|p| p.body.owner == self.me && !p.body.budgets.is_empty());
        self.work.rights.kept.extend(mine.map(|p| p.id).filter(|id| open.contains(&purpose_of(id))));
    }

    /// Own reservations for a purpose that are not settled: their facts, of which budget, and how much is covered.
    fn kept_for(&self, purpose: &Digest) -> Vec<(FactId, Budget, u64)> {
        let budgets = self.authority.budgets().map(|(budget, _)| budget);
        let kept = budgets.filter_map(|budget| self.decider(0).reservation(budget, purpose));
        kept.filter(|(_, r)| r.spent.is_none()).map(|(id, r)| (id, r.budget.clone(), r.covered)).collect()
    }

    fn is_timeless(&self, budget: &Budget) -> bool {
        self.authority.window_ms(budget) == Some(0)
    }

    fn fate(&self, permit: &FactId) -> Fate {
        let start = self.ledger.starts_on_permit(permit).find(|s| s.header.author == self.me);
        let Some(start) = start else {
            let over = self.ledger.permit(permit).is_none_or(|p| {
                p.body.incarnation != self.incarnation
                    || (self.wall_is_known() && p.body.execute_by_ms < self.now.wall_ms)
            });
            return if over { Fate::Nothing } else { Fate::Open };
        };
        let word = self.happened_by_word(start);
        let (mut done, mut over) = (word == Some(true), false);
        let (mut nothing, mut unknown) = (word == Some(false), false);
        for report in self.ledger.reports_on(&start.id).filter(|r| r.header.author == self.me) {
            match &report.body {
                Report::Done(_) => done = true,
                Report::Ended(_) | Report::Compensated(_) => over = true,
                Report::Failed(failed) => {
                    (nothing, unknown) = (nothing | failed.probed_no_effect, unknown | !failed.probed_no_effect);
                }
                Report::Unknown(_) if planted::active("unknown-settled-unspent") => nothing = true,
                Report::Unknown(_) => unknown = true,
                Report::Verified(_) | Report::VerifyFailed(_) => {}
                Report::Compensating(_) | Report::CompensationFailed(_) => done = true,
            }
        }
        match () {
            () if over => Fate::Over,
            () if done => Fate::Stands,
            () if nothing => Fate::Nothing,
            () if unknown => Fate::Unknown,
            () => Fate::Open,
        }
    }

    /// Whether a person may settle a reservation by hand: not while the node itself will know how its permit came out.
    pub(crate) fn may_settle_by_hand(&self, reserve: &FactId) -> Result<(), Refusal> {
        let found = self.escrow.reservations(self.my_life()).find(|(id, _)| id == reserve);
        let Some((_, reservation)) = found.filter(|(_, r)| r.spent.is_none()) else { return Ok(()) };
        let of = self.work.rights.kept.iter().find(|permit| purpose_of(permit) == reservation.purpose);
        match of.map(|permit| (permit, self.fate(permit))) {
            None | Some((_, Fate::Unknown | Fate::Stands)) => Ok(()),
            Some((permit, _)) => Err(Refusal::new(
                "settles_itself",
                format!(
                    "it is what permit {} takes, and settled by this node when its outcome is known; people settle what \
                     ended as unknown",
                    permit.short()
                ),
            )),
        }
    }
}
