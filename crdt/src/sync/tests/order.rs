//! Whose turn it is, what a cut costs, and what a stalled session does to the others.

use std::collections::BTreeMap;

use cauldron_identity::AuthorId;

use super::*;
use crate::limits::{DIGEST_EVERY_MS, HOLD_MS_MAX, HOLD_OWN_MS_MAX, RANGE_FACTS_MAX, STALL_MS_MAX};
use crate::sync::world::chain_of;

/// Eight authors with long backlogs of which each answer brings a little, and one with a short one, last in order.
#[test]
fn a_flooding_author_starves_nobody() {
    let mut world = played();
    told(&mut world);
    let mut seeds: Vec<u8> = (60..69).collect();
    seeds.sort_by_key(|seed| key(*seed).author_id());
    seeds.iter().for_each(|seed| world.members.enrol(&key(*seed), None));
    let chains: BTreeMap<AuthorId, Vec<SealedFact>> =
        seeds.iter().map(|seed| (key(*seed).author_id(), own_chain(*seed, &Scope::mesh(), 100))).collect();
    let short = *chains.keys().last().expect("nine");
    let head = |author: &AuthorId| {
        let seq = if *author == short { 5 } else { 100 };
        let claimed = if *author == short { 5 } else { 40 * RANGE_FACTS_MAX };
        Head { author: *author, incarnation: 0, seq: claimed, id: chains[author][seq - 1].id() }
    };
    let heads: Vec<Head> = chains.keys().map(head).collect();
    let mut asked =
        wanted(&play(&mut world, &announcement(vec![ScopeHeads { scope: Scope::mesh(), heads, urgent: None }])));
    assert!(asked.iter().any(|range| range.author == short), "the short backlog does not wait for the long ones");
    let mut turns: BTreeMap<AuthorId, u32> = BTreeMap::new();
    for _ in 0..40 {
        let range = asked.remove(0);
        *turns.entry(range.author).or_default() += 1;
        let from = usize::try_from(range.from - 1).expect("small");
        let facts = chains[&range.author][from..(from + 5)].to_vec();
        asked.extend(wanted(&play(&mut world, &Frame::Facts(Facts { request: Some(range.request), facts }))));
    }
    assert_eq!(turns.remove(&short), Some(1));
    let (least, most) = (turns.values().min().copied(), turns.values().max().copied());
    assert!(turns.len() == 8 && least >= Some(4) && most <= Some(6), "{turns:?}");
}

#[test]
fn restrictions_come_before_authority_and_authority_before_data() {
    let mut world = played();
    told(&mut world);
    let scopes = [Scope::mesh(), Scope::authority(), Scope::mesh_restrict()];
    let facts: Vec<Vec<SealedFact>> = scopes.iter().map(|scope| own_chain(1, scope, 2)).collect();
    let heads = scopes.iter().zip(&facts).map(|(scope, facts)| heads(scope, facts)).collect();
    let asked = wanted(&play(&mut world, &announcement(heads)));
    let names: Vec<String> = asked.iter().map(|r| r.scope.to_string()).collect();
    assert_eq!(names, ["mesh#restrict", "mesh#authority"]);
}

#[test]
fn after_a_cut_the_next_session_goes_on_behind_the_last_fact_taken() {
    let mut world = World::new(3, 1, 0, 40);
    for _ in 0..6_000 {
        let scope = Scope::mesh();
        world.nodes[2].log.append(&key(3), draft(&scope, b"a long backlog")).expect("appends");
    }
    let chain = ChainId { scope: Scope::mesh(), author: world.author(2), incarnation: 0 };
    let mut held = 0;
    for _ in 0..20 {
        world.connect(1, 2);
        world.run_until(world.now_ms + 150);
        world.cut(1, 2);
        let now = world.nodes[1].log.held(&chain);
        assert!(now >= held, "nothing is lost");
        held = now;
    }
    assert_eq!(held, 6_000);
    let stats = world.nodes[1].sync.stats();
    assert_eq!((stats.facts_new, stats.facts_duplicate), (6_000, 0), "and nothing is fetched twice");
}

