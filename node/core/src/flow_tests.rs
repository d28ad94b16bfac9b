//! What a node does where links carry less than it has to say.

use cauldron_coordinator::testkit::World;
use cauldron_crdt::doc::KIND as KIND_CHANGE;
use cauldron_identity::authority::Member;
use cauldron_identity::{AuthorId, Clock, Scope};
use cauldron_mesh_core::lanes::{Budget, Lane};

use crate::flow::{BACKLOG_FACTS_MAX, Budgets, lane_of};
use crate::testing::lyon;
use crate::{Input, NodeCore, Output};

fn hq(core: &NodeCore) -> (AuthorId, Member) {
    let of = |(author, member): (&AuthorId, &Member)| (*author, member.clone());
    core.authority.members().map(of).find(|(author, _)| *author != core.me).expect("a peer")
}

/// Frames and records that come out until nothing does.
fn out(core: &mut NodeCore) -> (Vec<(Lane, usize)>, Vec<crate::Record>) {
    let (mut sent, mut kept) = (Vec::new(), Vec::new());
    loop {
        match core.poll() {
            Output::Send { lane, bytes, .. } => sent.push((lane, bytes.len())),
            Output::Persist(record) => kept.push(record),
            Output::Idle { .. } => return (sent, kept),
            _ => {}
        }
    }
}

fn up(core: &mut NodeCore, now: Clock, link: u64) {
    let (_, member) = hq(core);
    core.handle(now, Input::LinkUp { link, spiffe_id: member.spiffe_id, author: member.key });
}

/// What somebody sends first who holds nothing but the founding.
fn announcement(world: &World) -> Vec<Vec<u8>> {
    let mut peer = lyon(world);
    up(&mut peer, world.clock, 1);
    let mut frames = Vec::new();
    loop {
        match peer.poll() {
            Output::Send { bytes, .. } if crate::frame::Frame::is_sync(&bytes) => frames.push(bytes),
            Output::Idle { .. } => return frames,
            _ => {}
        }
    }
}

/// Documents in lyon's own chain, until so many are there.
fn write(core: &mut NodeCore, count: u64) {
    let site = core.role.site().expect("a site").to_owned();
    for n in 0..count {
        let body = format!("{n:0200}").into_bytes();
        core.append(Scope::site(&site).expect("a name"), KIND_CHANGE, vec![], body, None).expect("appends");
    }
}

#[test]
fn the_transport_holds_a_window_and_a_restriction_goes_before_what_is_not_there_yet() {
    let world = World::new();
    let mut core = lyon(&world);
    up(&mut core, world.clock, 1);
    let first: usize = out(&mut core).0.iter().map(|(_, len)| len).sum();
    core.handle(world.clock, Input::Drained { link: 1, bytes: first });
    write(&mut core, 400);
    core.handle(world.clock, Input::Tick);
    let (sent, _) = out(&mut core);
    let bytes: usize = sent.iter().map(|(_, len)| len).sum();
    assert!(bytes < 80 * 1024 && sent.iter().any(|(lane, _)| *lane == Lane::Documents), "one window: {bytes}");
    let term = crate::frame::Frame::TimeTell(crate::frame::TimeTell {
        nonce: cauldron_identity::Digest::of("nonce", b""),
        wall_ms: 1,
    });
    core.send(1, &term);
    core.handle(world.clock, Input::Tick);
    assert_eq!(out(&mut core).0, [], "no room for anything");
    let view = core.flow_view(world.clock);
    let lanes = &view.values().next().expect("the link").lanes;
    assert_eq!((lanes[1].lane, lanes[1].frames), ("votes", 1));
    core.handle(world.clock, Input::Drained { link: 1, bytes });
    assert_eq!(out(&mut core).0.first().map(|(lane, _)| *lane), Some(Lane::Votes));
}

