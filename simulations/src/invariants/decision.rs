//! Before every effect: people decided it, and nobody whose word has arrived said no.

use cauldron_coordinator::bodies::{Permit, Proposal, Started};

use super::model::Model;
use super::{Holds, Violation, alone};
use crate::facts::Known;
use crate::network::Place;
use crate::reached;
use crate::world::World;

/// DECISION and ROOT: what a node starts was approved, under the decision its permit names, by as many distinct people on
/// duty as the policy asks for, each enrolled by the council and not revoked; and no person, veto or kill known here says
/// no. FINAL: a no that has arrived is never overtaken.
pub(super) fn decision(world: &mut World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    let broken = |name, why: String| Err(Violation::new(name, format!("{} starts {}: {why}", m.name, fact.id.short())));
    let start = fact.body::<Started>();
    let of = start.as_ref().and_then(|s| m.known.get(&s.permit));
    let permit = of.and_then(|f| f.body::<Permit>());
    let proposed = permit.as_ref().and_then(|p| m.known.get(&p.proposal));
    let (Some(permit), Some(proposed)) = (permit, proposed) else { return Ok(()) };
    let Some(proposal) = proposed.body::<Proposal>() else { return Ok(()) };
    let model = Model::new(&world.founding, m);
    let noes = model.noes(proposed, &proposal);
    if let Some(no) = noes.first() {
        return broken("FINAL", format!("but {no}"));
    }
    if let Some(no) = alone::stopped_at_site(world, place, proposed, &proposal) {
        return broken("FINAL", format!("but {no}"));
    }
    let decision = match model.decision_of(&permit) {
        Ok(decision) => decision,
        Err(why) => return broken("ROOT", why),
    };
    let now = world.now();
    let wall_ms = m.clock.is_believed(now).then(|| m.clock.wall(now));
    if wall_ms.is_some_and(|ms| ms > decision.obligations.decide_by_ms || ms > proposal.expires_ms) {
        return broken("DECISION", "the time to decide is over".into());
    }
    // People are what a token skips, and nothing else.
    if permit.break_glass.is_some() {
        return Ok(());
    }
    let agreed = match model.agreed(&permit, &decision, wall_ms) {
        Ok(agreed) => agreed,
        Err(why) => return broken("DECISION", why),
    };
    let by = of.map(|f| f.header.author);
    let other = world.coordinators().find(|at| Some(world.machines[*at].author) != by);
    let dark = other.is_some_and(|at| !world.machines[at].is_up() || !world.network.is_open(at, place));
    if agreed.deputies {
        reached!(world, "deputy.sat");
    }
    if agreed.silence {
        reached!(world, "silence.kept");
    }
    if dark {
        reached!(world, "coordinators.one_dark");
    }
    Ok(())
}