#[test]
fn very_many_facts_wait_for_documents_and_not_for_long() {
    for end in ["released", "in time", "unpacked"] {
        let mut world = World::new(3, 1, 0, 1);
        let mut sync = Sync::with_far(10);
        let (mut now_ms, log) = (0, FactLog::new(MESH));
        let shared = world.members.shared(&world.author(0), &world.author(1));
        let (peer, data) = (world.author(0), own_chain(1, &Scope::mesh(), 30));
        let few = own_chain(3, &Scope::site("porto").expect("a name"), 9);
        let (porto, restrict) = (few[0].peek().expect("readable").scope, own_chain(1, &Scope::mesh_restrict(), 1));
        sync.handle(now_ms, &log, SyncInput::LinkUp { link: 0, peer, scopes: shared });
        let mut play = |now_ms: u64, log: &FactLog, input: SyncInput<'_>| {
            sync.handle(now_ms, log, input);
            let (mut far, mut asked) = (Vec::new(), Vec::new());
            while let Some(output) = sync.poll() {
                match output {
                    SyncOutput::Far { scope, .. } => far.push(scope),
                    SyncOutput::Send { bytes, .. } => asked.push(Frame::decode(&bytes).expect("ours")),
                    _ => {}
                }
            }
            (far, wanted(&asked).into_iter().map(|range| range.scope).collect::<Vec<_>>())
        };
        let all = announcement(vec![heads(&Scope::mesh(), &data), heads(&porto, &few)]).encode();
        let (far, asked) = play(now_ms, &log, SyncInput::Frame { link: 0, bytes: &all });
        assert_eq!((far, asked), (vec![Scope::mesh()], vec![porto]), "what is few is asked for");
        let (far, asked) = match end {
            "released" => {
                // Restrictions never wait.
                let scopes = vec![heads(&Scope::mesh_restrict(), &restrict)];
                let news = Frame::Have(Have { first: None, scopes }).encode();
                let (_, asked) = play(now_ms, &log, SyncInput::Frame { link: 0, bytes: &news });
                assert_eq!(asked, [Scope::mesh_restrict()]);
                play(now_ms, &log, SyncInput::Release { scope: Scope::mesh(), tried: true })
            }
            "in time" => {
                now_ms = HOLD_MS_MAX;
                play(now_ms, &log, SyncInput::Tick)
            }
            _ => {
                play(HOLD_MS_MAX - 1, &log, SyncInput::Prolong { scope: Scope::mesh() });
                let (_, asked) = play(HOLD_MS_MAX, &log, SyncInput::Tick);
                assert!(!asked.contains(&Scope::mesh()));
                // Once more, and again: it does not add up.
                play(HOLD_MS_MAX + 10_000, &log, SyncInput::Prolong { scope: Scope::mesh() });
                now_ms = HOLD_MS_MAX + HOLD_OWN_MS_MAX;
                play(now_ms, &log, SyncInput::Tick)
            }
        };
        assert!(far.is_empty() && asked.contains(&Scope::mesh()), "{end}: {asked:?}");
        // Who comes again and again with promises keeps nothing away.
        let peer = world.author(2);
        let shared = world.members.shared(&world.author(1), &peer);
        play(now_ms, &log, SyncInput::LinkUp { link: 2, peer, scopes: shared });
        let (far, _) = play(now_ms, &log, SyncInput::Frame { link: 2, bytes: &all });
        assert!(far.is_empty());
        world.closed.clear();
    }
}

