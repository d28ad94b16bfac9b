//! The checker believes what is so, and finds each lie.

use serde_json::{Value, json};

use super::*;

const T0: u64 = 1_800_000_000_000;

fn text(ms: u64) -> String {
    let ms = i64::try_from(ms).expect("a time");
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).expect("a time"))
}

fn id(node: &str) -> String {
    if node == "hq" {
        "spiffe://acme.example/coordinator/hq".into()
    } else {
        format!("spiffe://acme.example/site/{node}/node/{node}")
    }
}

/// hq and two sites, all up since `T0`.
fn truth() -> Truth {
    let truth = Truth::of([("hq", "hq"), ("lyon", "lyon"), ("porto", "porto")]);
    for node in ["hq", "lyon", "porto"] {
        truth.end_at(&Fault::Dead(node.into()), T0);
    }
    truth
}

/// What lyon says at `at` when all is well.
fn honest(at: u64) -> Sample {
    let seen =
        |as_of: u64| json!({ "as_of": text(as_of), "observer": id("lyon"), "age_ms": at - as_of, "source": "direct" });
    let with = |mut value: Value, seen: Value| {
        let fields = value.as_object_mut().expect("an object");
        fields.extend(seen.as_object().expect("an object").clone());
        value
    };
    let peer = |node: &str, site: Value| {
        let view = json!({ "spiffe_id": id(node), "site": site, "state": "alive", "behind": 0, "connected_ms": at - T0 - 500, "rtt_ms": 3 });
        with(view, seen(at - 900))
    };
    let own = json!({ "spiffe_id": id("lyon"), "started": text(T0 + 200), "lease": { "age_ms": 4_000 } });
    let sync = json!({ "state_hash": {}, "scopes": [{ "scope": "mesh", "chains": 3, "facts": 60 }] });
    let site = json!({ "site": "porto", "isolation": { "state": "connected" } });
    Sample {
        node: "lyon".into(),
        asked_ms: at - 5,
        answered_ms: at + 5,
        own: with(own, seen(at)),
        peers: json!({
            "items": [peer("hq", Value::Null), peer("porto", json!("porto"))],
            "dialling": [{ "address": "10.77.1.10:7443", "up": true }],
        }),
        sync: with(sync, seen(at)),
        sites: json!({ "items": [site] }),
    }
}

fn found(truth: &Truth, samples: &[Sample]) -> Vec<&'static str> {
    let expected = Expected {
        pairs: vec![("lyon".into(), "hq".into()), ("lyon".into(), "porto".into())],
        called: [("10.77.1.10:7443".into(), "hq".into())].into(),
    };
    lies(samples, truth, &Bounds::default(), &expected).0.into_iter().map(|lie| lie.invariant).collect()
}

#[test]
fn what_is_so_is_believed() {
    assert_eq!(found(&truth(), &[honest(T0 + 60_000), honest(T0 + 90_000)]), [""; 0]);
    // A peer that froze eight seconds ago may still be up, by what is known of it here.
    let frozen = truth();
    frozen.begin_at(Fault::Frozen("porto".into()), T0 + 52_000);
    let mut sample = honest(T0 + 60_000);
    let porto = &mut sample.peers["items"][1];
    (porto["as_of"], porto["age_ms"]) = (json!(text(T0 + 51_000)), json!(9_000));
    assert_eq!(found(&frozen, &[sample]), [""; 0]);
}

#[test]
fn each_lie_is_found_by_the_invariant_that_it_breaks() {
    let at = T0 + 60_000;
    let said = |change: fn(&mut Sample)| {
        let mut sample = honest(at);
        change(&mut sample);
        found(&truth(), &[sample])
    };
    assert_eq!(said(|s| s.own["observer"] = json!(id("hq"))), ["OBSERVER"]);
    assert_eq!(said(|s| s.peers["items"][1]["source"] = json!("peer")), ["OBSERVER"]);
    assert_eq!(said(|s| s.peers["items"][1]["age_ms"] = json!(100)), ["AGE"]);
    assert_eq!(said(|s| s.sync["as_of"] = json!(text(T0 + 59_000))), ["AGE", "FRESH"]);
    let gone = |s: &mut Sample| {
        (s.peers["items"][0]["state"], s.peers["items"][0]["stalled"]) = (json!("unreachable"), json!(false));
    };
    assert_eq!(said(gone), ["BEHIND"]);
    assert_eq!(said(|s| s.peers["items"][0]["connected_ms"] = json!(75_000)), ["LINK-AGE"]);
    assert_eq!(said(|s| s.peers["items"][0]["behind"] = json!(61)), ["BEHIND"]);
    assert_eq!(said(|s| s.own["started"] = json!(text(T0 + 30_000))), ["STARTED"]);
    assert_eq!(said(|s| s.peers["items"][0]["rtt_ms"] = json!(2_000)), ["ROUND-TRIP"]);
    let far = truth();
    far.way_takes("lyon", "porto", (100, 100), T0 - 10_000);
    assert_eq!(found(&far, &[honest(at)]), ["ROUND-TRIP"], "3 ms there and back cannot be");
    let old = |s: &mut Sample| {
        (s.peers["items"][0]["as_of"], s.peers["items"][0]["age_ms"]) = (json!(text(T0 + 40_000)), json!(20_000));
    };
    assert_eq!(said(old), ["HEARD"]);

    let apart = |at: u64| {
        let mut sample = honest(at);
        (sample.peers["items"][0]["state"], sample.peers["items"][0]["behind"]) = (json!("unreachable"), Value::Null);
        sample
    };
    let all = |times: &[u64]| times.iter().map(|at| apart(T0 + at)).collect::<Vec<_>>();
    assert_eq!(found(&truth(), &all(&[60_000, 91_000])), [""; 0], "it may take a while");
    assert_eq!(found(&truth(), &all(&[60_000, 92_000])), ["LINKED"]);

    let stale = Sample { own: honest(at + 60_000).own, ..honest(at + 60_000) };
    let mut lease = stale.clone();
    lease.own["lease"]["age_ms"] = json!(47_000);
    assert_eq!(found(&truth(), &[lease]), ["LEASE"]);

    let written = truth();
    (0..61).for_each(|n| written.wrote("lyon", T0 + 1_000 + n));
    assert_eq!(found(&written, &[honest(at)]), ["HELD"]);

    let mut fewer = honest(at + 1_000);
    fewer.sync["scopes"][0]["facts"] = json!(59);
    assert_eq!(found(&truth(), &[honest(at), fewer]), ["NO-REGRESS"]);
}

