//! ROOTS: a rotation of the root key cuts nobody off.

use cauldron_identity::Digest;

use super::{Holds, Violation};
use crate::network::Place;
use crate::world::machine::Machine;
use crate::world::{HQ, World};

/// ROOTS: when a root begins to sign, every member in good standing accepts certificates under it. (A restored disk may
/// have forgotten what its node had said of roots; it learns it again with everything else.)
pub(crate) fn activation(world: &World, key: Digest) -> Holds {
    match members(world).find(|m| m.restored.is_none() && !m.shell.trusts.contains(&key)) {
        None => Ok(()),
        Some(m) => {
            Err(Violation::new("ROOTS", format!("hq signs under {} and {} does not trust it", key.short(), m.name)))
        }
    }
}

/// ROOTS: when a machine ceases to trust a root, no member in good standing lives under it. (A restored disk goes by what it
/// knew; it learns the rest again.)
pub(crate) fn drop_of_a_root(world: &World, place: Place, key: Digest) -> Holds {
    if world.machines[place].restored.is_some() {
        return Ok(());
    }
    match members(world).find(|m| m.shell.under == Some(key)) {
        None => Ok(()),
        Some(m) => {
            let name = &world.machines[place].name;
            let text = format!("{name} ceases to trust {} and {} lives under it", key.short(), m.name);
            Err(Violation::new("ROOTS", text))
        }
    }
}

/// ROOTS: once everything has settled, all go by the same roots.
pub(crate) fn settled(world: &World) -> Holds {
    let hq = &world.machines[HQ].shell.trusts;
    match members(world).find(|m| m.is_up() && m.shell.trusts != *hq) {
        None => Ok(()),
        Some(m) => Err(Violation::new("ROOTS", format!("{} trusts {:?}, hq {hq:?}", m.name, m.shell.trusts))),
    }
}

/// Machines whose authors hq takes for members in good standing.
fn members(world: &World) -> impl Iterator<Item = &Machine> {
    let core = world.machines[HQ].core.as_ref();
    world.machines.iter().filter(move |m| {
        let stands = |authority: &cauldron_identity::Authority| {
            let life = authority.member(&m.author).map(|member| member.incarnation);
            life.is_some_and(|life| !authority.is_cut(&m.author, life)) && !authority.is_suspended(&m.author)
        };
        m.has_joined() && core.is_some_and(|core| stands(core.authority()))
    })
}
