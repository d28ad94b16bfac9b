//! ISOLATION: past the lease only what the council granted a site, and a sealed token only once. Judged from what every disk and wire
//! showed, by the time at which a word of a coordinator can have reached the owner at the latest.

use std::collections::BTreeSet;

use cauldron_coordinator::bodies::{
    BrokenGlass, Decision, KIND_PERMIT, KIND_RESTRICTION, KIND_SITE_LIFT, KIND_STARTED, KIND_VOTE, Permit, Proposal,
    Restriction, RiskClass, SiteLift, Started, Target,
};
use cauldron_coordinator::lease::{LeaseState, age_ms_max};
use cauldron_coordinator::vote::SignedVote;
use cauldron_identity::isolation::{IsolationGrant, token_digest};
use cauldron_identity::{Clock, Confidence};

use super::model::Model;
use super::{Holds, Violation};
use crate::facts::{Known, of_kind};
use crate::founding::{BLOCKS, class_ages};
use crate::network::Place;
use crate::queue::Ms;
use crate::reached;
use crate::world::World;
use crate::world::machine::Machine;

/// How much a drifting clock and a slow timer may hide, milliseconds.
const SLACK_MS: u64 = 2_000;
/// Of its own people, for class R2 past the lease (governance §4).
const LOCAL_PEOPLE_MIN: usize = 2;

/// Blocking an address is R1; who proposes it may say that it is more.
fn class_of(proposal: &Proposal) -> RiskClass {
    proposal.risk.max(RiskClass::R1)
}

/// The same time by a quartz that is up to a thousandth off.
fn loosely(ms: Ms) -> Ms {
    ms.saturating_add(ms / 1_000).saturating_add(SLACK_MS)
}

/// The age of the lease that lies on a machine's disk, whatever its process knows beside it.
fn lease_on_disk(m: &Machine, now: Ms) -> Option<Ms> {
    let stored = m.disk.get(b"l/lease")?;
    let lease = LeaseState::restore(&stored, &m.clock.boot_id(&m.name)).ok()?;
    let clock = Clock { wall_ms: 0, boottime_ms: m.clock.boottime(now), confidence: Confidence::Unknown };
    lease.age(&clock).ms()
}

/// A start with all that it rests on.
struct Begun {
    start: Started,
    permit: Permit,
    by: cauldron_identity::AuthorId,
    proposal: Proposal,
    decision: Option<Decision>,
}

fn begun(m: &Machine, fact: &Known) -> Option<Begun> {
    let start: Started = fact.body()?;
    let of = m.known.get(&start.permit)?;
    let permit: Permit = of.body()?;
    let proposal = m.known.get(&permit.proposal)?.body()?;
    let decision = m.known.get(&permit.decision).and_then(|f| f.body());
    Some(Begun { start, permit, by: of.header.author, proposal, decision })
}

/// ISOLATION: nothing is started by a node to which no word of a coordinator can have come for longer than the class's lease age, or
/// since it booted, but what the site's grant says; and what rests on a token, once.
pub(super) fn isolation(world: &mut World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    let broken =
        |why: String| Err(Violation::new("ISOLATION", format!("{} starts {} though {why}", m.name, fact.id.short())));
    let Some(begun) = begun(m, fact) else { return Ok(()) };
    if begun.permit.break_glass.is_some() {
        return glass(world, place, fact, &begun);
    }
    let class = class_of(&begun.proposal);
    let lease_ms = age_ms_max(class, &class_ages(&world.weather));
    let model = Model::new(&world.founding, m);
    if let Some(why) = floor(world, m, &model, &begun, class) {
        return Err(Violation::new("DECISION", format!("{} starts {} though {why}", m.name, fact.id.short())));
    }
    if m.fresh_at < m.clock.booted_at() {
        return broken("nothing of a coordinator can have reached it since it booted".to_owned());
    }
    let silent_ms = world.now().saturating_sub(m.fresh_at);
    let is_fresh = lease_on_disk(m, world.now()).is_some_and(|age| age <= lease_ms);
    if is_fresh && !model.coordinates(&begun.by) {
        return broken("its lease is fresh, and no coordinator permitted it".to_owned());
    }
    if silent_ms <= loosely(lease_ms) {
        return Ok(());
    }
    let site = m.site.clone().unwrap_or_default();
    let silence = format!("nothing of a coordinator newer than {silent_ms} ms can have reached it");
    let Some(grant) = model.grant(&site) else {
        return broken(format!("{silence}, and no grant that it knows goes on"));
    };
    let horizon_ms = if class == RiskClass::R3 { 0 } else { age_ms_max(class, &grant.horizon) };
    if silent_ms > loosely(horizon_ms) {
        return broken(format!("{silence}, and the grant allows {horizon_ms} ms for {class:?}"));
    }
    if !model.coordinates(&begun.by) && !model.acts(&begun.by, &grant) {
        return broken(format!("{silence}, and the grant does not name whoever permitted it"));
    }
    if let Some(why) = lacks(&world.weather, &model, &grant, &begun, class, m.clock.wall(world.now())) {
        return broken(format!("{silence}, and {why}"));
    }
    reached!(world, "alone.started");
    if class == RiskClass::R2 {
        reached!(world, "alone.started_with_two_people");
    }
    if !Model::new(&world.founding, &world.machines[place]).coordinates(&begun.by) {
        reached!(world, "alone.permitted_by_the_site");
    }
    Ok(())
}

