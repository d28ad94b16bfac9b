use proptest::prelude::*;

use super::wire::{Facts, Have, Range, ScopeHeads, Want};
use super::world::{Up, World};
use super::*;
use crate::limits::STANDSTILL_MS;
use crate::log::Head;
use crate::testing::{MESH, draft, key, scopes};

mod adversary;
mod lanes;
mod order;

/// Writes, cuts, heals and, sometimes, an author that forks its chain.
fn weather(world: &mut World, steps: u64, star: bool, forks: bool) {
    let count = world.nodes.len() as u64;
    for _ in 0..steps {
        let (a, b) = (world.dice.roll(count) as usize, world.dice.roll(count) as usize);
        let b = if star { 0 } else { b };
        match world.dice.roll(8) {
            0..=2 => world.connect(a, b),
            3 => world.cut(a, b),
            4 if forks => fork(world, a, b),
            _ => {
                let scope = world.writable(a);
                if world.nodes[a].log.evidence(&scope).all(|e| e.header().is_none_or(|h| h.author != world.author(a))) {
                    world.write(a, &scope);
                }
            }
        }
        let pause = world.dice.roll(1_500);
        world.run_until(world.now_ms + pause);
        world.nobody_is_flattered();
    }
}

/// Somebody writes as `a` at node `b`, where `a`'s chain may end earlier or later than at `a`.
fn fork(world: &mut World, a: usize, b: usize) {
    let scope = Scope::mesh();
    let chain = ChainId { scope: scope.clone(), author: world.author(a), incarnation: 0 };
    if a == b || world.nodes[b].log.fork_seq(&chain).is_some() {
        return;
    }
    let body = format!("a second branch at {}", world.now_ms);
    let key = key(u8::try_from(a).expect("few nodes") + 1);
    let id = world.nodes[b].log.append(&key, draft(&scope, body.as_bytes())).expect("appends").id();
    world.handle(b, SyncInput::Spread { id, source: None });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// CONVERGE and SCOPE: whatever was lost, delayed, reordered, repeated or cut.
    #[test]
    fn everybody_converges_and_nothing_leaks(
        seed in any::<u64>(), count in 3usize..=6, loss in 0u64..40, delay in 0u64..800, star in any::<bool>(),
    ) {
        let mut world = World::new(count, seed, loss, delay);
        weather(&mut world, 60, star, false);
        world.calm(star);
    }

    /// NO-FORK: a forked chain ends as evidence at every reader, and the rest converges all the same.
    #[test]
    fn forks_end_as_evidence_everywhere(seed in any::<u64>(), count in 3usize..=5, loss in 0u64..20) {
        let mut world = World::new(count, seed, loss, 200);
        weather(&mut world, 40, false, true);
        world.calm(false);
    }

    /// NO-PANIC: bytes that are no frame, and frames with one byte changed.
    #[test]
    fn no_bytes_end_the_core(noise in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), to in any::<u8>()) {
        let mut world = World::new(3, 1, 0, 10);
        (0..3).for_each(|n| { world.write(n, &Scope::mesh()); });
        world.connect(0, 1);
        let mut frames: Vec<Vec<u8>> = world.flying.iter().map(|f| f.bytes.clone()).collect();
        frames.push(noise.clone());
        frames.push([&[0u8, 1 + to % 6][..], &noise].concat());
        for mut bytes in frames {
            let index = at % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(index) {
                *byte = to;
            }
            world.handle(1, SyncInput::Frame { link: 0, bytes: &bytes });
            world.connect(0, 1);
        }
    }
}

/// What the peer says of itself is all that is known, and a link over which nothing moves is shown as such.
#[test]
fn who_says_nothing_is_behind_and_then_stalled_and_is_remembered_when_it_is_gone() {
    let mut world = World::new(2, 1, 0, 10);
    let scope = Scope::mesh();
    world.connect(0, 1);
    world.write(1, &scope);
    world.run_until(30_000);
    let mesh = |world: &World| world.lags(0, 1).into_iter().find(|lag| lag.scope == scope).expect("a line");
    let level = mesh(&world);
    assert_eq!((level.behind, level.oldest_ms, level.stalled), (0, None, Some(false)));
    // From here on the peer is silent.
    world.loss_percent = 100;
    let first = world.write(0, &scope);
    world.run_until(world.now_ms + 20_000);
    world.write(0, &scope);
    world.run_until(30_000 + STANDSTILL_MS - 1);
    let behind = mesh(&world);
    let written_ms = world.nodes[0].log.get(&first).expect("ours").header().wall_ms();
    assert_eq!((behind.behind, behind.oldest_ms, behind.stalled), (2, Some(written_ms), Some(false)));
    world.run_until(30_000 + STANDSTILL_MS);
    let stalled = mesh(&world);
    assert_eq!((stalled.behind, stalled.stalled, stalled.told_ms), (2, Some(true), level.told_ms));
    world.cut(0, 1);
    world.write(0, &scope);
    let gone = mesh(&world);
    assert_eq!((gone.behind, gone.stalled, gone.told_ms), (3, None, level.told_ms));
    world.loss_percent = 0;
    world.connect(0, 1);
    world.run_until(world.now_ms + 30_000);
    assert_eq!((mesh(&world).behind, mesh(&world).stalled), (0, Some(false)));
}

