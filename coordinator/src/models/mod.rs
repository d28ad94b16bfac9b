//! Small worlds in which everything can happen in every order, checked exhaustively with stateright. They call the real fold and the
//! real judge: what is modelled is only who writes what, when it arrives, and where a node may die.

mod cut;
mod permit;

use std::hash::{DefaultHasher, Hash, Hasher};

use cauldron_identity::{Fact, HeaderDraft};

use crate::testkit::{NOW, World, key};

/// A fact of `author` at this place of its chain in lyon's scope: the same bytes however a model came there.
fn sealed<T: minicbor::Encode<()>>(world: &World, author: u8, seq: u64, kind: &str, body: &T) -> Fact {
    let draft = HeaderDraft {
        mesh: world.authority.mesh(),
        scope: "site/lyon".parse().expect("a scope"),
        incarnation: 0,
        seq,
        prev: (seq > 1).then(|| cauldron_identity::FactId::from_bytes([0xcc; 32])),
        hlc: NOW << 16,
        kind: kind.into(),
        deps: vec![],
        traceparent: None,
    };
    Fact::seal(&key(author), draft, cauldron_identity::codec::to_cbor(body))
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
