//! Before every effect: a permit for exactly this, for this node, in this life, in time, and known to be fresh.

use cauldron_coordinator::bodies::{Compensating, KIND_COMPENSATING, KIND_STARTED, Permit, Proposal, Started};
use cauldron_identity::FactId;

use super::model::Model;
use super::{Holds, Violation};
use crate::facts::{Known, of_kind};
use crate::network::Place;
use crate::world::World;

/// PERMIT: whatever a node starts rests on a permit by a coordinator for this proposal, owner, life and arguments, not yet over.
pub(super) fn permit(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    let broken = |why: String| Err(Violation::new("PERMIT", format!("{} starts {}: {why}", m.name, fact.id.short())));
    let Some(start) = fact.body::<Started>() else { return broken("its start cannot be read".into()) };
    let Some(of) = m.known.get(&start.permit) else { return broken("the permit is not here".into()) };
    let Some(permit) = of.body::<Permit>() else { return broken("the permit cannot be read".into()) };
    let Some(proposed) = m.known.get(&permit.proposal) else { return broken("the proposal is not here".into()) };
    let Some(proposal) = proposed.body::<Proposal>() else { return broken("the proposal cannot be read".into()) };
    let model = Model::new(&world.founding, m);
    let now = world.now();
    let in_time = !m.clock.is_believed(now) || m.clock.wall(now) <= permit.execute_by_ms;
    let mine = format!("{}/{}/", m.site.as_deref().unwrap_or_default(), m.name);
    let checks = [
        (model.may_permit(of, &permit), "the permit is not a coordinator's"),
        (of.header.scope == proposed.header.scope, "permit and proposal lie in different scopes"),
        (permit.owner == m.author, "the permit names another owner"),
        (permit.incarnation == model.incarnation(&m.author), "the permit names another life of this node"),
        (fact.header.incarnation == permit.incarnation, "it is started in another life than the permit's"),
        (permit.max_uses == 1, "the permit is for more than one use"),
        (
            permit.proposal == start.proposal && start.lineage == proposal.lineage(proposed.id),
            "permit and start differ",
        ),
        (permit.resource == proposal.resource && start.resource == proposal.resource, "the resources differ"),
        (proposal.resource.starts_with(&mine), "the resource belongs to another node"),
        (permit.args_digest == Proposal::digest_of_args(&proposal.args), "the permit is for other arguments"),
        (in_time, "the permit's time is over"),
        (!model.is_beyond(of), "the permit lies beyond its author's end"),
        (!model.is_beyond(proposed), "CUT: the proposal lies beyond its author's end"),
        (!model.is_cut(&m.author), "CUT: this node knows that it was cut"),
    ];
    match checks.into_iter().find(|(holds, _)| !holds) {
        Some((_, why)) => broken(why.to_owned()),
        None => Ok(()),
    }
}

/// PERMIT: the start of what a connector is handed is durable by then.
pub(super) fn started_is_durable(world: &World, place: Place, permit: FactId) -> Holds {
    let m = &world.machines[place];
    let start =
        of_kind::<Started>(&m.known, KIND_STARTED).find(|(f, s)| s.permit == permit && f.header.author == m.author);
    match start {
        Some((fact, _)) if m.durable.contains(&fact.id) && m.durable.contains(&permit) => Ok(()),
        _ => {
            let text = format!("{} executes {} before its start is durable", m.name, permit.short());
            Err(Violation::new("PERMIT", text))
        }
    }
}

/// PERMIT: nothing is taken back but what this machine did under a permit that names the way back, and that it is being taken back is
/// durable by then.
pub(super) fn undo_is_announced(world: &World, place: Place, permit: FactId) -> Holds {
    started_is_durable(world, place, permit)?;
    let m = &world.machines[place];
    let broken = |why: &str| Err(Violation::new("PERMIT", format!("{} takes back {}: {why}", m.name, permit.short())));
    let own = |f: &Known| f.header.author == m.author;
    let start =
        of_kind::<Started>(&m.known, KIND_STARTED).find(|(f, s)| s.permit == permit && own(f)).map(|(f, _)| f.id);
    let announced = of_kind::<Compensating>(&m.known, KIND_COMPENSATING)
        .any(|(f, c)| Some(c.started) == start && m.durable.contains(&f.id) && f.header.author == m.author);
    let names_it = m.known.get(&permit).and_then(|f| f.body::<Permit>()).is_some_and(|p| p.undo.is_some());
    match (announced, names_it) {
        (true, true) => Ok(()),
        (false, _) => broken("nothing durable says so"),
        (_, false) => broken("its permit names no way back"),
    }
}

/// PERMIT: every effect has a durable permit and a durable start on the machine where it happens.
pub(super) fn effect_has_permit(world: &World) -> Holds {
    match world.history.effects.last() {
        Some(effect) => started_is_durable(world, effect.place, effect.permit),
        None => Ok(()),
    }
}

/// OWNER: an effect happens only on the machine that owns the resource.
pub(super) fn owner(world: &World) -> Holds {
    let Some(effect) = world.history.effects.last() else { return Ok(()) };
    let m = &world.machines[effect.place];
    let mine = format!("{}/{}/", m.site.as_deref().unwrap_or_default(), m.name);
    if effect.resource.starts_with(&mine) {
        return Ok(());
    }
    Err(Violation::new("OWNER", format!("{} changed {}, which is another's", m.name, effect.resource)))
}
