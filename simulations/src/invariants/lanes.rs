//! What goes over a link first, and how much of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cauldron_node_core::{LinkId, LinkLane};

use super::{Holds, Violation};
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;
use crate::world::World;

/// What was sent on metered links.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By sender and receiver: when, and how much.
    sent: BTreeMap<(Place, Place), VecDeque<(Ms, u64)>>,
    /// By sender: its processes that began.
    starts: BTreeMap<Place, VecDeque<(Ms, u64)>>,
}

/// LANES: no proposal, document or telemetry leaves on a link on which a restriction has waited.
pub(super) fn restrictions_go_first(world: &mut World, place: Place, bulk: &BTreeSet<LinkId>) -> Holds {
    if world.weather.thin.is_none() {
        return Ok(());
    }
    let at = world.now();
    let now = world.machines[place].clock.read(at);
    let Some(core) = world.machines[place].core.as_ref() else { return Ok(()) };
    let view = core.flow_view(now);
    let waits = |lane: &str, by: &cauldron_node_core::view::FlowView| {
        // What came in this very moment may have come behind what was handed over in it.
        by.lanes.iter().any(|l| l.lane == lane && l.oldest_ms.is_some_and(|ms| ms > 0))
    };
    let late = |link: &&LinkId| {
        let to = world.machines[place].links.get(*link)?;
        view.get(&world.machines[*to].spiffe_id.to_string()).filter(|by| waits("restrictions", by)).map(|_| *to)
    };
    let overtaken = bulk.iter().find_map(|link| late(&link));
    let waited = view.values().any(|by| waits("documents", by) || waits("restrictions", by));
    let short = view.values().any(|by| by.budget.as_ref().is_some_and(|b| b.documents_in_ms.is_some()));
    if let Some(to) = overtaken {
        let (from, to) = (&world.machines[place].name, &world.machines[to].name);
        return Err(Violation::new(
            "LANES",
            format!("{from} sends bulk to {to} while a restriction waits for that link"),
        ));
    }
    if waited {
        reached!(world, "lanes.waited");
    }
    if short {
        reached!(world, "lanes.budget_used_up");
    }
    Ok(())
}

/// METERED: no proposal, document or telemetry is sent where more than the budget of the link went there within its period.
pub(super) fn within_the_budget(world: &mut World, place: Place, link: LinkId, lane: LinkLane, len: usize) -> Holds {
    let Some(budget) = world.weather.thin.and_then(|thin| thin.budget) else { return Ok(()) };
    let Some(to) = world.machines[place].links.get(&link).copied() else { return Ok(()) };
    if world.machines[place].site == world.machines[to].site {
        return Ok(());
    }
    let (now, process) = (world.now(), world.machines[place].process);
    let since = now.saturating_sub(budget.per_ms);
    let starts = world.watch.lanes.starts.entry(place).or_default();
    if starts.back().is_none_or(|(_, last)| *last != process) {
        starts.push_back((now, process));
    }
    // A clock that jumps, or an older copy of a disk, may give a new process once more what may go at once.
    let faults = &world.weather.faults;
    let forgets = faults.jump_ms.is_some() || faults.restore_ms.is_some();
    let again = starts.iter().filter(|(at, _)| forgets && *at > since).count() as u64 * (budget.bytes / 4);
    let sent = world.watch.lanes.sent.entry((place, to)).or_default();
    sent.push_back((now, len as u64));
    sent.retain(|(at, _)| *at > since);
    let total: u64 = sent.iter().map(|(_, len)| len).sum();
    // Quartzes drift.
    if lane.is_bulk() && total > budget.bytes + budget.bytes / 100 + again {
        let (from, to) = (&world.machines[place].name, &world.machines[to].name);
        let (per_ms, may) = (budget.per_ms, budget.bytes);
        let text =
            format!("{from} sent {total} bytes to {to} within {per_ms} ms, the last of them bulk, and may send {may}");
        return Err(Violation::new("METERED", text));
    }
    Ok(())
}
