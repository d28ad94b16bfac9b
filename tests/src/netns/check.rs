//! Holds what status said against what was so: every value was true at its `as_of` for its observer, and not too old.
//!
//! Each invariant is a function over one answer. It says what is wrong, or that it had something to judge, so that a run in which
//! nothing could have failed is seen as one.

use std::collections::BTreeMap;

use super::truth::{Fault, Truth};
use super::watch::Sample;
use look::{Look, is_told, is_up, name, scopes, time};

mod look;

/// What status may be behind, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A peer of which nothing comes is not `up` for longer.
    pub dead_ms: u64,
    /// Nor one that hears nothing of the observer: it goes silent within `dead_ms`, and is noticed within that again.
    pub deaf_ms: u64,
    /// A peer with a link was heard at most so long ago.
    pub heard_ms: u64,
    /// Two that are to be linked are not apart for longer, without a fault between them.
    pub linked_ms: u64,
    /// Past that a lease is at most so old: it is asked for anew while a coordinator is linked.
    pub lease_ms: u64,
    /// From a spawn to the time that the process calls its start.
    pub start_ms: u64,
    /// For a machine with other things to do: what lies between a moment and what a thread made of it.
    pub slack_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dead_ms: 10_000,
            deaf_ms: 20_000,
            heard_ms: 10_000,
            linked_ms: 30_000,
            lease_ms: 45_000,
            start_ms: 5_000,
            slack_ms: 1_500,
        }
    }
}

/// What a configuration makes of a mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Pairs that are to be linked, either way round.
    pub pairs: Vec<(String, String)>,
    /// Addresses that nodes call, with whose they are.
    pub called: BTreeMap<String, String>,
}

/// A value that was not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lie {
    /// The invariant that it breaks.
    pub invariant: &'static str,
    /// Who said it.
    pub node: String,
    /// When it was asked, milliseconds since the Unix epoch.
    pub asked_ms: u64,
    /// What was said, and what was so.
    pub why: String,
}

/// What an invariant makes of a value.
enum Found {
    /// Nothing was there to judge.
    Nothing,
    /// It was, and it held.
    Held,
    /// It did not.
    Lie(String),
}

impl Found {
    fn of(holds: bool, why: impl FnOnce() -> String) -> Self {
        if holds { Self::Held } else { Self::Lie(why()) }
    }
}

type Invariant = for<'l> fn(&Look<'l>) -> Vec<Found>;

const INVARIANTS: [(&str, Invariant); 15] = [
    ("OBSERVER", observer),
    ("AGE", age),
    ("FRESH", fresh),
    ("DEAD", dead),
    ("DEAF", deaf),
    ("SITE", site),
    ("SILENT", silent),
    ("HEARD", heard),
    ("CALLED", called),
    ("ROUND-TRIP", round_trip),
    ("LINK-AGE", link_age),
    ("BEHIND", behind),
    ("HELD", held),
    ("STARTED", started),
    ("LEASE", lease),
];

/// Judges every sample. Beside the lies it returns how often each invariant had something to judge.
#[must_use]
pub fn lies(
    samples: &[Sample],
    truth: &Truth,
    bounds: &Bounds,
    expected: &Expected,
) -> (Vec<Lie>, BTreeMap<&'static str, u64>) {
    let (mut found, mut judged) = (Vec::new(), BTreeMap::new());
    for sample in samples {
        // While it was stopped an answer was half made: its parts are of different times, and none of them is claimed to be new.
        if truth.during(&Fault::Frozen(sample.node.clone()), sample.asked_ms, sample.answered_ms) {
            continue;
        }
        let look = Look { sample, truth, bounds, expected };
        for (invariant, holds) in INVARIANTS {
            for one in holds(&look) {
                let count = judged.entry(invariant).or_insert(0);
                match one {
                    Found::Nothing => {}
                    Found::Held => *count += 1,
                    Found::Lie(why) => {
                        *count += 1;
                        let (node, asked_ms) = (sample.node.clone(), sample.asked_ms);
                        found.push(Lie { invariant, node, asked_ms, why });
                    }
                }
            }
        }
    }
    found.extend(regressed(samples));
    let (apart, count) = apart(samples, truth, bounds, expected);
    found.extend(apart);
    judged.insert("LINKED", count);
    (found, judged)
}

