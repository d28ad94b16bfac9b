//! Chains: one fact per place, no gaps, causes first, readers only, one life at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use cauldron_node_core::Record;

use super::{Holds, Violation};
use crate::facts::{EVIDENCE_PREFIX, Known};
use crate::history::Position;
use crate::network::Place;
use crate::world::{HQ, World};

fn read(record: &Record) -> Option<Known> {
    Known::of_record(&record.key, record.value.as_deref()?)
}

fn position(fact: &Known) -> Position {
    let h = &fact.header;
    (h.author, h.incarnation, h.scope.clone(), h.seq)
}

/// NO-FORK: no two facts of one author, life, scope and position are durable anywhere, unless a restored node wrote one
/// of them before anybody who knew better had spoken to it (decision 0005).
pub(super) fn no_fork(world: &World, place: Place, record: &Record) -> Holds {
    let Some(fact) = read(record) else { return Ok(()) };
    let Some(held) = world.history.positions.get(&position(&fact)) else { return Ok(()) };
    let others: Vec<_> = held.iter().filter(|id| **id != fact.id).collect();
    let blind = world.history.blind.contains(&fact.id) || others.iter().any(|id| world.history.blind.contains(id));
    match others.first() {
        Some(other) if !blind => {
            let h = &fact.header;
            let author = world.machines.iter().find(|m| m.author == h.author).map_or("somebody", |m| &m.name);
            let name = &world.machines[place].name;
            let text = format!(
                "{author} signed both {} and {} as position {} of {} (life {}); {name} stores the former",
                fact.id.short(),
                other.short(),
                h.seq,
                h.scope,
                h.incarnation,
            );
            Err(Violation::new("NO-FORK", text))
        }
        _ => Ok(()),
    }
}

/// CAUSAL: a fact becomes durable only behind the fact before it in its chain.
pub(super) fn gapless(world: &World, place: Place, record: &Record) -> Holds {
    let Some(fact) = read(record) else { return Ok(()) };
    let m = &world.machines[place];
    match fact.header.prev {
        Some(prev) if !m.durable.contains(&prev) => {
            let text = format!("{} stores {} without the fact before it in its chain", m.name, fact.id.short());
            Err(Violation::new("CAUSAL", text))
        }
        _ => Ok(()),
    }
}

/// CAUSAL: a node names as causes of its own facts only what it holds.
pub(super) fn causes_are_known(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    match fact.header.deps.iter().find(|dep| !m.known.contains_key(dep)) {
        Some(dep) => {
            let text =
                format!("{} wrote {} because of {}, which it does not hold", m.name, fact.id.short(), dep.short());
            Err(Violation::new("CAUSAL", text))
        }
        None => Ok(()),
    }
}

/// CAUSAL: once everything has settled, every cause that a reader may read is there.
pub(super) fn causal(world: &World) -> Holds {
    for m in world.machines.iter().filter(|m| world.is_in_good_standing(m)) {
        for fact in m.known.values() {
            let lacks = |dep: &&cauldron_identity::FactId| {
                !m.known.contains_key(dep) && world.history.facts.get(dep).is_some_and(|d| m.reads(&d.header.scope))
            };
            let forked = |dep: &cauldron_identity::FactId| {
                world.history.facts.get(dep).is_some_and(|d| world.forked_chain(&d.header))
            };
            if let Some(dep) = fact.header.deps.iter().find(lacks).filter(|dep| !forked(dep)) {
                let text =
                    format!("{} holds {} {}, but not its cause {}", m.name, fact.kind(), fact.id.short(), dep.short());
                return Err(Violation::new("CAUSAL", text));
            }
        }
    }
    Ok(())
}

/// SCOPE: a node stores nothing of a scope that it may not read.
pub(super) fn readers_only(world: &World, place: Place, fact: &Known) -> Holds {
    let m = &world.machines[place];
    if m.reads(&fact.header.scope) {
        return Ok(());
    }
    let text = format!("{} stores {} of {}, which it may not read", m.name, fact.id.short(), fact.header.scope);
    Err(Violation::new("SCOPE", text))
}