/// One peer promises a hundred restrictions and is silent: it is closed in time, and until then costs the other nothing.
#[test]
fn a_stalled_session_is_reset_and_the_others_go_on() {
    let mut world = played();
    told(&mut world);
    let restrict = own_chain(1, &Scope::mesh_restrict(), 100);
    world.handle(
        1,
        SyncInput::Frame { link: 0, bytes: &announcement(vec![heads(&Scope::mesh_restrict(), &restrict)]).encode() },
    );
    world.connect(1, 2);
    let (start_ms, mut slowest_ms) = (world.now_ms, 0);
    while world.closed.is_empty() {
        let id = world.write(2, &Scope::mesh());
        let written_ms = world.now_ms;
        while world.nodes[1].log.get(&id).is_none() {
            world.flying.retain(|f| f.to != 0);
            world.nodes[0].timer_ms = None;
            world.run_until(world.now_ms + 10);
            slowest_ms = slowest_ms.max(world.now_ms - written_ms);
        }
        world.run_until(world.now_ms + 500);
        assert!(world.now_ms < start_ms + STALL_MS_MAX + 2_000);
    }
    assert_eq!(world.closed, ["stalled"]);
    assert!(world.links.contains_key(&(1, 2)) && slowest_ms <= 1_000, "{slowest_ms} ms");
}

/// Honest peers that hold much answer within the bounds of a frame, whatever the facts look like.
#[test]
fn every_answer_fits_its_frame_and_can_be_taken() {
    let noise = |len: usize, seed: u64| -> Vec<u8> {
        let mut x = seed | 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x as u8
            })
            .collect()
    };
    for shape in 0..5u64 {
        let mut world = World::new(3, 1, 0, 1);
        for n in 0..300u64 {
            let body = match shape {
                0 => vec![0; 4],
                1 => vec![0; 3_500],
                2 => noise(3_500, n),
                3 => noise(if n % 7 == 0 { 200_000 } else { 100 }, n),
                _ => noise(100, n),
            };
            world.nodes[2].log.append(&key(3), draft(&Scope::mesh(), &body)).expect("appends");
        }
        world.connect(1, 2);
        for _ in 0..400 {
            assert!(world.flying.iter().all(|f| f.bytes.len() <= limits::FRAME_LEN_MAX));
            world.run_until(world.now_ms + 50);
        }
        let [one, two] = [1, 2].map(|node: usize| world.nodes[node].log.state_hash(&Scope::mesh()));
        assert!(one == two && world.closed.is_empty(), "shape {shape}: {:?}", world.closed);
    }
}

/// What is shown of a peer is what it holds: never more, and all of it soon after the last change, however it came there.
#[test]
fn who_holds_all_is_shown_to_hold_all_within_one_digest() {
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b))).filter(|(a, b)| a != b);
    for (count, seed) in [(2, 1), (4, 2)] {
        let mut world = World::new(count, seed, 0, 40);
        (0..count).for_each(|a| (0..a).for_each(|b| world.connect(a, b)));
        let shown = |world: &World, a: usize, b: usize| {
            let (here, there) = (&world.nodes[a], &world.nodes[b].log);
            let scopes = world.members.shared(&world.author(a), &world.author(b));
            let of = |scope: &Scope| {
                here.log.vector(scope).into_iter().map(|head| chain_of(scope, &head)).collect::<Vec<_>>()
            };
            scopes.iter().flat_map(of).fold((0, 0, 0), |(shown, here_has, there_has), chain| {
                let (one, own, theirs) =
                    (here.sync.shown(b as u64, &chain).unwrap_or(0), here.log.held(&chain), there.held(&chain));
                assert!(one <= theirs, "{one} of {theirs} in {chain:?}");
                (shown + one, here_has + own, there_has + theirs)
            })
        };
        for round in 1..=3 {
            for n in 0..30 {
                world.write(n % count, &Scope::mesh());
                world.run_until(world.now_ms + 100);
                for (a, b) in pairs(count) {
                    let _never_more = shown(&world, a, b);
                }
            }
            world.run_until(world.now_ms + 2 * DIGEST_EVERY_MS);
            for (a, b) in pairs(count) {
                let (shown, here, there) = shown(&world, a, b);
                assert_eq!((shown, here), (there, there), "{b} as {a} sees it, round {round} of {count} nodes");
            }
        }
    }
}
