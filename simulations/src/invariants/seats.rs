//! Class R3 with two coordinators: what is marked, and who is waited for for good.

use cauldron_coordinator::bodies::{
    Decision, KIND_DECISION, KIND_PERMIT, KIND_STARTED, Permit, Proposal, RiskClass, Started,
};
use cauldron_coordinator::ledger::{Ledger, Status};
use cauldron_identity::FactId;
use cauldron_identity::authority::Authority;

use crate::facts::Known;
use crate::network::Place;
use crate::reached;
use crate::world::World;

/// Counts what a new fact at its author's own node shows.
pub(super) fn mark(world: &mut World, place: Place, fact: &Known) {
    if fact.header.author != world.machines[place].author {
        return;
    }
    match fact.kind() {
        KIND_DECISION => written(world, place, fact.body::<Decision>().map(|d| d.proposal)),
        KIND_PERMIT => {
            written(world, place, fact.body::<Permit>().filter(|p| p.break_glass.is_none()).map(|p| p.proposal))
        }
        KIND_STARTED => started(world, place, fact),
        _ => {}
    }
}

fn is_wide(world: &World, place: Place, proposal: &FactId) -> bool {
    let proposal = world.machines[place].known.get(proposal).and_then(|p| p.body::<Proposal>());
    proposal.is_some_and(|p| p.risk == RiskClass::R3)
}

/// A coordinator judged or permitted something; whether the other one could hear of it.
fn written(world: &mut World, place: Place, proposal: Option<FactId>) {
    let Some(proposal) = proposal.filter(|id| world.coordinates(place) && is_wide(world, place, id)) else { return };
    let other = world.coordinators().find(|at| *at != place);
    if other.is_some_and(|at| !world.machines[at].is_up() || !world.network.is_open(at, place)) {
        world.watch.one_dark.insert(proposal);
    }
}

fn started(world: &mut World, place: Place, fact: &Known) {
    let Some(start) = fact.body::<Started>().filter(|s| is_wide(world, place, &s.proposal)) else { return };
    let permit = world.machines[place].known.get(&start.permit).and_then(|p| p.body::<Permit>());
    if permit.is_none_or(|permit| permit.break_glass.is_some()) {
        return;
    }
    reached!(world, "coordinators.r3_started");
    if world.watch.one_dark.contains(&start.proposal) {
        reached!(world, "coordinators.r3_waited");
    }
}

/// Whether a proposal waits for a coordinator of whom no word counts any more: until it lapses.
pub(super) fn waits_for_nobody(world: &World, ledger: &Ledger, authority: &Authority, status: &Status) -> bool {
    let Some(lacks) = ledger.awaits_coordinators(status, authority) else { return false };
    let stands =
        |name: &String| world.machines.iter().any(|m| m.spiffe_id.to_string() == *name && world.is_in_good_standing(m));
    lacks.agreeing.len() + lacks.absent.iter().filter(|name| stands(name)).count() < lacks.needed
}
