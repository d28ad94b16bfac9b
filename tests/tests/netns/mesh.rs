//! One mesh of eight nodes at four sites goes through what befalls links, while all write and all are asked for their status.
//!
//! It says on standard error how long each part took; what must hold is asserted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cauldron_tests::netns::{Bounds, Fleet, Mapping, Member, Path, Writers};
use cauldron_tests::{eventually, wait_until};

/// What chance does on the WAN.
const SEED: u64 = 7;
/// From the end of a fault to one state at every node that it touched.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// In which a dead or frozen peer is known, and what a busy machine takes longer.
const DEAD_KNOWN_MAX: Duration = Duration::from_millis(11_500);
/// From one state to a status that says so: a digest each way, and what a busy machine takes longer.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);
/// How long a site is cut off.
const PARTED: Duration = Duration::from_secs(40);

/// lyon and oslo speak IPv4, porto listens on IPv6 and calls hq and lyon on IPv4. hq calls nobody.
pub(super) const MEMBERS: [Member<'static>; 7] = [
    Member { name: "lyon", site: "lyon", v6: false, calls: &[] },
    Member { name: "lyon-b", site: "lyon", v6: false, calls: &["lyon"] },
    Member { name: "lyon-c", site: "lyon", v6: false, calls: &["lyon", "lyon-b"] },
    Member { name: "porto", site: "porto", v6: true, calls: &["lyon"] },
    Member { name: "porto-b", site: "porto", v6: true, calls: &["porto", "lyon-b"] },
    Member { name: "oslo", site: "oslo", v6: false, calls: &["porto", "lyon"] },
    Member { name: "oslo-b", site: "oslo", v6: false, calls: &["oslo"] },
];

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn sleep_until(began: Instant, at: Duration) {
    std::thread::sleep(at.saturating_sub(began.elapsed()));
}

/// Waits until a node no longer takes a peer for being there.
fn until_known(fleet: &Fleet, fault_at: Instant, at: &str, peer: &str) {
    wait_until(&format!("{at} knows that {peer} is gone"), secs(60), || {
        if fleet.sees_up(at, peer) { Err(fleet.peer(at, peer).to_string()) } else { Ok(()) }
    });
    let (took, stalled) = (fault_at.elapsed(), fleet.stalled(fault_at.elapsed()));
    assert!(
        took <= DEAD_KNOWN_MAX + stalled,
        "{at} knew after {took:.1?} that {peer} is gone; the machine lost {stalled:?}"
    );
    eprintln!("  {at} knew within {:.1?} that {peer} is gone", fault_at.elapsed());
}

fn killed_again_and_again(fleet: &mut Fleet) {
    for name in ["lyon-b", "hq", "porto", "lyon-b", "hq"] {
        fleet.kill9(name);
        std::thread::sleep(secs(1));
        fleet.start(name);
        fleet.node(name).until_up();
    }
    eprintln!("  all linked {:.1?} after the last start", fleet.until_linked(BACK_WITHIN));
}

/// All at once, at different sites: a site is cut off, a process stands still, an interface is down.
fn parted_frozen_and_unplugged(fleet: &mut Fleet) -> String {
    let began = Instant::now();
    fleet.part("lyon");
    let proposal = fleet.node("lyon").propose("203.0.113.9", 3_600).expect("a site that is cut off records");
    fleet.freeze("porto-b");
    fleet.unplug("oslo-b");
    let gone = [("porto", "porto-b"), ("hq", "porto-b"), ("oslo", "oslo-b"), ("oslo-b", "oslo"), ("hq", "lyon")];
    for (at, peer) in gone.into_iter().chain([("lyon", "hq")]) {
        until_known(fleet, began, at, peer);
    }
    for (at, peer) in [("lyon", "lyon-b"), ("lyon-c", "lyon"), ("hq", "porto"), ("oslo", "porto")] {
        assert!(fleet.sees_up(at, peer), "{at} and {peer} hear each other: {}", fleet.peer(at, peer));
    }
    sleep_until(began, secs(14));
    fleet.thaw("porto-b");
    fleet.plug("oslo-b");
    let took = fleet.until_one_state_without(&["lyon", "lyon-b", "lyon-c"], BACK_WITHIN);
    eprintln!("  thawed and plugged in: one state {took:.1?} later");
    sleep_until(began, PARTED);
    fleet.rejoin("lyon");
    let healed = Instant::now();
    fleet.until_linked(BACK_WITHIN);
    eprintln!("  cut off for {PARTED:?}: all linked {:.1?} after it healed", healed.elapsed());
    fleet.until_one_state(BACK_WITHIN.saturating_sub(healed.elapsed()));
    eprintln!("  one state {:.1?} after it healed", healed.elapsed());
    proposal
}

