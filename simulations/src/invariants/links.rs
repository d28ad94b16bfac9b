//! Links without an enrolled key.

use cauldron_node_core::LinkId;

use super::{Holds, Violation};
use crate::facts::Known;
use crate::network::Place;
use crate::world::World;

/// AUTHN: nothing is said on a link whose author key is not enrolled under its SPIFFE ID.
pub(super) fn silence_to_strangers(world: &World, place: Place, link: LinkId) -> Holds {
    if !world.strange_links.contains(&link) {
        return Ok(());
    }
    let text = format!(
        "{} answers on link {link}, whose author key is not enrolled under that name",
        world.machines[place].name
    );
    Err(Violation::new("AUTHN", text))
}

/// AUTHN: nothing that comes over such a link is taken in.
pub(super) fn nothing_from_strangers(world: &World, place: Place, fact: &Known, own: bool, stranger: bool) -> Holds {
    if own || !stranger {
        return Ok(());
    }
    let text = format!("{} took {} from a link without an enrolled key", world.machines[place].name, fact.id.short());
    Err(Violation::new("AUTHN", text))
}
