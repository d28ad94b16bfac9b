//! What must always be true, each as a named function. They judge disks, wires, promises and effects from outside, with a
//! reference model of their own ([`model`]); none of them asks a node whether it behaves.

mod alone;
mod budgets;
mod chains;
mod converge;
mod decision;
mod documents;
mod durable;
mod finality;
mod index;
mod lanes;
mod lies;
mod links;
pub mod model;
mod near;
mod once;
mod permit;
mod rooted;
mod roots;
mod saga;
mod scan;
mod seats;
mod takes;
mod tamper;
pub(crate) mod truth;

pub use finality::fold;
pub(crate) use index::index;
pub(crate) use scan::publish;
pub(crate) use tamper::tampered;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cauldron_coordinator::bodies::{KIND_PERMIT, KIND_STARTED};
use cauldron_identity::FactId;
use cauldron_node_core::{LinkId, LinkLane, Record};

use crate::facts::Known;
use crate::history::Ack;
use crate::network::Place;
use crate::queue::Ms;
use crate::world::World;
use crate::world::connector::Job;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name, as in the design's guarantees.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// A broken invariant.
    #[must_use]
    pub fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// Whether an invariant holds.
pub type Holds = Result<(), Violation>;

/// What the invariants remember between events.
#[derive(Debug, Default)]
pub struct Watch {
    pub(crate) jobs: BTreeMap<(Place, FactId), Job>,
    /// Permits about which a process asked its connector after a restart.
    pub(crate) probed: BTreeSet<(Place, FactId)>,
    pub(crate) secrets: scan::Secrets,
    /// Ids of site facts that an entry of the authority chain names as the end of a chain: public from then on.
    pub(crate) public_ids: BTreeSet<FactId>,
    pub(crate) statuses: BTreeMap<(Place, FactId), cauldron_coordinator::ledger::State>,
    pub(crate) sampled_at: Ms,
    /// Of class R3, what one coordinator wrote about while the other could not be reached.
    pub(crate) one_dark: BTreeSet<FactId>,
    pub(crate) budgets: budgets::Ledger,
    pub(crate) near: near::Watch,
    pub(crate) lanes: lanes::Watch,
}

/// A node said for the first time in this process that it keeps a fact.
pub(crate) fn at_each_fact(world: &mut World, place: Place, fact: &Arc<Known>, own: bool, stranger: bool) -> Holds {
    scan::learn(world, fact);
    links::nothing_from_strangers(world, place, fact, own, stranger)?;
    chains::readers_only(world, place, fact)?;
    if own {
        chains::causes_are_known(world, place, fact)?;
        chains::old_life_is_over(world, place, fact)?;
        chains::asks_before_it_writes(world, place, fact)?;
        budgets::rights_are_confirmed(world, place, fact)?;
        budgets::nonneg(world, place, fact)?;
        // What a liar writes of its own is nobody's promise; what others make of it is.
        if world.is_liar(place) {
            return Ok(());
        }
        takes::what_happened_is_spent(world, place, fact)?;
        match fact.kind() {
            KIND_STARTED => {
                permit::permit(world, place, fact)?;
                decision::decision(world, place, fact)?;
                alone::isolation(world, place, fact)?;
                once::no_second_start(world, place, fact)?;
                takes::start_is_reserved(world, place, fact)?;
                saga::in_turn(world, place, fact)?;
            }
            KIND_PERMIT => finality::no_permit_after_a_no(world, place, fact)?,
            _ => {}
        }
    }
    finality::mark_hard_places(world, place, fact);
    saga::mark_hard_places(world, place, fact);
    seats::mark(world, place, fact);
    budgets::mark_hard_places(world, place, fact, own);
    alone::mark(world, place, fact);
    Ok(())
}

/// A fact is durable on a machine.
pub(crate) fn at_each_durable(world: &mut World, place: Place, fact: &Known) -> Holds {
    budgets::budget(world, place, fact)
}

/// A record becomes durable.
pub(crate) fn at_each_write(world: &World, place: Place, record: &Record) -> Holds {
    rooted::terms_are_the_councils(world, place, record)?;
    rooted::no_lease_from_a_liar(world, place, record)?;
    durable::no_regress(world, place, record)?;
    chains::no_fork(world, place, record)?;
    chains::gapless(world, place, record)
}

