//! What is under way at this node: its own hands, and the policy that is active.

use std::collections::{BTreeMap, BTreeSet};

use cauldron_coordinator::policy::Engine;
use cauldron_identity::authority::EntryBody;
use cauldron_identity::{AuthorId, FactId};

/// What this node's own hands are busy with.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Permits that were on disk at start: the store may be older than what was done under them.
    pub(crate) old_permits: BTreeSet<FactId>,
    /// By which code each open permit was refused last, so that the same refusal is told once.
    pub(crate) codes: BTreeMap<FactId, cauldron_coordinator::owner::Code>,
    /// When each author was last given a new incarnation here, boot time in milliseconds.
    pub(crate) incarnated_ms: BTreeMap<AuthorId, u64>,
    /// Why each open permit waits or was refused, as last judged.
    pub(crate) verdicts: BTreeMap<FactId, String>,
    /// Whom this owner's own policy tells of what it started, by permit.
    pub(crate) told: BTreeMap<FactId, crate::attention::Told>,
    /// What the connectors said and is not written yet.
    pub(crate) reports: Vec<(FactId, cauldron_coordinator::ledger::Report)>,
    /// Terms that members told and that nobody known here signed: the entry that names their signers may be under way.
    pub(crate) unjudged: Vec<EntryBody>,
    /// Terms in the store.
    pub(crate) stored_terms: BTreeSet<FactId>,
    /// What this node has started and done, for its site's public line.
    pub(crate) line: crate::line::Line,
    /// Started permits without effect that wait to be resumed.
    pub(crate) absent: BTreeSet<FactId>,
    /// What connectors said of the versions that permits count on.
    pub(crate) versions: crate::versions::Versions,
    /// Rights that permits take.
    pub(crate) rights: crate::rights::Rights,
    /// What was done, and is to be checked or taken back.
    pub(crate) aftermath: crate::aftermath::Aftermath,
    /// Steps of sagas of which it is not known that they are done or over, by lineage.
    pub(crate) steps: BTreeSet<FactId>,
    /// The authority chain as they were gathered under it.
    pub(crate) sagas_at: Option<u64>,
    /// When each author was last given a lease here, since this node started; milliseconds since the Unix epoch.
    pub(crate) leases_given: BTreeMap<AuthorId, u64>,
    /// When what policy deferred is judged again at the latest, boot time in milliseconds.
    pub(crate) judge_at_ms: Option<u64>,
    /// When leases are asked for next, boot time in milliseconds.
    pub(crate) lease_at_ms: u64,
    /// When the request for a new incarnation may be repeated, boot time in milliseconds.
    pub(crate) incarnate_at_ms: u64,
}

/// The active policy, as far as this node could load it.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) bundle: Option<FactId>,
    pub(crate) digest: Option<cauldron_identity::Digest>,
    pub(crate) engine: Option<Engine>,
    pub(crate) problem: Option<String>,
}