fn heard_one_way_alone(fleet: &Fleet) {
    fleet.cut("hq", "porto");
    std::thread::sleep(secs(24));
    for (at, peer) in [("porto", "hq"), ("hq", "porto")] {
        assert!(!fleet.sees_up(at, peer), "one way is no link: {}", fleet.peer(at, peer));
    }
    fleet.heal("hq", "porto");
    eprintln!("  heard one way alone: all linked {:.1?} after it healed", fleet.until_linked(BACK_WITHIN));
}

fn on_bad_lines(fleet: &mut Fleet, writers: &Writers) {
    fleet.weather(Path::wan(100, 0.2));
    let before = links(fleet);
    std::thread::sleep(secs(12));
    let lost = before.iter().filter(|link| !links(fleet).iter().any(|now| now.0 == link.0 && now.1 >= link.1)).count();
    eprintln!("  20 % loss and 100 ms each way: {lost} of {} links were lost", before.len());
    fleet.kill9("hq");
    fleet.start("hq");
    fleet.node("hq").until_up();
    eprintln!("  hq started anew: all linked {:.1?} later", fleet.until_linked(secs(60)));
    writers.pause(true);
    eprintln!("  one state {:.1?} after the last write", fleet.until_one_state(BACK_WITHIN));
    writers.pause(false);
    let carried = fleet.net().wan().carried("hq", "lyon");
    assert!(carried.lost * 20 > carried.packets, "the shaper loses: {carried:?}");
}

/// Every end of a link that is up, with how long it has been.
fn links(fleet: &Fleet) -> Vec<((String, String), u64)> {
    let ends = |(a, b): &(String, String)| [(a.clone(), b.clone()), (b.clone(), a.clone())];
    let all = fleet.pairs().iter().flat_map(ends);
    all.filter_map(|end| Some((end.clone(), fleet.peer(&end.0, &end.1)["connected_ms"].as_u64()?))).collect()
}

/// A router between a site and the others forgets its address table: the same links go on from other ports.
fn behind_a_nat_that_forgets(fleet: &Fleet) {
    fleet.weather(Path::wan(20, 0.0));
    let up_for = || fleet.peer("hq", "oslo")["connected_ms"].as_u64().expect("up");
    let (began, before) = (Instant::now(), up_for());
    let outside = fleet.net().wan().outside("oslo").expect("an address").to_string();
    let seen_at = |not: &str| {
        wait_until("hq shows oslo at its new address", DEAD_KNOWN_MAX, || {
            let line = fleet.peer("hq", "oslo");
            let at = line["address"].as_str().unwrap_or_default().to_owned();
            if at.starts_with(&outside) && at != not { Ok(at) } else { Err(line.to_string()) }
        })
    };
    fleet.net().wan().translate("oslo", Mapping::EndpointIndependent, secs(30));
    let first = seen_at("");
    fleet.net().wan().rebind("oslo");
    let second = seen_at(&first);
    eprintln!("  oslo behind a NAT at {first}, rebound to {second}");
    std::thread::sleep(secs(11));
    let passed = u64::try_from(began.elapsed().as_millis()).expect("short");
    assert!(
        up_for() + 200 >= before + passed,
        "it is the same link: {before} ms old, {} ms {passed} ms later",
        up_for()
    );
}