#[test]
fn whoever_writes_faster_than_its_links_has_to_wait_and_governance_does_not() {
    let world = World::new();
    let mut core = lyon(&world);
    let scope = Scope::site(core.role.site().expect("a site")).expect("a name");
    write(&mut core, BACKLOG_FACTS_MAX + 1);
    assert_eq!(core.gets_away(&scope), Ok(()), "alone it records whatever comes");
    // A peer that has not said yet what it holds, and then that it holds none of it; the link takes nothing.
    up(&mut core, world.clock, 1);
    assert_eq!(core.gets_away(&scope), Ok(()), "a new link is no reason to wait");
    for bytes in announcement(&world) {
        core.handle(world.clock, Input::Frame { link: 1, bytes });
    }
    assert_eq!(core.gets_away(&scope).expect_err("too much").code, "busy");
    let fields = std::collections::BTreeMap::new();
    let edit = cauldron_crdt::doc::Edit::Row { row: "r".into(), fields };
    let key = cauldron_crdt::doc::DocKey { scope: scope.clone(), doc: "notes/a".parse().expect("a name") };
    assert_eq!(core.edit(&key, &edit, None).map(drop).expect_err("too much").code, "busy");
    assert!(core.append(scope.clone(), "vote", vec![], vec![1; 60], None).is_ok(), "a vote is no document");
    core.handle(world.clock, Input::LinkDown { link: 1 });
    assert_eq!(core.gets_away(&scope), Ok(()));
}

#[test]
fn what_is_used_of_a_budget_outlives_a_restart() {
    let world = World::new();
    let budget = Budget { bytes: 8_000_000, per_ms: 86_400_000 };
    let metered = |saved: Vec<crate::Record>| {
        let mut core = lyon(&world);
        core.flow = crate::flow::Flow::new(
            Budgets { beyond_the_site: Some(budget), ..Budgets::default() },
            cauldron_mesh_core::lanes::WINDOW_MAX,
        );
        for record in saved {
            let value = record.value.expect("kept");
            if let Ok(crate::local::Local::Meter(author, saved)) = crate::local::Local::decode(&record.key, &value) {
                core.flow.saved.insert(author, saved);
            }
        }
        core
    };
    let left = |core: &NodeCore, now| {
        core.flow_view(now)
            .values()
            .next()
            .and_then(|view| view.budget.as_ref())
            .map(|b| b.left_bytes)
            .expect("metered")
    };
    let mut core = metered(Vec::new());
    let mut now = world.clock;
    up(&mut core, now, 1);
    assert!(left(&core, now) > 1_900_000, "all that may go at once: {}", left(&core, now));
    (0..20).for_each(|_| core.received(1, 50_000));
    let before = left(&core, now);
    assert!((900_000..1_000_000).contains(&before), "{before}");
    let (_, kept) = out(&mut core);
    let mut again = metered(kept.clone());
    up(&mut again, now, 1);
    let after = left(&again, now);
    assert!(after <= before && after > before - 70_000, "{after} of {before}: nothing is given back");
    // An hour later three quarters of an hour's share are there again.
    now.wall_ms += 3_600_000;
    let mut later = metered(kept.clone());
    later.now = now;
    up(&mut later, now, 1);
    assert!((240_000..260_000).contains(&(left(&later, now) - after)), "{}", left(&later, now));
    // Where nobody knows the time, nothing.
    now.confidence = cauldron_identity::Confidence::Unknown;
    let mut unknown = metered(kept);
    up(&mut unknown, now, 1);
    assert!(left(&unknown, now) <= after);
    // The link comes back: the same meter.
    again.handle(world.clock, Input::LinkDown { link: 1 });
    up(&mut again, world.clock, 2);
    assert!(left(&again, world.clock) <= after);
}

#[test]
fn every_kind_that_decides_something_goes_before_documents() {
    let (site, restrict) = (Scope::site("lyon").expect("a name"), Scope::site_restrict("lyon").expect("a name"));
    assert_eq!(lane_of(&restrict, "restriction"), Lane::Restrictions);
    assert_eq!(lane_of(&Scope::authority(), "authority.entry"), Lane::Restrictions);
    for kind in ["vote", "decision", "permit", "started", "done", "held", "budget.debit", "break-glass", "takeover"] {
        assert_eq!(lane_of(&site, kind), Lane::Votes, "{kind}");
    }
    assert_eq!(lane_of(&site, "proposal"), Lane::Proposals);
    for kind in ["doc.change", "doc.seal", "of-a-later-version"] {
        assert_eq!(lane_of(&site, kind), Lane::Documents, "{kind}");
    }
}