/// A frame leaves a node.
pub(crate) fn at_each_send(world: &mut World, place: Place, link: LinkId, lane: LinkLane, len: usize) -> Holds {
    lanes::within_the_budget(world, place, link, lane, len)?;
    links::silence_to_strangers(world, place, link)?;
    rooted::silence_to_the_cut(world, place, link)
}

/// A core has handed frames to the wires: `bulk` are the links on which one was no restriction and no vote.
pub(crate) fn at_each_handover(world: &mut World, place: Place, bulk: &BTreeSet<LinkId>) -> Holds {
    lanes::restrictions_go_first(world, place, bulk)
}

/// How many facts a frame carries as a packed range.
pub(crate) fn packed_facts(bytes: &[u8]) -> usize {
    scan::packed(bytes).len()
}

/// A frame reaches a machine.
pub(crate) fn at_each_frame(world: &World, from: Place, to: Place, bytes: &[u8]) -> Holds {
    scan::scope(world, from, to, bytes)
}

/// An operator had a node believe its clock.
pub(crate) fn at_each_reset(world: &World, place: Place, wall_ms: u64, isolated: bool) -> Holds {
    rooted::time_is_somebodys_word(world, place, wall_ms, isolated)
}

/// A permit is handed to a connector.
pub(crate) fn at_each_execute(world: &World, place: Place, permit: FactId) -> Holds {
    if world.is_liar(place) {
        return Ok(());
    }
    permit::started_is_durable(world, place, permit)?;
    takes::reservation_is_durable(world, place, permit)?;
    once::no_second_execution(world, place, permit)
}

/// An effect is about to be taken back.
pub(crate) fn at_each_undo(world: &World, place: Place, permit: FactId) -> Holds {
    permit::undo_is_announced(world, place, permit)
}

/// The outside world was changed: judges the last effect.
///
/// # Errors
/// The first invariant that it breaks.
pub fn at_each_effect(world: &World) -> Holds {
    if world.history.effects.last().is_some_and(|effect| world.is_liar(effect.place)) {
        return Ok(());
    }
    permit::effect_has_permit(world)?;
    permit::owner(world)?;
    takes::effects_fit_the_limit(world)?;
    once::once(world)
}

/// hq signs with another root from here on.
pub(crate) fn at_each_activation(world: &World, key: cauldron_identity::Digest) -> Holds {
    roots::activation(world, key)
}

/// A machine ceases to trust a root.
pub(crate) fn at_each_drop_of_a_root(world: &World, place: Place, key: cauldron_identity::Digest) -> Holds {
    roots::drop_of_a_root(world, place, key)
}

/// A timer woke a process.
pub(crate) fn at_each_tick(world: &World, place: Place) -> Holds {
    rooted::clock_is_not_fooled(world, place)?;
    finality::no_busy_loop(world, place)
}

/// A client was told that something is recorded.
pub(crate) fn at_each_ack(world: &World, ack: &Ack) -> Holds {
    durable::ack_is_durable_now(world, ack)
}

/// Something happened.
pub(crate) fn at_each_step(world: &mut World) -> Holds {
    finality::no_storm(world)?;
    budgets::books_hold(world)?;
    near::nobody_shows_the_lost(world)?;
    finality::sample(world)
}

/// Everything had time to settle.
pub(crate) fn at_the_end(world: &mut World) -> Holds {
    durable::ack_durable(world)?;
    converge::everybody_is_back(world)?;
    near::readers_are_connected(world)?;
    near::everybody_shows_everybody(world)?;
    converge::converge(world)?;
    truth::shown_as_it_is(world)?;
    chains::causal(world)?;
    chains::evidence_of_forks(world)?;
    converge::merge_laws(world)?;
    documents::nothing_beyond_a_cut(world)?;
    documents::nothing_honest_is_missing(world)?;
    documents::the_same_everywhere(world)?;
    budgets::settled(world)?;
    rooted::the_term_is_everywhere(world)?;
    roots::settled(world)?;
    finality::final_states(world)?;
    lies::nothing_is_done_by_hearsay(world)?;
    finality::ends_are_told(world)?;
    saga::all_or_none(world)?;
    finality::progress(world)
}
