//! Document changes of hostile authors, at the fence that stands before Automerge.
//!
//! Input: messages, each an author (0 lyon, 1 porto), a door, and 0 a change whose chunk checksum is put right, so that mutation
//! gets behind it, 1 a change as it is, 2 a body as it is, 3 a field that the author honestly sets.
//!
//! Whatever they send: the board can be read and still shows what hq wrote, the next honest change counts, and another order of
//! the authors gives the same board.
#![no_main]

use std::collections::BTreeMap;

use cauldron_crdt::Board;
use cauldron_crdt::doc::{Applied, DocChange, Field};
use cauldron_fuzz::chunks::{chunks, door};
use cauldron_fuzz::hostile::MACHINE;
use cauldron_fuzz::mesh::{ANA, HQ, LYON, PORTO, key};
use cauldron_fuzz::seeds::board::{NAME, SITE};
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::ids::sha256;
use libfuzzer_sys::fuzz_target;

const AUTHORS: [u8; 2] = [LYON, PORTO];

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MACHINE, |input| {
    let mut hq = board_of(HQ);
    let first = set(&mut hq, "hq", "up").expect("an empty board takes it");
    let mut board = Board::new(NAME, 0);
    assert_eq!(apply(&mut board, HQ, &first), Applied::Yes);
    let mut honest = AUTHORS.map(board_of);
    let mut sent: Vec<(u8, Vec<u8>)> = Vec::new();
    for message in chunks(input) {
        let (author, rest) = door(message);
        let index = usize::from(author) % AUTHORS.len();
        let Some(body) = body(&mut honest[index], rest) else { continue };
        apply(&mut board, AUTHORS[index], &body);
        assert!(board.view().contains_key("hq"), "the board lost what was on it");
        sent.push((AUTHORS[index], body));
    }
    let view = (board.view(), board.digest(), board.waiting());

    let mut other = Board::new(NAME, 0);
    for author in AUTHORS.into_iter().rev() {
        for (by, body) in sent.iter().filter(|(by, _)| *by == author) {
            apply(&mut other, *by, body);
        }
    }
    assert_eq!(apply(&mut other, HQ, &first), Applied::Yes);
    assert_eq!(view, (other.view(), other.digest(), other.waiting()), "another order, another board");

    let next = set(&mut board_of(ANA), "last", "up").expect("an empty board takes it");
    assert_eq!(apply(&mut board, ANA, &next), Applied::Yes, "an honest change after hostile ones");
    assert!(board.view().get("last").is_some_and(|site| site.get("state") == Some(&Field::from("up"))));
}));

fn body(honest: &mut Board, rest: &[u8]) -> Option<Vec<u8>> {
    let (what, bytes) = door(rest);
    match what % 4 {
        0 => Some(change(checked(bytes))),
        1 => Some(change(bytes.to_vec())),
        2 => Some(bytes.to_vec()),
        _ => set(honest, SITE, &String::from_utf8_lossy(bytes)),
    }
}

fn change(change: Vec<u8>) -> Vec<u8> {
    to_cbor(&DocChange { doc: NAME.into(), epoch: 0, change })
}

/// A chunk is magic (4) ‖ checksum (4) ‖ what the checksum covers.
fn checked(chunk: &[u8]) -> Vec<u8> {
    let mut chunk = chunk.to_vec();
    if let Some((head, covered)) = chunk.split_first_chunk_mut::<8>() {
        head[4..].copy_from_slice(&sha256(covered)[..4]);
    }
    chunk
}

fn board_of(n: u8) -> Board {
    let mut board = Board::new(NAME, 0);
    board.set_author(&key(n).author_id(), 0);
    board
}

fn set(board: &mut Board, site: &str, value: &str) -> Option<Vec<u8>> {
    board.set(site, &BTreeMap::from([("state".to_owned(), Field::from(value))])).ok().flatten()
}

fn apply(board: &mut Board, author: u8, body: &[u8]) -> Applied {
    board.apply(&key(author).author_id(), 0, body)
}