#[test]
fn a_peer_shown_up_although_it_fell_silent_long_ago_is_a_lie() {
    let at = T0 + 60_000;
    let heard = |as_of: u64| {
        let mut sample = honest(at);
        let porto = &mut sample.peers["items"][1];
        (porto["as_of"], porto["age_ms"]) = (json!(text(as_of)), json!(at - as_of));
        sample
    };
    for fault in [Fault::Frozen("porto".into()), Fault::Cut("porto".into(), "lyon".into())] {
        let truth = truth();
        truth.begin_at(fault.clone(), at - 12_000);
        assert_eq!(found(&truth, &[heard(at - 12_000)]), ["DEAD", "SITE", "HEARD"], "{fault:?}");
        assert_eq!(found(&truth, &[heard(at - 9_000)]), ["DEAD", "SITE", "SILENT"], "{fault:?}");
    }
    // A machine that had no time for a thread of ours had none for the node's.
    let busy = truth();
    busy.begin_at(Fault::Frozen("porto".into()), at - 12_000);
    busy.stalled(at - 5_000, 1_000);
    assert_eq!(found(&busy, &[heard(at - 12_000)]), [""; 0]);

    // Who stood still meanwhile has the same time from when it goes on.
    let both = truth();
    both.begin_at(Fault::Frozen("porto".into()), at - 20_000);
    both.begin_at(Fault::Frozen("lyon".into()), at - 20_000);
    both.end_at(&Fault::Frozen("lyon".into()), at - 9_000);
    assert_eq!(found(&both, &[heard(at - 20_000)]), [""; 0]);
    let later = truth();
    later.begin_at(Fault::Frozen("porto".into()), at - 30_000);
    later.begin_at(Fault::Frozen("lyon".into()), at - 30_000);
    later.end_at(&Fault::Frozen("lyon".into()), at - 12_000);
    assert_eq!(found(&later, &[heard(at - 30_000)]), ["DEAD", "SITE", "HEARD"]);

    let deaf = truth();
    deaf.begin_at(Fault::Cut("lyon".into(), "porto".into()), at - 22_000);
    assert_eq!(found(&deaf, &[honest(at)]), ["DEAF"]);

    // Nothing is known of what the peer took since it fell silent.
    let behind = truth();
    behind.begin_at(Fault::Frozen("porto".into()), at - 8_000);
    behind.wrote("lyon", at - 2_000);
    assert_eq!(found(&behind, &[heard(at - 8_000)]), ["BEHIND"]);

    let dark = truth();
    dark.begin_at(Fault::Cut("hq".into(), "lyon".into()), at - 9_000);
    let mut sample = honest(at);
    let hq = &mut sample.peers["items"][0];
    (hq["as_of"], hq["age_ms"]) = (json!(text(at - 9_000)), json!(9_000));
    assert_eq!(found(&dark, &[sample]), ["LEASE"], "a lease of four seconds cannot be");

    let gone = truth();
    gone.begin_at(Fault::Dead("hq".into()), at - 15_000);
    let mut sample = honest(at);
    sample.own["lease"]["age_ms"] = json!(16_000);
    let hq = &mut sample.peers["items"][0];
    (hq["as_of"], hq["age_ms"], hq["state"]) = (json!(text(at - 15_000)), json!(15_000), json!("unreachable"));
    (hq["behind"], hq["connected_ms"], hq["rtt_ms"]) = (Value::Null, Value::Null, Value::Null);
    assert_eq!(found(&gone, &[sample.clone()]), ["CALLED"]);
    sample.peers["dialling"][0]["up"] = json!(false);
    assert_eq!(found(&gone, &[sample]), [""; 0]);
}