/// What a node says of itself, it says in its own name; what it says of peers, as its own observation.
fn observer(look: &Look<'_>) -> Vec<Found> {
    let own = &look.sample.own["spiffe_id"];
    let named = name(own) == Some(&look.sample.node);
    let mut all = vec![Found::of(named, || format!("{} answered as {own}", look.sample.node))];
    for view in [&look.sample.own, &look.sample.sync].into_iter().chain(look.peers().filter(|p| !p["as_of"].is_null()))
    {
        let direct = view["observer"] == *own && view["source"] == "direct";
        // Of a member without a link it may be somebody else's word.
        let told = name(&view["observer"]).is_some() && view["observer"] != *own && view["source"] == "peer";
        let may_be_told = view["connected_ms"].is_null() && view.get("behind").is_some();
        all.push(Found::of(direct || (told && may_be_told), || {
            format!("observer {}, source {}", view["observer"], view["source"])
        }));
    }
    all
}

/// `as_of` is in the past, and `age_ms` is what lies between it and the answer.
fn age(look: &Look<'_>) -> Vec<Found> {
    let (from, until) = (look.sample.asked_ms, look.sample.answered_ms);
    let all = [&look.sample.own, &look.sample.sync].into_iter().chain(look.peers()).chain(look.sites());
    all.map(|view| match (time(&view["as_of"]), view["age_ms"].as_u64()) {
        (Some(as_of), Some(age)) => {
            let now = as_of + age;
            // What another wrote is dated by its clock, and that one may run a little ahead of the answer.
            let ahead = view["source"] == "peer" && age == 0;
            let holds = (now >= from && now <= until) || (ahead && as_of <= until + look.slack_ms());
            Found::of(holds, || format!("as_of {as_of} and {age} ms make {now}, asked {from} to {until}: {view}"))
        }
        (None, None) => Found::Nothing,
        other => Found::Lie(format!("as_of and age_ms go together: {other:?}")),
    })
    .collect()
}

/// What a node says of itself is of the moment of the answer.
fn fresh(look: &Look<'_>) -> Vec<Found> {
    let own = [&look.sample.own, &look.sample.sync];
    own.map(|view| {
        let as_of = time(&view["as_of"]).unwrap_or(0);
        Found::of(as_of >= look.sample.asked_ms, || format!("asked at {}, as_of {as_of}", look.sample.asked_ms))
    })
    .into()
}

/// A peer that is `up` has not been silent for longer than a dead one may go unnoticed.
fn dead(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        let silent = if is_told(view) { look.silent_to_all_ms(peer) } else { look.silent_ms(peer, &look.sample.node) };
        look.up_for_too_long(view, silent, look.bounds.dead_ms)
            .map_or(Found::Nothing, |why| why.map_or(Found::Held, |why| Found::Lie(format!("{peer} {why}"))))
    })
}

/// A peer that is `up` has not been unable to hear the observer for twice as long.
fn deaf(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        if is_told(view) {
            return Found::Nothing;
        }
        let deaf = look.silent_ms(&look.sample.node, peer);
        look.up_for_too_long(view, deaf, look.bounds.deaf_ms)
            .map_or(Found::Nothing, |why| why.map_or(Found::Held, |why| Found::Lie(format!("{peer} {why}, deaf"))))
    })
}

/// A site is not `connected` when none of its nodes could be heard for as long.
fn site(look: &Look<'_>) -> Vec<Found> {
    let own = look.truth.nodes().into_iter().find(|(node, _)| *node == look.sample.node).map(|(_, site)| site);
    look.sites()
        .map(|view| {
            let Some(of) = view["site"].as_str().filter(|of| Some(*of) != own.as_deref()) else {
                return Found::Nothing;
            };
            let nodes = look.truth.nodes().into_iter().filter(|(_, site)| site == of);
            let silent = nodes.map(|(node, _)| look.silent_ms(&node, &look.sample.node));
            // As long as one could be heard, nothing can be said.
            let Some(for_ms) = silent.collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().min()) else {
                return Found::Nothing;
            };
            if for_ms <= look.bounds.dead_ms + look.slack_ms() {
                return Found::Nothing;
            }
            let said = &view["isolation"]["state"];
            Found::of(said != "connected", || format!("{of} is {said}, silent for {for_ms} ms"))
        })
        .collect()
}

/// Nobody was heard after he fell silent. Of a member that is lost, `as_of` is when it was.
fn silent(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        let told = is_told(view) && look.silent_to_all_ms(peer).is_none();
        if view["state"] != "alive" || told {
            return Found::Nothing;
        }
        let own = &look.sample.node;
        let (Some(as_of), Some(since)) =
            (time(&view["as_of"]), look.truth.silent_since(peer, own, look.sample.asked_ms))
        else {
            return Found::Nothing;
        };
        // A node that was stopped reads what had come for it when it goes on.
        if look.truth.during(&Fault::Frozen(own.clone()), since, look.sample.answered_ms) {
            return Found::Nothing;
        }
        let at_most = since + look.truth.way_ms(peer, own, since) + look.slack_ms();
        Found::of(as_of <= at_most, || format!("{peer} was heard at {as_of} and is silent since {since}"))
    })
}