/// DECISION: R2 needs a person and R3 two, and a majority of several coordinators, whatever policy says.
fn floor(world: &World, m: &Machine, model: &Model<'_>, begun: &Begun, class: RiskClass) -> Option<String> {
    let people = match class {
        RiskClass::R0 | RiskClass::R1 => return None,
        RiskClass::R2 => 1,
        RiskClass::R3 => 2,
    };
    let wall_ms = m.clock.is_believed(world.now()).then(|| m.clock.wall(world.now()));
    let decision = begun.decision.as_ref()?;
    let (approved, _) = model.approvers(&begun.permit, decision, wall_ms);
    if approved.len() < people {
        return Some(format!("class {class:?} needs {people} people: {approved:?}"));
    }
    if class < RiskClass::R3 {
        return None;
    }
    let permits = of_kind::<Permit>(&m.known, KIND_PERMIT).filter(|(_, p)| p.proposal == begun.permit.proposal);
    let same = permits.filter(|(f, p)| p.terms == begun.permit.terms && model.coordinates(&f.header.author));
    let signers: BTreeSet<_> = same.map(|(f, _)| f.header.author).collect();
    let seats = world.founding.coordinators.len();
    (seats < 2 || signers.len() <= seats / 2)
        .then(|| format!("class R3 needs a majority of several coordinators: {} of {seats}", signers.len()))
}

/// What a start under the grant lacks of its site's own people, of escrow, or of a yes.
fn lacks(
    weather: &crate::weather::Weather,
    model: &Model<'_>,
    grant: &IsolationGrant,
    begun: &Begun,
    class: RiskClass,
    wall_ms: u64,
) -> Option<String> {
    let named = |name: &str| grant.escrow.iter().any(|b| b.as_str() == name);
    if let Some(foreign) = begun.permit.budgets.iter().find(|need| !named(&need.budget)) {
        return Some(format!("it takes of {}, which the grant does not name", foreign.budget));
    }
    if weather.takes.is_some() && !named(BLOCKS) {
        return Some("policy has it take of a budget that the grant does not name".to_owned());
    }
    let Some(decision) = &begun.decision else { return Some("its decision is not here".to_owned()) };
    let (approved, _) = model.approvers(&begun.permit, decision, Some(wall_ms));
    if approved.is_empty() {
        return Some("nobody said yes".to_owned());
    }
    if class < RiskClass::R2 {
        return None;
    }
    let own = approved.iter().filter(|person| model.is_on_duty(person)).count();
    if own < LOCAL_PEOPLE_MIN {
        return Some(format!("{class:?} needs {LOCAL_PEOPLE_MIN} of the site's own people: {approved:?}"));
    }
    begun.permit.budgets.is_empty().then(|| format!("{class:?} takes of no escrow"))
}

