//! State: chains of facts, scopes, sync and push, documents behind a fence.
//!
//! Sans-IO: no sockets, no clock, no tasks, no files, no randomness. It knows nothing of policy, and what a fact means
//! it knows only of `doc.change` and the `budget.*` kinds.
//!
//! * [`log`]: what this node holds, as gapless chains; forks become evidence.
//! * [`sync`]: one core for anti-entropy and push, with bounds in [`limits`].
//! * [`doc`]: the board, an Automerge document whose changes travel as facts, behind a fence.
//! * [`escrow`]: budgets that hold under partition: mint, grant, reserve, settle, as a fold over facts.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod doc;
pub mod escrow;
pub mod limits;
pub mod log;
mod runs;
pub mod sync;

pub use doc::Documents;
pub use escrow::Escrow;
pub use log::{
    Access, Archive, ChainId, Draft, Evidence, FactLog, Head, Inserted, Packs, Record, Refusal, Restoring, Row,
};
pub use sync::{LinkId, Ranks, Room, Sync, SyncInput, SyncOutput};

#[cfg(test)]
mod testing;
