//! Who may act: proposals, guardrails, votes, permits, restrictions.
//!
//! Sans-IO: no sockets, no clock, no tasks, no files. Times are arguments; facts come in verified by `cauldron-identity`.
//!
//! * [`bodies`]: what the governance facts carry; [`action`]: the operations that this build knows.
//! * [`policy`]: Rego bundles, evaluated in process; [`input`]: the one document they judge.
//! * [`budget`]: what policies read of budgets, and may ask of them.
//! * [`signed`]: what people say, under a credential of theirs; [`vote`]: their votes, bound to the terms they saw.
//! * [`ledger`]: the pure fold of governance facts into the state of every proposal.
//! * [`coordinate`]: what a coordinator writes next: decisions and permits.
//! * [`owner`]: the last judge. Only it makes a [`owner::VerifiedPermit`], and nothing acts without one.
//! * [`autonomy`]: what an agent may do by itself.
//! * [`lease`]: how fresh a node's knowledge of restrictions is.
//!
//! Absent on purpose: connectors and effects (`agents`), when to step and what to store (`node/core`).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod action;
pub mod alone;
pub mod autonomy;
pub mod bodies;
pub mod budget;
pub mod coordinate;
pub mod input;
pub mod json;
pub mod lease;
pub mod ledger;
pub mod owner;
pub mod policy;
pub mod quorum;
pub mod signed;
pub mod vote;

pub use cauldron_identity::planted;

#[cfg(test)]
mod testkit;
