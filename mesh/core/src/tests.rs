mod topology;
mod world;

use std::collections::BTreeMap;

use cauldron_identity::{AuthorKey, SpiffeId};

use crate::Member;

/// A member's key and entry, by name: `hq`, or `site/node`.
fn member(name: &str) -> (AuthorKey, Member) {
    let seed = cauldron_identity::ids::sha256(name.as_bytes());
    let key = AuthorKey::from_seed(&seed);
    let (site, path) = match name.split_once('/') {
        Some((site, node)) => (Some(site.to_owned()), format!("site/{site}/node/{node}")),
        None => (None, format!("coordinator/{name}")),
    };
    let spiffe_id = SpiffeId::new(format!("spiffe://mesh.test/{path}")).expect("an id");
    let member = Member { spiffe_id, key: key.public(), site, counts: true };
    (key, member)
}

fn members(names: &[&str]) -> BTreeMap<cauldron_identity::AuthorId, Member> {
    names.iter().map(|name| member(name)).map(|(key, member)| (key.author_id(), member)).collect()
}