/// A peer with a link was heard a short while ago: keep-alives see to that.
fn heard(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        if !is_up(view) {
            return Found::Nothing;
        }
        let (age, at_most) = (view["age_ms"].as_u64().unwrap_or(u64::MAX), look.bounds.heard_ms + look.slack_ms());
        Found::of(age.min(look.awake_ms()) <= at_most, || format!("{peer} is up and was heard {age} ms ago"))
    })
}

/// An address that is called is not `up` when nothing has come from there for as long as a dead peer may go unnoticed.
fn called(look: &Look<'_>) -> Vec<Found> {
    let all = look.sample.peers["dialling"].as_array().into_iter().flatten();
    all.map(|target| {
        let of = target["address"].as_str().and_then(|address| look.expected.called.get(address));
        let Some(peer) = of else { return Found::Lie(format!("nobody calls {}", target["address"])) };
        let Some(for_ms) = look.silent_ms(peer, &look.sample.node) else { return Found::Nothing };
        if for_ms <= look.bounds.dead_ms + look.slack_ms() {
            return Found::Nothing;
        }
        Found::of(target["up"] == false, || format!("{peer} is called up, silent for {for_ms} ms"))
    })
    .collect()
}

/// A round trip takes as long as the way there and back: no less than at any time since the link is up, and no more but for
/// the time that processes need.
fn round_trip(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        let (Some(rtt), Some(for_ms)) = (view["rtt_ms"].as_u64(), view["connected_ms"].as_u64()) else {
            return Found::Nothing;
        };
        let (own, now) = (&look.sample.node, look.sample.answered_ms);
        // The handshake was before the link.
        let since = now.saturating_sub(for_ms + look.bounds.start_ms);
        let way = |from: &str, to: &str| look.truth.way_range_ms(from, to, since, now);
        let ((there, there_most), (back, back_most)) = (way(own, peer), way(peer, own));
        let (least, most) = (there + back, there_most + back_most + look.slack_ms());
        Found::of(rtt >= least && rtt <= most, || {
            format!("{peer} is {rtt} ms away, there and back take {least} to {most}")
        })
    })
}

/// A link is not older than the processes at its ends, once the end of an earlier one must have been noticed.
fn link_age(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        let (now, own) = (look.sample.answered_ms, &look.sample.node);
        let (Some(for_ms), Some(mine)) = (view["connected_ms"].as_u64(), look.truth.runs_since(own, now)) else {
            return Found::Nothing;
        };
        let theirs = look.truth.runs_since(peer, now).map(|at| now - at);
        let theirs = theirs.filter(|age| *age > look.bounds.dead_ms + look.slack_ms());
        let at_most = theirs.unwrap_or(u64::MAX).min(now - mine).saturating_add(look.slack_ms());
        Found::of(for_ms <= at_most, || format!("the link to {peer} is {for_ms} ms old, the processes {at_most}"))
    })
}

/// A peer is behind by what was written here since it could last say anything, and by no more than there is.
fn behind(look: &Look<'_>) -> Vec<Found> {
    look.each_peer(|look, peer, view| {
        let own = &look.sample.node;
        let Some(behind) = view["behind"].as_u64() else {
            let unknown = is_up(view) || view["behind"].is_null();
            return if unknown { Found::Nothing } else { Found::Lie(format!("{peer} is behind {}", view["behind"])) };
        };
        // Of one that is gone it is what it last said; whether it stalls nobody can say.
        if !is_up(view) && !view["stalled"].is_null() {
            return Found::Lie(format!("{peer} is {} and stalls or not: {}", view["state"], view["stalled"]));
        }
        let facts: u64 = look.scopes().map(|(_, facts)| facts).sum();
        // The peers' view may be a moment older than the scopes', so no less is counted.
        if behind > facts {
            return Found::Lie(format!("{peer} is behind by {behind} of {facts} facts"));
        }
        let Some(since) = look.truth.silent_since(peer, own, look.sample.asked_ms) else { return Found::Held };
        let from = since + look.truth.way_ms(peer, own, since) + look.slack_ms();
        let written = look.truth.written(own, from, look.sample.asked_ms);
        Found::of(behind >= written, || {
            format!("{peer} is behind by {behind}; {written} were written here since it fell silent at {since}")
        })
    })
}