/// What a peer claims is shown as it says it, and nothing breaks of it.
#[test]
fn whoever_claims_more_than_can_be_is_ahead_by_as_much_and_no_more() {
    let mut world = World::new(2, 1, 0, 10);
    world.connect(0, 1);
    world.run_until(5_000);
    let head =
        |n: u8| Head { author: key(n).author_id(), incarnation: 0, seq: u64::MAX, id: FactId::from_bytes([n; 32]) };
    let told = ScopeHeads { scope: Scope::mesh(), heads: vec![head(1), head(2)], urgent: None };
    let frame = Frame::Have(Have { first: None, scopes: vec![told] }).encode();
    world.handle(0, SyncInput::Frame { link: 1, bytes: &frame });
    let lag = world.lags(0, 1).into_iter().find(|lag| lag.scope == Scope::mesh()).expect("a line");
    assert_eq!((lag.behind, lag.ahead), (0, u64::MAX));
}

/// The first difference that is seen need not be the first there is.
#[test]
fn a_fork_below_a_known_fork_ends_as_evidence_too() {
    let mut world = World::new(3, 1, 0, 10);
    let scope = Scope::mesh();
    for (node, branch) in [(0, "one"), (1, "the other")] {
        for n in 1..=2 {
            let body = format!("{branch} {n}");
            world.nodes[node].log.append(&key(3), draft(&scope, body.as_bytes())).expect("appends");
        }
    }
    world.connect(0, 1);
    world.run_until(30_000);
    let chain = ChainId { scope, author: world.author(2), incarnation: 0 };
    assert_eq!([0, 1].map(|node: usize| world.nodes[node].log.fork_seq(&chain)), [Some(1); 2]);
}

