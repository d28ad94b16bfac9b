//! What is shown of peers: clocks, lag, partitions.

use cauldron_coordinator::testkit::World;
use cauldron_identity::{AuthorId, Clock, Digest};

use crate::frame::{Frame, TimeTell};
use crate::testing::lyon;
use crate::{Input, NodeCore, Output};

/// Frames that go out until the core is idle.
fn sent(core: &mut NodeCore) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        match core.poll() {
            Output::Idle { .. } => return frames,
            Output::Send { bytes, .. } => frames.push(Frame::decode(&bytes).expect("ours")),
            _ => {}
        }
    }
}

fn asked(core: &mut NodeCore) -> Vec<Digest> {
    let nonce = |frame: Frame| if let Frame::TimeAsk(ask) = frame { Some(ask.nonce) } else { None };
    sent(core).into_iter().filter_map(nonce).collect()
}

/// A core of lyon whose link to the first other member has just come up.
fn linked(world: &World) -> (NodeCore, AuthorId) {
    let mut core = lyon(world);
    let (author, member) =
        core.authority.members().find(|(a, _)| **a != core.me).map(|(a, m)| (*a, m.clone())).expect("a peer");
    core.handle(world.clock, Input::LinkUp { link: 1, spiffe_id: member.spiffe_id, author: member.key });
    (core, author)
}

fn skew(core: &NodeCore, peer: &AuthorId, now: Clock) -> Option<(i64, u64, u64)> {
    let view = core.peers_view(now).into_iter().find(|p| p.author == peer.to_string()).expect("its line");
    view.skew.map(|skew| (skew.ahead_ms, skew.error_ms, skew.seen.age_ms))
}

fn tell(core: &mut NodeCore, now: Clock, nonce: Digest, wall_ms: u64) {
    core.handle(now, Input::Frame { link: 1, bytes: Frame::TimeTell(TimeTell { nonce, wall_ms }).encode() });
}

#[test]
fn a_peers_clock_is_shown_with_the_error_of_its_answer_and_asked_for_again() {
    let world = World::new();
    let (mut core, peer) = linked(&world);
    let mut now = world.clock;
    let nonces = asked(&mut core);
    assert_eq!((nonces.len(), skew(&core, &peer, now)), (1, None), "nothing is known before it has answered");
    // The answer takes 100 ms, half of it one way; the peer is 7 s behind.
    (now.wall_ms, now.boottime_ms) = (now.wall_ms + 100, now.boottime_ms + 100);
    tell(&mut core, now, nonces[0], now.wall_ms - 50 - 7_000);
    assert_eq!(skew(&core, &peer, now), Some((-7_000, 51, 0)));
    // It counts once, and what nobody asked for does not count.
    tell(&mut core, now, nonces[0], now.wall_ms);
    tell(&mut core, now, Digest::of("cauldron/skew/v1", b"another"), now.wall_ms);
    sent(&mut core);
    (now.wall_ms, now.boottime_ms) = (now.wall_ms + 60_000, now.boottime_ms + 60_000);
    assert_eq!(skew(&core, &peer, now), Some((-7_000, 51, 60_000)));
    (now.wall_ms, now.boottime_ms) = (now.wall_ms + 240_000, now.boottime_ms + 240_000);
    // Not by a tick: sync would end a session in which the peer has said nothing for so long.
    core.now = now;
    core.keep_skews();
    core.flow();
    let again = asked(&mut core);
    assert!(again.len() == 1 && again != nonces, "{again:?}");
    // A peer may say anything.
    tell(&mut core, now, again[0], u64::MAX);
    assert_eq!(skew(&core, &peer, now).map(|(ahead_ms, _, _)| ahead_ms), Some(i64::MAX));
    core.handle(now, Input::LinkDown { link: 1 });
    assert_eq!(skew(&core, &peer, now), None, "without a link nobody vouches for it");
}

#[test]
fn whoever_is_alone_says_so_and_a_site_is_cut_off_when_nobody_of_it_can_be_reached() {
    let world = World::new();
    let mut now = world.clock;
    let mut core = lyon(&world);
    core.handle(now, Input::Tick);
    sent(&mut core);
    let nobody = core.partitions_view(now);
    assert_eq!(nobody.state, "alone");
    assert!(nobody.items.iter().all(|part| part.alive == 0 && part.seen.is_none()), "{nobody:?}");
    assert!(nobody.items.iter().any(|part| part.state == "unknown"), "{nobody:?}");
    let (mut core, peer) = linked(&world);
    sent(&mut core);
    let of = |core: &NodeCore, now| {
        let site = core.authority.member(&peer).and_then(|m| m.role.site().map(str::to_owned));
        let view = core.partitions_view(now);
        let part = view.items.into_iter().find(|part| part.site == site).expect("its part");
        (view.state, part.state, part.alive, part.linked, part.missing.len())
    };
    let (state, part, alive, links, missing) = of(&core, now);
    assert_eq!((state, part, alive, links, missing), ("whole", "reachable", 1, 1, 0));
    core.handle(now, Input::LinkDown { link: 1 });
    sent(&mut core);
    now.boottime_ms += 120_000;
    now.wall_ms += 120_000;
    let (state, part, alive, links, missing) = of(&core, now);
    assert_eq!((state, part, alive, links, missing), ("alone", "cut_off", 0, 0, 1));
}
