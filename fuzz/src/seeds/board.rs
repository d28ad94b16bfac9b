//! Changes of the board, as honest nodes write them.

use std::collections::BTreeMap;

use cauldron_crdt::Board;
use cauldron_crdt::doc::{DocChange, Field};
use cauldron_identity::codec::from_cbor;

use super::{Seed, seed};
use crate::chunks::{join, through};
use crate::mesh::{LYON, PORTO, key};

/// The one document that nodes share.
pub const NAME: &str = "board";
/// The site that the target's honest writers write of.
pub const SITE: &str = "lyon";

const CHANGE: u8 = 0;
const BODY: u8 = 2;
const SET: u8 = 3;

pub(super) fn seeds() -> Vec<Seed> {
    let lyon = history(LYON);
    let porto = history(PORTO);
    let changes = |author: u8, bodies: &[Vec<u8>]| -> Vec<Vec<u8>> {
        bodies.iter().map(|body| through(author, through(CHANGE, change(body)))).collect()
    };
    let both = [changes(0, &lyon), changes(1, &porto)].concat();
    let bodies: Vec<_> = lyon.iter().map(|body| through(0, through(BODY, body))).collect();
    let honest: Vec<_> = [(0, "up"), (1, "up"), (0, "down"), (0, "up")]
        .map(|(author, value)| through(author, through(SET, value)))
        .to_vec();
    let mut all = vec![
        seed("board", "one-author", join(changes(0, &lyon))),
        seed("board", "two-authors", join(both)),
        seed("board", "bodies", join(bodies)),
        seed("board", "honest", join(honest)),
    ];
    let single = |(n, change): (usize, Vec<u8>)| seed("board", format!("change-{n}"), join([change]));
    all.extend(changes(0, &lyon).into_iter().enumerate().map(single));
    all
}

/// The bodies that an author writes who is alone: new fields of every kind, a change of one, another site.
fn history(author: u8) -> Vec<Vec<u8>> {
    let mut board = Board::new(NAME, 0);
    board.set_author(&key(author).author_id(), 0);
    let steps: [(&str, &[(&str, Field)]); 4] = [
        (SITE, &[("state", Field::from("up"))]),
        (
            SITE,
            &[("load", Field::Int(-7)), ("since", Field::Timestamp(1_795_341_600_000)), ("open", Field::Flag(true))],
        ),
        (SITE, &[("state", Field::from("down")), ("load", Field::Int(9))]),
        ("porto", &[("state", Field::from("é"))]),
    ];
    let set = |(site, fields): (&str, &[(&str, Field)])| {
        let fields: BTreeMap<_, _> = fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
        board.set(site, &fields).expect("it fits").expect("it changes something")
    };
    steps.into_iter().map(set).collect()
}

fn change(body: &[u8]) -> Vec<u8> {
    from_cbor::<DocChange>(body).expect("its own encoding").change
}