/// INCARNATE: a restored node writes nothing in a life of which facts were lost, once it could know: it said so itself,
/// somebody who holds one has shown it, or it learnt of that life from others.
pub(super) fn old_life_is_over(world: &World, place: Place, fact: &Arc<Known>) -> Holds {
    let m = &world.machines[place];
    let Some(restored) = &m.restored else { return Ok(()) };
    let lost_here = |id: &cauldron_identity::FactId| {
        world
            .history
            .facts
            .get(id)
            .is_some_and(|f| f.header.scope == fact.header.scope && f.header.incarnation == fact.header.incarnation)
    };
    let again = fact.header.incarnation > m.life_at_start;
    let told = restored.admitted || restored.told.contains(&fact.header.scope);
    // Of a life that it does not remember only those know that it was used who hold something of it; and it can know
    // once one of them has spoken to it.
    // What it was told of the life before says nothing of this one.
    let holds = |id: &cauldron_identity::FactId| m.spoken.iter().any(|at| world.machines[*at].known.contains_key(id));
    let known = |id: &cauldron_identity::FactId| if again { holds(id) } else { told };
    if (told || again) && restored.lost.keys().any(|id| lost_here(id) && known(id)) {
        let text = format!(
            "{} was restored, was shown more of its own chain in {}, and still wrote {} {} in life {}",
            m.name,
            fact.header.scope,
            fact.kind(),
            fact.id.short(),
            fact.header.incarnation,
        );
        return Err(Violation::new("INCARNATE", text));
    }
    Ok(())
}

/// INCARNATE: on a used store, a site's node writes nothing in a scope before somebody who shares that scope has spoken to
/// it, or ten seconds have passed (decision 0005). hq, which writes the authority chain, is never restored.
pub(super) fn asks_before_it_writes(world: &World, place: Place, fact: &Known) -> Holds {
    const GRACE_MS: u64 = 9_900;
    let m = &world.machines[place];
    let young = m.resumed_at.is_some_and(|at| world.now() < at + GRACE_MS);
    let asked = m.spoken.iter().any(|peer| world.machines[*peer].reads(&fact.header.scope));
    if !young || asked || place == HQ {
        return Ok(());
    }
    let text = format!(
        "{} restarted and wrote {} in {} before anybody who shares that scope had spoken to it",
        m.name,
        fact.kind(),
        fact.header.scope
    );
    Err(Violation::new("INCARNATE", text))
}

/// NO-FORK: where a restored node forked itself, every reader of that chain keeps the evidence.
pub(super) fn evidence_of_forks(world: &World) -> Holds {
    for (position, ids) in world.history.positions.iter().filter(|(_, ids)| ids.len() > 1) {
        let (author, _, scope, seq) = position;
        // Nobody listens to an author that was cut; its own disk may hold what it likes.
        if world.history.cuts.contains_key(author) {
            continue;
        }
        for m in world.machines.iter().filter(|m| world.is_in_good_standing(m) && m.reads(scope)) {
            let chain: Vec<u8> = [EVIDENCE_PREFIX, scope.to_string().as_bytes(), &[0], author.as_bytes()].concat();
            let held: BTreeSet<_> = ids.iter().filter(|id| m.durable.contains(id)).collect();
            // A branch that only a cut machine holds reaches nobody.
            let heard = world.machines.iter().filter(|o| !world.history.cuts.contains_key(&o.author));
            let heard: Vec<_> = heard.collect();
            let visible = ids.iter().filter(|id| heard.iter().any(|o| o.durable.contains(id))).count();
            let has = m.disk.records().iter().any(|(key, _)| key.starts_with(&chain));
            if !has && visible > 1 {
                let text = format!(
                    "{} holds {} of {} branches of a fork at {scope} {seq} and no evidence",
                    m.name,
                    held.len(),
                    ids.len()
                );
                return Err(Violation::new("NO-FORK", text));
            }
        }
    }
    Ok(())
}
