//! Peers that lie: what each costs, and what it is called.

use cauldron_identity::AuthorId;

use super::*;
use crate::limits::{FLOOD_FRAMES_MAX, ORPHAN_BYTES_MAX, ORPHANS_MAX, VOUCH_SPAN};
use crate::sync::bulk::{Bulk, Packing};
use crate::sync::world::{garble, plain};

/// [`played`], with author key 60 enrolled; its chain in `mesh`, and what node 1 asks for when it is announced.
fn promised(count: usize) -> (World, Vec<SealedFact>, Vec<Range>) {
    let mut world = played();
    told(&mut world);
    world.members.enrol(&key(60), None);
    let facts = own_chain(60, &Scope::mesh(), count);
    let asked = wanted(&play(&mut world, &announcement(vec![heads(&Scope::mesh(), &facts)])));
    assert_eq!(asked.len(), 1);
    (world, facts, asked)
}

fn chain() -> ChainId {
    ChainId { scope: Scope::mesh(), author: key(60).author_id(), incarnation: 0 }
}

fn stats(world: &World) -> SyncStats {
    world.nodes[1].sync.stats()
}

fn push(facts: &[SealedFact]) -> Frame {
    Frame::Facts(Facts { request: None, facts: facts.to_vec() })
}

/// Lets time pass for node 1; the played peer says nothing of its own.
fn pass(world: &mut World, ms: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for _ in 0..ms.div_ceil(500) {
        let (to_peer, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut world.flying).into_iter().partition(|f| f.to == 0);
        frames.extend(to_peer.iter().map(|f| Frame::decode(&f.bytes).expect("ours")));
        world.flying = rest;
        world.nodes[0].timer_ms = None;
        world.run_until(world.now_ms + 500);
    }
    frames
}

#[test]
fn a_range_is_taken_on_the_signature_of_its_last_fact() {
    let (mut world, facts, asked) = promised(100);
    assert_eq!((asked[0].from, asked[0].to), (1, 100));
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &facts)));
    assert_eq!((world.nodes[1].log.len(), stats(&world).ranges, stats(&world).facts_new), (100, 1, 100));
    assert!(world.nodes[1].log.unproven() > 90, "not one by one");
    pass(&mut world, 1_000);
    assert_eq!(world.nodes[1].log.unproven(), 0, "looked at soon after");
}

#[test]
fn garbled_signatures_are_blamed_on_nobody_passed_on_by_nobody_and_mended_by_another_peer() {
    let (mut world, facts, asked) = promised(100);
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &garble(&facts))));
    assert_eq!((world.nodes[1].log.len(), world.closed.len()), (100, 0));

    // Asked for one of them, it gives the range up to the next fact that stands alone, however short.
    for at in [20, VOUCH_SPAN - 2] {
        let range = Range { request: 9, from: at, to: at, ..asked[0].clone() };
        let answer = play(&mut world, &Frame::Want(Want { ranges: vec![range] }));
        let [Frame::Bulk(bulk)] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!(bulk.unpack().expect("ours").len() as u64, VOUCH_SPAN + 1 - at);
    }

    pass(&mut world, 1_000);
    let log = &world.nodes[1].log;
    assert_eq!(log.unproven(), 96, "all but those that were checked at once");
    // The liar itself is asked, in vain. Its garbage is worth as little the second time.
    let held = log.at(&chain(), 5).expect("held").sealed().signature;
    assert_ne!(held, facts[4].signature);

    // Another peer holds them as they were written.
    for fact in &facts {
        world.nodes[2].log.insert(fact.clone(), &world.members).expect("new");
    }
    world.connect(1, 2);
    pass(&mut world, 10_000);
    let log = &world.nodes[1].log;
    assert_eq!(log.unproven(), 0);
    assert!(log.iter().map(|f| f.sealed().clone()).eq(facts));
    assert_eq!((world.closed.len(), stats(&world).facts_mended), (0, 96));
}

#[test]
fn one_who_sends_a_bad_signature_where_each_is_checked_is_closed() {
    for at in [31, 99] {
        let (mut world, mut facts, asked) = promised(100);
        let garbage = garble(&facts)[4].signature;
        facts[at] = SealedFact::new(facts[at].header.clone(), garbage, facts[at].body().map(<[u8]>::to_vec));
        play(&mut world, &Frame::Bulk(plain(asked[0].request, &facts)));
        assert_eq!((world.closed.clone(), world.nodes[1].log.len()), (vec!["bad-signature"], 0));
    }
}

