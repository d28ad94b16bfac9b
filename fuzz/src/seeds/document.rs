//! Changes of documents, as honest nodes write them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cauldron_crdt::doc::check::NotUnpacked;
use cauldron_crdt::doc::{DocChange, DocId, DocKey, Documents, Done, Edit, Field, KIND, check};
use cauldron_crdt::{Draft, FactLog};
use cauldron_identity::codec::{from_cbor, to_cbor};
use cauldron_identity::{Digest, Fact, Scope};
use minicbor::bytes::ByteVec;

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
const SEAL: u8 = 6;

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

/// What two authors wrote to one document, and the document in one piece.
#[derive(Debug)]
pub struct Written {
    /// Their facts, in the order of writing.
    pub facts: Vec<Arc<Fact>>,
    /// What the document comes to.
    pub digest: Option<Digest>,
    /// It, as a node packs it.
    pub base: Vec<u8>,
    /// The same, its chunk an array of changes.
    pub open: Vec<u8>,
}

/// Two authors write in turns.
#[must_use]
pub fn written(n: u8) -> Written {
    let (mut docs, name) = (Documents::new(), document(n));
    let mut authors = [LYON, PORTO].map(|author| (key(author), FactLog::new(FOUNDED.id)));
    let mut facts = Vec::new();
    for turn in 0..6 {
        let (author, log) = &mut authors[turn % 2];
        docs.set_author(&author.author_id(), 0);
        for body in docs.edit(&name, &honest(&name, &format!("turn {turn}"))).expect("it fits") {
            let kind = KIND.to_owned();
            let draft =
                Draft { scope: Scope::mesh(), incarnation: 0, kind, deps: vec![], body, hlc: 0, traceparent: None };
            let fact = log.append(author, draft).expect("it fits");
            docs.apply(&fact, true);
            facts.push(fact);
        }
    }
    let digest = docs.status(&name).and_then(|status| status.digest);
    assert!(docs.save(&name));
    let work = docs.work().expect("to be packed").run(&check::unpack);
    let Done::Saved(Some(base)) = docs.finish(work) else { panic!("it packs") };
    let open = opened(&base);
    Written { facts, digest, base, open }
}

/// Changes from a chunk that is an array of them, or from one that an honest node packed.
///
/// # Errors
/// It is neither.
pub fn unpack(chunk: &[u8]) -> Result<Vec<Vec<u8>>, NotUnpacked> {
    static HONEST: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..3).map(|n| chunk_of(&written(n).base).2).collect());
    if HONEST.iter().any(|honest| honest == chunk) {
        return check::unpack(chunk);
    }
    let changes: Vec<ByteVec> = from_cbor(chunk).map_err(|error| NotUnpacked::Bad(error.to_string()))?;
    Ok(changes.into_iter().map(Into::into).collect())
}

fn opened(base: &[u8]) -> Vec<u8> {
    let (from, to, chunk) = chunk_of(base);
    let changes: Vec<ByteVec> = check::unpack(&chunk).expect("ours").into_iter().map(ByteVec::from).collect();
    [&base[..from], &to_cbor(&ByteVec::from(to_cbor(&changes))), &base[to..]].concat()
}

/// Where the chunk of a base begins and ends, and the chunk: a map whose third value it is.
fn chunk_of(base: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut decoder = minicbor::Decoder::new(base);
    decoder.map().expect("a map");
    (0..5).for_each(|_| decoder.skip().expect("two fields and a key"));
    let from = decoder.position();
    let chunk: ByteVec = decoder.decode().expect("a chunk");
    (from, decoder.position(), chunk.into())
}

pub(super) fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    for n in 0..3 {
        let (written, name) = (written(n), NAMES[usize::from(n)].replace('/', "-"));
        all.push(seed("base", format!("{name}-packed"), written.base));
        all.push(seed("base", format!("{name}-open"), written.open));
    }
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
        let words = ["up", "down", "up", "off", "on"];
        let mut sealed: Vec<_> = (0..5).map(|n| to(n % 2, SET, words[usize::from(n)].as_bytes())).collect();
        // Each hears the other, and they agree that the epoch ends; then they go on.
        sealed.extend([0, 1, 0, 1].map(|who| to(who, SEAL, b"")));
        sealed.extend([0, 1, 0, 1, 0, 1].map(|who| to(who, SET, format!("{who} goes on").as_bytes())));
        sealed.extend([0, 1, 0, 1].map(|who| to(who, SEAL, b"")));
        all.extend([
            seed("document", format!("{name}-sealed"), join(sealed)),
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
