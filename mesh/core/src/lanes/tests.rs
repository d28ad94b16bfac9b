use std::collections::BTreeMap;

use cauldron_identity::{AuthorId, Scope};
use proptest::prelude::*;

use super::*;

fn site(name: &str) -> Scope {
    Scope::site(name).expect("a name")
}

fn about(lane: Lane, scope: &str, writer: u8) -> About {
    About { lane, scope: Some(site(scope)), writer: Some((AuthorId::from_bytes([writer; 32]), 0)) }
}

/// Everything that goes while the transport takes it at once, by its first byte.
fn all(lanes: &mut Lanes) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((_, bytes)) = lanes.next(0, None) {
        lanes.drained(0, bytes.len());
        out.extend(bytes.first());
    }
    out
}

#[test]
fn the_more_urgent_lane_goes_first_and_a_chain_stays_in_order() {
    let mut lanes = Lanes::new(WINDOW_MAX);
    let mut push = |n: u8, about: About| lanes.push(0, about, vec![n]).expect("room");
    push(1, About::of(Lane::Telemetry));
    push(2, about(Lane::Documents, "lyon", 1));
    push(3, about(Lane::Documents, "lyon", 2));
    push(4, about(Lane::Proposals, "lyon", 2));
    push(5, About::of(Lane::Restrictions));
    push(6, about(Lane::Votes, "lyon", 2));
    push(7, about(Lane::Votes, "porto", 1));
    assert_eq!(all(&mut lanes), [5, 3, 4, 6, 7, 2, 1]);
}

#[test]
fn the_transport_holds_one_window_and_a_slow_one_a_smaller_one() {
    let mut lanes = Lanes::new(WINDOW_MAX);
    for _ in 0..200 {
        lanes.push(0, about(Lane::Documents, "lyon", 1), vec![0; 8 * 1024]).expect("room");
    }
    let burst = |lanes: &mut Lanes, now| std::iter::from_fn(|| lanes.next(now, None)).count() * 8 * 1024;
    let first = burst(&mut lanes, 0);
    assert_eq!(first, WINDOW_MAX / 4);
    // A restriction waits for no more than this, however much else waits.
    lanes.push(0, About::of(Lane::Restrictions), vec![9]).expect("room");
    assert_eq!(lanes.next(0, None), None);
    lanes.drained(2_000, first);
    assert_eq!(lanes.next(2_000, None), Some((Lane::Restrictions, vec![9])));
    assert_eq!(burst(&mut lanes, 2_000), WINDOW_MIN, "two seconds were too long");
    for now in 1..5 {
        lanes.drained(2_000 + now, WINDOW_MAX * 2);
        burst(&mut lanes, 2_000 + now);
    }
    assert_eq!(lanes.window, WINDOW_MAX, "it became quick");
}

#[test]
fn what_is_passed_over_gets_a_small_share_but_never_before_a_restriction() {
    let mut lanes = Lanes::new(WINDOW_MAX);
    let sent = |lanes: &mut Lanes, flood: Lane| {
        let mut sent: BTreeMap<Lane, usize> = BTreeMap::new();
        for _ in 0..3_200 {
            lanes.push(0, About::of(flood), vec![0; 1_000]).expect("room");
            lanes.push(0, About::of(Lane::Documents), vec![0; 100]).expect("room");
            let (lane, bytes) = lanes.next(0, None).expect("something waits");
            lanes.drained(0, bytes.len());
            *sent.entry(lane).or_default() += bytes.len();
        }
        sent
    };
    let by = sent(&mut lanes, Lane::Proposals);
    let share = by[&Lane::Documents] * 100 / by[&Lane::Proposals];
    assert!((4..8).contains(&share), "{share} % is about a sixteenth: {by:?}");
    assert_eq!(sent(&mut Lanes::new(WINDOW_MAX), Lane::Restrictions).get(&Lane::Documents), None);
}

#[test]
fn a_full_queue_drops_telemetry_and_then_refuses() {
    let mut lanes = Lanes::new(WINDOW_MAX);
    for _ in 0..QUEUE_FRAMES_MAX {
        lanes.push(0, About::of(Lane::Telemetry), vec![0; 1_000]).expect("room");
    }
    lanes.push(0, About::of(Lane::Telemetry), vec![1]).expect("the oldest goes");
    lanes.push(0, About::of(Lane::Documents), vec![0; QUEUE_BYTES_MAX / 2]).expect("telemetry goes");
    assert!(lanes.dropped() > 0);
    assert_eq!(lanes.push(0, About::of(Lane::Votes), vec![0; QUEUE_BYTES_MAX / 2 + 1]), Err(Full));
    assert_eq!(lanes.room(0, Lane::Documents, None), 0);
    assert!(lanes.room(0, Lane::Votes, None) > 0, "documents take no room from votes");
}

