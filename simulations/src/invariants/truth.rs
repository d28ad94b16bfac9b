//! What nodes show of each other, once there is nothing left that could change it.

use super::{Holds, Violation};
use crate::reached;
use crate::world::World;

/// TRUTH: after the storm nobody who is linked shows a peer as stalled that has all there is, and nobody shows a
/// site as torn that is whole.
pub(crate) fn shown_as_it_is(world: &mut World) -> Holds {
    let now = world.now();
    let sound: Vec<usize> =
        (0..world.machines.len()).filter(|p| world.is_in_good_standing(&world.machines[*p])).collect();
    let names: Vec<String> = sound.iter().map(|p| world.machines[*p].spiffe_id.to_string()).collect();
    let all = sound.len() == world.machines.len();
    for place in sound {
        let m = &world.machines[place];
        let Some(core) = m.core.as_ref() else { continue };
        let clock = m.clock.clone().read(now);
        let violation = |text: String| Err(Violation::new("TRUTH", format!("{} shows {text}", m.name)));
        let lags = core.lags_view(clock);
        let mut level = lags.iter().filter(|lag| lag.linked && names.contains(&lag.spiffe_id));
        // What was written a moment ago is acknowledged with the next digest.
        if let Some(lag) = level.find(|lag| lag.stalled != Some(false)) {
            let (peer, scope) = (&lag.spiffe_id, &lag.scope);
            return violation(format!("{peer} as {} behind and {} ahead in {scope}", lag.behind, lag.ahead));
        }
        let parts = core.partitions_view(clock);
        if let Some(part) = parts.items.iter().find(|part| all && matches!(part.state, "partial" | "cut_off")) {
            return violation(format!("{:?} as {}: {:?}", part.site, part.state, part.missing));
        }
        if lags.iter().any(|lag| lag.linked) {
            reached!(world, "truth.level");
        }
    }
    Ok(())
}
