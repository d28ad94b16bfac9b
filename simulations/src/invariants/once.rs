//! At most once: per permit, per lineage, and per intent on a resource.

use cauldron_coordinator::bodies::{KIND_PROPOSAL, Proposal, Started};
use cauldron_identity::FactId;

use super::{Holds, Violation};
use crate::facts::Known;
use crate::history::Effect;
use crate::network::Place;
use crate::world::World;

fn same(a: &Effect, lineage: FactId, resource: &str, intent: &str) -> bool {
    a.lineage == lineage || (a.resource == resource && a.intent == intent && !a.taken_back)
}

/// ONCE: the outside world is changed at most once per lineage and per intent on a resource.
pub(super) fn once(world: &World) -> Holds {
    let Some((last, before)) = world.history.effects.split_last() else { return Ok(()) };
    match before.iter().find(|e| same(e, last.lineage, &last.resource, &last.intent)) {
        Some(first) => {
            let name = &world.machines[last.place].name;
            let text = format!(
                "{name} changed {} under {} at {} ms and again under {}",
                last.resource,
                first.permit.short(),
                first.at,
                last.permit.short()
            );
            Err(Violation::new("ONCE", text))
        }
        None => Ok(()),
    }
}

/// ONCE: nothing is started for which an effect happened before, however forgetful the node was made.
pub(super) fn no_second_start(world: &World, place: Place, fact: &Known) -> Holds {
    let Some(start) = fact.body::<Started>() else { return Ok(()) };
    let done = |e: &&Effect| same(e, start.lineage, &start.resource, &start.intent_key);
    match world.history.effects.iter().find(done) {
        Some(effect) => {
            let name = &world.machines[place].name;
            let text = format!("{name} starts {} again, which had its effect at {} ms", start.resource, effect.at);
            Err(Violation::new(if world.machines[place].restored.is_some() { "INCARNATE" } else { "ONCE" }, text))
        }
        None => Ok(()),
    }
}

/// ONCE: a connector is not handed a permit whose effect happened before; its own memory is not what saves us.
pub(super) fn no_second_execution(world: &World, place: Place, permit: FactId) -> Holds {
    let effect = world.history.effects.iter().find(|e| e.permit == permit && e.place == place);
    match effect {
        Some(effect) => {
            let name = &world.machines[place].name;
            let text = format!("{name} executes {} again, which had its effect at {} ms", permit.short(), effect.at);
            Err(Violation::new("ONCE", text))
        }
        None => Ok(()),
    }
}

/// The lineage of a proposal fact.
pub(super) fn lineage_of(fact: &Known) -> Option<FactId> {
    (fact.kind() == KIND_PROPOSAL).then(|| fact.body::<Proposal>()).flatten().map(|p| p.lineage(fact.id))
}
