//! Steps in a row: begun in their turn, and all or none in the end.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{
    Aborted, Compensated, Compensating, CompensationFailed, Done, Ended, KIND_ABORTED, KIND_COMPENSATED,
    KIND_COMPENSATING, KIND_COMPENSATION_FAILED, KIND_DONE, KIND_ENDED, KIND_PROPOSAL, KIND_STARTED, Proposal, Started,
};
use cauldron_identity::FactId;

use super::{Holds, Violation};
use crate::facts::{Facts, Known, of_kind};
use crate::network::Place;
use crate::reached;
use crate::world::World;
use crate::world::machine::Machine;

/// The first proposal of a lineage, as the disk has it.
fn first(known: &Facts, lineage: &FactId) -> Option<Proposal> {
    known.get(lineage)?.body::<Proposal>()
}

fn starts<'f>(known: &'f Facts, lineage: &'f FactId) -> impl Iterator<Item = FactId> + 'f {
    of_kind::<Started>(known, KIND_STARTED).filter(|(_, s)| s.lineage == *lineage).map(|(f, _)| f.id)
}

/// SAGA: an owner begins a step only when its own disk says that the step before it is done.
pub(super) fn in_turn(world: &mut World, place: Place, fact: &Known) -> Holds {
    let known = &world.machines[place].known;
    let Some(start) = fact.body::<Started>() else { return Ok(()) };
    let step = first(known, &start.lineage).and_then(|p| p.saga);
    let Some(before) = step.and_then(|step| step.after) else { return Ok(()) };
    let done: BTreeSet<FactId> = of_kind::<Done>(known, KIND_DONE).map(|(_, d)| d.started).collect();
    if starts(known, &before).any(|start| done.contains(&start)) {
        reached!(world, "saga.second_step");
        return Ok(());
    }
    let text = format!("{} begins behind {}, which is not done", world.machines[place].name, before.short());
    Err(Violation::new("SAGA", text))
}

/// Counts the hard places that a new fact of a node shows.
pub(super) fn mark_hard_places(world: &mut World, place: Place, fact: &Known) {
    match fact.kind() {
        KIND_ABORTED => reached!(world, "saga.aborted"),
        KIND_COMPENSATING => {
            let by_itself = fact.body::<Compensating>().is_some_and(|c| c.by.is_none() && c.reason.contains("step"));
            if by_itself && world.machines[place].author == fact.header.author {
                reached!(world, "saga.rolled_back");
            }
        }
        _ => {}
    }
}

/// What a machine's disk says of a step.
#[derive(Debug, PartialEq, Eq)]
enum Is {
    /// Nothing that decides, or nothing is left to be taken back.
    Other,
    Stands,
    Over,
}

fn is(m: &Machine, lineage: &FactId) -> Is {
    let known = &m.known;
    if of_kind::<Aborted>(known, KIND_ABORTED).any(|(_, a)| a.proposal == *lineage) {
        return Is::Over;
    }
    for start in starts(known, lineage) {
        let taken_back = of_kind::<Compensated>(known, KIND_COMPENSATED).any(|(_, c)| c.started == start);
        let failed = of_kind::<CompensationFailed>(known, KIND_COMPENSATION_FAILED).any(|(_, c)| c.started == start);
        let ended = of_kind::<Ended>(known, KIND_ENDED).any(|(_, e)| e.started == start);
        let done = of_kind::<Done>(known, KIND_DONE).any(|(_, d)| d.started == start);
        match () {
            () if taken_back => return Is::Over,
            () if done && !failed && !ended => return Is::Stands,
            () => {}
        }
    }
    Is::Other
}

/// SAGA: in the end no step stands in front of one that is over, unless its undo failed; and no owner keeps silent about a step
/// that it will never begin.
pub(super) fn all_or_none(world: &World) -> Holds {
    let same_life = |m: &&Machine| world.is_in_good_standing(m) && !world.history.restored.contains_key(&m.author);
    for m in world.machines.iter().filter(|m| m.site.is_some()).filter(same_life) {
        for (fact, p) in of_kind::<Proposal>(&m.known, KIND_PROPOSAL) {
            let Some(before) = p.saga.and_then(|step| step.after) else { continue };
            if is(m, &fact.id) != Is::Over || is(m, &before) != Is::Stands {
                continue;
            }
            let own = starts(&m.known, &before).any(|s| m.known.get(&s).is_some_and(|s| s.header.author == m.author));
            if own {
                let text = format!("{} leaves {} standing, and {} is over", m.name, before.short(), fact.id.short());
                return Err(Violation::new("SAGA", text));
            }
        }
    }
    Ok(())
}
