//! After the storm: the same facts everywhere, and the same meaning in any order.

use std::collections::BTreeSet;

use cauldron_identity::{AuthorId, Authority, FactId, Header, Scope};

use super::finality::fold;
use super::{Holds, Violation};
use crate::rng::Rng;
use crate::world::World;
use crate::world::machine::Machine;

impl World {
    /// Whether a machine's node is in, running, and neither cut nor stuck behind a fork of its own.
    #[must_use]
    pub fn is_in_good_standing(&self, m: &Machine) -> bool {
        let forked = self.history.positions.iter().any(|((author, ..), ids)| *author == m.author && ids.len() > 1);
        m.has_joined() && m.is_up() && !self.history.cuts.contains_key(&m.author) && !forked
    }

    /// Every chain that has two branches.
    #[must_use]
    pub fn forked_chains(&self) -> BTreeSet<(AuthorId, u32, Scope)> {
        let forked = self.history.positions.iter().filter(|(_, ids)| ids.len() > 1);
        forked.map(|((author, incarnation, scope, _), _)| (*author, *incarnation, scope.clone())).collect()
    }

    /// Some of the machines, for what costs a fold of all that one holds: each of up to fifty, and about fifty of many.
    pub(crate) fn sampled(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().step_by(1 + self.machines.len() / 50)
    }

    /// Whether a chain has two branches.
    #[must_use]
    pub fn forked_chain(&self, header: &Header) -> bool {
        self.history.positions.iter().any(|((author, incarnation, scope, _), ids)| {
            ids.len() > 1 && *author == header.author && *incarnation == header.incarnation && *scope == header.scope
        })
    }
}

/// PROGRESS: every node that was to join has joined, and runs.
pub(super) fn everybody_is_back(world: &World) -> Holds {
    match world.machines.iter().find(|m| !m.has_joined() || !m.is_up()) {
        Some(m) => Err(Violation::new("PROGRESS", format!("{} has not come back", m.name))),
        None => Ok(()),
    }
}

/// CONVERGE: all readers of a scope hold the same facts of it. (Beyond a fork each keeps what it saw first.)
pub(super) fn converge(world: &World) -> Holds {
    let scopes: BTreeSet<Scope> = world.history.facts.values().map(|f| f.header.scope.clone()).collect();
    let forked = world.forked_chains();
    for scope in scopes {
        let readers: Vec<&Machine> =
            world.machines.iter().filter(|m| m.reads(&scope) && world.is_in_good_standing(m)).collect();
        let held = |m: &Machine| -> BTreeSet<FactId> {
            let here = m.known.values().filter(|f| f.header.scope == scope && m.durable.contains(&f.id));
            let sound = |h: &Header| !forked.contains(&(h.author, h.incarnation, h.scope.clone()));
            here.filter(|f| forked.is_empty() || sound(&f.header)).map(|f| f.id).collect()
        };
        let Some((first, rest)) = readers.split_first() else { continue };
        let reference = held(first);
        for other in rest {
            let found = held(other);
            if let Some(id) = reference.symmetric_difference(&found).next() {
                let (has, lacks) = if found.contains(id) { (other, first) } else { (first, other) };
                let fact = world.history.facts.get(id);
                let what = fact.map_or_else(String::new, |f| format!("{} {}", f.kind(), f.header.seq));
                let text = format!("{} holds {what} {} of {scope}, {} does not", has.name, id.short(), lacks.name);
                return Err(Violation::new("CONVERGE", text));
            }
        }
    }
    Ok(())
}

/// Everything that an authority answers: who is in, in which life, who votes, which entries are in effect, which policy.
fn answers(authority: &Authority) -> String {
    let members: Vec<_> = authority
        .members()
        .map(|(a, m)| (a, m, authority.is_cut(a, m.incarnation), authority.is_suspended(a)))
        .collect();
    let effects: Vec<bool> = (0..=authority.index()).map(|i| authority.in_effect(i)).collect();
    let entries: Vec<_> = authority.entries().map(|e| (e.id, &e.refused)).collect();
    format!("{members:?} {effects:?} {entries:?} {:?} {:?}", authority.people(), authority.policy())
}

/// MERGE-LAWS: the same facts, folded in another order and twice, come to the same ledger, authority and states.
pub(super) fn merge_laws(world: &World) -> Holds {
    let mut rng = Rng::new(world.seed ^ 0x6d65_7267);
    for m in world.sampled().filter(|m| m.is_up()) {
        let in_order: Vec<_> = m.known.values().collect();
        let mut shuffled: Vec<_> = in_order.iter().chain(&in_order[..in_order.len() / 2]).copied().collect();
        rng.shuffle(&mut shuffled);
        shuffled.retain({
            // An entry twice would be two entries: the log, below the fold, keeps chains free of repetitions.
            let mut seen = BTreeSet::new();
            move |f| f.header.scope != Scope::authority() || seen.insert(f.id)
        });
        let wall_ms = m.clock.wall(world.now());
        let terms = m.terms();
        let (Some(one), Some(two)) =
            (fold(world, &terms, in_order.iter().copied()), fold(world, &terms, shuffled.iter().copied()))
        else {
            return Err(Violation::new("MERGE-LAWS", "the charter does not open"));
        };
        let states =
            |(authority, ledger): &(_, cauldron_coordinator::ledger::Ledger)| ledger.statuses(authority, wall_ms);
        let same = [
            (one.1 == two.1, "the ledger"),
            (answers(&one.0) == answers(&two.0), "the authority"),
            (states(&one) == states(&two), "the states of proposals"),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            let text = format!("{what} of {} comes to something else when its facts come in another order", m.name);
            return Err(Violation::new("MERGE-LAWS", text));
        }
    }
    Ok(())
}
