//! What an owner in the wrong hands says of others changes nothing for them.

use super::finality::fold;
use super::{Holds, Violation};
use crate::facts::of_kind;
use crate::world::{HQ, World};
use cauldron_coordinator::bodies::{KIND_STARTED, Started};

/// ONCE and FINAL: no node takes for started what its owner did not start, whatever another owner says of it; so nobody keeps an
/// honest owner from its work, or ends it in its name.
pub(super) fn nothing_is_done_by_hearsay(world: &World) -> Holds {
    if world.history.liars.is_empty() {
        return Ok(());
    }
    let hq = &world.machines[HQ];
    let Some((authority, ledger)) = fold(world, &hq.terms(), hq.known.values()) else { return Ok(()) };
    let wall_ms = hq.clock.wall(world.now());
    for (id, owner) in world.history.proposals.iter().filter(|(_, owner)| !world.is_liar(*owner)) {
        let author = world.machines[*owner].author;
        let Some(status) = ledger.status(id, &authority, wall_ms) else { continue };
        let mut starts = of_kind::<Started>(&world.history.facts, KIND_STARTED);
        let own = starts.any(|(f, s)| s.lineage == status.lineage && f.header.author == author);
        // Where a past life of its owner may have used a permit there is no start, and nobody knows.
        if status.started.is_some() && !own {
            let name = &world.machines[*owner].name;
            let text = format!("hq takes {} for {:?}, which {name} never started", id.short(), status.state);
            return Err(Violation::new("ONCE", text));
        }
        let p = ledger.proposal(id).map(|p| ledger.used_by(p, &authority, None));
        let restored = world.history.restored.contains_key(&author) || world.history.cuts.contains_key(&author);
        if let Some(Some(why)) = p.filter(|_| !own && !restored) {
            let intent = world.history.effects.iter().any(|e| e.place == *owner);
            if !intent {
                let name = &world.machines[*owner].name;
                return Err(Violation::new("ONCE", format!("{} of {name} is used up: {why}", id.short())));
            }
        }
    }
    Ok(())
}
