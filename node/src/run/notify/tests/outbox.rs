//! What is queued, when, and how it ends, without a server and without waiting.

use std::time::Duration;

use cauldron_coordinator::bodies::Outcome;
use cauldron_coordinator::ledger::Call;
use cauldron_identity::{Clock, Confidence};

use super::{about, asking, folder, groups, notices, sender, settled, waiting, webhook};
use crate::config::Webhook;
use crate::run::notify::kept;
use crate::run::notify::message::{About, Asking, Kind, Seen};
use crate::run::notify::outbox::{Change, Outbox, Queued, Step};
use crate::run::notify::post::{Failure, Why};

fn at(ms: u64) -> Clock {
    Clock { wall_ms: 1_764_500_000_000 + ms, boottime_ms: 50_000 + ms, confidence: Confidence::Local }
}

fn hook() -> Webhook {
    webhook("https://hooks.example/x", &folder())
}

fn outbox() -> Outbox {
    Outbox::new(hook(), kept::All::new())
}

fn due(outbox: &mut Outbox, now: Clock) -> Option<Queued> {
    match outbox.next(now) {
        Step::Send(message) => Some(*message),
        Step::Wait(_) | Step::Idle => None,
    }
}

fn kind(message: &Queued) -> String {
    let value: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
    value["type"].as_str().expect("a type").to_owned()
}

fn failure(why: Why, retry_after: Option<Duration>) -> Failure {
    Failure { why, text: "no".into(), retry_after }
}

/// Delivers everything that is due and says what it was.
fn deliver_all(outbox: &mut Outbox, now: Clock) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(message) = due(outbox, now) {
        outbox.delivered(&message, now);
        told.push(kind(&message));
    }
    told
}

#[test]
fn more_people_and_other_terms_are_told_and_the_same_again_is_not() {
    let mut outbox = outbox();
    let mut tell = |terms: &str, groups: &[&str]| {
        outbox.observe(at(0), &waiting([asking("ab12", terms, groups)]), &sender());
        deliver_all(&mut outbox, at(0))
    };
    assert_eq!(tell("t1", &["duty"]), ["approval.pending"]);
    assert!(tell("t1", &["duty"]).is_empty());
    assert_eq!(tell("t2", &["duty", "lead"]), ["approval.escalated"]);
    assert_eq!(tell("t3", &["duty", "lead"]), ["approval.pending"], "earlier votes do not count: they are asked again");
    outbox.observe(at(0), &settled("ab12", "approved"), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["approval.decided"]);
    outbox.observe(at(0), &settled("ab12", "approved"), &sender());
    assert!(deliver_all(&mut outbox, at(0)).is_empty());
}

#[test]
fn a_webhook_hears_of_its_groups_alone() {
    let hook = Webhook { groups: super::groups(&["lead", "night"]), ..hook() };
    let mut outbox = Outbox::new(hook, kept::All::new());
    outbox.observe(
        at(0),
        &waiting([asking("ab12", "t", &["duty"]), asking("cd34", "t", &["duty", "lead"])]),
        &sender(),
    );
    assert_eq!(outbox.queued(), 1);
    outbox.observe(at(0), &settled("ab12", "denied"), &sender());
    assert_eq!(outbox.queued(), 1, "nobody here was asked");
}

#[test]
fn broken_glass_is_told_to_everybody_beside_the_asking() {
    let hook = Webhook { groups: super::groups(&["night"]), ..hook() };
    let mut outbox = Outbox::new(hook, kept::All::new());
    let asked = asking("ab12", "t", &["night"]);
    let used = Asking { kind: Kind::Broken, ..asking("ab12", "use-1", &["duty"]) };
    outbox.observe(at(0), &waiting([asked.clone(), used.clone()]), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["approval.pending", "break-glass.used"]);
    outbox.observe(at(0), &waiting([asked, used]), &sender());
    assert!(deliver_all(&mut outbox, at(0)).is_empty(), "once");
    outbox.observe(at(0), &settled("ab12#use-1", "reviewed"), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["approval.decided"]);
}

#[test]
fn a_window_is_told_beside_what_was_asked_before_it_and_an_objection_asks_anew() {
    let mut outbox = outbox();
    let mut tell = |terms: &str, kind: Kind, groups: &[&str]| {
        outbox.observe(at(0), &waiting([Asking { kind, ..asking("ab12", terms, groups) }]), &sender());
        let ids: Vec<String> = due(&mut outbox, at(0)).into_iter().map(|message| message.id).collect();
        (ids, deliver_all(&mut outbox, at(0)))
    };
    let (first, told) = tell("t", Kind::Pending, &["lead"]);
    assert_eq!(told, ["approval.pending"]);
    assert_eq!(tell("t/silence", Kind::Window, &["duty"]).1, ["veto-window.opened"], "no escalation");
    assert!(tell("t/silence", Kind::Window, &["duty"]).1.is_empty(), "once");
    let (again, told) = tell("t/objected", Kind::Pending, &["duty"]);
    assert_eq!(
        (told, first == again),
        (vec!["approval.pending".to_owned()], false),
        "a receiver drops no id of before"
    );
    outbox.observe(at(0), &settled("ab12", "denied"), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["approval.decided"]);
}

