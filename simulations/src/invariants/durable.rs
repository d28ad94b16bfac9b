//! Promises and disks.

use cauldron_crdt::Packs;
use cauldron_node_core::Record;

use super::{Holds, Violation};
use crate::facts::{FACT_PREFIX, Known};
use crate::history::Ack;
use crate::network::Place;
use crate::world::World;

/// ACK-DURABLE: what a client is told is recorded is on this machine's disk at that moment.
pub(super) fn ack_is_durable_now(world: &World, ack: &Ack) -> Holds {
    let m = &world.machines[ack.place];
    if m.durable.contains(&ack.fact) {
        return Ok(());
    }
    let text = format!("{} told a client that {} is recorded, but it is not on its disk", m.name, ack.fact.short());
    Err(Violation::new("ACK-DURABLE", text))
}

/// ACK-DURABLE: what was acknowledged is still on disk at the end, unless that disk was lost.
pub(super) fn ack_durable(world: &World) -> Holds {
    for ack in &world.history.acks {
        let m = &world.machines[ack.place];
        if !m.durable.contains(&ack.fact) && m.restored.is_none() {
            let text = format!("{} acknowledged {} at {} ms and lost it", m.name, ack.fact.short(), ack.at);
            return Err(Violation::new("ACK-DURABLE", text));
        }
    }
    Ok(())
}

/// NO-REGRESS: a fact on a disk is never removed and never overwritten by another. A copy of it with a better signature
/// is the same fact, and so is one in a pack that is on the disk; and the end of a range that nothing vouched for when the process died goes again.
pub(super) fn no_regress(world: &World, place: Place, record: &Record) -> Holds {
    let m = &world.machines[place];
    let before = m.disk.get(&record.key).filter(|_| record.key.starts_with(FACT_PREFIX));
    match before {
        Some(before) if record.value.as_ref() != Some(&before) => {
            let packs = Packs::default();
            let was = m.disk.fact(&packs, &record.key, &before);
            let is = record.value.as_deref().and_then(|value| m.disk.fact(&packs, &record.key, value));
            if was.as_ref().zip(is.as_ref()).is_some_and(|(was, is)| was.id == is.id) {
                return Ok(());
            }
            let cut_short = |was: &Known| {
                let mark = [b"v/", record.key.get(2..record.key.len() - 8).unwrap_or_default()].concat();
                let next =
                    [record.key.get(..record.key.len() - 8).unwrap_or_default(), &(was.header.seq + 1).to_be_bytes()];
                m.disk.get(&mark).is_some() && m.disk.get(&next.concat()).is_none()
            };
            if record.value.is_none() && was.as_ref().is_some_and(cut_short) {
                return Ok(());
            }
            let was = was.map_or_else(String::new, |f| f.id.short());
            let text = format!("{} overwrites or removes the durable fact {was}", m.name);
            Err(Violation::new("NO-REGRESS", text))
        }
        _ => Ok(()),
    }
}
