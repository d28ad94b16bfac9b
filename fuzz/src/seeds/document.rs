//! Changes of documents, as honest nodes write them.

use std::collections::BTreeMap;

use cauldron_crdt::doc::{DocChange, DocId, DocKey, Documents, Edit, Field, KIND};
use cauldron_crdt::{Draft, FactLog};
use cauldron_identity::Scope;
use cauldron_identity::codec::from_cbor;

use super::{Seed, seed};
use crate::chunks::{join, through};
use crate::mesh::{FOUNDED, LYON, PORTO, key};

/// The documents that the target's writers write to.
pub const NAMES: [&str; 3] = ["board/sites", "config/main", "notes/log"];
/// The row that the target's honest writers write of.
pub const ROW: &str = "lyon";

const CHANGE: u8 = 0;
const BODY: u8 = 2;
const SET: u8 = 3;

/// One of [`NAMES`].
#[must_use]
pub fn document(n: u8) -> DocKey {
    let doc: DocId = NAMES[usize::from(n) % NAMES.len()].parse().expect("a document");
    DocKey { scope: Scope::mesh(), doc }
}

/// What an honest writer makes of `text` in a document.
#[must_use]
pub fn honest(key: &DocKey, text: &str) -> Edit {
    if key.doc.kind().is_table() {
        let fields = BTreeMap::from([("lyon.state".to_owned(), Some(Field::from(text)))]);
        return Edit::Row { row: ROW.to_owned(), fields };
    }
    let insert = text.chars().filter(|c| !c.is_control()).take(64).collect();
    Edit::Text { at: 0, remove: 0, insert }
}

pub(super) fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    for n in 0..3 {
        let name = NAMES[usize::from(n)].replace('/', "-");
        let (lyon, porto) = (history(LYON, n), history(PORTO, n));
        let to = |author: u8, what: u8, bytes: &[u8]| through(author, through(n, through(what, bytes)));
        let changes = |author: u8, bodies: &[Vec<u8>]| -> Vec<Vec<u8>> {
            bodies.iter().map(|body| to(author, CHANGE, &change(body))).collect()
        };
        let both = [changes(0, &lyon), changes(1, &porto)].concat();
        let bodies: Vec<_> = lyon.iter().map(|body| to(0, BODY, body)).collect();
        let said: Vec<_> =
            [(0, "up"), (1, "up"), (0, "down")].map(|(who, text)| to(who, SET, text.as_bytes())).to_vec();
        all.extend([
            seed("document", format!("{name}-one"), join(changes(0, &lyon))),
            seed("document", format!("{name}-two"), join(both)),
            seed("document", format!("{name}-bodies"), join(bodies)),
            seed("document", format!("{name}-honest"), join(said)),
        ]);
        let single = |(i, change): (usize, Vec<u8>)| seed("document", format!("{name}-{i}"), join([change]));
        all.extend(changes(0, &lyon).into_iter().enumerate().map(single));
    }
    all
}

/// The bodies that an author writes who is alone.
pub(super) fn history(author: u8, n: u8) -> Vec<Vec<u8>> {
    let (mut docs, mut log, name) = (Documents::new(), FactLog::new(FOUNDED.id), document(n));
    docs.set_author(&key(author).author_id(), 0);
    let edits = match name.doc.kind().is_table() {
        true => vec![
            honest(&name, "up"),
            Edit::Row {
                row: "porto".to_owned(),
                fields: BTreeMap::from([
                    ("porto.load".to_owned(), Some(Field::Int(-7))),
                    ("porto.since".to_owned(), Some(Field::Timestamp(1_795_341_600_000))),
                    ("porto.open".to_owned(), Some(Field::Flag(true))),
                ]),
            },
            Edit::Row { row: "porto".to_owned(), fields: BTreeMap::from([("porto.load".to_owned(), None)]) },
            honest(&name, "é"),
        ],
        false => vec![
            honest(&name, "one two"),
            Edit::Title("Log".to_owned()),
            Edit::Text { at: 4, remove: 3, insert: "zwei".to_owned() },
        ],
    };
    let mut bodies = Vec::new();
    for edit in edits {
        for body in docs.edit(&name, &edit).expect("it fits") {
            let draft = Draft {
                scope: Scope::mesh(),
                incarnation: 0,
                kind: KIND.to_owned(),
                deps: vec![],
                body: body.clone(),
                hlc: 0,
                traceparent: None,
            };
            docs.apply(&log.append(key(author), draft).expect("it fits"), true);
            bodies.push(body);
        }
    }
    bodies
}

fn change(body: &[u8]) -> Vec<u8> {
    from_cbor::<DocChange>(body).expect("its own encoding").change
}
