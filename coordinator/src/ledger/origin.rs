//! What a ledger keeps of a fact's header.

use cauldron_identity::{AuthorId, Header, Placed, Scope};

use crate::bodies::KINDS;

/// Who wrote a fact, where and when: less than half of its [`Header`], and a ledger keeps many thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The fact's replication group.
    pub scope: Scope,
    /// Hash of the author's key.
    pub author: AuthorId,
    /// The author's life.
    pub incarnation: u32,
    /// Position in the chain, from 1.
    pub seq: u64,
    /// Hybrid logical clock, `milliseconds << 16 | counter`.
    pub hlc: u64,
    /// What the body is; empty where it is nothing that a ledger reads.
    pub kind: &'static str,
    /// W3C Trace Context `traceparent` of the work that caused it.
    pub traceparent: Option<String>,
}

impl Origin {
    /// The wall time in the hybrid clock, milliseconds since the Unix epoch, as its author saw it.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.hlc >> 16
    }
}

impl From<&Header> for Origin {
    fn from(header: &Header) -> Self {
        Self {
            scope: header.scope.clone(),
            author: header.author,
            incarnation: header.incarnation,
            seq: header.seq,
            hlc: header.hlc,
            kind: KINDS.iter().find(|kind| **kind == header.kind).copied().unwrap_or_default(),
            traceparent: header.traceparent.clone(),
        }
    }
}

impl Placed for Origin {
    fn author(&self) -> &AuthorId {
        &self.author
    }

    fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn seq(&self) -> u64 {
        self.seq
    }
}