#[test]
fn what_is_over_before_it_was_told_is_not_told() {
    let mut outbox = outbox();
    outbox.observe(at(0), &waiting([asking("ab12", "t", &["duty"])]), &sender());
    outbox.observe(at(0), &settled("ab12", "denied"), &sender());
    assert_eq!((outbox.queued(), outbox.counts.dropped["settled"]), (0, 1));
    let soon = About { deadline_ms: at(5_000).wall_ms, ..about("cd34") };
    let soon = Asking { about: soon, ..asking("cd34", "t", &["duty"]) };
    outbox.observe(at(0), &waiting([soon.clone()]), &sender());
    assert!(matches!(outbox.next(at(5_000)), Step::Idle));
    assert_eq!(outbox.counts.dropped["expired"], 1);
    outbox.observe(at(5_000), &waiting([soon]), &sender());
    assert_eq!(outbox.queued(), 0, "the same asking is not queued again");
    let day = 24 * 60 * 60 * 1_000;
    outbox.observe(at(6_000 + day), &waiting([]), &sender());
    assert_eq!(outbox.open().count(), 0, "it is forgotten in the end");
}

#[test]
fn a_full_queue_drops_the_oldest_and_counts_it() {
    let mut outbox = outbox();
    outbox.observe(at(0), &waiting((0..300).map(|n| asking(&format!("p{n:03}"), "t", &["duty"]))), &sender());
    assert_eq!((outbox.queued(), outbox.counts.dropped["queue_full"]), (256, 44));
    let first = due(&mut outbox, at(0)).expect("due");
    let value: serde_json::Value = serde_json::from_slice(&first.body).expect("JSON");
    assert_eq!(value["data"]["proposal"], "p044");
    let all = || waiting((0..300).map(|n| asking(&format!("p{n:03}"), "t", &["duty"])));
    outbox.observe(at(0), &all(), &sender());
    assert_eq!(outbox.counts.dropped["queue_full"], 44, "what was dropped displaces nothing of the same");
    // Once there is room it is asked after all.
    assert_eq!(deliver_all(&mut outbox, at(0)).len(), 256);
    outbox.observe(at(0), &all(), &sender());
    assert_eq!((deliver_all(&mut outbox, at(0)).len(), outbox.counts.dropped["queue_full"]), (44, 44));
    outbox.observe(at(0), &all(), &sender());
    assert_eq!(outbox.queued(), 0, "and once");
}

#[test]
fn pauses_double_to_a_bound_and_one_refused_message_keeps_no_other() {
    let mut outbox = outbox();
    outbox.observe(at(0), &waiting([asking("bad", "t", &["duty"])]), &sender());
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let message = due(&mut outbox, at(now)).expect("due");
        outbox.failed(&message, &failure(Why::Status, None), at(now), u16::MAX);
        let Step::Wait(wait) = outbox.next(at(now)) else { panic!("no pause") };
        pauses.push(wait.as_secs());
        now += u64::try_from(wait.as_millis()).expect("small");
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);

    outbox.observe(at(now), &waiting([asking("good", "t", &["duty"])]), &sender());
    let bad = due(&mut outbox, at(now)).expect("due");
    assert_eq!(outbox.failed(&bad, &failure(Why::Status, None), at(now), 0), Change::None);
    assert!(due(&mut outbox, at(now + 149_000)).is_none(), "half a pause is fixed");
    let good = due(&mut outbox, at(now + 150_000)).expect("due");
    assert_ne!(good.id, bad.id, "the other one comes first");
    assert_eq!(outbox.delivered(&good, at(now + 150_000)), Change::Recovered);
}

#[test]
fn an_endpoint_that_asks_for_time_gets_it() {
    let mut outbox = outbox();
    outbox.observe(at(0), &waiting([asking("ab12", "t", &["duty"]), asking("cd34", "t", &["duty"])]), &sender());
    let message = due(&mut outbox, at(0)).expect("due");
    let later = failure(Why::Status, Some(Duration::from_secs(40)));
    assert_eq!(outbox.failed(&message, &later, at(0), 0), Change::Failing);
    assert!(due(&mut outbox, at(39_999)).is_none(), "no message goes to it before");
    assert!(due(&mut outbox, at(40_000)).is_some());
}

