//! What waits for each link, and what is left of its budget.

use std::collections::BTreeMap;

use cauldron_identity::Clock;
use serde::Serialize;
use utoipa::ToSchema;

/// What waits for one link, and what is left of its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FlowView {
    /// By lane, the most urgent first.
    pub lanes: Vec<LaneView>,
    /// Frames of telemetry dropped since the link came up, because too much else waited.
    pub dropped_frames: u64,
    /// What the link may carry; none means without bound.
    pub budget: Option<MeterView>,
}

/// What one lane of a link holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LaneView {
    /// `restrictions`, `votes`, `proposals`, `documents` or `telemetry`.
    pub lane: &'static str,
    /// Frames that wait.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the oldest has waited.
    pub oldest_ms: Option<u64>,
    /// Bytes handed to the transport since the link came up.
    pub sent_bytes: u64,
}

/// What is left of the budget of a link, which counts what goes over it both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MeterView {
    /// Bytes that may go in a period.
    pub bytes: u64,
    /// The period.
    pub period_ms: u64,
    /// A quarter of it, which may go at once after a pause.
    pub burst_bytes: u64,
    /// What may go now; below zero when restrictions, votes and decisions overdrew it.
    pub left_bytes: i64,
    /// When the next document may go; none where nothing holds it back.
    pub documents_in_ms: Option<u64>,
    /// When all of `burst_bytes` is there again.
    pub full_in_ms: u64,
}

impl crate::NodeCore {
    /// What waits for each peer that is connected, by SPIFFE ID.
    #[must_use]
    pub fn flow_view(&self, now: Clock) -> BTreeMap<String, FlowView> {
        let named = |(link, view)| Some((self.links.get(&link)?.spiffe_id.to_string(), view));
        self.flow_shown(now.boottime_ms).filter_map(named).collect()
    }
}