#[test]
fn the_weather_reaches_the_hard_places() {
    let (mut timeouts, mut unasked, mut gated, mut duplicates, mut forks) = (0, 0, 0, 0, 0);
    for seed in 1..12 {
        let mut world = World::new(5, seed * 7919, 25, 400);
        weather(&mut world, 60, false, true);
        world.calm(false);
        for node in &world.nodes {
            let stats = node.sync.stats();
            timeouts += stats.requests_timed_out;
            unasked += stats.facts_unasked;
            duplicates += stats.facts_duplicate;
            forks += node.log.evidence(&Scope::mesh()).count();
        }
        gated += world.data_behind_gate;
    }
    assert!(
        timeouts > 0 && unasked > 0 && gated > 0 && duplicates > 0 && forks > 0,
        "{timeouts} {unasked} {gated} {duplicates} {forks}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(5, 99, 20, 300);
        weather(&mut world, 50, false, true);
        let stats: Vec<SyncStats> = world.nodes.iter().map(|n| n.sync.stats()).collect();
        (world.now_ms, world.epoch, world.flying.len(), format!("{stats:?}"))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_new_fact_reaches_all_readers_in_a_second() {
    let mut world = World::new(6, 3, 0, 20);
    (0..6).for_each(|a| (0..6).for_each(|b| world.connect(a, b)));
    world.run_until(5_000);
    let id = world.write(1, &Scope::mesh());
    world.run_until(6_000);
    assert!(world.nodes.iter().all(|n| n.log.get(&id).is_some()));
}

#[test]
fn a_backlog_of_many_authors_is_fetched_in_bounded_time() {
    let mut world = World::new(4, 5, 0, 20);
    for node in 1..4 {
        (0..1_200).for_each(|_| {
            world.write(node, &Scope::mesh());
        });
    }
    (1..4).for_each(|n| world.connect(0, n));
    world.run_until(10_000);
    assert_eq!(world.differing(), Vec::<String>::new());
}

/// Node 1 as we know it, and a peer played by the test: author key 1, a coordinator, on link 0.
fn played() -> World {
    let mut world = World::new(3, 1, 0, 1);
    let shared = world.members.shared(&world.author(0), &world.author(1));
    let peer = world.author(0);
    world.links.insert((0, 1), Up { epoch: 1, had: vec![] });
    world.handle(1, SyncInput::LinkUp { link: 0, peer, scopes: shared });
    world
}

fn told(world: &mut World) -> Vec<Frame> {
    world.flying.drain(..).map(|f| Frame::decode(&f.bytes).expect("ours")).collect()
}

fn play(world: &mut World, frame: &Frame) -> Vec<Frame> {
    world.handle(1, SyncInput::Frame { link: 0, bytes: &frame.encode() });
    told(world)
}

fn own_chain(seed: u8, scope: &Scope, count: usize) -> Vec<SealedFact> {
    let mut log = FactLog::new(MESH);
    (0..count).map(|i| log.append(&key(seed), draft(scope, &[9, i as u8])).expect("appends").sealed().clone()).collect()
}

/// Another first fact of the same author.
fn own_twin(seed: u8, scope: &Scope) -> SealedFact {
    FactLog::new(MESH).append(&key(seed), draft(scope, b"a twin")).expect("appends").sealed().clone()
}

fn heads(scope: &Scope, facts: &[SealedFact]) -> ScopeHeads {
    let last = facts.last().expect("a fact");
    let header = last.peek().expect("readable");
    let head = Head { author: header.author, incarnation: header.incarnation, seq: header.seq, id: last.id() };
    ScopeHeads { scope: scope.clone(), heads: vec![head], urgent: None }
}

fn announcement(scopes: Vec<ScopeHeads>) -> Frame {
    Frame::Have(Have { first: Some(wire::Part { round: 1, part: 0, more: false }), scopes })
}

fn wanted(frames: &[Frame]) -> Vec<Range> {
    frames.iter().flat_map(|f| if let Frame::Want(want) = f { want.ranges.clone() } else { vec![] }).collect()
}

#[test]
fn data_is_asked_for_only_after_restrictions_and_authority() {
    let mut world = played();
    let (restrict, data) = (own_chain(1, &Scope::mesh_restrict(), 2), own_chain(1, &Scope::mesh(), 2));
    // Pushed before anything was announced: dropped.
    let push = Frame::Facts(Facts { request: None, facts: vec![data[0].clone()] });
    assert!(wanted(&play(&mut world, &push)).is_empty());
    assert_eq!((world.nodes[1].log.len(), world.nodes[1].sync.stats().facts_unasked), (0, 1));

    let all = vec![heads(&Scope::mesh_restrict(), &restrict), heads(&Scope::mesh(), &data)];
    let asked = wanted(&play(&mut world, &announcement(all)));
    assert_eq!(asked.iter().map(|r| r.scope.to_string()).collect::<Vec<_>>(), ["mesh#restrict"]);
    let answer = Frame::Facts(Facts { request: Some(asked[0].request), facts: restrict });
    let asked = wanted(&play(&mut world, &answer));
    assert_eq!(asked.iter().map(|r| (r.scope.to_string(), r.from, r.to)).collect::<Vec<_>>(), [("mesh".into(), 1, 2)]);
    play(&mut world, &Frame::Facts(Facts { request: Some(asked[0].request), facts: data }));
    assert_eq!(world.nodes[1].log.len(), 4);
}

#[test]
fn what_came_of_a_link_does_not_go_back_on_it() {
    let mut world = played();
    world.connect(1, 2);
    world.run_until(100);
    play(&mut world, &announcement(vec![]));
    let facts = own_chain(1, &Scope::mesh_restrict(), 1);
    world.handle(1, SyncInput::Frame { link: 0, bytes: &Frame::Facts(Facts { request: None, facts }).encode() });
    world.handle(1, SyncInput::Tick);
    world.now_ms += 1_000;
    world.handle(1, SyncInput::Tick);
    let tells = |to| {
        let frames = world.flying.iter().filter(move |f| f.to == to).map(|f| Frame::decode(&f.bytes).expect("ours"));
        frames.filter(|f| matches!(f, Frame::Facts(_) | Frame::Have(_))).count()
    };
    assert_eq!((tells(0), tells(2)), (0, 1));
}

#[test]
fn a_lost_announcement_is_asked_for_again() {
    let mut world = played();
    told(&mut world);
    let digests = Frame::Digests(wire::Digests { round: 1, scopes: vec![] });
    assert_eq!(play(&mut world, &digests), [Frame::Again]);
    play(&mut world, &announcement(vec![]));
    assert_eq!(play(&mut world, &digests), []);
}

#[test]
fn a_known_fork_is_told_with_the_announcement() {
    let mut world = World::new(3, 1, 0, 1);
    let (one, two) = (own_chain(1, &Scope::mesh(), 1).remove(0), own_twin(1, &Scope::mesh()));
    for fact in [one, two] {
        assert!(world.nodes[1].log.insert(fact, &world.members).is_ok());
    }
    world.connect(1, 2);
    assert!(told(&mut world).iter().any(|frame| matches!(frame, Frame::Evidence(_))));
}

#[test]
fn a_peer_on_another_branch_is_asked_for_the_fact_at_our_head() {
    let mut world = played();
    let scope = Scope::mesh_restrict();
    let theirs = own_chain(1, &scope, 2);
    let ours = own_twin(1, &scope);
    assert!(world.nodes[1].log.insert(ours, &world.members).is_ok());
    let asked = wanted(&play(&mut world, &announcement(vec![heads(&scope, &theirs)])));
    assert_eq!((asked[0].from, asked[0].to), (2, 2));
    let answer = Facts { request: Some(asked[0].request), facts: theirs[1..].to_vec() };
    let asked = wanted(&play(&mut world, &Frame::Facts(answer)));
    assert_eq!((asked[0].from, asked[0].to), (1, 1));
    let answer = Facts { request: Some(asked[0].request), facts: theirs[..1].to_vec() };
    play(&mut world, &Frame::Facts(answer));
    assert_eq!(world.nodes[1].log.evidence(&scope).count(), 1);
}

#[test]
fn a_foreign_scope_is_neither_answered_nor_looked_at() {
    let mut world = played();
    told(&mut world);
    let porto = Scope::site("porto").expect("a name");
    let lyon = Scope::site("lyon").expect("a name");
    let (inside, outside) = if world.members.may_read(&world.author(1), &lyon) { (lyon, porto) } else { (porto, lyon) };
    // Our node holds something of the foreign scope, by a mistake of somebody else.
    world.nodes[1].log.append(&key(1), draft(&outside, b"hidden")).expect("appends");
    world.nodes[1].log.append(&key(1), draft(&inside, b"shared")).expect("appends");
    let range = |scope: &Scope| Range {
        request: 1,
        scope: scope.clone(),
        author: key(1).author_id(),
        incarnation: 0,
        from: 1,
        to: 9,
    };
    assert!(play(&mut world, &Frame::Want(Want { ranges: vec![range(&outside)] })).is_empty());
    assert!(
        matches!(&play(&mut world, &Frame::Want(Want { ranges: vec![range(&inside)] }))[..], [Frame::Facts(f)] if f.facts.len() == 1)
    );
    let facts = own_chain(1, &outside, 1);
    play(&mut world, &Frame::Facts(Facts { request: None, facts: facts.clone() }));
    play(&mut world, &announcement(vec![heads(&outside, &facts)]));
    assert_eq!(world.nodes[1].sync.stats().foreign_scope, 3);
    assert_eq!(world.nodes[1].log.len(), 2);
}

#[test]
fn a_scope_that_is_no_longer_shared_is_silent_at_once() {
    let mut world = played();
    told(&mut world);
    let site = world.members.shared(&world.author(0), &world.author(1)).into_iter().find(|s| s.site_name().is_some());
    let site = site.expect("a site's scope");
    let mesh_only: BTreeSet<Scope> = scopes().into_iter().filter(|s| s.site_name().is_none()).collect();
    world.handle(1, SyncInput::ScopesChanged { link: 0, scopes: mesh_only });
    world.write(1, &site);
    world.run_until(20_000);
    let name = site.site_name().expect("a site").to_owned();
    assert!(!world.flying.iter().any(|f| String::from_utf8_lossy(&f.bytes).contains(&name)));
}

#[test]
fn what_no_honest_node_sends_closes_the_link_with_a_code() {
    let good = own_chain(1, &Scope::mesh_restrict(), 1).remove(0);
    let other = own_chain(2, &Scope::mesh_restrict(), 1).remove(0);
    let forged = SealedFact::new(good.header.clone(), other.signature, good.body().map(<[u8]>::to_vec));
    let garbled = SealedFact::new(vec![1, 2, 3], good.signature, None);
    let push = |fact: SealedFact| Frame::Facts(Facts { request: None, facts: vec![fact] }).encode();
    let cases: [(Vec<u8>, &str); 5] = [
        (b"GET / HTTP/1.1".to_vec(), "version"),
        (vec![1, 1, 0xff], "malformed"),
        (vec![], "malformed"),
        (push(garbled), "malformed"),
        (push(forged), "bad-signature"),
    ];
    for (bytes, code) in cases {
        let mut world = played();
        world.handle(1, SyncInput::Frame { link: 0, bytes: &bytes });
        assert_eq!(world.closed, [code]);
        assert_eq!((world.nodes[1].log.len(), world.nodes[1].sync.stats().closed), (0, 1));
    }
    let mut world = played();
    world.handle(1, SyncInput::Frame { link: 0, bytes: &[1, 77, 1, 2, 3] });
    assert_eq!((world.closed.len(), world.nodes[1].sync.stats().frames_unknown), (0, 1));
}

#[test]
fn a_peer_that_promises_and_does_not_deliver_is_closed_and_only_it() {
    let mut world = played();
    let restrict = own_chain(1, &Scope::mesh_restrict(), 1);
    world.connect(1, 2);
    let promise = announcement(vec![heads(&Scope::mesh_restrict(), &restrict)]);
    world.handle(1, SyncInput::Frame { link: 0, bytes: &promise.encode() });
    world.nodes[0].timer_ms = None;
    for _ in 0..40 {
        // The played peer never answers.
        world.flying.retain(|f| f.to != 0);
        world.run_until(world.now_ms + 1_000);
    }
    assert_eq!(world.closed, ["stalled"]);
    assert!(world.links.contains_key(&(1, 2)) && !world.links.contains_key(&(0, 1)));
    assert!(world.nodes[1].sync.stats().requests_timed_out >= 5);
}

#[test]
fn what_one_peer_owes_is_asked_of_another() {
    let mut world = World::new(3, 1, 0, 1);
    let id = world.write(2, &Scope::mesh_restrict());
    let fact = world.nodes[2].log.get(&id).expect("written").sealed().clone();
    let (scopes, peer) = (world.members.shared(&world.author(0), &world.author(1)), world.author(0));
    world.links.insert((0, 1), Up { epoch: 1, had: vec![] });
    world.handle(1, SyncInput::LinkUp { link: 0, peer, scopes });
    let promise = announcement(vec![heads(&Scope::mesh_restrict(), &[fact])]);
    world.handle(1, SyncInput::Frame { link: 0, bytes: &promise.encode() });
    world.connect(1, 2);
    for _ in 0..10 {
        world.flying.retain(|f| f.to != 0);
        world.run_until(world.now_ms + 1_000);
    }
    assert!(world.nodes[1].log.get(&id).is_some());
    assert!(world.closed.is_empty());
}

#[test]
fn requests_and_answers_stay_within_their_bounds() {
    let mut world = played();
    told(&mut world);
    (0..40).for_each(|_| {
        world.nodes[1].log.append(&key(2), draft(&Scope::mesh(), &[0; 200_000])).expect("appends");
    });
    let range =
        |request| Range { request, scope: Scope::mesh(), author: key(2).author_id(), incarnation: 0, from: 1, to: 40 };
    let mut served = 0;
    for round in 0..20 {
        let ranges = (0..10).map(|i| range(round * 10 + i)).collect();
        for frame in play(&mut world, &Frame::Want(Want { ranges })) {
            served += frame.encode().len() as u64;
            assert!(frame.encode().len() <= limits::FRAME_LEN_MAX);
        }
    }
    assert!(served <= limits::SERVE_BURST_BYTES + (limits::REQUESTS_MAX * limits::FRAME_LEN_MAX) as u64, "{served}");
    assert!(world.nodes[1].sync.stats().over_limit >= 100);
}

#[test]
fn an_author_unknown_by_now_is_asked_for_again_when_authority_came() {
    let mut world = played();
    let stranger = key(50);
    let restrict = own_chain(50, &Scope::mesh_restrict(), 1);
    let entry = own_chain(1, &Scope::authority(), 1);
    let all = vec![heads(&Scope::mesh_restrict(), &restrict), heads(&Scope::authority(), &entry)];
    let asked = wanted(&play(&mut world, &announcement(all)));
    assert_eq!(asked.len(), 2);
    let answer = |range: &Range, facts: &[SealedFact]| {
        Frame::Facts(Facts { request: Some(range.request), facts: facts.to_vec() })
    };
    assert!(wanted(&play(&mut world, &answer(&asked[0], &restrict))).is_empty());
    world.members.enrol(&stranger, None);
    let again = wanted(&play(&mut world, &answer(&asked[1], &entry)));
    assert_eq!(again.iter().map(|r| r.scope.clone()).collect::<Vec<_>>(), [Scope::mesh_restrict()]);
    play(&mut world, &answer(&again[0], &restrict));
    assert_eq!(world.nodes[1].log.len(), 2);
}
