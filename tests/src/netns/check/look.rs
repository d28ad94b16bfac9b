//! One answer, and what can be said of it from what the test did.

use serde_json::Value;

use super::{Bounds, Expected, Found};
use crate::netns::truth::{Fault, Truth};
use crate::netns::watch::Sample;

/// What it takes, milliseconds, until those who lost a member have told the others: two seconds of patience, and the way.
const TOLD_MS: u64 = 5_000;

/// One answer with what it is judged by.
pub(super) struct Look<'l> {
    pub(super) sample: &'l Sample,
    pub(super) truth: &'l Truth,
    pub(super) bounds: &'l Bounds,
    pub(super) expected: &'l Expected,
}

impl<'l> Look<'l> {
    pub(super) fn peers(&self) -> impl Iterator<Item = &'l Value> {
        self.sample.peers["items"].as_array().into_iter().flatten()
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = &'l Value> {
        self.sample.sites["items"].as_array().into_iter().flatten()
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = (&'l str, u64)> {
        scopes(self.sample)
    }

    pub(super) fn each_peer(&self, judge: impl Fn(&Self, &str, &'l Value) -> Found) -> Vec<Found> {
        let known: Vec<String> = self.truth.nodes().into_iter().map(|(node, _)| node).collect();
        self.peers()
            .map(|view| match name(&view["spiffe_id"]).filter(|peer| known.iter().any(|k| k == peer)) {
                Some(peer) => judge(self, peer, view),
                None => Found::Lie(format!("nobody knows {}", view["spiffe_id"])),
            })
            .collect()
    }

    /// What the machine took longer of late: while it is too busy for this process, it is for the nodes.
    pub(super) fn slack_ms(&self) -> u64 {
        let from = self.sample.asked_ms.saturating_sub(self.bounds.deaf_ms + self.bounds.dead_ms);
        self.bounds.slack_ms + self.truth.stalled_ms(from, self.sample.answered_ms)
    }

    /// For how long the observer has gone on since it last stood still: who did cannot have noticed anything meanwhile, and what
    /// it says is dated.
    pub(super) fn awake_ms(&self) -> u64 {
        let frozen = Fault::Frozen(self.sample.node.clone());
        self.sample.asked_ms - self.truth.ended(&frozen, self.sample.asked_ms).unwrap_or(0)
    }

    /// For how long nothing that `from` sends could reach `to`, in the time of the observer; none if something could.
    pub(super) fn silent_ms(&self, from: &str, to: &str) -> Option<u64> {
        let since = self.truth.silent_since(from, to, self.sample.asked_ms)?;
        Some((self.sample.asked_ms - since).min(self.awake_ms()))
    }

    /// For how long nobody could hear a node; none while somebody could, who may tell the others.
    pub(super) fn silent_to_all_ms(&self, from: &str) -> Option<u64> {
        let nodes = self.truth.nodes();
        let others = nodes.iter().map(|(node, _)| node).filter(|node| *node != from);
        others.map(|to| self.silent_ms(from, to)).min().flatten()
    }

    /// Nothing when there was no silence to notice yet; then whether it was noticed.
    pub(super) fn up_for_too_long(
        &self,
        view: &Value,
        silent_ms: Option<u64>,
        bound_ms: u64,
    ) -> Option<Option<String>> {
        let for_ms = silent_ms?;
        // Whoever has no link of its own hears it from those who had one.
        let bound_ms = if is_up(view) { bound_ms } else { bound_ms + TOLD_MS };
        if for_ms <= bound_ms + self.slack_ms() {
            return None;
        }
        Some(
            (view["state"] == "alive")
                .then(|| format!("is up, silent for {for_ms} ms (heard {} ms ago)", view["age_ms"])),
        )
    }

    /// Members without a site are the mesh's coordinators.
    pub(super) fn coordinators(&self) -> Vec<String> {
        let without = self.peers().filter(|view| view["site"].is_null());
        without.filter_map(|view| name(&view["spiffe_id"]).map(str::to_owned)).collect()
    }
}

pub(super) fn scopes(sample: &Sample) -> impl Iterator<Item = (&str, u64)> {
    let all = sample.sync["scopes"].as_array().into_iter().flatten();
    all.filter_map(|scope| Some((scope["scope"].as_str()?, scope["facts"].as_u64()?)))
}

/// The last part of a SPIFFE ID is what the test calls the node.
pub(super) fn name(spiffe_id: &Value) -> Option<&str> {
    spiffe_id.as_str()?.rsplit('/').next()
}

/// RFC 3339 as milliseconds since the Unix epoch.
pub(super) fn time(value: &Value) -> Option<u64> {
    let moment: jiff::Timestamp = value.as_str()?.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok()
}

/// A member with a link that is not about to be given up.
pub(super) fn is_up(view: &Value) -> bool {
    view["state"] == "alive" && !view["connected_ms"].is_null()
}

/// A member without a link of which others tell that it is there.
pub(super) fn is_told(view: &Value) -> bool {
    view["state"] == "alive" && view["connected_ms"].is_null()
}
