//! Rights move to owners that need them. There is no asking: a permit says how much its owner takes, and the books say what it
//! holds. Whoever reads the permit and holds rights grants what lacks, and nobody more than the permit takes (decision 0044).

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::bodies::Permit;
use cauldron_coordinator::ledger::{Recorded, State};
use cauldron_coordinator::owner::Code;
use cauldron_crdt::escrow::{Body, Budget, Debit, Life, Window, purpose_of};
use cauldron_identity::FactId;

use crate::core::NodeCore;
use crate::rights::needs;

/// How long each holder leaves the matter to the one that holds more, milliseconds: a grant is with everybody who is
/// connected well before that. Where the other is cut off, this is what its absence costs.
const GRANT_AFTER_MS: u64 = 2_000;

/// What lacks for one permit.
#[derive(Debug, Clone)]
struct Lack {
    permit: FactId,
    budget: Budget,
    window: Window,
    to: Life,
    amount: u64,
}

impl NodeCore {
    /// Grants what permits of other owners lack, where it is this node's turn.
    pub(crate) fn tend_needs(&mut self) {
        self.work.rights.again_ms = None;
        let wanted = self.wanted();
        if wanted.is_empty() {
            self.work.rights.lacking.clear();
            return;
        }
        // Rights of the next window may be here already.
        self.wake_with_the_next_window();
        if self.may_write().is_err() || self.may_use_rights().is_err() {
            return;
        }
        // What it takes itself it does not give away: two nodes in need would pass the same rights to and fro.
        let (mine, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|((_, life), _)| life.author == self.me);
        let sum = |permits: Vec<(FactId, u64)>| {
            let hopeful = permits.iter().filter(|(permit, _)| !self.is_refused(permit));
            hopeful.fold(0u64, |sum, (_, need)| sum.saturating_add(*need))
        };
        let own: BTreeMap<Budget, u64> =
            mine.into_iter().map(|((budget, _), permits)| (budget, sum(permits))).collect();
        let lacks = others.iter().flat_map(|((budget, to), permits)| self.lacks_of(budget, *to, permits));
        let lacks: Vec<Lack> = lacks.collect();
        let known: BTreeSet<(FactId, Budget)> = lacks.iter().map(|l| (l.permit, l.budget.clone())).collect();
        self.work.rights.lacking.retain(|key, _| known.contains(key));
        for lack in lacks {
            let own = own.get(&lack.budget).copied().unwrap_or(0);
            self.give(lack, own);
        }
    }

    /// Whether this node has refused a permit of its own for what neither time nor a lease will change.
    fn is_refused(&self, permit: &FactId) -> bool {
        self.work.codes.get(permit).is_some_and(|code| !matches!(code, Code::Isolated | Code::NoPolicy))
    }

    fn give(&mut self, lack: Lack, own: u64) {
        let Some((rank, held)) = self.rank(&lack) else { return };
        let spare = held.saturating_sub(own);
        if spare == 0 {
            return;
        }
        let now_ms = self.now.boottime_ms;
        let since = *self.work.rights.lacking.entry((lack.permit, lack.budget.clone())).or_insert(now_ms);
        let turn_ms = since.saturating_add(rank.saturating_mul(GRANT_AFTER_MS));
        if turn_ms > now_ms {
            let again = self.work.rights.again_ms.get_or_insert(turn_ms);
            *again = (*again).min(turn_ms);
            return;
        }
        let debit = self.decider(lack.window).debit(&lack.budget, lack.window, lack.amount.min(spare), lack.to);
        match debit {
            Ok(debit) => {
                let body = Body::Debit(Debit { purpose: Some(purpose_of(&lack.permit)), ..debit });
                if let Err(why) = self.write_rights(&body) {
                    self.count_refusal(why.code, why.reason);
                }
            }
            Err(why) => self.count_refusal(why.code(), why.to_string()),
        }
    }

    /// What permits in force take that their owners have not set aside, this node's own among them.
    fn wanted(&self) -> BTreeMap<(Budget, Life), Vec<(FactId, u64)>> {
        let unused = |p: &&Recorded<Permit>| self.ledger.starts_on_permit(&p.id).next().is_none();
        let mut wanted = BTreeMap::<(Budget, Life), Vec<(FactId, u64)>>::new();
        let in_force = self.ledger.permits_taking(self.now.wall_ms);
        let mut permits: Vec<&Recorded<Permit>> = in_force.filter(unused).collect();
        permits.sort_by_key(|p| (p.body.issued_ms, p.id));
        for permit in permits.into_iter().filter(|p| self.waits_for_rights(p)) {
            let (to, purpose) = (owner_of(permit), purpose_of(&permit.id));
            for (budget, need) in needs(&permit.body.budgets).unwrap_or_default() {
                if self.escrow.decider(to, 0).reservation(&budget, &purpose).is_none() {
                    wanted.entry((budget, to)).or_default().push((permit.id, need));
                }
            }
        }
        wanted
    }

    /// What lacks now: of what an owner has, all its permits take together.
    fn lacks_of(&self, budget: &Budget, to: Life, permits: &[(FactId, u64)]) -> Vec<Lack> {
        let Ok(window) = self.open_window(budget) else { return Vec::new() };
        let share = self.escrow.brief(budget, window).of(&to);
        let all = permits.iter().fold(0u64, |sum, (_, need)| sum.saturating_add(*need));
        let mut lack = all.saturating_sub(share.held.saturating_add(share.in_flight));
        let one = |(permit, need): &(FactId, u64)| {
            // Each permit brings what it takes once, whatever became of that: an owner that hides what it has drains nobody.
            let granted = self.escrow.granted_for(budget, window, to, &purpose_of(permit));
            let amount = need.saturating_sub(granted).min(lack);
            lack -= amount;
            (amount > 0).then(|| Lack { permit: *permit, budget: budget.clone(), window, to, amount })
        };
        permits.iter().filter_map(one).collect()
    }

    /// Whether a permit is what its proposal goes by, for an owner that may be granted something.
    fn waits_for_rights(&self, permit: &Recorded<Permit>) -> bool {
        let to = owner_of(permit);
        let of = &permit.body.proposal;
        let status = self.docket.status(&self.ledger, &self.authority, of, self.now.wall_ms);
        self.may_be_granted_from(&to)
            && status.is_some_and(|s| s.state == State::Permitted && s.permit == Some(permit.id))
    }

    /// How many read the permit and hold more than this node, and what it holds itself.
    fn rank(&self, lack: &Lack) -> Option<(u64, u64)> {
        let scope = &self.ledger.permit(&lack.permit)?.header.scope;
        let balance = self.escrow.brief(&lack.budget, lack.window);
        let held = balance.of(&self.my_life()).held;
        if held == 0 {
            return None;
        }
        let before = balance.by.iter().filter(|(life, share)| {
            **life != lack.to
                && (share.held, self.my_life()) > (held, **life)
                && self.may_be_granted_from(life)
                && self.authority.may_read(&life.author, scope)
        });
        Some((before.count() as u64, held))
    }
}

fn owner_of(permit: &Recorded<Permit>) -> Life {
    Life { author: permit.body.owner, incarnation: permit.body.incarnation }
}
