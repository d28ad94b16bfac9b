//! What goes first where a link carries little.

use super::*;
use crate::limits::{LATER_MS_MAX, STALL_MS_MAX};
use crate::log::Draft;
use crate::sync::wire::{Later, Urgent};

const RANKS: Ranks = Ranks { of: |_, kind| if kind == "vote" { 1 } else { 3 }, middle: 2, bulk: 3 };

/// [`played`], with ranks.
fn ranked() -> World {
    let mut world = played();
    let shared = world.members.shared(&world.author(0), &world.author(1));
    world.nodes[1].sync = Sync::new().ranked(RANKS);
    let peer = world.author(0);
    world.handle(1, SyncInput::LinkUp { link: 0, peer, scopes: shared });
    told(&mut world);
    world
}

/// Writes facts of node 2 into node 1's log: documents of 2,000 bytes that do not shrink, or votes.
fn write(world: &mut World, kinds: &[&str]) -> FactId {
    let mut last = None;
    for (n, kind) in kinds.iter().enumerate() {
        let body: Vec<u8> = (0..2_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n as u8).collect();
        let draft = Draft { kind: (*kind).into(), ..draft(&Scope::mesh(), &body) };
        last = Some(world.nodes[1].log.append(&key(3), draft).expect("appends").id());
    }
    last.expect("some")
}

fn want(request: u32, from: u64, to: u64) -> Frame {
    let range = Range { request, scope: Scope::mesh(), author: key(3).author_id(), incarnation: 0, from, to };
    Frame::Want(Want { ranges: vec![range] })
}

