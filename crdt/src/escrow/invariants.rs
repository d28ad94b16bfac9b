//! What must hold of the books at every step: for tests, models and simulations.
//!
//! Each looks at the facts and the sums from outside, and says what it found broken.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_identity::FactId;

use super::body::{Body, Place, Source};
use super::{Escrow, Verdict};
use cauldron_identity::budget::{Budget, Life, Window};

/// CONSERVE: held + reserved + spent + in flight + lost = minted, for every budget and window.
///
/// # Errors
/// Where it does not hold, with the sums.
pub fn conserve(escrow: &Escrow) -> Result<(), String> {
    for (budget, window) in escrow.minted_windows() {
        let total = escrow.balance(budget, window).total();
        if total.sum() != total.minted {
            return Err(format!("CONSERVE: {budget} in window {window}: {total:?}"));
        }
    }
    Ok(())
}

/// CREDIT-ONCE: each mint, debit and refusal is taken at most once, by the one it is in favour of, and only if it counts.
///
/// # Errors
/// The credit that does not hold.
pub fn credit_once(escrow: &Escrow) -> Result<(), String> {
    let counts: BTreeMap<Place, &Body> = escrow
        .facts()
        .filter(|(_, _, verdict)| *verdict == Verdict::Counts)
        .filter_map(|(place, body, _)| Some((place, body?)))
        .collect();
    let mut taken: BTreeSet<FactId> = BTreeSet::new();
    for (place, body) in &counts {
        let grant = match body {
            Body::Credit(credit) => match credit.source {
                Source::Mint(entry) => entry,
                Source::Debit(debit) => match counts.get(&debit) {
                    Some(Body::Debit(body)) if body.to == place.life => debit.id,
                    other => return Err(format!("CREDIT-ONCE: {} takes {other:?}", place.life)),
                },
                Source::Refuse(refuse) => match counts.get(&refuse) {
                    Some(Body::Refuse(body)) if body.debit.life == place.life => refuse.id,
                    other => return Err(format!("CREDIT-ONCE: {} takes back {other:?}", place.life)),
                },
            },
            Body::Refuse(refuse) => refuse.debit.id,
            _ => continue,
        };
        if !taken.insert(grant) {
            return Err(format!("CREDIT-ONCE: {} takes {grant:?} a second time", place.life));
        }
    }
    Ok(())
}

/// NONNEG: no fact of an honest life asks for more than it held, at any place of its chain.
///
/// # Errors
/// The fact that does.
pub fn nonneg(escrow: &Escrow, honest: impl Fn(&Life) -> bool) -> Result<(), String> {
    for (place, body, verdict) in escrow.facts().filter(|(place, _, _)| honest(&place.life)) {
        if let Verdict::Void(void) = verdict {
            return Err(format!("NONNEG: {} wrote {body:?}: {void}", place.life));
        }
    }
    let lives: BTreeSet<Life> = escrow.facts().map(|(place, _, _)| place.life).filter(|life| honest(life)).collect();
    for life in lives {
        if let Some((id, over)) = escrow.reservations(life).find(|(_, reservation)| reservation.overdrawn() > 0) {
            return Err(format!("NONNEG: {life} overdrew by {} with {id:?}", over.overdrawn()));
        }
    }
    Ok(())
}

/// BUDGET: what honest nodes have executed of a budget in a window is at most what was minted; `executed` is counted
/// where the effects are, not in the books.
///
/// # Errors
/// Both sums.
pub fn budget(escrow: &Escrow, budget: &Budget, window: Window, executed: u64) -> Result<(), String> {
    let minted = escrow.balance(budget, window).total().minted;
    if executed <= minted {
        return Ok(());
    }
    Err(format!("BUDGET: {executed} of {budget} were executed in window {window}, {minted} were minted"))
}
