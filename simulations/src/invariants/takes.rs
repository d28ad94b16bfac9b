//! Effects and the rights that they take: nothing is done without them, and what was done is never said to be unspent.

use std::collections::BTreeMap;

use cauldron_coordinator::bodies::{Permit, Started};
use cauldron_crdt::escrow::{Debit, KIND_DEBIT, KIND_RESERVE, KIND_SETTLE, Reserve, Settle, Window, purpose_of};
use cauldron_identity::FactId;

use super::{Holds, Violation, budgets};
use crate::facts::{Known, of_kind};
use crate::founding::BLOCKS;
use crate::history::Effect;
use crate::network::Place;
use crate::reached;
use crate::world::World;
use crate::world::machine::Machine;

/// The reservations that a machine wrote in one life for a permit.
fn reservations(m: &Machine, incarnation: u32, permit: FactId) -> impl Iterator<Item = (FactId, Reserve)> + '_ {
    let purpose = purpose_of(&permit);
    of_kind::<Reserve>(&m.known, KIND_RESERVE)
        .filter(move |(f, r)| {
            f.header.author == m.author && f.header.incarnation == incarnation && r.purpose == purpose
        })
        .map(|(f, r)| (f.id, r))
}

/// What a permit takes that this machine has not reserved, or has settled already.
fn lacks(m: &Machine, incarnation: u32, permit: FactId, counts: impl Fn(&FactId) -> bool) -> Option<String> {
    let body = m.known.get(&permit).and_then(|f| f.body::<Permit>())?;
    let settled = |id: FactId| of_kind::<Settle>(&m.known, KIND_SETTLE).any(|(_, s)| s.reserve == id);
    let lacking = body.budgets.iter().find(|need| {
        !reservations(m, incarnation, permit)
            .any(|(id, r)| r.budget.as_str() == need.budget && r.amount >= need.amount && counts(&id) && !settled(id))
    });
    lacking.map(|need| format!("{} of {}", need.amount, need.budget))
}

/// BUDGET: whatever a node starts has its rights set aside before.
pub(super) fn start_is_reserved(world: &World, place: Place, fact: &Known) -> Holds {
    let (m, Some(start)) = (&world.machines[place], fact.body::<Started>()) else { return Ok(()) };
    match lacks(m, fact.header.incarnation, start.permit, |_| true) {
        None => Ok(()),
        Some(what) => {
            let text = format!("{} starts {} without having set aside {what}", m.name, start.permit.short());
            Err(Violation::new("BUDGET", text))
        }
    }
}

/// BUDGET: the rights of what a connector is handed are set aside durably by then.
pub(super) fn reservation_is_durable(world: &World, place: Place, permit: FactId) -> Holds {
    let m = &world.machines[place];
    let Some(incarnation) = m.known.get(&permit).and_then(|f| f.body::<Permit>()).map(|p| p.incarnation) else {
        return Ok(());
    };
    match lacks(m, incarnation, permit, |id| m.durable.contains(id)) {
        None => Ok(()),
        Some(what) => {
            let text = format!("{} executes {} before {what} is set aside durably", m.name, permit.short());
            Err(Violation::new("BUDGET", text))
        }
    }
}

/// BUDGET: of what happened nothing is given back: neither what was done in a window, nor what stands while it is limited how
/// much may stand at once.
pub(super) fn what_happened_is_spent(world: &mut World, place: Place, fact: &Known) -> Holds {
    mark(world, place, fact);
    if fact.kind() != KIND_SETTLE {
        return Ok(());
    }
    let (m, Some(settle)) = (&world.machines[place], fact.body::<Settle>()) else { return Ok(()) };
    let Some(reserve) = m.known.get(&settle.reserve).and_then(|f| f.body::<Reserve>()) else { return Ok(()) };
    let given_back = settle.spent < reserve.amount && reserve.budget.as_str() == BLOCKS;
    let mut of_it =
        world.history.effects.iter().filter(|e| e.place == place && purpose_of(&e.permit) == reserve.purpose);
    let counts = |e: &Effect| reserve.window > 0 || m.blocklist.lines().contains_key(&e.permit);
    match of_it.find(|e| given_back && counts(e)) {
        None => Ok(()),
        Some(effect) => {
            let text = format!("{} gives back what {} took, which happened", m.name, effect.permit.short());
            Err(Violation::new("BUDGET", text))
        }
    }
}

/// BUDGET: all effects of a window together, or all that stand at once, take no more than was minted.
pub(super) fn effects_fit_the_limit(world: &World) -> Holds {
    let Some(takes) = world.weather.takes else { return Ok(()) };
    let mut sums: BTreeMap<Window, u64> = BTreeMap::new();
    for effect in world.history.effects.iter().filter(|e| !world.is_liar(e.place)) {
        let m = &world.machines[effect.place];
        let purpose = purpose_of(&effect.permit);
        let all = of_kind::<Reserve>(&world.history.facts, KIND_RESERVE);
        let mut of_it = all.filter(|(f, r)| f.header.author == m.author && r.purpose == purpose);
        let Some((_, reserve)) = of_it.next() else { continue };
        if reserve.window > 0 || m.blocklist.lines().contains_key(&effect.permit) {
            *sums.entry(reserve.window).or_default() += reserve.amount;
        }
    }
    for (window, sum) in sums {
        let forgotten = || budgets::forgotten_with_disks(world, BLOCKS, window);
        if sum > takes.limit && sum > takes.limit + forgotten() {
            let text = format!("effects took {sum} of {BLOCKS} in window {window}, {} were minted", takes.limit);
            return Err(Violation::new("BUDGET", text));
        }
    }
    Ok(())
}

/// Hard places.
fn mark(world: &mut World, place: Place, fact: &Known) {
    match fact.kind() {
        KIND_DEBIT if fact.body::<Debit>().is_some_and(|debit| debit.purpose.is_some()) => {
            reached!(world, "budget.granted_for_a_permit");
            if world.machines[place].site.is_some() {
                reached!(world, "budget.granted_by_a_neighbour");
            }
        }
        KIND_RESERVE if fact.body::<Reserve>().is_some_and(|r| r.budget.as_str() == BLOCKS) => {
            reached!(world, "budget.reserved_for_a_permit");
        }
        _ => {}
    }
}
