//! ROOT, CUT and the clock: rights come from the council alone, and what it ended is over.

use cauldron_coordinator::lease::LeaseState;
use cauldron_identity::Scope;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::clock::JUMP_MS_MAX;
use cauldron_identity::codec::from_cbor;
use cauldron_node_core::{LinkId, Record};

use super::{Holds, Violation};
use crate::facts::EVIDENCE_PREFIX;
use crate::network::Place;
use crate::world::machine::Machine;
use crate::world::machine::TERM_PREFIX;
use crate::world::{HQ, World};

/// ROOT: no node keeps a term of the sequencer that the council did not sign.
pub(super) fn terms_are_the_councils(world: &World, place: Place, record: &Record) -> Holds {
    let Some(value) = record.value.as_deref().filter(|_| record.key.starts_with(TERM_PREFIX)) else { return Ok(()) };
    let council = [world.founding.council.public().into()];
    match from_cbor::<EntryBody>(value) {
        Ok(body) if body.signers(&world.founding.mesh, &council) == 1 => Ok(()),
        _ => {
            let text = format!("{} keeps a term that the council did not sign", world.machines[place].name);
            Err(Violation::new("ROOT", text))
        }
    }
}

/// ROOT: whoever holds the proof that hq lied takes no lease of it, until the council named a new term.
pub(super) fn no_lease_from_a_liar(world: &World, place: Place, record: &Record) -> Holds {
    let m = &world.machines[place];
    if world.history.lie.is_none() || record.key != b"l/lease" || !m.terms().is_empty() {
        return Ok(());
    }
    let hq = world.machines[HQ].author;
    let lease = LeaseState::restore(record.value.as_deref().unwrap_or_default(), &m.clock.boot_id(&m.name));
    if lease.is_ok_and(|lease| lease.granted_by().is_some_and(|by| by != hq)) {
        return Ok(());
    }
    let chain = [EVIDENCE_PREFIX, Scope::authority().to_string().as_bytes(), &[0], hq.as_bytes()].concat();
    if m.disk.records().iter().any(|(key, _)| key.starts_with(&chain)) {
        let text = format!("{} holds proof that hq forked the authority chain, and still takes its lease", m.name);
        return Err(Violation::new("ROOT", text));
    }
    Ok(())
}

/// ROOT: a term that any node keeps is known to all once everything has settled, and hq writes under it.
pub(super) fn the_term_is_everywhere(world: &World) -> Holds {
    let Some(newest) = world.history.terms.last() else { return Ok(()) };
    let begun = |m: &Machine| m.core.as_ref().is_some_and(|core| core.authority().term() > 0);
    // The only disk that held it was lost: the council submits it again.
    if world.machines.iter().any(|m| m.restored.is_some()) && !world.machines.iter().any(begun) {
        return Ok(());
    }
    for m in world.machines.iter().filter(|m| m.is_up() && !world.history.cuts.contains_key(&m.author)) {
        if !begun(m) {
            let text = format!("{} has not begun the term that builds on entry {}", m.name, newest.index - 1);
            return Err(Violation::new("ROOT", text));
        }
    }
    Ok(())
}

/// CUT: a node that holds a cut on its disk says nothing more to the author it ends.
pub(super) fn silence_to_the_cut(world: &World, place: Place, link: LinkId) -> Holds {
    let m = &world.machines[place];
    let Some(peer) = m.links.get(&link).map(|p| &world.machines[*p]) else { return Ok(()) };
    // A cut of an earlier life says nothing about the present one.
    let life =
        m.core.as_ref().and_then(|core| core.authority().member(&peer.author)).map_or(0, |member| member.incarnation);
    if !m.cut_known.contains(&(peer.author, life)) {
        return Ok(());
    }
    Err(Violation::new("CUT", format!("{} holds the cut of {} and still speaks to it", m.name, peer.name)))
}

/// CLOCK: no machine believes a wall clock that its own past rules out, across boots.
pub(super) fn clock_is_not_fooled(world: &World, place: Place) -> Holds {
    let m = &world.machines[place];
    if !m.clock.is_fooled() {
        return Ok(());
    }
    Err(Violation::new("CLOCK", format!("{} believes a wall clock that jumped beyond belief", m.name)))
}

/// CLOCK: where a node resets its clock with a coordinator's word, the coordinator's own clock agrees.
pub(super) fn time_is_somebodys_word(world: &World, place: Place, wall_ms: u64, isolated: bool) -> Holds {
    /// A word may be as old as a round of asking and a slow link.
    const WORD_AGE_MS: u64 = 60_000;
    let (m, now) = (&world.machines[place], world.now());
    let agrees = |c: &Machine| {
        let off = c.clock.wall(now).abs_diff(wall_ms);
        off <= JUMP_MS_MAX + WORD_AGE_MS || c.clock.was_set_since(now.saturating_sub(WORD_AGE_MS))
    };
    if isolated || world.coordinators().any(|at| agrees(&world.machines[at])) {
        return Ok(());
    }
    let text = format!("{} takes its operator's word for a time that no coordinator's clock is near", m.name);
    Err(Violation::new("CLOCK", text))
}
