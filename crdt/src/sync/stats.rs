//! What the sync core counts.

/// What peers did that they need not have, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Frames of kinds this build does not know.
    pub frames_unknown: u64,
    /// Mentions of scopes that the link does not share.
    pub foreign_scope: u64,
    /// Facts that were neither asked for nor next in their chain, or came before the restrictions.
    pub facts_unasked: u64,
    /// Facts that were here already.
    pub facts_duplicate: u64,
    /// New facts.
    pub facts_new: u64,
    /// Facts whose bad signature was replaced by a good one.
    pub facts_mended: u64,
    /// Ranges that came as `Bulk`.
    pub ranges: u64,
    /// Facts that the log refused.
    pub facts_refused: u64,
    /// Requests that were not answered in time.
    pub requests_timed_out: u64,
    /// Ranges asked of this node beyond what a peer may have outstanding, and heads beyond what is remembered.
    pub over_limit: u64,
    /// Answers without what the peer said it has.
    pub claims_unmet: u64,
    /// Frames of pushed facts that were not looked at, because the peer had sent too much that nobody can use.
    pub orphans_dropped: u64,
    /// Digests that differ, by peers that were told these very heads shortly before.
    pub digests_repeated: u64,
    /// Links closed by this core.
    pub closed: u64,
}