/// What nobody is to see in a log: a session that stalled, a queue that ran over, an error.
fn nothing_stalled(fleet: &Fleet) {
    for name in fleet.names() {
        for line in fleet.node(&name).log().lines() {
            let bad = ["stalled", "queue_full", "frame_timeout", "bad_content", " ERROR ", "panicked"];
            assert!(!bad.iter().any(|word| line.contains(word)), "{name}: {line}");
        }
    }
}

#[test]
fn a_mesh_goes_through_everything_nothing_stalls_and_status_says_what_is_so() {
    if super::unable("netns::mesh") {
        return;
    }
    let began = Instant::now();
    let part = |name: &str| eprintln!("{:.1?}: {name}", began.elapsed());
    let mut fleet = Fleet::found(&MEMBERS, SEED);
    let (watch, writers) = (fleet.watch(), fleet.writers());
    fleet.until_linked(BACK_WITHIN);

    part("kill -9, again and again");
    killed_again_and_again(&mut fleet);
    part("a site cut off, a process frozen, an interface down");
    let proposal = parted_frozen_and_unplugged(&mut fleet);
    part("heard one way alone");
    heard_one_way_alone(&fleet);
    part("bad lines");
    on_bad_lines(&mut fleet, &writers);
    part("a NAT that forgets");
    behind_a_nat_that_forgets(&fleet);

    part("calm");
    let acknowledged = writers.end();
    eprintln!("  one state {:.1?} after the last write", fleet.until_one_state(BACK_WITHIN));
    for (writer, value) in &acknowledged {
        for reader in fleet.names() {
            eventually(&format!("{reader} reads {value} of {writer}"), || fleet.read(&reader, writer) >= Some(*value));
        }
    }
    let settled = Instant::now();
    wait_until("nobody is shown behind", SHOWN_WITHIN, || {
        let behind = |(a, b): &(String, String)| [(a.clone(), b.clone()), (b.clone(), a.clone())];
        let ends = fleet.pairs().iter().flat_map(behind);
        let wrong: Vec<_> = ends.filter(|(at, peer)| fleet.peer(at, peer)["behind"] != 0).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
    });
    eprintln!("  nobody is shown behind {:.1?} later", settled.elapsed());
    let hq = fleet.node("hq");
    hq.until_state(&proposal, "PENDING_APPROVAL");
    hq.run(&["approvals", "approve", &proposal, "--yes"]).ok();
    fleet.node("lyon").until_state(&proposal, "DONE");
    fleet.until_one_state(BACK_WITHIN);
    for reader in ["hq", "lyon", "lyon-b", "lyon-c"] {
        assert_eq!(fleet.node(reader).facts(&proposal, "started").len(), 1, "{reader}");
    }
    for name in fleet.names() {
        assert_eq!(fleet.node(&name).broken(), [serde_json::Value::Null; 0], "{name}");
    }
    nothing_stalled(&fleet);

    let samples = watch.end();
    let (lies, judged) = fleet.judge(&samples, &Bounds::default());
    let writes: u64 = acknowledged.values().sum();
    eprintln!("{:.1?}: {} samples, {writes} writes, judged {judged:?}", began.elapsed(), samples.len());
    let mut of_a_kind = BTreeMap::<_, Vec<_>>::new();
    lies.iter().for_each(|lie| of_a_kind.entry((lie.invariant, &lie.node)).or_default().push(lie));
    for ((invariant, node), all) in &of_a_kind {
        eprintln!("{invariant}, {} times at {node}, first at {}: {}", all.len(), all[0].asked_ms, all[0].why);
    }
    assert!(lies.is_empty(), "status said {} things that were not so", lies.len());
    let never: Vec<_> = judged.iter().filter(|(_, count)| **count == 0).collect();
    assert!(never.is_empty(), "nothing was there to judge: {never:?}");
}