/// Facts in each answer, by request.
fn answers(frames: &[Frame]) -> Vec<(Option<u32>, usize)> {
    let of = |frame: &Frame| match frame {
        Frame::Facts(facts) => Some((facts.request, facts.facts.len())),
        Frame::Bulk(bulk) => Some((Some(bulk.request), bulk.unpack().expect("ours").len())),
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

fn room(world: &mut World, bulk: usize, later_ms: Option<u64>) -> Vec<Frame> {
    let room = Room { urgent: 1 << 20, middle: 1 << 20, bulk, later_ms };
    world.handle(1, SyncInput::Room { link: 0, room });
    told(world)
}

#[test]
fn what_a_link_has_no_room_for_stays_in_the_log_and_is_given_once() {
    let mut world = ranked();
    write(&mut world, &["note"; 60]);
    room(&mut world, 0, None);
    assert_eq!(answers(&play(&mut world, &want(1, 1, 60))), []);
    // Asked again, as after a time-out, and again.
    assert_eq!(answers(&play(&mut world, &want(2, 1, 60))), []);
    assert!(world.nodes[1].sync.waits_for_room(0));
    let told = room(&mut world, 10_000, None);
    let (some, len) = (answers(&told), told.iter().map(|frame| frame.encode().len()).sum::<usize>());
    // A range ends with a fact that vouches for those before it, one in sixteen.
    assert!(
        matches!(some[..], [(Some(2), 4..=24)]) && len <= 20_000,
        "what there is room for, once: {some:?}, {len} bytes"
    );
    assert!(!world.nodes[1].sync.waits_for_room(0));
}

#[test]
fn a_vote_is_given_with_what_is_before_it_and_nothing_behind_it() {
    let mut world = ranked();
    room(&mut world, 0, None);
    let kinds = [&["note"; 5][..], &["vote"], &["note"; 60]].concat();
    write(&mut world, &kinds);
    assert_eq!(answers(&play(&mut world, &want(1, 1, 66))), [(Some(1), 6)]);
    assert_eq!(answers(&play(&mut world, &want(2, 7, 66))), []);
}

#[test]
fn a_new_vote_takes_the_documents_of_its_chain_along_and_a_document_waits() {
    let mut world = ranked();
    play(&mut world, &announcement(vec![]));
    room(&mut world, 0, None);
    let pushed = |world: &mut World, id| {
        world.handle(1, SyncInput::Spread { id, source: None });
        answers(&told(world))
    };
    let document = write(&mut world, &["note"; 3]);
    assert_eq!(pushed(&mut world, document), [], "told later, and asked for");
    let vote = write(&mut world, &["vote"]);
    assert_eq!(pushed(&mut world, vote), [(None, 4)]);
    let next = write(&mut world, &["vote"]);
    assert_eq!(pushed(&mut world, next), [(None, 1)]);
}

#[test]
fn heads_tell_where_urgent_facts_are_and_those_are_asked_for_first() {
    let mut world = ranked();
    write(&mut world, &["note", "vote", "note", "note"]);
    world.handle(1, SyncInput::Frame { link: 0, bytes: &Frame::Again.encode() });
    let urgent: Vec<Urgent> = told(&mut world)
        .iter()
        .flat_map(|frame| if let Frame::Have(have) = frame { have.scopes.clone() } else { vec![] })
        .flat_map(|told| told.urgent.unwrap_or_default())
        .collect();
    assert_eq!(urgent, [Urgent { head: 0, rank: 1, seq: 2 }]);

    // Six chains of documents and one with a vote, which asks last by any other measure.
    let mut world = ranked();
    (60..67).for_each(|seed| world.members.enrol(&key(seed), None));
    let count = |seed: u8| if seed == 66 { 100 } else { 5 };
    let all: Vec<ScopeHeads> =
        (60..67).map(|seed| heads(&Scope::mesh(), &own_chain(seed, &Scope::mesh(), count(seed)))).collect();
    let heads = all.iter().flat_map(|told| told.heads.clone()).collect();
    let urgent = Some(vec![Urgent { head: 6, rank: 1, seq: 90 }, Urgent { head: 9, rank: 1, seq: 1 }]);
    let asked = wanted(&play(&mut world, &announcement(vec![ScopeHeads { scope: Scope::mesh(), heads, urgent }])));
    assert_eq!((asked[0].author, asked[0].from, asked[0].to), (key(66).author_id(), 1, 90));
    assert!(asked.len() > 1 && asked[1].author != key(66).author_id());
}

#[test]
fn whoever_has_no_budget_left_says_when_and_is_not_taken_for_stalled() {
    let mut world = ranked();
    write(&mut world, &["note"; 6]);
    room(&mut world, 0, Some(20_000));
    let told = play(&mut world, &want(1, 1, 6));
    assert!(told.contains(&Frame::Later(Later { wait_ms: 20_000 })) && answers(&told).is_empty(), "{told:?}");
    assert!(!world.nodes[1].sync.waits_for_room(0), "it is asked again");

    // The other end: it asks for no documents meanwhile, elsewhere or here, and lets nobody go.
    let mut world = ranked();
    let data = own_chain(1, &Scope::mesh(), 6);
    assert_eq!(wanted(&play(&mut world, &announcement(vec![heads(&Scope::mesh(), &data)]))).len(), 1);
    let asked = play(&mut world, &Frame::Later(Later { wait_ms: u64::MAX }));
    assert!(wanted(&asked).is_empty());
    world.now_ms += STALL_MS_MAX + 1_000;
    world.handle(1, SyncInput::Tick);
    assert!(wanted(&super::told(&mut world)).is_empty() && world.closed.is_empty());
    world.now_ms += LATER_MS_MAX;
    world.handle(1, SyncInput::Tick);
    assert_eq!(wanted(&super::told(&mut world)).len(), 1);
    // A budget of its own that is used up: neither.
    world.handle(1, SyncInput::Frame { link: 0, bytes: &Frame::Later(Later { wait_ms: 0 }).encode() });
    room(&mut world, 0, Some(5_000));
    world.now_ms += 6_000;
    world.handle(1, SyncInput::Tick);
    let asked = wanted(&super::told(&mut world));
    assert!(asked.is_empty(), "{asked:?}");
}

/// What a peer says of chains that nobody asks it for takes no room here.
#[test]
fn where_urgent_facts_are_is_kept_of_wanted_chains_alone() {
    let mut world = ranked();
    let heads = (0..200u8).map(|n| Head {
        author: AuthorId::from_bytes([n; 32]),
        incarnation: 0,
        seq: 0,
        id: FactId::from_bytes([n; 32]),
    });
    let urgent = (0..200).map(|head| Urgent { head, rank: 1, seq: 0 }).collect();
    let scopes = vec![ScopeHeads { scope: Scope::mesh(), heads: heads.collect(), urgent: Some(urgent) }];
    world.handle(1, SyncInput::Frame { link: 0, bytes: &Frame::Have(Have { first: None, scopes }).encode() });
    assert_eq!(world.nodes[1].sync.links.get(&0).map(|l| l.urgent_chains()), Some(0));
}