proptest! {
    /// While several scopes wait, each gets its share of the bytes, up to a frame and a turn.
    #[test]
    fn scopes_share_a_lane(lens in prop::collection::vec((0usize..3, 1usize..60_000), 1..120)) {
        let mut lanes = Lanes::new(WINDOW_MAX);
        let mut waiting = [0usize; 3];
        for (scope, len) in &lens {
            if waiting.iter().sum::<usize>() + len > QUEUE_BYTES_MAX { break }
            lanes.push(0, about(Lane::Documents, ["a", "b", "c"][*scope], 1), vec![u8::try_from(*scope).expect("small"); *len]).expect("room");
            waiting[*scope] += len;
        }
        let all_wait = |waiting: &[usize; 3]| waiting.iter().all(|w| *w > 0);
        let mut sent = [0usize; 3];
        while all_wait(&waiting) {
            let (_, bytes) = lanes.next(0, None).expect("something waits");
            lanes.drained(0, bytes.len());
            let scope = usize::from(bytes[0]);
            (sent[scope], waiting[scope]) = (sent[scope] + bytes.len(), waiting[scope] - bytes.len());
            let (least, most) = (sent.iter().min().expect("three"), sent.iter().max().expect("three"));
            prop_assert!(most - least <= 2 * (60_000 + 16 * 1024), "{sent:?}");
        }
    }

    /// In no span as long as the period more than the budget goes in the lanes that it holds back, and urgent ones always go.
    #[test]
    fn bulk_stays_within_the_budget(steps in prop::collection::vec((0u64..4_000_000, 0usize..5, 1usize..320_000), 1..400)) {
        let budget = Budget { bytes: BUDGET_MIN, per_ms: 86_400_000 };
        let (mut meter, mut now) = (Meter::new(budget, 0, None), 0);
        let mut bulk: VecDeque<(u64, u64)> = VecDeque::new();
        for (passed, lane, len) in steps {
            now += passed;
            let lane = Lane::ALL[lane];
            let may = meter.may(now, lane, len);
            prop_assert!(may || lane.is_bulk());
            if !may {
                let wait = meter.wait_ms(now, lane, len);
                prop_assert!(!meter.clone().may(now + wait - 1, lane, len) && meter.clone().may(now + wait, lane, len));
                continue;
            }
            meter.charge(now, len);
            if lane.is_bulk() { bulk.push_back((now, len as u64)) }
            while bulk.front().is_some_and(|(at, _)| at + budget.per_ms <= now) { bulk.pop_front(); }
            prop_assert!(bulk.iter().map(|(_, len)| len).sum::<u64>() <= budget.bytes);
        }
    }
}

#[test]
fn a_budget_comes_back_evenly_and_documents_leave_something_to_proposals() {
    let budget = Budget { bytes: 4_000_000, per_ms: 1_000_000 };
    let mut meter = Meter::new(budget, 0, None);
    assert_eq!(
        (meter.burst(), meter.left(0, Lane::Documents), meter.left(0, Lane::Proposals)),
        (1_000_000, 875_000, 1_000_000)
    );
    meter.charge(0, 1_500_000);
    assert_eq!((meter.level(0), meter.left(0, Lane::Proposals)), (-500_000, 0));
    assert!(meter.may(0, Lane::Votes, 320_000) && !meter.may(0, Lane::Proposals, 1));
    // Three bytes a millisecond.
    assert_eq!(meter.wait_ms(0, Lane::Proposals, 100), 166_700);
    assert_eq!(meter.full_in_ms(0), 500_000);
    assert_eq!(meter.level(100_000), -200_000);
    assert_eq!(meter.level(10_000_000), 1_000_000);
    let mut again = Meter::new(budget, 5, Some(-200_000));
    again.rest(100_000);
    assert_eq!(again.level(5), 100_000);
}

#[test]
fn what_the_transport_got_rid_of_counts_in_whatever_parts_it_says_so() {
    let mut lanes = Lanes::new(512);
    let hand = |lanes: &mut Lanes, len: usize| {
        lanes.push(0, about(Lane::Votes, "mesh", 1), vec![0; len]).expect("room");
        lanes.next(0, None).map(|(_, bytes)| bytes.len())
    };
    // 600 bytes fill the window; the second frame's are reported before the first one's.
    assert_eq!((hand(&mut lanes, 400), hand(&mut lanes, 200)), (Some(400), Some(200)));
    assert_eq!(hand(&mut lanes, 10), None);
    lanes.drained(0, 200);
    assert_eq!(lanes.next(0, None), None, "the first is still there");
    lanes.drained(0, 399);
    lanes.drained(0, 1);
    assert_eq!(lanes.next(0, None).map(|(_, bytes)| bytes.len()), Some(10));
    // More than was handed over is nobody's.
    lanes.drained(0, usize::MAX);
    assert_eq!(hand(&mut lanes, 600), Some(600));
    assert_eq!(hand(&mut lanes, 1), None, "the window is full");
}