/// ISOLATION: a token is good for one start, of the life of the owner that it was sealed for, on what it was used for.
fn glass(world: &mut World, place: Place, fact: &Known, begun: &Begun) -> Holds {
    let m = &world.machines[place];
    let broken = |why: &str| {
        Err(Violation::new("ISOLATION", format!("{} starts {} by a token, but {why}", m.name, fact.id.short())))
    };
    let used = begun.permit.break_glass.and_then(|id| m.known.get(&id)).and_then(|f| f.body::<BrokenGlass>());
    let Some(used) = used else { return broken("its use is not here") };
    let (token, sealed) = (token_digest(&used.token), world.sealed_tokens());
    let model = Model::new(&world.founding, m);
    let life = model.incarnation(&m.author);
    let second = |(f, s): &(&std::sync::Arc<Known>, Started)| {
        let permit = world.history.facts.get(&s.permit).and_then(|f| f.body::<Permit>());
        // A start that died with its process was none.
        let h = &f.header;
        let place = (h.author, h.incarnation, h.scope.clone(), h.seq);
        let was_durable = world.history.positions.get(&place).is_some_and(|ids| ids.contains(&f.id));
        f.id != fact.id
            && was_durable
            && f.header.author == m.author
            && !world.history.blind.contains(&f.id)
            && permit.and_then(|p| world.token_of(&p)) == Some(token)
    };
    let again = of_kind::<Started>(&world.history.facts, KIND_STARTED).find(|pair| second(pair));
    let checks = [
        (sealed.get(&token) == Some(&(place, life)), "the token was not sealed for this life of it"),
        (model.holds_token(&m.author, life, &token), "no entry that it knows gives it the token"),
        (used.proposal == begun.start.proposal, "the token was used for something else"),
        (used.is_signed(&world.founding.mesh), "the token did not sign it"),
        (begun.by == m.author, "somebody else permitted it"),
        (again.is_none() || world.history.blind.contains(&fact.id), "the token was used before"),
    ];
    if let Some((_, why)) = checks.into_iter().find(|(holds, _)| !holds) {
        return broken(why);
    }
    reached!(world, "glass.started");
    Ok(())
}

/// A no of one of the site's own people that counts here: nobody lifted it, or the lease is fresh.
pub(super) fn stopped_at_site(world: &World, place: Place, proposed: &Known, proposal: &Proposal) -> Option<String> {
    let m = &world.machines[place];
    let model = Model::new(&world.founding, m);
    let site = proposed.header.scope.site_name()?;
    let lease_ms = age_ms_max(class_of(proposal), &class_ages(&world.weather));
    let fresh = world.coordinates(place) || lease_on_disk(m, world.now()).is_some_and(|age| age <= lease_ms);
    let orders = of_kind::<Restriction>(&m.known, KIND_RESTRICTION).filter_map(|(f, r)| Some((f, r.order().ok()?)));
    let ours = orders.filter(|(f, order)| {
        let hits = matches!(&order.target, Target::Agent(agent) if *agent == proposal.agent);
        hits && f.header.scope.site_name() == Some(site) && world.alone.orders.contains(order)
    });
    let stands = |id: &cauldron_identity::FactId| {
        let lifted = model.grant(site).filter(|grant| grant.lift > 0 && !fresh).is_some_and(|grant| {
            let said = of_kind::<SiteLift>(&m.known, KIND_SITE_LIFT).filter_map(|(_, l)| l.statement().ok());
            let of_it = said.filter(|s| s.restriction == *id && model.is_on_duty(&s.person));
            of_it.map(|s| s.person).collect::<BTreeSet<_>>().len() >= grant.lift as usize
        });
        !lifted
    };
    let mut standing = ours.filter(|(f, _)| stands(&f.id));
    standing.next().map(|(_, order)| format!("{} stopped its agent at the site", order.by))
}

/// Hard places.
pub(super) fn mark(world: &mut World, place: Place, fact: &Known) {
    if fact.kind() != KIND_VOTE || !world.is_alone(place) {
        return;
    }
    let m = &world.machines[place];
    let statement = fact.body::<SignedVote>().and_then(|vote| vote.statement().ok());
    let proposal = statement.and_then(|s| m.known.get(&s.proposal)?.body::<Proposal>());
    let model = Model::new(&world.founding, m);
    let grant = model.grant(m.site.as_deref().unwrap_or_default());
    let horizon_ms = grant.zip(proposal).map(|(grant, p)| age_ms_max(class_of(&p), &grant.horizon));
    if horizon_ms.is_some_and(|ms| world.now().saturating_sub(m.fresh_at) > ms) {
        reached!(world, "alone.approved_beyond_the_end");
    }
}