fn told(proposal: &str, names: &[&str]) -> Asking {
    Asking { kind: Kind::Told(Outcome::Allow), ..asking(proposal, "t", names) }
}

fn needs(proposal: &str, call: Call, names: &[&str]) -> Asking {
    Asking { kind: Kind::Attention(call), ..asking(proposal, call.name(), names) }
}

#[test]
fn groups_that_are_told_hear_it_once_beside_who_is_asked_and_no_end_of_it() {
    let hook = Webhook { groups: groups(&["lead"]), ..hook() };
    let mut outbox = Outbox::new(hook.clone(), kept::All::new());
    let all = || notices([told("ab12", &["lead"]), told("cd34", &["duty"])]);
    outbox.observe(at(0), &all(), &sender());
    outbox.observe(at(0), &waiting([asking("ab12", "t", &["lead"])]), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["proposal.told", "approval.pending"], "and nothing of cd34");
    assert_eq!(outbox.open().count(), 1, "of the asking alone is an end to come");
    // The same after a start, and after the time for which the rest is remembered.
    let mut outbox = Outbox::new(hook, outbox.told());
    for days in [0, 1, 40_000] {
        outbox.observe(at(days * 86_400_000), &all(), &sender());
        assert!(deliver_all(&mut outbox, at(days * 86_400_000)).is_empty(), "once, on day {days}");
    }
}

#[test]
fn what_needs_a_person_goes_to_who_was_asked_or_to_everybody() {
    let hook = |names: &[&str]| Outbox::new(Webhook { groups: groups(names), ..hook() }, kept::All::new());
    let seen = notices([needs("ab12", Call::Unknown, &["duty"]), needs("cd34", Call::Contested, &[])]);
    for (names, expected) in [(&["duty"][..], 2), (&["lead"], 1), (&[], 2)] {
        let mut outbox = hook(names);
        outbox.observe(at(0), &seen, &sender());
        let told = deliver_all(&mut outbox, at(0));
        assert_eq!(told, vec!["attention.needed"; expected], "{names:?}");
        outbox.observe(at(0), &seen, &sender());
        assert!(deliver_all(&mut outbox, at(0)).is_empty(), "once");
    }
    // Settled before it could be told, and needed again.
    let mut outbox = hook(&[]);
    outbox.observe(at(0), &notices([needs("ab12", Call::Unknown, &[])]), &sender());
    outbox.observe(at(0), &notices([]), &sender());
    assert_eq!((outbox.queued(), outbox.counts.dropped["settled"]), (0, 1));
    outbox.observe(at(0), &notices([needs("ab12", Call::Unknown, &[])]), &sender());
    assert_eq!(deliver_all(&mut outbox, at(0)), ["attention.needed"]);
}

#[test]
fn what_needs_a_person_again_is_told_again_under_an_id_of_its_own() {
    let mut outbox = outbox();
    let mut tell = |terms: Option<&str>, day: u64| {
        let one = terms.map(|terms| Asking { terms: terms.into(), ..needs("ab12", Call::Unknown, &["duty"]) });
        outbox.observe(at(day * 86_400_000), &notices(one), &sender());
        let message = due(&mut outbox, at(day * 86_400_000));
        message.iter().for_each(|message| _ = outbox.delivered(message, at(day * 86_400_000)));
        message.map(|message| message.id)
    };
    let first = tell(Some("unknown/5/0"), 0);
    assert!(first.is_some() && tell(Some("unknown/5/0"), 0).is_none());
    assert_eq!(tell(None, 0), None, "somebody settled it");
    let again = tell(Some("unknown/7/0"), 0);
    assert!(again.is_some() && again != first, "it is unknown again within the day");
    let reminded = tell(Some("unknown/7/1"), 1);
    assert!(reminded.is_some() && reminded != again, "nobody came");
    // A receiver that is away for long gets the last call, not each of them.
    outbox.observe(
        at(0),
        &notices([Asking { terms: "unknown/7/2".into(), ..needs("ab12", Call::Unknown, &["duty"]) }]),
        &sender(),
    );
    outbox.observe(
        at(0),
        &notices([Asking { terms: "unknown/7/3".into(), ..needs("ab12", Call::Unknown, &["duty"]) }]),
        &sender(),
    );
    assert_eq!(deliver_all(&mut outbox, at(0)), ["attention.needed"]);
}

fn of_site(site: &str, asking: Asking) -> Asking {
    Asking { about: About { site: site.into(), ..asking.about.clone() }, ..asking }
}