/// A node holds what it acknowledged.
fn held(look: &Look<'_>) -> Vec<Found> {
    let written = look.truth.written(&look.sample.node, 0, look.sample.asked_ms);
    let facts: u64 = look.scopes().map(|(_, facts)| facts).sum();
    vec![Found::of(facts >= written, || format!("{facts} facts are held, {written} were acknowledged"))]
}

/// The process is the one that the test started: none ended and came back by itself.
fn started(look: &Look<'_>) -> Vec<Found> {
    let (Some(said), Some(was)) =
        (time(&look.sample.own["started"]), look.truth.runs_since(&look.sample.node, look.sample.asked_ms))
    else {
        return vec![Found::Nothing];
    };
    // The test notes a start when it has spawned the process.
    let near = said + look.slack_ms() >= was && said <= was + look.bounds.start_ms;
    vec![Found::of(near, || format!("started at {said} by its own word, at {was} in truth"))]
}

/// A lease is no younger than the last word that a coordinator could send, and no older than it need be.
fn lease(look: &Look<'_>) -> Vec<Found> {
    let (own, now) = (&look.sample.node, look.sample.asked_ms);
    let Some(age) = look.sample.own["lease"]["age_ms"].as_u64() else { return vec![Found::Nothing] };
    let coordinators: Vec<String> = look.coordinators();
    let silent: Option<Vec<u64>> = coordinators.iter().map(|c| look.truth.silent_since(c, own, now)).collect();
    if let Some(since) = silent.and_then(|all| all.into_iter().max()) {
        let way = coordinators.iter().map(|c| look.truth.way_ms(c, own, since)).max().unwrap_or(0);
        let at_least = now.saturating_sub(since + way + look.slack_ms());
        let frozen = look.truth.during(&Fault::Frozen(own.clone()), since, now);
        return vec![Found::of(age >= at_least || frozen, || {
            format!("{age} ms old, no word could come for {at_least}")
        })];
    }
    let calm = coordinators.iter().filter_map(|c| look.truth.calm_since(c, own, now)).min();
    let for_ms = calm.map_or(0, |calm| now - calm);
    if for_ms <= look.bounds.linked_ms + look.bounds.lease_ms {
        return vec![Found::Nothing];
    }
    vec![Found::of(age <= look.bounds.lease_ms, || format!("{age} ms old, a coordinator was in reach for {for_ms}"))]
}

/// LINKED: two that are to be linked are not apart for long while nothing stands between them. Returns how often there was something
/// to judge, too.
fn apart(samples: &[Sample], truth: &Truth, bounds: &Bounds, expected: &Expected) -> (Vec<Lie>, u64) {
    let mut since: BTreeMap<(String, String), u64> = BTreeMap::new();
    let (mut found, mut judged) = (Vec::new(), 0);
    for sample in samples {
        let own = &sample.node;
        let look = Look { sample, truth, bounds, expected };
        for view in look.peers() {
            let Some(peer) = name(&view["spiffe_id"]) else { continue };
            let paired = expected.pairs.iter().any(|(a, b)| (a == own && b == peer) || (b == own && a == peer));
            let Some(calm) = truth.calm_since(own, peer, sample.answered_ms).filter(|_| paired) else { continue };
            judged += 1;
            let ends = (own.clone(), peer.to_owned());
            if is_up(view) {
                since.remove(&ends);
                continue;
            }
            let first = since.entry(ends).or_insert(sample.asked_ms);
            *first = calm.max(*first);
            let for_ms = sample.asked_ms.saturating_sub(*first);
            if for_ms > bounds.linked_ms + look.slack_ms() {
                let why = format!("{peer} is {} for {for_ms} ms, and nothing stands between", view["state"]);
                found.push(Lie { invariant: "LINKED", node: own.clone(), asked_ms: sample.asked_ms, why });
            }
        }
    }
    (found, judged)
}

/// NO-REGRESS: facts of a scope are never fewer than they were, whatever the process went through.
fn regressed(samples: &[Sample]) -> Vec<Lie> {
    let mut most: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut found = Vec::new();
    for sample in samples {
        for (scope, facts) in scopes(sample) {
            let before = most.entry((sample.node.clone(), scope.to_owned())).or_insert(0);
            if facts < *before {
                let why = format!("{facts} facts in {scope}, there were {before}");
                found.push(Lie { invariant: "NO-REGRESS", node: sample.node.clone(), asked_ms: sample.asked_ms, why });
            }
            *before = facts.max(*before);
        }
    }
    found
}

#[cfg(test)]
mod tests;