#[test]
fn a_range_with_a_hole_closes_the_link_and_leaves_nothing() {
    let unlinked = |facts: &[SealedFact]| {
        // The last fact is good; below it stands what its author never wrote there.
        let mut other = facts.to_vec();
        other[10] = own_chain_of(60, &Scope::mesh(), b"forged", 11).remove(10);
        other
    };
    let without = |facts: &[SealedFact], skip: usize| {
        let mut rest = facts.to_vec();
        rest.remove(skip);
        rest
    };
    for bulk in [false, true] {
        for lie in 0..4 {
            let (mut world, facts, asked) = promised(20);
            let facts = match lie {
                0 => without(&facts, 0),
                1 => without(&facts, 7),
                2 => own_chain(61, &Scope::mesh(), 20),
                _ if bulk => unlinked(&facts),
                _ => own_chain(60, &Scope::mesh(), 21),
            };
            let request = asked[0].request;
            let frame = if bulk {
                Frame::Bulk(plain(request, &facts))
            } else {
                Frame::Facts(Facts { request: Some(request), facts })
            };
            play(&mut world, &frame);
            assert_eq!((world.closed.clone(), world.nodes[1].log.len()), (vec!["hole"], 0), "lie {lie}, bulk {bulk}");
        }
    }
}

fn own_chain_of(seed: u8, scope: &Scope, body: &[u8], count: usize) -> Vec<SealedFact> {
    let mut log = FactLog::new(MESH);
    (0..count).map(|_| log.append(&key(seed), draft(scope, body)).expect("appends").sealed().clone()).collect()
}

#[test]
fn a_bomb_is_not_unpacked_and_a_wrong_length_is_told() {
    let raw = vec![0_u8; 8 * 1024 * 1024];
    let packed = lz4_flex::block::compress(&raw);
    let lz4 = |len: usize, content: &[u8]| (Packing::Lz4, len, content.to_vec());
    let cases = [
        (lz4(raw.len(), &packed), "bomb"),
        (lz4(8 * packed.len() + 1, &packed), "bomb"),
        (lz4(u32::MAX as usize, &[0; 10]), "bomb"),
        // It says little and would grow beyond that.
        (lz4(1_000, &packed), "wrong-length"),
        (lz4(packed.len(), &[0xff; 1_000]), "bomb"),
        (lz4(1_000, &[0xff; 1_000]), "wrong-length"),
        ((Packing::Plain, 999, vec![0; 1_000]), "wrong-length"),
        ((Packing::Plain, 1_000, vec![0; 1_000]), "malformed"),
    ];
    for (n, ((packing, len, content), code)) in cases.into_iter().enumerate() {
        let (mut world, _, asked) = promised(20);
        let len = u32::try_from(len).expect("short");
        play(&mut world, &Frame::Bulk(Bulk { request: asked[0].request, packing, len, content: content.into() }));
        assert_eq!((world.closed.clone(), world.nodes[1].log.len()), (vec![code], 0), "case {n}");
    }
}

#[test]
fn what_nobody_asked_for_is_not_even_unpacked() {
    let (mut world, facts, asked) = promised(20);
    let stray = Bulk { packing: Packing::Lz4, len: 50, ..plain(asked[0].request + 1, &facts) };
    play(&mut world, &Frame::Bulk(stray));
    assert_eq!((world.closed.len(), world.nodes[1].log.len(), stats(&world).facts_unasked), (0, 0, 1));
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &facts)));
    // Each request is answered once.
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &garble(&facts))));
    assert_eq!((world.nodes[1].log.len(), stats(&world).facts_unasked), (20, 2));
}

#[test]
fn restrictions_and_authority_never_come_as_a_range() {
    let mut world = played();
    told(&mut world);
    let facts = own_chain(1, &Scope::mesh_restrict(), 40);
    let asked = wanted(&play(&mut world, &announcement(vec![heads(&Scope::mesh_restrict(), &facts)])));
    for fact in &facts {
        world.nodes[2].log.insert(fact.clone(), &world.members).expect("new");
    }
    let answer = crate::sync::bulk::answer(&world.nodes[2].log, &asked[0], usize::MAX);
    assert!(matches!(answer.0, Frame::Facts(f) if f.facts == facts));
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &facts)));
    assert_eq!((world.closed.clone(), world.nodes[1].log.len()), (vec!["malformed"], 0));
}

#[test]
fn heads_that_it_does_not_have_are_asked_for_a_few_times_and_then_it_is_closed() {
    let (mut world, _, mut asked) = promised(20);
    let mut rounds = 0;
    while world.closed.is_empty() {
        for range in asked.drain(..) {
            rounds += 1;
            play(&mut world, &Frame::Facts(Facts { request: Some(range.request), facts: vec![] }));
        }
        asked = wanted(&pass(&mut world, 500));
        assert!(rounds < 20);
    }
    assert_eq!((world.closed.clone(), stats(&world).claims_unmet), (vec!["withheld"], 6));
}

/// It keeps back what it promised, and when others have long given it, sends it again and again.
#[test]
fn what_is_withheld_comes_from_another_and_the_flood_after_it_changes_nothing() {
    let (mut world, facts, _) = promised(20);
    for fact in &facts {
        world.nodes[2].log.insert(fact.clone(), &world.members).expect("new");
    }
    world.connect(1, 2);
    pass(&mut world, 10_000);
    assert_eq!((world.nodes[1].log.len(), stats(&world).requests_timed_out), (20, 1));
    for _ in 0..1_000 {
        play(&mut world, &push(&facts));
    }
    assert_eq!((world.nodes[1].log.len(), stats(&world).facts_new), (20, 20));
    assert!(stats(&world).orphans_dropped > 100 && world.links.contains_key(&(1, 2)));
}