/// The proposals that wait, in the order in which they would be told.
fn queued(outbox: &Outbox) -> Vec<String> {
    outbox.messages().map(|message| message["data"]["proposal"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn no_site_has_the_calls_of_another_displaced() {
    let calls = |site: &'static str, name: &'static str, n: usize| {
        (0..n).map(move |n| of_site(site, needs(&format!("{name}{n:03}"), Call::Unknown, &["duty"])))
    };
    let asks = |n: usize| (0..n).map(|n| of_site("lyon", asking(&format!("question{n:03}"), "t", &["duty"])));
    let paris = || calls("paris", "p", 3);
    for first in [true, false] {
        let mut outbox = outbox();
        let flood = calls("lyon", "l", 400).chain(asks(400));
        let all: Vec<Asking> = if first { paris().chain(flood).collect() } else { flood.chain(paris()).collect() };
        outbox.observe(at(0), &notices(all.clone()), &sender());
        let kept = queued(&outbox);
        assert_eq!((kept.len(), kept.iter().filter(|id| id.starts_with('p')).count()), (256, 3), "{first}");
        // Looking again and again moves nothing.
        let dropped = outbox.counts.dropped["queue_full"];
        (0..5).for_each(|_| outbox.observe(at(0), &notices(all.clone()), &sender()));
        assert_eq!((queued(&outbox), outbox.counts.dropped["queue_full"]), (kept, dropped));
        // One of a small share that was displaced before would be in at once.
        outbox.observe(at(0), &notices(calls("porto", "porto", 1).chain(all)), &sender());
        assert!(queued(&outbox).contains(&"porto000".to_owned()));
    }
}

#[test]
fn a_flood_of_audits_gives_way_to_what_presses_and_is_told_once_there_is_room() {
    let mut outbox = outbox();
    let audits = || (0..300).map(|n| needs(&format!("a{n:03}"), Call::Audit, &["duty"]));
    let contested = || (0..10).map(|n| of_site("paris", needs(&format!("c{n:03}"), Call::Contested, &["duty"])));
    outbox.observe(at(0), &notices(audits()), &sender());
    outbox.observe(at(0), &notices(contested().chain(audits())), &sender());
    let kept = queued(&outbox);
    assert_eq!((kept.len(), kept.iter().filter(|id| id.starts_with('c')).count()), (256, 10));
    assert_eq!(outbox.unplaced().count(), 0, "there is no room for it");
    assert_eq!(deliver_all(&mut outbox, at(0)).len(), 256);
    let again: Vec<String> = outbox.unplaced().cloned().collect();
    assert_eq!(again.len(), 300 - 246);
    // It is read anew, as if it had never been seen.
    let anew = audits().filter(|audit| again.contains(&audit.key()));
    let seen = Seen { notices: notices(contested().chain(audits())).notices, ..waiting(anew) };
    outbox.observe(at(0), &seen, &sender());
    assert_eq!((deliver_all(&mut outbox, at(0)).len(), outbox.unplaced().count()), (54, 0));
    assert_eq!(outbox.counts.delivered, 310, "each of them once");
    // Each site has its turn in what there is room for.
    let pressing = || (0..256).map(|n| of_site("rome", needs(&format!("c{n:03}"), Call::Unknown, &["duty"])));
    outbox.observe(at(0), &notices(pressing().chain(audits())), &sender());
    let last = of_site("paris", needs("z", Call::Audit, &["duty"]));
    let more = (300..700).map(|n| needs(&format!("a{n:03}"), Call::Audit, &["duty"])).chain([last]);
    outbox.observe(at(0), &notices(pressing().chain(more)), &sender());
    assert_eq!(outbox.unplaced().count(), 0);
    for _ in 0..2 {
        let message = due(&mut outbox, at(0)).expect("due");
        outbox.delivered(&message, at(0));
    }
    assert_eq!(outbox.unplaced().map(|key| &key[..1]).collect::<Vec<_>>(), ["a", "z"]);
    deliver_all(&mut outbox, at(0));
    // What is over meanwhile waits for no room.
    outbox.observe(at(0), &notices((0..300).map(|n| needs(&format!("b{n:03}"), Call::Audit, &["duty"]))), &sender());
    outbox.observe(at(0), &notices([]), &sender());
    assert_eq!((outbox.queued(), outbox.unplaced().count()), (0, 0));
}

#[test]
fn a_flood_of_what_nobody_is_asked_about_displaces_no_question() {
    let mut outbox = outbox();
    outbox.observe(at(0), &waiting([asking("ab12", "t", &["duty"])]), &sender());
    let flood: Vec<_> = (0..400).map(|n| told(&format!("{n:04}"), &["duty"])).collect();
    outbox.observe(at(0), &notices(flood), &sender());
    assert_eq!((outbox.queued(), outbox.counts.dropped["queue_full"]), (256, 145));
    assert_eq!(kind(&due(&mut outbox, at(0)).expect("waits")), "approval.pending");
}