#[test]
fn orphans_are_counted_then_not_looked_at_and_in_the_end_closed() {
    let (mut world, facts, asked) = promised(40);
    play(&mut world, &Frame::Facts(Facts { request: Some(asked[0].request), facts: facts[..1].to_vec() }));
    let asked = wanted(&pass(&mut world, 500));
    assert!(asked.is_empty(), "the rest was asked for at once");
    pass(&mut world, 6_000);
    world.connect(1, 2);
    let mut frames = 0;
    while world.closed.is_empty() {
        play(&mut world, &push(&facts[20..]));
        frames += 1;
        assert!(frames < 2 * FLOOD_FRAMES_MAX);
    }
    assert_eq!((world.closed.clone(), world.nodes[1].log.len()), (vec!["flood"], 1));
    assert!(stats(&world).facts_unasked <= ORPHANS_MAX + 20, "{}", stats(&world).facts_unasked);
    assert!(world.links.contains_key(&(1, 2)));
}

#[test]
fn large_orphans_are_counted_by_their_bytes() {
    const LEN: usize = 200_000;
    let mut world = played();
    told(&mut world);
    world.members.enrol(&key(60), None);
    let facts = own_chain_of(60, &Scope::mesh(), &[0; LEN], 10);
    for fact in facts[5..].iter().cycle().take(100) {
        play(&mut world, &push(std::slice::from_ref(fact)));
    }
    let seen = stats(&world);
    assert!((1..=ORPHAN_BYTES_MAX / LEN as u64 + 1).contains(&seen.facts_unasked), "{}", seen.facts_unasked);
    assert!(seen.orphans_dropped > 0);
}

#[test]
fn a_digest_that_lies_is_answered_once_in_a_while() {
    let mut world = played();
    world.write(1, &Scope::mesh());
    play(&mut world, &announcement(vec![]));
    let lie = |n: u8| {
        let digest = cauldron_identity::Digest::of("a lie", &[n]);
        Frame::Digests(wire::Digests { round: 1, scopes: vec![wire::ScopeDigest { scope: Scope::mesh(), digest }] })
    };
    let mut answers = 0;
    for n in 0..100 {
        answers += play(&mut world, &lie(n)).iter().filter(|f| matches!(f, Frame::Have(_))).count();
        answers += pass(&mut world, 200).iter().filter(|f| matches!(f, Frame::Have(_))).count();
    }
    // 50 s, one answer in 4 s, and the heads told as news.
    assert!((2..=16).contains(&answers), "{answers}");
    assert!(stats(&world).digests_repeated >= 80, "{}", stats(&world).digests_repeated);
    assert!(world.closed.is_empty(), "an honest node that may not take what we hold differs for long, too");
}

#[test]
fn a_fork_inside_a_range_is_proven_although_nobody_checked_the_signature_there() {
    let (mut world, facts, asked) = promised(100);
    play(&mut world, &Frame::Bulk(plain(asked[0].request, &garble(&facts))));
    let branch = {
        let mut log = FactLog::new(MESH);
        facts[..4].iter().for_each(|f| assert!(log.insert(f.clone(), &world.members).is_ok()));
        log.append(&key(60), draft(&Scope::mesh(), b"another fifth")).expect("appends").sealed().clone()
    };
    play(&mut world, &push(&[branch]));
    let evidence = world.nodes[1].log.evidence_of(&chain()).expect("a fork").clone();
    assert_eq!(evidence.seq(), 5);
    // Whoever holds nothing of the chain is convinced.
    let taken = world.nodes[2].log.insert_evidence(evidence, &world.members);
    assert!(matches!(taken, Ok(Inserted::Fork(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// One relay exchanges for garbage what it can. All converge, nobody is closed for it, and in the end each fact
    /// stands alone everywhere.
    #[test]
    fn a_relay_that_garbles_harms_nobody(seed in any::<u64>(), count in 3usize..=5, loss in 0u64..20) {
        let mut world = World::new(count, seed, loss, 200);
        world.garbles = Some(1);
        for _ in 0..6 {
            let (a, b) = (world.dice.roll(count as u64) as usize, world.dice.roll(count as u64) as usize);
            let burst = 10 + world.dice.roll(60);
            let scope = world.writable(a);
            (0..burst).for_each(|_| { world.write(a, &scope); });
            weather(&mut world, 5, false, false);
            world.cut(a, b);
        }
        world.calm(false);
        for node in &world.nodes {
            prop_assert_eq!(node.log.unproven(), 0);
            let alone = |f: std::sync::Arc<cauldron_identity::Fact>| {
                world.members.0.get::<AuthorId>(&f.header().author).is_some_and(|(key, _)| f.check_signature(key).is_ok())
            };
            prop_assert!(node.log.iter().all(alone));
        }
        prop_assert!(world.closed.iter().all(|code| *code == "stalled"), "{:?}", world.closed);
    }
}
